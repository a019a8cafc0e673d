/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What processors do to each other: locks, IPIs, TLB shootdown, code that is written or mapped anew
 * while others run it. Any number of processors; each phase is run by all at once. */
#include "lib.h"

enum { P = 1, W = 2, WINDOW = 1, MAX_CPUS = 32, VECTOR_SHOOT = 40, VECTOR_PING = 41 };
enum {
    LOCK_ROUNDS = 20000,
    WRITES = 3000,
    REMAPS = 400,
    SELF_ROUNDS = 600,
    PINGS = 100,
    ROUNDINGS = 3000
};

extern char ap_trampoline[], ap_trampoline_end[];
extern uint64_t page_pml4[512];
static uint64_t pdpt_page[512] __attribute__((aligned(4096)));
static uint64_t directory_page[512] __attribute__((aligned(4096)));
static uint64_t table[512] __attribute__((aligned(4096)));
static uint8_t page_a[4096] __attribute__((aligned(4096)));
static uint8_t page_b[4096] __attribute__((aligned(4096)));
static uint8_t shared_code[4096] __attribute__((aligned(4096)));
static uint8_t own_code[MAX_CPUS][4096] __attribute__((aligned(4096)));

static volatile uint32_t others, phase, arrived, errors, stop, acks, pings;
static volatile uint32_t lock, plain_counter, locked_counter, generation;
static volatile uint32_t split_area[32] __attribute__((aligned(64)));
#define SPLIT (*(volatile uint32_t *)((char *)split_area + 62))

static void count(volatile uint32_t *counter)
{
    asm volatile("lock incl %0" : "+m"(*counter));
}
static void eoi(void)
{
    apic_write(0xb0, 0);
}
static uint32_t run(const void *code, uint32_t value)
{
    asm volatile("call *%1" : "+a"(value) : "r"(code) : "memory", "cc");
    return value;
}
static void expect(bool good)
{
    if (!good)
        count(&errors);
}

/* ---- locks ----------------------------------------------------------------------------------- */

static void locks(unsigned index)
{
    for (int i = 0; i < LOCK_ROUNDS; i++) {
        uint32_t taken = 1;
        for (;;) {
            asm volatile("xchgl %0, %1" : "+r"(taken), "+m"(lock) : : "memory");
            if (!taken)
                break;
            while (lock)
                asm volatile("pause");
            taken = 1;
        }
        plain_counter++;
        asm volatile("" ::: "memory");
        lock = 0;
        count(&locked_counter);
        if (i % 64 == 0)
            count(&SPLIT);
    }
}

static void check_locks(void)
{
    uint32_t cpus = others + 1;
    ok(plain_counter == LOCK_ROUNDS * cpus, "a lock lets one in at a time");
    ok(locked_counter == LOCK_ROUNDS * cpus, "locked increments are all counted");
    ok(SPLIT == (LOCK_ROUNDS + 63) / 64 * cpus, "and so are those across a cache line");
}

/* ---- code written by itself ------------------------------------------------------------------ */

/* mov [rip + 1], al; mov eax, imm32; ret: the byte goes into the next instruction. */
static void self_modifying(unsigned index)
{
    static const uint8_t bytes[] = {0x88, 0x05, 1, 0, 0, 0, 0xb8, 0, 0, 0, 0, 0xc3};
    uint8_t *code = own_code[index];
    for (unsigned i = 0; i < sizeof(bytes); i++)
        code[i] = bytes[i];
    for (unsigned i = 0; i < SELF_ROUNDS; i++)
        expect(run(code, i & 0xff) == (i & 0xff));
}

/* ---- code written by another processor ------------------------------------------------------- */

