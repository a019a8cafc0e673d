/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * MC146818A real-time clock with 128 bytes of CMOS RAM (data sheet of 1984), ports 0x70 and 0x71.
 *
 * Wiring: map io (2 ports) at 0x70; `irq` is IRQ 8, active until register C is read; `nmi_enable`
 * (may be unconnected) follows bit 7 of port 0x70, inverted.
 *
 * The time is the host's (UTC, or local time with option local-time=on) plus whatever the guest
 * set it off by. CMOS RAM, with the shutdown status byte 0x0f, survives a reset.
 *
 * Threads: board lock.
 */
#pragma once

#include "device/device.h"

#define RTC_SHUTDOWN_STATUS 0x0f
#define RTC_CENTURY         0x32

typedef struct Rtc {
    Device device;
    Region io;
    IrqLine irq, nmi_enable;
    bool local_time; /* option */

    uint8_t index;
    bool nmi_masked;
    uint8_t cmos[128];     /* 0 to 9: the time while it is not running, and the alarm */
    uint8_t weekday_shift; /* what the guest's weekday is ahead of the date's */
    int64_t base_ns;       /* RTC time (as ns since 1970) at time 0 of the clock */
    int64_t offset_ns;     /* RTC time ahead of the host's UTC */
    int64_t settled_ns;    /* RTC time up to which the flags of register C were set */
    ClockTimer timer;
} Rtc;

extern const DeviceType rtc_type;

/* For the machine, which leaves memory sizes, boot order and such for firmware. */
void rtc_set_cmos(Rtc *rtc, uint8_t index, uint8_t value);
uint8_t rtc_get_cmos(const Rtc *rtc, uint8_t index);
