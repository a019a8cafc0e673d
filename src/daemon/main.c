/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * `ospited`: the user's daemon. It is started by the first command that needs it (client.c), by
 * systemd with its socket, or by hand, and leaves when nobody needs it any more.
 *
 * Only one lives for a runtime folder and one for a configuration folder: it holds a lock on a file
 * in each. Whoever finds the first lock taken waits until the other's socket answers or the lock is
 * free.
 */
#include <errno.h>
#include <fcntl.h>
#include <gio/gunixsocketaddress.h>
#include <glib-unix.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/i18n.h"
#include "base/remote.h"
#include "base/user_folders.h"
#include "char/unix_socket.h"
#include "daemon/api.h"
#include "daemon/listen.h"
#include "vm/text.h"

#define BACKLOG       128
#define IDLE_SECONDS  60
#define LOCK_RETRY_US 20000
#define LOCK_RETRIES  500
#define SYSTEMD_FIRST 3 /* sd_listen_fds(3) */

typedef struct Daemon {
    char *runtime, *config, *socket_path;
    int runtime_lock, config_lock;
    int idle_seconds;
    gboolean background, autostart, make_certificate;
    char *address; /* --listen */
    int activated; /* the socket that systemd has opened and owns; -1: none */
    gint64 idle_since;
    Api api;
    Server *server;
    GMainLoop *loop;
} Daemon;

static bool host_error(GError **error, const char *doing, const char *path)
{
    int code = errno;

    g_set_error(error, G_IO_ERROR, g_io_error_from_errno(code), _("cannot %s '%s': %s"), _(doing),
                path, g_strerror(code));
    return false;
}

/* ---- one at a time --------------------------------------------------------------------------- */

static int open_lock(const char *folder, GError **error)
{
    g_autofree char *path = g_build_filename(folder, "ospited.lock", NULL);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0)
        host_error(error, N_("open the lock"), path);
    return fd;
}

static bool somebody_answers(const char *path)
{
    g_autoptr(GSocketClient) client = g_socket_client_new();
    g_autoptr(GSocketAddress) address = g_unix_socket_address_new(path);
    g_autoptr(GSocketConnection) connection =
        g_socket_client_connect(client, G_SOCKET_CONNECTABLE(address), NULL, NULL);

    return connection != NULL;
}

/* False without an error: another daemon serves this user already. At a socket of systemd's
 * somebody always seems to answer: it is ourselves, as soon as our predecessor has gone. */
static bool lock_runtime(Daemon *daemon, GError **error)
{
    daemon->runtime_lock = open_lock(daemon->runtime, error);
    if (daemon->runtime_lock < 0)
        return false;
    for (unsigned i = 0; i < LOCK_RETRIES; i++) {
        if (flock(daemon->runtime_lock, LOCK_EX | LOCK_NB) == 0)
            return true;
        if (daemon->activated < 0 && somebody_answers(daemon->socket_path))
            return false;
        g_usleep(LOCK_RETRY_US); /* it is about to leave, or to listen */
    }
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_BUSY,
                _("cannot serve '%s': another ospited holds its lock and does not answer; end it"),
                daemon->socket_path);
    return false;
}

static bool lock_config(Daemon *daemon, GError **error)
{
    if (g_mkdir_with_parents(daemon->config, 0700) < 0)
        return host_error(error, N_("make the folder"), daemon->config);
    daemon->config_lock = open_lock(daemon->config, error);
    if (daemon->config_lock < 0)
        return false;
    if (flock(daemon->config_lock, LOCK_EX | LOCK_NB) == 0)
        return true;
    g_set_error(
        error, G_IO_ERROR, G_IO_ERROR_BUSY,
        _("cannot use the machines in '%s': another ospited with another runtime folder does; "
          "end it"),
        daemon->config);
    return false;
}

/* ---- leaving --------------------------------------------------------------------------------- */

static bool is_idle(const Daemon *daemon)
{
    return server_connections(daemon->server) == 0 && !daemon->api.busy &&
           !server_is_remote(daemon->server) && registry_running(daemon->api.registry) == 0;
}

/*
 * The name goes first, so that whoever comes later starts a daemon of his own; one who came in
 * between is served, and the name comes back.
 */
static void try_to_leave(Daemon *daemon)
{
    g_autoptr(GError) error = NULL;
    int fd;

    if (daemon->activated < 0)
        g_unlink(daemon->socket_path);
    if (server_stop_listening(daemon->server)) {
        g_main_loop_quit(daemon->loop);
        return;
    }
    if (daemon->activated >= 0)
        return;
    fd = unix_socket_listen(daemon->socket_path, BACKLOG, &error);
    if (fd < 0 || !server_listen(daemon->server, fd, &error))
        g_warning("%s", error->message);
}

