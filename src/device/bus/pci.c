/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * PCI bus 0: configuration mechanism #1, BAR decoding, INTx and MSI.
 *
 * Invariants: config[] is what the guest reads; a BAR is mapped exactly when its decode bit in the
 * command register is set and its whole range is addressable. The INTx wire of a slot's pin is the
 * OR of what its functions drive. Everything here runs with the board lock held.
 * Source: PCI Local Bus 3.0 §3.2.2.3.2 (mechanism #1), §6.2 (header), §6.8.1 (MSI).
 */
#include "device/bus/pci.h"

#include "base/bits.h"

#define PCI_DEVFN_COUNT   256
#define PCI_FIRST_SLOT    3
#define PCI_CONFIG_PORTS  8
#define PCI_ADDRESS_WMASK 0x80fffffcu
#define PCI_IO_LIMIT      UINT64_C(0x10000)
#define PCI_MEM32_LIMIT   GIB(4)
/* Above it no guest CPU can address; also what keeps address + size from overflowing. */
#define PCI_MEM64_LIMIT (UINT64_C(1) << 46)

#define PCI_STATUS_INTX         0x08
#define PCI_STATUS_CAPABILITIES 0x10
#define PCI_HEADER_MULTIFUNC    0x80
#define PCI_ROM_ENABLE          1u
#define PCI_CAP_MSI             0x05
#define PCI_MSI_SIZE            14
#define PCI_FIRST_CAPABILITY    0x40
#define PCI_ROM_MAX             MIB(16)

/*
 *  MSI capability, 64-bit, one vector:
 *   +0 id  +1 next  +2 control (0: enable, 6-4: vectors, 7: 64-bit)  +4 address  +8 high  +12 data
 */
enum { MSI_CONTROL = 2, MSI_ADDRESS = 4, MSI_ADDRESS_HIGH = 8, MSI_DATA = 12 };

struct PciBus {
    Device device;
    uint32_t address; /* the latch at 0xcf8 */
    Region ports;
    Region *reset_port;
    PciIntxFn intx;
    void *intx_obj;
    PciDevice *devices[PCI_DEVFN_COUNT];
};

typedef struct PciRom {
    Region region;
    Ram *ram;
} PciRom;

/* ---- BARs ------------------------------------------------------------------------------------ */

static unsigned pci_bar_offset(unsigned bar)
{
    return bar == PCI_ROM_SLOT ? PCI_ROM_ADDRESS : PCI_BAR0 + bar * 4;
}

/* Type bits that reads always show. */
static uint32_t pci_bar_type_bits(PciBarKind kind)
{
    switch (kind) {
    case PCI_BAR_IO:
        return 1;
    case PCI_BAR_MEM64:
        return 4 | 8;
    case PCI_BAR_MEM32_PREFETCH:
        return 8;
    default:
        return 0;
    }
}

static uint64_t pci_bar_limit(PciBarKind kind)
{
    switch (kind) {
    case PCI_BAR_IO:
        return PCI_IO_LIMIT;
    case PCI_BAR_MEM64:
        return PCI_MEM64_LIMIT;
    default:
        return PCI_MEM32_LIMIT;
    }
}

static AddressSpace *pci_bar_space(PciDevice *device, PciBarKind kind)
{
    return kind == PCI_BAR_IO ? device->device.board->ports : device->device.board->memory;
}

/* True when the guest has this BAR decoded somewhere it can be reached. Address 0 counts as not
 * programmed: it is where BARs stand after reset. */
static bool pci_bar_wanted(const PciDevice *device, unsigned bar, uint64_t *ret_address)
{
    const PciBar *b = &device->bars[bar];
    const uint8_t *reg = device->config + pci_bar_offset(bar);
    uint16_t command = load_le16(device->config + PCI_COMMAND);
    uint64_t address = load_le32(reg);

    if (!(command & (b->kind == PCI_BAR_IO ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY)))
        return false;
    if (bar == PCI_ROM_SLOT && !(address & PCI_ROM_ENABLE))
        return false;
    if (b->kind == PCI_BAR_MEM64)
        address |= (uint64_t)load_le32(reg + 4) << 32;
    address = align_down(address, b->region->size);
    *ret_address = address;
    return address && address < pci_bar_limit(b->kind) &&
           b->region->size <= pci_bar_limit(b->kind) - address;
}

static void pci_bar_unmap(PciDevice *device, PciBar *bar)
{
    space_unmap(pci_bar_space(device, bar->kind), bar->mapping);
    bar->mapping = NULL;
}

static void pci_bar_update(PciDevice *device, unsigned bar)
{
    PciBar *b = &device->bars[bar];
    uint64_t address = 0;

    if (b->kind == PCI_BAR_NONE)
        return;
    bool wanted = pci_bar_wanted(device, bar, &address);
    if (b->mapping && (!wanted || address != b->address))
        pci_bar_unmap(device, b);
    if (wanted && !b->mapping) {
        b->mapping = space_map(pci_bar_space(device, b->kind), address, b->region, 0,
                               b->region->size, SPACE_PRIORITY_PCI, false);
        b->address = address;
    }
}

static void pci_update_mappings(PciDevice *device)
{
    Board *board = device->device.board;

    if (!device->bus)
        return;
    space_begin(board->memory);
    space_begin(board->ports);
    for (unsigned i = 0; i <= PCI_ROM_SLOT; i++)
        pci_bar_update(device, i);
    space_commit(board->ports);
    space_commit(board->memory);
}

void pci_add_bar(PciDevice *device, unsigned bar, PciBarKind kind, Region *region)
{
    unsigned offset = pci_bar_offset(bar);
    uint64_t mask = ~(region->size - 1);

    g_assert(bar <= PCI_ROM_SLOT && kind != PCI_BAR_NONE && is_power_of_two(region->size));
    g_assert(region->size >= (kind == PCI_BAR_IO ? 4 : 16));
    g_assert(kind != PCI_BAR_MEM64 || bar < PCI_BAR_COUNT - 1);
    device->bars[bar] = (PciBar){.kind = kind, .region = region};
    store_le32(device->config + offset, pci_bar_type_bits(kind));
    store_le32(device->wmask + offset, (uint32_t)mask);
    if (bar == PCI_ROM_SLOT)
        device->wmask[offset] |= PCI_ROM_ENABLE;
    if (kind == PCI_BAR_MEM64)
        store_le32(device->wmask + offset + 4, mask >> 32);
}

bool pci_add_rom(PciDevice *device, const uint8_t *data, size_t size, GError **error)
{
    size_t rounded = GUEST_PAGE_SIZE;

    if (!size || size > PCI_ROM_MAX) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    "the option ROM of %s has %zu bytes; it must have 1 to %" G_GUINT64_FORMAT,
                    device->device.id, size, PCI_ROM_MAX);
        return false;
    }
    while (rounded < size)
        rounded *= 2;
    Ram *ram = ram_new("option-rom", rounded, error);
    if (!ram)
        return false;
    memcpy(ram->host, data, size);
    PciRom *rom = g_new0(PciRom, 1);
    rom->ram = ram;
    device->rom = rom;
    region_init_ram(&rom->region, REGION_ROM, ram, 0, rounded);
    pci_add_bar(device, PCI_ROM_SLOT, PCI_BAR_MEM32, &rom->region);
    return true;
}

