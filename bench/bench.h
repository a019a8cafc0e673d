/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the files of the bench program offer its table of rows: each computes something and returns
 * a checksum of it. */
#pragma once

#include <stdint.h>

uint64_t row_mix(void);
uint64_t row_script(void);

/* small.c */
uint64_t row_copies(void);
uint64_t row_fills(void);
uint64_t row_compares(void);
uint64_t row_locked(void);
uint64_t row_crc(void);
uint64_t row_sine(void);
uint64_t row_print(void);
uint64_t row_alloc(void);
uint64_t row_regex(void);
uint64_t row_fresh(void);
