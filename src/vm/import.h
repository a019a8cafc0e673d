/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Machines of others: VirtualBox's .vbox and libvirt's domain XML, read into a VmConfig. Nothing
 * else is opened: disks keep their places (absolute paths). Files are untrusted. Any thread.
 */
#pragma once

#include "vm/config.h"

typedef struct VmImport {
    VmConfig *config;
    GPtrArray *report; /* what has no counterpart here, a line each (of char *, owned) */
} VmImport;

/* Tells the two apart by their root elements. `path` relative names in it are found from. */
VmImport *vm_import_load(const char *path, GError **error);
/* `folder`: where relative names in it begin; NULL: they stay as they are. */
VmImport *vm_import_parse(const char *text, size_t size, const char *name, const char *folder,
                          GError **error);
void vm_import_free(VmImport *import);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VmImport, vm_import_free)

/* A libvirt domain (new text) with what it can say of the machine; the rest is in the report. */
char *vm_export_libvirt(const VmConfig *config, const char *folder, GPtrArray *report,
                        GError **error);
