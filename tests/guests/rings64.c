/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What conformance suites ask across rings and of single instructions, in 64-bit mode: steps in
 * ring 3, SYSRET with TF, bases that survive IRET, instructions that CPUID does not name, XCR0, MMX
 * errors, hypercalls, MMX and SSE on device memory. Runs with --testdev.
 */
#include "lib.h"

enum { TF = 0x100, IOPL3 = 0x3000, BS = 0x4000, DR6_INIT = 0xffff0ff0 };

static bool is_amd;

/* ---- single steps in ring 3 ---- */

static volatile unsigned db_count;
static volatile word db_ip[16], db_dr6[16];

static void on_db(struct frame *f)
{
    if (db_count < 16) {
        db_ip[db_count] = f->ip;
        db_dr6[db_count] = READ_DR(6);
    }
    db_count++;
    WRITE_DR(6, DR6_INIT);
}

extern char steps_plain[], steps_sti[], steps_ss[], steps_icebp[], steps_branch[];
/* Each begins with TF set by the IRET that enters it, so the first trap is behind its first
 * instruction. */
asm("steps_plain: nop\n cpuid\n mov $0x3fd, %edx\n inb %dx, %al\n int $0x30\n"
    "steps_sti: sti\n nop\n cli\n int $0x30\n"
    "steps_ss: mov %ss, %ecx\n mov %ecx, %ss\n nop\n nop\n int $0x30\n"
    "steps_icebp: nop\n .byte 0xf1\n nop\n int $0x30\n"
    "steps_branch: jmp 1f\n nop\n 1: mov $2, %ecx\n 2: loop 2b\n int $0x30\n");

static void check_user_steps(char *code, const char *offsets, word icebp, const char *name)
{
    unsigned n = 0;
    bool good = true;

    db_count = 0;
    WRITE_DR(6, DR6_INIT);
    set_vector(1, on_db);
    run_at(USER_CODE, USER_DATA, (word)(user_stack + sizeof(user_stack)), 2 | TF | IOPL3,
           (word)code);
    set_vector(1, 0);
    for (; offsets[n] != 127; n++)
        good &= db_ip[n] == (word)code + offsets[n] &&
                db_dr6[n] == (DR6_INIT | (icebp == n + 1 ? 0 : BS));
    good &= db_count == n;
    ok(good, name);
    for (unsigned i = 0; !good && i < db_count && i < 16; i++) {
        note("trap at", db_ip[i] - (word)code);
        note("dr6", db_dr6[i]);
    }
}

static void test_user_steps(void)
{
    check_user_steps(steps_plain, (const char[]){1, 3, 8, 9, 127}, 0, "steps in ring 3");
    check_user_steps(steps_sti, (const char[]){1, 2, 3, 127}, 0, "behind STI with IOPL 3");
    check_user_steps(steps_ss, (const char[]){2, 5, 6, 127}, 0, "behind MOV SS");
    check_user_steps(steps_icebp, (const char[]){1, 2, 3, 127}, 2, "over INT1");
    check_user_steps(steps_branch, (const char[]){3, 8, 8, 10, 127}, 0, "over branches");
}

/* ---- DEBUGCTL.BTF ---- */

static void on_db_btf(struct frame *f)
{
    word debugctl = rdmsr(0x1d9);

    on_db(f);
    if (debugctl & 2)
        f->flags &= ~(word)TF; /* the processor should have cleared it */
    wrmsr(0x1d9, 2);
}

static void test_branch_steps(void)
{
    bool good;

    db_count = 0;
    WRITE_DR(6, DR6_INIT);
    set_vector(1, on_db_btf);
    wrmsr(0x1d9, 2);
    run_at(USER_CODE, USER_DATA, (word)(user_stack + sizeof(user_stack)), 2 | TF | IOPL3,
           (word)steps_branch);
    wrmsr(0x1d9, 0);
    set_vector(1, 0);
    good = db_count == 2 && db_ip[0] == (word)steps_branch + 3 &&
           db_ip[1] == (word)steps_branch + 8 && db_dr6[0] == (DR6_INIT | BS);
    ok(good, "with BTF only taken branches trap, and BTF is cleared");
    for (unsigned i = 0; !good && i < db_count && i < 16; i++)
        note("trap at", db_ip[i] - (word)steps_branch);
}

