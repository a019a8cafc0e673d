/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Fuzz target: bytes on a connection to a whole daemon with one machine, which is off. What would
 * start, make, move or delete something is answered by 404 before it reaches the table, because a
 * fuzzer's paths are anywhere; so is what waits.
 */
#include <gio/gunixsocketaddress.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/user_folders.h"
#include "char/unix_socket.h"
#include "daemon/api.h"

#define TURNS_MAX 2000 /* of the main loop; a request takes about ten */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
const char *__asan_default_options(void);
const char *__lsan_default_suppressions(void);

/* libsoup 3.2 loses a request's path when the Content-Length is no number. It is told by whole
 * stacks only. */
const char *__asan_default_options(void)
{
    return "fast_unwind_on_malloc=0";
}

const char *__lsan_default_suppressions(void)
{
    return "leak:soup_headers_parse_request\n";
}

typedef struct House {
    Api api;
    Server *server;
    char *path; /* the socket's */
} House;

static void handle(void *obj, Request *request)
{
    const char *method = request_method(request);
    char **path = request_path(request);
    bool waits = g_strv_length(path) == 4 && !strcmp(path[3], "wait");
    bool is_get = !strcmp(method, "GET") && !waits, is_set = !strcmp(method, "PATCH");
    bool is_file = !strcmp(method, "PUT") && g_strv_length(path) == 4;

    if (is_get || is_set || is_file)
        api_handle(obj, request);
    else
        request_fail_code(request, SOUP_STATUS_NOT_FOUND, "not_found", "not for a fuzzer");
}

static House *build_house(void)
{
    House *house = g_new0(House, 1);
    g_autofree char *top = g_dir_make_tmp("ospite-fuzz-XXXXXX", NULL);
    g_autofree char *config = g_build_filename(top, "config", NULL);
    g_autoptr(GError) error = NULL;

    g_setenv("XDG_DATA_HOME", top, TRUE);
    g_setenv("XDG_CONFIG_HOME", top, TRUE);
    house->path = g_build_filename(top, "api", NULL);
    g_assert_cmpint(g_mkdir(config, 0700), ==, 0);
    house->api.events = events_new();
    house->api.registry = registry_new(config, top, house->api.events, &error);
    g_assert_no_error(error);
    house->server = server_new(handle, &house->api);
    int fd = unix_socket_listen(house->path, 8, &error);
    g_assert_no_error(error);
    g_assert_true(server_listen(house->server, fd, &error));
    return house;
}

/* One machine called "one", whatever the last input has made of it. */
static void furnish(House *house)
{
    GPtrArray *all = registry_list(house->api.registry);
    g_autoptr(GPtrArray) kept = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GHashTable) spare = g_hash_table_new(g_str_hash, g_str_equal);

    if (all->len == 1 && registry_find(house->api.registry, "one", NULL))
        return;
    while (all->len)
        g_assert_true(registry_delete(house->api.registry, all->pdata[0], DELETE_KEEP_DISKS, spare,
                                      kept, NULL));
    g_assert_nonnull(registry_create(house->api.registry, vm_config_new("one", NULL), NULL, NULL));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static House *house;
    g_autoptr(GSocketClient) client = g_socket_client_new();
    g_autoptr(GSocketAddress) address = NULL;
    g_autoptr(GSocketConnection) connection = NULL;
    char answer[4096];
    GSocket *socket;

    if (!house)
        house = build_house();
    furnish(house);
    address = g_unix_socket_address_new(house->path);
    connection = g_socket_client_connect(client, G_SOCKET_CONNECTABLE(address), NULL, NULL);
    g_assert_nonnull(connection);
    socket = g_socket_connection_get_socket(connection);
    g_socket_set_blocking(socket, FALSE);
    g_socket_send(socket, (const char *)data, size, NULL, NULL);
    g_socket_shutdown(socket, FALSE, TRUE, NULL);
    /* To the end of the answer, or to where the daemon waits for what never comes. */
    for (unsigned i = 0; i < TURNS_MAX; i++) {
        gssize got = g_socket_receive(socket, answer, sizeof(answer), NULL, NULL);
        if (got == 0 || (got < 0 && !g_main_context_iteration(NULL, FALSE)))
            break;
    }
    g_clear_object(&connection);
    while (g_main_context_iteration(NULL, FALSE))
        ;
    g_assert_cmpuint(server_connections(house->server), <=, 1);
    return 0;
}
