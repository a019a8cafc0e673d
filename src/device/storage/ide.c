/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The PIIX3 IDE function: register routing, selection, interrupts and bus mastering; see ide.h. */
#include "device/storage/ide.h"

#include "base/bits.h"
#include "base/guest_log.h"
#include "device/storage/atapi.h"

enum { REG_DATA, REG_FEATURE, REG_DEVICE = 6, REG_STATUS = 7, REG_COMMAND = 7 };
enum { CONTROL_NIEN = 0x02, CONTROL_SRST = 0x04, CONTROL_HOB = 0x80 };
enum { BM_COMMAND = 0, BM_STATUS = 2, BM_TABLE = 4, BM_CHANNEL_SIZE = 8 };
enum { BM_START = 0x01, BM_TO_MEMORY = 0x08 };
enum { BM_ACTIVE = 0x01, BM_ERROR = 0x02, BM_INTERRUPT = 0x04, BM_CAPABLE = 0x60 };
enum { COMMAND_DEVICE_RESET = 0x08, COMMAND_DIAGNOSTIC = 0x90 };
enum { CONFIG_IDETIM = 0x40, CONFIG_SIDETIM = 0x44, IDETIM_DECODE = 0x80 };

/* A table lies within 64 KiB, 8 bytes an entry; a walk without an end stops there. */
#define PRD_MAX_ENTRIES 8192
#define PRD_LAST        0x80000000u

static AtaDrive *selected_drive(IdeChannel *channel)
{
    return &channel->drives[channel->selected];
}

static bool any_drive(const IdeChannel *channel)
{
    return channel->drives[0].kind || channel->drives[1].kind;
}

/* IDETIM bit 15 lets the channel answer. */
static bool is_decoded(const IdeChannel *channel)
{
    return channel->ide->pci.config[CONFIG_IDETIM + 2 * channel->index + 1] & IDETIM_DECODE;
}

/* ---- interrupts ------------------------------------------------------------------------------ */

static void update_irq(void *obj)
{
    IdeChannel *channel = obj;
    bool level = selected_drive(channel)->irq_pending && !(channel->device_control & CONTROL_NIEN);
    if (level && !channel->irq_level)
        channel->bm_status |= BM_INTERRUPT;
    channel->irq_level = level;
    irq_set(channel->irq, level);
}

/* ---- bus mastering --------------------------------------------------------------------------- */

static bool fetch_prd(IdeChannel *channel)
{
    uint8_t entry[8];
    if (channel->prd_count == PRD_MAX_ENTRIES ||
        !pci_dma_read(&channel->ide->pci, channel->prd_table + channel->prd_count * 8, entry,
                      sizeof(entry)))
        return false;
    uint32_t bytes = load_le32(entry + 4);
    channel->prd_count++;
    channel->prd_address = load_le32(entry) & ~1u;
    channel->prd_left = bytes & 0xfffe ? bytes & 0xfffe : 0x10000;
    channel->prd_last = bytes & PRD_LAST;
    return true;
}

static bool move(IdeChannel *channel, uint8_t *data, size_t size, bool to_memory)
{
    PciDevice *pci = &channel->ide->pci;
    return to_memory ? pci_dma_write(pci, channel->prd_address, data, size)
                     : pci_dma_read(pci, channel->prd_address, data, size);
}

static size_t bus_master(void *obj, AtaDrive *drive, uint8_t *data, size_t size, bool to_memory)
{
    IdeChannel *channel = obj;
    bool direction_fits = !(channel->bm_command & BM_TO_MEMORY) == !to_memory;
    size_t done = 0;
    while (done < size && (channel->bm_status & BM_ACTIVE) && direction_fits) {
        size_t n = MIN(channel->prd_left, size - done);
        if ((n == 0 && !fetch_prd(channel)) || (n && !move(channel, data + done, n, to_memory))) {
            guest_log("ide", "bus master transfer outside of RAM");
            channel->bm_status = (channel->bm_status | BM_ERROR) & ~BM_ACTIVE;
            break;
        }
        done += n;
        channel->prd_address += n;
        channel->prd_left -= n;
        if (n && !channel->prd_left && channel->prd_last)
            channel->bm_status &= ~BM_ACTIVE;
    }
    return done;
}

static const AtaHostOps host_ops = {.irq_changed = update_irq, .dma = bus_master};

