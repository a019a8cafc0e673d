/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Starting, finding and watching a machine's process; see process.h. */
#include "daemon/process.h"
#include "base/i18n.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gunixconnection.h>
#include <gio/gunixsocketaddress.h>
#include <glib-unix.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "daemon/process_end.h"

#define CONNECT_RETRY_MS 20
#define CONNECT_RETRIES  500 /* a process on a busy host has ten seconds to open its socket */
#define QUIT_PATIENCE_MS 5000
#define ANSWER_SECONDS   15
#define ANSWER_MAX_BYTES (256 * 1024)
#define NEWS_MAX_BYTES   (64 * 1024)
#define NEWS_RETRY_MS    1000
#define AFTER_NEWS       (G_PRIORITY_DEFAULT + 1) /* what a process said comes before its end */

struct Process {
    char *folder, *log;
    const ProcessEvents *events;
    void *obj;
    int pid, pidfd;
    GSocketConnection *news; /* of the control socket; NULL: nobody tells us */
    GString *news_text;      /* what has come of a line */
    GSource *news_source;
    unsigned retries;
    guint pidfd_source, ready_source, retry_source, kill_source;
    int ready_fd;
    gint64 started_at;
};

static char *process_path(const Process *process, const char *name)
{
    return g_build_filename(process->folder, name, NULL);
}

static bool host_error(GError **error, const char *doing, const char *path)
{
    int code = errno;

    g_set_error(error, G_IO_ERROR, g_io_error_from_errno(code), _("cannot %s '%s': %s"), _(doing),
                path, g_strerror(code));
    return false;
}

/* ---- the end --------------------------------------------------------------------------------- */

/* Sockets, the configuration it had, and what a killed daemon was writing. */
static void remove_folder(const char *folder)
{
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(folder, name, NULL);
        g_unlink(path);
    }
    g_rmdir(folder);
}

static gboolean on_pidfd(int fd, GIOCondition condition, gpointer data)
{
    Process *process = data;
    siginfo_t info = {0};
    bool ours = waitid(P_PIDFD, (id_t)process->pidfd, &info, WEXITED | WNOHANG) == 0 && info.si_pid;

    process->pidfd_source = 0;
    remove_folder(process->folder);
    process->events->ended(process->obj, process_end_read(process->log, ours ? &info : NULL));
    return G_SOURCE_REMOVE;
}

static bool watch_pid(Process *process, int pid)
{
    process->pid = pid;
    process->pidfd = pidfd_open(pid, 0);
    if (process->pidfd < 0)
        return false;
    process->pidfd_source =
        g_unix_fd_add_full(AFTER_NEWS, process->pidfd, G_IO_IN, on_pidfd, process, NULL);
    return true;
}

static gboolean on_quit_patience(gpointer data)
{
    Process *process = data;

    process->kill_source = 0;
    pidfd_send_signal(process->pidfd, SIGKILL, NULL, 0);
    return G_SOURCE_REMOVE;
}

static void on_quit_answer(void *obj, const char *answer, const GError *error)
{
    /* The end itself is the answer. */
}

void process_end(Process *process)
{
    if (process->kill_source || process->pidfd < 0)
        return;
    process->kill_source = g_timeout_add(QUIT_PATIENCE_MS, on_quit_patience, process);
    process_ask(process, "quit", on_quit_answer, NULL);
}

/* ---- asking ---------------------------------------------------------------------------------- */

typedef struct Question {
    char *line;
    ProcessAnswer done;
    void *obj;
    GSocketConnection *connection;
    GDataInputStream *input;
    GString *text; /* what came in lines with "| " */
} Question;

static void question_finish(Question *question, const char *answer, GError *error)
{
    question->done(question->obj, answer, error);
    g_clear_error(&error);
    g_clear_object(&question->input);
    g_clear_object(&question->connection);
    g_string_free(question->text, TRUE);
    g_free(question->line);
    g_free(question);
}

static GError *no_answer(const char *why)
{
    return g_error_new(G_IO_ERROR, G_IO_ERROR_FAILED,
                       _("cannot reach the machine's process: %s; see the machine's log"), why);
}

/* "error TEXT" */
static GError *refusal(const char *line)
{
    const char *text = strchr(line, ' ');

    return g_error_new(G_IO_ERROR, G_IO_ERROR_FAILED, _("the machine's process cannot do that: %s"),
                       text ? text + 1 : line);
}

