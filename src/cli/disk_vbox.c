/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The disk verbs of vboxmanage, as its manual and the tutorials print them. */
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "block/formats/vdi.h"
#include "cli/disk.h"

typedef struct VboxArgs {
    GHashTable *values; /* option without dashes, in lower case → value ("" for flags) */
    GPtrArray *rest;
} VboxArgs;

typedef struct VboxCommand {
    const char *names[4];
    bool (*run)(VboxArgs *args, GError **error);
    const char *usage;
} VboxCommand;

static const char *value(const VboxArgs *a, const char *name)
{
    return g_hash_table_lookup(a->values, name);
}

static const char *rest(const VboxArgs *a, guint i)
{
    return i < a->rest->len ? a->rest->pdata[i] : NULL;
}

static bool usage(GError **error, const char *text)
{
    disk_usage(error, "%s", text);
    return false;
}

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
    const char *name = value(a, "format");
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

static bool vbox_create(VboxArgs *a, GError **error)
{
    const char *path = value(a, "filename"), *mib = value(a, "size"), *bytes;
    const char *variant = value(a, "variant"), *parent = value(a, "diffparent");
    uint64_t size = UINT64_MAX;
    const FormatDriver *format = target_format(a, error);
    if (!format)
        return false;
    bytes = value(a, "sizebyte");
    if (!path || (!mib && !bytes && !parent))
        return usage(error, "createmedium needs --filename FILE and --size MEGABYTES");
    if (mib || bytes)
        size = mib ? MIB(g_ascii_strtoull(mib, NULL, 10)) : g_ascii_strtoull(bytes, NULL, 10);
    const char *options[] = {variant ? variant_option(format->name, variant) : NULL, NULL};
    ImageCreate create = {
        .format = format->name, .size = size, .parent = parent, .options = options};
    if (!image_create(path, &create, error))
        return false;
    g_autoptr(Image) image = open_trusted(path, format->name, true, error);
    printf("0%%...10%%...20%%...30%%...40%%...50%%...60%%...70%%...80%%...90%%...100%%\n");
    if (image) {
        printf("Medium created. ");
        print_uuid(image);
    }
    return image != NULL;
}

static bool copy(VboxArgs *a, const char *source, const char *target, const char *source_format,
                 GError **error)
{
    const char *variant = value(a, "variant");
    const FormatDriver *format = target_format(a, error);
    g_autoptr(Image) from = format ? open_trusted(source, source_format, true, error) : NULL;
    if (!from)
        return false;
    if (!value(a, "format") && !source_format)
        format = from->driver;
    const char *options[] = {variant ? variant_option(format->name, variant) : NULL, NULL};
    DiskCopy how = {.format = format->name,
                    .options = options,
                    .progress = true,
                    .into_existing = value(a, "existing") != NULL};
    return disk_copy(from, target, &how, error);
}

static bool vbox_clone(VboxArgs *a, GError **error)
{
    if (!rest(a, 1))
        return usage(error, "clonemedium takes a source and a target");
    const char *kinds[] = {"disk", "dvd", "floppy"};
    guint first = 0;
    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++)
        first = a->rest->len == 3 && !strcmp(rest(a, 0), kinds[i]) ? 1 : first;
    if (!copy(a, rest(a, first), rest(a, first + 1), NULL, error))
        return false;
    printf("Clone medium created.\n");
    return true;
}

static bool vbox_convert_raw(VboxArgs *a, GError **error)
{
    if (!rest(a, 1))
        return usage(error, "convertfromraw takes a raw file and a target");
    printf("Converting from raw image file=\"%s\" to file=\"%s\"...\n", rest(a, 0), rest(a, 1));
    return copy(a, rest(a, 0), rest(a, 1), "raw", error);
}

static const char *last(const VboxArgs *a)
{
    return a->rest->len ? a->rest->pdata[a->rest->len - 1] : value(a, "filename");
}

static bool vbox_modify(VboxArgs *a, GError **error)
{
    const char *mib = value(a, "resize"), *bytes = value(a, "resizebyte");
    if (!last(a) || (!mib && !bytes && !value(a, "compact")))
        return usage(error, "modifymedium takes a file and --resize MEGABYTES or --compact");
    g_autoptr(Image) image = open_trusted(last(a), NULL, false, error);
    if (!image)
        return false;
    if (value(a, "compact"))
        return disk_compact_image(image, false, error);
    uint64_t size = mib ? MIB(g_ascii_strtoull(mib, NULL, 10)) : g_ascii_strtoull(bytes, NULL, 10);
    if (size < image->map->size)
        return usage(error, "shrinking would lose data; use 'ospite disk resize --shrink'");
    return image_resize(image, size, error);
}

