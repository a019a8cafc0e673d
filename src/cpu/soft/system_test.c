/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Segments, far transfers, tasks, exceptions, control registers and MSRs, by guest code stepped in
 * every mode. SDM 3A chapters 5 to 7, 17.
 */
#include "cpu/soft/soft_fixture.h"
#include "cpu/soft/system.h"

#define CODE    0x5000
#define HANDLER 0x6000

#define PUT(f, address, ...)                                        \
    do {                                                            \
        const uint8_t bytes_[] = {__VA_ARGS__};                     \
        memcpy((f)->ram->host + (address), bytes_, sizeof(bytes_)); \
    } while (0)
/* Puts code at RIP's page start and executes one instruction; the vector it raised or -1. */
#define STEP(f, ...)                     \
    ({                                   \
        PUT(f, CODE, __VA_ARGS__);       \
        ram_written((f)->ram, CODE, 32); \
        (f)->cpu->s.rip = CODE;          \
        soft_cpu_step((f)->cpu, 1);      \
    })

/* What the loop does with a pending event: deliver it, and what comes of that. */
static bool deliver(SoftCpu *cpu)
{
    sigsetjmp(cpu->jump, 0);
    return cpu->event.vector < 0 || exception_deliver(cpu);
}

static bool raise_and_deliver(SoftCpu *cpu, int vector)
{
    int raised = SOFT_CATCH(cpu, cpu_raise_error(cpu, vector, 0x55));

    cpu->event.vector = raised;
    return deliver(cpu);
}

static void take_events(SoftCpu *cpu)
{
    if (!sigsetjmp(cpu->jump, 0))
        exception_take_events(cpu);
    else
        g_assert_true(deliver(cpu));
}

static uint64_t pushed(SoftFixture *f, unsigned index, unsigned size)
{
    return fixture_read(f, f->cpu->s.gpr[GPR_RSP] + index * size, size);
}

/* ---- segments -------------------------------------------------------------------------------- */

static void test_data_segments(void)
{
    SoftFixture *f = soft_fixture_new("x86-64-v3");
    SoftCpu *cpu = f->cpu;
    const uint32_t data = SEGMENT_P | SEGMENT_S | SEGMENT_WRITABLE | SEGMENT_DB;

    soft_fixture_protected(f, 3);
    fixture_set_descriptor(f, 0x40, fixture_descriptor(0x12345678, 0xfff, data | SEGMENT_DPL));
    fixture_set_descriptor(f, 0x48, fixture_descriptor(0, 0xfff, data));
    fixture_set_descriptor(f, 0x50,
                           fixture_descriptor(0, 0xfff, (data & ~SEGMENT_P) | SEGMENT_DPL));
    fixture_set_descriptor(f, 0x58,
                           fixture_descriptor(0, 0xfff, data | SEGMENT_DPL | SEGMENT_EXPAND_DOWN));
    fixture_set_descriptor(
        f, 0x60, fixture_descriptor(0, 0xfff, SEGMENT_P | SEGMENT_S | SEGMENT_CODE | SEGMENT_DPL));
    g_assert_cmpint(SOFT_CATCH(cpu, segment_load(cpu, SEG_DS, 0x43)), ==, -1);
    g_assert_cmphex(cpu->s.seg[SEG_DS].base, ==, 0x12345678);
    g_assert_cmphex(cpu->s.seg[SEG_DS].limit, ==, 0xfff);
    g_assert_cmphex(fixture_read(f, FIXTURE_GDT + 0x45, 1) & 1, ==, 1); /* accessed */
    g_assert_cmphex(segment_linear_checked(cpu, SEG_DS, 0xffc, 4, MMU_READ), ==, 0x12346674);
    g_assert_cmpint(SOFT_CATCH(cpu, segment_linear_checked(cpu, SEG_DS, 0xffd, 4, MMU_READ)), ==,
                    EXC_GP);
    g_assert_cmpint(SOFT_CATCH(cpu, segment_load(cpu, SEG_ES, 0x4b)), ==, EXC_GP);
    g_assert_cmphex(cpu->event.error, ==, 0x48);
    g_assert_cmpint(SOFT_CATCH(cpu, segment_load(cpu, SEG_ES, 0x53)), ==, EXC_NP);
    g_assert_cmphex(cpu->event.error, ==, 0x50);
    g_assert_cmpint(SOFT_CATCH(cpu, segment_load(cpu, SEG_ES, 0x63)), ==,
                    EXC_GP); /* execute-only */
    g_assert_cmpint(SOFT_CATCH(cpu, segment_load(cpu, SEG_ES, 0x1003)), ==,
                    EXC_GP); /* beyond the GDT */
    g_assert_cmpint(SOFT_CATCH(cpu, segment_load(cpu, SEG_ES, 0x47)), ==, EXC_GP); /* no LDT */
    g_assert_cmpint(SOFT_CATCH(cpu, segment_load(cpu, SEG_SS, 0)), ==, EXC_GP);
    g_assert_cmpint(SOFT_CATCH(cpu, segment_load(cpu, SEG_SS, 0x48)), ==, EXC_GP); /* RPL */
    g_assert_cmpint(SOFT_CATCH(cpu, segment_load(cpu, SEG_SS, 0x53)), ==, EXC_SS);
    segment_load(cpu, SEG_ES, 0x5b);
    g_assert_cmpint(SOFT_CATCH(cpu, segment_linear_checked(cpu, SEG_ES, 0xfff, 1, MMU_READ)), ==,
                    EXC_GP);
    g_assert_cmphex(segment_linear_checked(cpu, SEG_ES, 0x1000, 4, MMU_READ), ==, 0x1000);
    segment_load(cpu, SEG_ES, 3);
    g_assert_cmpint(SOFT_CATCH(cpu, segment_linear_checked(cpu, SEG_ES, 0, 1, MMU_READ)), ==,
                    EXC_GP);
    soft_fixture_free(f);
}

static void test_alignment_check(void)
{
    SoftFixture *f = soft_fixture_new("x86-64-v3");

    soft_fixture_protected(f, 3);
    f->cpu->s.cr0 |= CR0_AM;
    f->cpu->s.rflags |= FLAG_AC;
    cpu_update_mode(f->cpu);
    g_assert_cmpint(STEP(f, 0xa1, 0x01, 0x70, 0, 0), ==, EXC_AC); /* mov eax, [0x7001] */
    g_assert_cmpint(STEP(f, 0xa1, 0x04, 0x70, 0, 0), ==, -1);
    soft_fixture_free(f);
}

static void test_unreal(void)
{
    SoftFixture *f = soft_fixture_new("x86-64-v3");
    SoftCpu *cpu = f->cpu;

    g_assert_cmpint(SOFT_CATCH(cpu, segment_linear_checked(cpu, SEG_DS, 0x10000, 1, MMU_READ)), ==,
                    EXC_GP);
    cpu->s.seg[SEG_DS].limit = UINT32_MAX;
    segment_load(cpu, SEG_DS, 0x1234);
    g_assert_cmphex(segment_linear_checked(cpu, SEG_DS, 0x200000, 4, MMU_WRITE), ==, 0x212340);
    soft_fixture_free(f);
}

