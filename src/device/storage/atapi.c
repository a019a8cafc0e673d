/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The ATAPI CD-ROM drive; see atapi.h.
 *
 * A command puts its answer into the buffer and calls reply(); reads fill it chunk by chunk. What
 * is in the buffer then goes out in PIO blocks of at most the guest's byte limit, or by DMA.
 */
#include "device/storage/atapi.h"

#include <string.h>

#include "base/bits.h"
#include "base/guest_log.h"

#define BLOCK_SIZE        2048
#define RAW_BLOCK_SIZE    2352
#define RAW_HEADER_SIZE   16
#define MAX_PIO_LIMIT     0xfffe
#define FRAMES_PER_SECOND 75
#define LEAD_IN_FRAMES    150

enum { /* the reason in the count register */
       REASON_COMMAND = 0x01,
       REASON_IN = 0x02,
};

enum { SENSE_NOT_READY = 2, SENSE_MEDIUM = 3, SENSE_ILLEGAL = 5, SENSE_ATTENTION = 6 };
enum {
    ASC_UNRECOVERED_READ = 0x11,
    ASC_INVALID_OPCODE = 0x20,
    ASC_OUT_OF_RANGE = 0x21,
    ASC_INVALID_FIELD = 0x24,
    ASC_MEDIUM_CHANGED = 0x28,
    ASC_RESET = 0x29,
    ASC_INCOMPATIBLE_MEDIUM = 0x30,
    ASC_SAVING_NOT_SUPPORTED = 0x39,
    ASC_NO_MEDIUM = 0x3a,
    ASC_REMOVAL_PREVENTED = 0x53,
    ASC_ILLEGAL_MODE_FOR_TRACK = 0x64,
};

/* AtaDrive.transfer */
enum {
    XFER_DMA = 0x01,
    XFER_PACKET = 0x02, /* the buffer is to hold the packet */
    XFER_PLAIN = 0x04,  /* the answer of an ATA command, with no interrupt after the data */
    XFER_ALL = 0x07
};

enum { NEEDS_DISC = 1, QUIET = 2 /* does not report a unit attention */ };

typedef struct PacketCommand {
    void (*run)(AtaDrive *drive, const uint8_t *packet);
    uint8_t flags;
} PacketCommand;

static void read_blocks(AtaDrive *drive);

/* ---- sense and completion -------------------------------------------------------------------- */

static bool has_disc(const AtaDrive *drive)
{
    return drive->disk && !drive->atapi.tray_open;
}

static uint32_t total_blocks(const AtaDrive *drive)
{
    uint64_t blocks = has_disc(drive) ? disk_info(drive->disk)->size / BLOCK_SIZE : 0;
    return MIN(blocks, UINT32_MAX);
}

/* What no CD can hold is a DVD. */
static bool is_dvd(const AtaDrive *drive)
{
    enum { CD_LIMIT_BLOCKS = 450000 };
    return total_blocks(drive) > CD_LIMIT_BLOCKS;
}

static void set_sense(AtaDrive *drive, uint8_t key, uint8_t asc, uint8_t ascq)
{
    drive->atapi.sense_key = key;
    drive->atapi.asc = asc;
    drive->atapi.ascq = ascq;
}

static void check_condition(AtaDrive *drive, uint8_t key, uint8_t asc, uint8_t ascq)
{
    set_sense(drive, key, asc, ascq);
    drive->regs.count[0] = REASON_COMMAND | REASON_IN;
    ata_fail(drive, key << 4 | ATA_ABRT);
}

static void illegal(AtaDrive *drive, uint8_t asc)
{
    check_condition(drive, SENSE_ILLEGAL, asc, 0);
}

static void no_medium(AtaDrive *drive)
{
    check_condition(drive, SENSE_NOT_READY, ASC_NO_MEDIUM, drive->atapi.tray_open ? 2 : 1);
}

static void good(AtaDrive *drive)
{
    set_sense(drive, 0, 0, 0);
    drive->regs.count[0] = REASON_COMMAND | REASON_IN;
    ata_finish(drive);
}

/* ---- moving data ----------------------------------------------------------------------------- */

/* A PIO block: at most the limit, even unless it is the last (ATA/ATAPI-6 8.23.4.1). */
static void start_pio_block(AtaDrive *drive, AtaPhase phase)
{
    uint32_t size = drive->data_size - drive->data_pos, limit = drive->atapi.byte_limit;
    if (size > limit)
        size = limit & ~1u;
    drive->regs.lba_mid[0] = size;
    drive->regs.lba_high[0] = size >> 8;
    drive->regs.count[0] = phase == ATA_PIO_IN ? REASON_IN : 0;
    ata_start_pio(drive, phase, drive->data_pos, drive->data_pos + size, true);
}

