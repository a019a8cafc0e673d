/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * See control.h. A request is a line of words; the answer is "ok [VALUE]" or "error TEXT", after
 * lines that begin with "| " where there is text to show. Clients are served one after another; a
 * line is at most LINE_MAX_BYTES long. Between answers a client that watches gets lines that begin
 * with "! ".
 */
#include "runner/control.h"

#include <fcntl.h>
#include <gio/gunixfdmessage.h>
#include <linux/input-event-codes.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/fd.h"
#include "char/unix_socket.h"
#include "runner/gdb.h"
#include "runner/keys.h"
#include "runner/stats.h"

#define LINE_MAX_BYTES      4096
#define TRANSFER_MAX_BYTES  1024
#define CLIENTS_WAITING_MAX 8
#define TYPE_INTERVAL_MS    5
#define TYPE_PATIENCE       2000 /* intervals that a guest may leave a key untaken */

struct Control {
    Pc *pc;
    GSocketService *service;
    char *path;         /* NULL: the listening socket is somebody else's */
    GPtrArray *clients; /* of Client */
    Gdb *gdb;           /* made when the first client asks for it */
    ControlQuitFn quit;
    void *quit_obj;
};

typedef struct Client {
    Control *control;
    GSocketConnection *connection;
    GSource *reading; /* NULL while an answer is under way */
    GString *input;   /* what has come of a line, or of more */
    int fd;           /* the last descriptor that came with it; -1: none */
    GString *answer;  /* what is being written */
    GString *news;    /* for a watcher, what happened while an answer was being written */
    bool watching, writing;
    char *typing;           /* text being typed; NULL: none */
    unsigned typed, waited; /* characters done; intervals since the last one */
    guint typing_source;
} Client;

typedef struct Command {
    const char *name;
    unsigned min_words, max_words; /* after the name; 0: the rest of the line is one word */
    bool (*run)(Pc *pc, char **words, GString *answer, GError **error);
} Command;

static bool bad(GError **error, const char *text)
{
    g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT, text);
    return false;
}

static bool parse_number(const char *word, uint64_t max, uint64_t *ret, GError **error)
{
    char *end;

    *ret = g_ascii_strtoull(word, &end, 0);
    return (end != word && !*end && *ret <= max) ||
           bad(error, "a number was expected, or it is too large");
}

/* ---- machine --------------------------------------------------------------------------------- */

static bool run_powerdown(Pc *pc, char **words, GString *answer, GError **error)
{
    return pc_power_button(pc, error);
}

static bool run_reset(Pc *pc, char **words, GString *answer, GError **error)
{
    return pc_reset(pc, error);
}

static bool run_pause(Pc *pc, char **words, GString *answer, GError **error)
{
    pc_pause(pc);
    return true;
}

static bool run_resume(Pc *pc, char **words, GString *answer, GError **error)
{
    pc_resume(pc);
    return true;
}

/* engine [NAME]: which one runs the machine, or which one goes on */
static bool run_engine(Pc *pc, char **words, GString *answer, GError **error)
{
    if (words[0] && *words[0]) {
        const Engine *engine = engine_find(words[0], NULL, error);
        if (!engine || !pc_set_engine(pc, engine, error))
            return false;
    }
    g_string_append(answer, pc->engine->name);
    return true;
}

static bool run_text(Pc *pc, char **words, GString *answer, GError **error)
{
    g_autofree char *text = pc_screen_text(pc);
    g_auto(GStrv) lines = g_strsplit(text ? text : "", "\n", -1);

    if (!text)
        return true; /* graphics: no lines */
    for (char **line = lines; *line; line++)
        g_string_append_printf(answer, "| %s\n", *line);
    return true;
}

static bool run_screenshot(Pc *pc, char **words, GString *answer, GError **error)
{
    return pc_screenshot(pc, words[0], error);
}

static bool run_stats(Pc *pc, char **words, GString *answer, GError **error)
{
    g_autofree char *json = words[0] ? stats_json(pc->vm) : NULL;
    g_auto(GStrv) lines = json ? g_strsplit(g_strchomp(json), "\n", -1) : NULL;

    if (!json)
        stats_append_lines(pc->vm, answer);
    else if (strcmp(words[0], "json"))
        return bad(error, "it takes json, or nothing");
    for (char **line = lines; line && *line; line++)
        g_string_append_printf(answer, "| %s\n", *line);
    return true;
}

