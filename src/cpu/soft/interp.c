/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The interpreter engine: the loop around the blocks.
 *
 *   look (requests, events) → find the block at RIP → its handlers, and by chaining those of the
 * next blocks → again
 *
 * Faults come back to the loop by siglongjmp and are delivered from here.
 */
#include "cpu/soft/interp.h"

#include "base/bits.h"
#include "base/i18n.h"
#include "base/reserve.h"
#include "cpu/soft/block.h"
#include "cpu/soft/ops_simd.h"
#include "cpu/soft/ops_x87.h"
#include "cpu/soft/soft_trace.h"
#include "cpu/soft/soft_vm.h"
#include "cpu/tsc.h"

/* Decoded instructions to keep: 16 MiB. */
#define INSNS_MOST ((size_t)256 << 10)
/* How far below the loop's frame chained handlers may get. */
#define CHAIN_STACK KIB(128)

/* ---- the loop -------------------------------------------------------------------------------- */

bool interp_must_look(const SoftCpu *cpu)
{
    return atomic_load_explicit(&cpu->exit_request, memory_order_relaxed) || cpu->pending_db ||
           cpu->s.interrupt_shadow || cpu->mode & MODE_SINGLE_STEP || cpu->s.activity != CPU_ACTIVE;
}

/* One NMI can be on its way and one more be latched behind it, which is all while they are blocked.
 */
static void queue_nmis(SoftCpu *cpu)
{
    unsigned count = atomic_exchange(&cpu->vcpu->nmis, 0);
    unsigned waiting = cpu->s.nmi_pending + MIN(count, 2);
    cpu->s.nmi_pending = MIN(waiting, cpu->s.nmi_blocked ? 1 : 2);
}

/* False: leave with `*ret_exit`. */
bool interp_look_around(SoftCpu *cpu, VcpuExit *ret_exit)
{
    Vcpu *vcpu = cpu->vcpu;
    atomic_exchange(&cpu->exit_request, 0);
    uint32_t requests = atomic_load(&vcpu->requests);
    *ret_exit = VCPU_EXIT_KICKED;
    if (requests & ~(VCPU_REQUEST_INTERRUPT | VCPU_REQUEST_NMI))
        return false;
    if (requests) {
        /* What came since the load is in the answer of this. */
        requests = atomic_fetch_and(&vcpu->requests,
                                    ~(uint32_t)(VCPU_REQUEST_INTERRUPT | VCPU_REQUEST_NMI));
        if (requests & VCPU_REQUEST_NMI)
            queue_nmis(cpu);
    }
    if (vcpu->vm->debug && debug_must_stop(vcpu, code_linear(cpu, cpu->s.rip & cpu->rip_mask),
                                           cpu->s.activity == CPU_ACTIVE)) {
        *ret_exit = VCPU_EXIT_DEBUG;
        return false;
    }
    exception_take_events(cpu);
    *ret_exit = cpu->s.activity == CPU_SHUTDOWN ? VCPU_EXIT_SHUTDOWN : VCPU_EXIT_HALTED;
    if (cpu->s.activity != CPU_ACTIVE)
        return false;
    if (soft_traces(cpu, TRACE_EXEC))
        soft_trace_exec(cpu);
    if (atomic_load_explicit(&vcpu->debug.run, memory_order_relaxed) == DEBUG_STEP)
        atomic_store(&vcpu->debug.run, DEBUG_STEPPED);
    return true;
}

void interp_run_block(SoftCpu *cpu, const Block *block)
{
    cpu->s.gpr[GPR_BLOCK_RIP] = cpu->s.rip;
    cpu->insn_count += block->count;
    block->insns[0].fn(cpu, block->insns);
}

void interp_set_stack_floor(SoftCpu *cpu)
{
    cpu->blocks->stack_floor = (uintptr_t)__builtin_frame_address(0) - CHAIN_STACK;
}

static VcpuExit run_loop(SoftCpu *cpu)
{
    VcpuExit exit;
    interp_set_stack_floor(cpu);
    atomic_store(&cpu->exit_request, 1); /* look first: nobody kicks a vCPU that does not run */
    sigsetjmp(cpu->jump, 0);
    if (cpu->event.vector >= 0 && !exception_deliver(cpu))
        return VCPU_EXIT_SHUTDOWN;
    for (;;) {
        if (interp_must_look(cpu) && !interp_look_around(cpu, &exit))
            return exit;
        interp_run_block(cpu, block_find(cpu, false));
    }
}

