/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The PC's devices and wires. See pc.h.
 *
 *     ISA device ──┐
 *     PCI INTx ────┼─ PIIX3 ── IRQ n ──┬─ 8259A pair ── LINT0 of the local APICs
 *     SCI ─────────┘                   └─ I/O APIC input n (IRQ 0: input 2) ── messages
 *     PIT, RTC ── HPET (legacy replacement) ── IRQ 0, IRQ 8
 *
 * Devices are reset in the order in which they are made here: controllers before their users.
 */
#include "base/bits.h"

#include <inttypes.h>

#include "base/i18n.h"
#include "device/chipset/debug_port.h"
#include "device/chipset/dma8237.h"
#include "device/chipset/fpu_error.h"
#include "device/chipset/hpet.h"
#include "device/chipset/isa_debug_exit.h"
#include "device/chipset/pit.h"
#include "device/guest/testdev.h"
#include "device/serial/parallel.h"
#include "device/serial/uart16550.h"
#include "machine/firmware.h"
#include "machine/pc.h"

#define PC_KEY_MAX 8192

#define PC_IOAPIC_BASE UINT64_C(0xfec00000)
#define PC_HPET_BASE   UINT64_C(0xfed00000)
#define PC_IDE_PLACES  (IDE_CHANNELS * IDE_UNITS)
#define PC_FLOPPY_DMA  2
#define PC_CD_SECTOR   2048

enum { PC_SLOT_HOST = 0, PC_SLOT_PIIX = 1, PC_SLOT_VGA = 2 };
enum { PIIX_ISA = 0, PIIX_IDE = 1, PIIX_PM = 3 };

/* ---- making and mapping ---------------------------------------------------------------------- */

static void *pc_add(Pc *pc, const DeviceType *type, const char *id)
{
    Device *device = device_new(type, &pc->board, id);

    g_ptr_array_add(pc->devices, device);
    return device;
}

static void pc_map_part(Pc *pc, uint64_t port, Region *region, uint64_t offset, uint64_t size)
{
    space_map(pc->board.ports, port, region, offset, size, SPACE_PRIORITY_BOARD, false);
}

static void pc_map_ports(Pc *pc, uint64_t port, Region *region)
{
    pc_map_part(pc, port, region, 0, region->size);
}

static void pc_map_memory(Pc *pc, uint64_t address, Region *region)
{
    space_map(pc->board.memory, address, region, 0, region->size, SPACE_PRIORITY_BOARD, false);
}

static bool pc_add_pci(Pc *pc, PciDevice *device, unsigned slot, unsigned function, GError **error)
{
    return device_create(&device->device, error) &&
           pci_bus_add(pc->bus, device, PCI_DEVFN(slot, function), error);
}

/* ---- interrupts ------------------------------------------------------------------------------ */

/* What the PIIX3 drives: an ISA interrupt, seen by both controllers. */
static void pc_set_irq(void *obj, unsigned n, bool level)
{
    Pc *pc = obj;

    pc->irq_rises[n] += level && !(pc->irq_levels >> n & 1);
    pc->irq_levels = (uint16_t)bits_set(pc->irq_levels, n, 1, level);
    irq_set(pic_irq(pc->pic, n), level);
    if (n != 2)
        irq_set(ioapic_irq(pc->ioapic, n == 0 ? 2 : n), level);
}

/* The 8259A pair's INTR, to whoever has the local APICs. */
static void pc_set_intr(void *obj, unsigned n, bool level)
{
    Pc *pc = obj;

    if (pc->engine->set_extint)
        pc->engine->set_extint(pc->vm, level);
    else
        irq_set(lapic_bus_lint(&pc->lapic_bus, 0), level);
}

static void pc_deliver(void *obj, uint64_t address, uint32_t data)
{
    Pc *pc = obj;

    pc->board.send_msi(pc->board.obj, address, data);
}

