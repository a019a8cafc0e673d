/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * System instructions. See ops_system.h; the work behind them is in segment.c, transfer.c,
 * exception.c, control.c and msr.c.
 *
 * Source: SDM 2A-2D, one entry each.
 */
#include "cpu/soft/ops_system.h"

#include "base/bits.h"
#include "cpu/soft/block.h"
#include "cpu/soft/system.h"

/* A handler whose locals have their address taken can't go on to the next by a tail call: such work
 * stands in a function of its own. */
#define OUT_OF_LINE static __attribute__((noinline)) void

/* ---- operands and checks --------------------------------------------------------------------- */

static void set_reg(SoftCpu *cpu, unsigned reg, unsigned size, uint64_t value)
{
    uint64_t *gpr = &cpu->s.gpr[reg];

    *gpr = size == 2   ? (*gpr & ~UINT64_C(0xffff)) | (value & 0xffff)
           : size == 4 ? (uint32_t)value
                       : value;
}

static uint16_t read_rm16(SoftCpu *cpu, const Insn *insn)
{
    if (insn->flags & INSN_MEMORY)
        return mem_read16(cpu, insn, insn_linear(cpu, insn, 2, MMU_READ));
    return cpu->s.gpr[insn->rm];
}

/* Memory takes 16 bits whatever the operand size; a register takes them all. */
static void write_rm_selector(SoftCpu *cpu, const Insn *insn, uint64_t value)
{
    if (insn->flags & INSN_MEMORY)
        mem_write16(cpu, insn, insn_linear(cpu, insn, 2, MMU_WRITE), value);
    else
        set_reg(cpu, insn->rm, insn->op_size, value);
}

static void set_zf(SoftCpu *cpu, bool value)
{
    cpu->flags = value ? cpu->flags | FLAG_ZF << 8 : cpu->flags & ~(uint32_t)(FLAG_ZF << 8);
}

static void require(SoftCpu *cpu, bool condition, int vector)
{
    if (G_LIKELY(condition))
        return;
    if (vector == EXC_UD)
        cpu_raise(cpu, EXC_UD);
    cpu_raise_error(cpu, vector, 0);
}

static void require_feature(SoftCpu *cpu, CpuFeature feature)
{
    require(cpu, cpu_has(cpu->model, feature), EXC_UD);
}

static void require_ring0(SoftCpu *cpu)
{
    require(cpu, cpu->cpl == 0, EXC_GP);
}

static void require_protected(SoftCpu *cpu)
{
    require(cpu, cpu->mode & MODE_PROTECTED, EXC_UD);
}

static void require_memory(SoftCpu *cpu, const Insn *insn)
{
    require(cpu, insn->flags & INSN_MEMORY, EXC_UD);
}

static void require_umip(SoftCpu *cpu)
{
    require(cpu, !(cpu->s.cr4 & CR4_UMIP) || cpu->cpl == 0, EXC_GP);
}

static unsigned iopl(const SoftCpu *cpu)
{
    return cpu->s.rflags >> 12 & 3;
}

/* ---- descriptor tables ----------------------------------------------------------------------- */

static void load_table(SoftCpu *cpu, const Insn *insn, DescriptorTable *table)
{
    bool wide = cpu->code_size == 8;
    uint64_t linear, base;
    uint16_t limit;

    INSN_LEAVE(cpu, insn);
    require_memory(cpu, insn);
    require_ring0(cpu);
    linear = insn_linear(cpu, insn, wide ? 10 : 6, MMU_READ);
    limit = mem_read16(cpu, insn, linear);
    base = wide ? mem_read64(cpu, insn, linear + 2) : mem_read32(cpu, insn, linear + 2);
    if (!wide && insn->op_size == 2)
        base &= 0xffffff;
    if (wide)
        require(cpu, is_canonical48(base), EXC_GP);
    *table = (DescriptorTable){.base = base, .limit = limit};
}

static void store_table(SoftCpu *cpu, const Insn *insn, const DescriptorTable *table)
{
    unsigned size = cpu->code_size == 8 ? 10 : 6;
    uint8_t image[10];

    INSN_PRECISE(cpu, insn);
    require_memory(cpu, insn);
    require_umip(cpu);
    store_le16(image, table->limit);
    store_le64(image + 2, table->base);
    mmu_store_bytes(cpu, insn_linear(cpu, insn, size, MMU_WRITE), image, size, cpu->mmu_index);
}

void op_lgdt(SoftCpu *cpu, const Insn *insn)
{
    load_table(cpu, insn, &cpu->s.gdtr);
    INSN_END(cpu);
}

void op_lidt(SoftCpu *cpu, const Insn *insn)
{
    load_table(cpu, insn, &cpu->s.idtr);
    INSN_END(cpu);
}

void op_sgdt(SoftCpu *cpu, const Insn *insn)
{
    store_table(cpu, insn, &cpu->s.gdtr);
    INSN_NEXT(cpu, insn);
}

void op_sidt(SoftCpu *cpu, const Insn *insn)
{
    store_table(cpu, insn, &cpu->s.idtr);
    INSN_NEXT(cpu, insn);
}

/* A present system descriptor of the GDT of one of the types in `types` (a bit each). */
static Segment read_system_segment(SoftCpu *cpu, uint16_t selector, uint32_t types)
{
    uint64_t words[2];
    Segment seg;

    if (selector & 4 || !segment_read_descriptor(cpu, selector, words))
        cpu_raise_error(cpu, EXC_GP, selector & 0xfffc);
    seg = segment_unpack(selector, words[0]);
    if (seg.attributes & SEGMENT_S || !(types >> (seg.attributes & SEGMENT_TYPE) & 1))
        cpu_raise_error(cpu, EXC_GP, selector & 0xfffc);
    if (!(seg.attributes & SEGMENT_P))
        cpu_raise_error(cpu, EXC_NP, selector & 0xfffc);
    if (cpu_is_long_mode(cpu))
        seg.base = system_base(words);
    if (!is_canonical48(seg.base) && cpu_is_long_mode(cpu))
        cpu_raise_error(cpu, EXC_GP, selector & 0xfffc);
    return seg;
}

void op_lldt(SoftCpu *cpu, const Insn *insn)
{
    uint16_t selector;

    INSN_LEAVE(cpu, insn);
    require_protected(cpu);
    require_ring0(cpu);
    selector = read_rm16(cpu, insn);
    cpu->s.ldtr = selector & 0xfffc ? read_system_segment(cpu, selector, 1u << TYPE_LDT)
                                    : segment_null(selector, 0);
    INSN_END(cpu);
}

