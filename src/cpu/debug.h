/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Stopping a guest from outside: breakpoints, watchpoints and single steps of a debugger.
 *
 * They are the engine's own and take nothing from the guest: its debug registers, TF and RF
 * keep meaning what the guest made them mean, and it sees no trace of the debugger's. While there
 * is a point, or a CPU steps, the software engines interpret instruction by instruction.
 *
 *   vCPU thread: debug_must_stop() before an instruction → VCPU_EXIT_DEBUG → all CPUs are told to
 *   pause, Debug.on_stop() → the owner pauses the machine, looks, changes, resumes.
 *
 * Everything is changed in paused VMs only, and vm_debug_changed() called then.
 */
#pragma once

#include <glib.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define DEBUG_POINTS_MAX 256

typedef struct Vm Vm;
typedef struct Vcpu Vcpu;

typedef enum DebugKind {
    DEBUG_BREAK_SOFTWARE, /* both kinds of breakpoints do the same; a debugger tells them apart */
    DEBUG_BREAK_HARDWARE,
    DEBUG_WATCH_WRITE,
    DEBUG_WATCH_READ,
    DEBUG_WATCH_ACCESS,
    DEBUG_KIND_COUNT
} DebugKind;

typedef struct DebugPoint {
    DebugKind kind;
    uint64_t address; /* linear */
    uint64_t size;    /* breakpoints: 1 */
} DebugPoint;

typedef struct Debug {
    DebugPoint points[DEBUG_POINTS_MAX];
    unsigned count;
    void (*on_stop)(void *obj, Vcpu *vcpu); /* vCPU thread, no lock held */
    void *obj;
} Debug;

typedef enum DebugRun {
    DEBUG_RUN,
    DEBUG_STEP,    /* one instruction; no interrupts before it, unless the CPU is halted */
    DEBUG_STEPPED, /* it was begun */
    DEBUG_HOLD,    /* not at all, although the VM runs */
} DebugRun;

typedef enum DebugReason { DEBUG_REASON_NONE, DEBUG_REASON_STEP, DEBUG_REASON_POINT } DebugReason;

/* A vCPU's part. */
typedef struct DebugCpu {
    _Atomic DebugRun run;
    DebugReason reason; /* why it stopped last … */
    DebugPoint hit;     /* … and at what, DEBUG_REASON_POINT */
    DebugPoint noted;   /* watchpoint that an instruction hit … */
    bool watched;       /* … and the owner has not been told of: he clears it */
} DebugCpu;

/* False: there are DEBUG_POINTS_MAX. One that is there already is not added again. */
bool debug_add(Debug *debug, const DebugPoint *point);
/* False: there is none like it. */
bool debug_remove(Debug *debug, const DebugPoint *point);
bool debug_watches(const Debug *debug);
/* Whether a watchpoint touches the page of 4 KiB that `linear` is in. */
bool debug_watches_page(const Debug *debug, uint64_t linear);

/* Engines, vCPU thread: an access; it counts behind the instruction. */
void debug_note_access(Vcpu *vcpu, uint64_t linear, uint64_t size, bool write);
/* Engines, vCPU thread: whether to leave with VCPU_EXIT_DEBUG instead of running the instruction at
 * `linear`. */
bool debug_must_stop(Vcpu *vcpu, uint64_t linear, bool active);

/* Paused VMs only. Fails when the engine cannot; NULL: no more. The caller keeps `debug`. */
bool vm_set_debug(Vm *vm, Debug *debug, GError **error);
/* Paused VMs only: points or DebugCpu.run were changed. */
void vm_debug_changed(Vm *vm);
/* Paused VMs only: the physical address behind a linear one, by this CPU's paging; false: none. */
bool vcpu_debug_translate(Vcpu *vcpu, uint64_t linear, uint64_t *ret_physical);
