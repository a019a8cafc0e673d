/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Options, and state that is saved, loaded, compared and refused when it is malformed. */
#include <string.h>

#include "device/test_board.h"

typedef struct Part {
    uint16_t a;
    bool b;
} Part;

typedef struct Sample {
    Device device;
    bool fast;
    uint32_t rate;
    char *label;
    uint8_t reg;
    uint32_t words[4];
    uint8_t bytes[5];
    Part parts[2];
    ClockTimer timer;
    uint64_t newer;
} Sample;

static void never(void *obj)
{
}

static bool sample_create(Device *device, GError **error)
{
    timer_init(&((Sample *)device)->timer, device->board->clock, never, device);
    return true;
}

static bool sample_loaded(Device *device, GError **error)
{
    if (((Sample *)device)->reg < 200)
        return true;
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA, "reg is out of range");
    return false;
}

static const DeviceOption options[] = {
    {"fast", OPTION_BOOL, offsetof(Sample, fast), "on", 0, "speed"},
    {"rate", OPTION_U32, offsetof(Sample, rate), "115200", 1000000, "bits per second"},
    {"label", OPTION_STRING, offsetof(Sample, label), "x", 0, "a name"},
    {},
};
static const StateField part_fields[] = {
    STATE_FIELD(Part, a, STATE_U16, 1),
    STATE_FIELD(Part, b, STATE_BOOL, 1),
    STATE_LIST_END,
};
static const StateField fields[] = {
    STATE_FIELD(Sample, reg, STATE_U8, 1),
    STATE_ARRAY(Sample, words, STATE_U32, 1),
    {.name = "bytes",
     .type = STATE_BYTES,
     .offset = offsetof(Sample, bytes),
     .count = 5,
     .stride = 1,
     .since = 1},
    STATE_STRUCTS(Sample, parts, part_fields, 1),
    STATE_FIELD(Sample, timer, STATE_TIMER, 1),
    STATE_FIELD(Sample, newer, STATE_U64, 2),
    STATE_LIST_END,
};
static const DeviceType type_v2 = {
    .name = "sample",
    .description = "for tests",
    .instance_size = sizeof(Sample),
    .options = options,
    .create = sample_create,
    .state_version = 2,
    .state = fields,
    .loaded = sample_loaded,
};
static const DeviceType type_v1 = {
    .name = "sample",
    .description = "for tests",
    .instance_size = sizeof(Sample),
    .options = options,
    .create = sample_create,
    .state_version = 1,
    .state = fields,
    .loaded = sample_loaded,
};

static void test_options(void)
{
    g_autoptr(TestBoard) b = test_board_new();
    g_autoptr(GError) error = NULL;
    Sample *s = device_new(&type_v2, &b->board, "s0");

    g_assert_true(s->fast);
    g_assert_cmpuint(s->rate, ==, 115200);
    g_assert_true(device_set(&s->device, "rate", "0x10", &error));
    g_assert_cmpuint(s->rate, ==, 16);
    g_assert_false(device_set(&s->device, "rate", "1000001", &error));
    g_assert_nonnull(strstr(error->message, "1000000"));
    g_clear_error(&error);
    g_assert_false(device_set(&s->device, "rate", "-1", NULL));
    g_assert_false(device_set(&s->device, "fast", "maybe", NULL));
    g_assert_false(device_set(&s->device, "colour", "red", &error));
    g_assert_nonnull(strstr(error->message, "label"));
    device_free(&s->device);
}

static void test_state(void)
{
    g_autoptr(TestBoard) b = test_board_new();
    Sample *s = device_new(&type_v2, &b->board, "s0"), *t = device_new(&type_v2, &b->board, "s1");
    g_autoptr(GVariant) first = NULL;
    g_autoptr(GVariant) second = NULL;
    g_autoptr(GPtrArray) names = NULL;

    device_create(&s->device, NULL);
    device_create(&t->device, NULL);
    s->reg = 7;
    s->words[2] = 0xdeadbeef;
    memcpy(s->bytes, "hello", 5);
    s->parts[1] = (Part){0x1234, true};
    s->newer = 9;
    timer_arm(&s->timer, 12345);
    first = g_variant_ref_sink(device_save(&s->device));
    g_assert_true(device_load(&t->device, first, NULL));
    g_assert_cmphex(t->words[2], ==, 0xdeadbeef);
    g_assert_cmpint(memcmp(t->bytes, "hello", 5), ==, 0);
    g_assert_cmphex(t->parts[1].a, ==, 0x1234);
    g_assert_true(t->timer.armed);
    g_assert_cmpint(t->timer.deadline_ns, ==, 12345);
    t->parts[0].b = true;
    second = g_variant_ref_sink(device_save(&t->device));
    names = device_state_diff(first, second);
    g_assert_cmpuint(names->len, ==, 1);
    g_assert_cmpstr(names->pdata[0], ==, "parts[0].b");
    device_free(&s->device);
    device_free(&t->device);
}

static void test_hostile_state(void)
{
    g_autoptr(TestBoard) b = test_board_new();
    Sample *s = device_new(&type_v2, &b->board, "s0"), *old = device_new(&type_v1, &b->board, "s0");
    g_autoptr(GVariant) state = NULL;
    g_autoptr(GVariant) bad = NULL;
    g_autoptr(GVariant) short_array = NULL;
    g_autoptr(GError) error = NULL;

    device_create(&s->device, NULL);
    device_create(&old->device, NULL);
    s->reg = 199;
    state = g_variant_ref_sink(device_save(&s->device));
    g_assert_false(device_load(&old->device, state, &error));
    g_assert_error(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED);
    s->reg = 200;
    bad = g_variant_ref_sink(device_save(&s->device));
    s->reg = 3;
    g_assert_false(device_load(&s->device, bad, NULL));
    g_assert_cmpuint(s->reg, ==, 3);
    short_array = g_variant_ref_sink(
        g_variant_new_parsed("{'type': <'sample'>, 'version': <uint32 1>, 'fields': <{'reg': <byte "
                             "0x01>, 'words': <[<uint32 1>]>}>}"));
    g_assert_false(device_load(&s->device, short_array, NULL));
    g_assert_cmpuint(s->reg, ==, 3);
    device_free(&s->device);
    device_free(&old->device);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/device/options", test_options);
    g_test_add_func("/device/state", test_state);
    g_test_add_func("/device/hostile-state", test_hostile_state);
    return g_test_run();
}
