/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Calls that take long: the answer comes on a thread; meanwhile a terminal shows how far it is. */
#include <stdatomic.h>
#include <unistd.h>

#include "cli/call.h"
#include "cli/progress.h"

#define LOOK_US 200000

typedef struct Waiting {
    CommandLine *line; /* with its client, the thread's */
    CallFn *call;
    JsonNode *answer;
    GError *error;
    _Atomic bool ended;
} Waiting;

static gpointer run(gpointer data)
{
    Waiting *w = data;

    w->answer = w->call(w->line, &w->error);
    atomic_store(&w->ended, true);
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

static void watch(const Waiting *w)
{
    g_autoptr(OspiteClient) client = ospite_client_new(NULL);
    Progress progress = {0};

    while (!atomic_load(&w->ended)) {
        g_usleep(LOOK_US);
        if (client)
            show(client, w->line->words[0], &progress);
    }
    progress_end(&progress);
}

JsonNode *call_wait(CommandLine *line, CallFn *call, GError **error)
{
    Waiting w = {line, call};

    if (isatty(STDERR_FILENO)) {
        GThread *thread = g_thread_new("call", run, &w);
        watch(&w);
        g_thread_join(thread);
    } else {
        run(&w);
    }
    if (w.error)
        g_propagate_error(error, w.error);
    return w.answer;
}
