/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Arithmetic flags between instructions: in EFLAGS, in the slot, or to be had again.
 *
 * Page checks, calls and returns cost EFLAGS, and whether somebody reads them later is seldom known
 * there. So they are not saved where the instruction that made them could be executed once more
 * with the same result (JitRecipe): that is done out of line, where somebody does.
 */
#include "cpu/jit/translate.h"

#define FLAGS_LOAD_OF 0x7f /* flags.h */

/* ---- recipes ------------------------------------------------------------------------------------
 */

enum {
    OPERATION_ADD,
    OPERATION_OR,
    OPERATION_AND = 4,
    OPERATION_SUB,
    OPERATION_XOR,
    OPERATION_CMP
};

/* Two of these and a step of the stack still are a displacement. */
static bool is_near(int64_t by)
{
    return by == by << 34 >> 34;
}

/* Of an arithmetic operation into register `dest`; `set`: the registers that it reads. */
static JitRecipe recipe_of_operation(const Insn *insn, unsigned operation, unsigned dest,
                                     unsigned set, bool immediate)
{
    unsigned other = set & ~(1u << dest); /* none: both are one register */
    unsigned src = immediate ? GPR_NONE : other ? (unsigned)__builtin_ctz(other) : dest;
    JitRecipe recipe = {.dest = dest, .src = src, .regs = 1u << dest};
    switch (operation) {
    case OPERATION_CMP:
        recipe.how = JIT_RECIPE_AGAIN;
        recipe.regs = set;
        break;
    case OPERATION_OR:
    case OPERATION_AND:
    case OPERATION_XOR:
        recipe.how = JIT_RECIPE_TEST;
        break;
    case OPERATION_ADD:
    case OPERATION_SUB:
        if (insn->op_size >= 4 && src != dest && (!immediate || is_near((int64_t)insn->imm)))
            recipe.how = operation == OPERATION_ADD ? JIT_RECIPE_ADD : JIT_RECIPE_SUB;
        recipe.regs |= set;
        break;
    default:
        break;
    }
    return recipe;
}

/* Of a memory operand: nothing is written, or a whole register. */
static bool is_repeatable(const Insn *insn, const JitOp *op)
{
    unsigned opcode = insn->opcode, digit = insn->modrm >> 3 & 7;
    return op->kind == JIT_COPY && insn->map == MAP_ONE_BYTE &&
           ((opcode >= 0x38 && opcode < 0x3c) || (opcode & 0xfe) == 0x84 ||
            (opcode >= 0x80 && opcode < 0x84 && digit == OPERATION_CMP) ||
            ((opcode & 0xfe) == 0xf6 && digit < 2) ||
            ((opcode == 0x03 || opcode == 0x2b) && insn->op_size >= 4));
}

/* Whether EFLAGS as the instruction makes them are lost to a check, a call or a return while they
 * may still be read. */
static bool loses_flags(const Translation *t)
{
    for (unsigned i = t->index + 1; i < t->count; i++) {
        const JitOp *op = &t->ops[i];
        bool stack = op->kind >= JIT_PUSH && op->kind <= JIT_LEAVE;
        if (stack || (t->insns[i].flags & INSN_MEMORY && op->kind != JIT_LEA))
            return t->live[i] != 0;
        if (op->kills == JIT_ALL_FLAGS)
            return false;
        if (op->kind == JIT_RET || op->kind == JIT_CALL_REL || op->kind == JIT_JMP_E)
            return true;
    }
    return false;
}

bool flags_keep_operand(const Translation *t)
{
    const Insn *insn = t->insn;
    return is_repeatable(insn, &t->op) && !(t->op.reg && guest_in_memory(insn->reg)) &&
           !(t->op.reg && t->op.byte) && loses_flags(t);
}

/* OR, AND or XOR of it and a memory operand. */
static bool is_logic_on_register(const Insn *insn)
{
    unsigned operation = insn->opcode >> 3;
    return insn->opcode < 0x38 && (insn->opcode & 7) == 3 &&
           (operation == OPERATION_OR || operation == OPERATION_AND || operation == OPERATION_XOR);
}

