/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What file system is in a part of a disk. Threads: the image's. */
#pragma once

#include "block/image.h"

typedef struct FileSystem {
    char *type, *label, *uuid; /* NULL: unknown */
} FileSystem;

static inline void file_system_clear(FileSystem *fs)
{
    g_free(fs->type);
    g_free(fs->label);
    g_free(fs->uuid);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(FileSystem, file_system_clear)

/* Looks at so many bytes from `start` on. 0, also when nothing is known, or a negative errno. */
int file_system_look(Image *image, uint64_t start, uint64_t size, FileSystem *ret);
