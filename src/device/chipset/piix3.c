/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Intel PIIX3 PCI-to-ISA bridge. See piix3.h.
 *
 * Slot s, pin p (0: INTA#) is wired to PIRQ (s - 1 + p) mod 4, as PC boards with this chipset (and
 * their firmware) have it. Invariant: irq[n] carries the OR of the ISA device, the SCI and every
 * PIRQ that PIRQRC[A:D] route to n.
 */
#include "device/chipset/piix3.h"

#include "base/bits.h"

#define PIIX3_SCI_IRQ 9
/* 0, 1, 2, 8 and 13 are reserved as PIRQ targets (§2.2.6). */
#define PIIX3_ROUTABLE 0xdef8u

enum { PIIX3_PIRQRC = 0x60, PIIX3_PIRQ_OFF = 0x80 };
enum { RESET_FULL = 0x02, RESET_CPU = 0x04 };

typedef struct Piix3Register {
    uint8_t offset, wmask, reset;
} Piix3Register;

static const Piix3Register piix3_registers[] = {
    {0x4c, 0x7f, 0x4d},                     /* ISA I/O recovery */
    {0x4e, 0xff, 0x03}, {0x4f, 0x01, 0x00}, /* X-Bus chip select */
    {0x60, 0x8f, 0x80}, {0x61, 0x8f, 0x80}, {0x62, 0x8f, 0x80},
    {0x63, 0x8f, 0x80},                                         /* PIRQRC */
    {0x69, 0xfe, 0x02},                                         /* top of memory */
    {0x6a, 0x80, 0x00}, {0x6b, 0x80, 0x00},                     /* miscellaneous status */
    {0x70, 0xaf, 0x80}, {0x71, 0xaf, 0x80},                     /* motherboard IRQ routing */
    {0x76, 0x8f, 0x0c}, {0x77, 0x8f, 0x0c},                     /* motherboard DMA */
    {0x78, 0xfc, 0x00}, {0x79, 0xff, 0x00},                     /* programmable chip select */
    {0x80, 0x7f, 0x00},                                         /* APIC base relocation */
    {0x82, 0x0f, 0x00},                                         /* deterministic latency */
    {0xa0, 0x1f, 0x08}, {0xa2, 0xff, 0x00}, {0xa3, 0x00, 0x00}, /* SMI control, enable */
    {0xa4, 0xff, 0x00}, {0xa5, 0xff, 0x00}, {0xa6, 0xff, 0x00},
    {0xa7, 0xe0, 0x00},                     /* system event */
    {0xa8, 0xff, 0x0f},                     /* fast-off timer */
    {0xaa, 0xff, 0x00}, {0xab, 0x00, 0x00}, /* SMI request */
    {0xac, 0xff, 0x00}, {0xae, 0xff, 0x00}, /* clock throttle timers */
};

/* The ISA interrupt that a PIRQ is routed to, or -1. */
static int piix3_route(const Piix3 *piix3, unsigned pirq)
{
    uint8_t route = piix3->pci.config[PIIX3_PIRQRC + pirq];

    if ((route & PIIX3_PIRQ_OFF) || !bits_get(PIIX3_ROUTABLE, route & 0xf, 1))
        return -1;
    return route & 0xf;
}

/* Which of the four PIRQs are asserted, as bits. */
static unsigned piix3_pirq_levels(const Piix3 *piix3)
{
    unsigned levels = 0;

    for (unsigned pin = 0; pin < 4; pin++) {
        for (unsigned phase = 0; phase < 4; phase++) {
            uint32_t slots = 0x11111111u << phase; /* the slots with slot mod 4 == phase */
            if (piix3->intx_slots[pin] & slots)
                levels |= 1u << ((phase + pin + 3) & 3);
        }
    }
    return levels;
}

/* Drives the interrupts in `which` (bits) anew. */
static void piix3_update(Piix3 *piix3, unsigned which)
{
    unsigned levels = piix3->isa_level | piix3->shared_level | piix3->sci_level;
    unsigned pirqs = piix3_pirq_levels(piix3);

    for (unsigned pirq = 0; pirq < 4; pirq++) {
        int n = piix3_route(piix3, pirq);
        if (n >= 0 && bits_get(pirqs, pirq, 1))
            levels |= 1u << n;
    }
    for (unsigned n = 0; n < PIIX3_IRQS; n++) {
        if (bits_get(which, n, 1))
            irq_set(piix3->irq[n], bits_get(levels, n, 1));
    }
}

void piix3_intx(void *obj, unsigned slot, unsigned pin, bool level)
{
    Piix3 *piix3 = obj;
    int n = piix3_route(piix3, (slot + pin + 3) & 3);

    piix3->intx_slots[pin] = bits_set(piix3->intx_slots[pin], slot, 1, level);
    if (n >= 0)
        piix3_update(piix3, 1u << n);
}

static void piix3_isa_set(void *obj, unsigned n, bool level)
{
    Piix3 *piix3 = obj;

    piix3->isa_level = bits_set(piix3->isa_level, n, 1, level);
    piix3_update(piix3, 1u << n);
}

