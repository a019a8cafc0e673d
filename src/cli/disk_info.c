/* SPDX-License-Identifier: GPL-3.0-or-later */
/* disk info: what an image is, in the words and fields of qemu-img. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/address.h"
#include "base/i18n.h"
#include "cli/disk.h"
#include "cli/progress.h"

/* As image_open() has it. */
#define CHAIN_MAX 200

/* False where nobody can tell: on another machine. */
static bool space_used(const char *path, uint64_t *ret)
{
    struct stat st;
    bool known = stat(path, &st) == 0;
    *ret = known ? (uint64_t)st.st_blocks * 512 : 0;
    return known;
}

static bool lie_together(const char *a, const char *b)
{
    g_autofree char *x = g_path_get_dirname(a), *y = g_path_get_dirname(b);
    return !strcmp(x, y);
}

/* Of those in the image's folder: nobody learns from `info` what lies elsewhere. */
static uint64_t extents_space(GVariant *extents, const char *path)
{
    uint64_t sum = 0;
    for (gsize i = 0; i < g_variant_n_children(extents); i++) {
        g_autoptr(GVariant) extent = g_variant_get_child_value(extents, i);
        const char *name = NULL;
        uint64_t used;
        if (g_variant_lookup(extent, "filename", "&s", &name) && strcmp(name, path) &&
            lie_together(name, path) && space_used(name, &used))
            sum += used;
    }
    return sum;
}

/* With the other files that the image names, which are not opened. */
static bool image_space(const Image *image, GVariant *details, uint64_t *ret)
{
    if (!space_used(image->path, ret))
        return false;
    g_autoptr(GVariant) extents = g_variant_lookup_value(details, "extents", NULL);
    *ret += extents ? extents_space(extents, image->path) : 0;
    return true;
}

static GVariant *details_of(const Image *image)
{
    g_auto(GVariantDict) dict;
    g_variant_dict_init(&dict, NULL);
    if (image->driver->describe)
        image->driver->describe(image->map, &dict);
    return g_variant_ref_sink(g_variant_dict_end(&dict));
}

/* The parent's name as seen from here, without looking whether it is there. */
static char *full_parent_name(const Image *image)
{
    const char *name = image->map->parent_name, *slash = strrchr(image->path, '/');
    if (!name || *name == '/' || !slash || is_address(name))
        return g_strdup(name);
    return g_strdup_printf("%.*s%s", (int)(slash + 1 - image->path), image->path, name);
}

