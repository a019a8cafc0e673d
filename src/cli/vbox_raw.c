/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * VMDK descriptors over a disk of the host or a raw file; see vbox_raw.h.
 *
 * Of a disk with -partitions a machine sees the ones that are named. The partition tables come from
 * a copy (FILE-pt.vmdk), so that a guest that writes them changes nothing outside of what it was
 * given; everything else reads as zeros.
 */
#include "cli/vbox_raw.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/i18n.h"
#include "block/partition_table.h"
#include "cli/disk.h"

/* What is copied before the first partition: a boot loader often lies there. */
#define HEAD_SECTORS 2048
#define MBR_CODE     M_TABLE

/* A part of the disk, in sectors. */
typedef struct Piece {
    uint64_t start, count;
    const Partition *partition; /* NULL: of a partition table, to be copied */
} Piece;

typedef struct Layout {
    Image *disk;
    PartitionTable table;
    GArray *pieces; /* Piece */
    GString *lines; /* the descriptor's */
    GByteArray *copy;
} Layout;

static void layout_clear(Layout *l)
{
    partition_table_clear(&l->table);
    image_close(l->disk);
    g_array_unref(l->pieces);
    g_string_free(l->lines, TRUE);
    g_byte_array_unref(l->copy);
}

static bool layout_init(Layout *l, const char *path, GError **error)
{
    ImageOptions options = {.format = "raw", .read_only = true};
    *l = (Layout){.pieces = g_array_new(FALSE, FALSE, sizeof(Piece)),
                  .lines = g_string_new(NULL),
                  .copy = g_byte_array_new(),
                  .disk = image_open(path, &options, error)};
    int result = l->disk ? partition_table_read(l->disk, &l->table) : 0;
    if (result)
        format_fail_io(error, path, "read the partitions of", result);
    return l->disk && !result;
}

/* ---- which pieces ---------------------------------------------------------------------------- */

static void add_piece(Layout *l, uint64_t start, uint64_t count, const Partition *p)
{
    Piece piece = {start, count, p};
    if (count)
        g_array_append_val(l->pieces, piece);
}

/* GPT's tables lie at both ends; a logical partition's is the sector that its start counts from. */
static void add_tables(Layout *l)
{
    uint64_t end = l->disk->map->size / SECTOR, head = MIN(HEAD_SECTORS, end);
    g_autofree uint8_t *entries = NULL;
    GptHeader h;
    for (guint i = 0; i < l->table.partitions->len; i++) {
        const Partition *p = l->table.partitions->pdata[i];
        head = MIN(head, p->start / SECTOR);
        if (p->logical)
            add_piece(l, p->table, 1, NULL);
        else if (partition_is_container(p))
            add_piece(l, p->start / SECTOR, 1, NULL);
    }
    add_piece(l, 0, head, NULL);
    if (l->table.scheme == PARTITIONS_GPT && gpt_read(l->disk, end - 1, &h, &entries) == 0)
        add_piece(l, h.entries_at, end - h.entries_at, NULL);
}

static const Partition *find_partition(const Layout *l, unsigned number)
{
    for (guint i = 0; i < l->table.partitions->len; i++) {
        const Partition *p = l->table.partitions->pdata[i];
        if (p->number == number)
            return p;
    }
    return NULL;
}

static bool add_partitions(Layout *l, const char *numbers, GError **error)
{
    g_auto(GStrv) words = g_strsplit(numbers, ",", -1);
    if (!*words)
        return vbox_usage(error, _("-partitions needs a list; write 1,5"));
    for (char **w = words; *w; w++) {
        char *end;
        guint64 number = g_ascii_strtoull(*w, &end, 10);
        if (!g_ascii_isdigit(**w) || *end || number > G_MAXUINT)
            return vbox_usage(error, _("'%s' is no list of partitions; write 1,5"), numbers);
        const Partition *p = find_partition(l, (unsigned)number);
        if (!p)
            return vbox_usage(error, _("'%s' has no partition %s"), l->disk->path, *w);
        if (partition_is_container(p))
            return vbox_usage(error, _("partition %s holds others; name those"), *w);
        add_piece(l, p->start / SECTOR, p->size / SECTOR, p);
    }
    return true;
}

