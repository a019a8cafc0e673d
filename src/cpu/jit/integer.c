/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Integer instructions: mostly the guest's own opcode with the operands rewritten. */
#include "cpu/jit/translate.h"
#include "cpu/soft/ops.h"

static uint32_t size_bits(unsigned size)
{
    return size == 8 ? OP_W : size == 2 ? OP_66 : 0;
}

static void emit_immediate(Translation *t, unsigned bytes, unsigned op_size, uint64_t value)
{
    Emit *e = &t->e;
    if (bytes == 1 || op_size == 1) {
        e8(e, value);
    } else if (op_size == 2) {
        e8(e, value);
        e8(e, value >> 8);
    } else {
        e32(e, value);
    }
}

/* ---- operands -----------------------------------------------------------------------------------
 */

static unsigned read_operand(Translation *t, unsigned operand, bool byte, unsigned scratch)
{
    unsigned host = guest_read(t, guest_number(operand, byte), scratch);
    return byte && operand & 1 ? HOST_HIGH + 4 + host : host;
}

static void written_operand(Translation *t, unsigned operand, bool byte, unsigned host)
{
    guest_written(t, guest_number(operand, byte), host);
}

/* ---- the common case ----------------------------------------------------------------------------
 */

/* BSF or BSR: F3 may stand there for CPUs without TZCNT and LZCNT. */
static bool is_plain_scan(const Insn *insn)
{
    for (unsigned i = 0; i < 4; i++) {
        if (insn->fn == op_bsf.reg[i] || insn->fn == op_bsf.mem[i] || insn->fn == op_bsr.reg[i] ||
            insn->fn == op_bsr.mem[i])
            return true;
    }
    return false;
}

static uint32_t opcode_word(const Insn *insn, const JitOp *op)
{
    uint32_t word = insn->opcode | (uint32_t)insn->map << OP_MAP_SHIFT | size_bits(insn->op_size);
    if (insn->map == MAP_ONE_BYTE && insn->opcode == 0x82) /* 32-bit code's alias */
        word -= 2;
    if (op->byte)
        word |= op->byte == 2 ? OP_RM8 : OP_REG8 | OP_RM8;
    if (op->byte == 1)
        word &= ~(uint32_t)(OP_W | OP_66);
    if (insn->prefixes & PREFIX_LOCK)
        word |= OP_LOCK;
    if (insn->map == MAP_0F &&
        (insn->opcode == 0xb8 || insn->opcode == 0xbc || insn->opcode == 0xbd) &&
        insn->prefixes & PREFIX_REPE && !is_plain_scan(insn))
        word |= OP_F3;
    if (insn->map == MAP_0F38) /* CRC32, ADOX, ADCX; MOVBE has none */
        word |= insn->prefixes & PREFIX_REPNE  ? OP_F2
                : insn->prefixes & PREFIX_REPE ? OP_F3
                : insn->opcode == 0xf6         ? OP_66
                                               : 0;
    if (op->reg == ROLE_NONE) /* a digit, not a register */
        word &= ~(uint32_t)OP_REG8;
    return word;
}

static unsigned digit(const Insn *insn, const JitOp *op)
{
    return insn->map == MAP_0F && insn->opcode >= 0x90 && insn->opcode < 0xa0
               ? 0
               : insn->modrm >> 3 & 7;
}

/* The bytes that make an operand locked are those of one cache line, or the handler sees to it. */
static unsigned lock_alignment(const Insn *insn, unsigned size)
{
    bool exchange = insn->map == MAP_ONE_BYTE && (insn->opcode == 0x86 || insn->opcode == 0x87);
    bool pair = insn->map == MAP_0F && insn->opcode == 0xc7; /* of 16 bytes: must be aligned */
    return insn->prefixes & PREFIX_LOCK || exchange || pair ? size - 1 : 0;
}