int soft_cpu_step(SoftCpu *cpu, unsigned count)
{
    volatile unsigned left = count;
    interp_set_stack_floor(cpu);
    if (sigsetjmp(cpu->jump, 0)) {
        int vector = cpu->event.vector;
        cpu->event.vector = -1;
        return vector;
    }
    while (left && cpu->s.activity == CPU_ACTIVE) {
        atomic_store(&cpu->exit_request, 1); /* no chaining */
        left--;
        interp_run_block(cpu, block_find(cpu, true));
    }
    return -1;
}

bool soft_cpu_emulate(SoftCpu *cpu, unsigned count)
{
    volatile unsigned left = count;
    interp_set_stack_floor(cpu);
    sigsetjmp(cpu->jump, 0);
    if (cpu->event.vector >= 0 && !exception_deliver(cpu))
        return false;
    while (left && cpu->s.activity == CPU_ACTIVE) {
        left--;
        exception_take_events(cpu);
        atomic_store(&cpu->exit_request, 1); /* no chaining */
        interp_run_block(cpu, block_find(cpu, true));
    }
    return cpu->s.activity != CPU_SHUTDOWN;
}

/* ---- state ----------------------------------------------------------------------------------- */

SoftCpu *soft_cpu_new_with(Vcpu *vcpu, SoftVm *vm, size_t extra, size_t insns_most)
{
    size_t size = align_up(align_up(sizeof(SoftCpu), 64) + extra, _Alignof(SoftCpu));
    SoftCpu *cpu = block_reserve(size); /* page by page, as it is used */
    cpu->size = size;
    cpu->vcpu = vcpu;
    cpu->vm = vm;
    cpu->model = vcpu->vm->model;
    cpu->event.vector = -1;
    cpu->blocks = block_cache_new(cpu, insns_most);
    mmu_init(cpu);
    CpuState state = {0};
    cpu_state_reset(&state, cpu_model_signature(cpu->model), vcpu->index == 0, false);
    soft_cpu_set_state(cpu, &state);
    vcpu->engine_data = cpu;
    return cpu;
}

SoftCpu *soft_cpu_new(Vcpu *vcpu, SoftVm *vm)
{
    return soft_cpu_new_with(vcpu, vm, 0, INSNS_MOST);
}

void soft_cpu_free(SoftCpu *cpu)
{
    if (!cpu)
        return;
    cpu->vcpu->engine_data = NULL;
    block_cache_free(cpu->blocks);
    reserve_free(cpu, cpu->size);
}

static void load_event(SoftCpu *cpu)
{
    const CpuEvent *event = &cpu->s.event;
    cpu->event.vector = event->kind == CPU_EVENT_NONE ? -1 : event->vector;
    cpu->event.has_error = event->has_error;
    cpu->event.error = event->error;
    cpu->event.software = false;
    cpu->event.external = event->kind != CPU_EVENT_EXCEPTION;
    cpu->s.event = (CpuEvent){0};
}

/* At a safe point there is one only when it was set and the CPU has not run since. */
static CpuEvent event_not_begun(const SoftCpu *cpu)
{
    if (cpu->event.vector < 0)
        return (CpuEvent){0};
    return (CpuEvent){
        .kind = !cpu->event.external           ? CPU_EVENT_EXCEPTION
                : cpu->event.vector == EXC_NMI ? CPU_EVENT_NMI
                                               : CPU_EVENT_INTERRUPT,
        .vector = (uint8_t)cpu->event.vector,
        .has_error = cpu->event.has_error,
        .error = cpu->event.error,
    };
}

void soft_cpu_get_state(SoftCpu *cpu, CpuState *state)
{
    *state = cpu->s;
    state->gpr[GPR_BLOCK_RIP] = 0;
    state->rflags = flags_get(cpu);
    state->tsc_host = vm_host_tsc(cpu->vcpu->vm);
    state->tsc = state->tsc_host + (uint64_t)cpu->tsc_offset;
    state->pending_db = cpu->pending_db;
    state->event = event_not_begun(cpu);
    x87_to_architectural(&state->fpu);
}

void soft_cpu_set_state(SoftCpu *cpu, const CpuState *state)
{
    cpu->s = *state;
    cpu->s.gpr[GPR_NONE] = 0;
    x87_from_architectural(&cpu->s.fpu);
    cpu->tsc_offset = (int64_t)(state->tsc - (state->tsc_host ?: vm_host_tsc(cpu->vcpu->vm)));
    cpu_state_loaded(cpu);
    load_event(cpu);
    cpu->pending_db = state->pending_db;
    paravirt_loaded(cpu);
}

