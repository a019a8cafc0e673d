/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * String instructions, repeated or not, and their port forms.
 *
 * An element is done like any instruction: all accesses that can fault, then registers. A
 * repetition keeps RCX, RSI and RDI exact after every element, so a fault or an interrupt finds the
 * state the manual promises. MOVS, STOS and LODS go page by page on host memory where they can;
 * that is done only when it can't be told from element by element.
 *
 * The decoder sets in these: addr_size, addr_mask, segment (of the source) and INSN_SEG_CHECK when
 * the source's or ES' segment needs checks.
 */
#include "cpu/soft/block.h"
#include "cpu/soft/ops.h"
#include "cpu/soft/ops_system.h"

/* Elements done between two looks at exit_request. */
#define STRING_CHUNK 4096

typedef struct StringStep {
    uint64_t mask; /* of the address size */
    int64_t delta; /* bytes per element, by DF */
} StringStep;

static inline StringStep string_step(const SoftCpu *cpu, const Insn *insn, int size)
{
    return (StringStep){insn->addr_mask, cpu->s.rflags & FLAG_DF ? -size : size};
}

static inline uint64_t string_count(const SoftCpu *cpu, const Insn *insn)
{
    return cpu->s.gpr[GPR_RCX] & insn->addr_mask;
}

static inline void string_advance(SoftCpu *cpu, const Insn *insn, unsigned reg, int64_t delta)
{
    reg_write_sized(cpu, reg, insn->addr_size, cpu->s.gpr[reg] + delta);
}

static inline uint64_t source_linear(SoftCpu *cpu, const Insn *insn, unsigned size)
{
    return linear_address(cpu, insn, insn->segment, cpu->s.gpr[GPR_RSI] & insn->addr_mask, size,
                          MMU_READ);
}

static inline uint64_t target_linear(SoftCpu *cpu, const Insn *insn, unsigned size,
                                     MmuAccess access)
{
    return linear_address(cpu, insn, SEG_ES, cpu->s.gpr[GPR_RDI] & insn->addr_mask, size, access);
}

/* Leaves a repetition with elements to do: RIP stays, and what interrupts it saves RF (SDM
 * 1 7.3.9.2, 3B 18.3.1.1). */
static void string_suspend(SoftCpu *cpu, const Insn *insn)
{
    block_uncount(cpu, insn);
    cpu->s.rflags |= FLAG_RF;
    cpu->s.rip = INSN_RIP(cpu, insn);
    cpu->insn = insn;
}

static inline bool string_must_stop(const SoftCpu *cpu)
{
    return atomic_load_explicit(&cpu->exit_request, memory_order_relaxed) ||
           cpu->mode & MODE_SINGLE_STEP || cpu->pending_db;
}

/*
 * The repeat loop. `element` does one; `bulk` does many at once and returns how many (0: none, do
 * one); `go_on` says whether the next element is to be done after the flags of this one.
 */
#define REPEAT(element, bulk, go_on)                                              \
    do {                                                                          \
        if (!(insn->prefixes & (PREFIX_REPE | PREFIX_REPNE))) {                   \
            element;                                                              \
            INSN_NEXT(cpu, insn);                                                 \
        }                                                                         \
        uint64_t left = string_count(cpu, insn);                                  \
        for (unsigned chunk = STRING_CHUNK; left;) {                              \
            uint64_t done = bulk;                                                 \
            if (!done) {                                                          \
                element;                                                          \
                done = 1;                                                         \
            }                                                                     \
            left -= done;                                                         \
            reg_write_sized(cpu, GPR_RCX, insn->addr_size, left);                 \
            if (!(go_on))                                                         \
                break;                                                            \
            bool look = done > 1 || --chunk == 0 || cpu->mode & MODE_SINGLE_STEP; \
            if (left && look) {                                                   \
                chunk = STRING_CHUNK;                                             \
                if (string_must_stop(cpu)) {                                      \
                    string_suspend(cpu, insn);                                    \
                    INSN_END(cpu);                                                \
                }                                                                 \
            }                                                                     \
        }                                                                         \
        INSN_NEXT(cpu, insn);                                                     \
    } while (0)

