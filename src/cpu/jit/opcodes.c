/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See opcodes.h. Flags: SDM 1 appendix A; what the manual calls undefined is taken as kept, so that
 * the host decides. */
#include "cpu/jit/opcodes.h"

#include "cpu/jit/jit.h"
#include "cpu/soft/decode.h"
#include "cpu/soft/ops.h"
#include "cpu/soft/ops_system.h"
#include "cpu/soft/simd_tables.h"

#define R   ROLE_READ
#define W   ROLE_WRITE
#define RW  ROLE_BOTH
#define ALL JIT_ALL_FLAGS

enum { IMM_0, IMM_8 = 1, IMM_FULL = 4 /* by operand size */ };

unsigned jit_condition_flags(unsigned condition)
{
    static const uint8_t flags[8] = {
        JIT_OF, JIT_CF, JIT_ZF,          JIT_CF | JIT_ZF,
        JIT_SF, JIT_PF, JIT_SF | JIT_OF, JIT_SF | JIT_OF | JIT_ZF,
    };
    return flags[condition >> 1 & 7];
}

/* ADD OR ADC SBB AND SUB XOR CMP: forms E,G; G,E; accumulator. */
static JitOp arithmetic(unsigned operation, unsigned form)
{
    bool compare = operation == 7, carry = operation == 2 || operation == 3;
    JitOp op = {.kind = JIT_COPY,
                .byte = !(form & 1),
                .reads = carry ? JIT_CF : 0,
                .writes = ALL,
                .kills = ALL};
    if (form < 2) {
        op.rm = compare ? R : RW;
        op.reg = R;
    } else if (form < 4) {
        op.rm = R;
        op.reg = compare ? R : RW;
        op.swap = true;
    } else {
        op.kind = JIT_ACCUMULATOR;
        op.imm = IMM_FULL;
    }
    return op;
}

/* A count of 0 leaves all flags; any other makes them all, in shifts also those that the manual
 * leaves undefined. */
static JitOp shift(const Insn *insn, bool byte, int count)
{
    unsigned digit = insn->modrm >> 3 & 7, mask = insn->op_size == 8 ? 63 : 31;
    bool rotate = digit < 4, carry = digit == 2 || digit == 3;
    bool counts = count == 1 || (count == 0 && insn->imm & mask); /* not by CL, perhaps 0 */
    JitOp op = {.kind = JIT_COPY,
                .rm = RW,
                .byte = byte,
                .imm = count == 0 ? IMM_8 : 0,
                .reads = carry ? JIT_CF : 0,
                .writes = rotate ? JIT_CF | JIT_OF : ALL};
    if (counts && !rotate)
        op.kills = ALL;
    else if (counts && !byte && insn->op_size != 2) /* RCL and RCR may go round */
        op.kills = JIT_CF;
    return op;
}

static JitOp group_3(const Insn *insn, bool byte)
{
    switch (insn->modrm >> 3 & 7) {
    case 0:
    case 1:
        return (JitOp){.kind = JIT_COPY,
                       .rm = R,
                       .imm = byte ? IMM_8 : IMM_FULL,
                       .byte = byte,
                       .writes = ALL,
                       .kills = ALL};
    case 2:
        return (JitOp){.kind = JIT_COPY, .rm = RW, .byte = byte};
    case 3:
        return (JitOp){.kind = JIT_COPY, .rm = RW, .byte = byte, .writes = ALL, .kills = ALL};
    case 4:
    case 5:
        return (JitOp){
            .kind = JIT_COPY, .rm = R, .byte = byte, .writes = ALL, .kills = JIT_CF | JIT_OF};
    case 6:
        return (JitOp){.kind = byte ? JIT_CALL : JIT_DIVIDE, .rm = R, .writes = ALL};
    default:
        return (JitOp){.kind = byte ? JIT_CALL : JIT_DIVIDE_SIGNED, .rm = R, .writes = ALL};
    }
}

static JitOp group_5(const Insn *insn, bool byte)
{
    switch (insn->modrm >> 3 & 7) {
    case 0:
    case 1:
        return (JitOp){.kind = JIT_COPY,
                       .rm = RW,
                       .byte = byte,
                       .writes = ALL & ~JIT_CF,
                       .kills = ALL & ~JIT_CF};
    case 2:
        return (JitOp){.kind = JIT_CALL_E};
    case 4:
        return (JitOp){.kind = JIT_JMP_E};
    case 6:
        return (JitOp){.kind = insn->flags & INSN_MEMORY ? JIT_PUSH_MEM : JIT_PUSH};
    default:
        return (JitOp){.kind = JIT_CALL};
    }
}

