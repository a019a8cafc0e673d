/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Segments: descriptors, segment registers, limits, stacks, and what the decoder must know of the
 * mode.
 *
 * Source: SDM 3A chapters 3 and 5. Faults are raised before anything changes.
 */
#include "cpu/soft/system.h"

#include <stdatomic.h>

#include "base/bits.h"

/* ---- mode ------------------------------------------------------------------------------------ */

static bool segment_is_flat(const Segment *seg)
{
    const uint32_t type = SEGMENT_S | SEGMENT_P | SEGMENT_WRITABLE;

    return seg->base == 0 && seg->limit == UINT32_MAX &&
           (seg->attributes & (type | SEGMENT_CODE | SEGMENT_EXPAND_DOWN | SEGMENT_UNUSABLE)) ==
               type;
}

static uint32_t flat_bits(const SoftCpu *cpu)
{
    const CpuState *s = &cpu->s;
    uint32_t mode = 0;

    if (segment_is_flat(&s->seg[SEG_DS]))
        mode |= MODE_FLAT_DS;
    if (segment_is_flat(&s->seg[SEG_ES]))
        mode |= MODE_FLAT_ES;
    if (segment_is_flat(&s->seg[SEG_SS]))
        mode |= MODE_FLAT_SS;
    return mode;
}

static bool type_allows(const Segment *seg, MmuAccess access)
{
    if (access == MMU_WRITE)
        return (seg->attributes & (SEGMENT_CODE | SEGMENT_WRITABLE)) == SEGMENT_WRITABLE;
    return (seg->attributes & (SEGMENT_CODE | SEGMENT_READABLE)) != SEGMENT_CODE;
}

/* Every offset up to the result may be accessed. */
static int64_t last_offset(const SoftCpu *cpu, const Segment *seg, MmuAccess access)
{
    bool down = (seg->attributes & (SEGMENT_CODE | SEGMENT_EXPAND_DOWN)) == SEGMENT_EXPAND_DOWN;

    if (segment_is_null(seg) || down || (cpu->s.cr0 & CR0_PE && !type_allows(seg, access)))
        return -1;
    return seg->limit;
}

static void set_last(SoftCpu *cpu, unsigned seg)
{
    cpu->seg_last[0][seg] = last_offset(cpu, &cpu->s.seg[seg], MMU_READ);
    cpu->seg_last[1][seg] = last_offset(cpu, &cpu->s.seg[seg], MMU_WRITE);
}

static bool has_plain_segments(const SoftCpu *cpu)
{
    static const uint8_t data[] = {SEG_ES, SEG_SS, SEG_DS};

    if (cpu->code_size != 2)
        return cpu->code_size == 8 || cpu->s.seg[SEG_CS].base == 0;
    for (unsigned i = 0; i < G_N_ELEMENTS(data); i++)
        if (MIN(cpu->seg_last[0][data[i]], cpu->seg_last[1][data[i]]) < 0xffff)
            return false;
    return true;
}

static unsigned current_cpl(const CpuState *s)
{
    if (!(s->cr0 & CR0_PE))
        return 0;
    return s->rflags & FLAG_VM ? 3 : segment_dpl(&s->seg[SEG_SS]);
}

/* The part of `mode` that neither sizes nor segments decide. */
static uint32_t trap_bits(const SoftCpu *cpu)
{
    const CpuState *s = &cpu->s;
    uint32_t mode = 0;

    if (s->cr0 & (CR0_EM | CR0_TS))
        mode |= MODE_FPU_TRAP;
    if (!(s->cr4 & CR4_OSFXSR) || s->cr0 & CR0_EM)
        mode |= MODE_SSE_OFF;
    if (!(s->cr4 & CR4_OSXSAVE) || !(s->xcr0 & XCR0_AVX))
        mode |= MODE_AVX_OFF;
    if (s->rflags & FLAG_TF || s->dr7 & 0xff || cpu->stepping)
        mode |= MODE_SINGLE_STEP;
    if (cpu->cpl == 3 && s->cr0 & CR0_AM && s->rflags & FLAG_AC)
        mode |= MODE_AC;
    return mode;
}

