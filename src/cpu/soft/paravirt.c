/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The registers by which a guest that knows it is one asks for help (cpu/paravirt.h).
 *
 * Time is what the TSC says: all pages are written once and stay right, for the TSC stands still
 * while the VM is paused. Only a guest that writes its TSC gets another page, and clocks that may
 * differ between its CPUs.
 */
#include "cpu/paravirt.h"

#include <string.h>
#include <time.h>

#include "cpu/soft/system.h"

#define ENABLE    1u
#define PAGE_BITS (~UINT64_C(0xfff))

/* ---- time ------------------------------------------------------------------------------------ */

/* Counts since the guest's time began; as the TSC, if the guest never wrote that. */
static uint64_t ticks_now(const SoftCpu *cpu)
{
    const Vm *vm = cpu->vcpu->vm;

    return vm_host_tsc(vm) - vm_time_origin(vm);
}

/* The guest's TSC when its time began. */
static uint64_t tsc_at_origin(const SoftCpu *cpu)
{
    return vm_time_origin(cpu->vcpu->vm) + (uint64_t)cpu->tsc_offset;
}

static void guest_write(SoftCpu *cpu, uint64_t address, const void *data, size_t size)
{
    space_write(cpu->vcpu->vm->memory, address, data, size);
}

/* What KVM's documentation calls pvclock_vcpu_time_info. */
typedef struct KvmTime {
    uint32_t version; /* odd: being written */
    uint32_t pad;
    uint64_t tsc, ns;
    uint32_t multiplier;
    int8_t shift;
    uint8_t flags;
    uint8_t pad2[2];
} KvmTime;
G_STATIC_ASSERT(sizeof(KvmTime) == 32);
enum { KVM_TIME_STABLE = 1 };

static void write_kvm_time(SoftCpu *cpu)
{
    if (!(cpu->s.kvm_system_time & ENABLE))
        return;
    ClockScale scale = clock_scale(cpu->vcpu->vm->tsc_hz);
    uint64_t address = cpu->s.kvm_system_time & ~(uint64_t)ENABLE;
    uint32_t version = 0;
    KvmTime time = {.tsc = tsc_at_origin(cpu),
                    .multiplier = scale.multiplier,
                    .shift = scale.shift,
                    .flags = cpu->s.tsc_adjust ? 0 : KVM_TIME_STABLE};

    space_read(cpu->vcpu->vm->memory, address, &version, sizeof(version));
    time.version = (version | 1) + 2;
    guest_write(cpu, address, &time, sizeof(time));
    atomic_thread_fence(memory_order_release);
    time.version++;
    guest_write(cpu, address, &time.version, sizeof(time.version));
}

/* The time of day when the guest's time began: version, seconds, nanoseconds. */
static void write_wall_clock(SoftCpu *cpu, uint64_t address)
{
    const uint64_t second = 1000000000;
    uint64_t since = clock_scale_ns(clock_scale(cpu->vcpu->vm->tsc_hz), ticks_now(cpu));
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t then = (uint64_t)now.tv_sec * second + (uint64_t)now.tv_nsec - since;
    uint32_t words[] = {2, (uint32_t)(then / second), (uint32_t)(then % second)};
    guest_write(cpu, address, words, sizeof(words));
}

/* TLFS 12.7: 100 ns = (TSC × scale >> 64) + offset. */
static void write_reference_tsc(SoftCpu *cpu, uint64_t address)
{
    struct {
        uint32_t sequence, pad;
        uint64_t scale;
        int64_t offset;
    } page = {.sequence = 1, .scale = clock_reference_scale(cpu->vcpu->vm->tsc_hz)};

    /* The guest's counter may have been 0 after its clock began. */
    int64_t start = (int64_t)tsc_at_origin(cpu);
    int64_t units = (int64_t)((unsigned __int128)(start < 0 ? -start : start) * page.scale >> 64);
    page.offset = start < 0 ? units : -units;
    guest_write(cpu, address, &page, sizeof(page));
}

static uint64_t time_counter(const SoftCpu *cpu)
{
    uint64_t scale = clock_reference_scale(cpu->vcpu->vm->tsc_hz);

    return (uint64_t)((unsigned __int128)ticks_now(cpu) * scale >> 64);
}

void paravirt_tsc_moved(SoftCpu *cpu)
{
    write_kvm_time(cpu);
}

/* ---- the end of an interrupt ----------------------------------------------------------------- */

