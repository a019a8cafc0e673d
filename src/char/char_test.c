/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Character backends on pipes, pseudo-terminals, sockets and files. */
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <pty.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "char/char.h"

#define PATIENCE_US (5 * G_USEC_PER_SEC)

/* The device: takes `room` bytes until it gets more. */
typedef struct Peer {
    GString *received;
    size_t room;
    unsigned writable;
} Peer;

typedef struct Fixture {
    GMainContext *context;
    GRecMutex lock;
    CharBackend *chr;
    Peer peer;
    char *folder;
    GString *commands;
} Fixture;

static size_t peer_can_receive(void *obj)
{
    return ((Peer *)obj)->room;
}

static void peer_receive(void *obj, const uint8_t *data, size_t size)
{
    Peer *peer = obj;
    g_assert_cmpuint(size, <=, peer->room);
    g_string_append_len(peer->received, (const char *)data, size);
    peer->room -= size;
}

static void peer_writable(void *obj)
{
    ((Peer *)obj)->writable++;
}

static const CharFrontend peer_frontend = {peer_can_receive, peer_receive, peer_writable};

static void set_up(Fixture *f, gconstpointer unused)
{
    signal(SIGPIPE, SIG_IGN);
    f->context = g_main_context_new();
    g_rec_mutex_init(&f->lock);
    f->peer = (Peer){.received = g_string_new(NULL), .room = 1000};
    f->folder = g_dir_make_tmp("ospite-char-XXXXXX", NULL);
    f->commands = g_string_new(NULL);
}

static void tear_down(Fixture *f, gconstpointer unused)
{
    char_free(f->chr);
    g_string_free(f->peer.received, TRUE);
    g_string_free(f->commands, TRUE);
    g_assert_cmpint(g_rmdir(f->folder), ==, 0);
    g_free(f->folder);
    g_rec_mutex_clear(&f->lock);
    g_main_context_unref(f->context);
}

static void connect_peer(Fixture *f, CharBackend *chr)
{
    g_assert_nonnull(chr);
    f->chr = chr;
    char_connect(chr, &peer_frontend, &f->peer);
}

static size_t send_text(Fixture *f, const char *text)
{
    return char_write(f->chr, (const uint8_t *)text, strlen(text));
}

/* Lets the loop run until the device has `text`. */
static void expect_received(Fixture *f, const char *text)
{
    gint64 deadline = g_get_monotonic_time() + PATIENCE_US;
    while (strcmp(f->peer.received->str, text) && g_get_monotonic_time() < deadline)
        if (!g_main_context_iteration(f->context, FALSE))
            g_usleep(1000);
    g_assert_cmpstr(f->peer.received->str, ==, text);
}

/* Reads exactly `size` bytes from a non-blocking descriptor while the loop runs. */
static void read_fully(Fixture *f, int fd, uint8_t *data, size_t size)
{
    gint64 deadline = g_get_monotonic_time() + PATIENCE_US;
    for (size_t done = 0; done < size;) {
        ssize_t got = read(fd, data + done, size - done);
        g_assert_true(got > 0 || (got < 0 && errno == EAGAIN));
        done += MAX(got, 0);
        if (got <= 0 && !g_main_context_iteration(f->context, FALSE))
            g_usleep(1000);
        g_assert_cmpint(g_get_monotonic_time(), <, deadline);
    }
}

static void expect_output(Fixture *f, int fd, const char *text)
{
    uint8_t data[256];
    read_fully(f, fd, data, strlen(text));
    g_assert_cmpmem(data, strlen(text), text, strlen(text));
}

static void idle(Fixture *f)
{
    for (unsigned i = 0; i < 20; i++)
        if (!g_main_context_iteration(f->context, FALSE))
            g_usleep(500);
}

static void type(int fd, const char *text)
{
    g_assert_cmpint(write(fd, text, strlen(text)), ==, strlen(text));
}

/* ---- registry, none, file -------------------------------------------------------------------- */

