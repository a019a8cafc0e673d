/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Model-specific registers. Most are a row of a table: state with the bits that may be set, or a
 * constant. A register that is in no row does not exist: #GP, which operating systems handle.
 *
 * Source: SDM 4 chapter 2, SDM 3A 11.11 (MTRR), 11.12 (PAT), 3B 15.3 (machine check); AMD BKDG for
 * c001_xxxx.
 */
#include "cpu/soft/system.h"

#include <stddef.h>

enum {
    MSR_TSC = 0x10,
    MSR_APIC_BASE = 0x1b,
    MSR_CORE_THREAD_COUNT = 0x35,
    MSR_TSC_ADJUST = 0x3b,
    MSR_BIOS_SIGN = 0x8b,
    MSR_PLATFORM_INFO = 0xce,
    MSR_PERF_STATUS = 0x198,
    MSR_MTRR_VARIABLE = 0x200,
    MSR_MTRR_DEF_TYPE = 0x2ff,
    MSR_MC_BANKS = 0x400,
    MSR_TSC_DEADLINE = 0x6e0,
    MSR_X2APIC = 0x800,
};
#define MSR_EFER           0xc0000080u
#define MSR_FS_BASE        0xc0000100u
#define MSR_GS_BASE        0xc0000101u
#define MSR_KERNEL_GS_BASE 0xc0000102u
#define MSR_TSC_AUX        0xc0000103u

#define ANY_FEATURE (-1)

/* ---- state ----------------------------------------------------------------------------------- */

typedef enum MsrCheck {
    CHECK_MASK,
    CHECK_CANONICAL,
    CHECK_PAT,
    CHECK_MTRR_TYPES,
    CHECK_MTRR_BASE,
    CHECK_MTRR_MASK,
    CHECK_MTRR_DEF
} MsrCheck;

typedef struct StateMsr {
    uint32_t msr;
    uint16_t offset; /* in CpuState */
    uint8_t check;
    int16_t feature;
    uint64_t mask; /* bits that may be set */
} StateMsr;

#define STATE(number, field, check_, feature_, mask_)                            \
    {                                                                            \
        .msr = (number), .offset = offsetof(CpuState, field), .check = (check_), \
        .feature = (feature_), .mask = (mask_)                                   \
    }
#define MTRR_FIXED(number, n) STATE(number, mtrr_fixed[n], CHECK_MTRR_TYPES, CPU_MTRR, UINT64_MAX)
#define MTRR_PAIR(n)                                                                    \
    STATE(MSR_MTRR_VARIABLE + 2 * (n), mtrr_base[n], CHECK_MTRR_BASE, CPU_MTRR,         \
          UINT64_C(0xffffffffff0ff)),                                                   \
        STATE(MSR_MTRR_VARIABLE + 2 * (n) + 1, mtrr_mask[n], CHECK_MTRR_MASK, CPU_MTRR, \
              UINT64_C(0xffffffffff800))

static const StateMsr state_msrs[] = {
    STATE(MSR_KERNEL_GS_BASE, kernel_gs_base, CHECK_CANONICAL, CPU_LM, UINT64_MAX),
    STATE(0xc0000081, star, CHECK_MASK, CPU_SYSCALL, UINT64_MAX),
    STATE(0xc0000082, lstar, CHECK_CANONICAL, CPU_LM, UINT64_MAX),
    STATE(0xc0000083, cstar, CHECK_CANONICAL, CPU_LM, UINT64_MAX),
    STATE(0xc0000084, sfmask, CHECK_MASK, CPU_LM, UINT32_MAX),
    STATE(0x48, spec_ctrl, CHECK_MASK, CPU_SPEC_CTRL, 7),
    STATE(0x174, sysenter_cs, CHECK_MASK, CPU_SEP, UINT32_MAX),
    STATE(0x175, sysenter_esp, CHECK_CANONICAL, CPU_SEP, UINT64_MAX),
    STATE(0x176, sysenter_eip, CHECK_CANONICAL, CPU_SEP, UINT64_MAX),
    STATE(0x1a0, misc_enable, CHECK_MASK, ANY_FEATURE, UINT64_MAX),
    STATE(0x17a, mcg_status, CHECK_MASK, CPU_MCA, 0xf),
    STATE(0x1d9, debugctl, CHECK_MASK, ANY_FEATURE, 3), /* LBR, BTF */
    STATE(0x277, pat, CHECK_PAT, CPU_PAT, UINT64_MAX),
    STATE(MSR_MTRR_DEF_TYPE, mtrr_def_type, CHECK_MTRR_DEF, CPU_MTRR, 0xcff),
    MTRR_FIXED(0x250, 0),
    MTRR_FIXED(0x258, 1),
    MTRR_FIXED(0x259, 2),
    MTRR_FIXED(0x268, 3),
    MTRR_FIXED(0x269, 4),
    MTRR_FIXED(0x26a, 5),
    MTRR_FIXED(0x26b, 6),
    MTRR_FIXED(0x26c, 7),
    MTRR_FIXED(0x26d, 8),
    MTRR_FIXED(0x26e, 9),
    MTRR_FIXED(0x26f, 10),
    MTRR_PAIR(0),
    MTRR_PAIR(1),
    MTRR_PAIR(2),
    MTRR_PAIR(3),
    MTRR_PAIR(4),
    MTRR_PAIR(5),
    MTRR_PAIR(6),
    MTRR_PAIR(7),
};

