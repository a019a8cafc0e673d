/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * kill -9: a process of its own keeps a disk of each format busy with many requests at once, and is
 * killed at random moments. What was flushed must be there; a sector written since may be old or
 * new, nothing else; the image must be whole, and the next process goes on with it.
 *
 * Sectors hold their number and a version, which counts up; some versions are zeros. The process
 * notes in memory that it shares with us which versions it has asked for and which are flushed.
 * OSPITE_KILLS says how many rounds for each format.
 */
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "block/disk.h"
#include "block/image_test_kit.h"

#define SIZE    (MIB(5) + 512 * 3)
#define SECTORS (SIZE / 512)
#define SLOTS   16 /* requests in flight; each keeps to its own part of the disk */
#define PART    (SECTORS / SLOTS)
#define REST    8 /* rounds on one image, before a new one begins */

typedef struct Case {
    const char *name, *format, *option, *parent;
    bool encrypted;
} Case;

static const Case cases[] = {
    {"raw", "raw"},
    {"qcow2", "qcow2"},
    {"qcow2-512", "qcow2", "cluster_size=512"},
    {"qcow2-v2", "qcow2", "compat=0.10"},
    {"qcow2-lazy", "qcow2", "lazy_refcounts=on"},
    {"qcow2-extended-over-raw", "qcow2", "extended_l2=on", "raw"},
    {"qcow2-luks", "qcow2", "encrypt.format=luks", NULL, true},
    {"luks", "luks", NULL, NULL, true},
    {"qcow", "qcow"},
    {"vdi", "vdi"},
    {"vdi-static", "vdi", "static=on"},
    {"vdi-over-qcow2", "vdi", NULL, "qcow2"},
    {"vhd", "vhd"},
    {"vhd-fixed", "vhd", "subformat=fixed"},
    {"vhdx", "vhdx", "block_size=1M"},
    {"vhdx-fixed", "vhdx", "subformat=fixed"},
    {"vmdk", "vmdk"},
    {"vmdk-split", "vmdk", "subformat=twoGbMaxExtentSparse"},
    {"vmdk-stream", "vmdk", "subformat=streamOptimized"},
    {"vmdk-flat", "vmdk", "subformat=monolithicFlat"},
    {"vmdk-over-raw", "vmdk", NULL, "raw"},
};

/* What the two processes share. */
typedef struct Notes {
    atomic_uint done;               /* requests that ended */
    atomic_uint asked[SECTORS];     /* the newest version */
    atomic_uint completed[SECTORS]; /* the process's own */
    atomic_uint flushed[SECTORS];   /* the oldest version that may be there */
} Notes;

typedef struct Slot {
    DiskRequest request;
    struct iovec iov;
    uint8_t *data;
    uint64_t first, count; /* sectors */
    uint32_t *snapshot;    /* of a flush: what had completed before */
    bool busy;
} Slot;

typedef struct Writer {
    Disk *disk;
    Notes *notes;
    GRand *rand;
    Slot slots[SLOTS];
} Writer;

static bool is_zero_version(uint32_t version)
{
    return version % 5 == 0;
}

static void fill_sector(uint8_t *data, uint64_t sector, uint32_t version)
{
    memset(data, 0, 512);
    for (unsigned i = 0; i < 512 && !is_zero_version(version); i += 8) {
        store_le32(data + i, (uint32_t)sector);
        store_le32(data + i + 4, version);
    }
}

static GBytes *passphrase(const Case *c)
{
    return c->encrypted ? g_bytes_new_static("secret", 6) : NULL;
}

/* ---- the process that is killed -------------------------------------------------------------- */

static void note_flushed(Notes *notes, const uint32_t *snapshot)
{
    for (uint64_t s = 0; s < SECTORS; s++) {
        if (snapshot[s] > notes->flushed[s])
            notes->flushed[s] = snapshot[s];
    }
}

