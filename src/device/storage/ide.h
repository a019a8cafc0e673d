/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The PIIX3 IDE controller: two channels of two drives in legacy mode, with bus-master DMA.
 *
 * The machine maps the legacy regions: `command` (8 ports) at 0x1f0 and 0x170, `control` (1 port)
 * at 0x3f6 and 0x376, and wires `irq` to 14 and 15. BAR 4 holds the 16 bus-master ports.
 *
 *     BMICOM 0: start 0, to memory 3      BMISTA 2: active 0, error 1, interrupt 2,
 *     BMIDTP 4: PRD table                           DMA capable 5 and 6
 *
 *     PRD: 31..0 address (bit 0 is 0), 15..0 bytes (bit 0 is 0; 0: 64 KiB), 31 of the second: last
 *
 * Threads: everything with the board lock held.
 * Sources: Intel 82371SB (PIIX3) 2.3 and 2.8; "Programming Interface for Bus Master IDE
 * Controller" 1.0; ATA/ATAPI-6 chapter 7.
 */
#pragma once

#include "device/bus/pci.h"
#include "device/storage/ata.h"

#define IDE_CHANNELS 2
#define IDE_UNITS    2

typedef struct IdeController IdeController;

typedef struct IdeChannel {
    IdeController *ide;
    unsigned index;
    Region command;
    Region control;
    IrqLine irq;
    AtaDrive drives[IDE_UNITS];
    uint8_t device_control;
    uint8_t selected;
    bool irq_level;
    uint8_t bm_command;
    uint8_t bm_status;
    uint32_t prd_table;
    uint32_t prd_count;   /* entries fetched since the start */
    uint32_t prd_address; /* what is left of the current entry */
    uint32_t prd_left;
    bool prd_last;
} IdeChannel;

struct IdeController {
    PciDevice pci;
    IdeChannel channels[IDE_CHANNELS];
    Region bus_master;
};

extern const DeviceType piix3_ide_type;

/* After device_create, before device_reset. The disk stays the caller's and must outlive the
 * controller. */
void ide_attach_disk(IdeController *ide, unsigned channel, unsigned unit, Disk *disk);
/* `disk` NULL: an empty drive. */
void ide_attach_cdrom(IdeController *ide, unsigned channel, unsigned unit, Disk *disk);
/*
 * Changes the disc of a CD-ROM drive while the machine runs (NULL: takes it out). Afterwards the
 * old disk is no longer used. Fails when the guest has locked the tray, unless `force`; the guest
 * is told that somebody pressed the button.
 */
bool ide_change_disc(IdeController *ide, unsigned channel, unsigned unit, Disk *disk, bool force,
                     GError **error);
