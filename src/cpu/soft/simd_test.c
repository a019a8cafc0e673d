/* SPDX-License-Identifier: GPL-3.0-or-later */
/* SIMD encodings; see simd_kit.h. Zydis says which of them exist. */
#include "cpu/soft/simd_kit.h"

#include <Zydis/Zydis.h>

/* ---- SIMD ------------------------------------------------------------------------------------ */

/* Any encoding of a row but with registers that the harness needs. */
static void random_encoding(const SimdRow *row, Encoding *e)
{
    *e = (Encoding){.map = row->map, .opcode = row->opcode, .prefix = row->prefix};
    e->vex = row->legacy == SIMD_NO || (row->vex128 != SIMD_NO && random_below(2)) ||
             (row->vex256 != SIMD_NO && random_below(2));
    if (e->vex)
        e->l = row->vex128 == SIMD_NO || (row->vex256 != SIMD_NO && random_below(2));
    e->w = random_below(2);
    if (row->flags & SIMD_W0)
        e->w = e->w && !e->vex;
    if (row->flags & SIMD_W1)
        e->w = true;
    e->memory = row->memory != MEM_NONE && ((row->flags & SIMD_MEM_ONLY) || random_below(2));
    e->reg = row->ext != SIMD_NO_EXT ? row->ext : random_below(16);
    e->rm = random_below(16);
    bool gpr_reg = row->flags & SIMD_REG_GPR, gpr_rm = row->flags & SIMD_RM_GPR;
    if (gpr_reg && e->reg == GPR_RSP)
        e->reg = GPR_RCX;
    if (gpr_rm && e->rm == GPR_RSP)
        e->rm = GPR_RDX;
    bool merge = row->special == SPECIAL_MOVE_LOAD || row->special == SPECIAL_MOVE_STORE;
    if (e->vex && (row->flags & (SIMD_NDS | SIMD_NDD)) && !(merge && e->memory))
        e->vvvv = random_below(16);
    e->has_imm = row->flags & SIMD_IMM;
    e->imm = random64();
    e->disp = random64();
    encode(e);
}

static void check_row(const SimdRow *row, unsigned runs)
{
    for (unsigned i = 0; i < runs; i++) {
        Encoding e;
        Insn insns[2] = {{0}};
        random_encoding(row, &e);
        decode(&e, insns);
        if (!simd_select(MODE_TEST, &model, insns)) {
            complain(e.bytes, e.size, "is refused");
            continue;
        }
        bool l = e.l && !(row->flags & SIMD_LIG);
        unsigned size = e.memory ? simd_memory_size(row, l, e.w) : 0;
        if (row->special == SPECIAL_MASKMOV_IMPLICIT)
            size = row->flags & SIMD_RM_MM ? 8 : 16;
        bool masked = row->special == SPECIAL_MASK_LOAD || row->special == SPECIAL_MASK_STORE;
        if (masked && random_below(2)) /* reaching into the page that must not be touched */
            size -= size / 4;
        /* AMD's SHA takes any alignment, the manual (type 4) does not. */
        bool aligned = size >= 16 && !masked && row->special != SPECIAL_MASKMOV_IMPLICIT;
        check_encoding(&e, insns, size, aligned, aligned && row->legacy != CPU_SHA, false);
    }
}

static bool row_on_host(const SimdRow *row)
{
    const uint8_t features[] = {row->legacy, row->vex128, row->vex256};
    bool avx = cpu_has(&model, CPU_AVX);
    if (row->legacy == SIMD_NO && !avx)
        return false;
    for (unsigned i = 0; i < 3; i++)
        if (features[i] != SIMD_NO && (i == 0 || avx) && !cpu_has(&model, features[i]))
            return false;
    return avx;
}

static void test_simd_rows(void)
{
    failures = 0;
    for (unsigned i = 0; i < simd_row_count; i++)
        if (row_on_host(&simd_rows[i]) && simd_rows[i].special != SPECIAL_GATHER)
            check_row(&simd_rows[i], simd_rows[i].flags & SIMD_FP ? 400 : 60);
    g_assert_cmpuint(failures, ==, 0);
}

/* ---- gathers --------------------------------------------------------------------------------- */

static void gather_encoding(Encoding *e, Insn *insn, unsigned index, unsigned scale)
{
    decode(e, insn);
    insn->modrm = 4 | (e->reg & 7) << 3;
    insn->index = index == 4 ? GPR_NONE : index;
    insn->scale = scale;
    insn->disp = 0;
    uint8_t *at = e->bytes;
    PUT(&at, 0xc4, !(e->reg >> 3) << 7 | !(index >> 3) << 6 | 0x20 | MAP_0F38,
        e->w << 7 | (~e->vvvv & 15) << 3 | e->l << 2 | SIMD_66, e->opcode, insn->modrm,
        scale << 6 | (index & 7) << 3 | 3);
    e->size = at - e->bytes;
    insn->length = e->size;
}

