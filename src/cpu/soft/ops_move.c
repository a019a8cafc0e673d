/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Moves: data, conversions, exchange, the stack, single flags, and instructions that only order or
 * hint.
 */
#include "cpu/soft/ops.h"

#include <sched.h>

#include "cpu/soft/soft_vm.h"

#define PAUSES_TO_YIELD 64

#define FORMS(op, form)                                       \
    {                                                         \
        op##form##8, op##form##16, op##form##32, op##form##64 \
    }
#define WORD_FORMS(op, form)                           \
    {                                                  \
        NULL, op##form##16, op##form##32, op##form##64 \
    }

/* A handler that does one thing, then goes to the next instruction. */
#define HANDLER(name, ...)                           \
    static void name(SoftCpu *cpu, const Insn *insn) \
    {                                                \
        __VA_ARGS__;                                 \
        INSN_NEXT(cpu, insn);                        \
    }

/* ---- MOV ------------------------------------------------------------------------------------- */

#define MOV_SIZE(bits, type, stype, suffix)                                                       \
    HANDLER(mov_rr##bits, reg_write##bits(cpu, insn->rm, reg_read##bits(cpu, insn->reg)))         \
    HANDLER(mov_mr##bits,                                                                         \
            mem_write##bits(cpu, insn, OPERAND(bits, MMU_WRITE), reg_read##bits(cpu, insn->reg))) \
    HANDLER(mov_rm##bits,                                                                         \
            reg_write##bits(cpu, insn->reg, mem_read##bits(cpu, insn, OPERAND(bits, MMU_READ))))  \
    HANDLER(mov_ri##bits, reg_write##bits(cpu, insn->rm, insn->imm))                              \
    HANDLER(mov_mi##bits, mem_write##bits(cpu, insn, OPERAND(bits, MMU_WRITE), insn->imm))        \
    /* The offset is an immediate of the address size. */                                         \
    HANDLER(mov_moffs_load##bits, {                                                               \
        uint64_t linear =                                                                         \
            linear_address(cpu, insn, insn->segment, insn->imm, (bits) / 8, MMU_READ);            \
        reg_write##bits(cpu, GPR_RAX, mem_read##bits(cpu, insn, linear));                         \
    })                                                                                            \
    HANDLER(mov_moffs_store##bits, {                                                              \
        uint64_t linear =                                                                         \
            linear_address(cpu, insn, insn->segment, insn->imm, (bits) / 8, MMU_WRITE);           \
        mem_write##bits(cpu, insn, linear, reg_read##bits(cpu, GPR_RAX));                         \
    })
FLAGS_SIZES(MOV_SIZE)
const OpForms op_mov_eg = {FORMS(mov, _rr), FORMS(mov, _mr)};
const OpForms op_mov_ge = {FORMS(mov, _rr), FORMS(mov, _rm)};
const OpForms op_mov_ei = {FORMS(mov, _ri), FORMS(mov, _mi)};
const OpForms op_mov_load_moffs = {FORMS(mov, _moffs_load)};
const OpForms op_mov_store_moffs = {FORMS(mov, _moffs_store)};
const OpForms op_movnti = {.mem = {NULL, mov_mr32, mov_mr32, mov_mr64}};

#define EXTEND(name, from, type, bits)                                                            \
    HANDLER(name##_r##bits, reg_write##bits(cpu, insn->reg, (type)reg_read##from(cpu, insn->rm))) \
    HANDLER(                                                                                      \
        name##_m##bits,                                                                           \
        reg_write##bits(cpu, insn->reg, (type)mem_read##from(cpu, insn, OPERAND(from, MMU_READ))))
#define EXTEND_ALL(name, from, type) \
    EXTEND(name, from, type, 16)     \
    EXTEND(name, from, type, 32)     \
    EXTEND(name, from, type, 64)     \
    const OpForms op_##name = {WORD_FORMS(name, _r), WORD_FORMS(name, _m)};
EXTEND_ALL(movzx8, 8, uint8_t)
EXTEND_ALL(movzx16, 16, uint16_t)
EXTEND_ALL(movsx8, 8, int8_t)
EXTEND_ALL(movsx16, 16, int16_t)
EXTEND(movsxd, 32, int32_t, 64)
EXTEND(movsxd, 32, int32_t, 32)
/* With an operand of 16 bits MOVSXD reads only 16. */
HANDLER(movsxd_r16, reg_write16(cpu, insn->reg, reg_read16(cpu, insn->rm)))
const OpForms op_movsxd = {{NULL, movsxd_r16, movsxd_r32, movsxd_r64},
                           {NULL, mov_rm16, movsxd_m32, movsxd_m64}};

HANDLER(lea16, reg_write16(cpu, insn->reg, insn_ea(cpu, insn)))
HANDLER(lea32, reg_write32(cpu, insn->reg, insn_ea(cpu, insn)))
HANDLER(lea64, reg_write64(cpu, insn->reg, insn_ea(cpu, insn)))
const OpForms op_lea = {.mem = {NULL, lea16, lea32, lea64}};

#define CMOV_SIZE(n, bits)                                                             \
    static void cmov##n##_r##bits(SoftCpu *cpu, const Insn *insn)                      \
    {                                                                                  \
        uint##bits##_t value = reg_read##bits(cpu, insn->rm),                          \
                       old = reg_read##bits(cpu, insn->reg);                           \
        reg_write##bits(cpu, insn->reg, flags_condition(cpu->flags, n) ? value : old); \
        INSN_NEXT(cpu, insn);                                                          \
    }                                                                                  \
    static void cmov##n##_m##bits(SoftCpu *cpu, const Insn *insn)                      \
    {                                                                                  \
        uint##bits##_t value = mem_read##bits(cpu, insn, OPERAND(bits, MMU_READ));     \
        uint##bits##_t old = reg_read##bits(cpu, insn->reg);                           \
        reg_write##bits(cpu, insn->reg, flags_condition(cpu->flags, n) ? value : old); \
        INSN_NEXT(cpu, insn);                                                          \
    }
#define CONDITIONAL(n)                                                                     \
    CMOV_SIZE(n, 16)                                                                       \
    CMOV_SIZE(n, 32)                                                                       \
    CMOV_SIZE(n, 64)                                                                       \
    HANDLER(setcc##n##_r8, reg_write8(cpu, insn->rm, flags_condition(cpu->flags, n)))      \
    HANDLER(setcc##n##_m8,                                                                 \
            mem_write8(cpu, insn, OPERAND(8, MMU_WRITE), flags_condition(cpu->flags, n)))  \
    static const OpForms cmov_row##n = {WORD_FORMS(cmov##n, _r), WORD_FORMS(cmov##n, _m)}; \
    static const OpForms setcc_row##n = {{setcc##n##_r8}, {setcc##n##_m8}};
FLAGS_CONDITIONS(CONDITIONAL)
#define CMOV_ROW(n)  &cmov_row##n,
#define SETCC_ROW(n) &setcc_row##n,
const OpForms *const op_cmov[16] = {FLAGS_CONDITIONS(CMOV_ROW)};
const OpForms *const op_setcc[16] = {FLAGS_CONDITIONS(SETCC_ROW)};

/* ---- XCHG, MOVBE, BSWAP ---------------------------------------------------------------------- */

/* With memory XCHG is locked, prefix or not. */
#define XCHG_SIZE(bits, type, stype, suffix)                                                \
    static void xchg_r##bits(SoftCpu *cpu, const Insn *insn)                                \
    {                                                                                       \
        type a = reg_read##bits(cpu, insn->rm), b = reg_read##bits(cpu, insn->reg);         \
        reg_write##bits(cpu, insn->rm, b);                                                  \
        reg_write##bits(cpu, insn->reg, a);                                                 \
        INSN_NEXT(cpu, insn);                                                               \
    }                                                                                       \
    static void xchg_m##bits(SoftCpu *cpu, const Insn *insn)                                \
    {                                                                                       \
        type value = reg_read##bits(cpu, insn->reg), before;                                \
        OPERAND_LOCKED(bits, type,                                                          \
                       before = __atomic_exchange_n((type *)host, value, __ATOMIC_SEQ_CST), \
                       (before = old, value));                                              \
        reg_write##bits(cpu, insn->reg, before);                                            \
        INSN_NEXT(cpu, insn);                                                               \
    }
FLAGS_SIZES(XCHG_SIZE)
const OpForms op_xchg_eg = {FORMS(xchg, _r), FORMS(xchg, _m), FORMS(xchg, _m)};
HANDLER(xchg_acc16, {
    uint16_t a = reg_read16(cpu, GPR_RAX);
    reg_write16(cpu, GPR_RAX, reg_read16(cpu, insn->rm));
    reg_write16(cpu, insn->rm, a);
})
HANDLER(xchg_acc32, {
    uint32_t a = reg_read32(cpu, GPR_RAX);
    reg_write32(cpu, GPR_RAX, reg_read32(cpu, insn->rm));
    reg_write32(cpu, insn->rm, a);
})
HANDLER(xchg_acc64, {
    uint64_t a = reg_read64(cpu, GPR_RAX);
    reg_write64(cpu, GPR_RAX, reg_read64(cpu, insn->rm));
    reg_write64(cpu, insn->rm, a);
})
const OpForms op_xchg_acc = {{NULL, xchg_acc16, xchg_acc32, xchg_acc64}};

#define MOVBE_SIZE(bits, type, stype, suffix)                                            \
    HANDLER(movbe_load##bits, reg_write##bits(cpu, insn->reg,                            \
                                              __builtin_bswap##bits(mem_read##bits(      \
                                                  cpu, insn, OPERAND(bits, MMU_READ))))) \
    HANDLER(movbe_store##bits,                                                           \
            mem_write##bits(cpu, insn, OPERAND(bits, MMU_WRITE),                         \
                            __builtin_bswap##bits(reg_read##bits(cpu, insn->reg))))
FLAGS_WORD_SIZES(MOVBE_SIZE)
const OpForms op_movbe_load = {.mem = WORD_FORMS(movbe, _load)};
const OpForms op_movbe_store = {.mem = WORD_FORMS(movbe, _store)};
HANDLER(bswap16, reg_write16(cpu, insn->rm, 0)) /* undefined; real CPUs clear it */
HANDLER(bswap32, reg_write32(cpu, insn->rm, __builtin_bswap32(reg_read32(cpu, insn->rm))))
HANDLER(bswap64, reg_write64(cpu, insn->rm, __builtin_bswap64(reg_read64(cpu, insn->rm))))
const OpForms op_bswap = {WORD_FORMS(bswap, )};

/* ---- sign extension of the accumulator ------------------------------------------------------- */

HANDLER(cbw16, reg_write16(cpu, GPR_RAX, (int8_t)cpu->s.gpr[GPR_RAX]))
HANDLER(cbw32, reg_write32(cpu, GPR_RAX, (int16_t)cpu->s.gpr[GPR_RAX]))
HANDLER(cbw64, reg_write64(cpu, GPR_RAX, (int32_t)cpu->s.gpr[GPR_RAX]))
const OpForms op_cbw = {WORD_FORMS(cbw, )};
HANDLER(cwd16, reg_write16(cpu, GPR_RDX, (int16_t)cpu->s.gpr[GPR_RAX] >> 15))
HANDLER(cwd32, reg_write32(cpu, GPR_RDX, (int32_t)cpu->s.gpr[GPR_RAX] >> 31))
HANDLER(cwd64, reg_write64(cpu, GPR_RDX, (int64_t)cpu->s.gpr[GPR_RAX] >> 63))
const OpForms op_cwd = {WORD_FORMS(cwd, )};

/* ---- stack ----------------------------------------------------------------------------------- */

/* In 64-bit mode the stack is flat and RSP whole: no segment, no mask. */
static void push_r64(SoftCpu *cpu, const Insn *insn)
{
    uint64_t value = cpu->s.gpr[insn->rm], rsp = cpu->s.gpr[GPR_RSP] - 8;
    mem_write64(cpu, insn, rsp, value);
    cpu->s.gpr[GPR_RSP] = rsp;
    INSN_NEXT(cpu, insn);
}
static void pop_r64(SoftCpu *cpu, const Insn *insn)
{
    uint64_t rsp = cpu->s.gpr[GPR_RSP];
    uint64_t value = mem_read64(cpu, insn, rsp);
    cpu->s.gpr[GPR_RSP] = rsp + 8;
    cpu->s.gpr[insn->rm] = value;
    INSN_NEXT(cpu, insn);
}

HANDLER(push_r16, stack_push16(cpu, insn, reg_read16(cpu, insn->rm)))
HANDLER(push_r32, stack_push32(cpu, insn, reg_read32(cpu, insn->rm)))
#define PUSH_POP_SIZE(bits, type, stype, suffix)                                                   \
    HANDLER(push_m##bits, {                                                                        \
        type value = mem_read##bits(cpu, insn, OPERAND(bits, MMU_READ));                           \
        stack_push##bits(cpu, insn, value);                                                        \
    })                                                                                             \
    HANDLER(push_imm##bits, stack_push##bits(cpu, insn, insn->imm))                                \
    /* RSP as a base is the one after the pop; a fault of the store takes it back (SDM 2B POP). */ \
    HANDLER(pop_m##bits, {                                                                         \
        uint64_t rsp = cpu->s.gpr[GPR_RSP];                                                        \
        type value = stack_peek##bits(cpu, insn);                                                  \
        stack_drop(cpu, (bits) / 8);                                                               \
        uint64_t offset = insn_ea(cpu, insn);                                                      \
        uint64_t new_rsp = cpu->s.gpr[GPR_RSP];                                                    \
        cpu->s.gpr[GPR_RSP] = rsp;                                                                 \
        mem_write##bits(cpu, insn,                                                                 \
                        linear_address(cpu, insn, insn->segment, offset, (bits) / 8, MMU_WRITE),   \
                        value);                                                                    \
        cpu->s.gpr[GPR_RSP] = new_rsp;                                                             \
    })
FLAGS_WORD_SIZES(PUSH_POP_SIZE)
#define POP_REGISTER(bits)                                  \
    HANDLER(pop_r##bits, {                                  \
        uint##bits##_t value = stack_peek##bits(cpu, insn); \
        stack_drop(cpu, (bits) / 8);                        \
        reg_write##bits(cpu, insn->rm, value);              \
    })
POP_REGISTER(16)
POP_REGISTER(32)
const OpForms op_push_e = {WORD_FORMS(push, _r), WORD_FORMS(push, _m)};
const OpForms op_pop_e = {WORD_FORMS(pop, _r), WORD_FORMS(pop, _m)};
const OpForms op_push_imm = {WORD_FORMS(push, _imm)};

/* All eight are stored or none: the whole range is checked first. */
#define PUSHA_SIZE(bits, type)                                                            \
    HANDLER(pusha##bits, {                                                                \
        uint64_t rsp = cpu->s.gpr[GPR_RSP], mask = stack_mask(cpu);                       \
        for (unsigned i = 0; i < 8; i++) {                                                \
            uint64_t at = (rsp - (i + 1) * (bits) / 8) & mask;                            \
            cpu->insn = insn;                                                             \
            mmu_probe(cpu, linear_address(cpu, insn, SEG_SS, at, (bits) / 8, MMU_WRITE),  \
                      (bits) / 8, MMU_WRITE, cpu->mmu_index);                             \
        }                                                                                 \
        for (unsigned i = 0; i < 8; i++) {                                                \
            uint64_t at = (rsp - (i + 1) * (bits) / 8) & mask;                            \
            mem_write##bits(cpu, insn,                                                    \
                            linear_address(cpu, insn, SEG_SS, at, (bits) / 8, MMU_WRITE), \
                            reg_read##bits(cpu, i));                                      \
        }                                                                                 \
        stack_set(cpu, rsp - (bits));                                                     \
    })                                                                                    \
    HANDLER(popa##bits, {                                                                 \
        type values[8];                                                                   \
        uint64_t rsp = cpu->s.gpr[GPR_RSP];                                               \
        for (unsigned i = 0; i < 8; i++) {                                                \
            uint64_t at = (rsp + i * (bits) / 8) & stack_mask(cpu);                       \
            values[i] = mem_read##bits(                                                   \
                cpu, insn, linear_address(cpu, insn, SEG_SS, at, (bits) / 8, MMU_READ));  \
        }                                                                                 \
        for (unsigned i = 0; i < 8; i++) {                                                \
            if (7 - i != GPR_RSP)                                                         \
                reg_write##bits(cpu, 7 - i, values[i]);                                   \
        }                                                                                 \
        stack_set(cpu, rsp + (bits));                                                     \
    })