static void pci_rom_free(PciDevice *device)
{
    if (!device->rom)
        return;
    device->bars[PCI_ROM_SLOT] = (PciBar){0};
    ram_free(device->rom->ram);
    g_clear_pointer(&device->rom, g_free);
}

/* ---- interrupts ------------------------------------------------------------------------------ */

bool pci_msi_enabled(const PciDevice *device)
{
    return device->msi_offset && (device->config[device->msi_offset + MSI_CONTROL] & 1);
}

static bool pci_intx_driven(const PciDevice *device)
{
    return device->intx_level && !pci_msi_enabled(device) &&
           !(load_le16(device->config + PCI_COMMAND) & PCI_COMMAND_INTX_OFF);
}

/* Puts the OR of all functions that share the pin on the wire. */
static void pci_intx_update(PciDevice *device)
{
    PciBus *bus = device->bus;
    uint8_t pin = device->config[PCI_INTERRUPT_PIN];
    unsigned slot = device->devfn >> 3;
    bool level = false;

    if (!bus || !bus->intx || pin < 1 || pin > 4)
        return;
    for (unsigned f = 0; f < 8; f++) {
        PciDevice *other = bus->devices[PCI_DEVFN(slot, f)];
        if (other && other->config[PCI_INTERRUPT_PIN] == pin)
            level |= pci_intx_driven(other);
    }
    bus->intx(bus->intx_obj, slot, pin - 1, level);
}

