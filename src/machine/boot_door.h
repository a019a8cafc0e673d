/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The boot door: how a kernel whose protocol promises a running BIOS (Multiboot) is started by one.
 *
 * Firmware gets a small option ROM that offers itself as the first boot device. Booting from it
 * writes to BOOT_DOOR_PORT, where the machine stops the CPU, puts the kernel into memory and enters
 * it; the BIOS and all it has set up stay as they are.
 */
#pragma once

#include <glib.h>

#define BOOT_DOOR_PORT     0x51c
#define BOOT_DOOR_ROM_FILE "genroms/ospite-boot.bin" /* fw_cfg names, as SeaBIOS reads them */
#define BOOT_DOOR_ORDER    "/rom@genroms/ospite-boot.bin\n"

/* The option ROM, new. */
GByteArray *boot_door_rom(void);
