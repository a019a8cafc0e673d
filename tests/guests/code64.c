/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What happens to code that has run often (a translator has made something else of it): a disk
 * writes over it, it is stepped through, breakpoints hit in it, its page is mapped elsewhere, it
 * faults between two accesses of one instruction. The disk is code64.asm's. */
#include "lib.h"

enum { P = 1, W = 2, WARM = 200, SECTORS = 64, BUS_MASTER = 0xc000, WINDOW = 2 };

extern uint64_t page_pml4[512];
static uint64_t pdpt[512] __attribute__((aligned(4096)));
static uint64_t directory[512] __attribute__((aligned(4096)));
static uint64_t table[512] __attribute__((aligned(4096)));
static uint8_t disk_code[4096] __attribute__((aligned(4096)));
static uint8_t pages[3][4096] __attribute__((aligned(4096)));
static uint32_t prd[2] __attribute__((aligned(8)));
static uint8_t *const window = (uint8_t *)((uint64_t)WINDOW << 39);

static void map(unsigned n, const void *page)
{
    table[n] = page ? (word)page | P | W : 0;
    invlpg(window + 4096 * n);
}

static uint32_t run(const void *code)
{
    uint32_t value;
    asm volatile("call *%1" : "=a"(value) : "r"(code) : "memory", "cc");
    return value;
}

/* ---- a disk writes over it ------------------------------------------------------------------- */

static void pci_write(unsigned offset, uint32_t value)
{
    outl(0xcf8, 0x80000000 | 1 << 11 | 1 << 8 | offset);
    outl(0xcfc, value);
}

static void start_read(unsigned sector)
{
    outb(BUS_MASTER, 0);
    outb(BUS_MASTER + 2, 6);
    outl(BUS_MASTER + 4, (uint32_t)(word)prd);
    outb(0x1f6, 0xe0);
    outb(0x1f2, 1);
    outb(0x1f3, (uint8_t)sector);
    outb(0x1f4, 0);
    outb(0x1f5, 0);
    outb(0x1f7, 0xc8);
    outb(BUS_MASTER, 9);
}

static bool is_done(void)
{
    return inb(BUS_MASTER + 2) & 4;
}

static void test_disk(void)
{
    uint32_t old = 0, wrong = 0, torn = 0, rounds = 0;

    pci_write(0x20, BUS_MASTER | 1);
    pci_write(0x04, 5);
    prd[0] = (uint32_t)(word)disk_code;
    prd[1] = 0x80000000 | 512;
    start_read(0);
    while (!is_done())
        asm volatile("pause");
    for (uint32_t round = 1; round <= 600; round++, rounds++) {
        uint32_t sector = round % SECTORS;
        const uint8_t *code = disk_code + 32 * (round % 16);
        for (unsigned i = 0; i < WARM / 4; i++)
            wrong += run(code) != old;
        start_read(sector);
        /* It runs while it is written: old or new, never anything else. */
        while (!is_done()) {
            uint32_t got = run(code);
            torn += got != old && got != sector;
        }
        inb(0x1f7);
        wrong += run(code) != sector;
        old = sector;
    }
    note("reads", rounds);
    ok(!wrong, "code that a disk wrote runs");
    ok(!torn, "while it is written, old or new code runs");
}

/* ---- it is mapped elsewhere ------------------------------------------------------------------ */

static void put_constant(uint8_t *at, uint32_t value)
{
    at[0] = 0xb8;
    *(volatile uint32_t *)(at + 1) = value;
    at[5] = 0xc3;
}

static void test_remap(void)
{
    uint32_t wrong = 0;

    for (unsigned i = 0; i < 3; i++)
        put_constant(pages[i] + 64, 100 + i);
    for (unsigned round = 0; round < 300; round++) {
        map(0, pages[round % 3]);
        for (unsigned i = 0; i < WARM / 4; i++)
            wrong += run(window + 64) != 100 + round % 3;
        /* And behind the mapping's back, through another address. */
        put_constant(pages[round % 3] + 64, 1000 + round);
        wrong += run(window + 64) != 1000 + round;
        put_constant(pages[round % 3] + 64, 100 + round % 3);
    }
    ok(!wrong, "a page of code that is mapped elsewhere runs what is there now");
}

