/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What segment.c, task.c, exception.c, control.c, msr.c and ops_system.c share: descriptors, stacks
 * that are not (yet) SS:RSP, accesses on behalf of the system. For these files only.
 */
#pragma once

#include "cpu/soft/access.h"

#define DR7_GD       (UINT64_C(1) << 13)
#define CR3_NO_FLUSH (UINT64_C(1) << 63)

enum { /* types of system descriptors, SDM 3A table 3-2 */
       TYPE_TSS16 = 1,
       TYPE_LDT = 2,
       TYPE_TSS16_BUSY = 3,
       TYPE_CALL_GATE16 = 4,
       TYPE_TASK_GATE = 5,
       TYPE_INTERRUPT_GATE16 = 6,
       TYPE_TRAP_GATE16 = 7,
       TYPE_TSS32 = 9,
       TYPE_TSS32_BUSY = 11,
       TYPE_CALL_GATE32 = 12,
       TYPE_INTERRUPT_GATE32 = 14,
       TYPE_TRAP_GATE32 = 15,
};

enum { /* DR6, DEBUGCTL and, in pending_db, what is ours */
       DR6_BP = 0xf,
       DR6_BD = 1 << 13,
       DR6_BS = 1 << 14,
       DR6_BT = 1 << 15,
       DEBUGCTL_LBR = 1 << 0,
       DEBUGCTL_BTF = 1 << 1,
       PENDING_DB_HELD = 1 << 30, /* MOV SS just executed: debug traps wait for one instruction */
};

/* Error codes name selectors without RPL; EXT when an event from outside is being delivered (SDM
 * 3A 6.13). */
static inline uint32_t error_ext(const SoftCpu *cpu)
{
    return cpu->delivering && !cpu->event.software;
}
static inline uint32_t error_selector(const SoftCpu *cpu, uint16_t selector)
{
    return (selector & 0xfffc) | error_ext(cpu);
}

static inline bool is_canonical48(uint64_t linear)
{
    return (uint64_t)((int64_t)(linear << 16) >> 16) == linear;
}

static inline unsigned segment_dpl(const Segment *seg)
{
    return seg->attributes >> SEGMENT_DPL_SHIFT & 3;
}
static inline bool segment_is_code(const Segment *seg)
{
    return (seg->attributes & (SEGMENT_S | SEGMENT_CODE)) == (SEGMENT_S | SEGMENT_CODE);
}
static inline bool segment_is_null(const Segment *seg)
{
    return seg->attributes & SEGMENT_UNUSABLE;
}

/* ---- accesses by an explicit index ----------------------------------------------------------- */

static inline uint64_t sized_load(const void *from, unsigned size)
{
    switch (size) {
    case 1:
        return *(const uint8_t *)from;
    case 2:
        return *(const uint16_t *)from;
    case 4:
        return *(const uint32_t *)from;
    default:
        return *(const uint64_t *)from;
    }
}

static inline void sized_store(void *to, unsigned size, uint64_t value)
{
    switch (size) {
    case 1:
        *(uint8_t *)to = value;
        break;
    case 2:
        *(uint16_t *)to = value;
        break;
    case 4:
        *(uint32_t *)to = value;
        break;
    default:
        *(uint64_t *)to = value;
    }
}

static inline uint64_t index_load(SoftCpu *cpu, uint64_t linear, unsigned size, MmuIndex index)
{
    const TlbEntry *entry = tlb_entry(cpu->tlbs[index], linear);

    if (G_UNLIKELY((linear ^ entry->tag_read) > GUEST_PAGE_SIZE - size))
        return mmu_load(cpu, linear, size, index);
    return sized_load((const void *)(linear + entry->addend), size);
}

static inline void index_store(SoftCpu *cpu, uint64_t linear, unsigned size, uint64_t value,
                               MmuIndex index)
{
    const TlbEntry *entry = tlb_entry(cpu->tlbs[index], linear);

    if (G_UNLIKELY((linear ^ entry->tag_write) > GUEST_PAGE_SIZE - size))
        mmu_store(cpu, linear, size, value, index);
    else
        sized_store((void *)(linear + entry->addend), size, value);
}

static inline void index_store_bytes(SoftCpu *cpu, uint64_t linear, const void *data, unsigned size,
                                     MmuIndex index)
{
    const TlbEntry *entry = tlb_entry(cpu->tlbs[index], linear);

    if (G_UNLIKELY((linear ^ entry->tag_write) > GUEST_PAGE_SIZE - size))
        mmu_store_bytes(cpu, linear, data, size, index);
    else
        memcpy((void *)(linear + entry->addend), data, size);
}

/* Descriptor tables and task state: supervisor accesses whatever the CPL (SDM 3A 4.6). */
static inline uint64_t system_load(SoftCpu *cpu, uint64_t linear, unsigned size)
{
    return index_load(cpu, linear, size, MMU_KERNEL);
}
static inline void system_store(SoftCpu *cpu, uint64_t linear, unsigned size, uint64_t value)
{
    index_store(cpu, linear, size, value, MMU_KERNEL);
}

/* The rules for program accesses at `cpl`. */
static inline MmuIndex index_for_cpl(const SoftCpu *cpu, unsigned cpl)
{
    if (cpl == 3)
        return MMU_USER;
    return cpu->s.cr4 & CR4_SMAP && cpu->s.rflags & FLAG_AC ? MMU_KERNEL_NOSMAP : MMU_KERNEL;
}

