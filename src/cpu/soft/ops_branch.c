/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Near branches, and how one block leads to the next.
 *
 * The decoder leaves in a direct branch: imm = target - RIP of the block; vvvv = the instructions
 * of the block behind it; data = the linked block, valid while addr_mask equals the cache's
 * link_generation.
 */
#include "cpu/soft/block.h"
#include "cpu/soft/ops.h"

#define WORD_FORMS(op, form)                           \
    {                                                  \
        NULL, op##form##16, op##form##32, op##form##64 \
    }

/* #GP(0) on the branch when the target lies outside the code segment or is not canonical. */
static void branch_check(SoftCpu *cpu, const Insn *insn, uint64_t target)
{
    bool valid = cpu->code_size == 8 ? (int64_t)(target << 16) >> 16 == (int64_t)target
                                     : target <= cpu->s.seg[SEG_CS].limit;
    if (!valid)
        INSN_RAISE_GP0(cpu, insn);
}

/* The fast way failed: look the target up, and link the branch to it when both are on one page.
 * NULL: leave to the loop. */
static Block *branch_find(SoftCpu *cpu, const Insn *insn, uint64_t target, bool link)
{
    branch_check(cpu, insn, target);
    cpu->s.rip = target;
    cpu->insn = NULL;
    if (!block_may_chain(cpu))
        return NULL;
    Block *block = jump_find(cpu, target);
    if (!block || block->dead || !block_fits(cpu, block, target))
        return NULL;
    uint64_t here = code_linear(cpu, INSN_RIP(cpu, insn));
    if (link && !block->crossing && (here ^ code_linear(cpu, target)) < GUEST_PAGE_SIZE) {
        Insn *branch = (Insn *)insn;
        branch->data = block;
        branch->addr_mask = cpu->blocks->link_generation;
    }
    return block;
}

#define BRANCH_DIRECT(cpu, insn, target_)                                               \
    do {                                                                                \
        uint64_t to_ = (target_);                                                       \
        Block *next_ = (Block *)(insn)->data;                                           \
        if (__builtin_expect((insn)->addr_mask != (cpu)->blocks->link_generation ||     \
                                 !block_may_chain(cpu) || !block_fits(cpu, next_, to_), \
                             0)) {                                                      \
            next_ = branch_find(cpu, insn, to_, true);                                  \
            if (!next_)                                                                 \
                INSN_END(cpu);                                                          \
        }                                                                               \
        BLOCK_ENTER(cpu, next_, to_);                                                   \
    } while (0)

/* The target must have passed branch_check(): the table's keys tell canonical addresses apart. */
#define BRANCH_INDIRECT(cpu, insn, target_)                                                   \
    do {                                                                                      \
        uint64_t to_ = (target_);                                                             \
        Block *next_ = jump_find(cpu, to_);                                                   \
        if (__builtin_expect(!next_ || !block_may_chain(cpu) || !block_fits(cpu, next_, to_), \
                             0)) {                                                            \
            next_ = branch_find(cpu, insn, to_, false);                                       \
            if (!next_)                                                                       \
                INSN_END(cpu);                                                                \
        }                                                                                     \
        BLOCK_ENTER(cpu, next_, to_);                                                         \
    } while (0)

/* The sum is masked by the operand size. */
#define TARGET(bits)     ((uint##bits##_t)(cpu->s.gpr[GPR_BLOCK_RIP] + insn->imm))
#define TAKEN(cpu, insn) ((cpu)->insn_count -= (insn)->vvvv)

void op_block_end(SoftCpu *cpu, const Insn *insn)
{
    uint64_t rip = cpu->s.gpr[GPR_BLOCK_RIP] + insn->rip_offset;
    /* Running past the end of the segment is a fault of the next fetch, not of a branch: the loop
     * raises it. */
    if (insn->addr_mask == cpu->blocks->link_generation && block_may_chain(cpu) &&
        block_fits(cpu, insn->data, rip))
        BLOCK_ENTER(cpu, (Block *)insn->data, rip);
    rip &= cpu->rip_mask;
    cpu->s.rip = rip;
    cpu->insn = NULL;
    Block *next = block_may_chain(cpu) ? jump_find(cpu, rip) : NULL;
    if (!next || next->dead || !block_fits(cpu, next, rip))
        INSN_END(cpu);
    BLOCK_ENTER(cpu, next, rip);
}