void pci_set_intx(PciDevice *device, bool level)
{
    if (device->intx_level == level)
        return;
    device->intx_level = level;
    device->config[PCI_STATUS] = bits_set(device->config[PCI_STATUS], 3, 1, level);
    pci_intx_update(device);
}

void pci_send_msi(PciDevice *device)
{
    const uint8_t *cap = device->config + device->msi_offset;
    Board *board = device->device.board;

    if (!pci_msi_enabled(device) || !board->send_msi)
        return;
    /* An MSI is a memory write of the device, so it needs bus mastering as any other. */
    if (!(load_le16(device->config + PCI_COMMAND) & PCI_COMMAND_MASTER))
        return;
    board->send_msi(board->obj,
                    load_le32(cap + MSI_ADDRESS) | (uint64_t)load_le32(cap + MSI_ADDRESS_HIGH)
                                                       << 32,
                    load_le16(cap + MSI_DATA));
}

void pci_set_irq(PciDevice *device, bool level)
{
    bool rises = level && !device->intx_level;

    pci_set_intx(device, level);
    if (rises)
        pci_send_msi(device);
}

/* ---- a device -------------------------------------------------------------------------------- */

void pci_device_init(PciDevice *device, uint16_t vendor, uint16_t device_id, uint16_t class,
                     uint8_t prog_if, uint8_t revision)
{
    uint8_t *config = device->config;

    device->vendor = vendor;
    device->device_id = device_id;
    store_le16(config + PCI_VENDOR_ID, vendor);
    store_le16(config + PCI_DEVICE_ID, device_id);
    store_le16(config + PCI_CLASS, class);
    config[PCI_CLASS_PROG] = prog_if;
    config[PCI_REVISION] = revision;
    store_le16(device->wmask + PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MEMORY |
                                                PCI_COMMAND_MASTER | PCI_COMMAND_INTX_OFF |
                                                0x0140 /* parity response, SERR# */);
    store_le16(device->w1cmask + PCI_STATUS, 0xf900);
    device->wmask[0x0c] = 0xff; /* cache line size */
    device->wmask[0x0d] = 0xf8; /* latency timer, in steps of 8 clocks */
    device->wmask[PCI_INTERRUPT_LINE] = 0xff;
}

void pci_set_interrupt_pin(PciDevice *device, uint8_t pin)
{
    g_assert(pin >= 1 && pin <= 4);
    device->config[PCI_INTERRUPT_PIN] = pin;
}

uint8_t pci_add_capability(PciDevice *device, uint8_t id, uint8_t size)
{
    unsigned at = align_up(MAX(device->capabilities_end, PCI_FIRST_CAPABILITY), 4);

    g_assert(at + size <= PCI_CONFIG_SIZE);
    device->config[at] = id;
    device->config[at + 1] = device->config[PCI_CAPABILITIES];
    device->config[PCI_CAPABILITIES] = at;
    device->config[PCI_STATUS] |= PCI_STATUS_CAPABILITIES;
    device->capabilities_end = at + size;
    return at;
}

void pci_add_msi(PciDevice *device)
{
    uint8_t at = pci_add_capability(device, PCI_CAP_MSI, PCI_MSI_SIZE);
    uint8_t *wmask = device->wmask + at;

    device->msi_offset = at;
    store_le16(device->config + at + MSI_CONTROL, 0x80);
    store_le16(wmask + MSI_CONTROL, 0x71);
    store_le32(wmask + MSI_ADDRESS, 0xfffffffc);
    store_le32(wmask + MSI_ADDRESS_HIGH, 0xffffffff);
    store_le16(wmask + MSI_DATA, 0xffff);
}

static void pci_clear_writable(PciDevice *device, unsigned offset, unsigned size)
{
    for (unsigned i = offset; i < offset + size; i++)
        device->config[i] &= ~(device->wmask[i] | device->w1cmask[i]);
}

