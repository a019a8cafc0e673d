/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What bare-metal test suites for virtual machines ask of their machine, as pc-testdev of other
 * machines has it:
 *
 *   port 0xe0-0xe3         keeps what was written
 *   port 0xe4-0xe7         "forget your translation of the page at this physical address": nothing
 * to see port 0x2000+n, n < 24  bit 0 is the level of interrupt line n 64 KiB of memory       that
 * traps each access, at 0xff000000
 *
 * Wiring: map ports, lines and memory there; irq[n]. Threads: board lock.
 */
#pragma once

#include "device/device.h"

#define TESTDEV_IRQS        24
#define TESTDEV_MEMORY_SIZE 0x10000
#define TESTDEV_PORTS       0xe0
#define TESTDEV_LINES       0x2000
#define TESTDEV_MEMORY      0xff000000

typedef struct Testdev {
    Device device;
    Region ports, lines, memory;
    IrqLine irq[TESTDEV_IRQS];
    uint8_t levels[TESTDEV_IRQS];
    uint8_t echo[4];
    uint8_t bytes[TESTDEV_MEMORY_SIZE];
} Testdev;

extern const DeviceType testdev_type;
