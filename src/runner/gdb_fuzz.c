/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a hostile debugger sends: bytes through the packet parser into a session with a small
 * machine of the interpreter. A packet that lets the machine run is followed by a stop.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "device/fuzz.h"
#include "runner/gdb_session.h"

static void on_stop(void *obj, Vcpu *vcpu)
{
}

static Pc *new_machine(void)
{
    static const PcConfig config = {
        .memory_size = MIB(2),
        .cpu_count = 2,
        .cpu_model = "x86-64-v1",
        .engine = &engine_interp,
        .serial = {"none"},
        .parallel = {"none"},
        .debug_console = "none",
    };
    g_autoptr(GError) error = NULL;
    Pc *pc = pc_new(&config, NULL, &error);

    g_assert_no_error(error);
    return pc;
}

/* What was parsed, packed and parsed again is the same. */
static void check_packet(const GdbParser *parser)
{
    g_autoptr(GString) packet = g_string_new(NULL);
    GdbParser again = {0};
    GdbInput last = GDB_NOTHING;

    gdb_packet_append(packet, parser->data, parser->length);
    for (gsize i = 0; i < packet->len; i++)
        last = gdb_parser_feed(&again, (uint8_t)packet->str[i]);
    g_assert_cmpint(last, ==, GDB_PACKET);
    g_assert_cmpmem(again.data, again.length, parser->data, parser->length);
}

static GdbSession session; /* of one machine for all inputs */

/* The leak checker does not look through the memory that the machine's CPUs reserve. */
static void end_session(void)
{
    pc_free(session.pc);
}

static void begin_session(void)
{
    session.pc = new_machine();
    session.debug.on_stop = on_stop;
    vm_set_debug(session.pc->vm, &session.debug, NULL);
    atexit(end_session);
}

static void serve(const char *data)
{
    g_autoptr(GString) answer = g_string_new(NULL);

    gdb_serve(&session, data, answer);
    g_assert_cmpuint(answer->len, <=, GDB_PACKET_MAX);
    if (session.running)
        gdb_stop(&session, NULL, answer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GString) text = g_string_new(NULL);
    GdbParser parser = {0};

    if (!session.pc)
        begin_session();
    session.cpu = 0;
    for (size_t i = 0; i < size; i++) {
        if (gdb_parser_feed(&parser, data[i]) != GDB_PACKET)
            continue;
        check_packet(&parser);
        serve(parser.data);
    }
    /* The same bytes as packets of their own, sums right. */
    g_string_append_len(text, (const char *)data, (gssize)MIN(size, GDB_PACKET_MAX));
    for (char *word = strtok(text->str, "\n"); word; word = strtok(NULL, "\n"))
        serve(word);
    gdb_forget(&session);
    return 0;
}