static JitOp call_handler(void)
{
    return (JitOp){.kind = JIT_CALL, .reads = ALL, .writes = ALL};
}

static JitOp x87(const Insn *insn)
{
    unsigned reg = insn->modrm >> 3 & 7;
    bool low = insn->opcode == 0xda || insn->opcode == 0xdb;
    if (insn->flags & INSN_MEMORY) {
        bool whole = (insn->opcode == 0xd9 && (reg == 4 || reg == 6)) ||
                     (insn->opcode == 0xdd && (reg == 4 || reg == 6));
        return whole ? call_handler() : (JitOp){.kind = JIT_X87}; /* environment, all */
    }
    if (insn->opcode == 0xdb && reg == 4 && insn->modrm != 0xe2) /* FNINIT, of older coprocessors */
        return call_handler();
    if (low && reg < 4) /* FCMOV */
        return (JitOp){.kind = JIT_X87, .reads = JIT_CF | JIT_PF | JIT_ZF};
    if ((insn->opcode == 0xdb || insn->opcode == 0xdf) && (reg == 5 || reg == 6)) /* FCOMI */
        return (JitOp){.kind = JIT_X87, .writes = ALL, .kills = ALL};
    return (JitOp){.kind = JIT_X87};
}

static JitOp one_byte(uint32_t mode, const Insn *insn)
{
    unsigned opcode = insn->opcode;
    bool byte = !(opcode & 1), mode64 = (mode & MODE_CODE_MASK) == MODE_CODE64,
         memory = insn->flags & INSN_MEMORY;
    if (opcode < 0x40 && (opcode & 7) < 6)
        return arithmetic(opcode >> 3, opcode & 7);
    switch (opcode) {
    case 0x40 ... 0x4f:
        return (JitOp){.kind = JIT_STEP, .writes = ALL & ~JIT_CF, .kills = ALL & ~JIT_CF};
    case 0x50 ... 0x57:
        return (JitOp){.kind = JIT_PUSH};
    case 0x58 ... 0x5f:
        return (JitOp){.kind = JIT_POP};
    case 0x63:
        if (!mode64 || insn->op_size != 8)
            break;
        return (JitOp){.kind = JIT_COPY, .rm = R, .reg = W, .memory = 4};
    case 0x68:
    case 0x6a:
        return (JitOp){.kind = JIT_PUSH_IMM};
    case 0x69:
    case 0x6b:
        return (JitOp){.kind = JIT_COPY,
                       .rm = R,
                       .reg = W,
                       .imm = opcode == 0x6b ? IMM_8 : IMM_FULL,
                       .writes = ALL,
                       .kills = JIT_CF | JIT_OF};
    case 0x70 ... 0x7f:
        return (JitOp){.kind = JIT_JCC, .reads = jit_condition_flags(opcode & 15)};
    case 0x80:
    case 0x81:
    case 0x82:
    case 0x83: {
        unsigned operation = insn->modrm >> 3 & 7;
        JitOp op = arithmetic(operation, byte ? 0 : 1);
        op.reg = ROLE_NONE;
        op.imm = opcode == 0x81 ? IMM_FULL : IMM_8;
        return op;
    }
    case 0x84:
    case 0x85:
        return (JitOp){
            .kind = JIT_COPY, .rm = R, .reg = R, .byte = byte, .writes = ALL, .kills = ALL};
    case 0x86:
    case 0x87:
        return (JitOp){.kind = JIT_COPY, .rm = RW, .reg = RW, .byte = byte};
    case 0x88:
    case 0x89:
        return (JitOp){.kind = JIT_COPY, .rm = W, .reg = R, .byte = byte};
    case 0x8a:
    case 0x8b:
        return (JitOp){.kind = JIT_COPY, .rm = R, .reg = W, .byte = byte, .swap = true};
    case 0x8d:
        return (JitOp){.kind = JIT_LEA};
    case 0xa0 ... 0xa3:
        if (mode64)
            break;
        return (JitOp){.kind = JIT_MOVE_OFFSET, .byte = byte};
    case 0x90:
        if (insn->rex & REX_B)
            return (JitOp){.kind = JIT_EXCHANGE};
        return (JitOp){.kind = insn->prefixes & PREFIX_REPE ? JIT_CALL : JIT_NOTHING};
    case 0x91 ... 0x97:
        return (JitOp){.kind = JIT_EXCHANGE};
    case 0x98:
    case 0x99:
        return (JitOp){.kind = JIT_PLAIN};
    case 0x9e:
        return (JitOp){.kind = JIT_PLAIN, .writes = ALL & ~JIT_OF, .kills = ALL & ~JIT_OF};
    case 0x9f:
        return (JitOp){.kind = JIT_PLAIN, .reads = ALL & ~JIT_OF};
    case 0xa4:
    case 0xa5:
    case 0xaa:
    case 0xab:
    case 0xac:
    case 0xad:
        return (JitOp){.kind = JIT_CALL};
    case 0xa8:
    case 0xa9:
        return (JitOp){
            .kind = JIT_ACCUMULATOR, .imm = IMM_FULL, .byte = byte, .writes = ALL, .kills = ALL};
    case 0xb0 ... 0xbf:
        return (JitOp){.kind = JIT_MOVE_IMM};
    case 0xc0:
    case 0xc1:
        return shift(insn, byte, 0);
    case 0xd0:
    case 0xd1:
        return shift(insn, byte, 1);
    case 0xd2:
    case 0xd3:
        return shift(insn, byte, -1);
    case 0xc2:
    case 0xc3:
        return (JitOp){.kind = JIT_RET};
    case 0xc6:
    case 0xc7:
        return (JitOp){.kind = JIT_COPY, .rm = W, .imm = byte ? IMM_8 : IMM_FULL, .byte = byte};
    case 0xc9:
        return (JitOp){.kind = JIT_LEAVE};
    case 0x9b:
        return (JitOp){.kind = JIT_X87};
    case 0xd8 ... 0xdf:
        return x87(insn);
    case 0xe2:
    case 0xe3:
        return (JitOp){.kind = JIT_LOOP};
    case 0xe8:
        return (JitOp){.kind = JIT_CALL_REL};
    case 0xe9:
    case 0xeb:
        return (JitOp){.kind = JIT_JMP};
    case 0xf5:
        return (JitOp){.kind = JIT_PLAIN, .reads = JIT_CF, .writes = JIT_CF, .kills = JIT_CF};
    case 0xf8:
    case 0xf9:
        return (JitOp){.kind = JIT_PLAIN, .writes = JIT_CF, .kills = JIT_CF};
    case 0xf6:
    case 0xf7:
        return group_3(insn, byte);
    case 0xfe:
    case 0xff:
        return byte && (insn->modrm >> 3 & 7) > 1 ? call_handler() : group_5(insn, byte);
    }
    (void)memory;
    return call_handler();
}

