/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * PS/2 keyboard and mouse, as the keyboard controller sees them: bytes go in, bytes come out.
 *
 * They are parts of the i8042 device, which saves their state. Bytes in `responses` go out before
 * those in `events`. Threads: board lock.
 */
#pragma once

#include "device/device.h"

#define PS2_QUEUE_SIZE 64

typedef struct Ps2Queue {
    uint8_t data[PS2_QUEUE_SIZE];
    uint8_t head, count;
} Ps2Queue;

/* The wire from a PS/2 device to its host. */
typedef struct Ps2Port {
    Ps2Queue responses, events;
    uint8_t command;          /* whose argument is awaited; 0: none */
    uint8_t last;             /* the byte that "resend" repeats */
    void (*ready)(void *obj); /* there is something to take */
    void *obj;
} Ps2Port;

typedef struct Ps2Keyboard {
    Ps2Port port;
    bool scanning;
    uint8_t set; /* scan code set 1, 2 or 3 */
    uint8_t leds, typematic;
    uint8_t down[32]; /* bit per Linux key code */
    /* Set 3, a bit per scan code: whether the key sends breaks, and whether it repeats. */
    uint8_t sends_break[32], repeats[32];
} Ps2Keyboard;

typedef struct Ps2Mouse {
    Ps2Port port;
    bool reporting, remote, wrap, double_scale;
    uint8_t resolution, rate;
    uint8_t id;       /* 0: standard, 3: wheel, 4: five buttons */
    uint8_t rates[3]; /* the last three set: the knock of the extensions */
    uint8_t buttons, reported_buttons;
    int64_t dx, dy, dz; /* motion not yet reported; y up, z towards the user */
} Ps2Mouse;

extern const StateField ps2_keyboard_state[], ps2_mouse_state[];

bool ps2_queue_push(Ps2Queue *queue, const uint8_t *data, unsigned size); /* all or nothing */
bool ps2_queue_pop(Ps2Queue *queue, uint8_t *ret_byte);
bool ps2_port_pending(const Ps2Port *port);
bool ps2_port_take(Ps2Port *port, uint8_t *ret_byte);
void ps2_port_respond(Ps2Port *port, const uint8_t *data, unsigned size);
bool ps2_port_is_valid(const Ps2Port *port); /* of loaded state */

/* Power-on; the result of the self test is sent. */
void ps2_keyboard_reset(Ps2Keyboard *keyboard);
/* The host sends a byte. */
void ps2_keyboard_write(Ps2Keyboard *keyboard, uint8_t byte);
/* A key (Linux code) went down, is held (down again), or up. */
void ps2_keyboard_key(Ps2Keyboard *keyboard, unsigned key, bool down);
bool ps2_keyboard_is_valid(const Ps2Keyboard *keyboard);

void ps2_mouse_reset(Ps2Mouse *mouse);
void ps2_mouse_write(Ps2Mouse *mouse, uint8_t byte);
/* y grows downwards, wheel away from the user; buttons 1 left, 2 right, 4 middle, 8 and 16 side. */
void ps2_mouse_move(Ps2Mouse *mouse, int dx, int dy, int wheel);
void ps2_mouse_buttons(Ps2Mouse *mouse, unsigned mask);
/* The host took a byte: more motion may follow. */
void ps2_mouse_taken(Ps2Mouse *mouse);
bool ps2_mouse_is_valid(const Ps2Mouse *mouse);

/* ps2_keys.c: a scan code, 0 if the key has none in this set; 0xe0 in the upper byte: extended. */
uint16_t ps2_scan_code(unsigned set, unsigned key);
/* What the controller makes of a byte of set 2 ("translation"). */
uint8_t ps2_translate(uint8_t set2);
