/* SPDX-License-Identifier: GPL-3.0-or-later */
/* From words to a command of the table and its exit status; see command.h. */
#include "cli/command.h"

#include <stdio.h>
#include <string.h>

#include "base/i18n.h"

#define USAGE_ERROR (g_quark_from_static_string("ospite-usage"))

bool command_usage(GError **error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error_literal(error, USAGE_ERROR, 0, text);
    return false;
}

void command_print_json(JsonNode *node)
{
    g_autofree char *text = json_to_string(node, TRUE);

    puts(text);
}

const char *command_value(const CommandLine *line, const char *option)
{
    for (unsigned i = 0; i < COMMAND_OPTIONS_MAX && line->command->options[i].name; i++) {
        if (!strcmp(line->command->options[i].name, option))
            return line->values[i];
    }
    return NULL;
}

/* ---- help ------------------------------------------------------------------------------------ */

static char *full_name(const Command *command)
{
    return g_strconcat(command->noun, command->verb ? " " : "", command->verb, NULL);
}

/* Which daemon the command is for: options before it, which the client reads in the environment. */
static const CommandOption connection_options[] = {
    {"connect", "URL", N_("the daemon at https://HOST:PORT instead of one's own")},
    {"token-file", "FILE", N_("what it wants to see")},
    {"fingerprint", "TEXT", N_("sha256:... of its certificate")},
};

static void print_all(const char *noun)
{
    printf(_("Usage: ospite [CONNECTION]... COMMAND [OPTION]...\n\n"));
    for (const Command *c = commands; c->noun; c++) {
        g_autofree char *name = full_name(c);
        if (!noun || !strcmp(noun, c->noun))
            printf("  %-14s %s\n", name, _(c->help));
    }
    printf("\n");
    for (unsigned i = 0; i < G_N_ELEMENTS(connection_options); i++) {
        const CommandOption *o = &connection_options[i];
        printf("  --%s %-*s %s\n", o->name, 18 - (int)strlen(o->name), o->value, _(o->help));
    }
    printf(
        _("\nospite COMMAND --help says more of each. Statuses: 0 done, 1 failed, 2 wrong command "
          "line,\n3 no such thing, 4 wrong state, 5 too late.\n"));
}

const char *command_arguments(const Command *command)
{
    return *command->arguments ? _(command->arguments) : "";
}

static void print_help(const Command *command)
{
    g_autofree char *name = full_name(command);

    printf(_("Usage: ospite %s%s%s [OPTION]...\n%s\n\n"), name, *command->arguments ? " " : "",
           command_arguments(command), _(command->help));
    for (unsigned i = 0; i < COMMAND_OPTIONS_MAX && command->options[i].name; i++) {
        const CommandOption *o = &command->options[i];
        g_autofree char *left = g_strconcat("--", o->name, o->value ? " " : "", o->value, NULL);
        printf("  %-18s %s\n", left, _(o->help));
    }
    printf("  %-18s %s\n  %-18s %s\n", "--json", _("print the API's answer"), "--help",
           _("this text"));
}

/* ---- words ----------------------------------------------------------------------------------- */

static int find_option(const Command *command, const char *name, size_t length)
{
    for (int i = 0; i < COMMAND_OPTIONS_MAX && command->options[i].name; i++) {
        if (strlen(command->options[i].name) == length &&
            !memcmp(command->options[i].name, name, length))
            return i;
    }
    return -1;
}

static bool parse_option(CommandLine *line, char **argv, int argc, int *at, GError **error)
{
    const char *word = argv[*at] + 2;
    size_t length = strcspn(word, "=");
    int i = find_option(line->command, word, length);
    const char *value = word[length] ? word + length + 1 : NULL;

    if (i < 0)
        return command_usage(error, _("unknown option '%s'; --help lists them"), argv[*at]);
    if (!line->command->options[i].value && value)
        return command_usage(error, _("'--%s' takes no value"), line->command->options[i].name);
    if (line->command->options[i].value && !value) {
        if (*at + 1 >= argc)
            return command_usage(error, _("'--%s' needs a value: %s"),
                                 line->command->options[i].name, line->command->options[i].value);
        value = argv[++*at];
    }
    line->values[i] = value ? value : "";
    return true;
}

bool command_check_words(char *const *words, int count, GError **error)
{
    for (int i = 0; i < count; i++) {
        if (!g_utf8_validate(words[i], -1, NULL)) {
            g_autofree char *valid = g_utf8_make_valid(words[i], -1);
            return command_usage(error, _("'%s' is not UTF-8; write it in that encoding"), valid);
        }
    }
    return true;
}

