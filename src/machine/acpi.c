/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * ACPI tables of the PC. See acpi.h.
 *
 * All tables but the RSDP lie in one blob, FACS first because it alone wants 64-byte alignment.
 * Addresses in them are offsets into the blob until the loader script adds where it went.
 *
 * There are two FADTs: Windows 2000 stops at one that is newer than ACPI 1.0, so the RSDT, which is
 * all that systems of that time know, lists one of revision 1, and the XSDT one of revision 3.
 */
#include "machine/acpi.h"

#include <string.h>

#include "base/bits.h"
#include "device/chipset/piix4_pm.h"

#define ACPI_HEADER_SIZE      36
#define ACPI_FADT_SIZE        244
#define ACPI_FADT1_SIZE       116
#define FADT1_INTERRUPT_MODEL 44
#define ACPI_FACS_SIZE        64
#define ACPI_RSDP_SIZE        36
#define ACPI_CHECKSUM_AT      9
#define ACPI_SCI_IRQ          9
#define ACPI_RESET_PORT       0xcf9
#define ACPI_LAPIC_BASE       0xfee00000u
#define ACPI_IOAPIC_BASE      0xfec00000u
#define ACPI_HPET_BASE        0xfed00000u
#define ACPI_OEM              "OSPITE"
#define ACPI_OEM_TABLE        "OSPITEPC"
#define ACPI_CREATOR          "OSPI"

enum { GAS_MEMORY = 0, GAS_IO = 1 };
/* FADT flags (§5.2.9, table 5-10). */
enum {
    FADT_WBINVD = 1 << 0,
    FADT_PROC_C1 = 1 << 2,
    FADT_NO_SLEEP_BUTTON = 1 << 5,
    FADT_RTC_NOT_FIXED = 1 << 6,
    FADT_RESET_REG = 1 << 10
};

/* ---- tables in a blob ------------------------------------------------------------------------ */

static void acpi_append(GByteArray *blob, uint64_t value, unsigned size)
{
    uint8_t bytes[8];

    store_le64(bytes, value);
    g_byte_array_append(blob, bytes, size);
}

/* Starts a table with its header (§5.2.6); returns its offset. */
static guint acpi_begin(GByteArray *blob, const char *signature, uint8_t revision)
{
    while (blob->len % 8)
        acpi_append(blob, 0, 1);
    guint at = blob->len;
    g_byte_array_append(blob, (const uint8_t *)signature, 4);
    acpi_append(blob, 0, 4); /* length */
    acpi_append(blob, revision, 1);
    acpi_append(blob, 0, 1); /* checksum */
    g_byte_array_append(blob, (const uint8_t *)ACPI_OEM ACPI_OEM_TABLE, 14);
    acpi_append(blob, 1, 4); /* OEM revision */
    g_byte_array_append(blob, (const uint8_t *)ACPI_CREATOR, 4);
    acpi_append(blob, 1, 4);
    return at;
}

static void acpi_end(AcpiTables *t, guint at)
{
    uint32_t length = t->tables->len - at;

    store_le32(t->tables->data + at + 4, length);
    acpi_loader_add_checksum(t->loader, ACPI_TABLES_FILE, at + ACPI_CHECKSUM_AT, at, length);
}

/* The field at `field` gets the address of the table at `target`. */
static void acpi_point(AcpiTables *t, guint field, guint target, unsigned size)
{
    uint8_t value[8];

    store_le64(value, target);
    memcpy(t->tables->data + field, value, size);
    acpi_loader_add_pointer(t->loader, ACPI_TABLES_FILE, ACPI_TABLES_FILE, field, size);
}

static void acpi_put_gas(uint8_t *at, uint8_t space, uint8_t bits, uint8_t access, uint64_t address)
{
    at[0] = space;
    at[1] = bits;
    at[3] = access;
    store_le64(at + 4, address);
}

/* ---- the tables ------------------------------------------------------------------------------ */

