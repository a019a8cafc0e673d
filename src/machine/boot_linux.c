/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Linux bzImage: 64-bit entry where the kernel has one, else 32-bit entry. Files of before protocol
 * 2.10, which do not say how much memory their 32-bit code wants, are entered as boot loaders did
 * then: in real mode, behind a BIOS. Many are no Linux (iPXE, memdisk), and have no other entry.
 *
 * Source: Linux Documentation/arch/x86/boot.rst (header, 32-bit and 64-bit protocols) and
 * zero-page.rst.
 */
#include <inttypes.h>
#include <string.h>

#include "base/bits.h"
#include "machine/boot_loader.h"

#define LINUX_LOAD_AT        MIB(1)
#define LINUX_HEADER         0x1f1
#define LINUX_HEADER_MIN_END 0x22c /* what protocol 2.02 defines */
#define LINUX_ZERO_PAGE_SIZE 4096
#define LINUX_E820_AT        0x2d0
#define LINUX_E820_MAX       128
#define LINUX_ENTRY64        0x200
#define LINUX_INITRD_MAX     0x37ffffffu /* before protocol 2.03 */
#define LINUX_STACK_SIZE     4096
#define LINUX_REAL_BEFORE    0x020a  /* protocol that has an entry in real mode alone */
#define LINUX_SETUP_MAX      KIB(32) /* what may be loaded of the real-mode part */
#define LINUX_HEAP_END       0xe000  /* in its segment; a stack from there on */

enum { /* setup header, offsets in the file and in the zero page */
       HDR_SETUP_SECTS = 0x1f1,
       HDR_VID_MODE = 0x1fa,
       HDR_BOOT_FLAG = 0x1fe,
       HDR_JUMP = 0x200,
       HDR_MAGIC = 0x202,
       HDR_VERSION = 0x206,
       HDR_LOADER = 0x210,
       HDR_LOADFLAGS = 0x211,
       HDR_CODE32 = 0x214,
       HDR_RAMDISK = 0x218,
       HDR_RAMDISK_SIZE = 0x21c,
       HDR_HEAP_END = 0x224,
       HDR_CMDLINE = 0x228,
       HDR_INITRD_MAX = 0x22c,
       HDR_XLOADFLAGS = 0x236,
       HDR_CMDLINE_SIZE = 0x238,
       HDR_PREF_ADDRESS = 0x258,
       HDR_INIT_SIZE = 0x260
};
enum {
    ZP_CURSOR_Y = 0x001,
    ZP_VIDEO_MODE = 0x006,
    ZP_COLUMNS = 0x007,
    ZP_EGA_BX = 0x00a,
    ZP_ROWS = 0x00e,
    ZP_IS_VGA = 0x00f,
    ZP_POINTS = 0x010,
    ZP_RSDP = 0x070,
    ZP_E820_ENTRIES = 0x1e8
};
enum { LOADED_HIGH = 1, CAN_USE_HEAP = 0x80, XLF_KERNEL_64 = 1 };

typedef struct LinuxImage {
    uint16_t version;
    bool is_64;
    uint32_t payload_offset, payload_size; /* the protected-mode part */
    uint32_t header_end;                   /* of the setup header in the file */
    uint64_t run_end;                      /* first byte the kernel won't touch while it starts */
    uint32_t initrd_max, cmdline_max;
} LinuxImage;

static bool linux_probe(const uint8_t *data, size_t size)
{
    return size >= HDR_VERSION && load_le16(data + HDR_BOOT_FLAG) == 0xaa55 &&
           memcmp(data + HDR_MAGIC, "HdrS", 4) == 0;
}

static bool linux_probe_real(const uint8_t *data, size_t size)
{
    return linux_probe(data, size) && size > LINUX_ZERO_PAGE_SIZE &&
           load_le16(data + HDR_VERSION) < LINUX_REAL_BEFORE;
}