void pci_device_reset(PciDevice *device)
{
    pci_set_intx(device, false);
    pci_clear_writable(device, PCI_COMMAND, 4);
    pci_clear_writable(device, 0x0c, 2);
    pci_clear_writable(device, PCI_BAR0, PCI_BAR_COUNT * 4);
    pci_clear_writable(device, PCI_ROM_ADDRESS, 4);
    pci_clear_writable(device, PCI_INTERRUPT_LINE, 1);
    if (device->msi_offset)
        pci_clear_writable(device, device->msi_offset, PCI_MSI_SIZE);
    pci_update_mappings(device);
    pci_intx_update(device);
}

static bool pci_may_master(const PciDevice *device)
{
    return load_le16(device->config + PCI_COMMAND) & PCI_COMMAND_MASTER;
}

bool pci_dma_read(PciDevice *device, uint64_t address, void *data, size_t size)
{
    if (!pci_may_master(device)) {
        memset(data, 0xff, size);
        return false;
    }
    return space_read(device->device.board->memory, address, data, size);
}

bool pci_dma_write(PciDevice *device, uint64_t address, const void *data, size_t size)
{
    return pci_may_master(device) && space_write(device->device.board->memory, address, data, size);
}

const StateField pci_state_fields[] = {
    STATE_ARRAY(PciDevice, config, STATE_BYTES, 1),
    STATE_FIELD(PciDevice, intx_level, STATE_BOOL, 1),
    STATE_LIST_END,
};

bool pci_device_loaded(PciDevice *device, GError **error)
{
    uint16_t vendor = load_le16(device->config + PCI_VENDOR_ID);
    uint16_t id = load_le16(device->config + PCI_DEVICE_ID);

    if (vendor != device->vendor || id != device->device_id) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    "the saved state of %s is of PCI device %04x:%04x, but the machine has "
                    "%04x:%04x there; restore it into the machine it was saved from",
                    device->device.id, vendor, id, device->vendor, device->device_id);
        return false;
    }
    pci_update_mappings(device);
    return true;
}

/* ---- configuration accesses ------------------------------------------------------------------ */

uint32_t pci_config_read(PciDevice *device, unsigned offset, unsigned size)
{
    uint32_t value = 0;

    for (unsigned i = 0; i < size; i++) {
        uint8_t byte = offset + i < PCI_CONFIG_SIZE ? device->config[offset + i] : 0xff;
        value |= (uint32_t)byte << (8 * i);
    }
    return value;
}

void pci_config_write(PciDevice *device, unsigned offset, unsigned size, uint32_t value)
{
    for (unsigned i = 0; i < size && offset + i < PCI_CONFIG_SIZE; i++) {
        uint8_t *byte = &device->config[offset + i];
        uint8_t wmask = device->wmask[offset + i];
        uint8_t written = value >> (8 * i);

        *byte = (*byte & ~wmask) | (written & wmask);
        *byte &= ~(written & device->w1cmask[offset + i]);
    }
    pci_update_mappings(device);
    pci_intx_update(device);
    if (device->config_written)
        device->config_written(device, offset, size);
}

/* ---- the bus --------------------------------------------------------------------------------- */

/* The function that the latch selects, or NULL. */
static PciDevice *pci_bus_selected(PciBus *bus)
{
    if (!bits_get(bus->address, 31, 1) || bits_get(bus->address, 16, 8) != 0)
        return NULL;
    return bus->devices[bits_get(bus->address, 8, 8)];
}

static uint64_t pci_ports_read(void *obj, uint64_t offset, unsigned size)
{
    PciBus *bus = obj;
    PciDevice *device = pci_bus_selected(bus);

    if (offset == 0 && size == 4)
        return bus->address;
    if (offset == 1 && size == 1 && bus->reset_port)
        return bus->reset_port->ops->read(bus->reset_port->obj, 0, 1);
    if (offset < 4 || !device)
        return UINT32_MAX;
    return pci_config_read(device, (bus->address & 0xfc) + (offset - 4),
                           MIN(size, PCI_CONFIG_PORTS - offset));
}

static void pci_ports_write(void *obj, uint64_t offset, unsigned size, uint64_t value)
{
    PciBus *bus = obj;
    PciDevice *device = pci_bus_selected(bus);

    if (offset == 0 && size == 4)
        bus->address = value & PCI_ADDRESS_WMASK;
    else if (offset == 1 && size == 1 && bus->reset_port)
        bus->reset_port->ops->write(bus->reset_port->obj, 0, 1, value);
    else if (offset >= 4 && device)
        pci_config_write(device, (bus->address & 0xfc) + (offset - 4),
                         MIN(size, PCI_CONFIG_PORTS - offset), value);
}

