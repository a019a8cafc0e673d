/* SPDX-License-Identifier: GPL-3.0-or-later */
/* qcow2: snapshots, packed clusters, size, parents and marks, with qemu-img as the judge. */
#include <glib/gstdio.h>
#include <inttypes.h>

#include "block/formats/qcow2.h"

#include "block/image_test_kit.h"

#define SIZE MIB(6)

typedef struct Fixture {
    GRand *rand;
    uint8_t *disk;
    Image *image;
} Fixture;

static void set_up(Fixture *f, gconstpointer options)
{
    kit_enter_folder();
    f->rand = g_rand_new_with_seed(3);
    f->disk = g_malloc0(2 * SIZE);
    const char *list[] = {options, NULL};
    kit_create("a.qcow2", "qcow2", SIZE, NULL, options ? list : NULL);
    f->image = kit_open("a.qcow2", "qcow2", false);
}

static void tear_down(Fixture *f, gconstpointer options)
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

static void expect_disk(Fixture *f, const uint8_t *want)
{
    g_autofree uint8_t *got = kit_read_all(f->image, SIZE);
    kit_expect(got, want, SIZE, "disk");
}

static void judge(Fixture *f)
{
    image_close(f->image);
    f->image = NULL;
    if (kit_has_qemu())
        kit_do("qemu-img check -q a.qcow2");
    f->image = kit_open("a.qcow2", NULL, false);
}

static void test_snapshots(Fixture *f, gconstpointer p)
{
    const FormatSnapshots *s = f->image->driver->snapshots;
    GError *error = NULL;
    change(f, 40);
    g_autofree uint8_t *first = g_memdup2(f->disk, SIZE);
    g_assert_true(s->create(f->image->map, "first", &error));
    change(f, 40);
    g_autofree uint8_t *second = g_memdup2(f->disk, SIZE);
    g_assert_true(s->create(f->image->map, "second", &error));
    change(f, 40);
    expect_disk(f, f->disk);
    kit_check(f->image);
    judge(f);
    g_autoptr(GPtrArray) list = s->list(f->image->map);
    g_assert_cmpuint(list->len, ==, 2);
    g_assert_cmpstr(((SnapshotInfo *)list->pdata[1])->name, ==, "second");
    g_assert_true(s->apply(f->image->map, "first", &error));
    expect_disk(f, first);
    judge(f);
    memcpy(f->disk, first, SIZE);
    change(f, 30);
    expect_disk(f, f->disk);
    g_assert_true(s->remove(f->image->map, "1", &error));
    judge(f);
    g_assert_true(s->apply(f->image->map, "second", &error));
    expect_disk(f, second);
    g_assert_true(s->remove(f->image->map, "second", &error));
    g_assert_no_error(error);
    kit_check(f->image);
    judge(f);
    expect_disk(f, second);
    g_assert_false(s->apply(f->image->map, "third", &error));
    g_assert_nonnull(strstr(error->message, "third"));
    g_clear_error(&error);
}

static void test_their_snapshots(Fixture *f, gconstpointer p)
{
    if (!kit_has_qemu())
        return;
    change(f, 40);
    judge(f);
    image_close(f->image);
    kit_do("qemu-img snapshot -c theirs a.qcow2");
    g_autofree uint8_t *then = g_memdup2(f->disk, SIZE);
    f->image = kit_open("a.qcow2", NULL, false);
    change(f, 40);
    kit_check(f->image);
    judge(f);
    image_close(f->image);
    kit_do("qemu-img snapshot -a theirs a.qcow2");
    f->image = kit_open("a.qcow2", NULL, false);
    expect_disk(f, then);
    kit_check(f->image);
}

