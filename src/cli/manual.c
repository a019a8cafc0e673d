/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A command's manual page, made of the table of commands. */
#include <stdio.h>
#include <string.h>

#include "base/i18n.h"
#include "cli/command.h"

static void print_page(const Command *c)
{
    g_autofree char *name = g_strconcat("ospite-", c->noun, c->verb ? "-" : "", c->verb, NULL);
    g_autofree char *title = g_ascii_strup(name, -1);

    printf(".\\\" SPDX-License-Identifier: GPL-3.0-or-later\n.Dd November 23, 2026\n.Dt %s 1\n.Os\n"
           ".Sh NAME\n.Nm %s\n.Nd %s\n",
           title, name, c->help);
    printf(".Sh SYNOPSIS\n.Nm ospite %s%s%s\n", c->noun, c->verb ? " " : "",
           c->verb ? c->verb : "");
    if (*c->arguments)
        printf(".Ar %s\n", c->arguments);
    for (unsigned i = 0; i < COMMAND_OPTIONS_MAX && c->options[i].name; i++)
        printf(".Op Fl Fl %s%s%s\n", c->options[i].name, c->options[i].value ? " Ar " : "",
               c->options[i].value ? c->options[i].value : "");
    printf(".Op Fl Fl json\n.Sh OPTIONS\n.Bl -tag -width Ds\n");
    for (unsigned i = 0; i < COMMAND_OPTIONS_MAX && c->options[i].name; i++)
        printf(".It Fl Fl %s%s%s\n%s.\n", c->options[i].name, c->options[i].value ? " Ar " : "",
               c->options[i].value ? c->options[i].value : "", c->options[i].help);
    printf(
        ".It Fl Fl json\nPrints the API's answer.\n.El\n"
        ".Sh EXIT STATUS\n0 done, 1 failed, 2 wrong command line, 3 no such thing, 4 wrong state, "
        "5 too late.\n.Sh SEE ALSO\n.Xr ospite 1\n");
}

static void print_names(void)
{
    for (const Command *c = commands; c->noun; c++) {
        if (c->run)
            printf("%s%s%s\n", c->noun, c->verb ? " " : "", c->verb ? c->verb : "");
    }
}

bool command_manual(CommandLine *line, GError **error)
{
    const char *noun = line->words[0], *verb = noun ? line->words[1] : NULL;

    if (!noun) {
        print_names();
        return true;
    }
    for (const Command *c = commands; c->noun; c++) {
        if (!strcmp(c->noun, noun) && !g_strcmp0(c->verb, verb) && c->run) {
            print_page(c);
            return true;
        }
    }
    return command_usage(error, _("there is no such page; 'ospite manual' lists them"));
}
