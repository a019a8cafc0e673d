/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The `ospite` program: by the name it was called with, ospite, qemu-img or vboxmanage. It has the
 * disk commands, which scripts run by the hundred, and links to little, so that it starts fast. All
 * other commands are in `ospite-cli`, which it becomes.
 */
#include <glib.h>
#include <locale.h>
#include <signal.h>
#include <string.h>

#include "base/i18n.h"
#include "cli/beside.h"
#include "cli/disk.h"

int main(int argc, char **argv)
{
    g_autofree char *name = g_path_get_basename(argc ? argv[0] : "ospite");

    setlocale(LC_CTYPE, "");
    setlocale(LC_MESSAGES, "");
    i18n_init();
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ,
           SIG_IGN); /* a write beyond the limit is to fail with EFBIG, as on a full disk */
    if (!strcmp(name, "qemu-img"))
        return main_qemu_img(argc, argv);
    if (!g_ascii_strcasecmp(name, "vboxmanage"))
        return main_vboxmanage(argc, argv);
    if (argc < 2 || strcmp(argv[1], "disk"))
        return run_beside("ospite-cli", argv);
    return command_disk(argc - 2, argv + 2);
}