#define JCC_SIZE(n, bits)                                       \
    static void jcc##n##_##bits(SoftCpu *cpu, const Insn *insn) \
    {                                                           \
        if (!flags_condition(cpu->flags, n))                    \
            INSN_NEXT(cpu, insn);                               \
        TAKEN(cpu, insn);                                       \
        BRANCH_DIRECT(cpu, insn, TARGET(bits));                 \
    }
#define JCC(n)      \
    JCC_SIZE(n, 16) \
    JCC_SIZE(n, 32) \
    JCC_SIZE(n, 64) \
    static const OpForms jcc_row##n = {WORD_FORMS(jcc##n, _)};
FLAGS_CONDITIONS(JCC)
#define JCC_ROW(n) &jcc_row##n,
const OpForms *const op_jcc[16] = {FLAGS_CONDITIONS(JCC_ROW)};

/* Counters are of the address size. LOOPE and LOOPNE look at ZF, too. */
#define LOOP_SIZE(name, bits, condition)                                              \
    static void name##bits(SoftCpu *cpu, const Insn *insn)                            \
    {                                                                                 \
        unsigned size = insn->addr_size;                                              \
        uint64_t mask = size == 8 ? UINT64_MAX : size == 4 ? UINT32_MAX : UINT16_MAX; \
        uint64_t count = (cpu->s.gpr[GPR_RCX] - 1) & mask;                            \
        bool taken = count && (condition);                                            \
        if (taken)                                                                    \
            branch_check(cpu, insn, TARGET(bits));                                    \
        reg_write_sized(cpu, GPR_RCX, size, count);                                   \
        if (!taken)                                                                   \
            INSN_NEXT(cpu, insn);                                                     \
        TAKEN(cpu, insn);                                                             \
        BRANCH_DIRECT(cpu, insn, TARGET(bits));                                       \
    }
#define LOOP(name, condition)      \
    LOOP_SIZE(name, 16, condition) \
    LOOP_SIZE(name, 32, condition) \
    LOOP_SIZE(name, 64, condition) \
    const OpForms op_##name = {WORD_FORMS(name, )};
LOOP(loop, true)
LOOP(loope, cpu->flags &NATIVE_ZF)
LOOP(loopne, !(cpu->flags & NATIVE_ZF))

#define JCXZ_SIZE(bits)                                                                           \
    static void jcxz##bits(SoftCpu *cpu, const Insn *insn)                                        \
    {                                                                                             \
        unsigned size = insn->addr_size;                                                          \
        if (cpu->s.gpr[GPR_RCX] & (size == 8 ? UINT64_MAX : size == 4 ? UINT32_MAX : UINT16_MAX)) \
            INSN_NEXT(cpu, insn);                                                                 \
        TAKEN(cpu, insn);                                                                         \
        BRANCH_DIRECT(cpu, insn, TARGET(bits));                                                   \
    }
JCXZ_SIZE(16)
JCXZ_SIZE(32)
JCXZ_SIZE(64)
const OpForms op_jcxz = {WORD_FORMS(jcxz, )};

/* In 64-bit mode the operand is always 64 bits wide and the stack flat. */
#define PUSH64(value)                            \
    do {                                         \
        uint64_t rsp_ = cpu->s.gpr[GPR_RSP] - 8; \
        mem_write64(cpu, insn, rsp_, value);     \
        cpu->s.gpr[GPR_RSP] = rsp_;              \
    } while (0)
#define PUSH32(value) stack_push32(cpu, insn, value)
#define PUSH16(value) stack_push16(cpu, insn, value)

