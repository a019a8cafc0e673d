/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One saver, one loader and one differ for every device, driven by its StateField table.
 *
 * A state is a{sv}: "type" s, "version" u, "fields" v(a{sv}). A field is a number (y q u t x b),
 * bytes (ay), a timer (xb: deadline, armed), a struct (a{sv}), or an array (av) of these. Loading
 * checks kinds and counts of the whole state before the first field is changed.
 */
#include <string.h>

#include "device/device.h"

static bool is_array(const StateField *field)
{
    return field->type != STATE_BYTES && field->count != 1;
}

static const char *element_format(StateType type)
{
    static const char *const formats[] = {
        [STATE_BOOL] = "b",   [STATE_U8] = "y",         [STATE_U16] = "q",
        [STATE_U32] = "u",    [STATE_U64] = "t",        [STATE_I64] = "x",
        [STATE_BYTES] = "ay", [STATE_STRUCT] = "a{sv}", [STATE_TIMER] = "(xb)",
    };

    return formats[type];
}

/* ---- saving ---------------------------------------------------------------------------------- */

static GVariant *save_fields(const void *from, const StateField *fields);

static GVariant *save_element(const StateField *field, const void *at)
{
    const ClockTimer *timer = at;

    switch (field->type) {
    case STATE_BOOL:
        return g_variant_new_boolean(*(const bool *)at);
    case STATE_U8:
        return g_variant_new_byte(*(const uint8_t *)at);
    case STATE_U16:
        return g_variant_new_uint16(*(const uint16_t *)at);
    case STATE_U32:
        return g_variant_new_uint32(*(const uint32_t *)at);
    case STATE_U64:
        return g_variant_new_uint64(*(const uint64_t *)at);
    case STATE_I64:
        return g_variant_new_int64(*(const int64_t *)at);
    case STATE_BYTES: {
        g_autoptr(GBytes) bytes = g_bytes_new(at, field->count);
        /* Marked as trusted, or g_variant_equal() would print large buffers to compare them. */
        return g_variant_new_from_bytes(G_VARIANT_TYPE_BYTESTRING, bytes, TRUE);
    }
    case STATE_STRUCT:
        return save_fields(at, field->fields);
    case STATE_TIMER:
        return g_variant_new("(xb)", timer->armed ? timer->deadline_ns : 0, timer->armed);
    case STATE_END:
        break;
    }
    g_assert_not_reached();
}

static GVariant *save_field(const StateField *field, const void *base)
{
    const char *at = (const char *)base + field->offset;
    GVariantBuilder array;

    if (!is_array(field))
        return save_element(field, at);
    g_variant_builder_init(&array, G_VARIANT_TYPE("av"));
    for (uint32_t i = 0; i < field->count; i++)
        g_variant_builder_add(&array, "v", save_element(field, at + (size_t)i * field->stride));
    return g_variant_builder_end(&array);
}

static GVariant *save_fields(const void *from, const StateField *fields)
{
    GVariantBuilder dict;

    g_variant_builder_init(&dict, G_VARIANT_TYPE_VARDICT);
    for (const StateField *f = fields; f && f->type != STATE_END; f++)
        g_variant_builder_add(&dict, "{sv}", f->name, save_field(f, from));
    return g_variant_builder_end(&dict);
}

GVariant *device_save(Device *device)
{
    GVariantBuilder dict;

    g_variant_builder_init(&dict, G_VARIANT_TYPE_VARDICT);
    g_variant_builder_add(&dict, "{sv}", "type", g_variant_new_string(device->type->name));
    g_variant_builder_add(&dict, "{sv}", "version",
                          g_variant_new_uint32(device->type->state_version));
    g_variant_builder_add(&dict, "{sv}", "fields", save_fields(device, device->type->state));
    return g_variant_builder_end(&dict);
}

/* ---- loading --------------------------------------------------------------------------------- */

static bool check_fields(const StateField *fields, GVariant *dict, uint32_t version,
                         const char *path, GError **error);