static void on_answer_line(GObject *stream, GAsyncResult *result, gpointer data)
{
    Question *question = data;
    g_autoptr(GError) error = NULL;
    g_autofree char *line =
        g_data_input_stream_read_line_finish_utf8(question->input, result, NULL, &error);

    if (!line) {
        question_finish(question, NULL, no_answer(error ? error->message : _("it hung up")));
    } else if (g_str_has_prefix(line, "| ") && question->text->len < ANSWER_MAX_BYTES) {
        g_string_append_printf(question->text, "%s\n", line + 2);
        g_data_input_stream_read_line_async(question->input, G_PRIORITY_DEFAULT, NULL,
                                            on_answer_line, question);
    } else if (!strcmp(line, "ok") && question->text->len) {
        question_finish(question, question->text->str, NULL);
    } else if (g_str_has_prefix(line, "ok")) {
        question_finish(question, line[2] ? line + 3 : "", NULL);
    } else {
        question_finish(question, NULL, refusal(line));
    }
}

static void on_question_sent(GObject *stream, GAsyncResult *result, gpointer data)
{
    Question *question = data;
    GError *error = NULL;

    if (!g_output_stream_write_all_finish(G_OUTPUT_STREAM(stream), result, NULL, &error)) {
        question_finish(question, NULL, error);
        return;
    }
    question->input =
        g_data_input_stream_new(g_io_stream_get_input_stream(G_IO_STREAM(question->connection)));
    g_data_input_stream_read_line_async(question->input, G_PRIORITY_DEFAULT, NULL, on_answer_line,
                                        question);
}

/* Unix sockets connect at once or not at all. */
static GSocketConnection *connect_to(const Process *process, const char *name, GError **error)
{
    g_autoptr(GSocketClient) client = g_socket_client_new();
    g_autofree char *path = process_path(process, name);
    g_autoptr(GSocketAddress) address = g_unix_socket_address_new(path);

    return g_socket_client_connect(client, G_SOCKET_CONNECTABLE(address), NULL, error);
}

static bool send_descriptor(GSocketConnection *connection, int fd, GError **error)
{
    return fd < 0 || g_unix_connection_send_fd(G_UNIX_CONNECTION(connection), fd, NULL, error);
}

void process_ask(Process *process, const char *line, ProcessAnswer done, void *obj)
{
    process_ask_with(process, line, -1, done, obj);
}

void process_ask_with(Process *process, const char *line, int fd, ProcessAnswer done, void *obj)
{
    Question *question = g_new0(Question, 1);
    GError *error = NULL;

    question->done = done;
    question->obj = obj;
    question->line = g_strconcat(line, "\n", NULL);
    question->text = g_string_new(NULL);
    question->connection = connect_to(process, "control", &error);
    if (!question->connection || !send_descriptor(question->connection, fd, &error)) {
        question_finish(question, NULL, error);
        return;
    }
    g_socket_set_timeout(g_socket_connection_get_socket(question->connection), ANSWER_SECONDS);
    g_output_stream_write_all_async(
        g_io_stream_get_output_stream(G_IO_STREAM(question->connection)), question->line,
        strlen(question->line), G_PRIORITY_DEFAULT, NULL, on_question_sent, question);
}

GSocketConnection *process_console(const Process *process, GError **error)
{
    return connect_to(process, "console", error);
}

/* ---- news ------------------------------------------------------------------------------------ */

/* "running", "paused" or "paused WHY" */
static void take_state(Process *process, const char *text)
{
    const char *why = g_str_has_prefix(text, "paused ") ? text + strlen("paused ") : NULL;

    process->events->state(process->obj, g_str_has_prefix(text, "paused"), why);
}

/* The answer to `watch` is the state, too. */
static void take_news(Process *process, const char *line)
{
    static const char *const prefixes[] = {"ok ", "! state "};

    for (unsigned i = 0; i < G_N_ELEMENTS(prefixes); i++) {
        if (g_str_has_prefix(line, prefixes[i]))
            take_state(process, line + strlen(prefixes[i]));
    }
}

static void forget_news(Process *process)
{
    if (process->news_source)
        g_source_destroy(process->news_source);
    g_clear_pointer(&process->news_source, g_source_unref);
    g_clear_object(&process->news);
    g_string_truncate(process->news_text, 0);
}

static gboolean on_news_again(gpointer data);

void process_catch_up(Process *process)
{
    GSocket *socket = process->news ? g_socket_connection_get_socket(process->news) : NULL;
    char chunk[1024];
    gssize got = -1;

    while (socket && process->news_text->len < NEWS_MAX_BYTES &&
           (got = g_socket_receive_with_blocking(socket, chunk, sizeof(chunk), FALSE, NULL, NULL)) >
               0)
        g_string_append_len(process->news_text, chunk, got);
    for (const char *end; (end = strchr(process->news_text->str, '\n'));) {
        g_autofree char *raw = g_strndup(process->news_text->str, end - process->news_text->str);
        g_autofree char *line = g_utf8_make_valid(raw, -1);
        g_string_erase(process->news_text, 0, end - process->news_text->str + 1);
        take_news(process, line);
    }
    if (got == 0 || process->news_text->len >= NEWS_MAX_BYTES) {
        forget_news(process);
        process->retry_source = g_timeout_add(NEWS_RETRY_MS, on_news_again, process);
    }
}

