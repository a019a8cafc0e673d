/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The CPUID instruction: one function per leaf, made from the model. SDM 2A CPUID, APM 3 appendix
 * E.
 */
#include "cpu/cpu_features.h"

#include <string.h>

#include "cpu/state.h"

#define APIC_BASE_ENABLE (1u << 11)
#define CACHE_LINE_BYTES 64
#define HYPERV_MAX_CPUS  240

typedef struct Query {
    const CpuModel *model;
    unsigned index; /* of the vCPU, and its APIC id */
    uint64_t cr4, xcr0, apic_base;
    uint32_t leaf, subleaf;
} Query;

typedef CpuidValue (*LeafFn)(const Query *q);

bool cpu_model_is_amd(const CpuModel *model)
{
    return !strcmp(model->vendor, "AuthenticAMD") || !strcmp(model->vendor, "HygonGenuine");
}

static uint32_t max_basic_leaf(const CpuModel *model)
{
    if (cpu_has(model, CPU_LM))
        return 0x16;
    return cpu_has(model, CPU_XSAVE) ? 0xd : cpu_has(model, CPU_PAE) ? 2 : 1;
}

/* Old models have no extended leaves unless a feature there was added. */
static uint32_t max_extended_leaf(const CpuModel *model)
{
    if (cpu_has(model, CPU_LM))
        return cpu_model_is_amd(model) ? 0x80000021 : 0x80000008;
    for (int i = 0; i < CPU_FEATURE_COUNT; i++)
        if (cpu_feature_rows[i].leaf >= 0x80000000 && model->features[i])
            return 0x80000008;
    return 0;
}

/* Bits of an APIC id that number the CPUs of the package. */
static unsigned id_bits(const CpuModel *model)
{
    unsigned bits = 0;
    while (1u << bits < model->vcpu_count)
        bits++;
    return bits;
}

/* The features of this leaf and subleaf, OR-ed into `value`. */
static CpuidValue with_features(const Query *q, CpuidValue value)
{
    uint32_t *registers[] = {&value.eax, &value.ebx, &value.ecx, &value.edx};
    for (int i = 0; i < CPU_FEATURE_COUNT; i++) {
        const CpuFeatureRow *row = &cpu_feature_rows[i];
        if (row->leaf == q->leaf && row->subleaf == q->subleaf && q->model->features[i])
            *registers[row->reg] |= 1u << row->bit;
    }
    return value;
}

/* ---- basic leaves ---------------------------------------------------------------------------- */

static CpuidValue vendor_leaf(const Query *q, uint32_t max)
{
    const char *vendor = q->model->vendor;
    CpuidValue v = {.eax = max};
    memcpy(&v.ebx, vendor, 4);
    memcpy(&v.edx, vendor + 4, 4);
    memcpy(&v.ecx, vendor + 8, 4);
    return v;
}

static CpuidValue leaf_0(const Query *q)
{
    return vendor_leaf(q, max_basic_leaf(q->model));
}

/* EAX: 27:20 extended family | 19:16 extended model | 11:8 family | 7:4 model | 3:0 stepping */
uint32_t cpu_model_signature(const CpuModel *model)
{
    unsigned extended_family = model->family > 0xf ? model->family - 0xf : 0;
    return extended_family << 20 | (model->model >> 4) << 16 |
           (model->family - extended_family) << 8 | (model->model & 0xf) << 4 | model->stepping;
}

static CpuidValue leaf_1(const Query *q)
{
    const CpuModel *model = q->model;
    CpuidValue v = with_features(q, (CpuidValue){.eax = cpu_model_signature(model)});
    v.ebx = q->index << 24;
    if (cpu_has(model, CPU_CLFLUSH))
        v.ebx |= CACHE_LINE_BYTES / 8 << 8;
    if (model->vcpu_count > 1) {
        v.ebx |= (1u << id_bits(model)) << 16;
        v.edx |= 1u << 28; /* HTT: EBX[23:16] counts */
    }
    if (cpu_has(model, CPU_XSAVE) && q->cr4 & CR4_OSXSAVE)
        v.ecx |= 1u << 27;
    if (!(q->apic_base & APIC_BASE_ENABLE))
        v.edx &= ~(1u << 9);
    return v;
}

