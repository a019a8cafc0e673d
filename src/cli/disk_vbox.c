/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The disk verbs of vboxmanage, as its manual and the tutorials print them. */
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "base/i18n.h"
#include "cli/beside.h"
#include "cli/disk.h"
#include "cli/vbox_raw.h"
#include "cli/vbox_words.h"

#define STDIN_PART MIB(1)

/* What --variant asks for in our words; NULL: the format's default. */
static const char *variant_option(const char *format, const char *variant)
{
    bool fixed = g_ascii_strcasecmp(variant, "Fixed") == 0;
    if (!strcmp(format, "vdi"))
        return fixed ? "static=on" : NULL;
    if (!strcmp(format, "vhd") || !strcmp(format, "vhdx"))
        return fixed ? "subformat=fixed" : NULL;
    if (strcmp(format, "vmdk"))
        return NULL;
    if (!g_ascii_strcasecmp(variant, "Stream"))
        return "subformat=streamOptimized";
    if (!g_ascii_strcasecmp(variant, "Split2G"))
        return "subformat=twoGbMaxExtentSparse";
    if (!g_ascii_strcasecmp(variant, "Fixed,Split2G") ||
        !g_ascii_strcasecmp(variant, "Split2G,Fixed"))
        return "subformat=twoGbMaxExtentFlat";
    return fixed ? "subformat=monolithicFlat" : NULL;
}

/* The format by --format, else VDI. */
static const FormatDriver *target_format(const VboxArgs *a, GError **error)
{
    const char *name = vbox_value(a, "format");
    return format_find(name ? name : "vdi", error);
}

static void print_uuid(Image *image)
{
    g_auto(GVariantDict) dict;
    g_autofree char *uuid = NULL;
    g_variant_dict_init(&dict, NULL);
    if (image->driver->describe)
        image->driver->describe(image->map, &dict);
    if (g_variant_dict_lookup(&dict, "uuid", "s", &uuid))
        printf("UUID: %s", uuid);
    printf("\n");
}

static bool read_number(const char *text, uint64_t unit, uint64_t *ret_size, GError **error)
{
    char *end;
    guint64 number = g_ascii_strtoull(text, &end, 10);
    if (!g_ascii_isdigit(*text) || *end || number > FORMAT_SIZE_MAX / unit)
        return vbox_usage(error, _("'%s' is no size"), text);
    *ret_size = number * unit;
    return true;
}

/* --size or --resize in MiB, or the same in bytes; false with an error, or where none is given. */
static bool read_size(const VboxArgs *a, const char *mib, const char *bytes, uint64_t *ret_size,
                      GError **error)
{
    if (vbox_value(a, mib))
        return read_number(vbox_value(a, mib), MIB(1), ret_size, error);
    return vbox_value(a, bytes) && read_number(vbox_value(a, bytes), 1, ret_size, error);
}

/* A name without an end gets the format's, as VirtualBox has it. */
static char *with_suffix(const char *path, const FormatDriver *format)
{
    g_autofree char *name = g_path_get_basename(path);
    return strchr(name, '.') ? g_strdup(path) : g_strdup_printf("%s.%s", path, format->name);
}

static Image *open_trusted(const char *path, const char *format, bool read_only, GError **error)
{
    ImageOptions options = {.format = format, .read_only = read_only, .trust_names = true};
    return image_open(path, &options, error);
}

/* A disk that becomes known, under a UUID that is printed then. */
static bool set_made(VboxArgs *a, const char *path, const FormatDriver *format)
{
    a->made = g_strdup(path);
    a->made_format = format->name;
    return true;
}

static bool create_medium(VboxArgs *a, GError **error)
{
    const char *name = vbox_value(a, "filename");
    const char *variant = vbox_value(a, "variant"), *parent = vbox_value(a, "diffparent");
    uint64_t size = UINT64_MAX;
    const FormatDriver *format = target_format(a, error);
    if (!format)
        return false;
    bool sized = read_size(a, "size", "sizebyte", &size, error);
    if (error && *error)
        return false;
    if (!name || (!sized && !parent))
        return vbox_usage(error, _("createmedium needs --filename FILE and --size MEGABYTES"));
    g_autofree char *path = with_suffix(name, format);
    const char *options[] = {variant ? variant_option(format->name, variant) : NULL, NULL};
    ImageCreate create = {
        .format = format->name, .size = size, .parent = parent, .options = options};
    if (!image_create(path, &create, error))
        return false;
    vbox_print_progress();
    printf("Medium created. ");
    return set_made(a, path, format);
}

/* The copy's format; NULL with an error. */
static const FormatDriver *copy(VboxArgs *a, const char *source, const char *target,
                                const char *source_format, GError **error)
{
    const char *variant = vbox_value(a, "variant");
    const FormatDriver *format = target_format(a, error);
    g_autoptr(Image) from = format ? open_trusted(source, source_format, true, error) : NULL;
    if (!from)
        return NULL;
    if (!vbox_value(a, "format") && !source_format)
        format = from->driver;
    const char *options[] = {variant ? variant_option(format->name, variant) : NULL, NULL};
    DiskCopy how = {.format = format->name,
                    .options = options,
                    .progress = true,
                    .into_existing = vbox_value(a, "existing") != NULL};
    return disk_copy(from, target, &how, error) ? format : NULL;
}

