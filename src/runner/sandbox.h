/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What a machine's process may still ask of the kernel once its files are open (SAFETY: §4). */
#pragma once

#include <gio/gio.h>
#include <stdbool.h>

/*
 * No new privileges, no core dump of guest memory, and only the system calls of one list: none that
 * opens, runs, connects to or looks at anything new. Others fail with EPERM. For the whole process;
 * once.
 */
bool sandbox_enter(GError **error);
