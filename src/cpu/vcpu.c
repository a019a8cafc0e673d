/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One vCPU and its thread: service requests → wait while halted or paused → engine->run() → handle
 * the exit → again.
 *
 * A request bit only says "look here": the thread clears it first and looks then, so nothing is
 * lost. The NMI bit alone is kept until the engine takes the NMI.
 */
#include "cpu/vm_internal.h"

#include <errno.h>
#include <time.h>

#include "cpu/tsc.h"

static _Thread_local Vcpu *current_vcpu;

Vcpu *vcpu_current(void)
{
    return current_vcpu;
}

void vcpu_adopt_thread(Vcpu *vcpu)
{
    current_vcpu = vcpu;
}

/* ---- requests -------------------------------------------------------------------------------- */

void vcpu_request(Vcpu *vcpu, uint32_t requests)
{
    struct VcpuSync *sync = vcpu->sync;
    atomic_fetch_or(&vcpu->requests, requests);
    if (atomic_load(&sync->sleeping)) {
        pthread_mutex_lock(&sync->lock);
        pthread_cond_signal(&sync->wake);
        pthread_mutex_unlock(&sync->lock);
    }
    if (atomic_load(&sync->in_run))
        vcpu->vm->engine->kick(vcpu);
}

/* Until one of the bits in `wake` is set. Counts the time as halted if the guest halted. */
static void sleep_until(Vcpu *vcpu, uint32_t wake)
{
    struct VcpuSync *sync = vcpu->sync;
    gint64 start_us = g_get_monotonic_time();
    pthread_mutex_lock(&sync->lock);
    atomic_store(&sync->sleeping, true);
    while (!(atomic_load(&vcpu->requests) & wake))
        pthread_cond_wait(&sync->wake, &sync->lock);
    atomic_store(&sync->sleeping, false);
    pthread_mutex_unlock(&sync->lock);
    if (vcpu->activity == CPU_HALTED)
        vcpu->halted_ns += (g_get_monotonic_time() - start_us) * 1000;
}

/* ---- a limit of the host's time ---------------------------------------------------------------
 */

#define LIMIT_BURST_NS (10 * G_TIME_SPAN_MILLISECOND * 1000)

static int64_t clock_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

/* What the thread has run since the last look is paid for with time: at 25 percent, four times as
 * long. Returns when it may run on, by CLOCK_MONOTONIC; 0: now. */
static int64_t limit_until_ns(Vcpu *vcpu)
{
    struct VcpuSync *sync = vcpu->sync;
    unsigned percent = atomic_load(&vcpu->vm->sync->percent);
    int64_t now_ns, taken_ns, ran_ns;

    if (percent >= 100) {
        sync->paid_until_ns = 0;
        return 0;
    }
    now_ns = clock_ns(CLOCK_MONOTONIC);
    taken_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    ran_ns = taken_ns - sync->taken_ns;
    sync->taken_ns = taken_ns;
    /* Time from before the limit is not counted. */
    if (sync->paid_until_ns)
        sync->paid_until_ns = MAX(sync->paid_until_ns, now_ns - ran_ns) + ran_ns * 100 / percent;
    else
        sync->paid_until_ns = now_ns;
    return sync->paid_until_ns > now_ns + LIMIT_BURST_NS ? sync->paid_until_ns : 0;
}

/* Waits while it has taken too much, unless somebody wants something of it. */
static bool rest(Vcpu *vcpu)
{
    struct VcpuSync *sync = vcpu->sync;
    uint32_t wake = ~(VCPU_REQUEST_NMI | VCPU_REQUEST_INTERRUPT | VCPU_REQUEST_LIMIT);
    int64_t until_ns = limit_until_ns(vcpu);
    struct timespec until = {until_ns / 1000000000, until_ns % 1000000000};
    int late = 0;

    if (!until_ns || atomic_load(&vcpu->vm->sync->paused))
        return false;
    pthread_mutex_lock(&sync->lock);
    atomic_store(&sync->sleeping, true);
    while (!(atomic_load(&vcpu->requests) & wake) && late != ETIMEDOUT)
        late = pthread_cond_clockwait(&sync->wake, &sync->lock, CLOCK_MONOTONIC, &until);
    atomic_store(&sync->sleeping, false);
    pthread_mutex_unlock(&sync->lock);
    return true;
}

