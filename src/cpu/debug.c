/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See debug.h. */
#include "cpu/debug.h"

#include "base/i18n.h"
#include "cpu/vm_internal.h"

#define PAGE_MASK_4K (~UINT64_C(0xfff))

/* ---- the points ------------------------------------------------------------------------------ */

static bool is_watch(const DebugPoint *point)
{
    return point->kind >= DEBUG_WATCH_WRITE;
}

static int find_point(const Debug *debug, const DebugPoint *point)
{
    for (unsigned i = 0; i < debug->count; i++) {
        const DebugPoint *other = &debug->points[i];
        if (other->kind == point->kind && other->address == point->address &&
            other->size == point->size)
            return (int)i;
    }
    return -1;
}

bool debug_add(Debug *debug, const DebugPoint *point)
{
    if (find_point(debug, point) >= 0)
        return true;
    if (debug->count == DEBUG_POINTS_MAX)
        return false;
    debug->points[debug->count++] = *point;
    return true;
}

bool debug_remove(Debug *debug, const DebugPoint *point)
{
    int index = find_point(debug, point);
    if (index < 0)
        return false;
    debug->points[index] = debug->points[--debug->count];
    return true;
}

bool debug_watches(const Debug *debug)
{
    for (unsigned i = 0; i < debug->count; i++)
        if (is_watch(&debug->points[i]))
            return true;
    return false;
}

/* Without overflow at the end of the address space. */
static bool overlap(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size)
{
    return a - b < b_size || b - a < a_size;
}

bool debug_watches_page(const Debug *debug, uint64_t linear)
{
    for (unsigned i = 0; i < debug->count; i++) {
        const DebugPoint *point = &debug->points[i];
        if (is_watch(point) && overlap(linear & PAGE_MASK_4K, 0x1000, point->address, point->size))
            return true;
    }
    return false;
}

/* ---- engines --------------------------------------------------------------------------------- */

void debug_note_access(Vcpu *vcpu, uint64_t linear, uint64_t size, bool write)
{
    const Debug *debug = vcpu->vm->debug;
    DebugKind unwanted = write ? DEBUG_WATCH_READ : DEBUG_WATCH_WRITE;

    for (unsigned i = 0; i < debug->count && !vcpu->debug.watched; i++) {
        const DebugPoint *point = &debug->points[i];
        if (is_watch(point) && point->kind != unwanted &&
            overlap(linear, size, point->address, point->size)) {
            vcpu->debug.noted = *point;
            vcpu->debug.watched = true;
        }
    }
}

static const DebugPoint *breakpoint_at(const Debug *debug, uint64_t linear)
{
    for (unsigned i = 0; i < debug->count; i++)
        if (!is_watch(&debug->points[i]) && debug->points[i].address == linear)
            return &debug->points[i];
    return NULL;
}

static bool stop(DebugCpu *cpu, DebugReason reason, const DebugPoint *hit)
{
    cpu->reason = reason;
    if (hit)
        cpu->hit = *hit;
    return true;
}

bool debug_must_stop(Vcpu *vcpu, uint64_t linear, bool active)
{
    DebugCpu *cpu = &vcpu->debug;
    DebugRun run = atomic_load_explicit(&cpu->run, memory_order_relaxed);
    const DebugPoint *point;

    if (cpu->watched)
        return stop(cpu, DEBUG_REASON_POINT, &cpu->noted);
    if (run == DEBUG_STEPPED)
        return stop(cpu, DEBUG_REASON_STEP, NULL);
    if (run == DEBUG_STEP || !active)
        return false;
    point = breakpoint_at(vcpu->vm->debug, linear);
    return point && stop(cpu, DEBUG_REASON_POINT, point);
}

/* ---- the VM ---------------------------------------------------------------------------------- */

static void changed_work(Vcpu *vcpu, void *data)
{
    vcpu->vm->engine->debug_changed(vcpu);
}

void vm_debug_changed(Vm *vm)
{
    g_assert(atomic_load(&vm->sync->paused));
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        vcpu_run_on(vm->vcpus[i], changed_work, NULL);
}

bool vm_set_debug(Vm *vm, Debug *debug, GError **error)
{
    g_assert(atomic_load(&vm->sync->paused));
    if (!vm->engine->debug_changed) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
                    _("engine %s cannot be debugged; use --engine soft"), vm->engine->name);
        return false;
    }
    vm->debug = debug;
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        DebugCpu *cpu = &vm->vcpus[i]->debug;
        atomic_store(&cpu->run, DEBUG_RUN); /* which a waiting vCPU looks at */
        cpu->reason = DEBUG_REASON_NONE;
        cpu->watched = false;
    }
    vm_debug_changed(vm);
    return true;
}

typedef struct Translation {
    uint64_t linear, physical;
} Translation;

static void translate_work(Vcpu *vcpu, void *data)
{
    Translation *t = data;
    t->physical = vcpu->vm->engine->debug_translate(vcpu, t->linear);
}

bool vcpu_debug_translate(Vcpu *vcpu, uint64_t linear, uint64_t *ret_physical)
{
    Translation t = {.linear = linear};
    vcpu_run_on(vcpu, translate_work, &t);
    *ret_physical = t.physical;
    return t.physical != UINT64_MAX;
}
