/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * `ospite debug`: GDB's remote protocol for a machine that runs. The machine speaks it on its
 * control socket (command "gdb"); here bytes are carried between that and GDB, which is at our
 * standard input or connects to a socket.
 */
#include <errno.h>
#include <gio/gunixsocketaddress.h>
#include <glib-unix.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/i18n.h"
#include "base/user_folders.h"
#include "cli/call.h"
#include "runner/gdb.h"

#define ANSWER_MAX_BYTES 1024

/* ---- the machine ----------------------------------------------------------------------------- */

static char *control_path(const char *target, GError **error)
{
    if (g_str_has_prefix(target, "unix:"))
        return g_strdup(target + strlen("unix:"));
    g_autoptr(OspiteClient) client = ospite_client_new(error);
    g_autoptr(JsonNode) answer = client ? ospite_vm_show(client, target, error) : NULL;
    g_autofree char *runtime = answer ? user_runtime_folder(error) : NULL;

    if (!runtime)
        return NULL;
    const char *state = ospite_text(answer, "vm.state");
    if (strcmp(state, "running") && strcmp(state, "paused")) {
        g_set_error(error, OSPITE_ERROR, OSPITE_ERROR_WRONG_STATE,
                    _("'%s' is %s; only a machine that runs can be debugged: ospite vm start"),
                    target, call_state(state));
        return NULL;
    }
    return g_build_filename(runtime, "vms", ospite_text(answer, "vm.uuid"), "control", NULL);
}

/* Byte by byte: what follows the line is not ours. */
static bool read_answer(int fd, GError **error)
{
    g_autoptr(GString) line = g_string_new(NULL);
    char byte;

    while (line->len < ANSWER_MAX_BYTES && read(fd, &byte, 1) == 1 && byte != '\n')
        g_string_append_c(line, byte);
    if (!strcmp(line->str, "ok"))
        return true;
    g_set_error(error, OSPITE_ERROR, OSPITE_ERROR_FAILED, _("the machine refuses a debugger: %s"),
                g_str_has_prefix(line->str, "error ") ? line->str + strlen("error ")
                                                      : _("it does not answer"));
    return false;
}

static bool write_all(int fd, const char *bytes, size_t size)
{
    while (size) {
        ssize_t written = write(fd, bytes, size);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return false;
        bytes += written;
        size -= (size_t)written;
    }
    return true;
}

static GSocketConnection *connect_machine(const char *path, GError **error)
{
    g_autoptr(GSocketClient) client = g_socket_client_new();
    g_autoptr(GSocketAddress) address = g_unix_socket_address_new(path);
    g_autoptr(GError) cause = NULL;
    g_autoptr(GSocketConnection) connection =
        g_socket_client_connect(client, G_SOCKET_CONNECTABLE(address), NULL, &cause);

    if (!connection) {
        g_set_error(error, OSPITE_ERROR, OSPITE_ERROR_FAILED, _("no machine answers at '%s': %s"),
                    path, cause->message);
        return NULL;
    }
    int fd = g_socket_get_fd(g_socket_connection_get_socket(connection));
    g_unix_set_fd_nonblocking(fd, FALSE, NULL);
    if (!write_all(fd, "gdb\n", 4) || !read_answer(fd, error))
        return NULL;
    return g_steal_pointer(&connection);
}

/* ---- GDB ------------------------------------------------------------------------------------- */

/* False: one of both ends is gone. */
static bool carry(int from, int to)
{
    char bytes[4096];
    ssize_t got = read(from, bytes, sizeof(bytes));

    if (got < 0 && errno == EINTR)
        return true;
    return got > 0 && write_all(to, bytes, (size_t)got);
}

static void relay(int machine, int in, int out)
{
    struct pollfd ends[] = {{.fd = machine, .events = POLLIN}, {.fd = in, .events = POLLIN}};

    for (;;) {
        if (poll(ends, G_N_ELEMENTS(ends), -1) < 0 && errno != EINTR)
            return;
        if (ends[0].revents && !carry(machine, out))
            return;
        if (ends[1].revents && !carry(in, machine))
            return;
    }
}

static bool serve_standard_input(const CommandLine *line, const char *path, GError **error)
{
    if (isatty(STDIN_FILENO))
        return command_usage(error,
                             _("standard input is a terminal; say in GDB: target remote | ospite "
                               "debug %s, or use --listen"),
                             line->words[0]);
    g_autoptr(GSocketConnection) machine = connect_machine(path, error);
    if (!machine)
        return false;
    relay(g_socket_get_fd(g_socket_connection_get_socket(machine)), STDIN_FILENO, STDOUT_FILENO);
    return true;
}

/* One debugger after another, until the machine is gone. */
static bool serve_socket(const char *where, const char *path, GError **error)
{
    g_autoptr(GSocketListener) listener = g_socket_listener_new();
    g_autofree char *unix_path = NULL;
    bool good = gdb_place_listen(listener, where, &unix_path, error);

    if (good)
        fprintf(stderr, _("GDB may connect: target remote %s\n"),
                unix_path ? unix_path : where + strlen("tcp"));
    while (good) {
        g_autoptr(GSocketConnection) debugger =
            g_socket_listener_accept(listener, NULL, NULL, error);
        g_autoptr(GSocketConnection) machine = debugger ? connect_machine(path, error) : NULL;
        good = machine;
        if (!good)
            break;
        int fd = g_socket_get_fd(g_socket_connection_get_socket(debugger));
        g_unix_set_fd_nonblocking(fd, FALSE, NULL);
        relay(g_socket_get_fd(g_socket_connection_get_socket(machine)), fd, fd);
    }
    if (unix_path)
        unlink(unix_path);
    return good;
}

bool run_debug(CommandLine *line, GError **error)
{
    const char *where = command_value(line, "listen");
    g_autofree char *path = NULL;

    if (where && !gdb_place_is_valid(where))
        return command_usage(error, _("--listen cannot be '%s'; use unix:PATH or tcp:PORT"), where);
    path = control_path(line->words[0], error);
    if (!path)
        return false;
    return where ? serve_socket(where, path, error) : serve_standard_input(line, path, error);
}
