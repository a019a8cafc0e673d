/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the bare-metal tests share: TAP lines on COM1, the IDT, instructions that are expected to
 * fault, and the local APIC. A test program is a Multiboot kernel; main() calls ok() for each case
 * and returns done().
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef unsigned long word; /* 32 or 64 bits */

struct frame {
#ifdef __x86_64__
    word r15, r14, r13, r12, r11, r10, r9, r8, di, si, bp, bx, dx, cx, ax;
#else
    word es, ds, di, si, bp, sp_before, bx, dx, cx, ax;
#endif
    word vector, error, ip, cs, flags, sp, ss; /* sp, ss: 64-bit, or when the privilege changed */
};

void put(const char *text);
void put_hex(uint64_t value);
/* One TAP line; details of a failed case may follow by note(). */
void ok(bool good, const char *name);
void note(const char *text, uint64_t value);
/* The plan line; returns main's result (0: all passed). */
int done(void);

/* ---- faults ---------------------------------------------------------------------------------- */
extern volatile int fault_vector; /* -1: none */
extern volatile word fault_error, fault_ip, fault_cr2, fault_dr6, fault_flags;
extern volatile word recover; /* where a fault continues; 0: a fault is a failure */
typedef void (*vector_fn)(struct frame *frame);
void set_vector(unsigned vector, vector_fn fn);
void idt_init(void);
/* IDT entry `vector`, for changes of type, DPL or IST. */
uint64_t *idt_entry(unsigned vector);

#ifdef __x86_64__
#define TRY_PREPARE "lea 771f(%%rip), %%rax\n mov %%rax, recover(%%rip)\n"
#define TRY_AX      "rax"
#else
#define TRY_PREPARE "movl $771f, recover\n"
#define TRY_AX      "eax"
#endif
/* Runs assembly that may fault; the value is the vector or -1. Operands must avoid AX. */
#define TRY(text, ...)                                         \
    ({                                                         \
        fault_vector = -1;                                     \
        asm volatile(TRY_PREPARE text "\n771:\n" __VA_ARGS__); \
        recover = 0;                                           \
        fault_vector;                                          \
    })
#define CLOBBER : TRY_AX, "memory", "cc"

/* ---- small instructions ---------------------------------------------------------------------- */
static inline void outb(uint16_t port, uint8_t v)
{
    asm volatile("outb %0, %1" ::"a"(v), "Nd"(port));
}
static inline void outl(uint16_t port, uint32_t v)
{
    asm volatile("outl %0, %1" ::"a"(v), "Nd"(port));
}
static inline uint8_t inb(uint16_t port)
{
    uint8_t v;
    asm volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}
static inline uint32_t inl(uint16_t port)
{
    uint32_t v;
    asm volatile("inl %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}
static inline uint64_t rdmsr(uint32_t n)
{
    uint32_t l, h;
    asm volatile("rdmsr" : "=a"(l), "=d"(h) : "c"(n));
    return (uint64_t)h << 32 | l;
}
static inline void wrmsr(uint32_t n, uint64_t v)
{
    asm volatile("wrmsr" ::"c"(n), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)) : "memory");
}
static inline uint64_t rdtsc(void)
{
    uint32_t l, h;
    asm volatile("rdtsc" : "=a"(l), "=d"(h));
    return (uint64_t)h << 32 | l;
}
struct cpuid {
    uint32_t a, b, c, d;
};
static inline struct cpuid cpuid(uint32_t leaf, uint32_t sub)
{
    struct cpuid r;
    asm volatile("cpuid" : "=a"(r.a), "=b"(r.b), "=c"(r.c), "=d"(r.d) : "a"(leaf), "c"(sub));
    return r;
}
#define READ_CR(n)                                     \
    ({                                                 \
        word v_;                                       \
        asm volatile("mov %%cr" #n ", %0" : "=r"(v_)); \
        v_;                                            \
    })
#define WRITE_CR(n, v) asm volatile("mov %0, %%cr" #n ::"r"((word)(v)) : "memory")
#define READ_DR(n)                                     \
    ({                                                 \
        word v_;                                       \
        asm volatile("mov %%dr" #n ", %0" : "=r"(v_)); \
        v_;                                            \
    })
#define WRITE_DR(n, v) asm volatile("mov %0, %%dr" #n ::"r"((word)(v)) : "memory")
static inline void invlpg(void *p)
{
    asm volatile("invlpg (%0)" ::"r"(p) : "memory");
}

#ifdef __x86_64__
/* ---- ring 3 ---------------------------------------------------------------------------------- */
enum { KERNEL_DATA = 0x10, KERNEL_CODE = 0x18, USER_DATA = 0x33, USER_CODE = 0x3b };
enum { USER_CODE32 = 0x43, TSS_SELECTOR = 0x48 };
struct tss64 {
    uint32_t r0;
    uint64_t rsp[3], r1, ist[7], r2;
    uint16_t r3, iomap;
    uint8_t bitmap[8193]; /* all ones: no port is allowed */
} __attribute__((packed));
extern struct tss64 tss;
extern uint8_t user_stack[4096], ist_stack[4096]; /* IST 1 is the latter */
/* Fills the TSS and loads TR. */
void tss_init(void);
/* Runs the code at `ip` in the ring of `cs` until INT 0x30 or a fault; the value is the fault's
 * vector or -1. */
int run_at(uint16_t cs, uint16_t ss, word sp, word flags, word ip);
/* The same for a function in ring 3, which must end by INT 0x30. */
int run_user(void (*fn)(void));
extern volatile int left_vector;
extern volatile word left_error, left_ip, left_cs, left_cr2, left_flags;
/* The handler that ends run_at(). */
void leave(struct frame *frame);
#endif

/* ---- local APIC ------------------------------------------------------------------------------ */
static inline uint32_t apic_read(unsigned reg)
{
    return *(volatile uint32_t *)(word)(0xfee00000 + reg);
}
static inline void apic_write(unsigned reg, uint32_t v)
{
    *(volatile uint32_t *)(word)(0xfee00000 + reg) = v;
}
/* Masks the PICs and turns the local APIC on. */
void apic_enable(void);
/* Waits with interrupts on until *counter reaches `value`; false after a generous time. */
bool wait_for(volatile uint32_t *counter, uint32_t value);

extern uint64_t gdt[];
extern struct {
    uint16_t limit;
    word base;
} __attribute__((packed)) gdt_pointer;
