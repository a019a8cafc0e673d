/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Lockstep: one guest on two machines, in the translator and in the interpreter, whose CPUs must be
 * in the same state whenever the translator comes back to its loop.
 *
 *     translator   … one block │ look around … │ one block │ look around …
 *     interpreter              └ as many instructions, one by one, until the states are the same
 *
 * All is done on one thread. debug_must_stop(), which an engine asks whenever it looks around, is
 * where the translator waits for the interpreter; with the flag that asks for attention always set
 * and links between translations never made, that is behind each block. With --free, translated
 * code runs on by itself for a time between 1 and 200 µs.
 *
 * Time is counted in instructions of the interpreter and stands still between two looks: timers,
 * disks and interrupts come at the same instruction on both machines. The host's clocks are
 * replaced by the linker (--wrap).
 *
 * Several CPUs take turns: one at a time runs for some blocks, how many is by chance (--seed).
 * Their own threads end at once; INIT and startup IPIs are taken when it is a CPU's turn.
 *
 * Not compared: arithmetic flags, of which the translator keeps only those that are read before
 * they are overwritten; which of them that is shows where they are read.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/bits.h"
#include "cpu/jit/jit.h"
#include "cpu/jit/opcodes.h"
#include "cpu/soft/access.h"
#include "cpu/soft/block.h"
#include "cpu/vm_internal.h"
#include "machine/pc.h"

#define TSC_HZ      1000000000u /* one count, one nanosecond and one instruction are the same */
#define EPOCH_US    INT64_C(1767225600000000)
#define SLICE_NS    5000 /* devices look at the clock */
#define BLOCK_LIMIT (BLOCK_MAX_INSNS + 16)
#define FREE_LIMIT  UINT64_C(5000000)
#define PLACES      256
#define PLACE_BYTES 64u /* compared around each address */
#define CODE_SHOWN  96u
#define WHOLE_EVERY UINT64_C(4000000) /* instructions between comparisons of all memory */

typedef struct Machine {
    Pc *pc;
    SoftCpu *cpu; /* whose turn it is */
    char *serial;
    bool ended;
    int status;
    uint64_t steps;
} Machine;

static struct {
    Machine translator, interpreter;
    Debug debug; /* no points: that the translator asks before each block */
    bool free_running;
    uint64_t limit; /* of instructions */
    GRand *random;

    uint64_t now_ns, slice_ns;    /* virtual time, and when devices saw it last */
    bool nothing_run;             /* the translator, since the last look */
    unsigned turn_left;           /* looks until it is another CPU's turn */
    unsigned idle_turns;          /* one after another in which nothing was run */
    uint64_t turns[VM_MAX_VCPUS]; /* in which something was */
    bool shutdown;                /* of the interpreter's CPU */
    bool over;                    /* the translator is to come back and stay */
    uint64_t blocks, whole_steps; /* instructions when all memory was compared last */
    uint64_t start_rip;
    uint64_t places[PLACES]; /* linear addresses that were near operands lately */
    unsigned place_count;
    GArray *dirty;         /* --free: pages written since the states met last */
    uint64_t different;    /* offset in RAM of what does */
    uint64_t pushed_flags; /* memory that differed in dead flags alone */
    char *failure;
} lockstep;

/* ---- the host's clocks ---------------------------------------------------------------------- */

VmClock *__wrap_clock_new(GMainContext *context, GRecMutex *lock);
uint64_t __wrap_vm_host_tsc(const Vm *vm);
uint64_t __wrap_tsc_host_now(void);
uint64_t __wrap_tsc_host_hz(void);
bool __wrap_tsc_host_is_invariant(void);
gint64 __wrap_g_get_real_time(void);
int __wrap_clock_gettime(clockid_t clock, struct timespec *time);
int __wrap_sched_yield(void);
void __wrap_vm_resume(Vm *vm);
void __wrap_vm_pause(Vm *vm);
bool __wrap_debug_must_stop(Vcpu *vcpu, uint64_t linear, bool active);
void *__wrap_vcpu_thread(void *vcpu);
void __wrap_vcpu_run_on(Vcpu *vcpu, void (*fn)(Vcpu *vcpu, void *data), void *data);
void __wrap_vcpu_get_state(Vcpu *vcpu, CpuState *state);
void __wrap_vcpu_set_state(Vcpu *vcpu, const CpuState *state);
void __real_vcpu_get_state(Vcpu *vcpu, CpuState *state);
void __real_vcpu_set_state(Vcpu *vcpu, const CpuState *state);

