/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Exceptions and interrupts: raising, the double-fault rules, delivery in every mode, and what
 * happens between instructions.
 *
 *   handler → cpu_raise() ─siglongjmp→ loop → exception_deliver() ─(faults itself)→ cpu_raise() →
 * loop → …
 *
 * Invariants: delivery changes no register before its last possible fault. A fault sets RF in
 * RFLAGS at once, so every delivery pushes RFLAGS as they are. pending_db holds BS while an
 * instruction runs with TF set; whoever makes that instruction not count (a fault, INT) clears it.
 *
 * Source: SDM 3A chapter 6, 3B chapter 17.
 */
#include "cpu/soft/block.h"
#include "cpu/soft/ops.h"
#include "cpu/soft/soft_trace.h"
#include "cpu/soft/system.h"

#include <string.h>

#include "base/bits.h"

#define VECTOR_SHUTDOWN 256 /* in event.vector: a third fault */

/* ---- raising --------------------------------------------------------------------------------- */

typedef enum FaultClass { BENIGN, CONTRIBUTORY, PAGE_FAULT } FaultClass;

static FaultClass vector_class(int vector)
{
    const uint32_t contributory =
        1u << EXC_DE | 1u << EXC_TS | 1u << EXC_NP | 1u << EXC_SS | 1u << EXC_GP;

    if (vector == EXC_PF)
        return PAGE_FAULT;
    return vector < 32 && contributory >> vector & 1 ? CONTRIBUTORY : BENIGN;
}

/* What a fault while delivering cpu->event becomes (SDM 3A table 6-5). */
static int combine(const SoftCpu *cpu, int vector)
{
    FaultClass first, second = vector_class(vector);

    if (cpu->event.software || cpu->event.external)
        return vector;
    if (cpu->event.vector == EXC_DF)
        return second == BENIGN ? vector : VECTOR_SHUTDOWN;
    first = vector_class(cpu->event.vector);
    if ((first == CONTRIBUTORY && second == CONTRIBUTORY) ||
        (first == PAGE_FAULT && second != BENIGN))
        return EXC_DF;
    return vector;
}

static void __attribute__((noreturn, cold))
raise_fault(SoftCpu *cpu, int vector, bool has_error, uint32_t error)
{
    if (cpu->locked)
        lock_end(cpu);
    if (cpu->insn) {
        cpu->s.rip = INSN_RIP(cpu, cpu->insn);
        block_uncount(cpu, cpu->insn);
        cpu->insn = NULL;
    }
    if (cpu->delivering) {
        int combined = combine(cpu, vector);
        if (combined != vector) {
            vector = combined;
            has_error = true;
            error = 0;
        }
    }
    cpu->stat_faults++;
    cpu->s.rflags |= FLAG_RF;
    cpu->event.vector = vector;
    cpu->event.has_error = has_error;
    cpu->event.error = error;
    cpu->event.software = false;
    cpu->event.external = false;
    siglongjmp(cpu->jump, 1);
}

void cpu_raise(SoftCpu *cpu, int vector)
{
    raise_fault(cpu, vector, false, 0);
}

void cpu_raise_error(SoftCpu *cpu, int vector, uint32_t error)
{
    raise_fault(cpu, vector, true, error);
}

void cpu_raise_page_fault(SoftCpu *cpu, uint64_t linear, uint32_t error)
{
    cpu->s.cr2 = linear;
    raise_fault(cpu, EXC_PF, true, error);
}

/* ---- delivery -------------------------------------------------------------------------------- */

typedef struct Gate {
    uint64_t offset;
    uint16_t selector;
    uint8_t type;
    uint8_t ist;
} Gate;

static uint32_t gate_error(const SoftCpu *cpu)
{
    return (uint32_t)cpu->event.vector * 8 + 2 + error_ext(cpu);
}

