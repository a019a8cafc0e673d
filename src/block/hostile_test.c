/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Good images with bytes changed at random, as image_fuzz.c has them: errors, no crash, no hang. */
#include "block/image_test_kit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct {
    const char *name, *format, *option;
} seeds[] = {
    {"qcow2", "qcow2", "cluster_size=4k"},
    {"qcow2-v2", "qcow2", "compat=0.10"},
    {"qcow2-extended", "qcow2", "extended_l2=on"},
    {"qcow", "qcow", NULL},
    {"vdi", "vdi", NULL},
    {"vhd", "vhd", NULL},
    {"vmdk", "vmdk", NULL},
    {"vmdk-flat", "vmdk", "subformat=monolithicFlat"},
    {"vmdk-stream", "vmdk", "subformat=streamOptimized"},
};

/* The metadata stand in the first 64 KiB; what lies behind may be cut off. */
static void torment(const char *seed, gsize size, GRand *rand)
{
    gsize shown = MIN(size, KIB(200));
    g_autofree uint8_t *data = g_malloc(shown + 1);
    for (int round = 0; round < 150; round++) {
        memcpy(data + 1, seed, shown);
        data[0] = (uint8_t)round;
        int changes = g_rand_int_range(rand, 1, 12);
        for (int i = 0; i < changes; i++) {
            gsize reach = g_rand_boolean(rand) ? MIN(shown, 512) : shown;
            gsize at = 1 + (gsize)g_rand_int_range(rand, 0, (gint32)reach);
            static const uint8_t nasty[] = {0, 1, 0x7f, 0x80, 0xff, 0xfe};
            data[at] = g_rand_boolean(rand) ? nasty[g_rand_int_range(rand, 0, 6)]
                                            : (uint8_t)g_rand_int(rand);
        }
        gsize cut =
            g_rand_int_range(rand, 0, 6) ? shown : (gsize)g_rand_int_range(rand, 1, (gint32)shown);
        LLVMFuzzerTestOneInput(data, cut + 1);
    }
}

static void test_hostile(gconstpointer p)
{
    size_t n = GPOINTER_TO_SIZE(p);
    const char *list[] = {seeds[n].option, NULL};
    g_autoptr(GRand) rand = g_rand_new_with_seed((guint32)n);
    g_autofree uint8_t *disk = g_malloc0(MIB(2));
    g_autofree char *data = NULL;
    gsize size;
    kit_enter_folder();
    kit_create("seed.vmdk", seeds[n].format, MIB(2), NULL, seeds[n].option ? list : NULL);
    Image *image = kit_open("seed.vmdk", seeds[n].format, false);
    for (int i = 0; i < 6; i++)
        kit_random_op(image, disk, MIB(2), rand);
    image_close(image);
    g_assert_true(g_file_get_contents("seed.vmdk", &data, &size, NULL));
    torment(data, size, rand);
    kit_leave_folder();
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(seeds); i++) {
        g_autofree char *path = g_strdup_printf("/hostile/%s", seeds[i].name);
        g_test_add_data_func(path, GSIZE_TO_POINTER(i), test_hostile);
    }
    return g_test_run();
}
