/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Lockstep: random programs under interpreter and translator must end in the same registers and
 * memory.
 *
 * A program is a few dozen random instructions of a mode, run until it halts, faults (every vector
 * halts at its own address) or its time is up. Flags that a fault pushes are not compared: the
 * translator keeps flags that are dead there of the same block and at CPL 3 alone.
 */
#include <signal.h>
#include <sys/time.h>

#include "base/bits.h"
#include "cpu/jit/jit.h"
#include "cpu/soft/decode.h"
#include "cpu/soft/ops_system.h"
#include "cpu/soft/soft_vm.h"
#include "cpu/vm_internal.h"

#define BASE      0x10fc0 /* programs cross into the next page */
#define HANDLERS  0x8000
#define TSS       0x7000
#define STACK     0x40000
#define STACK0    0x38000 /* of the handlers, for programs at CPL 3 */
#define DATA      0x200000
#define DATA_SIZE 0x4000
#define DATA16    0x50000 /* the same for 16-bit code */
#define CODE16    0x10000 /* base of CS, where it has one */
#define STACK16   0x30000 /* base of SS */
#define COUNTER   0x51000
#define COUNTER2  (COUNTER + 8) /* of short loops */
#define WORLD16   0x50000       /* bytes from there that segments reach */
#define RAM_SIZE  (4 << 20)

/* Bits of the code, and odd: at CPL 3. */
enum {
    REAL = 160,
    PROTECTED16 = 162,
    USER16 = 163,
    V86 = 165,
    FLAT32 = 320,
    SEGMENTED32 = 322,
    USER32 = 323,
    FLAT64 = 640,
    USER64 = 643
};

typedef struct Machine {
    const Engine *engine;
    Vm vm;
    Vm outside; /* the same, to devices: as if they were left to and entered from */
    Vcpu vcpu;
    Ram *ram;
    Region region;
    SoftCpu *cpu;
} Machine;

typedef struct Fixture {
    CpuModel model;
    Machine machines[2]; /* interpreter, translator */
    GRand *random;
    bool mode64, user;
    bool mode16, v86, real;
    bool segmented;  /* segments have bases and limits */
    unsigned origin; /* IP of the program */
    unsigned base;   /* register that holds an address, for some accesses to come; or GPR_NONE */
    uint8_t program[4096];
    unsigned size;
} Fixture;

static SoftCpu *volatile running;

static void on_time(int signal)
{
    SoftCpu *cpu = running;
    if (cpu) {
        atomic_fetch_or(&cpu->vcpu->requests, VCPU_REQUEST_PAUSE);
        cpu->vcpu->vm->engine->kick(cpu->vcpu);
    }
}

static void machine_new(Machine *m, const Engine *engine, CpuModel *model)
{
    m->engine = engine;
    m->vm = (Vm){.engine = engine,
                 .memory = space_new("memory", UINT64_C(1) << 40),
                 .ports = space_new("ports", 65536),
                 .model = model,
                 .vcpu_count = 1,
                 .vcpus = {&m->vcpu}};
    m->vcpu.vm = &m->vm;
    m->vcpu.sync = g_new0(struct VcpuSync, 1);
    m->ram = ram_new("ram", RAM_SIZE, NULL);
    region_init_ram(&m->region, REGION_RAM, m->ram, 0, RAM_SIZE);
    space_map(m->vm.memory, 0, &m->region, 0, RAM_SIZE, SPACE_PRIORITY_RAM, false);
    g_assert_true(engine->vm_init(&m->vm, NULL));
    g_assert_true(engine->vcpu_init(&m->vcpu, NULL));
    m->outside = m->vm;
    m->outside.sync = g_new0(struct VmSync, 1);
    m->vcpu.vm = &m->outside;
    m->cpu = m->vcpu.engine_data;
    if (m->cpu->jit)
        m->cpu->jit->warm = 0;
}

static void machine_free(Machine *m)
{
    m->engine->vcpu_clear(&m->vcpu);
    m->engine->vm_clear(&m->vm);
    g_free(m->outside.sync);
    g_free(m->vcpu.sync);
    space_free(m->vm.memory);
    space_free(m->vm.ports);
    ram_free(m->ram);
}

static void set_up(Fixture *f, gconstpointer data)
{
    struct sigaction action = {.sa_handler = on_time, .sa_flags = SA_RESTART};
    engine_interp.features(f->model.features);
    f->model.physical_address_bits = 40;
    f->model.linear_address_bits = 48;
    f->mode64 = GPOINTER_TO_INT(data) / 10 == 64;
    f->mode16 = GPOINTER_TO_INT(data) / 10 == 16;
    f->user = GPOINTER_TO_INT(data) % 10 & 1;
    f->real = GPOINTER_TO_INT(data) == REAL;
    f->v86 = GPOINTER_TO_INT(data) == V86;
    f->segmented = f->mode16 || GPOINTER_TO_INT(data) == SEGMENTED32;
    f->origin = f->segmented ? BASE - CODE16 : BASE;
    const char *seed = g_getenv("JIT_TEST_SEED");
    f->random = g_rand_new_with_seed(seed ? atoi(seed) : 20 + f->mode64);
    machine_new(&f->machines[0], &engine_interp, &f->model);
    machine_new(&f->machines[1], &engine_jit, &f->model);
    sigaction(SIGVTALRM, &action, NULL);
}

static void tear_down(Fixture *f, gconstpointer data)
{
    machine_free(&f->machines[0]);
    machine_free(&f->machines[1]);
    g_rand_free(f->random);
}

/* ---- programs -----------------------------------------------------------------------------------
 */

static unsigned pick(Fixture *f, unsigned count)
{
    return g_rand_int(f->random) % count;
}

static void put(Fixture *f, unsigned byte)
{
    f->program[f->size++] = byte;
}

static void put_bytes(Fixture *f, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        put(f, value >> (8 * i));
}

/* A register gets an address in the data. */
static void put_address(Fixture *f)
{
    unsigned reg = pick(f, f->mode64 ? 16 : 8);
    if (reg == GPR_RSP)
        return;
    if (f->mode16) {
        put(f, 0xb8 | reg);
        put_bytes(f, pick(f, 3) ? pick(f, 16) * 4096 - pick(f, 24) : pick(f, 65536), 2);
        return;
    }
    uint64_t address = DATA + pick(f, DATA_SIZE - 256) + 128;
    if (pick(f, 8) == 0)
        address = DATA + (pick(f, 3) + 1) * 0x1000 - pick(f, 32); /* near a page's end */
    if (reg & 8)
        put(f, 0x41);
    put(f, 0xb8 | (reg & 7));
    put_bytes(f, address, 4);
}

/* With 16-bit addresses. */
static void put_modrm16(Fixture *f)
{
    unsigned modrm = pick(f, 256), mod = modrm >> 6;
    put(f, modrm);
    if (mod == 1)
        put(f, pick(f, 256));
    else if (mod == 2 || (mod == 0 && (modrm & 7) == 6))
        put_bytes(f, pick(f, 2) ? pick(f, 512) - 256 : pick(f, 65536), 2);
}

static void put_modrm(Fixture *f, bool wide)
{
    if (!wide) {
        put_modrm16(f);
        return;
    }
    unsigned modrm = pick(f, 256);
    if (modrm < 0xc0 && f->base < 8 && f->base != GPR_RSP && pick(f, 4))
        modrm = (modrm & ~7u) | f->base;
    unsigned rm = modrm & 7, mod = modrm >> 6;
    put(f, modrm);
    if (mod == 3)
        return;
    unsigned base = rm;
    if (rm == 4) {
        unsigned sib = pick(f, 4) ? (pick(f, 256) & 7) | 0x20 : pick(f, 256);
        put(f, sib);
        base = sib & 7;
    }
    if (mod == 1)
        put_bytes(f, pick(f, 2) ? pick(f, 256) : pick(f, 16) * 16, 1);
    else if (mod == 2 || (mod == 0 && base == 5))
        put_bytes(f,
                  f->mode16                ? pick(f, 65536)
                  : mod == 0 && !f->mode64 ? DATA + pick(f, DATA_SIZE)
                  : pick(f, 2)             ? pick(f, 512) - 256
                                           : pick(f, 32) * 16,
                  4);
}

enum { X_NONE, X_MODRM = 1, X_IMM8 = 2, X_IMMZ = 4, X_OFFSET = 8 };

