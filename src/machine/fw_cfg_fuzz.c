/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Fuzz target: fw_cfg's ports, with the input in RAM as DMA descriptors. */
#include "device/test_board.h"
#include "machine/fw_cfg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    TestBoard *b = test_board_new();
    FwCfg *fw = device_new(&fw_cfg_type, &b->board, "fw");
    uint8_t scratch[64];

    g_assert_true(device_create(&fw->device, NULL));
    fw_cfg_add_file(fw, "etc/file", data, MIN(size, 4096));
    fw_cfg_add_writable_file(fw, "etc/writable", scratch, sizeof(scratch));
    space_map(b->board.ports, 0x510, &fw->ports, 0, 2, SPACE_PRIORITY_BOARD, false);
    space_map(b->board.ports, 0x514, &fw->dma, 0, 8, SPACE_PRIORITY_BOARD, false);
    device_reset(&fw->device);
    space_write(b->board.memory, 0x2000, data, MIN(size, 4096));
    for (size_t at = 0; at + 16 <= MIN(size, 4096); at += 16)
        test_out(b, 0x518, 4, GUINT32_SWAP_LE_BE((uint32_t)(0x2000 + at)));
    test_register_storm(b, b->board.ports, 0x510, 12, data, size);
    device_free(&fw->device);
    test_board_free(b);
    return 0;
}
