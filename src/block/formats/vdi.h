/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What is particular to VDI images, for `internalcommands sethduuid`. */
#pragma once

#include "block/format.h"
#include "block/formats/uuid.h"

/* The image's identity, of the first 512 bytes of a file; false: it is no VDI. */
bool vdi_header_uuid(const uint8_t *header, Uuid *ret_uuid);
/* Gives the image another identity. Durable. */
bool vdi_set_uuid(ImageMap *map, Uuid uuid, GError **error);
