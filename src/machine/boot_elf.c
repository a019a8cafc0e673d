/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * ELF executables for x86 (segments and the PVH note), and booting them by PVH.
 *
 * Source: System V ABI chapter 4/5 (ELF), Xen docs/misc/pvh.pandoc and
 * public/arch-x86/hvm/start_info.h.
 */
#include <elf.h>
#include <string.h>

#include "base/bits.h"
#include "base/i18n.h"
#include "machine/boot_loader.h"

#define PVH_NOTE_TYPE   18 /* XEN_ELFNOTE_PHYS32_ENTRY, owner "Xen" */
#define PVH_MAGIC       0x336ec578
#define PVH_INFO_SIZE   56
#define PVH_ENTRY_SIZE  24 /* memory map entry */
#define PVH_MODULE_SIZE 32
#define PVH_STACK_SIZE  4096

bool boot_elf_probe(const uint8_t *data, size_t size)
{
    return size >= SELFMAG && memcmp(data, ELFMAG, SELFMAG) == 0;
}

/* One program header, of either class. */
typedef struct ElfSegment {
    uint32_t type;
    uint64_t offset, address, file_size, memory_size, align;
} ElfSegment;

static ElfSegment elf_segment(const uint8_t *at, bool is_64)
{
    if (is_64)
        return (ElfSegment){load_le32(at),      load_le64(at + 8),  load_le64(at + 24),
                            load_le64(at + 32), load_le64(at + 40), load_le64(at + 48)};
    return (ElfSegment){load_le32(at),      load_le32(at + 4),  load_le32(at + 12),
                        load_le32(at + 16), load_le32(at + 20), load_le32(at + 28)};
}

/* Walks the notes of one segment for the PVH entry. */
static void elf_find_pvh(const uint8_t *notes, size_t size, uint64_t align, BootElf *elf)
{
    size_t at = 0;

    align = align == 8 ? 8 : 4;
    while (size - at >= 12) {
        size_t name_size = load_le32(notes + at), value_size = load_le32(notes + at + 4);
        uint32_t type = load_le32(notes + at + 8);
        size_t name = at + 12;
        if (name_size > size - name)
            return;
        size_t value = align_up(name + name_size, align);
        if (value > size || value_size > size - value)
            return;
        if (type == PVH_NOTE_TYPE && name_size == 4 && memcmp(notes + name, "Xen", 4) == 0 &&
            value_size >= 4) {
            elf->has_pvh_entry = true;
            elf->pvh_entry = load_le32(notes + value);
            return;
        }
        at = align_up(value + value_size, align);
        if (at > size)
            return;
    }
}

static const char *elf_add_segment(const ElfSegment *s, size_t file_size, const uint8_t *data,
                                   BootElf *elf)
{
    if (s->type != PT_LOAD && s->type != PT_NOTE)
        return NULL;
    if (s->offset > file_size || s->file_size > file_size - s->offset)
        return _("a segment lies outside the file");
    if (s->type == PT_NOTE) {
        elf_find_pvh(data + s->offset, s->file_size, s->align, elf);
        return NULL;
    }
    if (!s->memory_size)
        return NULL;
    if (s->memory_size < s->file_size)
        return _("a segment is larger in the file than in memory");
    if (s->address >= GIB(4) || s->memory_size > GIB(4) - s->address)
        return _("a segment loads above 4 GiB");
    if (elf->segment_count == BOOT_SEGMENT_MAX)
        return _("it has too many segments");
    elf->segments[elf->segment_count++] =
        (BootSegment){s->offset, s->file_size, s->address, s->memory_size};
    return NULL;
}

static const char *elf_check_header(const uint8_t *data, size_t size, bool is_64)
{
    uint16_t machine;

    if (size < (is_64 ? sizeof(Elf64_Ehdr) : sizeof(Elf32_Ehdr)))
        return _("the ELF header is cut off");
    machine = load_le16(data + 18);
    if ((data[EI_CLASS] != ELFCLASS32 && data[EI_CLASS] != ELFCLASS64) ||
        data[EI_DATA] != ELFDATA2LSB)
        return _("it is no little-endian ELF file");
    if (machine != EM_386 && machine != EM_X86_64)
        return _("it is an ELF file for another processor");
    if (load_le16(data + 16) != ET_EXEC && load_le16(data + 16) != ET_DYN)
        return _("it is no executable ELF file");
    return NULL;
}

