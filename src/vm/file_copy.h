/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One file's contents in another, as it is needed where an original is removed afterwards: holes
 * stay holes, the copy is durable, and was read back and compared. Any thread.
 */
#pragma once

#include <gio/gio.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct FileCopy {
    int from_fd, fd;        /* the other is empty */
    const char *from, *to;  /* for messages */
    _Atomic uint64_t *done; /* counts the bytes of data that were copied; NULL: nobody asks */
} FileCopy;

bool file_copy_run(const FileCopy *copy, GError **error);