/* ---- the engine ------------------------------------------------------------------------------ */

static bool interp_probe(GError **error)
{
    return true;
}

static void interp_features(bool *ret_features)
{
    /* What the CPU itself does, in software or by an instruction every x86-64 has. */
    static const CpuFeature own[] = {
        CPU_FPU,          CPU_VME,
        CPU_DE,           CPU_PSE,
        CPU_TSC,          CPU_MSR,
        CPU_PAE,          CPU_MCE,
        CPU_CX8,          CPU_APIC,
        CPU_SEP,          CPU_MTRR,
        CPU_PGE,          CPU_MCA,
        CPU_CMOV,         CPU_PAT,
        CPU_PSE36,        CPU_CLFLUSH,
        CPU_CX16,         CPU_PCID,
        CPU_X2APIC,       CPU_MOVBE,
        CPU_TSC_DEADLINE, CPU_HYPERVISOR,
        CPU_FSGSBASE,     CPU_TSC_ADJUST,
        CPU_SMEP,         CPU_ERMS,
        CPU_INVPCID,      CPU_ZERO_FCS_FDS,
        CPU_ADX,          CPU_SMAP,
        CPU_CLFLUSHOPT,   CPU_CLWB,
        CPU_UMIP,         CPU_RDPID,
        CPU_FSRM,         CPU_ARCH_CAPABILITIES,
        CPU_LAHF_LM,      CPU_PREFETCHW,
        CPU_SYSCALL,      CPU_NX,
        CPU_PDPE1GB,      CPU_RDTSCP,
        CPU_LM,           CPU_INVARIANT_TSC,
        CPU_AMD_SSB_NO,   CPU_BTC_NO,
        CPU_AUTOIBRS,     CPU_SRSO_NO,
        CPU_TSA_SQ_NO,    CPU_TSA_L1_NO,
    };
    /* Handlers that use the host's instruction. */
    static const CpuFeature host[] = {CPU_POPCNT, CPU_RDRAND, CPU_BMI1,
                                      CPU_BMI2,   CPU_RDSEED, CPU_ABM};
    bool available[CPU_FEATURE_COUNT];
    memset(ret_features, 0, sizeof(bool) * CPU_FEATURE_COUNT);
    cpu_host_features(available);
    for (unsigned i = 0; i < G_N_ELEMENTS(own); i++)
        ret_features[own[i]] = true;
    for (unsigned i = 0; i < G_N_ELEMENTS(host); i++)
        ret_features[host[i]] = available[host[i]];
    simd_features(ret_features);
}

static bool interp_vm_init(Vm *vm, GError **error)
{
    vm->engine_data = soft_vm_new(vm);
    return true;
}

static void interp_vm_clear(Vm *vm)
{
    g_clear_pointer((SoftVm **)&vm->engine_data, soft_vm_free);
}

static bool interp_vcpu_init(Vcpu *vcpu, GError **error)
{
    soft_cpu_new(vcpu, vcpu->vm->engine_data);
    return true;
}

static void interp_vcpu_clear(Vcpu *vcpu)
{
    soft_cpu_free(vcpu->engine_data);
}

static bool drive_ferr(SoftCpu *cpu, bool ferr)
{
    Vm *vm = cpu->vcpu->vm;
    vcpu_leave(cpu->vcpu);
    bool wait = vm->fpu_error(vm->obj, ferr);
    vcpu_enter(cpu->vcpu);
    return wait;
}

void interp_enter_run(SoftCpu *cpu)
{
    cpu->x87_error = cpu->vcpu->vm->fpu_error ? drive_ferr : NULL;
}

VcpuExit interp_leave_run(SoftCpu *cpu, VcpuExit exit)
{
    Vcpu *vcpu = cpu->vcpu;
    if (cpu->s.nmi_pending) { /* vcpu.c decides by the request whether to wake a halted vCPU */
        atomic_fetch_add(&vcpu->nmis, cpu->s.nmi_pending);
        cpu->s.nmi_pending = 0;
        atomic_fetch_or(&vcpu->requests, VCPU_REQUEST_NMI);
    }
    vcpu->interrupts_enabled = cpu->s.rflags & FLAG_IF && !cpu->s.interrupt_shadow;
    vcpu->nmi_blocked = cpu->s.nmi_blocked;
    return exit;
}

