/* SPDX-License-Identifier: GPL-3.0-or-later */
/* `vm stop`: the power button, again and again, until the machine is off. */
#include "base/i18n.h"
#include "cli/call.h"

/* A guest that is still booting hears no button; one that is shutting down minds none. */
#define PRESS_AGAIN_S 5

JsonNode *call_stop_round(OspiteClient *client, const char *name, gint64 until_us, GError **error)
{
    gint64 left_us = MAX(until_us - g_get_monotonic_time(), 0);
    unsigned seconds =
        (unsigned)MIN((left_us + G_USEC_PER_SEC - 1) / G_USEC_PER_SEC, PRESS_AGAIN_S);
    GError *why = NULL;
    JsonNode *answer = ospite_vm_wait(client, name, "off", seconds, &why);

    if (g_error_matches(why, OSPITE_ERROR, OSPITE_ERROR_TIMED_OUT) &&
        g_get_monotonic_time() < until_us) {
        /* It may have ended meanwhile; the next round knows. */
        g_autoptr(JsonNode) pressed = ospite_vm_stop(client, name, NULL);
        g_clear_error(&why);
    }
    if (why)
        g_propagate_error(error, why);
    return answer;
}

static JsonNode *wait_off(const CommandLine *line, unsigned seconds, GError **error)
{
    gint64 until_us = g_get_monotonic_time() + (gint64)seconds * G_USEC_PER_SEC;
    GError *why = NULL;
    JsonNode *answer = NULL;

    while (!answer && !why)
        answer = call_stop_round(line->client, line->words[0], until_us, &why);
    if (g_error_matches(why, OSPITE_ERROR, OSPITE_ERROR_TIMED_OUT)) {
        g_clear_error(&why);
        g_set_error(error, OSPITE_ERROR, OSPITE_ERROR_TIMED_OUT,
                    _("'%s' is still on: its guest takes longer (--timeout), or does not hear its "
                      "power button; 'ospite vm poweroff' pulls the plug"),
                    line->words[0]);
    } else if (why) {
        g_propagate_error(error, why);
    }
    return answer;
}

bool run_vm_stop(CommandLine *line, GError **error)
{
    unsigned seconds;
    g_autoptr(JsonNode) answer = NULL;

    if (!call_number(line, "timeout", STOP_SECONDS, &seconds, error))
        return false;
    answer = ospite_vm_stop(line->client, line->words[0], error);
    if (!answer)
        return false;
    if (command_value(line, "no-wait"))
        return call_finish(line, g_steal_pointer(&answer), _("Pressed the power button of '%s'\n"),
                           line->words[0]);
    return call_finish_state(line, wait_off(line, seconds, error));
}
