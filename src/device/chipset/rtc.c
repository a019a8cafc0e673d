/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * MC146818A. Registers:
 *
 *     A  7 UIP   6:4 divider (2: runs, 6 and 7: held)   3:0 periodic rate
 *     B  7 SET   6 PIE 5 AIE 4 UIE   3 SQWE   2 DM (1: binary)   1 24/12 (1: 24)   0 DSE
 *     C  7 IRQF  6 PF  5 AF  4 UF
 *     D  7 VRT
 *
 * Time is not stepped: while the clock runs, time registers and flags are derived from the VM's
 * clock when someone looks; a timer is armed only while an interrupt is enabled. Threads: board
 * lock.
 */
#include "device/chipset/rtc.h"

#include <time.h>

enum {
    SECONDS = 0,
    SECONDS_ALARM = 1,
    MINUTES = 2,
    MINUTES_ALARM = 3,
    HOURS = 4,
    HOURS_ALARM = 5,
    WEEKDAY = 6,
    DAY = 7,
    MONTH = 8,
    YEAR = 9,
    REG_A = 10,
    REG_B = 11,
    REG_C = 12,
    REG_D = 13,

    A_UIP = 0x80,
    B_SET = 0x80,
    B_PIE = 0x40,
    B_AIE = 0x20,
    B_UIE = 0x10,
    B_SQWE = 0x08,
    B_BINARY = 0x04,
    B_24_HOURS = 0x02,
    C_IRQF = 0x80,
    C_FLAGS = 0x70, /* PF, AF, UF: in the places of their enables in B */
    C_PF = 0x40,
    C_AF = 0x20,
    C_UF = 0x10,
    D_VALID = 0x80,
    HOUR_PM = 0x80,
    ALARM_ANY = 0xc0, /* both bits set: any value matches */
};
/* UIP rises 244 us before the update, which takes 1984 us and ends with the second: table 4, 32.768
 * kHz. */
#define UIP_NS (2228 * NS_PER_US)
/* The alarm is looked for second by second, this far back. */
#define MAX_ALARM_SECONDS 86400
#define MAX_SECONDS       INT64_C(7258118399) /* 2199-12-31 23:59:59 */
#define MAX_STATE_NS      (INT64_C(8000000000) * NS_PER_S)

static int64_t rtc_now(const Rtc *rtc)
{
    return rtc->base_ns + clock_now_ns(rtc->device.board->clock);
}

static bool divider_held(const Rtc *rtc)
{
    return (rtc->cmos[REG_A] >> 4 & 7) >= 6;
}

static bool is_running(const Rtc *rtc)
{
    return !(rtc->cmos[REG_B] & B_SET) && !divider_held(rtc);
}

static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

/* ---- the formats of the time registers ------------------------------------------------------- */

static uint8_t encode(const Rtc *rtc, unsigned value)
{
    return rtc->cmos[REG_B] & B_BINARY ? value : value / 10 << 4 | value % 10;
}

static unsigned decode(const Rtc *rtc, uint8_t value)
{
    return rtc->cmos[REG_B] & B_BINARY ? value : (value >> 4) * 10 + (value & 15);
}

static uint8_t encode_hour(const Rtc *rtc, unsigned hour)
{
    if (rtc->cmos[REG_B] & B_24_HOURS)
        return encode(rtc, hour);
    return encode(rtc, hour % 12 ? hour % 12 : 12) | (hour >= 12 ? HOUR_PM : 0);
}

static unsigned decode_hour(const Rtc *rtc, uint8_t value)
{
    if (rtc->cmos[REG_B] & B_24_HOURS)
        return decode(rtc, value);
    return decode(rtc, value & ~HOUR_PM) % 12 + (value & HOUR_PM ? 12 : 0);
}

static void load_registers(Rtc *rtc, int64_t time_ns)
{
    time_t seconds = floor_div(time_ns, NS_PER_S);
    struct tm tm;
    if (!gmtime_r(&seconds, &tm))
        return;
    rtc->cmos[SECONDS] = encode(rtc, tm.tm_sec);
    rtc->cmos[MINUTES] = encode(rtc, tm.tm_min);
    rtc->cmos[HOURS] = encode_hour(rtc, tm.tm_hour);
    rtc->cmos[WEEKDAY] = encode(rtc, (tm.tm_wday + rtc->weekday_shift) % 7 + 1);
    rtc->cmos[DAY] = encode(rtc, tm.tm_mday);
    rtc->cmos[MONTH] = encode(rtc, tm.tm_mon + 1);
    rtc->cmos[YEAR] = encode(rtc, tm.tm_year % 100);
    rtc->cmos[RTC_CENTURY] = encode(rtc, (tm.tm_year + 1900) / 100 % 100);
}

