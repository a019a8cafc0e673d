/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Prints what happens, until the machine that is named is off. Usage: follow_events NAME */
#include <ospite/ospite.h>
#include <stdio.h>
#include <string.h>

static gboolean is_end_of(JsonNode *event, const char *name)
{
    return !strcmp(ospite_text(event, "name"), name) && !strcmp(ospite_text(event, "state"), "off");
}

int main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(OspiteClient) client = argc == 2 ? ospite_client_new(&error) : NULL;
    g_autoptr(OspiteStream) events = client ? ospite_events_open(client, &error) : NULL;
    gboolean over = FALSE;

    while (events && !over && !error) {
        g_autoptr(JsonNode) event = ospite_events_next(events, -1, &error);
        if (!event)
            break;
        printf("%s %s %s\n", ospite_text(event, "kind"), ospite_text(event, "name"),
               ospite_text(event, "state"));
        fflush(stdout);
        over = is_end_of(event, argv[1]);
    }
    if (!over)
        fprintf(stderr, "follow_events: %s\n", error ? error->message : "it takes NAME");
    return over ? 0 : 1;
}
