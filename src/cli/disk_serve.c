/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * `ospite disk serve`: exports images to NBD clients until a signal, or with --once until the last
 * client has left. The URI of each export goes to stdout when the server listens.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <glib-unix.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/i18n.h"
#include "block/disk.h"
#include "block/protocols/nbd_server.h"
#include "block/protocols/nbd_wire.h"
#include "char/unix_socket.h"
#include "cli/disk.h"

#define BACKLOG     64
#define CLIENTS_MAX 1024

typedef struct Serve {
    GMainLoop *loop;
    GRecMutex lock;
    GPtrArray *disks;
    NbdTls *tls;
    NbdServer *server;
    bool once;
} Serve;

static gboolean on_signal(gpointer obj)
{
    g_main_loop_quit(((Serve *)obj)->loop);
    return G_SOURCE_CONTINUE;
}

static void on_client_left(void *obj, unsigned left)
{
    Serve *serve = obj;
    if (serve->once && !left)
        g_main_loop_quit(serve->loop);
}

/* ---- sockets --------------------------------------------------------------------------------- */

static bool parse_count(const DiskArgs *args, char letter, const char *what, guint64 max,
                        guint64 *ret, GError **error)
{
    const char *text = args->letter[(int)letter];
    if (!text || g_ascii_string_to_unsigned(text, 10, 0, max, ret, NULL))
        return true;
    disk_usage(error, "%s is a number up to %" PRIu64 ", not '%s'", what, max, text);
    return false;
}

typedef union Address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
} Address;

static bool parse_address(const char *text, guint64 port, Address *ret)
{
    *ret = (Address){.v6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)}};
    if (inet_pton(AF_INET6, text, &ret->v6.sin6_addr) == 1)
        return true;
    *ret = (Address){.v4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)}};
    return inet_pton(AF_INET, text, &ret->v4.sin_addr) == 1;
}

static socklen_t address_size(const Address *a)
{
    return a->any.sa_family == AF_INET6 ? sizeof(a->v6) : sizeof(a->v4);
}

/* A socket that listens there, or -1 with errno. */
static int open_socket(const Address *address)
{
    auto_fd fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int yes = 1;
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) < 0 ||
        bind(fd, &address->any, address_size(address)) < 0 || listen(fd, BACKLOG) < 0)
        return -1;
    return fd_steal(&fd);
}

static char *tcp_uri(int fd, bool tls)
{
    char host[INET6_ADDRSTRLEN];
    Address a = {0};
    socklen_t size = sizeof(a);
    if (getsockname(fd, &a.any, &size) < 0)
        return NULL;
    bool is_v6 = a.any.sa_family == AF_INET6;
    inet_ntop(a.any.sa_family, is_v6 ? (void *)&a.v6.sin6_addr : (void *)&a.v4.sin_addr, host,
              sizeof(host));
    return g_strdup_printf("nbd%s://%s%s%s:%u/", tls ? "s" : "", is_v6 ? "[" : "", host,
                           is_v6 ? "]" : "", ntohs(is_v6 ? a.v6.sin6_port : a.v4.sin_port));
}

static bool listen_tcp(Serve *serve, const DiskArgs *args, char **ret_uri, GError **error)
{
    const char *bind = args->letter['b'] ? args->letter['b'] : "127.0.0.1";
    guint64 port = NBD_DEFAULT_PORT;
    Address address;
    if (!parse_count(args, 'P', "--port", 65535, &port, error))
        return false;
    if (!parse_address(bind, port, &address)) {
        disk_usage(error, "--bind is an address such as 127.0.0.1, not '%s'", bind);
        return false;
    }
    int fd = open_socket(&address);
    *ret_uri = fd >= 0 ? tcp_uri(fd, serve->tls != NULL) : NULL;
    if (!*ret_uri) {
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(errno),
                    _("cannot listen at %s port %" PRIu64 ": %s"), bind, port, g_strerror(errno));
        fd_clear(&fd);
        return false;
    }
    nbd_server_listen(serve->server, fd);
    return true;
}

static bool listen_unix(Serve *serve, const char *path, GError **error)
{
    int fd = unix_socket_listen(path, BACKLOG, error);
    if (fd >= 0)
        nbd_server_listen(serve->server, fd);
    return fd >= 0;
}

/* ---- exports --------------------------------------------------------------------------------- */

