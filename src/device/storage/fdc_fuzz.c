/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Register storms on the floppy controller, with a disk in each drive and a DMA channel. */
#include "device/storage/fdc.h"
#include "device/storage/test_disk.h"
#include "device/test_board.h"

#define SLICE 96

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Reaches the terminal count now and then, and sometimes moves nothing. */
static size_t dma(void *obj, uint8_t *data, size_t size, bool to_memory, bool *ret_tc)
{
    unsigned *count = obj;
    ++*count;
    *ret_tc = *count % 5 == 0;
    if (!to_memory)
        memset(data, (int)*count, size);
    return *count % 11 == 0 ? 0 : size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(TestBoard) b = test_board_new();
    g_autoptr(Disk) a_disk = test_disk_open(b, KIB(360), false, NULL);
    g_autoptr(Disk) b_disk = test_disk_open(b, KIB(100), true, NULL);
    Fdc *fdc = device_new(&fdc_type, &b->board, "fdc");
    unsigned count = 0;
    g_assert_true(device_create(&fdc->device, NULL));
    g_assert_true(fdc_change_disk(fdc, 0, a_disk, NULL));
    g_assert_true(fdc_change_disk(fdc, 1, b_disk, NULL));
    fdc->dma = (FdcDma){dma, &count};
    /* Offset 0 and 1 of the storm are the FIFO, then come DOR to CCR. */
    space_map(b->board.ports, 0, &fdc->io, 5, 1, SPACE_PRIORITY_BOARD, false);
    space_map(b->board.ports, 1, &fdc->io, 5, 1, SPACE_PRIORITY_BOARD, false);
    space_map(b->board.ports, 2, &fdc->io, 2, 6, SPACE_PRIORITY_BOARD, false);
    device_reset(&fdc->device);
    test_out(b, 2, 1, 0x1c);
    for (; size; data += MIN(size, SLICE), size -= MIN(size, SLICE)) {
        test_register_storm(b, b->board.ports, 0, 8, data, MIN(size, SLICE));
        g_main_context_iteration(NULL, FALSE);
    }
    device_pause(&fdc->device);
    test_state_round_trip(&fdc->device);
    device_free(&fdc->device);
    return 0;
}