/* Offers buffer[0, size). */
static void offer(AtaDrive *drive, uint32_t size)
{
    drive->data_pos = 0;
    drive->data_size = size;
    if (drive->transfer & XFER_DMA)
        ata_start_dma(drive, ATA_DMA_IN, size);
    else
        start_pio_block(drive, ATA_PIO_IN);
}

/* The answer of a command with an allocation length. */
static void reply(AtaDrive *drive, uint32_t size, uint32_t allocated)
{
    size = MIN(size, allocated);
    drive->left = 0;
    if (size)
        offer(drive, size);
    else
        good(drive);
}

static uint8_t *clear_buffer(AtaDrive *drive, size_t size)
{
    return memset(drive->buffer, 0, size);
}

static void packet_received(AtaDrive *drive);

static void atapi_moved(AtaDrive *drive)
{
    if (drive->data_end < drive->data_size)
        start_pio_block(drive, drive->phase);
    else if (drive->transfer & XFER_PACKET)
        packet_received(drive);
    else if (drive->transfer & XFER_PLAIN)
        ata_finish_quietly(drive);
    else if (drive->left)
        read_blocks(drive);
    else
        good(drive);
}

/* ---- reading the disc ------------------------------------------------------------------------ */

static uint8_t to_bcd(unsigned value)
{
    return (value / 10) << 4 | value % 10;
}

static void put_msf(uint8_t *to, uint32_t lba)
{
    uint32_t frames = lba + LEAD_IN_FRAMES;
    to[0] = frames / FRAMES_PER_SECOND / 60;
    to[1] = frames / FRAMES_PER_SECOND % 60;
    to[2] = frames % FRAMES_PER_SECOND;
}

/* Sync, address and mode around a block of data (ECMA-130 14); the correction codes are zeros. */
static void frame_raw_block(uint8_t *raw, uint32_t lba)
{
    memset(raw, 0xff, 12);
    raw[0] = raw[11] = 0;
    put_msf(raw + 12, lba);
    for (unsigned i = 12; i < 15; i++)
        raw[i] = to_bcd(raw[i]);
    raw[15] = 1; /* mode 1 */
    memset(raw + RAW_HEADER_SIZE + BLOCK_SIZE, 0, RAW_BLOCK_SIZE - RAW_HEADER_SIZE - BLOCK_SIZE);
}

static uint32_t chunk_blocks(const AtaDrive *drive)
{
    bool raw = drive->atapi.block_bytes == RAW_BLOCK_SIZE;
    return raw ? 1 : MIN(drive->left, ATA_BUFFER_SIZE / BLOCK_SIZE);
}

static void blocks_read(AtaDrive *drive, int error)
{
    uint32_t count = chunk_blocks(drive);
    if (error || !has_disc(drive)) {
        check_condition(drive, SENSE_MEDIUM, ASC_UNRECOVERED_READ, 0);
        return;
    }
    if (drive->atapi.block_bytes == RAW_BLOCK_SIZE)
        frame_raw_block(drive->buffer, drive->lba);
    drive->lba += count;
    drive->left -= count;
    offer(drive, count * drive->atapi.block_bytes);
}

static void read_blocks(AtaDrive *drive)
{
    uint32_t offset = drive->atapi.block_bytes == RAW_BLOCK_SIZE ? RAW_HEADER_SIZE : 0;
    if (!has_disc(drive)) {
        no_medium(drive);
        return;
    }
    ata_submit(drive, DISK_READ, drive->lba * BLOCK_SIZE, offset,
               (uint64_t)chunk_blocks(drive) * BLOCK_SIZE, false, blocks_read);
}

static void start_read(AtaDrive *drive, uint32_t lba, uint32_t count, uint16_t block_bytes)
{
    if (lba >= total_blocks(drive) || count > total_blocks(drive) - lba) {
        illegal(drive, ASC_OUT_OF_RANGE);
        return;
    }
    drive->lba = lba;
    drive->left = count;
    drive->atapi.block_bytes = block_bytes;
    if (count)
        read_blocks(drive);
    else
        good(drive);
}

static void cmd_read10(AtaDrive *drive, const uint8_t *packet)
{
    start_read(drive, load_be32(packet + 2), load_be16(packet + 7), BLOCK_SIZE);
}