static gboolean on_second(gpointer data)
{
    Daemon *daemon = data;
    gint64 now = g_get_monotonic_time();

    if (!is_idle(daemon))
        daemon->idle_since = now;
    else if (now - daemon->idle_since >= daemon->idle_seconds * G_USEC_PER_SEC)
        try_to_leave(daemon);
    return G_SOURCE_CONTINUE;
}

static gboolean on_signal(gpointer data)
{
    Daemon *daemon = data;

    if (daemon->activated < 0)
        g_unlink(daemon->socket_path);
    g_main_loop_quit(daemon->loop);
    return G_SOURCE_CONTINUE;
}

/* ---- beginning ------------------------------------------------------------------------------- */

static bool is_listening(int fd)
{
    int domain = 0, listening = 0;
    socklen_t size = sizeof(int);

    return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_UNIX &&
           getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) == 0 && listening &&
           fcntl(fd, F_SETFD, FD_CLOEXEC) == 0;
}

/* The one socket of ospited.socket, as sd_listen_fds(3) has it. */
static bool take_systemd_socket(Daemon *daemon, GError **error)
{
    const char *pid = g_getenv("LISTEN_PID"), *count = g_getenv("LISTEN_FDS");
    bool ours = pid && count && atoi(pid) == getpid();

    if (ours && (atoi(count) != 1 || !is_listening(SYSTEMD_FIRST))) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    _("cannot serve what systemd handed over: it is not one listening Unix socket; "
                      "mend ospited.socket"));
        return false;
    }
    daemon->activated = ours ? SYSTEMD_FIRST : -1;
    g_unsetenv("LISTEN_PID");
    g_unsetenv("LISTEN_FDS");
    g_unsetenv("LISTEN_FDNAMES");
    return true;
}

static void raise_file_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = MIN(limit.rlim_max, 65536);
        if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
            g_warning(_("cannot open more files than usual: %s"), g_strerror(errno));
    }
}

/* Only where somebody asked for it. */
static bool listen_remote(Daemon *daemon, GError **error)
{
    g_auto(Listen) listen = {NULL};
    g_autoptr(GTlsCertificate) certificate = NULL;
    g_autofree char *token = NULL;
    int fd;

    if (!listen_read(&listen, daemon->config, daemon->address, error))
        return false;
    if (!listen.address)
        return true;
    certificate = listen_certificate(&listen, error);
    token = certificate ? listen_token(&listen, error) : NULL;
    fd = token ? listen_open(&listen, error) : -1;
    return fd >= 0 && server_listen_remote(daemon->server, fd, certificate, token, error);
}

static bool begin(Daemon *daemon, GError **error)
{
    int fd = daemon->activated;

    daemon->api.events = events_new();
    daemon->api.registry = registry_new(daemon->config, daemon->runtime, daemon->api.events, error);
    if (!daemon->api.registry)
        return false;
    daemon->server = server_new(api_handle, &daemon->api);
    /* The usual socket comes last: who finds it finds all. */
    if (!listen_remote(daemon, error))
        return false;
    if (fd < 0)
        fd = unix_socket_listen(daemon->socket_path, BACKLOG, error);
    return fd >= 0 && server_listen(daemon->server, fd, error);
}

/* What clients need to know is told on standard output. */
static bool make_certificate(GError **error)
{
    g_autofree char *folder = user_config_folder();
    g_auto(Listen) listen = {NULL};
    g_autoptr(GTlsCertificate) certificate = NULL;
    g_autofree char *fingerprint = NULL;

    if (g_mkdir_with_parents(folder, 0700) < 0)
        return host_error(error, N_("make the folder"), folder);
    if (!listen_read(&listen, folder, NULL, error) || !listen_make_files(&listen, error))
        return false;
    certificate = listen_certificate(&listen, error);
    if (!certificate)
        return false;
    fingerprint = certificate_fingerprint(certificate);
    printf("certificate %s\nfingerprint %s\ntoken %s\n", listen.certificate, fingerprint,
           listen.token);
    return true;
}

/* Standard error goes to a file of the runtime folder; the one who started us is told to go on. */
static bool go_to_background(const Daemon *daemon, GError **error)
{
    g_autofree char *path = g_build_filename(daemon->runtime, "ospited.log", NULL);
    auto_fd log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    auto_fd null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (log < 0 || null < 0)
        return host_error(error, N_("write the log"), path);
    setsid();
    puts("ready");
    fflush(stdout);
    return (dup2(null, STDIN_FILENO) == 0 && dup2(log, STDOUT_FILENO) == 1 &&
            dup2(log, STDERR_FILENO) == 2) ||
           host_error(error, N_("write the log"), path);
}

