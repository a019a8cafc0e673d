/* SPDX-License-Identifier: GPL-3.0-or-later */
/* disk merge, measure, dd: what is done with whole disks, besides converting them. */
#include <errno.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "base/i18n.h"
#include "cli/disk.h"
#include "cli/progress.h"

/* ---- merge ----------------------------------------------------------------------------------- */

/* Children of the image that goes get its parent. */
static bool adopt(const DiskArgs *a, const char *child, const char *parent, const char *format,
                  GError **error)
{
    ImageOptions options = {.no_parents = true, .trust_names = a->trust};
    g_autoptr(Image) image = image_open(child, &options, error);
    if (!image)
        return false;
    if (!image->driver->set_parent)
        return format_fail(error, child, "images of the format %s have no parents",
                           image->driver->name);
    return image->driver->set_parent(image->map, parent, format, parent, error);
}

/* The parent has everything, durably, before anything else changes; the image goes last. */
int disk_command_merge(DiskArgs *a, GError **error)
{
    if (a->count < 1)
        return disk_usage(error, "merge takes a file, and the images that stand over it");
    ImageOptions look = {.format = a->letter['f'], .read_only = true, .only_look = true};
    g_autoptr(Image) image = image_open(a->rest[0], &look, error);
    if (!image)
        return -1;
    if (!image->map->parent_name)
        return disk_refuse(error, "%s has no parent to merge into", a->rest[0]);
    g_autofree char *found =
        image_resolve_name(a->rest[0], image->map->parent_name, a->trust, error);
    g_autofree char *parent = found ? g_canonicalize_filename(found, NULL) : NULL;
    g_clear_pointer(&image, image_close);
    if (!parent)
        return -1;
    DiskArgs one = *a;
    one.count = 1;
    one.quiet = true;
    one.json = false;
    one.letter['d'] = ""; /* it goes as a whole */
    if (disk_command_commit(&one, error))
        return -1;
    ImageOptions probe = {.read_only = true, .only_look = true};
    g_autoptr(Image) base = image_open(parent, &probe, error);
    for (int i = 1; base && i < a->count; i++) {
        if (!adopt(a, a->rest[i], parent, base->driver->name, error))
            return -1;
    }
    if (!base)
        return -1;
    g_clear_pointer(&base, image_close);
    if (g_unlink(a->rest[0]) < 0)
        return disk_fail(error, "remove", a->rest[0], -errno);
    if (!a->quiet && !a->json)
        printf("Image merged into %s.\n", parent);
    return a->json && !disk_info_print(a, parent, NULL, error) ? -1 : 0;
}

/* ---- measure --------------------------------------------------------------------------------- */

typedef struct Measure {
    uint64_t size, needed; /* bytes of the disk; of its clusters that hold data */
    uint64_t cluster;
    bool whole; /* every cluster gets a place */
} Measure;

static uint64_t divide_up(uint64_t a, uint64_t b)
{
    return a / b + (a % b != 0);
}

/* Refcount blocks and table for so many clusters, and for themselves. */
static uint64_t refcount_bytes(uint64_t clusters, uint64_t cluster, unsigned refcount_bits)
{
    uint64_t per_block = cluster * 8 / refcount_bits, blocks = 0, table = 0, before;
    do {
        before = blocks + table;
        blocks = divide_up(clusters + table + blocks, per_block);
        table = divide_up(blocks, cluster / 8);
    } while (blocks + table != before);
    return (blocks + table) * cluster;
}

/* A qcow2 image in which every cluster has its place. */
static uint64_t qcow2_full_size(const Measure *m, unsigned refcount_bits, unsigned entry_size)
{
    uint64_t data = align_up(m->size, m->cluster);
    uint64_t l2 = align_up(data / m->cluster, m->cluster / entry_size) * entry_size;
    uint64_t l1 = align_up(l2 / m->cluster, m->cluster / 8) * 8;
    uint64_t meta = m->cluster + l2 + l1;
    return meta + refcount_bytes((meta + data) / m->cluster, m->cluster, refcount_bits) + data;
}

static int count_needed(const DiskArgs *a, Image *image, Measure *m)
{
    for (uint64_t at = 0; at < image->map->size;) {
        ImageStatus s;
        int result = disk_status(a, image, at, image->map->size - at, &s);
        if (result)
            return result;
        uint64_t end = at + s.length;
        if (!s.zero) {
            end = align_up(end, m->cluster);
            m->needed += at % m->cluster + (end - at);
        }
        at = end;
    }
    return 0;
}

