/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The meeting of threads in vm.c and vcpu.c, with an engine whose guest code is a C function. What
 * guest code and exclusive sections share is plain memory on purpose: under ThreadSanitizer each
 * missing happens-before is a report.
 */
#include "cpu/engine.h"
#include "cpu/tsc.h"

#define ROUNDS     2000
#define MAX_CPUS   VM_MAX_VCPUS
#define TIMEOUT_US (20 * G_USEC_PER_SEC)

typedef struct Fake Fake;

typedef struct FakeCpu {
    CpuState state;
    _Atomic bool kicked;
    _Atomic bool pending;       /* the fake local APIC has an interrupt */
    _Atomic unsigned delivered; /* interrupts */
    _Atomic unsigned nmis;
    uint64_t a, b;                   /* equal whenever the CPU is at a safe point */
    uint64_t sets_begun, sets_ended; /* likewise */
    Fake *fake;
} FakeCpu;

struct Fake {
    Vm *vm;
    CpuModel model;
    FakeCpu cpus[MAX_CPUS];
    unsigned count;
    VcpuExit (*guest)(Vcpu *vcpu, FakeCpu *cpu); /* a slice of guest code; KICKED: go on */
    GRecMutex board_lock;
    _Atomic unsigned exits;
    _Atomic VcpuExit last_exit;
    uint64_t stood_still; /* counts of the host's TSC */
    _Atomic bool stop;
};

/* ---- the engine ------------------------------------------------------------------------------ */

static bool fake_vm_init(Vm *vm, GError **error)
{
    return true;
}

static void fake_vm_clear(Vm *vm)
{
}

static bool fake_vcpu_init(Vcpu *vcpu, GError **error)
{
    return true;
}

static void fake_vcpu_clear(Vcpu *vcpu)
{
}

/* True when an event was delivered. */
static bool take_event(Vcpu *vcpu, FakeCpu *cpu)
{
    if (!vcpu->nmi_blocked &&
        atomic_fetch_and(&vcpu->requests, ~VCPU_REQUEST_NMI) & VCPU_REQUEST_NMI) {
        cpu->nmis++;
        return true;
    }
    if (cpu->state.rflags & FLAG_IF && atomic_exchange(&cpu->pending, false)) {
        cpu->delivered++;
        return true;
    }
    return false;
}

static VcpuExit fake_run(Vcpu *vcpu)
{
    FakeCpu *cpu = vcpu->engine_data;
    for (;;) {
        bool kicked = atomic_exchange(&cpu->kicked, false);
        if (take_event(vcpu, cpu))
            cpu->state.activity = CPU_ACTIVE;
        if (cpu->state.activity == CPU_HALTED)
            return VCPU_EXIT_HALTED;
        if (kicked && atomic_load(&vcpu->requests) & ~(VCPU_REQUEST_NMI | VCPU_REQUEST_INTERRUPT))
            return VCPU_EXIT_KICKED;
        VcpuExit exit = cpu->fake->guest(vcpu, cpu);
        if (exit == VCPU_EXIT_HALTED) {
            cpu->state.activity = CPU_HALTED;
            vcpu->interrupts_enabled = cpu->state.rflags & FLAG_IF;
        }
        if (exit != VCPU_EXIT_KICKED)
            return exit;
    }
}

static void fake_kick(Vcpu *vcpu)
{
    atomic_store(&((FakeCpu *)vcpu->engine_data)->kicked, true);
}

static void fake_get_state(Vcpu *vcpu, CpuState *state)
{
    *state = ((FakeCpu *)vcpu->engine_data)->state;
}

static void fake_time_stood_still(Vm *vm, uint64_t counts)
{
    Fake *fake = vm->obj;
    if (fake)
        fake->stood_still += counts;
}

static void fake_set_state(Vcpu *vcpu, const CpuState *state)
{
    FakeCpu *cpu = vcpu->engine_data;
    if (!cpu)
        return;
    cpu->sets_begun++;
    cpu->state = *state;
    g_thread_yield();
    cpu->sets_ended++;
}

