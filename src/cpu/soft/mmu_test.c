/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Page walks against tables built in RAM, the TLB's rules, and what memory accesses reach. SDM 3A
 * chapter 4. */
#include "cpu/soft/soft_fixture.h"
#include "cpu/soft/system.h"

enum { P = 1, W = 2, U = 4, A = 0x20, D = 0x40, PS = 0x80, G = 0x100 };
#define NX   (UINT64_C(1) << 63)
#define ROOT UINT64_C(0x100000)

/* Puts `entry` as the leaf at `shift` for `linear` into the 4-level tables at ROOT; the levels
 * above allow everything. Returns the leaf's address. */
static uint64_t map4(SoftFixture *f, uint64_t linear, unsigned shift, uint64_t entry)
{
    uint64_t table = ROOT;

    for (unsigned level = 39; level > shift; level -= 9) {
        uint64_t at = table + bits_get(linear, level, 9) * 8;
        if (!(fixture_read(f, at, 8) & P)) {
            fixture_write(f, at, 8, f->next_table | P | W | U);
            f->next_table += GUEST_PAGE_SIZE;
        }
        table = fixture_read(f, at, 8) & 0xffffffffff000;
    }
    fixture_write(f, table + bits_get(linear, shift, 9) * 8, 8, entry);
    return table + bits_get(linear, shift, 9) * 8;
}

static SoftFixture *new_long(void)
{
    SoftFixture *f = soft_fixture_new("x86-64-v3");

    f->cpu->s.cr0 = CR0_PE | CR0_PG | CR0_WP;
    f->cpu->s.cr4 = CR4_PAE | CR4_PGE;
    f->cpu->s.efer = EFER_LME | EFER_LMA | EFER_NXE;
    f->cpu->s.cr3 = ROOT;
    soft_fixture_apply(f);
    return f;
}

/* The vector and error code of an access, -1 for none. */
static int access_error(SoftFixture *f, uint64_t linear, MmuAccess access, MmuIndex index)
{
    SoftCpu *cpu = f->cpu;
    int vector = SOFT_CATCH(cpu, mmu_probe(cpu, linear, 1, access, index));

    if (vector < 0)
        return -1;
    g_assert_cmpint(vector, ==, EXC_PF);
    g_assert_cmphex(cpu->s.cr2, ==, linear);
    return (int)cpu->event.error;
}

static void assert_faults(SoftFixture *f, uint64_t entry, const int expected[6])
{
    static const struct {
        MmuAccess access;
        MmuIndex index;
    } how[] = {{MMU_READ, MMU_KERNEL}, {MMU_WRITE, MMU_KERNEL}, {MMU_EXEC, MMU_KERNEL},
               {MMU_READ, MMU_USER},   {MMU_WRITE, MMU_USER},   {MMU_EXEC, MMU_USER}};

    for (unsigned i = 0; i < 6; i++) {
        map4(f, 0x400000, 12, entry);
        tlb_flush_all(f->cpu);
        g_assert_cmpint(access_error(f, 0x400123, how[i].access, how[i].index), ==, expected[i]);
    }
}

static void test_error_codes(void)
{
    SoftFixture *f = new_long();
    SoftCpu *cpu = f->cpu;

    /* kernel read, write, fetch; user read, write, fetch */
    assert_faults(f, 0, (int[]){0x0, 0x2, 0x10, 0x4, 0x6, 0x14});
    assert_faults(f, 0x200000 | P, (int[]){-1, 0x3, -1, 0x5, 0x7, 0x15});
    assert_faults(f, 0x200000 | P | W, (int[]){-1, -1, -1, 0x5, 0x7, 0x15});
    assert_faults(f, 0x200000 | P | U, (int[]){-1, 0x3, -1, -1, 0x7, -1});
    assert_faults(f, 0x200000 | P | U | W | NX, (int[]){-1, -1, 0x11, -1, -1, 0x15});
    assert_faults(f, 0x200000 | P | U | W | UINT64_C(1) << 45,
                  (int[]){0x9, 0xb, 0x19, 0xd, 0xf, 0x1d});
    cpu->s.cr0 &= ~(uint64_t)CR0_WP;
    assert_faults(f, 0x200000 | P, (int[]){-1, -1, -1, 0x5, 0x7, 0x15});
    cpu->s.cr0 |= CR0_WP;
    cpu->s.cr4 |= CR4_SMEP;
    assert_faults(f, 0x200000 | P | U | W, (int[]){-1, -1, 0x11, -1, -1, -1});
    cpu->s.cr4 = CR4_PAE | CR4_SMAP;
    assert_faults(f, 0x200000 | P | U | W, (int[]){0x1, 0x3, -1, -1, -1, -1});
    g_assert_cmpint(access_error(f, 0x400000, MMU_WRITE, MMU_KERNEL_NOSMAP), ==, -1);
    cpu->s.cr4 = CR4_PAE;
    cpu->s.efer &= ~(uint64_t)EFER_NXE;
    assert_faults(f, 0x200000 | P | U | W | NX, (int[]){0x9, 0xb, 0x9, 0xd, 0xf, 0xd});
    soft_fixture_free(f);
}

