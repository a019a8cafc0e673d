/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See i18n.h. */
#include "base/i18n.h"

#include <errno.h>
#include <glib.h>
#include <libintl.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>

#define VARIABLE "LANGUAGE="

extern int _nl_msg_cat_cntr; /* GNU gettext: to be raised when the environment changes */

/* In the build folder the catalogues lie beside the program, installed where the program tells. */
static char *catalogue_folder(void)
{
    static const char *const places[] = {"po", OSPITE_LOCALE_BESIDE};
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *own = g_path_get_dirname(self ? self : ".");

    for (size_t i = 0; i < G_N_ELEMENTS(places); i++) {
        g_autofree char *folder = g_build_filename(own, places[i], NULL);
        g_autofree char *known =
            g_build_filename(folder, "it", "LC_MESSAGES", GETTEXT_PACKAGE ".mo", NULL);
        if (g_file_test(known, G_FILE_TEST_EXISTS))
            return g_steal_pointer(&folder);
    }
    return g_strdup(OSPITE_LOCALE_FOLDER);
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
    const char *locale = setlocale(LC_MESSAGES, "");

    /* Of the C locale alone nothing is translated; this one is part of the C library. */
    if (!locale || !strcmp(locale, "C"))
        setlocale(LC_MESSAGES, "C.UTF-8");
    i18n_init();
    /* The catalogues are open before a sandbox forbids that. */
    (void)_("missing");
    (void)g_strerror(ENOENT);
}

/* Changed in place: another thread that looks for a message meanwhile (a copy's) finds some word
 * there, never memory that was freed. */
void i18n_set_language(const char *accepted)
{
    static char setting[] = VARIABLE "xxx";
    size_t length = accepted ? strspn(accepted, "abcdefghijklmnopqrstuvwxyz") : 0;
    g_autofree char *language =
        length == 2 || length == 3 ? g_strndup(accepted, length) : g_strdup("en");

    if (!g_strcmp0(g_getenv("LANGUAGE"), language))
        return;
    memcpy(setting + strlen(VARIABLE), language, strlen(language) + 1);
    putenv(setting);
    _nl_msg_cat_cntr++;
}
