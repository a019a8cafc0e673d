/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the machine offers guests that know they are one, KVM's way and Hyper-V's (--paravirt both):
 * clocks that agree on all processors, the end of an interrupt by a bit in memory, hypercalls that
 * say there are none. */
#include "lib.h"

enum {
    IPI = 40,
    HIGH = 50,
    KVM_WALL_CLOCK = 0x4b564d00,
    KVM_SYSTEM_TIME = 0x4b564d01,
    KVM_EOI = 0x4b564d04,
    HV_GUEST_OS = 0x40000000,
    HV_HYPERCALL = 0x40000001,
    HV_VP_INDEX = 0x40000002,
    HV_TIME = 0x40000020,
    HV_REFERENCE_TSC = 0x40000021,
    HV_TSC_HZ = 0x40000022,
    HV_EOI = 0x40000070,
    HV_ICR = 0x40000071,
    HV_TPR = 0x40000072,
    HV_ASSIST = 0x40000073,
    CPUS = 32,
    READINGS = 20000,
    ROUNDS = 1000,
};

struct kvm_time {
    uint32_t version, pad;
    uint64_t tsc, ns;
    uint32_t multiplier;
    int8_t shift;
    uint8_t flags, pad2[2];
};
struct reference_tsc {
    volatile uint32_t sequence, pad;
    volatile uint64_t scale;
    volatile int64_t offset;
};

extern char ap_trampoline[], ap_trampoline_end[];
static volatile struct kvm_time kvm_times[CPUS] __attribute__((aligned(64)));
static volatile uint32_t eoi_word __attribute__((aligned(4096)));
static volatile uint32_t wall_clock[3] __attribute__((aligned(16)));
static struct reference_tsc reference __attribute__((aligned(4096)));
static uint8_t hypercall_page[4096] __attribute__((aligned(4096)));
static volatile uint32_t assist_page[1024] __attribute__((aligned(4096)));
static volatile uint32_t started, finished, go, backward, wrong_index;
static volatile uint64_t newest[2];
static uint32_t kvm, hyperv;

static uint64_t multiply_high(uint64_t a, uint64_t b)
{
    uint64_t low, high;
    asm("mulq %3" : "=a"(low), "=d"(high) : "0"(a), "r"(b) : "cc");
    return high;
}

/* ---- clocks ---------------------------------------------------------------------------------- */

static uint64_t kvm_now(unsigned cpu)
{
    volatile struct kvm_time *t = &kvm_times[cpu];
    uint32_t version;
    uint64_t ns;

    do {
        version = t->version;
        uint64_t delta = rdtsc() - t->tsc;
        delta = t->shift < 0 ? delta >> -t->shift : delta << t->shift;
        ns = t->ns + multiply_high(delta << 16, (uint64_t)t->multiplier << 16);
    } while (version & 1 || version != t->version);
    return ns;
}

static uint64_t reference_now(void)
{
    return multiply_high(rdtsc(), reference.scale) + reference.offset;
}

/* The newest time that any processor has read is never newer than one read after it. */
static void check_forward(volatile uint64_t *last, uint64_t (*now)(unsigned), unsigned cpu)
{
    for (int i = 0; i < READINGS; i++) {
        uint64_t before = *last;
        asm volatile("lfence" ::: "memory");
        uint64_t mine = now(cpu);
        if (mine < before)
            asm volatile("lock incl %0" : "+m"(backward));
        while (before < mine)
            asm volatile("lock cmpxchgq %2, %1"
                         : "+a"(before), "+m"(*last)
                         : "r"(mine)
                         : "cc", "memory");
    }
}

static uint64_t reference_on(unsigned cpu)
{
    return cpu & 1 ? reference_now() : rdmsr(HV_TIME);
}

static void check_clocks(unsigned cpu)
{
    wrmsr(KVM_SYSTEM_TIME, (word)&kvm_times[cpu] | 1);
    if (rdmsr(HV_VP_INDEX) != cpu)
        asm volatile("lock incl %0" : "+m"(wrong_index));
    check_forward(&newest[0], kvm_now, cpu);
    check_forward(&newest[1], reference_on, cpu);
}

void ap_main(int index)
{
    (void)index;
    idt_init();
    apic_write(0xf0, 0x1ff);
    asm volatile("lock incl %0" : "+m"(started));
    while (!go)
        asm volatile("pause");
    check_clocks(apic_read(0x20) >> 24 & (CPUS - 1));
    asm volatile("lock incl %0" : "+m"(finished));
    for (;;)
        asm volatile("cli; hlt");
}

