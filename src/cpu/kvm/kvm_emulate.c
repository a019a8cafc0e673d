/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Where KVM cannot go on, the interpreter does: it takes the vCPU's state, delivers the event that
 * KVM had under way, runs a few instructions, and gives the state back. Each failure that follows
 * at once makes it run twice as many.
 *
 * The interpreter's CPUs belong to a Vm of their own, which shares the real one's memory and, by
 * its VmSync and VcpuSync, the flags by which threads meet: as seen from outside, the vCPU is in
 * the guest all the while. One vCPU at a time does this.
 */
#include <stddef.h>
#include <string.h>

#include "cpu/kvm/kvm_internal.h"
#include "cpu/soft/interp.h"
#include "cpu/soft/soft_vm.h"
#include "cpu/vm_internal.h"

#define BURST_MAX 4096

typedef struct EmulatedCpu {
    Vcpu vcpu; /* first: an engine gets it */
    Vcpu *real;
    bool refused; /* an instruction wanted of the local APIC what only KVM can do */
} EmulatedCpu;

struct KvmEmulator {
    GMutex lock;
    Vm vm;
    SoftVm *soft;
    EmulatedCpu cpus[VM_MAX_VCPUS];
};

/* ---- the local APIC, which is KVM's ---------------------------------------------------------- */

static bool has_interrupt(void *obj)
{
    return false; /* KVM delivers them when it goes on */
}

static uint8_t get_cr8(void *obj)
{
    const SoftCpu *cpu = ((EmulatedCpu *)obj)->vcpu.engine_data;
    return cpu->s.cr8;
}

static void set_cr8(void *obj, uint8_t value)
{
    ((SoftCpu *)((EmulatedCpu *)obj)->vcpu.engine_data)->s.cr8 = value;
}

static bool read_msr(void *obj, uint32_t index, uint64_t *ret_value)
{
    KvmMsr msr = kvm_msr(index, 0);
    if (ioctl(kvm_vcpu(((EmulatedCpu *)obj)->real)->fd, KVM_GET_MSRS, &msr) != 1)
        return false;
    *ret_value = msr.msrs.entries[0].data;
    return true;
}

static bool write_msr(void *obj, uint32_t index, uint64_t value)
{
    KvmMsr msr = kvm_msr(index, value);
    return ioctl(kvm_vcpu(((EmulatedCpu *)obj)->real)->fd, KVM_SET_MSRS, &msr) == 1;
}

static uint64_t mmio_read(void *obj, uint64_t offset, unsigned size)
{
    struct kvm_lapic_state lapic = {0};
    uint64_t value = 0;
    ioctl(kvm_vcpu(((EmulatedCpu *)obj)->real)->fd, KVM_GET_LAPIC, &lapic);
    if (offset + size <= sizeof(lapic.regs))
        memcpy(&value, lapic.regs + offset, size);
    return value;
}

static void mmio_write(void *obj, uint64_t offset, unsigned size, uint64_t value)
{
    ((EmulatedCpu *)obj)->refused = true;
}

static uint64_t apic_base(void *obj)
{
    const SoftCpu *cpu = ((EmulatedCpu *)obj)->vcpu.engine_data;
    return cpu->s.apic_base;
}

static const Intc emulated_intc = {
    .has_interrupt = has_interrupt,
    .get_cr8 = get_cr8,
    .set_cr8 = set_cr8,
    .read_msr = read_msr,
    .write_msr = write_msr,
    .mmio_read = mmio_read,
    .mmio_write = mmio_write,
    .apic_base = apic_base,
};

/* ---- the interpreter's VM -------------------------------------------------------------------- */

/* Somebody wants all at a safe point. */
static void kick(Vcpu *vcpu)
{
    Vcpu *real = ((EmulatedCpu *)vcpu)->real;
    SoftCpu *cpu = vcpu->engine_data;
    if (cpu)
        atomic_store(&cpu->exit_request, 1);
    vcpu_request(real, VCPU_REQUEST_EXCLUSIVE);
}

static const Engine emulator_engine = {.name = "kvm-emulator", .kick = kick};

KvmEmulator *kvm_emulator_new(Vm *real)
{
    KvmEmulator *emulator = g_new0(KvmEmulator, 1);
    g_mutex_init(&emulator->lock);
    emulator->vm = (Vm){
        .engine = &emulator_engine,
        .memory = real->memory,
        .ports = real->ports,
        .model = real->model,
        .tsc_hz = real->tsc_hz,
        .sync = real->sync,
    };
    emulator->soft = soft_vm_new_guest_of(&emulator->vm);
    return emulator;
}

