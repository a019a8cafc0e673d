/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the integer handlers (ops_*.c) share, and the tables through which decode_tables.c names
 * them.
 *
 * A handler exists for each operand size and for register and memory form; an OpForms row gathers
 * them, and the decoder picks by operand size (log2 of bytes) and ModRM. A missing form is an
 * invalid opcode, so LOCK's legality needs no other table.
 */
#pragma once

#include "cpu/soft/access.h"
#include "cpu/soft/flags.h"

typedef struct OpForms {
    InsnFn reg[4], mem[4], lock[4]; /* by log2 of the operand size */
} OpForms;

/* ---- registers ------------------------------------------------------------------------------- */

static inline uint8_t reg_read8(const SoftCpu *cpu, unsigned byte_offset)
{
    return ((const uint8_t *)cpu->s.gpr)[byte_offset];
}
static inline uint16_t reg_read16(const SoftCpu *cpu, unsigned n)
{
    return cpu->s.gpr[n];
}
static inline uint32_t reg_read32(const SoftCpu *cpu, unsigned n)
{
    return cpu->s.gpr[n];
}
static inline uint64_t reg_read64(const SoftCpu *cpu, unsigned n)
{
    return cpu->s.gpr[n];
}
static inline void reg_write8(SoftCpu *cpu, unsigned byte_offset, uint8_t value)
{
    ((uint8_t *)cpu->s.gpr)[byte_offset] = value;
}
static inline void reg_write16(SoftCpu *cpu, unsigned n, uint16_t value)
{
    memcpy(&cpu->s.gpr[n], &value, sizeof(value));
}
static inline void reg_write32(SoftCpu *cpu, unsigned n, uint32_t value)
{
    cpu->s.gpr[n] = value;
}
static inline void reg_write64(SoftCpu *cpu, unsigned n, uint64_t value)
{
    cpu->s.gpr[n] = value;
}
/* A register as an address or a counter of 2, 4 or 8 bytes. */
static inline void reg_write_sized(SoftCpu *cpu, unsigned n, unsigned size, uint64_t value)
{
    if (size == 2)
        reg_write16(cpu, n, value);
    else if (size == 4)
        reg_write32(cpu, n, value);
    else
        reg_write64(cpu, n, value);
}

/* ---- memory ---------------------------------------------------------------------------------- */

#define HOST_DEFINE(bits)                                               \
    static inline uint##bits##_t host_read##bits(const void *from)      \
    {                                                                   \
        uint##bits##_t value;                                           \
        memcpy(&value, from, sizeof(value));                            \
        return value;                                                   \
    }                                                                   \
    static inline void host_write##bits(void *to, uint##bits##_t value) \
    {                                                                   \
        memcpy(to, &value, sizeof(value));                              \
    }
HOST_DEFINE(8)
HOST_DEFINE(16)
HOST_DEFINE(32)
HOST_DEFINE(64)
#undef HOST_DEFINE

/* The linear address of the ModRM operand. */
#define OPERAND(bits, access) insn_linear(cpu, insn, (bits) / 8, access)

/*
 * The body of a read-modify-write of the ModRM operand: `compute` is an expression on `old`, with
 * flags going to `flags`. Flags are committed only after the store could fault.
 */
#define OPERAND_RMW(bits, type, compute)                              \
    uint64_t linear = OPERAND(bits, MMU_WRITE);                       \
    void *host = mem_rmw(cpu, insn, linear, (bits) / 8);              \
    uint32_t flags = cpu->flags;                                      \
    if (__builtin_expect(host != NULL, 1)) {                          \
        type old = host_read##bits(host);                             \
        host_write##bits(host, compute);                              \
    } else {                                                          \
        type old = mmu_load(cpu, linear, (bits) / 8, cpu->mmu_index); \
        mmu_store(cpu, linear, (bits) / 8, compute, cpu->mmu_index);  \
    }                                                                 \
    cpu->flags = flags