static bool clone_medium(VboxArgs *a, GError **error)
{
    if (!vbox_word(a, 1))
        return vbox_usage(error, _("clonemedium takes a source and a target"));
    const char *kinds[] = {"disk", "dvd", "floppy"};
    guint first = 0;
    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++)
        first = a->rest->len == 3 && !strcmp(vbox_word(a, 0), kinds[i]) ? 1 : first;
    const char *path = vbox_word(a, first + 1);
    const FormatDriver *format = copy(a, vbox_word(a, first), path, NULL, error);
    if (!format)
        return false;
    if (vbox_value(a, "existing") || (first && strcmp(vbox_word(a, 0), "disk"))) {
        printf("Clone medium created.\n");
        return true;
    }
    g_autofree char *name = g_ascii_strup(format->name, -1);
    printf("Clone medium created in format '%s'. ", name);
    return set_made(a, path, format);
}

/* What comes on standard input, as far as the disk reaches; what doesn't come is zeros. */
static bool fill_from_stdin(Image *image, GError **error)
{
    g_autofree uint8_t *data = g_malloc(STDIN_PART);
    int result = 0;
    for (uint64_t at = 0; at < image->map->size && !result; at += STDIN_PART) {
        uint64_t part = MIN(STDIN_PART, image->map->size - at);
        size_t got = fread(data, 1, part, stdin);
        memset(data + got, 0, part - got);
        if (!image_bytes_are_zero(data, part))
            result = image_write(image, at, data, part);
        if (got < part)
            break;
    }
    if (ferror(stdin))
        return format_fail(error, image->path, "standard input can't be read");
    result = result ? result : image_flush(image);
    return result ? format_fail_io(error, image->path, "write", result) : true;
}

static bool convert_stdin(VboxArgs *a, GError **error)
{
    const char *variant = vbox_value(a, "variant"), *path = vbox_word(a, 1);
    const FormatDriver *format = target_format(a, error);
    DiskTarget target = {NULL};
    uint64_t size;
    if (!format || !read_number(vbox_word(a, 2), 1, &size, error))
        return false;
    const char *options[] = {variant ? variant_option(format->name, variant) : NULL, NULL};
    ImageCreate create = {
        .format = format->name, .size = size, .options = options, .no_sync = true};
    if (!disk_target_create(&target, path, &create, error))
        return false;
    Image *image = open_trusted(path, format->name, false, error);
    bool good = image && fill_from_stdin(image, error);
    image_close(image);
    if (good)
        disk_target_forget(&target);
    else
        disk_target_remove(&target);
    return good;
}

static bool set_uuid(Image *image, Uuid uuid, GError **error)
{
    if (image->driver->set_uuid)
        return image->driver->set_uuid(image->map, uuid, error);
    return vbox_usage(error, _("images of the format '%s' have no UUID"), image->driver->name);
}

static bool give_uuid(const char *path, const char *text, GError **error)
{
    Uuid uuid;
    g_autoptr(Image) image = open_trusted(path, NULL, false, error);
    if (!image)
        return false;
    return uuid_parse_le(text, &uuid) ? set_uuid(image, uuid, error)
                                      : vbox_usage(error, _("'%s' is no UUID"), text);
}

static bool convert_raw(VboxArgs *a, GError **error)
{
    const char *uuid = vbox_value(a, "uuid");
    if (!vbox_word(a, 1) || (!strcmp(vbox_word(a, 0), "stdin") && !vbox_word(a, 2)))
        return vbox_usage(error, _("convertfromraw takes a raw file and a target, or stdin, a "
                                   "target and its size in bytes"));
    printf("Converting from raw image file=\"%s\" to file=\"%s\"...\n", vbox_word(a, 0),
           vbox_word(a, 1));
    bool good = vbox_word(a, 2) ? convert_stdin(a, error)
                                : copy(a, vbox_word(a, 0), vbox_word(a, 1), "raw", error) != NULL;
    return good && (!uuid || give_uuid(vbox_word(a, 1), uuid, error));
}

/* Old VirtualBoxes had `modifyvdi FILE compact`. */
static bool is_compact(const VboxArgs *a)
{
    guint count = a->rest->len;
    return vbox_value(a, "compact") || (count > 1 && !strcmp(a->rest->pdata[count - 1], "compact"));
}

static const char *last(const VboxArgs *a)
{
    guint count = a->rest->len;
    if (count > 1 && !strcmp(a->rest->pdata[count - 1], "compact"))
        count--;
    return count ? a->rest->pdata[count - 1] : vbox_value(a, "filename");
}