static void test_upper_levels_restrict(void)
{
    SoftFixture *f = new_long();
    uint64_t pml4e;

    map4(f, 0x400000, 12, 0x200000 | P | W | U);
    pml4e = fixture_read(f, ROOT, 8);
    fixture_write(f, ROOT, 8, pml4e & ~(uint64_t)W);
    tlb_flush_all(f->cpu);
    g_assert_cmpint(access_error(f, 0x400000, MMU_WRITE, MMU_USER), ==, 7);
    fixture_write(f, ROOT, 8, pml4e | NX);
    tlb_flush_all(f->cpu);
    g_assert_cmpint(access_error(f, 0x400000, MMU_EXEC, MMU_USER), ==, 0x15);
    fixture_write(f, ROOT, 8, pml4e | PS);
    tlb_flush_all(f->cpu);
    g_assert_cmpint(access_error(f, 0x400000, MMU_READ, MMU_USER), ==, 0xd);
    soft_fixture_free(f);
}

static void test_accessed_dirty(void)
{
    SoftFixture *f = new_long();
    uint64_t leaf = map4(f, 0x400000, 12, 0x200000 | P | U);

    g_assert_cmpint(access_error(f, 0x400000, MMU_WRITE, MMU_USER), ==, 7);
    g_assert_cmphex(fixture_read(f, leaf, 8) & (A | D), ==, 0);
    g_assert_cmphex(fixture_read(f, ROOT, 8) & A, ==, 0);
    fixture_write(f, leaf, 8, 0x200000 | P | U | W);
    g_assert_cmpint(access_error(f, 0x400000, MMU_READ, MMU_USER), ==, -1);
    g_assert_cmphex(fixture_read(f, leaf, 8) & (A | D), ==, A);
    g_assert_cmphex(fixture_read(f, ROOT, 8) & A, ==, A);
    /* The translation is cached without the right to write: the first write walks again. */
    mmu_store(f->cpu, 0x400010, 4, 0x12345678, MMU_USER);
    g_assert_cmphex(fixture_read(f, leaf, 8) & (A | D), ==, A | D);
    g_assert_cmphex(fixture_read(f, 0x200010, 4), ==, 0x12345678);
    soft_fixture_free(f);
}

static void test_large_pages(void)
{
    SoftFixture *f = new_long();
    SoftCpu *cpu = f->cpu;
    uint64_t leaf = map4(f, 0x40000000, 21, 0x400000 | P | W | U | PS);

    fixture_write(f, 0x5abcd8, 8, UINT64_C(0x1122334455667788));
    g_assert_cmphex(mmu_load(cpu, 0x401abcd8, 8, MMU_USER), ==, UINT64_C(0x1122334455667788));
    g_assert_cmphex(fixture_read(f, leaf, 8) & (A | D), ==, A);
    /* INVLPG of any address in the page drops all of it. */
    fixture_write(f, leaf, 8, 0x600000 | P | W | U | PS);
    fixture_write(f, 0x7abcd8, 8, 42);
    g_assert_cmphex(mmu_load(cpu, 0x401abcd8, 8, MMU_USER), ==, UINT64_C(0x1122334455667788));
    tlb_flush_page(cpu, 0x40000000);
    g_assert_cmphex(mmu_load(cpu, 0x401abcd8, 8, MMU_USER), ==, 42);
    fixture_write(f, leaf, 8, 0x602000 | P | W | U | PS); /* bit 13 is reserved */
    tlb_flush_all(cpu);
    g_assert_cmpint(access_error(f, 0x40000000, MMU_READ, MMU_KERNEL), ==, 9);
    map4(f, UINT64_C(0xffff800000000000), 30, 0 | P | W | PS);
    g_assert_cmphex(mmu_load(cpu, UINT64_C(0xffff8000007abcd8), 8, MMU_KERNEL), ==, 42);
    soft_fixture_free(f);
}