static bool run_state(Pc *pc, char **words, GString *answer, GError **error)
{
    g_string_append(answer, pc->running ? "running" : "paused");
    if (pc->stopped_by)
        g_string_append_printf(answer, " %s", pc->stopped_by);
    return true;
}

/* ---- drives ---------------------------------------------------------------------------------- */

/* ide|floppy INDEX */
static bool parse_drive(char **words, PcBus *ret_bus, unsigned *ret_index, GError **error)
{
    uint64_t index;

    if (strcmp(words[0], "ide") && strcmp(words[0], "floppy"))
        return bad(error, "the controller is ide or floppy");
    if (!parse_number(words[1], PC_DRIVE_MAX, &index, error))
        return false;
    *ret_bus = !strcmp(words[0], "ide") ? PC_BUS_IDE : PC_BUS_FLOPPY;
    *ret_index = (unsigned)index;
    return true;
}

/* eject ide|floppy INDEX */
static bool run_eject(Pc *pc, char **words, GString *answer, GError **error)
{
    PcBus bus;
    unsigned index;

    return parse_drive(words, &bus, &index, error) &&
           pc_change_medium(pc, bus, index, &(PcMedium){NULL}, error);
}

/* throttle ide|floppy INDEX IOPS BYTES: in a second; 0: any */
static bool run_throttle(Pc *pc, char **words, GString *answer, GError **error)
{
    ThrottleLimits limits = {0};
    PcBus bus;
    unsigned index;

    return parse_drive(words, &bus, &index, error) &&
           parse_number(words[2], UINT32_MAX, &limits.iops, error) &&
           parse_number(words[3], INT64_MAX, &limits.bytes, error) &&
           pc_set_throttle(pc, bus, index, &limits, error);
}

/* limit cpu PERCENT|disks BYTES: of the whole machine */
static bool run_limit(Pc *pc, char **words, GString *answer, GError **error)
{
    bool cpu = !strcmp(words[0], "cpu");
    uint64_t value;

    if (!parse_number(words[1], cpu ? 100 : INT64_MAX, &value, error))
        return false;
    if (cpu && value)
        pc_set_cpu_percent(pc, (unsigned)value);
    else if (!cpu && !strcmp(words[0], "disks"))
        pc_set_disks_limit(pc, value);
    else
        return bad(error, "it takes: cpu 1 to 100, or disks BYTES");
    return true;
}

/* ide|floppy INDEX FORMAT ro|rw PATH; a descriptor that came before is the file, open */
static bool change_medium(Pc *pc, const char *rest, int *fd, GError **error)
{
    g_auto(GStrv) words = g_strsplit(rest, " ", 5);
    PcMedium medium = {.opened = *fd >= 0 ? fd : NULL};
    PcBus bus;
    unsigned index;
    bool changed;

    if (g_strv_length(words) < 5 || (strcmp(words[3], "ro") && strcmp(words[3], "rw")))
        return bad(error, "it takes: ide|floppy INDEX FORMAT ro|rw PATH");
    medium.format = words[2];
    medium.path = words[4];
    medium.read_only = !strcmp(words[3], "ro");
    if (*fd >= 0 && !medium.read_only && (fcntl(*fd, F_GETFL) & O_ACCMODE) != O_RDWR)
        return bad(error, "the descriptor cannot be written to");
    if (!parse_drive(words, &bus, &index, error))
        return false;
    changed = pc_change_medium(pc, bus, index, &medium, error);
    *fd = -1; /* it was taken */
    return changed;
}

/* ---- keys ------------------------------------------------------------------------------------ */

static void press(Pc *pc, unsigned key, bool shift)
{
    if (shift)
        input_key(pc->input, KEY_LEFTSHIFT, true);
    input_key(pc->input, key, true);
    input_key(pc->input, key, false);
    if (shift)
        input_key(pc->input, KEY_LEFTSHIFT, false);
}

static bool run_key(Pc *pc, char **words, GString *answer, GError **error)
{
    unsigned key = key_for_name(words[0]);
    g_autoptr(GRecMutexLocker) locker G_GNUC_UNUSED = g_rec_mutex_locker_new(&pc->lock);

    if (!key)
        return bad(error, "unknown key; use names such as a, enter, esc, f1, up, ctrl");
    if (!words[1] || !strcmp(words[1], "down"))
        input_key(pc->input, key, true);
    if (!words[1] || !strcmp(words[1], "up"))
        input_key(pc->input, key, false);
    return true;
}

