/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Register storms on the IDE controller, with a hard disk, a CD-ROM and guest memory full of PRDs.
 * The ports are laid side by side, so that every byte of input reaches a register; the disks answer
 * between the slices of the storm.
 */
#include "device/storage/ide.h"
#include "device/storage/test_disk.h"
#include "device/test_board.h"

#define SLICE 48

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void place(TestBoard *b, uint64_t *port, Region *region)
{
    space_map(b->board.ports, *port, region, 0, region->size, SPACE_PRIORITY_BOARD, false);
    *port += region->size;
}

static void fill_prds(TestBoard *b)
{
    uint8_t prds[KIB(64)];

    for (uint64_t at = 0; at < sizeof(prds); at += 8)
        store_le64(prds + at, (KIB(128) + at * 3) | (512 + at) << 32);
    space_write(b->board.memory, 0, prds, sizeof(prds));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(TestBoard) b = test_board_new();
    g_autoptr(Disk) disk = test_disk_open(b, KIB(256), false, NULL);
    g_autoptr(Disk) cd = test_disk_open(b, KIB(256), true, NULL);
    IdeController *ide = device_new(&piix3_ide_type, &b->board, "ide");
    uint64_t ports = 0;
    g_assert_true(device_create(&ide->pci.device, NULL));
    ide_attach_disk(ide, 0, 0, disk);
    ide_attach_cdrom(ide, 0, 1, cd);
    place(b, &ports, &ide->channels[0].command);
    place(b, &ports, &ide->channels[0].control);
    place(b, &ports, &ide->bus_master);
    device_reset(&ide->pci.device);
    pci_config_write(&ide->pci, PCI_COMMAND, 2, PCI_COMMAND_IO | PCI_COMMAND_MASTER);
    fill_prds(b);
    for (; size; data += MIN(size, SLICE), size -= MIN(size, SLICE)) {
        test_register_storm(b, b->board.ports, 0, ports, data, MIN(size, SLICE));
        g_main_context_iteration(NULL, FALSE);
    }
    device_pause(&ide->pci.device);
    test_state_round_trip(&ide->pci.device);
    device_free(&ide->pci.device);
    return 0;
}
