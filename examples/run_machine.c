/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Makes a machine that boots a kernel, starts it, waits for its end or pulls the plug, and deletes
 * it. Usage: run_machine NAME KERNEL SECONDS [SETTING=VALUE]... */
#include <ospite/ospite.h>
#include <stdio.h>
#include <stdlib.h>

static gboolean make(OspiteClient *client, const char *name, const char *kernel, char **settings,
                     GError **error)
{
    g_autofree char *file = g_canonicalize_filename(kernel, NULL);
    g_autofree char *setting = g_strconcat("kernel.file=", file, NULL);
    const char *const own[] = {"memory=64M", setting, NULL};
    g_autoptr(JsonNode) made = ospite_vm_create(client, name, NULL, own, error);
    g_autoptr(JsonNode) changed =
        made && *settings ? ospite_vm_set(client, name, (const char *const *)settings, error)
                          : NULL;

    return made && (changed || !*settings);
}

/* The machine after its end; one that takes too long is ended. */
static JsonNode *play(OspiteClient *client, const char *name, unsigned timeout_s, GError **error)
{
    g_autoptr(GError) late = NULL;
    g_autoptr(JsonNode) started = ospite_vm_start(client, name, error);
    JsonNode *ended = started ? ospite_vm_wait(client, name, "off", timeout_s, &late) : NULL;

    if (ended || !started)
        return ended;
    if (!g_error_matches(late, OSPITE_ERROR, OSPITE_ERROR_TIMED_OUT)) {
        g_propagate_error(error, g_steal_pointer(&late));
        return NULL;
    }
    return ospite_vm_poweroff(client, name, error);
}

int main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(OspiteClient) client = argc >= 4 ? ospite_client_new(&error) : NULL;
    g_autoptr(JsonNode) ended = NULL, deleted = NULL;

    if (client && make(client, argv[1], argv[2], argv + 4, &error))
        ended = play(client, argv[1], (unsigned)atoi(argv[3]), &error);
    if (ended) {
        printf("%s ended: %s\n", argv[1], ospite_text(ended, "vm.last_end.reason"));
        deleted = ospite_vm_delete(client, argv[1], OSPITE_DELETE_ALL, &error);
    }
    if (!deleted) {
        fprintf(stderr, "run_machine: %s\n",
                error ? error->message : "it takes NAME KERNEL SECONDS [SETTING=VALUE]...");
        return 1;
    }
    return 0;
}
