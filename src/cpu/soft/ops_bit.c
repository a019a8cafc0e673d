/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Bit test and change, with bit strings in memory; bit scans and counts; CRC32.
 */
#include "cpu/soft/ops.h"

#define WORD_FORMS(op, form)                           \
    {                                                  \
        NULL, op##form##16, op##form##32, op##form##64 \
    }

/* The operand that holds bit `offset` of the string at the ModRM operand (SDM 2A, BT). */
static uint64_t bit_string_linear(SoftCpu *cpu, const Insn *insn, unsigned bits, int64_t offset,
                                  MmuAccess access)
{
    int64_t bytes = (offset >> __builtin_ctz(bits)) * (bits / 8);
    uint64_t ea = (insn_ea(cpu, insn) + bytes) & insn->addr_mask;
    return linear_address(cpu, insn, insn->segment, ea, bits / 8, access);
}

#define BIT_REGISTER(op, form, bits, type, bit, WRITE)                                  \
    static void op##_r##form##bits(SoftCpu *cpu, const Insn *insn)                      \
    {                                                                                   \
        type value = flags_##op##bits(&cpu->flags, reg_read##bits(cpu, insn->rm), bit); \
        WRITE(cpu, insn->rm, value);                                                    \
        INSN_NEXT(cpu, insn);                                                           \
    }
#define NO_WRITE(cpu, n, value) ((void)(value))

