/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The row "script": a small register machine for a dynamic language, and a program for it. Values
 * carry their type, arithmetic tests it, tables hash their keys and grow, calls get frames: the
 * indirect branches and dependent loads that interpreters are made of.
 */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum { TYPE_NIL, TYPE_INT, TYPE_REAL, TYPE_TABLE } type;

typedef struct {
    type type;
    union {
        int64_t i;
        double r;
        struct table *t;
    };
} value;

typedef struct table {
    uint32_t used, mask;
    struct slot {
        value key, item;
    } * slots;
} table;

typedef enum {
    OP_INT,  /* a = constant b */
    OP_REAL, /* a = constant b / 8 */
    OP_MOVE, /* a = b */
    OP_ADD,  /* a = b + c, and so on */
    OP_SUB,
    OP_MUL,
    OP_MOD,
    OP_LESS, /* skips the next instruction unless a < b */
    OP_EQUAL,
    OP_JUMP,   /* by b */
    OP_LOOP,   /* a += 1; goes on at +c while a < b */
    OP_TABLE,  /* a = {} */
    OP_GET,    /* a = b[c] */
    OP_SET,    /* a[b] = c */
    OP_CALL,   /* a = function b(a + 1, …) */
    OP_RETURN, /* a */
} op;

typedef struct {
    uint8_t op;
    uint8_t a;
    int16_t b, c;
} insn;

enum { FUNCTION_FIBONACCI = 1, FUNCTION_SIEVE, FUNCTION_COUNT, FUNCTION_SERIES, STACK = 4096 };

/* fibonacci(n): r0 = n */
static const insn fibonacci[] = {
    {OP_INT, 1, 2, 0},    {OP_LESS, 0, 1, 0},
    {OP_RETURN, 0, 0, 0}, {OP_INT, 2, 1, 0},
    {OP_SUB, 4, 0, 2},    {OP_CALL, 3, FUNCTION_FIBONACCI, 0},
    {OP_SUB, 6, 0, 1},    {OP_CALL, 5, FUNCTION_FIBONACCI, 0},
    {OP_ADD, 3, 3, 5},    {OP_RETURN, 3, 0, 0},
};

/* sieve(n): counts primes below n with a table of crossed numbers */
static const insn sieve[] = {
    {OP_TABLE, 1, 0, 0},
    {OP_INT, 2, 2, 0},
    {OP_INT, 3, 0, 0},
    {OP_INT, 6, 1, 0},
    /* 4: */ {OP_GET, 4, 1, 2},
    {OP_EQUAL, 4, 6, 0},
    {OP_JUMP, 0, 7, 0},
    {OP_ADD, 3, 3, 6},
    {OP_ADD, 5, 2, 2},
    /* 9: */ {OP_LESS, 5, 0, 0},
    {OP_JUMP, 0, 1, 0},
    {OP_JUMP, 0, 2, 0},
    /* 12: */ {OP_SET, 1, 5, 6},
    {OP_JUMP, 0, 2, 0},
    /* 14: */ {OP_LOOP, 2, 0, -11},
    {OP_RETURN, 3, 0, 0},
    /* 16: */ {OP_ADD, 5, 5, 2},
    {OP_JUMP, 0, -9, 0},
};

/* count(n): a histogram of a random sequence, then its sum weighted by key */
static const insn count[] = {
    {OP_TABLE, 1, 0, 0},         {OP_INT, 2, 0, 0},    {OP_INT, 3, 12345, 0}, {OP_INT, 4, 1103, 0},
    {OP_INT, 5, 32749, 0},       {OP_INT, 6, 1, 0},    {OP_INT, 10, 0, 0},
    /* 7: */ {OP_MUL, 3, 3, 4},  {OP_ADD, 3, 3, 6},    {OP_MOD, 3, 3, 5},     {OP_GET, 7, 1, 3},
    {OP_EQUAL, 7, 10, 1},        {OP_INT, 7, 0, 0},    {OP_ADD, 7, 7, 6},     {OP_SET, 1, 3, 7},
    {OP_LOOP, 2, 0, -9},         {OP_INT, 2, 0, 0},    {OP_INT, 8, 0, 0},
    /* 18: */ {OP_GET, 7, 1, 2}, {OP_EQUAL, 7, 10, 1}, {OP_INT, 7, 0, 0},     {OP_MUL, 9, 7, 2},
    {OP_ADD, 8, 8, 9},           {OP_LOOP, 2, 5, -6},  {OP_RETURN, 8, 0, 0},
};

/* series(n): a sum of reals */
static const insn series[] = {
    {OP_INT, 1, 0, 0},          {OP_REAL, 2, 4, 0},   {OP_REAL, 3, 7, 0},  {OP_REAL, 4, 1, 0},
    /* 4: */ {OP_MUL, 4, 4, 3}, {OP_ADD, 4, 4, 2},    {OP_LOOP, 1, 0, -3}, {OP_INT, 5, 1000, 0},
    {OP_MUL, 4, 4, 5},          {OP_RETURN, 4, 0, 0},
};

