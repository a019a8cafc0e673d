/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A CPU's registers as GDB numbers and lays them out for x86-64, from one table: the description
 * that GDB asks for and the values. Pure; no thread.
 */
#pragma once

#include <glib.h>

#include "cpu/state.h"

#define GDB_REGISTER_MAX_BYTES 16

/* target.xml. */
char *gdb_registers_xml(void);
unsigned gdb_registers_count(void);
/* Bytes of register `n`, below the count. */
unsigned gdb_register_size(unsigned n);
void gdb_register_get(const CpuState *state, unsigned n, uint8_t *ret_bytes);
/* False: nothing was changed, for this register cannot be set to that. */
bool gdb_register_set(CpuState *state, unsigned n, const uint8_t *bytes);