static bool has_event(Vcpu *vcpu)
{
    if (atomic_load(&vcpu->requests) & VCPU_REQUEST_NMI && !vcpu->nmi_blocked)
        return true;
    return vcpu->interrupts_enabled && vcpu->intc && vcpu->intc->has_interrupt(vcpu->intc_obj);
}

bool vcpu_has_work(Vcpu *vcpu)
{
    uint32_t others = ~(VCPU_REQUEST_NMI | VCPU_REQUEST_INTERRUPT);
    return atomic_load(&vcpu->requests) & others || has_event(vcpu);
}

/* ---- work ------------------------------------------------------------------------------------ */

static VcpuWork *take_work(Vcpu *vcpu)
{
    VcpuWork *work = vcpu->sync->work;
    if (work) {
        vcpu->sync->work = work->next;
        if (!work->next)
            vcpu->sync->work_tail = &vcpu->sync->work;
    }
    return work;
}

/* With the VM's lock held, which is let go around each piece of work. */
static void do_work_locked(Vcpu *vcpu)
{
    struct VmSync *sync = vcpu->vm->sync;
    VcpuWork *work;
    while ((work = take_work(vcpu))) {
        pthread_mutex_unlock(&sync->lock);
        work->fn(vcpu, work->data);
        pthread_mutex_lock(&sync->lock);
        work->done = true;
        pthread_cond_broadcast(&sync->changed);
    }
}

/* A vCPU thread that waits here does the work others ask of it meanwhile: two that ask each other
 * don't hang. */
void vcpu_run_on(Vcpu *vcpu, void (*fn)(Vcpu *vcpu, void *data), void *data)
{
    Vcpu *self = current_vcpu;
    if (self == vcpu) {
        fn(vcpu, data);
        return;
    }
    struct VmSync *sync = vcpu->vm->sync;
    VcpuWork work = {.fn = fn, .data = data};
    bool in_guest = self && atomic_load(&self->sync->in_guest);
    if (in_guest)
        vcpu_leave(self);
    pthread_mutex_lock(&sync->lock);
    *vcpu->sync->work_tail = &work;
    vcpu->sync->work_tail = &work.next;
    pthread_cond_broadcast(&sync->changed);
    pthread_mutex_unlock(&sync->lock);
    vcpu_request(vcpu, VCPU_REQUEST_WORK);
    pthread_mutex_lock(&sync->lock);
    while (!work.done) {
        if (self && self->sync->work)
            do_work_locked(self);
        else
            pthread_cond_wait(&sync->changed, &sync->lock);
    }
    pthread_mutex_unlock(&sync->lock);
    if (in_guest)
        vcpu_enter(self);
}

/* ---- state ----------------------------------------------------------------------------------- */

static void get_state_work(Vcpu *vcpu, void *data)
{
    CpuState *state = data;
    vcpu->vm->engine->get_state(vcpu, state);
    if (vcpu->activity == CPU_SHUTDOWN)
        state->activity = CPU_SHUTDOWN;
    if (atomic_load(&vcpu->requests) & VCPU_REQUEST_NMI) {
        unsigned waiting = state->nmi_pending + atomic_load(&vcpu->nmis);
        state->nmi_pending = MIN(waiting, state->nmi_blocked ? 1 : 2);
    }
}

static void set_state_work(Vcpu *vcpu, void *data)
{
    const CpuState *state = data;
    vcpu->vm->engine->set_state(vcpu, state);
    vcpu->activity = state->activity;
    vcpu->nmi_blocked = state->nmi_blocked;
    vcpu->interrupts_enabled = state->rflags & FLAG_IF && !state->interrupt_shadow;
    atomic_store(&vcpu->nmis, state->nmi_pending);
    if (state->nmi_pending)
        atomic_fetch_or(&vcpu->requests, VCPU_REQUEST_NMI);
    else
        atomic_fetch_and(&vcpu->requests, ~VCPU_REQUEST_NMI);
}

