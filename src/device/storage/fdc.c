/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The 82078 floppy controller; see fdc.h. */
#include "device/storage/fdc.h"

#include <string.h>

#include "base/bits.h"
#include "base/guest_log.h"

enum { REG_SRA, REG_SRB, REG_DOR, REG_TDR, REG_MSR, REG_FIFO, REG_DIR = 7 };
enum { DOR_DRIVE = 0x03, DOR_NOT_RESET = 0x04, DOR_GATE = 0x08 };
enum { MSR_BUSY = 0x10, MSR_NON_DMA = 0x20, MSR_TO_HOST = 0x40, MSR_RQM = 0x80 };
enum {
    ST0_SEEK_END = 0x20,
    ST0_EQUIPMENT = 0x10,
    ST0_ABNORMAL = 0x40,
    ST0_INVALID = 0x80,
    ST0_POLLING = 0xc0
};
enum {
    ST1_MISSING_MARK = 0x01,
    ST1_NOT_WRITABLE = 0x02,
    ST1_NO_DATA = 0x04,
    ST1_OVERRUN = 0x10,
    ST1_DATA_ERROR = 0x20,
    ST1_END_OF_CYLINDER = 0x80
};
enum { ST2_WRONG_CYLINDER = 0x10, ST2_DATA_ERROR = 0x20, ST2_CONTROL_MARK = 0x40 };
enum { SPECIFY_NON_DMA = 0x01, CONFIGURE_IMPLIED_SEEK = 0x40, CONFIGURE_NO_POLL = 0x10 };
enum { COMMAND_MT = 0x80, VERIFY_EC = 0x80, SECTOR_CODE = 2 /* N of 512 bytes */ };
enum {
    OP_READ_TRACK = 0x02,
    OP_WRITE = 0x05,
    OP_READ = 0x06,
    OP_WRITE_DELETED = 0x09,
    OP_READ_ID = 0x0a,
    OP_READ_DELETED = 0x0c,
    OP_FORMAT = 0x0d,
    OP_VERIFY = 0x16,
    OP_MASK = 0x1f
};

/* Shorter than any real drive, but never within the OUT that starts it, which drivers rely on. */
#define SEEK_NS    (500 * NS_PER_US)
#define RESET_NS   (20 * NS_PER_US)
#define READ_ID_NS (200 * NS_PER_US)

static void next_sector(Fdc *fdc);
static void sector_moved(Fdc *fdc);

/* ---- media ----------------------------------------------------------------------------------- */

enum { RATE_500 = 1, RATE_300 = 2, RATE_250 = 4, RATE_1000 = 8 };

/* By capacity; the first that an image fits into is its geometry. */
static const FloppyGeometry geometries[] = {
    {40, 1, 8, RATE_250 | RATE_300}, /* 160 KB */
    {40, 1, 9, RATE_250 | RATE_300}, /* 180 KB */
    {40, 2, 8, RATE_250 | RATE_300}, /* 320 KB */
    {40, 2, 9, RATE_250 | RATE_300}, /* 360 KB */
    {80, 2, 9, RATE_250 | RATE_300}, /* 720 KB */
    {80, 2, 15, RATE_500},           /* 1.2 MB */
    {80, 2, 18, RATE_500},           /* 1.44 MB */
    {80, 2, 21, RATE_500},           /* 1.68 MB (DMF) */
    {82, 2, 21, RATE_500},           /* 1.72 MB */
    {80, 2, 36, RATE_1000},          /* 2.88 MB */
};

static uint64_t capacity(const FloppyGeometry *g)
{
    return (uint64_t)g->cylinders * g->heads * g->sectors * FDC_SECTOR_SIZE;
}

static const FloppyGeometry *find_geometry(uint64_t size)
{
    for (size_t i = 0; i < G_N_ELEMENTS(geometries); i++) {
        if (size <= capacity(&geometries[i]))
            return &geometries[i];
    }
    return NULL;
}

bool fdc_change_disk(Fdc *fdc, unsigned number, Disk *disk, GError **error)
{
    FloppyDrive *drive = &fdc->drives[number];
    const FloppyGeometry *geometry = disk ? find_geometry(disk_info(disk)->size) : NULL;
    if (disk && !geometry) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    "'%s' is %" G_GUINT64_FORMAT " bytes, larger than any floppy disk (2.88 MB); "
                    "attach it as a hard disk",
                    disk_info(disk)->path, disk_info(disk)->size);
        return false;
    }
    if (drive->disk)
        disk_drain(drive->disk);
    drive->disk = disk;
    drive->geometry = geometry ? *geometry : (FloppyGeometry){0};
    drive->changed = true;
    drive->present = true;
    return true;
}