static void pc_lapic_eoi(void *obj, uint8_t vector)
{
    ioapic_eoi(obj, vector);
}

static int pc_lapic_acknowledge(void *obj)
{
    return pic_acknowledge(obj);
}

static bool pc_create_lapics(Pc *pc, GError **error)
{
    lapic_bus_init(&pc->lapic_bus);
    pc->lapic_bus.eoi = pc_lapic_eoi;
    pc->lapic_bus.eoi_obj = pc->ioapic;
    pc->lapic_bus.acknowledge_pic = pc_lapic_acknowledge;
    pc->lapic_bus.pic_obj = pc->pic;
    for (unsigned i = 0; i < pc->vm->vcpu_count; i++) {
        g_autofree char *id = g_strdup_printf("lapic%u", i);
        Lapic *lapic = pc_add(pc, &lapic_type, id);
        lapic->apic_id = i;
        lapic->bsp = i == 0;
        lapic->phys_bits = pc->model->physical_address_bits;
        lapic->x2apic = cpu_has(pc->model, CPU_X2APIC);
        lapic->absent = !cpu_has(pc->model, CPU_APIC);
        lapic->cpu_ops = &vcpu_intc_cpu_ops;
        lapic->vcpu = pc->vm->vcpus[i];
        if (!device_create(&lapic->device, error))
            return false;
        lapic_bus_attach(&pc->lapic_bus, lapic);
        pc->vm->vcpus[i]->intc = &lapic_intc;
        pc->vm->vcpus[i]->intc_obj = lapic;
        if (i == 0)
            pc->bsp_lapic = lapic;
    }
    return true;
}

static bool pc_create_interrupts(Pc *pc, const PcConfig *config, GError **error)
{
    pc->pic = pc_add(pc, &pic_type, "pic");
    pc->ioapic = pc_add(pc, &ioapic_type, "ioapic");
    pc->ioapic->deliver = pc_deliver;
    pc->ioapic->deliver_obj = pc;
    if (!device_create(&pc->pic->device, error) || !device_create(&pc->ioapic->device, error))
        return false;
    pc_map_ports(pc, 0x20, &pc->pic->io[0]);
    pc_map_ports(pc, 0xa0, &pc->pic->io[1]);
    pc_map_ports(pc, 0x4d0, &pc->pic->elcr);
    if (!config->no_apic) /* without them its inputs lead nowhere */
        pc_map_memory(pc, PC_IOAPIC_BASE, &pc->ioapic->io);
    pc->pic->intr = (IrqLine){pc_set_intr, pc, 0};
    return pc_create_lapics(pc, error);
}

static bool pc_lapics_hold(void *obj, uint8_t vector)
{
    return lapic_bus_holds(obj, vector);
}

void pc_engine_changed(Pc *pc)
{
    g_rec_mutex_lock(&pc->lock);
    irq_set(pc->pic->intr, pc->pic->intr_level);
    if (!pc->engine->send_msi)
        ioapic_end_others(pc->ioapic, pc_lapics_hold, &pc->lapic_bus);
    g_rec_mutex_unlock(&pc->lock);
}

/* ---- chipset --------------------------------------------------------------------------------- */

static bool pc_create_power(Pc *pc, GError **error)
{
    pc->pm = pc_add(pc, &piix4_pm_type, "pm");
    pc->pm->sci = piix3_sci(pc->piix3);
    if (!pc_add_pci(pc, &pc->pm->pci, PC_SLOT_PIIX, PIIX_PM, error))
        return false;
    pc_map_ports(pc, PIIX4_APM_PORT, &pc->pm->apm);
    return true;
}