static bool check_element(const StateField *field, GVariant *value, uint32_t version,
                          const char *path, GError **error)
{
    if (!g_variant_is_of_type(value, G_VARIANT_TYPE(element_format(field->type))) ||
        (field->type == STATE_BYTES && g_variant_n_children(value) != field->count)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    "saved state: %s.%s is '%s', not what this device keeps there", path,
                    field->name, g_variant_get_type_string(value));
        return false;
    }
    if (field->type == STATE_STRUCT) {
        g_autofree char *inner = g_strdup_printf("%s.%s", path, field->name);
        return check_fields(field->fields, value, version, inner, error);
    }
    return true;
}

static bool check_array(const StateField *field, GVariant *value, uint32_t version,
                        const char *path, GError **error)
{
    if (!g_variant_is_of_type(value, G_VARIANT_TYPE("av")) ||
        g_variant_n_children(value) != field->count) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    "saved state: %s.%s should have %u elements", path, field->name, field->count);
        return false;
    }
    for (uint32_t i = 0; i < field->count; i++) {
        g_autoptr(GVariant) boxed = g_variant_get_child_value(value, i);
        g_autoptr(GVariant) element = g_variant_get_variant(boxed);
        if (!check_element(field, element, version, path, error))
            return false;
    }
    return true;
}

static bool check_fields(const StateField *fields, GVariant *dict, uint32_t version,
                         const char *path, GError **error)
{
    for (const StateField *f = fields; f && f->type != STATE_END; f++) {
        g_autoptr(GVariant) value = g_variant_lookup_value(dict, f->name, NULL);
        if (!value && f->since > version)
            continue;
        if (!value) {
            g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA, "saved state: %s.%s is missing",
                        path, f->name);
            return false;
        }
        if (!(is_array(f) ? check_array : check_element)(f, value, version, path, error))
            return false;
    }
    return true;
}

static void load_fields(void *to, const StateField *fields, GVariant *dict);

static void load_element(const StateField *field, GVariant *value, void *at)
{
    gsize count;

    switch (field->type) {
    case STATE_BOOL:
        *(bool *)at = g_variant_get_boolean(value);
        return;
    case STATE_U8:
        *(uint8_t *)at = g_variant_get_byte(value);
        return;
    case STATE_U16:
        *(uint16_t *)at = g_variant_get_uint16(value);
        return;
    case STATE_U32:
        *(uint32_t *)at = g_variant_get_uint32(value);
        return;
    case STATE_U64:
        *(uint64_t *)at = g_variant_get_uint64(value);
        return;
    case STATE_I64:
        *(int64_t *)at = g_variant_get_int64(value);
        return;
    case STATE_BYTES: {
        const void *bytes = g_variant_get_fixed_array(value, &count, 1);
        memcpy(at, bytes, field->count);
        return;
    }
    case STATE_STRUCT:
        load_fields(at, field->fields, value);
        return;
    case STATE_TIMER: {
        ClockTimer *timer = at;
        gint64 deadline_ns;
        gboolean armed;
        g_variant_get(value, "(xb)", &deadline_ns, &armed);
        if (armed)
            timer_arm(timer, deadline_ns);
        else
            timer_cancel(timer);
        return;
    }
    case STATE_END:
        break;
    }
    g_assert_not_reached();
}

static void load_fields(void *to, const StateField *fields, GVariant *dict)
{
    for (const StateField *f = fields; f && f->type != STATE_END; f++) {
        g_autoptr(GVariant) value = g_variant_lookup_value(dict, f->name, NULL);
        char *at = (char *)to + f->offset;
        if (!value)
            continue;
        if (!is_array(f)) {
            load_element(f, value, at);
            continue;
        }
        for (uint32_t i = 0; i < f->count; i++) {
            g_autoptr(GVariant) boxed = g_variant_get_child_value(value, i);
            g_autoptr(GVariant) element = g_variant_get_variant(boxed);
            load_element(f, element, at + (size_t)i * f->stride);
        }
    }
}