/* Ways to count an operand up, by one writer. */
static void add_one(volatile uint32_t *operand, uint32_t way)
{
    if (way == 0)
        *operand = *operand + 1;
    else if (way == 1)
        asm volatile("incl %0" : "+m"(*operand));
    else if (way == 2)
        asm volatile("lock incl %0" : "+m"(*operand));
    else {
        uint32_t value = *operand + 1;
        uint64_t n = 1;
        asm volatile("rep stosl" : "+D"(operand), "+c"(n) : "a"(value) : "memory");
    }
}

/* mov eax, imm32 with an aligned operand; ret. Other code of the page stays as it is. */
static void cross_modifying(unsigned index)
{
    volatile uint32_t *operand = (uint32_t *)(shared_code + 4);
    const uint8_t *code = shared_code + 3, *other = shared_code + 1024;
    uint32_t last = 0;
    if (index) {
        while (!stop) {
            cpuid(0, 0); /* serializes */
            uint32_t value = run(code, 0);
            expect(value >= last && value <= *operand);
            last = value;
            expect(run(other, 0) == 1);
        }
        cpuid(0, 0);
        expect(run(code, 0) == WRITES);
        return;
    }
    for (uint32_t i = 1; i <= WRITES; i++) {
        add_one(operand, i % 4);
        if (i / 4 % 4 == 0)
            expect(run(code, 0) == i);
    }
    stop = 1;
}

/* ---- mappings -------------------------------------------------------------------------------- */

static uint8_t *const window = (uint8_t *)((uint64_t)WINDOW << 39);

static void on_shootdown(struct frame *f)
{
    invlpg(window);
    count(&acks);
    eoi();
}

static void map_window(const uint8_t *page)
{
    table[0] = (uint64_t)page | P | W;
    invlpg(window);
}

/* Even generations are stable: all processors have dropped the mapping before. */
static void remapping(unsigned index)
{
    if (index) {
        asm volatile("sti");
        while (!stop) {
            uint32_t before = generation;
            asm volatile("" ::: "memory");
            uint32_t value = window[256], code = run(window, 0);
            asm volatile("" ::: "memory");
            if (before == generation && before % 2 == 0)
                expect(value == code && value == (before / 2 % 2 ? 2 : 1));
        }
        asm volatile("cli");
        return;
    }
    for (uint32_t i = 1; i <= REMAPS; i++) {
        generation++;
        acks = 0;
        map_window(i % 2 ? page_b : page_a);
        if (others) {
            apic_write(0x310, 0);
            apic_write(0x300, 0xc0000 | VECTOR_SHOOT); /* all but this */
        }
        while (acks < others)
            asm volatile("pause");
        generation++;
        expect(window[256] == run(window, 0) && window[256] == (i % 2 ? 2 : 1));
    }
    stop = 1;
}

static void prepare_pages(void)
{
    uint8_t *const pages[] = {page_a, page_b};
    for (unsigned i = 0; i < 2; i++) {
        pages[i][0] = 0xb8; /* mov eax, i + 1; ret */
        pages[i][1] = i + 1;
        pages[i][5] = 0xc3;
        pages[i][256] = i + 1;
    }
    shared_code[3] = shared_code[1024] = 0xb8;
    shared_code[8] = shared_code[1029] = 0xc3;
    shared_code[1025] = 1;
    directory_page[0] = (uint64_t)table | P | W;
    pdpt_page[0] = (uint64_t)directory_page | P | W;
    page_pml4[WINDOW] = (uint64_t)pdpt_page | P | W;
    map_window(page_a);
}

/* ---- interrupts ------------------------------------------------------------------------------ */

static void on_ping(struct frame *f)
{
    count(&pings);
    eoi();
}

static void pinging(unsigned index)
{
    if (index) {
        while (!stop)
            asm volatile("sti; hlt; cli");
        return;
    }
    for (uint32_t target = 1; target <= others; target++)
        for (uint32_t i = 0; i < PINGS; i++) {
            uint32_t before = pings;
            apic_write(0x310, target << 24);
            apic_write(0x300, 1 << 14 | VECTOR_PING);
            while (pings == before)
                asm volatile("pause");
        }
    expect(pings == PINGS * others);
    stop = 1;
    if (others)
        apic_write(0x300, 0xc0000 | 1 << 14 | VECTOR_PING);
}

