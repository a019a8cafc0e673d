/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Two images of a chain become one; see commit.h. */
#include "block/jobs/commit.h"

#define CHUNK (1u << 20)

static int commit_part(Image *image, Image *parent, uint64_t at, uint64_t *size, uint8_t *data)
{
    ImageStatus s;
    int result = image_status(image, at, *size, false, &s);
    if (result)
        return result;
    *size = MIN(*size, s.length);
    if (!s.present)
        return 0;
    if (s.zero)
        return image_write_zeros(parent, at, *size);
    result = image_read(image, at, data, *size);
    return result ? result : image_write(parent, at, data, *size);
}

/* What the parent's own data at [at, at + *size) are, in the image; what is its own stays. */
static int absorb_part(Image *image, uint64_t at, uint64_t *size, uint8_t *data)
{
    ImageStatus s;
    int result = image_status(image, at, *size, false, &s);
    if (result)
        return result;
    *size = MIN(*size, s.length);
    bool is_parents = s.depth == 1 && s.present;
    bool is_beyond_parent = s.depth == 0 && !s.present;
    if (is_beyond_parent || (is_parents && s.zero))
        return image_write_zeros(image, at, *size);
    if (!is_parents)
        return 0;
    result = image_read(image, at, data, *size);
    return result ? result : image_write(image, at, data, *size);
}

int image_absorb_parent(Image *image, void (*progress)(void *obj, uint64_t done), void *obj)
{
    g_autofree uint8_t *data = g_malloc(CHUNK);
    int result = 0;
    for (uint64_t at = 0, part; at < image->map->size && !result; at += part) {
        part = MIN(CHUNK, image->map->size - at);
        result = absorb_part(image, at, &part, data);
        if (progress)
            progress(obj, at + part);
    }
    return result ? result : image_flush(image);
}

int image_commit(Image *image, Image *parent, void (*progress)(void *obj, uint64_t done), void *obj)
{
    g_autofree uint8_t *data = g_malloc(CHUNK);
    int result = 0;
    g_assert(!image->parent);
    for (uint64_t at = 0, part; at < image->map->size && !result; at += part) {
        part = MIN(CHUNK, image->map->size - at);
        result = commit_part(image, parent, at, &part, data);
        if (progress)
            progress(obj, at + part);
    }
    return result ? result : image_flush(parent);
}
