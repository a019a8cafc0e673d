/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The decoder against Zydis on random bytes in all three code sizes: which instructions exist, how
 * long they are, and what memory they name.
 */
#include <stdio.h>

#include <Zydis/Zydis.h>

#include "cpu/soft/decode.h"
#include "cpu/soft/ops_system.h"

static CpuModel model;

typedef struct Mode {
    const char *name;
    uint32_t mode;
    ZydisMachineMode machine;
    ZydisStackWidth stack;
} Mode;

static const Mode modes[] = {
    {"16", MODE_CODE16 | MODE_PROTECTED, ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16},
    {"32", MODE_CODE32 | MODE_STACK32 | MODE_PROTECTED, ZYDIS_MACHINE_MODE_LEGACY_32,
     ZYDIS_STACK_WIDTH_32},
    {"64", MODE_CODE64 | MODE_PROTECTED | MODE_LONG, ZYDIS_MACHINE_MODE_LONG_64,
     ZYDIS_STACK_WIDTH_64},
};

/* Instructions that Zydis knows and this CPU, on purpose, does not. */
static bool is_left_out(const ZydisDecodedInstruction *z)
{
    static const ZydisISAExt extensions[] = {
        ZYDIS_ISA_EXT_AMD3DNOW,  ZYDIS_ISA_EXT_AMD_INVLPGB,
        ZYDIS_ISA_EXT_AMX_BF16,  ZYDIS_ISA_EXT_AMX_INT8,
        ZYDIS_ISA_EXT_AMX_TILE,  ZYDIS_ISA_EXT_AVX512EVEX,
        ZYDIS_ISA_EXT_AVX512VEX, ZYDIS_ISA_EXT_AVX_VNNI,
        ZYDIS_ISA_EXT_CET,       ZYDIS_ISA_EXT_CLDEMOTE,
        ZYDIS_ISA_EXT_CLZERO,    ZYDIS_ISA_EXT_ENQCMD,
        ZYDIS_ISA_EXT_FMA4,      ZYDIS_ISA_EXT_HRESET,
        ZYDIS_ISA_EXT_KEYLOCKER, ZYDIS_ISA_EXT_KEYLOCKER_WIDE,
        ZYDIS_ISA_EXT_KNC,       ZYDIS_ISA_EXT_KNCE,
        ZYDIS_ISA_EXT_KNCV,      ZYDIS_ISA_EXT_MCOMMIT,
        ZYDIS_ISA_EXT_MONITOR,   ZYDIS_ISA_EXT_MONITORX,
        ZYDIS_ISA_EXT_MOVDIR,    ZYDIS_ISA_EXT_MPX,
        ZYDIS_ISA_EXT_PADLOCK,   ZYDIS_ISA_EXT_PCONFIG,
        ZYDIS_ISA_EXT_PKU,       ZYDIS_ISA_EXT_PT,
        ZYDIS_ISA_EXT_RDPRU,     ZYDIS_ISA_EXT_RTM,
        ZYDIS_ISA_EXT_SERIALIZE, ZYDIS_ISA_EXT_SGX,
        ZYDIS_ISA_EXT_SGX_ENCLV, ZYDIS_ISA_EXT_SNP,
        ZYDIS_ISA_EXT_SSE4A,     ZYDIS_ISA_EXT_SVM,
        ZYDIS_ISA_EXT_TBM,       ZYDIS_ISA_EXT_TDX,
        ZYDIS_ISA_EXT_TSX_LDTRK, ZYDIS_ISA_EXT_UINTR,
        ZYDIS_ISA_EXT_VMFUNC,    ZYDIS_ISA_EXT_VTX,
        ZYDIS_ISA_EXT_WAITPKG,   ZYDIS_ISA_EXT_XOP,
        ZYDIS_ISA_EXT_XSAVES,    ZYDIS_ISA_EXT_GFNI,
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(extensions); i++) {
        if (z->meta.isa_ext == extensions[i])
            return true;
    }
    return z->encoding == ZYDIS_INSTRUCTION_ENCODING_XOP ||
           z->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX ||
           z->encoding == ZYDIS_INSTRUCTION_ENCODING_3DNOW;
}

static unsigned gpr_of(ZydisRegister reg)
{
    switch (ZydisRegisterGetClass(reg)) {
    case ZYDIS_REGCLASS_GPR16:
    case ZYDIS_REGCLASS_GPR32:
    case ZYDIS_REGCLASS_GPR64:
        return ZydisRegisterGetId(reg);
    case ZYDIS_REGCLASS_IP:
        return GPR_BLOCK_RIP;
    default:
        return GPR_NONE;
    }
}

static void print_bytes(const char *what, const Mode *mode, const uint8_t *bytes)
{
    g_autoptr(GString) text = g_string_new(NULL);
    for (unsigned i = 0; i < 15; i++)
        g_string_append_printf(text, " %02x", bytes[i]);
    g_test_message("%s: %s bits:%s", what, mode->name, text->str);
    g_test_fail();
}

