/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A disk image format is a map from the disk's bytes to the file's (DESIGN §4.5).
 *
 * A driver recognizes its format, reads its metadata, answers where bytes are, gives bytes a place
 * and makes its metadata durable in a crash-safe order. It never moves the guest's data: the engine
 * (image_io.c) does, for every format alike. What a driver cannot do is a NULL entry with the
 * default written beside it.
 *
 * The life of a first write: `allocate` reserves a place, the engine writes the data there (with
 * copied head and tail), `link` enters the place in the map in memory, `commit` (a flush) makes
 * first space accounting and data durable, then the map.
 *
 * Calls that can fail return 0 or a negative errno, or false with a GError.
 *
 * Threads: one at a time, as the image says (image.h).
 */
#pragma once

#include <gio/gio.h>
#include <stdbool.h>
#include <stdint.h>

#include "block/cipher.h"
#include "block/formats/uuid.h"
#include "block/host_file.h"

/* What a probe sees: the first and the last bytes of the file. */
#define PROBE_HEAD_SIZE 4096
#define PROBE_TAIL_SIZE 512

/* The most memory that one image's metadata may take (SAFETY §2). */
#define FORMAT_METADATA_MAX (64u << 20)
/* No disk is larger: sums of two sizes never overflow. */
#define FORMAT_SIZE_MAX (UINT64_C(1) << 62)

typedef struct ProbeData {
    uint8_t head[PROBE_HEAD_SIZE]; /* zeros beyond the end of a short file */
    uint8_t tail[PROBE_TAIL_SIZE];
    uint64_t file_size;
} ProbeData;

/* A format's knowledge about one open image; drivers embed it first. */
typedef struct ImageMap {
    uint64_t size;        /* of the disk, bytes, whole sectors */
    uint32_t sector_size; /* bytes */
    uint32_t unit_size;   /* bytes: the cluster, grain or block; 0: there are none */
    HostFile *file;       /* the image's; not owned */
    bool dirty;           /* the map in memory is ahead of the file: a flush needs `commit` */
    bool packs_only;      /* new data are always stored packed, by whole units */
    bool many_files;      /* data lie in other files, too: a flush needs `commit` */
    bool needs_repair;    /* left open by a crash: `check` with repair comes before writing */
    bool tracks_changes;  /* `note_change` wants to hear of every one */
    bool keeps_contents;  /* the disk will read as before: `begin_write` needn't tell children */
    bool encrypted;
    Cipher *cipher;       /* of the data that are not packed; NULL: none, or no key. Owned */
    bool begins_as_noise; /* a new image does not read as zeros */
    bool cipher_by_place; /* sectors are numbered by their place in the file, not on the disk */
    /* How far a long call (`check`, `resize`) is, from 0 to 1; NULL: nobody asks. */
    void (*progress)(void *obj, double part);
    void *progress_obj;
    const char *warning; /* what whoever uses it must know; NULL: nothing. Static */
    char *parent_name;   /* as the image says; NULL: it has no parent. Owned */
    bool parent_found;   /* the driver found it by its UUID: it may be outside of the folder */
    char *parent_format; /* NULL: the image doesn't say. Owned */
} ImageMap;

typedef enum ExtentKind {
    EXTENT_DATA,       /* at host_offset in `file` */
    EXTENT_ZERO,       /* zeros that are nowhere */
    EXTENT_ABSENT,     /* what the parent has there; zeros without one */
    EXTENT_COMPRESSED, /* part of a unit that is stored packed at host_offset in `file` */
} ExtentKind;

typedef struct Extent {
    ExtentKind kind;
    bool writable; /* DATA: may be overwritten where it is */
    HostFile *file;
    uint64_t host_offset; /* what lies past the end of the file reads as zeros */
    uint64_t length;      /* bytes from the asked offset that have this answer; never 0 */
    uint32_t stored_size; /* COMPRESSED: bytes to read for the unit; at most 2 * unit_size */
} Extent;

/* A place that is reserved for bytes of the disk, before the map knows it. */
typedef struct Allocation {
    uint64_t offset; /* the part of the disk whose bytes must all be written … */
    uint64_t length;
    HostFile *file; /* … and where */
    uint64_t host_offset;
    bool reads_zero; /* the place reads as zeros already */
    bool compressed; /* made by allocate_compressed: stored_size bytes for one unit */
    uint32_t stored_size;
    uint64_t cookie; /* the driver's */
} Allocation;

typedef struct OpenParameters {
    bool read_only;
    bool trust_names;   /* names inside the image may lead anywhere */
    bool ignore_damage; /* for `check`: open what is marked as damaged, too */
    bool only_look;     /* open no other file than this one (`info`) */
    bool no_sync;       /* as HostFile's */
    bool keeps_locked;  /* don't ask for the key: the data stay out of reach */
    GBytes *key;        /* a passphrase; NULL: none. Not owned */
    HostIoHook *io_hook;
} OpenParameters;

