/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The device life cycle and its options. State is in state.c. */
#include "device/device.h"

#include <errno.h>

static void *option_at(Device *device, const DeviceOption *option)
{
    return (char *)device + option->offset;
}

static bool parse_bool(const char *text, bool *ret)
{
    *ret = !g_strcmp0(text, "on");
    return *ret || !g_strcmp0(text, "off");
}

static bool parse_u64(const char *text, uint64_t max, uint64_t *ret)
{
    char *end;

    errno = 0;
    *ret = g_ascii_strtoull(text, &end, 0);
    return !errno && end != text && !*end && *text != '-' && *ret <= max;
}

static bool set_option(Device *device, const DeviceOption *option, const char *value,
                       GError **error)
{
    void *at = option_at(device, option);
    uint64_t max = option->max ? option->max : option->type == OPTION_U32 ? UINT32_MAX : UINT64_MAX;
    uint64_t number;

    switch (option->type) {
    case OPTION_BOOL:
        if (parse_bool(value, at))
            return true;
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    "%s: option '%s' cannot be '%s'; use on or off", device->id, option->name,
                    value);
        return false;
    case OPTION_STRING:
        g_free(*(char **)at);
        *(char **)at = g_strdup(value);
        return true;
    case OPTION_U32:
    case OPTION_U64:
        if (!parse_u64(value, max, &number)) {
            g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                        "%s: option '%s' cannot be '%s'; use a number up to %" G_GUINT64_FORMAT,
                        device->id, option->name, value, max);
            return false;
        }
        if (option->type == OPTION_U32)
            *(uint32_t *)at = (uint32_t)number;
        else
            *(uint64_t *)at = number;
        return true;
    }
    g_assert_not_reached();
}

void *device_new(const DeviceType *type, Board *board, const char *id)
{
    Device *device = g_malloc0(type->instance_size);

    device->type = type;
    device->board = board;
    device->id = g_strdup(id);
    for (const DeviceOption *o = type->options; o && o->name; o++) {
        if (o->default_value) {
            bool ok = set_option(device, o, o->default_value, NULL);
            g_assert(ok);
        }
    }
    return device;
}

bool device_set(Device *device, const char *name, const char *value, GError **error)
{
    g_autoptr(GString) names = g_string_new(NULL);

    for (const DeviceOption *o = device->type->options; o && o->name; o++) {
        if (!strcmp(o->name, name))
            return set_option(device, o, value, error);
        g_string_append_printf(names, "%s%s", names->len ? ", " : "", o->name);
    }
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                "%s (%s) has no option '%s'; it has: %s", device->id, device->type->name, name,
                names->len ? names->str : "none");
    return false;
}

bool device_create(Device *device, GError **error)
{
    return !device->type->create || device->type->create(device, error);
}

void device_reset(Device *device)
{
    if (device->type->reset)
        device->type->reset(device);
}

void device_pause(Device *device)
{
    if (device->type->pause)
        device->type->pause(device);
}

void device_resume(Device *device)
{
    if (device->type->resume)
        device->type->resume(device);
}

void device_free(Device *device)
{
    if (!device)
        return;
    if (device->type->destroy)
        device->type->destroy(device);
    for (const DeviceOption *o = device->type->options; o && o->name; o++) {
        if (o->type == OPTION_STRING)
            g_free(*(char **)option_at(device, o));
    }
    g_free(device->id);
    g_free(device);
}