static void test_no_1g_pages(void)
{
    SoftFixture *f = soft_fixture_new("x86-64-v3,-pdpe1gb");

    f->cpu->s.cr0 = CR0_PE | CR0_PG;
    f->cpu->s.cr4 = CR4_PAE;
    f->cpu->s.efer = EFER_LME | EFER_LMA;
    f->cpu->s.cr3 = ROOT;
    map4(f, 0, 30, P | W | PS);
    soft_fixture_apply(f);
    g_assert_cmpint(access_error(f, 0x1000, MMU_READ, MMU_KERNEL), ==, 9);
    soft_fixture_free(f);
}

static void test_global_pages(void)
{
    SoftFixture *f = new_long();
    SoftCpu *cpu = f->cpu;
    uint64_t global = map4(f, 0x400000, 12, 0x200000 | P | W | G);
    uint64_t local = map4(f, 0x401000, 12, 0x201000 | P | W);

    fixture_write(f, 0x200000, 4, 1);
    fixture_write(f, 0x201000, 4, 2);
    mmu_load(cpu, 0x400000, 4, MMU_KERNEL);
    mmu_load(cpu, 0x401000, 4, MMU_KERNEL);
    fixture_write(f, global, 8, 0);
    fixture_write(f, local, 8, 0);
    g_assert_cmpuint(mmu_load(cpu, 0x401000, 4, MMU_KERNEL), ==, 2); /* still cached */
    tlb_flush_non_global(cpu);
    g_assert_cmpuint(mmu_load(cpu, 0x400000, 4, MMU_KERNEL), ==, 1);
    g_assert_cmpint(access_error(f, 0x401000, MMU_READ, MMU_KERNEL), ==, 0);
    tlb_flush_page(cpu, 0x400000);
    g_assert_cmpint(access_error(f, 0x400000, MMU_READ, MMU_KERNEL), ==, 0);
    soft_fixture_free(f);
}

static void test_pae(void)
{
    SoftFixture *f = soft_fixture_new("x86-64-v3");
    SoftCpu *cpu = f->cpu;

    fixture_write(f, 0x1020, 8, 0x2000 | P); /* PDPTE 0 */
    fixture_write(f, 0x1038, 8, 0x3000 | P); /* PDPTE 3 */
    fixture_write(f, 0x2000 + 2 * 8, 8, 0x4000 | P | W | U);
    fixture_write(f, 0x4000, 8, 0x200000 | P | W | U | NX);
    fixture_write(f, 0x3000 + 511 * 8, 8, 0x400000 | P | W | PS);
    cpu->s.cr0 = CR0_PE | CR0_PG;
    cpu->s.cr4 = CR4_PAE;
    cpu->s.efer = EFER_NXE;
    cpu->s.cr3 = 0x1020;
    soft_fixture_apply(f);
    fixture_write(f, 0x200008, 4, 77);
    fixture_write(f, 0x5ffff0, 4, 78);
    g_assert_cmpuint(mmu_load(cpu, 0x400008, 4, MMU_USER), ==, 77);
    g_assert_cmpuint(mmu_load(cpu, 0xfffffff0, 4, MMU_KERNEL), ==, 78);
    g_assert_cmpint(access_error(f, 0x400000, MMU_EXEC, MMU_USER), ==, 0x15);
    g_assert_cmpint(access_error(f, 0x40000000, MMU_WRITE, MMU_USER), ==, 6); /* PDPTE 1 absent */
    /* The PDPTEs are the CPU's own until CR3 is loaded. */
    fixture_write(f, 0x1020, 8, 0);
    tlb_flush_all(cpu);
    g_assert_cmpuint(mmu_load(cpu, 0x400008, 4, MMU_USER), ==, 77);
    fixture_write(f, 0x1020, 8, 0x2000 | P | W); /* reserved in a PDPTE */
    g_assert_cmpint(SOFT_CATCH(cpu, control_write_cr3(cpu, 0x1020)), ==, EXC_GP);
    g_assert_cmpuint(mmu_load(cpu, 0x400008, 4, MMU_USER), ==, 77);
    fixture_write(f, 0x1020, 8, 0);
    control_write_cr3(cpu, 0x1020);
    g_assert_cmpint(access_error(f, 0x400008, MMU_READ, MMU_USER), ==, 4);
    soft_fixture_free(f);
}

