/* SPDX-License-Identifier: GPL-3.0-or-later */
/* PAM: the four combinations in every segment, the BIOS underneath, SMRAM and its lock, reset. */
#include "base/bits.h"
#include "device/chipset/i440fx.h"
#include "device/test_board.h"

typedef struct Fixture {
    TestBoard *b;
    PciBus *bus;
    I440fx *fx;
    Ram *rom;
    Region bios;
} Fixture;

/* Segment address, register, shift: 440FX datasheet table 3-3, written down again. */
static const struct {
    uint32_t address;
    uint8_t reg, shift;
} segments[] = {
    {0xc0000, 0x5a, 0}, {0xc4000, 0x5a, 4}, {0xc8000, 0x5b, 0}, {0xcc000, 0x5b, 4},
    {0xd0000, 0x5c, 0}, {0xd4000, 0x5c, 4}, {0xd8000, 0x5d, 0}, {0xdc000, 0x5d, 4},
    {0xe0000, 0x5e, 0}, {0xe4000, 0x5e, 4}, {0xe8000, 0x5f, 0}, {0xec000, 0x5f, 4},
    {0xf0000, 0x59, 4},
};

static void setup(Fixture *f, gconstpointer data)
{
    f->b = test_board_new();
    f->bus = pci_bus_new(&f->b->board, NULL, NULL);
    f->rom = ram_new("bios", KIB(256), NULL);
    for (unsigned i = 0; i < KIB(256); i += 2)
        store_le16(f->rom->host + i, i >> 1);
    region_init_ram(&f->bios, REGION_ROM, f->rom, 0, KIB(256));
    f->fx = device_new(&i440fx_type, &f->b->board, "host");
    f->fx->ram = &f->b->ram_region;
    f->fx->bios = &f->bios;
    g_assert_true(device_create(&f->fx->pci.device, NULL));
    g_assert_true(pci_bus_add(f->bus, &f->fx->pci, 0, NULL));
    device_reset(&f->fx->pci.device);
}

static void teardown(Fixture *f, gconstpointer data)
{
    pci_bus_free(f->bus);
    device_free(&f->fx->pci.device);
    test_board_free(f->b);
    ram_free(f->rom);
}

static uint16_t load(Fixture *f, uint32_t address)
{
    return space_load(f->b->board.memory, address, 2);
}

static void store(Fixture *f, uint32_t address, uint16_t value)
{
    space_store(f->b->board.memory, address, 2, value);
}

static uint16_t ram_word(Fixture *f, uint32_t address)
{
    return load_le16(f->b->ram->host + address);
}

/* What stands at `address` in the ROM's alias (its last 128 KiB at 0xe0000), or an open bus. */
static uint16_t rom_word(uint32_t address)
{
    return address < 0xe0000 ? 0xffff : (uint16_t)((address - 0xe0000 + 0x20000) >> 1);
}

static void set_mode(Fixture *f, unsigned i, unsigned mode)
{
    pci_config_write(&f->fx->pci, segments[i].reg, 1, mode << segments[i].shift);
}

static void test_pam(Fixture *f, gconstpointer data)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(segments); i++) {
        uint32_t at = segments[i].address + 0x1232;
        store_le16(f->b->ram->host + at, 0x5a5a);

        set_mode(f, i, 0);
        g_assert_cmphex(load(f, at), ==, rom_word(at));
        store(f, at, 0x1111);
        g_assert_cmphex(ram_word(f, at), ==, 0x5a5a);
        g_assert_cmphex(load(f, at), ==, rom_word(at));

        set_mode(f, i, 1);
        g_assert_cmphex(load(f, at), ==, 0x5a5a);
        store(f, at, 0x2222);
        g_assert_cmphex(ram_word(f, at), ==, 0x5a5a);

        set_mode(f, i, 2);
        g_assert_cmphex(load(f, at), ==, rom_word(at));
        store(f, at, 0x3333);
        g_assert_cmphex(load(f, at), ==, rom_word(at));
        g_assert_cmphex(ram_word(f, at), ==, 0x3333);

        set_mode(f, i, 3);
        g_assert_cmphex(load(f, at), ==, 0x3333);
        store(f, at, 0x4444);
        g_assert_cmphex(load(f, at), ==, 0x4444);
    }
}