static void test_packed(Fixture *f, gconstpointer p)
{
    uint32_t unit = f->image->map->unit_size;
    g_autofree uint8_t *stored = g_malloc(2 * unit);
    for (uint64_t at = 0; at < SIZE; at += unit) {
        for (uint32_t i = 0; i < unit; i++)
            f->disk[at + i] = (uint8_t)(i * (at / unit + 1) / 37);
        size_t size = f->image->driver->compress(f->image->map, f->disk + at, stored);
        int result = size ? image_write_compressed(f->image, at, stored, (uint32_t)size)
                          : image_write(f->image, at, f->disk + at, unit);
        g_assert_cmpint(result, ==, 0);
    }
    expect_disk(f, f->disk);
    judge(f);
    if (kit_has_qemu()) {
        image_close(f->image);
        kit_do("qemu-img convert -O raw a.qcow2 a.raw");
        kit_expect_file("a.raw", f->disk, SIZE);
        kit_do("qemu-img convert -c -O qcow2 -o %s a.raw a.qcow2", p ? (char *)p : "compat=1.1");
        f->image = kit_open("a.qcow2", NULL, false);
        expect_disk(f, f->disk);
    }
    change(f, 60);
    expect_disk(f, f->disk);
    kit_check(f->image);
    judge(f);
}

static void write_packed(Fixture *f, uint64_t at, uint8_t value)
{
    uint32_t unit = f->image->map->unit_size;
    g_autofree uint8_t *stored = g_malloc(2 * (size_t)unit);
    memset(f->disk + at, value, unit);
    size_t size = f->image->driver->compress(f->image->map, f->disk + at, stored);
    g_assert_cmpint(image_write_compressed(f->image, at, stored, (uint32_t)size), ==, 0);
}

/* The cluster that packed ones went to last is another's, once a snapshot has taken it away. */
static void test_packed_snapshot(Fixture *f, gconstpointer p)
{
    const FormatSnapshots *snapshots = f->image->driver->snapshots;
    uint32_t unit = f->image->map->unit_size;
    g_assert_true(snapshots->create(f->image->map, "empty", NULL));
    write_packed(f, 0, 7);
    g_assert_cmpint(image_flush(f->image), ==, 0);
    g_assert_true(snapshots->apply(f->image->map, "empty", NULL));
    memset(f->disk, 0, unit);
    for (uint64_t at = 4; at < 12; at++) {
        memset(f->disk + at * unit, 8, unit);
        g_assert_cmpint(image_write(f->image, at * unit, f->disk + at * unit, unit), ==, 0);
    }
    write_packed(f, unit, 9);
    expect_disk(f, f->disk);
    kit_check(f->image);
}

static void test_resize(Fixture *f, gconstpointer p)
{
    GError *error = NULL;
    change(f, 40);
    g_assert_true(f->image->driver->resize(f->image->map, GIB(300), &error));
    memset(f->disk + SIZE, 0, SIZE);
    kit_check(f->image);
    judge(f);
    expect_disk(f, f->disk);
    g_assert_cmpint(image_write(f->image, GIB(299), f->disk, 4096), ==, 0);
    g_assert_true(f->image->driver->resize(f->image->map, MIB(1), &error));
    judge(f);
    g_assert_true(f->image->driver->resize(f->image->map, SIZE, &error));
    memset(f->disk + MIB(1), 0, SIZE - MIB(1));
    expect_disk(f, f->disk);
    judge(f);
}

static void set_u64(unsigned offset, uint64_t value)
{
    uint8_t field[8];
    int fd = open("a.qcow2", O_RDWR);
    store_be64(field, value);
    g_assert_cmpint(pwrite(fd, field, 8, offset), ==, 8);
    close(fd);
}

/* A crash of a program that writes counts late leaves the dirty mark: they are rebuilt. */
static void test_dirty(Fixture *f, gconstpointer p)
{
    change(f, 40);
    image_flush(f->image);
    qcow2_commit_all((Qcow2 *)f->image->map);
    uint64_t block = ((Qcow2 *)f->image->map)->reftable[0];
    image_close(f->image);
    uint8_t zeros[64] = {0};
    int fd = open("a.qcow2", O_RDWR);
    g_assert_cmpint(pwrite(fd, zeros, 64, (off_t)block + 20), ==, 64);
    close(fd);
    set_u64(QCOW2_H_INCOMPATIBLE, QCOW2_DIRTY);
    f->image = kit_open("a.qcow2", NULL, false);
    g_assert_cmpuint(((Qcow2 *)f->image->map)->incompatible, ==, 0);
    expect_disk(f, f->disk);
    kit_check(f->image);
    judge(f);
}

