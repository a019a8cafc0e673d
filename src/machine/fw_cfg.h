/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * fw_cfg: how the machine hands firmware its configuration, ACPI tables and option ROMs.
 *
 *     0x510 (16 bits, write)  selector      0x511 (8 bits, read)  data
 *     0x514 (64 bits, big-endian)           DMA descriptor's address; reading gives "QEMU CFG"
 *
 * Items are added before the machine runs and never change afterwards. Board lock held.
 * Source: QEMU's docs/specs/fw_cfg.rst (the interface that SeaBIOS and OVMF speak).
 */
#pragma once

#include "device/device.h"

#define FW_CFG_PORT           0x510
#define FW_CFG_DMA_PORT       0x514
#define FW_CFG_FILE_NAME_SIZE 56 /* with the NUL */

typedef enum FwCfgKey {
    FW_CFG_SIGNATURE = 0x00,
    FW_CFG_ID = 0x01,
    FW_CFG_UUID = 0x02,
    FW_CFG_RAM_SIZE = 0x03,
    FW_CFG_NOGRAPHIC = 0x04,
    FW_CFG_NB_CPUS = 0x05,
    FW_CFG_NUMA = 0x0d,
    FW_CFG_BOOT_MENU = 0x0e,
    FW_CFG_MAX_CPUS = 0x0f,
    FW_CFG_FILE_DIR = 0x19,
    FW_CFG_FILE_FIRST = 0x20,
    FW_CFG_IRQ0_OVERRIDE = 0x8002,
    FW_CFG_E820_TABLE = 0x8003,
} FwCfgKey;

typedef struct FwCfg {
    Device device;
    Region ports;      /* 2 ports */
    Region dma;        /* 8 ports */
    GHashTable *items; /* key → FwCfgItem */
    GPtrArray *files;  /* of FwCfgItem, in the order of their keys; not owned */
    uint16_t selected; /* key */
    uint32_t offset;   /* of the next byte in the selected item */
    uint64_t dma_address;
} FwCfg;

extern const DeviceType fw_cfg_type;

/* Adds or replaces an item. */
void fw_cfg_add_bytes(FwCfg *fw, uint16_t key, const void *data, size_t size);
void fw_cfg_add_u16(FwCfg *fw, uint16_t key, uint16_t value);
void fw_cfg_add_u32(FwCfg *fw, uint16_t key, uint32_t value);
void fw_cfg_add_u64(FwCfg *fw, uint16_t key, uint64_t value);
/* Adds or replaces a named file; returns its key. The name is shorter than FW_CFG_FILE_NAME_SIZE.
 */
uint16_t fw_cfg_add_file(FwCfg *fw, const char *name, const void *data, size_t size);
/* A file that the guest may write through DMA: `buffer` is the caller's, outlives the device and is
 * saved by its owner. */
uint16_t fw_cfg_add_writable_file(FwCfg *fw, const char *name, void *buffer, size_t size);
/* The contents of a file; NULL: there is none. */
const void *fw_cfg_find_file(FwCfg *fw, const char *name, size_t *ret_size);
