/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Corners that conformance suites look at, in 64-bit mode: debug traps in interrupt shadows, events
 * on events, MSRs that keep their values, PCIDs, the local APIC's modes, device memory as an
 * operand, x87 errors by interrupt 13. Runs with --testdev.
 */
#include "lib.h"

extern uint64_t page_pml4[], page_directories[];

/* ---- debug traps (SDM 3B 17.3) ---- */

enum { DR6_INIT = 0xffff0ff0, BS = 1 << 14, BD = 1 << 13 };
static volatile unsigned db_count;
static volatile word db_ip[16], db_dr6[16];
static volatile int other_count;
static volatile word other_ip;

static void on_db(struct frame *f)
{
    if (db_count < 16) {
        db_ip[db_count] = f->ip;
        db_dr6[db_count] = READ_DR(6);
    }
    if (++db_count == 64)
        f->flags &= ~(word)0x100;
    if (READ_DR(6) & 15)
        f->flags |= 0x10000;
    WRITE_DR(6, DR6_INIT);
}

static void on_other(struct frame *f)
{
    other_count++;
    other_ip = f->ip;
}

static void on_timer(struct frame *f)
{
    other_count++;
    apic_write(0xb0, 0);
}

/* Runs `text` single-stepped; trap n must come at `start` + offsets[n] with dr6[n] (0: BS alone).
 */
#define STEP(text) STEP_AFTER("", text)
#define STEP_AFTER(before, text)                                                                   \
    ({                                                                                             \
        word start_;                                                                               \
        db_count = 0;                                                                              \
        WRITE_DR(6, DR6_INIT);                                                                     \
        asm volatile(                                                                              \
            before                                                                                 \
            "mov %%ss, %%ecx; lea 881f(%%rip), %0\n pushf; orl $0x100, (%%rsp); popf\n 881: " text \
            "\n pushf; andl $~0x100, (%%rsp); popf\n"                                              \
            : "=&r"(start_)::"rax", "rbx", "rcx", "rdx", "rsi", "memory", "cc");                   \
        start_;                                                                                    \
    })

static void check_steps(word start, const char *offsets, const word *dr6, const char *name)
{
    unsigned n = 0;
    bool good = true;

    for (; offsets[n] != 127; n++)
        good &= db_ip[n] == start + offsets[n] && db_dr6[n] == (DR6_INIT | (dr6 ? dr6[n] : BS));
    good &= db_count == n;
    ok(good, name);
    for (unsigned i = 0; !good && i < db_count && i < 16; i++) {
        note("trap at", db_ip[i] - start);
        note("dr6", db_dr6[i]);
    }
}

/* The end: pushf (1 byte), and (7 bytes), popf (1 byte). */
#define END(n) (n) + 1, (n) + 8, (n) + 9, 127

static void test_steps(void)
{
    word start;

    set_vector(1, on_db);
    start = STEP("nop; cpuid; mov $0x3fd, %%edx; inb %%dx, %%al");
    check_steps(start, (const char[]){1, 3, 8, 9, END(9)}, 0, "TF traps after each instruction");
    start = STEP("sti; nop; cli");
    check_steps(start, (const char[]){1, 2, 3, END(3)}, 0, "STI holds no trap back");
    start = STEP("mov %%ecx, %%ss; nop");
    check_steps(start, (const char[]){3, END(3)}, 0, "MOV SS holds one trap back");
    start = STEP("mov %%ecx, %%ss; .byte 0xf1; .byte 0xf1; nop");
    check_steps(start, (const char[]){3, 4, 5, END(5)}, (const word[]){0, 0, BS, BS, BS, BS},
                "INT1 behind MOV SS is no step");
    start =
        STEP_AFTER("mov $0x2400, %%edx; mov %%rdx, %%dr7\n", "mov %%ecx, %%ss; mov %%rbx, %%dr6");
    check_steps(start, (const char[]){2, 5, END(5)}, (const word[]){BD, BS, BS, BS, BS},
                "general detect behind MOV SS faults at once");
    WRITE_DR(7, 0x400);
    set_vector(32, on_timer);
    other_count = 0;
    apic_write(0x320, 32);
    apic_write(0x3e0, 0xb);
    apic_write(0x380, 3000000);
    start = STEP("sti; hlt; cli");
    check_steps(start, (const char[]){1, 2, 3, END(3)}, 0, "the trap after HLT ends it");
    asm volatile("sti");
    while (!other_count)
        asm volatile("pause");
    asm volatile("cli");
}