/* ---- the board ------------------------------------------------------------------------------- */

static AddressSpace *named_space(Pc *pc, const char *name, GError **error)
{
    if (!strcmp(name, "port"))
        return pc->board.ports;
    if (!strcmp(name, "memory"))
        return pc->board.memory;
    bad(error, "the space is port or memory");
    return NULL;
}

static bool parse_access(Pc *pc, char **words, AddressSpace **ret_space, uint64_t *ret_address,
                         uint64_t *ret_size, GError **error)
{
    *ret_space = named_space(pc, words[0], error);
    if (!*ret_space || !parse_number(words[1], UINT64_MAX, ret_address, error) ||
        !parse_number(words[2], 8, ret_size, error))
        return false;
    return is_power_of_two(*ret_size) || bad(error, "the size is 1, 2, 4 or 8");
}

/* load SPACE ADDRESS SIZE */
static bool run_load(Pc *pc, char **words, GString *answer, GError **error)
{
    AddressSpace *space;
    uint64_t address, size;

    if (!parse_access(pc, words, &space, &address, &size, error))
        return false;
    g_string_append_printf(answer, "0x%" G_GINT64_MODIFIER "x", space_load(space, address, size));
    return true;
}

/* store SPACE ADDRESS SIZE VALUE */
static bool run_store(Pc *pc, char **words, GString *answer, GError **error)
{
    AddressSpace *space;
    uint64_t address, size, value;

    if (!parse_access(pc, words, &space, &address, &size, error) ||
        !parse_number(words[3], UINT64_MAX, &value, error))
        return false;
    space_store(space, address, size, value);
    return true;
}

/* read ADDRESS SIZE: guest RAM as hex */
static bool run_read(Pc *pc, char **words, GString *answer, GError **error)
{
    uint8_t data[TRANSFER_MAX_BYTES];
    uint64_t address, size;

    if (!parse_number(words[0], UINT64_MAX, &address, error) ||
        !parse_number(words[1], sizeof(data), &size, error))
        return false;
    if (!space_read(pc->board.memory, address, data, size))
        return bad(error, "that range is not all RAM or ROM");
    for (uint64_t i = 0; i < size; i++)
        g_string_append_printf(answer, "%02x", data[i]);
    return true;
}

/* write ADDRESS HEX */
static bool run_write(Pc *pc, char **words, GString *answer, GError **error)
{
    uint8_t data[TRANSFER_MAX_BYTES];
    size_t length = strlen(words[1]);
    uint64_t address;

    if (!parse_number(words[0], UINT64_MAX, &address, error))
        return false;
    if (length % 2 || length / 2 > sizeof(data))
        return bad(error, "the data are pairs of hex digits, at most 1024");
    for (size_t i = 0; i < length / 2; i++) {
        int high = g_ascii_xdigit_value(words[1][2 * i]),
            low = g_ascii_xdigit_value(words[1][2 * i + 1]);
        if (high < 0 || low < 0)
            return bad(error, "the data are pairs of hex digits");
        data[i] = (uint8_t)(high << 4 | low);
    }
    return space_write(pc->board.memory, address, data, length / 2) ||
           bad(error, "that range is not all RAM");
}

/* irq N: the level of an ISA interrupt at the interrupt controllers, and how often it rose */
static bool run_irq(Pc *pc, char **words, GString *answer, GError **error)
{
    unsigned rises;
    uint64_t n;

    if (!parse_number(words[0], 15, &n, error))
        return false;
    bool level = pc_irq_level(pc, (unsigned)n, &rises);
    g_string_append_printf(answer, "%d %u", level, rises);
    return true;
}

static const Command commands[] = {
    {"powerdown", 0, 0, run_powerdown},
    {"reset", 0, 0, run_reset},
    {"pause", 0, 0, run_pause},
    {"resume", 0, 0, run_resume},
    {"engine", 0, 1, run_engine},
    {"state", 0, 0, run_state},
    {"text", 0, 0, run_text},
    {"screenshot", 1, 1, run_screenshot},
    {"stats", 0, 1, run_stats},
    {"eject", 2, 2, run_eject},
    {"throttle", 4, 4, run_throttle},
    {"limit", 2, 2, run_limit},
    {"key", 1, 2, run_key},
    {"load", 3, 3, run_load},
    {"store", 4, 4, run_store},
    {"read", 2, 2, run_read},
    {"write", 2, 2, run_write},
    {"irq", 1, 1, run_irq},
};

