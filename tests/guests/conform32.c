/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Corners of 32-bit protected mode that conformance suites look at: tasks for exceptions,
 * interrupts and NMIs, with error codes and paging; 16-bit tasks and gates; conforming code; a
 * virtual-8086 task.
 */
#include "lib.h"

enum {
    CODE = 0x08,
    DATA = 0x10,
    CODE16 = 0x20,
    USER_DATA = 0x33,
    TSS_A = 0x48,
    TSS_B = 0x50,
    TSS_16 = 0x58,
    CONFORMING = 0x60,
    TSS_V86 = 0x68,
    GATE = 0x70
};

struct tss {
    uint16_t link, r0;
    uint32_t esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip, eflags, eax, ecx, edx, ebx, esp, ebp, esi,
        edi;
    uint32_t es, cs, ss, ds, fs, gs, ldt;
    uint16_t trap, iomap;
};
struct tss16 {
    uint16_t link, sp0, ss0, sp1, ss1, sp2, ss2, ip, flags, ax, cx, dx, bx, sp, bp, si, di, es, cs,
        ss, ds, ldt;
};
static struct tss tss_a, tss_b, tss_v86;
static struct tss16 tss_16;
static uint8_t ring0_stack[4096], task_stack[4096] __attribute__((aligned(16)));
static uint32_t directory[1024], table[1024] __attribute__((aligned(4096)));
static uint64_t pdpt[4] __attribute__((aligned(32))), bad_pdpt[4] __attribute__((aligned(32)));
static uint64_t pae_directory[512] __attribute__((aligned(4096)));
static volatile uint32_t runs, seen, link;

