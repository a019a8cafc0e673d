/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Where a user's things are, by the XDG Base Directory Specification 0.8. Any thread. */
#pragma once

#include <gio/gio.h>

/*
 * The folder for sockets and locks: "ospite" in $XDG_RUNTIME_DIR, else in /run/user/UID, else
 * /tmp/ospite-UID. It is made when missing, and ours alone (mode 0700); fails when it is another's.
 */
char *user_runtime_folder(GError **error);
/* ~/.config/ospite: which machines and media there are. Not made. */
char *user_config_folder(void);
/* ~/.local/share/ospite/machines: where machines are made. Not made. */
char *user_machine_folder(void);