void cpu_update_mode(SoftCpu *cpu)
{
    const CpuState *s = &cpu->s;
    const uint32_t cs = s->seg[SEG_CS].attributes;
    bool protected = s->cr0 & CR0_PE && !(s->rflags & FLAG_VM);
    bool long_code = s->efer & EFER_LMA && cs & SEGMENT_L;
    uint32_t mode;

    cpu->cpl = current_cpl(s);
    cpu->mmu_index = index_for_cpl(cpu, cpu->cpl);
    cpu->tlb = cpu->tlbs[cpu->mmu_index];
    cpu->code_size = long_code ? 8 : cs & SEGMENT_DB ? 4 : 2;
    cpu->stack_size = long_code ? 8 : s->seg[SEG_SS].attributes & SEGMENT_DB ? 4 : 2;
    cpu->rip_mask = long_code ? UINT64_MAX : UINT32_MAX;
    for (unsigned i = 0; i < SEG_COUNT; i++)
        cpu->seg_base[i] = long_code && i < SEG_FS ? 0 : s->seg[i].base;
    mode = long_code ? MODE_CODE64 : cs & SEGMENT_DB ? MODE_CODE32 : MODE_CODE16;
    if (cpu->stack_size == 4)
        mode |= MODE_STACK32;
    if (protected)
        mode |= MODE_PROTECTED;
    else if (s->cr0 & CR0_PE)
        mode |= MODE_VM86;
    mode |= (uint32_t)cpu->cpl << MODE_CPL_SHIFT;
    mode |= long_code ? MODE_FLAT_DS | MODE_FLAT_ES | MODE_FLAT_SS : flat_bits(cpu);
    for (unsigned i = 0; i < SEG_COUNT && !long_code; i++)
        set_last(cpu, i);
    if (has_plain_segments(cpu))
        mode |= MODE_PLAIN_SEGMENTS;
    if (s->efer & EFER_LMA)
        mode |= MODE_LONG;
    cpu->mode = mode | trap_bits(cpu);
}

void segment_changed(SoftCpu *cpu, unsigned seg)
{
    bool long_code = cpu->code_size == 8;

    cpu->seg_base[seg] = long_code && seg < SEG_FS ? 0 : cpu->s.seg[seg].base;
    if (long_code)
        return;
    set_last(cpu, seg);
    cpu->mode &= ~(uint32_t)(MODE_FLAT_DS | MODE_FLAT_ES | MODE_FLAT_SS | MODE_PLAIN_SEGMENTS);
    cpu->mode |= flat_bits(cpu) | (has_plain_segments(cpu) ? MODE_PLAIN_SEGMENTS : 0);
}

/* ---- descriptors ----------------------------------------------------------------------------- */

Segment segment_unpack(uint16_t selector, uint64_t descriptor)
{
    Segment seg = {
        .selector = selector,
        .attributes = descriptor >> 40 & 0xf0ff,
        .limit = (descriptor & 0xffff) | (descriptor >> 32 & 0xf0000),
        .base = (descriptor >> 16 & 0xffffff) | descriptor >> 56 << 24,
    };

    if (seg.attributes & SEGMENT_G)
        seg.limit = seg.limit << 12 | 0xfff;
    return seg;
}

Segment segment_null(uint16_t selector, unsigned dpl)
{
    return (Segment){.selector = selector,
                     .attributes = SEGMENT_UNUSABLE | dpl << SEGMENT_DPL_SHIFT};
}

uint64_t system_base(const uint64_t words[2])
{
    return (words[0] >> 16 & 0xffffff) | words[0] >> 56 << 24 | words[1] << 32;
}

Segment segment_flat_code(uint16_t selector, unsigned dpl, bool long_mode)
{
    return (Segment){
        .selector = selector,
        .limit = UINT32_MAX,
        .attributes = SEGMENT_G | (long_mode ? SEGMENT_L : SEGMENT_DB) | SEGMENT_P |
                      dpl << SEGMENT_DPL_SHIFT | SEGMENT_S | SEGMENT_CODE | SEGMENT_READABLE |
                      SEGMENT_ACCESSED,
    };
}

Segment segment_flat_data(uint16_t selector, unsigned dpl)
{
    return (Segment){
        .selector = selector,
        .limit = UINT32_MAX,
        .attributes = SEGMENT_G | SEGMENT_DB | SEGMENT_P | dpl << SEGMENT_DPL_SHIFT | SEGMENT_S |
                      SEGMENT_WRITABLE | SEGMENT_ACCESSED,
    };
}

/* Base and limit of the table a selector points into; false: no LDT. */
static bool descriptor_table(const SoftCpu *cpu, uint16_t selector, uint64_t *ret_base,
                             uint32_t *ret_limit)
{
    if (!(selector & 4)) {
        *ret_base = cpu->s.gdtr.base;
        *ret_limit = cpu->s.gdtr.limit;
        return true;
    }
    *ret_base = cpu->s.ldtr.base;
    *ret_limit = cpu->s.ldtr.limit;
    return !segment_is_null(&cpu->s.ldtr);
}

