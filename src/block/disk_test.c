/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The disk engine on temporary files, with io_uring and with threads, and with host calls that
 * fail. */
#include "block/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/stat.h>

#include "block/format.h"
#include "block/host_io.h"

typedef struct Recorder {
    HostIoHook hook;
    GArray *ops;       /* HostIoOp of each call */
    int verdict[10];   /* for each HostIoOp */
    int verdicts_left; /* calls that get one; -1: all */
    HostIoRequest *held;
    bool last_durable;
} Recorder;

typedef struct Fixture {
    char *path;
    GRecMutex lock;
    Recorder recorder;
    Disk *disk;
} Fixture;

static int record(HostIoHook *hook, HostIoRequest *request)
{
    Recorder *r = (Recorder *)hook;
    g_array_append_val(r->ops, request->op);
    r->last_durable = request->durable;
    int verdict = r->verdict[request->op];
    if (!verdict || r->verdicts_left == 0)
        return HOST_IO_RUN;
    if (r->verdicts_left > 0)
        r->verdicts_left--;
    if (verdict == HOST_IO_HOLD)
        r->held = request;
    return verdict;
}

static unsigned count_ops(Fixture *f, HostIoOp op)
{
    unsigned n = 0;
    for (guint i = 0; i < f->recorder.ops->len; i++)
        n += g_array_index(f->recorder.ops, HostIoOp, i) == op;
    return n;
}

static void fill_file(const char *path, size_t size)
{
    g_autofree uint8_t *data = g_malloc(size + 1);
    for (size_t i = 0; i < size; i++)
        data[i] = (uint8_t)(i * 7 + i / 512);
    g_assert_true(g_file_set_contents(path, (char *)data, (gssize)size, NULL));
}

static Disk *try_open(Fixture *f, const char *path, const char *format, bool read_only,
                      GError **error)
{
    DiskOptions options = {.format = format, .read_only = read_only, .io_hook = &f->recorder.hook};
    return disk_open(path, &options, NULL, &f->lock, error);
}

static void open_disk(Fixture *f, size_t file_size)
{
    GError *error = NULL;
    fill_file(f->path, file_size);
    f->disk = try_open(f, f->path, NULL, false, &error);
    g_assert_no_error(error);
    g_array_set_size(f->recorder.ops, 0);
}

static void set_up(Fixture *f, gconstpointer no_uring)
{
    g_setenv("OSPITE_NO_URING", no_uring, TRUE);
    int fd = g_file_open_tmp("ospite-disk-XXXXXX", &f->path, NULL);
    close(fd);
    g_rec_mutex_init(&f->lock);
    f->recorder.hook.before = record;
    f->recorder.ops = g_array_new(FALSE, FALSE, sizeof(HostIoOp));
    f->recorder.verdicts_left = -1;
}

static void tear_down(Fixture *f, gconstpointer no_uring)
{
    disk_close(f->disk);
    g_array_unref(f->recorder.ops);
    g_unlink(f->path);
    g_free(f->path);
    g_rec_mutex_clear(&f->lock);
}

typedef struct Call {
    DiskRequest request;
    struct iovec iov;
    int error; /* -1 until done */
} Call;

static void call_done(DiskRequest *request, int error)
{
    Call *call = request->obj;
    g_assert_cmpint(call->error, ==, -1);
    call->error = error;
}

static void start(Fixture *f, Call *call, DiskOp op, uint64_t offset, void *data, size_t size)
{
    bool fua = call->request.fua;
    *call = (Call){.error = -1, .iov = {data, size}};
    call->request = (DiskRequest){.op = op,
                                  .offset = offset,
                                  .size = size,
                                  .fua = fua,
                                  .iov = data ? &call->iov : NULL,
                                  .iov_count = data ? 1 : 0,
                                  .done = call_done,
                                  .obj = call};
    disk_submit(f->disk, &call->request);
    g_assert_cmpint(call->error, ==, -1); /* never inside submit */
}

static int finish(Call *call)
{
    while (call->error == -1)
        g_main_context_iteration(NULL, TRUE);
    return call->error;
}

static int run(Fixture *f, DiskOp op, uint64_t offset, void *data, size_t size)
{
    Call call = {};
    start(f, &call, op, offset, data, size);
    return finish(&call);
}

