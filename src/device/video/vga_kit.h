/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the VGA's tests share: the device on a board, its registers and window, its screen, and some
 * of the BIOS's modes.
 */
#pragma once

#include "device/test_board.h"
#include "device/video/vga.h"

#define VGA_BIOS "/usr/share/seabios/vgabios-stdvga.bin"
#define LFB      UINT64_C(0xfd000000)
#define MMIO     UINT64_C(0xfebf0000)

typedef struct Box {
    unsigned x, y, right, bottom;
} Box;

typedef struct Fixture {
    TestBoard *board;
    PciBus *bus;
    Display *display;
    Vga *vga;
    Box damage; /* around all damage since clear_damage() */
    unsigned damages, resizes;
} Fixture;

/* Registers of a BIOS mode (IBM VGA, "Video Mode Register Values"). */
typedef struct ModeTable {
    uint8_t misc, seq[5], crtc[25], gfx[9], attr[21];
} ModeTable;

/* g_test_add() for a case of `Fixture`. */
#define VGA_KIT_ADD(name) \
    g_test_add("/vga/" #name, Fixture, NULL, vga_kit_set_up, test_##name, vga_kit_tear_down)

/* The cases of vga_text_test.c and vga_vbe_test.c. */
void vga_text_tests(void);
void vga_vbe_tests(void);

void vga_kit_clear_damage(Fixture *f);
void vga_kit_set_up(Fixture *f, gconstpointer unused);
void vga_kit_tear_down(Fixture *f, gconstpointer unused);
uint32_t vga_kit_pixel(Fixture *f, unsigned x, unsigned y);
void vga_kit_assert_size(Fixture *f, unsigned width, unsigned height);
extern const ModeTable vga_mode_04;
extern const ModeTable vga_mode_12;
extern const ModeTable vga_mode_13;
/* DAC entry n shows as this: distinct for each n. */
uint32_t vga_kit_color(unsigned n);
void vga_kit_fill_dac(Fixture *f);
void vga_kit_set_mode(Fixture *f, const ModeTable *mode);

static inline void out(Fixture *f, unsigned port, uint8_t value)
{
    test_out(f->board, port, 1, value);
}

static inline uint8_t in(Fixture *f, unsigned port)
{
    return test_in(f->board, port, 1);
}

static inline void seq(Fixture *f, uint8_t index, uint8_t value)
{
    test_out(f->board, 0x3c4, 2, index | value << 8);
}

static inline void gfx(Fixture *f, uint8_t index, uint8_t value)
{
    test_out(f->board, 0x3ce, 2, index | value << 8);
}

static inline void crtc(Fixture *f, uint8_t index, uint8_t value)
{
    test_out(f->board, 0x3d4, 2, index | value << 8);
}

static inline void attr(Fixture *f, uint8_t index, uint8_t value)
{
    in(f, 0x3da);
    out(f, 0x3c0, index);
    out(f, 0x3c0, value);
    out(f, 0x3c0, 0x20);
}

static inline void dispi(Fixture *f, uint16_t index, uint16_t value)
{
    test_out(f->board, 0x1ce, 2, index);
    test_out(f->board, 0x1cf, 2, value);
}

static inline uint16_t dispi_get(Fixture *f, uint16_t index)
{
    test_out(f->board, 0x1ce, 2, index);
    return test_in(f->board, 0x1d0, 2);
}

static inline void poke(Fixture *f, uint64_t address, uint8_t value)
{
    space_store(f->board->board.memory, address, 1, value);
}

static inline uint8_t peek(Fixture *f, uint64_t address)
{
    return space_load(f->board->board.memory, address, 1);
}
