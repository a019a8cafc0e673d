/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See simd_kit.h: encodings and what they are checked by. */
#include "cpu/soft/simd_kit.h"

#include <Zydis/Zydis.h>
#include <inttypes.h>

/* ---- encodings ------------------------------------------------------------------------------- */

void encode(Encoding *e)
{
    static const uint8_t prefixes[] = {0, 0x66, 0xf3, 0xf2};
    uint8_t *at = e->bytes;
    unsigned r = e->reg >> 3, b = e->memory ? 0 : e->rm >> 3;
    if (e->vex) {
        PUT(&at, 0xc4, !r << 7 | 0x40 | !b << 5 | e->map,
            e->w << 7 | (~e->vvvv & 15) << 3 | e->l << 2 | e->prefix, e->opcode);
    } else {
        if (e->prefix)
            PUT(&at, prefixes[e->prefix]);
        if (e->w || r || b)
            PUT(&at, 0x40 | (e->w ? 8 : 0) | r << 2 | b);
        PUT(&at, 0x0f);
        if (e->map != MAP_0F)
            PUT(&at, e->map == MAP_0F38 ? 0x38 : 0x3a);
        PUT(&at, e->opcode);
    }
    if (e->memory)
        PUT(&at, 0x40 | (e->reg & 7) << 3 | 3, e->disp);
    else
        PUT(&at, 0xc0 | (e->reg & 7) << 3 | (e->rm & 7));
    if (e->has_imm)
        PUT(&at, e->imm);
    e->size = at - e->bytes;
}

/* What the decoder makes of it. */
void decode(const Encoding *e, Insn *insn)
{
    static const uint8_t prefixes[] = {0, PREFIX_OPSIZE, PREFIX_REPE, PREFIX_REPNE};
    *insn = (Insn){
        .imm = e->has_imm ? e->imm : 0,
        .addr_mask = UINT64_MAX,
        .disp = e->memory ? (int8_t)e->disp : 0,
        .base = e->memory ? GPR_RBX : GPR_NONE,
        .index = GPR_NONE,
        .segment = SEG_DS,
        .reg = e->reg,
        .rm = e->rm,
        .vvvv = e->vvvv,
        .length = e->size,
        .opcode = e->opcode,
        .map = e->map,
        .modrm = (e->memory ? 0x43 : 0xc0 | (e->rm & 7)) | (e->reg & 7) << 3,
        .prefixes = prefixes[e->prefix] | (e->vex ? PREFIX_VEX : 0),
        .rex = (e->w ? REX_W : 0) | (e->l ? VEX_L : 0) | (e->reg >> 3 ? REX_R : 0),
        .flags = e->memory ? INSN_MEMORY : 0,
        .op_size = e->w                   ? 8
                   : e->prefix == SIMD_66 ? 2
                                          : 4,
        .addr_size = 8,
    };
}

static char *describe(const uint8_t *bytes, unsigned size)
{
    GString *text = g_string_new(NULL);
    ZydisDisassembledInstruction insn;
    for (unsigned i = 0; i < size; i++)
        g_string_append_printf(text, "%02x ", bytes[i]);
    if (ZYAN_SUCCESS(ZydisDisassembleIntel(ZYDIS_MACHINE_MODE_LONG_64, 0, bytes, size, &insn)))
        g_string_append(text, insn.text);
    return g_string_free(text, FALSE);
}

unsigned failures;

void complain(const uint8_t *bytes, unsigned size, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    g_autofree char *what = g_strdup_vprintf(format, arguments), *text = describe(bytes, size);
    va_end(arguments);
    if (failures++ < 40)
        g_test_message("%s: %s", text, what);
}

static char *hex(const uint8_t *bytes, unsigned size)
{
    GString *text = g_string_new(NULL);
    for (unsigned i = size; i-- > 0;)
        g_string_append_printf(text, "%02x", bytes[i]);
    return g_string_free(text, FALSE);
}

static void expect_bytes(const Encoding *e, const char *what, unsigned n, const uint8_t *ours,
                         const uint8_t *host, unsigned size)
{
    if (memcmp(ours, host, size) == 0)
        return;
    g_autofree char *a = hex(ours, size), *b = hex(host, size);
    complain(e->bytes, e->size, "%s%u is %s, the host has %s", what, n, a, b);
}
#define FLAGS_TESTED FLAGS_ARITHMETIC