/* The whole seconds that the registers say; impossible dates roll over, up to the end of 2199. */
static int64_t registers_time(Rtc *rtc)
{
    unsigned century = decode(rtc, rtc->cmos[RTC_CENTURY]);
    struct tm tm = {
        .tm_sec = decode(rtc, rtc->cmos[SECONDS]),
        .tm_min = decode(rtc, rtc->cmos[MINUTES]),
        .tm_hour = decode_hour(rtc, rtc->cmos[HOURS]),
        .tm_mday = decode(rtc, rtc->cmos[DAY]),
        .tm_mon = (int)decode(rtc, rtc->cmos[MONTH]) - 1,
        .tm_year = (century >= 19 && century <= 21 ? century : 20) * 100 - 1900 +
                   decode(rtc, rtc->cmos[YEAR]),
    };
    int64_t seconds = timegm(&tm);
    rtc->weekday_shift = (decode(rtc, rtc->cmos[WEEKDAY]) + 13 - tm.tm_wday) % 7;
    return MIN(seconds, MAX_SECONDS);
}

/* ---- flags and interrupts -------------------------------------------------------------------- */

/* The period as a power of two of 1/32768 s, or -1: table 5. */
static int rate_shift(const Rtc *rtc)
{
    int rate = rtc->cmos[REG_A] & 15;
    if (!rate || divider_held(rtc))
        return -1;
    return rate <= 2 ? rate + 6 : rate - 1;
}

static int64_t periods_until(int64_t time_ns, int shift)
{
    __int128 ticks = (__int128)time_ns * 32768;
    return (int64_t)(ticks / NS_PER_S) >> shift;
}

static bool alarm_field_matches(uint8_t alarm, uint8_t value)
{
    return (alarm & ALARM_ANY) == ALARM_ANY || alarm == value;
}

static bool alarm_matches(const Rtc *rtc, int64_t second)
{
    unsigned day_second = (second % 86400 + 86400) % 86400;
    return alarm_field_matches(rtc->cmos[SECONDS_ALARM], encode(rtc, day_second % 60)) &&
           alarm_field_matches(rtc->cmos[MINUTES_ALARM], encode(rtc, day_second / 60 % 60)) &&
           alarm_field_matches(rtc->cmos[HOURS_ALARM], encode_hour(rtc, day_second / 3600));
}

static bool alarm_between(const Rtc *rtc, int64_t from, int64_t to)
{
    for (int64_t s = MAX(from, to - MAX_ALARM_SECONDS) + 1; s <= to; s++) {
        if (alarm_matches(rtc, s))
            return true;
    }
    return false;
}

static void update_irq(Rtc *rtc)
{
    bool active = rtc->cmos[REG_C] & rtc->cmos[REG_B] & C_FLAGS;
    bool was = rtc->cmos[REG_C] & C_IRQF;
    rtc->cmos[REG_C] = (rtc->cmos[REG_C] & C_FLAGS) | (active ? C_IRQF : 0);
    if (active != was)
        irq_set(rtc->irq, active);
}

/* Sets the flags of what happened since the last call. */
static void settle(Rtc *rtc)
{
    int64_t now = rtc_now(rtc), then = rtc->settled_ns;
    int shift = rate_shift(rtc);
    rtc->settled_ns = now;
    if (now <= then)
        return;
    if (shift >= 0 && periods_until(now, shift) != periods_until(then, shift))
        rtc->cmos[REG_C] |= C_PF;
    int64_t from = floor_div(then, NS_PER_S), to = floor_div(now, NS_PER_S);
    if (is_running(rtc) && from != to) {
        rtc->cmos[REG_C] |= C_UF;
        if (!(rtc->cmos[REG_C] & C_AF) && alarm_between(rtc, from, to))
            rtc->cmos[REG_C] |= C_AF;
    }
    update_irq(rtc);
}