static int compare_pieces(gconstpointer a, gconstpointer b)
{
    const Piece *one = a, *two = b;
    return (one->start > two->start) - (one->start < two->start);
}

/* ---- the descriptor -------------------------------------------------------------------------- */

/* From the descriptor's folder the disk's name must lead to the same file. */
static char *name_from(const char *path, const char *disk)
{
    g_autofree char *folder = g_path_get_dirname(path);
    return strcmp(folder, ".") ? g_canonicalize_filename(disk, NULL) : g_strdup(disk);
}

/* /dev/sda and 5 → /dev/sda5, /dev/nvme0n1 and 5 → /dev/nvme0n1p5 */
static char *partition_device(const char *disk, unsigned number)
{
    bool ends_in_digit = *disk && g_ascii_isdigit(disk[strlen(disk) - 1]);
    return g_strdup_printf("%s%s%u", disk, ends_in_digit ? "p" : "", number);
}

static void add_zeros(Layout *l, uint64_t count)
{
    if (count)
        g_string_append_printf(l->lines, "RW %" G_GUINT64_FORMAT " ZERO\n", count);
}

static void add_line(Layout *l, const Piece *piece, const char *name, uint64_t offset)
{
    g_string_append_printf(l->lines, "RW %" G_GUINT64_FORMAT " FLAT \"%s\" %" G_GUINT64_FORMAT "\n",
                           piece->count, name, offset);
}

static bool copy_piece(Layout *l, const Piece *piece, GError **error)
{
    guint at = l->copy->len;
    g_byte_array_set_size(l->copy, at + (guint)(piece->count * SECTOR));
    int result =
        image_read(l->disk, piece->start * SECTOR, l->copy->data + at, piece->count * SECTOR);
    return result ? format_fail_io(error, l->disk->path, "read the partitions of", result) : true;
}

/* `devices`: of the partitions, instead of the whole disk's. */
static bool add_lines(Layout *l, const char *disk, const char *copy_name, bool devices,
                      GError **error)
{
    uint64_t at = 0, end = l->disk->map->size / SECTOR;
    g_array_sort(l->pieces, compare_pieces);
    for (guint i = 0; i < l->pieces->len; i++) {
        const Piece *piece = &g_array_index(l->pieces, Piece, i);
        bool again = i && !piece->partition && piece->start < at && piece[-1].start == piece->start;
        if (again)
            continue; /* the first logical partition's table is the container's first sector */
        if (piece->start < at || piece->start + piece->count > end)
            return vbox_usage(error, _("the partitions of '%s' overlap"), l->disk->path);
        add_zeros(l, piece->start - at);
        at = piece->start + piece->count;
        if (!piece->partition) {
            add_line(l, piece, copy_name, l->copy->len / SECTOR);
            if (!copy_piece(l, piece, error))
                return false;
            continue;
        }
        g_autofree char *device = devices ? partition_device(disk, piece->partition->number) : NULL;
        add_line(l, piece, device ? device : disk, device ? 0 : piece->start);
    }
    add_zeros(l, end - at);
    return true;
}

/* The code of a boot sector, not its table. */
static bool take_boot_code(Layout *l, const char *path, GError **error)
{
    g_autofree char *data = NULL;
    gsize size;
    if (!g_file_get_contents(path, &data, &size, error))
        return false;
    if (size < MBR_CODE || l->copy->len < SECTOR)
        return vbox_usage(error, _("'%s' is no boot sector"), path);
    memcpy(l->copy->data, data, MBR_CODE);
    return true;
}

/* ---- the commands ---------------------------------------------------------------------------- */

static bool must_be_new(const char *path, GError **error)
{
    return !g_file_test(path, G_FILE_TEST_EXISTS) ||
           vbox_usage(error, _("'%s' is there already; name another file, or remove it"), path);
}

static bool write_descriptor(const Layout *l, const char *path, const char *kind, GError **error)
{
    g_autofree char *text = g_strdup_printf(
        "# Disk DescriptorFile\nversion=1\nCID=%08x\nparentCID=ffffffff\ncreateType=\"%s\"\n\n"
        "# Extent description\n%s\n# The Disk Data Base\n#DDB\n\nddb.virtualHWVersion = \"4\"\n"
        "ddb.adapterType = \"ide\"\n",
        g_random_int() & 0x7fffffff, kind, l->lines->str);
    return g_file_set_contents(path, text, -1, error);
}