static void delay(uint64_t ticks)
{
    for (uint64_t end = rdtsc() + ticks; rdtsc() < end;)
        asm volatile("pause");
}

static void start_others(uint32_t count)
{
    for (char *from = ap_trampoline, *to = (char *)0x8000; from < ap_trampoline_end;)
        *to++ = *from++;
    apic_write(0x300, 0xc4500);
    delay(10000000);
    apic_write(0x300, 0xc4608);
    wait_for(&started, count);
}

/* Nanoseconds of the HPET, by a clock of the board's own. */
static uint64_t hpet_ns(void)
{
    volatile uint64_t *hpet = (volatile uint64_t *)0xfed00000;
    return hpet[0xf0 / 8] * (hpet[0] >> 32) / 1000000;
}

struct sample {
    uint64_t early, kvm, reference, late;
};
static struct sample take_sample(void)
{
    struct sample s = {.early = hpet_ns()};
    s.kvm = kvm_now(0);
    s.reference = reference_now() * 100;
    s.late = hpet_ns();
    return s;
}

/* `passed` lies between what the HPET says at least and at most, but for a thousandth. */
static bool agrees(uint64_t passed, const struct sample *from, const struct sample *to)
{
    uint64_t least = to->early - from->late, most = to->late - from->early;
    return passed + passed / 1000 + 1000 >= least && passed <= most + most / 1000 + 1000;
}

static void test_clocks(void)
{
    uint32_t others = (cpuid(11, 1).b & 0xffff) - 1;

    wrmsr(KVM_WALL_CLOCK, (word)wall_clock);
    ok(wall_clock[0] % 2 == 0 && wall_clock[1] > 1700000000 && wall_clock[2] < 1000000000,
       "KVM's wall clock knows the year");
    wrmsr(HV_REFERENCE_TSC, (word)&reference | 1);
    ok(reference.sequence && reference.sequence != ~0u, "the reference TSC page counts");
    ok(rdmsr(HV_REFERENCE_TSC) == ((word)&reference | 1), "its register reads back");
    start_others(others);
    note("other processors", started);
    go = 1;
    check_clocks(0);
    ok(wait_for(&finished, others), "all processors read the clocks");
    ok(!backward, "no clock goes backward between processors");
    ok(!wrong_index, "each processor knows its number");
    ok(kvm_times[0].flags == 1 && kvm_times[0].version && kvm_times[0].version % 2 == 0,
       "KVM's clock is stable");

    volatile uint64_t *hpet = (volatile uint64_t *)0xfed00000;
    hpet[0x10 / 8] |= 1;
    struct sample from = take_sample();
    while (hpet_ns() - from.late < 200000000)
        asm volatile("pause");
    struct sample to = take_sample();
    ok(agrees(to.kvm - from.kvm, &from, &to), "KVM's clock goes as the HPET does");
    ok(agrees(to.reference - from.reference, &from, &to), "Hyper-V's clock goes as the HPET does");
    uint64_t a = rdmsr(HV_TIME), b = reference_now(), c = rdmsr(HV_TIME);
    ok(a <= b && b <= c, "Hyper-V's two clocks are one");
    uint64_t before = rdtsc(), ns = kvm_now(0);
    wrmsr(0x10, before + UINT64_C(1000000000000));
    ok(kvm_now(0) - ns < 1000000000000 / 8 && kvm_times[0].flags == 0,
       "a written TSC does not move KVM's clock");
}

/* ---- the end of interrupts ------------------------------------------------------------------- */

static volatile uint32_t *bit;
static volatile uint32_t ipis, by_bit, highs, high_bits, lower_had_bit;

static bool end_by_bit(void)
{
    bool was;
    asm volatile("btrl $0, %1; setc %0" : "=q"(was), "+m"(*bit) : : "cc");
    return was;
}

static void on_ipi(struct frame *f)
{
    (void)f;
    if (end_by_bit())
        by_bit++;
    else
        apic_write(0xb0, 0);
    ipis++;
}

static void on_high(struct frame *f)
{
    (void)f;
    if (end_by_bit())
        high_bits++;
    else
        wrmsr(HV_EOI, 0);
    highs++;
}

/* Does not say its end before a more urgent one has come and gone. */
static void on_low(struct frame *f)
{
    (void)f;
    uint32_t seen = highs;
    apic_write(0x300, HIGH | 1 << 18);
    asm volatile("sti");
    while (highs == seen)
        asm volatile("pause");
    asm volatile("cli");
    if (end_by_bit())
        lower_had_bit++;
    else
        apic_write(0xb0, 0);
    ipis++;
}