VmClock *__wrap_clock_new(GMainContext *context, GRecMutex *lock)
{
    return clock_new_manual(lock);
}

uint64_t __wrap_vm_host_tsc(const Vm *vm)
{
    return lockstep.now_ns;
}

uint64_t __wrap_tsc_host_now(void)
{
    return lockstep.now_ns;
}

uint64_t __wrap_tsc_host_hz(void)
{
    return TSC_HZ;
}

/* RDTSC goes by its handler then, also in translated code. */
bool __wrap_tsc_host_is_invariant(void)
{
    return false;
}

gint64 __wrap_g_get_real_time(void)
{
    return EPOCH_US + (gint64)(lockstep.now_ns / 1000);
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *time)
{
    gint64 us = g_get_real_time();
    *time = (struct timespec){.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000};
    return 0;
}

/* ---- the machines' own threads, which never run --------------------------------------------- */

/* A CPU that spins waits for another's turn, which no other thread brings: on a busy host most of
 * the time was given away here. */
int __wrap_sched_yield(void)
{
    return 0;
}

void __wrap_vm_resume(Vm *vm)
{
}

void __wrap_vm_pause(Vm *vm)
{
}

void *__wrap_vcpu_thread(void *vcpu)
{
    return NULL;
}

/* What is to be done on a vCPU's thread is done here. */
void __wrap_vcpu_run_on(Vcpu *vcpu, void (*fn)(Vcpu *vcpu, void *data), void *data)
{
    Vcpu *self = vcpu_current();
    vcpu_adopt_thread(vcpu);
    fn(vcpu, data);
    vcpu_adopt_thread(self);
}

void __wrap_vcpu_get_state(Vcpu *vcpu, CpuState *state)
{
    Vcpu *self = vcpu_current();
    vcpu_adopt_thread(vcpu);
    __real_vcpu_get_state(vcpu, state);
    vcpu_adopt_thread(self);
}

void __wrap_vcpu_set_state(Vcpu *vcpu, const CpuState *state)
{
    Vcpu *self = vcpu_current();
    vcpu_adopt_thread(vcpu);
    __real_vcpu_set_state(vcpu, state);
    vcpu_adopt_thread(self);
}

/* ---- comparing ------------------------------------------------------------------------------ */

static void fail(const char *format, ...) G_GNUC_PRINTF(1, 2);
static void fail(const char *format, ...)
{
    va_list args;
    if (lockstep.failure)
        return;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    lockstep.failure = g_strdup_printf("CPU %u: %s", lockstep.translator.cpu->vcpu->index, text);
    va_end(args);
    lockstep.over = true;
}

static bool same_segment(const Segment *a, const Segment *b)
{
    return a->selector == b->selector && a->attributes == b->attributes && a->limit == b->limit &&
           a->base == b->base;
}

static bool same_table(const DescriptorTable *a, const DescriptorTable *b)
{
    return a->base == b->base && a->limit == b->limit;
}

