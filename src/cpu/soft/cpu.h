/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The software CPU: architectural state plus what makes it run fast. Owned by its vCPU's thread;
 * only exit_request is touched by others.
 *
 *   interp.c    the loop, the block cache, self-modifying code          (runs blocks)
 *   decode.c    bytes → Insn, driven by tables                          (knows every opcode)
 *   ops_*.c     handlers                                                (do the work)
 *   access.h    memory operands, fast path                              ↓
 *   mmu.c       page walks, TLB, slow path, MMIO
 *   segment.c   descriptors and segment registers; task.c task switches
 *   exception.c faults, interrupts and their delivery
 *
 * Arithmetic flags live in `flags` (below) and not in s.rflags while running;
 * flags_get()/flags_set() join them. All other RFLAGS bits are right in s.rflags at all times (DF,
 * IF, TF, …).
 */
#pragma once

#include <setjmp.h>
#include <stdatomic.h>

#include "cpu/engine.h"
#include "cpu/soft/insn.h"

enum { /* exception vectors */
       EXC_DE = 0,
       EXC_DB = 1,
       EXC_NMI = 2,
       EXC_BP = 3,
       EXC_OF = 4,
       EXC_BR = 5,
       EXC_UD = 6,
       EXC_NM = 7,
       EXC_DF = 8,
       EXC_TS = 10,
       EXC_NP = 11,
       EXC_SS = 12,
       EXC_GP = 13,
       EXC_PF = 14,
       EXC_MF = 16,
       EXC_AC = 17,
       EXC_MC = 18,
       EXC_XM = 19,
};

/* ---- TLB ------------------------------------------------------------------------------------- */

/*
 * Direct-mapped. A tag is the linear page address, or the slot's tlb_none(). An access of `size`
 * bytes at `linear` hits when (linear ^ tag) <= 4096 - size: same page and not crossing its end in
 * one compare. host = linear + addend. tag_write is set only while the page may be written without
 * telling anyone (no code, no CLEAN bit, D set); MMIO is never in tag_*.
 */
#define TLB_BITS 12
#define TLB_SIZE (1 << TLB_BITS)
#define TLB_NONE UINT64_C(0x0fff000000000000) /* not canonical: of no page */

/* The tag of an empty slot. Addresses are compared with tags before they are known to be canonical,
 * so it is one that belongs to another slot: no access can match. */
static inline uint64_t tlb_none(unsigned slot)
{
    return TLB_NONE | (slot & 1 ? 0 : 0x1000);
}

typedef struct TlbEntry {
    uint64_t tag_read, tag_write, tag_exec;
    uintptr_t addend;
} TlbEntry;

/* Which rules an access is checked by; each has a TLB of its own. */
typedef enum MmuIndex {
    MMU_USER,          /* CPL 3 */
    MMU_KERNEL,        /* CPL 0-2, SMAP applies if on; all implicit system accesses */
    MMU_KERNEL_NOSMAP, /* CPL 0-2 with SMAP on and AC set */
    MMU_INDEX_COUNT,
} MmuIndex;

typedef enum MmuAccess { MMU_READ, MMU_WRITE, MMU_EXEC } MmuAccess;

/* What stands behind an entry of the TLB: the whole translation, also of pages that may not be
 * accessed without telling anyone. Same index as the entry. Private to mmu.c. */
typedef struct TlbPage {
    uint64_t linear; /* of the page, or TLB_NONE */
    uint64_t physical;
    uint8_t *host; /* NULL: devices or nothing */
    Ram *ram;      /* behind host */
    uint64_t ram_offset;
    uint8_t rights; /* bit (1 << MmuAccess): allowed; write also means that D is set */
    bool global, local_apic, watched;
    bool writes_dispatched; /* ROM, read-only RAM: writes go through the address space */
    uint8_t shift;          /* of the guest's page: 12, 21, 22, 30 */
} TlbPage;

/*
 * The page that an access site of translated code hit last, outside the TLB's index; same meaning
 * as tag and addend of an entry, and cleared with it. By site, not by address: a hit depends on no
 * load from the address.
 */
#define TLB_SITES 1024
typedef struct TlbSite {
    uint64_t tag;
    uintptr_t addend;
} TlbSite;
enum { SITES_KERNEL_READ, SITES_KERNEL_WRITE, SITES_USER_READ, SITES_USER_WRITE, SITES_COUNT };
/* Kernels are long ways through much code, where a site has another page by the time it comes
 * again: they have one for the stack alone. */
static inline unsigned tlb_site_count(unsigned kind)
{
    return kind >= SITES_USER_READ ? TLB_SITES : 1;
}

