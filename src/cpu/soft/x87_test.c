/* SPDX-License-Identifier: GPL-3.0-or-later */
/* x87 instructions, and the images that they, FXSAVE and XSAVE keep; see simd_kit.h. */
#include "cpu/soft/simd_kit.h"

/* ---- x87 ------------------------------------------------------------------------------------- */

static unsigned x87_operand_size(uint8_t opcode, uint8_t modrm)
{
    static const uint8_t sizes[8][8] = {
        {4, 4, 4, 4, 4, 4, 4, 4},   {4, 0, 4, 4, 28, 2, 28, 2}, {4, 4, 4, 4, 4, 4, 4, 4},
        {4, 4, 4, 4, 0, 10, 0, 10}, {8, 8, 8, 8, 8, 8, 8, 8},   {8, 8, 8, 8, 108, 0, 108, 2},
        {2, 2, 2, 2, 2, 2, 2, 2},   {2, 2, 2, 2, 10, 8, 10, 8},
    };
    return modrm < 0xc0 ? sizes[opcode & 7][modrm >> 3 & 7] : 0;
}

/* Their images hold host addresses: test_x87_environment(). */
static bool is_x87_image(uint8_t opcode, uint8_t modrm)
{
    unsigned reg = modrm >> 3 & 7;
    return modrm < 0xc0 && ((opcode == 0xd9 && (reg == 4 || reg == 6)) ||
                            (opcode == 0xdd && (reg == 4 || reg == 6)));
}

static void check_undefined(const Encoding *e)
{
    static Native native;
    random_native(&native);
    native.gpr[GPR_RBX] = (uintptr_t)memory;
    if (run_native(&native, e->bytes, e->size) || native_fault != EXC_UD)
        complain(e->bytes, e->size, "is refused, the host takes it");
}

static void test_x87(void)
{
    failures = 0;
    for (unsigned opcode = 0xd8; opcode <= 0xdf; opcode++)
        for (unsigned form = 0; form < 8 + 64; form++) {
            uint8_t modrm = form < 8 ? form << 3 : 0xc0 | (form - 8);
            if (is_x87_image(opcode, modrm))
                continue;
            for (unsigned i = 0; i < (form < 8 ? 400 : 100); i++) {
                Encoding e;
                Insn insns[2] = {{0}};
                x87_encoding(&e, insns, opcode, modrm);
                if (!x87_select(MODE_TEST, &model, insns)) {
                    check_undefined(&e);
                    break;
                }
                check_encoding(&e, insns, x87_operand_size(opcode, modrm), false, false, true);
            }
        }
    g_assert_cmpuint(failures, ==, 0);
}

/* ---- images ---------------------------------------------------------------------------------- */

typedef struct ImageCase {
    const char *name;
    uint8_t bytes[5]; /* on [rbx] */
    uint8_t size, prefixes, opcode, reg;
    bool x87, wide, load;
    uint16_t bytes_used;
    CpuFeature feature;
} ImageCase;

