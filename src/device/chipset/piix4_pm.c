/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Intel PIIX4 power management function. See piix4_pm.h.
 *
 *     PM base +0x00 PMSTS  +0x02 PMEN  +0x04 PMCNTRL  +0x08 PMTMR  +0x0c GPSTS  +0x0e GPEN
 *
 * Invariant: the SCI is asserted exactly while PMCNTRL.SCI_EN is set and an enabled event has its
 * status. The timer counts from VM power-on and is never stored; TMROF_STS is set lazily: by the
 * ClockTimer while it can interrupt, and when the status is read.
 */
#include "device/chipset/piix4_pm.h"

#include "base/bits.h"
#include "base/guest_log.h"

#define PM_SIZE       64
#define SMBUS_SIZE    16
#define PM_TIMER_BITS 24
#define PM_TIMER_PERIOD \
    (UINT64_C(1) << (PM_TIMER_BITS - 1)) /* ticks between changes of the top bit */

enum {
    PM_CONFIG_BASE = 0x40,
    PM_CONFIG_DEVACTB = 0x58,
    PM_CONFIG_MISC = 0x80,
    PM_CONFIG_SMBUS_BASE = 0x90,
    PM_CONFIG_SMBUS = 0xd2
};
enum { PM_GPSTS = 0x0c, PM_GPEN = 0x0e, PM_OTHER = 0x10 };
enum {
    PM1_TIMER = 0x0001,
    PM1_GLOBAL = 0x0020,
    PM1_BUTTON = 0x0100,
    PM1_RTC = 0x0400,
    PM1_WAKE = 0x8000
};
enum { PM1_SCI_EN = 0x0001, PM1_SUSPEND = 0x2000 };
#define PM1_STATUS_BITS  (PM1_TIMER | PM1_GLOBAL | PM1_BUTTON | PM1_RTC | PM1_WAKE)
#define PM1_ENABLE_BITS  (PM1_TIMER | PM1_GLOBAL | PM1_BUTTON | PM1_RTC)
#define PM1_CONTROL_BITS 0x1c02 /* SUS_TYP, BRLD_EN_BM; SCI_EN belongs to firmware (APM port) */
#define GPE_BITS         0x0f81
/* DEVACTB: APMC_EN set tells firmware that SMM needs no setting up. */
#define DEVACTB_APMC_EN 0x02

enum { SMB_STATUS = 0, SMB_CONTROL = 2, SMB_SLAVE_CONTROL = 8 };
enum { SMB_DEVICE_ERROR = 0x04, SMB_FAILED = 0x10, SMB_STATUS_W1C = 0x1e };
enum { SMB_KILL = 0x02, SMB_START = 0x40 };

/* ---- timer and SCI --------------------------------------------------------------------------- */

static uint64_t pm_ticks(Piix4Pm *pm)
{
    __extension__ typedef unsigned __int128 Wide;
    uint64_t now = clock_now_ns(pm->pci.device.board->clock);

    return (Wide)now * PIIX4_PM_TIMER_HZ / NS_PER_S;
}

/* The first nanosecond at which the timer's top bit has changed `count` times since power-on. */
static int64_t pm_overflow_ns(uint64_t count)
{
    __extension__ typedef unsigned __int128 Wide;
    Wide ns =
        ((Wide)count * PM_TIMER_PERIOD * NS_PER_S + PIIX4_PM_TIMER_HZ - 1) / PIIX4_PM_TIMER_HZ;

    return ns > INT64_MAX ? INT64_MAX : (int64_t)ns;
}

static void pm_update_sci(Piix4Pm *pm)
{
    bool event =
        (pm->pm1_status & pm->pm1_enable & PM1_ENABLE_BITS) || (pm->gpe_status & pm->gpe_enable);

    irq_set(pm->sci, event && (pm->pm1_control & PM1_SCI_EN));
}

/* Sets TMROF_STS if the top bit changed since the last look. */
static void pm_catch_up(Piix4Pm *pm)
{
    if (clock_now_ns(pm->pci.device.board->clock) < pm->next_overflow_ns)
        return;
    pm->pm1_status |= PM1_TIMER;
    pm->next_overflow_ns = pm_overflow_ns(pm_ticks(pm) / PM_TIMER_PERIOD + 1);
}

static void pm_update(Piix4Pm *pm)
{
    pm_catch_up(pm);
    if ((pm->pm1_enable & PM1_TIMER) && !(pm->pm1_status & PM1_TIMER))
        timer_arm(&pm->overflow, pm->next_overflow_ns);
    else
        timer_cancel(&pm->overflow);
    pm_update_sci(pm);
}

