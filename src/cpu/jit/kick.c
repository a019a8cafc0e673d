/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Stopping translated code. It never asks whether it should stop: a loop of four instructions would
 * spend a third of its time on that. Whoever wants the vCPU sets exit_request, which handlers and
 * lookups of indirect branches see; where that takes too long, a signal comes to the thread, whose
 * handler unlinks the translation that runs and takes the top off the stack of returns. All ways
 * out of a translation but these look by themselves, so it leaves at its end.
 *
 * A signal that finds the thread in shared code or in C does not know the translation, and comes
 * again after a while, until nobody wants anything any more.
 */
#include "cpu/jit/jit.h"

#include <errno.h>
#include <immintrin.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define LOOKS    32 /* at exit_request, before the signal is sent: a few µs at most */
#define AGAIN_NS 20000

static _Thread_local SoftCpu *running;

static bool is_asked(const SoftCpu *cpu)
{
    return atomic_load_explicit(&cpu->exit_request, memory_order_relaxed);
}

static void come_again(JitCpu *jit)
{
    struct itimerspec after = {.it_value.tv_nsec = AGAIN_NS};
    timer_settime(jit->again, 0, &after, NULL);
}

/* Chance finds the loops that take time. */
static void note_loop(JitCpu *jit, JitBlock *translation)
{
    if (!translation->loops || jit->retire)
        return;
    translation->block->hot = true;
    jit->retire = translation;
}

static void on_kick(int signal, siginfo_t *info, void *context)
{
    SoftCpu *cpu = running;
    int error = errno;
    if (!cpu || !is_asked(cpu))
        return;
    const greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    JitCpu *jit = cpu->jit;
    JitBlock *translation = jit_block_at(jit, (const uint8_t *)registers[REG_RIP]);
    if (translation) {
        jit_unlink(jit, translation);
        note_loop(jit, translation);
        *(uint64_t *)registers[REG_RSP] = (uintptr_t)jit->thunks.return_to;
    } else {
        come_again(jit);
    }
    errno = error;
}

bool jit_kick_begin(SoftCpu *cpu)
{
    JitCpu *jit = cpu->jit;
    int thread = gettid();
    running = cpu;
    if (jit->thread == thread)
        return true;
    struct sigaction action = {.sa_sigaction = on_kick, .sa_flags = SA_SIGINFO | SA_RESTART};
    struct sigevent event = {
        .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = JIT_KICK_SIGNAL, ._sigev_un._tid = thread};
    jit_kick_clear(jit);
    if (sigaction(JIT_KICK_SIGNAL, &action, NULL) < 0 ||
        timer_create(CLOCK_MONOTONIC, &event, &jit->again) < 0)
        return false;
    atomic_store(&jit->thread, thread);
    return true;
}

void jit_kick_end(void)
{
    running = NULL;
}

void jit_kick_clear(JitCpu *jit)
{
    if (atomic_exchange(&jit->thread, 0))
        timer_delete(jit->again);
}

void jit_kick(Vcpu *vcpu)
{
    SoftCpu *cpu = vcpu->engine_data;
    atomic_store(&cpu->exit_request, 1);
    int thread = atomic_load(&cpu->jit->thread);
    if (vcpu_current() == vcpu || !thread)
        return; /* handlers look when they are done */
    for (unsigned i = 0; i < LOOKS && is_asked(cpu); i++)
        _mm_pause();
    if (is_asked(cpu))
        syscall(SYS_tgkill, getpid(), thread, JIT_KICK_SIGNAL);
}
