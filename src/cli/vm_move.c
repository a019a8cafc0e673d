/* SPDX-License-Identifier: GPL-3.0-or-later */
/* `vm move` and `vm clone`: the answer comes on a thread; meanwhile a terminal shows how far it is.
 */
#include <stdatomic.h>
#include <unistd.h>

#include "base/i18n.h"
#include "cli/call.h"
#include "cli/progress.h"

#define LOOK_US 200000

typedef JsonNode *Call(CommandLine *line, GError **error);

typedef struct Move {
    CommandLine *line; /* with its client, the thread's */
    Call *call;
    JsonNode *answer;
    GError *error;
    _Atomic bool ended;
} Move;

static gpointer move(gpointer data)
{
    Move *m = data;

    m->answer = m->call(m->line, &m->error);
    atomic_store(&m->ended, true);
    return NULL;
}

/* What cannot be shown is not shown. */
static void show(OspiteClient *client, const char *name, Progress *progress)
{
    g_autoptr(JsonNode) vm = ospite_vm_show(client, name, NULL);
    gint64 total = vm ? ospite_number(vm, "vm.job.total") : 0;

    if (total > 0 && !progress->on)
        progress_begin(progress, true, (uint64_t)total);
    if (total > 0)
        progress_update(progress, (uint64_t)ospite_number(vm, "vm.job.done"));
}

static void watch(const Move *m)
{
    g_autoptr(OspiteClient) client = ospite_client_new(NULL);
    Progress progress = {0};

    while (!atomic_load(&m->ended)) {
        g_usleep(LOOK_US);
        if (client)
            show(client, m->line->words[0], &progress);
    }
    progress_end(&progress);
}

static JsonNode *wait_for(CommandLine *line, Call *call, GError **error)
{
    Move m = {line, call};

    if (isatty(STDERR_FILENO)) {
        GThread *thread = g_thread_new("move", move, &m);
        watch(&m);
        g_thread_join(thread);
    } else {
        move(&m);
    }
    if (m.error)
        g_propagate_error(error, m.error);
    return m.answer;
}

static JsonNode *call_move(CommandLine *line, GError **error)
{
    return ospite_vm_move(line->client, line->words[0], line->words[1], error);
}

bool run_vm_move(CommandLine *line, GError **error)
{
    JsonNode *answer = wait_for(line, call_move, error);

    return call_finish(line, answer, _("'%s' is in %s now\n"), line->words[0],
                       answer ? ospite_text(answer, "vm.folder") : "");
}

static JsonNode *call_clone(CommandLine *line, GError **error)
{
    return ospite_vm_clone(line->client, line->words[0], line->words[1],
                           command_value(line, "folder"), command_value(line, "linked") != NULL,
                           error);
}

bool run_vm_clone(CommandLine *line, GError **error)
{
    JsonNode *answer = wait_for(line, call_clone, error);

    if (answer && !line->json && command_value(line, "linked"))
        g_printerr(_("The disks of '%s' are shared with '%s' now: nobody writes to them any more, "
                     "and each machine has differencing images of its own\n"),
                   line->words[0], line->words[1]);
    return call_finish(line, answer, _("Made '%s' in %s\n"), line->words[1],
                       answer ? ospite_text(answer, "vm.folder") : "");
}
