/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * ACPI and SMBIOS: tables are found and sum to zero after the loader script ran, the DSDT survives
 * ACPICA's disassembler and compiler, AML lengths and names have their documented encodings.
 */
#include <glib/gstdio.h>
#include <string.h>

#include "base/bits.h"
#include "machine/acpi.h"
#include "machine/aml.h"
#include "machine/smbios.h"

#define TABLES_AT 0x7ff0000u
#define RSDP_AT   0xf0000u

static const AcpiConfig full = {.cpu_count = 8,
                                .pci_window_start = 0xe0000000,
                                .serial = {true, true, true, true},
                                .parallel = {true},
                                .floppy = true,
                                .apic = true,
                                .hpet = true};

static uint8_t sum(const uint8_t *data, size_t size)
{
    uint8_t total = 0;

    while (size--)
        total += *data++;
    return total;
}

/* The table at a guest address, its checksum verified. */
static const uint8_t *table_at(const AcpiTables *t, uint64_t address, const char *signature)
{
    g_assert_cmphex(address, >=, TABLES_AT);
    g_assert_cmphex(address, <, TABLES_AT + t->tables->len);
    const uint8_t *table = t->tables->data + (address - TABLES_AT);
    uint32_t length = load_le32(table + 4);
    g_assert_cmpuint(address - TABLES_AT + length, <=, t->tables->len);
    if (signature)
        g_assert_cmpmem(table, 4, signature, 4);
    if (memcmp(table, "FACS", 4) != 0)
        g_assert_cmphex(sum(table, length), ==, 0);
    return table;
}

static void link_tables(const AcpiConfig *config, AcpiTables *t)
{
    acpi_build(config, t);
    g_assert_true(acpi_link(t, TABLES_AT, RSDP_AT, NULL));
}

static void test_links(void)
{
    AcpiTables t;

    link_tables(&full, &t);
    const uint8_t *rsdp = t.rsdp->data;
    g_assert_cmpmem(rsdp, 8, "RSD PTR ", 8);
    g_assert_cmphex(sum(rsdp, 20), ==, 0);
    g_assert_cmphex(sum(rsdp, 36), ==, 0);
    const uint8_t *rsdt = table_at(&t, load_le32(rsdp + 16), "RSDT");
    const uint8_t *xsdt = table_at(&t, load_le64(rsdp + 24), "XSDT");
    unsigned count = (load_le32(rsdt + 4) - 36) / 4;
    g_assert_cmpuint(count, ==, 3);
    g_assert_cmpuint((load_le32(xsdt + 4) - 36) / 8, ==, count);
    for (unsigned i = 1; i < count; i++) {
        g_assert_cmphex(load_le32(rsdt + 36 + 4 * i), ==, load_le64(xsdt + 36 + 8 * i));
        table_at(&t, load_le32(rsdt + 36 + 4 * i), NULL);
    }
    const uint8_t *fadt = table_at(&t, load_le64(xsdt + 36), "FACP");
    g_assert_cmpuint(fadt[8], ==, 3);
    g_assert_cmpuint(load_le32(fadt + 4), ==, 244);
    g_assert_cmphex(load_le32(fadt + 36) % 64, ==, 0);
    table_at(&t, load_le32(fadt + 36), "FACS");
    table_at(&t, load_le32(fadt + 40), "DSDT");
    g_assert_cmphex(load_le64(fadt + 140), ==, load_le32(fadt + 40));
    g_assert_cmphex(load_le32(fadt + 76), ==, load_le64(fadt + 208 + 4)); /* PM timer, both ways */
    acpi_tables_clear(&t);
}

/* Systems that know only the RSDT are of ACPI 1.0's time; Windows 2000 insists on its FADT. */
static void test_old_fadt(void)
{
    AcpiTables t;

    link_tables(&full, &t);
    const uint8_t *rsdt = table_at(&t, load_le32(t.rsdp->data + 16), "RSDT");
    const uint8_t *xsdt = table_at(&t, load_le64(t.rsdp->data + 24), "XSDT");
    const uint8_t *old = table_at(&t, load_le32(rsdt + 36), "FACP");
    const uint8_t *new = table_at(&t, load_le64(xsdt + 36), "FACP");
    g_assert_cmpuint(old[8], ==, 1);
    g_assert_cmpuint(load_le32(old + 4), ==, 116);
    g_assert_cmpmem(old + 46, 109 - 46, new + 46, 109 - 46); /* SCI, ports, lengths, century */
    g_assert_cmphex(load_le32(old + 36), ==, load_le32(new + 36));
    g_assert_cmphex(load_le32(old + 40), ==, load_le32(new + 40));
    g_assert_cmphex(old[45] | old[109] | old[110] | old[111], ==, 0); /* reserved then */
    g_assert_cmphex(load_le32(old + 112) >> 9, ==, 0);
    acpi_tables_clear(&t);
}