static JitOp two_bytes(const Insn *insn)
{
    unsigned opcode = insn->opcode;
    bool memory = insn->flags & INSN_MEMORY;
    switch (opcode) {
    case 0x0d:
    case 0x18 ... 0x1f:
        return (JitOp){.kind = JIT_NOTHING};
    case 0x40 ... 0x4f:
        return (JitOp){
            .kind = JIT_COPY, .rm = R, .reg = RW, .reads = jit_condition_flags(opcode & 15)};
    case 0x80 ... 0x8f:
        return (JitOp){.kind = JIT_JCC, .reads = jit_condition_flags(opcode & 15)};
    case 0x90 ... 0x9f:
        return (JitOp){.kind = JIT_COPY,
                       .rm = W,
                       .byte = 1,
                       .memory = 1,
                       .reads = jit_condition_flags(opcode & 15)};
    case 0xa3:
    case 0xab:
    case 0xb3:
    case 0xbb:
        if (memory)
            break;
        return (JitOp){.kind = JIT_COPY,
                       .rm = opcode == 0xa3 ? R : RW,
                       .reg = R,
                       .writes = ALL,
                       .kills = JIT_CF};
    case 0xba:
        return (JitOp){.kind = JIT_COPY,
                       .rm = (insn->modrm >> 3 & 7) == 4 ? R : RW,
                       .imm = IMM_8,
                       .writes = ALL,
                       .kills = JIT_CF};
    case 0xa4:
    case 0xac:
        return (JitOp){.kind = JIT_COPY, .rm = RW, .reg = R, .imm = IMM_8, .writes = ALL};
    case 0xa5:
    case 0xad:
        return (JitOp){.kind = JIT_COPY, .rm = RW, .reg = R, .writes = ALL};
    case 0xaf:
        return (JitOp){
            .kind = JIT_COPY, .rm = R, .reg = RW, .writes = ALL, .kills = JIT_CF | JIT_OF};
    case 0xb0:
    case 0xb1:
        return (JitOp){.kind = JIT_COPY,
                       .rm = RW,
                       .reg = R,
                       .byte = opcode == 0xb0,
                       .writes = ALL,
                       .kills = ALL};
    case 0xb6:
    case 0xbe:
        return (JitOp){.kind = JIT_COPY, .rm = R, .reg = W, .memory = 1, .byte = 2};
    case 0xb7:
    case 0xbf:
        return (JitOp){.kind = JIT_COPY, .rm = R, .reg = W, .memory = 2};
    case 0xb8:
        return (JitOp){.kind = JIT_COPY, .rm = R, .reg = W, .writes = ALL, .kills = ALL};
    case 0xbc:
    case 0xbd:
        return (JitOp){.kind = JIT_COPY, .rm = R, .reg = RW, .writes = ALL};
    case 0xc0:
    case 0xc1:
        return (JitOp){.kind = JIT_COPY,
                       .rm = RW,
                       .reg = RW,
                       .byte = opcode == 0xc0,
                       .writes = ALL,
                       .kills = ALL};
    case 0xc8 ... 0xcf:
        return (JitOp){.kind = JIT_SWAP_BYTES};
    case 0xa2:
    case 0x31:
        return (JitOp){.kind = JIT_CALL};
    case 0xae:
        if (insn->fn == op_fence)
            return (JitOp){.kind = JIT_FENCE};
        return call_handler();
    case 0xc7: /* CMPXCHG8B, CMPXCHG16B */
        if (!memory || (insn->modrm >> 3 & 7) != 1)
            return call_handler();
        return (JitOp){.kind = JIT_COPY,
                       .rm = RW,
                       .memory = insn->op_size == 8 ? 16 : 8,
                       .writes = JIT_ZF,
                       .kills = JIT_ZF};
    case 0xc3:
        return call_handler();
    case 0x77:
        return (JitOp){.kind = JIT_X87}; /* EMMS */
    case 0x10 ... 0x17:
    case 0x28 ... 0x2f:
    case 0x50 ... 0x76:
    case 0x7c ... 0x7f:
    case 0xc2:
    case 0xc4 ... 0xc6:
    case 0xd0 ... 0xfe:
        return (JitOp){.kind = JIT_SIMD};
    }
    return call_handler();
}