static void put_random(Fixture *f)
{
    static const struct {
        uint8_t map, low, high, what;
    } forms[] = {
        {0, 0x00, 0x3f, 0}, /* arithmetic, filtered below */
        {0, 0x50, 0x5f, X_NONE},
        {0, 0x63, 0x63, X_MODRM},
        {0, 0x68, 0x68, X_IMMZ},
        {0, 0x69, 0x69, X_MODRM | X_IMMZ},
        {0, 0x6a, 0x6a, X_IMM8},
        {0, 0x6b, 0x6b, X_MODRM | X_IMM8},
        {0, 0x80, 0x80, X_MODRM | X_IMM8},
        {0, 0x81, 0x81, X_MODRM | X_IMMZ},
        {0, 0x83, 0x83, X_MODRM | X_IMM8},
        {0, 0x83, 0x83, X_MODRM | X_IMM8},
        {0, 0x84, 0x8b, X_MODRM},
        {0, 0x84, 0x8b, X_MODRM},
        {0, 0x8d, 0x8d, X_MODRM},
        {0, 0x8f, 0x99, 0},
        {0, 0x9e, 0x9f, X_NONE},
        {0, 0xa0, 0xa3, X_OFFSET},
        {0, 0xa8, 0xa8, X_IMM8},
        {0, 0xa9, 0xa9, X_IMMZ},
        {0, 0xb0, 0xb7, X_IMM8},
        {0, 0xc0, 0xc1, X_MODRM | X_IMM8},
        {0, 0xc6, 0xc6, X_MODRM | X_IMM8},
        {0, 0xc7, 0xc7, X_MODRM | X_IMMZ},
        {0, 0xd0, 0xd3, X_MODRM},
        {0, 0xf5, 0xf5, X_NONE},
        {0, 0xf8, 0xf9, X_NONE},
        {0, 0xf6, 0xf7, 0},
        {0, 0xfe, 0xff, 0},
        {0, 0x70, 0x7f, 0},
        {0, 0x70, 0x7f, 0},
        {0, 0xa4, 0xaf, 0},
        {0, 0xe0, 0xe3, 0},
        {0, 0x9b, 0x9b, X_NONE},
        {0, 0xd8, 0xdf, X_MODRM},
        {0, 0xd8, 0xdf, X_MODRM},
        {0, 0xd8, 0xdf, X_MODRM},
        {0, 0xd8, 0xdf, X_MODRM},
        {1, 0x40, 0x4f, X_MODRM},
        {1, 0x90, 0x9f, X_MODRM},
        {1, 0xa3, 0xa3, X_MODRM},
        {1, 0xa4, 0xa4, X_MODRM | X_IMM8},
        {1, 0xa5, 0xa5, X_MODRM},
        {1, 0xab, 0xab, X_MODRM},
        {1, 0xac, 0xac, X_MODRM | X_IMM8},
        {1, 0xad, 0xad, X_MODRM},
        {1, 0xaf, 0xaf, X_MODRM},
        {1, 0xb0, 0xb1, X_MODRM},
        {1, 0xb3, 0xb3, X_MODRM},
        {1, 0xb6, 0xb8, X_MODRM},
        {1, 0xba, 0xba, X_MODRM | X_IMM8},
        {1, 0xbb, 0xbf, X_MODRM},
        {1, 0xc0, 0xc1, X_MODRM},
        {1, 0xc8, 0xcf, X_NONE},
        {1, 0x10, 0x17, X_MODRM},
        {1, 0x28, 0x2f, X_MODRM},
        {1, 0x50, 0x6f, X_MODRM},
        {1, 0x50, 0x6f, X_MODRM},
        {1, 0x70, 0x73, X_MODRM | X_IMM8},
        {1, 0x74, 0x76, X_MODRM},
        {1, 0x7c, 0x7f, X_MODRM},
        {1, 0xc2, 0xc2, X_MODRM | X_IMM8},
        {1, 0xc4, 0xc6, X_MODRM | X_IMM8},
        {1, 0xd0, 0xfe, X_MODRM},
        {2, 0x00, 0x1e, X_MODRM},
        {2, 0x20, 0x41, X_MODRM},
        {2, 0xf0, 0xf7, X_MODRM},
        {2, 0xf2, 0xf7, X_MODRM},
        {3, 0xf0, 0xf0, X_MODRM | X_IMM8},
        {1, 0x77, 0x77, X_NONE},
        {1, 0xc7, 0xc7, X_MODRM},
        {3, 0x08, 0x0f, X_MODRM | X_IMM8},
        {3, 0x14, 0x22, X_MODRM | X_IMM8},
        {3, 0x40, 0x44, X_MODRM | X_IMM8},
        {3, 0x4a, 0x4c, X_MODRM | X_IMM8},
    };
    unsigned n = pick(f, G_N_ELEMENTS(forms)), what = forms[n].what;
    unsigned opcode = forms[n].low + pick(f, forms[n].high - forms[n].low + 1);
    bool string = opcode >= 0xa4 && opcode <= 0xaf && forms[n].map == 0;
    bool repeated = string && pick(f, 4) == 0;
    if (repeated && pick(f, 2)) { /* push; pop ecx */
        put(f, 0x6a);
        put(f, pick(f, 64));
        put(f, 0x59);
    }
    unsigned prefix = pick(f, 16);
    bool opsize = prefix == 0 || (forms[n].map && prefix < 6);
    if (forms[n].map && (prefix == 6 || prefix == 7))
        put(f, prefix == 6 ? 0xf2 : 0xf3);
    static const uint8_t segments[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65};
    if (f->segmented && pick(f, 6) == 0)
        put(f, segments[pick(f, 6)]);
    else if (prefix == 8)
        put(f, 0x64 + pick(f, 2));
    bool addrsize = prefix == 9 && pick(f, 3) == 0;
    if (addrsize)
        put(f, 0x67);
    bool wide = f->mode16 ? addrsize : !addrsize || f->mode64;
    if (prefix == 10 && pick(f, 2) == 0)
        put(f, 0xf0);
    if (string && (opcode & 0xfe) == 0xa8)
        opcode = 0xa4;
    if (repeated)
        put(f, 0xf2 + pick(f, 2));
    bool double_shift = forms[n].map == 1 && (opcode & 0xf6) == 0xa4;
    if (double_shift)
        opsize = f->mode16; /* counts over 16 are undefined, differently so with memory */
    if (opsize)
        put(f, 0x66);
    unsigned whole = opsize == f->mode16 ? 4 : 2;
    if (forms[n].map && (what & X_MODRM || opcode == 0x77) &&
        pick(f, 4) == 0) { /* VEX of three bytes */
        put(f, 0xc4);
        put(f, (f->mode64 ? pick(f, 8) << 5 : 0xe0) | forms[n].map);
        put(f, pick(f, 256));
        put(f, opcode);
        if (what & X_MODRM)
            put_modrm(f, wide);
        if (what & X_IMM8)
            put(f, pick(f, 256));
        return;
    }
    unsigned rex = f->mode64 && pick(f, 3) ? 0x40 | pick(f, 16) : 0;
    if (rex)
        put(f, rex);
    if (forms[n].map) {
        put(f, 0x0f);
        if (forms[n].map > 1)
            put(f, forms[n].map == 2 ? 0x38 : 0x3a);
    } else if (opcode < 0x40) {
        opcode &= ~6u | pick(f, 3) << 1;
        if ((opcode & 7) == 4)
            what = X_IMM8;
        else if ((opcode & 7) == 5)
            what = X_IMMZ;
        else
            what = X_MODRM;
    } else if (opcode == 0x8f) {
        what = X_MODRM;
    } else if ((opcode & 0xfc) == 0xe0 || (opcode & 0xf0) == 0x70) {
        put(f, opcode);
        put(f, pick(f, 24));
        return;
    } else if (opcode == 0xf6 || opcode == 0xf7 || opcode >= 0xfe) {
        unsigned modrm = pick(f, 256), group = modrm >> 3 & 7;
        if ((opcode == 0xff && group != 6 && group > 1) || (opcode == 0xfe && group > 1))
            modrm &= ~0x30;
        put(f, opcode);
        if (modrm < 0xc0 && ((modrm & 7) == 4 || (modrm & 7) == 5 || modrm >= 0x40))
            modrm |= 0xc0;
        put(f, modrm);
        if (opcode < 0xf8 && (modrm >> 3 & 7) < 2)
            put_bytes(f, g_rand_int(f->random), opcode == 0xf6 ? 1 : rex & 8 ? 4 : whole);
        return;
    }
    put(f, opcode);
    if (what & X_MODRM)
        put_modrm(f, wide);
    if (what & X_IMM8)
        put(f, pick(f, 4) ? pick(f, 256) : pick(f, 4));
    if (what & X_IMMZ)
        put_bytes(f, g_rand_int(f->random), rex & 8 ? 4 : whole);
    if (what & X_OFFSET)
        put_bytes(f, f->mode16 ? pick(f, 65536) : DATA + pick(f, DATA_SIZE),
                  f->mode64 ? 8
                  : wide    ? 4
                            : 2);
}

static void put_constant(Fixture *f, unsigned reg, uint32_t value)
{
    if (reg >= GPR_NONE || reg == GPR_RSP)
        return;
    if (reg & 8)
        put(f, 0x41);
    if (f->mode16)
        put(f, 0x66);
    put(f, 0xb8 | (reg & 7));
    put_bytes(f, f->mode16 ? value & 0xffff : value, 4);
}

/* A random instruction, mostly one that exists and whose operand lies in the data. */
static void put_instruction(Fixture *f)
{
    const uint32_t flat = MODE_STACK32 | MODE_FLAT_DS | MODE_FLAT_ES | MODE_FLAT_SS;
    uint32_t mode = f->mode16   ? MODE_CODE16
                    : f->mode64 ? MODE_CODE64 | MODE_LONG
                                : MODE_CODE32 | flat;
    if (!f->real && !f->v86)
        mode |= MODE_PROTECTED;
    for (;;) {
        unsigned start = f->size, size;
        uint8_t bytes[32];
        Insn insn = {.rip_offset = 0};
        put_random(f);
        size = f->size - start;
        memcpy(bytes, f->program + start, size);
        bool random = false; /* RDRAND, RDSEED */
        if (!decode_insn(&f->model, mode, bytes, sizeof(bytes), &insn) || insn.length != size ||
            insn.fn == op_ud ||
            (random = insn.map == MAP_0F && insn.opcode == 0xc7 && !(insn.flags & INSN_MEMORY))) {
            if (!random && pick(f, 40) == 0)
                return;
            f->size = start;
            continue;
        }
        bool again = insn.base == f->base && insn.index == GPR_NONE && f->base != GPR_NONE;
        if (insn.flags & INSN_MEMORY && !again && pick(f, f->mode16 ? 2 : 50)) {
            f->base = pick(f, 3) ? insn.base : GPR_NONE;
            f->size = start;
            if (insn.index != insn.base)
                put_constant(f, insn.index, pick(f, 4) ? pick(f, 4) * 16 : pick(f, 64));
            put_constant(f, insn.base,
                         DATA + (pick(f, 8)
                                     ? (pick(f, DATA_SIZE - 2048) & ~(pick(f, 4) ? 15 : 0)) + 1024
                                     : (pick(f, 3) + 1) * 4096 - pick(f, 24)));
            memcpy(f->program + f->size, bytes, size);
            f->size += size;
        }
        return;
    }
}

