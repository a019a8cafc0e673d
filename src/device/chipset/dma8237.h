/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The two 8237A DMA controllers of a PC with their page registers (Intel 231466; 82371SB).
 * Channels 0 to 3 move bytes, 5 to 7 words; 4 is the cascade.
 *
 * Wiring: map io[0] (16 ports) at 0x00, io[1] (32 ports) at 0xc0, pages (16 ports) at 0x80.
 * Memory to memory transfers do not exist on a PC (the PIIX has none).
 *
 * Threads: board lock.
 */
#pragma once

#include "device/device.h"

typedef struct DmaChannel {
    uint16_t base_address, base_count;
    uint16_t address, count; /* current; count is one less than what is left, in units */
    uint8_t mode;            /* 7:6 kind, 5 decrement, 4 autoinit, 3:2 direction */
    uint8_t page;
} DmaChannel;

typedef struct DmaController {
    DmaChannel channels[4];
    uint8_t command, request, mask;
    uint8_t dreq;           /* levels of the request inputs */
    uint8_t terminal_count; /* status 3:0, cleared by reading */
    bool high_byte;         /* the flip-flop */
} DmaController;

typedef struct Dma {
    Device device;
    Region io[2], pages;
    DmaController controllers[2];
    uint8_t page_registers[16]; /* as written; those of no channel are plain storage */
} Dma;

extern const DeviceType dma_type;

/*
 * A device of channel 0 to 3 or 5 to 7 moves up to `size` bytes: dma_transfer_write() into memory,
 * dma_transfer_read() out of it. Returns the bytes moved, less than asked when the count ran out, 0
 * when the channel is masked, disabled or programmed for the other direction. A channel set to
 * verify moves nothing but counts. *ret_tc tells whether the terminal count was reached.
 */
size_t dma_transfer_write(Dma *dma, unsigned channel, const void *data, size_t size, bool *ret_tc);
size_t dma_transfer_read(Dma *dma, unsigned channel, void *data, size_t size, bool *ret_tc);
/* The device's request input, which shows in the status register. */
void dma_set_request(Dma *dma, unsigned channel, bool level);
/* Is the channel unmasked and its controller enabled? */
bool dma_is_ready(const Dma *dma, unsigned channel);
