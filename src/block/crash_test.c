/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Power cuts: every write, cut, hole and sync of a run of random operations is recorded; for many
 * moments the file is rebuilt as the host could have left it (all that was synced, and of what came
 * after any part, sector by sector), opened again, checked and used further.
 *
 * What was flushed must be there; a sector written since may be old or new, nothing else; the map
 * must hold together but for what is leaked. OSPITE_CRASHES says how many moments for each format.
 *
 * The same is asked when one host call fails or is cut short: the first, the second, and so on.
 */
#include "block/image_test_kit.h"
#include "block/jobs/commit.h"

#include <stdlib.h>

#define SIZE    (MIB(3) + 512 * 9)
#define SECTORS (SIZE / 512)
/* Of a disk of SIZE bytes whose size is changed */
#define RESIZED_UP   (MIB(33) + 512 * 3)
#define RESIZED_DOWN (MIB(1) + 512 * 5)

typedef struct HostOp {
    HostIoOp op;
    int mode, file; /* which of `files` */
    uint64_t offset, size;
    uint8_t *data; /* WRITE, REPLACE */
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
    int calls_left, failure; /* what the call after so many answers; failure 0: none does */
} Recorder;

/* Transfers can be cut short; a sync or truncation has no room to want. */
static int fail(const Recorder *recorder, const HostIoRequest *r)
{
    bool moves = r->op == HOST_IO_READ || r->op == HOST_IO_WRITE;
    bool grows = r->op == HOST_IO_WRITE || r->op == HOST_IO_TRUNCATE;
    if (recorder->failure > 0)
        return moves ? MIN(recorder->failure, (int)r->size) : HOST_IO_RUN;
    return grows ? recorder->failure : -EIO;
}

/* The files of an image, and what they are called after a cut: only its first has another name. */
#define FILES 4
static const char *const files[FILES] = {"image", "image-flat", "image-s001", "image-s002"};
static const char *const cut_files[FILES] = {"cut", "image-flat", "image-s001", "image-s002"};

static int which_file(int fd)
{
    g_autofree char *link = g_strdup_printf("/proc/self/fd/%d", fd);
    g_autofree char *path = g_file_read_link(link, NULL);
    g_autofree char *name = g_path_get_basename(path);
    for (int i = 0; i < FILES; i++) {
        if (!strcmp(name, files[i]))
            return i;
    }
    return 0; /* before it is named */
}

static int record(HostIoHook *hook, HostIoRequest *r)
{
    Recorder *recorder = (Recorder *)hook;
    HostOp op = {.op = r->op, .mode = r->mode, .offset = r->offset, .size = r->size};
    if (recorder->failure && r->op != HOST_IO_OPEN && recorder->calls_left-- == 0)
        return fail(recorder, r);
    if (r->op == HOST_IO_OPEN || r->op == HOST_IO_READ)
        return HOST_IO_RUN;
    op.file = which_file(r->fd);
    if (r->op == HOST_IO_WRITE || r->op == HOST_IO_REPLACE) {
        IovCursor c;
        op.data = g_malloc(r->size);
        iov_cursor_init(&c, r->iov, r->iov_count);
        iov_cursor_copy(&c, op.data, r->size);
    }
    g_array_append_val(recorder->host, op);
    return HOST_IO_RUN;
}

/* ---- the run --------------------------------------------------------------------------------- */

static int do_flush(Recorder *r, Image *image, const uint8_t *disk)
{
    int result = image_flush(image);
    GuestOp op = {.begin = r->host->len, .flushed = g_memdup2(disk, SIZE)};
    if (result)
        g_free(op.flushed);
    else
        g_array_append_val(r->guest, op);
    return result;
}

static int do_change(Recorder *r, Image *image, uint8_t *disk, GRand *rand)
{
    uint64_t first = (uint64_t)g_rand_int_range(rand, 0, SECTORS);
    int what = g_rand_int_range(rand, 0, 10), result;
    /* Zeros are sometimes of whole units, however large these are. */
    int most = what >= 7 && g_rand_boolean(rand) ? SECTORS : 200;
    uint64_t count = (uint64_t)g_rand_int_range(rand, 1, most);
    count = MIN(count, SECTORS - first);
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
        result = image_write(image, op.offset, op.data, op.size);
    else if (op.any)
        result = image_discard(image, op.offset, op.size);
    else
        result = image_write_zeros(image, op.offset, op.size);
    if (op.any && !result)
        result = image_read(image, op.offset, disk + op.offset, op.size);
    return result;
}

