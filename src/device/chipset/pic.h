/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The pair of 8259A interrupt controllers of a PC, with the edge/level control registers of the
 * PIIX (Intel 8259A data sheet 231468; 82371SB ELCR).
 *
 * Wiring: map io[0] at 0x20, io[1] at 0xa0 (2 ports each), elcr at 0x4d0 (2 ports); `intr` goes to
 * the CPU or to LINT0; pic_irq(pic, n) is the wire to input n of 16 (2 is the cascade and takes
 * nothing).
 *
 * Threads: board lock; pic_acknowledge() takes it itself.
 */
#pragma once

#include "device/device.h"

typedef struct PicChip {
    uint8_t irr, imr, isr;
    uint8_t lines; /* levels of the inputs */
    uint8_t elcr;  /* 1: level-triggered */
    uint8_t vector_base;
    uint8_t lowest_priority; /* the input with the lowest priority, 7 unless rotated */
    uint8_t init_step;       /* the ICW expected next at the odd port: 2, 3, 4; 0: initialised */
    bool needs_icw4;
    bool single;     /* ICW1: no ICW3 follows */
    bool level_mode; /* ICW1 LTIM: all inputs are level-triggered */
    bool auto_eoi, rotate_on_auto_eoi;
    bool special_mask, special_fully_nested;
    bool read_isr; /* what the even port shows */
    bool poll;     /* the next read is an acknowledgement */
} PicChip;

typedef struct Pic {
    Device device;
    Region io[2], elcr;
    IrqLine intr;
    PicChip chip[2]; /* primary, secondary */
    bool intr_level; /* derived */
} Pic;

extern const DeviceType pic_type;

IrqLine pic_irq(Pic *pic, unsigned n);
/* Whether input n is unmasked; and has a request that the CPU has not acknowledged. */
bool pic_is_unmasked(const Pic *pic, unsigned n);
bool pic_is_pending(const Pic *pic, unsigned n);
/* INTA: the vector; with nothing pending the spurious one of input 7. Any thread. */
int pic_acknowledge(Pic *pic);