static bool pc_create_bridges(Pc *pc, const PcConfig *config, GError **error)
{
    pc->i440fx = pc_add(pc, &i440fx_type, "host");
    pc->i440fx->ram = &pc->low_region;
    pc->i440fx->bios = pc->bios ? &pc->bios_region : NULL;
    pc->piix3 = pc_add(pc, &piix3_type, "isa");
    for (unsigned n = 0; n < PIIX3_IRQS; n++)
        pc->piix3->irq[n] = (IrqLine){pc_set_irq, pc, n};
    pc->bus = pci_bus_new(&pc->board, piix3_intx, pc->piix3);
    pc_map_ports(pc, 0xcf8, pci_bus_config_ports(pc->bus));
    if (!pc_add_pci(pc, &pc->i440fx->pci, PC_SLOT_HOST, 0, error) ||
        !pc_add_pci(pc, &pc->piix3->pci, PC_SLOT_PIIX, PIIX_ISA, error))
        return false;
    pci_bus_set_reset_port(pc->bus, &pc->piix3->reset_control);
    return config->no_acpi || pc_create_power(pc, error);
}

/* The timer's interrupt waits in every controller that passes it on. */
static bool pc_timer_untaken(void *obj)
{
    Pc *pc = obj;
    bool by_pic = pic_is_unmasked(pc->pic, 0);
    int vector = pc->engine->send_msi ? -1 : ioapic_vector(pc->ioapic, 2);

    return (by_pic || vector >= 0) && (!by_pic || pic_is_pending(pc->pic, 0)) &&
           (vector < 0 || lapic_bus_is_pending(&pc->lapic_bus, (uint8_t)vector));
}

static bool pc_create_hpet(Pc *pc, Hpet **ret_hpet, GError **error)
{
    Hpet *hpet = *ret_hpet = pc_add(pc, &hpet_type, "hpet");

    for (unsigned n = 0; n < IOAPIC_PINS; n++)
        hpet->irq[n] = ioapic_irq(pc->ioapic, n);
    hpet->isa_irq[0] = piix3_isa_irq(pc->piix3, 0);
    hpet->isa_irq[1] = piix3_isa_irq(pc->piix3, 8);
    if (!device_create(&hpet->device, error))
        return false;
    pc_map_memory(pc, PC_HPET_BASE, &hpet->io);
    return true;
}

static bool pc_create_timers(Pc *pc, const PcConfig *config, GError **error)
{
    Hpet *hpet = NULL;
    Pit *pit;

    if (!config->no_hpet && !pc_create_hpet(pc, &hpet, error))
        return false;
    pit = pc_add(pc, &pit_type, "pit");
    pc->rtc = pc_add(pc, &rtc_type, "rtc");
    pit->irq = hpet ? hpet_legacy_input(hpet, 0) : piix3_isa_irq(pc->piix3, 0);
    pit->irq_untaken = pc_timer_untaken;
    pit->irq_untaken_obj = pc;
    pc->rtc->irq = hpet ? hpet_legacy_input(hpet, 1) : piix3_isa_irq(pc->piix3, 8);
    if (!device_set(&pc->rtc->device, "local-time", config->rtc_local_time ? "on" : "off", error) ||
        !device_create(&pit->device, error) || !device_create(&pc->rtc->device, error))
        return false;
    pc_map_ports(pc, 0x40, &pit->io);
    pc_map_ports(pc, 0x61, &pit->port61);
    pc_map_ports(pc, 0x70, &pc->rtc->io);
    return true;
}

/* FERR# of all CPUs is one wire, as on boards of two processors. */
static bool pc_fpu_error(void *obj, bool ferr)
{
    return fpu_error_changed(((Pc *)obj)->fpu_error, ferr);
}

static bool pc_create_fpu_error(Pc *pc, GError **error)
{
    pc->fpu_error = pc_add(pc, &fpu_error_type, "fpu-error");
    pc->fpu_error->irq = piix3_isa_irq(pc->piix3, 13);
    if (!device_create(&pc->fpu_error->device, error))
        return false;
    pc_map_ports(pc, 0xf0, &pc->fpu_error->io);
    pc->vm->fpu_error = pc_fpu_error;
    return true;
}

/* ---- input and small ports ------------------------------------------------------------------- */

