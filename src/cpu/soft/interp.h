/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The interpreter without its vCPU thread: for the engine itself, tests and oracles. */
#pragma once

#include "cpu/soft/cpu.h"

/* A CPU in reset state. vcpu->vm must have memory, ports, model and vcpu_count; vcpu->engine_data
 * becomes the result. `vm` may be shared by several. */
SoftCpu *soft_cpu_new(Vcpu *vcpu, SoftVm *vm);
void soft_cpu_free(SoftCpu *cpu);

/* Architectural state in and out (engine.h, get_state and set_state). */
void soft_cpu_get_state(SoftCpu *cpu, CpuState *state);
void soft_cpu_set_state(SoftCpu *cpu, const CpuState *state);

/*
 * Executes `count` instructions one by one, taking no interrupts. A fault or trap ends it: its
 * vector is returned, RIP stands where it is to be delivered and cpu->event.error holds the error
 * code; else -1. A repeated string instruction may count several times.
 */
int soft_cpu_step(SoftCpu *cpu, unsigned count);