static void test_32bit(void)
{
    SoftFixture *f = soft_fixture_new("x86-64-v3");
    SoftCpu *cpu = f->cpu;

    fixture_write(f, 0x1000 + 4 * 1, 4, 0x2000 | P | W | U);
    fixture_write(f, 0x2000 + 4 * 3, 4, 0x200000 | P | U);
    fixture_write(f, 0x1000 + 4 * 2, 4, 0x400000 | P | W | PS);
    cpu->s.cr0 = CR0_PE | CR0_PG | CR0_WP;
    cpu->s.cr3 = 0x1000;
    cpu->s.cr4 = CR4_PSE;
    soft_fixture_apply(f);
    fixture_write(f, 0x200ffc, 4, 5);
    fixture_write(f, 0x612340, 4, 6);
    g_assert_cmpuint(mmu_load(cpu, 0x403ffc, 4, MMU_USER), ==, 5);
    g_assert_cmpuint(mmu_load(cpu, 0xa12340, 4, MMU_KERNEL), ==, 6);
    g_assert_cmpint(access_error(f, 0x403000, MMU_WRITE, MMU_KERNEL), ==, 3);
    g_assert_cmpint(access_error(f, 0xa12340, MMU_READ, MMU_USER), ==, 5);
    g_assert_cmpint(access_error(f, 0xc00000, MMU_EXEC, MMU_USER), ==, 4); /* no NX: no fetch bit */
    g_assert_cmphex(fixture_read(f, 0x1008, 4) & (A | D), ==, A);
    fixture_write(f, 0x1008, 4, 0x600000 | P | W | PS); /* bit 21 is reserved */
    tlb_flush_all(cpu);
    g_assert_cmpint(access_error(f, 0x800000, MMU_READ, MMU_KERNEL), ==, 9);
    fixture_write(f, 0x1008, 4, 0x400000 | P | W | PS | 1 << 13); /* PSE-36: bit 32 */
    tlb_flush_all(cpu);
    g_assert_cmphex(mmu_debug_translate(cpu, 0x812345), ==, UINT64_C(0x100412345));
    g_assert_cmphex(mmu_debug_translate(cpu, 0xc00000), ==, UINT64_MAX);
    cpu->s.cr4 = 0; /* PS counts only with PSE: now it points at a table at 0x400000 */
    fixture_write(f, 0x1008, 4, 0x400000 | P | W | PS);
    fixture_write(f, 0x400000, 4, 0x200000 | P);
    tlb_flush_all(cpu);
    g_assert_cmphex(mmu_debug_translate(cpu, 0x800123), ==, 0x200123);
    soft_fixture_free(f);
}

static void test_page_crossing(void)
{
    SoftFixture *f = new_long();
    SoftCpu *cpu = f->cpu;

    map4(f, 0x400000, 12, 0x200000 | P | W);
    map4(f, 0x401000, 12, 0);
    fixture_write(f, 0x200ffc, 4, 0x11111111);
    g_assert_cmpint(SOFT_CATCH(cpu, mmu_store(cpu, 0x400ffe, 4, 0x22222222, MMU_KERNEL)), ==,
                    EXC_PF);
    g_assert_cmphex(cpu->s.cr2, ==, 0x401000);
    g_assert_cmphex(fixture_read(f, 0x200ffc, 4), ==, 0x11111111);
    map4(f, 0x401000, 12, 0x300000 | P | W);
    mmu_store(cpu, 0x400ffe, 4, 0xaabbccdd, MMU_KERNEL);
    g_assert_cmphex(fixture_read(f, 0x200ffe, 2), ==, 0xccdd);
    g_assert_cmphex(fixture_read(f, 0x300000, 2), ==, 0xaabb);
    g_assert_cmphex(mmu_load(cpu, 0x400ffe, 4, MMU_KERNEL), ==, 0xaabbccdd);
    g_assert_null(mmu_host_pointer(cpu, 0x400ffe, 4, MMU_WRITE, MMU_KERNEL));
    soft_fixture_free(f);
}

static bool goes_straight(SoftCpu *cpu, uint64_t linear)
{
    return tlb_entry(cpu->tlb, linear)->tag_write == linear;
}

/* A page that becomes code's takes the right to write without asking from all pages; each gets it
 * back with its next write of any kind. */
