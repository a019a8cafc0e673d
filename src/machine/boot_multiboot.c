/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Multiboot 1 kernels: ELF segments or the address fields of the header, modules, memory map.
 *
 * Source: The Multiboot Specification 0.6.96, §3.1 (header), §3.2 (machine state), §3.3
 * (information).
 */
#include <string.h>

#include "base/bits.h"
#include "base/i18n.h"
#include "machine/boot_loader.h"

#define MB_SEARCH       8192
#define MB_HEADER_MAGIC 0x1badb002u
#define MB_BOOT_MAGIC   0x2badb002u
#define MB_INFO_SIZE    116
#define MB_STACK_SIZE   4096
#define MB_LOADER       "Ospite"

/* Header flags; of bits 0 to 15 we must know every one that is set. */
enum { MB_ALIGN = 1 << 0, MB_MEMORY = 1 << 1, MB_VIDEO = 1 << 2, MB_ADDRESSES = 1 << 16 };
/* Information flags. */
enum {
    MBI_MEMORY = 1 << 0,
    MBI_CMDLINE = 1 << 2,
    MBI_MODULES = 1 << 3,
    MBI_MAP = 1 << 6,
    MBI_LOADER = 1 << 9
};

typedef struct MbImage {
    BootSegment segments[BOOT_SEGMENT_MAX];
    unsigned segment_count;
    uint32_t entry;
} MbImage;

/* The offset of the header, or -1. */
static long mb_find_header(const uint8_t *data, size_t size)
{
    for (size_t at = 0; at + 12 <= MIN(size, MB_SEARCH); at += 4) {
        if (load_le32(data + at) == MB_HEADER_MAGIC &&
            load_le32(data + at) + load_le32(data + at + 4) + load_le32(data + at + 8) == 0)
            return at;
    }
    return -1;
}

static bool mb_probe(const uint8_t *data, size_t size)
{
    return mb_find_header(data, size) >= 0;
}

/* The "a.out kludge" (§3.1.3): one segment, text and data from the file, then BSS. */
static const char *mb_parse_addresses(const uint8_t *data, size_t size, size_t header,
                                      MbImage *image)
{
    if (header + 32 > size)
        return _("its Multiboot header is cut off");
    const uint8_t *fields = data + header;
    uint32_t header_addr = load_le32(fields + 12), load_addr = load_le32(fields + 16);
    uint32_t load_end = load_le32(fields + 20), bss_end = load_le32(fields + 24);

    if (header_addr < load_addr || header_addr - load_addr > header)
        return _("its Multiboot load address does not fit the header's place in the file");
    uint64_t offset = header - (header_addr - load_addr);
    uint64_t length = load_end ? (uint64_t)load_end - load_addr : size - offset;
    if (load_end && load_end < load_addr)
        return _("its Multiboot load end is below the load address");
    if (length > size - offset)
        return _("its Multiboot header names more bytes than the file has");
    if (bss_end && bss_end < load_addr + length)
        return _("its Multiboot BSS ends inside the data");
    uint64_t memory = bss_end ? bss_end - load_addr : length;
    if (!memory || load_addr + memory > GIB(4))
        return _("it has nothing to load below 4 GiB");
    image->segments[0] = (BootSegment){offset, length, load_addr, memory};
    image->segment_count = 1;
    image->entry = load_le32(fields + 28);
    return NULL;
}

static const char *mb_parse_elf(const uint8_t *data, size_t size, MbImage *image)
{
    const char *problem;
    BootElf elf;

    if (!boot_elf_probe(data, size))
        return _("it is neither an ELF file nor does its Multiboot header say where to load it");
    if (!boot_elf_parse(data, size, &elf, &problem))
        return problem;
    if (elf.is_64)
        return _("it is a 64-bit ELF file, which Multiboot starts in 32-bit mode; convert it with "
                 "objcopy -O elf32-i386");
    memcpy(image->segments, elf.segments, sizeof(image->segments));
    image->segment_count = elf.segment_count;
    image->entry = elf.entry;
    return NULL;
}

static bool mb_parse(DirectBoot *boot, MbImage *ret_image, GError **error)
{
    gsize size;
    const uint8_t *data = g_bytes_get_data(boot->kernel.bytes, &size);
    long header = mb_find_header(data, size);
    uint32_t flags = load_le32(data + header + 4);
    uint32_t unknown = flags & 0xffff & ~(MB_ALIGN | MB_MEMORY | MB_VIDEO);

    *ret_image = (MbImage){0};
    if (unknown)
        return boot_fail(boot, error, "it asks for Multiboot features %#x, which are not known",
                         unknown);
    const char *problem = flags & MB_ADDRESSES ? mb_parse_addresses(data, size, header, ret_image)
                                               : mb_parse_elf(data, size, ret_image);
    return !problem || boot_fail(boot, error, "%s", problem);
}

