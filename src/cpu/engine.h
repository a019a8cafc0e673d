/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The CPU engines behind one interface: what runs guest code. KVM, the interpreter and the
 * translator are equals.
 *
 *   Vm    one machine's CPUs: its engine, address spaces, CPU model
 *   Vcpu  one CPU, with a thread of its own (vcpu.c):
 *
 *     vcpu thread: service requests → wait while halted/paused → engine->run() → handle exit → …
 *
 * Safe points: a vCPU thread is at a safe point while it is not inside engine->run(), and in run()
 * between vcpu_leave() and vcpu_enter(). Exclusive sections begin when all others are at safe
 * points; work is done outside run() only.
 */
#pragma once

#include <gio/gio.h>
#include <stdatomic.h>

#include "cpu/counters.h"
#include "cpu/cpuid.h"
#include "cpu/debug.h"
#include "cpu/intc.h"
#include "cpu/perf_map.h"
#include "cpu/state.h"
#include "cpu/trace.h"
#include "memory/space.h"

#define VM_MAX_VCPUS 32

typedef struct Engine Engine;

typedef enum VcpuExit {
    VCPU_EXIT_KICKED,   /* requests are to be looked at */
    VCPU_EXIT_HALTED,   /* HLT: run again when there is an event */
    VCPU_EXIT_SHUTDOWN, /* triple fault */
    VCPU_EXIT_DEBUG,    /* debug_must_stop() said so; the next run() looks again */
    VCPU_EXIT_ERROR,    /* the engine cannot go on; vcpu->error says why */
    VCPU_EXIT_COUNT
} VcpuExit;

struct Engine {
    const char *name; /* "kvm", "interp" */
    const char *description;
    /* Whether this host can run it; the error says what is missing. What it opened may stay open.
     */
    bool (*probe)(GError **error);
    /* Whether it runs unmodified guests at its usual speed here; `ret_why_not` gets the end of a
     * sentence. "auto" takes only engines that do. NULL: always. */
    bool (*runs_stock_guests)(char **ret_why_not);
    /* The CPU features it can give a guest on this host (CPU_FEATURE_COUNT long). */
    void (*features)(bool *ret_features);
    /* Called once each, before any vCPU runs; engine data goes to vm->engine_data,
     * vcpu->engine_data. */
    bool (*vm_init)(Vm *vm, GError **error);
    void (*vm_clear)(Vm *vm);
    bool (*vcpu_init)(Vcpu *vcpu, GError **error);
    void (*vcpu_clear)(Vcpu *vcpu);
    /* vCPU thread. Runs guest code until something is to be done outside. Delivers interrupts from
     * vcpu->intc itself, and NMIs: it clears VCPU_REQUEST_NMI in vcpu->requests when it takes one.
     * Called after VCPU_EXIT_HALTED, it delivers the event that ends the halt or returns
     * VCPU_EXIT_HALTED again. Leaves (VCPU_EXIT_KICKED) when requests other than INTERRUPT and NMI
     * are set; vcpu.c clears them. */
    VcpuExit (*run)(Vcpu *vcpu);
    /* Any thread: a running run() comes back soon; if it is not running, its next call returns at
     * once after having looked for interrupts. */
    void (*kick)(Vcpu *vcpu);
    /* vCPU at a safe point. get_state takes everything; set_state validates nothing. */
    void (*get_state)(Vcpu *vcpu, CpuState *state);
    void (*set_state)(Vcpu *vcpu, const CpuState *state);
    /* The local APICs are the engine's (in-kernel irqchip): NULL when it uses vcpu->intc. */
    void (*send_msi)(Vm *vm, uint64_t address, uint32_t data);
    /* PIC's INTR pin towards the bootstrap processor, engines with their own APICs. */
    void (*set_extint)(Vm *vm, bool level);
    void (*set_a20)(Vcpu *vcpu, bool on);
    /* vCPU thread, outside run(): resets the engine's own local APIC. NULL: it has none. */
    void (*reset_apic)(Vcpu *vcpu);
    /* VM paused, vCPU thread: the engine's own local APIC, which another takes over or had. NULL:
     * it has none. After set_state(), as far as both are called. */
    void (*get_apic)(Vcpu *vcpu, IntcState *state);
    void (*set_apic)(Vcpu *vcpu, const IntcState *state);
    /* VM paused, main thread: what the engine itself keeps of the whole VM. The guest's clock, in
     * nanoseconds, and vm->hyperv. NULL: what engine.h knows of both is what counts. */
    uint64_t (*get_shared)(Vm *vm);
    void (*set_shared)(Vm *vm, uint64_t clock_ns);
    /* Any thread: the guest's time stamp counter now. NULL: the host's. */
    uint64_t (*tsc)(Vcpu *vcpu);
    /* VM paused, about to go on: the guest's clocks stood still for so many counts of the host's
     * TSC. NULL: nothing to do. */
    void (*time_stood_still)(Vm *vm, uint64_t counts);
    /* vCPU at a safe point: vm->trace is another. NULL: the engine cannot trace. */
    void (*trace_changed)(Vcpu *vcpu);
    /* vCPU thread, VM paused: what debug.h tells the engine is another. NULL: the engine cannot be
     * debugged. */
    void (*debug_changed)(Vcpu *vcpu);
    /* vCPU thread, VM paused: the physical address behind a linear one; UINT64_MAX: none. Sets no
     * accessed bits. NULL with debug_changed. */
    uint64_t (*debug_translate)(Vcpu *vcpu, uint64_t linear);
    /* Any thread: adds what the engine counts. NULL: nothing. */
    void (*counters)(Vcpu *vcpu, Counters *counters);
};

