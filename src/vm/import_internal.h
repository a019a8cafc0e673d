/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the readers of others' machines share (import.h). */
#pragma once

#include "base/bits.h"
#include "vm/import.h"
#include "vm/xml.h"

typedef struct Importer {
    VmConfig *config;
    GPtrArray *report;
    const char *folder;
    const xmlNode *root;
} Importer;

#define IMPORT_MAX MIB(16) /* bytes of a file */

/* A row of a table that ends with NULL. */
typedef struct ImportWord {
    const char *theirs, *ours;
} ImportWord;
/* What they call it is here, in whatever case; NULL: not known, or `theirs` is NULL. */
const char *import_word(const ImportWord *words, const char *theirs);

/* What has no counterpart: an element, the attributes that tell which (NULL: none), and what is
 * said, with both. */
typedef struct LostKind {
    const char *element, *name, *detail, *format;
    bool is_off; /* unless its attribute `enabled` says otherwise; else it is on without one */
} LostKind;

/* A line of the report. */
void import_say(const Importer *in, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* Says it when the element is one of the kinds, unless it is turned off; true: it is one. */
bool import_say_lost(const Importer *in, const xmlNode *at, const LostKind *kinds, size_t count);

/* Sets what the file says; NULL: nothing. A value that we cannot have is reported. */
void import_put(const Importer *in, const char *path, const char *value);
/* "PLACE.FIELD". */
void import_put_at(const Importer *in, const char *place, const char *field, const char *value);
/* An attribute that is true or false, when it is there. */
void import_put_switch(const Importer *in, const char *place, const char *field,
                       const xmlNode *node, const char *attribute);
/* The machine's UUID, in braces or not. */
void import_put_uuid(const Importer *in, const char *uuid);
/* A free place "LIST.NAME", whose name is made of one that another product allowed (new). `word` is
 * for those without. */
char *import_place(const Importer *in, const char *list, const char *name, const char *word);
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
extern const ImportWord vbox_devices[];
void vbox_storage(const Importer *in, const xmlNode *machine);
void vbox_network(const Importer *in, const xmlNode *hardware);
void vbox_ports(const Importer *in, const xmlNode *hardware);
void vbox_audio(const Importer *in, const xmlNode *hardware);
void vbox_usb(const Importer *in, const xmlNode *hardware);
void vbox_shares(const Importer *in, const xmlNode *hardware);

void import_libvirt(const Importer *in);
void libvirt_devices(const Importer *in);
/* What <… unit=''>N</…> says, in bytes, as text (new); NULL: it says none. */
char *libvirt_size(const Importer *in, const xmlNode *node);