static void pc_a20_changed(void *obj, bool on)
{
    port92_a20_changed(obj, on);
}

static bool pc_create_input(Pc *pc, GError **error)
{
    pc->i8042 = pc_add(pc, &i8042_type, "i8042");
    pc->port92 = pc_add(pc, &port92_type, "port92");
    pc->i8042->irq_keyboard = piix3_isa_irq(pc->piix3, 1);
    pc->i8042->irq_mouse = piix3_isa_irq(pc->piix3, 12);
    pc->i8042->a20_changed = pc_a20_changed;
    pc->i8042->a20_obj = pc->port92;
    if (!device_create(&pc->i8042->device, error) || !device_create(&pc->port92->device, error))
        return false;
    i8042_connect(pc->i8042, pc->input);
    pc_map_ports(pc, 0x60, &pc->i8042->data);
    pc_map_ports(pc, 0x64, &pc->i8042->control);
    pc_map_ports(pc, 0x92, &pc->port92->io);
    return true;
}

/* Opens the backend of a port; the machine owns it. */
static bool pc_open_char(Pc *pc, const char *spec, CharBackend **ret_chr, GError **error)
{
    g_autoptr(GError) local = NULL;

    *ret_chr = char_open(spec, pc->context, &pc->lock, &local);
    if (local) {
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    if (*ret_chr)
        g_ptr_array_add(pc->chars, *ret_chr);
    return true;
}

static bool pc_create_serial(Pc *pc, const PcConfig *config, GError **error)
{
    static const struct {
        uint16_t port;
        uint8_t irq;
    } places[PC_SERIAL_MAX] = {{0x3f8, 4}, {0x2f8, 3}, {0x3e8, 4}, {0x2e8, 3}};

    for (unsigned i = 0; i < PC_SERIAL_MAX; i++) {
        if (!config->serial[i])
            continue;
        g_autofree char *id = g_strdup_printf("com%u", i + 1);
        Uart16550 *uart = pc_add(pc, &uart16550_type, id);
        if (i == 0)
            pc->com1 = uart;
        uart->irq = i < 2 ? piix3_isa_irq(pc->piix3, places[i].irq)
                          : piix3_isa_irq_shared(pc->piix3, places[i].irq);
        if (!pc_open_char(pc, config->serial[i], &uart->chr, error) ||
            !device_create(&uart->device, error))
            return false;
        pc_map_ports(pc, places[i].port, &uart->io);
    }
    return true;
}

static bool pc_create_parallel(Pc *pc, const PcConfig *config, GError **error)
{
    static const uint16_t places[PC_PARALLEL_MAX] = {0x378, 0x278, 0x3bc};

    for (unsigned i = 0; i < PC_PARALLEL_MAX; i++) {
        if (!config->parallel[i])
            continue;
        g_autofree char *id = g_strdup_printf("lpt%u", i + 1);
        Parallel *parallel = pc_add(pc, &parallel_type, id);
        if (i < 2) /* the third is polled */
            parallel->irq = i ? piix3_isa_irq_shared(pc->piix3, 7) : piix3_isa_irq(pc->piix3, 7);
        if (!pc_open_char(pc, config->parallel[i], &parallel->chr, error) ||
            !device_create(&parallel->device, error))
            return false;
        pc_map_ports(pc, places[i], &parallel->io);
    }
    return true;
}

static bool pc_create_debug_console(Pc *pc, const char *spec, GError **error)
{
    DebugPort *port = pc_add(pc, &debug_port_type, "debug-port");

    if (!pc_open_char(pc, spec, &port->chr, error) || !device_create(&port->device, error))
        return false;
    pc_map_ports(pc, 0x402, &port->io);
    return true;
}

static bool pc_create_debug_exit(Pc *pc, uint32_t port, GError **error)
{
    IsaDebugExit *exit = pc_add(pc, &isa_debug_exit_type, "debug-exit");
    g_autofree char *text = g_strdup_printf("%u", port);

    if (!device_set(&exit->device, "port", text, error) || !device_create(&exit->device, error))
        return false;
    pc_map_ports(pc, port, &exit->io);
    return true;
}

bool pc_create_testdev(Pc *pc, GError **error)
{
    Testdev *dev = pc_add(pc, &testdev_type, "testdev");

    for (unsigned n = 0; n < TESTDEV_IRQS; n++)
        dev->irq[n] = n < PIIX3_IRQS ? piix3_isa_irq(pc->piix3, n) : ioapic_irq(pc->ioapic, n);
    if (!device_create(&dev->device, error))
        return false;
    pc_map_ports(pc, TESTDEV_PORTS, &dev->ports);
    pc_map_ports(pc, TESTDEV_LINES, &dev->lines);
    pc_map_memory(pc, TESTDEV_MEMORY, &dev->memory);
    return true;
}

static bool pc_create_consoles(Pc *pc, const PcConfig *config, GError **error)
{
    return pc_create_serial(pc, config, error) && pc_create_parallel(pc, config, error) &&
           (!config->debug_console || pc_create_debug_console(pc, config->debug_console, error)) &&
           (!config->debug_exit_port || pc_create_debug_exit(pc, config->debug_exit_port, error)) &&
           (!config->testdev || pc_create_testdev(pc, error));
}

/* ---- storage --------------------------------------------------------------------------------- */

static bool pc_check_disc(const Disk *disk, GError **error)
{
    const DiskInfo *info = disk_info(disk);

    if (info->size >= PC_CD_SECTOR)
        return true;
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                _("cannot use CD-ROM '%s': %" PRIu64
                  " bytes are too short for a disc; the smallest is one sector of %d bytes"),
                info->path, info->size, PC_CD_SECTOR);
    return false;
}