/* VEX on general registers: rm and vvvv are read and reg written, or as said. */
static JitOp bmi(const Insn *insn)
{
    const unsigned flags = JIT_CF | JIT_ZF | JIT_SF | JIT_OF;
    bool plain = !(insn->prefixes & (PREFIX_OPSIZE | PREFIX_REPE | PREFIX_REPNE));
    if (insn->op_size < 4)
        return call_handler();
    switch (insn->opcode) {
    case 0xf0:
        return (JitOp){.kind = JIT_BMI, .rm = R, .reg = W, .imm = IMM_8}; /* RORX */
    case 0xf2:
        return (JitOp){.kind = JIT_BMI, .rm = R, .reg = W, .writes = ALL, .kills = flags};
    case 0xf3:
        return (JitOp){.kind = JIT_BMI, .rm = R, .writes = ALL, .kills = flags}; /* writes vvvv */
    case 0xf5:
    case 0xf7:
        return (JitOp){.kind = JIT_BMI,
                       .rm = R,
                       .reg = W,
                       .writes = plain ? ALL : 0,
                       .kills = plain ? JIT_CF | JIT_ZF | JIT_OF : 0};
    case 0xf6:
        return (JitOp){.kind = JIT_BMI, .rm = R, .reg = W}; /* MULX writes vvvv, too */
    default:
        return call_handler();
    }
}

