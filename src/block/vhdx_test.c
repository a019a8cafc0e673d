/* SPDX-License-Identifier: GPL-3.0-or-later */
/* VHDX: logs that others left behind, size, parents and damage; qemu-img and libvhdi judge. */
#include "block/formats/vhdx.h"

#include "block/crc32c.h"
#include "block/image_test_kit.h"

#define SIZE     MIB(5)
#define SECTOR   4096
#define LOG      MIB(1)
#define BAT      MIB(3) /* in images made here */
#define LOG_GUID "11111111-2222-3333-4444-555555555555"

typedef struct Fixture {
    GRand *rand;
    uint8_t *disk;
    Image *image;
} Fixture;

static void set_up(Fixture *f, gconstpointer p)
{
    static const char *const options[] = {"block_size=1M", NULL};
    kit_enter_folder();
    f->rand = g_rand_new_with_seed(3);
    f->disk = g_malloc0(SIZE);
    kit_create("a.vhdx", "vhdx", SIZE, NULL, options);
    f->image = kit_open("a.vhdx", "vhdx", false);
}

static void tear_down(Fixture *f, gconstpointer p)
{
    image_close(f->image);
    g_rand_free(f->rand);
    g_free(f->disk);
    kit_leave_folder();
}

static void change(Fixture *f, int count)
{
    for (int i = 0; i < count; i++)
        kit_random_op(f->image, f->disk, SIZE, f->rand);
}

static void expect_disk(Fixture *f, const char *path, bool read_only)
{
    g_autoptr(Image) image = kit_open(path, NULL, read_only);
    g_autofree uint8_t *got = kit_read_all(image, SIZE);
    kit_expect(got, f->disk, SIZE, path);
    kit_check(image);
}

static void judge(Fixture *f, const char *path)
{
    if (!kit_has_qemu())
        return;
    kit_do("qemu-img check -q %s", path);
    kit_do("qemu-img convert -O raw %s out.raw", path);
    kit_expect_file("out.raw", f->disk, SIZE);
}

static void edit(const char *path, uint64_t offset, const void *data, size_t size)
{
    int fd = open(path, O_RDWR);
    g_assert_cmpint(pwrite(fd, data, size, (off_t)offset), ==, size);
    close(fd);
}

static void fetch(const char *path, uint64_t offset, void *data, size_t size)
{
    int fd = open(path, O_RDONLY);
    g_assert_cmpint(pread(fd, data, size, (off_t)offset), ==, size);
    close(fd);
}

/* Changes both headers, or both region tables, and seals them again. */
static void edit_sealed(const char *path, uint64_t place, size_t block, size_t at, const void *data,
                        size_t size)
{
    g_autofree uint8_t *copy = g_malloc(block);
    for (int i = 0; i < 2; i++) {
        fetch(path, place + i * KIB(64), copy, block);
        memcpy(copy + at, data, size);
        store_le32(copy + 4, crc32c_around(copy, block, 4));
        edit(path, place + i * KIB(64), copy, block);
    }
}

/* ---- logs ------------------------------------------------------------------------------------ */

typedef struct Descriptor {
    uint64_t offset, zeros; /* zeros: that many bytes, data otherwise */
    const uint8_t *data;
} Descriptor;

/* Writes an entry into the ring at `at`; its size. */
static uint32_t write_entry(const char *path, uint32_t at, uint32_t tail, uint64_t sequence,
                            const Descriptor *list, uint32_t count)
{
    uint8_t *e = g_malloc0((1 + (size_t)count) * SECTOR);
    uint32_t size = SECTOR;
    struct stat st;
    g_assert_cmpint(stat(path, &st), ==, 0);
    memcpy(e, "loge", 4);
    store_le32(e + 12, tail);
    store_le64(e + 16, sequence);
    store_le32(e + 24, count);
    vhdx_store_guid(e + 32, LOG_GUID);
    store_le64(e + 48, (uint64_t)st.st_size);
    store_le64(e + 56, (uint64_t)st.st_size);
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *d = e + 64 + (size_t)i * 32, *s = e + size;
        memcpy(d, list[i].zeros ? "zero" : "desc", 4);
        store_le64(d + 16, list[i].offset);
        store_le64(d + 24, sequence);
        if (list[i].zeros) {
            store_le64(d + 8, list[i].zeros);
            continue;
        }
        memcpy(s, list[i].data, SECTOR);
        memcpy(d + 8, s, 8);
        memcpy(d + 4, s + SECTOR - 4, 4);
        memcpy(s, "data", 4);
        store_le32(s + 4, (uint32_t)(sequence >> 32));
        store_le32(s + SECTOR - 4, (uint32_t)sequence);
        size += SECTOR;
    }
    store_le32(e + 8, size);
    store_le32(e + 4, crc32c_around(e, size, 4));
    for (uint32_t done = 0; done < size; done += SECTOR)
        edit(path, LOG + (at + done) % MIB(1), e + done, SECTOR);
    g_free(e);
    return size;
}

