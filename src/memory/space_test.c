/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Address spaces against a naive model: priorities, aliases, access sizes, DMA rules, dirty pages.
 */
#include "memory/space.h"

#include <string.h>
#include <sys/mman.h>

typedef struct Probe {
    uint64_t last_offset, last_value;
    unsigned last_size, calls;
} Probe;

static uint64_t probe_read(void *obj, uint64_t offset, unsigned size)
{
    Probe *p = obj;

    p->calls++;
    p->last_offset = offset;
    p->last_size = size;
    return UINT64_C(0x8877665544332211) >> 8 * (offset & 7);
}

static void probe_write(void *obj, uint64_t offset, unsigned size, uint64_t value)
{
    Probe *p = obj;

    p->calls++;
    p->last_offset = offset;
    p->last_size = size;
    p->last_value = value;
}

static const RegionOps byte_ops = {"bytes", probe_read, probe_write, 1, 1};
static const RegionOps dword_ops = {"dwords", probe_read, probe_write, 4, 4};
static const RegionOps wide_ops = {"wide", probe_read, probe_write, 1, 8};

static void test_access_sizes(void)
{
    g_autoptr(AddressSpace) space = space_new("test", 1 << 16);
    Probe p = {};
    Region bytes, dwords, wide;

    region_init_io(&bytes, &byte_ops, &p, NULL, 16);
    region_init_io(&dwords, &dword_ops, &p, NULL, 16);
    region_init_io(&wide, &wide_ops, &p, NULL, 16);
    space_map(space, 0x100, &bytes, 0, 16, 0, false);
    space_map(space, 0x200, &dwords, 0, 16, 0, false);
    space_map(space, 0x300, &wide, 0, 16, 0, false);

    g_assert_cmphex(space_load(space, 0x100, 4), ==, 0x44332211);
    g_assert_cmpuint(p.calls, ==, 4);
    g_assert_cmphex(space_load(space, 0x202, 1), ==, 0x33);
    g_assert_cmpuint(p.last_size, ==, 4);
    g_assert_cmphex(space_load(space, 0x202, 4), ==, 0x66554433);
    space_store(space, 0x206, 1, 0xab);
    g_assert_cmphex(p.last_offset, ==, 4);
    g_assert_cmphex(p.last_value, ==, 0xab0000);
    p.calls = 0;
    g_assert_cmphex(space_load(space, 0x300, 8), ==, 0x8877665544332211);
    g_assert_cmpuint(p.calls, ==, 1);
    /* Crossing from a device into a hole. */
    g_assert_cmphex(space_load(space, 0x30f, 2), ==, 0xff88);
    g_assert_cmphex(space_load(space, 0xffff, 4), ==, 0xffffffff);
}

static void test_priority_and_alias(void)
{
    g_autoptr(AddressSpace) space = space_new("test", UINT64_C(1) << 40);
    g_autoptr(Ram) ram = ram_new("ram", 1 << 20, NULL);
    Region region;
    SpaceMapping *cover;
    Probe p = {};
    Region io;
    uint8_t buffer[8192];

    region_init_ram(&region, REGION_RAM, ram, 0, ram->size);
    region_init_io(&io, &wide_ops, &p, NULL, 4096);
    space_map(space, 0, &region, 0, 1 << 20, SPACE_PRIORITY_RAM, false);
    space_map(space, UINT64_C(1) << 32, &region, 0x80000, 0x1000, SPACE_PRIORITY_RAM, true);
    cover = space_map(space, 0x1000, &io, 0, 4096, SPACE_PRIORITY_BOARD, false);

    space_store(space, 0x80004, 4, 0xdeadbeef);
    g_assert_cmphex(space_load(space, (UINT64_C(1) << 32) + 4, 4), ==, 0xdeadbeef);
    space_store(space, (UINT64_C(1) << 32) + 4, 4, 0);
    g_assert_cmphex(space_load(space, 0x80004, 4), ==, 0xdeadbeef);

    /* DMA never reaches registers, and fails whole. */
    memset(ram->host, 0x55, 0x3000);
    p.calls = 0;
    memset(buffer, 1, sizeof(buffer));
    g_assert_false(space_write(space, 0x800, buffer, 0x1000));
    g_assert_cmphex(ram->host[0x800], ==, 0x55);
    g_assert_false(space_read(space, 0x800, buffer, 0x1000));
    g_assert_cmphex(buffer[0], ==, 0xff);
    g_assert_cmpuint(p.calls, ==, 0);
    g_assert_false(space_write(space, UINT64_C(1) << 32, buffer, 16));
    g_assert_false(space_write(space, UINT64_MAX - 3, buffer, 16));

    space_unmap(space, cover);
    g_assert_true(space_write(space, 0x800, buffer, 0x1000));
    g_assert_cmpmem(ram->host + 0x800, 0x1000, buffer, 0x1000);
}

