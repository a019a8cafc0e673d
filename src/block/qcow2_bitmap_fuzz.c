/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Hostile dirty bitmaps: the input is a qcow2 image in parts. Its bitmaps are told and copied to a
 * new image, which must hold together and tell the same ones; then the image itself is written to,
 * with all that bitmaps have to do before and after, and has no more faults than it had.
 */
#include "block/formats/qcow2.h"
#include "block/image_fuzz.h"

enum { SKIPS_BROKEN = 1, SMALL_CLUSTERS = 2, RESIZES = 4 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *tell_bitmaps(const Image *image)
{
    GVariant *told = qcow2_describe_bitmaps((const Qcow2 *)image->map);
    g_autoptr(GVariant) value = told ? g_variant_ref_sink(told) : NULL;
    return value && g_variant_n_children(value) ? g_variant_print(value, FALSE) : g_strdup("");
}

static void expect_whole(const char *path)
{
    ImageOptions options = {.format = "qcow2", .read_only = true, .no_parents = true};
    g_autoptr(Image) image = image_open(path, &options, NULL);
    g_assert(image);
    CheckResult result = fuzz_check(image, false);
    g_assert(!result.corruptions && !result.leaks && !result.errors);
}

static void copy(Image *from, uint8_t how)
{
    char path[64];
    int fd = fuzz_new_file(path);
    const char *list[] = {how & SMALL_CLUSTERS ? "cluster_size=512" : "cluster_size=64k", NULL};
    ImageCreate create = {.format = "qcow2", .size = from->map->size, .options = list};
    ImageOptions options = {.format = "qcow2"};
    g_assert(image_create(path, &create, NULL));
    g_autoptr(Image) to = image_open(path, &options, NULL);
    g_assert(to);
    g_autofree char *wanted = tell_bitmaps(from);
    bool copied =
        qcow2_format.copy_bitmaps(to->map, from->map, how & SKIPS_BROKEN, NULL) && *wanted;
    g_clear_pointer(&to, image_close);
    if (copied) {
        expect_whole(path);
        ImageOptions looks = {.format = "qcow2", .read_only = true};
        to = image_open(path, &looks, NULL);
        g_autofree char *told = tell_bitmaps(to);
        if (!(how & SKIPS_BROKEN) && strcmp(told, wanted))
            g_error("bitmaps were %s, are %s", wanted, told);
        g_clear_pointer(&to, image_close);
    }
    close(fd);
}

static void use(const char *path, bool resizes)
{
    ImageOptions options = {.format = "qcow2", .no_parents = true};
    g_autoptr(Image) image = image_open(path, &options, NULL);
    CheckResult before = {0}, after = {0};
    if (!image)
        return;
    before = fuzz_check(image, false);
    fuzz_change(image);
    if (resizes)
        image_resize(image, image->map->size / 2 + MIB(1), NULL);
    g_clear_pointer(&image, image_close);
    image = image_open(path, &options, NULL);
    if (!image)
        return;
    after = fuzz_check(image, false);
    g_assert(before.corruptions || before.errors || (!after.corruptions && !after.errors));
    fuzz_check(image, true);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    ImageOptions options = {.format = "qcow2", .read_only = true, .no_parents = true};
    if (size < 2)
        return 0;
    int fd = fuzz_new_file(path);
    fuzz_put_parts(fd, data + 1, size - 1);
    g_autoptr(Image) image = image_open(path, &options, NULL);
    bool small = image && fuzz_is_small(image);
    if (small)
        copy(image, data[0]);
    g_clear_pointer(&image, image_close);
    if (small)
        use(path, data[0] & RESIZES);
    close(fd);
    return 0;
}
