/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Configuration mechanism #1, BAR sizing and decoding, INTx sharing, MSI, bus mastering. */
#include "base/bits.h"
#include "device/bus/pci.h"
#include "device/test_board.h"

typedef struct Card {
    PciDevice pci;
    Region io, mem, mem64;
    uint32_t written;
} Card;

static uint64_t card_read(void *obj, uint64_t offset, unsigned size)
{
    return 0xa0 + offset;
}

static void card_write(void *obj, uint64_t offset, unsigned size, uint64_t value)
{
    ((Card *)obj)->written = value;
}

static const RegionOps card_ops = {.name = "card", .read = card_read, .write = card_write};

static bool card_create(Device *device, GError **error)
{
    Card *card = (Card *)device;

    pci_device_init(&card->pci, 0x1af4, 0x4242, 0x0200, 0x11, 7);
    pci_set_interrupt_pin(&card->pci, 1);
    region_init_io(&card->io, &card_ops, card, device->board->lock, 0x20);
    region_init_io(&card->mem, &card_ops, card, device->board->lock, 0x1000);
    region_init_io(&card->mem64, &card_ops, card, device->board->lock, MIB(1));
    pci_add_bar(&card->pci, 0, PCI_BAR_IO, &card->io);
    pci_add_bar(&card->pci, 1, PCI_BAR_MEM32, &card->mem);
    pci_add_bar(&card->pci, 2, PCI_BAR_MEM64, &card->mem64);
    pci_add_msi(&card->pci);
    return true;
}

static void card_reset(Device *device)
{
    pci_device_reset(&((Card *)device)->pci);
}

static bool card_loaded(Device *device, GError **error)
{
    return pci_device_loaded(&((Card *)device)->pci, error);
}

static const StateField card_state[] = {
    STATE_ONE_STRUCT(Card, pci, pci_state_fields, 1),
    STATE_LIST_END,
};

static const DeviceType card_type = {
    .name = "card",
    .instance_size = sizeof(Card),
    .create = card_create,
    .reset = card_reset,
    .state_version = 1,
    .state = card_state,
    .loaded = card_loaded,
};

typedef struct Fixture {
    TestBoard *b;
    PciBus *bus;
    Card *card;
    bool wire[32][4];
} Fixture;

static void record_intx(void *obj, unsigned slot, unsigned pin, bool level)
{
    ((Fixture *)obj)->wire[slot][pin] = level;
}

static Card *add_card(Fixture *f, const char *id, int devfn)
{
    Card *card = device_new(&card_type, &f->b->board, id);

    g_assert_true(device_create(&card->pci.device, NULL));
    g_assert_true(pci_bus_add(f->bus, &card->pci, devfn, NULL));
    device_reset(&card->pci.device);
    return card;
}

static void setup(Fixture *f, gconstpointer data)
{
    f->b = test_board_new();
    f->bus = pci_bus_new(&f->b->board, record_intx, f);
    space_map(f->b->board.ports, 0xcf8, pci_bus_config_ports(f->bus), 0, 8, SPACE_PRIORITY_BOARD,
              false);
    f->card = add_card(f, "card", -1);
}

static void teardown(Fixture *f, gconstpointer data)
{
    pci_bus_free(f->bus);
    device_free(&f->card->pci.device);
    test_board_free(f->b);
}

static void config_select(Fixture *f, unsigned devfn, unsigned offset)
{
    test_out(f->b, 0xcf8, 4, 0x80000000u | devfn << 8 | (offset & 0xfc));
}

static uint32_t config_in(Fixture *f, unsigned offset, unsigned size)
{
    config_select(f, f->card->pci.devfn, offset);
    return test_in(f->b, 0xcfc + (offset & 3), size);
}

static void config_out(Fixture *f, unsigned offset, unsigned size, uint32_t value)
{
    config_select(f, f->card->pci.devfn, offset);
    test_out(f->b, 0xcfc + (offset & 3), size, value);
}