static void test_read_write(Fixture *f, gconstpointer p)
{
    open_disk(f, 1 << 20);
    g_assert_cmpuint(disk_info(f->disk)->size, ==, 1 << 20);
    g_assert_cmpstr(disk_info(f->disk)->format, ==, "raw");
    uint8_t data[1024], back[1024];
    g_assert_cmpint(run(f, DISK_READ, 512, data, 1024), ==, 0);
    for (unsigned i = 0; i < 1024; i++)
        g_assert_cmpuint(data[i], ==, (uint8_t)((i + 512) * 7 + (i + 512) / 512));
    memset(data, 0xa5, sizeof(data));
    g_assert_cmpint(run(f, DISK_WRITE, (1 << 20) - 1024, data, 1024), ==, 0);
    g_assert_cmpint(run(f, DISK_READ, (1 << 20) - 1024, back, 1024), ==, 0);
    g_assert_cmpmem(data, 1024, back, 1024);
}

static void test_scatter(Fixture *f, gconstpointer p)
{
    open_disk(f, 1 << 20);
    enum { PIECES = 200 }; /* more than one step's vectors */
    g_autofree uint8_t *data = g_malloc0(PIECES * 512);
    struct iovec iov[PIECES];
    for (int i = 0; i < PIECES; i++)
        iov[i] = (struct iovec){data + (PIECES - 1 - i) * 512, 512};
    Call call = {.error = -1};
    call.request = (DiskRequest){.op = DISK_READ,
                                 .offset = 1024,
                                 .size = PIECES * 512,
                                 .iov = iov,
                                 .iov_count = PIECES,
                                 .done = call_done,
                                 .obj = &call};
    disk_submit(f->disk, &call.request);
    g_assert_cmpint(finish(&call), ==, 0);
    for (int i = 0; i < PIECES; i++) {
        size_t at = 1024 + (PIECES - 1 - i) * 512 + 3;
        g_assert_cmpuint(data[i * 512 + 3], ==, (uint8_t)(at * 7 + at / 512));
    }
}

static void test_many_at_once(Fixture *f, gconstpointer p)
{
    open_disk(f, 1 << 20);
    enum { COUNT = 400 }; /* more than the ring holds */
    g_autofree Call *calls = g_new0(Call, COUNT);
    g_autofree uint8_t *data = g_malloc0(COUNT * 512);
    for (int i = 0; i < COUNT; i++)
        start(f, &calls[i], DISK_READ, i * 512, data + i * 512, 512);
    disk_drain(f->disk);
    for (int i = 0; i < COUNT; i++) {
        g_assert_cmpint(calls[i].error, ==, 0);
        g_assert_cmpuint(data[i * 512], ==, (uint8_t)(i * 512 * 7 + i));
    }
}

static void test_drain_under_lock(Fixture *f, gconstpointer p)
{
    uint8_t data[512];
    Call call = {};
    open_disk(f, 4096);
    g_rec_mutex_lock(&f->lock);
    start(f, &call, DISK_READ, 0, data, 512);
    disk_drain(f->disk);
    g_rec_mutex_unlock(&f->lock);
    g_assert_cmpint(call.error, ==, 0);
}

static void test_refusals(Fixture *f, gconstpointer p)
{
    uint8_t data[1024] = {0};
    open_disk(f, 4096);
    g_assert_cmpint(run(f, DISK_READ, 4096, data, 512), ==, EIO);
    g_assert_cmpint(run(f, DISK_WRITE, 3584, data, 1024), ==, EIO);
    g_assert_cmpint(run(f, DISK_READ, UINT64_MAX - 511, data, 1024), ==, EIO);
    g_assert_cmpint(run(f, DISK_READ, 100, data, 512), ==, EINVAL);
    g_assert_cmpint(run(f, DISK_READ, 0, NULL, 512), ==, EINVAL);
    g_assert_cmpint(run(f, DISK_WRITE_ZEROES, 4096, NULL, 512), ==, EIO);
    g_assert_cmpint(run(f, DISK_READ, 0, data, 0), ==, 0);
    g_assert_cmpuint(count_ops(f, HOST_IO_READ) + count_ops(f, HOST_IO_WRITE), ==, 0);
}

