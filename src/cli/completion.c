/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Shells' completions, made of the table of commands: nouns, verbs, options, names of machines, and
 * of settings. */
#include <stdio.h>
#include <string.h>

#include "base/i18n.h"
#include "cli/command.h"

/* Whether it is the first of its noun. */
static bool is_first(const Command *command)
{
    return command == commands || strcmp(command->noun, command[-1].noun) != 0;
}

/* The nouns, or a noun's verbs, separated by spaces (new). */
static char *words_of(const char *noun)
{
    GString *words = g_string_new(NULL);

    for (const Command *c = commands; c->noun; c++) {
        if (noun ? c->verb && !strcmp(noun, c->noun) : is_first(c))
            g_string_append_printf(words, "%s%s", words->len ? " " : "", noun ? c->verb : c->noun);
    }
    return g_string_free(words, FALSE);
}

static char *options_of(const Command *command)
{
    GString *words = g_string_new("--json --help");

    for (unsigned i = 0; i < COMMAND_OPTIONS_MAX && command->options[i].name; i++)
        g_string_append_printf(words, " --%s", command->options[i].name);
    return g_string_free(words, FALSE);
}

/* Machines come from the daemon, a line each: names may have spaces. */
#define NAMES \
    "ospite vm list --json 2>/dev/null | sed -n 's/^      \"name\" : \"\\(.*\\)\",$/\\1/p'"
/* Those that are not of something that the machine may have many of. */
#define SETTINGS "ospite vm settings 2>/dev/null | sed -n '/^[a-z][a-z.-]*$/s/$/=/p'"

static void print_bash_body(void)
{
    g_autofree char *nouns = words_of(NULL);

    printf("_ospite() {\n  local name word=${COMP_WORDS[COMP_CWORD]} command=\"${COMP_WORDS[1]} "
           "${COMP_WORDS[2]}\" words=\n  if [ \"$COMP_CWORD\" -eq 1 ]; then\n    words='%s'\n",
           nouns);
    for (const Command *c = commands; c->noun; c++) {
        g_autofree char *verbs = is_first(c) && c->verb ? words_of(c->noun) : NULL;
        if (verbs)
            printf("  elif [ \"$COMP_CWORD\" -eq 2 ] && [ \"${COMP_WORDS[1]}\" = %s ]; then\n"
                   "    words='%s'\n",
                   c->noun, verbs);
    }
    printf("  else\n    case $command in\n");
    for (const Command *c = commands; c->noun; c++) {
        g_autofree char *options = options_of(c);
        if (!c->run)
            continue;
        printf("    '%s%s%s%s') words='%s' ;;\n", c->noun, c->verb ? " " : "",
               c->verb ? c->verb : "", c->verb ? "" : " '*'", options);
    }
    printf("    esac\n"
           "    [[ \"$command\" = 'vm set' || \"$command\" = 'vm create' ]] && "
           "[ \"$COMP_CWORD\" -ge 4 ] && words=\"$words $(" SETTINGS ")\"\n"
           "  fi\n"
           "  COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n"
           "  [[ \"${COMPREPLY[*]}\" = *= ]] && compopt -o nospace 2>/dev/null\n"
           "  [[ \"$COMP_CWORD\" -eq 3 && ( \"${COMP_WORDS[1]}\" = vm || "
           "\"${COMP_WORDS[1]}\" = snapshot ) ]] || return 0\n"
           "  while IFS= read -r name; do\n"
           "    [[ \"$name\" = \"$word\"* ]] && COMPREPLY+=(\"$(printf %%q \"$name\")\")\n"
           "  done < <(" NAMES ")\n"
           "}\n");
}

static void print_bash(void)
{
    printf("# bash completion for ospite; made by 'ospite completion bash'\n");
    print_bash_body();
    printf("complete -o default -F _ospite ospite\n");
}

static void print_zsh(void)
{
    printf("#compdef ospite\n# made by 'ospite completion zsh'\n"
           "autoload -U +X bashcompinit && bashcompinit\n");
    print_bash_body();
    printf("complete -o default -F _ospite ospite\n");
}

static void print_fish(void)
{
    printf(
        "# fish completion for ospite; made by 'ospite completion fish'\ncomplete -c ospite -f\n");
    for (const Command *c = commands; c->noun; c++) {
        if (is_first(c))
            printf("complete -c ospite -n __fish_use_subcommand -a %s -d \"%s\"\n", c->noun,
                   !c->verb                       ? c->help
                   : !strcmp(c->noun, "vm")       ? "machines"
                   : !strcmp(c->noun, "snapshot") ? "states to go back to"
                                                  : "images");
        if (c->verb)
            printf("complete -c ospite -n '__fish_seen_subcommand_from %s; and not "
                   "__fish_seen_subcommand_from (string split \" \" \"%s\")' -a %s -d \"%s\"\n",
                   c->noun, c->verb, c->verb, c->help);
        for (unsigned i = 0; i < COMMAND_OPTIONS_MAX && c->options[i].name; i++)
            printf("complete -c ospite -n '__fish_seen_subcommand_from %s' -l %s -d \"%s\"\n",
                   c->verb ? c->verb : c->noun, c->options[i].name, c->options[i].help);
    }
    printf("function __ospite_machines\n  " NAMES "\nend\n"
           "function __ospite_settings\n  " SETTINGS "\nend\n"
           "complete -c ospite -n '__fish_seen_subcommand_from vm snapshot' "
           "-a '(__ospite_machines)'\n"
           "complete -c ospite -n '__fish_seen_subcommand_from vm; and "
           "__fish_seen_subcommand_from set create' -a '(__ospite_settings)'\n");
}

static const struct {
    const char *shell;
    void (*print)(void);
} shells[] = {{"bash", print_bash}, {"zsh", print_zsh}, {"fish", print_fish}};

bool command_completion(CommandLine *line, GError **error)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(shells); i++) {
        if (!strcmp(shells[i].shell, line->words[0])) {
            shells[i].print();
            return true;
        }
    }
    return command_usage(error, _("there is no completion for '%s'; use bash, zsh or fish"),
                         line->words[0]);
}
