/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Ownership of file descriptors: `auto_fd` closes when its scope ends. */
#pragma once

#include <unistd.h>

static inline void fd_clear(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static inline int fd_steal(int *fd)
{
    int stolen = *fd;
    *fd = -1;
    return stolen;
}

#define auto_fd __attribute__((cleanup(fd_clear))) int
