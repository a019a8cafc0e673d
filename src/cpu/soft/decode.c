/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Prefixes, ModRM, SIB, displacements, immediates; then the row of the opcode picks the handler.
 */
#include "cpu/soft/decode.h"
#include "cpu/soft/ops_simd.h"
#include "cpu/soft/ops_system.h"
#include "cpu/soft/ops_x87.h"

void op_too_long(SoftCpu *cpu, const Insn *insn)
{
    INSN_RAISE_GP0(cpu, insn);
}

static uint8_t next_byte(Decoder *d)
{
    if (d->position >= d->available) {
        d->short_of_bytes = true;
        return 0;
    }
    return d->bytes[d->position++];
}

static uint64_t next_bytes(Decoder *d, unsigned count)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < count; i++)
        value |= (uint64_t)next_byte(d) << (8 * i);
    return value;
}

static int64_t next_signed(Decoder *d, unsigned count)
{
    unsigned unused = 64 - 8 * count;
    return (int64_t)(next_bytes(d, count) << unused) >> unused;
}

static bool is_64bit(const Decoder *d)
{
    return (d->mode & MODE_CODE_MASK) == MODE_CODE64;
}

/* ---- prefixes -------------------------------------------------------------------------------- */

enum { PREFIX_KIND_SEGMENT = 0x100, PREFIX_KIND_REX = 0x200 };

/* The PREFIX_* bit of a byte, SEG_* | PREFIX_KIND_SEGMENT, PREFIX_KIND_REX, or 0: no prefix. */
static unsigned prefix_kind(const Decoder *d, uint8_t byte)
{
    switch (byte) {
    case 0x26:
        return PREFIX_KIND_SEGMENT | SEG_ES;
    case 0x2e:
        return PREFIX_KIND_SEGMENT | SEG_CS;
    case 0x36:
        return PREFIX_KIND_SEGMENT | SEG_SS;
    case 0x3e:
        return PREFIX_KIND_SEGMENT | SEG_DS;
    case 0x64:
        return PREFIX_KIND_SEGMENT | SEG_FS;
    case 0x65:
        return PREFIX_KIND_SEGMENT | SEG_GS;
    case 0x66:
        return PREFIX_OPSIZE;
    case 0x67:
        return PREFIX_ADDRSIZE;
    case 0xf0:
        return PREFIX_LOCK;
    case 0xf2:
        return PREFIX_REPNE;
    case 0xf3:
        return PREFIX_REPE;
    default:
        return is_64bit(d) && (byte & 0xf0) == 0x40 ? PREFIX_KIND_REX : 0;
    }
}

/* Returns the first byte behind the prefixes. A REX counts only when it is the last of them. */
static uint8_t decode_prefixes(Decoder *d)
{
    Insn *insn = d->insn;
    for (;;) {
        uint8_t byte = next_byte(d);
        unsigned kind = d->short_of_bytes ? 0 : prefix_kind(d, byte);
        if (!kind)
            return byte;
        if (kind == PREFIX_KIND_REX) {
            insn->prefixes |= PREFIX_REX;
            insn->rex = byte & 15;
            continue;
        }
        insn->prefixes &= ~PREFIX_REX;
        insn->rex = 0;
        if (kind & PREFIX_KIND_SEGMENT) {
            unsigned segment = kind & 7;
            insn->prefixes |= PREFIX_SEGMENT;
            if (!is_64bit(d) || segment >= SEG_FS)
                d->segment_override = segment;
        } else {
            if (kind & (PREFIX_REPE | PREFIX_REPNE))
                insn->prefixes &= ~(PREFIX_REPE | PREFIX_REPNE);
            insn->prefixes |= kind;
        }
    }
}

static void decode_address_size(const Decoder *d)
{
    bool changed = d->insn->prefixes & PREFIX_ADDRSIZE;
    unsigned size = is_64bit(d)                                              ? (changed ? 4 : 8)
                    : ((d->mode & MODE_CODE_MASK) == MODE_CODE32) != changed ? 4
                                                                             : 2;
    d->insn->addr_size = size;
    d->insn->addr_mask = size == 8 ? UINT64_MAX : size == 4 ? UINT32_MAX : UINT16_MAX;
}