static bool vbox_show(VboxArgs *a, GError **error)
{
    if (!last(a))
        return usage(error, "showmediuminfo takes a file");
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
    if (!rest(a, 1) || (rest(a, 2) && !uuid_parse_le(rest(a, 2), &uuid)))
        return usage(error, "sethduuid takes a file and perhaps a UUID");
    g_autoptr(Image) image = open_trusted(rest(a, 1), NULL, false, error);
    if (!image)
        return false;
    if (image->driver != &vdi_format)
        return usage(error, "only VDI images can get another UUID");
    g_autofree char *text = uuid_text_le(uuid);
    if (!vdi_set_uuid(image->map, uuid, error))
        return false;
    printf("UUID changed to: %s\n", text);
    return true;
}

/* A descriptor whose one extent is a raw disk. */
static bool create_raw_vmdk(VboxArgs *a, GError **error)
{
    const char *path = value(a, "filename"), *disk = value(a, "rawdisk");
    if (!path || !disk)
        return usage(error, "createrawvmdk needs -filename FILE and -rawdisk DISK");
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

static bool vbox_internal(VboxArgs *a, GError **error)
{
    const char *word = rest(a, 0) ? rest(a, 0) : "";
    if (!strcmp(word, "sethduuid"))
        return set_uuid(a, error);
    if (!strcmp(word, "createrawvmdk"))
        return create_raw_vmdk(a, error);
    return usage(error, "internalcommands has sethduuid and createrawvmdk");
}

static const VboxCommand commands[] = {
    {{"createmedium", "createhd", "createvdi"}, vbox_create, "--filename FILE --size MB"},
    {{"clonemedium", "clonehd", "clonevdi"}, vbox_clone, "SOURCE TARGET [--format F]"},
    {{"convertfromraw", "convertdd"}, vbox_convert_raw, "RAW TARGET [--format F]"},
    {{"modifymedium", "modifyhd", "modifyvdi"}, vbox_modify, "FILE --resize MB | --compact"},
    {{"showmediuminfo", "showhdinfo", "showvdiinfo"}, vbox_show, "FILE"},
    {{"internalcommands"}, vbox_internal, "sethduuid FILE [UUID] | createrawvmdk …"},
};

/* Options have one dash or two; these take no value. */
static void parse(VboxArgs *a, int argc, char **argv)
{
    static const char *const flags[] = {"compact", "existing", "relative"};
    for (int i = 0; i < argc; i++) {
        if (argv[i][0] != '-' || !argv[i][1]) {
            g_ptr_array_add(a->rest, argv[i]);
            continue;
        }
        char *name = g_ascii_strdown(argv[i] + 1 + (argv[i][1] == '-'), -1);
        char *equals = strchr(name, '=');
        bool flag = false;
        for (size_t k = 0; k < G_N_ELEMENTS(flags); k++)
            flag = flag || !strcmp(flags[k], name);
        const char *text = flag || (!equals && i + 1 >= argc) ? "" : equals ? NULL : argv[++i];
        if (equals) {
            *equals = 0;
            text = strchr(argv[i], '=') + 1;
        }
        g_hash_table_insert(a->values, name, (char *)text);
    }
}

static int run(const VboxCommand *command, int argc, char **argv)
{
    GError *error = NULL;
    VboxArgs a = {g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL), g_ptr_array_new()};
    parse(&a, argc, argv);
    bool good = command->run(&a, &error);
    if (error)
        g_printerr("vboxmanage: error: %s\n", error->message);
    g_clear_error(&error);
    g_hash_table_unref(a.values);
    g_ptr_array_unref(a.rest);
    return good ? 0 : 1;
}

int main_vboxmanage(int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : "help";
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        for (size_t k = 0; k < G_N_ELEMENTS(commands[i].names) && commands[i].names[k]; k++) {
            if (!strcmp(commands[i].names[k], word))
                return run(&commands[i], argc - 2, argv + 2);
        }
    }
    printf("vboxmanage, the disk verbs (by ospite %s):\n\n", OSPITE_VERSION);
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++)
        printf("  %-16s %s\n", commands[i].names[0], commands[i].usage);
    return strcmp(word, "help") ? 2 : 0;
}