/* `line` is cut into words; the last one allowed keeps its spaces. */
static bool run_line(Pc *pc, const char *line, GString *answer, GError **error)
{
    g_auto(GStrv) head = g_strsplit(line, " ", 2);

    for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++) {
        const Command *command = &commands[i];
        g_auto(GStrv) words = NULL;
        if (!head[0] || strcmp(head[0], command->name))
            continue;
        words = g_strsplit(head[1] ? head[1] : "", " ", MAX(command->max_words, 1));
        if (g_strv_length(words) < command->min_words)
            return bad(error, "the command needs more words");
        return command->run(pc, words, answer, error);
    }
    return bad(error, "unknown command");
}

/* ---- clients --------------------------------------------------------------------------------- */

static void client_read(Client *client);

static void client_stop_reading(Client *client)
{
    if (client->reading)
        g_source_destroy(client->reading);
    g_clear_pointer(&client->reading, g_source_unref);
}

static void client_free(Client *client)
{
    g_ptr_array_remove_fast(client->control->clients, client);
    if (client->typing_source)
        g_source_remove(client->typing_source);
    g_free(client->typing);
    client_stop_reading(client);
    g_string_free(client->input, TRUE);
    fd_clear(&client->fd);
    g_object_unref(client->connection);
    g_string_free(client->answer, TRUE);
    g_string_free(client->news, TRUE);
    g_free(client);
}

/* No more from or to this client; what is under way ends at once and frees it. */
static void client_hang_up(Client *client)
{
    g_socket_shutdown(g_socket_connection_get_socket(client->connection), TRUE, TRUE, NULL);
}

/* A watcher that lets a whole socket buffer fill up is no watcher any more. */
static void client_send_news(Client *client, const char *text, size_t size)
{
    GSocket *socket = g_socket_connection_get_socket(client->connection);

    if (g_socket_send_with_blocking(socket, text, size, FALSE, NULL, NULL) != (gssize)size)
        client_hang_up(client);
}

static void on_written(GObject *stream, GAsyncResult *result, gpointer data)
{
    Client *client = data;

    client->writing = false;
    if (!g_output_stream_write_all_finish(G_OUTPUT_STREAM(stream), result, NULL, NULL)) {
        client_free(client);
        return;
    }
    if (client->news->len)
        client_send_news(client, client->news->str, client->news->len);
    g_string_truncate(client->news, 0);
    client_read(client);
}

static void client_send(Client *client)
{
    client->writing = true;
    g_output_stream_write_all_async(g_io_stream_get_output_stream(G_IO_STREAM(client->connection)),
                                    client->answer->str, client->answer->len, G_PRIORITY_DEFAULT,
                                    NULL, on_written, client);
}

static void client_answer(Client *client, const char *line)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GString) text = g_string_new(NULL);
    const Pc *pc = client->control->pc;
    bool was_running = pc->running;

    if (!run_line(client->control->pc, line, text, &error))
        g_string_printf(client->answer, "error %s\n", error->message);
    else if (g_str_has_prefix(text->str, "| "))
        g_string_printf(client->answer, "%sok\n", text->str);
    else
        g_string_printf(client->answer, "ok %s\n", text->str);
    /* Before the answer: whoever has that finds the news waiting. */
    if (pc->running != was_running)
        control_tell_state(client->control);
    client_send(client);
}

/* Types one character when the guest has taken the one before; answers after the last. */
static gboolean type_next(gpointer data)
{
    Client *client = data;
    Pc *pc = client->control->pc;
    g_autoptr(GRecMutexLocker) locker G_GNUC_UNUSED = g_rec_mutex_locker_new(&pc->lock);
    char character = client->typing[client->typed];
    bool shift;
    unsigned key = key_for_character(character, &shift);

    if (!i8042_keyboard_idle(pc->i8042) && ++client->waited < TYPE_PATIENCE)
        return G_SOURCE_CONTINUE;
    if (key && client->waited < TYPE_PATIENCE) {
        press(pc, key, shift);
        client->typed++;
        client->waited = 0;
        return G_SOURCE_CONTINUE;
    }
    if (!character)
        g_string_assign(client->answer, "ok\n");
    else if (!key)
        g_string_assign(client->answer, "error there is no key for a character of the text\n");
    else
        g_string_assign(client->answer, "error the guest takes no keys\n");
    g_clear_pointer(&client->typing, g_free);
    client->typing_source = 0;
    client_send(client);
    return G_SOURCE_REMOVE;
}