/* Locked accesses: the host address for one native locked instruction, or NULL after which
 * lock_begin/lock_end must surround a plain load and store. */
static inline void *lock_pointer(SoftCpu *cpu, const Insn *insn, uint64_t linear, unsigned size)
{
    void *host = mem_rmw(cpu, insn, linear, size);
    return ((uintptr_t)host & 63) + size <= 64 ? host : NULL;
}
/* Checks that the store will not fault, then stops the other vCPUs. */
void lock_begin(SoftCpu *cpu, const Insn *insn, uint64_t linear, unsigned size);
void lock_end(SoftCpu *cpu);

/* The same with LOCK: `native` runs on `host`, else `compute` as above. */
#define OPERAND_LOCKED(bits, type, native, compute)                   \
    uint64_t linear = OPERAND(bits, MMU_WRITE);                       \
    void *host = lock_pointer(cpu, insn, linear, (bits) / 8);         \
    uint32_t flags = cpu->flags;                                      \
    if (__builtin_expect(host != NULL, 1)) {                          \
        native;                                                       \
    } else {                                                          \
        lock_begin(cpu, insn, linear, (bits) / 8);                    \
        type old = mmu_load(cpu, linear, (bits) / 8, cpu->mmu_index); \
        mmu_store(cpu, linear, (bits) / 8, compute, cpu->mmu_index);  \
        lock_end(cpu);                                                \
    }                                                                 \
    cpu->flags = flags

/* ---- stack ----------------------------------------------------------------------------------- */

static inline uint64_t stack_mask(const SoftCpu *cpu)
{
    return cpu->stack_size == 8 ? UINT64_MAX : cpu->stack_size == 4 ? UINT32_MAX : UINT16_MAX;
}
static inline void stack_set(SoftCpu *cpu, uint64_t rsp)
{
    reg_write_sized(cpu, GPR_RSP, cpu->stack_size, rsp);
}

#define STACK_DEFINE(bits)                                                                        \
    static inline void stack_push##bits(SoftCpu *cpu, const Insn *insn, uint##bits##_t value)     \
    {                                                                                             \
        uint64_t rsp = (cpu->s.gpr[GPR_RSP] - (bits) / 8) & stack_mask(cpu);                      \
        mem_write##bits(cpu, insn, linear_address(cpu, insn, SEG_SS, rsp, (bits) / 8, MMU_WRITE), \
                        value);                                                                   \
        stack_set(cpu, rsp);                                                                      \
    }                                                                                             \
    /* Reads without moving RSP. */                                                               \
    static inline uint##bits##_t stack_peek##bits(SoftCpu *cpu, const Insn *insn)                 \
    {                                                                                             \
        uint64_t rsp = cpu->s.gpr[GPR_RSP] & stack_mask(cpu);                                     \
        return mem_read##bits(cpu, insn,                                                          \
                              linear_address(cpu, insn, SEG_SS, rsp, (bits) / 8, MMU_READ));      \
    }
STACK_DEFINE(16)
STACK_DEFINE(32)
STACK_DEFINE(64)
#undef STACK_DEFINE
static inline void stack_drop(SoftCpu *cpu, uint64_t bytes)
{
    stack_set(cpu, cpu->s.gpr[GPR_RSP] + bytes);
}

/* ---- rows for decode_tables.c ---------------------------------------------------------------- */

/* ops_alu.c; suffixes: eg = E,G; ge = G,E; ei = E,immediate */
extern const OpForms op_add_eg, op_or_eg, op_adc_eg, op_sbb_eg, op_and_eg, op_sub_eg, op_xor_eg,
    op_cmp_eg;
extern const OpForms op_add_ge, op_or_ge, op_adc_ge, op_sbb_ge, op_and_ge, op_sub_ge, op_xor_ge,
    op_cmp_ge;
