/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The floppy controller of a PC: an 82078 in AT mode with two drives.
 *
 * The machine maps `io` (8 ports) at 0x3f0, without offset 6, which is the IDE's; wires `irq` to 6
 * and `dma` to channel 2.
 *
 *     2 DOR  motors 7:4, interrupt and DMA gate 3, not reset 2, drive 1:0
 *     4 MSR  RQM 7, to host 6, non-DMA 5, busy 4, seeking 3:0;  written: DSR, reset 7, rate 1:0
 *     5 FIFO commands, results, non-DMA data
 *     7 DIR  disk change 7;  written: CCR, rate 1:0
 *
 * Invariants:
 * - `fifo` holds a command being collected or a result being read; its length comes from the
 *   command table and never exceeds FDC_FIFO_SIZE. Sector data are in `data`.
 * - While `request` is the disk's the controller takes no byte; a reset meanwhile marks it
 *   abandoned, and its answer is dropped.
 *
 * Threads: everything with the board lock held.
 * Sources: Intel 82078 datasheet; 82077AA datasheet (result tables).
 */
#pragma once

#include "block/disk.h"
#include "device/device.h"

#define FDC_DRIVES      2
#define FDC_SECTOR_SIZE 512
#define FDC_FIFO_SIZE   16

/* How bytes get to and from memory: a wire to the DMA controller. */
typedef struct FdcDma {
    /* Moves up to `size` bytes; returns how many, 0 when the channel is not ready. *ret_tc: the
     * terminal count was reached. */
    size_t (*transfer)(void *obj, uint8_t *data, size_t size, bool to_memory, bool *ret_tc);
    void *obj;
} FdcDma;

typedef struct FloppyGeometry {
    uint8_t cylinders, heads, sectors;
    uint8_t rates; /* bit n: readable at data rate n (0: 500, 1: 300, 2: 250, 3: 1000 kbit/s) */
} FloppyGeometry;

typedef struct FloppyDrive {
    Disk *disk;              /* not owned; NULL: empty */
    FloppyGeometry geometry; /* of the disk */
    uint8_t track;           /* where the head is */
    bool changed;            /* the disk change line */
    bool present;            /* drive A always is */
} FloppyDrive;

typedef enum FdcPhase {
    FDC_COMMAND,
    FDC_EXECUTE,  /* the disk or a timer is at work */
    FDC_DATA_IN,  /* non-DMA: the host reads `data` … */
    FDC_DATA_OUT, /* … or writes it */
    FDC_RESULT,
    FDC_PHASE_COUNT
} FdcPhase;

typedef struct Fdc {
    Device device;
    Region io;
    IrqLine irq;
    FdcDma dma;
    FloppyDrive drives[FDC_DRIVES];

    uint8_t dor, tdr, rate;
    uint8_t precompensation[2]; /* SPECIFY's two bytes */
    uint8_t configure[2];       /* CONFIGURE: FIFO and seek options; precompensation track */
    uint8_t perpendicular;
    bool locked;
    bool irq_pending;

    uint32_t phase; /* FdcPhase */
    uint8_t fifo[FDC_FIFO_SIZE];
    uint8_t fifo_pos, fifo_length;

    /* The command being executed: */
    uint8_t command;         /* its first byte */
    uint8_t drive, head;     /* … where */
    uint8_t c, h, r, n, eot; /* the sector that comes next */
    uint8_t fill;            /* FORMAT TRACK */
    uint8_t left;            /* sectors that FORMAT and VERIFY still have to do */
    uint8_t st1, st2;
    bool terminal_count;
    uint8_t data[FDC_SECTOR_SIZE];
    uint16_t data_pos, data_size;

    uint8_t seeking;       /* a bit per drive: the head is under way … */
    uint8_t seek_ended[4]; /* … the ST0 that SENSE INTERRUPT will tell; 0: none */
    uint8_t seek_target[FDC_DRIVES];
    ClockTimer seek_timer, reset_timer, id_timer;

    DiskRequest request;
    struct iovec iov;
    bool in_flight;
    bool abandoned;
} Fdc;

extern const DeviceType fdc_type;

/*
 * Puts a disk into a drive, before or while the machine runs; NULL takes it out. Afterwards the old
 * disk is no longer used. Fails for an image larger than any floppy.
 */
bool fdc_change_disk(Fdc *fdc, unsigned drive, Disk *disk, GError **error);
