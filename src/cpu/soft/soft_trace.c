/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the software CPU tells a trace. vCPU thread; called only when the event is wanted. */
#include "cpu/soft/soft_trace.h"

#include "cpu/soft/decode.h"

/* Bytes of code from `linear` on that can be read without a fault. */
static unsigned peek_code(SoftCpu *cpu, uint64_t linear, uint8_t *bytes)
{
    for (unsigned n = 0; n < INSN_MAX_BYTES; n++) {
        uint64_t physical = mmu_debug_translate(cpu, linear + n);
        if (physical == UINT64_MAX || !space_read(cpu->vcpu->vm->memory, physical, &bytes[n], 1))
            return n;
    }
    return INSN_MAX_BYTES;
}

void soft_trace_exec(SoftCpu *cpu)
{
    uint8_t bytes[INSN_MAX_BYTES];
    uint64_t linear = code_linear(cpu, cpu->s.rip & cpu->rip_mask);
    unsigned available = peek_code(cpu, linear, bytes);

    if (available)
        trace_insn(cpu->vcpu->vm->trace, cpu->vcpu->index, TRACE_EXEC, cpu->code_size, linear,
                   bytes, available);
}

void soft_trace_block(SoftCpu *cpu, const Block *block, const uint8_t *bytes)
{
    uint64_t linear = code_linear(cpu, cpu->s.rip);

    for (unsigned i = 0; i < block->count; i++) {
        const Insn *insn = &block->insns[i];
        trace_insn(cpu->vcpu->vm->trace, cpu->vcpu->index, TRACE_BLOCK, cpu->code_size,
                   linear + insn->rip_offset, bytes + insn->rip_offset, insn->length);
    }
}

void soft_trace_fill(SoftCpu *cpu, const TlbPage *page, MmuIndex index)
{
    static const char *const index_names[] = {"user", "kernel", "kernel-ac"};
    unsigned rights = page->rights;

    trace_line(cpu->vcpu->vm->trace, cpu->vcpu->index, TRACE_MMU,
               "fill %016" G_GINT64_MODIFIER "x -> %09" G_GINT64_MODIFIER "x %c%c%c%s %s%s",
               page->linear, page->physical, rights >> MMU_READ & 1 ? 'r' : '-',
               rights >> MMU_WRITE & 1 ? 'w' : '-', rights >> MMU_EXEC & 1 ? 'x' : '-',
               page->global ? " global" : "", index_names[index], page->host ? "" : " device");
}

void soft_trace_flush(SoftCpu *cpu, const char *what, uint64_t linear)
{
    trace_line(cpu->vcpu->vm->trace, cpu->vcpu->index, TRACE_MMU,
               "flush %s %016" G_GINT64_MODIFIER "x", what, linear);
}

void soft_trace_event(SoftCpu *cpu)
{
    static const char *const kinds[] = {"fault", "software", "external"};
    unsigned kind = cpu->event.software ? 1 : cpu->event.external ? 2 : 0;
    g_autofree char *details = g_strdup("");

    if (cpu->event.has_error) {
        g_free(details);
        details = cpu->event.vector == EXC_PF
                      ? g_strdup_printf(" error %#x cr2 %" G_GINT64_MODIFIER "x", cpu->event.error,
                                        cpu->s.cr2)
                      : g_strdup_printf(" error %#x", cpu->event.error);
    }
    trace_line(cpu->vcpu->vm->trace, cpu->vcpu->index, TRACE_IRQ,
               "vector %d %s at %04x:%" G_GINT64_MODIFIER "x cpl %u%s", cpu->event.vector,
               kinds[kind], cpu->s.seg[SEG_CS].selector, cpu->s.rip, cpu->cpl, details);
}
