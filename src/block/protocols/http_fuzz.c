/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A hostile HTTP server: the input is what it answers, one part for each connection: | length 15,
 * followed by a body 1 | head |. Such a body has as many bytes as the client has asked for.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bits.h"
#include "block/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define BODY_MAX MIB(8)

typedef struct Server {
    int listener;
    char address[64];
    GMutex lock; /* for what follows */
    const uint8_t *answers;
    size_t left;
} Server;

/* The bytes of the range in a request; 0: it has none. */
static uint64_t read_request(int fd)
{
    char text[4096] = "";
    size_t size = 0;
    ssize_t n;
    while (size < sizeof(text) - 1 && !strstr(text, "\r\n\r\n") &&
           (n = recv(fd, text + size, sizeof(text) - 1 - size, 0)) > 0)
        size += (size_t)n;
    unsigned long long first = 0, last = 0;
    const char *range = strstr(text, "Range: bytes=");
    bool whole = range && sscanf(range, "Range: bytes=%llu-%llu", &first, &last) == 2;
    return whole && last >= first ? MIN(last - first + 1, BODY_MAX) : 0;
}

static void answer(Server *server, int fd)
{
    uint64_t body = read_request(fd);
    g_mutex_lock(&server->lock);
    uint16_t head = server->left >= 2 ? load_le16(server->answers) : 0;
    size_t length = MIN(head & 0x7fff, server->left - MIN(server->left, 2));
    g_autofree char *all = g_malloc0(length + body);
    if (length)
        memcpy(all, server->answers + 2, length);
    size_t used = MIN(length + 2, server->left);
    server->answers += used;
    server->left -= used;
    g_mutex_unlock(&server->lock);
    size_t size = length + (head & 0x8000 ? body : 0);
    for (size_t done = 0; done < size;) {
        ssize_t n = send(fd, all + done, size - done, MSG_NOSIGNAL);
        if (n <= 0)
            break;
        done += (size_t)n;
    }
}

static void *serve(void *obj)
{
    Server *server = obj;
    for (int fd; (fd = accept(server->listener, NULL, NULL)) >= 0;) {
        answer(server, fd);
        close(fd);
    }
    return NULL;
}

static Server *start_server(void)
{
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(here);
    Server *server = g_new0(Server, 1);
    g_mutex_init(&server->lock);
    server->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_assert(bind(server->listener, (struct sockaddr *)&here, sizeof(here)) == 0);
    g_assert(listen(server->listener, 16) == 0);
    g_assert(getsockname(server->listener, (struct sockaddr *)&here, &size) == 0);
    snprintf(server->address, sizeof(server->address), "http://127.0.0.1:%u/disk",
             ntohs(here.sin_port));
    /* A redirection to anywhere ends up here, too. */
    g_setenv("http_proxy", server->address, TRUE);
    g_setenv("https_proxy", server->address, TRUE);
    g_unsetenv("no_proxy");
    g_unsetenv("NO_PROXY");
    g_thread_unref(g_thread_new("server", serve, server));
    return server;
}

static void give(Server *server, const uint8_t *data, size_t size)
{
    g_mutex_lock(&server->lock);
    server->answers = data;
    server->left = size;
    g_mutex_unlock(&server->lock);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static Server *server;
    uint8_t buffer[4096];
    if (!server)
        server = start_server();
    give(server, data, size);
    ImageOptions options = {.format = "raw", .read_only = true};
    g_autoptr(Image) image = image_open(server->address, &options, NULL);
    for (int i = 0; image && i < 4; i++) {
        uint64_t at = image->map->size / 4 * (uint64_t)i / 512 * 512;
        if (at + sizeof(buffer) <= image->map->size)
            image_read(image, at, buffer, sizeof(buffer));
    }
    give(server, NULL, 0);
    return 0;
}
