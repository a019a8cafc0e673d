/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See listen.h. */
#include "daemon/listen.h"
#include "base/i18n.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>

#include "base/fd.h"
#include "base/remote.h"
#include "daemon/certificate.h"

#define BACKLOG         64
#define TOKEN_BYTES     32
#define TOKEN_MIN_CHARS 20

void listen_clear(Listen *listen)
{
    g_free(listen->address);
    g_free(listen->certificate);
    g_free(listen->key);
    g_free(listen->token);
}

/* ---- what is asked for ----------------------------------------------------------------------- */

static char *path_of(GKeyFile *file, const char *config_folder, const char *key, const char *usual)
{
    g_autofree char *given = g_key_file_get_string(file, "listen", key, NULL);

    return g_canonicalize_filename(given ? given : usual, config_folder);
}

bool listen_read(Listen *listen, const char *config_folder, const char *address, GError **error)
{
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_autofree char *path = g_build_filename(config_folder, "ospited.conf", NULL);
    g_autoptr(GError) why = NULL;

    if (!g_key_file_load_from_file(file, path, G_KEY_FILE_NONE, &why) &&
        !g_error_matches(why, G_FILE_ERROR, G_FILE_ERROR_NOENT)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA, _("cannot read '%s': %s; mend it"),
                    path, why->message);
        return false;
    }
    listen->address =
        address ? g_strdup(address) : g_key_file_get_string(file, "listen", "address", NULL);
    listen->certificate = path_of(file, config_folder, "certificate", "api.crt");
    listen->key = path_of(file, config_folder, "key", "api.key");
    listen->token = path_of(file, config_folder, "token", "api.token");
    return true;
}

/* ---- the files ------------------------------------------------------------------------------- */

static bool make_token(const char *path, GError **error)
{
    auto_fd fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    guint8 random[TOKEN_BYTES] = {0};
    GString *text = g_string_new(NULL);
    bool ok = fd >= 0 && getrandom(random, sizeof(random), 0) == sizeof(random);

    for (unsigned i = 0; i < TOKEN_BYTES; i++)
        g_string_append_printf(text, "%02x", random[i]);
    g_string_append_c(text, '\n');
    ok = ok && write(fd, text->str, text->len) == (ssize_t)text->len && fsync(fd) == 0;
    if (!ok)
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(errno), _("cannot write '%s': %s"),
                    path, g_strerror(errno));
    g_string_free(text, TRUE);
    return ok;
}

bool listen_make_files(const Listen *listen, GError **error)
{
    bool pair = g_file_test(listen->certificate, G_FILE_TEST_EXISTS) ||
                certificate_make(listen->certificate, listen->key, error);

    return pair &&
           (g_file_test(listen->token, G_FILE_TEST_EXISTS) || make_token(listen->token, error));
}

GTlsCertificate *listen_certificate(const Listen *listen, GError **error)
{
    g_autofree char *key = secret_file_read(listen->key, error);
    g_autofree char *chain = NULL, *both = NULL;
    GTlsCertificate *certificate = NULL;

    if (key && g_file_get_contents(listen->certificate, &chain, NULL, error)) {
        both = g_strconcat(key, "\n", chain, NULL);
        certificate = g_tls_certificate_new_from_pem(both, -1, error);
    }
    if (!certificate)
        g_prefix_error(
            error, _("cannot use the certificate '%s' ('ospited --make-certificate' makes one): "),
            listen->certificate);
    return certificate;
}

char *listen_token(const Listen *listen, GError **error)
{
    g_autofree char *token = secret_file_read(listen->token, error);

    if (!token || strlen(token) >= TOKEN_MIN_CHARS)
        return g_steal_pointer(&token);
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                _("cannot use the token in '%s': it has fewer than %d characters, which can be "
                  "guessed; remove it, and 'ospited --make-certificate' makes one"),
                listen->token, TOKEN_MIN_CHARS);
    return NULL;
}

/* ---- the socket ------------------------------------------------------------------------------ */

static GSocketAddress *parse_address(const char *text, GError **error)
{
    g_autoptr(GNetworkAddress) parsed = G_NETWORK_ADDRESS(g_network_address_parse(text, 0, NULL));
    g_autoptr(GInetAddress) address =
        parsed ? g_inet_address_new_from_string(g_network_address_get_hostname(parsed)) : NULL;
    guint16 port = parsed ? g_network_address_get_port(parsed) : 0;

    if (address && port)
        return g_inet_socket_address_new(address, port);
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                _("cannot listen at '%s': use ADDRESS:PORT, such as 127.0.0.1:9460 or [::]:9460"),
                text);
    return NULL;
}

int listen_open(const Listen *listen, GError **error)
{
    g_autoptr(GSocketAddress) address = parse_address(listen->address, error);
    g_autoptr(GSocket) socket =
        address ? g_socket_new(g_socket_address_get_family(address), G_SOCKET_TYPE_STREAM,
                               G_SOCKET_PROTOCOL_TCP, error)
                : NULL;

    if (!socket)
        return -1;
    g_socket_set_listen_backlog(socket, BACKLOG);
    if (g_socket_bind(socket, address, TRUE, error) && g_socket_listen(socket, error))
        return fcntl(g_socket_get_fd(socket), F_DUPFD_CLOEXEC, 0);
    g_prefix_error(error, _("cannot listen at '%s': "), listen->address);
    return -1;
}
