/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * qcow2 images, versions 2 and 3: what the parts of the driver share.
 *
 *   L1 table ──> L2 tables ──> clusters         (the map: header, l1[], l2_cache)
 *   refcount table ──> refcount blocks          (who uses each cluster: reftable[], ref_cache)
 *   snapshots: copies of the L1 table           (qcow2_snapshot.c)
 *
 * Invariants:
 * - A cluster's count in the file is never below its uses in the file: counts are written before
 *   the map that uses them and lowered after (qcow2_commit()).
 * - COPIED is set in an entry only if the count of what it names is 1.
 * - A cluster in `freed` is used by the file's map until the next commit, so it is not given out.
 *
 * Source: "Qcow2 Image File Format" (docs/interop/qcow2.txt).
 */
#pragma once

#include "base/bits.h"
#include "block/compress.h"
#include "block/format.h"
#include "block/table_cache.h"

#define QCOW2_MAGIC 0x514649fbu

#define QCOW2_COPIED      (UINT64_C(1) << 63)
#define QCOW2_COMPRESSED  (UINT64_C(1) << 62)
#define QCOW2_ZERO        UINT64_C(1)
#define QCOW2_OFFSET_MASK UINT64_C(0x00fffffffffffe00)

/* Incompatible features */
#define QCOW2_DIRTY            (UINT64_C(1) << 0)
#define QCOW2_CORRUPT          (UINT64_C(1) << 1)
#define QCOW2_DATA_FILE        (UINT64_C(1) << 2)
#define QCOW2_COMPRESSION_TYPE (UINT64_C(1) << 3)
#define QCOW2_EXTENDED_L2      (UINT64_C(1) << 4)
/* Compatible */
#define QCOW2_LAZY_REFCOUNTS (UINT64_C(1) << 0)
/* Autoclear */
#define QCOW2_BITMAPS       (UINT64_C(1) << 0)
#define QCOW2_RAW_DATA_FILE (UINT64_C(1) << 1)

/* Header extensions */
#define QCOW2_EXT_END           0u
#define QCOW2_EXT_PARENT_FORMAT 0xe2792acau
#define QCOW2_EXT_FEATURES      0x6803f857u
#define QCOW2_EXT_BITMAPS       0x23852875u
#define QCOW2_EXT_DATA_FILE     0x44415441u
#define QCOW2_EXT_CRYPT         0x0537be77u

/* Offsets in the header, all numbers big-endian */
enum {
    QCOW2_H_MAGIC = 0,
    QCOW2_H_VERSION = 4,
    QCOW2_H_PARENT_OFFSET = 8,
    QCOW2_H_PARENT_SIZE = 16,
    QCOW2_H_CLUSTER_BITS = 20,
    QCOW2_H_SIZE = 24,
    QCOW2_H_CRYPT = 32,
    QCOW2_H_L1_SIZE = 36,
    QCOW2_H_L1_OFFSET = 40,
    QCOW2_H_REFTABLE_OFFSET = 48,
    QCOW2_H_REFTABLE_CLUSTERS = 56,
    QCOW2_H_SNAPSHOT_COUNT = 60,
    QCOW2_H_SNAPSHOT_OFFSET = 64,
    QCOW2_H_V2_LENGTH = 72,
    QCOW2_H_INCOMPATIBLE = 72,
    QCOW2_H_COMPATIBLE = 80,
    QCOW2_H_AUTOCLEAR = 88,
    QCOW2_H_REFCOUNT_ORDER = 96,
    QCOW2_H_LENGTH = 100,
    QCOW2_H_COMPRESSION = 104,
    QCOW2_H_V3_LENGTH = 112,
};

typedef struct Qcow2Extension {
    uint32_t type;
    GBytes *data;
} Qcow2Extension;

/* A range of the file that the map in memory no longer uses. */
typedef struct Qcow2Freed {
    uint64_t offset, size;
} Qcow2Freed;

/* Entries of a table in memory that are ahead of the file. */
typedef struct Qcow2Range {
    uint64_t from, to; /* none when equal */
} Qcow2Range;

