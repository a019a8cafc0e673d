/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Ring changes, SYSCALL, interrupts with IST, debug traps, exceptions of instructions,
 * self-modifying code. */
#include "lib.h"

static volatile uint16_t seen_cs, seen_ss;
static void user_reads_selectors(void)
{
    asm volatile("mov %%cs, %0; mov %%ss, %1; int $0x30" : "=m"(seen_cs), "=m"(seen_ss));
}
static void user_cli(void)
{
    asm volatile("cli; int $0x30");
}
static void user_in(void)
{
    asm volatile("inb $0x80, %%al; int $0x30" ::: "rax");
}
static void user_hlt(void)
{
    asm volatile("hlt; int $0x30");
}
static void user_int3(void)
{
    asm volatile("int3; int $0x30");
}
static void user_int33(void)
{
    asm volatile("int $0x21");
}
static void user_sgdt(void)
{
    uint8_t buffer[10];
    asm volatile("sgdt %0; int $0x30" : "=m"(buffer));
}
static void user_kernel_ss(void)
{
    asm volatile("mov $0x10, %%eax; mov %%eax, %%ss; int $0x30" ::: "rax");
}
static void user_unaligned(void)
{
    asm volatile(
        "pushf; orl $0x40000, (%%rsp); popf; mov %%rsp, %%rbx; mov 1(%%rbx), %%eax; int $0x30" ::
            : "rax", "rbx");
}

static volatile uint64_t syscall_rcx, syscall_r11, syscall_flags;
extern char syscall_entry[], syscall_back[];
static void user_syscall(void)
{
    asm volatile("syscall\n.globl syscall_back\nsyscall_back: int $0x30" ::
                     : "rcx", "r11", "rax", "memory");
}
asm(".globl syscall_entry\nsyscall_entry:\n"
    "mov %rcx, syscall_rcx(%rip)\n mov %r11, syscall_r11(%rip)\n"
    "pushf\n pop syscall_flags(%rip)\n sysretq\n");

static void test_rings(void)
{
    ok(run_user(user_reads_selectors) == -1 && seen_cs == USER_CODE && seen_ss == USER_DATA,
       "IRETQ to ring 3 and INT back");
    ok(run_user(user_cli) == 13 && left_error == 0, "CLI in ring 3 is #GP(0)");
    ok(run_user(user_hlt) == 13, "HLT in ring 3 is #GP");
    ok(run_user(user_in) == 13, "IN without permission is #GP");
    tss.bitmap[0x80 / 8] &= (uint8_t)~1;
    ok(run_user(user_in) == -1, "the I/O bitmap admits a port");
    tss.bitmap[0x80 / 8] |= 1;
    ok(run_user(user_int3) == 3, "INT3 through a gate of DPL 3");
    ok(run_user(user_int33) == 13 && left_error == (0x21 * 8 | 2),
       "INT through a gate of DPL 0 is #GP(vector*8+2)");
    ok(run_user(user_kernel_ss) == 13 && left_error == 0x10,
       "loading SS with a kernel selector is #GP(selector)");
    WRITE_CR(0, READ_CR(0) | 0x40000);
    ok(run_user(user_unaligned) == 17 && left_error == 0, "unaligned access under AC is #AC(0)");
    WRITE_CR(0, READ_CR(0) & ~(word)0x40000);
    ok(run_user(user_unaligned) == -1, "without CR0.AM it is allowed");
    if (cpuid(7, 0).c & 4) {
        ok(run_user(user_sgdt) == -1, "SGDT in ring 3 without UMIP");
        WRITE_CR(4, READ_CR(4) | 0x800);
        ok(run_user(user_sgdt) == 13, "SGDT in ring 3 under UMIP is #GP");
        WRITE_CR(4, READ_CR(4) & ~(word)0x800);
    }
    wrmsr(0xc0000081, UINT64_C(0x18) << 32 | UINT64_C(0x2b) << 48); /* SYSRET: SS 0x33, CS 0x3b */
    wrmsr(0xc0000082, (uint64_t)syscall_entry);
    wrmsr(0xc0000084, 0x200 | 1);
    ok(run_user(user_syscall) == -1 && syscall_rcx == (uint64_t)syscall_back,
       "SYSCALL keeps the return address in RCX");
    ok(!(syscall_flags & 0x201) && (syscall_r11 & 2), "SFMASK clears flags");
}

static volatile word ist_sp;
static void on_ist(struct frame *f)
{
    ist_sp = (word)f;
}