static void test_madt(void)
{
    AcpiTables t;
    unsigned cpus = 0, ioapics = 0, timer_gsi = 0;

    link_tables(&full, &t);
    const uint8_t *rsdt = table_at(&t, load_le32(t.rsdp->data + 16), "RSDT");
    const uint8_t *madt = table_at(&t, load_le32(rsdt + 40), "APIC");
    for (unsigned at = 44; at < load_le32(madt + 4); at += madt[at + 1]) {
        g_assert_cmpuint(madt[at + 1], >=, 6);
        if (madt[at] == 0)
            g_assert_cmpuint(madt[at + 3], ==, cpus++);
        ioapics += madt[at] == 1;
        if (madt[at] == 2 && madt[at + 3] == 0)
            timer_gsi = load_le32(madt + at + 4);
        if (madt[at] == 2 && madt[at + 3] == 9)
            g_assert_cmphex(load_le16(madt + at + 8), ==, 0x0d); /* level, active high */
    }
    g_assert_cmpuint(cpus, ==, 8);
    g_assert_cmpuint(ioapics, ==, 1);
    g_assert_cmpuint(timer_gsi, ==, 2);
    acpi_tables_clear(&t);
}

static void test_malformed_script(void)
{
    uint8_t script[128] = {0};
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    AcpiLoaderFile file = {"file", g_byte_array_set_size(bytes, 8), 0x1000};
    static const struct {
        uint32_t command, at60, at64, at68;
    } cases[] = {{3, 8, 0, 8}, {3, 0, 4, 5}, {3, 0, 0xffffffff, 8}, {9, 0, 0, 0}, {2, 0, 0, 0}};

    memcpy(script + 4, "file", sizeof("file"));
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        store_le32(script, cases[i].command);
        store_le32(script + 60, cases[i].at60);
        store_le32(script + 64, cases[i].at64);
        store_le32(script + 68, cases[i].at68);
        g_assert_false(acpi_loader_run(script, sizeof(script), &file, 1, &error));
        g_assert_nonnull(error);
    }
}

static bool run_iasl(const char *folder, const char *option, const char *file, char **ret_output)
{
    const char *argv[] = {"iasl", option, file, NULL};
    g_autofree char *errors = NULL;
    int status = 0;

    if (!option[0])
        argv[1] = file, argv[2] = NULL;
    bool ran = g_spawn_sync(folder, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL,
                            ret_output, &errors, &status, NULL);
    return ran && g_spawn_check_wait_status(status, NULL);
}

static void remove_folder(const char *folder)
{
    static const char *const names[] = {"dsdt.aml", "dsdt.dsl", "dsdt2.aml"};

    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *path = g_build_filename(folder, names[i], NULL);
        g_unlink(path);
    }
    g_rmdir(folder);
}

