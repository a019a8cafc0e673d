/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The NBD server seen from the wire: what it answers to requests that no well-behaved client sends,
 * its limits, and clients that vanish. tests/disk/test_serve.py tests it with other people's
 * clients.
 */
#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bits.h"
#include "block/host_io.h"
#include "block/protocols/nbd_server.h"
#include "block/protocols/nbd_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define DISK_SIZE MIB(64)

typedef struct Holder {
    HostIoHook hook;
    bool holds;
    HostIoRequest *held;
    int verdict;
} Holder;

typedef struct Fixture {
    GRecMutex lock;
    Holder holder;
    Disk *disk;
    NbdServer *server;
    int fd; /* the client's end */
} Fixture;

static int before(HostIoHook *hook, HostIoRequest *r)
{
    Holder *h = (Holder *)hook;
    if (h->verdict && r->op == HOST_IO_WRITE)
        return h->verdict;
    if (!h->holds || r->op == HOST_IO_OPEN)
        return HOST_IO_RUN;
    h->held = r;
    h->holds = false;
    return HOST_IO_HOLD;
}

static int connect_client(Fixture *f)
{
    int pair[2];
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
    nbd_server_adopt(f->server, pair[1]);
    return pair[0];
}

static void set_up(Fixture *f, gconstpointer data)
{
    const NbdServerOptions *options = data;
    char path[64];
    int fd = memfd_create("disk", MFD_CLOEXEC);
    g_assert_cmpint(ftruncate(fd, DISK_SIZE), ==, 0);
    g_snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    g_rec_mutex_init(&f->lock);
    f->holder.hook.before = before;
    DiskOptions how = {.format = "raw", .io_hook = &f->holder.hook};
    f->disk = disk_open(path, &how, NULL, &f->lock, NULL);
    g_assert_nonnull(f->disk);
    close(fd);
    f->server = nbd_server_new(options ? options : &(NbdServerOptions){0}, NULL);
    nbd_server_add_export(f->server, "disk", "a disk", f->disk);
    f->fd = connect_client(f);
}

static void tear_down(Fixture *f, gconstpointer data)
{
    if (f->fd >= 0)
        close(f->fd);
    nbd_server_free(f->server);
    disk_close(f->disk);
    g_rec_mutex_clear(&f->lock);
}

/* ---- the wire -------------------------------------------------------------------------------- */

/* The next `size` bytes that the server sends. */
static void get(int fd, void *to, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = recv(fd, (uint8_t *)to + done, size - done, MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN) {
            g_main_context_iteration(NULL, TRUE);
            continue;
        }
        g_assert_cmpint(n, >, 0);
        done += (size_t)n;
    }
}

static void put(int fd, const void *data, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t n =
            send(fd, (const uint8_t *)data + done, size - done, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            g_main_context_iteration(NULL, TRUE);
            continue;
        }
        g_assert_cmpint(n, >, 0);
        done += (size_t)n;
    }
}

/* Waits until the server has hung up; what it said before is dropped. */
static void expect_end(int fd)
{
    uint8_t dropped[4096];
    for (;;) {
        ssize_t n = recv(fd, dropped, sizeof(dropped), MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno == ECONNRESET))
            return;
        if (n < 0)
            g_main_context_iteration(NULL, TRUE);
    }
}

static void greet(int fd)
{
    uint8_t greeting[18], flags[4];
    get(fd, greeting, sizeof(greeting));
    g_assert_cmphex(load_be64(greeting), ==, NBD_MAGIC);
    g_assert_cmphex(load_be64(greeting + 8), ==, NBD_OPTION_MAGIC);
    g_assert_cmphex(load_be16(greeting + 16), ==, NBD_FIXED_NEWSTYLE | NBD_NO_ZEROES);
    store_be32(flags, NBD_FIXED_NEWSTYLE | NBD_NO_ZEROES);
    put(fd, flags, sizeof(flags));
}