#define BRANCH_SIZE(bits, type, stype, suffix)                            \
    static void jmp_rel##bits(SoftCpu *cpu, const Insn *insn)             \
    {                                                                     \
        BRANCH_DIRECT(cpu, insn, TARGET(bits));                           \
    }                                                                     \
    static void call_rel##bits(SoftCpu *cpu, const Insn *insn)            \
    {                                                                     \
        uint64_t target = TARGET(bits);                                   \
        if (insn->addr_mask != cpu->blocks->link_generation)              \
            branch_check(cpu, insn, target);                              \
        PUSH##bits(INSN_RIP(cpu, insn) + insn->length);                   \
        BRANCH_DIRECT(cpu, insn, target);                                 \
    }                                                                     \
    static void jmp_r##bits(SoftCpu *cpu, const Insn *insn)               \
    {                                                                     \
        type target = reg_read##bits(cpu, insn->rm);                      \
        branch_check(cpu, insn, target);                                  \
        BRANCH_INDIRECT(cpu, insn, target);                               \
    }                                                                     \
    static void jmp_m##bits(SoftCpu *cpu, const Insn *insn)               \
    {                                                                     \
        type target = mem_read##bits(cpu, insn, OPERAND(bits, MMU_READ)); \
        branch_check(cpu, insn, target);                                  \
        BRANCH_INDIRECT(cpu, insn, target);                               \
    }                                                                     \
    static void call_r##bits(SoftCpu *cpu, const Insn *insn)              \
    {                                                                     \
        type target = reg_read##bits(cpu, insn->rm);                      \
        branch_check(cpu, insn, target);                                  \
        PUSH##bits(INSN_RIP(cpu, insn) + insn->length);                   \
        BRANCH_INDIRECT(cpu, insn, target);                               \
    }                                                                     \
    static void call_m##bits(SoftCpu *cpu, const Insn *insn)              \
    {                                                                     \
        type target = mem_read##bits(cpu, insn, OPERAND(bits, MMU_READ)); \
        branch_check(cpu, insn, target);                                  \
        PUSH##bits(INSN_RIP(cpu, insn) + insn->length);                   \
        BRANCH_INDIRECT(cpu, insn, target);                               \
    }                                                                     \
    static void ret_imm##bits(SoftCpu *cpu, const Insn *insn)             \
    {                                                                     \
        type target = stack_peek##bits(cpu, insn);                        \
        branch_check(cpu, insn, target);                                  \
        stack_drop(cpu, (bits) / 8 + insn->imm);                          \
        BRANCH_INDIRECT(cpu, insn, target);                               \
    }
FLAGS_WORD_SIZES(BRANCH_SIZE)

#define RET_LEGACY(bits)                                     \
    static void ret##bits(SoftCpu *cpu, const Insn *insn)    \
    {                                                        \
        uint##bits##_t target = stack_peek##bits(cpu, insn); \
        branch_check(cpu, insn, target);                     \
        stack_drop(cpu, (bits) / 8);                         \
        BRANCH_INDIRECT(cpu, insn, target);                  \
    }
RET_LEGACY(16)
RET_LEGACY(32)
static void ret64(SoftCpu *cpu, const Insn *insn)
{
    uint64_t rsp = cpu->s.gpr[GPR_RSP];
    uint64_t target = mem_read64(cpu, insn, rsp);
    branch_check(cpu, insn, target);
    cpu->s.gpr[GPR_RSP] = rsp + 8;
    BRANCH_INDIRECT(cpu, insn, target);
}

const OpForms op_jmp_rel = {WORD_FORMS(jmp_rel, )};
const OpForms op_call_rel = {WORD_FORMS(call_rel, )};
const OpForms op_jmp_e = {WORD_FORMS(jmp_r, ), WORD_FORMS(jmp_m, )};
const OpForms op_call_e = {WORD_FORMS(call_r, ), WORD_FORMS(call_m, )};
const OpForms op_ret = {WORD_FORMS(ret, )};
const OpForms op_ret_imm = {WORD_FORMS(ret_imm, )};
