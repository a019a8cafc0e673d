/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The program `ospite-cli`: every command of ospite but `disk`. `ospite` runs it (main.c). */
#include <signal.h>

#include "cli/command.h"

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ,
           SIG_IGN); /* a write beyond the limit is to fail with EFBIG, as on a full disk */
    return command_main(argc, argv);
}