/* What scripts that know qemu-img look for. */
static const char *format_name(const DiskArgs *a, const Image *image)
{
    return disk_as_qemu_img(a) && image->driver == &vhd_format ? "vpc" : image->driver->name;
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static void add_snapshots(JsonText *b, const Image *image)
{
    g_autoptr(GPtrArray) list =
        image->driver->snapshots ? image->driver->snapshots->list(image->map) : NULL;
    if (!list || !list->len)
        return;
    json_name(b, "snapshots");
    json_begin(b, '[');
    for (guint i = 0; i < list->len; i++) {
        const SnapshotInfo *s = list->pdata[i];
        json_begin(b, '{');
        if (s->icount != UINT64_MAX)
            json_add_int(b, "icount", (int64_t)s->icount);
        json_add_int(b, "vm-clock-nsec", (int64_t)(s->vm_clock_ns % 1000000000));
        json_add_string(b, "name", s->name);
        json_add_int(b, "date-sec", s->date_s);
        json_add_int(b, "date-nsec", s->date_ns);
        json_add_int(b, "vm-clock-sec", (int64_t)(s->vm_clock_ns / 1000000000));
        json_add_string(b, "id", s->id);
        json_add_int(b, "vm-state-size", (int64_t)s->vm_state_size);
        json_end(b, '}');
    }
    json_end(b, ']');
}

/* qemu-img tells nothing particular of some formats. */
static bool is_ours_alone(const Image *image)
{
    return image->driver == &vdi_format || image->driver == &vhd_format ||
           image->driver == &vhdx_format;
}

static void add_details(const DiskArgs *a, JsonText *b, const Image *image)
{
    g_autoptr(GVariant) details = details_of(image);
    if (!g_variant_n_children(details) || (disk_as_qemu_img(a) && is_ours_alone(image)))
        return;
    json_name(b, "format-specific");
    json_begin(b, '{');
    json_add_string(b, "type", image->driver->name);
    json_name(b, "data");
    json_variant(b, details);
    json_end(b, '}');
}

static void build_info(const DiskArgs *a, JsonText *b, const Image *image)
{
    uint64_t used;
    g_autofree char *full = full_parent_name(image);
    json_begin(b, '{');
    json_add_int(b, "virtual-size", (int64_t)image->map->size);
    json_add_string(b, "filename", image->path);
    if (image->map->unit_size)
        json_add_int(b, "cluster-size", image->map->unit_size);
    json_add_string(b, "format", format_name(a, image));
    g_autoptr(GVariant) details = details_of(image);
    if (image_space(image, details, &used))
        json_add_int(b, "actual-size", (int64_t)used);
    add_details(a, b, image);
    if (full)
        json_add_string(b, "full-backing-filename", full);
    if (image->map->parent_name)
        json_add_string(b, "backing-filename", image->map->parent_name);
    if (image->map->parent_format)
        json_add_string(b, "backing-filename-format", image->map->parent_format);
    add_snapshots(b, image);
    if (image->map->encrypted) {
        json_name(b, "encrypted");
        json_bool(b, TRUE);
    }
    json_name(b, "dirty-flag");
    json_bool(b, image->map->needs_repair);
    json_end(b, '}');
}

/* ---- for people ------------------------------------------------------------------------------ */

/* In this order; what is not here comes after. */
static const char *const detail_names[] = {
    "compat",         "compression-type",
    "lazy-refcounts", "bitmaps",
    "encrypt",        "refcount-bits",
    "data-file",      "data-file-raw",
    "corrupt",        "extended-l2",
    "variant",        "uuid",
    "parent-uuid",    "cid",
    "parent-cid",     "create-type",
    "compressed",     "virtual-size",
    "filename",       "cluster-size",
    "format",
};

static guint rank_of(const char *name)
{
    for (guint i = 0; i < G_N_ELEMENTS(detail_names); i++) {
        if (!strcmp(detail_names[i], name))
            return i;
    }
    return G_N_ELEMENTS(detail_names);
}

static gint compare_names(gconstpointer a, gconstpointer b)
{
    const char *x = *(const char *const *)a, *y = *(const char *const *)b;
    guint one = rank_of(x), two = rank_of(y);
    return one != two ? (one > two) - (one < two) : strcmp(x, y);
}

static void print_value(GVariant *value, int indent);

static void print_child(const char *label, GVariant *value, int indent)
{
    printf("%*s%s:%s", indent, "", label, g_variant_is_container(value) ? "\n" : " ");
    print_value(value, indent + 4);
}

static void print_dict(GVariant *dict, int indent)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    GVariantIter iter;
    char *name;
    g_variant_iter_init(&iter, dict);
    while (g_variant_iter_next(&iter, "{sv}", &name, NULL))
        g_ptr_array_add(names, name);
    g_ptr_array_sort(names, compare_names);
    for (guint i = 0; i < names->len; i++) {
        g_autoptr(GVariant) value = g_variant_lookup_value(dict, names->pdata[i], NULL);
        g_autofree char *words = g_strdelimit(g_strdup(names->pdata[i]), "-", ' ');
        print_child(words, value, indent);
    }
}

static void print_list(GVariant *list, int indent)
{
    for (gsize i = 0; i < g_variant_n_children(list); i++) {
        g_autoptr(GVariant) value = g_variant_get_child_value(list, i);
        g_autofree char *label = g_strdup_printf("[%" G_GSIZE_FORMAT "]", i);
        print_child(label, value, indent);
    }
}

static void print_value(GVariant *value, int indent)
{
    if (g_variant_is_of_type(value, G_VARIANT_TYPE_VARDICT)) {
        print_dict(value, indent);
    } else if (g_variant_is_container(value)) {
        print_list(value, indent);
    } else {
        g_autofree char *text = g_variant_is_of_type(value, G_VARIANT_TYPE_STRING)
                                    ? g_variant_dup_string(value, NULL)
                                    : g_variant_print(value, FALSE);
        printf("%s\n", text);
    }
}

static void print_details(const DiskArgs *a, const Image *image)
{
    g_autoptr(GVariant) details = details_of(image);
    if (!g_variant_n_children(details) || (disk_as_qemu_img(a) && is_ours_alone(image)))
        return;
    printf("Format specific information:\n");
    print_dict(details, 4);
}