/* The register with an address moves a little; the stack, too. */
static void put_step(Fixture *f)
{
    unsigned reg = pick(f, 2) || f->base >= 16 ? GPR_RSP : f->base;
    if (f->mode64)
        put(f, 0x48 | (reg & 8 ? 1 : 0));
    if (f->mode16 && pick(f, 4) == 0)
        put(f, 0x66);
    put(f, 0x83);
    put(f, 0xc0 | pick(f, 2) * 0x28 | (reg & 7)); /* add, sub */
    put(f, reg == GPR_RSP ? pick(f, 8) * 8 : pick(f, 64));
}

/* [rsp + disp], [bp + disp] */
static void put_stack_access(Fixture *f)
{
    static const uint8_t opcodes[] = {0x89, 0x8b, 0x03, 0x01, 0x8d, 0x87};
    unsigned reg = pick(f, 8);
    if (f->mode64)
        put(f, 0x48);
    put(f, opcodes[pick(f, G_N_ELEMENTS(opcodes))]);
    put(f, (f->mode16 ? 0x46 : 0x44) | (reg == GPR_RSP ? 0 : reg) << 3);
    if (!f->mode16)
        put(f, 0x24);
    put(f, pick(f, 24) * 8 - 96);
}

/* Loads, stores, pushes and pops by two registers with addresses of perhaps two pages: what one
 * access leaves in a scratch register is there for the next. */
static void put_accesses(Fixture *f)
{
    static const uint8_t opcodes[] = {0xff, 0xff, 0x8f, 0x8b, 0x89, 0x03, 0x39};
    unsigned regs[2], count = 2 + pick(f, 6);
    for (unsigned i = 0; i < 2; i++) {
        regs[i] = pick(f, 3) ? 8 + pick(f, 8) : pick(f, 8);
        if (!f->mode64)
            regs[i] &= 7;
        if ((regs[i] & 7) == GPR_RSP)
            regs[i] ^= 1;
        put_constant(f, regs[i], DATA + (pick(f, 2) << 12) + 1024 + pick(f, 2048));
    }
    for (unsigned i = 0; i < count; i++) {
        unsigned opcode = opcodes[pick(f, G_N_ELEMENTS(opcodes))], base = regs[pick(f, 2)];
        unsigned reg = opcode == 0xff ? 6 : opcode == 0x8f ? 0 : pick(f, 16);
        if (reg == GPR_RSP)
            reg = GPR_RBP;
        if (f->mode64)
            put(f, 0x48 | (reg & 8) >> 1 | (base & 8) >> 3);
        put(f, opcode);
        put(f, 0x40 | (reg & 7) << 3 | (base & 7));
        put(f, pick(f, 16) * 8 - 64);
    }
}

static void put_instruction(Fixture *f);

/* A function of one instruction, jumped over, and a call of it: relative, by a register or through
 * the stack. */
static void put_call(Fixture *f)
{
    unsigned reg = pick(f, 4), function, way = pick(f, 4);
    put(f, 0xeb);
    put(f, 0);
    function = f->size;
    put_instruction(f);
    if (pick(f, 4) == 0)
        put_bytes(f, 0x0008c2, 3); /* ret 8 */
    else
        put(f, 0xc3);
    f->program[function - 1] = f->size - function;
    if (way == 0) {
        put(f, 0xb8 | reg);
        put_bytes(f, f->origin + function, f->mode16 ? 2 : 4);
        put(f, 0xff), put(f, 0xd0 | reg);
    } else if (way == 1 && !f->mode16) {
        unsigned disp = pick(f, 8) * 8 - 32;
        if (f->mode64)
            put(f, 0x48);
        put_bytes(f, 0x2444c7 | disp << 24, 4);
        put_bytes(f, f->origin + function, 4);
        put_bytes(f, 0x2454ff | disp << 24, 4);
    } else {
        unsigned size = f->mode16 ? 2 : 4;
        put(f, 0xe8);
        put_bytes(f, function - (f->size + size), size);
    }
}

/* A function called far, by a register's way or as an interrupt's handler that returns by IRET. */
static void put_far_call(Fixture *f)
{
    unsigned function, how = pick(f, 3);
    put(f, 0xeb);
    put(f, 0);
    function = f->size;
    put_instruction(f);
    put(f, how == 0 ? 0xcb : how == 1 ? 0xcf : 0xca);
    if (how == 2)
        put_bytes(f, 4, 2);
    f->program[function - 1] = f->size - function;
    if (how == 1)
        put(f, 0x9c);
    put(f, 0x9a);
    put_bytes(f, f->origin + function, 2);
    put_bytes(f, CODE16 >> 4, 2);
}

/* A segment register is loaded, or seen. */
static void put_segment(Fixture *f)
{
    static const uint16_t selectors[] = {0x3000, 0x5000, 0x5123, 0x6100, 0x4ffe};
    static const uint8_t segments[] = {SEG_DS, SEG_ES, SEG_FS, SEG_GS, SEG_SS};
    unsigned seg = segments[pick(f, pick(f, 16) ? 4 : 5)], how = pick(f, 6), reg = pick(f, 4);
    uint16_t selector = selectors[pick(f, G_N_ELEMENTS(selectors))];
    if (how == 0) { /* mov [m], sreg; mov r, sreg */
        put(f, 0x8c), put(f, (pick(f, 2) ? 0x07 : 0xc0) | seg << 3);
    } else if (how == 1 && seg != SEG_SS) { /* push; pop */
        put(f, 0x68), put_bytes(f, selector, 2);
        if (seg >= SEG_FS)
            put(f, 0x0f);
        put(f, seg < SEG_FS ? seg << 3 | 7 : 0x81 | seg << 3);
    } else if (how == 2) {
        put(f, seg < SEG_FS ? seg << 3 | 6 : 0x1e); /* push */
    } else if (how == 3) {                          /* les, lds: what is found there */
        put(f, 0xc4 | pick(f, 2)), put(f, 0x04 | reg << 3);
    } else { /* mov */
        put(f, 0xb8 | reg), put_bytes(f, selector, 2);
        put(f, 0x8e), put(f, 0xc0 | seg << 3 | reg);
    }
}

/* A few instructions, up to eight times; with an access whose register steps. */
static void put_short_loop(Fixture *f)
{
    static const uint8_t opcodes[] = {0x03, 0x33, 0x3b, 0x8b, 0x89, 0x01};
    put_address(f);
    unsigned start = f->size, insns = pick(f, 8), base = 1 + pick(f, 3), step = pick(f, 40);
    put(f, opcodes[pick(f, G_N_ELEMENTS(opcodes))]);
    put(f, pick(f, 2) << 3 | base); /* [rcx], [rdx] or [rbx] */
    for (unsigned i = 0; i < insns; i++)
        put_instruction(f);
    if (f->mode64)
        put(f, 0x48);
    put(f, 0x83), put(f, 0xc0 | base), put(f, step - 8); /* add */
    put(f, 0xff), put(f, 0x0c), put(f, 0x25), put_bytes(f, COUNTER2, 4);
    put(f, 0xf6), put(f, 0x04), put(f, 0x25), put_bytes(f, COUNTER2, 4), put(f, 7);
    put(f, 0x0f), put(f, 0x85), put_bytes(f, start - (f->size + 4), 4);
}

/* The program, a loop around it at times. */
static void make_program(Fixture *f)
{
    const char *most = g_getenv("JIT_TEST_INSNS"); /* small programs show a failure best */
    unsigned insns = 2 + pick(f, most ? atoi(most) : 42);
    f->size = 0;
    f->base = GPR_NONE;
    for (unsigned i = 0; i < insns; i++) {
        if (pick(f, 8) == 0)
            put_address(f);
        if (pick(f, 8) == 0)
            put_step(f);
        if (pick(f, 8) == 0)
            put_stack_access(f);
        if (!f->segmented && pick(f, 4) == 0)
            put_accesses(f);
        if (pick(f, 12) == 0)
            put_call(f);
        if (!f->segmented && pick(f, 12) == 0)
            put_short_loop(f);
        if ((f->real || f->v86) && pick(f, 16) == 0)
            put_far_call(f);
        if ((f->real || f->v86) && pick(f, 8) == 0)
            put_segment(f);
        put_instruction(f);
    }
    for (unsigned i = 0; i < 32; i++)
        put(f, 0x90);
    if (pick(f, 2)) { /* dec dword [counter]; jnz start */
        unsigned size = f->mode16 ? 2 : 4;
        put(f, 0xff), put(f, f->mode16 ? 0x0e : 0x0c);
        if (!f->mode16)
            put(f, 0x25);
        put_bytes(f,
                  f->mode16      ? COUNTER - DATA16
                  : f->segmented ? COUNTER - 0x1000
                                 : COUNTER,
                  size);
        put(f, 0x0f), put(f, 0x85);
        put_bytes(f, -(f->size + size), size);
    }
    for (unsigned i = 0; i < 16; i++)
        put(f, 0xf4);
}

