/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Every format with every option: random operations against a disk in memory, with qemu-img as the
 * judge of what was written and as the maker of what is read.
 */
#include "block/formats/qcow2.h"
#include "block/image_test_kit.h"

#define DISK_SIZE (MIB(9) + 512 * 37)

typedef struct Case {
    const char *name;
    const char *format; /* ours */
    const char *theirs; /* qemu-img's; NULL: it cannot judge */
    const char *options[4];
    const char *parent; /* format of a parent; NULL: none */
    bool can_check;     /* qemu-img check knows the format */
    bool rounds;        /* qemu may see the disk larger */
    bool ours_only;     /* qemu can't write it in place */
} Case;

static const Case cases[] = {
    {"raw", "raw", "raw"},
    {"qcow2", "qcow2", "qcow2", {NULL}, NULL, true},
    {"qcow2-v2", "qcow2", "qcow2", {"compat=0.10"}, NULL, true},
    {"qcow2-512", "qcow2", "qcow2", {"cluster_size=512"}, NULL, true},
    {"qcow2-4k-1bit", "qcow2", "qcow2", {"cluster_size=4096", "refcount_bits=1"}, NULL, true},
    {"qcow2-512-64bit", "qcow2", "qcow2", {"cluster_size=512", "refcount_bits=64"}, NULL, true},
    {"qcow2-2m-2bit", "qcow2", "qcow2", {"cluster_size=2M", "refcount_bits=2"}, NULL, true},
    {"qcow2-8bit", "qcow2", "qcow2", {"refcount_bits=8", "lazy_refcounts=on"}, NULL, true},
    {"qcow2-32bit-zstd",
     "qcow2",
     "qcow2",
     {"refcount_bits=32", "compression_type=zstd"},
     NULL,
     true},
    {"qcow2-extended", "qcow2", "qcow2", {"extended_l2=on"}, NULL, true},
    {"qcow2-extended-16k", "qcow2", "qcow2", {"extended_l2=on", "cluster_size=16k"}, NULL, true},
    {"qcow2-data-file", "qcow2", "qcow2", {"data_file=data.raw"}, NULL, true},
    {"qcow2-data-file-raw",
     "qcow2",
     "qcow2",
     {"data_file=data.raw", "data_file_raw=on"},
     NULL,
     true},
    {"qcow2-metadata", "qcow2", "qcow2", {"preallocation=metadata"}, NULL, true},
    {"qcow2-over-raw", "qcow2", "qcow2", {NULL}, "raw", true},
    {"qcow2-over-qcow2", "qcow2", "qcow2", {NULL}, "qcow2", true},
    {"qcow2-v2-over-raw", "qcow2", "qcow2", {"compat=0.10"}, "raw", true},
    {"qcow2-extended-over-raw", "qcow2", "qcow2", {"extended_l2=on"}, "raw", true},
    {"qcow", "qcow", "qcow"},
    {"qcow-over-qcow2", "qcow", "qcow", {NULL}, "qcow2"},
    {"vdi", "vdi", "vdi", {NULL}, NULL, true},
    {"vdi-fixed", "vdi", "vdi", {"static=on"}, NULL, true},
    {"vdi-over-qcow2", "vdi", NULL, {NULL}, "qcow2"},
    {"vdi-over-vdi", "vdi", NULL, {NULL}, "vdi"},
    {"vhd", "vhd", "vpc", {NULL}, NULL, false, true},
    {"vhd-fixed", "vhd", "vpc", {"subformat=fixed"}, NULL, false, true},
    {"vhd-over-raw", "vhd", NULL, {NULL}, "raw"},
    {"vhd-over-vhd", "vhd", NULL, {NULL}, "vhd"},
    {"vhdx", "vhdx", "vhdx", {NULL}, NULL, true},
    {"vhdx-1m", "vhdx", "vhdx", {"block_size=1M"}, NULL, true},
    {"vhdx-fixed", "vhdx", "vhdx", {"subformat=fixed"}, NULL, true},
    {"vhdx-over-raw", "vhdx", NULL, {NULL}, "raw"},
    {"vhdx-over-vhdx", "vhdx", NULL, {"block_size=1M"}, "vhdx"},
    {"vmdk", "vmdk", "vmdk", {NULL}, NULL, true},
    {"vmdk-zero", "vmdk", "vmdk", {"zeroed_grain=on"}, NULL, true},
    {"vmdk-flat", "vmdk", "vmdk", {"subformat=monolithicFlat"}},
    {"vmdk-split", "vmdk", "vmdk", {"subformat=twoGbMaxExtentSparse"}},
    {"vmdk-split-flat", "vmdk", "vmdk", {"subformat=twoGbMaxExtentFlat"}},
    {"vmdk-stream", "vmdk", "vmdk", {"subformat=streamOptimized"}, NULL, true, false, true},
    {"vmdk-over-vmdk", "vmdk", "vmdk", {NULL}, "vmdk", true},
    {"vmdk-over-qcow2", "vmdk", NULL, {NULL}, "qcow2"},
    {"qcow2-4k-over-qcow2", "qcow2", "qcow2", {"cluster_size=4k"}, "qcow2", true},
};