/* What a driver can be told at creation. A default of NULL is none. */
typedef struct FormatOption {
    const char *name;
    const char *initial;
    const char *help;
} FormatOption;

typedef struct CreateOptions {
    uint64_t size;             /* bytes, whole sectors */
    const char *parent;        /* as the image shall name it; NULL: none */
    const char *parent_path;   /* where it is from here */
    const char *parent_format; /* of a parent; always known */
    GHashTable *values;        /* name → text, defaults filled in; format_option() */
    bool no_sync;              /* it need not be durable */
    void (*made)(void *obj, const char *path); /* see ImageCreate */
    void *obj;
    GBytes *key; /* for an encrypted image; NULL: none */
    HostIoHook *io_hook;
} CreateOptions;

typedef struct CheckResult {
    uint64_t corruptions, leaks; /* found and left */
    uint64_t corruptions_fixed, leaks_fixed;
    uint64_t errors; /* what could not be checked */
    uint64_t total_units, allocated_units, fragmented_units, compressed_units;
    uint64_t end_offset;
    GPtrArray *messages; /* char *, the first hundred */
} CheckResult;

typedef struct SnapshotInfo {
    char *id, *name;
    uint64_t vm_state_size;
    uint64_t disk_size;
    int64_t date_s; /* since 1970, UTC */
    uint32_t date_ns;
    uint64_t vm_clock_ns;
    uint64_t icount; /* UINT64_MAX: unknown */
} SnapshotInfo;

/* Snapshots inside an image. A tag is an identifier or a name. */
typedef struct FormatSnapshots {
    GPtrArray *(*list)(ImageMap *map); /* SnapshotInfo *, owned by the array */
    bool (*create)(ImageMap *map, const char *name, GError **error);
    bool (*apply)(ImageMap *map, const char *tag, GError **error);
    bool (*remove)(ImageMap *map, const char *tag, GError **error);
    /* Shows the snapshot's disk instead of the current one, in an image opened read-only. */
    bool (*load)(ImageMap *map, const char *tag, GError **error);
} FormatSnapshots;

/* The passphrases of an image that was opened with one of them. Durable on return. */
typedef struct FormatKeys {
    bool (*add)(ImageMap *map, GBytes *key, const char *iteration_ms, GError **error);
    bool (*erase)(ImageMap *map, unsigned slot, GError **error);
} FormatKeys;

typedef struct FormatDriver {
    const char *name;
    /* NULL: never chosen by content (raw, which is what remains). */
    bool (*probe)(const ProbeData *data);
    const FormatOption *options; /* ends with a NULL name; NULL: none */
    /* Fills an empty file. Durable on return. NULL: images can't be made. */
    bool (*create)(HostFile *file, const CreateOptions *options, GError **error);
    /* Reads the metadata. The map keeps the file but does not own it. */
    ImageMap *(*open)(HostFile *file, const OpenParameters *parameters, GError **error);
    /* Drops what was not committed. */
    void (*close)(ImageMap *map);
    /*
     * Where the byte at `offset` is, and how far the answer holds; offset < size. Nobody cares for
     * what lies `length` or more behind it: looking there would make small requests slow. With
     * `cached`, -EAGAIN instead of reading from the host.
     */
    int (*lookup)(ImageMap *map, uint64_t offset, uint64_t length, bool cached, Extent *ret_extent);
    /* Before the first change of an opened image. NULL: nothing to do. */
    int (*begin_write)(ImageMap *map);
    /*
     * Hears of bytes that are about to change, if `tracks_changes` says so. Takes no time. NULL:
     * nobody wants to know.
     */
    void (*note_change)(ImageMap *map, uint64_t offset, uint64_t length);
    /*
     * Reserves a place for the bytes from `offset` on: as many of `length` as lie together, with
     * what must be written around them. NULL: every byte has its place.
     */
    int (*allocate)(ImageMap *map, uint64_t offset, uint64_t length, Allocation *ret_allocation);
    /* The data are written: the map may know the place. */
    int (*link)(ImageMap *map, const Allocation *allocation);
    /* The data could not be written: the place is free again. NULL: it is lost until a check. */
    void (*release)(ImageMap *map, const Allocation *allocation);
    /*
     * Makes whole units from `offset` on zero by the map alone, or, with `discard`, gives them up
     * (their contents are undefined). Tells how far it came; -ENOTSUP: the data must be zeroed.
     */
    int (*zero)(ImageMap *map, uint64_t offset, uint64_t length, bool discard, uint64_t *ret_done);
    /*
     * Forgets what the image itself has in the units from `offset` on, those that the end cuts
     * included: the parent's bytes show through. Tells how far it came. NULL: it can't.
     */
    int (*forget)(ImageMap *map, uint64_t offset, uint64_t length, uint64_t *ret_done);
    bool leaves_space; /* `forget` gives nothing back to the host: the engine does */
    /* Makes everything durable: data, then map (SAFETY §5). NULL: the file is synced. */
    int (*commit)(ImageMap *map);
    /* Unpacks a unit of unit_size bytes from stored_size bytes. Any thread. */
    int (*decompress)(const ImageMap *map, const Extent *extent, const uint8_t *stored,
                      uint8_t *unit);
    /*
     * Packs a unit of unit_size bytes into `stored` (2 * unit_size bytes); its size, or 0 when it
     * does not shrink. Any thread. NULL: compressed writing is not supported.
     */
    size_t (*compress)(const ImageMap *map, const uint8_t *unit, uint8_t *stored);
    /* Notes in the packed unit where it belongs. NULL: it need not know. */
    void (*mark_packed)(const ImageMap *map, uint64_t offset, uint8_t *stored);
    int (*allocate_compressed)(ImageMap *map, uint64_t offset, uint32_t stored_size,
                               Allocation *ret_allocation);
    bool (*resize)(ImageMap *map, uint64_t size, GError **error);
    /* Finds (and mends) what contradicts itself. NULL: nothing can. */
    bool (*check)(ImageMap *map, bool repair, CheckResult *result, GError **error);
    /* Names another parent, or none. Durable on return. */
    bool (*set_parent)(ImageMap *map, const char *name, const char *format, const char *path,
                       GError **error);
    /* NULL, or why the parent that was opened is not the one this image was made over. */
    char *(*doubt_parent)(ImageMap *map, const ImageMap *parent, const struct FormatDriver *driver);
    /*
     * Gives the image, which has none, the dirty bitmaps of another one of this format; those that
     * nobody may believe any more are left out, or are an error. Durable on return. NULL: its
     * images have none.
     */
    bool (*copy_bitmaps)(ImageMap *map, ImageMap *from, bool skip_broken, GError **error);
    /* Gives the image another identity. Durable on return. NULL: its images have none. */
    bool (*set_uuid)(ImageMap *map, Uuid uuid, GError **error);
    const FormatSnapshots *snapshots;
    const FormatKeys *keys; /* NULL: it knows no encryption with several keys */
    /* Adds what is particular to the format. */
    void (*describe)(const ImageMap *map, GVariantDict *details);
} FormatDriver;

