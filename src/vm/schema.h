/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a kind of file may say: sections of fields, as constant tables from which everything else
 * comes: loading and saving XML, the XSD, dotted names, JSON and help.
 *
 * A section is an XML element and its fields are the element's attributes (a long text is a child
 * element). Sections whose pattern ends in "*" are lists: their elements repeat, each with a key.
 * A dotted name is the section's pattern with keys for stars, and the field's name:
 *
 *     pattern            XML                                        dotted name
 *     system             <system memory="2G"/>                      system.memory
 *     storage.*          <storage><controller name="ide0" …/>       storage.ide0.type
 *     storage.*.*          <attachment slot="0" medium="a.qcow2"/>  storage.ide0.0.medium
 *
 * Keys hold no dots. The tables are constant; any thread.
 */
#pragma once

#include <gio/gio.h>
#include <stdbool.h>
#include <stdint.h>

typedef enum VmFieldType {
    VM_STRING, /* one line; `max` is its longest length in bytes */
    VM_TEXT,   /* any lines; stored as an element of its own */
    VM_BOOL,   /* "true" or "false"; setting takes on, off, yes, no, 1 and 0, too */
    VM_INT,    /* decimal, from `min` to `max`; setting takes 0x…, too */
    VM_SIZE,   /* bytes, or with K, M, G or T (powers of 1024), from `min` to `max` */
    VM_ENUM,   /* one of `choices` */
    VM_LIST,   /* words of `choices` separated by commas, each at most once */
    VM_UUID,   /* 8-4-4-4-12 lower-case hexadecimal digits */
    VM_PATH,   /* of a file of the host; relative: in or below the file's own folder, no ".." */
} VmFieldType;

/* When a changed value counts. */
typedef enum VmChange {
    VM_CHANGE_NOW,     /* at once: the running machine never sees it */
    VM_CHANGE_LIVE,    /* a running machine can take it */
    VM_CHANGE_RESTART, /* at the next start */
    VM_CHANGE_NEVER,   /* fixed when made */
} VmChange;

typedef struct VmField {
    const char *name; /* lower-case-with-dashes */
    VmFieldType type;
    bool required;             /* an element without it is refused */
    const char *default_value; /* as text; NULL: none, reads as "" */
    uint64_t min, max;
    const char *choices; /* separated by spaces */
    const char
        *pattern; /* VM_STRING: a regular expression for the whole (in both XSD and GRegex) */
    VmChange change;
    const char *help; /* one line, marked for translation: gettext() it to show it */
} VmField;

typedef struct VmSection {
    const char *pattern;     /* "system", "storage.*.*" */
    const char *element;     /* the XML element's name */
    const char *key;         /* lists: the attribute that holds the key */
    const char *key_pattern; /* lists: regular expression for the whole key */
    uint32_t max_count;      /* lists: how many one parent may have */
    const VmField *fields;   /* ends with a NULL name; may be NULL */
    const char *help;        /* marked for translation */
} VmSection;

typedef struct VmSchema {
    const char *root;          /* the root element's name */
    const char *what;          /* for messages: "machine configuration" */
    unsigned version;          /* the newest format known here */
    uint64_t max_size;         /* bytes of a file */
    const VmSection *sections; /* parents before children; ends with a NULL pattern */
    const char *bare;          /* sections that a dotted name may leave out, separated by spaces */
} VmSchema;

/*
 * The field of a dotted name, and its section; keys are checked, too. Fails with
 * G_IO_ERROR_NOT_FOUND that names the nearest section's fields.
 */
const VmField *vm_schema_find(const VmSchema *schema, const char *path,
                              const VmSection **ret_section, GError **error);
/* Whether it names an entry of a list, such as storage.ide0: there or not. */
bool vm_schema_is_entry(const VmSchema *schema, const char *path);

/*
 * A value as a user writes it, in its canonical form (new): "on" → "true", "2048M" → "2G". Fails
 * with G_IO_ERROR_INVALID_ARGUMENT that names `path`, the value and what is allowed.
 */
char *vm_field_parse(const VmField *field, const char *path, const char *text, GError **error);
/* What is allowed, for people (new): "a size from 1M to 64G", "one of auto, kvm, jit". */
char *vm_field_range(const VmField *field);
/* The number of a canonical VM_INT or VM_SIZE; false when it is none or too large. */
bool vm_field_number(const VmField *field, const char *text, uint64_t *ret_number);
/* A size in its canonical form (new): "2G", "1536K", "1000". */
char *vm_size_text(uint64_t bytes);

/* "now", "live", "restart", "never". */
const char *vm_change_name(VmChange change);

/* The XSD of the schema (new text). */
char *vm_schema_xsd(const VmSchema *schema);
/* What api/openapi.yaml says of it: the schema Config below components.schemas (new text). */
char *vm_schema_openapi(const VmSchema *schema);
/* ospite-settings(7), as mdoc(7) (new text). */
char *vm_schema_manual(const VmSchema *schema);
