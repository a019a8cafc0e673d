/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Booting a kernel without firmware: Linux bzImage, Multiboot 1, ELF with a PVH note.
 *
 * direct_boot_open() opens and reads the files; direct_boot_load() puts everything into guest
 * memory, at power-on and again at each reset, and says with which CPU state the bootstrap
 * processor begins. In between the host's memory does not hold the files: a reset boots what they
 * hold by then. The files are hostile: parsed with every size checked, then placed in RAM only.
 */
#pragma once

#include <gio/gio.h>

#include "memory/space.h"

#define BOOT_CODE_SELECTOR 0x10
#define BOOT_DATA_SELECTOR 0x18

enum { E820_RAM = 1, E820_RESERVED = 2, E820_ACPI = 3 };

typedef struct E820Entry {
    uint64_t start, size; /* bytes */
    uint32_t type;
} E820Entry;

typedef enum BootMode {
    BOOT_RESET_VECTOR, /* as after RESET: firmware runs */
    BOOT_REAL16,       /* segments as below, a BIOS behind it, interrupts off */
    BOOT_PROTECTED32,  /* flat 32-bit segments, paging off, interrupts off */
    BOOT_LONG64,       /* flat 64-bit segments, paging with cr3, interrupts off */
} BootMode;

typedef struct BootEntry {
    BootMode mode;
    uint64_t rip, rsp, rax, rbx, rsi;
    uint64_t cr3;                        /* BOOT_LONG64 */
    uint16_t code_segment, data_segment; /* BOOT_REAL16 */
    uint64_t gdt_base; /* code at BOOT_CODE_SELECTOR, data at BOOT_DATA_SELECTOR */
    uint16_t gdt_limit;
} BootEntry;

/* What the machine tells the kernel. */
typedef struct BootMachine {
    AddressSpace *memory;
    const E820Entry *e820;
    size_t e820_count;
    uint64_t rsdp; /* address of the ACPI root pointer */
} BootMachine;

typedef struct DirectBoot DirectBoot;

/* `initrd` (Multiboot: "FILE ARGUMENTS,FILE ARGUMENTS,…") and `append` may be NULL. Fails naming
 * the file when it cannot be read or is no kernel of a kind known here. */
DirectBoot *direct_boot_open(const char *kernel, const char *initrd, const char *append,
                             GError **error);
/* From memory, for tests and fuzzing; `initrd` may be NULL. */
DirectBoot *direct_boot_new(GBytes *kernel, GBytes *initrd, const char *append, GError **error);
void direct_boot_free(DirectBoot *boot);
/* "Linux", "Multiboot" or "PVH". */
const char *direct_boot_protocol(const DirectBoot *boot);
/* Whether the protocol promises a BIOS that still runs: then load only after firmware has
 * (boot_door.h). */
bool direct_boot_wants_firmware(const DirectBoot *boot);
/* Board lock held, vCPUs stopped. Fails when memory is too small for the files. */
bool direct_boot_load(DirectBoot *boot, const BootMachine *machine, BootEntry *ret_entry,
                      GError **error);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(DirectBoot, direct_boot_free)