/* Reads the fields that this version of the protocol has. */
static void linux_read_optional(const uint8_t *data, LinuxImage *image)
{
    bool reaches = image->header_end >= HDR_INIT_SIZE + 4;
    uint64_t start = LINUX_LOAD_AT, size = image->payload_size;

    image->initrd_max =
        image->version >= 0x0203 ? load_le32(data + HDR_INITRD_MAX) : LINUX_INITRD_MAX;
    image->cmdline_max = image->version >= 0x0206 ? load_le32(data + HDR_CMDLINE_SIZE) : 255;
    image->is_64 = image->version >= 0x020c && (data[HDR_XLOADFLAGS] & XLF_KERNEL_64);
    image->run_end = start + size;
    if (image->version >= 0x020a && reaches) {
        uint64_t preferred = load_le64(data + HDR_PREF_ADDRESS);
        uint64_t init_size = load_le32(data + HDR_INIT_SIZE);
        if (preferred < GIB(4))
            image->run_end = MAX(image->run_end, MAX(start, preferred) + init_size);
    }
}

static bool linux_parse(const DirectBoot *boot, LinuxImage *ret_image, GError **error)
{
    gsize size;
    const uint8_t *data = g_bytes_get_data(boot->kernel.bytes, &size);
    LinuxImage image = {0};

    if (size < LINUX_ZERO_PAGE_SIZE)
        return boot_fail(boot, error, "the file is too short for a Linux kernel; copy it again");
    image.version = load_le16(data + HDR_VERSION);
    if (image.version < 0x0202)
        return boot_fail(
            boot, error,
            "it speaks boot protocol %u.%02u, and at least 2.02 (Linux 2.4) is needed; "
            "boot it from a disk or floppy image instead",
            image.version >> 8, image.version & 0xff);
    if (!(data[HDR_LOADFLAGS] & LOADED_HIGH))
        return boot_fail(boot, error, "it is a zImage, which loads below 1 MiB; use a bzImage");
    unsigned sectors = data[HDR_SETUP_SECTS] ? data[HDR_SETUP_SECTS] : 4;
    image.payload_offset = (sectors + 1) * 512;
    image.header_end = HDR_MAGIC + data[HDR_JUMP + 1];
    if (image.payload_offset >= size || image.header_end < LINUX_HEADER_MIN_END ||
        image.header_end > LINUX_E820_AT)
        return boot_fail(boot, error, "its setup header is damaged or cut off; copy it again");
    image.payload_size = size - image.payload_offset;
    linux_read_optional(data, &image);
    *ret_image = image;
    return true;
}

static bool linux_check(DirectBoot *boot, GError **error)
{
    LinuxImage image;

    return linux_parse(boot, &image, error);
}

/* The highest place that the kernel accepts and where RAM is. `header` begins as the file or the
 * zero page does. */
static bool linux_place_initrd(DirectBoot *boot, const LinuxImage *image, uint8_t *header,
                               GError **error)
{
    uint64_t best = 0;
    gsize size;

    if (!boot->module_count)
        return true;
    const void *data = g_bytes_get_data(boot->modules[0].bytes, &size);
    for (size_t i = 0; i < boot->machine->e820_count; i++) {
        const E820Entry *e = &boot->machine->e820[i];
        uint64_t end = MIN(e->start + e->size, (uint64_t)image->initrd_max + 1);
        if (e->type != E820_RAM || end < size)
            continue;
        uint64_t at = align_down(end - size, GUEST_PAGE_SIZE);
        if (at >= e->start && at >= image->run_end)
            best = MAX(best, at);
    }
    if (!best)
        return boot_fail(boot, error,
                         "the initrd %s (%zu bytes) does not fit behind the kernel; give the VM "
                         "more memory (--memory)",
                         boot->modules[0].name, size);
    store_le32(header + HDR_RAMDISK, best);
    store_le32(header + HDR_RAMDISK_SIZE, size);
    return boot_place(boot, "initrd", best, data, size, size, error);
}

