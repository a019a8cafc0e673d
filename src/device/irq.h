/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * An interrupt wire as a value: whoever holds it can drive it, without knowing what is at its end
 * (PIC, IOAPIC, a PCI INTx router, a CPU pin, a test's recorder). An unconnected wire is all zero.
 * Called with the board lock held.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

typedef struct IrqLine {
    void (*set)(void *obj, unsigned n, bool level);
    void *obj;
    unsigned n;
} IrqLine;

static inline void irq_set(IrqLine line, bool level)
{
    if (line.set)
        line.set(line.obj, line.n, level);
}

/* An edge for edge-triggered inputs. */
static inline void irq_pulse(IrqLine line)
{
    irq_set(line, true);
    irq_set(line, false);
}