/* type TEXT, where "\n" and "\\" are escapes */
static void client_type(Client *client, const char *text)
{
    client->typing = g_strcompress(text);
    client->typed = client->waited = 0;
    client->typing_source = g_timeout_add(TYPE_INTERVAL_MS, type_next, client);
}

/* watch: from now on, news as well (control_tell()) */
static void client_watch(Client *client, const char *unused)
{
    client->watching = true;
    client_answer(client, "state");
}

static void client_medium(Client *client, const char *rest)
{
    g_autoptr(GError) error = NULL;

    if (change_medium(client->control->pc, rest, &client->fd, &error))
        g_string_assign(client->answer, "ok\n");
    else
        g_string_printf(client->answer, "error %s\n", error->message);
    client_send(client);
}

static void client_quit(Client *client, const char *unused)
{
    Control *control = client->control;

    if (control->quit)
        control->quit(control->quit_obj);
    g_string_assign(client->answer, control->quit ? "ok\n" : "error this process does not end\n");
    client_send(client);
}

static void on_gdb_kill(void *obj)
{
    Control *control = obj;

    if (control->quit)
        control->quit(control->quit_obj);
    else
        pc_resume(control->pc);
}

static Gdb *get_gdb(Control *control, GError **error)
{
    bool was_running = control->pc->running;

    if (control->gdb)
        return control->gdb;
    if (control->pc->vm->debug) {
        bad(error, "a debugger has this machine already, by --gdb");
        return NULL;
    }
    pc_pause(control->pc);
    control->gdb = gdb_new(control->pc, NULL, on_gdb_kill, control, error);
    if (was_running)
        pc_resume(control->pc);
    return control->gdb;
}

/* gdb: after "ok" the connection is GDB's */
static void client_gdb(Client *client, const char *unused)
{
    g_autoptr(GSocketConnection) connection = g_object_ref(client->connection);
    g_autoptr(GError) error = NULL;
    Gdb *gdb = get_gdb(client->control, &error);

    if (gdb && gdb_adopt(gdb, connection)) {
        client_send_news(client, "ok\n", 3);
        client_free(client);
        return;
    }
    g_string_printf(client->answer, "error %s\n",
                    gdb ? "a debugger is connected already" : error->message);
    client_send(client);
}

/* Commands that concern the client or the process rather than the machine. */
static const struct {
    const char *prefix;
    void (*run)(Client *client, const char *rest);
} client_commands[] = {
    {"type ", client_type}, {"medium ", client_medium}, {"watch", client_watch},
    {"quit", client_quit},  {"gdb", client_gdb},
};

static void client_serve(Client *client, const char *line)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(client_commands); i++) {
        const char *prefix = client_commands[i].prefix;
        if (g_str_has_suffix(prefix, " ") ? g_str_has_prefix(line, prefix)
                                          : !strcmp(line, prefix)) {
            client_commands[i].run(client, line + strlen(prefix));
            return;
        }
    }
    client_answer(client, line);
}

/* A descriptor comes with a byte of its own, which is no part of the line. */
static void client_take_descriptors(Client *client, GSocketControlMessage **messages, int count)
{
    for (int i = 0; i < count; i++) {
        int *fds = NULL, n = 0;
        if (G_IS_UNIX_FD_MESSAGE(messages[i]))
            fds = g_unix_fd_message_steal_fds(G_UNIX_FD_MESSAGE(messages[i]), &n);
        for (int k = 0; k < n; k++) {
            fd_clear(&client->fd);
            client->fd = fds[k];
        }
        g_free(fds);
        g_object_unref(messages[i]);
    }
    g_free(messages);
}

/* False: it has gone. */
static bool client_receive(Client *client)
{
    GSocket *socket = g_socket_connection_get_socket(client->connection);
    g_autoptr(GError) error = NULL;
    GSocketControlMessage **messages = NULL;
    char chunk[LINE_MAX_BYTES];
    GInputVector vector = {chunk, sizeof(chunk)};
    int count = 0, flags = 0;
    gssize got =
        g_socket_receive_message(socket, NULL, &vector, 1, &messages, &count, &flags, NULL, &error);

    client_take_descriptors(client, messages, count);
    if (got <= 0)
        return g_error_matches(error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK);
    if (count && !*chunk)
        g_string_append_len(client->input, chunk + 1, got - 1);
    else
        g_string_append_len(client->input, chunk, got);
    return true;
}