typedef struct Qcow2 {
    ImageMap map;
    HostFile *data_file; /* the image's own file unless external */
    bool external_data;
    char *data_file_name;
    uint32_t version, header_length;
    unsigned cluster_bits;
    uint64_t cluster_size;
    uint64_t incompatible, compatible, autoclear;
    uint8_t compression_type; /* 0 zlib, 1 zstd */
    GArray *extensions;       /* Qcow2Extension */
    uint64_t parent_offset;
    uint32_t crypt;    /* crypt_method */
    struct Luks *luks; /* NULL: not encrypted by it */
    uint64_t luks_offset, luks_size;

    unsigned sub_count; /* subclusters in a cluster: 32 with extended L2, else 1 */
    uint64_t sub_size;
    unsigned l2_bits; /* entries of an L2 table, log2 */
    unsigned l2_entry_size;
    uint64_t *l1; /* host byte order */
    uint32_t l1_size;
    uint64_t l1_offset;
    Qcow2Range l1_dirty;
    TableCache *l2_cache;

    unsigned refcount_order;
    unsigned ref_block_bits; /* counts in a block, log2 */
    uint64_t *reftable;      /* host byte order */
    uint32_t reftable_size;  /* entries */
    uint64_t reftable_offset;
    Qcow2Range reftable_dirty;
    TableCache *ref_cache;
    uint64_t free_hint;  /* no cluster before this one is free */
    GArray *freed;       /* Qcow2Freed */
    uint64_t packed_end; /* where the next packed cluster may begin; 0: in a new cluster */

    GPtrArray *bitmaps; /* once the image is written; NULL before */
    uint32_t snapshot_count;
    uint64_t snapshot_offset;
} Qcow2;

static inline uint64_t qcow2_clusters(const Qcow2 *q, uint64_t bytes)
{
    return (bytes + q->cluster_size - 1) >> q->cluster_bits;
}

static inline void qcow2_range_add(Qcow2Range *range, uint64_t from, uint64_t to)
{
    bool empty = range->from == range->to;
    range->from = empty ? from : MIN(range->from, from);
    range->to = empty ? to : MAX(range->to, to);
}

/* qcow2_header.c */
int qcow2_write_header_field(Qcow2 *q, unsigned offset, const void *data, size_t size);
int qcow2_set_incompatible(Qcow2 *q, uint64_t features);
int qcow2_set_autoclear(Qcow2 *q, uint64_t features);
/* Writes `count` numbers of a table from entry `from` on in the file's byte order. */
int qcow2_write_table(Qcow2 *q, uint64_t offset, const uint64_t *table, uint64_t from, uint64_t to);
/* True if the range touches the header, the L1 or the refcount table. */
bool qcow2_overlaps_tables(const Qcow2 *q, uint64_t offset, uint64_t size);
/* Before the first change of the image. */
int qcow2_begin_write(ImageMap *map);
bool qcow2_rewrite_header(Qcow2 *q, const char *parent, const char *parent_format, GError **error);

/* NULL: there is none. */
GBytes *qcow2_find_extension(const Qcow2 *q, uint32_t type);
/* In the place of others of its type. qcow2_rewrite_header() writes it. */
void qcow2_add_extension(Qcow2 *q, uint32_t type, const void *data, size_t size);

/* qcow2_crypt.c */
extern const FormatKeys qcow2_keys;
bool qcow2_open_crypt(Qcow2 *q, const OpenParameters *parameters, GError **error);
void qcow2_close_crypt(Qcow2 *q);
bool qcow2_check_crypt_options(const CreateOptions *options, const char *path, GError **error);
/* Gives a new image its encryption header, if the options ask for it. */
bool qcow2_create_crypt(Qcow2 *q, const CreateOptions *options, GError **error);
GVariant *qcow2_describe_crypt(const Qcow2 *q);

