/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Fuzz target: configuration ports with the host bridge, ISA bridge and power management behind. */
#include "device/chipset/i440fx.h"
#include "device/chipset/piix3.h"
#include "device/chipset/piix4_pm.h"
#include "device/test_board.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void add(PciBus *bus, PciDevice *device, int devfn)
{
    g_assert_true(device_create(&device->device, NULL));
    g_assert_true(pci_bus_add(bus, device, devfn, NULL));
    device_reset(&device->device);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    TestBoard *b = test_board_new();
    Board *board = &b->board;
    I440fx *fx = device_new(&i440fx_type, board, "host");
    Piix3 *piix3 = device_new(&piix3_type, board, "isa");
    Piix4Pm *pm = device_new(&piix4_pm_type, board, "pm");
    PciBus *bus = pci_bus_new(board, piix3_intx, piix3);

    fx->ram = &b->ram_region;
    pm->sci = piix3_sci(piix3);
    for (unsigned n = 0; n < PIIX3_IRQS; n++)
        piix3->irq[n] = test_board_irq(b, n);
    add(bus, &fx->pci, PCI_DEVFN(0, 0));
    add(bus, &piix3->pci, PCI_DEVFN(1, 0));
    add(bus, &pm->pci, PCI_DEVFN(1, 3));
    pci_bus_set_reset_port(bus, &piix3->reset_control);
    space_map(board->ports, 0xcf8, pci_bus_config_ports(bus), 0, 8, SPACE_PRIORITY_BOARD, false);
    piix4_pm_setup(pm);
    size_t half = size / 2;
    test_register_storm(b, board->ports, 0xcf8, 8, data, half);
    test_register_storm(b, board->ports, 0x600, 64, data + half, size - half);
    pci_bus_free(bus);
    device_free(&fx->pci.device);
    device_free(&piix3->pci.device);
    device_free(&pm->pci.device);
    test_board_free(b);
    return 0;
}
