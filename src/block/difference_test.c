/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Media modes: differencing images over a shared base, and images that several write at once. */
#include "block/difference.h"
#include "block/image_test_kit.h"

#define SIZE (MIB(4) + 512 * 5)

static const char *const formats[] = {"raw", "qcow2", "vdi", "vmdk", "vhd"};

static uint8_t *make_base(const char *format, GRand *rand)
{
    uint8_t *disk = g_malloc0(SIZE);
    kit_create("base", format, SIZE, NULL, NULL);
    g_autoptr(Image) base = kit_open("base", format, false);
    for (int i = 0; i < 40; i++)
        kit_random_op(base, disk, SIZE, rand);
    return disk;
}

static Image *open_difference(const char *path, const char *format, bool anew)
{
    GError *error = NULL;
    ImageOptions options = {.format = format};
    Image *image = difference_open(path, "base", &options, anew, &error);
    g_assert_no_error(error);
    return image;
}

static void expect_refused(const char *path, const char *format, const char *why)
{
    g_autoptr(GError) error = NULL;
    ImageOptions options = {.format = format};
    g_assert_null(difference_open(path, "base", &options, false, &error));
    if (!strstr(error->message, why))
        g_error("'%s' does not say '%s'", error->message, why);
}

static void expect_disk(Image *image, const uint8_t *want, const char *what)
{
    g_autofree uint8_t *got = kit_read_all(image, SIZE);
    kit_expect(got, want, SIZE, what);
}

/* Two machines and a third without a name change the same base, and see their own changes only. */
static void test_sharing(gconstpointer format)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(3);
    kit_enter_folder();
    g_autofree uint8_t *base = make_base(format, rand);
    g_autofree char *sum = kit_run("sha256sum base");
    g_autofree uint8_t *one = g_memdup2(base, SIZE), *two = g_memdup2(base, SIZE);
    g_autofree uint8_t *three = g_memdup2(base, SIZE);
    {
        g_autoptr(Image) a = open_difference("one", format, false);
        g_autoptr(Image) b = open_difference("two", format, true);
        g_autoptr(Image) c = open_difference(NULL, format, true);
        for (int i = 0; i < 40; i++) {
            kit_random_op(a, one, SIZE, rand);
            kit_random_op(b, two, SIZE, rand);
            kit_random_op(c, three, SIZE, rand);
        }
        expect_disk(a, one, "one");
        expect_disk(b, two, "two");
        expect_disk(c, three, "the nameless");
    }
    g_autofree char *sum_after = kit_run("sha256sum base");
    g_assert_cmpstr(sum, ==, sum_after);
    if (kit_has_qemu()) {
        kit_do("qemu-img check -q -f qcow2 one && qemu-img convert -f qcow2 -O raw one raw");
        kit_expect_file("raw", one, SIZE);
    }
    g_autoptr(Image) kept = open_difference("one", format, false);
    expect_disk(kept, one, "multi-attach, opened again");
    g_autoptr(Image) reset = open_difference("two", format, true);
    expect_disk(reset, base, "immutable, started anew");
    kit_leave_folder();
}

static GError *open_error(const char *path, const ImageOptions *options)
{
    GError *error = NULL;
    g_assert_null(image_open(path, options, &error));
    return error;
}

static void test_locks(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(5);
    ImageOptions writer = {.format = "raw"};
    kit_enter_folder();
    g_free(make_base("raw", rand));
    {
        G_GNUC_UNUSED g_autoptr(Image) one = open_difference("one", "raw", true);
        g_autoptr(GError) error = open_error("base", &writer);
        g_assert_error(error, G_IO_ERROR, G_IO_ERROR_BUSY);
        expect_refused("one", "raw", "in use");
        G_GNUC_UNUSED g_autoptr(Image) reader = kit_open("base", "raw", true);
    }
    g_autoptr(Image) alone = kit_open("base", "raw", false);
    expect_refused("one", "raw", "in use");
    g_clear_pointer(&alone, image_close);
    kit_leave_folder();
}

/* A difference over another disk, one whose base changed its size, and what is none at all. */
static void test_refusals(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(7);
    kit_enter_folder();
    g_free(make_base("raw", rand));
    kit_create("other", "raw", SIZE, NULL, NULL);
    kit_create("over-other", "qcow2", SIZE, "other", NULL);
    kit_create("alone", "qcow2", SIZE, NULL, NULL);
    image_close(open_difference("one", "raw", false));
    kit_do("sha256sum over-other alone other >sums");
    expect_refused("over-other", "raw", "'base' but over 'other'");
    expect_refused("alone", "raw", "but over 'nothing'");
    expect_refused("other", "raw", "no qcow2 image");
    kit_do("sha256sum -c sums && truncate -s +1M base");
    expect_refused("one", "raw", "changed its size");
    g_autofree char *left = kit_run("ls one.*.new 2>/dev/null | wc -l");
    g_assert_cmpstr(left, ==, "0\n");
    kit_leave_folder();
}

