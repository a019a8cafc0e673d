/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Packed units; see compress.h. */
#include "block/compress.h"

#include <errno.h>
#include <zlib.h>
#include <zstd.h>

static int unpack_zlib(int window, const uint8_t *stored, size_t stored_size, uint8_t *data,
                       size_t size)
{
    z_stream z = {.next_in = (Bytef *)stored,
                  .avail_in = (uInt)stored_size,
                  .next_out = data,
                  .avail_out = (uInt)size};
    if (inflateInit2(&z, window) != Z_OK)
        return -ENOMEM;
    int result = inflate(&z, Z_FINISH);
    inflateEnd(&z);
    return (result == Z_STREAM_END || result == Z_BUF_ERROR) && !z.avail_out ? 0 : -EIO;
}

static int unpack_zstd(const uint8_t *stored, size_t stored_size, uint8_t *data, size_t size)
{
    ZSTD_DCtx *context = ZSTD_createDCtx();
    ZSTD_inBuffer in = {stored, stored_size, 0};
    ZSTD_outBuffer out = {data, size, 0};
    size_t result = 1;
    while (context && result && !ZSTD_isError(result) && out.pos < out.size) {
        size_t before = out.pos;
        result = ZSTD_decompressStream(context, &out, &in);
        if (out.pos == before && in.pos == in.size)
            break;
    }
    ZSTD_freeDCtx(context);
    return !ZSTD_isError(result) && out.pos == out.size ? 0 : -EIO;
}

int unpack(Packing packing, const uint8_t *stored, size_t stored_size, uint8_t *data, size_t size)
{
    if (packing == PACKING_ZSTD)
        return unpack_zstd(stored, stored_size, data, size);
    return unpack_zlib(packing == PACKING_DEFLATE ? -15 : 15, stored, stored_size, data, size);
}

static size_t pack_zlib(int window, const uint8_t *data, size_t size, uint8_t *stored, size_t room)
{
    z_stream z = {.next_in = (Bytef *)data,
                  .avail_in = (uInt)size,
                  .next_out = stored,
                  .avail_out = (uInt)room};
    if (deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, window, 9, Z_DEFAULT_STRATEGY) != Z_OK)
        return 0;
    int result = deflate(&z, Z_FINISH);
    deflateEnd(&z);
    return result == Z_STREAM_END && z.avail_out ? room - z.avail_out : 0;
}

size_t pack(Packing packing, const uint8_t *data, size_t size, uint8_t *stored, size_t room)
{
    if (packing != PACKING_ZSTD)
        return pack_zlib(packing == PACKING_DEFLATE ? -12 : 15, data, size, stored, room);
    size_t packed = ZSTD_compress(stored, room, data, size, ZSTD_CLEVEL_DEFAULT);
    return ZSTD_isError(packed) || packed >= room ? 0 : packed;
}
