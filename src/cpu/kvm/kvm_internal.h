/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The parts of the KVM engine:
 *
 *   kvm.c         probing, VM and vCPU, the run loop and its exits
 *   kvm_state.c   registers to and from CpuState
 *   kvm_memory.c  memory slots and the dirty log
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

typedef struct KvmVm {
    Vm *vm;
    int device_fd, vm_fd;
    size_t run_size; /* bytes to map of a vCPU */
    bool listening;

    GMutex slots_lock; /* after exclusive sections and the board lock */
    GArray *slots;     /* of KvmSlot; the index is KVM's slot number */
    GHashTable *rams;  /* Ram → whether its dirty log is on */
    bool slot_failed;  /* the kernel refused memory: reported by the next run */
    int slot_errno;

    GMutex routes_lock;
    struct kvm_irq_routing_msi routes[KVM_ROUTE_COUNT]; /* level-triggered messages seen */
    _Atomic bool extint;
} KvmVm;

typedef struct KvmVcpu {
    int fd;
    struct kvm_run *run;
    size_t run_size;
    pthread_t thread;
    _Atomic bool thread_known;
    uint64_t exits, io, mmio, kicks, eois, extints;
} KvmVcpu;

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

void kvm_memory_init(KvmVm *kvm);
void kvm_memory_clear(KvmVm *kvm);

void kvm_send_msi(Vm *vm, uint64_t address, uint32_t data);
void kvm_set_extint(Vm *vm, bool level);
/* vCPU thread, before KVM_RUN: passes the PIC's interrupt on or asks for an exit when that can be
 * done. */
void kvm_inject_extint(Vcpu *vcpu);
