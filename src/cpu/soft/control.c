/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Control and debug registers, EFER and XCR0: which values are allowed, and what follows from a
 * change.
 *
 * Source: SDM 3A 2.5, 2.6, 4.1, 4.10.4, 9.8.5; 3B 17.2. Illegal values raise #GP(0) before anything
 * changes.
 */
#include "cpu/soft/system.h"

#include "cpu/tsc.h"

#define CR0_DEFINED                                                                            \
    (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | \
     CR0_PG)
#define PCID_MASK UINT64_C(0xfff)

static const struct {
    uint32_t bit;
    CpuFeature feature;
} cr4_features[] = {
    {CR4_VME | CR4_PVI, CPU_VME}, {CR4_TSD, CPU_TSC},       {CR4_DE, CPU_DE},
    {CR4_PSE, CPU_PSE},           {CR4_PAE, CPU_PAE},       {CR4_MCE, CPU_MCE},
    {CR4_PGE, CPU_PGE},           {CR4_PCE, CPU_MMX},       {CR4_OSFXSR, CPU_FXSR},
    {CR4_OSXMMEXCPT, CPU_SSE},    {CR4_UMIP, CPU_UMIP},     {CR4_FSGSBASE, CPU_FSGSBASE},
    {CR4_PCIDE, CPU_PCID},        {CR4_OSXSAVE, CPU_XSAVE}, {CR4_SMEP, CPU_SMEP},
    {CR4_SMAP, CPU_SMAP},
};

static void __attribute__((noreturn)) refuse(SoftCpu *cpu)
{
    cpu_raise_error(cpu, EXC_GP, 0);
}

/* PAE paging outside long mode keeps its top level in the CPU. */
static bool uses_pdptes(uint64_t cr0, uint64_t cr4, uint64_t efer)
{
    return cr0 & CR0_PG && cr4 & CR4_PAE && !(efer & EFER_LMA);
}

void control_write_cr0(SoftCpu *cpu, uint64_t value)
{
    CpuState *s = &cpu->s;
    uint64_t efer = s->efer, changed;

    if (value >> 32 || (value & CR0_PG && !(value & CR0_PE)) ||
        (value & CR0_NW && !(value & CR0_CD)))
        refuse(cpu);
    value = (value & CR0_DEFINED) | CR0_ET;
    changed = value ^ s->cr0;
    if (changed & CR0_PG) {
        bool long_code = s->seg[SEG_CS].attributes & SEGMENT_L;
        if (!(value & CR0_PG) && (s->cr4 & CR4_PCIDE || cpu->code_size == 8))
            refuse(cpu);
        if (value & CR0_PG && efer & EFER_LME) {
            if (!(s->cr4 & CR4_PAE) || long_code)
                refuse(cpu);
            efer |= EFER_LMA;
        } else {
            efer &= ~(uint64_t)EFER_LMA;
        }
    }
    if (uses_pdptes(value, s->cr4, efer) && changed & (CR0_PG | CR0_CD | CR0_NW) &&
        !mmu_load_pdptes(cpu, s->cr3))
        refuse(cpu);
    s->cr0 = value;
    s->efer = efer;
    if (changed & (CR0_PG | CR0_PE | CR0_WP))
        tlb_flush_all(cpu);
    cpu_update_mode(cpu);
}

void control_load_cr3(SoftCpu *cpu, uint64_t value)
{
    if (uses_pdptes(cpu->s.cr0, cpu->s.cr4, cpu->s.efer) && !mmu_load_pdptes(cpu, value))
        refuse(cpu);
    cpu->s.cr3 = value;
    tlb_flush_non_global(cpu);
}

void control_write_cr3(SoftCpu *cpu, uint64_t value)
{
    bool keep = false;

    if (cpu->s.cr4 & CR4_PCIDE) {
        /* The TLB holds the current PCID only. */
        keep = value & CR3_NO_FLUSH && !((value ^ cpu->s.cr3) & PCID_MASK);
        value &= ~CR3_NO_FLUSH;
    }
    if (cpu->s.efer & EFER_LMA) {
        if (value & ~cpu->phys_mask)
            refuse(cpu);
    } else {
        value = (uint32_t)value;
    }
    if (keep)
        cpu->s.cr3 = value;
    else
        control_load_cr3(cpu, value);
}