bool boot_elf_parse(const uint8_t *data, size_t size, BootElf *ret_elf, const char **ret_problem)
{
    bool is_64 = size > EI_CLASS && data[EI_CLASS] == ELFCLASS64;
    BootElf elf = {.is_64 = is_64};

    *ret_problem = elf_check_header(data, size, is_64);
    if (*ret_problem)
        return false;
    elf.entry = is_64 ? load_le64(data + 24) : load_le32(data + 24);
    uint64_t table = is_64 ? load_le64(data + 32) : load_le32(data + 28);
    uint16_t entry_size = load_le16(data + (is_64 ? 54 : 42));
    uint16_t count = load_le16(data + (is_64 ? 56 : 44));
    if (entry_size < (is_64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr)) || table > size ||
        (uint64_t)entry_size * count > size - table) {
        *ret_problem = _("its program headers are outside the file");
        return false;
    }
    for (unsigned i = 0; i < count && !*ret_problem; i++) {
        ElfSegment s = elf_segment(data + table + (size_t)i * entry_size, is_64);
        *ret_problem = elf_add_segment(&s, size, data, &elf);
    }
    if (!*ret_problem && !elf.segment_count)
        *ret_problem = _("it has nothing to load");
    *ret_elf = elf;
    return !*ret_problem;
}

/* ---- PVH ------------------------------------------------------------------------------------- */

static bool pvh_parse(DirectBoot *boot, BootElf *ret_elf, GError **error)
{
    gsize size;
    const uint8_t *data = g_bytes_get_data(boot->kernel.bytes, &size);
    const char *problem;

    if (!boot_elf_parse(data, size, ret_elf, &problem))
        return boot_fail(boot, error, "%s", problem);
    if (!ret_elf->has_pvh_entry)
        return boot_fail(boot, error,
                         "this ELF file has no PVH entry; use the kernel's bzImage, or build it "
                         "with CONFIG_PVH");
    return true;
}

static bool pvh_check(DirectBoot *boot, GError **error)
{
    BootElf elf;

    return pvh_parse(boot, &elf, error);
}

static uint64_t pvh_put_modules(DirectBoot *boot, const uint64_t *addresses)
{
    uint8_t list[BOOT_MODULE_MAX * PVH_MODULE_SIZE] = {0};

    for (unsigned i = 0; i < boot->module_count; i++) {
        store_le64(list + i * PVH_MODULE_SIZE, addresses[i]);
        store_le64(list + i * PVH_MODULE_SIZE + 8, g_bytes_get_size(boot->modules[i].bytes));
    }
    return boot->module_count ? boot_area_put(boot, list, boot->module_count * PVH_MODULE_SIZE) : 0;
}

static uint64_t pvh_put_memory_map(DirectBoot *boot)
{
    size_t count = boot->machine->e820_count;
    g_autofree uint8_t *map = g_malloc0(count * PVH_ENTRY_SIZE);

    for (size_t i = 0; i < count; i++) {
        store_le64(map + i * PVH_ENTRY_SIZE, boot->machine->e820[i].start);
        store_le64(map + i * PVH_ENTRY_SIZE + 8, boot->machine->e820[i].size);
        store_le32(map + i * PVH_ENTRY_SIZE + 16, boot->machine->e820[i].type);
    }
    return boot_area_put(boot, map, count * PVH_ENTRY_SIZE);
}

/* hvm_start_info, version 1. */
static uint64_t pvh_put_info(DirectBoot *boot, const uint64_t *addresses)
{
    uint8_t info[PVH_INFO_SIZE] = {0};
    uint64_t modules = pvh_put_modules(boot, addresses);
    uint64_t command_line = boot_area_string(boot, boot->append);
    uint64_t map = pvh_put_memory_map(boot);

    if ((boot->module_count && !modules) || !command_line || !map)
        return 0;
    store_le32(info, PVH_MAGIC);
    store_le32(info + 4, 1);
    store_le32(info + 12, boot->module_count);
    store_le64(info + 16, modules);
    store_le64(info + 24, command_line);
    store_le64(info + 32, boot->machine->rsdp);
    store_le64(info + 40, map);
    store_le32(info + 48, boot->machine->e820_count);
    return boot_area_put(boot, info, sizeof(info));
}

static bool pvh_load(DirectBoot *boot, BootEntry *entry, GError **error)
{
    uint64_t addresses[BOOT_MODULE_MAX];
    BootElf elf = {0};

    if (!pvh_parse(boot, &elf, error) ||
        !boot_place_segments(boot, elf.segments, elf.segment_count, error) ||
        !boot_place_modules(boot, addresses, error))
        return false;
    entry->mode = BOOT_PROTECTED32;
    entry->rip = elf.pvh_entry;
    entry->rbx = pvh_put_info(boot, addresses);
    uint64_t stack = boot_area_take(boot, PVH_STACK_SIZE);
    entry->rsp = stack + PVH_STACK_SIZE;
    if (!entry->rbx || !stack)
        return boot_fail(boot, error, "the boot parameters do not fit");
    return boot_put_gdt(boot, entry, error);
}

const BootKind boot_pvh = {
    .name = "PVH", .probe = boot_elf_probe, .check = pvh_check, .load = pvh_load};
