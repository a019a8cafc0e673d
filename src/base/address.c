/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See address.h. */
#include "base/address.h"

#include <glib.h>

bool is_address(const char *name)
{
    static const char *const schemes[] = {"nbd://",       "nbds://", "nbd+unix://",
                                          "nbds+unix://", "http://", "https://"};
    for (unsigned i = 0; i < G_N_ELEMENTS(schemes); i++) {
        if (g_str_has_prefix(name, schemes[i]))
            return true;
    }
    return false;
}

char *absolute_name(const char *name, const char *folder)
{
    return is_address(name) ? g_strdup(name) : g_canonicalize_filename(name, folder);
}
