/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The architectural state of one x86 CPU, as every engine gets and sets it.
 *
 * Invariant: gpr[GPR_NONE] is 0. Hidden parts of segment registers are kept as the CPU caches them:
 * limit in bytes, attributes in the layout of VMX access rights (SDM 3C 24.4.1):
 *   3:0 type | 4 S | 6:5 DPL | 7 P | 12 AVL | 13 L | 14 D/B | 15 G | 16 unusable
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum {
    GPR_RAX,
    GPR_RCX,
    GPR_RDX,
    GPR_RBX,
    GPR_RSP,
    GPR_RBP,
    GPR_RSI,
    GPR_RDI,
    GPR_R8,
    GPR_R9,
    GPR_R10,
    GPR_R11,
    GPR_R12,
    GPR_R13,
    GPR_R14,
    GPR_R15,
    GPR_NONE,      /* always 0: stands for an absent base or index */
    GPR_BLOCK_RIP, /* software engines: RIP at the start of the running block, base of RIP-relative
                      operands */
    GPR_COUNT
};

enum { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS, SEG_COUNT };

typedef struct Segment {
    uint16_t selector;
    uint32_t attributes; /* SEGMENT_* */
    uint32_t limit;      /* bytes, granularity applied */
    uint64_t base;
} Segment;

enum {
    SEGMENT_TYPE = 0xf,
    SEGMENT_CODE = 0x8,
    SEGMENT_ACCESSED = 0x1,
    SEGMENT_WRITABLE = 0x2 /* data */,
    SEGMENT_READABLE = 0x2 /* code */,
    SEGMENT_EXPAND_DOWN = 0x4 /* data */,
    SEGMENT_CONFORMING = 0x4 /* code */,
    SEGMENT_S = 1 << 4,
    SEGMENT_DPL_SHIFT = 5,
    SEGMENT_DPL = 3 << 5,
    SEGMENT_P = 1 << 7,
    SEGMENT_AVL = 1 << 12,
    SEGMENT_L = 1 << 13,
    SEGMENT_DB = 1 << 14,
    SEGMENT_G = 1 << 15,
    SEGMENT_UNUSABLE = 1 << 16,
};

typedef struct DescriptorTable {
    uint64_t base;
    uint16_t limit;
} DescriptorTable;

enum {
    FLAG_CF = 1 << 0,
    FLAG_PF = 1 << 2,
    FLAG_AF = 1 << 4,
    FLAG_ZF = 1 << 6,
    FLAG_SF = 1 << 7,
    FLAG_TF = 1 << 8,
    FLAG_IF = 1 << 9,
    FLAG_DF = 1 << 10,
    FLAG_OF = 1 << 11,
    FLAG_IOPL = 3 << 12,
    FLAG_NT = 1 << 14,
    FLAG_RF = 1 << 16,
    FLAG_VM = 1 << 17,
    FLAG_AC = 1 << 18,
    FLAG_VIF = 1 << 19,
    FLAG_VIP = 1 << 20,
    FLAG_ID = 1 << 21,
    FLAGS_ARITHMETIC = FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF,
};

#define CR0_PE (1u << 0)
#define CR0_MP (1u << 1)
#define CR0_EM (1u << 2)
#define CR0_TS (1u << 3)
#define CR0_ET (1u << 4)
#define CR0_NE (1u << 5)
#define CR0_WP (1u << 16)
#define CR0_AM (1u << 18)
#define CR0_NW (1u << 29)
#define CR0_CD (1u << 30)
#define CR0_PG (1u << 31)

#define CR4_VME        (1u << 0)
#define CR4_PVI        (1u << 1)
#define CR4_TSD        (1u << 2)
#define CR4_DE         (1u << 3)
#define CR4_PSE        (1u << 4)
#define CR4_PAE        (1u << 5)
#define CR4_MCE        (1u << 6)
#define CR4_PGE        (1u << 7)
#define CR4_PCE        (1u << 8)
#define CR4_OSFXSR     (1u << 9)
#define CR4_OSXMMEXCPT (1u << 10)
#define CR4_UMIP       (1u << 11)
#define CR4_LA57       (1u << 12)
#define CR4_FSGSBASE   (1u << 16)
#define CR4_PCIDE      (1u << 17)
#define CR4_OSXSAVE    (1u << 18)
#define CR4_SMEP       (1u << 20)
#define CR4_SMAP       (1u << 21)

