/* SPDX-License-Identifier: GPL-3.0-or-later */
/* 4-level paging: fault codes, NX, WP, SMEP, SMAP, reserved bits, A/D bits, INVLPG, non-canonical
 * addresses. SDM 3A 4. */
#include "lib.h"

enum { P = 1, W = 2, U = 4, A = 0x20, D = 0x40, PS = 0x80, G = 0x100 };
#define NX (UINT64_C(1) << 63)

extern uint64_t page_pml4[512];
static uint64_t table[512] __attribute__((aligned(4096)));
static uint64_t pages[4][512] __attribute__((aligned(4096)));
#define BASE UINT64_C(0x8000000000)
static volatile uint64_t *const window = (uint64_t *)BASE;

static uint64_t pdpt_page[512] __attribute__((aligned(4096)));
static uint64_t directory_page[512] __attribute__((aligned(4096)));

static void flush(void)
{
    WRITE_CR(3, READ_CR(3));
}

/* Maps window page 0 with `flags` at every level but the last, which gets `pte`. */
static void map(uint64_t upper, uint64_t pte)
{
    page_pml4[1] = (uint64_t)pdpt_page | upper;
    pdpt_page[0] = (uint64_t)directory_page | upper;
    directory_page[0] = (uint64_t)table | upper;
    table[0] = pte;
    flush();
}

static int load(volatile void *p)
{
    uint64_t out;
    return TRY("mov (%1), %0", : "=&r"(out) : "r"(p)CLOBBER);
}

static int store(volatile void *p)
{
    return TRY("movq $77, (%0)", : : "r"(p)CLOBBER);
}

static int execute(volatile void *p)
{
    return TRY("call *%0", : : "r"(p)CLOBBER);
}

static void expect_fault(int vector, uint64_t error, const char *name)
{
    bool good = vector == 14 && fault_error == error && (fault_cr2 & ~UINT64_C(4095)) == BASE;

    ok(good, name);
    if (!good) {
        note("vector", vector);
        note("error", fault_error);
        note("cr2", fault_cr2);
    }
}

static void test_present_and_dirty(void)
{
    uint64_t page = (uint64_t)pages[0];

    map(P | W | U, page | P | W);
    ok(load(window) < 0 && table[0] == (page | P | W | A), "a read sets A alone");
    ok((directory_page[0] & A) && (pdpt_page[0] & A) && (page_pml4[1] & A),
       "A is set at every level");
    ok(store(window) < 0 && table[0] == (page | P | W | A | D), "a write sets D");
    map(P | W | U, 0);
    expect_fault(load(window), 0, "read of a page not present");
    expect_fault(store(window), 2, "write of a page not present");
    expect_fault(execute(window), 0x10, "fetch of a page not present says I/D with NXE");
    map(P | W | U, page | P);
    expect_fault(store(window), 3, "write of a read-only page under WP");
    ok(!(table[0] & D), "a refused write leaves D clear");
    WRITE_CR(0, READ_CR(0) & ~(word)0x10000);
    flush();
    ok(store(window) < 0 && (table[0] & D), "without WP the supervisor writes a read-only page");
    WRITE_CR(0, READ_CR(0) | 0x10000);
    page_pml4[1] &= ~(uint64_t)W;
    table[0] = page | P | W;
    flush();
    expect_fault(store(window), 3, "R/W clear in an upper level protects");
}

static void test_reserved_and_nx(void)
{
    uint64_t page = (uint64_t)pages[0];

    map(P | W | U, page | P | W | UINT64_C(1) << 51);
    expect_fault(load(window), 9, "reserved bit in a PTE");
    map(P | W | U, page | P | W);
    directory_page[0] = (UINT64_C(1) << 20) | P | W | PS | (UINT64_C(1) << 13);
    flush();
    expect_fault(load(window), 9, "reserved bit in a 2 MiB PDE");
    map(P | W | U, page | P | W | NX);
    *(uint8_t *)pages[0] = 0xc3;
    ok(load(window) < 0, "NX allows reads");
    expect_fault(execute(window), 0x11, "NX forbids fetches");
    map(P | W | U, page | P | W);
    ok(execute(window) < 0, "without NX the page runs");
    page_pml4[1] |= NX;
    flush();
    expect_fault(execute(window), 0x11, "NX in an upper level counts");
    wrmsr(0xc0000080, rdmsr(0xc0000080) & ~UINT64_C(0x800));
    flush();
    expect_fault(load(window), 9, "without NXE bit 63 is reserved");
    wrmsr(0xc0000080, rdmsr(0xc0000080) | 0x800);
}

static void test_tlb(void)
{
    map(P | W | U, (uint64_t)pages[0] | P | W);
    pages[0][0] = 11;
    pages[1][0] = 22;
    ok(window[0] == 11, "first mapping");
    table[0] = (uint64_t)pages[1] | P | W;
    invlpg((void *)window);
    ok(window[0] == 22, "INVLPG makes the new mapping visible");
    WRITE_CR(4, READ_CR(4) | 0x80);
    map(P | W | U, (uint64_t)pages[0] | P | W | G);
    ok(window[0] == 11, "global mapping");
    table[0] = (uint64_t)pages[1] | P | W;
    WRITE_CR(4, READ_CR(4) ^ 0x80);
    ok(window[0] == 22, "toggling PGE flushes global pages");
    /* The last page of a 1 GiB mapping and its neighbour. */
    if (cpuid(0x80000001, 0).d & 1 << 26) {
        pdpt_page[1] = P | W | PS;
        flush();
        ok(*(volatile uint32_t *)(BASE + 0x40000000 + 0x100000) == 0x1badb002, "1 GiB page");
    }
}

