/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Another engine for a paused VM: what the old engine keeps of the guest is taken, the old engine
 * goes, the new one is made and gets it. Main thread.
 *
 *   each CPU        CpuState
 *   local APICs     stay with the board where both engines use it; else IntcState, from or to the
 *                   engine that has its own
 *   the whole VM    the guest's clock and Hyper-V's registers (Engine.get_shared)
 *
 * Time stands still while the VM is paused. Memory is the board's, with what was noted of it.
 */
#include "base/i18n.h"
#include "cpu/cpu_features.h"
#include "cpu/vm_internal.h"

#define NS_PER_SECOND UINT64_C(1000000000)

/* ---- whether it can be --------------------------------------------------------------------------
 */

static bool refuse(GError **error, const char *text, const Engine *engine)
{
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED, text, engine->name);
    return false;
}

static bool features_fit(const Vm *vm, const Engine *engine, GError **error)
{
    bool features[CPU_FEATURE_COUNT] = {0};
    g_autoptr(GString) names = g_string_new(NULL);
    g_autoptr(GString) without = g_string_new(vm->model->name);

    engine->features(features);
    for (unsigned i = 0; i < CPU_FEATURE_COUNT; i++) {
        if (!cpu_has(vm->model, i) || features[i])
            continue;
        g_string_append_printf(names, " %s", cpu_feature_rows[i].name);
        g_string_append_printf(without, ",-%s", cpu_feature_rows[i].name);
    }
    if (!names->len)
        return true;
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
                _("engine %s lacks what the guest's CPU was started with:%s; start the machine "
                  "with the CPU '%s' to change its engine while it runs"),
                engine->name, names->str, without->str);
    return false;
}

static bool engine_fits(const Vm *vm, const Engine *engine, GError **error)
{
    if (!engine->probe(error))
        return false;
    if (engine == &engine_none || vm->engine == &engine_none) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
                    _("a running machine cannot change from engine %s to %s; kvm, jit and interp "
                      "hand over to each other"),
                    vm->engine->name, engine->name);
        return false;
    }
    if (engine->send_msi && !cpu_has(vm->model, CPU_APIC))
        return refuse(error,
                      _("engine %s needs the local APICs that this machine was started without"),
                      engine);
    if (vm->trace && !engine->trace_changed)
        return refuse(error,
                      _("engine %s cannot trace guest code, which this machine was started with"),
                      engine);
    if (vm->debug && !engine->debug_changed)
        return refuse(
            error, _("engine %s cannot be debugged, and a debugger is connected; let it go first"),
            engine);
    return features_fit(vm, engine, error);
}

/* ---- what is moved --------------------------------------------------------------------------- */

typedef struct MovedCpu {
    CpuState state;
    IntcState apic;
    bool has_apic;
} MovedCpu;

/* What one engine cannot go on with is no matter to another. */
static void forget_error(Vcpu *vcpu, void *data)
{
    if (vcpu->error)
        vcpu->activity = CPU_ACTIVE;
    g_clear_pointer(&vcpu->error, g_free);
}

static void take_apic(Vcpu *vcpu, void *data)
{
    const Engine *engine = vcpu->vm->engine;
    MovedCpu *moved = data;

    moved->has_apic = true;
    if (engine->get_apic)
        engine->get_apic(vcpu, &moved->apic);
    else if (vcpu->intc && vcpu->intc->get_state)
        vcpu->intc->get_state(vcpu->intc_obj, &moved->apic);
    else
        moved->has_apic = false;
    if (moved->has_apic)
        moved->state.apic_base = moved->apic.base;
}

static void give_apic(Vcpu *vcpu, void *data)
{
    const Engine *engine = vcpu->vm->engine;
    const MovedCpu *moved = data;

    if (engine->set_apic && vcpu->intc)
        vcpu->intc->reset(vcpu->intc_obj, false); /* nothing happens there any more */
    if (engine->set_apic && moved->has_apic)
        engine->set_apic(vcpu, &moved->apic);
    else if (engine->reset_apic)
        engine->reset_apic(vcpu);
    else if (vcpu->intc && vcpu->intc->set_state && moved->has_apic)
        vcpu->intc->set_state(vcpu->intc_obj, &moved->apic);
}

