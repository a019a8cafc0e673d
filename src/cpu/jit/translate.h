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
#define STATE     HOST_R15 /* the SoftCpu */

/*
 * How the arithmetic flags can be had again after EFLAGS were used for something else: by executing
 * the instruction that made them AGAIN (a comparison), by a TEST of its result, by an ADD or SUB to
 * what the register was before, by comparing again with what was in MEMORY. What overwrites one of
 * `regs` spills it. RETURN: as JitCpu.ret says.
 */
typedef struct JitRecipe {
    enum {
        JIT_RECIPE_NONE,
        JIT_RECIPE_AGAIN,
        JIT_RECIPE_TEST,
        JIT_RECIPE_ADD,
        JIT_RECIPE_SUB,
        JIT_RECIPE_MEMORY,
        JIT_RECIPE_RETURN
    } how;
    uint8_t index;          /* of the instruction */
    uint8_t dest, src;      /* guest registers, src GPR_NONE: an immediate */
    uint16_t regs, spilled; /* those in JitCpu.spilled */
    int64_t moved;          /* ADD, SUB: what was added to the register since */
} JitRecipe;

/* What a scratch register holds for later accesses: what is at `addend` from STATE (JitFact), 0:
 * nothing, plus a guest register, 0: none, else 1 + its number. */
typedef struct JitHeld {
    uint32_t addend;
    uint8_t base;
} JitHeld;

/* The arithmetic flags are in EFLAGS (host_flags), or to be had by the recipe (lazy), or else in
 * the slot, if anybody wants them. */
typedef struct JitNow {
    bool host_flags, lazy;
    bool kept;         /* the instruction put its memory operand into JitCpu.kept */
    JitRecipe recipe;  /* of either */
    uint8_t fpu;       /* JIT_LIVE_* that are surely loaded */
    uint8_t copied;    /* the guest register in memory that SCRATCH1 holds instead; 0: none */
    JitHeld held[2];   /* SCRATCH1, SCRATCH2 */
    int32_t rsp_moved; /* what GUEST_RSP lacks of RSP; 0 wherever a stub is jumped to from */
} JitNow;

/* A memory operand: base + (index << scale) + displacement, by guest register; base GPR_BLOCK_RIP:
 * displacement from the block's start. Of the linear address, without a segment's base. */
typedef struct JitAddress {
    uint8_t base, index, scale;
    int64_t disp;
} JitAddress;

typedef struct JitAccess {
    JitAddress at;
    unsigned size;
    bool write;
} JitAccess;
#define INSN_MAX_ACCESSES 2

/*
 * What a check has proved of the instructions behind it: [low, high) from the address (without its
 * displacement) lies in one page, which may be read (and written), and whose addend is at `addend`
 * from STATE. It holds while the registers do, up to the next call of a handler in line: whatever
 * takes rights away while translated code waits in C sets translation_stop.
 */
typedef struct JitFact {
    bool valid, write;
    JitAddress at;
    int64_t low, high;
    uint32_t addend;
    unsigned aligned; /* these bits of the address + aligned_at are 0 */
    int64_t aligned_at;
} JitFact;
#define FACTS_MAX 6
#define SPAN_MAX  128 /* what crosses a page is slower: one in 32 then, at random */

typedef enum StubKind {
    STUB_MISS,
    STUB_SLOW,
    STUB_EXIT,
    STUB_LOAD,
    STUB_FULL,
    STUB_OTHER,
    STUB_RECALL
} StubKind;

typedef struct Stub {
    uint8_t kind;
    uint8_t insn;    /* index */
    bool direct;     /* MISS: the address is to be computed from (base, disp), the code wants the
                        addend in r10 */
    bool mixed;      /* MISS: r9 is the address ^ the tag of the entry at r10 */
    uint8_t align;   /* MISS: bits of the address that must be 0 and may have been the cause */
    JitAddress at;   /* MISS, direct */
    uint8_t bits;    /* LOAD: JIT_LIVE_* */
    JitSite *site;   /* MISS */
    uint8_t *from;   /* rel32 to patch */
    uint8_t *resume; /* MISS: the access, LOAD, FULL: behind the check, as executed */
    uint64_t target; /* EXIT: RIP */
    bool guard;      /* EXIT: the guard of `link` failed */
    JitReturn *ret;  /* RECALL, OTHER */
    unsigned live;   /* EXIT: flags that the target may read */
    JitLink *link;   /* EXIT: `from` is its site, nothing else is to be done; or NULL */
    JitNow now;      /* where it is jumped to */
} Stub;

#define STUBS_MAX (BLOCK_MAX_INSNS * 8 + 16)

