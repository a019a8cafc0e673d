/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Far transfers: JMP, CALL, RET and IRET between segments, through gates, tasks and privilege
 * levels.
 *
 * Source: SDM 2A/2B (CALL, IRET, JMP, RET), 3A 5.8, 7.3. Nothing changes before the last possible
 * fault, except in memory below the stack pointer.
 */
#include "cpu/soft/system.h"

#include "base/bits.h"

/* The fields of a call gate. */
typedef struct CallGate {
    uint16_t selector;
    uint64_t offset;
    unsigned size; /* bytes of what is pushed: 2, 4, 8 */
    unsigned parameters;
} CallGate;

static uint64_t mask_offset(uint64_t offset, unsigned op_size)
{
    return op_size == 2 ? offset & 0xffff : op_size == 4 ? (uint32_t)offset : offset;
}

static bool is_paragraph_mode(const SoftCpu *cpu)
{
    return cpu_is_real_mode(cpu) || cpu_is_vm86(cpu);
}

static void set_code(SoftCpu *cpu, const Segment *cs, unsigned cpl, uint64_t rip)
{
    cpu->s.seg[SEG_CS] = *cs;
    cpu->s.seg[SEG_CS].selector = (cs->selector & 0xfffc) | cpl;
    cpu->s.seg[SEG_CS].attributes |= SEGMENT_ACCESSED;
    cpu->s.rip = rip;
    cpu_update_mode(cpu);
}

static void mark_code_accessed(SoftCpu *cpu, const Segment *cs)
{
    descriptor_mark_accessed(cpu, cs->selector, (uint64_t)cs->attributes << 40);
}

/* A paragraph's offset must lie within CS's cached limit. */
static void check_paragraph_offset(SoftCpu *cpu, uint64_t offset)
{
    if (offset > (cpu_is_vm86(cpu) ? 0xffff : cpu->s.seg[SEG_CS].limit))
        cpu_raise_error(cpu, EXC_GP, 0);
}

/* ---- targets of JMP and CALL ----------------------------------------------------------------- */

/* Reads the target's descriptor; false: it is a system descriptor, in words. */
static bool read_target(SoftCpu *cpu, uint16_t selector, uint64_t words[2], Segment *cs)
{
    if (!(selector & 0xfffc))
        cpu_raise_error(cpu, EXC_GP, 0);
    if (!segment_read_descriptor(cpu, selector, words))
        cpu_raise_error(cpu, EXC_GP, selector & 0xfffc);
    *cs = segment_unpack(selector, words[0]);
    if (!(cs->attributes & SEGMENT_S))
        return false;
    if (!segment_is_code(cs) ||
        (cpu_is_long_mode(cpu) &&
         (cs->attributes & (SEGMENT_L | SEGMENT_DB)) == (SEGMENT_L | SEGMENT_DB)))
        cpu_raise_error(cpu, EXC_GP, selector & 0xfffc);
    return true;
}

/* Direct transfer: the privilege level stays. */
static void check_direct(SoftCpu *cpu, const Segment *cs)
{
    bool allowed = cs->attributes & SEGMENT_CONFORMING
                       ? segment_dpl(cs) <= cpu->cpl
                       : (cs->selector & 3) <= cpu->cpl && segment_dpl(cs) == cpu->cpl;

    if (!allowed)
        cpu_raise_error(cpu, EXC_GP, cs->selector & 0xfffc);
    if (!(cs->attributes & SEGMENT_P))
        cpu_raise_error(cpu, EXC_NP, cs->selector & 0xfffc);
}

static void check_gate_access(SoftCpu *cpu, const Segment *gate)
{
    if (segment_dpl(gate) < cpu->cpl || segment_dpl(gate) < (gate->selector & 3))
        cpu_raise_error(cpu, EXC_GP, gate->selector & 0xfffc);
}

static void check_gate_present(SoftCpu *cpu, const Segment *gate)
{
    if (!(gate->attributes & SEGMENT_P))
        cpu_raise_error(cpu, EXC_NP, gate->selector & 0xfffc);
}