static void test_write_tags(void)
{
    SoftFixture *f = new_long();
    SoftCpu *cpu = f->cpu;

    map4(f, 0x400000, 12, 0x200000 | P | W);
    mmu_store(cpu, 0x400000, 4, 1, MMU_KERNEL);
    g_assert_true(goes_straight(cpu, 0x400000));
    tlb_flush_writes(cpu);
    g_assert_false(goes_straight(cpu, 0x400000));
    g_assert_nonnull(mmu_host_pointer(cpu, 0x400000, 4, MMU_WRITE, MMU_KERNEL));
    g_assert_true(goes_straight(cpu, 0x400000));
    tlb_flush_writes(cpu);
    g_assert_true(mmu_fill_quick(cpu, 0x400008, 8, MMU_WRITE));
    g_assert_true(goes_straight(cpu, 0x400000));
    soft_vm_mark_code(cpu, f->ram_region.ram, 0x200000, 16);
    g_assert_false(mmu_fill_quick(cpu, 0x400008, 8, MMU_WRITE));
    g_assert_null(mmu_host_pointer(cpu, 0x400000, 4, MMU_WRITE, MMU_KERNEL));
    g_assert_false(goes_straight(cpu, 0x400000));
    soft_fixture_free(f);
}

static void test_canonical(void)
{
    SoftFixture *f = new_long();
    SoftCpu *cpu = f->cpu;

    g_assert_cmpint(SOFT_CATCH(cpu, mmu_load(cpu, UINT64_C(0x800000000000), 1, MMU_KERNEL)), ==,
                    EXC_GP);
    g_assert_cmpuint(cpu->event.error, ==, 0);
    g_assert_cmpint(SOFT_CATCH(cpu, mmu_load(cpu, UINT64_C(0x7ffffffffffe), 4, MMU_KERNEL)), ==,
                    EXC_GP);
    soft_fixture_free(f);
}

static uint64_t device_value;

static uint64_t device_read(void *obj, uint64_t offset, unsigned size)
{
    return offset | size << 16;
}

static void device_write(void *obj, uint64_t offset, unsigned size, uint64_t value)
{
    device_value = value | offset << 32;
}

static void test_dispatch(void)
{
    static const RegionOps ops = {.name = "test", .read = device_read, .write = device_write};
    SoftFixture *f = soft_fixture_new("x86-64-v3");
    SoftCpu *cpu = f->cpu;
    Region device;

    region_init_io(&device, &ops, NULL, NULL, 0x1000);
    space_map(f->memory, 0xd0000000, &device, 0, 0x1000, SPACE_PRIORITY_PCI, false);
    space_map(f->memory, 0xf0000, &f->ram_region, 0xf0000, 0x10000, SPACE_PRIORITY_BOARD, true);
    mmu_space_changed(&f->vm);
    g_assert_cmphex(mmu_load(cpu, 0xd0000010, 4, MMU_KERNEL), ==, 0x40010);
    mmu_store(cpu, 0xd0000020, 2, 0x1234, MMU_KERNEL);
    g_assert_cmphex(device_value, ==, UINT64_C(0x2000001234));
    g_assert_null(mmu_host_pointer(cpu, 0xd0000000, 4, MMU_READ, MMU_KERNEL));
    /* Read-only RAM keeps its bytes, is readable in place but not writable. */
    fixture_write(f, 0xf0000, 4, 7);
    mmu_store(cpu, 0xf0000, 4, 8, MMU_KERNEL);
    g_assert_cmpuint(mmu_load(cpu, 0xf0000, 4, MMU_KERNEL), ==, 7);
    g_assert_null(mmu_host_pointer(cpu, 0xf0000, 4, MMU_WRITE, MMU_KERNEL));
    g_assert_nonnull(mmu_host_pointer(cpu, 0xf0000, 4, MMU_READ, MMU_KERNEL));
    /* The local APIC's page wins over the space. */
    mmu_store(cpu, 0xfee000b0, 4, 99, MMU_KERNEL);
    g_assert_cmphex(f->apic_offset, ==, 0xb0);
    g_assert_cmpuint(mmu_load(cpu, 0xfee00020, 4, MMU_KERNEL), ==, 99);
    /* Nothing answers. */
    g_assert_cmphex(mmu_load(cpu, 0xe0000000, 4, MMU_KERNEL), ==, 0xffffffff);
    soft_fixture_free(f);
}

static void test_a20(void)
{
    SoftFixture *f = soft_fixture_new("486");

    fixture_write(f, 0x1000, 4, 1);
    fixture_write(f, 0x101000, 4, 2);
    g_assert_cmpuint(mmu_load(f->cpu, 0x101000, 4, MMU_KERNEL), ==, 2);
    f->cpu->s.a20_masked = true;
    soft_fixture_apply(f);
    g_assert_cmpuint(mmu_load(f->cpu, 0x101000, 4, MMU_KERNEL), ==, 1);
    soft_fixture_free(f);
}

