/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the files of schema and tree share. Any thread. */
#pragma once

#include "vm/schema.h"

/* The section of an element's dotted name ("storage.ide0"); keys are not checked. NULL: none. */
const VmSection *schema_section(const VmSchema *schema, const char *path);
/* The section whose elements hold this one's; NULL: the root. */
const VmSection *schema_parent(const VmSchema *schema, const VmSection *section);
const VmField *section_field(const VmSection *section, const char *name);
/* Whether a list's element may have this key. INVALID_ARGUMENT. */
bool section_check_key(const VmSection *section, const char *key, GError **error);
/* The same for all keys of an element's dotted name. */
bool schema_check_keys(const VmSchema *schema, const VmSection *section, const char *path,
                       GError **error);
/* "memory" → "system.memory" (new). */
char *schema_full_path(const VmSchema *schema, const char *path);
/* Whether `text` is a value in canonical form; what files hold. */
bool field_check(const VmField *field, const char *path, const char *text, GError **error);