static JitOp simd(const Insn *insn)
{
    unsigned prefix = insn->prefixes & PREFIX_REPE     ? SIMD_F3
                      : insn->prefixes & PREFIX_REPNE  ? SIMD_F2
                      : insn->prefixes & PREFIX_OPSIZE ? SIMD_66
                                                       : SIMD_NP;
    bool vex = insn->prefixes & PREFIX_VEX;
    const SimdRow *row = simd_find_row(insn->map, insn->opcode, prefix, insn->modrm, vex,
                                       vex && insn->rex & VEX_L, insn->rex & REX_W);
    JitOp op = {.kind = JIT_SIMD};
    if (!row)
        return call_handler();
    op.rm = row->flags & SIMD_STORE ? W : R;
    op.reg = row->flags & (SIMD_REG_GPR | SIMD_RM_GPR) ? RW : ROLE_NONE; /* general registers */
    if (row->flags & (SIMD_EFLAGS | SIMD_PCMPSTR))
        op.writes = op.kills = ALL;
    return op;
}

typedef struct SystemRow {
    InsnFn fn;
    uint8_t kind;
    uint8_t op_size; /* the only one, or 0: any */
    bool mode64;     /* there alone */
    bool ring0;      /* at CPL 0 alone */
    uint8_t reads;
} SystemRow;

static const SystemRow system_rows[] = {
    {op_cli, JIT_CLI, 0, false, true},
    {op_sti, JIT_STI, 0, false, true},
    {op_cld, JIT_CLD},
    {op_std, JIT_STD},
    {op_pushf, JIT_PUSHF, .reads = ALL},
    {op_stac, JIT_STAC, 0, false, true},
    {op_clac, JIT_CLAC, 0, false, true},
    {op_swapgs, JIT_SWAPGS, 0, true, true},
    {op_rdtsc, JIT_RDTSC},
    {op_syscall, JIT_SYSCALL, 0, true, false, ALL},
    {op_sysret, JIT_SYSRET, 8, true, true, ALL},
    {op_iret, JIT_IRETQ, 8, true, true, ALL},
};

/* MOVS, STOS; CMPS, SCAS, which write flags unless RCX is 0. */
static bool is_repeated(const Insn *insn)
{
    unsigned opcode = insn->map == MAP_ONE_BYTE ? insn->opcode & 0xfe : 0;
    bool based = insn->segment == SEG_FS || insn->segment == SEG_GS;
    return (opcode == 0xa4 || opcode == 0xa6 || opcode == 0xaa || opcode == 0xae) &&
           insn->prefixes & (PREFIX_REPE | PREFIX_REPNE) && insn->addr_size == 8 && !based;
}

/* Mathematical libraries look at it in each function. */
static bool is_stmxcsr(const Insn *insn)
{
    return insn->map == MAP_0F && insn->opcode == 0xae && insn->flags & INSN_MEMORY &&
           insn_modrm_reg(insn) == 3 &&
           !(insn->prefixes & (PREFIX_OPSIZE | PREFIX_REPE | PREFIX_REPNE));
}

/* System instructions that programs and kernels execute all the time. */
static JitOp system_op(uint32_t mode, const Insn *insn)
{
    bool mode64 = (mode & MODE_CODE_MASK) == MODE_CODE64;
    bool ring0 = !(mode & 3 << MODE_CPL_SHIFT);
    for (unsigned i = 0; i < G_N_ELEMENTS(system_rows); i++) {
        const SystemRow *row = &system_rows[i];
        if (row->fn == insn->fn && (!row->op_size || row->op_size == insn->op_size) &&
            (!row->mode64 || mode64) && (!row->ring0 || ring0))
            return (JitOp){.kind = row->kind, .reads = row->reads};
    }
    if (mode64 && is_repeated(insn))
        return (JitOp){.kind = JIT_REPEAT, .writes = (insn->opcode & 0xf6) == 0xa6 ? ALL : 0};
    if (is_stmxcsr(insn))
        return (JitOp){.kind = JIT_STMXCSR};
    if (insn->fn == op_mov_from_cr && mode64 && ring0 && (insn->reg == 2 || insn->reg == 3))
        return (JitOp){.kind = insn->reg == 2 ? JIT_READ_CR2 : JIT_READ_CR3};
    if (insn->fn == op_mov_from_seg && !(insn->flags & INSN_MEMORY) && insn->op_size >= 4 &&
        (insn->modrm >> 3 & 7) < SEG_COUNT)
        return (JitOp){.kind = JIT_READ_SEG};
    return call_handler();
}

