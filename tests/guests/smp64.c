/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Local APIC timer, IPIs, PIT through the IOAPIC and PIC, processor startup, locked operations
 * across processors. */
#include "lib.h"

extern char ap_trampoline[], ap_trampoline_end[];
static volatile uint32_t ap_started, ap_finished, timer_ticks, ipis, pit_ticks, nmis;
static volatile uint32_t go, counter_locked, shootdowns[32];
static volatile uint64_t big[2] __attribute__((aligned(16)));
static volatile uint32_t split_area[32] __attribute__((aligned(64)));

static void eoi(void)
{
    apic_write(0xb0, 0);
}
static void on_timer(struct frame *f)
{
    timer_ticks++;
    eoi();
}
static void on_ipi(struct frame *f)
{
    ipis++;
    eoi();
}
static void on_pit(struct frame *f)
{
    pit_ticks++;
    eoi();
}
static void on_pic(struct frame *f)
{
    pit_ticks++;
    outb(0x20, 0x20);
}
static void on_nmi(struct frame *f)
{
    nmis++;
}
static void on_shootdown(struct frame *f)
{
    shootdowns[apic_read(0x20) >> 24 & 31]++;
    eoi();
}

static void work(void)
{
    for (int i = 0; i < 100000; i++) {
        asm volatile("lock incl %0" : "+m"(counter_locked));
        if (i % 64 == 0) {
            uint64_t low = big[0], high = big[1];
            bool done_;
            do
                asm volatile("lock cmpxchg16b %1; sete %0"
                             : "=q"(done_), "+m"(big), "+a"(low), "+d"(high)
                             : "b"(low + 1), "c"(high + 2)
                             : "cc", "memory");
            while (!done_);
            asm volatile("lock incl %0" : "+m"(*(volatile uint32_t *)((char *)split_area + 62)));
        }
    }
}

/* NMIs of two senders at once: neither is lost. */
enum { NMI_ROUNDS = 2000 };
static volatile uint32_t round_0, round_1, flushed, nmis_lost;
static void on_flush(struct frame *f)
{
    flushed = 1;
    eoi();
}

static void send(uint32_t command)
{
    apic_write(0x310, 0);
    apic_write(0x300, command | 1 << 14);
}

static void kick(void)
{
    for (uint32_t i = 1; i <= NMI_ROUNDS; i++) {
        while (round_0 != i)
            asm volatile("pause");
        send(4 << 8);
        send(36); /* arrives after the NMI */
        round_1 = i;
    }
}

static void test_nmis(void)
{
    set_vector(36, on_flush);
    asm volatile("sti");
    for (uint32_t i = 1; i <= NMI_ROUNDS; i++) {
        flushed = 0;
        nmis = 0;
        round_0 = i;
        send(4 << 8);
        while (!flushed || round_1 != i)
            asm volatile("pause");
        nmis_lost += nmis != 2;
    }
    asm volatile("cli");
    ok(nmis_lost == 0, "NMIs of two processors at once arrive both");
}

void ap_main(int index)
{
    idt_init();
    wrmsr(0x1b, rdmsr(0x1b) | 0x800);
    apic_write(0xf0, 0x1ff);
    asm volatile("lock incl %0" : "+m"(ap_started));
    while (!go)
        asm volatile("pause");
    work();
    asm volatile("lock incl %0" : "+m"(ap_finished));
    if (index == 1)
        kick();
    for (;;)
        asm volatile("sti; hlt");
}

static void test_timer(void)
{
    set_vector(32, on_timer);
    apic_write(0x3e0, 0xb);
    apic_write(0x320, 32);
    apic_write(0x380, 100000);
    ok(wait_for(&timer_ticks, 1), "one-shot timer");
    ok(apic_read(0x390) == 0, "its count ends at 0");
    apic_write(0x320, 32 | 1 << 17);
    timer_ticks = 0;
    apic_write(0x380, 100000);
    ok(wait_for(&timer_ticks, 10), "periodic timer");
    apic_write(0x380, 0);
    asm volatile("sti; nop; nop; cli"); /* a tick that is already pending */
    if (cpuid(1, 0).c & 1 << 24) {
        apic_write(0x320, 32 | 2 << 17);
        timer_ticks = 0;
        wrmsr(0x6e0, rdtsc() + 1000000);
        ok(wait_for(&timer_ticks, 1), "TSC deadline");
        ok(rdmsr(0x6e0) == 0, "the deadline disarms itself");
    }
    apic_write(0x320, 1 << 16);
    /* A timer must wake HLT. */
    apic_write(0x320, 32);
    timer_ticks = 0;
    apic_write(0x380, 200000);
    asm volatile("sti; hlt; cli");
    ok(timer_ticks == 1, "the timer ends HLT");
}

