/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Hostile images: the input is a file, opened as what it claims to be (or as FUZZ_FORMAT), looked
 * through, checked, changed and closed. The first byte says how, and whether the input is the file
 * itself or its parts (fuzz_put_parts()), the second which changes.
 *
 * An image in which the check finds no fault must keep what is written to it, and stay without
 * fault; one that was repaired has none, too.
 */
#include "block/image_fuzz.h"
#include "block/crc32c.h"
#include "block/luks.h"

#ifndef FUZZ_FORMAT
#define FUZZ_FORMAT NULL
#endif

enum { WRITES = 1, REPAIRS = 2, IGNORES_DAMAGE = 4, KEYED = 8, SEALED = 0x40, PARTS = 0x80 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- what no mutation would ever hit --------------------------------------------------------- */

static void seal_crc(int fd, uint64_t at, size_t size)
{
    g_autofree uint8_t *block = g_malloc0(size);
    if (pread(fd, block, size, (off_t)at) < 0)
        return;
    store_le32(block + 4, crc32c_around(block, size, 4));
    fuzz_put(fd, block + 4, 4, at + 4);
}

static void seal_sum(int fd, uint64_t at, size_t size, size_t hole)
{
    uint8_t block[1024] = {0}, sum[4];
    uint32_t total = 0;
    if (pread(fd, block, size, (off_t)at) < 0)
        return;
    for (size_t i = 0; i < size; i++)
        total += i >= hole && i < hole + 4 ? 0 : block[i];
    store_be32(sum, ~total);
    fuzz_put(fd, sum, 4, at + hole);
}

/* Checksums are right, or nothing behind them would ever be reached. */
static void seal(int fd)
{
    uint8_t mark[8] = {0};
    if (pread(fd, mark, sizeof(mark), 0) < 0)
        return;
    if (memcmp(mark, "vhdxfile", 8) == 0) {
        for (uint64_t i = 0; i < 2; i++) {
            seal_crc(fd, KIB(64) + i * KIB(64), 4096);
            seal_crc(fd, KIB(192) + i * KIB(64), KIB(64));
        }
        seal_crc(fd, MIB(1), 4096); /* an entry of the log without data */
        seal_crc(fd, MIB(1) + 4096, 8192);
    } else if (memcmp(mark, "conectix", 8) == 0) {
        seal_sum(fd, 0, 512, 64);
        seal_sum(fd, 512, 1024, 36);
    }
}

static GBytes *passphrase(void)
{
    return g_bytes_new_static("key", 3);
}

/* A LUKS header with its key material, which the passphrase opens quickly. */
static GBytes *make_luks(void)
{
    char path[64];
    int fd = fuzz_new_file(path);
    static const char *const list[] = {"iter-time=1", NULL};
    g_autoptr(GBytes) key = passphrase();
    ImageCreate create = {.format = "luks", .size = KIB(64), .key = key, .options = list};
    GError *error = NULL;
    if (!image_create(path, &create, &error))
        g_error("%s (OSPITE_MODULES names the folder of ospite-crypto.so)", error->message);
    size_t size = (size_t)lseek(fd, 0, SEEK_END) - KIB(64);
    uint8_t *header = g_malloc(size);
    g_assert(pread(fd, header, size, 0) == (ssize_t)size);
    close(fd);
    return g_bytes_new_take(header, size);
}

/* The file's encryption header, if it has one, is one whose key is known. */
static void put_luks(int fd)
{
    static GBytes *luks;
    uint8_t head[4096] = {0};
    uint64_t at = UINT64_MAX;
    if (pread(fd, head, sizeof(head), 0) < 0)
        return;
    if (memcmp(head, LUKS_MARK, 6) == 0)
        at = 0;
    for (size_t i = 72; i + 24 <= sizeof(head) && at; i += 8) {
        if (load_be64(head + i) == (UINT64_C(0x0537be77) << 32 | 16)) /* qcow2's extension */
            at = load_be64(head + i + 8);
    }
    if (at > FUZZ_FILE_MAX)
        return;
    if (!luks)
        luks = make_luks();
    gsize size;
    const void *header = g_bytes_get_data(luks, &size);
    fuzz_put(fd, header, size, at);
}

/* ---- changes --------------------------------------------------------------------------------- */

#define SLOTS  16
#define GRAINS 8 /* in a slot, each of one value */

typedef struct Changes {
    Image *image;
    GRand *rand;
    bool sound; /* what was written must be there */
    uint32_t grain;
    uint64_t places[SLOTS];
    int16_t values[SLOTS][GRAINS]; /* -1: unknown */
    uint8_t buffer[GRAINS * 4096];
} Changes;

static void forget(Changes *c, uint64_t from, uint64_t to)
{
    for (int i = 0; i < SLOTS; i++) {
        if (c->places[i] < to && c->places[i] + (uint64_t)GRAINS * c->grain > from)
            memset(c->values[i], -1, sizeof(c->values[i]));
    }
}

static void expect(Changes *c, Image *image, int slot, int first, int count)
{
    int result = image_read(image, c->places[slot] + (uint64_t)first * c->grain, c->buffer,
                            (size_t)count * c->grain);
    for (int i = 0; i < count && c->sound; i++) {
        if (c->values[slot][first + i] < 0)
            continue;
        g_assert(!result);
        for (uint32_t at = 0; at < c->grain; at++)
            g_assert(c->buffer[(uint32_t)i * c->grain + at] == c->values[slot][first + i]);
    }
}

static void change_grains(Changes *c, int what)
{
    int slot = g_rand_int_range(c->rand, 0, SLOTS);
    int first = g_rand_int_range(c->rand, 0, GRAINS);
    int count = g_rand_int_range(c->rand, 1, GRAINS - first + 1);
    int value = what == 4 ? 0 : g_rand_int_range(c->rand, 0, 256), result = 0;
    uint64_t at = c->places[slot] + (uint64_t)first * c->grain;
    size_t size = (size_t)count * c->grain;
    if (at + size > c->image->map->size)
        return;
    if (what < 4) {
        memset(c->buffer, value, size);
        result = image_write(c->image, at, c->buffer, size);
    } else if (what == 4) {
        result = image_write_zeros(c->image, at, size);
    } else if (what == 5) {
        image_discard(c->image, at, size);
    }
    for (int i = 0; i < count && what < 6; i++)
        c->values[slot][first + i] = (int16_t)(what == 5 || result ? -1 : value);
    expect(c, c->image, slot, first, count);
}

static void write_packed(Changes *c)
{
    uint32_t unit = c->image->map->unit_size;
    uint64_t units = unit && unit <= MIB(2) ? c->image->map->size / unit : 0;
    if (!c->image->driver->compress || !units)
        return;
    uint64_t at = g_rand_int(c->rand) % units * unit;
    g_autofree uint8_t *plain = g_malloc(unit), *stored = g_malloc(2 * (size_t)unit);
    memset(plain, 7, unit);
    size_t size = c->image->driver->compress(c->image->map, plain, stored);
    if (size)
        image_write_compressed(c->image, at, stored, (uint32_t)size);
    forget(c, at, at + unit);
}

static void resize(Changes *c)
{
    uint64_t size = c->image->map->size;
    uint64_t by = (uint64_t)g_rand_int_range(c->rand, 0, 64) * 4096;
    bool grows = g_rand_boolean(c->rand);
    image_resize(c->image, grows ? size + by * 8 : size - MIN(by, size / 2 & ~UINT64_C(4095)),
                 NULL);
    forget(c, MIN(size, c->image->map->size), UINT64_MAX);
}

static void change_snapshots(Changes *c)
{
    const FormatSnapshots *snapshots = c->image->driver->snapshots;
    ImageMap *map = c->image->map;
    if (!snapshots || image_flush(c->image))
        return;
    g_autoptr(GPtrArray) list = snapshots->list(map);
    const SnapshotInfo *one = list && list->len ? list->pdata[0] : NULL;
    switch (g_rand_int_range(c->rand, 0, 3)) {
    case 0:
        snapshots->create(map, "new", NULL);
        break;
    case 1:
        if (one && snapshots->apply(map, one->id, NULL))
            forget(c, 0, UINT64_MAX);
        break;
    case 2:
        if (one)
            snapshots->remove(map, one->id, NULL);
    }
}

static void change(Changes *c)
{
    const ImageMap *map = c->image->map;
    c->grain = map->sector_size;
    for (int i = 0; i < SLOTS; i++)
        c->places[i] = map->size / SLOTS * (uint64_t)i / c->grain * c->grain;
    forget(c, 0, UINT64_MAX);
    c->sound &= map->size / SLOTS >= (uint64_t)GRAINS * c->grain && c->grain <= 4096;
    for (int i = 0; i < 32; i++) {
        int what = g_rand_int_range(c->rand, 0, 11);
        if (what < 7 && c->grain <= 4096)
            change_grains(c, what);
        else if (what == 7)
            write_packed(c);
        else if (what == 8)
            resize(c);
        else if (what == 9)
            change_snapshots(c);
        else if (image_flush(c->image))
            c->sound = false;
    }
    c->sound &= image_flush(c->image) == 0;
}

/* ---- one input ------------------------------------------------------------------------------- */

/* True: the image is without fault. */
static bool check(Image *image, bool repair)
{
    CheckResult result = fuzz_check(image, repair);
    bool clean = image->driver->check && !result.corruptions && !result.errors;
    if (repair && clean) {
        result = fuzz_check(image, false);
        g_assert(!result.corruptions && !result.errors);
    }
    return clean;
}

/* Looks at the image again, and at its first snapshot. */
static void look_again(Changes *c, const char *path, ImageOptions options)
{
    options.read_only = true;
    options.ignore_damage = false;
    g_autoptr(GError) error = NULL;
    g_autoptr(Image) image = image_open(path, &options, &error);
    if (c->sound)
        g_assert_no_error(error);
    if (!image)
        return;
    for (int i = 0; i < SLOTS && c->grain <= 4096; i++) {
        if (c->places[i] + (uint64_t)GRAINS * c->grain <= image->map->size)
            expect(c, image, i, 0, GRAINS);
    }
    g_assert(check(image, false) || !c->sound);
    g_autoptr(GPtrArray) list =
        image->driver->snapshots ? image->driver->snapshots->list(image->map) : NULL;
    if (!list || !list->len)
        return;
    options.snapshot = ((SnapshotInfo *)list->pdata[0])->id;
    g_autoptr(Image) snapshot = image_open(path, &options, NULL);
    if (snapshot && fuzz_is_small(snapshot))
        fuzz_look(snapshot);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    if (size < 3)
        return 0;
    int fd = fuzz_new_file(path);
    if (data[0] & PARTS)
        fuzz_put_parts(fd, data + 2, size - 2);
    else
        fuzz_put(fd, data + 2, size - 2, 0);
    if (data[0] & SEALED)
        seal(fd);
    if (data[0] & KEYED)
        put_luks(fd);
    uint64_t mark = 0;
    if (pread(fd, &mark, sizeof(mark), 0) < 0)
        mark = 0;
    bool writes = data[0] & WRITES, repairs = data[0] & REPAIRS;
    g_autoptr(GBytes) key = data[0] & KEYED ? passphrase() : NULL;
    /* An SEsparse extent alone is an image for who says so. */
    ImageOptions options = {.format = mark == 0xcafebabe ? "vmdk" : FUZZ_FORMAT,
                            .read_only = !writes,
                            .no_parents = true,
                            .keeps_locked = !key,
                            .key = key,
                            .ignore_damage = data[0] & IGNORES_DAMAGE};
    Image *image = image_open(path, &options, NULL);
    if (image) {
        bool small = fuzz_is_small(image), locked = image->map->encrypted && !image->map->cipher;
        if (small)
            fuzz_look(image);
        bool clean = check(image, writes && repairs);
        if (writes && small && image->driver != &raw_format) {
            g_autoptr(GRand) rand = g_rand_new_with_seed(data[1]);
            g_autofree Changes *c = g_new0(Changes, 1);
            *c = (Changes){.image = image, .rand = rand, .sound = clean && !locked};
            change(c);
            image_close(g_steal_pointer(&image));
            look_again(c, path, options);
        }
    }
    image_close(image);
    close(fd);
    return 0;
}
