/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * CRC-32C (Castagnoli, reflected polynomial 0x82f63b78), as VHDX has it. Pure; any thread.
 *
 * Source: RFC 3720 appendix B.4.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* The sum of the bytes, those of the 4 at `hole` counted as zeros. */
uint32_t crc32c_around(const uint8_t *data, size_t size, size_t hole);