/*
 * The image with its BAT taken back to what it was, and a log with the new one: first an older
 * state, then zeros, then the new; behind it an entry that was torn.
 */
static void make_dirty(Fixture *f, uint32_t at)
{
    uint8_t bat[SECTOR], none[SECTOR] = {0}, guid[16];
    change(f, 40);
    g_clear_pointer(&f->image, image_close);
    fetch("a.vhdx", BAT, bat, SECTOR);
    edit("a.vhdx", BAT, none, SECTOR);
    const Descriptor zero = {BAT, SECTOR}, data = {BAT, 0, bat};
    const Descriptor both[] = {zero, data};
    uint32_t tail = at % MIB(1);
    edit("a.vhdx", LOG, none, SECTOR);
    at += write_entry("a.vhdx", at, tail, 41, &zero, 1);
    at += write_entry("a.vhdx", at, tail, 42, &data, 1);
    at += write_entry("a.vhdx", at, tail, 43, both, 2);
    write_entry("a.vhdx", at, tail, 44, &zero, 1);
    edit("a.vhdx", LOG + (at + 100) % MIB(1), "x", 1);
    vhdx_store_guid(guid, LOG_GUID);
    edit_sealed("a.vhdx", KIB(64), SECTOR, VHDX_H_LOG_GUID, guid, 16);
}

static bool has_log(const char *path)
{
    g_autoptr(Image) image = kit_open(path, "vhdx", true);
    return !uuid_is_null(uuid_load(((Vhdx *)image->map)->header + VHDX_H_LOG_GUID));
}

static void test_log(Fixture *f, gconstpointer p)
{
    make_dirty(f, GPOINTER_TO_UINT(p));
    kit_do("cp a.vhdx theirs.vhdx");
    g_autofree char *before = kit_run("md5sum a.vhdx");
    expect_disk(f, "a.vhdx", true);
    g_autofree char *after = kit_run("md5sum a.vhdx");
    g_assert_cmpstr(before, ==, after);
    g_assert_true(has_log("a.vhdx"));
    expect_disk(f, "a.vhdx", false);
    g_assert_false(has_log("a.vhdx"));
    judge(f, "a.vhdx");
    f->image = kit_open("a.vhdx", NULL, false);
    change(f, 30);
    g_clear_pointer(&f->image, image_close);
    judge(f, "a.vhdx");
    /* The same log replayed by qemu gives the same image. */
    if (!kit_has_qemu())
        return;
    kit_do("qemu-img check -q -r all theirs.vhdx");
    g_assert_false(has_log("theirs.vhdx"));
}

/* Opened read-only, the log counts for bitmaps and the BAT without being replayed. */
static void test_log_of_child(Fixture *f, gconstpointer p)
{
    uint8_t piece[SECTOR], none[SECTOR] = {0}, guid[16];
    g_clear_pointer(&f->image, image_close);
    kit_create("child", "vhdx", SIZE, "a.vhdx", NULL);
    f->image = kit_open("child", "vhdx", false);
    change(f, 40);
    Vhdx *v = (Vhdx *)f->image->map;
    g_assert_cmpint(image_flush(f->image), ==, 0);
    uint64_t bitmap = vhdx_place(vhdx_entry(v, vhdx_bitmap_index(v, 0)));
    g_clear_pointer(&f->image, image_close);
    fetch("child", bitmap, piece, SECTOR);
    edit("child", bitmap, none, SECTOR);
    write_entry("child", 0, 0, 7, &(Descriptor){bitmap, 0, piece}, 1);
    vhdx_store_guid(guid, LOG_GUID);
    edit_sealed("child", KIB(64), SECTOR, VHDX_H_LOG_GUID, guid, 16);
    expect_disk(f, "child", true);
    g_assert_true(has_log("child"));
    expect_disk(f, "child", false);
    g_assert_false(has_log("child"));
    expect_disk(f, "child", true);
}

