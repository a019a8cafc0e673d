/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A connected, non-blocking socket, in the clear or through TLS (GnuTLS; certificates or PSK).
 * Threads: the owner's alone.
 */
#pragma once

#include <gio/gio.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

/* Who we are to clients: certificates or keys. Shared by all connections of a server. */
typedef struct NbdTls NbdTls;

typedef struct NbdStream {
    int fd;
    void *session;    /* gnutls_session_t; NULL: in the clear */
    bool negotiating; /* until nbd_stream_handshake() says 0 */
} NbdStream;

/*
 * `folder` holds server-cert.pem, server-key.pem and, to demand certificates of clients
 * (`verify_peer`), ca-cert.pem. Fails when it is built without TLS, too.
 */
NbdTls *nbd_tls_new_certificates(const char *folder, bool verify_peer, GError **error);
/* A file of user:hexkey lines, as psktool(1) makes it. */
NbdTls *nbd_tls_new_psk(const char *file, GError **error);
/* NULL is allowed. */
void nbd_tls_free(NbdTls *tls);

void nbd_stream_init(NbdStream *stream, int fd);
void nbd_stream_clear(NbdStream *stream);
/* From now on TLS is spoken; nbd_stream_handshake() comes first. */
bool nbd_stream_start_tls(NbdStream *stream, NbdTls *tls);
/* 0: done; -EAGAIN: again when the socket is ready; another negative errno: refused. */
int nbd_stream_handshake(NbdStream *stream);
/* The handshake waits for room rather than for data. */
bool nbd_stream_wants_to_write(const NbdStream *stream);
/* Bytes moved, 0 at the end, or a negative errno (-EAGAIN: not now). */
ssize_t nbd_stream_recv(NbdStream *stream, void *data, size_t size);
ssize_t nbd_stream_send(NbdStream *stream, const struct iovec *iov, int count);
/* Decrypted bytes wait, which poll(2) doesn't know of. */
bool nbd_stream_has_pending(const NbdStream *stream);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(NbdTls, nbd_tls_free)
