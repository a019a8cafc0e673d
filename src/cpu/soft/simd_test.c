/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * SIMD and x87 handlers against the host's own CPU: each encoding runs natively and through its
 * handler on the same random registers and memory; everything architectural must be equal. Zydis
 * says which encodings exist.
 *
 * Guest linear addresses are host addresses here (TLB addend 0), so that both runs use the same
 * operands.
 */
#include <Zydis/Zydis.h>
#include <cpuid.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "base/bits.h"
#include "cpu/soft/access.h"
#include "cpu/soft/cpu.h"
#include "cpu/soft/ops_simd.h"
#include "cpu/soft/ops_x87.h"
#include "cpu/soft/simd_tables.h"
#include "cpu/soft/stub.h"
#include "cpu/soft/xsave.h"

#define IMAGE_SIZE 832

/* ---- what the rest of the CPU would do ------------------------------------------------------- */

static CpuModel model;
static SoftCpu *cpu;
static uint8_t *memory; /* one page, then one that may not be touched */
static uint8_t *code;   /* executable */
static int raised;      /* vector of the last emulated fault, -1: none */

void cpu_raise(SoftCpu *c, int vector)
{
    raised = vector;
    siglongjmp(c->jump, 1);
}

void cpu_raise_error(SoftCpu *c, int vector, uint32_t error)
{
    cpu_raise(c, vector);
}

static bool in_memory(uint64_t linear, unsigned size)
{
    return linear >= (uintptr_t)memory && linear + size <= (uintptr_t)memory + GUEST_PAGE_SIZE;
}

void mmu_load_bytes(SoftCpu *c, uint64_t linear, void *data, unsigned size, MmuIndex index)
{
    g_assert_nonnull(c->insn);
    if (!in_memory(linear, size))
        cpu_raise(c, EXC_PF);
    memcpy(data, (void *)linear, size);
}

void mmu_store_bytes(SoftCpu *c, uint64_t linear, const void *data, unsigned size, MmuIndex index)
{
    g_assert_nonnull(c->insn);
    if (!in_memory(linear, size))
        cpu_raise(c, EXC_PF);
    memcpy((void *)linear, data, size);
}

uint64_t mmu_load(SoftCpu *c, uint64_t linear, unsigned size, MmuIndex index)
{
    uint64_t value = 0;
    mmu_load_bytes(c, linear, &value, size, index);
    return value;
}

void mmu_store(SoftCpu *c, uint64_t linear, unsigned size, uint64_t value, MmuIndex index)
{
    mmu_store_bytes(c, linear, &value, size, index);
}

void mmu_probe(SoftCpu *c, uint64_t linear, unsigned size, MmuAccess access, MmuIndex index)
{
    if (!in_memory(linear, size))
        cpu_raise(c, EXC_PF);
}

void *mmu_host_pointer(SoftCpu *c, uint64_t linear, unsigned size, MmuAccess access, MmuIndex index)
{
    return NULL;
}

uint64_t segment_linear_checked(SoftCpu *c, unsigned seg, uint64_t offset, unsigned size,
                                MmuAccess access)
{
    return offset;
}

void cpu_host_features(bool *ret_features)
{
    for (unsigned i = 0; i < CPU_FEATURE_COUNT; i++)
        ret_features[i] = true;
    ret_features[CPU_AVX] = ret_features[CPU_F16C] = __builtin_cpu_supports("avx");
    ret_features[CPU_AVX2] = __builtin_cpu_supports("avx2");
    ret_features[CPU_FMA] = __builtin_cpu_supports("fma");
    ret_features[CPU_SSE3] = __builtin_cpu_supports("sse3");
    ret_features[CPU_SSSE3] = __builtin_cpu_supports("ssse3");
    ret_features[CPU_SSE41] = __builtin_cpu_supports("sse4.1");
    ret_features[CPU_SSE42] = __builtin_cpu_supports("sse4.2");
    ret_features[CPU_AES] = __builtin_cpu_supports("aes");
    ret_features[CPU_PCLMULQDQ] = __builtin_cpu_supports("pclmul");
    ret_features[CPU_GFNI] = __builtin_cpu_supports("gfni");
    ret_features[CPU_VPCLMULQDQ] = __builtin_cpu_supports("vpclmulqdq");
    unsigned eax, ebx = 0, ecx = 0, edx;
    __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx);
    ret_features[CPU_SHA] = ebx >> 29 & 1;
    ret_features[CPU_VAES] = ecx >> 9 & 1;
}

/* ---- random state ---------------------------------------------------------------------------- */

static uint64_t random_state = 88172645463325252u;

static uint64_t random64(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state * UINT64_C(0x2545f4914f6cdd1d);
}

static unsigned random_below(unsigned n)
{
    return (random64() >> 33) % n;
}

