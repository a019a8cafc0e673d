/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Linear to physical to host: page walks, the TLB's second half, and every access that the inline
 * path in access.h can't finish (faults, page crossing, devices, code pages, watched pages).
 *
 *   access.h: TlbEntry hit → host
 *   here:     TlbPage hit → host or device;  miss → walk() → fill()
 *
 * Invariants: tag_read and tag_write of an entry belong to the page of its TlbPage and imply the
 * right in it. tag_write implies that D is set and that no flag of the RAM page asks to know.
 * Watched pages have no tags. A slot with a page is in tlb_used, and in tlb_local if that is not
 * global.
 *
 * Threads: the vCPU's own; mmu_space_changed() from any (it holds an exclusive section).
 */
#include "cpu/soft/access.h"

#include <stdatomic.h>

#include "base/bits.h"
#include "cpu/soft/block.h"
#include "cpu/soft/soft_trace.h"
#include "cpu/soft/soft_vm.h"

enum { /* page-fault error code, SDM 3A 4.7 */
       FAULT_PRESENT = 1,
       FAULT_WRITE = 2,
       FAULT_USER = 4,
       FAULT_RESERVED = 8,
       FAULT_FETCH = 16,
};

enum { /* paging-structure entries */
       ENTRY_P = 1 << 0,
       ENTRY_W = 1 << 1,
       ENTRY_U = 1 << 2,
       ENTRY_A = 1 << 5,
       ENTRY_D = 1 << 6,
       ENTRY_PS = 1 << 7,
       ENTRY_G = 1 << 8,
};
#define ENTRY_NX      (UINT64_C(1) << 63)
#define ENTRY_ADDRESS UINT64_C(0x000ffffffffff000)
#define RIGHT(access) (1u << (access))

/* One way to lay out paging structures. */
typedef struct Paging {
    uint8_t levels, entry_bytes;
    uint8_t shift[4]; /* of the linear address, from the root down */
    uint8_t index_bits;
} Paging;

static const Paging paging_32 = {2, 4, {22, 12}, 10};
static const Paging paging_pae = {2, 8, {21, 12}, 9}; /* below the PDPTE registers */
static const Paging paging_4_level = {4, 8, {39, 30, 21, 12}, 9};

typedef struct Walk {
    uint64_t physical; /* of the 4 KiB page that holds the linear address */
    uint8_t rights;
    uint8_t shift;
    bool global;
} Walk;

/* ---- paging structures in guest memory ------------------------------------------------------- */

/* Host address of a paging-structure entry in RAM; NULL when something else answers there. */
static uint8_t *table_host(SoftCpu *cpu, uint64_t physical)
{
    SpaceRange range;

    if (G_LIKELY(physical - cpu->table_ram.start < cpu->table_ram.size))
        return cpu->table_ram.host + (physical - cpu->table_ram.start);
    range = space_lookup(cpu->vcpu->vm->memory, physical);
    if (!range.region || range.region->kind != REGION_RAM || range.read_only)
        return NULL;
    if (range.start + range.size - physical < 8)
        return NULL;
    cpu->table_ram.ram = range.region->ram;
    cpu->table_ram.ram_offset = range.region->ram_offset + range.offset;
    cpu->table_ram.host = range.region->ram->host + cpu->table_ram.ram_offset;
    cpu->table_ram.start = range.start;
    cpu->table_ram.size = align_down(range.size, 8);
    return cpu->table_ram.host + (physical - range.start);
}

static uint64_t table_load(SoftCpu *cpu, uint64_t physical, uint8_t *host, unsigned size)
{
    if (G_UNLIKELY(!host)) {
        vcpu_leave(cpu->vcpu);
        uint64_t entry = space_load(cpu->vcpu->vm->memory, physical, size);
        vcpu_enter(cpu->vcpu);
        return entry;
    }
    if (size == 4)
        return atomic_load_explicit((_Atomic uint32_t *)host, memory_order_relaxed);
    return atomic_load_explicit((_Atomic uint64_t *)host, memory_order_relaxed);
}

/* What writing a page of RAM owes to those who asked (code, display, migration). */
static void ram_changed(SoftCpu *cpu, Ram *ram, uint64_t offset, unsigned size)
{
    _Atomic uint8_t *flags = &ram->page_flags[offset >> GUEST_PAGE_SHIFT];
    uint8_t value = atomic_load(flags);

    if (value & RAM_CLEAN_ALL)
        value = atomic_fetch_and(flags, (uint8_t)~RAM_CLEAN_ALL);
    if (value & RAM_CODE)
        interp_code_written(cpu, ram, offset, size);
}

/* Sets bits in an entry if it is still `old`. False: it changed, walk again. */
static bool table_set(SoftCpu *cpu, uint64_t physical, uint8_t *host, uint64_t old, uint64_t bits,
                      unsigned size)
{
    uint64_t offset;

    if ((old & bits) == bits || !host)
        return true;
    if (size == 4) {
        uint32_t expected = old;
        if (!atomic_compare_exchange_strong((_Atomic uint32_t *)host, &expected,
                                            (uint32_t)(old | bits)))
            return false;
    } else {
        uint64_t expected = old;
        if (!atomic_compare_exchange_strong((_Atomic uint64_t *)host, &expected, old | bits))
            return false;
    }
    /* table_ram names another stretch by now if the tables lie in several. */
    if (G_UNLIKELY(physical - cpu->table_ram.start >= cpu->table_ram.size) &&
        !table_host(cpu, physical))
        return true;
    offset = physical - cpu->table_ram.start + cpu->table_ram.ram_offset;
    if (atomic_load_explicit(&cpu->table_ram.ram->page_flags[offset >> GUEST_PAGE_SHIFT],
                             memory_order_relaxed))
        ram_changed(cpu, cpu->table_ram.ram, offset, size);
    return true;
}

