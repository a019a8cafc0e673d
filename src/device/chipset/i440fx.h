/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Intel 440FX host bridge (82441FX): PCI function 00:00.0, and what its PAM and SMRAM registers
 * make the CPU see between 640 KiB and 1 MiB.
 *
 * Before device_create() the machine fills in `ram` (main memory from address 0 on, at least 1 MiB)
 * and, when there is firmware, `bios`. Board lock held.
 * Source: Intel 440FX PCIset datasheet (290549), §3.2.
 */
#pragma once

#include "device/bus/pci.h"

#define I440FX_PAM_COUNT 13

/* Who answers in a shadow segment. */
typedef enum PamMode {
    PAM_PCI = 0,       /* reads and writes go to the ROM or nowhere */
    PAM_READ_RAM = 1,  /* reads from RAM, writes vanish */
    PAM_WRITE_RAM = 2, /* reads from ROM, writes to RAM: how firmware copies itself */
    PAM_RAM = 3,
} PamMode;

typedef struct I440fxSegment {
    struct I440fx *owner;
    uint32_t address;
    uint32_t size;
    Region pci;          /* ROM slice or nothing, writes vanish */
    Region write_shadow; /* the same, but writes reach RAM */
    SpaceMapping *mapping;
} I440fxSegment;

typedef struct I440fx {
    PciDevice pci;
    Region *ram;  /* REGION_RAM */
    Region *bios; /* REGION_ROM; its last 128 KiB show below 1 MiB. NULL: none */
    I440fxSegment segments[I440FX_PAM_COUNT];
    SpaceMapping *smram;
} I440fx;

extern const DeviceType i440fx_type;

/* Makes all of 0xc0000 to 0xfffff RAM, as firmware leaves it. For a kernel booted without one. */
void i440fx_open_shadow(I440fx *fx);
