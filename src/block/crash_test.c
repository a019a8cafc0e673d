/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Power cuts: every write, cut, hole and sync of a run of random operations is recorded; for many
 * moments the file is rebuilt as the host could have left it (all that was synced, and of what came
 * after any part, sector by sector), opened again, checked and used further.
 *
 * What was flushed must be there; a sector written since may be old or new, nothing else; the map
 * must hold together but for what is leaked. OSPITE_CRASHES says how many moments for each format.
 */
#include "block/image_test_kit.h"

#include <stdlib.h>

#define SIZE    (MIB(3) + 512 * 9)
#define SECTORS (SIZE / 512)

typedef struct HostOp {
    HostIoOp op;
    int mode;
    uint64_t offset, size;
    uint8_t *data; /* WRITE */
} HostOp;

/* What the guest did, by the number of host calls at that time. */
typedef struct GuestOp {
    guint begin;
    uint64_t offset, size;
    uint8_t *data;    /* NULL: zeros */
    bool any;         /* discard */
    uint8_t *flushed; /* a flush that returned: the whole disk */
} GuestOp;

typedef struct Recorder {
    HostIoHook hook;
    GArray *host, *guest;
} Recorder;

static int record(HostIoHook *hook, HostIoRequest *r)
{
    Recorder *recorder = (Recorder *)hook;
    HostOp op = {.op = r->op, .mode = r->mode, .offset = r->offset, .size = r->size};
    if (r->op == HOST_IO_OPEN || r->op == HOST_IO_READ)
        return HOST_IO_RUN;
    if (r->op == HOST_IO_WRITE) {
        IovCursor c;
        op.data = g_malloc(r->size);
        iov_cursor_init(&c, r->iov, r->iov_count);
        iov_cursor_copy(&c, op.data, r->size);
    }
    g_array_append_val(recorder->host, op);
    return HOST_IO_RUN;
}

/* ---- the run --------------------------------------------------------------------------------- */

static void do_flush(Recorder *r, Image *image, const uint8_t *disk)
{
    g_assert_cmpint(image_flush(image), ==, 0);
    GuestOp op = {.begin = r->host->len, .flushed = g_memdup2(disk, SIZE)};
    g_array_append_val(r->guest, op);
}

static void do_change(Recorder *r, Image *image, uint8_t *disk, GRand *rand)
{
    uint64_t first = (uint64_t)g_rand_int_range(rand, 0, SECTORS);
    uint64_t count = (uint64_t)g_rand_int_range(rand, 1, 200);
    count = MIN(count, SECTORS - first);
    int what = g_rand_int_range(rand, 0, 10);
    GuestOp op = {.begin = r->host->len, .offset = first * 512, .size = count * 512};
    if (what < 7) {
        op.data = g_malloc(op.size);
        kit_fill(op.data, op.size, rand);
        memcpy(disk + op.offset, op.data, op.size);
    } else if (what < 9) {
        memset(disk + op.offset, 0, op.size);
    } else {
        op.any = true;
    }
    g_array_append_val(r->guest, op);
    if (op.data)
        g_assert_cmpint(image_write(image, op.offset, op.data, op.size), ==, 0);
    else if (op.any)
        g_assert_cmpint(image_discard(image, op.offset, op.size), ==, 0);
    else
        g_assert_cmpint(image_write_zeros(image, op.offset, op.size), ==, 0);
    if (op.any)
        g_assert_cmpint(image_read(image, op.offset, disk + op.offset, op.size), ==, 0);
}

/* ---- the file after a power cut -------------------------------------------------------------- */

typedef struct File {
    uint8_t *data;
    uint64_t size, room;
} File;

static void file_reach(File *f, uint64_t size)
{
    if (size > f->room) {
        f->data = g_realloc(f->data, size * 2);
        memset(f->data + f->room, 0, size * 2 - f->room);
        f->room = size * 2;
    }
    f->size = MAX(f->size, size);
}

static void apply(File *f, const HostOp *op)
{
    if (op->op == HOST_IO_WRITE) {
        file_reach(f, op->offset + op->size);
        memcpy(f->data + op->offset, op->data, op->size);
    } else if (op->op == HOST_IO_TRUNCATE) {
        if (op->size < f->size)
            memset(f->data + op->size, 0, f->size - op->size);
        file_reach(f, op->size);
        f->size = op->size;
    } else if (op->op == HOST_IO_FALLOCATE && op->offset < f->size) {
        memset(f->data + op->offset, 0, MIN(op->size, f->size - op->offset));
    }
}