static CallGate read_call_gate(SoftCpu *cpu, const Segment *system, const uint64_t words[2])
{
    CallGate gate = {
        .selector = words[0] >> 16,
        .offset = (words[0] & 0xffff) | (words[0] >> 32 & 0xffff0000),
        .size = system->attributes & 8 ? 4 : 2,
        .parameters = words[0] >> 32 & 31,
    };

    if (gate.size == 2)
        gate.offset &= 0xffff;
    if (cpu_is_long_mode(cpu)) {
        /* The upper half must look like no descriptor (SDM 3A figure 5-10). */
        if (words[1] >> 40 & 0x1f)
            cpu_raise_error(cpu, EXC_GP, system->selector & 0xfffc);
        gate.offset |= words[1] << 32;
        gate.size = 8;
        gate.parameters = 0;
    }
    return gate;
}

static Segment read_gate_code(SoftCpu *cpu, const CallGate *gate)
{
    Segment cs = code_segment_read(cpu, gate->selector, EXC_GP);

    if (segment_dpl(&cs) > cpu->cpl || (cpu_is_long_mode(cpu) && !(cs.attributes & SEGMENT_L)))
        cpu_raise_error(cpu, EXC_GP, gate->selector & 0xfffc);
    return cs;
}

static void check_code_present(SoftCpu *cpu, const Segment *cs)
{
    if (!(cs->attributes & SEGMENT_P))
        cpu_raise_error(cpu, EXC_NP, cs->selector & 0xfffc);
}

/* Task gates and TSS descriptors as targets; false: it is neither. */
static bool transfer_to_task(SoftCpu *cpu, const Segment *system, const uint64_t words[2],
                             TaskSwitch reason)
{
    unsigned type = system->attributes & SEGMENT_TYPE;

    if (cpu_is_long_mode(cpu))
        return false;
    if (type == TYPE_TASK_GATE) {
        check_gate_access(cpu, system);
        check_gate_present(cpu, system);
        task_switch(cpu, words[0] >> 16, reason, false, 0);
        return true;
    }
    if ((type & ~10u) == TYPE_TSS16) {
        check_gate_access(cpu, system);
        task_switch(cpu, system->selector, reason, false, 0);
        return true;
    }
    return false;
}

static bool is_call_gate(const SoftCpu *cpu, const Segment *system)
{
    unsigned type = system->attributes & SEGMENT_TYPE;

    return type == TYPE_CALL_GATE32 || (type == TYPE_CALL_GATE16 && !cpu_is_long_mode(cpu));
}

/* ---- JMP ------------------------------------------------------------------------------------- */

static void jump_through_gate(SoftCpu *cpu, const Segment *system, const uint64_t words[2])
{
    CallGate gate;
    Segment cs;

    check_gate_access(cpu, system);
    check_gate_present(cpu, system);
    gate = read_call_gate(cpu, system, words);
    cs = read_gate_code(cpu, &gate);
    if (!(cs.attributes & SEGMENT_CONFORMING) && segment_dpl(&cs) != cpu->cpl)
        cpu_raise_error(cpu, EXC_GP, gate.selector & 0xfffc);
    check_code_present(cpu, &cs);
    code_check_rip(cpu, &cs, gate.offset);
    mark_code_accessed(cpu, &cs);
    set_code(cpu, &cs, cpu->cpl, gate.offset);
}

void far_jump(SoftCpu *cpu, uint16_t selector, uint64_t offset, unsigned op_size)
{
    uint64_t words[2];
    Segment cs;

    offset = mask_offset(offset, op_size);
    if (is_paragraph_mode(cpu)) {
        check_paragraph_offset(cpu, offset);
        segment_load_paragraph(cpu, SEG_CS, selector);
        cpu->s.rip = offset;
        cpu_update_mode(cpu);
        return;
    }
    if (read_target(cpu, selector, words, &cs)) {
        check_direct(cpu, &cs);
        code_check_rip(cpu, &cs, offset);
        mark_code_accessed(cpu, &cs);
        set_code(cpu, &cs, cpu->cpl, offset);
    } else if (is_call_gate(cpu, &cs)) {
        jump_through_gate(cpu, &cs, words);
    } else if (!transfer_to_task(cpu, &cs, words, TASK_JUMP)) {
        cpu_raise_error(cpu, EXC_GP, selector & 0xfffc);
    }
}