/* How the flags that the instruction leaves can be had again, as long as the registers stand. */
static JitRecipe recipe_of(const Insn *insn, const JitOp *op)
{
    unsigned opcode = insn->opcode;
    unsigned rm = op->byte ? insn->rm / 8 : insn->rm, reg = op->byte ? insn->reg / 8 : insn->reg;
    JitRecipe none = {.how = JIT_RECIPE_NONE};
    if (insn->map != MAP_ONE_BYTE || op->kills != JIT_ALL_FLAGS)
        return none;
    if (insn->flags & INSN_MEMORY)
        return is_logic_on_register(insn)
                   ? (JitRecipe){.how = JIT_RECIPE_TEST, .dest = reg, .regs = 1u << reg}
                   : none;
    bool accumulator = op->kind == JIT_ACCUMULATOR, compares = op->rm == ROLE_READ || accumulator;
    if (accumulator && opcode >= 0xa8)
        return (JitRecipe){.how = JIT_RECIPE_AGAIN, .regs = 1u << GPR_RAX};
    if (op->kind != JIT_COPY && !accumulator)
        return none;
    if ((opcode & 0xfe) == 0x84 || ((opcode & 0xfe) == 0xf6 && (insn->modrm >> 3 & 7) < 2))
        return (JitRecipe){.how = JIT_RECIPE_AGAIN, .regs = 1u << rm | (op->reg ? 1u << reg : 0)};
    bool group = opcode >= 0x80 && opcode < 0x84;
    if (opcode >= 0x40 && !group)
        return none;
    unsigned operation = group ? insn->modrm >> 3 & 7 : opcode >> 3;
    if (op->byte && !(operation == OPERATION_CMP && compares))
        return none;
    if (accumulator)
        return recipe_of_operation(insn, operation, GPR_RAX, 1u << GPR_RAX, true);
    if (group)
        return recipe_of_operation(insn, operation, rm, 1u << rm, true);
    return recipe_of_operation(insn, operation, rm, 1u << rm | 1u << reg, false); /* JitOp.swap */
}

/* The registers of an instruction that has no other recipe but to be executed again, where that is
 * wanted; or none. What it overwrites is spilled before. */
static unsigned remade(const Translation *t)
{
    const Insn *insn = t->insn;
    const JitOp *op = &t->op;
    if (op->kind != JIT_COPY || insn->flags & INSN_MEMORY || op->reads ||
        op->kills != JIT_ALL_FLAGS || recipe_of(insn, op).how != JIT_RECIPE_NONE)
        return 0;
    unsigned regs = 1u << guest_number(insn->rm, op->byte) |
                    (op->reg ? 1u << guest_number(insn->reg, op->byte == 1) : 0);
    return regs >> GPR_RSP & 1 || !loses_flags(t) ? 0 : regs;
}

/* Whether it undoes an addition to a register that the instruction steps on. */
static bool recipe_moves(const Translation *t, const JitRecipe *recipe, unsigned written,
                         int64_t *ret_by)
{
    unsigned reg;
    return (recipe->how == JIT_RECIPE_ADD || recipe->how == JIT_RECIPE_SUB) &&
           jit_is_step(t->block->mode, t->insn, &t->op, &reg, ret_by) && reg == recipe->dest &&
           is_near(recipe->moved) && is_near(*ret_by) &&
           !(recipe->regs & ~recipe->spilled & written & ~(1u << reg)) &&
           !(recipe->spilled >> reg & 1);
}

static bool recipe_stands(const Translation *t, int64_t *ret_by)
{
    const JitRecipe *recipe = &t->now.recipe;
    unsigned written = jit_written(t->insn, &t->op);
    *ret_by = 0;
    return recipe->how != JIT_RECIPE_NONE && (!(recipe->regs & ~recipe->spilled & written) ||
                                              recipe_moves(t, recipe, written, ret_by));
}

