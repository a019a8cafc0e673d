/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Machines of others: VirtualBox's .vbox and libvirt's domain XML, read into a VmConfig. Nothing
 * else is opened: disks keep their places. Files are untrusted. Any thread.
 */
#pragma once

#include "vm/config.h"

typedef struct VmImport {
    VmConfig *config;
    GPtrArray *report; /* what has no counterpart here, a line each (of char *, owned) */
} VmImport;

/* Tells the two apart by their root elements. Relative names begin in the file's folder. */
VmImport *vm_import_load(const char *path, GError **error);
/* `folder`: where relative names in it begin (absolute). */
VmImport *vm_import_parse(const char *text, size_t size, const char *name, const char *folder,
                          GError **error);
void vm_import_free(VmImport *import);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VmImport, vm_import_free)
