/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * From a configuration to a PC: the one place that knows what the machine of this version has. What
 * a configuration asks for and this version lacks is an error that says so.
 */
#pragma once

#include "machine/pc.h"
#include "vm/config.h"

typedef struct VmBuildOptions {
    const char *folder;  /* the machine's, for relative paths; NULL: paths as they are */
    const char *console; /* what a serial or parallel port at "console" becomes, a char_open()
                            specification; NULL: "none" */
    bool probe;          /* media without a stored format are probed (`ospite run`); else refused */
} VmBuildOptions;

typedef struct VmBuild {
    PcConfig pc;       /* its strings belong to `strings` */
    char *engine_note; /* why not a faster engine, for people; NULL: nothing to say */
    GPtrArray *strings;
} VmBuild;

/* Fails with NOT_SUPPORTED naming what this version lacks, or INVALID_ARGUMENT. */
VmBuild *vm_build(const VmConfig *config, const VmBuildOptions *options, GError **error);
void vm_build_free(VmBuild *build);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VmBuild, vm_build_free)

/*
 * Where the writes to an immutable or multi-attach disk go (new); NULL without an error where there
 * is no such file. `place`: "storage.ide0.0".
 */
char *vm_build_difference(const VmConfig *config, const char *folder, const char *place,
                          GError **error);

/*
 * Everything in `config` that this version lacks, a line each (of char *, owned; empty: it can
 * start): "SETTING: why; what to do". vm_build() fails with the first.
 */
GPtrArray *vm_build_missing(const VmConfig *config);
/*
 * Takes all that out: drives of controllers that this version lacks go where there is room, the
 * rest is removed. Adds a line for each to `report` (of char *).
 */
void vm_build_reduce(VmConfig *config, GPtrArray *report);
/*
 * Whether a changed setting may be set in this version though it could be stored; NOT_SUPPORTED.
 * `old` NULL: all are new.
 */
bool vm_build_can_set(const VmConfig *old, const VmConfig *config, GError **error);