static void test_specs(Fixture *f, gconstpointer unused)
{
    static const char *const bad[] = {"",      "nothing", "stdi",   "stdioo", "file",
                                      "file:", "unix:",   "none:x", ":"};
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_null(char_open(bad[i], f->context, &f->lock, &error));
        g_assert_nonnull(strstr(error->message, "file:PATH"));
    }
    connect_peer(f, char_open("none", f->context, &f->lock, NULL));
    g_assert_cmpuint(send_text(f, "lost"), ==, 4);
    g_assert_cmpuint(char_write(NULL, (const uint8_t *)"x", 1), ==, 1);
}

static void test_file(Fixture *f, gconstpointer unused)
{
    g_autofree char *path = g_build_filename(f->folder, "log", NULL);
    g_autofree char *spec = g_strconcat("file:", path, NULL);
    g_autofree char *nowhere = g_strconcat("file:", path, "/x", NULL);
    g_autofree char *contents = NULL;
    g_autoptr(GError) error = NULL;
    connect_peer(f, char_open(spec, f->context, &f->lock, NULL));
    g_assert_cmpuint(send_text(f, "one\n"), ==, 4);
    g_assert_cmpuint(send_text(f, "two\n"), ==, 4);
    g_assert_true(g_file_get_contents(path, &contents, NULL, NULL));
    g_assert_cmpstr(contents, ==, "one\ntwo\n");
    g_assert_null(char_open(nowhere, f->context, &f->lock, &error));
    g_assert_nonnull(strstr(error->message, path));
    g_unlink(path);
}

/* ---- stdio on pipes -------------------------------------------------------------------------- */

typedef struct Pipes {
    int in[2], out[2]; /* the backend has in[0] and out[1] */
} Pipes;

static Pipes open_pipes(Fixture *f)
{
    Pipes p;
    g_assert_cmpint(pipe2(p.in, O_CLOEXEC), ==, 0);
    g_assert_cmpint(pipe2(p.out, O_CLOEXEC), ==, 0);
    connect_peer(f, char_stdio_new(p.in[0], p.out[1], f->context, &f->lock, NULL));
    fcntl(p.out[0], F_SETFL, O_NONBLOCK);
    return p;
}

static void close_pipes(Pipes *p)
{
    fd_clear(&p->in[0]), fd_clear(&p->in[1]), fd_clear(&p->out[0]), fd_clear(&p->out[1]);
}

static void test_pipe(Fixture *f, gconstpointer unused)
{
    Pipes p = open_pipes(f);
    char_stdio_set_escape(f->chr, NULL, NULL);
    g_assert_cmpint(fcntl(p.out[1], F_GETFL) & O_NONBLOCK, ==, 0); /* it is not only ours */
    type(p.in[1], "raw \001x bytes");
    expect_received(f, "raw \001x bytes"); /* no escape key but on terminals */
    g_assert_cmpuint(send_text(f, "out"), ==, 3);
    expect_output(f, p.out[0], "out");
    fd_clear(&p.in[1]);
    idle(f); /* end of input is fine */
    g_assert_cmpuint(send_text(f, "still"), ==, 5);
    expect_output(f, p.out[0], "still");
    close_pipes(&p);
}

static void test_input_flow(Fixture *f, gconstpointer unused)
{
    Pipes p = open_pipes(f);
    f->peer.room = 3;
    type(p.in[1], "0123456789");
    expect_received(f, "012");
    idle(f);
    g_assert_cmpstr(f->peer.received->str, ==, "012");
    f->peer.room = 4;
    char_accept_input(f->chr);
    g_assert_cmpstr(f->peer.received->str, ==, "0123456");
    f->peer.room = 100;
    char_accept_input(f->chr);
    type(p.in[1], "ab");
    expect_received(f, "0123456789ab");
    close_pipes(&p);
}

/* A reader that stops: what fits is queued, then the device waits, and nothing is lost. */
static void test_back_pressure(Fixture *f, gconstpointer unused)
{
    Pipes p = open_pipes(f);
    size_t size = 3 * 1024 * 1024, taken = 0, more;
    g_autofree uint8_t *data = g_malloc(size), *seen = g_malloc(size);
    for (size_t i = 0; i < size; i++)
        data[i] = i * 7 ^ i >> 9;
    while ((more = char_write(f->chr, data + taken, MIN(size - taken, 5000))))
        taken += more;
    g_assert_cmpuint(taken, >=, 1024 * 1024);
    g_assert_cmpuint(taken, <, 2 * 1024 * 1024);
    g_assert_cmpuint(f->peer.writable, ==, 0);
    read_fully(f, p.out[0], seen, taken);
    g_assert_cmpuint(f->peer.writable, ==, 1);
    g_assert_cmpmem(seen, taken, data, taken);
    g_assert_cmpuint(send_text(f, "more"), ==, 4);
    expect_output(f, p.out[0], "more");
    close_pipes(&p);
}

