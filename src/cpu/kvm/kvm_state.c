/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A vCPU's registers to and from CpuState, and its local APIC to and from IntcState.
 *
 * vCPU thread, outside KVM_RUN. The ioctls fail only on a broken vCPU, which its next KVM_RUN
 * reports.
 */
#include <stddef.h>
#include <string.h>

#include "base/bits.h"
#include "cpu/kvm/kvm_internal.h"
#include "cpu/tsc.h"

/* ---- segments -------------------------------------------------------------------------------- */

static Segment segment_from_kvm(const struct kvm_segment *from)
{
    return (Segment){
        .selector = from->selector,
        .base = from->base,
        .limit = from->limit,
        .attributes = from->type | from->s << 4 | from->dpl << SEGMENT_DPL_SHIFT |
                      from->present << 7 | from->avl << 12 | from->l << 13 | from->db << 14 |
                      from->g << 15 | (from->unusable ? SEGMENT_UNUSABLE : 0),
    };
}

static struct kvm_segment segment_to_kvm(const Segment *from)
{
    uint32_t a = from->attributes;
    return (struct kvm_segment){
        .selector = from->selector,
        .base = from->base,
        .limit = from->limit,
        .type = a & SEGMENT_TYPE,
        .s = a >> 4 & 1,
        .dpl = a >> SEGMENT_DPL_SHIFT & 3,
        .present = a >> 7 & 1,
        .avl = a >> 12 & 1,
        .l = a >> 13 & 1,
        .db = a >> 14 & 1,
        .g = a >> 15 & 1,
        .unusable = !!(a & SEGMENT_UNUSABLE),
    };
}

static const size_t segment_offsets[SEG_COUNT] = {
    [SEG_ES] = offsetof(struct kvm_sregs, es), [SEG_CS] = offsetof(struct kvm_sregs, cs),
    [SEG_SS] = offsetof(struct kvm_sregs, ss), [SEG_DS] = offsetof(struct kvm_sregs, ds),
    [SEG_FS] = offsetof(struct kvm_sregs, fs), [SEG_GS] = offsetof(struct kvm_sregs, gs),
};

static void sregs_from_kvm(CpuState *state, const struct kvm_sregs *s)
{
    for (int i = 0; i < SEG_COUNT; i++)
        state->seg[i] = segment_from_kvm((const void *)((const char *)s + segment_offsets[i]));
    state->ldtr = segment_from_kvm(&s->ldt);
    state->tr = segment_from_kvm(&s->tr);
    state->gdtr = (DescriptorTable){s->gdt.base, s->gdt.limit};
    state->idtr = (DescriptorTable){s->idt.base, s->idt.limit};
    state->cr0 = s->cr0;
    state->cr2 = s->cr2;
    state->cr3 = s->cr3;
    state->cr4 = s->cr4;
    state->cr8 = s->cr8;
    state->efer = s->efer;
    state->apic_base = s->apic_base;
}

static void sregs_to_kvm(struct kvm_sregs *s, const CpuState *state)
{
    for (int i = 0; i < SEG_COUNT; i++)
        *(struct kvm_segment *)((char *)s + segment_offsets[i]) = segment_to_kvm(&state->seg[i]);
    s->ldt = segment_to_kvm(&state->ldtr);
    s->tr = segment_to_kvm(&state->tr);
    s->gdt.base = state->gdtr.base;
    s->gdt.limit = state->gdtr.limit;
    s->idt.base = state->idtr.base;
    s->idt.limit = state->idtr.limit;
    s->cr0 = state->cr0;
    s->cr2 = state->cr2;
    s->cr3 = state->cr3;
    s->cr4 = state->cr4;
    s->cr8 = state->cr8;
    s->efer = state->efer;
    s->apic_base = state->apic_base;
    memset(s->interrupt_bitmap, 0, sizeof(s->interrupt_bitmap));
}

/* ---- general registers ----------------------------------------------------------------------- */

