/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The board without a CPU that unit tests and fuzz targets drive. */
#include "device/test_board.h"

#include "base/bits.h"

static void record_request(void *obj, BoardRequest request, int value)
{
    TestBoard *b = obj;

    b->last_request = request;
    b->last_request_value = value;
}

static void record_a20(void *obj, bool on)
{
    ((TestBoard *)obj)->a20 = on;
}

static void record_msi(void *obj, uint64_t address, uint32_t data)
{
    TestBoard *b = obj;

    b->last_msi_address = address;
    b->last_msi_data = data;
    b->msi_count++;
}

static void record_irq(void *obj, unsigned n, bool level)
{
    TestBoard *b = obj;

    b->irq_edges[n] += level && !b->irq_level[n];
    b->irq_level[n] = level;
}

TestBoard *test_board_new(void)
{
    TestBoard *b = g_new0(TestBoard, 1);

    g_rec_mutex_init(&b->lock);
    b->ram = ram_new("ram", MIB(16), NULL);
    g_assert_nonnull(b->ram);
    b->board = (Board){
        .memory = space_new("memory", UINT64_C(1) << 40),
        .ports = space_new("ports", KIB(64)),
        .clock = clock_new_manual(&b->lock),
        .lock = &b->lock,
        .request = record_request,
        .set_a20 = record_a20,
        .send_msi = record_msi,
        .obj = b,
    };
    region_init_ram(&b->ram_region, REGION_RAM, b->ram, 0, b->ram->size);
    space_map(b->board.memory, 0, &b->ram_region, 0, b->ram->size, SPACE_PRIORITY_RAM, false);
    b->last_request = -1;
    return b;
}

void test_board_free(TestBoard *b)
{
    space_free(b->board.memory);
    space_free(b->board.ports);
    clock_free(b->board.clock);
    ram_free(b->ram);
    g_rec_mutex_clear(&b->lock);
    g_free(b);
}

IrqLine test_board_irq(TestBoard *b, unsigned n)
{
    g_assert(n < G_N_ELEMENTS(b->irq_level));
    return (IrqLine){record_irq, b, n};
}

void test_state_round_trip(Device *device)
{
    g_autoptr(GVariant) first = g_variant_ref_sink(device_save(device));
    g_autoptr(GVariant) second = NULL;
    g_autoptr(GPtrArray) names = NULL;
    g_autoptr(GError) error = NULL;

    device_reset(device);
    g_assert_true(device_load(device, first, &error));
    g_assert_no_error(error);
    second = g_variant_ref_sink(device_save(device));
    names = device_state_diff(first, second);
    if (names->len)
        g_error("%s: state field '%s' does not survive a save and a load", device->id,
                (const char *)names->pdata[0]);
}

/*
 * Each step takes 12 bytes of input: what to do, the offset, the value.
 * byte 0: bits 1:0 log2 of the size, bit 2 write, bit 3 advance the clock instead.
 */
void test_register_storm(TestBoard *b, AddressSpace *space, uint64_t base, uint64_t span,
                         const uint8_t *data, size_t size)
{
    for (; size >= 12; data += 12, size -= 12) {
        unsigned width = 1u << (data[0] & 3);
        uint64_t address = base + load_le16(data + 2) % span;
        uint64_t value = load_le64(data + 4);
        if (data[0] & 8)
            clock_advance(b->board.clock, (int64_t)(value % (20 * NS_PER_MS)));
        else if (data[0] & 4)
            space_store(space, address, width, value);
        else
            space_load(space, address, width);
    }
}
