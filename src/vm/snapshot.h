/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Snapshots of machines that are off. A snapshot is an element of the machine's file
 * (snapshots.UUID), a file beside it with the settings of that time (snapshot-UUID.ospite), and the
 * images that these name. Nobody writes to those any more: with each snapshot taken or restored the
 * machine's disks become new differencing images over them, layers (layer-….qcow2) in its folder.
 *
 * Part of a snapshot are the machine's own disks: those in mode normal, and what a multi-attach
 * disk has in its differencing image. All other disks are as they are now, whatever is restored.
 *
 * Invariant: each change is one journal, whose steps need no data that is not written yet; before
 * it nothing but temporary names has been made, which vm/leftovers.h knows.
 *
 * Saved states of running machines have their place already (snapshots.*.state).
 *
 * Threads: one at a time has a machine's files.
 */
#pragma once

#include "vm/config.h"
#include "vm/journal.h"

typedef struct VmSnapshotOf {
    const VmConfig *config;
    const char *file;  /* NAME.ospite */
    const char *notes; /* the daemon's folder */
} VmSnapshotOf;

/* By name or UUID; its UUID (new). NOT_FOUND, or INVALID_ARGUMENT when several have the name. */
char *vm_snapshot_find(const VmConfig *config, const char *name, GError **error);
/* Not empty, one line, no UUID. INVALID_ARGUMENT. */
bool vm_snapshot_name_check(const char *name, GError **error);
/* What the machine in `folder` was then. */
VmConfig *vm_snapshot_load(const VmConfig *config, const char *folder, const char *uuid,
                           GError **error);
/* Where that is kept (new). */
char *vm_snapshot_file(const VmConfig *config, const char *folder, const char *uuid,
                       GError **error);
/* UUIDs of all (new); g_strfreev(). */
char **vm_snapshot_list(const VmConfig *config);

/* A change that is ready to be made. */
typedef struct VmSnapshotChange {
    Journal *journal;
    char *uuid;      /* the snapshot's */
    GPtrArray *gone; /* images that the journal deletes (of char *) */
    bool begun;      /* the journal may be stored: what was made for it must stay */
    /* for snapshot.c */
    char *folder, *note;
    GPtrArray *layers, *locks;
} VmSnapshotChange;
void vm_snapshot_change_free(VmSnapshotChange *change);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VmSnapshotChange, vm_snapshot_change_free)

VmSnapshotChange *vm_snapshot_take(const VmSnapshotOf *of, const char *name,
                                   const char *description, GError **error);
/*
 * Back to a snapshot: the machine's layers since then are deleted, its other images stay. `spare`
 * are images that others use (a set of paths); BUSY when one of them would have to be deleted.
 */
VmSnapshotChange *vm_snapshot_restore(const VmSnapshotOf *of, const char *uuid, GHashTable *spare,
                                      GError **error);

/*
 * The end of a snapshot: each of its images and the one that builds on it become one. At every
 * moment the machine and all other snapshots show what they showed; what the snapshot itself showed
 * may be lost as soon as data are moved, so it is marked (snapshots.*.deleting) before. Cut short,
 * it can be begun again.
 */
typedef struct VmSnapshotDelete VmSnapshotDelete;
/* BUSY when more than one snapshot or state builds on it, or others use its images. */
VmSnapshotDelete *vm_snapshot_delete_new(const VmSnapshotOf *of, const char *uuid,
                                         GHashTable *spare, GError **error);
const char *vm_snapshot_delete_uuid(const VmSnapshotDelete *delete);
/* Whether there are data to be moved. */
bool vm_snapshot_delete_is_long(const VmSnapshotDelete *delete);
/* Takes as long as moving does; any thread. Durable. */
bool vm_snapshot_delete_run(VmSnapshotDelete *delete, GError **error);
/* After it failed: whether the snapshot is as it was. */
bool vm_snapshot_delete_is_undone(const VmSnapshotDelete *delete);
/* Bytes of disks gone through and in all; any thread. */
void vm_snapshot_delete_progress(const VmSnapshotDelete *delete, uint64_t *ret_done,
                                 uint64_t *ret_total);
/* What remains to be done when it has run. */
VmSnapshotChange *vm_snapshot_delete_finish(const VmSnapshotDelete *delete, const VmSnapshotOf *of,
                                            GError **error);
void vm_snapshot_delete_free(VmSnapshotDelete *delete);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VmSnapshotDelete, vm_snapshot_delete_free)