/* ---- CALL ------------------------------------------------------------------------------------ */

static void call_same(SoftCpu *cpu, const Segment *cs, uint64_t rip, unsigned size, uint64_t next)
{
    Stack stack = stack_current(cpu);

    /* A 64-bit target's stack has no limits even when called from compatibility mode. */
    if (cpu_is_long_mode(cpu) && cs->attributes & SEGMENT_L)
        stack = stack_new(cpu, &cpu->s.seg[SEG_SS], cpu->s.gpr[GPR_RSP], cpu->cpl, true, 0);
    stack_push(cpu, &stack, size, cpu->s.seg[SEG_CS].selector);
    stack_push(cpu, &stack, size, next);
    code_check_rip(cpu, cs, rip);
    mark_code_accessed(cpu, cs);
    stack_commit(cpu, &stack);
    set_code(cpu, cs, cpu->cpl, rip);
}

static void call_inner(SoftCpu *cpu, const CallGate *gate, const Segment *cs, uint64_t next)
{
    unsigned cpl = segment_dpl(cs);
    bool long_mode = cpu_is_long_mode(cpu);
    Stack old = stack_current(cpu), stack;
    uint32_t parameter[32];
    uint16_t ss_selector;
    uint64_t sp;
    Segment ss;

    task_stack(cpu, cpl, &ss_selector, &sp);
    ss = long_mode ? segment_null(cpl, cpl) : stack_segment_read(cpu, ss_selector, cpl, EXC_TS);
    ss.attributes |= long_mode ? SEGMENT_DB : 0;
    stack = stack_new(cpu, &ss, sp, cpl, long_mode, long_mode ? 0 : ss_selector & 0xfffc);
    for (unsigned i = 0; i < gate->parameters; i++)
        parameter[i] = stack_pop(cpu, &old, gate->size);
    stack_push(cpu, &stack, gate->size, cpu->s.seg[SEG_SS].selector);
    stack_push(cpu, &stack, gate->size, cpu->s.gpr[GPR_RSP]);
    for (unsigned i = gate->parameters; i-- > 0;)
        stack_push(cpu, &stack, gate->size, parameter[i]);
    stack_push(cpu, &stack, gate->size, cpu->s.seg[SEG_CS].selector);
    stack_push(cpu, &stack, gate->size, next);
    code_check_rip(cpu, cs, gate->offset);
    mark_code_accessed(cpu, cs);
    stack_commit(cpu, &stack);
    cpu->s.seg[SEG_SS] = ss;
    set_code(cpu, cs, cpl, gate->offset);
}

static void call_through_gate(SoftCpu *cpu, const Segment *system, const uint64_t words[2],
                              uint64_t next)
{
    CallGate gate;
    Segment cs;

    check_gate_access(cpu, system);
    check_gate_present(cpu, system);
    gate = read_call_gate(cpu, system, words);
    cs = read_gate_code(cpu, &gate);
    check_code_present(cpu, &cs);
    if (!(cs.attributes & SEGMENT_CONFORMING) && segment_dpl(&cs) < cpu->cpl)
        call_inner(cpu, &gate, &cs, next);
    else
        call_same(cpu, &cs, gate.offset, gate.size, next);
}