static const size_t gpr_offsets[16] = {
    [GPR_RAX] = offsetof(struct kvm_regs, rax), [GPR_RCX] = offsetof(struct kvm_regs, rcx),
    [GPR_RDX] = offsetof(struct kvm_regs, rdx), [GPR_RBX] = offsetof(struct kvm_regs, rbx),
    [GPR_RSP] = offsetof(struct kvm_regs, rsp), [GPR_RBP] = offsetof(struct kvm_regs, rbp),
    [GPR_RSI] = offsetof(struct kvm_regs, rsi), [GPR_RDI] = offsetof(struct kvm_regs, rdi),
    [GPR_R8] = offsetof(struct kvm_regs, r8),   [GPR_R9] = offsetof(struct kvm_regs, r9),
    [GPR_R10] = offsetof(struct kvm_regs, r10), [GPR_R11] = offsetof(struct kvm_regs, r11),
    [GPR_R12] = offsetof(struct kvm_regs, r12), [GPR_R13] = offsetof(struct kvm_regs, r13),
    [GPR_R14] = offsetof(struct kvm_regs, r14), [GPR_R15] = offsetof(struct kvm_regs, r15),
};

static void get_regs(int fd, CpuState *state)
{
    struct kvm_regs regs = {0};
    ioctl(fd, KVM_GET_REGS, &regs);
    for (int i = 0; i < 16; i++)
        memcpy(&state->gpr[i], (char *)&regs + gpr_offsets[i], 8);
    state->gpr[GPR_NONE] = 0;
    state->rip = regs.rip;
    state->rflags = regs.rflags;
}

static void set_regs(int fd, const CpuState *state)
{
    struct kvm_regs regs = {.rip = state->rip, .rflags = state->rflags | 2};
    for (int i = 0; i < 16; i++)
        memcpy((char *)&regs + gpr_offsets[i], &state->gpr[i], 8);
    ioctl(fd, KVM_SET_REGS, &regs);
}

/* ---- FPU: the XSAVE area, standard format, SDM 1 13.4 ---------------------------------------- */

enum { XSAVE_LEGACY_SIZE = 416, XSAVE_XSTATE_BV = 512, XSAVE_YMM = 576 };
G_STATIC_ASSERT(offsetof(FpuState, ymm_high) == XSAVE_LEGACY_SIZE);

static void get_fpu(int fd, CpuState *state)
{
    struct kvm_xsave xsave = {0};
    const char *area = (const char *)xsave.region;
    ioctl(fd, KVM_GET_XSAVE, &xsave);
    memcpy(&state->fpu, area, XSAVE_LEGACY_SIZE);
    memcpy(state->fpu.ymm_high, area + XSAVE_YMM, sizeof(state->fpu.ymm_high));
}

static void set_fpu(Vcpu *vcpu, const CpuState *state)
{
    struct kvm_xsave xsave = {0};
    char *area = (char *)xsave.region;
    uint64_t components = XCR0_X87 | XCR0_SSE;
    memcpy(area, &state->fpu, XSAVE_LEGACY_SIZE);
    if (cpu_has(vcpu->vm->model, CPU_AVX)) {
        components |= XCR0_AVX;
        memcpy(area + XSAVE_YMM, state->fpu.ymm_high, sizeof(state->fpu.ymm_high));
    }
    memcpy(area + XSAVE_XSTATE_BV, &components, sizeof(components));
    ioctl(kvm_vcpu(vcpu)->fd, KVM_SET_XSAVE, &xsave);
}

static void get_xcr0(int fd, CpuState *state)
{
    struct kvm_xcrs xcrs = {0};
    state->xcr0 = XCR0_X87;
    if (ioctl(fd, KVM_GET_XCRS, &xcrs) == 0 && xcrs.nr_xcrs)
        state->xcr0 = xcrs.xcrs[0].value;
}

static void set_xcr0(Vcpu *vcpu, const CpuState *state)
{
    struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs = {{.xcr = 0, .value = state->xcr0 | XCR0_X87}}};
    if (cpu_has(vcpu->vm->model, CPU_XSAVE))
        ioctl(kvm_vcpu(vcpu)->fd, KVM_SET_XCRS, &xcrs);
}

/* ---- model-specific registers, SDM 4 --------------------------------------------------------- */

typedef struct MsrRow {
    uint32_t index;
    size_t offset;
    int feature; /* CpuFeature it comes with, -1: always there */
} MsrRow;

#define MSR(index, member, feature)                \
    {                                              \
        index, offsetof(CpuState, member), feature \
    }
