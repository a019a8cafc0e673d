/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The engine whose CPUs never execute anything: the board alone, driven over the control socket or
 * by tests. vcpu->engine_data is the CpuState that was set.
 */
#include "cpu/engine.h"

#include "base/i18n.h"

static bool none_vm_init(Vm *vm, GError **error)
{
    return true;
}

static void none_vm_clear(Vm *vm)
{
}

static bool none_vcpu_init(Vcpu *vcpu, GError **error)
{
    vcpu->engine_data = g_new0(CpuState, 1);
    return true;
}

static void none_vcpu_clear(Vcpu *vcpu)
{
    g_clear_pointer(&vcpu->engine_data, g_free);
}

static VcpuExit none_run(Vcpu *vcpu)
{
    vcpu->interrupts_enabled = false;
    return VCPU_EXIT_HALTED;
}

static void none_kick(Vcpu *vcpu)
{
}

static void none_get_state(Vcpu *vcpu, CpuState *state)
{
    *state = *(CpuState *)vcpu->engine_data;
}

static void none_set_state(Vcpu *vcpu, const CpuState *state)
{
    *(CpuState *)vcpu->engine_data = *state;
}

static void none_features(bool *features)
{
    cpu_host_features(features);
}

static bool none_probe(GError **error)
{
    return true;
}

const Engine engine_none = {
    .name = "none",
    .description = N_("no CPU at all: the board alone, for tests of devices"),
    .probe = none_probe,
    .features = none_features,
    .vm_init = none_vm_init,
    .vm_clear = none_vm_clear,
    .vcpu_init = none_vcpu_init,
    .vcpu_clear = none_vcpu_clear,
    .run = none_run,
    .kick = none_kick,
    .get_state = none_get_state,
    .set_state = none_set_state,
};