unsigned jit_loaded_segment(const Insn *insn)
{
    if (insn->fn == op_mov_to_seg)
        return insn_modrm_reg(insn);
    if (insn->fn == op_pop_seg)
        return insn->reg;
    if (insn->map == MAP_ONE_BYTE)
        return insn->opcode == 0xc4 ? SEG_ES : SEG_DS;
    return insn->opcode == 0xb2 ? SEG_SS : insn->opcode == 0xb4 ? SEG_FS : SEG_GS;
}

/* In real and virtual-8086 mode. */
static JitOp paragraph_op(const Insn *insn)
{
    static const struct {
        InsnFn fn;
        uint8_t far;
    } far[] = {
        {op_far_jmp_imm, JIT_FAR_JUMP},  {op_far_jmp_mem, JIT_FAR_JUMP},
        {op_far_call_imm, JIT_FAR_CALL}, {op_far_call_mem, JIT_FAR_CALL},
        {op_far_ret, JIT_FAR_RETURN},    {op_far_ret_imm, JIT_FAR_RETURN},
        {op_int, JIT_FAR_INT},           {op_iret, JIT_FAR_IRET},
    };
    bool loads = insn->fn == op_mov_to_seg || insn->fn == op_load_far_pointer ||
                 (insn->fn == op_pop_seg && insn->op_size == 2);
    if (loads && jit_loaded_segment(insn) != SEG_SS && jit_loaded_segment(insn) != SEG_CS &&
        jit_loaded_segment(insn) < SEG_COUNT)
        return (JitOp){.kind = JIT_LOAD_SEG};
    for (unsigned i = 0; i < G_N_ELEMENTS(far); i++)
        if (insn->fn == far[i].fn && insn->op_size == 2)
            return (JitOp){.kind = JIT_FAR, .reads = ALL, .far = far[i].far};
    return call_handler();
}

static JitOp segmented_op(uint32_t mode, const Insn *insn)
{
    bool repeated = insn->prefixes & (PREFIX_REPE | PREFIX_REPNE);
    unsigned string = insn->map == MAP_ONE_BYTE ? insn->opcode & 0xfe : 0;
    if ((string == 0xa4 || string == 0xaa || string == 0xac) && !repeated)
        return (JitOp){.kind = JIT_STRING};
    if (insn->fn == op_push_seg && insn->op_size == 2)
        return (JitOp){.kind = JIT_PUSH_SEG};
    if (insn->fn == op_mov_from_seg && insn_modrm_reg(insn) < SEG_COUNT)
        return (JitOp){.kind = JIT_READ_SEG};
    return mode & MODE_PROTECTED ? call_handler() : paragraph_op(insn);
}

/* CRC32, MOVBE, ADCX and ADOX. */
static JitOp general_0f38(const Insn *insn)
{
    unsigned opcode = insn->opcode, carry = insn->prefixes & PREFIX_REPE ? JIT_OF : JIT_CF;
    if (opcode == 0xf6 && !(carry == JIT_OF && insn->prefixes & PREFIX_OPSIZE))
        return (JitOp){.kind = JIT_COPY,
                       .rm = R,
                       .reg = RW,
                       .memory = MAX(insn->op_size, 4),
                       .reads = carry,
                       .writes = carry,
                       .kills = carry};
    if ((opcode & 0xfe) != 0xf0)
        return call_handler();
    if (insn->prefixes & PREFIX_REPNE)
        return (JitOp){.kind = JIT_COPY,
                       .rm = R,
                       .reg = RW,
                       .byte = opcode == 0xf0 ? 2 : 0,
                       .memory = opcode == 0xf0};
    return opcode == 0xf0 ? (JitOp){.kind = JIT_COPY, .rm = R, .reg = W}
                          : (JitOp){.kind = JIT_COPY, .rm = W, .reg = R};
}