static void test_watchpoints(void)
{
    SoftFixture *f = soft_fixture_new("x86-64-v3");
    SoftCpu *cpu = f->cpu;

    cpu->s.dr[1] = 0x2004;
    control_write_dr(cpu, 7, 1 << 2 | 1 << 20 | 3 << 22); /* L1, write, 4 bytes */
    mmu_load(cpu, 0x2004, 4, MMU_KERNEL);
    g_assert_cmphex(cpu->pending_db, ==, 0);
    mmu_store(cpu, 0x2008, 4, 0, MMU_KERNEL);
    g_assert_cmphex(cpu->pending_db, ==, 0);
    mmu_store(cpu, 0x2000, 8, 0, MMU_KERNEL);
    g_assert_cmphex(cpu->pending_db, ==, 2);
    g_assert_cmphex(cpu->tlbs[MMU_KERNEL][2].tag_write, ==, tlb_none(2));
    cpu->pending_db = 0;
    control_write_dr(cpu, 7, 1 << 2 | 3 << 20); /* read or write, 1 byte */
    mmu_load(cpu, 0x2001, 4, MMU_KERNEL);
    g_assert_cmphex(cpu->pending_db, ==, 2);
    soft_fixture_free(f);
}

static void test_dirty_tracking(void)
{
    SoftFixture *f = soft_fixture_new("x86-64-v3");
    SoftCpu *cpu = f->cpu;

    mmu_store(cpu, 0x5000, 4, 1, MMU_KERNEL);
    g_assert_cmphex(cpu->tlbs[MMU_KERNEL][5].tag_write, ==, 0x5000);
    atomic_fetch_or(&f->ram->page_flags[5], RAM_CLEAN_DISPLAY);
    tlb_flush_writes(cpu);
    g_assert_cmphex(cpu->tlbs[MMU_KERNEL][5].tag_write, ==, tlb_none(5));
    mmu_store(cpu, 0x5000, 4, 2, MMU_KERNEL);
    g_assert_cmphex(atomic_load(&f->ram->page_flags[5]), ==, 0);
    g_assert_cmphex(cpu->tlbs[MMU_KERNEL][5].tag_write, ==, 0x5000);
    soft_fixture_free(f);
}

/* Tables that a device's page parts from each other: who asked about writes to them hears of A. */
static void test_tables_apart(void)
{
    static const RegionOps ops = {.name = "between", .max_access = 8};
    SoftFixture *f = new_long();
    Region device;

    region_init_io(&device, &ops, NULL, NULL, 0x1000);
    space_map(f->memory, MIB(4), &device, 0, 0x1000, SPACE_PRIORITY_BOARD, false);
    mmu_space_changed(&f->vm);
    map4(f, 0x5000, 12, 0x5000 | P | W);
    atomic_fetch_or(&f->ram->page_flags[ROOT >> GUEST_PAGE_SHIFT], RAM_CLEAN_DISPLAY);
    mmu_load(f->cpu, 0x5000, 4, MMU_KERNEL);
    g_assert_cmphex(fixture_read(f, ROOT, 8) & A, ==, A);
    g_assert_cmphex(atomic_load(&f->ram->page_flags[ROOT >> GUEST_PAGE_SHIFT]), ==, 0);
    soft_fixture_free(f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/mmu/error-codes", test_error_codes);
    g_test_add_func("/mmu/upper-levels-restrict", test_upper_levels_restrict);
    g_test_add_func("/mmu/accessed-dirty", test_accessed_dirty);
    g_test_add_func("/mmu/large-pages", test_large_pages);
    g_test_add_func("/mmu/no-1g-pages", test_no_1g_pages);
    g_test_add_func("/mmu/global-pages", test_global_pages);
    g_test_add_func("/mmu/pae", test_pae);
    g_test_add_func("/mmu/32bit", test_32bit);
    g_test_add_func("/mmu/page-crossing", test_page_crossing);
    g_test_add_func("/mmu/write-tags", test_write_tags);
    g_test_add_func("/mmu/canonical", test_canonical);
    g_test_add_func("/mmu/dispatch", test_dispatch);
    g_test_add_func("/mmu/a20", test_a20);
    g_test_add_func("/mmu/watchpoints", test_watchpoints);
    g_test_add_func("/mmu/dirty-tracking", test_dirty_tracking);
    g_test_add_func("/mmu/tables-apart", test_tables_apart);
    return g_test_run();
}
