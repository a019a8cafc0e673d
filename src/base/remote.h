/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What both ends of the API over TCP need: the token, and how a certificate is told. Any thread. */
#pragma once

#include <gio/gio.h>
#include <stdbool.h>

/*
 * A small file that nobody else can read (new, without the spaces at its ends). Fails with what to
 * do when it is another's, open to others, empty or no plain file.
 */
char *secret_file_read(const char *path, GError **error);
/* Takes as long whatever `given` is, but for its length. */
bool secret_is(const char *secret, const char *given);
/* "sha256:…" of a certificate (new). */
char *certificate_fingerprint(GTlsCertificate *certificate);