extern const Engine engine_kvm;
extern const Engine engine_interp;
extern const Engine engine_jit;
extern const Engine engine_none;

/* The engine of that name; "auto" picks the fastest that can run stock guests here, "soft" the
 * fastest software engine. `ret_why` (may be NULL) gets one line saying why auto did not take KVM,
 * or NULL. */
const Engine *engine_find(const char *name, char **ret_why, GError **error);
/* Before a process shuts itself in: what engines open is open from now on, so that a machine can
 * change to them. Main thread. */
void engine_keep_all(void);
/* A long text for `ospite doctor`: what the host has, which engine will be used, what to expect,
 * how to improve. */
char *engine_report(void);

/* What all CPUs of a guest share of Hyper-V's registers; the software engines' (soft/paravirt.c).
 */
typedef struct HypervGuest {
    _Atomic uint64_t os, hypercall, reference_tsc;
} HypervGuest;

struct Vm {
    const Engine *engine;
    void *engine_data;
    AddressSpace *memory;
    AddressSpace *ports;
    const CpuModel *model; /* the CPUID of the guest */
    uint64_t tsc_hz;
    HypervGuest hyperv;
    unsigned vcpu_count;
    Vcpu *vcpus[VM_MAX_VCPUS];
    Trace *trace;      /* NULL: none */
    Debug *debug;      /* NULL: nobody debugs it */
    PerfMap *perf_map; /* of translated code; NULL: none. Set before the first run */
    /* A vCPU stopped for good (triple fault: a reset; error: stop). vCPU thread, no lock held. */
    void (*on_exit)(void *obj, Vcpu *vcpu, VcpuExit exit);
    /* Reads the interrupt vector from the PIC (in-kernel LAPIC, ExtINT); -1: none. */
    int (*acknowledge_extint)(void *obj);
    /* Level-triggered vector ended in an in-kernel LAPIC: tell the IOAPIC. */
    void (*eoi)(void *obj, uint8_t vector);
    /* FERR#: an x87 error waits and CR0.NE is 0 (`ferr`), or is gone. Whether the CPU must wait for
     * an interrupt; false: IGNNE#. vCPU thread, at a safe point. NULL: such errors are #MF, too. */
    bool (*fpu_error)(void *obj, bool ferr);
    void *obj;
    struct VmSync *sync; /* vm.c */
};

enum {
    VCPU_REQUEST_PAUSE = 1 << 0,
    VCPU_REQUEST_INTERRUPT = 1 << 1, /* vcpu->intc may have something */
    VCPU_REQUEST_NMI = 1 << 2,
    VCPU_REQUEST_INIT = 1 << 3,
    VCPU_REQUEST_SIPI = 1 << 4,
    VCPU_REQUEST_WORK = 1 << 5,
    VCPU_REQUEST_EXCLUSIVE = 1 << 6, /* another thread wants everyone at a safe point */
    VCPU_REQUEST_QUIT = 1 << 7,
    VCPU_REQUEST_LIMIT = 1 << 8, /* look whether it has taken too much of the host's time */
};

