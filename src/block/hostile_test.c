/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Good images with bytes changed at random, as image_fuzz.c has them: errors, no crash, no hang. */
#include "block/image_test_kit.h"
#include "block/luks.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* How a seed is made, beyond its format and option. */
typedef enum Kind {
    PLAIN,
    ENCRYPTED,
    CHILD, /* of a parent that is not there when it is opened */
    SNAPSHOT,
    LOGGED,   /* with a log of VHDX that says what the image does already */
    SESPARSE, /* by hand: nobody here makes it */
    THEIRS,   /* by `qemu-img convert` with these options … */
    OLD_AES,  /* … and marked as encrypted as long ago */
} Kind;

/* Up to the first dash names say which of the fuzz targets image-* begins with the seed. */
static const struct {
    const char *name, *format, *option;
    Kind kind;
} seeds[] = {
    {"qcow2", "qcow2", "cluster_size=4k"},
    {"qcow2-v2", "qcow2", "compat=0.10"},
    {"qcow2-extended", "qcow2", "extended_l2=on"},
    {"qcow2-narrow", "qcow2", "refcount_bits=1"},
    {"qcow2-luks", "qcow2", "encrypt.format=luks", ENCRYPTED},
    {"qcow2-child", "qcow2", NULL, CHILD},
    {"qcow2-snapshot", "qcow2", "cluster_size=4k", SNAPSHOT},
    {"qcow2-aes", "qcow2", "-o compat=0.10", OLD_AES},
    {"qcow2-theirs", "qcow2", "-o cluster_size=512,refcount_bits=64", THEIRS},
    {"qcow2-packed", "qcow2", "-c -o compat=0.10", THEIRS},
    {"qcow2-zstd", "qcow2", "-c -o compression_type=zstd,extended_l2=on", THEIRS},
    {"qcow", "qcow", NULL},
    {"qcow-child", "qcow", NULL, CHILD},
    {"qcow-theirs", "qcow", "", THEIRS},
    {"qcow-aes", "qcow", "", OLD_AES},
    {"vdi", "vdi", NULL},
    {"vdi-fixed", "vdi", "static=on"},
    {"vdi-child", "vdi", NULL, CHILD},
    {"vdi-theirs", "vdi", "", THEIRS},
    {"vhd", "vhd", NULL},
    {"vhd-fixed", "vhd", "subformat=fixed"},
    {"vhd-child", "vhd", NULL, CHILD},
    {"vhd-theirs", "vpc", "-o force_size=on", THEIRS},
    {"vhdx", "vhdx", "block_size=1M"},
    {"vhdx-fixed", "vhdx", "subformat=fixed"},
    {"vhdx-child", "vhdx", NULL, CHILD},
    {"vhdx-logged", "vhdx", "block_size=1M", LOGGED},
    {"vhdx-theirs", "vhdx", "-o log_size=1M,block_size=2M", THEIRS},
    {"vmdk", "vmdk", NULL},
    {"vmdk-flat", "vmdk", "subformat=monolithicFlat"},
    {"vmdk-stream", "vmdk", "subformat=streamOptimized"},
    {"vmdk-child", "vmdk", NULL, CHILD},
    {"vmdk-sesparse", NULL, NULL, SESPARSE},
    {"vmdk-theirs", "vmdk", "", THEIRS},
    {"vmdk-theirs-stream", "vmdk", "-o subformat=streamOptimized", THEIRS},
    {"luks", "luks", NULL, ENCRYPTED},
};

enum { SEALED = 0x40, PARTS = 0x80 }; /* see image_fuzz.c */

/* The file without its zeros, as the parts that image_fuzz.c puts together. */
static GByteArray *take_apart(const char *file, gsize size)
{
    static const uint8_t zeros[64];
    GByteArray *parts = g_byte_array_new();
    g_byte_array_append(parts, zeros, 2);
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
        data[0] = (uint8_t)(how | (round & 15));
        data[1] = (uint8_t)round;
        int changes = g_rand_int_range(rand, 1, 12);
        for (int i = 0; i < changes; i++) {
            gsize reach = g_rand_boolean(rand) ? MIN(size, 512) : size;
            gsize at = (gsize)g_rand_int_range(rand, 2, (gint32)reach);
            static const uint8_t nasty[] = {0, 1, 0x7f, 0x80, 0xff, 0xfe};
            data[at] = g_rand_boolean(rand) ? nasty[g_rand_int_range(rand, 0, 6)]
                                            : (uint8_t)g_rand_int(rand);
        }
        gsize cut =
            g_rand_int_range(rand, 0, 6) ? size : (gsize)g_rand_int_range(rand, 3, (gint32)size);
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
    for (size_t i = 0; i < 3; i++)
        memset(file + KIB(36) + i * KIB(4), 7, 512);
    g_assert_true(g_file_set_contents("seed", (char *)file, KIB(48), NULL));
}

static void write_few(const char *path, const char *format, GBytes *key, GRand *rand)
{
    uint8_t sector[512] = {7};
    ImageOptions options = {.format = format, .key = key, .no_parents = true};
    g_autoptr(Image) image = kit_open_with(path, &options);
    for (int i = 0; i < 12; i++) {
        uint64_t at = (uint64_t)g_rand_int_range(rand, 0, MIB(2) / 512) * 512;
        g_assert_cmpint(image_write(image, at, sector, sizeof(sector)), ==, 0);
    }
}