/* Memory types: UC, WC, WT, WP, WB, and UC- in the PAT alone. */
static bool is_memory_type(uint8_t type, bool pat)
{
    return type <= 1 || (type >= 4 && type <= 6) || (pat && type == 7);
}

static bool are_memory_types(uint64_t value, bool pat)
{
    for (unsigned i = 0; i < 8; i++)
        if (!is_memory_type(value >> (8 * i), pat))
            return false;
    return true;
}

static bool state_value_allowed(const SoftCpu *cpu, const StateMsr *row, uint64_t value)
{
    if (value & ~row->mask)
        return false;
    switch ((MsrCheck)row->check) {
    case CHECK_CANONICAL:
        return is_canonical48(value);
    case CHECK_PAT:
        return are_memory_types(value, true);
    case CHECK_MTRR_TYPES:
        return are_memory_types(value, false);
    case CHECK_MTRR_BASE:
        return is_memory_type(value, false) && !(value & ~cpu->phys_mask);
    case CHECK_MTRR_MASK:
        return !(value & ~cpu->phys_mask);
    case CHECK_MTRR_DEF:
        return is_memory_type(value, false);
    case CHECK_MASK:
        break;
    }
    return true;
}

static const StateMsr *find_state(const SoftCpu *cpu, uint32_t msr)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(state_msrs); i++)
        if (state_msrs[i].msr == msr &&
            (state_msrs[i].feature == ANY_FEATURE || cpu_has(cpu->model, state_msrs[i].feature)))
            return &state_msrs[i];
    return NULL;
}

static uint64_t *state_field(SoftCpu *cpu, const StateMsr *row)
{
    return (uint64_t *)((uint8_t *)&cpu->s + row->offset);
}

/* ---- constants ------------------------------------------------------------------------------- */

typedef enum MsrWrite { WRITE_FAULTS, WRITE_IGNORED } MsrWrite;

typedef enum MsrVendor { VENDOR_ANY, VENDOR_INTEL, VENDOR_AMD } MsrVendor;

typedef struct ConstantMsr {
    uint32_t first, last;
    uint8_t write, vendor;
    int16_t feature;
    uint64_t value;
} ConstantMsr;

