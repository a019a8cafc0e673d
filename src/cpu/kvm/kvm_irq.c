/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Interrupts into the in-kernel local APICs.
 *
 * The kernel exits on the EOI of a vector only when a route of a reserved "IOAPIC pin" names it as
 * level-triggered. The IOAPIC sends its interrupts as messages, so we learn the routes from those:
 * one pin per vector.
 */
#include <string.h>

#include "cpu/kvm/kvm_internal.h"

#define MSI_DATA_LEVEL  (1u << 15)
#define MSI_DATA_VECTOR 0xffu
#define LAPIC_MESSAGES  0xfee00000u

static void set_routes(KvmVm *kvm)
{
    g_autofree struct kvm_irq_routing *routing =
        g_malloc0(sizeof(*routing) + KVM_ROUTE_COUNT * sizeof(routing->entries[0]));
    for (unsigned pin = 0; pin < KVM_ROUTE_COUNT; pin++) {
        if (!kvm->routes[pin].address_lo)
            continue;
        struct kvm_irq_routing_entry *entry = &routing->entries[routing->nr++];
        entry->gsi = pin;
        entry->type = KVM_IRQ_ROUTING_MSI;
        entry->u.msi = kvm->routes[pin];
    }
    ioctl(kvm->vm_fd, KVM_SET_GSI_ROUTING, routing);
}

static void learn_route(KvmVm *kvm, const struct kvm_irq_routing_msi *msi)
{
    unsigned vector = msi->data & MSI_DATA_VECTOR;
    if (vector < KVM_ROUTE_FIRST_VECTOR)
        return; /* no local APIC takes such a vector */
    struct kvm_irq_routing_msi *known = &kvm->routes[vector - KVM_ROUTE_FIRST_VECTOR];
    g_mutex_lock(&kvm->routes_lock);
    if (memcmp(known, msi, sizeof(*msi))) {
        *known = *msi;
        set_routes(kvm);
    }
    g_mutex_unlock(&kvm->routes_lock);
}

void kvm_send_msi(Vm *vm, uint64_t address, uint32_t data)
{
    KvmVm *kvm = kvm_vm(vm);
    struct kvm_msi msi = {.address_lo = address, .address_hi = address >> 32, .data = data};
    if (data & MSI_DATA_LEVEL) {
        struct kvm_irq_routing_msi route = {
            .address_lo = msi.address_lo, .address_hi = msi.address_hi, .data = data};
        learn_route(kvm, &route);
    }
    ioctl(kvm->vm_fd, KVM_SIGNAL_MSI, &msi);
}

void kvm_learn_level(Vcpu *vcpu, uint8_t vector)
{
    const uint32_t to_one = LAPIC_MESSAGES | vcpu->index << 12;
    learn_route(kvm_vm(vcpu->vm), &(struct kvm_irq_routing_msi){.address_lo = to_one,
                                                                .data = vector | MSI_DATA_LEVEL});
}

void kvm_set_extint(Vm *vm, bool level)
{
    if (atomic_exchange(&kvm_vm(vm)->extint, level) != level && level)
        vcpu_request(vm->vcpus[0], VCPU_REQUEST_INTERRUPT);
}

/* Asking the PIC takes the board lock: that is no guest code. */
static int acknowledge(Vcpu *vcpu)
{
    Vm *vm = vcpu->vm;
    vcpu_leave(vcpu);
    int vector = vm->acknowledge_extint ? vm->acknowledge_extint(vm->obj) : -1;
    vcpu_enter(vcpu);
    return vector;
}

void kvm_inject_extint(Vcpu *vcpu)
{
    KvmVcpu *cpu = kvm_vcpu(vcpu);
    KvmVm *kvm = kvm_vm(vcpu->vm);
    if (vcpu->index)
        return;
    cpu->run->request_interrupt_window = 0;
    if (!atomic_load(&kvm->extint))
        return;
    if (!cpu->run->ready_for_interrupt_injection) {
        cpu->run->request_interrupt_window = 1;
        return;
    }
    struct kvm_interrupt interrupt = {.irq = acknowledge(vcpu)};
    if ((int)interrupt.irq >= 0 && ioctl(cpu->fd, KVM_INTERRUPT, &interrupt) == 0) {
        cpu->run->ready_for_interrupt_injection = 0;
        cpu->extints++;
    }
    if (atomic_load(&kvm->extint))
        cpu->run->request_interrupt_window = 1;
}
