/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What is particular to VDI images, for those over them. */
#pragma once

#include "block/format.h"
#include "block/formats/uuid.h"

/* The image's identity, of the first 512 bytes of a file; false: it is no VDI. */
bool vdi_header_uuid(const uint8_t *header, Uuid *ret_uuid);
