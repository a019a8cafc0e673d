/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The DSDT's body: the PCI root with its interrupt routing, ISA devices, processors, soft off.
 *
 *     \_SB    PCI0 (ISA (COM1 … KBD … RTC …), MBRD)   LNKA-D   HPET   CPxx
 *     \_S5    \_PIC
 */
#include "base/bits.h"
#include "device/chipset/piix4_pm.h"
#include "machine/acpi.h"
#include "machine/aml.h"

#define PCI_WINDOW_END 0xfebfffffu
#define DSDT_SCI_IRQ   9

/* Opcodes used once or twice here, in the order AML wants them (ACPI 6.4 §20.2.5). */
enum { OP_ARG0 = 0x68, OP_LOCAL0 = 0x60, OP_AND = 0x7b, OP_OR = 0x7d, OP_CREATE_DWORD = 0x8a };
enum { REGION_PCI_CONFIG = 2 };
/* Where the interrupt number stands in the resource template of aml_interrupts(). */
#define INTERRUPT_NUMBER_AT 5

static const uint32_t link_choices[] = {5, 10, 11};

/* ---- interrupt links ------------------------------------------------------------------------- */

static void dsdt_link_status(Aml *aml, const char *field)
{
    /* Method (_STA) { If (field & 0x80) { Return (0x09) } Return (0x0B) } */
    aml_open_method(aml, "_STA", 0);
    aml_byte(aml, OP_AND);
    aml_name_string(aml, field);
    aml_integer(aml, 0x80);
    aml_byte(aml, OP_LOCAL0);
    aml_open_if(aml);
    aml_byte(aml, OP_LOCAL0);
    aml_return(aml);
    aml_integer(aml, 0x09);
    aml_close(aml);
    aml_return(aml);
    aml_integer(aml, 0x0b);
    aml_close(aml);
}

static void dsdt_link_disable(Aml *aml, const char *field)
{
    /* Method (_DIS) { field |= 0x80 } */
    aml_open_method(aml, "_DIS", 0);
    aml_byte(aml, OP_OR);
    aml_name_string(aml, field);
    aml_integer(aml, 0x80);
    aml_name_string(aml, field);
    aml_close(aml);
}

static void dsdt_link_current(Aml *aml, const char *field)
{
    static const uint32_t none = 0;

    /* Method (_CRS) { Name (PRR0, …) CreateDWordField (PRR0, 5, PRRI) PRRI = field & 0x0f … } */
    aml_open_method(aml, "_CRS", 0);
    aml_name(aml, "PRR0");
    aml_open_resources(aml);
    aml_interrupts(aml, &none, 1);
    aml_close_resources(aml);
    aml_byte(aml, OP_CREATE_DWORD);
    aml_name_string(aml, "PRR0");
    aml_integer(aml, INTERRUPT_NUMBER_AT);
    aml_name_string(aml, "PRRI");
    aml_byte(aml, OP_AND);
    aml_name_string(aml, field);
    aml_integer(aml, 0x0f);
    aml_name_string(aml, "PRRI");
    aml_return(aml);
    aml_name_string(aml, "PRR0");
    aml_close(aml);
}

static void dsdt_link_set(Aml *aml, const char *field)
{
    /* Method (_SRS, 1) { CreateDWordField (Arg0, 5, PRRI) field = PRRI } */
    aml_open_method(aml, "_SRS", 1);
    aml_byte(aml, OP_CREATE_DWORD);
    aml_byte(aml, OP_ARG0);
    aml_integer(aml, INTERRUPT_NUMBER_AT);
    aml_name_string(aml, "PRRI");
    aml_store(aml);
    aml_name_string(aml, "PRRI");
    aml_name_string(aml, field);
    aml_close(aml);
}

static void dsdt_link(Aml *aml, unsigned n)
{
    g_autofree char *name = g_strdup_printf("LNK%c", 'A' + n);
    g_autofree char *field = g_strdup_printf("\\_SB.PCI0.ISA.PRQ%u", n);

    aml_open_device(aml, name);
    aml_name_eisa_id(aml, "_HID", "PNP0C0F");
    aml_name_integer(aml, "_UID", n);
    aml_name(aml, "_PRS");
    aml_open_resources(aml);
    aml_interrupts(aml, link_choices, G_N_ELEMENTS(link_choices));
    aml_close_resources(aml);
    dsdt_link_status(aml, field);
    dsdt_link_disable(aml, field);
    dsdt_link_current(aml, field);
    dsdt_link_set(aml, field);
    aml_close(aml);
}

/* ---- ISA devices ----------------------------------------------------------------------------- */

