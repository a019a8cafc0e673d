/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Kernels made here by hand, good and damaged, loaded into a board of 16 MiB and looked at there.
 */
#include <glib/gstdio.h>
#include <string.h>

#include "base/bits.h"
#include "device/test_board.h"
#include "machine/direct_boot.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct Fixture {
    TestBoard *b;
    BootEntry entry;
    GError *error;
} Fixture;

static const E820Entry e820[] = {
    {0, 0x9fc00, E820_RAM}, {0xf0000, 0x10000, E820_RESERVED}, {MIB(1), MIB(15), E820_RAM}};

static void setup(Fixture *f, gconstpointer data)
{
    f->b = test_board_new();
}

static void teardown(Fixture *f, gconstpointer data)
{
    g_clear_error(&f->error);
    test_board_free(f->b);
}

static bool boot(Fixture *f, const uint8_t *kernel, size_t size, const char *initrd,
                 const char *append)
{
    g_autoptr(GBytes) bytes = g_bytes_new(kernel, size);
    g_autoptr(GBytes) module = initrd ? g_bytes_new(initrd, strlen(initrd)) : NULL;
    BootMachine machine = {f->b->board.memory, e820, G_N_ELEMENTS(e820), 0xf0000};

    g_clear_error(&f->error);
    g_autoptr(DirectBoot) db = direct_boot_new(bytes, module, append, &f->error);
    return db && direct_boot_load(db, &machine, &f->entry, &f->error);
}

static void assert_refused(Fixture *f, const uint8_t *kernel, size_t size, const char *why)
{
    g_assert_false(boot(f, kernel, size, NULL, ""));
    if (!strstr(f->error->message, why))
        g_test_message("%s", f->error->message);
    g_assert_nonnull(strstr(f->error->message, why));
}

static const uint8_t *at(Fixture *f, uint64_t address)
{
    g_assert_cmphex(address, <, MIB(16));
    return f->b->ram->host + address;
}

/* Flat segments at 0x10 and 0x18, as all three protocols are given. */
static void assert_gdt(Fixture *f, uint32_t code_high)
{
    g_assert_cmpuint(f->entry.gdt_limit, >=, 0x1f);
    g_assert_cmphex(load_le32(at(f, f->entry.gdt_base + 0x14)), ==, code_high);
    g_assert_cmphex(load_le32(at(f, f->entry.gdt_base + 0x1c)), ==, 0x00cf9300);
}

/* ---- Linux ----------------------------------------------------------------------------------- */

#define LINUX_SIZE (5 * 512 + 4096)

/* Protocol 2.15, 4 setup sectors, "payload" 0x5c everywhere. */
static uint8_t *make_linux(bool is_64)
{
    uint8_t *k = g_malloc0(LINUX_SIZE);

    memset(k + 5 * 512, 0x5c, 4096);
    k[0x1f1] = 4;
    store_le16(k + 0x1fe, 0xaa55);
    store_le16(k + 0x200, 0x6aeb); /* header ends at 0x26c */
    memcpy(k + 0x202, "HdrS", 4);
    store_le16(k + 0x206, 0x020f);
    k[0x211] = 1;
    store_le32(k + 0x22c, 0x7fffffff);
    store_le16(k + 0x236, is_64 ? 1 : 0);
    store_le32(k + 0x238, 2047);
    store_le64(k + 0x258, MIB(2));
    store_le32(k + 0x260, MIB(4));
    return k;
}

