/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * 8259A pair. Priorities are computed when needed, from IRR, IMR, ISR and the rotation.
 *
 * An edge stays latched in IRR after its line has dropped, so that a wire may pulse; the spurious
 * interrupt of input 7 comes when a request was masked, or a level dropped, before INTA. Threads:
 * pic.h.
 */
#include "device/chipset/pic.h"

#include "base/guest_log.h"

#define CASCADE 2

static uint8_t level_mask(const PicChip *chip)
{
    return chip->level_mode ? 0xff : chip->elcr;
}

static uint8_t requests(const PicChip *chip)
{
    uint8_t level = level_mask(chip);
    return (chip->irr & ~level) | (chip->lines & level);
}

/* The set bit of highest priority, or -1. */
static int highest(const PicChip *chip, uint8_t set)
{
    for (unsigned i = 1; set && i <= 8; i++) {
        unsigned n = (chip->lowest_priority + i) & 7;
        if (set & 1 << n)
            return n;
    }
    return -1;
}

static unsigned rank(const PicChip *chip, unsigned n)
{
    return (n - chip->lowest_priority - 1) & 7;
}

/* The input that may interrupt now, or -1. */
static int pending_input(const PicChip *chip, bool is_primary)
{
    int input = highest(chip, requests(chip) & ~chip->imr);
    uint8_t blocking = chip->isr;
    if (input < 0)
        return -1;
    if (chip->special_mask)
        blocking &= ~chip->imr;
    /* Special fully nested: another request of the secondary passes the one in service. */
    if (chip->special_fully_nested && is_primary)
        blocking &= ~(1 << CASCADE);
    /* In special mask mode everything that is not masked or in service itself may interrupt. */
    if (chip->special_mask)
        return highest(chip, requests(chip) & ~chip->imr & ~blocking);
    int in_service = highest(chip, blocking);
    return in_service < 0 || rank(chip, input) < rank(chip, in_service) ? input : -1;
}

static void set_chip_line(PicChip *chip, unsigned n, bool level)
{
    uint8_t bit = 1 << n;
    if (level && !(chip->lines & bit))
        chip->irr |= bit;
    chip->lines = level ? chip->lines | bit : chip->lines & ~bit;
    if (!level && (level_mask(chip) & bit))
        chip->irr &= ~bit;
}

static void update(Pic *pic)
{
    set_chip_line(&pic->chip[0], CASCADE, pending_input(&pic->chip[1], false) >= 0);
    bool level = pending_input(&pic->chip[0], true) >= 0;
    if (level != pic->intr_level) {
        pic->intr_level = level;
        irq_set(pic->intr, level);
    }
}

static void set_line(void *obj, unsigned n, bool level)
{
    Pic *pic = obj;
    set_chip_line(&pic->chip[n >> 3], n & 7, level);
    update(pic);
}

IrqLine pic_irq(Pic *pic, unsigned n)
{
    g_assert(n < 16);
    if (n == CASCADE)
        return (IrqLine){0};
    return (IrqLine){.set = set_line, .obj = pic, .n = n};
}

static void acknowledge_chip(PicChip *chip, unsigned n)
{
    if (!(level_mask(chip) & 1 << n))
        chip->irr &= ~(1 << n);
    if (!chip->auto_eoi)
        chip->isr |= 1 << n;
    else if (chip->rotate_on_auto_eoi)
        chip->lowest_priority = n;
}

/* INTR drops with INTA and rises again if more is pending: an edge for whoever looks for one. */
static void drop_intr(Pic *pic)
{
    if (pic->intr_level) {
        pic->intr_level = false;
        irq_set(pic->intr, false);
    }
}

static int acknowledge(Pic *pic)
{
    PicChip *primary = &pic->chip[0], *secondary = &pic->chip[1];
    int n = pending_input(primary, true);
    if (n < 0)
        return primary->vector_base + 7;
    acknowledge_chip(primary, n);
    if (n != CASCADE)
        return primary->vector_base + n;
    int m = pending_input(secondary, false);
    if (m < 0)
        return secondary->vector_base + 7;
    acknowledge_chip(secondary, m);
    return secondary->vector_base + m;
}

bool pic_is_unmasked(const Pic *pic, unsigned n)
{
    return !(pic->chip[n / 8].imr >> n % 8 & 1);
}

bool pic_is_pending(const Pic *pic, unsigned n)
{
    return pic->chip[n / 8].irr >> n % 8 & 1;
}

int pic_acknowledge(Pic *pic)
{
    g_rec_mutex_lock(pic->device.board->lock);
    int vector = acknowledge(pic);
    drop_intr(pic);
    update(pic);
    g_rec_mutex_unlock(pic->device.board->lock);
    return vector;
}