typedef struct IsaDevice {
    const char *name, *hid;
    struct {
        uint16_t base;
        uint8_t length;
    } io[3];
    uint16_t irqs; /* bits */
    int8_t dma;    /* -1: none */
    int8_t uid;    /* -1: none */
} IsaDevice;

static const IsaDevice isa_always[] = {
    {"PIC", "PNP0000", {{0x20, 2}, {0xa0, 2}, {0x4d0, 2}}, 1 << 2, -1, -1},
    {"TMR", "PNP0100", {{0x40, 4}}, 1 << 0, -1, -1},
    {"DMAC", "PNP0200", {{0x00, 0x10}, {0x80, 0x10}, {0xc0, 0x20}}, 0, 4, -1},
    {"SPKR", "PNP0800", {{0x61, 1}}, 0, -1, -1},
    {"FPU", "PNP0C04", {{0xf0, 1}}, 1 << 13, -1, -1},
    {"RTC", "PNP0B00", {{0x70, 8}}, 1 << 8, -1, -1},
    {"KBD", "PNP0303", {{0x60, 1}, {0x64, 1}}, 1 << 1, -1, -1},
    {"MOU", "PNP0F13", {{0}}, 1 << 12, -1, -1},
};
static const IsaDevice isa_floppy = {"FDC0", "PNP0700", {{0x3f2, 4}, {0x3f7, 1}}, 1 << 6, 2, -1};
static const IsaDevice isa_parallel[ACPI_PARALLEL_MAX] = {
    {"LPT1", "PNP0400", {{0x378, 8}}, 1 << 7, -1, 1},
    {"LPT2", "PNP0400", {{0x278, 8}}, 1 << 7, -1, 2},
    {"LPT3", "PNP0400", {{0x3bc, 3}}, 0, -1, 3},
};
static const IsaDevice isa_serial[ACPI_SERIAL_MAX] = {
    {"COM1", "PNP0501", {{0x3f8, 8}}, 1 << 4, -1, 1},
    {"COM2", "PNP0501", {{0x2f8, 8}}, 1 << 3, -1, 2},
    {"COM3", "PNP0501", {{0x3e8, 8}}, 1 << 4, -1, 3},
    {"COM4", "PNP0501", {{0x2e8, 8}}, 1 << 3, -1, 4},
};

static void dsdt_isa_device(Aml *aml, const IsaDevice *isa)
{
    aml_open_device(aml, isa->name);
    aml_name_eisa_id(aml, "_HID", isa->hid);
    if (isa->uid >= 0)
        aml_name_integer(aml, "_UID", isa->uid);
    aml_name(aml, "_CRS");
    aml_open_resources(aml);
    for (unsigned i = 0; i < G_N_ELEMENTS(isa->io) && isa->io[i].length; i++)
        aml_io(aml, isa->io[i].base, isa->io[i].length);
    for (unsigned n = 0; n < 16; n++) {
        if (bits_get(isa->irqs, n, 1))
            aml_irq_no_flags(aml, n);
    }
    if (isa->dma >= 0)
        aml_dma(aml, isa->dma);
    aml_close_resources(aml);
    aml_close(aml);
}

static void dsdt_isa(const AcpiConfig *config, Aml *aml)
{
    static const AmlField routes[] = {{"PRQ0", 8}, {"PRQ1", 8}, {"PRQ2", 8}, {"PRQ3", 8}};

    aml_open_device(aml, "ISA");
    aml_name_integer(aml, "_ADR", 0x00010000);
    aml_operation_region(aml, "PIRQ", REGION_PCI_CONFIG, 0x60, 4);
    aml_field(aml, "PIRQ", routes, G_N_ELEMENTS(routes));
    for (unsigned i = 0; i < G_N_ELEMENTS(isa_always); i++)
        dsdt_isa_device(aml, &isa_always[i]);
    if (config->floppy)
        dsdt_isa_device(aml, &isa_floppy);
    for (unsigned i = 0; i < ACPI_PARALLEL_MAX; i++) {
        if (config->parallel[i])
            dsdt_isa_device(aml, &isa_parallel[i]);
    }
    for (unsigned i = 0; i < ACPI_SERIAL_MAX; i++) {
        if (config->serial[i])
            dsdt_isa_device(aml, &isa_serial[i]);
    }
    aml_close(aml);
}

/* ---- PCI root -------------------------------------------------------------------------------- */

static void dsdt_pci_route(Aml *aml, unsigned slot, unsigned pin)
{
    aml_open_package(aml, 4);
    aml_integer(aml, slot << 16 | 0xffff);
    aml_integer(aml, pin);
    /* The power management function's INTA# is the SCI, whatever the links say. */
    if (slot == 1 && pin == 0) {
        aml_integer(aml, 0);
        aml_integer(aml, DSDT_SCI_IRQ);
    } else {
        g_autofree char *link = g_strdup_printf("LNK%c", 'A' + ((slot + pin + 3) & 3));
        aml_name_string(aml, link);
        aml_integer(aml, 0);
    }
    aml_close(aml);
}