static void test_linux64(Fixture *f, gconstpointer data)
{
    g_autofree uint8_t *k = make_linux(true);

    g_assert_true(boot(f, k, LINUX_SIZE, "initial ram disk", "console=ttyS0 quiet"));
    g_assert_cmpint(f->entry.mode, ==, BOOT_LONG64);
    g_assert_cmphex(f->entry.rip, ==, 0x100200);
    g_assert_cmphex(*at(f, 0x100000), ==, 0x5c);
    g_assert_cmphex(*at(f, 0x100fff), ==, 0x5c);
    assert_gdt(f, 0x00af9b00);
    const uint8_t *zp = at(f, f->entry.rsi);
    g_assert_cmphex(zp[0x210], ==, 0xff);
    g_assert_cmpstr((char *)at(f, load_le32(zp + 0x228)), ==, "console=ttyS0 quiet");
    g_assert_cmpuint(load_le32(zp + 0x21c), ==, 16);
    uint32_t initrd = load_le32(zp + 0x218);
    g_assert_cmphex(initrd, ==, MIB(16) - 4096);
    g_assert_cmpmem(at(f, initrd), 16, "initial ram disk", 16);
    g_assert_cmpuint(zp[0x1e8], ==, 3);
    g_assert_cmphex(load_le64(zp + 0x2d0 + 8), ==, 0x9fc00);
    g_assert_cmphex(load_le32(zp + 0x2d0 + 20 + 16), ==, 2);
    g_assert_cmphex(load_le64(zp + 0x70), ==, 0xf0000);
    g_assert_cmphex(zp[0x1ef], ==, 0); /* the sentinel: all not given is zero */
}

/* Walks the tables as a CPU does: linear equals physical up to 4 GiB. */
static void test_linux_page_tables(Fixture *f, gconstpointer data)
{
    static const uint64_t probes[] = {0, 0x100200, MIB(16), GIB(3) + MIB(6), GIB(4) - MIB(2)};
    g_autofree uint8_t *k = make_linux(true);

    g_assert_true(boot(f, k, LINUX_SIZE, NULL, ""));
    g_assert_cmphex(f->entry.cr3 & 0xfff, ==, 0);
    for (unsigned i = 0; i < G_N_ELEMENTS(probes); i++) {
        uint64_t l4 = load_le64(at(f, f->entry.cr3));
        uint64_t l3 = load_le64(at(f, (l4 & ~0xfffull) + 8 * (probes[i] >> 30)));
        uint64_t l2 = load_le64(at(f, (l3 & ~0xfffull) + 8 * (probes[i] >> 21 & 511)));
        g_assert_cmphex(l4 & l3 & 3, ==, 3);
        g_assert_cmphex(l2, ==, (probes[i] & ~(MIB(2) - 1)) | 0x83);
    }
}

static void test_linux32(Fixture *f, gconstpointer data)
{
    g_autofree uint8_t *k = make_linux(false);

    g_assert_true(boot(f, k, LINUX_SIZE, NULL, ""));
    g_assert_cmpint(f->entry.mode, ==, BOOT_PROTECTED32);
    g_assert_cmphex(f->entry.rip, ==, 0x100000);
    g_assert_cmphex(load_le16(at(f, f->entry.rsi) + 0x1fe), ==, 0xaa55);
    assert_gdt(f, 0x00cf9b00);
}

/* Of protocol 2.07: the real-mode part as a boot loader leaves it, and an entry there. */
static void test_linux_real(Fixture *f, gconstpointer data)
{
    g_autofree uint8_t *k = make_linux(false);

    store_le16(k + 0x206, 0x0207);
    g_assert_true(boot(f, k, LINUX_SIZE, "initial ram disk", "quiet"));
    g_assert_cmpint(f->entry.mode, ==, BOOT_REAL16);
    g_assert_cmphex(f->entry.rip, ==, 0);
    g_assert_cmphex(f->entry.code_segment - f->entry.data_segment, ==, 0x20);
    g_assert_cmphex(*at(f, 0x100000), ==, 0x5c);
    uint32_t segment = f->entry.data_segment << 4;
    const uint8_t *setup = at(f, segment);
    g_assert_cmpmem(setup + 0x202, 4, "HdrS", 4);
    g_assert_cmphex(setup[0x210], ==, 0xff);
    g_assert_cmphex(setup[0x211], ==, 0x81);
    g_assert_cmphex(load_le16(setup + 0x224) + 0x200, <, f->entry.rsp);
    g_assert_cmphex(segment + 0x10000, <=, 0x9f000);
    /* where nothing runs over it that moves to 0x90000 */
    g_assert_cmphex(load_le32(setup + 0x228), <, 0x90000);
    g_assert_cmpstr((char *)at(f, load_le32(setup + 0x228)), ==, "quiet");
    g_assert_cmpmem(at(f, load_le32(setup + 0x218)), 16, "initial ram disk", 16);
    k[0x1f1] = 64; /* more than a segment has room for */
    g_autofree uint8_t *large = g_malloc0(65 * 512 + 512);
    memcpy(large, k, LINUX_SIZE);
    assert_refused(f, large, 65 * 512 + 512, "damaged");
}