static void test_crossing(void)
{
    map(P | W | U, (uint64_t)pages[0] | P | W);
    table[1] = 0;
    pages[0][511] = 0x1122334455667788;
    flush();
    {
        uint64_t value = 0xaaaaaaaaaaaaaaaa;
        int vector = TRY("movq %1, (%0)", : : "r"(BASE + 4092), "r"(value)CLOBBER);
        ok(vector == 14 && fault_error == 2 && fault_cr2 == BASE + 4096,
           "write over a page end faults on the second page");
        ok(pages[0][511] == 0x1122334455667788, "and changes nothing");
    }
    table[1] = (uint64_t)pages[2] | P | W;
    flush();
    *(volatile uint64_t *)(BASE + 4092) = 0x0102030405060708;
    ok((uint32_t)(pages[0][511] >> 32) == 0x05060708 && (uint32_t)pages[2][0] == 0x01020304,
       "crossing write on scattered pages");
    /* An instruction across the page end: mov eax, imm32; ret. */
    *(uint8_t *)(BASE + 4094) = 0xb8;
    *(volatile uint32_t *)(BASE + 4095) = 0x12345678;
    *(uint8_t *)(BASE + 4099) = 0xc3;
    uint32_t value = ((uint32_t(*)(void))(BASE + 4094))();
    ok(value == 0x12345678, "instruction across pages");
    table[1] = 0;
    flush();
    ok(execute((void *)(BASE + 4094)) == 14 && fault_cr2 == BASE + 4096 && fault_error == 0x10,
       "fetch fault on its second page");
    int vector = TRY("mov (%0), %%rbx", : : "r"(UINT64_C(0x800000000000)) : "rax", "rbx", "memory");
    ok(vector == 13 && fault_error == 0, "non-canonical read is #GP(0)");
}

static void test_smep_smap(void)
{
    struct cpuid features = cpuid(7, 0);

    page_pml4[0] &= ~(uint64_t)U; /* the program itself is the supervisor's */
    map(P | W | U, (uint64_t)pages[0] | P | W | U);
    *(uint8_t *)pages[0] = 0xc3;
    if (features.b & 1 << 7) {
        WRITE_CR(4, READ_CR(4) | 1 << 20);
        expect_fault(execute(window), 0x11, "SMEP forbids fetching user pages");
        WRITE_CR(4, READ_CR(4) & ~(word)(1 << 20));
        ok(execute(window) < 0, "without SMEP they run");
    }
    if (features.b & 1 << 20) {
        WRITE_CR(4, READ_CR(4) | 1 << 21);
        asm volatile("clac");
        expect_fault(load(window), 1, "SMAP forbids reading user pages");
        expect_fault(store(window), 3, "SMAP forbids writing user pages");
        asm volatile("stac");
        ok(load(window) < 0, "AC lets the supervisor read them");
        asm volatile("clac");
        expect_fault(load(window), 1, "CLAC forbids again");
        WRITE_CR(4, READ_CR(4) & ~(word)(1 << 21));
    }
}

static void test_control_checks(void)
{
    ok(TRY("mov %0, %%cr0",
           :
           : "r"(READ_CR(0) & ~(word)1) CLOBBER) == 13,
       "PE clear with PG set is #GP");
    ok(TRY("mov %0, %%cr0",
           :
           : "r"((READ_CR(0) | 1 << 29) & ~(word)(1 << 30)) CLOBBER) == 13,
       "NW without CD is #GP");
    ok(TRY("mov %0, %%cr4",
           :
           : "r"(READ_CR(4) & ~(word)0x20) CLOBBER) == 13,
       "clearing PAE in long mode is #GP");
    ok(TRY("mov %0, %%cr4",
           :
           : "r"(READ_CR(4) | UINT64_C(1) << 63) CLOBBER) == 13,
       "reserved CR4 bit is #GP");
    ok(TRY("mov %0, %%cr0",
           :
           : "r"(READ_CR(0) | UINT64_C(1) << 32) CLOBBER) == 13,
       "upper half of CR0 is #GP");
    ok(TRY("mov %0, %%cr8", : : "r"((word)16)CLOBBER) == 13, "CR8 over 15 is #GP");
    ok(TRY("rdmsr", : : "c"(0x12345678) : "rax", "rdx") == 13, "unknown MSR is #GP");
    ok(TRY("mov $0, %%edx; mov $2, %%eax; wrmsr",
           :
           : "c"(0x277)
           : "rax", "rdx", "memory") == 13,
       "bad PAT type is #GP");
}

int main(void)
{
    idt_init();
    WRITE_CR(0, READ_CR(0) | 0x10000);
    test_present_and_dirty();
    test_reserved_and_nx();
    test_tlb();
    test_crossing();
    test_smep_smap();
    test_control_checks();
    return done();
}

void ap_main(int index)
{
}