void op_ltr(SoftCpu *cpu, const Insn *insn)
{
    uint32_t types = 1u << TYPE_TSS32 | (cpu_is_long_mode(cpu) ? 0 : 1u << TYPE_TSS16);
    uint16_t selector;
    Segment tr;

    INSN_LEAVE(cpu, insn);
    require_protected(cpu);
    require_ring0(cpu);
    selector = read_rm16(cpu, insn);
    require(cpu, selector & 0xfffc, EXC_GP);
    tr = read_system_segment(cpu, selector, types);
    descriptor_set_busy(cpu, selector, true);
    tr.attributes |= 2;
    cpu->s.tr = tr;
    INSN_END(cpu);
}

void op_sldt(SoftCpu *cpu, const Insn *insn)
{
    INSN_PRECISE(cpu, insn);
    require_protected(cpu);
    require_umip(cpu);
    write_rm_selector(cpu, insn, cpu->s.ldtr.selector);
    INSN_NEXT(cpu, insn);
}

void op_str(SoftCpu *cpu, const Insn *insn)
{
    INSN_PRECISE(cpu, insn);
    require_protected(cpu);
    require_umip(cpu);
    write_rm_selector(cpu, insn, cpu->s.tr.selector);
    INSN_NEXT(cpu, insn);
}

/* The descriptor of `selector` for LAR, LSL, VERR and VERW; false: not visible to the running code.
 */
static bool visible_descriptor(SoftCpu *cpu, uint16_t selector, uint64_t *ret_word,
                               Segment *ret_seg)
{
    uint64_t words[2];

    if (!(selector & 0xfffc) || !segment_read_descriptor(cpu, selector, words))
        return false;
    *ret_word = words[0];
    *ret_seg = segment_unpack(selector, words[0]);
    if (segment_is_code(ret_seg) && ret_seg->attributes & SEGMENT_CONFORMING)
        return true;
    return segment_dpl(ret_seg) >= MAX(cpu->cpl, selector & 3);
}

/* Types of system descriptors that LAR and LSL know, a bit each. */
static bool system_type_known(const SoftCpu *cpu, const Segment *seg, bool gates)
{
    uint32_t known = 1u << TYPE_LDT | 1u << TYPE_TSS32 | 1u << TYPE_TSS32_BUSY;

    if (!cpu_is_long_mode(cpu))
        known |= 1u << TYPE_TSS16 | 1u << TYPE_TSS16_BUSY;
    if (gates)
        known |= 1u << TYPE_CALL_GATE32 |
                 (cpu_is_long_mode(cpu) ? 0 : 1u << TYPE_CALL_GATE16 | 1u << TYPE_TASK_GATE);
    return seg->attributes & SEGMENT_S || known >> (seg->attributes & SEGMENT_TYPE) & 1;
}

void op_lar(SoftCpu *cpu, const Insn *insn)
{
    uint64_t word;
    Segment seg;
    bool ok;

    INSN_PRECISE(cpu, insn);
    require_protected(cpu);
    ok = visible_descriptor(cpu, read_rm16(cpu, insn), &word, &seg) &&
         system_type_known(cpu, &seg, true);
    if (ok)
        set_reg(cpu, insn->reg, insn->op_size, word >> 32 & 0xffff00);
    set_zf(cpu, ok);
    INSN_NEXT(cpu, insn);
}

void op_lsl(SoftCpu *cpu, const Insn *insn)
{
    uint64_t word;
    Segment seg;
    bool ok;

    INSN_PRECISE(cpu, insn);
    require_protected(cpu);
    ok = visible_descriptor(cpu, read_rm16(cpu, insn), &word, &seg) &&
         system_type_known(cpu, &seg, false);
    if (ok)
        set_reg(cpu, insn->reg, insn->op_size, seg.limit);
    set_zf(cpu, ok);
    INSN_NEXT(cpu, insn);
}

void op_verr(SoftCpu *cpu, const Insn *insn)
{
    uint64_t word;
    Segment seg;

    INSN_PRECISE(cpu, insn);
    require_protected(cpu);
    set_zf(cpu, visible_descriptor(cpu, read_rm16(cpu, insn), &word, &seg) &&
                    seg.attributes & SEGMENT_S &&
                    (!segment_is_code(&seg) || seg.attributes & SEGMENT_READABLE));
    INSN_NEXT(cpu, insn);
}

void op_verw(SoftCpu *cpu, const Insn *insn)
{
    uint64_t word;
    Segment seg;

    INSN_PRECISE(cpu, insn);
    require_protected(cpu);
    set_zf(cpu, visible_descriptor(cpu, read_rm16(cpu, insn), &word, &seg) &&
                    seg.attributes & SEGMENT_S && !segment_is_code(&seg) &&
                    seg.attributes & SEGMENT_WRITABLE);
    INSN_NEXT(cpu, insn);
}

void op_arpl(SoftCpu *cpu, const Insn *insn)
{
    unsigned rpl = cpu->s.gpr[insn->reg] & 3;
    uint16_t value;
    bool adjust;

    INSN_PRECISE(cpu, insn);
    require_protected(cpu);
    value = read_rm16(cpu, insn);
    adjust = (value & 3u) < rpl;
    if (adjust && insn->flags & INSN_MEMORY)
        mem_write16(cpu, insn, insn_linear(cpu, insn, 2, MMU_WRITE), (value & ~3u) | rpl);
    else if (adjust)
        set_reg(cpu, insn->rm, 2, (value & ~3u) | rpl);
    set_zf(cpu, adjust);
    INSN_NEXT(cpu, insn);
}

/* ---- control and debug registers ------------------------------------------------------------- */

void op_lmsw(SoftCpu *cpu, const Insn *insn)
{
    uint16_t value;

    INSN_LEAVE(cpu, insn);
    require_ring0(cpu);
    value = read_rm16(cpu, insn);
    /* PE can be set but not cleared. */
    control_write_cr0(cpu, (cpu->s.cr0 & ~UINT64_C(0xe)) | (value & 0xf));
    INSN_END(cpu);
}

void op_smsw(SoftCpu *cpu, const Insn *insn)
{
    INSN_PRECISE(cpu, insn);
    require_umip(cpu);
    write_rm_selector(cpu, insn, cpu->s.cr0);
    INSN_NEXT(cpu, insn);
}

void op_clts(SoftCpu *cpu, const Insn *insn)
{
    INSN_LEAVE(cpu, insn);
    require_ring0(cpu);
    cpu->s.cr0 &= ~(uint64_t)CR0_TS;
    cpu_update_mode(cpu);
    INSN_END(cpu);
}

static bool cr_exists(const SoftCpu *cpu, unsigned n)
{
    return n == 0 || n == 2 || n == 3 || n == 4 || (n == 8 && cpu->code_size == 8);
}

static uint64_t read_cr8(SoftCpu *cpu)
{
    const Vcpu *vcpu = cpu->vcpu;

    return vcpu->intc ? vcpu->intc->get_cr8(vcpu->intc_obj) : cpu->s.cr8;
}

