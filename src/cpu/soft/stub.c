/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Writes stubs (stub.h) and keeps them in a code area shared by the whole process: they are pure
 * functions of the host's instruction set and hold nothing of any VM.
 *
 * Host registers inside a stub:
 *   rdi cpu | rsi dst | rdx a | rcx b | r8, r9 MXCSR mask and expectation | r10, r11 free
 *   ModRM.reg → xmm1/mm1/eax | ModRM.rm → xmm2/mm2/ecx (eax when it is the result) | vvvv → xmm3 |
 * is4 → xmm4 | xmm5 zero
 */
#include "cpu/soft/stub.h"

#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.h"
#include "cpu/soft/cpu.h"

#define STUB_MAX       128
#define STUB_ALIGNMENT 16
#define AREA_SIZE      MIB(8)

#define RSI 6
#define RDX 2
#define RCX 1

enum { HOST_REG = 1, HOST_RM = 2, HOST_VVVV = 3, HOST_IS4 = 4 };

/* The upper half of a YMM register stands this far behind the lower. */
#define HIGH_OFFSET (offsetof(FpuState, ymm_high) - offsetof(FpuState, xmm))

static struct {
    GMutex lock;
    uint8_t *write, *run; /* one memfd, mapped twice; write NULL: pages are replaced */
    size_t used;
    GHashTable *stubs; /* key_pack() → StubFn */
} area;

/* ---- writing code ---------------------------------------------------------------------------- */

typedef struct Code {
    uint8_t bytes[STUB_MAX];
    unsigned size;
} Code;

