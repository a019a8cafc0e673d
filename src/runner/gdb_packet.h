/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Packets of GDB's remote serial protocol: $DATA#SUM, where SUM is the sum of DATA's bytes modulo
 * 256 in two hex digits; "}" before a byte escapes it (XOR 0x20). "+" and "-" acknowledge, 03h
 * between packets interrupts. Pure; no thread.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define GDB_PACKET_MAX 8192 /* data bytes of a packet, either way */

typedef enum GdbInput {
    GDB_NOTHING,   /* more is needed */
    GDB_PACKET,    /* parser->data is a packet's data, unescaped */
    GDB_DAMAGED,   /* a packet with a wrong sum, or too long */
    GDB_ACK,       /* + */
    GDB_NAK,       /* - */
    GDB_INTERRUPT, /* 03h */
} GdbInput;

typedef struct GdbParser {
    enum { GDB_OUTSIDE, GDB_DATA, GDB_ESCAPE, GDB_SUM_HIGH, GDB_SUM_LOW } state;
    uint8_t sum, sent_sum;
    bool bad;
    unsigned length;
    char data[GDB_PACKET_MAX + 1]; /* NUL behind the data */
} GdbParser;

GdbInput gdb_parser_feed(GdbParser *parser, uint8_t byte);
/* Appends a packet with `size` bytes of data, escaped. */
void gdb_packet_append(GString *out, const char *data, size_t size);

void gdb_append_hex(GString *out, const void *bytes, size_t size);
/* `count` bytes from 2 × count hex digits; false: there are fewer, or others. */
bool gdb_parse_hex(const char *text, void *ret_bytes, size_t count);
/* A hex number of 1 to 16 digits at *text, which moves behind it. */
bool gdb_parse_number(const char **text, uint64_t *ret);
/* Such a number and a separator behind it. */
bool gdb_parse_number_before(const char **text, char separator, uint64_t *ret);
