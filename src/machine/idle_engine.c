/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "machine/idle_engine.h"

static bool idle_vm_init(Vm *vm, GError **error)
{
    return true;
}

static void idle_vm_clear(Vm *vm)
{
}

static bool idle_vcpu_init(Vcpu *vcpu, GError **error)
{
    vcpu->engine_data = g_new0(CpuState, 1);
    return true;
}

static void idle_vcpu_clear(Vcpu *vcpu)
{
    g_clear_pointer(&vcpu->engine_data, g_free);
}

static VcpuExit idle_run(Vcpu *vcpu)
{
    g_usleep(1000);
    return VCPU_EXIT_KICKED;
}

static void idle_kick(Vcpu *vcpu)
{
}

static void idle_get_state(Vcpu *vcpu, CpuState *state)
{
    *state = *(CpuState *)vcpu->engine_data;
}

static void idle_set_state(Vcpu *vcpu, const CpuState *state)
{
    *(CpuState *)vcpu->engine_data = *state;
}

static void idle_features(bool *features)
{
    cpu_host_features(features);
}

const Engine idle_engine = {
    .name = "idle",
    .features = idle_features,
    .vm_init = idle_vm_init,
    .vm_clear = idle_vm_clear,
    .vcpu_init = idle_vcpu_init,
    .vcpu_clear = idle_vcpu_clear,
    .run = idle_run,
    .kick = idle_kick,
    .get_state = idle_get_state,
    .set_state = idle_set_state,
};
