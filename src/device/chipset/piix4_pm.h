/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Intel PIIX4 (82371AB) function 3: ACPI power management (PM timer, power button, sleep), the APM
 * ports 0xb2/0xb3 and an SMBus without slaves.
 *
 * The machine fills in `sci` and maps `apm` at PIIX4_APM_PORT; the other registers map themselves
 * where configuration space says. Board lock held. Source: Intel 82371AB (PIIX4) datasheet
 * (290562), chapter 7; ACPI 2.0 §4.7.
 */
#pragma once

#include "device/bus/pci.h"

#define PIIX4_APM_PORT      0xb2
#define PIIX4_ACPI_ENABLE   0xf1 /* written to the APM port: guest takes power management over */
#define PIIX4_ACPI_DISABLE  0xf0
#define PIIX4_PM_BASE       0x600 /* where firmware puts the registers */
#define PIIX4_SMBUS_BASE    0x700
#define PIIX4_PM_TIMER_HZ   3579545
#define PIIX4_S5_SLEEP_TYPE 0 /* SUS_TYP for soft off */
/* Offsets from the PM base, for the FADT. */
enum { PIIX4_PM1_EVENT = 0x00, PIIX4_PM1_CONTROL = 0x04, PIIX4_PM_TIMER = 0x08, PIIX4_GPE0 = 0x0c };

typedef struct Piix4Pm {
    PciDevice pci;
    IrqLine sci;
    Region pm;    /* 64 ports */
    Region smbus; /* 16 ports */
    Region apm;   /* 2 ports */
    SpaceMapping *pm_mapping, *smbus_mapping;
    ClockTimer overflow;      /* armed while the timer's overflow may interrupt */
    int64_t next_overflow_ns; /* when the timer's top bit changes next */
    uint16_t pm1_status, pm1_enable, pm1_control;
    uint16_t gpe_status, gpe_enable;
    uint8_t pm_other[64]; /* registers that only remember: PCNTRL, GLBEN, DEVCTL, GPO … */
    uint8_t smbus_status;
    uint8_t smbus_regs[16];
    uint8_t apm_control, apm_status;
} Piix4Pm;

extern const DeviceType piix4_pm_type;

/* The power button is pressed. A guest that has not taken over power management won't notice. */
void piix4_pm_power_button(Piix4Pm *pm);
/* Does what firmware does: base address, enabled, SCI on IRQ 9. For a kernel booted without one. */
void piix4_pm_setup(Piix4Pm *pm);
