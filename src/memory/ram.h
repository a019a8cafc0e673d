/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A block of guest memory (main RAM, VRAM, a ROM), with a byte of flags for each page. What the
 * guest never touched costs the host nothing; main memory comes in huge pages, where the host has
 * them, as their misses cost more the deeper machines are nested.
 *
 * Invariant: whoever changes guest memory by another way than a CPU engine calls ram_written()
 * afterwards (space_write() does), so that translated code and dirty bitmaps follow.
 */
#pragma once

#include <glib.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define GUEST_PAGE_SHIFT 12
#define GUEST_PAGE_SIZE  (UINT64_C(1) << GUEST_PAGE_SHIFT)
#define GUEST_PAGE_MASK  (~(GUEST_PAGE_SIZE - 1))

/* Flags of a page. A software engine may write a page without a check only while none of the
 * RAM_CODE bit and the RAM_CLEAN_* bits is set. */
typedef enum RamPageFlags {
    RAM_CODE = 1 << 0,            /* an engine holds decoded instructions from this page */
    RAM_CLEAN_DISPLAY = 1 << 1,   /* display asked to know the next write */
    RAM_CLEAN_MIGRATION = 1 << 2, /* so did a snapshot or migration */
} RamPageFlags;
#define RAM_CLEAN_ALL (RAM_CLEAN_DISPLAY | RAM_CLEAN_MIGRATION)

typedef struct Ram Ram;

/* What an engine does for RAM; set once, by the engine, before vCPUs run. Any thread calls these.
 */
typedef struct RamClientOps {
    /* Pages of RAM_CODE were written by a device or debugger: drop what was decoded from them. */
    void (*code_written)(void *obj, Ram *ram, uint64_t offset, uint64_t size);
    /* CLEAN bits were set on this range: every vCPU must notice its next write (returns when they
     * will). KVM: turns on and clears the kernel's dirty log. */
    void (*cleaned)(void *obj, Ram *ram, uint64_t offset, uint64_t size);
    /* Before CLEAN bits are read: merge what the hardware logged. NULL: nothing to merge. */
    void (*sync_dirty)(void *obj, Ram *ram, uint64_t offset, uint64_t size);
} RamClientOps;

struct Ram {
    char *name;
    uint8_t *host;               /* page-aligned */
    uint64_t size;               /* bytes, whole pages */
    _Atomic uint8_t *page_flags; /* RamPageFlags, one per page */
    const RamClientOps *client;  /* NULL until an engine takes it */
    void *client_obj;
};

/* `size` is rounded up to whole pages. Fails when the host has no address space for it. */
Ram *ram_new(const char *name, uint64_t size_bytes, GError **error);
void ram_free(Ram *ram);
void ram_set_client(Ram *ram, const RamClientOps *client, void *obj);

/* Memory changed behind the engines' back: clears CLEAN bits, tells the engine about code. */
void ram_written(Ram *ram, uint64_t offset, uint64_t size);

/*
 * Appends the page numbers in [offset, offset + size) written since the last call for this client
 * bit to `ret_pages` (may be NULL) and asks to know of the next writes. The first call for a range
 * reports every page. What was written before the call is visible to the caller afterwards.
 */
void ram_take_dirty(Ram *ram, RamPageFlags client_bit, uint64_t offset, uint64_t size,
                    GArray *ret_pages /* of uint64_t */);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Ram, ram_free)