/* ---- SYSCALL and SYSRET with 32-bit code ---- */

extern char compat_code[], compat_after[], cstar_entry[];
static volatile word cstar_count;
asm(".code32\n"
    "compat_code: pushf\n orl $0x100, (%esp)\n popf\n syscall\n compat_after: int $0x30\n"
    ".code64\n"
    "cstar_entry: incq cstar_count(%rip)\n sysretl\n");

static void test_compat_syscall(void)
{
    wrmsr(0xc0000080, rdmsr(0xc0000080) | 1);
    wrmsr(0xc0000081, UINT64_C(0x18) << 32 | UINT64_C(0x43) << 48);
    wrmsr(0xc0000082, (uint64_t)cstar_entry);
    wrmsr(0xc0000083, (uint64_t)cstar_entry);
    wrmsr(0xc0000084, 0x4700);
    run_at(USER_CODE32, USER_DATA, (word)(user_stack + sizeof(user_stack)), 2, (word)compat_code);
    if (!is_amd) {
        ok(left_vector == 6, "SYSCALL in compatibility mode is #UD on Intel's");
        return;
    }
    ok(left_vector == 1 && cstar_count == 1 && left_ip == (word)compat_after &&
           left_cs == USER_CODE32,
       "SYSCALL in compatibility mode; SYSRET traps by the TF that it loads");
}

/* ---- bases across IRET ---- */

static volatile uint64_t base_target = 0x1122334455667788, base_seen, base_selector;
static void user_reads_gs(void)
{
    asm volatile("mov %%gs, %%ecx; mov %%rcx, %0; mov %%gs:0x1000, %%rcx; mov %%rcx, %1; int $0x30"
                 : "=m"(base_selector), "=m"(base_seen)::"rcx");
}

static void test_bases(void)
{
    asm volatile("mov %0, %%gs" ::"r"(KERNEL_DATA));
    wrmsr(0xc0000101, (uint64_t)&base_target - 0x1000);
    ok(run_user(user_reads_gs) == -1 && base_selector == 0 && base_seen == base_target,
       "GS becomes null by IRET to ring 3 and keeps its base");
}

/* ---- instructions that CPUID names or not ---- */

static int present(uint32_t bit)
{
    return cpuid(7, 0).b >> bit & 1 ? -1 : 6;
}

static void test_presence(void)
{
    uint64_t line[8];

    ok(TRY(".byte 0x66,0x0f,0xae,0x3b", : : "b"(line)CLOBBER) == present(23), "CLFLUSHOPT");
    ok(TRY(".byte 0x66,0x0f,0xae,0x33", : : "b"(line)CLOBBER) == present(24), "CLWB");
    ok(TRY(".byte 0x66,0x0f,0xae,0xf0", : : CLOBBER) == 6, "CLWB of a register is #UD");
    ok(TRY(".byte 0x66,0x0f,0xae,0xf8", : : CLOBBER) == 6, "PCOMMIT is #UD");
    ok(TRY(".byte 0x8d,0xc0", : : CLOBBER) == 6, "LEA of a register is #UD");
    ok(TRY(".byte 0x0f,0x38,0xf0,0xc0", : : CLOBBER) == 6, "MOVBE of a register is #UD");
    ok(TRY("mov %0, %%cr4", : : "r"(READ_CR(4) ^ 1 << 12) CLOBBER) == 13, "CR4.LA57 is #GP");
    for (unsigned bit = 22; bit < 26; bit++)
        if (!(bit == 22 && cpuid(7, 0).c & 8))
            ok(TRY("mov %0, %%cr4",
                   :
                   : "r"(READ_CR(4) | (word)1 << bit) CLOBBER) == 13,
               "a CR4 bit that CPUID does not name is #GP");
    ok(TRY("mov $1, %%ecx; .byte 0x0f,0x01,0xee",
           :
           :
           : "rax", "rcx", "rdx", "memory") == 6,
       "RDPKRU without PKE is #UD");
    ok(cpuid(0xa, 0).a == 0, "no performance counters in leaf 0xa");
}