/* What differs first, or NULL. */
static const char *difference(SoftCpu *a, SoftCpu *b)
{
    static const char *const gprs[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                       "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
    static const char *const segments[] = {"es", "cs", "ss", "ds", "fs", "gs"};
    if (((a->s.rip ^ b->s.rip) & a->rip_mask) || a->mode != b->mode)
        return "rip or mode";
    uint64_t mask = cpu_is_64bit(a) ? UINT64_MAX : UINT32_MAX;
    for (unsigned i = 0; i < 16; i++)
        if ((a->s.gpr[i] ^ b->s.gpr[i]) & (i < 8 ? mask : UINT64_MAX))
            return gprs[i];
    /* RF goes when an engine looks around, which is all the same without breakpoints. */
    uint64_t flags = FLAGS_ARITHMETIC | 2 | (a->s.dr7 & 0xff ? 0 : FLAG_RF);
    if ((a->s.rflags ^ b->s.rflags) & ~flags)
        return "rflags";
    for (unsigned i = 0; i < SEG_COUNT; i++)
        if (!same_segment(&a->s.seg[i], &b->s.seg[i]))
            return i < G_N_ELEMENTS(segments) ? segments[i] : "a segment register";
    if (!same_segment(&a->s.ldtr, &b->s.ldtr) || !same_segment(&a->s.tr, &b->s.tr))
        return "ldtr or tr";
    if (!same_table(&a->s.gdtr, &b->s.gdtr) || !same_table(&a->s.idtr, &b->s.idtr))
        return "gdtr or idtr";
    if (memcmp(&a->s.cr0, &b->s.cr0, offsetof(CpuState, fpu) - offsetof(CpuState, cr0)))
        return a->s.cr2 != b->s.cr2 ? "cr2" : "a control register";
    if (a->s.fpu.fip != b->s.fpu.fip || a->s.fpu.fdp != b->s.fpu.fdp ||
        a->s.fpu.fop != b->s.fpu.fop)
        return "fip, fdp or fop";
    if (memcmp(&a->s.fpu, &b->s.fpu, sizeof(FpuState)))
        return a->s.fpu.mxcsr != b->s.fpu.mxcsr ? "mxcsr" : "a register of x87, SSE or AVX";
    if (a->s.activity != b->s.activity || a->pending_db != b->pending_db ||
        a->s.interrupt_shadow != b->s.interrupt_shadow || a->s.nmi_blocked != b->s.nmi_blocked)
        return "activity or pending events";
    return NULL;
}

/* The pushed flags of a fault may differ in what was dead there: then both get the same. */
static bool level_flags(uint32_t *a, uint32_t b)
{
    if ((*a ^ b) & ~(uint32_t)(FLAGS_ARITHMETIC | FLAGS_ARITHMETIC << 16))
        return false;
    *a = b;
    lockstep.pushed_flags++;
    return true;
}

/* Whether it is the same; the first word that is not: in `different`. */
static bool same_bytes(uint64_t offset, uint64_t size)
{
    uint8_t *a = lockstep.translator.pc->ram->host + offset;
    const uint8_t *b = lockstep.interpreter.pc->ram->host + offset;
    if (!memcmp(a, b, size))
        return true;
    for (uint64_t i = 0; i < size; i += 4) {
        uint32_t word;
        memcpy(&word, b + i, 4);
        if (memcmp(a + i, b + i, 4) && !level_flags((uint32_t *)(a + i), word)) {
            lockstep.different = offset + i;
            return false;
        }
    }
    return true;
}

static void fail_memory(void)
{
    uint64_t at = lockstep.different;
    fail("memory at %" PRIx64 ": translated %08x, interpreted %08x (block at %" PRIx64 ")", at,
         *(uint32_t *)(lockstep.translator.pc->ram->host + at),
         *(uint32_t *)(lockstep.interpreter.pc->ram->host + at), lockstep.start_rip);
}

static void compare_all_memory(void)
{
    lockstep.whole_steps = lockstep.interpreter.steps;
    if (!same_bytes(0, lockstep.interpreter.pc->ram->size))
        fail_memory();
}

/* As far as the interpreter's TLB has it and it is RAM. */
static bool same_place(uint64_t linear)
{
    const Machine *m = &lockstep.interpreter;
    const TlbEntry *entry = tlb_entry(m->cpu->tlb, linear);
    if ((linear ^ entry->tag_read) >= GUEST_PAGE_SIZE)
        return true;
    uint64_t offset = linear + entry->addend - (uintptr_t)m->pc->ram->host;
    return offset >= m->pc->ram->size || same_bytes(align_down(offset, PLACE_BYTES), PLACE_BYTES);
}

static bool same_places(void)
{
    for (unsigned i = 0; i < MIN(lockstep.place_count, PLACES); i++)
        if (!same_place(lockstep.places[i]))
            return false;
    return true;
}

/* ---- the interpreter, one instruction at a time --------------------------------------------- */

static void note_place(uint64_t linear)
{
    lockstep.places[lockstep.place_count++ % PLACES] = linear;
}

static void note_places(const SoftCpu *cpu, const Insn *insn)
{
    if (insn->flags & INSN_MEMORY)
        note_place(cpu->seg_base[insn->segment] + insn_ea(cpu, insn));
    note_place(cpu->seg_base[SEG_SS] + cpu->s.gpr[GPR_RSP] - 8);
    if (insn->map == MAP_ONE_BYTE && insn->opcode >= 0x6c && insn->opcode <= 0xaf)
        note_place(cpu->seg_base[SEG_ES] + (cpu->s.gpr[GPR_RDI] & insn->addr_mask));
}

/* What `what` raises is delivered, too. */
static void guarded(SoftCpu *cpu, void (*what)(SoftCpu *cpu))
{
    volatile bool begun = false;
    interp_set_stack_floor(cpu);
    sigsetjmp(cpu->jump, 0);
    if (cpu->event.vector >= 0 && !exception_deliver(cpu)) {
        lockstep.shutdown = true;
        return;
    }
    if (begun)
        return;
    begun = true;
    what(cpu);
}

static void run_insn(SoftCpu *cpu)
{
    atomic_store(&cpu->exit_request, 1); /* no chaining */
    cpu->s.interrupt_shadow = false;
    Block *block = block_find(cpu, true);
    cpu->s.gpr[GPR_BLOCK_RIP] = cpu->s.rip;
    note_places(cpu, block->insns);
    interp_run_block(cpu, block);
}

static void look(SoftCpu *cpu)
{
    VcpuExit exit;
    interp_look_around(cpu, &exit);
}

/* What the vCPU's thread does before and after. */
static void as_vcpu(Machine *m)
{
    vcpu_adopt_thread(m->cpu->vcpu);
}

static void take_dirty(Machine *m)
{
    Ram *ram = m->pc->ram;
    as_vcpu(m);
    ram_take_dirty(ram, RAM_CLEAN_MIGRATION, 0, ram->size, lockstep.dirty);
    as_vcpu(&lockstep.interpreter);
}

static bool same_dirty_pages(void)
{
    take_dirty(&lockstep.translator);
    take_dirty(&lockstep.interpreter);
    for (guint i = 0; i < lockstep.dirty->len; i++)
        if (!same_bytes(g_array_index(lockstep.dirty, uint64_t, i) << GUEST_PAGE_SHIFT,
                        GUEST_PAGE_SIZE))
            return false;
    g_array_set_size(lockstep.dirty, 0);
    return true;
}

/* What differs, or NULL: registers, then memory: near operands, or, as the same registers come
 * again in the time that translated code runs freely, all that was written. */
static const char *still_differs(void)
{
    const char *what = difference(lockstep.translator.cpu, lockstep.interpreter.cpu);
    if (what)
        return what;
    return (lockstep.free_running ? same_dirty_pages() : same_places()) ? NULL : "memory";
}

/* Until the states meet. Registers alone come again in loops. */
static void follow(uint64_t *ret_insns)
{
    SoftCpu *a = lockstep.translator.cpu, *b = lockstep.interpreter.cpu;
    const char *what = NULL, *now;
    uint64_t limit = lockstep.free_running ? FREE_LIMIT : BLOCK_LIMIT;
    bool may_stay =
        lockstep.nothing_run || a->jit->interpret || (a->jit->link && a->jit->link->plain);
    lockstep.place_count = 0;
    *ret_insns = 0;
    if (may_stay && !difference(a, b))
        return;
    while (*ret_insns < limit && b->s.activity == CPU_ACTIVE && !lockstep.shutdown) {
        guarded(b, run_insn);
        ++*ret_insns;
        if ((a->s.rip ^ b->s.rip) & a->rip_mask)
            continue;
        now = still_differs();
        if (!now)
            return;
        what = now;
    }
    if (!g_strcmp0(what, "memory"))
        fail_memory();
    fail("after %" PRIu64 " instructions, translated block at %" PRIx64 " (mode %x) to %" PRIx64
         ": %s",
         lockstep.interpreter.steps, lockstep.start_rip, a->mode, a->s.rip,
         what ? what : "the interpreter never came there");
}

/* ---- time and devices ----------------------------------------------------------------------- */

static void pass_time(Machine *m, uint64_t ns)
{
    as_vcpu(m);
    clock_advance(m->pc->board.clock, (int64_t)ns);
    for (guint i = 0; i < m->pc->disks->len; i++)
        disk_drain(g_ptr_array_index(m->pc->disks, i));
    while (g_main_context_iteration(m->pc->context, FALSE))
        ;
}

/* For a whole round, one more because what ends a turn comes behind it. */
static bool all_sleep(void)
{
    return lockstep.translator.cpu->s.activity == CPU_HALTED && lockstep.nothing_run &&
           lockstep.idle_turns > lockstep.translator.pc->vm->vcpu_count;
}

/* To the next timer, when all CPUs sleep; false: there is none. */
static bool skip_time(void)
{
    int64_t deadline = clock_next_deadline_ns(lockstep.translator.pc->board.clock);
    int64_t now = clock_now_ns(lockstep.translator.pc->board.clock);
    if (deadline > now && deadline < INT64_MAX)
        lockstep.now_ns = MAX(lockstep.now_ns, lockstep.slice_ns + (uint64_t)(deadline - now));
    return deadline < INT64_MAX;
}

static void let_time_pass(void)
{
    bool wakes = !all_sleep() || skip_time();
    uint64_t ns = lockstep.now_ns - lockstep.slice_ns;
    if (ns < SLICE_NS && !all_sleep())
        return;
    lockstep.slice_ns = lockstep.now_ns;
    pass_time(&lockstep.translator, ns);
    pass_time(&lockstep.interpreter, ns);
    if (lockstep.translator.ended != lockstep.interpreter.ended)
        fail("one machine ended");
    if (lockstep.translator.ended)
        lockstep.over = true;
    else if (!wakes)
        fail("the guest sleeps for ever");
}

/* ---- the translator ------------------------------------------------------------------------- */

static void on_alarm(int signal)
{
    atomic_store(&lockstep.translator.cpu->exit_request, 1);
    raise(JIT_KICK_SIGNAL);
}

static void let_go(SoftCpu *cpu)
{
    if (lockstep.free_running) {
        struct itimerval time = {.it_value.tv_usec = g_rand_int_range(lockstep.random, 1, 200)};
        setitimer(ITIMER_REAL, &time, NULL);
        return;
    }
    atomic_store(&cpu->exit_request, 1);
    /* Only plain translations are made for links. */
    if (cpu->jit->link && !cpu->jit->link->plain)
        cpu->jit->link = NULL;
}

/* The translator looks around. True ends the CPU's turn, before the interpreter has looked. */
bool __wrap_debug_must_stop(Vcpu *vcpu, uint64_t linear, bool active)
{
    SoftCpu *a = lockstep.translator.cpu, *b = lockstep.interpreter.cpu;
    if (vcpu != a->vcpu || lockstep.over)
        return lockstep.over;
    as_vcpu(&lockstep.interpreter);
    uint64_t insns;
    lockstep.blocks++;
    follow(&insns);
    lockstep.interpreter.steps += insns;
    lockstep.now_ns += insns;
    if (insns && lockstep.idle_turns) {
        lockstep.idle_turns = 0;
        lockstep.turns[a->vcpu->index]++;
    }
    if (lockstep.interpreter.steps - lockstep.whole_steps > WHOLE_EVERY)
        compare_all_memory();
    if (lockstep.interpreter.steps >= lockstep.limit)
        lockstep.over = true;
    let_time_pass();
    if (!lockstep.turn_left--) {
        as_vcpu(&lockstep.translator);
        return true;
    }
    as_vcpu(&lockstep.interpreter);
    uint64_t faults = b->stat_faults;
    guarded(b, look);
    /* The same fault is on the way there. */
    lockstep.nothing_run = b->stat_faults != faults;
    lockstep.start_rip = b->s.rip;
    as_vcpu(&lockstep.translator);
    let_go(a);
    return lockstep.over;
}

/* ---- turns ---------------------------------------------------------------------------------- */

/* Short ones find what goes wrong between two instructions of many CPUs; long ones let them come
 * to something. */
static unsigned turn_length(void)
{
    if (lockstep.translator.pc->vm->vcpu_count == 1)
        return UINT32_MAX;
    if (lockstep.free_running)
        return (unsigned)g_rand_int_range(lockstep.random, 1, 4);
    bool is_long = g_rand_int_range(lockstep.random, 0, 8) == 0;
    return (unsigned)g_rand_int_range(lockstep.random, 1, is_long ? 2000 : 16);
}

/* Whether the CPU waits for a startup IPI. */
static bool begin_turn(Machine *m, unsigned index)
{
    m->cpu = m->pc->vm->vcpus[index]->engine_data;
    as_vcpu(m);
    vcpu_service_requests(m->cpu->vcpu);
    vcpu_enter(m->cpu->vcpu);
    return m->cpu->vcpu->activity == CPU_WAIT_SIPI;
}

static void end_turn(Machine *m)
{
    as_vcpu(m);
    vcpu_leave(m->cpu->vcpu);
}

static void take_turn(unsigned index)
{
    bool waits = begin_turn(&lockstep.interpreter, index);
    if (begin_turn(&lockstep.translator, index) != waits)
        fail("INIT or startup IPI came to one machine");
    Vcpu *vcpu = lockstep.translator.cpu->vcpu;
    lockstep.nothing_run = true;
    lockstep.idle_turns++;
    lockstep.turn_left = turn_length();
    VcpuExit exit = waits ? VCPU_EXIT_HALTED : vcpu->vm->engine->run(vcpu);
    if (exit == VCPU_EXIT_SHUTDOWN && !lockstep.over)
        fail("triple fault at %" PRIx64, lockstep.translator.cpu->s.rip);
    end_turn(&lockstep.translator);
    end_turn(&lockstep.interpreter);
}

static void run_guest(void)
{
    Vm *vm = lockstep.translator.pc->vm;
    vm->debug = &lockstep.debug;
    while (!lockstep.over)
        for (unsigned i = 0; i < vm->vcpu_count && !lockstep.over; i++)
            take_turn(i);
    compare_all_memory();
}

/* ---- machines ------------------------------------------------------------------------------- */

static void on_event(void *obj, PcEvent event, int value, const char *text)
{
    Machine *m = obj;
    if (event == PC_EVENT_RESET)
        return;
    m->ended = true;
    m->status = event == PC_EVENT_EXIT ? value : event == PC_EVENT_POWEROFF ? 0 : 255;
}

static void machine_new(Machine *m, PcConfig *config, const Engine *engine)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *serial = NULL;
    int fd = g_file_open_tmp("ospite-lockstep-XXXXXX", &m->serial, &error);
    if (fd < 0)
        g_error("%s", error->message);
    close(fd);
    config->serial[0] = serial = g_strconcat("file:", m->serial, NULL);
    config->engine = engine;
    m->pc = pc_new(config, g_main_context_new(), &error);
    if (!m->pc)
        g_error("%s", error->message);
    m->cpu = m->pc->vm->vcpus[0]->engine_data;
    for (unsigned i = 0; i < config->cpu_count && engine == &engine_jit; i++)
        ((SoftCpu *)m->pc->vm->vcpus[i]->engine_data)->jit->warm = 0;
    pc_set_event_handler(m->pc, on_event, m);
    pc_resume(m->pc);
}