static const ConstantMsr constant_msrs[] = {
    {0x0, 0x1, WRITE_IGNORED, VENDOR_ANY, ANY_FEATURE, 0},     /* P5_MC_ADDR, P5_MC_TYPE */
    {0x17, 0x17, WRITE_FAULTS, VENDOR_INTEL, ANY_FEATURE, 0},  /* PLATFORM_ID */
    {0x2a, 0x2a, WRITE_IGNORED, VENDOR_INTEL, ANY_FEATURE, 0}, /* EBL_CR_POWERON */
    {0x34, 0x34, WRITE_FAULTS, VENDOR_INTEL, ANY_FEATURE, 0},  /* SMI_COUNT */
    {0x3a, 0x3a, WRITE_FAULTS, VENDOR_INTEL, ANY_FEATURE, 1},  /* FEATURE_CONTROL: locked, no VMX */
    {0x49, 0x49, WRITE_IGNORED, VENDOR_ANY, CPU_SPEC_CTRL, 0}, /* PRED_CMD */
    {0x79, 0x79, WRITE_IGNORED, VENDOR_INTEL, ANY_FEATURE, 0}, /* BIOS_UPDT_TRIG */
    {0xc1, 0xc8, WRITE_IGNORED, VENDOR_INTEL, ANY_FEATURE, 0}, /* PMCx */
    {0xfe, 0xfe, WRITE_FAULTS, VENDOR_ANY, CPU_MTRR,
     0x500 | MTRR_VARIABLE_COUNT}, /* MTRRCAP: WC, FIX */
    {0x10a, 0x10a, WRITE_FAULTS, VENDOR_ANY, CPU_ARCH_CAPABILITIES, CPU_ARCH_CAPABILITIES_VALUE},
    {0x116, 0x119, WRITE_IGNORED, VENDOR_INTEL, ANY_FEATURE, 0},          /* BBL_CR_* */
    {0x11e, 0x11e, WRITE_IGNORED, VENDOR_INTEL, ANY_FEATURE, 0xbe702111}, /* BBL_CR_CTL3 */
    {0x179, 0x179, WRITE_FAULTS, VENDOR_ANY, CPU_MCA, CPU_MC_BANK_COUNT}, /* MCG_CAP */
    {0x186, 0x18d, WRITE_IGNORED, VENDOR_INTEL, ANY_FEATURE, 0},          /* PERFEVTSELx */
    {0x199, 0x19b, WRITE_IGNORED, VENDOR_INTEL, ANY_FEATURE,
     0}, /* PERF_CTL, CLOCK_MODULATION, THERM_INTERRUPT */
    {0x19c, 0x19c, WRITE_IGNORED, VENDOR_INTEL, ANY_FEATURE, 0}, /* THERM_STATUS */
    {0x1a2, 0x1a2, WRITE_FAULTS, VENDOR_INTEL, ANY_FEATURE,
     0x640000},                                                  /* TEMPERATURE_TARGET: 100 C */
    {0x1c9, 0x1c9, WRITE_IGNORED, VENDOR_INTEL, ANY_FEATURE, 0}, /* LASTBRANCH_TOS */
    {0x1db, 0x1de, WRITE_IGNORED, VENDOR_ANY, ANY_FEATURE, 0},   /* last branch and exception */
    {0x606, 0x606, WRITE_FAULTS, VENDOR_INTEL, ANY_FEATURE, 0},  /* RAPL_POWER_UNIT */
    {0x611, 0x611, WRITE_FAULTS, VENDOR_INTEL, ANY_FEATURE, 0},  /* PKG_ENERGY_STATUS */
    {0x619, 0x619, WRITE_FAULTS, VENDOR_INTEL, ANY_FEATURE, 0},  /* DRAM_ENERGY_STATUS */
    {0x639, 0x639, WRITE_FAULTS, VENDOR_INTEL, ANY_FEATURE, 0},  /* PP0_ENERGY_STATUS */
    {0x641, 0x641, WRITE_FAULTS, VENDOR_INTEL, ANY_FEATURE, 0},  /* PP1_ENERGY_STATUS */
    {0xc0000408, 0xc000040a, WRITE_IGNORED, VENDOR_AMD, ANY_FEATURE, 0}, /* MC4_MISC1-3 */
    {0xc0010000, 0xc0010007, WRITE_IGNORED, VENDOR_AMD, ANY_FEATURE, 0}, /* PERF_CTL, PERF_CTR */
    {0xc0010010, 0xc0010010, WRITE_IGNORED, VENDOR_AMD, ANY_FEATURE, 0}, /* SYSCFG */
    {0xc0010015, 0xc0010015, WRITE_IGNORED, VENDOR_AMD, ANY_FEATURE, 1 << 24}, /* HWCR: TSC at P0 */
    {0xc0010016, 0xc001001a, WRITE_IGNORED, VENDOR_AMD, ANY_FEATURE, 0},       /* IORR, TOP_MEM */
    {0xc001001d, 0xc001001d, WRITE_IGNORED, VENDOR_AMD, ANY_FEATURE, 0},       /* TOP_MEM2 */
    {0xc001001f, 0xc0010020, WRITE_IGNORED, VENDOR_AMD, ANY_FEATURE, 0}, /* NB_CFG, PATCH_LOADER */
    {0xc0010044, 0xc001004a, WRITE_IGNORED, VENDOR_AMD, ANY_FEATURE, 0}, /* MCx_CTL_MASK */
    {0xc0010055, 0xc0010055, WRITE_IGNORED, VENDOR_AMD, ANY_FEATURE, 0}, /* INT_PENDING */
    {0xc0010058, 0xc0010058, WRITE_IGNORED, VENDOR_AMD, ANY_FEATURE, 0}, /* MMIO_CONF_BASE */
    {0xc0010112, 0xc0010113, WRITE_IGNORED, VENDOR_AMD, ANY_FEATURE, 0}, /* SMM_ADDR, SMM_MASK */
    {0xc0010114, 0xc0010114, WRITE_IGNORED, VENDOR_AMD, ANY_FEATURE,
     0x18}, /* VM_CR: SVM off, locked */
    {0xc0010117, 0xc0010117, WRITE_IGNORED, VENDOR_AMD, ANY_FEATURE, 0}, /* VM_HSAVE_PA */
    {0xc0011020, 0xc0011023, WRITE_IGNORED, VENDOR_AMD, ANY_FEATURE,
     0}, /* LS_CFG, IC_CFG, DC_CFG, TW_CFG */
    {0xc0011029, 0xc0011029, WRITE_IGNORED, VENDOR_AMD, ANY_FEATURE,
     2}, /* DE_CFG: LFENCE serializes */
    {0xc001102a, 0xc001102a, WRITE_IGNORED, VENDOR_AMD, ANY_FEATURE, 0}, /* BU_CFG2 */
};

