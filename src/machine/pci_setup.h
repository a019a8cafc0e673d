/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What firmware does with PCI before an operating system runs: addresses for BARs, interrupt lines,
 * decoding on. For kernels booted without firmware. Board lock held, vCPUs stopped.
 */
#pragma once

#include "device/bus/pci.h"
#include "device/chipset/piix3.h"

/* `memory_start` is where the 32-bit window begins; it ends below the I/O APIC. Devices whose BARs
 * do not fit keep them unassigned. */
void pci_assign_resources(PciBus *bus, Piix3 *piix3, uint64_t memory_start);
