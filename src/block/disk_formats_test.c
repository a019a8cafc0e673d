/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The asynchronous front over every format: many requests at once against a disk in memory. */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "block/disk.h"
#include "block/host_io.h"
#include "block/image_test_kit.h"

#define SIZE  (MIB(5) + 512 * 3)
#define SLOTS 24 /* requests in flight; each keeps to its own part of the disk */
#define PART  (SIZE / SLOTS / 512 * 512)

typedef struct Slot {
    DiskRequest request;
    struct iovec iov[3];
    uint8_t *want, *data;
    uint64_t offset;
    bool busy;
} Slot;

typedef struct Run {
    Disk *disk;
    GRecMutex lock;
    GRand *rand;
    uint8_t *memory;
    Slot slots[SLOTS];
    unsigned done;
} Run;

static void slot_done(DiskRequest *request, int error)
{
    Run *run = request->obj;
    Slot *slot = (Slot *)request;
    g_assert_cmpint(error, ==, 0);
    if (request->op == DISK_READ)
        kit_expect(slot->data, run->memory + request->offset, request->size, "read");
    slot->busy = false;
    run->done++;
}

static void split_iov(Slot *slot, uint64_t size)
{
    uint64_t third = size / 3 / 512 * 512;
    slot->iov[0] = (struct iovec){slot->data, third};
    slot->iov[1] = (struct iovec){slot->data + third, third};
    slot->iov[2] = (struct iovec){slot->data + 2 * third, size - 2 * third};
}

static void submit(Run *run, unsigned n)
{
    Slot *slot = &run->slots[n];
    static const DiskOp ops[] = {DISK_READ,  DISK_READ,  DISK_WRITE,        DISK_WRITE,
                                 DISK_WRITE, DISK_FLUSH, DISK_WRITE_ZEROES, DISK_WRITE};
    DiskOp op = ops[g_rand_int_range(run->rand, 0, G_N_ELEMENTS(ops))];
    uint64_t first = (uint64_t)g_rand_int_range(run->rand, 0, PART / 512);
    uint64_t count = (uint64_t)g_rand_int_range(run->rand, 1, 200);
    uint64_t offset = n * PART + first * 512, size = MIN(count, PART / 512 - first) * 512;
    bool moves = op == DISK_READ || op == DISK_WRITE;
    slot->request = (DiskRequest){.op = op,
                                  .fua = op == DISK_WRITE && count % 16 == 0,
                                  .offset = op == DISK_FLUSH ? 0 : offset,
                                  .size = op == DISK_FLUSH ? 0 : size,
                                  .iov = moves ? slot->iov : NULL,
                                  .iov_count = moves ? 3 : 0,
                                  .done = slot_done,
                                  .obj = run};
    if (moves)
        split_iov(slot, size);
    if (op == DISK_WRITE) {
        kit_fill(slot->data, size, run->rand);
        memcpy(run->memory + offset, slot->data, size);
    } else if (op == DISK_WRITE_ZEROES) {
        memset(run->memory + offset, 0, size);
    }
    slot->busy = true;
    disk_submit(run->disk, &slot->request);
}

typedef struct Case {
    const char *name, *format, *option, *parent;
} Case;

static const Case cases[] = {
    {"raw", "raw"},
    {"qcow2", "qcow2"},
    {"qcow2-512", "qcow2", "cluster_size=512"},
    {"qcow2-over-vdi", "qcow2", NULL, "vdi"},
    {"qcow2-extended-over-raw", "qcow2", "extended_l2=on", "raw"},
    {"vdi", "vdi"},
    {"vhd-over-qcow2", "vhd", NULL, "qcow2"},
    {"vhdx", "vhdx", "block_size=1M"},
    {"vhdx-over-vdi", "vhdx", NULL, "vdi"},
    {"vmdk", "vmdk"},
    {"vmdk-stream", "vmdk", "subformat=streamOptimized"},
    {"vmdk-split-flat", "vmdk", "subformat=twoGbMaxExtentFlat"},
};

static void make_images(const Case *c, uint8_t *memory, GRand *rand)
{
    const char *list[] = {c->option, NULL};
    if (c->parent) {
        kit_create("parent", c->parent, SIZE, NULL, NULL);
        g_autoptr(Image) parent = kit_open("parent", c->parent, false);
        for (int i = 0; i < 20; i++)
            kit_random_op(parent, memory, SIZE, rand);
    }
    kit_create("disk", c->format, SIZE, c->parent ? "parent" : NULL, c->option ? list : NULL);
}

static void keep_busy(Run *run, unsigned total)
{
    unsigned submitted = 0;
    while (run->done < total) {
        for (unsigned i = 0; i < SLOTS && submitted < total; i++) {
            if (!run->slots[i].busy && (submitted++, true))
                submit(run, i);
        }
        g_main_context_iteration(NULL, TRUE);
    }
}

static void exercise(const Case *c, const char *no_uring)
{
    Run run = {.rand = g_rand_new_with_seed(17), .memory = g_malloc0(SIZE)};
    GError *error = NULL;
    kit_enter_folder();
    g_setenv("OSPITE_NO_URING", no_uring, TRUE);
    g_rec_mutex_init(&run.lock);
    make_images(c, run.memory, run.rand);
    for (int i = 0; i < SLOTS; i++)
        run.slots[i].data = g_malloc(PART);
    DiskOptions options = {.format = c->format};
    run.disk = disk_open("disk", &options, NULL, &run.lock, &error);
    g_assert_no_error(error);
    keep_busy(&run, 400);
    disk_drain(run.disk);
    disk_close(run.disk);
    g_autoptr(Image) image = kit_open("disk", c->format, false);
    g_autofree uint8_t *all = kit_read_all(image, SIZE);
    kit_expect(all, run.memory, SIZE, "reopened");
    kit_check(image);
    for (int i = 0; i < SLOTS; i++)
        g_free(run.slots[i].data);
    g_free(run.memory);
    g_rand_free(run.rand);
    g_rec_mutex_clear(&run.lock);
    kit_leave_folder();
}

static void test_uring(gconstpointer data)
{
    exercise(data, "0");
}

static void test_threads(gconstpointer data)
{
    exercise(data, "1");
}

/* From here on the host knows no io_uring, as under the filters of containers. */
static void refuse_uring(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, SYS_io_uring_setup, 0, 2),
        BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, SYS_io_uring_register, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {G_N_ELEMENTS(filter), filter};
    g_assert_cmpint(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), ==, 0);
    g_assert_cmpint(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), ==, 0);
}

static void expect_threads(void)
{
    static GRecMutex lock;
    g_autoptr(HostIo) io = host_io_new(NULL, &lock, NULL);
    g_assert_cmpstr(host_io_backend(io), ==, "threads");
}

/* In a process of its own, for a filter stays. */
static void test_refused(gconstpointer data)
{
    if (!g_test_subprocess()) {
        g_test_trap_subprocess(NULL, 0, G_TEST_SUBPROCESS_INHERIT_STDERR);
        g_test_trap_assert_passed();
        return;
    }
    refuse_uring();
    expect_threads();
    exercise(data, "0");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *uring = g_strdup_printf("/disk/%s/uring", cases[i].name);
        g_autofree char *threads = g_strdup_printf("/disk/%s/threads", cases[i].name);
        g_test_add_data_func(uring, &cases[i], test_uring);
        g_test_add_data_func(threads, &cases[i], test_threads);
        g_autofree char *refused = g_strdup_printf("/disk/%s/refused", cases[i].name);
        g_test_add_data_func(refused, &cases[i], test_refused);
    }
    return g_test_run();
}
