/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See gdb_packet.h. */
#include "runner/gdb_packet.h"

#include <string.h>

#define ESCAPE '}'

static GdbInput feed_outside(GdbParser *parser, uint8_t byte)
{
    switch (byte) {
    case '$':
        parser->state = GDB_DATA;
        parser->length = parser->sum = 0;
        parser->bad = false;
        return GDB_NOTHING;
    case '+':
        return GDB_ACK;
    case '-':
        return GDB_NAK;
    case 3:
        return GDB_INTERRUPT;
    default:
        return GDB_NOTHING;
    }
}

static void add_byte(GdbParser *parser, uint8_t byte)
{
    if (parser->length < GDB_PACKET_MAX)
        parser->data[parser->length++] = (char)byte;
    else
        parser->bad = true;
}

static GdbInput feed_data(GdbParser *parser, uint8_t byte)
{
    if (byte == '#') {
        parser->bad |= parser->state == GDB_ESCAPE;
        parser->state = GDB_SUM_HIGH;
        return GDB_NOTHING;
    }
    if (byte == '$') /* the end of the last one was lost */
        return feed_outside(parser, byte);
    parser->sum += byte;
    if (parser->state == GDB_DATA && byte == ESCAPE) {
        parser->state = GDB_ESCAPE;
        return GDB_NOTHING;
    }
    add_byte(parser, parser->state == GDB_ESCAPE ? byte ^ 0x20 : byte);
    parser->state = GDB_DATA;
    return GDB_NOTHING;
}

static GdbInput feed_sum(GdbParser *parser, uint8_t byte)
{
    int digit = g_ascii_xdigit_value((char)byte);

    parser->bad |= digit < 0;
    if (parser->state == GDB_SUM_HIGH) {
        parser->sent_sum = (uint8_t)(digit << 4);
        parser->state = GDB_SUM_LOW;
        return GDB_NOTHING;
    }
    parser->sent_sum |= (uint8_t)digit;
    parser->state = GDB_OUTSIDE;
    parser->data[parser->length] = '\0';
    return parser->bad || parser->sum != parser->sent_sum ? GDB_DAMAGED : GDB_PACKET;
}

GdbInput gdb_parser_feed(GdbParser *parser, uint8_t byte)
{
    switch (parser->state) {
    case GDB_OUTSIDE:
        return feed_outside(parser, byte);
    case GDB_DATA:
    case GDB_ESCAPE:
        return feed_data(parser, byte);
    default:
        return feed_sum(parser, byte);
    }
}

void gdb_packet_append(GString *out, const char *data, size_t size)
{
    uint8_t sum = 0;
    gsize start;

    g_string_append_c(out, '$');
    start = out->len;
    for (size_t i = 0; i < size; i++) {
        bool special = data[i] && strchr("$#}*", data[i]);
        if (special)
            g_string_append_c(out, ESCAPE);
        g_string_append_c(out, special ? (char)(data[i] ^ 0x20) : data[i]);
    }
    for (gsize i = start; i < out->len; i++)
        sum += (uint8_t)out->str[i];
    g_string_append_printf(out, "#%02x", sum);
}

void gdb_append_hex(GString *out, const void *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        g_string_append_printf(out, "%02x", ((const uint8_t *)bytes)[i]);
}

bool gdb_parse_hex(const char *text, void *ret_bytes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int high = g_ascii_xdigit_value(text[2 * i]);
        int low = high < 0 ? -1 : g_ascii_xdigit_value(text[2 * i + 1]);
        if (low < 0)
            return false;
        ((uint8_t *)ret_bytes)[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

bool gdb_parse_number(const char **text, uint64_t *ret)
{
    unsigned digits = 0;

    for (*ret = 0; g_ascii_isxdigit(**text); ++*text) {
        *ret = *ret << 4 | (unsigned)g_ascii_xdigit_value(**text);
        if (++digits > 16)
            return false;
    }
    return digits > 0;
}

bool gdb_parse_number_before(const char **text, char separator, uint64_t *ret)
{
    return gdb_parse_number(text, ret) && *(*text)++ == separator;
}