/* Bits that floating-point units find interesting. */
static uint64_t random_lane(void)
{
    static const uint64_t doubles[] = {
        0,
        0x8000000000000000,
        0x3ff0000000000000,
        0xbff0000000000000,
        0x7ff0000000000000,
        0xfff0000000000000,
        0x7ff8000000000001,
        0x7ff0000000000001,
        1,
        0x8000000000000003,
        0x0010000000000000,
        0x7fefffffffffffff,
        0x43e0000000000000,
        0x41dfffffffc00000,
        0x4024000000000000,
        0x36a0000000000000,
        0x47efffffe0000000,
        0x3810000000000000,
        0x0000000100000001,
        0xffffffffffffffff,
    };
    static const uint32_t floats[] = {
        0,          0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000,
        0x7fc00001, 0x7f800001, 1,          0x80000003, 0x00800000, 0x7f7fffff,
        0x4f000000, 0x4effffff, 0x41200000, 0x477fe000, 0x38800000, 0x33000000,
    };
    switch (random_below(4)) {
    case 0:
        return random64();
    case 1:
        return doubles[random_below(G_N_ELEMENTS(doubles))];
    case 2:
        return floats[random_below(G_N_ELEMENTS(floats))] |
               (uint64_t)floats[random_below(G_N_ELEMENTS(floats))] << 32;
    default:
        return random64() & UINT64_C(0x0000000f0000000f);
    }
}

static void random_bytes(void *data, unsigned size)
{
    for (unsigned i = 0; i < size; i += 8) {
        uint64_t lane = random_lane();
        memcpy((uint8_t *)data + i, &lane, MIN(8, size - i));
    }
}

static void random_extended(uint8_t *value)
{
    static const uint16_t exponents[] = {0,      1,      0x3fff, 0x3ffe, 0x4000, 0x401e, 0x403e,
                                         0x7ffe, 0x7fff, 0x3f80, 0x407f, 0x3c00, 0x43ff};
    static const uint64_t mantissas[] = {0,
                                         1,
                                         0x8000000000000000,
                                         0xc000000000000000,
                                         0xffffffffffffffff,
                                         0x4000000000000000,
                                         0xa000000000000001,
                                         0x8000000000000400};
    uint64_t mantissa = random64() | UINT64_C(1) << 63;
    uint16_t exponent = 0x3fff - 70 + random_below(140);
    if (random_below(3) == 0)
        mantissa = mantissas[random_below(G_N_ELEMENTS(mantissas))];
    if (random_below(3) == 0)
        exponent = exponents[random_below(G_N_ELEMENTS(exponents))];
    store_le64(value, mantissa);
    store_le16(value + 8, exponent | (random64() & 0x8000));
}

/* ---- native runs ----------------------------------------------------------------------------- */

typedef struct Native {
    uint64_t gpr[16]; /* RSP is not used */
    uint64_t flags;
    uint32_t mxcsr;
    uint8_t before[IMAGE_SIZE] __attribute__((aligned(64)));
    uint8_t after[IMAGE_SIZE] __attribute__((aligned(64)));
} Native;

static sigjmp_buf native_jump;
static volatile int native_fault; /* vector */
static volatile uint32_t native_fault_mxcsr;

static void on_signal(int number, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    native_fault_mxcsr = uc->uc_mcontext.fpregs->mxcsr;
    native_fault = number == SIGFPE                              ? EXC_XM
                   : number == SIGILL                            ? EXC_UD
                   : uc->uc_mcontext.gregs[REG_TRAPNO] == EXC_PF ? EXC_PF
                                                                 : EXC_GP;
    siglongjmp(native_jump, 1);
}

static void put(uint8_t **at, const void *bytes, unsigned size)
{
    memcpy(*at, bytes, size);
    *at += size;
}
#define PUT(at, ...) put(at, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

static void put_displacement(uint8_t **at, size_t offset)
{
    uint32_t value = offset;
    put(at, &value, 4);
}

static void put_register_moves(uint8_t **at, bool store)
{
    for (unsigned r = 0; r < 16; r++) {
        if (r == GPR_RSP || r == GPR_RDI)
            continue;
        PUT(at, r < 8 ? 0x48 : 0x4c, store ? 0x89 : 0x8b, 0x87 | (r & 7) << 3);
        put_displacement(at, offsetof(Native, gpr) + r * 8);
    }
}

static void put_xsave(uint8_t **at, unsigned reg, size_t offset)
{
    PUT(at, 0xb8, 7, 0, 0, 0, 0x31, 0xd2, 0x48, 0x0f, 0xae, 0x87 | reg << 3);
    put_displacement(at, offset);
}

