/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The software engines on small programs without a vCPU thread: arithmetic, self-modifying code,
 * strings, locks, faults, modes. */
#include <time.h>

#include "cpu/jit/jit.h"
#include "cpu/soft/interp.h"
#include "cpu/soft/soft_vm.h"

#define BASE     0x10000
#define RAM_SIZE (16 << 20)

#define PROGRAM(name) extern const uint8_t name[], name##_end[]
PROGRAM(factorial);
PROGRAM(self_modifying);
PROGRAM(strings);
PROGRAM(locked);
PROGRAM(faults);
PROGRAM(loop_speed);
PROGRAM(mixed_speed);
PROGRAM(real_mode);

typedef struct Fixture {
    const Engine *engine;
    CpuModel model;
    Vm vm;
    Vcpu vcpu;
    Ram *ram;
    Region region;
    SoftCpu *cpu;
    CpuState state;
} Fixture;

/* `data`: the engine. The translator translates at once. */
static void set_up(Fixture *f, gconstpointer data)
{
    f->engine = data;
    f->engine->features(f->model.features);
    f->model.physical_address_bits = 40;
    f->model.linear_address_bits = 48;
    f->vm = (Vm){.engine = f->engine,
                 .memory = space_new("memory", UINT64_C(1) << 40),
                 .ports = space_new("ports", 65536),
                 .model = &f->model,
                 .vcpu_count = 1,
                 .vcpus = {&f->vcpu}};
    f->vcpu.vm = &f->vm;
    f->ram = ram_new("ram", RAM_SIZE, NULL);
    region_init_ram(&f->region, REGION_RAM, f->ram, 0, RAM_SIZE);
    space_map(f->vm.memory, 0, &f->region, 0, RAM_SIZE, SPACE_PRIORITY_RAM, false);
    g_assert_true(f->engine->vm_init(&f->vm, NULL));
    g_assert_true(f->engine->vcpu_init(&f->vcpu, NULL));
    f->cpu = f->vcpu.engine_data;
    if (f->cpu->jit)
        f->cpu->jit->warm = 0;
    soft_cpu_get_state(f->cpu, &f->state);
}

static void tear_down(Fixture *f, gconstpointer data)
{
    f->engine->vcpu_clear(&f->vcpu);
    f->engine->vm_clear(&f->vm);
    space_free(f->vm.memory);
    space_free(f->vm.ports);
    ram_free(f->ram);
}

static void put64(Fixture *f, uint64_t address, uint64_t value)
{
    memcpy(f->ram->host + address, &value, sizeof(value));
}

/* Interrupt gate to the 64-bit code segment. */
static void put_gate(Fixture *f, unsigned vector, uint64_t handler)
{
    put64(f, 0x6000 + vector * 16,
          (handler & 0xffff) | UINT64_C(8) << 16 | UINT64_C(0x8e00) << 32 |
              (handler & 0xffff0000) << 32);
    put64(f, 0x6000 + vector * 16 + 8, handler >> 32);
}

static Segment segment(uint16_t selector, uint32_t attributes)
{
    return (Segment){.selector = selector, .attributes = attributes, .limit = UINT32_MAX};
}

/* 64-bit code, CPL 0, the first 16 MiB mapped to themselves, GDT at 0x5000, IDT at 0x6000, stack
 * below BASE. */
static void long_mode(Fixture *f)
{
    put64(f, 0x1000, 0x2003);
    put64(f, 0x2000, 0x3003);
    for (unsigned i = 0; i < 8; i++)
        put64(f, 0x3000 + i * 8, (uint64_t)i << 21 | 0x83);
    put64(f, 0x5008, UINT64_C(0x00af9b000000ffff));
    put64(f, 0x5010, UINT64_C(0x00cf93000000ffff));
    CpuState *s = &f->state;
    s->cr0 |= CR0_PE | CR0_PG | CR0_WP;
    s->cr3 = 0x1000;
    s->cr4 |= CR4_PAE;
    s->efer |= EFER_LME | EFER_LMA;
    s->gdtr = (DescriptorTable){0x5000, 23};
    s->idtr = (DescriptorTable){0x6000, 256 * 16 - 1};
    for (unsigned i = 0; i < SEG_COUNT; i++)
        s->seg[i] = segment(0x10, 0xc093);
    s->seg[SEG_CS] = segment(8, 0xa09b);
    s->gpr[GPR_RSP] = BASE - 64;
    s->rip = BASE;
}

