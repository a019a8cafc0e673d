/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Encrypted images against those of qemu-img, keys, and what must be refused. */
#include "block/image_test_kit.h"

#define SIZE   (MIB(3) + 512 * 7)
#define SECRET "--object secret,id=s,file=key"

typedef struct Case {
    const char *name, *format;
    const char *prefix; /* of the options' names */
    const char *options[6];
} Case;

static const Case cases[] = {
    {"qcow2", "qcow2", "encrypt.", {"encrypt.format=luks"}},
    {"qcow2-4k", "qcow2", "encrypt.", {"encrypt.format=luks", "cluster_size=4k"}},
    {"qcow2-extended", "qcow2", "encrypt.", {"encrypt.format=luks", "extended_l2=on"}},
    {"qcow2-essiv",
     "qcow2",
     "encrypt.",
     {"encrypt.format=luks", "encrypt.cipher-mode=cbc", "encrypt.ivgen-alg=essiv",
      "encrypt.ivgen-hash-alg=sha256", "encrypt.hash-alg=sha1"}},
    {"qcow2-aes128",
     "qcow2",
     "encrypt.",
     {"encrypt.format=luks", "encrypt.cipher-alg=aes-128", "encrypt.hash-alg=sha512"}},
    {"luks", "luks", "", {NULL}},
    {"luks-cbc", "luks", "", {"cipher-alg=aes-128", "cipher-mode=cbc", "ivgen-alg=plain64"}},
};

static GBytes *passphrase(const char *text)
{
    return g_bytes_new_static(text, strlen(text));
}

static Image *open_with(const char *path, const char *format, GBytes *key, GError **error)
{
    ImageOptions options = {.format = format, .key = key};
    return image_open(path, &options, error);
}

static void make(const Case *c, const char *path, GBytes *key)
{
    GError *error = NULL;
    const char *list[8] = {0};
    g_autofree char *fast = g_strconcat(c->prefix, "iter-time=10", NULL);
    int n = 0;
    while (c->options[n])
        list[n] = c->options[n], n++;
    list[n] = fast;
    ImageCreate create = {.format = c->format, .size = SIZE, .options = list, .key = key};
    image_create(path, &create, &error);
    g_assert_no_error(error);
}

static void change(const char *path, const char *format, GBytes *key, uint8_t *disk, GRand *rand)
{
    GError *error = NULL;
    g_autoptr(Image) image = open_with(path, format, key, &error);
    g_assert_no_error(error);
    g_autofree uint8_t *before = kit_read_all(image, SIZE);
    kit_expect(before, disk, SIZE, path);
    for (int i = 0; i < 40; i++)
        kit_random_op(image, disk, SIZE, rand);
    g_autofree uint8_t *after = kit_read_all(image, SIZE);
    kit_expect(after, disk, SIZE, "changed");
    g_assert_cmpint(image_flush(image), ==, 0);
    kit_check(image);
}

static void judge(const Case *c, const char *path, const uint8_t *disk)
{
    if (!strcmp(c->format, "qcow2"))
        kit_do("qemu-img check -q " SECRET
               " --image-opts driver=qcow2,encrypt.key-secret=s,file.filename=%s",
               path);
    kit_do("qemu-img convert " SECRET
           " --image-opts driver=%s,%skey-secret=s,file.filename=%s -O raw out.raw",
           c->format, c->prefix, path);
    kit_expect_file("out.raw", disk, SIZE);
}

static bool begin(void)
{
    kit_enter_folder();
    g_assert_true(g_file_set_contents("key", "open sesame", -1, NULL));
    return kit_has_qemu();
}

static void test_ours(gconstpointer data)
{
    const Case *c = data;
    g_autoptr(GBytes) key = passphrase("open sesame");
    g_autoptr(GRand) rand = g_rand_new_with_seed(5);
    g_autofree uint8_t *disk = g_malloc0(SIZE);
    bool judged = begin();
    make(c, "ours", key);
    g_autoptr(Image) image = open_with("ours", c->format, key, NULL);
    if (!image->map->unit_size) /* a container's first bytes are what the host had there */
        g_assert_cmpint(image_write_zeros(image, 0, SIZE), ==, 0);
    g_clear_pointer(&image, image_close);
    change("ours", c->format, key, disk, rand);
    change("ours", c->format, key, disk, rand);
    if (judged)
        judge(c, "ours", disk);
    kit_leave_folder();
}

static void test_theirs(gconstpointer data)
{
    const Case *c = data;
    g_autoptr(GBytes) key = passphrase("open sesame");
    g_autoptr(GRand) rand = g_rand_new_with_seed(6);
    g_autofree uint8_t *disk = g_malloc0(SIZE);
    g_autofree char *options = g_strjoinv(",", (char **)c->options);
    if (begin()) {
        memset(disk + MIB(1), 0x5a, MIB(1));
        memset(disk + MIB(2), 0x21, MIB(1));
        /* It often fails to measure its own time. */
        kit_do("for i in $(seq 50); do qemu-img create -q -f %s " SECRET
               " -o %skey-secret=s,%siter-time=10%s%s theirs %u 2>/dev/null && exit; done; exit 1",
               c->format, c->prefix, c->prefix, *options ? "," : "", options, (unsigned)SIZE);
        kit_do("qemu-io " SECRET " --image-opts -c 'write -P 0 0 1M' -c 'write -P 0x5a 1M 1M' "
               "-c 'write -P 0x21 2M 1M' -c 'write -P 0 3M 3584' "
               "driver=%s,%skey-secret=s,file.filename=theirs",
               c->format, c->prefix);
        change("theirs", c->format, key, disk, rand);
        judge(c, "theirs", disk);
    }
    kit_leave_folder();
}