/* A stretch of RAM in the guest's physical memory, where a vCPU found something last. */
typedef struct RamStretch {
    uint8_t *host;
    uint64_t start, size; /* physical; size 0: none */
    Ram *ram;
    uint64_t ram_offset;
} RamStretch;

typedef struct SoftVm SoftVm;         /* interp.c: shared by the VM's vCPUs */
typedef struct BlockCache BlockCache; /* interp.c */

struct SoftCpu {
    CpuState s; /* first: registers at small offsets */

    /* Arithmetic flags as LAHF and SETO of the host leave them in AX:
     * bit 0 OF | bits 15:8 = SF ZF 0 AF 0 PF 1 CF (the low byte of EFLAGS). flags.h computes with
     * them. */
    uint32_t flags;
    /* Translated code reads each stamp together with exit_request: jit.h. */
    uint32_t lower_stamp;
    _Atomic uint32_t exit_request; /* not 0: leave the block loop and look around */
    uint32_t upper_stamp;

    TlbEntry *tlb;                /* the current one: &tlbs[mmu_index] */
    uint64_t seg_base[SEG_COUNT]; /* what addressing adds: 0 for ES, CS, SS, DS in 64-bit mode */
    /* The last offset that may be read [0] and written [1] for sure; -1: ask. Not for 64-bit code.
     */
    int64_t seg_last[2][SEG_COUNT];
    const Insn *insn; /* the instruction that may fault; NULL while delivering events between
                         instructions */

    uint8_t cpl;
    uint8_t mmu_index;
    uint8_t code_size;  /* bytes of the default operand in CS: 2, 4; 8 in 64-bit mode */
    uint8_t stack_size; /* bytes of the stack pointer: 2, 4, 8 */
    uint32_t
        mode; /* the part of a block's key that is not its address; cpu_update_mode() computes it */
    uint64_t a20_mask;  /* and-ed to physical addresses */
    uint64_t phys_mask; /* bits of a physical address that exist */
    uint64_t rip_mask;  /* 0xffffffff or all ones by code size (0xffff is applied by branches of
                           16-bit operand size) */

    /* Pending or faulting event while it is delivered. */
    struct {
        int vector; /* -1: none */
        bool has_error;
        bool software; /* INT n, INT3, INTO: DPL check, return address after the insn */
        bool external; /* from outside the program: EXT in error codes */
        uint32_t error;
    } event;
    bool locked;          /* between lock_begin() and lock_end() */
    bool delivering;      /* raising now makes #DF or shutdown by the contributory rules */
    uint32_t pending_db;  /* DR6 bits of traps to report before the next instruction */
    uint64_t branch_next; /* DEBUGCTL.BTF: what follows the branch that is single-stepped */
    sigjmp_buf jump;      /* to the loop, used with sigsetjmp(…, 0) or __builtin_setjmp */

    /* SIMD and x87 (stub.h). */
    uint8_t bounce[64]
        __attribute__((aligned(64))); /* stands in for memory operands not reachable in place */
    uint32_t stub_mxcsr;              /* the host's MXCSR after a stub's operation */
    /* An x87 error waits and CR0.NE is 0 (`ferr`), or is gone: drives FERR#; false: go on (IGNNE#).
     * NULL: such errors are #MF, too. */
    bool (*x87_error)(SoftCpu *cpu, bool ferr);
    bool ferr; /* is driven */

    Vcpu *vcpu;
    SoftVm *vm;
    const CpuModel *model;
    BlockCache *blocks;
    size_t size; /* of this, with what an engine has behind it */
    /* Of the linear mapping of code in the lower (even numbers) and upper (odd) half of the address
     * space: what was looked up under another is worthless. Never 0. */
    uint32_t map_generation[2];
    uint32_t pauses;      /* PAUSEs executed */
    bool interrupt_waits; /* the intc may have an interrupt that IF held back */
    bool fetched_local;   /* code was fetched in the upper half from a page that is not global */
    uint8_t translation_stop; /* translated code may not go on: blocks were dropped, or the mapping
                                 or what may be written changed */
    uint8_t traces;           /* TRACE_*: what is told to vcpu->vm->trace */
    bool debug_watches;       /* a debugger watches accesses (debug.h) */
    bool stepping;            /* blocks of one instruction, events looked for before each */
    struct JitCpu *jit;       /* the translator's; NULL: interpreted only */
    int64_t tsc_offset;       /* guest TSC = host TSC + offset */
    uint64_t insn_count;      /* executed, counted by blocks */
    uint64_t stat_blocks_decoded, stat_tlb_fills, stat_faults, stat_interrupts, stat_mmio, stat_pio,
        stat_smc_drops;