static void pm_overflow_fired(void *obj)
{
    pm_update(obj);
}

void piix4_pm_power_button(Piix4Pm *pm)
{
    pm->pm1_status |= PM1_BUTTON;
    pm_update_sci(pm);
}

/* ---- registers at the PM base ---------------------------------------------------------------- */

static void pm_write_control(Piix4Pm *pm, uint16_t value)
{
    Board *board = pm->pci.device.board;

    pm->pm1_control = (pm->pm1_control & ~PM1_CONTROL_BITS) | (value & PM1_CONTROL_BITS);
    if (!(value & PM1_SUSPEND))
        return;
    if (bits_get(value, 10, 3) == PIIX4_S5_SLEEP_TYPE)
        board->request(board->obj, BOARD_POWEROFF, 0);
    else
        guest_log("piix4-pm", "sleep type %u is not offered", (unsigned)bits_get(value, 10, 3));
}

static uint8_t pm_read_byte(Piix4Pm *pm, unsigned offset)
{
    unsigned shift = 8 * (offset & 1);

    switch (offset & ~1u) {
    case PIIX4_PM1_EVENT:
        pm_catch_up(pm);
        return pm->pm1_status >> shift;
    case PIIX4_PM1_EVENT + 2:
        return pm->pm1_enable >> shift;
    case PIIX4_PM1_CONTROL:
        return pm->pm1_control >> shift;
    case PM_GPSTS:
        return pm->gpe_status >> shift;
    case PM_GPEN:
        return pm->gpe_enable >> shift;
    default:
        return pm->pm_other[offset];
    }
}

static uint64_t pm_read(void *obj, uint64_t offset, unsigned size)
{
    Piix4Pm *pm = obj;
    uint64_t value = 0;

    /* The timer in one piece: its bytes belong to one moment. */
    if (offset >= PIIX4_PM_TIMER && offset < PM_GPSTS)
        return bits_get(pm_ticks(pm), 0, PM_TIMER_BITS) >> (8 * (offset - PIIX4_PM_TIMER));
    for (unsigned i = 0; i < size && offset + i < PM_SIZE; i++)
        value |= (uint64_t)pm_read_byte(pm, offset + i) << (8 * i);
    return value;
}

/* `mask` has ones where the access wrote. */
static void pm_write_word(Piix4Pm *pm, unsigned offset, uint16_t value, uint16_t mask)
{
    switch (offset) {
    case PIIX4_PM1_EVENT:
        pm_catch_up(pm);
        pm->pm1_status &= ~(value & mask & PM1_STATUS_BITS);
        break;
    case PIIX4_PM1_EVENT + 2:
        pm->pm1_enable = ((pm->pm1_enable & ~mask) | (value & mask)) & PM1_ENABLE_BITS;
        break;
    case PIIX4_PM1_CONTROL:
        pm_write_control(pm, (pm->pm1_control & ~mask) | (value & mask));
        break;
    case PM_GPSTS:
        pm->gpe_status &= ~(value & mask);
        break;
    case PM_GPEN:
        pm->gpe_enable = ((pm->gpe_enable & ~mask) | (value & mask)) & GPE_BITS;
        break;
    }
}

static void pm_write(void *obj, uint64_t offset, unsigned size, uint64_t value)
{
    Piix4Pm *pm = obj;
    unsigned i = 0;

    while (i < size && offset + i < PM_SIZE) {
        unsigned at = offset + i;
        bool pair = !(at & 1) && i + 1 < size;
        uint16_t part = value >> (8 * i);

        if (at >= PM_OTHER)
            pm->pm_other[at] = part;
        else if (pair)
            pm_write_word(pm, at, part, 0xffff);
        else
            pm_write_word(pm, at & ~1u, (part & 0xff) << (8 * (at & 1)), 0xff << (8 * (at & 1)));
        i += at < PM_OTHER && pair ? 2 : 1;
    }
    pm_update(pm);
}

static const RegionOps pm_ops = {.name = "piix4-pm", .read = pm_read, .write = pm_write};

/* ---- SMBus: every transaction ends with "device error", as when no slave answers ------------- */

static uint64_t smbus_read(void *obj, uint64_t offset, unsigned size)
{
    Piix4Pm *pm = obj;

    return offset == SMB_STATUS ? pm->smbus_status : pm->smbus_regs[offset];
}

