/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the files of the tree share: the document and the places in it. */
#pragma once

#include <libxml/tree.h>

#include "vm/schema_internal.h"
#include "vm/tree.h"

struct VmTree {
    const VmSchema *schema;
    xmlDoc *doc; /* its root is schema->root */
};

/* The element of "storage.ide0", or NULL; with `create` it is made, with those around it. */
xmlNode *tree_element(const VmTree *tree, const char *path, bool create);
/* What is stored (new); NULL: nothing. */
char *tree_stored(const xmlNode *element, const VmField *field);
/* Which section a child of a section's element (NULL: the root) belongs to; NULL: none we know. */
const VmSection *tree_child_section(const VmSchema *schema, const VmSection *parent,
                                    const xmlNode *child);
/* The attribute without a namespace (new); NULL: none. */
char *tree_attribute(const xmlNode *element, const char *name);
/* The dotted name (new) of an element of `section` below the one of `outer` called `parent`. */
char *tree_child_path(const VmSection *outer, const VmSection *section, const char *parent,
                      const xmlNode *child);

/* Calls `fn` for each known element below the root, parents first; stops when it returns false. */
typedef bool (*TreeElementFn)(void *obj, const char *path, const VmSection *section, xmlNode *node);
bool tree_walk(const VmTree *tree, TreeElementFn fn, void *obj);

/* Whether all that a parsed document says is valid; messages name lines. */
bool tree_check_document(const VmTree *tree, GError **error);
