/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What hard disks and CD-ROMs have in common; see ata.h. */
#include "device/storage/ata.h"

#include <string.h>

#include "base/bits.h"
#include "base/guest_log.h"

enum { REG_FEATURE = 1, REG_COUNT, REG_LBA_LOW, REG_LBA_MID, REG_LBA_HIGH, REG_DEVICE, REG_STATUS };
enum { POWER_STANDBY = 0x00, POWER_IDLE = 0x80, POWER_ACTIVE = 0xff };
enum { MODE_PIO_FLOW = 0x08, MODE_MWDMA = 0x20, MODE_UDMA = 0x40 };
enum { MAX_PIO = 4, MAX_MWDMA = 2, MAX_UDMA = 5 };

/* ---- state ----------------------------------------------------------------------------------- */

static const StateField task_file_fields[] = {
    STATE_ARRAY(AtaTaskFile, feature, STATE_U8, 1),  STATE_ARRAY(AtaTaskFile, count, STATE_U8, 1),
    STATE_ARRAY(AtaTaskFile, lba_low, STATE_U8, 1),  STATE_ARRAY(AtaTaskFile, lba_mid, STATE_U8, 1),
    STATE_ARRAY(AtaTaskFile, lba_high, STATE_U8, 1), STATE_FIELD(AtaTaskFile, device, STATE_U8, 1),
    STATE_FIELD(AtaTaskFile, error, STATE_U8, 1),    STATE_FIELD(AtaTaskFile, status, STATE_U8, 1),
    STATE_FIELD(AtaTaskFile, command, STATE_U8, 1),  STATE_LIST_END,
};

static const StateField atapi_fields[] = {
    STATE_ARRAY(AtapiState, packet, STATE_BYTES, 1),
    STATE_FIELD(AtapiState, sense_key, STATE_U8, 1),
    STATE_FIELD(AtapiState, asc, STATE_U8, 1),
    STATE_FIELD(AtapiState, ascq, STATE_U8, 1),
    STATE_FIELD(AtapiState, unit_attention, STATE_BOOL, 1),
    STATE_FIELD(AtapiState, attention_asc, STATE_U8, 1),
    STATE_FIELD(AtapiState, locked, STATE_BOOL, 1),
    STATE_FIELD(AtapiState, tray_open, STATE_BOOL, 1),
    STATE_FIELD(AtapiState, eject_requested, STATE_BOOL, 1),
    STATE_FIELD(AtapiState, media_new, STATE_BOOL, 1),
    STATE_FIELD(AtapiState, media_removed, STATE_BOOL, 1),
    STATE_FIELD(AtapiState, byte_limit, STATE_U32, 1),
    STATE_FIELD(AtapiState, block_bytes, STATE_U16, 1),
    STATE_LIST_END,
};

const StateField ata_drive_state_fields[] = {
    STATE_ONE_STRUCT(AtaDrive, regs, task_file_fields, 1),
    STATE_FIELD(AtaDrive, irq_pending, STATE_BOOL, 1),
    STATE_FIELD(AtaDrive, in_soft_reset, STATE_BOOL, 1),
    STATE_FIELD(AtaDrive, sleeping, STATE_BOOL, 1),
    STATE_FIELD(AtaDrive, write_cache, STATE_BOOL, 1),
    STATE_FIELD(AtaDrive, look_ahead, STATE_BOOL, 1),
    STATE_FIELD(AtaDrive, smart, STATE_BOOL, 1),
    STATE_FIELD(AtaDrive, power_mode, STATE_U8, 1),
    STATE_FIELD(AtaDrive, transfer_mode, STATE_U8, 1),
    STATE_FIELD(AtaDrive, multiple, STATE_U8, 1),
    STATE_FIELD(AtaDrive, cylinders, STATE_U16, 1),
    STATE_FIELD(AtaDrive, heads, STATE_U8, 1),
    STATE_FIELD(AtaDrive, sectors, STATE_U8, 1),
    STATE_FIELD(AtaDrive, phase, STATE_U32, 1),
    STATE_FIELD(AtaDrive, data_pos, STATE_U32, 1),
    STATE_FIELD(AtaDrive, data_end, STATE_U32, 1),
    STATE_FIELD(AtaDrive, data_size, STATE_U32, 1),
    STATE_FIELD(AtaDrive, transfer, STATE_U8, 1),
    STATE_FIELD(AtaDrive, lba, STATE_U64, 1),
    STATE_FIELD(AtaDrive, left, STATE_U32, 1),
    STATE_ONE_STRUCT(AtaDrive, atapi, atapi_fields, 1),
    STATE_ARRAY(AtaDrive, buffer, STATE_BYTES, 1),
    STATE_LIST_END,
};

