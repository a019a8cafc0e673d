/* SPDX-License-Identifier: GPL-3.0-or-later */
/* `vm move` and `vm clone`. */
#include "base/i18n.h"
#include "cli/call.h"

static JsonNode *call_move(CommandLine *line, GError **error)
{
    return ospite_vm_move(line->client, line->words[0], line->words[1], error);
}

bool run_vm_move(CommandLine *line, GError **error)
{
    JsonNode *answer = call_wait(line, call_move, error);

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
    JsonNode *answer = call_wait(line, call_clone, error);

    if (answer && !line->json && command_value(line, "linked"))
        g_printerr(_("The disks of '%s' are shared with '%s' now: nobody writes to them any more, "
                     "and each machine has differencing images of its own\n"),
                   line->words[0], line->words[1]);
    return call_finish(line, answer, _("Made '%s' in %s\n"), line->words[1],
                       answer ? ospite_text(answer, "vm.folder") : "");
}