static void write_cr8(SoftCpu *cpu, uint64_t value)
{
    const Vcpu *vcpu = cpu->vcpu;

    require(cpu, value <= 15, EXC_GP);
    cpu->s.cr8 = value;
    cpu->interrupt_waits = true; /* perhaps */
    if (vcpu->intc)
        vcpu->intc->set_cr8(vcpu->intc_obj, value);
    interrupts_maybe_enabled(cpu);
}

void op_mov_from_cr(SoftCpu *cpu, const Insn *insn)
{
    const CpuState *s = &cpu->s;
    uint64_t value;

    INSN_PRECISE(cpu, insn);
    require(cpu, cr_exists(cpu, insn->reg), EXC_UD);
    require_ring0(cpu);
    switch (insn->reg) {
    case 0:
        value = s->cr0;
        break;
    case 2:
        value = s->cr2;
        break;
    case 3:
        value = s->cr3;
        break;
    case 4:
        value = s->cr4;
        break;
    default:
        value = read_cr8(cpu);
    }
    set_reg(cpu, insn->rm, cpu->code_size == 8 ? 8 : 4, value);
    INSN_NEXT(cpu, insn);
}

void op_mov_to_cr(SoftCpu *cpu, const Insn *insn)
{
    uint64_t value = cpu->s.gpr[insn->rm];

    INSN_LEAVE(cpu, insn);
    require(cpu, cr_exists(cpu, insn->reg), EXC_UD);
    require_ring0(cpu);
    if (cpu->code_size != 8)
        value = (uint32_t)value;
    switch (insn->reg) {
    case 0:
        control_write_cr0(cpu, value);
        break;
    case 2:
        cpu->s.cr2 = value;
        break;
    case 3:
        control_write_cr3(cpu, value);
        break;
    case 4:
        control_write_cr4(cpu, value);
        break;
    default:
        write_cr8(cpu, value);
    }
    INSN_END(cpu);
}

/* DR4 and DR5 are names of DR6 and DR7 unless CR4.DE; DR7.GD guards all. */
static unsigned check_dr(SoftCpu *cpu, const Insn *insn)
{
    unsigned n = insn->reg;

    require(cpu, n < 8 && !((n == 4 || n == 5) && cpu->s.cr4 & CR4_DE), EXC_UD);
    require_ring0(cpu);
    if (cpu->s.dr7 & DR7_GD) {
        cpu->s.dr6 |= DR6_BD;
        cpu_raise(cpu, EXC_DB);
    }
    return n == 4 || n == 5 ? n + 2 : n;
}

void op_mov_from_dr(SoftCpu *cpu, const Insn *insn)
{
    unsigned n;

    INSN_PRECISE(cpu, insn);
    n = check_dr(cpu, insn);
    set_reg(cpu, insn->rm, cpu->code_size == 8 ? 8 : 4,
            n < 4    ? cpu->s.dr[n]
            : n == 6 ? cpu->s.dr6
                     : cpu->s.dr7);
    INSN_NEXT(cpu, insn);
}

void op_mov_to_dr(SoftCpu *cpu, const Insn *insn)
{
    uint64_t value = cpu->s.gpr[insn->rm];

    INSN_LEAVE(cpu, insn);
    control_write_dr(cpu, check_dr(cpu, insn), cpu->code_size == 8 ? value : (uint32_t)value);
    INSN_END(cpu);
}

void op_xgetbv(SoftCpu *cpu, const Insn *insn)
{
    uint32_t n = cpu->s.gpr[GPR_RCX];

    INSN_PRECISE(cpu, insn);
    require(cpu, cpu->s.cr4 & CR4_OSXSAVE, EXC_UD);
    require(cpu, n == 0 || (n == 1 && cpu_has(cpu->model, CPU_XGETBV1)), EXC_GP);
    cpu->s.gpr[GPR_RAX] = (uint32_t)cpu->s.xcr0;
    cpu->s.gpr[GPR_RDX] = cpu->s.xcr0 >> 32;
    INSN_NEXT(cpu, insn);
}

void op_xsetbv(SoftCpu *cpu, const Insn *insn)
{
    uint64_t value = (uint32_t)cpu->s.gpr[GPR_RAX] | cpu->s.gpr[GPR_RDX] << 32;

    INSN_LEAVE(cpu, insn);
    require(cpu, cpu->s.cr4 & CR4_OSXSAVE, EXC_UD);
    require_ring0(cpu);
    require(cpu, (uint32_t)cpu->s.gpr[GPR_RCX] == 0 && control_write_xcr0(cpu, value), EXC_GP);
    INSN_END(cpu);
}

/* ---- model-specific registers, counters, identification -------------------------------------- */

static void set_edx_eax(SoftCpu *cpu, uint64_t value)
{
    cpu->s.gpr[GPR_RAX] = (uint32_t)value;
    cpu->s.gpr[GPR_RDX] = value >> 32;
}

void op_rdmsr(SoftCpu *cpu, const Insn *insn)
{
    uint64_t value;

    INSN_LEAVE(cpu, insn);
    require_feature(cpu, CPU_MSR);
    require_ring0(cpu);
    require(cpu, msr_read(cpu, cpu->s.gpr[GPR_RCX], &value), EXC_GP);
    set_edx_eax(cpu, value);
    INSN_END(cpu);
}

void op_wrmsr(SoftCpu *cpu, const Insn *insn)
{
    uint64_t value = (uint32_t)cpu->s.gpr[GPR_RAX] | cpu->s.gpr[GPR_RDX] << 32;

    INSN_LEAVE(cpu, insn);
    require_feature(cpu, CPU_MSR);
    require_ring0(cpu);
    require(cpu, msr_write(cpu, cpu->s.gpr[GPR_RCX], value), EXC_GP);
    INSN_END(cpu);
}

static void read_tsc(SoftCpu *cpu, const Insn *insn, CpuFeature feature)
{
    INSN_PRECISE(cpu, insn);
    require_feature(cpu, feature);
    require(cpu, !(cpu->s.cr4 & CR4_TSD) || cpu->cpl == 0, EXC_GP);
    set_edx_eax(cpu, cpu_tsc(cpu));
}

void op_rdtsc(SoftCpu *cpu, const Insn *insn)
{
    read_tsc(cpu, insn, CPU_TSC);
    INSN_NEXT(cpu, insn);
}

void op_rdtscp(SoftCpu *cpu, const Insn *insn)
{
    read_tsc(cpu, insn, CPU_RDTSCP);
    cpu->s.gpr[GPR_RCX] = (uint32_t)cpu->s.tsc_aux;
    INSN_NEXT(cpu, insn);
}