#define EMIT(code, ...) \
    emit(code, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

static void emit(Code *code, const uint8_t *bytes, unsigned size)
{
    g_assert(code->size + size <= sizeof(code->bytes));
    memcpy(code->bytes + code->size, bytes, size);
    code->size += size;
}

static void emit32(Code *code, uint32_t value)
{
    uint8_t bytes[4];
    store_le32(bytes, value);
    emit(code, bytes, 4);
}

/* MOVUPS or MOVQ between register and [base]; with `l` the upper half, too. */
static void emit_move_xmm(Code *code, const StubKey *key, unsigned reg, unsigned base, bool store)
{
    if (key->vex)
        EMIT(code, 0xc5, 0xf8, 0x10 + store, reg << 3 | base);
    else
        EMIT(code, 0x0f, 0x10 + store, reg << 3 | base);
    if (!key->vex || (!key->l && !store))
        return;
    if (key->l) { /* VINSERTF128 reg, reg, [base + HIGH], 1; VEXTRACTF128 [base + HIGH], reg, 1 */
        EMIT(code, 0xc4, 0xe3, store ? 0x7d : (~reg & 15) << 3 | 5, 0x18 + store,
             0x80 | reg << 3 | base);
        emit32(code, HIGH_OFFSET);
        EMIT(code, 1);
    } else { /* VPXOR xmm5, xmm5, xmm5; VMOVUPS [base + HIGH], xmm5 */
        EMIT(code, 0xc5, 0xd1, 0xef, 0xed, 0xc5, 0xf8, 0x11, 0x80 | 5 << 3 | base);
        emit32(code, HIGH_OFFSET);
    }
}

static void emit_load_mm(Code *code, unsigned reg, unsigned base)
{
    EMIT(code, 0x0f, 0x6f, reg << 3 | base);
}

/* A written MMX register has an exponent of all ones. */
static void emit_store_mm(Code *code, unsigned reg, unsigned base)
{
    EMIT(code, 0x0f, 0x7f, reg << 3 | base);
    EMIT(code, 0x66, 0xc7, 0x40 | base, 8, 0xff, 0xff);
}

static void emit_instruction(Code *code, const StubKey *key)
{
    static const uint8_t prefixes[] = {0, 0x66, 0xf3, 0xf2};
    const SimdRow *row = key->row;
    unsigned flags = row->flags;
    bool store = flags & SIMD_STORE;
    unsigned reg = row->ext != SIMD_NO_EXT ? row->ext : flags & SIMD_REG_GPR ? 0 : HOST_REG;
    unsigned rm = flags & SIMD_RM_GPR ? (store ? 0 : RCX) : HOST_RM;
    unsigned modrm = key->memory ? reg << 3 | (store ? RSI : RCX) : 0xc0 | reg << 3 | rm;
    if (key->vex) {
        bool has_vvvv = flags & (SIMD_NDS | SIMD_NDD);
        EMIT(code, 0xc4, 0xe0 | row->map,
             key->w << 7 | (has_vvvv ? ~HOST_VVVV & 15 : 15) << 3 | key->l << 2 | row->prefix);
    } else {
        if (row->prefix)
            EMIT(code, prefixes[row->prefix]);
        if (key->w)
            EMIT(code, 0x48);
        EMIT(code, 0x0f);
        if (row->map != MAP_0F)
            EMIT(code, row->map == MAP_0F38 ? 0x38 : 0x3a);
    }
    EMIT(code, row->opcode, modrm);
    if (flags & SIMD_IMM)
        EMIT(code, flags & SIMD_IS4 ? HOST_IS4 << 4 : key->imm);
}

static void emit_loads(Code *code, const StubKey *key)
{
    unsigned flags = key->row->flags;
    unsigned reg_base = flags & SIMD_STORE ? RDX : RSI;
    if (flags & SIMD_REG_MM)
        emit_load_mm(code, HOST_REG, reg_base);
    else if (!(flags & (SIMD_REG_GPR | SIMD_NDD)))
        emit_move_xmm(code, key, HOST_REG, reg_base, false);
    if (key->vex && (flags & SIMD_NDS))
        emit_move_xmm(code, key, HOST_VVVV, RDX, false);
    if (flags & SIMD_IS4) { /* from r8: mov rdx, r8 */
        EMIT(code, 0x4c, 0x89, 0xc2);
        emit_move_xmm(code, key, HOST_IS4, RDX, false);
    }
    if (flags & SIMD_XMM0) {
        EMIT(code, 0x0f, 0x10, 0x87);
        emit32(code, offsetof(SoftCpu, s.fpu.xmm));
    }
    if (!key->memory && !(flags & SIMD_STORE)) {
        if (flags & SIMD_RM_GPR)
            EMIT(code, 0x48, 0x8b, 0x09);
        else if (flags & SIMD_RM_MM)
            emit_load_mm(code, HOST_RM, RCX);
        else
            emit_move_xmm(code, key, HOST_RM, RCX, false);
    }
    if (flags & SIMD_PCMPSTR) { /* mov rax, [rdi + RAX]; mov rdx, [rdi + RDX] */
        EMIT(code, 0x48, 0x8b, 0x87);
        emit32(code, offsetof(SoftCpu, s.gpr[GPR_RAX]));
        EMIT(code, 0x48, 0x8b, 0x97);
        emit32(code, offsetof(SoftCpu, s.gpr[GPR_RDX]));
    }
}

/* The result in a register → [rsi]. */
static void emit_store_result(Code *code, const StubKey *key)
{
    unsigned flags = key->row->flags;
    bool store = flags & SIMD_STORE;
    if ((flags & SIMD_NO_DEST) || (store && key->memory))
        return;
    if (flags & (store ? SIMD_RM_GPR : SIMD_REG_GPR))
        EMIT(code, 0x48, 0x89, 0x06);
    else if (flags & SIMD_NDD)
        flags &SIMD_RM_MM ? emit_store_mm(code, HOST_RM, RSI)
                          : emit_move_xmm(code, key, key->vex ? HOST_VVVV : HOST_RM, RSI, true);
    else if (flags & (store ? SIMD_RM_MM : SIMD_REG_MM))
        emit_store_mm(code, store ? HOST_RM : HOST_REG, RSI);
    else
        emit_move_xmm(code, key, store ? HOST_RM : HOST_REG, RSI, true);
}

/* RCX or XMM0, PCMPESTRI … PCMPISTRM. */
static void emit_pcmpstr_result(Code *code, const StubKey *key)
{
    if (key->row->opcode & 1) {
        EMIT(code, 0x48, 0x89, 0x8f);
        emit32(code, offsetof(SoftCpu, s.gpr[GPR_RCX]));
    } else {
        EMIT(code, 0x48, 0x8d, 0xb7); /* lea rsi, [rdi + XMM0] */
        emit32(code, offsetof(SoftCpu, s.fpu.xmm));
        emit_move_xmm(code, key, 0, RSI, true);
    }
}

/* Ends a stub: emms or vzeroupper if the host needs it. */
static void emit_leave(Code *code, const StubKey *key)
{
    if (key->row->flags & (SIMD_REG_MM | SIMD_RM_MM))
        EMIT(code, 0x0f, 0x77);
    if (key->vex && key->l)
        EMIT(code, 0xc5, 0xf8, 0x77);
    EMIT(code, 0xc3);
}

static void stub_write(Code *code, const StubKey *key)
{
    unsigned flags = key->row->flags;
    unsigned jump = 0;
    code->size = 0;
    EMIT(code, 0xf3, 0x0f, 0x1e, 0xfa); /* endbr64 */
    emit_loads(code, key);
    emit_instruction(code, key);
    if (flags & SIMD_EFLAGS) /* lahf; seto al; movzx r11d, ax */
        EMIT(code, 0x9f, 0x0f, 0x90, 0xc0, 0x44, 0x0f, 0xb7, 0xd8);
    if (flags & SIMD_FP) {
        EMIT(code, 0x0f, 0xae, 0x9f); /* stmxcsr [rdi + stub_mxcsr] */
        emit32(code, offsetof(SoftCpu, stub_mxcsr));
        EMIT(code, 0x44, 0x8b, 0x97); /* mov r10d, [rdi + stub_mxcsr] */
        emit32(code, offsetof(SoftCpu, stub_mxcsr));
        EMIT(code, 0x45, 0x21, 0xc2, 0x45, 0x31, 0xca, 0x75,
             0); /* and r10d, r8d; xor r10d, r9d; jne skip */
        jump = code->size;
    }
    emit_store_result(code, key);
    if (flags & SIMD_PCMPSTR)
        emit_pcmpstr_result(code, key);
    if (flags & SIMD_EFLAGS) {
        EMIT(code, 0x44, 0x89, 0x9f); /* mov [rdi + flags], r11d */
        emit32(code, offsetof(SoftCpu, flags));
    }
    if (flags & SIMD_FP) {
        code->bytes[jump - 1] = code->size - jump;
        EMIT(code, 0x44, 0x89, 0xd0); /* skip: mov eax, r10d */
    }
    emit_leave(code, key);
}

/* rdi image | rsi memory | edx flags */
static void x87_write(Code *code, uint8_t opcode, uint8_t modrm)
{
    code->size = 0;
    EMIT(code, 0xf3, 0x0f, 0x1e, 0xfa);       /* endbr64 */
    EMIT(code, 0xdd, 0x27);                   /* frstor [rdi] */
    EMIT(code, 0x89, 0xd0, 0x04, 0x7f, 0x9e); /* mov eax, edx; add al, 0x7f (OF); sahf */
    EMIT(code, opcode, modrm);
    EMIT(code, 0x9f, 0x0f, 0x90, 0xc0, 0x0f, 0xb7, 0xc0); /* lahf; seto al; movzx eax, ax */
    EMIT(code, 0xdd, 0x37, 0xc3);                         /* fnsave [rdi]; ret */
}

/* ---- the area -------------------------------------------------------------------------------- */

static bool area_map_twice(void)
{
    int fd = memfd_create("ospite-stubs", MFD_CLOEXEC);
    if (fd < 0)
        return false;
    void *writable = MAP_FAILED, *executable = MAP_FAILED;
    if (ftruncate(fd, AREA_SIZE) == 0) {
        writable = mmap(NULL, AREA_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        executable = mmap(NULL, AREA_SIZE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    }
    close(fd);
    if (writable != MAP_FAILED && executable != MAP_FAILED) {
        area.write = writable;
        area.run = executable;
        return true;
    }
    if (writable != MAP_FAILED)
        munmap(writable, AREA_SIZE);
    if (executable != MAP_FAILED)
        munmap(executable, AREA_SIZE);
    return false;
}

/* Without executable memfds: pages are prepared elsewhere, made executable and moved into place. */
static bool area_map_once(void)
{
    void *executable = mmap(NULL, AREA_SIZE, PROT_READ | PROT_EXEC,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (executable == MAP_FAILED)
        return false;
    area.run = executable;
    return true;
}

static bool area_map(void)
{
    static gsize once;
    if (g_once_init_enter(&once)) {
        if (area_map_twice() || area_map_once())
            area.stubs = g_hash_table_new(g_direct_hash, g_direct_equal);
        g_once_init_leave(&once, 1);
    }
    return area.run != NULL;
}

/* mremap() swaps the page in one step: who runs an old stub on it meanwhile sees the same bytes. */
static bool area_replace_page(size_t offset, const Code *code)
{
    size_t page_size = sysconf(_SC_PAGESIZE), page = align_down(offset, page_size);
    uint8_t *copy =
        mmap(NULL, page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (copy == MAP_FAILED)
        return false;
    memcpy(copy, area.run + page, page_size);
    memcpy(copy + offset - page, code->bytes, code->size);
    if (mprotect(copy, page_size, PROT_READ | PROT_EXEC) == 0 &&
        mremap(copy, page_size, page_size, MREMAP_MAYMOVE | MREMAP_FIXED, area.run + page) !=
            MAP_FAILED)
        return true;
    munmap(copy, page_size);
    return false;
}

static void *key_pack(const StubKey *key)
{
    uintptr_t bits = (uintptr_t)(key->row - simd_rows) << 12 | key->imm << 4 | key->vex << 3 |
                     key->l << 2 | key->w << 1 | key->memory;
    return (void *)(bits + 1);
}

bool stub_available(void)
{
    return area_map();
}

size_t stub_capacity(void)
{
    return AREA_SIZE;
}

/* With the lock held. No stub crosses a page's end, so that a page can be replaced alone. */
static void *area_publish(void *key, const Code *code)
{
    size_t offset = area.used;
    if (align_down(offset, GUEST_PAGE_SIZE) != align_down(offset + code->size - 1, GUEST_PAGE_SIZE))
        offset = align_up(offset, GUEST_PAGE_SIZE);
    if (offset + code->size > AREA_SIZE)
        return NULL;
    if (area.write)
        memcpy(area.write + offset, code->bytes, code->size);
    else if (!area_replace_page(offset, code))
        return NULL;
    area.used = align_up(offset + code->size, STUB_ALIGNMENT);
    g_hash_table_insert(area.stubs, key, area.run + offset);
    return area.run + offset;
}

StubFn stub_get(const StubKey *key)
{
    if (!area_map())
        return NULL;
    g_mutex_lock(&area.lock);
    void *stub = g_hash_table_lookup(area.stubs, key_pack(key));
    if (!stub) {
        Code code;
        stub_write(&code, key);
        stub = area_publish(key_pack(key), &code);
    }
    g_mutex_unlock(&area.lock);
    return (StubFn)stub;
}

X87Fn stub_get_x87(uint8_t opcode, uint8_t modrm)
{
    if (modrm < 0xc0)
        modrm = (modrm & 0x38) | RSI;
    void *key = (void *)((uintptr_t)1 << 40 | opcode << 8 | modrm);
    if (!area_map())
        return NULL;
    g_mutex_lock(&area.lock);
    void *stub = g_hash_table_lookup(area.stubs, key);
    if (!stub) {
        Code code;
        x87_write(&code, opcode, modrm);
        stub = area_publish(key, &code);
    }
    g_mutex_unlock(&area.lock);
    return (X87Fn)stub;
}

size_t stub_capacity_needed(void)
{
    size_t bytes = 8 * 256 * 2 * STUB_ALIGNMENT; /* x87 */
    for (unsigned i = 0; i < simd_row_count; i++) {
        const SimdRow *row = &simd_rows[i];
        unsigned immediates = (row->flags & SIMD_IMM) && !(row->flags & SIMD_IS4) ? 256 : 1;
        for (unsigned form = 0; form < 16; form++) {
            StubKey key = {row, form & 1, form & 2, form & 4, form & 8, 0};
            bool exists = key.vex ? (key.l ? row->vex256 : row->vex128) != SIMD_NO
                                  : row->legacy != SIMD_NO && !key.l;
            if (!exists || row->special ||
                (key.w && !(row->flags & (SIMD_W | SIMD_WVEX | SIMD_W1))) ||
                (key.memory && row->memory == MEM_NONE) || (key.l && (row->flags & SIMD_LIG)))
                continue;
            Code code;
            stub_write(&code, &key);
            bytes += immediates * align_up(code.size, STUB_ALIGNMENT);
        }
    }
    return bytes + bytes / GUEST_PAGE_SIZE * STUB_MAX; /* what is left free at pages' ends */
}