/* How many elements from `linear` stay in its page and before the offset wraps, up to `count`. */
static uint64_t string_room(uint64_t linear, uint64_t offset, uint64_t mask, uint64_t count,
                            unsigned size)
{
    uint64_t bytes = GUEST_PAGE_SIZE - (linear & (GUEST_PAGE_SIZE - 1));
    bytes = MIN(bytes, mask - offset);
    return MIN(bytes / size, count);
}

/* Bulk forms: DF clear, no element-wise segment checks in the way, more than a few elements. */
static bool string_bulk_allowed(const SoftCpu *cpu, const Insn *insn, uint64_t left)
{
    return left >= 4 && !(cpu->s.rflags & FLAG_DF) && !(cpu->mode & (MODE_SINGLE_STEP | MODE_AC));
}

/* The linear address of `count` elements at once: the check of the whole stretch is that of its
 * first and last. */
static uint64_t bulk_linear(SoftCpu *cpu, const Insn *insn, unsigned seg, uint64_t offset,
                            uint64_t bytes, MmuAccess access)
{
    if (!(insn->flags & INSN_SEG_CHECK))
        return cpu->seg_base[seg] + offset;
    cpu->insn = insn;
    uint64_t linear = segment_linear_checked(cpu, seg, offset, 1, access);
    const Segment *segment = &cpu->s.seg[seg];
    bool down = (segment->attributes & (SEGMENT_CODE | SEGMENT_EXPAND_DOWN)) == SEGMENT_EXPAND_DOWN;
    bool fits = !down && offset + bytes - 1 <= segment->limit && linear + bytes - 1 <= UINT32_MAX;
    return fits ? linear : UINT64_MAX;
}

static uint64_t movs_bulk(SoftCpu *cpu, const Insn *insn, uint64_t left, unsigned size)
{
    if (!string_bulk_allowed(cpu, insn, left))
        return 0;
    uint64_t from_offset = cpu->s.gpr[GPR_RSI] & insn->addr_mask;
    uint64_t to_offset = cpu->s.gpr[GPR_RDI] & insn->addr_mask;
    uint64_t from = bulk_linear(cpu, insn, insn->segment, from_offset, 1, MMU_READ);
    uint64_t to = bulk_linear(cpu, insn, SEG_ES, to_offset, 1, MMU_WRITE);
    uint64_t count = string_room(from, from_offset, insn->addr_mask, left, size);
    count = string_room(to, to_offset, insn->addr_mask, count, size);
    uint64_t bytes = count * size;
    if (count < 2 ||
        bulk_linear(cpu, insn, insn->segment, from_offset, bytes, MMU_READ) == UINT64_MAX ||
        bulk_linear(cpu, insn, SEG_ES, to_offset, bytes, MMU_WRITE) == UINT64_MAX)
        return 0;
    cpu->insn = insn;
    const uint8_t *source = mmu_bulk_pointer(cpu, from, bytes, MMU_READ);
    uint8_t *target = source ? mmu_bulk_pointer(cpu, to, bytes, MMU_WRITE) : NULL;
    if (!target)
        return 0;
    /* A target just ahead of the source repeats a pattern, byte by byte unless elements overlap
     * themselves. */
    if (target > source && target < source + size)
        return 0;
    if (target > source && target < source + bytes)
        asm volatile("rep movsb" : "+D"(target), "+S"(source), "+c"(bytes) : : "memory");
    else
        memmove(target, source, bytes);
    mmu_bulk_written(cpu, to, count * size);
    string_advance(cpu, insn, GPR_RSI, count * size);
    string_advance(cpu, insn, GPR_RDI, count * size);
    return count;
}

