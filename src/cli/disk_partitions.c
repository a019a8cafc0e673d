/* SPDX-License-Identifier: GPL-3.0-or-later */
/* disk partitions: where they are in any image, and what is in them. */
#include <blkid.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/fd.h"
#include "cli/disk.h"

/* What libblkid gets to see of a file system: marks stand in its first bytes, some in the last. */
#define HEAD_SIZE MIB(4)
#define TAIL_SIZE MIB(1)
#define ROOM      KIB(64)

typedef struct FileSystem {
    char *type, *label, *uuid; /* NULL: unknown */
} FileSystem;

static void file_system_clear(FileSystem *fs)
{
    g_free(fs->type);
    g_free(fs->label);
    g_free(fs->uuid);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(FileSystem, file_system_clear)

/* ---- what is in it --------------------------------------------------------------------------- */

typedef struct Window {
    Image *image;
    uint64_t start, size;
    int fd; /* sparse, as large as the file system */
} Window;

static int show(const Window *w, uint64_t at, uint64_t size)
{
    g_autofree uint8_t *data = g_malloc(KIB(64));
    for (uint64_t end = at < w->size ? at + MIN(size, w->size - at) : at; at < end;) {
        uint64_t part = MIN(KIB(64), end - at);
        int result = image_read(w->image, w->start + at, data, part);
        if (result)
            return result;
        if (pwrite(w->fd, data, part, (off_t)at) != (ssize_t)part)
            return -errno;
        at += part;
    }
    return 0;
}

/* Labels of FAT32 lie in the root folder, those of NTFS in a file's record. */
static int show_label(const Window *w)
{
    uint8_t s[512];
    int result = w->size >= MIB(1) ? image_read(w->image, w->start, s, sizeof(s)) : -ENOENT;
    uint64_t cluster = (uint64_t)load_le16(s + 11) * s[13], at = 0;
    if (result || cluster == 0)
        return result == -ENOENT ? 0 : result;
    if (!memcmp(s + 3, "NTFS    ", 8) && !__builtin_mul_overflow(cluster, load_le64(s + 48), &at))
        return show(w, at / 512 * 512, ROOM);
    if (memcmp(s + 0x52, "FAT32", 5) || load_le32(s + 44) < 2)
        return 0;
    at = ((uint64_t)load_le16(s + 14) + (uint64_t)s[16] * load_le32(s + 36)) * load_le16(s + 11);
    at += (load_le32(s + 44) - 2) * cluster;
    return show(w, at / 512 * 512, MAX(cluster, 512));
}

static char *probe_value(blkid_probe probe, const char *name)
{
    const char *value;
    return blkid_probe_lookup_value(probe, name, &value, NULL) == 0 ? g_strdup(value) : NULL;
}

static int look_inside(Image *image, uint64_t start, uint64_t size, FileSystem *fs)
{
    auto_fd fd = memfd_create("probe", MFD_CLOEXEC);
    Window w = {image, start, size, fd};
    if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
        return -errno;
    int result = show(&w, 0, HEAD_SIZE);
    if (!result && size > HEAD_SIZE)
        result = show(&w, (size - MIN(size, TAIL_SIZE)) / 512 * 512, TAIL_SIZE);
    if (!result)
        result = show_label(&w);
    blkid_probe probe = result ? NULL : blkid_new_probe();
    if (!probe)
        return result ? result : -ENOMEM;
    if (blkid_probe_set_device(probe, fd, 0, (blkid_loff_t)size) == 0) {
        blkid_probe_enable_superblocks(probe, 1);
        blkid_probe_set_superblocks_flags(probe, BLKID_SUBLKS_TYPE | BLKID_SUBLKS_LABEL |
                                                     BLKID_SUBLKS_UUID);
        if (blkid_do_safeprobe(probe) == 0)
            *fs = (FileSystem){probe_value(probe, "TYPE"), probe_value(probe, "LABEL"),
                               probe_value(probe, "UUID")};
    }
    blkid_free_probe(probe);
    return 0;
}

/* ---- printing -------------------------------------------------------------------------------- */

static void add_text(JsonBuilder *b, const char *name, const char *value)
{
    if (!value)
        return;
    g_autofree char *valid = g_utf8_make_valid(value, -1);
    json_builder_set_member_name(b, name);
    json_builder_add_string_value(b, valid);
}

static void add_int(JsonBuilder *b, const char *name, uint64_t value)
{
    json_builder_set_member_name(b, name);
    json_builder_add_int_value(b, (gint64)value);
}

static void print_header(uint64_t size, PartitionScheme scheme)
{
    static const char *const names[] = {"no partition table", "MBR", "GPT"};
    g_autofree char *text = disk_size_text(size);
    printf("%s, %s\n%-4s %-20s %-12s %-16s %12s %12s %s\n", names[scheme], text, "No.", "Type",
           "File system", "Label", "Start", "Size", "Byte offset");
}

static const char *or_dash(const char *text)
{
    return text && *text ? text : "-";
}

static void print_line(const Partition *p, const char *type, const FileSystem *fs)
{
    g_autofree char *size = disk_size_text(p->size);
    g_autofree char *number = p->number ? g_strdup_printf("%u", p->number) : g_strdup("-");
    printf("%-4s %-20s %-12s %-16s %12" G_GUINT64_FORMAT " %12s %" G_GUINT64_FORMAT "\n", number,
           or_dash(type), or_dash(fs->type), or_dash(fs->label), p->start / 512, size, p->start);
}

static void add_partition(JsonBuilder *b, const Partition *p, const char *type,
                          const FileSystem *fs)
{
    json_builder_begin_object(b);
    if (p->number)
        add_int(b, "number", p->number);
    if (p->guid[0])
        add_text(b, "type-guid", p->guid);
    else if (p->number)
        add_int(b, "type-code", p->mbr_type);
    add_text(b, "type", type);
    add_text(b, "name", p->name);
    add_text(b, "file-system", fs->type);
    add_text(b, "label", fs->label);
    add_text(b, "uuid", fs->uuid);
    add_int(b, "start-sector", p->start / 512);
    add_int(b, "offset", p->start);
    add_int(b, "size", p->size);
    json_builder_set_member_name(b, "active");
    json_builder_add_boolean_value(b, p->active);
    json_builder_end_object(b);
}

static bool is_container(const Partition *p)
{
    return !p->guid[0] && (p->mbr_type == 0x05 || p->mbr_type == 0x0f || p->mbr_type == 0x85);
}

static int print_all(DiskArgs *a, Image *image, const PartitionTable *t, JsonBuilder *b)
{
    static const char *const names[] = {"none", "mbr", "gpt"};
    json_builder_begin_object(b);
    add_int(b, "virtual-size", image->map->size);
    add_text(b, "table", names[t->scheme]);
    json_builder_set_member_name(b, "partitions");
    json_builder_begin_array(b);
    if (!a->json)
        print_header(image->map->size, t->scheme);
    int result = 0;
    for (guint i = 0; i < t->partitions->len && !result; i++) {
        const Partition *p = t->partitions->pdata[i];
        g_auto(FileSystem) fs = {NULL};
        result = is_container(p) ? 0 : look_inside(image, p->start, p->size, &fs);
        const char *type = partition_type_name(p);
        if (a->json)
            add_partition(b, p, type, &fs);
        else
            print_line(p, type ? type : p->guid, &fs);
    }
    json_builder_end_array(b);
    json_builder_end_object(b);
    if (!result && a->json)
        disk_print_json(b);
    return result;
}

int disk_command_partitions(DiskArgs *a, GError **error)
{
    if (a->count != 1)
        return disk_usage(error, "partitions takes a file");
    g_autoptr(Image) image = disk_open_image(a, a->rest[0], a->letter['f'], true, error);
    if (!image)
        return -1;
    PartitionTable t;
    int result = partition_table_read(image, &t);
    if (!result && t.scheme == PARTITIONS_NONE && image->map->size) {
        /* The disk may be one file system. */
        Partition *whole = g_new0(Partition, 1);
        whole->size = image->map->size;
        g_ptr_array_add(t.partitions, whole);
    }
    g_autoptr(JsonBuilder) b = json_builder_new();
    if (!result)
        result = print_all(a, image, &t, b);
    partition_table_clear(&t);
    return result ? disk_fail(error, "read the partitions of", a->rest[0], result) : 0;
}
