/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See simd_kit.h: the processors, ours and the host's. */
#include "cpu/soft/simd_kit.h"

#include <cpuid.h>
#include <sys/mman.h>

/* ---- what the rest of the CPU would do ------------------------------------------------------- */

CpuModel model;
SoftCpu *cpu;
uint8_t *memory;      /* one page, then one that may not be touched */
static uint8_t *code; /* executable */
int raised;           /* vector of the last emulated fault, -1: none */

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

uint64_t random64(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state * UINT64_C(0x2545f4914f6cdd1d);
}

unsigned random_below(unsigned n)
{
    return (random64() >> 33) % n;
}

/* Bits that floating-point units find interesting. */
uint64_t random_lane(void)
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

void random_bytes(void *data, unsigned size)
{
    for (unsigned i = 0; i < size; i += 8) {
        uint64_t lane = random_lane();
        memcpy((uint8_t *)data + i, &lane, MIN(8, size - i));
    }
}

void random_extended(uint8_t *value)
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

static sigjmp_buf native_jump;
volatile int native_fault; /* vector */
volatile uint32_t native_fault_mxcsr;

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
bool run_native(Native *native, const uint8_t *bytes, unsigned size)
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

void emulate_prepare(const Native *native, bool tlb_hit)
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
bool emulate(Insn *insns)
{
    raised = -1;
    cpu->insn = NULL;
    insns[1].fn = finished;
    if (sigsetjmp(cpu->jump, 0) == 0)
        insns[0].fn(cpu, insns);
    return raised < 0;
}

/* ---- setting up ------------------------------------------------------------------------------ */

void simd_kit_init(void)
{
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
        g_error("out of memory");
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
}
