/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Assigning PCI resources. See pci_setup.h. Largest BARs first, so that alignment wastes nothing.
 */
#include "machine/pci_setup.h"

#include "base/bits.h"

#define PCI_IO_START   UINT64_C(0xc000)
#define PCI_IO_END     UINT64_C(0x10000)
#define PCI_MEMORY_END UINT64_C(0xfec00000)
#define PCI_SLOTS      32

/* As PC firmware routes PIRQA to PIRQD; both interrupts become level-triggered. */
static const uint8_t pirq_routes[4] = {10, 10, 11, 11};
enum { PIIX3_PIRQRC = 0x60, ELCR_HIGH = 0x4d1 };

typedef struct PciPlacement {
    PciDevice *device;
    unsigned bar;
} PciPlacement;

static gint compare_size(gconstpointer a, gconstpointer b)
{
    const PciPlacement *x = a, *y = b;
    uint64_t x_size = x->device->bars[x->bar].region->size;
    uint64_t y_size = y->device->bars[y->bar].region->size;

    return (x_size < y_size) - (x_size > y_size);
}

static GArray *pci_list_bars(PciBus *bus)
{
    GArray *list = g_array_new(false, false, sizeof(PciPlacement));

    for (unsigned devfn = 0; devfn < PCI_SLOTS * 8; devfn++) {
        PciDevice *device = pci_bus_find(bus, devfn);
        for (unsigned bar = 0; device && bar <= PCI_ROM_SLOT; bar++) {
            PciPlacement placement = {device, bar};
            if (device->bars[bar].kind != PCI_BAR_NONE)
                g_array_append_val(list, placement);
        }
    }
    g_array_sort(list, compare_size);
    return list;
}

static void pci_assign_bar(const PciPlacement *p, uint64_t *next_io, uint64_t *next_memory)
{
    const PciBar *bar = &p->device->bars[p->bar];
    bool is_io = bar->kind == PCI_BAR_IO;
    uint64_t *next = is_io ? next_io : next_memory;
    uint64_t at = align_up(*next, bar->region->size);
    uint64_t end = is_io ? PCI_IO_END : PCI_MEMORY_END;

    if (at >= end || bar->region->size > end - at)
        return;
    pci_config_write(p->device, p->bar == PCI_ROM_SLOT ? PCI_ROM_ADDRESS : PCI_BAR0 + 4 * p->bar, 4,
                     at);
    *next = at + bar->region->size;
}

static void pci_enable(PciDevice *device, unsigned slot)
{
    uint16_t command = load_le16(device->config + PCI_COMMAND);
    uint8_t pin = device->config[PCI_INTERRUPT_PIN];

    pci_config_write(device, PCI_COMMAND, 2, command | PCI_COMMAND_IO | PCI_COMMAND_MEMORY);
    if (pin && !device->config[PCI_INTERRUPT_LINE])
        pci_config_write(device, PCI_INTERRUPT_LINE, 1, pirq_routes[(slot + pin - 1 + 3) & 3]);
}

void pci_assign_resources(PciBus *bus, Piix3 *piix3, uint64_t memory_start)
{
    g_autoptr(GArray) bars = pci_list_bars(bus);
    uint64_t next_io = PCI_IO_START, next_memory = memory_start;
    uint16_t level = 0;

    for (guint i = 0; i < bars->len; i++)
        pci_assign_bar(&g_array_index(bars, PciPlacement, i), &next_io, &next_memory);
    for (unsigned devfn = 0; devfn < PCI_SLOTS * 8; devfn++) {
        PciDevice *device = pci_bus_find(bus, devfn);
        if (device)
            pci_enable(device, devfn >> 3);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(pirq_routes); i++) {
        pci_config_write(&piix3->pci, PIIX3_PIRQRC + i, 1, pirq_routes[i]);
        level |= 1u << pirq_routes[i];
    }
    space_store(piix3->pci.device.board->ports, ELCR_HIGH, 1, level >> 8);
}