static void cmd_read12(AtaDrive *drive, const uint8_t *packet)
{
    start_read(drive, load_be32(packet + 2), load_be32(packet + 6), BLOCK_SIZE);
}

/* READ CD: byte 9 selects the parts of a block; the user data alone, or all of it. */
static void read_cd(AtaDrive *drive, uint32_t lba, uint32_t count, uint8_t parts)
{
    if (!(parts & 0xf8))
        good(drive);
    else if ((parts & 0xf8) == 0x10)
        start_read(drive, lba, count, BLOCK_SIZE);
    else if ((parts & 0xf8) == 0xf8)
        start_read(drive, lba, count, RAW_BLOCK_SIZE);
    else
        illegal(drive, ASC_INVALID_FIELD);
}

static void cmd_read_cd(AtaDrive *drive, const uint8_t *packet)
{
    unsigned type = packet[1] >> 2 & 7; /* 0: any, 2: mode 1; the rest is not on this disc */
    if (type != 0 && type != 2)
        illegal(drive, ASC_ILLEGAL_MODE_FOR_TRACK);
    else
        read_cd(drive, load_be32(packet + 2), load_be32(packet + 5) & 0xffffff, packet[9]);
}

static uint32_t msf_to_lba(const uint8_t *msf)
{
    return ((uint32_t)msf[0] * 60 + msf[1]) * FRAMES_PER_SECOND + msf[2] - LEAD_IN_FRAMES;
}

static void cmd_read_cd_msf(AtaDrive *drive, const uint8_t *packet)
{
    uint32_t lba = msf_to_lba(packet + 3), end = msf_to_lba(packet + 6);
    if (end < lba)
        illegal(drive, ASC_INVALID_FIELD);
    else
        read_cd(drive, lba, end - lba, packet[9]);
}

/* ---- what the drive is ----------------------------------------------------------------------- */

static void cmd_test_unit_ready(AtaDrive *drive, const uint8_t *packet)
{
    good(drive);
}

static void cmd_inquiry(AtaDrive *drive, const uint8_t *packet)
{
    uint8_t *data = clear_buffer(drive, 36);
    if (packet[1] & 1) { /* vital product data */
        illegal(drive, ASC_INVALID_FIELD);
        return;
    }
    data[0] = 0x05; /* CD-ROM */
    data[1] = 0x80; /* removable */
    data[3] = 0x21; /* ATAPI-2, response format 1 */
    data[4] = 31;
    memcpy(data + 8, "Ospite  CD-ROM          1.0 ", 28);
    reply(drive, 36, load_be16(packet + 3));
}

static void cmd_request_sense(AtaDrive *drive, const uint8_t *packet)
{
    uint8_t *data = clear_buffer(drive, 18);
    if (drive->atapi.unit_attention) {
        set_sense(drive, SENSE_ATTENTION, drive->atapi.attention_asc, 0);
        drive->atapi.unit_attention = false;
    }
    data[0] = 0x70;
    data[2] = drive->atapi.sense_key;
    data[7] = 10;
    data[12] = drive->atapi.asc;
    data[13] = drive->atapi.ascq;
    reply(drive, 18, packet[4]);
}

static void cmd_read_capacity(AtaDrive *drive, const uint8_t *packet)
{
    store_be32(drive->buffer, total_blocks(drive) - 1);
    store_be32(drive->buffer + 4, BLOCK_SIZE);
    reply(drive, 8, 8);
}

