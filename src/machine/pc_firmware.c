/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What firmware, or a kernel booted without one, finds in the PC: CMOS, fw_cfg, memory map, ACPI,
 * SMBIOS, the BIOS data area. See pc.h.
 *
 * Without firmware, the tables lie at the top of low RAM and their anchors in the last segment:
 *
 *     0xf0000 RSDP   0xf0040 SMBIOS anchor   low RAM - n: ACPI tables, SMBIOS structures (E820:
 * ACPI)
 */
#include "base/bits.h"
#include "base/i18n.h"
#include "machine/acpi.h"
#include "machine/boot_door.h"
#include "machine/pc.h"
#include "machine/pci_setup.h"
#include "machine/smbios.h"

#define PC_BASE_RAM_END    UINT64_C(0x9fc00) /* 1 KiB of extended BIOS data above */
#define PC_RSDP_AT         UINT64_C(0xf0000)
#define PC_SMBIOS_AT       UINT64_C(0xf0040)
#define PC_TABLES_RESERVED KIB(256) /* with direct boot: for tables, ours or firmware's */
#define PC_SMBIOS_RESERVED KIB(32)  /* … of which the last part is SMBIOS's */

/* CMOS bytes that PC firmware reads (SeaBIOS src/hw/rtc.h). */
enum {
    CMOS_FLOPPY = 0x10,
    CMOS_EQUIPMENT = 0x14,
    CMOS_BASE_LOW = 0x15,
    CMOS_EXTENDED_LOW = 0x17,
    CMOS_EXTENDED2_LOW = 0x30,
    CMOS_ABOVE_16M_LOW = 0x34,
    CMOS_BOOT_FLAG1 = 0x38,
    CMOS_DISK_TRANSLATION = 0x39,
    CMOS_BOOT_FLAG2 = 0x3d,
    CMOS_HIGH_RAM_LOW = 0x5b,
    CMOS_CPU_COUNT = 0x5f
};
#define PC_FLOPPY_1440 4
/* Disks beyond what 1024 cylinders of 16 heads and 63 sectors hold need LBA translation. */
#define PC_CHS_LIMIT (UINT64_C(1024) * 16 * 63 * 512)

/* ---- CMOS ------------------------------------------------------------------------------------ */

static void pc_cmos_put16(Pc *pc, uint8_t index, uint64_t value)
{
    value = MIN(value, UINT16_MAX);
    rtc_set_cmos(pc->rtc, index, value);
    rtc_set_cmos(pc->rtc, index + 1, value >> 8);
}

static void pc_cmos_memory(Pc *pc)
{
    uint64_t extended_kib = (pc->low_ram - MIB(1)) / KIB(1);
    uint64_t above_16m = pc->low_ram > MIB(16) ? (pc->low_ram - MIB(16)) / KIB(64) : 0;
    uint64_t high = pc->high_ram / KIB(64);

    pc_cmos_put16(pc, CMOS_BASE_LOW, 640);
    pc_cmos_put16(pc, CMOS_EXTENDED_LOW, extended_kib);
    pc_cmos_put16(pc, CMOS_EXTENDED2_LOW, extended_kib);
    pc_cmos_put16(pc, CMOS_ABOVE_16M_LOW, above_16m);
    rtc_set_cmos(pc->rtc, CMOS_HIGH_RAM_LOW, high);
    rtc_set_cmos(pc->rtc, CMOS_HIGH_RAM_LOW + 1, high >> 8);
    rtc_set_cmos(pc->rtc, CMOS_HIGH_RAM_LOW + 2, high >> 16);
}

static bool pc_parse_boot_order(const char *text, uint16_t *ret_nibbles, GError **error)
{
    static const char letters[] = "acdn"; /* floppy 1, disk 2, CD-ROM 3, network 4 */
    const char *order = text ? text : "cdn";

    *ret_nibbles = 0;
    for (unsigned i = 0; order[i]; i++) {
        const char *found = strchr(letters, order[i]);
        if (!found || i >= 4) {
            g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                        _("boot order '%s': use up to four of the letters a (floppy), c (disk), "
                          "d (CD-ROM), n (network)"),
                        order);
            return false;
        }
        *ret_nibbles |= (uint16_t)(found - letters + 1) << (4 * i);
    }
    return true;
}