static bool is_present(const Fdc *fdc, unsigned number)
{
    return number == 0 || (number < FDC_DRIVES && fdc->drives[number].present);
}

/* The drive with this number if it is there and has a disk. */
static FloppyDrive *loaded_drive(Fdc *fdc, unsigned number)
{
    return number < FDC_DRIVES && fdc->drives[number].disk ? &fdc->drives[number] : NULL;
}

/* ---- interrupts and results ------------------------------------------------------------------ */

static void set_irq(Fdc *fdc, bool pending)
{
    fdc->irq_pending = pending;
    irq_set(fdc->irq, pending && (fdc->dor & DOR_GATE));
}

static void start_command_phase(Fdc *fdc)
{
    fdc->phase = FDC_COMMAND;
    fdc->fifo_pos = fdc->fifo_length = 0;
}

static void start_result(Fdc *fdc, const uint8_t *bytes, unsigned count)
{
    memcpy(fdc->fifo, bytes, MIN(count, FDC_FIFO_SIZE));
    fdc->phase = FDC_RESULT;
    fdc->fifo_pos = 0;
    fdc->fifo_length = MIN(count, FDC_FIFO_SIZE);
}

static void invalid_command(Fdc *fdc)
{
    static const uint8_t st0 = ST0_INVALID;
    start_result(fdc, &st0, 1);
}

/* Ends a data command: the seven result bytes and an interrupt. */
static void end_transfer(Fdc *fdc, uint8_t st0)
{
    uint8_t result[] = {
        st0 | fdc->head << 2 | fdc->drive, fdc->st1, fdc->st2, fdc->c, fdc->h, fdc->r, fdc->n};
    start_result(fdc, result, sizeof(result));
    set_irq(fdc, true);
}

static void fail_transfer(Fdc *fdc, uint8_t st1, uint8_t st2)
{
    fdc->st1 |= st1;
    fdc->st2 |= st2;
    end_transfer(fdc, ST0_ABNORMAL);
}

/* ---- disk requests --------------------------------------------------------------------------- */

static bool is_write(const Fdc *fdc)
{
    unsigned op = fdc->command & OP_MASK;
    return op == OP_WRITE || op == OP_WRITE_DELETED || op == OP_FORMAT;
}

static void sector_read(Fdc *fdc);
static void sector_written(Fdc *fdc);

static void request_done(DiskRequest *request, int error)
{
    Fdc *fdc = request->obj;
    fdc->in_flight = false;
    if (fdc->abandoned)
        fdc->abandoned = false;
    else if (error)
        fail_transfer(fdc, ST1_DATA_ERROR, ST2_DATA_ERROR);
    else if (request->op == DISK_WRITE)
        sector_written(fdc);
    else
        sector_read(fdc);
}

/* A sector past the end of a short image reads as zeros and swallows what is written. */
static void submit_sector(Fdc *fdc, DiskOp op)
{
    FloppyDrive *drive = &fdc->drives[fdc->drive];
    const FloppyGeometry *g = &drive->geometry;
    uint64_t sector = ((uint64_t)drive->track * g->heads + fdc->head) * g->sectors + fdc->r - 1;
    bool exists = (sector + 1) * FDC_SECTOR_SIZE <= disk_info(drive->disk)->size;
    if (!exists && op == DISK_READ)
        memset(fdc->data, 0, sizeof(fdc->data));
    fdc->phase = FDC_EXECUTE;
    fdc->in_flight = true;
    fdc->iov = (struct iovec){fdc->data, exists ? FDC_SECTOR_SIZE : 0};
    fdc->request = (DiskRequest){.op = op,
                                 .offset = exists ? sector * FDC_SECTOR_SIZE : 0,
                                 .size = fdc->iov.iov_len,
                                 .iov = &fdc->iov,
                                 .iov_count = 1,
                                 .done = request_done,
                                 .obj = fdc};
    disk_submit(drive->disk, &fdc->request);
}

/* ---- moving bytes between `data` and the host ------------------------------------------------ */