#define BIT_LINEAR_i(bits, access) OPERAND(bits, access)
#define BIT_LINEAR_r(bits, access) \
    bit_string_linear(cpu, insn, bits, (int##bits##_t)cpu->s.gpr[insn->reg], access)

#define BIT_TEST(form, bits, type, bit)                                            \
    BIT_REGISTER(bt, form, bits, type, bit, NO_WRITE)                              \
    static void bt_m##form##bits(SoftCpu *cpu, const Insn *insn)                   \
    {                                                                              \
        type value = mem_read##bits(cpu, insn, BIT_LINEAR_##form(bits, MMU_READ)); \
        (void)flags_bt##bits(&cpu->flags, value, bit);                             \
        INSN_NEXT(cpu, insn);                                                      \
    }
/* The host's bit number must stay inside the operand, or it would address a bit string of its own.
 */
#define BIT_CHANGE(op, form, bits, type, suffix, bit)                                        \
    BIT_REGISTER(op, form, bits, type, bit, reg_write##bits)                                 \
    static void op##_m##form##bits(SoftCpu *cpu, const Insn *insn)                           \
    {                                                                                        \
        type number = (bit) & (bits - 1);                                                    \
        uint64_t linear = BIT_LINEAR_##form(bits, MMU_WRITE);                                \
        void *host = mem_rmw(cpu, insn, linear, bits / 8);                                   \
        uint32_t flags = cpu->flags;                                                         \
        if (__builtin_expect(host != NULL, 1)) {                                             \
            host_write##bits(host, flags_##op##bits(&flags, host_read##bits(host), number)); \
        } else {                                                                             \
            type old = mmu_load(cpu, linear, bits / 8, cpu->mmu_index);                      \
            mmu_store(cpu, linear, bits / 8, flags_##op##bits(&flags, old, number),          \
                      cpu->mmu_index);                                                       \
        }                                                                                    \
        cpu->flags = flags;                                                                  \
        INSN_NEXT(cpu, insn);                                                                \
    }                                                                                        \
    static void op##_lock_m##form##bits(SoftCpu *cpu, const Insn *insn)                      \
    {                                                                                        \
        type number = (bit) & (bits - 1);                                                    \
        uint64_t linear = BIT_LINEAR_##form(bits, MMU_WRITE);                                \
        void *host = lock_pointer(cpu, insn, linear, bits / 8);                              \
        uint32_t flags = cpu->flags;                                                         \
        if (__builtin_expect(host != NULL, 1)) {                                             \
            asm volatile(FLAGS_IN "lock; " #op suffix " %2, (%1)" FLAGS_OUT                  \
                         : "+a"(flags)                                                       \
                         : "r"(host), "r"(number)                                            \
                         : "cc", "memory");                                                  \
        } else {                                                                             \
            lock_begin(cpu, insn, linear, bits / 8);                                         \
            type old = mmu_load(cpu, linear, bits / 8, cpu->mmu_index);                      \
            mmu_store(cpu, linear, bits / 8, flags_##op##bits(&flags, old, number),          \
                      cpu->mmu_index);                                                       \
            lock_end(cpu);                                                                   \
        }                                                                                    \
        cpu->flags = flags;                                                                  \
        INSN_NEXT(cpu, insn);                                                                \
    }
#define BIT_SIZE(bits, type, stype, suffix)                                \
    BIT_TEST(r, bits, type, reg_read##bits(cpu, insn->reg))                \
    BIT_TEST(i, bits, type, (uint8_t)insn->imm)                            \
    BIT_CHANGE(bts, r, bits, type, suffix, reg_read##bits(cpu, insn->reg)) \
    BIT_CHANGE(bts, i, bits, type, suffix, (uint8_t)insn->imm)             \
    BIT_CHANGE(btr, r, bits, type, suffix, reg_read##bits(cpu, insn->reg)) \
    BIT_CHANGE(btr, i, bits, type, suffix, (uint8_t)insn->imm)             \
    BIT_CHANGE(btc, r, bits, type, suffix, reg_read##bits(cpu, insn->reg)) \
    BIT_CHANGE(btc, i, bits, type, suffix, (uint8_t)insn->imm)
FLAGS_WORD_SIZES(BIT_SIZE)
#define BIT_ROWS(op)                                                        \
    const OpForms op_##op##_eg = {WORD_FORMS(op, _rr), WORD_FORMS(op, _mr), \
                                  WORD_FORMS(op, _lock_mr)};                \
    const OpForms op_##op##_ei = {WORD_FORMS(op, _ri), WORD_FORMS(op, _mi), \
                                  WORD_FORMS(op, _lock_mi)};
const OpForms op_bt_eg = {WORD_FORMS(bt, _rr), WORD_FORMS(bt, _mr)};
const OpForms op_bt_ei = {WORD_FORMS(bt, _ri), WORD_FORMS(bt, _mi)};
BIT_ROWS(bts)
BIT_ROWS(btr)
BIT_ROWS(btc)

/* ---- scans and counts ------------------------------------------------------------------------ */

#define SCAN_SIZE(op, bits, type)                                                        \
    static inline void op##_write##bits(SoftCpu *cpu, const Insn *insn, type value)      \
    {                                                                                    \
        uint64_t result = flags_##op##bits(&cpu->flags, cpu->s.gpr[insn->reg], value);   \
        cpu->s.gpr[insn->reg] = result;                                                  \
    }                                                                                    \
    static void op##_r##bits(SoftCpu *cpu, const Insn *insn)                             \
    {                                                                                    \
        op##_write##bits(cpu, insn, reg_read##bits(cpu, insn->rm));                      \
        INSN_NEXT(cpu, insn);                                                            \
    }                                                                                    \
    static void op##_m##bits(SoftCpu *cpu, const Insn *insn)                             \
    {                                                                                    \
        op##_write##bits(cpu, insn, mem_read##bits(cpu, insn, OPERAND(bits, MMU_READ))); \
        INSN_NEXT(cpu, insn);                                                            \
    }
#define SCAN(op)                \
    SCAN_SIZE(op, 16, uint16_t) \
    SCAN_SIZE(op, 32, uint32_t) \
    SCAN_SIZE(op, 64, uint64_t) \
    const OpForms op_##op = {WORD_FORMS(op, _r), WORD_FORMS(op, _m)};
SCAN(bsf)
SCAN(bsr)
SCAN(popcnt)
SCAN(lzcnt)
SCAN(tzcnt)

/* ---- CRC32 (of 8 bits: op_crc32_8, else by operand size) ------------------------------------- */

#define CRC32_SIZE(bits, type, suffix)                                                    \
    static inline void crc32_write##bits(SoftCpu *cpu, const Insn *insn, type value)      \
    {                                                                                     \
        uint64_t crc = reg_read32(cpu, insn->reg);                                        \
        if (bits == 64)                                                                   \
            asm("crc32q %1, %0" : "+r"(crc) : "r"((uint64_t)value));                      \
        else                                                                              \
            asm("crc32" suffix " %1, %k0" : "+r"(crc) : "r"(value));                      \
        reg_write32(cpu, insn->reg, crc);                                                 \
    }                                                                                     \
    static void crc32_r##bits(SoftCpu *cpu, const Insn *insn)                             \
    {                                                                                     \
        crc32_write##bits(cpu, insn, reg_read##bits(cpu, insn->rm));                      \
        INSN_NEXT(cpu, insn);                                                             \
    }                                                                                     \
    static void crc32_m##bits(SoftCpu *cpu, const Insn *insn)                             \
    {                                                                                     \
        crc32_write##bits(cpu, insn, mem_read##bits(cpu, insn, OPERAND(bits, MMU_READ))); \
        INSN_NEXT(cpu, insn);                                                             \
    }
CRC32_SIZE(8, uint8_t, "b")
CRC32_SIZE(16, uint16_t, "w")
CRC32_SIZE(32, uint32_t, "l")
CRC32_SIZE(64, uint64_t, "q")
const OpForms op_crc32_8 = {{NULL, crc32_r8, crc32_r8, crc32_r8},
                            {NULL, crc32_m8, crc32_m8, crc32_m8}};
const OpForms op_crc32 = {WORD_FORMS(crc32, _r), WORD_FORMS(crc32, _m)};
