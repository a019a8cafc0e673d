/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The translator: x86 to x86, block by block, above the interpreter's decoder, MMU, state and block
 * cache.
 *
 * - system.c: kernels in and out; translate_system.c: their instructions
 * - engine.c: the loop: look → find → interpret while cold, translate when warm, run
 * - translate.c: a decoded block → host code; integer.c, simd.c, x87.c: single instructions
 * - flags.c: arithmetic flags between instructions
 * - loops.c: several rounds of a loop as one block
 * - fpu.c: the guest's XMM, YMM and x87 registers in the host's
 * - access.c: memory operands: page check by access site, and what to do when it fails
 * - opcodes.c: what an instruction reads and writes, flags and operands (liveness)
 * - segments.c: what is different where segments have bases and limits, and 16-bit code
 * - thunks.c: the code shared by all translations: enter, leave, call a handler, look up the TLB
 * - kick.c: how translated code is stopped
 * - cache.c: code memory, translations, links between them, the jump table
 *
 * Invariants in translated code:
 * - r15 is the SoftCpu, a JitCpu behind it. rsp is a stack of return addresses: a guest's CALL is
 * the host's, and where it returns to is compared with the guest's own address there. Whatever may
 * change mode, mapping or code leaves translated code, which empties the stack. C has its own.
 * - Guest registers: rax rcx rdx rbx rbp rsi rdi r8 r12 r13 r14 are the host's own; guest rsp is
 * host r11; guest r9, r10, r11, r15 stay in SoftCpu.s.gpr: of those that calls change and of those
 * that they keep, compilers take these last. Host r9 and r10 are scratch. In 32-bit code upper
 * halves mean nothing.
 * - XMM (with MXCSR), YMM and x87 registers are in SoftCpu.s.fpu until an instruction needs them,
 * then in the host's own until C runs (JitCpu.live); never while an exception of theirs is
 * unmasked.
 * - Arithmetic flags are at each point of the code, by what the translator knows, in EFLAGS
 *   ("host"), or in SoftCpu.flags ("slot"), or to be had by executing again what made them ("lazy",
 *   JitRecipe), or dead. Every translation can be entered with them in either of the first two.
 *   Flags that no later instruction reads are kept for a fault that comes between if it does in
 *   the same block and at CPL 3; else what #PF pushes of them may differ from hardware.
 * - No guest register, flag or memory changes before the last access check of an instruction
 * succeeded. So whatever can't be done in line, also in the middle of an instruction, is done by
 * the interpreter's handler for the whole instruction ("slow"), with all state in SoftCpu; faults
 * leave from there by siglongjmp.
 * - A translation is of a block at one RIP and mode, and of one code segment (JitCpu.code_key)
 * where CS may have a base and a limit (segments.c). It is entered only while the page at that RIP
 * is known to be the block's (and the next page, where its instruction goes on there): by links
 * within the page, or after a compare of map_generation.
 * - Translated code does not ask whether it should stop; kick.c unlinks what runs.
 *
 * Threads: everything here belongs to one vCPU's thread; jit_block_dropped() may come from others
 * in an exclusive section, when this vCPU stands in a handler, and sets translation_stop, which the
 * way back from handlers checks.
 */
#pragma once

#include "cpu/soft/block.h"
#include "cpu/soft/interp.h"

#include <signal.h>
#include <time.h>

typedef struct JitBlock JitBlock;

/* There are many of these: they name each other by offset in the arena, and code by offset in its
 * area. 0: nothing. */
typedef uint32_t JitRef;

/* A way out of a translation to a known RIP, which can be patched to go straight on. */
typedef struct JitLink {
    uint64_t target;
    uint32_t site;     /* rel32 to patch */
    uint32_t unlinked; /* where it goes otherwise */
    uint32_t guard; /* imm32 that must equal map_generation; 0: target on the same page, not at its
                       very end */
    uint32_t
        again; /* rel32 to patch behind `unlinked`, which puts lazy flags into the slot; or 0 */
    bool host_flags; /* flags are in EFLAGS there */
    bool plain;      /* goes to a plain translation */
    uint8_t fpu;     /* JIT_LIVE_* that are loaded there */
    JitRef from, to; /* JitBlock */
    JitRef next_in;  /* of the links that go to `to` */
    JitRef next_out; /* of those that come from `from` */
} JitLink;