void op_rdpmc(SoftCpu *cpu, const Insn *insn)
{
    INSN_PRECISE(cpu, insn);
    require_feature(cpu, CPU_MMX);
    require(cpu, cpu->cpl == 0 || cpu->s.cr4 & CR4_PCE, EXC_GP);
    /* AMD's processors always have four counters, here ones that never count; Intel's leaf 0xa says
     * that there are none. */
    require(cpu, cpu_model_is_amd(cpu->model) && (uint32_t)cpu->s.gpr[GPR_RCX] < 4, EXC_GP);
    set_edx_eax(cpu, 0);
    INSN_NEXT(cpu, insn);
}

void op_rdpid(SoftCpu *cpu, const Insn *insn)
{
    INSN_PRECISE(cpu, insn);
    require_feature(cpu, CPU_RDPID);
    cpu->s.gpr[insn->rm] = (uint32_t)cpu->s.tsc_aux;
    INSN_NEXT(cpu, insn);
}

void op_cpuid(SoftCpu *cpu, const Insn *insn)
{
    const CpuState *s = &cpu->s;
    CpuidValue value = cpu_model_cpuid(cpu->model, cpu->vcpu->index, s->cr4, s->xcr0, s->apic_base,
                                       s->gpr[GPR_RAX], s->gpr[GPR_RCX]);

    cpu->s.gpr[GPR_RAX] = value.eax;
    cpu->s.gpr[GPR_RBX] = value.ebx;
    cpu->s.gpr[GPR_RCX] = value.ecx;
    cpu->s.gpr[GPR_RDX] = value.edx;
    INSN_NEXT(cpu, insn);
}

/* VMCALL and VMMCALL: calls of the KVM interface, of which none is offered, so each answers that it
 * is not known, or from outer rings that it is not allowed (KVM_ENOSYS, KVM_EPERM). */
void op_hypercall(SoftCpu *cpu, const Insn *insn)
{
    enum { UNKNOWN_CALL = -1000, NOT_PERMITTED = -1 };
    int answer = cpu->cpl == 0 ? UNKNOWN_CALL : NOT_PERMITTED;

    cpu->s.gpr[GPR_RAX] = cpu->code_size == 8 ? (uint64_t)(int64_t)answer : (uint32_t)answer;
    INSN_NEXT(cpu, insn);
}

/* ---- halting, caches, translations ----------------------------------------------------------- */

void op_hlt(SoftCpu *cpu, const Insn *insn)
{
    INSN_LEAVE(cpu, insn);
    require_ring0(cpu);
    cpu->s.activity = CPU_HALTED;
    cpu->s.interrupt_shadow = false; /* STI; HLT: what comes from now on wakes */
    events_notify(cpu);
    INSN_END(cpu);
}

/* Guest caches have no state: the host keeps memory coherent. */
static void flush_caches(SoftCpu *cpu, const Insn *insn)
{
    INSN_PRECISE(cpu, insn);
    require_ring0(cpu);
}

void op_invd(SoftCpu *cpu, const Insn *insn)
{
    flush_caches(cpu, insn);
    INSN_NEXT(cpu, insn);
}

void op_wbinvd(SoftCpu *cpu, const Insn *insn)
{
    flush_caches(cpu, insn);
    INSN_NEXT(cpu, insn);
}

void op_invlpg(SoftCpu *cpu, const Insn *insn)
{
    uint64_t linear = cpu->seg_base[insn->segment] + insn_ea(cpu, insn);

    INSN_LEAVE(cpu, insn);
    require_memory(cpu, insn);
    require_ring0(cpu);
    tlb_flush_page(cpu, cpu_is_long_mode(cpu) ? linear : (uint32_t)linear);
    INSN_END(cpu);
}

enum { INVPCID_ADDRESS, INVPCID_CONTEXT, INVPCID_ALL_GLOBAL, INVPCID_ALL };

void op_invpcid(SoftCpu *cpu, const Insn *insn)
{
    uint64_t type = cpu->s.gpr[insn->reg], linear, pcid, address;
    bool current;

    INSN_LEAVE(cpu, insn);
    require_feature(cpu, CPU_INVPCID);
    require_memory(cpu, insn);
    require_ring0(cpu);
    if (cpu->code_size != 8)
        type = (uint32_t)type;
    linear = insn_linear(cpu, insn, 16, MMU_READ);
    pcid = mem_read64(cpu, insn, linear);
    address = mem_read64(cpu, insn, linear + 8);
    require(cpu, type <= INVPCID_ALL && pcid < 0x1000, EXC_GP);
    if (type <= INVPCID_CONTEXT)
        require(cpu, !pcid || cpu->s.cr4 & CR4_PCIDE, EXC_GP);
    if (type == INVPCID_ADDRESS)
        require(cpu, is_canonical48(address), EXC_GP);
    /* The TLB holds the current PCID and global pages only. */
    current = pcid == (cpu->s.cr4 & CR4_PCIDE ? cpu->s.cr3 & 0xfff : 0);
    if (type == INVPCID_ALL_GLOBAL)
        tlb_flush_all(cpu);
    else if (type == INVPCID_ALL || (type == INVPCID_CONTEXT && current))
        tlb_flush_non_global(cpu);
    else if (type == INVPCID_ADDRESS && current)
        tlb_flush_page(cpu, address);
    INSN_END(cpu);
}

/* ---- bases of FS and GS ---------------------------------------------------------------------- */

void op_swapgs(SoftCpu *cpu, const Insn *insn)
{
    uint64_t base = cpu->s.seg[SEG_GS].base;

    INSN_PRECISE(cpu, insn);
    require(cpu, cpu->code_size == 8, EXC_UD);
    require_ring0(cpu);
    cpu->s.seg[SEG_GS].base = cpu->seg_base[SEG_GS] = cpu->s.kernel_gs_base;
    cpu->s.kernel_gs_base = base;
    INSN_NEXT(cpu, insn);
}

static void require_fsgsbase(SoftCpu *cpu, const Insn *insn)
{
    INSN_PRECISE(cpu, insn);
    require(cpu, cpu->code_size == 8 && cpu->s.cr4 & CR4_FSGSBASE, EXC_UD);
}

static void write_base(SoftCpu *cpu, const Insn *insn, unsigned seg)
{
    uint64_t value = cpu->s.gpr[insn->rm];

    require_fsgsbase(cpu, insn);
    if (insn->op_size == 4)
        value = (uint32_t)value;
    require(cpu, is_canonical48(value), EXC_GP);
    cpu->s.seg[seg].base = cpu->seg_base[seg] = value;
}

void op_rdfsbase(SoftCpu *cpu, const Insn *insn)
{
    require_fsgsbase(cpu, insn);
    set_reg(cpu, insn->rm, insn->op_size, cpu->s.seg[SEG_FS].base);
    INSN_NEXT(cpu, insn);
}