/* Runs `bytes` on `native`; false: it faulted (native_fault). */
static bool run_native(Native *native, const uint8_t *bytes, unsigned size)
{
    uint8_t *at = code;
    PUT(&at, 0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57,
        0x57); /* push rbx rbp r12-r15 rdi */
    put_xsave(&at, 5, offsetof(Native, before));
    PUT(&at, 0xff, 0xb7); /* push [flags]; popfq */
    put_displacement(&at, offsetof(Native, flags));
    PUT(&at, 0x9d);
    put_register_moves(&at, false);
    PUT(&at, 0x48, 0x8b, 0xbf); /* mov rdi, [rdi + RDI] */
    put_displacement(&at, offsetof(Native, gpr[GPR_RDI]));
    put(&at, bytes, size);
    PUT(&at, 0x57, 0x48, 0x8b, 0x7c, 0x24, 8); /* push rdi; mov rdi, [rsp + 8] */
    put_register_moves(&at, true);
    PUT(&at, 0x8f, 0x87); /* pop [RDI] */
    put_displacement(&at, offsetof(Native, gpr[GPR_RDI]));
    PUT(&at, 0x9c, 0x8f, 0x87); /* pushfq; pop [flags] */
    put_displacement(&at, offsetof(Native, flags));
    put_xsave(&at, 4, offsetof(Native, after));
    PUT(&at, 0xdb, 0xe3, 0x0f, 0xae, 0x97); /* fninit; ldmxcsr [mxcsr] */
    put_displacement(&at, offsetof(Native, mxcsr));
    if (__builtin_cpu_supports("avx"))
        PUT(&at, 0xc5, 0xf8, 0x77);
    PUT(&at, 0x5f, 0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b, 0xc3);
    native->mxcsr = 0x1f80;
    native_fault = -1;
    if (sigsetjmp(native_jump, 1) == 0)
        ((void (*)(Native *))code)(native);
    return native_fault < 0;
}

/* ---- emulated runs --------------------------------------------------------------------------- */

static void finished(SoftCpu *c, const Insn *insn)
{
}

static void state_from_image(FpuState *fpu, const uint8_t *image)
{
    memcpy(fpu, image, 24);
    fpu->ftw_abridged = image[4];
    fpu->mxcsr = load_le32(image + 24);
    memcpy(fpu->st, image + 32, 128);
    memcpy(fpu->xmm, image + 160, 256);
    memcpy(fpu->ymm_high, image + 576, 256);
    x87_from_architectural(fpu);
}

static void emulate_prepare(const Native *native, bool tlb_hit)
{
    memcpy(cpu->s.gpr, native->gpr, sizeof(native->gpr));
    cpu->s.gpr[GPR_NONE] = 0;
    flags_set(cpu, native->flags);
    state_from_image(&cpu->s.fpu, native->before);
    for (unsigned i = 0; i < TLB_SIZE; i++)
        cpu->tlbs[0][i] = (TlbEntry){tlb_none(i), tlb_none(i), tlb_none(i), 0};
    if (tlb_hit) {
        TlbEntry *entry = tlb_entry(cpu->tlb, (uintptr_t)memory);
        entry->tag_read = entry->tag_write = (uintptr_t)memory;
    }
}

/* False: it raised `raised`. */
static bool emulate(Insn *insns)
{
    raised = -1;
    cpu->insn = NULL;
    insns[1].fn = finished;
    if (sigsetjmp(cpu->jump, 0) == 0)
        insns[0].fn(cpu, insns);
    return raised < 0;
}

/* ---- encodings ------------------------------------------------------------------------------- */

typedef struct Encoding {
    uint8_t map, opcode, prefix; /* SIMD_* */
    bool vex, l, w, memory;
    uint8_t reg, rm, vvvv, imm;
    bool has_imm;
    uint8_t disp; /* memory operand: [rbx + disp] */
    uint8_t bytes[16];
    unsigned size;
} Encoding;

static void encode(Encoding *e)
{
    static const uint8_t prefixes[] = {0, 0x66, 0xf3, 0xf2};
    uint8_t *at = e->bytes;
    unsigned r = e->reg >> 3, b = e->memory ? 0 : e->rm >> 3;
    if (e->vex) {
        PUT(&at, 0xc4, !r << 7 | 0x40 | !b << 5 | e->map,
            e->w << 7 | (~e->vvvv & 15) << 3 | e->l << 2 | e->prefix, e->opcode);
    } else {
        if (e->prefix)
            PUT(&at, prefixes[e->prefix]);
        if (e->w || r || b)
            PUT(&at, 0x40 | (e->w ? 8 : 0) | r << 2 | b);
        PUT(&at, 0x0f);
        if (e->map != MAP_0F)
            PUT(&at, e->map == MAP_0F38 ? 0x38 : 0x3a);
        PUT(&at, e->opcode);
    }
    if (e->memory)
        PUT(&at, 0x40 | (e->reg & 7) << 3 | 3, e->disp);
    else
        PUT(&at, 0xc0 | (e->reg & 7) << 3 | (e->rm & 7));
    if (e->has_imm)
        PUT(&at, e->imm);
    e->size = at - e->bytes;
}

