/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A folder of a few large files, shown to the host's programs through FUSE: the module `fuse`,
 * which stands on libfuse3. What the files hold comes from calls of whoever mounts them.
 *
 * Calls return 0 or a negative errno. Offsets and sizes are bytes and lie within the file.
 *
 * Threads: one.
 */
#pragma once

#include <gio/gio.h>
#include <stdbool.h>
#include <stdint.h>

typedef enum FuseFileKind { FUSE_FILE, FUSE_LINK, FUSE_FOLDER } FuseFileKind;

typedef struct FuseFile {
    FuseFileKind kind;
    const char *name;
    const char *target; /* LINK */
    uint64_t size;      /* FILE */
} FuseFile;

typedef struct FuseSpec {
    const char *folder; /* an empty one */
    const char *source; /* what mount(8) shows */
    bool writable;
    const FuseFile *files;
    unsigned count;
    int (*read)(void *obj, unsigned file, uint64_t offset, void *data, size_t size);
    int (*write)(void *obj, unsigned file, uint64_t offset, const void *data, size_t size);
    /* Reads as zeros afterwards, and takes no space where that can be. */
    int (*zero)(void *obj, unsigned file, uint64_t offset, uint64_t size);
    int (*flush)(void *obj);
    /* Where data or, with `hole`, a hole begins at or after `offset`; -ENXIO: nowhere. */
    int (*seek)(void *obj, unsigned file, uint64_t offset, bool hole, uint64_t *ret);
    void *obj;
} FuseSpec;

typedef struct FuseMount FuseMount;

/* The extended attribute of the folder that names the process behind it. */
#define FUSE_PID_ATTRIBUTE "user.ospite.pid"
/* The kind of file system, as /proc/mounts has it. */
#define FUSE_TYPE "fuse.ospite"

typedef struct FuseApi {
    /* The spec stays the caller's, until unmount(). */
    FuseMount *(*mount)(const FuseSpec *spec, GError **error);
    /* Readable when there is something to serve. */
    int (*get_fd)(FuseMount *mount);
    /* Serves what is there; false when the folder was unmounted. */
    bool (*serve)(FuseMount *mount);
    /* Unmounts what is mounted still. */
    void (*unmount)(FuseMount *mount);
    /* In the process that shall not serve, after fork(): leaves the mount alone. */
    void (*forget)(FuseMount *mount);
} FuseApi;