static const ConstantMsr *find_constant(const SoftCpu *cpu, uint32_t msr)
{
    MsrVendor vendor = cpu_model_is_amd(cpu->model) ? VENDOR_AMD : VENDOR_INTEL;

    for (unsigned i = 0; i < G_N_ELEMENTS(constant_msrs); i++) {
        const ConstantMsr *row = &constant_msrs[i];
        if (msr >= row->first && msr <= row->last &&
            (row->vendor == VENDOR_ANY || row->vendor == vendor) &&
            (row->feature == ANY_FEATURE || cpu_has(cpu->model, row->feature)))
            return row;
    }
    return NULL;
}

/* ---- the rest -------------------------------------------------------------------------------- */

static bool is_intc_msr(uint32_t msr)
{
    return msr == MSR_APIC_BASE || msr == MSR_TSC_DEADLINE ||
           (msr >= MSR_X2APIC && msr < MSR_X2APIC + 0x100);
}

static bool is_bank_msr(const SoftCpu *cpu, uint32_t msr)
{
    return msr >= MSR_MC_BANKS && msr < MSR_MC_BANKS + 4 * CPU_MC_BANK_COUNT &&
           cpu_has(cpu->model, CPU_MCA);
}

/* MCi_CTL, _ADDR and _MISC keep what is written; NULL: _STATUS, which never holds an error. */
static uint64_t *bank_field(SoftCpu *cpu, uint32_t msr)
{
    unsigned bank = (msr - MSR_MC_BANKS) / 4;

    switch (msr & 3) {
    case 0:
        return &cpu->s.mc_ctl[bank];
    case 2:
        return &cpu->s.mc_addr[bank];
    case 3:
        return &cpu->s.mc_misc[bank];
    default:
        return NULL;
    }
}

static bool bank_write(SoftCpu *cpu, uint32_t msr, uint64_t value)
{
    uint64_t *field = bank_field(cpu, msr);

    /* CTL takes all ones or all zeros, STATUS may only be cleared (SDM 3B 15.3.2.1, 15.3.2.2.1). */
    if ((msr & 3) <= 1 && value && (!field || value != UINT64_MAX))
        return false;
    if (field)
        *field = value;
    return true;
}

/* Units of 100 MHz, as nominal frequencies are counted. */
static uint64_t frequency_ratio(const SoftCpu *cpu)
{
    uint64_t ratio = (cpu->model->tsc_hz + 50000000) / 100000000;

    return ratio > 255 ? 255 : ratio;
}

/* Values that depend on the model. False: no such register. */
static bool computed_read(SoftCpu *cpu, uint32_t msr, uint64_t *ret_value)
{
    bool amd;

    switch (msr) { /* written often */
    case MSR_FS_BASE:
        *ret_value = cpu->s.seg[SEG_FS].base;
        return cpu_has(cpu->model, CPU_LM);
    case MSR_GS_BASE:
        *ret_value = cpu->s.seg[SEG_GS].base;
        return cpu_has(cpu->model, CPU_LM);
    default:
        break;
    }
    amd = cpu_model_is_amd(cpu->model);
    switch (msr) {
    case MSR_TSC:
        *ret_value = cpu_tsc(cpu);
        return cpu_has(cpu->model, CPU_TSC);
    case MSR_TSC_ADJUST:
        *ret_value = cpu->s.tsc_adjust;
        return cpu_has(cpu->model, CPU_TSC_ADJUST);
    case MSR_BIOS_SIGN:
        *ret_value = amd ? 0x01000065 : UINT64_C(1) << 32;
        return true;
    case MSR_CORE_THREAD_COUNT:
        *ret_value = cpu->model->vcpu_count * 0x10001u;
        return !amd;
    case MSR_PLATFORM_INFO:
        *ret_value = frequency_ratio(cpu) * (1 << 8 | UINT64_C(1) << 40);
        return !amd;
    case MSR_PERF_STATUS:
        *ret_value = frequency_ratio(cpu) << 8;
        return !amd;
    case MSR_EFER:
        *ret_value = cpu->s.efer;
        return cpu_has(cpu->model, CPU_LM) || cpu_has(cpu->model, CPU_NX) ||
               cpu_has(cpu->model, CPU_SYSCALL);
    case MSR_TSC_AUX:
        *ret_value = cpu->s.tsc_aux;
        return cpu_has(cpu->model, CPU_RDTSCP) || cpu_has(cpu->model, CPU_RDPID);
    default:
        return false;
    }
}