static void test_identity(Fixture *f, gconstpointer data)
{
    g_assert_cmphex(f->card->pci.devfn, ==, PCI_DEVFN(3, 0));
    g_assert_cmphex(config_in(f, 0, 4), ==, 0x42421af4);
    g_assert_cmphex(config_in(f, 2, 2), ==, 0x4242);
    g_assert_cmphex(config_in(f, 3, 1), ==, 0x42);
    g_assert_cmphex(config_in(f, 8, 4), ==, 0x02001107);
    config_out(f, 0, 4, 0);
    g_assert_cmphex(config_in(f, 0, 4), ==, 0x42421af4);
    /* Nobody in that slot, another bus, the latch's enable bit off: all ones. */
    config_select(f, PCI_DEVFN(9, 0), 0);
    g_assert_cmphex(test_in(f->b, 0xcfc, 4), ==, 0xffffffff);
    test_out(f->b, 0xcf8, 4, 0x80010000 | f->card->pci.devfn << 8);
    g_assert_cmphex(test_in(f->b, 0xcfc, 4), ==, 0xffffffff);
    test_out(f->b, 0xcf8, 4, f->card->pci.devfn << 8);
    g_assert_cmphex(test_in(f->b, 0xcfc, 4), ==, 0xffffffff);
}

/* The latch takes only whole accesses (PCI 3.0 §3.2.2.3.2). */
static void test_latch(Fixture *f, gconstpointer data)
{
    test_out(f->b, 0xcf8, 4, 0xffffffff);
    g_assert_cmphex(test_in(f->b, 0xcf8, 4), ==, 0x80fffffc);
    test_out(f->b, 0xcf8, 1, 0);
    test_out(f->b, 0xcfa, 2, 0);
    g_assert_cmphex(test_in(f->b, 0xcf8, 4), ==, 0x80fffffc);
    g_assert_cmphex(test_in(f->b, 0xcf8, 2), ==, 0xffff);
}

static uint32_t bar_size(Fixture *f, unsigned offset)
{
    config_out(f, offset, 4, 0xffffffff);
    return config_in(f, offset, 4);
}

static void test_sizing(Fixture *f, gconstpointer data)
{
    g_assert_cmphex(bar_size(f, 0x10), ==, 0xffffffe1);
    g_assert_cmphex(bar_size(f, 0x14), ==, 0xfffff000);
    g_assert_cmphex(bar_size(f, 0x18), ==, 0xfff0000c);
    g_assert_cmphex(bar_size(f, 0x1c), ==, 0xffffffff);
    g_assert_cmphex(bar_size(f, 0x20), ==, 0);
    g_assert_cmphex(bar_size(f, 0x30), ==, 0);
}

static void test_decoding(Fixture *f, gconstpointer data)
{
    config_out(f, 0x10, 4, 0xc000);
    config_out(f, 0x14, 4, 0xe0000000);
    g_assert_cmphex(test_in(f->b, 0xc004, 1), ==, 0xff);
    config_out(f, PCI_COMMAND, 2, PCI_COMMAND_IO);
    g_assert_cmphex(test_in(f->b, 0xc004, 1), ==, 0xa4);
    g_assert_cmphex(space_load(f->b->board.memory, 0xe0000004, 1), ==, 0xff);
    config_out(f, PCI_COMMAND, 2, PCI_COMMAND_IO | PCI_COMMAND_MEMORY);
    g_assert_cmphex(space_load(f->b->board.memory, 0xe0000004, 1), ==, 0xa4);
    config_out(f, 0x14, 4, 0xe1000000);
    g_assert_cmphex(space_load(f->b->board.memory, 0xe0000004, 1), ==, 0xff);
    g_assert_cmphex(space_load(f->b->board.memory, 0xe1000004, 1), ==, 0xa4);
    config_out(f, 0x18, 4, 0);
    config_out(f, 0x1c, 4, 0x10);
    g_assert_cmphex(space_load(f->b->board.memory, UINT64_C(0x1000000008), 1), ==, 0xa8);
    device_reset(&f->card->pci.device);
    g_assert_cmphex(config_in(f, 0x14, 4), ==, 0);
    g_assert_cmphex(config_in(f, 0x18, 4), ==, 0xc);
    g_assert_cmphex(test_in(f->b, 0xc004, 1), ==, 0xff);
}

