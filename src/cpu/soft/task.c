/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Task state segments: stacks of inner rings and the hardware task switch (SDM 3A chapter 7).
 *
 * A switch has two halves. Up to commit() every fault belongs to the old task and nothing has
 * changed; behind it RIP, registers and selectors are the new task's, and faults of loading its
 * segments are raised there.
 */
#include "cpu/soft/system.h"

#include "base/bits.h"

/* Where a TSS keeps things; a 16-bit one has no CR3, FS, GS and T. */
typedef struct TssLayout {
    uint8_t width; /* bytes of a general register */
    uint8_t stacks, cr3, ip, flags, gprs, segs, seg_step, ldt, trap;
    uint8_t seg_count;
    uint8_t last;  /* smallest limit */
    uint8_t saved; /* last byte that leaving the task writes */
} TssLayout;

static const TssLayout tss16 = {2, 2, 0, 0x0e, 0x10, 0x12, 0x22, 2, 0x2a, 0, 4, 0x2b, 0x29};
static const TssLayout tss32 = {4, 4, 0x1c, 0x20, 0x24, 0x28, 0x48, 4, 0x60, 0x64, 6, 0x67, 0x5d};

typedef struct NewTask {
    const TssLayout *layout;
    Segment tr;
    uint32_t cr3, ip, flags;
    uint32_t gpr[8];
    uint16_t seg[SEG_COUNT], ldt;
    bool trap;
} NewTask;

static const TssLayout *tss_layout(const Segment *tr)
{
    return tr->attributes & 8 ? &tss32 : &tss16;
}

void task_stack(SoftCpu *cpu, unsigned cpl, uint16_t *ret_ss, uint64_t *ret_rsp)
{
    const Segment *tr = &cpu->s.tr;
    unsigned width, offset;

    if (cpu_is_long_mode(cpu)) {
        offset = 4 + cpl * 8;
        if (offset + 7 > tr->limit)
            cpu_raise_error(cpu, EXC_TS, error_selector(cpu, tr->selector));
        *ret_ss = cpl;
        *ret_rsp = system_load(cpu, tr->base + offset, 8);
        return;
    }
    width = tss_layout(tr)->width;
    offset = tss_layout(tr)->stacks + cpl * 2 * width;
    if (offset + width + 1 > tr->limit)
        cpu_raise_error(cpu, EXC_TS, error_selector(cpu, tr->selector));
    *ret_rsp = system_load(cpu, (uint32_t)(tr->base + offset), width);
    *ret_ss = system_load(cpu, (uint32_t)(tr->base + offset + width), 2);
}

uint64_t task_ist(SoftCpu *cpu, unsigned ist)
{
    const Segment *tr = &cpu->s.tr;
    unsigned offset = 28 + ist * 8;

    if (offset + 7 > tr->limit)
        cpu_raise_error(cpu, EXC_TS, error_selector(cpu, tr->selector));
    return system_load(cpu, tr->base + offset, 8);
}

/* ---- the old task's half --------------------------------------------------------------------- */

/* The descriptor of the TSS to switch to, checked (SDM 3A 7.3, table 7-1). */
static Segment read_tss_descriptor(SoftCpu *cpu, uint16_t selector, TaskSwitch reason)
{
    int vector = reason == TASK_IRET ? EXC_TS : EXC_GP;
    unsigned busy = reason == TASK_IRET ? 2 : 0, type;
    uint64_t words[2];
    Segment tr;

    if (selector & 4 || !(selector & 0xfff8) || !segment_read_descriptor(cpu, selector, words))
        cpu_raise_error(cpu, vector, error_selector(cpu, selector));
    tr = segment_unpack(selector, words[0]);
    type = tr.attributes & (SEGMENT_TYPE | SEGMENT_S);
    if ((type & ~8u) != (TYPE_TSS16 | busy))
        cpu_raise_error(cpu, vector, error_selector(cpu, selector));
    if (!(tr.attributes & SEGMENT_P))
        cpu_raise_error(cpu, EXC_NP, error_selector(cpu, selector));
    if (tr.limit < tss_layout(&tr)->last)
        cpu_raise_error(cpu, EXC_TS, error_selector(cpu, selector));
    return tr;
}

static uint32_t tss_load(SoftCpu *cpu, const Segment *tr, unsigned offset, unsigned size)
{
    return system_load(cpu, (uint32_t)(tr->base + offset), size);
}

static void tss_store(SoftCpu *cpu, const Segment *tr, unsigned offset, unsigned size,
                      uint32_t value)
{
    system_store(cpu, (uint32_t)(tr->base + offset), size, value);
}