    uint64_t pdpte[4]; /* PAE paging: loaded when CR3 is (SDM 3A 4.4.1) */

    /* mmu.c */
    RamStretch table_ram, page_ram; /* that held the last paging structure, the last page */
    struct {
        uint64_t low,
            high; /* linear bounds of large pages entered into the TLB since the last flush */
        bool global;
    } large[2];           /* lower and upper half of the address space */
    uint64_t fetched[16]; /* Bloom filter of the pages mmu_fetch_page() gave out */
    /* Slots that were filled since they were flushed: all, and with pages that are not global. */
    uint64_t tlb_used[MMU_INDEX_COUNT][TLB_SIZE / 64], tlb_local[MMU_INDEX_COUNT][TLB_SIZE / 64];

    TlbSite sites[SITES_COUNT][TLB_SITES];
    uint8_t sites_filled[SITES_COUNT];
    uint64_t site_none; /* tag of an empty site; sites are not found by address, so tlb_none() would
                           not do */
    TlbEntry tlbs[MMU_INDEX_COUNT][TLB_SIZE];
    TlbPage tlb_pages[MMU_INDEX_COUNT][TLB_SIZE];
};

/* ---- exception.c ----------------------------------------------------------------------------- */

/* Abandons the running instruction (cpu->insn) with a fault: RIP goes back to it. Never returns. */
void cpu_raise(SoftCpu *cpu, int vector) __attribute__((noreturn, cold));
void cpu_raise_error(SoftCpu *cpu, int vector, uint32_t error) __attribute__((noreturn, cold));
/* #PF: sets CR2. */
void cpu_raise_page_fault(SoftCpu *cpu, uint64_t linear, uint32_t error)
    __attribute__((noreturn, cold));
/* In handlers: names the instruction, then raises. */
#define INSN_RAISE(cpu, i, vector) ((cpu)->insn = (i), cpu_raise(cpu, vector))
#define INSN_RAISE_GP0(cpu, i)     ((cpu)->insn = (i), cpu_raise_error(cpu, EXC_GP, 0))
/* Delivers cpu->event through the IVT or IDT (incl. task gates, IST, privilege change, VME
 * redirection): called by the loop after cpu_raise() landed and for interrupts. May raise again:
 * the loop lands again; double faults are made here. Returns false on a triple fault. */
bool exception_deliver(SoftCpu *cpu);
/* INT n, INT3, INTO, INT1 (software). RIP must point behind the instruction (INSN_LEAVE). */
void exception_software_interrupt(SoftCpu *cpu, int vector);
/* Between instructions, when exit_request was set or IF/TF/shadow changed: takes debug traps, NMIs
 * and interrupts from the intc in the manual's order of priority (SDM 3A table 6-2). */
void exception_take_events(SoftCpu *cpu);

/* ---- mode and state -------------------------------------------------------------------------- */

/* Recomputes cpl, mmu_index, code_size, stack_size, seg_base, masks and mode from s. After any
 * change of CS, SS, CR0, CR4, EFER, RFLAGS.VM/AC/TF, DR7, XCR0. (segment.c) */
void cpu_update_mode(SoftCpu *cpu);
enum { /* SoftCpu.mode */
       MODE_CODE16 = 0,
       MODE_CODE32 = 1,
       MODE_CODE64 = 2,
       MODE_CODE_MASK = 3,
       MODE_STACK32 = 1 << 2,   /* stack pointer of 4 bytes (8 in 64-bit mode regardless) */
       MODE_PROTECTED = 1 << 3, /* CR0.PE and not VM */
       MODE_VM86 = 1 << 4,
       MODE_CPL_SHIFT = 5,    /* 2 bits */
       MODE_FLAT_DS = 1 << 7, /* base 0, limit 4 GiB, readable and writable: no check needed */
       MODE_FLAT_ES = 1 << 8,
       MODE_FLAT_SS = 1 << 9,
       /* 16-bit code: DS, ES and SS may be read and written up to 0xffff at least; other code: CS
          has base 0. */
       MODE_PLAIN_SEGMENTS = 1 << 10,
       MODE_LONG = 1 << 11,        /* EFER.LMA */
       MODE_FPU_TRAP = 1 << 12,    /* CR0.EM or TS: x87/SSE decode to slow checks */
       MODE_SINGLE_STEP = 1 << 13, /* TF, breakpoints or an interrupt shadow: blocks of one
                                    * instruction, exception_take_events() before each */
       MODE_AC = 1 << 14,          /* alignment checks are on (CR0.AM, AC, CPL 3) */
       MODE_SSE_OFF = 1 << 15,     /* CR4.OSFXSR clear or CR0.EM */
       MODE_AVX_OFF = 1 << 16,     /* CR4.OSXSAVE or XCR0.AVX clear */
};
static inline bool cpu_is_real_mode(const SoftCpu *cpu)
{
    return !(cpu->s.cr0 & CR0_PE);
}
static inline bool cpu_is_vm86(const SoftCpu *cpu)
{
    return cpu->s.rflags & FLAG_VM;
}
static inline bool cpu_is_long_mode(const SoftCpu *cpu)
{
    return cpu->s.efer & EFER_LMA;
}
static inline bool cpu_is_64bit(const SoftCpu *cpu)
{
    return cpu->code_size == 8;
}