/* What the decoder makes of it. */
static void decode(const Encoding *e, Insn *insn)
{
    static const uint8_t prefixes[] = {0, PREFIX_OPSIZE, PREFIX_REPE, PREFIX_REPNE};
    *insn = (Insn){
        .imm = e->has_imm ? e->imm : 0,
        .addr_mask = UINT64_MAX,
        .disp = e->memory ? (int8_t)e->disp : 0,
        .base = e->memory ? GPR_RBX : GPR_NONE,
        .index = GPR_NONE,
        .segment = SEG_DS,
        .reg = e->reg,
        .rm = e->rm,
        .vvvv = e->vvvv,
        .length = e->size,
        .opcode = e->opcode,
        .map = e->map,
        .modrm = (e->memory ? 0x43 : 0xc0 | (e->rm & 7)) | (e->reg & 7) << 3,
        .prefixes = prefixes[e->prefix] | (e->vex ? PREFIX_VEX : 0),
        .rex = (e->w ? REX_W : 0) | (e->l ? VEX_L : 0) | (e->reg >> 3 ? REX_R : 0),
        .flags = e->memory ? INSN_MEMORY : 0,
        .op_size = e->w                   ? 8
                   : e->prefix == SIMD_66 ? 2
                                          : 4,
        .addr_size = 8,
    };
}

#define MODE_TEST (MODE_CODE64 | MODE_PROTECTED | MODE_LONG)

static char *describe(const uint8_t *bytes, unsigned size)
{
    GString *text = g_string_new(NULL);
    ZydisDisassembledInstruction insn;
    for (unsigned i = 0; i < size; i++)
        g_string_append_printf(text, "%02x ", bytes[i]);
    if (ZYAN_SUCCESS(ZydisDisassembleIntel(ZYDIS_MACHINE_MODE_LONG_64, 0, bytes, size, &insn)))
        g_string_append(text, insn.text);
    return g_string_free(text, FALSE);
}

static unsigned failures;

static void complain(const uint8_t *bytes, unsigned size, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    g_autofree char *what = g_strdup_vprintf(format, arguments), *text = describe(bytes, size);
    va_end(arguments);
    if (failures++ < 40)
        g_test_message("%s: %s", text, what);
}

static char *hex(const uint8_t *bytes, unsigned size)
{
    GString *text = g_string_new(NULL);
    for (unsigned i = size; i-- > 0;)
        g_string_append_printf(text, "%02x", bytes[i]);
    return g_string_free(text, FALSE);
}

static void expect_bytes(const Encoding *e, const char *what, unsigned n, const uint8_t *ours,
                         const uint8_t *host, unsigned size)
{
    if (memcmp(ours, host, size) == 0)
        return;
    g_autofree char *a = hex(ours, size), *b = hex(host, size);
    complain(e->bytes, e->size, "%s%u is %s, the host has %s", what, n, a, b);
}

#define FLAGS_TESTED FLAGS_ARITHMETIC

static void compare_states(const Encoding *e, const Native *native, bool x87)
{
    FpuState fpu = cpu->s.fpu;
    x87_to_architectural(&fpu);
    for (unsigned i = 0; i < 16; i++)
        if (i != GPR_RSP && cpu->s.gpr[i] != native->gpr[i])
            complain(e->bytes, e->size, "GPR %u is %016" PRIx64 ", the host has %016" PRIx64, i,
                     cpu->s.gpr[i], native->gpr[i]);
    if ((flags_get(cpu) ^ native->flags) & FLAGS_TESTED)
        complain(e->bytes, e->size, "flags are %x, the host has %x", (unsigned)flags_get(cpu),
                 (unsigned)native->flags);
    if (fpu.mxcsr != load_le32(native->after + 24))
        complain(e->bytes, e->size, "MXCSR is %x, the host has %x, before %x", fpu.mxcsr,
                 load_le32(native->after + 24), load_le32(native->before + 24));
    for (unsigned i = 0; i < 16; i++) {
        expect_bytes(e, "XMM", i, fpu.xmm[i], native->after + 160 + i * 16, 16);
        expect_bytes(e, "YMM high ", i, fpu.ymm_high[i], native->after + 576 + i * 16, 16);
    }
    expect_bytes(e, "FCW", 0, (uint8_t *)&fpu.fcw, native->after, 2);
    bool fcomi = x87 && (e->bytes[0] == 0xdb || e->bytes[0] == 0xdf) && e->bytes[1] >= 0xe8;
    uint16_t ours = fpu.fsw,
             host = load_le16(native->after + 2) & ~(fcomi ? 0x200 : 0); /* C1: AMD differs */
    expect_bytes(e, "FSW", 0, (uint8_t *)&ours, (uint8_t *)&host, 2);
    expect_bytes(e, "FTW", 0, &fpu.ftw_abridged, native->after + 4, 1);
    for (unsigned i = 0; i < 8; i++)
        expect_bytes(e, "ST", i, fpu.st[i], native->after + 32 + i * 16, 10);
}

static void random_native(Native *native)
{
    memset(native, 0, sizeof(*native));
    for (unsigned i = 0; i < 16; i++)
        native->gpr[i] = random_lane();
    native->flags = 2 | (random64() & FLAGS_ARITHMETIC);
    store_le16(native->before, 0x37f);
    store_le16(native->before + 2, random_below(8) << 11);
    native->before[4] = random64();
    store_le32(native->before + 24, 0x1f80);
    for (unsigned i = 0; i < 8; i++)
        random_extended(native->before + 32 + i * 16);
    random_bytes(native->before + 160, 256);
    random_bytes(native->before + 576, 256);
    native->before[512] = 7;
}