static void read_new_task(SoftCpu *cpu, NewTask *task)
{
    const TssLayout *l = task->layout;

    if (l->cr3)
        task->cr3 = tss_load(cpu, &task->tr, l->cr3, 4);
    task->ip = tss_load(cpu, &task->tr, l->ip, l->width);
    task->flags = tss_load(cpu, &task->tr, l->flags, l->width);
    for (unsigned i = 0; i < 8; i++)
        task->gpr[i] = tss_load(cpu, &task->tr, l->gprs + i * l->width, l->width);
    for (unsigned i = 0; i < l->seg_count; i++)
        task->seg[i] = tss_load(cpu, &task->tr, l->segs + i * l->seg_step, 2);
    task->ldt = tss_load(cpu, &task->tr, l->ldt, 2);
    task->trap = l->trap && tss_load(cpu, &task->tr, l->trap, 2) & 1;
}

static void save_old_task(SoftCpu *cpu, uint32_t flags)
{
    const Segment *tr = &cpu->s.tr;
    const TssLayout *l = tss_layout(tr);

    tss_store(cpu, tr, l->ip, l->width, cpu->s.rip);
    tss_store(cpu, tr, l->flags, l->width, flags);
    for (unsigned i = 0; i < 8; i++)
        tss_store(cpu, tr, l->gprs + i * l->width, l->width, cpu->s.gpr[i]);
    for (unsigned i = 0; i < l->seg_count; i++)
        tss_store(cpu, tr, l->segs + i * l->seg_step, 2, cpu->s.seg[i].selector);
}

/* From here on the new task runs: registers as its TSS has them, segments not yet usable. */
static void commit(SoftCpu *cpu, const NewTask *task, bool nested)
{
    CpuState *s = &cpu->s;

    /* First, while there is a stack for #GP of a PDPTE. */
    if (task->layout->cr3 && s->cr0 & CR0_PG)
        control_load_cr3(cpu, task->cr3);
    s->tr = task->tr;
    s->tr.attributes |= 2;
    s->cr0 |= CR0_TS;
    s->rip = task->ip;
    cpu->insn = NULL;
    for (unsigned i = 0; i < 8; i++)
        s->gpr[i] = task->layout == &tss16 ? (s->gpr[i] & 0xffff0000) | task->gpr[i] : task->gpr[i];
    for (unsigned i = 0; i < SEG_COUNT; i++)
        s->seg[i] = segment_null(task->seg[i], task->seg[SEG_CS] & 3);
    s->ldtr = segment_null(task->ldt, 0);
    flags_set(cpu, (task->flags & 0x3f7fd5) | (nested ? FLAG_NT : 0));
    if (s->dr7 & 0x155)
        control_write_dr(cpu, 7, s->dr7 & ~UINT64_C(0x155));
    cpu_update_mode(cpu);
}

/* ---- the new task's half --------------------------------------------------------------------- */

static void load_ldtr(SoftCpu *cpu, uint16_t selector)
{
    uint64_t words[2];
    Segment ldtr;

    if (!(selector & 0xfffc))
        return;
    if (selector & 4 || !segment_read_descriptor(cpu, selector, words))
        cpu_raise_error(cpu, EXC_TS, error_selector(cpu, selector));
    ldtr = segment_unpack(selector, words[0]);
    if ((ldtr.attributes & (SEGMENT_TYPE | SEGMENT_S | SEGMENT_P)) != (TYPE_LDT | SEGMENT_P))
        cpu_raise_error(cpu, EXC_TS, error_selector(cpu, selector));
    cpu->s.ldtr = ldtr;
}

static void load_code(SoftCpu *cpu, uint16_t selector)
{
    uint64_t words[2];
    unsigned rpl = selector & 3;
    Segment cs;
    bool fits;

    if (!(selector & 0xfffc) || !segment_read_descriptor(cpu, selector, words))
        cpu_raise_error(cpu, EXC_TS, error_selector(cpu, selector));
    cs = segment_unpack(selector, words[0]);
    fits = cs.attributes & SEGMENT_CONFORMING ? segment_dpl(&cs) <= rpl : segment_dpl(&cs) == rpl;
    if (!segment_is_code(&cs) || !fits)
        cpu_raise_error(cpu, EXC_TS, error_selector(cpu, selector));
    if (!(cs.attributes & SEGMENT_P))
        cpu_raise_error(cpu, EXC_NP, error_selector(cpu, selector));
    descriptor_mark_accessed(cpu, selector, words[0]);
    cs.attributes |= SEGMENT_ACCESSED;
    cpu->s.seg[SEG_CS] = cs;
}