static void write_bm_command(IdeChannel *channel, uint8_t value)
{
    bool was_started = channel->bm_command & BM_START;
    channel->bm_command = value & (BM_START | BM_TO_MEMORY);
    if (!(value & BM_START)) {
        channel->bm_status &= ~BM_ACTIVE;
        return;
    }
    if (was_started)
        return;
    channel->bm_status |= BM_ACTIVE;
    channel->prd_count = channel->prd_left = 0;
    channel->prd_last = false;
    ata_drive_run_dma(selected_drive(channel));
}

static uint8_t bm_read_byte(IdeChannel *channel, unsigned offset)
{
    if (offset == BM_COMMAND)
        return channel->bm_command;
    if (offset == BM_STATUS)
        return channel->bm_status;
    if (offset >= BM_TABLE)
        return channel->prd_table >> (8 * (offset - BM_TABLE));
    return 0;
}

static void bm_write_byte(IdeChannel *channel, unsigned offset, uint8_t value)
{
    if (offset == BM_COMMAND) {
        write_bm_command(channel, value);
    } else if (offset == BM_STATUS) {
        uint8_t cleared = value & (BM_ERROR | BM_INTERRUPT);
        channel->bm_status = (channel->bm_status & ~(cleared | BM_CAPABLE)) | (value & BM_CAPABLE);
    } else if (offset >= BM_TABLE) {
        channel->prd_table = bits_set(channel->prd_table, 8 * (offset - BM_TABLE), 8, value) & ~3u;
    }
}

static uint64_t bm_read(void *obj, uint64_t offset, unsigned size)
{
    IdeController *ide = obj;
    uint64_t value = 0;
    for (unsigned i = 0; i < size; i++) {
        IdeChannel *channel = &ide->channels[((offset + i) / BM_CHANNEL_SIZE) % IDE_CHANNELS];
        value |= (uint64_t)bm_read_byte(channel, (offset + i) % BM_CHANNEL_SIZE) << (8 * i);
    }
    return value;
}

static void bm_write(void *obj, uint64_t offset, unsigned size, uint64_t value)
{
    IdeController *ide = obj;
    for (unsigned i = 0; i < size; i++) {
        IdeChannel *channel = &ide->channels[((offset + i) / BM_CHANNEL_SIZE) % IDE_CHANNELS];
        bm_write_byte(channel, (offset + i) % BM_CHANNEL_SIZE, value >> (8 * i));
    }
}

static const RegionOps bus_master_ops = {
    .name = "ide-bus-master", .read = bm_read, .write = bm_write, .max_access = 4};

/* ---- the command block ----------------------------------------------------------------------- */

/* Of a cable without drives: the host pulls DD7 down, so none of them is seen busy (ATA/ATAPI-6
 * A.2.2). OVMF waits 35 seconds for each that is. */
#define CABLE_REGISTERS UINT64_C(0x7f7f7f7f)
#define CABLE_DATA      UINT64_C(0xff7fff7f)

/* Beside a drive, one that is absent reads as zeros (ATA/ATAPI-6 9.16, as packet devices do it). */
static uint8_t read_register(IdeChannel *channel, unsigned reg)
{
    AtaDrive *drive = selected_drive(channel);
    if (!drive->kind)
        return 0;
    return ata_read_register(drive, reg, channel->device_control & CONTROL_HOB);
}

static void select_first(IdeChannel *channel)
{
    channel->selected = 0;
    for (unsigned unit = 0; unit < IDE_UNITS; unit++)
        ata_write_register(&channel->drives[unit], REG_DEVICE, 0);
}

static void run_diagnostic(IdeChannel *channel)
{
    select_first(channel);
    ata_drive_restart(&channel->drives[1], false);
    ata_drive_restart(&channel->drives[0], true);
}

static void write_command(IdeChannel *channel, uint8_t command)
{
    AtaDrive *drive = selected_drive(channel);
    if (command == COMMAND_DEVICE_RESET && drive->kind == &atapi_kind)
        ata_drive_restart(drive, false);
    else if (drive->regs.status & ATA_BSY)
        guest_log("ide", "command %#x to a busy drive", command);
    else if (command == COMMAND_DIAGNOSTIC)
        run_diagnostic(channel);
    else
        ata_drive_command(drive, command);
}