JitOp jit_classify(uint32_t mode, const Insn *insn)
{
    static const JitOp stmxcsr = {.kind = JIT_STMXCSR};
    JitOp op;
    bool segment_check =
        insn->flags & INSN_SEG_CHECK || (insn->flags & INSN_MEMORY && insn->addr_size == 2);
    if (insn->fn == op_ud || insn->fn == op_too_long || (segment_check && !jit_is_segmented(mode)))
        return call_handler();
    if (insn->prefixes & PREFIX_VEX) {
        if (insn->map == MAP_0F && insn->opcode == 0x77) /* VZEROUPPER, VZEROALL */
            return (JitOp){.kind = JIT_SIMD};
        bool general = (insn->map == MAP_0F38 && insn->opcode >= 0xf0) ||
                       (insn->map == MAP_0F3A && insn->opcode == 0xf0);
        return general ? bmi(insn) : is_stmxcsr(insn) ? stmxcsr : simd(insn);
    }
    switch (insn->map) {
    case MAP_ONE_BYTE:
        op = one_byte(mode, insn);
        break;
    case MAP_0F:
        op = two_bytes(insn);
        if (op.kind == JIT_SIMD)
            op = simd(insn);
        break;
    default:
        if (insn->map == MAP_0F38 && insn->opcode >= 0xf0)
            return general_0f38(insn);
        return simd(insn);
    }
    if (op.kind == JIT_CALL) {
        JitOp own = system_op(mode, insn);
        if (own.kind == JIT_CALL && jit_is_segmented(mode))
            own = segmented_op(mode, insn);
        op = own.kind == JIT_CALL ? op : own;
    }
    if (op.kind == JIT_CALL && op.writes && !op.reads)
        op.reads = ALL;
    return op;
}

/* ---- registers ----------------------------------------------------------------------------- */

#define SET(guest) (1u << (guest))
#define EVERY      0xffffu

static unsigned written_by_copy(const Insn *insn, const JitOp *op)
{
    bool memory = insn->flags & INSN_MEMORY, swap = op->swap && !memory;
    unsigned rm_role = swap ? op->reg : op->rm, reg_role = swap ? op->rm : op->reg, set = 0;
    if (!memory && rm_role & W)
        set |= SET(op->byte ? insn->rm / 8 : insn->rm);
    if (reg_role & W)
        set |= SET(op->byte == 1 ? insn->reg / 8 : insn->reg);
    if (insn->map == MAP_ONE_BYTE && (insn->opcode & 0xfe) == 0xf6 && insn->modrm & 0x20)
        set |= SET(GPR_RAX) | SET(GPR_RDX); /* MUL, IMUL */
    if (insn->map == MAP_0F && ((insn->opcode & 0xfe) == 0xb0 || insn->opcode == 0xc7))
        set |= SET(GPR_RAX) | SET(GPR_RDX); /* CMPXCHG of all kinds */
    return set;
}

unsigned jit_written(const Insn *insn, const JitOp *op)
{
    switch (op->kind) {
    case JIT_COPY:
        return written_by_copy(insn, op);
    case JIT_NOTHING:
    case JIT_FENCE:
    case JIT_STMXCSR:
    case JIT_JCC:
    case JIT_JMP:
    case JIT_JMP_E:
        return 0;
    case JIT_PLAIN:
    case JIT_DIVIDE:
    case JIT_DIVIDE_SIGNED:
        return SET(GPR_RAX) | SET(GPR_RDX);
    case JIT_ACCUMULATOR: /* CMP and TEST write nothing */
        return (insn->opcode & 0xfe) == 0x3c || (insn->opcode & 0xfe) == 0xa8 ? 0 : SET(GPR_RAX);
    case JIT_MOVE_OFFSET:
    case JIT_X87:
        return SET(GPR_RAX);
    case JIT_LOOP:
        return SET(GPR_RCX);
    case JIT_MOVE_IMM:
        return SET(insn->opcode < 0xb8 ? insn->rm / 8 : insn->rm);
    case JIT_EXCHANGE:
        return SET(GPR_RAX) | SET(insn->rm);
    case JIT_STEP:
    case JIT_SWAP_BYTES:
        return SET(insn->rm);
    case JIT_LEA:
        return SET(insn->reg);
    case JIT_PUSH:
    case JIT_PUSH_IMM:
    case JIT_PUSH_MEM:
    case JIT_CALL_REL:
    case JIT_CALL_E:
    case JIT_RET:
        return SET(GPR_RSP);
    case JIT_POP:
        return SET(GPR_RSP) | SET(insn->rm);
    case JIT_BMI:
        return SET(insn->reg & 15) | SET(insn->vvvv & 15);
    case JIT_PUSH_SEG:
        return SET(GPR_RSP);
    case JIT_READ_SEG:
        return insn->flags & INSN_MEMORY ? 0 : SET(insn->rm);
    case JIT_LOAD_SEG:
        return SET(GPR_RSP) | SET(insn->reg & 15);
    case JIT_STRING:
        return SET(GPR_RAX) | SET(GPR_RSI) | SET(GPR_RDI);
    case JIT_REPEAT:
        return SET(GPR_RCX) | SET(GPR_RSI) | SET(GPR_RDI);
    case JIT_SIMD:
        return op->reg ? SET(insn->reg & 15) | SET(insn->rm & 15) : 0;
    default:
        return EVERY;
    }
}

