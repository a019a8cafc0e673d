/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A standard parallel port (SPP): 3 ports, with a printer that writes what it gets to a character
 * stream. Source: IEEE 1284-1994, compatibility mode; IBM PC/AT Technical Reference. Board lock
 * held.
 */
#pragma once

#include "char/char.h"
#include "device/device.h"

typedef struct Parallel {
    Device device;
    Region io; /* 3 ports: data, status, control */
    IrqLine irq;
    CharBackend *chr; /* set before device_create; NULL: no printer */
    uint8_t data, control;
    bool waiting;         /* the printer is busy with a byte that the stream did not take yet … */
    uint8_t waiting_byte; /* … this one */
} Parallel;

extern const DeviceType parallel_type;
