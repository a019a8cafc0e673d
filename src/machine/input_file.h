/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Reading kernels, initial RAM disks and firmware: whole, capped files that users name. */
#pragma once

#include <gio/gio.h>
#include <stdbool.h>
#include <stdint.h>

/* `what` is how messages call it: "kernel". Fails on anything but a readable regular file of 1 to
 * `max_size` bytes. Any thread. */
GBytes *input_file_read(const char *path, const char *what, size_t max_size, GError **error);
/* The same in two steps, for files that are read again: a descriptor, or -1; and what the file
 * holds now. */
int input_file_open(const char *path, const char *what, size_t max_size, GError **error);
GBytes *input_file_read_fd(int fd, const char *path, const char *what, size_t max_size,
                           GError **error);
