/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the readers of others' machines share (import.h). */
#pragma once

#include "vm/import.h"
#include "vm/xml.h"

typedef struct Importer {
    VmConfig *config;
    GPtrArray *report;
    const char *folder;
    const xmlNode *root;
} Importer;

/* What has no counterpart: an element, the attributes that tell which (NULL: none), and what is
 * said, with both. */
typedef struct LostKind {
    const char *element, *name, *detail, *format;
} LostKind;

/* A line of the report. */
void import_say(const Importer *in, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* Says it when the element is one of the kinds, unless it is turned off; true: it is one. */
bool import_say_lost(const Importer *in, const xmlNode *at, const LostKind *kinds, size_t count);

/* Sets what the file says; NULL: nothing. A value that we cannot have is reported. */
void import_put(const Importer *in, const char *path, const char *value);
/* The machine's name, made one that a machine may have. */
void import_put_name(const Importer *in, const char *name);
/* A drive at "storage.ide0.0"; a relative file is in the importer's folder. */
void import_attachment(const Importer *in, const char *place, const char *type, const char *file,
                       const char *format);

bool import_is_named(const xmlNode *node, const char *name);
const xmlNode *import_child(const xmlNode *node, const char *name);
/* Down a path of names separated by slashes; NULL: not there. */
const xmlNode *import_down(const xmlNode *node, const char *path);
/* New; NULL: not there. */
char *import_attribute(const xmlNode *node, const char *name);
char *import_content(const xmlNode *node);
bool import_is_true(const char *text);

void import_vbox(const Importer *in, const xmlNode *machine);
void import_libvirt(const Importer *in);