/* Pentium III: its TLBs, 16 KiB L1 caches, 256 KiB L2; later: "see leaf 4". */
static CpuidValue leaf_2(const Query *q)
{
    if (cpu_model_is_amd(q->model))
        return (CpuidValue){0};
    if (!cpu_has(q->model, CPU_LM))
        return (CpuidValue){0x03020101, 0, 0, 0x0c040882};
    return (CpuidValue){0x00feff01, 0, 0, 0xf0};
}

typedef struct Cache {
    unsigned type; /* 1 data, 2 instruction, 3 unified */
    unsigned level, ways, sets;
    bool shared; /* by all CPUs */
} Cache;

static const Cache caches[] = {
    {1, 1, 8, 64, false},    /* 32 KiB */
    {2, 1, 8, 64, false},    /* 32 KiB */
    {3, 2, 16, 1024, false}, /* 1 MiB */
    {3, 3, 16, 16384, true}, /* 16 MiB */
};

static uint32_t cache_kib(const Cache *cache)
{
    return cache->ways * cache->sets * CACHE_LINE_BYTES / 1024;
}

/* Leaf 4 and AMD's 8000_001d have one layout but for EAX[31:26]. */
static CpuidValue cache_leaf(const Query *q)
{
    if (q->subleaf >= G_N_ELEMENTS(caches))
        return (CpuidValue){0};
    const Cache *cache = &caches[q->subleaf];
    uint32_t sharing = cache->shared ? (1u << id_bits(q->model)) - 1 : 0;
    return (CpuidValue){
        .eax = cache->type | cache->level << 5 | 1 << 8 | sharing << 14,
        .ebx = (CACHE_LINE_BYTES - 1) | (cache->ways - 1) << 22,
        .ecx = cache->sets - 1,
    };
}

static CpuidValue leaf_4(const Query *q)
{
    if (cpu_model_is_amd(q->model))
        return (CpuidValue){0};
    CpuidValue v = cache_leaf(q);
    if (v.eax)
        v.eax |= ((1u << id_bits(q->model)) - 1) << 26;
    return v;
}

static CpuidValue leaf_5(const Query *q)
{
    if (!cpu_has(q->model, CPU_MONITOR))
        return (CpuidValue){0};
    return (CpuidValue){CACHE_LINE_BYTES, CACHE_LINE_BYTES, 3, 0};
}

/* ARAT: the APIC timer counts in every sleep state. */
static CpuidValue leaf_6(const Query *q)
{
    return (CpuidValue){.eax = 1 << 2};
}

static CpuidValue features_leaf(const Query *q)
{
    return with_features(q, (CpuidValue){0});
}

/* Topology: one thread per core, one package. ECX: 15:8 level type (1 thread, 2 core) | 7:0 subleaf
 */
static CpuidValue leaf_b(const Query *q)
{
    CpuidValue v = {.ecx = q->subleaf & 0xff, .edx = q->index};
    if (q->subleaf == 0) {
        v.ebx = 1;
        v.ecx |= 1 << 8;
    } else if (q->subleaf == 1) {
        v.eax = id_bits(q->model);
        v.ebx = q->model->vcpu_count;
        v.ecx |= 2 << 8;
    }
    return v;
}

/* The XSAVE area: legacy region and header, then the upper halves of YMM. SDM 1 13.4 */
enum { XSAVE_HEADER_END = 576, XSAVE_YMM_OFFSET = 576, XSAVE_YMM_SIZE = 256 };

static uint32_t xsave_size(uint64_t components)
{
    return components & XCR0_AVX ? XSAVE_YMM_OFFSET + XSAVE_YMM_SIZE : XSAVE_HEADER_END;
}