bool ata_drive_loaded(AtaDrive *drive, GError **error)
{
    bool good = drive->phase < ATA_PHASE_COUNT && drive->phase != ATA_BUSY &&
                drive->data_size <= ATA_BUFFER_SIZE && drive->data_end <= drive->data_size &&
                drive->data_pos <= drive->data_end;
    if (!good || (!drive->kind && drive->phase != ATA_IDLE)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    "the saved state of drive %u has an impossible data phase", drive->unit);
        return false;
    }
    return !drive->kind || drive->kind->loaded(drive, error);
}

/* ---- life ------------------------------------------------------------------------------------ */

void ata_drive_init(AtaDrive *drive, unsigned unit, const AtaHostOps *host, void *host_obj)
{
    drive->unit = unit;
    drive->host = host;
    drive->host_obj = host_obj;
}

void ata_drive_attach(AtaDrive *drive, const AtaKind *kind, Disk *disk, const char *serial)
{
    drive->kind = kind;
    drive->disk = disk;
    g_strlcpy(drive->serial, serial, sizeof(drive->serial));
}

static void set_irq(AtaDrive *drive, bool pending)
{
    drive->irq_pending = pending;
    drive->host->irq_changed(drive->host_obj);
}

static void stop_phase(AtaDrive *drive)
{
    drive->phase = ATA_IDLE;
    drive->data_pos = drive->data_end = drive->data_size = 0;
    drive->left = 0;
}

/* ATA/ATAPI-6 9.12: the signature tells a CD-ROM from a hard disk. */
void ata_set_signature(AtaDrive *drive)
{
    drive->regs.count[0] = drive->regs.lba_low[0] = 1;
    drive->regs.lba_mid[0] = drive->kind->signature_mid;
    drive->regs.lba_high[0] = drive->kind->signature_high;
    drive->regs.device &= ATA_DEVICE_UNIT;
}

static void end_reset(AtaDrive *drive)
{
    ata_set_signature(drive);
    drive->regs.error = 0x01; /* passed */
    drive->regs.status = drive->kind->reset_status;
}

/* Stops the command; busy until end_reset(). */
static void begin_reset(AtaDrive *drive)
{
    stop_phase(drive);
    drive->sleeping = false;
    drive->power_mode = POWER_ACTIVE;
    drive->regs.status = ATA_BSY;
    drive->abandoned = drive->in_flight;
    set_irq(drive, false);
}

void ata_drive_reset(AtaDrive *drive)
{
    drive->in_soft_reset = false;
    drive->irq_pending = false;
    memset(&drive->regs, 0, sizeof(drive->regs));
    if (!drive->kind)
        return;
    begin_reset(drive);
    drive->transfer_mode = MODE_PIO_FLOW | MAX_PIO;
    drive->write_cache = drive->look_ahead = true;
    drive->kind->defaults(drive);
    if (!drive->in_flight)
        end_reset(drive);
}

void ata_drive_soft_reset(AtaDrive *drive, bool asserted)
{
    drive->in_soft_reset = asserted;
    if (!drive->kind)
        return;
    if (asserted)
        begin_reset(drive);
    else if (!drive->in_flight)
        end_reset(drive);
}

void ata_drive_restart(AtaDrive *drive, bool interrupt)
{
    if (!drive->kind)
        return;
    begin_reset(drive);
    if (!drive->in_flight)
        end_reset(drive);
    if (interrupt)
        set_irq(drive, true);
}

void ata_drive_drain(AtaDrive *drive)
{
    if (drive->disk)
        disk_drain(drive->disk);
}

/* ---- ends of commands ------------------------------------------------------------------------ */

void ata_finish_quietly(AtaDrive *drive)
{
    stop_phase(drive);
    drive->regs.status = drive->kind->ready_status;
    drive->regs.error = 0;
}

void ata_finish(AtaDrive *drive)
{
    ata_finish_quietly(drive);
    set_irq(drive, true);
}

void ata_fail(AtaDrive *drive, uint8_t error)
{
    stop_phase(drive);
    drive->regs.status = drive->kind->ready_status | ATA_ERR;
    drive->regs.error = error;
    set_irq(drive, true);
}

/* ---- data phases ----------------------------------------------------------------------------- */