void far_call(SoftCpu *cpu, uint16_t selector, uint64_t offset, unsigned op_size, uint64_t next)
{
    uint64_t words[2];
    Segment cs;

    offset = mask_offset(offset, op_size);
    if (is_paragraph_mode(cpu)) {
        Stack stack = stack_current(cpu);
        check_paragraph_offset(cpu, offset);
        stack_push(cpu, &stack, op_size, cpu->s.seg[SEG_CS].selector);
        stack_push(cpu, &stack, op_size, next);
        stack_commit(cpu, &stack);
        segment_load_paragraph(cpu, SEG_CS, selector);
        cpu->s.rip = offset;
        cpu_update_mode(cpu);
        return;
    }
    if (read_target(cpu, selector, words, &cs)) {
        check_direct(cpu, &cs);
        call_same(cpu, &cs, offset, op_size, next);
    } else if (is_call_gate(cpu, &cs)) {
        call_through_gate(cpu, &cs, words, next);
    } else if (!transfer_to_task(cpu, &cs, words, TASK_CALL)) {
        cpu_raise_error(cpu, EXC_GP, selector & 0xfffc);
    }
}

/* ---- RET and IRET ---------------------------------------------------------------------------- */

/* The code segment returned to. */
static Segment read_return_code(SoftCpu *cpu, uint16_t selector)
{
    Segment cs = code_segment_read(cpu, selector, EXC_GP);
    unsigned rpl = selector & 3;

    if (rpl < cpu->cpl ||
        (cs.attributes & SEGMENT_CONFORMING ? segment_dpl(&cs) > rpl : segment_dpl(&cs) != rpl))
        cpu_raise_error(cpu, EXC_GP, selector & 0xfffc);
    check_code_present(cpu, &cs);
    return cs;
}

/* The stack segment returned to with `cs`; null is allowed for 64-bit code below ring 3. */
static Segment read_return_stack(SoftCpu *cpu, uint16_t selector, const Segment *cs)
{
    unsigned cpl = cs->selector & 3;

    if (!(selector & 0xfffc) && cpu_is_long_mode(cpu) && cs->attributes & SEGMENT_L && cpl != 3 &&
        (selector & 3) == cpl) {
        Segment ss = segment_null(selector, cpl);
        ss.attributes |= SEGMENT_DB;
        return ss;
    }
    return stack_segment_read(cpu, selector, cpl, EXC_GP);
}

/* RSP of an outer ring: as wide as its stack segment says. */
static void set_outer_rsp(SoftCpu *cpu, uint64_t rsp, unsigned extra)
{
    uint64_t *gpr = &cpu->s.gpr[GPR_RSP];

    if (cpu->stack_size == 2)
        *gpr = (*gpr & ~UINT64_C(0xffff)) | ((rsp + extra) & 0xffff);
    else
        *gpr = cpu->stack_size == 4 ? (uint32_t)(rsp + extra) : rsp + extra;
}

static void advance(Stack *stack, unsigned bytes)
{
    stack->sp = (stack->sp & ~stack->mask) | ((stack->sp + bytes) & stack->mask);
}

void far_return(SoftCpu *cpu, unsigned op_size, uint16_t pop_bytes)
{
    Stack stack = stack_current(cpu);
    uint64_t rip = stack_pop(cpu, &stack, op_size), rsp = 0;
    uint16_t selector = stack_pop(cpu, &stack, op_size), ss_selector;
    unsigned rpl = selector & 3;
    Segment cs, ss;

    advance(&stack, pop_bytes);
    if (is_paragraph_mode(cpu)) {
        check_paragraph_offset(cpu, rip);
        stack_commit(cpu, &stack);
        segment_load_paragraph(cpu, SEG_CS, selector);
        cpu->s.rip = rip;
        cpu_update_mode(cpu);
        return;
    }
    cs = read_return_code(cpu, selector);
    if (rpl == cpu->cpl) {
        code_check_rip(cpu, &cs, rip);
        mark_code_accessed(cpu, &cs);
        stack_commit(cpu, &stack);
        set_code(cpu, &cs, rpl, rip);
        return;
    }
    rsp = stack_pop(cpu, &stack, op_size);
    ss_selector = stack_pop(cpu, &stack, op_size);
    ss = read_return_stack(cpu, ss_selector, &cs);
    code_check_rip(cpu, &cs, rip);
    mark_code_accessed(cpu, &cs);
    cpu->s.seg[SEG_SS] = ss;
    segments_hide_from(cpu, rpl);
    set_code(cpu, &cs, rpl, rip);
    set_outer_rsp(cpu, rsp, pop_bytes);
}