/* Of a write some sectors arrive; the rest happens or doesn't. */
static void apply_torn(File *f, const HostOp *op, GRand *rand)
{
    if (op->op != HOST_IO_WRITE) {
        if (op->op == HOST_IO_TRUNCATE || g_rand_boolean(rand))
            apply(f, op);
        return;
    }
    int how = g_rand_int_range(rand, 0, 3); /* none, all, some */
    for (uint64_t at = 0; how && at < op->size;) {
        uint64_t part = MIN(512 - (op->offset + at) % 512, op->size - at);
        HostOp piece = {HOST_IO_WRITE, 0, op->offset + at, part, op->data + at};
        if (how == 1 || g_rand_boolean(rand))
            apply(f, &piece);
        at += part;
    }
}

static void rebuild(const Recorder *r, const char *first, gsize first_size, guint cut, bool reorder,
                    GRand *rand)
{
    File f = {0};
    guint synced = 0;
    file_reach(&f, first_size);
    memcpy(f.data, first, first_size);
    for (guint i = 0; i < cut; i++) {
        if (g_array_index(r->host, HostOp, i).op == HOST_IO_SYNC)
            synced = i;
    }
    for (guint i = 0; i < cut; i++) {
        const HostOp *op = &g_array_index(r->host, HostOp, i);
        if (i < synced || !reorder)
            apply(&f, op);
        else
            apply_torn(&f, op, rand);
    }
    g_assert_true(g_file_set_contents("cut", (char *)f.data, (gssize)f.size, NULL));
    g_free(f.data);
}

/* ---- what must hold -------------------------------------------------------------------------- */

static bool is_allowed(const Recorder *r, guint from, guint cut, uint64_t sector,
                       const uint8_t *got, const uint8_t *flushed)
{
    static const uint8_t zeros[512];
    if (!memcmp(got, flushed, 512))
        return true;
    for (guint i = from; i < r->guest->len; i++) {
        const GuestOp *op = &g_array_index(r->guest, GuestOp, i);
        uint64_t at = sector * 512;
        if (op->begin > cut)
            break;
        if (op->flushed || at < op->offset || at >= op->offset + op->size)
            continue;
        if (op->any || !memcmp(got, op->data ? op->data + (at - op->offset) : zeros, 512))
            return true;
    }
    return false;
}

/* The last flush that had returned, and the first operation after it. */
static const uint8_t *last_flushed(const Recorder *r, guint cut, const uint8_t *empty,
                                   guint *ret_from)
{
    const uint8_t *flushed = empty;
    *ret_from = 0;
    for (guint i = 0; i < r->guest->len; i++) {
        const GuestOp *op = &g_array_index(r->guest, GuestOp, i);
        if (op->flushed && op->begin <= cut) {
            flushed = op->flushed;
            *ret_from = i + 1;
        }
    }
    return flushed;
}

static void expect_whole(Image *image, const char *when)
{
    CheckResult result = {0};
    GError *error = NULL;
    if (!image->driver->check)
        return;
    g_assert_true(image->driver->check(image->map, true, &result, &error));
    g_assert_no_error(error);
    if (result.corruptions || result.errors || result.corruptions_fixed)
        g_error("%s: %s", when, result.messages ? (char *)result.messages->pdata[0] : "?");
    g_clear_pointer(&result.messages, g_ptr_array_unref);
}

static void examine(const Recorder *r, const char *format, guint cut, const uint8_t *empty,
                    GRand *rand)
{
    g_autoptr(Image) image = kit_open("cut", format, false);
    guint from;
    const uint8_t *flushed = last_flushed(r, cut, empty, &from);
    expect_whole(image, "after the cut");
    g_autofree uint8_t *disk = kit_read_all(image, SIZE);
    for (uint64_t s = 0; s < SECTORS; s++) {
        if (!is_allowed(r, from, cut, s, disk + s * 512, flushed + s * 512))
            g_error("%s: cut after call %u: sector %" G_GUINT64_FORMAT " is neither old nor new",
                    format, cut, s);
    }
    for (int i = 0; i < 6; i++)
        kit_random_op(image, disk, SIZE, rand);
    g_autofree uint8_t *after = kit_read_all(image, SIZE);
    kit_expect(after, disk, SIZE, "used after the cut");
    g_assert_cmpint(image_flush(image), ==, 0);
    expect_whole(image, "used after the cut");
}

/* ---- the tests ------------------------------------------------------------------------------- */

typedef struct Case {
    const char *name, *format, *option, *theirs;
} Case;

static const Case cases[] = {
    {"qcow2", "qcow2", "cluster_size=4k", "qcow2"},
    {"qcow2-512", "qcow2", "cluster_size=512", "qcow2"},
    {"qcow2-extended", "qcow2", "extended_l2=on", "qcow2"},
    {"qcow2-v2", "qcow2", "compat=0.10", "qcow2"},
    {"qcow", "qcow", NULL, NULL},
    {"vdi", "vdi", NULL, "vdi"},
    {"vhd", "vhd", NULL, NULL},
    {"vmdk", "vmdk", NULL, "vmdk"},
};