/* MMC-3 6.5: the core, morphing, removable medium, multi-read and CD read features. */
static void cmd_get_configuration(AtaDrive *drive, const uint8_t *packet)
{
    static const uint8_t features[] = {
        0x00, 0x00, 0x03, 0x08, 0x00, 0x10, 0x00, 0x00, 0x00, 0x08, 0x00, 0x00, /* DVD, CD-ROM */
        0x00, 0x01, 0x03, 0x04, 0x00, 0x00, 0x00, 0x02,                         /* core: ATAPI */
        0x00, 0x02, 0x03, 0x04, 0x00, 0x00, 0x00, 0x00,                         /* morphing */
        0x00, 0x03, 0x03, 0x04, 0x29, 0x00, 0x00, 0x00,                         /* tray, lock */
        0x00, 0x10, 0x01, 0x08, 0x00, 0x00, 0x08, 0x00, 0x00, 0x10, 0x01, 0x00, /* readable */
        0x00, 0x1e, 0x01, 0x04, 0x00, 0x00, 0x00, 0x00,                         /* CD read */
        0x00, 0x1f, 0x01, 0x04, 0x00, 0x00, 0x00, 0x00,                         /* DVD read */
    };
    enum { ALL = 0, CURRENT = 1, ONE = 2 };
    unsigned selection = packet[1] & 3, first = load_be16(packet + 2);
    uint8_t *data = clear_buffer(drive, 8 + sizeof(features));
    uint32_t blocks = total_blocks(drive), size = 8;
    bool dvd = is_dvd(drive);
    for (size_t i = 0; i < sizeof(features); i += 4 + features[i + 3]) {
        unsigned code = load_be16(features + i), length = 4 + features[i + 3];
        bool is_profile = code == 0x1e ? !dvd : code == 0x1f ? dvd : true;
        bool is_current = (features[i + 2] & 1) && blocks && is_profile;
        if (selection == ONE ? code != first : code < first)
            continue;
        if (selection == CURRENT && !is_current && !(features[i + 2] & 2))
            continue;
        memcpy(data + size, features + i, length);
        if (!(features[i + 2] & 2))
            data[size + 2] = (features[i + 2] & ~1) | is_current;
        if (code == 0 && blocks)
            data[size + 4 + (dvd ? 2 : 6)] |= 1;
        size += length;
    }
    store_be32(data, size - 4);
    store_be16(data + 6, blocks ? (dvd ? 0x10 : 0x08) : 0);
    if (selection == 3)
        illegal(drive, ASC_INVALID_FIELD);
    else
        reply(drive, size, load_be16(packet + 7));
}

/* MMC-3 6.6, polled. Only the media class (4) has events. */
static void cmd_get_event(AtaDrive *drive, const uint8_t *packet)
{
    AtapiState *a = &drive->atapi;
    uint8_t *data = clear_buffer(drive, 8);
    if (!(packet[1] & 1)) { /* asynchronous: never */
        illegal(drive, ASC_INVALID_FIELD);
        return;
    }
    data[3] = 0x10; /* supported classes */
    if (!(packet[4] & 0x10)) {
        data[1] = 2;
        data[2] = 0x80; /* no event available */
        reply(drive, 4, load_be16(packet + 7));
        return;
    }
    data[1] = 6;
    data[2] = 4;
    if (a->eject_requested)
        data[4] = 1;
    else if (a->media_removed)
        data[4] = 3;
    else if (a->media_new)
        data[4] = 2;
    if (data[4] == 1)
        a->eject_requested = false;
    else if (data[4] == 3)
        a->media_removed = false;
    else
        a->media_new = false;
    data[5] = a->tray_open | has_disc(drive) << 1;
    reply(drive, 8, load_be16(packet + 7));
}

static void cmd_mechanism_status(AtaDrive *drive, const uint8_t *packet)
{
    uint8_t *data = clear_buffer(drive, 8);
    data[1] = drive->atapi.tray_open << 4;
    data[5] = 1; /* slot tables that follow: none, of one slot */
    reply(drive, 8, load_be16(packet + 8));
}

/* ---- the table of contents ------------------------------------------------------------------- */

/* An address as MSF in three bytes after a zero, or as LBA. */
static void put_address(uint8_t *to, uint32_t lba, bool msf)
{
    if (msf)
        put_msf(to + 1, lba);
    else
        store_be32(to, lba);
}

static uint32_t put_toc(AtaDrive *drive, uint8_t *data, unsigned start_track, bool msf)
{
    static const uint8_t tracks[] = {1, 0xaa};
    uint32_t size = 4;
    for (unsigned i = 0; i < G_N_ELEMENTS(tracks); i++) {
        if (start_track > tracks[i])
            continue;
        data[size + 1] = 0x14; /* data track */
        data[size + 2] = tracks[i];
        put_address(data + size + 4, i ? total_blocks(drive) : 0, msf);
        size += 8;
    }
    data[2] = data[3] = 1;
    return size;
}

static uint32_t put_sessions(uint8_t *data, bool msf)
{
    data[2] = data[3] = 1;
    data[5] = 0x14;
    data[6] = 1;
    put_address(data + 8, 0, msf);
    return 12;
}

/* The raw TOC: first and last track, lead-out, track 1 (MMC-3 table 233). */
static uint32_t put_raw_toc(AtaDrive *drive, uint8_t *data)
{
    static const uint8_t points[] = {0xa0, 0xa1, 0xa2, 1};
    uint32_t size = 4;
    data[2] = data[3] = 1;
    for (unsigned i = 0; i < G_N_ELEMENTS(points); i++, size += 11) {
        uint8_t *entry = data + size;
        entry[0] = 1; /* session */
        entry[1] = 0x14;
        entry[3] = points[i];
        if (i < 2)
            entry[8] = 1;
        else
            put_msf(entry + 8, points[i] == 1 ? 0 : total_blocks(drive));
    }
    return size;
}