static const Engine fake_engine = {
    .name = "fake",
    .vm_init = fake_vm_init,
    .vm_clear = fake_vm_clear,
    .vcpu_init = fake_vcpu_init,
    .vcpu_clear = fake_vcpu_clear,
    .run = fake_run,
    .kick = fake_kick,
    .get_state = fake_get_state,
    .set_state = fake_set_state,
    .time_stood_still = fake_time_stood_still,
};

static bool intc_has_interrupt(void *obj)
{
    return atomic_load(&((FakeCpu *)obj)->pending);
}

static void intc_reset(void *obj, bool init)
{
    atomic_store(&((FakeCpu *)obj)->pending, false);
}

static uint64_t intc_apic_base(void *obj)
{
    return 0xfee00800;
}

static const Intc fake_intc = {
    .has_interrupt = intc_has_interrupt,
    .reset = intc_reset,
    .apic_base = intc_apic_base,
};

static void count_exit(void *obj, Vcpu *vcpu, VcpuExit exit)
{
    Fake *fake = obj;
    atomic_store(&fake->last_exit, exit);
    fake->exits++;
}

static Fake *fake_new(unsigned count, VcpuExit (*guest)(Vcpu *, FakeCpu *))
{
    g_autoptr(GError) error = NULL;
    Fake *fake = g_new0(Fake, 1);
    fake->count = count;
    fake->guest = guest;
    g_rec_mutex_init(&fake->board_lock);
    fake->model.tsc_hz = 1000000000;
    fake->vm = vm_new(&fake_engine, NULL, NULL, &fake->model, count, &error);
    g_assert_no_error(error);
    fake->vm->on_exit = count_exit;
    fake->vm->obj = fake;
    for (unsigned i = 0; i < count; i++) {
        fake->cpus[i].fake = fake;
        fake->vm->vcpus[i]->engine_data = &fake->cpus[i];
        fake->vm->vcpus[i]->intc = &fake_intc;
        fake->vm->vcpus[i]->intc_obj = &fake->cpus[i];
    }
    vm_reset(fake->vm);
    return fake;
}

static void fake_free(Fake *fake)
{
    vm_free(fake->vm);
    g_rec_mutex_clear(&fake->board_lock);
    g_free(fake);
}

/* All CPUs active, with interrupts on. */
static void activate(Fake *fake)
{
    for (unsigned i = 0; i < fake->count; i++) {
        CpuState state;
        vcpu_get_state(fake->vm->vcpus[i], &state);
        state.activity = CPU_ACTIVE;
        state.rflags |= FLAG_IF;
        vcpu_set_state(fake->vm->vcpus[i], &state);
    }
}

static void wait_until(_Atomic unsigned *value, unsigned wanted)
{
    gint64 end = g_get_monotonic_time() + TIMEOUT_US;
    while (atomic_load(value) < wanted) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(20);
    }
}

/* ---- exclusive sections ---------------------------------------------------------------------- */

static void check_all_stopped(Fake *fake, const Vcpu *self)
{
    for (unsigned i = 0; i < fake->count; i++) {
        if (fake->vm->vcpus[i] != self) {
            g_assert_cmpuint(fake->cpus[i].a, ==, fake->cpus[i].b);
            g_assert_cmpuint(fake->cpus[i].sets_begun, ==, fake->cpus[i].sets_ended);
        }
    }
}

static void exclusive_section(Fake *fake, Vcpu *self)
{
    vm_exclusive_begin(fake->vm, self);
    check_all_stopped(fake, self);
    vm_exclusive_begin(fake->vm, self);
    check_all_stopped(fake, self);
    vm_exclusive_end(fake->vm, self);
    check_all_stopped(fake, self);
    vm_exclusive_end(fake->vm, self);
}

static void mmio(Vcpu *vcpu, FakeCpu *cpu)
{
    vcpu_leave(vcpu);
    g_rec_mutex_lock(&cpu->fake->board_lock);
    if (cpu->a % 4 == 0)
        exclusive_section(cpu->fake, vcpu);
    g_rec_mutex_unlock(&cpu->fake->board_lock);
    vcpu_enter(vcpu);
}

