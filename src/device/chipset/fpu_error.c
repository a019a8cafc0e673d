/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See fpu_error.h. */
#include "device/chipset/fpu_error.h"

static void update(FpuError *error)
{
    irq_set(error->irq, error->ferr && !error->ignne);
}

bool fpu_error_changed(FpuError *error, bool ferr)
{
    bool wait;

    g_rec_mutex_lock(error->device.board->lock);
    error->ferr = ferr;
    error->ignne &= ferr;
    update(error);
    wait = ferr && !error->ignne;
    g_rec_mutex_unlock(error->device.board->lock);
    return wait;
}

static uint64_t fpu_error_read(void *obj, uint64_t offset, unsigned size)
{
    return 0xff;
}

static void fpu_error_write(void *obj, uint64_t offset, unsigned size, uint64_t value)
{
    FpuError *error = obj;

    error->ignne = error->ferr;
    update(error);
}

static const RegionOps io_ops = {
    .name = "fpu-error", .read = fpu_error_read, .write = fpu_error_write, .max_access = 1};

static bool fpu_error_create(Device *device, GError **error)
{
    region_init_io(&((FpuError *)device)->io, &io_ops, device, device->board->lock, 2);
    return true;
}

static void fpu_error_reset(Device *device)
{
    FpuError *error = (FpuError *)device;

    error->ferr = error->ignne = false;
    update(error);
}

static bool fpu_error_loaded(Device *device, GError **error)
{
    FpuError *port = (FpuError *)device;

    port->ignne &= port->ferr;
    update(port);
    return true;
}

static const StateField fpu_error_state[] = {
    STATE_FIELD(FpuError, ferr, STATE_BOOL, 1),
    STATE_FIELD(FpuError, ignne, STATE_BOOL, 1),
    STATE_LIST_END,
};

const DeviceType fpu_error_type = {
    .name = "fpu-error",
    .description = "coprocessor error port and interrupt 13",
    .instance_size = sizeof(FpuError),
    .create = fpu_error_create,
    .reset = fpu_error_reset,
    .loaded = fpu_error_loaded,
    .state_version = 1,
    .state = fpu_error_state,
};
