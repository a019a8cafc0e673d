/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The module `tls`: TLS of NBD's sockets by GnuTLS; see nbd_tls.h. */
#include "block/protocols/nbd_tls.h"

#include <errno.h>
#include <gnutls/gnutls.h>

#include "base/i18n.h"
#include "base/module.h"

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

static void free_tls(NbdTls *tls)
{
    if (!tls)
        return;
    if (tls->certificates)
        gnutls_certificate_free_credentials(tls->certificates);
    if (tls->keys)
        gnutls_psk_free_server_credentials(tls->keys);
    g_free(tls);
}

static NbdTls *new_certificates(const char *folder, bool verify_peer, GError **error)
{
    NbdTls *tls = g_new0(NbdTls, 1);
    tls->verify_peer = verify_peer;
    if (!load_certificates(tls, folder, verify_peer, error))
        g_clear_pointer(&tls, free_tls);
    return tls;
}

static NbdTls *new_psk(const char *file, GError **error)
{
    NbdTls *tls = g_new0(NbdTls, 1);
    int code = g_file_test(file, G_FILE_TEST_IS_REGULAR) ? 0 : GNUTLS_E_FILE_ERROR;
    if (!code)
        code = gnutls_psk_allocate_server_credentials(&tls->keys);
    if (code >= 0)
        code = gnutls_psk_set_server_credentials_file(tls->keys, file);
    if (code >= 0)
        return tls;
    fail_tls(error, file, code);
    free_tls(tls);
    return NULL;
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

static bool start(NbdStream *stream, NbdTls *tls)
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

static int handshake(NbdStream *stream)
{
    int code = gnutls_handshake(stream->session);
    while (code < 0 && code != GNUTLS_E_AGAIN && !gnutls_error_is_fatal(code))
        code = gnutls_handshake(stream->session);
    stream->negotiating = code < 0;
    return code < 0 ? tls_result(code) : 0;
}

/* Sending has its own reason to wait; see out_waits in nbd_conn.h. */
static bool wants_to_write(const NbdStream *stream)
{
    return gnutls_record_get_direction(stream->session) == 1;
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

static bool has_pending(const NbdStream *stream)
{
    return gnutls_record_check_pending(stream->session) > 0;
}

static void end_session(NbdStream *stream)
{
    gnutls_deinit(stream->session);
}

static const NbdTlsApi api = {
    .new_certificates = new_certificates,
    .new_psk = new_psk,
    .free = free_tls,
    .start = start,
    .handshake = handshake,
    .wants_to_write = wants_to_write,
    .recv = tls_recv,
    .send = tls_send,
    .has_pending = has_pending,
    .end_session = end_session,
};
OSPITE_MODULE(&api);
