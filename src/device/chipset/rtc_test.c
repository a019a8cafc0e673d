/* SPDX-License-Identifier: GPL-3.0-or-later */
/* MC146818A against the data sheet: formats, setting, UIP, update, alarm and periodic interrupts,
 * CMOS. */
#include "device/chipset/rtc.h"
#include "device/fuzz.h"
#include "device/test_board.h"

typedef struct Fixture {
    TestBoard *b;
    Rtc *rtc;
} Fixture;

static uint8_t get(Fixture *f, uint8_t index)
{
    test_out(f->b, 0x70, 1, index);
    return test_in(f->b, 0x71, 1);
}

static void put(Fixture *f, uint8_t index, uint8_t value)
{
    test_out(f->b, 0x70, 1, index);
    test_out(f->b, 0x71, 1, value);
}

/* 1999-12-31 23:59:57, BCD, 24 hours; the divider is released, so the second has 500 ms to go. */
static void set_up(Fixture *f, gconstpointer data)
{
    static const uint8_t time[] = {0x57, 0, 0x59, 0, 0x23, 0, 0x06, 0x31, 0x12, 0x99};
    f->b = test_board_new();
    f->rtc = device_new(&rtc_type, &f->b->board, "rtc");
    f->rtc->irq = test_board_irq(f->b, 8);
    f->rtc->nmi_enable = test_board_irq(f->b, 9);
    g_assert_true(device_create(&f->rtc->device, NULL));
    device_reset(&f->rtc->device);
    space_map(f->b->board.ports, 0x70, &f->rtc->io, 0, 2, SPACE_PRIORITY_BOARD, false);
    put(f, 11, 0x82);
    put(f, 10, 0x70);
    for (unsigned i = 0; i < sizeof(time); i++)
        put(f, i, time[i]);
    put(f, RTC_CENTURY, 0x19);
    put(f, 11, 0x02);
    put(f, 10, 0x20);
    get(f, 12);
}

static void tear_down(Fixture *f, gconstpointer data)
{
    device_free(&f->rtc->device);
    test_board_free(f->b);
}

static void advance_ms(Fixture *f, int64_t ms)
{
    clock_advance(f->b->board.clock, ms * NS_PER_MS);
}

static void test_rollover(Fixture *f, gconstpointer data)
{
    g_assert_cmphex(get(f, 0), ==, 0x57);
    advance_ms(f, 499);
    g_assert_cmphex(get(f, 0), ==, 0x57);
    advance_ms(f, 1);
    g_assert_cmphex(get(f, 0), ==, 0x58);
    advance_ms(f, 2000);
    static const uint8_t expected[] = {0, 0, 0, 0, 0, 0, 0x07, 0x01, 0x01, 0x00};
    for (unsigned i = 0; i < sizeof(expected); i += i < 6 ? 2 : 1)
        g_assert_cmphex(get(f, i), ==, expected[i]);
    g_assert_cmphex(get(f, RTC_CENTURY), ==, 0x20);
}

static void test_formats(Fixture *f, gconstpointer data)
{
    put(f, 11, 0x80); /* 12 hours, BCD */
    put(f, 4, 0x92);  /* 12 PM */
    put(f, 11, 0x00);
    g_assert_cmphex(get(f, 4), ==, 0x92);
    put(f, 11, 0x06); /* the same time, 24 hours, binary */
    g_assert_cmphex(get(f, 4), ==, 12);
    g_assert_cmphex(get(f, 2), ==, 59);
    put(f, 11, 0x04);
    put(f, 4, 0x0c); /* 12 AM, binary */
    put(f, 11, 0x06);
    g_assert_cmphex(get(f, 4), ==, 0);
}

static void test_set_stops(Fixture *f, gconstpointer data)
{
    put(f, 11, 0x92); /* SET clears UIE */
    g_assert_cmphex(get(f, 11), ==, 0x82);
    advance_ms(f, 5000);
    g_assert_cmphex(get(f, 0), ==, 0x57);
    g_assert_cmphex(get(f, 12), ==, 0);
}

static void test_uip(Fixture *f, gconstpointer data)
{
    clock_advance(f->b->board.clock, 500 * NS_PER_MS - 2229 * NS_PER_US);
    g_assert_cmphex(get(f, 10) & 0x80, ==, 0);
    clock_advance(f->b->board.clock, 2 * NS_PER_US);
    g_assert_cmphex(get(f, 10) & 0x80, ==, 0x80);
    clock_advance(f->b->board.clock, 2227 * NS_PER_US);
    g_assert_cmphex(get(f, 10) & 0x80, ==, 0);
    g_assert_cmphex(get(f, 12), ==, 0x10); /* flags come without an enable, IRQF does not */
}