struct Vcpu {
    Vm *vm;
    unsigned index; /* 0 is the bootstrap processor; also the APIC id */
    void *engine_data;
    const Intc *intc; /* local APIC, set before the first run */
    void *intc_obj;
    _Atomic uint32_t requests;
    _Atomic uint32_t nmis; /* how many VCPU_REQUEST_NMI stands for; 0: they were taken already */
    uint8_t sipi_vector;
    /* What vcpu.c needs to know without asking the engine; the engine keeps them right at safe
     * points. */
    CpuActivity activity;
    bool interrupts_enabled; /* IF set and no shadow, valid while halted */
    bool nmi_blocked;
    char *error; /* after VCPU_EXIT_ERROR, owned */
    DebugCpu debug;
    uint64_t exits[VCPU_EXIT_COUNT]; /* returns of run(), by reason */
    uint64_t halted_ns;              /* slept while halted */
    uint64_t hand_overs;             /* changes of the engine */
    GThread *thread;
    struct VcpuSync *sync; /* vm.c */
};

/*
 * The CPUs of a machine, all in reset state and paused. The spaces and the model must outlive it.
 * The BSP alone is active after reset.
 */
Vm *vm_new(const Engine *engine, AddressSpace *memory, AddressSpace *ports, const CpuModel *model,
           unsigned vcpu_count, GError **error);
/* Stops the threads and frees. NULL is allowed. */
void vm_free(Vm *vm);
/* Main loop thread. Start or go on; idempotent. */
void vm_resume(Vm *vm);
/* Returns when every vCPU stands at a safe point outside run() and has taken the INITs and startup
 * IPIs sent to it. Must be called without the board lock. */
void vm_pause(Vm *vm);
/* Each vCPU's thread takes at most so much of a host CPU's time, from 1 to 100 percent, over tens
 * of milliseconds, if somebody looks every few milliseconds. Any thread but a vCPU's. */
void vm_limit_set(Vm *vm, unsigned percent);
void vm_limit_look(Vm *vm);
/* Paused VMs only. */
void vm_reset(Vm *vm);
/* The host's time stamp counter as guests see it: it stands still while the VM is paused. */
uint64_t vm_host_tsc(const Vm *vm);
/* Its value when the guest's time began, at the last reset, had the VM run ever since. */
uint64_t vm_time_origin(const Vm *vm);
void vcpu_get_state(Vcpu *vcpu, CpuState *state);
void vcpu_set_state(Vcpu *vcpu, const CpuState *state);

/*
 * Paused VMs only: another engine goes on where this one stopped; its counters begin anew. Fails,
 * and changes nothing, when it lacks something that the guest was promised. No device may ask for
 * the vCPUs' time meanwhile. Who has local APICs outside of the engine tells the new engine the
 * level of the PIC's pin, and ends level-triggered interrupts that no local APIC holds any more.
 */
bool vm_set_engine(Vm *vm, const Engine *engine, GError **error);
/* Paused VMs only: from now on guest code is traced there; the caller keeps `trace` while it is.
 * NULL: no more. Fails when the engine cannot. */
bool vm_set_trace(Vm *vm, Trace *trace, GError **error);
/* Any thread: everything that is counted of this vCPU. */
void vcpu_get_counters(Vcpu *vcpu, Counters *ret_counters);

/* Any thread: asks for attention. */
void vcpu_request(Vcpu *vcpu, uint32_t requests);
/* Runs fn on the vCPU's thread at a safe point and waits for it (at once when called from that
 * thread). */
void vcpu_run_on(Vcpu *vcpu, void (*fn)(Vcpu *vcpu, void *data), void *data);
/* What a local APIC needs of its CPU; the object is the Vcpu. */
extern const IntcCpuOps vcpu_intc_cpu_ops;
/*
 * Exclusive section: no other vCPU of the VM executes guest code between begin and end. May be
 * called from a vCPU thread (in run(), `self`) or any other thread (`self` NULL); nests; other
 * requesters wait. Must not be called with the board lock held from a vCPU thread while others may
 * wait for that lock in run(): MMIO dispatch is a safe point (vcpu_leave/vcpu_enter surround it in
 * the engines).
 */
void vm_exclusive_begin(Vm *vm, Vcpu *self);
void vm_exclusive_end(Vm *vm, Vcpu *self);
/* Engines: run() calls these around anything that can block (MMIO dispatch, waiting); between them
 * the vCPU counts as at a safe point. Cheap: one atomic each when nobody waits. */
void vcpu_leave(Vcpu *vcpu);
void vcpu_enter(Vcpu *vcpu);
/* Whether a halted vCPU has a reason to run again. */
bool vcpu_has_work(Vcpu *vcpu);
/* The vCPU whose thread this is, or NULL. */
Vcpu *vcpu_current(void);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Vm, vm_free)