bool segment_read_descriptor(SoftCpu *cpu, uint16_t selector, uint64_t ret_words[2])
{
    uint32_t limit, index = selector & 0xfff8;
    uint64_t base;

    if (!descriptor_table(cpu, selector, &base, &limit) || index + 7 > limit)
        return false;
    ret_words[0] = system_load(cpu, base + index, 8);
    ret_words[1] = 0;
    if (cpu->s.efer & EFER_LMA && !(ret_words[0] >> 44 & 1)) {
        if (index + 15 > limit)
            return false;
        ret_words[1] = system_load(cpu, base + index + 8, 8);
    }
    return true;
}

/* Changes the access byte of a descriptor by a locked operation, as the CPU does (SDM 3A 8.1.2.1).
 */
static void descriptor_change(SoftCpu *cpu, uint16_t selector, uint8_t clear, uint8_t set)
{
    uint64_t base;
    uint32_t limit;
    _Atomic uint8_t *host;

    descriptor_table(cpu, selector, &base, &limit);
    base += (selector & 0xfff8) + 5;
    host = mmu_host_pointer(cpu, base, 1, MMU_WRITE, MMU_KERNEL);
    if (!host) {
        uint8_t old = system_load(cpu, base, 1);
        system_store(cpu, base, 1, (old & ~clear) | set);
        return;
    }
    if (clear)
        atomic_fetch_and(host, (uint8_t)~clear);
    if (set)
        atomic_fetch_or(host, set);
}

void descriptor_mark_accessed(SoftCpu *cpu, uint16_t selector, uint64_t descriptor)
{
    if (!(descriptor >> 40 & SEGMENT_ACCESSED))
        descriptor_change(cpu, selector, 0, SEGMENT_ACCESSED);
}

void descriptor_set_busy(SoftCpu *cpu, uint16_t selector, bool busy)
{
    descriptor_change(cpu, selector, busy ? 0 : 2, busy ? 2 : 0);
}

/* ---- loading segment registers --------------------------------------------------------------- */

/* Real mode keeps limit and size ("unreal mode"); virtual-8086 sets all. SDM 3A 20.1.1, 20.2. */
void segment_load_paragraph(SoftCpu *cpu, unsigned seg, uint16_t selector)
{
    Segment *s = &cpu->s.seg[seg];
    const uint32_t type = SEGMENT_P | SEGMENT_S | SEGMENT_WRITABLE | SEGMENT_ACCESSED;

    s->selector = selector;
    s->base = (uint32_t)selector << 4;
    if (cpu_is_vm86(cpu)) {
        s->limit = 0xffff;
        s->attributes = type | SEGMENT_DPL;
        return;
    }
    s->attributes = (s->attributes & (SEGMENT_DB | SEGMENT_G | SEGMENT_AVL)) | type;
    if (seg == SEG_CS)
        s->attributes |= SEGMENT_CODE;
}

Segment stack_segment_read(SoftCpu *cpu, uint16_t selector, unsigned cpl, int vector)
{
    uint64_t words[2];
    Segment seg;

    if (!(selector & 0xfffc))
        cpu_raise_error(cpu, vector, error_selector(cpu, vector == EXC_TS ? selector : 0));
    if (!segment_read_descriptor(cpu, selector, words))
        cpu_raise_error(cpu, vector, error_selector(cpu, selector));
    seg = segment_unpack(selector, words[0]);
    if ((selector & 3) != cpl || segment_dpl(&seg) != cpl ||
        (seg.attributes & (SEGMENT_S | SEGMENT_CODE | SEGMENT_WRITABLE)) !=
            (SEGMENT_S | SEGMENT_WRITABLE))
        cpu_raise_error(cpu, vector, error_selector(cpu, selector));
    if (!(seg.attributes & SEGMENT_P))
        cpu_raise_error(cpu, EXC_SS, error_selector(cpu, selector));
    descriptor_mark_accessed(cpu, selector, words[0]);
    seg.attributes |= SEGMENT_ACCESSED;
    return seg;
}

Segment code_segment_read(SoftCpu *cpu, uint16_t selector, int vector)
{
    uint64_t words[2];
    Segment seg;

    if (!(selector & 0xfffc))
        cpu_raise_error(cpu, vector, error_ext(cpu));
    if (!segment_read_descriptor(cpu, selector, words))
        cpu_raise_error(cpu, vector, error_selector(cpu, selector));
    seg = segment_unpack(selector, words[0]);
    if (!segment_is_code(&seg))
        cpu_raise_error(cpu, vector, error_selector(cpu, selector));
    if (cpu_is_long_mode(cpu) &&
        (seg.attributes & (SEGMENT_L | SEGMENT_DB)) == (SEGMENT_L | SEGMENT_DB))
        cpu_raise_error(cpu, vector, error_selector(cpu, selector));
    return seg;
}