/* ---- mmu.c ----------------------------------------------------------------------------------- */

/* Slow paths of access.h: page walks with faults, page crossing, MMIO, code pages, watchpoints. */
uint64_t mmu_load(SoftCpu *cpu, uint64_t linear, unsigned size, MmuIndex index);
void mmu_store(SoftCpu *cpu, uint64_t linear, unsigned size, uint64_t value, MmuIndex index);
/* Any size up to 4096 bytes, crossing at most one page boundary; both pages are checked before the
 * first byte. */
void mmu_load_bytes(SoftCpu *cpu, uint64_t linear, void *data, unsigned size, MmuIndex index);
void mmu_store_bytes(SoftCpu *cpu, uint64_t linear, const void *data, unsigned size,
                     MmuIndex index);
/* Faults as a read or write of `size` bytes would; touches nothing else (A/D bits may be set). */
void mmu_probe(SoftCpu *cpu, uint64_t linear, unsigned size, MmuAccess access, MmuIndex index);
/* Host address for a read-modify-write that stays in one page, after checks and D-bit update; NULL
 * when it must go by load and store (MMIO, ROM, page crossing, pages with code). */
void *mmu_host_pointer(SoftCpu *cpu, uint64_t linear, unsigned size, MmuAccess access,
                       MmuIndex index);
/* The same for bulk access, on pages with code, too: mmu_bulk_written() must follow the writes,
 * with nothing between them that could change the mapping. */
void *mmu_bulk_pointer(SoftCpu *cpu, uint64_t linear, unsigned size, MmuAccess access);
/* Drops the blocks (SMC) and clean marks under what was just written. */
void mmu_bulk_written(SoftCpu *cpu, uint64_t linear, unsigned size);
/* The code page under `linear`: RAM block and offset of the page (NULL: code in MMIO, fetch by
 * mmu_load). Faults as a fetch. */
uint8_t *mmu_fetch_page(SoftCpu *cpu, uint64_t linear, Ram **ret_ram, uint64_t *ret_ram_offset);
/* Without faults: physical address for a debugger, UINT64_MAX when not mapped. */
uint64_t mmu_debug_translate(SoftCpu *cpu, uint64_t linear);
/* Fills the TLB's entry for an access if that takes nothing but to read tables and RAM at the known
 * stretches; false: nothing is changed. For translated code: no vector registers are used. */
bool mmu_fill_quick(SoftCpu *cpu, uint64_t linear, unsigned size, MmuAccess access);
/* What is to be added for the host address of bytes that may be written without telling anyone,
 * though there is code on their page, just not in their lines; 0: otherwise. */
uintptr_t mmu_beside_code(SoftCpu *cpu, uint64_t linear, unsigned size);
/* A new SoftCpu with model and vcpu set: empty TLBs, address masks. */
void mmu_init(SoftCpu *cpu);
/* PAE paging: loads the four PDPTEs that CR3 `cr3` names; false when a reserved bit is set (nothing
 * is loaded then). */
bool mmu_load_pdptes(SoftCpu *cpu, uint64_t cr3);
/* The memory map of the VM changed: every vCPU forgets its translations, in an exclusive section.
 * For the listener that the engine registers; vcpu->engine_data is its SoftCpu. */
void mmu_space_changed(Vm *vm);
void tlb_flush_all(SoftCpu *cpu);
void tlb_flush_non_global(SoftCpu *cpu);
void tlb_flush_page(SoftCpu *cpu, uint64_t linear);
/* Only write tags: code was found on pages, or CLEAN bits set. */
void tlb_flush_writes(SoftCpu *cpu);

/* ---- interp.c: self-modifying code ----------------------------------------------------------- */