/* qcow2_bitmap.c */
/* Before the first change. */
int qcow2_bitmaps_begin(Qcow2 *q);
/* At closing. */
void qcow2_bitmaps_end(Qcow2 *q);
/* A disk of that size leaves them small enough. */
bool qcow2_bitmaps_allow(const Qcow2 *q, uint64_t disk_size);
int qcow2_bitmaps_resize(Qcow2 *q, uint64_t disk_size);
void qcow2_note_change(ImageMap *map, uint64_t offset, uint64_t length);
bool qcow2_copy_bitmaps(ImageMap *to, ImageMap *from, bool skip_broken, GError **error);
/* aa{sv}, or NULL: there are none. */
GVariant *qcow2_describe_bitmaps(const Qcow2 *q);

/* qcow2_refcount.c */
int qcow2_ref_get(Qcow2 *q, uint64_t cluster, uint64_t *ret_count);
int qcow2_ref_set(Qcow2 *q, uint64_t cluster, uint64_t count);
/* Adds 1 or -1 to every cluster that the range touches. */
int qcow2_ref_add(Qcow2 *q, uint64_t offset, uint64_t size, int delta);
/* As many of `wanted` clusters as lie together, at least one; counted once each. */
int qcow2_alloc(Qcow2 *q, uint64_t wanted, uint64_t *ret_offset, uint64_t *ret_count);
/* All of them together. */
int qcow2_alloc_all(Qcow2 *q, uint64_t count, uint64_t *ret_offset);
/* After the next commit the range is used once less. */
void qcow2_free_later(Qcow2 *q, uint64_t offset, uint64_t size);
int qcow2_release_freed(Qcow2 *q);
/* Tables of counts durable. */
int qcow2_commit_refs(Qcow2 *q);

/* qcow2_map.c */
int qcow2_lookup(ImageMap *map, uint64_t offset, uint64_t length, bool cached, Extent *extent);
int qcow2_allocate(ImageMap *map, uint64_t offset, uint64_t length, Allocation *a);
int qcow2_allocate_compressed(ImageMap *map, uint64_t offset, uint32_t stored_size, Allocation *a);
int qcow2_link(ImageMap *map, const Allocation *a);
void qcow2_release(ImageMap *map, const Allocation *a);
int qcow2_zero(ImageMap *map, uint64_t offset, uint64_t length, bool discard, uint64_t *ret_done);
int qcow2_forget(ImageMap *map, uint64_t offset, uint64_t length, uint64_t *ret_done);
int qcow2_commit(ImageMap *map);
/* Commits until nothing waits to be freed. */
int qcow2_commit_all(Qcow2 *q);
/* The place and size of a packed cluster. */
uint64_t qcow2_packed_offset(const Qcow2 *q, uint64_t entry, uint32_t *ret_size);

/* qcow2_create.c */
extern const FormatOption qcow2_options[];
bool qcow2_create(HostFile *file, const CreateOptions *options, GError **error);
bool qcow2_resize(ImageMap *map, uint64_t size, GError **error);
/* A copy of the L1 table with room for `size` entries becomes the table. Durable. */
int qcow2_switch_l1(Qcow2 *q, uint64_t *l1, uint32_t l1_size, uint64_t disk_size);

/* qcow2_snapshot.c */
extern const FormatSnapshots qcow2_snapshots;
typedef struct Qcow2Snapshot {
    SnapshotInfo info;
    uint64_t l1_offset;
    uint32_t l1_size;
    GBytes *unknown; /* extra data that this version does not know */
} Qcow2Snapshot;
/* Qcow2Snapshot *, owned; `ret_bytes` is the size of their table. */
GPtrArray *qcow2_read_snapshots(Qcow2 *q, uint64_t *ret_bytes, GError **error);
/* The L1 table of a snapshot, in host byte order. */
int qcow2_read_l1(Qcow2 *q, uint64_t offset, uint32_t size, uint64_t **ret_l1);

/* qcow2_check.c */
bool qcow2_check(ImageMap *map, bool repair, CheckResult *result, GError **error);
/* Sets COPIED where the count is 1 and clears it elsewhere; counts what was wrong. */
int qcow2_refresh_copied(Qcow2 *q, bool repair, uint64_t *ret_wrong);
