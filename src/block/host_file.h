/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One file of an image: opened, locked, and read, written and synced by calls that wait. It is one
 * of the host's, or, where its path is an address (remote.h), one on another machine.
 *
 * Formats keep their metadata through it; the engine moves data through it where it may wait, and
 * through host_io.h where it may not. Every call passes the same hook as the asynchronous layer.
 *
 * Results are 0 or a negative errno. Offsets and sizes are bytes.
 *
 * Threads: one at a time, as the image that owns the file says; but reads, and writes of ranges
 * that nobody else uses, from any thread.
 */
#pragma once

#include "block/host_io.h"
#include "block/protocols/remote.h"

typedef struct HostFile {
    int fd; /* -1: on another machine */
    RemoteFile *remote;
    char *path;
    HostIoHook *hook;
    bool read_only;
    bool no_sync;     /* nothing is promised to survive a crash: syncs do nothing */
    uint64_t size;    /* what the file has grown to */
    uint64_t written; /* counts changes that completed … */
    uint64_t synced;  /* … and how many of them are known to be on stable storage */
    int sync_error;   /* positive errno of the first sync that failed: sticky (SAFETY §5.5) */
    int zero_method;  /* how this file zeroes ranges: see host_file_zero_mode() */
    uint64_t data_start, data_end; /* no hole was between them … */
    uint64_t data_written;         /* … when `written` was this */
} HostFile;

/*
 * Opens and locks (locks.h) a regular file or block device. Fails naming the file and what to do.
 * `hook` may be NULL.
 */
HostFile *host_file_open(const char *path, bool read_only, HostIoHook *hook, GError **error);
/*
 * The same for a file that is open already (taken, on failure, too), or for a socket at whose other
 * end it is exported over NBD; `path` is for messages.
 */
HostFile *host_file_open_fd(const char *path, int fd, bool read_only, HostIoHook *hook,
                            GError **error);
/* For writing, together with others who open it so. */
HostFile *host_file_open_shared(const char *path, HostIoHook *hook, GError **error);
/* Creates an empty file, or empties one that nobody has open, and locks it for writing. */
HostFile *host_file_create(const char *path, HostIoHook *hook, GError **error);
/* NULL is allowed. Doesn't sync. */
void host_file_close(HostFile *file);

/* What lies past the end of the file reads as zeros. */
int host_file_read(HostFile *file, uint64_t offset, void *data, size_t size);
int host_file_write(HostFile *file, uint64_t offset, const void *data, size_t size);
/* The vectors are changed by the call. */
int host_file_readv(HostFile *file, uint64_t offset, struct iovec *iov, int count);
int host_file_writev(HostFile *file, uint64_t offset, struct iovec *iov, int count);
/* True when ranges of whole blocks of `from` can be shared with `to`. Never where a hook looks. */
bool host_file_can_clone(const HostFile *from, const HostFile *to);
/* Makes a range of `to` share the host's blocks with one of `from`; -EOPNOTSUPP: not this one. */
int host_file_clone(HostFile *from, uint64_t from_offset, HostFile *to, uint64_t to_offset,
                    uint64_t size);
/* Copies inside the host, without our memory; -EOPNOTSUPP where that can't be done. */
int host_file_copy(HostFile *from, uint64_t from_offset, HostFile *to, uint64_t to_offset,
                   uint64_t size);
/*
 * New bytes are about to be written here. ext4 looks for space block by block, which takes longer
 * than copying the bytes; where that helps, all of it is taken at once. Contents and size stay, and
 * nothing is lost when it fails: the write tells.
 */
void host_file_reserve(const HostFile *file, uint64_t offset, uint64_t size);
/* Zeroes a range, giving its space back to the host where that works. */
int host_file_zero(HostFile *file, uint64_t offset, uint64_t size);
/* Gives space back; contents are undefined afterwards. Never fails for want of support. */
int host_file_discard(HostFile *file, uint64_t offset, uint64_t size);
/* Grows (with zeros) or cuts the file. */
int host_file_truncate(HostFile *file, uint64_t size);
/*
 * The file has these contents instead, durably, at once or not at all: by a rename, where that can
 * be. What was made in its folder before is durable, too.
 */
int host_file_replace(HostFile *file, const void *data, size_t size);
/* Everything written is on stable storage afterwards; sticky when it fails. */
int host_file_sync(HostFile *file);
/*
 * A sync of the file failed with `result`. A server that was away has lost nothing by that: what it
 * had not yet made stable is sent again (nbd_client.c), so that a later sync may well succeed.
 */
void host_file_sync_failed(HostFile *file, int result);
/* Where data begin at or after `offset`; UINT64_MAX: nowhere. Holes may be hidden. */
uint64_t host_file_next_data(HostFile *file, uint64_t offset);
/* Where the data that `offset` is in end. */
uint64_t host_file_next_hole(HostFile *file, uint64_t offset);

/* The fallocate(2) mode that zeroes ranges of this file best; 0: write zeros. */
int host_file_zero_mode(const HostFile *file);
/* That mode was refused: take the next one. */
void host_file_zero_refused(HostFile *file, int mode);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(HostFile, host_file_close)