static void test_ipis(void)
{
    set_vector(33, on_ipi);
    apic_write(0x310, 0);
    apic_write(0x300, 33 | 1 << 18);
    ok(wait_for(&ipis, 1), "self IPI");
    set_vector(2, on_nmi);
    apic_write(0x300, 4 << 8 | 1 << 18);
    apic_write(0x310, apic_read(0x20));
    apic_write(0x300, 4 << 8);
    ok(nmis == 1 || wait_for(&nmis, 1), "NMI to itself by physical destination");
    apic_write(0x80, 0x30);
    ipis = 0;
    apic_write(0x300, 33 | 1 << 18);
    asm volatile("sti; nop; nop; cli");
    ok(ipis == 0 && (apic_read(0x210) & 2), "TPR holds a lower vector back");
    WRITE_CR(8, 0);
    ok(wait_for(&ipis, 1), "lowering CR8 lets it in");
}

static void ioapic(unsigned reg, uint32_t value)
{
    *(volatile uint32_t *)0xfec00000 = reg;
    *(volatile uint32_t *)0xfec00010 = value;
}

static void test_pit(void)
{
    set_vector(34, on_pit);
    ioapic(0x14, 34);
    ioapic(0x15, apic_read(0x20));
    outb(0x43, 0x34);
    outb(0x40, 0x00);
    outb(0x40, 0x10);
    ok(wait_for(&pit_ticks, 3), "PIT through IOAPIC pin 2");
    ioapic(0x14, 1 << 16);
    /* PIC in virtual wire mode through LINT0. */
    set_vector(0x28, on_pic);
    outb(0x20, 0x11), outb(0x21, 0x28), outb(0x21, 4), outb(0x21, 1);
    outb(0x21, 0xfe);
    apic_write(0x350, 0x700);
    pit_ticks = 0;
    ok(wait_for(&pit_ticks, 3), "PIT through the PIC and LINT0");
    outb(0x21, 0xff);
    apic_write(0x350, 1 << 16);
}

static void delay(uint64_t ticks)
{
    for (uint64_t end = rdtsc() + ticks; rdtsc() < end;)
        asm volatile("pause");
}

static void test_smp(void)
{
    uint32_t others, expected = cpuid(0, 0).a >= 11 ? cpuid(11, 1).b & 0xffff : 0;

    for (char *from = ap_trampoline, *to = (char *)0x8000; from < ap_trampoline_end;)
        *to++ = *from++;
    apic_write(0x300, 0xc4500);
    delay(10000000);
    apic_write(0x300, 0xc4608);
    delay(100000000);
    apic_write(0x300, 0xc4608);
    delay(100000000);
    /* All that CPUID tells of; without that, until no more come. */
    wait_for(&ap_started, expected ? expected - 1 : 0);
    for (uint32_t before = ~0u; before != ap_started; delay(200000000))
        before = ap_started;
    others = ap_started;
    note("other processors", others);
    ok(others >= 1, "STARTUP IPIs start other processors");
    go = 1;
    work();
    ok(wait_for(&ap_finished, others), "all processors finish");
    ok(counter_locked == 100000 * (others + 1), "LOCK INC loses nothing");
    ok(big[0] == 1563 * (others + 1) && big[1] == 2 * big[0], "LOCK CMPXCHG16B loses nothing");
    ok(*(volatile uint32_t *)((char *)split_area + 62) == 1563 * (others + 1),
       "split LOCK loses nothing");
    test_nmis();
    set_vector(35, on_shootdown);
    apic_write(0x300, 0xc0000 | 35);
    uint32_t got = 0;
    for (uint64_t end = rdtsc() + UINT64_C(60000000000); got < others && rdtsc() < end;) {
        got = 0;
        for (int i = 0; i < 32; i++)
            got += shootdowns[i] ? 1 : 0;
    }
    ok(got == others, "a broadcast IPI wakes every halted processor");
}

/* However often the machine is paused or changes its engine meanwhile: kernels measure one clock by
 * another, and wait for one by the other. */
static void test_time(void)
{
    volatile uint64_t *hpet = (volatile uint64_t *)0xfed00000;
    uint64_t tsc_khz = cpuid(0x40000010, 0).a, femtoseconds = hpet[0] >> 32, tsc, counts;

    hpet[0x10 / 8] |= 1;
    tsc = rdtsc();
    counts = hpet[0xf0 / 8];
    while ((hpet[0xf0 / 8] - counts) * femtoseconds / 1000000 < 500000000)
        asm volatile("pause");
    uint64_t by_hpet = (hpet[0xf0 / 8] - counts) * femtoseconds / 1000000;
    uint64_t by_tsc = (rdtsc() - tsc) * 1000000 / tsc_khz;
    note("by HPET", by_hpet);
    note("by TSC", by_tsc);
    ok(by_tsc > by_hpet - by_hpet / 8 && by_tsc < by_hpet + by_hpet / 8,
       "TSC and HPET count alike");
}

int main(void)
{
    idt_init();
    apic_enable();
    test_time();
    test_timer();
    test_ipis();
    test_pit();
    test_smp();
    return done();
}