static void finish_copy(Translation *t, uint32_t word, unsigned reg, Rm rm)
{
    const JitOp *op = &t->op;
    emit_op(&t->e, word, op->reg == ROLE_NONE ? digit(t->insn, op) : reg, rm);
    if (op->imm)
        emit_immediate(t, op->imm, op->byte == 1 ? 1 : t->insn->op_size, t->insn->imm);
    if (op->writes)
        t->now.host_flags = true;
}

/* The memory operand goes into a register, and to where the flags' recipe finds it. */
static Rm keep_operand(Translation *t, Rm rm, unsigned size, unsigned free)
{
    Emit *e = &t->e;
    if (size < 4)
        emit_op(e, (size == 1 ? 0xb6 : 0xb7) | OP_0F, free, rm); /* movzx */
    else
        emit_op(e, 0x8b | size_bits(size), free, rm);
    emit_store(e, free, rm_state(JIT_AT(kept)));
    if (t->op.reg & ROLE_WRITE)
        flags_spill(t, 1u << t->insn->reg);
    t->now.kept = true;
    scratch_lost(t, SCRATCH1);
    scratch_lost(t, free);
    return rm_reg(free);
}

/* Of CMPXCHG AL is an operand, too; and of others the address may be. */
static bool may_swap_halves(const Translation *t)
{
    const Insn *insn = t->insn;
    unsigned guest = insn->reg / 8;
    return (insn->map != MAP_0F || insn->opcode != 0xb0) &&
           (t->segmented || (insn->base != guest && insn->index != guest));
}

/* AH beside an operand that needs a REX: AL stands for it. EFLAGS stay. */
static void swap_halves(Translation *t, unsigned host)
{
    emit_op(&t->e, 0x86 | OP_REG8 | OP_RM8, host, rm_reg(HOST_HIGH + 4 + host)); /* xchg */
}

static void copy_memory(Translation *t, uint32_t word)
{
    const Insn *insn = t->insn;
    const JitOp *op = &t->op;
    bool reg_byte = op->byte == 1, high = op->reg && reg_byte && insn->reg & 1;
    unsigned size = op->memory ? op->memory : op->byte == 1 ? 1 : insn->op_size, free, reg = 0;
    if (high && !may_swap_halves(t)) {
        call_handler_inline(t);
        return;
    }
    Rm rm = access_operand(t, size, op->rm & ROLE_WRITE, lock_alignment(insn, size), &free);
    if (op->reg)
        reg = op->reg == ROLE_WRITE && insn->op_size >= 4 && !reg_byte && guest_in_memory(insn->reg)
                  ? free
              : high ? guest_host(insn->reg / 8)
                     : read_operand(t, insn->reg, reg_byte, free);
    if (op_needs_host_flags(op, t->live[t->index + 1]))
        flags_to_host(t, HOST_NONE);
    if (flags_keep_operand(t))
        rm = keep_operand(t, rm, size, free);
    if (high)
        swap_halves(t, reg);
    finish_copy(t, word, reg, rm);
    if (high)
        swap_halves(t, reg);
    if (op->reg & ROLE_WRITE)
        written_operand(t, insn->reg, reg_byte, reg);
}

void compare_kept(Translation *t)
{
    const Insn *insn = t->insn;
    unsigned reg = t->op.reg ? read_operand(t, insn->reg, t->op.byte == 1, SCRATCH1) : 0;
    finish_copy(t, opcode_word(insn, &t->op), reg, rm_state(JIT_AT(kept)));
}