/* ---- machines -----------------------------------------------------------------------------------
 */

static void put64(Machine *m, uint64_t address, uint64_t value)
{
    memcpy(m->ram->host + address, &value, sizeof(value));
}

static Segment segment(uint16_t selector, uint32_t attributes)
{
    return (Segment){.selector = selector, .attributes = attributes, .limit = UINT32_MAX};
}

/* Pages of data lie in disorder, for one that is found by the addend of another to be seen. */
static uint64_t physical(const Fixture *f, uint64_t linear)
{
    static const uint8_t frames[DATA_SIZE / GUEST_PAGE_SIZE] = {2, 0, 3, 1};
    uint64_t at = linear - DATA;
    return f->mode64 && at < DATA_SIZE
               ? DATA + frames[at / GUEST_PAGE_SIZE] * GUEST_PAGE_SIZE + at % GUEST_PAGE_SIZE
               : linear;
}

static void put_tables(Fixture *f, Machine *m)
{
    unsigned user = f->user ? 4 : 0;
    if (f->mode64) {
        put64(m, 0x1000, 0x2003 | user);
        put64(m, 0x2000, 0x3003 | user);
        for (unsigned i = 0; i < 8; i++)
            put64(m, 0x3000 + i * 8, (uint64_t)i << 21 | 0x83 | user);
        /* The data in 4 KiB pages, the third of them read-only, nothing behind. */
        put64(m, 0x3008, 0x4003 | user);
        for (unsigned i = 0; i < DATA_SIZE >> 12; i++)
            put64(m, 0x4000 + i * 8, physical(f, DATA + i * 4096) | (i == 2 ? 1 : 3) | user);
        put64(m, 0x5008, UINT64_C(0x00af9b000000ffff));
        put64(m, 0x5018, UINT64_C(0x00affb000000ffff));
        put64(m, TSS + 4, STACK0);
    } else if (f->real) {
        for (unsigned vector = 0; vector < 256; vector++) {
            uint32_t entry = HANDLERS << 12 | (vector % 32) * 16;
            memcpy(m->ram->host + 0x6000 + vector * 4, &entry, 4);
        }
    } else {
        put64(m, 0x5008, UINT64_C(0x00cf9b000000ffff));
        put64(m, 0x5018, UINT64_C(0x00cffb000000ffff));
        put64(m, TSS + 4, STACK0 | UINT64_C(0x10) << 32);
    }
    put64(m, 0x5010, UINT64_C(0x00cf93000000ffff));
    put64(m, 0x5020, UINT64_C(0x00cff3000000ffff));
    for (unsigned vector = 0; vector < 32; vector++) {
        uint64_t gate = (HANDLERS + vector * 16) | UINT64_C(8) << 16 | UINT64_C(0x8e00) << 32;
        if (!f->real)
            put64(m, 0x6000 + vector * (f->mode64 ? 16 : 8), gate);
        if (f->mode64)
            put64(m, 0x6000 + vector * 16 + 8, 0);
        memset(m->ram->host + HANDLERS + vector * 16, 0xf4, 16);
    }
}

/* Some registers with values of all kinds; every now and then exceptions that are not masked, or
 * wait. */
static void prepare_x87(FpuState *fpu, GRand *random)
{
    static const uint16_t controls[] = {0x37f, 0x37f, 0x37f, 0x37f, 0x27f, 0x07f, 0xf7f, 0x37a};
    fpu->fcw = controls[g_rand_int(random) % G_N_ELEMENTS(controls)];
    fpu->fsw = g_rand_int(random) & (g_rand_boolean(random) ? 0x7f00 : 0x7f7f) & 0x7fff;
    if (fpu->fsw & ~fpu->fcw & 0x3f)
        fpu->fsw |= 0x8080;
    fpu->ftw_abridged = g_rand_int(random);
    fpu->fip = g_rand_int(random);
    fpu->fdp = g_rand_int(random);
    fpu->fop = g_rand_int(random) & 0x7ff;
    for (unsigned i = 0; i < 8; i++) {
        long double value = g_rand_double_range(random, -40, 40);
        if (g_rand_int(random) % 4 == 0) {
            uint64_t bits = (uint64_t)g_rand_int(random) << 32 | g_rand_int(random);
            memcpy(&value, &bits, 8);
        }
        memcpy(fpu->st[i], &value, 10);
    }
}

/* Pages whose code is written often are interpreted for a while; not those of the next program. */
static void cool_down(Machine *m)
{
    for (uint64_t at = 0; at < RAM_SIZE; at += GUEST_PAGE_SIZE) {
        atomic_store(&code_page(m->ram, at)->drops, 0);
        atomic_store(&code_page(m->ram, at)->hot, 0);
    }
}

/* Of a data segment that is not flat. */
static Segment random_segment(const Fixture *f, uint32_t base, GRand *random)
{
    static const uint32_t limits[] = {0xffff, 0xffff, 0xffff, UINT32_MAX, 0x3fff, 0x8765};
    uint32_t limit = limits[g_rand_int(random) % G_N_ELEMENTS(limits)];
    unsigned kind = g_rand_int(random) % 16, dpl = f->user ? 0x60 : 0;
    if (!f->mode16 && limit < UINT32_MAX)
        limit = DATA + limit % DATA_SIZE;
    Segment seg = {.selector = base >> 4, .attributes = 0x93 | dpl, .limit = limit, .base = base};
    if (limit == UINT32_MAX)
        seg.attributes |= SEGMENT_G;
    if (f->real || f->v86)
        return seg;
    if (kind == 0)
        seg.attributes = 0x91 | dpl; /* read-only */
    else if (kind == 1)
        seg.attributes |= SEGMENT_EXPAND_DOWN | (g_rand_boolean(random) ? SEGMENT_DB : 0);
    else if (kind == 2)
        seg.attributes = SEGMENT_UNUSABLE;
    return seg;
}

static void prepare_segments(const Fixture *f, CpuState *state, GRand *random)
{
    static const uint32_t bases[] = {0x51230, 0, STACK16, DATA16, 0x5fff0, 0x61004};
    uint32_t dpl = f->user ? 0x60 : 0;
    for (unsigned i = 0; i < SEG_COUNT; i++)
        state->seg[i] = f->user ? segment(0x23, 0xc0f3) : segment(0x10, 0xc093);
    state->seg[SEG_CS] = segment(f->user ? 0x1b : 8, (f->mode64 ? 0xa09b : 0xc09b) | dpl);
    if (!f->segmented)
        return;
    bool plain = f->v86 || g_rand_boolean(random);
    for (unsigned i = 0; i < SEG_COUNT; i++) {
        uint32_t base = f->mode16 ? bases[i] : i == SEG_SS ? STACK16 : 0x1000 * (i % 3);
        Segment *seg = &state->seg[i];
        *seg = random_segment(f, base, random);
        if (plain)
            *seg = (Segment){.selector = base >> 4,
                             .attributes = 0x93 | dpl,
                             .limit = f->mode16 ? 0xffff : UINT32_MAX,
                             .base = base};
    }
    state->seg[SEG_DS].base = f->mode16 ? DATA16 : 0x1000;
    Segment *ss = &state->seg[SEG_SS];
    if (ss->attributes & SEGMENT_UNUSABLE || !(ss->attributes & SEGMENT_WRITABLE))
        *ss = (Segment){.attributes = 0x93 | dpl, .limit = 0xffff, .base = STACK16};
    if (!f->real && !f->v86 && g_rand_boolean(random))
        ss->attributes |= SEGMENT_DB;
    state->seg[SEG_CS] = (Segment){.selector = f->v86 || f->real ? CODE16 >> 4
                                               : f->user         ? 0x1b
                                                                 : 8,
                                   .attributes = 0x9b | dpl | (f->mode16 ? 0 : SEGMENT_DB),
                                   .limit = plain ? 0xffff : 0x1fff,
                                   .base = CODE16};
    if (f->real) {
        state->cr0 &= ~(uint64_t)CR0_PE;
        state->idtr.limit = 0x3ff;
    }
    if (f->v86)
        state->rflags |= FLAG_VM | FLAG_IOPL;
}

/* Offsets of which many lie where something ends; a stack at its ends at times. */
static void prepare_words(CpuState *state, GRand *random)
{
    for (unsigned i = 0; i < 8; i++) {
        uint64_t *reg = &state->gpr[i];
        if (i == GPR_RSP)
            continue;
        *reg = g_rand_int(random);
        if (g_rand_boolean(random))
            *reg = (*reg & 15) * 4096 - (*reg >> 8) % 20;
    }
    state->gpr[GPR_RCX] &= 0xffff00ff;
    state->gpr[GPR_RSP] = 0xff00;
    if (g_rand_int(random) % 8 == 0)
        state->gpr[GPR_RSP] = g_rand_boolean(random) ? g_rand_int(random) % 40 : 0xfff0;
}

/* All that segments reach. */
static void prepare_world(Machine *m, uint32_t seed)
{
    uint64_t value = seed | UINT64_C(1) << 32;
    for (uint64_t at = STACK16; at < STACK16 + WORLD16; at += 8) {
        value ^= value << 13;
        value ^= value >> 7;
        value ^= value << 17;
        put64(m, at, value);
    }
}

