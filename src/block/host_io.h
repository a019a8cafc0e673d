/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The one way from disks to files of the host: reads, writes, syncs and space calls as asynchronous
 * requests, by io_uring, or by a pool of threads where the host forbids it or OSPITE_NO_URING=1 is
 * in the environment. Files on other machines are asked through remote.h.
 *
 * A test can put a hook before every call: to record it, to fail it, to cut it short or to hold it.
 *
 * Threads: submit from any thread (the lock is taken); completions run with the lock held, on the
 * context's thread or inside host_io_drain(). A completion never runs inside host_io_submit().
 */
#pragma once

#include <gio/gio.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "block/protocols/remote.h"

typedef struct HostIo HostIo;
typedef struct HostIoRequest HostIoRequest;
typedef struct HostIoHook HostIoHook;

typedef enum HostIoOp {
    HOST_IO_NOP,  /* completes with 0: for results that are known at once */
    HOST_IO_OPEN, /* never submitted: what a hook sees of host_io_open() */
    HOST_IO_READ,
    HOST_IO_WRITE, /* with `durable`: RWF_DSYNC */
    HOST_IO_SYNC,  /* fdatasync */
    HOST_IO_FALLOCATE,
    HOST_IO_TRUNCATE, /* never submitted: what a hook sees of host_file_truncate(), with `size` */
    HOST_IO_REPLACE,  /* never submitted: what a hook sees of host_file_replace() */
    HOST_IO_CALL,     /* runs `call` in a thread; no hook sees it, `result` is what it returns */
} HostIoOp;

/* The caller's from completion on, the layer's until then. */
struct HostIoRequest {
    HostIoOp op;
    int fd;
    RemoteFile *remote; /* instead of fd: on another machine */
    uint64_t offset;
    uint64_t size;     /* bytes: FALLOCATE's length; READ, WRITE: the sum of iov */
    struct iovec *iov; /* at most IOV_MAX */
    int iov_count;
    int mode; /* FALLOCATE: FALLOC_FL_… */
    bool durable;
    /* CALL: runs without the lock, on a thread of the layer's; one at a time for each layer. */
    int64_t (*call)(void *obj);
    /* `result`: bytes moved (may be short; 0 at the end of the file) or a negative errno. */
    void (*done)(HostIoRequest *request, int64_t result);
    void *obj;

    HostIo *io; /* the layer's own from here */
    int64_t result;
    int failure; /* a hook's */
    GList link;
};

/* A hook's verdict about one call, when it is neither a negative errno nor a size. */
enum { HOST_IO_RUN = 0, HOST_IO_HOLD = G_MAXINT };

struct HostIoHook {
    /*
     * Sees each call before the host does, with the lock held; calls of host_file.h, which wait,
     * come without it, but never at the same time as others of their image. HOST_IO_RUN lets it
     * run; a negative errno is its result and the host sees nothing; a positive n cuts a READ or
     * WRITE to n bytes; HOST_IO_HOLD keeps it until host_io_resume() (calls that wait can't be
     * held). Only op and mode count for HOST_IO_OPEN (`mode` holds the open flags).
     */
    int (*before)(HostIoHook *hook, HostIoRequest *request);
    /* Sees each result before the caller does; NULL: not wanted. */
    void (*after)(HostIoHook *hook, HostIoRequest *request, int64_t result);
};

/* open(2) with O_CLOEXEC. Returns a descriptor or a negative errno. `hook` may be NULL. */
int host_io_open(const char *path, int flags, HostIoHook *hook);

/* What the hook says of a call that is made at once: negative errno, or 0 (perhaps cut). */
int host_io_ask_hook(HostIoHook *hook, HostIoRequest *request);
void host_io_tell_hook(HostIoHook *hook, HostIoRequest *request, int64_t result);

/* The same for a server: what to ask, and what to make of its answer. */
RemoteCall host_io_remote_call(const HostIoRequest *request);
int64_t host_io_remote_result(const RemoteCall *call, int result);

/* Never fails: without io_uring there are threads. `hook` may be NULL. */
HostIo *host_io_new(GMainContext *context, GRecMutex *lock, HostIoHook *hook);
/* Waits for what is in flight. NULL is allowed. */
void host_io_free(HostIo *io);
void host_io_submit(HostIo *io, HostIoRequest *request);
/*
 * Between these (which nest) requests may be collected and handed to the host together. Nobody may
 * wait for them in between.
 */
void host_io_plug(HostIo *io);
void host_io_unplug(HostIo *io);
/* Runs the completions of what has finished; waits for nothing. */
void host_io_poll(HostIo *io);
/* Lets a held request go on to the host. */
void host_io_resume(HostIoRequest *request);
/* Runs completions until nothing is in flight. With or without the lock. */
void host_io_drain(HostIo *io);
/* "io_uring" or "threads". */
const char *host_io_backend(const HostIo *io);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(HostIo, host_io_free)
