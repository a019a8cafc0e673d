/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The ATA hard disk: the commands of ATA/ATAPI-6 that drivers use, with CHS, 28-bit and 48-bit
 * addresses, PIO and bus-master DMA, SMART status, and TRIM (ATA8-ACS 7.10).
 *
 * A transfer is a chain: read a chunk from the disk, move it to the guest, and so on until `left`
 * is 0; writing goes the other way. One PIO chunk is one DRQ block, a DMA chunk is the buffer.
 */
#include "device/storage/ata.h"

#include <string.h>

#include "base/bits.h"
#include "base/guest_log.h"

#define BUFFER_SECTORS          (ATA_BUFFER_SIZE / ATA_SECTOR_SIZE)
#define MAX_MULTIPLE            16
#define LBA28_LIMIT             (UINT64_C(1) << 28)
#define TRIM_ENTRIES_PER_SECTOR 64
#define TRIM_MAX_SECTORS        8
#define DEFAULT_HEADS           16
#define DEFAULT_SECTORS         63
#define MAX_CYLINDERS           16383

/* What a transfer command means: AtaDrive.transfer. */
enum {
    XFER_EXT = 0x01, /* 48-bit address */
    XFER_DMA = 0x02,
    XFER_MULTIPLE = 0x04,
    XFER_WRITE = 0x08,
    XFER_FUA = 0x10,
    XFER_VERIFY = 0x20, /* nothing is moved to the guest */
    XFER_TRIM = 0x40,
    XFER_ALL = 0x7f
};

typedef struct DiskCommand {
    void (*run)(AtaDrive *drive, uint8_t flags);
    uint8_t flags;
} DiskCommand;

static void read_chunk(AtaDrive *drive);

static uint64_t total_sectors(const AtaDrive *drive)
{
    return disk_info(drive->disk)->size / ATA_SECTOR_SIZE;
}

/* ---- addresses ------------------------------------------------------------------------------- */

/* The address in the task file, or UINT64_MAX for a CHS address that cannot be. */
static uint64_t get_lba(const AtaDrive *drive, bool ext)
{
    const AtaTaskFile *r = &drive->regs;
    uint32_t low = r->lba_low[0] | r->lba_mid[0] << 8 | r->lba_high[0] << 16;
    if (ext)
        return low | (uint64_t)r->lba_low[1] << 24 | (uint64_t)r->lba_mid[1] << 32 |
               (uint64_t)r->lba_high[1] << 40;
    if (r->device & ATA_DEVICE_LBA)
        return low | (uint32_t)(r->device & 0x0f) << 24;
    uint32_t cylinder = low >> 8, head = r->device & 0x0f, sector = r->lba_low[0];
    if (sector == 0 || sector > drive->sectors || head >= drive->heads)
        return UINT64_MAX;
    return ((uint64_t)cylinder * drive->heads + head) * drive->sectors + sector - 1;
}

static void put_lba(AtaDrive *drive, uint64_t lba)
{
    AtaTaskFile *r = &drive->regs;
    if (drive->transfer & XFER_EXT) {
        r->lba_low[1] = lba >> 24;
        r->lba_mid[1] = lba >> 32;
        r->lba_high[1] = lba >> 40;
    } else if (r->device & ATA_DEVICE_LBA) {
        r->device = (r->device & 0xf0) | ((lba >> 24) & 0x0f);
    } else {
        uint64_t track = lba / drive->sectors, cylinder = track / drive->heads;
        r->device = (r->device & 0xf0) | (track % drive->heads);
        lba = (lba % drive->sectors + 1) | cylinder << 8;
    }
    r->lba_low[0] = lba;
    r->lba_mid[0] = lba >> 8;
    r->lba_high[0] = lba >> 16;
}

static uint32_t get_count(const AtaDrive *drive, bool ext)
{
    uint32_t count = drive->regs.count[0] | (ext ? drive->regs.count[1] << 8 : 0);
    if (count)
        return count;
    return ext ? 65536 : 256;
}

/* The sector that failed stays in the task file, as the drivers' retries expect. */
static void fail_at(AtaDrive *drive, uint64_t lba, uint8_t error)
{
    put_lba(drive, lba);
    ata_fail(drive, error);
}