/* What it wrote to its serial line. */
static char *machine_free(Machine *m)
{
    char *text = NULL;
    vcpu_adopt_thread(NULL);
    pc_free(m->pc);
    g_file_get_contents(m->serial, &text, NULL, NULL);
    unlink(m->serial);
    g_free(m->serial);
    return text;
}

static bool parse(int argc, char **argv, PcConfig *config)
{
    g_autofree char *kernel = NULL, *initrd = NULL, *append = NULL, *firmware = NULL, *disk = NULL,
                    *model = NULL, *paravirt = NULL;
    gint64 insns = G_MAXINT64;
    gboolean free_running = FALSE, testdev = FALSE;
    int seed = 1, mib = 64, cpus = 1;
    const GOptionEntry options[] = {
        {"memory", 0, 0, G_OPTION_ARG_INT, &mib, "MiB of RAM", "MIB"},
        {"kernel", 0, 0, G_OPTION_ARG_STRING, &kernel, "kernel to boot directly", "FILE"},
        {"initrd", 0, 0, G_OPTION_ARG_STRING, &initrd, "its initial RAM disk", "FILE"},
        {"append", 0, 0, G_OPTION_ARG_STRING, &append, "its command line", "TEXT"},
        {"firmware", 0, 0, G_OPTION_ARG_STRING, &firmware, "BIOS image", "FILE"},
        {"disk", 0, 0, G_OPTION_ARG_STRING, &disk, "raw disk, read-only", "FILE"},
        {"cpu", 0, 0, G_OPTION_ARG_STRING, &model, "CPU model", "NAME"},
        {"cpus", 0, 0, G_OPTION_ARG_INT, &cpus, "how many", "N"},
        {"paravirt", 0, 0, G_OPTION_ARG_STRING, &paravirt, "none, kvm, hyperv or both", "KIND"},
        {"insns", 0, 0, G_OPTION_ARG_INT64, &insns, "stop after so many instructions", "N"},
        {"free", 0, 0, G_OPTION_ARG_NONE, &free_running, "let translated code run on", NULL},
        {"seed", 0, 0, G_OPTION_ARG_INT, &seed, "of the times it runs and of turns", "N"},
        {"testdev", 0, 0, G_OPTION_ARG_NONE, &testdev, "with the test device", NULL},
        {NULL},
    };
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_autoptr(GError) error = NULL;
    g_option_context_add_main_entries(context, options, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error)) {
        fprintf(stderr, "lockstep: %s\n", error->message);
        return false;
    }
    lockstep.limit = (uint64_t)insns;
    lockstep.free_running = free_running;
    lockstep.random = g_rand_new_with_seed((guint32)seed);
    config->memory_size = MIB((uint64_t)mib);
    config->kernel = g_steal_pointer(&kernel);
    config->initrd = g_steal_pointer(&initrd);
    config->append = g_steal_pointer(&append);
    config->firmware = g_steal_pointer(&firmware);
    config->cpu_model =
        model ? g_steal_pointer(&model) : "x86-64-v3,-rdrand,-rdseed"; /* no chance */
    config->testdev = testdev;
    config->cpu_count = (unsigned)CLAMP(cpus, 1, VM_MAX_VCPUS);
    if (paravirt)
        config->paravirt = paravirt_from_name(paravirt);
    if (disk) {
        config->drives[0] = (PcDrive){.kind = PC_DRIVE_DISK,
                                      .path = g_steal_pointer(&disk),
                                      .format = "raw",
                                      .mode = PC_DRIVE_READONLY,
                                      .index = -1};
        config->drive_count = 1;
    }
    return true;
}

