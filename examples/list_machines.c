/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Prints all machines and their states. */
#include <ospite/ospite.h>
#include <stdio.h>

int main(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(OspiteClient) client = ospite_client_new(&error);
    g_autoptr(JsonNode) answer = client ? ospite_vm_list(client, &error) : NULL;

    if (!answer) {
        fprintf(stderr, "list_machines: %s\n", error->message);
        return 1;
    }
    JsonArray *vms = ospite_list(answer, "vms");
    for (guint i = 0; i < json_array_get_length(vms); i++) {
        JsonNode *vm = json_array_get_element(vms, i);
        printf("%s is %s\n", ospite_text(vm, "name"), ospite_text(vm, "state"));
    }
    return 0;
}
