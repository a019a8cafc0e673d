/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Intel 440FX host bridge. See i440fx.h.
 *
 * Invariant: each shadow segment has exactly one mapping, chosen by its nibble in the PAM
 * registers:
 *
 *     0x59  7-4: f0000 64K   3-0: reserved
 *     0x5a  7-4: c4000 16K   3-0: c0000 16K
 *     0x5b  7-4: cc000 16K   3-0: c8000 16K      nibble: 0 RE (reads to RAM)
 *     0x5c  7-4: d4000 16K   3-0: d0000 16K              1 WE (writes to RAM)
 *     0x5d  7-4: dc000 16K   3-0: d8000 16K              2 CE (cacheable, stored only)
 *     0x5e  7-4: e4000 16K   3-0: e0000 16K
 *     0x5f  7-4: ec000 16K   3-0: e8000 16K
 */
#include "device/chipset/i440fx.h"

#include "base/bits.h"

#define I440FX_BIOS_START 0xe0000u
#define I440FX_BIOS_END   0x100000u
#define I440FX_SMRAM_AT   0xa0000u
#define I440FX_SMRAM_SIZE 0x20000u

enum { I440FX_PAM0 = 0x59, I440FX_PAM6 = 0x5f, I440FX_SMRAM = 0x72, I440FX_TRC = 0x93 };
enum { SMRAM_ENABLE = 0x08, SMRAM_LOCK = 0x10, SMRAM_CLOSED = 0x20, SMRAM_OPEN = 0x40 };
enum { TRC_RESET_CPU = 0x04 };

typedef struct PamSegment {
    uint32_t address, size;
    uint8_t reg, shift;
} PamSegment;

static const PamSegment pam_segments[I440FX_PAM_COUNT] = {
    {0xf0000, 0x10000, 0x59, 4}, {0xc0000, 0x4000, 0x5a, 0}, {0xc4000, 0x4000, 0x5a, 4},
    {0xc8000, 0x4000, 0x5b, 0},  {0xcc000, 0x4000, 0x5b, 4}, {0xd0000, 0x4000, 0x5c, 0},
    {0xd4000, 0x4000, 0x5c, 4},  {0xd8000, 0x4000, 0x5d, 0}, {0xdc000, 0x4000, 0x5d, 4},
    {0xe0000, 0x4000, 0x5e, 0},  {0xe4000, 0x4000, 0x5e, 4}, {0xe8000, 0x4000, 0x5f, 0},
    {0xec000, 0x4000, 0x5f, 4},
};

/* What the guest may write besides the header, and what it reads after reset. */
typedef struct I440fxRegister {
    uint8_t offset, size;
    uint32_t wmask, reset;
} I440fxRegister;

static const I440fxRegister i440fx_registers[] = {
    {0x50, 2, 0xff4c, 0x0400}, /* PMC configuration */
    {0x52, 1, 0xff, 0x00},     /* deturbo counter */
    {0x53, 1, 0xfb, 0x80},     /* data buffer control */
    {0x54, 1, 0xf7, 0x00},     /* auxiliary control */
    {0x55, 2, 0xffff, 0x0000}, /* DRAM row type */
    {0x57, 1, 0x77, 0x01},     /* DRAM control */
    {0x58, 1, 0xff, 0x10},     /* DRAM timing */
    {0x59, 1, 0xff, 0x00},
    {0x5a, 2, 0xffff, 0x0000},
    {0x5c, 4, 0xffffffff, 0x00000000}, /* PAM */
    {0x60, 4, 0xffffffff, 0x01010101},
    {0x64, 4, 0xffffffff, 0x01010101}, /* DRAM row boundary */
    {0x68, 1, 0xc0, 0x00},             /* fixed DRAM hole */
    {0x70, 1, 0xff, 0x00},             /* multi-transaction timer */
    {0x71, 1, 0x1f, 0x10},             /* CPU latency timer */
    {0x72, 1, 0x78, 0x02},             /* SMRAM control */
    {0x90, 1, 0xff, 0x00},             /* error command */
    {0x93, 1, 0x0e, 0x00},             /* turbo reset control */
};

static uint64_t i440fx_nothing_read(void *obj, uint64_t offset, unsigned size)
{
    return UINT64_MAX;
}