static void put_option(int fd, uint32_t code, const void *data, uint32_t size)
{
    uint8_t head[NBD_OPTION_SIZE];
    store_be64(head, NBD_OPTION_MAGIC);
    store_be32(head + 8, code);
    store_be32(head + 12, size);
    put(fd, head, sizeof(head));
    put(fd, data, size);
}

/* The next answer; its data are dropped. */
static uint32_t get_answer(int fd, uint32_t code)
{
    uint8_t head[NBD_ANSWER_SIZE], data[4096];
    get(fd, head, sizeof(head));
    g_assert_cmphex(load_be64(head), ==, NBD_ANSWER_MAGIC);
    g_assert_cmpuint(load_be32(head + 8), ==, code);
    g_assert_cmpuint(load_be32(head + 16), <=, sizeof(data));
    get(fd, data, load_be32(head + 16));
    return load_be32(head + 12);
}

/* Chooses the export, with structured replies or without. */
static void go(int fd, bool structured)
{
    static const uint8_t data[6];
    greet(fd);
    if (structured) {
        put_option(fd, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
        g_assert_cmphex(get_answer(fd, NBD_OPT_STRUCTURED_REPLY), ==, NBD_REP_ACK);
    }
    put_option(fd, NBD_OPT_GO, data, sizeof(data));
    uint32_t type;
    while ((type = get_answer(fd, NBD_OPT_GO)) == NBD_REP_INFO)
        ;
    g_assert_cmphex(type, ==, NBD_REP_ACK);
}

static void put_request(int fd, uint16_t type, uint16_t flags, uint64_t offset, uint32_t size)
{
    uint8_t head[NBD_REQUEST_SIZE];
    store_be32(head, NBD_REQUEST_MAGIC);
    store_be16(head + 4, flags);
    store_be16(head + 6, type);
    store_be64(head + 8, UINT64_C(0x1122334455667788) + type);
    store_be64(head + 16, offset);
    store_be32(head + 24, size);
    put(fd, head, sizeof(head));
}

static uint32_t get_simple(int fd)
{
    uint8_t head[NBD_SIMPLE_SIZE];
    get(fd, head, sizeof(head));
    g_assert_cmphex(load_be32(head), ==, NBD_SIMPLE_MAGIC);
    return load_be32(head + 4);
}

static uint32_t run(Fixture *f, uint16_t type, uint16_t flags, uint64_t offset, uint32_t size)
{
    put_request(f->fd, type, flags, offset, size);
    if (type == NBD_CMD_WRITE) {
        g_autofree uint8_t *data = g_malloc0(size);
        put(f->fd, data, size);
    }
    return get_simple(f->fd);
}

/* ---- the tests ------------------------------------------------------------------------------- */

static void test_refusals(Fixture *f, gconstpointer data)
{
    static const struct {
        uint16_t type, flags;
        uint64_t offset;
        uint32_t size, error;
    } cases[] = {
        {NBD_CMD_READ, 0, DISK_SIZE, 512, NBD_EINVAL},
        {NBD_CMD_READ, 0, UINT64_MAX - 511, 1024, NBD_EINVAL},
        {NBD_CMD_READ, 0, 1, 512, NBD_EINVAL},
        {NBD_CMD_READ, 0, 0, 511, NBD_EINVAL},
        {NBD_CMD_READ, 0, 0, NBD_TRANSFER_MAX + 512, NBD_EINVAL},
        {NBD_CMD_READ, 0x8000, 0, 512, NBD_EINVAL},
        {NBD_CMD_WRITE, 0, DISK_SIZE - 512, 1024, NBD_ENOSPC},
        {NBD_CMD_WRITE, 0, 1, 512, NBD_EINVAL},
        {NBD_CMD_WRITE_ZEROES, 0, DISK_SIZE, 512, NBD_ENOSPC},
        {NBD_CMD_TRIM, 0, 0, 100, NBD_EINVAL},
        {NBD_CMD_BLOCK_STATUS, 0, 0, 512, NBD_EINVAL}, /* no context was asked for */
        {99, 0, 0, 0, NBD_EINVAL},
        {NBD_CMD_FLUSH, 0, 0, 0, 0},
        {NBD_CMD_WRITE, NBD_FLAG_FUA, 0, 512, 0},
        {NBD_CMD_WRITE_ZEROES, NBD_FLAG_FUA | NBD_FLAG_NO_HOLE, 512, MIB(40), 0},
        {NBD_CMD_TRIM, NBD_FLAG_FUA, 0, MIB(1), 0},
        {NBD_CMD_WRITE_ZEROES, 0, 0, 0, 0},
        {NBD_CMD_WRITE, 0, 0, 0, 0},
    };
    go(f->fd, false);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_test_message("case %zu", i);
        g_assert_cmpuint(run(f, cases[i].type, cases[i].flags, cases[i].offset, cases[i].size), ==,
                         cases[i].error);
    }
}