static void expect_refusal(const char *words)
{
    GError *error = NULL;
    ImageOptions options = {0};
    g_assert_null(image_open("a.qcow2", &options, &error));
    if (!strstr(error->message, words))
        g_error("'%s' lacks '%s'", error->message, words);
    g_clear_error(&error);
}

static void test_refusals(Fixture *f, gconstpointer p)
{
    g_clear_pointer(&f->image, image_close);
    set_u64(QCOW2_H_INCOMPATIBLE, UINT64_C(1) << 37);
    expect_refusal("bit 37");
    set_u64(QCOW2_H_INCOMPATIBLE, QCOW2_CORRUPT);
    expect_refusal("corrupt");
    set_u64(QCOW2_H_INCOMPATIBLE, 0);
    set_u64(QCOW2_H_SIZE, UINT64_C(1) << 63);
    expect_refusal("size");
    set_u64(QCOW2_H_SIZE, SIZE);
    set_u64(QCOW2_H_L1_OFFSET, GIB(100));
    expect_refusal("L1 table offset");
    set_u64(QCOW2_H_L1_OFFSET, 0);
    set_u64(QCOW2_H_REFTABLE_OFFSET, UINT64_MAX - 511);
    expect_refusal("refcount table");
}

static void test_autoclear(Fixture *f, gconstpointer p)
{
    uint8_t sector[512] = {1};
    g_clear_pointer(&f->image, image_close);
    set_u64(QCOW2_H_AUTOCLEAR, UINT64_C(1) << 60);
    f->image = kit_open("a.qcow2", NULL, false);
    g_assert_cmpuint(((Qcow2 *)f->image->map)->autoclear, !=, 0);
    g_assert_cmpint(image_write(f->image, 0, sector, 512), ==, 0);
    g_clear_pointer(&f->image, image_close);
    f->image = kit_open("a.qcow2", NULL, false);
    g_assert_cmpuint(((Qcow2 *)f->image->map)->autoclear, ==, 0);
}

/* Which granules qemu's bitmap calls dirty, as qemu-img tells by way of NBD. */
static bool *dirty_granules(Fixture *f, const char *bitmap)
{
    g_clear_pointer(&f->image, image_close);
    bool *dirty = g_new0(bool, SIZE / KIB(64) * 2);
    g_autofree char *command = g_strdup_printf(
        "qemu-nbd -r -f qcow2 -B %s -k $PWD/nbd.sock a.qcow2 & pid=$!; "
        "while [ ! -S nbd.sock ]; do kill -0 $pid || exit 1; done; "
        "qemu-img map --output=json --image-opts driver=nbd,server.type=unix,"
        "server.path=$PWD/nbd.sock,x-dirty-bitmap=qemu:dirty-bitmap:%s; kill $pid; wait $pid; "
        "rm -f nbd.sock",
        bitmap, bitmap);
    g_autofree char *json = kit_run("%s", command);
    const char *at = json;
    /* What is dirty is shown as not being data. */
    while ((at = strstr(at, "\"start\": "))) {
        uint64_t start = g_ascii_strtoull(at + 9, NULL, 10);
        uint64_t length = g_ascii_strtoull(strstr(at, "\"length\": ") + 10, NULL, 10);
        const char *data = strstr(at, "\"data\": ");
        for (uint64_t i = start / KIB(64); i < (start + length) / KIB(64); i++)
            dirty[i] = g_str_has_prefix(data, "\"data\": false");
        at++;
    }
    f->image = kit_open("a.qcow2", NULL, false);
    return dirty;
}