static void cmd_read_toc(AtaDrive *drive, const uint8_t *packet)
{
    bool msf = packet[1] & 2;
    unsigned format = packet[2] & 0x0f, start = packet[6];
    uint32_t size;
    uint8_t *data = clear_buffer(drive, 64);
    if (format == 0)
        format = packet[9] >> 6; /* where SFF-8020i has it */
    if (format > 2 || (format == 0 && start > 1 && start != 0xaa)) {
        illegal(drive, ASC_INVALID_FIELD);
        return;
    }
    if (format == 0)
        size = put_toc(drive, data, start, msf);
    else
        size = format == 1 ? put_sessions(data, msf) : put_raw_toc(drive, data);
    store_be16(data, size - 2);
    reply(drive, size, load_be16(packet + 7));
}

static void cmd_read_subchannel(AtaDrive *drive, const uint8_t *packet)
{
    bool wants_data = packet[2] & 0x40;
    uint8_t *data = clear_buffer(drive, 24);
    uint32_t size = 4;
    data[1] = 0x15; /* no audio to report */
    if (wants_data && packet[3] == 1) {
        data[4] = 1; /* current position: track 1, index 1 */
        data[5] = 0x14;
        data[6] = data[7] = 1;
        put_address(data + 8, 0, packet[1] & 2);
        put_address(data + 12, 0, packet[1] & 2);
        size = 16;
    } else if (wants_data && (packet[3] == 2 || packet[3] == 3)) {
        data[4] = packet[3]; /* no catalogue number, no ISRC */
        size = 24;
    } else if (wants_data) {
        illegal(drive, ASC_INVALID_FIELD);
        return;
    }
    store_be16(data + 2, size - 4);
    reply(drive, size, load_be16(packet + 7));
}

static void cmd_read_disc_info(AtaDrive *drive, const uint8_t *packet)
{
    uint8_t *data = clear_buffer(drive, 34);
    store_be16(data, 32);
    data[2] = 0x0e; /* complete, last session complete */
    data[3] = data[4] = data[5] = data[6] = 1;
    data[7] = 0x20;             /* unrestricted use */
    memset(data + 17, 0xff, 7); /* no lead-in or lead-out to be written */
    reply(drive, 34, load_be16(packet + 7));
}

/* ---- DVD structures -------------------------------------------------------------------------- */

enum { DVD_BLOCK = 2048, DVD_FIRST_SECTOR = 0x30000 };

/* MMC-3 table 267: one layer of an embossed disc of 120 mm; where its data lies. */
static void put_dvd_physical(AtaDrive *drive, uint8_t *to)
{
    to[0] = 0x01; /* DVD-ROM, part version 1 */
    to[1] = 0x0f; /* no maximum rate named */
    to[2] = 0x01;
    store_be32(to + 4, DVD_FIRST_SECTOR);
    store_be32(to + 8, DVD_FIRST_SECTOR + total_blocks(drive) - 1);
}

static const struct {
    uint8_t format;
    uint16_t length;
    void (*put)(AtaDrive *drive, uint8_t *to); /* NULL: zeros */
} dvd_structures[] = {
    {0x00, DVD_BLOCK, put_dvd_physical},
    {0x01, 4},         /* copyright: neither protected nor for certain regions */
    {0x04, DVD_BLOCK}, /* manufacturer's own */
};
enum { DVD_LIST = 0xff };

static uint32_t put_dvd_list(uint8_t *to)
{
    uint32_t size = 0;
    for (size_t i = 0; i < G_N_ELEMENTS(dvd_structures); i++, size += 4) {
        to[size] = dvd_structures[i].format;
        to[size + 1] = 0x40; /* can be read */
        store_be16(to + size + 2, dvd_structures[i].length + 4);
    }
    return size;
}