#define IRET_FLAGS (FLAGS_ARITHMETIC | FLAG_TF | FLAG_DF | FLAG_NT)

/* Flags that IRET loads at CPL 0 to 3 with IOPL as it is (SDM 2A IRET). */
static uint64_t iret_flags_mask(const SoftCpu *cpu, unsigned op_size)
{
    unsigned iopl = cpu->s.rflags >> 12 & 3;
    uint64_t mask = IRET_FLAGS;

    if (op_size > 2)
        mask |= FLAG_RF | FLAG_AC | FLAG_ID;
    if (cpu->cpl <= iopl)
        mask |= FLAG_IF;
    if (cpu->cpl == 0) {
        mask |= FLAG_IOPL;
        if (op_size > 2)
            mask |= FLAG_VIF | FLAG_VIP;
    }
    return mask;
}

/* IRET unblocks NMIs even when it faults (SDM 3A 6.7.1). */
static void unblock_nmi(SoftCpu *cpu)
{
    if (!cpu->s.nmi_blocked)
        return;
    cpu->s.nmi_blocked = false;
    if (cpu->s.nmi_pending)
        events_notify(cpu);
}

static void return_paragraph(SoftCpu *cpu, unsigned op_size)
{
    Stack stack = stack_current(cpu);
    uint64_t rip = stack_pop(cpu, &stack, op_size), flags, mask = IRET_FLAGS | FLAG_IF | FLAG_IOPL;
    uint16_t selector = stack_pop(cpu, &stack, op_size);

    flags = stack_pop(cpu, &stack, op_size);
    check_paragraph_offset(cpu, rip);
    if (op_size > 2)
        mask |= FLAG_RF | FLAG_AC | FLAG_ID;
    if (cpu_is_vm86(cpu))
        mask &= ~(uint64_t)FLAG_IOPL;
    stack_commit(cpu, &stack);
    segment_load_paragraph(cpu, SEG_CS, selector);
    cpu->s.rip = rip;
    cpu_update_mode(cpu);
    flags_load(cpu, flags, mask);
}

/* Virtual-8086 code with VME and IOPL below 3: IF is VIF (SDM 3B 20.3.3.4). */
static void return_vme(SoftCpu *cpu)
{
    Stack stack = stack_current(cpu);
    uint64_t rip = stack_pop(cpu, &stack, 2), flags;
    uint16_t selector = stack_pop(cpu, &stack, 2);

    flags = stack_pop(cpu, &stack, 2);
    if ((flags & FLAG_IF && cpu->s.rflags & FLAG_VIP) || flags & FLAG_TF)
        cpu_raise_error(cpu, EXC_GP, 0);
    stack_commit(cpu, &stack);
    segment_load_paragraph(cpu, SEG_CS, selector);
    cpu->s.rip = rip;
    cpu_update_mode(cpu);
    flags_load(cpu, flags | (flags & FLAG_IF ? FLAG_VIF : 0), IRET_FLAGS | FLAG_VIF);
}

