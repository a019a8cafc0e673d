/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Sockets of NBD; see nbd_stream.h. */
#include "block/protocols/nbd_stream.h"

#include <errno.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/i18n.h"

#ifdef OSPITE_TLS
#include <gnutls/gnutls.h>

struct NbdTls {
    gnutls_certificate_credentials_t certificates; /* one of these two */
    gnutls_psk_server_credentials_t keys;
    bool verify_peer;
};

static bool fail_tls(GError **error, const char *path, int code)
{
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_FAILED, _("cannot use TLS with '%s': %s"), path,
                gnutls_strerror(code));
    return false;
}

static bool load_certificates(NbdTls *tls, const char *folder, bool verify_peer, GError **error)
{
    g_autofree char *certificate = g_build_filename(folder, "server-cert.pem", NULL);
    g_autofree char *key = g_build_filename(folder, "server-key.pem", NULL);
    g_autofree char *authority = g_build_filename(folder, "ca-cert.pem", NULL);
    int code = gnutls_certificate_allocate_credentials(&tls->certificates);
    if (code < 0)
        return fail_tls(error, folder, code);
    code = gnutls_certificate_set_x509_key_file(tls->certificates, certificate, key,
                                                GNUTLS_X509_FMT_PEM);
    if (code < 0)
        return fail_tls(error, certificate, code);
    if (!verify_peer)
        return true;
    code =
        gnutls_certificate_set_x509_trust_file(tls->certificates, authority, GNUTLS_X509_FMT_PEM);
    return code > 0 || fail_tls(error, authority, code ? code : GNUTLS_E_NO_CERTIFICATE_FOUND);
}

NbdTls *nbd_tls_new_certificates(const char *folder, bool verify_peer, GError **error)
{
    g_autoptr(NbdTls) tls = g_new0(NbdTls, 1);
    tls->verify_peer = verify_peer;
    return load_certificates(tls, folder, verify_peer, error) ? g_steal_pointer(&tls) : NULL;
}

NbdTls *nbd_tls_new_psk(const char *file, GError **error)
{
    g_autoptr(NbdTls) tls = g_new0(NbdTls, 1);
    int code = g_file_test(file, G_FILE_TEST_IS_REGULAR) ? 0 : GNUTLS_E_FILE_ERROR;
    if (!code)
        code = gnutls_psk_allocate_server_credentials(&tls->keys);
    if (code >= 0)
        code = gnutls_psk_set_server_credentials_file(tls->keys, file);
    if (code >= 0)
        return g_steal_pointer(&tls);
    fail_tls(error, file, code);
    return NULL;
}

void nbd_tls_free(NbdTls *tls)
{
    if (!tls)
        return;
    if (tls->certificates)
        gnutls_certificate_free_credentials(tls->certificates);
    if (tls->keys)
        gnutls_psk_free_server_credentials(tls->keys);
    g_free(tls);
}

static bool set_up_session(gnutls_session_t session, NbdTls *tls, int fd)
{
    const char *priority = tls->keys ? "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:+ECDHE-PSK:"
                                       "+DHE-PSK:+PSK"
                                     : "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2";
    gnutls_credentials_type_t kind = tls->keys ? GNUTLS_CRD_PSK : GNUTLS_CRD_CERTIFICATE;
    void *credentials = tls->keys ? (void *)tls->keys : (void *)tls->certificates;
    if (gnutls_priority_set_direct(session, priority, NULL) < 0 ||
        gnutls_credentials_set(session, kind, credentials) < 0)
        return false;
    if (tls->verify_peer) {
        gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUIRE);
        gnutls_session_set_verify_cert(session, NULL, 0);
    }
    gnutls_transport_set_int(session, fd);
    return true;
}

bool nbd_stream_start_tls(NbdStream *stream, NbdTls *tls)
{
    gnutls_session_t session;
    if (gnutls_init(&session, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL) < 0)
        return false;
    stream->session = session;
    stream->negotiating = true;
    return set_up_session(session, tls, stream->fd);
}