static Gate read_gate(SoftCpu *cpu, unsigned size)
{
    uint32_t index = (uint32_t)cpu->event.vector * size;
    uint64_t low, high = 0, access;
    Gate gate;

    if (index + size - 1 > cpu->s.idtr.limit)
        cpu_raise_error(cpu, EXC_GP, gate_error(cpu));
    low = system_load(cpu, cpu->s.idtr.base + index, 8);
    if (size == 16)
        high = system_load(cpu, cpu->s.idtr.base + index + 8, 8);
    access = low >> 40;
    gate = (Gate){
        .offset = (low & 0xffff) | (low >> 32 & 0xffff0000) | high << 32,
        .selector = low >> 16,
        .type = access & 0x1f,
        .ist = low >> 32 & 7,
    };
    if (size == 16) {
        if ((gate.type | 1) != TYPE_TRAP_GATE32)
            cpu_raise_error(cpu, EXC_GP, gate_error(cpu));
    } else if (gate.type != TYPE_TASK_GATE && (gate.type | 9) != TYPE_TRAP_GATE32) {
        cpu_raise_error(cpu, EXC_GP, gate_error(cpu));
    }
    if (cpu->event.software && (access >> 5 & 3) < cpu->cpl)
        cpu_raise_error(cpu, EXC_GP, gate_error(cpu));
    if (!(access & SEGMENT_P))
        cpu_raise_error(cpu, EXC_NP, gate_error(cpu));
    return gate;
}

/* The handler's code segment; its DPL is at most CPL. */
static Segment read_handler_segment(SoftCpu *cpu, uint16_t selector)
{
    Segment cs = code_segment_read(cpu, selector, EXC_GP);

    if (segment_dpl(&cs) > cpu->cpl)
        cpu_raise_error(cpu, EXC_GP, error_selector(cpu, selector));
    if (cpu_is_long_mode(cpu) && !(cs.attributes & SEGMENT_L))
        cpu_raise_error(cpu, EXC_GP, error_selector(cpu, selector));
    if (!(cs.attributes & SEGMENT_P))
        cpu_raise_error(cpu, EXC_NP, error_selector(cpu, selector));
    return cs;
}

static void enter_handler(SoftCpu *cpu, const Segment *cs, unsigned cpl, uint64_t rip,
                          uint64_t clear_flags)
{
    cpu->s.seg[SEG_CS] = *cs;
    cpu->s.seg[SEG_CS].selector = (cs->selector & 0xfffc) | cpl;
    cpu->s.rip = rip;
    cpu->s.rflags &= ~clear_flags;
    cpu_update_mode(cpu);
}

static uint64_t gate_clears(const Gate *gate)
{
    return FLAG_TF | FLAG_NT | FLAG_RF | FLAG_VM | (gate->type & 1 ? 0 : FLAG_IF);
}

static void deliver_real(SoftCpu *cpu)
{
    uint32_t index = (uint32_t)cpu->event.vector * 4, target;
    Stack stack = stack_current(cpu);

    if (index + 3 > cpu->s.idtr.limit)
        cpu_raise_error(cpu, EXC_GP, gate_error(cpu));
    target = system_load(cpu, (uint32_t)(cpu->s.idtr.base + index), 4);
    stack_push(cpu, &stack, 2, flags_get(cpu));
    stack_push(cpu, &stack, 2, cpu->s.seg[SEG_CS].selector);
    stack_push(cpu, &stack, 2, cpu->s.rip);
    stack_commit(cpu, &stack);
    segment_load_paragraph(cpu, SEG_CS, target >> 16);
    cpu->s.rip = target & 0xffff;
    cpu->s.rflags &= ~(uint64_t)(FLAG_IF | FLAG_TF | FLAG_RF | FLAG_AC);
    cpu_update_mode(cpu);
}

static void push_frame(SoftCpu *cpu, Stack *stack, unsigned size)
{
    stack_push(cpu, stack, size, flags_get(cpu));
    stack_push(cpu, stack, size, cpu->s.seg[SEG_CS].selector);
    stack_push(cpu, stack, size, cpu->s.rip);
    if (cpu->event.has_error)
        stack_push(cpu, stack, size, cpu->event.error);
}

