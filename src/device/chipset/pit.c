/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * 8254: what a counter shows follows from mode, period and ticks since it was loaded.
 *
 * Count `c` and OUT, `e` ticks after loading period N:
 *     mode 0, 1   c = N - e (wraps)        OUT rises at e = N
 *     mode 2      c = N - e mod N          OUT low while c = 1
 *     mode 3      c = N - 2 (e mod half)   OUT high for the first (N + 1) / 2
 *     mode 4, 5   c = N - e (wraps)        OUT low at e = N for one tick
 *
 * Threads: board lock.
 */
#include "device/chipset/pit.h"

#include "base/bits.h"

/* The host is woken no more often than this; faster ticks are dropped. */
#define MIN_WAKE_NS (20 * NS_PER_US)
/* Owed ticks follow each other no slower than this. */
#define OWED_NS (500 * NS_PER_US)

static int64_t tick_of(int64_t ns)
{
    return (int64_t)((__int128)ns * PIT_HZ / NS_PER_S);
}

/* The first nanosecond of a tick. */
static int64_t ns_of(int64_t tick)
{
    return (int64_t)(((__int128)tick * NS_PER_S + PIT_HZ - 1) / PIT_HZ);
}

static int64_t now_tick(const Pit *pit)
{
    return tick_of(clock_now_ns(pit->device.board->clock));
}

static bool is_periodic(const PitChannel *ch)
{
    return ch->mode == 2 || ch->mode == 3;
}

/* Started by a rising gate, not by the count being written. */
static bool is_triggered(const PitChannel *ch)
{
    return ch->mode == 1 || ch->mode == 5;
}

static unsigned bcd_to_binary(unsigned bcd)
{
    return (bcd >> 12 & 15) * 1000 + (bcd >> 8 & 15) * 100 + (bcd >> 4 & 15) * 10 + (bcd & 15);
}

static unsigned binary_to_bcd(unsigned n)
{
    return (n / 1000 % 10) << 12 | (n / 100 % 10) << 8 | (n / 10 % 10) << 4 | n % 10;
}

static uint32_t modulus(const PitChannel *ch)
{
    return ch->bcd ? 10000 : 65536;
}

/* 0 is the largest count; 1 is illegal in modes 2 and 3, where the chip needs at least 2. */
static uint32_t period_of(const PitChannel *ch)
{
    uint32_t count = ch->bcd ? bcd_to_binary(ch->reload) % 10000 : ch->reload;
    if (!count)
        count = modulus(ch);
    return is_periodic(ch) ? MAX(count, 2) : count;
}

static void load(PitChannel *ch, int64_t start)
{
    ch->period = period_of(ch);
    ch->start = start;
    ch->counting = true;
    ch->null_count = false;
    ch->reload_at = -1;
    ch->held = !ch->gate && (ch->mode == 0 || ch->mode == 4) ? 0 : -1;
}

/* Lets a count written in the middle of a period take over at its end. */
static void settle(PitChannel *ch, int64_t now)
{
    if (ch->reload_at >= 0 && now >= ch->reload_at)
        load(ch, ch->reload_at);
}

static int64_t elapsed(const PitChannel *ch, int64_t now)
{
    return ch->held >= 0 ? ch->held : MAX(now - ch->start, 0);
}

static bool output(PitChannel *ch, int64_t now)
{
    settle(ch, now);
    int64_t e = elapsed(ch, now);
    switch (ch->mode) {
    case 0:
        return ch->counting && e >= ch->period;
    case 1:
        return !ch->counting || e >= ch->period;
    case 2:
        return !ch->counting || !ch->gate || e % ch->period != ch->period - 1;
    case 3:
        return !ch->counting || !ch->gate || e % ch->period < (ch->period + 1) / 2;
    default:
        return !ch->counting || e != ch->period;
    }
}

/* Mode 3 counts by two; odd periods lose one at the start of the high half and three at the low
 * one's. */
static uint32_t square_wave_count(const PitChannel *ch, int64_t e)
{
    uint32_t phase = e % ch->period, high = (ch->period + 1) / 2, even = ch->period & ~1u;
    if (phase >= high)
        phase -= high;
    return even - MIN(2 * phase, even - 2);
}