static void test_ist(void)
{
    set_vector(0x31, on_ist);
    idt_entry(0x31)[0] |= UINT64_C(1) << 32;
    asm volatile("int $0x31");
    ok(ist_sp > (word)ist_stack && ist_sp < (word)(ist_stack + sizeof(ist_stack)),
       "a gate with IST switches stacks");
}

static volatile unsigned db_count;
static volatile word db_dr6, db_ip, db_flags;
static void on_db(struct frame *f)
{
    db_count++;
    db_dr6 = READ_DR(6);
    db_ip = f->ip;
    db_flags = f->flags;
    WRITE_DR(6, 0xffff0ff0);
    f->flags |= 0x10000;
}
static void on_db_stop(struct frame *f)
{
    on_db(f);
    f->flags &= ~(word)0x100;
}
static volatile uint64_t watched[2];
extern char ss_target[], trap_here[], bp_here[], bp_next[];

static void test_debug(void)
{
    word a;

    set_vector(1, on_db_stop);
    asm volatile("pushf; orl $0x100, (%%rsp); popf; nop\n .globl trap_here\ntrap_here: nop" ::
                     : "memory", "cc");
    ok(db_count == 1 && db_ip == (word)trap_here && (db_dr6 & 0x4000),
       "TF traps after one instruction with BS");
    db_count = 0;
    asm volatile("mov %%ss, %0; pushf; orl $0x100, (%%rsp); popf; mov %0, %%ss; nop; .globl "
                 "ss_target\nss_target: nop"
                 : "=&r"(a)::"memory", "cc");
    ok(db_count == 1 && db_ip == (word)ss_target, "MOV SS delays the single-step trap");
    set_vector(1, on_db);
    db_count = 0;
    WRITE_DR(0, bp_here);
    WRITE_DR(7, 0x401);
    asm volatile(".globl bp_here\nbp_here: nop\n.globl bp_next\nbp_next: nop" ::: "memory");
    ok(db_count == 1 && db_ip == (word)bp_here && (db_dr6 & 15) == 1,
       "execution breakpoint faults once, RF continues");
    db_count = 0;
    WRITE_DR(1, &watched[0]);
    WRITE_DR(7, 0x400 | 4 | 0x900000); /* DR1: write, 8 bytes would be 2<<22; here 4 bytes: 3 */
    WRITE_DR(7, 0x400 | 4 | 1 << 20 | 3 << 22);
    watched[0] = 5;
    ok(db_count == 1 && (db_dr6 & 15) == 2, "write breakpoint traps");
    (void)watched[0];
    ok(db_count == 1, "a read does not trigger it");
    watched[1] = 5;
    ok(db_count == 1, "nor does the neighbour");
    WRITE_DR(7, 0x400 | 4 | 3 << 20 | 3 << 22);
    (void)watched[0];
    ok(db_count == 2, "read/write breakpoint traps on reads");
    WRITE_DR(7, 0x400);
    db_count = 0;
    asm volatile(".byte 0xf1");
    ok(db_count == 1, "INT1");
    WRITE_DR(7, 0x400 | 1 << 13);
    db_count = 0;
    set_vector(1, 0);
    ok(TRY("mov %%dr0, %0",
           : "=r"(a)
           : CLOBBER) == 1 &&
           (fault_dr6 & 0x2000),
       "general detect faults on DR access");
    WRITE_DR(6, 0xffff0ff0);
    ok(TRY("mov %0, %%dr7", : : "r"(UINT64_C(1) << 32) CLOBBER) == 13, "upper half of DR7 is #GP");
}