static void print_info(const DiskArgs *a, const Image *image)
{
    g_autofree char *size = disk_size_text(image->map->size);
    uint64_t space;
    g_autoptr(GVariant) details = details_of(image);
    g_autofree char *used =
        image_space(image, details, &space) ? disk_size_text(space) : g_strdup("unavailable");
    g_autofree char *full = full_parent_name(image);
    printf("image: %s\nfile format: %s\nvirtual size: %s (%" G_GUINT64_FORMAT
           " bytes)\ndisk size: %s\n",
           image->path, format_name(a, image), size, image->map->size, used);
    if (image->map->encrypted)
        printf("encrypted: yes\n");
    if (image->map->unit_size)
        printf("cluster_size: %u\n", image->map->unit_size);
    if (image->map->parent_name && g_strcmp0(full, image->map->parent_name))
        printf("backing file: %s (actual path: %s)\n", image->map->parent_name, full);
    else if (image->map->parent_name)
        printf("backing file: %s\n", image->map->parent_name);
    if (image->map->parent_format)
        printf("backing file format: %s\n", image->map->parent_format);
    disk_print_snapshots(image);
    print_details(a, image);
}

static void tell(const DiskArgs *a, JsonText *b, const Image *image, bool is_first)
{
    if (a->json) {
        build_info(a, b, image);
        return;
    }
    printf("%s", is_first ? "" : "\n");
    print_info(a, image);
}

/* Opens nothing else than this file (SAFETY §2); its parents, if it is asked to. */
static bool tell_chain(const DiskArgs *a, JsonText *b, const char *path, const char *format,
                       bool with_parents, GError **error)
{
    g_autofree char *at = g_strdup(path), *at_format = g_strdup(format);
    for (int depth = 0; at && depth < CHAIN_MAX; depth++) {
        ImageOptions options = {.format = at_format, .read_only = true, .only_look = true};
        g_autoptr(Image) image = image_open(at, &options, error);
        if (!image)
            return false;
        tell(a, b, image, !depth);
        char *parent = with_parents && image->map->parent_name
                           ? image_resolve_name(at, image->map->parent_name, a->trust, error)
                           : NULL;
        if (with_parents && image->map->parent_name && !parent)
            return false;
        g_free(at_format);
        at_format = g_strdup(image->map->parent_format);
        g_free(at);
        at = parent && g_str_has_prefix(parent, "./") ? g_strdup(parent + 2) : g_strdup(parent);
        g_free(parent);
    }
    return !at || format_fail(error, path, "its chain of parents is too long; is it a loop?");
}

static bool print_infos(const DiskArgs *a, const char *path, const char *format, bool with_parents,
                        GError **error)
{
    g_auto(JsonText) json;
    json_text_init(&json);
    if (with_parents)
        json_begin(&json, '[');
    bool good = tell_chain(a, &json, path, format, with_parents, error);
    if (with_parents)
        json_end(&json, ']');
    if (good && a->json)
        disk_print_json(&json);
    return good;
}

bool disk_info_print(const DiskArgs *a, const char *path, const char *format, GError **error)
{
    return print_infos(a, path, format, false, error);
}

int disk_print_changed(const DiskArgs *a, const char *path, const char *format, GError **error)
{
    return a->json && !disk_info_print(a, path, format, error) ? -1 : 0;
}

int disk_command_info(DiskArgs *a, GError **error)
{
    if (a->count != 1)
        return disk_usage(error, "info takes a file");
    return print_infos(a, a->rest[0], a->letter['f'], a->letter['C'] != NULL, error) ? 0 : -1;
}

/* ---- check ----------------------------------------------------------------------------------- */

enum { CHECK_GOOD = 0, CHECK_FAILED = 1, CHECK_CORRUPT = 2, CHECK_LEAKS = 3, CHECK_NONE = 63 };