static bool is_canonical(uint64_t linear)
{
    return (uint64_t)((int64_t)(linear << 16) >> 16) == linear;
}

static const Paging *paging_mode(const SoftCpu *cpu)
{
    if (cpu->s.efer & EFER_LMA)
        return &paging_4_level;
    return cpu->s.cr4 & CR4_PAE ? &paging_pae : &paging_32;
}

/* Bits that must be 0 in a present entry that translates (`leaf`) or points at the next level (SDM
 * 3A 4.3-4.5). */
static uint64_t reserved_bits(const SoftCpu *cpu, const Paging *paging, unsigned shift, bool leaf)
{
    uint64_t mask;

    if (paging == &paging_32) {
        if (shift == 12 || !leaf)
            return 0;
        /* PSE-36: bits 20:13 are address bits 39:32, as far as they exist. */
        mask = cpu_has(cpu->model, CPU_PSE36) ? (~cpu->phys_mask >> 32 & 0xff) << 13 : 0xff << 13;
        return mask | 1 << 21;
    }
    mask = ~cpu->phys_mask & ENTRY_ADDRESS;
    if (paging == &paging_pae)
        mask |= UINT64_C(0x7ff) << 52;
    if (!(cpu->s.efer & EFER_NXE))
        mask |= ENTRY_NX;
    if (shift == 39 || (shift == 30 && !cpu_has(cpu->model, CPU_PDPE1GB)))
        mask |= ENTRY_PS;
    if (leaf && shift > 12)
        mask |= ((UINT64_C(1) << shift) - 1) & ~UINT64_C(0x1fff);
    return mask;
}

static uint64_t leaf_address(const SoftCpu *cpu, const Paging *paging, uint64_t entry,
                             unsigned shift)
{
    uint64_t address = entry & ENTRY_ADDRESS & ~((UINT64_C(1) << shift) - 1);

    if (paging == &paging_32 && shift == 22)
        address |= (entry >> 13 & 0xff) << 32;
    return address & cpu->phys_mask;
}

/* Rights of a page by what its entries allow, SDM 3A 4.6. `allow`: ENTRY_W, ENTRY_U and ENTRY_NX
 * combined. */
static unsigned page_rights(const SoftCpu *cpu, uint64_t allow, MmuIndex index)
{
    unsigned rights = RIGHT(MMU_READ) | RIGHT(MMU_WRITE) | RIGHT(MMU_EXEC);

    if (allow & ENTRY_NX)
        rights &= ~RIGHT(MMU_EXEC);
    if (index == MMU_USER) {
        if (!(allow & ENTRY_U))
            return 0;
        return allow & ENTRY_W ? rights : rights & ~RIGHT(MMU_WRITE);
    }
    if (!(allow & ENTRY_W) && cpu->s.cr0 & CR0_WP)
        rights &= ~RIGHT(MMU_WRITE);
    if (allow & ENTRY_U) {
        if (cpu->s.cr4 & CR4_SMEP)
            rights &= ~RIGHT(MMU_EXEC);
        if (cpu->s.cr4 & CR4_SMAP && index == MMU_KERNEL)
            rights &= ~(RIGHT(MMU_READ) | RIGHT(MMU_WRITE));
    }
    return rights;
}

static uint32_t fault_code(const SoftCpu *cpu, MmuAccess access, MmuIndex index, uint32_t why)
{
    uint32_t code = why;

    if (access == MMU_WRITE)
        code |= FAULT_WRITE;
    if (index == MMU_USER)
        code |= FAULT_USER;
    if (access == MMU_EXEC &&
        (cpu->s.cr4 & CR4_SMEP || (cpu->s.cr4 & CR4_PAE && cpu->s.efer & EFER_NXE)))
        code |= FAULT_FETCH;
    return code;
}

/*
 * Walks the paging structures. A and D bits are set only when the access is allowed and `mark`.
 * False: page fault with *ret_error.
 */
static bool walk_tables(SoftCpu *cpu, uint64_t linear, MmuAccess access, MmuIndex index, bool mark,
                        Walk *walk, uint32_t *ret_error)
{
    const Paging *paging = paging_mode(cpu);
    unsigned size = paging->entry_bytes, level, shift;
    uint8_t *host[4];
    uint64_t address[4], entry[4], table, allow, bits;
    bool leaf;

again:
    allow = ENTRY_W | ENTRY_U;
    table = cpu->s.cr3 & (paging == &paging_32 ? 0xfffff000 : ENTRY_ADDRESS);
    if (paging == &paging_pae) {
        table = cpu->pdpte[linear >> 30 & 3];
        if (!(table & ENTRY_P)) {
            *ret_error = fault_code(cpu, access, index, 0);
            return false;
        }
        table &= ENTRY_ADDRESS;
    }
    for (level = 0;; level++) {
        shift = paging->shift[level];
        address[level] = (table + bits_get(linear, shift, paging->index_bits) * size) &
                         cpu->a20_mask & cpu->phys_mask;
        host[level] = table_host(cpu, address[level]);
        entry[level] = table_load(cpu, address[level], host[level], size);
        if (!(entry[level] & ENTRY_P)) {
            *ret_error = fault_code(cpu, access, index, 0);
            return false;
        }
        leaf = level == paging->levels - 1u;
        if (!leaf && entry[level] & ENTRY_PS && shift <= 30)
            leaf = paging != &paging_32 || cpu->s.cr4 & CR4_PSE;
        if (entry[level] & reserved_bits(cpu, paging, shift, leaf)) {
            *ret_error = fault_code(cpu, access, index, FAULT_PRESENT | FAULT_RESERVED);
            return false;
        }
        allow = (allow & entry[level]) | ((allow | entry[level]) & ENTRY_NX);
        if (leaf)
            break;
        table = entry[level] & ENTRY_ADDRESS;
    }
    if (paging == &paging_32)
        allow &= ~ENTRY_NX;
    walk->rights = page_rights(cpu, allow, index);
    if (!(walk->rights & RIGHT(access))) {
        *ret_error = fault_code(cpu, access, index, FAULT_PRESENT);
        return false;
    }
    bits = ENTRY_A | (access == MMU_WRITE ? ENTRY_D : 0);
    if (mark) {
        for (unsigned i = 0; i < level; i++)
            if (!table_set(cpu, address[i], host[i], entry[i], ENTRY_A, size))
                goto again;
        if (!table_set(cpu, address[level], host[level], entry[level], bits, size))
            goto again;
    }
    if (!((entry[level] | bits) & ENTRY_D))
        walk->rights &= ~RIGHT(MMU_WRITE);
    walk->shift = shift;
    walk->global = entry[level] & ENTRY_G && cpu->s.cr4 & CR4_PGE;
    walk->physical = leaf_address(cpu, paging, entry[level], shift) |
                     (linear & ((UINT64_C(1) << shift) - 1) & GUEST_PAGE_MASK);
    return true;
}

