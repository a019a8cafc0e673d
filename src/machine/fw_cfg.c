/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * fw_cfg. See fw_cfg.h.
 *
 * Invariant: the file directory item always lists `files`. Reads past an item's end give zeros. A
 * DMA descriptor is copied from guest memory once; its length is bounded by the item plus
 * FW_CFG_ZERO_MAX, so that one port write never does unbounded work.
 */
#include "machine/fw_cfg.h"

#include "base/bits.h"
#include "base/guest_log.h"

#define FW_CFG_FILE_SLOTS 0x100
#define FW_CFG_DMA_ID     UINT64_C(0x51454d5520434647) /* "QEMU CFG" */
#define FW_CFG_ZERO_MAX   MIB(1)
#define FW_CFG_DIR_ENTRY  64 /* be32 size, be16 key, be16 reserved, name */

enum { FW_CFG_HAS_PORTS = 1, FW_CFG_HAS_DMA = 2 };
enum { DMA_ERROR = 1, DMA_READ = 2, DMA_SKIP = 4, DMA_SELECT = 8, DMA_WRITE = 16 };

typedef struct FwCfgItem {
    uint16_t key;
    char *name; /* NULL: an item without a file name */
    uint8_t *data;
    uint8_t *owned; /* `data`, or NULL when the buffer is somebody else's */
    size_t size;
    bool writable;
} FwCfgItem;

/* The descriptor in guest memory, big-endian. */
typedef struct FwCfgDma {
    uint32_t control, length;
    uint64_t address;
} FwCfgDma;

static void fw_cfg_item_free(void *data)
{
    FwCfgItem *item = data;

    g_free(item->name);
    g_free(item->owned);
    g_free(item);
}

/* ---- items ----------------------------------------------------------------------------------- */

static FwCfgItem *fw_cfg_put(FwCfg *fw, uint16_t key, uint8_t *data, size_t size)
{
    FwCfgItem *item = g_new0(FwCfgItem, 1);

    item->key = key;
    item->data = data;
    item->size = size;
    g_hash_table_replace(fw->items, GUINT_TO_POINTER(key), item);
    return item;
}

void fw_cfg_add_bytes(FwCfg *fw, uint16_t key, const void *data, size_t size)
{
    uint8_t *copy = g_memdup2(data, size);

    fw_cfg_put(fw, key, copy, size)->owned = copy;
}

void fw_cfg_add_u16(FwCfg *fw, uint16_t key, uint16_t value)
{
    value = GUINT16_TO_LE(value);
    fw_cfg_add_bytes(fw, key, &value, sizeof(value));
}

void fw_cfg_add_u32(FwCfg *fw, uint16_t key, uint32_t value)
{
    value = GUINT32_TO_LE(value);
    fw_cfg_add_bytes(fw, key, &value, sizeof(value));
}

void fw_cfg_add_u64(FwCfg *fw, uint16_t key, uint64_t value)
{
    value = GUINT64_TO_LE(value);
    fw_cfg_add_bytes(fw, key, &value, sizeof(value));
}

static void fw_cfg_update_directory(FwCfg *fw)
{
    g_autoptr(GByteArray) directory = g_byte_array_new();
    uint8_t count[4];

    store_be32(count, fw->files->len);
    g_byte_array_append(directory, count, sizeof(count));
    for (guint i = 0; i < fw->files->len; i++) {
        const FwCfgItem *item = g_ptr_array_index(fw->files, i);
        uint8_t entry[FW_CFG_DIR_ENTRY] = {0};
        store_be32(entry, item->size);
        store_be16(entry + 4, item->key);
        g_strlcpy((char *)entry + 8, item->name, FW_CFG_FILE_NAME_SIZE);
        g_byte_array_append(directory, entry, sizeof(entry));
    }
    fw_cfg_add_bytes(fw, FW_CFG_FILE_DIR, directory->data, directory->len);
}

static guint fw_cfg_file_index(FwCfg *fw, const char *name)
{
    guint i = 0;

    while (i < fw->files->len &&
           strcmp(((FwCfgItem *)g_ptr_array_index(fw->files, i))->name, name) != 0)
        i++;
    return i;
}