/* A parent with something in it, somewhat shorter than the disk. */
static void make_parent(const Case *c, uint8_t *disk, GRand *rand)
{
    if (!c->parent)
        return;
    uint64_t size = align_down(DISK_SIZE * 3 / 4, 512);
    kit_create("parent", c->parent, size, NULL, NULL);
    g_autoptr(Image) parent = kit_open("parent", c->parent, false);
    for (int i = 0; i < 40; i++)
        kit_random_op(parent, disk, size, rand);
}

static void judge(const Case *c, const char *path, const uint8_t *disk)
{
    if (!c->theirs || !kit_has_qemu())
        return;
    if (c->can_check)
        kit_do("qemu-img check -q -f %s %s", c->theirs, path);
    kit_do("qemu-img convert -f %s -O raw %s out.raw", c->theirs, path);
    if (c->rounds)
        g_assert_cmpint(truncate("out.raw", DISK_SIZE), ==, 0);
    kit_expect_file("out.raw", disk, DISK_SIZE);
}

static void exercise(const Case *c, const char *path, uint8_t *disk, GRand *rand, int rounds)
{
    for (int round = 0; round < rounds; round++) {
        g_autoptr(Image) image = kit_open(path, c->format, false);
        g_autofree uint8_t *before = kit_read_all(image, DISK_SIZE);
        kit_expect(before, disk, DISK_SIZE, "reopened");
        for (int i = 0; i < 60; i++)
            kit_random_op(image, disk, DISK_SIZE, rand);
        g_autofree uint8_t *after = kit_read_all(image, DISK_SIZE);
        kit_expect(after, disk, DISK_SIZE, "at the end");
        g_assert_cmpint(image_flush(image), ==, 0);
        g_assert_cmpint(image_flush(image), ==, 0);
        kit_check(image);
        if (image->map->parent_name)
            g_assert_nonnull(image->parent);
    }
}

static void test_ours(gconstpointer data)
{
    const Case *c = data;
    g_autofree uint8_t *disk = g_malloc0(DISK_SIZE);
    g_autoptr(GRand) rand = g_rand_new_with_seed(7);
    kit_enter_folder();
    make_parent(c, disk, rand);
    kit_create("ours", c->format, DISK_SIZE, c->parent ? "parent" : NULL, c->options);
    exercise(c, "ours", disk, rand, 4);
    judge(c, "ours", disk);
    kit_leave_folder();
}

/* Writes by qemu-io, in one call. */
static void let_them_write(const Case *c, uint8_t *disk, GRand *rand)
{
    g_autoptr(GString) commands = g_string_new(NULL);
    for (int i = 0; i < 40; i++) {
        unsigned first = (unsigned)g_rand_int_range(rand, 0, DISK_SIZE / 512 - 400);
        unsigned count = (unsigned)g_rand_int_range(rand, 1, 400);
        int byte = g_rand_int_range(rand, 0, 4) ? g_rand_int_range(rand, 1, 255) : 0;
        if (byte)
            g_string_append_printf(commands, " -c 'write -P %d %u %u'", byte, first * 512,
                                   count * 512);
        else
            g_string_append_printf(commands, " -c 'write -z -u %u %u'", first * 512, count * 512);
        memset(disk + first * 512, byte, count * 512);
    }
    kit_do("qemu-io -f %s %s theirs", c->theirs, commands->str);
}

static void test_theirs(gconstpointer data)
{
    const Case *c = data;
    g_autofree uint8_t *disk = g_malloc0(DISK_SIZE);
    g_autoptr(GRand) rand = g_rand_new_with_seed(11);
    if (!c->theirs || c->ours_only || !kit_has_qemu())
        return;
    kit_enter_folder();
    make_parent(c, disk, rand);
    g_autofree char *options = g_strjoinv(",", (char **)c->options);
    g_autofree char *parent =
        c->parent ? g_strdup_printf("-b parent -F %s", c->parent) : g_strdup("");
    kit_do("qemu-img create -q -f %s %s%s %s theirs %" G_GUINT64_FORMAT, c->theirs,
           *options ? "-o " : "", options, parent, (uint64_t)DISK_SIZE);
    let_them_write(c, disk, rand);
    exercise(c, "theirs", disk, rand, 2);
    judge(c, "theirs", disk);
    kit_leave_folder();
}

static uint32_t vdi_type(const char *path)
{
    g_autofree char *data = NULL;
    g_assert_true(g_file_get_contents(path, &data, NULL, NULL));
    return load_le32(data + 0x4c);
}

