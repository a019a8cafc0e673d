/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See i18n.h. */
#include "base/i18n.h"

#include <glib.h>
#include <libintl.h>

/* In the build folder the catalogues lie beside the program. */
static char *catalogue_folder(void)
{
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *folder = self ? g_path_get_dirname(self) : NULL;
    g_autofree char *built = folder ? g_build_filename(folder, "po", NULL) : NULL;
    g_autofree char *known =
        built ? g_build_filename(built, "it", "LC_MESSAGES", GETTEXT_PACKAGE ".mo", NULL) : NULL;

    return known && g_file_test(known, G_FILE_TEST_EXISTS) ? g_steal_pointer(&built)
                                                           : g_strdup(OSPITE_LOCALE_FOLDER);
}

void i18n_init(void)
{
    static gsize done;

    if (g_once_init_enter(&done)) {
        g_autofree char *folder = catalogue_folder();
        bindtextdomain(GETTEXT_PACKAGE, folder);
        bind_textdomain_codeset(GETTEXT_PACKAGE, "UTF-8");
        g_once_init_leave(&done, 1);
    }
}
