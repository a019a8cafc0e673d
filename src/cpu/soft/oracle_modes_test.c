/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * 16-bit and 32-bit code against the host's own CPU: one random instruction at a time, natively
 * through segments of a local descriptor table and in the interpreter. The segments are small, so
 * any address is safe to try: it hits the window or #GP and #SS. Vector, error code, registers,
 * flags, EIP, x87, SSE and memory must agree, after faults, too.
 *
 * Native code is followed by INT3, and a signal's context tells what the instruction did:
 *
 *   entry stub (64-bit): load everything → far jump → the instruction → INT3 or fault → signal →
 * siglongjmp
 *
 * Usage: test-cpu-soft-oracle-modes [--seconds N] [--random N]: for a longer run than the test's.
 */
#include <asm/ldt.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/ucontext.h>
#include <unistd.h>

#include "cpu/cpu_features.h"
#include "cpu/soft/decode.h"
#include "cpu/soft/interp.h"
#include "cpu/soft/ops_system.h"

#define WINDOW_SIZE  0x4000
#define WINDOW_GUEST 0x180000 /* linear and physical */
#define CODE_SIZE    0x10000
#define CODE_GUEST   0x100000
#define START        0x8000 /* of the instruction in its segment */
#define RAM_SIZE     (4 << 20)
#define BOUNDED_RUNS 30000

enum { LDT_CODE16, LDT_CODE32, LDT_DATA16, LDT_DATA32, LDT_DOWN };
#define LDT_SELECTOR(n) ((n) << 3 | 7)

/* What the entry stub loads; below 2 GiB. */
typedef struct Native {
    uint8_t fx[512] __attribute__((aligned(64)));
    uint64_t gpr[8];
    uint64_t rflags;
    uint16_t ss, ds, es;
    struct {
        uint32_t offset;
        uint16_t selector;
    } __attribute__((packed, aligned(8))) target;
} Native;

typedef struct Mode {
    const char *name;
    uint32_t mode;
    unsigned code, stack;
} Mode;

static const Mode modes[] = {
    {"16 bits", MODE_CODE16, LDT_CODE16, LDT_DATA16},
    {"32 bits", MODE_CODE32 | MODE_STACK32, LDT_CODE32, LDT_DATA32},
    {"16 bits with a 32-bit stack", MODE_CODE16 | MODE_STACK32, LDT_CODE16, LDT_DATA32},
    {"32 bits with a 16-bit stack", MODE_CODE32, LDT_CODE32, LDT_DATA16},
};

static CpuModel model;
static Vcpu vcpu;
static Vm vm;
static Ram *ram;
static SoftCpu *cpu;
static CpuState start;
static Native *native;
static uint8_t *stub, *code, *window;
static uint8_t signal_stack[1 << 16];
static sigjmp_buf back;
static ucontext_t seen;
static FpuState seen_fpu;
static unsigned failures;
static guint32 seed = 1;
static unsigned seconds;

/* ---- the host ---------------------------------------------------------------------------------
 */

static void on_signal(int signal, siginfo_t *info, void *context)
{
    /* The kernel leaves AC as it was; what follows is not aligned. */
    asm volatile("pushfq; andq $~0x40000, (%%rsp); popfq" ::: "cc", "memory");
    seen = *(ucontext_t *)context;
    memcpy(&seen_fpu, seen.uc_mcontext.fpregs, 416);
    siglongjmp(back, 1);
}

static bool set_ldt(unsigned n, const void *base, uint32_t limit, unsigned contents, bool wide)
{
    struct user_desc desc = {.entry_number = n,
                             .base_addr = (uintptr_t)base,
                             .limit = limit,
                             .seg_32bit = wide,
                             .contents = contents};
    return syscall(SYS_modify_ldt, 1, &desc, sizeof(desc)) == 0;
}

static uint8_t *emit_absolute(uint8_t *at, const uint8_t *opcode, unsigned size,
                              const void *address)
{
    uint32_t disp = (uintptr_t)address;
    memcpy(at, opcode, size);
    memcpy(at + size, &disp, 4);
    return at + size + 4;
}