static void decode_operand_size(const Decoder *d, uint32_t attributes)
{
    Insn *insn = d->insn;
    bool changed = insn->prefixes & PREFIX_OPSIZE;
    if (attributes & OPCODE_BYTE)
        insn->op_size = 1;
    else if (is_64bit(d) && attributes & OPCODE_F64)
        insn->op_size = 8;
    else if (is_64bit(d) && insn->rex & REX_W)
        insn->op_size = attributes & OPCODE_NO_W ? 4 : 8;
    else if (is_64bit(d) && attributes & OPCODE_D64)
        insn->op_size = changed ? 2 : 8;
    else
        insn->op_size = ((d->mode & MODE_CODE_MASK) == MODE_CODE16) != changed ? 2 : 4;
}

/* ---- ModRM ----------------------------------------------------------------------------------- */

static void decode_memory16(Decoder *d)
{
    static const uint8_t bases[8] = {GPR_RBX, GPR_RBX, GPR_RBP, GPR_RBP,
                                     GPR_RSI, GPR_RDI, GPR_RBP, GPR_RBX};
    static const uint8_t indexes[8] = {GPR_RSI,  GPR_RDI,  GPR_RSI,  GPR_RDI,
                                       GPR_NONE, GPR_NONE, GPR_NONE, GPR_NONE};
    Insn *insn = d->insn;
    unsigned mod = insn->modrm >> 6, rm = insn->modrm & 7;
    insn->base = bases[rm];
    insn->index = indexes[rm];
    if (mod == 0 && rm == 6) {
        insn->base = GPR_NONE;
        insn->disp = next_signed(d, 2);
    } else if (mod) {
        insn->disp = next_signed(d, mod);
    }
}

static void decode_sib(Decoder *d, unsigned mod)
{
    Insn *insn = d->insn;
    uint8_t sib = next_byte(d);
    unsigned index = (sib >> 3 & 7) | (insn->rex & REX_X ? 8 : 0);
    insn->scale = sib >> 6;
    insn->index = index == GPR_RSP ? GPR_NONE : index;
    if ((sib & 7) == GPR_RBP && mod == 0) {
        insn->base = GPR_NONE;
        insn->disp = next_signed(d, 4);
    } else {
        insn->base = (sib & 7) | (insn->rex & REX_B ? 8 : 0);
    }
}

static void decode_memory32(Decoder *d)
{
    Insn *insn = d->insn;
    unsigned mod = insn->modrm >> 6, rm = insn->modrm & 7;
    if (rm == GPR_RSP) {
        decode_sib(d, mod);
    } else if (rm == GPR_RBP && mod == 0) {
        insn->base = is_64bit(d) ? GPR_BLOCK_RIP : GPR_NONE;
        insn->disp = next_signed(d, 4);
    } else {
        insn->base = rm | (insn->rex & REX_B ? 8 : 0);
    }
    if (mod)
        insn->disp = next_signed(d, mod == 1 ? 1 : 4);
}

static void decode_modrm(Decoder *d, uint32_t attributes)
{
    Insn *insn = d->insn;
    insn->modrm = next_byte(d);
    insn->reg = (insn->modrm >> 3 & 7) | (insn->rex & REX_R ? 8 : 0);
    insn->rm = (insn->modrm & 7) | (insn->rex & REX_B ? 8 : 0);
    if (insn->modrm >= 0xc0 || attributes & OPCODE_MOD_IGNORED)
        return;
    insn->flags |= INSN_MEMORY;
    if (insn->addr_size == 2)
        decode_memory16(d);
    else
        decode_memory32(d);
}

/* ---- immediates ------------------------------------------------------------------------------ */