static void test_descriptor_queries(void)
{
    SoftFixture *f = soft_fixture_new("x86-64-v3");
    SoftCpu *cpu = f->cpu;

    soft_fixture_protected(f, 0);
    cpu->s.gpr[GPR_RAX] = FIXTURE_CODE3;
    g_assert_cmpint(STEP(f, 0x0f, 0x02, 0xc8), ==, -1); /* lar ecx, ax */
    g_assert_cmphex(cpu->s.gpr[GPR_RCX], ==, 0xcffb00);
    g_assert_true(flags_get(cpu) & FLAG_ZF);
    g_assert_cmpint(STEP(f, 0x0f, 0x03, 0xc8), ==, -1); /* lsl ecx, ax */
    g_assert_cmphex(cpu->s.gpr[GPR_RCX], ==, 0xffffffff);
    g_assert_cmpint(STEP(f, 0x0f, 0x00, 0xe8), ==, -1); /* verw ax */
    g_assert_false(flags_get(cpu) & FLAG_ZF);
    g_assert_cmpint(STEP(f, 0x0f, 0x00, 0xe0), ==, -1); /* verr ax */
    g_assert_true(flags_get(cpu) & FLAG_ZF);
    cpu->s.gpr[GPR_RAX] = FIXTURE_DATA0 | 3; /* DPL 0 below RPL 3 */
    g_assert_cmpint(STEP(f, 0x0f, 0x00, 0xe0), ==, -1);
    g_assert_false(flags_get(cpu) & FLAG_ZF);
    cpu->s.gpr[GPR_RBX] = 0x12; /* arpl bx, ax */
    g_assert_cmpint(STEP(f, 0x63, 0xc3), ==, -1);
    g_assert_cmphex(cpu->s.gpr[GPR_RBX], ==, 0x13);
    g_assert_true(flags_get(cpu) & FLAG_ZF);
    soft_fixture_free(f);
}

/* ---- exceptions ------------------------------------------------------------------------------ */

static void test_real_mode(void)
{
    SoftFixture *f = soft_fixture_new("486");
    SoftCpu *cpu = f->cpu;

    fixture_write(f, EXC_DE * 4, 4, 0x12345678);
    cpu->s.seg[SEG_CS].selector = 0x50;
    cpu->s.seg[SEG_CS].base = 0x500;
    cpu->s.gpr[GPR_RSP] = 0x8000;
    cpu->s.rip = 0x100;
    cpu->s.rflags = 2 | FLAG_IF | FLAG_TF;
    soft_fixture_apply(f);
    g_assert_cmpint(SOFT_CATCH(cpu, cpu_raise(cpu, EXC_DE)), ==, EXC_DE);
    g_assert_true(deliver(cpu));
    g_assert_cmphex(cpu->s.seg[SEG_CS].base, ==, 0x12340);
    g_assert_cmphex(cpu->s.rip, ==, 0x5678);
    g_assert_cmphex(cpu->s.gpr[GPR_RSP], ==, 0x7ffa);
    g_assert_cmphex(pushed(f, 0, 2), ==, 0x100);
    g_assert_cmphex(pushed(f, 1, 2), ==, 0x50);
    g_assert_cmphex(pushed(f, 2, 2), ==, 2 | FLAG_IF | FLAG_TF);
    g_assert_cmphex(cpu->s.rflags & (FLAG_IF | FLAG_TF | FLAG_RF), ==, 0);
    g_assert_cmpint(SOFT_CATCH(cpu, interrupt_return(cpu, 2)), ==, -1);
    g_assert_cmphex(cpu->s.rip, ==, 0x100);
    g_assert_cmphex(cpu->s.seg[SEG_CS].base, ==, 0x500);
    g_assert_cmphex(flags_get(cpu), ==, 2 | FLAG_IF | FLAG_TF);
    soft_fixture_free(f);
}

static void test_protected_inner(void)
{
    SoftFixture *f = soft_fixture_new("x86-64-v3");
    SoftCpu *cpu = f->cpu;

    soft_fixture_protected(f, 3);
    fixture_set_gate(f, EXC_GP, FIXTURE_CODE0, HANDLER, 0x8e, 0);
    cpu->s.rflags = 2 | FLAG_IF | FLAG_NT;
    g_assert_true(raise_and_deliver(cpu, EXC_GP));
    g_assert_cmpuint(cpu->cpl, ==, 0);
    g_assert_cmphex(cpu->s.rip, ==, HANDLER);
    g_assert_cmphex(cpu->s.gpr[GPR_RSP], ==, FIXTURE_STACK0 - 24);
    g_assert_cmphex(pushed(f, 0, 4), ==, 0x55);
    g_assert_cmphex(pushed(f, 1, 4), ==, CODE);
    g_assert_cmphex(pushed(f, 2, 4), ==, FIXTURE_CODE3);
    g_assert_cmphex(pushed(f, 3, 4), ==, 2 | FLAG_IF | FLAG_NT | FLAG_RF);
    g_assert_cmphex(pushed(f, 4, 4), ==, FIXTURE_STACK3);
    g_assert_cmphex(pushed(f, 5, 4), ==, FIXTURE_DATA3);
    g_assert_cmphex(cpu->s.rflags & (FLAG_IF | FLAG_NT | FLAG_RF), ==, 0);
    /* And back: the ring 0 data segment must not stay visible. */
    segment_load(cpu, SEG_ES, FIXTURE_DATA0);
    cpu->s.gpr[GPR_RSP] += 4;
    g_assert_cmpint(SOFT_CATCH(cpu, interrupt_return(cpu, 4)), ==, -1);
    g_assert_cmpuint(cpu->cpl, ==, 3);
    g_assert_cmphex(cpu->s.gpr[GPR_RSP], ==, FIXTURE_STACK3);
    g_assert_cmphex(cpu->s.seg[SEG_ES].selector, ==, 0);
    g_assert_cmphex(cpu->s.seg[SEG_DS].selector, ==, FIXTURE_DATA3);
    g_assert_true(cpu->s.rflags & FLAG_NT);
    soft_fixture_free(f);
}

