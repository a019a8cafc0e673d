/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Another engine for a paused VM: every vCPU's architectural state is taken, the old engine goes,
 * the new one is made and gets the states. Local APICs and whatever waits in them are the board's
 * and stay, and so does time, which stands still while the VM is paused. Main thread.
 */
#include "base/i18n.h"
#include "cpu/vm_internal.h"

static bool engine_fits(const Vm *vm, const Engine *engine, GError **error)
{
    bool features[CPU_FEATURE_COUNT] = {0};

    if (!engine->probe(error))
        return false;
    if (vm->engine->send_msi || engine->send_msi || engine == &engine_none ||
        vm->engine == &engine_none) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
                    _("a running machine cannot change from engine %s to %s; only software engines "
                      "hand over"),
                    vm->engine->name, engine->name);
        return false;
    }
    engine->features(features);
    for (unsigned i = 0; i < CPU_FEATURE_COUNT; i++) {
        if (cpu_has(vm->model, i) && !features[i]) {
            g_set_error(
                error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
                _("engine %s lacks a CPU feature that the guest uses; start the machine with "
                  "it"),
                engine->name);
            return false;
        }
    }
    return true;
}

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

bool vm_set_engine(Vm *vm, const Engine *engine, GError **error)
{
    const Engine *old = vm->engine;

    g_assert(atomic_load(&vm->sync->paused));
    if (engine == old)
        return true;
    if (!engine_fits(vm, engine, error))
        return false;
    g_autofree CpuState *memory = g_malloc0(vm->vcpu_count * sizeof(CpuState) + 64);
    CpuState *states = (CpuState *)(((uintptr_t)memory + 63) & ~(uintptr_t)63);
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        vcpu_get_state(vm->vcpus[i], &states[i]);
    engine_unmake(vm);
    bool made = engine_make(vm, engine, error);
    if (!made) { /* no memory for the new one: what the old one had is free */
        engine_unmake(vm);
        if (!engine_make(vm, old, NULL))
            g_error("out of memory");
    }
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        vcpu_set_state(vm->vcpus[i], &states[i]);
        vm->vcpus[i]->hand_overs += made;
    }
    if (vm->debug)
        vm_debug_changed(vm);
    return (!vm->trace || vm_set_trace(vm, vm->trace, error)) && made;
}
