/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * System control port A (PS/2): bit 1 A20, bit 0 fast reset.
 *
 * The keyboard controller switches A20 too; the last writer wins and the other is told, so that
 * both read back what holds.
 *
 * Wiring: map io (1 port) at 0x92; a20_changed = i8042_a20_changed, and the other way round.
 * Threads: board lock.
 */
#pragma once

#include "device/device.h"

typedef struct Port92 {
    Device device;
    Region io;
    void (*a20_changed)(void *obj, bool on); /* tells the other switch; may be NULL */
    void *a20_obj;
    uint8_t value;
} Port92;

extern const DeviceType port92_type;

/* The other A20 switch was used: keep bit 1 in step. */
void port92_a20_changed(void *port92, bool on);
