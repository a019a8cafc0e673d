/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The clock's order of firing, cancelling, and standing still while paused. */
#include "base/clock.h"

typedef struct Fixture {
    GRecMutex lock;
    VmClock *clock;
    ClockTimer timers[3];
    GString *fired;
    GMainLoop *loop;
} Fixture;

static void fire_a(void *obj)
{
    g_string_append_c(((Fixture *)obj)->fired, 'a');
}

static void fire_b(void *obj)
{
    g_string_append_c(((Fixture *)obj)->fired, 'b');
}

/* Re-arms itself: a periodic timer. */
static void fire_c(void *obj)
{
    Fixture *f = obj;

    g_string_append_c(f->fired, 'c');
    timer_arm(&f->timers[2], f->timers[2].deadline_ns + 100);
}

static void quit(void *obj)
{
    g_main_loop_quit(((Fixture *)obj)->loop);
}

static void set_up(Fixture *f, gconstpointer data)
{
    g_rec_mutex_init(&f->lock);
    f->clock = data ? clock_new(NULL, &f->lock) : clock_new_manual(&f->lock);
    f->fired = g_string_new(NULL);
    timer_init(&f->timers[0], f->clock, fire_a, f);
    timer_init(&f->timers[1], f->clock, fire_b, f);
    timer_init(&f->timers[2], f->clock, fire_c, f);
}

static void tear_down(Fixture *f, gconstpointer data)
{
    clock_free(f->clock);
    g_string_free(f->fired, TRUE);
    g_rec_mutex_clear(&f->lock);
}

static void test_order(Fixture *f, gconstpointer data)
{
    timer_arm(&f->timers[0], 300);
    timer_arm(&f->timers[1], 200);
    timer_arm(&f->timers[2], 150);
    g_assert_cmpint(clock_next_deadline_ns(f->clock), ==, 150);
    clock_advance(f->clock, 260);
    g_assert_cmpstr(f->fired->str, ==, "cbc");
    clock_advance(f->clock, 100);
    g_assert_cmpstr(f->fired->str, ==, "cbcac");
    g_assert_cmpint(clock_now_ns(f->clock), ==, 360);
}

static void test_rearm_and_cancel(Fixture *f, gconstpointer data)
{
    timer_arm(&f->timers[0], 100);
    timer_arm(&f->timers[1], 100);
    timer_arm(&f->timers[0], 500);
    timer_cancel(&f->timers[1]);
    timer_cancel(&f->timers[1]);
    clock_advance(f->clock, 499);
    g_assert_cmpstr(f->fired->str, ==, "");
    clock_advance(f->clock, 1);
    g_assert_cmpstr(f->fired->str, ==, "a");
    g_assert_false(f->timers[0].armed);
}

static void test_running(Fixture *f, gconstpointer data)
{
    ClockTimer end;
    int64_t stopped;

    f->loop = g_main_loop_new(NULL, FALSE);
    timer_init(&end, f->clock, quit, f);
    g_assert_cmpint(clock_now_ns(f->clock), ==, 0);
    timer_arm(&f->timers[0], 2 * NS_PER_MS);
    timer_arm(&end, 3 * NS_PER_MS);
    clock_resume(f->clock);
    g_main_loop_run(f->loop);
    g_assert_cmpstr(f->fired->str, ==, "a");
    clock_pause(f->clock);
    stopped = clock_now_ns(f->clock);
    g_assert_cmpint(stopped, >=, 3 * NS_PER_MS);
    g_usleep(2000);
    g_assert_cmpint(clock_now_ns(f->clock), ==, stopped);
    g_main_loop_unref(f->loop);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add("/clock/order", Fixture, NULL, set_up, test_order, tear_down);
    g_test_add("/clock/rearm-and-cancel", Fixture, NULL, set_up, test_rearm_and_cancel, tear_down);
    g_test_add("/clock/running", Fixture, "real", set_up, test_running, tear_down);
    return g_test_run();
}
