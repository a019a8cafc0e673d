/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "cpu/paravirt.h"

#include <string.h>

#define NS UINT64_C(1000000000)

Paravirt paravirt_from_name(const char *name)
{
    g_auto(GStrv) names = g_strsplit(PARAVIRT_NAMES, " ", -1);

    for (unsigned i = 0; names[i]; i++)
        if (!strcmp(names[i], name))
            return i;
    g_assert_not_reached();
}

/* The multiplier has its highest bit set, which is as exact as 32 bits can be. */
ClockScale clock_scale(uint64_t hz)
{
    uint64_t numerator = NS, denominator = hz;
    ClockScale scale = {0};

    for (; numerator >= denominator; scale.shift++)
        denominator <<= 1;
    for (; numerator * 2 < denominator; scale.shift--)
        numerator <<= 1;
    scale.multiplier = (uint32_t)(((unsigned __int128)numerator << 32) / denominator);
    return scale;
}

uint64_t clock_scale_ns(ClockScale scale, uint64_t ticks)
{
    ticks = scale.shift < 0 ? ticks >> -scale.shift : ticks << scale.shift;
    return (uint64_t)((unsigned __int128)ticks * scale.multiplier >> 32);
}

uint64_t clock_reference_scale(uint64_t hz)
{
    return (uint64_t)(((unsigned __int128)(NS / 100) << 64) / hz);
}