static guint acpi_build_facs(AcpiTables *t)
{
    uint8_t facs[ACPI_FACS_SIZE] = "FACS";
    guint at = t->tables->len;

    store_le32(facs + 4, sizeof(facs));
    facs[32] = 1; /* version */
    g_byte_array_append(t->tables, facs, sizeof(facs));
    return at;
}

static guint acpi_build_dsdt(const AcpiConfig *config, AcpiTables *t)
{
    g_autoptr(GByteArray) body = acpi_build_dsdt_body(config);
    /* Revision 1: integers have 32 bits, as interpreters since Windows 98 agree. */
    guint at = acpi_begin(t->tables, "DSDT", 1);

    g_byte_array_append(t->tables, body->data, body->len);
    acpi_end(t, at);
    return at;
}

typedef struct FadtField {
    uint8_t offset, size;
    uint32_t value;
} FadtField;

/* §5.2.9, ACPI 2.0 layout. */
static const FadtField fadt_fields[] = {
    {45, 1, 1}, /* desktop */
    {46, 2, ACPI_SCI_IRQ},
    {48, 4, PIIX4_APM_PORT},
    {52, 1, PIIX4_ACPI_ENABLE},
    {53, 1, PIIX4_ACPI_DISABLE},
    {56, 4, PIIX4_PM_BASE + PIIX4_PM1_EVENT},
    {64, 4, PIIX4_PM_BASE + PIIX4_PM1_CONTROL},
    {76, 4, PIIX4_PM_BASE + PIIX4_PM_TIMER},
    {80, 4, PIIX4_PM_BASE + PIIX4_GPE0},
    {88, 1, 4}, /* PM1 event block length */
    {89, 1, 2}, /* PM1 control */
    {91, 1, 4}, /* timer */
    {92, 1, 4}, /* GPE0 */
    {96, 2, 0xfff},
    {98, 2, 0xfff},   /* no C2, no C3 */
    {108, 1, 0x32},   /* century in CMOS */
    {109, 2, 0x0003}, /* legacy devices, 8042 */
    {112, 4,
     FADT_WBINVD | FADT_PROC_C1 | FADT_NO_SLEEP_BUTTON | FADT_RTC_NOT_FIXED | FADT_RESET_REG},
    {128, 1, 0x06}, /* reset value */
};
/* Where ACPI 1.0 §5.2.5 differs. */
static const FadtField fadt1_fields[] = {
    {45, 1, 0},  /* reserved, */
    {109, 2, 0}, /* reserved */
    {112, 4, FADT_WBINVD | FADT_PROC_C1 | FADT_NO_SLEEP_BUTTON | FADT_RTC_NOT_FIXED},
};

/* Those that end within `size`. */
static void fadt_put(uint8_t *fadt, const FadtField *fields, size_t count, unsigned size)
{
    for (size_t i = 0; i < count; i++) {
        uint8_t value[4];
        store_le32(value, fields[i].value);
        if (fields[i].offset + fields[i].size <= size)
            memcpy(fadt + fields[i].offset, value, fields[i].size);
    }
}

/* The table without its pointers. */
static uint8_t *fadt_begin(AcpiTables *t, uint8_t revision, unsigned size, guint *ret_at)
{
    *ret_at = acpi_begin(t->tables, "FACP", revision);
    g_byte_array_set_size(t->tables, *ret_at + size);
    uint8_t *fadt = t->tables->data + *ret_at;
    memset(fadt + ACPI_HEADER_SIZE, 0, size - ACPI_HEADER_SIZE);
    fadt_put(fadt, fadt_fields, G_N_ELEMENTS(fadt_fields), size);
    return fadt;
}