/* ---- commands -------------------------------------------------------------------------------- */

static void write_icw1(PicChip *chip, uint8_t value)
{
    chip->needs_icw4 = value & 1;
    chip->single = value & 2;
    chip->level_mode = value & 8;
    chip->init_step = 2;
    chip->imr = chip->isr = 0;
    chip->irr = 0; /* the edge sense circuit wants a new rising edge */
    chip->lowest_priority = 7;
    chip->special_mask = chip->read_isr = chip->poll = false;
    chip->auto_eoi = chip->rotate_on_auto_eoi = chip->special_fully_nested = false;
}

enum { /* OCW2 bits 7:5, R SL EOI */
       OCW2_ROTATE_AEOI_CLEAR,
       OCW2_EOI,
       OCW2_NOP,
       OCW2_SPECIFIC_EOI,
       OCW2_ROTATE_AEOI_SET,
       OCW2_ROTATE_EOI,
       OCW2_SET_PRIORITY,
       OCW2_ROTATE_SPECIFIC_EOI,
};

static void write_ocw2(PicChip *chip, uint8_t value)
{
    unsigned command = value >> 5;
    int n = value & 7;
    if (command == OCW2_EOI ||
        command == OCW2_ROTATE_EOI) /* masked bits survive in special mask mode */
        n = highest(chip, chip->special_mask ? chip->isr & ~chip->imr : chip->isr);
    switch (command) {
    case OCW2_ROTATE_AEOI_CLEAR:
    case OCW2_ROTATE_AEOI_SET:
        chip->rotate_on_auto_eoi = command == OCW2_ROTATE_AEOI_SET;
        break;
    case OCW2_EOI:
    case OCW2_SPECIFIC_EOI:
    case OCW2_ROTATE_EOI:
    case OCW2_ROTATE_SPECIFIC_EOI:
        if (n < 0)
            break;
        chip->isr &= ~(1 << n);
        if (command == OCW2_ROTATE_EOI || command == OCW2_ROTATE_SPECIFIC_EOI)
            chip->lowest_priority = n;
        break;
    case OCW2_SET_PRIORITY:
        chip->lowest_priority = n;
        break;
    default:
        break;
    }
}

static void write_ocw3(PicChip *chip, uint8_t value)
{
    if (value & 4)
        chip->poll = true;
    else if (value & 2) /* poll wins over a register read */
        chip->read_isr = value & 1;
    if (value & 0x40)
        chip->special_mask = value & 0x20;
}

static void write_icw(PicChip *chip, uint8_t value)
{
    switch (chip->init_step) {
    case 2:
        chip->vector_base = value & 0xf8;
        chip->init_step = !chip->single ? 3 : chip->needs_icw4 ? 4 : 0;
        break;
    case 3: /* the cascade is wired to input 2, whatever is said */
        chip->init_step = chip->needs_icw4 ? 4 : 0;
        break;
    default:
        chip->auto_eoi = value & 2;
        chip->special_fully_nested = value & 0x10;
        chip->init_step = 0;
        break;
    }
}

static void pic_write(Pic *pic, unsigned index, uint64_t offset, uint8_t value)
{
    PicChip *chip = &pic->chip[index];
    if (offset == 0 && (value & 0x10))
        write_icw1(chip, value);
    else if (offset == 0 && (value & 0x08))
        write_ocw3(chip, value);
    else if (offset == 0)
        write_ocw2(chip, value);
    else if (chip->init_step)
        write_icw(chip, value);
    else
        chip->imr = value;
    update(pic);
}

static uint8_t read_poll(Pic *pic, unsigned index)
{
    PicChip *chip = &pic->chip[index];
    int n = pending_input(chip, index == 0);
    chip->poll = false;
    if (n < 0)
        return 7;
    acknowledge_chip(chip, n);
    drop_intr(pic);
    update(pic);
    return 0x80 | n;
}

static uint8_t pic_read(Pic *pic, unsigned index, uint64_t offset)
{
    PicChip *chip = &pic->chip[index];
    if (chip->poll)
        return read_poll(pic, index);
    if (offset == 1)
        return chip->imr;
    return chip->read_isr ? chip->isr : requests(chip);
}

static uint64_t primary_read(void *obj, uint64_t offset, unsigned size)
{
    return pic_read(obj, 0, offset);
}

static void primary_write(void *obj, uint64_t offset, unsigned size, uint64_t value)
{
    pic_write(obj, 0, offset, value);
}

static uint64_t secondary_read(void *obj, uint64_t offset, unsigned size)
{
    return pic_read(obj, 1, offset);
}