static void test_software_interrupts(void)
{
    SoftFixture *f = soft_fixture_new("x86-64-v3");
    SoftCpu *cpu = f->cpu;

    soft_fixture_protected(f, 3);
    fixture_set_gate(f, 0x80, FIXTURE_CODE0, HANDLER, 0xef, 0); /* trap gate, DPL 3 */
    fixture_set_gate(f, 0x81, FIXTURE_CODE0, HANDLER, 0x8e, 0); /* DPL 0 */
    fixture_set_gate(f, 0x82, FIXTURE_CODE0, HANDLER, 0x6e, 0); /* not present */
    cpu->s.rflags |= FLAG_IF;
    g_assert_cmpint(STEP(f, 0xcd, 0x81), ==, EXC_GP);
    g_assert_cmphex(cpu->event.error, ==, 0x81 * 8 + 2);
    g_assert_cmphex(cpu->s.rip, ==, CODE); /* restartable */
    cpu->delivering = false;
    g_assert_cmpint(STEP(f, 0xcd, 0x82), ==, EXC_NP);
    g_assert_cmphex(cpu->event.error, ==, 0x82 * 8 + 2);
    cpu->delivering = false;
    g_assert_cmpint(STEP(f, 0xcd, 0x80), ==, -1);
    g_assert_cmphex(cpu->s.rip, ==, HANDLER);
    g_assert_cmphex(pushed(f, 0, 4), ==, CODE + 2);
    g_assert_true(cpu->s.rflags & FLAG_IF); /* trap gates leave it */
    soft_fixture_free(f);
}

static void test_double_and_triple_fault(void)
{
    SoftFixture *f = soft_fixture_new("x86-64-v3");
    SoftCpu *cpu = f->cpu;

    soft_fixture_protected(f, 0);
    fixture_set_gate(f, EXC_DF, FIXTURE_CODE0, HANDLER, 0x8e, 0);
    /* #UD is benign: the #NP of its missing gate is delivered as such, and its own gate is missing:
     * #DF. */
    g_assert_true(raise_and_deliver(cpu, EXC_GP));
    g_assert_cmphex(cpu->s.rip, ==, HANDLER);
    g_assert_cmphex(pushed(f, 0, 4), ==, 0);
    g_assert_cmphex(pushed(f, 1, 4), ==, CODE);
    fixture_set_gate(f, EXC_GP, FIXTURE_CODE0, HANDLER + 0x100, 0x8e, 0);
    cpu->s.rip = CODE;
    g_assert_cmpint(SOFT_CATCH(cpu, cpu_raise(cpu, EXC_UD)), ==, EXC_UD);
    g_assert_true(deliver(cpu)); /* #UD's gate is empty: #GP, error names the gate and EXT */
    g_assert_cmphex(cpu->s.rip, ==, HANDLER + 0x100);
    g_assert_cmphex(pushed(f, 0, 4), ==, EXC_UD * 8 + 3);
    cpu->s.idtr.limit = 0;
    g_assert_false(raise_and_deliver(cpu, EXC_GP));
    g_assert_cmpint(cpu->s.activity, ==, CPU_SHUTDOWN);
    soft_fixture_free(f);
}

static void test_long_mode(void)
{
    SoftFixture *f = soft_fixture_new("x86-64-v3");
    SoftCpu *cpu = f->cpu;

    soft_fixture_long(f, 3);
    fixture_set_gate(f, EXC_GP, FIXTURE_CODE0, HANDLER, 0x8e, 0);
    fixture_set_gate(f, EXC_NMI, FIXTURE_CODE0, HANDLER + 0x10, 0x8e, 1);
    cpu->s.gpr[GPR_RSP] = FIXTURE_STACK3 - 3;
    g_assert_true(raise_and_deliver(cpu, EXC_GP));
    g_assert_cmpuint(cpu->cpl, ==, 0);
    g_assert_cmphex(cpu->s.gpr[GPR_RSP], ==, FIXTURE_STACK0 - 48);
    g_assert_cmphex(cpu->s.seg[SEG_SS].selector, ==, 0);
    g_assert_cmphex(pushed(f, 0, 8), ==, 0x55);
    g_assert_cmphex(pushed(f, 1, 8), ==, CODE);
    g_assert_cmphex(pushed(f, 2, 8), ==, FIXTURE_CODE3);
    g_assert_cmphex(pushed(f, 4, 8), ==, FIXTURE_STACK3 - 3);
    g_assert_cmphex(pushed(f, 5, 8), ==, FIXTURE_DATA3);
    /* NMI on top, by IST; the frame begins at a 16-byte boundary. */
    cpu->s.gpr[GPR_RSP] -= 5;
    cpu->s.nmi_pending = true;
    take_events(cpu);
    g_assert_cmphex(cpu->s.rip, ==, HANDLER + 0x10);
    g_assert_cmphex(cpu->s.gpr[GPR_RSP], ==, FIXTURE_IST1 - 40);
    g_assert_true(cpu->s.nmi_blocked);
    cpu->s.nmi_pending = true;
    take_events(cpu);
    g_assert_cmphex(cpu->s.rip, ==, HANDLER + 0x10); /* blocked */
    g_assert_cmpint(SOFT_CATCH(cpu, interrupt_return(cpu, 8)), ==, -1);
    g_assert_false(cpu->s.nmi_blocked);
    g_assert_cmphex(cpu->s.rip, ==, HANDLER);
    g_assert_cmphex(cpu->s.gpr[GPR_RSP], ==, FIXTURE_STACK0 - 53);
    cpu->s.gpr[GPR_RSP] += 13;
    g_assert_cmpint(SOFT_CATCH(cpu, interrupt_return(cpu, 8)), ==, -1);
    g_assert_cmpuint(cpu->cpl, ==, 3);
    g_assert_cmphex(cpu->s.gpr[GPR_RSP], ==, FIXTURE_STACK3 - 3);
    soft_fixture_free(f);
}

/* ---- far transfers --------------------------------------------------------------------------- */

static void test_call_gate(void)
{
    SoftFixture *f = soft_fixture_new("x86-64-v3");
    SoftCpu *cpu = f->cpu;

    soft_fixture_protected(f, 3);
    /* 32-bit gate, DPL 3, two parameters. */
    fixture_set_descriptor(f, 0x40,
                           (HANDLER & 0xffff) | FIXTURE_CODE0 << 16 | UINT64_C(2) << 32 |
                               UINT64_C(0xec) << 40);
    cpu->s.gpr[GPR_RSP] = FIXTURE_STACK3 - 8;
    fixture_write(f, FIXTURE_STACK3 - 8, 8, UINT64_C(0x2222222211111111));
    g_assert_cmpint(STEP(f, 0x9a, 0, 0, 0, 0, 0x43, 0), ==, -1);
    g_assert_cmpuint(cpu->cpl, ==, 0);
    g_assert_cmphex(cpu->s.rip, ==, HANDLER);
    g_assert_cmphex(cpu->s.gpr[GPR_RSP], ==, FIXTURE_STACK0 - 24);
    g_assert_cmphex(pushed(f, 0, 4), ==, CODE + 7);
    g_assert_cmphex(pushed(f, 1, 4), ==, FIXTURE_CODE3);
    g_assert_cmphex(pushed(f, 2, 4), ==, 0x11111111);
    g_assert_cmphex(pushed(f, 3, 4), ==, 0x22222222);
    g_assert_cmphex(pushed(f, 4, 4), ==, FIXTURE_STACK3 - 8);
    g_assert_cmphex(pushed(f, 5, 4), ==, FIXTURE_DATA3);
    g_assert_cmpint(STEP(f, 0xca, 8, 0), ==, -1); /* retf 8 */
    g_assert_cmpuint(cpu->cpl, ==, 3);
    g_assert_cmphex(cpu->s.rip, ==, CODE + 7);
    g_assert_cmphex(cpu->s.gpr[GPR_RSP], ==, FIXTURE_STACK3);
    /* DPL 0 gates are not for ring 3; more privileged code is not for jumps. */
    fixture_set_descriptor(f, 0x48,
                           (HANDLER & 0xffff) | FIXTURE_CODE0 << 16 | UINT64_C(0x8c) << 40);
    g_assert_cmpint(STEP(f, 0x9a, 0, 0, 0, 0, 0x4b, 0), ==, EXC_GP);
    g_assert_cmphex(cpu->event.error, ==, 0x48);
    g_assert_cmpint(STEP(f, 0xea, 0, 0, 0, 0, 0x43, 0), ==, EXC_GP);
    g_assert_cmphex(cpu->event.error, ==, FIXTURE_CODE0);
    soft_fixture_free(f);
}

