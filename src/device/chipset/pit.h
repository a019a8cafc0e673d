/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * 8254 interval timer (Intel 231164) and port 0x61 with the speaker.
 *
 * Wiring: map io (4 ports) at 0x40, port61 (1 port) at 0x61; `irq` is OUT of channel 0 (IRQ 0).
 *
 * Counters are never stepped: count and OUT are computed from the clock, in ticks of PIT_HZ since
 * power-on, so nothing drifts. If the host was late, the missed ticks of channel 0 are delivered
 * faster, at most PIT_MAX_OWED of them. A tick waits until the guest has taken the one before
 * (irq_untaken; NULL: not known): a CPU that the host lets run only now and then still counts them
 * all.
 *
 * Threads: board lock.
 */
#pragma once

#include "device/device.h"

#define PIT_HZ       1193182
#define PIT_MAX_OWED 64

typedef struct PitChannel {
    uint8_t mode;   /* 0 to 5 */
    uint8_t access; /* 1: low byte, 2: high byte, 3: low then high */
    bool bcd;
    bool gate;
    bool write_high, read_high; /* the second byte of two is next */
    uint8_t low_byte;           /* the first byte of two, written */
    uint16_t latched_count;
    uint8_t latched_bytes; /* bytes of the latched count still to be read */
    bool status_latched;
    uint8_t latched_status;
    uint16_t reload; /* the count register as written */
    bool null_count; /* written and not yet in the counting element */
    bool counting;   /* the counting element was loaded (modes 1 and 5: triggered) */
    uint32_t period; /* what it was loaded with: 1 to 65536 */
    int64_t start;   /* tick at which it was loaded; while the gate holds it: of a running clock */
    int64_t held;    /* modes 0 and 4 with the gate low: ticks already counted, else -1 */
    int64_t reload_at; /* modes 2 and 3: tick at which a new count takes over, else -1 */
} PitChannel;

typedef struct Pit {
    Device device;
    Region io, port61;
    IrqLine irq;
    bool (*irq_untaken)(void *obj); /* the interrupt raised last waits in an interrupt controller */
    void *irq_untaken_obj;
    PitChannel channel[3];
    bool speaker;      /* port 0x61 bit 1 */
    uint8_t port61_rw; /* bits 3:2: parity and channel check disabled */
    bool irq_level;
    int64_t irq_tick; /* rising edge of channel 0 to deliver next, -1: none */
    ClockTimer timer;
} Pit;

extern const DeviceType pit_type;