static void deliver_inner(SoftCpu *cpu, const Gate *gate, const Segment *cs)
{
    static const uint8_t vm86_order[] = {SEG_GS, SEG_FS, SEG_DS, SEG_ES};
    unsigned size = gate->type & 8 ? 4 : 2, cpl = segment_dpl(cs);
    bool from_vm86 = cpu_is_vm86(cpu);
    uint16_t ss_selector;
    uint64_t sp;
    Segment ss;
    Stack stack;

    task_stack(cpu, cpl, &ss_selector, &sp);
    ss = stack_segment_read(cpu, ss_selector, cpl, EXC_TS);
    stack = stack_new(cpu, &ss, sp, cpl, false, error_selector(cpu, ss_selector));
    if (from_vm86)
        for (unsigned i = 0; i < G_N_ELEMENTS(vm86_order); i++)
            stack_push(cpu, &stack, size, cpu->s.seg[vm86_order[i]].selector);
    stack_push(cpu, &stack, size, cpu->s.seg[SEG_SS].selector);
    stack_push(cpu, &stack, size, cpu->s.gpr[GPR_RSP]);
    push_frame(cpu, &stack, size);
    code_check_rip(cpu, cs, gate->offset);
    descriptor_mark_accessed(cpu, cs->selector, (uint64_t)cs->attributes << 40);
    if (from_vm86)
        for (unsigned i = 0; i < G_N_ELEMENTS(vm86_order); i++)
            cpu->s.seg[vm86_order[i]] = segment_null(0, 0);
    stack_commit(cpu, &stack);
    cpu->s.seg[SEG_SS] = ss;
    enter_handler(cpu, cs, cpl, gate->offset, gate_clears(gate));
}

static void deliver_same(SoftCpu *cpu, const Gate *gate, const Segment *cs)
{
    Stack stack = stack_current(cpu);

    push_frame(cpu, &stack, gate->type & 8 ? 4 : 2);
    code_check_rip(cpu, cs, gate->offset);
    descriptor_mark_accessed(cpu, cs->selector, (uint64_t)cs->attributes << 40);
    stack_commit(cpu, &stack);
    enter_handler(cpu, cs, cpu->cpl, gate->offset, gate_clears(gate));
}

static void deliver_protected(SoftCpu *cpu)
{
    Gate gate = read_gate(cpu, 8);
    Segment cs;
    bool inner;

    if (gate.type == TYPE_TASK_GATE) {
        task_switch(cpu, gate.selector, TASK_INTERRUPT, cpu->event.has_error, cpu->event.error);
        return;
    }
    if (!(gate.type & 8))
        gate.offset &= 0xffff;
    cs = read_handler_segment(cpu, gate.selector);
    inner = !(cs.attributes & SEGMENT_CONFORMING) && segment_dpl(&cs) < cpu->cpl;
    if (cpu_is_vm86(cpu) && (!inner || segment_dpl(&cs) != 0))
        cpu_raise_error(cpu, EXC_GP, error_selector(cpu, gate.selector));
    if (inner)
        deliver_inner(cpu, &gate, &cs);
    else
        deliver_same(cpu, &gate, &cs);
}

/* SDM 3A 6.14: the frame is always SS, RSP, RFLAGS, CS, RIP, at a 16-byte boundary. */
static void deliver_long(SoftCpu *cpu)
{
    Gate gate = read_gate(cpu, 16);
    Segment cs = read_handler_segment(cpu, gate.selector);
    bool inner = !(cs.attributes & SEGMENT_CONFORMING) && segment_dpl(&cs) < cpu->cpl;
    unsigned cpl = inner ? segment_dpl(&cs) : cpu->cpl, size;
    uint64_t rsp = cpu->s.gpr[GPR_RSP], frame[6], *low = frame + 1;
    uint16_t ss;

    if (gate.ist)
        rsp = task_ist(cpu, gate.ist);
    else if (inner)
        task_stack(cpu, cpl, &ss, &rsp);
    rsp &= ~UINT64_C(15);
    frame[5] = cpu->s.seg[SEG_SS].selector;
    frame[4] = cpu->s.gpr[GPR_RSP];
    frame[3] = flags_get(cpu);
    frame[2] = cpu->s.seg[SEG_CS].selector;
    frame[1] = cpu->s.rip;
    if (cpu->event.has_error) {
        frame[0] = cpu->event.error;
        low = frame;
    }
    size = (unsigned)((frame + 6 - low) * sizeof(uint64_t));
    rsp -= size;
    if (!is_canonical48(rsp) || !is_canonical48(rsp + size - 1))
        cpu_raise_error(cpu, EXC_SS, error_ext(cpu));
    if (!is_canonical48(gate.offset))
        cpu_raise_error(cpu, EXC_GP, error_ext(cpu));
    descriptor_mark_accessed(cpu, cs.selector, (uint64_t)cs.attributes << 40);
    index_store_bytes(cpu, rsp, low, size, index_for_cpl(cpu, cpl));
    cpu->s.gpr[GPR_RSP] = rsp;
    if (inner) {
        cpu->s.seg[SEG_SS] = segment_null(cpl, cpl);
        cpu->s.seg[SEG_SS].attributes |= SEGMENT_DB;
    }
    enter_handler(cpu, &cs, cpl, gate.offset, gate_clears(&gate));
}