static void load(Fixture *f, const uint8_t *program, const uint8_t *end)
{
    memcpy(f->ram->host + BASE, program, end - program);
}
#define LOAD(f, name) load(f, name, name##_end)

static void run_to_halt(Fixture *f)
{
    soft_cpu_set_state(f->cpu, &f->state);
    g_assert_cmpint(f->engine->run(&f->vcpu), ==, VCPU_EXIT_HALTED);
    soft_cpu_get_state(f->cpu, &f->state);
}

static void test_factorial(Fixture *f, gconstpointer data)
{
    long_mode(f);
    LOAD(f, factorial);
    run_to_halt(f);
    g_assert_cmpuint(f->state.gpr[GPR_RAX], ==, 3628800 * 2 + 1);
    g_assert_cmpuint(f->state.gpr[GPR_RSP], ==, BASE - 64);
    /* 2 + 10 × (call mul ret loop) + 5 */
    if (f->engine == &engine_interp)
        g_assert_cmpuint(f->cpu->insn_count, ==, 2 + 40 + 5);
}

static void test_self_modifying(Fixture *f, gconstpointer data)
{
    long_mode(f);
    LOAD(f, self_modifying);
    run_to_halt(f);
    g_assert_cmpuint(f->state.gpr[GPR_RBX], ==, 42);
    g_assert_cmpuint(f->state.gpr[GPR_RDX], ==, 7);
}

/* Another party's write to code is seen, too. */
static void test_device_writes_code(Fixture *f, gconstpointer data)
{
    long_mode(f);
    LOAD(f, factorial);
    CpuState start = f->state;
    run_to_halt(f);
    uint8_t one = 3; /* mov eax, 3 */
    g_assert_true(space_write(f->vm.memory, BASE + 1, &one, 1));
    f->state = start;
    run_to_halt(f);
    g_assert_cmpuint(f->state.gpr[GPR_RAX], ==, 3628800 * 6 + 1);
}

static void test_strings(Fixture *f, gconstpointer data)
{
    long_mode(f);
    LOAD(f, strings);
    run_to_halt(f);
    const uint8_t *at = f->ram->host + 0x20000;
    g_assert_cmpuint(at[3000], ==, 0x42);
    g_assert_cmpuint(at[5000], ==, 0x42);
    g_assert_cmpuint(at[5001], ==, 0x41);
    g_assert_cmpuint(f->state.gpr[GPR_RBX], ==, 0x20000 + 5002);
    g_assert_cmphex(f->state.gpr[GPR_RDX], ==, UINT64_C(0x1122334455667788));
    g_assert_cmpuint(at[0x0c], ==, 0x42);
    for (unsigned i = 0x0d; i <= 0x10; i++)
        g_assert_cmpuint(at[i], ==, 0x99);
    g_assert_cmpuint(f->state.gpr[GPR_RCX], ==, 0);
}

static void test_locked(Fixture *f, gconstpointer data)
{
    long_mode(f);
    LOAD(f, locked);
    run_to_halt(f);
    g_assert_cmphex(f->state.gpr[GPR_RAX], ==, 0xffff0001);
    g_assert_cmphex(f->state.gpr[GPR_RBX], ==, 0xffff0001);
    g_assert_cmphex(f->state.gpr[GPR_RDX] & 0xff, ==, 0);
    g_assert_cmphex(f->state.gpr[GPR_RSI], ==, 1u << (0x3c - 32));
    g_assert_cmphex(f->state.gpr[GPR_RDI], ==, 0xffff0008);
}

static void test_faults(Fixture *f, gconstpointer data)
{
    long_mode(f);
    LOAD(f, faults);
    put_gate(f, EXC_DE, BASE + 64);
    put_gate(f, EXC_UD, BASE + 128);
    put_gate(f, EXC_PF, BASE + 192);
    run_to_halt(f);
    g_assert_cmphex(f->state.gpr[GPR_RBX], ==, 0x111);
    g_assert_cmphex(f->state.cr2, ==, (uint64_t)-8);
    g_assert_cmphex(f->state.gpr[GPR_R8], ==, 0);
}

