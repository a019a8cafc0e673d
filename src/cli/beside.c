/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "cli/beside.h"

#include <errno.h>
#include <glib.h>
#include <unistd.h>

#include "base/i18n.h"

int run_beside(const char *program, char **argv)
{
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *folder = g_path_get_dirname(self ? self : ".");
    g_autofree char *path = g_build_filename(folder, program, NULL);
    execv(path, argv);
    g_printerr(_("ospite: cannot run '%s': %s; is Ospite installed whole?\n"), path,
               g_strerror(errno));
    return 1;
}
