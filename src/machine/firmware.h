/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Firmware images from the host's packages: SeaBIOS and its VGA BIOS. Any thread. */
#pragma once

#include <gio/gio.h>

#include "memory/ram.h"

#define FIRMWARE_BIOS_NAME "bios-256k.bin"
#define FIRMWARE_VGA_NAME  "vgabios-stdvga.bin"

/* Where an image lies. Fails naming the package that has it. */
char *firmware_find(const char *name, GError **error);
/* Reads a whole image of at most `max_size` bytes. Fails naming the package that has it. */
GBytes *firmware_read(const char *name, size_t max_size, GError **error);
/* The system BIOS as a ROM of 64 KiB to 16 MiB, a power of two, to end at 4 GiB. `path` NULL: the
 * host's SeaBIOS. */
Ram *firmware_load_bios(const char *path, GError **error);
