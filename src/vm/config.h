/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A machine's configuration: the file NAME.ospite in the machine's own folder, beside its disks.
 *
 * It is a VmTree (vm/tree.h) with the schema below; all that front ends do to a machine they do by
 * its dotted names. A change is made on a copy, checked whole, saved, and then put in the place of
 * the old tree:
 *
 *     g_autoptr(VmConfig) changed = vm_tree_copy(config);
 *     vm_tree_assign(changed, "memory=2G", &error) && vm_config_check(changed, &error) &&
 *         vm_config_save(changed, path, &error)
 *
 * Threads: as tree.h.
 */
#pragma once

#include "vm/tree.h"

typedef VmTree VmConfig;

#define VM_CONFIG_SUFFIX ".ospite"
/* Bytes; leaves room for the suffix and a temporary name in 255. */
#define VM_NAME_MAX 200

extern const VmSchema vm_config_schema;

/* A new machine: a name, a new UUID, one IDE and one floppy controller, serial port 0 at "console".
 */
VmConfig *vm_config_new(const char *name, GError **error);
/* The file is checked whole, vm_config_check() included. */
VmConfig *vm_config_load(const char *path, GError **error);
VmConfig *vm_config_parse(const char *text, size_t size, const char *name, GError **error);
bool vm_config_save(const VmConfig *config, const char *path, GError **error);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VmConfig, vm_tree_free)

/*
 * What no single value can break: required values, slots that a controller does not have, one
 * medium in two slots, ports used twice, a kernel's options without a kernel. INVALID_ARGUMENT.
 */
bool vm_config_check(const VmConfig *config, GError **error);

/* When the change from one configuration to another counts: the latest of its values' times. */
VmChange vm_config_change(const VmConfig *from, const VmConfig *to);

/*
 * A machine's name is also its folder's and file's name: valid UTF-8 of 1 to VM_NAME_MAX bytes,
 * emoji welcome. Not: '/', control characters (newlines, …), line and paragraph separators,
 * characters that turn the direction of text, a dot or dash at the beginning, a space at either
 * end, or what reads as a UUID (commands take either).
 */
bool vm_name_check(const char *name, GError **error);
