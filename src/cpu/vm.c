/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The life of a VM's CPUs: making, pausing, resetting; and exclusive sections.
 *
 * vm_internal.h says how the threads meet; vcpu.c is what each vCPU's thread does.
 */
#include "cpu/vm_internal.h"

#include "base/i18n.h"
#include "cpu/tsc.h"

static void vm_lock(Vm *vm)
{
    pthread_mutex_lock(&vm->sync->lock);
}

static void vm_unlock(Vm *vm)
{
    pthread_mutex_unlock(&vm->sync->lock);
}

static void vm_wait(Vm *vm)
{
    pthread_cond_wait(&vm->sync->changed, &vm->sync->lock);
}

void vm_notify(Vm *vm)
{
    vm_lock(vm);
    pthread_cond_broadcast(&vm->sync->changed);
    vm_unlock(vm);
}

/* ---- time ------------------------------------------------------------------------------------ */

uint64_t vm_host_tsc(const Vm *vm)
{
    const struct VmSync *sync = vm->sync;
    return sync && sync->stopped ? sync->stopped_at : tsc_host_now();
}

uint64_t vm_time_origin(const Vm *vm)
{
    return vm->sync ? vm->sync->time_origin : 0;
}

/* All vCPUs stand. */
static void stop_time(Vm *vm)
{
    if (vm->sync->stopped)
        return;
    vm->sync->stopped_at = tsc_host_now();
    vm->sync->stopped = true;
}

static void start_time(Vm *vm)
{
    if (!vm->sync->stopped)
        return;
    uint64_t counts = tsc_host_now() - vm->sync->stopped_at;
    vm->sync->stopped = false;
    vm->sync->time_origin += counts;
    if (vm->engine->time_stood_still)
        vm->engine->time_stood_still(vm, counts);
}

/* ---- making and freeing ---------------------------------------------------------------------- */

static bool vcpu_add(Vm *vm, GError **error)
{
    Vcpu *vcpu = g_new0(Vcpu, 1);
    vcpu->vm = vm;
    vcpu->index = vm->vcpu_count;
    vcpu->sync = g_new0(struct VcpuSync, 1);
    vcpu->sync->work_tail = &vcpu->sync->work;
    pthread_mutex_init(&vcpu->sync->lock, NULL);
    pthread_cond_init(&vcpu->sync->wake, NULL);
    vm->vcpus[vm->vcpu_count++] = vcpu;
    return vm->engine->vcpu_init(vcpu, error);
}

static void vcpu_free(Vcpu *vcpu)
{
    vcpu->vm->engine->vcpu_clear(vcpu);
    pthread_cond_destroy(&vcpu->sync->wake);
    pthread_mutex_destroy(&vcpu->sync->lock);
    g_free(vcpu->sync);
    g_free(vcpu->error);
    g_free(vcpu);
}

static bool vcpu_start(Vcpu *vcpu, GError **error)
{
    g_autofree char *name = g_strdup_printf("vcpu%u", vcpu->index);
    g_autoptr(GError) cause = NULL;
    vcpu->thread = g_thread_try_new(name, vcpu_thread, vcpu, &cause);
    if (vcpu->thread)
        return true;
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_FAILED,
                _("cannot start the thread of CPU %u: %s; try fewer CPUs (--cpus)"), vcpu->index,
                cause->message);
    return false;
}

Vm *vm_new(const Engine *engine, AddressSpace *memory, AddressSpace *ports, const CpuModel *model,
           unsigned vcpu_count, GError **error)
{
    g_assert(vcpu_count >= 1 && vcpu_count <= VM_MAX_VCPUS);
    g_autoptr(Vm) vm = g_new0(Vm, 1);
    vm->engine = engine;
    vm->memory = memory;
    vm->ports = ports;
    vm->model = model;
    vm->tsc_hz = model->tsc_hz ? model->tsc_hz : tsc_host_hz();
    vm->sync = g_new0(struct VmSync, 1);
    pthread_mutex_init(&vm->sync->lock, NULL);
    pthread_cond_init(&vm->sync->changed, NULL);
    atomic_store(&vm->sync->paused, true);
    atomic_store(&vm->sync->percent, 100);
    stop_time(vm);
    if (!engine->vm_init(vm, error))
        return NULL;
    for (unsigned i = 0; i < vcpu_count; i++)
        if (!vcpu_add(vm, error))
            return NULL;
    for (unsigned i = 0; i < vcpu_count; i++)
        if (!vcpu_start(vm->vcpus[i], error))
            return NULL;
    vm_reset(vm);
    return g_steal_pointer(&vm);
}

void vm_free(Vm *vm)
{
    if (!vm)
        return;
    if (!atomic_load(&vm->sync->paused))
        vm_pause(vm);
    /* A thread looks at the other CPUs until it ends: all end before the first is freed. */
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        vcpu_request(vm->vcpus[i], VCPU_REQUEST_QUIT);
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        if (vm->vcpus[i]->thread)
            g_thread_join(vm->vcpus[i]->thread);
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        vcpu_free(vm->vcpus[i]);
    vm->engine->vm_clear(vm);
    pthread_cond_destroy(&vm->sync->changed);
    pthread_mutex_destroy(&vm->sync->lock);
    g_free(vm->sync);
    g_free(vm);
}

/* ---- pausing and resetting ------------------------------------------------------------------- */