/* A shared socket as stdout stays as it was, and does not block either. */
static void test_socket_stdout(Fixture *f, gconstpointer unused)
{
    int pair[2], in = open("/dev/null", O_RDONLY | O_CLOEXEC);
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), ==, 0);
    fcntl(pair[0], F_SETFL, O_NONBLOCK);
    connect_peer(f, char_stdio_new(in, pair[1], f->context, &f->lock, NULL));
    size_t size = 2 * 1024 * 1024, taken = 0, more;
    g_autofree uint8_t *data = g_malloc0(size), *seen = g_malloc(size);
    while ((more = char_write(f->chr, data, size - taken)))
        taken += more;
    g_assert_cmpuint(taken, <, size);
    g_assert_cmpint(fcntl(pair[1], F_GETFL) & O_NONBLOCK, ==, 0);
    read_fully(f, pair[0], seen, taken);
    close(in), close(pair[0]), close(pair[1]);
}

static void test_reader_gone(Fixture *f, gconstpointer unused)
{
    Pipes p = open_pipes(f);
    uint8_t data[65536] = {0};
    for (unsigned i = 0; i < 20; i++)
        char_write(f->chr, data, sizeof(data));
    g_assert_cmpuint(send_text(f, "x"), ==, 0);
    fd_clear(&p.out[0]);
    fd_clear(&p.out[1]);
    for (unsigned i = 0; i < 100 && !f->peer.writable; i++)
        idle(f);
    g_assert_cmpuint(f->peer.writable, ==, 1);
    g_assert_cmpuint(send_text(f, "dropped"), ==, 7);
    close_pipes(&p);
}

static void test_flush_at_end(Fixture *f, gconstpointer unused)
{
    Pipes p = open_pipes(f);
    uint8_t data[60000] = {1, 2, 3}, seen[60000];
    g_assert_cmpuint(char_write(f->chr, data, sizeof(data)), ==, sizeof(data));
    char_free(g_steal_pointer(&f->chr));
    read_fully(f, p.out[0], seen, sizeof(seen));
    g_assert_cmpmem(seen, sizeof(seen), data, sizeof(data));
    close_pipes(&p);
}

/* ---- stdio on a terminal --------------------------------------------------------------------- */

static void on_command(void *obj, char command)
{
    g_string_append_c(obj, command);
}

static void test_terminal(Fixture *f, gconstpointer unused)
{
    int master, slave;
    struct termios before, during, after;
    g_autoptr(GError) error = NULL;
    g_assert_cmpint(openpty(&master, &slave, NULL, NULL, NULL), ==, 0);
    fcntl(master, F_SETFL, O_NONBLOCK);
    tcgetattr(slave, &before);
    connect_peer(f, char_stdio_new(slave, slave, f->context, &f->lock, NULL));
    char_stdio_set_escape(f->chr, on_command, f->commands);
    tcgetattr(slave, &during);
    g_assert_cmphex(during.c_lflag & (ICANON | ECHO | ISIG), ==, 0);
    g_assert_null(char_stdio_new(slave, slave, f->context, &f->lock, &error));
    g_assert_nonnull(error);
    type(master, "a\003\001hb\001\001c\001");
    expect_received(f, "a\003b\001c");
    g_assert_cmpstr(f->commands->str, ==, "h");
    f->peer.room = 0; /* the guest hangs: the escape key still works */
    type(master, "xyz");
    idle(f);
    type(master, "\001x");
    for (unsigned i = 0; i < 100 && f->commands->len < 3; i++)
        idle(f);
    g_assert_cmpstr(f->commands->str, ==, "hxx"); /* the first x came after the last Ctrl-A */
    f->peer.room = 10;
    char_accept_input(f->chr);
    expect_received(f, "a\003b\001cyz");
    g_assert_cmpuint(send_text(f, "hello"), ==, 5);
    expect_output(f, master, "hello");
    char_free(g_steal_pointer(&f->chr));
    tcgetattr(slave, &after);
    g_assert_cmphex(after.c_lflag, ==, before.c_lflag);
    g_assert_cmphex(after.c_iflag, ==, before.c_iflag);
    close(master);
    close(slave);
}