#define EMIT(address, ...)                                                                         \
    at = emit_absolute(at, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}), \
                       address)

static void emit_stub(void)
{
    uint8_t *at = stub;
    EMIT(native->fx, 0x48, 0x0f, 0xae, 0x0c, 0x25);
    EMIT(&native->rflags, 0xff, 0x34, 0x25);
    *at++ = 0x9d;
    for (unsigned i = 0; i < 8; i++) {
        if (i != GPR_RSP)
            EMIT(&native->gpr[i], 0x48, 0x8b, i << 3 | 4, 0x25);
    }
    EMIT(&native->ds, 0x8e, 0x1c, 0x25);
    EMIT(&native->es, 0x8e, 0x04, 0x25);
    EMIT(&native->ss, 0x8e, 0x14, 0x25);
    EMIT(&native->gpr[GPR_RSP], 0x48, 0x8b, 0x24, 0x25);
    EMIT(&native->target, 0xff, 0x2c, 0x25);
}

static void *low_memory(size_t size, int protection)
{
    void *memory = mmap(NULL, size, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    g_assert_true(memory != MAP_FAILED);
    return memory;
}

/* False: this host has no local descriptor tables. */
static bool native_init(void)
{
    static const int signals[] = {SIGFPE, SIGILL, SIGSEGV, SIGBUS, SIGTRAP};
    struct sigaction action = {.sa_sigaction = on_signal,
                               .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    /* Above 4 GiB, where no random ESP points: the kernel would take an ESP within the signal stack
     * for a signal in a signal, and kill the process where the frame doesn't fit below it. */
    stack_t stack = {.ss_sp = signal_stack, .ss_size = sizeof(signal_stack)};
    g_assert_cmphex((uintptr_t)signal_stack, >, UINT32_MAX);
    sigaltstack(&stack, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(signals); i++)
        sigaction(signals[i], &action, NULL);
    native = low_memory(4096, PROT_READ | PROT_WRITE);
    stub = low_memory(4096, PROT_READ | PROT_WRITE | PROT_EXEC);
    code = low_memory(CODE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC);
    window = low_memory(WINDOW_SIZE, PROT_READ | PROT_WRITE);
    memset(code, 0xcc, CODE_SIZE);
    emit_stub();
    return set_ldt(LDT_CODE16, code, CODE_SIZE - 1, 2, false) &&
           set_ldt(LDT_CODE32, code, CODE_SIZE - 1, 2, true) &&
           set_ldt(LDT_DATA16, window, WINDOW_SIZE - 1, 0, false) &&
           set_ldt(LDT_DATA32, window, WINDOW_SIZE - 1, 0, true);
}

static void run_native(const Mode *mode, const CpuState *state)
{
    memcpy(native->fx, &state->fpu, 416);
    memcpy(native->gpr, state->gpr, sizeof(native->gpr));
    native->rflags = state->rflags;
    native->ss = state->seg[SEG_SS].selector;
    native->ds = state->seg[SEG_DS].selector;
    native->es = state->seg[SEG_ES].selector;
    native->target.offset = START;
    native->target.selector = LDT_SELECTOR(mode->code);
    if (!sigsetjmp(back, 0))
        ((void (*)(void))(uintptr_t)stub)();
}

/* ---- the guest --------------------------------------------------------------------------------
 */

static void put64(uint64_t address, uint64_t value)
{
    memcpy(ram->host + address, &value, sizeof(value));
}

static Segment segment(unsigned n)
{
    static const uint32_t attributes[] = {
        [LDT_CODE16] = 0xfb, [LDT_CODE32] = 0x40fb, [LDT_DATA16] = 0xf3, [LDT_DATA32] = 0x40f3};
    bool is_code = n <= LDT_CODE32;
    return (Segment){.selector = LDT_SELECTOR(n),
                     .attributes = attributes[n],
                     .base = is_code ? CODE_GUEST : WINDOW_GUEST,
                     .limit = (is_code ? CODE_SIZE : WINDOW_SIZE) - 1};
}

static void guest_init(void)
{
    static Region region;
    engine_interp.features(model.features);
    CpuidValue vendor = cpu_host_cpuid(0, 0);
    memcpy(model.vendor, (uint32_t[]){vendor.ebx, vendor.edx, vendor.ecx}, 12);
    model.physical_address_bits = 40;
    model.linear_address_bits = 48;
    vm = (Vm){.engine = &engine_interp,
              .memory = space_new("memory", UINT64_C(1) << 40),
              .ports = space_new("ports", 65536),
              .model = &model,
              .vcpu_count = 1,
              .vcpus = {&vcpu}};
    vcpu.vm = &vm;
    ram = ram_new("ram", RAM_SIZE, NULL);
    region_init_ram(&region, REGION_RAM, ram, 0, RAM_SIZE);
    space_map(vm.memory, 0, &region, 0, RAM_SIZE, SPACE_PRIORITY_RAM, false);
    g_assert_true(engine_interp.vm_init(&vm, NULL) && engine_interp.vcpu_init(&vcpu, NULL));
    cpu = vcpu.engine_data;
    put64(0x1000, 0x2007);
    put64(0x2000, 0x3007);
    put64(0x3000, 0x87);
    memset(ram->host + CODE_GUEST, 0xcc, CODE_SIZE);
    soft_cpu_get_state(cpu, &start);
    start.cr0 |= CR0_PE | CR0_PG | CR0_NE | CR0_AM;
    start.cr3 = 0x1000;
    start.cr4 |= CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_UMIP;
    start.efer |= EFER_LME | EFER_LMA | EFER_SCE;
    for (unsigned i = 0; i < SEG_COUNT; i++)
        start.seg[i] = (Segment){.attributes = SEGMENT_UNUSABLE};
    start.tr.limit = 0; /* no I/O permission map */
    start.rip = START;
}

static void guest_clear(void)
{
    engine_interp.vcpu_clear(&vcpu);
    engine_interp.vm_clear(&vm);
    space_free(vm.memory);
    space_free(vm.ports);
    ram_free(ram);
}

/* The vector of the fault or -1; -2: it takes too long or runs into itself. */
static int run_guest(const CpuState *state, unsigned length)
{
    int vector = -1;
    soft_cpu_set_state(cpu, state);
    for (unsigned i = 0; vector < 0 && cpu->s.rip == START; i++) {
        if (i == 100000)
            return -2;
        vector = soft_cpu_step(cpu, 1);
    }
    uint64_t at = cpu->s.rip;
    return vector < 0 && at - START < 16 && at != START + length ? -2 : vector;
}

/* ---- random instructions ----------------------------------------------------------------------
 */

/* What can't be compared: segment loads and far transfers (the tables differ), INT and INT1, POPF
 * (TF), VEX and EVEX (of their own tests), what depends on the machine (SGDT …, CPUID, RDTSC,
 * FXSAVE's pointers, SYSCALL), 3-byte opcodes (other tests). */
static bool is_left_out(unsigned opcode)
{
    static const uint8_t one_byte[] = {0x07, 0x0f, 0x17, 0x1f, 0x26, 0x2e, 0x36, 0x3e, 0x62, 0x64,
                                       0x65, 0x66, 0x67, 0x8e, 0x9a, 0x9d, 0xc4, 0xc5, 0xca, 0xcb,
                                       0xcc, 0xcd, 0xce, 0xcf, 0xea, 0xf0, 0xf1, 0xf2, 0xf3};
    static const uint8_t two_bytes[] = {
        0x00, 0x01, 0x02, 0x03, 0x05, 0x07, 0x0e, 0x0f, 0x1a, 0x1b, 0x1c, 0x1e, 0x24, 0x25,
        0x26, 0x27, 0x31, 0x33, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d,
        0x3e, 0x3f, 0x78, 0x79, 0x7a, 0x7b, 0xa1, 0xa2, 0xa6, 0xa7, 0xa9, 0xb2, 0xb4, 0xb5};
    return opcode & 0x100 ? memchr(two_bytes, opcode & 0xff, sizeof(two_bytes)) != NULL
                          : memchr(one_byte, opcode, sizeof(one_byte)) != NULL;
}

/* Members of groups that are left out, too, and what Intel's and AMD's processors do differently:
 * LOOPE with F2 or F3, INS and OUTS repeated 0 times, PREFETCHW of a register, MOVNTSS, LOCK MOV
 * CR, XOP. */
static bool is_member_left_out(const Insn *insn)
{
    unsigned reg = insn->modrm >> 3 & 7;
    bool memory = insn->modrm < 0xc0, repeated = insn->prefixes & (PREFIX_REPE | PREFIX_REPNE);
    if (repeated && ((insn->map == MAP_ONE_BYTE &&
                      ((insn->opcode | 1) == 0xe1 || (insn->opcode | 3) == 0x6f)) ||
                     (insn->map == MAP_0F && insn->opcode == 0x2b)))
        return true;
    if (insn->map == MAP_0F && ((insn->opcode == 0x0d && !memory) || (insn->opcode | 3) == 0x23))
        return true;
    if (insn->map == MAP_ONE_BYTE)
        return (insn->opcode == 0xff && (reg == 3 || reg == 5)) || (insn->opcode == 0x8f && reg) ||
               ((insn->opcode | 1) == 0xc7 && reg == 7) ||
               ((insn->opcode == 0xd9 || insn->opcode == 0xdd) && memory && reg == 6);
    return (insn->opcode == 0xc7 && reg != 1) || (insn->opcode == 0xae && reg != 3) ||
           (insn->opcode == 0xae && !memory);
}

static void random_insn(GRand *rand, const Mode *mode, uint8_t *bytes, Insn *insn)
{
    static const uint8_t prefixes[] = {0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x26, 0x2e, 0x36, 0x3e};
    do {
        unsigned n = 0, opcode;
        do
            opcode = g_rand_int_range(rand, 0, 512);
        while (is_left_out(opcode));
        while (n < 3 && g_rand_int_range(rand, 0, 3) == 0)
            bytes[n++] = prefixes[g_rand_int_range(rand, 0, G_N_ELEMENTS(prefixes))];
        if (opcode & 0x100)
            bytes[n++] = 0x0f;
        bytes[n++] = opcode;
        while (n < 15)
            bytes[n++] = g_rand_int(rand);
        *insn = (Insn){0};
        decode_insn(&model, mode->mode | MODE_LONG | MODE_PROTECTED | 3 << MODE_CPL_SHIFT, bytes,
                    15, insn);
    } while (is_member_left_out(insn));
    memset(bytes + insn->length, 0xcc, 16 - insn->length);
}

static uint64_t random_value(GRand *rand)
{
    uint32_t value = g_rand_int(rand);
    switch (g_rand_int_range(rand, 0, 8)) {
    case 0:
        return value & 0xff;
    case 1:
        return (uint32_t)((int32_t)value >> 28);
    case 2:
        return UINT32_C(1) << (value & 31);
    case 3:
        return value;
    default:
        return value & (WINDOW_SIZE - 1);
    }
}

static void random_bytes(GRand *rand, void *to, unsigned size)
{
    for (unsigned i = 0; i < size; i += 4) {
        uint32_t value = g_rand_int(rand);
        memcpy((uint8_t *)to + i, &value, 4);
    }
}

static void random_float(GRand *rand, uint8_t *to)
{
    double value = (int32_t)g_rand_int(rand) / 65536.0;
    long double wide = g_rand_boolean(rand) ? value : (int)value;
    if (g_rand_int_range(rand, 0, 4) == 0)
        random_bytes(rand, to, 12);
    else
        memcpy(to, &wide, 10);
}

static void random_fpu(GRand *rand, FpuState *fpu)
{
    uint32_t bits = g_rand_int(rand);
    memset(fpu, 0, sizeof(*fpu));
    fpu->fcw = bits & 1 ? 0x37f : ((bits >> 8 & 0xf3f) | 0x40);
    fpu->fsw = (g_rand_int(rand) & 0x7f40) | (g_rand_int(rand) & fpu->fcw & 0x3f);
    fpu->ftw_abridged = bits & 2 ? 0xff : bits >> 20;
    fpu->mxcsr = bits & 4 ? 0x1f80 : (g_rand_int(rand) & 0xff80) | (g_rand_int(rand) & 0x3f);
    fpu->mxcsr_mask = 0xffff;
    for (unsigned i = 0; i < 8; i++) {
        random_float(rand, fpu->st[i]);
        memset(fpu->st[i] + 10, 0, 6);
        random_bytes(rand, fpu->xmm[i], 16);
        for (unsigned k = 0; k < 4 && bits & 8; k++) {
            float value = (int32_t)g_rand_int(rand) / 1024.0f;
            memcpy(fpu->xmm[i] + 4 * k, &value, 4);
        }
    }
}

static void random_state(GRand *rand, const Mode *mode, CpuState *state)
{
    *state = start;
    for (unsigned i = 0; i < 8; i++)
        state->gpr[i] = random_value(rand);
    if (g_rand_int_range(rand, 0, 8))
        state->gpr[GPR_RSP] = 0x1000 + g_rand_int_range(rand, 0, 0x2000);
    if (!(mode->mode & MODE_STACK32))
        state->gpr[GPR_RSP] |= g_rand_int(rand) & 0xffff0000;
    state->rflags = 0x202 | (g_rand_int(rand) & (FLAGS_ARITHMETIC | FLAG_DF));
    if (g_rand_int_range(rand, 0, 8) == 0)
        state->rflags |= FLAG_AC;
    state->seg[SEG_CS] = segment(mode->code);
    state->seg[SEG_SS] = segment(mode->stack);
    state->seg[SEG_DS] = state->seg[SEG_ES] = segment(LDT_DATA32);
    random_fpu(rand, &state->fpu);
}

/* ---- comparing --------------------------------------------------------------------------------
 */

static void report(const Mode *mode, const uint8_t *bytes, const Insn *insn, const char *what,
                   uint64_t ours, uint64_t theirs)
{
    g_autoptr(GString) text = g_string_new(NULL);
    for (unsigned i = 0; i < insn->length; i++)
        g_string_append_printf(text, "%02x ", bytes[i]);
    g_test_message("%s, %s: %s is %" G_GINT64_MODIFIER "x, the host's %" G_GINT64_MODIFIER "x",
                   mode->name, text->str, what, ours, theirs);
    g_test_fail();
    failures++;
}

/* Flags that are defined after decimal adjustments; the others differ between CPU generations. */
static uint64_t flags_mask(const Insn *insn)
{
    uint64_t all = FLAGS_ARITHMETIC | FLAG_DF;
    if (insn->map != MAP_ONE_BYTE)
        return all;
    switch (insn->opcode) {
    case 0x27:
    case 0x2f:
        return all & ~(uint64_t)FLAG_OF;
    case 0x37:
    case 0x3f:
        return FLAG_CF | FLAG_AF | FLAG_DF;
    case 0xd4:
    case 0xd5:
        return FLAG_SF | FLAG_ZF | FLAG_PF | FLAG_DF;
    default:
        return all;
    }
}

static uint64_t seen_gpr(unsigned i)
{
    static const uint8_t order[] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX,
                                    REG_RSP, REG_RBP, REG_RSI, REG_RDI};
    return (uint32_t)seen.uc_mcontext.gregs[order[i]];
}

/* Conversions between MMX and SSE, and MASKMOVQ, that fault: AMD's processors have entered MMX by
 * then. */
static bool is_mmx_conversion(const Insn *insn)
{
    return insn->map == MAP_0F &&
           (insn->opcode == 0x2a || (insn->opcode | 1) == 0x2d || insn->opcode == 0xf7);
}

/* FCOMI and the like: AMD's processors leave C1 as it was. */
static bool is_fcomi(const Insn *insn)
{
    return insn->map == MAP_ONE_BYTE && (insn->opcode & ~4) == 0xdb && insn->modrm >= 0xe8 &&
           insn->modrm < 0xf8;
}

/* Of two faults processors take one or the other first: the limit of the stack or the target
 * (CALL), the limit or the alignment (SSE, and all of #AC), the source or the target (CMPS). */
static bool may_fault_both_ways(const Insn *insn, const CpuState *state)
{
    return insn->map != MAP_ONE_BYTE || insn->opcode == 0xe8 || (insn->opcode | 1) == 0xa7 ||
           (insn->opcode == 0xff && (insn->modrm >> 3 & 7) == 2) || state->rflags & FLAG_AC;
}

static bool is_address_fault(int vector)
{
    return vector == EXC_GP || vector == EXC_SS || vector == EXC_AC;
}

/* MASKMOVQ and MASKMOVDQU may check bytes that the mask leaves alone (SDM 2B), ENTER the alignment
 * of its frame's end. */
static bool may_check_more(const Insn *insn)
{
    return insn->map == MAP_0F ? insn->opcode == 0xf7 : insn->opcode == 0xc8;
}

/* Whose loads before a fault stay or not: POPA, FLDENV, FRSTOR. */
static bool loads_in_pieces(const Insn *insn)
{
    unsigned reg = insn->modrm >> 3 & 7;
    return insn->map == MAP_ONE_BYTE &&
           (insn->opcode == 0x61 || ((insn->opcode == 0xd9 || insn->opcode == 0xdd) && reg == 4));
}

/* Whose stores before a fault stay or not: PUSHA, ENTER. */
static bool stores_in_pieces(const Insn *insn)
{
    return insn->map == MAP_ONE_BYTE && (insn->opcode == 0x60 || insn->opcode == 0xc8);
}

static void compare_fpu(const Mode *mode, const uint8_t *bytes, const Insn *insn,
                        const FpuState *ours)
{
    const FpuState *theirs = &seen_fpu;
    if (is_fcomi(insn))
        seen_fpu.fsw &= ~0x200;
    if (ours->fcw != theirs->fcw || ours->fsw != theirs->fsw ||
        ours->ftw_abridged != theirs->ftw_abridged)
        report(mode, bytes, insn, "x87 control, status and tags",
               (uint64_t)ours->fcw << 32 | ours->fsw << 16 | ours->ftw_abridged,
               (uint64_t)theirs->fcw << 32 | theirs->fsw << 16 | theirs->ftw_abridged);
    for (unsigned i = 0; i < 8; i++)
        if (memcmp(ours->st[i], theirs->st[i], 10))
            report(mode, bytes, insn, "an x87 register", *(const uint64_t *)ours->st[i],
                   *(const uint64_t *)theirs->st[i]);
    if (memcmp(ours->xmm, theirs->xmm, 8 * 16))
        report(mode, bytes, insn, "an XMM register", 0, 0);
    /* Whether the elements that are fine count for PE when another raises #XM differs. */
    uint32_t ignored = seen.uc_mcontext.gregs[REG_TRAPNO] == EXC_XM ? 0x20 : 0;
    if ((ours->mxcsr ^ theirs->mxcsr) & ~ignored)
        report(mode, bytes, insn, "MXCSR", ours->mxcsr, theirs->mxcsr);
}

static void compare(const Mode *mode, const uint8_t *bytes, const Insn *insn, int ours)
{
    const greg_t *regs = seen.uc_mcontext.gregs;
    const uint64_t mask = flags_mask(insn);
    int theirs = regs[REG_TRAPNO] == EXC_BP ? -1 : (int)regs[REG_TRAPNO];
    uint64_t rip = (uint32_t)regs[REG_RIP] - (theirs < 0);
    if (may_check_more(insn) && ours != theirs) {
        memcpy(window, ram->host + WINDOW_GUEST, WINDOW_SIZE);
        return;
    }
    CpuState state;
    soft_cpu_get_state(cpu, &state);
    if (may_fault_both_ways(insn, &state) && is_address_fault(ours) && is_address_fault(theirs))
        ours = theirs;
    if (ours != theirs) {
        report(mode, bytes, insn, "the vector", (unsigned)ours, (unsigned)theirs);
    } else if (ours < 0 || !loads_in_pieces(insn)) {
        if (ours >= 0 && cpu->event.has_error && cpu->event.error != (uint32_t)regs[REG_ERR])
            report(mode, bytes, insn, "the error code", cpu->event.error, regs[REG_ERR]);
        for (unsigned i = 0; i < 8; i++)
            if ((uint32_t)state.gpr[i] != seen_gpr(i))
                report(mode, bytes, insn, "a register", (uint32_t)state.gpr[i], seen_gpr(i));
        if ((state.rflags ^ regs[REG_EFL]) & mask)
            report(mode, bytes, insn, "EFLAGS", state.rflags & mask, regs[REG_EFL] & mask);
        if (state.rip != rip)
            report(mode, bytes, insn, "EIP", state.rip, rip);
        if (is_fcomi(insn))
            state.fpu.fsw &= ~0x200;
        if (ours < 0 || !is_mmx_conversion(insn))
            compare_fpu(mode, bytes, insn, &state.fpu);
    }
    if (ours >= 0 && stores_in_pieces(insn))
        memcpy(window, ram->host + WINDOW_GUEST, WINDOW_SIZE);
    if (memcmp(ram->host + WINDOW_GUEST, window, WINDOW_SIZE)) {
        unsigned at = 0;
        while (window[at] == ram->host[WINDOW_GUEST + at])
            at++;
        uint64_t ours_there, theirs_there;
        at = MIN(at, WINDOW_SIZE - 8);
        memcpy(&ours_there, ram->host + WINDOW_GUEST + at, 8);
        memcpy(&theirs_there, window + at, 8);
        report(mode, bytes, insn, "memory from the first difference on", ours_there, theirs_there);
        memcpy(ram->host + WINDOW_GUEST, window, WINDOW_SIZE);
    }
}

static void put_code(const uint8_t *bytes)
{
    memcpy(code + START, bytes, 16);
    memcpy(ram->host + CODE_GUEST + START, bytes, 16);
    ram_written(ram, CODE_GUEST + START, 16);
}

static void refill(GRand *rand)
{
    for (unsigned k = 0; k < WINDOW_SIZE; k += 4) {
        uint32_t value = random_value(rand);
        memcpy(window + k, &value, 4);
    }
    memcpy(ram->host + WINDOW_GUEST, window, WINDOW_SIZE);
}

static void test_mode(gconstpointer data)
{
    const Mode *mode = data;
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed + (mode - modes));
    gint64 end = g_get_monotonic_time() + seconds * G_TIME_SPAN_SECOND;
    unsigned compared = 0;
    for (unsigned i = 0;
         (seconds ? g_get_monotonic_time() < end : i < BOUNDED_RUNS) && failures < 20; i++) {
        uint8_t bytes[16];
        Insn insn;
        CpuState state;
        if (i % 256 == 0)
            refill(rand);
        random_insn(rand, mode, bytes, &insn);
        random_state(rand, mode, &state);
        put_code(bytes);
        int ours = run_guest(&state, insn.length);
        if (ours == -2) {
            memcpy(ram->host + WINDOW_GUEST, window, WINDOW_SIZE);
            continue;
        }
        run_native(mode, &state);
        compare(mode, bytes, &insn, ours);
        compared++;
    }
    g_test_message("%u instructions compared, seed %u", compared, seed);
}

/* --seconds N, --random N: GLib leaves alone what it does not know. */
static void parse(int argc, char **argv)
{
    for (int i = 1; i + 1 < argc; i++) {
        if (!strcmp(argv[i], "--seconds"))
            seconds = strtoul(argv[i + 1], NULL, 0) / G_N_ELEMENTS(modes) + 1;
        if (!strcmp(argv[i], "--random"))
            seed = strtoul(argv[i + 1], NULL, 0);
    }
}

int main(int argc, char **argv)
{
    parse(argc, argv);
    g_test_init(&argc, &argv, NULL);
    if (!native_init()) {
        printf("1..0 # SKIP this kernel has no modify_ldt\n");
        return 0;
    }
    guest_init();
    for (unsigned i = 0; i < G_N_ELEMENTS(modes); i++) {
        g_autofree char *path = g_strdup_printf("/oracle/modes/%s", modes[i].name);
        g_test_add_data_func(path, &modes[i], test_mode);
    }
    int status = g_test_run();
    guest_clear();
    return status;
}
