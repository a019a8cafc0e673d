/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Manual pages, one for a command, made of the table of commands. They are in English. */
#include <errno.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <string.h>

#include "base/i18n.h"
#include "cli/command.h"

/* "ospite-vm-create" */
static char *page_name(const Command *c)
{
    return g_strconcat("ospite-", c->noun, c->verb ? "-" : "", c->verb, NULL);
}

/* A text for mdoc(7), in which a backslash begins something (new). */
static char *escape(const char *text)
{
    g_auto(GStrv) parts = g_strsplit(text, "\\", -1);

    return g_strjoinv("\\e", parts);
}

static void add_synopsis(GString *page, const Command *c)
{
    g_string_append_printf(page, ".Sh SYNOPSIS\n.Nm ospite %s%s%s\n", c->noun, c->verb ? " " : "",
                           c->verb ? c->verb : "");
    if (*c->arguments)
        g_string_append_printf(page, ".Ar %s\n", c->arguments);
    for (unsigned i = 0; i < COMMAND_OPTIONS_MAX && c->options[i].name; i++)
        g_string_append_printf(page, ".Op Fl Fl %s%s%s\n", c->options[i].name,
                               c->options[i].value ? " Ar " : "",
                               c->options[i].value ? c->options[i].value : "");
    g_string_append(page, ".Op Fl Fl json\n");
}

static void add_options(GString *page, const Command *c)
{
    g_string_append(page, ".Sh OPTIONS\n.Bl -tag -width Ds\n");
    for (unsigned i = 0; i < COMMAND_OPTIONS_MAX && c->options[i].name; i++) {
        g_autofree char *help = escape(c->options[i].help);
        g_string_append_printf(page, ".It Fl Fl %s%s%s\n%s.\n", c->options[i].name,
                               c->options[i].value ? " Ar " : "",
                               c->options[i].value ? c->options[i].value : "", help);
    }
    g_string_append(page, ".It Fl Fl json\nPrints the answer as JSON");
    if (c->operation)
        g_string_append_printf(page, ", that of the API's operation\n.Em %s", c->operation);
    g_string_append(page, ".\n.It Fl Fl help\nSays what it takes.\n.El\n");
}

static void add_examples(GString *page, const Command *c)
{
    g_string_append(page, ".Sh EXAMPLES\n");
    for (unsigned i = 0; i < COMMAND_EXAMPLES_MAX && c->examples[i].words; i++) {
        g_autofree char *words = escape(c->examples[i].words);
        g_string_append_printf(page, ".Bd -literal -offset indent\nospite %s%s%s%s%s\n.Ed\n%s\n",
                               c->noun, c->verb ? " " : "", c->verb ? c->verb : "",
                               *words ? " " : "", words, c->examples[i].text);
    }
}

/* The page of a command (new). */
static char *page_of(const Command *c)
{
    g_autofree char *name = page_name(c), *title = g_ascii_strup(name, -1), *help = escape(c->help);
    GString *page = g_string_new(".\\\" SPDX-License-Identifier: GPL-3.0-or-later\n");

    g_string_append_printf(page, ".Dd November 23, 2026\n.Dt %s 1\n.Os\n.Sh NAME\n.Nm %s\n.Nd %s\n",
                           title, name, help);
    add_synopsis(page, c);
    g_string_append_printf(page, ".Sh DESCRIPTION\n%c%s.\n", g_ascii_toupper(*help), help + 1);
    add_options(page, c);
    g_string_append(page, ".Sh EXIT STATUS\n0 done, 1 failed, 2 wrong command line, 3 no such "
                          "thing, 4 wrong state, 5 too late.\n");
    add_examples(page, c);
    g_string_append_printf(page, ".Sh SEE ALSO\n.Xr ospite 1%s%s\n", c->see ? " ,\n.Xr " : "",
                           c->see ? c->see : "");
    return g_string_free(page, FALSE);
}

/* All pages as files of a folder, which is made. */
static bool write_pages(const char *folder, GError **error)
{
    if (g_mkdir_with_parents(folder, 0755) < 0) {
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(errno), _("cannot %s '%s': %s"),
                    _("create"), folder, g_strerror(errno));
        return false;
    }
    for (const Command *c = commands; c->noun; c++) {
        g_autofree char *name = c->run ? page_name(c) : NULL, *text = c->run ? page_of(c) : NULL;
        g_autofree char *file =
            c->run ? g_strdup_printf("%s%c%s.1", folder, G_DIR_SEPARATOR, name) : NULL;
        if (file && !g_file_set_contents(file, text, -1, error))
            return false;
    }
    return true;
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

    if (command_value(line, "folder"))
        return write_pages(command_value(line, "folder"), error);
    if (!noun) {
        print_names();
        return true;
    }
    for (const Command *c = commands; c->noun; c++) {
        if (!strcmp(c->noun, noun) && !g_strcmp0(c->verb, verb) && c->run) {
            g_autofree char *page = page_of(c);
            fputs(page, stdout);
            return true;
        }
    }
    return command_usage(error, _("there is no such page; 'ospite manual' lists them"));
}