static void print_check_json(const DiskArgs *a, const Image *image, const CheckResult *r)
{
    g_auto(JsonText) json;
    JsonText *b = &json;
    json_text_init(b);
    const struct {
        const char *name;
        uint64_t value;
        bool always;
    } fields[] = {
        {"image-end-offset", r->end_offset, true},
        {"total-clusters", r->total_units, true},
        {"check-errors", r->errors, true},
        {"allocated-clusters", r->allocated_units, true},
        {"corruptions", r->corruptions},
        {"leaks", r->leaks},
        {"corruptions-fixed", r->corruptions_fixed},
        {"leaks-fixed", r->leaks_fixed},
        {"fragmented-clusters", r->fragmented_units},
        {"compressed-clusters", r->compressed_units},
    };
    json_begin(b, '{');
    for (size_t i = 0; i < G_N_ELEMENTS(fields); i++) {
        if (fields[i].value || fields[i].always)
            json_add_int(b, fields[i].name, (int64_t)fields[i].value);
    }
    json_add_string(b, "filename", image->path);
    json_add_string(b, "format", format_name(a, image));
    json_end(b, '}');
    disk_print_json(b);
}

static void print_check(const CheckResult *r)
{
    for (guint i = 0; r->messages && i < r->messages->len; i++)
        printf("%s\n", (char *)r->messages->pdata[i]);
    if (r->corruptions_fixed || r->leaks_fixed)
        printf("Repaired: %" G_GUINT64_FORMAT " errors, %" G_GUINT64_FORMAT " leaks.\n",
               r->corruptions_fixed, r->leaks_fixed);
    if (r->corruptions || r->errors)
        printf("\n%" G_GUINT64_FORMAT " errors were found on the image.\n"
               "Data may be corrupted, or further writes to the image may corrupt it.\n",
               r->corruptions + r->errors);
    if (r->leaks)
        printf("\n%" G_GUINT64_FORMAT " leaked clusters were found on the image.\n"
               "This means waste of disk space, but no harm to data.\n",
               r->leaks);
    if (!r->corruptions && !r->errors && !r->leaks)
        printf("No errors were found on the image.\n");
    if (r->total_units)
        printf("%" G_GUINT64_FORMAT "/%" G_GUINT64_FORMAT " = %.2f%% allocated, %.2f%% fragmented, "
               "%.2f%% compressed clusters\n",
               r->allocated_units, r->total_units,
               (double)r->allocated_units * 100 / (double)r->total_units,
               (double)r->fragmented_units * 100 / (double)MAX(r->allocated_units, 1),
               (double)r->compressed_units * 100 / (double)MAX(r->allocated_units, 1));
    printf("Image end offset: %" G_GUINT64_FORMAT "\n", r->end_offset);
}

static bool check_with_bar(const DiskArgs *a, Image *image, CheckResult *r, GError **error)
{
    Progress bar;
    progress_begin(&bar, a->progress, image->map->size);
    image->map->progress = progress_part;
    image->map->progress_obj = &bar;
    bool good = image->driver->check(image->map, a->repair, r, error);
    image->map->progress = NULL;
    progress_end(&bar);
    return good;
}

int disk_command_check(DiskArgs *a, GError **error)
{
    CheckResult r = {0};
    const char *what = a->letter['r'];
    if (a->count != 1)
        return disk_usage(error, "check takes a file");
    if (what && strcmp(what, "leaks") && strcmp(what, "all"))
        return disk_usage(error, "-r takes 'leaks' or 'all', not '%s'", what);
    ImageOptions options = {.format = a->letter['f'],
                            .read_only = !a->repair,
                            .no_parents = true,
                            .ignore_damage = true,
                            .keeps_locked = true,
                            .trust_names = a->trust};
    g_autoptr(Image) image = image_open(a->rest[0], &options, error);
    if (!image)
        return CHECK_FAILED;
    /* Who calls us qemu-img expects its answer of a VHD; `ospite disk check` looks into it. */
    if (disk_as_qemu_img(a) && (!image->driver->check || image->driver == &vhd_format)) {
        g_printerr("qemu-img: This image format does not support checks\n");
        return CHECK_NONE;
    }
    if (!image->driver->check) {
        g_printerr(_("%s: the format %s has nothing to check\n"), a->program, image->driver->name);
        return CHECK_NONE;
    }
    if (!check_with_bar(a, image, &r, error))
        return CHECK_FAILED;
    if (a->json)
        print_check_json(a, image, &r);
    else if (!a->quiet)
        print_check(&r);
    g_clear_pointer(&r.messages, g_ptr_array_unref);
    return r.errors ? CHECK_FAILED : r.corruptions ? CHECK_CORRUPT : r.leaks ? CHECK_LEAKS : 0;
}
