/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What vm.c and vcpu.c share: how the threads of a VM meet. Nothing else includes this.
 *
 * Two pairs of flags are ordered by sequential consistency, each side writes its own flag and then
 * reads the other's (Dekker), so that the common path takes no lock:
 *
 *     vCPU thread                          requester
 *     in_guest = 1; read exclusive         exclusive = 1; read in_guest     (exclusive sections)
 *     in_run = 1;   read paused            paused = 1;    read in_run       (pausing)
 *     sleeping = 1; read requests          requests |= …; read sleeping     (halting)
 *
 * Lock order: the VM's lock, then a vCPU's. Neither is held while foreign code runs (engine, intc,
 * on_exit, work).
 */
#pragma once

#include <pthread.h>

#include "cpu/engine.h"

typedef struct VcpuWork {
    void (*fn)(Vcpu *vcpu, void *data);
    void *data;
    bool done;
    struct VcpuWork *next;
} VcpuWork;

struct VmSync {
    pthread_mutex_t lock;
    pthread_cond_t changed;   /* any of the things below, or a vCPU's in_guest, in_run, work */
    _Atomic bool exclusive;   /* a section runs or waits for vCPUs to stop */
    GThread *exclusive_owner; /* with the lock */
    unsigned exclusive_depth; /* the owner's */
    _Atomic bool paused;
    /* By the host's counter; they change while the VM is paused. */
    uint64_t time_origin; /* of the guest's time: the last reset, and later by each pause */
    uint64_t stopped_at;  /* when time stopped to pass, while `stopped` */
    bool stopped;
    _Atomic unsigned percent; /* of a host CPU that each vCPU may take; 100: no limit */
};

struct VcpuSync {
    _Atomic bool in_guest; /* in run() and not at a safe point */
    _Atomic bool in_run;   /* in run(), whether at a safe point or not */
    _Atomic bool sleeping;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    VcpuWork *work, **work_tail; /* with the VM's lock */
    /* The vCPU thread's own: what it has taken of the host's time, and until when that is paid. */
    int64_t taken_ns, paid_until_ns;
};

void *vcpu_thread(void *vcpu);
/* From now on the calling thread is the vCPU's (vcpu_current()); NULL: nobody's. */
void vcpu_adopt_thread(Vcpu *vcpu);
/* Takes INIT and startup IPIs, and does the work asked of it. The vCPU's thread, outside run(). */
void vcpu_service_requests(Vcpu *vcpu);
/* Tells whoever waits on vm->sync->changed. */
void vm_notify(Vm *vm);
/* Architectural reset (`init` false) or INIT, with the local APIC. vCPU thread, outside run(). */
void vcpu_reset_state(Vcpu *vcpu, bool init);
