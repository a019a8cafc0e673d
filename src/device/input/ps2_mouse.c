/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * PS/2 mouse (IBM PS/2 technical reference, "Auxiliary device") with the IntelliMouse extensions:
 * the rates 200, 100, 80 add a wheel (id 3), 200, 200, 80 two more buttons (id 4).
 *
 * Motion adds up until the host has taken the last packet. Packet:
 *
 *     0  y overflow, x overflow, y sign, x sign, 1, middle, right, left
 *     1  x    2  y    3  id 3: z; id 4: 0, 0, button 5, button 4, z (4 bits)
 *
 * Threads: board lock.
 */
#include "device/input/ps2.h"

enum {
    CMD_SCALE_1 = 0xe6,
    CMD_SCALE_2 = 0xe7,
    CMD_RESOLUTION = 0xe8,
    CMD_STATUS = 0xe9,
    CMD_STREAM = 0xea,
    CMD_READ = 0xeb,
    CMD_WRAP_OFF = 0xec,
    CMD_WRAP = 0xee,
    CMD_REMOTE = 0xf0,
    CMD_ID = 0xf2,
    CMD_RATE = 0xf3,
    CMD_ENABLE = 0xf4,
    CMD_DISABLE = 0xf5,
    CMD_DEFAULTS = 0xf6,
    CMD_RESEND = 0xfe,
    CMD_RESET = 0xff,

    ACK = 0xfa,
    RESEND = 0xfe,
    ERROR = 0xfc,
};
#define MOTION_LIMIT 32767 /* what is kept of motion that nobody takes */

static void respond(Ps2Mouse *m, uint8_t byte)
{
    ps2_port_respond(&m->port, &byte, 1);
}

static void set_defaults(Ps2Mouse *m)
{
    m->reporting = m->remote = m->wrap = m->double_scale = false;
    m->resolution = 2;
    m->rate = 100;
    m->dx = m->dy = m->dz = 0;
    m->port.events.count = 0;
    m->port.command = 0;
}

/* 2:1 scaling of streamed motion. */
static int64_t scaled(const Ps2Mouse *m, int64_t delta)
{
    static const uint8_t small[6] = {0, 1, 1, 3, 6, 9};
    int64_t size = ABS(delta);
    if (!m->double_scale || m->remote)
        return delta;
    size = size < 6 ? small[size] : 2 * size;
    return delta < 0 ? -size : size;
}

/* Takes what fits a packet off the motion. */
static int take_delta(int64_t *delta, int limit)
{
    int part = CLAMP(*delta, -limit - 1, limit);
    *delta -= part;
    return part;
}

static unsigned make_packet(Ps2Mouse *m, uint8_t packet[4])
{
    int x = scaled(m, take_delta(&m->dx, 127)), y = scaled(m, take_delta(&m->dy, 127));
    int z = m->id ? take_delta(&m->dz, 7) : 0;
    packet[0] = 8 | (m->buttons & 7) | (x < 0) << 4 | (y < 0) << 5;
    packet[1] = x;
    packet[2] = y;
    packet[3] = m->id == 4 ? (z & 0xf) | (m->buttons & 0x18) << 1 : z;
    m->reported_buttons = m->buttons;
    if (!m->id)
        m->dz = 0;
    return m->id ? 4 : 3;
}

static bool has_news(const Ps2Mouse *m)
{
    return m->dx || m->dy || (m->dz && m->id) || m->buttons != m->reported_buttons;
}

static void stream(Ps2Mouse *m)
{
    uint8_t packet[4];
    if (!m->reporting || m->remote || m->wrap || m->port.events.count || !has_news(m))
        return;
    unsigned size = make_packet(m, packet);
    ps2_queue_push(&m->port.events, packet, size);
    if (m->port.ready)
        m->port.ready(m->port.obj);
}

void ps2_mouse_taken(Ps2Mouse *m)
{
    stream(m);
}

static int64_t add_motion(int64_t sum, int delta)
{
    return CLAMP(sum + delta, -MOTION_LIMIT, MOTION_LIMIT);
}

void ps2_mouse_move(Ps2Mouse *m, int dx, int dy, int wheel)
{
    if (!m->reporting && !m->remote)
        return;
    m->dx = add_motion(m->dx, dx);
    m->dy = add_motion(m->dy, -(int64_t)MAX(dy, -INT_MAX));
    m->dz = add_motion(m->dz, -(int64_t)MAX(wheel, -INT_MAX));
    stream(m);
}

