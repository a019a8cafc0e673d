/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The API over TCP, for those who ask for it: an address, a certificate and a token.
 *
 *     ~/.config/ospite/ospited.conf      [listen]
 *                                        address=192.0.2.1:9460
 *                                        certificate=…, key=…, token=…   (usual: the files below)
 *     ~/.config/ospite/api.crt, api.key  PEM
 *     ~/.config/ospite/api.token         64 hexadecimal digits, or what the user wrote
 */
#pragma once

#include <gio/gio.h>
#include <stdbool.h>

typedef struct Listen {
    char *address; /* "ADDRESS:PORT"; NULL: nobody asked for it */
    char *certificate, *key, *token;
} Listen;
void listen_clear(Listen *listen);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Listen, listen_clear)

/* What the configuration folder says; `address` not NULL counts more. */
bool listen_read(Listen *listen, const char *config_folder, const char *address, GError **error);
/* Makes those of the certificate, the key and the token that are not there. */
bool listen_make_files(const Listen *listen, GError **error);
/* Who we are: the certificate with its key. */
GTlsCertificate *listen_certificate(const Listen *listen, GError **error);
char *listen_token(const Listen *listen, GError **error);
/* A listening socket at the address; -1 with an error. */
int listen_open(const Listen *listen, GError **error);
