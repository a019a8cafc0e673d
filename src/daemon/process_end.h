/* SPDX-License-Identifier: GPL-3.0-or-later */
/* How a machine's process ended, as its log and the kernel tell. */
#pragma once

#include <signal.h>

#include "daemon/process.h"

/* `info` NULL: it was nobody's child, so the kernel tells nothing. */
ProcessEnd *process_end_read(const char *log, const siginfo_t *info);