/* Wakes up for the next flag that raises an interrupt and is not up yet. */
static void arm(Rtc *rtc)
{
    uint8_t wanted = rtc->cmos[REG_B] & ~rtc->cmos[REG_C];
    int64_t now = rtc_now(rtc), next = INT64_MAX;
    int shift = rate_shift(rtc);
    if ((wanted & (B_UIE | B_AIE)) && is_running(rtc))
        next = (floor_div(now, NS_PER_S) + 1) * NS_PER_S;
    if ((wanted & B_PIE) && shift >= 0) {
        __int128 ticks = (__int128)(periods_until(now, shift) + 1) << shift;
        next = MIN(next, (int64_t)((ticks * NS_PER_S + 32767) / 32768));
    }
    if (next == INT64_MAX || (rtc->cmos[REG_C] & C_IRQF))
        timer_cancel(&rtc->timer);
    else
        timer_arm(&rtc->timer, next - rtc->base_ns);
}

static void timer_fire(void *obj)
{
    Rtc *rtc = obj;
    settle(rtc);
    arm(rtc);
}

/* ---- registers ------------------------------------------------------------------------------- */

static bool update_in_progress(const Rtc *rtc)
{
    int64_t phase = rtc_now(rtc) - floor_div(rtc_now(rtc), NS_PER_S) * NS_PER_S;
    return is_running(rtc) && phase >= NS_PER_S - UIP_NS;
}

static uint8_t read_c(Rtc *rtc)
{
    uint8_t value = rtc->cmos[REG_C];
    rtc->cmos[REG_C] = 0;
    if (value & C_IRQF)
        irq_set(rtc->irq, false);
    arm(rtc);
    return value;
}

static bool is_time_register(uint8_t index)
{
    return index == RTC_CENTURY || (index <= YEAR && index != SECONDS_ALARM &&
                                    index != MINUTES_ALARM && index != HOURS_ALARM);
}

static uint8_t read_data(Rtc *rtc)
{
    uint8_t index = rtc->index;
    settle(rtc);
    if (index == REG_A)
        return rtc->cmos[REG_A] | (update_in_progress(rtc) ? A_UIP : 0);
    if (index == REG_C)
        return read_c(rtc);
    if (index == REG_D)
        return D_VALID;
    if (is_time_register(index) && is_running(rtc))
        load_registers(rtc, rtc_now(rtc));
    return rtc->cmos[index];
}

/* Makes `time_ns` the time now. */
static void set_time(Rtc *rtc, int64_t time_ns)
{
    int64_t change = time_ns - rtc_now(rtc);
    rtc->base_ns += change;
    rtc->offset_ns += change;
    rtc->settled_ns += change;
}

static int64_t fraction(int64_t time_ns)
{
    return time_ns - floor_div(time_ns, NS_PER_S) * NS_PER_S;
}

/* SET or the divider changed: the registers stop or begin to follow the time. */
static void write_control(Rtc *rtc, uint8_t index, uint8_t value)
{
    bool was_running = is_running(rtc), was_held = divider_held(rtc);
    if (was_running)
        load_registers(rtc, rtc_now(rtc));
    rtc->cmos[index] = value;
    if (!was_running && is_running(rtc)) {
        /* The first update follows half a second after the divider is released. */
        int64_t phase = was_held ? NS_PER_S / 2 : fraction(rtc_now(rtc));
        set_time(rtc, registers_time(rtc) * NS_PER_S + phase);
    }
}

static void write_time(Rtc *rtc, uint8_t index, uint8_t value)
{
    bool running = is_running(rtc);
    if (running)
        load_registers(rtc, rtc_now(rtc));
    rtc->cmos[index] = value;
    if (running)
        set_time(rtc, registers_time(rtc) * NS_PER_S + fraction(rtc_now(rtc)));
}

static void write_data(Rtc *rtc, uint8_t value)
{
    uint8_t index = rtc->index;
    settle(rtc);
    if (index == REG_A)
        write_control(rtc, REG_A, value & ~A_UIP);
    else if (index == REG_B) /* setting SET clears UIE */
        write_control(rtc, REG_B, value & B_SET ? value & ~B_UIE : value);
    else if (is_time_register(index))
        write_time(rtc, index, value);
    else if (index != REG_C && index != REG_D)
        rtc->cmos[index] = value;
    update_irq(rtc);
    arm(rtc);
}

static void write_index(Rtc *rtc, uint8_t value)
{
    rtc->index = value & 0x7f;
    rtc->nmi_masked = value & 0x80;
    irq_set(rtc->nmi_enable, !rtc->nmi_masked);
}

static uint64_t rtc_read(void *obj, uint64_t offset, unsigned size)
{
    return offset == 0 ? 0xff : read_data(obj); /* the index is write-only */
}

static void rtc_write(void *obj, uint64_t offset, unsigned size, uint64_t value)
{
    if (offset == 0)
        write_index(obj, value);
    else
        write_data(obj, value);
}

