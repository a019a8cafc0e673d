/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Differencing images of disks that several machines share (immutable, multi-attach): a qcow2 image
 * over a base of any format, which is only read. The base is the one that the caller names, opened
 * as the caller says; the name inside the difference is only held against it.
 *
 * Threads: any.
 */
#pragma once

#include "block/image.h"

/*
 * Makes a new difference at `path`, which must be free, over `base` in its format. Durable. The
 * base and its parents are opened as a machine would.
 */
bool difference_create(const char *path, const char *base, const char *base_format,
                       bool trust_names, GError **error);
/* Whether the difference at `path` names `base`; fails when it cannot be changed now. */
bool difference_is_over(const char *path, const char *base, bool *ret_is_over, GError **error);
/*
 * The base of an image of any format is, or will be, at another place: only its name changes.
 * `base_format` NULL: what the image says. Durable; may be done twice.
 */
bool difference_set_base(const char *path, const char *format, const char *base,
                         const char *base_format, GError **error);
/*
 * Opens the difference at `path` over `base`, and makes it when it is missing; `anew` forgets what
 * it has from before. `path` NULL: one without a name, in $TMPDIR or /var/tmp, that ends with the
 * process and promises nothing after a crash. `options` are the base's.
 */
Image *difference_open(const char *path, const char *base, const ImageOptions *options, bool anew,
                       GError **error);