/* ---- floating point -------------------------------------------------------------------------- */

/* 2.75 and -2.75, rounded as RC says: to the nearest, down, up, towards zero. */
static const uint64_t halves[] = {UINT64_C(0x4006000000000000), UINT64_C(0xc006000000000000)};
static const int32_t rounded[4][2] = {{3, -3}, {2, -3}, {3, -2}, {2, -2}};

/* Each processor rounds in its own way all the while. */
static void rounding(unsigned index)
{
    unsigned way = index % 4;
    uint32_t mxcsr = 0x1f80 | way << 13, mxcsr_now;
    uint16_t control = 0x37f | way << 10, control_now;
    WRITE_CR(0, (READ_CR(0) & ~4l) | 2);
    WRITE_CR(4, READ_CR(4) | 0x600);
    asm volatile("fninit; fldcw %0; ldmxcsr %1" : : "m"(control), "m"(mxcsr));
    for (unsigned i = 0; i < ROUNDINGS; i++) {
        int32_t by_sse, by_x87;
        asm volatile("cvtsd2si %4, %0; fldl %4; fistpl %1; stmxcsr %2; fnstcw %3"
                     : "=r"(by_sse), "=m"(by_x87), "=m"(mxcsr_now), "=m"(control_now)
                     : "m"(halves[i % 2]));
        expect(by_sse == rounded[way][i % 2] && by_x87 == rounded[way][i % 2]);
        expect((mxcsr_now & ~0x3fu) == mxcsr && control_now == control);
        if (i % 64 == 0)
            cpuid(0, 0);
    }
}

/* ---- all together ---------------------------------------------------------------------------- */

static void (*const phases[])(unsigned index) = {locks,     self_modifying, cross_modifying,
                                                 remapping, pinging,        rounding};

void ap_main(int index)
{
    idt_init();
    wrmsr(0x1b, rdmsr(0x1b) | 0x800);
    apic_write(0xf0, 0x1ff);
    unsigned own = apic_read(0x20) >> 24;
    count(&others);
    for (uint32_t done_ = 0;;) {
        while (phase == done_)
            asm volatile("pause");
        done_ = phase;
        phases[done_ - 1](own);
        count(&arrived);
    }
}

static void run_phase(uint32_t n)
{
    errors = arrived = stop = 0;
    phase = n;
    phases[n - 1](0);
    while (arrived < others)
        asm volatile("pause");
}

static void delay(uint64_t ticks)
{
    for (uint64_t end = rdtsc() + ticks; rdtsc() < end;)
        asm volatile("pause");
}

static void start_others(void)
{
    uint32_t expected = (cpuid(11, 1).b & 0xffff) - 1;
    for (char *from = ap_trampoline, *to = (char *)0x8000; from < ap_trampoline_end;)
        *to++ = *from++;
    if (!expected)
        return;
    apic_write(0x300, 0xc4500);
    delay(10000000);
    apic_write(0x300, 0xc4608);
    ok(wait_for(&others, expected), "all processors start");
}

int main(void)
{
    idt_init();
    apic_enable();
    set_vector(VECTOR_SHOOT, on_shootdown);
    set_vector(VECTOR_PING, on_ping);
    prepare_pages();
    start_others();
    note("other processors", others);
    run_phase(1);
    check_locks();
    run_phase(2);
    ok(!errors, "an instruction may write the next one");
    run_phase(3);
    ok(!errors, "code that another processor writes is old or new, then new");
    run_phase(4);
    ok(!errors, "data and code of a page mapped anew, after a shootdown");
    run_phase(5);
    ok(!errors, "each of many IPIs wakes a halted processor");
    run_phase(6);
    ok(!errors, "each processor rounds as its own MXCSR and control word say");
    return done();
}
