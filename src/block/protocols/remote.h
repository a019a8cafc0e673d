/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Files on other machines, behind the calls of host_file.h. A protocol is a module (base/module.h)
 * whose table fills RemoteApi; this is what all of them share: which address is whose, bytes at any
 * place where the server wants whole blocks, and where data are.
 *
 * Results are 0 or a negative errno: -ENOLINK when the server is gone, -ESTALE when the file there
 * is not the one that was opened, -EPROTO when an answer makes no sense.
 *
 * Threads: any. Of two calls at once that touch the same bytes, either may be first.
 */
#pragma once

#include <gio/gio.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

/* What a server has told when a file was opened. */
typedef struct RemoteInfo {
    uint64_t size;
    uint32_t block; /* places and sizes of calls are multiples of it, but at the end of the file */
    bool read_only;
} RemoteInfo;

typedef enum RemoteOp {
    REMOTE_READ,
    REMOTE_WRITE,
    REMOTE_ZERO,  /* -EOPNOTSUPP: this server can't */
    REMOTE_FLUSH, /* what was written before is on stable storage */
    REMOTE_STATUS,
} RemoteOp;

typedef struct RemoteCall RemoteCall;

/* The caller's again when `done` runs. */
struct RemoteCall {
    RemoteOp op;
    uint64_t offset, size;
    const struct iovec *iov; /* READ, WRITE: at least `size` bytes */
    int iov_count;
    bool durable; /* WRITE: on stable storage when done */
    bool keep;    /* ZERO: the space */
    /* STATUS: how far the answer for `offset` holds, and whether zeros are there. */
    uint64_t ret_length;
    bool ret_zero;
    /* On any thread, perhaps inside remote_submit(). */
    void (*done)(RemoteCall *call, int result);
    void *obj;
};

typedef struct RemoteApi {
    /*
     * NULL with an error that names the address. `fd`: a socket whose other end speaks the protocol
     * (taken, on failure, too), or -1.
     */
    void *(*open)(const char *address, int fd, bool read_only, RemoteInfo *ret_info,
                  GError **error);
    void (*close)(void *file); /* no call is under way */
    /* Protocols for reading alone have calls that wait … */
    int (*read)(void *file, uint64_t offset, void *data, size_t size);
    /* … others take any number at once; NULL: no writing, and data everywhere. */
    void (*submit)(void *file, RemoteCall *call);
} RemoteApi;

typedef struct RemoteFile RemoteFile;

/* nbd://…, https://… and the like. */
bool remote_is_address(const char *name);
RemoteFile *remote_open(const char *address, bool read_only, uint64_t *ret_size, GError **error);
/* At the other end of a socket (taken, on failure, too) that speaks NBD. */
RemoteFile *remote_open_socket(const char *name, int fd, bool read_only, uint64_t *ret_size,
                               GError **error);
/* NULL is allowed. No call is under way. */
void remote_close(RemoteFile *file);
/*
 * Any call but STATUS. What lies behind the end of the file is neither read nor written: the size
 * of the call is what was moved.
 */
void remote_submit(RemoteFile *file, RemoteCall *call);
/* The same, and waits. */
int remote_run(RemoteFile *file, RemoteCall *call);
/* Where data (or a hole) begin at or after `offset`; UINT64_MAX: nowhere. */
uint64_t remote_next(RemoteFile *file, uint64_t offset, bool hole);