static const ImageCase image_cases[] = {
    {"FNSTENV", {0xd9, 0x33}, 2, 0, 0xd9, 6, true, false, false, 28, CPU_FPU},
    {"FNSTENV 16", {0x66, 0xd9, 0x33}, 3, PREFIX_OPSIZE, 0xd9, 6, true, false, false, 14, CPU_FPU},
    {"FNSAVE", {0xdd, 0x33}, 2, 0, 0xdd, 6, true, false, false, 108, CPU_FPU},
    {"FNSAVE 16", {0x66, 0xdd, 0x33}, 3, PREFIX_OPSIZE, 0xdd, 6, true, false, false, 94, CPU_FPU},
    {"FLDENV", {0xd9, 0x23}, 2, 0, 0xd9, 4, true, false, true, 28, CPU_FPU},
    {"FLDENV 16", {0x66, 0xd9, 0x23}, 3, PREFIX_OPSIZE, 0xd9, 4, true, false, true, 14, CPU_FPU},
    {"FRSTOR", {0xdd, 0x23}, 2, 0, 0xdd, 4, true, false, true, 108, CPU_FPU},
    {"FRSTOR 16", {0x66, 0xdd, 0x23}, 3, PREFIX_OPSIZE, 0xdd, 4, true, false, true, 94, CPU_FPU},
    {"FXSAVE", {0x0f, 0xae, 0x03}, 3, 0, 0xae, 0, false, false, false, 512, CPU_FXSR},
    {"FXSAVE64", {0x48, 0x0f, 0xae, 0x03}, 4, 0, 0xae, 0, false, true, false, 512, CPU_FXSR},
    {"FXRSTOR", {0x0f, 0xae, 0x0b}, 3, 0, 0xae, 1, false, false, true, 512, CPU_FXSR},
    {"FXRSTOR64", {0x48, 0x0f, 0xae, 0x0b}, 4, 0, 0xae, 1, false, true, true, 512, CPU_FXSR},
    {"LDMXCSR", {0x0f, 0xae, 0x13}, 3, 0, 0xae, 2, false, false, true, 4, CPU_SSE},
    {"STMXCSR", {0x0f, 0xae, 0x1b}, 3, 0, 0xae, 3, false, false, false, 4, CPU_SSE},
    {"XSAVE", {0x0f, 0xae, 0x23}, 3, 0, 0xae, 4, false, false, false, 832, CPU_AVX},
    {"XSAVE64", {0x48, 0x0f, 0xae, 0x23}, 4, 0, 0xae, 4, false, true, false, 832, CPU_AVX},
    {"XRSTOR", {0x0f, 0xae, 0x2b}, 3, 0, 0xae, 5, false, false, true, 832, CPU_AVX},
    {"XRSTOR64", {0x48, 0x0f, 0xae, 0x2b}, 4, 0, 0xae, 5, false, true, true, 832, CPU_AVX},
    {"XSAVEC", {0x0f, 0xc7, 0x23}, 3, 0, 0xc7, 4, false, false, false, 832, CPU_XSAVEC},
    {"XSAVEOPT", {0x0f, 0xae, 0x33}, 3, 0, 0xae, 6, false, false, false, 832, CPU_XSAVEC},
};

/* Something that loads: control and status consistent, MXCSR and header now and then bad. */
static void random_image(const ImageCase *c, uint8_t *image)
{
    random_bytes(image, c->bytes_used);
    uint16_t fcw = (random64() & 0x1f3f) | 0x40;
    if (c->x87) {
        store_le16(image, fcw);
        store_le16(image + (c->prefixes ? 2 : 4), random64() & 0x7f7f & ~(~fcw & 0x3f));
    } else if (c->bytes_used == 4) {
        store_le32(image, random64() & (random_below(8) ? 0xffff : 0x8000ffff));
    } else {
        store_le16(image, fcw);
        store_le16(image + 2, random64() & 0x7f7f & ~(~fcw & 0x3f));
        store_le32(image + 24, random64() & (random_below(8) ? 0xffff : 0x8000ffff));
        memset(image + 512, 0, 64);
        image[512] = random64() & 7;
        if (random_below(3) == 0)
            store_le64(image + 520, UINT64_C(1) << 63 | (random_below(4) ? 7 : random64() & 7));
        if (random_below(16) == 0)
            image[512 + random_below(64)] = 0x10;
    }
}

/* Instruction and data pointers are the host's own; MXCSR_MASK is the host's. */
static void forget_pointers(const ImageCase *c, uint8_t *image)
{
    if (c->x87)
        memset(image + (c->prefixes ? 6 : 12), 0, c->prefixes ? 8 : 16);
    else if (c->bytes_used > 4) {
        memset(image + 6, 0, 18);
        memset(image + 28, 0, 4);
    }
}