static void copy_registers(Translation *t, uint32_t word)
{
    const Insn *insn = t->insn;
    const JitOp *op = &t->op;
    bool reg_byte = op->byte == 1, rm_byte = op->byte;
    unsigned rm_role = op->swap ? op->reg : op->rm, reg_role = op->swap ? op->rm : op->reg;
    if (op->swap)
        word &= ~(uint32_t)2;
    /* Decided before anything is written. */
    unsigned rm_host = guest_in_memory(guest_number(insn->rm, rm_byte))
                           ? SCRATCH1
                           : guest_host(guest_number(insn->rm, rm_byte));
    unsigned reg_host = guest_in_memory(guest_number(insn->reg, reg_byte))
                            ? SCRATCH2
                            : guest_host(guest_number(insn->reg, reg_byte));
    if (rm_byte && insn->rm & 1)
        rm_host += HOST_HIGH + 4;
    if (op->reg && reg_byte && insn->reg & 1)
        reg_host += HOST_HIGH + 4;
    if (!emit_possible(word, op->reg ? reg_host : 0, rm_reg(rm_host))) {
        call_handler_inline(t);
        return;
    }
    if (op_needs_host_flags(op, t->live[t->index + 1]))
        flags_to_host(t, SCRATCH1);
    bool whole = insn->op_size >= 4 && !rm_byte; /* what is written then needs not be read */
    if (rm_role != ROLE_WRITE || !whole)
        read_operand(t, insn->rm, rm_byte, SCRATCH1);
    if (op->reg && (reg_role != ROLE_WRITE || !whole))
        read_operand(t, insn->reg, reg_byte, SCRATCH2);
    if (rm_host == SCRATCH1 && rm_role & ROLE_WRITE)
        scratch_lost(t, SCRATCH1);
    if (reg_host == SCRATCH2)
        scratch_lost(t, SCRATCH2);
    finish_copy(t, word, reg_host, rm_reg(rm_host));
    if (op->reg && reg_role & ROLE_WRITE)
        written_operand(t, insn->reg, reg_byte, reg_host);
    if (rm_role & ROLE_WRITE) /* the last word when both are one register (XADD) */
        written_operand(t, insn->rm, rm_byte, rm_host);
}

static void translate_copy(Translation *t)
{
    uint32_t word = opcode_word(t->insn, &t->op);
    if (t->insn->flags & INSN_MEMORY)
        copy_memory(t, word);
    else
        copy_registers(t, word);
}

/* ---- the others ---------------------------------------------------------------------------------
 */

static void translate_accumulator(Translation *t)
{
    const Insn *insn = t->insn;
    bool test = insn->opcode >= 0xa8;
    uint32_t word = (test ? 0xf6 : 0x80) | (t->op.byte ? 0 : 1 | size_bits(insn->op_size));
    unsigned operation = test ? 0 : insn->opcode >> 3 & 7;
    if (op_needs_host_flags(&t->op, t->live[t->index + 1]))
        flags_to_host(t, SCRATCH1);
    if (!t->op.byte && !test && (int64_t)insn->imm == (int8_t)insn->imm) {
        emit_op(&t->e, word | 2, operation, rm_reg(HOST_RAX)); /* 83 */
        e8(&t->e, insn->imm);
    } else {
        emit_op(&t->e, word, operation, rm_reg(HOST_RAX));
        emit_immediate(t, 4, t->op.byte ? 1 : insn->op_size, insn->imm);
    }
    t->now.host_flags = true;
}

static void translate_move_imm(Translation *t)
{
    const Insn *insn = t->insn;
    Emit *e = &t->e;
    if (insn->opcode < 0xb8) {
        unsigned host = read_operand(t, insn->rm, true, SCRATCH1);
        emit_op(e, 0xc6 | OP_RM8, 0, rm_reg(host));
        e8(e, insn->imm);
        written_operand(t, insn->rm, true, host);
        return;
    }
    if (insn->op_size == 2) {
        unsigned host = guest_read(t, insn->rm, SCRATCH1);
        emit_op(e, 0xc7 | OP_66, 0, rm_reg(host));
        emit_immediate(t, 4, 2, insn->imm);
        guest_written(t, insn->rm, host);
        return;
    }
    unsigned host = guest_in_memory(insn->rm) ? SCRATCH1 : guest_host(insn->rm);
    emit_constant(e, host, insn->op_size == 4 ? (uint32_t)insn->imm : insn->imm);
    guest_written(t, insn->rm, host);
}

