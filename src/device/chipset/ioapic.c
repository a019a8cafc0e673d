/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * I/O APIC. A redirection entry:
 *
 *     63   56 55      17 16   15      14         13       12       11        10  8 7    0
 *     dest    reserved   mask trigger remote IRR polarity delivery dest mode mode  vector
 *                                     (r/o)               (r/o, 0)
 *
 * Invariant: remote IRR is set only in level-triggered entries. Threads: ioapic.h.
 */
#include "device/chipset/ioapic.h"

#include "base/bits.h"
#include "base/guest_log.h"

enum {
    REG_SELECT = 0x00,
    REG_WINDOW = 0x10,
    REG_EOI = 0x40,

    INDEX_ID = 0,
    INDEX_VERSION = 1,
    INDEX_ARBITRATION = 2,
    INDEX_ENTRIES = 0x10,

    MODE_FIXED = 0,
    MODE_LOWEST = 1,

    ENTRY_REMOTE_IRR = 1 << 14,
    ENTRY_LEVEL = 1 << 15,
    ENTRY_MASKED = 1 << 16,
};
#define ENTRY_READ_ONLY UINT64_C(0x5000)
#define ENTRY_BITS      UINT64_C(0xff0000000001ffff)

/* Only fixed and lowest-priority interrupts can be level-triggered: 82093AA 3.2.4. */
static bool is_level(uint64_t entry)
{
    unsigned mode = bits_get(entry, 8, 3);
    return (entry & ENTRY_LEVEL) && (mode == MODE_FIXED || mode == MODE_LOWEST);
}

static void send(IoApic *ioapic, uint64_t entry)
{
    uint64_t address = 0xfee00000 | bits_get(entry, 56, 8) << 12 | bits_get(entry, 11, 1) << 2;
    uint32_t data = bits_get(entry, 0, 8) | bits_get(entry, 8, 3) << 8;
    if (is_level(entry))
        data |= 1 << 15 | 1 << 14;
    if (ioapic->deliver)
        ioapic->deliver(ioapic->deliver_obj, address, data);
}

/* A level that is up sends once, until its EOI. */
static void send_level(IoApic *ioapic, unsigned n)
{
    uint64_t *entry = &ioapic->entries[n];
    if (!is_level(*entry) || (*entry & (ENTRY_MASKED | ENTRY_REMOTE_IRR)) ||
        !(ioapic->lines & 1u << n))
        return;
    *entry |= ENTRY_REMOTE_IRR;
    send(ioapic, *entry);
}

static void set_line(void *obj, unsigned n, bool level)
{
    IoApic *ioapic = obj;
    uint32_t bit = 1u << n;
    bool rising = level && !(ioapic->lines & bit);
    ioapic->lines = level ? ioapic->lines | bit : ioapic->lines & ~bit;
    uint64_t entry = ioapic->entries[n];
    if (is_level(entry))
        send_level(ioapic, n);
    else if (rising && !(entry & ENTRY_MASKED)) /* an edge on a masked input is lost */
        send(ioapic, entry);
}

IrqLine ioapic_irq(IoApic *ioapic, unsigned n)
{
    g_assert(n < IOAPIC_PINS);
    return (IrqLine){.set = set_line, .obj = ioapic, .n = n};
}

static void end_vector(IoApic *ioapic, uint8_t vector)
{
    for (unsigned n = 0; n < IOAPIC_PINS; n++) {
        uint64_t *entry = &ioapic->entries[n];
        if ((*entry & 0xff) != vector || !(*entry & ENTRY_REMOTE_IRR))
            continue;
        *entry &= ~(uint64_t)ENTRY_REMOTE_IRR;
        send_level(ioapic, n);
    }
}

int ioapic_vector(const IoApic *ioapic, unsigned n)
{
    uint64_t entry = ioapic->entries[n];
    unsigned delivery = bits_get(entry, 8, 3); /* 0 fixed, 1 lowest priority */
    return (entry & ENTRY_MASKED) || delivery > 1 ? -1 : (int)(entry & 0xff);
}

void ioapic_eoi(IoApic *ioapic, uint8_t vector)
{
    g_rec_mutex_lock(ioapic->device.board->lock);
    end_vector(ioapic, vector);
    g_rec_mutex_unlock(ioapic->device.board->lock);
}

void ioapic_end_others(IoApic *ioapic, bool (*is_held)(void *obj, uint8_t vector), void *obj)
{
    g_rec_mutex_lock(ioapic->device.board->lock);
    for (unsigned n = 0; n < IOAPIC_PINS; n++) {
        uint8_t vector = ioapic->entries[n] & 0xff;
        if (ioapic->entries[n] & ENTRY_REMOTE_IRR && !is_held(obj, vector))
            end_vector(ioapic, vector);
    }
    g_rec_mutex_unlock(ioapic->device.board->lock);
}