typedef struct Translation {
    Emit e;
    SoftCpu *cpu;
    JitCpu *jit;
    Block *block;
    JitBlock *result;
    uint64_t rip;
    bool mode64, user;
    bool segmented; /* segments.c */
    bool sited;     /* accesses have sites of their own */
    uint8_t stack_size;
    uint64_t code_base, code_limit; /* of CS */
    bool plain;                     /* no check serves more than one access */
    bool ended;                     /* the code does not go on */
    const Insn *insns;              /* what is translated: the block's, or rounds of a loop */
    unsigned count, round;          /* of those; of each round, 0: none */
    unsigned index;                 /* of the instruction being translated */
    const Insn *insn;
    JitOp op;
    JitNow now;
    JitOp ops[BLOCK_MAX_INSNS];
    Insn rounds[BLOCK_MAX_INSNS];
    uint8_t live[BLOCK_MAX_INSNS + 1];   /* flags live before each instruction, behind the last */
    JitNow at[BLOCK_MAX_INSNS + 1];      /* what is true before each */
    uint8_t *start[BLOCK_MAX_INSNS + 1]; /* its code, as executed */
    unsigned stub_count;
    JitFact facts[FACTS_MAX];
    unsigned next_fact;
    Stub stubs[STUBS_MAX]; /* large, and not cleared beforehand */
} Translation;

/* ---- registers ---- */

/* A field of SoftCpu or JitCpu: CPU_AT(), JIT_AT(). */
static inline Rm rm_state(int32_t disp)
{
    return rm_mem(STATE, disp);
}
static inline Rm rm_state_by(unsigned index, int32_t disp)
{
    return (Rm){.kind = RM_MEM, .base = STATE, .index = index, .disp = disp};
}
/* Of a register operand; byte operands are offsets in gpr[]. */
static inline unsigned guest_number(unsigned operand, bool byte)
{
    return byte ? operand / 8 : operand;
}
static inline bool guest_in_memory(unsigned guest)
{
    return (guest >= GPR_R9 && guest <= GPR_R11) || guest == GPR_R15;
}
static inline unsigned guest_host(unsigned guest)
{
    static const uint8_t hosts[] = {
        HOST_RAX, HOST_RCX,  HOST_RDX,  HOST_RBX,  GUEST_RSP, HOST_RBP, HOST_RSI, HOST_RDI,
        HOST_R8,  HOST_NONE, HOST_NONE, HOST_NONE, HOST_R12,  HOST_R13, HOST_R14, HOST_NONE,
    };
    return hosts[guest];
}
/* A scratch register is about to be something else. */
static inline void scratch_lost(Translation *t, unsigned scratch)
{
    t->now.held[scratch - SCRATCH1] = (JitHeld){0};
    if (scratch == SCRATCH1)
        t->now.copied = 0;
}
static inline void scratches_lost(Translation *t)
{
    scratch_lost(t, SCRATCH1);
    scratch_lost(t, SCRATCH2);
}
/* GUEST_RSP is RSP. EFLAGS stay. */
void settle_rsp(Translation *t);
/* The host register that holds a guest register, which may be loaded into `scratch`. */
unsigned guest_read(Translation *t, unsigned guest, unsigned scratch);
/* After an instruction wrote the register that guest_read() gave. */
void guest_written(Translation *t, unsigned guest, unsigned host);

/* ---- flags.c ---- */

/* Puts the flags into the slot if anybody still wants them; SCRATCH1 and 2 and EFLAGS change. */
void flags_to_slot(Translation *t, unsigned live);
/* EFLAGS are about to be lost: they can be had again, or are put into the slot. */
void flags_lost(Translation *t, unsigned live);
/* The next instruction wants them in EFLAGS. Only `temp` (HOST_NONE: nothing) may change; when they
 * were lazy, SCRATCH1 and 2 do. */
void flags_to_host(Translation *t, unsigned temp);
/* Whether an operation with memory should keep the operand, since EFLAGS will be lost while
 * somebody may read them. */
bool flags_keep_operand(const Translation *t);
/* Keeps guest registers that the instruction is about to write, for its recipe. EFLAGS stay. */
void flags_spill(Translation *t, unsigned set);
/* RSP moves within the instruction, before the flags are lost for good. */
void recipe_rsp_moved(JitRecipe *recipe, int64_t by);
/* Around each instruction. */
void flags_before_insn(Translation *t);
void flags_after_insn(Translation *t);
static inline bool op_needs_host_flags(const JitOp *op, unsigned live_after)
{
    return op->reads || (op->writes && live_after & ~op->kills);
}

/* ---- access.c ---- */

static inline bool has_base(const Insn *insn)
{
    return insn->segment == SEG_FS || insn->segment == SEG_GS;
}
/* The offset of [at] in its segment into SCRATCH1; SCRATCH2 changes if the index is in memory.
 * EFLAGS stay. */
void emit_offset(Translation *t, JitAddress at, unsigned addr_size);
/* That of the memory operand. */
void address_of_operand(Translation *t, const Insn *insn);
/*
 * The checked operand. EFLAGS are lost, or stay where they are. *ret_free is the scratch register
 * that the operand does not use. `align`: mask of address bits that must be 0.
 */
Rm access_operand(Translation *t, unsigned size, bool write, unsigned align, unsigned *ret_free);
/* The same of [guest register + disp] as the stack. */
Rm access_stack(Translation *t, unsigned guest, int32_t disp, unsigned size, bool write,
                unsigned *ret_free);
/* The same of [guest register] in a segment, of the instruction's address size; for segments.c. */
Rm access_index(Translation *t, unsigned guest, unsigned segment, unsigned size, bool write,
                unsigned *ret_free);
