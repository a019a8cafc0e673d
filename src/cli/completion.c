/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Shells' completions, made of the table of commands: nouns, verbs, options, and for arguments the
 * names of machines, snapshots, images, settings and disk commands that there are. */
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

/* The options that have a value. */
static char *valued_of(const Command *command)
{
    GString *words = g_string_new(NULL);

    for (unsigned i = 0; i < COMMAND_OPTIONS_MAX && command->options[i].name; i++) {
        if (command->options[i].value)
            g_string_append_printf(words, "%s--%s", words->len ? " " : "",
                                   command->options[i].name);
    }
    return g_string_free(words, FALSE);
}

/* ---- arguments ------------------------------------------------------------------------------- */

/* A list of names, which a shell asks `ospite` for: a line each, for they may have spaces. */
typedef struct NameList {
    const char *argument; /* what the table calls what it is of */
    const char *name;
    const char *command; /* "@" is the machine named before */
} NameList;

#define OF_JSON(member)                   \
    " --json | sed -n '/^      \"" member \
    "\" : /{s/^[^:]*: \"\\(.*\\)\",*$/\\1/;s/\\\\\\([\"\\\\]\\)/\\1/g;p;}'"
static const NameList lists[] = {
    {"NAME", "machines", "ospite vm list" OF_JSON("name")},
    {"MEDIUM", "media", "ospite media list" OF_JSON("path")},
    {"SNAPSHOT", "snapshots", "ospite snapshot list @" OF_JSON("name")},
    /* Those that are not of something that the machine may have many of. */
    {"SETTING=VALUE", "settings", "ospite vm settings | sed -n '/^[a-z][a-z.-]*$/s/$/=/p'"},
    {"COMMAND", "actions", "ospite disk help | sed -n 's/^  \\([a-z][a-z-]*\\)  .*/\\1/p'"},
};
/* For arguments that are files, and for those that nobody else knows. */
#define FILES  "files"
#define NO_ONE "none"

/* "[NAME", "NAME|unix:PATH" are of machines; NULL: of nothing that has names. */
static const char *list_of(const char *argument)
{
    g_autofree char *word = g_strdup(argument + strspn(argument, "["));

    word[strcspn(word, "]|")] = '\0';
    if (g_str_has_suffix(word, "..."))
        word[strlen(word) - 3] = '\0';
    for (unsigned i = 0; i < G_N_ELEMENTS(lists); i++) {
        if (!strcmp(lists[i].argument, word))
            return lists[i].name;
    }
    return !*word || !strcmp(word, "FILE") || !strcmp(word, "FOLDER") ? FILES : NO_ONE;
}

/* What its arguments are of, in their order; the last one is of all that follow, too (new). */
static char *lists_of(const Command *command)
{
    g_auto(GStrv) arguments = g_strsplit(command->arguments, " ", -1);
    GString *names = g_string_new(NULL);

    for (char **argument = arguments; *argument; argument++)
        g_string_append_printf(names, "%s ", list_of(*argument));
    if (g_str_has_suffix(command->arguments, "..."))
        g_string_truncate(names, names->len - 1);
    else
        g_string_append(names, NO_ONE);
    return g_string_free(names, FALSE);
}

/* ---- bash and zsh ---------------------------------------------------------------------------- */

static void print_bash_lists(void)
{
    printf("_ospite_list() {\n  case $1 in\n");
    for (unsigned i = 0; i < G_N_ELEMENTS(lists); i++) {
        g_auto(GStrv) parts = g_strsplit(lists[i].command, "@", 2);
        printf("  %s) %s%s%s ;;\n", lists[i].name, parts[0], parts[1] ? "\"$2\"" : "",
               parts[1] ? parts[1] : "");
    }
    printf("  esac 2>/dev/null\n}\n");
}

static void print_bash_command(const Command *c)
{
    g_autofree char *options = c->run ? options_of(c) : g_strdup("");
    g_autofree char *valued = valued_of(c), *names = lists_of(c);

    printf("    '%s%s%s%s') words='%s' valued='%s' names='%s' first=%d ;;\n", c->noun,
           c->verb ? " " : "", c->verb ? c->verb : "", c->verb ? "" : " '*'", options, valued,
           names, c->verb ? 3 : 2);
}

