/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The commands of vboxmanage that call the daemon: all but those of disks, in `ospite-cli`. */
#pragma once

#include <ospite/ospite.h>

#include "cli/vbox_words.h"

/* The program as vboxmanage. */
int main_vbox(int argc, char **argv);

/* vbox_vm.c */
VboxRun vbox_create_vm;
VboxRun vbox_clone_vm;
VboxRun vbox_register_vm;
VboxRun vbox_unregister_vm;
VboxRun vbox_start_vm;
VboxRun vbox_control_vm;
VboxRun vbox_set_extra_data;
VboxRun vbox_get_extra_data;

/* vbox_modify.c */
VboxRun vbox_modify_vm;

/* vbox_storage.c */
VboxRun vbox_storage_controller;
VboxRun vbox_storage_attach;
VboxRun vbox_open_medium;
VboxRun vbox_close_medium;
VboxRun vbox_set_medium_mode;

/* vbox_show.c */
VboxRun vbox_list;
VboxRun vbox_show_vm;
/* A machine as an answer of the API has it. */
void vbox_print_vm(JsonNode *vm, bool machine_readable);

/* vbox_snapshot.c */
VboxRun vbox_snapshot;
/* The machine's snapshots (a list of "Snapshot"), as trees; nothing when there are none. */
void vbox_print_snapshots(JsonArray *all, bool machine_readable, bool details);