static void test_small(void)
{
    uint16_t selector = TSS_SELECTOR, cr0 = (uint16_t)READ_CR(0);
    uint64_t value, cells[2] = {~UINT64_C(0), ~UINT64_C(0)};

    asm volatile("mov $0x1234567890abcdef, %0; smsw %w0" : "=r"(value));
    ok(value == (0x1234567890ab0000 | cr0), "SMSW of 16 bits");
    asm volatile("mov $-1, %0; smsw %k0" : "=r"(value));
    ok(value == (uint32_t)READ_CR(0), "of 32 bits");
    asm volatile("mov $-1, %0; .byte 0x48; smsw %k0" : "=a"(value));
    ok(value == READ_CR(0), "of 64 bits");
    asm volatile("smsw %0" : "+m"(cells[0]));
    ok(cells[0] == (~UINT64_C(0xffff) | cr0) && cells[1] == ~UINT64_C(0), "to memory");
    gdt[TSS_SELECTOR / 8] &= ~(UINT64_C(2) << 40);
    asm volatile("ltr %0" ::"m"(selector) : "memory");
    ok(gdt[TSS_SELECTOR / 8] >> 41 & 1, "LTR of memory marks the TSS busy");
    ok(TRY("ltr %0",
           :
           : "m"(selector)CLOBBER) == 13 &&
           fault_error == TSS_SELECTOR,
       "and once more is #GP");
    asm volatile("mov %0, %%ss" ::"r"(0));
    asm volatile("mov %%ss, %w0" : "=r"(selector));
    ok(selector == 0, "a null SS in ring 0");
    ok(TRY("mov %w0, %%ss", : : "r"(3)CLOBBER) == 13, "but not with another RPL");
    asm volatile("mov %0, %%ss" ::"r"(KERNEL_DATA));
    ok(TRY("ud2", : : CLOBBER) == 6 && fault_flags & 0x10000, "a fault pushes RF");
    value = 0;
    asm volatile("mov %0, %%dr6; mov %%dr6, %0" : "+r"(value));
    ok(value == DR6_INIT, "DR6 of 0 reads its fixed ones");
    value = 0x9999999999999999;
    asm volatile("pushw %1; popw %w0" : "+r"(value) : "m"(cells[0]));
    ok((uint16_t)value == cr0, "PUSH and POP of 16 bits");
}

/* ---- XCR0 ---- */

#define XSETBV(n, v) TRY("xsetbv", : : "c"((uint64_t)(n)), "a"((uint32_t)(v)), "d"(0) : "memory")
#define XGETBV(n)    TRY("xgetbv", : : "c"((uint64_t)(n)) : "rax", "rdx", "memory")

static void test_xcr0(void)
{
    uint32_t supported = cpuid(0xd, 0).a, low;
    unsigned good = 0;

    if (!(cpuid(1, 0).c & 1 << 26))
        return;
    ok(XGETBV(0) == 6 && !(cpuid(1, 0).c & 1 << 27), "XGETBV without OSXSAVE is #UD");
    WRITE_CR(4, READ_CR(4) | 1 << 18);
    ok(cpuid(1, 0).c & 1 << 27, "CPUID shows CR4.OSXSAVE");
    asm volatile("xsetbv" ::"c"(UINT64_C(0x1234500000000)), "a"(3), "d"(0));
    asm volatile("xgetbv" : "=a"(low) : "c"(UINT64_C(0x9876500000000)) : "rdx");
    ok(low == 3, "the upper half of RCX does not count");
    asm volatile("xsetbv" ::"c"(0), "a"(1), "d"(0));
    asm volatile("xgetbv" : "=a"(low) : "c"(0) : "rdx");
    ok(low == 1, "XCR0 of x87 alone");
    asm volatile("xsetbv" ::"c"(0), "a"(supported), "d"(0));
    for (unsigned n = 2; n < 32; n++)
        good += XGETBV(n) == 13 && XGETBV(1u << n) == 13;
    ok(good == 30, "XGETBV of others is #GP");
    WRITE_CR(4, READ_CR(4) & ~(word)(1 << 18));
}

static int try_xsetbv(uint32_t n, uint32_t low, uint32_t high)
{
    return TRY("mov %1, %%eax; xsetbv", : : "c"(n), "b"(low), "d"(high) : "rax", "memory");
}