static bool walk_linear(SoftCpu *cpu, uint64_t linear, MmuAccess access, MmuIndex index, bool mark,
                        Walk *walk, uint32_t *ret_error)
{
    if (cpu->s.cr0 & CR0_PG)
        return walk_tables(cpu, linear, access, index, mark, walk, ret_error);
    walk->physical = linear & GUEST_PAGE_MASK & cpu->phys_mask;
    walk->rights = RIGHT(MMU_READ) | RIGHT(MMU_WRITE) | RIGHT(MMU_EXEC);
    walk->shift = GUEST_PAGE_SHIFT;
    walk->global = false;
    return true;
}

bool mmu_load_pdptes(SoftCpu *cpu, uint64_t cr3)
{
    uint64_t pdpte[4], reserved = (~cpu->phys_mask) | 0x1e6;

    for (unsigned i = 0; i < 4; i++) {
        uint64_t address = ((cr3 & 0xffffffe0) + i * 8) & cpu->a20_mask;
        pdpte[i] = table_load(cpu, address, table_host(cpu, address), 8);
        if (pdpte[i] & ENTRY_P && pdpte[i] & reserved)
            return false;
    }
    memcpy(cpu->pdpte, pdpte, sizeof(pdpte));
    return true;
}

/* ---- the TLB --------------------------------------------------------------------------------- */

static void entry_clear(TlbEntry *entry, unsigned slot)
{
    entry->tag_read = entry->tag_write = entry->tag_exec = tlb_none(slot);
}

static void slot_clear(SoftCpu *cpu, unsigned index, unsigned slot)
{
    entry_clear(&cpu->tlbs[index][slot], slot);
    cpu->tlb_pages[index][slot].linear = TLB_NONE;
}

/* Whether an enabled data breakpoint, or a debugger's, lies in the page. */
static bool page_is_watched(const SoftCpu *cpu, uint64_t linear)
{
    if (cpu->debug_watches && debug_watches_page(cpu->vcpu->vm->debug, linear))
        return true;
    for (unsigned i = 0; i < 4; i++) {
        unsigned type = cpu->s.dr7 >> (16 + 4 * i) & 3;
        if (cpu->s.dr7 >> (2 * i) & 3 && type & 1 && !((cpu->s.dr[i] ^ linear) & GUEST_PAGE_MASK))
            return true;
    }
    return false;
}

static bool is_local_apic(const SoftCpu *cpu, uint64_t physical)
{
    const Vcpu *vcpu = cpu->vcpu;
    uint64_t base = vcpu->intc ? vcpu->intc->apic_base(vcpu->intc_obj) : 0;

    return (base & 0xc00) == 0x800 && (base & GUEST_PAGE_MASK & cpu->phys_mask) == physical;
}

/* What answers at a physical page: fills all of `page` that does not depend on the walk. */
static void page_resolve(SoftCpu *cpu, TlbPage *page)
{
    SpaceRange range;

    page->host = NULL;
    page->ram = NULL;
    page->writes_dispatched = false;
    page->local_apic = is_local_apic(cpu, page->physical);
    if (page->local_apic)
        return;
    range = space_lookup(cpu->vcpu->vm->memory, page->physical);
    if (!range.region || range.region->kind == REGION_IO || range.start > page->physical ||
        range.start + range.size - page->physical < GUEST_PAGE_SIZE)
        return;
    page->ram = range.region->ram;
    page->ram_offset = range.region->ram_offset + range.offset + (page->physical - range.start);
    if (page->ram_offset & ~GUEST_PAGE_MASK || page->ram_offset + GUEST_PAGE_SIZE > page->ram->size)
        return;
    page->host = page->ram->host + page->ram_offset;
    page->writes_dispatched = range.region->kind == REGION_ROM || range.read_only;
    if (page->writes_dispatched)
        return;
    cpu->page_ram = (RamStretch){.host = page->host - (page->physical - range.start),
                                 .start = range.start,
                                 .size = range.size,
                                 .ram = page->ram,
                                 .ram_offset = range.region->ram_offset + range.offset};
}

