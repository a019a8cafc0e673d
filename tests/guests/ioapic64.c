/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The I/O APIC's registers, triggers and destinations, by the test device's lines; processors that
 * are started by one INIT and one STARTUP right behind it. For four processors.
 */
#include "lib.h"

extern char ap_trampoline[], ap_trampoline_end[];
enum { LINE = 14, VECTOR = 0x35, LEVEL = 1 << 15, MASKED = 1 << 16, LOGICAL = 1 << 11 };
static volatile uint32_t started, x2apic, x2apic_ready, count, ended, reached, tmr_seen, mode;

static void eoi(void)
{
    if (x2apic)
        wrmsr(0x80b, 0);
    else
        apic_write(0xb0, 0);
}
static uint32_t my_id(void)
{
    return x2apic ? (uint32_t)rdmsr(0x802) : apic_read(0x20) >> 24;
}
static bool tmr(unsigned vector)
{
    uint32_t word_ =
        x2apic ? (uint32_t)rdmsr(0x818 + vector / 32) : apic_read(0x180 + vector / 32 * 16);
    return word_ >> (vector % 32) & 1;
}
static void line(bool level)
{
    outb(0x2000 + LINE, level);
}
static uint32_t get(unsigned reg)
{
    *(volatile uint32_t *)0xfec00000 = reg;
    return *(volatile uint32_t *)0xfec00010;
}
static void put_register(unsigned reg, uint32_t v)
{
    *(volatile uint32_t *)0xfec00000 = reg;
    *(volatile uint32_t *)0xfec00010 = v;
}
static void route(uint32_t entry, unsigned dest)
{
    put_register(0x10 + 2 * LINE, MASKED);
    put_register(0x11 + 2 * LINE, dest << 24);
    put_register(0x10 + 2 * LINE, entry);
}

/* What the handler does to the line. */
enum { LOWER, KEEP_ONCE, PULSE_ONCE, MASK_IT, REDIRECT };

static void on_line(struct frame *f)
{
    uint32_t n = __sync_add_and_fetch(&count, 1);

    __sync_fetch_and_or(&reached, 1u << my_id());
    tmr_seen = tmr(VECTOR);
    if (mode == PULSE_ONCE && n == 1) {
        line(false);
        line(true);
    }
    if (mode == MASK_IT)
        put_register(0x10 + 2 * LINE, get(0x10 + 2 * LINE) | MASKED);
    else if (mode != KEEP_ONCE || n == 2)
        line(false);
    if (mode == REDIRECT)
        put_register(0x11 + 2 * LINE, 1 << 24);
    eoi();
    __sync_fetch_and_add(&ended, 1);
}

static void begin(unsigned how)
{
    count = ended = reached = 0;
    tmr_seen = ~0u;
    mode = how;
}

/* The interrupts are there when the OUT that raised them has ended. */
static bool counted(uint32_t n)
{
    asm volatile("nop");
    return count == n;
}

static void test_registers(void)
{
    uint32_t version = get(1), id = get(0);

    put_register(1, ~version);
    ok(get(1) == version && version >> 16 == 23, "the version can't be written");
    put_register(0, ~id);
    ok((get(0) ^ id) == 0x0f000000, "the ID has four bits");
    put_register(0, 0x0f000000);
    put_register(2, 0);
    ok(get(2) == 0x0f000000, "the arbitration ID follows it");
    put_register(0, id);
}

