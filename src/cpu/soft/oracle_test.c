/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Integer instructions against the host's own CPU: random opcodes, operands and state run natively
 * and in the interpreter; registers, all arithmetic flags (undefined ones, too), memory and the
 * fault taken must agree.
 *
 * Memory operands lie in WINDOW, an address where the host has an anonymous mapping and the guest a
 * 2 MiB page.
 */
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>

#include "cpu/soft/decode.h"
#include "cpu/soft/interp.h"
#include "cpu/soft/ops_system.h"

#define WINDOW          0x40000000
#define WINDOW_SIZE     8192
#define WINDOW_PHYSICAL 0x200000
#define CODE            0x100000 /* linear and physical in the guest */
#define RAM_SIZE        (16 << 20)

/* What the native stub loads and stores; its layout is known to the stub below. */
typedef struct Native {
    uint64_t gpr[16];
    uint64_t rflags;
    uint64_t host_rsp;
} Native;

static CpuModel model;
static Vcpu vcpu;
static Vm vm;
static Ram *ram;
static SoftCpu *cpu;
static CpuState start;
static uint8_t *stub, *stub_insn;
static uint8_t *window;
static Native *native;
static sigjmp_buf fault_jump;
static volatile int fault_vector;
static unsigned failures;

/* ---- native side ----------------------------------------------------------------------------- */

static void on_fault(int signal)
{
    fault_vector = signal == SIGFPE ? EXC_DE : signal == SIGILL ? EXC_UD : EXC_PF;
    siglongjmp(fault_jump, 1);
}

static uint8_t *emit(uint8_t *at, const void *bytes, size_t size)
{
    memcpy(at, bytes, size);
    return at + size;
}

/* The Native block lies below 2 GiB, so every register moves by an absolute disp32. */
static uint8_t *emit_move(uint8_t *at, bool store, unsigned reg, const void *address)
{
    uint32_t disp = (uintptr_t)address;
    uint8_t bytes[8] = {reg >= 8 ? 0x4c : 0x48, store ? 0x89 : 0x8b, (reg & 7) << 3 | 4, 0x25};
    memcpy(bytes + 4, &disp, 4);
    return emit(at, bytes, 8);
}

static uint8_t *emit_flags(uint8_t *at, bool store, const void *address)
{
    uint32_t disp = (uintptr_t)address;
    uint8_t push_popf[8] = {0xff, 0x34, 0x25, 0, 0, 0, 0, 0x9d};
    uint8_t pushf_pop[8] = {0x9c, 0x8f, 0x04, 0x25, 0, 0, 0, 0};
    memcpy(push_popf + 3, &disp, 4);
    memcpy(pushf_pop + 4, &disp, 4);
    return emit(at, store ? pushf_pop : push_popf, 8);
}

static void emit_epilogue(uint8_t *at)
{
    static const uint8_t pops[] = {0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d,
                                   0x41, 0x5c, 0x5d, 0x5b, 0xfc, 0xc3};
    at = emit_flags(at, true, &native->rflags);
    for (unsigned i = 0; i < 16; i++) {
        if (i != GPR_RSP)
            at = emit_move(at, true, i, &native->gpr[i]);
    }
    emit(at, pops, sizeof(pops));
}

static void emit_prologue(void)
{
    static const uint8_t pushes[] = {0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57};
    uint8_t *at = emit(stub, pushes, sizeof(pushes));
    at = emit_flags(at, false, &native->rflags);
    for (unsigned i = 0; i < 16; i++) {
        if (i != GPR_RSP)
            at = emit_move(at, false, i, &native->gpr[i]);
    }
    stub_insn = at;
}

/* The vector of the fault, or -1. */
static int run_native(const uint8_t *insn, unsigned length)
{
    emit_epilogue(emit(stub_insn, insn, length));
    fault_vector = -1;
    if (!sigsetjmp(fault_jump, 1))
        ((void (*)(void))(uintptr_t)stub)();
    return fault_vector;
}