/* ---- the file after a power cut -------------------------------------------------------------- */

typedef struct File {
    uint8_t *data;
    uint64_t size, room;
} File;

static void file_reach(File *f, uint64_t size)
{
    if (!f->data || size > f->room) {
        uint64_t room = MAX(size * 2, 512);
        f->data = g_realloc(f->data, room);
        memset(f->data + f->room, 0, room - f->room);
        f->room = room;
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
    } else if (op->op == HOST_IO_REPLACE) {
        f->size = 0;
        file_reach(f, op->size);
        memcpy(f->data, op->data, op->size);
    } else if (op->op == HOST_IO_FALLOCATE && op->offset < f->size) {
        memset(f->data + op->offset, 0, MIN(op->size, f->size - op->offset));
    }
}

/* Of a write some sectors arrive; the rest happens or doesn't. */
static void apply_torn(File *f, const HostOp *op, GRand *rand)
{
    if (op->op != HOST_IO_WRITE) {
        if (op->op == HOST_IO_TRUNCATE || g_rand_boolean(rand))
            apply(f, op); /* a REPLACE is the last call, or it would be durable */
        return;
    }
    int how = g_rand_int_range(rand, 0, 3); /* none, all, some */
    for (uint64_t at = 0; how && at < op->size;) {
        uint64_t part = MIN(512 - (op->offset + at) % 512, op->size - at);
        HostOp piece = {HOST_IO_WRITE, 0, 0, op->offset + at, part, op->data + at};
        if (how == 1 || g_rand_boolean(rand))
            apply(f, &piece);
        at += part;
    }
}

/* What the files were before the run. */
typedef struct Before {
    char *data;
    gsize size;
} Before;

/* Only a VMDK has several. */
static void remember(Before *before)
{
    for (int i = 0; i < FILES; i++) {
        g_clear_pointer(&before[i].data, g_free);
        before[i].size = 0;
        bool read = g_file_get_contents(files[i], &before[i].data, &before[i].size, NULL);
        g_assert_true(read || i > 0);
    }
}

static bool is_durable(const HostOp *op, guint i, guint cut)
{
    return op->op == HOST_IO_SYNC || (op->op == HOST_IO_REPLACE && i + 1 < cut);
}

static void rebuild_file(const Recorder *r, const Before *before, int n, guint cut, bool reorder,
                         GRand *rand)
{
    File f = {0};
    guint synced = 0;
    bool is_there = before->data != NULL;
    file_reach(&f, before->size);
    memcpy(f.data, before->data ? before->data : "", before->size);
    for (guint i = 0; i < cut; i++) {
        const HostOp *op = &g_array_index(r->host, HostOp, i);
        if (is_durable(op, i, cut) && op->file == n)
            synced = i + 1;
    }
    for (guint i = 0; i < cut; i++) {
        const HostOp *op = &g_array_index(r->host, HostOp, i);
        if (op->file != n)
            continue;
        is_there = true;
        if (i < synced || !reorder)
            apply(&f, op);
        else
            apply_torn(&f, op, rand);
    }
    if (is_there)
        g_assert_true(g_file_set_contents(cut_files[n], (char *)f.data, (gssize)f.size, NULL));
    g_free(f.data);
}

static void rebuild(const Recorder *r, const Before *before, guint cut, bool reorder, GRand *rand)
{
    for (int i = 0; i < FILES; i++)
        rebuild_file(r, &before[i], i, cut, reorder, rand);
}