static void set_descriptor(unsigned selector, uint32_t base, uint32_t limit, uint32_t access,
                           uint32_t flags)
{
    gdt[selector / 8] = (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 |
                        (uint64_t)access << 40 | (uint64_t)(limit >> 16 & 15) << 48 |
                        (uint64_t)flags << 52 | (uint64_t)(base >> 24) << 56;
}

static void task_gate(unsigned vector)
{
    idt_entry(vector)[0] = (uint64_t)TSS_B << 16 | UINT64_C(0x8500) << 32;
}

static void make_task(void (*body)(void))
{
    tss_b = (struct tss){.cr3 = READ_CR(3),
                         .eip = (uint32_t)body,
                         .eflags = 2,
                         .esp = (uint32_t)task_stack + sizeof(task_stack),
                         .es = DATA,
                         .cs = CODE,
                         .ss = DATA,
                         .ds = DATA,
                         .fs = DATA,
                         .gs = DATA,
                         .iomap = sizeof(struct tss)};
    set_descriptor(TSS_B, (uint32_t)&tss_b, sizeof(tss_b) - 1, 0x89, 0);
}

/* Bodies of tasks: count, and IRET to whoever called; then again. */
extern void plain_task(void), error_task(void), fix_task(void), divide_task(void), jump_task(void);
asm("plain_task: incl runs\n mov tss_b, %ax\n mov %ax, link\n iret\n jmp plain_task\n"
    "error_task: incl runs\n popl seen\n iret\n jmp error_task\n"
    "fix_task: incl runs\n popl seen\n movl $0x00000007, page_to_fix\n mov page_entry, %eax\n mov "
    "page_frame, %ecx\n mov %ecx, (%eax)\n iret\n jmp fix_task\n"
    "divide_task: incl runs\n movl $10, divisor\n iret\n jmp divide_task\n"
    "jump_task: incl runs\n ljmp $0x48, $0\n jmp jump_task\n");
extern volatile uint32_t divisor, page_to_fix;
extern uint32_t *page_entry, page_frame;
volatile uint32_t divisor, page_to_fix;
uint32_t *page_entry, page_frame;

static void paging_on(void)
{
    for (unsigned i = 0; i < 1024; i++)
        directory[i] = i << 22 | 0x83;
    WRITE_CR(4, READ_CR(4) | 0x10);
    WRITE_CR(3, directory);
    WRITE_CR(0, READ_CR(0) | 0x80000000);
}

static void test_tasks(void)
{
    uint32_t result;

    tss_a = (struct tss){.esp0 = (uint32_t)ring0_stack + sizeof(ring0_stack),
                         .ss0 = DATA,
                         .cr3 = READ_CR(3),
                         .iomap = sizeof(struct tss)};
    set_descriptor(TSS_A, (uint32_t)&tss_a, sizeof(tss_a) - 1, 0x89, 0);
    asm volatile("ltr %w0" ::"r"(TSS_A));
    make_task(plain_task);
    asm volatile("lcall %0, $0xf4f4f4f4" ::"i"(TSS_B) : "memory", "eax", "cc");
    ok(runs == 1 && (link & 0xffff) == TSS_A, "far CALL of a task ignores its offset");
    asm volatile("lcall %0, $0xf4f4f4f4" ::"i"(TSS_B) : "memory", "eax", "cc");
    ok(runs == 2, "and goes on behind its IRET the second time");
    make_task(jump_task);
    asm volatile("ljmp %0, $0xf4f4f4f4" ::"i"(TSS_B) : "memory", "cc");
    ok(runs == 3 && !(gdt[TSS_B / 8] >> 40 & 2), "far JMP there and back");

    make_task(plain_task);
    uint64_t old[33];
    for (unsigned i = 0; i < 33; i++)
        old[i] = idt_entry(i)[0];
    task_gate(2);
    task_gate(3);
    task_gate(4);
    runs = 0;
    asm volatile("int $2" ::: "memory", "cc");
    ok(runs == 1, "INT 2 through a task gate");
    asm volatile("int3" ::: "memory", "cc");
    ok(runs == 2, "INT3");
    asm volatile("mov $127, %%al; addb $127, %%al; into" ::: "eax", "memory", "cc");
    ok(runs == 3, "INTO");
    apic_write(0x310, apic_read(0x20));
    apic_write(0x300, 4 << 8 | 1 << 14);
    asm volatile("nop" ::: "memory");
    ok(runs == 4, "NMI");
    apic_write(0x300, 4 << 8 | 1 << 14);
    asm volatile("nop" ::: "memory");
    ok(runs == 5, "NMI again: the task's IRET unblocked it");
    task_gate(32);
    asm volatile("sti" ::: "memory");
    apic_write(0x300, 1 << 18 | 1 << 14 | 32);
    asm volatile("nop; cli" ::: "memory", "cc");
    apic_write(0xb0, 0);
    ok(runs == 6, "an interrupt");
    make_task(divide_task);
    task_gate(0);
    asm volatile("xor %%edx, %%edx; mov $1500, %%eax; divl %1"
                 : "=&a"(result)
                 : "m"(divisor)
                 : "edx", "memory", "cc");
    ok(runs == 7 && result == 150, "#DE, and the instruction again");

    page_frame = (uint32_t)task_stack | 3;
    for (unsigned i = 0; i < 1024; i++)
        table[i] = 0;
    directory[512] = (uint32_t)table | 3;
    WRITE_CR(3, directory);
    page_entry = &table[0];
    make_task(fix_task);
    task_gate(14);
    *(volatile uint32_t *)0x80000000 = 1;
    ok(runs == 8 && seen == 2, "#PF pushes its error code on the task's stack");
    make_task(error_task);
    task_gate(13);
    idt_entry(33)[0] &= ~(UINT64_C(0x8000) << 32);
    for (unsigned i = 0; i < 33; i++)
        if (i != 13)
            idt_entry(i)[0] = old[i];
    idt_entry(13)[0] = old[13];
    asm volatile("clts");
    (void)seen;
}

/* ---- faults of delivering faults ---- */

extern void unlock_task(void);
asm("unlock_task: incl runs\n popl seen\n mov page_entry, %eax\n orl $3, (%eax)\n invlpg "
    "0x80001000\n"
    " iret\n jmp unlock_task\n");
static volatile uint32_t divides, late_errors;

static void on_divide(struct frame *f)
{
    divides++;
    divisor = 10;
}

static void on_not_present(struct frame *f)
{
    late_errors = f->error;
    idt_entry(35)[0] |= UINT64_C(0x8000) << 32;
}

static void on_late(struct frame *f)
{
    runs += 100;
}

/* With the stack in a page that may not be written, until the task behind #PF allows it. */
#define ON_LOCKED_STACK(text, ...)                                 \
    asm volatile("mov %%esp, %%esi; mov $0x80002000, %%esp; " text \
                 "; mov %%esi, %%esp" __VA_ARGS__                  \
                 : "esi", "edx", "memory", "cc")

static void test_serial_faults(void)
{
    static uint8_t stack_page[4096] __attribute__((aligned(4096)));
    uint64_t old = idt_entry(14)[0];
    uint32_t result;

    WRITE_CR(0, READ_CR(0) | 0x10000);
    page_entry = &table[1];
    make_task(unlock_task);
    task_gate(14);
    set_vector(0, on_divide);
    set_vector(11, on_not_present);
    set_vector(35, on_late);
    table[1] = (uint32_t)stack_page | 1;
    WRITE_CR(3, directory);
    runs = divides = divisor = 0;
    ON_LOCKED_STACK("xor %%edx, %%edx; mov $1500, %%eax; divl %1", : "=&a"(result) : "m"(divisor));
    ok(runs == 1 && seen == 3 && divides == 1 && result == 150,
       "#PF of delivering #DE is served, and #DE comes again");
    table[1] = (uint32_t)stack_page | 1;
    invlpg((void *)0x80001000);
    idt_entry(35)[0] &= ~(UINT64_C(0x8000) << 32);
    runs = 0;
    ON_LOCKED_STACK("int $35", : :);
    ok(runs == 101 && late_errors == (35 * 8 | 2), "the same with #NP of INT n");
    asm volatile("clts");
    set_vector(0, 0);
    set_vector(11, 0);
    idt_entry(14)[0] = old;
    WRITE_CR(0, READ_CR(0) & ~(word)0x10000);
}

/* ---- conforming code by a task ---- */

extern void user_task(void);
asm("user_task: incl runs\n mov %cs, seen\n iret\n jmp user_task\n");
static void test_conforming(void)
{
    set_descriptor(CONFORMING, 0, 0xfffff, 0x9f, 0xc);
    make_task(user_task);
    tss_b.cs = CONFORMING | 3;
    tss_b.ss = tss_b.ds = tss_b.es = tss_b.fs = tss_b.gs = USER_DATA;
    tss_b.eflags |= 3 << 12;
    for (unsigned i = 0; i < 512; i++)
        directory[i] |= 4;
    WRITE_CR(3, directory);
    runs = 0;
    asm volatile("lcall %0, $0" ::"i"(TSS_B) : "memory", "cc");
    asm volatile("clts");
    ok(runs == 1 && (seen & 0xffff) == (CONFORMING | 3), "a task in conforming code at ring 3");
}

/* ---- virtual-8086 by a task ---- */

static volatile int v86_vector;
static void test_v86(void)
{
    uint8_t *code = (uint8_t *)0x42000;
    uint64_t old = idt_entry(6)[0];

    code[0] = 0x0f;
    code[1] = 0x0b;
    tss_v86 = (struct tss){.eflags = 0x20002,
                           .cr3 = READ_CR(3),
                           .cs = 0x4200,
                           .ds = 0x1234,
                           .es = 0x2345,
                           .iomap = sizeof(struct tss)};
    set_descriptor(TSS_V86, (uint32_t)&tss_v86, sizeof(tss_v86) - 1, 0x8b, 0);
    tss_a.link = TSS_V86;
    idt_entry(6)[0] = (uint64_t)TSS_A << 16 | UINT64_C(0x8500) << 32;
    asm volatile("pushf; orw $0x4000, (%%esp); popf; iret" ::: "memory", "cc");
    asm volatile("pushf; andl $~0x4000, (%%esp); popf; clts" ::: "memory", "cc");
    idt_entry(6)[0] = old;
    ok(tss_v86.eip == 0 && tss_v86.cs == 0x4200 && tss_v86.eflags & 0x20000 && tss_v86.ds == 0x1234,
       "IRET to a virtual-8086 task, #UD back by a task gate");
    set_descriptor(TSS_V86, (uint32_t)&tss_v86, sizeof(tss_v86) - 1, 0x89, 0);
}

/* ---- an old TSS that can't hold the task ---- */

static void test_small_old_tss(void)
{
    set_descriptor(TSS_A, (uint32_t)&tss_a, 0x40, 0x89, 0);
    asm volatile("ltr %w0" ::"r"(TSS_A));
    make_task(plain_task);
    runs = 0;
    ok(TRY("lcall %0, $0",
           :
           : "i"(TSS_B)CLOBBER) == 10 &&
           runs == 0,
       "a switch from a TSS too small to save the task is #TS");
    set_descriptor(TSS_A, (uint32_t)&tss_a, sizeof(tss_a) - 1, 0x89, 0);
    asm volatile("ltr %w0" ::"r"(TSS_A));
}

/* ---- 16 bits ---- */

extern char task16[], handler16[], handler16_end[];
asm(".pushsection .rodata\n.code16\n"
    "task16: mov $0x5678, %ax\n mov %ax, 0x9300\n pushf\n pop %ax\n mov %ax, 0x9302\n iret\n jmp "
    "task16\n"
    "handler16: push %ax\n mov $0x9abc, %ax\n mov %ax, 0x9304\n pop %ax\n iret\n"
    "handler16_end:\n.code32\n.popsection\n");

static void test_16(void)
{
    volatile uint16_t *out = (volatile uint16_t *)0x9300;
    uint64_t old = idt_entry(34)[0];
    uint32_t esp_before, esp_after;

    for (char *from = task16, *to = (char *)0xb000; from < handler16_end;)
        *to++ = *from++;
    tss_16 = (struct tss16){
        .ip = 0xb000, .flags = 2, .sp = 0x9200, .es = 0x28, .cs = CODE16, .ss = 0x28, .ds = 0x28};
    set_descriptor(TSS_16, (uint32_t)&tss_16, sizeof(tss_16) - 1, 0x81, 0);
    out[0] = out[1] = out[2] = 0;
    asm volatile("lcall %0, $0; clts" ::"i"(TSS_16) : "memory", "cc");
    ok(out[0] == 0x5678 && out[1] & 0x4000 && tss_16.link == TSS_A, "CALL of a 16-bit TSS");
    ok((gdt[TSS_16 / 8] >> 40 & 0xff) == 0x81 && tss_16.ip != 0xb000,
       "its IRET frees and saves it");
    set_descriptor(TSS_16, (uint32_t)&tss_16, 0x2a, 0x81, 0);
    ok(TRY("lcall %0, $0",
           :
           : "i"(TSS_16)CLOBBER) == 10 &&
           (fault_error & 0xfffc) == TSS_16,
       "a 16-bit TSS of 43 bytes is #TS");
    idt_entry(34)[0] =
        (uint64_t)(0xb000 + (handler16 - task16)) | (uint64_t)CODE16 << 16 | UINT64_C(0x8600) << 32;
    /* A 16-bit gate pushes IP: the caller's code must lie below 64 KiB, so one that returns
     * elsewhere is not tried. */
    ((uint8_t *)0xc000)[0] = 0xcd;
    ((uint8_t *)0xc000)[1] = 34;
    ((uint8_t *)0xc000)[2] = 0xc3;
    asm volatile("mov %%esp, %0; call *%2; mov %%esp, %1"
                 : "=&r"(esp_before), "=&r"(esp_after)
                 : "r"(0xc000)
                 : "memory", "cc");
    ok(out[2] == 0x9abc && esp_before == esp_after, "a 16-bit interrupt gate");
    idt_entry(34)[0] = old;
    gdt[GATE / 8] = (uint64_t)0xc003 | (uint64_t)CODE << 16 | UINT64_C(0x8400) << 32;
    ((uint8_t *)0xc003)[0] = 0x66;
    ((uint8_t *)0xc003)[1] = 0xcb; /* far return of 16 bits */
    ((uint8_t *)0xc010)[0] = 0x9a; /* lcall GATE, 0; ret */
    *(uint32_t *)0xc011 = 0;
    *(uint16_t *)0xc015 = GATE;
    ((uint8_t *)0xc017)[0] = 0xc3;
    asm volatile("mov %%esp, %0; call *%2; mov %%esp, %1"
                 : "=&r"(esp_before), "=&r"(esp_after)
                 : "r"(0xc010)
                 : "memory", "cc");
    ok(esp_before == esp_after, "a 16-bit call gate");
}

/* ---- PDPTEs of a new task ---- */

static void test_pdptes(void)
{
    WRITE_CR(0, READ_CR(0) & 0x7fffffff);
    for (unsigned i = 0; i < 512; i++)
        pae_directory[i] = (uint64_t)i << 21 | 0x83;
    for (unsigned i = 0; i < 4; i++)
        pdpt[i] = (uint32_t)pae_directory | 1, bad_pdpt[i] = pdpt[i] | 0x20;
    pae_directory[511] = 0xfee00083;
    WRITE_CR(4, READ_CR(4) | 0x20);
    WRITE_CR(3, pdpt);
    WRITE_CR(0, READ_CR(0) | 0x80000000);
    ok(TRY("mov %0, %%cr3", : : "r"(bad_pdpt)CLOBBER) == 13, "reserved bits in a PDPTE are #GP");
    tss_a.cr3 = READ_CR(3);
    make_task(plain_task);
    runs = 0;
    asm volatile("lcall %0, $0; clts" ::"i"(TSS_B) : "memory", "eax", "cc");
    ok(runs == 1, "a task under PAE paging");
    make_task(plain_task);
    tss_b.cr3 = (uint32_t)bad_pdpt;
    ok(TRY("lcall %0, $0",
           :
           : "i"(TSS_B)CLOBBER) == 13 &&
           fault_error == 0,
       "a task whose PDPTEs are bad is #GP(0)");
    WRITE_CR(0, READ_CR(0) & 0x7fffffff);
    WRITE_CR(4, READ_CR(4) & ~(word)0x20);
}

int main(void)
{
    idt_init();
    apic_enable();
    paging_on();
    test_tasks();
    test_serial_faults();
    test_conforming();
    test_v86();
    test_small_old_tss();
    test_16();
    test_pdptes();
    return done();
}
