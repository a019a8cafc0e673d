/* SPDX-License-Identifier: GPL-3.0-or-later */
/* For tests of images: a folder for them, other programs as oracles, and a disk in memory. */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <sys/stat.h>

#include "base/bits.h"
#include "block/image.h"

/* A fresh folder; tests run in it. */
static inline void kit_enter_folder(void)
{
    g_autofree char *folder = g_dir_make_tmp("ospite-image-XXXXXX", NULL);
    g_assert_nonnull(folder);
    g_assert_cmpint(g_chdir(folder), ==, 0);
}

static inline void kit_leave_folder(void)
{
    g_autofree char *folder = g_get_current_dir();
    g_autofree char *command = g_strdup_printf("rm -rf '%s'", folder);
    g_assert_true(strstr(folder, "ospite-image-") != NULL);
    g_assert_cmpint(g_chdir("/"), ==, 0);
    g_spawn_command_line_sync(command, NULL, NULL, NULL, NULL);
}

/* Runs a shell command that must succeed; its output, free it. */
static inline char *kit_run(const char *format, ...) G_GNUC_PRINTF(1, 2);
static inline char *kit_run(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *command = g_strdup_vprintf(format, args);
    va_end(args);
    char *argv[] = {(char *)"sh", (char *)"-c", command, NULL};
    char *out = NULL;
    g_autofree char *err = NULL;
    int status;
    g_assert_true(
        g_spawn_sync(NULL, argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &out, &err, &status, NULL));
    if (status)
        g_error("'%s' failed (%d): %s%s", command, status, out, err);
    return out;
}
#define kit_do(...) g_free(kit_run(__VA_ARGS__))

static inline bool kit_has_qemu(void)
{
    g_autofree char *path = g_find_program_in_path("qemu-img");
    if (!path)
        g_test_skip("qemu-img is not installed");
    return path != NULL;
}

static inline Image *kit_open_with(const char *path, const ImageOptions *options)
{
    GError *error = NULL;
    Image *image = image_open(path, options, &error);
    g_assert_no_error(error);
    return image;
}

static inline Image *kit_open(const char *path, const char *format, bool read_only)
{
    ImageOptions options = {.format = format, .read_only = read_only};
    return kit_open_with(path, &options);
}

static inline void kit_create(const char *path, const char *format, uint64_t size,
                              const char *parent, const char *const *options)
{
    GError *error = NULL;
    ImageCreate create = {.format = format, .size = size, .parent = parent, .options = options};
    bool good = image_create(path, &create, &error);
    g_assert_no_error(error);
    g_assert_true(good);
}

/* The whole disk as the image tells it. */
static inline uint8_t *kit_read_all(Image *image, uint64_t size)
{
    uint8_t *data = g_malloc(size);
    g_assert_cmpuint(image->map->size, >=, size);
    g_assert_cmpint(image_read(image, 0, data, size), ==, 0);
    return data;
}

static inline void kit_expect(const uint8_t *got, const uint8_t *want, uint64_t size,
                              const char *what)
{
    if (!memcmp(got, want, size))
        return;
    for (uint64_t i = 0; i < size; i++) {
        if (got[i] != want[i])
            g_error("%s: byte 0x%" G_GINT64_MODIFIER "x is %02x, not %02x", what, i, got[i],
                    want[i]);
    }
}

static inline void kit_expect_file(const char *path, const uint8_t *want, uint64_t size)
{
    g_autofree char *data = NULL;
    gsize length;
    g_assert_true(g_file_get_contents(path, &data, &length, NULL));
    g_assert_cmpuint(length, ==, size);
    kit_expect((const uint8_t *)data, want, size, path);
}

static inline void kit_fill(uint8_t *data, size_t size, GRand *rand)
{
    uint32_t seed = g_rand_int(rand) | 1;
    for (size_t i = 0; i < size; i++) {
        if (i % 512 == 0)
            seed = seed * 1664525 + 1013904223;
        data[i] = (uint8_t)(seed >> (i % 3 * 8)) ^ (uint8_t)(i >> 3);
    }
}

/* One random write, zeroing, discard or flush of the image and the disk in memory. */
static inline void kit_random_op(Image *image, uint8_t *disk, uint64_t size, GRand *rand)
{
    uint64_t sectors = size / 512;
    uint64_t first = (uint64_t)g_rand_double_range(rand, 0, (double)sectors);
    uint64_t most = g_rand_int_range(rand, 0, 8) ? 40 : 5000;
    uint64_t count = 1 + (uint64_t)g_rand_double_range(rand, 0, (double)most);
    count = MIN(count, sectors - first);
    uint64_t offset = first * 512;
    size_t length = count * 512;
    int what = g_rand_int_range(rand, 0, 20);
    if (what < 13) {
        kit_fill(disk + offset, length, rand);
        g_assert_cmpint(image_write(image, offset, disk + offset, length), ==, 0);
    } else if (what < 16) {
        memset(disk + offset, 0, length);
        g_assert_cmpint(image_write_zeros(image, offset, length), ==, 0);
    } else if (what < 18) {
        g_assert_cmpint(image_discard(image, offset, length), ==, 0);
        g_assert_cmpint(image_read(image, offset, disk + offset, length), ==, 0);
    } else if (what < 19) {
        g_assert_cmpint(image_flush(image), ==, 0);
    } else {
        g_autofree uint8_t *data = g_malloc(length);
        g_assert_cmpint(image_read(image, offset, data, length), ==, 0);
        kit_expect(data, disk + offset, length, "read back");
    }
}

/* The image holds together by its own check. */
static inline void kit_check(Image *image)
{
    CheckResult result = {0};
    GError *error = NULL;
    if (!image->driver->check)
        return;
    bool good = image->driver->check(image->map, false, &result, &error);
    g_assert_no_error(error);
    for (guint i = 0; result.messages && i < result.messages->len; i++)
        g_test_message("%s", (char *)result.messages->pdata[i]);
    g_assert_true(good);
    g_assert_cmpuint(result.corruptions, ==, 0);
    g_assert_cmpuint(result.errors, ==, 0);
    g_assert_cmpuint(result.leaks, ==, 0);
    g_clear_pointer(&result.messages, g_ptr_array_unref);
}
