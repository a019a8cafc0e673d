/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * VMDK, VMware's images: what the parts of the driver share. Numbers are little-endian.
 *
 *   descriptor: a text that names the extents, in a file of its own or in the one extent
 *   flat extent: bytes of the disk
 *   sparse extent: | header | descriptor | redundant directory, tables | directory, tables | grains
 * |
 *
 * Invariants: a grain's data are durable before its entry in the redundant table, that before the
 * one in the primary table (SAFETY §5.4). New grains go to the end of the file.
 *
 * Source: "Virtual Disk Format 5.0" (VMware).
 */
#pragma once

#include "base/bits.h"
#include "block/flat_table.h"
#include "block/format.h"
#include "block/formats/uuid.h"
#include "block/table_cache.h"

#define VMDK_MAGIC         0x564d444bu
#define VMDK_COWD          0x44574f43u
#define VMDK_SE_MAGIC      0xcafebabeu
#define VMDK_NO_CID        0xffffffffu
#define VMDK_DESCRIPTOR    MIB(1) /* no text is longer */
#define VMDK_MAX_DIRECTORY MIB(8)
#define VMDK_MAX_CAPACITY  (UINT64_C(1) << 41) /* sectors */
#define VMDK_GRAIN         KIB(64)             /* of new extents */
#define VMDK_MAX_EXTENTS   4096
#define VMDK_PART_SIZE     (UINT64_C(2047) << 20) /* of split images */

/* Offsets in the header of a sparse extent */
enum {
    VMDK_H_VERSION = 4,
    VMDK_H_FLAGS = 8,
    VMDK_H_CAPACITY = 12,
    VMDK_H_GRAIN = 20,
    VMDK_H_TEXT = 28,
    VMDK_H_TEXT_SIZE = 36,
    VMDK_H_ENTRIES = 44,
    VMDK_H_REDUNDANT = 48,
    VMDK_H_DIRECTORY = 56,
    VMDK_H_OVERHEAD = 64,
    VMDK_H_UNCLEAN = 72,
    VMDK_H_NEWLINES = 73,
    VMDK_H_COMPRESSION = 77,
};

enum {
    VMDK_F_NEWLINES = 1,
    VMDK_F_REDUNDANT = 2,
    VMDK_F_ZERO = 4,
    VMDK_F_COMPRESSED = 1 << 16,
    VMDK_F_MARKERS = 1 << 17,
};

typedef struct VmdkExtent {
    HostFile *file;
    bool own_file;                                         /* not the image's */
    bool is_sparse, is_zero, compressed, has_zero, is_old; /* old: COWD */
    bool at_end;                                           /* its footer says where all is */
    bool is_se;                                            /* SEsparse */
    uint64_t tables_at, grains_at;                         /* of an SEsparse extent, in the file */
    uint64_t start, size;                                  /* bytes of the disk */
    uint64_t flat_offset;                                  /* of a flat extent's data */
    uint32_t grain;                                        /* bytes */
    uint32_t entries;                                      /* of a grain table */
    char *kind, *name; /* as the descriptor has them; NULL: it is the image's own */
    FlatTable directory, redundant;
    TableCache *tables, *redundant_tables;
    uint64_t end; /* of the file's used part */
    struct Vmdk *vmdk;
} VmdkExtent;

typedef struct Vmdk {
    ImageMap map;
    char *text;           /* the descriptor … */
    uint64_t text_offset; /* … and where it is in the image's file */
    uint64_t text_room;
    uint32_t cid, parent_cid;
    bool parent_by_uuid; /* VirtualBox's way; CIDs don't count */
    char *kind;          /* createType */
    GPtrArray *extents;
} Vmdk;

/* What a line of the descriptor says of an extent: RW 4192256 SPARSE "name" 0 */
typedef struct VmdkLine {
    char access[16], kind[16], name[512];
    uint64_t sectors, offset;
    int size_from, size_to; /* where in the line the number of sectors is */
} VmdkLine;