static VcpuExit busy_guest(Vcpu *vcpu, FakeCpu *cpu)
{
    cpu->a++;
    for (int i = 0; i < 50; i++)
        __asm__ volatile("pause");
    cpu->b++;
    if (cpu->a % 64 == vcpu->index)
        mmio(vcpu, cpu);
    if (cpu->a % 100 == vcpu->index)
        exclusive_section(cpu->fake, vcpu);
    return VCPU_EXIT_KICKED;
}

static void *board_thread(void *obj)
{
    Fake *fake = obj;
    while (!atomic_load(&fake->stop)) {
        g_rec_mutex_lock(&fake->board_lock);
        exclusive_section(fake, NULL);
        g_rec_mutex_unlock(&fake->board_lock);
        g_usleep(50);
    }
    return NULL;
}

static void *kick_thread(void *obj)
{
    Fake *fake = obj;
    for (unsigned i = 0; !atomic_load(&fake->stop); i++) {
        vcpu_request(fake->vm->vcpus[i % fake->count], VCPU_REQUEST_INTERRUPT);
        if (i % 16 == 0)
            g_usleep(20);
    }
    return NULL;
}

static void test_exclusive(void)
{
    Fake *fake = fake_new(MAX_CPUS, busy_guest);
    activate(fake);
    GThread *board = g_thread_new("board", board_thread, fake);
    GThread *kick = g_thread_new("kick", kick_thread, fake);
    for (int i = 0; i < 100; i++) {
        vm_resume(fake->vm);
        vm_resume(fake->vm);
        g_usleep(g_random_int_range(0, 2000));
        vm_pause(fake->vm);
        check_all_stopped(fake, NULL);
        uint64_t before = fake->cpus[i % MAX_CPUS].a;
        g_usleep(100);
        g_assert_cmpuint(fake->cpus[i % MAX_CPUS].a, ==, before);
    }
    atomic_store(&fake->stop, true);
    g_thread_join(board);
    g_thread_join(kick);
    g_assert_cmpuint(fake->cpus[0].a, >, 0);
    fake_free(fake);
}

/* Only the first CPU; sections all the time. */
static VcpuExit excluding_guest(Vcpu *vcpu, FakeCpu *cpu)
{
    exclusive_section(cpu->fake, vcpu);
    atomic_fetch_add(&cpu->delivered, 1);
    return VCPU_EXIT_KICKED;
}

/* A CPU that is reset or started by another changes nothing inside the other's sections. */
static void test_exclusive_init(void)
{
    Fake *fake = fake_new(2, excluding_guest);
    Vcpu *ap = fake->vm->vcpus[1];
    vm_resume(fake->vm);
    for (unsigned i = 1; i <= ROUNDS; i++) {
        vcpu_intc_cpu_ops.init(ap);
        if (i % 10 == 0)
            wait_until(&fake->cpus[0].delivered, i);
    }
    fake_free(fake);
}

/* A paused CPU has taken what was sent to it before: its state can be saved. */
static void test_pause_init(void)
{
    Fake *fake = fake_new(2, busy_guest);
    Vcpu *ap = fake->vm->vcpus[1];
    for (unsigned i = 0; i < ROUNDS / 4; i++) {
        vm_resume(fake->vm);
        vcpu_intc_cpu_ops.init(ap);
        vm_pause(fake->vm);
        g_assert_cmphex(atomic_load(&ap->requests) & VCPU_REQUEST_INIT, ==, 0);
        g_assert_cmpuint(fake->cpus[1].sets_begun, ==, fake->cpus[1].sets_ended);
    }
    fake_free(fake);
}

/* While it is paused, a guest's counters stand as its clocks do. */
static void test_pause_tsc(void)
{
    Fake *fake = fake_new(2, busy_guest);
    vm_resume(fake->vm);
    vm_pause(fake->vm);
    uint64_t before = fake->stood_still, begin = tsc_host_now();
    for (unsigned i = 0; i < 10; i++)
        activate(fake);
    uint64_t stood = tsc_host_now() - begin;
    vm_resume(fake->vm);
    vm_resume(fake->vm); /* runs already */
    vm_pause(fake->vm);
    vm_reset(fake->vm);
    g_assert_cmpuint(fake->stood_still - before, >=, stood);
    g_assert_cmpuint(fake->stood_still - before, <=, tsc_host_now() - begin);
    fake_free(fake);
}

