/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A log of what guest code does, a line for each event. Engines test a bit before they call, so
 * that a machine without a trace pays nothing.
 *
 *   CPU exec  ADDRESS: BYTES  INSTRUCTION     before each instruction
 *   CPU block ADDRESS: BYTES  INSTRUCTION     of each block when it is decoded
 *   CPU mmu   …                               translations entered and forgotten
 *   CPU irq   …                               exceptions and interrupts delivered
 *
 * Threads: any; a line is written whole.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef enum TraceEvent {
    TRACE_EXEC = 1 << 0,
    TRACE_BLOCK = 1 << 1,
    TRACE_MMU = 1 << 2,
    TRACE_IRQ = 1 << 3,
} TraceEvent;

typedef struct Trace Trace;

/* `spec`: names of events and at most one file=PATH, separated by commas; to standard error without
 * one. */
Trace *trace_new(const char *spec, GError **error);
/* NULL is allowed. */
void trace_free(Trace *trace);
unsigned trace_events(const Trace *trace);
void trace_line(Trace *trace, unsigned cpu, TraceEvent event, const char *format, ...)
    G_GNUC_PRINTF(4, 5);
/* One instruction, disassembled where Ospite was built with Zydis. `code_size`: 2, 4 or 8 bytes, as
 * the code segment has it. Returns its length, 1 if it is none. */
unsigned trace_insn(Trace *trace, unsigned cpu, TraceEvent event, unsigned code_size, uint64_t rip,
                    const uint8_t *bytes, unsigned available);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Trace, trace_free)