static void clear_host_op(gpointer data)
{
    g_free(((HostOp *)data)->data);
}

static void clear_guest_op(gpointer data)
{
    g_free(((GuestOp *)data)->data);
    g_free(((GuestOp *)data)->flushed);
}

static void run_recorded(Recorder *r, const Case *c, GRand *rand)
{
    g_autofree uint8_t *disk = g_malloc0(SIZE);
    ImageOptions options = {.format = c->format, .io_hook = &r->hook};
    g_autoptr(Image) image = kit_open_with("image", &options);
    for (int i = 0; i < 60; i++) {
        if (g_rand_int_range(rand, 0, 5) == 0)
            do_flush(r, image, disk);
        else
            do_change(r, image, disk, rand);
    }
    do_flush(r, image, disk);
}

static void test_cuts(gconstpointer data)
{
    const Case *c = data;
    const char *wanted = g_getenv("OSPITE_CRASHES");
    int cuts = wanted ? atoi(wanted) : 60;
    const char *list[] = {c->option, NULL};
    g_autoptr(GRand) rand = g_rand_new_with_seed(29);
    g_autofree uint8_t *empty = g_malloc0(SIZE);
    g_autofree char *first = NULL;
    gsize first_size;
    kit_enter_folder();
    for (int round = 0; round < MAX(cuts / 60, 1); round++) {
        Recorder r = {.hook.before = record,
                      .host = g_array_new(FALSE, FALSE, sizeof(HostOp)),
                      .guest = g_array_new(FALSE, FALSE, sizeof(GuestOp))};
        g_array_set_clear_func(r.host, clear_host_op);
        g_array_set_clear_func(r.guest, clear_guest_op);
        kit_create("image", c->format, SIZE, NULL, c->option ? list : NULL);
        g_clear_pointer(&first, g_free);
        g_assert_true(g_file_get_contents("image", &first, &first_size, NULL));
        run_recorded(&r, c, rand);
        for (int i = 0; i < MIN(cuts, 60); i++) {
            guint cut = (guint)g_rand_int_range(rand, 0, (gint32)r.host->len + 1);
            rebuild(&r, first, first_size, cut, i % 4 != 0, rand);
            examine(&r, c->format, cut, empty, rand);
            if (i % 20 == 0 && c->theirs && kit_has_qemu())
                kit_do("qemu-img check -q -f %s cut", c->theirs);
        }
        g_array_unref(r.host);
        g_array_unref(r.guest);
    }
    kit_leave_folder();
}

/* Each host call in turn fails: the map stays whole. */
typedef struct Failer {
    HostIoHook hook;
    int left, error;
} Failer;

static int fail_later(HostIoHook *hook, HostIoRequest *r)
{
    Failer *f = (Failer *)hook;
    if (r->op == HOST_IO_OPEN || r->op == HOST_IO_READ || f->left-- != 0)
        return HOST_IO_RUN;
    return r->op == HOST_IO_SYNC ? -EIO : f->error;
}

static void test_failures(gconstpointer data)
{
    const Case *c = data;
    const char *list[] = {c->option, NULL};
    g_autofree uint8_t *bytes = g_malloc(100 * 512), *back = g_malloc(100 * 512);
    memset(bytes, 0x5a, 100 * 512);
    kit_enter_folder();
    for (int n = 0; n < 60; n++) {
        Failer failer = {.hook.before = fail_later, .left = n, .error = n % 2 ? -ENOSPC : -EIO};
        kit_create("image", c->format, SIZE, NULL, c->option ? list : NULL);
        ImageOptions options = {.format = c->format, .io_hook = &failer.hook};
        Image *image = kit_open_with("image", &options);
        bool good = true;
        for (uint64_t at = 0; at < MIB(2); at += KIB(300)) {
            good = good && image_write(image, at, bytes, 100 * 512) == 0;
            good = good && image_flush(image) == 0;
            if (!good)
                break;
        }
        image_close(image);
        image = kit_open("image", c->format, false);
        expect_whole(image, "after a failed call");
        g_assert_cmpint(image_write(image, KIB(700), bytes, 100 * 512), ==, 0);
        g_assert_cmpint(image_read(image, KIB(700), back, 100 * 512), ==, 0);
        g_assert_cmpmem(bytes, 100 * 512, back, 100 * 512);
        image_close(image);
    }
    kit_leave_folder();
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *cuts = g_strdup_printf("/crash/%s/cuts", cases[i].name);
        g_autofree char *failures = g_strdup_printf("/crash/%s/failures", cases[i].name);
        g_test_add_data_func(cuts, &cases[i], test_cuts);
        g_test_add_data_func(failures, &cases[i], test_failures);
    }
    return g_test_run();
}