void ps2_mouse_buttons(Ps2Mouse *m, unsigned mask)
{
    m->buttons = mask & 0x1f;
    stream(m);
}

/* ---- commands -------------------------------------------------------------------------------- */

static void report_status(Ps2Mouse *m)
{
    uint8_t buttons = (m->buttons & 1) << 2 | (m->buttons & 4) >> 1 | (m->buttons & 2) >> 1;
    uint8_t flags = m->remote << 6 | m->reporting << 5 | m->double_scale << 4 | buttons;
    ps2_port_respond(&m->port, (const uint8_t[]){ACK, flags, m->resolution, m->rate}, 4);
}

static void read_data(Ps2Mouse *m)
{
    uint8_t answer[5] = {ACK};
    unsigned size = make_packet(m, answer + 1);
    ps2_port_respond(&m->port, answer, size + 1);
}

static void set_rate(Ps2Mouse *m, uint8_t rate)
{
    m->rate = rate;
    m->rates[0] = m->rates[1];
    m->rates[1] = m->rates[2];
    m->rates[2] = rate;
    if (m->rates[0] != 200 || rate != 80)
        return;
    if (m->rates[1] == 100)
        m->id = 3;
    else if (m->rates[1] == 200)
        m->id = 4;
}

static void take_argument(Ps2Mouse *m, uint8_t byte)
{
    bool rate = m->port.command == CMD_RATE;
    bool valid = rate ? byte && byte <= 200 : byte <= 3;
    m->port.command = 0;
    if (!valid) {
        respond(m, ERROR);
        return;
    }
    if (rate)
        set_rate(m, byte);
    else
        m->resolution = byte;
    respond(m, ACK);
}

static void power_on(Ps2Mouse *m)
{
    set_defaults(m);
    m->id = 0;
    memset(m->rates, 0, sizeof(m->rates));
}

void ps2_mouse_reset(Ps2Mouse *m)
{
    power_on(m);
    m->buttons = m->reported_buttons = 0;
    m->port.responses.count = 0;
    ps2_port_respond(&m->port, (const uint8_t[]){0xaa, 0x00}, 2);
}

static void reset_command(Ps2Mouse *m)
{
    power_on(m);
    ps2_port_respond(&m->port, (const uint8_t[]){ACK, 0xaa, 0x00}, 3);
}

/* Entering stream or remote mode forgets the motion so far. */
static void set_remote(Ps2Mouse *m, bool remote)
{
    m->remote = remote;
    m->dx = m->dy = m->dz = 0;
}

/* Commands answered by ACK alone. False: unknown. */
static bool simple_command(Ps2Mouse *m, uint8_t command)
{
    switch (command) {
    case CMD_SCALE_1:
    case CMD_SCALE_2:
        m->double_scale = command == CMD_SCALE_2;
        break;
    case CMD_RESOLUTION:
    case CMD_RATE:
        m->port.command = command;
        break;
    case CMD_STREAM:
    case CMD_REMOTE:
        set_remote(m, command == CMD_REMOTE);
        break;
    case CMD_WRAP_OFF:
        break;
    case CMD_WRAP:
        m->wrap = true;
        break;
    case CMD_ENABLE:
    case CMD_DISABLE:
        m->reporting = command == CMD_ENABLE;
        m->port.events.count = 0;
        break;
    case CMD_DEFAULTS:
        set_defaults(m);
        break;
    default:
        return false;
    }
    return true;
}

void ps2_mouse_write(Ps2Mouse *m, uint8_t byte)
{
    if (m->wrap && byte != CMD_WRAP_OFF && byte != CMD_RESET) {
        respond(m, byte);
        return;
    }
    m->wrap = false;
    if (m->port.command) {
        take_argument(m, byte);
        return;
    }
    switch (byte) {
    case CMD_STATUS:
        report_status(m);
        break;
    case CMD_READ:
        read_data(m);
        break;
    case CMD_ID:
        ps2_port_respond(&m->port, (const uint8_t[]){ACK, m->id}, 2);
        break;
    case CMD_RESEND:
        respond(m, m->port.last);
        break;
    case CMD_RESET:
        reset_command(m);
        break;
    default:
        respond(m, simple_command(m, byte) ? ACK : RESEND);
        break;
    }
}

bool ps2_mouse_is_valid(const Ps2Mouse *m)
{
    return ps2_port_is_valid(&m->port) && (m->id == 0 || m->id == 3 || m->id == 4) &&
           ABS(m->dx) <= MOTION_LIMIT && ABS(m->dy) <= MOTION_LIMIT && ABS(m->dz) <= MOTION_LIMIT;
}
