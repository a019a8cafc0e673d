/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the files of snapshots share. */
#pragma once

#include "vm/snapshot.h"

/* A hard disk of a configuration, or its differencing image. */
typedef struct SnapshotDisk {
    char *place; /* "storage.ide0.0" */
    char *image; /* absolute */
    char *format;
    char *mode;
    bool is_part; /* of snapshots: the machine writes to it */
    bool trusts;  /* what its images name may be outside of their folder */
} SnapshotDisk;

/*
 * All of them (of SnapshotDisk). `is_kept`: of a snapshot, in which differencing images are those
 * of the machine as it is now, if there are any.
 */
GPtrArray *snapshot_disks(const VmConfig *config, const char *folder, bool is_kept, GError **error);

/* An image of the machine, or one that another builds on. */
typedef struct SnapshotImage {
    char *path, *format; /* format NULL: unknown */
    char *base;          /* NULL: none */
    char *base_format;   /* NULL: unknown */
    bool is_named;       /* a configuration has it as a disk */
} SnapshotImage;

/*
 * All images of the snapshots but `not_uuid` (NULL: all) and, `with_current`, of the machine as it
 * is, with all that they build on: a hash table by paths, of SnapshotImage. Fails when one cannot
 * be read, for nobody knows then what it builds on.
 */
GHashTable *snapshot_images(const VmConfig *config, const char *folder, const char *not_uuid,
                            bool with_current, GError **error);
/* Those that build on `path` (of SnapshotImage, the table's). */
GPtrArray *snapshot_images_over(GHashTable *images, const char *path);
/* Whether an image was made for the machine, and may go without being asked for. */
bool snapshot_owns(const char *folder, const char *image);
bool snapshot_set(VmConfig *config, const char *place, const char *name, const char *value,
                  GError **error);
/* The journal and the rest, empty. */
VmSnapshotChange *snapshot_change_new(const VmSnapshotOf *of, const char *uuid);
/* The journal deletes an image; nobody may have it open until then. */
bool snapshot_give_up(VmSnapshotChange *change, const char *image, GError **error);