static bool pc_cmos_boot_order(Pc *pc, const PcConfig *config, GError **error)
{
    uint16_t nibbles;

    if (!pc_parse_boot_order(config->boot_order, &nibbles, error))
        return false;
    rtc_set_cmos(pc->rtc, CMOS_BOOT_FLAG2, nibbles);
    /* Bit 0: boot floppies without the 0x55aa signature, too. */
    rtc_set_cmos(pc->rtc, CMOS_BOOT_FLAG1, (nibbles >> 8 & 0xf) << 4 | 1);
    return true;
}

static void pc_cmos_drives(Pc *pc)
{
    unsigned floppies = 0, types = 0, translation = 0;

    for (unsigned i = 0; pc->fdc && i < FDC_DRIVES; i++) {
        if (i == 0 || pc->fdc->drives[i].present) { /* a controller always has drive A */
            types |= PC_FLOPPY_1440 << (4 * (1 - i));
            floppies++;
        }
    }
    for (unsigned i = 0; i < IDE_CHANNELS * IDE_UNITS; i++) {
        const AtaDrive *drive = &pc->ide->channels[i / IDE_UNITS].drives[i % IDE_UNITS];
        if (drive->disk && disk_info(drive->disk)->size > PC_CHS_LIMIT)
            translation |= 1u << (2 * i);
    }
    rtc_set_cmos(pc->rtc, CMOS_FLOPPY, types);
    /* FPU, PS/2 mouse, and 80-column colour, as PCs with a VGA have it. */
    rtc_set_cmos(pc->rtc, CMOS_EQUIPMENT, 0x06 | (floppies ? 1 | (floppies - 1) << 6 : 0));
    rtc_set_cmos(pc->rtc, CMOS_DISK_TRANSLATION, translation);
}

/* ---- memory map ------------------------------------------------------------------------------ */

static void pc_add_e820(Pc *pc, uint64_t start, uint64_t end, uint32_t type)
{
    E820Entry entry = {start, end - start, type};

    if (end > start)
        g_array_append_val(pc->e820, entry);
}

/* With firmware it is only the list of RAM, which firmware refines. */
static void pc_build_e820(Pc *pc, bool direct)
{
    if (!direct) {
        pc_add_e820(pc, 0, pc->low_ram, E820_RAM);
    } else {
        uint64_t tables = pc->low_ram - PC_TABLES_RESERVED;
        pc_add_e820(pc, 0, PC_BASE_RAM_END, E820_RAM);
        pc_add_e820(pc, PC_BASE_RAM_END, 0xa0000, E820_RESERVED);
        pc_add_e820(pc, 0xf0000, MIB(1), E820_RESERVED);
        pc_add_e820(pc, MIB(1), tables, E820_RAM);
        pc_add_e820(pc, tables, pc->low_ram, E820_ACPI); /* SMBIOS alone without ACPI */
    }
    if (pc->high_ram)
        pc_add_e820(pc, GIB(4), GIB(4) + pc->high_ram, E820_RAM);
}

static void pc_publish_e820(Pc *pc)
{
    g_autoptr(GByteArray) table = g_byte_array_new();

    for (guint i = 0; i < pc->e820->len; i++) {
        const E820Entry *e = &g_array_index(pc->e820, E820Entry, i);
        uint8_t entry[20];
        store_le64(entry, e->start);
        store_le64(entry + 8, e->size);
        store_le32(entry + 16, e->type);
        g_byte_array_append(table, entry, sizeof(entry));
    }
    fw_cfg_add_file(pc->fw_cfg, "etc/e820", table->data, table->len);
}

/* ---- tables ---------------------------------------------------------------------------------- */