static uint32_t random_mxcsr(void)
{
    switch (random_below(4)) {
    case 0:
        return 0x1f80;
    case 1:
        return 0x1f80 | (random64() & 0x3f);
    case 2:
        return 0x1f80 | (random64() & 0xe07f);
    default:
        return random64() & 0xffff;
    }
}

/* Both runs of one encoding on one random state. `x87`: all of the x87 state is random. */
static void check_encoding(Encoding *e, Insn *insns, unsigned memory_bytes, bool aligned,
                           bool misalign, bool x87)
{
    static Native native;
    static uint8_t initial[GUEST_PAGE_SIZE], native_memory[GUEST_PAGE_SIZE];
    random_native(&native);
    store_le32(native.before + 24, random_mxcsr());
    if (x87) {
        uint16_t fcw = random_below(2) ? 0x37f : (random64() & 0x1f3f) | 0x40;
        if (random_below(3) == 0)
            fcw |= 0x3f;
        store_le16(native.before, fcw);
        store_le16(native.before + 2, (random64() & 0x7f00) |
                                          (random_below(2) ? random64() & fcw & 0x3f : 0) |
                                          (random64() & 0x40));
        if (random_below(3))
            native.before[4] = random_below(2) ? 0xff : 0x7f << random_below(2);
    }
    if (memory_bytes) { /* at the end of the page more often than not: the host tells the operand's
                           size */
        uint64_t address = (uintptr_t)memory + GUEST_PAGE_SIZE - memory_bytes;
        if (random_below(3) == 0)
            address -= aligned ? align_up(memory_bytes, 64) : memory_bytes + random_below(32);
        if (misalign && random_below(16) == 0)
            address -= 1 + random_below(15);
        native.gpr[GPR_RBX] = address - (int8_t)e->disp;
        native.gpr[GPR_RDI] = address;
    }
    random_bytes(initial + GUEST_PAGE_SIZE - 256, 256);
    if (x87 && random_below(2)) /* BCD and extended operands, too */
        for (unsigned i = 1; i <= 10; i++)
            initial[GUEST_PAGE_SIZE - i] = random_below(10) << 4 | random_below(10);
    memcpy(memory, initial, GUEST_PAGE_SIZE);
    emulate_prepare(&native, random_below(4) != 0);
    bool native_ok = run_native(&native, e->bytes, e->size);
    memcpy(native_memory, memory, GUEST_PAGE_SIZE);
    memcpy(memory, initial, GUEST_PAGE_SIZE);
    bool ok = emulate(insns);
    if (ok != native_ok || (!ok && raised != native_fault)) {
        complain(e->bytes, e->size, "raised %d, the host %d; mxcsr %x", ok ? -1 : raised,
                 native_fault, load_le32(native.before + 24));
        return;
    }
    if (memcmp(memory, native_memory, GUEST_PAGE_SIZE) != 0)
        expect_bytes(e, "memory", 0, memory + GUEST_PAGE_SIZE - 64,
                     native_memory + GUEST_PAGE_SIZE - 64, 64);
    if (ok) {
        compare_states(e, &native, x87);
    } else if (raised == EXC_XM) {
        /* PE is known to differ with an unmasked OE or UE; DPPS and DPPD are several operations. */
        bool dot = e->map == MAP_0F3A && (e->opcode == 0x40 || e->opcode == 0x41);
        if (!dot && ((cpu->s.fpu.mxcsr ^ native_fault_mxcsr) & ~0x20))
            complain(e->bytes, e->size, "faulting MXCSR is %x, the host has %x, before %x",
                     cpu->s.fpu.mxcsr, native_fault_mxcsr, load_le32(native.before + 24));
    }
}

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

/* ---- x87 ------------------------------------------------------------------------------------- */

static void x87_encoding(Encoding *e, Insn *insn, uint8_t opcode, uint8_t modrm)
{
    *e = (Encoding){.memory = modrm < 0xc0, .size = 2};
    e->bytes[0] = opcode;
    e->bytes[1] = modrm;
    if (e->memory) {
        e->bytes[1] = 0x43 | (modrm & 0x38);
        e->bytes[2] = e->disp = 0x10;
        e->size = 3;
    }
    *insn = (Insn){.addr_mask = UINT64_MAX,
                   .disp = e->disp,
                   .base = e->memory ? GPR_RBX : GPR_NONE,
                   .index = GPR_NONE,
                   .segment = SEG_DS,
                   .opcode = opcode,
                   .modrm = e->bytes[1],
                   .length = e->size,
                   .flags = e->memory ? INSN_MEMORY : 0,
                   .op_size = 4,
                   .addr_size = 8};
}

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

/* ---- rules ----------------------------------------------------------------------------------- */