/* The write half of PAM_WRITE_RAM. */
static void i440fx_shadow_write(void *obj, uint64_t offset, unsigned size, uint64_t value)
{
    I440fxSegment *segment = obj;
    Region *ram = segment->owner->ram;
    uint64_t at = ram->ram_offset + segment->address + offset;
    uint8_t bytes[8];

    if (offset + size > segment->size)
        return;
    store_le64(bytes, value);
    memcpy(ram->ram->host + at, bytes, size);
    ram_written(ram->ram, at, size);
}

static const RegionOps i440fx_nothing_ops = {
    .name = "pci-hole", .read = i440fx_nothing_read, .max_access = 8};
static const RegionOps i440fx_shadow_ops = {.name = "pam-write-shadow",
                                            .read = i440fx_nothing_read,
                                            .write = i440fx_shadow_write,
                                            .max_access = 8};

/* Where in the firmware's ROM this segment lies; false: the ROM does not reach it. */
static bool i440fx_bios_offset(const I440fx *fx, const I440fxSegment *segment, uint64_t *ret_offset)
{
    if (!fx->bios || segment->address < I440FX_BIOS_START)
        return false;
    uint64_t from_end = I440FX_BIOS_END - segment->address;
    if (from_end > fx->bios->size)
        return false;
    *ret_offset = fx->bios->ram_offset + fx->bios->size - from_end;
    return true;
}

static void i440fx_segment_init(I440fx *fx, I440fxSegment *segment, const PamSegment *pam)
{
    GRecMutex *lock = fx->pci.device.board->lock;
    uint64_t offset;

    segment->owner = fx;
    segment->address = pam->address;
    segment->size = pam->size;
    if (!i440fx_bios_offset(fx, segment, &offset)) {
        region_init_io(&segment->pci, &i440fx_nothing_ops, segment, lock, pam->size);
        region_init_io(&segment->write_shadow, &i440fx_shadow_ops, segment, lock, pam->size);
        return;
    }
    region_init_ram(&segment->pci, REGION_ROM, fx->bios->ram, offset, pam->size);
    region_init_ram(&segment->write_shadow, REGION_ROM, fx->bios->ram, offset, pam->size);
    segment->write_shadow.ops = &i440fx_shadow_ops;
    segment->write_shadow.obj = segment;
    segment->write_shadow.lock = lock;
}

static void i440fx_update_segment(I440fx *fx, unsigned i)
{
    I440fxSegment *segment = &fx->segments[i];
    AddressSpace *memory = fx->pci.device.board->memory;
    PamMode mode = bits_get(fx->pci.config[pam_segments[i].reg], pam_segments[i].shift, 2);
    Region *region = mode == PAM_PCI         ? &segment->pci
                     : mode == PAM_WRITE_RAM ? &segment->write_shadow
                                             : fx->ram;

    space_unmap(memory, segment->mapping);
    segment->mapping =
        space_map(memory, segment->address, region, region == fx->ram ? segment->address : 0,
                  segment->size, SPACE_PRIORITY_BOARD, mode == PAM_READ_RAM);
}

static void i440fx_update_smram(I440fx *fx)
{
    AddressSpace *memory = fx->pci.device.board->memory;
    uint8_t smram = fx->pci.config[I440FX_SMRAM];
    bool open = (smram & SMRAM_ENABLE) && (smram & SMRAM_OPEN) && !(smram & SMRAM_CLOSED);

    if (open == (fx->smram != NULL))
        return;
    space_unmap(memory, fx->smram);
    fx->smram = open ? space_map(memory, I440FX_SMRAM_AT, fx->ram, I440FX_SMRAM_AT,
                                 I440FX_SMRAM_SIZE, SPACE_PRIORITY_OVERLAY, false)
                     : NULL;
}

static void i440fx_update_memory(I440fx *fx)
{
    AddressSpace *memory = fx->pci.device.board->memory;

    space_begin(memory);
    for (unsigned i = 0; i < I440FX_PAM_COUNT; i++)
        i440fx_update_segment(fx, i);
    i440fx_update_smram(fx);
    space_commit(memory);
}