static void write_register(IdeChannel *channel, unsigned reg, uint8_t value)
{
    channel->device_control &= ~CONTROL_HOB;
    if (reg == REG_COMMAND) {
        write_command(channel, value);
        return;
    }
    if (selected_drive(channel)->regs.status & ATA_BSY)
        return;
    for (unsigned unit = 0; unit < IDE_UNITS; unit++)
        ata_write_register(&channel->drives[unit], reg, value);
    if (reg == REG_DEVICE) {
        channel->selected = !!(value & ATA_DEVICE_UNIT);
        update_irq(channel);
    }
}

static uint64_t command_read(void *obj, uint64_t offset, unsigned size)
{
    IdeChannel *channel = obj;
    uint64_t value = 0;
    if (!is_decoded(channel))
        return UINT64_MAX;
    if (!any_drive(channel))
        return offset == REG_DATA ? CABLE_DATA : CABLE_REGISTERS;
    if (offset == REG_DATA)
        return ata_read_data(selected_drive(channel), size);
    for (unsigned i = 0; i < size && offset + i <= REG_STATUS; i++) {
        value |= (uint64_t)read_register(channel, offset + i) << (8 * i);
        if (offset + i == REG_STATUS)
            ata_drive_acknowledge(selected_drive(channel));
    }
    return value;
}

static void command_write(void *obj, uint64_t offset, unsigned size, uint64_t value)
{
    IdeChannel *channel = obj;
    if (!is_decoded(channel) || !any_drive(channel))
        return;
    if (offset == REG_DATA) {
        ata_write_data(selected_drive(channel), size, value);
        return;
    }
    for (unsigned i = 0; i < size && offset + i <= REG_COMMAND; i++)
        write_register(channel, offset + i, value >> (8 * i));
}

static const RegionOps command_ops = {
    .name = "ide-command", .read = command_read, .write = command_write, .max_access = 4};

/* ---- the control block ----------------------------------------------------------------------- */

static uint64_t control_read(void *obj, uint64_t offset, unsigned size)
{
    IdeChannel *channel = obj;
    if (!is_decoded(channel))
        return UINT64_MAX;
    return any_drive(channel) ? read_register(channel, REG_STATUS) : CABLE_REGISTERS;
}

static void control_write(void *obj, uint64_t offset, unsigned size, uint64_t value)
{
    IdeChannel *channel = obj;
    uint8_t changed = channel->device_control ^ value;
    if (!is_decoded(channel))
        return;
    channel->device_control = value & (CONTROL_NIEN | CONTROL_SRST | CONTROL_HOB);
    if (changed & CONTROL_SRST) {
        select_first(channel);
        for (unsigned unit = 0; unit < IDE_UNITS; unit++)
            ata_drive_soft_reset(&channel->drives[unit], value & CONTROL_SRST);
    }
    update_irq(channel);
}

static const RegionOps control_ops = {
    .name = "ide-control", .read = control_read, .write = control_write, .max_access = 1};

/* ---- the device ------------------------------------------------------------------------------ */

static bool ide_create(Device *device, GError **error)
{
    IdeController *ide = (IdeController *)device;
    GRecMutex *lock = device->board->lock;
    pci_device_init(&ide->pci, 0x8086, 0x7010, 0x0101, 0x80, 0);
    store_le16(ide->pci.config + PCI_STATUS, 0x0280); /* medium DEVSEL#, fast back-to-back */
    store_le32(ide->pci.wmask + CONFIG_IDETIM, 0xffffffff);
    ide->pci.wmask[CONFIG_SIDETIM] = 0xff;
    region_init_io(&ide->bus_master, &bus_master_ops, ide, lock, BM_CHANNEL_SIZE * IDE_CHANNELS);
    pci_add_bar(&ide->pci, 4, PCI_BAR_IO, &ide->bus_master);
    for (unsigned i = 0; i < IDE_CHANNELS; i++) {
        IdeChannel *channel = &ide->channels[i];
        channel->ide = ide;
        channel->index = i;
        region_init_io(&channel->command, &command_ops, channel, lock, 8);
        region_init_io(&channel->control, &control_ops, channel, lock, 1);
        for (unsigned unit = 0; unit < IDE_UNITS; unit++)
            ata_drive_init(&channel->drives[unit], unit, &host_ops, channel);
    }
    return true;
}

static void reset_channel(IdeChannel *channel)
{
    channel->device_control = channel->selected = 0;
    channel->bm_command = 0;
    channel->bm_status = BM_CAPABLE;
    channel->prd_table = channel->prd_count = channel->prd_address = channel->prd_left = 0;
    channel->prd_last = false;
    for (unsigned unit = 0; unit < IDE_UNITS; unit++)
        ata_drive_reset(&channel->drives[unit]);
    update_irq(channel);
}