static void native_init(void)
{
    struct sigaction action = {.sa_handler = on_fault};
    sigaction(SIGFPE, &action, NULL);
    sigaction(SIGILL, &action, NULL);
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    window = mmap((void *)WINDOW, WINDOW_SIZE, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    g_assert_true(window == (void *)WINDOW);
    native =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    stub = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    g_assert_true(native != MAP_FAILED && stub != MAP_FAILED);
    emit_prologue();
}

/* ---- guest side ------------------------------------------------------------------------------ */

static void put64(uint64_t address, uint64_t value)
{
    memcpy(ram->host + address, &value, sizeof(value));
}

static void guest_init(void)
{
    static Region region;
    engine_interp.features(model.features);
    model.features[CPU_MOVBE] = model.features[CPU_ADX] = true;
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
    put64(0x2008, 0x4007);
    put64(0x3000, 0x87);   /* 0: code */
    put64(0x4000, 0x5007); /* WINDOW: two small pages */
    put64(0x5000, WINDOW_PHYSICAL | 7);
    put64(0x5008, (WINDOW_PHYSICAL + 4096) | 7);
    soft_cpu_get_state(cpu, &start);
    start.cr0 |= CR0_PE | CR0_PG | CR0_NE;
    start.cr3 = 0x1000;
    start.cr4 |= CR4_PAE | CR4_OSFXSR;
    start.efer |= EFER_LME | EFER_LMA;
    for (unsigned i = 0; i < SEG_COUNT; i++)
        start.seg[i] = (Segment){.selector = 0x13, .attributes = 0xc0f3, .limit = UINT32_MAX};
    start.seg[SEG_CS] = (Segment){.selector = 0xb, .attributes = 0xa0fb, .limit = UINT32_MAX};
    start.rip = CODE;
}

static void guest_clear(void)
{
    engine_interp.vcpu_clear(&vcpu);
    engine_interp.vm_clear(&vm);
    space_free(vm.memory);
    space_free(vm.ports);
    ram_free(ram);
}

/* ---- random instructions --------------------------------------------------------------------- */

/* Two-byte (0F) opcodes have bit 8 set. */
static const uint16_t opcodes[] = {
    0x00,  0x01,  0x02,  0x03,  0x04,  0x05,  0x08,  0x09,  0x0a,  0x0b,  0x0c,  0x0d,  0x10,
    0x11,  0x12,  0x13,  0x14,  0x15,  0x18,  0x19,  0x1a,  0x1b,  0x1c,  0x1d,  0x20,  0x21,
    0x22,  0x23,  0x24,  0x25,  0x28,  0x29,  0x2a,  0x2b,  0x2c,  0x2d,  0x30,  0x31,  0x32,
    0x33,  0x34,  0x35,  0x38,  0x39,  0x3a,  0x3b,  0x3c,  0x3d,  0x63,  0x69,  0x6b,  0x80,
    0x81,  0x83,  0x84,  0x85,  0x86,  0x87,  0x88,  0x89,  0x8a,  0x8b,  0x8d,  0x90,  0x91,
    0x93,  0x96,  0x98,  0x99,  0x9e,  0x9f,  0xa4,  0xa5,  0xa6,  0xa7,  0xa8,  0xa9,  0xaa,
    0xab,  0xac,  0xad,  0xae,  0xaf,  0xb0,  0xb7,  0xb8,  0xbf,  0xc0,  0xc1,  0xc6,  0xc7,
    0xd0,  0xd1,  0xd2,  0xd3,  0xd7,  0xf5,  0xf6,  0xf6,  0xf7,  0xf7,  0xf8,  0xf9,  0xfc,
    0xfd,  0xfe,  0x140, 0x142, 0x144, 0x146, 0x148, 0x14a, 0x14c, 0x14f, 0x190, 0x193, 0x196,
    0x19c, 0x19f, 0x1a3, 0x1a4, 0x1a5, 0x1ab, 0x1ac, 0x1ad, 0x1af, 0x1b0, 0x1b1, 0x1b3, 0x1b6,
    0x1b7, 0x1b8, 0x1ba, 0x1bb, 0x1bc, 0x1bd, 0x1be, 0x1bf, 0x1c0, 0x1c1, 0x1c7, 0x1c8, 0x1cf,
};

static unsigned random_legacy(GRand *rand, uint8_t *bytes)
{
    unsigned n = 0, opcode = opcodes[g_rand_int_range(rand, 0, G_N_ELEMENTS(opcodes))];
    if (g_rand_int_range(rand, 0, 4) == 0)
        bytes[n++] = 0x66;
    if (g_rand_int_range(rand, 0, 5) == 0)
        bytes[n++] = g_rand_boolean(rand) ? 0xf3 : 0xf2;
    if (g_rand_int_range(rand, 0, 8) == 0)
        bytes[n++] = 0xf0;
    if (g_rand_boolean(rand))
        bytes[n++] = 0x40 | g_rand_int_range(rand, 0, 16);
    if (opcode & 0x100)
        bytes[n++] = 0x0f;
    bytes[n++] = opcode;
    return n;
}

/* BMI and ADX, MOVBE, CRC32. */
static unsigned random_extended(GRand *rand, uint8_t *bytes)
{
    static const uint8_t vex[] = {0xf2, 0xf3, 0xf5, 0xf6, 0xf7};
    static const uint8_t legacy[] = {0xf0, 0xf1, 0xf6};
    unsigned n = 0;
    if (g_rand_boolean(rand)) {
        bool rorx = g_rand_int_range(rand, 0, 6) == 0;
        bytes[n++] = 0xc4;
        bytes[n++] = (g_rand_int(rand) & 0xe0) | (rorx ? 3 : 2);
        bytes[n++] = rorx ? (g_rand_int(rand) & 0x83) | 0x78 : g_rand_int(rand) & 0xfb;
        bytes[n++] = rorx ? 0xf0 : vex[g_rand_int_range(rand, 0, G_N_ELEMENTS(vex))];
        return n;
    }
    static const uint8_t prefixes[] = {0x66, 0xf2, 0xf3};
    if (g_rand_boolean(rand))
        bytes[n++] = prefixes[g_rand_int_range(rand, 0, 3)];
    if (g_rand_boolean(rand))
        bytes[n++] = 0x40 | g_rand_int_range(rand, 0, 16);
    bytes[n++] = 0x0f;
    bytes[n++] = 0x38;
    bytes[n++] = legacy[g_rand_int_range(rand, 0, G_N_ELEMENTS(legacy))];
    return n;
}

static uint64_t random_value(GRand *rand)
{
    uint64_t value = (uint64_t)g_rand_int(rand) << 32 | g_rand_int(rand);
    switch (g_rand_int_range(rand, 0, 5)) {
    case 0:
        return value & 0xff;
    case 1:
        return (int64_t)value >> 60;
    case 2:
        return UINT64_C(1) << (value & 63);
    default:
        return value;
    }
}

/* A register offset reaches far from the operand: kept small, or it would find the test's own
 * memory. */
static bool is_bit_string(const Insn *insn)
{
    return insn->map == MAP_0F && insn->flags & INSN_MEMORY &&
           (insn->opcode == 0xa3 || insn->opcode == 0xab || insn->opcode == 0xb3 ||
            insn->opcode == 0xbb);
}

/* Registers that no memory operand of the instruction uses are random, the others point into the
 * window. */
static void random_state(GRand *rand, const Insn *insn, CpuState *state)
{
    *state = start;
    for (unsigned i = 0; i < 16; i++)
        state->gpr[i] = random_value(rand);
    state->gpr[GPR_RSP] = WINDOW + 4096;
    bool string = insn->map == MAP_ONE_BYTE && ((insn->opcode >= 0xa4 && insn->opcode <= 0xa7) ||
                                                (insn->opcode >= 0xaa && insn->opcode <= 0xaf));
    if (string) {
        state->gpr[GPR_RSI] = WINDOW + g_rand_int_range(rand, 2000, 6000);
        state->gpr[GPR_RDI] = state->gpr[GPR_RSI] + g_rand_int_range(rand, -200, 200);
        state->gpr[GPR_RCX] = g_rand_int_range(rand, 0, 100);
    }
    if (insn->map == MAP_ONE_BYTE && insn->opcode == 0xd7)
        state->gpr[GPR_RBX] = WINDOW + 1000;
    if (insn->flags & INSN_MEMORY) {
        uint64_t at = WINDOW + g_rand_int_range(rand, 3900, 4200);
        if (insn->base == insn->index) {
            state->gpr[insn->base] = 0;
            return;
        }
        if (insn->index < 16)
            state->gpr[insn->index] = g_rand_int_range(rand, 0, 64);
        uint64_t index = insn->index < 16 ? state->gpr[insn->index] << insn->scale : 0;
        if (insn->base < 16)
            state->gpr[insn->base] = at - insn->disp - index;
    }
    if (is_bit_string(insn))
        state->gpr[insn->reg] = (int64_t)g_rand_int_range(rand, -8000, 8000);
    state->rflags = 0x202 | (g_rand_int(rand) & (FLAGS_ARITHMETIC | FLAG_DF));
}

static bool uses(const Insn *insn, unsigned reg)
{
    return insn->base == reg || insn->index == reg || insn->vvvv == reg ||
           (insn->op_size != 1 ? insn->reg == reg || insn->rm == reg
                               : insn->reg / 8 == reg || insn->rm / 8 == reg) ||
           (insn->modrm >> 3 & 7) == reg || ((insn->modrm & 7) == reg && insn->modrm >= 0xc0);
}

/* What can't be compared: RSP is the stub's own, other addresses are not the guest's; RDRAND and
 * RDPID are never the same. */
static bool is_comparable(const Insn *insn)
{
    bool unreachable =
        insn->flags & INSN_MEMORY && (insn->base >= 16 || insn->base == insn->index ||
                                      insn->addr_size != 8 || insn->segment >= SEG_FS);
    bool random = insn->map == MAP_0F && insn->opcode == 0xc7 && !(insn->flags & INSN_MEMORY);
    bool wide = insn->map == MAP_0F && insn->opcode == 0xc7 && (insn->modrm >> 3 & 7) != 1;
    bool tangled = is_bit_string(insn) && (insn->reg == insn->base || insn->reg == insn->index);
    return !unreachable && !tangled && !random && !wide && !uses(insn, GPR_RSP) &&
           !(insn->map == MAP_0F38 && insn->opcode < 0xf0);
}

static void report(const uint8_t *bytes, const Insn *insn, const char *what, uint64_t ours,
                   uint64_t theirs)
{
    g_autoptr(GString) text = g_string_new(NULL);
    for (unsigned i = 0; i < insn->length; i++)
        g_string_append_printf(text, "%02x ", bytes[i]);
    g_test_message("%s: %s is %" G_GINT64_MODIFIER "x, the host's %" G_GINT64_MODIFIER "x",
                   text->str, what, ours, theirs);
    g_test_fail();
    failures++;
}

static void compare(const uint8_t *bytes, const Insn *insn, const CpuState *state)
{
    memcpy(ram->host + WINDOW_PHYSICAL, window, WINDOW_SIZE);
    memcpy(ram->host + CODE, bytes, 15);
    ram_written(ram, CODE, 15);
    memcpy(native->gpr, state->gpr, sizeof(native->gpr));
    native->rflags = state->rflags;
    soft_cpu_set_state(cpu, state);
    int ours = -1;
    do
        ours = soft_cpu_step(cpu, 1);
    while (ours < 0 && cpu->s.rip == CODE); /* repetitions */
    int theirs = run_native(bytes, insn->length);
    if (theirs == EXC_PF && (ours == EXC_GP || ours == EXC_SS)) /* all are SIGSEGV */
        theirs = ours;
    if (ours != theirs) {
        report(bytes, insn, "the vector", ours, theirs);
        return;
    }
    if (ours >= 0)
        return;
    for (unsigned i = 0; i < 16; i++) {
        if (i != GPR_RSP && cpu->s.gpr[i] != native->gpr[i])
            report(bytes, insn, "a register", cpu->s.gpr[i], native->gpr[i]);
    }
    uint64_t mask = FLAGS_ARITHMETIC | FLAG_DF;
    if ((flags_get(cpu) ^ native->rflags) & mask)
        report(bytes, insn, "RFLAGS", flags_get(cpu) & mask, native->rflags & mask);
    if (memcmp(ram->host + WINDOW_PHYSICAL, window, WINDOW_SIZE))
        report(bytes, insn, "memory", 0, 0);
}

static guint32 seed = 1;

static void test_random(gconstpointer data)
{
    unsigned (*generate)(GRand *, uint8_t *) = data ? random_extended : random_legacy;
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
    unsigned compared = 0;
    for (unsigned i = 0; i < (g_test_slow() ? 2000000 : 40000) && failures < 20; i++) {
        uint8_t bytes[32];
        Insn insn = {0};
        CpuState state;
        for (unsigned k = generate(rand, bytes); k < 15; k++)
            bytes[k] = g_rand_int(rand);
        decode_insn(&model, MODE_CODE64 | MODE_LONG | MODE_PROTECTED | 3 << MODE_CPL_SHIFT, bytes,
                    15, &insn);
        if (!is_comparable(&insn))
            continue;
        for (unsigned k = 0; k < WINDOW_SIZE; k += 8) {
            uint64_t value = random_value(rand);
            memcpy(window + k, &value, 8);
        }
        random_state(rand, &insn, &state);
        compare(bytes, &insn, &state);
        compared++;
    }
    g_test_message("%u instructions compared, seed %u", compared, seed);
}

/* --random N: GLib leaves alone what it does not know. */
int main(int argc, char **argv)
{
    for (int i = 1; i + 1 < argc; i++) {
        if (!strcmp(argv[i], "--random"))
            seed = strtoul(argv[i + 1], NULL, 0);
    }
    g_test_init(&argc, &argv, NULL);
    native_init();
    guest_init();
    g_test_add_data_func("/oracle/legacy", NULL, test_random);
    g_test_add_data_func("/oracle/extended", &model, test_random);
    int status = g_test_run();
    guest_clear();
    return status;
}