/* Freeing a running VM must not hang. */
static void test_free_running(void)
{
    for (int i = 0; i < 20; i++) {
        Fake *fake = fake_new(MAX_CPUS, busy_guest);
        activate(fake);
        vm_resume(fake->vm);
        g_usleep(g_random_int_range(0, 300));
        fake_free(fake);
    }
}

/* ---- halting --------------------------------------------------------------------------------- */

static VcpuExit halting_guest(Vcpu *vcpu, FakeCpu *cpu)
{
    cpu->a++;
    cpu->b++;
    return VCPU_EXIT_HALTED;
}

static void raise_interrupt(Fake *fake, unsigned i)
{
    atomic_store(&fake->cpus[i].pending, true);
    vcpu_request(fake->vm->vcpus[i], VCPU_REQUEST_INTERRUPT);
}

static void *pause_thread(void *obj)
{
    Fake *fake = obj;
    while (!atomic_load(&fake->stop)) {
        vm_pause(fake->vm);
        vm_resume(fake->vm);
        g_usleep(100);
    }
    return NULL;
}

/* Each wake-up is waited for: one that gets lost ends the test. */
static void test_halt(void)
{
    Fake *fake = fake_new(2, halting_guest);
    activate(fake);
    vm_resume(fake->vm);
    GThread *pause = g_thread_new("pause", pause_thread, fake);
    for (unsigned i = 0; i < ROUNDS; i++) {
        unsigned before = atomic_load(&fake->cpus[i & 1].delivered);
        raise_interrupt(fake, i & 1);
        wait_until(&fake->cpus[i & 1].delivered, before + 1);
    }
    atomic_store(&fake->stop, true);
    g_thread_join(pause);
    fake_free(fake);
}

/* CPUs that wake each other in a ring. */
static VcpuExit ring_guest(Vcpu *vcpu, FakeCpu *cpu)
{
    if (cpu->b != cpu->delivered) {
        cpu->b = cpu->delivered;
        raise_interrupt(cpu->fake, (vcpu->index + 1) % cpu->fake->count);
    }
    return VCPU_EXIT_HALTED;
}

static void test_ring(void)
{
    Fake *fake = fake_new(4, ring_guest);
    activate(fake);
    vm_resume(fake->vm);
    raise_interrupt(fake, 0);
    wait_until(&fake->cpus[3].delivered, ROUNDS);
    fake_free(fake);
}

static gint64 thread_time_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return now.tv_sec * G_USEC_PER_SEC + now.tv_nsec / 1000;
}

/* HLT with interrupts off sleeps, whatever the APIC says, until an NMI; a blocked NMI doesn't wake
 * it. */
static void test_halt_masked(void)
{
    Fake *fake = fake_new(1, halting_guest);
    Vcpu *vcpu = fake->vm->vcpus[0];
    vm_resume(fake->vm);
    g_usleep(2000);
    raise_interrupt(fake, 0);
    gint64 busy = thread_time_us();
    g_usleep(50000);
    g_assert_cmpint(thread_time_us() - busy, <, 25000);
    g_assert_cmpuint(fake->cpus[0].delivered, ==, 0);
    vcpu_intc_cpu_ops.nmi(vcpu);
    wait_until(&fake->cpus[0].nmis, 1);

    vm_pause(fake->vm);
    CpuState state;
    vcpu_get_state(vcpu, &state);
    g_assert_cmpint(state.activity, ==, CPU_HALTED);
    state.nmi_blocked = true;
    vcpu_set_state(vcpu, &state);
    vm_resume(fake->vm);
    vcpu_intc_cpu_ops.nmi(vcpu);
    busy = thread_time_us();
    g_usleep(50000);
    g_assert_cmpint(thread_time_us() - busy, <, 25000);
    g_assert_cmpuint(fake->cpus[0].nmis, ==, 1);
    vm_pause(fake->vm);
    vcpu_get_state(vcpu, &state);
    g_assert_true(state.nmi_pending);
    fake_free(fake);
}

/* ---- work, INIT and SIPI, exits -------------------------------------------------------------- */

