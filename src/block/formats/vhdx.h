/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * VHDX, Hyper-V's images: what the parts of the driver share. Numbers are little-endian.
 *
 *   0      | "vhdxfile" | header | header | region table | region table |
 *   1 MiB  | log | BAT | metadata | blocks of data and of sector bitmaps …
 *
 *   BAT: | block | … | block | bitmap | block | …: after `ratio` blocks, a chunk, the place of the
 *   bitmap that tells of their sectors: set: here, clear: the parent. All places are whole MiBs.
 *
 * Invariants:
 * - A change of the map needs no log: a block's data are durable before its bits in the bitmap,
 *   and these before its entry in the BAT; a chunk's bitmap has its entry before its blocks do.
 * - Of headers and region tables one copy is whole at any time. Metadata change by one write of
 *   the first sector of their table.
 *
 * Source: [MS-VHDX] "Virtual Hard Disk v2 (VHDX) File Format", revision 7.
 */
#pragma once

#include "base/bits.h"
#include "block/flat_table.h"
#include "block/format.h"
#include "block/formats/uuid.h"
#include "block/table_cache.h"

#define VHDX_HEADER_SIZE 4096
#define VHDX_TABLE_SIZE  65536 /* of regions and of metadata */
#define VHDX_REGIONS     KIB(192)
#define VHDX_BITMAP      MIB(1)  /* a chunk's bitmap: a bit for each sector … */
#define VHDX_PIECE       4096    /* … of which this much is read at once */
#define VHDX_MAX_BAT     MIB(24) /* in memory */
#define VHDX_MAX_LOG     MIB(32)
#define VHDX_MAX_SIZE    (UINT64_C(64) << 40)
#define VHDX_MAX_LOCATOR 65536

/* Offsets in a header */
enum {
    VHDX_H_SUM = 4,
    VHDX_H_SEQUENCE = 8,
    VHDX_H_FILE_GUID = 16,
    VHDX_H_DATA_GUID = 32,
    VHDX_H_LOG_GUID = 48,
    VHDX_H_LOG_VERSION = 64,
    VHDX_H_VERSION = 66,
    VHDX_H_LOG_SIZE = 68,
    VHDX_H_LOG = 72,
};

/* Tables of regions and of metadata: | head | entry 32 | entry 32 | … */
enum { VHDX_R_SUM = 4, VHDX_R_COUNT = 8, VHDX_R_ENTRIES = 16 };
enum { VHDX_M_COUNT = 10, VHDX_M_ENTRIES = 32 };
enum { VHDX_ITEM_DISK = 2, VHDX_ITEM_REQUIRED = 4 };

#define VHDX_BAT_GUID        "2DC27766-F623-4200-9D64-115E9BFD4A08"
#define VHDX_METADATA_GUID   "8B7CA206-4790-4B9A-B8FE-575F050F886E"
#define VHDX_PARAMETERS_GUID "CAA16737-FA36-4D43-B3B6-33F0AA44E76B"
#define VHDX_SIZE_GUID       "2FA54224-CD1B-4876-B211-5DBED83BF4B8"
#define VHDX_ID_GUID         "BECA12AB-B2E6-4523-93EF-C309E000C746"
#define VHDX_LOGICAL_GUID    "8141BF1D-A96F-4709-BA47-F233A8FAAB5F"
#define VHDX_PHYSICAL_GUID   "CDA348C7-445D-4471-9CC9-E9885251C556"
#define VHDX_LOCATOR_GUID    "A8D35F2D-B30B-454D-ABF7-D3D84834AB0C"
#define VHDX_PARENT_GUID     "B04AEFB7-D19E-4A81-B789-25B8E9445913"

enum { VHDX_KEEP_BLOCKS = 1, VHDX_HAS_PARENT = 2 };

/* What is behind an entry of the BAT: | place in MiB 44 | 0 | state 3 | */
enum {
    VHDX_ABSENT = 0,
    VHDX_UNDEFINED = 1,
    VHDX_ZERO = 2,
    VHDX_UNMAPPED = 3,
    VHDX_FULL = 6, /* of a bitmap: it is there */
    VHDX_PARTIAL = 7,
};

