/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What is particular to VDI images, for `internalcommands sethduuid`. */
#pragma once

#include "block/format.h"
#include "block/formats/uuid.h"

/* Gives the image another identity. Durable. */
bool vdi_set_uuid(ImageMap *map, Uuid uuid, GError **error);
