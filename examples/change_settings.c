/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Changes settings, and says when each counts. Usage: change_settings NAME SETTING=VALUE... */
#include <ospite/ospite.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(OspiteClient) client = argc > 2 ? ospite_client_new(&error) : NULL;
    g_autoptr(JsonNode) answer =
        client ? ospite_vm_set(client, argv[1], (const char *const *)argv + 2, &error) : NULL;

    if (!answer) {
        fprintf(stderr, "change_settings: %s\n",
                error ? error->message : "it takes NAME SETTING=VALUE...");
        return error && error->code == OSPITE_ERROR_NOT_FOUND ? 3 : 1;
    }
    JsonArray *changes = ospite_list(answer, "changes");
    for (guint i = 0; i < json_array_get_length(changes); i++) {
        JsonNode *change = json_array_get_element(changes, i);
        printf("%s: %s\n", ospite_text(change, "name"), ospite_text(change, "when"));
    }
    printf("memory: %" G_GINT64_FORMAT " bytes\n",
           ospite_number(answer, "vm.config.system.memory"));
    return 0;
}
