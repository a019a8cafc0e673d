/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Packed units of images: raw deflate, zlib and zstd streams. Pure functions; any thread.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

typedef enum Packing {
    PACKING_DEFLATE, /* without a header */
    PACKING_ZLIB,
    PACKING_ZSTD,
} Packing;

/* Exactly `size` bytes come out; what follows the stream in `stored` is ignored. 0 or -EIO. */
int unpack(Packing packing, const uint8_t *stored, size_t stored_size, uint8_t *data, size_t size);
/* The size of the packed bytes; 0 when they would not be fewer than `room`. */
size_t pack(Packing packing, const uint8_t *data, size_t size, uint8_t *stored, size_t room);