/* Offers `size` bytes of data to the host, or asks it for them; sector_moved() follows. */
static void move_data(Fdc *fdc, bool to_host, uint16_t size)
{
    fdc->data_pos = 0;
    fdc->data_size = size;
    if (fdc->precompensation[1] & SPECIFY_NON_DMA) {
        fdc->phase = to_host ? FDC_DATA_IN : FDC_DATA_OUT;
        set_irq(fdc, true);
        return;
    }
    bool tc = false, gated = !(fdc->dor & DOR_GATE) || !fdc->dma.transfer;
    size_t moved = gated ? 0 : fdc->dma.transfer(fdc->dma.obj, fdc->data, size, to_host, &tc);
    if (moved < size && !tc) {
        fail_transfer(fdc, ST1_OVERRUN, 0);
        return;
    }
    if (!to_host && moved < size)
        memset(fdc->data + moved, 0, size - moved);
    fdc->terminal_count = tc;
    sector_moved(fdc);
}

/* ---- data commands --------------------------------------------------------------------------- */

/* 0 when the next sector is on the disk under the head, or else what ST1 says. */
static uint8_t check_sector(Fdc *fdc)
{
    const FloppyDrive *drive = loaded_drive(fdc, fdc->drive);
    if (!drive || !(drive->geometry.rates & 1 << fdc->rate) || fdc->head >= drive->geometry.heads)
        return ST1_MISSING_MARK;
    if (drive->track >= drive->geometry.cylinders)
        return ST1_MISSING_MARK;
    if (is_write(fdc) && disk_info(drive->disk)->read_only)
        return ST1_NOT_WRITABLE;
    if (fdc->c != drive->track || fdc->h != fdc->head || fdc->n != SECTOR_CODE || !fdc->r ||
        fdc->r > drive->geometry.sectors)
        return ST1_NO_DATA;
    return 0;
}

/* To the sector after this one, as the 82077AA's table 6-3 gives the result; false: that was EOT.
 */
static bool advance(Fdc *fdc)
{
    if (fdc->r != fdc->eot) {
        fdc->r++;
        return true;
    }
    fdc->r = 1;
    bool other_side = (fdc->command & COMMAND_MT) && fdc->head == 0;
    if (fdc->command & COMMAND_MT) {
        fdc->head ^= 1;
        fdc->h ^= 1;
    }
    if (!other_side)
        fdc->c++;
    return other_side;
}

static void next_sector(Fdc *fdc)
{
    uint8_t st1 = check_sector(fdc);
    if (st1) {
        bool wrong = st1 == ST1_NO_DATA && fdc->c != fdc->drives[fdc->drive].track;
        fail_transfer(fdc, st1, wrong ? ST2_WRONG_CYLINDER : 0);
    } else if (is_write(fdc)) {
        move_data(fdc, false, FDC_SECTOR_SIZE);
    } else {
        submit_sector(fdc, DISK_READ);
    }
}

/* A sector is done. Its head is not told any more by `head` after the last one of a side. */
static void sector_finished(Fdc *fdc)
{
    unsigned op = fdc->command & OP_MASK;
    uint8_t head = fdc->head;
    bool more = advance(fdc);
    bool counted_out = op == OP_VERIFY && fdc->left && --fdc->left == 0;
    if (!more)
        fdc->head = head;
    if (fdc->terminal_count || counted_out || (op == OP_VERIFY && !more) || op == OP_READ_DELETED) {
        fdc->head = head;
        end_transfer(fdc, 0);
    } else if (more) {
        next_sector(fdc);
    } else {
        fail_transfer(fdc, ST1_END_OF_CYLINDER, 0);
    }
}

static void sector_read(Fdc *fdc)
{
    if ((fdc->command & OP_MASK) == OP_VERIFY)
        sector_finished(fdc);
    else
        move_data(fdc, true, FDC_SECTOR_SIZE);
}

/* ---- FORMAT TRACK ---------------------------------------------------------------------------- */

/* The host gives C, H, R, N of each sector. */
static void format_next(Fdc *fdc)
{
    FloppyDrive *drive = loaded_drive(fdc, fdc->drive);
    if (!drive || fdc->head >= drive->geometry.heads || drive->track >= drive->geometry.cylinders)
        fail_transfer(fdc, ST1_MISSING_MARK, 0);
    else if (disk_info(drive->disk)->read_only)
        fail_transfer(fdc, ST1_NOT_WRITABLE, 0);
    else if (!fdc->left)
        end_transfer(fdc, 0);
    else
        move_data(fdc, false, 4);
}

