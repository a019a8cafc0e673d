/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The PC's way to report x87 errors (CR0.NE clear): FERR# of the bootstrap processor is latched and
 * raises interrupt 13; a write to port 0xf0 or 0xf1 lowers it and asserts IGNNE# until FERR# goes
 * away. SDM 1 8.7, PIIX3 data sheet 3.2.
 *
 * Wiring: map io (2 ports) at 0xf0; irq = ISA interrupt 13; the CPU calls fpu_error_changed().
 * Threads: board lock; fpu_error_changed() takes it.
 */
#pragma once

#include "device/device.h"

typedef struct FpuError {
    Device device;
    Region io;
    IrqLine irq;
    bool ferr, ignne;
} FpuError;

extern const DeviceType fpu_error_type;

/* FERR# is driven or let go. Whether the CPU must wait for an interrupt; false: IGNNE#. */
bool fpu_error_changed(FpuError *error, bool ferr);