void op_rdgsbase(SoftCpu *cpu, const Insn *insn)
{
    require_fsgsbase(cpu, insn);
    set_reg(cpu, insn->rm, insn->op_size, cpu->s.seg[SEG_GS].base);
    INSN_NEXT(cpu, insn);
}

void op_wrfsbase(SoftCpu *cpu, const Insn *insn)
{
    write_base(cpu, insn, SEG_FS);
    INSN_NEXT(cpu, insn);
}

void op_wrgsbase(SoftCpu *cpu, const Insn *insn)
{
    write_base(cpu, insn, SEG_GS);
    INSN_NEXT(cpu, insn);
}

/* ---- fast system calls ----------------------------------------------------------------------- */

static void set_flat(SoftCpu *cpu, uint16_t cs, uint16_t ss, unsigned cpl, bool long_code)
{
    cpu->s.seg[SEG_CS] = segment_flat_code((cs & 0xfffc) | cpl, cpl, long_code);
    cpu->s.seg[SEG_SS] = segment_flat_data((ss & 0xfffc) | cpl, cpl);
    cpu_update_mode(cpu);
}

/* Single-stepping goes by TF at the end of SYSCALL and SYSRET (APM 3 SYSCALL). */
static void step_by_new_flags(SoftCpu *cpu)
{
    cpu->pending_db &= ~(uint32_t)DR6_BS;
    if (cpu->s.rflags & FLAG_TF)
        cpu->pending_db |= DR6_BS;
}

void op_syscall(SoftCpu *cpu, const Insn *insn)
{
    CpuState *s = &cpu->s;
    bool amd = cpu->code_size != 8 && cpu_model_is_amd(cpu->model);
    uint16_t cs = s->star >> 32;

    INSN_LEAVE(cpu, insn);
    require(cpu, s->efer & EFER_SCE && (cpu->code_size == 8 || (amd && cpu->mode & MODE_PROTECTED)),
            EXC_UD);
    s->gpr[GPR_RCX] = s->rip & cpu->rip_mask;
    if (cpu_is_long_mode(cpu)) {
        s->gpr[GPR_R11] = flags_get(cpu) & ~(uint64_t)FLAG_RF;
        s->rip = cpu->code_size == 8 ? s->lstar : s->cstar;
        flags_set(cpu, s->gpr[GPR_R11] & ~s->sfmask);
        set_flat(cpu, cs & 0xfffc, (cs & 0xfffc) + 8, 0, true);
    } else {
        s->rip = (uint32_t)s->star;
        s->rflags &= ~(uint64_t)(FLAG_IF | FLAG_VM | FLAG_RF);
        set_flat(cpu, cs & 0xfffc, (cs & 0xfffc) + 8, 0, false);
    }
    step_by_new_flags(cpu);
    INSN_END(cpu);
}

/* A return to RCX that is not canonical faults here on Intel (ring 0), at the target on AMD. */
void op_sysret(SoftCpu *cpu, const Insn *insn)
{
    CpuState *s = &cpu->s;
    bool amd = cpu_model_is_amd(cpu->model), wide = insn->op_size == 8;
    uint16_t selector = s->star >> 48;

    INSN_LEAVE(cpu, insn);
    require(cpu, s->efer & EFER_SCE && (cpu->code_size == 8 || (amd && cpu->mode & MODE_PROTECTED)),
            EXC_UD);
    require_ring0(cpu);
    if (wide && !amd)
        require(cpu, is_canonical48(s->gpr[GPR_RCX]), EXC_GP);
    s->rip = wide ? s->gpr[GPR_RCX] : (uint32_t)s->gpr[GPR_RCX];
    if (cpu_is_long_mode(cpu))
        flags_set(cpu, s->gpr[GPR_R11] & 0x3c7fd7);
    else
        s->rflags |= FLAG_IF;
    set_flat(cpu, wide ? selector + 16 : selector, selector + 8, 3, wide);
    step_by_new_flags(cpu);
    interrupts_maybe_enabled(cpu);
    INSN_END(cpu);
}

void op_sysenter(SoftCpu *cpu, const Insn *insn)
{
    CpuState *s = &cpu->s;
    bool long_mode = cpu_is_long_mode(cpu);

    INSN_LEAVE(cpu, insn);
    require_feature(cpu, CPU_SEP);
    require(cpu, !(long_mode && cpu_model_is_amd(cpu->model)), EXC_UD);
    require(cpu, !cpu_is_real_mode(cpu) && s->sysenter_cs & 0xfffc, EXC_GP);
    s->rflags &= ~(uint64_t)(FLAG_VM | FLAG_IF | FLAG_RF);
    s->gpr[GPR_RSP] = long_mode ? s->sysenter_esp : (uint32_t)s->sysenter_esp;
    s->rip = long_mode ? s->sysenter_eip : (uint32_t)s->sysenter_eip;
    set_flat(cpu, s->sysenter_cs, (s->sysenter_cs & 0xfffc) + 8, 0, long_mode);
    INSN_END(cpu);
}

void op_sysexit(SoftCpu *cpu, const Insn *insn)
{
    CpuState *s = &cpu->s;
    bool wide = insn->op_size == 8;
    uint16_t cs = s->sysenter_cs & 0xfffc;

    INSN_LEAVE(cpu, insn);
    require_feature(cpu, CPU_SEP);
    require(cpu, !(cpu_is_long_mode(cpu) && cpu_model_is_amd(cpu->model)), EXC_UD);
    require(cpu, !cpu_is_real_mode(cpu) && cs, EXC_GP);
    require_ring0(cpu);
    if (wide)
        require(cpu, is_canonical48(s->gpr[GPR_RCX]) && is_canonical48(s->gpr[GPR_RDX]), EXC_GP);
    s->gpr[GPR_RSP] = wide ? s->gpr[GPR_RCX] : (uint32_t)s->gpr[GPR_RCX];
    s->rip = wide ? s->gpr[GPR_RDX] : (uint32_t)s->gpr[GPR_RDX];
    set_flat(cpu, cs + (wide ? 32 : 16), cs + (wide ? 40 : 24), 3, wide);
    INSN_END(cpu);
}

/* ---- flags ----------------------------------------------------------------------------------- */

/* Who may change IF: the flag itself, its virtual copy (VME, PVI), or nobody. */
typedef enum InterruptFlag { IF_REAL, IF_VIRTUAL, IF_DENIED } InterruptFlag;

static InterruptFlag interrupt_flag(const SoftCpu *cpu)
{
    if (cpu->cpl <= iopl(cpu))
        return IF_REAL;
    if (cpu_is_vm86(cpu))
        return cpu->s.cr4 & CR4_VME ? IF_VIRTUAL : IF_DENIED;
    return cpu->cpl == 3 && cpu->s.cr4 & CR4_PVI ? IF_VIRTUAL : IF_DENIED;
}

