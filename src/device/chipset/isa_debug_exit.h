/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A port that ends the VM with a status, for test payloads: writing v asks for BOARD_EXIT with (v
 * << 1) | 1.
 *
 * Wiring: map io (option size: 1 to 4 ports) at the port of option port, commonly 0xf4 or 0x501.
 * Threads: board lock.
 */
#pragma once

#include "device/device.h"

typedef struct IsaDebugExit {
    Device device;
    Region io;
    uint32_t port; /* option: where the machine maps io */
    uint32_t size; /* option */
} IsaDebugExit;

extern const DeviceType isa_debug_exit_type;
