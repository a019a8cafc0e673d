/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Sockets of NBD; see nbd_stream.h. */
#include "block/protocols/nbd_stream.h"

#include <errno.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/module.h"
#include "block/protocols/nbd_tls.h"

/* ---- TLS ------------------------------------------------------------------------------------- */

/* Set once there is an NbdTls, without which no stream has a session. */
static const NbdTlsApi *tls_api;

static bool load(GError **error)
{
    if (!tls_api)
        tls_api = module_load("tls", error);
    return tls_api != NULL;
}

NbdTls *nbd_tls_new_certificates(const char *folder, bool verify_peer, GError **error)
{
    return load(error) ? tls_api->new_certificates(folder, verify_peer, error) : NULL;
}

NbdTls *nbd_tls_new_psk(const char *file, GError **error)
{
    return load(error) ? tls_api->new_psk(file, error) : NULL;
}

void nbd_tls_free(NbdTls *tls)
{
    if (tls)
        tls_api->free(tls);
}

bool nbd_stream_start_tls(NbdStream *stream, NbdTls *tls)
{
    return tls_api->start(stream, tls);
}

int nbd_stream_handshake(NbdStream *stream)
{
    return tls_api->handshake(stream);
}

bool nbd_stream_wants_to_write(const NbdStream *stream)
{
    return stream->negotiating && tls_api->wants_to_write(stream);
}

bool nbd_stream_has_pending(const NbdStream *stream)
{
    return stream->session && tls_api->has_pending(stream);
}

/* ---- sockets --------------------------------------------------------------------------------- */

void nbd_stream_init(NbdStream *stream, int fd)
{
    *stream = (NbdStream){.fd = fd};
}

void nbd_stream_clear(NbdStream *stream)
{
    if (stream->session)
        tls_api->end_session(stream);
    stream->session = NULL;
    fd_clear(&stream->fd);
}

ssize_t nbd_stream_recv(NbdStream *stream, void *data, size_t size)
{
    if (stream->session)
        return tls_api->recv(stream, data, size);
    ssize_t n;
    do {
        n = recv(stream->fd, data, size, 0);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

ssize_t nbd_stream_send(NbdStream *stream, const struct iovec *iov, int count)
{
    if (stream->session)
        return tls_api->send(stream, iov, count);
    struct msghdr message = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)count};
    ssize_t n;
    do {
        n = sendmsg(stream->fd, &message, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}