static bool mb_check(DirectBoot *boot, GError **error)
{
    MbImage image;

    return mb_parse(boot, &image, error);
}

static bool mb_put_modules(DirectBoot *boot, uint8_t *info, GError **error)
{
    uint64_t addresses[BOOT_MODULE_MAX];
    uint8_t list[BOOT_MODULE_MAX * 16] = {0};

    if (!boot->module_count)
        return true;
    if (!boot_place_modules(boot, addresses, error))
        return false;
    for (unsigned i = 0; i < boot->module_count; i++) {
        uint64_t text = boot_area_string(boot, boot->modules[i].arguments);
        if (!text)
            return boot_fail(boot, error, "the modules' command lines do not fit; shorten them");
        store_le32(list + 16 * i, addresses[i]);
        store_le32(list + 16 * i + 4, addresses[i] + g_bytes_get_size(boot->modules[i].bytes));
        store_le32(list + 16 * i + 8, text);
    }
    store_le32(info + 20, boot->module_count);
    store_le32(info + 24, boot_area_put(boot, list, 16 * boot->module_count));
    return load_le32(info + 24) || boot_fail(boot, error, "the list of modules does not fit");
}

/* KiB of RAM below 640 KiB and from 1 MiB up to the first hole (§3.3, mem_lower and mem_upper). */
static void mb_fill_memory(const DirectBoot *boot, uint8_t *info)
{
    for (size_t i = 0; i < boot->machine->e820_count; i++) {
        const E820Entry *e = &boot->machine->e820[i];
        if (e->type == E820_RAM && e->start == 0)
            store_le32(info + 4, MIN(e->size / 1024, 640));
        if (e->type == E820_RAM && e->start == MIB(1))
            store_le32(info + 8, e->size / 1024);
    }
}

static bool mb_put_map(DirectBoot *boot, uint8_t *info)
{
    size_t count = boot->machine->e820_count;
    g_autofree uint8_t *map = g_malloc0(count * 24);

    for (size_t i = 0; i < count; i++) {
        store_le32(map + 24 * i, 20); /* size of the rest of the entry */
        store_le64(map + 24 * i + 4, boot->machine->e820[i].start);
        store_le64(map + 24 * i + 12, boot->machine->e820[i].size);
        store_le32(map + 24 * i + 20, boot->machine->e820[i].type);
    }
    store_le32(info + 44, 24 * count);
    store_le32(info + 48, boot_area_put(boot, map, 24 * count));
    return load_le32(info + 48) != 0;
}

static uint64_t mb_put_info(DirectBoot *boot, GError **error)
{
    g_autofree char *command_line = *boot->append
                                        ? g_strconcat(boot->kernel.name, " ", boot->append, NULL)
                                        : g_strdup(boot->kernel.name);
    uint8_t info[MB_INFO_SIZE] = {0};

    store_le32(info, MBI_MEMORY | MBI_CMDLINE | MBI_MAP | MBI_LOADER |
                         (boot->module_count ? MBI_MODULES : 0));
    mb_fill_memory(boot, info);
    if (!mb_put_modules(boot, info, error))
        return 0;
    store_le32(info + 16, boot_area_string(boot, command_line));
    store_le32(info + 64, boot_area_string(boot, MB_LOADER));
    if (!load_le32(info + 16) || !load_le32(info + 64) || !mb_put_map(boot, info)) {
        boot_fail(boot, error, "the command line does not fit; shorten it");
        return 0;
    }
    uint64_t at = boot_area_put(boot, info, sizeof(info));
    if (!at)
        boot_fail(boot, error, "the boot parameters do not fit");
    return at;
}

static bool mb_load(DirectBoot *boot, BootEntry *entry, GError **error)
{
    MbImage image;

    if (!mb_parse(boot, &image, error) ||
        !boot_place_segments(boot, image.segments, image.segment_count, error))
        return false;
    entry->mode = BOOT_PROTECTED32;
    entry->rip = image.entry;
    entry->rax = MB_BOOT_MAGIC;
    entry->rbx = mb_put_info(boot, error);
    if (!entry->rbx)
        return false;
    uint64_t stack = boot_area_take(boot, MB_STACK_SIZE);
    entry->rsp = stack + MB_STACK_SIZE;
    return stack ? boot_put_gdt(boot, entry, error)
                 : boot_fail(boot, error, "the boot parameters do not fit");
}

const BootKind boot_multiboot = {
    .name = "Multiboot",
    .wants_firmware = true,
    .probe = mb_probe,
    .check = mb_check,
    .load = mb_load,
};