static void test_step_loop(void)
{
    static const char *const names[] = {"a loop single-stepped", "and once more"};
    unsigned expected = 1 + 4 * 3 + 3;

    for (unsigned i = 0; i < 2; i++) {
        (void)STEP("mov $4, %%ecx\n 1: nop; dec %%ecx; jnz 1b");
        ok(db_count == expected, names[i]);
        if (db_count != expected)
            note("traps", db_count);
    }
}

static volatile uint32_t watched;
static volatile uint16_t stack_selector = 0x10;
extern char watch_end[], shadow_end[], int_end[], io_end[];

static void test_watchpoints(void)
{
    WRITE_DR(1, &watched);
    WRITE_DR(6, DR6_INIT | BS);
    WRITE_DR(7, 0x00d0040a);
    db_count = 0;
    asm volatile("movl $42, %0\n.globl watch_end\nwatch_end:" : "=m"(watched));
    ok(db_count == 1 && db_ip[0] == (word)watch_end && db_dr6[0] == (DR6_INIT | BS | 2),
       "a data trap leaves DR6.BS as it was");
    WRITE_DR(1, &stack_selector);
    WRITE_DR(7, 0x00f0040a);
    WRITE_DR(6, DR6_INIT);
    db_count = 0;
    asm volatile("mov %0, %%ss; nop\n.globl shadow_end\nshadow_end:" ::"m"(stack_selector));
    ok(db_count == 1 && db_ip[0] == (word)shadow_end && db_dr6[0] == (DR6_INIT | 2),
       "a data trap of MOV SS comes one instruction later");
    db_count = 0;
    asm volatile("mov %0, %%ss; .byte 0xf1\n.globl int_end\nint_end:" ::"m"(stack_selector));
    ok(db_count == 1 && db_ip[0] == (word)int_end, "INT1 behind it traps once");
    set_vector(0x21, on_other);
    other_count = 0;
    db_count = 0;
    asm volatile("mov %0, %%ss; int $0x21" ::"m"(stack_selector));
    ok(other_count == 1 && db_count == 1 && db_ip[0] != (word)int_end,
       "INT n behind it is delivered, and then the trap");
    WRITE_DR(7, 0x400);
    WRITE_CR(4, READ_CR(4) | 8);
    WRITE_DR(2, 0xe0);
    WRITE_DR(7, 0x400 | 1 << 4 | 2 << 24 | 3 << 26);
    WRITE_DR(6, DR6_INIT);
    db_count = 0;
    asm volatile("outb %%al, $0xe3\n.globl io_end\nio_end: outb %%al, $0xe4" ::"a"(0));
    ok(db_count == 1 && db_ip[0] == (word)io_end && db_dr6[0] == (DR6_INIT | 4),
       "an I/O breakpoint traps behind OUT");
    WRITE_DR(7, 0x400);
    ok(TRY("mov %%dr4, %%rcx", : : : "rax", "rcx", "memory") == 6, "DR4 under CR4.DE is #UD");
    WRITE_CR(4, READ_CR(4) & ~(word)8);
    ok(TRY("mov %%dr4, %%rcx", : : : "rax", "rcx", "memory") < 0, "without it is DR6");
    set_vector(1, 0);
}

/* ---- events on events ---- */

static volatile unsigned nmi_count, nmi_depth, nmi_nested;
static volatile word nmi_ip;
static volatile unsigned order[4], order_count;

static void send_nmi(void)
{
    apic_write(0x310, apic_read(0x20));
    apic_write(0x300, 4 << 8 | 1 << 14);
}

static void on_nmi(struct frame *f)
{
    nmi_ip = f->ip;
    nmi_nested |= nmi_depth;
    nmi_depth = 1;
    if (nmi_count++ == 0)
        for (int i = 0; i < 10; i++)
            send_nmi();
    asm volatile("nop; nop");
    nmi_depth = 0;
}

static void on_low(struct frame *f)
{
    order[order_count++ & 3] = 0x21;
    apic_write(0xb0, 0);
}
static void on_high(struct frame *f)
{
    order[order_count++ & 3] = 0x3e;
    apic_write(0xb0, 0);
}
static void on_int(struct frame *f)
{
    order[order_count++ & 3] = 0x22;
}
static void on_np(struct frame *f)
{
    other_count++;
    other_ip = f->error;
    idt_entry(0x23)[0] |= UINT64_C(0x8000) << 32;
}