/* Writing a BAR byte by byte works as writing it whole. */
static void test_partial_writes(Fixture *f, gconstpointer data)
{
    config_out(f, PCI_COMMAND, 1, PCI_COMMAND_MEMORY);
    config_out(f, 0x17, 1, 0xe0);
    config_out(f, 0x15, 2, 0x1234);
    g_assert_cmphex(config_in(f, 0x14, 4), ==, 0xe0123000);
    g_assert_cmphex(space_load(f->b->board.memory, 0xe0123001, 1), ==, 0xa1);
}

static void test_rom(Fixture *f, gconstpointer data)
{
    static const uint8_t image[5000] = {0x55, 0xaa, 10};

    g_assert_true(pci_add_rom(&f->card->pci, image, sizeof(image), NULL));
    g_assert_cmphex(bar_size(f, 0x30), ==, 0xffffe001);
    config_out(f, 0x30, 4, 0xe2000000);
    config_out(f, PCI_COMMAND, 1, PCI_COMMAND_MEMORY);
    g_assert_cmphex(space_load(f->b->board.memory, 0xe2000000, 2), ==, 0xffff);
    config_out(f, 0x30, 4, 0xe2000001);
    g_assert_cmphex(space_load(f->b->board.memory, 0xe2000000, 2), ==, 0xaa55);
    space_store(f->b->board.memory, 0xe2000000, 2, 0);
    g_assert_cmphex(space_load(f->b->board.memory, 0xe2000000, 2), ==, 0xaa55);
}

static void test_intx(Fixture *f, gconstpointer data)
{
    pci_set_irq(&f->card->pci, true);
    g_assert_true(f->wire[3][0]);
    g_assert_cmphex(config_in(f, PCI_STATUS, 2) & 8, ==, 8);
    config_out(f, PCI_COMMAND, 2, PCI_COMMAND_INTX_OFF);
    g_assert_false(f->wire[3][0]);
    g_assert_cmphex(config_in(f, PCI_STATUS, 2) & 8, ==, 8);
    config_out(f, PCI_COMMAND, 2, 0);
    g_assert_true(f->wire[3][0]);
    pci_set_irq(&f->card->pci, false);
    g_assert_false(f->wire[3][0]);
}

static void test_functions(Fixture *f, gconstpointer data)
{
    g_assert_cmphex(config_in(f, PCI_HEADER_TYPE, 1), ==, 0);
    Card *second = add_card(f, "second", PCI_DEVFN(3, 5));
    g_assert_cmphex(config_in(f, PCI_HEADER_TYPE, 1), ==, 0x80);
    pci_set_irq(&f->card->pci, true);
    pci_set_irq(&second->pci, true);
    pci_set_irq(&f->card->pci, false);
    g_assert_true(f->wire[3][0]);
    pci_bus_remove(f->bus, &second->pci);
    g_assert_false(f->wire[3][0]);
    device_free(&second->pci.device);
}

static void test_taken(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    Card *second = device_new(&card_type, &f->b->board, "second");

    g_assert_true(device_create(&second->pci.device, NULL));
    g_assert_false(pci_bus_add(f->bus, &second->pci, PCI_DEVFN(3, 0), &error));
    g_assert_nonnull(strstr(error->message, "card"));
    device_free(&second->pci.device);
}