static void format_sector(Fdc *fdc)
{
    const FloppyDrive *drive = &fdc->drives[fdc->drive];
    fdc->c = fdc->data[0];
    fdc->h = fdc->data[1];
    fdc->r = fdc->data[2];
    fdc->n = fdc->data[3];
    fdc->left--;
    if (!fdc->r || fdc->r > drive->geometry.sectors || fdc->n != SECTOR_CODE) {
        fail_transfer(fdc, ST1_MISSING_MARK, 0);
        return;
    }
    memset(fdc->data, fdc->fill, sizeof(fdc->data));
    submit_sector(fdc, DISK_WRITE);
}

static void sector_moved(Fdc *fdc)
{
    bool format = (fdc->command & OP_MASK) == OP_FORMAT;
    if (!loaded_drive(fdc, fdc->drive))
        fail_transfer(fdc, ST1_MISSING_MARK, 0);
    else if (format)
        format_sector(fdc);
    else if (is_write(fdc))
        submit_sector(fdc, DISK_WRITE);
    else
        sector_finished(fdc);
}

static void sector_written(Fdc *fdc)
{
    if ((fdc->command & OP_MASK) == OP_FORMAT)
        format_next(fdc);
    else
        sector_finished(fdc);
}

/* ---- the commands ---------------------------------------------------------------------------- */

static void take_unit(Fdc *fdc)
{
    fdc->drive = fdc->fifo[1] & 3;
    fdc->head = fdc->fifo[1] >> 2 & 1;
    fdc->st1 = fdc->st2 = 0;
    fdc->terminal_count = false;
    fdc->phase = FDC_EXECUTE;
}

static void cmd_transfer(Fdc *fdc)
{
    unsigned op = fdc->command & OP_MASK;
    const uint8_t *p = fdc->fifo;
    take_unit(fdc);
    fdc->c = p[2];
    fdc->h = p[3];
    fdc->r = op == OP_READ_TRACK ? 1 : p[4];
    fdc->n = p[5];
    fdc->eot = p[6];
    fdc->left = op == OP_VERIFY && (p[1] & VERIFY_EC) ? p[8] : 0;
    if (op == OP_READ_DELETED)
        fdc->st2 = ST2_CONTROL_MARK;
    if ((fdc->configure[0] & CONFIGURE_IMPLIED_SEEK) && fdc->drive < FDC_DRIVES)
        fdc->drives[fdc->drive].track = fdc->c;
    next_sector(fdc);
}

static void cmd_format(Fdc *fdc)
{
    const uint8_t *p = fdc->fifo;
    take_unit(fdc);
    fdc->n = p[2];
    fdc->left = p[3];
    fdc->fill = p[5];
    if (fdc->n != SECTOR_CODE)
        fail_transfer(fdc, ST1_NO_DATA, 0);
    else
        format_next(fdc);
}

static void cmd_read_id(Fdc *fdc)
{
    take_unit(fdc);
    timer_arm(&fdc->id_timer, clock_now_ns(fdc->device.board->clock) + READ_ID_NS);
}

static void read_id(void *obj)
{
    Fdc *fdc = obj;
    const FloppyDrive *drive = loaded_drive(fdc, fdc->drive);
    fdc->c = drive ? drive->track : 0;
    fdc->h = fdc->head;
    fdc->r = 1;
    fdc->n = SECTOR_CODE;
    if (check_sector(fdc))
        fail_transfer(fdc, ST1_MISSING_MARK, 0);
    else
        end_transfer(fdc, 0);
}

static void start_seek(Fdc *fdc, unsigned number, int track)
{
    fdc->seeking |= 1 << number;
    fdc->seek_ended[number] = 0;
    if (number < FDC_DRIVES)
        fdc->seek_target[number] = CLAMP(track, 0, UINT8_MAX);
    start_command_phase(fdc);
    timer_arm(&fdc->seek_timer, clock_now_ns(fdc->device.board->clock) + SEEK_NS);
}

static void seek_ended(void *obj)
{
    Fdc *fdc = obj;
    for (unsigned i = 0; i < G_N_ELEMENTS(fdc->seek_ended); i++) {
        if (!(fdc->seeking & 1 << i))
            continue;
        fdc->seek_ended[i] = ST0_SEEK_END | i;
        if (!is_present(fdc, i)) { /* track 0 never comes */
            fdc->seek_ended[i] |= ST0_ABNORMAL | ST0_EQUIPMENT;
            continue;
        }
        fdc->drives[i].track = fdc->seek_target[i];
        if (fdc->drives[i].disk)
            fdc->drives[i].changed = false;
    }
    fdc->seeking = 0;
    set_irq(fdc, true);
}

