/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See remote.h. A certificate that is pinned is trusted whoever made it, and no other one is. */
#include "client/remote.h"

#include <string.h>

#include "base/i18n.h"
#include "base/remote.h"

/* ---- the pin --------------------------------------------------------------------------------- */

typedef struct PinDatabase {
    GTlsDatabase parent;
    char *fingerprint;
} PinDatabase;
typedef GTlsDatabaseClass PinDatabaseClass;

static GType pin_database_get_type(void);
G_DEFINE_TYPE(PinDatabase, pin_database, G_TYPE_TLS_DATABASE)

static GTlsCertificateFlags verify_pin(GTlsDatabase *database, GTlsCertificate *chain,
                                       const char *purpose, GSocketConnectable *identity,
                                       GTlsInteraction *interaction, GTlsDatabaseVerifyFlags flags,
                                       GCancellable *cancellable, GError **error)
{
    g_autofree char *shown = certificate_fingerprint(chain);

    return g_ascii_strcasecmp(shown, ((PinDatabase *)database)->fingerprint)
               ? G_TLS_CERTIFICATE_UNKNOWN_CA
               : 0;
}

static void pin_database_finalize(GObject *object)
{
    g_free(((PinDatabase *)object)->fingerprint);
    G_OBJECT_CLASS(pin_database_parent_class)->finalize(object);
}

static void pin_database_class_init(PinDatabaseClass *class)
{
    class->verify_chain = verify_pin;
    G_OBJECT_CLASS(class)->finalize = pin_database_finalize;
}

static void pin_database_init(PinDatabase *database)
{
}

/* ---- where it is ----------------------------------------------------------------------------- */

void remote_clear(Remote *remote)
{
    g_clear_pointer(&remote->base, g_free);
    g_clear_pointer(&remote->token, g_free);
    g_clear_pointer(&remote->fingerprint, g_free);
}

static bool check_base(const char *base, GError **error)
{
    g_autoptr(GUri) uri = g_uri_parse(base, G_URI_FLAGS_NONE, NULL);
    bool ok = uri && !strcmp(g_uri_get_scheme(uri), "https") && g_uri_get_host(uri) &&
              *g_uri_get_host(uri) &&
              strspn(g_uri_get_path(uri), "/") == strlen(g_uri_get_path(uri));

    if (!ok)
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    _("cannot connect to '%s'; use https://HOST:PORT"), base);
    return ok;
}

bool remote_read(Remote *remote, GError **error)
{
    const char *base = g_getenv("OSPITE_CONNECT"), *path = g_getenv("OSPITE_TOKEN_FILE");
    const char *fingerprint = g_getenv("OSPITE_FINGERPRINT");
    g_autofree char *token = NULL;

    if (!base || !*base)
        return true;
    if (!check_base(base, error))
        return false;
    if (!path) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    _("cannot connect to '%s' without the daemon's token; name its file with "
                      "--token-file"),
                    base);
        return false;
    }
    token = secret_file_read(path, error);
    if (!token)
        return false;
    remote->base = g_strndup(base, strlen(base) - (g_str_has_suffix(base, "/") ? 1 : 0));
    remote->token = g_strconcat("Bearer ", token, NULL);
    remote->fingerprint = g_strdup(fingerprint);
    return true;
}

SoupSession *remote_session(const Remote *remote)
{
    SoupSession *session = soup_session_new_with_options("timeout", 0, "idle-timeout", 0, NULL);
    g_autoptr(GTlsDatabase) database = NULL;

    if (remote->fingerprint) {
        database = g_object_new(pin_database_get_type(), NULL);
        ((PinDatabase *)database)->fingerprint = g_strdup(remote->fingerprint);
        soup_session_set_tls_database(session, database);
    }
    return session;
}

SoupMessage *remote_message(const Remote *remote, const char *method, const char *path)
{
    g_autofree char *uri =
        g_strconcat(remote->base ? remote->base : "http://localhost", "/v1", path, NULL);
    SoupMessage *message = soup_message_new(method, uri);

    if (message && remote->token)
        soup_message_headers_replace(soup_message_get_request_headers(message), "Authorization",
                                     remote->token);
    if (message)
        soup_message_headers_replace(soup_message_get_request_headers(message), "Accept-Language",
                                     g_get_language_names()[0]);
    if (message)
        soup_message_add_flags(message, SOUP_MESSAGE_NO_REDIRECT); /* the token stays with us */
    /* On a connection that was used before, libsoup may send it twice, and without its body. */
    if (message && strcmp(method, "GET") != 0)
        soup_message_add_flags(message, SOUP_MESSAGE_NEW_CONNECTION);
    return message;
}

void remote_explain(const Remote *remote, GError **error)
{
    if (!remote->base || !error || !*error)
        return;
    g_prefix_error(error, _("cannot reach the daemon at '%s': "), remote->base);
    if ((*error)->domain == G_TLS_ERROR) {
        g_autofree char *text = g_strconcat(
            (*error)->message,
            _("; compare --fingerprint with what 'ospited --make-certificate' says there"), NULL);
        g_free((*error)->message);
        (*error)->message = g_steal_pointer(&text);
    }
}
