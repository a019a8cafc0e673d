/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Good images with bytes changed at random, as image_fuzz.c has them: errors, no crash, no hang. */
#include "block/image_test_kit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct {
    const char *name, *format, *option;
    bool encrypted;
} seeds[] = {
    {"qcow2", "qcow2", "cluster_size=4k"},
    {"qcow2-v2", "qcow2", "compat=0.10"},
    {"qcow2-extended", "qcow2", "extended_l2=on"},
    {"qcow", "qcow", NULL},
    {"vdi", "vdi", NULL},
    {"vhd", "vhd", NULL},
    {"vhdx", "vhdx", "block_size=1M"},
    {"vmdk", "vmdk", NULL},
    {"vmdk-flat", "vmdk", "subformat=monolithicFlat"},
    {"vmdk-stream", "vmdk", "subformat=streamOptimized"},
    {"qcow2-luks", "qcow2", "encrypt.format=luks", true},
    {"luks", "luks", NULL, true},
    {"vmdk-sesparse"},
};

enum { SEALED = 0x40, PARTS = 0x80 }; /* see image_fuzz.c */

/* The file without its zeros, as the parts that image_fuzz.c puts together. */
static GByteArray *take_apart(const char *file, gsize size)
{
    static const uint8_t zeros[64];
    GByteArray *parts = g_byte_array_new();
    g_byte_array_append(parts, zeros, 1);
    for (gsize at = 0; at < size && parts->len < 16000; at += 64) {
        gsize end = at;
        while (end < size && end - at < 8192 && memcmp(file + end, zeros, MIN(64, size - end)))
            end += MIN(64, size - end);
        if (end == at)
            continue;
        uint8_t head[5] = {(uint8_t)(at / 64)};
        store_le16(head + 1, (uint16_t)(at / 64 >> 8));
        store_le16(head + 3, (uint16_t)(end - at));
        g_byte_array_append(parts, head, sizeof(head));
        g_byte_array_append(parts, (const uint8_t *)file + at, (guint)(end - at));
        at = end - 1 - (end - 1) % 64;
    }
    return parts;
}

static void torment(const uint8_t *seed, gsize size, uint8_t how, int rounds, GRand *rand)
{
    g_autofree uint8_t *data = g_malloc(size);
    for (int round = 0; round < rounds; round++) {
        memcpy(data, seed, size);
        data[0] = (uint8_t)(how | (round & 7));
        int changes = g_rand_int_range(rand, 1, 12);
        for (int i = 0; i < changes; i++) {
            gsize reach = g_rand_boolean(rand) ? MIN(size, 512) : size;
            gsize at = (gsize)g_rand_int_range(rand, 1, (gint32)reach);
            static const uint8_t nasty[] = {0, 1, 0x7f, 0x80, 0xff, 0xfe};
            data[at] = g_rand_boolean(rand) ? nasty[g_rand_int_range(rand, 0, 6)]
                                            : (uint8_t)g_rand_int(rand);
        }
        gsize cut =
            g_rand_int_range(rand, 0, 6) ? size : (gsize)g_rand_int_range(rand, 2, (gint32)size);
        LLVMFuzzerTestOneInput(data, cut);
    }
}

/* Three grains of an SEsparse extent; see vmdk_sesparse.c. */
static void make_sesparse(void)
{
    static const struct {
        size_t at;
        uint64_t value;
    } numbers[] = {
        {0, 0xcafebabe},
        {8, UINT64_C(0x200000001)},
        {16, MIB(2) / 512},
        {24, 8},
        {32, 64},
        {80, 1},
        {128, 2},
        {136, 1},
        {144, 3},
        {192, 72},
        {512, 0xcafecafe},
        {1024, UINT64_C(0x1000000000000000)},
        {1536, UINT64_C(0x3000000000000000)},
        {1544, UINT64_C(0x3001000000000000)},
        {1552, UINT64_C(0x2000000000000000)},
        {1568, UINT64_C(0x3002000000000000)},
    };
    g_autofree uint8_t *file = g_malloc0(KIB(48));
    for (size_t i = 0; i < G_N_ELEMENTS(numbers); i++)
        store_le64(file + numbers[i].at, numbers[i].value);
    memset(file + KIB(36), 7, KIB(12));
    g_assert_true(g_file_set_contents("seed.vmdk", (char *)file, KIB(48), NULL));
}

/* An image whose data are few bytes. */
static void make_seed(size_t n, GRand *rand)
{
    const char *list[] = {seeds[n].option, NULL};
    uint8_t sector[512] = {7};
    g_autoptr(GBytes) key = seeds[n].encrypted ? g_bytes_new("key", 3) : NULL;
    ImageCreate create = {.format = seeds[n].format,
                          .size = MIB(2),
                          .key = key,
                          .options = seeds[n].option ? list : NULL};
    ImageOptions options = {.format = seeds[n].format, .key = key};
    g_assert_true(image_create("seed.vmdk", &create, NULL));
    g_autoptr(Image) image = kit_open_with("seed.vmdk", &options);
    for (int i = 0; i < 12; i++) {
        uint64_t at = (uint64_t)g_rand_int_range(rand, 0, MIB(2) / 512) * 512;
        g_assert_cmpint(image_write(image, at, sector, sizeof(sector)), ==, 0);
    }
}

/* OSPITE_SEEDS names a folder for what a fuzzer may begin with. */
static void keep_seed(const GByteArray *parts, const char *name)
{
    const char *folder = g_getenv("OSPITE_SEEDS");
    if (!folder)
        return;
    for (int how = 0; how < 4; how++) {
        g_autofree char *path = g_strdup_printf("%s/%s-%d", folder, name, how);
        parts->data[0] = (uint8_t)(PARTS | SEALED | how);
        g_assert_true(g_file_set_contents(path, (char *)parts->data, parts->len, NULL));
    }
}

static void test_hostile(gconstpointer p)
{
    size_t n = GPOINTER_TO_SIZE(p);
    g_autoptr(GRand) rand = g_rand_new_with_seed((guint32)n);
    g_autofree char *data = NULL;
    gsize size;
    kit_enter_folder();
    if (seeds[n].format)
        make_seed(n, rand);
    else
        make_sesparse();
    g_assert_true(g_file_get_contents("seed.vmdk", &data, &size, NULL));
    g_autoptr(GByteArray) parts = take_apart(data, size);
    keep_seed(parts, seeds[n].name);
    torment(parts->data, parts->len, PARTS | SEALED, 200, rand);
    g_autoptr(GByteArray) whole = g_byte_array_new();
    g_byte_array_append(whole, (const uint8_t *)"", 1);
    g_byte_array_append(whole, (const uint8_t *)data, (guint)MIN(size, KIB(200)));
    torment(whole->data, whole->len, 0, 60, rand);
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
