/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Self-modifying code, and what else the vCPUs of one VM must agree on about memory.
 *
 * Whoever writes to a page with code ends in code_written(): vCPUs through mmu.c's slow path,
 * devices through ram_written(). Most such writes hit data beside the code and end at the test of
 * the lines. The others stop all vCPUs and drop the blocks hit. A page that is hit again and again
 * is run for a while without keeping its blocks.
 */
#include "cpu/soft/soft_vm.h"

#include "base/reserve.h"

#define HOT_DROPS 256
#define HOT_INSNS 65536

void soft_vm_exclusive_begin(Vm *vm)
{
    Vcpu *self = vcpu_current();
    if (vm->sync && (vm->vcpu_count > 1 || !self || self->vm != vm))
        vm_exclusive_begin(vm, self && self->vm == vm ? self : NULL);
}

void soft_vm_exclusive_end(Vm *vm)
{
    Vcpu *self = vcpu_current();
    if (vm->sync && (vm->vcpu_count > 1 || !self || self->vm != vm))
        vm_exclusive_end(vm, self && self->vm == vm ? self : NULL);
}

static SoftCpu *soft_cpu(Vm *vm, unsigned index)
{
    return vm->vcpus[index] ? vm->vcpus[index]->engine_data : NULL;
}

/* ---- marking --------------------------------------------------------------------------------- */

static void flush_all_writes(Vm *vm)
{
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        SoftCpu *cpu = soft_cpu(vm, i);
        if (cpu)
            tlb_flush_writes(cpu);
    }
}

bool soft_vm_mark_code(SoftCpu *cpu, Ram *ram, uint64_t offset, unsigned size)
{
    _Atomic uint8_t *flags = &ram->page_flags[offset >> GUEST_PAGE_SHIFT];
    atomic_fetch_or(&code_page(ram, offset)->lines, code_lines(offset, size));
    atomic_store_explicit(&code_page(ram, offset)->fresh, true, memory_order_relaxed);
    if (atomic_load(flags) & RAM_CODE)
        return false;
    Vm *vm = cpu->vm->vm;
    soft_vm_exclusive_begin(vm);
    /* Another vCPU's drop may have cleared the lines meanwhile. */
    atomic_fetch_or(&code_page(ram, offset)->lines, code_lines(offset, size));
    atomic_fetch_or(flags, RAM_CODE);
    flush_all_writes(vm);
    soft_vm_exclusive_end(vm);
    return true;
}

/* ---- dropping -------------------------------------------------------------------------------- */

/* One page. In an exclusive section. */
static void drop(Vm *vm, Ram *ram, uint64_t offset, uint64_t size)
{
    CodePage *page = code_page(ram, offset);
    bool hot = atomic_load(&page->drops) >= HOT_DROPS;
    uint64_t start = hot ? offset & GUEST_PAGE_MASK : offset, remaining = 0;
    unsigned dropped = 0;
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        SoftCpu *cpu = soft_cpu(vm, i);
        unsigned n = cpu ? block_cache_drop(cpu->blocks, ram, start, hot ? GUEST_PAGE_SIZE : size,
                                            &remaining)
                         : 0;
        if (cpu)
            cpu->stat_smc_drops += n;
        dropped += n;
    }
    atomic_store(&page->lines, remaining);
    if (!remaining)
        atomic_fetch_and(&ram->page_flags[offset >> GUEST_PAGE_SHIFT], (uint8_t)~RAM_CODE);
    /* A page that is filled anew, line by line, as a kernel reuses memory, counts once. */
    if (dropped && atomic_exchange(&page->fresh, false))
        atomic_fetch_add(&page->drops, 1);
    if (hot) {
        atomic_store(&page->drops, 0);
        atomic_store(&page->hot, HOT_INSNS);
    }
}

static void code_written(Vm *vm, Ram *ram, uint64_t offset, uint64_t size)
{
    /* A vCPU that decodes marks, then compares; we wrote, then look: one of us sees the other. */
    atomic_thread_fence(memory_order_seq_cst);
    while (size) {
        uint64_t part = MIN(size, GUEST_PAGE_SIZE - (offset & (GUEST_PAGE_SIZE - 1)));
        if (atomic_load_explicit(&code_page(ram, offset)->lines, memory_order_relaxed) &
            code_lines(offset, part)) {
            soft_vm_exclusive_begin(vm);
            drop(vm, ram, offset, part);
            soft_vm_exclusive_end(vm);
        }
        offset += part;
        size -= part;
    }
}

void interp_code_written(SoftCpu *cpu, Ram *ram, uint64_t offset, unsigned size)
{
    code_written(cpu->vm->vm, ram, offset, size);
}

/* ---- RAM's client ---------------------------------------------------------------------------- */

static void client_code_written(void *obj, Ram *ram, uint64_t offset, uint64_t size)
{
    RamCode *code = obj;
    code_written(code->vm->vm, ram, offset, size);
}

static void client_cleaned(void *obj, Ram *ram, uint64_t offset, uint64_t size)
{
    RamCode *code = obj;
    soft_vm_exclusive_begin(code->vm->vm);
    flush_all_writes(code->vm->vm);
    soft_vm_exclusive_end(code->vm->vm);
}

static const RamClientOps client_ops = {.code_written = client_code_written,
                                        .cleaned = client_cleaned};

static void adopt_ram(SoftVm *vm, Ram *ram)
{
    if (ram->client_obj)
        return;
    size_t bytes = (ram->size >> GUEST_PAGE_SHIFT) * sizeof(CodePage);
    RamCode *code = g_new0(RamCode, 1);
    code->ram = ram;
    code->vm = vm;
    code->pages = reserve_new(bytes, false);
    if (!code->pages)
        g_error("no address space for the code map of %s", ram->name);
    code->next = vm->rams;
    vm->rams = code;
    ram_set_client(ram, &client_ops, code);
}

static void on_map_changed(void *obj, const SpaceRange *ranges, size_t count)
{
    SoftVm *vm = obj;
    for (size_t i = 0; i < count && !vm->is_guest; i++) {
        if (ranges[i].region && ranges[i].region->ram)
            adopt_ram(vm, ranges[i].region->ram);
    }
    mmu_space_changed(vm->vm);
}

static SoftVm *new_vm(Vm *vm, bool is_guest)
{
    SoftVm *soft = g_new0(SoftVm, 1);
    soft->vm = vm;
    soft->is_guest = is_guest;
    space_add_listener(vm->memory, on_map_changed, soft);
    return soft;
}

SoftVm *soft_vm_new(Vm *vm)
{
    return new_vm(vm, false);
}

SoftVm *soft_vm_new_guest_of(Vm *vm)
{
    return new_vm(vm, true);
}

void soft_vm_free(SoftVm *vm)
{
    space_remove_listener(vm->vm->memory, on_map_changed, vm);
    while (vm->rams) {
        RamCode *code = vm->rams;
        vm->rams = code->next;
        for (uint64_t page = 0; page < code->ram->size >> GUEST_PAGE_SHIFT; page++)
            if (atomic_load_explicit(&code->ram->page_flags[page], memory_order_relaxed) & RAM_CODE)
                atomic_fetch_and(&code->ram->page_flags[page], (uint8_t)~RAM_CODE);
        reserve_free(code->pages, (code->ram->size >> GUEST_PAGE_SHIFT) * sizeof(CodePage));
        ram_set_client(code->ram, NULL, NULL);
        g_free(code);
    }
    g_free(vm);
}