static void on_done(DiskRequest *request, int error)
{
    Slot *slot = (Slot *)request;
    Writer *w = request->obj;
    if (error)
        _exit(2);
    for (uint64_t s = slot->first; request->op != DISK_FLUSH && s < slot->first + slot->count; s++)
        w->notes->completed[s] = w->notes->asked[s];
    if (request->op == DISK_FLUSH)
        note_flushed(w->notes, slot->snapshot);
    for (uint64_t s = slot->first; request->fua && s < slot->first + slot->count; s++)
        w->notes->flushed[s] = w->notes->asked[s];
    slot->busy = false;
    w->notes->done++;
}

static void start_flush(Writer *w, Slot *slot)
{
    for (uint64_t s = 0; s < SECTORS; s++)
        slot->snapshot[s] = w->notes->completed[s];
    slot->request = (DiskRequest){.op = DISK_FLUSH, .done = on_done, .obj = w};
    disk_submit(w->disk, &slot->request);
}

/* All sectors of a request get the same version, so that zeroing is one request. */
static void start_change(Writer *w, Slot *slot, unsigned part)
{
    uint32_t version = 0;
    slot->first = part * PART + (uint64_t)g_rand_int_range(w->rand, 0, PART);
    slot->count = (uint64_t)g_rand_int_range(w->rand, 1, g_rand_int_range(w->rand, 0, 8) ? 9 : 200);
    slot->count = MIN(slot->count, (part + 1) * PART - slot->first);
    for (uint64_t s = slot->first; s < slot->first + slot->count; s++)
        version = MAX(version, w->notes->asked[s] + 1);
    for (uint64_t i = 0; i < slot->count; i++) {
        w->notes->asked[slot->first + i] = version;
        fill_sector(slot->data + i * 512, slot->first + i, version);
    }
    slot->iov = (struct iovec){slot->data, slot->count * 512};
    bool zeroes = is_zero_version(version) && g_rand_boolean(w->rand);
    slot->request = (DiskRequest){.op = zeroes ? DISK_WRITE_ZEROES : DISK_WRITE,
                                  .fua = !zeroes && g_rand_int_range(w->rand, 0, 12) == 0,
                                  .offset = slot->first * 512,
                                  .size = slot->count * 512,
                                  .iov = zeroes ? NULL : &slot->iov,
                                  .iov_count = zeroes ? 0 : 1,
                                  .done = on_done,
                                  .obj = w};
    disk_submit(w->disk, &slot->request);
}

static void G_GNUC_NORETURN write_for_ever(const Case *c, Notes *notes, uint32_t seed)
{
    Writer w = {.notes = notes, .rand = g_rand_new_with_seed(seed)};
    GRecMutex lock;
    GError *error = NULL;
    DiskOptions options = {.format = c->format, .key = passphrase(c)};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    g_rec_mutex_init(&lock);
    for (uint64_t s = 0; s < SECTORS; s++)
        notes->completed[s] = notes->flushed[s];
    w.disk = disk_open("disk", &options, NULL, &lock, &error);
    if (!w.disk)
        g_error("%s", error->message);
    for (unsigned i = 0; i < SLOTS; i++) {
        w.slots[i].data = g_malloc(200 * 512);
        w.slots[i].snapshot = g_new(uint32_t, SECTORS);
    }
    for (;;) {
        for (unsigned i = 0; i < SLOTS; i++) {
            if (w.slots[i].busy)
                continue;
            w.slots[i].busy = true;
            if (g_rand_int_range(w.rand, 0, 20) == 0)
                start_flush(&w, &w.slots[i]);
            else
                start_change(&w, &w.slots[i], i);
        }
        g_main_context_iteration(NULL, TRUE);
    }
}

/* ---- what must hold -------------------------------------------------------------------------- */

/* The version that is there; what is allowed lies between what is flushed and what was asked. */
static uint32_t version_there(const Case *c, const Notes *notes, uint64_t sector,
                              const uint8_t *data)
{
    uint32_t flushed = notes->flushed[sector], asked = notes->asked[sector];
    uint8_t want[512];
    for (uint32_t v = asked + 1; v-- > flushed;) {
        fill_sector(want, sector, v);
        if (!memcmp(data, want, 512))
            return v;
    }
    g_error("%s: sector %" G_GUINT64_FORMAT " has (%u, %u), but versions %u to %u were possible",
            c->name, sector, load_le32(data), load_le32(data + 4), flushed, asked);
}