static void test_call_gate_64(void)
{
    SoftFixture *f = soft_fixture_new("x86-64-v3");
    SoftCpu *cpu = f->cpu;

    soft_fixture_long(f, 3);
    fixture_set_descriptor(f, 0x40,
                           (HANDLER & 0xffff) | FIXTURE_CODE0 << 16 | UINT64_C(0xec) << 40);
    fixture_set_descriptor(f, 0x48, 0);
    fixture_write(f, 0x7000, 8, 0);
    fixture_write(f, 0x7008, 2, 0x43);
    g_assert_cmpint(STEP(f, 0x48, 0xff, 0x1c, 0x25, 0x00, 0x70, 0, 0), ==,
                    -1); /* call far [0x7000] */
    g_assert_cmpuint(cpu->cpl, ==, 0);
    g_assert_cmphex(cpu->s.gpr[GPR_RSP], ==, FIXTURE_STACK0 - 32);
    g_assert_cmphex(pushed(f, 0, 8), ==, CODE + 8);
    g_assert_cmphex(pushed(f, 2, 8), ==, FIXTURE_STACK3);
    g_assert_cmphex(cpu->s.seg[SEG_SS].selector, ==, 0);
    g_assert_cmpint(STEP(f, 0x48, 0xcb), ==, -1);
    g_assert_cmpuint(cpu->cpl, ==, 3);
    g_assert_cmphex(cpu->s.gpr[GPR_RSP], ==, FIXTURE_STACK3);
    soft_fixture_free(f);
}

static void write_tss2(SoftFixture *f)
{
    fixture_write(f, FIXTURE_TSS2 + 0x20, 4, HANDLER);
    fixture_write(f, FIXTURE_TSS2 + 0x24, 4, 2 | FLAG_CF);
    fixture_write(f, FIXTURE_TSS2 + 0x28, 4, 0xabcd);
    fixture_write(f, FIXTURE_TSS2 + 0x38, 4, 0x9800);
    for (unsigned i = 0; i < 6; i++)
        fixture_write(f, FIXTURE_TSS2 + 0x48 + 4 * i, 2, i == 1 ? FIXTURE_CODE0 : FIXTURE_DATA0);
}

static void test_task_switch(void)
{
    SoftFixture *f = soft_fixture_new("x86-64-v3");
    SoftCpu *cpu = f->cpu;

    soft_fixture_protected(f, 0);
    write_tss2(f);
    cpu->s.gpr[GPR_RAX] = 0x77;
    g_assert_cmpint(STEP(f, 0x9a, 0, 0, 0, 0, FIXTURE_TR2, 0), ==, -1); /* call */
    g_assert_cmphex(cpu->s.tr.selector, ==, FIXTURE_TR2);
    g_assert_cmphex(cpu->s.rip, ==, HANDLER);
    g_assert_cmphex(cpu->s.gpr[GPR_RAX], ==, 0xabcd);
    g_assert_cmphex(flags_get(cpu), ==, 2 | FLAG_CF | FLAG_NT);
    g_assert_true(cpu->s.cr0 & CR0_TS);
    g_assert_cmphex(fixture_read(f, FIXTURE_TSS2, 2), ==, FIXTURE_TR);
    g_assert_cmphex(fixture_read(f, FIXTURE_TSS + 0x20, 4), ==, CODE + 7);
    g_assert_cmphex(fixture_read(f, FIXTURE_TSS + 0x28, 4), ==, 0x77);
    g_assert_cmphex(fixture_read(f, FIXTURE_GDT + FIXTURE_TR + 5, 1), ==, 0x8b); /* stays busy */
    g_assert_cmphex(fixture_read(f, FIXTURE_GDT + FIXTURE_TR2 + 5, 1), ==, 0x8b);
    g_assert_cmpint(STEP(f, 0xcf), ==, -1); /* iret: back */
    g_assert_cmphex(cpu->s.tr.selector, ==, FIXTURE_TR);
    g_assert_cmphex(cpu->s.rip, ==, CODE + 7);
    g_assert_cmphex(cpu->s.gpr[GPR_RAX], ==, 0x77);
    g_assert_cmphex(fixture_read(f, FIXTURE_GDT + FIXTURE_TR2 + 5, 1), ==, 0x89);
    g_assert_false(fixture_read(f, FIXTURE_TSS2 + 0x24, 4) & FLAG_NT);
    /* A jump frees the old task. */
    write_tss2(f);
    g_assert_cmpint(STEP(f, 0xea, 0, 0, 0, 0, FIXTURE_TR2, 0), ==, -1);
    g_assert_cmphex(fixture_read(f, FIXTURE_GDT + FIXTURE_TR + 5, 1), ==, 0x89);
    g_assert_false(flags_get(cpu) & FLAG_NT);
    /* The running task is busy. */
    g_assert_cmpint(STEP(f, 0xea, 0, 0, 0, 0, FIXTURE_TR2, 0), ==, EXC_GP);
    g_assert_cmphex(cpu->event.error, ==, FIXTURE_TR2);
    soft_fixture_free(f);
}