/* Indices that stay inside the page, below its middle. */
static void gather_indices(Native *native, unsigned index, bool wide, unsigned scale)
{
    for (unsigned i = 0; i < 8; i++) {
        uint8_t *half = native->before + (i < 4 ? 160 : 576) + index * 16;
        int32_t value = ((int32_t)random_below(512) - 256) * 8 >> scale;
        if (wide && i % 2)
            value = (int32_t)load_le32(half + (i - 1) % 4 * 4) >> 31;
        store_le32(half + i % 4 * 4, value);
    }
}

static void test_gathers(void)
{
    static Native native;
    failures = 0;
    if (!cpu_has(&model, CPU_AVX2)) {
        g_test_skip("the host has no AVX2");
        return;
    }
    random_bytes(memory, GUEST_PAGE_SIZE);
    for (unsigned i = 0; i < 800; i++) {
        Encoding e = {.map = MAP_0F38,
                      .opcode = 0x90 + random_below(4),
                      .prefix = SIMD_66,
                      .vex = true,
                      .l = random_below(2),
                      .w = random_below(2),
                      .memory = true,
                      .reg = random_below(16),
                      .vvvv = random_below(16)};
        unsigned index = random_below(16), scale = random_below(4);
        Insn insns[2] = {{0}};
        gather_encoding(&e, insns, index, scale);
        bool distinct = e.reg != index && e.reg != e.vvvv && index != e.vvvv;
        g_assert_cmpint(simd_select(MODE_TEST, &model, insns), ==, distinct);
        if (!distinct)
            continue;
        random_native(&native);
        gather_indices(&native, index, e.opcode & 1, scale);
        native.gpr[GPR_RBX] = (uintptr_t)memory + GUEST_PAGE_SIZE / 2;
        emulate_prepare(&native, random_below(2));
        g_assert_true(run_native(&native, e.bytes, e.size));
        g_assert_true(emulate(insns));
        compare_states(&e, &native, false);
    }
    g_assert_cmpuint(failures, ==, 0);
}

/* SDM 2 VGATHERDD: what was loaded before the fault stays, and its mask is clear. */
static void test_gather_fault(void)
{
    static Native native;
    Encoding e = {.map = MAP_0F38,
                  .opcode = 0x90,
                  .prefix = SIMD_66,
                  .vex = true,
                  .memory = true,
                  .reg = 1,
                  .vvvv = 2};
    Insn insns[2] = {{0}};
    if (!cpu_has(&model, CPU_AVX2)) {
        g_test_skip("the host has no AVX2");
        return;
    }
    random_native(&native);
    uint32_t indices[4] = {0, 1, 1024, 2}, mask[4] = {~0u, ~0u, ~0u, ~0u};
    memcpy(native.before + 160 + 3 * 16, indices, 16);
    memcpy(native.before + 160 + 2 * 16, mask, 16);
    native.gpr[GPR_RBX] = (uintptr_t)memory;
    store_le32(memory, 0x11111111);
    store_le32(memory + 4, 0x22222222);
    gather_encoding(&e, insns, 3, 2);
    g_assert_true(simd_select(MODE_TEST, &model, insns));
    emulate_prepare(&native, true);
    g_assert_false(emulate(insns));
    g_assert_cmpint(raised, ==, EXC_PF);
    g_assert_cmphex(load_le32(cpu->s.fpu.xmm[1]), ==, 0x11111111);
    g_assert_cmphex(load_le32(cpu->s.fpu.xmm[1] + 4), ==, 0x22222222);
    g_assert_cmphex(load_le64(cpu->s.fpu.xmm[2]), ==, 0);
    g_assert_cmphex(load_le64(cpu->s.fpu.xmm[2] + 8), ==, UINT64_MAX);
}

/* ---- which encodings exist ------------------------------------------------------------------- */

static bool zydis_decode(const Encoding *e, ZydisDecodedInstruction *insn,
                         ZydisDecodedOperand *operands)
{
    ZydisDecoder decoder;
    ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    uint8_t bytes[16] = {0};
    memcpy(bytes, e->bytes, e->size);
    return ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, bytes, sizeof(bytes), insn, operands));
}