static void secondary_write(void *obj, uint64_t offset, unsigned size, uint64_t value)
{
    pic_write(obj, 1, offset, value);
}

/* IRQ 0, 1, 2, 8 and 13 are edge-triggered for good … */
static const uint8_t elcr_mask[2] = {0xf8, 0xde};
/* … but the cascade, whose INT pulses with every INTA, is best seen as a level. */
static const uint8_t elcr_fixed[2] = {1 << CASCADE, 0};

static uint64_t elcr_read(void *obj, uint64_t offset, unsigned size)
{
    const Pic *pic = obj;
    return pic->chip[offset].elcr & elcr_mask[offset];
}

static void elcr_write(void *obj, uint64_t offset, unsigned size, uint64_t value)
{
    Pic *pic = obj;
    pic->chip[offset].elcr = (value & elcr_mask[offset]) | elcr_fixed[offset];
    update(pic);
}

static const RegionOps io_ops[2] = {
    {.name = "pic-primary", .read = primary_read, .write = primary_write, .max_access = 1},
    {.name = "pic-secondary", .read = secondary_read, .write = secondary_write, .max_access = 1},
};
static const RegionOps elcr_ops = {
    .name = "pic-elcr", .read = elcr_read, .write = elcr_write, .max_access = 1};

/* ---- device ---------------------------------------------------------------------------------- */

static bool pic_create(Device *device, GError **error)
{
    Pic *pic = (Pic *)device;
    for (unsigned i = 0; i < 2; i++)
        region_init_io(&pic->io[i], &io_ops[i], pic, device->board->lock, 2);
    region_init_io(&pic->elcr, &elcr_ops, pic, device->board->lock, 2);
    return true;
}

/* The inputs keep their levels: they belong to the wires. */
static void pic_reset(Device *device)
{
    Pic *pic = (Pic *)device;
    for (unsigned i = 0; i < 2; i++) {
        uint8_t lines = pic->chip[i].lines;
        pic->chip[i] = (PicChip){.lines = lines, .lowest_priority = 7, .elcr = elcr_fixed[i]};
    }
    pic->chip[0].lines &= ~(1 << CASCADE);
    update(pic);
}

static bool pic_loaded(Device *device, GError **error)
{
    Pic *pic = (Pic *)device;
    for (unsigned i = 0; i < 2; i++) {
        const PicChip *chip = &pic->chip[i];
        if (chip->lowest_priority > 7 || chip->init_step > 4 || chip->init_step == 1 ||
            (chip->vector_base & 7) || (chip->elcr & ~elcr_mask[i]) != elcr_fixed[i]) {
            g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                        "the saved state of %s holds values that no 8259A can have", device->id);
            return false;
        }
    }
    pic->intr_level = pending_input(&pic->chip[0], true) >= 0;
    return true;
}

static const StateField chip_state[] = {
    STATE_FIELD(PicChip, irr, STATE_U8, 1),
    STATE_FIELD(PicChip, imr, STATE_U8, 1),
    STATE_FIELD(PicChip, isr, STATE_U8, 1),
    STATE_FIELD(PicChip, lines, STATE_U8, 1),
    STATE_FIELD(PicChip, elcr, STATE_U8, 1),
    STATE_FIELD(PicChip, vector_base, STATE_U8, 1),
    STATE_FIELD(PicChip, lowest_priority, STATE_U8, 1),
    STATE_FIELD(PicChip, init_step, STATE_U8, 1),
    STATE_FIELD(PicChip, needs_icw4, STATE_BOOL, 1),
    STATE_FIELD(PicChip, single, STATE_BOOL, 1),
    STATE_FIELD(PicChip, level_mode, STATE_BOOL, 1),
    STATE_FIELD(PicChip, auto_eoi, STATE_BOOL, 1),
    STATE_FIELD(PicChip, rotate_on_auto_eoi, STATE_BOOL, 1),
    STATE_FIELD(PicChip, special_mask, STATE_BOOL, 1),
    STATE_FIELD(PicChip, special_fully_nested, STATE_BOOL, 1),
    STATE_FIELD(PicChip, read_isr, STATE_BOOL, 1),
    STATE_FIELD(PicChip, poll, STATE_BOOL, 1),
    STATE_LIST_END,
};

static const StateField pic_state[] = {
    STATE_STRUCTS(Pic, chip, chip_state, 1),
    STATE_LIST_END,
};

const DeviceType pic_type = {
    .name = "pic-8259",
    .description = "8259A interrupt controller pair",
    .instance_size = sizeof(Pic),
    .create = pic_create,
    .reset = pic_reset,
    .state_version = 1,
    .state = pic_state,
    .loaded = pic_loaded,
};
