/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The program `ospite-cli`: every command but those of disks. `ospite` becomes it (main.c). */
#include <glib.h>
#include <locale.h>
#include <signal.h>

#include "base/i18n.h"
#include "cli/command.h"
#include "cli/vbox.h"

int main(int argc, char **argv)
{
    g_autofree char *name = g_path_get_basename(argc ? argv[0] : "ospite");

    setlocale(LC_CTYPE, "");
    setlocale(LC_MESSAGES, "");
    i18n_init();
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ,
           SIG_IGN); /* a write beyond the limit is to fail with EFBIG, as on a full disk */
    return g_ascii_strcasecmp(name, "vboxmanage") ? command_main(argc, argv)
                                                  : main_vbox(argc, argv);
}
