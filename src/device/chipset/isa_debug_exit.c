/* SPDX-License-Identifier: GPL-3.0-or-later */
/* isa-debug-exit. Threads: board lock. */
#include "device/chipset/isa_debug_exit.h"

static uint64_t exit_read(void *obj, uint64_t offset, unsigned size)
{
    return 0;
}

static void exit_write(void *obj, uint64_t offset, unsigned size, uint64_t value)
{
    const Board *board = ((IsaDebugExit *)obj)->device.board;
    board->request(board->obj, BOARD_EXIT, (int)((uint32_t)value << 1 | 1));
}

static const RegionOps exit_ops = {
    .name = "isa-debug-exit", .read = exit_read, .write = exit_write, .max_access = 4};

static bool exit_create(Device *device, GError **error)
{
    IsaDebugExit *port = (IsaDebugExit *)device;
    if (!port->size || port->port + port->size > 0x10000) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    "%s: no %u ports fit at %#x; use a size of 1 to 4 below port 0x10000",
                    device->id, port->size, port->port);
        return false;
    }
    region_init_io(&port->io, &exit_ops, port, device->board->lock, port->size);
    return true;
}

static const DeviceOption exit_options[] = {
    {"port", OPTION_U32, offsetof(IsaDebugExit, port), "0xf4", 0xffff, "first port"},
    {"size", OPTION_U32, offsetof(IsaDebugExit, size), "4", 4, "number of ports, 1 to 4"},
    {NULL},
};

const DeviceType isa_debug_exit_type = {
    .name = "isa-debug-exit",
    .description = "port that ends the VM with a status",
    .instance_size = sizeof(IsaDebugExit),
    .options = exit_options,
    .create = exit_create,
    .state_version = 1,
};
