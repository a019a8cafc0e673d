/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * For tests: one software CPU with 16 MiB of RAM at 0 and no thread but the
 * test's, which is the vCPU's meanwhile. Tests set cpu->s and guest
 * memory, call soft_fixture_apply(), and then what they test.
 */
#pragma once

#include "base/bits.h"
#include "cpu/soft/interp.h"
#include "cpu/soft/soft_vm.h"

#define FIXTURE_RAM_SIZE MIB(16)

typedef struct SoftFixture {
    Ram *ram;
    Region ram_region;
    AddressSpace *memory, *ports;
    CpuModel *model;
    Vm vm;
    Vcpu vcpu;
    SoftVm *soft_vm;
    SoftCpu *cpu;
    uint64_t next_table; /* page tables made by fixture_map_*() grow from here */
    /* The local APIC: what a test wants it to say, and what it was told. */
    int interrupt; /* pending vector, -1: none */
    uint64_t apic_base, apic_offset, apic_value;
    uint8_t cr8;
    bool apic_in_guest; /* it was asked, outside a safe point, for something that may take the board
                           lock */
} SoftFixture;

/* `model` as cpu_model_new() takes it; every feature is allowed. The CPU is in reset state. */
SoftFixture *soft_fixture_new(const char *model);
void soft_fixture_free(SoftFixture *f);
/* After changing cpu->s. */
void soft_fixture_apply(SoftFixture *f);

/* Modes with flat segments at ring `cpl` and paging off (long mode: 4-level tables that map the
 * first 4 MiB to themselves, U and W). The GDT is at FIXTURE_GDT: null, then by FIXTURE_* selector.
 * The IDT at FIXTURE_IDT is empty, the TSS at FIXTURE_TSS has stacks. */
void soft_fixture_protected(SoftFixture *f, unsigned cpl);
void soft_fixture_long(SoftFixture *f, unsigned cpl);

enum {
    FIXTURE_GDT = 0x1000,
    FIXTURE_IDT = 0x2000,
    FIXTURE_TSS = 0x3000,
    FIXTURE_TSS2 = 0x4000,
    FIXTURE_STACK0 = 0x9000,
    FIXTURE_STACK3 = 0xa000,
    FIXTURE_IST1 = 0xb000,
    FIXTURE_CODE0 = 0x08,
    FIXTURE_DATA0 = 0x10,
    FIXTURE_CODE3 = 0x18 | 3,
    FIXTURE_DATA3 = 0x20 | 3,
    FIXTURE_TR = 0x28,
    FIXTURE_TR2 = 0x38 /* protected mode only */,
    FIXTURE_FREE = 0x40,
};

uint64_t fixture_descriptor(uint32_t base, uint32_t limit, uint32_t attributes);
void fixture_set_descriptor(SoftFixture *f, uint16_t selector, uint64_t descriptor);
/* Gate in the IDT, of the mode's size. `access`: type, DPL and P. */
void fixture_set_gate(SoftFixture *f, unsigned vector, uint16_t selector, uint64_t offset,
                      uint8_t access, unsigned ist);

uint64_t fixture_read(SoftFixture *f, uint64_t address, unsigned size);
void fixture_write(SoftFixture *f, uint64_t address, unsigned size, uint64_t value);

/* Runs the statement; the value is the vector it raised, or -1. */
#define SOFT_CATCH(cpu_, ...)               \
    ({                                      \
        volatile int caught_ = -1;          \
        if (!sigsetjmp((cpu_)->jump, 0)) {  \
            __VA_ARGS__;                    \
        } else {                            \
            caught_ = (cpu_)->event.vector; \
        }                                   \
        caught_;                            \
    })