/* Bitmaps that qemu made tell of our writes, and live through all that happens to an image. */
static void test_bitmaps(Fixture *f, gconstpointer p)
{
    GError *error = NULL;
    if (!kit_has_qemu())
        return;
    change(f, 20);
    g_clear_pointer(&f->image, image_close);
    kit_do("qemu-img bitmap --add -g 64k a.qcow2 on");
    kit_do("qemu-img bitmap --add --disable -g 64k a.qcow2 off");
    f->image = kit_open("a.qcow2", NULL, false);
    uint8_t *sector = f->disk + KIB(64) * 3;
    memset(sector, 9, 512);
    g_assert_cmpint(image_write(f->image, KIB(64) * 3, sector, 512), ==, 0);
    memset(f->disk + KIB(64) * 7, 0, KIB(128));
    g_assert_cmpint(image_write_zeros(f->image, KIB(64) * 7, KIB(128)), ==, 0);
    judge(f);
    g_autofree bool *on = dirty_granules(f, "on"), *off = dirty_granules(f, "off");
    for (uint64_t i = 0; i < SIZE / KIB(64); i++) {
        g_assert_cmpint(on[i], ==, i == 3 || i == 7 || i == 8);
        g_assert_false(off[i]);
    }
    /* While it is written nobody may believe them. */
    g_assert_cmpint(image_write(f->image, 0, f->disk, 512), ==, 0);
    g_autofree char *info = kit_run("qemu-img info -U a.qcow2");
    g_assert_nonnull(strstr(info, "in-use"));
    kit_do("cp a.qcow2 crashed.qcow2");
    const FormatSnapshots *s = f->image->driver->snapshots;
    g_assert_true(s->create(f->image->map, "s", &error));
    g_assert_true(s->apply(f->image->map, "s", &error));
    g_assert_true(image_resize(f->image, 2 * SIZE, &error));
    image_resize(f->image, GIB(1), &error);
    g_assert_no_error(error);
    g_assert_true(image_resize(f->image, SIZE, &error));
    g_assert_no_error(error);
    judge(f);
    expect_disk(f, f->disk);
    g_autofree bool *all = dirty_granules(f, "on");
    for (uint64_t i = 0; i < SIZE / KIB(64); i++)
        g_assert_true(all[i]);
    g_autofree char *after = kit_run("qemu-img info -U a.qcow2");
    g_assert_null(strstr(after, "in-use"));
    g_assert_nonnull(strstr(after, "name: off"));
    Image *crashed = kit_open("crashed.qcow2", NULL, false);
    g_assert_cmpint(image_write(crashed, 0, f->disk, 512), ==, 0);
    image_close(crashed);
    g_autofree char *still = kit_run("qemu-img info -U crashed.qcow2");
    g_assert_nonnull(strstr(still, "in-use"));
}

/* Tables of more clusters than one refcount block counts. */
static void test_long_tables(Fixture *f, gconstpointer p)
{
    GError *error = NULL;
    uint8_t sector[512];
    if (!kit_has_qemu())
        return;
    g_clear_pointer(&f->image, image_close);
    kit_do("qemu-img bitmap --add -g 64k a.qcow2 on");
    f->image = kit_open("a.qcow2", NULL, false);
    for (uint64_t size = GIB(1); size <= GIB(9); size += GIB(4)) {
        g_assert_true(image_resize(f->image, size, &error));
        g_assert_no_error(error);
        memset(sector, (int)(size >> 30), sizeof(sector));
        g_assert_cmpint(image_write(f->image, size - 512, sector, 512), ==, 0);
        g_assert_true(f->image->driver->snapshots->create(f->image->map, "s", &error));
        g_clear_pointer(&f->image, image_close);
        kit_do("qemu-img check -q a.qcow2");
        g_autofree char *info = kit_run("qemu-img info a.qcow2");
        g_assert_null(strstr(info, "in-use"));
        kit_do("qemu-io -r -c 'read -P %d %" PRIu64 " 512' a.qcow2", (int)(size >> 30), size - 512);
        f->image = kit_open("a.qcow2", NULL, false);
        g_assert_true(f->image->driver->snapshots->remove(f->image->map, "s", &error));
    }
    /* The bitmap of a size that cannot be is as it was. */
    g_assert_false(image_resize(f->image, GIB(5000), &error));
    g_clear_error(&error);
    g_assert_true(image_resize(f->image, SIZE, &error));
    g_clear_pointer(&f->image, image_close);
    kit_do("qemu-img check -q a.qcow2");
    GStatBuf st;
    g_assert_cmpint(g_stat("a.qcow2", &st), ==, 0);
    g_assert_cmpint(st.st_size, <, MIB(100));
    f->image = kit_open("a.qcow2", NULL, false);
    expect_disk(f, f->disk);
}

