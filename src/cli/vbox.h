/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The words of VBoxManage's users, under the program name vboxmanage: what its commands share. What
 * they print has the shape that scripts of those users read, so it is in English always.
 */
#pragma once

#include <ospite/ospite.h>
#include <stdbool.h>

typedef struct VboxArgs {
    GHashTable *values; /* option without dashes, in lower case → value ("" for flags) */
    GPtrArray *rest;
    OspiteClient *client; /* of a command that needs the daemon */
} VboxArgs;

typedef struct VboxCommand {
    const char *names[4];
    bool (*run)(VboxArgs *args, GError **error);
    const char *usage;
    bool daemon;
} VboxCommand;

/* The value of an option; NULL: not given. */
const char *vbox_value(const VboxArgs *args, const char *option);
/* A word that is no option; NULL: there are fewer. */
const char *vbox_word(const VboxArgs *args, guint i);
bool vbox_usage(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* The word in a table of pairs that ends with NULL; NULL: it is not there. */
const char *vbox_pair(const char *const (*pairs)[2], const char *word);
/* What it prints for work that takes time. */
void vbox_print_progress(void);

/* disk_vbox.c */
bool vbox_create_medium(VboxArgs *args, GError **error);
bool vbox_clone_medium(VboxArgs *args, GError **error);
bool vbox_convert_raw(VboxArgs *args, GError **error);
bool vbox_modify_medium(VboxArgs *args, GError **error);
bool vbox_show_medium(VboxArgs *args, GError **error);
bool vbox_internal(VboxArgs *args, GError **error);

/* vbox_vm.c */
bool vbox_create_vm(VboxArgs *args, GError **error);
bool vbox_register_vm(VboxArgs *args, GError **error);
bool vbox_unregister_vm(VboxArgs *args, GError **error);
bool vbox_start_vm(VboxArgs *args, GError **error);
bool vbox_control_vm(VboxArgs *args, GError **error);
bool vbox_set_extra_data(VboxArgs *args, GError **error);
bool vbox_get_extra_data(VboxArgs *args, GError **error);

/* vbox_modify.c */
bool vbox_modify_vm(VboxArgs *args, GError **error);

/* vbox_storage.c */
bool vbox_storage_controller(VboxArgs *args, GError **error);
bool vbox_storage_attach(VboxArgs *args, GError **error);
bool vbox_close_medium(VboxArgs *args, GError **error);
bool vbox_set_medium_mode(VboxArgs *args, GError **error);

/* vbox_show.c */
bool vbox_list(VboxArgs *args, GError **error);
bool vbox_show_vm(VboxArgs *args, GError **error);
