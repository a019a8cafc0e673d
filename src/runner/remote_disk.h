/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Disks on other machines. A machine's process may open no connection once it is shut in
 * (sandbox.h), and shall not read what servers say about names, certificates and files. So each
 * such disk has a process of its own, which speaks to the server, finds it again when it went away
 * (block/protocols), and hands the file on as an NBD export over a socket that was there before.
 * It ends when the machine's process has.
 *
 *   server <── NBD, TLS, HTTP ──> ospite-vm --remote-disk <── NBD, socketpair ──> ospite-vm
 */
#pragma once

#include "machine/pc.h"

#define REMOTE_DISK_OPTION "--remote-disk"

/* Starts them, and fills in `opened` of their drives from `sockets`. */
bool remote_disks_start(PcConfig *config, int sockets[PC_DRIVE_MAX], GError **error);
/* The process of one: the words are those that remote_disks_start() gave it. */
int remote_disk_main(int argc, char **argv);