static void test_unaligned_tail(Fixture *f, gconstpointer p)
{
    uint8_t data[1024];
    open_disk(f, 1000);
    g_assert_cmpuint(disk_info(f->disk)->size, ==, 1024);
    memset(data, 0xee, sizeof(data));
    g_assert_cmpint(run(f, DISK_READ, 0, data, 1024), ==, 0);
    g_assert_cmpuint(data[999], ==, (uint8_t)(999 * 7 + 1));
    for (int i = 1000; i < 1024; i++)
        g_assert_cmpuint(data[i], ==, 0);
    memset(data, 0x77, 512);
    g_assert_cmpint(run(f, DISK_WRITE, 512, data, 512), ==, 0);
    memset(data, 0, sizeof(data));
    g_assert_cmpint(run(f, DISK_READ, 512, data, 512), ==, 0);
    g_assert_cmpuint(data[511], ==, 0x77);
}

static void test_short_transfers(Fixture *f, gconstpointer p)
{
    uint8_t data[2048], back[2048];
    open_disk(f, 4096);
    f->recorder.verdict[HOST_IO_READ] = f->recorder.verdict[HOST_IO_WRITE] = 700;
    for (int i = 0; i < 2048; i++)
        data[i] = (uint8_t)(i * 13);
    g_assert_cmpint(run(f, DISK_WRITE, 512, data, 2048), ==, 0);
    g_assert_cmpuint(count_ops(f, HOST_IO_WRITE), ==, 3);
    g_assert_cmpint(run(f, DISK_READ, 512, back, 2048), ==, 0);
    g_assert_cmpmem(data, 2048, back, 2048);
}

static void test_failures(Fixture *f, gconstpointer p)
{
    uint8_t data[512] = {0};
    open_disk(f, 4096);
    f->recorder.verdict[HOST_IO_READ] = -EIO;
    f->recorder.verdict[HOST_IO_WRITE] = -ENOSPC;
    g_assert_cmpint(run(f, DISK_READ, 0, data, 512), ==, EIO);
    g_assert_cmpint(run(f, DISK_WRITE, 0, data, 512), ==, ENOSPC);
    f->recorder.verdicts_left = 0;
    g_assert_cmpint(run(f, DISK_WRITE, 0, data, 512), ==, 0);
}

static void test_flush(Fixture *f, gconstpointer p)
{
    uint8_t data[512] = {0};
    open_disk(f, 4096);
    g_assert_cmpint(run(f, DISK_FLUSH, 0, NULL, 0), ==, 0);
    g_assert_cmpuint(count_ops(f, HOST_IO_SYNC), ==, 1);
    g_assert_cmpint(run(f, DISK_FLUSH, 0, NULL, 0), ==, 0);
    g_assert_cmpuint(count_ops(f, HOST_IO_SYNC), ==, 1); /* nothing to do */
    g_assert_cmpint(run(f, DISK_WRITE, 0, data, 512), ==, 0);
    g_assert_false(f->recorder.last_durable);
    g_assert_cmpint(run(f, DISK_FLUSH, 0, NULL, 0), ==, 0);
    g_assert_cmpuint(count_ops(f, HOST_IO_SYNC), ==, 2);
    Call call = {.request.fua = true};
    start(f, &call, DISK_WRITE, 0, data, 512);
    g_assert_cmpint(finish(&call), ==, 0);
    g_assert_true(f->recorder.last_durable);
}

/* A flush that comes while another is under way must not be answered before its own sync is. */
static void test_flush_overlap(Fixture *f, gconstpointer p)
{
    Call first = {}, second = {};
    open_disk(f, 4096);
    f->recorder.verdict[HOST_IO_SYNC] = HOST_IO_HOLD;
    f->recorder.verdicts_left = 1;
    start(f, &first, DISK_FLUSH, 0, NULL, 0);
    g_assert_nonnull(f->recorder.held);
    start(f, &second, DISK_FLUSH, 0, NULL, 0);
    g_assert_cmpint(finish(&second), ==, 0);
    g_assert_cmpint(first.error, ==, -1);
    g_assert_cmpuint(count_ops(f, HOST_IO_SYNC), ==, 2);
    host_io_resume(f->recorder.held);
    g_assert_cmpint(finish(&first), ==, 0);
}