/* ---- transfers ------------------------------------------------------------------------------- */

static uint32_t chunk_sectors(const AtaDrive *drive)
{
    uint32_t most = 1;
    if (drive->transfer & (XFER_DMA | XFER_VERIFY))
        most = BUFFER_SECTORS;
    else if (drive->transfer & XFER_MULTIPLE)
        most = drive->multiple;
    return MIN(drive->left, most);
}

static void read_done(AtaDrive *drive, int error)
{
    uint32_t count = chunk_sectors(drive);
    if (error) {
        fail_at(drive, drive->lba, ATA_UNC);
        return;
    }
    drive->lba += count;
    drive->left -= count;
    if (drive->transfer & XFER_VERIFY)
        read_chunk(drive);
    else if (drive->transfer & XFER_DMA)
        ata_start_dma(drive, ATA_DMA_IN, count * ATA_SECTOR_SIZE);
    else
        ata_start_pio(drive, ATA_PIO_IN, 0, count * ATA_SECTOR_SIZE, true);
}

/* After the last PIO sector there is no interrupt: its own announced it (9.7, PIO data-in). */
static void finish_read(AtaDrive *drive)
{
    if (drive->transfer & (XFER_DMA | XFER_VERIFY))
        ata_finish(drive);
    else
        ata_finish_quietly(drive);
}

static void read_chunk(AtaDrive *drive)
{
    if (!drive->left) {
        finish_read(drive);
        return;
    }
    ata_submit(drive, DISK_READ, drive->lba * ATA_SECTOR_SIZE, 0,
               (uint64_t)chunk_sectors(drive) * ATA_SECTOR_SIZE, false, read_done);
}

static void ask_for_chunk(AtaDrive *drive, bool interrupt)
{
    uint32_t size = chunk_sectors(drive) * ATA_SECTOR_SIZE;
    if (drive->transfer & XFER_DMA)
        ata_start_dma(drive, ATA_DMA_OUT, size);
    else
        ata_start_pio(drive, ATA_PIO_OUT, 0, size, interrupt);
}

static void write_done(AtaDrive *drive, int error)
{
    uint32_t count = chunk_sectors(drive);
    if (error) {
        fail_at(drive, drive->lba, ATA_ABRT);
        return;
    }
    drive->lba += count;
    drive->left -= count;
    if (drive->left)
        ask_for_chunk(drive, true);
    else
        ata_finish(drive);
}

static void write_chunk(AtaDrive *drive)
{
    bool fua = (drive->transfer & XFER_FUA) || !drive->write_cache;
    ata_submit(drive, DISK_WRITE, drive->lba * ATA_SECTOR_SIZE, 0,
               (uint64_t)chunk_sectors(drive) * ATA_SECTOR_SIZE, fua, write_done);
}

static void run_transfer(AtaDrive *drive, uint8_t flags)
{
    drive->transfer = flags;
    if ((flags & XFER_MULTIPLE) && !drive->multiple) {
        ata_fail(drive, ATA_ABRT);
        return;
    }
    if ((flags & XFER_WRITE) && disk_info(drive->disk)->read_only) {
        ata_fail(drive, ATA_ABRT);
        return;
    }
    uint64_t lba = get_lba(drive, flags & XFER_EXT);
    uint32_t count = get_count(drive, flags & XFER_EXT);
    if (lba >= total_sectors(drive) || count > total_sectors(drive) - lba) {
        ata_fail(drive, ATA_IDNF);
        return;
    }
    drive->lba = lba;
    drive->left = count;
    if (flags & XFER_WRITE)
        ask_for_chunk(drive, false);
    else
        read_chunk(drive);
}

/* ---- TRIM ------------------------------------------------------------------------------------ */

static void trim_next(AtaDrive *drive);

static void trim_done(AtaDrive *drive, int error)
{
    if (error)
        ata_fail(drive, ATA_ABRT);
    else
        trim_next(drive);
}

