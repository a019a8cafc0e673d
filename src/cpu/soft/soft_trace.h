/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the software CPU tells a trace (cpu/trace.h). SoftCpu.traces has the wanted events: call
 * only when the bit is set. vCPU thread.
 */
#pragma once

#include "cpu/soft/block.h"

static inline bool soft_traces(const SoftCpu *cpu, TraceEvent event)
{
    return G_UNLIKELY(cpu->traces & event);
}
/* The instruction at RIP is about to run. */
void soft_trace_exec(SoftCpu *cpu);
/* A block was decoded for s.rip from `bytes`. */
void soft_trace_block(SoftCpu *cpu, const Block *block, const uint8_t *bytes);
void soft_trace_fill(SoftCpu *cpu, const TlbPage *page, MmuIndex index);
void soft_trace_flush(SoftCpu *cpu, const char *what, uint64_t linear);
/* cpu->event is about to be delivered. */
void soft_trace_event(SoftCpu *cpu);