/* ADD and SUB of an immediate, INC, DEC. */
static bool copy_is_step(const Insn *insn, const JitOp *op, int64_t *ret_by)
{
    unsigned operation = insn_modrm_reg(insn);
    if (insn->flags & INSN_MEMORY || insn->map != MAP_ONE_BYTE || op->byte)
        return false;
    if (insn->opcode == 0xff) {
        *ret_by = operation ? -1 : 1;
        return operation < 2;
    }
    *ret_by = operation ? -(int64_t)insn->imm : (int64_t)insn->imm;
    return (insn->opcode == 0x81 || insn->opcode == 0x83) && (operation == 0 || operation == 5);
}

bool jit_is_step(uint32_t mode, const Insn *insn, const JitOp *op, unsigned *ret_reg,
                 int64_t *ret_by)
{
    unsigned size = (mode & MODE_CODE_MASK) == MODE_CODE64 ? 8 : 4;
    *ret_reg = insn->rm;
    *ret_by = 0;
    bool branch =
        op->kind >= JIT_JCC && op->kind <= JIT_RET; /* op_size says 4 in 64-bit code, too */
    bool stack = branch || (op->kind >= JIT_PUSH && op->kind <= JIT_LEAVE);
    if ((insn->op_size != size && !(branch && insn->op_size != 2)) ||
        (stack && jit_is_segmented(mode)))
        return false;
    switch (op->kind) {
    case JIT_COPY:
        return copy_is_step(insn, op, ret_by);
    case JIT_STEP:
        *ret_by = insn->opcode & 8 ? -1 : 1;
        return true;
    case JIT_LEA:
        *ret_reg = insn->reg;
        *ret_by = insn->disp;
        return insn->base == insn->reg && insn->index == GPR_NONE && insn->addr_size == size;
    case JIT_PUSH:
    case JIT_PUSH_IMM:
    case JIT_PUSH_MEM:
    case JIT_CALL_REL:
    case JIT_CALL_E:
        *ret_reg = GPR_RSP;
        *ret_by = -(int64_t)size;
        return true;
    case JIT_RET:
        *ret_reg = GPR_RSP;
        *ret_by = size + (int64_t)insn->imm;
        return true;
    case JIT_POP: /* RSP's part of it */
        *ret_reg = GPR_RSP;
        *ret_by = size;
        return insn->rm != GPR_RSP;
    default:
        return false;
    }
}

/* ---- blocks -------------------------------------------------------------------------------- */

bool jit_goes_on(const Insn *insn)
{
    bool memory = insn->flags & INSN_MEMORY;
    if (insn->fn == op_ud || insn->fn == op_too_long)
        return false;
    if (insn->fn == op_pop_seg || insn->fn == op_load_far_pointer)
        return true;
    if (insn->map == MAP_ONE_BYTE) /* POPF, OUT, MOV to a segment register */
        return insn->opcode == 0x9d || insn->opcode == 0x8e || (insn->opcode & 0xf6) == 0xe6;
    if (insn->map != MAP_0F)
        return false;
    switch (insn->opcode) {
    case 0x01:
        return memory && (insn->modrm >> 3 & 7) == 7; /* INVLPG */
    case 0x22:                                        /* MOV CR */
    case 0x30:
    case 0x32:
        return true; /* WRMSR, RDMSR */
    default:
        return false;
    }
}

unsigned jit_block_live_flags(const Block *block)
{
    unsigned open = ALL, live = 0;
    for (unsigned i = 0; i < block->count && open; i++) {
        JitOp op = jit_classify(block->mode, &block->insns[i]);
        live |= op.reads & open;
        if (op.kind == JIT_JCC || (op.kind >= JIT_JCC && op.kind <= JIT_RET) ||
            (op.kind == JIT_CALL && op.reads))
            return live | open; /* what comes there may read all */
        open &= ~op.kills;
    }
    return live | open;
}
