/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * All machines of the user: the list of their files (machines.json in the configuration folder,
 * replaced in one step), and what changes it. Main thread; one daemon at a time (the caller locks).
 */
#pragma once

#include "daemon/machine.h"
#include "vm/clone.h"
#include "vm/media.h"

typedef struct Registry Registry;

typedef enum DeleteMode { DELETE_UNREGISTER, DELETE_KEEP_DISKS, DELETE_ALL } DeleteMode;

/* Finishes or removes what a killed change left, reads the list and finds running machines. */
Registry *registry_new(const char *config_folder, const char *runtime, Events *events,
                       GError **error);
void registry_free(Registry *registry);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Registry, registry_free)

/* The registry of media; what needs it tries again when it could not be opened. */
Media *registry_media(Registry *registry, GError **error);
const char *registry_folder(const Registry *registry);
/* Sorted by name (of Machine); the registry's own. */
GPtrArray *registry_list(Registry *registry);
/* By name or UUID; NOT_FOUND. */
Machine *registry_find(Registry *registry, const char *name, GError **error);
/* How many run, or will in a while by themselves. */
unsigned registry_running(const Registry *registry);
/* Starts those that are to start by themselves, each after its delay (of Machine; the registry's
 * own). */
GPtrArray *registry_autostart(Registry *registry);

/* Makes FOLDER/NAME/NAME.ospite (FOLDER NULL: the user's machine folder). Takes the configuration.
 */
Machine *registry_create(Registry *registry, VmConfig *config, const char *folder, GError **error);
/* A clone's folder has been copied: it becomes that of the machine that the clone is. */
Machine *registry_create_clone(Registry *registry, const VmClone *clone, const Machine *of,
                               FolderCopy *copy, GError **error);
/* Where a machine's folder would be (new); an error when it or a machine of that name is there. */
char *registry_new_folder(Registry *registry, const VmConfig *config, const char *folder,
                          GError **error);
/* A machine's file that is there already. When it is that of a known machine whose own file is
 * gone, somebody has moved that one's folder: it is where this file is, and so are its images. */
Machine *registry_register(Registry *registry, const char *file, GError **error);
/* Saves changed settings; a changed name also renames the file and a folder of that name. */
bool registry_save(Registry *registry, Machine *machine, const VmConfig *config, GError **error);
/* The machine's folder moves into `folder`. WOULD_BLOCK when that is on another file system and
 * `copy`, to registry_move_target() (new), is NULL. */
bool registry_move(Registry *registry, Machine *machine, const char *folder, FolderCopy *copy,
                   GError **error);
char *registry_move_target(const Machine *machine, const char *folder);
/* Carries out what was prepared for the machine's snapshots; `kind` is the event. */
bool registry_change(Registry *registry, Machine *machine, VmSnapshotChange *change,
                     const char *kind, GError **error);
/* DELETE_ALL leaves the disks in `spare` (a set of paths). Files that are still there are added to
 * `kept` (of char *). The machine is freed on success. */
bool registry_delete(Registry *registry, Machine *machine, DeleteMode mode, GHashTable *spare,
                     GPtrArray *kept, GError **error);