static void prepare(Fixture *f, Machine *m, uint32_t seed, CpuState *state)
{
    g_autoptr(GRand) random = g_rand_new_with_seed(seed);
    m->engine->get_state(&m->vcpu, state);
    memset(m->ram->host, 0, RAM_SIZE); /* what programs do depends on none before them */
    put_tables(f, m);
    for (unsigned i = 0; i < DATA_SIZE; i += 4)
        *(uint32_t *)(m->ram->host + DATA + i) = g_rand_int(random);
    for (unsigned i = 0; i < DATA_SIZE / 8; i++) /* addresses, that a wrong one is one, too */
        put64(m, DATA + g_rand_int(random) % DATA_SIZE / 8 * 8,
              DATA + g_rand_int(random) % DATA_SIZE);
    if (f->segmented)
        prepare_world(m, seed);
    put64(m, COUNTER, 3);
    memcpy(m->ram->host + BASE, f->program, f->size);
    ram_written(m->ram, 0, RAM_SIZE); /* programs jump anywhere */
    cool_down(m);
    *state =
        (CpuState){.cr0 = CR0_PE | CR0_WP | CR0_ET | CR0_NE | CR0_MP | (f->mode64 ? CR0_PG : 0),
                   .cr3 = 0x1000,
                   .cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE,
                   .xcr0 = 7,
                   .efer = f->mode64 ? EFER_LME | EFER_LMA : 0,
                   .gdtr = {0x5000, 39},
                   .idtr = {0x6000, 32 * 16 - 1},
                   .rip = f->origin,
                   .rflags = 2 | (g_rand_int(random) & FLAGS_ARITHMETIC),
                   .dr6 = 0xffff0ff0,
                   .dr7 = 0x400};
    prepare_segments(f, state, random);
    state->tr = (Segment){.selector = 0x28, .attributes = 0x8b, .limit = 103, .base = TSS};
    for (unsigned i = 0; i < 16; i++)
        state->gpr[i] = g_rand_boolean(random) ? g_rand_int(random)
                                               : DATA + g_rand_int_range(random, 128, DATA_SIZE);
    if (!f->mode64)
        memset(state->gpr + 8, 0, 8 * sizeof(uint64_t));
    state->gpr[GPR_RCX] &= 0xff;
    /* With and without a page's end near. */
    state->gpr[GPR_RSP] = STACK - (f->segmented ? STACK16 : 0) - (seed % 2 ? 0x200 : 0);
    if (f->mode16)
        prepare_words(state, random);
    prepare_x87(&state->fpu, random);
    state->fpu.mxcsr = 0x1f80;
    if (seed % 16 == 0)
        state->fpu.mxcsr |= 0x6000; /* another rounding */
    if (seed % 16 == 1)
        state->fpu.mxcsr &= ~(1 << (7 + seed / 16 % 6)); /* one exception is not masked */
    for (unsigned i = 0; i < 16 * 16; i += 4)
        *(uint32_t *)((uint8_t *)state->fpu.xmm + i) = g_rand_int(random);
    for (unsigned i = 0; i < 4; i++) {
        float value = g_rand_double_range(random, -1000, 1000);
        memcpy(state->fpu.xmm[i], &value, 4);
    }
}

/* False: it did not end in time. */
static bool run(Machine *m, CpuState *state)
{
    const struct itimerval time = {{0, 20000}, {0, 20000}}, off = {0};
    m->engine->set_state(&m->vcpu, state);
    atomic_store(&m->vcpu.requests, 0);
    running = m->cpu;
    setitimer(ITIMER_VIRTUAL, &time, NULL);
    VcpuExit exit = m->engine->run(&m->vcpu);
    setitimer(ITIMER_VIRTUAL, &off, NULL);
    running = NULL;
    m->engine->get_state(&m->vcpu, state);
    return exit != VCPU_EXIT_KICKED;
}

static void describe(Fixture *f, uint32_t seed, const CpuState *a, const CpuState *b)
{
    g_autoptr(GString) bytes = g_string_new(NULL);
    for (unsigned i = 0; i < f->size; i++)
        g_string_append_printf(bytes, "%02x", f->program[i]);
    g_test_message("seed %u program %s", seed, bytes->str);
    for (unsigned i = 0; i < 16; i++) {
        if (a->gpr[i] != b->gpr[i])
            g_test_message("gpr %u: %" G_GINT64_MODIFIER "x, translated %" G_GINT64_MODIFIER "x", i,
                           a->gpr[i], b->gpr[i]);
        if (memcmp(a->fpu.xmm[i], b->fpu.xmm[i], 16))
            g_test_message("xmm %u differs", i);
    }
    g_test_message("rip %" G_GINT64_MODIFIER "x, translated %" G_GINT64_MODIFIER
                   "x; rflags %" G_GINT64_MODIFIER "x, translated %" G_GINT64_MODIFIER
                   "x; mxcsr %x, translated %x; cr2 %" G_GINT64_MODIFIER "x",
                   a->rip, b->rip, a->rflags, b->rflags, a->fpu.mxcsr, b->fpu.mxcsr, a->cr2);
    for (unsigned i = 0; i < 2; i++) {
        const FpuState *fpu = i ? &b->fpu : &a->fpu;
        g_test_message("%s fcw %x fsw %x tags %x fop %x fip %" G_GINT64_MODIFIER
                       "x fdp %" G_GINT64_MODIFIER "x",
                       i ? "translated" : "x87", fpu->fcw, fpu->fsw, fpu->ftw_abridged, fpu->fop,
                       fpu->fip, fpu->fdp);
        for (unsigned n = 0; n < 8; n++)
            g_test_message("  st%u %04x %016" G_GINT64_MODIFIER "x", n,
                           *(const uint16_t *)(fpu->st[n] + 8), *(const uint64_t *)fpu->st[n]);
    }
}

/* Where the fault that was delivered, or could not be, but for them, stored the flags. */
static uint64_t pushed_flags(const Fixture *f, const CpuState *state)
{
    bool wide = state->seg[SEG_SS].attributes & SEGMENT_DB || f->mode64;
    uint64_t at = state->gpr[GPR_RSP], base = f->mode64 ? 0 : state->seg[SEG_SS].base;
    unsigned vector = (state->seg[SEG_CS].base + state->rip - HANDLERS) / 16;
    bool error = vector == 8 || (vector >= 10 && vector <= 14) || vector == 17;
    if (vector >= 32)
        at -= f->real ? 2 : 4;
    else
        at += f->real ? 4 : (error + 2) * (f->mode64 ? 8 : 4);
    return base + (f->mode64 ? at : at & (wide ? UINT32_MAX : UINT16_MAX));
}

static bool same_memory(Fixture *f, const CpuState *state, bool faulted)
{
    uint8_t *a = f->machines[0].ram->host, *b = f->machines[1].ram->host;
    uint64_t at = physical(f, pushed_flags(f, state));
    if (faulted && at < RAM_SIZE - 64) {
        memset(a + at, 0, f->real ? 2 : 4);
        memset(b + at, 0, f->real ? 2 : 4);
    }
    return !memcmp(a + DATA, b + DATA, DATA_SIZE) && !memcmp(a + STACK16, b + STACK16, WORLD16);
}

/* Gives both machines the same memory. Whether they had not. */
static bool level_memory(Fixture *f)
{
    Ram *from = f->machines[0].ram, *to = f->machines[1].ram;
    if (!memcmp(from->host, to->host, RAM_SIZE))
        return false;
    memcpy(to->host, from->host, RAM_SIZE);
    ram_written(to, 0, RAM_SIZE);
    return true;
}

static bool same_state(const CpuState *a, const CpuState *b, bool faulted)
{
    return !memcmp(a->gpr, b->gpr, 16 * sizeof(uint64_t)) && a->rip == b->rip && a->cr2 == b->cr2 &&
           (faulted || a->rflags == b->rflags) &&
           !memcmp(a->fpu.xmm, b->fpu.xmm, sizeof(a->fpu.xmm)) &&
           !memcmp(a->fpu.ymm_high, b->fpu.ymm_high, sizeof(a->fpu.ymm_high)) &&
           a->fpu.mxcsr == b->fpu.mxcsr && !memcmp(&a->fpu, &b->fpu, offsetof(FpuState, mxcsr)) &&
           !memcmp(a->fpu.st, b->fpu.st, sizeof(a->fpu.st));
}

/* Whether the interpreter does again what it did: a jump into an instruction may have found RDRAND
 * or RDTSC there. */
static bool repeats(Fixture *f, uint32_t seed, const CpuState *before)
{
    CpuState state;
    prepare(f, &f->machines[0], seed, &state);
    return run(&f->machines[0], &state) && !memcmp(state.gpr, before->gpr, 16 * sizeof(uint64_t));
}

/* Whether the host lost which x87 instruction was its last: some AMD processors do so when another
 * process runs in between. The rest agrees then, and so does all of another run. */
static bool host_lost_pointers(Fixture *f, uint32_t seed, const CpuState *right, CpuState wrong,
                               bool faulted)
{
    wrong.fpu.fip = right->fpu.fip;
    wrong.fpu.fop = right->fpu.fop;
    if (!same_state(right, &wrong, faulted))
        return false;
    for (unsigned n = 0; n < 2; n++) {
        prepare(f, &f->machines[n], seed, &wrong);
        if (!run(&f->machines[n], &wrong))
            return false;
    }
    return same_state(right, &wrong, faulted) && same_memory(f, right, faulted);
}