static uint16_t current_count(PitChannel *ch, int64_t now)
{
    settle(ch, now);
    int64_t e = elapsed(ch, now);
    uint32_t count;
    if (!ch->counting)
        count = period_of(ch);
    else if (is_periodic(ch) && !ch->gate)
        count = ch->period;
    else if (ch->mode == 2)
        count = ch->period - e % ch->period;
    else if (ch->mode == 3)
        count = square_wave_count(ch, e);
    else
        count = (ch->period + modulus(ch) - e % modulus(ch)) % modulus(ch);
    count %= modulus(ch);
    return ch->bcd ? binary_to_bcd(count) : count;
}

/* ---- IRQ 0 ----------------------------------------------------------------------------------- */

/* The first tick after `after` at which OUT of channel 0 rises, or -1. */
static int64_t next_rise(const PitChannel *ch, int64_t after)
{
    if (!ch->counting)
        return -1;
    if (is_periodic(ch)) {
        int64_t rise = ch->start + (MAX(after - ch->start, 0) / ch->period + 1) * ch->period;
        return ch->reload_at > after ? MIN(rise, ch->reload_at) : rise;
    }
    int64_t rise = ch->start + ch->period + (ch->mode == 4 ? 1 : 0);
    return rise > after ? rise : -1;
}

static void set_irq(Pit *pit, bool level)
{
    pit->irq_level = level;
    irq_set(pit->irq, level);
}

static void arm(Pit *pit, int64_t not_before_ns)
{
    if (pit->irq_tick < 0)
        timer_cancel(&pit->timer);
    else
        timer_arm(&pit->timer, MAX(ns_of(pit->irq_tick), not_before_ns));
}

/* Channel 0 was programmed: what was owed is forgotten. */
static void restart_irq(Pit *pit, int64_t now)
{
    bool out = output(&pit->channel[0], now);
    if (out != pit->irq_level)
        set_irq(pit, out);
    pit->irq_tick = next_rise(&pit->channel[0], now);
    arm(pit, 0);
}

static void timer_fire(void *obj)
{
    Pit *pit = obj;
    PitChannel *ch = &pit->channel[0];
    int64_t now_ns = clock_now_ns(pit->device.board->clock);
    int64_t now = tick_of(now_ns);
    if (pit->irq_tick < 0 || now < pit->irq_tick) {
        arm(pit, 0);
        return;
    }
    int64_t owed_ns = now_ns + MAX(MIN(ns_of(ch->period) / 2, OWED_NS), MIN_WAKE_NS);
    if (is_periodic(ch) && pit->irq_untaken && pit->irq_untaken(pit->irq_untaken_obj)) {
        timer_arm(&pit->timer, owed_ns);
        return;
    }
    if (pit->irq_level)
        set_irq(pit, false);
    set_irq(pit, true);
    settle(ch, pit->irq_tick);
    int64_t from = is_periodic(ch) ? MAX(pit->irq_tick, now - (int64_t)PIT_MAX_OWED * ch->period)
                                   : pit->irq_tick;
    pit->irq_tick = next_rise(ch, from);
    arm(pit, is_periodic(ch) ? owed_ns : 0);
}

/* ---- programming ----------------------------------------------------------------------------- */

static void set_gate(PitChannel *ch, bool gate, int64_t now)
{
    bool rising = gate && !ch->gate;
    settle(ch, now);
    if (!gate && ch->gate && ch->counting && (ch->mode == 0 || ch->mode == 4))
        ch->held = elapsed(ch, now);
    ch->gate = gate;
    if (!rising)
        return;
    if (ch->held >= 0) {
        ch->start = now - ch->held;
        ch->held = -1;
    }
    /* Modes 1 and 5 are triggered, modes 2 and 3 begin a new period. */
    if (is_triggered(ch) || (is_periodic(ch) && ch->counting))
        load(ch, now + 1);
}

/* A whole count was written: 231164 "mode definitions". */
static void count_written(PitChannel *ch, uint16_t count, int64_t now)
{
    settle(ch, now);
    ch->reload = count;
    ch->null_count = true;
    if (is_triggered(ch))
        return; /* taken over by the next trigger */
    if (!is_periodic(ch) || !ch->counting || !ch->gate) {
        load(ch, now + 1);
        return;
    }
    int64_t periods = elapsed(ch, now) / ch->period + 1;
    ch->reload_at = ch->start + periods * ch->period;
}