static void cmd_recalibrate(Fdc *fdc)
{
    start_seek(fdc, fdc->fifo[1] & 3, 0);
}

static void cmd_seek(Fdc *fdc)
{
    enum { RELATIVE = 0x80, INWARD = 0x40 };
    unsigned number = fdc->fifo[1] & 3;
    int track = fdc->fifo[2];
    if ((fdc->command & RELATIVE) && number < FDC_DRIVES) {
        int now = fdc->drives[number].track;
        track = fdc->command & INWARD ? now + track : now - track;
    }
    start_seek(fdc, number, track);
}

static void cmd_sense_interrupt(Fdc *fdc)
{
    set_irq(fdc, false);
    for (unsigned i = 0; i < G_N_ELEMENTS(fdc->seek_ended); i++) {
        if (!fdc->seek_ended[i])
            continue;
        uint8_t result[] = {fdc->seek_ended[i], i < FDC_DRIVES ? fdc->drives[i].track : 0};
        fdc->seek_ended[i] = 0;
        start_result(fdc, result, sizeof(result));
        return;
    }
    invalid_command(fdc);
}

static void cmd_sense_drive(Fdc *fdc)
{
    enum { WRITE_PROTECT = 0x40, READY = 0x20, TRACK0 = 0x10, TWO_SIDES = 0x08 };
    unsigned number = fdc->fifo[1] & 3;
    uint8_t st3 = READY | TWO_SIDES | (fdc->fifo[1] & 7);
    const FloppyDrive *drive = loaded_drive(fdc, number);
    if (is_present(fdc, number) && fdc->drives[number].track == 0)
        st3 |= TRACK0;
    if (drive && disk_info(drive->disk)->read_only)
        st3 |= WRITE_PROTECT;
    start_result(fdc, &st3, 1);
}

static void cmd_specify(Fdc *fdc)
{
    memcpy(fdc->precompensation, fdc->fifo + 1, 2);
    start_command_phase(fdc);
}

static void cmd_configure(Fdc *fdc)
{
    fdc->configure[0] = fdc->fifo[2];
    fdc->configure[1] = fdc->fifo[3];
    start_command_phase(fdc);
}

static void cmd_perpendicular(Fdc *fdc)
{
    fdc->perpendicular = fdc->fifo[1];
    start_command_phase(fdc);
}

static void cmd_lock(Fdc *fdc)
{
    fdc->locked = fdc->command & 0x80;
    uint8_t result = fdc->locked << 4;
    start_result(fdc, &result, 1);
}

static void cmd_version(Fdc *fdc)
{
    static const uint8_t enhanced = 0x90;
    start_result(fdc, &enhanced, 1);
}

static void cmd_part_id(Fdc *fdc)
{
    static const uint8_t part = 0x01; /* 82078, stepping 1 */
    start_result(fdc, &part, 1);
}

static void cmd_dumpreg(Fdc *fdc)
{
    uint8_t result[10] = {fdc->drives[0].track, fdc->drives[1].track};
    result[4] = fdc->precompensation[0];
    result[5] = fdc->precompensation[1];
    result[6] = fdc->eot;
    result[7] = fdc->locked << 7 | (fdc->perpendicular & 0x7f);
    result[8] = fdc->configure[0];
    result[9] = fdc->configure[1];
    start_result(fdc, result, sizeof(result));
}

typedef struct FdcCommand {
    void (*run)(Fdc *fdc);
    uint8_t length;  /* bytes, at most FDC_FIFO_SIZE */
    uint8_t options; /* bits of the first byte that may be set beside the code */
} FdcCommand;

