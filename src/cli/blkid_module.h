/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the module `blkid` (base/module.h) does for file_system.h. */
#pragma once

#include "cli/file_system.h"

typedef struct BlkidApi {
    /* Looks at a file of so many bytes. 0, also when nothing is known, or a negative errno. */
    int (*look)(int fd, uint64_t size, FileSystem *ret);
} BlkidApi;