static void write_count(Pit *pit, unsigned n, uint8_t value)
{
    PitChannel *ch = &pit->channel[n];
    int64_t now = now_tick(pit);
    if (ch->access == 1) {
        count_written(ch, value, now);
    } else if (ch->access == 2) {
        count_written(ch, value << 8, now);
    } else if (!ch->write_high) {
        ch->low_byte = value;
        ch->write_high = true;
        if (ch->mode == 0)
            ch->counting = false; /* the first byte stops the count and lowers OUT */
    } else {
        ch->write_high = false;
        count_written(ch, value << 8 | ch->low_byte, now);
    }
    if (n == 0)
        restart_irq(pit, now);
}

static void latch_count(PitChannel *ch, int64_t now)
{
    if (ch->latched_bytes)
        return; /* until it is read or the channel programmed */
    ch->latched_count = current_count(ch, now);
    ch->latched_bytes = ch->access == 3 ? 2 : 1;
}

static void latch_status(PitChannel *ch, int64_t now)
{
    if (ch->status_latched)
        return;
    bool out = output(ch, now);
    ch->latched_status = out << 7 | ch->null_count << 6 | ch->access << 4 | ch->mode << 1 | ch->bcd;
    ch->status_latched = true;
}

static void read_back(Pit *pit, uint8_t command, int64_t now)
{
    for (unsigned n = 0; n < 3; n++) {
        if (!(command & 2 << n))
            continue;
        if (!(command & 0x20))
            latch_count(&pit->channel[n], now);
        if (!(command & 0x10))
            latch_status(&pit->channel[n], now);
    }
}

static void program(PitChannel *ch, uint8_t command)
{
    uint8_t mode = command >> 1 & 7;
    ch->mode = mode > 5 ? mode & 3 : mode; /* 6 and 7 are 2 and 3 */
    ch->access = command >> 4 & 3;
    ch->bcd = command & 1;
    ch->write_high = ch->read_high = false;
    ch->latched_bytes = 0;
    ch->status_latched = false;
    ch->null_count = true;
    ch->counting = false;
    ch->held = ch->reload_at = -1;
}

static void write_control(Pit *pit, uint8_t command)
{
    unsigned n = command >> 6;
    int64_t now = now_tick(pit);
    if (n == 3) {
        read_back(pit, command, now);
    } else if (!(command & 0x30)) {
        latch_count(&pit->channel[n], now);
    } else {
        program(&pit->channel[n], command);
        if (n == 0)
            restart_irq(pit, now);
    }
}

static uint8_t read_latched(PitChannel *ch)
{
    bool high = ch->access == 2 || (ch->access == 3 && ch->latched_bytes == 1);
    ch->latched_bytes--;
    return high ? ch->latched_count >> 8 : ch->latched_count;
}

static uint8_t read_count(PitChannel *ch, int64_t now)
{
    if (ch->status_latched) {
        ch->status_latched = false;
        return ch->latched_status;
    }
    if (ch->latched_bytes)
        return read_latched(ch);
    uint16_t count = current_count(ch, now);
    bool high = ch->access == 2 || (ch->access == 3 && ch->read_high);
    if (ch->access == 3)
        ch->read_high = !ch->read_high;
    return high ? count >> 8 : count;
}

static uint64_t pit_read(void *obj, uint64_t offset, unsigned size)
{
    Pit *pit = obj;
    return offset == 3 ? 0xff : read_count(&pit->channel[offset], now_tick(pit));
}

static void pit_write(void *obj, uint64_t offset, unsigned size, uint64_t value)
{
    if (offset == 3)
        write_control(obj, value);
    else
        write_count(obj, offset, value);
}

/* Port 0x61: 0 gate 2, 1 speaker, 3:2 check disable, 4 refresh toggle, 5 OUT 2, 7:6 parity and
 * channel errors. */
static uint64_t port61_read(void *obj, uint64_t offset, unsigned size)
{
    Pit *pit = obj;
    int64_t now = now_tick(pit);
    bool refresh = now / 18 & 1; /* a memory refresh every 15 us */
    return pit->channel[2].gate | pit->speaker << 1 | pit->port61_rw | refresh << 4 |
           output(&pit->channel[2], now) << 5;
}

static void port61_write(void *obj, uint64_t offset, unsigned size, uint64_t value)
{
    Pit *pit = obj;
    pit->speaker = value & 2;
    pit->port61_rw = value & 0x0c;
    set_gate(&pit->channel[2], value & 1, now_tick(pit));
}

static const RegionOps pit_ops = {
    .name = "pit", .read = pit_read, .write = pit_write, .max_access = 1};
static const RegionOps port61_ops = {
    .name = "port61", .read = port61_read, .write = port61_write, .max_access = 1};