static void start_phase(AtaDrive *drive, AtaPhase phase, uint32_t from, uint32_t to)
{
    drive->phase = phase;
    drive->data_pos = from;
    drive->data_end = to;
    drive->data_size = MAX(drive->data_size, to);
    drive->regs.status = drive->kind->ready_status | ATA_DRQ;
}

void ata_start_pio(AtaDrive *drive, AtaPhase phase, uint32_t from, uint32_t to, bool interrupt)
{
    start_phase(drive, phase, from, to);
    if (interrupt)
        set_irq(drive, true);
}

void ata_start_dma(AtaDrive *drive, AtaPhase phase, uint32_t size)
{
    start_phase(drive, phase, 0, size);
    ata_drive_run_dma(drive);
}

void ata_drive_run_dma(AtaDrive *drive)
{
    if (drive->phase != ATA_DMA_IN && drive->phase != ATA_DMA_OUT)
        return;
    uint32_t wanted = drive->data_end - drive->data_pos;
    drive->data_pos += drive->host->dma(drive->host_obj, drive, drive->buffer + drive->data_pos,
                                        wanted, drive->phase == ATA_DMA_IN);
    if (drive->data_pos == drive->data_end)
        drive->kind->moved(drive);
}

uint32_t ata_read_data(AtaDrive *drive, unsigned size)
{
    uint32_t value = 0;
    if (drive->phase != ATA_PIO_IN)
        return 0;
    unsigned n = MIN(size, drive->data_end - drive->data_pos);
    memcpy(&value, drive->buffer + drive->data_pos, n);
    drive->data_pos += n;
    if (drive->data_pos == drive->data_end)
        drive->kind->moved(drive);
    return GUINT32_FROM_LE(value);
}

void ata_write_data(AtaDrive *drive, unsigned size, uint32_t value)
{
    if (drive->phase != ATA_PIO_OUT)
        return;
    value = GUINT32_TO_LE(value);
    unsigned n = MIN(size, drive->data_end - drive->data_pos);
    memcpy(drive->buffer + drive->data_pos, &value, n);
    drive->data_pos += n;
    if (drive->data_pos == drive->data_end)
        drive->kind->moved(drive);
}

/* ---- disk requests --------------------------------------------------------------------------- */

static void request_done(DiskRequest *request, int error)
{
    AtaDrive *drive = request->obj;
    drive->in_flight = false;
    if (!drive->abandoned) {
        drive->disk_done(drive, error);
        return;
    }
    drive->abandoned = false;
    if (!drive->in_soft_reset)
        end_reset(drive);
}

void ata_submit(AtaDrive *drive, DiskOp op, uint64_t offset, uint32_t buffer_offset, uint64_t size,
                bool fua, void (*done)(AtaDrive *drive, int error))
{
    bool moves = op == DISK_READ || op == DISK_WRITE;
    drive->phase = ATA_BUSY;
    drive->regs.status = ATA_BSY;
    drive->power_mode = POWER_ACTIVE;
    drive->disk_done = done;
    drive->in_flight = true;
    drive->iov = (struct iovec){drive->buffer + buffer_offset, size};
    drive->request = (DiskRequest){.op = op,
                                   .fua = fua,
                                   .offset = offset,
                                   .size = size,
                                   .iov = moves ? &drive->iov : NULL,
                                   .iov_count = moves ? 1 : 0,
                                   .done = request_done,
                                   .obj = drive};
    disk_submit(drive->disk, &drive->request);
}

/* ---- registers ------------------------------------------------------------------------------- */

/* The pair behind a register that keeps its previous value, or NULL. */
static uint8_t *register_pair(AtaDrive *drive, unsigned reg)
{
    switch (reg) {
    case REG_FEATURE:
        return drive->regs.feature;
    case REG_COUNT:
        return drive->regs.count;
    case REG_LBA_LOW:
        return drive->regs.lba_low;
    case REG_LBA_MID:
        return drive->regs.lba_mid;
    case REG_LBA_HIGH:
        return drive->regs.lba_high;
    default:
        return NULL;
    }
}

uint8_t ata_read_register(AtaDrive *drive, unsigned reg, bool previous)
{
    if (reg == REG_STATUS)
        return drive->regs.status;
    if (reg == REG_FEATURE)
        return drive->regs.error;
    if (reg == REG_DEVICE)
        return drive->regs.device | 0xa0;
    return register_pair(drive, reg)[previous];
}

void ata_write_register(AtaDrive *drive, unsigned reg, uint8_t value)
{
    uint8_t *pair = register_pair(drive, reg);
    if (pair) {
        pair[1] = pair[0];
        pair[0] = value;
    } else if (reg == REG_DEVICE) {
        drive->regs.device = value;
    }
}

