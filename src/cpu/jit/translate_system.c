/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Instructions of operating systems that are done in line or by system.c. */
#include "cpu/jit/system.h"

#include "cpu/soft/flags.h"
#include "cpu/tsc.h"

/* ---- flags ---------------------------------------------------------------------------------- */

/* Sets or clears bits of the RFLAGS that are no arithmetic flags. */
static void change_rflags(Translation *t, uint32_t bits, bool set)
{
    flags_to_slot(t, t->live[t->index]);
    emit_op(&t->e, 0x81, set ? 1 : 4, rm_state(CPU_AT(s.rflags)));
    e32(&t->e, set ? bits : ~bits);
}

/* Interrupts are looked for at exits from the block alone, so the next instruction comes before
 * any; the handler is for those that wait already. */
static void translate_sti(Translation *t)
{
    Emit *e = &t->e;
    if (t->index + 1u == t->count) {
        call_handler_inline(t);
        return;
    }
    flags_to_slot(t, t->live[t->index]);
    emit_op(e, 0x83, 7, rm_state(CPU_AT(exit_request)));
    e8(e, 0);
    slow_if(t, CC_NE);
    emit_op(e, 0x80, 7, rm_state(CPU_AT(interrupt_waits)));
    e8(e, 0);
    slow_if(t, CC_NE);
    change_rflags(t, FLAG_IF, true);
}

/* STAC, CLAC: what index_for_cpl() says then. */
static void translate_set_ac(Translation *t, bool on)
{
    Emit *e = &t->e;
    MmuIndex index = on ? MMU_KERNEL_NOSMAP : MMU_KERNEL;
    change_rflags(t, FLAG_AC, on);
    emit_op(e, 0xf7, 0, rm_state(CPU_AT(s.cr4))); /* test */
    e32(e, CR4_SMAP);
    uint8_t *skip = emit_jcc(e, CC_E, NULL);
    emit_op(e, 0xc6, 0, rm_state(CPU_AT(mmu_index)));
    e8(e, index);
    emit_op(e, 0x8d | OP_W, SCRATCH1,
            rm_state(CPU_AT(tlbs) + (int32_t)(index * sizeof(t->cpu->tlbs[0]))));
    emit_store(e, SCRATCH1, rm_state(CPU_AT(tlb)));
    emit_patch(e, skip, emit_here(e));
}

/* flags_get() without RF and VM into the slot `temp`. */
static void emit_flags_value(Translation *t)
{
    Emit *e = &t->e;
    emit_op(e, 0x8b, SCRATCH1, rm_state(CPU_AT(flags)));
    emit_op(e, 0x89, SCRATCH1, rm_reg(SCRATCH2));
    emit_op(e, 0xc1, 5, rm_reg(SCRATCH1)); /* shr 8: SF ZF AF PF CF, and bit 1 */
    e8(e, 8);
    emit_op(e, 0x81, 4, rm_reg(SCRATCH1));
    e32(e, 0xd7);
    emit_op(e, 0x83, 4, rm_reg(SCRATCH2));
    e8(e, NATIVE_OF);
    emit_op(e, 0xc1, 4, rm_reg(SCRATCH2));
    e8(e, 11);
    emit_op(e, 0x09, SCRATCH2, rm_reg(SCRATCH1));
    emit_op(e, 0x8b, SCRATCH2, rm_state(CPU_AT(s.rflags)));
    emit_op(e, 0x81, 4, rm_reg(SCRATCH2));
    e32(e, ~(uint32_t)(FLAG_RF | FLAG_VM | FLAGS_ARITHMETIC));
    emit_op(e, 0x09, SCRATCH2, rm_reg(SCRATCH1));
    emit_store(e, SCRATCH1, rm_state(JIT_AT(temp)));
}

static void translate_pushf(Translation *t)
{
    Emit *e = &t->e;
    unsigned size = t->insn->op_size, free;
    uint32_t wide = size == 8 ? OP_W : size == 2 ? OP_66 : 0;
    if (t->segmented ? t->block->mode & MODE_VM86 : size != (t->mode64 ? 8u : 4u)) {
        call_handler_inline(t);
        return;
    }
    flags_to_slot(t, JIT_ALL_FLAGS);
    emit_flags_value(t);
    Rm rm = access_stack(t, GPR_RSP, -(int)size, size, true, &free);
    emit_load(e, free, rm_state(JIT_AT(temp)));
    emit_op(e, 0x89 | wide, free, rm);
    move_stack(t, GUEST_RSP, -(int)size);
}

/* ---- registers ------------------------------------------------------------------------------ */

