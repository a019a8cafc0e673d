/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See lib.h. */
#include "lib.h"

enum { COM1 = 0x3f8 };

volatile int fault_vector;
volatile word fault_error, fault_ip, fault_cr2, fault_dr6, fault_flags, recover;

static unsigned cases, failures;
static vector_fn handlers[64];
extern word vector_table[64];
static uint64_t idt[64 * sizeof(word) / 4] __attribute__((aligned(16)));

static void put_char(char c)
{
    while (!(inb(COM1 + 5) & 0x20))
        ;
    outb(COM1, c);
}

/* What the compiler calls for structures. */
void *memset(void *to, int value, unsigned long size);
void *memset(void *to, int value, unsigned long size)
{
    for (volatile uint8_t *p = to; size--; p++)
        *p = (uint8_t)value;
    return to;
}

void put(const char *text)
{
    while (*text)
        put_char(*text++);
}

void put_hex(uint64_t value)
{
    put("0x");
    for (int shift = 60; shift >= 0; shift -= 4)
        put_char("0123456789abcdef"[value >> shift & 15]);
}

static void put_number(unsigned value)
{
    if (value >= 10)
        put_number(value / 10);
    put_char('0' + value % 10);
}

void ok(bool good, const char *name)
{
    put(good ? "ok " : "not ok ");
    put_number(++cases);
    put(" - ");
    put(name);
    put("\n");
    failures += !good;
}

void note(const char *text, uint64_t value)
{
    put("# ");
    put(text);
    put(" ");
    put_hex(value);
    put("\n");
}

int done(void)
{
    put("1..");
    put_number(cases);
    put("\n");
    return failures ? 1 : 0;
}

uint64_t *idt_entry(unsigned vector)
{
    return &idt[vector * sizeof(word) / 4];
}

static void set_gate(unsigned vector, word target)
{
    uint64_t *entry = idt_entry(vector);
    uint64_t selector = sizeof(word) == 8 ? 0x18 : 0x08;

    entry[0] = (target & 0xffff) | selector << 16 | UINT64_C(0x8e00) << 32 |
               (uint64_t)(target >> 16 & 0xffff) << 48;
#ifdef __x86_64__
    entry[1] = target >> 32;
#endif
}

void set_vector(unsigned vector, vector_fn fn)
{
    handlers[vector] = fn;
}

void idt_init(void)
{
    struct {
        uint16_t limit;
        word base;
    } __attribute__((packed)) pointer = {sizeof(idt) - 1, (word)idt};

    for (unsigned i = 0; i < 64; i++)
        set_gate(i, vector_table[i]);
    asm volatile("lidt %0" ::"m"(pointer));
}

void on_vector(struct frame *frame)
{
    if (handlers[frame->vector]) {
        handlers[frame->vector](frame);
        return;
    }
    fault_vector = (int)frame->vector;
    fault_error = frame->error;
    fault_ip = frame->ip;
    fault_flags = frame->flags;
    if (frame->vector == 14)
        fault_cr2 = READ_CR(2);
    if (frame->vector == 1)
        fault_dr6 = READ_DR(6);
    if (!recover) {
        note("unexpected vector", frame->vector);
        note("error", frame->error);
        note("ip", frame->ip);
        ok(false, "no unexpected fault");
        done();
        outl(0xf4, 1);
        for (;;)
            asm volatile("cli; hlt");
    }
    frame->ip = recover;
    frame->flags &= ~(word)0x100;
}

#ifdef __x86_64__
/* ---- ring 3 ---- */

struct tss64 tss __attribute__((aligned(16)));
uint8_t user_stack[4096] __attribute__((aligned(16))), ist_stack[4096] __attribute__((aligned(16)));
static uint8_t kernel_stack[8192] __attribute__((aligned(16)));
volatile int left_vector;
volatile word left_error, left_ip, left_cs, left_cr2, left_flags;
static word back_sp, back_ip;

void tss_init(void)
{
    uint64_t base = (uint64_t)&tss;

    tss.rsp[0] = (uint64_t)(kernel_stack + sizeof(kernel_stack));
    tss.ist[0] = (uint64_t)(ist_stack + sizeof(ist_stack));
    tss.iomap = (uint16_t)((uint8_t *)tss.bitmap - (uint8_t *)&tss);
    memset(tss.bitmap, 0xff, sizeof(tss.bitmap));
    gdt[TSS_SELECTOR / 8] = (sizeof(tss) - 1) | (base & 0xffffff) << 16 | UINT64_C(0x89) << 40 |
                            (base >> 24 & 0xff) << 56;
    gdt[TSS_SELECTOR / 8 + 1] = base >> 32;
    asm volatile("ltr %w0" ::"r"(TSS_SELECTOR));
    idt_entry(0x30)[0] |= UINT64_C(0x6000) << 32;
    idt_entry(3)[0] |= UINT64_C(0x6000) << 32;
}

void leave(struct frame *f)
{
    left_vector = f->vector == 0x30 ? -1 : (int)f->vector;
    left_error = f->error;
    left_ip = f->ip;
    left_cs = f->cs;
    left_flags = f->flags;
    left_cr2 = READ_CR(2);
    f->ip = back_ip;
    f->cs = KERNEL_CODE;
    f->ss = KERNEL_DATA;
    f->sp = back_sp;
    f->flags = 2;
}

int __attribute__((noinline)) run_at(uint16_t cs, uint16_t ss, word sp, word flags, word ip)
{
    static const unsigned vectors[] = {0x30, 0, 1, 3, 4, 6, 13, 14, 16, 17};
    vector_fn old[sizeof(vectors) / sizeof(*vectors)];

    for (unsigned i = 0; i < sizeof(vectors) / sizeof(*vectors); i++) {
        old[i] = handlers[vectors[i]];
        if (!old[i])
            set_vector(vectors[i], leave);
    }
    asm volatile("push %%rbp; push %%rbx; push %%r12; push %%r13; push %%r14; push %%r15\n"
                 "mov %%rsp, %0; lea 1f(%%rip), %%rax; mov %%rax, %1\n"
                 "push %2; push %3; push %4; push %5; push %6; iretq\n"
                 "1: pop %%r15; pop %%r14; pop %%r13; pop %%r12; pop %%rbx; pop %%rbp\n"
                 : "=m"(back_sp), "=m"(back_ip)
                 : "r"((word)ss), "r"(sp), "r"(flags), "r"((word)cs), "r"(ip)
                 : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory", "cc");
    for (unsigned i = 0; i < sizeof(vectors) / sizeof(*vectors); i++)
        set_vector(vectors[i], old[i]);
    return left_vector;
}

int run_user(void (*fn)(void))
{
    return run_at(USER_CODE, USER_DATA, (word)(user_stack + sizeof(user_stack)), 2, (word)fn);
}
#endif

void apic_enable(void)
{
    outb(0x21, 0xff);
    outb(0xa1, 0xff);
    wrmsr(0x1b, rdmsr(0x1b) | 0x800);
    apic_write(0xf0, 0x1ff);
    apic_write(0x80, 0);
}

bool wait_for(volatile uint32_t *counter, uint32_t value)
{
    /* The PM timer's neighbours may be missing: bound by TSC alone, 30 s at 1 GHz or more. */
    uint64_t end = rdtsc() + UINT64_C(100000000000);

    asm volatile("sti" ::: "memory");
    while (*counter < value && rdtsc() < end)
        asm volatile("pause");
    asm volatile("cli" ::: "memory");
    return *counter >= value;
}
