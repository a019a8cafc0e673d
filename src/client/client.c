/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The connection: from a call to the daemon's answer or error; see ospite/client.h. */
#include "base/address.h"
#include "client/client_private.h"

#include <gio/gunixsocketaddress.h>
#include <string.h>

#include "base/i18n.h"
#include "base/user_folders.h"
#include "client/remote.h"

#define ANSWER_MAX_BYTES (64 * 1024 * 1024)
#define START_ATTEMPTS   5

struct OspiteClient {
    SoupSession *session;
    GSocketAddress *address; /* of the user's own daemon; NULL: it is elsewhere */
    Remote remote;
};

GQuark ospite_error_quark(void)
{
    return g_quark_from_static_string("ospite-error-quark");
}

/* ---- the daemon ------------------------------------------------------------------------------ */

static char *daemon_program(void)
{
    const char *given = g_getenv("OSPITED");
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *folder = self ? g_path_get_dirname(self) : NULL;
    g_autofree char *beside = folder ? g_build_filename(folder, "ospited", NULL) : NULL;

    if (given)
        return g_strdup(given);
    if (beside && g_file_test(beside, G_FILE_TEST_IS_EXECUTABLE))
        return g_steal_pointer(&beside);
    return g_strdup("ospited");
}

/* Returns when a daemon serves: the one started here, or another that was faster. */
static bool start_daemon(GError **error)
{
    g_autofree char *program = daemon_program();
    const char *const argv[] = {program, "--background", NULL};
    g_autoptr(GError) failure = NULL;
    g_autoptr(GSubprocess) daemon = g_subprocess_newv(
        argv, G_SUBPROCESS_FLAGS_STDOUT_PIPE | G_SUBPROCESS_FLAGS_STDERR_PIPE, &failure);
    char said[8] = {0};
    gsize got = 0;

    if (!daemon) {
        g_set_error(error, OSPITE_ERROR, OSPITE_ERROR_UNREACHABLE,
                    _("cannot start the daemon: %s; install ospited, or name it in $OSPITED"),
                    failure->message);
        return false;
    }
    g_input_stream_read_all(g_subprocess_get_stdout_pipe(daemon), said, 6, &got, NULL, NULL);
    if (!strcmp(said, "ready\n"))
        return true;
    g_autoptr(GBytes) complaint =
        g_input_stream_read_bytes(g_subprocess_get_stderr_pipe(daemon), 4096, NULL, NULL);
    g_autofree char *text =
        complaint ? g_strndup(g_bytes_get_data(complaint, NULL), g_bytes_get_size(complaint))
                  : NULL;
    g_set_error(error, OSPITE_ERROR, OSPITE_ERROR_UNREACHABLE, _("cannot start the daemon: %s"),
                text && *text ? g_strstrip(text) : _("it ended at once"));
    return false;
}

static bool answers(GSocketAddress *address)
{
    g_autoptr(GSocketClient) client = g_socket_client_new();
    g_autoptr(GSocketConnection) connection =
        g_socket_client_connect(client, G_SOCKET_CONNECTABLE(address), NULL, NULL);

    return connection != NULL;
}

static GSocketAddress *local_address(GError **error)
{
    g_autofree char *folder = user_runtime_folder(error);
    g_autofree char *path = folder ? g_build_filename(folder, "api", NULL) : NULL;

    return path ? g_unix_socket_address_new(path) : NULL;
}

/* There is a daemon at the address when this returns true. */
static bool need_daemon(GSocketAddress *address, GError **error)
{
    /* A daemon that leaves at this very moment is why there is more than one attempt. */
    for (unsigned i = 0; !answers(address); i++) {
        if (i == START_ATTEMPTS) {
            g_set_error(error, OSPITE_ERROR, OSPITE_ERROR_UNREACHABLE,
                        _("cannot reach the daemon at '%s'; see ospited.log beside it"),
                        g_unix_socket_address_get_path(G_UNIX_SOCKET_ADDRESS(address)));
            return false;
        }
        if (!start_daemon(error))
            return false;
    }
    return true;
}

/* The user's own daemon, started where there is none. */
static SoupSession *local_session(OspiteClient *client, GError **error)
{
    client->address = local_address(error);
    if (!client->address || !need_daemon(client->address, error))
        return NULL;
    return soup_session_new_with_options("remote-connectable", client->address, "timeout", 0,
                                         "idle-timeout", 0, NULL);
}

/* Whatever hinders us on the way to the daemon is of our domain. */
static void set_unreachable(GError **error, GError *failure)
{
    if (failure->domain != OSPITE_ERROR) {
        failure->domain = OSPITE_ERROR;
        failure->code = OSPITE_ERROR_UNREACHABLE;
    }
    g_propagate_error(error, failure);
}

OspiteClient *ospite_client_new(GError **error)
{
    g_autoptr(OspiteClient) client = g_new0(OspiteClient, 1);
    GError *failure = NULL;

    i18n_init();
    if (remote_read(&client->remote, &failure))
        client->session =
            client->remote.base ? remote_session(&client->remote) : local_session(client, &failure);
    if (client->session)
        return g_steal_pointer(&client);
    set_unreachable(error, failure);
    return NULL;
}

