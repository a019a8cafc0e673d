/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Address space that takes memory from the host as it is touched. Threads: any. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Zeroed. `huge`: by huge pages, where the host has them. NULL, with errno: no address space. */
void *reserve_new(size_t size_bytes, bool huge);
/* NULL is allowed. */
void reserve_free(void *memory, size_t size_bytes);