/* The board lock is held. What comes while the machine is being paused is told with the first. */
static void pc_disk_stopped(void *obj, Disk *disk, DiskOp op, int error)
{
    static const char *const names[] = {[DISK_READ] = "read",
                                        [DISK_WRITE] = "write",
                                        [DISK_FLUSH] = "flush",
                                        [DISK_DISCARD] = "discard",
                                        [DISK_WRITE_ZEROES] = "zero"};
    Pc *pc = obj;

    if (pc->disk_error)
        return;
    pc->disk_error = g_strdup_printf(_("cannot %s disk '%s': %s"), names[op], disk_info(disk)->path,
                                     g_strerror(error));
    g_source_set_ready_time(pc->request_source, 0);
}

const char *pc_error_policy_name(unsigned policy)
{
    static const char *const names[] = {[PC_ERROR_DEFAULT] = "enospc",
                                        [PC_ERROR_REPORT] = "report",
                                        [PC_ERROR_STOP] = "stop",
                                        [PC_ERROR_IGNORE] = "ignore"};
    return policy < G_N_ELEMENTS(names) ? names[policy] : NULL;
}

const char *pc_drive_mode_name(unsigned mode)
{
    static const char *const names[] = {[PC_DRIVE_NORMAL] = "normal",
                                        [PC_DRIVE_IMMUTABLE] = "immutable",
                                        [PC_DRIVE_WRITETHROUGH] = "writethrough",
                                        [PC_DRIVE_SHAREABLE] = "shareable",
                                        [PC_DRIVE_READONLY] = "readonly",
                                        [PC_DRIVE_MULTIATTACH] = "multiattach"};
    return mode < G_N_ELEMENTS(names) ? names[mode] : NULL;
}

