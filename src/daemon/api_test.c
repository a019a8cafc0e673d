/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The fuzz target of the API with requests that are whole, and with what a small change makes of
 * them; always the same ones. */
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUTATIONS 40

static const char *const requests[] = {
    "GET /v1/version HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /v1/vms HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "GET /v1/vms/one HTTP/1.0\r\n\r\n",
    "GET /v1/vms/%00%ff%2e%2e?x=%zz&lines=1 HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /v1/vms/one/log?lines=99999999999999999999 HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /v1/events HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n\x81\x05hello",
    "PATCH /v1/vms/one HTTP/1.1\r\nHost: x\r\nContent-Length: 34\r\n\r\n"
    "{\"settings\": {\"memory\": \"1G\"}}    ",
    "PATCH /v1/vms/one HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    "1e\r\n{\"settings\": {\"memory\": \"2G\"}}\r\n0\r\n\r\n",
    "PATCH /v1/vms/one HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999999\r\n\r\n{",
    "PATCH /v1/media/%2Fnone HTTP/1.1\r\nHost: x\r\nContent-Length: 15\r\n\r\n{\"mode\": \"new\"}",
    "PUT /v1/vms/one/config HTTP/1.1\r\nHost: x\r\nContent-Length: 24\r\n\r\n<ospite "
    "version=\"1\"/>   ",
    "POST /v1/vms HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
    "DELETE /v1/vms/one?mode=all HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    "",
    "\r\n\r\n",
    "\x16\x03\x01\x02\x00\x01\x00",
};

static void test_requests(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(5);

    for (unsigned i = 0; i < G_N_ELEMENTS(requests); i++) {
        size_t size = strlen(requests[i]);
        LLVMFuzzerTestOneInput((const uint8_t *)requests[i], size);
        for (unsigned m = 0; size && m < MUTATIONS; m++) {
            g_autofree uint8_t *bytes = g_memdup2(requests[i], size);
            for (int n = g_rand_int_range(rand, 1, 4); n > 0; n--)
                bytes[g_rand_int_range(rand, 0, (int)size)] = (uint8_t)g_rand_int(rand);
            bool cut = g_rand_int_range(rand, 0, 4) == 0;
            LLVMFuzzerTestOneInput(bytes,
                                   cut ? (size_t)g_rand_int_range(rand, 0, (int)size) : size);
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_log_set_always_fatal((GLogLevelFlags)(G_LOG_LEVEL_CRITICAL | G_LOG_LEVEL_ERROR));
    g_test_add_func("/daemon/api/requests", test_requests);
    int status = g_test_run();
    g_autofree char *remove = g_strconcat("rm -rf ", g_getenv("XDG_DATA_HOME"), NULL);
    return g_spawn_command_line_sync(remove, NULL, NULL, NULL, NULL) ? status : 1;
}
