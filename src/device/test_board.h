/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A board without CPU for unit tests and fuzz targets: 16 MiB of RAM at 0, an empty port space, a
 * manual clock, and a record of what the device did to its wires.
 */
#pragma once

#include "device/device.h"

typedef struct TestBoard {
    Board board;
    GRecMutex lock;
    Ram *ram;
    Region ram_region;
    bool irq_level[32];
    unsigned irq_edges[32]; /* rising edges seen */
    bool a20;
    int last_request; /* BoardRequest, or -1 */
    int last_request_value;
    uint64_t last_msi_address;
    uint32_t last_msi_data;
    unsigned msi_count;
} TestBoard;

TestBoard *test_board_new(void);
void test_board_free(TestBoard *board);
/* A wire that records into irq_level[n] and irq_edges[n]; n < 32. */
IrqLine test_board_irq(TestBoard *board, unsigned n);

static inline uint64_t test_in(TestBoard *b, uint64_t port, unsigned size)
{
    return space_load(b->board.ports, port, size);
}
static inline void test_out(TestBoard *b, uint64_t port, unsigned size, uint64_t value)
{
    space_store(b->board.ports, port, size, value);
}
/* Saves, loads into the same device, saves again; the two must be equal. */
void test_state_round_trip(Device *device);
/*
 * A register storm: `size` bytes of fuzzer input become port and memory accesses in
 * [0, span) of `space` from `base` on, and advances of the clock. For fuzz targets and, with random
 * bytes, for unit tests.
 */
void test_register_storm(TestBoard *board, AddressSpace *space, uint64_t base, uint64_t span,
                         const uint8_t *data, size_t size);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(TestBoard, test_board_free)