/* `left` counts entries of the buffer, 8 bytes each: LBA in 48 bits, sectors in 16. */
static void trim_next(AtaDrive *drive)
{
    while (drive->left) {
        uint64_t entry = load_le64(drive->buffer + drive->data_pos);
        uint64_t lba = bits_get(entry, 0, 48), count = bits_get(entry, 48, 16);
        drive->data_pos += 8;
        drive->left--;
        if (!count)
            continue;
        if (lba >= total_sectors(drive) || count > total_sectors(drive) - lba) {
            ata_fail(drive, ATA_IDNF);
            return;
        }
        ata_submit(drive, DISK_DISCARD, lba * ATA_SECTOR_SIZE, 0, count * ATA_SECTOR_SIZE, false,
                   trim_done);
        return;
    }
    ata_finish(drive);
}

static void trim_received(AtaDrive *drive)
{
    drive->left = drive->data_end / 8;
    drive->data_pos = 0;
    trim_next(drive);
}

static void data_set_management(AtaDrive *drive, uint8_t flags)
{
    uint32_t count = get_count(drive, true);
    drive->transfer = flags;
    if (!(drive->regs.feature[0] & 1) || count > TRIM_MAX_SECTORS ||
        disk_info(drive->disk)->read_only) {
        ata_fail(drive, ATA_ABRT);
        return;
    }
    ata_start_dma(drive, ATA_DMA_OUT, count * ATA_SECTOR_SIZE);
}

static void disk_moved(AtaDrive *drive)
{
    if (drive->transfer & XFER_TRIM)
        trim_received(drive);
    else if (drive->transfer & XFER_WRITE)
        write_chunk(drive);
    else
        read_chunk(drive);
}

/* ---- other commands -------------------------------------------------------------------------- */

static void flush_done(AtaDrive *drive, int error)
{
    if (error)
        ata_fail(drive, ATA_ABRT);
    else
        ata_finish(drive);
}

static void flush_cache(AtaDrive *drive, uint8_t flags)
{
    ata_submit(drive, DISK_FLUSH, 0, 0, 0, false, flush_done);
}

static void recalibrate(AtaDrive *drive, uint8_t flags)
{
    ata_finish(drive);
}

static void seek(AtaDrive *drive, uint8_t flags)
{
    if (get_lba(drive, false) >= total_sectors(drive))
        ata_fail(drive, ATA_IDNF);
    else
        ata_finish(drive);
}

static void set_multiple(AtaDrive *drive, uint8_t flags)
{
    uint8_t count = drive->regs.count[0];
    if (count > MAX_MULTIPLE || (count && !is_power_of_two(count))) {
        ata_fail(drive, ATA_ABRT);
        return;
    }
    drive->multiple = count;
    ata_finish(drive);
}

static void set_geometry(AtaDrive *drive, uint8_t heads, uint8_t sectors)
{
    uint64_t cylinders = total_sectors(drive) / ((uint32_t)heads * sectors);
    drive->heads = heads;
    drive->sectors = sectors;
    drive->cylinders =
        MIN(cylinders,
            heads == DEFAULT_HEADS && sectors == DEFAULT_SECTORS ? MAX_CYLINDERS : UINT16_MAX);
}

/* INITIALIZE DEVICE PARAMETERS, ATA-5 8.16. */
static void init_parameters(AtaDrive *drive, uint8_t flags)
{
    uint8_t sectors = drive->regs.count[0];
    if (!sectors) {
        ata_fail(drive, ATA_ABRT);
        return;
    }
    set_geometry(drive, (drive->regs.device & 0x0f) + 1, sectors);
    ata_finish(drive);
}

static void read_native_max(AtaDrive *drive, uint8_t flags)
{
    uint64_t last = total_sectors(drive) - 1;
    drive->transfer = flags;
    if (!(flags & XFER_EXT)) {
        last = MIN(last, LBA28_LIMIT - 1);
        drive->regs.device |= ATA_DEVICE_LBA;
    }
    put_lba(drive, last);
    ata_finish(drive);
}

/* SMART, ATA/ATAPI-6 8.55: on, off and "the disk is well". */
static void smart(AtaDrive *drive, uint8_t flags)
{
    AtaTaskFile *r = &drive->regs;
    bool signed_command = r->lba_mid[0] == 0x4f && r->lba_high[0] == 0xc2;
    if (!signed_command || (!drive->smart && r->feature[0] != 0xd8)) {
        ata_fail(drive, ATA_ABRT);
        return;
    }
    switch (r->feature[0]) {
    case 0xd2: /* attribute autosave */
    case 0xda: /* return status: the signature unchanged says no threshold is exceeded */
        break;
    case 0xd8:
    case 0xd9:
        drive->smart = r->feature[0] == 0xd8;
        break;
    default:
        ata_fail(drive, ATA_ABRT);
        return;
    }
    ata_finish(drive);
}