extern char nmi_shadow[];
static void test_events(void)
{
    set_vector(2, on_nmi);
    send_nmi();
    asm volatile("nop");
    ok(nmi_count == 2 && !nmi_nested, "NMIs in the handler wait for IRET, and are one");
    nmi_count = 5;
    asm volatile("cli");
    asm volatile(
        "mov %0, %%ecx; sti; mov %%ecx, (%1)\n.globl nmi_shadow\nnmi_shadow: nop; cli" ::"r"(
            4 << 8 | 1 << 14),
        "r"(0xfee00300ul)
        : "rcx", "memory");
    ok(nmi_count == 6, "an NMI sent in an STI shadow");
    set_vector(0x21, on_low);
    set_vector(0x22, on_int);
    set_vector(0x3e, on_high);
    apic_write(0x300, 1 << 18 | 0x21);
    apic_write(0x300, 1 << 18 | 0x3e);
    asm volatile("sti; nop; nop; cli");
    ok(order_count == 2 && order[0] == 0x3e && order[1] == 0x21, "the higher vector comes first");
    order_count = 0;
    apic_write(0x300, 1 << 18 | 0x21);
    asm volatile("sti; int $0x22; cli");
    ok(order_count == 2 && order[0] == 0x22 && order[1] == 0x21,
       "INT n in the STI shadow comes before the interrupt");
    order_count = 0;
    apic_write(0x80, 0xf0);
    apic_write(0x300, 1 << 18 | 0x21);
    apic_write(0x300, 1 << 18 | 0x3e);
    asm volatile("sti; nop");
    apic_write(0x80, 0x20);
    asm volatile("nop; cli");
    ok(order_count == 1 && order[0] == 0x3e, "TPR lets the class above pass");
    apic_write(0x80, 0);
    asm volatile("sti; nop; cli");
    ok(order_count == 2, "and later the rest");
    set_vector(11, on_np);
    set_vector(0x23, on_other);
    idt_entry(0x23)[0] &= ~(UINT64_C(0x8000) << 32);
    other_count = 0;
    asm volatile("int $0x23");
    ok(other_count == 2, "INT through a gate not present comes again after #NP");
    idt_entry(0x23)[0] &= ~(UINT64_C(0x8000) << 32);
    apic_write(0x300, 1 << 18 | 0x23);
    other_count = 0;
    asm volatile("sti; nop; nop; cli");
    apic_write(0xb0, 0);
    ok(other_count == 1 && other_ip == (0x23 * 8 | 3), "an interrupt through it is #NP with EXT");
    set_vector(11, 0);
}

/* ---- MSRs ---- */

static bool keeps(uint32_t msr, uint64_t value)
{
    uint64_t old = rdmsr(msr), got;

    wrmsr(msr, value);
    got = rdmsr(msr);
    wrmsr(msr, old);
    if (got != value) {
        note("MSR", msr);
        note("reads", got);
    }
    return got == value;
}

static int try_wrmsr(uint32_t msr, uint64_t value)
{
    return TRY("mov %1, %%eax; wrmsr",
               :
               : "c"(msr), "b"((uint32_t)value), "d"((uint32_t)(value >> 32))
               : "rax", "memory");
}

static void test_msrs(void)
{
    static const uint32_t addresses[] = {0x175,      0x176,      0xc0000100, 0xc0000101,
                                         0xc0000102, 0xc0000082, 0xc0000083};
    const uint64_t bad = UINT64_C(0xaaaaaaaaaaaaaaaa);
    bool good = true, faults = true;
    unsigned banks = rdmsr(0x179) & 0xff;

    for (unsigned i = 0; i < sizeof(addresses) / 4; i++) {
        good &= keeps(addresses[i], 0x123456789abc);
        faults &= try_wrmsr(addresses[i], bad) == 13;
    }
    ok(good && faults, "address MSRs keep canonical values only");
    ok(keeps(0x174, 0x1234) && keeps(0x277, 0x07070707) && keeps(0xc0000084, 0xffffffff),
       "SYSENTER_CS, PAT, SFMASK");
    ok(keeps(0x1a0, (UINT64_C(0x400c50809) & ~UINT64_C(0x1880)) | (rdmsr(0x1a0) & 0x1880)),
       "MISC_ENABLE");
    ok(keeps(0x17a, 4) && keeps(0x1d9, 1), "MCG_STATUS and DEBUGCTL");
    good = faults = true;
    for (unsigned i = 0; i < banks; i++) {
        uint32_t ctl = 0x400 + 4 * i;
        good &= keeps(ctl, 0) && keeps(ctl, ~UINT64_C(0)) && keeps(ctl + 1, 0) &&
                keeps(ctl + 2, ~UINT64_C(0)) && keeps(ctl + 2, bad) && keeps(ctl + 3, bad);
        faults &= try_wrmsr(ctl, bad) == 13 && try_wrmsr(ctl + 1, 1) == 13;
    }
    ok(good && faults, "machine-check banks");
    ok(try_wrmsr(0x400 + 4 * banks, 0) == 13, "and no more than MCG_CAP says");
    ok(TRY(".byte 0x0f,0x01,0xfd", : : "c"(0) : "rax", "rdx", "memory") == 6, "RDPRU is #UD");
    if (!(cpuid(1, 0).c & 8))
        ok(TRY(".byte 0x0f,0x01,0xc8",
               :
               : "c"(0)
               : "rax", "rdx", "memory") == 6,
           "MONITOR is #UD when CPUID does not name it");
    ok(cpuid(7, 0).b & 1 << 13, "CPUID says that FCS and FDS are 0");
    if (cpuid(7, 0).b & 2) {
        uint64_t before = rdtsc();
        ok(rdmsr(0x3b) == 0, "TSC_ADJUST begins at 0");
        wrmsr(0x3b, 100000000000);
        ok(rdtsc() - before >= 100000000000 && rdmsr(0x3b) == 100000000000, "and moves the TSC");
        wrmsr(0x3b, 0);
        before = rdtsc();
        wrmsr(0x10, 100000000000);
        ok(rdtsc() >= 100000000000 && before <= 100000000000 - rdmsr(0x3b),
           "a write to the TSC moves it");
        wrmsr(0x3b, 0);
    }
}