static uint64_t take_clock(const Vm *vm)
{
    uint64_t counts = vm_host_tsc(vm) - vm_time_origin(vm);

    return (unsigned __int128)counts * NS_PER_SECOND / vm->tsc_hz;
}

static void give_clock(Vm *vm, uint64_t ns)
{
    uint64_t counts = (unsigned __int128)ns * vm->tsc_hz / NS_PER_SECOND;

    vm->sync->time_origin = vm_host_tsc(vm) - counts;
}

/* A gate that is shut over address bit 20 is a thing of the software engines' MMU. */
static bool address_lines_fit(const MovedCpu *moved, const Engine *engine, GError **error)
{
    if (!moved->state.a20_masked || engine->set_a20)
        return true;
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_BUSY,
                _("the guest has shut its A20 gate, which engine %s cannot; try again when it runs "
                  "its operating system"),
                engine->name);
    return false;
}

/* ---- the change ------------------------------------------------------------------------------ */

static void engine_unmake(Vm *vm)
{
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        vm->engine->vcpu_clear(vm->vcpus[i]);
    vm->engine->vm_clear(vm);
}

static bool engine_make(Vm *vm, const Engine *engine, GError **error)
{
    vm->engine = engine;
    if (!engine->vm_init(vm, error))
        return false;
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        if (!engine->vcpu_init(vm->vcpus[i], error))
            return false;
    return true;
}

static MovedCpu *take_all(Vm *vm, bool with_apics, uint64_t *ret_clock_ns)
{
    MovedCpu *all = g_aligned_alloc0(vm->vcpu_count, sizeof(MovedCpu), 64);

    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        vcpu_run_on(vm->vcpus[i], forget_error, NULL);
        vcpu_get_state(vm->vcpus[i], &all[i].state);
        if (with_apics)
            vcpu_run_on(vm->vcpus[i], take_apic, &all[i]);
    }
    *ret_clock_ns = vm->engine->get_shared ? vm->engine->get_shared(vm) : take_clock(vm);
    if (vm->engine->get_shared)
        give_clock(vm, *ret_clock_ns);
    return all;
}

static void give_all(Vm *vm, MovedCpu *all, bool with_apics, uint64_t clock_ns)
{
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        vcpu_set_state(vm->vcpus[i], &all[i].state);
        if (with_apics)
            vcpu_run_on(vm->vcpus[i], give_apic, &all[i]);
    }
    if (vm->engine->set_shared)
        vm->engine->set_shared(vm, clock_ns);
}

/* The old one again where the new one cannot be made: what the old one had is free. */
static bool engine_replace(Vm *vm, const Engine *engine, GError **error)
{
    const Engine *old = vm->engine;

    engine_unmake(vm);
    if (engine_make(vm, engine, error))
        return true;
    engine_unmake(vm);
    if (!engine_make(vm, old, NULL))
        g_error("out of memory");
    return false;
}

static bool hand_over(Vm *vm, const Engine *engine, GError **error)
{
    bool with_apics = vm->engine->send_msi || engine->send_msi, made = true;
    uint64_t clock_ns;
    MovedCpu *all = take_all(vm, with_apics, &clock_ns);

    for (unsigned i = 0; i < vm->vcpu_count && made; i++)
        made = address_lines_fit(&all[i], engine, error);
    if (made) {
        made = engine_replace(vm, engine, error);
        give_all(vm, all, with_apics, clock_ns);
    }
    g_aligned_free(all);
    return made;
}

bool vm_set_engine(Vm *vm, const Engine *engine, GError **error)
{
    g_assert(atomic_load(&vm->sync->paused));
    if (engine == vm->engine)
        return true;
    if (!engine_fits(vm, engine, error))
        return false;
    bool made = hand_over(vm, engine, error);
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        vm->vcpus[i]->hand_overs += made;
    if (vm->debug)
        vm_debug_changed(vm);
    return (!vm->trace || vm_set_trace(vm, vm->trace, error)) && made;
}