static void decode_immediate(Decoder *d, uint32_t attributes)
{
    Insn *insn = d->insn;
    unsigned z = insn->op_size == 2 ? 2 : 4;
    switch (attributes & OPCODE_IMM_MASK) {
    case IMM_BYTE:
        insn->imm = next_byte(d);
        break;
    case IMM_REL8:
    case IMM_SIGNED:
        insn->imm = next_signed(d, 1);
        break;
    case IMM_RELZ:
    case IMM_Z:
        insn->imm = next_signed(d, insn->op_size == 1 ? 1 : z);
        break;
    case IMM_V:
        insn->imm = next_bytes(d, insn->op_size);
        break;
    case IMM_WORD:
        insn->imm = next_bytes(d, 2);
        break;
    case IMM_ENTER:
        insn->imm = next_bytes(d, 2);
        insn->imm |= (uint64_t)next_byte(d) << 16;
        break;
    case IMM_FAR:
        insn->imm = next_bytes(d, z);
        insn->imm |= next_bytes(d, 2) << 32;
        break;
    case IMM_OFFSET:
        insn->imm = next_bytes(d, insn->addr_size);
        break;
    default:
        if (attributes & OPCODE_ONE)
            insn->imm = 1;
    }
}

/* ---- VEX ------------------------------------------------------------------------------------- */

/* Whether C4 or C5 begins a VEX prefix here, and not LES or LDS. */
static bool is_vex(Decoder *d, uint8_t byte)
{
    if (byte != 0xc4 && byte != 0xc5)
        return false;
    if (is_64bit(d))
        return true;
    if (d->position >= d->available) {
        d->short_of_bytes = true;
        return false;
    }
    return d->bytes[d->position] >= 0xc0;
}

/* False: #UD. */
static bool decode_vex(Decoder *d, uint8_t first)
{
    static const uint8_t mandatory[4] = {0, PREFIX_OPSIZE, PREFIX_REPE, PREFIX_REPNE};
    Insn *insn = d->insn;
    bool valid = !(insn->prefixes &
                   (PREFIX_LOCK | PREFIX_OPSIZE | PREFIX_REPE | PREFIX_REPNE | PREFIX_REX)) &&
                 d->mode & MODE_PROTECTED;
    uint8_t byte = next_byte(d);
    insn->rex = byte & 0x80 ? 0 : REX_R;
    insn->map = MAP_0F;
    if (first == 0xc4) {
        insn->rex |= (byte & 0x40 ? 0 : REX_X) | (byte & 0x20 ? 0 : REX_B);
        insn->map = byte & 31;
        byte = next_byte(d);
        insn->rex |= byte & 0x80 ? REX_W : 0;
    }
    insn->vvvv = ~byte >> 3 & 15;
    insn->rex |= byte & 4 ? VEX_L : 0;
    insn->prefixes |= PREFIX_VEX | mandatory[byte & 3];
    if (!is_64bit(d)) {
        insn->rex &= ~(REX_R | REX_X | REX_B);
        insn->vvvv &= 7;
    }
    insn->opcode = next_byte(d);
    return valid && insn->map >= MAP_0F && insn->map <= MAP_0F3A;
}

/* ---- from row to handler --------------------------------------------------------------------- */

static const Opcode opcode_simd_modrm = {.attributes = OPCODE_SIMD | OPCODE_MODRM};
static const Opcode opcode_simd_imm = {.attributes = OPCODE_SIMD | OPCODE_MODRM | IMM_BYTE};
static const Opcode opcode_simd_plain = {.attributes = OPCODE_SIMD};

static bool has_byte_immediate(uint8_t opcode)
{
    return (opcode >= 0x70 && opcode <= 0x73) || opcode == 0xc2 ||
           (opcode >= 0xc4 && opcode <= 0xc6);
}

/* The row that says whether there is a ModRM; which row it is in the end may hang on it. */
static const Opcode *first_row(const Decoder *d)
{
    const Insn *insn = d->insn;
    if (insn->map == MAP_0F38)
        return &opcode_simd_modrm;
    if (insn->map == MAP_0F3A)
        return &opcode_simd_imm;
    if (insn->prefixes & PREFIX_VEX)
        return insn->opcode == 0x77               ? &opcode_simd_plain
               : has_byte_immediate(insn->opcode) ? &opcode_simd_imm
                                                  : &opcode_simd_modrm;
    return insn->map == MAP_0F ? &opcode_0f[insn->opcode] : &opcode_one_byte[insn->opcode];
}