static const char *option_value(const DiskArgs *a, const char *name, const char *initial)
{
    size_t length = strlen(name);
    for (guint i = 0; i + 1 < a->options->len; i++) {
        const char *text = a->options->pdata[i];
        if (!strncmp(text, name, length) && text[length] == '=')
            return text + length + 1;
    }
    return initial;
}

static void print_measure(const DiskArgs *a, uint64_t required, uint64_t full, bool bitmaps)
{
    if (a->json)
        printf("{\n%s    \"required\": %" G_GUINT64_FORMAT
               ",\n    \"fully-allocated\": %" G_GUINT64_FORMAT "\n}\n",
               bitmaps ? "    \"bitmaps\": 0,\n" : "", required, full);
    else
        printf("required size: %" G_GUINT64_FORMAT "\nfully allocated size: %" G_GUINT64_FORMAT
               "\n%s",
               required, full, bitmaps ? "bitmaps size: 0\n" : "");
}

static bool can_have_bitmaps(const Image *image)
{
    g_auto(GVariantDict) dict = G_VARIANT_DICT_INIT(NULL);
    const char *compat;
    if (image->driver != &qcow2_format)
        return false;
    image->driver->describe(image->map, &dict);
    return g_variant_dict_lookup(&dict, "compat", "&s", &compat) && strcmp(compat, "0.10") != 0;
}

/* | header 4 KiB | eight key slots: 4000 stripes of the key, by whole pages |; see luks.c */
static uint64_t luks_header_bytes(const DiskArgs *a, const char *cipher_option,
                                  const char *mode_option)
{
    const char *cipher = option_value(a, cipher_option, "aes-256");
    const char *number = strrchr(cipher, '-');
    uint64_t key = (number ? g_ascii_strtoull(number + 1, NULL, 10) : 256) / 8;
    if (!strcmp(option_value(a, mode_option, "xts"), "xts"))
        key *= 2;
    return 4096 + 8 * align_up(key * 4000, 4096);
}

int disk_command_measure(DiskArgs *a, GError **error)
{
    const char *format = a->letter['O'] ? a->letter['O'] : "raw", *tag = a->letter['l'];
    Measure m = {0};
    uint64_t bits = 16;
    if ((a->count == 1) == (a->size != NULL) || a->count > 1)
        return disk_usage(error, "measure takes a file or --size SIZE");
    if (!format_parse_size(option_value(a, "cluster_size", "64K"), &m.cluster) ||
        !format_parse_size(option_value(a, "refcount_bits", "16"), &bits) || m.cluster < 512 ||
        m.cluster > MIB(2) || (m.cluster & (m.cluster - 1)) || bits < 1 || bits > 64)
        return disk_usage(error, "-o has a bad cluster_size or refcount_bits");
    if (a->size && !format_parse_size(a->size, &m.size))
        return disk_usage(error, "'%s' is no size; write 10G or 512M", a->size);
    const FormatDriver *driver = format_find(format, error);
    if (!driver)
        return -1;
    bool is_qcow2 = !strcmp(driver->name, "qcow2");
    bool is_luks = !strcmp(driver->name, "luks");
    if (!is_qcow2 && !is_luks && strcmp(driver->name, "raw"))
        return disk_refuse(error,
                           "sizes of the format %s can't be told before; raw, luks and qcow2 can",
                           driver->name);
    g_autofree char *snapshot =
        tag && !a->size ? disk_snapshot_tag(a, a->rest[0], tag, error) : NULL;
    if (tag && !a->size && !snapshot)
        return -1;
    ImageOptions options = {
        .format = a->letter['f'], .read_only = true, .trust_names = a->trust, .snapshot = snapshot};
    g_autoptr(Image) image = a->size ? NULL : image_open(a->rest[0], &options, error);
    if (!a->size && !image)
        return -1;
    m.size = image ? image->map->size : align_up(m.size, 512);
    if (!is_qcow2) {
        m.size += is_luks ? luks_header_bytes(a, "cipher-alg", "cipher-mode") : 0;
        print_measure(a, m.size, m.size, false);
        return 0;
    }
    int result = image ? count_needed(a, image, &m) : 0;
    if (result)
        return disk_fail(error, "measure", a->rest[0], result);
    const char *preallocation = option_value(a, "preallocation", "off");
    if (!strcmp(preallocation, "full") || !strcmp(preallocation, "falloc"))
        m.needed = m.size;
    bool extended = !strcmp(option_value(a, "extended_l2", "off"), "on");
    uint64_t full = qcow2_full_size(&m, (unsigned)bits, extended ? 16 : 8);
    if (!strcmp(option_value(a, "encrypt.format", ""), "luks"))
        full +=
            align_up(luks_header_bytes(a, "encrypt.cipher-alg", "encrypt.cipher-mode"), m.cluster);
    print_measure(a, full - align_up(m.size, m.cluster) + m.needed, full,
                  image && can_have_bitmaps(image));
    return 0;
}