/* ---- PCID ---- */

static struct {
    uint64_t pcid, address;
} descriptor;
#define INVPCID(type) \
    TRY("invpcid %0, %1", : : "m"(descriptor), "r"((uint64_t)(type)) : "rax", "memory")

static uint64_t other_pml4[512] __attribute__((aligned(4096)));
static uint64_t spare_pdpt[512] __attribute__((aligned(4096))),
    spare_pd[512] __attribute__((aligned(4096))), spare_pt[512] __attribute__((aligned(4096)));
static uint32_t frames[2][1024] __attribute__((aligned(4096)));

static void test_pcid(void)
{
    word cr3 = READ_CR(3), cr4 = READ_CR(4), address = UINT64_C(1) << 39;
    volatile uint32_t *p = (volatile uint32_t *)address;

    if (!(cpuid(1, 0).c & 1 << 17))
        return;
    WRITE_CR(3, cr3 | 1);
    ok(TRY("mov %0, %%cr4",
           :
           : "r"(cr4 | 1 << 17) CLOBBER) == 13,
       "CR4.PCIDE with a PCID in CR3 is #GP");
    WRITE_CR(3, cr3);
    descriptor.pcid = 1;
    ok(INVPCID(1) == 13, "INVPCID of a PCID without CR4.PCIDE is #GP");
    ok(TRY("mov %0, %%cr4", : : "r"(cr4 | 1 << 17) CLOBBER) < 0, "CR4.PCIDE");
    ok(TRY("mov %0, %%cr0",
           :
           : "r"(READ_CR(0) & 0x7fffffff) CLOBBER) == 13,
       "CR0.PG can't be cleared then");
    ok(INVPCID(4) == 13, "INVPCID of type 4 is #GP");
    descriptor.pcid = 0x1000;
    ok(INVPCID(2) == 13, "reserved bits of its descriptor are #GP");
    descriptor.pcid = 10;
    ok(INVPCID(2) < 0 && INVPCID(3) < 0 && INVPCID(1) < 0, "types 1 to 3");
    descriptor.address = UINT64_C(1) << 50;
    ok(INVPCID(0) == 13, "type 0 wants a canonical address");
    descriptor.address = 0;

    frames[0][0] = 0x1111;
    frames[1][0] = 0x2222;
    spare_pt[0] = (uint64_t)frames[0] | 3;
    spare_pd[0] = (uint64_t)spare_pt | 3;
    spare_pdpt[0] = (uint64_t)spare_pd | 3;
    page_pml4[1] = (uint64_t)spare_pdpt | 3;
    other_pml4[0] = page_pml4[0];
    ok(*p == 0x1111, "mapped under PCID 0");
    WRITE_CR(3, (word)other_pml4 | 7);
    ok(TRY("mov (%0), %%ecx", : : "r"(p) : "rax", "rcx", "memory") == 14, "not under PCID 7");
    spare_pt[0] = (uint64_t)frames[1] | 3;
    WRITE_CR(3, cr3 | UINT64_C(1) << 63);
    ok(*p == 0x1111 || *p == 0x2222, "bit 63 of CR3 may keep the translation");
    ok(!(READ_CR(3) >> 63), "and is not kept itself");
    WRITE_CR(3, cr3);
    ok(*p == 0x2222, "without it the PCID is flushed");
    spare_pt[0] = (uint64_t)frames[0] | 3;
    WRITE_CR(3, (word)other_pml4 | 7);
    descriptor.pcid = 0;
    descriptor.address = address;
    INVPCID(0);
    WRITE_CR(3, cr3 | UINT64_C(1) << 63);
    ok(*p == 0x1111, "INVPCID reaches another PCID");
    page_pml4[1] = 0;
    WRITE_CR(4, cr4);
    WRITE_CR(3, cr3);
    ok(TRY("mov (%0), %%ecx",
           :
           : "r"(p)
           : "rax", "rcx", "memory") == 14,
       "clearing CR4.PCIDE flushes");
}

