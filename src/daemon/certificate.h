/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A certificate of one's own making, for clients that know its fingerprint. Any thread. */
#pragma once

#include <gio/gio.h>
#include <stdbool.h>

/* Makes two PEM files that are not there yet: a certificate of this host that signs itself, and
 * its key (mode 0600). */
bool certificate_make(const char *certificate, const char *key, GError **error);