void recipe_rsp_moved(JitRecipe *recipe, int64_t by)
{
    if (recipe->dest == GPR_RSP && !(recipe->spilled >> GPR_RSP & 1))
        recipe->moved += by;
}

void flags_spill(Translation *t, unsigned set)
{
    for (unsigned guest = 0; guest < 16; guest++) {
        if (set >> guest & 1)
            emit_store(&t->e, guest_read(t, guest, SCRATCH1),
                       rm_state(JIT_AT(spilled) + (int)guest * 8));
    }
}

void flags_before_insn(Translation *t)
{
    JitRecipe *recipe = &t->now.recipe;
    unsigned written = jit_written(t->insn, &t->op),
             lost = written & recipe->regs & ~recipe->spilled;
    int64_t by;
    if (!t->live[t->index])
        t->now.lazy = false;
    if (t->op.writes) {
        if (remade(t))
            flags_spill(t, written);
    } else if (recipe->how != JIT_RECIPE_NONE && !recipe_stands(t, &by) &&
               (t->now.host_flags || t->now.lazy) && t->live[t->index]) {
        flags_spill(t, lost);
        recipe->spilled |= lost;
    }
}

static JitRecipe new_recipe(const Translation *t)
{
    const JitOp *op = &t->op;
    unsigned regs = remade(t);
    JitRecipe recipe = recipe_of(t->insn, op);
    if (t->now.kept)
        recipe = (JitRecipe){.how = JIT_RECIPE_MEMORY,
                             .regs = op->reg ? 1u << t->insn->reg : 0,
                             .spilled = jit_written(t->insn, op)};
    else if (regs)
        recipe =
            (JitRecipe){.how = JIT_RECIPE_AGAIN, .regs = regs, .spilled = jit_written(t->insn, op)};
    recipe.index = t->index;
    return recipe;
}

void flags_after_insn(Translation *t)
{
    JitRecipe *recipe = &t->now.recipe;
    int64_t by;
    if (t->op.writes && t->now.host_flags) {
        *recipe = new_recipe(t);
        t->now.kept = false;
    } else if (recipe_stands(t, &by)) {
        recipe->moved += by;
        return;
    } else {
        recipe->how = JIT_RECIPE_NONE;
    }
    t->now.lazy = false;
}

/* The register as the addition found it, and the addition again. */
static void add_again(Translation *t, const JitRecipe *recipe)
{
    Emit *e = &t->e;
    const Insn *insn = &t->insns[recipe->index];
    uint32_t wide = insn->op_size == 8 ? OP_W : 0;
    bool sub = recipe->how == JIT_RECIPE_SUB, immediate = recipe->src == GPR_NONE;
    int64_t by = !immediate ? 0 : sub ? -(int64_t)insn->imm : (int64_t)insn->imm;
    unsigned host = guest_read(t, recipe->dest, SCRATCH1);
    emit_op(e, 0x8d | wide, SCRATCH1, rm_mem(host, (int32_t)(-recipe->moved - by)));
    if (immediate) {
        emit_op(e, 0x81 | wide, sub ? OPERATION_SUB : OPERATION_ADD, rm_reg(SCRATCH1));
        e32(e, insn->imm);
        return;
    }
    unsigned src = guest_read(t, recipe->src, SCRATCH2);
    emit_op(e, (sub ? 0x03 : 0x2b) | wide, SCRATCH1, rm_reg(src));
    emit_op(e, (sub ? 0x2b : 0x03) | wide, SCRATCH1, rm_reg(src));
}