/* ---- segment.c ------------------------------------------------------------------------------- */

/* The hidden part as a descriptor gives it; limit in bytes. */
Segment segment_unpack(uint16_t selector, uint64_t descriptor);
Segment segment_null(uint16_t selector, unsigned dpl);
/* Base of a 16-byte system descriptor. */
uint64_t system_base(const uint64_t words[2]);
/* Sets the accessed bit of a code or data descriptor in its table. */
void descriptor_mark_accessed(SoftCpu *cpu, uint16_t selector, uint64_t descriptor);
/* Replaces the type's busy bit of a TSS descriptor. */
void descriptor_set_busy(SoftCpu *cpu, uint16_t selector, bool busy);
/* Real-address and virtual-8086 mode: a selector is a paragraph. */
void segment_load_paragraph(SoftCpu *cpu, unsigned seg, uint16_t selector);
/* After ES, DS, FS or GS changed: what addressing derives from it. */
void segment_changed(SoftCpu *cpu, unsigned seg);
/* The descriptor of a stack segment for `cpl`; all checks of a stack switch raise `vector` (#TS, or
 * #GP and #SS as MOV SS does). */
Segment stack_segment_read(SoftCpu *cpu, uint16_t selector, unsigned cpl, int vector);
/* Reads a code descriptor that is a target with error code `selector`; raises #GP or #NP. Checks
 * type and that L and D are not both set, not the privilege. */
Segment code_segment_read(SoftCpu *cpu, uint16_t selector, int vector);
/* Raises #GP(ext) when `rip` is beyond a code segment's limit or not canonical. */
void code_check_rip(SoftCpu *cpu, const Segment *cs, uint64_t rip);
/* An access to a segment that need not be loaded; raises vector(error). */
uint64_t segment_access(SoftCpu *cpu, const Segment *seg, uint64_t offset, unsigned size,
                        MmuAccess access, bool long_mode, int vector, uint32_t error);
/* After returning to an outer ring: data segments it may not see become null (SDM 2A RET). */
void segments_hide_from(SoftCpu *cpu, unsigned cpl);
/* CS of SYSCALL, SYSRET, SYSENTER, SYSEXIT: flat, not from a descriptor. */
Segment segment_flat_code(uint16_t selector, unsigned dpl, bool long_mode);
Segment segment_flat_data(uint16_t selector, unsigned dpl);

/*
 * A stack that may be another than SS:RSP. Pushes write at once; the caller commits `sp` to RSP by
 * stack_commit() when nothing can fault any more.
 */
typedef struct Stack {
    const Segment *segment;
    uint64_t sp, mask; /* bits of sp that count */
    MmuIndex index;
    bool long_mode; /* no limit, canonical check only */
    uint32_t error; /* of #SS */
} Stack;
Stack stack_current(SoftCpu *cpu);
/* `cpl` and mode are those of the code that will own the stack. */
Stack stack_new(SoftCpu *cpu, const Segment *ss, uint64_t sp, unsigned cpl, bool long_mode,
                uint32_t error);
void stack_push(SoftCpu *cpu, Stack *stack, unsigned size, uint64_t value);
uint64_t stack_pop(SoftCpu *cpu, Stack *stack, unsigned size);
void stack_commit(SoftCpu *cpu, const Stack *stack);

/* ---- task.c ---------------------------------------------------------------------------------- */

/* SS:RSP for ring `cpl` from the TSS; long mode has RSP only. Raises #TS. */
void task_stack(SoftCpu *cpu, unsigned cpl, uint16_t *ret_ss, uint64_t *ret_rsp);
/* Long mode: RSP of IST slot 1 to 7. */
uint64_t task_ist(SoftCpu *cpu, unsigned ist);

/* ---- exception.c ----------------------------------------------------------------------------- */

/* INT1: a trap that is no software interrupt (no DPL check). RIP is behind the instruction. */
void exception_trap(SoftCpu *cpu, int vector);
/* Has the loop call exception_take_events() soon. */
static inline void events_notify(SoftCpu *cpu)
{
    atomic_store_explicit(&cpu->exit_request, 1, memory_order_relaxed);
}
/* RFLAGS.IF or VIF may have been set: notifies when an interrupt waits. */
void interrupts_maybe_enabled(SoftCpu *cpu);
/* Loads the bits of `mask` into RFLAGS and updates the mode as far as they decide it. RF is dropped
 * when no breakpoint could see it. */
void flags_load(SoftCpu *cpu, uint64_t value, uint64_t mask);
/* Notes enabled I/O breakpoints that cover the ports. */
void io_watch(SoftCpu *cpu, uint16_t port, unsigned size);

/* ---- control.c ------------------------------------------------------------------------------- */

/* The CR4 bits of the CPU model. */
uint64_t control_cr4_allowed(const SoftCpu *cpu);
bool control_write_efer(SoftCpu *cpu, uint64_t value);
bool control_write_xcr0(SoftCpu *cpu, uint64_t value);
uint64_t control_xcr0_allowed(const SoftCpu *cpu);
void control_write_dr(SoftCpu *cpu, unsigned n, uint64_t value);
/* Task switch: the new CR3 as it is. */
void control_load_cr3(SoftCpu *cpu, uint64_t value);
