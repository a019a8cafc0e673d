/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The log of what a guest does wrong, and of what a device does not implement.
 *
 * A guest can write it at will, so each place in the source that logs is limited to a few lines a
 * second; what was dropped is counted in the next line. Off by default (OSPITE_GUEST_LOG=1 turns it
 * on). Any thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef struct GuestLogLimit {
    int64_t window_start_us;
    unsigned written;
    unsigned dropped;
} GuestLogLimit;

bool guest_log_enabled(void);
void guest_log_write(GuestLogLimit *limit, const char *device, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* guest_log("ide", "unknown command %#x", command); */
#define guest_log(device, ...)                                       \
    do {                                                             \
        static GuestLogLimit guest_log_limit_;                       \
        if (guest_log_enabled())                                     \
            guest_log_write(&guest_log_limit_, device, __VA_ARGS__); \
    } while (0)