/* All bytes of the file are the passphrase, as with `ospite disk --key-file`. */
static bool pc_read_key(const PcDrive *drive, GBytes **ret_key, GError **error)
{
    char *text = NULL;
    gsize size = 0;

    *ret_key = NULL;
    if (!drive->key_file)
        return true;
    if (!g_file_get_contents(drive->key_file, &text, &size, error)) {
        g_prefix_error(error, _("cannot read the key of disk '%s': "), drive->path);
        return false;
    }
    *ret_key = g_bytes_new_take(text, size);
    if (size && size <= PC_KEY_MAX)
        return true;
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                _("cannot use the key of disk '%s': '%s' has not 1 to %d bytes"), drive->path,
                drive->key_file, PC_KEY_MAX);
    g_clear_pointer(ret_key, g_bytes_unref);
    return false;
}

bool pc_open_disk(Pc *pc, const PcDrive *drive, Disk **ret_disk, GError **error)
{
    static const DiskErrorPolicy policies[] = {[PC_ERROR_DEFAULT] = DISK_ERROR_REPORT,
                                               [PC_ERROR_REPORT] = DISK_ERROR_REPORT,
                                               [PC_ERROR_STOP] = DISK_ERROR_STOP,
                                               [PC_ERROR_IGNORE] = DISK_ERROR_IGNORE};
    static const DiskSharing sharing[] = {[PC_DRIVE_IMMUTABLE] = DISK_DIFFERENCE_ANEW,
                                          [PC_DRIVE_SHAREABLE] = DISK_SHARED,
                                          [PC_DRIVE_MULTIATTACH] = DISK_DIFFERENCE};
    g_autoptr(GBytes) key = NULL;
    bool stops_when_full = drive->on_write_error == PC_ERROR_DEFAULT;
    DiskOptions options = {
        .format = drive->format,
        .opened = drive->opened,
        .read_only = drive->mode == PC_DRIVE_READONLY || drive->kind == PC_DRIVE_CDROM,
        .sharing = sharing[drive->mode],
        .difference = drive->difference,
        .trust_names = drive->trust_names,
        .on_full = stops_when_full ? DISK_ERROR_STOP : policies[drive->on_write_error],
        .on_error = policies[drive->on_write_error],
        .on_read_error = policies[drive->on_read_error],
        .throttle = drive->throttle,
        .common_throttle = &pc->disks_throttle,
        .stopped = pc_disk_stopped,
        .stopped_obj = pc};

    *ret_disk = NULL;
    if (!drive->path)
        return true;
    if (!pc_read_key(drive, &key, error))
        return false;
    options.key = key;
    *ret_disk = disk_open(drive->path, &options, pc->context, &pc->lock, error);
    if (!*ret_disk)
        return false;
    g_ptr_array_add(pc->disks, *ret_disk);
    if (drive->kind != PC_DRIVE_CDROM || pc_check_disc(*ret_disk, error))
        return true;
    g_ptr_array_remove(pc->disks, g_steal_pointer(ret_disk));
    return false;
}

/* Disks take the first free place, CD-ROMs begin at the second channel. */
static int pc_choose_ide_place(const PcDrive *drive, const bool *taken)
{
    static const int for_disk[PC_IDE_PLACES] = {0, 1, 2, 3};
    static const int for_cdrom[PC_IDE_PLACES] = {2, 3, 1, 0};
    const int *order = drive->kind == PC_DRIVE_CDROM ? for_cdrom : for_disk;

    if (drive->index >= 0)
        return drive->index < PC_IDE_PLACES && !taken[drive->index] ? drive->index : -1;
    for (unsigned i = 0; i < PC_IDE_PLACES; i++) {
        if (!taken[order[i]])
            return order[i];
    }
    return -1;
}

static bool pc_place_ide(PcDrive *drive, bool *taken, GError **error)
{
    drive->index = pc_choose_ide_place(drive, taken);
    if (drive->index < 0) {
        g_set_error(
            error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
            _("no IDE place is free for %s; a PC has four (index 0 to 3), each for one drive"),
            drive->path ? drive->path : _("the empty CD-ROM drive"));
        return false;
    }
    taken[drive->index] = true;
    return true;
}