static void translate_swapgs(Translation *t)
{
    Emit *e = &t->e;
    emit_load(e, SCRATCH1, rm_state(CPU_AT(s.kernel_gs_base)));
    emit_load(e, SCRATCH2, rm_state(CPU_AT(s.seg[SEG_GS].base)));
    emit_store(e, SCRATCH1, rm_state(CPU_AT(s.seg[SEG_GS].base)));
    emit_store(e, SCRATCH1, rm_state(CPU_AT(seg_base[SEG_GS])));
    emit_store(e, SCRATCH2, rm_state(CPU_AT(s.kernel_gs_base)));
}

/* As cpu_tsc() has it; EDX:EAX. */
static void translate_rdtsc(Translation *t)
{
    Emit *e = &t->e;
    if (!cpu_has(t->cpu->model, CPU_TSC) || !tsc_host_is_invariant()) {
        call_handler_inline(t);
        return;
    }
    flags_to_slot(t, t->live[t->index]);
    if (t->user) {
        emit_op(e, 0xf7, 0, rm_state(CPU_AT(s.cr4))); /* test */
        e32(e, CR4_TSD);
        slow_if(t, CC_NE);
    }
    e8(e, 0x0f), e8(e, 0xae), e8(e, 0xe8); /* lfence */
    e8(e, 0x0f), e8(e, 0x31);
    emit_op(e, 0xc1 | OP_W, 4, rm_reg(HOST_RDX));
    e8(e, 32);
    emit_op(e, 0x09 | OP_W, HOST_RDX, rm_reg(HOST_RAX));
    emit_op(e, 0x03 | OP_W, HOST_RAX, rm_state(CPU_AT(tsc_offset)));
    emit_move(e, HOST_RDX, HOST_RAX);
    emit_op(e, 0xc1 | OP_W, 5, rm_reg(HOST_RDX));
    e8(e, 32);
    emit_op(e, 0x89, HOST_RAX, rm_reg(HOST_RAX));
}

/* MOV from CR2 and CR3 in 64-bit code. */
static void translate_read(Translation *t, Rm rm, uint32_t word)
{
    unsigned host = guest_in_memory(t->insn->rm) ? SCRATCH1 : guest_host(t->insn->rm);
    emit_op(&t->e, word, host, rm);
    guest_written(t, t->insn->rm, host);
}

/* ---- transfers ------------------------------------------------------------------------------ */

static void translate_transfer(Translation *t, const uint8_t *thunk)
{
    flags_to_slot(t, JIT_ALL_FLAGS);
    emit_constant(&t->e, SCRATCH1, t->rip + t->insn->rip_offset + t->insn->length);
    emit_call(&t->e, thunk);
    call_handler_inline(t);
}

void translate_system(Translation *t)
{
    const JitThunks *thunks = &t->jit->thunks;
    switch (t->op.kind) {
    case JIT_CLI:
        change_rflags(t, FLAG_IF, false);
        break;
    case JIT_STI:
        translate_sti(t);
        break;
    case JIT_CLD:
        change_rflags(t, FLAG_DF, false);
        break;
    case JIT_STD:
        change_rflags(t, FLAG_DF, true);
        break;
    case JIT_PUSHF:
        translate_pushf(t);
        break;
    case JIT_STAC:
        translate_set_ac(t, true);
        break;
    case JIT_CLAC:
        translate_set_ac(t, false);
        break;
    case JIT_SWAPGS:
        translate_swapgs(t);
        break;
    case JIT_RDTSC:
        translate_rdtsc(t);
        break;
    case JIT_READ_CR2:
        translate_read(t, rm_state(CPU_AT(s.cr2)), 0x8b | OP_W);
        break;
    case JIT_READ_CR3:
        translate_read(t, rm_state(CPU_AT(s.cr3)), 0x8b | OP_W);
        break;
    case JIT_READ_SEG:
        translate_read_segment(t);
        break;
    case JIT_PUSH_SEG:
        translate_push_segment(t);
        break;
    case JIT_LOAD_SEG:
        translate_load_segment(t);
        break;
    case JIT_STRING:
        translate_string(t);
        break;
    case JIT_REPEAT:
        translate_repeat(t);
        break;
    case JIT_STMXCSR:
        translate_stmxcsr(t);
        break;
    case JIT_FAR:
        translate_far(t);
        break;
    case JIT_SYSCALL:
        translate_transfer(t, thunks->syscall);
        break;
    case JIT_SYSRET:
        translate_transfer(t, thunks->sysret);
        break;
    case JIT_IRETQ:
        translate_transfer(t, thunks->iretq);
        break;
    default:
        g_assert_not_reached();
    }
}
