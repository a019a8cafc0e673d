/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Parts of the program that are loaded when they are first needed: those that stand on large
 * libraries, which every command would pay for at its start otherwise.
 *
 * A module is a shared object `ospite-NAME.so` with one exported symbol, `ospite_module`, and needs
 * nothing of the program that loads it but this header. It stays loaded.
 *
 * Threads: any.
 */
#pragma once

#include <gio/gio.h>

typedef struct OspiteModule {
    const char *version; /* of the program that it was built with */
    const void *api;     /* a struct of functions, as the module's own header says */
} OspiteModule;

/* In the module's source, once. */
#define OSPITE_MODULE(table)                 \
    extern const OspiteModule ospite_module; \
    __attribute__((visibility("default")))   \
    const OspiteModule ospite_module = {OSPITE_VERSION, (table)}

/* The module's api; NULL with an error that says what is missing. */
const void *module_load(const char *name, GError **error);