static bool pc_place_floppy(PcDrive *drive, bool *taken, unsigned *next, GError **error)
{
    unsigned place = drive->index >= 0 ? (unsigned)drive->index : *next;

    if (place >= FDC_DRIVES || taken[place]) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    _("no floppy drive is free for %s; a PC has two (index 0 and 1)"),
                    drive->path ? drive->path : _("the empty floppy drive"));
        return false;
    }
    drive->index = (int)place;
    taken[place] = true;
    *next = place + 1;
    return true;
}

bool pc_place_drives(PcDrive *drives, unsigned count, GError **error)
{
    bool ide[PC_IDE_PLACES] = {false}, floppy[FDC_DRIVES] = {false};
    bool placed[PC_DRIVE_MAX] = {false};
    unsigned next_floppy = 0;

    g_assert(count <= PC_DRIVE_MAX);
    /* Those with a place of their own first. */
    for (unsigned pass = 0; pass < 2; pass++) {
        for (unsigned i = 0; i < count; i++) {
            PcDrive *drive = &drives[i];
            if (drive->kind != PC_DRIVE_FLOPPY && !placed[i] && (pass == 1 || drive->index >= 0)) {
                if (!pc_place_ide(drive, ide, error))
                    return false;
                placed[i] = true;
            }
        }
    }
    for (unsigned i = 0; i < count; i++) {
        if (drives[i].kind == PC_DRIVE_FLOPPY &&
            !pc_place_floppy(&drives[i], floppy, &next_floppy, error))
            return false;
    }
    return true;
}

static bool pc_attach_ide(Pc *pc, const PcDrive *drive, GError **error)
{
    unsigned channel = drive->index / IDE_UNITS, unit = drive->index % IDE_UNITS;
    Disk *disk;

    if (!pc_open_disk(pc, drive, &disk, error))
        return false;
    if (drive->kind == PC_DRIVE_CDROM)
        ide_attach_cdrom(pc->ide, channel, unit, disk);
    else
        ide_attach_disk(pc->ide, channel, unit, disk);
    return true;
}

static bool pc_create_ide(Pc *pc, const PcDrive *drives, unsigned count, GError **error)
{
    static const uint16_t command[IDE_CHANNELS] = {0x1f0, 0x170};
    static const uint16_t control[IDE_CHANNELS] = {0x3f6, 0x376};

    pc->ide = pc_add(pc, &piix3_ide_type, "ide");
    for (unsigned i = 0; i < IDE_CHANNELS; i++)
        pc->ide->channels[i].irq = piix3_isa_irq(pc->piix3, 14 + i);
    if (!pc_add_pci(pc, &pc->ide->pci, PC_SLOT_PIIX, PIIX_IDE, error))
        return false;
    for (unsigned i = 0; i < IDE_CHANNELS; i++) {
        pc_map_ports(pc, command[i], &pc->ide->channels[i].command);
        pc_map_ports(pc, control[i], &pc->ide->channels[i].control);
    }
    for (unsigned i = 0; i < count; i++) {
        if (drives[i].kind != PC_DRIVE_FLOPPY && !pc_attach_ide(pc, &drives[i], error))
            return false;
    }
    return true;
}

static size_t pc_floppy_dma(void *obj, uint8_t *data, size_t size, bool to_memory, bool *ret_tc)
{
    return to_memory ? dma_transfer_write(obj, PC_FLOPPY_DMA, data, size, ret_tc)
                     : dma_transfer_read(obj, PC_FLOPPY_DMA, data, size, ret_tc);
}

static bool pc_attach_floppy(Pc *pc, const PcDrive *drive, GError **error)
{
    Disk *disk;

    return pc_open_disk(pc, drive, &disk, error) &&
           fdc_change_disk(pc->fdc, (unsigned)drive->index, disk, error);
}

