/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * See gdb_registers.h. Numbers are places in the table. Segment selectors, bases and control
 * registers can be looked at only: what hangs on them is more than a value.
 */
#include "runner/gdb_registers.h"

#include <string.h>

enum { CORE, SSE, AVX, SEGMENTS, SYSTEM, FEATURE_COUNT };
static const char *const features[] = {
    [CORE] = "org.gnu.gdb.i386.core", [SSE] = "org.gnu.gdb.i386.sse",
    [AVX] = "org.gnu.gdb.i386.avx",   [SEGMENTS] = "org.gnu.gdb.i386.segments",
    [SYSTEM] = "org.ospite.system",
};

typedef enum Access { READ_ONLY, WRITABLE, FLAGS, TAGS, MXCSR } Access;

typedef struct Register {
    const char *name, *type;
    uint8_t feature, size, width; /* bytes for GDB; bytes of them in CpuState, else 0 */
    uint8_t access;
    uint16_t offset; /* in CpuState */
} Register;

#define AT(member) offsetof(CpuState, member)
#define GPR(name, id)                                               \
    {                                                               \
        name, "int64", CORE, 8, 8, WRITABLE, AT(gpr) + GPR_##id * 8 \
    }
#define SELECTOR(name, id)                                               \
    {                                                                    \
        name, "int32", CORE, 4, 2, READ_ONLY, AT(seg[SEG_##id].selector) \
    }
#define ST(n)                                                      \
    {                                                              \
        "st" #n, "i387_ext", CORE, 10, 10, WRITABLE, AT(fpu.st[n]) \
    }
#define XMM(n)                                                    \
    {                                                             \
        "xmm" #n, "vec128", SSE, 16, 16, WRITABLE, AT(fpu.xmm[n]) \
    }
#define YMM_HIGH(n)                                                         \
    {                                                                       \
        "ymm" #n "h", "uint128", AVX, 16, 16, WRITABLE, AT(fpu.ymm_high[n]) \
    }
#define SYSTEM_REGISTER(name, feature, member)              \
    {                                                       \
        name, "int64", feature, 8, 8, READ_ONLY, AT(member) \
    }

static const Register registers[] = {
    GPR("rax", RAX),
    GPR("rbx", RBX),
    GPR("rcx", RCX),
    GPR("rdx", RDX),
    GPR("rsi", RSI),
    GPR("rdi", RDI),
    {"rbp", "data_ptr", CORE, 8, 8, WRITABLE, AT(gpr) + GPR_RBP * 8},
    {"rsp", "data_ptr", CORE, 8, 8, WRITABLE, AT(gpr) + GPR_RSP * 8},
    GPR("r8", R8),
    GPR("r9", R9),
    GPR("r10", R10),
    GPR("r11", R11),
    GPR("r12", R12),
    GPR("r13", R13),
    GPR("r14", R14),
    GPR("r15", R15),
    {"rip", "code_ptr", CORE, 8, 8, WRITABLE, AT(rip)},
    {"eflags", "i386_eflags", CORE, 4, 4, FLAGS, AT(rflags)},
    SELECTOR("cs", CS),
    SELECTOR("ss", SS),
    SELECTOR("ds", DS),
    SELECTOR("es", ES),
    SELECTOR("fs", FS),
    SELECTOR("gs", GS),
    ST(0),
    ST(1),
    ST(2),
    ST(3),
    ST(4),
    ST(5),
    ST(6),
    ST(7),
    {"fctrl", "int", CORE, 4, 2, WRITABLE, AT(fpu.fcw)},
    {"fstat", "int", CORE, 4, 2, READ_ONLY, AT(fpu.fsw)},
    {"ftag", "int", CORE, 4, 2, TAGS, AT(fpu.ftw_abridged)},
    {"fiseg", "int", CORE, 4, 2, READ_ONLY, AT(fpu.fip) + 4},
    {"fioff", "int", CORE, 4, 4, READ_ONLY, AT(fpu.fip)},
    {"foseg", "int", CORE, 4, 2, READ_ONLY, AT(fpu.fdp) + 4},
    {"fooff", "int", CORE, 4, 4, READ_ONLY, AT(fpu.fdp)},
    {"fop", "int", CORE, 4, 2, READ_ONLY, AT(fpu.fop)},
    XMM(0),
    XMM(1),
    XMM(2),
    XMM(3),
    XMM(4),
    XMM(5),
    XMM(6),
    XMM(7),
    XMM(8),
    XMM(9),
    XMM(10),
    XMM(11),
    XMM(12),
    XMM(13),
    XMM(14),
    XMM(15),
    {"mxcsr", "i386_mxcsr", SSE, 4, 4, MXCSR, AT(fpu.mxcsr)},
    SYSTEM_REGISTER("fs_base", SEGMENTS, seg[SEG_FS].base),
    SYSTEM_REGISTER("gs_base", SEGMENTS, seg[SEG_GS].base),
    SYSTEM_REGISTER("k_gs_base", SYSTEM, kernel_gs_base),
    SYSTEM_REGISTER("cr0", SYSTEM, cr0),
    SYSTEM_REGISTER("cr2", SYSTEM, cr2),
    SYSTEM_REGISTER("cr3", SYSTEM, cr3),
    SYSTEM_REGISTER("cr4", SYSTEM, cr4),
    SYSTEM_REGISTER("cr8", SYSTEM, cr8),
    SYSTEM_REGISTER("efer", SYSTEM, efer),
    YMM_HIGH(0),
    YMM_HIGH(1),
    YMM_HIGH(2),
    YMM_HIGH(3),
    YMM_HIGH(4),
    YMM_HIGH(5),
    YMM_HIGH(6),
    YMM_HIGH(7),
    YMM_HIGH(8),
    YMM_HIGH(9),
    YMM_HIGH(10),
    YMM_HIGH(11),
    YMM_HIGH(12),
    YMM_HIGH(13),
    YMM_HIGH(14),
    YMM_HIGH(15),
};

/* ---- the description ------------------------------------------------------------------------- */

static const char sse_types[] =
    "<vector id=\"v4f\" type=\"ieee_single\" count=\"4\"/>"
    "<vector id=\"v2d\" type=\"ieee_double\" count=\"2\"/>"
    "<vector id=\"v16i8\" type=\"int8\" count=\"16\"/>"
    "<vector id=\"v8i16\" type=\"int16\" count=\"8\"/>"
    "<vector id=\"v4i32\" type=\"int32\" count=\"4\"/>"
    "<vector id=\"v2i64\" type=\"int64\" count=\"2\"/>"
    "<union id=\"vec128\"><field name=\"v4_float\" type=\"v4f\"/>"
    "<field name=\"v2_double\" type=\"v2d\"/><field name=\"v16_int8\" type=\"v16i8\"/>"
    "<field name=\"v8_int16\" type=\"v8i16\"/><field name=\"v4_int32\" type=\"v4i32\"/>"
    "<field name=\"v2_int64\" type=\"v2i64\"/><field name=\"uint128\" type=\"uint128\"/></union>";

typedef struct Flag {
    const char *name;
    unsigned low, high;
} Flag;
static const Flag eflags[] = {{"CF", 0, 0},   {"", 1, 1},     {"PF", 2, 2},    {"AF", 4, 4},
                              {"ZF", 6, 6},   {"SF", 7, 7},   {"TF", 8, 8},    {"IF", 9, 9},
                              {"DF", 10, 10}, {"OF", 11, 11}, {"NT", 14, 14},  {"RF", 16, 16},
                              {"VM", 17, 17}, {"AC", 18, 18}, {"VIF", 19, 19}, {"VIP", 20, 20},
                              {"ID", 21, 21}};
static const Flag mxcsr_flags[] = {{"IE", 0, 0},   {"DE", 1, 1},  {"ZE", 2, 2},   {"OE", 3, 3},
                                   {"UE", 4, 4},   {"PE", 5, 5},  {"DAZ", 6, 6},  {"IM", 7, 7},
                                   {"DM", 8, 8},   {"ZM", 9, 9},  {"OM", 10, 10}, {"UM", 11, 11},
                                   {"PM", 12, 12}, {"FZ", 15, 15}};

static void append_flags(GString *xml, const char *id, const Flag *flags, unsigned count)
{
    g_string_append_printf(xml, "<flags id=\"%s\" size=\"4\">", id);
    for (unsigned i = 0; i < count; i++)
        g_string_append_printf(xml, "<field name=\"%s\" start=\"%u\" end=\"%u\"/>", flags[i].name,
                               flags[i].low, flags[i].high);
    g_string_append(xml, "</flags>");
}

static void append_feature(GString *xml, unsigned feature)
{
    g_string_append_printf(xml, "<feature name=\"%s\">", features[feature]);
    if (feature == CORE)
        append_flags(xml, "i386_eflags", eflags, G_N_ELEMENTS(eflags));
    if (feature == SSE) {
        g_string_append(xml, sse_types);
        append_flags(xml, "i386_mxcsr", mxcsr_flags, G_N_ELEMENTS(mxcsr_flags));
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(registers); i++) {
        const Register *r = &registers[i];
        if (r->feature == feature)
            g_string_append_printf(xml,
                                   "<reg name=\"%s\" bitsize=\"%u\" type=\"%s\" regnum=\"%u\"/>",
                                   r->name, r->size * 8, r->type, i);
    }
    g_string_append(xml, "</feature>");
}

char *gdb_registers_xml(void)
{
    GString *xml = g_string_new("<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\">"
                                "<target><architecture>i386:x86-64</architecture>");

    for (unsigned feature = 0; feature < FEATURE_COUNT; feature++)
        append_feature(xml, feature);
    g_string_append(xml, "</target>");
    return g_string_free(xml, FALSE);
}

/* ---- values ---------------------------------------------------------------------------------- */

/* The tag of a register that is not empty: 0 valid, 1 zero, 2 special (SDM 1 8.1.7). */
static unsigned full_tag(const uint8_t *st)
{
    uint64_t mantissa;
    unsigned exponent = (st[8] | st[9] << 8) & 0x7fff;

    memcpy(&mantissa, st, sizeof(mantissa));
    if (exponent == 0x7fff || !(mantissa >> 63))
        return exponent || mantissa ? 2 : 1;
    return exponent ? 0 : 2;
}

static uint16_t tag_word(const FpuState *fpu)
{
    unsigned top = fpu->fsw >> 11 & 7, word = 0;

    for (unsigned i = 0; i < 8; i++) {
        bool used = fpu->ftw_abridged >> i & 1;
        word |= (used ? full_tag(fpu->st[(i - top) & 7]) : 3) << (2 * i);
    }
    return (uint16_t)word;
}

static uint8_t abridge(uint16_t word)
{
    unsigned tags = 0;

    for (unsigned i = 0; i < 8; i++)
        tags |= (unsigned)((word >> (2 * i) & 3) != 3) << i;
    return (uint8_t)tags;
}

unsigned gdb_registers_count(void)
{
    return G_N_ELEMENTS(registers);
}

unsigned gdb_register_size(unsigned n)
{
    return registers[n].size;
}

void gdb_register_get(const CpuState *state, unsigned n, uint8_t *ret_bytes)
{
    const Register *r = &registers[n];
    uint16_t tags;

    memset(ret_bytes, 0, r->size);
    if (r->access == TAGS) {
        tags = tag_word(&state->fpu);
        memcpy(ret_bytes, &tags, sizeof(tags));
    } else {
        memcpy(ret_bytes, (const uint8_t *)state + r->offset, r->width);
    }
}

static bool set_flags(CpuState *state, uint32_t value)
{
    const uint32_t settable = 0x3f7fd5 & ~(uint32_t)FLAG_VM;

    if ((value ^ state->rflags) & FLAG_VM)
        return false;
    state->rflags = (state->rflags & ~(uint64_t)settable) | (value & settable);
    return true;
}

static bool set_mxcsr(CpuState *state, uint32_t value)
{
    if (value & ~(state->fpu.mxcsr_mask ? state->fpu.mxcsr_mask : 0xffbf))
        return false;
    state->fpu.mxcsr = value;
    return true;
}

bool gdb_register_set(CpuState *state, unsigned n, const uint8_t *bytes)
{
    const Register *r = &registers[n];
    uint8_t now[GDB_REGISTER_MAX_BYTES];
    uint32_t value;

    gdb_register_get(state, n, now);
    if (!memcmp(now, bytes, r->size))
        return true;
    memcpy(&value, bytes, sizeof(value)); /* no register is smaller */
    switch ((Access)r->access) {
    case READ_ONLY:
        return false;
    case FLAGS:
        return set_flags(state, value);
    case TAGS:
        state->fpu.ftw_abridged = abridge((uint16_t)value);
        return true;
    case MXCSR:
        return set_mxcsr(state, value);
    case WRITABLE:
        memcpy((uint8_t *)state + r->offset, bytes, r->width);
        return true;
    }
    return false;
}