/* One image is exported under the name that is asked for, several under their files' names. */
static bool add_exports(Serve *serve, const DiskArgs *args, GError **error)
{
    guint64 iops = 0;
    uint64_t bytes = 0;
    if (!parse_count(args, 'I', "--iops", G_MAXUINT32, &iops, error))
        return false;
    if (args->letter['B'] && !format_parse_size(args->letter['B'], &bytes)) {
        disk_usage(error, "--bandwidth is bytes in a second such as 50M, not '%s'",
                   args->letter['B']);
        return false;
    }
    DiskOptions options = {.throttle = {.iops = iops, .bytes = bytes},
                           .format = args->letter['f'],
                           .read_only = args->letter['r'] || args->letter['l'],
                           .trust_names = args->trust,
                           .key = args->key,
                           .snapshot = args->letter['l']};
    for (int i = 0; i < args->count; i++) {
        g_autofree char *base = g_path_get_basename(args->rest[i]);
        const char *name = args->letter['x'] ? args->letter['x'] : args->count > 1 ? base : "";
        Disk *disk = disk_open(args->rest[i], &options, NULL, &serve->lock, error);
        if (!disk)
            return false;
        g_ptr_array_add(serve->disks, disk);
        nbd_server_add_export(serve->server, name, args->letter['D'], disk);
    }
    return true;
}

static char *export_uri(const DiskArgs *args, const char *tcp, const char *name)
{
    const char *path = args->letter['k'];
    g_autofree char *escaped = g_uri_escape_string(name, NULL, FALSE);
    g_autofree char *socket = path ? g_uri_escape_string(path, "/", FALSE) : NULL;
    bool tls = args->letter['K'] || args->letter['T'];
    return path ? g_strdup_printf("nbd%s+unix:///%s?socket=%s", tls ? "s" : "", escaped, socket)
                : g_strconcat(tcp, escaped, NULL);
}

static void print_uris(const DiskArgs *args, const char *tcp)
{
    g_auto(JsonText) json;
    json_text_init(&json);
    json_begin(&json, '[');
    for (int i = 0; i < args->count; i++) {
        g_autofree char *base = g_path_get_basename(args->rest[i]);
        const char *name = args->letter['x'] ? args->letter['x'] : args->count > 1 ? base : "";
        g_autofree char *uri = export_uri(args, tcp, name);
        json_begin(&json, '{');
        json_add_string(&json, "filename", args->rest[i]);
        json_add_string(&json, "export", name);
        json_add_string(&json, "uri", uri);
        json_end(&json, '}');
        if (!args->json)
            puts(uri);
    }
    json_end(&json, ']');
    if (args->json)
        disk_print_json(&json);
    fflush(stdout);
}

/* ---- the command ----------------------------------------------------------------------------- */

static bool make_tls(Serve *serve, const DiskArgs *args, GError **error)
{
    if (args->letter['T'] && args->letter['K']) {
        disk_usage(error, "--tls-certificates and --tls-psk exclude each other");
        return false;
    }
    if (args->letter['T'])
        serve->tls = nbd_tls_new_certificates(args->letter['T'], args->letter['V'] != NULL, error);
    else if (args->letter['K'])
        serve->tls = nbd_tls_new_psk(args->letter['K'], error);
    return serve->tls || (!args->letter['T'] && !args->letter['K']);
}

static bool begin(Serve *serve, const DiskArgs *args, GError **error)
{
    g_autofree char *uri = NULL;
    guint64 clients = 0;
    if (!parse_count(args, 'e', "--clients", CLIENTS_MAX, &clients, error) ||
        !make_tls(serve, args, error))
        return false;
    NbdServerOptions options = {.max_clients = (unsigned)clients,
                                .tls = serve->tls,
                                .client_left = on_client_left,
                                .obj = serve};
    serve->server = nbd_server_new(&options, NULL);
    if (!add_exports(serve, args, error))
        return false;
    if (args->letter['k'] ? !listen_unix(serve, args->letter['k'], error)
                          : !listen_tcp(serve, args, &uri, error))
        return false;
    print_uris(args, uri);
    return true;
}

int disk_command_serve(DiskArgs *args, GError **error)
{
    Serve serve = {.once = args->letter['1'] != NULL};
    if (!args->count || (args->count > 1 && args->letter['x']))
        return disk_usage(error, args->count ? "--name is for one image; several have the names "
                                               "of their files"
                                             : N_("serve needs an image"));
    serve.loop = g_main_loop_new(NULL, FALSE);
    serve.disks = g_ptr_array_new_with_free_func((GDestroyNotify)disk_close);
    g_rec_mutex_init(&serve.lock);
    guint signals[] = {g_unix_signal_add(SIGINT, on_signal, &serve),
                       g_unix_signal_add(SIGTERM, on_signal, &serve)};
    bool good = begin(&serve, args, error);
    if (good)
        g_main_loop_run(serve.loop);
    nbd_server_free(serve.server);
    g_ptr_array_unref(serve.disks);
    nbd_tls_free(serve.tls);
    if (good && args->letter['k'])
        unlink(args->letter['k']);
    for (size_t i = 0; i < G_N_ELEMENTS(signals); i++)
        g_source_remove(signals[i]);
    g_rec_mutex_clear(&serve.lock);
    g_main_loop_unref(serve.loop);
    return good ? 0 : -1;
}