static bool pc_build_acpi(Pc *pc, const PcConfig *config, GError **error)
{
    AcpiConfig acpi = {.cpu_count = pc->vm->vcpu_count,
                       .pci_window_start = pc->pci_window,
                       .floppy = pc->fdc != NULL,
                       .apic = !config->no_apic,
                       .hpet = !config->no_hpet};
    AcpiTables tables;
    bool ok = true;

    G_STATIC_ASSERT(PC_SERIAL_MAX == ACPI_SERIAL_MAX);
    for (unsigned i = 0; i < PC_SERIAL_MAX; i++)
        acpi.serial[i] = config->serial[i] != NULL;
    G_STATIC_ASSERT(PC_PARALLEL_MAX == ACPI_PARALLEL_MAX);
    for (unsigned i = 0; i < PC_PARALLEL_MAX; i++)
        acpi.parallel[i] = config->parallel[i] != NULL;
    acpi_build(&acpi, &tables);
    fw_cfg_add_file(pc->fw_cfg, ACPI_TABLES_FILE, tables.tables->data, tables.tables->len);
    fw_cfg_add_file(pc->fw_cfg, ACPI_RSDP_FILE, tables.rsdp->data, tables.rsdp->len);
    fw_cfg_add_file(pc->fw_cfg, ACPI_LOADER_FILE, tables.loader->data, tables.loader->len);
    if (pc->direct_boot) {
        g_assert(tables.tables->len <= PC_TABLES_RESERVED - PC_SMBIOS_RESERVED);
        ok = acpi_link(&tables, pc->low_ram - PC_TABLES_RESERVED, PC_RSDP_AT, error);
        pc->acpi_tables = g_byte_array_ref(tables.tables);
        pc->acpi_rsdp = g_byte_array_ref(tables.rsdp);
    }
    acpi_tables_clear(&tables);
    return ok;
}

/* Text of hexadecimal digits and hyphens; without one the bytes stay zero, which means "not set".
 */
static void pc_parse_uuid(const char *text, uint8_t uuid[16])
{
    unsigned digits = 0;

    memset(uuid, 0, 16);
    for (; text && *text && digits < 32; text++) {
        if (!g_ascii_isxdigit(*text))
            continue;
        uuid[digits / 2] = uuid[digits / 2] << 4 | g_ascii_xdigit_value(*text);
        digits++;
    }
}

static void pc_build_smbios(Pc *pc, const PcConfig *pc_config)
{
    SmbiosConfig config = {.cpu_count = pc->vm->vcpu_count,
                           .cpu_name = pc->model->brand,
                           .low_ram = pc->low_ram,
                           .high_ram = pc->high_ram};

    pc_parse_uuid(pc_config->uuid, config.uuid);
    pc->smbios_tables = smbios_build(&config, &pc->smbios_anchor);
    g_assert(pc->smbios_tables->len <= PC_SMBIOS_RESERVED);
    fw_cfg_add_file(pc->fw_cfg, SMBIOS_TABLES_FILE, pc->smbios_tables->data,
                    pc->smbios_tables->len);
    fw_cfg_add_file(pc->fw_cfg, SMBIOS_ANCHOR_FILE, pc->smbios_anchor->data,
                    pc->smbios_anchor->len);
    if (pc->direct_boot)
        smbios_set_address(pc->smbios_anchor, pc->low_ram - PC_SMBIOS_RESERVED);
}

/* ---- fw_cfg ---------------------------------------------------------------------------------- */

static void pc_publish_config(Pc *pc, const PcConfig *config)
{
    /* Sleep states: bit 7 offered, 6-0 type. S5 is soft off; S3 and S4 are not offered. */
    static const uint8_t system_states[] = {0x80, 0, 0, 1, 2, 0x80};
    FwCfg *fw = pc->fw_cfg;
    unsigned cpus = pc->vm->vcpu_count;
    uint8_t uuid[16];

    pc_parse_uuid(config->uuid, uuid);
    fw_cfg_add_bytes(fw, FW_CFG_UUID, uuid, sizeof(uuid));
    fw_cfg_add_u64(fw, FW_CFG_RAM_SIZE, pc->low_ram + pc->high_ram);
    fw_cfg_add_u16(fw, FW_CFG_NOGRAPHIC, 0);
    fw_cfg_add_u16(fw, FW_CFG_NB_CPUS, cpus);
    fw_cfg_add_u16(fw, FW_CFG_MAX_CPUS, cpus);
    fw_cfg_add_u16(fw, FW_CFG_BOOT_MENU, config->boot_menu);
    fw_cfg_add_u64(fw, FW_CFG_NUMA, 0);
    fw_cfg_add_u32(fw, FW_CFG_IRQ0_OVERRIDE, 1);
    fw_cfg_add_file(fw, "etc/system-states", system_states, sizeof(system_states));
}