static void make_snapshot(void)
{
    g_autoptr(Image) image = kit_open("seed", NULL, false);
    g_assert_true(image->driver->snapshots->create(image->map, "then", NULL));
}

/* Two entries: zeros where there are some, and the second sector of the metadata as it is. */
static void add_log(void)
{
    enum { SECTOR = 4096, LOG = MIB(1) };
    g_autofree char *file = NULL;
    gsize size;
    g_assert_true(g_file_get_contents("seed", &file, &size, NULL));
    for (size_t i = 0; i < 2; i++) {
        uint8_t *e = (uint8_t *)file + LOG + i * SECTOR;
        memset(file + KIB(64) + i * KIB(64) + 48, 0x11, 16); /* the log is in use */
        memcpy(e, "loge", 4);
        store_le32(e + 8, i ? 2 * SECTOR : SECTOR);
        store_le64(e + 16, i + 1);
        store_le32(e + 24, 1);
        memset(e + 32, 0x11, 16);
        store_le64(e + 48, size);
        store_le64(e + 56, size);
        memcpy(e + 64, i ? "desc" : "zero", 4);
        store_le64(e + 72, i ? 0 : SECTOR);
        store_le64(e + 80, KIB(512));
        store_le64(e + 88, i + 1);
    }
    uint8_t *data = (uint8_t *)file + LOG + 2 * SECTOR;
    memcpy(data, "data", 4);
    store_le32(data + SECTOR - 4, 2);
    g_assert_true(g_file_set_contents("seed", file, (gssize)size, NULL));
}

static void make_theirs(size_t n, GRand *rand)
{
    g_autofree char *disk = g_malloc0(MIB(2));
    g_assert_true(g_file_set_contents("disk", disk, MIB(2), NULL));
    write_few("disk", "raw", NULL, rand);
    kit_do("qemu-img convert -f raw -O %s %s disk seed", seeds[n].format, seeds[n].option);
}

static void mark_encrypted(const char *format)
{
    g_autofree char *file = NULL;
    gsize size;
    g_assert_true(g_file_get_contents("seed", &file, &size, NULL));
    store_be32(file + (strcmp(format, "qcow") ? 32 : 36), 1);
    g_assert_true(g_file_set_contents("seed", file, (gssize)size, NULL));
}

/* An image whose data are few bytes. */
static void make_seed(size_t n, GRand *rand)
{
    const char *list[] = {seeds[n].option, NULL};
    g_autoptr(GBytes) key = seeds[n].kind == ENCRYPTED ? g_bytes_new("key", 3) : NULL;
    ImageCreate create = {.format = seeds[n].format,
                          .size = MIB(2),
                          .key = key,
                          .options = seeds[n].option ? list : NULL};
    if (seeds[n].kind == SESPARSE) {
        make_sesparse();
        return;
    }
    if (seeds[n].kind >= THEIRS) {
        make_theirs(n, rand);
        if (seeds[n].kind == OLD_AES)
            mark_encrypted(seeds[n].format);
        return;
    }
    if (seeds[n].kind == CHILD) {
        kit_create("parent", "raw", MIB(2), NULL, NULL);
        create.parent = "parent";
    }
    g_assert_true(image_create("seed", &create, NULL));
    write_few("seed", seeds[n].format, key, rand);
    if (seeds[n].kind == SNAPSHOT) {
        make_snapshot();
        write_few("seed", seeds[n].format, NULL, rand);
    } else if (seeds[n].kind == LOGGED) {
        add_log();
    }
}

/* image_fuzz.c puts a header and material whose key it knows in their place. */
static void drop_key_material(char *file, gsize size)
{
    for (gsize at = 0; at + LUKS_MATERIAL < size; at += 512) {
        if (!memcmp(file + at, LUKS_MARK, 6))
            memset(file + at + LUKS_MATERIAL, 0, MIN(KIB(250), size - at - LUKS_MATERIAL));
    }
}

/* OSPITE_SEEDS names a folder for what a fuzzer may begin with. */
static void keep_seed(const GByteArray *parts, const char *name)
{
    const char *folder = g_getenv("OSPITE_SEEDS");
    if (!folder)
        return;
    for (int how = 0; how < 16; how++) {
        g_autofree char *path = g_strdup_printf("%s/%s-%d", folder, name, how);
        parts->data[0] = (uint8_t)(PARTS | SEALED | how);
        parts->data[1] = (uint8_t)how;
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
    if (seeds[n].kind >= THEIRS && !kit_has_qemu()) {
        kit_leave_folder();
        return;
    }
    make_seed(n, rand);
    g_assert_true(g_file_get_contents("seed", &data, &size, NULL));
    drop_key_material(data, size);
    g_autoptr(GByteArray) parts = take_apart(data, size);
    keep_seed(parts, seeds[n].name);
    torment(parts->data, parts->len, PARTS | SEALED, 200, rand);
    g_autoptr(GByteArray) whole = g_byte_array_new();
    g_byte_array_append(whole, (const uint8_t *)"\0", 2);
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