/* Step by step: the vector and the place of each fault. */
static void test_step(Fixture *f, gconstpointer data)
{
    long_mode(f);
    LOAD(f, faults);
    soft_cpu_set_state(f->cpu, &f->state);
    g_assert_cmpint(soft_cpu_step(f->cpu, 3), ==, -1);
    g_assert_cmpint(soft_cpu_step(f->cpu, 1), ==, EXC_DE);
    g_assert_cmphex(f->cpu->s.rip, ==, BASE + 11);
}

/* An instruction across a page boundary faults at the second page's first byte, and not when it
 * ends before. */
static void test_crossing_fetch(Fixture *f, gconstpointer data)
{
    static const uint8_t code[] = {0xb8, 1, 2, 3, 4};
    long_mode(f);
    put64(f, 0x3000 + 8, 0); /* 2 MiB to 4 MiB: not present */
    memcpy(f->ram->host + 0x1ffffb, code, sizeof(code));
    f->state.rip = 0x1ffffb;
    soft_cpu_set_state(f->cpu, &f->state);
    g_assert_cmpint(soft_cpu_step(f->cpu, 1), ==, -1);
    g_assert_cmpint(soft_cpu_step(f->cpu, 1), ==, EXC_PF);
    g_assert_cmphex(f->cpu->s.cr2, ==, 0x200000);
    memcpy(f->ram->host + 0x1ffffc, code, 4);
    ram_written(f->ram, 0x1ffffc, 4);
    f->state.rip = 0x1ffffc;
    soft_cpu_set_state(f->cpu, &f->state);
    g_assert_cmpint(soft_cpu_step(f->cpu, 1), ==, EXC_PF);
    g_assert_cmphex(f->cpu->s.cr2, ==, 0x200000);
    g_assert_cmphex(f->cpu->s.rip, ==, 0x1ffffc);
}

static void test_real_mode(Fixture *f, gconstpointer data)
{
    LOAD(f, real_mode);
    f->state.seg[SEG_CS].selector = BASE >> 4;
    f->state.seg[SEG_CS].base = BASE;
    f->state.rip = 0;
    run_to_halt(f);
    g_assert_cmphex(f->state.gpr[GPR_RBX], ==, 15);
    g_assert_cmphex(f->state.gpr[GPR_RAX] & 0xffff, ==, 0x0407); /* 19 + 28 = 47 decimal */
    g_assert_cmphex(f->state.gpr[GPR_RDI] & 0xffff, ==, 0x12);
}

static void measure(Fixture *f, uint64_t turns)
{
    f->state.gpr[GPR_RCX] = turns;
    soft_cpu_set_state(f->cpu, &f->state);
    clock_t start = clock();
    g_assert_cmpint(f->engine->run(&f->vcpu), ==, VCPU_EXIT_HALTED);
    double us = (clock() - start) * 1e6 / CLOCKS_PER_SEC;
    g_test_message("%.0f MIPS", (double)f->cpu->insn_count / MAX(us, 1.0));
}

static void test_loop_speed(Fixture *f, gconstpointer data)
{
    long_mode(f);
    LOAD(f, loop_speed);
    measure(f, g_test_slow() ? 20000000 : 200000);
}

static void test_mixed_speed(Fixture *f, gconstpointer data)
{
    long_mode(f);
    LOAD(f, mixed_speed);
    measure(f, g_test_slow() ? 5000000 : 100000);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define TEST(name, fn)                                                           \
    g_test_add("/interp/" name, Fixture, &engine_interp, set_up, fn, tear_down); \
    g_test_add("/jit/" name, Fixture, &engine_jit, set_up, fn, tear_down)
    TEST("factorial", test_factorial);
    TEST("self-modifying", test_self_modifying);
    TEST("device-writes-code", test_device_writes_code);
    TEST("strings", test_strings);
    TEST("locked", test_locked);
    TEST("faults", test_faults);
    TEST("step", test_step);
    TEST("crossing-fetch", test_crossing_fetch);
    TEST("real-mode", test_real_mode);
    TEST("loop-speed", test_loop_speed);
    TEST("mixed-speed", test_mixed_speed);
    return g_test_run();
}