#define MTRR_PAIR(n) \
    MSR(0x200 + 2 * (n), mtrr_base[n], CPU_MTRR), MSR(0x201 + 2 * (n), mtrr_mask[n], CPU_MTRR)

#define MC_BANK(n)                                                                       \
    MSR(0x400 + 4 * (n), mc_ctl[n], CPU_MCA), MSR(0x402 + 4 * (n), mc_addr[n], CPU_MCA), \
        MSR(0x403 + 4 * (n), mc_misc[n], CPU_MCA)

static const MsrRow msrs[] = {
    MSR(0x3b, tsc_adjust, CPU_TSC_ADJUST),
    MSR(0x48, spec_ctrl, CPU_SPEC_CTRL),
    MSR(0x174, sysenter_cs, CPU_SEP),
    MSR(0x175, sysenter_esp, CPU_SEP),
    MSR(0x176, sysenter_eip, CPU_SEP),
    MSR(0x1a0, misc_enable, -1),
    MSR(0x277, pat, CPU_PAT),
    MSR(0x2ff, mtrr_def_type, CPU_MTRR),
    MSR(0x250, mtrr_fixed[0], CPU_MTRR),
    MSR(0x258, mtrr_fixed[1], CPU_MTRR),
    MSR(0x259, mtrr_fixed[2], CPU_MTRR),
    MSR(0x268, mtrr_fixed[3], CPU_MTRR),
    MSR(0x269, mtrr_fixed[4], CPU_MTRR),
    MSR(0x26a, mtrr_fixed[5], CPU_MTRR),
    MSR(0x26b, mtrr_fixed[6], CPU_MTRR),
    MSR(0x26c, mtrr_fixed[7], CPU_MTRR),
    MSR(0x26d, mtrr_fixed[8], CPU_MTRR),
    MSR(0x26e, mtrr_fixed[9], CPU_MTRR),
    MSR(0x26f, mtrr_fixed[10], CPU_MTRR),
    MTRR_PAIR(0),
    MTRR_PAIR(1),
    MTRR_PAIR(2),
    MTRR_PAIR(3),
    MTRR_PAIR(4),
    MTRR_PAIR(5),
    MTRR_PAIR(6),
    MTRR_PAIR(7),
    MSR(0x17a, mcg_status, CPU_MCA),
    MC_BANK(0),
    MC_BANK(1),
    MC_BANK(2),
    MC_BANK(3),
    MC_BANK(4),
    MC_BANK(5),
    MC_BANK(6),
    MC_BANK(7),
    MC_BANK(8),
    MC_BANK(9),
    MSR(0x1d9, debugctl, -1),
    MSR(0xc0000081, star, CPU_LM),
    MSR(0xc0000082, lstar, CPU_LM),
    MSR(0xc0000083, cstar, CPU_LM),
    MSR(0xc0000084, sfmask, CPU_LM),
    MSR(0xc0000102, kernel_gs_base, CPU_LM),
    MSR(0xc0000103, tsc_aux, CPU_RDTSCP),
    MSR(MSR_KVM_SYSTEM_TIME, kvm_system_time, CPU_HYPERVISOR),
    MSR(MSR_KVM_EOI, kvm_eoi, CPU_HYPERVISOR),
    MSR(MSR_HYPERV_ASSIST_PAGE, hyperv_assist_page, CPU_HYPERVISOR),
};

static bool has_msr(Vcpu *vcpu, const MsrRow *row)
{
    return row->feature < 0 || cpu_has(vcpu->vm->model, row->feature);
}

/* One at a time: the kernel stops at the first it doesn't know. */
static void get_msrs(Vcpu *vcpu, CpuState *state)
{
    for (size_t i = 0; i < G_N_ELEMENTS(msrs); i++) {
        KvmMsr msr = kvm_msr(msrs[i].index, 0);
        if (has_msr(vcpu, &msrs[i]) && ioctl(kvm_vcpu(vcpu)->fd, KVM_GET_MSRS, &msr) == 1)
            memcpy((char *)state + msrs[i].offset, &msr.msrs.entries[0].data, 8);
    }
}