static CpuidValue leaf_d(const Query *q)
{
    if (!cpu_has(q->model, CPU_XSAVE))
        return (CpuidValue){0};
    uint64_t supported = XCR0_X87 | XCR0_SSE | (cpu_has(q->model, CPU_AVX) ? XCR0_AVX : 0);
    if (q->subleaf == 0)
        return (CpuidValue){supported, xsave_size(q->xcr0), xsave_size(supported), 0};
    if (q->subleaf == 1) {
        CpuidValue v = with_features(q, (CpuidValue){0});
        if (cpu_has(q->model, CPU_XSAVEC))
            v.ebx = xsave_size(q->xcr0);
        return v;
    }
    if (q->subleaf == 2 && supported & XCR0_AVX)
        return (CpuidValue){XSAVE_YMM_SIZE, XSAVE_YMM_OFFSET, 0, 0};
    return (CpuidValue){0};
}

/*
 * TSC = crystal × EBX / EAX. Linux multiplies the crystal in kHz by EBX in 32 bits, so EBX stays
 * below 2³² / 10⁶; the best such fraction is within 1 ppm.
 */
static CpuidValue leaf_15(const Query *q)
{
    const uint32_t max_numerator = UINT32_MAX / (CPU_CRYSTAL_HZ / 1000);
    CpuidValue best = {.ecx = CPU_CRYSTAL_HZ};
    uint64_t best_error = UINT64_MAX;
    for (uint64_t denominator = 1; denominator <= max_numerator && best_error; denominator++) {
        uint64_t numerator = (q->model->tsc_hz * denominator + CPU_CRYSTAL_HZ / 2) / CPU_CRYSTAL_HZ;
        if (numerator > max_numerator)
            break;
        uint64_t hz = CPU_CRYSTAL_HZ * numerator / denominator;
        uint64_t error = hz > q->model->tsc_hz ? hz - q->model->tsc_hz : q->model->tsc_hz - hz;
        if (numerator && error < best_error) {
            best.eax = denominator;
            best.ebx = numerator;
            best_error = error;
        }
    }
    return best;
}

/* MHz: base, maximum, bus. */
static CpuidValue leaf_16(const Query *q)
{
    uint32_t mhz = (q->model->tsc_hz + 500000) / 1000000 & 0xffff;
    return (CpuidValue){mhz, mhz, 100, 0};
}

/* ---- hypervisor leaves ----------------------------------------------------------------------- */

static CpuidValue signature_leaf(const char *signature, uint32_t last)
{
    CpuidValue v = {.eax = last};
    memcpy(&v.ebx, signature, 4);
    memcpy(&v.ecx, signature + 4, 4);
    memcpy(&v.edx, signature + 8, 4);
    return v;
}

static CpuidValue tsc_leaf(const CpuModel *model)
{
    return (CpuidValue){.eax = model->tsc_hz / 1000,
                        .ebx = CPU_CRYSTAL_HZ / 1000}; /* local APIC timer */
}

/* KVM's leaves, from `base` on; or, with its features left out, our own. */
static CpuidValue kvm_leaf(const Query *q, uint32_t base)
{
    bool kvm = cpu_model_offers(q->model, PARAVIRT_KVM);
    switch (q->leaf - base) {
    case 0:
        return signature_leaf(kvm ? "KVMKVMKVM\0\0" : "OspiteOspite",
                              base + HYPERVISOR_TSC_LEAF - HYPERVISOR_LEAF);
    case 1:
        return (CpuidValue){.eax = kvm ? KVM_FEATURES_OFFERED : 0};
    case HYPERVISOR_TSC_LEAF - HYPERVISOR_LEAF:
        return tsc_leaf(q->model);
    default:
        return (CpuidValue){0};
    }
}