static const FdcCommand fdc_commands[OP_MASK + 1] = {
    [OP_READ_TRACK] = {cmd_transfer, 9, 0x60},
    [0x03] = {cmd_specify, 3, 0},
    [0x04] = {cmd_sense_drive, 2, 0},
    [OP_WRITE] = {cmd_transfer, 9, 0xc0},
    [OP_READ] = {cmd_transfer, 9, 0xe0},
    [0x07] = {cmd_recalibrate, 2, 0},
    [0x08] = {cmd_sense_interrupt, 1, 0},
    [OP_WRITE_DELETED] = {cmd_transfer, 9, 0xc0},
    [OP_READ_ID] = {cmd_read_id, 2, 0x40},
    [OP_READ_DELETED] = {cmd_transfer, 9, 0xe0},
    [OP_FORMAT] = {cmd_format, 6, 0x40},
    [0x0e] = {cmd_dumpreg, 1, 0},
    [0x0f] = {cmd_seek, 3, 0xc0},
    [0x10] = {cmd_version, 1, 0},
    [0x12] = {cmd_perpendicular, 2, 0},
    [0x13] = {cmd_configure, 4, 0},
    [0x14] = {cmd_lock, 1, 0x80},
    [OP_VERIFY] = {cmd_transfer, 9, 0xe0},
    [0x18] = {cmd_part_id, 1, 0},
};

/* ---- the FIFO -------------------------------------------------------------------------------- */

static void collect_command(Fdc *fdc, uint8_t value)
{
    if (fdc->fifo_length == 0) {
        const FdcCommand *first = &fdc_commands[value & OP_MASK];
        fdc->command = value;
        if (!first->run || (value & ~(OP_MASK | first->options))) {
            guest_log("fdc", "unknown command %#x", value);
            invalid_command(fdc);
            return;
        }
    }
    const FdcCommand *command = &fdc_commands[fdc->command & OP_MASK];
    fdc->fifo[fdc->fifo_length++] = value;
    if (fdc->fifo_length == command->length)
        command->run(fdc);
}

static void write_fifo(Fdc *fdc, uint8_t value)
{
    if (!(fdc->dor & DOR_NOT_RESET) || fdc->in_flight)
        return;
    if (fdc->phase == FDC_COMMAND) {
        collect_command(fdc, value);
    } else if (fdc->phase == FDC_DATA_OUT) {
        fdc->data[fdc->data_pos++] = value;
        if (fdc->data_pos < fdc->data_size)
            return;
        set_irq(fdc, false);
        sector_moved(fdc);
    }
}

static uint8_t read_fifo(Fdc *fdc)
{
    uint8_t value = 0;
    if (fdc->phase == FDC_RESULT) {
        set_irq(fdc, false);
        value = fdc->fifo[fdc->fifo_pos++];
        if (fdc->fifo_pos == fdc->fifo_length)
            start_command_phase(fdc);
    } else if (fdc->phase == FDC_DATA_IN) {
        value = fdc->data[fdc->data_pos++];
        if (fdc->data_pos == fdc->data_size) {
            set_irq(fdc, false);
            sector_moved(fdc);
        }
    }
    return value;
}

/* ---- registers ------------------------------------------------------------------------------- */

static uint8_t main_status(const Fdc *fdc)
{
    uint8_t seeking = fdc->seeking;
    if (!(fdc->dor & DOR_NOT_RESET) || (fdc->in_flight && fdc->abandoned))
        return 0;
    switch (fdc->phase) {
    case FDC_COMMAND:
        return MSR_RQM | (fdc->fifo_length ? MSR_BUSY : 0) | seeking;
    case FDC_DATA_IN:
        return MSR_RQM | MSR_TO_HOST | MSR_NON_DMA | MSR_BUSY | seeking;
    case FDC_DATA_OUT:
        return MSR_RQM | MSR_NON_DMA | MSR_BUSY | seeking;
    case FDC_RESULT:
        return MSR_RQM | MSR_TO_HOST | MSR_BUSY | seeking;
    default:
        return MSR_BUSY | seeking;
    }
}

static void stop(Fdc *fdc)
{
    fdc->abandoned = fdc->in_flight;
    timer_cancel(&fdc->seek_timer);
    timer_cancel(&fdc->id_timer);
    timer_cancel(&fdc->reset_timer);
    fdc->seeking = 0;
    memset(fdc->seek_ended, 0, sizeof(fdc->seek_ended));
    start_command_phase(fdc);
    if (!fdc->locked)
        fdc->configure[0] = fdc->configure[1] = 0;
    fdc->perpendicular &= 0x3c;
    set_irq(fdc, false);
}

/* After a reset the polling of the drives' ready lines finds four changes (82078 6.1). */
static void reset_ended(void *obj)
{
    Fdc *fdc = obj;
    if (fdc->configure[0] & CONFIGURE_NO_POLL)
        return;
    for (unsigned i = 0; i < G_N_ELEMENTS(fdc->seek_ended); i++)
        fdc->seek_ended[i] = ST0_POLLING | i;
    set_irq(fdc, true);
}

