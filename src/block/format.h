/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A disk image format is a map from the disk's bytes to the file's (DESIGN §4.5).
 *
 * A driver recognizes its format, reads its metadata and answers where bytes are. It never moves
 * the guest's data: the engine (disk.c) does, for every format alike. What a driver cannot do is a
 * NULL entry with the default written beside it.
 *
 * Threads: all calls come with the disk's lock held.
 */
#pragma once

#include <gio/gio.h>
#include <stdbool.h>
#include <stdint.h>

/* What a probe sees: the first and the last bytes of the file. */
#define PROBE_HEAD_SIZE 4096
#define PROBE_TAIL_SIZE 512

typedef struct ProbeData {
    uint8_t head[PROBE_HEAD_SIZE]; /* zeros beyond the end of a short file */
    uint8_t tail[PROBE_TAIL_SIZE];
    uint64_t file_size;
} ProbeData;

/* A format's knowledge about one open image; drivers embed it first. */
typedef struct ImageMap {
    uint64_t size;        /* of the disk, bytes, whole sectors */
    uint32_t sector_size; /* bytes */
} ImageMap;

/*
 * The answer of a lookup: these bytes are in the file. Formats with holes add what else the answer
 * can be (zero, compressed, absent: ask the parent) as a kind beside it.
 */
typedef struct Extent {
    uint64_t host_offset; /* in the image file; what lies past its end reads as zeros */
    uint64_t length;      /* bytes from the asked offset that have this answer; never 0 */
} Extent;

typedef struct FormatDriver {
    const char *name;
    /* NULL: never chosen by content (raw, which is what remains). */
    bool (*probe)(const ProbeData *data);
    /* Reads the metadata of the file of `file_size` bytes. */
    ImageMap *(*open)(int fd, uint64_t file_size, const char *path, GError **error);
    void (*close)(ImageMap *map);
    /*
     * Where the byte at `offset` is, and how far the answer holds; offset < size. A format that
     * gives bytes their place as they are first written does so in an `allocate` entry beside this
     * one, and makes its map durable in `commit`; raw has neither.
     */
    Extent (*lookup)(ImageMap *map, uint64_t offset);
} FormatDriver;

/* By name ("raw"), or NULL with an error that lists the names. */
const FormatDriver *format_find(const char *name, GError **error);
/* By content. Fails for the images of other products that have no driver here, by their name. */
const FormatDriver *format_probe(const ProbeData *data, const char *path, GError **error);

extern const FormatDriver raw_format;
