/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the software CPUs of one VM share: where in RAM there is code.
 *
 * Invariant: a vCPU keeps blocks of a page only while the page has RAM_CODE and the lines of the
 * block are set. Both are set before the bytes are read for good, and cleared in an exclusive
 * section only.
 */
#pragma once

#include "cpu/soft/cpu.h"

#define CODE_LINE_SHIFT 6 /* 64 lines of 64 bytes in a page */

typedef struct CodePage {
    _Atomic uint64_t lines; /* bit n: line n holds bytes of a block */
    _Atomic uint32_t
        drops; /* times that code ran and was then written; at the limit the page turns hot */
    _Atomic bool fresh;   /* code was decoded since the last drop */
    _Atomic uint32_t hot; /* instructions still to be run without keeping them */
} CodePage;

typedef struct RamCode {
    Ram *ram;
    SoftVm *vm;
    CodePage *pages; /* one per page of ram, mapped, zero until used */
    struct RamCode *next;
} RamCode;

struct SoftVm {
    Vm *vm;
    RamCode *rams;
    bool is_guest; /* of another engine, which is RAM's client: no decoded code is kept */
};

/* The client of `ram` is the SoftVm's RamCode. */
static inline CodePage *code_page(Ram *ram, uint64_t offset)
{
    RamCode *code = ram->client_obj;
    return &code->pages[offset >> GUEST_PAGE_SHIFT];
}

/* Bits of the lines that [offset, offset + size) touches; it stays within a page. size > 0. */
static inline uint64_t code_lines(uint64_t offset, uint64_t size)
{
    unsigned first = (offset & (GUEST_PAGE_SIZE - 1)) >> CODE_LINE_SHIFT;
    unsigned last = ((offset + size - 1) & (GUEST_PAGE_SIZE - 1)) >> CODE_LINE_SHIFT;
    return (UINT64_MAX << first) & (UINT64_MAX >> (63 - last));
}

SoftVm *soft_vm_new(Vm *vm);
/* For a few instructions at a time beside another engine, which may change memory unnoticed. */
SoftVm *soft_vm_new_guest_of(Vm *vm);
void soft_vm_free(SoftVm *vm);

/* Nobody else runs guest code between these (engine.h, vm_exclusive_begin). Any thread. */
void soft_vm_exclusive_begin(Vm *vm);
void soft_vm_exclusive_end(Vm *vm);

/* Before a block of [offset, offset + size) is kept: every vCPU notices writes there from now on.
 * vCPU thread. True when others ran meanwhile: what was marked before may have lost its mark. */
bool soft_vm_mark_code(SoftCpu *cpu, Ram *ram, uint64_t offset, unsigned size);

/* block.c, in an exclusive section: drops what overlaps [offset, offset + size) of one page;
 * returns how many blocks. Adds the lines of those that remain on the page to `remaining`. */
unsigned block_cache_drop(BlockCache *cache, Ram *ram, uint64_t offset, uint64_t size,
                          uint64_t *remaining);