/* What ends a process; the terminal must come back each time. */
typedef enum Ending { END_EXIT, END_TERM, END_INT, END_HUP, END_ABORT, END_COUNT } Ending;

static const int ending_signals[END_COUNT] = {0, SIGTERM, SIGINT, SIGHUP, SIGABRT};

static void end_process(Ending ending)
{
    if (ending == END_EXIT)
        exit(0);
    raise(ending_signals[ending]);
    _exit(99); /* it should have died */
}

static void child(Fixture *f, int slave, Ending ending)
{
    struct termios mode;
    struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    if (ending != END_EXIT)
        signal(ending_signals[ending], SIG_DFL); /* under nohup, one would be ignored */
    fclose(stdout);                              /* no test output twice */
    if (!char_stdio_new(slave, slave, f->context, &f->lock, NULL) || tcgetattr(slave, &mode) < 0)
        _exit(98);
    if (mode.c_lflag & ICANON)
        _exit(97);
    end_process(ending);
}

static void test_terminal_restored(Fixture *f, gconstpointer unused)
{
    for (Ending ending = 0; ending < END_COUNT; ending++) {
        int master, slave, status;
        struct termios before, after;
        g_assert_cmpint(openpty(&master, &slave, NULL, NULL, NULL), ==, 0);
        tcgetattr(slave, &before);
        pid_t pid = fork();
        if (pid == 0)
            child(f, slave, ending);
        g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
        g_assert_true(ending == END_EXIT ? WIFEXITED(status) && WEXITSTATUS(status) == 0
                                         : WIFSIGNALED(status));
        tcgetattr(slave, &after);
        g_assert_cmphex(after.c_lflag, ==, before.c_lflag);
        close(master);
        close(slave);
    }
}

/* ---- unix, pty ------------------------------------------------------------------------------- */