void op_cli(SoftCpu *cpu, const Insn *insn)
{
    InterruptFlag which = interrupt_flag(cpu);

    INSN_PRECISE(cpu, insn);
    require(cpu, which != IF_DENIED, EXC_GP);
    cpu->s.rflags &= ~(uint64_t)(which == IF_REAL ? FLAG_IF : FLAG_VIF);
    INSN_NEXT(cpu, insn);
}

void op_sti(SoftCpu *cpu, const Insn *insn)
{
    InterruptFlag which = interrupt_flag(cpu);

    INSN_LEAVE(cpu, insn);
    require(cpu, which != IF_DENIED && !(which == IF_VIRTUAL && cpu->s.rflags & FLAG_VIP), EXC_GP);
    if (which == IF_VIRTUAL) {
        cpu->s.rflags |= FLAG_VIF;
    } else if (!(cpu->s.rflags & FLAG_IF)) {
        cpu->s.rflags |= FLAG_IF;
        cpu->s.interrupt_shadow = true;
        interrupts_maybe_enabled(cpu);
        block_uncount(cpu, insn + 1);
        INSN_END(cpu);
    }
    INSN_NEXT(cpu, insn);
}

static void set_ac(SoftCpu *cpu, const Insn *insn, bool on)
{
    INSN_PRECISE(cpu, insn);
    require_feature(cpu, CPU_SMAP);
    require(cpu, cpu->cpl == 0, EXC_UD);
    cpu->s.rflags = on ? cpu->s.rflags | FLAG_AC : cpu->s.rflags & ~(uint64_t)FLAG_AC;
    cpu->mmu_index = index_for_cpl(cpu, 0);
    cpu->tlb = cpu->tlbs[cpu->mmu_index];
}

void op_clac(SoftCpu *cpu, const Insn *insn)
{
    set_ac(cpu, insn, false);
    INSN_NEXT(cpu, insn);
}

void op_stac(SoftCpu *cpu, const Insn *insn)
{
    set_ac(cpu, insn, true);
    INSN_NEXT(cpu, insn);
}

/* PUSHF and POPF in virtual-8086 mode with IOPL below 3 work on VIF, with 16 bits only. */
static bool uses_vif(SoftCpu *cpu, const Insn *insn)
{
    if (!cpu_is_vm86(cpu) || iopl(cpu) == 3)
        return false;
    require(cpu, cpu->s.cr4 & CR4_VME && insn->op_size == 2, EXC_GP);
    return true;
}

/* FLAGS as virtual-8086 code with VME sees them: IOPL 3, VIF in place of IF. */
static uint16_t vme_flags(const SoftCpu *cpu)
{
    uint64_t flags = flags_get(cpu);

    return (flags & ~(uint64_t)FLAG_IF) | FLAG_IOPL | (flags & FLAG_VIF ? FLAG_IF : 0);
}

OUT_OF_LINE push_flags(SoftCpu *cpu, const Insn *insn)
{
    uint64_t flags;
    Stack stack;

    INSN_PRECISE(cpu, insn);
    flags = uses_vif(cpu, insn) ? vme_flags(cpu) : flags_get(cpu) & ~(uint64_t)(FLAG_VM | FLAG_RF);
    stack = stack_current(cpu);
    stack_push(cpu, &stack, insn->op_size, flags);
    stack_commit(cpu, &stack);
}

void op_pushf(SoftCpu *cpu, const Insn *insn)
{
    push_flags(cpu, insn);
    INSN_NEXT(cpu, insn);
}

static uint64_t popf_mask(const SoftCpu *cpu, unsigned op_size)
{
    uint64_t mask = FLAGS_ARITHMETIC | FLAG_TF | FLAG_DF | FLAG_NT | FLAG_AC | FLAG_ID;

    if (cpu->cpl == 0)
        mask |= FLAG_IOPL;
    if (cpu->cpl <= iopl(cpu))
        mask |= FLAG_IF;
    return op_size == 2 ? mask & 0xffff : mask;
}

OUT_OF_LINE pop_flags(SoftCpu *cpu, const Insn *insn)
{
    uint64_t flags, mask;
    Stack stack;
    bool virtual;

    INSN_LEAVE(cpu, insn);
    virtual = uses_vif(cpu, insn);
    stack = stack_current(cpu);
    flags = stack_pop(cpu, &stack, insn->op_size);
    mask = popf_mask(cpu, insn->op_size);
    if (virtual) {
        require(cpu, !(flags & FLAG_TF) && !(flags & FLAG_IF && cpu->s.rflags & FLAG_VIP), EXC_GP);
        flags |= flags & FLAG_IF ? FLAG_VIF : 0;
        mask = (mask & ~(uint64_t)FLAG_IF) | FLAG_VIF;
    }
    stack_commit(cpu, &stack);
    flags_load(cpu, flags & ~(uint64_t)FLAG_RF, mask | FLAG_RF);
}

void op_popf(SoftCpu *cpu, const Insn *insn)
{
    uint32_t mode = cpu->mode;

    pop_flags(cpu, insn);
    if (cpu->mode != mode || cpu->exit_request)
        INSN_END(cpu);
    INSN_NEXT(cpu, insn);
}

/* ---- ports ----------------------------------------------------------------------------------- */

/* Two bytes of the TSS's I/O map area; false: not within the segment. */
static bool io_map_read(SoftCpu *cpu, int offset_from_map, uint16_t *ret_value)
{
    const Segment *tr = &cpu->s.tr;
    uint64_t base = cpu_is_long_mode(cpu) ? tr->base : (uint32_t)tr->base;
    int64_t offset;

    if (!(tr->attributes & 8) || tr->limit < 0x67)
        return false;
    offset = (int64_t)system_load(cpu, base + 0x66, 2) + offset_from_map;
    if (offset < 0 || offset + 1 > tr->limit)
        return false;
    *ret_value = system_load(cpu, base + (uint64_t)offset, 2);
    return true;
}

void io_check(SoftCpu *cpu, uint16_t port, unsigned size)
{
    uint16_t map;

    if (!(cpu->s.cr0 & CR0_PE) || (cpu->cpl <= iopl(cpu) && !cpu_is_vm86(cpu)))
        return;
    if (!io_map_read(cpu, port / 8, &map) || map >> (port % 8) & ((1u << size) - 1))
        cpu_raise_error(cpu, EXC_GP, 0);
}

uint32_t port_read(SoftCpu *cpu, const Insn *insn, uint16_t port, unsigned size)
{
    uint32_t value;

    INSN_PRECISE(cpu, insn);
    io_watch(cpu, port, size);
    cpu->stat_pio++;
    vcpu_leave(cpu->vcpu);
    value = space_load(cpu->vcpu->vm->ports, port, size);
    vcpu_enter(cpu->vcpu);
    return value;
}