/* By name ("raw", and the names that other products use), or NULL with an error that lists them. */
const FormatDriver *format_find(const char *name, GError **error);
/* By content. Fails for the images of other products that have no driver here, by their name. */
const FormatDriver *format_probe(const ProbeData *data, const char *path, GError **error);
/* True when bytes at `offset` of a raw disk would make it look like another format's image. */
bool format_is_mark(const void *data, size_t size, uint64_t offset, uint64_t disk_size);
/* All drivers, NULL at the end. */
const FormatDriver *const *format_drivers(void);

/* Makes an empty file, or empties one, as the options say. */
HostFile *format_create_file(const char *path, const CreateOptions *options, GError **error);
/* The text of an option; NULL: not given and without a default. */
const char *format_option(const CreateOptions *options, const char *name);
bool format_option_is_on(const CreateOptions *options, const char *name);
/* A size in bytes with K, M, G, T, P or E; false: it is none. */
bool format_parse_size(const char *text, uint64_t *ret_size);

/* Numbers of a header against what is allowed. */
typedef struct FormatLimit {
    const char *name; /* "refcount_order" */
    uint64_t value, min, max;
    uint64_t alignment; /* 0: any */
} FormatLimit;
bool format_check_limits(const char *path, const FormatLimit *limits, size_t count, GError **error);
/* Sets an error about a bad or unsupported image at `path`; returns false. */
bool format_fail(GError **error, const char *path, const char *format, ...) G_GNUC_PRINTF(3, 4);
/* The same for a host call that failed with a negative errno. */
bool format_fail_io(GError **error, const char *path, const char *doing, int result);

void check_result_add(CheckResult *result, const char *format, ...) G_GNUC_PRINTF(2, 3);
void snapshot_info_free(SnapshotInfo *info);
/* Tells `progress` that `done` of `all` steps of one of several `phases` are over. */
void image_map_tell_progress(const ImageMap *map, unsigned phase, unsigned phases, uint64_t done,
                             uint64_t all);
/* Clears what every ImageMap owns. */
void image_map_clear(ImageMap *map);
/* Forgets the parent's names and takes copies of these. */
void image_map_name_parent(ImageMap *map, const char *name, const char *format);
/*
 * A name in an image as a program elsewhere wrote it, for here: with slashes, and what is absolute
 * on Windows, or is not there, is looked for beside the image at `path`. Free it.
 */
char *format_name_here(const char *path, const char *name);
/* Is there a file with that name, if it counts from the folder of the image at `path`? */
bool format_is_beside(const char *path, const char *name);
/* Sets the error of an encrypted image that is opened without a key; returns false. */
bool format_fail_locked(GError **error, const char *path);
/* The encryption of qcow and of old qcow2 images (qcow2_crypt.c). */
bool format_open_old_aes(ImageMap *map, const OpenParameters *parameters, GError **error);

extern const FormatDriver raw_format, qcow_format, qcow2_format, vdi_format, vhd_format,
    vhdx_format, vmdk_format, luks_format;
