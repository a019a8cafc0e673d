/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Masked moves and gathers: element by element, because only selected elements may fault.
 */
#include "cpu/soft/simd_masked.h"

#include <glib.h>

#include "cpu/soft/access.h"

typedef union Vector {
    uint8_t u8[32];
    uint32_t u32[8];
    uint64_t u64[4];
} Vector;

static void vector_get(const SoftCpu *cpu, unsigned n, Vector *ret_vector)
{
    memcpy(ret_vector->u8, cpu->s.fpu.xmm[n], 16);
    memcpy(ret_vector->u8 + 16, cpu->s.fpu.ymm_high[n], 16);
}

static void vector_put(SoftCpu *cpu, unsigned n, const Vector *vector)
{
    memcpy(cpu->s.fpu.xmm[n], vector->u8, 16);
    memcpy(cpu->s.fpu.ymm_high[n], vector->u8 + 16, 16);
}

static uint64_t element_linear(SoftCpu *cpu, const Insn *insn, uint64_t offset, unsigned size,
                               MmuAccess access)
{
    offset &= insn->addr_mask;
    /* Decoding doesn't see the operand of MASKMOVQ and MASKMOVDQU. */
    if (!(insn->flags & INSN_MEMORY) && !cpu_is_64bit(cpu)) {
        cpu->insn = insn;
        return segment_linear_checked(cpu, insn->segment, offset, size, access);
    }
    return linear_address(cpu, insn, insn->segment, offset, size, access);
}

static uint64_t element_get(const Vector *vector, unsigned i, unsigned size)
{
    return size == 8 ? vector->u64[i] : size == 4 ? vector->u32[i] : vector->u8[i];
}

static void element_put(Vector *vector, unsigned i, unsigned size, uint64_t value)
{
    if (size == 8)
        vector->u64[i] = value;
    else
        vector->u32[i] = value;
}

static bool element_selected(const Vector *mask, unsigned i, unsigned size)
{
    return element_get(mask, i, size) >> (size * 8 - 1);
}

static uint64_t element_load(SoftCpu *cpu, const Insn *insn, uint64_t offset, unsigned size)
{
    uint64_t linear = element_linear(cpu, insn, offset, size, MMU_READ);
    return size == 8 ? mem_read64(cpu, insn, linear) : mem_read32(cpu, insn, linear);
}

static unsigned mask_element_size(const Insn *insn)
{
    switch (insn->opcode) {
    case 0x8c:
    case 0x8e:
        return insn->rex & REX_W ? 8 : 4; /* VPMASKMOVD/Q */
    case 0xf7:
        return 1;
    default:
        return insn->opcode & 1 ? 8 : 4; /* VMASKMOVPS/PD */
    }
}

void simd_mask_load(SoftCpu *cpu, const Insn *insn)
{
    unsigned size = mask_element_size(insn), bytes = insn->rex & VEX_L ? 32 : 16;
    Vector mask, result = {{0}};
    vector_get(cpu, insn->vvvv, &mask);
    uint64_t offset = insn_ea(cpu, insn);
    for (unsigned i = 0; i < bytes / size; i++)
        if (element_selected(&mask, i, size))
            element_put(&result, i, size, element_load(cpu, insn, offset + i * size, size));
    vector_put(cpu, insn->reg, &result);
    INSN_NEXT(cpu, insn);
}

/* Selected elements alone are written, after all of them were found writable. */
static void mask_store_elements(SoftCpu *cpu, const Insn *insn, uint64_t offset, const Vector *mask,
                                const Vector *data, unsigned size, unsigned bytes)
{
    cpu->insn = insn;
    for (unsigned i = 0; i < bytes / size; i++)
        if (element_selected(mask, i, size))
            mmu_probe(cpu, element_linear(cpu, insn, offset + i * size, size, MMU_WRITE), size,
                      MMU_WRITE, cpu->mmu_index);
    for (unsigned i = 0; i < bytes / size; i++) {
        if (!element_selected(mask, i, size))
            continue;
        uint64_t linear = element_linear(cpu, insn, offset + i * size, size, MMU_WRITE);
        uint64_t value = element_get(data, i, size);
        if (size == 8)
            mem_write64(cpu, insn, linear, value);
        else if (size == 4)
            mem_write32(cpu, insn, linear, value);
        else
            mem_write8(cpu, insn, linear, value);
    }
}

void simd_mask_store(SoftCpu *cpu, const Insn *insn)
{
    Vector mask, data;
    vector_get(cpu, insn->vvvv, &mask);
    vector_get(cpu, insn->reg, &data);
    mask_store_elements(cpu, insn, insn_ea(cpu, insn), &mask, &data, mask_element_size(insn),
                        insn->rex & VEX_L ? 32 : 16);
    INSN_NEXT(cpu, insn);
}

void simd_mask_move(SoftCpu *cpu, const Insn *insn)
{
    Vector mask, data;
    vector_get(cpu, insn->rm, &mask);
    vector_get(cpu, insn->reg, &data);
    mask_store_elements(cpu, insn, cpu->s.gpr[GPR_RDI], &mask, &data, 1, 16);
    INSN_NEXT(cpu, insn);
}

void simd_mask_move_mmx(SoftCpu *cpu, const Insn *insn)
{
    Vector mask, data;
    MMX_CHECK(cpu, insn);
    memcpy(mask.u8, cpu->s.fpu.st[insn->rm & 7], 8);
    memcpy(data.u8, cpu->s.fpu.st[insn->reg & 7], 8);
    mask_store_elements(cpu, insn, cpu->s.gpr[GPR_RDI], &mask, &data, 1, 8);
    mmx_enter(cpu);
    INSN_NEXT(cpu, insn);
}

/* The XMM number of a VSIB index: the decoder's "no index" is number 4 here. */
unsigned simd_gather_index(const Insn *insn)
{
    return insn->index == GPR_NONE ? 4 : insn->index;
}

/* Elements go in order, and what was done before a fault stays done: the mask tells what is left
 * (SDM 2 VGATHER). */
void simd_gather(SoftCpu *cpu, const Insn *insn)
{
    unsigned data_size = insn->rex & REX_W ? 8 : 4, index_size = insn->opcode & 1 ? 8 : 4;
    unsigned bytes = insn->rex & VEX_L ? 32 : 16;
    unsigned count = bytes / MAX(data_size, index_size);
    Vector indices, mask, data;
    vector_get(cpu, simd_gather_index(insn), &indices);
    vector_get(cpu, insn->vvvv, &mask);
    vector_get(cpu, insn->reg, &data);
    for (unsigned i = 0; i < count; i++) {
        if (!element_selected(&mask, i, data_size))
            continue;
        int64_t index = index_size == 8 ? (int64_t)indices.u64[i] : (int32_t)indices.u32[i];
        uint64_t offset = cpu->s.gpr[insn->base] + ((uint64_t)index << insn->scale) + insn->disp;
        element_put(&data, i, data_size, element_load(cpu, insn, offset, data_size));
        element_put(&mask, i, data_size, 0);
        vector_put(cpu, insn->reg, &data);
        vector_put(cpu, insn->vvvv, &mask);
    }
    memset(mask.u8, 0, sizeof(mask.u8));
    memset(data.u8 + count * data_size, 0, sizeof(data.u8) - count * data_size);
    vector_put(cpu, insn->reg, &data);
    vector_put(cpu, insn->vvvv, &mask);
    INSN_NEXT(cpu, insn);
}
