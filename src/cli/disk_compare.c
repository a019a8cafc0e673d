/* SPDX-License-Identifier: GPL-3.0-or-later */
/* disk compare and map. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/i18n.h"
#include "cli/disk.h"
#include "cli/progress.h"

#define CHUNK (1u << 20)

enum { COMPARE_EQUAL = 0, COMPARE_DIFFERENT = 1, COMPARE_FAILED = 2 };

/* ---- status ---------------------------------------------------------------------------------- */

/* Has the host given the file less than its map has given away? As qemu-img guesses it. */
static bool is_preallocated(const Image *image)
{
    struct stat st;
    uint64_t unit = image->map->unit_size;
    if (image->driver != &qcow2_format || stat(image->path, &st))
        return false;
    uint64_t real = (uint64_t)st.st_blocks * 512 / unit;
    return (uint64_t)st.st_size / unit >= MAX(real * 10 / 9, real + 2);
}

static bool is_fixed_vdi(const Image *image)
{
    g_auto(GVariantDict) dict = G_VARIANT_DICT_INIT(NULL);
    const char *variant;
    if (image->driver != &vdi_format)
        return false;
    image->driver->describe(image->map, &dict);
    return g_variant_dict_lookup(&dict, "variant", "&s", &variant) && !strcmp(variant, "fixed");
}

/* What qemu-img says otherwise of the same bytes. */
static int translate(Image *image, uint64_t offset, uint64_t size, ImageStatus *s)
{
    const FormatDriver *driver = s->owner->driver;
    int depth = s->depth;
    if (driver == &vhdx_format) { /* it tells nothing of these */
        *s = (ImageStatus){.data = true, .present = true, .depth = depth, .length = size};
    } else if (!s->present && (driver == &vdi_format || driver == &vhd_format)) {
        s->present = true; /* for they have no parents there */
    } else if (s->file &&
               (!s->owner->map->unit_size || is_fixed_vdi(s->owner) || is_preallocated(s->owner))) {
        int result = image_status(image, offset, size, true, s);
        s->data = s->data || driver != &raw_format;
        return result;
    }
    return 0;
}

int disk_status(const DiskArgs *a, Image *image, uint64_t offset, uint64_t size, ImageStatus *s)
{
    bool translates = disk_as_qemu_img(a);
    int result = image_status(image, offset, size, !translates, s);
    return result || !translates ? result : translate(image, offset, size, s);
}

/* ---- compare --------------------------------------------------------------------------------- */

static int differ(const DiskArgs *a, const char *format, uint64_t offset)
{
    if (a->json)
        printf("{\n    \"identical\": false,\n    \"offset\": %" G_GUINT64_FORMAT "\n}\n", offset);
    else if (!a->quiet)
        printf(format, offset);
    return COMPARE_DIFFERENT;
}

typedef struct Pair {
    const DiskArgs *args;
    Image *one, *other;
    bool strict, kept_alike; /* `strict`: the same bytes must be kept alike, too */
    uint8_t *data, *other_data;
} Pair;

/* 0, or a negative errno; `ret_where` is the first byte that differs. */
static int compare_part(Pair *p, uint64_t at, uint64_t *size, bool *ret_same, uint64_t *ret_where)
{
    ImageStatus x, y;
    int result = disk_status(p->args, p->one, at, *size, &x);
    if (!result)
        result = disk_status(p->args, p->other, at, *size, &y);
    *ret_same = true;
    if (result)
        return result;
    p->kept_alike =
        x.data == y.data && x.zero == y.zero && x.present == y.present && !x.file == !y.file;
    if (p->strict && !p->kept_alike) {
        *ret_same = false;
        *ret_where = at;
        return 0;
    }
    *size = MIN(*size, MIN(x.length, y.length));
    if (x.zero && y.zero)
        return 0;
    *size = MIN(*size, CHUNK);
    result = image_read(p->one, at, p->data, *size);
    if (!result)
        result = image_read(p->other, at, p->other_data, *size);
    for (uint64_t i = 0; !result && i < *size; i++) {
        if (p->data[i] != p->other_data[i]) {
            *ret_same = false;
            *ret_where = at + i;
            break;
        }
    }
    return result;
}

static bool is_zero(const uint8_t *data, size_t size)
{
    return !data[0] && !memcmp(data, data + 1, size - 1);
}

/* What a longer disk has behind the shorter one's end must be zeros. */
static int compare_tail(Pair *p, uint64_t from, Progress *bar, bool *ret_same, uint64_t *ret_where)
{
    Image *longer = p->one->map->size > from ? p->one : p->other;
    *ret_same = true;
    for (uint64_t at = from; at < longer->map->size;) {
        uint64_t part = MIN(CHUNK, longer->map->size - at);
        int result = image_read(longer, at, p->data, part);
        if (result)
            return result;
        *ret_where = at;
        *ret_same = is_zero(p->data, part);
        if (!*ret_same)
            break;
        at += part;
        progress_update(bar, at);
    }
    return 0;
}