static guint acpi_build_fadt1(AcpiTables *t, bool apic, guint facs, guint dsdt)
{
    guint at;
    uint8_t *fadt = fadt_begin(t, 1, ACPI_FADT1_SIZE, &at);

    fadt_put(fadt, fadt1_fields, G_N_ELEMENTS(fadt1_fields), ACPI_FADT1_SIZE);
    fadt[FADT1_INTERRUPT_MODEL] = apic; /* multiple APIC, or dual PIC */
    acpi_point(t, at + 36, facs, 4);
    acpi_point(t, at + 40, dsdt, 4);
    acpi_end(t, at);
    return at;
}

static guint acpi_build_fadt(AcpiTables *t, guint facs, guint dsdt)
{
    guint at;
    uint8_t *fadt = fadt_begin(t, 3, ACPI_FADT_SIZE, &at);

    acpi_put_gas(fadt + 116, GAS_IO, 8, 1, ACPI_RESET_PORT);
    acpi_put_gas(fadt + 148, GAS_IO, 32, 2, PIIX4_PM_BASE + PIIX4_PM1_EVENT);
    acpi_put_gas(fadt + 172, GAS_IO, 16, 2, PIIX4_PM_BASE + PIIX4_PM1_CONTROL);
    acpi_put_gas(fadt + 208, GAS_IO, 32, 3, PIIX4_PM_BASE + PIIX4_PM_TIMER);
    acpi_put_gas(fadt + 220, GAS_IO, 32, 1, PIIX4_PM_BASE + PIIX4_GPE0);
    acpi_point(t, at + 36, facs, 4);
    acpi_point(t, at + 40, dsdt, 4);
    acpi_point(t, at + 140, dsdt, 8);
    acpi_end(t, at);
    return at;
}

static void madt_override(GByteArray *blob, uint8_t irq, uint32_t gsi, uint16_t flags)
{
    acpi_append(blob, 2 | 10 << 8, 2);
    acpi_append(blob, 0, 1); /* ISA */
    acpi_append(blob, irq, 1);
    acpi_append(blob, gsi, 4);
    acpi_append(blob, flags, 2);
}

static guint acpi_build_madt(const AcpiConfig *config, AcpiTables *t)
{
    static const uint8_t level_irqs[] = {5, ACPI_SCI_IRQ, 10, 11}; /* SCI and PIRQ targets */
    GByteArray *blob = t->tables;
    guint at = acpi_begin(blob, "APIC", 1);

    acpi_append(blob, ACPI_LAPIC_BASE, 4);
    acpi_append(blob, 1, 4); /* also has two 8259A */
    for (unsigned i = 0; i < config->cpu_count; i++) {
        acpi_append(blob, 0 | 8 << 8, 2);
        acpi_append(blob, i, 1); /* processor id in the DSDT */
        acpi_append(blob, i, 1); /* APIC id */
        acpi_append(blob, 1, 4); /* enabled */
    }
    acpi_append(blob, 1 | 12 << 8, 2);
    acpi_append(blob, 0, 2); /* I/O APIC id */
    acpi_append(blob, ACPI_IOAPIC_BASE, 4);
    acpi_append(blob, 0, 4);
    madt_override(blob, 0, 2, 0);
    for (unsigned i = 0; i < sizeof(level_irqs); i++)
        madt_override(blob, level_irqs[i], level_irqs[i], 0x0d); /* active high, level */
    acpi_append(blob, 4 | 6 << 8, 2); /* NMI on LINT1 of all processors */
    acpi_append(blob, 0xff, 1);
    acpi_append(blob, 0, 2);
    acpi_append(blob, 1, 1);
    acpi_end(t, at);
    return at;
}

static guint acpi_build_hpet(AcpiTables *t)
{
    guint at = acpi_begin(t->tables, "HPET", 1);
    uint8_t gas[12] = {0};

    acpi_append(t->tables, 0x8086a201, 4); /* Intel, legacy replacement, 64 bits, 3 comparators */
    acpi_put_gas(gas, GAS_MEMORY, 64, 0, ACPI_HPET_BASE);
    g_byte_array_append(t->tables, gas, sizeof(gas));
    acpi_append(t->tables, 0, 1);   /* sequence number */
    acpi_append(t->tables, 100, 2); /* smallest periodic tick */
    acpi_append(t->tables, 0, 1);
    acpi_end(t, at);
    return at;
}

