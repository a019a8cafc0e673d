/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a copy of a machine is made of. A full clone has its own images: those in the machine's
 * folder are copied with it, others into it, and it has all snapshots. A linked one shares them:
 * the disks become multi-attach in both machines, which write to differencing images of their own
 * from then on.
 */
#pragma once

#include "vm/config.h"

typedef struct VmClone {
    VmConfig *config;   /* of the clone: another name, UUID, addresses */
    VmConfig *original; /* linked: how the machine itself has to be changed; NULL: it need not be */
    GPtrArray *images;  /* full: paths of images that are copied into the folder (of char *) … */
    GPtrArray *names;   /* … and what they are called there */
    GPtrArray *kept;    /* full: the settings of its snapshots (of VmConfig) … */
    GPtrArray *kept_names; /* … and their files there (of char *) */
} VmClone;

/* `folder` is the machine's, which is off. */
VmClone *vm_clone_new(const VmConfig *config, const char *folder, const char *name, bool linked,
                      GError **error);
void vm_clone_free(VmClone *clone);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VmClone, vm_clone_free)
