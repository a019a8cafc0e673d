/* SPDX-License-Identifier: GPL-3.0-or-later */
/* CRC-32C four bits at a time; see crc32c.h. */
#include "block/crc32c.h"

static uint32_t add(uint32_t crc, uint8_t byte)
{
    /* The remainder of each half byte. */
    static const uint32_t table[16] = {
        0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3,
        0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
        0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
    };
    crc ^= byte;
    crc = crc >> 4 ^ table[crc & 15];
    return crc >> 4 ^ table[crc & 15];
}

uint32_t crc32c_around(const uint8_t *data, size_t size, size_t hole)
{
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < size; i++)
        crc = add(crc, i >= hole && i < hole + 4 ? 0 : data[i]);
    return ~crc;
}