static uint8_t ram_page_flags(const TlbPage *page)
{
    return atomic_load_explicit(&page->ram->page_flags[page->ram_offset >> GUEST_PAGE_SHIFT],
                                memory_order_relaxed);
}

/* Puts into the entry what may be done there without asking. */
static void entry_fill(SoftCpu *cpu, TlbEntry *entry, const TlbPage *page)
{
    entry_clear(entry, page->linear >> GUEST_PAGE_SHIFT & (TLB_SIZE - 1));
    if (!page->host)
        return;
    entry->addend = (uintptr_t)page->host - page->linear;
    if (page->rights & RIGHT(MMU_EXEC))
        entry->tag_exec = page->linear;
    if (page->watched)
        return;
    if (page->rights & RIGHT(MMU_READ))
        entry->tag_read = page->linear;
    if (page->rights & RIGHT(MMU_WRITE) && !page->writes_dispatched && !ram_page_flags(page))
        entry->tag_write = page->linear;
}

static void note_large_page(SoftCpu *cpu, uint64_t linear, const Walk *walk)
{
    unsigned half = linear >> 63;
    uint64_t low = align_down(linear, UINT64_C(1) << walk->shift);
    uint64_t high = low + ((UINT64_C(1) << walk->shift) - 1);

    cpu->large[half].low = MIN(cpu->large[half].low, low);
    cpu->large[half].high = MAX(cpu->large[half].high, high);
    cpu->large[half].global |= walk->global;
}

static TlbPage *page_slot(SoftCpu *cpu, uint64_t linear, MmuIndex index)
{
    return &cpu->tlb_pages[index][linear >> GUEST_PAGE_SHIFT & (TLB_SIZE - 1)];
}

/* What `page` is to be by the walk, but for who answers there. */
static void page_set(SoftCpu *cpu, TlbPage *page, uint64_t linear, const Walk *walk)
{
    cpu->stat_tlb_fills++;
    if (walk->shift > GUEST_PAGE_SHIFT)
        note_large_page(cpu, linear, walk);
    page->linear = linear & GUEST_PAGE_MASK;
    page->physical = walk->physical & cpu->a20_mask;
    page->rights = walk->rights;
    page->shift = walk->shift;
    page->global = walk->global;
}

static void page_enter(SoftCpu *cpu, const TlbPage *page, MmuIndex index)
{
    unsigned slot = page->linear >> GUEST_PAGE_SHIFT & (TLB_SIZE - 1);
    uint64_t bit = UINT64_C(1) << slot % 64;

    entry_fill(cpu, &cpu->tlbs[index][slot], page);
    cpu->tlb_used[index][slot / 64] |= bit;
    if (!page->global)
        cpu->tlb_local[index][slot / 64] |= bit;
    if (soft_traces(cpu, TRACE_MMU))
        soft_trace_fill(cpu, page, index);
}

static TlbPage *fill(SoftCpu *cpu, uint64_t linear, MmuAccess access, MmuIndex index)
{
    TlbPage *page = page_slot(cpu, linear, index);
    uint32_t error;
    Walk walk;

    if (!walk_linear(cpu, linear, access, index, true, &walk, &error))
        cpu_raise_page_fault(cpu, linear, error);
    page_set(cpu, page, linear, &walk);
    page->watched = (cpu->s.dr7 & 0xff || cpu->debug_watches) && page_is_watched(cpu, linear);
    page_resolve(cpu, page);
    page_enter(cpu, page, index);
    return page;
}

static inline TlbPage *translate(SoftCpu *cpu, uint64_t linear, MmuAccess access, MmuIndex index)
{
    TlbPage *page = page_slot(cpu, linear, index);

    if (G_LIKELY(page->linear == (linear & GUEST_PAGE_MASK) && page->rights & RIGHT(access)))
        return page;
    return fill(cpu, linear, access, index);
}

static void reset_large(SoftCpu *cpu, unsigned half)
{
    cpu->large[half].low = UINT64_MAX;
    cpu->large[half].high = 0;
    cpu->large[half].global = false;
}

static void clear_sites(SoftCpu *cpu, unsigned step)
{
    for (unsigned kind = step - 1; kind < SITES_COUNT; kind += step) {
        if (!cpu->sites_filled[kind])
            continue;
        cpu->sites_filled[kind] = false;
        for (unsigned i = 0; i < tlb_site_count(kind); i++)
            cpu->sites[kind][i].tag = cpu->site_none;
    }
}

/* Runs `what` for each `slot` of a set. */
#define FOR_SLOTS(slot, set, what)                                       \
    for (unsigned word_ = 0; word_ < TLB_SIZE / 64; word_++)             \
        for (uint64_t bits_ = (set)[word_]; bits_; bits_ &= bits_ - 1) { \
            unsigned slot = word_ * 64 + __builtin_ctzll(bits_);         \
            what;                                                        \
        }

/* Sites keep what the TLB still has, so that a kernel's are not lost with each process. */
static void check_sites(SoftCpu *cpu)
{
    for (unsigned kind = 0; kind < SITES_COUNT; kind++) {
        const TlbEntry *tlb = cpu->tlbs[kind >= SITES_USER_READ ? MMU_USER : MMU_KERNEL];
        bool write = kind == SITES_KERNEL_WRITE || kind == SITES_USER_WRITE;
        if (!cpu->sites_filled[kind])
            continue;
        for (unsigned i = 0; i < tlb_site_count(kind); i++) {
            uint64_t *tag = &cpu->sites[kind][i].tag;
            const TlbEntry *entry = &tlb[*tag >> GUEST_PAGE_SHIFT & (TLB_SIZE - 1)];
            if (*tag != (write ? entry->tag_write : entry->tag_read))
                *tag = cpu->site_none;
        }
    }
}