/* ---- it is stepped through ------------------------------------------------------------------- */

static volatile uint64_t cell;
static volatile uint32_t traps;
static volatile word trap_ip[64];
static volatile word trap_dr6[64];

static void on_debug(struct frame *f)
{
    word dr6 = READ_DR(6);
    trap_dr6[traps % 64] = dr6;
    trap_ip[traps % 64] = f->ip;
    WRITE_DR(6, 0xffff0ff0);
    traps++;
    if (dr6 & 1)
        f->flags |= 1 << 16; /* RF: go on behind an instruction breakpoint */
}

/* rdi + 3, by way of `cell`; labels for where traps are expected. */
extern uint8_t stepped[], stepped_store[], stepped_after[], stepped_end[];
asm(".text\n"
    "stepped: lea 1(%rdi), %rax\n"
    "inc %rax\n"
    "stepped_store: mov %rax, cell(%rip)\n"
    "stepped_after: mov cell(%rip), %rcx\n"
    "lea 1(%rcx), %rax\n"
    "test %rax, %rax\n"
    "stepped_end: ret\n");

static uint64_t call_stepped(uint64_t argument)
{
    uint64_t result;
    asm volatile("call stepped" : "=a"(result) : "D"(argument) : "rcx", "memory", "cc");
    return result;
}

static uint64_t call_with_trap_flag(uint64_t argument)
{
    uint64_t result;
    asm volatile("pushfq; orl $0x100, (%%rsp); popfq\n"
                 "call stepped\n"
                 "pushfq; andl $~0x100, (%%rsp); popfq"
                 : "=a"(result)
                 : "D"(argument)
                 : "rcx", "memory", "cc");
    return result;
}

static void test_steps(void)
{
    uint64_t sum = 0;
    bool order = true;

    set_vector(1, on_debug);
    for (unsigned i = 0; i < WARM; i++)
        sum += call_stepped(i);
    traps = 0;
    ok(call_with_trap_flag(7) == 10, "a step at a time computes the same");
    /* call, the seven, pushfq, and, popfq */
    ok(traps == 11, "a trap for each instruction");
    note("traps", traps);
    for (unsigned i = 1; i < 7; i++)
        order = order && trap_ip[i] > trap_ip[i - 1];
    ok(order && trap_ip[0] == (word)stepped && trap_ip[6] == (word)stepped_end,
       "at the addresses in turn");
    traps = 0;
    for (unsigned i = 0; i < WARM; i++)
        sum += call_stepped(i);
    ok(!traps && sum == 2 * (WARM * 3 + WARM * (WARM - 1) / 2), "and none without the flag");
}

static void test_breakpoints(void)
{
    uint64_t good = 0;

    WRITE_DR(0, stepped_after);
    WRITE_DR(1, &cell);
    WRITE_DR(7, 0x400 | 1 << 1 | 1 << 3 |
                    UINT64_C(0x9) << 20); /* DR0: execution, DR1: 8 bytes written */
    traps = 0;
    for (unsigned i = 0; i < 20; i++)
        good += call_stepped(i) == i + 3;
    WRITE_DR(7, 0x400);
    ok(good == 20 && traps == 20 * 2,
       "execution and data breakpoints hit in code that ran without");
    note("traps", traps);
    ok((trap_dr6[0] & 0xf) == 2 && trap_ip[0] == (word)stepped_after, "behind the store");
    ok((trap_dr6[1] & 0xf) == 1 && trap_ip[1] == (word)stepped_after, "before the instruction");
    traps = 0;
    for (unsigned i = 0; i < WARM; i++)
        good += call_stepped(i) == i + 3;
    ok(!traps && good == 20 + WARM, "and none when they are off");
    set_vector(1, 0);
}

/* ---- it faults in the middle ----------------------------------------------------------------- */

/* Two pages, the second missing: instructions that have run often with both. */
struct outcome {
    int vector;
    word a, b, c, d, sp;
    uint64_t memory;
};