/* An undo image is a differencing one by another type, which stays. */
static void test_vdi_undo(void)
{
    const Case c = {"vdi-undo", "vdi", NULL, {NULL}, "vdi"};
    g_autofree uint8_t *disk = g_malloc0(DISK_SIZE);
    g_autoptr(GRand) rand = g_rand_new_with_seed(13);
    kit_enter_folder();
    make_parent(&c, disk, rand);
    kit_create("undo", "vdi", DISK_SIZE, "parent", NULL);
    kit_do("printf '\\003' | dd of=undo bs=1 seek=%d conv=notrunc 2>/dev/null", 0x4c);
    g_assert_cmpuint(vdi_type("undo"), ==, 3);
    exercise(&c, "undo", disk, rand, 4);
    g_assert_cmpuint(vdi_type("undo"), ==, 3);
    kit_leave_folder();
}

/* A small request must not pay for all that lies together behind it. */
static void test_short_lookup(void)
{
    static const char *const formats[] = {"qcow", "qcow2", "vdi", "vhd", "vhdx", "vmdk"};
    enum { SIZE = MIB(8) };
    g_autofree uint8_t *data = g_malloc(SIZE);
    memset(data, 7, SIZE);
    kit_enter_folder();
    for (size_t i = 0; i < G_N_ELEMENTS(formats); i++) {
        Extent extent;
        kit_create(formats[i], formats[i], SIZE, NULL, NULL);
        g_autoptr(Image) image = kit_open(formats[i], formats[i], false);
        const ImageMap *map = image->map;
        g_assert_cmpint(image_write(image, 0, data, SIZE), ==, 0);
        g_assert_cmpint(image->driver->lookup(image->map, 512, 1024, false, &extent), ==, 0);
        g_assert_cmpint(extent.kind, ==, EXTENT_DATA);
        g_assert_cmpuint(extent.length, >=, MIN(1024, map->unit_size - 512));
        g_assert_cmpuint(extent.length, <=, map->unit_size);
    }
    kit_leave_folder();
}

static uint64_t find_corruptions(const char *path, const char *format, bool repair)
{
    CheckResult result = {0};
    ImageOptions options = {.format = format, .read_only = !repair, .ignore_damage = repair};
    g_autoptr(Image) image = kit_open_with(path, &options);
    g_assert_true(image->driver->check(image->map, repair, &result, NULL));
    g_clear_pointer(&result.messages, g_ptr_array_unref);
    return result.corruptions;
}

static uint64_t peek(const char *path, uint64_t at)
{
    uint8_t number[8];
    int fd = open(path, O_RDONLY);
    g_assert_cmpint(pread(fd, number, 8, (off_t)at), ==, 8);
    close(fd);
    return load_be64(number);
}

static void poke(const char *path, uint64_t at, uint64_t value)
{
    uint8_t number[8];
    int fd = open(path, O_WRONLY);
    store_be64(number, value);
    g_assert_cmpint(pwrite(fd, number, 8, (off_t)at), ==, 8);
    close(fd);
}

/* Data that lie on a table: no count of uses makes that good. */
static void test_two_purposes(void)
{
    kit_enter_folder();
    kit_create("qcow2", "qcow2", DISK_SIZE, NULL, NULL);
    kit_create("vhd", "vhd", DISK_SIZE, NULL, NULL);
    static const char *const formats[] = {"qcow2", "vhd"};
    for (size_t i = 0; i < G_N_ELEMENTS(formats); i++) {
        uint8_t sector[512] = {7};
        g_autoptr(Image) image = kit_open(formats[i], formats[i], false);
        g_assert_cmpint(image_write(image, 0, sector, sizeof(sector)), ==, 0);
        g_clear_pointer(&image, image_close);
        g_assert_cmpuint(find_corruptions(formats[i], formats[i], false), ==, 0);
    }
    /* The second cluster of the disk is where the L2 table is … */
    uint64_t table = peek("qcow2", peek("qcow2", 40)) & ~QCOW2_COPIED;
    poke("qcow2", table + 8, table | QCOW2_COPIED);
    find_corruptions("qcow2", "qcow2", true);
    g_assert_cmpuint(find_corruptions("qcow2", "qcow2", false), >, 0);
    /* … and the first two blocks where the header is. */
    poke("vhd", 2560, UINT64_C(0x100000001));
    g_assert_cmpuint(find_corruptions("vhd", "vhd", false), >, 0);
    kit_leave_folder();
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/image/two-purposes", test_two_purposes);
    g_test_add_func("/image/short-lookup", test_short_lookup);
    g_test_add_func("/image/vdi-undo", test_vdi_undo);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *ours = g_strdup_printf("/image/%s/ours", cases[i].name);
        g_autofree char *theirs = g_strdup_printf("/image/%s/theirs", cases[i].name);
        g_test_add_data_func(ours, &cases[i], test_ours);
        g_test_add_data_func(theirs, &cases[i], test_theirs);
    }
    return g_test_run();
}