static void clear_sites_of(SoftCpu *cpu, uint64_t page)
{
    for (unsigned kind = 0; kind < SITES_COUNT; kind++)
        for (unsigned i = 0; cpu->sites_filled[kind] && i < tlb_site_count(kind); i++)
            if (cpu->sites[kind][i].tag == page)
                cpu->sites[kind][i].tag = cpu->site_none;
}

void tlb_flush_all(SoftCpu *cpu)
{
    if (soft_traces(cpu, TRACE_MMU))
        soft_trace_flush(cpu, "all", 0);
    for (unsigned index = 0; index < MMU_INDEX_COUNT; index++)
        FOR_SLOTS(slot, cpu->tlb_used[index], slot_clear(cpu, index, slot));
    memset(cpu->tlb_used, 0, sizeof(cpu->tlb_used));
    memset(cpu->tlb_local, 0, sizeof(cpu->tlb_local));
    reset_large(cpu, 0);
    reset_large(cpu, 1);
    clear_sites(cpu, 1);
    cpu->table_ram.size = cpu->page_ram.size = 0;
    memset(cpu->fetched, 0, sizeof(cpu->fetched));
    cpu->fetched_local = false;
    interp_mapping_changed(cpu, true, true);
}

void tlb_flush_non_global(SoftCpu *cpu)
{
    if (soft_traces(cpu, TRACE_MMU))
        soft_trace_flush(cpu, "local", 0);
    for (unsigned index = 0; index < MMU_INDEX_COUNT; index++)
        FOR_SLOTS(slot, cpu->tlb_local[index], {
            if (!cpu->tlb_pages[index][slot].global)
                slot_clear(cpu, index, slot);
        });
    memset(cpu->tlb_local, 0, sizeof(cpu->tlb_local));
    check_sites(cpu);
    for (unsigned half = 0; half < 2; half++)
        if (!cpu->large[half].global)
            reset_large(cpu, half);
    interp_mapping_changed(cpu, true, cpu->fetched_local);
    cpu->fetched_local = false;
}

/* Any part of a large page names the whole. */
static void flush_large_page(SoftCpu *cpu, uint64_t linear)
{
    for (unsigned index = 0; index < MMU_INDEX_COUNT; index++)
        FOR_SLOTS(slot, cpu->tlb_used[index], {
            const TlbPage *page = &cpu->tlb_pages[index][slot];
            if (page->linear != TLB_NONE && !((page->linear ^ linear) >> page->shift))
                slot_clear(cpu, index, slot);
        });
}

void tlb_flush_page(SoftCpu *cpu, uint64_t linear)
{
    unsigned slot = linear >> GUEST_PAGE_SHIFT & (TLB_SIZE - 1), half = linear >> 63;
    unsigned filter = linear >> GUEST_PAGE_SHIFT & 1023;
    bool large = linear >= cpu->large[half].low && linear <= cpu->large[half].high;

    if (soft_traces(cpu, TRACE_MMU))
        soft_trace_flush(cpu, "page", linear);
    for (unsigned index = 0; index < MMU_INDEX_COUNT; index++)
        if (cpu->tlb_pages[index][slot].linear == (linear & GUEST_PAGE_MASK))
            slot_clear(cpu, index, slot);
    if (large) {
        flush_large_page(cpu, linear);
        check_sites(cpu);
    } else {
        clear_sites_of(cpu, linear & GUEST_PAGE_MASK);
    }
    if (large || cpu->fetched[filter / 64] >> (filter % 64) & 1)
        interp_mapping_changed(cpu, !half, half);
}

void tlb_flush_writes(SoftCpu *cpu)
{
    for (unsigned index = 0; index < MMU_INDEX_COUNT; index++)
        FOR_SLOTS(slot, cpu->tlb_used[index], cpu->tlbs[index][slot].tag_write = tlb_none(slot));
    clear_sites(cpu, 2);
    cpu->translation_stop = true;
}

void mmu_init(SoftCpu *cpu)
{
    unsigned bits = MIN(cpu->model->physical_address_bits, 52);

    cpu->phys_mask = (UINT64_C(1) << bits) - 1;
    cpu->a20_mask = cpu->s.a20_masked ? ~(UINT64_C(1) << 20) : UINT64_MAX;
    cpu->tlb = cpu->tlbs[cpu->mmu_index];
    /* No address that exists, nor one that a guest could find. */
    cpu->site_none =
        ((uint64_t)g_random_int() << 32 | g_random_int()) & GUEST_PAGE_MASK & ~(UINT64_C(1) << 63);
    cpu->site_none |= UINT64_C(1) << 62;
    memset(cpu->sites_filled, true, sizeof(cpu->sites_filled));
    memset(cpu->tlb_used, 0xff, sizeof(cpu->tlb_used));
    tlb_flush_all(cpu);
}

void mmu_space_changed(Vm *vm)
{
    soft_vm_exclusive_begin(vm);
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        if (vm->vcpus[i] && vm->vcpus[i]->engine_data)
            tlb_flush_all(vm->vcpus[i]->engine_data);
    soft_vm_exclusive_end(vm);
}

/* ---- the translator's short way ------------------------------------------------------------ */

/* Host address of [physical, physical + size) in the stretch, or NULL. */
static uint8_t *stretch_host(const RamStretch *stretch, uint64_t physical, unsigned size)
{
    uint64_t offset = physical - stretch->start;

    if (stretch->size < size || offset > stretch->size - size)
        return NULL;
    return stretch->host + offset;
}