static bool check_header(Device *device, GVariant *state, uint32_t *ret_version,
                         GVariant **ret_fields, GError **error)
{
    const char *type = NULL;

    if (!g_variant_is_of_type(state, G_VARIANT_TYPE_VARDICT) ||
        !g_variant_lookup(state, "type", "&s", &type) ||
        !g_variant_lookup(state, "version", "u", ret_version) ||
        g_strcmp0(type, device->type->name)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    "saved state of %s is not that of a %s", device->id, device->type->name);
        return false;
    }
    if (*ret_version > device->type->state_version) {
        g_set_error(
            error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
            "saved state of %s has version %u, this program knows up to %u; use a newer ospite",
            device->id, *ret_version, device->type->state_version);
        return false;
    }
    *ret_fields = g_variant_lookup_value(state, "fields", G_VARIANT_TYPE_VARDICT);
    if (!*ret_fields)
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA, "saved state of %s has no fields",
                    device->id);
    return *ret_fields;
}

bool device_load(Device *device, GVariant *state, GError **error)
{
    g_autoptr(GVariant) fields = NULL;
    g_autoptr(GVariant) before = NULL;
    uint32_t version = 0;

    if (!check_header(device, state, &version, &fields, error) ||
        !check_fields(device->type->state, fields, version, device->id, error))
        return false;
    before = g_variant_ref_sink(save_fields(device, device->type->state));
    load_fields(device, device->type->state, fields);
    if (!device->type->loaded || device->type->loaded(device, error))
        return true;
    load_fields(device, device->type->state, before);
    device->type->loaded(device, NULL);
    return false;
}

/* ---- comparing ------------------------------------------------------------------------------- */

static void diff_values(const char *path, GVariant *a, GVariant *b, GPtrArray *names);

static void diff_dicts(const char *path, GVariant *a, GVariant *b, GPtrArray *names)
{
    GVariantIter iter;
    const char *key;
    GVariant *x;

    g_variant_iter_init(&iter, a);
    while (g_variant_iter_loop(&iter, "{&sv}", &key, &x)) {
        g_autofree char *inner = *path ? g_strdup_printf("%s.%s", path, key) : g_strdup(key);
        g_autoptr(GVariant) y = g_variant_lookup_value(b, key, NULL);
        diff_values(inner, x, y, names);
    }
}

static void diff_arrays(const char *path, GVariant *a, GVariant *b, GPtrArray *names)
{
    gsize count = MIN(g_variant_n_children(a), g_variant_n_children(b));

    for (gsize i = 0; i < count; i++) {
        g_autofree char *inner = g_strdup_printf("%s[%" G_GSIZE_FORMAT "]", path, i);
        g_autoptr(GVariant) boxed_x = g_variant_get_child_value(a, i);
        g_autoptr(GVariant) boxed_y = g_variant_get_child_value(b, i);
        g_autoptr(GVariant) x = g_variant_get_variant(boxed_x);
        g_autoptr(GVariant) y = g_variant_get_variant(boxed_y);
        diff_values(inner, x, y, names);
    }
}

static void diff_values(const char *path, GVariant *a, GVariant *b, GPtrArray *names)
{
    if (b && g_variant_equal(a, b))
        return;
    if (b && g_variant_is_of_type(a, G_VARIANT_TYPE_VARDICT) &&
        g_variant_is_of_type(b, G_VARIANT_TYPE_VARDICT))
        diff_dicts(path, a, b, names);
    else if (b && g_variant_is_of_type(a, G_VARIANT_TYPE("av")) &&
             g_variant_is_of_type(b, G_VARIANT_TYPE("av")))
        diff_arrays(path, a, b, names);
    else
        g_ptr_array_add(names, g_strdup(path));
}

GPtrArray *device_state_diff(GVariant *a, GVariant *b)
{
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GVariant) x = g_variant_lookup_value(a, "fields", G_VARIANT_TYPE_VARDICT);
    g_autoptr(GVariant) y = g_variant_lookup_value(b, "fields", G_VARIANT_TYPE_VARDICT);

    if (x && y)
        diff_dicts("", x, y, names);
    return names;
}