static FwCfgItem *fw_cfg_put_file(FwCfg *fw, const char *name, uint8_t *data, size_t size)
{
    guint i = fw_cfg_file_index(fw, name);

    g_assert(i < FW_CFG_FILE_SLOTS && strlen(name) < FW_CFG_FILE_NAME_SIZE && size <= UINT32_MAX);
    FwCfgItem *item = fw_cfg_put(fw, FW_CFG_FILE_FIRST + i, data, size);
    item->name = g_strdup(name);
    if (i < fw->files->len)
        fw->files->pdata[i] = item;
    else
        g_ptr_array_add(fw->files, item);
    fw_cfg_update_directory(fw);
    return item;
}

uint16_t fw_cfg_add_file(FwCfg *fw, const char *name, const void *data, size_t size)
{
    uint8_t *copy = g_memdup2(data, size);
    FwCfgItem *item = fw_cfg_put_file(fw, name, copy, size);

    item->owned = copy;
    return item->key;
}

uint16_t fw_cfg_add_writable_file(FwCfg *fw, const char *name, void *buffer, size_t size)
{
    FwCfgItem *item = fw_cfg_put_file(fw, name, buffer, size);

    item->writable = true;
    return item->key;
}

const void *fw_cfg_find_file(FwCfg *fw, const char *name, size_t *ret_size)
{
    guint i = fw_cfg_file_index(fw, name);

    if (i == fw->files->len)
        return NULL;
    const FwCfgItem *item = g_ptr_array_index(fw->files, i);
    *ret_size = item->size;
    return item->data;
}

/* ---- ports ----------------------------------------------------------------------------------- */

static FwCfgItem *fw_cfg_selected(FwCfg *fw)
{
    return g_hash_table_lookup(fw->items, GUINT_TO_POINTER(fw->selected));
}

static void fw_cfg_select(FwCfg *fw, uint16_t key)
{
    fw->selected = key;
    fw->offset = 0;
}

/* How many bytes of the selected item are left. */
static size_t fw_cfg_left(FwCfg *fw, const FwCfgItem *item)
{
    return item && fw->offset < item->size ? item->size - fw->offset : 0;
}

static void fw_cfg_advance(FwCfg *fw, uint32_t count)
{
    fw->offset = count > UINT32_MAX - fw->offset ? UINT32_MAX : fw->offset + count;
}

static uint64_t fw_cfg_ports_read(void *obj, uint64_t offset, unsigned size)
{
    FwCfg *fw = obj;
    FwCfgItem *item = fw_cfg_selected(fw);
    uint8_t byte = 0;

    if (offset != 1)
        return UINT64_MAX;
    if (fw_cfg_left(fw, item))
        byte = item->data[fw->offset];
    fw_cfg_advance(fw, 1);
    return byte;
}

static void fw_cfg_ports_write(void *obj, uint64_t offset, unsigned size, uint64_t value)
{
    if (offset == 0 && size == 2)
        fw_cfg_select(obj, value);
}

static const RegionOps fw_cfg_ports_ops = {
    .name = "fw-cfg", .read = fw_cfg_ports_read, .write = fw_cfg_ports_write, .max_access = 2};

/* ---- DMA ------------------------------------------------------------------------------------- */

static bool fw_cfg_dma_read(FwCfg *fw, const FwCfgItem *item, const FwCfgDma *dma)
{
    static const uint8_t zeros[GUEST_PAGE_SIZE];
    AddressSpace *memory = fw->device.board->memory;
    uint64_t data = MIN(fw_cfg_left(fw, item), dma->length);
    uint64_t end = dma->length;

    if (end - data > FW_CFG_ZERO_MAX) {
        guest_log("fw-cfg", "DMA reads %u bytes of key %#x", dma->length, fw->selected);
        return false;
    }
    if (data && !space_write(memory, dma->address, item->data + fw->offset, data))
        return false;
    for (uint64_t done = data; done < end; done += sizeof(zeros)) {
        if (!space_write(memory, dma->address + done, zeros, MIN(sizeof(zeros), end - done)))
            return false;
    }
    return true;
}

static bool fw_cfg_dma_write(FwCfg *fw, FwCfgItem *item, const FwCfgDma *dma)
{
    if (!item || !item->writable || dma->length > fw_cfg_left(fw, item))
        return false;
    g_autofree uint8_t *copy = g_malloc(dma->length);
    if (!space_read(fw->device.board->memory, dma->address, copy, dma->length))
        return false;
    memcpy(item->data + fw->offset, copy, dma->length);
    return true;
}