/* Moved together, base and difference still find each other. */
static void test_moved(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(9);
    kit_enter_folder();
    g_autofree uint8_t *disk = make_base("qcow2", rand);
    g_autoptr(Image) image = open_difference("one", "qcow2", false);
    memset(disk, 7, 512);
    g_assert_cmpint(image_write(image, 0, disk, 512), ==, 0);
    g_clear_pointer(&image, image_close);
    kit_do("mkdir moved && mv base one moved");
    g_assert_cmpint(g_chdir("moved"), ==, 0);
    image = open_difference("one", "qcow2", false);
    expect_disk(image, disk, "moved");
    g_clear_pointer(&image, image_close);
    g_assert_cmpint(g_chdir(".."), ==, 0);
    kit_leave_folder();
}

typedef struct Shareable {
    const char *format, *option;
} Shareable;

static const Shareable shareable[] = {
    {"raw", NULL}, {"vdi", "static=on"}, {"vhd", "subformat=fixed"}};

/* What one writes, zeroes or discards the other reads; nothing but data changes in the file. */
static void test_shareable(gconstpointer data)
{
    const Shareable *s = data;
    const char *list[] = {s->option, NULL};
    ImageOptions options = {.format = s->format, .shared = true};
    g_autoptr(GRand) rand = g_rand_new_with_seed(11);
    g_autofree uint8_t *disk = g_malloc0(SIZE);
    kit_enter_folder();
    kit_create("shared", s->format, SIZE, NULL, s->option ? list : NULL);
    {
        g_autoptr(Image) one = kit_open_with("shared", &options);
        g_autoptr(Image) two = kit_open_with("shared", &options);
        ImageOptions writer = {.format = s->format}, reader = writer;
        reader.read_only = true;
        for (int i = 0; i < 80; i++) {
            kit_random_op(i % 2 ? one : two, disk, SIZE, rand);
            if (i % 8 == 0)
                expect_disk(i % 2 ? two : one, disk, "the other's");
        }
        g_autoptr(GError) no_writer = open_error("shared", &writer);
        g_autoptr(GError) no_reader = open_error("shared", &reader);
        g_assert_error(no_writer, G_IO_ERROR, G_IO_ERROR_BUSY);
        g_assert_error(no_reader, G_IO_ERROR, G_IO_ERROR_BUSY);
        g_assert_cmpint(image_flush(one) | image_flush(two), ==, 0);
    }
    g_autoptr(Image) reader = kit_open("shared", s->format, true);
    g_autoptr(GError) busy = open_error("shared", &options);
    g_assert_error(busy, G_IO_ERROR, G_IO_ERROR_BUSY);
    for (uint64_t at = 0; at < SIZE; at += MIB(1)) {
        Extent extent;
        g_assert_cmpint(reader->driver->lookup(reader->map, at, MIB(1), false, &extent), ==, 0);
        g_assert_cmpint(extent.kind, ==, EXTENT_DATA);
    }
    if (kit_has_qemu()) {
        g_clear_pointer(&reader, image_close);
        kit_do("qemu-img convert -f %s -O raw shared raw",
               strcmp(s->format, "vhd") ? s->format : "vpc");
        kit_do("truncate -s %lu raw", (unsigned long)SIZE); /* a VHD's size is whole cylinders */
        kit_expect_file("raw", disk, SIZE);
    }
    kit_leave_folder();
}

static void test_not_shareable(void)
{
    static const char *const dynamic[] = {"qcow2", "vdi", "vmdk", "vhd", "vhdx", "qcow"};
    kit_enter_folder();
    for (size_t i = 0; i < G_N_ELEMENTS(dynamic); i++) {
        ImageOptions options = {.format = dynamic[i], .shared = true};
        kit_create("image", dynamic[i], SIZE, NULL, NULL);
        kit_do("sha256sum image >sum");
        g_autoptr(GError) error = open_error("image", &options);
        g_assert_true(strstr(error->message, "no fixed size") != NULL);
        kit_do("sha256sum -c sum && rm image");
    }
    kit_leave_folder();
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(formats); i++) {
        g_autofree char *path = g_strdup_printf("/difference/sharing/%s", formats[i]);
        g_test_add_data_func(path, formats[i], test_sharing);
    }
    g_test_add_func("/difference/locks", test_locks);
    g_test_add_func("/difference/refusals", test_refusals);
    g_test_add_func("/difference/moved", test_moved);
    for (size_t i = 0; i < G_N_ELEMENTS(shareable); i++) {
        g_autofree char *path = g_strdup_printf("/shareable/%s", shareable[i].format);
        g_test_add_data_func(path, &shareable[i], test_shareable);
    }
    g_test_add_func("/shareable/refused", test_not_shareable);
    return g_test_run();
}