static void test_structured(Fixture *f, gconstpointer data)
{
    uint8_t head[NBD_STRUCTURED_SIZE], body[4096 + 8];
    go(f->fd, true);
    put_request(f->fd, NBD_CMD_READ, NBD_FLAG_DF, 4096, 4096);
    get(f->fd, head, sizeof(head));
    g_assert_cmphex(load_be32(head), ==, NBD_STRUCTURED_MAGIC);
    g_assert_cmpuint(load_be16(head + 4), ==, NBD_CHUNK_DONE);
    g_assert_cmpuint(load_be16(head + 6), ==, NBD_CHUNK_DATA);
    g_assert_cmpuint(load_be32(head + 16), ==, sizeof(body));
    get(f->fd, body, sizeof(body));
    g_assert_cmpuint(load_be64(body), ==, 4096);
    put_request(f->fd, NBD_CMD_READ, 0, DISK_SIZE, 512);
    get(f->fd, head, sizeof(head));
    g_assert_cmphex(load_be16(head + 6), ==, NBD_CHUNK_ERROR);
    get(f->fd, body, load_be32(head + 16));
    g_assert_cmpuint(load_be32(body), ==, NBD_EINVAL);
}

/* The host's errors reach the client as the protocol numbers them. */
static void test_full_host(Fixture *f, gconstpointer data)
{
    go(f->fd, false);
    f->holder.verdict = -EDQUOT;
    g_assert_cmpuint(run(f, NBD_CMD_WRITE, 0, 0, 512), ==, NBD_ENOSPC);
    f->holder.verdict = -ENXIO;
    g_assert_cmpuint(run(f, NBD_CMD_WRITE, 0, 0, 512), ==, NBD_EIO);
    f->holder.verdict = 0;
    g_assert_cmpuint(run(f, NBD_CMD_WRITE, 0, 0, 512), ==, 0);
}

static void test_bad_greeting(Fixture *f, gconstpointer data)
{
    uint8_t flags[4] = {0xff, 0xff, 0xff, 0xff};
    put(f->fd, flags, sizeof(flags));
    expect_end(f->fd);
}

static void test_long_option(Fixture *f, gconstpointer data)
{
    uint8_t head[NBD_OPTION_SIZE];
    greet(f->fd);
    store_be64(head, NBD_OPTION_MAGIC);
    store_be32(head + 8, NBD_OPT_INFO);
    store_be32(head + 12, 0x7fffffff);
    put(f->fd, head, sizeof(head));
    expect_end(f->fd);
}

static void test_many_options(Fixture *f, gconstpointer data)
{
    uint8_t head[NBD_OPTION_SIZE] = {0};
    greet(f->fd);
    store_be64(head, NBD_OPTION_MAGIC);
    store_be32(head + 8, NBD_OPT_LIST);
    for (int i = 0; i < 200; i++) {
        if (send(f->fd, head, sizeof(head), MSG_NOSIGNAL) < 0)
            break;
    }
    expect_end(f->fd);
}

