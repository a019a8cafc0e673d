/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The keyboard controller (8042 of the PS/2, 82C42), with a PS/2 keyboard and mouse plugged in.
 *
 * Wiring: map data (1 port) at 0x60 and control (1 port) at 0x64; irq_keyboard is IRQ 1, irq_mouse
 * IRQ 12; i8042_connect() takes events from an input router. a20_changed (may be NULL) tells the
 * other A20 switch: port92_a20_changed, and the other way round.
 *
 * A byte takes I8042_BYTE_NS on the wire, so that a driver that reads the port twice sees the same
 * byte twice. Threads: board lock.
 */
#pragma once

#include "device/device.h"
#include "device/input/ps2.h"
#include "display/input.h"

#define I8042_BYTE_NS (250 * NS_PER_US)

typedef struct I8042 {
    Device device;
    Region data, control;
    IrqLine irq_keyboard, irq_mouse;
    void (*a20_changed)(void *obj, bool on);
    void *a20_obj;

    uint8_t ram[32]; /* byte 0 is the command byte */
    uint8_t status;  /* bits 0 OBF, 2 system flag, 3 command, 5 mouse data */
    uint8_t output;  /* the output buffer */
    uint8_t output_port;
    uint8_t command;      /* whose argument is awaited; 0: none */
    bool translate_break; /* 0xf0 was taken from the keyboard */
    Ps2Queue replies;     /* the controller's own */
    Ps2Keyboard keyboard;
    Ps2Mouse mouse;
    ClockTimer timer; /* armed while a byte is on the wire */
} I8042;

extern const DeviceType i8042_type;

void i8042_connect(I8042 *i8042, InputRouter *router);
/* The other A20 switch was used. */
void i8042_a20_changed(void *i8042, bool on);
/* The guest has taken every byte of the keys so far. */
bool i8042_keyboard_idle(const I8042 *i8042);
/* What firmware leaves, when a kernel is started without any: keyboard on, translated, with IRQ 1.
 */
void i8042_set_firmware_mode(I8042 *i8042);
