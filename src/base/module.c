/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Loading parts of the program; see module.h. */
#include "base/module.h"
#include "base/i18n.h"

#include <dlfcn.h>
#include <unistd.h>

static void fail(GError **error, const char *name, const char *why)
{
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
                _("this needs the part '%s' of Ospite, which cannot be loaded: %s"), name, why);
}

/* In the folder that the environment names (for tests), of the program, or of the installation. */
static void *open_library(const char *file)
{
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *own = g_path_get_dirname(self ? self : ".");
    g_autofree char *beside = g_build_filename(own, OSPITE_MODULE_BESIDE, NULL);
    const char *const folders[] = {g_getenv("OSPITE_MODULES"), own, beside, OSPITE_MODULE_FOLDER};
    void *library = NULL;
    for (size_t i = 0; i < G_N_ELEMENTS(folders) && !library; i++) {
        g_autofree char *path = folders[i] ? g_build_filename(folders[i], file, NULL) : NULL;
        if (path && access(path, F_OK) == 0)
            library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    }
    return library;
}

const void *module_load(const char *name, GError **error)
{
    g_autofree char *file = g_strdup_printf("ospite-%s.so", name);
    void *library = open_library(file);
    const OspiteModule *module = library ? dlsym(library, "ospite_module") : NULL;
    if (!module) {
        const char *why = dlerror();
        fail(error, name, why ? why : _("it is not installed"));
        return NULL;
    }
    if (g_strcmp0(module->version, OSPITE_VERSION)) {
        fail(error, name, _("it is of another version"));
        return NULL;
    }
    return module->api;
}