static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
    g_assert_cmpint(connect(fd, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    return fd;
}

static void test_unix(Fixture *f, gconstpointer unused)
{
    g_autofree char *path = g_build_filename(f->folder, "s", NULL);
    g_autofree char *spec = g_strconcat("unix:", path, NULL);
    g_autoptr(GError) error = NULL;
    struct stat st;
    connect_peer(f, char_open(spec, f->context, &f->lock, NULL));
    g_assert_cmpint(stat(path, &st), ==, 0);
    g_assert_cmphex(st.st_mode & 0777, ==, 0600);
    g_assert_null(char_open(spec, f->context, &f->lock, &error)); /* in use */
    g_assert_nonnull(strstr(error->message, path));
    g_assert_cmpuint(send_text(f, "nobody there"), ==, 12);
    for (unsigned round = 0; round < 2; round++) { /* peers come and go */
        int fd = connect_to(path);
        g_string_truncate(f->peer.received, 0);
        type(fd, "hi");
        expect_received(f, "hi");
        g_assert_cmpuint(send_text(f, "ho"), ==, 2);
        expect_output(f, fd, "ho");
        close(fd);
        idle(f);
    }
    char_free(g_steal_pointer(&f->chr));
    g_assert_false(g_file_test(path, G_FILE_TEST_EXISTS));
}

/* What a killed process left is replaced; a file that is no socket is not. */
static void test_unix_stale(Fixture *f, gconstpointer unused)
{
    g_autofree char *path = g_build_filename(f->folder, "s", NULL);
    g_autofree char *spec = g_strconcat("unix:", path, NULL);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int dead = socket(AF_UNIX, SOCK_STREAM, 0);
    g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
    g_assert_cmpint(bind(dead, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    close(dead);
    connect_peer(f, char_open(spec, f->context, &f->lock, NULL));
    char_free(g_steal_pointer(&f->chr));
    g_autoptr(GError) error = NULL;
    g_assert_true(g_file_set_contents(path, "precious", -1, NULL));
    g_assert_null(char_open(spec, f->context, &f->lock, &error));
    g_assert_true(g_file_test(path, G_FILE_TEST_IS_REGULAR));
    g_unlink(path);
}

/* Several peers see the same; a new one sees what was written before it came. */
static void test_console(Fixture *f, gconstpointer unused)
{
    g_autofree char *path = g_build_filename(f->folder, "s", NULL);
    g_autofree char *spec = g_strconcat("console:", path, NULL);
    connect_peer(f, char_open(spec, f->context, &f->lock, NULL));
    g_assert_cmpuint(send_text(f, "login:"), ==, 6);
    int first = connect_to(path);
    expect_output(f, first, "login:");
    int second = connect_to(path);
    expect_output(f, second, "login:");
    g_assert_cmpuint(send_text(f, "more"), ==, 4);
    expect_output(f, first, "more");
    expect_output(f, second, "more");
    g_string_truncate(f->peer.received, 0);
    type(first, "ro");
    expect_received(f, "ro");
    type(second, "ot");
    expect_received(f, "root");
    close(first);
    idle(f);
    g_assert_cmpuint(send_text(f, "!"), ==, 1);
    expect_output(f, second, "!");
    close(second);
}

/* More peers than it serves wait; each that leaves lets one in. A peer that reads nothing stops no
 * one. */
static void test_console_crowd(Fixture *f, gconstpointer unused)
{
    g_autofree char *path = g_build_filename(f->folder, "s", NULL);
    g_autofree char *spec = g_strconcat("console:", path, NULL);
    g_autofree char *flood = g_strnfill(1 << 20, 'x');
    int peers[9];
    connect_peer(f, char_open(spec, f->context, &f->lock, NULL));
    for (unsigned i = 0; i < G_N_ELEMENTS(peers); i++) {
        peers[i] = connect_to(path);
        idle(f);
    }
    for (unsigned i = 0; i < 4; i++)
        g_assert_cmpuint(send_text(f, flood), ==, strlen(flood));
    close(peers[0]);
    idle(f);
    g_string_truncate(f->peer.received, 0);
    type(peers[8], "late");
    expect_received(f, "late");
    for (unsigned i = 1; i < G_N_ELEMENTS(peers); i++)
        close(peers[i]);
}

static void test_pty(Fixture *f, gconstpointer unused)
{
    connect_peer(f, char_open("pty", f->context, &f->lock, NULL));
    g_assert_cmpuint(send_text(f, "nobody there"), ==, 12);
    for (unsigned round = 0; round < 2; round++) {
        int fd = open(char_pty_path(f->chr), O_RDWR | O_NOCTTY | O_NONBLOCK);
        g_assert_cmpint(fd, >=, 0);
        g_string_truncate(f->peer.received, 0);
        type(fd, "\001in\003\n");
        expect_received(f, "\001in\003\n");
        g_assert_cmpuint(send_text(f, "out\n"), ==, 4);
        expect_output(f, fd, "out\n");
        close(fd);
        idle(f);
    }
}

static void test_memory(Fixture *f, gconstpointer unused)
{
    connect_peer(f, char_memory_new(&f->lock));
    char_memory_set_room(f->chr, 2);
    g_assert_cmpuint(send_text(f, "abc"), ==, 2);
    char_memory_set_room(f->chr, 1);
    g_assert_cmpuint(f->peer.writable, ==, 1);
    f->peer.room = 1;
    char_memory_feed(f->chr, (const uint8_t *)"xy", 2);
    g_assert_cmpstr(f->peer.received->str, ==, "x");
    f->peer.room = 1;
    char_accept_input(f->chr);
    g_assert_cmpstr(f->peer.received->str, ==, "xy");
}

#define ADD(name) g_test_add("/char/" #name, Fixture, NULL, set_up, test_##name, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD(specs);
    ADD(file);
    ADD(pipe);
    ADD(input_flow);
    ADD(back_pressure);
    ADD(socket_stdout);
    ADD(reader_gone);
    ADD(flush_at_end);
    ADD(terminal);
    ADD(terminal_restored);
    ADD(unix);
    ADD(unix_stale);
    ADD(console);
    ADD(console_crowd);
    ADD(pty);
    ADD(memory);
    return g_test_run();
}