static void test_linux_refused(Fixture *f, gconstpointer data)
{
    g_autofree uint8_t *k = make_linux(true);
    g_autofree char *longer = g_strnfill(2048, 'x');

    store_le16(k + 0x206, 0x0201);
    assert_refused(f, k, LINUX_SIZE, "2.01");
    store_le16(k + 0x206, 0x020f);
    assert_refused(f, k, 1024, "too short");
    k[0x211] = 0;
    assert_refused(f, k, LINUX_SIZE, "zImage");
    k[0x211] = 1;
    k[0x1f1] = 200;
    assert_refused(f, k, LINUX_SIZE, "damaged");
    k[0x1f1] = 4;
    k[0x201] = 0xff; /* the header would run into the E820 table */
    assert_refused(f, k, LINUX_SIZE, "damaged");
    k[0x201] = 0x6a;
    store_le32(k + 0x260, MIB(64));
    assert_refused(f, k, LINUX_SIZE, "--memory");
    store_le32(k + 0x260, MIB(4));
    g_assert_false(boot(f, k, LINUX_SIZE, NULL, longer));
    g_assert_nonnull(strstr(f->error->message, "2047"));
    store_le32(k + 0x22c, MIB(5)); /* the initrd must lie below, where the kernel runs */
    g_assert_false(boot(f, k, LINUX_SIZE, "initrd", ""));
    g_assert_nonnull(strstr(f->error->message, "initrd"));
}

/* ---- ELF and PVH ----------------------------------------------------------------------------- */

#define ELF_SIZE 0x400

/* Two program headers: code at 2 MiB (0x80 bytes in the file, 0x2000 in memory) and the PVH note.
 */
static uint8_t *make_elf32(void)
{
    uint8_t *e = g_malloc0(ELF_SIZE);

    memcpy(e, "\177ELF\001\001\001", 7);
    store_le16(e + 16, 2);
    store_le16(e + 18, 3);
    store_le32(e + 24, 0x200010);
    store_le32(e + 28, 0x40);
    store_le16(e + 42, 32);
    store_le16(e + 44, 2);
    store_le32(e + 0x40, 1);
    store_le32(e + 0x44, 0x200);
    store_le32(e + 0x4c, 0x200000);
    store_le32(e + 0x50, 0x80);
    store_le32(e + 0x54, 0x2000);
    store_le32(e + 0x60, 4);
    store_le32(e + 0x64, 0x300);
    store_le32(e + 0x70, 20);
    store_le32(e + 0x300, 4);
    store_le32(e + 0x304, 4);
    store_le32(e + 0x308, 18);
    memcpy(e + 0x30c, "Xen", 4);
    store_le32(e + 0x310, 0x200020);
    memset(e + 0x200, 0x90, 0x80);
    return e;
}

static void test_pvh(Fixture *f, gconstpointer data)
{
    g_autofree uint8_t *e = make_elf32();

    memset(f->b->ram->host + MIB(2), 0xee, 0x3000);
    g_assert_true(boot(f, e, ELF_SIZE, "module", "root=/dev/sda"));
    g_assert_cmphex(f->entry.rip, ==, 0x200020);
    assert_gdt(f, 0x00cf9b00);
    g_assert_cmphex(*at(f, 0x20007f), ==, 0x90);
    g_assert_cmphex(*at(f, 0x200080), ==, 0); /* BSS, although memory was dirty */
    g_assert_cmphex(*at(f, 0x201fff), ==, 0);
    const uint8_t *info = at(f, f->entry.rbx);
    g_assert_cmphex(load_le32(info), ==, 0x336ec578);
    g_assert_cmpuint(load_le32(info + 4), ==, 1);
    g_assert_cmpuint(load_le32(info + 12), ==, 1);
    const uint8_t *module = at(f, load_le64(info + 16));
    g_assert_cmphex(load_le64(module), ==, 0x202000);
    g_assert_cmpmem(at(f, load_le64(module)), load_le64(module + 8), "module", 6);
    g_assert_cmpstr((char *)at(f, load_le64(info + 24)), ==, "root=/dev/sda");
    g_assert_cmphex(load_le64(info + 32), ==, 0xf0000);
    g_assert_cmpuint(load_le32(info + 48), ==, 3);
    const uint8_t *map = at(f, load_le64(info + 40));
    g_assert_cmphex(load_le64(map + 48 + 8), ==, MIB(15));
    g_assert_cmpuint(load_le32(map + 48 + 16), ==, 1);
}