static void test_task_switch_fault(void)
{
    SoftFixture *f = soft_fixture_new("x86-64-v3");
    SoftCpu *cpu = f->cpu;

    soft_fixture_protected(f, 0);
    write_tss2(f);
    fixture_write(f, FIXTURE_TSS2 + 0x50, 2, FIXTURE_DATA3); /* SS of the wrong ring */
    fixture_write(f, FIXTURE_TSS2 + 0x64, 2, 1);             /* T */
    g_assert_cmpint(STEP(f, 0xea, 0, 0, 0, 0, FIXTURE_TR2, 0), ==, EXC_TS);
    g_assert_cmphex(cpu->event.error, ==, FIXTURE_DATA3 & 0xfffc);
    g_assert_cmphex(cpu->s.rip, ==, HANDLER); /* raised in the new task */
    g_assert_cmphex(cpu->s.tr.selector, ==, FIXTURE_TR2);
    /* Too small a TSS faults in the old one. */
    soft_fixture_protected(f, 0);
    fixture_set_descriptor(f, FIXTURE_TR2, fixture_descriptor(FIXTURE_TSS2, 0x66, SEGMENT_P | 9));
    g_assert_cmpint(STEP(f, 0xea, 0, 0, 0, 0, FIXTURE_TR2, 0), ==, EXC_TS);
    g_assert_cmphex(cpu->s.tr.selector, ==, FIXTURE_TR);
    g_assert_cmphex(cpu->s.rip, ==, CODE);
    /* The T bit traps before the first instruction. */
    soft_fixture_protected(f, 0);
    fixture_write(f, FIXTURE_TSS2 + 0x50, 2, FIXTURE_DATA0);
    fixture_set_gate(f, EXC_DB, FIXTURE_CODE0, HANDLER + 0x80, 0x8e, 0);
    g_assert_cmpint(STEP(f, 0xea, 0, 0, 0, 0, FIXTURE_TR2, 0), ==, -1);
    take_events(cpu);
    g_assert_cmphex(cpu->s.rip, ==, HANDLER + 0x80);
    g_assert_true(cpu->s.dr6 & DR6_BT);
    soft_fixture_free(f);
}

static void test_task_gate(void)
{
    SoftFixture *f = soft_fixture_new("x86-64-v3");
    SoftCpu *cpu = f->cpu;

    soft_fixture_protected(f, 3);
    write_tss2(f);
    fixture_set_gate(f, EXC_GP, FIXTURE_TR2, 0, 0x85, 0);
    g_assert_true(raise_and_deliver(cpu, EXC_GP));
    g_assert_cmphex(cpu->s.tr.selector, ==, FIXTURE_TR2);
    g_assert_cmphex(cpu->s.gpr[GPR_RSP], ==, 0x97fc);
    g_assert_cmphex(pushed(f, 0, 4), ==, 0x55);
    g_assert_true(fixture_read(f, FIXTURE_TSS + 0x24, 4) & FLAG_RF);
    soft_fixture_free(f);
}

/* ---- virtual-8086 mode ----------------------------------------------------------------------- */

static SoftFixture *new_vm86(unsigned iopl, uint64_t cr4)
{
    SoftFixture *f = soft_fixture_new("x86-64-v3");
    const uint32_t frame[] = {CODE & 0xff, CODE >> 4, 2 | FLAG_VM | iopl << 12 | FLAG_IF,
                              0x8000,      0x100,     0x200,
                              0x300,       0x400,     0x500};

    soft_fixture_protected(f, 0);
    f->cpu->s.cr4 = cr4;
    memcpy(f->ram->host + 0x8000, frame, sizeof(frame));
    f->cpu->s.gpr[GPR_RSP] = 0x8000;
    g_assert_cmpint(SOFT_CATCH(f->cpu, interrupt_return(f->cpu, 4)), ==, -1);
    return f;
}

#define STEP_VM86(f, ...)                \
    ({                                   \
        PUT(f, CODE, __VA_ARGS__);       \
        ram_written((f)->ram, CODE, 32); \
        (f)->cpu->s.rip = 0;             \
        soft_cpu_step((f)->cpu, 1);      \
    })

static void test_vm86(void)
{
    SoftFixture *f = new_vm86(0, 0);
    SoftCpu *cpu = f->cpu;

    g_assert_cmpuint(cpu->cpl, ==, 3);
    g_assert_cmphex(cpu->s.seg[SEG_SS].base, ==, 0x1000);
    g_assert_cmphex(cpu->s.seg[SEG_GS].base, ==, 0x5000);
    g_assert_cmphex(cpu->s.seg[SEG_DS].limit, ==, 0xffff);
    g_assert_cmpint(STEP_VM86(f, 0xfa), ==, EXC_GP);             /* cli */
    g_assert_cmpint(STEP_VM86(f, 0x9c), ==, EXC_GP);             /* pushf */
    g_assert_cmpint(STEP_VM86(f, 0xcd, 0x21), ==, EXC_GP);       /* int */
    g_assert_cmpint(STEP_VM86(f, 0xcf), ==, EXC_GP);             /* iret */
    g_assert_cmpint(STEP_VM86(f, 0x0f, 0x00, 0xc0), ==, EXC_UD); /* sldt */
    g_assert_cmpint(STEP_VM86(f, 0xe4, 0x60), ==, -1);           /* in: the bitmap allows it */
    fixture_write(f, FIXTURE_TSS + 0x68 + 0x60 / 8, 1, 1);
    g_assert_cmpint(STEP_VM86(f, 0xe4, 0x60), ==, EXC_GP);
    fixture_set_gate(f, EXC_GP, FIXTURE_CODE0, HANDLER, 0x8e, 0);
    cpu->event.vector = EXC_GP;
    g_assert_true(deliver(cpu));
    g_assert_cmpuint(cpu->cpl, ==, 0);
    g_assert_false(cpu_is_vm86(cpu));
    g_assert_cmphex(cpu->s.gpr[GPR_RSP], ==, FIXTURE_STACK0 - 40);
    g_assert_cmphex(pushed(f, 9, 4), ==, 0x500); /* GS on top */
    g_assert_cmphex(pushed(f, 6, 4), ==, 0x200); /* ES */
    g_assert_cmphex(pushed(f, 5, 4), ==, 0x100); /* SS */
    g_assert_cmphex(cpu->s.seg[SEG_DS].selector, ==, 0);
    soft_fixture_free(f);
}

static void test_vme(void)
{
    SoftFixture *f = new_vm86(0, CR4_VME);
    SoftCpu *cpu = f->cpu;

    fixture_write(f, FIXTURE_TSS + 0x66, 2, 0x88); /* 32 bytes of redirection map before */
    fixture_write(f, FIXTURE_TSS + 0x68 + 0x22 / 8, 1, 1 << (0x22 % 8));
    fixture_write(f, 0x21 * 4, 4, 0x07770008);
    g_assert_cmpint(STEP_VM86(f, 0xfb), ==, -1); /* sti */
    g_assert_true(cpu->s.rflags & FLAG_VIF);
    g_assert_cmpint(STEP_VM86(f, 0xcd, 0x21), ==, -1); /* int 21h: 8086 style */
    g_assert_cmphex(cpu->s.seg[SEG_CS].base, ==, 0x7770);
    g_assert_cmphex(cpu->s.rip, ==, 8);
    g_assert_cmphex(fixture_read(f, 0x1000 + 0x7ffe, 2) & (FLAG_IF | FLAG_IOPL), ==,
                    FLAG_IF | FLAG_IOPL);
    g_assert_false(cpu->s.rflags & FLAG_VIF);
    g_assert_true(cpu->s.rflags & FLAG_IF);
    g_assert_cmpint(SOFT_CATCH(cpu, interrupt_return(cpu, 2)), ==, -1);
    g_assert_true(cpu->s.rflags & FLAG_VIF);
    g_assert_cmpint(STEP_VM86(f, 0xcd, 0x22), ==, EXC_GP); /* its bit is set */
    cpu->s.rflags |= FLAG_VIP;
    g_assert_cmpint(STEP_VM86(f, 0xfb), ==, EXC_GP);
    soft_fixture_free(f);
}