static uint64_t stos_bulk(SoftCpu *cpu, const Insn *insn, uint64_t left, unsigned size)
{
    if (!string_bulk_allowed(cpu, insn, left))
        return 0;
    uint64_t offset = cpu->s.gpr[GPR_RDI] & insn->addr_mask;
    uint64_t to = bulk_linear(cpu, insn, SEG_ES, offset, 1, MMU_WRITE);
    uint64_t count = string_room(to, offset, insn->addr_mask, left, size), bytes = count * size;
    if (count < 2 || bulk_linear(cpu, insn, SEG_ES, offset, bytes, MMU_WRITE) == UINT64_MAX)
        return 0;
    cpu->insn = insn;
    uint8_t *target = mmu_bulk_pointer(cpu, to, bytes, MMU_WRITE);
    if (!target)
        return 0;
    uint64_t value = cpu->s.gpr[GPR_RAX], n = count;
    if (size == 1)
        memset(target, value, bytes);
    else if (size == 2)
        asm volatile("rep stosw" : "+D"(target), "+c"(n) : "a"(value) : "memory");
    else if (size == 4)
        asm volatile("rep stosl" : "+D"(target), "+c"(n) : "a"(value) : "memory");
    else
        asm volatile("rep stosq" : "+D"(target), "+c"(n) : "a"(value) : "memory");
    mmu_bulk_written(cpu, to, bytes);
    string_advance(cpu, insn, GPR_RDI, count * size);
    return count;
}

#define IS_EQUAL (cpu->flags & NATIVE_ZF)
/* REPE goes on while equal, REPNE while not. */
#define GO_ON_COMPARE (!!(insn->prefixes & PREFIX_REPE) == !!IS_EQUAL)