static struct outcome outcome;

/* `text` with RSI = from, RDI = to, RCX = count, RBX = stack pointer to use; RAX and RDX are
 * values. */
#define EXPERIMENT(name, text)                                                                  \
    static void name(word from, word to, word count, word stack)                                \
    {                                                                                           \
        word sp;                                                                                \
        fault_vector = -1;                                                                      \
        asm volatile(                                                                           \
            "lea 771f(%%rip), %%rax; mov %%rax, recover(%%rip)\n"                               \
            "mov %%rsp, %%r15; mov $0x1111, %%eax; mov $0x2222, %%edx; mov %%rbx, %%rsp\n" text \
            "\n"                                                                                \
            "771: mov %%rsp, %%rbx; mov %%r15, %%rsp; cld"                                      \
            : "+S"(from), "+D"(to), "+c"(count), "=b"(sp), "=&a"(outcome.a), "=&d"(outcome.d)   \
            : "3"(stack)                                                                        \
            : "r15", "memory", "cc");                                                           \
        recover = 0;                                                                            \
        outcome.vector = fault_vector;                                                          \
        outcome.b = from, outcome.c = to, outcome.memory = count, outcome.sp = sp;              \
    }
EXPERIMENT(do_movs, "rep movsb")
EXPERIMENT(do_stos, "rep stosq")
EXPERIMENT(do_pop, "pop (%%rdi)")
EXPERIMENT(do_push, "push (%%rsi)")
EXPERIMENT(do_xadd, "xadd %%rax, (%%rdi)")
EXPERIMENT(do_exchange, "xchg %%rax, (%%rdi)")
EXPERIMENT(do_call, "call *(%%rsi)")
EXPERIMENT(do_backwards, "std; rep movsb")
EXPERIMENT(do_cmps, "repe cmpsb")
EXPERIMENT(do_cmps_once, "cmpsq")
EXPERIMENT(do_exchange8, "lock cmpxchg8b (%%rdi)")
EXPERIMENT(do_fxsave, "fxsave (%%rdi)")
EXPERIMENT(do_enter, "enter $32, $1")
EXPERIMENT(do_far_call, "lcall *(%%rsi)")
EXPERIMENT(do_iret, "iretq")
EXPERIMENT(do_gather, "vpcmpeqd %%ymm1, %%ymm1, %%ymm1; vmovdqu gather_indices(%%rip), %%ymm2\n"
                      "vpxor %%ymm0, %%ymm0, %%ymm0; vpgatherdd %%ymm1, (%%rsi, %%ymm2, 4), %%ymm0")

