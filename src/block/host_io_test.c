/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What a ring of host_io.c can be asked for by somebody who has got hold of it. */
#include "block/host_io.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define ENTRIES 128 /* as host_io.c has it: the layout of a ring follows from that */

/* The descriptor of the one ring of this process; -1: there is none. */
static int find_ring(void)
{
    g_autoptr(GDir) dir = g_dir_open("/proc/self/fd", 0, NULL);
    const char *name;

    while ((name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename("/proc/self/fd", name, NULL);
        g_autofree char *link = g_file_read_link(path, NULL);
        if (link && strstr(link, "[io_uring]"))
            return atoi(name);
    }
    return -1;
}

/* A second view of the ring behind `fd`. */
static void view_ring(int fd, struct io_uring *ring)
{
    struct io_uring_params params = {.flags = IORING_SETUP_R_DISABLED};
    struct io_uring model;

    g_assert_cmpint(io_uring_queue_init_params(ENTRIES, &model, &params), ==, 0);
    io_uring_queue_exit(&model);
    memset(ring, 0, sizeof(*ring));
    g_assert_cmpint(io_uring_queue_mmap(fd, &params, ring), ==, 0);
}

static int submit(struct io_uring *ring, uint8_t opcode, uint8_t flags)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
    struct io_uring_cqe *cqe;
    int result;

    io_uring_prep_rw(opcode, sqe, AT_FDCWD, "/etc/passwd", 0, 0);
    sqe->flags = flags;
    g_assert_cmpint(io_uring_submit(ring), ==, 1);
    g_assert_cmpint(io_uring_wait_cqe(ring, &cqe), ==, 0);
    result = cqe->res;
    io_uring_cqe_seen(ring, cqe);
    return result;
}

static void test_ring_opens_nothing(void)
{
    static const uint8_t used[] = {IORING_OP_NOP,   IORING_OP_READV,     IORING_OP_WRITEV,
                                   IORING_OP_FSYNC, IORING_OP_FALLOCATE, IORING_OP_POLL_ADD};
    static GRecMutex lock;
    g_autoptr(HostIo) io = host_io_new(NULL, &lock, NULL);
    struct io_uring ring;
    int fd = find_ring();

    if (strcmp(host_io_backend(io), "io_uring")) {
        g_assert_cmpint(fd, ==, -1);
        g_test_skip("the host gives no io_uring");
        return;
    }
    view_ring(fd, &ring);
    g_assert_cmpint(submit(&ring, IORING_OP_NOP, 0), ==, 0);
    g_assert_cmpint(submit(&ring, IORING_OP_OPENAT, 0), ==, -EACCES);
    g_assert_cmpint(submit(&ring, IORING_OP_NOP, IOSQE_ASYNC), ==, -EACCES);
    for (unsigned opcode = 0; opcode < IORING_OP_LAST; opcode++) {
        if (!memchr(used, (int)opcode, sizeof(used)))
            g_assert_cmpint(submit(&ring, (uint8_t)opcode, 0), ==, -EACCES);
    }
    g_assert_cmpint(syscall(__NR_io_uring_register, fd, IORING_REGISTER_FILES, &fd, 1), ==, -1);
    g_assert_cmpint(errno, ==, EACCES);
    munmap(ring.sq.ring_ptr, ring.sq.ring_sz);
    munmap(ring.sq.sqes, ENTRIES * sizeof(struct io_uring_sqe));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/block/host-io/ring-opens-nothing", test_ring_opens_nothing);
    return g_test_run();
}