#define STRING_SIZE(bits, type, stype, suffix)                                                  \
    static inline void movs_one##bits(SoftCpu *cpu, const Insn *insn)                           \
    {                                                                                           \
        int64_t delta = string_step(cpu, insn, (bits) / 8).delta;                               \
        type value = mem_read##bits(cpu, insn, source_linear(cpu, insn, (bits) / 8));           \
        mem_write##bits(cpu, insn, target_linear(cpu, insn, (bits) / 8, MMU_WRITE), value);     \
        string_advance(cpu, insn, GPR_RSI, delta);                                              \
        string_advance(cpu, insn, GPR_RDI, delta);                                              \
    }                                                                                           \
    static inline void stos_one##bits(SoftCpu *cpu, const Insn *insn)                           \
    {                                                                                           \
        mem_write##bits(cpu, insn, target_linear(cpu, insn, (bits) / 8, MMU_WRITE),             \
                        reg_read##bits(cpu, GPR_RAX));                                          \
        string_advance(cpu, insn, GPR_RDI, string_step(cpu, insn, (bits) / 8).delta);           \
    }                                                                                           \
    static inline void lods_one##bits(SoftCpu *cpu, const Insn *insn)                           \
    {                                                                                           \
        type value = mem_read##bits(cpu, insn, source_linear(cpu, insn, (bits) / 8));           \
        reg_write##bits(cpu, GPR_RAX, value);                                                   \
        string_advance(cpu, insn, GPR_RSI, string_step(cpu, insn, (bits) / 8).delta);           \
    }                                                                                           \
    static inline void scas_one##bits(SoftCpu *cpu, const Insn *insn)                           \
    {                                                                                           \
        type value = mem_read##bits(cpu, insn, target_linear(cpu, insn, (bits) / 8, MMU_READ)); \
        (void)flags_cmp##bits(&cpu->flags, reg_read##bits(cpu, GPR_RAX), value);                \
        string_advance(cpu, insn, GPR_RDI, string_step(cpu, insn, (bits) / 8).delta);           \
    }                                                                                           \
    static inline void cmps_one##bits(SoftCpu *cpu, const Insn *insn)                           \
    {                                                                                           \
        int64_t delta = string_step(cpu, insn, (bits) / 8).delta;                               \
        type a = mem_read##bits(cpu, insn, source_linear(cpu, insn, (bits) / 8));               \
        type b = mem_read##bits(cpu, insn, target_linear(cpu, insn, (bits) / 8, MMU_READ));     \
        (void)flags_cmp##bits(&cpu->flags, a, b);                                               \
        string_advance(cpu, insn, GPR_RSI, delta);                                              \
        string_advance(cpu, insn, GPR_RDI, delta);                                              \
    }                                                                                           \
    static void movs##bits(SoftCpu *cpu, const Insn *insn)                                      \
    {                                                                                           \
        REPEAT(movs_one##bits(cpu, insn), movs_bulk(cpu, insn, left, (bits) / 8), true);        \
    }                                                                                           \
    static void stos##bits(SoftCpu *cpu, const Insn *insn)                                      \
    {                                                                                           \
        REPEAT(stos_one##bits(cpu, insn), stos_bulk(cpu, insn, left, (bits) / 8), true);        \
    }                                                                                           \
    static void lods##bits(SoftCpu *cpu, const Insn *insn)                                      \
    {                                                                                           \
        REPEAT(lods_one##bits(cpu, insn), 0, true);                                             \
    }                                                                                           \
    static void scas##bits(SoftCpu *cpu, const Insn *insn)                                      \
    {                                                                                           \
        REPEAT(scas_one##bits(cpu, insn), 0, GO_ON_COMPARE);                                    \
    }                                                                                           \
    static void cmps##bits(SoftCpu *cpu, const Insn *insn)                                      \
    {                                                                                           \
        REPEAT(cmps_one##bits(cpu, insn), 0, GO_ON_COMPARE);                                    \
    }
FLAGS_SIZES(STRING_SIZE)

/* ---- ports ----------------------------------------------------------------------------------- */

/* The device is asked only when the store can't fault: what a read took can't be given back. */
#define PORT_SIZE(bits)                                                                   \
    static void ins_one##bits(SoftCpu *cpu, const Insn *insn)                             \
    {                                                                                     \
        uint16_t port = cpu->s.gpr[GPR_RDX];                                              \
        cpu->insn = insn;                                                                 \
        io_check(cpu, port, (bits) / 8);                                                  \
        uint64_t linear = target_linear(cpu, insn, (bits) / 8, MMU_WRITE);                \
        cpu->insn = insn;                                                                 \
        mmu_probe(cpu, linear, (bits) / 8, MMU_WRITE, cpu->mmu_index);                    \
        mem_write##bits(cpu, insn, linear, port_read(cpu, insn, port, (bits) / 8));       \
        string_advance(cpu, insn, GPR_RDI, string_step(cpu, insn, (bits) / 8).delta);     \
    }                                                                                     \
    static void outs_one##bits(SoftCpu *cpu, const Insn *insn)                            \
    {                                                                                     \
        uint16_t port = cpu->s.gpr[GPR_RDX];                                              \
        cpu->insn = insn;                                                                 \
        io_check(cpu, port, (bits) / 8);                                                  \
        uint32_t value = mem_read##bits(cpu, insn, source_linear(cpu, insn, (bits) / 8)); \
        port_write(cpu, insn, port, (bits) / 8, value);                                   \
        string_advance(cpu, insn, GPR_RSI, string_step(cpu, insn, (bits) / 8).delta);     \
    }                                                                                     \
    static void ins##bits(SoftCpu *cpu, const Insn *insn)                                 \
    {                                                                                     \
        REPEAT(ins_one##bits(cpu, insn), 0, true);                                        \
    }                                                                                     \
    static void outs##bits(SoftCpu *cpu, const Insn *insn)                                \
    {                                                                                     \
        REPEAT(outs_one##bits(cpu, insn), 0, true);                                       \
    }
PORT_SIZE(8)
PORT_SIZE(16)
PORT_SIZE(32)

#define ROW(op) const OpForms op_##op = {{op##8, op##16, op##32, op##64}};
ROW(movs)
ROW(cmps)
ROW(stos)
ROW(lods)
ROW(scas)
const OpForms op_ins = {{ins8, ins16, ins32, ins32}};
const OpForms op_outs = {{outs8, outs16, outs32, outs32}};