static void check_image(const ImageCase *c)
{
    static Native native;
    static uint8_t initial[1024], host[1024];
    Encoding e = {.memory = true, .size = c->size, .opcode = c->opcode};
    Insn insns[2] = {{0}};
    memcpy(e.bytes, c->bytes, c->size);
    insns[0] = (Insn){.addr_mask = UINT64_MAX,
                      .base = GPR_RBX,
                      .index = GPR_NONE,
                      .segment = SEG_DS,
                      .map = c->x87 ? MAP_ONE_BYTE : MAP_0F,
                      .opcode = c->opcode,
                      .modrm = c->reg << 3 | 3,
                      .length = c->size,
                      .flags = INSN_MEMORY,
                      .prefixes = c->prefixes,
                      .rex = c->wide ? REX_W : 0,
                      .op_size = c->prefixes ? 2 : 4,
                      .addr_size = 8};
    g_assert_true((c->x87 ? x87_select : simd_select)(MODE_TEST, &model, insns));
    random_native(&native);
    store_le32(native.before + 24, random_mxcsr());
    native.gpr[GPR_RAX] = c->opcode == 0xc7 || c->reg == 6 ? 7 : random64() & 7;
    native.gpr[GPR_RDX] = 0;
    native.gpr[GPR_RBX] =
        (uintptr_t)memory + GUEST_PAGE_SIZE -
        (c->bytes_used == 832 && !(native.gpr[GPR_RAX] & 4) ? 576 : c->bytes_used);
    if (c->bytes_used > 108)
        native.gpr[GPR_RBX] &= ~UINT64_C(63);
    uint8_t *image = (uint8_t *)native.gpr[GPR_RBX];
    unsigned size = memory + GUEST_PAGE_SIZE - image;
    memset(memory, 0x5a, GUEST_PAGE_SIZE);
    memset(initial, 0, sizeof(initial));
    random_image(c, initial);
    memcpy(image, initial, size);
    emulate_prepare(&native, random_below(2));
    bool native_ok = run_native(&native, e.bytes, e.size);
    memcpy(host, image, size);
    memcpy(image, initial, size);
    bool ok = emulate(insns);
    if (ok != native_ok || (!ok && raised != native_fault)) {
        complain(e.bytes, e.size, "raised %d, the host %d", ok ? -1 : raised, native_fault);
        return;
    }
    if (!c->load) {
        forget_pointers(c, host);
        forget_pointers(c, image);
    }
    for (unsigned i = 0; i < size; i++)
        if (image[i] != host[i])
            complain(e.bytes, e.size, "byte %u is %02x, the host has %02x", i, image[i], host[i]);
    if (ok)
        compare_states(&e, &native, true);
}

static void test_images(void)
{
    failures = 0;
    for (unsigned i = 0; i < G_N_ELEMENTS(image_cases); i++)
        for (unsigned run = 0; cpu_has(&model, CPU_AVX) && run < 200; run++)
            check_image(&image_cases[i]);
    g_assert_cmpuint(failures, ==, 0);
}

/* ---- rules ----------------------------------------------------------------------------------- */

static bool ferr_freezes;

static bool on_x87_error(SoftCpu *c, bool ferr)
{
    return ferr_freezes;
}

/* 1/0 with ZE unmasked: nothing happens until the next waiting instruction. */
static void test_pending_error(void)
{
    static Native native;
    Insn divide[2] = {{0}}, next[2] = {{0}}, status[2] = {{0}}, mmx[2] = {{0}};
    prepare_plain(&native);
    cpu->s.fpu.fcw = 0x37b;
    cpu->s.fpu.fsw = 6 << 11;
    cpu->s.fpu.ftw_abridged = 0xc0;
    memset(cpu->s.fpu.st, 0, sizeof(cpu->s.fpu.st));
    store_le64(cpu->s.fpu.st[6], UINT64_C(1) << 63);
    store_le16(cpu->s.fpu.st[6] + 8, 0x3fff);
    x87_insn(divide, 0xd8, 0xf1); /* fdiv st0, st1 */
    x87_insn(next, 0xd9, 0xe8);
    x87_insn(status, 0xdf, 0xe0);
    simd_insn(mmx, 0xfc, SIMD_NP, false, false);
    g_assert_true(x87_select(MODE_TEST, &model, divide) && x87_select(MODE_TEST, &model, next) &&
                  x87_select(MODE_TEST, &model, status) && simd_select(MODE_TEST, &model, mmx));
    g_assert_true(emulate(divide));
    g_assert_cmphex(cpu->s.fpu.fsw & 0x80ff, ==, 0x8084);
    g_assert_cmphex(load_le16(cpu->s.fpu.st[6] + 8), ==, 0x3fff);
    g_assert_true(emulate(status));
    g_assert_cmphex((uint16_t)cpu->s.gpr[GPR_RAX], ==, cpu->s.fpu.fsw);
    emulate(next);
    g_assert_cmpint(raised, ==, EXC_MF);
    emulate(mmx);
    g_assert_cmpint(raised, ==, EXC_MF);

    /* CR0.NE clear: FERR# freezes the CPU at the instruction, IGNNE# lets it go on. */
    cpu->s.cr0 = CR0_PE;
    cpu->x87_error = on_x87_error;
    ferr_freezes = true;
    cpu->s.gpr[GPR_BLOCK_RIP] = 0x1000;
    next[0].rip_offset = 0x10;
    cpu->s.rip = 0;
    g_assert_true(emulate(next));
    g_assert_cmphex(cpu->s.rip, ==, 0x1010);
    g_assert_cmphex(cpu->s.fpu.fsw >> 11 & 7, ==, 6);
    ferr_freezes = false;
    g_assert_true(emulate(next));
    g_assert_cmphex(cpu->s.fpu.fsw >> 11 & 7, ==, 5);
    g_assert_cmphex(cpu->s.fpu.fsw & 0x84, ==, 0x84);
    cpu->x87_error = NULL;
    cpu->s.cr0 = CR0_PE | CR0_NE;
}

