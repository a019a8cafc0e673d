/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A limit of requests and of bytes in a second, with a burst: two leaky buckets. Pure functions of
 * the time that they are told.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct ThrottleLimits {
    uint64_t iops, bytes; /* in a second; 0: no limit */
    uint32_t burst_ms;    /* what so much time allows may come at once; 0: 100 ms */
} ThrottleLimits;

typedef struct Throttle {
    ThrottleLimits limits;
    int64_t iops_until_us, bytes_until_us; /* what was let through is paid for until then */
} Throttle;

static inline bool throttle_is_on(const Throttle *t)
{
    return t->limits.iops || t->limits.bytes;
}

static inline int64_t throttle_wait_for(int64_t until_us, int64_t now_us, int64_t burst_us)
{
    return MAX(until_us - now_us - burst_us, 0);
}

static inline void throttle_pay(int64_t *until_us, int64_t now_us, uint64_t amount, uint64_t rate)
{
    if (rate)
        *until_us = MAX(*until_us, now_us) +
                    (int64_t)MIN((double)amount * G_USEC_PER_SEC / (double)rate, 1e15);
}

/* Microseconds until a request may begin. */
static inline int64_t throttle_wait(const Throttle *t, int64_t now_us)
{
    int64_t burst_us = (t->limits.burst_ms ? t->limits.burst_ms : 100) * INT64_C(1000);

    return MAX(throttle_wait_for(t->iops_until_us, now_us, burst_us),
               throttle_wait_for(t->bytes_until_us, now_us, burst_us));
}

static inline void throttle_count(Throttle *t, int64_t now_us, uint64_t bytes)
{
    throttle_pay(&t->iops_until_us, now_us, 1, t->limits.iops);
    throttle_pay(&t->bytes_until_us, now_us, bytes, t->limits.bytes);
}

/* 0: a request of `bytes` may begin now, and is counted; else microseconds to ask again in. */
static inline int64_t throttle_take(Throttle *t, int64_t now_us, uint64_t bytes)
{
    int64_t wait_us = throttle_wait(t, now_us);

    if (!wait_us)
        throttle_count(t, now_us, bytes);
    return wait_us;
}
