/* SPDX-License-Identifier: GPL-3.0-or-later */
/* fw_cfg as firmware drives it: selector and data port, directory, DMA, and what hostile guests
 * try. */
#include <string.h>

#include "base/bits.h"
#include "device/test_board.h"
#include "machine/fw_cfg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct Fixture {
    TestBoard *b;
    FwCfg *fw;
    uint8_t scratch[16];
} Fixture;

static void setup(Fixture *f, gconstpointer data)
{
    f->b = test_board_new();
    f->fw = device_new(&fw_cfg_type, &f->b->board, "fw");
    g_assert_true(device_create(&f->fw->device, NULL));
    space_map(f->b->board.ports, 0x510, &f->fw->ports, 0, 2, SPACE_PRIORITY_BOARD, false);
    space_map(f->b->board.ports, 0x514, &f->fw->dma, 0, 8, SPACE_PRIORITY_BOARD, false);
    device_reset(&f->fw->device);
}

static void teardown(Fixture *f, gconstpointer data)
{
    device_free(&f->fw->device);
    test_board_free(f->b);
}

static void read_item(Fixture *f, uint16_t key, void *to, size_t size)
{
    test_out(f->b, 0x510, 2, key);
    for (size_t i = 0; i < size; i++)
        ((uint8_t *)to)[i] = test_in(f->b, 0x511, 1);
}

static void test_ports(Fixture *f, gconstpointer data)
{
    uint8_t bytes[8];

    read_item(f, 0, bytes, 6);
    g_assert_cmpmem(bytes, 6, "QEMU\0\0", 6);
    read_item(f, 1, bytes, 4);
    g_assert_cmphex(load_le32(bytes), ==, 3);
    fw_cfg_add_u16(f->fw, FW_CFG_NB_CPUS, 0x1234);
    read_item(f, 5, bytes, 3);
    g_assert_cmpmem(bytes, 3, "\x34\x12\0", 3);
    read_item(f, 0x7777, bytes, 1);
    g_assert_cmphex(bytes[0], ==, 0);
}

static void test_directory(Fixture *f, gconstpointer data)
{
    uint8_t raw[4 + 2 * 64];

    fw_cfg_add_file(f->fw, "etc/a", "hello", 5);
    uint16_t key = fw_cfg_add_file(f->fw, "etc/b", "x", 1);
    g_assert_cmphex(fw_cfg_add_file(f->fw, "etc/b", "world!", 6), ==, key);
    read_item(f, 0x19, raw, sizeof(raw));
    g_assert_cmpuint(load_be32(raw), ==, 2);
    g_assert_cmpstr((char *)raw + 4 + 8, ==, "etc/a");
    g_assert_cmpuint(load_be32(raw + 4), ==, 5);
    g_assert_cmpuint(load_be32(raw + 68), ==, 6);
    g_assert_cmphex(load_be16(raw + 68 + 4), ==, key);
    g_assert_cmphex(load_be16(raw + 4 + 4), >=, 0x20);
    read_item(f, key, raw, 6);
    g_assert_cmpmem(raw, 6, "world!", 6);
}

static uint32_t dma(Fixture *f, uint32_t control, uint32_t length, uint64_t address)
{
    uint8_t descriptor[16];

    store_be32(descriptor, control);
    store_be32(descriptor + 4, length);
    store_be64(descriptor + 8, address);
    g_assert_true(space_write(f->b->board.memory, 0x2000, descriptor, 16));
    test_out(f->b, 0x514, 4, 0);
    test_out(f->b, 0x518, 4, GUINT32_SWAP_LE_BE(0x2000u));
    g_assert_true(space_read(f->b->board.memory, 0x2000, descriptor, 4));
    return load_be32(descriptor);
}

static void test_dma_read(Fixture *f, gconstpointer data)
{
    uint16_t key = fw_cfg_add_file(f->fw, "etc/a", "0123456789", 10);
    uint8_t got[12];

    g_assert_cmphex(test_in(f->b, 0x514, 4), ==, 0x554d4551); /* "QEMU" in the port's bytes */
    memset(f->b->ram->host + 0x3000, 0xee, 16);
    g_assert_cmphex(dma(f, (uint32_t)key << 16 | 8 | 2, 4, 0x3000), ==, 0);
    g_assert_cmphex(dma(f, 4, 2, 0), ==, 0); /* skip */
    g_assert_cmphex(dma(f, 2, 6, 0x3004), ==, 0);
    space_read(f->b->board.memory, 0x3000, got, 12);
    g_assert_cmpmem(got, 12, "01236789\0\0\xee\xee", 12);
}

static void test_dma_write(Fixture *f, gconstpointer data)
{
    uint16_t fixed = fw_cfg_add_file(f->fw, "etc/a", "0123", 4);
    uint16_t key = fw_cfg_add_writable_file(f->fw, "etc/w", f->scratch, sizeof(f->scratch));

    memcpy(f->b->ram->host + 0x3000, "abcdefgh", 8);
    g_assert_cmphex(dma(f, (uint32_t)fixed << 16 | 8 | 16, 4, 0x3000), ==, 1);
    g_assert_cmphex(dma(f, (uint32_t)key << 16 | 8 | 16, 4, 0x3000), ==, 0);
    g_assert_cmphex(dma(f, 16, 4, 0x3004), ==, 0);
    g_assert_cmpmem(f->scratch, 8, "abcdefgh", 8);
    g_assert_cmphex(dma(f, 16, 9, 0x3000), ==, 1); /* beyond its end */
}

static void test_dma_hostile(Fixture *f, gconstpointer data)
{
    uint16_t key = fw_cfg_add_file(f->fw, "etc/a", "0123", 4);

    g_assert_cmphex(dma(f, (uint32_t)key << 16 | 8 | 2, 4, UINT64_MAX - 1), ==, 1);
    g_assert_cmphex(dma(f, (uint32_t)key << 16 | 8 | 2, UINT32_MAX, 0x3000), ==, 1);
    g_assert_cmphex(dma(f, 4, UINT32_MAX, 0), ==, 0);
    g_assert_cmphex(dma(f, 4, UINT32_MAX, 0), ==, 0);
    g_assert_cmphex(dma(f, 2, 4, 0x3000), ==, 0); /* far behind the end: zeros */
    g_assert_cmphex(load_le32(f->b->ram->host + 0x3000), ==, 0);
    test_out(f->b, 0x514, 4, 0xffffffff); /* a descriptor outside RAM */
    test_out(f->b, 0x518, 4, 0xffffffff);
}

static void test_state(Fixture *f, gconstpointer data)
{
    test_out(f->b, 0x510, 2, 1);
    test_in(f->b, 0x511, 1);
    test_out(f->b, 0x514, 4, 0x12345678);
    test_state_round_trip(&f->fw->device);
}

static void test_storm(Fixture *f, gconstpointer data)
{
    uint8_t bytes[2048];

    for (unsigned round = 0; round < 8; round++) {
        for (unsigned i = 0; i < sizeof(bytes); i++)
            bytes[i] = g_test_rand_int();
        LLVMFuzzerTestOneInput(bytes, sizeof(bytes));
    }
}

#define ADD(name) g_test_add("/fw-cfg/" #name, Fixture, NULL, setup, test_##name, teardown)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD(ports);
    ADD(directory);
    ADD(dma_read);
    ADD(dma_write);
    ADD(dma_hostile);
    ADD(state);
    ADD(storm);
    return g_test_run();
}
