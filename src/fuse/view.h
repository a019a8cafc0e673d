/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The files that show an image: the whole disk and parts of it, readable and writable at any byte.
 * Their calls are those of a FuseSpec, whose `obj` is the view.
 */
#pragma once

#include "block/image.h"
#include "fuse/fuse.h"

typedef struct View {
    Image *image;     /* not owned */
    GArray *files;    /* FuseFile; the view owns their texts */
    GArray *starts;   /* uint64_t: where on the disk each of them begins */
    uint8_t *sectors; /* room for what the ends of a call cut */
} View;

void view_init(View *view, Image *image);
void view_clear(View *view);
/* Copies the texts. `start` and `size` are of a FILE. */
void view_add(View *view, FuseFileKind kind, const char *name, const char *target, uint64_t start,
              uint64_t size);
/* Fills what a FuseSpec says of files. The view must not change afterwards. */
void view_describe(View *view, FuseSpec *spec);
