/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Hostile images: the input is a file, opened as what it claims to be, looked through, checked,
 * written to and closed. The first byte says how, and whether the input is the file itself or its
 * parts (fuzz_put_parts()).
 */
#include "block/image_fuzz.h"
#include "block/crc32c.h"

enum { WRITES = 1, REPAIRS = 2, IGNORES_DAMAGE = 4, SEALED = 0x40, PARTS = 0x80 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    if (size < 2)
        return 0;
    int fd = fuzz_new_file(path);
    if (data[0] & PARTS)
        fuzz_put_parts(fd, data + 1, size - 1);
    else
        fuzz_put(fd, data + 1, size - 1, 0);
    if (data[0] & SEALED)
        seal(fd);
    uint64_t mark = 0;
    if (pread(fd, &mark, sizeof(mark), 0) < 0)
        mark = 0;
    bool writes = data[0] & WRITES, repairs = data[0] & REPAIRS;
    /* An SEsparse extent alone is an image for who says so. */
    ImageOptions options = {.format = mark == 0xcafebabe ? "vmdk" : NULL,
                            .read_only = !writes,
                            .no_parents = true,
                            .keeps_locked = true,
                            .ignore_damage = data[0] & IGNORES_DAMAGE};
    Image *image = image_open(path, &options, NULL);
    if (image) {
        bool small = fuzz_is_small(image);
        if (small)
            fuzz_look(image);
        fuzz_check(image, writes && repairs);
        if (writes && small && image->driver != &raw_format)
            fuzz_change(image);
    }
    image_close(image);
    close(fd);
    return 0;
}