static void test_random(Fixture *f, gconstpointer data)
{
    const char *wanted = g_getenv("JIT_TEST_CASES");
    unsigned cases = wanted          ? atoi(wanted)
                     : g_test_slow() ? 200000
                                     : 6000,
             halted = 0, late = 0, unsure = 0, failures = 0;
    for (unsigned i = 0; i < cases; i++) {
        CpuState states[2];
        uint64_t faults[2];
        uint32_t seed = g_rand_int(f->random);
        bool ended = true;
        make_program(f);
        for (unsigned n = 0; n < 2; n++) {
            prepare(f, &f->machines[n], seed, &states[n]);
            faults[n] = f->machines[n].cpu->stat_faults;
            ended &= run(&f->machines[n], &states[n]);
            faults[n] = f->machines[n].cpu->stat_faults - faults[n];
        }
        if (!ended) { /* stopped anywhere */
            late++;
            level_memory(f);
            continue;
        }
        /* A fault that can't be delivered shuts down where it was raised. */
        uint64_t linear = states[0].seg[SEG_CS].base + states[0].rip;
        bool faulted =
            (linear >= HANDLERS && linear < HANDLERS + 32 * 16) || states[0].rflags & FLAG_RF;
        halted += !faulted;
        bool same =
            same_state(&states[0], &states[1], faulted) && same_memory(f, &states[0], faulted);
        if (same && level_memory(f))
            same = faulted; /* flags that were pushed anywhere */
        if (same)
            continue;
        /* Flags were pushed in many places, over the handlers perhaps, which executed them. */
        if (MAX(faults[0], faults[1]) > 1) {
            unsure++;
            level_memory(f);
            continue;
        }
        if (!repeats(f, seed, &states[0]) ||
            host_lost_pointers(f, seed, &states[0], states[1], faulted)) {
            level_memory(f);
            continue;
        }
        g_test_message("program %u", i);
        describe(f, seed, &states[0], &states[1]);
        for (unsigned at = STACK16; at < DATA + DATA_SIZE; at += 4) {
            uint32_t *a = (uint32_t *)(f->machines[0].ram->host + at),
                     *b = (uint32_t *)(f->machines[1].ram->host + at);
            if (*a != *b)
                g_test_message("memory at %x: %x, translated %x", at, *a, *b);
        }
        level_memory(f);
        if (++failures == 5)
            break;
    }
    g_test_message("%u programs, %u to their end, %u too long, %u unsure", cases, halted, late,
                   unsure);
    g_assert_cmpuint(failures, ==, 0);
    g_assert_cmpuint(unsure, <, cases / 1000 + 2);
    g_assert_cmpuint(late, <, cases / 4 + 1);
}