static void set_msrs(Vcpu *vcpu, const CpuState *state)
{
    for (size_t i = 0; i < G_N_ELEMENTS(msrs); i++) {
        uint64_t value;
        memcpy(&value, (const char *)state + msrs[i].offset, 8);
        KvmMsr msr = kvm_msr(msrs[i].index, value);
        if (has_msr(vcpu, &msrs[i]))
            ioctl(kvm_vcpu(vcpu)->fd, KVM_SET_MSRS, &msr);
    }
}

/* ---- debug registers, events, activity ------------------------------------------------------- */

static void get_debug(int fd, CpuState *state)
{
    struct kvm_debugregs debug = {0};
    ioctl(fd, KVM_GET_DEBUGREGS, &debug);
    for (int i = 0; i < 4; i++)
        state->dr[i] = debug.db[i];
    state->dr6 = debug.dr6;
    state->dr7 = debug.dr7;
}

static void set_debug(int fd, const CpuState *state)
{
    struct kvm_debugregs debug = {.dr6 = state->dr6, .dr7 = state->dr7};
    for (int i = 0; i < 4; i++)
        debug.db[i] = state->dr[i];
    ioctl(fd, KVM_SET_DEBUGREGS, &debug);
}

/* RIP is still before INT n, INT3 and INTO: these are executed again. */
static CpuEvent event_from_kvm(const struct kvm_vcpu_events *events)
{
    const unsigned int3 = 3, into = 4, nmi = 2;
    if (events->exception.injected && events->exception.nr != int3 && events->exception.nr != into)
        return (CpuEvent){CPU_EVENT_EXCEPTION, events->exception.nr,
                          events->exception.has_error_code, events->exception.error_code};
    if (events->nmi.injected)
        return (CpuEvent){.kind = CPU_EVENT_NMI, .vector = nmi};
    if (events->interrupt.injected && !events->interrupt.soft)
        return (CpuEvent){.kind = CPU_EVENT_INTERRUPT, .vector = events->interrupt.nr};
    return (CpuEvent){0};
}

static void get_events(int fd, CpuState *state)
{
    struct kvm_vcpu_events events = {0};
    ioctl(fd, KVM_GET_VCPU_EVENTS, &events);
    state->interrupt_shadow = events.interrupt.shadow;
    state->nmi_blocked = events.nmi.masked;
    state->nmi_pending = MIN(events.nmi.pending, 2);
    state->event = event_from_kvm(&events);
}

/* A pending NMI is vcpu.c's: it comes back as a request. */
static void set_events(int fd, const CpuState *state)
{
    const CpuEvent *event = &state->event;
    struct kvm_vcpu_events events = {
        .flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW,
        .exception.injected = event->kind == CPU_EVENT_EXCEPTION,
        .exception.nr = event->vector,
        .exception.has_error_code = event->has_error,
        .exception.error_code = event->error,
        .interrupt.injected = event->kind == CPU_EVENT_INTERRUPT,
        .interrupt.nr = event->vector,
        .interrupt.shadow = state->interrupt_shadow ? KVM_X86_SHADOW_INT_STI : 0,
        .nmi.injected = event->kind == CPU_EVENT_NMI,
        .nmi.masked = state->nmi_blocked,
    };
    ioctl(fd, KVM_SET_VCPU_EVENTS, &events);
}

static CpuActivity get_activity(int fd)
{
    struct kvm_mp_state mp = {0};
    ioctl(fd, KVM_GET_MP_STATE, &mp);
    switch (mp.mp_state) {
    case KVM_MP_STATE_HALTED:
        return CPU_HALTED;
    case KVM_MP_STATE_UNINITIALIZED:
    case KVM_MP_STATE_INIT_RECEIVED:
        return CPU_WAIT_SIPI;
    default:
        return CPU_ACTIVE;
    }
}

static void set_activity(int fd, CpuActivity activity)
{
    struct kvm_mp_state mp = {.mp_state = activity == CPU_HALTED      ? KVM_MP_STATE_HALTED
                                          : activity == CPU_WAIT_SIPI ? KVM_MP_STATE_INIT_RECEIVED
                                                                      : KVM_MP_STATE_RUNNABLE};
    ioctl(fd, KVM_SET_MP_STATE, &mp);
}

#define MSR_APIC_BASE 0x1b