/* A link behind an indirect branch, to where it went before. */
typedef struct JitGuess {
    JitLink link;
    uint32_t expected; /* imm64 that the target is compared with: link.target */
    int32_t misses;    /* until another target is taken */
    uint8_t rounds;    /* times that one was */
} JitGuess;

struct JitBlock {
    Block *block;
    uint64_t rip, code_key;
    uint32_t start, cold; /* of its code and of what is out of line, which end where others begin */
    uint32_t entry[2];    /* with flags in the slot and in EFLAGS */
    uint32_t body;        /* behind both and behind what loads `fpu`; or 0 */
    uint32_t jump;        /* entry for the jump table: flags are as JitCpu.ret says */
    uint8_t fpu;          /* JIT_LIVE_* */
    bool flagged;         /* reads flags of those that come here */
    bool relies;          /* on the flags that others on its page read */
    JitRef in, out;       /* JitLink */
    JitRef next;          /* of the same Block at another RIP */
    bool plain;           /* checks each access by itself */
    uint32_t runs;
    bool counts; /* `runs`: Block.counting was set */
    bool loops;  /* would be several rounds of its loop, were the block hot */
    bool dead;
};

/* Registers that the host has loaded: JitCpu.live. YMM never without XMM. */
enum { JIT_LIVE_XMM = 1, JIT_LIVE_YMM = 2, JIT_LIVE_X87 = 4 };

/* An instruction of translated code that leaves its address in the host's x87, and what the guest
 * would find there. */
typedef struct JitX87Site {
    uint32_t offset; /* in the code area */
    uint16_t fop;
    uint64_t rip;
} JitX87Site;
#define JIT_X87_SITES (1u << 20)

/*
 * What is translated, by the low bits of RIP. An entry holds in the mode and generation of the
 * mapping that its stamp names. Code looks whether SoftCpu has the same stamp and no exit_request
 * by one comparison: it reads them as one word, in which the stamp comes first for the lower half
 * of the address space and last for the upper.
 */
#define JIT_JUMP_BITS  16
#define JIT_STAMP_BITS 15 /* of the generation */

typedef struct JitJump {
    uint64_t rip;  /* canonical; with JitCpu.code_key */
    uint8_t *host; /* JitBlock.jump */
    uint64_t stamp;
    uint64_t unused;
} JitJump;

/* A RET or an indirect branch, for when somebody reads the flags behind it, or a RET must be
 * executed by its handler after all. */
typedef struct JitReturn {
    uint8_t *recall; /* called: puts the flags into the slot; NULL: they are there */
    uint64_t block;  /* JitRef of a JitBlock; 0: all of it is done */
    uint64_t place;  /* jit_place() */
    uint64_t popped; /* added to RSP already */
} JitReturn;

/* A code segment that is not flat. */
typedef struct JitCode {
    uint64_t key; /* its number, above 32 bits of RIP */
    uint32_t base, limit;
} JitCode;
#define JIT_CODES_BITS 10
#define JIT_CODES      (1 << JIT_CODES_BITS)

/* An instruction that was decoded again for its handler. */
typedef struct JitDecoded {
    const JitBlock *block;
    uint32_t place;
    Insn insn;
} JitDecoded;
#define JIT_DECODED 512

/* A page check of translated code, for what happens when it fails. */
typedef struct JitSite {
    uint64_t limit; /* of address ^ tag */
    uint32_t site;  /* the TlbSite, as displacement from the SoftCpu */
    uint32_t how;   /* JIT_FILL_WRITE and the size */
    bool shared;    /* others go by the site's page without looking: it must have it */
    bool steps;     /* the range moves on with each round of a loop */
    uint8_t insn;   /* index in the block */
    int32_t misses; /* before somebody looks how long they took */
    uint64_t since; /* TSC of the last look */
    uint32_t runs;  /* JitBlock.runs by then */
    JitBlock *from;
} JitSite;
#define JIT_SITE_MISSES 64
/* Whether it is the one that accesses to the stack share. */
static inline bool jit_is_stack_site(uint32_t site)
{
    return (site - offsetof(SoftCpu, sites)) % (TLB_SITES * sizeof(TlbSite)) == 0;
}
#define JIT_FILL_WRITE 0x10000