static void test_elf_refused(Fixture *f, gconstpointer data)
{
    static const struct {
        unsigned offset;
        uint32_t value;
        const char *why;
    } cases[] = {
        {0x308, 17, "PVH"},         /* another note */
        {0x304, 0xffffffff, "PVH"}, /* a note longer than the segment */
        {0x300, 0xfffffff0, "PVH"},
        {0x44, 0x7fffffff, "outside"}, /* p_offset */
        {0x50, 0xfffffff0, "outside"}, /* p_filesz */
        {0x54, 0x10, "larger"},        /* p_memsz < p_filesz */
        {0x54, 0xffffffff, "4 GiB"},
        {0x4c, 0xe0000000, "no RAM"},
        {0x4c, 0x88000, "boot parameters"},
        {0x4c, 0xf0000, "no RAM"},
        {28, 0xfffffff0, "outside the file"}, /* e_phoff */
        {42, 0xffff0004, "outside the file"}, /* e_phentsize, e_phnum */
        {16, 0x00030001, "executable"},
        {16, 0x00280002, "processor"},
        {0x40, 0, "nothing to load"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree uint8_t *e = make_elf32();
        store_le32(e + cases[i].offset, cases[i].value);
        assert_refused(f, e, ELF_SIZE, cases[i].why);
    }
    g_autofree uint8_t *e = make_elf32();
    assert_refused(f, e, 30, "cut off");
    assert_refused(f, e, 3, "no kernel known");
}

/* ---- Multiboot ------------------------------------------------------------------------------- */

static void put_multiboot(uint8_t *at, uint32_t flags)
{
    store_le32(at, 0x1badb002);
    store_le32(at + 4, flags);
    store_le32(at + 8, -(0x1badb002 + flags));
}

static void test_multiboot_elf(Fixture *f, gconstpointer data)
{
    g_autofree uint8_t *e = make_elf32();

    put_multiboot(e + 0x208, 3 | 4); /* with a video request, which we may ignore */
    g_assert_true(boot(f, e, ELF_SIZE, "module", "arg1 arg2"));
    g_assert_cmphex(f->entry.rip, ==, 0x200010);
    g_assert_cmphex(f->entry.rax, ==, 0x2badb002);
    const uint8_t *info = at(f, f->entry.rbx);
    uint32_t flags = load_le32(info);
    g_assert_cmphex(flags & 0x4d, ==, 0x4d); /* memory, command line, modules, map */
    g_assert_cmpuint(load_le32(info + 4), ==, 639);
    g_assert_cmpuint(load_le32(info + 8), ==, 15 * 1024);
    g_assert_cmpstr((char *)at(f, load_le32(info + 16)), ==, "kernel arg1 arg2");
    const uint8_t *module = at(f, load_le32(info + 24));
    g_assert_cmphex(load_le32(module) & 0xfff, ==, 0);
    g_assert_cmpmem(at(f, load_le32(module)), load_le32(module + 4) - load_le32(module), "module",
                    6);
    const uint8_t *map = at(f, load_le32(info + 48));
    g_assert_cmpuint(load_le32(info + 44), ==, 72);
    g_assert_cmpuint(load_le32(map), ==, 20);
    g_assert_cmphex(load_le64(map + 48 + 4), ==, MIB(1));
}

static void test_multiboot_addresses(Fixture *f, gconstpointer data)
{
    uint8_t k[512] = {0};

    memset(k, 0x77, sizeof(k));
    put_multiboot(k + 16, 1 << 16);
    store_le32(k + 28, 0x300010); /* header_addr: the file begins at 0x300000 */
    store_le32(k + 32, 0x300000);
    store_le32(k + 36, 0); /* load_end: the whole file */
    store_le32(k + 40, 0x301000);
    store_le32(k + 44, 0x300040);
    memset(f->b->ram->host + 0x300000, 0xee, 0x2000);
    g_assert_true(boot(f, k, sizeof(k), NULL, ""));
    g_assert_cmphex(f->entry.rip, ==, 0x300040);
    g_assert_cmpmem(at(f, 0x300000), sizeof(k), k, sizeof(k));
    g_assert_cmphex(*at(f, 0x300200), ==, 0);
    g_assert_cmphex(*at(f, 0x301000), ==, 0xee);
    store_le32(k + 32, 0x300020); /* load_addr above the header */
    assert_refused(f, k, sizeof(k), "load address");
    store_le32(k + 32, 0x2fff00); /* header further in than the file says */
    assert_refused(f, k, sizeof(k), "load address");
    store_le32(k + 32, 0x300000);
    store_le32(k + 36, 0x300400);
    assert_refused(f, k, sizeof(k), "more bytes");
    store_le32(k + 36, 0x2fffff);
    assert_refused(f, k, sizeof(k), "load end");
    store_le32(k + 36, 0);
    store_le32(k + 40, 0x300100);
    assert_refused(f, k, sizeof(k), "BSS");
    put_multiboot(k + 16, 1 << 16 | 8);
    assert_refused(f, k, sizeof(k), "0x8");
    put_multiboot(k + 16, 0);
    assert_refused(f, k, sizeof(k), "neither an ELF");
    put_multiboot(k + 16, 1 << 16);
    assert_refused(f, k, 40, "cut off");
}

static void test_files(Fixture *f, gconstpointer data)
{
    g_autofree char *folder = g_dir_make_tmp("ospite-boot-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(folder, "vmlinuz", NULL);

    g_assert_null(direct_boot_open(path, NULL, NULL, &f->error));
    g_assert_nonnull(strstr(f->error->message, path));
    g_clear_error(&f->error);
    g_assert_null(direct_boot_open(folder, NULL, NULL, &f->error));
    g_assert_nonnull(strstr(f->error->message, "regular"));
    g_clear_error(&f->error);
    g_assert_true(g_file_set_contents(path, "", 0, NULL));
    g_assert_null(direct_boot_open(path, NULL, NULL, &f->error));
    g_assert_nonnull(strstr(f->error->message, "empty"));
    g_clear_error(&f->error);
    g_autofree uint8_t *k = make_linux(true);
    g_assert_true(g_file_set_contents(path, (char *)k, LINUX_SIZE, NULL));
    g_assert_null(direct_boot_open(path, "/nonexistent/initrd", NULL, &f->error));
    g_assert_nonnull(strstr(f->error->message, "initrd"));
    g_autoptr(DirectBoot) db = direct_boot_open(path, NULL, "quiet", NULL);
    g_assert_cmpstr(direct_boot_protocol(db), ==, "Linux");
    g_unlink(path);
    g_rmdir(folder);
}

/* Damaged copies of every good kernel: nothing may crash, whatever the answer. */
static void test_damage(Fixture *f, gconstpointer data)
{
    for (unsigned round = 0; round < 400; round++) {
        g_autofree uint8_t *k = round & 1 ? make_linux(round & 2) : make_elf32();
        size_t size = round & 1 ? LINUX_SIZE : ELF_SIZE;
        g_autofree uint8_t *input = g_malloc(size + 1);
        for (unsigned i = 0; i < 6; i++)
            k[g_test_rand_int_range(0, MIN(size, 0x320))] = g_test_rand_int();
        input[0] = g_test_rand_int();
        memcpy(input + 1, k, size);
        LLVMFuzzerTestOneInput(input, size + 1);
    }
}

#define ADD(name) g_test_add("/direct-boot/" #name, Fixture, NULL, setup, test_##name, teardown)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD(linux64);
    ADD(linux_page_tables);
    ADD(linux32);
    ADD(linux_real);
    ADD(linux_refused);
    ADD(pvh);
    ADD(elf_refused);
    ADD(multiboot_elf);
    ADD(multiboot_addresses);
    ADD(files);
    ADD(damage);
    return g_test_run();
}
