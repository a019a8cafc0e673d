/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the loaders of direct_boot.c share: the files, a place for what kernels are told, and
 * checked placing of bytes in guest RAM.
 *
 *     0x80000 ┬ boot area: GDT, page tables, parameters, command lines, grows upwards
 *     0x9f000 ┴
 *     1 MiB …   kernel, modules
 */
#pragma once

#include "machine/direct_boot.h"

#define BOOT_AREA_START 0x80000u
#define BOOT_AREA_END   0x9f000u
#define BOOT_MODULE_MAX 32

typedef struct BootFile {
    char *name;      /* for messages */
    char *arguments; /* Multiboot module command line: name and arguments */
    int fd;          /* to read it again at the next load; -1: `bytes` stay */
    GBytes *bytes;   /* NULL between loads */
} BootFile;

typedef struct BootKind {
    const char *name;
    bool wants_firmware; /* a BIOS must have run, and still answer */
    /* Whether the file says it is of this kind; touches nothing else. */
    bool (*probe)(const uint8_t *data, size_t size);
    /* Checks all that does not depend on the machine. */
    bool (*check)(DirectBoot *boot, GError **error);
    bool (*load)(DirectBoot *boot, BootEntry *entry, GError **error);
} BootKind;

struct DirectBoot {
    const BootKind *kind;
    BootFile kernel;
    BootFile modules[BOOT_MODULE_MAX];
    unsigned module_count;
    char *append;
    /* Valid inside load. */
    const BootMachine *machine;
    uint64_t area_next;
    uint64_t placed_end; /* end of the highest kernel segment or module */
};

/* A piece of a kernel file and where it goes; memory beyond the file's part is zeroed. */
typedef struct BootSegment {
    uint64_t file_offset, file_size;
    uint64_t address, memory_size;
} BootSegment;

extern const BootKind boot_linux, boot_linux_real, boot_multiboot, boot_pvh;

/* "kernel FILE: …" with what to do. Returns false. */
bool boot_fail(const DirectBoot *boot, GError **error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Takes `size` zeroed bytes of the boot area; 0 when it is full. */
uint64_t boot_area_take(DirectBoot *boot, uint64_t size);
/* Takes and fills; 0 when it is full. */
uint64_t boot_area_put(DirectBoot *boot, const void *data, uint64_t size);
uint64_t boot_area_string(DirectBoot *boot, const char *text);
/* True when [start, start + size) lies in one E820 RAM range. */
bool boot_is_ram(const DirectBoot *boot, uint64_t start, uint64_t size);
/* Writes to RAM outside the boot area. `what` names it in errors. */
bool boot_place(DirectBoot *boot, const char *what, uint64_t address, const void *data,
                uint64_t size, uint64_t memory_size, GError **error);
bool boot_place_segments(DirectBoot *boot, const BootSegment *segments, unsigned count,
                         GError **error);
/* Puts modules on pages behind the kernel. Addresses and sizes go to the arrays (BOOT_MODULE_MAX
 * long). */
bool boot_place_modules(DirectBoot *boot, uint64_t *ret_addresses, GError **error);
/* A GDT with flat segments; sets entry->gdt_*. */
bool boot_put_gdt(DirectBoot *boot, BootEntry *entry, GError **error);

/* ELF executables, boot_elf.c. */
#define BOOT_SEGMENT_MAX 64
typedef struct BootElf {
    bool is_64;
    uint64_t entry;
    BootSegment segments[BOOT_SEGMENT_MAX];
    unsigned segment_count;
    bool has_pvh_entry;
    uint32_t pvh_entry; /* physical */
} BootElf;
bool boot_elf_probe(const uint8_t *data, size_t size);
/* Fails on anything but a well-formed x86 executable loading below 4 GiB. */
bool boot_elf_parse(const uint8_t *data, size_t size, BootElf *ret_elf, const char **ret_problem);