/* What random programs meet too seldom. Made by GNU as; PUSHF tells the flags, HLT ends. */
static const struct {
    const char *name; /* what reads flags that a page check, a call or a link cost EFLAGS */
    uint16_t key;     /* bits of the code and CPL */
    const char *bytes;
} programs[] = {
    /* cmp rbx,rdi; mov rbx,[rsp]; call 1f; hlt; 1: pushf; pop rdx; ret */
    {"call", FLAT64, "4839fb488b1c24e801000000f49c5ac3"},
    /* lea rax,[1f]; add rdi,rsi; mov rdi,[rsp]; call rax; hlt; 1: pushf; pop rdx; ret */
    {"indirect call", FLAT64, "488d050a0000004801f7488b3c24ffd0f49c5ac3"},
    /* cmp dword [rsp+8],-5; mov rbx,[rsp]; mov rcx,[rsp+16]; pushf; pop rdx; hlt */
    {"memory", FLAT64, "837c2408fb488b1c24488b4c24109c5af4"},
    /* sub rsp,16; call 1f; hlt; 1: pushf; pop rdx; ret */
    {"stack pointer", FLAT64, "4883ec10e801000000f49c5ac3"},
    /* call 1f; pushf; pop rdx; hlt; 1: push rbx; cmp rbx,rcx; pop rbx; ret */
    {"return", FLAT64, "e8030000009c5af4534839cb5bc3"},
    /* mov ecx,40; 1: call 2f; pushf; pop rax; add rbx,rax; dec ecx; jnz 1b; hlt; 2: cmp ecx,17; jb
       3f; stc; ret; 3: push rcx; mov ecx,5; pop rcx; ret */
    {"return behind a comparison", FLAT64,
     "b928000000e80a0000009c584801c3ffc975f2f483f9117202f9c351b90500000059c3"},
    /* mov esp,203010; push rax; push rbx; push rcx; hlt: the third is to a page for reading */
    {"pushes up to a fault", USER64, "bc10302000505351f4"},
    /* mov esp,201004; push rax; push rbx; mov ecx,[rsp+4]; pop rdx; lea rsi,[rsp+rax*2]; pop rdi;
       hlt: the handler executes the first push */
    {"pushes across pages", FLAT64, "bc0410200050538b4c24045a488d34445ff4"},
    /* call 1f; pushf; pop rdx; hlt; 1: push rbx; sub rbx,r13; pop rbx; ret */
    {"return, subtracted", FLAT64, "e8030000009c5af4534c29eb5bc3"},
    /* call 1f; pushf; pop rdx; hlt; 1: push rbp; mov rbp,rsp; sub rsp,16; leave; ret */
    {"return, frame left", FLAT64, "e8030000009c5af4554889e54883ec10c9c3"},
    /* call 1f; pushf; pop rdx; hlt; 1: push rbx; push rcx; add rbx,rcx; pop rcx; pop rbx; ret */
    {"return, added", FLAT64, "e8030000009c5af453514801cb595bc3"},
    /* call 1f; pushf; pop rdx; hlt; 1: push rbx; and ebx,ecx; pop rbx; ret */
    {"return, masked", FLAT64, "e8030000009c5af45321cb5bc3"},
    /* call 1f; pushf; pop rdx; hlt; 1: cmp bl,ch; mov ecx,[rsp]; mov ebx,[rsp]; ret */
    {"return, bytes", FLAT64, "e8030000009c5af438eb8b0c248b1c24c3"},
    /* call 1f; pushf; pop rdx; hlt; 1: cmp rcx,[rsp-8]; mov rcx,[rsp]; ret */
    {"return, memory", FLAT64, "e8030000009c5af4483b4c24f8488b0c24c3"},
    /* call 1f; pushf; pop rdx; hlt; 1: xor bx,cx; mov ebx,[rsp]; mov r14,[rsp]; test r14,r14; mov
       r14,rbx; ret */
    {"return, twice", FLAT64, "e8030000009c5af46631cb8b1c244c8b34244d85f64989dec3"},
    /* add rbx,-80000000h; mov rcx,[rsp]; pushf; pop rdx; hlt */
    {"large immediate", FLAT64, "4881c300000080488b0c249c5af4"},
    /* lea rax,[1f]; test bl,cl; mov rcx,[rsp]; jmp rax; hlt; 1: pushf; pop rdx; hlt */
    {"jump", FLAT64, "488d050900000084cb488b0c24ffe0f49c5af4"},
    /* xor rbx,rcx; mov rbx,[rsp]; mov rcx,[rsp]; pushf; pop rdx; hlt */
    {"logic", FLAT64, "4831cb488b1c24488b0c249c5af4"},
    /* sub rsp,64; lea rax,[2f]; mov [rsp+8],rax; mov ecx,5; 1: mov [rsp-16],rdx; mov [rsp+16],rdx;
       call [rsp+8]; dec ecx; jnz 1b; hlt; 2: ret */
    {"call through the stack", FLAT64,
     "4883ec40488d051d0000004889442408b90500000048895424f04889542410ff542408ffc975eef4c3"},
    /* jmp 1f; 62 times nop; 1: cmp rbx,rcx; mov rax,[rsp]; 62 times nop; pushf; pop rdx; hlt: a
     * block of 64 instructions on a page of its own */
    {"full block", FLAT64,
     "eb3e"
     "90909090909090909090909090909090909090909090909090909090909090"
     "90909090909090909090909090909090909090909090909090909090909090"
     "4839cb488b0424"
     "90909090909090909090909090909090909090909090909090909090909090"
     "90909090909090909090909090909090909090909090909090909090909090"
     "9c5af4"},
    /* mov ebx,200100h; mov [ebx],eax; jmp 1f; 1: mov [ebx],eax; add ecx,edx; lock adc [ebx+4],eax;
     * pushf; pop edx; hlt: one check serves two writes, the second one's alignment costs EFLAGS */
    {"flags behind a lock", USER32, "bb000120008903eb00890301d1f01143049c5af4"},
    /* mov ebx,200100h; mov [rbx],rax; jmp 1f; 1: mov [rbx],rax; add rcx,r10; lock adc [rbx+8],rax;
     * pushf; pop rdx; hlt */
    {"flags behind a lock", USER64, "bb00012000488903eb004889034c01d1f0481143089c5af4"},
    /* mov edi,210000; add rbx,rcx; mov rax,[rdi]; xor eax,eax; hlt */
    {"flags at a fault, added", USER64, "bf000021004801cb488b0731c0f4"},
    /* mov edi,202000; sub rbx,rcx; mov rbx,[rsp]; mov rcx,[rsp+8]; mov dword [rdi],eax; xor
       eax,eax; hlt */
    {"flags at a fault, overwritten", USER64, "bf002020004829cb488b1c24488b4c2408890731c0f4"},
    /* mov edi,202000; cmp dword [rsp+8],fffffffb; mov dword [rdi],eax; xor eax,eax; hlt */
    {"flags at a fault, memory", USER64, "bf00202000837c2408fb890731c0f4"},
    /* mov edi,202000; test rcx,rbx; stc; inc ebx; add dword [rdi],1; hlt */
    {"flags at a fault, carry", USER64, "bf002020004885d9f9ffc3830701f4"},
    /* mov esi,0x200100; mov edi,0x200300; mov ecx,40; cmp rbx,rdx; rep movsb; pushf; pop rdx; hlt
     */
    {"copy", FLAT64, "be00012000bf00032000b9280000004839d3f3a49c5af4"},
    /* mov esi,0x200100; mov edi,0x200300; mov ecx,40; add rbx,rdx; rep movsw; pushf; pop rdx; hlt
     */
    {"copy of words", USER64, "be00012000bf00032000b9280000004801d366f3a59c5af4"},
    /* mov esi,0x200100; mov edi,0x200103; mov ecx,60; rep movsd; hlt */
    {"copy over itself", FLAT64, "be00012000bf03012000b93c000000f3a5f4"},
    /* mov esi,0x200fe0; mov edi,0x201003; mov ecx,8; rep movsq; hlt */
    {"copy between pages", FLAT64, "bee00f2000bf03102000b908000000f348a5f4"},
    /* mov edi,0x200ff0; mov ecx,16; sub rbx,rax; rep stosb; pushf; pop rdx; hlt */
    {"fill", USER64, "bff00f2000b9100000004829c3f3aa9c5af4"},
    /* mov edi,0x200ff8; mov ecx,8; rep stosq; hlt */
    {"fill of two pages", FLAT64, "bff80f2000b908000000f348abf4"},
    /* mov edi,0x200800; mov ecx,16; std; rep stosd; cld; hlt */
    {"fill backwards", FLAT64, "bf00082000b910000000fdf3abfcf4"},
    /* mov edi,0x202000; mov ecx,4; cmp rbx,rdx; rep stosb; hlt */
    {"fill up to a fault", USER64, "bf00202000b9040000004839d3f3aaf4"},
    /* mov rdi,0xeffffffffffff800; xor ecx,ecx; rep stosb; hlt */
    {"fill of nothing, nowhere", FLAT64, "48bf00f8ffffffffffef31c9f3aaf4"},
    /* mov rdi,0xeffffffffffff800; mov ecx,0x1000; rep stosb; hlt */
    {"fill where no address is", FLAT64, "48bf00f8ffffffffffefb900100000f3aaf4"},
    /* mov edi,0x200100; mov rcx,-4; rep stosd; hlt */
    {"fill without end", USER64, "bf0001200048c7c1fcfffffff3abf4"},
    /* mov esi,0x200f00; mov ecx,200; 1: add rbx,[rsi]; add rsi,8; dec ecx; jnz 1b; pushf; pop rdx;
       hlt */
    {"rounds over pages", FLAT64, "be000f2000b9c800000048031e4883c608ffc975f59c5af4"},
    /* xor eax,eax; mov esi,0x200fc8; mov edi,0x201301; 1: mov edx,[rsi+rax*4]; mov [rdi+rax*4],edx;
       inc rax; cmp rax,43; jne 1b; hlt */
    {"rounds by an index", USER64, "31c0bec80f2000bf011320008b148689148748ffc04883f82b75f1f4"},
    /* mov edi,0x201f80; 1: add bl,3; mov [rdi],bl; add rdi,4; cmp edi,0x203000; jne 1b; hlt */
    {"rounds up to a fault", USER64, "bf801f200080c303881f4883c70481ff0030200075eff4"},
    /* mov esi,0x200f00; mov ecx,99; 1: sub ebx,[esi]; adc edx,[esp]; add esi,4; dec ecx; jnz 1b;
       hlt */
    {"rounds of 32 bits", FLAT32, "be000f2000b9630000002b1e13142483c6044975f5f4"},
    /* mov esi,0x201010; mov ecx,13; 1: xor rbx,[rsi]; mov [rsi-8],rcx; sub rsi,8; sub ecx,1;
       jnz 1b; pushf; pop rdx; hlt */
    {"rounds downwards", FLAT64, "be10102000b90d00000048331e48894ef84883ee0883e90175f09c5af4"},
    /* mov ecx,9; mov esi,0x200100; 1: inc byte [2f+1]; 2: mov al,0; add bl,al; mov edx,[rsi];
       add rsi,4; dec ecx; jnz 1b; hlt */
    {"rounds that change", FLAT64,
     "b909000000be00012000fe0501000000b00000c38b164883c604ffc975ecf4"},
    /* mov esi,0x200fc0; mov edi,0x202fb0; mov eax,0; 1: addps xmm0,[rsi+rax];
       movaps [rdi+rax],xmm0; add rax,16; cmp rax,0x1010; jne 1b; hlt */
    {"rounds of vectors", FLAT64,
     "bec00f2000bfb02f2000b8000000000f5804060f2904074883c010483d1010000075ecf4"},
    /* mov esi,0x200fc0; 1: movzx eax,byte [rsi]; inc rsi; test al,al; jz 2f; cmp esi,0x201040;
       jb 1b; 2: mov rdx,rsi; hlt */
    {"rounds that end early", USER64, "bec00f20000fb60648ffc684c0740881fe4010200072ee4889f2f4"},
    /* mov esi,0x200100; mov edi,0x201108; mov ecx,3000; 1: adc rbx,[rsi]; xchg rsi,rdi; mov
       edx,150; 2: dec edx; jnz 2b; dec ecx; jnz 1b; pushf; pop rdx; hlt: the runs of 1 are counted
     */
    {"two pages in turn", USER64,
     "be00012000bf08112000b9b80b000048131e4887feba90010000ffca75fcffc975ed9c5af4"},
    /* mov ecx,3; mov qword [rsp],0x200180; 1: mov r9d,0x200100; push qword [rsp]; mov rax,[r9];
       pop rdx; dec ecx; jnz 1b; hlt */
    {"push between a register and its use", USER64,
     "b90300000048c704248001200041b900012000ff3424498b015affc975eff4"},
    /* mov esp,0x200800; mov esi,0x203800; mov edi,0x201800; mov ecx,1000; 1: push [rdi]; push
       [rdi+8]; mov rax,[rdi+16]; pop rbx; pop rdx; xchg rsp,rsi; dec ecx; jnz 1b; hlt */
    {"pushes from another page", FLAT64,
     "bc00082000be00382000bf00182000b9e8030000ff37ff7708488b47105b5a4887f4ffc975eef4"},
    /* mov esp,0x200800; mov esi,0x201800; mov ecx,1000; 1: push rbx; pop rdx; xchg rsp,rsi; dec
       ecx; jnz 1b; hlt: sites that nobody clears are not for a kernel's stacks (new_site()) */
    {"two stacks in turn", FLAT64, "bc00082000be00182000b9e8030000535a4887f4ffc975f7f4"},
    /* divps xmm0,xmm1; cmp rbx,rdx; stmxcsr [rsp+8]; pushf; pop rdx; mov eax,[rsp+8]; hlt */
    {"MXCSR", FLAT64, "0f5ec14839d30fae5c24089c5a8b442408f4"},
    /* stmxcsr [rsp+8]; mov eax,[rsp+8]; mulpd xmm2,xmm3; stmxcsr [rsp+12]; mov ebx,[rsp+12]; hlt */
    {"MXCSR, first", USER64, "0fae5c24088b442408660f59d30fae5c240c8b5c240cf4"},
    /* vdivps xmm0,xmm1,xmm2; vstmxcsr [rsp+8]; mov eax,[rsp+8]; hlt */
    {"MXCSR, VEX", USER64, "c5f05ec2c5f8ae5c24088b442408f4"},
    /* vblendvpd xmm1,xmm2,xmm3,xmm4; vpblendvb ymm5,ymm6,[rsp],ymm9; vblendvps
       xmm1,xmm12,xmm3,xmm15; hlt */
    {"four operands", FLAT64, "c4e3694bcb40c4e34d4c2c2490c4e3194acbf0f4"},
    /* mov edi,0x202000; add rbx,rdx; stmxcsr [rdi]; hlt */
    {"MXCSR, up to a fault", USER64, "bf002020004801d30fae1ff4"},
    /* crc32 ebx,cl; crc32 r10,rdx; crc32 eax,word ptr [rsp+1]; crc32 esi,ah; crc32 rdi,byte ptr
       [rsp]; hlt */
    {"CRC32", FLAT64, "f20f38f0d9f24c0f38f1d266f20f38f1442401f20f38f0f4f2480f38f03c24f4"},
    /* xor ecx,ecx; mov rbx,[rsp]; adcx r9,[rsp+8]; adox rbx,[rsp+16]; mulx r10,rax,[rsp+24];
       adcx eax,r10d; adox r9,rax; mov [rsp+32],r9; adcx r12,[rsp+40]; pushf; pop rdx; hlt */
    {"two carries", USER64,
     "31c9488b1c24664c0f38f64c2408f3480f38f65c2410c462fbf65424186641"
     "0f38f6c2f34c0f38f6c84c894c2420664c0f38f66424289c5af4"},
    /* mov edx,[rsp]; mov esi,0x200100; mov r9,rsi; mulx r10,r9,[r9+8]; mulx r11,rax,r9; mulx
       rbx,r15,r11; mulx r9,r9,r15; mulx ecx,r10d,[rsi+4]; mulx r15,rdi,[rsi+16]; hlt */
    {"MULX", USER64,
     "8b1424be000120004989f1c442b3f65108c442fbf6d9c4c283f6dbc442b3f6cfc4e22bf64e04c462c3f67e10f4"},
    /* movbe r9,[rsp+8]; movbe ax,[rsp+3]; movbe [rsp+16],r9d; movbe [rsp+24],rbx; movbe
       ecx,[rsp+16]; movbe [rsp+1],cx; hlt */
    {"MOVBE", FLAT64,
     "4c0f38f04c2408660f38f0442403440f38f14c2410480f38f15c24180f38f04c2410660f38f14c2401f4"},
    /* mov esi,0x200100; mov edi,esi; mov ecx,40; xor eax,eax; dec eax; repe cmpsb; pushf;
       pop rdx; hlt */
    {"comparison of equals", FLAT64, "be0001200089f7b92800000031c0ffc8f3a69c5af4"},
    /* mov esi,0x200100; mov edi,0x200300; mov ecx,40; mov [rsi],rax; mov [rdi],rax;
       repe cmpsw; pushf; pop rdx; hlt */
    {"comparison of others", USER64, "be00012000bf00032000b92800000048890648890766f3a79c5af4"},
    /* mov esi,0x200100; mov edi,0x200300; xor ecx,ecx; cmp rbx,rdx; repe cmpsb; pushf;
       pop rdx; hlt */
    {"comparison of nothing", FLAT64, "be00012000bf0003200031c94839d3f3a69c5af4"},
    /* mov esi,0x200100; mov edi,0x200ffc; mov ecx,4; cmp rbx,rdx; repne cmpsq; pushf; pop rdx;
       jc 1f; hlt; 1: inc ebx; hlt */
    {"comparison across pages", FLAT64,
     "be00012000bffc0f2000b9040000004839d3f248a79c5a7201f4ffc3f4"},
    /* mov edi,0x200100; mov ecx,40; mov [rdi+9],al; repne scasb; pushf; pop rdx;
       mov ebx,[rdi]; hlt */
    {"search", USER64, "bf00012000b928000000884709f2ae9c5a8b1ff4"},
    /* mov edi,0x200100; mov ecx,5; mov [rdi],rax; repe scasd; jb 1f; mov ebx,[rsp]; hlt;
       1: setz bl; pushf; pop rdx; hlt */
    {"search for another", FLAT64, "bf00012000b905000000488907f3af72048b1c24f40f94c39c5af4"},
    /* mov edi,0x200110; mov ecx,3; std; repne scasq; cld; pushf; pop rdx; hlt */
    {"search backwards", FLAT64, "bf10012000b903000000fdf248affc9c5af4"},
    /* mov edi,0x20fff0; mov ecx,64; cmp rbx,rdx; repne scasb; hlt */
    {"search up to a fault", USER64, "bff0ff2000b9400000004839d3f2aef4"},
    /* xor edi,edi; cmp rbx,rcx; div edi; xor eax,eax; hlt */
    {"flags at a fault, divided", USER64, "31ff4839cbf7f731c0f4"},
    /* mov esp,203000; xor rbx,rcx; push rbx; xor eax,eax; hlt */
    {"flags at a fault, stack", USER64, "bc003020004831cb5331c0f4"},
    /* mov edi,202000; add cl,bl; movs es:[rdi],ds:[rsi]; xor eax,eax; hlt */
    {"flags at a fault, string", USER64, "bf0020200000d9a431c0f4"},
    /* mov edi,210000; add bl,ch; movups xmm1,XMMWORD PTR [rdi]; xor eax,eax; hlt */
    {"flags at a fault, high", USER64, "bf0000210000eb0f100f31c0f4"},
    /* mov esp,87ac29cc; mov edi,200ffe; push dword [edi]; push 12; hlt: the handler executes the
     * first push whole, which proves nothing of the stack */
    {"push of what crosses pages", FLAT32, "bccc29ac87bffe0f2000ff376a0cf4"},
    /* mov sp,2; push ax; push bx; push ecx; pop dx; pop edi; hlt */
    {"stack goes round", REAL, "bc0200505366515a665ff4"},
    /* mov sp,1; push ax; hlt */
    {"push over the end", REAL, "bc010050f4"},
    /* mov bx,0ffffh; mov al,[bx]; mov ax,[bx]; hlt */
    {"end of a segment", REAL, "bbffff8a078b07f4"},
    /* mov si,7ffeh; mov bx,8001h; mov ax,[bx+si]; hlt */
    {"sum over the end", REAL, "befe7fbb01808b00f4"},
    /* xor cx,cx; 1: inc bx; loop 1b; pushf; pop dx; hlt */
    {"loop", REAL, "31c943e2fd9c5af4"},
    /* mov ecx,10003h; 1: inc bx; a32 loop 1b; a32 jecxz 2f; hlt; 2: lahf; hlt */
    {"wide counter", REAL, "66b9030001004367e2fc67e301f49ff4"},
    /* cmp bx,di; mov bx,[si]; call 1f; hlt; 1: pushf; pop dx; ret */
    {"call of 16 bits", REAL, "39fb8b1ce80100f49c5ac3"},
    /* call 1f; hlt; 1: pop bx; add bx,2; push bx; ret; nop; hlt */
    {"return elsewhere", REAL, "e80100f45b83c30253c390f4"},
    /* mov ax,1f; call ax; pushf; pop dx; hlt; 1: sub cx,bx; ret 2 */
    {"indirect call of 16 bits", REAL, "b8c80fffd09c5af429d9c20200"},
    /* mov bp,sp; push bp; enter 8,0; mov [bp-4],ax; leave; push ebp; mov ebp,esp; o32 leave; hlt */
    {"frames", REAL, "89e555c80800008946fcc966556689e566c9f4"},
    /* mov cx,3; 1: inc byte [cs:2f+1]; 2: mov al,0; add bl,al; loop 1b; hlt */
    {"next instruction changes", REAL, "b903002efe06c90fb00000c3e2f5f4"},
    /* mov [di],ah; add ch,[bx]; xchg dh,[si]; cmp [di],bh; lahf; hlt */
    {"upper halves", REAL, "8825022f8634383d9ff4"},
    /* push 800h; push 0; retf: to a handler */
    {"far return", REAL, "6800086a00cb"},
    /* mov ax,600h; mov ds,ax; mov word [180h],1f; mov word [182h],1000h; add cx,-1; int 60h; pushf;
       pop dx; hlt; 1: cmc; cmp ax,1; iret */
    {"interrupt", REAL, "b800068ed8c7068001d90fc7068201001083c1ffcd609c5af4f583f801cf"},
    /* mov word [16],1f; mov word [18],1000h; call far [16]; jmp 800h:0; 1: retf */
    {"far call", REAL, "c7061000d50fc70612000010ff1e1000ea00000008cb"},
    /* mov ax,5123h; mov ds,ax; mov [16],cx; push ds; pop es; mov dx,[es:16]; hlt */
    {"segment registers", REAL, "b823518ed8890e10001e07268b161000f4"},
};