static void add_one(Vcpu *vcpu, void *data)
{
    g_assert_true(vcpu_current() == vcpu);
    ++*(unsigned *)data;
}

static VcpuExit calling_guest(Vcpu *vcpu, FakeCpu *cpu)
{
    unsigned done = 0;
    vcpu_run_on(vcpu->vm->vcpus[(vcpu->index + 1) % cpu->fake->count], add_one, &done);
    vcpu_run_on(vcpu, add_one, &done);
    g_assert_cmpuint(done, ==, 2);
    cpu->delivered++;
    return VCPU_EXIT_KICKED;
}

static void test_run_on(void)
{
    Fake *fake = fake_new(3, calling_guest);
    unsigned done = 0;
    vcpu_run_on(fake->vm->vcpus[1], add_one, &done); /* paused */
    activate(fake);
    vm_resume(fake->vm);
    for (unsigned i = 0; i < 3; i++) {
        wait_until(&fake->cpus[i].delivered, 200);
        vcpu_run_on(fake->vm->vcpus[i], add_one, &done);
    }
    g_assert_cmpuint(done, ==, 4);
    fake_free(fake);
}

static void test_init_sipi(void)
{
    Fake *fake = fake_new(2, halting_guest);
    Vcpu *ap = fake->vm->vcpus[1];
    CpuState state;
    vm_resume(fake->vm);
    raise_interrupt(fake, 1); /* does not start it */
    g_usleep(1000);
    vcpu_get_state(ap, &state);
    g_assert_cmpint(state.activity, ==, CPU_WAIT_SIPI);
    g_assert_cmpuint(fake->cpus[1].a, ==, 0);

    vcpu_intc_cpu_ops.init(ap);
    vcpu_intc_cpu_ops.startup(ap, 0x9a);
    for (int i = 0; i < 1000 && state.activity != CPU_HALTED; i++) {
        g_usleep(1000);
        vcpu_get_state(ap, &state);
    }
    g_assert_cmphex(state.seg[SEG_CS].selector, ==, 0x9a00);
    g_assert_cmphex(state.seg[SEG_CS].base, ==, 0x9a000);
    g_assert_cmphex(state.rip, ==, 0);
    vcpu_intc_cpu_ops.startup(ap, 0x10); /* only the first after INIT counts */
    vcpu_get_state(ap, &state);
    g_assert_cmphex(state.seg[SEG_CS].base, ==, 0x9a000);
    fake_free(fake);
}

static VcpuExit dying_guest(Vcpu *vcpu, FakeCpu *cpu)
{
    if (vcpu->index)
        return VCPU_EXIT_HALTED;
    return VCPU_EXIT_SHUTDOWN;
}

static void test_shutdown(void)
{
    Fake *fake = fake_new(2, dying_guest);
    vm_resume(fake->vm);
    wait_until(&fake->exits, 1);
    g_assert_cmpint(fake->last_exit, ==, VCPU_EXIT_SHUTDOWN);
    vcpu_intc_cpu_ops.nmi(fake->vm->vcpus[0]);
    g_usleep(5000);
    g_assert_cmpuint(fake->exits, ==, 1);
    vm_pause(fake->vm);
    vm_reset(fake->vm);
    vm_resume(fake->vm);
    wait_until(&fake->exits, 2);
    fake_free(fake);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/cpu/vm/exclusive", test_exclusive);
    g_test_add_func("/cpu/vm/exclusive-init", test_exclusive_init);
    g_test_add_func("/cpu/vm/pause-init", test_pause_init);
    g_test_add_func("/cpu/vm/pause-tsc", test_pause_tsc);
    g_test_add_func("/cpu/vm/free-running", test_free_running);
    g_test_add_func("/cpu/vm/halt", test_halt);
    g_test_add_func("/cpu/vm/ring", test_ring);
    g_test_add_func("/cpu/vm/halt-masked", test_halt_masked);
    g_test_add_func("/cpu/vm/run-on", test_run_on);
    g_test_add_func("/cpu/vm/init-sipi", test_init_sipi);
    g_test_add_func("/cpu/vm/shutdown", test_shutdown);
    return g_test_run();
}
