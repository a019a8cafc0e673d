/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The device registry: a new device is a line here. */
#include "device/registry.h"

#include <string.h>

#include "device/chipset/debug_port.h"
#include "device/chipset/dma8237.h"
#include "device/chipset/hpet.h"
#include "device/chipset/i440fx.h"
#include "device/chipset/ioapic.h"
#include "device/chipset/isa_debug_exit.h"
#include "device/chipset/lapic.h"
#include "device/chipset/pic.h"
#include "device/chipset/piix3.h"
#include "device/chipset/piix4_pm.h"
#include "device/chipset/pit.h"
#include "device/chipset/port92.h"
#include "device/chipset/rtc.h"
#include "device/input/i8042.h"
#include "device/serial/parallel.h"
#include "device/serial/uart16550.h"
#include "device/storage/fdc.h"
#include "device/storage/ide.h"
#include "device/video/vga.h"

static const DeviceType *const types[] = {
    &debug_port_type, &dma_type,       &fdc_type,    &hpet_type,
    &i440fx_type,     &i8042_type,     &ioapic_type, &isa_debug_exit_type,
    &lapic_type,      &parallel_type,  &pic_type,    &piix3_ide_type,
    &piix3_type,      &piix4_pm_type,  &pit_type,    &port92_type,
    &rtc_type,        &uart16550_type, &vga_type,    NULL,
};

const DeviceType *const *device_registry(void)
{
    return types;
}

const DeviceType *device_registry_find(const char *name)
{
    for (unsigned i = 0; types[i]; i++) {
        if (strcmp(types[i]->name, name) == 0)
            return types[i];
    }
    return NULL;
}