static void dsdt_pci_windows(const AcpiConfig *config, Aml *aml)
{
    aml_name(aml, "_CRS");
    aml_open_resources(aml);
    aml_window(aml, AML_WINDOW_BUS, 16, 0, 0xff);
    aml_io(aml, 0xcf8, 8);
    aml_window(aml, AML_WINDOW_IO, 16, 0, 0xcf7);
    aml_window(aml, AML_WINDOW_IO, 16, 0xd00, 0xffff);
    aml_window(aml, AML_WINDOW_MEMORY, 32, 0xa0000, 0xbffff);
    aml_window(aml, AML_WINDOW_MEMORY, 32, config->pci_window_start, PCI_WINDOW_END);
    aml_close_resources(aml);
}

/* Ports that belong to no other device, so that nobody is given them. */
static void dsdt_motherboard(Aml *aml)
{
    aml_open_device(aml, "MBRD");
    aml_name_eisa_id(aml, "_HID", "PNP0C02");
    aml_name(aml, "_CRS");
    aml_open_resources(aml);
    aml_io(aml, 0x92, 1);
    aml_io(aml, PIIX4_APM_PORT, 2);
    aml_io(aml, PIIX4_PM_BASE, 64);
    aml_io(aml, PIIX4_SMBUS_BASE, 16);
    aml_close_resources(aml);
    aml_close(aml);
    aml_open_device(aml, "FWCF");
    aml_name_string_value(aml, "_HID", "QEMU0002");
    aml_name_integer(aml, "_STA", 0x0b);
    aml_name(aml, "_CRS");
    aml_open_resources(aml);
    aml_io(aml, 0x510, 12);
    aml_close_resources(aml);
    aml_close(aml);
}

static void dsdt_pci(const AcpiConfig *config, Aml *aml)
{
    aml_open_device(aml, "PCI0");
    aml_name_eisa_id(aml, "_HID", "PNP0A03");
    aml_name_integer(aml, "_UID", 0);
    dsdt_pci_windows(config, aml);
    aml_name(aml, "_PRT");
    aml_open_package(aml, 32 * 4);
    for (unsigned slot = 0; slot < 32; slot++) {
        for (unsigned pin = 0; pin < 4; pin++)
            dsdt_pci_route(aml, slot, pin);
    }
    aml_close(aml);
    dsdt_isa(config, aml);
    dsdt_motherboard(aml);
    aml_close(aml);
}

/* ---- the rest -------------------------------------------------------------------------------- */

static void dsdt_hpet(Aml *aml)
{
    aml_open_device(aml, "HPET");
    aml_name_eisa_id(aml, "_HID", "PNP0103");
    aml_name_integer(aml, "_UID", 0);
    aml_name(aml, "_CRS");
    aml_open_resources(aml);
    aml_memory32_fixed(aml, false, 0xfed00000, 0x400);
    aml_close_resources(aml);
    aml_close(aml);
}

static void dsdt_soft_off(Aml *aml)
{
    aml_name(aml, "\\_S5");
    aml_open_package(aml, 4);
    aml_integer(aml, PIIX4_S5_SLEEP_TYPE);
    aml_integer(aml, PIIX4_S5_SLEEP_TYPE);
    aml_integer(aml, 0); /* reserved */
    aml_integer(aml, 0);
    aml_close(aml);
}

/* Processor statements, not ACPI0007 devices: systems before ACPI 3 know only these. */
static void dsdt_processors(const AcpiConfig *config, Aml *aml)
{
    for (unsigned i = 0; i < config->cpu_count; i++) {
        g_autofree char *name = g_strdup_printf("CP%02X", i);
        aml_open_processor(aml, name, i);
        aml_close(aml);
    }
}

GByteArray *acpi_build_dsdt_body(const AcpiConfig *config)
{
    Aml aml;

    aml_init(&aml);
    aml_name_integer(&aml, "\\PICF", 0);
    aml_open_method(&aml, "\\_PIC", 1);
    aml_store(&aml);
    aml_byte(&aml, OP_ARG0);
    aml_name_string(&aml, "\\PICF");
    aml_close(&aml);
    dsdt_soft_off(&aml);
    aml_open_scope(&aml, "\\_SB");
    dsdt_processors(config, &aml);
    dsdt_pci(config, &aml);
    for (unsigned n = 0; n < 4; n++)
        dsdt_link(&aml, n);
    if (config->hpet)
        dsdt_hpet(&aml);
    aml_close(&aml);
    return g_steal_pointer(&aml.bytes);
}