/* What the log says of a part of the file that may not be written (opened read-only). */
typedef struct VhdxPatch {
    uint64_t offset, size;
    uint8_t *data; /* NULL: zeros */
} VhdxPatch;

typedef struct Vhdx {
    ImageMap map;
    uint8_t header[VHDX_HEADER_SIZE];
    unsigned slot; /* the place of the header in use */
    uint64_t bat_offset, metadata_offset;
    uint32_t bat_room, metadata_room;
    uint64_t size_at; /* in the file: the item with the size of the disk */
    uint32_t block_size, sectors_per_block, flags;
    uint64_t blocks, ratio; /* of blocks to bitmaps */
    FlatTable bat;
    TableCache *bitmaps; /* pieces of VHDX_PIECE */
    char *linkage[2];    /* the DataWriteGuids that a parent may have */
    GArray *patches;     /* VhdxPatch */
    uint64_t end;        /* of what is used */
    GArray *free;        /* uint64_t: places of a block's size that nothing uses … */
    GArray *pending;     /* … and those that the map in the file still uses */
    bool one_table_bad;  /* of the two with regions */
} Vhdx;

static inline bool vhdx_is_guid(const uint8_t *at, const char *text)
{
    Uuid u;
    return uuid_parse_le(text, &u) && uuid_equal(uuid_load(at), u);
}

static inline void vhdx_store_guid(uint8_t *at, const char *text)
{
    Uuid u = {{0}};
    uuid_parse_le(text, &u);
    memcpy(at, u.bytes, sizeof(u.bytes));
}

static inline uint64_t vhdx_entry_index(const Vhdx *v, uint64_t block)
{
    return block + block / v->ratio;
}

static inline uint64_t vhdx_bitmap_index(const Vhdx *v, uint64_t chunk)
{
    return chunk * (v->ratio + 1) + v->ratio;
}

static inline uint64_t vhdx_entry(const Vhdx *v, uint64_t index)
{
    return load_le64(v->bat.data + index * 8);
}

/* Where a block or bitmap is; 0: nowhere. */
static inline uint64_t vhdx_place(uint64_t entry)
{
    return (entry & 7) >= VHDX_FULL ? entry >> 20 << 20 : 0;
}

/* vhdx_open.c */
ImageMap *vhdx_open(HostFile *file, const OpenParameters *parameters, GError **error);
void vhdx_close(ImageMap *map);
int vhdx_read(Vhdx *v, uint64_t offset, void *data, size_t size);
/* The next header goes where the older one is. Durable on return. */
int vhdx_write_header(Vhdx *v);
/* Both region tables say where the BAT is now. Durable on return. */
int vhdx_write_regions(Vhdx *v);
/* Learns what is free; false with an error where two things share a place. */
bool vhdx_survey(Vhdx *v, GError **error);
/* Entries that a BAT of so many blocks has. */
uint64_t vhdx_bat_entries(const Vhdx *v, uint64_t blocks);

/* vhdx_log.c */
/* Brings the file, or with `in_memory` what is read from it, up to date with the log. */
bool vhdx_replay(Vhdx *v, bool in_memory, GError **error);

/* vhdx.c */
int vhdx_commit(ImageMap *map);
int vhdx_zero(ImageMap *map, uint64_t offset, uint64_t length, bool discard, uint64_t *ret_done);
void vhdx_set_entry(Vhdx *v, uint64_t index, uint64_t place, unsigned state);
/* `size` bytes of zeros behind all that is used. */
int vhdx_extend(Vhdx *v, uint64_t size, uint64_t *ret_place);
/* Whether the sector's bit is set and how many sectors, at most `max`, are like it. */
int vhdx_count_bits(Vhdx *v, uint64_t sector, uint64_t max, bool cached, bool *ret_set,
                    uint64_t *ret_count);

/* vhdx_create.c */
extern const FormatOption vhdx_options[];
bool vhdx_create(HostFile *file, const CreateOptions *options, GError **error);
bool vhdx_resize(ImageMap *map, uint64_t size, GError **error);
bool vhdx_set_parent(ImageMap *map, const char *name, const char *format, const char *path,
                     GError **error);
