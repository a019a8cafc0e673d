/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A request and its one answer; see server.h. The message is paused until then. */
#include "daemon/request.h"
#include "base/i18n.h"

#include <string.h>

#include "daemon/json_read.h"
#include "vm/text.h"

struct Request {
    SoupServerMessage *message;
    GSocket *socket;
    GSource *hang_up; /* watches for the peer's end, where somebody wants to know; NULL */
    char **path;
    GHashTable *query;
    JsonNode *json;
    gulong finished;
    bool gone;
    void (*on_gone)(void *obj);
    void *gone_obj;
};

typedef struct Upgrade {
    RequestUpgraded fn;
    void *obj;
    GList *extensions;
} Upgrade;

/* ---- life ------------------------------------------------------------------------------------ */

static void tell_gone(Request *request)
{
    void (*tell)(void *) = g_steal_pointer(&request->on_gone);

    if (tell)
        tell(request->gone_obj);
}

static void on_finished(SoupServerMessage *message, gpointer data)
{
    Request *request = data;

    request->gone = true;
    tell_gone(request);
}

/* "/v1/vms/a%20b" → v1, vms, "a b"; a part that cannot be unescaped stays as it is. */
static char **split_path(const char *path)
{
    char **parts = g_strsplit(*path == '/' ? path + 1 : path, "/", 16);

    for (char **part = parts; *part; part++) {
        char *plain = g_uri_unescape_string(*part, NULL);
        if (!plain || !g_utf8_validate(plain, -1, NULL)) {
            g_free(plain);
            continue;
        }
        g_free(*part);
        *part = plain;
    }
    return parts;
}

void request_speak(const Request *request)
{
    i18n_set_language(soup_message_headers_get_one(
        soup_server_message_get_request_headers(request->message), "Accept-Language"));
}

Request *request_new(SoupServerMessage *message, GSocket *socket, const char *path,
                     GHashTable *query)
{
    Request *request = g_new0(Request, 1);

    request->socket = g_object_ref(socket);
    request->message = g_object_ref(message);
    request->path = split_path(path);
    request->query = query ? g_hash_table_ref(query) : NULL;
    request->finished = g_signal_connect(message, "finished", G_CALLBACK(on_finished), request);
    soup_server_message_pause(message);
    return request;
}

static void request_free(Request *request)
{
    if (request->hang_up)
        g_source_destroy(request->hang_up);
    g_clear_pointer(&request->hang_up, g_source_unref);
    g_object_unref(request->socket);
    g_signal_handler_disconnect(request->message, request->finished);
    g_object_unref(request->message);
    g_strfreev(request->path);
    g_clear_pointer(&request->query, g_hash_table_unref);
    g_clear_pointer(&request->json, json_node_unref);
    g_free(request);
}

static gboolean on_hang_up(GSocket *socket, GIOCondition condition, gpointer data)
{
    tell_gone(data);
    return G_SOURCE_REMOVE;
}

/* libsoup does not look at the socket of a message that is paused. */
void request_on_gone(Request *request, void (*fn)(void *obj), void *obj)
{
    request->on_gone = fn;
    request->gone_obj = obj;
    request->hang_up = g_socket_create_source(request->socket, G_IO_HUP | G_IO_ERR, NULL);
    g_source_set_callback(request->hang_up, G_SOURCE_FUNC(on_hang_up), request, NULL);
    g_source_attach(request->hang_up, NULL);
}

/* ---- what was asked -------------------------------------------------------------------------- */

const char *request_method(const Request *request)
{
    return soup_server_message_get_method(request->message);
}

char **request_path(const Request *request)
{
    return request->path;
}

const char *request_query(const Request *request, const char *name)
{
    return request->query ? g_hash_table_lookup(request->query, name) : NULL;
}

GBytes *request_body(const Request *request)
{
    return soup_message_body_flatten(soup_server_message_get_request_body(request->message));
}

JsonNode *request_parse_json(const char *text, size_t size, GError **error)
{
    g_autoptr(GError) why = NULL;
    JsonNode *root = json_read(text, size, &why);

    if (!root)
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    _("cannot read the request's body: %s; send a JSON object"), why->message);
    return root;
}

/* Most often it is a slip, and silence would make it look like success. */
static bool check_members(JsonNode *root, const char *members, GError **error)
{
    g_autoptr(GList) names = json_object_get_members(json_node_get_object(root));

    for (GList *l = names; l; l = l->next) {
        const char *name = l->data;
        if (!text_has_word(members, name, strlen(name))) {
            g_autofree char *quoted = text_quote(name);
            g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                        _("cannot take %s in this request; it takes: %s"), quoted, members);
            return false;
        }
    }
    return true;
}

JsonObject *request_json(Request *request, const char *members, GError **error)
{
    g_autoptr(GBytes) body = request_body(request);
    gsize size;
    const char *text = g_bytes_get_data(body, &size);

    if (!request->json && size == 0)
        request->json = json_node_init_object(json_node_alloc(), json_object_new());
    else if (!request->json)
        request->json = request_parse_json(text, size, error);
    return request->json && check_members(request->json, members, error)
               ? json_node_get_object(request->json)
               : NULL;
}

/* ---- the answer ------------------------------------------------------------------------------ */

static void finish(Request *request, unsigned status, const char *type, char *text)
{
    if (!request->gone) {
        soup_server_message_set_status(request->message, status, NULL);
        soup_server_message_set_response(request->message, type, SOUP_MEMORY_TAKE, text,
                                         strlen(text));
        soup_server_message_unpause(request->message);
    } else {
        g_free(text);
    }
    request_free(request);
    i18n_set_language(NULL);
}