/* ---- IDENTIFY DEVICE, ATA/ATAPI-6 8.15 ------------------------------------------------------- */

static void put_geometry(AtaDrive *drive, uint8_t *data)
{
    uint64_t total = total_sectors(drive);
    uint64_t cylinders = MIN(total / (DEFAULT_HEADS * DEFAULT_SECTORS), MAX_CYLINDERS);
    uint32_t in_chs = (uint32_t)drive->cylinders * drive->heads * drive->sectors;
    uint32_t in_lba28 = MIN(total, LBA28_LIMIT - 1);
    store_le16(data + 2 * 1, MAX(cylinders, 1));
    store_le16(data + 2 * 3, DEFAULT_HEADS);
    store_le16(data + 2 * 6, DEFAULT_SECTORS);
    store_le16(data + 2 * 54, drive->cylinders);
    store_le16(data + 2 * 55, drive->heads);
    store_le16(data + 2 * 56, drive->sectors);
    store_le32(data + 2 * 57, in_chs);
    store_le32(data + 2 * 60, in_lba28);
    store_le64(data + 2 * 100, total);
}

static void put_features(AtaDrive *drive, uint8_t *data)
{
    uint16_t supported1 = 1 << 14 /* NOP */ | 1 << 6 /* look-ahead */ | 1 << 5 /* write cache */ |
                          1 << 3 /* power management */ | 1 /* SMART */;
    uint16_t supported2 =
        1 << 14 | 1 << 13 /* FLUSH EXT */ | 1 << 12 /* FLUSH */ | 1 << 10 /* 48 bits */;
    uint16_t supported3 = 1 << 14 | 1 << 6 /* WRITE FUA EXT */;
    uint16_t enabled1 =
        1 << 14 | 1 << 3 | drive->look_ahead << 6 | drive->write_cache << 5 | drive->smart;
    store_le16(data + 2 * 82, supported1);
    store_le16(data + 2 * 83, supported2);
    store_le16(data + 2 * 84, supported3);
    store_le16(data + 2 * 85, enabled1);
    store_le16(data + 2 * 86, supported2 & 0x3fff);
    store_le16(data + 2 * 87, supported3);
}

static void identify(AtaDrive *drive, uint8_t flags)
{
    uint8_t *data = drive->buffer;
    memset(data, 0, ATA_SECTOR_SIZE);
    store_le16(data + 2 * 0, 0x0040); /* not removable */
    ata_put_string(data + 2 * 10, drive->serial, 10);
    ata_put_string(data + 2 * 23, "1.0", 4);
    ata_put_string(data + 2 * 27, "Ospite Hard Disk", 20);
    store_le16(data + 2 * 47, 0x8000 | MAX_MULTIPLE);
    store_le16(data + 2 * 49, 0x0f00); /* IORDY, LBA, DMA */
    store_le16(data + 2 * 50, 0x4000);
    store_le16(data + 2 * 51, 0x0200); /* PIO 2 without flow control */
    store_le16(data + 2 * 53, 0x0007); /* words 54-58, 64-70 and 88 hold */
    store_le16(data + 2 * 59, drive->multiple ? 0x0100 | drive->multiple : 0);
    store_le16(data + 2 * 80, 0x00f0);                        /* ATA-4 to ATA-7 */
    store_le16(data + 2 * 93, drive->unit ? 0x6b00 : 0x600b); /* 80-wire cable */
    store_le16(data + 2 * 105, TRIM_MAX_SECTORS);
    store_le16(data + 2 * 169, disk_info(drive->disk)->read_only ? 0 : 1); /* TRIM */
    put_geometry(drive, data);
    ata_put_modes(drive, data);
    put_features(drive, data);
    ata_seal_identify(data);
    drive->transfer = 0;
    ata_start_pio(drive, ATA_PIO_IN, 0, ATA_SECTOR_SIZE, true);
}