static void test_msi(Fixture *f, gconstpointer data)
{
    uint8_t at = config_in(f, PCI_CAPABILITIES, 1);

    g_assert_cmphex(config_in(f, PCI_STATUS, 2) & 0x10, ==, 0x10);
    g_assert_cmphex(config_in(f, at, 2), ==, 0x0005);
    g_assert_cmphex(config_in(f, at + 2, 2), ==, 0x0080);
    config_out(f, at + 4, 4, 0xfee0100f);
    config_out(f, at + 8, 4, 0);
    config_out(f, at + 12, 2, 0x4051);
    config_out(f, at + 2, 2, 0xffff);
    g_assert_cmphex(config_in(f, at + 2, 2), ==, 0x00f1);
    pci_set_irq(&f->card->pci, true);
    g_assert_cmpuint(f->b->msi_count, ==, 0); /* bus mastering is off */
    pci_set_irq(&f->card->pci, false);
    config_out(f, PCI_COMMAND, 2, PCI_COMMAND_MASTER);
    pci_set_irq(&f->card->pci, true);
    pci_set_irq(&f->card->pci, true);
    g_assert_cmpuint(f->b->msi_count, ==, 1);
    g_assert_cmphex(f->b->last_msi_address, ==, 0xfee0100c);
    g_assert_cmphex(f->b->last_msi_data, ==, 0x4051);
    g_assert_false(f->wire[3][0]);
    config_out(f, at + 2, 2, 0); /* the line takes over while the cause stands */
    g_assert_true(f->wire[3][0]);
}

static void test_dma(Fixture *f, gconstpointer data)
{
    uint32_t word = 0x11223344;

    g_assert_false(pci_dma_write(&f->card->pci, 0x1000, &word, 4));
    config_out(f, PCI_COMMAND, 2, PCI_COMMAND_MASTER);
    g_assert_true(pci_dma_write(&f->card->pci, 0x1000, &word, 4));
    g_assert_cmphex(space_load(f->b->board.memory, 0x1000, 4), ==, 0x11223344);
    g_assert_false(pci_dma_write(&f->card->pci, 0xe0000000, &word, 4));
    config_out(f, PCI_COMMAND, 2, 0);
    g_assert_false(pci_dma_read(&f->card->pci, 0x1000, &word, 4));
    g_assert_cmphex(word, ==, 0xffffffff);
}

static void test_state(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    config_out(f, 0x10, 4, 0xc000);
    config_out(f, PCI_COMMAND, 2, PCI_COMMAND_IO);
    test_state_round_trip(&f->card->pci.device);
    test_state_round_trip(pci_bus_device(f->bus));
    g_autoptr(GVariant) saved = g_variant_ref_sink(device_save(&f->card->pci.device));
    device_reset(&f->card->pci.device);
    g_assert_cmphex(test_in(f->b, 0xc004, 1), ==, 0xff);
    g_assert_true(device_load(&f->card->pci.device, saved, NULL));
    g_assert_cmphex(test_in(f->b, 0xc004, 1), ==, 0xa4);
    f->card->pci.device_id = 0x4343; /* another card in the restoring machine */
    g_assert_false(device_load(&f->card->pci.device, saved, &error));
    g_assert_nonnull(strstr(error->message, "1af4:4242"));
}

static void test_storm(Fixture *f, gconstpointer data)
{
    uint8_t bytes[4096];

    for (unsigned i = 0; i < sizeof(bytes); i++)
        bytes[i] = g_test_rand_int();
    config_select(f, f->card->pci.devfn, 4);
    test_register_storm(f->b, f->b->board.ports, 0xcf8, 8, bytes, sizeof(bytes));
    g_assert_cmphex(config_in(f, 0, 4), ==, 0x42421af4);
}

#define ADD(name) g_test_add("/pci/" #name, Fixture, NULL, setup, test_##name, teardown)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD(identity);
    ADD(latch);
    ADD(sizing);
    ADD(decoding);
    ADD(partial_writes);
    ADD(rom);
    ADD(intx);
    ADD(functions);
    ADD(taken);
    ADD(msi);
    ADD(dma);
    ADD(state);
    ADD(storm);
    return g_test_run();
}