static void expect_refusal(const char *path, const char *words)
{
    GError *error = NULL;
    ImageOptions options = {0};
    g_assert_null(image_open(path, &options, &error));
    if (!strstr(error->message, words))
        g_error("'%s' lacks '%s'", error->message, words);
    g_clear_error(&error);
}

static void test_bad_logs(Fixture *f, gconstpointer p)
{
    make_dirty(f, 0);
    kit_do("cp a.vhdx short.vhdx; truncate -s 4M short.vhdx");
    expect_refusal("short.vhdx", "more than the file holds");
    edit_sealed("a.vhdx", KIB(64), SECTOR, VHDX_H_LOG_VERSION, "\1", 1);
    expect_refusal("a.vhdx", "log version");
}

/* ---- size, parents, damage ------------------------------------------------------------------- */

static void test_resize(Fixture *f, gconstpointer p)
{
    GError *error = NULL;
    change(f, 40);
    /* The BAT has no room for this many blocks and moves. */
    g_assert_true(image_resize(f->image, GIB(300), &error));
    g_assert_cmpint(image_write(f->image, GIB(299), f->disk, 4096), ==, 0);
    kit_check(f->image);
    g_assert_true(image_resize(f->image, MIB(1) + 512, &error));
    g_assert_true(image_resize(f->image, SIZE, &error));
    g_assert_no_error(error);
    memset(f->disk + MIB(1) + 512, 0, SIZE - MIB(1) - 512);
    change(f, 10);
    g_clear_pointer(&f->image, image_close);
    expect_disk(f, "a.vhdx", false);
    judge(f, "a.vhdx");
}

static void test_resize_fixed(Fixture *f, gconstpointer p)
{
    static const char *const options[] = {"block_size=1M", "subformat=fixed", NULL};
    GError *error = NULL;
    g_clear_pointer(&f->image, image_close);
    kit_create("a.vhdx", "vhdx", MIB(3), NULL, options);
    f->image = kit_open("a.vhdx", "vhdx", false);
    g_assert_true(image_resize(f->image, SIZE, &error));
    g_assert_no_error(error);
    change(f, 30);
    g_clear_pointer(&f->image, image_close);
    expect_disk(f, "a.vhdx", false);
    judge(f, "a.vhdx");
}

/* Another reader of chains. */
static void judge_by_libvhdi(Fixture *f, const char *child, const char *parent)
{
    g_autofree char *script =
        g_strdup_printf("import pyvhdi\n"
                        "p = pyvhdi.file(); p.open('%s')\n"
                        "c = pyvhdi.file(); c.open('%s'); c.set_parent(p)\n"
                        "open('out.raw', 'wb').write(c.read(%" G_GUINT64_FORMAT "))\n",
                        parent, child, (uint64_t)SIZE);
    g_assert_true(g_file_set_contents("read.py", script, -1, NULL));
    if (system("/usr/bin/python3 -c 'import pyvhdi' 2>/dev/null") != 0) {
        g_test_skip("python3-libvhdi is not installed");
        return;
    }
    kit_do("/usr/bin/python3 read.py");
    kit_expect_file("out.raw", f->disk, SIZE);
}

static void test_parent(Fixture *f, gconstpointer p)
{
    GError *error = NULL;
    change(f, 40);
    g_clear_pointer(&f->image, image_close);
    kit_create("child.vhdx", "vhdx", SIZE, "a.vhdx", NULL);
    f->image = kit_open("child.vhdx", NULL, false);
    g_assert_cmpstr(f->image->map->parent_format, ==, "vhdx");
    change(f, 40);
    g_clear_pointer(&f->image, image_close);
    expect_disk(f, "child.vhdx", true);
    judge_by_libvhdi(f, "child.vhdx", "a.vhdx");

    /* Over a copy of the parent in another format, and back. */
    kit_do("cp a.vhdx b.vhdx");
    f->image = kit_open("child.vhdx", NULL, false);
    g_assert_true(f->image->driver->set_parent(f->image->map, "b.vhdx", "vhdx", "b.vhdx", &error));
    g_clear_pointer(&f->image, image_close);
    expect_disk(f, "child.vhdx", true);

    /* A parent that was changed is not the one it was made over. */
    Image *parent = kit_open("b.vhdx", NULL, false);
    g_assert_cmpint(image_write(parent, 0, f->disk, 512), ==, 0);
    image_close(parent);
    expect_refusal("child.vhdx", "changed");
}

