/* SPDX-License-Identifier: GPL-3.0-or-later */
/* `vboxmanage internalcommands` about disks of the host: descriptors over them, and partitions. */
#pragma once

#include "cli/vbox_words.h"

/* -filename FILE -rawdisk DISK [-partitions 1,5 [-relative] [-mbr FILE]] */
bool vbox_create_raw(VboxArgs *args, GError **error);
/* -rawdisk DISK */
bool vbox_list_partitions(VboxArgs *args, GError **error);