/* ---- device ---------------------------------------------------------------------------------- */

static bool pit_create(Device *device, GError **error)
{
    Pit *pit = (Pit *)device;
    region_init_io(&pit->io, &pit_ops, pit, device->board->lock, 4);
    region_init_io(&pit->port61, &port61_ops, pit, device->board->lock, 1);
    timer_init(&pit->timer, device->board->clock, timer_fire, pit);
    return true;
}

static void pit_destroy(Device *device)
{
    timer_clear(&((Pit *)device)->timer);
}

/* The chip comes up undefined; here it is as a BIOS expects it, with nothing counting. */
static void pit_reset(Device *device)
{
    Pit *pit = (Pit *)device;
    for (unsigned n = 0; n < 3; n++) {
        pit->channel[n] = (PitChannel){.gate = n != 2, .period = 65536};
        program(&pit->channel[n], 0x36);
    }
    pit->speaker = false;
    pit->port61_rw = 0;
    restart_irq(pit, now_tick(pit));
}

static bool channel_is_valid(const PitChannel *ch, int64_t now)
{
    return ch->mode <= 5 && ch->access >= 1 && ch->access <= 3 && ch->latched_bytes <= 2 &&
           ch->period >= 1 && ch->period <= 65536 && ch->start >= -1 && ch->start <= now + 1 &&
           ch->held >= -1 && ch->held <= now + 1 && ch->reload_at >= -1 &&
           ch->reload_at <= now + 1 + 65536 && (!is_periodic(ch) || ch->period >= 2);
}

static bool pit_loaded(Device *device, GError **error)
{
    Pit *pit = (Pit *)device;
    int64_t now = now_tick(pit);
    bool valid =
        !(pit->port61_rw & ~0x0c) && pit->irq_tick >= -1 && pit->irq_tick <= now + 2 * 65537;
    for (unsigned n = 0; n < 3; n++)
        valid = valid && channel_is_valid(&pit->channel[n], now);
    if (!valid)
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    "the saved state of %s holds values that no 8254 can have", device->id);
    return valid;
}

static const StateField channel_state[] = {
    STATE_FIELD(PitChannel, mode, STATE_U8, 1),
    STATE_FIELD(PitChannel, access, STATE_U8, 1),
    STATE_FIELD(PitChannel, bcd, STATE_BOOL, 1),
    STATE_FIELD(PitChannel, gate, STATE_BOOL, 1),
    STATE_FIELD(PitChannel, write_high, STATE_BOOL, 1),
    STATE_FIELD(PitChannel, read_high, STATE_BOOL, 1),
    STATE_FIELD(PitChannel, low_byte, STATE_U8, 1),
    STATE_FIELD(PitChannel, latched_count, STATE_U16, 1),
    STATE_FIELD(PitChannel, latched_bytes, STATE_U8, 1),
    STATE_FIELD(PitChannel, status_latched, STATE_BOOL, 1),
    STATE_FIELD(PitChannel, latched_status, STATE_U8, 1),
    STATE_FIELD(PitChannel, reload, STATE_U16, 1),
    STATE_FIELD(PitChannel, null_count, STATE_BOOL, 1),
    STATE_FIELD(PitChannel, counting, STATE_BOOL, 1),
    STATE_FIELD(PitChannel, period, STATE_U32, 1),
    STATE_FIELD(PitChannel, start, STATE_I64, 1),
    STATE_FIELD(PitChannel, held, STATE_I64, 1),
    STATE_FIELD(PitChannel, reload_at, STATE_I64, 1),
    STATE_LIST_END,
};

static const StateField pit_state[] = {
    STATE_STRUCTS(Pit, channel, channel_state, 1),
    STATE_FIELD(Pit, speaker, STATE_BOOL, 1),
    STATE_FIELD(Pit, port61_rw, STATE_U8, 1),
    STATE_FIELD(Pit, irq_level, STATE_BOOL, 1),
    STATE_FIELD(Pit, irq_tick, STATE_I64, 1),
    STATE_FIELD(Pit, timer, STATE_TIMER, 1),
    STATE_LIST_END,
};

const DeviceType pit_type = {
    .name = "pit-8254",
    .description = "8254 interval timer and port 0x61",
    .instance_size = sizeof(Pit),
    .create = pit_create,
    .reset = pit_reset,
    .destroy = pit_destroy,
    .state_version = 1,
    .state = pit_state,
    .loaded = pit_loaded,
};
