/* SPDX-License-Identifier: GPL-3.0-or-later */
/* `vm move`: waits for the answer on a thread, and meanwhile shows on a terminal how far it is. */
#include <stdatomic.h>
#include <unistd.h>

#include "base/i18n.h"
#include "cli/call.h"
#include "cli/progress.h"

#define LOOK_US 200000

typedef struct Move {
    CommandLine *line; /* with its client, the thread's */
    JsonNode *answer;
    GError *error;
    _Atomic bool ended;
} Move;

static gpointer move(gpointer data)
{
    Move *m = data;
    char **words = m->line->words;

    m->answer = ospite_vm_move(m->line->client, words[0], words[1], &m->error);
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

bool run_vm_move(CommandLine *line, GError **error)
{
    Move m = {line};

    if (isatty(STDERR_FILENO)) {
        GThread *thread = g_thread_new("move", move, &m);
        watch(&m);
        g_thread_join(thread);
    } else {
        move(&m);
    }
    if (m.error)
        g_propagate_error(error, m.error);
    return call_finish(line, m.answer, _("'%s' is in %s now\n"), line->words[0],
                       m.answer ? ospite_text(m.answer, "vm.folder") : "");
}
