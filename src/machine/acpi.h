/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The machine's ACPI tables: RSDP, RSDT, XSDT, FADT, FACS, DSDT, MADT, HPET.
 *
 * They are built as blobs with a loader script (acpi_loader.h) and given to firmware through
 * fw_cfg; without firmware acpi_link() places them. Pure; any thread. Source: ACPI 6.4 chapter 5.
 */
#pragma once

#include "machine/acpi_loader.h"

#define ACPI_TABLES_FILE  "etc/acpi/tables"
#define ACPI_RSDP_FILE    "etc/acpi/rsdp"
#define ACPI_LOADER_FILE  "etc/table-loader"
#define ACPI_SERIAL_MAX   4
#define ACPI_PARALLEL_MAX 3

typedef struct AcpiConfig {
    unsigned cpu_count;           /* APIC ids 0 to cpu_count - 1 */
    uint64_t pci_window_start;    /* first byte after low RAM; the window ends below the I/O APIC */
    bool serial[ACPI_SERIAL_MAX]; /* COM1 … at the standard places */
    bool parallel[ACPI_PARALLEL_MAX];
    bool floppy;
    bool apic; /* else no MADT: one CPU with the 8259A pair */
    bool hpet;
} AcpiConfig;

typedef struct AcpiTables {
    GByteArray *tables;
    GByteArray *rsdp;
    GByteArray *loader;
} AcpiTables;

void acpi_build(const AcpiConfig *config, AcpiTables *ret_tables);
void acpi_tables_clear(AcpiTables *tables);
/* Links the blobs for the given addresses (16-byte aligned RSDP, 64-byte aligned tables). */
bool acpi_link(AcpiTables *tables, uint64_t tables_address, uint64_t rsdp_address, GError **error);
/* The body of the DSDT, without header (dsdt.c). */
GByteArray *acpi_build_dsdt_body(const AcpiConfig *config);
