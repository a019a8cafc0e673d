/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See testdev.h. */
#include "device/guest/testdev.h"

#include <string.h>

enum { ECHO_PORTS = 4, PORT_COUNT = 8 };

static uint64_t get(const uint8_t *from, unsigned size)
{
    uint64_t value = 0;

    memcpy(&value, from, size); /* little-endian, like the guest */
    return value;
}

static uint64_t ports_read(void *obj, uint64_t offset, unsigned size)
{
    const Testdev *dev = obj;

    return offset + size <= ECHO_PORTS ? get(dev->echo + offset, size) : 0;
}

static void ports_write(void *obj, uint64_t offset, unsigned size, uint64_t value)
{
    Testdev *dev = obj;

    if (offset + size <= ECHO_PORTS)
        memcpy(dev->echo + offset, &value, size);
}

static const RegionOps ports_ops = {
    .name = "testdev-ports", .read = ports_read, .write = ports_write, .max_access = 4};

static uint64_t lines_read(void *obj, uint64_t offset, unsigned size)
{
    return ((const Testdev *)obj)->levels[offset];
}

static void lines_write(void *obj, uint64_t offset, unsigned size, uint64_t value)
{
    Testdev *dev = obj;

    dev->levels[offset] = value & 1;
    irq_set(dev->irq[offset], dev->levels[offset]);
}

static const RegionOps lines_ops = {
    .name = "testdev-lines", .read = lines_read, .write = lines_write, .max_access = 1};

static uint64_t memory_read(void *obj, uint64_t offset, unsigned size)
{
    return get(((const Testdev *)obj)->bytes + offset, size);
}

static void memory_write(void *obj, uint64_t offset, unsigned size, uint64_t value)
{
    memcpy(((Testdev *)obj)->bytes + offset, &value, size);
}

static const RegionOps memory_ops = {
    .name = "testdev-memory", .read = memory_read, .write = memory_write, .max_access = 8};

static bool testdev_create(Device *device, GError **error)
{
    Testdev *dev = (Testdev *)device;

    region_init_io(&dev->ports, &ports_ops, dev, device->board->lock, PORT_COUNT);
    region_init_io(&dev->lines, &lines_ops, dev, device->board->lock, TESTDEV_IRQS);
    region_init_io(&dev->memory, &memory_ops, dev, device->board->lock, TESTDEV_MEMORY_SIZE);
    return true;
}

static void testdev_reset(Device *device)
{
    Testdev *dev = (Testdev *)device;

    memset(dev->echo, 0, sizeof(dev->echo));
    for (unsigned n = 0; n < TESTDEV_IRQS; n++)
        lines_write(dev, n, 1, 0);
}

static bool testdev_loaded(Device *device, GError **error)
{
    Testdev *dev = (Testdev *)device;

    for (unsigned n = 0; n < TESTDEV_IRQS; n++)
        lines_write(dev, n, 1, dev->levels[n]);
    return true;
}

static const StateField testdev_state[] = {
    STATE_ARRAY(Testdev, levels, STATE_BYTES, 1),
    STATE_ARRAY(Testdev, echo, STATE_BYTES, 1),
    STATE_ARRAY(Testdev, bytes, STATE_BYTES, 1),
    STATE_LIST_END,
};

const DeviceType testdev_type = {
    .name = "testdev",
    .description = "interrupt lines, ports and memory for test suites",
    .instance_size = sizeof(Testdev),
    .create = testdev_create,
    .reset = testdev_reset,
    .loaded = testdev_loaded,
    .state_version = 1,
    .state = testdev_state,
};