typedef struct JitThunks {
    void (*enter)(SoftCpu *cpu, uint8_t *host);
    uint8_t *insn; /* called: r9 JitRef of the JitBlock, r10 jit_place(); returns when translated
                      code may go on */
    uint8_t *pair; /* the same, r9 is an Insn that a JIT_AFTER() follows, r10 RIP of the block */
    uint8_t *link; /* jumped to: r9 JitRef of the JitLink */
    uint8_t *go;   /* jumped to: r9 RIP */
    uint8_t *return_to; /* the same, behind a RET (JitCpu.ret) that was not foreseen */
    uint8_t *leave;     /* the same, s.rip is RIP */
    /* Called: r9 is the RIP behind the instruction; return when its handler is to be called, else
     * they are gone. */
    uint8_t *syscall, *sysret, *iretq, *far; /* far: r10 as jit_far() has it */
    uint8_t *recall; /* called: puts the flags into the slot; r9, r10 and EFLAGS change */
    uint8_t *learn;  /* called: r9 where an indirect branch goes, r10 JitRef of its JitGuess, which
                        is told; EFLAGS and r10 change */
    uint8_t *fill;   /* called: r9 address, r10 JitSite.how; NE: the TLB has it now; r10 changes */
    uint8_t *beside; /* called: the same; NE: r10 is the addend for this once; EQ: none */
    /* Called: r9 address, r10 JitRef of the JitSite, for reading and writing. NE: r10 is the addend
     * of the page, its site has it. EQ: only the handler can do it, if anybody. Keep r9. */
    uint8_t *miss[2];
    /* Called: r9 RIP, where the interpreter goes on if they can't. EFLAGS and r10 change. */
    uint8_t *load_xmm, *load_ymm, *load_x87;
    uint8_t
        *save_fpu; /* called when the guest's registers are stored; keeps rdi = SoftCpu and rsi */
} JitThunks;

typedef struct JitCpu {
    uint64_t temp, target, spare;
    uint64_t spilled[16], swapped[16]; /* guest registers that flags depend on (JitRecipe) */
    uint64_t kept;                     /* memory operand that they depend on */
    uint64_t c_stack, code_stack; /* rsp at the entry from C, and of translated code while C runs */
    uint64_t returns, returns_limit; /* rsp of translated code when empty, and when full */
    uint8_t *returns_area;
    uint64_t code_key; /* JitCode of CS, or 0 */
    uint32_t c_mxcsr;
    uint32_t
        ret; /* JitReturn of the last RET or indirect branch, as offset in the arena; 0: none */
    JitLink *link; /* translated code was left by */
    JitThunks thunks;
    uint8_t *write, *run; /* the code area, mapped twice */
    size_t used, thunks_end;
    size_t limit;                         /* of used; tests make it small */
    uint64_t addends[BLOCK_MAX_INSNS][2]; /* of checks without a site: an instruction's operand and
                                             the stack; while a block runs */
    TlbSite unused_site;                  /* what is filled for those */
    JitBlock *retire;                     /* to be translated anew */
    size_t cold_used;                     /* of the second part, for what is out of line */
    uint8_t *arena;                       /* of JitBlocks and JitLinks; emptied with the code */
    size_t arena_used;
    uint32_t *blocks; /* JitRef of all JitBlocks, by where they are; emptied with the code */
    uint32_t block_count;
    _Atomic int thread;    /* that runs the vCPU; 0: none did */
    timer_t again;         /* kick.c */
    uint8_t warm;          /* times a block is interpreted before it is translated */
    bool flush;            /* everything must be thrown away before translated code runs again */
    uint8_t live;          /* JIT_LIVE_*: newer in the host's registers than in SoftCpu.s.fpu */
    bool interpret;        /* the next block: the host can't hold the registers as they are */
    JitX87Site *x87_sites; /* by offset; emptied with the code */
    uint32_t x87_site_count;
    Insn pair[2]; /* the instruction a handler runs for translated code, and where it ends */
    JitDecoded decoded[JIT_DECODED]; /* emptied with the code */
    JitCode codes[JIT_CODES];
    uint32_t last_code;
    uint16_t next_site[SITES_COUNT];
    uint64_t stat_translated, stat_bytes, stat_guest_bytes, stat_flushes, stat_slow, stat_enters,
        stat_links, stat_exits;
    JitJump jumps[1 << JIT_JUMP_BITS];
} JitCpu;

#define JIT_OFFSET ((sizeof(SoftCpu) + 63) & ~(size_t)63)
/* Displacement of a field from the SoftCpu. */
#define CPU_AT(field) ((int32_t)offsetof(SoftCpu, field))
#define JIT_AT(field) ((int32_t)(JIT_OFFSET + offsetof(JitCpu, field)))

