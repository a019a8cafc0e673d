/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Every combination of what decides over an access to a page, against the rules of SDM 3A 4.6
 * to 4.8 written down once more: flags of PDPTE, PDE and PTE, CR0.WP, CR4.SMEP, EFER.NXE; reads,
 * writes and fetches of both rings; with and without a translation that is cached already.
 */
#include "lib.h"

enum { P = 1, W = 2, U = 4, A = 0x20, D = 0x40, PS = 0x80 };
#define NX    (UINT64_C(1) << 63)
#define BIT51 (UINT64_C(1) << 51)
#define BIT13 (UINT64_C(1) << 13)

enum { READ, WRITE, FETCH };

extern uint64_t page_pml4[512], page_directories[];
static uint64_t pdpt[512] __attribute__((aligned(4096)));
static uint64_t directory[512] __attribute__((aligned(4096)));
static uint64_t table[512] __attribute__((aligned(4096)));
#define WINDOW (UINT64_C(1) << 39)
#define TARGET UINT64_C(0x2000000) /* 32 MiB: both page sizes map it */

struct access {
    uint64_t pde, pte; /* flags */
    bool pdpte_w, wp, nxe, smep, user, warm;
    unsigned kind;
};

struct outcome {
    int vector;
    uint64_t error, pde, pte; /* entries with their addresses off */
};

static bool has_bit51; /* an address bit of this CPU */
static unsigned done_count, bad_count;

/* ---- the rules ---- */

static bool reserved(const struct access *a, uint64_t entry)
{
    return (entry & BIT51 && !has_bit51) || (entry & NX && !a->nxe) ||
           (entry & PS && entry & BIT13);
}

/* False: the walk meets an entry that is not present or has a reserved bit. */
static bool walk_ends(const struct access *a, uint64_t entry, struct outcome *o)
{
    if (entry & P && !reserved(a, entry))
        return true;
    o->vector = 14;
    o->error |= entry & P ? 9 : 0;
    return false;
}

static bool allowed(const struct access *a)
{
    bool large = a->pde & PS;
    uint64_t both = a->pde & (large ? ~UINT64_C(0) : a->pte);
    bool writable = both & W && a->pdpte_w, user = both & U;
    bool no_execute = (a->pde | (large ? 0 : a->pte)) & NX;

    if (a->user && !user)
        return false;
    if (a->kind == WRITE)
        return writable || (!a->user && !a->wp);
    return a->kind == READ || !(no_execute || (!a->user && user && a->smep));
}

static struct outcome expected(const struct access *a)
{
    struct outcome o = {.vector = -1, .pde = a->pde, .pte = a->pte};

    o.error = (a->kind == WRITE ? 2 : 0) | (a->user ? 4 : 0) |
              (a->kind == FETCH && (a->nxe || a->smep) ? 0x10 : 0);
    if (!walk_ends(a, a->pde, &o) || (!(a->pde & PS) && !walk_ends(a, a->pte, &o)))
        return o;
    if (!allowed(a)) {
        o.vector = 14;
        o.error |= 1;
        return o;
    }
    o.error = 0;
    o.pde |= A;
    *(a->pde & PS ? &o.pde : &o.pte) |= A | (a->kind == WRITE ? D : 0);
    return o;
}

/* ---- the processor ---- */

extern char probe_read[], probe_write[], probe_fetch[];
asm("probe_read: movabs $0x8000000000, %rsi\n mov 16(%rsi), %rax\n int $0x30\n"
    "probe_write: movabs $0x8000000000, %rsi\n mov %rax, 16(%rsi)\n int $0x30\n"
    "probe_fetch: movabs $0x8000000000, %rsi\n call *%rsi\n int $0x30\n");
static char *const probes[] = {probe_read, probe_write, probe_fetch};

static void set_smep(bool smep)
{
    if (cpuid(7, 0).b & 1 << 7)
        WRITE_CR(4, (READ_CR(4) & ~(word)(1 << 20)) | (smep ? 1 << 20 : 0));
}

static void set_cpu(bool wp, bool nxe, bool smep)
{
    uint64_t efer = rdmsr(0xc0000080) & ~UINT64_C(0x800);

    WRITE_CR(0, (READ_CR(0) & ~(word)0x10000) | (wp ? 0x10000 : 0));
    wrmsr(0xc0000080, efer | (nxe ? 0x800 : 0));
    set_smep(false);
    /* Under SMEP the program itself must be the supervisor's. */
    page_pml4[0] = (page_pml4[0] & ~(uint64_t)U) | (smep ? 0 : U);
    WRITE_CR(3, READ_CR(3));
    set_smep(smep);
}