static gboolean on_readable(GSocket *socket, GIOCondition condition, gpointer data)
{
    Client *client = data;

    client_stop_reading(client);
    if (client_receive(client))
        client_read(client);
    else
        client_free(client);
    return G_SOURCE_REMOVE;
}

static void client_wait(Client *client)
{
    client->reading =
        g_socket_create_source(g_socket_connection_get_socket(client->connection), G_IO_IN, NULL);
    g_source_set_callback(client->reading, G_SOURCE_FUNC(on_readable), client, NULL);
    g_source_attach(client->reading, NULL);
}

/* Serves the next line, now or when it has come. */
static void client_read(Client *client)
{
    const char *end = memchr(client->input->str, '\n', client->input->len);
    size_t length = end ? (size_t)(end - client->input->str) : client->input->len;
    g_autofree char *line = end ? g_strndup(client->input->str, length) : NULL;

    if (length > LINE_MAX_BYTES ||
        (end && !g_utf8_validate(client->input->str, (gssize)length, NULL))) {
        client_free(client);
    } else if (end) {
        g_string_erase(client->input, 0, (gssize)length + 1);
        client_serve(client, line);
    } else {
        client_wait(client);
    }
}

static gboolean on_incoming(GSocketService *service, GSocketConnection *connection, GObject *source,
                            gpointer data)
{
    Client *client = g_new0(Client, 1);

    client->control = data;
    client->connection = g_object_ref(connection);
    client->input = g_string_new(NULL);
    client->fd = -1;
    g_socket_set_blocking(g_socket_connection_get_socket(connection), FALSE);
    client->answer = g_string_new(NULL);
    client->news = g_string_new(NULL);
    g_ptr_array_add(client->control->clients, client);
    client_read(client);
    return TRUE;
}

void control_tell(Control *control, const char *news)
{
    g_autofree char *line = g_strdup_printf("! %s\n", news);

    g_strdelimit(line + 2, "\n", ' ');
    line[strlen(line) - 1] = '\n';
    for (guint i = 0; control && i < control->clients->len; i++) {
        Client *client = control->clients->pdata[i];
        if (client->watching && client->writing)
            g_string_append(client->news, line);
        else if (client->watching)
            client_send_news(client, line, strlen(line));
    }
}

void control_tell_state(Control *control)
{
    g_autoptr(GString) news = g_string_new("state ");

    if (!control)
        return;
    run_state(control->pc, NULL, news, NULL);
    control_tell(control, news->str);
}

void control_set_quit(Control *control, ControlQuitFn quit, void *obj)
{
    control->quit = quit;
    control->quit_obj = obj;
}

/* ---- life ------------------------------------------------------------------------------------ */

Control *control_new_for_fd(Pc *pc, int listener, GError **error)
{
    g_autoptr(GSocket) socket = NULL;
    auto_fd owned = listener;
    g_autoptr(Control) control = g_new0(Control, 1);

    control->pc = pc;
    control->clients = g_ptr_array_new();
    control->service = g_socket_service_new();
    g_signal_connect(control->service, "incoming", G_CALLBACK(on_incoming), control);
    socket = g_socket_new_from_fd(owned, error);
    if (!socket)
        return NULL;
    fd_steal(&owned);
    if (!g_socket_listener_add_socket(G_SOCKET_LISTENER(control->service), socket, NULL, error))
        return NULL;
    return g_steal_pointer(&control);
}

Control *control_new(Pc *pc, const char *path, GError **error)
{
    int fd = unix_socket_listen(path, CLIENTS_WAITING_MAX, error);
    Control *control = fd < 0 ? NULL : control_new_for_fd(pc, fd, error);

    if (control)
        control->path = g_strdup(path);
    return control;
}

/* The process ends soon: clients whose operations are under way are left to it. */
void control_free(Control *control)
{
    if (!control)
        return;
    gdb_free(control->gdb, 0);
    g_socket_service_stop(control->service);
    g_signal_handlers_disconnect_by_data(control->service, control);
    g_object_unref(control->service);
    if (control->path)
        unlink(control->path);
    g_ptr_array_unref(control->clients);
    g_free(control->path);
    g_free(control);
}