static void translate_move_offset(Translation *t)
{
    unsigned size = t->op.byte ? 1 : t->insn->op_size, free;
    bool write = t->insn->opcode >= 0xa2;
    Rm rm = access_constant(t, size, write, &free);
    uint32_t word = (write ? 0x88 : 0x8a) | (size == 1 ? OP_REG8 : 1 | size_bits(size));
    emit_op(&t->e, word, HOST_RAX, rm);
}

static void translate_exchange(Translation *t)
{
    unsigned host = guest_read(t, t->insn->rm, SCRATCH1);
    emit_op(&t->e, 0x87 | size_bits(t->insn->op_size), HOST_RAX, rm_reg(host));
    guest_written(t, t->insn->rm, host);
}

static void translate_step(Translation *t)
{
    if (op_needs_host_flags(&t->op, t->live[t->index + 1]))
        flags_to_host(t, SCRATCH1);
    emit_op(&t->e, 0xff | size_bits(t->insn->op_size), t->insn->opcode >> 3 & 1,
            rm_reg(guest_host(t->insn->rm)));
    t->now.host_flags = true;
}

static void translate_swap_bytes(Translation *t)
{
    const Insn *insn = t->insn;
    if (insn->op_size == 2) {
        call_handler_inline(t);
        return;
    }
    unsigned host = guest_read(t, insn->rm, SCRATCH1),
             rex = (insn->op_size == 8 ? 8 : 0) | (host & 8 ? 1 : 0);
    if (rex)
        e8(&t->e, 0x40 | rex);
    e8(&t->e, 0x0f), e8(&t->e, 0xc8 | (host & 7));
    guest_written(t, insn->rm, host);
}

static void translate_plain(Translation *t)
{
    const Insn *insn = t->insn;
    if (op_needs_host_flags(&t->op, t->live[t->index + 1]))
        flags_to_host(t, SCRATCH1);
    if (insn->opcode == 0x98 || insn->opcode == 0x99) {
        if (insn->op_size != 4)
            e8(&t->e, insn->op_size == 8 ? 0x48 : 0x66);
    }
    e8(&t->e, insn->opcode);
    if (t->op.writes)
        t->now.host_flags = true;
}

static void translate_lea(Translation *t)
{
    const Insn *insn = t->insn;
    Emit *e = &t->e;
    scratch_lost(t, SCRATCH2);
    address_of_operand(t, insn);
    unsigned host = insn->op_size == 2           ? guest_read(t, insn->reg, SCRATCH2)
                    : guest_in_memory(insn->reg) ? SCRATCH2
                                                 : guest_host(insn->reg);
    emit_op(e, 0x8b | size_bits(insn->op_size), host, rm_reg(SCRATCH1));
    guest_written(t, insn->reg, host);
}

/* LEA of plain registers goes straight. */
static bool translate_lea_directly(Translation *t)
{
    const Insn *insn = t->insn;
    if (insn->op_size == 2 || insn->base == GPR_BLOCK_RIP || guest_in_memory(insn->reg) ||
        insn->addr_size == 2 || guest_in_memory(insn->base) || guest_in_memory(insn->index) ||
        insn->base == GPR_NONE)
        return false;
    Rm rm = {.kind = RM_MEM,
             .base = guest_host(insn->base),
             .index = HOST_NONE,
             .scale = insn->scale,
             .disp = insn->disp};
    if (insn->index != GPR_NONE)
        rm.index = guest_host(insn->index);
    emit_op(&t->e, 0x8d | (insn->op_size == 8 && insn->addr_size == 8 ? OP_W : 0),
            guest_host(insn->reg), rm);
    return true;
}

/* ---- stack --------------------------------------------------------------------------------------
 */

