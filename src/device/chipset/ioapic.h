/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * I/O APIC with 24 inputs (82093AA data sheet; version 0x20 with the EOI register of ICH).
 *
 * Wiring: map io (4 KiB) at 0xfec00000; `deliver`/`deliver_obj` take messages as MSI address and
 * data; ioapic_irq(n) is the wire to input n. Wires carry "asserted", whatever their voltage: the
 * polarity bit is kept but means nothing.
 *
 * Threads: board lock; ioapic_eoi() takes it itself.
 */
#pragma once

#include "device/device.h"

#define IOAPIC_PINS 24

typedef struct IoApic {
    Device device;
    Region io;
    void (*deliver)(void *obj, uint64_t msi_address, uint32_t msi_data);
    void *deliver_obj;

    uint32_t version; /* option: 0x11 or 0x20 */
    uint8_t select;
    uint8_t id;
    uint32_t lines; /* levels of the inputs */
    uint64_t entries[IOAPIC_PINS];
} IoApic;

extern const DeviceType ioapic_type;

IrqLine ioapic_irq(IoApic *ioapic, unsigned n);
/* The vector that input n delivers, or -1 when it is masked or delivers none. */
int ioapic_vector(const IoApic *ioapic, unsigned n);
/* A local APIC ended a level-triggered interrupt. Any thread. */
void ioapic_eoi(IoApic *ioapic, uint8_t vector);
/* Ends all that `is_held` does not know of any more: other local APICs took over, and an end was
 * under way. */
void ioapic_end_others(IoApic *ioapic, bool (*is_held)(void *obj, uint8_t vector), void *obj);