static gboolean on_news(GSocket *socket, GIOCondition condition, gpointer data)
{
    process_catch_up(data);
    return G_SOURCE_CONTINUE;
}

/* Asks the process to tell what becomes of it; false: it does not listen (yet, or any more). */
static bool watch_news(Process *process)
{
    static const char question[] = "watch\n";
    GSocket *socket;

    process->news = connect_to(process, "control", NULL);
    if (!process->news)
        return false;
    socket = g_socket_connection_get_socket(process->news);
    if (g_socket_send(socket, question, strlen(question), NULL, NULL) < 0) {
        forget_news(process);
        return false;
    }
    process->news_source = g_socket_create_source(socket, G_IO_IN, NULL);
    g_source_set_callback(process->news_source, G_SOURCE_FUNC(on_news), process, NULL);
    g_source_attach(process->news_source, NULL);
    return true;
}

/* It hung up because we did not listen, or it ends just now. */
static gboolean on_news_again(gpointer data)
{
    Process *process = data;

    process->retry_source = 0;
    watch_news(process);
    return G_SOURCE_REMOVE;
}

/* ---- the beginning --------------------------------------------------------------------------- */

/* "ready\n" once the guest runs; the end of file when it never will, and then the end follows. */
static gboolean on_ready_pipe(int fd, GIOCondition condition, gpointer data)
{
    Process *process = data;
    char text[16];
    ssize_t got = read(fd, text, sizeof(text));

    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return G_SOURCE_CONTINUE;
    process->ready_source = 0;
    fd_clear(&process->ready_fd);
    if (got > 0) {
        process->events->state(process->obj, false, NULL);
        watch_news(process); /* it may have ended already */
    }
    return G_SOURCE_REMOVE;
}

static bool rotate_log(const char *log, int *ret_fd, GError **error)
{
    g_autofree char *old = g_strconcat(log, ".1", NULL);

    if (g_rename(log, old) < 0 && errno != ENOENT)
        return host_error(error, N_("rename the log"), log);
    *ret_fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    return *ret_fd >= 0 || host_error(error, N_("write the log"), log);
}

/* The configuration as the process gets it, locked through the descriptor that it inherits. */
static bool write_config(const Process *process, const char *config, int *ret_fd, GError **error)
{
    g_autofree char *path = process_path(process, "config");

    if (g_mkdir_with_parents(process->folder, 0700) < 0)
        return host_error(error, N_("make the folder"), process->folder);
    if (!g_file_set_contents_full(path, config, -1, G_FILE_SET_CONTENTS_NONE, 0600, error))
        return false;
    *ret_fd = open(path, O_RDONLY | O_CLOEXEC);
    if (*ret_fd < 0 || flock(*ret_fd, LOCK_EX | LOCK_NB) < 0)
        return host_error(error, N_("lock"), path);
    return true;
}

static char *own_folder(void)
{
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);

    return self ? g_path_get_dirname(self) : g_strdup(".");
}

static bool spawn(Process *process, const ProcessSpec *spec, int config, int log, int ready,
                  GError **error)
{
    g_autofree char *folder = own_folder();
    g_autofree char *beside = g_build_filename(folder, "ospite-vm", NULL);
    const char *program = g_getenv("OSPITE_VM") ? g_getenv("OSPITE_VM") : beside;
    const char *const argv[] = {program,       "--config",  "3",          "--ready",
                                "4",           "--runtime", spec->folder, "--folder",
                                spec->machine, "--name",    spec->name,   NULL};
    const int from[] = {config, ready}, to[] = {3, 4};
    GPid pid;

    if (!g_spawn_async_with_pipes_and_fds("/", argv, NULL, G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL,
                                          -1, log, log, from, to, 2, &pid, NULL, NULL, NULL, error))
        return false;
    return watch_pid(process, pid) || host_error(error, N_("watch"), program);
}

static Process *process_new(const ProcessSpec *spec, const ProcessEvents *events, void *obj)
{
    Process *process = g_new0(Process, 1);

    process->news_text = g_string_new(NULL);
    process->folder = g_strdup(spec->folder);
    process->log = g_strdup(spec->log);
    process->events = events;
    process->obj = obj;
    process->pidfd = process->ready_fd = -1;
    process->started_at = g_get_real_time() / G_USEC_PER_SEC;
    return process;
}