bool exception_deliver(SoftCpu *cpu)
{
    if (cpu->event.vector == VECTOR_SHUTDOWN) {
        cpu->delivering = false;
        cpu->event.vector = -1;
        cpu->s.activity = CPU_SHUTDOWN;
        return false;
    }
    if (soft_traces(cpu, TRACE_IRQ))
        soft_trace_event(cpu);
    cpu->delivering = true;
    /* A data trap that MOV SS held comes behind INT n, INT3 and INTO, at their handler. */
    cpu->pending_db = cpu->event.software ? cpu->pending_db & DR6_BP : 0;
    cpu->s.interrupt_shadow = false;
    if (cpu->event.vector == EXC_DB) {
        cpu->s.dr7 &= ~DR7_GD;
        cpu->s.debugctl &= ~(uint64_t)(DEBUGCTL_LBR | DEBUGCTL_BTF);
    }
    if (cpu_is_long_mode(cpu))
        deliver_long(cpu);
    else if (cpu_is_real_mode(cpu))
        deliver_real(cpu);
    else
        deliver_protected(cpu);
    cpu->delivering = false;
    cpu->event.vector = -1;
    cpu->insn = NULL;
    return true;
}

static void deliver_event(SoftCpu *cpu, int vector, bool software, bool external)
{
    cpu->event.vector = vector;
    cpu->event.has_error = false;
    cpu->event.error = 0;
    cpu->event.software = software;
    cpu->event.external = external;
    exception_deliver(cpu);
}

void exception_software_interrupt(SoftCpu *cpu, int vector)
{
    deliver_event(cpu, vector, true, false);
}

void exception_trap(SoftCpu *cpu, int vector)
{
    deliver_event(cpu, vector, false, false);
}

/* ---- between instructions -------------------------------------------------------------------- */

void interrupts_maybe_enabled(SoftCpu *cpu)
{
    if (cpu->s.rflags & FLAG_IF && cpu->vcpu->intc &&
        cpu->vcpu->intc->has_interrupt(cpu->vcpu->intc_obj))
        events_notify(cpu);
}

void flags_load(SoftCpu *cpu, uint64_t value, uint64_t mask)
{
    uint64_t old = cpu->s.rflags, changed;

    flags_set(cpu, (flags_get(cpu) & ~mask) | (value & mask));
    if (!(cpu->s.dr7 & 0xff))
        cpu->s.rflags &= ~(uint64_t)FLAG_RF;
    changed = cpu->s.rflags ^ old;
    if (changed & (FLAG_TF | FLAG_AC | FLAG_VM))
        cpu_update_mode(cpu);
    if (changed & cpu->s.rflags & FLAG_IF)
        interrupts_maybe_enabled(cpu);
}

static const uint8_t breakpoint_length[] = {1, 2, 8, 4};

/* DR6 bits of enabled breakpoints of `type` (0: instruction, 2: I/O) that [address, address + size)
 * touches. */
static uint32_t breakpoints_hit(const SoftCpu *cpu, unsigned type, uint64_t address, unsigned size)
{
    uint32_t hit = 0;

    for (unsigned i = 0; i < 4; i++) {
        unsigned length = type ? breakpoint_length[cpu->s.dr7 >> (18 + 4 * i) & 3] : 1;
        uint64_t start = align_down(cpu->s.dr[i], length);
        if (cpu->s.dr7 >> (2 * i) & 3 && (cpu->s.dr7 >> (16 + 4 * i) & 3) == type &&
            address < start + length && start < address + size)
            hit |= 1u << i;
    }
    return hit;
}

void io_watch(SoftCpu *cpu, uint16_t port, unsigned size)
{
    if (cpu->s.dr7 & 0xff && cpu->s.cr4 & CR4_DE)
        cpu->pending_db |= breakpoints_hit(cpu, 2, port, size);
}

static void take_debug_trap(SoftCpu *cpu)
{
    cpu->s.dr6 = (cpu->s.dr6 & ~(uint64_t)DR6_BP) | cpu->pending_db;
    cpu->s.activity = CPU_ACTIVE;
    deliver_event(cpu, EXC_DB, false, false);
}

