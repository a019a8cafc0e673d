/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The commands of `ospite`; each returns the exit status: 0 ok, 1 failed, 2 usage. */
#pragma once

/* Boots a VM in the foreground; argv holds what follows the word "run". */
int command_run(int argc, char **argv);