/* MMC-3 6.22. */
static void cmd_read_dvd_structure(AtaDrive *drive, const uint8_t *packet)
{
    uint8_t *data = clear_buffer(drive, 4 + DVD_BLOCK);
    uint8_t layer = packet[6], format = packet[7];
    uint32_t size = 0;
    if (!is_dvd(drive)) {
        check_condition(drive, SENSE_ILLEGAL, ASC_INCOMPATIBLE_MEDIUM, 2);
        return;
    }
    if (format == DVD_LIST)
        size = put_dvd_list(data + 4);
    for (size_t i = 0; i < G_N_ELEMENTS(dvd_structures) && layer == 0; i++) {
        if (dvd_structures[i].format != format)
            continue;
        size = dvd_structures[i].length;
        if (dvd_structures[i].put)
            dvd_structures[i].put(drive, data + 4);
    }
    if (!size) {
        illegal(drive, ASC_INVALID_FIELD);
        return;
    }
    store_be16(data, size + 2);
    reply(drive, 4 + size, load_be16(packet + 8));
}

/* ---- mode pages ------------------------------------------------------------------------------ */

typedef struct ModePage {
    uint8_t code, length; /* without these two bytes */
    uint8_t bytes[20];
} ModePage;

static const ModePage mode_pages[] = {
    {0x01, 6, {0x00, 0x05}},                              /* error recovery: 5 retries */
    {0x0d, 6, {0x00, 0x0d, 0x00, 60, 0x00, 75}},          /* CD-ROM: seconds, frames */
    {0x0e, 14, {0x04, 0, 0, 0, 0, 75, 1, 0xff, 2, 0xff}}, /* audio control */
    /* Capabilities (SFF-8020i 10.8.3.4, MMC-3 annex): reads CD-R and CD-RW, multisession and mode
     * 2, and DVD; a tray that locks and ejects; speed 16x, buffer 128 KiB */
    {0x2a, 20, {0x3b, 0x00, 0x70, 0x00, 0x29, 0x00, 0x0b, 0x08, 0, 0, 0, 128, 0x0b, 0x08}},
};

enum { CAPABILITY_LOCKED = 6 };

/* Appends the pages wanted; 0x3f: all. Returns the size. */
static uint32_t put_mode_pages(AtaDrive *drive, uint8_t *to, unsigned code, bool changeable)
{
    uint32_t size = 0;
    for (size_t i = 0; i < G_N_ELEMENTS(mode_pages); i++) {
        const ModePage *page = &mode_pages[i];
        if (code != 0x3f && code != page->code)
            continue;
        to[size] = page->code;
        to[size + 1] = page->length;
        if (!changeable)
            memcpy(to + size + 2, page->bytes, page->length);
        if (page->code == 0x2a && !changeable)
            to[size + CAPABILITY_LOCKED] |= drive->atapi.locked << 1;
        size += 2 + page->length;
    }
    return size;
}

static void mode_sense(AtaDrive *drive, const uint8_t *packet, uint32_t header, uint32_t allocated)
{
    enum { CURRENT, CHANGEABLE, DEFAULT, SAVED };
    unsigned control = packet[2] >> 6;
    uint8_t *data = clear_buffer(drive, 128);
    uint32_t size = put_mode_pages(drive, data + header, packet[2] & 0x3f, control == CHANGEABLE);
    uint8_t medium = drive->atapi.tray_open ? 0x71 : has_disc(drive) ? 0x01 : 0x70;
    if (control == SAVED || !size) {
        illegal(drive, control == SAVED ? ASC_SAVING_NOT_SUPPORTED : ASC_INVALID_FIELD);
        return;
    }
    size += header;
    if (header == 8)
        store_be16(data, size - 2);
    else
        data[0] = size - 1;
    data[header == 8 ? 2 : 1] = medium;
    reply(drive, size, allocated);
}

static void cmd_mode_sense6(AtaDrive *drive, const uint8_t *packet)
{
    mode_sense(drive, packet, 4, packet[4]);
}

static void cmd_mode_sense10(AtaDrive *drive, const uint8_t *packet)
{
    mode_sense(drive, packet, 8, load_be16(packet + 7));
}

/* The parameters are taken and ignored: no page has anything to change. */
static void mode_select(AtaDrive *drive, uint32_t size)
{
    if (!size) {
        good(drive);
        return;
    }
    drive->left = 0;
    drive->data_pos = 0;
    drive->data_size = size;
    if (drive->transfer & XFER_DMA)
        ata_start_dma(drive, ATA_DMA_OUT, size);
    else
        start_pio_block(drive, ATA_PIO_OUT);
}

static void cmd_mode_select6(AtaDrive *drive, const uint8_t *packet)
{
    mode_select(drive, packet[4]);
}

static void cmd_mode_select10(AtaDrive *drive, const uint8_t *packet)
{
    mode_select(drive, load_be16(packet + 7));
}

