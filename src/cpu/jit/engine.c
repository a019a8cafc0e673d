/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The engine "jit": the interpreter's loop with translations in it.
 *
 *   look → jump table → else: find the block; interpret it while it is cold, translate it when it
 * is warm → run → again
 *
 * Code in modes that are not translated (single step, alignment checks, flat data beside a code
 * segment with a limit) is interpreted as by engine_interp; and so is floating point while its
 * exceptions are unmasked.
 */
#include "base/i18n.h"
#include "cpu/jit/jit.h"
#include "cpu/jit/opcodes.h"
#include "cpu/soft/xsave.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Times a block is interpreted before it is translated: with 12 a boot takes 5 MiB more of code and
 * is no faster. */
#define WARM       32
#define INSNS_MOST ((size_t)32 << 10) /* of blocks that are not translated yet: 2 MiB */
#define MXCSR_HOST 0x1f80u

/* ---- running
 * ------------------------------------------------------------------------------------- */

static bool is_translatable(const SoftCpu *cpu)
{
    uint32_t mode = cpu->mode;
    if (mode & (MODE_SINGLE_STEP | MODE_AC))
        return false;
    return mode & MODE_CODE64 || jit_is_segmented(mode) || cpu->s.seg[SEG_CS].limit == UINT32_MAX;
}

static void enter(SoftCpu *cpu, uint8_t *host)
{
    JitCpu *jit = cpu->jit;
    jit->stat_enters++;
    jit->ret = 0;
    jit_set_stamps(cpu);
    jit->thunks.enter(cpu, host);
}

/* The translation of the block, made if it is time. NULL: interpret. `*link` is cleared when the
 * cache was flushed. A library lies elsewhere in each process, and most of what a process runs of
 * it runs a few times: blocks are to be warm at each RIP anew. */
static JitBlock *translation_of(SoftCpu *cpu, Block *block, JitLink **link)
{
    bool plain = *link && (*link)->plain;
    if (block == cpu->blocks->scratch)
        return NULL;
    JitBlock *translation = jit_find(cpu->jit, block, cpu->s.rip, plain);
    if (translation)
        return translation;
    if (block->heat < cpu->jit->warm && !plain) {
        block->heat++;
        return NULL;
    }
    if (!block_insns(cpu, block))
        return NULL;
    translation = jit_translate(cpu, block, cpu->s.rip, plain);
    if (!translation) {
        jit_cache_flush(cpu);
        *link = NULL;
        translation = jit_translate(cpu, block, cpu->s.rip, plain);
    }
    if (!plain)
        block->heat = 0;
    return translation;
}

static void interpret(SoftCpu *cpu, Block *block)
{
    if (block_insns(cpu, block)) /* else we come again when it was dropped */
        interp_run_block(cpu, block);
}

/* Not, when another mode or code segment has the same RIP by now. */
static bool leads_to(const JitCpu *jit, const JitLink *link, const JitBlock *to)
{
    const JitBlock *from = jit_at(jit, link->from);
    return from->code_key == to->code_key && from->block->mode == to->block->mode;
}

static void run_translatable(SoftCpu *cpu)
{
    JitCpu *jit = cpu->jit;
    JitLink *link = jit->link;
    jit->link = NULL;
    cpu->blocks->stack_floor = UINTPTR_MAX; /* handlers come back after each block */
    cpu->s.rip &= cpu->rip_mask;
    if (jit->flush) {
        jit_cache_flush(cpu);
        link = NULL;
    }
    if (jit->retire)
        jit_retire(jit);
    if (jit->interpret) {
        jit->interpret = false;
        interpret(cpu, block_find(cpu, false));
        return;
    }
    cpu->translation_stop = false;
    jit_set_code(cpu);
    uint64_t key = cpu->s.rip | jit->code_key;
    JitJump *jump = jit_jump(jit, key);
    uint8_t *host = link ? NULL : jit_jump_host(cpu, jump, key);
    if (host) {
        enter(cpu, host);
        return;
    }
    Block *block = block_find(cpu, false);
    if (jit->flush) {
        jit_cache_flush(cpu);
        link = NULL;
    }
    JitBlock *translation = translation_of(cpu, block, &link);
    if (!translation) {
        interpret(cpu, block);
        return;
    }
    if (!translation->plain)
        *jump = (JitJump){
            .rip = key, .host = jit->run + translation->jump, .stamp = jit_stamp_word(cpu, key)};
    if (link && link->target == cpu->s.rip && leads_to(jit, link, translation))
        jit_link(cpu, link, translation);
    cpu->translation_stop = false;
    enter(cpu, jit->run + translation->entry[0]);
}

static VcpuExit run_loop(SoftCpu *cpu)
{
    VcpuExit exit;
    atomic_store(&cpu->exit_request, 1); /* look first: nobody kicks a vCPU that does not run */
    sigsetjmp(cpu->jump, 0);
    cpu->jit->link = NULL;
    if (cpu->event.vector >= 0 && !exception_deliver(cpu))
        return VCPU_EXIT_SHUTDOWN;
    for (;;) {
        if (interp_must_look(cpu) && !interp_look_around(cpu, &exit))
            return exit;
        if (is_translatable(cpu)) {
            run_translatable(cpu);
        } else {
            interp_set_stack_floor(cpu);
            cpu->jit->link = NULL;
            interpret(cpu, block_find(cpu, false));
        }
    }
}