static const RegionOps pci_ports_ops = {
    .name = "pci-config",
    .read = pci_ports_read,
    .write = pci_ports_write,
};

static void pci_bus_reset(Device *device)
{
    ((PciBus *)device)->address = 0;
}

static bool pci_bus_loaded(Device *device, GError **error)
{
    ((PciBus *)device)->address &= PCI_ADDRESS_WMASK;
    return true;
}

static const StateField pci_bus_state[] = {
    STATE_FIELD(PciBus, address, STATE_U32, 1),
    STATE_LIST_END,
};

static const DeviceType pci_bus_type = {
    .name = "pci-bus",
    .description = "PCI bus 0 behind configuration mechanism #1",
    .instance_size = sizeof(PciBus),
    .reset = pci_bus_reset,
    .state_version = 1,
    .state = pci_bus_state,
    .loaded = pci_bus_loaded,
};

PciBus *pci_bus_new(Board *board, PciIntxFn intx, void *intx_obj)
{
    PciBus *bus = device_new(&pci_bus_type, board, "pci");

    bus->intx = intx;
    bus->intx_obj = intx_obj;
    region_init_io(&bus->ports, &pci_ports_ops, bus, board->lock, PCI_CONFIG_PORTS);
    return bus;
}

void pci_bus_free(PciBus *bus)
{
    if (!bus)
        return;
    for (unsigned i = 0; i < PCI_DEVFN_COUNT; i++) {
        if (bus->devices[i])
            pci_bus_remove(bus, bus->devices[i]);
    }
    device_free(&bus->device);
}

Device *pci_bus_device(PciBus *bus)
{
    return &bus->device;
}

/* Function 0 says whether software needs to look for others. */
static void pci_slot_update_multifunction(PciBus *bus, unsigned slot)
{
    PciDevice *first = bus->devices[PCI_DEVFN(slot, 0)];
    bool many = false;

    for (unsigned f = 1; f < 8; f++)
        many |= bus->devices[PCI_DEVFN(slot, f)] != NULL;
    if (first && many)
        first->config[PCI_HEADER_TYPE] |= PCI_HEADER_MULTIFUNC;
}

static int pci_bus_free_devfn(const PciBus *bus)
{
    for (unsigned slot = PCI_FIRST_SLOT; slot < 32; slot++) {
        bool taken = false;
        for (unsigned f = 0; f < 8; f++)
            taken |= bus->devices[PCI_DEVFN(slot, f)] != NULL;
        if (!taken)
            return PCI_DEVFN(slot, 0);
    }
    return -1;
}

bool pci_bus_add(PciBus *bus, PciDevice *device, int devfn, GError **error)
{
    if (devfn < 0)
        devfn = pci_bus_free_devfn(bus);
    if (devfn < 0) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NO_SPACE,
                    "no PCI slot is free for %s; remove another PCI device", device->device.id);
        return false;
    }
    if (devfn >= PCI_DEVFN_COUNT || bus->devices[devfn]) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_EXISTS,
                    "cannot put %s at PCI %02x.%x: %s; choose another place", device->device.id,
                    devfn >> 3, devfn & 7,
                    devfn < PCI_DEVFN_COUNT ? bus->devices[devfn]->device.id : "no such slot");
        return false;
    }
    bus->devices[devfn] = device;
    device->bus = bus;
    device->devfn = devfn;
    pci_slot_update_multifunction(bus, devfn >> 3);
    pci_update_mappings(device);
    return true;
}

void pci_bus_remove(PciBus *bus, PciDevice *device)
{
    g_assert(device->bus == bus);
    pci_set_intx(device, false);
    for (unsigned i = 0; i <= PCI_ROM_SLOT; i++) {
        if (device->bars[i].mapping)
            pci_bar_unmap(device, &device->bars[i]);
    }
    pci_rom_free(device);
    bus->devices[device->devfn] = NULL;
    device->bus = NULL;
}

PciDevice *pci_bus_find(PciBus *bus, uint8_t devfn)
{
    return bus->devices[devfn];
}

Region *pci_bus_config_ports(PciBus *bus)
{
    return &bus->ports;
}

void pci_bus_set_reset_port(PciBus *bus, Region *region)
{
    bus->reset_port = region;
}