/* ---- the tray -------------------------------------------------------------------------------- */

static void set_attention(AtaDrive *drive, uint8_t asc)
{
    drive->atapi.unit_attention = true;
    drive->atapi.attention_asc = asc;
}

static void move_tray(AtaDrive *drive, bool open)
{
    AtapiState *a = &drive->atapi;
    if (a->tray_open == open)
        return;
    a->tray_open = open;
    if (!drive->disk)
        return;
    a->media_removed = open;
    a->media_new = !open;
    if (!open)
        set_attention(drive, ASC_MEDIUM_CHANGED);
}

static void cmd_start_stop(AtaDrive *drive, const uint8_t *packet)
{
    bool load_eject = packet[4] & 2, start = packet[4] & 1;
    if (load_eject && !start && drive->atapi.locked) {
        check_condition(drive, SENSE_ILLEGAL, ASC_REMOVAL_PREVENTED, 2);
        return;
    }
    if (load_eject)
        move_tray(drive, !start);
    good(drive);
}

static void cmd_prevent_removal(AtaDrive *drive, const uint8_t *packet)
{
    drive->atapi.locked = packet[4] & 1;
    good(drive);
}

bool atapi_change_disc(AtaDrive *drive, Disk *disk, bool force, GError **error)
{
    AtapiState *a = &drive->atapi;
    if (a->locked && !force) {
        a->eject_requested = true;
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_BUSY,
                    "the guest has locked the CD-ROM tray; it was asked to release it: try again, "
                    "or force it");
        return false;
    }
    ata_drive_drain(drive);
    a->media_removed = drive->disk && !a->tray_open;
    drive->disk = disk;
    drive->left = 0; /* a read under way ends here */
    a->tray_open = false;
    a->locked = a->locked && !force;
    a->media_new = disk != NULL;
    if (disk)
        set_attention(drive, ASC_MEDIUM_CHANGED);
    return true;
}

/* ---- packets --------------------------------------------------------------------------------- */

static const PacketCommand packet_commands[256] = {
    [0x00] = {cmd_test_unit_ready, NEEDS_DISC},
    [0x03] = {cmd_request_sense, QUIET},
    [0x12] = {cmd_inquiry, QUIET},
    [0x15] = {cmd_mode_select6},
    [0x1a] = {cmd_mode_sense6},
    [0x1b] = {cmd_start_stop},
    [0x1e] = {cmd_prevent_removal},
    [0x25] = {cmd_read_capacity, NEEDS_DISC},
    [0x28] = {cmd_read10, NEEDS_DISC},
    [0x2b] = {cmd_test_unit_ready, NEEDS_DISC}, /* SEEK */
    [0x42] = {cmd_read_subchannel, NEEDS_DISC},
    [0x43] = {cmd_read_toc, NEEDS_DISC},
    [0x46] = {cmd_get_configuration, QUIET},
    [0x4a] = {cmd_get_event, QUIET},
    [0x4e] = {cmd_test_unit_ready, NEEDS_DISC}, /* STOP PLAY: nothing plays */
    [0x51] = {cmd_read_disc_info, NEEDS_DISC},
    [0x55] = {cmd_mode_select10},
    [0x5a] = {cmd_mode_sense10},
    [0xa8] = {cmd_read12, NEEDS_DISC},
    [0xad] = {cmd_read_dvd_structure, NEEDS_DISC},
    [0xb9] = {cmd_read_cd_msf, NEEDS_DISC},
    [0xbb] = {cmd_test_unit_ready}, /* SET CD SPEED: as fast as it goes */
    [0xbd] = {cmd_mechanism_status},
    [0xbe] = {cmd_read_cd, NEEDS_DISC},
};

static void packet_received(AtaDrive *drive)
{
    AtapiState *a = &drive->atapi;
    memcpy(a->packet, drive->buffer, ATA_PACKET_SIZE);
    drive->transfer &= ~XFER_PACKET;
    drive->data_size = 0;
    const PacketCommand *command = &packet_commands[a->packet[0]];
    if (!command->run) {
        guest_log("atapi", "unknown packet command %#x", a->packet[0]);
        illegal(drive, ASC_INVALID_OPCODE);
    } else if (a->unit_attention && !(command->flags & QUIET)) {
        a->unit_attention = false;
        check_condition(drive, SENSE_ATTENTION, a->attention_asc, 0);
    } else if ((command->flags & NEEDS_DISC) && !has_disc(drive)) {
        no_medium(drive);
    } else {
        command->run(drive, a->packet);
    }
}

