/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Fuzz target: a CPU executes the input. Byte 0 chooses the mode, byte 1 how much of the registers
 * points into RAM, bytes 2 to 9 seed the registers; the rest is code. It fills the code area again
 * and again, so that wild jumps, handlers of exceptions and stores hit code.
 */
#include "cpu/soft/soft_fixture.h"

#define HEADER 10
#define CODE   0x10000
#define AREA   0x10000
#define STEPS  2000
#define WAKES  16

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static void fill_code(SoftFixture *f, const uint8_t *code, size_t size)
{
    size = MIN(size, AREA);
    for (size_t at = 0; at < AREA; at += size)
        memcpy(f->ram->host + CODE + at, code, MIN(size, AREA - at));
}

/* Every exception goes on somewhere in the code. */
static void point_handlers(SoftFixture *f, unsigned mode, uint64_t *seed)
{
    for (unsigned vector = 0; vector < 256; vector++) {
        uint64_t to = CODE + next_random(seed) % AREA;
        if (mode == 0)
            fixture_write(f, vector * 4, 4, (CODE >> 4) << 16 | (to & 0xffff));
        else
            fixture_set_gate(f, vector, FIXTURE_CODE0, to, vector & 1 ? 0x8e : 0xef, 0);
    }
}

static void set_registers(SoftFixture *f, uint8_t how, uint64_t *seed)
{
    CpuState *s = &f->cpu->s;

    for (unsigned i = 0; i < 16; i++) {
        uint64_t value = next_random(seed);
        s->gpr[i] = how >> (i % 8) & 1 ? value : value % MIB(4);
    }
    s->gpr[GPR_RSP] = CODE + AREA + next_random(seed) % 0x1000;
    s->rflags = 2 | (next_random(seed) & FLAGS_ARITHMETIC);
}

static void enter_mode(SoftFixture *f, unsigned mode)
{
    switch (mode) {
    case 0:
        f->cpu->s.seg[SEG_CS].selector = CODE >> 4;
        f->cpu->s.seg[SEG_CS].base = CODE;
        break;
    case 1:
    case 2:
        soft_fixture_protected(f, mode == 1 ? 0 : 3);
        break;
    default:
        soft_fixture_long(f, mode == 3 ? 0 : 3);
    }
    if (mode) /* SSE and XSAVE on: their instructions are worth reaching */
        f->cpu->s.cr4 |= CR4_OSFXSR | CR4_OSXSAVE;
    f->cpu->s.rip = mode ? CODE : 0;
}

static bool deliver(SoftCpu *cpu)
{
    sigsetjmp(cpu->jump, 0);
    return cpu->event.vector < 0 || exception_deliver(cpu);
}

/* Until a triple fault, or it was enough. */
static void execute(SoftCpu *cpu)
{
    volatile unsigned wakes = 0;

    for (volatile unsigned left = STEPS; left; left--) {
        if (cpu->s.activity != CPU_ACTIVE) {
            if (cpu->s.activity != CPU_HALTED || ++wakes > WAKES)
                return;
            cpu->s.activity = CPU_ACTIVE;
        }
        cpu->event.vector = soft_cpu_step(cpu, 1);
        if (!deliver(cpu))
            return;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size <= HEADER)
        return 0;
    SoftFixture *f = soft_fixture_new("x86-64-v3");
    unsigned mode = data[0] % 5;
    uint64_t seed = load_le64(data + 2);

    enter_mode(f, mode);
    fill_code(f, data + HEADER, size - HEADER);
    point_handlers(f, mode, &seed);
    set_registers(f, data[1], &seed);
    soft_fixture_apply(f);
    execute(f->cpu);
    soft_fixture_free(f);
    return 0;
}