static void start_after_reset(Fdc *fdc)
{
    timer_arm(&fdc->reset_timer, clock_now_ns(fdc->device.board->clock) + RESET_NS);
}

static void write_dor(Fdc *fdc, uint8_t value)
{
    uint8_t changed = fdc->dor ^ value;
    fdc->dor = value;
    if ((changed & DOR_NOT_RESET) && !(value & DOR_NOT_RESET))
        stop(fdc);
    else if (changed & DOR_NOT_RESET)
        start_after_reset(fdc);
    if (changed & DOR_GATE)
        set_irq(fdc, fdc->irq_pending);
}

static void write_dsr(Fdc *fdc, uint8_t value)
{
    enum { SOFT_RESET = 0x80 };
    fdc->rate = value & 3;
    if ((value & SOFT_RESET) && (fdc->dor & DOR_NOT_RESET)) {
        stop(fdc);
        start_after_reset(fdc);
    }
}

static uint8_t read_dir(const Fdc *fdc)
{
    unsigned number = fdc->dor & DOR_DRIVE;
    bool motor = fdc->dor & 0x10 << number;
    return number < FDC_DRIVES && motor && fdc->drives[number].changed ? 0x80 : 0;
}

static uint64_t fdc_read(void *obj, uint64_t offset, unsigned size)
{
    Fdc *fdc = obj;
    switch (offset) {
    case REG_DOR:
        return fdc->dor;
    case REG_TDR:
        return fdc->tdr;
    case REG_MSR:
        return main_status(fdc);
    case REG_FIFO:
        return read_fifo(fdc);
    case REG_DIR:
        return read_dir(fdc);
    default:
        return 0xff;
    }
}

static void fdc_write(void *obj, uint64_t offset, unsigned size, uint64_t value)
{
    Fdc *fdc = obj;
    switch (offset) {
    case REG_DOR:
        write_dor(fdc, value);
        break;
    case REG_TDR:
        fdc->tdr = value & 3;
        break;
    case REG_MSR:
        write_dsr(fdc, value);
        break;
    case REG_FIFO:
        write_fifo(fdc, value);
        break;
    case REG_DIR:
        fdc->rate = value & 3;
        break;
    }
}

static const RegionOps fdc_ops = {
    .name = "fdc", .read = fdc_read, .write = fdc_write, .max_access = 1};

/* ---- the device ------------------------------------------------------------------------------ */

static bool fdc_create(Device *device, GError **error)
{
    Fdc *fdc = (Fdc *)device;
    VmClock *clock = device->board->clock;
    region_init_io(&fdc->io, &fdc_ops, fdc, device->board->lock, 8);
    timer_init(&fdc->seek_timer, clock, seek_ended, fdc);
    timer_init(&fdc->reset_timer, clock, reset_ended, fdc);
    timer_init(&fdc->id_timer, clock, read_id, fdc);
    return true;
}

static void fdc_reset(Device *device)
{
    Fdc *fdc = (Fdc *)device;
    fdc->locked = false;
    fdc->dor = fdc->tdr = fdc->perpendicular = 0;
    fdc->rate = 2; /* 250 kbit/s */
    memset(fdc->precompensation, 0, sizeof(fdc->precompensation));
    stop(fdc);
    for (unsigned i = 0; i < FDC_DRIVES; i++) {
        fdc->drives[i].track = 0;
        fdc->drives[i].changed = true;
    }
}

static void fdc_pause(Device *device)
{
    Fdc *fdc = (Fdc *)device;
    for (unsigned i = 0; i < FDC_DRIVES; i++) {
        if (fdc->drives[i].disk)
            disk_drain(fdc->drives[i].disk);
    }
}

static void fdc_destroy(Device *device)
{
    Fdc *fdc = (Fdc *)device;
    fdc_pause(device);
    timer_clear(&fdc->seek_timer);
    timer_clear(&fdc->reset_timer);
    timer_clear(&fdc->id_timer);
}

static const StateField drive_state[] = {
    STATE_FIELD(FloppyDrive, track, STATE_U8, 1),
    STATE_FIELD(FloppyDrive, changed, STATE_BOOL, 1),
    STATE_LIST_END,
};