static int tls_result(ssize_t code)
{
    return code == GNUTLS_E_AGAIN || code == GNUTLS_E_INTERRUPTED ? -EAGAIN : -EPROTO;
}

int nbd_stream_handshake(NbdStream *stream)
{
    int code = gnutls_handshake(stream->session);
    while (code < 0 && code != GNUTLS_E_AGAIN && !gnutls_error_is_fatal(code))
        code = gnutls_handshake(stream->session);
    stream->negotiating = code < 0;
    return code < 0 ? tls_result(code) : 0;
}

/* Sending has its own reason to wait; see out_waits in nbd_conn.h. */
bool nbd_stream_wants_to_write(const NbdStream *stream)
{
    return stream->negotiating && gnutls_record_get_direction(stream->session) == 1;
}

static ssize_t tls_recv(NbdStream *stream, void *data, size_t size)
{
    ssize_t n = gnutls_record_recv(stream->session, data, size);
    return n < 0 ? tls_result(n) : n;
}

/* GnuTLS wants the same bytes again after EAGAIN, which the caller's queue sees to. */
static ssize_t tls_send(NbdStream *stream, const struct iovec *iov, int count)
{
    ssize_t total = 0;
    for (int i = 0; i < count; i++) {
        for (size_t done = 0; done < iov[i].iov_len;) {
            ssize_t n = gnutls_record_send(stream->session, (uint8_t *)iov[i].iov_base + done,
                                           iov[i].iov_len - done);
            if (n < 0)
                return total ? total : tls_result(n);
            done += (size_t)n;
            total += n;
        }
    }
    return total;
}

bool nbd_stream_has_pending(const NbdStream *stream)
{
    return stream->session && gnutls_record_check_pending(stream->session) > 0;
}

static void end_session(NbdStream *stream)
{
    if (stream->session)
        gnutls_deinit(stream->session);
}

#else /* built without TLS */

static NbdTls *no_tls(GError **error)
{
    g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
                        _("cannot use TLS: this program was built without GnuTLS"));
    return NULL;
}

NbdTls *nbd_tls_new_certificates(const char *folder, bool verify_peer, GError **error)
{
    return no_tls(error);
}

NbdTls *nbd_tls_new_psk(const char *file, GError **error)
{
    return no_tls(error);
}

void nbd_tls_free(NbdTls *tls)
{
}

bool nbd_stream_start_tls(NbdStream *stream, NbdTls *tls)
{
    return false;
}

int nbd_stream_handshake(NbdStream *stream)
{
    return -EPROTO;
}

bool nbd_stream_wants_to_write(const NbdStream *stream)
{
    return false;
}

static ssize_t tls_recv(NbdStream *stream, void *data, size_t size)
{
    return -EPROTO;
}

static ssize_t tls_send(NbdStream *stream, const struct iovec *iov, int count)
{
    return -EPROTO;
}

bool nbd_stream_has_pending(const NbdStream *stream)
{
    return false;
}

static void end_session(NbdStream *stream)
{
}
#endif

void nbd_stream_init(NbdStream *stream, int fd)
{
    *stream = (NbdStream){.fd = fd};
}

void nbd_stream_clear(NbdStream *stream)
{
    end_session(stream);
    stream->session = NULL;
    fd_clear(&stream->fd);
}

ssize_t nbd_stream_recv(NbdStream *stream, void *data, size_t size)
{
    if (stream->session)
        return tls_recv(stream, data, size);
    ssize_t n;
    do {
        n = recv(stream->fd, data, size, 0);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

ssize_t nbd_stream_send(NbdStream *stream, const struct iovec *iov, int count)
{
    if (stream->session)
        return tls_send(stream, iov, count);
    struct msghdr message = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)count};
    ssize_t n;
    do {
        n = sendmsg(stream->fd, &message, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}