typedef struct Model {
    struct {
        uint64_t address, size, offset;
        Region *region;
        int priority;
        bool live;
        SpaceMapping *mapping;
    } maps[24];
} Model;

static Region *model_at(const Model *model, uint64_t address, uint64_t *ret_offset)
{
    int best = -1;

    for (int i = 0; i < 24; i++) {
        if (!model->maps[i].live || address < model->maps[i].address ||
            address >= model->maps[i].address + model->maps[i].size)
            continue;
        if (best < 0 || model->maps[i].priority >= model->maps[best].priority)
            best = i;
    }
    if (best < 0)
        return NULL;
    *ret_offset = model->maps[best].offset + address - model->maps[best].address;
    return model->maps[best].region;
}

/* Slots are filled in ascending order so that a higher slot is a later mapping. */
static void test_flat_map_random(void)
{
    for (int round = 0; round < 50; round++) {
        g_autoptr(AddressSpace) space = space_new("test", 4096);
        Region regions[3];
        Model model = {};
        Probe p = {};

        for (int i = 0; i < 3; i++)
            region_init_io(&regions[i], &byte_ops, &p, NULL, 4096);
        space_begin(space);
        for (int i = 0; i < 24; i++) {
            uint64_t size = g_test_rand_int_range(1, 600), offset = g_test_rand_int_range(0, 3000);
            uint64_t address = g_test_rand_int_range(0, 4200);
            Region *region = &regions[g_test_rand_int_range(0, 3)];
            int priority = g_test_rand_int_range(0, 4);
            SpaceMapping *m = space_map(space, address, region, offset, size, priority, false);
            model.maps[i].address = address, model.maps[i].size = size,
            model.maps[i].offset = offset;
            model.maps[i].region = region, model.maps[i].priority = priority;
            model.maps[i].live = true, model.maps[i].mapping = m;
        }
        for (int i = 0; i < 24; i += 3) {
            space_unmap(space, model.maps[i].mapping);
            model.maps[i].live = false;
        }
        space_commit(space);
        for (uint64_t address = 0; address < 4096; address++) {
            uint64_t offset = 0;
            Region *want = model_at(&model, address, &offset);
            SpaceRange range = space_lookup(space, address);
            g_assert_true(range.region == want);
            if (want)
                g_assert_cmpuint(range.offset + (address - range.start), ==, offset);
        }
    }
}

static unsigned code_writes;

static void on_code(void *obj, Ram *ram, uint64_t offset, uint64_t size)
{
    code_writes++;
}

static void on_cleaned(void *obj, Ram *ram, uint64_t offset, uint64_t size)
{
}

static void test_page_flags(void)
{
    static const RamClientOps client = {on_code, on_cleaned, NULL};
    g_autoptr(Ram) ram = ram_new("ram", 16 * GUEST_PAGE_SIZE, NULL);
    g_autoptr(GArray) pages = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    g_autoptr(AddressSpace) space = space_new("test", 1 << 20);
    Region region;

    region_init_ram(&region, REGION_RAM, ram, 0, ram->size);
    space_map(space, 0, &region, 0, ram->size, 0, false);
    ram_set_client(ram, &client, NULL);
    ram_take_dirty(ram, RAM_CLEAN_DISPLAY, 0, ram->size, pages);
    g_assert_cmpuint(pages->len, ==, 16);
    g_array_set_size(pages, 0);
    space_store(space, 3 * GUEST_PAGE_SIZE - 2, 4, 1);
    ram_take_dirty(ram, RAM_CLEAN_DISPLAY, 0, ram->size, pages);
    g_assert_cmpuint(pages->len, ==, 2);
    g_assert_cmpuint(g_array_index(pages, uint64_t, 0), ==, 2);
    g_assert_cmpuint(g_array_index(pages, uint64_t, 1), ==, 3);
    code_writes = 0;
    ram->page_flags[5] |= RAM_CODE;
    space_store(space, 4 * GUEST_PAGE_SIZE, 4, 1);
    g_assert_cmpuint(code_writes, ==, 0);
    space_store(space, 5 * GUEST_PAGE_SIZE, 4, 1);
    g_assert_cmpuint(code_writes, ==, 1);
}

static void test_sparse(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Ram) ram = ram_new("ram", UINT64_C(64) << 30, &error);
    unsigned char resident[16];

    g_assert_no_error(error);
    ram->host[UINT64_C(63) << 30] = 1;
    g_assert_cmpint(mincore(ram->host + (UINT64_C(1) << 30), 16 * 4096, resident), ==, 0);
    for (int i = 0; i < 16; i++)
        g_assert_cmpint(resident[i] & 1, ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/space/access-sizes", test_access_sizes);
    g_test_add_func("/space/priority-and-alias", test_priority_and_alias);
    g_test_add_func("/space/flat-map-random", test_flat_map_random);
    g_test_add_func("/ram/page-flags", test_page_flags);
    g_test_add_func("/ram/sparse", test_sparse);
    return g_test_run();
}