static void forget_before(Before *before)
{
    for (int i = 0; i < FILES; i++)
        g_clear_pointer(&before[i].data, g_free);
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

static void examine(const Recorder *r, const char *path, const char *format, guint cut,
                    const uint8_t *empty, GRand *rand)
{
    g_autoptr(GBytes) key = g_bytes_new_static("secret", 6);
    ImageOptions options = {.format = format, .key = key};
    g_autoptr(Image) image = kit_open_with(path, &options);
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
    const char *name, *format, *option, *theirs, *parent;
    bool only_forgets; /* its other calls are like another case's */
    bool encrypted, bitmap, flat;
} Case;

static const Case cases[] = {
    {"qcow2", "qcow2", "cluster_size=4k", "qcow2"},
    {"qcow2-512", "qcow2", "cluster_size=512", "qcow2"},
    {"qcow2-extended", "qcow2", "extended_l2=on", "qcow2"},
    {"qcow2-v2", "qcow2", "compat=0.10", "qcow2"},
    {"qcow2-over-raw", "qcow2", "cluster_size=4k", "qcow2", "raw"},
    {"qcow2-extended-over-raw", "qcow2", "extended_l2=on", "qcow2", "raw", true},
    {"qcow", "qcow"},
    {"qcow-over-raw", "qcow", NULL, NULL, "raw", true},
    {"vdi", "vdi", NULL, "vdi"},
    {"vdi-over-raw", "vdi", NULL, NULL, "raw"},
    {"vhd", "vhd"},
    {"vhd-over-raw", "vhd", NULL, NULL, "raw"},
    {"vhdx", "vhdx", "block_size=1M", "vhdx"},
    {"vhdx-over-raw", "vhdx", "block_size=1M", NULL, "raw"},
    {"vmdk", "vmdk", NULL, "vmdk"},
    {"vmdk-over-raw", "vmdk", NULL, NULL, "raw"},
    {"vmdk-flat", "vmdk", "subformat=monolithicFlat", .flat = true},
    {"vmdk-split", "vmdk", "subformat=twoGbMaxExtentSparse"},
    {"vmdk-stream", "vmdk", "subformat=streamOptimized"},
    {"qcow2-luks", "qcow2", "encrypt.format=luks", .encrypted = true},
    {"luks", "luks", .encrypted = true},
    {"qcow2-bitmap", "qcow2", "cluster_size=4k", "qcow2", .bitmap = true},
    {"raw", "raw"},
    {"vdi-fixed", "vdi", "static=on", "vdi"},
    {"vhd-fixed", "vhd", "subformat=fixed"},
    {"vhdx-fixed", "vhdx", "subformat=fixed", "vhdx"},
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

static void recorder_init(Recorder *r)
{
    *r = (Recorder){.hook.before = record,
                    .host = g_array_new(FALSE, FALSE, sizeof(HostOp)),
                    .guest = g_array_new(FALSE, FALSE, sizeof(GuestOp))};
    g_array_set_clear_func(r->host, clear_host_op);
    g_array_set_clear_func(r->guest, clear_guest_op);
}

static void recorder_clear(Recorder *r)
{
    g_array_unref(r->host);
    g_array_unref(r->guest);
}

/* The first `count` operations of a run, or as many as succeed; true: they all did. */
static bool run_recorded(Recorder *r, const Case *c, const uint8_t *empty, int count, GRand *rand)
{
    g_autofree uint8_t *disk = g_memdup2(empty, SIZE);
    g_autoptr(GBytes) key = g_bytes_new_static("secret", 6);
    ImageOptions options = {.format = c->format, .key = key, .io_hook = &r->hook};
    g_autoptr(Image) image = image_open("image", &options, NULL);
    int result = image ? 0 : -EIO;
    for (int i = 0; i < count && !result; i++) {
        if (g_rand_int_range(rand, 0, 5) == 0)
            result = do_flush(r, image, disk);
        else
            result = do_change(r, image, disk, rand);
    }
    return !result && do_flush(r, image, disk) == 0;
}

/* A parent, if there is one, has something in it; `empty` is the disk before the first change. */
static void make_parent(const Case *c, uint8_t *empty, GRand *rand)
{
    if (!c->parent)
        return;
    kit_create("parent", c->parent, SIZE, NULL, NULL);
    g_autoptr(Image) parent = kit_open("parent", c->parent, false);
    for (int i = 0; i < 40; i++)
        kit_random_op(parent, empty, SIZE, rand);
}

static void make_encrypted(const Case *c)
{
    g_autoptr(GBytes) key = g_bytes_new_static("secret", 6);
    const char *list[] = {c->option ? "encrypt.iter-time=10" : "iter-time=10", c->option, NULL};
    ImageCreate create = {.format = c->format, .size = SIZE, .options = list, .key = key};
    ImageOptions options = {.format = c->format, .key = key};
    g_assert_true(image_create("image", &create, NULL));
    g_autoptr(Image) image = kit_open_with("image", &options);
    if (image->map->begins_as_noise)
        g_assert_cmpint(image_write_zeros(image, 0, SIZE), ==, 0);
}

static void make_image(const Case *c)
{
    const char *list[] = {c->option, NULL};
    if (c->encrypted)
        make_encrypted(c);
    else
        kit_create("image", c->format, SIZE, c->parent ? "parent" : NULL, c->option ? list : NULL);
    if (c->bitmap)
        kit_do("qemu-img bitmap --add -g 4k image b");
}

static void test_cuts(gconstpointer data)
{
    const Case *c = data;
    const char *wanted = g_getenv("OSPITE_CRASHES");
    int cuts = wanted ? atoi(wanted) : 60;
    g_autoptr(GRand) rand = g_rand_new_with_seed(29);
    g_autofree uint8_t *empty = g_malloc0(SIZE);
    Before before[FILES] = {0};
    if (c->bitmap && !kit_has_qemu())
        return;
    kit_enter_folder();
    make_parent(c, empty, rand);
    for (int round = 0; round < MAX(cuts / 60, 1); round++) {
        Recorder r;
        recorder_init(&r);
        make_image(c);
        remember(before);
        g_assert_true((before[1].data != NULL) == c->flat);
        g_assert_true(run_recorded(&r, c, empty, 60, rand));
        for (int i = 0; i < MIN(cuts, 60); i++) {
            guint cut = (guint)g_rand_int_range(rand, 0, (gint32)r.host->len + 1);
            rebuild(&r, before, cut, i % 4 != 0, rand);
            examine(&r, "cut", c->format, cut, empty, rand);
            if (i % 20 == 0 && c->theirs && kit_has_qemu())
                kit_do("qemu-img check -q -f %s cut", c->theirs);
        }
        recorder_clear(&r);
    }
    forget_before(before);
    kit_leave_folder();
}

/* Each host call in turn fails with EIO, finds no room, or moves a part of what it should. */
static void test_failures(gconstpointer data)
{
    static const int failures[] = {-EIO, -ENOSPC, 512};
    const Case *c = data;
    g_autoptr(GRand) rand = g_rand_new_with_seed(31);
    g_autofree uint8_t *empty = g_malloc0(SIZE);
    if (c->bitmap && !kit_has_qemu())
        return;
    kit_enter_folder();
    make_parent(c, empty, rand);
    for (size_t kind = 0; kind < G_N_ELEMENTS(failures); kind++) {
        bool reached = true;
        for (int n = 0; reached; n++) {
            Recorder r;
            recorder_init(&r);
            r.failure = failures[kind];
            r.calls_left = n;
            g_rand_set_seed(rand, 31);
            make_image(c);
            bool good = run_recorded(&r, c, empty, 12, rand);
            reached = r.calls_left < 0;
            g_assert_true(good || (reached && r.failure < 0));
            examine(&r, "image", c->format, r.host->len, empty, rand);
            recorder_clear(&r);
        }
    }
    kit_leave_folder();
}

/* Fills the image and writes all of it into its parent. */
static void commit_some(const Case *c, uint8_t *disk, GRand *rand)
{
    ImageOptions alone = {.format = c->format, .no_parents = true};
    g_autoptr(Image) filled = kit_open("image", c->format, false);
    for (int i = 0; i < 40; i++)
        kit_random_op(filled, disk, SIZE, rand);
    g_clear_pointer(&filled, image_close);
    g_autoptr(Image) image = kit_open_with("image", &alone);
    g_autoptr(Image) parent = kit_open("parent", c->parent, false);
    g_assert_cmpint(image_commit(image, parent, NULL, NULL), ==, 0);
}

static void expect_empty(const Case *c, const uint8_t *disk)
{
    struct stat st;
    g_assert_cmpint(stat("image", &st), ==, 0);
    if (st.st_blocks * 512 > SIZE / 4)
        g_error("%s: emptied, it has %u KiB of the host", c->name, (unsigned)st.st_blocks / 2);
    g_autoptr(Image) image = kit_open("image", c->format, true);
    g_autofree uint8_t *now = kit_read_all(image, SIZE);
    kit_expect(now, disk, SIZE, "emptied");
    for (uint64_t at = 0; at < SIZE;) {
        ImageStatus s;
        g_assert_cmpint(image_status(image, at, SIZE - at, false, &s), ==, 0);
        g_assert_true(s.depth > 0 || !s.present);
        at += s.length;
    }
    expect_whole(image, "emptied");
}

/*
 * A commit empties the image: the disk reads the same at every moment, whatever of the image is
 * left, for its parent has everything; and what is left can be written to and emptied again.
 */
static void test_forgetting(gconstpointer data)
{
    const Case *c = data;
    g_autoptr(GRand) rand = g_rand_new_with_seed(37);
    g_autofree uint8_t *disk = g_malloc0(SIZE);
    Before before[FILES] = {0};
    Recorder r;
    recorder_init(&r);
    kit_enter_folder();
    make_parent(c, disk, rand);
    make_image(c);
    commit_some(c, disk, rand);
    remember(before);
    ImageOptions options = {.format = c->format, .no_parents = true, .io_hook = &r.hook};
    g_autoptr(Image) image = image_open("image", &options, NULL);
    g_assert_cmpint(image_forget(image), ==, 0);
    g_clear_pointer(&image, image_close);
    expect_empty(c, disk);
    for (guint i = 0; i <= MIN(r.host->len, 30); i++) {
        guint cut =
            r.host->len <= 30 ? i : (guint)g_rand_int_range(rand, 0, (gint32)r.host->len + 1);
        rebuild(&r, before, cut, true, rand);
        examine(&r, "cut", c->format, cut, disk, rand);
    }
    recorder_clear(&r);
    forget_before(before);
    kit_leave_folder();
}

/* `theirs`: what qemu-img calls the format that it checks; NULL: it doesn't. */
typedef struct Resizing {
    const char *name, *format, *option, *theirs;
    bool has_footer; /* an old one may still stand where the disk has grown */
    uint64_t up;     /* 0: RESIZED_UP */
} Resizing;

/* Where a disk is too large to be looked at whole. */
static void use_end(Image *image)
{
    uint8_t sector[512], want[512] = {0};
    uint64_t at = image->map->size - sizeof(sector);
    if (image->map->size <= RESIZED_UP)
        return;
    g_assert_cmpint(image_read(image, at, sector, sizeof(sector)), ==, 0);
    kit_expect(sector, want, sizeof(sector), "the end");
    memset(want, 7, sizeof(want));
    g_assert_cmpint(image_write(image, at, want, sizeof(want)), ==, 0);
    g_assert_cmpint(image_read(image, at, sector, sizeof(sector)), ==, 0);
    kit_expect(sector, want, sizeof(sector), "the end, written");
}

/* What a disk with one of three sizes must still hold. */
static void examine_resized(const Resizing *c, const uint8_t *disk, bool shrinking, GRand *rand)
{
    const uint64_t sizes[] = {SIZE, c->up ? c->up : RESIZED_UP, RESIZED_DOWN};
    g_autoptr(Image) image = kit_open("cut", c->format, false);
    uint64_t size = image->map->size, kept = shrinking ? RESIZED_DOWN : MIN(size, RESIZED_UP);
    g_assert_true(size == sizes[0] || size == sizes[1] || size == sizes[2]);
    g_assert_true(shrinking || size != RESIZED_DOWN);
    expect_whole(image, "resized");
    use_end(image);
    size = MIN(size, RESIZED_UP);
    g_autofree uint8_t *now = kit_read_all(image, size);
    if (c->has_footer && kept > SIZE && !memcmp(now + SIZE, "conectix", 8))
        memset(now + SIZE, 0, 512);
    kit_expect(now, disk, kept, "resized");
    g_autofree uint8_t *used = kit_read_all(image, size);
    for (int i = 0; i < 6; i++)
        kit_random_op(image, used, size, rand);
    g_autofree uint8_t *after = kit_read_all(image, size);
    kit_expect(after, used, size, "used after the cut");
}

static const Resizing resizings[] = {
    {"raw", "raw"},
    {"qcow", "qcow"},
    {"qcow2", "qcow2", NULL, "qcow2"},
    {"qcow2-512", "qcow2", "cluster_size=512", "qcow2"},
    {"vdi", "vdi", NULL, "vdi"},
    {"vdi-fixed", "vdi", "static=on", "vdi"},
    {"vhd", "vhd"},
    {"vhd-fixed", "vhd", "subformat=fixed", .has_footer = true},
    {"vhdx", "vhdx", "block_size=1M", "vhdx"},
    {"vhdx-fixed", "vhdx", "subformat=fixed", "vhdx"},
    {"vmdk", "vmdk", NULL, "vmdk"},
    {"vmdk-flat", "vmdk", "subformat=monolithicFlat"},
    {"vmdk-stream", "vmdk", "subformat=streamOptimized"},
    {"vmdk-split", "vmdk", "subformat=twoGbMaxExtentSparse", .up = MIB(2047) + RESIZED_DOWN},
};

/* Larger, by new tables where the format has some, then smaller; the first moments, or any. */
static void cut_resizing(const Resizing *c, int cuts, GRand *rand)
{
    const char *list[] = {c->option, NULL};
    g_autofree uint8_t *disk = g_malloc0(RESIZED_UP);
    Before before[FILES] = {0};
    Recorder r;
    recorder_init(&r);
    kit_enter_folder();
    kit_create("image", c->format, SIZE, NULL, c->option ? list : NULL);
    g_autoptr(Image) image = kit_open("image", c->format, false);
    for (int i = 0; i < 40; i++)
        kit_random_op(image, disk, SIZE, rand);
    g_clear_pointer(&image, image_close);
    remember(before);
    ImageOptions options = {.format = c->format, .io_hook = &r.hook};
    image = image_open("image", &options, NULL);
    g_assert_true(image_resize(image, c->up ? c->up : RESIZED_UP, NULL));
    guint grown = r.host->len;
    g_assert_true(image_resize(image, RESIZED_DOWN, NULL));
    g_clear_pointer(&image, image_close);
    for (int i = 0; i < cuts; i++) {
        guint moments = r.host->len + 1;
        guint cut = moments <= (guint)cuts ? (guint)i % moments
                                           : (guint)g_rand_int_range(rand, 0, (gint32)moments);
        rebuild(&r, before, cut, true, rand);
        examine_resized(c, disk, cut > grown, rand);
        if (i % 20 == 0 && c->theirs && kit_has_qemu())
            kit_do("qemu-img check -q -f %s cut", c->theirs);
    }
    recorder_clear(&r);
    forget_before(before);
    kit_leave_folder();
}

static void test_resizing(gconstpointer data)
{
    const char *wanted = g_getenv("OSPITE_CRASHES");
    int cuts = wanted ? atoi(wanted) : 60;
    g_autoptr(GRand) rand = g_rand_new_with_seed(41);
    for (int round = 0; round < MAX(cuts / 60, 1); round++)
        cut_resizing(data, MIN(cuts, 60), rand);
}

/* A descriptor of more than a sector whose lines move is the old or the new one as a whole. */
static void test_vmdk_text(gconstpointer subformat)
{
    const char *list[] = {subformat, NULL};
    g_autoptr(GRand) rand = g_rand_new_with_seed(43);
    g_autofree uint8_t *disk = g_malloc0(SIZE);
    g_autoptr(GString) name = g_string_new(NULL);
    Before before[FILES] = {0};
    Recorder r;
    recorder_init(&r);
    for (int i = 0; i < 240; i++)
        g_string_append(name, "./");
    g_string_append(name, "parent");
    kit_enter_folder();
    kit_create("parent", "raw", SIZE, NULL, NULL);
    kit_create("image", "vmdk", SIZE, "parent", list);
    g_autoptr(Image) image = kit_open("image", "vmdk", false);
    for (int i = 0; i < 40; i++)
        kit_random_op(image, disk, SIZE, rand);
    g_clear_pointer(&image, image_close);
    remember(before);
    ImageOptions options = {.format = "vmdk", .no_parents = true, .io_hook = &r.hook};
    image = kit_open_with("image", &options);
    g_assert_true(vmdk_format.set_parent(image->map, name->str, "raw", name->str, NULL));
    g_assert_true(vmdk_format.set_parent(image->map, "parent", "raw", "parent", NULL));
    g_clear_pointer(&image, image_close);
    for (guint i = 0; i < 20 * (r.host->len + 1); i++) {
        rebuild(&r, before, i % (r.host->len + 1), true, rand);
        g_autoptr(Image) cut = kit_open("cut", "vmdk", true);
        g_autofree uint8_t *now = kit_read_all(cut, SIZE);
        kit_expect(now, disk, SIZE, "with another parent");
    }
    recorder_clear(&r);
    forget_before(before);
    kit_leave_folder();
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/crash/vmdk-text", "subformat=monolithicSparse", test_vmdk_text);
    g_test_add_data_func("/crash/vmdk-split-text", "subformat=twoGbMaxExtentSparse",
                         test_vmdk_text);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *cuts = g_strdup_printf("/crash/%s/cuts", cases[i].name);
        g_autofree char *failures = g_strdup_printf("/crash/%s/failures", cases[i].name);
        if (!cases[i].only_forgets) {
            g_test_add_data_func(cuts, &cases[i], test_cuts);
            g_test_add_data_func(failures, &cases[i], test_failures);
        }
        g_autofree char *forgetting = g_strdup_printf("/crash/%s/forgetting", cases[i].name);
        if (cases[i].parent)
            g_test_add_data_func(forgetting, &cases[i], test_forgetting);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(resizings); i++) {
        g_autofree char *path = g_strdup_printf("/crash/%s/resizing", resizings[i].name);
        g_test_add_data_func(path, &resizings[i], test_resizing);
    }
    return g_test_run();
}