uint64_t control_cr4_allowed(const SoftCpu *cpu)
{
    uint64_t allowed = 0;

    for (unsigned i = 0; i < G_N_ELEMENTS(cr4_features); i++)
        if (cpu_has(cpu->model, cr4_features[i].feature))
            allowed |= cr4_features[i].bit;
    return allowed;
}

void control_write_cr4(SoftCpu *cpu, uint64_t value)
{
    const uint64_t paging = CR4_PSE | CR4_PAE | CR4_PGE | CR4_SMEP;
    CpuState *s = &cpu->s;
    uint64_t changed = value ^ s->cr4;

    if (value & ~control_cr4_allowed(cpu))
        refuse(cpu);
    if (s->efer & EFER_LMA && !(value & CR4_PAE))
        refuse(cpu);
    if (changed & value & CR4_PCIDE && (!(s->efer & EFER_LMA) || s->cr3 & PCID_MASK))
        refuse(cpu);
    if (changed & paging && uses_pdptes(s->cr0, value, s->efer) && !mmu_load_pdptes(cpu, s->cr3))
        refuse(cpu);
    s->cr4 = value;
    if (changed & (paging | CR4_PCIDE | CR4_SMAP))
        tlb_flush_all(cpu);
    cpu_update_mode(cpu);
}

bool control_write_efer(SoftCpu *cpu, uint64_t value)
{
    CpuState *s = &cpu->s;
    uint64_t allowed = 0, changed;

    if (cpu_has(cpu->model, CPU_SYSCALL))
        allowed |= EFER_SCE;
    if (cpu_has(cpu->model, CPU_NX))
        allowed |= EFER_NXE;
    if (cpu_has(cpu->model, CPU_LM))
        allowed |= EFER_LME | EFER_LMA;
    if (cpu_has(cpu->model, CPU_AUTOIBRS))
        allowed |= EFER_AIBRSE;
    if (value & ~allowed)
        return false;
    value = (value & ~(uint64_t)EFER_LMA) | (s->efer & EFER_LMA);
    changed = value ^ s->efer;
    if (changed & EFER_LME && s->cr0 & CR0_PG)
        return false;
    s->efer = value;
    if (changed & EFER_NXE)
        tlb_flush_all(cpu);
    return true;
}

uint64_t control_xcr0_allowed(const SoftCpu *cpu)
{
    return XCR0_X87 | XCR0_SSE | (cpu_has(cpu->model, CPU_AVX) ? XCR0_AVX : 0);
}

bool control_write_xcr0(SoftCpu *cpu, uint64_t value)
{
    if (!(value & XCR0_X87) || value & ~control_xcr0_allowed(cpu) ||
        (value & XCR0_AVX && !(value & XCR0_SSE)))
        return false;
    cpu->s.xcr0 = value;
    cpu_update_mode(cpu);
    return true;
}

void control_write_dr(SoftCpu *cpu, unsigned n, uint64_t value)
{
    CpuState *s = &cpu->s;

    if (n < 4) {
        s->dr[n] = value;
        if (s->dr7 & 0xff)
            tlb_flush_all(cpu);
        return;
    }
    if (value >> 32)
        refuse(cpu);
    if (n == 6) {
        s->dr6 = (value & 0xe00f) | 0xffff0ff0;
        return;
    }
    value = (value & 0xffff23ff) | 0x400;
    if ((value ^ s->dr7) & 0xffff00ff)
        tlb_flush_all(cpu);
    s->dr7 = value;
    cpu_update_mode(cpu);
}

uint64_t cpu_tsc(SoftCpu *cpu)
{
    return tsc_host_now() + (uint64_t)cpu->tsc_offset;
}

void cpu_state_loaded(SoftCpu *cpu)
{
    flags_set_arithmetic(cpu, cpu->s.rflags);
    cpu->s.rflags = (cpu->s.rflags & ~(uint64_t)FLAGS_ARITHMETIC) | 2;
    cpu->s.gpr[GPR_NONE] = 0;
    cpu->insn = NULL;
    cpu->event.vector = -1;
    cpu->delivering = false;
    cpu->pending_db = 0;
    mmu_init(cpu);
    if (uses_pdptes(cpu->s.cr0, cpu->s.cr4, cpu->s.efer) && !mmu_load_pdptes(cpu, cpu->s.cr3))
        memset(cpu->pdpte, 0, sizeof(cpu->pdpte));
    cpu_update_mode(cpu);
}
