/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The queues of the PS/2 wire, and the keyboard (IBM PS/2 technical reference, "Keyboard").
 * Repeated keys come from the front end; the typematic rate is only kept. Threads: board lock.
 */
#include <linux/input-event-codes.h>

#include "device/input/ps2.h"

enum {
    CMD_LEDS = 0xed,
    CMD_ECHO = 0xee,
    CMD_SCAN_SET = 0xf0,
    CMD_ID = 0xf2,
    CMD_TYPEMATIC = 0xf3,
    CMD_ENABLE = 0xf4,
    CMD_DISABLE = 0xf5,
    CMD_DEFAULTS = 0xf6,
    CMD_ALL_TYPEMATIC = 0xf7,
    CMD_ALL_MAKE_BREAK = 0xf8,
    CMD_ALL_MAKE = 0xf9,
    CMD_ALL_BOTH = 0xfa,
    CMD_KEY_TYPEMATIC = 0xfb,
    CMD_KEY_MAKE_BREAK = 0xfc,
    CMD_KEY_MAKE = 0xfd,
    CMD_RESEND = 0xfe,
    CMD_RESET = 0xff,

    ACK = 0xfa,
    RESEND = 0xfe,
    SELF_TEST_PASSED = 0xaa,
};

/* ---- queues ---------------------------------------------------------------------------------- */

bool ps2_queue_push(Ps2Queue *queue, const uint8_t *data, unsigned size)
{
    if (size > PS2_QUEUE_SIZE - queue->count)
        return false;
    for (unsigned i = 0; i < size; i++)
        queue->data[(queue->head + queue->count++) % PS2_QUEUE_SIZE] = data[i];
    return true;
}

bool ps2_queue_pop(Ps2Queue *queue, uint8_t *ret_byte)
{
    if (!queue->count)
        return false;
    *ret_byte = queue->data[queue->head];
    queue->head = (queue->head + 1) % PS2_QUEUE_SIZE;
    queue->count--;
    return true;
}

static void ready(Ps2Port *port)
{
    if (port->ready)
        port->ready(port->obj);
}

/* While the argument of a command is awaited, events wait too. */
bool ps2_port_pending(const Ps2Port *port)
{
    return port->responses.count || (port->events.count && !port->command);
}

bool ps2_port_take(Ps2Port *port, uint8_t *ret_byte)
{
    if (!ps2_port_pending(port))
        return false;
    ps2_queue_pop(port->responses.count ? &port->responses : &port->events, ret_byte);
    if (*ret_byte != RESEND)
        port->last = *ret_byte;
    return true;
}

void ps2_port_respond(Ps2Port *port, const uint8_t *data, unsigned size)
{
    ps2_queue_push(&port->responses, data, size); /* a host that takes no answers loses them */
    ready(port);
}

bool ps2_port_is_valid(const Ps2Port *port)
{
    return port->responses.head < PS2_QUEUE_SIZE && port->responses.count <= PS2_QUEUE_SIZE &&
           port->events.head < PS2_QUEUE_SIZE && port->events.count <= PS2_QUEUE_SIZE;
}

/* ---- keys ------------------------------------------------------------------------------------ */

static bool bit_test(const uint8_t *bitmap, unsigned n)
{
    return bitmap[n >> 3 & 31] & 1 << (n & 7);
}

static void bit_set(uint8_t *bitmap, unsigned n, bool on)
{
    uint8_t bit = 1 << (n & 7);
    bitmap[n >> 3 & 31] = on ? bitmap[n >> 3 & 31] | bit : bitmap[n >> 3 & 31] & ~bit;
}

typedef struct Sequence {
    uint8_t data[8];
    unsigned size;
} Sequence;

static void append(const Ps2Keyboard *k, Sequence *s, uint16_t code, bool down)
{
    if (code >> 8)
        s->data[s->size++] = code >> 8;
    if (!down && k->set != 1)
        s->data[s->size++] = 0xf0;
    s->data[s->size++] = !down && k->set == 1 ? code | 0x80 : code;
}

/* `set2` as this keyboard's set 1 or 2 has it. */
static uint16_t in_set(const Ps2Keyboard *k, uint16_t set2)
{
    return k->set == 1 ? (set2 & 0xff00) | ps2_translate(set2) : set2;
}

static bool either_down(const Ps2Keyboard *k, unsigned a, unsigned b)
{
    return bit_test(k->down, a) || bit_test(k->down, b);
}

/* Sets 1 and 2: with a false shift around it; SysRq with Alt. */
static void print_screen(const Ps2Keyboard *k, Sequence *s, bool down)
{
    if (either_down(k, KEY_LEFTALT, KEY_RIGHTALT)) {
        append(k, s, in_set(k, 0x84), down);
        return;
    }
    bool bare = either_down(k, KEY_LEFTCTRL, KEY_RIGHTCTRL) ||
                either_down(k, KEY_LEFTSHIFT, KEY_RIGHTSHIFT);
    if (down && !bare)
        append(k, s, in_set(k, 0xe012), true);
    append(k, s, in_set(k, 0xe07c), down);
    if (!down && !bare)
        append(k, s, in_set(k, 0xe012), false);
}