/* A store to [offset, offset + size) of `ram` touched a RAM_CODE page (called before or after the
 * bytes change, on the vCPU's thread, from mmu.c). Drops blocks of this and, in an exclusive
 * section, other vCPUs where the bytes overlap code. Returns true when the running block was hit:
 * the store must then be the last thing the instruction does, and the loop must re-fetch (the
 * sentinel in the block does so). */
void interp_code_written(SoftCpu *cpu, Ram *ram, uint64_t offset, unsigned size);
/* The mapping of code pages changed under us (CR3, INVLPG, space change): forget linear lookups.
 * Called by tlb_flush_*. */
void interp_mapping_changed(SoftCpu *cpu, bool lower, bool upper);

/* ---- segment.c, task.c ----------------------------------------------------------------------- */

/* Loads a data/stack segment register (MOV/POP/LDS …) with all checks of the mode. CS goes by far
 * transfers only. */
void segment_load(SoftCpu *cpu, unsigned seg, uint16_t selector);
/* Reads a descriptor; false when the selector is beyond its table's limit. Faults of the table
 * access are raised. */
bool segment_read_descriptor(SoftCpu *cpu, uint16_t selector, uint64_t ret_words[2]);
/* Linear address of an operand with limit, type and canonical checks; raises #GP/#SS (error 0). */
uint64_t segment_linear_checked(SoftCpu *cpu, unsigned seg, uint64_t offset, unsigned size,
                                MmuAccess access);
/* Far transfers, all modes and gates. `next` is RIP behind the instruction; they set s.rip and CS.
 * op_size in bytes. */
void far_jump(SoftCpu *cpu, uint16_t selector, uint64_t offset, unsigned op_size);
void far_call(SoftCpu *cpu, uint16_t selector, uint64_t offset, unsigned op_size, uint64_t next);
void far_return(SoftCpu *cpu, unsigned op_size, uint16_t pop_bytes);
void interrupt_return(SoftCpu *cpu, unsigned op_size);
typedef enum TaskSwitch { TASK_JUMP, TASK_CALL, TASK_IRET, TASK_INTERRUPT } TaskSwitch;
void task_switch(SoftCpu *cpu, uint16_t selector, TaskSwitch reason, bool push_error,
                 uint32_t error);

/* After `s` was replaced (set_state, reset, INIT) or a20_masked changed: recomputes everything
 * derived from it. s.rflags is whole before; get_state stores flags_get() back. (control.c) */
void cpu_state_loaded(SoftCpu *cpu);

/* ---- control registers and MSRs (control.c, msr.c) ------------------------------------------- */

void control_write_cr0(SoftCpu *cpu, uint64_t value);
void control_write_cr3(SoftCpu *cpu, uint64_t value);
void control_write_cr4(SoftCpu *cpu, uint64_t value);
/* false: #GP(0). */
bool msr_read(SoftCpu *cpu, uint32_t msr, uint64_t *ret_value);
bool msr_write(SoftCpu *cpu, uint32_t msr, uint64_t value);
uint64_t cpu_tsc(SoftCpu *cpu);

/* ---- paravirt.c ------------------------------------------------------------------------------ */

/* Registers for guests that know they are one. False: there is no such register, or #GP(0). */
bool paravirt_read(SoftCpu *cpu, uint32_t msr, uint64_t *ret_value);
bool paravirt_write(SoftCpu *cpu, uint32_t msr, uint64_t value);
/* The guest wrote its TSC; the state was replaced. What it was told of time is made anew. */
void paravirt_tsc_moved(SoftCpu *cpu);
void paravirt_loaded(SoftCpu *cpu);

/* ---- flags ----------------------------------------------------------------------------------- */

/* Whole RFLAGS, arithmetic ones joined in. */
static inline uint64_t flags_get(const SoftCpu *cpu)
{
    return (cpu->s.rflags & ~(uint64_t)FLAGS_ARITHMETIC) | 2 | (cpu->flags >> 8 & 0xd5) |
           (uint64_t)(cpu->flags & 1) << 11;
}
/* Sets arithmetic flags alone from an RFLAGS value. */
static inline void flags_set_arithmetic(SoftCpu *cpu, uint64_t rflags)
{
    cpu->flags = (rflags & 0xd5) << 8 | 0x200 | (rflags >> 11 & 1);
}
/* Sets all of RFLAGS; the caller calls cpu_update_mode() when VM, AC or TF may have changed. */
static inline void flags_set(SoftCpu *cpu, uint64_t rflags)
{
    cpu->s.rflags = (rflags & ~(uint64_t)FLAGS_ARITHMETIC) | 2;
    flags_set_arithmetic(cpu, rflags);
}
