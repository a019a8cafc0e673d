/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A tree of named values as its schema has it: the contents of one XML file.
 *
 * The XML document itself is the store, so that elements, attributes and comments nobody here knows
 * survive loading and saving. A value that was not set reads as its default and is not stored.
 *
 * Invariant: every known value in a tree is valid; loading and setting refuse others.
 *
 * Threads: a tree belongs to one thread at a time; different trees are independent.
 *
 * Errors: G_IO_ERROR_INVALID_ARGUMENT (a bad value or key), NOT_FOUND (no such name), EXISTS,
 * INVALID_DATA (a bad file; the message has its line), NOT_SUPPORTED (a newer version), and what
 * the host says of files.
 */
#pragma once

#include <json-glib/json-glib.h>

#include "vm/schema.h"

typedef struct VmTree VmTree;

VmTree *vm_tree_new(const VmSchema *schema);
/*
 * From an untrusted file or text; `name` is for messages. No entities, no DOCTYPE, no network;
 * schema->max_size caps the size.
 */
VmTree *vm_tree_load(const VmSchema *schema, const char *path, GError **error);
VmTree *vm_tree_parse(const VmSchema *schema, const char *text, size_t size, const char *name,
                      GError **error);
VmTree *vm_tree_copy(const VmTree *tree);
void vm_tree_free(VmTree *tree);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VmTree, vm_tree_free)

/* The file's text (new, NUL-terminated). */
char *vm_tree_text(const VmTree *tree, size_t *ret_size);
/*
 * Replaces the file in one step and durably: temporary file beside it, fsync, rename, fsync of the
 * folder. On any failure (ENOSPC, …) the old file is as it was.
 */
bool vm_tree_save(const VmTree *tree, const char *path, GError **error);

const VmSchema *vm_tree_schema(const VmTree *tree);
/* Whether every element has the values it needs; a loaded tree does. INVALID_ARGUMENT. */
bool vm_tree_complete(const VmTree *tree, GError **error);

/* ---- by names that come from users (dotted, checked) ------------------------------------------
 */

/* The canonical text, or the default (new); "" when there is neither. */
char *vm_tree_get(const VmTree *tree, const char *path, GError **error);
/*
 * Sets one value as a user writes it, after checking it; list elements on the way are made. NULL
 * takes it back to its default. On failure nothing changed.
 */
bool vm_tree_set(VmTree *tree, const char *path, const char *text, GError **error);
/* "path=text"; "path=" is an empty text, and the default where the field can't be empty. */
bool vm_tree_assign(VmTree *tree, const char *assignment, GError **error);
/* Makes a list's element, "storage.ide0"; EXISTS when it is there. */
bool vm_tree_add(VmTree *tree, const char *path, GError **error);
/* Removes a list's element with all below it. */
bool vm_tree_remove(VmTree *tree, const char *path, GError **error);

/* ---- by names that our own code knows (a wrong one is our bug) ---------------------------------
 */

/* Whether the value was set; whether there is such a list element ("storage.ide0"). */
bool vm_tree_has(const VmTree *tree, const char *path);
/* The keys below "storage" or "storage.ide0", in the file's order; free with g_strfreev(). */
char **vm_tree_keys(const VmTree *tree, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* Values or their defaults; the text is new. */
char *vm_tree_string(const VmTree *tree, const char *format, ...) G_GNUC_PRINTF(2, 3);
bool vm_tree_bool(const VmTree *tree, const char *format, ...) G_GNUC_PRINTF(2, 3);
uint64_t vm_tree_number(const VmTree *tree, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* What `from` has of a section ("snapshots"), unknown things and all, in the place of what `to`
 * has. */
void vm_tree_take_section(VmTree *to, const VmTree *from, const char *name);

/* ---- whole trees -------------------------------------------------------------------------------
 */

/* Each value that was set, in the file's order. */
typedef void (*VmTreeFn)(void *obj, const char *path, const VmField *field, const char *value);
void vm_tree_foreach(const VmTree *tree, VmTreeFn fn, void *obj);
/* Dotted names of the values that differ (of char *, owned), defaults counted. */
GPtrArray *vm_tree_diff(const VmTree *from, const VmTree *to);

/*
 * As JSON: {"system": {"memory": 2147483648, …}, "storage": {"ide0": {"type": "ide", "0": {…}}}}.
 * Numbers and sizes (bytes) are numbers, lists arrays of strings. `defaults`: also what is not set.
 */
JsonNode *vm_tree_to_json(const VmTree *tree, bool defaults);
/* Merges (RFC 7396): null takes back to the default or removes an element. All or nothing. */
bool vm_tree_merge_json(VmTree *tree, JsonNode *patch, GError **error);