/* Only machines with a floppy have a controller: what is not asked for is not there to attack. */
static bool pc_create_floppy(Pc *pc, const PcDrive *drives, unsigned count, Dma *dma,
                             GError **error)
{
    for (unsigned i = 0; i < count; i++) {
        const PcDrive *drive = &drives[i];
        if (drive->kind != PC_DRIVE_FLOPPY)
            continue;
        if (!pc->fdc) {
            pc->fdc = pc_add(pc, &fdc_type, "fdc");
            pc->fdc->irq = piix3_isa_irq(pc->piix3, 6);
            pc->fdc->dma = (FdcDma){pc_floppy_dma, dma};
            if (!device_create(&pc->fdc->device, error))
                return false;
            pc_map_part(pc, 0x3f0, &pc->fdc->io, 0, 6);
            pc_map_part(pc, 0x3f7, &pc->fdc->io, 7, 1);
        }
        if (!pc_attach_floppy(pc, drive, error))
            return false;
    }
    return true;
}

static bool pc_create_storage(Pc *pc, const PcConfig *config, GError **error)
{
    Dma *dma = pc_add(pc, &dma_type, "dma");
    PcDrive drives[PC_DRIVE_MAX];

    memcpy(drives, config->drives, sizeof(drives));
    if (!device_create(&dma->device, error) || !pc_place_drives(drives, config->drive_count, error))
        return false;
    pc_map_ports(pc, 0x00, &dma->io[0]);
    pc_map_ports(pc, 0xc0, &dma->io[1]);
    pc_map_ports(pc, 0x80, &dma->pages);
    for (unsigned i = 0; i < config->drive_count; i++) {
        pc->drives[i] = drives[i];
        pc->drives[i].path = pc->drives[i].format = NULL;
        pc->drives[i].opened = NULL;
    }
    pc->drive_count = config->drive_count;
    return pc_create_ide(pc, drives, config->drive_count, error) &&
           pc_create_floppy(pc, drives, config->drive_count, dma, error);
}

/* ---- all ------------------------------------------------------------------------------------- */

static bool pc_create_vga(Pc *pc, const PcConfig *config, GError **error)
{
    g_autofree char *rom = firmware_find(FIRMWARE_VGA_NAME, error);
    g_autofree char *vram = g_strdup_printf("%" PRIu64, config->vram_size);

    pc->vga = pc_add(pc, &vga_type, "vga");
    pc->vga->display = pc->display;
    return rom && device_set(&pc->vga->pci.device, "rom", rom, error) &&
           (!config->vram_size || device_set(&pc->vga->pci.device, "vram-size", vram, error)) &&
           pc_add_pci(pc, &pc->vga->pci, PC_SLOT_VGA, 0, error);
}

static bool pc_create_bios(Pc *pc, const char *path, GError **error)
{
    pc->bios = firmware_load_bios(path, error);
    if (!pc->bios)
        return false;
    region_init_ram(&pc->bios_region, REGION_ROM, pc->bios, 0, pc->bios->size);
    pc_map_memory(pc, GIB(4) - pc->bios->size, &pc->bios_region);
    return true;
}

static bool pc_create_fw_cfg(Pc *pc, GError **error)
{
    pc->fw_cfg = pc_add(pc, &fw_cfg_type, "fw-cfg");
    if (!device_create(&pc->fw_cfg->device, error))
        return false;
    pc_map_ports(pc, FW_CFG_PORT, &pc->fw_cfg->ports);
    pc_map_ports(pc, FW_CFG_DMA_PORT, &pc->fw_cfg->dma);
    return true;
}

bool pc_create_devices(Pc *pc, const PcConfig *config, GError **error)
{
    return pc_create_bios(pc, config->firmware, error) && pc_create_interrupts(pc, config, error) &&
           pc_create_bridges(pc, config, error) && pc_create_timers(pc, config, error) &&
           pc_create_fpu_error(pc, error) && pc_create_input(pc, error) &&
           pc_create_consoles(pc, config, error) && pc_create_storage(pc, config, error) &&
           (config->no_vga || pc_create_vga(pc, config, error)) && pc_create_fw_cfg(pc, error);
}
