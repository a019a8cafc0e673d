/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The option ROM of boot_door.h.
 * Sources: Plug and Play BIOS Specification 1.0A §3.2 (expansion header), BIOS Boot
 * Specification 1.01 §3.3 (bootstrap entry vector).
 *
 *   0x00 header  0x20 Plug and Play header  0x40 product name  0x60 initialisation  0x70 bootstrap
 * entry
 */
#include "machine/boot_door.h"

#include <string.h>

#include "base/bits.h"

#define ROM_SIZE     512
#define PNP_AT       0x20
#define PNP_SIZE     0x20
#define NAME_AT      0x40
#define INIT_AT      0x60
#define BOOTSTRAP_AT 0x70

static const char product_name[] = "Ospite kernel";

/* mov ax, 0x20 (an initial program load device is attached); retf */
static const uint8_t init_code[] = {0xb8, 0x20, 0x00, 0xcb};

/* mov dx, BOOT_DOOR_PORT; out dx, al; stop: cli; hlt; jmp stop */
static const uint8_t bootstrap_code[] = {
    0xba, BOOT_DOOR_PORT & 0xff, BOOT_DOOR_PORT >> 8, 0xee, 0xfa, 0xf4, 0xeb, 0xfc};

/* The byte that makes a range sum to 0. */
static uint8_t checksum(const uint8_t *data, size_t size)
{
    uint8_t sum = 0;

    while (size--)
        sum -= *data++;
    return sum;
}

GByteArray *boot_door_rom(void)
{
    GByteArray *rom = g_byte_array_new();
    uint8_t *data;

    g_byte_array_set_size(rom, ROM_SIZE);
    data = rom->data;
    memset(data, 0, ROM_SIZE);
    store_le16(data, 0xaa55);
    data[2] = ROM_SIZE / 512;
    data[3] = 0xe9; /* jmp near to the initialisation */
    store_le16(data + 4, INIT_AT - 6);
    store_le16(data + 0x1a, PNP_AT);
    memcpy(data + PNP_AT, "$PnP\x01", 5);
    data[PNP_AT + 5] = PNP_SIZE / 16;
    store_le16(data + PNP_AT + 0x10, NAME_AT);
    data[PNP_AT + 0x12] = 1;    /* mass storage */
    data[PNP_AT + 0x15] = 0x04; /* an initial program load device */
    store_le16(data + PNP_AT + 0x1a, BOOTSTRAP_AT);
    data[PNP_AT + 9] = checksum(data + PNP_AT, PNP_SIZE);
    memcpy(data + NAME_AT, product_name, sizeof(product_name));
    memcpy(data + INIT_AT, init_code, sizeof(init_code));
    memcpy(data + BOOTSTRAP_AT, bootstrap_code, sizeof(bootstrap_code));
    data[ROM_SIZE - 1] = checksum(data, ROM_SIZE);
    return rom;
}
