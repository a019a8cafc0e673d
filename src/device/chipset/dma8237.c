/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * 8237A pair. Addresses wrap within their 64 KiB (128 KiB for words) page: the page register does
 * not count. Guest memory that is no RAM reads as ones and swallows writes. Threads: board lock.
 */
#include "device/chipset/dma8237.h"

enum {
    MODE_AUTOINIT = 1 << 4,
    MODE_DECREMENT = 1 << 5,
    DIRECTION_VERIFY = 0,
    DIRECTION_WRITE = 1,
    DIRECTION_READ = 2,
    MODE_CASCADE = 3,
    COMMAND_DISABLE = 1 << 2,

    REG_STATUS = 8,
    REG_REQUEST = 9,
    REG_MASK_ONE = 10,
    REG_MODE = 11,
    REG_FLIP_FLOP = 12,
    REG_MASTER_CLEAR = 13,
    REG_MASK_CLEAR = 14,
    REG_MASK_ALL = 15,
};

/* Which channel a page register belongs to: ports 0x80 to 0x8f; -1: none. */
static const int8_t page_channel[16] = {-1, 2, 3, 1, -1, -1, -1, 0, -1, 6, 7, 5, -1, -1, -1, 4};

static DmaChannel *channel_of(Dma *dma, unsigned channel)
{
    return &dma->controllers[channel >> 2 & 1].channels[channel & 3];
}

bool dma_is_ready(const Dma *dma, unsigned channel)
{
    const DmaController *c = &dma->controllers[channel >> 2 & 1];
    bool cascaded = channel < 4 ? !(dma->controllers[1].mask & 1) &&
                                      !(dma->controllers[1].command & COMMAND_DISABLE)
                                : true;
    return cascaded && !(c->mask & 1 << (channel & 3)) && !(c->command & COMMAND_DISABLE) &&
           c->channels[channel & 3].mode >> 6 != MODE_CASCADE;
}

void dma_set_request(Dma *dma, unsigned channel, bool level)
{
    DmaController *c = &dma->controllers[channel >> 2 & 1];
    uint8_t bit = 1 << (channel & 3);
    c->dreq = level ? c->dreq | bit : c->dreq & ~bit;
}

static uint64_t guest_address(const DmaChannel *ch, bool words)
{
    if (words)
        return (uint64_t)(ch->page & 0xfe) << 16 | (uint64_t)ch->address << 1;
    return (uint64_t)ch->page << 16 | ch->address;
}

static void terminal_count(DmaController *c, unsigned n)
{
    DmaChannel *ch = &c->channels[n];
    c->terminal_count |= 1 << n;
    c->request &= ~(1 << n);
    if (ch->mode & MODE_AUTOINIT) {
        ch->address = ch->base_address;
        ch->count = ch->base_count;
    } else {
        c->mask |= 1 << n;
    }
}

/* How many units from the current address on are one piece of memory going up. */
static uint32_t contiguous_units(const DmaChannel *ch, uint32_t units)
{
    if (ch->mode & MODE_DECREMENT)
        return 1;
    return MIN(units, 0x10000u - ch->address);
}

static void copy_piece(Dma *dma, const DmaChannel *ch, bool words, unsigned direction,
                       uint8_t *data, size_t bytes)
{
    AddressSpace *memory = dma->device.board->memory;
    uint64_t address = guest_address(ch, words);
    if (direction == DIRECTION_WRITE)
        space_write(memory, address, data, bytes);
    else if (direction == DIRECTION_READ)
        space_read(memory, address, data, bytes);
}

