/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * An opened disk image with the chain of its parents, and the engine that moves its data by calls
 * that wait. disk.h is the asynchronous front of the same engine.
 *
 * Offsets and sizes are bytes, in whole sectors, and lie within the disk. Results are 0 or a
 * negative errno.
 *
 * Threads: one at a time. The one that has the image has its parents, too.
 */
#pragma once

#include "block/format.h"
#include "block/iov_cursor.h"

typedef struct Image Image;

struct Image {
    HostFile *file;
    const FormatDriver *driver;
    ImageMap *map;
    Image *parent;
    GPtrArray *parts; /* Image *: this one is theirs, one after the other; NULL: it is a real one */
    uint64_t start;   /* as one of them: where it begins */
    char *path;
    bool read_only;
    bool guard_marks;    /* raw by probing: writes must not make it another format's image */
    bool write_begun;    /* begin_write was called */
    bool shared;         /* others write to the same file: the map must stay as it is */
    uint8_t *sectors;    /* room for encrypted data on their way; NULL until needed */
    uint8_t *unit;       /* an unpacked unit … */
    HostFile *unit_file; /* … and which one: NULL none */
    uint64_t unit_offset;
};

typedef struct ImageOptions {
    const char *format; /* NULL: probe */
    const int *opened;  /* the image's file, open already (taken, on failure, too); NULL: by path */
    bool read_only;
    bool shared;          /* for writing, while others write: refused where the map could change */
    bool trust_names;     /* names inside images may lead anywhere */
    const char *snapshot; /* show this snapshot inside the image; read-only. NULL: the disk */
    bool only_look;       /* read the header alone, open no other file (`info`) */
    bool no_parents;      /* open this image only (`info`, `check`) */
    bool ignore_damage;   /* open for writing though it needs repair (`check`) */
    bool no_sync;         /* flushes promise nothing: a crash of the host may leave garbage */
    bool keeps_locked;    /* don't ask for the key of an encrypted image (`check`) */
    GBytes *key;          /* a passphrase for what is encrypted in the chain; NULL: none */
    HostIoHook *io_hook;
} ImageOptions;

/* Opens and locks an image and, read-only, its parents. */
Image *image_open(const char *path, const ImageOptions *options, GError **error);
/*
 * Images one after the other as one, whose places image_status() tells, for copying; nothing else
 * works on it. Takes the images, which are opened read-only.
 */
Image *image_join(GPtrArray *images);
/* That a call failed with this result is for a server that it, or something it stands on, is on. */
bool image_blames_server(const Image *image, int result);
/* Commits, closes and unlocks. NULL is allowed. */
void image_close(Image *image);

/*
 * Makes an image. `format` is a driver's name. `options` are name=value texts, NULL-terminated or
 * NULL. `parent` is written into the image as given and found from the image's folder;
 * its size is the default for `size` (UINT64_MAX: not given).
 */
typedef struct ImageCreate {
    const char *format;
    uint64_t size;
    const char *parent;
    const char *parent_format; /* NULL: probe */
    const char *const *options;
    GBytes *key;           /* for an encrypted image; NULL: none */
    bool unchecked_parent; /* don't open the parent: size and parent_format are given */
    bool no_sync;          /* it need not be durable on return */
    /* Hears NULL before each file is made, and its path when it is there; NULL. */
    void (*made)(void *obj, const char *path);
    void *obj;
    HostIoHook *io_hook;
} ImageCreate;
bool image_create(const char *path, const ImageCreate *create, GError **error);

int image_readv(Image *image, uint64_t offset, uint64_t size, IovCursor *to);
int image_writev(Image *image, uint64_t offset, uint64_t size, IovCursor *from);
int image_read(Image *image, uint64_t offset, void *data, size_t size);
int image_write(Image *image, uint64_t offset, const void *data, size_t size);
int image_write_zeros(Image *image, uint64_t offset, uint64_t size);
/* Contents are undefined afterwards (the parent's never show through). */
int image_discard(Image *image, uint64_t offset, uint64_t size);
/* Everything written is on stable storage afterwards. */
int image_flush(Image *image);
/*
 * Changes the size of the disk. What is behind a smaller end is gone, and what comes behind a
 * larger one reads as zeros, whatever a parent has there.
 */
bool image_resize(Image *image, uint64_t size, GError **error);
/*
 * Forgets everything that the image itself has, durably: the disk is its parent's, which has the
 * same there already (image_commit()). -ENOTSUP where the format can't.
 */
int image_forget(Image *image);
/* One packed unit at a unit's start; -ENOTSUP where the format has none. */
int image_write_compressed(Image *image, uint64_t offset, uint8_t *stored, uint32_t size);

/* How bytes are kept, for `map`, `convert` and `compare`. */
typedef struct ImageStatus {
    bool zero; /* reads as zeros, known without reading */
    bool data; /* is in a file of the chain */
    bool compressed;
    bool present;   /* in some image of the chain */
    int depth;      /* of the image that answers: 0 the top */
    HostFile *file; /* data: where; NULL: packed or nowhere */
    uint64_t host_offset;
    uint64_t length;
    struct Image *owner; /* the image of the chain that answers … */
    Extent extent;       /* … and what it says */
} ImageStatus;
/* `look_in_files`: holes of the host's files count as zeros. */
int image_status(Image *image, uint64_t offset, uint64_t size, bool look_in_files,
                 ImageStatus *ret_status);

/*
 * The three that follow let several threads move data while one at a time asks the map.
 *
 * Reads bytes whose place image_status() told, DATA or COMPRESSED; `offset` is the disk's. `packed`
 * has room for 3 units of the owner, for what is COMPRESSED. Any thread; one at a time where the
 * image is encrypted.
 */
int image_read_extent(Image *owner, uint64_t offset, uint64_t size, const Extent *extent,
                      uint8_t *packed, void *data);
/*
 * Gives bytes a place and enters it in the map at once: the caller writes them before the next
 * flush. For new images without a parent, which are thrown away when that fails. What is around the
 * bytes in their unit is zeros. `ret_extent` is DATA, and may be shorter.
 */
int image_place(Image *image, uint64_t offset, uint64_t size, Extent *ret_extent);
/* Writes bytes to their place. Any thread. */
int image_write_extent(Image *image, uint64_t offset, uint64_t size, const Extent *extent,
                       const void *data);

/*
 * What can be done at once: DATA (whose file and place the extent names, writable or not) or ZERO;
 * -EAGAIN when it takes a call that may wait. Parents are followed for reading only.
 */
int image_find(Image *image, uint64_t offset, uint64_t size, bool for_write, Extent *ret_extent);

/* The map wants to hear of zeroed and discarded ranges. */
bool image_map_can_zero(const Image *image);

/* A guest must not turn its probed raw disk into another format's image (SAFETY §2). */
bool image_forges_mark(const Image *image, uint64_t offset, uint64_t size, const IovCursor *from);

/*
 * Resolves a name found in an image at `path`. Without `trust` only names of files in or below the
 * image's folder pass. Opens nothing. NULL with an error otherwise.
 */
char *image_resolve_name(const char *path, const char *name, bool trust, GError **error);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Image, image_close)