/* SDM 1 figures 8-9 to 8-12. */
static void test_environment_formats(void)
{
    static Native native;
    const struct {
        uint8_t op_size;
        bool real;
        unsigned size;
        uint32_t words[7]; /* from the instruction pointer on; 32 or 16 bits each */
    } cases[] = {
        {4, false, 28, {0x12345, 0x05d90000, 0x6789a, 0xffff0000}},
        {4, true, 28, {0xffff2345, 0x000015d9, 0xffff789a, 0x00006000}},
        {2, false, 14, {0x2345, 0, 0x789a, 0}},
        {2, true, 14, {0x2345, 0x15d9, 0x789a, 0x6000}},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        Insn save[2] = {{0}}, load[2] = {{0}};
        prepare_plain(&native);
        cpu->s.fpu.fip = 0x12345;
        cpu->s.fpu.fdp = 0x6789a;
        cpu->s.fpu.fop = 0x5d9;
        cpu->s.cr0 = cases[i].real ? 0 : CR0_PE | CR0_NE;
        x87_insn(save, 0xd9, 0x30);
        x87_insn(load, 0xd9, 0x20);
        save[0].op_size = load[0].op_size = cases[i].op_size;
        g_assert_true(x87_select(MODE_TEST, &model, save) && x87_select(MODE_TEST, &model, load));
        memset(memory, 0x77, 64);
        g_assert_true(emulate(save));
        const uint8_t *image = memory + 0x10;
        for (unsigned w = 0; w < 4; w++)
            g_assert_cmphex(cases[i].op_size == 4 ? load_le32(image + 12 + w * 4)
                                                  : load_le16(image + 6 + w * 2),
                            ==, cases[i].words[w]);
        g_assert_cmphex(image[cases[i].size], ==, 0x77);
        cpu->s.fpu.fip = cpu->s.fpu.fdp = cpu->s.fpu.fop = 0;
        g_assert_true(emulate(load));
        bool whole = cases[i].op_size == 4 || cases[i].real;
        g_assert_cmphex(cpu->s.fpu.fip, ==, whole ? 0x12345 : 0x2345);
        g_assert_cmphex(cpu->s.fpu.fdp, ==, whole ? 0x6789a : 0x789a);
        g_assert_cmphex(cpu->s.fpu.fop, ==, whole ? 0x5d9 : 0);
    }
    cpu->s.cr0 = CR0_PE | CR0_NE;
}

void x87_add_tests(void)
{
    g_test_add_func("/cpu/soft/x87/instructions", test_x87);
    g_test_add_func("/cpu/soft/xsave/images", test_images);
    g_test_add_func("/cpu/soft/x87/pending-error", test_pending_error);
    g_test_add_func("/cpu/soft/x87/environment-formats", test_environment_formats);
}