/* ---- the local APIC ---- */

static volatile uint32_t apic_ticks;
static void on_tick(struct frame *f)
{
    apic_ticks++;
    if (rdmsr(0x1b) & 0x400)
        wrmsr(0x80b, 0);
    else
        apic_write(0xb0, 0);
}
static int try_base(uint64_t value)
{
    return try_wrmsr(0x1b, value);
}

static void test_apic(void)
{
    uint64_t base = rdmsr(0x1b), off = base & ~UINT64_C(0xc00);
    uint32_t version = apic_read(0x30), id = apic_read(0x20);

    set_vector(0x24, on_tick);
    apic_write(0x320, 0x24 | 2 << 17);
    apic_ticks = 0;
    asm volatile("sti");
    wrmsr(0x6e0, rdtsc());
    asm volatile("nop; cli");
    ok(apic_ticks == 1 && rdmsr(0x6e0) == 0, "a TSC deadline that has passed fires at once");
    apic_write(0x320, 0x24 | 1 << 17);
    apic_write(0x380, 0x999999);
    ok(apic_read(0x380) == 0x999999 && apic_read(0x390), "periodic count");
    apic_write(0x320, 0x24);
    apic_write(0x380, 0x30000000); /* 0.8 s: long enough for a busy host */
    while (apic_read(0x390) > 0x18000000)
        ;
    apic_write(0x320, 0x24 | 1 << 17);
    ok(apic_read(0x390) && apic_read(0x390) < 0x18000000, "a change of mode goes on counting");
    apic_write(0x320, 0x24);
    while (apic_read(0x390))
        ;
    ok(apic_read(0x390) == 0, "one-shot again it stops at 0");
    apic_write(0x320, 0x24 | 1 << 17);
    ok(apic_read(0x390) == 0 && apic_read(0x380), "and periodic once more stays there");
    apic_write(0x320, 1 << 16);
    asm volatile("sti; nop; nop; cli");

    ok(try_base(base | 1) == 13 &&
           try_base(base | UINT64_C(1) << (cpuid(0x80000008, 0).a & 0xff)) == 13,
       "reserved bits of APIC_BASE");
    ok(try_base(off | 0x400) == 13, "x2APIC without the APIC is #GP");
    wrmsr(0x1b, off);
    ok(!(cpuid(1, 0).d & 1 << 9), "CPUID hides a disabled APIC");
    ok(*(volatile uint32_t *)0xfee00030 != version, "nothing answers at its page");
    WRITE_CR(8, 5);
    ok(READ_CR(8) == 5, "CR8 lives without it");
    WRITE_CR(8, 0);
    ok(try_base(off | 0xc00) == 13, "x2APIC from disabled is #GP");
    wrmsr(0x1b, (off & 0xfff) | 0xfed40000 | 0x800);
    ok(*(volatile uint32_t *)0xfed40030 == version, "the page moves");
    wrmsr(0x1b, base);
    apic_write(0xf0, 0x1ff);
    ok(apic_read(0x20) == id, "the ID after being enabled again");
    if (!(cpuid(1, 0).c & 1 << 21))
        return;
    wrmsr(0x1b, base | 0xc00);
    ok(try_base(base) == 13, "from x2APIC to xAPIC is #GP");
    ok(rdmsr(0x802) == cpuid(0xb, 0).d && try_wrmsr(0x802, 1) == 13, "the x2APIC ID is fixed");
    wrmsr(0x80f, 0x1ff);
    apic_ticks = 0;
    asm volatile("sti");
    wrmsr(0x83f, 0x24);
    asm volatile("nop; cli");
    ok(apic_ticks == 1, "SELF IPI");
    ok(try_wrmsr(0x83f, 0x124) == 13 && try_wrmsr(0x80b, 1) == 13, "reserved bits are #GP");
    WRITE_CR(8, 9);
    ok(rdmsr(0x808) == 0x90, "CR8 is the TPR");
    WRITE_CR(8, 0);
    wrmsr(0x1b, off);
    wrmsr(0x1b, base);
    apic_write(0xf0, 0x1ff);
    apic_write(0x80, 0);
}