static const RegionOps rtc_ops = {
    .name = "rtc", .read = rtc_read, .write = rtc_write, .max_access = 1};

void rtc_set_cmos(Rtc *rtc, uint8_t index, uint8_t value)
{
    g_assert(index > REG_D && index < sizeof(rtc->cmos));
    rtc->cmos[index] = value;
}

uint8_t rtc_get_cmos(const Rtc *rtc, uint8_t index)
{
    g_assert(index < sizeof(rtc->cmos));
    return rtc->cmos[index];
}

/* ---- device ---------------------------------------------------------------------------------- */

static int64_t host_time_ns(void)
{
    return g_get_real_time() * 1000;
}

static int64_t local_offset_ns(void)
{
    g_autoptr(GDateTime) now = g_date_time_new_now_local();
    return g_date_time_get_utc_offset(now) * 1000;
}

static bool rtc_create(Device *device, GError **error)
{
    Rtc *rtc = (Rtc *)device;
    region_init_io(&rtc->io, &rtc_ops, rtc, device->board->lock, 2);
    timer_init(&rtc->timer, device->board->clock, timer_fire, rtc);
    rtc->cmos[REG_A] = 0x26;
    rtc->cmos[REG_B] = B_24_HOURS;
    rtc->offset_ns = rtc->local_time ? local_offset_ns() : 0;
    rtc->base_ns = host_time_ns() + rtc->offset_ns - clock_now_ns(device->board->clock);
    rtc->settled_ns = rtc_now(rtc);
    load_registers(rtc, rtc_now(rtc));
    return true;
}

static void rtc_destroy(Device *device)
{
    timer_clear(&((Rtc *)device)->timer);
}

/* RESET#: time, RAM and the divider go on. */
static void rtc_reset(Device *device)
{
    Rtc *rtc = (Rtc *)device;
    settle(rtc);
    rtc->cmos[REG_B] &= ~(B_PIE | B_AIE | B_UIE | B_SQWE);
    rtc->cmos[REG_C] &= ~C_FLAGS;
    update_irq(rtc);
    write_index(rtc, 0);
    arm(rtc);
}

/* The VM's clock stood still; wall time did not. */
static void rtc_resume(Device *device)
{
    Rtc *rtc = (Rtc *)device;
    int64_t lost = host_time_ns() + rtc->offset_ns - rtc_now(rtc);
    rtc->base_ns += lost;
    rtc->settled_ns = MIN(rtc->settled_ns, rtc_now(rtc));
    settle(rtc);
    arm(rtc);
}

static bool is_sane(int64_t ns)
{
    return ns >= -MAX_STATE_NS && ns <= MAX_STATE_NS;
}

static bool rtc_loaded(Device *device, GError **error)
{
    const Rtc *rtc = (Rtc *)device;
    if (rtc->index > 0x7f || rtc->weekday_shift > 6 || !is_sane(rtc->base_ns) ||
        !is_sane(rtc->offset_ns) || !is_sane(rtc->settled_ns)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    "the saved state of %s holds values that no MC146818 can have", device->id);
        return false;
    }
    return true;
}

static const StateField rtc_state[] = {
    STATE_FIELD(Rtc, index, STATE_U8, 1),
    STATE_FIELD(Rtc, nmi_masked, STATE_BOOL, 1),
    STATE_ARRAY(Rtc, cmos, STATE_U8, 1),
    STATE_FIELD(Rtc, weekday_shift, STATE_U8, 1),
    STATE_FIELD(Rtc, base_ns, STATE_I64, 1),
    STATE_FIELD(Rtc, offset_ns, STATE_I64, 1),
    STATE_FIELD(Rtc, settled_ns, STATE_I64, 1),
    STATE_FIELD(Rtc, timer, STATE_TIMER, 1),
    STATE_LIST_END,
};

static const DeviceOption rtc_options[] = {
    {"local-time", OPTION_BOOL, offsetof(Rtc, local_time), "off", 0,
     "keep the host's local time instead of UTC"},
    {NULL},
};

const DeviceType rtc_type = {
    .name = "rtc-mc146818",
    .description = "MC146818A real-time clock and CMOS RAM",
    .instance_size = sizeof(Rtc),
    .options = rtc_options,
    .create = rtc_create,
    .reset = rtc_reset,
    .resume = rtc_resume,
    .destroy = rtc_destroy,
    .state_version = 1,
    .state = rtc_state,
    .loaded = rtc_loaded,
};