/* The frame below EFLAGS of a return to virtual-8086 mode: ESP, SS, ES, DS, FS, GS. */
static void return_to_vm86(SoftCpu *cpu, Stack *stack, uint64_t rip, uint16_t cs, uint64_t flags)
{
    static const uint8_t order[] = {SEG_SS, SEG_ES, SEG_DS, SEG_FS, SEG_GS};
    uint64_t rsp = stack_pop(cpu, stack, 4);
    uint16_t selector[G_N_ELEMENTS(order)];

    /* Intel's processors check EIP against the limit to be (SDM 2A IRET), AMD's drop its upper half
     * (APM 3 IRET). */
    if (rip > 0xffff && !cpu_model_is_amd(cpu->model))
        cpu_raise_error(cpu, EXC_GP, 0);
    for (unsigned i = 0; i < G_N_ELEMENTS(order); i++)
        selector[i] = stack_pop(cpu, stack, 4);
    flags_load(cpu, flags,
               IRET_FLAGS | FLAG_RF | FLAG_AC | FLAG_ID | FLAG_IF | FLAG_IOPL | FLAG_VIF |
                   FLAG_VIP | FLAG_VM);
    segment_load_paragraph(cpu, SEG_CS, cs);
    for (unsigned i = 0; i < G_N_ELEMENTS(order); i++)
        segment_load_paragraph(cpu, order[i], selector[i]);
    cpu->s.gpr[GPR_RSP] = (uint32_t)rsp;
    cpu->s.rip = rip & 0xffff;
    cpu_update_mode(cpu);
}

static void return_from_task(SoftCpu *cpu)
{
    uint16_t link = system_load(cpu, (uint32_t)cpu->s.tr.base, 2);

    if (link & 4)
        cpu_raise_error(cpu, EXC_TS, link & 0xfffc);
    task_switch(cpu, link, TASK_IRET, false, 0);
}

static void return_protected(SoftCpu *cpu, unsigned op_size)
{
    Stack stack = stack_current(cpu);
    uint64_t rip = stack_pop(cpu, &stack, op_size), flags, rsp, mask;
    uint16_t selector = stack_pop(cpu, &stack, op_size), ss_selector;
    unsigned rpl = selector & 3;
    Segment cs, ss;

    flags = stack_pop(cpu, &stack, op_size);
    if (flags & FLAG_VM && cpu->cpl == 0 && op_size == 4 && !cpu_is_long_mode(cpu)) {
        return_to_vm86(cpu, &stack, rip, selector, flags);
        return;
    }
    cs = read_return_code(cpu, selector);
    mask = iret_flags_mask(cpu, op_size);
    if (rpl == cpu->cpl && cpu->code_size != 8) {
        code_check_rip(cpu, &cs, rip);
        mark_code_accessed(cpu, &cs);
        stack_commit(cpu, &stack);
        set_code(cpu, &cs, rpl, rip);
        flags_load(cpu, flags, mask);
        return;
    }
    rsp = stack_pop(cpu, &stack, op_size);
    ss_selector = stack_pop(cpu, &stack, op_size);
    ss = read_return_stack(cpu, ss_selector, &cs);
    code_check_rip(cpu, &cs, rip);
    mark_code_accessed(cpu, &cs);
    if (rpl != cpu->cpl)
        segments_hide_from(cpu, rpl);
    cpu->s.seg[SEG_SS] = ss;
    /* Flags first, so that the mode is computed once. */
    cpu->s.rflags =
        (cpu->s.rflags & ~(mask & (FLAG_TF | FLAG_AC))) | (flags & mask & (FLAG_TF | FLAG_AC));
    set_code(cpu, &cs, rpl, rip);
    set_outer_rsp(cpu, rsp, 0);
    flags_load(cpu, flags, mask);
}

void interrupt_return(SoftCpu *cpu, unsigned op_size)
{
    unblock_nmi(cpu);
    if (cpu_is_real_mode(cpu)) {
        return_paragraph(cpu, op_size);
    } else if (cpu_is_vm86(cpu)) {
        if ((cpu->s.rflags & FLAG_IOPL) == FLAG_IOPL)
            return_paragraph(cpu, op_size);
        else if (cpu->s.cr4 & CR4_VME && op_size == 2)
            return_vme(cpu);
        else
            cpu_raise_error(cpu, EXC_GP, 0);
    } else if (cpu->s.rflags & FLAG_NT) {
        if (cpu_is_long_mode(cpu))
            cpu_raise_error(cpu, EXC_GP, 0);
        return_from_task(cpu);
    } else {
        return_protected(cpu, op_size);
    }
}