static void test_bad_options(Fixture *f, gconstpointer data)
{
    static const uint8_t long_name[8] = {0, 0, 0, 200},
                         no_export[10] = {0, 0, 0, 4, 'n', 'o', 'n', 'e'};
    static const uint8_t junk[3] = {1, 2, 3};
    greet(f->fd);
    put_option(f->fd, NBD_OPT_GO, long_name, sizeof(long_name));
    g_assert_cmphex(get_answer(f->fd, NBD_OPT_GO), ==, NBD_REP_ERR_INVALID);
    put_option(f->fd, NBD_OPT_GO, no_export, sizeof(no_export));
    g_assert_cmphex(get_answer(f->fd, NBD_OPT_GO), ==, NBD_REP_ERR_UNKNOWN);
    put_option(f->fd, NBD_OPT_LIST, junk, sizeof(junk));
    g_assert_cmphex(get_answer(f->fd, NBD_OPT_LIST), ==, NBD_REP_ERR_INVALID);
    put_option(f->fd, NBD_OPT_STARTTLS, NULL, 0);
    g_assert_cmphex(get_answer(f->fd, NBD_OPT_STARTTLS), ==, NBD_REP_ERR_POLICY);
    put_option(f->fd, 12345, junk, sizeof(junk));
    g_assert_cmphex(get_answer(f->fd, 12345), ==, NBD_REP_ERR_UNSUP);
    put_option(f->fd, NBD_OPT_ABORT, NULL, 0);
    g_assert_cmphex(get_answer(f->fd, NBD_OPT_ABORT), ==, NBD_REP_ACK);
    expect_end(f->fd);
}

static void test_bad_request(Fixture *f, gconstpointer data)
{
    uint8_t head[NBD_REQUEST_SIZE] = {0};
    go(f->fd, false);
    put(f->fd, head, sizeof(head));
    expect_end(f->fd);
}

static void test_huge_write(Fixture *f, gconstpointer data)
{
    go(f->fd, false);
    put_request(f->fd, NBD_CMD_WRITE, 0, 0, UINT32_MAX);
    expect_end(f->fd);
}

static const NbdServerOptions short_handshake = {.handshake_ms = 20};
static const NbdServerOptions two_clients = {.max_clients = 2};

/* Who says nothing is sent away; who has negotiated may be silent. */
static void test_handshake_timeout(Fixture *f, gconstpointer data)
{
    go(f->fd, false);
    int silent = connect_client(f), slow = connect_client(f);
    greet(slow);
    expect_end(silent);
    expect_end(slow);
    close(silent);
    close(slow);
    g_assert_cmpuint(run(f, NBD_CMD_FLUSH, 0, 0, 0), ==, 0);
}

static void test_client_limit(Fixture *f, gconstpointer data)
{
    int second = connect_client(f), third = connect_client(f);
    go(second, false);
    expect_end(third);
    close(third);
    close(second);
    while (nbd_server_client_count(f->server) > 1)
        g_main_context_iteration(NULL, TRUE);
    second = connect_client(f);
    go(second, false);
    close(second);
    go(f->fd, false);
}

/* A client that vanishes under a request, whose data are in use by the host. */
static void test_vanished_client(Fixture *f, gconstpointer data)
{
    static const uint8_t bytes[4096] = {1};
    int other = connect_client(f);
    go(f->fd, false);
    go(other, false);
    f->holder.holds = true;
    put_request(f->fd, NBD_CMD_WRITE, 0, 0, sizeof(bytes));
    put(f->fd, bytes, sizeof(bytes));
    while (!f->holder.held)
        g_main_context_iteration(NULL, TRUE);
    close(f->fd);
    f->fd = other;
    for (int i = 0; i < 3; i++)
        g_assert_cmpuint(run(f, NBD_CMD_FLUSH, 0, 0, 0), ==, 0);
    g_assert_cmpuint(nbd_server_client_count(f->server), ==, 2);
    host_io_resume(f->holder.held);
    while (nbd_server_client_count(f->server) > 1)
        g_main_context_iteration(NULL, TRUE);
}

