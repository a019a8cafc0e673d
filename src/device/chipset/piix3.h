/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Intel PIIX3 (82371SB) function 0, the PCI-to-ISA bridge: steers PCI interrupts to ISA ones, joins
 * all sources of an ISA interrupt, and owns the reset control register at 0xcf9.
 *
 * The machine fills in `irq` (inputs of PIC and I/O APIC), hands piix3_intx() to the bus, gives
 * piix3_isa_irq() to the ISA devices and maps `reset_control`. Board lock held.
 * Source: Intel 82371FB/82371SB (PIIX/PIIX3) datasheet (290550), §2.2 and §2.5.4.
 */
#pragma once

#include "device/bus/pci.h"

#define PIIX3_IRQS 16

typedef struct Piix3 {
    PciDevice pci;
    Region reset_control; /* one byte */
    IrqLine irq[PIIX3_IRQS];
    uint16_t isa_level;     /* what ISA devices drive, a bit for each IRQ */
    uint16_t shared_level;  /* what the second ISA device on an interrupt drives */
    uint16_t sci_level;     /* what the power management function drives */
    uint32_t intx_slots[4]; /* what PCI devices drive: for each pin, a bit for each slot */
    uint8_t reset_value;    /* 0xcf9 */
} Piix3;

extern const DeviceType piix3_type;

/* A PciIntxFn; `obj` is the Piix3. */
void piix3_intx(void *obj, unsigned slot, unsigned pin, bool level);
/* The wire for ISA device interrupt `n`, 0 to 15. */
IrqLine piix3_isa_irq(Piix3 *piix3, unsigned n);
/* The same for one more device that shares interrupt `n`, as COM3 does with COM1. */
IrqLine piix3_isa_irq_shared(Piix3 *piix3, unsigned n);
/* The wire for the system control interrupt (IRQ 9). */
IrqLine piix3_sci(Piix3 *piix3);