static bool linux_put_command_line(DirectBoot *boot, const LinuxImage *image, uint8_t *header,
                                   GError **error)
{
    if (strlen(boot->append) > image->cmdline_max)
        return boot_fail(boot, error, "it takes a command line of at most %u bytes; shorten it",
                         image->cmdline_max);
    uint64_t at = boot_area_string(boot, boot->append);
    store_le32(header + HDR_CMDLINE, at);
    return at || boot_fail(boot, error, "the command line does not fit");
}

/* The screen as the machine leaves it: VGA text mode 3. */
static void linux_fill_screen(uint8_t *zero_page)
{
    zero_page[ZP_VIDEO_MODE] = 3;
    zero_page[ZP_COLUMNS] = 80;
    zero_page[ZP_ROWS] = 25;
    zero_page[ZP_IS_VGA] = 1;
    store_le16(zero_page + ZP_EGA_BX, 3);
    store_le16(zero_page + ZP_POINTS, 16);
}

static void linux_fill_e820(const DirectBoot *boot, uint8_t *zero_page)
{
    size_t count = MIN(boot->machine->e820_count, LINUX_E820_MAX);

    for (size_t i = 0; i < count; i++) {
        uint8_t *at = zero_page + LINUX_E820_AT + i * 20;
        store_le64(at, boot->machine->e820[i].start);
        store_le64(at + 8, boot->machine->e820[i].size);
        store_le32(at + 16, boot->machine->e820[i].type);
    }
    zero_page[ZP_E820_ENTRIES] = count;
}

static void linux_fill_header(const DirectBoot *boot, const LinuxImage *image, uint8_t *zero_page)
{
    const uint8_t *data = g_bytes_get_data(boot->kernel.bytes, NULL);

    memcpy(zero_page + LINUX_HEADER, data + LINUX_HEADER, image->header_end - LINUX_HEADER);
    zero_page[HDR_LOADER] = 0xff; /* a loader without a number of its own */
    store_le16(zero_page + HDR_VID_MODE, 0xffff);
    store_le32(zero_page + HDR_CODE32, LINUX_LOAD_AT);
    store_le64(zero_page + ZP_RSDP, boot->machine->rsdp);
}

/* Identity map of the first 4 GiB in pages of 2 MiB. */
static uint64_t linux_put_page_tables(DirectBoot *boot)
{
    uint64_t at = boot_area_take(boot, 6 * GUEST_PAGE_SIZE);
    uint64_t table[512] = {0};
    AddressSpace *memory = boot->machine->memory;

    if (!at)
        return 0;
    table[0] = GUINT64_TO_LE((at + GUEST_PAGE_SIZE) | 3);
    space_write(memory, at, table, sizeof(table));
    for (unsigned i = 0; i < 4; i++)
        table[i] = GUINT64_TO_LE((at + (2 + i) * GUEST_PAGE_SIZE) | 3);
    space_write(memory, at + GUEST_PAGE_SIZE, table, sizeof(table));
    for (unsigned directory = 0; directory < 4; directory++) {
        for (unsigned i = 0; i < 512; i++)
            table[i] = GUINT64_TO_LE((GIB(directory) + MIB(2) * i) | 0x83);
        space_write(memory, at + (2 + directory) * GUEST_PAGE_SIZE, table, sizeof(table));
    }
    return at;
}

static bool linux_enter(DirectBoot *boot, const LinuxImage *image, uint64_t zero_page,
                        BootEntry *entry, GError **error)
{
    uint64_t stack = boot_area_take(boot, LINUX_STACK_SIZE);

    entry->mode = image->is_64 ? BOOT_LONG64 : BOOT_PROTECTED32;
    entry->rip = LINUX_LOAD_AT + (image->is_64 ? LINUX_ENTRY64 : 0);
    entry->rsi = zero_page;
    entry->rsp = stack + LINUX_STACK_SIZE;
    if (image->is_64)
        entry->cr3 = linux_put_page_tables(boot);
    if (!stack || !zero_page || (image->is_64 && !entry->cr3))
        return boot_fail(boot, error, "the boot parameters do not fit");
    return boot_put_gdt(boot, entry, error);
}