/* The DSDT through ACPICA: disassembled, then compiled again without an error. */
static void test_iasl(void)
{
    g_autofree char *iasl = g_find_program_in_path("iasl");
    g_autofree char *folder = g_dir_make_tmp("ospite-acpi-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(folder, "dsdt.aml", NULL);
    g_autofree char *text = NULL, *output = NULL, *ignored = NULL;
    AcpiTables t;

    if (!iasl) {
        g_test_skip("iasl is not installed (package acpica-tools)");
        g_rmdir(folder);
        return;
    }
    link_tables(&full, &t);
    const uint8_t *dsdt = t.tables->data + 64;
    g_assert_cmpmem(dsdt, 4, "DSDT", 4);
    g_assert_true(g_file_set_contents(path, (const char *)dsdt, load_le32(dsdt + 4), NULL));
    g_assert_true(run_iasl(folder, "-d", "dsdt.aml", &ignored));
    g_autofree char *source = g_build_filename(folder, "dsdt.dsl", NULL);
    g_assert_true(g_file_get_contents(source, &text, NULL, NULL));
    g_assert_nonnull(strstr(text, "Device (COM1)"));
    g_assert_nonnull(strstr(text, "Processor (CP07, 0x07"));
    g_assert_nonnull(strstr(text, "EisaId (\"PNP0A03\")"));
    g_assert_nonnull(strstr(text, "_S5, Package"));
    bool compiled = run_iasl(folder, "", "dsdt.dsl", &output);
    remove_folder(folder);
    if (!compiled)
        g_test_message("%s", output);
    g_assert_true(compiled);
    g_assert_nonnull(strstr(output, " 0 Errors"));
    acpi_tables_clear(&t);
}

/* ACPI 6.4 §20.2.4: PkgLength takes 1 byte to 63, 2 to 4095, 3 beyond. */
static void test_aml_lengths(void)
{
    static const unsigned bodies[] = {0, 10, 61, 62, 4092, 4093, 70000};

    for (unsigned i = 0; i < G_N_ELEMENTS(bodies); i++) {
        Aml aml;
        aml_init(&aml);
        aml_open_package(&aml, 0); /* opcode, length, count */
        for (unsigned n = 0; n < bodies[i]; n++)
            aml_byte(&aml, 0);
        aml_close(&aml);
        /* The count byte belongs to what is measured. */
        unsigned total = bodies[i] + 1;
        if (total + 1 < 0x40) {
            g_assert_cmphex(aml.bytes->data[1], ==, total + 1);
        } else {
            unsigned extra = aml.bytes->data[1] >> 6;
            unsigned length = aml.bytes->data[1] & 0xf;
            for (unsigned n = 0; n < extra; n++)
                length |= aml.bytes->data[2 + n] << (4 + 8 * n);
            g_assert_cmpuint(length, ==, aml.bytes->len - 1);
        }
        aml_clear(&aml);
    }
}

static void test_aml_data(void)
{
    static const uint8_t expected[] = {0x00, 0x01, 0x0a, 0xff, 0x0b, 0x34, 0x12, 0x0c,
                                       0x41, 0xd0, 0x0a, 0x03, 0x5c, 0x2e, '_',  'S',
                                       'B',  '_',  'P',  'C',  'I',  '0'};
    Aml aml;

    aml_init(&aml);
    aml_integer(&aml, 0);
    aml_integer(&aml, 1);
    aml_integer(&aml, 0xff);
    aml_integer(&aml, 0x1234);
    aml_eisa_id(&aml, "PNP0A03");
    aml_name_string(&aml, "\\_SB.PCI0");
    g_assert_cmpmem(aml.bytes->data, aml.bytes->len, expected, sizeof(expected));
    aml_clear(&aml);
}

static void test_smbios(void)
{
    static const uint8_t little[] = {3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15};
    SmbiosConfig config = {.cpu_count = 3,
                           .cpu_name = "test",
                           .low_ram = GIB(3),
                           .high_ram = GIB(30),
                           .uuid = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}};
    GByteArray *anchor = NULL;
    g_autoptr(GByteArray) tables = smbios_build(&config, &anchor);
    unsigned seen[128] = {0}, count = 0;
    guint at = 0;

    smbios_set_address(anchor, 0xf1000);
    g_assert_cmphex(sum(anchor->data, 31), ==, 0);
    g_assert_cmphex(sum(anchor->data + 16, 15), ==, 0);
    g_assert_cmphex(load_le32(anchor->data + 24), ==, 0xf1000);
    g_assert_cmpuint(load_le16(anchor->data + 22), ==, tables->len);
    while (at < tables->len) {
        const uint8_t *s = tables->data + at;
        seen[s[0]]++;
        count++;
        if (s[0] == 0) /* table 8: a virtual machine, but no UEFI */
            g_assert_cmphex(s[19] & 0x18, ==, 0x10);
        if (s[0] == 1)
            g_assert_cmpmem(s + 8, 16, little, 16);
        if (s[0] == 17)
            g_assert_cmpuint(load_le16(s + 12), ==, seen[17] < 3 ? 16384 : 1024);
        at += s[1];
        while (tables->data[at] || tables->data[at + 1]) {
            at++;
            g_assert_cmpuint(at + 1, <, tables->len);
        }
        at += 2;
    }
    g_assert_cmpuint(count, ==, load_le16(anchor->data + 28));
    g_assert_cmpuint(seen[0] + seen[1] + seen[3] + seen[16] + seen[32] + seen[127], ==, 6);
    g_assert_cmpuint(seen[4], ==, 3);
    g_assert_cmpuint(seen[17], ==, 3);
    g_assert_cmpuint(seen[19], ==, 2);
    g_byte_array_unref(anchor);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/acpi/links", test_links);
    g_test_add_func("/acpi/old-fadt", test_old_fadt);
    g_test_add_func("/acpi/madt", test_madt);
    g_test_add_func("/acpi/malformed-script", test_malformed_script);
    g_test_add_func("/acpi/iasl", test_iasl);
    g_test_add_func("/aml/lengths", test_aml_lengths);
    g_test_add_func("/aml/data", test_aml_data);
    g_test_add_func("/smbios/structures", test_smbios);
    return g_test_run();
}