PUSHA_SIZE(16, uint16_t)
PUSHA_SIZE(32, uint32_t)
const OpForms op_pusha = {{NULL, pusha16, pusha32}};
const OpForms op_popa = {{NULL, popa16, popa32}};

#define LEAVE_SIZE(bits, type, stype, suffix)                                           \
    HANDLER(leave##bits, {                                                              \
        uint64_t frame = cpu->s.gpr[GPR_RBP] & stack_mask(cpu);                         \
        type value = mem_read##bits(                                                    \
            cpu, insn, linear_address(cpu, insn, SEG_SS, frame, (bits) / 8, MMU_READ)); \
        stack_set(cpu, frame + (bits) / 8);                                             \
        reg_write##bits(cpu, GPR_RBP, value);                                           \
    })
FLAGS_WORD_SIZES(LEAVE_SIZE)
const OpForms op_leave = {WORD_FORMS(leave, )};

/* ---- single flags, hints --------------------------------------------------------------------- */

#define PUBLIC_HANDLER(name, ...)             \
    void name(SoftCpu *cpu, const Insn *insn) \
    {                                         \
        __VA_ARGS__;                          \
        INSN_NEXT(cpu, insn);                 \
    }
PUBLIC_HANDLER(op_lahf, reg_write8(cpu, GPR_RAX * 8 + 1, (cpu->flags >> 8 & 0xd5) | 2))
PUBLIC_HANDLER(op_sahf, cpu->flags = (cpu->flags & 1) | 0x200 |
                                     (reg_read8(cpu, GPR_RAX * 8 + 1) & 0xd5) << 8)