void port_write(SoftCpu *cpu, const Insn *insn, uint16_t port, unsigned size, uint32_t value)
{
    INSN_PRECISE(cpu, insn);
    io_watch(cpu, port, size);
    cpu->stat_pio++;
    vcpu_leave(cpu->vcpu);
    space_store(cpu->vcpu->vm->ports, port, size, value);
    vcpu_enter(cpu->vcpu);
}

static void port_in(SoftCpu *cpu, const Insn *insn, uint16_t port)
{
    uint32_t value;

    INSN_LEAVE(cpu, insn);
    io_check(cpu, port, insn->op_size);
    value = port_read(cpu, insn, port, insn->op_size);
    if (insn->op_size == 1)
        cpu->s.gpr[GPR_RAX] = (cpu->s.gpr[GPR_RAX] & ~UINT64_C(0xff)) | (value & 0xff);
    else
        set_reg(cpu, GPR_RAX, insn->op_size, value);
}

static void port_out(SoftCpu *cpu, const Insn *insn, uint16_t port)
{
    INSN_LEAVE(cpu, insn);
    io_check(cpu, port, insn->op_size);
    port_write(cpu, insn, port, insn->op_size, cpu->s.gpr[GPR_RAX]);
}

void op_in_imm(SoftCpu *cpu, const Insn *insn)
{
    port_in(cpu, insn, insn->imm & 0xff);
    INSN_END(cpu);
}

void op_in_dx(SoftCpu *cpu, const Insn *insn)
{
    port_in(cpu, insn, cpu->s.gpr[GPR_RDX]);
    INSN_END(cpu);
}

void op_out_imm(SoftCpu *cpu, const Insn *insn)
{
    port_out(cpu, insn, insn->imm & 0xff);
    INSN_END(cpu);
}

void op_out_dx(SoftCpu *cpu, const Insn *insn)
{
    port_out(cpu, insn, cpu->s.gpr[GPR_RDX]);
    INSN_END(cpu);
}

/* ---- far transfers --------------------------------------------------------------------------- */

/* Offset and selector at the memory operand. */
static uint64_t read_far_pointer(SoftCpu *cpu, const Insn *insn, uint16_t *ret_selector)
{
    unsigned size = insn->op_size;
    uint64_t linear, offset;

    require_memory(cpu, insn);
    linear = insn_linear(cpu, insn, size + 2, MMU_READ);
    offset = index_load(cpu, linear, size, cpu->mmu_index);
    *ret_selector = index_load(cpu, linear + size, 2, cpu->mmu_index);
    return offset;
}

void op_far_jmp_imm(SoftCpu *cpu, const Insn *insn)
{
    INSN_LEAVE(cpu, insn);
    far_jump(cpu, insn->imm >> 32, (uint32_t)insn->imm, insn->op_size);
    INSN_END(cpu);
}

void op_far_jmp_mem(SoftCpu *cpu, const Insn *insn)
{
    uint16_t selector;
    uint64_t offset;

    INSN_LEAVE(cpu, insn);
    offset = read_far_pointer(cpu, insn, &selector);
    far_jump(cpu, selector, offset, insn->op_size);
    INSN_END(cpu);
}

void op_far_call_imm(SoftCpu *cpu, const Insn *insn)
{
    INSN_LEAVE(cpu, insn);
    far_call(cpu, insn->imm >> 32, (uint32_t)insn->imm, insn->op_size, cpu->s.rip);
    INSN_END(cpu);
}

void op_far_call_mem(SoftCpu *cpu, const Insn *insn)
{
    uint16_t selector;
    uint64_t offset;

    INSN_LEAVE(cpu, insn);
    offset = read_far_pointer(cpu, insn, &selector);
    far_call(cpu, selector, offset, insn->op_size, cpu->s.rip);
    INSN_END(cpu);
}

void op_far_ret(SoftCpu *cpu, const Insn *insn)
{
    INSN_LEAVE(cpu, insn);
    far_return(cpu, insn->op_size, 0);
    INSN_END(cpu);
}

void op_far_ret_imm(SoftCpu *cpu, const Insn *insn)
{
    INSN_LEAVE(cpu, insn);
    far_return(cpu, insn->op_size, insn->imm);
    INSN_END(cpu);
}

void op_iret(SoftCpu *cpu, const Insn *insn)
{
    INSN_LEAVE(cpu, insn);
    interrupt_return(cpu, insn->op_size);
    INSN_END(cpu);
}

/* INT n in virtual-8086 mode with VME: a clear bit in the TSS's redirection map sends it through
 * the 8086 vector table (SDM 3B 20.3.3). False: it goes the usual way. */
static bool redirect_interrupt(SoftCpu *cpu, unsigned vector)
{
    bool virtual = iopl(cpu) < 3;
    uint16_t map, flags;
    uint32_t target;
    Stack stack;

    if (!(cpu->s.cr4 & CR4_VME) || !io_map_read(cpu, (int)(vector / 8) - 32, &map) ||
        map >> (vector % 8) & 1)
        return false;
    flags = virtual ? vme_flags(cpu) : flags_get(cpu);
    target = index_load(cpu, vector * 4, 4, MMU_USER);
    stack = stack_current(cpu);
    stack_push(cpu, &stack, 2, flags);
    stack_push(cpu, &stack, 2, cpu->s.seg[SEG_CS].selector);
    stack_push(cpu, &stack, 2, cpu->s.rip);
    stack_commit(cpu, &stack);
    segment_load_paragraph(cpu, SEG_CS, target >> 16);
    cpu->s.rip = target & 0xffff;
    cpu->s.rflags &= ~(uint64_t)(FLAG_TF | FLAG_RF | (virtual ? FLAG_VIF : FLAG_IF));
    cpu->pending_db = 0;
    cpu_update_mode(cpu);
    return true;
}

void op_int(SoftCpu *cpu, const Insn *insn)
{
    INSN_LEAVE(cpu, insn);
    if (cpu_is_vm86(cpu)) {
        if (redirect_interrupt(cpu, insn->imm & 0xff))
            INSN_END(cpu);
        require(cpu, iopl(cpu) == 3, EXC_GP);
    }
    exception_software_interrupt(cpu, insn->imm & 0xff);
    INSN_END(cpu);
}

void op_int3(SoftCpu *cpu, const Insn *insn)
{
    INSN_LEAVE(cpu, insn);
    exception_software_interrupt(cpu, EXC_BP);
    INSN_END(cpu);
}

void op_into(SoftCpu *cpu, const Insn *insn)
{
    INSN_LEAVE(cpu, insn);
    require(cpu, cpu->code_size != 8, EXC_UD);
    if (flags_get(cpu) & FLAG_OF)
        exception_software_interrupt(cpu, EXC_OF);
    INSN_END(cpu);
}

