/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The commands of `ospite`, one table: what there is, what each takes, what it does. Help,
 * completion and manual pages are made of it.
 */
#pragma once

#include <ospite/ospite.h>
#include <stdbool.h>

#define COMMAND_OPTIONS_MAX  4
#define COMMAND_EXAMPLES_MAX 3

/* The program's exit statuses. */
enum { EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_NOT_FOUND, EXIT_WRONG_STATE, EXIT_TIMED_OUT };

typedef struct CommandOption {
    const char *name;  /* without dashes; NULL: no more */
    const char *value; /* what help calls it; NULL: it takes none */
    const char *help;
} CommandOption;

/* In manual pages, which are in English. */
typedef struct CommandExample {
    const char *words; /* what follows the command's name; NULL: no more */
    const char *text;  /* what that does: a sentence */
} CommandExample;

typedef struct CommandLine CommandLine;

typedef struct Command {
    const char *noun, *verb; /* verb NULL: the noun is the whole command */
    const char *arguments;   /* "NAME [SETTING=VALUE]..." */
    unsigned min, max;       /* how many of them */
    const char *help;
    /* Returns false with an error, or true; the exit status follows from that. */
    bool (*run)(CommandLine *line, GError **error);
    CommandOption options[COMMAND_OPTIONS_MAX];
    /* The operation of api/openapi.yaml whose answer --json prints; NULL: it needs no daemon. */
    const char *operation;
    CommandExample examples[COMMAND_EXAMPLES_MAX];
    const char *see; /* another page of the manual, "ospite-settings 7"; NULL: none but ospite(1) */
    /* Instead of `run`: parses its own words and returns the exit status. */
    int (*run_words)(int argc, char **argv);
} Command;

struct CommandLine {
    const Command *command;
    OspiteClient *client; /* of a command with an operation */
    char **words;         /* the arguments, NULL at the end */
    unsigned count;
    bool json;
    const char
        *values[COMMAND_OPTIONS_MAX]; /* as in command->options; "" for flags; NULL: absent */
};

extern const Command commands[]; /* ends with a NULL noun */

int command_main(int argc, char **argv);
/* The value of an option, or NULL; "" for a flag that was given. */
const char *command_value(const CommandLine *line, const char *option);
/* Sets an error of the user's: exit status 2. */
bool command_usage(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* Whether all words are UTF-8, as all that the API takes must be. */
bool command_check_words(char *const *words, int count, GError **error);
/* What it takes, for people. */
const char *command_arguments(const Command *command);
void command_print_json(JsonNode *node);

/* completion.c, manual.c: made of the table. */
bool command_completion(CommandLine *line, GError **error);
bool command_manual(CommandLine *line, GError **error);

/* vm.c, vm_console.c */
bool run_vm_create(CommandLine *line, GError **error);
bool run_vm_list(CommandLine *line, GError **error);
bool run_vm_show(CommandLine *line, GError **error);
bool run_vm_set(CommandLine *line, GError **error);
bool run_vm_start(CommandLine *line, GError **error);
bool run_vm_poweroff(CommandLine *line, GError **error);
bool run_vm_reset(CommandLine *line, GError **error);
bool run_vm_pause(CommandLine *line, GError **error);
bool run_vm_resume(CommandLine *line, GError **error);
bool run_vm_delete(CommandLine *line, GError **error);
bool run_vm_register(CommandLine *line, GError **error);
bool run_vm_import(CommandLine *line, GError **error);
bool run_vm_move(CommandLine *line, GError **error);
bool run_vm_clone(CommandLine *line, GError **error);
bool run_vm_edit(CommandLine *line, GError **error);
bool run_vm_log(CommandLine *line, GError **error);
bool run_vm_wait(CommandLine *line, GError **error);
bool run_vm_autostart(CommandLine *line, GError **error);
bool run_vm_autostart_all(CommandLine *line, GError **error);
bool run_vm_screen(CommandLine *line, GError **error);
bool run_vm_type(CommandLine *line, GError **error);
bool run_vm_console(CommandLine *line, GError **error);
bool watch_events(CommandLine *line, GError **error);

/* vm_stop.c */
bool run_vm_stop(CommandLine *line, GError **error);

/* vm_settings.c */
bool run_vm_settings(CommandLine *line, GError **error);

/* snapshot.c */
bool run_snapshot_take(CommandLine *line, GError **error);
bool run_snapshot_list(CommandLine *line, GError **error);
bool run_snapshot_show(CommandLine *line, GError **error);
bool run_snapshot_set(CommandLine *line, GError **error);
bool run_snapshot_restore(CommandLine *line, GError **error);
bool run_snapshot_delete(CommandLine *line, GError **error);

/* debug.c */
bool run_debug(CommandLine *line, GError **error);

/* media.c; vm/media.h has the shorter names */
bool run_media_list(CommandLine *line, GError **error);
bool run_media_show(CommandLine *line, GError **error);
bool run_media_set(CommandLine *line, GError **error);
bool run_media_add(CommandLine *line, GError **error);
bool run_media_remove(CommandLine *line, GError **error);
bool run_media_release(CommandLine *line, GError **error);
bool run_media_refresh(CommandLine *line, GError **error);
bool run_media_move(CommandLine *line, GError **error);