extern const OpForms op_add_ei, op_or_ei, op_adc_ei, op_sbb_ei, op_and_ei, op_sub_ei, op_xor_ei,
    op_cmp_ei;
extern const OpForms op_test_eg, op_test_ei, op_inc_e, op_dec_e, op_neg_e, op_not_e;
extern const OpForms op_mul_e, op_imul_e, op_div_e, op_idiv_e, op_imul_ge, op_imul_gei;
extern const OpForms op_xadd_eg, op_cmpxchg_eg, op_adcx_ge, op_adox_ge;
void op_daa(SoftCpu *cpu, const Insn *insn);
void op_das(SoftCpu *cpu, const Insn *insn);
void op_aaa(SoftCpu *cpu, const Insn *insn);
void op_aas(SoftCpu *cpu, const Insn *insn);
void op_aam(SoftCpu *cpu, const Insn *insn);
void op_aad(SoftCpu *cpu, const Insn *insn);
extern const OpForms op_cmpxchg_pair; /* CMPXCHG8B (op_size 4), CMPXCHG16B (8) */

/* ops_move.c */
extern const OpForms op_mov_eg, op_mov_ge, op_mov_ei, op_mov_load_moffs, op_mov_store_moffs;
extern const OpForms op_movzx8, op_movzx16, op_movsx8, op_movsx16, op_movsxd, op_lea, op_xchg_eg,
    op_xchg_acc;
extern const OpForms op_movbe_load, op_movbe_store, op_bswap, op_movnti;
extern const OpForms op_push_e, op_pop_e, op_push_imm, op_pusha, op_popa, op_leave;
extern const OpForms op_cbw, op_cwd;
extern const OpForms *const op_cmov[16], *const op_setcc[16];
void op_lahf(SoftCpu *cpu, const Insn *insn);
void op_sahf(SoftCpu *cpu, const Insn *insn);
void op_salc(SoftCpu *cpu, const Insn *insn);
void op_xlat(SoftCpu *cpu, const Insn *insn);
void op_nop(SoftCpu *cpu, const Insn *insn);
void op_pause(SoftCpu *cpu, const Insn *insn);
void op_clc(SoftCpu *cpu, const Insn *insn);
void op_stc(SoftCpu *cpu, const Insn *insn);
void op_cmc(SoftCpu *cpu, const Insn *insn);
void op_cld(SoftCpu *cpu, const Insn *insn);
void op_std(SoftCpu *cpu, const Insn *insn);
void op_fence(SoftCpu *cpu, const Insn *insn);
void op_clflush(SoftCpu *cpu, const Insn *insn);
extern const OpForms op_rdrand, op_rdseed;

/* ops_shift.c; e1: by 1, ei: by immediate, ec: by CL */
extern const OpForms *const op_shift_ei[8], *const op_shift_ec[8];
extern const OpForms op_shld_i, op_shld_c, op_shrd_i, op_shrd_c;

/* ops_bit.c */
extern const OpForms op_bt_eg, op_bts_eg, op_btr_eg, op_btc_eg, op_bt_ei, op_bts_ei, op_btr_ei,
    op_btc_ei;
extern const OpForms op_bsf, op_bsr, op_popcnt, op_lzcnt, op_tzcnt, op_crc32_8, op_crc32;

/* ops_bmi.c */
extern const OpForms op_andn, op_bextr, op_blsr, op_blsmsk, op_blsi, op_bzhi, op_pdep, op_pext,
    op_mulx, op_rorx, op_sarx, op_shlx, op_shrx;

/* ops_string.c; by operand size (ins, outs: 1, 2, 4) */
extern const OpForms op_movs, op_cmps, op_stos, op_lods, op_scas, op_ins, op_outs;

/* ops_branch.c; by operand size */
extern const OpForms *const op_jcc[16];
extern const OpForms op_jmp_rel, op_call_rel, op_jmp_e, op_call_e, op_ret, op_ret_imm, op_loop,
    op_loope, op_loopne, op_jcxz;