/* A walk of 4 levels that finds every A bit set, and D for a write, in tables of one stretch. */
static bool walk_quick(SoftCpu *cpu, uint64_t linear, MmuAccess access, Walk *walk)
{
    uint64_t table = cpu->s.cr3 & ENTRY_ADDRESS, allow = ENTRY_W | ENTRY_U, entry;
    unsigned shift = 39;

    for (;; shift -= 9) {
        uint8_t *host = stretch_host(&cpu->table_ram, table + (linear >> shift & 511) * 8, 8);
        if (!host)
            return false;
        entry = atomic_load_explicit((_Atomic uint64_t *)host, memory_order_relaxed);
        bool leaf = shift == 12 || (entry & ENTRY_PS && shift <= 30);
        if (~entry & (ENTRY_P | ENTRY_A) ||
            entry & reserved_bits(cpu, &paging_4_level, shift, leaf))
            return false;
        allow = (allow & entry) | ((allow | entry) & ENTRY_NX);
        if (leaf)
            break;
        table = entry & ENTRY_ADDRESS;
    }
    walk->rights = page_rights(cpu, allow, cpu->mmu_index);
    if (!(entry & ENTRY_D))
        walk->rights &= ~RIGHT(MMU_WRITE);
    walk->shift = shift;
    walk->global = entry & ENTRY_G && cpu->s.cr4 & CR4_PGE;
    walk->physical = leaf_address(cpu, &paging_4_level, entry, shift) |
                     (linear & ((UINT64_C(1) << shift) - 1) & GUEST_PAGE_MASK);
    return walk->rights & RIGHT(access);
}

/* Write tags go with every page that becomes code's. Whether later stores may go straight, since
 * nobody asks to know of them (any more). */
static bool refresh_write_tag(SoftCpu *cpu, uint64_t linear, MmuIndex index)
{
    unsigned slot = linear >> GUEST_PAGE_SHIFT & (TLB_SIZE - 1);
    TlbEntry *entry = &cpu->tlbs[index][slot];
    const TlbPage *page = &cpu->tlb_pages[index][slot];

    if (page->linear == (linear & GUEST_PAGE_MASK))
        entry_fill(cpu, entry, page);
    return entry->tag_write == (linear & GUEST_PAGE_MASK);
}

bool mmu_fill_quick(SoftCpu *cpu, uint64_t linear, unsigned size, MmuAccess access)
{
    TlbPage *page = page_slot(cpu, linear, cpu->mmu_index);
    const RamStretch *near = &cpu->page_ram;
    Walk walk;

    if (!(cpu->s.efer & EFER_LMA) || !is_canonical(linear) || cpu->s.dr7 & 0xff ||
        cpu->debug_watches || cpu->a20_mask != UINT64_MAX ||
        (linear & ~GUEST_PAGE_MASK) + size > GUEST_PAGE_SIZE)
        return false;
    if (page->linear == (linear & GUEST_PAGE_MASK) && page->rights & RIGHT(access))
        return access == MMU_WRITE && refresh_write_tag(cpu, linear, cpu->mmu_index);
    if (!walk_quick(cpu, linear, access, &walk))
        return false;
    uint8_t *host = stretch_host(near, walk.physical, GUEST_PAGE_SIZE);
    if (!host || !((cpu->s.apic_base ^ walk.physical) & GUEST_PAGE_MASK))
        return false;
    page_set(cpu, page, linear, &walk);
    page->local_apic = page->watched = page->writes_dispatched = false;
    page->host = host;
    page->ram = near->ram;
    page->ram_offset = near->ram_offset + (walk.physical - near->start);
    page_enter(cpu, page, cpu->mmu_index);
    uint64_t tag = access == MMU_WRITE ? tlb_entry(cpu->tlb, linear)->tag_write
                                       : tlb_entry(cpu->tlb, linear)->tag_read;
    return !((tag ^ linear) & GUEST_PAGE_MASK);
}

/* Another vCPU could decode the line between a look at it and the write. */
uintptr_t mmu_beside_code(SoftCpu *cpu, uint64_t linear, unsigned size)
{
    const TlbPage *page = page_slot(cpu, linear, cpu->mmu_index);
    uint64_t offset = page->ram_offset + (linear & ~GUEST_PAGE_MASK);

    if (cpu->vcpu->vm->vcpu_count > 1 || page->linear != (linear & GUEST_PAGE_MASK) ||
        !(page->rights & RIGHT(MMU_WRITE)) || !page->host || page->watched ||
        page->writes_dispatched || (linear & ~GUEST_PAGE_MASK) + size > GUEST_PAGE_SIZE ||
        ram_page_flags(page) != RAM_CODE ||
        atomic_load_explicit(&code_page(page->ram, offset)->lines, memory_order_relaxed) &
            code_lines(offset, size))
        return 0;
    return (uintptr_t)page->host - page->linear;
}

/* ---- accesses -------------------------------------------------------------------------------- */

/* Notes data breakpoints that an access hits; they trap after the instruction (SDM 3B 17.2). */
static void watch(SoftCpu *cpu, uint64_t linear, unsigned size, MmuAccess access)
{
    static const uint8_t lengths[] = {1, 2, 8, 4};

    if (cpu->debug_watches)
        debug_note_access(cpu->vcpu, linear, size, access == MMU_WRITE);
    for (unsigned i = 0; i < 4; i++) {
        unsigned type = cpu->s.dr7 >> (16 + 4 * i) & 3,
                 length = lengths[cpu->s.dr7 >> (18 + 4 * i) & 3];
        uint64_t start = align_down(cpu->s.dr[i], length);
        if (!(cpu->s.dr7 >> (2 * i) & 3) || !(type == 3 || (type == 1 && access == MMU_WRITE)))
            continue;
        if (linear < start + length && start < linear + size)
            cpu->pending_db |= 1u << i;
    }
}

