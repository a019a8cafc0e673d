/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The words of VBoxManage's users, under the program name vboxmanage: what its commands share.
 * Those of disks are in `ospite` (disk_vbox.c), all others in `ospite-cli` (vbox.h). What they
 * print has the shape that scripts of those users read, so it is in English always.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

typedef struct VboxArgs {
    GHashTable *values; /* option without dashes, in lower case → value ("" for flags) */
    GPtrArray *rest;
    struct OspiteClient *client; /* of a command that is not of disks */
    char *made;                  /* a disk that is to become known; NULL: none */
    const char *made_format;
} VboxArgs;

typedef bool VboxRun(VboxArgs *args, GError **error);

typedef struct VboxWord {
    const char *names[4];
    const char *usage;
} VboxWord;

enum {
    VBOX_CREATE_MEDIUM,
    VBOX_CLONE_MEDIUM,
    VBOX_CONVERT_RAW,
    VBOX_MODIFY_MEDIUM,
    VBOX_SHOW_MEDIUM,
    VBOX_INTERNAL,
    VBOX_DISK_WORDS
};
extern const VboxWord vbox_disk_words[VBOX_DISK_WORDS];
bool vbox_is_word(const VboxWord *word, const char *text);
/* A UUID, with or without braces, that is no file's name: a medium that the daemon knows. */
bool vbox_is_medium_uuid(const char *text);
/* The index of the command in the program's words, or argc. */
int vbox_first_word(int argc, char **argv);

/* The words after the command; options have one dash or two. */
void vbox_args_init(VboxArgs *args, int argc, char **argv);
void vbox_args_clear(VboxArgs *args);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VboxArgs, vbox_args_clear)
/* Returns the exit status, and prints the error. */
int vbox_run(VboxRun *command, VboxArgs *args);

/* The value of an option; NULL: not given. */
const char *vbox_value(const VboxArgs *args, const char *option);
/* A word that is no option; NULL: there are fewer. */
const char *vbox_word(const VboxArgs *args, guint i);
bool vbox_usage(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* The word in a table of pairs that ends with NULL; NULL: it is not there. */
const char *vbox_pair(const char *const (*pairs)[2], const char *word);
/* What it prints for work that takes time. */
void vbox_print_progress(void);
