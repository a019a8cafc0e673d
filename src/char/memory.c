/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A character backend in memory, for tests of devices. */
#include "char/char.h"

#include <string.h>

typedef struct MemoryChar {
    CharBackend backend;
    GByteArray *output, *input;
    size_t room;
    bool refused;
} MemoryChar;

static size_t memory_write(CharBackend *backend, const uint8_t *data, size_t size)
{
    MemoryChar *memory = (MemoryChar *)backend;
    size_t taken = MIN(size, memory->room);
    g_byte_array_append(memory->output, data, taken);
    if (memory->room != SIZE_MAX)
        memory->room -= taken;
    memory->refused |= taken < size;
    return taken;
}

static void memory_accept_input(CharBackend *backend)
{
    MemoryChar *memory = (MemoryChar *)backend;
    const CharFrontend *frontend = backend->frontend;
    uint8_t chunk[64];
    while (frontend && memory->input->len) {
        size_t size = MIN(frontend->can_receive(backend->frontend_obj),
                          MIN(memory->input->len, sizeof(chunk)));
        if (size == 0)
            return;
        memcpy(chunk, memory->input->data, size);
        g_byte_array_remove_range(memory->input, 0, size);
        frontend->receive(backend->frontend_obj, chunk, size);
    }
}

static void memory_free(CharBackend *backend)
{
    MemoryChar *memory = (MemoryChar *)backend;
    g_byte_array_unref(memory->output);
    g_byte_array_unref(memory->input);
    g_free(memory);
}

static const CharBackendOps memory_ops = {
    .name = "memory",
    .write = memory_write,
    .accept_input = memory_accept_input,
    .free = memory_free,
};

CharBackend *char_memory_new(GRecMutex *lock)
{
    MemoryChar *memory = g_new0(MemoryChar, 1);
    memory->backend = (CharBackend){.ops = &memory_ops, .lock = lock};
    memory->output = g_byte_array_new();
    memory->input = g_byte_array_new();
    memory->room = SIZE_MAX;
    return &memory->backend;
}

GByteArray *char_memory_output(CharBackend *backend)
{
    return ((MemoryChar *)backend)->output;
}

void char_memory_feed(CharBackend *backend, const uint8_t *data, size_t size)
{
    g_byte_array_append(((MemoryChar *)backend)->input, data, size);
    memory_accept_input(backend);
}

void char_memory_set_room(CharBackend *backend, size_t room)
{
    MemoryChar *memory = (MemoryChar *)backend;
    memory->room = room;
    if (!memory->refused || room == 0)
        return;
    memory->refused = false;
    if (backend->frontend && backend->frontend->writable)
        backend->frontend->writable(backend->frontend_obj);
}
