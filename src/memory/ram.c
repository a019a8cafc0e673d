/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * RAM blocks and their page flags. Flags are changed by atomic and/or only; a CLEAN bit
 * is set by ram_take_dirty() and cleared by whoever writes the page.
 */
#include "memory/ram.h"

#include <errno.h>
#include <gio/gio.h>

#include "base/bits.h"
#include "base/reserve.h"

#define HUGE_MIN ((uint64_t)32 << 20) /* of video memory little is used */

#ifndef __has_feature
#define __has_feature(feature) 0
#endif

/* Guest memory is the one place where threads may race: CPUs and devices access it as the guest
 * pleases, as on hardware, and nothing of ours is kept there. ThreadSanitizer is told so here. */
static void expect_races(const void *host, size_t size)
{
#if __has_feature(thread_sanitizer)
    void AnnotateBenignRaceSized(const char *, int, const volatile void *, size_t, const char *);

    AnnotateBenignRaceSized(__FILE__, __LINE__, host, size, "guest memory");
#endif
}

static size_t flags_size(const Ram *ram)
{
    return ram->size >> GUEST_PAGE_SHIFT;
}

Ram *ram_new(const char *name, uint64_t size_bytes, GError **error)
{
    g_autoptr(Ram) ram = g_new0(Ram, 1);
    ram->name = g_strdup(name);
    ram->size = align_up(MAX(size_bytes, 1), GUEST_PAGE_SIZE);
    ram->host = reserve_new(ram->size, ram->size >= HUGE_MIN);
    ram->page_flags = ram->host ? reserve_new(flags_size(ram), false) : NULL;
    if (ram->page_flags) {
        expect_races(ram->host, ram->size);
        return g_steal_pointer(&ram);
    }
    g_set_error(error, G_IO_ERROR, g_io_error_from_errno(errno),
                "cannot reserve %" G_GUINT64_FORMAT
                " MiB of guest memory for %s: %s; give the VM less memory",
                ram->size >> 20, name, g_strerror(errno));
    return NULL;
}

void ram_free(Ram *ram)
{
    if (!ram)
        return;
    reserve_free(ram->host, ram->size);
    reserve_free((void *)ram->page_flags, flags_size(ram));
    g_free(ram->name);
    g_free(ram);
}

void ram_set_client(Ram *ram, const RamClientOps *client, void *obj)
{
    ram->client_obj = obj;
    ram->client = client;
}

void ram_written(Ram *ram, uint64_t offset, uint64_t size)
{
    bool code = false;

    if (!size)
        return;
    /* The write must be seen by whoever sets a flag behind our look at them. */
    atomic_thread_fence(memory_order_seq_cst);
    for (uint64_t page = offset >> GUEST_PAGE_SHIFT;
         page <= (offset + size - 1) >> GUEST_PAGE_SHIFT; page++) {
        uint8_t flags = atomic_load_explicit(&ram->page_flags[page], memory_order_relaxed);
        if (flags & RAM_CLEAN_ALL)
            atomic_fetch_and(&ram->page_flags[page], (uint8_t)~RAM_CLEAN_ALL);
        code |= flags & RAM_CODE;
    }
    if (code && ram->client)
        ram->client->code_written(ram->client_obj, ram, offset, size);
}

void ram_take_dirty(Ram *ram, RamPageFlags client_bit, uint64_t offset, uint64_t size,
                    GArray *ret_pages)
{
    bool cleaned = false;

    if (!size)
        return;
    if (ram->client && ram->client->sync_dirty)
        ram->client->sync_dirty(ram->client_obj, ram, offset, size);
    for (uint64_t page = offset >> GUEST_PAGE_SHIFT;
         page <= (offset + size - 1) >> GUEST_PAGE_SHIFT; page++) {
        if (atomic_fetch_or(&ram->page_flags[page], client_bit) & client_bit)
            continue;
        cleaned = true;
        if (ret_pages)
            g_array_append_val(ret_pages, page);
    }
    /* Writes between setting the bit and this call are not seen by engines, but precede the return.
     */
    if (cleaned && ram->client)
        ram->client->cleaned(ram->client_obj, ram, offset, size);
}
