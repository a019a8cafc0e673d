/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The parts of the KVM engine:
 *
 *   kvm.c         probing, VM and vCPU, the run loop and its exits
 *   kvm_state.c   registers, time and local APICs to and from what engines share
 *   kvm_memory.c  memory slots and the dirty log
 *   kvm_emulate.c the interpreter goes on where KVM cannot
 *   kvm_irq.c     messages into the in-kernel local APICs, end of interrupt, the PIC's pin
 *
 * The kernel has the local APICs, we have PIC and IOAPIC ("split irqchip",
 * Documentation/virt/kvm/api.rst 7.5 KVM_CAP_SPLIT_IRQCHIP).
 */
#pragma once

#include <linux/kvm.h>
#include <pthread.h>
#include <sys/ioctl.h>

#include "cpu/engine.h"

#define KVM_PATH "/dev/kvm"

/* "IOAPIC pins" for EOI exits, one per vector; the kernel keeps their number in 8 bits. */
#define KVM_ROUTE_FIRST_VECTOR 16
#define KVM_ROUTE_COUNT        (256 - KVM_ROUTE_FIRST_VECTOR)

typedef struct KvmSlot {
    uint64_t start, size; /* guest-physical, whole pages; size 0: free */
    Ram *ram;
    uint64_t ram_offset;
    uint32_t flags; /* KVM_MEM_* */
} KvmSlot;

typedef struct KvmEmulator KvmEmulator;

typedef struct KvmVm {
    Vm *vm;
    int device_fd, vm_fd;
    size_t run_size; /* bytes to map of a vCPU */
    bool listening;

    GMutex slots_lock;      /* after exclusive sections and the board lock */
    GArray *slots;          /* of KvmSlot; the index is KVM's slot number */
    GHashTable *rams;       /* Ram → whether its dirty log is on */
    _Atomic int slot_errno; /* the kernel refused memory: the next run reports it */

    GMutex routes_lock;
    struct kvm_irq_routing_msi routes[KVM_ROUTE_COUNT]; /* level-triggered messages seen */
    _Atomic bool extint;
    KvmEmulator *emulator;
} KvmVm;

typedef struct KvmVcpu {
    int fd;
    struct kvm_run *run;
    size_t run_size;
    bool tsc_scaled; /* the guest's counter runs at another rate than the host's */
    pthread_t thread;
    _Atomic bool thread_known;
    uint64_t exits, io, mmio, kicks, eois, extints;
    uint64_t hand_overs, emulated; /* to the interpreter, instructions there */
    uint64_t failed_exit;          /* `exits` at the last of them … */
    unsigned burst;                /* … and its instructions */
} KvmVcpu;

/* One MSR for KVM_GET_MSRS and KVM_SET_MSRS. */
typedef union KvmMsr {
    struct kvm_msrs msrs;
    char space[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
} KvmMsr;

static inline KvmMsr kvm_msr(uint32_t index, uint64_t value)
{
    KvmMsr msr = {.msrs.nmsrs = 1};
    msr.msrs.entries[0] = (struct kvm_msr_entry){.index = index, .data = value};
    return msr;
}

static inline KvmVm *kvm_vm(const Vm *vm)
{
    return vm->engine_data;
}
static inline KvmVcpu *kvm_vcpu(const Vcpu *vcpu)
{
    return vcpu->engine_data;
}

void kvm_get_state(Vcpu *vcpu, CpuState *state);
void kvm_set_state(Vcpu *vcpu, const CpuState *state);
void kvm_reset_apic(Vcpu *vcpu);
void kvm_get_apic(Vcpu *vcpu, IntcState *state);
void kvm_set_apic(Vcpu *vcpu, const IntcState *state);
uint64_t kvm_get_shared(Vm *vm);
void kvm_set_shared(Vm *vm, uint64_t clock_ns);
void kvm_time_stood_still(Vm *vm, uint64_t counts);
/* vCPU thread, after a KVM_RUN that left nothing to finish: what other threads and the kernel may
 * change meanwhile (time, local APIC) stays. No event is under way afterwards. */
void kvm_go_on_with_state(Vcpu *vcpu, const CpuState *state);

/* vCPU thread, in run(): `count` instructions, and the event that KVM had under way, in the
 * interpreter. VCPU_EXIT_KICKED: KVM can go on. */
VcpuExit kvm_emulate(Vcpu *vcpu, unsigned count);
/* The same for a KVM_RUN that failed; as many as seem right. */
VcpuExit kvm_hand_over(Vcpu *vcpu);
/* Any thread: writes to RAM are to be noticed from now on. */
void kvm_emulator_cleaned(KvmEmulator *emulator);
KvmEmulator *kvm_emulator_new(Vm *vm);
void kvm_emulator_add(KvmEmulator *emulator, Vcpu *vcpu);
/* NULL is allowed. */
void kvm_emulator_free(KvmEmulator *emulator);

void kvm_memory_init(KvmVm *kvm);
void kvm_memory_clear(KvmVm *kvm);

void kvm_send_msi(Vm *vm, uint64_t address, uint32_t data);
void kvm_set_extint(Vm *vm, bool level);
/* The local APIC holds a level-triggered interrupt of this vector: its end is to be told of. */
void kvm_learn_level(Vcpu *vcpu, uint8_t vector);
/* vCPU thread, before KVM_RUN: passes the PIC's interrupt on or asks for an exit when that can be
 * done. */
void kvm_inject_extint(Vcpu *vcpu);