IrqLine piix3_isa_irq(Piix3 *piix3, unsigned n)
{
    g_assert(n < PIIX3_IRQS);
    return (IrqLine){.set = piix3_isa_set, .obj = piix3, .n = n};
}

static void piix3_shared_set(void *obj, unsigned n, bool level)
{
    Piix3 *piix3 = obj;

    piix3->shared_level = bits_set(piix3->shared_level, n, 1, level);
    piix3_update(piix3, 1u << n);
}

IrqLine piix3_isa_irq_shared(Piix3 *piix3, unsigned n)
{
    g_assert(n < PIIX3_IRQS);
    return (IrqLine){.set = piix3_shared_set, .obj = piix3, .n = n};
}

static void piix3_sci_set(void *obj, unsigned n, bool level)
{
    Piix3 *piix3 = obj;

    piix3->sci_level = bits_set(piix3->sci_level, n, 1, level);
    piix3_update(piix3, 1u << n);
}

IrqLine piix3_sci(Piix3 *piix3)
{
    return (IrqLine){.set = piix3_sci_set, .obj = piix3, .n = PIIX3_SCI_IRQ};
}

/* A new route must also lower the line the PIRQ leaves. */
static void piix3_config_written(PciDevice *device, unsigned offset, unsigned size)
{
    if (offset < PIIX3_PIRQRC + 4 && offset + size > PIIX3_PIRQRC)
        piix3_update((Piix3 *)device, PIIX3_ROUTABLE);
}

static uint64_t piix3_reset_read(void *obj, uint64_t offset, unsigned size)
{
    return ((Piix3 *)obj)->reset_value;
}

/* Bit 2 going from 0 to 1 resets; bit 1 chooses the kind, and both kinds restart this machine. */
static void piix3_reset_write(void *obj, uint64_t offset, unsigned size, uint64_t value)
{
    Piix3 *piix3 = obj;
    Board *board = piix3->pci.device.board;
    bool rises = (value & RESET_CPU) && !(piix3->reset_value & RESET_CPU);

    piix3->reset_value = value & (RESET_FULL | RESET_CPU);
    if (rises)
        board->request(board->obj, BOARD_RESET, 0);
}

static const RegionOps piix3_reset_ops = {
    .name = "reset-control", .read = piix3_reset_read, .write = piix3_reset_write, .max_access = 1};

static bool piix3_create(Device *device, GError **error)
{
    Piix3 *piix3 = (Piix3 *)device;

    pci_device_init(&piix3->pci, 0x8086, 0x7000, 0x0601, 0, 0);
    store_le16(piix3->pci.wmask + PCI_COMMAND, 0x0108);
    store_le16(piix3->pci.config + PCI_COMMAND,
               PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    store_le16(piix3->pci.config + PCI_STATUS, 0x0200);
    piix3->pci.config[PCI_HEADER_TYPE] = 0x80;
    for (unsigned i = 0; i < G_N_ELEMENTS(piix3_registers); i++)
        piix3->pci.wmask[piix3_registers[i].offset] = piix3_registers[i].wmask;
    piix3->pci.config_written = piix3_config_written;
    region_init_io(&piix3->reset_control, &piix3_reset_ops, piix3, device->board->lock, 1);
    return true;
}

/* Sources are told by their devices' resets, which may come before or after this one. */
static void piix3_reset(Device *device)
{
    Piix3 *piix3 = (Piix3 *)device;

    pci_device_reset(&piix3->pci);
    for (unsigned i = 0; i < G_N_ELEMENTS(piix3_registers); i++)
        piix3->pci.config[piix3_registers[i].offset] = piix3_registers[i].reset;
    piix3->reset_value = 0;
    piix3_update(piix3, UINT16_MAX);
}

static bool piix3_loaded(Device *device, GError **error)
{
    Piix3 *piix3 = (Piix3 *)device;

    piix3->reset_value &= RESET_FULL | RESET_CPU;
    piix3->sci_level &= 1u << PIIX3_SCI_IRQ;
    return pci_device_loaded(&piix3->pci, error);
}

static const StateField piix3_state[] = {
    STATE_ONE_STRUCT(Piix3, pci, pci_state_fields, 1),
    STATE_FIELD(Piix3, isa_level, STATE_U16, 1),
    STATE_FIELD(Piix3, sci_level, STATE_U16, 1),
    STATE_ARRAY(Piix3, intx_slots, STATE_U32, 1),
    STATE_FIELD(Piix3, reset_value, STATE_U8, 1),
    STATE_FIELD(Piix3, shared_level, STATE_U16, 2),
    STATE_LIST_END,
};

const DeviceType piix3_type = {
    .name = "piix3",
    .description = "Intel PIIX3 PCI-to-ISA bridge",
    .instance_size = sizeof(Piix3),
    .create = piix3_create,
    .reset = piix3_reset,
    .state_version = 2,
    .state = piix3_state,
    .loaded = piix3_loaded,
};