static const StateField fdc_state[] = {
    STATE_STRUCTS(Fdc, drives, drive_state, 1),
    STATE_FIELD(Fdc, dor, STATE_U8, 1),
    STATE_FIELD(Fdc, tdr, STATE_U8, 1),
    STATE_FIELD(Fdc, rate, STATE_U8, 1),
    STATE_ARRAY(Fdc, precompensation, STATE_U8, 1),
    STATE_ARRAY(Fdc, configure, STATE_U8, 1),
    STATE_FIELD(Fdc, perpendicular, STATE_U8, 1),
    STATE_FIELD(Fdc, locked, STATE_BOOL, 1),
    STATE_FIELD(Fdc, irq_pending, STATE_BOOL, 1),
    STATE_FIELD(Fdc, phase, STATE_U32, 1),
    STATE_ARRAY(Fdc, fifo, STATE_BYTES, 1),
    STATE_FIELD(Fdc, fifo_pos, STATE_U8, 1),
    STATE_FIELD(Fdc, fifo_length, STATE_U8, 1),
    STATE_FIELD(Fdc, command, STATE_U8, 1),
    STATE_FIELD(Fdc, drive, STATE_U8, 1),
    STATE_FIELD(Fdc, head, STATE_U8, 1),
    STATE_FIELD(Fdc, c, STATE_U8, 1),
    STATE_FIELD(Fdc, h, STATE_U8, 1),
    STATE_FIELD(Fdc, r, STATE_U8, 1),
    STATE_FIELD(Fdc, n, STATE_U8, 1),
    STATE_FIELD(Fdc, eot, STATE_U8, 1),
    STATE_FIELD(Fdc, fill, STATE_U8, 1),
    STATE_FIELD(Fdc, left, STATE_U8, 1),
    STATE_FIELD(Fdc, st1, STATE_U8, 1),
    STATE_FIELD(Fdc, st2, STATE_U8, 1),
    STATE_FIELD(Fdc, terminal_count, STATE_BOOL, 1),
    STATE_ARRAY(Fdc, data, STATE_BYTES, 1),
    STATE_FIELD(Fdc, data_pos, STATE_U16, 1),
    STATE_FIELD(Fdc, data_size, STATE_U16, 1),
    STATE_FIELD(Fdc, seeking, STATE_U8, 1),
    STATE_ARRAY(Fdc, seek_ended, STATE_U8, 1),
    STATE_ARRAY(Fdc, seek_target, STATE_U8, 1),
    STATE_FIELD(Fdc, seek_timer, STATE_TIMER, 1),
    STATE_FIELD(Fdc, reset_timer, STATE_TIMER, 1),
    STATE_FIELD(Fdc, id_timer, STATE_TIMER, 1),
    STATE_LIST_END,
};

static bool is_loadable(Fdc *fdc)
{
    const FdcCommand *command = &fdc_commands[fdc->command & OP_MASK];
    bool data = fdc->phase == FDC_DATA_IN || fdc->phase == FDC_DATA_OUT;
    if (fdc->phase >= FDC_PHASE_COUNT || fdc->rate > 3 || fdc->drive > 3 || fdc->head > 1 ||
        (fdc->seeking & 0xf0) || fdc->fifo_length > FDC_FIFO_SIZE)
        return false;
    if (fdc->phase == FDC_COMMAND && fdc->fifo_length)
        return command->run && fdc->fifo_length < command->length;
    if (fdc->phase == FDC_RESULT)
        return fdc->fifo_pos < fdc->fifo_length;
    if (fdc->phase == FDC_EXECUTE)
        return fdc->id_timer.armed;
    if (!data)
        return true;
    if (fdc->data_size > FDC_SECTOR_SIZE || fdc->data_pos >= fdc->data_size)
        return false;
    if ((fdc->command & OP_MASK) == OP_FORMAT)
        return fdc->left && fdc->data_size == 4;
    return fdc->data_size == FDC_SECTOR_SIZE && command->run == cmd_transfer;
}

static bool fdc_loaded(Device *device, GError **error)
{
    if (is_loadable((Fdc *)device))
        return true;
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                "the saved state of the floppy controller is impossible");
    return false;
}

const DeviceType fdc_type = {
    .name = "fdc-82078",
    .description = "82078 floppy controller with two drives",
    .instance_size = sizeof(Fdc),
    .create = fdc_create,
    .reset = fdc_reset,
    .pause = fdc_pause,
    .destroy = fdc_destroy,
    .state_version = 1,
    .state = fdc_state,
    .loaded = fdc_loaded,
};