static int run(const struct access *a, unsigned kind, bool user)
{
    return run_at(user ? USER_CODE : KERNEL_CODE, user ? USER_DATA : KERNEL_DATA,
                  (word)(user ? user_stack : ist_stack) + sizeof(user_stack), 2,
                  (word)probes[kind]);
}

static struct outcome measured(const struct access *a)
{
    struct outcome o = {0};

    pdpt[0] = (uint64_t)directory | P | U | (a->pdpte_w ? W : 0);
    directory[0] = a->pde | (a->pde & PS ? TARGET : (uint64_t)table);
    table[0] = a->pte | TARGET;
    invlpg((void *)WINDOW);
    if (a->warm)
        run(a, READ, false);
    o.vector = run(a, a->kind, a->user);
    o.error = o.vector < 0 ? 0 : left_error;
    o.pde = directory[0] & ~(a->pde & PS ? TARGET : (uint64_t)table);
    o.pte = table[0] & ~TARGET;
    return o;
}

/* ---- all of them ---- */

static void complain(const struct access *a, const struct outcome *want, const struct outcome *got)
{
    if (bad_count++ >= 8)
        return;
    note("pde", a->pde);
    note("pte", a->pte);
    note("pdpte.w wp nxe smep user warm kind", (uint64_t)a->pdpte_w << 24 | a->wp << 20 |
                                                   a->nxe << 16 | a->smep << 12 | a->user << 8 |
                                                   a->warm << 4 | a->kind);
    note("vector wanted", want->vector);
    note("vector", got->vector);
    note("error wanted", want->error);
    note("error", got->error);
    note("pde afterwards", got->pde);
    note("pte afterwards", got->pte);
}

/* With a read before it, by the supervisor: what that one sets is there first. */
static void check(struct access *a)
{
    struct access first = *a, second = *a;
    struct outcome want, got = measured(a);

    first.user = false;
    first.kind = READ;
    if (a->warm) {
        want = expected(&first);
        second.pde = want.pde;
        second.pte = want.pte;
    }
    want = expected(&second);
    /* The A flag of an entry that only leads on may be set or not when the access fails. */
    if (want.vector >= 0 && !(a->pde & PS))
        got.pde = (got.pde & ~(uint64_t)A) | (want.pde & A);
    done_count++;
    if (got.vector != want.vector || got.error != want.error || got.pde != want.pde ||
        got.pte != want.pte)
        complain(a, &want, &got);
}

static const uint64_t flags[] = {P, W, U, A, D, NX, BIT51, PS, BIT13};

static uint64_t pick(unsigned bits)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < 9; i++)
        value |= bits >> i & 1 ? flags[i] : 0;
    return value;
}

static bool worth_it(uint64_t pde, uint64_t pte)
{
    if (pde & BIT51 && pte & BIT51)
        return false;
    if (!(pde & PS) && pde & (BIT13 | D))
        return false;
    if ((pde & PS || !(pde & P) || pde & BIT51) && pte != (P | W | U))
        return false;
    return true;
}

static void check_entries(struct access *a)
{
    for (unsigned pde = 0; pde < 512; pde++)
        for (unsigned pte = 0; pte < 128; pte++) {
            a->pde = pick(pde);
            a->pte = pick(pte);
            if (worth_it(a->pde, a->pte))
                check(a);
        }
}

static void check_cpu(bool wp, bool nxe, bool smep, const char *name)
{
    unsigned bad = bad_count;

    set_cpu(wp, nxe, smep);
    for (unsigned bits = 0; bits < 8 * 3; bits++) {
        struct access a = {.pdpte_w = bits & 1,
                           .user = bits & 2,
                           .warm = bits & 4,
                           .kind = bits / 8,
                           .wp = wp,
                           .nxe = nxe,
                           .smep = smep};
        if (!(a.user && smep))
            check_entries(&a);
    }
    set_cpu(true, true, false);
    ok(bad_count == bad, name);
}

int main(void)
{
    idt_init();
    tss_init();
    has_bit51 = (cpuid(0x80000008, 0).a & 0xff) > 51;
    page_pml4[1] = (uint64_t)pdpt | P | W | U;
    *(volatile uint8_t *)TARGET = 0xc3;
    check_cpu(true, true, false, "WP, NXE");
    check_cpu(false, true, false, "NXE alone");
    check_cpu(true, false, false, "WP alone");
    check_cpu(false, false, false, "neither");
    if (cpuid(7, 0).b & 1 << 7) {
        check_cpu(true, true, true, "SMEP, WP, NXE");
        check_cpu(true, false, true, "SMEP, WP");
    }
    note("accesses", done_count);
    return done();
}

void ap_main(int index)
{
}