PUBLIC_HANDLER(op_salc, reg_write8(cpu, GPR_RAX * 8, cpu->flags &NATIVE_CF ? 0xff : 0))
PUBLIC_HANDLER(op_clc, cpu->flags &= ~NATIVE_CF)
PUBLIC_HANDLER(op_stc, cpu->flags |= NATIVE_CF)
PUBLIC_HANDLER(op_cmc, cpu->flags ^= NATIVE_CF)
PUBLIC_HANDLER(op_cld, cpu->s.rflags &= ~(uint64_t)FLAG_DF)
PUBLIC_HANDLER(op_std, cpu->s.rflags |= FLAG_DF)
PUBLIC_HANDLER(op_nop, )
PUBLIC_HANDLER(op_fence, __atomic_thread_fence(__ATOMIC_SEQ_CST))

/* Who spins may wait for a CPU that has no thread of the host's CPUs just now. */
static __attribute__((noinline)) void pause_or_yield(SoftCpu *cpu)
{
    if (cpu->vm->vm->vcpu_count > 1 && ++cpu->pauses % PAUSES_TO_YIELD == 0)
        sched_yield();
    else
        __builtin_ia32_pause();
}
PUBLIC_HANDLER(op_pause, pause_or_yield(cpu))

/* Caches are not modelled: only the faults of a byte read remain. */
void op_clflush(SoftCpu *cpu, const Insn *insn)
{
    (void)mem_read8(cpu, insn, OPERAND(8, MMU_READ));
    INSN_NEXT(cpu, insn);
}

