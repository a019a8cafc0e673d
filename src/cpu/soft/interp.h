/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The interpreter without its vCPU thread: for the engine itself, tests and oracles. */
#pragma once

#include "cpu/soft/cpu.h"

/* A CPU in reset state. vcpu->vm must have memory, ports, model and vcpu_count; vcpu->engine_data
 * becomes the result. `vm` may be shared by several. */
SoftCpu *soft_cpu_new(Vcpu *vcpu, SoftVm *vm);
/* The same with `extra` zeroed bytes behind it, from align_up(sizeof(SoftCpu), 64) on, keeping
 * `insns_most` decoded instructions. */
SoftCpu *soft_cpu_new_with(Vcpu *vcpu, SoftVm *vm, size_t extra, size_t insns_most);
void soft_cpu_free(SoftCpu *cpu);

/* Architectural state in and out (engine.h, get_state and set_state). */
void soft_cpu_get_state(SoftCpu *cpu, CpuState *state);
void soft_cpu_set_state(SoftCpu *cpu, const CpuState *state);

/* Engine.time_stood_still. */
void interp_time_stood_still(Vm *vm, uint64_t counts);

/* ---- parts of the loop, for the translator's
 * ------------------------------------------------------ */

struct Block;
/* Whether to look for requests and events before the next instruction. */
bool interp_must_look(const SoftCpu *cpu);
/* Does so. False: leave run() with `*ret_exit`. */
bool interp_look_around(SoftCpu *cpu, VcpuExit *ret_exit);
void interp_run_block(SoftCpu *cpu, const struct Block *block);
/* Handlers chain on to other blocks while the stack is above this frame's end. */
void interp_set_stack_floor(SoftCpu *cpu);
/* Before and after run(), for every engine whose vCPU is a SoftCpu. */
void interp_enter_run(SoftCpu *cpu);
VcpuExit interp_leave_run(SoftCpu *cpu, VcpuExit exit);

/*
 * Executes `count` instructions one by one, taking no interrupts. A fault or trap ends it: its
 * vector is returned, RIP stands where it is to be delivered and cpu->event.error holds the error
 * code; else -1. A repeated string instruction may count several times.
 */
int soft_cpu_step(SoftCpu *cpu, unsigned count);

/* Delivers cpu->event, if there is one, and executes up to `count` instructions, faults and traps
 * delivered, interrupts left alone. False: a triple fault. vCPU thread, in run(). */
bool soft_cpu_emulate(SoftCpu *cpu, unsigned count);