void ospite_client_free(OspiteClient *client)
{
    if (!client)
        return;
    g_clear_object(&client->session);
    g_clear_object(&client->address);
    remote_clear(&client->remote);
    g_free(client);
}

/* ---- calls ----------------------------------------------------------------------------------- */

static const struct {
    const char *code;
    OspiteError error;
} codes[] = {
    {"invalid", OSPITE_ERROR_INVALID},         {"not_found", OSPITE_ERROR_NOT_FOUND},
    {"wrong_state", OSPITE_ERROR_WRONG_STATE}, {"timed_out", OSPITE_ERROR_TIMED_OUT},
    {"exists", OSPITE_ERROR_EXISTS},           {"unsupported", OSPITE_ERROR_UNSUPPORTED},
};

static OspiteError error_of_code(const char *code)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(codes); i++) {
        if (!strcmp(codes[i].code, code))
            return codes[i].error;
    }
    return OSPITE_ERROR_FAILED;
}

static void set_api_error(const char *text, size_t size, GError **error)
{
    g_autoptr(JsonParser) parser = json_parser_new();
    JsonNode *root =
        json_parser_load_from_data(parser, text, size, NULL) ? json_parser_get_root(parser) : NULL;
    JsonObject *object = root && JSON_NODE_HOLDS_OBJECT(root) ? json_node_get_object(root) : NULL;
    JsonNode *node = object ? json_object_get_member(object, "error") : NULL;
    JsonObject *said = node && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;

    if (!said) {
        g_set_error(error, OSPITE_ERROR, OSPITE_ERROR_FAILED,
                    _("the daemon's answer is no answer"));
        return;
    }
    const char *hint = json_object_get_string_member_with_default(said, "hint", "");
    g_set_error(error, OSPITE_ERROR,
                error_of_code(json_object_get_string_member_with_default(said, "code", "failed")),
                "%s%s%s", json_object_get_string_member_with_default(said, "message", "failed"),
                *hint ? "; " : "", hint);
}

/* One request and what became of it. */
typedef struct Attempt {
    SoupMessage *message;
    bool begun; /* some of it may have reached the daemon */
    GError *failure;
} Attempt;

static void attempt_clear(Attempt *attempt)
{
    g_clear_object(&attempt->message);
    g_clear_error(&attempt->failure);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Attempt, attempt_clear)

static void on_starting(SoupMessage *message, gpointer data)
{
    Attempt *attempt = data;

    attempt->begun = true;
}

static GBytes *attempt_send(Attempt *attempt, OspiteClient *client, const char *type, GBytes *body)
{
    attempt->begun = false;
    if (body)
        soup_message_set_request_body_from_bytes(attempt->message, type, body);
    g_signal_connect(attempt->message, "starting", G_CALLBACK(on_starting), attempt);
    return soup_session_send_and_read(client->session, attempt->message, NULL, &attempt->failure);
}

/* What changes nothing, or was not sent, may be asked again. */
static bool attempt_harmless(const Attempt *attempt)
{
    return !attempt->begun || !strcmp(soup_message_get_method(attempt->message), "GET");
}

/* A daemon that was killed, or left, is replaced by a fresh one. */
static bool attempt_again(Attempt *attempt, OspiteClient *client)
{
    return attempt_harmless(attempt) && client->address && need_daemon(client->address, NULL);
}

static void set_unanswered(OspiteClient *client, Attempt *attempt, GError **error)
{
    const char *text = client->remote.base ? "%s" : _("the daemon did not answer: %s");

    remote_explain(&client->remote, &attempt->failure);
    g_set_error(error, OSPITE_ERROR, OSPITE_ERROR_UNREACHABLE,
                attempt_harmless(attempt)
                    ? text
                    : _("the daemon has gone without an answer (%s); it may have done what it "
                        "was asked, so look before you ask again"),
                attempt->failure->message);
}

GBytes *client_send(OspiteClient *client, const char *method, const char *path, const char *type,
                    GBytes *body, GError **error)
{
    g_auto(Attempt) attempt = {remote_message(&client->remote, method, path)};
    g_autoptr(GBytes) answer = NULL;
    gsize size;

    if (!attempt.message) {
        g_set_error(error, OSPITE_ERROR, OSPITE_ERROR_INVALID, _("'%s' is no path of the API"),
                    path);
        return NULL;
    }
    answer = attempt_send(&attempt, client, type, body);
    if (!answer && attempt_again(&attempt, client)) {
        attempt_clear(&attempt);
        attempt.message = remote_message(&client->remote, method, path);
        answer = attempt_send(&attempt, client, type, body);
    }
    if (!answer) {
        set_unanswered(client, &attempt, error);
        return NULL;
    }
    size = g_bytes_get_size(answer);
    if (size <= ANSWER_MAX_BYTES &&
        SOUP_STATUS_IS_SUCCESSFUL(soup_message_get_status(attempt.message)))
        return g_steal_pointer(&answer);
    set_api_error(g_bytes_get_data(answer, NULL), size, error);
    return NULL;
}