static void request_all(Vm *vm, uint32_t requests)
{
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        vcpu_request(vm->vcpus[i], requests);
}

static bool any_in_run(Vm *vm)
{
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        if (atomic_load(&vm->vcpus[i]->sync->in_run))
            return true;
    return false;
}

static void no_work(Vcpu *vcpu, void *data)
{
}

void vm_pause(Vm *vm)
{
    g_assert(!vcpu_current());
    atomic_store(&vm->sync->paused, true);
    request_all(vm, VCPU_REQUEST_PAUSE);
    vm_lock(vm);
    while (any_in_run(vm))
        vm_wait(vm);
    vm_unlock(vm);
    /* An INIT or startup IPI may still be under way. */
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        if (vm->vcpus[i]->thread)
            vcpu_run_on(vm->vcpus[i], no_work, NULL);
    stop_time(vm);
}

void vm_resume(Vm *vm)
{
    if (!atomic_load(&vm->sync->paused))
        return;
    start_time(vm);
    atomic_store(&vm->sync->paused, false);
    request_all(vm, VCPU_REQUEST_PAUSE);
}

void vm_limit_set(Vm *vm, unsigned percent)
{
    atomic_store(&vm->sync->percent, percent);
}

/* One that sleeps takes nothing, and is left alone. */
void vm_limit_look(Vm *vm)
{
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        if (!atomic_load(&vm->vcpus[i]->sync->sleeping))
            vcpu_request(vm->vcpus[i], VCPU_REQUEST_LIMIT);
}

static void reset_work(Vcpu *vcpu, void *data)
{
    vcpu_reset_state(vcpu, false);
}

void vm_reset(Vm *vm)
{
    g_assert(atomic_load(&vm->sync->paused));
    vm->sync->time_origin = vm->sync->stopped_at = tsc_host_now();
    vm->hyperv = (HypervGuest){0};
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        vcpu_run_on(vm->vcpus[i], reset_work, NULL);
}

static void trace_work(Vcpu *vcpu, void *data)
{
    vcpu->vm->engine->trace_changed(vcpu);
}

bool vm_set_trace(Vm *vm, Trace *trace, GError **error)
{
    g_assert(atomic_load(&vm->sync->paused));
    if (!vm->engine->trace_changed) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
                    _("engine %s cannot trace guest code; use --engine soft"), vm->engine->name);
        return false;
    }
    vm->trace = trace;
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        vcpu_run_on(vm->vcpus[i], trace_work, NULL);
    return true;
}

/* ---- exclusive sections ---------------------------------------------------------------------- */

static bool others_in_guest(Vm *vm, const Vcpu *self)
{
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        if (vm->vcpus[i] != self && atomic_load(&vm->vcpus[i]->sync->in_guest))
            return true;
    return false;
}

static void stop_others(Vm *vm, const Vcpu *self)
{
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        if (vm->vcpus[i] != self && atomic_load(&vm->vcpus[i]->sync->in_guest))
            vcpu_request(vm->vcpus[i], VCPU_REQUEST_EXCLUSIVE);
}

/* `self` stands at a safe point while it waits for its turn, else two that begin at once would wait
 * for each other. It counts as in the guest again inside its section: nobody waits for the owner.
 */
void vm_exclusive_begin(Vm *vm, Vcpu *self)
{
    struct VmSync *sync = vm->sync;
    bool in_guest = self && atomic_exchange(&self->sync->in_guest, false);

    vm_lock(vm);
    if (sync->exclusive_depth && sync->exclusive_owner != g_thread_self()) {
        pthread_cond_broadcast(&sync->changed);
        while (sync->exclusive_depth)
            vm_wait(vm);
    }
    if (!sync->exclusive_depth++) {
        sync->exclusive_owner = g_thread_self();
        atomic_store(&sync->exclusive, true);
        vm_unlock(vm);
        stop_others(vm, self);
        vm_lock(vm);
        while (others_in_guest(vm, self))
            vm_wait(vm);
    }
    vm_unlock(vm);
    if (in_guest)
        atomic_store(&self->sync->in_guest, true);
}

void vm_exclusive_end(Vm *vm, Vcpu *self)
{
    struct VmSync *sync = vm->sync;
    vm_lock(vm);
    g_assert(sync->exclusive_depth && sync->exclusive_owner == g_thread_self());
    if (!--sync->exclusive_depth) {
        sync->exclusive_owner = NULL;
        atomic_store(&sync->exclusive, false);
        pthread_cond_broadcast(&sync->changed);
    }
    vm_unlock(vm);
}

void vcpu_leave(Vcpu *vcpu)
{
    atomic_store(&vcpu->sync->in_guest, false);
    if (atomic_load(&vcpu->vm->sync->exclusive))
        vm_notify(vcpu->vm);
}

void vcpu_enter(Vcpu *vcpu)
{
    Vm *vm = vcpu->vm;
    struct VmSync *sync = vm->sync;
    for (;;) {
        atomic_store(&vcpu->sync->in_guest, true);
        if (!atomic_load(&sync->exclusive))
            return;
        vm_lock(vm);
        if (sync->exclusive_depth && sync->exclusive_owner == g_thread_self()) {
            vm_unlock(vm);
            return;
        }
        atomic_store(&vcpu->sync->in_guest, false);
        pthread_cond_broadcast(&sync->changed);
        while (sync->exclusive_depth)
            vm_wait(vm);
        vm_unlock(vm);
    }
}