static void pc_open_door(void *obj, uint64_t offset, unsigned size, uint64_t value)
{
    Pc *pc = obj;

    pc->door_open = true;
    g_source_set_ready_time(pc->request_source, 0);
}

/* Firmware boots an option ROM that asks for the kernel. */
static void pc_create_door(Pc *pc)
{
    static const RegionOps ops = {.name = "boot-door", .write = pc_open_door};
    g_autoptr(GByteArray) rom = boot_door_rom();

    fw_cfg_add_file(pc->fw_cfg, BOOT_DOOR_ROM_FILE, rom->data, rom->len);
    fw_cfg_add_file(pc->fw_cfg, "bootorder", BOOT_DOOR_ORDER, sizeof(BOOT_DOOR_ORDER));
    region_init_io(&pc->door, &ops, pc, &pc->lock, 1);
    space_map(pc->board.ports, BOOT_DOOR_PORT, &pc->door, 0, 1, SPACE_PRIORITY_BOARD, false);
}

/* Suites come as Multiboot kernels that leave by the debug exit port, and some of their tests ask
 * for the test device. */
static bool pc_runs_test_suite(const Pc *pc, const PcConfig *config)
{
    return !config->testdev && config->debug_exit_port &&
           !strcmp(direct_boot_protocol(pc->direct_boot), "Multiboot");
}

static bool pc_open_kernel(Pc *pc, const PcConfig *config, GError **error)
{
    if (!config->kernel)
        return true;
    if (pc->low_ram < MIB(4)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    _("a kernel needs at least 4 MiB of memory; give the VM more (--memory)"));
        return false;
    }
    pc->direct_boot = direct_boot_open(config->kernel, config->initrd, config->append, error);
    if (!pc->direct_boot)
        return false;
    if (direct_boot_wants_firmware(pc->direct_boot))
        pc_create_door(pc);
    return !pc_runs_test_suite(pc, config) || pc_create_testdev(pc, error);
}

bool pc_create_firmware(Pc *pc, const PcConfig *config, GError **error)
{
    if (!pc_open_kernel(pc, config, error) || !pc_cmos_boot_order(pc, config, error))
        return false;
    pc_cmos_memory(pc);
    pc_cmos_drives(pc);
    rtc_set_cmos(pc->rtc, CMOS_CPU_COUNT, pc->vm->vcpu_count - 1);
    pc_publish_config(pc, config);
    pc_build_e820(pc, false);
    pc_publish_e820(pc);
    if (pc->direct_boot) {
        g_array_set_size(pc->e820, 0);
        pc_build_e820(pc, true);
    }
    pc_build_smbios(pc, config);
    return config->no_acpi || pc_build_acpi(pc, config, error);
}

/* ---- without firmware ------------------------------------------------------------------------ */

typedef struct BdaField {
    uint16_t address, value;
    uint8_t size;
} BdaField;

/* The BIOS data area, as far as operating systems look at it. */
static const BdaField bda_fields[] = {
    {0x400, 0x3f8, 2},
    {0x402, 0x2f8, 2},
    {0x408, 0x378, 2},                  /* serial and parallel ports */
    {0x40e, PC_BASE_RAM_END >> 4, 2},   /* extended BIOS data area */
    {0x410, 0x0026, 2},                 /* equipment: FPU, mouse, 80×25 colour */
    {0x413, PC_BASE_RAM_END / 1024, 2}, /* KiB of base memory */
    {0x449, 3, 1},
    {0x44a, 80, 2},
    {0x44c, 0x1000, 2}, /* video mode, columns, page size */
    {0x463, 0x3d4, 2},
    {0x484, 24, 1},
    {0x485, 16, 2}, /* CRTC port, rows - 1, font height */
};