void compare_states(const Encoding *e, const Native *native, bool x87)
{
    FpuState fpu = cpu->s.fpu;
    x87_to_architectural(&fpu);
    for (unsigned i = 0; i < 16; i++)
        if (i != GPR_RSP && cpu->s.gpr[i] != native->gpr[i])
            complain(e->bytes, e->size, "GPR %u is %016" PRIx64 ", the host has %016" PRIx64, i,
                     cpu->s.gpr[i], native->gpr[i]);
    if ((flags_get(cpu) ^ native->flags) & FLAGS_TESTED)
        complain(e->bytes, e->size, "flags are %x, the host has %x", (unsigned)flags_get(cpu),
                 (unsigned)native->flags);
    if (fpu.mxcsr != load_le32(native->after + 24))
        complain(e->bytes, e->size, "MXCSR is %x, the host has %x, before %x", fpu.mxcsr,
                 load_le32(native->after + 24), load_le32(native->before + 24));
    for (unsigned i = 0; i < 16; i++) {
        expect_bytes(e, "XMM", i, fpu.xmm[i], native->after + 160 + i * 16, 16);
        expect_bytes(e, "YMM high ", i, fpu.ymm_high[i], native->after + 576 + i * 16, 16);
    }
    expect_bytes(e, "FCW", 0, (uint8_t *)&fpu.fcw, native->after, 2);
    bool fcomi = x87 && (e->bytes[0] == 0xdb || e->bytes[0] == 0xdf) && e->bytes[1] >= 0xe8;
    uint16_t ours = fpu.fsw,
             host = load_le16(native->after + 2) & ~(fcomi ? 0x200 : 0); /* C1: AMD differs */
    expect_bytes(e, "FSW", 0, (uint8_t *)&ours, (uint8_t *)&host, 2);
    expect_bytes(e, "FTW", 0, &fpu.ftw_abridged, native->after + 4, 1);
    for (unsigned i = 0; i < 8; i++)
        expect_bytes(e, "ST", i, fpu.st[i], native->after + 32 + i * 16, 10);
}

void random_native(Native *native)
{
    memset(native, 0, sizeof(*native));
    for (unsigned i = 0; i < 16; i++)
        native->gpr[i] = random_lane();
    native->flags = 2 | (random64() & FLAGS_ARITHMETIC);
    store_le16(native->before, 0x37f);
    store_le16(native->before + 2, random_below(8) << 11);
    native->before[4] = random64();
    store_le32(native->before + 24, 0x1f80);
    for (unsigned i = 0; i < 8; i++)
        random_extended(native->before + 32 + i * 16);
    random_bytes(native->before + 160, 256);
    random_bytes(native->before + 576, 256);
    native->before[512] = 7;
}

uint32_t random_mxcsr(void)
{
    switch (random_below(4)) {
    case 0:
        return 0x1f80;
    case 1:
        return 0x1f80 | (random64() & 0x3f);
    case 2:
        return 0x1f80 | (random64() & 0xe07f);
    default:
        return random64() & 0xffff;
    }
}

/* Both runs of one encoding on one random state. `x87`: all of the x87 state is random. */
void check_encoding(Encoding *e, Insn *insns, unsigned memory_bytes, bool aligned, bool misalign,
                    bool x87)
{
    static Native native;
    static uint8_t initial[GUEST_PAGE_SIZE], native_memory[GUEST_PAGE_SIZE];
    random_native(&native);
    store_le32(native.before + 24, random_mxcsr());
    if (x87) {
        uint16_t fcw = random_below(2) ? 0x37f : (random64() & 0x1f3f) | 0x40;
        if (random_below(3) == 0)
            fcw |= 0x3f;
        store_le16(native.before, fcw);
        store_le16(native.before + 2, (random64() & 0x7f00) |
                                          (random_below(2) ? random64() & fcw & 0x3f : 0) |
                                          (random64() & 0x40));
        if (random_below(3))
            native.before[4] = random_below(2) ? 0xff : 0x7f << random_below(2);
    }
    if (memory_bytes) { /* at the end of the page more often than not: the host tells the operand's
                           size */
        uint64_t address = (uintptr_t)memory + GUEST_PAGE_SIZE - memory_bytes;
        if (random_below(3) == 0)
            address -= aligned ? align_up(memory_bytes, 64) : memory_bytes + random_below(32);
        if (misalign && random_below(16) == 0)
            address -= 1 + random_below(15);
        native.gpr[GPR_RBX] = address - (int8_t)e->disp;
        native.gpr[GPR_RDI] = address;
    }
    random_bytes(initial + GUEST_PAGE_SIZE - 256, 256);
    if (x87 && random_below(2)) /* BCD and extended operands, too */
        for (unsigned i = 1; i <= 10; i++)
            initial[GUEST_PAGE_SIZE - i] = random_below(10) << 4 | random_below(10);
    memcpy(memory, initial, GUEST_PAGE_SIZE);
    emulate_prepare(&native, random_below(4) != 0);
    bool native_ok = run_native(&native, e->bytes, e->size);
    memcpy(native_memory, memory, GUEST_PAGE_SIZE);
    memcpy(memory, initial, GUEST_PAGE_SIZE);
    bool ok = emulate(insns);
    if (ok != native_ok || (!ok && raised != native_fault)) {
        complain(e->bytes, e->size, "raised %d, the host %d; mxcsr %x", ok ? -1 : raised,
                 native_fault, load_le32(native.before + 24));
        return;
    }
    if (memcmp(memory, native_memory, GUEST_PAGE_SIZE) != 0)
        expect_bytes(e, "memory", 0, memory + GUEST_PAGE_SIZE - 64,
                     native_memory + GUEST_PAGE_SIZE - 64, 64);
    if (ok) {
        compare_states(e, &native, x87);
    } else if (raised == EXC_XM) {
        /* PE is known to differ with an unmasked OE or UE; DPPS and DPPD are several operations. */
        bool dot = e->map == MAP_0F3A && (e->opcode == 0x40 || e->opcode == 0x41);
        if (!dot && ((cpu->s.fpu.mxcsr ^ native_fault_mxcsr) & ~0x20))
            complain(e->bytes, e->size, "faulting MXCSR is %x, the host has %x, before %x",
                     cpu->s.fpu.mxcsr, native_fault_mxcsr, load_le32(native.before + 24));
    }
}