Process *process_start(const ProcessSpec *spec, const char *config, const ProcessEvents *events,
                       void *obj, GError **error)
{
    Process *process = process_new(spec, events, obj);
    auto_fd config_fd = -1;
    auto_fd log_fd = -1;
    auto_fd ready_write = -1;
    int pipe_fds[2];

    if (!g_unix_open_pipe(pipe_fds, FD_CLOEXEC, error)) {
        process_free(process);
        return NULL;
    }
    process->ready_fd = pipe_fds[0];
    ready_write = pipe_fds[1];
    if (!g_unix_set_fd_nonblocking(process->ready_fd, TRUE, error) ||
        !write_config(process, config, &config_fd, error) ||
        !rotate_log(process->log, &log_fd, error) ||
        !spawn(process, spec, config_fd, log_fd, ready_write, error)) {
        remove_folder(process->folder);
        process_free(process);
        return NULL;
    }
    process->ready_source =
        g_unix_fd_add(process->ready_fd, G_IO_IN | G_IO_HUP, on_ready_pipe, process);
    return process;
}

/* ---- finding it again ------------------------------------------------------------------------ */

/* Who listens there is who it is: the kernel says so. */
static bool identify(Process *process)
{
    struct ucred peer;
    socklen_t size = sizeof(peer);

    if (!watch_news(process))
        return false;
    if (getsockopt(g_socket_get_fd(g_socket_connection_get_socket(process->news)), SOL_SOCKET,
                   SO_PEERCRED, &peer, &size) == 0 &&
        watch_pid(process, peer.pid))
        return true;
    forget_news(process);
    return false;
}

/* It lives, but has not opened its socket yet, or has closed it already. */
static gboolean on_retry(gpointer data)
{
    Process *process = data;
    g_autofree char *config = process_path(process, "config");
    auto_fd lock = open(config, O_RDONLY | O_CLOEXEC);
    bool dead = lock < 0 || flock(lock, LOCK_EX | LOCK_NB) == 0;

    if (!dead && !identify(process) && ++process->retries < CONNECT_RETRIES)
        return G_SOURCE_CONTINUE;
    process->retry_source = 0;
    if (dead) {
        remove_folder(process->folder);
        process->events->ended(process->obj, process_end_read(process->log, NULL));
    }
    return G_SOURCE_REMOVE;
}

Process *process_adopt(const ProcessSpec *spec, const ProcessEvents *events, void *obj,
                       ProcessEnd **ret_end)
{
    g_autofree char *config = g_build_filename(spec->folder, "config", NULL);
    auto_fd lock = open(config, O_RDONLY | O_CLOEXEC);
    struct stat st;
    Process *process;

    *ret_end = NULL;
    if (lock < 0) {
        if (errno == ENOENT) /* a killed daemon was about to make or to remove it */
            remove_folder(spec->folder);
        return NULL;
    }
    if (flock(lock, LOCK_EX | LOCK_NB) == 0) {
        remove_folder(spec->folder);
        *ret_end = process_end_read(spec->log, NULL);
        return NULL;
    }
    process = process_new(spec, events, obj);
    if (fstat(lock, &st) == 0)
        process->started_at = st.st_mtime;
    if (!identify(process))
        process->retry_source = g_timeout_add(CONNECT_RETRY_MS, on_retry, process);
    return process;
}

/* ---- life ------------------------------------------------------------------------------------ */

void process_free(Process *process)
{
    guint *const sources[] = {&process->pidfd_source, &process->ready_source,
                              &process->retry_source, &process->kill_source};

    for (unsigned i = 0; i < G_N_ELEMENTS(sources); i++) {
        if (*sources[i])
            g_source_remove(*sources[i]);
    }
    forget_news(process);
    g_string_free(process->news_text, TRUE);
    fd_clear(&process->pidfd);
    fd_clear(&process->ready_fd);
    g_free(process->folder);
    g_free(process->log);
    g_free(process);
}

int process_pid(const Process *process)
{
    return process->pid;
}

gint64 process_started_at(const Process *process)
{
    return process->started_at;
}

char *process_config(const Process *process)
{
    static const char *const names[] = {"live", "config"};

    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *path = process_path(process, names[i]);
        char *text = NULL;
        if (g_file_get_contents(path, &text, NULL, NULL))
            return text;
    }
    return NULL;
}

/* Without it the next daemon would only ask for a restart that is not needed. */
void process_keep_config(const Process *process, const char *config)
{
    g_autofree char *path = process_path(process, "live");
    g_autoptr(GError) error = NULL;

    if (!g_file_set_contents_full(path, config, -1, G_FILE_SET_CONTENTS_CONSISTENT, 0600, &error))
        g_warning("%s", error->message);
}