static void expect_no_key(const char *path, GBytes *key, const char *words)
{
    GError *error = NULL;
    g_assert_null(open_with(path, NULL, key, &error));
    if (!strstr(error->message, words))
        g_error("'%s' lacks '%s'", error->message, words);
    g_clear_error(&error);
}

static void test_keys(gconstpointer data)
{
    const Case *c = data;
    GError *error = NULL;
    g_autoptr(GBytes) one = passphrase("open sesame"), two = passphrase("friend");
    g_autoptr(GRand) rand = g_rand_new_with_seed(7);
    g_autofree uint8_t *disk = g_malloc0(SIZE);
    begin();
    make(c, "a", one);
    expect_no_key("a", NULL, "--key-file");
    expect_no_key("a", two, "none of its key slots");
    Image *image = open_with("a", NULL, one, &error);
    g_assert_cmpint(image_write_zeros(image, 0, SIZE), ==, 0);
    g_assert_true(image->driver->keys->add(image->map, two, "10", &error));
    g_assert_false(image->driver->keys->erase(image->map, 5, NULL));
    image_close(image);
    change("a", c->format, two, disk, rand);
    change("a", c->format, one, disk, rand);
    image = open_with("a", NULL, two, &error);
    g_assert_true(image->driver->keys->erase(image->map, 0, &error));
    g_assert_no_error(error);
    g_assert_false(image->driver->keys->erase(image->map, 1, NULL));
    image_close(image);
    expect_no_key("a", one, "none of its key slots");
    change("a", c->format, two, disk, rand);
    g_assert_true(g_file_set_contents("key", "friend", -1, NULL));
    if (kit_has_qemu())
        judge(c, "a", disk);
    kit_leave_folder();
}

/* Snapshots and a new size keep the image encrypted. */
static void test_life(void)
{
    GError *error = NULL;
    g_autoptr(GBytes) key = passphrase("open sesame");
    g_autoptr(GRand) rand = g_rand_new_with_seed(8);
    g_autofree uint8_t *disk = g_malloc0(SIZE);
    bool judged = begin();
    make(&cases[0], "a", key);
    change("a", "qcow2", key, disk, rand);
    Image *image = open_with("a", NULL, key, &error);
    g_assert_true(image->driver->snapshots->create(image->map, "s", &error));
    g_assert_true(image_resize(image, GIB(600), &error));
    g_assert_true(image_resize(image, SIZE, &error));
    g_assert_cmpint(image_write(image, 0, disk + 512, 512), ==, 0);
    g_assert_true(image->driver->snapshots->apply(image->map, "s", &error));
    g_assert_no_error(error);
    image_close(image);
    change("a", "qcow2", key, disk, rand);
    if (judged)
        judge(&cases[0], "a", disk);
    /* What is on the host is not what is on the disk. */
    g_autofree char *grep = kit_run("grep -c 'open sesame' a || true");
    g_assert_cmpstr(grep, ==, "0\n");
    kit_leave_folder();
}

/* The old encryption is read, with a warning, and never written. */
static void test_old(gconstpointer format)
{
    GError *error = NULL;
    g_autoptr(GBytes) key = passphrase("open sesame");
    g_autofree uint8_t *disk = g_malloc0(MIB(1));
    memset(disk, 0x77, MIB(1));
    if (begin()) {
        kit_do("qemu-img create -q -f %s " SECRET
               " -o encrypt.format=aes,encrypt.key-secret=s a 1M",
               (const char *)format);
        kit_do("qemu-io " SECRET " --image-opts -c 'write -P 0x77 0 1M' "
               "driver=%s,encrypt.key-secret=s,encrypt.format=aes,file.filename=a",
               (const char *)format);
        ImageOptions options = {.read_only = true, .key = key};
        g_autoptr(Image) image = image_open("a", &options, &error);
        g_assert_no_error(error);
        g_autofree uint8_t *got = kit_read_all(image, MIB(1));
        kit_expect(got, disk, MIB(1), format);
        g_assert_nonnull(image->map->warning);
        g_clear_pointer(&image, image_close);
        expect_no_key("a", key, "encrypt.format=luks");
    }
    kit_leave_folder();
}

/* Ciphers that libcrypto doesn't have are refused by their names. */
static void test_other_ciphers(void)
{
    static const char *const names[] = {"serpent", "twofish"};
    g_autoptr(GBytes) key = passphrase("open sesame");
    bool can_make = begin();
    for (size_t i = 0; can_make && i < G_N_ELEMENTS(names); i++) {
        g_autoptr(GError) error = NULL;
        kit_do("for i in $(seq 50); do qemu-img create -q -f luks " SECRET
               " -o key-secret=s,iter-time=10,cipher-alg=%s-256 a 1M 2>/dev/null && exit; done; "
               "exit 1",
               names[i]);
        g_assert_null(open_with("a", "luks", key, &error));
        g_assert_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA);
        g_assert_nonnull(strstr(error->message, names[i]));
    }
    kit_leave_folder();
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *ours = g_strdup_printf("/encrypt/%s/ours", cases[i].name);
        g_autofree char *theirs = g_strdup_printf("/encrypt/%s/theirs", cases[i].name);
        g_autofree char *keys = g_strdup_printf("/encrypt/%s/keys", cases[i].name);
        g_test_add_data_func(ours, &cases[i], test_ours);
        g_test_add_data_func(theirs, &cases[i], test_theirs);
        g_test_add_data_func(keys, &cases[i], test_keys);
    }
    g_test_add_func("/encrypt/life", test_life);
    g_test_add_func("/encrypt/other-ciphers", test_other_ciphers);
    g_test_add_data_func("/encrypt/old/qcow", "qcow", test_old);
    g_test_add_data_func("/encrypt/old/qcow2", "qcow2", test_old);
    return g_test_run();
}
