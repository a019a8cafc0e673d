/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A place in a scatter-gather list, from which parts are cut, copied and zeroed.
 * Pure functions; any thread.
 */
#pragma once

#include <glib.h>
#include <stdint.h>
#include <string.h>
#include <sys/uio.h>

typedef struct IovCursor {
    const struct iovec *iov;
    int count;
    int index;     /* the vector that holds the place … */
    size_t offset; /* … and the bytes of it that are passed */
} IovCursor;

static inline void iov_cursor_init(IovCursor *c, const struct iovec *iov, int count)
{
    *c = (IovCursor){.iov = iov, .count = count};
}

static inline void iov_cursor_advance(IovCursor *c, uint64_t bytes)
{
    while (bytes) {
        size_t left = c->iov[c->index].iov_len - c->offset;
        if (bytes < left) {
            c->offset += bytes;
            return;
        }
        bytes -= left;
        c->index++;
        c->offset = 0;
    }
}

/* The next part as at most `max` vectors and `limit` bytes; returns its size. Doesn't advance. */
static inline uint64_t iov_cursor_slice(const IovCursor *c, struct iovec *to, int max,
                                        uint64_t limit, int *ret_count)
{
    uint64_t total = 0;
    size_t offset = c->offset;
    int n = 0;
    for (int i = c->index; i < c->count && n < max && total < limit; i++, offset = 0) {
        size_t length = MIN(c->iov[i].iov_len - offset, limit - total);
        if (!length)
            continue;
        to[n++] = (struct iovec){(uint8_t *)c->iov[i].iov_base + offset, length};
        total += length;
    }
    *ret_count = n;
    return total;
}

/* The bytes left in the vector at hand; passes empty ones. */
static inline size_t iov_cursor_left(IovCursor *c)
{
    while (c->iov[c->index].iov_len == c->offset) {
        c->index++;
        c->offset = 0;
    }
    return c->iov[c->index].iov_len - c->offset;
}

/* Fills the next `size` bytes from `from` (NULL: with zeros) and advances. */
static inline void iov_cursor_fill(IovCursor *c, const void *from, size_t size)
{
    while (size) {
        size_t left = iov_cursor_left(c), part = MIN(left, size);
        uint8_t *to = (uint8_t *)c->iov[c->index].iov_base + c->offset;
        if (from) {
            memcpy(to, from, part);
            from = (const uint8_t *)from + part;
        } else {
            memset(to, 0, part);
        }
        size -= part;
        iov_cursor_advance(c, part);
    }
}

/* Copies the next `size` bytes to `to` and advances. */
static inline void iov_cursor_copy(IovCursor *c, void *to, size_t size)
{
    while (size) {
        size_t left = iov_cursor_left(c), part = MIN(left, size);
        memcpy(to, (uint8_t *)c->iov[c->index].iov_base + c->offset, part);
        to = (uint8_t *)to + part;
        size -= part;
        iov_cursor_advance(c, part);
    }
}