/* ---- cache.c ---- */

bool jit_cache_init(JitCpu *jit);
void jit_cache_clear(JitCpu *jit);
/* Throws all code and translations away. */
void jit_cache_flush(SoftCpu *cpu);
/* Where the next translation goes, as written, and its part out of line; NULL when the cache is
 * full. */
uint8_t *jit_cache_space(JitCpu *jit, uint8_t **ret_cold);
void *jit_alloc(JitCpu *jit, size_t size);
/* It is the block's from now on; one that nobody looked for since long may be forgotten. Between
 * blocks. */
void jit_add(JitCpu *jit, JitBlock *translation);
/* Forgets JitCpu.retire. Between blocks. */
void jit_retire(JitCpu *jit);
static inline void *jit_at(const JitCpu *jit, JitRef ref)
{
    return ref ? jit->arena + ref : NULL;
}
static inline JitRef jit_ref(const JitCpu *jit, const void *memory)
{
    return memory ? (const uint8_t *)memory - jit->arena : 0;
}
/* What an executed address is in, or NULL: shared code, C. No locks, no allocation. */
JitBlock *jit_block_at(const JitCpu *jit, const uint8_t *host);
/* All ways out of it lead to the loop until they are linked again. */
void jit_unlink(JitCpu *jit, JitBlock *translation);
/* The translation of the block at a RIP, or NULL. */
JitBlock *jit_find(const JitCpu *jit, Block *block, uint64_t rip, bool plain);
/* Makes the link go to `to`. General registers only, as all that it calls. */
void jit_link(SoftCpu *cpu, JitLink *link, JitBlock *to);
/* The same of an indirect branch, which is supposed to go there from now on. */
void jit_guess(SoftCpu *cpu, JitGuess *guess, JitBlock *to);
static inline JitJump *jit_jump(JitCpu *jit, uint64_t key)
{
    return &jit->jumps[key & ((1 << JIT_JUMP_BITS) - 1)];
}
static inline uint32_t jit_stamp(const SoftCpu *cpu, unsigned half)
{
    return cpu->mode << JIT_STAMP_BITS |
           (cpu->map_generation[half] >> 1 & ((1 << JIT_STAMP_BITS) - 1));
}
/* The word that is compared, without an exit_request. */
static inline uint64_t jit_stamp_word(const SoftCpu *cpu, uint64_t rip)
{
    return rip >> 63 ? (uint64_t)jit_stamp(cpu, 1) << 32 : jit_stamp(cpu, 0);
}
/* Mode or generations may have changed since translated code ran last. */
static inline void jit_set_stamps(SoftCpu *cpu)
{
    cpu->lower_stamp = jit_stamp(cpu, 0);
    cpu->upper_stamp = jit_stamp(cpu, 1);
}
/* What translated code at `key`, which is RIP with JitCpu.code_key, is entered at, if it may be
 * without looking; or NULL. */
static inline uint8_t *jit_jump_host(const SoftCpu *cpu, const JitJump *jump, uint64_t key)
{
    return jump->rip == key && jump->stamp == jit_stamp_word(cpu, key) ? jump->host : NULL;
}

/* ---- system.c ---- */

/* Finds JitCpu.code_key. */
void jit_set_code(SoftCpu *cpu);

/* ---- thunks.c ---- */

void jit_thunks_make(JitCpu *jit);
/* What stands behind an instruction whose handler translated code calls: where it ends. */
#define JIT_AFTER(insn) ((Insn){.fn = jit_after, .rip_offset = (insn)->rip_offset + (insn)->length})
void jit_after(SoftCpu *cpu, const Insn *insn);
/* Where an instruction is in its block; enough to decode it again. */
static inline uint32_t jit_place(const Insn *insn)
{
    return insn->rip_offset | (uint32_t)insn->length << 16;
}

/* ---- kick.c ---- */

#define JIT_KICK_SIGNAL (SIGRTMIN + 1) /* KVM's is blocked in its threads */
/* This thread is about to run the vCPU, or did. False: the host has no timer left. */
bool jit_kick_begin(SoftCpu *cpu);
void jit_kick_end(void);
void jit_kick_clear(JitCpu *jit);
/* Engine.kick */
void jit_kick(Vcpu *vcpu);

/* ---- translate.c ---- */

/* NULL: no room. */
JitBlock *jit_translate(SoftCpu *cpu, Block *block, uint64_t rip, bool plain);