static bool modify_medium(VboxArgs *a, GError **error)
{
    uint64_t size;
    bool resizes = read_size(a, "resize", "resizebyte", &size, error);
    if (error && *error)
        return false;
    if (!last(a) || (!resizes && !is_compact(a)))
        return vbox_usage(error, _("modifymedium takes a file and --resize MEGABYTES, --compact or "
                                   "--type MODE"));
    g_autoptr(Image) image = open_trusted(last(a), NULL, false, error);
    if (!image)
        return false;
    if (is_compact(a))
        return disk_compact_image(image, false, error);
    if (size < image->map->size)
        return vbox_usage(error, _("shrinking would lose data; use 'ospite disk resize --shrink'"));
    return image_resize(image, size, error);
}

static bool show_medium(VboxArgs *a, GError **error)
{
    if (!last(a))
        return vbox_usage(error, _("showmediuminfo takes a file"));
    ImageOptions options = {.read_only = true, .only_look = true};
    g_autoptr(Image) image = image_open(last(a), &options, error);
    if (!image)
        return false;
    g_autofree char *full = g_canonicalize_filename(last(a), NULL);
    g_autofree char *format = g_ascii_strup(image->driver->name, -1);
    print_uuid(image);
    printf("Parent UUID:    %s\nState:          created\nType:           normal (%s)\n"
           "Location:       %s\nStorage format: %s\nCapacity:       %" G_GUINT64_FORMAT
           " MBytes\nEncryption:     %s\n",
           image->map->parent_name ? image->map->parent_name : "base",
           image->map->parent_name ? "differencing" : "base", full, format, image->map->size >> 20,
           image->map->encrypted ? "enabled" : "disabled");
    return true;
}

static bool set_image_uuid(VboxArgs *a, GError **error)
{
    Uuid uuid = uuid_random();
    if (!vbox_word(a, 1) || (vbox_word(a, 2) && !uuid_parse_le(vbox_word(a, 2), &uuid)))
        return vbox_usage(error, _("sethduuid takes a file and perhaps a UUID"));
    g_autoptr(Image) image = open_trusted(vbox_word(a, 1), NULL, false, error);
    if (!image)
        return false;
    g_autofree char *text = uuid_text_le(uuid);
    if (!set_uuid(image, uuid, error))
        return false;
    printf("UUID changed to: %s\n", text);
    return true;
}

static bool convert_to_raw(VboxArgs *a, GError **error)
{
    const char *format = vbox_value(a, "format");
    if (!vbox_word(a, 2))
        return vbox_usage(error, _("converttoraw takes an image and a target"));
    g_autoptr(Image) from = open_trusted(vbox_word(a, 1), format, true, error);
    DiskCopy how = {.format = "raw", .progress = true};
    return from && disk_copy(from, vbox_word(a, 2), &how, error);
}

static bool internal(VboxArgs *a, GError **error)
{
    const char *word = vbox_word(a, 0) ? vbox_word(a, 0) : "";
    if (!strcmp(word, "sethduuid") || !strcmp(word, "setvdiuuid"))
        return set_image_uuid(a, error);
    if (!strcmp(word, "createrawvmdk"))
        return vbox_create_raw(a, error);
    if (!strcmp(word, "listpartitions"))
        return vbox_list_partitions(a, error);
    if (!strcmp(word, "converttoraw"))
        return convert_to_raw(a, error);
    return vbox_usage(error, _("internalcommands has sethduuid, createrawvmdk, "
                               "listpartitions and converttoraw"));
}

/* ---- words ----------------------------------------------------------------------------------- */

static VboxRun *const commands[VBOX_DISK_WORDS] = {
    [VBOX_CREATE_MEDIUM] = create_medium, [VBOX_CLONE_MEDIUM] = clone_medium,
    [VBOX_CONVERT_RAW] = convert_raw,     [VBOX_MODIFY_MEDIUM] = modify_medium,
    [VBOX_SHOW_MEDIUM] = show_medium,     [VBOX_INTERNAL] = internal,
};

int main_vboxmanage(int argc, char **argv)
{
    int first = vbox_first_word(argc, argv);

    for (int i = 0; i < VBOX_DISK_WORDS && first < argc; i++) {
        g_auto(VboxArgs) args = {NULL};
        if (!vbox_is_word(&vbox_disk_words[i], argv[first]))
            continue;
        vbox_args_init(&args, argc - first - 1, argv + first + 1);
        /* The mode of a medium is the daemon's, and so is what UUIDs mean. */
        bool asks_daemon = i == VBOX_MODIFY_MEDIUM && vbox_value(&args, "type");
        for (guint k = 0; k < args.rest->len && i != VBOX_INTERNAL; k++)
            asks_daemon = asks_daemon || vbox_is_medium_uuid(args.rest->pdata[k]);
        if (asks_daemon)
            break;
        int status = vbox_run(commands[i], &args);
        char *words[] = {
            "vboxmanage", "openmedium", args.made, "--format", (char *)args.made_format, NULL};
        fflush(stdout);
        return args.made && !status ? run_beside("ospite-cli", words) : status;
    }
    return run_beside("ospite-cli", argv);
}