static void translate_push(Translation *t)
{
    const Insn *insn = t->insn;
    unsigned size = insn->op_size, free;
    Rm rm = access_stack(t, GPR_RSP, -(int)size, size, true, &free);
    if (t->op.kind == JIT_PUSH_IMM) {
        emit_op(&t->e, 0xc7 | size_bits(size), 0, rm);
        emit_immediate(t, 4, size, insn->imm);
    } else {
        emit_op(&t->e, 0x89 | size_bits(size), guest_read(t, insn->rm, free), rm);
    }
    move_stack(t, GUEST_RSP, -(int)size);
}

static void translate_push_memory(Translation *t)
{
    unsigned size = t->insn->op_size, free;
    Rm rm = access_operand(t, size, false, 0, &free);
    emit_op(&t->e, 0x8b | size_bits(size), SCRATCH1, rm);
    emit_store(&t->e, SCRATCH1, rm_state(JIT_AT(temp)));
    scratch_lost(t, SCRATCH1);
    rm = access_stack(t, GPR_RSP, -(int)size, size, true, &free);
    emit_load(&t->e, free, rm_state(JIT_AT(temp)));
    emit_op(&t->e, 0x89 | size_bits(size), free, rm);
    move_stack(t, GUEST_RSP, -(int)size);
}

static void translate_pop(Translation *t)
{
    unsigned size = t->insn->op_size, free, guest = t->insn->rm;
    if (guest == GPR_RSP && t->segmented) { /* it moves, then a part of it is overwritten */
        call_handler_inline(t);
        return;
    }
    Rm rm = access_stack(t, GPR_RSP, 0, size, false, &free);
    unsigned host = guest_in_memory(guest) ? free : guest_host(guest);
    emit_op(&t->e, 0x8b | size_bits(size), host, rm);
    guest_written(t, guest, host);
    if (guest != GPR_RSP)
        move_stack(t, GUEST_RSP, size);
}

static void translate_leave(Translation *t)
{
    unsigned size = t->insn->op_size, free;
    Rm rm = access_stack(t, GPR_RBP, 0, size, false, &free);
    move_stack(t, HOST_RBP, size);
    emit_op(&t->e, 0x8b | size_bits(size), HOST_RBP, rm);
}

/* ---- division -----------------------------------------------------------------------------------
 */

/* What may raise #DE, or is merely unusual, is left to the handler. */
static void translate_divide(Translation *t)
{
    const Insn *insn = t->insn;
    Emit *e = &t->e;
    uint32_t wide = size_bits(insn->op_size);
    bool with_sign = t->op.kind == JIT_DIVIDE_SIGNED;
    unsigned free;
    flags_to_slot(t, t->live[t->index]);
    if (insn->flags & INSN_MEMORY)
        emit_op(e, 0x8b | wide, SCRATCH1, access_operand(t, insn->op_size, false, 0, &free));
    else
        emit_op(e, 0x8b | wide, SCRATCH1, rm_reg(guest_read(t, insn->rm, SCRATCH1)));
    if (with_sign) {
        emit_op(e, 0x89 | wide, HOST_RAX, rm_reg(SCRATCH2)); /* the dividend fits its half … */
        emit_op(e, 0xc1 | wide, 7, rm_reg(SCRATCH2));
        e8(e, insn->op_size * 8 - 1);
        emit_op(e, 0x3b | wide, SCRATCH2, rm_reg(HOST_RDX));
        slow_if(t, CC_NE);
        emit_op(e, 0x8d | wide, SCRATCH2,
                rm_mem(SCRATCH1, 1)); /* … and the divisor is neither 0 nor -1 */
        emit_op(e, 0x83 | wide, 7, rm_reg(SCRATCH2));
        e8(e, 1);
        slow_if(t, CC_BE);
    } else {
        emit_op(e, 0x3b | wide, HOST_RDX, rm_reg(SCRATCH1));
        slow_if(t, CC_AE);
    }
    if (op_needs_host_flags(&t->op, t->live[t->index + 1]))
        flags_to_host(t, SCRATCH2);
    emit_op(e, 0xf7 | wide, with_sign ? 7 : 6, rm_reg(SCRATCH1));
    t->now.host_flags = true;
}