void code_check_rip(SoftCpu *cpu, const Segment *cs, uint64_t rip)
{
    if (cpu_is_long_mode(cpu) && cs->attributes & SEGMENT_L) {
        if (!is_canonical48(rip))
            cpu_raise_error(cpu, EXC_GP, error_ext(cpu));
    } else if (rip > cs->limit) {
        cpu_raise_error(cpu, EXC_GP, error_ext(cpu));
    }
}

static void load_stack_segment(SoftCpu *cpu, uint16_t selector)
{
    if (!(selector & 0xfffc)) {
        if (cpu->code_size != 8 || cpu->cpl == 3 || (selector & 3) != cpu->cpl)
            cpu_raise_error(cpu, EXC_GP, error_ext(cpu));
        cpu->s.seg[SEG_SS] = segment_null(selector, cpu->cpl);
        cpu->s.seg[SEG_SS].attributes |= SEGMENT_DB;
    } else {
        cpu->s.seg[SEG_SS] = stack_segment_read(cpu, selector, cpu->cpl, EXC_GP);
    }
    cpu_update_mode(cpu);
}

static void load_data_segment(SoftCpu *cpu, unsigned seg, uint16_t selector)
{
    uint64_t words[2];
    Segment new;

    if (!(selector & 0xfffc)) {
        uint64_t base = cpu->s.seg[seg].base;
        new = segment_null(selector, 0);
        if (cpu_model_is_amd(cpu->model) && cpu_is_long_mode(cpu))
            new.base = base; /* APM 2 4.8.4 */
        cpu->s.seg[seg] = new;
        segment_changed(cpu, seg);
        return;
    }
    if (!segment_read_descriptor(cpu, selector, words))
        cpu_raise_error(cpu, EXC_GP, error_selector(cpu, selector));
    new = segment_unpack(selector, words[0]);
    if (!(new.attributes &SEGMENT_S) ||
        (new.attributes &(SEGMENT_CODE | SEGMENT_READABLE)) == SEGMENT_CODE)
        cpu_raise_error(cpu, EXC_GP, error_selector(cpu, selector));
    if ((new.attributes &(SEGMENT_CODE | SEGMENT_CONFORMING)) !=
            (SEGMENT_CODE | SEGMENT_CONFORMING) &&
        MAX(selector & 3, cpu->cpl) > segment_dpl(&new))
        cpu_raise_error(cpu, EXC_GP, error_selector(cpu, selector));
    if (!(new.attributes &SEGMENT_P))
        cpu_raise_error(cpu, EXC_NP, error_selector(cpu, selector));
    descriptor_mark_accessed(cpu, selector, words[0]);
    new.attributes |= SEGMENT_ACCESSED;
    cpu->s.seg[seg] = new;
    segment_changed(cpu, seg);
}

void segment_load(SoftCpu *cpu, unsigned seg, uint16_t selector)
{
    if (cpu_is_real_mode(cpu) || cpu_is_vm86(cpu)) {
        segment_load_paragraph(cpu, seg, selector);
        segment_changed(cpu, seg);
    } else if (seg == SEG_SS) {
        load_stack_segment(cpu, selector);
    } else {
        load_data_segment(cpu, seg, selector);
    }
}

void segments_hide_from(SoftCpu *cpu, unsigned cpl)
{
    static const uint8_t data[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};

    for (unsigned i = 0; i < G_N_ELEMENTS(data); i++) {
        Segment *seg = &cpu->s.seg[data[i]];
        if (segment_is_null(seg) || segment_dpl(seg) >= cpl)
            continue;
        if ((seg->attributes & (SEGMENT_CODE | SEGMENT_CONFORMING)) ==
            (SEGMENT_CODE | SEGMENT_CONFORMING))
            continue;
        uint64_t base = cpu_is_long_mode(cpu) ? seg->base : 0; /* FS and GS keep theirs */
        *seg = segment_null(0, 0);
        seg->base = base;
    }
}

/* ---- limits ---------------------------------------------------------------------------------- */

