/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The reset state of a CPU: SDM 3A table 9-1.
 */
#include "cpu/state.h"

#include <string.h>

static Segment reset_segment(uint16_t selector, uint64_t base, uint32_t attributes)
{
    return (Segment){.selector = selector, .base = base, .limit = 0xffff, .attributes = attributes};
}

/* What RESET and INIT have in common. */
static void reset_core(CpuState *s)
{
    memset(s->gpr, 0, sizeof(s->gpr));
    s->rip = 0xfff0;
    s->rflags = 2;
    for (unsigned i = 0; i < SEG_COUNT; i++)
        s->seg[i] =
            reset_segment(0, 0, SEGMENT_P | SEGMENT_S | SEGMENT_WRITABLE | SEGMENT_ACCESSED);
    s->seg[SEG_CS] =
        reset_segment(0xf000, 0xffff0000,
                      SEGMENT_P | SEGMENT_S | SEGMENT_CODE | SEGMENT_READABLE | SEGMENT_ACCESSED);
    s->ldtr = reset_segment(0, 0, SEGMENT_P | 2);
    s->tr = reset_segment(0, 0, SEGMENT_P | 11);
    s->gdtr = s->idtr = (DescriptorTable){.limit = 0xffff};
    s->cr2 = s->cr3 = s->cr4 = s->cr8 = 0;
    memset(s->dr, 0, sizeof(s->dr));
    s->dr6 = 0xffff0ff0;
    s->dr7 = 0x400;
    s->efer = 0;
    s->kvm_system_time = s->kvm_eoi = s->hyperv_assist_page = 0;
    s->interrupt_shadow = s->nmi_blocked = false;
    s->nmi_pending = 0;
    s->pending_db = 0;
    s->event = (CpuEvent){0};
}

void cpu_state_reset(CpuState *state, uint32_t signature, bool bootstrap_processor, bool init)
{
    uint64_t cache_bits = init ? state->cr0 & (CR0_CD | CR0_NW) : CR0_CD | CR0_NW;

    if (!init) {
        memset(state, 0, sizeof(*state));
        state->pat = UINT64_C(0x0007040600070406);
        state->misc_enable = 1 | 1 << 11 | 1 << 12; /* fast strings; no BTS, no PEBS */
        state->apic_base = 0xfee00800 | (bootstrap_processor ? 0x100 : 0);
        memset(state->mc_ctl, 0xff, sizeof(state->mc_ctl)); /* all errors are reported */
        state->xcr0 = XCR0_X87;
        state->fpu.fcw = 0x40;
        state->fpu.ftw_abridged = 0xff;
        state->fpu.mxcsr = 0x1f80;
        state->fpu.mxcsr_mask = 0xffff;
    }
    reset_core(state);
    state->gpr[GPR_RDX] = signature;
    state->cr0 = CR0_ET | cache_bits;
    state->activity = bootstrap_processor ? CPU_ACTIVE : CPU_WAIT_SIPI;
}
