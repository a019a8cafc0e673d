/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Copies one disk into another, whatever their formats, on all processors.
 *
 * Zeros are left out where the target allows it, blocks are shared with the source where the host's
 * file system can, packed units are unpacked and packed in parallel. Parts enter the target's map
 * in the order of the disk unless `any_order`: the same source gives the same file.
 *
 * A call that waits; it uses both images, and their parents, alone.
 */
#pragma once

#include "block/image.h"

typedef struct ImageCopy {
    Image *from, *to;        /* `to` is at least as large */
    bool target_is_new;      /* it reads as zeros, and is thrown away when the copy fails */
    bool target_is_zero;     /* it reads as zeros */
    bool skip_parents;       /* what the source's parents have stays there */
    bool compress;           /* where the target's format can */
    bool dense;              /* zeros are written like other bytes */
    bool any_order;          /* parts may come to lie in any order in the file */
    bool offload;            /* let the host copy where it can (zeros are then not looked for) */
    bool salvage;            /* bytes that can't be read become zeros; `lost` hears of them */
    unsigned threads;        /* 0: what suits the host */
    uint32_t zero_grain;     /* runs of zeros this long are left out; 0: 4096 */
    uint64_t bytes_a_second; /* 0: no limit */
    /* How far it is, now and then, from any thread but one at a time; false ends the copy. NULL. */
    bool (*progress)(void *obj, uint64_t done);
    void (*lost)(void *obj, uint64_t offset, uint64_t size, int error);
    void *obj;
    const Image **failed; /* the one that an error is about, of both chains; NULL: nobody asks */
} ImageCopy;

/* 0 or a negative errno: -EINTR when `progress` ended it. Doesn't flush. */
int image_copy(const ImageCopy *copy);
/* True when all bytes are zero. */
bool image_bytes_are_zero(const void *data, size_t size);
