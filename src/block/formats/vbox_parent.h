/* SPDX-License-Identifier: GPL-3.0-or-later */
/* VirtualBox's images name their parents by UUIDs, which its registry knows. Here folders are
 * searched. */
#pragma once

#include "block/format.h"
#include "block/formats/uuid.h"

/*
 * Names the VDI or VMDK with that UUID as the parent of `map`: from the image's folder, or, if
 * names may lead anywhere, from the one above it, beside which VirtualBox keeps snapshots. To look
 * only, none need be there.
 */
bool vbox_find_parent(ImageMap *map, Uuid uuid, const OpenParameters *parameters, GError **error);