/* An initial FPU, [rbx] on the page. */
static void prepare_plain(Native *native)
{
    random_native(native);
    store_le16(native->before + 2, 0);
    native->before[4] = 0;
    native->gpr[GPR_RBX] = (uintptr_t)memory;
    emulate_prepare(native, true);
}

static void simd_insn(Insn *insns, uint8_t opcode, unsigned prefix, bool vex, bool memory_form)
{
    Encoding e = {.map = MAP_0F,
                  .opcode = opcode,
                  .prefix = prefix,
                  .vex = vex,
                  .memory = memory_form,
                  .reg = 1,
                  .rm = 2};
    encode(&e);
    decode(&e, insns);
}

static void x87_insn(Insn *insns, uint8_t opcode, uint8_t modrm)
{
    Encoding e;
    x87_encoding(&e, insns, opcode, modrm);
}

/* What one instruction raises (-1: nothing) with these control registers; -2: refused when decoded.
 */
static int outcome(Insn *insns, bool x87, uint64_t cr0, uint64_t cr4, uint64_t xcr0)
{
    static Native native;
    uint32_t mode = MODE_TEST;
    if (cr0 & (CR0_EM | CR0_TS))
        mode |= MODE_FPU_TRAP;
    if ((cr0 & CR0_EM) || !(cr4 & CR4_OSFXSR))
        mode |= MODE_SSE_OFF;
    if (!(cr4 & CR4_OSXSAVE) || !(xcr0 & XCR0_AVX))
        mode |= MODE_AVX_OFF;
    prepare_plain(&native);
    cpu->s.cr0 = CR0_PE | CR0_NE | cr0;
    cpu->s.cr4 = cr4;
    cpu->s.xcr0 = xcr0;
    int vector = -2;
    if ((x87 ? x87_select : simd_select)(mode, &model, insns)) {
        emulate(insns);
        vector = raised;
    }
    cpu->s.cr0 = CR0_PE | CR0_NE;
    cpu->s.cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
    cpu->s.xcr0 = 7;
    return vector;
}

/* SDM 3A tables 2-2 and 2-3, SDM 2 2.4; 1: FXSAVE and relatives by their own pages. */
static void test_traps(void)
{
    enum {
        MMX_INSN,
        SSE_INSN,
        AVX_INSN,
        X87_INSN,
        FWAIT_INSN,
        EMMS_INSN,
        STMXCSR_INSN,
        FXSAVE_INSN,
        XSAVE_INSN,
        MOVNTI_INSN
    };
    const uint64_t all = CR4_OSFXSR | CR4_OSXSAVE;
    const struct {
        int insn;
        uint64_t cr0, cr4, xcr0;
        int vector;
    } cases[] = {
        {MMX_INSN, 0, 0, 1, -1},
        {MMX_INSN, CR0_TS, 0, 1, EXC_NM},
        {MMX_INSN, CR0_EM | CR0_TS, all, 7, EXC_UD},
        {SSE_INSN, 0, all, 7, -1},
        {SSE_INSN, 0, 0, 1, EXC_UD},
        {SSE_INSN, CR0_TS, all, 7, EXC_NM},
        {SSE_INSN, CR0_EM | CR0_TS, all, 7, EXC_UD},
        {SSE_INSN, CR0_TS, 0, 7, EXC_UD},
        {AVX_INSN, 0, all, 7, -1},
        {AVX_INSN, 0, CR4_OSFXSR, 7, EXC_UD},
        {AVX_INSN, 0, all, 3, EXC_UD},
        {AVX_INSN, CR0_TS, all, 7, EXC_NM},
        {AVX_INSN, CR0_TS, all, 1, EXC_UD},
        {X87_INSN, 0, 0, 1, -1},
        {X87_INSN, CR0_TS, all, 7, EXC_NM},
        {X87_INSN, CR0_EM, all, 7, EXC_NM},
        {FWAIT_INSN, 0, 0, 1, -1},
        {FWAIT_INSN, CR0_TS, all, 7, -1},
        {FWAIT_INSN, CR0_TS | CR0_MP, all, 7, EXC_NM},
        {FWAIT_INSN, CR0_EM, all, 7, -1},
        {EMMS_INSN, 0, 0, 1, -1},
        {EMMS_INSN, CR0_TS, all, 7, EXC_NM},
        {EMMS_INSN, CR0_EM, all, 7, EXC_UD},
        {STMXCSR_INSN, 0, all, 7, -1},
        {STMXCSR_INSN, 0, 0, 7, EXC_UD},
        {STMXCSR_INSN, CR0_TS, all, 7, EXC_NM},
        {FXSAVE_INSN, 0, 0, 1, -1},
        {FXSAVE_INSN, CR0_TS, all, 7, EXC_NM},
        {FXSAVE_INSN, CR0_EM, all, 7, EXC_NM},
        {XSAVE_INSN, 0, all, 7, -1},
        {XSAVE_INSN, 0, CR4_OSFXSR, 7, EXC_UD},
        {XSAVE_INSN, CR0_TS, all, 7, EXC_NM},
        {MOVNTI_INSN, CR0_TS | CR0_EM, 0, 1, -1},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        Insn insns[2] = {{0}};
        int insn = cases[i].insn;
        switch (insn) {
        case MMX_INSN:
            simd_insn(insns, 0xfc, SIMD_NP, false, false);
            break;
        case SSE_INSN:
            simd_insn(insns, 0x58, SIMD_NP, false, false);
            break;
        case AVX_INSN:
            simd_insn(insns, 0x58, SIMD_NP, true, false);
            break;
        case X87_INSN:
            x87_insn(insns, 0xd9, 0xe8);
            break;
        case FWAIT_INSN:
            x87_insn(insns, 0x9b, 0xc0);
            break;
        case EMMS_INSN:
            simd_insn(insns, 0x77, SIMD_NP, false, false);
            break;
        case MOVNTI_INSN:
            simd_insn(insns, 0xc3, SIMD_NP, false, true);
            break;
        default:
            simd_insn(insns, 0xae, SIMD_NP, false, true);
            insns[0].modrm = (insn == STMXCSR_INSN ? 3 : insn == FXSAVE_INSN ? 0 : 4) << 3 | 3;
        }
        if ((insn == AVX_INSN || insn == XSAVE_INSN) && !cpu_has(&model, CPU_AVX))
            continue;
        g_test_message("case %u", i);
        g_assert_cmpint(outcome(insns, insn == X87_INSN || insn == FWAIT_INSN, cases[i].cr0,
                                cases[i].cr4, cases[i].xcr0),
                        ==, cases[i].vector);
    }
}

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