static const insn *const functions[] = {[FUNCTION_FIBONACCI] = fibonacci,
                                        [FUNCTION_SIEVE] = sieve,
                                        [FUNCTION_COUNT] = count,
                                        [FUNCTION_SERIES] = series};

static void fail(const char *what)
{
    fprintf(stderr, "script: %s\n", what);
    exit(1);
}

static struct slot *table_slot(const table *t, value key)
{
    uint64_t hash = (uint64_t)key.i * 0x9e3779b97f4a7c15;

    for (uint32_t at = (uint32_t)(hash >> 40) & t->mask;; at = (at + 1) & t->mask) {
        struct slot *slot = &t->slots[at];
        if (slot->key.type == TYPE_NIL || (slot->key.type == key.type && slot->key.i == key.i))
            return slot;
    }
}

static value table_get(const table *t, value key)
{
    return t->slots ? table_slot(t, key)->item : (value){0};
}

static void table_grow(table *t)
{
    table old = *t;

    t->mask = old.slots ? old.mask * 2 + 1 : 7;
    t->slots = calloc(t->mask + 1, sizeof(*t->slots));
    for (uint32_t i = 0; old.slots && i <= old.mask; i++)
        if (old.slots[i].key.type != TYPE_NIL)
            *table_slot(t, old.slots[i].key) = old.slots[i];
    free(old.slots);
}

static void table_set(table *t, value key, value item)
{
    struct slot *slot;

    if (!t->slots || t->used * 4 >= (t->mask + 1) * 3)
        table_grow(t);
    slot = table_slot(t, key);
    t->used += slot->key.type == TYPE_NIL;
    slot->key = key;
    slot->item = item;
}

static double real(value v)
{
    if (v.type != TYPE_INT && v.type != TYPE_REAL)
        fail("arithmetic on what is no number");
    return v.type == TYPE_INT ? (double)v.i : v.r;
}

static value arithmetic(op op, value x, value y)
{
    if (x.type == TYPE_INT && y.type == TYPE_INT) {
        int64_t i = op == OP_ADD   ? x.i + y.i
                    : op == OP_SUB ? x.i - y.i
                    : op == OP_MUL ? x.i * y.i
                                   : x.i % y.i;
        return (value){.type = TYPE_INT, .i = i};
    }
    if (op == OP_MOD)
        fail("remainder of what is no integer");
    return (value){.type = TYPE_REAL,
                   .r = op == OP_ADD   ? real(x) + real(y)
                        : op == OP_SUB ? real(x) - real(y)
                                       : real(x) * real(y)};
}

static int is_less(value x, value y)
{
    return x.type == TYPE_INT && y.type == TYPE_INT ? x.i < y.i : real(x) < real(y);
}

static table *get_table(value v)
{
    if (v.type != TYPE_TABLE)
        fail("index of what is no table");
    return v.t;
}

static value call(const insn *code, value *r, value *end)
{
    if (r + 16 > end)
        fail("stack overflow");
    for (const insn *i = code;; i++) {
        switch ((op)i->op) {
        case OP_INT:
            r[i->a] = (value){.type = TYPE_INT, .i = i->b};
            break;
        case OP_REAL:
            r[i->a] = (value){.type = TYPE_REAL, .r = i->b / 8.0};
            break;
        case OP_MOVE:
            r[i->a] = r[i->b];
            break;
        case OP_ADD:
        case OP_SUB:
        case OP_MUL:
        case OP_MOD:
            r[i->a] = arithmetic((op)i->op, r[i->b], r[i->c]);
            break;
        case OP_LESS:
            i += !is_less(r[i->a], r[i->b]);
            break;
        case OP_EQUAL: /* c: the other way round, of types */
            i += i->c ? r[i->a].type != TYPE_NIL
                      : r[i->a].type != r[i->b].type || r[i->a].i != r[i->b].i;
            break;
        case OP_JUMP:
            i += i->b;
            break;
        case OP_LOOP:
            r[i->a].i++;
            i += is_less(r[i->a], r[i->b]) ? i->c : 0;
            break;
        case OP_TABLE:
            r[i->a] = (value){.type = TYPE_TABLE, .t = calloc(1, sizeof(table))};
            break;
        case OP_GET:
            r[i->a] = table_get(get_table(r[i->b]), r[i->c]);
            break;
        case OP_SET:
            table_set(get_table(r[i->a]), r[i->b], r[i->c]);
            break;
        case OP_CALL:
            r[i->a] = call(functions[i->b], r + i->a + 1, end);
            break;
        case OP_RETURN:
            return r[i->a];
        }
    }
}

static uint64_t run(unsigned function, int64_t argument)
{
    static value stack[STACK];
    value result;

    stack[0] = (value){.type = TYPE_INT, .i = argument};
    result = call(functions[function], stack, stack + STACK);
    return (uint64_t)(int64_t)real(result);
}

uint64_t row_script(void)
{
    return run(FUNCTION_FIBONACCI, 27) + run(FUNCTION_SIEVE, 300000) * 3 +
           run(FUNCTION_COUNT, 2000000) * 5 + run(FUNCTION_SERIES, 4000000) * 7;
}
