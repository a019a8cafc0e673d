/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The `ospite` program: by the name it was called with, ospite, qemu-img or vboxmanage. */
#include <glib.h>
#include <locale.h>
#include <signal.h>
#include <string.h>

#include "base/i18n.h"
#include "cli/command.h"
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
    return command_main(argc, argv);
}