void kvm_emulator_add(KvmEmulator *emulator, Vcpu *real)
{
    EmulatedCpu *cpu = &emulator->cpus[real->index];
    cpu->real = real;
    cpu->vcpu = (Vcpu){.vm = &emulator->vm,
                       .index = real->index,
                       .intc = &emulated_intc,
                       .intc_obj = cpu,
                       .sync = real->sync};
    emulator->vm.vcpus[emulator->vm.vcpu_count++] = &cpu->vcpu;
}

void kvm_emulator_free(KvmEmulator *emulator)
{
    if (!emulator)
        return;
    for (unsigned i = 0; i < emulator->vm.vcpu_count; i++)
        soft_cpu_free(emulator->cpus[i].vcpu.engine_data);
    soft_vm_free(emulator->soft);
    g_mutex_clear(&emulator->lock);
    g_free(emulator);
}

void kvm_emulator_cleaned(KvmEmulator *emulator)
{
    mmu_space_changed(&emulator->vm);
}

/* ---- a few instructions ---------------------------------------------------------------------- */

/* Stops before an instruction that wants of the local APIC what only KVM can do: that one is KVM's,
 * or nobody's here. Returns how many it did. */
static unsigned emulate_insns(EmulatedCpu *emulated, unsigned count, CpuState *ret_after)
{
    SoftCpu *cpu = emulated->vcpu.engine_data;
    unsigned done = 0;

    emulated->refused = false;
    soft_cpu_get_state(cpu, ret_after);
    while (done < count && ret_after->activity == CPU_ACTIVE) {
        soft_cpu_emulate(cpu, 1);
        if (emulated->refused)
            break;
        soft_cpu_get_state(cpu, ret_after);
        done++;
    }
    kvm_vcpu(emulated->real)->emulated += done;
    return done;
}

static VcpuExit emulate(EmulatedCpu *emulated, unsigned count)
{
    Vcpu *real = emulated->real;
    SoftCpu *cpu = emulated->vcpu.engine_data;
    CpuState before, after;
    kvm_get_state(real, &before);
    unsigned nmis = before.nmi_pending;
    after = before;
    after.kvm_system_time = after.kvm_eoi = after.hyperv_assist_page = 0; /* KVM's to write */
    after.nmi_pending = 0;
    after.activity = CPU_ACTIVE;
    soft_cpu_set_state(cpu, &after);
    unsigned done = emulate_insns(emulated, count, &after);
    after.kvm_system_time = before.kvm_system_time;
    after.kvm_eoi = before.kvm_eoi;
    after.hyperv_assist_page = before.hyperv_assist_page;
    kvm_go_on_with_state(real, &after);
    if (nmis) {
        atomic_fetch_add(&real->nmis, nmis);
        atomic_fetch_or(&real->requests, VCPU_REQUEST_NMI);
    }
    if (after.activity == CPU_SHUTDOWN)
        return VCPU_EXIT_SHUTDOWN;
    return emulated->refused && !done ? VCPU_EXIT_ERROR : VCPU_EXIT_KICKED;
}

VcpuExit kvm_emulate(Vcpu *vcpu, unsigned count)
{
    KvmEmulator *emulator = kvm_vm(vcpu->vm)->emulator;
    EmulatedCpu *emulated = &emulator->cpus[vcpu->index];

    vcpu_leave(vcpu); /* who has the lock may wait for us */
    g_mutex_lock(&emulator->lock);
    vcpu_enter(vcpu);
    if (!emulated->vcpu.engine_data)
        soft_cpu_new(&emulated->vcpu, emulator->soft);
    vcpu_adopt_thread(&emulated->vcpu);
    VcpuExit exit = emulate(emulated, count);
    vcpu_adopt_thread(vcpu);
    g_mutex_unlock(&emulator->lock);
    if (exit == VCPU_EXIT_ERROR) {
        g_free(vcpu->error);
        vcpu->error = g_strdup("the guest writes to its local APIC by an instruction that KVM "
                               "cannot emulate; --engine soft does without KVM");
    }
    return exit;
}

VcpuExit kvm_hand_over(Vcpu *vcpu)
{
    KvmVcpu *cpu = kvm_vcpu(vcpu);
    bool at_once = cpu->hand_overs && cpu->exits - cpu->failed_exit <= 1;
    cpu->burst = at_once ? MIN(cpu->burst * 2, BURST_MAX) : 1;
    cpu->failed_exit = cpu->exits;
    cpu->hand_overs++;
    return kvm_emulate(vcpu, cpu->burst);
}
