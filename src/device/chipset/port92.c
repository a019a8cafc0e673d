/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Port 0x92. Threads: board lock. */
#include "device/chipset/port92.h"

enum { FAST_RESET = 1 << 0, A20 = 1 << 1 };

static uint64_t port92_read(void *obj, uint64_t offset, unsigned size)
{
    return ((Port92 *)obj)->value;
}

/* The reset follows the rising edge of bit 0. */
static void port92_write(void *obj, uint64_t offset, unsigned size, uint64_t value)
{
    Port92 *port = obj;
    const Board *board = port->device.board;
    uint8_t changed = port->value ^ value;
    port->value = value;
    if (changed & A20)
        board->set_a20(board->obj, value & A20);
    if ((changed & A20) && port->a20_changed)
        port->a20_changed(port->a20_obj, value & A20);
    if (changed & value & FAST_RESET)
        board->request(board->obj, BOARD_RESET, 0);
}

void port92_a20_changed(void *port92, bool on)
{
    Port92 *port = port92;
    port->value = on ? port->value | A20 : port->value & ~A20;
}

static const RegionOps port92_ops = {
    .name = "port92", .read = port92_read, .write = port92_write, .max_access = 1};

static bool port92_create(Device *device, GError **error)
{
    region_init_io(&((Port92 *)device)->io, &port92_ops, device, device->board->lock, 1);
    return true;
}

/* A20 is open after reset, as processors without the gate have it. */
static void port92_reset(Device *device)
{
    Port92 *port = (Port92 *)device;
    port->value = A20;
    device->board->set_a20(device->board->obj, true);
}

static const StateField port92_state[] = {
    STATE_FIELD(Port92, value, STATE_U8, 1),
    STATE_LIST_END,
};

const DeviceType port92_type = {
    .name = "port92",
    .description = "system control port A",
    .instance_size = sizeof(Port92),
    .create = port92_create,
    .reset = port92_reset,
    .state_version = 1,
    .state = port92_state,
};