/* A segment's register leaves the neighbours alone. */
static void test_edges(Fixture *f, gconstpointer data)
{
    set_mode(f, 9, 3); /* e4000 */
    store(f, 0xe4000, 0xaaaa);
    store(f, 0xe7ffe, 0xbbbb);
    g_assert_cmphex(ram_word(f, 0xe4000), ==, 0xaaaa);
    g_assert_cmphex(ram_word(f, 0xe7ffe), ==, 0xbbbb);
    g_assert_cmphex(load(f, 0xe3ffe), ==, rom_word(0xe3ffe));
    g_assert_cmphex(load(f, 0xe8000), ==, rom_word(0xe8000));
}

static void test_open_shadow(Fixture *f, gconstpointer data)
{
    i440fx_open_shadow(f->fx);
    for (uint32_t at = 0xc0000; at < 0x100000; at += 0x4000) {
        store(f, at, at >> 8);
        g_assert_cmphex(ram_word(f, at), ==, at >> 8);
    }
    device_reset(&f->fx->pci.device);
    g_assert_cmphex(load(f, 0xf0000), ==, rom_word(0xf0000));
}

static void test_smram(Fixture *f, gconstpointer data)
{
    static Region window;
    static const RegionOps none = {.name = "vga"};

    region_init_io(&window, &none, NULL, NULL, 0x20000);
    SpaceMapping *vga =
        space_map(f->b->board.memory, 0xa0000, &window, 0, 0x20000, SPACE_PRIORITY_BOARD, false);
    store_le16(f->b->ram->host + 0xa0000, 0x7777);
    g_assert_cmphex(pci_config_read(&f->fx->pci, 0x72, 1), ==, 0x02);
    g_assert_cmphex(load(f, 0xa0000), ==, 0xffff);
    pci_config_write(&f->fx->pci, 0x72, 1, 0x48);
    g_assert_cmphex(load(f, 0xa0000), ==, 0x7777);
    pci_config_write(&f->fx->pci, 0x72, 1, 0x58); /* lock closes it for good */
    g_assert_cmphex(load(f, 0xa0000), ==, 0xffff);
    pci_config_write(&f->fx->pci, 0x72, 1, 0x48);
    g_assert_cmphex(load(f, 0xa0000), ==, 0xffff);
    g_assert_cmphex(pci_config_read(&f->fx->pci, 0x72, 1), ==, 0x1a);
    test_state_round_trip(&f->fx->pci.device);
    device_reset(&f->fx->pci.device);
    g_assert_cmphex(pci_config_read(&f->fx->pci, 0x72, 1), ==, 0x02);
    space_unmap(f->b->board.memory, vga);
}

static void test_header(Fixture *f, gconstpointer data)
{
    g_assert_cmphex(pci_config_read(&f->fx->pci, 0, 4), ==, 0x12378086);
    g_assert_cmphex(pci_config_read(&f->fx->pci, 4, 2), ==, 0x0006);
    pci_config_write(&f->fx->pci, 4, 2, 0);
    g_assert_cmphex(pci_config_read(&f->fx->pci, 4, 2), ==, 0x0006);
    g_assert_cmphex(pci_config_read(&f->fx->pci, 0x0a, 2), ==, 0x0600);
    pci_config_write(&f->fx->pci, 0x93, 1, 0x06);
    g_assert_cmpint(f->b->last_request, ==, BOARD_RESET);
}

static void test_state(Fixture *f, gconstpointer data)
{
    set_mode(f, 12, 2);
    set_mode(f, 0, 3);
    test_state_round_trip(&f->fx->pci.device);
    g_autoptr(GVariant) saved = g_variant_ref_sink(device_save(&f->fx->pci.device));
    device_reset(&f->fx->pci.device);
    g_assert_true(device_load(&f->fx->pci.device, saved, NULL));
    store(f, 0xf1000, 0x9999);
    g_assert_cmphex(ram_word(f, 0xf1000), ==, 0x9999);
    g_assert_cmphex(load(f, 0xf1000), ==, rom_word(0xf1000));
}

#define ADD(name) g_test_add("/i440fx/" #name, Fixture, NULL, setup, test_##name, teardown)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD(pam);
    ADD(edges);
    ADD(open_shadow);
    ADD(smram);
    ADD(header);
    ADD(state);
    return g_test_run();
}