static void load_data(SoftCpu *cpu, unsigned seg, uint16_t selector, unsigned cpl)
{
    uint64_t words[2];
    Segment new;

    if (!(selector & 0xfffc))
        return;
    if (!segment_read_descriptor(cpu, selector, words))
        cpu_raise_error(cpu, EXC_TS, error_selector(cpu, selector));
    new = segment_unpack(selector, words[0]);
    if (!(new.attributes &SEGMENT_S) ||
        (new.attributes &(SEGMENT_CODE | SEGMENT_READABLE)) == SEGMENT_CODE)
        cpu_raise_error(cpu, EXC_TS, error_selector(cpu, selector));
    if ((new.attributes &(SEGMENT_CODE | SEGMENT_CONFORMING)) !=
            (SEGMENT_CODE | SEGMENT_CONFORMING) &&
        MAX(selector & 3, cpl) > segment_dpl(&new))
        cpu_raise_error(cpu, EXC_TS, error_selector(cpu, selector));
    if (!(new.attributes &SEGMENT_P))
        cpu_raise_error(cpu, EXC_NP, error_selector(cpu, selector));
    descriptor_mark_accessed(cpu, selector, words[0]);
    new.attributes |= SEGMENT_ACCESSED;
    cpu->s.seg[seg] = new;
}

static void load_segments(SoftCpu *cpu, const NewTask *task)
{
    unsigned cpl = task->seg[SEG_CS] & 3;

    if (task->flags & FLAG_VM && task->layout == &tss32) {
        load_ldtr(cpu, task->ldt);
        for (unsigned i = 0; i < SEG_COUNT; i++)
            segment_load_paragraph(cpu, i, task->seg[i]);
        return;
    }
    load_ldtr(cpu, task->ldt);
    load_code(cpu, task->seg[SEG_CS]);
    cpu_update_mode(cpu);
    cpu->s.seg[SEG_SS] = stack_segment_read(cpu, task->seg[SEG_SS], cpl, EXC_TS);
    cpu_update_mode(cpu);
    load_data(cpu, SEG_DS, task->seg[SEG_DS], cpl);
    load_data(cpu, SEG_ES, task->seg[SEG_ES], cpl);
    load_data(cpu, SEG_FS, task->seg[SEG_FS], cpl);
    load_data(cpu, SEG_GS, task->seg[SEG_GS], cpl);
}

void task_switch(SoftCpu *cpu, uint16_t selector, TaskSwitch reason, bool push_error,
                 uint32_t error)
{
    bool nested = reason == TASK_CALL || reason == TASK_INTERRUPT;
    NewTask task = {.tr = read_tss_descriptor(cpu, selector, reason)};
    const TssLayout *old = tss_layout(&cpu->s.tr);
    uint16_t old_selector = cpu->s.tr.selector;
    uint32_t flags = flags_get(cpu);

    task.layout = tss_layout(&task.tr);
    /* The manual is silent on an old TSS too small to be saved; as for a new one. */
    if (cpu->s.tr.limit < old->saved)
        cpu_raise_error(cpu, EXC_TS, error_selector(cpu, old_selector));
    mmu_probe(cpu, (uint32_t)(cpu->s.tr.base + old->ip), old->saved + 1 - old->ip, MMU_WRITE,
              MMU_KERNEL);
    if (nested)
        mmu_probe(cpu, (uint32_t)task.tr.base, 2, MMU_WRITE, MMU_KERNEL);
    read_new_task(cpu, &task);
    if (reason == TASK_IRET)
        flags &= ~(uint32_t)FLAG_NT;
    save_old_task(cpu, flags);
    if (nested)
        tss_store(cpu, &task.tr, 0, 2, old_selector);
    else
        descriptor_set_busy(cpu, old_selector, false);
    if (reason != TASK_IRET)
        descriptor_set_busy(cpu, selector, true);
    commit(cpu, &task, nested);
    load_segments(cpu, &task);
    cpu_update_mode(cpu);
    if (push_error) {
        Stack stack = stack_current(cpu);
        stack_push(cpu, &stack, task.layout->width, error);
        stack_commit(cpu, &stack);
    }
    code_check_rip(cpu, &cpu->s.seg[SEG_CS], cpu->s.rip);
    if (task.trap)
        cpu->pending_db |= DR6_BT;
    events_notify(cpu);
}