/* Sets 1 and 2: make and break at once; Break with Ctrl. */
static void pause_key(const Ps2Keyboard *k, Sequence *s)
{
    if (either_down(k, KEY_LEFTCTRL, KEY_RIGHTCTRL)) {
        append(k, s, in_set(k, 0xe07e), true);
        append(k, s, in_set(k, 0xe07e), false);
        return;
    }
    append(k, s, in_set(k, 0xe114), true);
    append(k, s, in_set(k, 0x77), true);
    append(k, s, in_set(k, 0xe114), false);
    append(k, s, in_set(k, 0x77), false);
}

static void key_sequence(const Ps2Keyboard *k, Sequence *s, unsigned key, bool down, bool repeat)
{
    uint16_t code = ps2_scan_code(k->set, key);
    if (k->set == 3) {
        bool wanted = down ? !repeat || bit_test(k->repeats, code) : bit_test(k->sends_break, code);
        if (code && wanted)
            append(k, s, code, down);
    } else if (key == KEY_SYSRQ) {
        print_screen(k, s, down);
    } else if (key == KEY_PAUSE) {
        if (down && !repeat)
            pause_key(k, s);
    } else if (code) {
        append(k, s, code, down);
    }
}

void ps2_keyboard_key(Ps2Keyboard *k, unsigned key, bool down)
{
    Sequence s = {.size = 0};
    if (key >= 256)
        return;
    bool was_down = bit_test(k->down, key);
    bit_set(k->down, key, down);
    if (!k->scanning || (!down && !was_down))
        return;
    key_sequence(k, &s, key, down, was_down);
    if (!s.size)
        return;
    /* A buffer that is full ends with the overrun code; the last place is kept for it. */
    Ps2Queue *events = &k->port.events;
    uint8_t overrun = k->set == 1 ? 0xff : 0x00;
    if (events->count + s.size < PS2_QUEUE_SIZE)
        ps2_queue_push(events, s.data, s.size);
    else if (events->data[(events->head + events->count - 1) % PS2_QUEUE_SIZE] != overrun)
        ps2_queue_push(events, &overrun, 1);
    ready(&k->port);
}

/* ---- commands -------------------------------------------------------------------------------- */

static void respond(Ps2Keyboard *k, uint8_t byte)
{
    ps2_port_respond(&k->port, &byte, 1);
}

/* Set 3 at power-on: Ctrl, Shift, Caps Lock and Alt make and break, the others repeat. */
static void set_defaults(Ps2Keyboard *k)
{
    static const uint8_t make_break[] = {0x11, 0x12, 0x14, 0x19, 0x59};
    k->set = 2;
    k->typematic = 0x2b;
    k->port.command = 0;
    k->port.events.count = 0;
    memset(k->sends_break, 0, sizeof(k->sends_break));
    memset(k->repeats, 0xff, sizeof(k->repeats));
    for (unsigned i = 0; i < sizeof(make_break); i++) {
        bit_set(k->sends_break, make_break[i], true);
        bit_set(k->repeats, make_break[i], false);
    }
}

void ps2_keyboard_reset(Ps2Keyboard *k)
{
    set_defaults(k);
    k->leds = 0;
    k->scanning = true;
    memset(k->down, 0, sizeof(k->down));
    k->port.responses.count = 0;
    respond(k, SELF_TEST_PASSED);
}

static void set_all_types(Ps2Keyboard *k, bool sends_break, bool repeats)
{
    memset(k->sends_break, sends_break ? 0xff : 0, sizeof(k->sends_break));
    memset(k->repeats, repeats ? 0xff : 0, sizeof(k->repeats));
}

static void take_scan_set(Ps2Keyboard *k, uint8_t set)
{
    if (set > 3) {
        respond(k, RESEND);
        return;
    }
    respond(k, ACK);
    if (set)
        k->set = set;
    else
        respond(k, k->set);
}

/* The byte after a command that has an argument. */
static void take_argument(Ps2Keyboard *k, uint8_t byte)
{
    uint8_t command = k->port.command;
    bool key_type = command >= CMD_KEY_TYPEMATIC && command <= CMD_KEY_MAKE;
    if (!key_type)
        k->port.command = 0;
    if (command == CMD_SCAN_SET) {
        take_scan_set(k, byte);
        return;
    }
    if (command == CMD_LEDS)
        k->leds = byte & 7;
    else if (command == CMD_TYPEMATIC)
        k->typematic = byte & 0x7f;
    if (key_type) { /* a list of keys, ended by the next command */
        bit_set(k->sends_break, byte, command == CMD_KEY_MAKE_BREAK);
        bit_set(k->repeats, byte, command == CMD_KEY_TYPEMATIC);
    }
    respond(k, ACK);
}