static void test_update_interrupt(Fixture *f, gconstpointer data)
{
    put(f, 11, 0x12);
    advance_ms(f, 500);
    g_assert_true(f->b->irq_level[8]);
    g_assert_cmphex(get(f, 12), ==, 0x90);
    g_assert_false(f->b->irq_level[8]);
    g_assert_cmphex(get(f, 12), ==, 0);
    advance_ms(f, 999);
    g_assert_false(f->b->irq_level[8]);
    advance_ms(f, 1);
    g_assert_true(f->b->irq_level[8]);
}

static void test_alarm(Fixture *f, gconstpointer data)
{
    put(f, 1, 0x05);
    put(f, 3, 0xff); /* any minute, any hour */
    put(f, 5, 0xc0);
    put(f, 11, 0x22);
    advance_ms(f, 7499);
    g_assert_false(f->b->irq_level[8]);
    advance_ms(f, 1);
    g_assert_true(f->b->irq_level[8]);
    g_assert_cmphex(get(f, 12) & 0xe0, ==, 0xa0);
    advance_ms(f, 59999);
    g_assert_false(f->b->irq_level[8]);
    advance_ms(f, 1);
    g_assert_true(f->b->irq_level[8]);
}

static void test_periodic(Fixture *f, gconstpointer data)
{
    unsigned ticks = 0;
    put(f, 10, 0x26); /* 1024 Hz */
    put(f, 11, 0x42);
    for (unsigned i = 0; i < 100000; i++) {
        clock_advance(f->b->board.clock, 10 * NS_PER_US);
        if (f->b->irq_level[8])
            ticks += get(f, 12) >> 6 == 3;
    }
    g_assert_cmpuint(ticks, ==, 1024);
}

static void test_cmos(Fixture *f, gconstpointer data)
{
    rtc_set_cmos(f->rtc, 0x15, 0x80);
    put(f, RTC_SHUTDOWN_STATUS, 0x0a);
    put(f, 11, 0x72);
    device_reset(&f->rtc->device);
    g_assert_cmphex(get(f, RTC_SHUTDOWN_STATUS), ==, 0x0a);
    g_assert_cmphex(get(f, 0x15), ==, 0x80);
    g_assert_cmphex(get(f, 11), ==, 0x02); /* RESET# clears the enables */
    g_assert_cmphex(get(f, 13), ==, 0x80);
    g_assert_true(f->b->irq_level[9]);
    test_out(f->b, 0x70, 1, 0x8d);
    g_assert_false(f->b->irq_level[9]); /* NMI masked */
    g_assert_cmphex(test_in(f->b, 0x71, 1), ==, 0x80);
}

static void test_host_time(void)
{
    g_autoptr(TestBoard) b = test_board_new();
    Rtc *rtc = device_new(&rtc_type, &b->board, "rtc");
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();
    g_assert_true(device_create(&rtc->device, NULL));
    uint8_t year = rtc_get_cmos(rtc, 9);
    g_assert_cmpint((year >> 4) * 10 + (year & 15), ==, g_date_time_get_year(now) % 100);
    device_free(&rtc->device);
}

static void test_state(Fixture *f, gconstpointer data)
{
    put(f, 11, 0x72);
    advance_ms(f, 750);
    test_state_round_trip(&f->rtc->device);
}

/* Years beyond the registers' sense stay in what the clock can count, and can be saved. */
static void test_far_years(Fixture *f, gconstpointer data)
{
    put(f, 11, 0x86);
    put(f, RTC_CENTURY, 21);
    put(f, 9, 255);
    put(f, 11, 0x06);
    g_assert_cmpuint(get(f, 9), ==, 99);
    g_assert_cmpuint(get(f, RTC_CENTURY), ==, 21);
    test_state_round_trip(&f->rtc->device);
}

static void test_storm(void)
{
    fuzz_random(5);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, function) \
    g_test_add("/chipset/rtc/" name, Fixture, NULL, set_up, function, tear_down)
    ADD("rollover", test_rollover);
    ADD("formats", test_formats);
    ADD("set", test_set_stops);
    ADD("uip", test_uip);
    ADD("update", test_update_interrupt);
    ADD("alarm", test_alarm);
    ADD("periodic", test_periodic);
    ADD("cmos", test_cmos);
    ADD("far-years", test_far_years);
    ADD("state", test_state);
    g_test_add_func("/chipset/rtc/host-time", test_host_time);
    g_test_add_func("/chipset/rtc/storm", test_storm);
    return g_test_run();
}
