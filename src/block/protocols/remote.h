/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Files on other machines, behind the calls of host_file.h. A protocol is a module (base/module.h)
 * whose table fills RemoteApi; this is what all of them share: which address is whose, bytes at any
 * place where the server wants whole blocks, and where data are.
 *
 * Results are 0 or a negative errno: -ENOLINK when the server is gone, -ESTALE when the file there
 * is not the one that was opened.
 *
 * Threads: reads from any; everything else one at a time.
 */
#pragma once

#include <gio/gio.h>
#include <stdbool.h>
#include <stdint.h>

/* What a server has told when a file was opened. */
typedef struct RemoteInfo {
    uint64_t size;
    uint32_t block; /* places and sizes of calls are multiples of it, but at the end of the file */
    bool read_only;
} RemoteInfo;

typedef struct RemoteApi {
    /* NULL with an error that names the address. */
    void *(*open)(const char *address, bool read_only, RemoteInfo *ret_info, GError **error);
    void (*close)(void *file);
    int (*read)(void *file, uint64_t offset, void *data, size_t size);
    /* NULL where the protocol is for reading only, as are those that follow. */
    int (*write)(void *file, uint64_t offset, const void *data, size_t size);
    /* -EOPNOTSUPP: this server can't. `keep` its space. */
    int (*zero)(void *file, uint64_t offset, uint64_t size, bool keep);
    int (*flush)(void *file);
    /* How far the answer for `offset` holds, and whether zeros are there. NULL: data everywhere. */
    int (*status)(void *file, uint64_t offset, uint64_t size, uint64_t *ret_length, bool *ret_zero);
} RemoteApi;

typedef struct RemoteFile RemoteFile;

/* nbd://…, https://… and the like. */
bool remote_is_address(const char *name);
RemoteFile *remote_open(const char *address, bool read_only, uint64_t *ret_size, GError **error);
/* NULL is allowed. */
void remote_close(RemoteFile *file);
/* Within the file. */
int remote_read(RemoteFile *file, uint64_t offset, void *data, size_t size);
int remote_write(RemoteFile *file, uint64_t offset, const void *data, size_t size);
int remote_zero(RemoteFile *file, uint64_t offset, uint64_t size, bool keep);
int remote_flush(RemoteFile *file);
/* Where data (or a hole) begin at or after `offset`; UINT64_MAX: nowhere. */
uint64_t remote_next(RemoteFile *file, uint64_t offset, bool hole);