/* ---- I/O APIC by the test device's lines ---- */

static volatile uint32_t io_high, io_low, io_order;
static void on_io_high(struct frame *f)
{
    io_high++;
    io_order = io_order << 4 | 1;
    apic_write(0xb0, 0);
}
static void on_io_low(struct frame *f)
{
    io_low++;
    io_order = io_order << 4 | 2;
    apic_write(0xb0, 0);
}
static void on_io_level(struct frame *f)
{
    if (++io_high == 2)
        outb(0x200e, 0);
    apic_write(0xb0, 0);
}
static uint32_t ioapic_read(unsigned reg)
{
    *(volatile uint32_t *)0xfec00000 = reg;
    return *(volatile uint32_t *)0xfec00010;
}
static void ioapic_write(unsigned reg, uint32_t v)
{
    *(volatile uint32_t *)0xfec00000 = reg;
    *(volatile uint32_t *)0xfec00010 = v;
}
static void route(unsigned pin, uint32_t entry)
{
    ioapic_write(0x11 + 2 * pin, apic_read(0x20));
    ioapic_write(0x10 + 2 * pin, entry);
}
static void toggle(unsigned line)
{
    outb(0x2000 + line, 1);
    outb(0x2000 + line, 0);
}

static void test_ioapic(void)
{
    set_vector(0x38, on_io_high);
    set_vector(0x27, on_io_low);
    route(14, 0x38);
    asm volatile("sti");
    toggle(14);
    asm volatile("nop; cli");
    ok(io_high == 1, "an edge");
    route(15, 0x27);
    toggle(15);
    toggle(14);
    asm volatile("sti; nop; nop; cli");
    ok(io_high == 2 && io_low == 1 && io_order == 0x112,
       "two edges at once, the higher vector first");
    toggle(14);
    toggle(14);
    asm volatile("sti; nop; nop; cli");
    ok(io_high == 3, "two edges while one waits are one");
    io_high = 0;
    set_vector(0x38, on_io_level);
    route(14, 0x38 | 1 << 15);
    outb(0x200e, 1);
    asm volatile("sti; nop; nop; cli");
    ok(io_high == 2, "a level comes again until it is gone");
    route(14, 0x38 | 1 << 15 | 1 << 16);
    io_high = 0;
    outb(0x200e, 1);
    ok(!(ioapic_read(0x10 + 28) & 1 << 14), "a masked level sets no remote IRR");
    outb(0x200e, 0);
    route(14, 1 << 16);
    route(15, 1 << 16);
}

/* ---- instructions on device memory ---- */

static void test_mmio(void)
{
    volatile uint64_t *m = (volatile uint64_t *)0xff000000;
    uint64_t rax, rdx, copy[4] = {1, 2, 3, 4};
    void *si, *di;
    word count;
    uint8_t flag;

    outl(0xe0, 0x12345678);
    ok(inl(0xe0) == 0x12345678, "the echo port");
    m[0] = 0x0123456789abcdef;
    asm volatile("mov $0xfedcba9876543210, %%rax; xchg %%al, (%1); mov %%rax, %0"
                 : "=r"(rax)
                 : "r"(m)
                 : "rax", "memory");
    ok(rax == 0xfedcba98765432ef && m[0] == 0x0123456789abcd10, "XCHG");
    asm volatile("lock incq (%0)" ::"r"(m) : "memory");
    ok(m[0] == 0x0123456789abcd11, "LOCK INC");
    rax = 0x0123456789abcd11;
    asm volatile("lock cmpxchg %3, (%2); sete %1"
                 : "+a"(rax), "=q"(flag)
                 : "r"(m), "r"(77ul)
                 : "memory", "cc");
    ok(flag && m[0] == 77, "CMPXCHG");
    m[1] = 5;
    rax = 77, rdx = 5;
    asm volatile("lock cmpxchg16b (%3); sete %2"
                 : "+a"(rax), "+d"(rdx), "=q"(flag)
                 : "r"(m), "b"(8ul), "c"(9ul)
                 : "memory", "cc");
    ok(flag && m[0] == 8 && m[1] == 9, "CMPXCHG16B");
    si = copy, di = (void *)m, count = 4;
    asm volatile("rep movsq" : "+S"(si), "+D"(di), "+c"(count)::"memory");
    ok(m[0] == 1 && m[3] == 4, "REP MOVS");
    asm volatile("movdqu (%0), %%xmm0; movdqu %%xmm0, 0x1ff8(%0)" ::"r"(m) : "memory");
    ok(m[0x3ff] == 1 && m[0x400] == 2, "SSE across pages");
    m[2] = 0x55;
    asm volatile("push 16(%1); pop %0" : "=r"(rax) : "r"(m));
    ok(rax == 0x55, "PUSH");
    asm volatile("btsq %1, (%0)" ::"r"(m), "r"(130ul) : "memory", "cc");
    ok(m[2] == 0x55, "BTS beyond the operand");
    m[0] = 200;
    asm volatile("xor %%edx, %%edx; mov $1000, %%eax; divq (%1)"
                 : "=a"(rax)
                 : "r"(m)
                 : "rdx", "cc");
    ok(rax == 5, "DIV");
    asm volatile("fildll (%0); fistpll 8(%0)" ::"r"(m) : "memory");
    ok(m[1] == 200, "FILD and FISTP");
    si = "abcdefgh", count = 8;
    asm volatile("rep outsb" : "+S"(si), "+c"(count) : "d"(0xe0) : "memory");
    ok(inb(0xe0) == 'h', "REP OUTS");
    di = copy, count = 3;
    asm volatile("rep insb" : "+D"(di), "+c"(count) : "d"(0xe0) : "memory");
    ok((uint32_t)copy[0] == ('h' | 'h' << 8 | 'h' << 16), "REP INS");
}