static bool create_whole(Layout *l, const char *path, const char *disk, GError **error)
{
    Piece all = {0, l->disk->map->size / SECTOR, NULL};
    add_line(l, &all, disk, 0);
    return write_descriptor(l, path, "fullDevice", error);
}

static bool create_parts(Layout *l, VboxArgs *a, const char *path, const char *disk, GError **error)
{
    const char *numbers = vbox_value(a, "partitions"), *code = vbox_value(a, "mbr");
    g_autofree char *base =
        g_str_has_suffix(path, ".vmdk") ? g_strndup(path, strlen(path) - 5) : g_strdup(path);
    g_autofree char *copy = g_strdup_printf("%s-pt.vmdk", base);
    g_autofree char *copy_name = g_path_get_basename(copy);
    if (l->table.scheme == PARTITIONS_NONE)
        return vbox_usage(error, _("'%s' has no partitions"), l->disk->path);
    add_tables(l);
    if (!must_be_new(copy, error) || !add_partitions(l, numbers, error) ||
        !add_lines(l, disk, copy_name, vbox_value(a, "relative") != NULL, error) ||
        (code && !take_boot_code(l, code, error)))
        return false;
    if (!g_file_set_contents(copy, (const char *)l->copy->data, l->copy->len, error))
        return false;
    if (write_descriptor(l, path, "partitionedDevice", error))
        return true;
    remove(copy);
    return false;
}

bool vbox_create_raw(VboxArgs *a, GError **error)
{
    const char *path = vbox_value(a, "filename"), *disk = vbox_value(a, "rawdisk");
    Layout l;
    if (!path || !disk)
        return vbox_usage(error, _("createrawvmdk needs -filename FILE and -rawdisk DISK"));
    if (!must_be_new(path, error))
        return false;
    g_autofree char *name = name_from(path, disk);
    bool good = layout_init(&l, disk, error) &&
                (vbox_value(a, "partitions") ? create_parts(&l, a, path, name, error)
                                             : create_whole(&l, path, name, error));
    layout_clear(&l);
    if (good)
        printf("RAW host disk access VMDK file %s created successfully.\n", path);
    return good;
}

/* | status | head | sector and high bits of the cylinder | cylinder | */
static void print_chs(const uint8_t *chs)
{
    printf("%-4u/%-3u/%-2u  ", chs[2] | (chs[1] & 0xc0u) << 2, chs[0], chs[1] & 0x3fu);
}

static bool print_partition(const Layout *l, const Partition *p, GError **error)
{
    uint8_t entry[SECTOR * 2] = {0};
    uint64_t sector = align_down(p->entry, SECTOR);
    int result = p->guid[0] ? 0 : image_read(l->disk, sector, entry, SECTOR);
    const uint8_t *e = p->guid[0] ? entry : entry + (p->entry - sector);
    if (result)
        return format_fail_io(error, l->disk->path, "read the partitions of", result);
    printf("%-2u  %#04x  ", p->number, p->mbr_type);
    print_chs(e + 1);
    print_chs(e + M_LAST_CHS);
    printf("  %10" G_GUINT64_FORMAT "   %10" G_GUINT64_FORMAT "%s%s\n", p->size >> 20,
           p->start / SECTOR, p->guid[0] ? "  " : "", p->guid);
    return true;
}

bool vbox_list_partitions(VboxArgs *a, GError **error)
{
    const char *disk = vbox_value(a, "rawdisk");
    Layout l;
    if (!disk)
        return vbox_usage(error, _("listpartitions needs -rawdisk DISK"));
    bool good = layout_init(&l, disk, error);
    if (good)
        printf("Number  Type   StartCHS       EndCHS      Size (MiB)  Start (Sect)\n");
    for (guint i = 0; good && i < l.table.partitions->len; i++)
        good = print_partition(&l, l.table.partitions->pdata[i], error);
    layout_clear(&l);
    return good;
}