/* ---- between instructions -------------------------------------------------------------------- */

static void test_single_step(void)
{
    SoftFixture *f = soft_fixture_new("x86-64-v3");
    SoftCpu *cpu = f->cpu;

    soft_fixture_protected(f, 0);
    fixture_set_gate(f, EXC_DB, FIXTURE_CODE0, HANDLER, 0x8e, 0);
    cpu->s.rflags |= FLAG_TF;
    cpu_update_mode(cpu);
    take_events(cpu); /* arms */
    g_assert_cmphex(cpu->s.rip, ==, CODE);
    g_assert_cmpint(STEP(f, 0x90), ==, -1);
    take_events(cpu);
    g_assert_cmphex(cpu->s.rip, ==, HANDLER);
    g_assert_cmphex(cpu->s.dr6, ==, 0xffff0ff0 | DR6_BS);
    g_assert_cmphex(pushed(f, 0, 4), ==, CODE + 1);
    g_assert_true(pushed(f, 2, 4) & FLAG_TF);
    g_assert_false(cpu->s.rflags & FLAG_TF);
    /* MOV SS holds the trap for one instruction. */
    cpu->s.rflags |= FLAG_TF;
    cpu_update_mode(cpu);
    take_events(cpu);
    cpu->s.gpr[GPR_RAX] = FIXTURE_DATA0;
    g_assert_cmpint(STEP(f, 0x8e, 0xd0), ==, -1);
    take_events(cpu);
    g_assert_cmphex(cpu->s.rip, ==, CODE + 2);
    g_assert_cmpint(STEP(f, 0x90), ==, -1);
    take_events(cpu);
    g_assert_cmphex(cpu->s.rip, ==, HANDLER);
    soft_fixture_free(f);
}

static void test_breakpoints(void)
{
    SoftFixture *f = soft_fixture_new("x86-64-v3");
    SoftCpu *cpu = f->cpu;

    soft_fixture_protected(f, 0);
    fixture_set_gate(f, EXC_DB, FIXTURE_CODE0, HANDLER, 0x8e, 0);
    cpu->s.dr[2] = CODE;
    control_write_dr(cpu, 7, 1 << 5); /* G2, instruction */
    g_assert_true(cpu->mode & MODE_SINGLE_STEP);
    take_events(cpu);
    g_assert_cmphex(cpu->s.rip, ==, HANDLER);
    g_assert_cmphex(cpu->s.dr6 & 0xf, ==, 4);
    g_assert_cmphex(pushed(f, 0, 4), ==, CODE); /* a fault */
    /* RF in the frame lets it pass once. */
    fixture_write(f, cpu->s.gpr[GPR_RSP] + 8, 4, 2 | FLAG_RF);
    g_assert_cmpint(SOFT_CATCH(cpu, interrupt_return(cpu, 4)), ==, -1);
    take_events(cpu);
    g_assert_cmphex(cpu->s.rip, ==, CODE);
    take_events(cpu);
    g_assert_cmphex(cpu->s.rip, ==, HANDLER);
    /* General detect. */
    cpu->s.dr7 |= DR7_GD;
    g_assert_cmpint(STEP(f, 0x0f, 0x21, 0xf8), ==, EXC_DB); /* mov eax, dr7 */
    g_assert_true(cpu->s.dr6 & DR6_BD);
    cpu->event.vector = EXC_DB;
    g_assert_true(deliver(cpu));
    g_assert_false(cpu->s.dr7 & DR7_GD);
    soft_fixture_free(f);
}

static void test_interrupt_shadow(void)
{
    SoftFixture *f = soft_fixture_new("x86-64-v3");
    SoftCpu *cpu = f->cpu;

    soft_fixture_protected(f, 0);
    fixture_set_gate(f, 0x30, FIXTURE_CODE0, HANDLER, 0x8e, 0);
    f->interrupt = 0x30;
    take_events(cpu);
    g_assert_cmphex(cpu->s.rip, ==, CODE); /* IF is clear */
    g_assert_cmpint(STEP(f, 0xfb), ==, -1);
    g_assert_true(atomic_load(&cpu->exit_request));
    take_events(cpu);
    g_assert_cmphex(cpu->s.rip, ==, CODE + 1);
    g_assert_true(cpu->mode & MODE_SINGLE_STEP); /* one instruction */
    take_events(cpu);
    g_assert_cmphex(cpu->s.rip, ==, HANDLER);
    g_assert_false(cpu->mode & MODE_SINGLE_STEP);
    /* STI; HLT wakes. */
    cpu->s.rflags |= FLAG_IF;
    g_assert_cmpint(STEP(f, 0xf4), ==, -1);
    g_assert_cmpint(cpu->s.activity, ==, CPU_HALTED);
    take_events(cpu);
    g_assert_cmpint(cpu->s.activity, ==, CPU_HALTED);
    f->interrupt = 0x30;
    take_events(cpu);
    g_assert_cmpint(cpu->s.activity, ==, CPU_ACTIVE);
    g_assert_cmphex(pushed(f, 0, 4), ==, CODE + 1);
    soft_fixture_free(f);
}

/* ---- control registers, MSRs, fast calls ----------------------------------------------------- */

/* Else a device that holds the board lock and wants an exclusive section waits for ever. */
static void test_apic_at_safe_points(void)
{
    SoftFixture *f = soft_fixture_new("x86-64-v3");
    SoftCpu *cpu = f->cpu;

    soft_fixture_protected(f, 0);
    fixture_set_gate(f, 0x30, FIXTURE_CODE0, HANDLER, 0x8e, 0);
    vcpu_enter(&f->vcpu);
    cpu->s.rflags |= FLAG_IF;
    f->interrupt = 0x30;
    take_events(cpu);
    g_assert_cmpint(f->interrupt, ==, -1);
    g_assert_true(msr_write(cpu, 0x1b, 0xfee00900));
    mmu_store(cpu, 0xfee000b0, 4, 0, MMU_KERNEL); /* EOI */
    g_assert_cmphex(f->apic_offset, ==, 0xb0);
    g_assert_false(f->apic_in_guest);
    vcpu_leave(&f->vcpu);
    soft_fixture_free(f);
}

