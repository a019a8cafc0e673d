/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The entry of a fuzz target, and a unit test's way to run it on random bytes. */
#pragma once

#include <glib.h>
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Reproducible by the seed that g_test prints. */
static inline void fuzz_random(unsigned rounds)
{
    uint8_t data[12 * 256];
    while (rounds--) {
        for (size_t i = 0; i < sizeof(data); i++)
            data[i] = g_test_rand_int();
        LLVMFuzzerTestOneInput(data, sizeof(data));
    }
}
