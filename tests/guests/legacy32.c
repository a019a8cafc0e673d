/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * 32-bit protected mode and what hangs on it: segment limits, call gates, task switches,
 * virtual-8086 mode, 16-bit code, a trip to real mode and unreal mode, 2-level and PAE paging. SDM
 * 3A 3, 5, 7, 20.
 */
#include "lib.h"

enum { CODE = 0x08, DATA = 0x10, CODE16 = 0x20, DATA16 = 0x28, USER_DATA = 0x33, USER_CODE = 0x43 };
enum { TSS_A = 0x48, TSS_B = 0x50, TEST = 0x58, GATE = 0x60, TASK_GATE = 0x68 };

struct tss {
    uint16_t link, r0;
    uint32_t esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip, eflags, eax, ecx, edx, ebx, esp, ebp, esi,
        edi;
    uint32_t es, cs, ss, ds, fs, gs, ldt;
    uint16_t trap, iomap;
    uint8_t redirection[32], bitmap[8193];
};
static struct tss tss_a, tss_b __attribute__((aligned(128)));
static uint8_t ring0_stack[8192], task_stack[4096], user_stack[4096] __attribute__((aligned(16)));

static void set_descriptor(unsigned selector, uint32_t base, uint32_t limit, uint32_t access,
                           uint32_t flags)
{
    gdt[selector / 8] = (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 |
                        (uint64_t)access << 40 | (uint64_t)(limit >> 16 & 15) << 48 |
                        (uint64_t)flags << 52 | (uint64_t)(base >> 24) << 56;
}

static void set_call_gate(unsigned selector, uint16_t target, uint32_t offset, unsigned type,
                          unsigned count)
{
    gdt[selector / 8] = (offset & 0xffff) | (uint64_t)target << 16 | (uint64_t)count << 32 |
                        (uint64_t)type << 40 | (uint64_t)(offset >> 16) << 48;
}

static void load_task(void)
{
    tss_a.esp0 = (uint32_t)ring0_stack + sizeof(ring0_stack);
    tss_a.ss0 = DATA;
    tss_a.iomap = (uint16_t)((uint32_t)tss_a.bitmap - (uint32_t)&tss_a);
    for (unsigned i = 0; i < sizeof(tss_a.bitmap); i++)
        tss_a.bitmap[i] = 0xff;
    set_descriptor(TSS_A, (uint32_t)&tss_a, sizeof(tss_a) - 1, 0x89, 0);
    asm volatile("ltr %w0" ::"r"(TSS_A));
    ok((gdt[TSS_A / 8] >> 40 & 0xff) == 0x8b, "LTR marks the TSS busy");
}

static void test_limits(void)
{
    static uint8_t area[256];
    uint32_t v;

    set_descriptor(TEST, (uint32_t)area, 99, 0x93, 4);
    asm volatile("mov %w0, %%fs" ::"r"(TEST));
    ok(TRY("movl %%fs:96, %0", : "=r"(v) : CLOBBER) < 0, "last dword inside the limit");
    ok(TRY("movl %%fs:97, %0",
           : "=r"(v)
           : CLOBBER) == 13 &&
           fault_error == 0,
       "one byte over the limit is #GP(0)");
    ok(TRY("movl %%fs:-4, %0", : "=r"(v) : CLOBBER) == 13, "negative offset is #GP");
    set_descriptor(TEST, (uint32_t)area, 99, 0x97, 4); /* expand down: 100 to 4 GiB */
    asm volatile("mov %w0, %%fs" ::"r"(TEST));
    ok(TRY("movb %%fs:99, %b0", : "=q"(v) : CLOBBER) == 13, "expand-down: below the limit is #GP");
    ok(TRY("movb %%fs:100, %b0", : "=q"(v) : CLOBBER) < 0, "expand-down: above is fine");
    set_descriptor(TEST, (uint32_t)area, 99, 0x91, 4);
    asm volatile("mov %w0, %%fs" ::"r"(TEST));
    ok(TRY("movl $1, %%fs:0", : : CLOBBER) == 13, "write to a read-only segment is #GP");
    asm volatile("mov %w0, %%fs" ::"r"(0));
    ok(TRY("movl %%fs:0, %0", : "=r"(v) : CLOBBER) == 13, "null segment is #GP");
    set_descriptor(TEST, 0, 0xfffff, 0x99, 0xc);
    ok(TRY("mov %w0, %%fs",
           :
           : "r"(TEST)CLOBBER) == 13 &&
           fault_error == TEST,
       "execute-only code is not readable");
    ok(TRY("mov %w0, %%ss",
           :
           : "r"(CODE)CLOBBER) == 13 &&
           fault_error == CODE,
       "SS needs writable data");
    set_descriptor(TEST, 0, 0xfffff, 0x92, 0xc);
    asm volatile("mov %w0, %%fs" ::"r"(TEST));
    ok(gdt[TEST / 8] >> 40 & 1, "loading sets the accessed bit");
    asm volatile("mov %w0, %%fs" ::"r"(DATA));
    ok(TRY("into; nop", : : CLOBBER) < 0, "INTO without OF");
    ok(TRY("mov $0x7fffffff, %%ecx; inc %%ecx; into",
           :
           :
           : "eax", "ecx", "memory") == 4,
       "INTO with OF");
    {
        int32_t bounds[2] = {-5, 5};
        ok(TRY("bound %0, %1", : : "r"(5), "m"(bounds)CLOBBER) < 0, "BOUND inside");
        ok(TRY("bound %0, %1", : : "r"(6), "m"(bounds)CLOBBER) == 5, "BOUND outside is #BR");
    }
    asm volatile("mov $0x53, %%al; aaa; mov %%eax, %0" : "=r"(v)::"eax", "cc");
    ok((v & 0xf) == 3, "AAA");
    ok(TRY(".byte 0xd5, 0x0a",
           :
           : CLOBBER) < 0 &&
           TRY(".byte 0xd4, 0x00",
               :
               : CLOBBER) == 0,
       "AAM 0 is #DE");
    asm volatile("stc; .byte 0xd6; movzbl %%al, %0" : "=r"(v)::"eax");
    ok(v == 0xff, "SALC");
}

/* ---- rings and call gates -------------------------------------------------------------------- */
static volatile uint32_t back_esp, gate_args[2], gate_cs, gate_ss_pushed;
static volatile int user_vector;
static volatile uint32_t user_error, user_esp, user_cr2;
extern char gate_entry[], back_here[];
asm("gate_entry:\n mov 8(%esp), %eax\n mov %eax, gate_args\n mov 12(%esp), %eax\n mov %eax, "
    "gate_args+4\n"
    "mov %cs, gate_cs\n mov 20(%esp), %eax\n mov %eax, gate_ss_pushed\n lret $8\n");

static void leave_user(struct frame *f)
{
    user_vector = f->vector == 0x30 ? -1 : (int)f->vector;
    user_error = f->error;
    user_esp = f->sp;
    user_cr2 = READ_CR(2);
    asm volatile(
        "mov %0, %%ds; mov %0, %%es; mov %0, %%fs; mov %0, %%gs; mov %1, %%esp; jmp back_here" ::
            "r"(DATA),
        "m"(back_esp));
}

static void __attribute__((noinline)) run_user(void (*fn)(void))
{
    for (unsigned v = 0; v < 32; v++)
        set_vector(v, leave_user);
    set_vector(0x30, leave_user);
    asm volatile("push %%ebp; push %%ebx; push %%esi; push %%edi; mov %%esp, back_esp\n"
                 "mov %0, %%ds; mov %0, %%es; push %0; push %1; push $2; push %2; push %3; iretl\n"
                 "back_here: pop %%edi; pop %%esi; pop %%ebx; pop %%ebp\n"
                 :
                 : "r"(USER_DATA), "r"(user_stack + sizeof(user_stack)), "i"(USER_CODE), "r"(fn)
                 : "memory", "cc", "eax", "ecx", "edx");
    for (unsigned v = 0; v < 32; v++)
        set_vector(v, 0);
}

static void user_gate(void)
{
    asm volatile("pushl $0x2222; pushl $0x1111; lcall %0, $0; int $0x30" ::"i"(GATE | 3));
}
static void user_gate_no(void)
{
    asm volatile("lcall %0, $0; int $0x30" ::"i"(GATE | 3));
}
static void user_load_data0(void)
{
    asm volatile("mov %w0, %%fs; int $0x30" ::"r"(DATA));
}
static void user_arpl(void)
{
    uint16_t selector = 0x10, rpl3 = 3;
    bool zf;
    asm volatile("arpl %2, %0; sete %1" : "+r"(selector), "=q"(zf) : "r"(rpl3) : "cc");
    user_error = 0;
    asm volatile("int $0x30" ::"a"(selector), "b"(zf));
}

static void test_rings(void)
{
    idt_entry(0x30)[0] |= UINT64_C(0x6000) << 32;
    set_call_gate(GATE, CODE, (uint32_t)gate_entry, 0xec, 2);
    run_user(user_gate);
    ok(user_vector == -1 && gate_args[0] == 0x1111 && gate_args[1] == 0x2222 && (gate_cs & 3) == 0,
       "call gate to ring 0 copies parameters");
    ok((gate_ss_pushed & 0xffff) == USER_DATA, "and pushes the outer SS");
    set_call_gate(GATE, CODE, (uint32_t)gate_entry, 0x8c, 2);
    run_user(user_gate_no);
    ok(user_vector == 13 && (user_error & 0xfffc) == GATE,
       "gate of DPL 0 from ring 3 is #GP(gate)");
    set_call_gate(GATE, CODE, (uint32_t)gate_entry, 0x6c, 2);
    run_user(user_gate_no);
    ok(user_vector == 11 && (user_error & 0xfffc) == GATE, "gate not present is #NP(gate)");
    run_user(user_load_data0);
    ok(user_vector == 13 && user_error == DATA, "ring 3 can't load ring 0 data");
    run_user(user_arpl);
    ok(user_vector == -1, "ARPL in ring 3");
}

/* ---- tasks ----------------------------------------------------------------------------------- */
static volatile uint32_t task_runs, task_link, task_nt;
static void __attribute__((used)) task_body(void)
{
    for (;;) {
        task_runs++;
        task_link = tss_b.link;
        asm volatile("pushf; pop %0" : "=r"(task_nt));
        asm volatile("iret");
    }
}

static void init_task(void (*body)(void))
{
    tss_b = (struct tss){.eip = (uint32_t)body,
                         .eflags = 2,
                         .esp = (uint32_t)task_stack + sizeof(task_stack),
                         .es = DATA,
                         .cs = CODE,
                         .ss = DATA,
                         .ds = DATA,
                         .fs = DATA,
                         .gs = DATA};
    tss_b.cr3 = READ_CR(3);
    tss_b.iomap = sizeof(tss_b);
    set_descriptor(TSS_B, (uint32_t)&tss_b, sizeof(tss_b) - 1, 0x89, 0);
}

static volatile uint32_t fault_task_error;
static void __attribute__((used)) fault_task(void)
{
    for (;;) {
        asm volatile(
            "pop %0"
            : "=m"(fault_task_error)); /* the error code is pushed on the new task's stack */
        task_runs++;
        tss_a.eip = recover;
        asm volatile("iret");
    }
}

static void test_tasks(void)
{
    init_task(task_body);
    asm volatile("lcall %0, $0" ::"i"(TSS_B) : "memory", "cc");
    ok(task_runs == 1 && task_link == TSS_A, "CALL to a TSS links back and IRET returns");
    ok((task_nt & 0x4000) && (gdt[TSS_B / 8] >> 40 & 2) == 0,
       "NT in the task, not busy afterwards");
    ok(READ_CR(0) & 8, "a task switch sets TS");
    asm volatile("clts");
    gdt[TASK_GATE / 8] = (uint64_t)TSS_B << 16 | UINT64_C(0x8500) << 32;
    asm volatile("lcall %0, $0" ::"i"(TASK_GATE) : "memory", "cc");
    asm volatile("clts");
    ok(task_runs == 2, "CALL through a task gate");
    set_descriptor(TSS_B, (uint32_t)&tss_b, sizeof(tss_b) - 1, 0x8b, 0);
    ok(TRY("lcall %0, $0",
           :
           : "i"(TSS_B)CLOBBER) == 13 &&
           (fault_error & 0xfffc) == TSS_B,
       "busy TSS is #GP");
    set_descriptor(TSS_B, (uint32_t)&tss_b, 0x60, 0x89, 0);
    ok(TRY("lcall %0, $0",
           :
           : "i"(TSS_B)CLOBBER) == 10 &&
           (fault_error & 0xfffc) == TSS_B,
       "short TSS is #TS");
    init_task(fault_task);
    uint64_t old = idt_entry(13)[0];
    idt_entry(13)[0] = (uint64_t)TSS_B << 16 | UINT64_C(0x8500) << 32;
    uint32_t runs = task_runs;
    TRY("mov %w0, %%fs", : : "r"(0xf8)CLOBBER);
    asm volatile("clts");
    idt_entry(13)[0] = old;
    ok(task_runs == runs + 1 && fault_task_error == 0xf8,
       "#GP through a task gate pushes its error code");
}

/* ---- virtual-8086 mode ----------------------------------------------------------------------- */
static volatile uint32_t v86_stop_vector, v86_ip, v86_flags, v86_cs;
static void leave_v86(struct frame *f)
{
    v86_stop_vector = f->vector;
    v86_ip = f->ip;
    v86_cs = f->cs;
    v86_flags = f->flags;
    asm volatile(
        "mov %0, %%ds; mov %0, %%es; mov %0, %%fs; mov %0, %%gs; mov %1, %%esp; jmp back_v86" ::"r"(
            DATA),
        "m"(back_esp));
}

static void __attribute__((noinline))
run_v86_at(uint32_t eip, const uint8_t *code, unsigned size, uint32_t flags)
{
    uint8_t *at = (uint8_t *)0x9000;

    for (unsigned i = 0; i < size; i++)
        at[i] = code[i];
    for (unsigned v = 0; v < 32; v++)
        set_vector(v, leave_v86);
    asm volatile("push %%ebp; push %%ebx; push %%esi; push %%edi; mov %%esp, back_esp\n"
                 "push $0; push $0; push $0x900; push $0x900; push $0x800; push $0x7f0; push %0; "
                 "push $0x900; push %1; iretl\n"
                 "back_v86: pop %%edi; pop %%esi; pop %%ebx; pop %%ebp\n"
                 :
                 : "r"(flags | 0x20002), "r"(eip)
                 : "memory", "cc", "eax", "ecx", "edx");
    for (unsigned v = 0; v < 32; v++)
        set_vector(v, 0);
}

static void run_v86(const uint8_t *code, unsigned size, uint32_t flags)
{
    run_v86_at(0, code, size, flags);
}

/* Runs code in virtual-8086 mode whose HLT ends it; the word at 9100h + n is a result. */
#define V86_RESULT(n) (*(volatile uint16_t *)(0x9100 + (n)))

/* PUSHF, POPF and IRET by IOPL and VME (SDM 3B 20.3.3), and stacks that end at offset 0. */
static void test_v86_flags(void)
{
    static const uint8_t pushf[] = {0x9c, 0x58, 0xa3, 0x00, 0x01, 0xf4};
    static const uint8_t popf[] = {0x68, 0x00, 0x32, 0x9d, 0xf4}; /* push 3200h; popf */
    static const uint8_t popf_tf[] = {0x68, 0x00, 0x01, 0x9d, 0xf4};
    static const uint8_t popfd[] = {0x66, 0x9d, 0xf4};
    static const uint8_t push_at_1[] = {0xbc, 0x01, 0x00, 0x50, 0xf4}; /* mov sp,1; push ax */
    static const uint8_t push_at_0[] = {0xbc, 0x00, 0x00, 0x50, 0x89, 0xe0, 0xa3, 0x00, 0x01, 0xf4};

    outb(0x21, 0xff), outb(0xa1, 0xff);
    run_v86(pushf, sizeof(pushf), 0);
    ok(v86_stop_vector == 13 && v86_ip == 0, "PUSHF with IOPL 0 is #GP");
    run_v86(popf, sizeof(popf), 0x3000);
    ok(v86_ip == 4 && (v86_flags & 0x3200) == 0x3200, "POPF with IOPL 3 changes IF");
    run_v86(push_at_1, sizeof(push_at_1), 0);
    ok(v86_stop_vector == 12 && v86_ip == 3, "PUSH at SP 1 is #SS");
    run_v86(push_at_0, sizeof(push_at_0), 0);
    ok(v86_stop_vector == 13 && V86_RESULT(0) == 0xfffe, "PUSH at SP 0 goes to the end");
    if (!(cpuid(1, 0).d & 2))
        return;
    WRITE_CR(4, READ_CR(4) | 1);
    run_v86(pushf, sizeof(pushf), 0x80000);
    ok(v86_ip == 5 && (V86_RESULT(0) & 0x3200) == 0x3200, "VME: PUSHF shows VIF and IOPL 3");
    run_v86(popf, sizeof(popf), 0);
    ok(v86_ip == 4 && (v86_flags & 0x83200) == 0x80000, "VME: POPF changes VIF alone");
    run_v86(popf, sizeof(popf), 0x100000);
    ok(v86_stop_vector == 13 && v86_ip == 3, "VME: POPF of IF with VIP is #GP");
    run_v86(popf_tf, sizeof(popf_tf), 0);
    ok(v86_stop_vector == 13 && v86_ip == 3, "VME: POPF of TF is #GP");
    run_v86(popfd, sizeof(popfd), 0);
    ok(v86_stop_vector == 13 && v86_ip == 0, "VME: POPFD is #GP");
    WRITE_CR(4, READ_CR(4) & ~1u);
}

static void test_v86(void)
{
    static const uint8_t store_and_hlt[] = {0xb8, 0x34, 0x12, 0xa3,
                                            0x00, 0x01, 0xf4}; /* mov ax,1234; mov [100],ax; hlt */
    static const uint8_t cli_code[] = {0x90, 0xfa, 0xf4};
    static const uint8_t int_code[] = {0xcd, 0x21, 0xf4};
    static const uint8_t segments[] = {0x8c, 0xc8, 0xa3, 0x02, 0x01, 0x8c,
                                       0xd0, 0xa3, 0x04, 0x01, 0xf4};

    run_v86(store_and_hlt, sizeof(store_and_hlt), 0);
    ok(v86_stop_vector == 13 && v86_ip == 6 && *(uint16_t *)0x9100 == 0x1234 &&
           (v86_flags & 0x20000),
       "VM86 runs 16-bit code; HLT is #GP");
    ok(v86_cs == 0x900, "the handler sees the VM86 CS");
    run_v86_at(0x50000, store_and_hlt, sizeof(store_and_hlt), 0);
    if (cpuid(0, 0).c == 0x444d4163)
        ok(v86_stop_vector == 13 && v86_ip == 6 && v86_cs == 0x900,
           "IRET drops the upper half of EIP, as AMD's processors do");
    else
        ok(v86_stop_vector == 13 && (v86_cs & 0xffff) == CODE,
           "IRET to an EIP beyond 64 KiB is #GP");
    run_v86(segments, sizeof(segments), 0);
    ok(*(uint16_t *)0x9102 == 0x900 && *(uint16_t *)0x9104 == 0x800, "segments are paragraphs");
    run_v86(cli_code, sizeof(cli_code), 0);
    ok(v86_stop_vector == 13 && v86_ip == 1, "CLI with IOPL 0 is #GP");
    run_v86(cli_code, sizeof(cli_code), 0x3000);
    ok(v86_stop_vector == 13 && v86_ip == 2 && !(v86_flags & 0x200), "CLI with IOPL 3 runs");
    run_v86(int_code, sizeof(int_code), 0);
    ok(v86_stop_vector == 13 && v86_ip == 0, "INT n with IOPL 0 is #GP");
    if (cpuid(1, 0).d & 2) {
        static const uint8_t handler[] = {0xc7, 0x06, 0x06, 0x01,
                                          0x77, 0x77, 0xf4}; /* mov word [106],7777; hlt */
        for (unsigned i = 0; i < sizeof(handler); i++)
            ((uint8_t *)0x9080)[i] = handler[i];
        *(volatile uint32_t *)(0x21 * 4) = 0x900 << 16 | 0x80;
        WRITE_CR(4, READ_CR(4) | 1);
        *(uint16_t *)0x9106 = 0;
        run_v86(int_code, sizeof(int_code), 0);
        ok(v86_stop_vector == 13 && v86_ip == 0x86 && *(uint16_t *)0x9106 == 0x7777,
           "VME redirects INT n to the 8086 handler");
        run_v86(cli_code, sizeof(cli_code), 0x80000);
        ok(v86_ip == 2 && !(v86_flags & 0x80000), "VME: CLI clears VIF");
        WRITE_CR(4, READ_CR(4) & ~1u);
    }
}

/* ---- 16-bit protected code and real mode ----------------------------------------------------- */
extern char real_start[], real_end[];
asm(".pushsection .data\n.code16\n"
    "real_start:\n" /* at 0xa000, 16-bit protected mode, CS = CODE16 */
    "mov $0x28, %ax\n mov %ax, %ds\n mov %ax, %es\n mov %ax, %ss\n"
    "mov %cr0, %eax\n and $0xfffffffe, %eax\n mov %eax, %cr0\n ljmp $0xa00, $(1f - real_start)\n"
    "1: xor %ax, %ax\n mov %ax, %ds\n mov %ax, %es\n mov %ax, %ss\n mov $0x7000, %sp\n"
    "lidtl %cs:(real_idt - real_start)\n"
    "movw $(handler - real_start), 0x60*4\n movw $0xa00, 0x60*4+2\n"
    "int $0x60\n mov %bx, 0x9202\n"
    "movw $(handler_gp - real_start), 0x0d*4\n movw $0xa00, 0x0d*4+2\n"
    "mov $0xffff, %di\n mov (%di), %eax\n" /* 4 bytes at 0xffff: #GP in real mode */
    "after_gp: mov %cx, 0x9204\n"
    "mov %cr0, %eax\n or $1, %al\n mov %eax, %cr0\n mov $0x10, %bx\n mov %bx, %fs\n and $0xfe, "
    "%al\n mov %eax, %cr0\n" /* unreal FS */
    "mov $0x100000, %esi\n mov %fs:(%esi), %eax\n mov %eax, 0x9208\n"
    "mov %cr0, %eax\n or $1, %al\n mov %eax, %cr0\n ljmpl $0x08, $real_back\n"
    "handler: mov $0x4321, %bx\n iret\n"
    "handler_gp: mov $0x0d0d, %cx\n pop %ax\n push $(after_gp - real_start)\n iret\n"
    "real_idt: .word 0x3ff\n .long 0\n"
    "real_end:\n.code32\n.popsection\n");

static void __attribute__((noinline)) test_real_mode(void)
{
    struct {
        uint16_t limit;
        uint32_t base;
    } __attribute__((packed)) idtr;

    asm volatile("sidt %0" : "=m"(idtr));
    for (char *from = real_start, *to = (char *)0xa000; from < real_end;)
        *to++ = *from++;
    set_descriptor(CODE16, 0xa000, 0xffff, 0x9b, 0);
    *(volatile uint32_t *)0x9200 = *(volatile uint32_t *)0x9204 = *(volatile uint32_t *)0x9208 = 0;
    asm volatile("push %%ebp; push %%ebx; push %%esi; push %%edi; mov %%esp, back_esp\n"
                 "ljmpl %0, $0\n"
                 "real_back: mov $0x10, %%ax; mov %%ax, %%ds; mov %%ax, %%es; mov %%ax, %%ss; mov "
                 "%%ax, %%fs; mov %%ax, %%gs\n"
                 "mov back_esp, %%esp; pop %%edi; pop %%esi; pop %%ebx; pop %%ebp\n" ::"i"(CODE16)
                 : "eax", "ecx", "edx", "memory", "cc");
    asm volatile("lidt %0" ::"m"(idtr));
    ok(*(volatile uint16_t *)0x9202 == 0x4321, "real mode: INT through the vector table");
    ok(*(volatile uint16_t *)0x9204 == 0x0d0d, "real mode: an access over 64 KiB is #GP");
    ok(*(volatile uint32_t *)0x9208 == 0x1badb002, "unreal mode keeps the 4 GiB limit");
}

/* ---- paging ---------------------------------------------------------------------------------- */
static uint32_t directory[1024] __attribute__((aligned(4096))),
    table[1024] __attribute__((aligned(4096)));
static uint64_t pae_directories[4][512] __attribute__((aligned(4096)));
static uint64_t pdpt[4] __attribute__((aligned(32)));
static uint32_t page[1024] __attribute__((aligned(4096)));

static void user_pusha(void)
{
    asm volatile("mov $0x40000010, %esp; pusha; int $0x30");
}
static void user_popa(void)
{
    asm volatile("mov $0x40000ff0, %esp; popa; int $0x30");
}
static void user_enter(void)
{
    asm volatile("mov $0x40000004, %esp; enter $16, $2; int $0x30");
}
static void user_far_call(void)
{
    asm volatile("mov $0x40000004, %%esp; lcall %0, $0; int $0x30" ::"i"(USER_CODE));
}

/* In ring 3, on a page with nothing around it: the stack pointer is as it was before. */
static void test_stack_ends(void)
{
    run_user(user_pusha);
    ok(user_vector == 14 && user_error == 6 && user_esp == 0x40000010 && user_cr2 == 0x3ffffffc,
       "PUSHA faults at its fifth push and leaves ESP");
    run_user(user_popa);
    ok(user_vector == 14 && user_error == 4 && user_esp == 0x40000ff0 && user_cr2 == 0x40001000,
       "POPA faults at its fifth pop and leaves ESP");
    run_user(user_enter);
    ok(user_vector == 14 && user_esp == 0x40000004 && user_cr2 < 0x40000000,
       "ENTER whose second push is missing leaves ESP");
    run_user(user_far_call);
    ok(user_vector == 14 && user_esp == 0x40000004 && user_cr2 == 0x3ffffffc,
       "and a far CALL, too");
}

static void test_paging(void)
{
    volatile uint32_t *window = (uint32_t *)0x40000000;
    uint32_t v;

    for (unsigned i = 0; i < 1024; i++)
        directory[i] = i << 22 | 0x87;
    directory[0xff] = 0;
    directory[0x100] = (uint32_t)table | 7;
    table[0] = (uint32_t)page | 7;
    page[0] = 0xcafe;
    WRITE_CR(4, READ_CR(4) | 0x10);
    WRITE_CR(3, directory);
    WRITE_CR(0, READ_CR(0) | 0x80010000);
    ok(window[0] == 0xcafe && (table[0] & 0x20), "2-level paging with 4 MiB pages beside");
    ok(TRY("movl 4096(%1), %0",
           : "=r"(v)
           : "r"(window)CLOBBER) == 14 &&
           fault_error == 0 && fault_cr2 == 0x40001000,
       "fault in a 4 KiB table");
    test_stack_ends();
    page[0] = 0xcafe;
    table[0] &= ~2u;
    invlpg((void *)window);
    ok(TRY("movl $1, (%0)", : : "r"(window)CLOBBER) == 14 && fault_error == 3, "write protection");
    WRITE_CR(0, READ_CR(0) & ~0x80000000);
    for (unsigned i = 0; i < 2048; i++)
        pae_directories[i / 512][i % 512] = (uint64_t)i << 21 | 0x83;
    pae_directories[1][0] = (uint32_t)table | 3;
    for (unsigned i = 0; i < 4; i++)
        pdpt[i] = (uint32_t)pae_directories[i] | 1;
    ((uint64_t *)table)[0] = (uint32_t)page | 3;
    ((uint64_t *)table)[1] = 0;
    WRITE_CR(4, READ_CR(4) | 0x20);
    WRITE_CR(3, pdpt);
    WRITE_CR(0, READ_CR(0) | 0x80000000);
    ok(window[0] == 0xcafe, "PAE paging");
    ok(TRY("movl 4096(%1), %0",
           : "=r"(v)
           : "r"(window)CLOBBER) == 14 &&
           fault_error == 0,
       "PAE fault");
    pdpt[3] |= 2; /* reserved */
    ok(TRY("mov %0, %%cr3", : : "r"(pdpt)CLOBBER) == 13, "reserved PDPTE bit at MOV CR3 is #GP");
    pdpt[3] &= ~UINT64_C(2);
    WRITE_CR(0, READ_CR(0) & ~0x80000000);
    WRITE_CR(4, READ_CR(4) & ~0x30);
}

int main(void)
{
    idt_init();
    load_task();
    test_limits();
    test_rings();
    test_tasks();
    test_v86();
    test_v86_flags();
    test_real_mode();
    test_paging();
    return done();
}