static void test_xsetbv(void)
{
    uint32_t supported = cpuid(0xd, 0).a;

    if (!(cpuid(1, 0).c & 1 << 26))
        return;
    WRITE_CR(4, READ_CR(4) | 1 << 18);
    ok(try_xsetbv(0, 0, 0) == 13 && try_xsetbv(0, 2, 0) == 13 && try_xsetbv(0, 4, 0) == 13 &&
           try_xsetbv(0, 5, 0) == 13 && try_xsetbv(0, 3, 1) == 13 &&
           try_xsetbv(0, supported | 1 << 30, 0) == 13,
       "values that XCR0 can't have are #GP");
    ok(try_xsetbv(1, 1, 0) == 13 && try_xsetbv(1 << 20, 3, 0) == 13, "and other registers");
    ok(try_xsetbv(0, supported, 0) == -1, "all that is supported");
    WRITE_CR(4, READ_CR(4) & ~(word)(1 << 18));
}

/* ---- x87 errors at MMX instructions; MMX and SSE on device memory ---- */

static void test_mmx(void)
{
    volatile uint64_t *m = (volatile uint64_t *)0xff000000;
    uint32_t area[4] __attribute__((aligned(16))) = {1, 2, 3, 4};
    uint16_t control = 0;
    uint64_t v = 0x0102030405060708;

    asm volatile("fninit; fldcw %0; fldz; fldz; .byte 0xde, 0xf9" ::"m"(control));
    ok(TRY("movq %%mm0, (%%rsp)", : : CLOBBER) == 16, "MMX behind an x87 error is #MF");
    asm volatile("fnclex; emms; fninit");
    asm volatile(
        "movq %1, %%mm0; movq %%mm0, (%0); movq (%0), %%mm1; movq %%mm1, 8(%0); emms" ::"r"(m),
        "m"(v)
        : "memory");
    ok(m[0] == v && m[1] == v, "MOVQ");
    asm volatile("movaps %1, %%xmm0; movaps %%xmm0, (%0); movapd (%0), %%xmm1; movupd %%xmm1, "
                 "0xff8(%0)" ::"r"(m),
                 "m"(area)
                 : "memory");
    ok(m[0] == 0x200000001 && m[0x1ff] == 0x200000001 && m[0x200] == 0x400000003,
       "MOVAPS, and MOVUPD over a page end");
    ok(TRY("movaps %%xmm0, 8(%0)", : : "r"(m)CLOBBER) == 13, "MOVAPS unaligned is #GP");
    m[3] = ~UINT64_C(0);
    asm volatile("smsw (%0)" ::"r"(m + 3) : "memory");
    ok(m[3] == (~UINT64_C(0xffff) | (uint16_t)READ_CR(0)), "SMSW writes 16 bits");
    *(volatile uint16_t *)((uintptr_t)m + 0xfff) = 0x88aa;
    ok(*((volatile uint8_t *)m + 0xfff) == 0xaa && *((volatile uint8_t *)m + 0x1000) == 0x88,
       "a word over a page end");
}

/* ---- the APIC's page when it is off; hypercalls ---- */

static void test_apic_page(void)
{
    uint64_t base = rdmsr(0x1b);

    wrmsr(0x1b, base & ~UINT64_C(0xc00));
    for (unsigned i = 0; i < 1024; i++)
        ((volatile uint32_t *)0xfee00000)[i] = ~0u;
    ok(apic_read(0x30) == ~0u && apic_read(0x80) == ~0u, "a disabled APIC's page reads ones");
    wrmsr(0x1b, base);
    if (!(cpuid(1, 0).c & 1 << 21))
        return;
    wrmsr(0x1b, base | 0xc00);
    ok(apic_read(0x30) == ~0u && apic_read(0x80) == ~0u, "and that of one in x2APIC mode");
    wrmsr(0x1b, base & ~UINT64_C(0xc00));
    wrmsr(0x1b, base);
}

int main(void)
{
    is_amd = cpuid(0, 0).c == 0x444d4163;
    idt_init();
    tss_init();
    test_user_steps();
    test_branch_steps();
    test_compat_syscall();
    test_bases();
    test_presence();
    test_small();
    test_xcr0();
    test_xsetbv();
    test_mmx();
    test_apic_page();
    return done();
}

void ap_main(int index)
{
}