void op_int1(SoftCpu *cpu, const Insn *insn)
{
    INSN_LEAVE(cpu, insn);
    exception_trap(cpu, EXC_DB);
    INSN_END(cpu);
}

void op_bound(SoftCpu *cpu, const Insn *insn)
{
    unsigned size = insn->op_size;
    int32_t index, low, high;
    uint64_t linear;

    INSN_PRECISE(cpu, insn);
    require_memory(cpu, insn);
    linear = insn_linear(cpu, insn, 2 * size, MMU_READ);
    if (size == 2) {
        index = (int16_t)cpu->s.gpr[insn->reg];
        low = (int16_t)mem_read16(cpu, insn, linear);
        high = (int16_t)mem_read16(cpu, insn, linear + 2);
    } else {
        index = (int32_t)cpu->s.gpr[insn->reg];
        low = (int32_t)mem_read32(cpu, insn, linear);
        high = (int32_t)mem_read32(cpu, insn, linear + 4);
    }
    if (index < low || index > high)
        cpu_raise(cpu, EXC_BR);
    INSN_NEXT(cpu, insn);
}

/* ---- segment registers ----------------------------------------------------------------------- */

/* MOV SS and POP SS hold interrupts and debug traps for one instruction (SDM 3A 6.8.3). */
static void shadow_stack_load(SoftCpu *cpu)
{
    cpu->s.interrupt_shadow = true;
    cpu->pending_db = (cpu->pending_db & ~(uint32_t)DR6_BS) | PENDING_DB_HELD;
}

void op_mov_from_seg(SoftCpu *cpu, const Insn *insn)
{
    INSN_PRECISE(cpu, insn);
    require(cpu, insn_modrm_reg(insn) < SEG_COUNT, EXC_UD);
    write_rm_selector(cpu, insn, cpu->s.seg[insn_modrm_reg(insn)].selector);
    INSN_NEXT(cpu, insn);
}

void op_mov_to_seg(SoftCpu *cpu, const Insn *insn)
{
    unsigned seg = insn_modrm_reg(insn);

    INSN_LEAVE(cpu, insn);
    require(cpu, seg < SEG_COUNT && seg != SEG_CS, EXC_UD);
    segment_load(cpu, seg, read_rm16(cpu, insn));
    if (seg == SEG_SS)
        shadow_stack_load(cpu);
    INSN_END(cpu);
}

/* With 32-bit operands Intel's processors write the selector alone (SDM 2B PUSH), AMD's extend it
 * with zeros. */
OUT_OF_LINE push_segment(SoftCpu *cpu, const Insn *insn)
{
    uint16_t selector = cpu->s.seg[insn->reg].selector;
    Stack stack;

    INSN_PRECISE(cpu, insn);
    stack = stack_current(cpu);
    if (insn->op_size == 4 && !cpu_model_is_amd(cpu->model)) {
        stack.sp = (stack.sp & ~stack.mask) | ((stack.sp - 2) & stack.mask);
        stack_push(cpu, &stack, 2, selector);
    } else {
        stack_push(cpu, &stack, insn->op_size, selector);
    }
    stack_commit(cpu, &stack);
}

void op_push_seg(SoftCpu *cpu, const Insn *insn)
{
    push_segment(cpu, insn);
    INSN_NEXT(cpu, insn);
}

void op_pop_seg(SoftCpu *cpu, const Insn *insn)
{
    uint16_t selector;
    Stack stack;

    INSN_LEAVE(cpu, insn);
    stack = stack_current(cpu);
    selector = stack_pop(cpu, &stack, insn->op_size);
    segment_load(cpu, insn->reg, selector);
    stack_commit(cpu, &stack);
    if (insn->reg == SEG_SS)
        shadow_stack_load(cpu);
    INSN_END(cpu);
}

static unsigned far_pointer_segment(const Insn *insn)
{
    if (insn->map == MAP_ONE_BYTE)
        return insn->opcode == 0xc4 ? SEG_ES : SEG_DS;
    return insn->opcode == 0xb2 ? SEG_SS : insn->opcode == 0xb4 ? SEG_FS : SEG_GS;
}

void op_load_far_pointer(SoftCpu *cpu, const Insn *insn)
{
    uint16_t selector;
    uint64_t offset;

    INSN_LEAVE(cpu, insn);
    offset = read_far_pointer(cpu, insn, &selector);
    segment_load(cpu, far_pointer_segment(insn), selector);
    set_reg(cpu, insn->reg, insn->op_size, offset);
    INSN_END(cpu);
}

/* ---- the rest -------------------------------------------------------------------------------- */

OUT_OF_LINE enter_frame(SoftCpu *cpu, const Insn *insn)
{
    unsigned size = insn->op_size, level = insn->imm >> 16 & 31;
    uint64_t frame, rbp = cpu->s.gpr[GPR_RBP];
    Stack stack, outer;

    INSN_PRECISE(cpu, insn);
    stack = outer = stack_current(cpu);
    stack_push(cpu, &stack, size, rbp);
    frame = stack.sp;
    outer.sp = rbp;
    for (unsigned i = 1; i < level; i++) {
        outer.sp = (outer.sp & ~outer.mask) | ((outer.sp - size) & outer.mask);
        Stack display = outer;
        stack_push(cpu, &stack, size, stack_pop(cpu, &display, size));
    }
    if (level)
        stack_push(cpu, &stack, size, frame);
    stack.sp = (stack.sp & ~stack.mask) | ((stack.sp - (insn->imm & 0xffff)) & stack.mask);
    mmu_probe(cpu,
              segment_access(cpu, stack.segment, stack.sp & stack.mask, size, MMU_WRITE,
                             stack.long_mode, EXC_SS, 0),
              size, MMU_WRITE, stack.index);
    /* With 32-bit operands on a 16-bit stack processors take the upper half from ESP. */
    set_reg(cpu, GPR_RBP, size, frame);
    stack_commit(cpu, &stack);
}

void op_enter(SoftCpu *cpu, const Insn *insn)
{
    enter_frame(cpu, insn);
    INSN_NEXT(cpu, insn);
}

void op_ud(SoftCpu *cpu, const Insn *insn)
{
    INSN_RAISE(cpu, insn, EXC_UD);
}

/* Only system management mode has it, and no firmware of ours enters that. */
void op_rsm(SoftCpu *cpu, const Insn *insn)
{
    INSN_RAISE(cpu, insn, EXC_UD);
}

/* No safer mode extensions in any model. */
void op_getsec(SoftCpu *cpu, const Insn *insn)
{
    INSN_RAISE(cpu, insn, EXC_UD);
}