JsonNode *client_parse(GBytes *answer, GError **error)
{
    g_autoptr(JsonParser) parser = json_parser_new();
    g_autoptr(GError) failure = NULL;

    if (json_parser_load_from_data(parser, g_bytes_get_data(answer, NULL),
                                   (gssize)g_bytes_get_size(answer), &failure) &&
        json_parser_get_root(parser))
        return json_parser_steal_root(parser);
    g_set_error(error, OSPITE_ERROR, OSPITE_ERROR_FAILED, _("the daemon's answer is no answer"));
    return NULL;
}

JsonNode *ospite_client_call(OspiteClient *client, const char *method, const char *path,
                             JsonNode *body, GError **error)
{
    char *text = body ? json_to_string(body, FALSE) : NULL;
    g_autoptr(GBytes) sent = text ? g_bytes_new_take(text, strlen(text)) : NULL;
    g_autoptr(GBytes) answer = client_send(client, method, path, "application/json", sent, error);

    return answer ? client_parse(answer, error) : NULL;
}

JsonNode *client_call_path(OspiteClient *client, const char *method, char *path, JsonObject *body,
                           GError **error)
{
    g_autofree char *owned = path;
    g_autoptr(JsonNode) sent = body ? json_node_new(JSON_NODE_OBJECT) : NULL;

    if (body)
        json_node_take_object(sent, body);
    return ospite_client_call(client, method, owned, sent, error);
}

char *client_path(const char *collection, const char *name, const char *rest)
{
    g_autofree char *escaped = g_uri_escape_string(name, NULL, FALSE);

    return g_strconcat(collection, "/", escaped, rest, NULL);
}

void client_set_file(JsonObject *object, const char *member, const char *path)
{
    g_autofree char *full = path ? absolute_name(path, NULL) : NULL;

    if (full)
        json_object_set_string_member(object, member, full);
}

JsonNode *ospite_daemon_version(OspiteClient *client, GError **error)
{
    return ospite_client_call(client, "GET", "/version", NULL, error);
}

/* ---- answers --------------------------------------------------------------------------------- */

static JsonNode *find(JsonNode *node, const char *place)
{
    g_auto(GStrv) names = g_strsplit(place, ".", -1);

    for (char **name = names; node && *name; name++)
        node = JSON_NODE_HOLDS_OBJECT(node)
                   ? json_object_get_member(json_node_get_object(node), *name)
                   : NULL;
    return node;
}

const char *ospite_text(JsonNode *answer, const char *place)
{
    JsonNode *node = find(answer, place);

    return node && JSON_NODE_HOLDS_VALUE(node) && json_node_get_value_type(node) == G_TYPE_STRING
               ? json_node_get_string(node)
               : "";
}

gint64 ospite_number(JsonNode *answer, const char *place)
{
    JsonNode *node = find(answer, place);

    return node && JSON_NODE_HOLDS_VALUE(node) ? json_node_get_int(node) : 0;
}

JsonArray *ospite_list(JsonNode *answer, const char *place)
{
    JsonNode *node = find(answer, place);

    return node && JSON_NODE_HOLDS_ARRAY(node) ? json_node_get_array(node) : NULL;
}

/* ---- WebSockets ------------------------------------------------------------------------------ */

typedef struct Opening {
    GMainLoop *loop;
    SoupWebsocketConnection *socket;
    GError *error;
} Opening;

static void on_opened(GObject *session, GAsyncResult *result, gpointer data)
{
    Opening *opening = data;

    opening->socket =
        soup_session_websocket_connect_finish(SOUP_SESSION(session), result, &opening->error);
    g_main_loop_quit(opening->loop);
}

static SoupWebsocketConnection *open_once(OspiteClient *client, const char *path, bool *ret_again)
{
    g_autoptr(SoupMessage) message = remote_message(&client->remote, "GET", path);
    Opening opening = {.loop = g_main_loop_new(g_main_context_get_thread_default(), FALSE)};

    soup_session_websocket_connect_async(client->session, message, NULL, NULL, G_PRIORITY_DEFAULT,
                                         NULL, on_opened, &opening);
    g_main_loop_run(opening.loop);
    g_main_loop_unref(opening.loop);
    /* A daemon that has an answer is not asked again. */
    *ret_again = opening.error && opening.error->domain != SOUP_WEBSOCKET_ERROR &&
                 client->address && need_daemon(client->address, NULL);
    g_clear_error(&opening.error);
    return opening.socket;
}

SoupWebsocketConnection *client_open(OspiteClient *client, const char *path, GError **error)
{
    bool again;
    SoupWebsocketConnection *socket = open_once(client, path, &again);

    if (!socket && again)
        socket = open_once(client, path, &again);
    if (socket)
        return socket;
    /* Asked again as an ordinary request, the daemon says why not. */
    g_autoptr(GBytes) answer = client_send(client, "GET", path, NULL, NULL, error);
    if (answer)
        g_set_error(error, OSPITE_ERROR, OSPITE_ERROR_FAILED, _("the daemon opens no WebSocket"));
    return NULL;
}