static bool fw_cfg_dma_transfer(FwCfg *fw, const FwCfgDma *dma)
{
    FwCfgItem *item;
    bool ok = true;

    if (dma->control & DMA_SELECT)
        fw_cfg_select(fw, dma->control >> 16);
    item = fw_cfg_selected(fw);
    if (dma->control & DMA_READ)
        ok = fw_cfg_dma_read(fw, item, dma);
    else if (dma->control & DMA_WRITE)
        ok = fw_cfg_dma_write(fw, item, dma);
    else if (!(dma->control & DMA_SKIP))
        return true;
    fw_cfg_advance(fw, dma->length);
    return ok;
}

static void fw_cfg_dma_run(FwCfg *fw, uint64_t at)
{
    AddressSpace *memory = fw->device.board->memory;
    uint8_t raw[16], result[4];

    if (!space_read(memory, at, raw, sizeof(raw))) {
        guest_log("fw-cfg", "DMA descriptor outside RAM at %#llx", (unsigned long long)at);
        return;
    }
    FwCfgDma dma = {
        .control = load_be32(raw), .length = load_be32(raw + 4), .address = load_be64(raw + 8)};
    bool ok = fw_cfg_dma_transfer(fw, &dma);
    store_be32(result, ok ? 0 : DMA_ERROR);
    space_write(memory, at, result, sizeof(result));
}

static uint64_t fw_cfg_dma_port_read(void *obj, uint64_t offset, unsigned size)
{
    uint8_t id[8];
    uint64_t value = 0;

    store_be64(id, FW_CFG_DMA_ID);
    for (unsigned i = 0; i < size && offset + i < sizeof(id); i++)
        value |= (uint64_t)id[offset + i] << (8 * i);
    return value;
}

/* The address arrives big-endian; writing its low half (or all of it) starts the transfer. */
static void fw_cfg_dma_port_write(void *obj, uint64_t offset, unsigned size, uint64_t value)
{
    FwCfg *fw = obj;
    uint64_t at;

    if (size == 4 && offset == 0) {
        fw->dma_address = (uint64_t)GUINT32_SWAP_LE_BE((uint32_t)value) << 32;
        return;
    }
    if (size == 4 && offset == 4)
        at = fw->dma_address | GUINT32_SWAP_LE_BE((uint32_t)value);
    else if (size == 8 && offset == 0)
        at = GUINT64_SWAP_LE_BE(value);
    else
        return;
    fw->dma_address = 0;
    fw_cfg_dma_run(fw, at);
}

static const RegionOps fw_cfg_dma_ops = {.name = "fw-cfg-dma",
                                         .read = fw_cfg_dma_port_read,
                                         .write = fw_cfg_dma_port_write,
                                         .max_access = 8};

/* ---- device ---------------------------------------------------------------------------------- */

static bool fw_cfg_create(Device *device, GError **error)
{
    FwCfg *fw = (FwCfg *)device;

    fw->items = g_hash_table_new_full(NULL, NULL, NULL, fw_cfg_item_free);
    fw->files = g_ptr_array_new();
    region_init_io(&fw->ports, &fw_cfg_ports_ops, fw, device->board->lock, 2);
    region_init_io(&fw->dma, &fw_cfg_dma_ops, fw, device->board->lock, 8);
    fw_cfg_add_bytes(fw, FW_CFG_SIGNATURE, "QEMU", 4);
    fw_cfg_add_u32(fw, FW_CFG_ID, FW_CFG_HAS_PORTS | FW_CFG_HAS_DMA);
    fw_cfg_update_directory(fw);
    return true;
}

static void fw_cfg_reset(Device *device)
{
    FwCfg *fw = (FwCfg *)device;

    fw_cfg_select(fw, FW_CFG_SIGNATURE);
    fw->dma_address = 0;
}

static void fw_cfg_destroy(Device *device)
{
    FwCfg *fw = (FwCfg *)device;

    g_clear_pointer(&fw->files, g_ptr_array_unref);
    g_clear_pointer(&fw->items, g_hash_table_unref);
}

static const StateField fw_cfg_state[] = {
    STATE_FIELD(FwCfg, selected, STATE_U16, 1),
    STATE_FIELD(FwCfg, offset, STATE_U32, 1),
    STATE_FIELD(FwCfg, dma_address, STATE_U64, 1),
    STATE_LIST_END,
};

const DeviceType fw_cfg_type = {
    .name = "fw-cfg",
    .description = "firmware configuration interface",
    .instance_size = sizeof(FwCfg),
    .create = fw_cfg_create,
    .reset = fw_cfg_reset,
    .destroy = fw_cfg_destroy,
    .state_version = 1,
    .state = fw_cfg_state,
};