/* ---- time ------------------------------------------------------------------------------------ */

#define NS_PER_SECOND    UINT64_C(1000000000)
#define MSR_TSC          0x10
#define MSR_TSC_DEADLINE 0x6e0

static struct kvm_device_attr tsc_offset_attr(uint64_t *offset)
{
    return (struct kvm_device_attr){
        .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uintptr_t)offset};
}

/* To the host's counter. The kernel knows it exactly; two readings would differ by the time between
 * them, and so would the counters of two CPUs. False: an older kernel, or counters of two rates. */
static bool get_tsc_offset(Vcpu *vcpu, uint64_t *ret_offset)
{
    struct kvm_device_attr attr = tsc_offset_attr(ret_offset);
    return tsc_host_is_invariant() && !kvm_vcpu(vcpu)->tsc_scaled &&
           ioctl(kvm_vcpu(vcpu)->fd, KVM_GET_DEVICE_ATTR, &attr) == 0;
}

static bool set_tsc_offset(Vcpu *vcpu, uint64_t offset)
{
    struct kvm_device_attr attr = tsc_offset_attr(&offset);
    return tsc_host_is_invariant() && !kvm_vcpu(vcpu)->tsc_scaled &&
           ioctl(kvm_vcpu(vcpu)->fd, KVM_SET_DEVICE_ATTR, &attr) == 0;
}

static void get_tsc(Vcpu *vcpu, CpuState *state)
{
    uint64_t offset;
    KvmMsr msr = kvm_msr(MSR_TSC, 0);
    state->tsc_host = vm_host_tsc(vcpu->vm);
    if (get_tsc_offset(vcpu, &offset)) {
        state->tsc = state->tsc_host + offset;
        return;
    }
    uint64_t late = tsc_host_now() - state->tsc_host; /* it went on though the VM is paused */
    if (ioctl(kvm_vcpu(vcpu)->fd, KVM_GET_MSRS, &msr) == 1)
        state->tsc = msr.msrs.entries[0].data - late;
}

static void set_tsc(Vcpu *vcpu, const CpuState *state)
{
    uint64_t host = vm_host_tsc(vcpu->vm);
    uint64_t value = state->tsc + (state->tsc_host ? host - state->tsc_host : 0);
    KvmMsr msr = kvm_msr(MSR_TSC, value);
    if (!set_tsc_offset(vcpu, value - host))
        ioctl(kvm_vcpu(vcpu)->fd, KVM_SET_MSRS, &msr);
}

static uint64_t get_deadline(Vcpu *vcpu)
{
    KvmMsr msr = kvm_msr(MSR_TSC_DEADLINE, 0);
    return ioctl(kvm_vcpu(vcpu)->fd, KVM_GET_MSRS, &msr) == 1 ? msr.msrs.entries[0].data : 0;
}

static void set_deadline(Vcpu *vcpu, uint64_t deadline)
{
    KvmMsr msr = kvm_msr(MSR_TSC_DEADLINE, deadline);
    if (cpu_has(vcpu->vm->model, CPU_TSC_DEADLINE))
        ioctl(kvm_vcpu(vcpu)->fd, KVM_SET_MSRS, &msr);
}

static void move_tsc_back(Vcpu *vcpu, uint64_t counts)
{
    uint64_t offset, deadline = get_deadline(vcpu);
    if (get_tsc_offset(vcpu, &offset) && set_tsc_offset(vcpu, offset - counts))
        set_deadline(vcpu, deadline);
}

/* ---- what all CPUs share --------------------------------------------------------------------- */

static const struct {
    uint32_t index;
    size_t offset;
} shared_msrs[] = {
    {MSR_HYPERV_GUEST_OS, offsetof(HypervGuest, os)}, /* first: the others depend on it */
    {MSR_HYPERV_HYPERCALL, offsetof(HypervGuest, hypercall)},
    {MSR_HYPERV_REFERENCE_TSC, offsetof(HypervGuest, reference_tsc)},
};

static uint64_t ns_of(uint64_t counts)
{
    return (unsigned __int128)counts * NS_PER_SECOND / tsc_host_hz();
}

