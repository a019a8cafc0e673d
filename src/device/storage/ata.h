/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * An ATA drive: task file, data phases and disk requests, common to hard disks (ata_disk.c) and
 * CD-ROMs (atapi.c). The channel it hangs on (ide.c) routes register accesses and interrupts.
 *
 *            command            request done             buffer moved
 *     IDLE ----------> BUSY ------------------> DATA --------------------> BUSY or IDLE
 *                      BSY                      DRQ (PIO in, PIO out, DMA in, DMA out)
 *
 * Invariants:
 * - BSY is set while `request` is the disk's, and no command starts then. A reset that comes
 *   meanwhile only marks it abandoned: the answer is dropped, and the drive is busy until then.
 * - Data go through `buffer`, never straight to guest memory: a late answer finds no one.
 * - 0 <= data_pos <= data_end <= data_size <= ATA_BUFFER_SIZE.
 *
 * Threads: everything with the board lock held.
 * Sources: ATA/ATAPI-6 (T13/1410D), ATA8-ACS for TRIM.
 */
#pragma once

#include "block/disk.h"
#include "device/device.h"

#define ATA_SECTOR_SIZE 512
#define ATA_BUFFER_SIZE (128 * 1024)
#define ATA_PACKET_SIZE 12

enum { /* status */
       ATA_ERR = 0x01,
       ATA_DRQ = 0x08,
       ATA_DSC = 0x10, /* seek complete; ATAPI: service */
       ATA_DF = 0x20,
       ATA_DRDY = 0x40,
       ATA_BSY = 0x80,
};

enum { /* error */
       ATA_ABRT = 0x04,
       ATA_IDNF = 0x10,
       ATA_UNC = 0x40,
};

/* The device register: */
enum { ATA_DEVICE_UNIT = 0x10, ATA_DEVICE_LBA = 0x40 };

typedef struct AtaDrive AtaDrive;
typedef struct AtaKind AtaKind;

typedef enum AtaPhase {
    ATA_IDLE,
    ATA_BUSY,
    ATA_PIO_IN,
    ATA_PIO_OUT,
    ATA_DMA_IN, /* to guest memory */
    ATA_DMA_OUT,
    ATA_PHASE_COUNT
} AtaPhase;

/* What the channel does for its drives. */
typedef struct AtaHostOps {
    /* drive->irq_pending changed. */
    void (*irq_changed)(void *obj);
    /* Moves bytes by bus mastering; returns how many. Fewer than asked: the drive waits for
     * ata_drive_run_dma(). */
    size_t (*dma)(void *obj, AtaDrive *drive, uint8_t *data, size_t size, bool to_memory);
} AtaHostOps;

/* A byte of each: features, count, LBA low, mid, high; [1] is what was there before (HOB). */
typedef struct AtaTaskFile {
    uint8_t feature[2];
    uint8_t count[2];
    uint8_t lba_low[2];
    uint8_t lba_mid[2];
    uint8_t lba_high[2];
    uint8_t device;
    uint8_t error;
    uint8_t status;
    uint8_t command;
} AtaTaskFile;

/* CD-ROM only; see atapi.c. */
typedef struct AtapiState {
    uint8_t packet[ATA_PACKET_SIZE];
    uint8_t sense_key, asc, ascq;
    bool unit_attention; /* to be reported: what, is below */
    uint8_t attention_asc;
    bool locked;
    bool tray_open;
    bool eject_requested; /* media events to be polled */
    bool media_new;
    bool media_removed;
    uint32_t byte_limit;  /* of a PIO data phase */
    uint16_t block_bytes; /* per block of a read: 2048 or 2352 */
} AtapiState;

struct AtaDrive {
    const AtaKind *kind; /* NULL: no drive here */
    const AtaHostOps *host;
    void *host_obj;
    unsigned unit; /* 0 or 1 */
    Disk *disk;    /* not owned; NULL: an empty CD-ROM drive */
    char serial[21];

    AtaTaskFile regs;
    bool irq_pending;
    bool in_soft_reset; /* SRST is held */
    bool sleeping;
    bool write_cache;
    bool look_ahead;
    bool smart;
    uint8_t power_mode;    /* what CHECK POWER MODE answers */
    uint8_t transfer_mode; /* as SET FEATURES gave it */
    uint8_t multiple;      /* sectors per DRQ of READ/WRITE MULTIPLE; 0: off */
    uint16_t cylinders;    /* the CHS translation in force */
    uint8_t heads;
    uint8_t sectors;