/* vmdk.c */
VmdkExtent *vmdk_add_extent(Vmdk *v, HostFile *file, bool sparse, uint64_t size);

/* vmdk_descriptor.c */
/* Is it about an extent? What can't be read has the kind "". */
bool vmdk_parse_line(const char *line, VmdkLine *ret_line);
/* A name in the text, in the encoding that the text says, for here. Free it. */
char *vmdk_name_here(const Vmdk *v, const char *name);
/*
 * The text begins as descriptors do, as far as its first sector tells: with the usual words, or
 * with a version behind comments and empty lines.
 */
bool vmdk_is_descriptor(const void *text, size_t size);
/* The value of `key = value` without quotes; NULL: none. */
char *vmdk_text_value(const char *text, const char *key);
/* The text with another value; free it. */
char *vmdk_text_replace(const char *text, const char *key, const char *value);
/*
 * The text with its first `count` extents, of which the last has `size` bytes, and then the lines
 * `more` (NULL: none); free it.
 */
char *vmdk_text_resize(const char *text, guint count, uint64_t size, const GPtrArray *more);
bool vmdk_write_text(Vmdk *v, const char *text, GError **error);
const char *vmdk_new_text(GString *text, const char *kind, const char *extents, uint32_t parent_cid,
                          const CreateOptions *o);

/* vmdk_extent.c */
bool vmdk_extent_open(VmdkExtent *e, GError **error);
void vmdk_extent_free(gpointer extent);
int vmdk_extent_lookup(VmdkExtent *e, uint64_t offset, uint64_t length, bool cached,
                       Extent *extent);
int vmdk_extent_allocate(VmdkExtent *e, uint64_t offset, uint64_t length, Allocation *a);
int vmdk_extent_allocate_packed(VmdkExtent *e, uint64_t offset, uint32_t size, Allocation *a);
int vmdk_extent_link(VmdkExtent *e, const Allocation *a);
int vmdk_extent_zero(VmdkExtent *e, uint64_t offset, uint64_t length, uint64_t *ret_done);
/* The places are lost: grains are only added. */
int vmdk_extent_forget(VmdkExtent *e, uint64_t offset, uint64_t length, uint64_t *ret_done);
int vmdk_extent_set_unclean(VmdkExtent *e, bool unclean);
int vmdk_extent_commit(VmdkExtent *e);
/* An empty sparse extent of `size` bytes whose place for the descriptor holds `text`. */
int vmdk_extent_create(HostFile *file, uint64_t size, uint32_t flags, const char *text);

/* vmdk_check.c */
/* Tells of places in the file that several parts of the extent share. */
int vmdk_extent_check(VmdkExtent *e, CheckResult *result);
/* Before the first change: nothing new may lie on a part that the end of the file cuts. */
int vmdk_extent_find_end(VmdkExtent *e);

/* vmdk_sesparse.c */
bool vmdk_se_open(VmdkExtent *e, const uint8_t *header, GError **error);
int vmdk_se_lookup(VmdkExtent *e, uint64_t offset, uint64_t length, bool cached, Extent *extent);

/* vmdk_resize.c */
bool vmdk_resize(ImageMap *map, uint64_t size, GError **error);

/* vmdk_create.c */
extern const FormatOption vmdk_options[];
bool vmdk_create(HostFile *file, const CreateOptions *options, GError **error);
/*
 * Makes the file of an extent beside the image at `path`: the n-th of a split image, or, with 0,
 * the only one. Its name as descriptors have it, and their line about it.
 */
char *vmdk_part_name(const char *path, bool sparse, unsigned n);
bool vmdk_create_part(const char *path, bool sparse, uint64_t size, uint32_t flags,
                      const CreateOptions *o, GError **error);
char *vmdk_part_line(const char *name, bool sparse, uint64_t size);