static uint64_t dispatch_load(SoftCpu *cpu, const TlbPage *page, uint64_t offset, unsigned size)
{
    uint64_t value;

    cpu->stat_mmio++;
    if (page->local_apic)
        return cpu->vcpu->intc->mmio_read(cpu->vcpu->intc_obj, offset, size);
    vcpu_leave(cpu->vcpu);
    value = space_load(cpu->vcpu->vm->memory, page->physical + offset, size);
    vcpu_enter(cpu->vcpu);
    return value;
}

/* An interrupt that the store raises comes before the next instruction: guests switch interrupts
 * off right behind it. */
static void dispatch_store(SoftCpu *cpu, const TlbPage *page, uint64_t offset, unsigned size,
                           uint64_t value)
{
    uint64_t address = page->physical + offset;
    cpu->stat_mmio++;
    vcpu_leave(cpu->vcpu); /* the end of a level-triggered interrupt takes the board lock, too */
    if (page->local_apic)
        cpu->vcpu->intc->mmio_write(cpu->vcpu->intc_obj, offset, size, value);
    else
        space_store(cpu->vcpu->vm->memory, address, size, value);
    vcpu_enter(cpu->vcpu);
    cpu->interrupt_waits |= page->local_apic; /* perhaps */
    if (cpu->insn && atomic_load_explicit(&cpu->exit_request, memory_order_relaxed))
        block_stop_behind(cpu, cpu->insn);
}

/* The largest access the address space takes that fits. */
static unsigned dispatch_size(unsigned size)
{
    return size >= 8 ? 8 : size >= 4 ? 4 : size >= 2 ? 2 : 1;
}

static void copy_sized(void *to, const void *from, unsigned size)
{
    switch (size) { /* one access of the host for one of the guest */
    case 1:
        *(volatile uint8_t *)to = *(const uint8_t *)from;
        break;
    case 2:
        *(volatile uint16_t *)to = *(const uint16_t *)from;
        break;
    case 4:
        *(volatile uint32_t *)to = *(const uint32_t *)from;
        break;
    case 8:
        *(volatile uint64_t *)to = *(const uint64_t *)from;
        break;
    default:
        memcpy(to, from, size);
    }
}

/* [linear, linear + size) lies in `page` (a copy: devices may flush the TLB). */
static void page_load(SoftCpu *cpu, const TlbPage *page, uint64_t linear, void *data, unsigned size)
{
    uint64_t offset = linear & ~GUEST_PAGE_MASK;

    if (page->watched)
        watch(cpu, linear, size, MMU_READ);
    if (page->host) {
        copy_sized(data, page->host + offset, size);
        return;
    }
    while (size) {
        unsigned part = dispatch_size(size);
        uint64_t value = dispatch_load(cpu, page, offset, part);
        memcpy(data, &value, part);
        data = (uint8_t *)data + part;
        offset += part;
        size -= part;
    }
}

static void page_store(SoftCpu *cpu, const TlbPage *page, uint64_t linear, const void *data,
                       unsigned size)
{
    uint64_t offset = linear & ~GUEST_PAGE_MASK;

    if (page->watched)
        watch(cpu, linear, size, MMU_WRITE);
    if (page->host && !page->writes_dispatched) {
        copy_sized(page->host + offset, data, size);
        if (ram_page_flags(page))
            ram_changed(cpu, page->ram, page->ram_offset + offset, size);
        return;
    }
    while (size) {
        unsigned part = dispatch_size(size);
        uint64_t value = 0;
        memcpy(&value, data, part);
        dispatch_store(cpu, page, offset, part, value);
        data = (const uint8_t *)data + part;
        offset += part;
        size -= part;
    }
}

/* Whether the instruction that faults uses the stack implicitly or by its operand's segment. */
static bool is_stack_access(const SoftCpu *cpu, uint64_t linear)
{
    const Insn *insn = cpu->insn;

    if (!insn)
        return false;
    if (insn->flags & INSN_MEMORY && insn->segment == SEG_SS)
        return true;
    /* PUSH, POP, CALL, RET … : within an ENTER's reach of RSP. */
    return !(insn->flags & INSN_MEMORY) && linear + 512 - cpu->s.gpr[GPR_RSP] < 1024;
}

/* The linear address as the paging unit sees it; both ends must be canonical (SDM 1 3.3.7.1). */
static uint64_t linear_check(SoftCpu *cpu, uint64_t linear, unsigned size)
{
    if (!(cpu->s.efer & EFER_LMA))
        return (uint32_t)linear;
    if (G_UNLIKELY(!is_canonical(linear) || !is_canonical(linear + size - 1)))
        cpu_raise_error(cpu, is_stack_access(cpu, linear) ? EXC_SS : EXC_GP,
                        cpu->delivering && !cpu->event.software);
    return linear;
}

static bool crosses_page(uint64_t linear, unsigned size)
{
    return (linear & ~GUEST_PAGE_MASK) + size > GUEST_PAGE_SIZE;
}

/* Start of the page behind the one of `linear`. */
static uint64_t next_page(const SoftCpu *cpu, uint64_t linear)
{
    uint64_t next = (linear & GUEST_PAGE_MASK) + GUEST_PAGE_SIZE;

    return cpu->s.efer & EFER_LMA ? next : (uint32_t)next;
}

