/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * KVM's memory slots follow the flat map of the memory space; its dirty log becomes CLEAN bits.
 *
 * A Ram's log is turned on by the first wish to know of writes and stays on. Reading the log
 * write-protects its pages again, so after sync_dirty() every write is in the log or found its
 * page's CLEAN bit clear.
 */
#include <errno.h>

#include "base/bits.h"
#include "cpu/kvm/kvm_internal.h"

static void set_slot(KvmVm *kvm, unsigned index)
{
    const KvmSlot *slot = &g_array_index(kvm->slots, KvmSlot, index);
    struct kvm_userspace_memory_region region = {
        .slot = index,
        .flags = slot->flags,
        .guest_phys_addr = slot->start,
        .memory_size = slot->size,
        .userspace_addr = slot->size ? (uintptr_t)slot->ram->host + slot->ram_offset : 0,
    };
    if (ioctl(kvm->vm_fd, KVM_SET_USER_MEMORY_REGION, &region) < 0)
        atomic_store(&kvm->slot_errno, errno);
}

/* ---- dirty log ------------------------------------------------------------------------------- */

static void mark_written(const KvmSlot *slot, const uint64_t *bitmap)
{
    uint64_t first = slot->ram_offset >> GUEST_PAGE_SHIFT;
    for (uint64_t word = 0; word < align_up(slot->size >> GUEST_PAGE_SHIFT, 64) / 64; word++)
        for (uint64_t bits = bitmap[word]; bits; bits &= bits - 1)
            atomic_fetch_and(&slot->ram->page_flags[first + word * 64 + __builtin_ctzll(bits)],
                             (uint8_t)~RAM_CLEAN_ALL);
}

static void sync_slot(KvmVm *kvm, unsigned index)
{
    const KvmSlot *slot = &g_array_index(kvm->slots, KvmSlot, index);
    g_autofree uint64_t *bitmap =
        g_new0(uint64_t, align_up(slot->size >> GUEST_PAGE_SHIFT, 64) / 64);
    struct kvm_dirty_log log = {.slot = index, .dirty_bitmap = bitmap};
    if (slot->flags & KVM_MEM_LOG_DIRTY_PAGES && ioctl(kvm->vm_fd, KVM_GET_DIRTY_LOG, &log) == 0)
        mark_written(slot, bitmap);
}

static bool slot_overlaps(const KvmSlot *slot, const Ram *ram, uint64_t offset, uint64_t size)
{
    return slot->size && slot->ram == ram && slot->ram_offset < offset + size &&
           offset < slot->ram_offset + slot->size;
}

static void sync_dirty(void *obj, Ram *ram, uint64_t offset, uint64_t size)
{
    KvmVm *kvm = obj;
    g_mutex_lock(&kvm->slots_lock);
    for (unsigned i = 0; i < kvm->slots->len; i++)
        if (slot_overlaps(&g_array_index(kvm->slots, KvmSlot, i), ram, offset, size))
            sync_slot(kvm, i);
    g_mutex_unlock(&kvm->slots_lock);
}

static void cleaned(void *obj, Ram *ram, uint64_t offset, uint64_t size)
{
    KvmVm *kvm = obj;
    g_mutex_lock(&kvm->slots_lock);
    if (!g_hash_table_lookup(kvm->rams, ram)) {
        g_hash_table_insert(kvm->rams, ram, GINT_TO_POINTER(true));
        for (unsigned i = 0; i < kvm->slots->len; i++) {
            KvmSlot *slot = &g_array_index(kvm->slots, KvmSlot, i);
            if (slot->size && slot->ram == ram && !(slot->flags & KVM_MEM_READONLY)) {
                slot->flags |= KVM_MEM_LOG_DIRTY_PAGES;
                set_slot(kvm, i);
            }
        }
    }
    g_mutex_unlock(&kvm->slots_lock);
    kvm_emulator_cleaned(kvm->emulator);
}

static const RamClientOps ram_client = {.cleaned = cleaned, .sync_dirty = sync_dirty};

/* ---- slots ----------------------------------------------------------------------------------- */

static bool slot_equal(const KvmSlot *a, const KvmSlot *b)
{
    return a->start == b->start && a->size == b->size && a->ram == b->ram &&
           a->ram_offset == b->ram_offset && a->flags == b->flags;
}

static bool has_clean_pages(const Ram *ram)
{
    for (uint64_t page = 0; page < ram->size >> GUEST_PAGE_SHIFT; page++)
        if (atomic_load_explicit(&ram->page_flags[page], memory_order_relaxed) & RAM_CLEAN_ALL)
            return true;
    return false;
}

/* Another engine may have been asked for writes before. */
static void adopt_ram(KvmVm *kvm, Ram *ram)
{
    if (g_hash_table_contains(kvm->rams, ram))
        return;
    g_hash_table_insert(kvm->rams, ram, GINT_TO_POINTER(has_clean_pages(ram)));
    ram_set_client(ram, &ram_client, kvm);
}

