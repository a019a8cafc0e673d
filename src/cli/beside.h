/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The other programs of Ospite lie in the folder of this one. */
#pragma once

/* Becomes one of them; returns the exit status when that fails, and says so. */
int run_beside(const char *program, char **argv);