/* ---- the table ------------------------------------------------------------------------------- */

static const DiskCommand disk_commands[256] = {
    [0x06] = {data_set_management, XFER_TRIM | XFER_DMA},
    [0x10] = {recalibrate},
    [0x20] = {run_transfer, 0},
    [0x21] = {run_transfer, 0}, /* "without retry" */
    [0x24] = {run_transfer, XFER_EXT},
    [0x25] = {run_transfer, XFER_EXT | XFER_DMA},
    [0x27] = {read_native_max, XFER_EXT},
    [0x29] = {run_transfer, XFER_EXT | XFER_MULTIPLE},
    [0x30] = {run_transfer, XFER_WRITE},
    [0x31] = {run_transfer, XFER_WRITE},
    [0x34] = {run_transfer, XFER_WRITE | XFER_EXT},
    [0x35] = {run_transfer, XFER_WRITE | XFER_EXT | XFER_DMA},
    [0x39] = {run_transfer, XFER_WRITE | XFER_EXT | XFER_MULTIPLE},
    [0x3d] = {run_transfer, XFER_WRITE | XFER_EXT | XFER_DMA | XFER_FUA},
    [0x40] = {run_transfer, XFER_VERIFY},
    [0x41] = {run_transfer, XFER_VERIFY},
    [0x42] = {run_transfer, XFER_VERIFY | XFER_EXT},
    [0x70] = {seek},
    [0x91] = {init_parameters},
    [0xb0] = {smart},
    [0xc4] = {run_transfer, XFER_MULTIPLE},
    [0xc5] = {run_transfer, XFER_WRITE | XFER_MULTIPLE},
    [0xc6] = {set_multiple},
    [0xc8] = {run_transfer, XFER_DMA},
    [0xc9] = {run_transfer, XFER_DMA},
    [0xca] = {run_transfer, XFER_WRITE | XFER_DMA},
    [0xcb] = {run_transfer, XFER_WRITE | XFER_DMA},
    [0xce] = {run_transfer, XFER_WRITE | XFER_EXT | XFER_MULTIPLE | XFER_FUA},
    [0xe7] = {flush_cache},
    [0xea] = {flush_cache},
    [0xec] = {identify},
    [0xf8] = {read_native_max, 0},
};

static void disk_command(AtaDrive *drive, uint8_t command)
{
    const DiskCommand *entry = &disk_commands[command];
    if (entry->run) {
        entry->run(drive, entry->flags);
    } else if (!ata_common_command(drive, command)) {
        guest_log("ata", "unknown command %#x", command);
        ata_fail(drive, ATA_ABRT);
    }
}

static void disk_defaults(AtaDrive *drive)
{
    drive->multiple = MAX_MULTIPLE;
    drive->smart = true;
    set_geometry(drive, DEFAULT_HEADS, DEFAULT_SECTORS);
}

/* The rest of the transfer must lie on the disk, and its flags be those of some command. */
static bool disk_loaded(AtaDrive *drive, GError **error)
{
    bool good = !(drive->transfer & ~XFER_ALL) && drive->heads && drive->heads <= 16 &&
                drive->sectors && drive->multiple <= MAX_MULTIPLE && drive->left <= 65536;
    if (good && drive->left)
        good = drive->lba < total_sectors(drive) &&
               drive->left <= total_sectors(drive) - drive->lba &&
               (!(drive->transfer & XFER_MULTIPLE) || drive->multiple);
    if (good && (drive->phase == ATA_PIO_OUT || drive->phase == ATA_DMA_OUT))
        good = (drive->transfer & XFER_TRIM) ||
               (drive->left && (drive->transfer & XFER_WRITE) &&
                drive->data_end == chunk_sectors(drive) * ATA_SECTOR_SIZE);
    if (!good)
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    "the saved state of hard disk %u has an impossible transfer", drive->unit);
    return good;
}

const AtaKind ata_disk_kind = {
    .name = "ata-disk",
    .command = disk_command,
    .moved = disk_moved,
    .defaults = disk_defaults,
    .signature_mid = 0,
    .signature_high = 0,
    .reset_status = ATA_DRDY | ATA_DSC,
    .ready_status = ATA_DRDY | ATA_DSC,
    .loaded = disk_loaded,
};