static void pc_write_bda(Pc *pc)
{
    AddressSpace *memory = pc->board.memory;

    for (unsigned i = 0; i < G_N_ELEMENTS(bda_fields); i++)
        space_store(memory, bda_fields[i].address, bda_fields[i].size, bda_fields[i].value);
    space_store(memory, PC_BASE_RAM_END, 1, 1); /* the extended area's size in KiB */
}

typedef struct PortWrite {
    uint16_t port;
    uint8_t value;
} PortWrite;

/* 8259A at vectors 8 and 0x70, all masked; timer channel 0 at 18.2 Hz; the first DMA controller let
 * through the second (channel 4: cascade, unmasked): as a PC BIOS leaves them. */
static const PortWrite bios_port_writes[] = {
    {0x20, 0x11}, {0x21, 0x08}, {0x21, 0x04}, {0x21, 0x01}, {0xa0, 0x11},
    {0xa1, 0x70}, {0xa1, 0x02}, {0xa1, 0x01}, {0x21, 0xff}, {0xa1, 0xff},
    {0x43, 0x34}, {0x40, 0x00}, {0x40, 0x00}, {0xd6, 0xc0}, {0xd4, 0x00},
};

static void pc_setup_hardware(Pc *pc)
{
    i440fx_open_shadow(pc->i440fx);
    pci_assign_resources(pc->bus, pc->piix3, pc->pci_window);
    if (pc->pm)
        piix4_pm_setup(pc->pm);
    /* PIIX IDE timing: both channels decode their ports. */
    pci_config_write(&pc->ide->pci, 0x40, 4, 0x80008000);
    pci_config_write(&pc->ide->pci, PCI_COMMAND, 2,
                     load_le16(pc->ide->pci.config + PCI_COMMAND) | PCI_COMMAND_MASTER);
    for (unsigned i = 0; i < G_N_ELEMENTS(bios_port_writes); i++)
        space_store(pc->board.ports, bios_port_writes[i].port, 1, bios_port_writes[i].value);
    if (!pc->bsp_lapic->absent)
        lapic_set_virtual_wire(pc->bsp_lapic);
    if (pc->vga)
        vga_set_text_mode(pc->vga);
    pc_write_bda(pc);
}

static bool pc_write_tables(Pc *pc, GError **error)
{
    const struct {
        uint64_t address;
        const GByteArray *bytes;
    } blobs[] = {
        {PC_RSDP_AT, pc->acpi_rsdp},
        {PC_SMBIOS_AT, pc->smbios_anchor},
        {pc->low_ram - PC_TABLES_RESERVED, pc->acpi_tables},
        {pc->low_ram - PC_SMBIOS_RESERVED, pc->smbios_tables},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(blobs); i++) {
        if (blobs[i].bytes && !space_write(pc->board.memory, blobs[i].address, blobs[i].bytes->data,
                                           blobs[i].bytes->len)) {
            g_set_error(error, G_IO_ERROR, G_IO_ERROR_FAILED,
                        _("cannot place the ACPI tables; give the VM more memory (--memory)"));
            return false;
        }
    }
    return true;
}

bool pc_prepare_direct_boot(Pc *pc, BootEntry *ret_entry, GError **error)
{
    BootMachine machine = {.memory = pc->board.memory,
                           .e820 = (const E820Entry *)(void *)pc->e820->data,
                           .e820_count = pc->e820->len,
                           .rsdp = pc->acpi_rsdp ? PC_RSDP_AT : 0};

    if (!direct_boot_wants_firmware(pc->direct_boot)) {
        pc_setup_hardware(pc);
        if (!pc_write_tables(pc, error))
            return false;
    }
    return direct_boot_load(pc->direct_boot, &machine, ret_entry, error);
}
