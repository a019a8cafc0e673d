/* SPDX-License-Identifier: GPL-3.0-or-later */
/* disk partitions: where they are in any image, and what is in them. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/disk.h"
#include "cli/file_system.h"

/* ---- printing -------------------------------------------------------------------------------- */

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

static void add_partition(JsonText *b, const Partition *p, const char *type, const FileSystem *fs)
{
    json_begin(b, '{');
    if (p->number)
        json_add_int(b, "number", p->number);
    if (p->guid[0])
        json_add_string(b, "type-guid", p->guid);
    else if (p->number)
        json_add_int(b, "type-code", p->mbr_type);
    json_add_string(b, "type", type);
    json_add_string(b, "name", p->name);
    json_add_string(b, "file-system", fs->type);
    json_add_string(b, "label", fs->label);
    json_add_string(b, "uuid", fs->uuid);
    json_add_int(b, "start-sector", p->start / 512);
    json_add_int(b, "offset", p->start);
    json_add_int(b, "size", p->size);
    json_name(b, "active");
    json_bool(b, p->active);
    json_end(b, '}');
}

static int print_all(DiskArgs *a, Image *image, const PartitionTable *t, JsonText *b)
{
    static const char *const names[] = {"none", "mbr", "gpt"};
    json_begin(b, '{');
    json_add_int(b, "virtual-size", image->map->size);
    json_add_string(b, "table", names[t->scheme]);
    json_name(b, "partitions");
    json_begin(b, '[');
    if (!a->json)
        print_header(image->map->size, t->scheme);
    int result = 0;
    for (guint i = 0; i < t->partitions->len && !result; i++) {
        const Partition *p = t->partitions->pdata[i];
        g_auto(FileSystem) fs = {NULL};
        result = partition_is_container(p) ? 0 : file_system_look(image, p->start, p->size, &fs);
        const char *type = partition_type_name(p);
        if (a->json)
            add_partition(b, p, type, &fs);
        else
            print_line(p, type ? type : p->guid, &fs);
    }
    json_end(b, ']');
    json_end(b, '}');
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
    g_auto(JsonText) json;
    JsonText *b = &json;
    json_text_init(b);
    if (!result)
        result = print_all(a, image, &t, b);
    partition_table_clear(&t);
    return result ? disk_fail(error, "read the partitions of", a->rest[0], result) : 0;
}