/* RSDT (entries of 4 bytes) or XSDT (8). */
static guint acpi_build_root(AcpiTables *t, const char *signature, unsigned entry_size,
                             const guint *targets, unsigned count)
{
    guint at = acpi_begin(t->tables, signature, 1);
    guint entries = t->tables->len;

    for (unsigned i = 0; i < count; i++)
        acpi_append(t->tables, 0, entry_size);
    for (unsigned i = 0; i < count; i++)
        acpi_point(t, entries + i * entry_size, targets[i], entry_size);
    acpi_end(t, at);
    return at;
}

static void acpi_build_rsdp(AcpiTables *t, guint rsdt, guint xsdt)
{
    uint8_t rsdp[ACPI_RSDP_SIZE] = "RSD PTR ";

    memcpy(rsdp + 9, ACPI_OEM, 6);
    rsdp[15] = 2; /* revision */
    store_le32(rsdp + 16, rsdt);
    store_le32(rsdp + 20, sizeof(rsdp));
    store_le64(rsdp + 24, xsdt);
    g_byte_array_append(t->rsdp, rsdp, sizeof(rsdp));
    acpi_loader_add_pointer(t->loader, ACPI_RSDP_FILE, ACPI_TABLES_FILE, 16, 4);
    acpi_loader_add_pointer(t->loader, ACPI_RSDP_FILE, ACPI_TABLES_FILE, 24, 8);
    acpi_loader_add_checksum(t->loader, ACPI_RSDP_FILE, 8, 0, 20);
    acpi_loader_add_checksum(t->loader, ACPI_RSDP_FILE, 32, 0, sizeof(rsdp));
}

void acpi_build(const AcpiConfig *config, AcpiTables *ret_tables)
{
    AcpiTables t = {g_byte_array_new(), g_byte_array_new(), g_byte_array_new()};
    guint roots[4];
    unsigned count = 0;

    acpi_loader_allocate(t.loader, ACPI_RSDP_FILE, 16, ACPI_ZONE_FSEG);
    acpi_loader_allocate(t.loader, ACPI_TABLES_FILE, 64, ACPI_ZONE_HIGH);
    guint facs = acpi_build_facs(&t);
    guint dsdt = acpi_build_dsdt(config, &t);
    roots[count++] = acpi_build_fadt1(&t, config->apic, facs, dsdt);
    if (config->apic)
        roots[count++] = acpi_build_madt(config, &t);
    if (config->hpet)
        roots[count++] = acpi_build_hpet(&t);
    guint rsdt = acpi_build_root(&t, "RSDT", 4, roots, count);
    roots[0] = acpi_build_fadt(&t, facs, dsdt);
    guint xsdt = acpi_build_root(&t, "XSDT", 8, roots, count);
    acpi_build_rsdp(&t, rsdt, xsdt);
    *ret_tables = t;
}

void acpi_tables_clear(AcpiTables *tables)
{
    g_clear_pointer(&tables->tables, g_byte_array_unref);
    g_clear_pointer(&tables->rsdp, g_byte_array_unref);
    g_clear_pointer(&tables->loader, g_byte_array_unref);
}

bool acpi_link(AcpiTables *tables, uint64_t tables_address, uint64_t rsdp_address, GError **error)
{
    AcpiLoaderFile files[] = {
        {ACPI_TABLES_FILE, tables->tables, tables_address},
        {ACPI_RSDP_FILE, tables->rsdp, rsdp_address},
    };

    return acpi_loader_run(tables->loader->data, tables->loader->len, files, G_N_ELEMENTS(files),
                           error);
}