/* Words are as they were typed, with quotes. A name with a leading dash would be an option. */
static const char bash_arguments[] =
    "  for ((i = first; i < COMP_CWORD; i++)); do\n"
    "    if [[ \" $valued \" = *\" ${COMP_WORDS[i]} \"* ]]; then\n"
    "      i=$((i + 1))\n"
    "    elif [[ \"${COMP_WORDS[i]}\" != -* ]]; then\n"
    "      at=$((at + 1))\n"
    "      machine=${machine:-${COMP_WORDS[i]}}\n"
    "    fi\n"
    "  done\n"
    "  [ \"$i\" -eq \"$COMP_CWORD\" ] || [ -z \"$names\" ] || return 0\n"
    "  while [ \"$at\" -gt 0 ] && [[ \"$names\" = *' '* ]]; do\n"
    "    names=${names#* } at=$((at - 1))\n"
    "  done\n"
    "  names=${names%% *}\n"
    "  [ \"$names\" = settings ] && words=\"$words $(_ospite_list settings)\"\n"
    "  COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n"
    "  [[ \"${COMPREPLY[*]}\" = *= ]] && compopt -o nospace 2>/dev/null\n"
    "  [ \"$names\" = settings ] && return 0\n"
    "  machine=$(printf %s \"$machine\" | xargs printf %s 2>/dev/null)\n"
    "  while IFS= read -r name; do\n"
    "    printf -v quoted %q \"$name\"\n"
    "    [[ \"$quoted\" = \"$word\"* || \"$name\" = \"$word\"* ]] && COMPREPLY+=(\"$quoted\")\n"
    "  done < <(_ospite_list \"$names\" \"$machine\")\n"
    "  return 0\n"
    "}\n";

static void print_bash_body(void)
{
    g_autofree char *nouns = words_of(NULL);

    print_bash_lists();
    printf("_ospite() {\n  local name quoted word=${COMP_WORDS[COMP_CWORD]} words= valued= names= "
           "first=3 at=0 machine= i\n  local command=\"${COMP_WORDS[1]} ${COMP_WORDS[2]}\"\n"
           "  if [ \"$COMP_CWORD\" -eq 1 ]; then\n    words='%s' first=1\n",
           nouns);
    for (const Command *c = commands; c->noun; c++) {
        g_autofree char *verbs = is_first(c) && c->verb ? words_of(c->noun) : NULL;
        if (verbs)
            printf("  elif [ \"$COMP_CWORD\" -eq 2 ] && [ \"${COMP_WORDS[1]}\" = %s ]; then\n"
                   "    words='%s' first=2\n",
                   c->noun, verbs);
    }
    printf("  else\n    case $command in\n");
    for (const Command *c = commands; c->noun; c++)
        print_bash_command(c);
    printf("    esac\n  fi\n%s", bash_arguments);
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

/* ---- fish ------------------------------------------------------------------------------------ */

/* In its single quotes a backslash before another means one. */
static char *fish_text(const char *text)
{
    g_auto(GStrv) parts = g_strsplit(text, "\\", -1);

    return g_strjoinv("\\\\", parts);
}

static void print_fish_lists(void)
{
    printf("function __ospite_list\n  switch $argv[1]\n");
    for (unsigned i = 0; i < G_N_ELEMENTS(lists); i++) {
        g_autofree char *text = fish_text(lists[i].command);
        g_auto(GStrv) parts = g_strsplit(text, "@", 2);
        printf("    case %s\n      %s%s%s 2>/dev/null\n", lists[i].name, parts[0],
               parts[1] ? "$argv[2]" : "", parts[1] ? parts[1] : "");
    }
    printf("    case " FILES "\n      __fish_complete_path (commandline -ct)\n  end\nend\n");
}

static const char fish_arguments[] = "  set -l words\n"
                                     "  set -l skip 0\n"
                                     "  for i in (seq $first (count $typed))\n"
                                     "    if test $skip = 1\n"
                                     "      set skip 0\n"
                                     "    else if contains -- $typed[$i] $valued\n"
                                     "      set skip 1\n"
                                     "    else if not string match -q -- '-*' $typed[$i]\n"
                                     "      set -a words $typed[$i]\n"
                                     "    end\n"
                                     "  end\n"
                                     "  set -l at (math (count $words) + 1)\n"
                                     "  test $at -gt (count $names); and set at -1\n"
                                     "  test $skip = 0; and __ospite_list $names[$at] $words[1]\n"
                                     "end\n"
                                     "complete -c ospite -a '(__ospite_arguments)'\n";

static void print_fish_arguments(void)
{
    printf("function __ospite_arguments\n  set -l typed (commandline -opc)\n  set -l names\n"
           "  set -l valued\n  set -l first 4\n  switch \"$typed[2] $typed[3]\"\n");
    for (const Command *c = commands; c->noun; c++) {
        g_autofree char *valued = valued_of(c), *names = lists_of(c);
        printf("    case '%s %s'\n      set names %s\n      set valued %s\n      set first %d\n",
               c->noun, c->verb ? c->verb : "*", names, valued, c->verb ? 4 : 3);
    }
    printf("    case '*'\n      return\n  end\n%s", fish_arguments);
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
            printf("complete -c ospite -n '__fish_seen_subcommand_from %s' -l %s%s -d \"%s\"\n",
                   c->verb ? c->verb : c->noun, c->options[i].name,
                   c->options[i].value ? " -r" : "", c->options[i].help);
    }
    print_fish_lists();
    print_fish_arguments();
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
