/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See i18n.h. */
#include "base/i18n.h"

#include <glib.h>
#include <libintl.h>
#include <locale.h>
#include <string.h>

extern int _nl_msg_cat_cntr; /* GNU gettext: to be raised when the environment changes */

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

void i18n_serve(void)
{
    /* Of the C locale alone nothing is translated; this one is part of the C library. */
    setlocale(LC_MESSAGES, "C.UTF-8");
    i18n_init();
    i18n_set_language(NULL);
}

void i18n_set_language(const char *accepted)
{
    size_t length = accepted ? strspn(accepted, "abcdefghijklmnopqrstuvwxyz") : 0;
    g_autofree char *language = length == 2 || length == 3 ? g_strndup(accepted, length) : NULL;

    if (!g_strcmp0(g_getenv("LANGUAGE"), language ?: "en"))
        return;
    g_setenv("LANGUAGE", language ?: "en", TRUE);
    _nl_msg_cat_cntr++;
}