static bool linux_place_kernel(DirectBoot *boot, const LinuxImage *image, GError **error)
{
    const uint8_t *data = g_bytes_get_data(boot->kernel.bytes, NULL);

    if (!boot_is_ram(boot, LINUX_LOAD_AT, image->run_end - LINUX_LOAD_AT))
        return boot_fail(boot, error,
                         "it needs at least %" PRIu64
                         " MiB of memory to start; give the VM more (--memory)",
                         image->run_end / MIB(1) + 1);
    return boot_place(boot, "kernel", LINUX_LOAD_AT, data + image->payload_offset,
                      image->payload_size, image->payload_size, error);
}

static bool linux_load(DirectBoot *boot, BootEntry *entry, GError **error)
{
    uint8_t zero_page[LINUX_ZERO_PAGE_SIZE] = {0};
    LinuxImage image = {0};

    if (!linux_parse(boot, &image, error))
        return false;
    linux_fill_header(boot, &image, zero_page);
    linux_fill_screen(zero_page);
    linux_fill_e820(boot, zero_page);
    if (!linux_place_kernel(boot, &image, error) ||
        !linux_place_initrd(boot, &image, zero_page, error) ||
        !linux_put_command_line(boot, &image, zero_page, error))
        return false;
    return linux_enter(boot, &image, boot_area_put(boot, zero_page, sizeof(zero_page)), entry,
                       error);
}

const BootKind boot_linux = {
    .name = "Linux", .probe = linux_probe, .check = linux_check, .load = linux_load};

/* ---- in real mode ---------------------------------------------------------------------------- */

/* The real-mode part, with what a boot loader fills in, in a segment of its own. It may move itself
 * to 0x90000: the command line lies below. */
static uint64_t linux_put_setup(DirectBoot *boot, const LinuxImage *image, GError **error)
{
    const uint8_t *data = g_bytes_get_data(boot->kernel.bytes, NULL);
    g_autofree uint8_t *setup = g_memdup2(data, image->payload_offset);

    setup[HDR_LOADER] = 0xff; /* a loader without a number of its own */
    setup[HDR_LOADFLAGS] |= CAN_USE_HEAP;
    store_le16(setup + HDR_VID_MODE, 0xffff);
    store_le16(setup + HDR_HEAP_END, LINUX_HEAP_END - 0x200);
    if (!linux_place_initrd(boot, image, setup, error) ||
        !linux_put_command_line(boot, image, setup, error))
        return 0;
    uint64_t at = boot_area_take(boot, KIB(64));
    if (!at || !space_write(boot->machine->memory, at, setup, image->payload_offset)) {
        boot_fail(boot, error, "the boot parameters do not fit");
        return 0;
    }
    return at;
}

static bool linux_load_real(DirectBoot *boot, BootEntry *entry, GError **error)
{
    LinuxImage image = {0};

    if (!linux_parse(boot, &image, error) || !linux_place_kernel(boot, &image, error))
        return false;
    if (image.payload_offset > LINUX_SETUP_MAX)
        return boot_fail(boot, error, "its setup header is damaged or cut off; copy it again");
    uint64_t setup = linux_put_setup(boot, &image, error);
    entry->mode = BOOT_REAL16;
    entry->code_segment = (setup + HDR_JUMP) >> 4;
    entry->data_segment = setup >> 4;
    entry->rsp = KIB(64) - 16;
    return setup != 0;
}

const BootKind boot_linux_real = {
    .name = "Linux",
    .wants_firmware = true,
    .probe = linux_probe_real,
    .check = linux_check,
    .load = linux_load_real,
};