static void test_names(Fixture *f, gconstpointer p)
{
    GError *error = NULL;
    const char *const bad[] = {"/etc/passwd", "../up.raw", "nbd:unix:/x", "json:{}", "http://x/y"};
    g_clear_pointer(&f->image, image_close);
    g_assert_true(g_file_set_contents("b.raw", "hello", 5, NULL));
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_assert_null(image_resolve_name("./a.qcow2", bad[i], false, &error));
        g_clear_error(&error);
    }
    g_autofree char *good = image_resolve_name("./a.qcow2", "b.raw", false, &error);
    g_assert_cmpstr(good, ==, "./b.raw");
    g_assert_cmpint(symlink("/etc/passwd", "link.raw"), ==, 0);
    g_assert_null(image_resolve_name("./a.qcow2", "link.raw", false, &error));
    g_clear_error(&error);
    g_autofree char *trusted = image_resolve_name("./a.qcow2", "/etc/passwd", true, &error);
    g_assert_cmpstr(trusted, ==, "/etc/passwd");
}

static void test_loop(Fixture *f, gconstpointer p)
{
    g_autoptr(GError) error = NULL;
    g_assert_true(
        f->image->driver->set_parent(f->image->map, "a.qcow2", "qcow2", "a.qcow2", &error));
    g_clear_pointer(&f->image, image_close);
    ImageOptions options = {.read_only = true};
    g_assert_null(image_open("a.qcow2", &options, &error));
    g_assert_nonnull(strstr(error->message, "loop"));
}

#define ADD(name, options, test) \
    g_test_add("/qcow2/" name, Fixture, options, set_up, test, tear_down)

/* A snapshot without a table uses no cluster, so none goes with it. */
static void test_empty_snapshot(Fixture *f, gconstpointer p)
{
    GError *error = NULL;
    if (!kit_has_qemu())
        return;
    kit_do("qemu-img create -q -f qcow2 empty.qcow2 0");
    g_autoptr(Image) image = kit_open("empty.qcow2", "qcow2", false);
    const FormatSnapshots *snapshots = image->driver->snapshots;
    snapshots->create(image->map, "s", &error);
    g_assert_no_error(error);
    kit_check(image);
    snapshots->remove(image->map, "s", &error);
    g_assert_no_error(error);
    kit_check(image);
    g_assert_true(image_resize(image, SIZE, NULL));
    g_clear_pointer(&image, image_close);
    image = kit_open("empty.qcow2", "qcow2", false);
    kit_check(image);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("snapshots", NULL, test_snapshots);
    ADD("snapshots/extended", "extended_l2=on", test_snapshots);
    ADD("snapshots/512", "cluster_size=512", test_snapshots);
    ADD("snapshots/v2", "compat=0.10", test_snapshots);
    ADD("snapshots/empty", NULL, test_empty_snapshot);
    ADD("their-snapshots", NULL, test_their_snapshots);
    ADD("packed", NULL, test_packed);
    ADD("packed/snapshot", NULL, test_packed_snapshot);
    ADD("packed/zstd", "compression_type=zstd", test_packed);
    ADD("packed/4k", "cluster_size=4k", test_packed);
    ADD("packed/extended", "extended_l2=on", test_packed);
    ADD("packed/1bit", "refcount_bits=1", test_packed);
    ADD("resize", NULL, test_resize);
    ADD("resize/4k", "cluster_size=4k", test_resize);
    ADD("long-tables", "cluster_size=512", test_long_tables);
    ADD("dirty", NULL, test_dirty);
    ADD("refusals", NULL, test_refusals);
    ADD("autoclear", NULL, test_autoclear);
    ADD("bitmaps", NULL, test_bitmaps);
    ADD("bitmaps/4k", "cluster_size=4k", test_bitmaps);
    ADD("bitmaps/512", "cluster_size=512", test_bitmaps);
    ADD("names", NULL, test_names);
    ADD("loop", NULL, test_loop);
    return g_test_run();
}