static void send_self(unsigned vector)
{
    apic_write(0x310, 0);
    apic_write(0x300, vector | 1 << 18);
}

static void test_eoi(const char *all, const char *nested, const char *held)
{
    bool good = true;

    set_vector(IPI, on_ipi);
    set_vector(HIGH, on_high);
    ipis = by_bit = 0;
    for (uint32_t i = 1; i <= ROUNDS && good; i++) {
        send_self(IPI);
        good = wait_for(&ipis, i);
    }
    note("ended by the bit", by_bit);
    ok(good && by_bit == ROUNDS, all);
    ok(!(apic_read(0x110) & 1 << (IPI - 32)), held);

    set_vector(IPI, on_low);
    ipis = highs = lower_had_bit = 0;
    for (uint32_t i = 1; i <= ROUNDS && good; i++) {
        send_self(IPI);
        good = wait_for(&ipis, i);
    }
    ok(good && highs == ROUNDS && lower_had_bit == 0, nested);
    *bit = 0;
}

static void test_hyperv_apic(void)
{
    uint64_t self = (uint64_t)apic_read(0x20) << 32;

    set_vector(IPI, on_ipi);
    ipis = 0;
    wrmsr(HV_ICR, self | IPI);
    ok(wait_for(&ipis, 1), "the ICR register sends");
    wrmsr(HV_TPR, 0xf0);
    ok(rdmsr(HV_TPR) == 0xf0 && apic_read(0x80) == 0xf0, "the TPR register sets and tells");
    wrmsr(HV_TPR, 0);
    ok(TRY("mov $0x40000070, %%ecx; rdmsr",
           :
           :
           : TRY_AX, "rcx", "rdx", "memory") == 13,
       "the EOI register cannot be read");
}

static void test_hypercall(void)
{
    uint64_t result, control = 8, kept = 77;

    wrmsr(HV_HYPERCALL, (word)hypercall_page | 1);
    ok(rdmsr(HV_HYPERCALL) == 0, "no hypercalls before the guest says what it is");
    wrmsr(HV_GUEST_OS, UINT64_C(0x8100) << 48);
    wrmsr(HV_HYPERCALL, (word)hypercall_page | 1);
    ok(rdmsr(HV_HYPERCALL) == ((word)hypercall_page | 1), "the hypercall page is there");
    asm volatile("call *%2"
                 : "=a"(result), "+d"(kept)
                 : "r"(hypercall_page), "c"(control)
                 : "r8", "memory", "cc");
    ok(result == 2 && kept == 77, "an unknown hypercall says so");
    wrmsr(HV_GUEST_OS, 0);
    ok(rdmsr(HV_HYPERCALL) == 0, "and goes with the guest's name");
}

static void find_leaves(void)
{
    for (uint32_t base = 0x40000000; base <= 0x40000100; base += 0x100) {
        struct cpuid v = cpuid(base, 0);
        if (v.b == 0x4b4d564b && v.c == 0x564b4d56 && v.d == 0x4d)
            kvm = base;
        if (v.b == 0x7263694d && v.c == 0x666f736f && v.d == 0x76482074)
            hyperv = base;
    }
}

int main(void)
{
    idt_init();
    apic_enable();
    find_leaves();
    ok(kvm && (cpuid(kvm + 1, 0).a & 0x1000048) == 0x1000048,
       "KVM's leaves tell of clock and end of interrupt");
    ok(hyperv && cpuid(hyperv + 1, 0).a == 0x31237648 && (cpuid(hyperv + 3, 0).a & 0x272) == 0x272,
       "Hyper-V's leaves tell of clocks, APIC, VP index");
    ok(rdmsr(HV_TSC_HZ) / 1000 == cpuid(kvm + 0x10, 0).a, "both know the TSC's rate");
    test_clocks();
    bit = &eoi_word;
    wrmsr(KVM_EOI, (word)bit | 1);
    test_eoi("KVM's bit ends interrupts", "KVM's bit is taken from one that another interrupts",
             "ended ones are not in service");
    wrmsr(KVM_EOI, 0);
    bit = assist_page;
    wrmsr(HV_ASSIST, (word)bit | 1);
    test_eoi("the assist page ends interrupts",
             "the assist page tells of the most urgent one alone",
             "ended ones are not in service, either");
    test_hyperv_apic();
    wrmsr(HV_ASSIST, 0);
    test_hypercall();
    return done();
}