/* A deadline that the local APIC waits for is at another time now. */
static void move_tsc(SoftCpu *cpu, int64_t delta)
{
    const Vcpu *vcpu = cpu->vcpu;

    cpu->tsc_offset += delta;
    cpu->s.tsc_adjust += (uint64_t)delta;
    paravirt_tsc_moved(cpu);
    if (vcpu->intc && vcpu->intc->tsc_changed)
        vcpu->intc->tsc_changed(vcpu->intc_obj);
}

static bool write_base(SoftCpu *cpu, unsigned seg, uint64_t value)
{
    if (!is_canonical48(value) || !cpu_has(cpu->model, CPU_LM))
        return false;
    cpu->s.seg[seg].base = cpu->seg_base[seg] = value;
    return true;
}

static bool computed_write(SoftCpu *cpu, uint32_t msr, uint64_t value)
{
    uint64_t old;

    if (!computed_read(cpu, msr, &old))
        return false;
    switch (msr) {
    case MSR_TSC:
        move_tsc(cpu, (int64_t)(value - cpu_tsc(cpu)));
        return true;
    case MSR_TSC_ADJUST:
        move_tsc(cpu, (int64_t)(value - old));
        return true;
    case MSR_BIOS_SIGN:
    case MSR_PERF_STATUS:
        return true;
    case MSR_EFER:
        return control_write_efer(cpu, value);
    case MSR_TSC_AUX:
        if (value >> 32)
            return false;
        cpu->s.tsc_aux = value;
        return true;
    case MSR_FS_BASE:
        return write_base(cpu, SEG_FS, value);
    case MSR_GS_BASE:
        return write_base(cpu, SEG_GS, value);
    default:
        return false;
    }
}

bool msr_read(SoftCpu *cpu, uint32_t msr, uint64_t *ret_value)
{
    const StateMsr *state;
    const ConstantMsr *constant;

    if (is_intc_msr(msr))
        return cpu->vcpu->intc && cpu->vcpu->intc->read_msr(cpu->vcpu->intc_obj, msr, ret_value);
    if (computed_read(cpu, msr, ret_value))
        return true;
    if ((state = find_state(cpu, msr))) {
        *ret_value = *state_field(cpu, state);
        return true;
    }
    if ((constant = find_constant(cpu, msr))) {
        *ret_value = constant->value;
        return true;
    }
    if (paravirt_read(cpu, msr, ret_value))
        return true;
    *ret_value = 0;
    if (!is_bank_msr(cpu, msr))
        return false;
    if (bank_field(cpu, msr))
        *ret_value = *bank_field(cpu, msr);
    return true;
}

static bool write_intc(SoftCpu *cpu, uint32_t msr, uint64_t value)
{
    Vcpu *vcpu = cpu->vcpu;

    if (!vcpu->intc)
        return false;
    vcpu_leave(vcpu); /* an EOI may take the board lock */
    bool good = vcpu->intc->write_msr(vcpu->intc_obj, msr, value);
    vcpu_enter(vcpu);
    cpu->interrupt_waits = true; /* perhaps */
    if (!good)
        return false;
    if (msr == MSR_APIC_BASE) {
        cpu->s.apic_base = value;
        tlb_flush_all(cpu);
    }
    return true;
}

bool msr_write(SoftCpu *cpu, uint32_t msr, uint64_t value)
{
    const StateMsr *state;
    const ConstantMsr *constant;

    if (is_intc_msr(msr))
        return write_intc(cpu, msr, value);
    if (computed_write(cpu, msr, value))
        return true;
    if ((state = find_state(cpu, msr))) {
        if (!state_value_allowed(cpu, state, value))
            return false;
        *state_field(cpu, state) = value;
        return true;
    }
    if ((constant = find_constant(cpu, msr)))
        return constant->write == WRITE_IGNORED;
    if (is_bank_msr(cpu, msr))
        return bank_write(cpu, msr, value);
    return paravirt_write(cpu, msr, value);
}