void mmu_load_bytes(SoftCpu *cpu, uint64_t linear, void *data, unsigned size, MmuIndex index)
{
    TlbPage first, second;
    unsigned part = size;

    linear = linear_check(cpu, linear, size);
    first = *translate(cpu, linear, MMU_READ, index);
    if (crosses_page(linear, size)) {
        part = GUEST_PAGE_SIZE - (linear & ~GUEST_PAGE_MASK);
        second = *translate(cpu, next_page(cpu, linear), MMU_READ, index);
    }
    page_load(cpu, &first, linear, data, part);
    if (part < size)
        page_load(cpu, &second, next_page(cpu, linear), (uint8_t *)data + part, size - part);
}

void mmu_store_bytes(SoftCpu *cpu, uint64_t linear, const void *data, unsigned size, MmuIndex index)
{
    TlbPage first, second;
    unsigned part = size;

    linear = linear_check(cpu, linear, size);
    first = *translate(cpu, linear, MMU_WRITE, index);
    if (crosses_page(linear, size)) {
        part = GUEST_PAGE_SIZE - (linear & ~GUEST_PAGE_MASK);
        second = *translate(cpu, next_page(cpu, linear), MMU_WRITE, index);
    }
    page_store(cpu, &first, linear, data, part);
    if (part < size)
        page_store(cpu, &second, next_page(cpu, linear), (const uint8_t *)data + part, size - part);
    refresh_write_tag(cpu, linear, index);
}

uint64_t mmu_load(SoftCpu *cpu, uint64_t linear, unsigned size, MmuIndex index)
{
    uint64_t value = 0;

    mmu_load_bytes(cpu, linear, &value, size, index);
    return value;
}

void mmu_store(SoftCpu *cpu, uint64_t linear, unsigned size, uint64_t value, MmuIndex index)
{
    mmu_store_bytes(cpu, linear, &value, size, index);
}

void mmu_probe(SoftCpu *cpu, uint64_t linear, unsigned size, MmuAccess access, MmuIndex index)
{
    linear = linear_check(cpu, linear, size);
    translate(cpu, linear, access, index);
    if (crosses_page(linear, size))
        translate(cpu, next_page(cpu, linear), access, index);
}

/* For what stays in one page of RAM; NULL otherwise. The page's entry goes to `*ret_page`. */
static uint8_t *host_pointer(SoftCpu *cpu, uint64_t linear, unsigned size, MmuAccess access,
                             MmuIndex index, const TlbPage **ret_page)
{
    const TlbPage *page;

    linear = linear_check(cpu, linear, size);
    if (crosses_page(linear, size)) {
        mmu_probe(cpu, linear, size, access, index);
        return NULL;
    }
    *ret_page = page = translate(cpu, linear, access, index);
    if (!page->host || (access == MMU_WRITE && page->writes_dispatched))
        return NULL;
    return page->host + (linear & ~GUEST_PAGE_MASK);
}

void *mmu_host_pointer(SoftCpu *cpu, uint64_t linear, unsigned size, MmuAccess access,
                       MmuIndex index)
{
    const TlbPage *page;
    uint8_t *host = host_pointer(cpu, linear, size, access, index, &page);

    if (!host)
        return NULL;
    if (access == MMU_WRITE && ram_page_flags(page)) {
        uint64_t offset = page->ram_offset + (linear & ~GUEST_PAGE_MASK);
        /* Another vCPU could decode the old bytes between a drop now and the write to come. */
        if (ram_page_flags(page) & RAM_CODE)
            return NULL;
        ram_changed(cpu, page->ram, offset, size);
    }
    if (access == MMU_WRITE)
        refresh_write_tag(cpu, linear_check(cpu, linear, size), index);
    if (page->watched)
        watch(cpu, linear, size, access);
    return host;
}

void *mmu_bulk_pointer(SoftCpu *cpu, uint64_t linear, unsigned size, MmuAccess access)
{
    const TlbPage *page;
    uint8_t *host = host_pointer(cpu, linear, size, access, cpu->mmu_index, &page);

    if (host && page->watched)
        watch(cpu, linear, size, access);
    return host;
}

void mmu_bulk_written(SoftCpu *cpu, uint64_t linear, unsigned size)
{
    const TlbPage *page =
        translate(cpu, linear_check(cpu, linear, size), MMU_WRITE, cpu->mmu_index);

    if (!ram_page_flags(page))
        return;
    ram_changed(cpu, page->ram, page->ram_offset + (linear & ~GUEST_PAGE_MASK), size);
    refresh_write_tag(cpu, linear_check(cpu, linear, size), cpu->mmu_index);
}

uint8_t *mmu_fetch_page(SoftCpu *cpu, uint64_t linear, Ram **ret_ram, uint64_t *ret_ram_offset)
{
    unsigned filter = linear >> GUEST_PAGE_SHIFT & 1023;
    const TlbPage *page;

    linear = linear_check(cpu, linear, 1);
    page = translate(cpu, linear, MMU_EXEC, cpu->mmu_index);
    cpu->fetched[filter / 64] |= UINT64_C(1) << (filter % 64);
    cpu->fetched_local |= linear >> 63 && !page->global;
    if (!page->host)
        return NULL;
    *ret_ram = page->ram;
    *ret_ram_offset = page->ram_offset;
    return page->host;
}

uint64_t mmu_debug_translate(SoftCpu *cpu, uint64_t linear)
{
    uint32_t error;
    Walk walk;

    if (!(cpu->s.efer & EFER_LMA))
        linear = (uint32_t)linear;
    else if (!is_canonical(linear))
        return UINT64_MAX;
    if (!walk_linear(cpu, linear, MMU_READ, MMU_KERNEL_NOSMAP, false, &walk, &error))
        return UINT64_MAX;
    return (walk.physical & cpu->a20_mask) | (linear & ~GUEST_PAGE_MASK);
}