static void smbus_write(void *obj, uint64_t offset, unsigned size, uint64_t value)
{
    Piix4Pm *pm = obj;

    if (offset == SMB_STATUS) {
        pm->smbus_status &= ~(value & SMB_STATUS_W1C);
        return;
    }
    if (offset == SMB_CONTROL && (value & SMB_START))
        pm->smbus_status |= SMB_DEVICE_ERROR;
    if (offset == SMB_CONTROL && (value & SMB_KILL))
        pm->smbus_status |= SMB_FAILED;
    pm->smbus_regs[offset] = offset == SMB_CONTROL ? value & ~SMB_START : value;
}

static const RegionOps smbus_ops = {
    .name = "piix4-smbus", .read = smbus_read, .write = smbus_write, .max_access = 1};

/* ---- APM ports: what would enter SMM switches ACPI mode here --------------------------------- */

static uint64_t apm_read(void *obj, uint64_t offset, unsigned size)
{
    Piix4Pm *pm = obj;

    return offset ? pm->apm_status : pm->apm_control;
}

static void apm_write(void *obj, uint64_t offset, unsigned size, uint64_t value)
{
    Piix4Pm *pm = obj;

    if (offset) {
        pm->apm_status = value;
        return;
    }
    pm->apm_control = value;
    if (value == PIIX4_ACPI_ENABLE)
        pm->pm1_control |= PM1_SCI_EN;
    else if (value == PIIX4_ACPI_DISABLE)
        pm->pm1_control &= ~PM1_SCI_EN;
    pm_update(pm);
}

static const RegionOps apm_ops = {
    .name = "apm", .read = apm_read, .write = apm_write, .max_access = 1};

/* ---- configuration space --------------------------------------------------------------------- */

static void pm_map(AddressSpace *ports, SpaceMapping **mapping, Region *region, bool enabled,
                   uint32_t base)
{
    space_unmap(ports, *mapping);
    *mapping = enabled && base
                   ? space_map(ports, base, region, 0, region->size, SPACE_PRIORITY_BOARD, false)
                   : NULL;
}

static void pm_update_mappings(Piix4Pm *pm)
{
    AddressSpace *ports = pm->pci.device.board->ports;
    const uint8_t *config = pm->pci.config;

    space_begin(ports);
    pm_map(ports, &pm->pm_mapping, &pm->pm, config[PM_CONFIG_MISC] & 1,
           load_le16(config + PM_CONFIG_BASE) & 0xffc0);
    pm_map(ports, &pm->smbus_mapping, &pm->smbus, config[PM_CONFIG_SMBUS] & 1,
           load_le16(config + PM_CONFIG_SMBUS_BASE) & 0xfff0);
    space_commit(ports);
}

static bool pm_touches(unsigned offset, unsigned size, unsigned reg, unsigned reg_size)
{
    return offset < reg + reg_size && offset + size > reg;
}

static void pm_config_written(PciDevice *device, unsigned offset, unsigned size)
{
    if (pm_touches(offset, size, PM_CONFIG_BASE, 2) ||
        pm_touches(offset, size, PM_CONFIG_MISC, 1) ||
        pm_touches(offset, size, PM_CONFIG_SMBUS_BASE, 2) ||
        pm_touches(offset, size, PM_CONFIG_SMBUS, 1))
        pm_update_mappings((Piix4Pm *)device);
}

static bool pm_create(Device *device, GError **error)
{
    Piix4Pm *pm = (Piix4Pm *)device;
    uint8_t *wmask = pm->pci.wmask;
    GRecMutex *lock = device->board->lock;

    pci_device_init(&pm->pci, 0x8086, 0x7113, 0x0680, 0, 3);
    pci_set_interrupt_pin(&pm->pci, 1);
    store_le16(pm->pci.config + PCI_STATUS, 0x0280);
    store_le16(wmask + PM_CONFIG_BASE, 0xffc0);
    memset(wmask + 0x44, 0xff, 0x80 - 0x44); /* activity, device resources */
    wmask[PM_CONFIG_MISC] = 0x01;
    store_le16(wmask + PM_CONFIG_SMBUS_BASE, 0xfff0);
    wmask[PM_CONFIG_SMBUS] = 0x0f;
    memset(wmask + PM_CONFIG_SMBUS + 1, 0xff, 3); /* slave command, shadow addresses */
    pm->pci.config_written = pm_config_written;
    region_init_io(&pm->pm, &pm_ops, pm, lock, PM_SIZE);
    region_init_io(&pm->smbus, &smbus_ops, pm, lock, SMBUS_SIZE);
    region_init_io(&pm->apm, &apm_ops, pm, lock, 2);
    timer_init(&pm->overflow, device->board->clock, pm_overflow_fired, pm);
    return true;
}