/* TLFS 2.4: signature, interface, version, features, recommendations, limits. */
static CpuidValue hyperv_leaf(const Query *q)
{
    enum { /* 4000_0003 EAX, EDX; 4000_0004 EAX */
           TIME_COUNTER = 1 << 1,
           APIC_REGISTERS = 1 << 4,
           HYPERCALL_REGISTERS = 1 << 5,
           VP_INDEX = 1 << 6,
           REFERENCE_TSC = 1 << 9,
           FREQUENCY_REGISTERS = 1 << 11,
           FREQUENCIES_AVAILABLE = 1 << 8,
           USE_APIC_REGISTERS = 1 << 3,
           RELAXED_TIMING = 1 << 5,
    };
    switch (q->leaf) {
    case HYPERVISOR_LEAF:
        return signature_leaf("Microsoft Hv", HYPERV_LAST_LEAF);
    case HYPERVISOR_LEAF + 1:
        return signature_leaf("\0\0\0\0\0\0\0\0\0\0\0", 0x31237648); /* "Hv#1" */
    case HYPERVISOR_LEAF + 2:
        return (CpuidValue){14393, 10 << 16, 0, 0}; /* Windows Server 2016's */
    case HYPERVISOR_LEAF + 3:
        return (CpuidValue){.eax = TIME_COUNTER | APIC_REGISTERS | HYPERCALL_REGISTERS | VP_INDEX |
                                   REFERENCE_TSC | FREQUENCY_REGISTERS,
                            .edx = FREQUENCIES_AVAILABLE};
    case HYPERVISOR_LEAF + 4: /* EBX: spin for ever, never tell us of it */
        return (CpuidValue){.eax = USE_APIC_REGISTERS | RELAXED_TIMING, .ebx = UINT32_MAX};
    case HYPERV_LAST_LEAF:
        return (CpuidValue){.eax = HYPERV_MAX_CPUS, .ebx = HYPERV_MAX_CPUS};
    default:
        return (CpuidValue){0};
    }
}

static CpuidValue hypervisor_leaf(const Query *q)
{
    bool hyperv = cpu_model_offers(q->model, PARAVIRT_HYPERV);
    if (q->leaf >= HYPERVISOR_SECOND_LEAF)
        return kvm_leaf(q, HYPERVISOR_SECOND_LEAF);
    return hyperv ? hyperv_leaf(q) : kvm_leaf(q, HYPERVISOR_LEAF);
}

bool cpu_model_has_hypervisor_leaf(const CpuModel *model, uint32_t leaf)
{
    const uint32_t count = HYPERVISOR_TSC_LEAF - HYPERVISOR_LEAF;
    if (!cpu_has(model, CPU_HYPERVISOR))
        return false;
    if (!cpu_model_offers(model, PARAVIRT_HYPERV))
        return leaf - HYPERVISOR_LEAF <= count;
    return leaf - HYPERVISOR_LEAF <= HYPERV_LAST_LEAF - HYPERVISOR_LEAF ||
           (model->paravirt & PARAVIRT_KVM && leaf - HYPERVISOR_SECOND_LEAF <= count);
}

/* ---- extended leaves ------------------------------------------------------------------------- */

static CpuidValue leaf_80000000(const Query *q)
{
    CpuidValue v = {.eax = max_extended_leaf(q->model)};
    return cpu_model_is_amd(q->model) ? vendor_leaf(q, v.eax) : v;
}

/* AMD repeats leaf 1's EDX here but for the bits that SYSCALL … took; ECX: 1 CmpLegacy, 22
 * TopologyExtensions. */
static CpuidValue leaf_80000001(const Query *q)
{
    const uint32_t repeated = 0x0183f3ff;
    CpuidValue v = with_features(q, (CpuidValue){0});
    if (cpu_model_is_amd(q->model)) {
        Query first = *q;
        first.leaf = 1;
        CpuidValue basic = leaf_1(&first);
        v.eax = basic.eax;
        v.edx |= basic.edx & repeated;
        v.ecx |= 1u << 22 | (q->model->vcpu_count > 1 ? 1u << 1 : 0);
    }
    return v;
}

static CpuidValue brand_leaf(const Query *q)
{
    CpuidValue v;
    memcpy(&v, q->model->brand + 16 * (q->leaf - 0x80000002), sizeof(v));
    return v;
}

