/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A disk as a device sees it: asynchronous reads, writes, flushes, discards and zeroing of bytes.
 *
 * Submitting never blocks; the work is done off the vCPU threads. Completions come on the main
 * loop with the board lock held, once for each request, in any order; a request submitted after
 * another has completed sees its effect. A request and its buffers belong to the disk from
 * submission to completion. Offsets and sizes are bytes, multiples of `sector_size`.
 */
#pragma once

#include <gio/gio.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "block/throttle.h"

typedef struct Disk Disk;
typedef struct DiskRequest DiskRequest;

typedef enum DiskOp {
    DISK_READ,
    DISK_WRITE,
    DISK_FLUSH,   /* what completed before is on stable storage afterwards */
    DISK_DISCARD, /* contents undefined (zero where the format can) */
    DISK_WRITE_ZEROES,
    DISK_MAP, /* fills `extents` with what the range holds */
} DiskOp;

/* How a part of a disk is kept. */
typedef struct DiskExtent {
    uint64_t length; /* bytes */
    bool zero;       /* reads as zeros */
    bool hole;       /* takes no space in any file of the chain */
} DiskExtent;

struct DiskRequest {
    DiskOp op;
    bool fua; /* DISK_WRITE: stable before completion */
    uint64_t offset;
    uint64_t size;
    struct iovec *iov; /* READ, WRITE: sums to size */
    int iov_count;
    DiskExtent *extents;   /* MAP: room for … */
    unsigned extent_count; /* … so many; on completion those that are filled, at least one */
    /* `error` is 0 or a positive errno. The request may be reused or freed inside. */
    void (*done)(DiskRequest *request, int error);
    void *obj;
    GList link; /* the disk's while submitted */
};

typedef struct DiskInfo {
    uint64_t size;        /* bytes */
    uint32_t sector_size; /* 512 unless the image says otherwise */
    bool read_only;
    const char *format; /* "qcow2" */
    const char *path;
} DiskInfo;

/* What happens to a request that the host fails. */
typedef enum DiskErrorPolicy {
    DISK_ERROR_REPORT, /* the device hears of it */
    DISK_ERROR_STOP,   /* the request is kept for disk_retry() */
    DISK_ERROR_IGNORE, /* as if it had gone well */
} DiskErrorPolicy;

/* Who else has the image. */
typedef enum DiskSharing {
    DISK_OWN,             /* nobody who writes, and for a writer nobody at all */
    DISK_SHARED,          /* others who write, too; only for images of fixed size */
    DISK_DIFFERENCE,      /* others who read: writes go to `difference` */
    DISK_DIFFERENCE_ANEW, /* the same; what it has from before is forgotten first */
} DiskSharing;

typedef struct DiskOptions {
    const char *format; /* NULL: probe; a raw disk then refuses writes that forge another format */
    const int *opened;  /* the file, open already (taken, on failure, too); NULL: opened by path */
    bool read_only;
    DiskSharing sharing;
    const char *difference;   /* made when it is missing; NULL: one without a name, for this time */
    const char *snapshot;     /* inside the image, read-only; NULL: what it is now */
    bool trust_names;         /* parents may be anywhere, not only beneath the image's folder */
    GBytes *key;              /* a passphrase for what is encrypted in the chain; NULL: none */
    DiskErrorPolicy on_full;  /* ENOSPC, EDQUOT, EFBIG of what is no read */
    DiskErrorPolicy on_error; /* its other errors */
    DiskErrorPolicy on_read_error; /* of reads */
    /* STOP only: called for each request that is kept, under the lock; may pause the machine. */
    void (*stopped)(void *obj, Disk *disk, DiskOp op, int error);
    void *stopped_obj;
    ThrottleLimits throttle;    /* of what moves data */
    Throttle *common_throttle;  /* that of several disks together, under their lock; NULL: none */
    struct HostIoHook *io_hook; /* tests watch and fail host calls through it (host_io.h); NULL */
} DiskOptions;

/*
 * Opens an image and locks it (OFD locks: shared for reading, exclusive for writing). Fails naming
 * the file and what to do: missing, no permission, in use by another VM, unknown format.
 * Completions come on `context` with `lock` held.
 */
Disk *disk_open(const char *path, const DiskOptions *options, GMainContext *context,
                GRecMutex *lock, GError **error);
/* Waits for requests in flight, fails those that are kept, flushes, unlocks. NULL is allowed. */
void disk_close(Disk *disk);
/* Other limits from now on. */
void disk_set_throttle(Disk *disk, const ThrottleLimits *limits);
/* Those of the common throttle are others. */
void disk_limits_changed(Disk *disk);
void disk_submit(Disk *disk, DiskRequest *request);
/* Requests submitted between these, which nest, go to the host together, which costs less. */
void disk_plug(Disk *disk);
void disk_unplug(Disk *disk);
/* Ends the requests that the host is done with; waits for nothing. */
void disk_poll(Disk *disk);
/*
 * Runs completions until nothing is in flight (and no throttle holds anything back), those included
 * that completions submit. For machine pause; with or without the lock (the host's part of the work
 * never needs it).
 */
void disk_drain(Disk *disk);
/* Tries again what DISK_ERROR_STOP kept, in its order. */
void disk_retry(Disk *disk);
/* How many requests are kept. */
unsigned disk_stopped_count(const Disk *disk);
const DiskInfo *disk_info(const Disk *disk);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Disk, disk_close)
