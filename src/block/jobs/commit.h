/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Writes what an image has of its own into its parent.
 *
 * Crash-safe in this order: image_commit(), then image_forget() of the image (SAFETY §5.7). Until
 * the latter has begun, a commit that was cut short can be done again from its start.
 *
 * Calls that wait; they use both images alone.
 */
#pragma once

#include "block/image.h"

/*
 * `image` was opened without its parents, `parent` for writing; it is at least as large. Durable on
 * return. 0 or a negative errno. `progress` hears how far it is; NULL.
 */
int image_commit(Image *image, Image *parent, void (*progress)(void *obj, uint64_t done),
                 void *obj);
/*
 * The other way: writes into an image what its parent has of its own and the image has not. It
 * shows what it showed before, at every moment, and then needs its parent's parent only
 * (set_parent()). Durable on return; can be done again from its start. `image` was opened with its
 * parents, for writing.
 */
int image_absorb_parent(Image *image, void (*progress)(void *obj, uint64_t done), void *obj);
