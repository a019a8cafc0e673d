/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The table of counters.h, and the counters of a whole vCPU: its engine's and its thread's. */
#include "cpu/counters.h"

#include "cpu/engine.h"

#define COUNTER_ROW(id, name, meaning) [COUNTER_##id] = {name, meaning},
const CounterRow counter_rows[COUNTER_COUNT] = {COUNTERS(COUNTER_ROW)};

void vcpu_get_counters(Vcpu *vcpu, Counters *ret_counters)
{
    *ret_counters = (Counters){0};
    for (unsigned i = 0; i < VCPU_EXIT_COUNT; i++)
        counters_set(ret_counters, COUNTER_EXITS_KICKED + i, vcpu->exits[i]);
    counters_set(ret_counters, COUNTER_HAND_OVERS, vcpu->hand_overs);
    counters_set(ret_counters, COUNTER_HALTED_NS, vcpu->halted_ns);
    if (vcpu->vm->engine->counters)
        vcpu->vm->engine->counters(vcpu, ret_counters);
}