uint64_t kvm_get_shared(Vm *vm)
{
    struct kvm_clock_data clock = {0};
    uint64_t late = ns_of(tsc_host_now() - vm_host_tsc(vm)); /* it went on */
    ioctl(kvm_vm(vm)->vm_fd, KVM_GET_CLOCK, &clock);
    for (size_t i = 0; i < G_N_ELEMENTS(shared_msrs); i++) {
        KvmMsr msr = kvm_msr(shared_msrs[i].index, 0);
        _Atomic uint64_t *value = (void *)((char *)&vm->hyperv + shared_msrs[i].offset);
        if (cpu_model_offers(vm->model, PARAVIRT_HYPERV) &&
            ioctl(kvm_vcpu(vm->vcpus[0])->fd, KVM_GET_MSRS, &msr) == 1)
            atomic_store(value, msr.msrs.entries[0].data);
    }
    return clock.clock - MIN(clock.clock, late);
}

void kvm_set_shared(Vm *vm, uint64_t clock_ns)
{
    for (size_t i = 0; i < G_N_ELEMENTS(shared_msrs); i++) {
        _Atomic uint64_t *value = (void *)((char *)&vm->hyperv + shared_msrs[i].offset);
        KvmMsr msr = kvm_msr(shared_msrs[i].index, atomic_load(value));
        if (cpu_model_offers(vm->model, PARAVIRT_HYPERV))
            ioctl(kvm_vcpu(vm->vcpus[0])->fd, KVM_SET_MSRS, &msr);
    }
    /* What has passed since the VM was paused is taken off when it goes on. The call itself takes
     * time, too: as much as the time before. */
    uint64_t before = tsc_host_now();
    struct kvm_clock_data clock = {.clock = clock_ns};
    ioctl(kvm_vm(vm)->vm_fd, KVM_SET_CLOCK, &clock);
    uint64_t after = tsc_host_now();
    clock.clock += ns_of(after + (after - before) - vm_host_tsc(vm));
    ioctl(kvm_vm(vm)->vm_fd, KVM_SET_CLOCK, &clock);
}

/* Guests look at the flag that KVM_KVMCLOCK_CTRL sets before they call a pause a lockup. */
void kvm_time_stood_still(Vm *vm, uint64_t counts)
{
    struct kvm_clock_data clock = {0};
    if (ioctl(kvm_vm(vm)->vm_fd, KVM_GET_CLOCK, &clock) < 0)
        return;
    uint64_t ns = ns_of(counts);
    struct kvm_clock_data back = {.clock = clock.clock - MIN(clock.clock, ns)};
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        move_tsc_back(vm->vcpus[i], counts);
    ioctl(kvm_vm(vm)->vm_fd, KVM_SET_CLOCK, &back);
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        ioctl(kvm_vcpu(vm->vcpus[i])->fd, KVM_KVMCLOCK_CTRL, 0);
}

/* ---- all ------------------------------------------------------------------------------------- */

/* The activity first: to ask for it makes the kernel take an INIT or startup IPI under way. */
void kvm_get_state(Vcpu *vcpu, CpuState *state)
{
    int fd = kvm_vcpu(vcpu)->fd;
    struct kvm_sregs sregs = {0};
    *state = (CpuState){0};
    state->activity = get_activity(fd);
    get_events(fd, state);
    ioctl(fd, KVM_GET_SREGS, &sregs);
    sregs_from_kvm(state, &sregs);
    get_tsc(vcpu, state);
    get_regs(fd, state);
    get_fpu(fd, state);
    get_xcr0(fd, state);
    get_msrs(vcpu, state);
    state->tsc_deadline = get_deadline(vcpu);
    get_debug(fd, state);
}

/* Segments and control registers first: what others may hold depends on the mode. */
void kvm_go_on_with_state(Vcpu *vcpu, const CpuState *state)
{
    int fd = kvm_vcpu(vcpu)->fd;
    struct kvm_sregs sregs = {0};
    sregs_to_kvm(&sregs, state);
    ioctl(fd, KVM_SET_SREGS, &sregs);
    set_regs(fd, state);
    set_xcr0(vcpu, state);
    set_fpu(vcpu, state);
    set_msrs(vcpu, state);
    set_debug(fd, state);
    set_events(fd, state);
    set_activity(fd, state->activity);
}