/* AMD: L1 TLBs and caches. KiB, ways, lines per tag, bytes per line */
static CpuidValue leaf_80000005(const Query *q)
{
    if (!cpu_model_is_amd(q->model))
        return (CpuidValue){0};
    uint32_t data = cache_kib(&caches[0]) << 24 | caches[0].ways << 16 | 1 << 8 | CACHE_LINE_BYTES;
    uint32_t code = cache_kib(&caches[1]) << 24 | caches[1].ways << 16 | 1 << 8 | CACHE_LINE_BYTES;
    return (CpuidValue){0xff40ff40, 0xff40ff40, data, code};
}

/* L2: KiB in 31:16, associativity code in 15:12 (8: 16 ways); L3, AMD only: 512 KiB units in 31:18
 */
static CpuidValue leaf_80000006(const Query *q)
{
    CpuidValue v = {.ecx = cache_kib(&caches[2]) << 16 | 8 << 12 | CACHE_LINE_BYTES};
    if (cpu_model_is_amd(q->model)) {
        v.eax = v.ebx = 0x48004800; /* 4 ways, 2048 entries */
        v.ecx |= 1 << 8;
        v.edx = cache_kib(&caches[3]) / 512 << 18 | 8 << 12 | 1 << 8 | CACHE_LINE_BYTES;
    }
    return v;
}

static CpuidValue leaf_80000008(const Query *q)
{
    CpuidValue v = with_features(q, (CpuidValue){.eax = q->model->physical_address_bits |
                                                        q->model->linear_address_bits << 8});
    if (cpu_model_is_amd(q->model))
        v.ecx = id_bits(q->model) << 12 | (q->model->vcpu_count - 1);
    return v;
}

static CpuidValue leaf_8000001e(const Query *q)
{
    return (CpuidValue){q->index, q->index & 0xff, 0, 0};
}

/* ---- the instruction ------------------------------------------------------------------------- */

static const struct {
    uint32_t leaf;
    LeafFn fn;
    bool has_subleaves; /* else ECX is ignored */
} leaves[] = {
    {0, leaf_0},
    {1, leaf_1},
    {2, leaf_2},
    {4, leaf_4, true},
    {5, leaf_5},
    {6, leaf_6},
    {7, features_leaf, true},
    {0xb, leaf_b, true},
    {0xd, leaf_d, true},
    {0x15, leaf_15},
    {0x16, leaf_16},
    {0x80000000, leaf_80000000},
    {0x80000001, leaf_80000001},
    {0x80000002, brand_leaf},
    {0x80000003, brand_leaf},
    {0x80000004, brand_leaf},
    {0x80000005, leaf_80000005},
    {0x80000006, leaf_80000006},
    {0x80000007, features_leaf},
    {0x80000008, leaf_80000008},
    {0x8000001d, cache_leaf, true},
    {0x8000001e, leaf_8000001e},
    {0x80000021, features_leaf},
};

static bool leaf_exists(const CpuModel *model, uint32_t leaf)
{
    if (leaf >> 31)
        return leaf <= max_extended_leaf(model);
    return leaf <= max_basic_leaf(model);
}

CpuidValue cpu_model_cpuid(const CpuModel *model, unsigned index, uint64_t cr4, uint64_t xcr0,
                           uint64_t apic_base, uint32_t leaf, uint32_t subleaf)
{
    Query q = {model, index, cr4, xcr0, apic_base, leaf, subleaf};
    if (cpu_model_has_hypervisor_leaf(model, leaf))
        return hypervisor_leaf(&q);
    if (!leaf_exists(model, leaf)) {
        if (cpu_model_is_amd(model))
            return (CpuidValue){0};
        q.leaf = max_basic_leaf(model); /* SDM 2A: the data of the highest basic leaf */
    }
    for (size_t i = 0; i < G_N_ELEMENTS(leaves); i++) {
        if (leaves[i].leaf == q.leaf) {
            q.subleaf = leaves[i].has_subleaves ? subleaf : 0;
            return leaves[i].fn(&q);
        }
    }
    return (CpuidValue){0};
}
