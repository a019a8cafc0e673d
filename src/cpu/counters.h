/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What engines count, one table: a name and a meaning for each, and a set of values that says which
 * of them are kept at all.
 *
 * Counters belong to a vCPU's thread and are read by others without a lock: of a running vCPU they
 * are a little old, never torn.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define COUNTERS(X)                                                                               \
    X(INTERPRETED, "interpreted", "instructions that the interpreter ran")                        \
    X(BLOCKS_DECODED, "blocks_decoded", "blocks of instructions decoded")                         \
    X(BLOCKS_TRANSLATED, "blocks_translated", "blocks translated to host code")                   \
    X(GUEST_BYTES, "translated_guest_bytes", "guest code in them")                                \
    X(HOST_BYTES, "translated_host_bytes", "host code made of it")                                \
    X(EXITS_DIRECT, "direct_exits", "ways out of translations to a known address")                \
    X(EXITS_LINKED, "linked_exits", "times one of them was made to go straight on")               \
    X(ENTERED, "entered", "times translated code was entered")                                    \
    X(HANDLER_CALLS, "handler_calls", "instructions that translated code had the interpreter do") \
    X(CODE_FLUSHES, "code_flushes", "times all translations were thrown away")                    \
    X(TLB_FILLS, "tlb_fills", "page walks that ended in the TLB")                                 \
    X(SMC_DROPS, "smc_drops", "blocks dropped because their code was written")                    \
    X(FAULTS, "faults", "exceptions raised by instructions")                                      \
    X(IRQS, "irqs", "interrupts taken")                                                           \
    X(MMIO, "mmio", "accesses to devices in memory")                                              \
    X(PIO, "pio", "accesses to ports")                                                            \
    X(KVM_EXITS, "kvm_exits", "returns of KVM_RUN")                                               \
    X(KVM_EOIS, "kvm_eois", "ends of level-triggered interrupts told by KVM")                     \
    X(KVM_EXTINTS, "kvm_extints", "interrupts of the PIC given to KVM")                           \
    X(KVM_HAND_OVERS, "kvm_hand_overs", "times the interpreter went on where KVM could not")      \
    X(KVM_KICKS, "kvm_kicks", "times KVM_RUN was interrupted")                                    \
    X(EXITS_KICKED, "exits_kicked", "times the engine was left for a request")                    \
    X(EXITS_HALTED, "exits_halted", "times it was left by HLT")                                   \
    X(EXITS_SHUTDOWN, "exits_shutdown", "triple faults")                                          \
    X(EXITS_DEBUG, "exits_debug", "times it stopped for a debugger")                              \
    X(EXITS_ERROR, "exits_error", "times it could not go on")                                     \
    X(HAND_OVERS, "hand_overs", "times another engine went on with this vCPU")                    \
    X(HALTED_NS, "halted_ns", "nanoseconds asleep in HLT")

#define COUNTER_ENUM(id, name, meaning) COUNTER_##id,
typedef enum Counter { COUNTERS(COUNTER_ENUM) COUNTER_COUNT } Counter;
#undef COUNTER_ENUM

typedef struct CounterRow {
    const char *name, *meaning;
} CounterRow;
extern const CounterRow counter_rows[COUNTER_COUNT];

typedef struct Counters {
    uint64_t value[COUNTER_COUNT];
    bool kept[COUNTER_COUNT]; /* else the engine does not count this */
} Counters;

static inline void counters_set(Counters *counters, Counter counter, uint64_t value)
{
    counters->value[counter] = value;
    counters->kept[counter] = true;
}