static void pm_reset_config(Piix4Pm *pm)
{
    uint8_t *config = pm->pci.config;

    pci_device_reset(&pm->pci);
    memset(config + 0x40, 0, PCI_CONFIG_SIZE - 0x40);
    config[PM_CONFIG_BASE] = 1; /* an I/O address */
    config[PM_CONFIG_SMBUS_BASE] = 1;
    config[PM_CONFIG_DEVACTB + 3] = DEVACTB_APMC_EN;
}

static void pm_reset(Device *device)
{
    Piix4Pm *pm = (Piix4Pm *)device;

    pm_reset_config(pm);
    pm->pm1_status = pm->pm1_enable = pm->pm1_control = 0;
    pm->gpe_status = pm->gpe_enable = 0;
    memset(pm->pm_other, 0, sizeof(pm->pm_other));
    memset(pm->smbus_regs, 0, sizeof(pm->smbus_regs));
    pm->smbus_status = 0;
    pm->apm_control = pm->apm_status = 0;
    pm->next_overflow_ns = pm_overflow_ns(pm_ticks(pm) / PM_TIMER_PERIOD + 1);
    pm_update(pm);
    pm_update_mappings(pm);
}

static void pm_destroy(Device *device)
{
    Piix4Pm *pm = (Piix4Pm *)device;

    timer_clear(&pm->overflow);
    space_unmap(device->board->ports, pm->pm_mapping);
    space_unmap(device->board->ports, pm->smbus_mapping);
}

static bool pm_loaded(Device *device, GError **error)
{
    Piix4Pm *pm = (Piix4Pm *)device;

    if (!pci_device_loaded(&pm->pci, error))
        return false;
    pm->pm1_status &= PM1_STATUS_BITS;
    pm->pm1_enable &= PM1_ENABLE_BITS;
    pm->pm1_control &= PM1_CONTROL_BITS | PM1_SCI_EN;
    pm->gpe_status &= GPE_BITS;
    pm->gpe_enable &= GPE_BITS;
    pm_update_mappings(pm);
    return true;
}

void piix4_pm_setup(Piix4Pm *pm)
{
    pci_config_write(&pm->pci, PCI_INTERRUPT_LINE, 1, 9);
    pci_config_write(&pm->pci, PM_CONFIG_BASE, 2, PIIX4_PM_BASE);
    pci_config_write(&pm->pci, PM_CONFIG_MISC, 1, 1);
    pci_config_write(&pm->pci, PM_CONFIG_SMBUS_BASE, 2, PIIX4_SMBUS_BASE);
    pci_config_write(&pm->pci, PM_CONFIG_SMBUS, 1, 0x09);
}

static const StateField pm_state[] = {
    STATE_ONE_STRUCT(Piix4Pm, pci, pci_state_fields, 1),
    STATE_FIELD(Piix4Pm, overflow, STATE_TIMER, 1),
    STATE_FIELD(Piix4Pm, next_overflow_ns, STATE_I64, 1),
    STATE_FIELD(Piix4Pm, pm1_status, STATE_U16, 1),
    STATE_FIELD(Piix4Pm, pm1_enable, STATE_U16, 1),
    STATE_FIELD(Piix4Pm, pm1_control, STATE_U16, 1),
    STATE_FIELD(Piix4Pm, gpe_status, STATE_U16, 1),
    STATE_FIELD(Piix4Pm, gpe_enable, STATE_U16, 1),
    STATE_ARRAY(Piix4Pm, pm_other, STATE_BYTES, 1),
    STATE_FIELD(Piix4Pm, smbus_status, STATE_U8, 1),
    STATE_ARRAY(Piix4Pm, smbus_regs, STATE_BYTES, 1),
    STATE_FIELD(Piix4Pm, apm_control, STATE_U8, 1),
    STATE_FIELD(Piix4Pm, apm_status, STATE_U8, 1),
    STATE_LIST_END,
};

const DeviceType piix4_pm_type = {
    .name = "piix4-pm",
    .description = "Intel PIIX4 power management",
    .instance_size = sizeof(Piix4Pm),
    .create = pm_create,
    .reset = pm_reset,
    .destroy = pm_destroy,
    .state_version = 1,
    .state = pm_state,
    .loaded = pm_loaded,
};
