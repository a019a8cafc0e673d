/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * PCI: configuration space, BARs, INTx and MSI.
 *
 * A PCI device embeds PciDevice (which embeds Device) as its first member. In its create function
 * it calls pci_device_init(), fills in IDs and adds BARs; pci_bus_add() then puts it into a slot.
 * The bus maps and unmaps the BARs as the guest writes them; config[] is the truth, wmask[] says
 * which bits the guest may write, w1cmask[] which bits writing one clears. Source: PCI Local
 * Bus 3.0 chapter 6 and 6.8 (MSI).
 */
#pragma once

#include "device/device.h"

#define PCI_CONFIG_SIZE           256
#define PCI_BAR_COUNT             6
#define PCI_ROM_SLOT              6 /* the expansion ROM, among the BARs */
#define PCI_DEVFN(slot, function) ((slot) << 3 | (function))

enum {
    PCI_VENDOR_ID = 0x00,
    PCI_DEVICE_ID = 0x02,
    PCI_COMMAND = 0x04,
    PCI_STATUS = 0x06,
    PCI_REVISION = 0x08,
    PCI_CLASS_PROG = 0x09,
    PCI_CLASS = 0x0a /* 16 bits */,
    PCI_HEADER_TYPE = 0x0e,
    PCI_BAR0 = 0x10,
    PCI_SUBSYSTEM_VENDOR = 0x2c,
    PCI_SUBSYSTEM = 0x2e,
    PCI_ROM_ADDRESS = 0x30,
    PCI_CAPABILITIES = 0x34,
    PCI_INTERRUPT_LINE = 0x3c,
    PCI_INTERRUPT_PIN = 0x3d,
};
enum {
    PCI_COMMAND_IO = 1,
    PCI_COMMAND_MEMORY = 2,
    PCI_COMMAND_MASTER = 4,
    PCI_COMMAND_INTX_OFF = 0x400
};

typedef enum PciBarKind {
    PCI_BAR_NONE,
    PCI_BAR_IO,
    PCI_BAR_MEM32,
    PCI_BAR_MEM64,
    PCI_BAR_MEM32_PREFETCH
} PciBarKind;

typedef struct PciBus PciBus;
typedef struct PciDevice PciDevice;

typedef struct PciBar {
    PciBarKind kind;
    Region *region;        /* the device's; its size is a power of two */
    SpaceMapping *mapping; /* while decoded */
    uint64_t address;      /* while mapped */
} PciBar;

struct PciDevice {
    Device device;
    PciBus *bus;
    uint8_t devfn;
    uint8_t config[PCI_CONFIG_SIZE];
    uint8_t wmask[PCI_CONFIG_SIZE];
    uint8_t w1cmask[PCI_CONFIG_SIZE];
    PciBar bars[PCI_BAR_COUNT + 1];
    uint16_t vendor, device_id; /* what config[] must say in a loaded state */
    uint8_t msi_offset;         /* of the MSI capability; 0: none */
    uint16_t capabilities_end;  /* first byte after the last capability; 0: none */
    bool intx_level;
    struct PciRom *rom; /* what pci_add_rom() made */
    /* Called after a configuration write has been applied; NULL: nothing to do. */
    void (*config_written)(PciDevice *device, unsigned offset, unsigned size);
};

/* Identity: call first in a device's create. `class` is base class and subclass (0x0101: IDE). */
void pci_device_init(PciDevice *device, uint16_t vendor, uint16_t device_id, uint16_t class,
                     uint8_t prog_if, uint8_t revision);
/* `pin` is 1 (INTA#) to 4. */
void pci_set_interrupt_pin(PciDevice *device, uint8_t pin);
void pci_add_bar(PciDevice *device, unsigned bar, PciBarKind kind, Region *region);
/* Expansion ROM from host memory (copied); the bus frees it when the device leaves. */
bool pci_add_rom(PciDevice *device, const uint8_t *data, size_t size, GError **error);
/* Adds a capability of `size` bytes; returns its offset. */
uint8_t pci_add_capability(PciDevice *device, uint8_t id, uint8_t size);
/* One-vector, 64-bit-address MSI. */
void pci_add_msi(PciDevice *device);
bool pci_msi_enabled(const PciDevice *device);
void pci_send_msi(PciDevice *device);
/* Drives INTx (kept off the wire while PCI_COMMAND_INTX_OFF). */
void pci_set_intx(PciDevice *device, bool level);
/* The interrupt of a device with both: MSI on a rising edge when enabled, INTx otherwise. */
void pci_set_irq(PciDevice *device, bool level);
/* Resets command, BARs and MSI; pci devices call it in their reset. Option `addr` etc. survive. */
void pci_device_reset(PciDevice *device);
/* DMA, refused (false) while bus mastering is off. */
bool pci_dma_read(PciDevice *device, uint64_t address, void *data, size_t size);
bool pci_dma_write(PciDevice *device, uint64_t address, const void *data, size_t size);
/* The state fields of PciDevice itself: put STATE_ONE_STRUCT(MyDevice, pci, pci_state_fields, 1)
 * first, and call pci_device_loaded() in `loaded`. */
extern const StateField pci_state_fields[];
bool pci_device_loaded(PciDevice *device, GError **error);

/* Routes INTx: called with the device's slot (devfn >> 3), its pin - 1 and the level. */
typedef void (*PciIntxFn)(void *obj, unsigned slot, unsigned pin, bool level);

/* Bus 0 behind configuration mechanism #1 (ports 0xcf8, 0xcfc). */
PciBus *pci_bus_new(Board *board, PciIntxFn intx, void *intx_obj);
/* Removes all devices first (they are not freed): so free the bus before its devices. */
void pci_bus_free(PciBus *bus);
/* The bus as a device: its state is the address latch. */
Device *pci_bus_device(PciBus *bus);
/* devfn -1 picks the first free slot from 3 up. Fails when the place is taken. After device_create.
 */
bool pci_bus_add(PciBus *bus, PciDevice *device, int devfn, GError **error);
/* Unmaps a device and frees its ROM; the device itself stays its owner's. */
void pci_bus_remove(PciBus *bus, PciDevice *device);
/* NULL: that place is empty. */
PciDevice *pci_bus_find(PciBus *bus, uint8_t devfn);
/* The 8 ports at 0xcf8. */
Region *pci_bus_config_ports(PciBus *bus);
/* What answers byte accesses to 0xcf9, which lies inside the address latch: the chipset's reset
 * control register. A region of one byte; NULL: nothing. */
void pci_bus_set_reset_port(PciBus *bus, Region *region);
/* What the config ports do, for tests and the MCFG window. */
uint32_t pci_config_read(PciDevice *device, unsigned offset, unsigned size);
void pci_config_write(PciDevice *device, unsigned offset, unsigned size, uint32_t value);