static void test_sticky_sync(Fixture *f, gconstpointer p)
{
    uint8_t data[512] = {0};
    open_disk(f, 4096);
    f->recorder.verdict[HOST_IO_SYNC] = -EIO;
    f->recorder.verdicts_left = 1;
    g_assert_cmpint(run(f, DISK_FLUSH, 0, NULL, 0), ==, EIO);
    g_assert_cmpint(run(f, DISK_FLUSH, 0, NULL, 0), ==, EIO);
    Call call = {.request.fua = true};
    start(f, &call, DISK_WRITE, 0, data, 512);
    g_assert_cmpint(finish(&call), ==, EIO);
    g_assert_cmpint(run(f, DISK_READ, 0, data, 512), ==, 0);
}

static void test_zeroes(Fixture *f, gconstpointer p)
{
    uint8_t data[4096];
    open_disk(f, 1 << 20);
    /* 0: what the host can; 1, 2: that many methods fail, the last writes zeros */
    for (int failing = 0; failing < 3; failing++) {
        memset(data, 0xff, sizeof(data));
        g_assert_cmpint(run(f, DISK_WRITE, failing * 4096, data, 4096), ==, 0);
        f->recorder.verdict[HOST_IO_FALLOCATE] = failing ? -EOPNOTSUPP : 0;
        f->recorder.verdicts_left = failing ? 1 : 0;
        g_assert_cmpint(run(f, DISK_WRITE_ZEROES, failing * 4096 + 512, NULL, 3072), ==, 0);
        g_assert_cmpint(run(f, DISK_READ, failing * 4096, data, 4096), ==, 0);
        for (int i = 0; i < 4096; i++)
            g_assert_cmpuint(data[i], ==, i >= 512 && i < 3584 ? 0 : 0xff);
    }
    g_assert_cmpint(run(f, DISK_DISCARD, 0, NULL, 4096), ==, 0);
    g_assert_cmpint(run(f, DISK_WRITE_ZEROES, 0, NULL, 1 << 20), ==, 0);
}

static void test_discard_frees(Fixture *f, gconstpointer p)
{
    struct stat before, after;
    open_disk(f, 1 << 20);
    g_stat(f->path, &before);
    g_assert_cmpint(run(f, DISK_DISCARD, 0, NULL, 1 << 20), ==, 0);
    g_stat(f->path, &after);
    g_assert_cmpint(after.st_blocks, <, before.st_blocks);
    g_assert_cmpint(after.st_size, ==, before.st_size);
}

static void expect_error(Fixture *f, const char *path, const char *format, bool read_only,
                         const char *words)
{
    g_autoptr(GError) error = NULL;
    g_assert_null(try_open(f, path, format, read_only, &error));
    g_assert_nonnull(error);
    if (!strstr(error->message, words) || !strstr(error->message, path))
        g_error("message '%s' lacks '%s' or '%s'", error->message, words, path);
}

typedef struct Stops {
    int error;
    unsigned count;
} Stops;

static void note_stop(void *obj, Disk *disk, DiskOp op, int error)
{
    Stops *stops = obj;
    g_assert_cmpint(op, ==, DISK_WRITE);
    stops->error = error;
    stops->count++;
}

