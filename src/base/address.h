/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Images are named by files of the host, or by addresses of files on other machines. Any thread. */
#pragma once

#include <stdbool.h>

/* nbd://…, https://… and the like: block/protocols/remote.h opens them. */
bool is_address(const char *name);
/* The file's absolute name, found from `folder` (NULL: the current one); an address as it is. */
char *absolute_name(const char *name, const char *folder);
