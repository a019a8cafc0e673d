/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The row "mix": what small embedded programs do. Linked lists are searched, sorted and turned;
 * matrices of small integers are multiplied and masked; a state machine reads numbers from text; a
 * CRC goes over all of it and steers the next round.
 */
#include "bench.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { NODES = 200, SIDE = 24, TEXT = 1200, ROUNDS = 3000 };

typedef struct node {
    struct node *next;
    int16_t key;
    uint16_t payload;
} node;

typedef int (*node_order)(const node *a, const node *b);

static uint16_t crc_byte(uint16_t crc, uint8_t byte)
{
    for (int bit = 0; bit < 8; bit++, byte >>= 1) {
        int carry = (crc ^ byte) & 1;
        crc = (uint16_t)(crc >> 1);
        if (carry)
            crc ^= 0xa001;
    }
    return crc;
}

static uint16_t crc_word(uint16_t crc, uint32_t word)
{
    for (int i = 0; i < 4; i++, word >>= 8)
        crc = crc_byte(crc, (uint8_t)word);
    return crc;
}

static int by_key(const node *a, const node *b)
{
    return a->key - b->key;
}

static int by_payload(const node *a, const node *b)
{
    return a->payload - b->payload;
}

static node *list_sort(node *list, node_order order)
{
    node *halves[2] = {NULL, NULL}, *sorted = NULL, **tail = &sorted;
    int turn = 0;

    if (!list || !list->next)
        return list;
    while (list) {
        node *next = list->next;
        list->next = halves[turn];
        halves[turn] = list;
        turn ^= 1;
        list = next;
    }
    halves[0] = list_sort(halves[0], order);
    halves[1] = list_sort(halves[1], order);
    while (halves[0] && halves[1]) {
        int from = order(halves[0], halves[1]) > 0;
        *tail = halves[from];
        tail = &halves[from]->next;
        halves[from] = halves[from]->next;
    }
    *tail = halves[0] ? halves[0] : halves[1];
    return sorted;
}

static node *list_reverse(node *list)
{
    node *reversed = NULL;

    while (list) {
        node *next = list->next;
        list->next = reversed;
        reversed = list;
        list = next;
    }
    return reversed;
}

static const node *list_find(const node *list, int16_t key)
{
    while (list && list->key != key)
        list = list->next;
    return list;
}

static uint16_t work_on_list(node **list, uint16_t crc, unsigned round)
{
    for (int16_t key = 0; key < 24; key++) {
        const node *found = list_find(*list, (int16_t)(key * 7 + (int)(round % 5)));
        crc = crc_word(crc, found ? found->payload : 0);
        *list = list_reverse(*list);
    }
    *list = list_sort(*list, round & 1 ? by_key : by_payload);
    (*list)->payload ^= crc & 0xff;
    return crc_word(crc, (*list)->payload);
}

static uint16_t work_on_matrices(int16_t a[SIDE][SIDE], int16_t b[SIDE][SIDE], uint16_t crc)
{
    for (int i = 0; i < SIDE; i++)
        for (int j = 0; j < SIDE; j++) {
            int32_t sum = 0;
            for (int k = 0; k < SIDE; k++)
                sum += a[i][k] * b[k][j];
            if (j % 4 == 0)
                crc = crc_word(crc, (uint32_t)((sum >> 3) & 0x7fff));
            b[i][j] = (int16_t)(b[i][j] + (sum & 3) - 1);
        }
    return crc;
}

typedef enum {
    STATE_START,
    STATE_SIGN,
    STATE_DIGITS,
    STATE_FRACTION,
    STATE_EXPONENT,
    STATE_WORD,
    STATES
} state;

static state next_state(state now, char c)
{
    int digit = c >= '0' && c <= '9';

    if (c == ',')
        return STATE_START;
    switch (now) {
    case STATE_START:
        return digit ? STATE_DIGITS : c == '+' || c == '-' ? STATE_SIGN : STATE_WORD;
    case STATE_SIGN:
        return digit ? STATE_DIGITS : STATE_WORD;
    case STATE_DIGITS:
        return digit ? STATE_DIGITS : c == '.' ? STATE_FRACTION : STATE_WORD;
    case STATE_FRACTION:
        return digit ? STATE_FRACTION : c == 'e' ? STATE_EXPONENT : STATE_WORD;
    case STATE_EXPONENT:
        return digit ? STATE_EXPONENT : STATE_WORD;
    default:
        return STATE_WORD;
    }
}

static uint16_t work_on_text(char *text, uint16_t crc, unsigned round)
{
    uint32_t seen[STATES] = {0};
    state now = STATE_START;

    for (int i = 0; i < TEXT; i++) {
        now = next_state(now, text[i]);
        seen[now]++;
    }
    text[(round * 37) % TEXT] = "0123456789+-.e,x"[crc & 15];
    for (int i = 0; i < STATES; i++)
        crc = crc_word(crc, seen[i]);
    return crc;
}

uint64_t row_mix(void)
{
    static const char sample[] = "5012,1.5e3,-874,+122,35.54400,.1234500,-110.7e10,words,+0.64400";
    static node nodes[NODES];
    static int16_t a[SIDE][SIDE], b[SIDE][SIDE];
    static char text[TEXT];
    node *list = nodes;
    uint16_t crc = 0;

    for (int i = 0; i < NODES; i++)
        nodes[i] = (node){i + 1 < NODES ? &nodes[i + 1] : NULL, (int16_t)(i * 31 % 173),
                          (uint16_t)(i * 2654435761u >> 16)};
    for (int i = 0; i < SIDE * SIDE; i++)
        a[i / SIDE][i % SIDE] = (int16_t)(i % 13), b[i / SIDE][i % SIDE] = (int16_t)(i % 7);
    for (int i = 0; i < TEXT; i++)
        text[i] = sample[i % (sizeof(sample) - 1)];
    for (unsigned round = 0; round < ROUNDS; round++) {
        crc = work_on_list(&list, crc, round);
        crc = work_on_matrices(a, b, crc);
        crc = work_on_text(text, crc, round);
    }
    return crc;
}