/* A full host keeps the request until there is room. */
static void test_stop_when_full(Fixture *f, gconstpointer p)
{
    uint8_t data[2048], back[2048];
    Stops stops = {};
    DiskOptions options = {.format = "raw",
                           .io_hook = &f->recorder.hook,
                           .on_full = DISK_ERROR_STOP,
                           .stopped = note_stop,
                           .stopped_obj = &stops};
    fill_file(f->path, 8192);
    f->disk = disk_open(f->path, &options, NULL, &f->lock, NULL);
    memset(data, 0x5a, sizeof(data));
    f->recorder.verdict[HOST_IO_WRITE] = -ENOSPC;
    Call call = {};
    start(f, &call, DISK_WRITE, 1024, data, 2048);
    disk_drain(f->disk);
    g_assert_cmpint(call.error, ==, -1);
    g_assert_cmpuint(disk_stopped_count(f->disk), ==, 1);
    g_assert_cmpint(stops.error, ==, ENOSPC);
    disk_retry(f->disk);
    disk_drain(f->disk);
    g_assert_cmpuint(stops.count, ==, 2);
    f->recorder.verdict[HOST_IO_WRITE] = 0;
    disk_retry(f->disk);
    g_assert_cmpint(finish(&call), ==, 0);
    g_assert_cmpint(run(f, DISK_READ, 1024, back, 2048), ==, 0);
    g_assert_cmpmem(data, 2048, back, 2048);
    /* Other failures are the device's. */
    f->recorder.verdict[HOST_IO_WRITE] = -EIO;
    g_assert_cmpint(run(f, DISK_WRITE, 1024, data, 2048), ==, EIO);
}

/* Reads have their own policy, and an error may be passed over. */
static void test_error_policies(Fixture *f, gconstpointer p)
{
    uint8_t data[512] = {0};
    DiskOptions options = {.format = "raw",
                           .io_hook = &f->recorder.hook,
                           .on_error = DISK_ERROR_IGNORE,
                           .on_read_error = DISK_ERROR_STOP};
    fill_file(f->path, 8192);
    f->disk = disk_open(f->path, &options, NULL, &f->lock, NULL);
    f->recorder.verdict[HOST_IO_WRITE] = -EIO;
    g_assert_cmpint(run(f, DISK_WRITE, 0, data, 512), ==, 0);
    f->recorder.verdict[HOST_IO_WRITE] = -ENOSPC;
    g_assert_cmpint(run(f, DISK_WRITE, 0, data, 512), ==, ENOSPC);
    f->recorder.verdict[HOST_IO_READ] = -EIO;
    Call call = {};
    start(f, &call, DISK_READ, 512, data, 512);
    disk_drain(f->disk);
    g_assert_cmpint(call.error, ==, -1);
    g_assert_cmpuint(disk_stopped_count(f->disk), ==, 1);
    f->recorder.verdict[HOST_IO_READ] = 0;
    disk_retry(f->disk);
    g_assert_cmpint(finish(&call), ==, 0);
    g_assert_cmpuint(data[3], ==, (uint8_t)(515 * 7 + 1));
}

/* What a second lets through, counted on a clock of our own. */
static void test_throttle_counts(void)
{
    static const struct {
        ThrottleLimits limits;
        uint64_t bytes;
        unsigned at_once, in_ten_s;
    } cases[] = {
        {{.iops = 100}, 4096, 11, 1010},
        {{.iops = 100, .burst_ms = 1000}, 4096, 101, 1100},
        {{.bytes = 1 << 20}, 4096, 26, 2586},
        {{.iops = 10, .bytes = 1 << 30}, 1 << 20, 2, 101},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        Throttle t = {.limits = cases[i].limits};
        unsigned count = 0;
        int64_t now = 1000000, end = now + 10 * G_USEC_PER_SEC;
        while (throttle_take(&t, now, cases[i].bytes) == 0)
            count++;
        g_assert_cmpuint(count, ==, cases[i].at_once);
        for (int64_t wait; now < end; now += MAX(wait, 1)) {
            wait = throttle_take(&t, now, cases[i].bytes);
            count += wait == 0;
        }
        g_assert_cmpuint(count, >=, cases[i].in_ten_s - 1);
        g_assert_cmpuint(count, <=, cases[i].in_ten_s + 1);
    }
}

/* Order is kept, the rest waits, and a drain lets all through. */
static void test_throttle(Fixture *f, gconstpointer p)
{
    enum { COUNT = 8 };
    uint8_t data[COUNT][512];
    Call calls[COUNT] = {};
    DiskOptions options = {
        .format = "raw", .io_hook = &f->recorder.hook, .throttle = {.bytes = 1, .burst_ms = 1}};
    fill_file(f->path, 8192);
    f->disk = disk_open(f->path, &options, NULL, &f->lock, NULL);
    g_array_set_size(f->recorder.ops, 0);
    for (int i = 0; i < COUNT; i++)
        start(f, &calls[i], DISK_READ, i * 512, data[i], 512);
    g_assert_cmpint(finish(&calls[0]), ==, 0);
    g_assert_cmpuint(count_ops(f, HOST_IO_READ), ==, 1);
    disk_drain(f->disk);
    g_assert_cmpuint(count_ops(f, HOST_IO_READ), ==, COUNT);
    for (int i = 0; i < COUNT; i++)
        g_assert_cmpint(calls[i].error, ==, 0);
}