static void test_faults(void)
{
    uint8_t *last = window + 4096 * 2,
            *stack = window + 4096 - 64; /* page 1 is the end of what there is */
    uint8_t *edge = last - 4;

    map(0, pages[0]);
    map(1, pages[1]);
    for (unsigned i = 0; i < WARM; i++) {
        map(2, pages[2]);
        do_movs((word)window, (word)last - 100, 50, (word)stack);
        do_stos(0, (word)last - 80, 10, (word)stack);
        *(volatile uint64_t *)stack = 5;
        do_pop(0, (word)last - 8, 0, (word)stack);
        do_push((word)window, 0, 0, (word)stack);
        do_xadd(0, (word)last - 8, 0, (word)stack);
        do_exchange(0, (word)last - 8, 0, (word)stack);
        do_backwards((word)window + 60, (word)last - 100, 50, (word)stack);
    }
    map(2, 0);

    do_movs((word)window, (word)last - 10, 50, (word)stack);
    ok(outcome.vector == 14 && fault_cr2 == (word)last && outcome.memory == 40 &&
           outcome.b == (word)window + 10 && outcome.c == (word)last,
       "REP MOVSB stops at the missing page");
    do_movs((word)last - 7, (word)window, 50, (word)stack);
    ok(outcome.vector == 14 && fault_cr2 == (word)last && outcome.memory == 43 &&
           outcome.b == (word)last && outcome.c == (word)window + 7,
       "and where it reads it");
    *(volatile uint32_t *)edge = 0x77;
    do_stos(0, (word)last - 28, 10, (word)stack);
    ok(outcome.vector == 14 && outcome.memory == 7 && outcome.c == (word)edge &&
           *(volatile uint32_t *)edge == 0x77,
       "REP STOSQ writes nothing of an element that crosses into it");
    *(volatile uint64_t *)stack = 5;
    do_pop(0, (word)edge, 0, (word)stack);
    ok(outcome.vector == 14 && outcome.sp == (word)stack && *(volatile uint32_t *)edge == 0x77,
       "POP to it leaves stack and memory");
    do_push((word)edge, 0, 0, (word)stack);
    ok(outcome.vector == 14 && outcome.sp == (word)stack, "PUSH of it leaves the stack pointer");
    do_push((word)window, 0, 0, (word)last + 4);
    ok(outcome.vector == 14 && outcome.sp == (word)last + 4, "PUSH into it, too");
    *(volatile uint32_t *)edge = 0x77; /* the handler's frame was there */
    do_xadd(0, (word)edge, 0, (word)stack);
    ok(outcome.vector == 14 && *(volatile uint32_t *)edge == 0x77, "XADD leaves memory");
    do_exchange(0, (word)edge, 0, (word)stack);
    ok(outcome.vector == 14 && *(volatile uint32_t *)edge == 0x77, "XCHG leaves memory");
    do_call((word)edge, 0, 0, (word)stack);
    ok(outcome.vector == 14 && outcome.sp == (word)stack, "CALL by it leaves the stack pointer");
    map(0, 0);
    do_backwards((word)window + 4096 + 9, (word)last - 100, 50, (word)window + 8000);
    ok(outcome.vector == 14 && fault_cr2 == (word)window + 4095 && outcome.memory == 40 &&
           outcome.b == (word)window + 4095,
       "REP MOVSB downward stops at a missing page");
}

/* Several accesses of one instruction, the last of which can't be had: the processor is as it was
 * before all of them. */
static void test_faults_of_many(void)
{
    uint8_t *last = window + 4096 * 2, *edge = last - 4, *stack = window + 4096 - 64;
    static struct {
        uint32_t offset;
        uint16_t selector;
    } __attribute__((packed)) far;

    map(0, pages[0]);
    for (unsigned i = 0; i < 16; i++)
        pages[0][i] = last[(int)i - 16] = (uint8_t)(i + 1);
    for (unsigned i = 0; i < WARM; i++) {
        do_cmps((word)window, (word)last - 16, 16, (word)stack);
        do_cmps_once((word)window, (word)last - 16, 0, (word)stack);
        do_exchange8(0, (word)last - 8, 0, (word)stack);
        do_fxsave(0, (word)last - 512, 0, (word)stack);
    }
    for (unsigned i = 0; i < 16; i++)
        last[(int)i - 16] = (uint8_t)(i + 1);
    do_cmps((word)window, (word)last - 16, 50, (word)stack);
    ok(outcome.vector == 14 && fault_cr2 == (word)last && outcome.memory == 34 &&
           outcome.b == (word)window + 16 && outcome.c == (word)last,
       "REPE CMPSB stops at the missing page");
    do_cmps_once((word)window, (word)edge, 0, (word)stack);
    ok(outcome.vector == 14 && outcome.b == (word)window && outcome.c == (word)edge,
       "CMPSQ whose second operand is missing moves neither");
    do_exchange8(0, (word)edge, 0, (word)stack);
    ok(outcome.vector == 14 && *edge == 13, "CMPXCHG8B leaves memory");
    do_fxsave(0, (word)last - 256, 0, (word)stack);
    ok(outcome.vector == 14 && fault_cr2 == (word)last, "FXSAVE across the edge faults there");
    do_iret(0, 0, 0, (word)last - 16);
    ok(outcome.vector == 14 && fault_cr2 == (word)last && outcome.sp == (word)last - 16,
       "IRETQ off a stack that ends leaves the stack pointer");

    /* Nothing is below the window: the handler needs a stack of its own. */
    tss_init();
    idt_entry(14)[0] |= UINT64_C(1) << 32;
    do_enter(0, 0, 0, (word)window + 8);
    ok(outcome.vector == 14 && fault_cr2 == (word)window - 8 && outcome.sp == (word)window + 8,
       "ENTER whose second push is missing leaves the stack pointer");
    far.offset = (uint32_t)(word)disk_code;
    far.selector = KERNEL_CODE;
    do_far_call((word)&far, 0, 0, (word)window + 4);
    ok(outcome.vector == 14 && fault_cr2 == (word)window - 4 && outcome.sp == (word)window + 4,
       "and a far CALL, too");
    idt_entry(14)[0] &= ~(UINT64_C(7) << 32);
}