static void test_programs(Fixture *f, gconstpointer data)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(programs); i++) {
        if (programs[i].key != GPOINTER_TO_INT(data))
            continue;
        f->size = 0;
        for (const char *at = programs[i].bytes; *at; at += 2)
            put(f, g_ascii_xdigit_value(at[0]) << 4 | g_ascii_xdigit_value(at[1]));
        for (uint32_t seed = 0; seed < 200; seed++) {
            CpuState states[2];
            for (unsigned n = 0; n < 2; n++) {
                unsigned tries = 0;
                do
                    prepare(f, &f->machines[n], seed, &states[n]);
                while (!run(&f->machines[n], &states[n]) && ++tries < 1000); /* busy host */
                g_assert_cmpuint(tries, <, 1000);
            }
            if (!same_state(&states[0], &states[1], false) || !same_memory(f, &states[0], false)) {
                describe(f, seed, &states[0], &states[1]);
                g_error("%s: the translator differs", programs[i].name);
            }
        }
    }
}

/* Random programs while the cache is full all the time. */
static void test_flushes(Fixture *f, gconstpointer data)
{
    JitCpu *jit = f->machines[1].cpu->jit;
    jit->limit = jit->thunks_end + KIB(100);
    test_random(f, data);
    g_assert_cmpuint(jit->stat_flushes, >, 50);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, kind, test) \
    g_test_add("/jit/" name, Fixture, GINT_TO_POINTER(kind), set_up, test, tear_down)
    ADD("random-64", FLAT64, test_random);
    ADD("random-32", FLAT32, test_random);
    ADD("random-16", REAL, test_random);
    ADD("protected-16", PROTECTED16, test_random);
    ADD("segments-32", SEGMENTED32, test_random);
    ADD("user-64", USER64, test_random);
    ADD("user-32", USER32, test_random);
    ADD("user-16", USER16, test_random);
    ADD("v86", V86, test_random);
    ADD("programs-64", FLAT64, test_programs);
    ADD("programs-32", FLAT32, test_programs);
    ADD("programs-16", REAL, test_programs);
    ADD("programs-user-64", USER64, test_programs);
    ADD("programs-user-32", USER32, test_programs);
    ADD("flushes", USER64, test_flushes);
    return g_test_run();
}