/* Answers that nobody reads don't pile up: the server stops reading that client's requests. */
static void test_deaf_client(Fixture *f, gconstpointer data)
{
    int other = connect_client(f);
    uint8_t head[NBD_REQUEST_SIZE] = {0};
    unsigned sent = 0;
    go(f->fd, false);
    go(other, false);
    store_be32(head, NBD_REQUEST_MAGIC);
    store_be32(head + 24, MIB(1));
    for (int idle = 0; idle < 100;) {
        ssize_t n = send(f->fd, head, sizeof(head), MSG_DONTWAIT | MSG_NOSIGNAL);
        sent += n == sizeof(head);
        idle = n < 0 && !g_main_context_iteration(NULL, FALSE) ? idle + 1 : 0;
        g_assert_cmpuint(sent, <, 100000);
    }
    int deaf = f->fd;
    f->fd = other;
    g_assert_cmpuint(run(f, NBD_CMD_FLUSH, 0, 0, 0), ==, 0);
    /* It is served to the end when it reads again. */
    g_autofree uint8_t *answer = g_malloc(NBD_SIMPLE_SIZE + MIB(1));
    for (unsigned i = 0; i < MIN(sent, 40); i++)
        get(deaf, answer, NBD_SIMPLE_SIZE + MIB(1));
    close(deaf);
}

static void test_disconnect_finishes(Fixture *f, gconstpointer data)
{
    static const uint8_t bytes[512] = {7};
    go(f->fd, false);
    f->holder.holds = true;
    put_request(f->fd, NBD_CMD_WRITE, 0, 0, sizeof(bytes));
    put(f->fd, bytes, sizeof(bytes));
    put_request(f->fd, NBD_CMD_DISCONNECT, 0, 0, 0);
    while (!f->holder.held)
        g_main_context_iteration(NULL, TRUE);
    host_io_resume(f->holder.held);
    g_assert_cmpuint(get_simple(f->fd), ==, 0);
    expect_end(f->fd);
}

/* Sessions that are nearly right. */
static void test_random_sessions(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(4);
    for (int round = 0; round < 300; round++) {
        g_autoptr(GByteArray) session = g_byte_array_new();
        uint8_t first = (uint8_t)g_rand_int_range(rand, 0, 256) | 2;
        g_byte_array_append(session, &first, 1);
        for (int i = g_rand_int_range(rand, 1, 30); i; i--) {
            uint8_t head[NBD_REQUEST_SIZE + 512] = {0};
            uint16_t type = (uint16_t)g_rand_int_range(rand, 0, 9);
            bool good = g_rand_int_range(rand, 0, 10) != 0;
            store_be32(head, NBD_REQUEST_MAGIC ^ (g_rand_int_range(rand, 0, 50) == 0));
            store_be16(head + 4, (uint16_t)g_rand_int_range(rand, 0, good ? 2 : 65536));
            store_be16(head + 6, type);
            store_be64(head + 16, (uint64_t)g_rand_int_range(rand, 0, 2100) * 512);
            store_be32(head + 24, good ? 512 : g_rand_int(rand));
            g_byte_array_append(session, head,
                                type == NBD_CMD_WRITE ? sizeof(head) : NBD_REQUEST_SIZE);
        }
        LLVMFuzzerTestOneInput(session->data, session->len);
    }
}

static void add(const char *name, const NbdServerOptions *options,
                void (*test)(Fixture *, gconstpointer))
{
    g_autofree char *path = g_strconcat("/nbd/", name, NULL);
    g_test_add(path, Fixture, options, set_up, test, tear_down);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    add("refusals", NULL, test_refusals);
    add("structured", NULL, test_structured);
    add("full-host", NULL, test_full_host);
    add("bad-greeting", NULL, test_bad_greeting);
    add("long-option", NULL, test_long_option);
    add("many-options", NULL, test_many_options);
    add("bad-options", NULL, test_bad_options);
    add("bad-request", NULL, test_bad_request);
    add("huge-write", NULL, test_huge_write);
    add("handshake-timeout", &short_handshake, test_handshake_timeout);
    add("client-limit", &two_clients, test_client_limit);
    add("vanished-client", NULL, test_vanished_client);
    add("deaf-client", NULL, test_deaf_client);
    add("disconnect-finishes", NULL, test_disconnect_finishes);
    g_test_add_func("/nbd/random-sessions", test_random_sessions);
    return g_test_run();
}
