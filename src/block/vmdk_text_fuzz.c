/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Hostile VMDK descriptors: the input is the text of disk.vmdk, behind a byte that says what is
 * done with it. Around it lie files that it may name as extents or as its parent, and one outside
 * of the folder, that it may not. What its keys say must come back once they are changed.
 */
#include <glib/gstdio.h>

#include "block/formats/vmdk.h"
#include "block/image_fuzz.h"

enum { WRITES = 1, NAMES_PARENT = 2, RESIZES = 4, ONLY_LOOKS = 8 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct Neighbour {
    const char *name, *format, *option;
    char *bytes;
    gsize size;
} Neighbour;

static Neighbour neighbours[] = {
    {"flat.vmdk", "raw"},
    {"sparse.vmdk", "vmdk", "subformat=monolithicSparse"},
    {"stream.vmdk", "vmdk", "subformat=streamOptimized"},
    {"sub/flat.vmdk", "raw"},
    {"../outside.vmdk", "raw"},
};

static char *folder;

static void remove_folder(void)
{
    g_autofree char *base = g_path_get_dirname(folder);
    for (size_t i = 0; i < G_N_ELEMENTS(neighbours); i++) {
        g_autofree char *path = g_build_filename(folder, neighbours[i].name, NULL);
        g_unlink(path);
        g_free(neighbours[i].bytes);
    }
    g_autofree char *disk = g_build_filename(folder, "disk.vmdk", NULL);
    g_autofree char *sub = g_build_filename(folder, "sub", NULL);
    g_unlink(disk);
    g_rmdir(sub);
    g_rmdir(folder);
    g_rmdir(base);
    g_free(folder);
}

static void make_folder(void)
{
    g_autofree char *base = g_dir_make_tmp("ospite-vmdk-XXXXXX", NULL);
    g_assert(base);
    folder = g_build_filename(base, "disks", NULL);
    g_autofree char *sub = g_build_filename(folder, "sub", NULL);
    g_assert(g_mkdir_with_parents(sub, 0700) == 0);
    for (size_t i = 0; i < G_N_ELEMENTS(neighbours); i++) {
        Neighbour *n = &neighbours[i];
        const char *list[] = {n->option, NULL};
        g_autofree char *path = g_build_filename(folder, n->name, NULL);
        ImageCreate create = {
            .format = n->format, .size = KIB(64), .options = n->option ? list : NULL};
        g_assert(image_create(path, &create, NULL));
        g_assert(g_file_get_contents(path, &n->bytes, &n->size, NULL));
    }
    atexit(remove_folder);
}

/* After a run that wrote: what it left of them would make the next one depend on it. */
static void renew_neighbours(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(neighbours); i++) {
        const Neighbour *n = &neighbours[i];
        g_autofree char *path = g_build_filename(folder, n->name, NULL);
        g_autofree char *now = NULL;
        gsize size;
        bool read = g_file_get_contents(path, &now, &size, NULL);
        bool same = read && size == n->size && !memcmp(now, n->bytes, size);
        g_assert(same || !g_str_has_prefix(n->name, "../"));
        if (!same)
            g_assert(g_file_set_contents(path, n->bytes, (gssize)n->size, NULL));
    }
}

static void expect_here(const char *path)
{
    g_autofree char *full = g_canonicalize_filename(path, folder);
    g_assert(g_str_has_prefix(full, folder) && full[strlen(folder)] == '/');
}

static void expect_all_here(const Image *image)
{
    for (; image; image = image->parent) {
        expect_here(image->path);
        if (image->driver != &vmdk_format)
            continue;
        const Vmdk *v = (const Vmdk *)image->map;
        for (guint i = 0; i < v->extents->len; i++) {
            const VmdkExtent *e = v->extents->pdata[i];
            if (e->file)
                expect_here(e->file->path);
        }
    }
}

static void expect_value(const char *text, const char *key, const char *value)
{
    g_autofree char *changed = vmdk_text_replace(text, key, value);
    g_autofree char *found = vmdk_text_value(changed, key);
    g_assert(g_strcmp0(found, value) == 0);
}

static void expect_text_to_change(const char *text)
{
    static const char *const keys[] = {"CID", "parentCID", "parentFileNameHint", "ddb.uuid.image"};
    for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
        expect_value(text, keys[i], "0000abcd");
        expect_value(text, keys[i], NULL);
    }
}

static void use(Image *image, uint8_t how)
{
    bool small = fuzz_is_small(image), writes = how & WRITES;
    if (small)
        fuzz_look(image);
    fuzz_check(image, false);
    if (writes && small)
        fuzz_change(image);
    if (writes && how & RESIZES && small)
        image_resize(image, MIN(image->map->size, MIB(1)) / 2 + MIB(1), NULL);
    if (writes && how & NAMES_PARENT)
        vmdk_format.set_parent(image->map, "flat.vmdk", "raw", "flat.vmdk", NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    if (!folder)
        make_folder();
    uint8_t how = data[0];
    g_autofree char *path = g_build_filename(folder, "disk.vmdk", NULL);
    g_autofree char *text = g_strndup((const char *)data + 1, size - 1);
    g_assert(g_file_set_contents(path, (const char *)data + 1, (gssize)size - 1, NULL));
    ImageOptions options = {.format = "vmdk",
                            .read_only = !(how & WRITES) || how & ONLY_LOOKS,
                            .only_look = how & ONLY_LOOKS};
    g_autoptr(Image) image = image_open(path, &options, NULL);
    if (image)
        expect_all_here(image);
    if (image && !options.only_look)
        use(image, how);
    g_clear_pointer(&image, image_close);
    expect_text_to_change(text);
    if (how & WRITES)
        renew_neighbours();
    return 0;
}
