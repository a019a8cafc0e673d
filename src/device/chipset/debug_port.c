/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Firmware debug console. What the backend can't take is lost: firmware does not wait. Threads:
 * board lock. */
#include "device/chipset/debug_port.h"

static uint64_t debug_read(void *obj, uint64_t offset, unsigned size)
{
    return 0xe9;
}

static void debug_write(void *obj, uint64_t offset, unsigned size, uint64_t value)
{
    uint8_t byte = value;
    char_write(((DebugPort *)obj)->chr, &byte, 1);
}

static const RegionOps debug_ops = {
    .name = "debug-port", .read = debug_read, .write = debug_write, .max_access = 1};

static bool debug_create(Device *device, GError **error)
{
    region_init_io(&((DebugPort *)device)->io, &debug_ops, device, device->board->lock, 1);
    return true;
}

const DeviceType debug_port_type = {
    .name = "debug-port",
    .description = "firmware debug console",
    .instance_size = sizeof(DebugPort),
    .create = debug_create,
    .state_version = 1,
};