void vcpu_get_state(Vcpu *vcpu, CpuState *state)
{
    vcpu_run_on(vcpu, get_state_work, state);
}

void vcpu_set_state(Vcpu *vcpu, const CpuState *state)
{
    vcpu_run_on(vcpu, set_state_work, (void *)state);
}

void vcpu_reset_state(Vcpu *vcpu, bool init)
{
    const Engine *engine = vcpu->vm->engine;
    CpuState state = {0};
    if (init)
        get_state_work(vcpu, &state);
    else
        atomic_fetch_and(&vcpu->requests, ~(VCPU_REQUEST_INIT | VCPU_REQUEST_SIPI));
    cpu_state_reset(&state, cpu_model_signature(vcpu->vm->model), vcpu->index == 0, init);
    state.nmi_pending = false;
    if (!init)
        state.tsc_host = vm_time_origin(vcpu->vm);
    if (engine->reset_apic) {
        engine->reset_apic(vcpu);
    } else if (vcpu->intc) {
        vcpu->intc->reset(vcpu->intc_obj, init);
        state.apic_base = vcpu->intc->apic_base(vcpu->intc_obj);
    }
    set_state_work(vcpu, &state);
    g_clear_pointer(&vcpu->error, g_free);
}

/* STARTUP IPI: real mode at vector × 4 KiB. SDM 3A 10.6.1, table 9-1. */
static void start_up(Vcpu *vcpu)
{
    CpuState state;
    uint8_t vector = __atomic_load_n(&vcpu->sipi_vector, __ATOMIC_ACQUIRE);
    get_state_work(vcpu, &state);
    state.seg[SEG_CS].selector = vector << 8;
    state.seg[SEG_CS].base = vector << 12;
    state.rip = 0;
    state.activity = CPU_ACTIVE;
    set_state_work(vcpu, &state);
}

/* ---- the thread ------------------------------------------------------------------------------ */

void vcpu_service_requests(Vcpu *vcpu)
{
    uint32_t requests = atomic_fetch_and(&vcpu->requests, VCPU_REQUEST_NMI | VCPU_REQUEST_QUIT);
    /* An exclusive section of another vCPU may touch this one's translations, too. */
    if (requests & (VCPU_REQUEST_INIT | VCPU_REQUEST_SIPI))
        vcpu_enter(vcpu);
    if (requests & VCPU_REQUEST_INIT)
        vcpu_reset_state(vcpu, true);
    if (requests & VCPU_REQUEST_SIPI && vcpu->activity == CPU_WAIT_SIPI)
        start_up(vcpu);
    if (requests & (VCPU_REQUEST_INIT | VCPU_REQUEST_SIPI))
        vcpu_leave(vcpu);
    /* Last: whoever sees his work done knows that what was asked before is done, too. */
    if (requests & VCPU_REQUEST_WORK) {
        pthread_mutex_lock(&vcpu->vm->sync->lock);
        do_work_locked(vcpu);
        pthread_mutex_unlock(&vcpu->vm->sync->lock);
    }
}

/* Which requests end the wait that the vCPU's activity asks for; 0: no wait. Engines with local
 * APICs of their own wait for interrupts and SIPIs in run(). */
static uint32_t wait_mask(Vcpu *vcpu)
{
    bool own_apic = vcpu->vm->engine->send_msi;
    if (atomic_load(&vcpu->debug.run) == DEBUG_HOLD)
        return ~VCPU_REQUEST_NMI;
    switch (vcpu->activity) {
    case CPU_HALTED:
        if (own_apic || has_event(vcpu))
            return 0;
        return vcpu->nmi_blocked ? ~VCPU_REQUEST_NMI : ~0u;
    case CPU_WAIT_SIPI:
        return own_apic ? 0 : ~VCPU_REQUEST_NMI;
    case CPU_SHUTDOWN:
        return ~VCPU_REQUEST_NMI;
    default:
        return 0;
    }
}