/* The channels answer from the start, for kernels that no firmware has gone before. */
static void ide_reset(Device *device)
{
    IdeController *ide = (IdeController *)device;
    pci_device_reset(&ide->pci);
    store_le32(ide->pci.config + CONFIG_IDETIM, 0x80008000);
    ide->pci.config[CONFIG_SIDETIM] = 0;
    for (unsigned i = 0; i < IDE_CHANNELS; i++)
        reset_channel(&ide->channels[i]);
}

/* Also before the end: a late answer must find the drive. */
static void ide_pause(Device *device)
{
    IdeController *ide = (IdeController *)device;
    for (unsigned i = 0; i < IDE_CHANNELS * IDE_UNITS; i++)
        ata_drive_drain(&ide->channels[i / IDE_UNITS].drives[i % IDE_UNITS]);
}

static void attach(IdeController *ide, unsigned channel, unsigned unit, const AtaKind *kind,
                   Disk *disk)
{
    g_autofree char *serial = g_strdup_printf("OS%08u", channel * IDE_UNITS + unit + 1);
    ata_drive_attach(&ide->channels[channel].drives[unit], kind, disk, serial);
}

void ide_attach_disk(IdeController *ide, unsigned channel, unsigned unit, Disk *disk)
{
    attach(ide, channel, unit, &ata_disk_kind, disk);
}

void ide_attach_cdrom(IdeController *ide, unsigned channel, unsigned unit, Disk *disk)
{
    attach(ide, channel, unit, &atapi_kind, disk);
}

bool ide_change_disc(IdeController *ide, unsigned channel, unsigned unit, Disk *disk, bool force,
                     GError **error)
{
    AtaDrive *drive = &ide->channels[channel].drives[unit];
    if (drive->kind != &atapi_kind) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND,
                    "cannot change the disc: there is no CD-ROM drive at %s, channel %u, unit %u",
                    ide->pci.device.id, channel, unit);
        return false;
    }
    return atapi_change_disc(drive, disk, force, error);
}

static const StateField channel_state[] = {
    STATE_FIELD(IdeChannel, device_control, STATE_U8, 1),
    STATE_FIELD(IdeChannel, selected, STATE_U8, 1),
    STATE_FIELD(IdeChannel, irq_level, STATE_BOOL, 1),
    STATE_FIELD(IdeChannel, bm_command, STATE_U8, 1),
    STATE_FIELD(IdeChannel, bm_status, STATE_U8, 1),
    STATE_FIELD(IdeChannel, prd_table, STATE_U32, 1),
    STATE_FIELD(IdeChannel, prd_count, STATE_U32, 1),
    STATE_FIELD(IdeChannel, prd_address, STATE_U32, 1),
    STATE_FIELD(IdeChannel, prd_left, STATE_U32, 1),
    STATE_FIELD(IdeChannel, prd_last, STATE_BOOL, 1),
    STATE_STRUCTS(IdeChannel, drives, ata_drive_state_fields, 1),
    STATE_LIST_END,
};

static const StateField ide_state[] = {
    STATE_ONE_STRUCT(IdeController, pci, pci_state_fields, 1),
    STATE_STRUCTS(IdeController, channels, channel_state, 1),
    STATE_LIST_END,
};

static bool ide_loaded(Device *device, GError **error)
{
    IdeController *ide = (IdeController *)device;
    for (unsigned i = 0; i < IDE_CHANNELS; i++) {
        IdeChannel *channel = &ide->channels[i];
        if (channel->selected >= IDE_UNITS || channel->prd_count > PRD_MAX_ENTRIES ||
            channel->prd_left > 0x10000) {
            g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                        "the saved state of IDE channel %u is impossible", i);
            return false;
        }
        for (unsigned unit = 0; unit < IDE_UNITS; unit++) {
            if (!ata_drive_loaded(&channel->drives[unit], error))
                return false;
        }
    }
    return pci_device_loaded(&ide->pci, error);
}

const DeviceType piix3_ide_type = {
    .name = "piix3-ide",
    .description = "PIIX3 IDE controller with bus-master DMA",
    .instance_size = sizeof(IdeController),
    .create = ide_create,
    .reset = ide_reset,
    .pause = ide_pause,
    .destroy = ide_pause,
    .state_version = 1,
    .state = ide_state,
    .loaded = ide_loaded,
};