/* ---- instructions ---- */

static uint64_t enter_stack[64];
static volatile word enter_rsp, enter_rbp;

static void test_enter(void)
{
    word top = (word)(enter_stack + 60);

    for (unsigned i = 0; i < 64; i++)
        enter_stack[i] = i;
    asm volatile(
        "push %%rbp; mov %%rsp, %%rbx; mov %2, %%rsp; lea -32(%%rsp), %%rbp; enter $24, $3\n"
        "mov %%rsp, %0; mov %%rbp, %1; mov %%rbx, %%rsp; pop %%rbp"
        : "=m"(enter_rsp), "=m"(enter_rbp)
        : "r"(top)
        : "rbx", "memory");
    ok(enter_rbp == top - 8 && enter_rsp == top - 32 - 24, "ENTER of level 3: registers");
    ok(enter_stack[59] == top - 32 && enter_stack[58] == 55 && enter_stack[57] == 54 &&
           enter_stack[56] == top - 8,
       "and its display");
}

/* No address that is not canonical may be taken for one that a translation is cached of. */
static void test_not_canonical(void)
{
    static const word pages[] = {0x0fff000000000000, 0x0fff000000001000, 0x0000800000000000,
                                 0xffff7ffffffff000, 0x1000000000100000};
    unsigned good = 0;

    for (unsigned i = 0; i < sizeof(pages) / sizeof(*pages); i++) {
        word p = pages[i];
        WRITE_CR(3, READ_CR(3));
        good += TRY("mov (%0), %%ecx", : : "r"(p) : "rax", "rcx", "memory") == 13;
        good += TRY("movb $1, (%0)", : : "r"(p) : "rax", "memory") == 13;
        good += TRY("movb $1, 0xfff(%0)", : : "r"(p) : "rax", "memory") == 13;
        good += TRY("lock incl (%0)", : : "r"(p) : "rax", "memory", "cc") == 13;
        good += TRY("jmp *%0", : : "r"(p) : "rax", "memory") == 13;
    }
    ok(good == 25, "addresses that are not canonical are #GP");
    if (good != 25)
        note("good", good);
}

/* A branch to an address that shares its low 47 bits with code that ran: #GP all the same. */
static void test_not_canonical_branch(void)
{
    static const uint8_t code[] = {0x48, 0xff, 0xc1, 0xff, 0xe3}; /* inc rcx; jmp rbx */
    static uint8_t area[16] __attribute__((aligned(16)));
    unsigned good = 0;

    for (unsigned i = 0; i < sizeof(code); i++)
        area[i] = code[i];
    /* The keys of decoded code may mix bits of the mode, such as CR0.TS, with those above the
     * address. */
    for (unsigned bit = 47; bit < 64; bit++) {
        WRITE_CR(0, READ_CR(0) | 8);
        for (unsigned i = 0; i < 4; i++)
            asm volatile("lea 1f(%%rip), %%rbx; jmp *%0\n 1:" ::"r"(area) : "rbx", "rcx", "memory");
        asm volatile("clts");
        good += TRY("lea 1f(%%rip), %%rbx; jmp *%0\n 1:",
                    :
                    : "r"((word)area ^ (word)1 << bit)
                    : "rax", "rbx", "rcx", "memory") == 13;
    }
    ok(good == 17, "branches to such addresses are, too");
    if (good != 17)
        note("good", good);
}