#define EFER_SCE    (1u << 0)
#define EFER_LME    (1u << 8)
#define EFER_LMA    (1u << 10)
#define EFER_NXE    (1u << 11)
#define EFER_AIBRSE (1u << 21)

#define XCR0_X87 (1u << 0)
#define XCR0_SSE (1u << 1)
#define XCR0_AVX (1u << 2)

/* The FXSAVE image's first 32 bytes and registers, in the layout of the 64-bit form, then the upper
 * halves of YMM: what FXSAVE and the standard XSAVE format hold (SDM 1 10.5.1, 13.4). */
typedef struct FpuState {
    uint16_t fcw, fsw;
    uint8_t ftw_abridged; /* bit n: physical register n is not empty */
    uint8_t reserved;
    uint16_t fop;
    uint64_t fip, fdp; /* in protected mode of 32 bits: selector in bits 47:32 */
    uint32_t mxcsr, mxcsr_mask;
    uint8_t st[8][16] __attribute__((aligned(16))); /* ST(0) … relative to TOP, 80 bits each */
    uint8_t xmm[16][16] __attribute__((aligned(16)));
    uint8_t ymm_high[16][16] __attribute__((aligned(16)));
} FpuState;

typedef enum CpuActivity { CPU_ACTIVE, CPU_HALTED, CPU_WAIT_SIPI, CPU_SHUTDOWN } CpuActivity;

/* What an engine had begun to deliver, and whoever goes on does first. Instructions that raise an
 * event (INT n, INT3, INTO) are executed again instead. */
typedef struct CpuEvent {
    enum { CPU_EVENT_NONE, CPU_EVENT_EXCEPTION, CPU_EVENT_INTERRUPT, CPU_EVENT_NMI } kind;
    uint8_t vector;
    bool has_error;
    uint32_t error;
} CpuEvent;

#define MTRR_FIXED_COUNT    11
#define MTRR_VARIABLE_COUNT 8
#define CPU_MC_BANK_COUNT   10

typedef struct CpuState {
    uint64_t gpr[GPR_COUNT];
    uint64_t rip;
    uint64_t rflags; /* whole; software engines keep arithmetic flags apart while they run */
    Segment seg[SEG_COUNT], ldtr, tr;
    DescriptorTable gdtr, idtr;
    uint64_t cr0, cr2, cr3, cr4, cr8, xcr0;
    uint64_t dr[4], dr6, dr7;
    uint64_t efer, star, lstar, cstar, sfmask, kernel_gs_base;
    uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
    uint64_t pat, tsc_aux, misc_enable, spec_ctrl, xss;
    uint64_t tsc;      /* the counter's value when the state was taken … */
    uint64_t tsc_host; /* … and the host's (vm_host_tsc()): it went on since. 0: it stood still */
    uint64_t tsc_adjust, tsc_deadline;
    uint64_t apic_base;
    uint64_t kvm_system_time, kvm_eoi, hyperv_assist_page; /* as written; 0: off (paravirt.h) */
    uint64_t mtrr_def_type, mtrr_fixed[MTRR_FIXED_COUNT];
    uint64_t mtrr_base[MTRR_VARIABLE_COUNT], mtrr_mask[MTRR_VARIABLE_COUNT];
    uint64_t debugctl, mcg_status;
    uint64_t mc_ctl[CPU_MC_BANK_COUNT], mc_addr[CPU_MC_BANK_COUNT], mc_misc[CPU_MC_BANK_COUNT];
    FpuState fpu __attribute__((aligned(64)));
    CpuActivity activity;
    CpuEvent event;
    uint32_t pending_db;   /* DR6 bits of traps to report before the next instruction */
    bool interrupt_shadow; /* STI or MOV SS just executed */
    bool nmi_blocked;
    uint8_t nmi_pending; /* NMIs that wait: at most one while they are blocked, else two */
    bool a20_masked;     /* address bit 20 reads as 0 */
} CpuState;

/* The state after power-on or RESET (`init` false) or INIT (true: caches, FPU, most MSRs and TSC
 * keep their values). SDM 3A table 9-1. The BSP starts at f000:fff0, others wait for SIPI. EDX
 * holds the processor's `signature` (CPUID.1:EAX). */
void cpu_state_reset(CpuState *state, uint32_t signature, bool bootstrap_processor, bool init);