/* The kernel may still be at work on the killed process's requests, and holds its locks till then.
 */
static Image *open_when_free(const ImageOptions *options)
{
    gint64 end = g_get_monotonic_time() + 60 * G_USEC_PER_SEC;
    for (;;) {
        g_autoptr(GError) error = NULL;
        Image *image = image_open("disk", options, &error);
        if (image)
            return image;
        if (!g_error_matches(error, G_IO_ERROR, G_IO_ERROR_BUSY) || g_get_monotonic_time() > end)
            g_error("%s", error->message);
        g_usleep(1000);
    }
}

/* What we read stays, for it is in the file. */
static void examine(const Case *c, Notes *notes)
{
    g_autoptr(GBytes) key = passphrase(c);
    ImageOptions options = {.format = c->format, .key = key};
    CheckResult result = {0};
    GError *error = NULL;
    g_autoptr(Image) image = open_when_free(&options);
    if (image->driver->check) {
        g_assert_true(image->driver->check(image->map, true, &result, &error));
        if (result.corruptions || result.errors || result.corruptions_fixed)
            g_error("%s: %s", c->name, result.messages ? (char *)result.messages->pdata[0] : "?");
        g_clear_pointer(&result.messages, g_ptr_array_unref);
    }
    g_autofree uint8_t *disk = kit_read_all(image, SECTORS * 512);
    for (uint64_t s = 0; s < SECTORS; s++)
        notes->flushed[s] = version_there(c, notes, s, disk + s * 512);
}

static void make_images(const Case *c, Notes *notes)
{
    g_autoptr(GBytes) key = passphrase(c);
    GError *error = NULL;
    const char *list[] = {c->option, !strcmp(c->format, "luks") ? "iter-time=10" : NULL, NULL,
                          NULL};
    if (c->encrypted && c->option)
        list[1] = "encrypt.iter-time=10";
    ImageCreate create = {.format = c->format,
                          .size = SIZE,
                          .parent = c->parent ? "parent" : NULL,
                          .options = c->option ? list : list + 1,
                          .key = key};
    if (c->parent)
        kit_create("parent", c->parent, SIZE, NULL, NULL);
    image_create("disk", &create, &error);
    g_assert_no_error(error);
    if (!strcmp(c->format, "luks")) { /* a new one begins as noise */
        ImageOptions options = {.format = c->format, .key = key};
        g_autoptr(Image) image = kit_open_with("disk", &options);
        g_assert_cmpint(image_write_zeros(image, 0, SIZE), ==, 0);
    }
    memset(notes, 0, sizeof(*notes));
}

static void kill_once(const Case *c, Notes *notes, GRand *rand)
{
    notes->done = 0;
    unsigned when = (unsigned)g_rand_int_range(rand, 0, 300);
    uint32_t seed = g_rand_int(rand);
    pid_t child = fork();
    g_assert_cmpint(child, >=, 0);
    if (!child)
        write_for_ever(c, notes, seed);
    int status = 0;
    while (notes->done <= when && waitpid(child, &status, WNOHANG) == 0)
        g_usleep(100);
    kill(child, SIGKILL);
    if (notes->done > when)
        g_assert_cmpint(waitpid(child, &status, 0), ==, child);
    g_assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void test_kills(gconstpointer data)
{
    const Case *c = data;
    const char *wanted = g_getenv("OSPITE_KILLS");
    int rounds = wanted ? atoi(wanted) : 4;
    g_autoptr(GRand) rand = g_rand_new_with_seed(43);
    Notes *notes =
        mmap(NULL, sizeof(*notes), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    g_assert_true(notes != MAP_FAILED);
    kit_enter_folder();
    for (int round = 0; round < rounds; round++) {
        if (round % REST == 0)
            make_images(c, notes);
        g_setenv("OSPITE_NO_URING", round % 2 ? "1" : "0", TRUE);
        kill_once(c, notes, rand);
        examine(c, notes);
    }
    kit_leave_folder();
    munmap(notes, sizeof(*notes));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *path = g_strdup_printf("/kill/%s", cases[i].name);
        g_test_add_data_func(path, &cases[i], test_kills);
    }
    return g_test_run();
}