static void write_entry(IoApic *ioapic, unsigned n, unsigned half, uint32_t value)
{
    uint64_t *entry = &ioapic->entries[n];
    uint64_t wanted = bits_set(*entry, half * 32, 32, value) & ENTRY_BITS & ~ENTRY_READ_ONLY;
    *entry = wanted | (*entry & ENTRY_READ_ONLY);
    if (!is_level(*entry))
        *entry &= ~(uint64_t)ENTRY_REMOTE_IRR;
    send_level(ioapic, n);
}

static uint32_t read_window(const IoApic *ioapic)
{
    unsigned entry = ioapic->select - INDEX_ENTRIES;
    if (entry < 2 * IOAPIC_PINS)
        return ioapic->entries[entry / 2] >> (entry % 2 * 32);
    switch (ioapic->select) {
    case INDEX_ID:
    case INDEX_ARBITRATION:
        return (uint32_t)ioapic->id << 24;
    case INDEX_VERSION:
        return ioapic->version | (IOAPIC_PINS - 1) << 16;
    default:
        return 0;
    }
}

static void write_window(IoApic *ioapic, uint32_t value)
{
    unsigned entry = ioapic->select - INDEX_ENTRIES;
    if (entry < 2 * IOAPIC_PINS)
        write_entry(ioapic, entry / 2, entry % 2, value);
    else if (ioapic->select == INDEX_ID)
        ioapic->id = value >> 24 & 0xf;
}

static uint64_t ioapic_read(void *obj, uint64_t offset, unsigned size)
{
    const IoApic *ioapic = obj;
    switch (offset & 0xff) {
    case REG_SELECT:
        return ioapic->select;
    case REG_WINDOW:
        return read_window(ioapic);
    default:
        return 0;
    }
}

static void ioapic_write(void *obj, uint64_t offset, unsigned size, uint64_t value)
{
    IoApic *ioapic = obj;
    switch (offset & 0xff) {
    case REG_SELECT:
        ioapic->select = value;
        break;
    case REG_WINDOW:
        write_window(ioapic, value);
        break;
    case REG_EOI:
        if (ioapic->version >= 0x20)
            end_vector(ioapic, value);
        break;
    default:
        guest_log("ioapic", "write of %#x to offset %#x", (unsigned)value, (unsigned)offset);
        break;
    }
}

static const RegionOps ioapic_ops = {
    .name = "ioapic",
    .read = ioapic_read,
    .write = ioapic_write,
    .min_access = 4,
    .max_access = 4,
};

static bool ioapic_create(Device *device, GError **error)
{
    IoApic *ioapic = (IoApic *)device;
    if (ioapic->version != 0x11 && ioapic->version != 0x20) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    "%s: there is no I/O APIC version %#x; use 0x11 or 0x20", device->id,
                    ioapic->version);
        return false;
    }
    region_init_io(&ioapic->io, &ioapic_ops, ioapic, device->board->lock, 0x1000);
    return true;
}

static void ioapic_reset(Device *device)
{
    IoApic *ioapic = (IoApic *)device;
    ioapic->select = 0;
    ioapic->id = 0;
    for (unsigned n = 0; n < IOAPIC_PINS; n++)
        ioapic->entries[n] = ENTRY_MASKED;
}

static bool ioapic_loaded(Device *device, GError **error)
{
    const IoApic *ioapic = (IoApic *)device;
    bool valid = ioapic->id < 16 && !(ioapic->lines >> IOAPIC_PINS);
    for (unsigned n = 0; n < IOAPIC_PINS; n++) {
        uint64_t entry = ioapic->entries[n];
        valid = valid && !(entry & ~ENTRY_BITS) && (!(entry & ENTRY_REMOTE_IRR) || is_level(entry));
    }
    if (!valid)
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    "the saved state of %s holds values that no I/O APIC can have", device->id);
    return valid;
}

static const StateField ioapic_state[] = {
    STATE_FIELD(IoApic, select, STATE_U8, 1),
    STATE_FIELD(IoApic, id, STATE_U8, 1),
    STATE_FIELD(IoApic, lines, STATE_U32, 1),
    STATE_ARRAY(IoApic, entries, STATE_U64, 1),
    STATE_LIST_END,
};

static const DeviceOption ioapic_options[] = {
    {"version", OPTION_U32, offsetof(IoApic, version), "0x20", 0x20,
     "0x11 (82093AA) or 0x20 (EOI register)"},
    {NULL},
};

const DeviceType ioapic_type = {
    .name = "ioapic",
    .description = "I/O APIC",
    .instance_size = sizeof(IoApic),
    .options = ioapic_options,
    .create = ioapic_create,
    .reset = ioapic_reset,
    .state_version = 1,
    .state = ioapic_state,
    .loaded = ioapic_loaded,
};