static int compare(DiskArgs *a, Pair *p, GError **error)
{
    uint64_t size = MIN(p->one->map->size, p->other->map->size), where = 0;
    bool same = true;
    Progress bar;
    int result = 0;
    if (a->letter['s'] && p->one->map->size != p->other->map->size)
        return differ(a, "Strict mode: Image size mismatch!\n", size);
    progress_begin(&bar, a->progress, MAX(p->one->map->size, p->other->map->size));
    for (uint64_t at = 0; at < size && same && !result;) {
        uint64_t part = size - at;
        result = compare_part(p, at, &part, &same, &where);
        at += part;
        progress_update(&bar, at);
    }
    bool has_tail = !result && same && p->one->map->size != p->other->map->size;
    if (has_tail)
        result = compare_tail(p, size, &bar, &same, &where);
    progress_end(&bar);
    if (has_tail && !a->quiet && !a->json)
        printf("Warning: Image size mismatch!\n");
    if (result) {
        disk_fail(error, "compare", p->one->path, result);
        return COMPARE_FAILED;
    }
    if (!same && p->strict && !p->kept_alike)
        return differ(a, "Strict mode: Offset %" G_GUINT64_FORMAT " block status mismatch!\n",
                      where);
    if (!same)
        return differ(a, "Content mismatch at offset %" G_GUINT64_FORMAT "!\n", where);
    if (a->json)
        printf("{\n    \"identical\": true\n}\n");
    else if (!a->quiet)
        printf("Images are identical.\n");
    return COMPARE_EQUAL;
}

int disk_command_compare(DiskArgs *a, GError **error)
{
    if (a->count != 2) {
        disk_usage(error, "compare takes two files");
        return disk_as_qemu_img(a) ? EXIT_FAILURE : COMPARE_FAILED;
    }
    g_autoptr(Image) one = disk_open_image(a, a->rest[0], a->letter['f'], true, error);
    g_autoptr(Image) other = one ? disk_open_nth(a, 1, a->letter['F'], error) : NULL;
    if (!other)
        return COMPARE_FAILED;
    Pair pair = {.args = a,
                 .one = one,
                 .other = other,
                 .strict = a->letter['s'] != NULL,
                 .data = g_malloc(CHUNK),
                 .other_data = g_malloc(CHUNK)};
    int status = compare(a, &pair, error);
    g_free(pair.data);
    g_free(pair.other_data);
    return status;
}

/* ---- map ------------------------------------------------------------------------------------- */

static bool joins(const ImageStatus *s, const ImageStatus *next)
{
    return s->zero == next->zero && s->data == next->data && s->depth == next->depth &&
           s->present == next->present && s->file == next->file &&
           s->compressed == next->compressed &&
           (!s->file || s->host_offset + s->length == next->host_offset);
}

static const char *without_dot(const char *path)
{
    return g_str_has_prefix(path, "./") ? path + 2 : path;
}

static void print_entry(const DiskArgs *a, uint64_t start, const ImageStatus *s, bool first)
{
    if (!a->json) {
        if (s->data && !s->zero && s->file)
            printf("%#-16" G_GINT64_MODIFIER "x%#-16" G_GINT64_MODIFIER "x%#-16" G_GINT64_MODIFIER
                   "x%s\n",
                   start, s->length, s->host_offset, without_dot(s->file->path));
        return;
    }
    printf("%s{ \"start\": %" G_GUINT64_FORMAT ", \"length\": %" G_GUINT64_FORMAT
           ", \"depth\": %d, \"present\": %s, \"zero\": %s, \"data\": %s",
           first ? "[" : ",\n", start, s->length, s->depth, s->present ? "true" : "false",
           s->zero ? "true" : "false", s->data ? "true" : "false");
    if (s->file)
        printf(", \"offset\": %" G_GUINT64_FORMAT, s->host_offset);
    printf("}");
}

/* --start-offset and --max-length: from the sector that the one is in to the end of the other. */
static int map_range(const DiskArgs *a, uint64_t *ret_begin, uint64_t *ret_length, GError **error)
{
    if (a->start_offset &&
        (!format_parse_size(a->start_offset, ret_begin) || *ret_begin > FORMAT_SIZE_MAX))
        return disk_usage(error, "--start-offset cannot be '%s'", a->start_offset);
    if (a->max_length && !format_parse_size(a->max_length, ret_length))
        return disk_usage(error, "--max-length cannot be '%s'", a->max_length);
    return 0;
}

int disk_command_map(DiskArgs *a, GError **error)
{
    if (a->count != 1)
        return disk_usage(error, "map takes a file");
    g_autoptr(Image) image = disk_open_image(a, a->rest[0], a->letter['f'], true, error);
    if (!image)
        return -1;
    ImageStatus run = {0}, next;
    uint64_t begin = 0, length = UINT64_MAX;
    bool first = true;
    if (map_range(a, &begin, &length, error))
        return -1;
    uint64_t start = begin, end = MIN(image->map->size, begin + MIN(length, FORMAT_SIZE_MAX));
    if (!a->json)
        printf("%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to", "File");
    for (uint64_t at = begin; at < end; at += next.length) {
        int result = disk_status(a, image, at, end - at, &next);
        if (result)
            return disk_fail(error, "map", a->rest[0], result);
        if (disk_as_qemu_img(a) && !a->json && next.data && !next.zero && !next.file)
            return disk_refuse(error, "File contains external, encrypted or compressed clusters.");
        if (at > begin && joins(&run, &next)) {
            run.length += next.length;
            continue;
        }
        if (at > begin) {
            print_entry(a, start, &run, first);
            first = false;
        }
        run = next;
        start = at;
    }
    if (image->map->size)
        print_entry(a, start, &run, first);
    if (a->json)
        printf("%s]\n", image->map->size ? "" : "[");
    return 0;
}