static void test_control_registers(void)
{
    SoftFixture *f = soft_fixture_new("x86-64-v3");
    SoftCpu *cpu = f->cpu;

    g_assert_cmpint(SOFT_CATCH(cpu, control_write_cr0(cpu, CR0_PG)), ==, EXC_GP);
    g_assert_cmpint(SOFT_CATCH(cpu, control_write_cr0(cpu, CR0_NW)), ==, EXC_GP);
    g_assert_cmpint(SOFT_CATCH(cpu, control_write_cr4(cpu, CR4_PCIDE)), ==, EXC_GP);
    g_assert_cmpint(SOFT_CATCH(cpu, control_write_cr4(cpu, CR4_LA57)), ==, EXC_GP);
    g_assert_cmpint(SOFT_CATCH(cpu, control_write_cr4(cpu, UINT64_C(1) << 40)), ==, EXC_GP);
    soft_fixture_protected(f, 0);
    g_assert_true(msr_write(cpu, 0xc0000080, EFER_LME));
    g_assert_false(msr_write(cpu, 0xc0000080, 1 << 1));
    g_assert_cmpint(SOFT_CATCH(cpu, control_write_cr0(cpu, CR0_PG | CR0_PE)), ==,
                    EXC_GP); /* no PAE */
    control_write_cr4(cpu, CR4_PAE);
    cpu->s.cr3 = 0x700000;
    control_write_cr0(cpu, CR0_PG | CR0_PE);
    g_assert_true(cpu->s.efer & EFER_LMA);
    g_assert_cmpuint(cpu->code_size, ==, 4); /* compatibility mode until a 64-bit CS is loaded */
    g_assert_false(msr_write(cpu, 0xc0000080, 0)); /* LME while PG */
    g_assert_cmpint(SOFT_CATCH(cpu, control_write_cr4(cpu, 0)), ==, EXC_GP);
    control_write_cr0(cpu, CR0_PE);
    g_assert_false(cpu->s.efer & EFER_LMA);
    soft_fixture_long(f, 0);
    g_assert_cmpint(SOFT_CATCH(cpu, control_write_cr0(cpu, CR0_PE)), ==,
                    EXC_GP); /* in 64-bit code */
    control_write_cr4(cpu, CR4_PAE | CR4_PCIDE);
    cpu->s.gpr[GPR_RAX] = cpu->s.cr3 | 5 | CR3_NO_FLUSH;
    g_assert_cmpint(STEP(f, 0x0f, 0x22, 0xd8), ==, -1);
    g_assert_cmphex(cpu->s.cr3 & 0xfff, ==, 5);
    g_assert_cmphex(cpu->s.cr3 >> 63, ==, 0);
    cpu->s.gpr[GPR_RAX] = 16;
    g_assert_cmpint(STEP(f, 0x44, 0x0f, 0x22, 0xc0), ==, EXC_GP); /* mov cr8, rax */
    cpu->s.gpr[GPR_RAX] = 7;
    g_assert_cmpint(STEP(f, 0x44, 0x0f, 0x22, 0xc0), ==, -1);
    g_assert_cmpuint(f->cr8, ==, 7);
    g_assert_cmpint(STEP(f, 0x0f, 0x22, 0xc8), ==, EXC_UD); /* CR1 */
    soft_fixture_free(f);
}

static void test_msrs(void)
{
    SoftFixture *f = soft_fixture_new("x86-64-v3");
    SoftCpu *cpu = f->cpu;
    uint64_t value;

    g_assert_true(msr_read(cpu, 0x277, &value));
    g_assert_cmphex(value, ==, UINT64_C(0x0007040600070406));
    g_assert_false(msr_write(cpu, 0x277, 2)); /* reserved type */
    g_assert_true(msr_write(cpu, 0x277, 7));
    g_assert_false(msr_write(cpu, 0x2ff, 7)); /* UC- is for the PAT alone */
    g_assert_true(msr_write(cpu, 0x2ff, 0xc06));
    g_assert_false(msr_write(cpu, 0x2ff, 0x1006));
    g_assert_true(msr_write(cpu, 0x201, 0xfff0000800));
    g_assert_false(msr_write(cpu, 0x201, 0xfff0000801));
    g_assert_false(msr_write(cpu, 0x201, UINT64_C(1) << 51));
    g_assert_true(msr_read(cpu, 0xfe, &value));
    g_assert_cmphex(value & 0xff, ==, 8);
    g_assert_false(msr_write(cpu, 0xfe, 0));
    g_assert_false(msr_write(cpu, 0xc0000082, UINT64_C(1) << 47)); /* not canonical */
    g_assert_true(msr_write(cpu, 0xc0000082, UINT64_C(0xffff800000000000)));
    g_assert_true(msr_write(cpu, 0x3b, 1000));
    g_assert_true(msr_read(cpu, 0x3b, &value));
    g_assert_cmpuint(value, ==, 1000);
    g_assert_true(msr_write(cpu, 0x10, 0));
    g_assert_true(msr_read(cpu, 0x10, &value));
    g_assert_cmpuint(value, <, UINT64_C(10000000000));
    g_assert_false(msr_read(cpu, 0x12345678, &value));
    g_assert_false(msr_read(cpu, 0xc0010015, &value)); /* the other vendor's */
    g_assert_true(msr_write(cpu, 0x401, 0));
    g_assert_false(msr_write(cpu, 0x401, 1));
    g_assert_true(msr_read(cpu, 0x1b, &value));
    g_assert_cmphex(value, ==, 0xfee00900);
    soft_fixture_free(f);
    f = soft_fixture_new("486");
    g_assert_false(msr_read(f->cpu, 0xc0000082, &value));
    g_assert_false(msr_read(f->cpu, 0xfe, &value));
    soft_fixture_free(f);
}

static void test_syscall(void)
{
    SoftFixture *f = soft_fixture_new("x86-64-v3");
    SoftCpu *cpu = f->cpu;

    soft_fixture_long(f, 3);
    cpu->s.star = (uint64_t)FIXTURE_CODE0 << 32 | UINT64_C(0x10) << 48;
    cpu->s.lstar = HANDLER;
    cpu->s.sfmask = FLAG_IF | FLAG_CF;
    flags_set(cpu, 2 | FLAG_IF | FLAG_CF | FLAG_ZF);
    g_assert_cmpint(STEP(f, 0x0f, 0x05), ==, -1);
    g_assert_cmpuint(cpu->cpl, ==, 0);
    g_assert_cmphex(cpu->s.rip, ==, HANDLER);
    g_assert_cmphex(cpu->s.gpr[GPR_RCX], ==, CODE + 2);
    g_assert_cmphex(cpu->s.gpr[GPR_R11], ==, 2 | FLAG_IF | FLAG_CF | FLAG_ZF);
    g_assert_cmphex(flags_get(cpu), ==, 2 | FLAG_ZF);
    g_assert_cmphex(cpu->s.seg[SEG_SS].selector, ==, FIXTURE_CODE0 + 8);
    g_assert_cmpint(STEP(f, 0x48, 0x0f, 0x07), ==, -1);
    g_assert_cmpuint(cpu->cpl, ==, 3);
    g_assert_cmphex(cpu->s.rip, ==, CODE + 2);
    g_assert_cmphex(cpu->s.seg[SEG_CS].selector, ==, 0x23);
    g_assert_cmphex(flags_get(cpu), ==, 2 | FLAG_IF | FLAG_CF | FLAG_ZF);
    g_assert_cmpint(STEP(f, 0x48, 0x0f, 0x07), ==, EXC_GP); /* ring 3 */
    cpu->s.efer &= ~(uint64_t)EFER_SCE;
    g_assert_cmpint(STEP(f, 0x0f, 0x05), ==, EXC_UD);
    soft_fixture_long(f, 0);
    cpu->s.gpr[GPR_RCX] = UINT64_C(0x800000000000);
    g_assert_cmpint(STEP(f, 0x48, 0x0f, 0x07), ==, EXC_GP); /* in ring 0, before anything changes */
    g_assert_cmpuint(cpu->cpl, ==, 0);
    cpu->s.kernel_gs_base = 0x1234;
    cpu->s.seg[SEG_GS].base = 0x99;
    g_assert_cmpint(STEP(f, 0x0f, 0x01, 0xf8), ==, -1); /* swapgs */
    g_assert_cmphex(cpu->seg_base[SEG_GS], ==, 0x1234);
    g_assert_cmphex(cpu->s.kernel_gs_base, ==, 0x99);
    soft_fixture_free(f);
}