static void compare_memory(const Mode *mode, const uint8_t *bytes, const Insn *insn,
                           const ZydisDecodedInstruction *z, const ZydisDecodedOperand *operands)
{
    static const uint8_t segments[] = {SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS};
    for (unsigned i = 0; i < z->operand_count; i++) {
        const ZydisDecodedOperand *op = &operands[i];
        if (op->type != ZYDIS_OPERAND_TYPE_MEMORY ||
            op->encoding != ZYDIS_OPERAND_ENCODING_MODRM_RM)
            continue;
        int64_t disp = op->mem.disp.value;
        unsigned base = gpr_of(op->mem.base), index = gpr_of(op->mem.index);
        if (base == GPR_BLOCK_RIP)
            disp += insn->rip_offset + insn->length;
        /* Zydis 4.0 takes REX.B for a base here, against SDM 2A 2.2.1.3. */
        if (z->address_width == 32 && insn->rex & REX_B && z->raw.sib.base == 5 &&
            z->raw.modrm.mod == 0)
            continue;
        bool same = base == insn->base && (index == insn->index) && disp == insn->disp &&
                    (index == GPR_NONE || op->mem.scale == 1 << insn->scale) &&
                    z->address_width == insn->addr_size * 8;
        if (!same)
            print_bytes("memory operand differs", mode, bytes);
        /* In 64-bit mode DS and SS differ in the vector of their fault only. */
        if (segments[ZydisRegisterGetId(op->mem.segment)] != insn->segment &&
            mode->machine != ZYDIS_MACHINE_MODE_LONG_64 && z->mnemonic != ZYDIS_MNEMONIC_LEA)
            print_bytes("segment differs", mode, bytes);
    }
}

/* Rows whose handlers know more (CR and DR numbers, GETSEC), and NOPs that were MPX: Zydis looks
 * deeper or elsewhere. */
static bool is_judged_later(const Insn *insn)
{
    return insn->map == MAP_0F &&
           ((insn->opcode >= 0x20 && insn->opcode <= 0x23) || insn->opcode == 0x37 ||
            insn->opcode == 0x1a || insn->opcode == 0x1b);
}

static void compare(const Mode *mode, const ZydisDecoder *decoder, const uint8_t *bytes)
{
    ZydisDecodedInstruction z;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    Insn insn = {.rip_offset = 0};
    bool known = ZYAN_SUCCESS(ZydisDecoderDecodeFull(decoder, bytes, 15, &z, operands));
    g_assert_true(decode_insn(&model, mode->mode, bytes, 15, &insn));
    if (!known) {
        if (insn.fn != op_ud && insn.fn != op_too_long && !is_judged_later(&insn))
            print_bytes("only we decode it", mode, bytes);
        return;
    }
    if (insn.fn == op_ud || insn.fn == op_too_long) {
        bool ud = z.mnemonic == ZYDIS_MNEMONIC_UD0 || z.mnemonic == ZYDIS_MNEMONIC_UD1 ||
                  z.mnemonic == ZYDIS_MNEMONIC_UD2;
        if (!ud && !is_left_out(&z)) {
            char text[128];
            snprintf(text, sizeof(text), "only Zydis decodes it (%s)",
                     ZydisMnemonicGetString(z.mnemonic));
            print_bytes(text, mode, bytes);
        }
        return;
    }
    if (insn.length != z.length) {
        print_bytes("length differs", mode, bytes);
        return;
    }
    if (!is_judged_later(&insn))
        compare_memory(mode, bytes, &insn, &z, operands);
    /* With one byte less it must ask for more. */
    if (insn.length < 15) {
        Insn shorter = {.rip_offset = 0};
        if (decode_insn(&model, mode->mode, bytes, insn.length - 1, &shorter))
            print_bytes("decodes without its last byte", mode, bytes);
    }
}

static void random_bytes(GRand *rand, uint8_t *bytes)
{
    static const uint8_t prefixes[] = {0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x2e,
                                       0x65, 0x48, 0x41, 0x4f, 0xc4, 0xc5};
    unsigned i = 0;
    for (unsigned n = g_rand_int_range(rand, 0, 4); n; n--)
        bytes[i++] = prefixes[g_rand_int_range(rand, 0, G_N_ELEMENTS(prefixes))];
    if (g_rand_boolean(rand))
        bytes[i++] = 0x0f;
    if (g_rand_int_range(rand, 0, 4) == 0 && i && bytes[i - 1] == 0x0f)
        bytes[i++] = g_rand_boolean(rand) ? 0x38 : 0x3a;
    for (; i < 15; i++)
        bytes[i] = g_rand_int(rand);
}

static void test_random(const void *data)
{
    const Mode *mode = data;
    ZydisDecoder decoder;
    g_assert_true(ZYAN_SUCCESS(ZydisDecoderInit(&decoder, mode->machine, mode->stack)));
    g_autoptr(GRand) rand = g_rand_new_with_seed(4711);
    for (unsigned i = 0; i < 400000 && !g_test_failed(); i++) {
        uint8_t bytes[15];
        random_bytes(rand, bytes);
        compare(mode, &decoder, bytes);
    }
}

/* Fifteen prefixes and more: #GP; fourteen and an opcode: fine. */
static void test_too_long(void)
{
    uint8_t bytes[16];
    Insn insn = {0};
    memset(bytes, 0x66, sizeof(bytes));
    g_assert_true(decode_insn(&model, modes[1].mode, bytes, 16, &insn));
    g_assert_true(insn.fn == op_too_long);
    g_assert_false(decode_insn(&model, modes[1].mode, bytes, 14, &insn));
    bytes[14] = 0x90;
    g_assert_true(decode_insn(&model, modes[1].mode, bytes, 15, &insn));
    g_assert_true(insn.fn == op_nop);
    g_assert_cmpuint(insn.length, ==, 15);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < CPU_FEATURE_COUNT; i++)
        model.features[i] = true;
    for (unsigned i = 0; i < G_N_ELEMENTS(modes); i++) {
        g_autofree char *path = g_strdup_printf("/decode/random/%s", modes[i].name);
        g_test_add_data_func(path, &modes[i], test_random);
    }
    g_test_add_func("/decode/too-long", test_too_long);
    return g_test_run();
}
