/* SPDX-License-Identifier: GPL-3.0-or-later */
/* LGDT to LTR, and what looks at descriptors: LAR, LSL, VERR, VERW, ARPL. SDM 2A-2D. */
#include "cpu/soft/ops_operand.h"

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
