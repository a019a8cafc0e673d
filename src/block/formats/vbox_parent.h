/* SPDX-License-Identifier: GPL-3.0-or-later */
/* VirtualBox's images name their parents by UUIDs, which its registry knows. Here folders are
 * searched. */
#pragma once

#include "block/format.h"
#include "block/formats/uuid.h"

/*
 * Names the VDI or VMDK with that UUID as the parent of `map`: from the image's folder, or from the
 * one above it, beside which VirtualBox keeps snapshots, if names may lead anywhere or the image is
 * in such a folder. To look only, none need be there.
 */
bool vbox_find_parent(ImageMap *map, Uuid uuid, const OpenParameters *parameters, GError **error);
/* Whether `name`, of the image at `path`, is what would be found in the folder above. */
bool vbox_is_parent(const char *path, const char *name, Uuid uuid);