static void test_instruction_faults(void)
{
    uint32_t control = 0x300, mxcsr = 0x1f80 & ~0x200u;
    uint8_t unaligned[40];

    ok(TRY("xor %%ecx, %%ecx; mov $1, %%ebx; div %%ecx",
           :
           :
           : "rax", "rbx", "rcx", "rdx", "cc") == 0,
       "#DE");
    ok(TRY("mov $-1, %%edx; mov $2, %%ecx; div %%ecx",
           :
           :
           : "rax", "rcx", "rdx", "cc") == 0,
       "quotient overflow is #DE");
    ok(TRY("ud2", : : : "rax") == 6, "UD2");
    ok(TRY(".byte 0xf0; mov %%eax, %%ebx", : : : "rax", "rbx") == 6, "LOCK on MOV is #UD");
    ok(TRY(".byte 0x06", : : : "rax") == 6, "PUSH ES in 64-bit mode is #UD");
    ok(TRY(".byte 0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x90",
           :
           :
           : "rax") == 13,
       "16 bytes are #GP");
    ok(TRY("mov $0x10, %%ecx; mov %%ecx, %%cs", : : : "rax", "rcx") == 6, "MOV CS is #UD");
    ok(TRY("mov $0xf8, %%ecx; mov %%ecx, %%ds",
           :
           :
           : "rax", "rcx") == 13 &&
           fault_error == 0xf8,
       "selector over the limit is #GP(selector)");
    gdt[20] = 0x00cf13000000ffff; /* not present */
    ok(TRY("mov $0xa0, %%ecx; mov %%ecx, %%ds",
           :
           :
           : "rax", "rcx") == 11 &&
           fault_error == 0xa0,
       "#NP(selector)");
    ok(TRY("mov $0xa0, %%ecx; mov %%ecx, %%ss",
           :
           :
           : "rax", "rcx") == 12 &&
           fault_error == 0xa0,
       "SS not present is #SS(selector)");
    ok(TRY("movaps (%0), %%xmm0",
           :
           : "r"(((word)unaligned | 15) + 2)
           : "rax") == 13,
       "unaligned MOVAPS is #GP");
    asm volatile("fninit; fldcw %0" ::"m"(control));
    ok(TRY("fldz; fld1; fdivp; fwait; nop",
           :
           :
           : "rax") == 16 ||
           TRY("fld1; fldz; fdivrp; fldz; fdivrp; fwait",
               :
               :
               : "rax") == 16,
       "unmasked x87 exception is #MF at the next one");
    asm volatile("fninit");
    asm volatile("ldmxcsr %0" ::"m"(mxcsr));
    ok(TRY("xorps %%xmm0, %%xmm0; mov $1, %%ecx; cvtsi2ss %%ecx, %%xmm1; divss %%xmm0, %%xmm1",
           :
           :
           : "rax", "rcx") == 19,
       "unmasked SSE division by zero is #XM");
    mxcsr = 0x1f80;
    asm volatile("ldmxcsr %0" ::"m"(mxcsr));
    mxcsr = 0x80001f80;
    ok(TRY("ldmxcsr %0", : : "m"(mxcsr) : "rax") == 13, "reserved MXCSR bit is #GP");
    WRITE_CR(0, READ_CR(0) | 8);
    ok(TRY("fld1", : : : "rax") == 7, "x87 with TS is #NM");
    ok(TRY("xorps %%xmm0, %%xmm0", : : : "rax") == 7, "SSE with TS is #NM");
    asm volatile("clts");
    WRITE_CR(4, READ_CR(4) & ~(word)0x200);
    ok(TRY("xorps %%xmm0, %%xmm0", : : : "rax") == 6, "SSE without OSFXSR is #UD");
    WRITE_CR(4, READ_CR(4) | 0x200);
    ok(TRY("mov $0, %%ecx; xgetbv",
           :
           :
           : "rax", "rcx", "rdx") == 6,
       "XGETBV without OSXSAVE is #UD");
}

static uint8_t code[64] __attribute__((aligned(64)));
static void test_self_modifying(void)
{
    /* mov byte [rdi], 0x02 as the immediate of the next instruction: mov eax, 1; ret */
    static const uint8_t program[] = {0xc6, 0x05, 0x01, 0, 0, 0, 0x02, 0xb8, 1, 0, 0, 0, 0xc3};
    bool good = true;

    for (unsigned i = 0; i < sizeof(program); i++)
        code[i] = program[i];
    ok(((int (*)(void))code)() == 2, "an instruction that rewrites the next one");
    for (int i = 0; i < 1000; i++) {
        code[8] = (uint8_t)i;
        code[6] = (uint8_t)(i * 3);
        good &= ((int (*)(void))code)() == (uint8_t)(i * 3);
    }
    ok(good, "code rewritten a thousand times");
    {
        static const uint8_t copy[] = {0xf3, 0xa4, 0xc3}; /* rep movsb; ret */
        static uint8_t source[64];
        uint8_t *to = code + 16;
        uint8_t *from = source;
        uint64_t count = 6;
        source[0] = 0xb8, source[1] = 0x55, source[2] = 0, source[3] = 0, source[4] = 0,
        source[5] = 0xc3;
        for (unsigned i = 0; i < sizeof(copy); i++)
            code[i] = copy[i];
        to[0] = 0xc3;
        ((void (*)(void))to)();
        asm volatile("call *%3" : "+D"(to), "+S"(from), "+c"(count) : "r"(code) : "memory");
        ok(((int (*)(void))(code + 16))() == 0x55, "string copy over code that ran before");
    }
}

int main(void)
{
    idt_init();
    tss_init();
    test_rings();
    test_ist();
    test_debug();
    test_instruction_faults();
    test_self_modifying();
    return done();
}

void ap_main(int index)
{
}
