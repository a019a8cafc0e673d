/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Settings that a running machine can take: what differs from its process is told to it. */
#pragma once

#include "daemon/registry.h"

/*
 * Asks the machine's process for whatever of its saved configuration it can take now; what it did
 * is in machine->started afterwards. `refused` maps names of settings to why it did not (of char *,
 * owned). `done` is called once, perhaps at once; its machine is NULL when it was deleted.
 */
typedef void (*LiveDone)(void *obj, Machine *machine, GHashTable *refused);
void live_apply(Registry *registry, Machine *machine, LiveDone done, void *obj);