static VcpuExit interp_run(Vcpu *vcpu)
{
    SoftCpu *cpu = vcpu->engine_data;
    interp_enter_run(cpu);
    return interp_leave_run(cpu, run_loop(cpu));
}

static void interp_kick(Vcpu *vcpu)
{
    SoftCpu *cpu = vcpu->engine_data;
    atomic_store(&cpu->exit_request, 1);
}

static void interp_get_state(Vcpu *vcpu, CpuState *state)
{
    soft_cpu_get_state(vcpu->engine_data, state);
}

static void interp_set_state(Vcpu *vcpu, const CpuState *state)
{
    SoftCpu *cpu = vcpu->engine_data;
    soft_cpu_set_state(cpu, state);
    cpu->s.nmi_pending = 0; /* it comes back as a request (vcpu.c) */
}

static void interp_set_a20(Vcpu *vcpu, bool on)
{
    SoftCpu *cpu = vcpu->engine_data;
    cpu->s.a20_masked = !on;
    cpu->s.rflags = flags_get(cpu);
    cpu_state_loaded(cpu);
}

/* The local APIC's timer asks from other threads; the offset changes only when the guest writes its
 * TSC. */
static uint64_t interp_tsc(Vcpu *vcpu)
{
    const SoftCpu *cpu = vcpu->engine_data;
    return vm_host_tsc(vcpu->vm) + (uint64_t)cpu->tsc_offset;
}

void interp_time_stood_still(Vm *vm, uint64_t counts)
{
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        ((SoftCpu *)vm->vcpus[i]->engine_data)->tsc_offset -= (int64_t)counts;
}

static void choose_stepping(SoftCpu *cpu)
{
    const Debug *debug = cpu->vcpu->vm->debug;
    cpu->stepping = cpu->traces & TRACE_EXEC ||
                    (debug && (debug->count || atomic_load(&cpu->vcpu->debug.run) == DEBUG_STEP));
}

static void interp_debug_changed(Vcpu *vcpu)
{
    SoftCpu *cpu = vcpu->engine_data;
    const Debug *debug = vcpu->vm->debug;
    choose_stepping(cpu);
    cpu->debug_watches = debug && debug_watches(debug);
    tlb_flush_all(cpu);
    cpu_update_mode(cpu);
}

static uint64_t interp_debug_translate(Vcpu *vcpu, uint64_t linear)
{
    return mmu_debug_translate(vcpu->engine_data, linear);
}

static void interp_trace_changed(Vcpu *vcpu)
{
    SoftCpu *cpu = vcpu->engine_data;
    cpu->traces = trace_events(vcpu->vm->trace);
    choose_stepping(cpu);
    cpu_update_mode(cpu);
    block_cache_clear(cpu->blocks); /* what runs is decoded, and told, again */
}

static void interp_counters(Vcpu *vcpu, Counters *counters)
{
    const SoftCpu *cpu = vcpu->engine_data;
    counters_set(counters, COUNTER_INTERPRETED, cpu->insn_count);
    counters_set(counters, COUNTER_BLOCKS_DECODED, cpu->stat_blocks_decoded);
    counters_set(counters, COUNTER_TLB_FILLS, cpu->stat_tlb_fills);
    counters_set(counters, COUNTER_SMC_DROPS, cpu->stat_smc_drops);
    counters_set(counters, COUNTER_FAULTS, cpu->stat_faults);
    counters_set(counters, COUNTER_IRQS, cpu->stat_interrupts);
    counters_set(counters, COUNTER_MMIO, cpu->stat_mmio);
    counters_set(counters, COUNTER_PIO, cpu->stat_pio);
}

const Engine engine_interp = {
    .name = "interp",
    .description = N_("interpreter in software: every CPU feature, no help from the host needed"),
    .probe = interp_probe,
    .features = interp_features,
    .vm_init = interp_vm_init,
    .vm_clear = interp_vm_clear,
    .vcpu_init = interp_vcpu_init,
    .vcpu_clear = interp_vcpu_clear,
    .run = interp_run,
    .kick = interp_kick,
    .get_state = interp_get_state,
    .set_state = interp_set_state,
    .set_a20 = interp_set_a20,
    .tsc = interp_tsc,
    .time_stood_still = interp_time_stood_still,
    .trace_changed = interp_trace_changed,
    .debug_changed = interp_debug_changed,
    .debug_translate = interp_debug_translate,
    .counters = interp_counters,
};