static void test_sysenter(void)
{
    SoftFixture *f = soft_fixture_new("pentium3");
    SoftCpu *cpu = f->cpu;

    soft_fixture_protected(f, 3);
    g_assert_cmpint(STEP(f, 0x0f, 0x34), ==, EXC_GP); /* no CS */
    cpu->s.sysenter_cs = FIXTURE_CODE0;
    cpu->s.sysenter_esp = FIXTURE_STACK0;
    cpu->s.sysenter_eip = HANDLER;
    cpu->s.rflags |= FLAG_IF;
    g_assert_cmpint(STEP(f, 0x0f, 0x34), ==, -1);
    g_assert_cmpuint(cpu->cpl, ==, 0);
    g_assert_cmphex(cpu->s.gpr[GPR_RSP], ==, FIXTURE_STACK0);
    g_assert_false(cpu->s.rflags & FLAG_IF);
    cpu->s.gpr[GPR_RCX] = FIXTURE_STACK3;
    cpu->s.gpr[GPR_RDX] = 0x1234;
    g_assert_cmpint(STEP(f, 0x0f, 0x35), ==, -1);
    g_assert_cmpuint(cpu->cpl, ==, 3);
    g_assert_cmphex(cpu->s.rip, ==, 0x1234);
    g_assert_cmphex(cpu->s.seg[SEG_CS].selector, ==, FIXTURE_CODE0 + 16 + 3);
    g_assert_cmphex(cpu->s.seg[SEG_SS].selector, ==, FIXTURE_CODE0 + 24 + 3);
    soft_fixture_free(f);
}

static void test_privilege(void)
{
    static const uint8_t refused[][4] = {
        {0xf4},
        {0x0f, 0x06},
        {0x0f, 0x08},
        {0x0f, 0x20, 0xc0},
        {0x0f, 0x22, 0xc0},
        {0x0f, 0x30},
        {0x0f, 0x32},
        {0x0f, 0x01, 0x38},
        {0x0f, 0x01, 0x10},
        {0xfa},
        {0xfb},
        {0x0f, 0x00, 0xd0},
    };
    SoftFixture *f = soft_fixture_new("x86-64-v3");
    SoftCpu *cpu = f->cpu;

    soft_fixture_protected(f, 3);
    for (unsigned i = 0; i < G_N_ELEMENTS(refused); i++) {
        g_assert_cmpint(STEP(f, refused[i][0], refused[i][1], refused[i][2], refused[i][3]), ==,
                        EXC_GP);
        g_assert_cmphex(cpu->event.error, ==, 0);
        g_assert_cmphex(cpu->s.rip, ==, CODE);
    }
    g_assert_cmpint(STEP(f, 0x0f, 0x01, 0xe0), ==, -1); /* smsw eax */
    cpu->s.cr4 |= CR4_UMIP;
    g_assert_cmpint(STEP(f, 0x0f, 0x01, 0xe0), ==, EXC_GP);
    g_assert_cmpint(STEP(f, 0x0f, 0x31), ==, -1); /* rdtsc */
    cpu->s.cr4 |= CR4_TSD;
    g_assert_cmpint(STEP(f, 0x0f, 0x31), ==, EXC_GP);
    /* POPF in ring 3 changes neither IF nor IOPL. */
    fixture_write(f, FIXTURE_STACK3, 4, 2 | FLAG_IF | FLAG_IOPL | FLAG_DF);
    g_assert_cmpint(STEP(f, 0x9d), ==, -1);
    g_assert_cmphex(flags_get(cpu), ==, 2 | FLAG_DF);
    soft_fixture_free(f);
}

static void test_reset(void)
{
    CpuState s = {.lstar = 5, .cr0 = CR0_PE | CR0_NW | CR0_CD, .tsc = 9};

    cpu_state_reset(&s, 0x663, false, true);
    g_assert_cmphex(s.lstar, ==, 5);
    g_assert_cmphex(s.tsc, ==, 9);
    g_assert_cmphex(s.cr0, ==, 0x60000010);
    g_assert_cmpint(s.activity, ==, CPU_WAIT_SIPI);
    cpu_state_reset(&s, 0x663, true, false);
    g_assert_cmphex(s.lstar, ==, 0);
    g_assert_cmphex(s.seg[SEG_CS].base + s.rip, ==, 0xfffffff0);
    g_assert_cmphex(s.apic_base, ==, 0xfee00900);
    g_assert_cmphex(s.gpr[GPR_RDX], ==, 0x663);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/system/data-segments", test_data_segments);
    g_test_add_func("/system/alignment-check", test_alignment_check);
    g_test_add_func("/system/unreal", test_unreal);
    g_test_add_func("/system/descriptor-queries", test_descriptor_queries);
    g_test_add_func("/system/real-mode", test_real_mode);
    g_test_add_func("/system/protected-inner", test_protected_inner);
    g_test_add_func("/system/software-interrupts", test_software_interrupts);
    g_test_add_func("/system/double-and-triple-fault", test_double_and_triple_fault);
    g_test_add_func("/system/long-mode", test_long_mode);
    g_test_add_func("/system/call-gate", test_call_gate);
    g_test_add_func("/system/call-gate-64", test_call_gate_64);
    g_test_add_func("/system/task-switch", test_task_switch);
    g_test_add_func("/system/task-switch-fault", test_task_switch_fault);
    g_test_add_func("/system/task-gate", test_task_gate);
    g_test_add_func("/system/vm86", test_vm86);
    g_test_add_func("/system/vme", test_vme);
    g_test_add_func("/system/single-step", test_single_step);
    g_test_add_func("/system/breakpoints", test_breakpoints);
    g_test_add_func("/system/interrupt-shadow", test_interrupt_shadow);
    g_test_add_func("/system/apic-at-safe-points", test_apic_at_safe_points);
    g_test_add_func("/system/control-registers", test_control_registers);
    g_test_add_func("/system/msrs", test_msrs);
    g_test_add_func("/system/syscall", test_syscall);
    g_test_add_func("/system/sysenter", test_sysenter);
    g_test_add_func("/system/privilege", test_privilege);
    g_test_add_func("/system/reset", test_reset);
    return g_test_run();
}