void kvm_set_state(Vcpu *vcpu, const CpuState *state)
{
    set_tsc(vcpu, state);
    kvm_go_on_with_state(vcpu, state);
    set_deadline(vcpu, state->tsc_deadline);
}

/* ---- the local APIC -------------------------------------------------------------------------- */

/* A one-shot count that ran out may have its interrupt still to come, which the kernel does not
 * tell: it ends once more, for one too many does less harm than one too few. */
static void finish_count(uint8_t *regs)
{
    const uint32_t mode = 3u << 17;
    if (!(load_le32(regs + INTC_LVT_TIMER) & mode) && load_le32(regs + INTC_TIMER_INITIAL) &&
        !load_le32(regs + INTC_TIMER_CURRENT))
        store_le32(regs + INTC_TIMER_CURRENT, 1);
}

void kvm_get_apic(Vcpu *vcpu, IntcState *state)
{
    struct kvm_lapic_state lapic = {0};
    struct kvm_sregs sregs = {0};
    G_STATIC_ASSERT(sizeof(lapic.regs) == sizeof(state->regs));
    ioctl(kvm_vcpu(vcpu)->fd, KVM_GET_LAPIC, &lapic);
    ioctl(kvm_vcpu(vcpu)->fd, KVM_GET_SREGS, &sregs);
    memcpy(state->regs, lapic.regs, sizeof(state->regs));
    finish_count(state->regs);
    state->base = sregs.apic_base;
    state->tsc_deadline = get_deadline(vcpu);
}

void kvm_set_apic(Vcpu *vcpu, const IntcState *state)
{
    struct kvm_lapic_state lapic = {0};
    const uint32_t id = vcpu->index << 24;
    KvmMsr base = kvm_msr(MSR_APIC_BASE, state->base);
    memcpy(lapic.regs, state->regs, sizeof(lapic.regs));
    store_le32((uint8_t *)lapic.regs + INTC_ID, id);
    ioctl(kvm_vcpu(vcpu)->fd, KVM_SET_MSRS, &base);
    ioctl(kvm_vcpu(vcpu)->fd, KVM_SET_LAPIC, &lapic);
    for (unsigned vector = KVM_ROUTE_FIRST_VECTOR; vector < 256; vector++) {
        unsigned reg = vector / 32 * 16;
        uint32_t held =
            load_le32(state->regs + INTC_IRR + reg) | load_le32(state->regs + INTC_ISR + reg);
        if (held & load_le32(state->regs + INTC_TMR + reg) & 1u << vector % 32)
            kvm_learn_level(vcpu, vector);
    }
    set_deadline(vcpu, state->tsc_deadline);
}

/* SDM 3A 10.4.7.1: the local APIC after power-on; but the BSP's LINT0 passes the PIC on, as
 * firmware that knows no APIC expects of a PC ("virtual wire", MP specification 3.6.2.1). */
void kvm_reset_apic(Vcpu *vcpu)
{
    enum { VERSION = 0x30, DFR = 0xe0, SVR = 0xf0, LVT0 = 0x350 };
    static const uint16_t lvt[] = {0x320, 0x330, 0x340, 0x350, 0x360, 0x370};
    const uint32_t masked = 1u << 16;
    int fd = kvm_vcpu(vcpu)->fd;
    KvmMsr base = kvm_msr(MSR_APIC_BASE, 0xfee00800 | (vcpu->index ? 0 : 1 << 8));
    struct kvm_lapic_state old = {0}, new = {0};
    ioctl(fd, KVM_SET_MSRS, &base);
    ioctl(fd, KVM_GET_LAPIC, &old);
    memcpy(new.regs + VERSION, old.regs + VERSION, 4);
    memcpy(new.regs + INTC_ID, &(uint32_t){vcpu->index << 24}, 4);
    memcpy(new.regs + DFR, &(uint32_t){0xffffffff}, 4);
    memcpy(new.regs + SVR, &(uint32_t){0xff}, 4);
    for (size_t i = 0; i < G_N_ELEMENTS(lvt); i++)
        memcpy(new.regs + lvt[i], &masked, 4);
    if (!vcpu->index)
        memcpy(new.regs + LVT0, &(uint32_t){0x700}, 4);
    ioctl(fd, KVM_SET_LAPIC, &new);
}