static bool is_simd_instruction(const ZydisDecodedInstruction *insn)
{
    switch (insn->meta.isa_set) {
    case ZYDIS_ISA_SET_AES:
    case ZYDIS_ISA_SET_AVX:
    case ZYDIS_ISA_SET_AVX2:
    case ZYDIS_ISA_SET_AVX2GATHER:
    case ZYDIS_ISA_SET_AVXAES:
    case ZYDIS_ISA_SET_AVX_GFNI:
    case ZYDIS_ISA_SET_F16C:
    case ZYDIS_ISA_SET_FMA:
    case ZYDIS_ISA_SET_GFNI:
    case ZYDIS_ISA_SET_PCLMULQDQ:
    case ZYDIS_ISA_SET_PENTIUMMMX:
    case ZYDIS_ISA_SET_SHA:
    case ZYDIS_ISA_SET_SSE:
    case ZYDIS_ISA_SET_SSE2:
    case ZYDIS_ISA_SET_SSE2MMX:
    case ZYDIS_ISA_SET_SSE3:
    case ZYDIS_ISA_SET_SSE4:
    case ZYDIS_ISA_SET_SSE42:
    case ZYDIS_ISA_SET_SSSE3:
    case ZYDIS_ISA_SET_SSSE3MMX:
    case ZYDIS_ISA_SET_SSEMXCSR:
    case ZYDIS_ISA_SET_VAES:
    case ZYDIS_ISA_SET_VPCLMULQDQ:
        return insn->mnemonic != ZYDIS_MNEMONIC_CRC32 && insn->meta.isa_ext != ZYDIS_ISA_EXT_PAUSE;
    default:
        return false;
    }
}

static bool is_taken(const Encoding *e)
{
    if (e->map == MAP_0F)
        return (e->opcode >= 0x10 && e->opcode <= 0x17) ||
               (e->opcode >= 0x28 && e->opcode <= 0x2f) ||
               (e->opcode >= 0x50 && e->opcode <= 0x77) ||
               (e->opcode >= 0x7c && e->opcode <= 0x7f) || e->opcode == 0xc2 ||
               (e->opcode >= 0xc4 && e->opcode <= 0xc6) || (e->opcode >= 0xd0 && e->opcode != 0xff);
    if (e->map == MAP_0F38)
        return e->opcode < 0x80 || (e->opcode >= 0x8c && e->opcode < 0xf0);
    return e->opcode != 0xf0;
}

static void check_existence(Encoding *e)
{
    ZydisDecodedInstruction z;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    Insn insn;
    encode(e);
    decode(e, &insn);
    bool exists = zydis_decode(e, &z, operands) && is_simd_instruction(&z);
    bool taken = simd_select(MODE_TEST, &model, &insn);
    if (exists != taken) {
        complain(e->bytes, e->size, "is %s (W %d L %d)", taken ? "taken but should not" : "missing",
                 e->w, e->l);
        return;
    }
    if (!exists || !e->memory || (e->map == MAP_0F && e->opcode == 0x77))
        return;
    const SimdRow *row =
        simd_find_row(e->map, e->opcode, e->prefix, insn.modrm, e->vex, e->l, e->w);
    for (unsigned i = 0; row->special != SPECIAL_GATHER && i < z.operand_count; i++)
        if (operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
            operands[i].size != 8 * simd_memory_size(row, e->l && !(row->flags & SIMD_LIG), e->w))
            complain(e->bytes, e->size, "memory operand of %u bits", operands[i].size);
}

/* Every opcode, prefix, W, L and form: taken exactly when Zydis knows it as one of ours. */
static void test_existence(void)
{
    failures = 0;
    for (unsigned map = MAP_0F; map <= MAP_0F3A; map++)
        for (unsigned opcode = 0; opcode < 256; opcode++)
            for (unsigned bits = 0; bits < 4 * 2 * 2 * 2 * 2 * 8; bits++) {
                Encoding e = {.map = map,
                              .opcode = opcode,
                              .prefix = bits & 3,
                              .vex = bits >> 2 & 1,
                              .l = bits >> 3 & 1,
                              .w = bits >> 4 & 1,
                              .memory = bits >> 5 & 1,
                              .reg = bits >> 6,
                              .rm = 3,
                              .has_imm = true,
                              .imm = 0x10};
                if (!is_taken(&e) || (e.l && !e.vex))
                    continue;
                bool gather = map == MAP_0F38 && opcode >= 0x90 && opcode <= 0x93;
                if (!gather)
                    check_existence(&e);
            }
    g_assert_cmpuint(failures, ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    simd_kit_init();
    g_test_add_func("/cpu/soft/simd/existence", test_existence);
    g_test_add_func("/cpu/soft/simd/rows", test_simd_rows);
    g_test_add_func("/cpu/soft/simd/gathers", test_gathers);
    g_test_add_func("/cpu/soft/simd/gather-fault", test_gather_fault);
    x87_add_tests();
    simd_rules_add_tests();
    return g_test_run();
}