/* Where the guest finds the bit that says its next end of interrupt need not be told: KVM's word
 * or Hyper-V's page. */
static void set_eoi_bit(SoftCpu *cpu, uint64_t value)
{
    const Vcpu *vcpu = cpu->vcpu;

    if (vcpu->intc && vcpu->intc->set_eoi_bit)
        vcpu->intc->set_eoi_bit(vcpu->intc_obj,
                                value & ENABLE ? value & ~(uint64_t)ENABLE : UINT64_MAX);
}

/* The local APIC's registers by numbers of Hyper-V's own, in both of its modes. */
static bool write_apic(SoftCpu *cpu, uint32_t msr, uint64_t value)
{
    enum { EOI = 0xb, ICR = 0x30, TPR = 0x8 };
    const uint32_t x2apic_first = 0x800;
    const unsigned reg = msr == MSR_HYPERV_EOI ? EOI : msr == MSR_HYPERV_ICR ? ICR : TPR;
    const Vcpu *vcpu = cpu->vcpu;

    if (!vcpu->intc)
        return false;
    if (vcpu->intc->apic_base(vcpu->intc_obj) & 1 << 10)
        return msr_write(cpu, x2apic_first + reg, reg == EOI ? 0 : value);
    vcpu_leave(cpu->vcpu); /* an EOI may take the board lock */
    if (reg == ICR)
        vcpu->intc->mmio_write(vcpu->intc_obj, (ICR + 1) << 4, 4, value >> 32);
    vcpu->intc->mmio_write(vcpu->intc_obj, reg << 4, 4, value & UINT32_MAX);
    vcpu_enter(cpu->vcpu);
    cpu->interrupt_waits = true; /* perhaps */
    return true;
}

static bool read_apic(SoftCpu *cpu, uint32_t msr, uint64_t *ret_value)
{
    const Vcpu *vcpu = cpu->vcpu;

    if (!vcpu->intc || msr == MSR_HYPERV_EOI)
        return false;
    if (vcpu->intc->apic_base(vcpu->intc_obj) & 1 << 10)
        return msr_read(cpu, msr == MSR_HYPERV_ICR ? 0x830 : 0x808, ret_value);
    if (msr == MSR_HYPERV_TPR)
        *ret_value = vcpu->intc->mmio_read(vcpu->intc_obj, 0x80, 4);
    else
        *ret_value = vcpu->intc->mmio_read(vcpu->intc_obj, 0x300, 4) |
                     vcpu->intc->mmio_read(vcpu->intc_obj, 0x310, 4) << 32;
    return true;
}

/* ---- hypercalls ------------------------------------------------------------------------------ */

/* TLFS 3.13: the guest calls what stands in this page. There are no hypercalls, it says
 * (HV_STATUS_INVALID_HYPERCALL_CODE); 32-bit code gets results in EDX:EAX. */
static void write_hypercall_page(SoftCpu *cpu, uint64_t address)
{
    static const uint8_t long_mode[] = {0xb8, 2, 0, 0, 0, 0xc3};
    static const uint8_t protected_mode[] = {0xb8, 2, 0, 0, 0, 0x31, 0xd2, 0xc3};

    if (cpu_is_long_mode(cpu))
        guest_write(cpu, address, long_mode, sizeof(long_mode));
    else
        guest_write(cpu, address, protected_mode, sizeof(protected_mode));
}

/* ---- registers ------------------------------------------------------------------------------- */

static bool kvm_write(SoftCpu *cpu, uint32_t msr, uint64_t value)
{
    switch (msr) {
    case MSR_KVM_WALL_CLOCK:
        write_wall_clock(cpu, value);
        return true;
    case MSR_KVM_SYSTEM_TIME:
        cpu->s.kvm_system_time = value;
        write_kvm_time(cpu);
        return true;
    case MSR_KVM_EOI:
        if (value & 2)
            return false;
        cpu->s.kvm_eoi = value;
        set_eoi_bit(cpu, value);
        return true;
    default:
        return false;
    }
}

static bool kvm_read(const SoftCpu *cpu, uint32_t msr, uint64_t *ret_value)
{
    switch (msr) {
    case MSR_KVM_WALL_CLOCK:
        *ret_value = 0;
        return true;
    case MSR_KVM_SYSTEM_TIME:
        *ret_value = cpu->s.kvm_system_time;
        return true;
    case MSR_KVM_EOI:
        *ret_value = cpu->s.kvm_eoi;
        return true;
    default:
        return false;
    }
}

