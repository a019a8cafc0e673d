/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Reading untrusted XML, for this floor's own files. Any thread. */
#pragma once

#include <gio/gio.h>
#include <libxml/tree.h>

/*
 * A document with a root element and without a document type, or NULL with INVALID_DATA naming
 * `name` (quoted already) and the line. Layout between elements is dropped.
 */
xmlDoc *xml_parse(const char *text, size_t size, const char *name, GError **error);
/* The contents of a regular file of at most `max_size` bytes (new, NUL-terminated). */
char *xml_read_file(const char *path, uint64_t max_size, size_t *ret_size, GError **error);
