/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See user_folders.h. */
#include "base/user_folders.h"
#include "base/i18n.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* The folder that "ospite" is in, or the whole path where there is no such folder. */
static char *runtime_path(void)
{
    const char *given = g_getenv("XDG_RUNTIME_DIR");
    g_autofree char *usual = g_strdup_printf("/run/user/%u", getuid());

    if (given && *given)
        return g_build_filename(given, "ospite", NULL);
    if (g_file_test(usual, G_FILE_TEST_IS_DIR))
        return g_build_filename(usual, "ospite", NULL);
    return g_strdup_printf("/tmp/ospite-%u", getuid());
}

char *user_runtime_folder(GError **error)
{
    g_autofree char *path = runtime_path();
    struct stat st;

    if (g_mkdir(path, 0700) < 0 && errno != EEXIST) {
        g_set_error(
            error, G_IO_ERROR, g_io_error_from_errno(errno),
            _("cannot make the folder '%s' for sockets: %s; set XDG_RUNTIME_DIR to a folder "
              "of yours"),
            path, g_strerror(errno));
        return NULL;
    }
    if (lstat(path, &st) < 0 || !S_ISDIR(st.st_mode) || st.st_uid != getuid() ||
        st.st_mode & 0077) {
        g_set_error(
            error, G_IO_ERROR, G_IO_ERROR_PERMISSION_DENIED,
            _("cannot use '%s' for sockets: it is no folder of yours alone; remove it, or set "
              "XDG_RUNTIME_DIR"),
            path);
        return NULL;
    }
    return g_steal_pointer(&path);
}

char *user_config_folder(void)
{
    return g_build_filename(g_get_user_config_dir(), "ospite", NULL);
}

char *user_machine_folder(void)
{
    return g_build_filename(g_get_user_data_dir(), "ospite", "machines", NULL);
}