/* ---- dd -------------------------------------------------------------------------------------- */

typedef struct Dd {
    const char *in, *out;
    uint64_t block, count, skip;
} Dd;

static int parse_dd(const DiskArgs *a, Dd *d, GError **error)
{
    *d = (Dd){.block = 512, .count = UINT64_MAX};
    for (int i = 0; i < a->count; i++) {
        const char *equals = strchr(a->rest[i], '='), *value = equals ? equals + 1 : "";
        size_t length = equals ? (size_t)(equals - a->rest[i]) : 0;
        const struct {
            const char *name;
            uint64_t *number;
        } numbers[] = {{"bs", &d->block}, {"count", &d->count}, {"skip", &d->skip}};
        bool known = false;
        for (size_t k = 0; k < G_N_ELEMENTS(numbers); k++) {
            if (strlen(numbers[k].name) == length && !strncmp(numbers[k].name, a->rest[i], length))
                known = format_parse_size(value, numbers[k].number);
        }
        if (length == 2 && (!strncmp(a->rest[i], "if", 2) || !strncmp(a->rest[i], "of", 2))) {
            *(a->rest[i][0] == 'i' ? &d->in : &d->out) = value;
            known = *value;
        }
        if (!known)
            return disk_usage(error, "'%s' is not if=, of=, bs=, count= or skip=", a->rest[i]);
    }
    if (!d->in || !d->out)
        return disk_usage(error, "dd takes if=SOURCE and of=TARGET");
    if (!d->block || d->block > INT_MAX)
        return disk_usage(error, "bs must be from 1 to 2G");
    return 0;
}

static int copy_blocks(Image *from, Image *to, uint64_t begin, uint64_t size, bool progress)
{
    Progress bar;
    int result = 0;
    g_autofree uint8_t *data = g_malloc0(MIB(1) + 1024);
    progress_begin(&bar, progress, size);
    for (uint64_t at = 0; at < size && !result;) {
        /* The source is read in whole sectors, wherever the blocks begin. */
        uint64_t part = MIN(MIB(1), size - at), first = align_down(begin + at, 512);
        uint64_t end = MIN(align_up(begin + at + part, 512), from->map->size);
        result = image_read(from, first, data, end - first);
        uint8_t *bytes = data + (begin + at - first);
        memset(bytes + part, 0, 512 - part % 512);
        if (!result && !image_bytes_are_zero(bytes, part))
            result = image_write(to, at, bytes, align_up(part, 512));
        at += part;
        progress_update(&bar, at);
    }
    progress_end(&bar);
    return result ? result : image_flush(to);
}

int disk_command_dd(DiskArgs *a, GError **error)
{
    Dd d;
    const char *format = a->letter['O'] ? a->letter['O'] : "raw";
    if (parse_dd(a, &d, error))
        return -1;
    g_autoptr(Image) from = disk_open_image(a, d.in, a->letter['f'], true, error);
    if (!from)
        return -1;
    uint64_t begin, size, wanted;
    if (__builtin_mul_overflow(d.skip, d.block, &begin))
        begin = UINT64_MAX;
    size = begin < from->map->size ? from->map->size - begin : 0;
    if (begin > from->map->size)
        g_printerr(_("%s: %s: cannot skip to specified offset\n"), a->program, d.in);
    if (!__builtin_mul_overflow(d.count, d.block, &wanted))
        size = MIN(size, wanted);
    DiskTarget target = {NULL};
    ImageCreate create = {.format = format, .size = size, .no_sync = true};
    if (!disk_target_create(&target, d.out, &create, error))
        return -1;
    ImageOptions open = {.format = format, .no_sync = true};
    Image *to = image_open(d.out, &open, error);
    int result = to ? copy_blocks(from, to, begin, size, a->progress) : 0;
    image_close(to);
    if (!to || result) {
        disk_target_remove(&target);
        return to ? disk_fail(error, "write", d.out, result) : -1;
    }
    disk_target_forget(&target);
    return a->json && !disk_info_print(a, d.out, format, error) ? -1 : 0;
}
