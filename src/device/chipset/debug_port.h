/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The firmware's debug console: what is written goes to a character backend, reading gives 0xe9, by
 * which SeaBIOS and OVMF know that it is there.
 *
 * Wiring: map io (1 port) at 0x402; `chr` (not owned, may be NULL). Threads: board lock.
 */
#pragma once

#include "char/char.h"
#include "device/device.h"

typedef struct DebugPort {
    Device device;
    Region io;
    CharBackend *chr;
} DebugPort;

extern const DeviceType debug_port_type;