/* False when the VM is paused. */
static bool begin_run(Vcpu *vcpu)
{
    atomic_store(&vcpu->sync->in_run, true);
    return !atomic_load(&vcpu->vm->sync->paused);
}

static void end_run(Vcpu *vcpu)
{
    atomic_store(&vcpu->sync->in_run, false);
    if (atomic_load(&vcpu->vm->sync->paused))
        vm_notify(vcpu->vm);
}

/* Nobody runs on until the owner of vm->debug resumes the VM. */
static void stop_for_debugger(Vcpu *vcpu)
{
    Vm *vm = vcpu->vm;
    atomic_store(&vm->sync->paused, true);
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        vcpu_request(vm->vcpus[i], VCPU_REQUEST_PAUSE);
    vm->debug->on_stop(vm->debug->obj, vcpu);
}

static void handle_exit(Vcpu *vcpu, VcpuExit exit)
{
    vcpu->exits[exit]++;
    switch (exit) {
    case VCPU_EXIT_KICKED:
        vcpu->activity = CPU_ACTIVE;
        break;
    case VCPU_EXIT_HALTED:
        vcpu->activity = CPU_HALTED;
        break;
    case VCPU_EXIT_DEBUG:
        vcpu->activity = CPU_ACTIVE; /* a halted one says so again */
        stop_for_debugger(vcpu);
        break;
    case VCPU_EXIT_SHUTDOWN:
    case VCPU_EXIT_ERROR:
        vcpu->activity = CPU_SHUTDOWN;
        if (vcpu->vm->on_exit)
            vcpu->vm->on_exit(vcpu->vm->obj, vcpu, exit);
        break;
    case VCPU_EXIT_COUNT:
        g_assert_not_reached();
    }
}

/* One turn in the engine, or a wait until the VM is resumed. */
static void run(Vcpu *vcpu)
{
    if (!begin_run(vcpu)) {
        end_run(vcpu);
        sleep_until(vcpu, ~VCPU_REQUEST_NMI);
        return;
    }
    vcpu_enter(vcpu);
    VcpuExit exit = vcpu->vm->engine->run(vcpu);
    vcpu_leave(vcpu);
    end_run(vcpu);
    handle_exit(vcpu, exit);
}

void *vcpu_thread(void *obj)
{
    Vcpu *vcpu = obj;
    vcpu_adopt_thread(vcpu);
    for (;;) {
        vcpu_service_requests(vcpu);
        if (atomic_load(&vcpu->requests) & VCPU_REQUEST_QUIT)
            return NULL;
        uint32_t wake = wait_mask(vcpu);
        if (wake)
            sleep_until(vcpu, wake);
        else if (!rest(vcpu))
            run(vcpu);
    }
}

/* ---- what the local APIC asks ---------------------------------------------------------------- */

static void op_interrupt_pending(void *vcpu)
{
    vcpu_request(vcpu, VCPU_REQUEST_INTERRUPT);
}

static void op_nmi(void *vcpu)
{
    atomic_fetch_add(&((Vcpu *)vcpu)->nmis, 1);
    vcpu_request(vcpu, VCPU_REQUEST_NMI);
}

static void op_init(void *vcpu)
{
    vcpu_request(vcpu, VCPU_REQUEST_INIT);
}

static void op_startup(void *obj, uint8_t vector)
{
    Vcpu *vcpu = obj;
    __atomic_store_n(&vcpu->sipi_vector, vector, __ATOMIC_RELEASE);
    vcpu_request(vcpu, VCPU_REQUEST_SIPI);
}

static uint64_t op_tsc(void *obj)
{
    Vcpu *vcpu = obj;
    return vcpu->vm->engine->tsc ? vcpu->vm->engine->tsc(vcpu) : vm_host_tsc(vcpu->vm);
}

static uint64_t op_tsc_hz(void *obj)
{
    return ((Vcpu *)obj)->vm->tsc_hz;
}

const IntcCpuOps vcpu_intc_cpu_ops = {
    .interrupt_pending = op_interrupt_pending,
    .nmi = op_nmi,
    .init = op_init,
    .startup = op_startup,
    .tsc = op_tsc,
    .tsc_hz = op_tsc_hz,
};