/* The slot for a range; false when it is not host memory or holds no whole page. */
static bool slot_of_range(KvmVm *kvm, const SpaceRange *range, KvmSlot *ret_slot)
{
    const Region *region = range->region;
    if (!region || region->kind == REGION_IO)
        return false;
    uint64_t start = align_up(range->start, GUEST_PAGE_SIZE);
    uint64_t end = align_down(range->start + range->size, GUEST_PAGE_SIZE);
    uint64_t ram_offset = region->ram_offset + range->offset + (start - range->start);
    if (start >= end || ram_offset % GUEST_PAGE_SIZE)
        return false;
    bool read_only = region->kind == REGION_ROM || range->read_only;
    adopt_ram(kvm, region->ram);
    bool logged = g_hash_table_lookup(kvm->rams, region->ram);
    *ret_slot = (KvmSlot){start, end - start, region->ram, ram_offset,
                          read_only ? KVM_MEM_READONLY
                          : logged  ? KVM_MEM_LOG_DIRTY_PAGES
                                    : 0};
    return true;
}

static GArray *wanted_slots(KvmVm *kvm, const SpaceRange *ranges, size_t count)
{
    GArray *wanted = g_array_new(FALSE, FALSE, sizeof(KvmSlot));
    for (size_t i = 0; i < count; i++) {
        KvmSlot slot;
        if (slot_of_range(kvm, &ranges[i], &slot))
            g_array_append_val(wanted, slot);
    }
    return wanted;
}

static bool find_slot(const GArray *slots, const KvmSlot *wanted)
{
    for (unsigned i = 0; i < slots->len; i++)
        if (slot_equal(&g_array_index(slots, KvmSlot, i), wanted))
            return true;
    return false;
}

static void remove_stale(KvmVm *kvm, const GArray *wanted)
{
    for (unsigned i = 0; i < kvm->slots->len; i++) {
        KvmSlot *slot = &g_array_index(kvm->slots, KvmSlot, i);
        if (slot->size && !find_slot(wanted, slot)) {
            sync_slot(kvm, i);
            slot->size = 0;
            set_slot(kvm, i);
        }
    }
}

static void add_slot(KvmVm *kvm, const KvmSlot *slot)
{
    unsigned i = 0;
    while (i < kvm->slots->len && g_array_index(kvm->slots, KvmSlot, i).size)
        i++;
    if (i == kvm->slots->len)
        g_array_append_val(kvm->slots, *slot);
    else
        g_array_index(kvm->slots, KvmSlot, i) = *slot;
    set_slot(kvm, i);
}

static void update_slots(KvmVm *kvm, const SpaceRange *ranges, size_t count)
{
    g_mutex_lock(&kvm->slots_lock);
    g_autoptr(GArray) wanted = wanted_slots(kvm, ranges, count);
    remove_stale(kvm, wanted);
    for (unsigned i = 0; i < wanted->len; i++) {
        const KvmSlot *slot = &g_array_index(wanted, KvmSlot, i);
        if (!find_slot(kvm->slots, slot))
            add_slot(kvm, slot);
    }
    g_mutex_unlock(&kvm->slots_lock);
}

/* No vCPU runs between the removal of a slot and the coming of its successor: its instruction
 * fetches would fail there. */
static void space_changed(void *obj, const SpaceRange *ranges, size_t count)
{
    KvmVm *kvm = obj;
    Vcpu *self = vcpu_current();
    if (self && self->vm != kvm->vm)
        self = NULL;
    vm_exclusive_begin(kvm->vm, self);
    update_slots(kvm, ranges, count);
    vm_exclusive_end(kvm->vm, self);
}

void kvm_memory_init(KvmVm *kvm)
{
    g_mutex_init(&kvm->slots_lock);
    kvm->slots = g_array_new(FALSE, TRUE, sizeof(KvmSlot));
    kvm->rams = g_hash_table_new(NULL, NULL);
    space_add_listener(kvm->vm->memory, space_changed, kvm);
    kvm->listening = true;
}

void kvm_memory_clear(KvmVm *kvm)
{
    GHashTableIter iter;
    void *ram;
    if (!kvm->listening)
        return;
    space_remove_listener(kvm->vm->memory, space_changed, kvm);
    for (unsigned i = 0; i < kvm->slots->len; i++)
        if (g_array_index(kvm->slots, KvmSlot, i).size)
            sync_slot(kvm, i);
    g_hash_table_iter_init(&iter, kvm->rams);
    while (g_hash_table_iter_next(&iter, &ram, NULL))
        ram_set_client(ram, NULL, NULL);
    g_hash_table_unref(kvm->rams);
    g_array_unref(kvm->slots);
    g_mutex_clear(&kvm->slots_lock);
}
