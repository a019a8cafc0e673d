/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See call.h. */
#include "cli/call.h"

#include <stdio.h>
#include <string.h>

#include "base/i18n.h"

const char *call_text(JsonObject *object, const char *name)
{
    return json_object_get_string_member_with_default(object, name, "");
}

const char *call_state(const char *state)
{
    static const char *const states[] = {N_("off"),    N_("starting"), N_("running"),
                                         N_("paused"), N_("crashed"),  N_("inaccessible")};

    for (unsigned i = 0; i < G_N_ELEMENTS(states); i++) {
        if (!strcmp(states[i], state))
            return _(states[i]);
    }
    return state;
}

bool call_finish(const CommandLine *line, JsonNode *answer, const char *format, ...)
{
    g_autoptr(JsonNode) owned G_GNUC_UNUSED = answer;
    va_list args;

    if (!answer)
        return false;
    if (line->json) {
        command_print_json(answer);
        return true;
    }
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    return true;
}

bool call_finish_state(const CommandLine *line, JsonNode *answer)
{
    const char *state = call_state(answer ? ospite_text(answer, "vm.state") : "");

    return call_finish(line, answer, _("'%s' is %s\n"), line->words[0], state);
}

bool call_number(const CommandLine *line, const char *option, unsigned preset, unsigned *ret_number,
                 GError **error)
{
    const char *text = command_value(line, option);
    guint64 number = preset;

    if (text && !g_ascii_string_to_unsigned(text, 10, 0, G_MAXUINT, &number, NULL))
        return command_usage(error, _("--%s takes a number, not '%s'"), option, text);
    *ret_number = (unsigned)number;
    return true;
}
