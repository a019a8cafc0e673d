/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The registers of a standard parallel port (see parallel.h). */
#include "device/serial/parallel.h"

enum {
    STATUS_RESERVED = 0x07,
    STATUS_NO_ERROR = 0x08,
    STATUS_ONLINE = 0x10,
    STATUS_NO_ACK = 0x40,
    STATUS_READY = 0x80,
};
enum {
    CONTROL_STROBE = 0x01,
    CONTROL_INIT = 0x04,
    CONTROL_SELECT = 0x08,
    CONTROL_IRQ = 0x10,
    CONTROL_READ = 0x20
};

static void acknowledge(Parallel *parallel)
{
    parallel->waiting = false;
    if (parallel->control & CONTROL_IRQ)
        irq_pulse(parallel->irq);
}

static void print(Parallel *parallel)
{
    if (char_write(parallel->chr, &parallel->waiting_byte, 1) == 1)
        acknowledge(parallel);
}

static void parallel_writable(void *obj)
{
    Parallel *parallel = obj;
    if (parallel->waiting)
        print(parallel);
}

static uint8_t read_status(const Parallel *parallel)
{
    if (!parallel->chr)
        return STATUS_RESERVED | STATUS_NO_ACK | STATUS_READY;
    return STATUS_RESERVED | STATUS_NO_ERROR | STATUS_ONLINE | STATUS_NO_ACK |
           (parallel->waiting ? 0 : STATUS_READY);
}

/* The printer takes the data when the strobe begins. */
static void write_control(Parallel *parallel, uint8_t value)
{
    bool strobe = ~parallel->control & value & CONTROL_STROBE;
    parallel->control = value & 0x3f;
    if (!strobe || !parallel->chr || parallel->waiting)
        return;
    parallel->waiting = true;
    parallel->waiting_byte = parallel->data;
    print(parallel);
}

static uint64_t parallel_read(void *obj, uint64_t offset, unsigned size)
{
    Parallel *parallel = obj;
    switch (offset) {
    case 0:
        return parallel->control & CONTROL_READ ? 0xff : parallel->data;
    case 1:
        return read_status(parallel);
    default:
        return parallel->control | 0xc0;
    }
}

static void parallel_write(void *obj, uint64_t offset, unsigned size, uint64_t value)
{
    Parallel *parallel = obj;
    if (offset == 0)
        parallel->data = value;
    else if (offset == 2)
        write_control(parallel, value);
}

static const RegionOps parallel_ops = {
    .name = "parallel",
    .read = parallel_read,
    .write = parallel_write,
    .max_access = 1,
};

static size_t parallel_can_receive(void *obj)
{
    return 0;
}

static const CharFrontend parallel_frontend = {
    .can_receive = parallel_can_receive,
    .writable = parallel_writable,
};

static bool parallel_create(Device *device, GError **error)
{
    Parallel *parallel = (Parallel *)device;
    region_init_io(&parallel->io, &parallel_ops, parallel, device->board->lock, 3);
    if (parallel->chr)
        char_connect(parallel->chr, &parallel_frontend, parallel);
    return true;
}

static void parallel_reset(Device *device)
{
    Parallel *parallel = (Parallel *)device;
    parallel->data = 0;
    parallel->control = CONTROL_INIT | CONTROL_SELECT;
    parallel->waiting = false;
    parallel->waiting_byte = 0;
    irq_set(parallel->irq, false);
}

static void parallel_resume(Device *device)
{
    parallel_writable(device);
}

static void parallel_destroy(Device *device)
{
    Parallel *parallel = (Parallel *)device;
    if (parallel->chr)
        char_connect(parallel->chr, NULL, NULL);
}

static const StateField parallel_state[] = {
    STATE_FIELD(Parallel, data, STATE_U8, 1),
    STATE_FIELD(Parallel, control, STATE_U8, 1),
    STATE_FIELD(Parallel, waiting, STATE_BOOL, 1),
    STATE_FIELD(Parallel, waiting_byte, STATE_U8, 1),
    STATE_LIST_END,
};

/* Any value of these registers is one that a guest can set, but for the control's upper bits. */
static bool parallel_loaded(Device *device, GError **error)
{
    ((Parallel *)device)->control &= 0x3f;
    return true;
}

const DeviceType parallel_type = {
    .name = "parallel",
    .description = "parallel port (SPP)",
    .instance_size = sizeof(Parallel),
    .create = parallel_create,
    .reset = parallel_reset,
    .resume = parallel_resume,
    .destroy = parallel_destroy,
    .state_version = 1,
    .state = parallel_state,
    .loaded = parallel_loaded,
};
