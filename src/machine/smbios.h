/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * SMBIOS 2.8 tables: who made the machine, its processors and memory. Pure; any thread.
 * Source: DMTF DSP0134 2.8.0.
 */
#pragma once

#include <glib.h>
#include <stdint.h>

#define SMBIOS_TABLES_FILE "etc/smbios/smbios-tables"
#define SMBIOS_ANCHOR_FILE "etc/smbios/smbios-anchor"

typedef struct SmbiosConfig {
    unsigned cpu_count;
    const char *cpu_name;
    uint64_t low_ram, high_ram; /* bytes below and above 4 GiB */
    uint8_t uuid[16];           /* as its text is read; all zero: not set */
} SmbiosConfig;

/* The structures, and the entry point without the table's address. */
GByteArray *smbios_build(const SmbiosConfig *config, GByteArray **ret_anchor);
/* Fills in where the tables lie (below 4 GiB) and both checksums. */
void smbios_set_address(GByteArray *anchor, uint32_t tables_address);