/* ---- VEX on general registers
 * --------------------------------------------------------------------- */

static void translate_bmi(Translation *t)
{
    const Insn *insn = t->insn;
    bool memory = insn->flags & INSN_MEMORY, group = insn->opcode == 0xf3,
         mulx = insn->opcode == 0xf6, rorx = insn->map == MAP_0F3A;
    uint32_t word = insn->opcode | (uint32_t)insn->map << OP_MAP_SHIFT |
                    (insn->rex & REX_W && t->mode64 ? OP_W : 0);
    word |= insn->prefixes & PREFIX_REPE     ? OP_F3
            : insn->prefixes & PREFIX_REPNE  ? OP_F2
            : insn->prefixes & PREFIX_OPSIZE ? OP_66
                                             : 0;
    unsigned target = group ? insn->vvvv : insn->reg, free = SCRATCH2;
    Rm rm;
    if (memory)
        rm = access_operand(t, insn->op_size, false, 0, &free);
    if (op_needs_host_flags(&t->op, t->live[t->index + 1]))
        flags_to_host(t, HOST_NONE);
    if (!memory)
        rm = rm_reg(guest_read(t, insn->rm, SCRATCH1));
    unsigned host = guest_in_memory(target) ? free : guest_host(target), vvvv = 0;
    if (group)
        vvvv = host;
    else if (mulx) /* writes both at last, so they may be those of the address */
        vvvv = insn->vvvv == insn->reg       ? host
               : guest_in_memory(insn->vvvv) ? free ^ SCRATCH1 ^ SCRATCH2
                                             : guest_host(insn->vvvv);
    else if (!rorx)
        vvvv = guest_read(t, insn->vvvv, free);
    emit_vex(&t->e, word, false, vvvv, group ? insn->modrm >> 3 & 7 : host, rm);
    if (rorx)
        e8(&t->e, insn->imm);
    if (mulx)
        guest_written(t, insn->vvvv, vvvv);
    guest_written(t, target, host);
    if (t->op.writes)
        t->now.host_flags = true;
}

void translate_integer(Translation *t)
{
    unsigned kind = t->op.kind;
    bool stack = kind >= JIT_PUSH && kind <= JIT_LEAVE;
    if (stack && !t->segmented && t->insn->op_size != (t->mode64 ? 8 : 4)) {
        call_handler_inline(t);
        return;
    }
    switch (kind) {
    case JIT_COPY:
        translate_copy(t);
        break;
    case JIT_NOTHING:
        break;
    case JIT_PLAIN:
        translate_plain(t);
        break;
    case JIT_ACCUMULATOR:
        translate_accumulator(t);
        break;
    case JIT_MOVE_IMM:
        translate_move_imm(t);
        break;
    case JIT_MOVE_OFFSET:
        translate_move_offset(t);
        break;
    case JIT_EXCHANGE:
        translate_exchange(t);
        break;
    case JIT_STEP:
        translate_step(t);
        break;
    case JIT_SWAP_BYTES:
        translate_swap_bytes(t);
        break;
    case JIT_PUSH:
    case JIT_PUSH_IMM:
        translate_push(t);
        break;
    case JIT_PUSH_MEM:
        translate_push_memory(t);
        break;
    case JIT_POP:
        translate_pop(t);
        break;
    case JIT_LEAVE:
        translate_leave(t);
        break;
    case JIT_LEA:
        if (!translate_lea_directly(t))
            translate_lea(t);
        break;
    case JIT_DIVIDE:
    case JIT_DIVIDE_SIGNED:
        translate_divide(t);
        break;
    case JIT_BMI:
        translate_bmi(t);
        break;
    case JIT_FENCE:
        e8(&t->e, 0x0f), e8(&t->e, 0xae), e8(&t->e, t->insn->modrm);
        break;
    default:
        call_handler_inline(t);
    }
}