void request_answer(Request *request, unsigned status, JsonNode *body)
{
    finish(request, status, "application/json", json_to_string(body, FALSE));
    json_node_unref(body);
}

void request_answer_text(Request *request, const char *type, const char *text)
{
    finish(request, SOUP_STATUS_OK, type, g_strdup(text));
}

static const struct {
    GIOErrorEnum error;
    unsigned status;
    const char *code;
} codes[] = {
    {G_IO_ERROR_INVALID_ARGUMENT, SOUP_STATUS_BAD_REQUEST, "invalid"},
    {G_IO_ERROR_INVALID_DATA, SOUP_STATUS_UNPROCESSABLE_ENTITY, "failed"}, /* a bad file */
    {G_IO_ERROR_INVALID_FILENAME, SOUP_STATUS_BAD_REQUEST, "invalid"},
    {G_IO_ERROR_NOT_FOUND, SOUP_STATUS_NOT_FOUND, "not_found"},
    {G_IO_ERROR_EXISTS, SOUP_STATUS_CONFLICT, "exists"},
    {G_IO_ERROR_BUSY, SOUP_STATUS_CONFLICT, "wrong_state"},
    {G_IO_ERROR_NOT_SUPPORTED, SOUP_STATUS_NOT_IMPLEMENTED, "unsupported"},
    {G_IO_ERROR_TIMED_OUT, SOUP_STATUS_GATEWAY_TIMEOUT, "timed_out"},
};

unsigned request_error_status(const GError *error, const char **ret_code)
{
    for (unsigned i = 0; error->domain == G_IO_ERROR && i < G_N_ELEMENTS(codes); i++) {
        if (error->code == (int)codes[i].error) {
            *ret_code = codes[i].code;
            return codes[i].status;
        }
    }
    *ret_code = "failed";
    return SOUP_STATUS_INTERNAL_SERVER_ERROR;
}

/* Our messages say what to do after the last semicolon. */
static void fail(Request *request, unsigned status, const char *code, const char *text)
{
    const char *cut = g_strrstr(text, "; ");
    g_autofree char *message = cut ? g_strndup(text, cut - text) : g_strdup(text);
    g_autoptr(JsonBuilder) builder = json_builder_new();

    json_builder_begin_object(builder);
    json_builder_set_member_name(builder, "error");
    json_builder_begin_object(builder);
    json_builder_set_member_name(builder, "code");
    json_builder_add_string_value(builder, code);
    json_builder_set_member_name(builder, "message");
    json_builder_add_string_value(builder, message);
    json_builder_set_member_name(builder, "hint");
    json_builder_add_string_value(builder, cut ? cut + 2 : "");
    json_builder_end_object(builder);
    json_builder_end_object(builder);
    request_answer(request, status, json_builder_get_root(builder));
}

void request_fail(Request *request, GError *error)
{
    const char *code;
    unsigned status = request_error_status(error, &code);
    g_autofree char *text = g_utf8_make_valid(error->message, -1);

    g_error_free(error);
    fail(request, status, code, g_strdelimit(text, "\n", ' '));
}

void request_fail_code(Request *request, unsigned status, const char *code, const char *message)
{
    fail(request, status, code, message);
}

/* ---- WebSockets ------------------------------------------------------------------------------ */

/* The message is gone; `fn` has still to hear if it never became a WebSocket. */
static void upgrade_free(gpointer data, GClosure *closure)
{
    Upgrade *upgrade = data;

    if (upgrade->fn)
        upgrade->fn(upgrade->obj, NULL);
    g_free(upgrade);
}

static void on_upgraded(SoupServerMessage *message, gpointer data)
{
    Upgrade *upgrade = data;
    g_autoptr(GIOStream) stream = NULL;
    SoupWebsocketConnection *socket;

    g_object_ref(message);
    stream = soup_server_message_steal_connection(message);
    socket = soup_websocket_connection_new(stream, soup_server_message_get_uri(message),
                                           SOUP_WEBSOCKET_CONNECTION_SERVER, NULL, NULL,
                                           g_steal_pointer(&upgrade->extensions));
    soup_websocket_connection_set_max_incoming_payload_size(socket, 64 * 1024);
    soup_websocket_connection_set_keepalive_interval(socket, 30);
    g_steal_pointer (&upgrade->fn)(upgrade->obj, socket);
    g_object_unref(message);
}

void request_upgrade(Request *request, RequestUpgraded fn, void *obj)
{
    SoupServerMessage *message = request->message;
    Upgrade *upgrade = g_new0(Upgrade, 1);

    *upgrade = (Upgrade){fn, obj};
    g_signal_connect_data(message, "wrote-informational", G_CALLBACK(on_upgraded), upgrade,
                          upgrade_free, 0);
    /* Checked first: processing a bad one would write an answer of its own. */
    if (!request->gone && soup_websocket_server_check_handshake(message, NULL, NULL, NULL, NULL) &&
        soup_websocket_server_process_handshake(message, NULL, NULL, NULL, &upgrade->extensions)) {
        soup_server_message_unpause(message);
        request_free(request);
    } else {
        request_fail_code(request, SOUP_STATUS_BAD_REQUEST, "invalid",
                          _("cannot begin a WebSocket: the request is no handshake; see RFC 6455"));
    }
}