static void test_triggers(void)
{
    begin(LOWER);
    route(VECTOR, my_id());
    line(true);
    ok(counted(1) && !tmr_seen, "an edge; TMR is clear");
    route(VECTOR | LEVEL, my_id());
    begin(LOWER);
    line(true);
    ok(counted(1) && tmr_seen, "a level; TMR is set");
    begin(LOWER);
    line(true);
    line(true);
    ok(counted(2), "a level twice");
    begin(PULSE_ONCE);
    line(true);
    ok(counted(1), "a pulse while it is served is none");
    begin(KEEP_ONCE);
    asm volatile("cli");
    line(true);
    for (unsigned i = 0; i < 10 && count < 2; i++)
        asm volatile("sti; hlt; cli");
    asm volatile("sti");
    ok(count == 2, "a level that stays comes again");
    begin(MASK_IT);
    line(true);
    ok(counted(1), "a handler that masks the level");
    route(VECTOR | LEVEL, my_id());
    ok(counted(2), "unmasked it comes again");
    line(false);
    begin(LOWER);
    route(VECTOR | LEVEL | MASKED, my_id());
    line(true);
    ok(counted(0), "a masked level");
    put_register(0x10 + 2 * LINE, VECTOR | LEVEL);
    ok(counted(1), "is delivered when it is unmasked");
    begin(LOWER);
    route(VECTOR | MASKED, my_id());
    line(true);
    line(false);
    put_register(0x10 + 2 * LINE, VECTOR);
    ok(counted(0), "a masked edge is lost");
    line(true);
    ok(counted(1) && !tmr_seen, "the next one is not; TMR is clear again");
}

/* And have ended, so that no late EOI is taken for one of the next case. */
static bool all_came(uint32_t who)
{
    uint64_t end = rdtsc() + UINT64_C(60000000000);

    while ((reached != who || ended != count) && rdtsc() < end)
        asm volatile("pause");
    return reached == who;
}

static void test_destinations(void)
{
    begin(LOWER);
    route(VECTOR | LEVEL, 1);
    line(true);
    ok(all_came(2), "physical destination 1");
    begin(LOWER);
    route(VECTOR | LEVEL | LOGICAL, 0xd);
    line(true);
    ok(all_came(0xd) && count == 3, "logical destination: processors 0, 2 and 3");
    begin(REDIRECT);
    route(VECTOR | LEVEL, my_id());
    line(true);
    ok(counted(1) && !(get(0x10 + 2 * LINE) & 1 << 14),
       "an EOI reaches an entry whose destination has changed");
    route(MASKED, 0);
}

static void set_ldr(void)
{
    apic_write(0xe0, 0xffffffff);
    apic_write(0xd0, 1u << (24 + (apic_read(0x20) >> 24)));
}

void ap_main(int index)
{
    idt_init();
    wrmsr(0x1b, rdmsr(0x1b) | 0x800);
    apic_write(0xf0, 0x1ff);
    set_ldr();
    __sync_fetch_and_add(&started, 1);
    asm volatile("sti");
    while (!x2apic)
        asm volatile("pause");
    asm volatile("cli");
    wrmsr(0x1b, rdmsr(0x1b) | 0xc00);
    wrmsr(0x80f, 0x1ff);
    __sync_fetch_and_add(&x2apic_ready, 1);
    for (;;)
        asm volatile("sti; hlt");
}

static void start_others(void)
{
    uint32_t others = (cpuid(11, 1).b & 0xffff) - 1;

    for (char *from = ap_trampoline, *to = (char *)0x8000; from < ap_trampoline_end;)
        *to++ = *from++;
    apic_write(0x300, 0xc4500);
    apic_write(0x300, 0xc4608);
    ok(wait_for(&started, others) && others == 3, "one INIT and one STARTUP start all");
}

int main(void)
{
    idt_init();
    apic_enable();
    set_vector(VECTOR, on_line);
    set_ldr();
    start_others();
    test_registers();
    ok(!tmr(VECTOR), "no TMR yet");
    asm volatile("sti");
    test_triggers();
    test_destinations();
    if (cpuid(1, 0).c & 1 << 21) {
        asm volatile("cli");
        x2apic = 1;
        wrmsr(0x1b, rdmsr(0x1b) | 0xc00);
        wrmsr(0x80f, 0x1ff);
        wait_for(&x2apic_ready, 3);
        asm volatile("sti");
        test_triggers();
        test_destinations();
    }
    return done();
}
