/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Fuzz target: kernel files, parsed and loaded. The first byte chooses what the rest pretends to
 * be. */
#include <string.h>

#include "base/bits.h"
#include "device/test_board.h"
#include "machine/direct_boot.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Makes the probes succeed, so that the parsers are reached. */
static void disguise(uint8_t *file, size_t size, uint8_t as)
{
    if (as % 4 == 1 && size > 0x212) {
        store_le16(file + 0x1fe, 0xaa55);
        memcpy(file + 0x202, "HdrS", 4);
        file[0x207] = 2;
        file[0x211] |= 1;
    } else if (as % 4 == 2 && size > 12) {
        store_le32(file, 0x1badb002);
        store_le32(file + 8, -(0x1badb002 + load_le32(file + 4)));
    } else if (as % 4 == 3 && size > 20) {
        memcpy(file, "\177ELF\001\001\001", 7);
        file[16] = 2;
        file[17] = 0;
        file[18] = 3;
        file[19] = 0;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const E820Entry e820[] = {{0, 0x9fc00, E820_RAM}, {MIB(1), MIB(15), E820_RAM}};

    if (size < 2)
        return 0;
    g_autofree uint8_t *file = g_memdup2(data + 1, size - 1);
    disguise(file, size - 1, data[0]);
    g_autoptr(GBytes) kernel = g_bytes_new(file, size - 1);
    g_autoptr(GBytes) initrd = data[0] & 0x80 ? g_bytes_new(file, size - 1) : NULL;
    g_autoptr(DirectBoot) boot = direct_boot_new(kernel, initrd, "fuzz", NULL);
    if (!boot)
        return 0;
    TestBoard *b = test_board_new();
    BootMachine machine = {b->board.memory, e820, G_N_ELEMENTS(e820), 0xf0000};
    BootEntry entry;
    direct_boot_load(boot, &machine, &entry, NULL);
    test_board_free(b);
    return 0;
}