static void identify(Ps2Keyboard *k)
{
    ps2_port_respond(&k->port, (const uint8_t[]){ACK, 0xab, 0x83}, 3);
}

static void reset_command(Ps2Keyboard *k)
{
    set_defaults(k);
    k->leds = 0;
    k->scanning = true;
    ps2_port_respond(&k->port, (const uint8_t[]){ACK, SELF_TEST_PASSED}, 2);
}

static bool all_keys_command(Ps2Keyboard *k, uint8_t command)
{
    if (command < CMD_ALL_TYPEMATIC || command > CMD_ALL_BOTH)
        return false;
    set_all_types(k, command == CMD_ALL_MAKE_BREAK || command == CMD_ALL_BOTH,
                  command == CMD_ALL_TYPEMATIC || command == CMD_ALL_BOTH);
    return true;
}

void ps2_keyboard_write(Ps2Keyboard *k, uint8_t byte)
{
    if (k->port.command && byte < CMD_LEDS) {
        take_argument(k, byte);
        return;
    }
    k->port.command = 0;
    switch (byte) {
    case CMD_ECHO:
        respond(k, CMD_ECHO);
        return;
    case CMD_ID:
        identify(k);
        return;
    case CMD_RESEND:
        respond(k, k->port.last);
        return;
    case CMD_RESET:
        reset_command(k);
        return;
    case CMD_LEDS:
    case CMD_SCAN_SET:
    case CMD_TYPEMATIC:
    case CMD_KEY_TYPEMATIC:
    case CMD_KEY_MAKE_BREAK:
    case CMD_KEY_MAKE:
        k->port.command = byte;
        break;
    case CMD_ENABLE:
        k->port.events.count = 0;
        k->scanning = true;
        break;
    case CMD_DISABLE:
    case CMD_DEFAULTS:
        set_defaults(k);
        k->scanning = byte == CMD_DEFAULTS;
        break;
    default:
        if (!all_keys_command(k, byte)) {
            respond(k, RESEND);
            return;
        }
    }
    respond(k, ACK);
}

bool ps2_keyboard_is_valid(const Ps2Keyboard *k)
{
    return ps2_port_is_valid(&k->port) && k->set >= 1 && k->set <= 3;
}

static const StateField queue_state[] = {
    STATE_ARRAY(Ps2Queue, data, STATE_U8, 1),
    STATE_FIELD(Ps2Queue, head, STATE_U8, 1),
    STATE_FIELD(Ps2Queue, count, STATE_U8, 1),
    STATE_LIST_END,
};

static const StateField port_state[] = {
    STATE_ONE_STRUCT(Ps2Port, responses, queue_state, 1),
    STATE_ONE_STRUCT(Ps2Port, events, queue_state, 1),
    STATE_FIELD(Ps2Port, command, STATE_U8, 1),
    STATE_FIELD(Ps2Port, last, STATE_U8, 1),
    STATE_LIST_END,
};

const StateField ps2_keyboard_state[] = {
    STATE_ONE_STRUCT(Ps2Keyboard, port, port_state, 1),
    STATE_FIELD(Ps2Keyboard, scanning, STATE_BOOL, 1),
    STATE_FIELD(Ps2Keyboard, set, STATE_U8, 1),
    STATE_FIELD(Ps2Keyboard, leds, STATE_U8, 1),
    STATE_FIELD(Ps2Keyboard, typematic, STATE_U8, 1),
    STATE_ARRAY(Ps2Keyboard, down, STATE_U8, 1),
    STATE_ARRAY(Ps2Keyboard, sends_break, STATE_U8, 1),
    STATE_ARRAY(Ps2Keyboard, repeats, STATE_U8, 1),
    STATE_LIST_END,
};

const StateField ps2_mouse_state[] = {
    STATE_ONE_STRUCT(Ps2Mouse, port, port_state, 1),
    STATE_FIELD(Ps2Mouse, reporting, STATE_BOOL, 1),
    STATE_FIELD(Ps2Mouse, remote, STATE_BOOL, 1),
    STATE_FIELD(Ps2Mouse, wrap, STATE_BOOL, 1),
    STATE_FIELD(Ps2Mouse, double_scale, STATE_BOOL, 1),
    STATE_FIELD(Ps2Mouse, resolution, STATE_U8, 1),
    STATE_FIELD(Ps2Mouse, rate, STATE_U8, 1),
    STATE_FIELD(Ps2Mouse, id, STATE_U8, 1),
    STATE_ARRAY(Ps2Mouse, rates, STATE_U8, 1),
    STATE_FIELD(Ps2Mouse, buttons, STATE_U8, 1),
    STATE_FIELD(Ps2Mouse, reported_buttons, STATE_U8, 1),
    STATE_FIELD(Ps2Mouse, dx, STATE_I64, 1),
    STATE_FIELD(Ps2Mouse, dy, STATE_I64, 1),
    STATE_FIELD(Ps2Mouse, dz, STATE_I64, 1),
    STATE_LIST_END,
};
