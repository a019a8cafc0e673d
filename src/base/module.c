/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Loading parts of the program; see module.h. The program's run path leads to them. */
#include "base/module.h"
#include "base/i18n.h"

#include <dlfcn.h>

static void fail(GError **error, const char *name, const char *why)
{
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
                _("this needs the part '%s' of Ospite, which cannot be loaded: %s"), name, why);
}

const void *module_load(const char *name, GError **error)
{
    g_autofree char *file = g_strdup_printf("ospite-%s.so", name);
    void *library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    const OspiteModule *module = library ? dlsym(library, "ospite_module") : NULL;
    if (!module) {
        fail(error, name, dlerror());
        return NULL;
    }
    if (g_strcmp0(module->version, OSPITE_VERSION)) {
        fail(error, name, _("it is of another version"));
        return NULL;
    }
    return module->api;
}