/* NMI or interrupt; false: none may be taken now. */
static bool take_interrupt(SoftCpu *cpu)
{
    int vector;

    if (cpu->s.nmi_pending && !cpu->s.nmi_blocked) {
        cpu->s.nmi_pending--;
        cpu->s.nmi_blocked = true;
        cpu->s.activity = CPU_ACTIVE;
        deliver_event(cpu, EXC_NMI, false, true);
        return true;
    }
    cpu->interrupt_waits = cpu->vcpu->intc && cpu->vcpu->intc->has_interrupt(cpu->vcpu->intc_obj);
    if (!(cpu->s.rflags & FLAG_IF) || !cpu->interrupt_waits)
        return false;
    vcpu_leave(cpu->vcpu); /* the 8259A pair answers under the board lock */
    vector = cpu->vcpu->intc->take_interrupt(cpu->vcpu->intc_obj);
    vcpu_enter(cpu->vcpu);
    if (vector < 0)
        return false;
    cpu->s.activity = CPU_ACTIVE;
    cpu->stat_interrupts++;
    deliver_event(cpu, vector, false, true);
    return true;
}

static void take_instruction_breakpoint(SoftCpu *cpu)
{
    uint32_t hit;

    if (cpu->s.rflags & FLAG_RF) {
        cpu->s.rflags &= ~(uint64_t)FLAG_RF;
        return;
    }
    if (!(cpu->s.dr7 & 0xff))
        return;
    hit = breakpoints_hit(cpu, 0, cpu->seg_base[SEG_CS] + (cpu->s.rip & cpu->rip_mask), 1);
    if (hit) {
        cpu->s.dr6 = (cpu->s.dr6 & ~(uint64_t)DR6_BP) | hit;
        deliver_event(cpu, EXC_DB, false, false);
    }
}

static bool is_branch(const Insn *insn)
{
    static const uint8_t one_byte[] = {0x9a, 0xc2, 0xc3, 0xca, 0xcb, 0xcf, 0xe0,
                                       0xe1, 0xe2, 0xe3, 0xe8, 0xe9, 0xea, 0xeb};
    static const uint8_t two_bytes[] = {0x05, 0x07, 0x34, 0x35}; /* SYSCALL … SYSEXIT */
    unsigned opcode = insn->opcode, reg = insn_modrm_reg(insn);

    if (insn->map == MAP_0F)
        return (opcode & 0xf0) == 0x80 || memchr(two_bytes, (int)opcode, sizeof(two_bytes));
    return insn->map == MAP_ONE_BYTE &&
           ((opcode & 0xf0) == 0x70 || (opcode == 0xff && reg >= 2 && reg <= 5) ||
            memchr(one_byte, (int)opcode, sizeof(one_byte)));
}

/* The trap behind the next instruction; with DEBUGCTL.BTF only if that is a branch, and later only
 * if it was taken (SDM 3B 17.4.3). */
static void arm_single_step(SoftCpu *cpu)
{
    if (!(cpu->s.rflags & FLAG_TF))
        return;
    if (cpu->s.debugctl & DEBUGCTL_BTF) {
        const Insn *insn = block_find(cpu, true)->insns;
        if (!is_branch(insn))
            return;
        cpu->branch_next = cpu->s.rip + insn->length;
    }
    cpu->pending_db |= DR6_BS;
}

void exception_take_events(SoftCpu *cpu)
{
    bool held = cpu->pending_db & PENDING_DB_HELD;

    cpu->insn = NULL;
    if (cpu->s.debugctl & DEBUGCTL_BTF && cpu->s.rip == cpu->branch_next)
        cpu->pending_db &= ~(uint32_t)DR6_BS;
    cpu->pending_db &= ~(uint32_t)PENDING_DB_HELD;
    if (cpu->pending_db && !held)
        take_debug_trap(cpu);
    if (cpu->s.interrupt_shadow) {
        cpu->s.interrupt_shadow = false;
        cpu->mode |= MODE_SINGLE_STEP; /* one instruction, then look again */
    } else {
        if (!(cpu->s.rflags & FLAG_TF || cpu->s.dr7 & 0xff || cpu->stepping))
            cpu->mode &= ~(uint32_t)MODE_SINGLE_STEP;
        if (cpu->s.activity != CPU_ACTIVE || cpu->vcpu->debug.run != DEBUG_STEP)
            take_interrupt(cpu);
    }
    if (cpu->s.activity != CPU_ACTIVE)
        return;
    take_instruction_breakpoint(cpu);
    arm_single_step(cpu);
}