    uint32_t phase; /* AtaPhase */
    uint32_t data_pos;
    uint32_t data_end;  /* of the DRQ block */
    uint32_t data_size; /* of what the buffer holds */
    /* The transfer under way: */
    uint8_t transfer; /* flags of the kind */
    uint64_t lba;     /* next sector (CD: block) */
    uint32_t left;    /* sectors (blocks) still to move */
    AtapiState atapi;
    uint8_t buffer[ATA_BUFFER_SIZE];

    DiskRequest request;
    struct iovec iov;
    bool in_flight;
    bool abandoned;
    void (*disk_done)(AtaDrive *drive, int error);
};

struct AtaKind {
    const char *name;
    void (*command)(AtaDrive *drive, uint8_t command);
    /* The buffer up to data_end was moved. */
    void (*moved)(AtaDrive *drive);
    /* Power-on defaults; a soft reset keeps them. */
    void (*defaults)(AtaDrive *drive);
    uint8_t signature_mid, signature_high;
    uint8_t reset_status;
    uint8_t ready_status; /* DRDY; of disks DSC, too, whose bit is a CD-ROM's SERVICE */
    bool (*loaded)(AtaDrive *drive, GError **error);
};

extern const AtaKind ata_disk_kind;
extern const AtaKind atapi_kind;
extern const StateField ata_drive_state_fields[];

void ata_drive_init(AtaDrive *drive, unsigned unit, const AtaHostOps *host, void *host_obj);
/* `disk` stays the caller's and must outlive the drive's use of it. */
void ata_drive_attach(AtaDrive *drive, const AtaKind *kind, Disk *disk, const char *serial);
/* Power-on; a request in flight is dropped, the drive being busy until it ends. */
void ata_drive_reset(AtaDrive *drive);
void ata_drive_soft_reset(AtaDrive *drive, bool asserted);
/* DEVICE RESET and EXECUTE DEVICE DIAGNOSTIC. */
void ata_drive_restart(AtaDrive *drive, bool interrupt);
bool ata_drive_loaded(AtaDrive *drive, GError **error);
/* Waits for its disk: afterwards nothing is in flight. */
void ata_drive_drain(AtaDrive *drive);

/* ---- the channel's side: registers 1 to 7 and the data port ---------------------------------- */

uint8_t ata_read_register(AtaDrive *drive, unsigned reg, bool previous);
void ata_write_register(AtaDrive *drive, unsigned reg, uint8_t value);
void ata_drive_command(AtaDrive *drive, uint8_t command);
uint32_t ata_read_data(AtaDrive *drive, unsigned size);
void ata_write_data(AtaDrive *drive, unsigned size, uint32_t value);
/* The bus master was started: goes on with a DMA phase that waits. */
void ata_drive_run_dma(AtaDrive *drive);
/* The status register was read. */
void ata_drive_acknowledge(AtaDrive *drive);

/* ---- the kinds' side ------------------------------------------------------------------------- */

/* Ends the command with an interrupt. */
void ata_finish(AtaDrive *drive);
/* … without one: the last PIO data-in block had its own. */
void ata_finish_quietly(AtaDrive *drive);
void ata_fail(AtaDrive *drive, uint8_t error);
/* Offers buffer[from, to) (or asks for it); `interrupt` announces it. */
void ata_start_pio(AtaDrive *drive, AtaPhase phase, uint32_t from, uint32_t to, bool interrupt);
/* The same by bus mastering. */
void ata_start_dma(AtaDrive *drive, AtaPhase phase, uint32_t size);
/* Sends a request for buffer[0, size); `done` is not called when a reset comes first. */
void ata_submit(AtaDrive *drive, DiskOp op, uint64_t offset, uint32_t buffer_offset, uint64_t size,
                bool fua, void (*done)(AtaDrive *drive, int error));
void ata_set_signature(AtaDrive *drive);
/* Commands that both kinds have; false: not one of them. */
bool ata_common_command(AtaDrive *drive, uint8_t command);
/* IDENTIFY strings: `words` words, space-padded, bytes swapped. */
void ata_put_string(uint8_t *words, const char *text, unsigned count);
/* Word 255: signature and checksum. */
void ata_seal_identify(uint8_t *data);
/* Words 63, 64 to 68 and 88: transfer modes. */
void ata_put_modes(AtaDrive *drive, uint8_t *data);