static const Opcode *final_row(const Decoder *d, const Opcode *row, uint32_t *attributes)
{
    const Insn *insn = d->insn;
    const Opcode *own = insn->prefixes & PREFIX_VEX ? opcode_vex(d)
                        : insn->map == MAP_0F38     ? opcode_0f38(d)
                                                    : NULL;
    if (own) {
        row = own;
        *attributes = row->attributes;
    }
    if (row->group) {
        row = &row->group[insn->modrm >> 3 & 7];
        *attributes |= row->attributes;
    }
    if (row->resolve) {
        row = row->resolve(d);
        *attributes |= row->attributes;
    }
    return row;
}

static uint8_t byte_register(const Insn *insn, unsigned n)
{
    bool high = n >= 4 && n < 8 && !(insn->prefixes & PREFIX_REX);
    return high ? (n - 4) * 8 + 1 : n * 8;
}

static void decode_registers(const Decoder *d, uint32_t attributes)
{
    Insn *insn = d->insn;
    if (attributes & OPCODE_IN_OPCODE)
        insn->rm = (insn->opcode & 7) | (insn->rex & REX_B ? 8 : 0);
    if (attributes & OPCODE_ACCUMULATOR)
        insn->rm = GPR_RAX;
    if (attributes & OPCODE_SEGMENT_REG)
        insn->reg = insn->modrm >> 3 & 7;
    if (attributes & OPCODE_SEGMENT_IN_OPCODE)
        insn->reg = insn->opcode >> 3 & 7;
    if (attributes & OPCODE_BYTE)
        insn->reg = byte_register(insn, insn->reg);
    if (attributes & (OPCODE_BYTE | OPCODE_RM8))
        insn->rm = byte_register(insn, insn->rm);
    if (attributes & OPCODE_SWAP && !(insn->flags & INSN_MEMORY)) {
        uint8_t reg = insn->reg;
        insn->reg = insn->rm;
        insn->rm = reg;
    }
}

static bool segment_needs_check(const Decoder *d, unsigned segment)
{
    switch (segment) {
    case SEG_DS:
        return !(d->mode & MODE_FLAT_DS);
    case SEG_ES:
        return !(d->mode & MODE_FLAT_ES);
    case SEG_SS:
        return !(d->mode & MODE_FLAT_SS);
    default:
        return true;
    }
}

static void decode_segment(const Decoder *d, uint32_t attributes)
{
    Insn *insn = d->insn;
    bool stack_based =
        insn->flags & INSN_MEMORY && (insn->base == GPR_RSP || insn->base == GPR_RBP);
    bool own_operand = insn->flags & INSN_MEMORY || attributes & OPCODE_SOURCE;
    insn->segment = d->segment_override >= 0 ? d->segment_override
                    : stack_based || (attributes & OPCODE_STACK && !own_operand) ? SEG_SS
                                                                                 : SEG_DS;
    bool check = d->mode & MODE_AC;
    if (!is_64bit(d))
        check |= (own_operand && segment_needs_check(d, insn->segment)) ||
                 (attributes & OPCODE_STACK && segment_needs_check(d, SEG_SS)) ||
                 (attributes & OPCODE_TARGET && segment_needs_check(d, SEG_ES));
    if (check)
        insn->flags |= INSN_SEG_CHECK;
}

static bool row_is_valid(const Decoder *d, const Opcode *row, uint32_t attributes)
{
    const Insn *insn = d->insn;
    bool memory = insn->flags & INSN_MEMORY;
    if ((attributes & OPCODE_NOT64 && is_64bit(d)) ||
        (attributes & OPCODE_ONLY64 && !is_64bit(d)) || (attributes & OPCODE_MEMORY && !memory) ||
        (attributes & OPCODE_REGISTER && memory) ||
        (attributes & OPCODE_PROTECTED && !(d->mode & MODE_PROTECTED)) ||
        (row->feature && !cpu_has(d->model, row->feature - 1)) ||
        (attributes & OPCODE_SEGMENT_REG && (insn->modrm >> 3 & 7) >= SEG_COUNT))
        return false;
    if (insn->prefixes & PREFIX_VEX && !(attributes & OPCODE_SIMD) &&
        (insn->rex & VEX_L || (!(attributes & OPCODE_VVVV) && insn->vvvv)))
        return false;
    return true;
}