void ata_drive_acknowledge(AtaDrive *drive)
{
    if (drive->irq_pending)
        set_irq(drive, false);
}

void ata_drive_command(AtaDrive *drive, uint8_t command)
{
    if (!drive->kind || drive->in_flight || drive->in_soft_reset)
        return;
    if (drive->sleeping) {
        guest_log("ata", "command %#x to a sleeping drive", command);
        return;
    }
    stop_phase(drive);
    set_irq(drive, false);
    drive->regs.command = command;
    drive->regs.error = 0;
    drive->kind->command(drive, command);
}

/* ---- commands of both kinds ------------------------------------------------------------------ */

static bool mode_is_possible(uint8_t mode)
{
    unsigned number = mode & 7;
    if (mode == 0x00 || mode == 0x01)
        return true;
    if ((mode & ~7) == MODE_PIO_FLOW)
        return number <= MAX_PIO;
    if ((mode & ~7) == MODE_MWDMA)
        return number <= MAX_MWDMA;
    return (mode & ~7) == MODE_UDMA && number <= MAX_UDMA;
}

/* SET FEATURES, ATA/ATAPI-6 8.46. */
static void set_features(AtaDrive *drive)
{
    bool good = true;
    switch (drive->regs.feature[0]) {
    case 0x02:
        drive->write_cache = true;
        break;
    case 0x82:
        drive->write_cache = false;
        break;
    case 0xaa:
        drive->look_ahead = true;
        break;
    case 0x55:
        drive->look_ahead = false;
        break;
    case 0x03:
        good = mode_is_possible(drive->regs.count[0]);
        if (good)
            drive->transfer_mode = drive->regs.count[0];
        break;
    case 0x66: /* keep settings over a soft reset, which is what happens anyway */
    case 0xcc:
        break;
    default:
        good = false;
    }
    if (good)
        ata_finish(drive);
    else
        ata_fail(drive, ATA_ABRT);
}

static void set_power(AtaDrive *drive, uint8_t mode)
{
    ata_finish(drive);
    drive->power_mode = mode;
}

bool ata_common_command(AtaDrive *drive, uint8_t command)
{
    switch (command) {
    case 0x00: /* NOP */
        ata_fail(drive, ATA_ABRT);
        return true;
    case 0xef:
        set_features(drive);
        return true;
    case 0xe0: /* STANDBY IMMEDIATE and STANDBY, and their first codes */
    case 0xe2:
    case 0x94:
    case 0x96:
        set_power(drive, POWER_STANDBY);
        return true;
    case 0xe1: /* IDLE IMMEDIATE, IDLE */
    case 0xe3:
    case 0x95:
    case 0x97:
        set_power(drive, POWER_IDLE);
        return true;
    case 0xe5: /* CHECK POWER MODE */
    case 0x98:
        drive->regs.count[0] = drive->power_mode;
        ata_finish(drive);
        return true;
    case 0xe6: /* SLEEP */
    case 0x99:
        set_power(drive, POWER_STANDBY);
        drive->sleeping = true;
        return true;
    default:
        return false;
    }
}

/* ---- IDENTIFY -------------------------------------------------------------------------------- */

void ata_put_string(uint8_t *words, const char *text, unsigned count)
{
    size_t length = strlen(text);
    for (unsigned i = 0; i < count * 2; i++)
        words[i ^ 1] = i < length ? (uint8_t)text[i] : ' ';
}

void ata_put_modes(AtaDrive *drive, uint8_t *data)
{
    uint8_t mode = drive->transfer_mode;
    uint16_t mwdma = (1 << (MAX_MWDMA + 1)) - 1, udma = (1 << (MAX_UDMA + 1)) - 1;
    if ((mode & ~7) == MODE_MWDMA)
        mwdma |= 0x100 << (mode & 7);
    if ((mode & ~7) == MODE_UDMA)
        udma |= 0x100 << (mode & 7);
    store_le16(data + 2 * 63, mwdma);
    store_le16(data + 2 * 64, 0x0003); /* PIO 3 and 4 */
    for (unsigned word = 65; word <= 68; word++)
        store_le16(data + 2 * word, 120); /* ns per transfer */
    store_le16(data + 2 * 88, udma);
}

void ata_seal_identify(uint8_t *data)
{
    uint8_t sum = 0;
    data[510] = 0xa5;
    for (unsigned i = 0; i < 511; i++)
        sum += data[i];
    data[511] = (uint8_t)-sum;
}
