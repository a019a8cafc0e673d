/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The ATAPI CD-ROM drive: packet commands over an AtaDrive.
 *
 * Threads: everything with the board lock held.
 * Sources: ATA/ATAPI-6 8.23 (PACKET), SFF-8020i, MMC-3 (INCITS 360), SPC-2 (sense data).
 */
#pragma once

#include "device/storage/ata.h"

/* See ide_change_disc(). */
bool atapi_change_disc(AtaDrive *drive, Disk *disk, bool force, GError **error);