static void select_handler(const Decoder *d, const Opcode *row, uint32_t attributes)
{
    Insn *insn = d->insn;
    bool memory = insn->flags & INSN_MEMORY, locked = insn->prefixes & PREFIX_LOCK;
    if (!row_is_valid(d, row, attributes))
        return;
    if (attributes & (OPCODE_SIMD | OPCODE_X87)) {
        bool x87 = attributes & OPCODE_X87;
        InsnFn fn = insn->fn;
        if (locked || !(x87 ? x87_select : simd_select)(d->mode, d->model, insn))
            insn->fn = fn;
    } else if (row->forms) {
        const InsnFn *forms = !memory  ? row->forms->reg
                              : locked ? row->forms->lock
                                       : row->forms->mem;
        InsnFn fn = locked && !memory ? NULL : forms[__builtin_ctz(insn->op_size)];
        if (fn)
            insn->fn = fn;
    } else if (row->fn && !locked) {
        insn->fn = row->fn;
    }
}

/* Displacements and branch targets count from the start of the block (insn.h). */
static void decode_relative(Decoder *d, uint32_t attributes)
{
    Insn *insn = d->insn;
    uint32_t imm_kind = attributes & OPCODE_IMM_MASK;
    unsigned end = insn->rip_offset + insn->length;
    if (insn->flags & INSN_MEMORY && insn->base == GPR_BLOCK_RIP)
        insn->disp += end;
    if (imm_kind == IMM_REL8 || imm_kind == IMM_RELZ) {
        insn->imm += end;
        insn->addr_mask = 0; /* the branch is not linked yet */
    }
}

static void decode_opcode(Decoder *d)
{
    Insn *insn = d->insn;
    uint8_t byte = decode_prefixes(d);
    bool valid = true;
    insn->map = MAP_ONE_BYTE;
    if (is_vex(d, byte)) {
        valid = decode_vex(d, byte);
    } else if (byte == 0x0f) {
        insn->map = MAP_0F;
        insn->opcode = next_byte(d);
        if (insn->opcode == 0x38 || insn->opcode == 0x3a) {
            insn->map = insn->opcode == 0x38 ? MAP_0F38 : MAP_0F3A;
            insn->opcode = next_byte(d);
        }
    } else {
        insn->opcode = byte;
    }
    decode_address_size(d);
    if (d->short_of_bytes)
        return;
    if (!valid && (insn->map < MAP_0F || insn->map > MAP_0F3A)) {
        insn->length = d->position;
        return;
    }

    const Opcode *row = first_row(d);
    uint32_t attributes = row->attributes;
    if (attributes & OPCODE_MODRM)
        decode_modrm(d, attributes);
    if (d->short_of_bytes)
        return;
    row = final_row(d, row, &attributes);
    decode_operand_size(d, attributes);
    decode_immediate(d, attributes);
    insn->length = d->position;
    if (d->short_of_bytes)
        return;
    decode_relative(d, attributes);
    decode_registers(d, attributes);
    decode_segment(d, attributes);
    if (valid)
        select_handler(d, row, attributes);
    if (attributes & OPCODE_ENDS)
        insn->flags |= INSN_ENDS_BLOCK;
}

bool decode_insn(const CpuModel *model, uint32_t mode, const uint8_t *bytes, unsigned available,
                 Insn *insn)
{
    Decoder d = {.bytes = bytes,
                 .available = MIN(available, INSN_MAX_BYTES),
                 .mode = mode,
                 .model = model,
                 .segment_override = -1,
                 .insn = insn};
    *insn =
        (Insn){.fn = op_ud, .rip_offset = insn->rip_offset, .base = GPR_NONE, .index = GPR_NONE};
    decode_opcode(&d);
    if (insn->fn == op_ud)
        insn->flags |= INSN_ENDS_BLOCK;
    if (!d.short_of_bytes)
        return true;
    if (available < INSN_MAX_BYTES)
        return false;
    insn->fn = op_too_long;
    insn->length = INSN_MAX_BYTES;
    insn->flags |= INSN_ENDS_BLOCK;
    return true;
}
