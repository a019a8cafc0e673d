/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See certificate.h. The cryptography is OpenSSL's. */
#include "daemon/certificate.h"
#include "base/i18n.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include "base/fd.h"

#define YEARS 10

G_DEFINE_AUTOPTR_CLEANUP_FUNC(EVP_PKEY, EVP_PKEY_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(X509, X509_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(BIO, BIO_free_all)

static bool add_extension(X509 *x509, int nid, const char *value)
{
    X509V3_CTX context = {0};
    X509_EXTENSION *extension;
    bool ok;

    X509V3_set_ctx(&context, x509, x509, NULL, NULL, 0);
    extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    ok = extension && X509_add_ext(x509, extension, -1);
    X509_EXTENSION_free(extension);
    return ok;
}

static bool fill(X509 *x509, EVP_PKEY *key)
{
    /* A host's name may hold what a list of names in OpenSSL's notation may not. */
    g_autofree char *host = g_strdup(g_get_host_name());
    g_autofree char *names = NULL;
    X509_NAME *subject = X509_get_subject_name(x509);
    uint64_t serial;

    g_strcanon(host, G_CSET_a_2_z G_CSET_A_2_Z G_CSET_DIGITS ".-", '-');
    host[MIN(strlen(host), 63)] = '\0';
    names = g_strdup_printf("DNS:%s,DNS:localhost,IP:127.0.0.1,IP:::1", host);
    return RAND_bytes((unsigned char *)&serial, sizeof(serial)) == 1 && X509_set_version(x509, 2) &&
           ASN1_INTEGER_set_uint64(X509_get_serialNumber(x509), serial >> 1) &&
           X509_gmtime_adj(X509_getm_notBefore(x509), -3600) &&
           X509_time_adj_ex(X509_getm_notAfter(x509), YEARS * 365, 0, NULL) &&
           X509_set_pubkey(x509, key) &&
           X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (unsigned char *)host, -1, -1,
                                      0) &&
           X509_set_issuer_name(x509, subject) &&
           add_extension(x509, NID_subject_alt_name, names) &&
           add_extension(x509, NID_basic_constraints, "critical,CA:FALSE") &&
           X509_sign(x509, key, EVP_sha256());
}

/* One that is there is never replaced. */
static bool write_file(const char *path, mode_t mode, BIO *text, GError **error)
{
    auto_fd fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
    char *data;
    long size = BIO_get_mem_data(text, &data);

    if (fd >= 0 && write(fd, data, (size_t)size) == size && fsync(fd) == 0)
        return true;
    g_set_error(error, G_IO_ERROR, g_io_error_from_errno(errno), _("cannot write '%s': %s"), path,
                g_strerror(errno));
    return false;
}

bool certificate_make(const char *certificate, const char *key, GError **error)
{
    g_autoptr(EVP_PKEY) pair = EVP_EC_gen("P-256");
    g_autoptr(X509) x509 = X509_new();
    g_autoptr(BIO) secret = BIO_new(BIO_s_mem()), public = BIO_new(BIO_s_mem());

    if (!pair || !x509 || !secret || !public || !fill(x509, pair) ||
        !PEM_write_bio_PrivateKey(secret, pair, NULL, NULL, 0, NULL, NULL) ||
        !PEM_write_bio_X509(public, x509)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_FAILED,
                    _("cannot make a certificate: OpenSSL refuses; make one with 'openssl req'"));
        return false;
    }
    return write_file(key, 0600, secret, error) && write_file(certificate, 0644, public, error);
}
