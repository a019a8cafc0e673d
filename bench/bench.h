/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the files of the bench program offer its table of rows: each computes something and returns
 * a checksum of it. */
#pragma once

#include <stdint.h>

uint64_t row_mix(void);
uint64_t row_script(void);
