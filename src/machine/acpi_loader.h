/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The table loader script: how ACPI blobs are placed and linked in guest memory, by firmware (file
 * etc/table-loader in fw_cfg) or by us when there is no firmware.
 *
 * Commands of 128 bytes: allocate a blob, add the address of one blob to a field in another, write
 * a checksum. Pure; any thread. Source: QEMU's bios-linker-loader.c, format comment.
 */
#pragma once

#include <gio/gio.h>
#include <stdbool.h>
#include <stdint.h>

typedef enum AcpiZone { ACPI_ZONE_HIGH = 1, ACPI_ZONE_FSEG = 2 } AcpiZone;

void acpi_loader_allocate(GByteArray *script, const char *file, uint32_t alignment, AcpiZone zone);
/* The field of `size` bytes at `offset` in `file` holds an offset into `target`; its address is
 * added. */
void acpi_loader_add_pointer(GByteArray *script, const char *file, const char *target,
                             uint32_t offset, uint8_t size);
/* Byte `at` of `file` makes [start, start + length) sum to zero. */
void acpi_loader_add_checksum(GByteArray *script, const char *file, uint32_t at, uint32_t start,
                              uint32_t length);

typedef struct AcpiLoaderFile {
    const char *name;
    GByteArray *bytes; /* changed by the script */
    uint64_t address;  /* where it will lie; alignments are the caller's business */
} AcpiLoaderFile;

/* Runs a script over files whose addresses are already chosen. Fails on a malformed script. */
bool acpi_loader_run(const uint8_t *script, size_t size, AcpiLoaderFile *files, size_t file_count,
                     GError **error);