static size_t transfer(Dma *dma, unsigned channel, unsigned direction, uint8_t *data, size_t size,
                       bool *ret_tc)
{
    DmaController *c = &dma->controllers[channel >> 2 & 1];
    DmaChannel *ch = channel_of(dma, channel);
    unsigned programmed = ch->mode >> 2 & 3;
    bool words = channel >= 4;
    size_t unit = words ? 2 : 1, done = 0;
    *ret_tc = false;
    if (!dma_is_ready(dma, channel) || (programmed != direction && programmed != DIRECTION_VERIFY))
        return 0;
    while (!*ret_tc && size - done >= unit) {
        uint32_t left = ch->count + 1u;
        uint32_t units = contiguous_units(ch, MIN((size - done) / unit, left));
        copy_piece(dma, ch, words, programmed, data + done, units * unit);
        done += units * unit;
        ch->address += ch->mode & MODE_DECREMENT ? -1 : (int)units;
        ch->count -= units;
        if (units == left) {
            terminal_count(c, channel & 3);
            *ret_tc = true;
        }
    }
    return done;
}

size_t dma_transfer_write(Dma *dma, unsigned channel, const void *data, size_t size, bool *ret_tc)
{
    return transfer(dma, channel, DIRECTION_WRITE, (uint8_t *)data, size, ret_tc);
}

size_t dma_transfer_read(Dma *dma, unsigned channel, void *data, size_t size, bool *ret_tc)
{
    return transfer(dma, channel, DIRECTION_READ, data, size, ret_tc);
}

/* ---- registers ------------------------------------------------------------------------------- */

static uint8_t read_half(DmaController *c, uint16_t value)
{
    bool high = c->high_byte;
    c->high_byte = !high;
    return high ? value >> 8 : value;
}

static uint16_t write_half(uint16_t old, uint8_t value, bool high)
{
    return high ? (old & 0x00ff) | value << 8 : (old & 0xff00) | value;
}

static void write_channel(DmaController *c, unsigned reg, uint8_t value)
{
    DmaChannel *ch = &c->channels[reg >> 1];
    bool high = c->high_byte;
    c->high_byte = !high;
    if (reg & 1) {
        ch->base_count = write_half(ch->base_count, value, high);
        ch->count = write_half(ch->count, value, high);
    } else {
        ch->base_address = write_half(ch->base_address, value, high);
        ch->address = write_half(ch->address, value, high);
    }
}

static void master_clear(DmaController *c)
{
    c->command = c->request = c->terminal_count = 0;
    c->high_byte = false;
    c->mask = 0xf;
}

static uint8_t with_bit(uint8_t set, unsigned value)
{
    uint8_t bit = 1 << (value & 3);
    return value & 4 ? set | bit : set & ~bit;
}

static void write_register(DmaController *c, unsigned reg, uint8_t value)
{
    switch (reg) {
    case REG_STATUS:
        c->command = value;
        break;
    case REG_REQUEST:
        c->request = with_bit(c->request, value);
        break;
    case REG_MASK_ONE:
        c->mask = with_bit(c->mask, value);
        break;
    case REG_MODE:
        c->channels[value & 3].mode = value & 0xfc;
        break;
    case REG_FLIP_FLOP:
        c->high_byte = false;
        break;
    case REG_MASTER_CLEAR:
        master_clear(c);
        break;
    case REG_MASK_CLEAR:
        c->mask = 0;
        break;
    case REG_MASK_ALL:
        c->mask = value & 0xf;
        break;
    default:
        write_channel(c, reg, value);
        break;
    }
}

static uint8_t read_status(DmaController *c)
{
    uint8_t status = c->terminal_count | (c->dreq | c->request) << 4;
    c->terminal_count = 0;
    return status;
}

static uint8_t read_register(DmaController *c, unsigned reg)
{
    if (reg < 8)
        return read_half(c, reg & 1 ? c->channels[reg >> 1].count : c->channels[reg >> 1].address);
    if (reg == REG_STATUS)
        return read_status(c);
    if (reg == REG_MASK_ALL)
        return 0xf0 | c->mask;
    return reg == REG_MASTER_CLEAR ? 0 : 0xff; /* the temporary register */
}

static uint64_t low_read(void *obj, uint64_t offset, unsigned size)
{
    return read_register(&((Dma *)obj)->controllers[0], offset);
}

static void low_write(void *obj, uint64_t offset, unsigned size, uint64_t value)
{
    write_register(&((Dma *)obj)->controllers[0], offset, value);
}

