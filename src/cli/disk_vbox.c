/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The disk verbs of vboxmanage, as its manual and the tutorials print them. */
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "base/i18n.h"
#include "block/formats/vdi.h"
#include "cli/beside.h"
#include "cli/disk.h"
#include "cli/vbox_words.h"

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
        printf("UUID: %s\n", uuid);
}

static Image *open_trusted(const char *path, const char *format, bool read_only, GError **error)
{
    ImageOptions options = {.format = format, .read_only = read_only, .trust_names = true};
    return image_open(path, &options, error);
}

static bool create_medium(VboxArgs *a, GError **error)
{
    const char *path = vbox_value(a, "filename"), *mib = vbox_value(a, "size"), *bytes;
    const char *variant = vbox_value(a, "variant"), *parent = vbox_value(a, "diffparent");
    uint64_t size = UINT64_MAX;
    const FormatDriver *format = target_format(a, error);
    if (!format)
        return false;
    bytes = vbox_value(a, "sizebyte");
    if (!path || (!mib && !bytes && !parent))
        return vbox_usage(error, _("createmedium needs --filename FILE and --size MEGABYTES"));
    if (mib || bytes)
        size = mib ? MIB(g_ascii_strtoull(mib, NULL, 10)) : g_ascii_strtoull(bytes, NULL, 10);
    const char *options[] = {variant ? variant_option(format->name, variant) : NULL, NULL};
    ImageCreate create = {
        .format = format->name, .size = size, .parent = parent, .options = options};
    if (!image_create(path, &create, error))
        return false;
    g_autoptr(Image) image = open_trusted(path, format->name, true, error);
    vbox_print_progress();
    if (image) {
        printf("Medium created. ");
        print_uuid(image);
    }
    return image != NULL;
}

static bool copy(VboxArgs *a, const char *source, const char *target, const char *source_format,
                 GError **error)
{
    const char *variant = vbox_value(a, "variant");
    const FormatDriver *format = target_format(a, error);
    g_autoptr(Image) from = format ? open_trusted(source, source_format, true, error) : NULL;
    if (!from)
        return false;
    if (!vbox_value(a, "format") && !source_format)
        format = from->driver;
    const char *options[] = {variant ? variant_option(format->name, variant) : NULL, NULL};
    DiskCopy how = {.format = format->name,
                    .options = options,
                    .progress = true,
                    .into_existing = vbox_value(a, "existing") != NULL};
    return disk_copy(from, target, &how, error);
}

static bool clone_medium(VboxArgs *a, GError **error)
{
    if (!vbox_word(a, 1))
        return vbox_usage(error, _("clonemedium takes a source and a target"));
    const char *kinds[] = {"disk", "dvd", "floppy"};
    guint first = 0;
    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++)
        first = a->rest->len == 3 && !strcmp(vbox_word(a, 0), kinds[i]) ? 1 : first;
    if (!copy(a, vbox_word(a, first), vbox_word(a, first + 1), NULL, error))
        return false;
    printf("Clone medium created.\n");
    return true;
}

static bool convert_raw(VboxArgs *a, GError **error)
{
    if (!vbox_word(a, 1))
        return vbox_usage(error, _("convertfromraw takes a raw file and a target"));
    printf("Converting from raw image file=\"%s\" to file=\"%s\"...\n", vbox_word(a, 0),
           vbox_word(a, 1));
    return copy(a, vbox_word(a, 0), vbox_word(a, 1), "raw", error);
}

static const char *last(const VboxArgs *a)
{
    return a->rest->len ? a->rest->pdata[a->rest->len - 1] : vbox_value(a, "filename");
}

static bool modify_medium(VboxArgs *a, GError **error)
{
    const char *mib = vbox_value(a, "resize"), *bytes = vbox_value(a, "resizebyte");
    if (!last(a) || (!mib && !bytes && !vbox_value(a, "compact")))
        return vbox_usage(error, _("modifymedium takes a file and --resize MEGABYTES, --compact or "
                                   "--type MODE"));
    g_autoptr(Image) image = open_trusted(last(a), NULL, false, error);
    if (!image)
        return false;
    if (vbox_value(a, "compact"))
        return disk_compact_image(image, false, error);
    uint64_t size = mib ? MIB(g_ascii_strtoull(mib, NULL, 10)) : g_ascii_strtoull(bytes, NULL, 10);
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

static bool set_uuid(VboxArgs *a, GError **error)
{
    Uuid uuid = uuid_random();
    if (!vbox_word(a, 1) || (vbox_word(a, 2) && !uuid_parse_le(vbox_word(a, 2), &uuid)))
        return vbox_usage(error, _("sethduuid takes a file and perhaps a UUID"));
    g_autoptr(Image) image = open_trusted(vbox_word(a, 1), NULL, false, error);
    if (!image)
        return false;
    if (image->driver != &vdi_format)
        return vbox_usage(error, _("only VDI images can get another UUID"));
    g_autofree char *text = uuid_text_le(uuid);
    if (!vdi_set_uuid(image->map, uuid, error))
        return false;
    printf("UUID changed to: %s\n", text);
    return true;
}

/* A descriptor whose one extent is a raw disk. */
static bool create_raw_vmdk(VboxArgs *a, GError **error)
{
    const char *path = vbox_value(a, "filename"), *disk = vbox_value(a, "rawdisk");
    if (!path || !disk)
        return vbox_usage(error, _("createrawvmdk needs -filename FILE and -rawdisk DISK"));
    g_autoptr(Image) raw = open_trusted(disk, "raw", true, error);
    if (!raw)
        return false;
    g_autofree char *text = g_strdup_printf(
        "# Disk DescriptorFile\nversion=1\nCID=%08x\nparentCID=ffffffff\n"
        "createType=\"fullDevice\"\n\n# Extent description\nRW %" G_GUINT64_FORMAT
        " FLAT \"%s\" 0\n\n#DDB\nddb.virtualHWVersion = \"4\"\nddb.adapterType = \"ide\"\n",
        g_random_int() & 0x7fffffff, raw->map->size / 512, disk);
    return g_file_set_contents(path, text, -1, error);
}

static bool internal(VboxArgs *a, GError **error)
{
    const char *word = vbox_word(a, 0) ? vbox_word(a, 0) : "";
    if (!strcmp(word, "sethduuid"))
        return set_uuid(a, error);
    if (!strcmp(word, "createrawvmdk"))
        return create_raw_vmdk(a, error);
    return vbox_usage(error, _("internalcommands has sethduuid and createrawvmdk"));
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
        /* The mode of a medium is the daemon's. */
        if (i != VBOX_MODIFY_MEDIUM || !vbox_value(&args, "type"))
            return vbox_run(commands[i], &args);
    }
    return run_beside("ospite-cli", argv);
}