/* TLFS 3.13: the page is taken away again when the guest no longer says what it is. */
static bool hyperv_write(SoftCpu *cpu, uint32_t msr, uint64_t value)
{
    HypervGuest *guest = &cpu->vcpu->vm->hyperv;

    switch (msr) {
    case MSR_HYPERV_GUEST_OS:
        atomic_store(&guest->os, value);
        if (!value)
            atomic_store(&guest->hypercall, 0);
        return true;
    case MSR_HYPERV_HYPERCALL:
        if (!atomic_load(&guest->os))
            return true;
        atomic_store(&guest->hypercall, value);
        if (value & ENABLE)
            write_hypercall_page(cpu, value & PAGE_BITS);
        return true;
    case MSR_HYPERV_REFERENCE_TSC:
        atomic_store(&guest->reference_tsc, value);
        if (value & ENABLE)
            write_reference_tsc(cpu, value & PAGE_BITS);
        return true;
    case MSR_HYPERV_ASSIST_PAGE:
        cpu->s.hyperv_assist_page = value;
        set_eoi_bit(cpu, value & ENABLE ? (value & PAGE_BITS) | ENABLE : 0);
        return true;
    case MSR_HYPERV_EOI:
    case MSR_HYPERV_ICR:
    case MSR_HYPERV_TPR:
        return write_apic(cpu, msr, value);
    default:
        return false;
    }
}

static bool hyperv_read(SoftCpu *cpu, uint32_t msr, uint64_t *ret_value)
{
    HypervGuest *guest = &cpu->vcpu->vm->hyperv;

    switch (msr) {
    case MSR_HYPERV_GUEST_OS:
        *ret_value = atomic_load(&guest->os);
        return true;
    case MSR_HYPERV_HYPERCALL:
        *ret_value = atomic_load(&guest->hypercall);
        return true;
    case MSR_HYPERV_VP_INDEX:
        *ret_value = cpu->vcpu->index;
        return true;
    case MSR_HYPERV_TIME_COUNTER:
        *ret_value = time_counter(cpu);
        return true;
    case MSR_HYPERV_REFERENCE_TSC:
        *ret_value = atomic_load(&guest->reference_tsc);
        return true;
    case MSR_HYPERV_TSC_HZ:
        *ret_value = cpu->vcpu->vm->tsc_hz;
        return true;
    case MSR_HYPERV_APIC_HZ:
        *ret_value = CPU_CRYSTAL_HZ;
        return true;
    case MSR_HYPERV_ASSIST_PAGE:
        *ret_value = cpu->s.hyperv_assist_page;
        return true;
    case MSR_HYPERV_ICR:
    case MSR_HYPERV_TPR:
        return read_apic(cpu, msr, ret_value);
    default:
        return false;
    }
}

/* Another engine may have had these registers. */
void paravirt_loaded(SoftCpu *cpu)
{
    const HypervGuest *guest = &cpu->vcpu->vm->hyperv;
    uint64_t reference_tsc = atomic_load(&guest->reference_tsc);
    uint64_t hypercall = atomic_load(&guest->hypercall);

    write_kvm_time(cpu);
    set_eoi_bit(cpu, cpu->s.hyperv_assist_page & ENABLE
                         ? (cpu->s.hyperv_assist_page & PAGE_BITS) | ENABLE
                         : cpu->s.kvm_eoi);
    if (!cpu->vcpu->index && reference_tsc & ENABLE)
        write_reference_tsc(cpu, reference_tsc & PAGE_BITS);
    if (!cpu->vcpu->index && hypercall & ENABLE)
        write_hypercall_page(cpu, hypercall & PAGE_BITS);
}

bool paravirt_write(SoftCpu *cpu, uint32_t msr, uint64_t value)
{
    return (cpu_model_offers(cpu->model, PARAVIRT_KVM) && kvm_write(cpu, msr, value)) ||
           (cpu_model_offers(cpu->model, PARAVIRT_HYPERV) && hyperv_write(cpu, msr, value));
}

bool paravirt_read(SoftCpu *cpu, uint32_t msr, uint64_t *ret_value)
{
    return (cpu_model_offers(cpu->model, PARAVIRT_KVM) && kvm_read(cpu, msr, ret_value)) ||
           (cpu_model_offers(cpu->model, PARAVIRT_HYPERV) && hyperv_read(cpu, msr, ret_value));
}