/* Setting the lock closes SMRAM and freezes both bits until reset (datasheet §3.2.23). */
static void i440fx_apply_smram_lock(I440fx *fx)
{
    bool locked = fx->pci.config[I440FX_SMRAM] & SMRAM_LOCK;

    if (locked)
        fx->pci.config[I440FX_SMRAM] &= ~SMRAM_OPEN;
    fx->pci.wmask[I440FX_SMRAM] = locked ? SMRAM_CLOSED : 0x78;
}

static void i440fx_config_written(PciDevice *device, unsigned offset, unsigned size)
{
    I440fx *fx = (I440fx *)device;
    Board *board = device->device.board;
    unsigned end = offset + size;

    if (offset <= I440FX_SMRAM && end > I440FX_SMRAM)
        i440fx_apply_smram_lock(fx);
    if ((offset <= I440FX_PAM6 && end > I440FX_PAM0) ||
        (offset <= I440FX_SMRAM && end > I440FX_SMRAM))
        i440fx_update_memory(fx);
    if (offset <= I440FX_TRC && end > I440FX_TRC && (device->config[I440FX_TRC] & TRC_RESET_CPU)) {
        device->config[I440FX_TRC] &= ~TRC_RESET_CPU;
        board->request(board->obj, BOARD_RESET, 0);
    }
}

static bool i440fx_create(Device *device, GError **error)
{
    I440fx *fx = (I440fx *)device;

    g_assert(fx->ram && fx->ram->size >= MIB(1));
    pci_device_init(&fx->pci, 0x8086, 0x1237, 0x0600, 0, 2);
    /* Memory decoding and mastering cannot be turned off (§3.2.3). */
    store_le16(fx->pci.wmask + PCI_COMMAND, 0x0140);
    store_le16(fx->pci.config + PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    store_le16(fx->pci.config + PCI_STATUS, 0x0280);
    for (unsigned i = 0; i < G_N_ELEMENTS(i440fx_registers); i++) {
        const I440fxRegister *r = &i440fx_registers[i];
        for (unsigned byte = 0; byte < r->size; byte++)
            fx->pci.wmask[r->offset + byte] = r->wmask >> (8 * byte);
    }
    fx->pci.w1cmask[0x91] = 0x01; /* error status */
    fx->pci.config_written = i440fx_config_written;
    for (unsigned i = 0; i < I440FX_PAM_COUNT; i++)
        i440fx_segment_init(fx, &fx->segments[i], &pam_segments[i]);
    return true;
}

static void i440fx_reset(Device *device)
{
    I440fx *fx = (I440fx *)device;

    pci_device_reset(&fx->pci);
    for (unsigned i = 0; i < G_N_ELEMENTS(i440fx_registers); i++) {
        const I440fxRegister *r = &i440fx_registers[i];
        for (unsigned byte = 0; byte < r->size; byte++)
            fx->pci.config[r->offset + byte] = r->reset >> (8 * byte);
    }
    i440fx_apply_smram_lock(fx);
    i440fx_update_memory(fx);
}

static void i440fx_destroy(Device *device)
{
    I440fx *fx = (I440fx *)device;

    for (unsigned i = 0; i < I440FX_PAM_COUNT; i++)
        space_unmap(device->board->memory, fx->segments[i].mapping);
    space_unmap(device->board->memory, fx->smram);
}

static bool i440fx_loaded(Device *device, GError **error)
{
    I440fx *fx = (I440fx *)device;

    if (!pci_device_loaded(&fx->pci, error))
        return false;
    i440fx_apply_smram_lock(fx);
    i440fx_update_memory(fx);
    return true;
}

void i440fx_open_shadow(I440fx *fx)
{
    fx->pci.config[I440FX_PAM0] = 0x30;
    memset(&fx->pci.config[I440FX_PAM0 + 1], 0x33, I440FX_PAM6 - I440FX_PAM0);
    i440fx_update_memory(fx);
}

static const StateField i440fx_state[] = {
    STATE_ONE_STRUCT(I440fx, pci, pci_state_fields, 1),
    STATE_LIST_END,
};

const DeviceType i440fx_type = {
    .name = "i440fx",
    .description = "Intel 440FX host bridge",
    .instance_size = sizeof(I440fx),
    .create = i440fx_create,
    .reset = i440fx_reset,
    .destroy = i440fx_destroy,
    .state_version = 1,
    .state = i440fx_state,
    .loaded = i440fx_loaded,
};