/* No file of ours could name what is in such a folder: nothing there could be deleted or moved. */
static bool check_folders(const Daemon *daemon, GError **error)
{
    g_autofree char *machines = user_machine_folder();
    const struct {
        const char *path, *variable;
    } folders[] = {{daemon->config, "XDG_CONFIG_HOME"},
                   {machines, "XDG_DATA_HOME"},
                   {daemon->runtime, "XDG_RUNTIME_DIR"}};

    for (unsigned i = 0; i < G_N_ELEMENTS(folders); i++) {
        g_autofree char *quoted = text_quote(folders[i].path);
        if (!text_is_plain(folders[i].path, false)) {
            g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_FILENAME,
                        _("cannot use the folder %s: it has control characters; set %s to another"),
                        quoted, folders[i].variable);
            return false;
        }
    }
    return true;
}

static bool prepare(Daemon *daemon, GError **error)
{
    daemon->runtime = user_runtime_folder(error);
    if (!daemon->runtime)
        return false;
    daemon->config = user_config_folder();
    daemon->socket_path = g_build_filename(daemon->runtime, "api", NULL);
    return check_folders(daemon, error) && take_systemd_socket(daemon, error) &&
           lock_runtime(daemon, error) && lock_config(daemon, error) && begin(daemon, error) &&
           (!daemon->background || go_to_background(daemon, error));
}

static void run(Daemon *daemon)
{
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP};

    daemon->loop = g_main_loop_new(NULL, FALSE);
    daemon->idle_since = g_get_monotonic_time();
    for (unsigned i = 0; i < G_N_ELEMENTS(signals); i++)
        g_unix_signal_add(signals[i], on_signal, daemon);
    if (daemon->idle_seconds > 0)
        g_timeout_add_seconds(1, on_second, daemon);
    if (daemon->autostart)
        g_ptr_array_unref(registry_autostart(daemon->api.registry));
    api_snapshots_resume(&daemon->api);
    g_main_loop_run(daemon->loop);
    g_main_loop_unref(daemon->loop);
}

static bool parse(Daemon *daemon, int argc, char **argv)
{
    const GOptionEntry entries[] = {
        {"background", 0, 0, G_OPTION_ARG_NONE, &daemon->background,
         N_("write 'ready' once it serves, then leave the terminal"), NULL},
        {"idle", 0, 0, G_OPTION_ARG_INT, &daemon->idle_seconds,
         N_("leave when nobody needed it for so long; 0: never (default 60)"), "SECONDS"},
        {"autostart", 0, 0, G_OPTION_ARG_NONE, &daemon->autostart,
         N_("start the machines that are to start by themselves"), NULL},
        {"listen", 0, 0, G_OPTION_ARG_STRING, &daemon->address,
         N_("serve the API over TCP as well, with TLS and a token"), "ADDRESS:PORT"},
        {"make-certificate", 0, 0, G_OPTION_ARG_NONE, &daemon->make_certificate,
         N_("make the certificate and the token for --listen where there are none, and end"), NULL},
        {NULL},
    };
    g_autoptr(GOptionContext) context = g_option_context_new(_("- the daemon of Ospite"));
    g_autoptr(GError) error = NULL;

    g_option_context_add_main_entries(context, entries, GETTEXT_PACKAGE);
    if (g_option_context_parse(context, &argc, &argv, &error) && argc == 1)
        return true;
    g_printerr("ospited: %s\n", error ? error->message : _("it takes options only; see --help"));
    return false;
}

int main(int argc, char **argv)
{
    Daemon daemon = {
        .idle_seconds = IDLE_SECONDS, .activated = -1, .runtime_lock = -1, .config_lock = -1};
    g_autoptr(GError) error = NULL;
    int status = 0;
    bool ok;

    signal(SIGPIPE, SIG_IGN);
    i18n_serve();
    raise_file_limit();
    if (!parse(&daemon, argc, argv))
        return 2;
    ok = daemon.make_certificate ? make_certificate(&error) : prepare(&daemon, &error);
    if (ok && !daemon.make_certificate) {
        i18n_set_language(NULL); /* until a request names one */
        run(&daemon);
    } else if (error) {
        g_printerr("ospited: %s\n", error->message);
        status = 1;
    } else if (!ok && !daemon.background) {
        g_printerr(_("ospited: another one serves this user already\n"));
    } else if (!ok) {
        puts("ready");
    }
    /* Whoever waits for a machine is answered as long as there are connections. */
    registry_free(daemon.api.registry);
    server_free(daemon.server);
    events_free(daemon.api.events);
    g_free(daemon.runtime);
    g_free(daemon.config);
    g_free(daemon.socket_path);
    g_free(daemon.address);
    fd_clear(&daemon.config_lock);
    fd_clear(&daemon.runtime_lock);
    return status;
}