void x87_encoding(Encoding *e, Insn *insn, uint8_t opcode, uint8_t modrm)
{
    *e = (Encoding){.memory = modrm < 0xc0, .size = 2};
    e->bytes[0] = opcode;
    e->bytes[1] = modrm;
    if (e->memory) {
        e->bytes[1] = 0x43 | (modrm & 0x38);
        e->bytes[2] = e->disp = 0x10;
        e->size = 3;
    }
    *insn = (Insn){.addr_mask = UINT64_MAX,
                   .disp = e->disp,
                   .base = e->memory ? GPR_RBX : GPR_NONE,
                   .index = GPR_NONE,
                   .segment = SEG_DS,
                   .opcode = opcode,
                   .modrm = e->bytes[1],
                   .length = e->size,
                   .flags = e->memory ? INSN_MEMORY : 0,
                   .op_size = 4,
                   .addr_size = 8};
}

/* ---- plain cases ----------------------------------------------------------------------------- */

/* An initial FPU, [rbx] on the page. */
void prepare_plain(Native *native)
{
    random_native(native);
    store_le16(native->before + 2, 0);
    native->before[4] = 0;
    native->gpr[GPR_RBX] = (uintptr_t)memory;
    emulate_prepare(native, true);
}

void simd_insn(Insn *insns, uint8_t opcode, unsigned prefix, bool vex, bool memory_form)
{
    Encoding e = {.map = MAP_0F,
                  .opcode = opcode,
                  .prefix = prefix,
                  .vex = vex,
                  .memory = memory_form,
                  .reg = 1,
                  .rm = 2};
    encode(&e);
    decode(&e, insns);
}

void x87_insn(Insn *insns, uint8_t opcode, uint8_t modrm)
{
    Encoding e;
    x87_encoding(&e, insns, opcode, modrm);
}

/* What one instruction raises (-1: nothing) with these control registers; -2: refused when decoded.
 */
int outcome(Insn *insns, bool x87, uint64_t cr0, uint64_t cr4, uint64_t xcr0)
{
    static Native native;
    uint32_t mode = MODE_TEST;
    if (cr0 & (CR0_EM | CR0_TS))
        mode |= MODE_FPU_TRAP;
    if ((cr0 & CR0_EM) || !(cr4 & CR4_OSFXSR))
        mode |= MODE_SSE_OFF;
    if (!(cr4 & CR4_OSXSAVE) || !(xcr0 & XCR0_AVX))
        mode |= MODE_AVX_OFF;
    prepare_plain(&native);
    cpu->s.cr0 = CR0_PE | CR0_NE | cr0;
    cpu->s.cr4 = cr4;
    cpu->s.xcr0 = xcr0;
    int vector = -2;
    if ((x87 ? x87_select : simd_select)(mode, &model, insns)) {
        emulate(insns);
        vector = raised;
    }
    cpu->s.cr0 = CR0_PE | CR0_NE;
    cpu->s.cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
    cpu->s.xcr0 = 7;
    return vector;
}
