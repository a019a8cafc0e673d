/* SPDX-License-Identifier: GPL-3.0-or-later */
/* VMDK: parts of a sparse extent that lie where they may not, or that are cut; odd descriptors. */
#include "block/formats/vmdk.h"

#include "block/image_test_kit.h"

/* Where images made here have their first tables, in sectors; the grains come behind these. */
enum { TEXT = 1, REDUNDANT_TABLE = 22, DIRECTORY = 26, TABLE = 27, GRAINS = 128 };

#define SIZE MIB(2)

static void edit(const char *path, uint64_t offset, const void *data, size_t size)
{
    int fd = open(path, O_RDWR);
    g_assert_cmpint(pwrite(fd, data, size, (off_t)offset), ==, size);
    close(fd);
}

static void set_entry(const char *path, uint64_t table, uint32_t i, uint32_t sector)
{
    uint8_t entry[4];
    store_le32(entry, sector);
    edit(path, table * 512 + i * 4, entry, 4);
}

static uint64_t size_of(const char *path)
{
    struct stat st;
    g_assert_cmpint(stat(path, &st), ==, 0);
    return (uint64_t)st.st_size;
}

static void fill(const char *path, uint64_t at, uint8_t value, size_t size)
{
    g_autofree uint8_t *data = g_malloc(size);
    g_autoptr(Image) image = kit_open(path, "vmdk", false);
    memset(data, value, size);
    g_assert_cmpint(image_write(image, at, data, size), ==, 0);
}

static void expect(const char *path, uint64_t at, uint8_t value, size_t size)
{
    g_autofree uint8_t *data = g_malloc(size), *want = g_malloc(size);
    g_autoptr(Image) image = kit_open(path, "vmdk", true);
    memset(want, value, size);
    g_assert_cmpint(image_read(image, at, data, size), ==, 0);
    kit_expect(data, want, size, path);
}

static uint64_t corruptions(const char *path)
{
    CheckResult result = {0};
    g_autoptr(Image) image = kit_open(path, "vmdk", true);
    g_assert_true(vmdk_format.check(image->map, false, &result, NULL));
    g_clear_pointer(&result.messages, g_ptr_array_unref);
    return result.corruptions;
}

/* Three grains, of which the tables then say something else. */
static void test_shared(void)
{
    static const struct {
        const char *what;
        uint64_t table;
        uint32_t entry, sector;
    } faults[] = {
        {"two grains in one place", TABLE, 5, GRAINS},
        {"a grain on another one's end", TABLE, 1, GRAINS + 127},
        {"a grain on a table", TABLE, 1, TABLE},
        {"a grain on the redundant table", TABLE, 1, REDUNDANT_TABLE},
        {"a grain outside of the file", TABLE, 31, 0xffffffff},
        {"a table on the descriptor", DIRECTORY, 0, TEXT},
        {"a table behind the end of the file", DIRECTORY, 0, 1 << 20},
        {"behind the end of the disk", TABLE, 400, 1 << 20},
    };
    kit_enter_folder();
    for (size_t i = 0; i < G_N_ELEMENTS(faults); i++) {
        kit_create("image", "vmdk", SIZE, NULL, NULL);
        fill("image", 0, 7, 3 * VMDK_GRAIN);
        g_assert_cmpuint(corruptions("image"), ==, 0);
        g_test_message("%s", faults[i].what);
        set_entry("image", faults[i].table, faults[i].entry, faults[i].sector);
        g_assert_cmpuint(corruptions("image"), >, 0);
    }
    kit_leave_folder();
}

/* The last grain is cut where its zeros began: a new one must not begin there. */
static void test_cut_grain(void)
{
    kit_enter_folder();
    kit_create("image", "vmdk", SIZE, NULL, NULL);
    fill("image", 0, 7, 512);
    g_assert_cmpint(truncate("image", GRAINS * 512 + 512), ==, 0);
    fill("image", MIB(1), 8, VMDK_GRAIN);
    expect("image", 0, 7, 512);
    expect("image", 512, 0, VMDK_GRAIN - 512);
    fill("image", 512, 9, VMDK_GRAIN - 512);
    expect("image", MIB(1), 8, VMDK_GRAIN);
    g_assert_cmpuint(corruptions("image"), ==, 0);
    kit_leave_folder();
}

/* What stands behind a text's end is no part of it, and doesn't become one. */
static void test_text_end(void)
{
    static const char text[] = "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\n"
                               "createType=\"monolithicSparse\"\n\0\0parentCID=00000000\n";
    uint8_t zeros[20 * 512] = {0};
    kit_enter_folder();
    kit_create("image", "vmdk", SIZE, NULL, NULL);
    edit("image", TEXT * 512, zeros, sizeof(zeros));
    edit("image", TEXT * 512, text, sizeof(text));
    fill("image", 0, 7, 512); /* gets a longer CID */
    expect("image", 0, 7, 512);
    kit_leave_folder();
}

/* A part of a split image has no descriptor that could name a parent; it stays as it is. */
static void test_no_text(void)
{
    static const char *const split[] = {"subformat=twoGbMaxExtentSparse", NULL};
    g_autoptr(GError) error = NULL;
    kit_enter_folder();
    kit_create("image.vmdk", "vmdk", SIZE, NULL, split);
    kit_create("parent", "raw", SIZE, NULL, NULL);
    uint64_t size = size_of("image-s001.vmdk");
    g_autoptr(Image) part = kit_open("image-s001.vmdk", "vmdk", false);
    g_assert_false(vmdk_format.set_parent(part->map, "parent", "raw", "parent", &error));
    g_assert_nonnull(error);
    g_clear_pointer(&part, image_close);
    g_assert_cmpuint(size_of("image-s001.vmdk"), ==, size);
    fill("image.vmdk", 0, 7, 512);
    kit_leave_folder();
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/vmdk/shared", test_shared);
    g_test_add_func("/vmdk/cut-grain", test_cut_grain);
    g_test_add_func("/vmdk/text-end", test_text_end);
    g_test_add_func("/vmdk/no-text", test_no_text);
    return g_test_run();
}