/* The same of what an opcode names by its immediate. */
Rm access_constant(Translation *t, unsigned size, bool write, unsigned *ret_free);
/* SCRATCH1: an address; then SCRATCH2 is its entry in the TLB. EFLAGS are lost. */
void emit_find_entry(Translation *t);
/* The accesses of an instruction that are made by the first two of these. */
unsigned find_accesses(const Translation *t, unsigned i, JitAccess *ret);
/* How much the address moves when a register becomes one more. */
static inline int64_t jit_steps_by(const JitAddress *at, unsigned reg)
{
    return (at->base == reg) + (at->index == reg ? INT64_C(1) << at->scale : 0);
}
/* Whether the address changes when one of a set of registers does. */
bool depends_on(const JitAddress *at, unsigned set);
/* Whether nothing is known of addresses behind the instruction: its handler is called for sure. */
bool is_barrier(const JitOp *op);
/* Jcc to the handler of the whole instruction. */
void slow_if(Translation *t, unsigned condition);
/* Takes back what the instruction t->insn makes untrue; a handler may change anything. */
void facts_after_insn(Translation *t);
void facts_forget(Translation *t);
void write_stubs(Translation *t);

/* ---- translate.c ---- */

/* May write code that leaves EFLAGS alone: settle_rsp(). */
Stub *new_stub(Translation *t, StubKind kind);
/* Calls the handler of the instruction in line. */
void call_handler_inline(Translation *t);
/* What a link does that goes nowhere yet. */
void write_unlinked(Translation *t, JitLink *link);
/* Where the code written so far ends, in the code area. */
uint32_t code_offset(const Translation *t);
/* Goes on at instruction `index` in a plain translation; flags are in the slot. */
void exit_to_plain(Translation *t, unsigned index);
void exit_to(Translation *t, uint64_t target, unsigned live);
/* An indirect branch that goes elsewhere than was guessed. */
void write_other(Translation *t, const Stub *stub);
/* SCRATCH1: target. Finds its translation or goes the slow way; then SCRATCH2 is the index for
 * jump_found(). */
void jump_lookup(Translation *t);
void jump_found(Translation *t);
unsigned live_at(Translation *t, uint64_t target);

/* ---- integer.c, simd.c, x87.c: one instruction ---- */

void translate_integer(Translation *t);
/* The comparison t->insn, with JitCpu.kept instead of memory. */
void compare_kept(Translation *t);
/* False: the handler must be called. */
bool translate_simd(Translation *t);
/* JIT_LIVE_* that the instruction needs; 0 too where its handler is called. */
unsigned simd_fpu_bits(const Translation *t, const Insn *insn);
void translate_x87(Translation *t);

/* ---- segments.c ---- */

typedef struct SegmentAccess {
    JitAddress at;
    unsigned size;
    bool write;
    uint8_t segment, addr_size;
} SegmentAccess;
/* Its linear address into SCRATCH1, if the segment allows it; else the handler executes the
 * instruction. SCRATCH2 and EFLAGS are lost. */
void emit_segment_linear(Translation *t, const SegmentAccess *access);
/* The stack pointer becomes host register `base` + `by`, GUEST_RSP perhaps later. In a stack of 16
 * bits EFLAGS are lost. */
void move_stack(Translation *t, unsigned base, int32_t by);
/* The handler executes the branch if its target, in SCRATCH1, lies outside of the code segment. */
void check_target(Translation *t);
/* One instruction. */
void translate_counted(Translation *t, uint64_t target);
void translate_far(Translation *t);
void translate_read_segment(Translation *t);
void translate_push_segment(Translation *t);
void translate_load_segment(Translation *t);
void translate_string(Translation *t);

/* ---- loops.c ---- */

/* Has a loop, classified, translated as several rounds of it, where one check serves them. */
void unroll(Translation *t);
/* By how much a round moves the address; INT64_MAX: nobody knows. */
int64_t step_of_round(const Translation *t, unsigned round, const JitAddress *at);
/* Index in the block of what is translated. */
static inline unsigned index_in_block(const Translation *t, unsigned index)
{
    return t->round ? index % t->round : index;
}

/* ---- strings.c ---- */

void translate_repeat(Translation *t);

/* ---- thunks.c ---- */

/* SCRATCH1: RIP → SCRATCH2: where its JitJump is from the first. */
void emit_jump_entry(Emit *e);
/* C runs on a stack of its own. */
void emit_to_c_stack(Emit *e);
void emit_to_code_stack(Emit *e);

/* ---- fpu.c ---- */

/* The instruction needs JIT_LIVE_* `bits` loaded. EFLAGS are lost, and SCRATCH1 and 2. */
void fpu_need(Translation *t, unsigned bits);
/* Loads them, out of line, before instruction `index`. */
void fpu_write_load(Translation *t, unsigned bits, unsigned index);
void translate_stmxcsr(Translation *t);
/* What comes next sets FIP and FOP. */
void fpu_add_x87_site(Translation *t);
void fpu_write_save(Emit *e, JitThunks *thunks);
void fpu_write_loads(Emit *e, JitThunks *thunks);