/* Without a parent all blocks are whole; with one again they stay so. */
static void test_no_parent(Fixture *f, gconstpointer p)
{
    GError *error = NULL;
    g_clear_pointer(&f->image, image_close);
    kit_create("child.vhdx", "vhdx", SIZE, "a.vhdx", NULL);
    f->image = kit_open("child.vhdx", NULL, false);
    change(f, 40);
    g_assert_true(f->image->driver->set_parent(f->image->map, NULL, NULL, NULL, &error));
    g_clear_pointer(&f->image, image_close);
    expect_disk(f, "child.vhdx", false);
    judge(f, "child.vhdx");
    f->image = kit_open("child.vhdx", NULL, false);
    g_assert_true(f->image->driver->set_parent(f->image->map, "a.vhdx", "vhdx", "a.vhdx", &error));
    g_assert_no_error(error);
    g_clear_pointer(&f->image, image_close);
    f->image = kit_open("child.vhdx", NULL, false);
    change(f, 40);
    g_clear_pointer(&f->image, image_close);
    expect_disk(f, "child.vhdx", false);
}

static void test_copies(Fixture *f, gconstpointer p)
{
    uint8_t none[64] = {0};
    change(f, 40);
    g_clear_pointer(&f->image, image_close);
    edit("a.vhdx", KIB(64 + 64 * (p ? 1 : 0)), none, sizeof(none));
    edit("a.vhdx", KIB(192 + 64 * (p ? 1 : 0)), none, sizeof(none));
    f->image = kit_open("a.vhdx", NULL, false);
    change(f, 10);
    g_clear_pointer(&f->image, image_close);
    expect_disk(f, "a.vhdx", true);
    judge(f, "a.vhdx");
    /* The first write mended the other copies. */
    edit("a.vhdx", KIB(192 + 64 * (p ? 0 : 1)), none, sizeof(none));
    expect_disk(f, "a.vhdx", true);
}

static void test_refusals(Fixture *f, gconstpointer p)
{
    uint8_t entry[32] = {1, [28] = 1}, word[8];
    g_clear_pointer(&f->image, image_close);
    /* The end of such a block is where numbers begin again. */
    store_le64(word, ~(uint64_t)0 << 20 | VHDX_FULL);
    edit("a.vhdx", BAT, word, 8);
    expect_refusal("a.vhdx", "damaged");
    store_le64(word, MIB(4) | VHDX_FULL);
    edit("a.vhdx", BAT, word, 8);
    edit("a.vhdx", BAT + 8, word, 8);
    expect_refusal("a.vhdx", "share a place");
    kit_do("cp a.vhdx c.vhdx");
    fetch("c.vhdx", MIB(2) + 32 + 16, word,
          4); /* the second item of the metadata is where the first is */
    edit("c.vhdx", MIB(2) + 64 + 16, word, 4);
    expect_refusal("c.vhdx", "damaged");
    kit_do("cp a.vhdx c.vhdx");
    edit("c.vhdx", MIB(2) + KIB(64), "\0\0\0\0", 4);
    expect_refusal("c.vhdx", "block size");
    store_le32(entry + 24, (uint32_t)MIB(1));
    edit_sealed("a.vhdx", KIB(192), KIB(64), 8, "\3", 1);
    edit_sealed("a.vhdx", KIB(192), KIB(64), 16 + 64, entry, 32);
    expect_refusal("a.vhdx", "does not know");
    edit_sealed("a.vhdx", KIB(64), SECTOR, VHDX_H_VERSION, "\2", 1);
    expect_refusal("a.vhdx", "version");
    edit("a.vhdx", KIB(64) + 8, "x", 1);
    edit("a.vhdx", KIB(128) + 8, "x", 1);
    expect_refusal("a.vhdx", "headers");
}

#define ADD(name, data, test) g_test_add("/vhdx/" name, Fixture, data, set_up, test, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("log", NULL, test_log);
    ADD("log/wrapped", GUINT_TO_POINTER(MIB(1) - 3 * SECTOR), test_log);
    ADD("log/child", NULL, test_log_of_child);
    ADD("log/bad", NULL, test_bad_logs);
    ADD("resize", NULL, test_resize);
    ADD("resize/fixed", NULL, test_resize_fixed);
    ADD("parent", NULL, test_parent);
    ADD("parent/none", NULL, test_no_parent);
    ADD("copies/first", NULL, test_copies);
    ADD("copies/second", GUINT_TO_POINTER(1), test_copies);
    ADD("refusals", NULL, test_refusals);
    return g_test_run();
}
