/* SPDX-License-Identifier: GPL-3.0-or-later */
/* GDB's packets, byte by byte: good ones, damaged ones, what lies between them; register layout. */
#include <string.h>

#include "runner/gdb_packet.h"
#include "runner/gdb_registers.h"

#define FTAG 34 /* keeps only which registers are empty */

static GdbInput feed(GdbParser *parser, const char *bytes, size_t size)
{
    GdbInput last = GDB_NOTHING;

    for (size_t i = 0; i < size; i++) {
        g_assert_cmpint(last, ==, GDB_NOTHING);
        last = gdb_parser_feed(parser, (uint8_t)bytes[i]);
    }
    return last;
}

static void test_inputs(void)
{
    static const struct {
        const char *bytes, *data;
        GdbInput input;
    } cases[] = {
        {"+", NULL, GDB_ACK},
        {"-", NULL, GDB_NAK},
        {"\003", NULL, GDB_INTERRUPT},
        {"xyz", NULL, GDB_NOTHING},
        {"$#00", "", GDB_PACKET},
        {"$OK#9a", "OK", GDB_PACKET},
        {"junk$OK#9A", "OK", GDB_PACKET},
        {"$OK#9b", NULL, GDB_DAMAGED},
        {"$OK#zz", NULL, GDB_DAMAGED},
        {"$lost$OK#9a", "OK", GDB_PACKET},
        {"$}\003#80", "#", GDB_PACKET},
        {"$}#7d", NULL, GDB_DAMAGED},
        {"$a\003#64", "a\003", GDB_PACKET},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        GdbParser parser = {0};
        g_assert_cmpint(feed(&parser, cases[i].bytes, strlen(cases[i].bytes)), ==, cases[i].input);
        if (cases[i].data)
            g_assert_cmpstr(parser.data, ==, cases[i].data);
    }
}

/* What is made is what is read. */
static void test_round_trip(void)
{
    for (unsigned length = 0; length <= 600; length++) {
        g_autoptr(GString) data = g_string_new(NULL), packet = g_string_new(NULL);
        GdbParser parser = {0};
        for (unsigned i = 0; i < length; i++)
            g_string_append_c(data, (char)(i * 7 + length));
        gdb_packet_append(packet, data->str, data->len);
        g_assert_cmpint(feed(&parser, packet->str, packet->len), ==, GDB_PACKET);
        g_assert_cmpmem(parser.data, parser.length, data->str, data->len);
    }
}

static void test_too_long(void)
{
    g_autoptr(GString) data = g_string_new(NULL), packet = g_string_new(NULL);
    GdbParser parser = {0};

    g_string_set_size(data, GDB_PACKET_MAX + 1);
    memset(data->str, 'a', data->len);
    gdb_packet_append(packet, data->str, data->len);
    g_assert_cmpint(feed(&parser, packet->str, packet->len), ==, GDB_DAMAGED);
    g_assert_cmpint(feed(&parser, "$OK#9a", 6), ==, GDB_PACKET);
}

static void test_numbers(void)
{
    const char *text = "ffffffffffffffff,1";
    uint64_t value;

    g_assert_true(gdb_parse_number_before(&text, ',', &value));
    g_assert_cmphex(value, ==, UINT64_MAX);
    g_assert_cmpstr(text, ==, "1");
    text = "00000000000000001";
    g_assert_false(gdb_parse_number(&text, &value));
    text = "";
    g_assert_false(gdb_parse_number_before(&text, ',', &value));
}

/* Every register comes back as it was set, or refuses. */
static void test_registers(void)
{
    for (unsigned n = 0; n < gdb_registers_count(); n++) {
        CpuState state = {0};
        uint8_t bytes[GDB_REGISTER_MAX_BYTES] = {1}, now[GDB_REGISTER_MAX_BYTES];
        g_assert_cmpuint(gdb_register_size(n), >=, 4);
        g_assert_cmpuint(gdb_register_size(n), <=, GDB_REGISTER_MAX_BYTES);
        if (n == FTAG)
            continue;
        bool set = gdb_register_set(&state, n, bytes);
        gdb_register_get(&state, n, now);
        bytes[0] = set ? 1 : now[0];
        g_assert_cmpint(now[0], ==, bytes[0]);
    }
}

/* The tags of x87 registers: TOP 6, ST0 = 1.0, ST1 = 0, all others empty. */
static void test_tags(void)
{
    CpuState state = {.fpu = {.fsw = 6 << 11, .ftw_abridged = 0xc0}};
    uint8_t tags[4];

    state.fpu.st[0][7] = 0x80;
    state.fpu.st[0][8] = 0xff;
    state.fpu.st[0][9] = 0x3f;
    gdb_register_get(&state, FTAG, tags);
    g_assert_cmphex(tags[1] << 8 | tags[0], ==, 0x4fff);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/gdb/inputs", test_inputs);
    g_test_add_func("/gdb/round-trip", test_round_trip);
    g_test_add_func("/gdb/too-long", test_too_long);
    g_test_add_func("/gdb/numbers", test_numbers);
    g_test_add_func("/gdb/registers", test_registers);
    g_test_add_func("/gdb/tags", test_tags);
    return g_test_run();
}