/* Registers as they were spilled take the place of what they are now, and back. EFLAGS stay. */
static void swap_spilled(Translation *t, unsigned set, bool back)
{
    Emit *e = &t->e;
    for (unsigned guest = 0; guest < 16; guest++) {
        Rm now = rm_state(JIT_AT(swapped) + (int)guest * 8),
           then = rm_state(JIT_AT(spilled) + (int)guest * 8);
        if (!(set >> guest & 1))
            continue;
        unsigned host = guest_in_memory(guest) ? SCRATCH1 : guest_host(guest);
        if (!back)
            emit_store(e, guest_read(t, guest, host), now);
        emit_load(e, host, back ? now : then);
        guest_written(t, guest, host);
        scratch_lost(t, SCRATCH1);
    }
}

/* EFLAGS as the recipe says. SCRATCH1 and 2 change. */
static void recall(Translation *t)
{
    JitRecipe recipe = t->now.recipe;
    const Insn *insn = t->insn;
    JitOp op = t->op;
    unsigned index = t->index;
    t->index = recipe.index;
    t->insn = &t->insns[recipe.index];
    t->op = t->ops[recipe.index];
    t->now.lazy = false;
    scratches_lost(t);
    settle_rsp(t);
    swap_spilled(t, recipe.spilled, false);
    if (recipe.how == JIT_RECIPE_AGAIN) {
        translate_integer(t);
    } else if (recipe.how == JIT_RECIPE_MEMORY) {
        compare_kept(t);
    } else if (recipe.how == JIT_RECIPE_TEST) {
        unsigned host = guest_read(t, recipe.dest, SCRATCH1), size = t->insn->op_size;
        emit_op(&t->e, 0x85 | (size == 8 ? OP_W : size == 2 ? OP_66 : 0), host, rm_reg(host));
    } else {
        add_again(t, &recipe);
    }
    swap_spilled(t, recipe.spilled, true);
    t->index = index;
    t->insn = insn;
    t->op = op;
    t->now.host_flags = true;
    scratch_lost(t, SCRATCH1);
    t->now.recipe = recipe;
}

/* ---- where flags are ----------------------------------------------------------------------------
 */

static void save_flags(Translation *t)
{
    Emit *e = &t->e;
    scratch_lost(t, SCRATCH2);
    emit_move(e, SCRATCH2, HOST_RAX);
    e8(e, 0x9f);                                            /* lahf */
    emit_op(e, 0x90 | OP_0F | OP_RM8, 0, rm_reg(HOST_RAX)); /* seto */
    emit_op(e, 0x89 | OP_66, HOST_RAX, rm_state(CPU_AT(flags)));
    emit_move(e, HOST_RAX, SCRATCH2);
}

void flags_to_slot(Translation *t, unsigned live)
{
    if (t->now.lazy && t->now.recipe.how == JIT_RECIPE_RETURN)
        emit_call(&t->e, t->jit->thunks.recall);
    else if (t->now.lazy && live)
        recall(t);
    if (t->now.host_flags && live)
        save_flags(t);
    t->now.host_flags = t->now.lazy = false;
}

void flags_lost(Translation *t, unsigned live)
{
    int64_t by;
    if (!t->now.host_flags || !live || !recipe_stands(t, &by)) {
        if (!t->now.lazy || !live)
            flags_to_slot(t, live);
        return;
    }
    t->now.host_flags = false;
    t->now.lazy = true;
}

void flags_to_host(Translation *t, unsigned temp)
{
    Emit *e = &t->e;
    Rm slot = temp == HOST_NONE ? rm_state(JIT_AT(temp)) : rm_reg(temp);
    if (t->now.host_flags)
        return;
    if (t->now.lazy) {
        recall(t);
        return;
    }
    if (temp != HOST_NONE)
        scratch_lost(t, temp);
    emit_store(e, HOST_RAX, slot);
    emit_op(e, 0xb7 | OP_0F, HOST_RAX, rm_state(CPU_AT(flags))); /* movzx: as it was stored */
    e8(e, 0x04), e8(e, FLAGS_LOAD_OF);                           /* add al, 7f; sahf */
    e8(e, 0x9e);
    emit_load(e, HOST_RAX, slot);
    t->now.host_flags = true;
}