/* A probed raw disk must not become another format's image (CVE-2008-2004). */
static void test_forged_mark(Fixture *f, gconstpointer p)
{
    uint8_t data[1024] = {[512] = 'Q', 'F', 'I', 0xfb, 0, 0, 0, 3};
    open_disk(f, 65536);
    g_assert_cmpint(run(f, DISK_WRITE, 512, data, 1024), ==, 0);
    g_assert_cmpint(run(f, DISK_WRITE, 0, data + 512, 512), ==, EPERM);
    /* A VMDK descriptor may begin with comments, but not for longer than a sector. */
    memset(data, '#', sizeof(data));
    memcpy(data + 200, "\n version = 1\n", 14);
    g_assert_cmpint(run(f, DISK_WRITE, 0, data, 1024), ==, EPERM);
    g_assert_cmpint(run(f, DISK_WRITE, 512, data, 512), ==, 0);
    memcpy(data, "conectix", 8);
    g_assert_cmpint(run(f, DISK_WRITE, 65536 - 512, data, 512), ==, EPERM);
    disk_close(f->disk);
    f->disk = try_open(f, f->path, "raw", false, NULL);
    g_assert_cmpint(run(f, DISK_WRITE, 0, data + 512, 512), ==, 0);
}

static void test_open_errors(Fixture *f, gconstpointer p)
{
    g_autofree char *fifo = g_strconcat(f->path, ".fifo", NULL);
    expect_error(f, f->path, NULL, false, "empty");
    expect_error(f, "/nonexistent/disk.img", NULL, false, "No such file");
    expect_error(f, "/tmp", NULL, false, "directory");
    expect_error(f, "/tmp", NULL, true, "directory");
    expect_error(f, "/dev/null", NULL, false, "character device");
    g_assert_cmpint(mkfifo(fifo, 0600), ==, 0);
    expect_error(f, fifo, NULL, true, "fifo");
    expect_error(f, fifo, NULL, false, "fifo");
    g_unlink(fifo);
    fill_file(f->path, 4096);
    f->recorder.verdict[HOST_IO_OPEN] = -EACCES;
    expect_error(f, f->path, NULL, false,
                 "Permission denied; change its permissions, or open it "
                 "read-only");
    f->recorder.verdicts_left = 0;
    g_autoptr(GError) error = NULL;
    g_assert_null(try_open(f, f->path, "qcow3", false, &error));
    g_assert_nonnull(strstr(error->message, "raw"));
}

static void test_locks(Fixture *f, gconstpointer p)
{
    open_disk(f, 4096);
    expect_error(f, f->path, NULL, false, "in use by another VM");
    expect_error(f, f->path, NULL, true, "in use by another VM");
    disk_close(f->disk);
    f->disk = try_open(f, f->path, NULL, true, NULL);
    g_assert_nonnull(f->disk);
    g_autoptr(Disk) reader = try_open(f, f->path, NULL, true, NULL);
    g_assert_nonnull(reader);
    expect_error(f, f->path, NULL, false, "in use by another VM");
    uint8_t data[512];
    g_assert_cmpint(run(f, DISK_WRITE, 0, data, 512), ==, EROFS);
    g_assert_cmpint(run(f, DISK_DISCARD, 0, NULL, 512), ==, EROFS);
    g_assert_cmpint(run(f, DISK_FLUSH, 0, NULL, 0), ==, 0);
}

static void write_mark(const char *path, size_t offset, const char *bytes, size_t length)
{
    fill_file(path, 65536);
    int fd = open(path, O_WRONLY);
    g_assert_cmpint(pwrite(fd, bytes, length, (off_t)offset), ==, length);
    close(fd);
}