/* Displacements of 2 GiB from the end of the instruction. */
static void test_far_displacement(void)
{
    static uint8_t code[64] __attribute__((aligned(16)));
    word old = page_directories[(((word)code >> 21) + 1023) & 2047], end, target;
    unsigned n = 0;

    for (unsigned i = 0; i < 16; i++)
        code[n++] = 0x90;
    code[n++] = 0x8b; /* mov eax, [rip + 0x7fffffff] */
    code[n++] = 0x05;
    code[n++] = 0xff, code[n++] = 0xff, code[n++] = 0xff, code[n++] = 0x7f;
    end = (word)code + n;
    code[n++] = 0xc3;
    (void)old;
    target = end + 0x7fffffff;
    /* Nothing but RAM's first 64 MiB is there: map the page of the target on a frame of ours. */
    uint64_t *entry = &page_directories[target >> 21], saved = *entry;
    *entry = ((word)spare_pt) | 3;
    for (unsigned i = 0; i < 512; i++)
        spare_pt[i] = (uint64_t)frames[0] | 3;
    invlpg((void *)target);
    for (unsigned i = 0; i < 1024; i++)
        frames[0][i] = 0xabababab;
    ok(((uint32_t(*)(void))code)() == 0xabababab, "a RIP-relative operand 2 GiB on");
    *entry = saved;
    WRITE_CR(3, READ_CR(3));
}

/* ---- x87 errors by interrupt 13 ---- */

static volatile uint32_t fpu_errors;
static volatile uint16_t fpu_status;
static void on_fpu(struct frame *f)
{
    fpu_errors++;
    outb(0xf0, 0);
    asm volatile("fwait; fnstsw %0; fnclex" : "=m"(fpu_status));
    outb(0xa0, 0x20);
    outb(0x20, 0x20);
}

static void test_ferr(void)
{
    uint16_t control = 0x37b;

    outb(0x20, 0x11), outb(0x21, 0x28), outb(0x21, 4), outb(0x21, 1);
    outb(0xa0, 0x11), outb(0xa1, 0x30), outb(0xa1, 2), outb(0xa1, 1);
    outb(0x21, 0xfb);
    outb(0xa1, 0xdf);
    apic_write(0x350, 0x700);
    set_vector(0x35, on_fpu);
    WRITE_CR(0, READ_CR(0) & ~(word)0x20);
    for (int i = 0; i < 2; i++) {
        asm volatile(
            "fninit; fldcw %0; sti; fld1; fldz; .byte 0xde, 0xf9; fwait; cli" ::"m"(control));
        ok(fpu_errors == i + 1u && (fpu_status & 0x84) == 0x84,
           i ? "and again" : "an x87 error is interrupt 13");
    }
    WRITE_CR(0, READ_CR(0) | 0x20);
    asm volatile("fninit");
    outb(0x21, 0xff);
    outb(0xa1, 0xff);
    apic_write(0x350, 1 << 16);
}

/* ---- SYSCALL and TF ---- */

static volatile uint64_t lstar_r11;
extern char tf_entry[], tf_back[];
asm(".globl tf_entry\ntf_entry: mov %r11, lstar_r11(%rip)\n jmp tf_back\n");
static void test_syscall_tf(void)
{
    wrmsr(0xc0000080, rdmsr(0xc0000080) | 1);
    wrmsr(0xc0000081, UINT64_C(0x18) << 32 | UINT64_C(0x2b) << 48);
    wrmsr(0xc0000082, (uint64_t)tf_entry);
    wrmsr(0xc0000084, 0x300);
    set_vector(1, on_db);
    db_count = 0;
    asm volatile(
        "pushf; orl $0x100, (%%rsp); popf; syscall\n.globl tf_back\ntf_back: mov %0, %%ss" ::"b"(
            0x10)
        : "rcx", "r11", "memory");
    ok(db_count == 0 && lstar_r11 & 0x100, "SYSCALL that masks TF does not trap");
    set_vector(1, 0);
}

int main(void)
{
    idt_init();
    apic_enable();
    test_steps();
    test_step_loop();
    test_watchpoints();
    test_events();
    test_msrs();
    test_pcid();
    test_apic();
    test_ioapic();
    test_mmio();
    test_enter();
    test_not_canonical();
    test_not_canonical_branch();
    test_far_displacement();
    test_ferr();
    test_syscall_tf();
    return done();
}

void ap_main(int index)
{
}