static bool within_limit(const Segment *seg, uint64_t offset, unsigned size)
{
    uint64_t last = offset + size - 1;

    if ((seg->attributes & (SEGMENT_CODE | SEGMENT_EXPAND_DOWN)) == SEGMENT_EXPAND_DOWN)
        return offset > seg->limit && last <= (seg->attributes & SEGMENT_DB ? UINT32_MAX : 0xffff);
    return last <= seg->limit;
}

uint64_t segment_access(SoftCpu *cpu, const Segment *seg, uint64_t offset, unsigned size,
                        MmuAccess access, bool long_mode, int vector, uint32_t error)
{
    if (long_mode) {
        if (!is_canonical48(offset) || !is_canonical48(offset + size - 1))
            cpu_raise_error(cpu, vector, error);
        return offset;
    }
    /* Types are not checked while PE is clear: they stay as protected mode left them. */
    if (segment_is_null(seg) || !within_limit(seg, offset, size) ||
        (cpu->s.cr0 & CR0_PE && !type_allows(seg, access)))
        cpu_raise_error(cpu, vector, error);
    return (uint32_t)(seg->base + offset);
}

/* Alignment that #AC demands of an operand, x87's environments among them (SDM 3A table 6-7). */
static unsigned alignment_mask(unsigned size)
{
    switch (size) {
    case 2:
    case 14:
    case 94:
        return 1;
    case 4:
    case 6:
    case 28:
    case 108:
        return 3;
    case 8:
    case 10:
        return 7;
    case 16:
        return 15;
    default:
        return 0;
    }
}

uint64_t segment_linear_checked(SoftCpu *cpu, unsigned seg, uint64_t offset, unsigned size,
                                MmuAccess access)
{
    int vector = seg == SEG_SS ? EXC_SS : EXC_GP;
    uint64_t linear;

    if (cpu->code_size == 8) {
        linear = cpu->seg_base[seg] + offset;
        if (!is_canonical48(linear) || !is_canonical48(linear + size - 1))
            cpu_raise_error(cpu, vector, 0);
    } else {
        linear = segment_access(cpu, &cpu->s.seg[seg], offset, size, access, false, vector, 0);
    }
    if (cpu->mode & MODE_AC && linear & alignment_mask(size))
        cpu_raise_error(cpu, EXC_AC, 0);
    return linear;
}

/* ---- stacks ---------------------------------------------------------------------------------- */

Stack stack_new(SoftCpu *cpu, const Segment *ss, uint64_t sp, unsigned cpl, bool long_mode,
                uint32_t error)
{
    return (Stack){
        .segment = ss,
        .sp = sp,
        .index = index_for_cpl(cpu, cpl),
        .long_mode = long_mode,
        .error = error,
        .mask = long_mode                     ? UINT64_MAX
                : ss->attributes & SEGMENT_DB ? UINT32_MAX
                                              : 0xffff,
    };
}

Stack stack_current(SoftCpu *cpu)
{
    return stack_new(cpu, &cpu->s.seg[SEG_SS], cpu->s.gpr[GPR_RSP], cpu->cpl, cpu->code_size == 8,
                     error_ext(cpu));
}

static uint64_t stack_linear(SoftCpu *cpu, const Stack *stack, uint64_t offset, unsigned size,
                             MmuAccess access)
{
    uint64_t linear = segment_access(cpu, stack->segment, offset & stack->mask, size, access,
                                     stack->long_mode, EXC_SS, stack->error);
    if (cpu->mode & MODE_AC && stack->index == MMU_USER && linear & alignment_mask(size))
        cpu_raise_error(cpu, EXC_AC, 0);
    return linear;
}

void stack_push(SoftCpu *cpu, Stack *stack, unsigned size, uint64_t value)
{
    uint64_t sp = stack->sp - size;

    index_store(cpu, stack_linear(cpu, stack, sp, size, MMU_WRITE), size, value, stack->index);
    stack->sp = (stack->sp & ~stack->mask) | (sp & stack->mask);
}

uint64_t stack_pop(SoftCpu *cpu, Stack *stack, unsigned size)
{
    uint64_t value =
        index_load(cpu, stack_linear(cpu, stack, stack->sp, size, MMU_READ), size, stack->index);

    stack->sp = (stack->sp & ~stack->mask) | ((stack->sp + size) & stack->mask);
    return value;
}

void stack_commit(SoftCpu *cpu, const Stack *stack)
{
    /* A 32-bit stack pointer zero-extends; a 16-bit one leaves the rest of ESP alone. */
    cpu->s.gpr[GPR_RSP] = stack->mask == UINT32_MAX ? (uint32_t)stack->sp : stack->sp;
}
