/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What kernels and firmware run in ring 0 and some KVMs can't: x87 control, locked operations of 16
 * bytes, SIMD, on RAM and on devices. Any engine does it right; under KVM it may take the
 * interpreter's help.
 */
#include "lib.h"

static uint64_t pair[4] __attribute__((aligned(16)));
static uint8_t area[512] __attribute__((aligned(16)));

static bool exchange(bool locked, volatile uint64_t *at, uint64_t low, uint64_t high)
{
    bool done_;
    if (locked)
        asm volatile("lock cmpxchg16b (%3); sete %2"
                     : "+a"(low), "+d"(high), "=q"(done_)
                     : "D"(at), "b"(UINT64_C(0x1111)), "c"(UINT64_C(0x2222))
                     : "memory", "cc");
    else
        asm volatile("cmpxchg16b (%3); sete %2"
                     : "+a"(low), "+d"(high), "=q"(done_)
                     : "D"(at), "b"(UINT64_C(0x3333)), "c"(UINT64_C(0x4444))
                     : "memory", "cc");
    return done_;
}

static void test_cmpxchg16b(void)
{
    pair[0] = 1, pair[1] = 2;
    ok(!exchange(true, pair, 1, 3) && pair[0] == 1 && pair[1] == 2,
       "LOCK CMPXCHG16B of another value leaves it");
    ok(exchange(true, pair, 1, 2) && pair[0] == 0x1111 && pair[1] == 0x2222,
       "LOCK CMPXCHG16B of the same one exchanges");
    ok(exchange(false, pair, 0x1111, 0x2222) && pair[0] == 0x3333 && pair[1] == 0x4444,
       "and so does CMPXCHG16B");
    ok(TRY("lock cmpxchg16b 8(%%rdi)", ::"D"(pair), "b"(0L), "c"(0L), "d"(0L)CLOBBER) == 13,
       "an unaligned one is #GP");
    uint32_t n = 0;
    for (int i = 0; i < 1000; i++)
        n += exchange(i & 1, pair, pair[0], pair[1]);
    ok(n == 1000, "a thousand in a row");
}

static void test_x87(void)
{
    uint16_t control = 0, status = 0xffff;
    ok(TRY("fninit; fwait; fnstcw (%%rdi); fnstsw (%%rsi)", ::"D"(&control), "S"(&status)CLOBBER) ==
               -1 &&
           control == 0x37f && status == 0,
       "FNINIT and FWAIT");
    uint32_t mxcsr = 0x1f80;
    ok(TRY("ldmxcsr (%%rdi); fxsave (%%rsi); fxrstor (%%rsi)", ::"D"(&mxcsr), "S"(area)CLOBBER) ==
               -1 &&
           area[24] == 0x80 && area[25] == 0x1f,
       "LDMXCSR, FXSAVE and FXRSTOR");
    WRITE_CR(0, READ_CR(0) | 8);
    ok(TRY("fwait", ::CLOBBER) == 7, "FWAIT with TS and MP is #NM");
    ok(TRY("fninit", ::CLOBBER) == 7, "FNINIT with TS is #NM");
    WRITE_CR(0, READ_CR(0) & ~8l);
}

static void test_simd(void)
{
    for (int i = 0; i < 16; i++)
        area[i] = i;
    ok(TRY("movdqa (%%rdi), %%xmm1; paddb %%xmm1, %%xmm1; movdqu %%xmm1, 33(%%rdi)",
           ::"D"(area)CLOBBER) == -1 &&
           area[33 + 7] == 14,
       "MOVDQA, PADDB and MOVDQU");
    ok(TRY("movdqa 1(%%rdi), %%xmm1", ::"D"(area)CLOBBER) == 13, "MOVDQA unaligned is #GP");
}

static void test_device(void)
{
    volatile uint32_t *apic = (volatile uint32_t *)0xfee00000;
    uint32_t version = apic_read(0x30), read = 0;
    apic_write(0x80, 0x10);
    asm volatile("movl %1, %%eax; xchgl %%eax, (%2); movl %%eax, %0"
                 : "=m"(read)
                 : "i"(0x20), "r"(&apic[0x80 / 4])
                 : "eax", "memory");
    ok(read == 0x10 && apic_read(0x80) == 0x20, "XCHG with a register of the local APIC");
    apic_write(0x80, 0);
    ok(TRY("movd (%%rdi), %%xmm2; movd %%xmm2, (%%rsi)", ::"D"(&apic[0x30 / 4]),
           "S"(&read)CLOBBER) == -1 &&
           read == version,
       "MOVD from one");
}

void ap_main(int index)
{
}

int main(void)
{
    idt_init();
    apic_enable();
    WRITE_CR(0, (READ_CR(0) & ~4l) | 2);
    WRITE_CR(4, READ_CR(4) | 0x600);
    test_cmpxchg16b();
    test_x87();
    test_simd();
    test_device();
    return done();
}
