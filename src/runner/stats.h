/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the engine of a machine has counted, for people and for programs. Main thread. */
#pragma once

#include "cpu/engine.h"

/* Lines "| cpuN name=value …", the form of the control socket. */
void stats_append_lines(Vm *vm, GString *text);
/* One JSON object (docs/debugging.md) and a newline; newly allocated. */
char *stats_json(Vm *vm);
/* The same into a file; "-" is standard output. */
bool stats_write(Vm *vm, const char *path, GError **error);
