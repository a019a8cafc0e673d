/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Bit fields, alignment and loads/stores of fixed byte order from unaligned memory.
 * Pure functions; any thread.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define KIB(n) ((uint64_t)(n) << 10)
#define MIB(n) ((uint64_t)(n) << 20)
#define GIB(n) ((uint64_t)(n) << 30)

/* `length` bits of `value` from bit `start` up; length is 1 to 64. */
static inline uint64_t bits_get(uint64_t value, unsigned start, unsigned length)
{
    return (value >> start) & (~UINT64_C(0) >> (64 - length));
}

/* `value` with `length` bits from `start` replaced by the low bits of `field`. */
static inline uint64_t bits_set(uint64_t value, unsigned start, unsigned length, uint64_t field)
{
    uint64_t mask = (~UINT64_C(0) >> (64 - length)) << start;
    return (value & ~mask) | ((field << start) & mask);
}

/* `alignment` is a power of two. */
static inline uint64_t align_down(uint64_t value, uint64_t alignment)
{
    return value & ~(alignment - 1);
}

static inline uint64_t align_up(uint64_t value, uint64_t alignment)
{
    return (value + alignment - 1) & ~(alignment - 1);
}

static inline bool is_power_of_two(uint64_t value)
{
    return value && !(value & (value - 1));
}

#define BITS_DEFINE_ACCESS(bits, order, ORDER)                             \
    static inline uint##bits##_t load_##order##bits(const void *from)      \
    {                                                                      \
        uint##bits##_t value;                                              \
        memcpy(&value, from, sizeof(value));                               \
        return GUINT##bits##_FROM_##ORDER(value);                          \
    }                                                                      \
    static inline void store_##order##bits(void *to, uint##bits##_t value) \
    {                                                                      \
        value = GUINT##bits##_TO_##ORDER(value);                           \
        memcpy(to, &value, sizeof(value));                                 \
    }

BITS_DEFINE_ACCESS(16, le, LE)
BITS_DEFINE_ACCESS(32, le, LE)
BITS_DEFINE_ACCESS(64, le, LE)
BITS_DEFINE_ACCESS(16, be, BE)
BITS_DEFINE_ACCESS(32, be, BE)
BITS_DEFINE_ACCESS(64, be, BE)
#undef BITS_DEFINE_ACCESS
