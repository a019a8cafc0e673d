/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A block that ends by going to its own start:
 *
 *     start: body; jcc start          start: body; jncc end; body; jncc end; …; body; jcc start
 *                                     end:
 *
 * Pointers and indices that step through memory are checked once for all rounds (JitFact): a loop
 * over an array spends most of its time on that otherwise. Most loops of a program run a few times;
 * those that a kick finds running are worth it.
 */
#include "cpu/jit/translate.h"

#define ROUNDS_MAX 8
#define ROUNDS_MIN 4 /* of what steps further, each round checks */

static uint64_t end_of(const Insn *insn)
{
    return insn->rip_offset + insn->length;
}

/* The instructions up to the branch to the start; 0: there is none, or one that C is called in. */
static unsigned round_of(const Translation *t)
{
    for (unsigned i = 0; i < t->count; i++) {
        const Insn *insn = &t->insns[i];
        if (is_barrier(&t->ops[i]))
            return 0;
        if (t->ops[i].kind == JIT_JCC && insn->imm == 0 && insn->op_size != 2)
            return i + 1;
    }
    return 0;
}

int64_t step_of_round(const Translation *t, unsigned round, const JitAddress *at)
{
    int64_t sum = 0, by;
    for (unsigned i = 0; i < round; i++) {
        unsigned written = jit_written(&t->insns[i], &t->ops[i]), reg;
        if (jit_is_step(t->block->mode, &t->insns[i], &t->ops[i], &reg, &by)) {
            sum += by * jit_steps_by(at, reg);
            written &= ~(1u << reg);
        }
        if (depends_on(at, written))
            return INT64_MAX;
    }
    return sum;
}

/* In how many rounds a check can serve, for any access; 0: it can't. */
static unsigned rounds_of(const Translation *t, unsigned round)
{
    unsigned rounds = MIN(ROUNDS_MAX, BLOCK_MAX_INSNS / round);
    bool lasts = false;
    for (unsigned i = 0; i < round; i++) {
        JitAccess accesses[INSN_MAX_ACCESSES];
        unsigned count = find_accesses(t, i, accesses);
        for (unsigned n = 0; n < count; n++) {
            uint64_t step = ABS(step_of_round(t, round, &accesses[n].at));
            if (step > SPAN_MAX / ROUNDS_MIN)
                continue;
            lasts = true;
            if (step)
                rounds = MIN(rounds, SPAN_MAX / step);
        }
    }
    return lasts ? rounds : 0;
}

void unroll(Translation *t)
{
    unsigned round = round_of(t), rounds = round ? rounds_of(t, round) : 0;
    if (t->segmented || rounds < 2)
        return;
    if (!t->block->hot && t->jit->warm) {
        t->result->loops = true;
        return;
    }
    for (unsigned i = 0; i < rounds * round; i++) {
        t->rounds[i] = t->insns[i % round];
        t->ops[i] = t->ops[i % round];
    }
    for (unsigned i = round - 1; i + 1 < rounds * round; i += round) {
        t->rounds[i].opcode ^= 1; /* the contrary */
        t->rounds[i].imm = end_of(&t->rounds[i]);
    }
    t->insns = t->rounds;
    t->count = rounds * round;
    t->round = round;
}