/* The packet is asked for without an interrupt, as IDENTIFY says (9.8, "DRQ within 50 us"). */
static void start_packet(AtaDrive *drive)
{
    uint32_t limit = drive->regs.lba_mid[0] | drive->regs.lba_high[0] << 8;
    bool overlapped = drive->regs.feature[0] & 2;
    if (overlapped) {
        ata_fail(drive, ATA_ABRT);
        return;
    }
    drive->transfer = XFER_PACKET | (drive->regs.feature[0] & 1 ? XFER_DMA : 0);
    drive->atapi.byte_limit = limit < 2 || limit > MAX_PIO_LIMIT ? MAX_PIO_LIMIT : limit;
    drive->regs.count[0] = REASON_COMMAND;
    ata_start_pio(drive, ATA_PIO_OUT, 0, ATA_PACKET_SIZE, false);
}

/* ---- ATA commands ---------------------------------------------------------------------------- */

/* IDENTIFY PACKET DEVICE, ATA/ATAPI-6 8.16. */
static void identify_packet(AtaDrive *drive)
{
    uint8_t *data = clear_buffer(drive, ATA_SECTOR_SIZE);
    store_le16(data + 2 * 0, 0x85c0); /* CD-ROM, removable, quick DRQ, 12-byte packets */
    ata_put_string(data + 2 * 10, drive->serial, 10);
    ata_put_string(data + 2 * 23, "1.0", 4);
    ata_put_string(data + 2 * 27, "Ospite CD-ROM", 20);
    store_le16(data + 2 * 49, 0x0f00); /* IORDY, LBA, DMA */
    store_le16(data + 2 * 53, 0x0006);
    store_le16(data + 2 * 80, 0x00f0);
    store_le16(data + 2 * 82, 0x4218); /* NOP, DEVICE RESET, PACKET, power management */
    store_le16(data + 2 * 83, 0x4000);
    store_le16(data + 2 * 84, 0x4000);
    store_le16(data + 2 * 85, 0x4218);
    store_le16(data + 2 * 87, 0x4000);
    store_le16(data + 2 * 93, drive->unit ? 0x6b00 : 0x600b);
    ata_put_modes(drive, data);
    ata_seal_identify(data);
    drive->transfer = XFER_PLAIN;
    ata_start_pio(drive, ATA_PIO_IN, 0, ATA_SECTOR_SIZE, true);
}

/* IDENTIFY DEVICE and READ SECTORS: refused with the signature, so that the host knows. */
static void refuse_with_signature(AtaDrive *drive)
{
    ata_set_signature(drive);
    ata_fail(drive, ATA_ABRT);
}

static void atapi_command(AtaDrive *drive, uint8_t command)
{
    if (command == 0xa0)
        start_packet(drive);
    else if (command == 0xa1)
        identify_packet(drive);
    else if (command == 0xec || command == 0x20)
        refuse_with_signature(drive);
    else if (!ata_common_command(drive, command))
        ata_fail(drive, ATA_ABRT);
}

static void atapi_defaults(AtaDrive *drive)
{
    memset(&drive->atapi, 0, sizeof(drive->atapi));
    drive->atapi.block_bytes = BLOCK_SIZE;
    set_attention(drive, ASC_RESET);
}

static bool atapi_loaded(AtaDrive *drive, GError **error)
{
    const AtapiState *a = &drive->atapi;
    bool raw = a->block_bytes == RAW_BLOCK_SIZE;
    bool fits = !(drive->transfer & ~XFER_ALL) && (raw || a->block_bytes == BLOCK_SIZE) &&
                a->byte_limit <= MAX_PIO_LIMIT && a->byte_limit != 1;
    bool moving = drive->phase != ATA_IDLE;
    if (fits && moving && drive->data_end < drive->data_size)
        fits = a->byte_limit >= 2;
    if (fits && drive->left && has_disc(drive))
        fits = drive->lba < total_blocks(drive) && drive->left <= total_blocks(drive) - drive->lba;
    if (!fits)
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    "the saved state of CD-ROM drive %u is impossible", drive->unit);
    return fits;
}

const AtaKind atapi_kind = {
    .name = "atapi-cdrom",
    .command = atapi_command,
    .moved = atapi_moved,
    .defaults = atapi_defaults,
    .signature_mid = 0x14,
    .signature_high = 0xeb,
    .reset_status = 0,
    .ready_status = ATA_DRDY,
    .loaded = atapi_loaded,
};