/* Sorts the words; arguments come first in `argv` afterwards. */
static bool parse(CommandLine *line, int argc, char **argv, GError **error)
{
    bool options_over = false;

    line->words = argv;
    for (int i = 0; i < argc; i++) {
        if (options_over || argv[i][0] != '-' || !argv[i][1])
            argv[line->count++] = argv[i];
        else if (!strcmp(argv[i], "--"))
            options_over = true;
        else if (!strcmp(argv[i], "--json"))
            line->json = true;
        else if (argv[i][1] != '-')
            return command_usage(error, _("unknown option '%s'; --help lists them"), argv[i]);
        else if (!parse_option(line, argv, argc, &i, error))
            return false;
    }
    argv[line->count] = NULL;
    if (line->count < line->command->min || line->count > line->command->max)
        return command_usage(error, _("it takes: %s"),
                             *line->command->arguments ? command_arguments(line->command)
                                                       : _("no words"));
    return true;
}

static int exit_status(const GError *error)
{
    static const int statuses[] = {
        [OSPITE_ERROR_FAILED] = EXIT_FAILED,       [OSPITE_ERROR_INVALID] = EXIT_USAGE,
        [OSPITE_ERROR_NOT_FOUND] = EXIT_NOT_FOUND, [OSPITE_ERROR_WRONG_STATE] = EXIT_WRONG_STATE,
        [OSPITE_ERROR_TIMED_OUT] = EXIT_TIMED_OUT,
    };
    bool ours = error->domain == OSPITE_ERROR && error->code < (int)G_N_ELEMENTS(statuses);

    if (error->domain == USAGE_ERROR)
        return EXIT_USAGE;
    return ours ? statuses[error->code] : EXIT_FAILED;
}

static bool connect_line(CommandLine *line, OspiteClient **ret_client, GError **error)
{
    if (line->command->operation)
        line->client = *ret_client = ospite_client_new(error);
    return !line->command->operation || line->client;
}

/* `json`: the option was given before the command. */
static int run(const Command *command, bool json, int argc, char **argv)
{
    g_autoptr(OspiteClient) client = NULL;
    CommandLine line = {.command = command, .json = json};
    g_autoptr(GError) error = NULL;
    g_autofree char *name = full_name(command);

    if (command->run_words && !json)
        return command->run_words(argc, argv);
    if (command->run_words) {
        g_printerr(_("ospite %s: --json comes after its words\n"), name);
        return EXIT_USAGE;
    }
    for (int i = 0; i < argc && strcmp(argv[i], "--"); i++) {
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            print_help(command);
            return EXIT_OK;
        }
    }
    if (command_check_words(argv, argc, &error) && parse(&line, argc, argv, &error) &&
        connect_line(&line, &client, &error) && command->run(&line, &error))
        return EXIT_OK;
    g_printerr("ospite %s: %s\n", name, error->message);
    return exit_status(error);
}

static int unknown(const char *noun, const char *verb, bool noun_known)
{
    if (noun_known && (!verb || !strcmp(verb, "--help") || !strcmp(verb, "help"))) {
        print_all(noun);
        return verb ? EXIT_OK : EXIT_USAGE;
    }
    g_printerr(_("ospite: unknown command '%s%s%s'; ospite help lists them\n"), noun,
               noun_known ? " " : "", noun_known ? verb : "");
    return EXIT_USAGE;
}

static const char *connection_variable(const char *word)
{
    static const char *const variables[] = {"OSPITE_CONNECT", "OSPITE_TOKEN_FILE",
                                            "OSPITE_FINGERPRINT"};

    for (unsigned i = 0; g_str_has_prefix(word, "--") && i < G_N_ELEMENTS(variables); i++) {
        if (!strcmp(connection_options[i].name, word + 2))
            return variables[i];
    }
    return NULL;
}

/* How many words are the options before the command, and their values. */
static int take_options(int argc, char **argv, bool *ret_json)
{
    int taken = 0;
    const char *variable;

    for (;;) {
        if (taken + 1 < argc && !strcmp(argv[1 + taken], "--json")) {
            *ret_json = true;
            taken++;
        } else if (taken + 2 < argc && (variable = connection_variable(argv[1 + taken]))) {
            g_setenv(variable, argv[2 + taken], TRUE);
            taken += 2;
        } else {
            return taken;
        }
    }
}

int command_main(int argc, char **argv)
{
    bool json = false;
    int taken = take_options(argc, argv, &json);
    argc -= taken;
    argv += taken;
    const char *noun = argc > 1 ? argv[1] : "help", *verb = argc > 2 ? argv[2] : NULL;
    bool noun_known = false;

    if (!strcmp(noun, "help") || !strcmp(noun, "--help") || !strcmp(noun, "-h")) {
        print_all(NULL);
        return EXIT_OK;
    }
    if (!strcmp(noun, "--version"))
        noun = "version";
    for (const Command *c = commands; c->noun; c++) {
        if (strcmp(c->noun, noun))
            continue;
        noun_known = true;
        if (!c->verb)
            return run(c, json, MAX(argc - 2, 0), argv + 2);
        if (verb && !strcmp(c->verb, verb))
            return run(c, json, argc - 3, argv + 3);
    }
    return unknown(noun, verb, noun_known);
}