PUBLIC_HANDLER(op_xlat, {
    uint64_t offset = (cpu->s.gpr[GPR_RBX] + reg_read8(cpu, GPR_RAX * 8)) & insn->addr_mask;
    uint64_t linear = linear_address(cpu, insn, insn->segment, offset, 1, MMU_READ);
    reg_write8(cpu, GPR_RAX * 8, mem_read8(cpu, insn, linear));
})

/* ---- random numbers -------------------------------------------------------------------------- */

#define RANDOM_SIZE(op, bits, type)                            \
    HANDLER(op##bits, {                                        \
        type value;                                            \
        bool valid;                                            \
        asm volatile(#op " %0" : "=r"(value), "=@ccc"(valid)); \
        reg_write##bits(cpu, insn->rm, value);                 \
        cpu->flags = 0x200 | (valid ? NATIVE_CF : 0);          \
    })
RANDOM_SIZE(rdrand, 16, uint16_t)
RANDOM_SIZE(rdrand, 32, uint32_t)
RANDOM_SIZE(rdrand, 64, uint64_t)
RANDOM_SIZE(rdseed, 16, uint16_t)
RANDOM_SIZE(rdseed, 32, uint32_t)
RANDOM_SIZE(rdseed, 64, uint64_t)
const OpForms op_rdrand = {WORD_FORMS(rdrand, )};
const OpForms op_rdseed = {WORD_FORMS(rdseed, )};