/* ---- the engine
 * ---------------------------------------------------------------------------------- */

static bool jit_probe(GError **error)
{
    g_autofree JitCpu *jit = g_new0(JitCpu, 1); /* large: the stack would keep it */
    if (!jit_cache_init(jit)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
                    _("this host gives no memory for translated code; use engine interp"));
        return false;
    }
    jit_cache_clear(jit);
    return true;
}

static void jit_features(bool *ret_features)
{
    engine_interp.features(ret_features);
}

static bool jit_vm_init(Vm *vm, GError **error)
{
    return engine_interp.vm_init(vm, error);
}

static void jit_vm_clear(Vm *vm)
{
    engine_interp.vm_clear(vm);
}

static bool jit_vcpu_init(Vcpu *vcpu, GError **error)
{
    SoftCpu *cpu = soft_cpu_new_with(vcpu, vcpu->vm->engine_data, sizeof(JitCpu), INSNS_MOST);
    JitCpu *jit = (JitCpu *)((uint8_t *)cpu + JIT_OFFSET);
    if (!jit_cache_init(jit)) {
        soft_cpu_free(cpu);
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_FAILED,
                    _("no memory for translated code of vCPU %u"), vcpu->index);
        return false;
    }
    jit->warm = WARM;
    jit->c_mxcsr = MXCSR_INIT;
    jit_thunks_make(jit);
    cpu->jit = jit;
    return true;
}

static void jit_vcpu_clear(Vcpu *vcpu)
{
    SoftCpu *cpu = vcpu->engine_data;
    if (cpu) {
        jit_kick_clear(cpu->jit);
        jit_cache_clear(cpu->jit);
    }
    soft_cpu_free(cpu);
}

static VcpuExit jit_run(Vcpu *vcpu)
{
    SoftCpu *cpu = vcpu->engine_data;
    if (!jit_kick_begin(cpu)) {
        g_free(vcpu->error);
        vcpu->error = g_strdup_printf(_("no timer for vCPU %u: %s; see ulimit -i"), vcpu->index,
                                      g_strerror(errno));
        return VCPU_EXIT_ERROR;
    }
    interp_enter_run(cpu);
    VcpuExit exit = interp_leave_run(cpu, run_loop(cpu));
    jit_kick_end();
    return exit;
}

static void jit_get_state(Vcpu *vcpu, CpuState *state)
{
    engine_interp.get_state(vcpu, state);
}

static void jit_set_state(Vcpu *vcpu, const CpuState *state)
{
    engine_interp.set_state(vcpu, state);
}

static void jit_set_a20(Vcpu *vcpu, bool on)
{
    engine_interp.set_a20(vcpu, on);
}

static uint64_t jit_tsc(Vcpu *vcpu)
{
    return engine_interp.tsc(vcpu);
}

static void jit_trace_changed(Vcpu *vcpu)
{
    engine_interp.trace_changed(vcpu);
}

static void jit_debug_changed(Vcpu *vcpu)
{
    engine_interp.debug_changed(vcpu);
}

static uint64_t jit_debug_translate(Vcpu *vcpu, uint64_t linear)
{
    return engine_interp.debug_translate(vcpu, linear);
}

static void jit_counters(Vcpu *vcpu, Counters *counters)
{
    const SoftCpu *cpu = vcpu->engine_data;
    const JitCpu *jit = cpu->jit;
    engine_interp.counters(vcpu, counters);
    counters_set(counters, COUNTER_BLOCKS_TRANSLATED, jit->stat_translated);
    counters_set(counters, COUNTER_GUEST_BYTES, jit->stat_guest_bytes);
    counters_set(counters, COUNTER_HOST_BYTES, jit->stat_bytes);
    counters_set(counters, COUNTER_EXITS_DIRECT, jit->stat_exits);
    counters_set(counters, COUNTER_EXITS_LINKED, jit->stat_links);
    counters_set(counters, COUNTER_ENTERED, jit->stat_enters);
    counters_set(counters, COUNTER_HANDLER_CALLS, jit->stat_slow);
    counters_set(counters, COUNTER_CODE_FLUSHES, jit->stat_flushes);
}

const Engine engine_jit = {
    .name = "jit",
    .description = N_("translator in software: fast, needs memory that it may execute"),
    .probe = jit_probe,
    .features = jit_features,
    .vm_init = jit_vm_init,
    .vm_clear = jit_vm_clear,
    .vcpu_init = jit_vcpu_init,
    .vcpu_clear = jit_vcpu_clear,
    .run = jit_run,
    .kick = jit_kick,
    .get_state = jit_get_state,
    .set_state = jit_set_state,
    .set_a20 = jit_set_a20,
    .tsc = jit_tsc,
    .time_stood_still = interp_time_stood_still,
    .trace_changed = jit_trace_changed,
    .debug_changed = jit_debug_changed,
    .debug_translate = jit_debug_translate,
    .counters = jit_counters,
};