static void test_foreign_formats(Fixture *f, gconstpointer p)
{
    static const struct {
        size_t offset, length;
        const char *bytes, *name;
    } images[] = {
        /* Damaged images of formats with a driver are no raw disks either. */
        {0, 8, "QFI\xfb\0\0\0\3", "cluster_bits"},
        {0, 8, "QFI\xfb\0\0\0\1", "cluster_bits"},
        {0, 8, "QFI\xfb\0\0\0\7", "a qcow2 image"},
        {64, 4, "\x7f\x10\xda\xbe", ""},
        {0, 4, "KDMV", ""},
        {0, 21, "# Disk DescriptorFile", ""},
        {0, 8, "vhdxfile", ""},
        {65536 - 512, 8, "conectix", ""},
        {0, 4, "QED\0", "a QED image"},
        {0, 8, "\xbe\xba\xfe\xca\0\0\0\0", "a VMware SEsparse image"},
        {0, 93,
         "# Disk DescriptorFile\nversion=1\nCID=1\ncreateType=\"seSparse\"\nRW 64 SESPARSE "
         "\"a-sesparse.vmdk\"\n",
         "a-sesparse.vmdk"},
        {65536 - 512, 4, "koly", "DMG"},
        {0, 8, "OOOM\0\0\0\2", "COW"},
        {0, 24, "#!/bin/sh\n#V2.0 Format\n", "cloop"},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(images); i++) {
        write_mark(f->path, images[i].offset, images[i].bytes, images[i].length);
        expect_error(f, f->path, NULL, false, images[i].name);
        Disk *raw = try_open(f, f->path, "raw", false, NULL);
        g_assert_nonnull(raw);
        disk_close(raw);
    }
}

static void test_backend(Fixture *f, gconstpointer no_uring)
{
    GRecMutex lock;
    g_rec_mutex_init(&lock);
    HostIo *io = host_io_new(NULL, &lock, NULL);
    if (!strcmp(no_uring, "1"))
        g_assert_cmpstr(host_io_backend(io), ==, "threads");
    else
        g_test_message("backend: %s", host_io_backend(io));
    host_io_free(io);
    g_rec_mutex_clear(&lock);
}

static gpointer submit_from_thread(gpointer obj)
{
    static uint8_t data[65536];
    Fixture *f = ((gpointer *)obj)[0];
    start(f, ((gpointer *)obj)[1], DISK_READ, 0, data, sizeof(data));
    return NULL;
}

/* The thread that submits may be gone before the answer comes. */
static void test_submitter_exits(Fixture *f, gconstpointer p)
{
    Call call = {};
    open_disk(f, 65536);
    gpointer both[] = {f, &call};
    g_thread_join(g_thread_new("submitter", submit_from_thread, both));
    g_assert_cmpint(finish(&call), ==, 0);
}

static void add(const char *name, void (*test)(Fixture *, gconstpointer))
{
    static const char *const modes[][2] = {{"uring", "0"}, {"threads", "1"}};
    for (size_t i = 0; i < G_N_ELEMENTS(modes); i++) {
        g_autofree char *path = g_strdup_printf("/block/%s/%s", modes[i][0], name);
        g_test_add(path, Fixture, modes[i][1], set_up, test, tear_down);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/block/throttle-counts", test_throttle_counts);
    add("backend", test_backend);
    add("read-write", test_read_write);
    add("scatter", test_scatter);
    add("many-at-once", test_many_at_once);
    add("drain-under-lock", test_drain_under_lock);
    add("refusals", test_refusals);
    add("unaligned-tail", test_unaligned_tail);
    add("short-transfers", test_short_transfers);
    add("failures", test_failures);
    add("flush", test_flush);
    add("flush-overlap", test_flush_overlap);
    add("sticky-sync", test_sticky_sync);
    add("zeroes", test_zeroes);
    add("discard-frees", test_discard_frees);
    add("stop-when-full", test_stop_when_full);
    add("error-policies", test_error_policies);
    add("throttle", test_throttle);
    add("forged-mark", test_forged_mark);
    add("open-errors", test_open_errors);
    add("locks", test_locks);
    add("foreign-formats", test_foreign_formats);
    add("submitter-exits", test_submitter_exits);
    return g_test_run();
}