/* Faults leave everything as it was. */
static void test_precise(void)
{
    static Native native;
    Insn store[2] = {{0}}, add[2] = {{0}};
    prepare_plain(&native);
    cpu->s.fpu.ftw_abridged = 1;
    cpu->s.gpr[GPR_RBX] += GUEST_PAGE_SIZE;
    x87_insn(store, 0xdd, 0x18); /* fstp m64 */
    g_assert_true(x87_select(MODE_TEST, &model, store));
    g_assert_false(emulate(store));
    g_assert_cmpint(raised, ==, EXC_PF);
    g_assert_cmphex(cpu->s.fpu.ftw_abridged, ==, 1);
    g_assert_cmphex(cpu->s.fpu.fsw, ==, 0);

    uint8_t before[16];
    prepare_plain(&native);
    simd_insn(add, 0x5e, SIMD_NP, false, false); /* divps xmm1, xmm2 */
    memset(cpu->s.fpu.xmm[1], 0x3f, 16);
    memset(cpu->s.fpu.xmm[2], 0, 16);
    memcpy(before, cpu->s.fpu.xmm[1], 16);
    cpu->s.fpu.mxcsr = 0x1d80; /* ZE unmasked */
    g_assert_true(simd_select(MODE_TEST, &model, add));
    g_assert_false(emulate(add));
    g_assert_cmpint(raised, ==, EXC_XM);
    g_assert_cmpmem(before, 16, cpu->s.fpu.xmm[1], 16);
    g_assert_cmphex(cpu->s.fpu.mxcsr, ==, 0x1d84);
    cpu->s.cr4 &= ~(uint64_t)CR4_OSXMMEXCPT;
    g_assert_false(emulate(add));
    g_assert_cmpint(raised, ==, EXC_UD);
    cpu->s.cr4 |= CR4_OSXMMEXCPT;
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

/* What a model lacks, and what a mode has not, is #UD. */
static void test_models_and_modes(void)
{
    CpuModel old = model;
    Insn insn;
    memset(old.features, 0, sizeof(old.features));
    old.features[CPU_FPU] = old.features[CPU_MMX] = old.features[CPU_SSE] = true;
    simd_insn(&insn, 0x58, SIMD_NP, false, false);
    g_assert_true(simd_select(MODE_TEST, &old, &insn));
    simd_insn(&insn, 0x58, SIMD_66, false, false);
    g_assert_false(simd_select(MODE_TEST, &old, &insn));
    simd_insn(&insn, 0xd4, SIMD_NP, false, false); /* PADDQ mm came with SSE2 */
    g_assert_false(simd_select(MODE_TEST, &old, &insn));
    simd_insn(&insn, 0x58, SIMD_NP, true, false);
    g_assert_false(simd_select(MODE_TEST, &old, &insn));
    x87_insn(&insn, 0xda, 0xc1); /* FCMOVB */
    g_assert_false(x87_select(MODE_TEST, &old, &insn));
    x87_insn(&insn, 0xdb, 0x08); /* FISTTP */
    g_assert_false(x87_select(MODE_TEST, &old, &insn));
    x87_insn(&insn, 0xd8, 0xc1);
    insn.prefixes = PREFIX_LOCK;
    g_assert_false(x87_select(MODE_TEST, &old, &insn));
    if (!cpu_has(&model, CPU_AVX))
        return;
    simd_insn(&insn, 0x58, SIMD_NP, true, false);
    g_assert_true(simd_select(MODE_CODE32 | MODE_PROTECTED, &model, &insn));
    g_assert_false(simd_select(MODE_CODE16, &model, &insn));
    simd_insn(&insn, 0x51, SIMD_NP, true,
              false); /* VSQRTPS has no vvvv; its top bit counts in 64-bit mode only */
    insn.vvvv = 8;
    g_assert_false(simd_select(MODE_TEST, &model, &insn));
    g_assert_true(simd_select(MODE_CODE32 | MODE_PROTECTED, &model, &insn));
}

static void test_features(void)
{
    bool features[CPU_FEATURE_COUNT] = {false};
    simd_features(features);
    g_assert_true(features[CPU_FPU] && features[CPU_MMX] && features[CPU_SSE2] &&
                  features[CPU_XSAVE]);
    g_assert_cmpint(features[CPU_AVX], ==, __builtin_cpu_supports("avx") != 0);
    g_assert_false(features[CPU_POPCNT]);
}

static void test_capacity(void)
{
    g_test_message("%zu of %zu bytes", stub_capacity_needed(), stub_capacity());
    g_assert_cmpuint(stub_capacity_needed(), <=, stub_capacity());
}

/* Where no memfd may be had, the area is made of single pages: more than one of them here. */
static void test_without_memfd(void)
{
    static Native native;
    if (!g_test_subprocess()) {
        g_test_trap_subprocess(NULL, 0, G_TEST_SUBPROCESS_DEFAULT);
        g_test_trap_assert_passed();
        return;
    }
    struct rlimit old, none;
    g_assert_cmpint(getrlimit(RLIMIT_NOFILE, &old), ==, 0);
    none = (struct rlimit){0, old.rlim_max};
    g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &none), ==, 0);
    g_assert_true(stub_available());
    g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &old), ==, 0);
    for (unsigned imm = 0; imm < 256; imm++) {
        Encoding e = {.map = MAP_0F,
                      .opcode = 0x70,
                      .prefix = SIMD_66,
                      .reg = 1,
                      .rm = 2,
                      .has_imm = true,
                      .imm = imm};
        Insn insns[2] = {{0}};
        encode(&e);
        decode(&e, insns);
        g_assert_true(simd_select(MODE_TEST, &model, insns));
        prepare_plain(&native);
        g_assert_true(emulate(insns));
        for (unsigned i = 0; i < 4; i++)
            g_assert_cmphex(load_le32(cpu->s.fpu.xmm[1] + i * 4), ==,
                            load_le32(native.before + 160 + 2 * 16 + (imm >> i * 2 & 3) * 4));
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    const char *seed = g_getenv("OSPITE_TEST_SEED"); /* another one than the everyday run's */
    if (seed)
        random_state ^= g_ascii_strtoull(seed, NULL, 0) * UINT64_C(0x9e3779b97f4a7c15);
    cpu_host_features(model.features);
    memory =
        mmap(NULL, 2 * GUEST_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(memory + GUEST_PAGE_SIZE, GUEST_PAGE_SIZE, PROT_NONE);
    code = mmap(NULL, GUEST_PAGE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC,
                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (posix_memalign((void **)&cpu, 64, sizeof(*cpu)) != 0)
        return 1;
    memset(cpu, 0, sizeof(*cpu));
    cpu->model = &model;
    cpu->tlb = cpu->tlbs[0];
    cpu->code_size = 8;
    cpu->mode = MODE_TEST;
    cpu->s.cr0 = CR0_PE | CR0_NE;
    cpu->s.cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
    cpu->s.xcr0 = 7;
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_NODEFER};
    const int signals[] = {SIGFPE, SIGSEGV, SIGBUS, SIGILL};
    for (unsigned i = 0; i < G_N_ELEMENTS(signals); i++)
        sigaction(signals[i], &action, NULL);
    g_test_add_func("/cpu/soft/simd/existence", test_existence);
    g_test_add_func("/cpu/soft/simd/rows", test_simd_rows);
    g_test_add_func("/cpu/soft/simd/gathers", test_gathers);
    g_test_add_func("/cpu/soft/simd/gather-fault", test_gather_fault);
    g_test_add_func("/cpu/soft/x87/instructions", test_x87);
    g_test_add_func("/cpu/soft/xsave/images", test_images);
    g_test_add_func("/cpu/soft/simd/traps", test_traps);
    g_test_add_func("/cpu/soft/simd/precise", test_precise);
    g_test_add_func("/cpu/soft/simd/models-and-modes", test_models_and_modes);
    g_test_add_func("/cpu/soft/simd/features", test_features);
    g_test_add_func("/cpu/soft/x87/pending-error", test_pending_error);
    g_test_add_func("/cpu/soft/x87/environment-formats", test_environment_formats);
    g_test_add_func("/cpu/soft/stub/capacity", test_capacity);
    g_test_add_func("/cpu/soft/stub/without-memfd", test_without_memfd);
    return g_test_run();
}
