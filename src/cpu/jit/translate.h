/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A translation in the making, for translate.c, access.c, integer.c and simd.c.
 *
 * `now` is what is true at the end of the code written so far. Code out of line ("stubs") is
 * written after the last instruction, from what was true where it is jumped to and what is true
 * where it comes back.
 */
#pragma once

#include "cpu/jit/emit.h"
#include "cpu/jit/jit.h"
#include "cpu/jit/opcodes.h"

#define SCRATCH1  HOST_R9
#define SCRATCH2  HOST_R10
#define GUEST_RSP HOST_R11

typedef struct JitNow {
    bool host_flags; /* the arithmetic flags are in EFLAGS, else in the slot (or dead) */
    uint8_t fpu;     /* JIT_LIVE_* that are surely loaded */
} JitNow;

typedef enum StubKind { STUB_MISS, STUB_SLOW, STUB_EXIT, STUB_LOAD, STUB_POLL } StubKind;

typedef struct Stub {
    uint8_t kind;
    uint8_t insn; /* index */
    bool direct;  /* MISS: the address is to be computed from (base, disp), the code wants the
                     addend in r10 */
    uint8_t base;
    uint8_t bits; /* LOAD: JIT_LIVE_* */
    int32_t disp;
    JitSite *site;   /* MISS */
    uint8_t *from;   /* rel32 to patch */
    uint8_t *resume; /* MISS: the access, LOAD: behind the check, as executed */
    uint64_t target; /* EXIT, POLL: RIP */
    unsigned live;   /* EXIT: flags that the target may read */
    JitLink *link;   /* EXIT: `from` is its site, nothing else is to be done; or NULL */
    JitNow now;      /* where it is jumped to */
} Stub;

#define STUBS_MAX (BLOCK_MAX_INSNS * 8 + 8)

typedef struct Translation {
    Emit e;
    SoftCpu *cpu;
    JitCpu *jit;
    Block *block;
    JitBlock *result;
    uint64_t rip;
    bool mode64, user;
    bool ended;     /* the code does not go on */
    unsigned index; /* of the instruction being translated */
    const Insn *insn;
    JitOp op;
    JitNow now;
    JitOp ops[BLOCK_MAX_INSNS];
    uint8_t live[BLOCK_MAX_INSNS + 1];   /* flags live before each instruction, behind the last */
    JitNow at[BLOCK_MAX_INSNS + 1];      /* what is true before each */
    uint8_t *start[BLOCK_MAX_INSNS + 1]; /* its code, as executed */
    Stub stubs[STUBS_MAX];
    unsigned stub_count;
} Translation;

/* ---- registers ---- */

static inline bool guest_in_memory(unsigned guest)
{
    return guest >= GPR_R9 && guest <= GPR_R11;
}
static inline unsigned guest_host(unsigned guest)
{
    return guest == GPR_RSP ? GUEST_RSP : guest;
}
/* The host register that holds a guest register, which may be loaded into `scratch`. */
unsigned guest_read(Translation *t, unsigned guest, unsigned scratch);
/* After an instruction wrote the register that guest_read() gave. */
void guest_written(Translation *t, unsigned guest, unsigned host);

/* ---- flags: translate.c ---- */

/* EFLAGS are about to be lost: puts them into the slot if anybody still wants them. */
void flags_to_slot(Translation *t, unsigned live);
/* The next instruction wants them in EFLAGS. Only `temp` (HOST_NONE: nothing) may change. */
void flags_to_host(Translation *t, unsigned temp);
static inline bool op_needs_host_flags(const JitOp *op, unsigned live_after)
{
    return op->reads || (op->writes && live_after & ~op->kills);
}

/* ---- access.c ---- */

/* Address of the memory operand into SCRATCH1; SCRATCH2 changes. */
void address_of_operand(Translation *t, const Insn *insn);
/*
 * The checked operand. EFLAGS are lost. *ret_free is the scratch register that the operand does not
 * use. `align`: mask of address bits that must be 0.
 */
Rm access_operand(Translation *t, unsigned size, bool write, unsigned align, unsigned *ret_free);
/* The same of [guest RSP or RBP + disp] as the stack. */
Rm access_stack(Translation *t, unsigned base, int32_t disp, unsigned size, bool write,
                unsigned *ret_free);
/* Jcc to the handler of the whole instruction. */
void slow_if(Translation *t, unsigned condition);
void write_stubs(Translation *t);

/* ---- translate.c ---- */

Stub *new_stub(Translation *t, StubKind kind);
/* Calls the handler of the instruction in line. */
void call_handler_inline(Translation *t);
/* What a link does that goes nowhere yet. */
void write_unlinked(Translation *t, JitLink *link);
void exit_to(Translation *t, uint64_t target, unsigned live, bool poll);
/* SCRATCH1: target. Finds its translation or goes the slow way; then SCRATCH2 is the index for
 * jump_found(). */
void jump_lookup(Translation *t);
void jump_found(Translation *t);
unsigned live_at(Translation *t, uint64_t target);

/* ---- integer.c, simd.c, x87.c: one instruction ---- */

void translate_integer(Translation *t);
/* False: the handler must be called. */
bool translate_simd(Translation *t);
void translate_x87(Translation *t);

/* ---- thunks.c ---- */

/* C runs on a stack of its own. */
void emit_to_c_stack(Emit *e);
void emit_to_code_stack(Emit *e);

/* ---- fpu.c ---- */

/* The instruction needs JIT_LIVE_* `bits` loaded. EFLAGS are lost, and SCRATCH1 and 2. */
void fpu_need(Translation *t, unsigned bits);
/* Loads them, out of line, before instruction `index`. */
void fpu_write_load(Translation *t, unsigned bits, unsigned index);
/* What comes next sets FIP and FOP. */
void fpu_add_x87_site(Translation *t);
void fpu_write_save(Emit *e, JitThunks *thunks);
void fpu_write_loads(Emit *e, JitThunks *thunks);