/* The second controller hangs on address line 1. */
static uint64_t high_read(void *obj, uint64_t offset, unsigned size)
{
    return offset & 1 ? 0xff : read_register(&((Dma *)obj)->controllers[1], offset >> 1);
}

static void high_write(void *obj, uint64_t offset, unsigned size, uint64_t value)
{
    if (!(offset & 1))
        write_register(&((Dma *)obj)->controllers[1], offset >> 1, value);
}

static uint64_t page_read(void *obj, uint64_t offset, unsigned size)
{
    return ((Dma *)obj)->page_registers[offset];
}

static void page_write(void *obj, uint64_t offset, unsigned size, uint64_t value)
{
    Dma *dma = obj;
    dma->page_registers[offset] = value;
    if (page_channel[offset] >= 0)
        channel_of(dma, page_channel[offset])->page = value;
}

static const RegionOps low_ops = {
    .name = "dma-low", .read = low_read, .write = low_write, .max_access = 1};
static const RegionOps high_ops = {
    .name = "dma-high", .read = high_read, .write = high_write, .max_access = 1};
static const RegionOps page_ops = {
    .name = "dma-pages", .read = page_read, .write = page_write, .max_access = 1};

/* ---- device ---------------------------------------------------------------------------------- */

static bool dma_create(Device *device, GError **error)
{
    Dma *dma = (Dma *)device;
    region_init_io(&dma->io[0], &low_ops, dma, device->board->lock, 16);
    region_init_io(&dma->io[1], &high_ops, dma, device->board->lock, 32);
    region_init_io(&dma->pages, &page_ops, dma, device->board->lock, 16);
    return true;
}

static void dma_reset(Device *device)
{
    Dma *dma = (Dma *)device;
    memset(dma->controllers, 0, sizeof(dma->controllers));
    memset(dma->page_registers, 0, sizeof(dma->page_registers));
    for (unsigned i = 0; i < 2; i++)
        master_clear(&dma->controllers[i]);
}

static bool dma_loaded(Device *device, GError **error)
{
    const Dma *dma = (Dma *)device;
    for (unsigned i = 0; i < 2; i++) {
        const DmaController *c = &dma->controllers[i];
        if ((c->mask | c->request | c->dreq | c->terminal_count) & ~0xf) {
            g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                        "the saved state of %s names channels that no 8237 has", device->id);
            return false;
        }
    }
    return true;
}

static const StateField channel_state[] = {
    STATE_FIELD(DmaChannel, base_address, STATE_U16, 1),
    STATE_FIELD(DmaChannel, base_count, STATE_U16, 1),
    STATE_FIELD(DmaChannel, address, STATE_U16, 1),
    STATE_FIELD(DmaChannel, count, STATE_U16, 1),
    STATE_FIELD(DmaChannel, mode, STATE_U8, 1),
    STATE_FIELD(DmaChannel, page, STATE_U8, 1),
    STATE_LIST_END,
};

static const StateField controller_state[] = {
    STATE_STRUCTS(DmaController, channels, channel_state, 1),
    STATE_FIELD(DmaController, command, STATE_U8, 1),
    STATE_FIELD(DmaController, request, STATE_U8, 1),
    STATE_FIELD(DmaController, mask, STATE_U8, 1),
    STATE_FIELD(DmaController, dreq, STATE_U8, 1),
    STATE_FIELD(DmaController, terminal_count, STATE_U8, 1),
    STATE_FIELD(DmaController, high_byte, STATE_BOOL, 1),
    STATE_LIST_END,
};

static const StateField dma_state[] = {
    STATE_STRUCTS(Dma, controllers, controller_state, 1),
    STATE_ARRAY(Dma, page_registers, STATE_U8, 1),
    STATE_LIST_END,
};

const DeviceType dma_type = {
    .name = "dma-8237",
    .description = "8237A DMA controller pair",
    .instance_size = sizeof(Dma),
    .create = dma_create,
    .reset = dma_reset,
    .state_version = 1,
    .state = dma_state,
    .loaded = dma_loaded,
};