/* Both CPUs and the code that made them different. */
static void show_states(void)
{
    SoftCpu *a = lockstep.translator.cpu, *b = lockstep.interpreter.cpu;
    const Ram *ram = lockstep.interpreter.pc->ram;
    uint64_t at = mmu_debug_translate(b, code_linear(b, lockstep.start_rip));
    for (unsigned i = 0; i < 16; i++)
        printf("# gpr %2u translated %016" PRIx64 " interpreted %016" PRIx64 "\n", i, a->s.gpr[i],
               b->s.gpr[i]);
    printf("# translated rip %" PRIx64 " rflags %" PRIx64 " cr2 %" PRIx64 "\n", a->s.rip,
           flags_get(a), a->s.cr2);
    printf("# interpreted rip %" PRIx64 " rflags %" PRIx64 " cr2 %" PRIx64 "\n", b->s.rip,
           flags_get(b), b->s.cr2);
    printf("# code at %" PRIx64 ":", lockstep.start_rip);
    for (uint64_t i = 0; i < CODE_SHOWN && at < ram->size && i < ram->size - at; i++)
        printf(" %02x", ram->host[at + i]);
    printf("\n");
}

static void report(const char *a, const char *b)
{
    printf("# %" PRIu64 " instructions, %" PRIu64 " comparisons, %" PRIu64
           " times dead flags were pushed\n",
           lockstep.interpreter.steps, lockstep.blocks, lockstep.pushed_flags);
    for (unsigned i = 0; i < VM_MAX_VCPUS; i++)
        if (lockstep.turns[i])
            printf("# CPU %u: %" PRIu64 " turns\n", i, lockstep.turns[i]);
    if (lockstep.failure)
        printf("# %s\n", lockstep.failure);
    printf("%sok 1 - the same state after each block\n", lockstep.failure ? "not " : "");
    for (const char *bad = a; (bad = strstr(bad, "\nnot ok")); bad++)
        printf("#%.*s\n", (int)strcspn(bad + 1, "\n"), bad + 1);
    bool same = !g_strcmp0(a, b);
    printf("%sok 2 - the same output\n", same ? "" : "not ");
    /* 0 written to isa-debug-exit arrives as 1. */
    bool ended = lockstep.translator.ended ? lockstep.translator.status <= 1
                                           : lockstep.interpreter.steps >= lockstep.limit;
    printf("%sok 3 - the guest is content\n", ended && !strstr(a, "\nnot ok") ? "" : "not ");
    printf("1..3\n");
}

int main(int argc, char **argv)
{
    PcConfig config = {.cpu_count = 1, .debug_exit_port = PC_DEBUG_EXIT_PORT};
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    if (!parse(argc, argv, &config))
        return 2;
    machine_new(&lockstep.interpreter, &config, &engine_interp);
    machine_new(&lockstep.translator, &config, &engine_jit);
    sigaction(SIGALRM, &action, NULL);
    lockstep.dirty = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    run_guest();
    setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
    if (lockstep.failure)
        show_states();
    g_autofree char *a = machine_free(&lockstep.translator);
    g_autofree char *b = machine_free(&lockstep.interpreter);
    report(a, b);
    return lockstep.failure ? 1 : 0;
}