uint32_t gather_indices[8] = {0, 1, 2, 3, 4, 5, 6, 7};

static void test_gather(void)
{
    uint8_t *last = window + 4096 * 2, *stack = window + 4096 - 64;
    uint32_t got[8], mask[8];

    if (!(cpuid(1, 0).c & 1 << 26) || !(cpuid(7, 0).b & 1 << 5))
        return;
    WRITE_CR(4, READ_CR(4) | 1 << 18);
    asm volatile("xsetbv" ::"c"(0), "a"(7), "d"(0));
    for (unsigned i = 0; i < WARM; i++)
        do_gather((word)window, 0, 0, (word)stack);
    do_gather((word)last - 16, 0, 0, (word)stack);
    asm volatile("vmovdqu %%ymm0, %0; vmovdqu %%ymm1, %1" : "=m"(got), "=m"(mask));
    ok(outcome.vector == 14 && fault_cr2 == (word)last, "VPGATHERDD faults at its fifth element");
    ok(got[0] == 0x04030201 && got[3] == 0x100f0e0d && !(mask[0] | mask[3]) && mask[4] == ~0u,
       "and keeps the four before it");
}

/* ---- its floating point goes wrong ----------------------------------------------------------- */

static int divide_sse(uint32_t mxcsr)
{
    static const float one = 1;
    return TRY("ldmxcsr %1; movss %0, %%xmm0; xorps %%xmm1, %%xmm1; divss %%xmm1, %%xmm0; nop",
               :
               : "m"(one), "m"(mxcsr)CLOBBER);
}

static word divide_at, divide_next;

/* The vector; where it was raised is in fault_ip. */
static int divide_x87(uint16_t control)
{
    int vector = TRY("lea 1f(%%rip), %%rcx; lea 2f(%%rip), %%rdx\n"
                     "fninit; fldcw %2; fld1; fldz; 1: fdivrp; nop; 2: fld1; fnstsw %%ax",
                     : "=&c"(divide_at), "=&d"(divide_next)
                     : "m"(control)CLOBBER);
    asm volatile("fninit");
    return vector;
}

static void test_float_errors(void)
{
    int sum = 0;

    WRITE_CR(4, READ_CR(4) | 3 << 9); /* OSFXSR, OSXMMEXCPT */
    WRITE_CR(0, (READ_CR(0) & ~(word)0xc) | 0x22);
    for (unsigned i = 0; i < WARM; i++)
        sum += divide_sse(0x1f80) + divide_x87(0x37f);
    ok(sum == -2 * WARM, "divisions by zero with their exceptions masked");
    ok(divide_sse(0x1f80 & ~0x200) == 19, "the same SSE instruction unmasked is #XM");
    ok(divide_sse(0x1f80) == -1, "and masked again none");
    ok(divide_x87(0x37b) == 16 && fault_ip == divide_next,
       "the same x87 instruction unmasked is #MF at the next of the x87");
    ok(divide_x87(0x37f) == -1 && divide_at != divide_next, "and masked again none");
}

void ap_main(int index)
{
    (void)index;
}

int main(void)
{
    idt_init();
    page_pml4[WINDOW] = (word)pdpt | P | W;
    pdpt[0] = (word)directory | P | W;
    directory[0] = (word)table | P | W;
    test_disk();
    test_remap();
    test_steps();
    test_breakpoints();
    test_faults();
    test_faults_of_many();
    test_gather();
    test_float_errors();
    return done();
}
