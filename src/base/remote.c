/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See remote.h. */
#include "base/remote.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/i18n.h"

#define SECRET_MAX_BYTES (64 * 1024)

static bool is_secret(int fd, const char *path, GError **error)
{
    struct stat st;
    const char *why = fd < 0 || fstat(fd, &st) < 0 ? g_strerror(errno)
                      : !S_ISREG(st.st_mode)       ? _("it is no plain file")
                      : st.st_uid != getuid() || st.st_mode & 077
                          ? _("others can read it; chmod 600")
                          : NULL;

    if (why)
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_PERMISSION_DENIED,
                    _("cannot take the secret from '%s': %s"), path, why);
    return !why;
}

char *secret_file_read(const char *path, GError **error)
{
    auto_fd fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    g_autofree char *text = g_malloc(SECRET_MAX_BYTES + 1);
    ssize_t got;

    if (!is_secret(fd, path, error))
        return NULL;
    got = read(fd, text, SECRET_MAX_BYTES);
    text[MAX(got, 0)] = '\0';
    g_strstrip(text);
    if (*text)
        return g_strdup(text);
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                _("cannot take the secret from '%s': it is empty"), path);
    return NULL;
}

bool secret_is(const char *secret, const char *given)
{
    size_t length = strlen(secret);
    volatile unsigned char differ = 0;

    if (strlen(given) != length)
        return false;
    for (size_t i = 0; i < length; i++)
        differ |= (unsigned char)(secret[i] ^ given[i]);
    return differ == 0;
}

char *certificate_fingerprint(GTlsCertificate *certificate)
{
    g_autoptr(GByteArray) der = NULL;
    g_autofree char *sum = NULL;

    g_object_get(certificate, "certificate", &der, NULL);
    sum = g_compute_checksum_for_data(G_CHECKSUM_SHA256, der->data, der->len);
    return g_strconcat("sha256:", sum, NULL);
}
