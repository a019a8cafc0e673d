/* SPDX-License-Identifier: GPL-3.0-or-later */
/* `ospite disk` and `qemu-img`: one table of commands, their options and their errors. */
#include "cli/disk.h"
#include "base/i18n.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of a wrong command line; qemu-img has 1 for everything. */
#define EXIT_USAGE 2

static const DiskCommand commands[] = {
    {"create", "f:o:b:F:uq", disk_command_create,
     "[-f FORMAT] [-o OPTIONS] [-b PARENT [-F FORMAT]] "
     "FILE [SIZE]",
     N_("make an image")},
    {"info", "f:U", disk_command_info, "[-f FORMAT] [--backing-chain] FILE",
     N_("what an image is")},
    {"check", "f:r:qT:U", disk_command_check, "[-f FORMAT] [--repair] FILE", N_("look for damage")},
    {"convert", "f:O:o:b:B:F:l:cCnpqr:S:t:T:m:WU", disk_command_convert,
     "[-f FORMAT] [-O FORMAT] [-c] "
     "[-o OPTIONS] SOURCE... TARGET",
     N_("copy into another format")},
    {"clone", "f:O:pq", disk_command_clone, "[--linked] SOURCE TARGET",
     N_("copy, or make an image over this one")},
    {"resize", "f:q", disk_command_resize,
     "[--shrink] [--grow-partition] [--preallocation=MODE] FILE [+|-]SIZE", N_("change the size")},
    {"compact", "f:q", disk_command_compact, "FILE", N_("give space of zeros back to the host")},
    {"compare", "f:F:sqpT:U", disk_command_compare, "[-f FORMAT] [-F FORMAT] [-s] FILE FILE",
     N_("are two disks equal?")},
    {"map", "f:U", disk_command_map, "[-f FORMAT] [--start-offset N] [--max-length N] FILE",
     N_("where the data are")},
    {"snapshot", "f:lc:a:d:qU", disk_command_snapshot, "[-l | -c NAME | -a NAME | -d NAME] FILE",
     N_("snapshots inside an image")},
    {"rebase", "f:b:F:upqt:T:U", disk_command_rebase, "[-u] -b PARENT [-F FORMAT] FILE",
     N_("put an image over another parent")},
    {"commit", "f:b:dqpt:r:", disk_command_commit, "[-d] [-b PARENT] FILE",
     N_("write changes into the parent and empty the image")},
    {"merge", "f:qp", disk_command_merge, "FILE [CHILD]...",
     N_("the same, then remove it and put its children over the parent")},
    {"measure", "f:O:o:l:U", disk_command_measure, "[-O FORMAT] [-o OPTIONS] FILE | --size SIZE",
     N_("how large an image would be")},
    {"dd", "f:O:U", disk_command_dd,
     "[-f FORMAT] [-O FORMAT] if=FILE of=FILE [bs=N] [count=N] "
     "[skip=N]",
     N_("copy blocks of a disk")},
    {"partitions", "f:U", disk_command_partitions, "[-f FORMAT] FILE",
     N_("partitions, their file systems and where they begin")},
    {"encrypt", "f:O:o:pq", disk_command_encrypt,
     "[--key-file FILE] --new-key-file FILE [--add-key] SOURCE [TARGET] | --erase-key SLOT FILE",
     N_("encrypt an image, or change its keys")},
    {"serve", "f:k:b:P:x:D:re:l:", disk_command_serve,
     "[--socket PATH | --bind ADDRESS --port N] [--name NAME] [--read-only] [--once] FILE...",
     N_("export images to NBD clients")},
    {"mount", "f:l:q", disk_command_mount,
     "[-f FORMAT] [--snapshot NAME] [--writable] [--raw] [--foreground] FILE FOLDER",
     N_("show a disk and its partitions as files")},
    {"bench", "f:", disk_command_bench,
     "[-f FORMAT] [--pattern LIST] [--block SIZE] [--depth N] [--time SECONDS] [--overwrite] FILE",
     N_("how fast an image is")},
    {"unmount", "q", disk_command_unmount, "FOLDER", N_("take them away again")},
};

/* ---- options --------------------------------------------------------------------------------- */

enum {
    LONG_JSON = 256,
    LONG_OUTPUT,
    LONG_TRUST,
    LONG_SHRINK,
    LONG_REPAIR,
    LONG_LINKED,
    LONG_SIZE,
    LONG_GROW,
    LONG_SALVAGE,
    LONG_TARGET_IS_ZERO,
    LONG_BITMAPS,
    LONG_SKIP_BROKEN,
};
enum { LONG_OBJECT = 300, LONG_KEY, LONG_NEW_KEY, LONG_ADD_KEY, LONG_ERASE_KEY, LONG_IMAGE_OPTS };
enum { LONG_TARGET_IMAGE_OPTS = 320, LONG_START_OFFSET, LONG_MAX_LENGTH, LONG_PREALLOCATION };

static const struct option long_options[] = {
    {"json", no_argument, NULL, LONG_JSON},
    {"output", required_argument, NULL, LONG_OUTPUT},
    {"trust-backing", no_argument, NULL, LONG_TRUST},
    {"shrink", no_argument, NULL, LONG_SHRINK},
    {"repair", optional_argument, NULL, LONG_REPAIR},
    {"size", required_argument, NULL, LONG_SIZE},
    {"grow-partition", no_argument, NULL, LONG_GROW},
    {"linked", no_argument, NULL, LONG_LINKED},
    {"salvage", no_argument, NULL, LONG_SALVAGE},
    {"target-is-zero", no_argument, NULL, LONG_TARGET_IS_ZERO},
    {"bitmaps", no_argument, NULL, LONG_BITMAPS},
    {"skip-broken-bitmaps", no_argument, NULL, LONG_SKIP_BROKEN},
    {"object", required_argument, NULL, LONG_OBJECT},
    {"key-file", required_argument, NULL, LONG_KEY},
    {"new-key-file", required_argument, NULL, LONG_NEW_KEY},
    {"add-key", no_argument, NULL, LONG_ADD_KEY},
    {"erase-key", required_argument, NULL, LONG_ERASE_KEY},
    {"image-opts", no_argument, NULL, LONG_IMAGE_OPTS},
    {"target-image-opts", no_argument, NULL, LONG_TARGET_IMAGE_OPTS},
    {"start-offset", required_argument, NULL, LONG_START_OFFSET},
    {"max-length", required_argument, NULL, LONG_MAX_LENGTH},
    {"preallocation", required_argument, NULL, LONG_PREALLOCATION},
    {"format", required_argument, NULL, 'f'},
    {"force-share", no_argument, NULL, 'U'},
    {"backing-chain", no_argument, NULL, 'C'},
    {"progress", no_argument, NULL, 'p'},
    /* serve */
    {"socket", required_argument, NULL, 'k'},
    {"bind", required_argument, NULL, 'b'},
    {"port", required_argument, NULL, 'P'},
    {"name", required_argument, NULL, 'x'},
    {"description", required_argument, NULL, 'D'},
    {"read-only", no_argument, NULL, 'r'},
    {"clients", required_argument, NULL, 'e'},
    {"snapshot", required_argument, NULL, 'l'},
    {"once", no_argument, NULL, '1'},
    {"iops", required_argument, NULL, 'I'},
    {"bandwidth", required_argument, NULL, 'B'},
    {"tls-certificates", required_argument, NULL, 'T'},
    {"tls-verify-peer", no_argument, NULL, 'V'},
    {"tls-psk", required_argument, NULL, 'K'},
    {"quiet", no_argument, NULL, 'q'},
    /* mount */
    {"writable", no_argument, NULL, 'w'},
    {"foreground", no_argument, NULL, 'G'},
    {"raw", no_argument, NULL, 'R'},
    /* bench */
    {"pattern", required_argument, NULL, 'M'},
    {"block", required_argument, NULL, 'Z'},
    {"depth", required_argument, NULL, 'Q'},
    {"time", required_argument, NULL, 'Y'},
    {"overwrite", no_argument, NULL, 'W'},
    {NULL},
};

static void add_options(DiskArgs *a, const char *text)
{
    g_auto(GStrv) parts = g_strsplit(text, ",", -1);
    for (char **p = parts; *p; p++) {
        a->options_help |= !strcmp(*p, "help") || !strcmp(*p, "?");
        if (**p)
            g_ptr_array_add(a->options, g_strdup(*p));
    }
}

static int set_key(GBytes **key, const char *source, GError **error)
{
    g_clear_pointer(key, g_bytes_unref);
    *key = disk_key_read(source, error);
    return *key ? 0 : -1;
}

static int set_option(DiskArgs *a, int c, const char *value, GError **error)
{
    switch (c) {
    case LONG_JSON:
        a->json = true;
        return 0;
    case LONG_OUTPUT:
        a->json = !strcmp(value, "json");
        return a->json || !strcmp(value, "human")
                   ? 0
                   : disk_usage(error, "--output is human or json, not '%s'", value);
    case LONG_TRUST:
        a->trust = true;
        return 0;
    case LONG_SHRINK:
        a->shrink = true;
        return 0;
    case LONG_REPAIR:
        a->repair = true;
        return 0;
    case LONG_LINKED:
        a->linked = true;
        return 0;
    case LONG_SIZE:
        a->size = value;
        return 0;
    case LONG_GROW:
        a->grow_partition = true;
        return 0;
    case LONG_SALVAGE:
        a->salvage = true;
        return 0;
    case LONG_TARGET_IS_ZERO:
        a->target_is_zero = true;
        return 0;
    case LONG_BITMAPS:
        a->bitmaps = true;
        return 0;
    case LONG_SKIP_BROKEN:
        a->skip_broken_bitmaps = true;
        return 0;
    case LONG_OBJECT:
        return disk_key_add_object(a, value, error);
    case LONG_KEY:
        return set_key(&a->key, value, error);
    case LONG_NEW_KEY:
        return set_key(&a->new_key, value, error);
    case LONG_ADD_KEY:
        a->add_key = true;
        return 0;
    case LONG_ERASE_KEY:
        a->erase_key = value;
        return 0;
    case LONG_IMAGE_OPTS:
        a->image_options = true;
        return 0;
    case LONG_TARGET_IMAGE_OPTS:
        a->target_image_options = true;
        return 0;
    case LONG_START_OFFSET:
        a->start_offset = value;
        return 0;
    case LONG_MAX_LENGTH:
        a->max_length = value;
        return 0;
    case LONG_PREALLOCATION:
        a->preallocation = value;
        return 0;
    case 'o':
        add_options(a, value);
        return 0;
    default:
        a->letter[c] = value ? value : "";
        return 0;
    }
}

/* Modes of the host's cache; that data are durable is what they are about here. */
static int check_cache_mode(const char *mode, GError **error)
{
    static const char *const modes[] = {"none",       "writeback", "writethrough",
                                        "directsync", "unsafe",    NULL};
    return !mode || g_strv_contains(modes, mode)
               ? 0
               : disk_usage(error, "there is no cache mode '%s'", mode);
}

/* `resize FILE -1G`: what begins with a minus is no option there. */
static bool ends_with_difference(const DiskCommand *command, int argc, char **argv)
{
    return command->run == disk_command_resize && argc > 2 && argv[argc - 1][0] == '-' &&
           g_ascii_isdigit(argv[argc - 1][1]);
}

static int parse(DiskArgs *a, const DiskCommand *command, int argc, char **argv, GError **error)
{
    g_autofree char *letters = g_strconcat(":", command->letters, NULL);
    int c;
    optind = 0;
    int words = ends_with_difference(command, argc, argv) ? argc - 1 : argc;
    while ((c = getopt_long(words, argv, letters, long_options, NULL)) >= 0) {
        if (c == '?' || c == ':')
            return disk_usage(error, "%s '%s'; usage: %s %s %s",
                              c == ':' ? _("a value is missing after") : _("there is no option"),
                              argv[optind - 1], a->program, command->name, command->usage);
        if (set_option(a, c, optarg, error))
            return -1;
    }
    a->rest = argv + optind;
    a->count = argc - optind;
    a->quiet = a->letter['q'] != NULL;
    a->repair = a->repair || (a->letter['r'] && command->run == disk_command_check);
    g_ptr_array_add(a->options, NULL);
    if ((strstr(command->letters, "t:") && check_cache_mode(a->letter['t'], error)) ||
        (strstr(command->letters, "T:") && check_cache_mode(a->letter['T'], error)))
        return -1;
    return disk_key_resolve(a, error);
}

/* ---- errors ---------------------------------------------------------------------------------- */

static G_DEFINE_QUARK(disk - usage, usage_error)

    int disk_usage(GError **error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(_(format), args);
    va_end(args);
    g_set_error_literal(error, usage_error_quark(), 0, text);
    return -1;
}

int disk_refuse(GError **error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(_(format), args);
    va_end(args);
    g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED, text);
    return -1;
}

int disk_fail(GError **error, const char *doing, const char *path, int result)
{
    format_fail_io(error, path, doing, result);
    return -1;
}

static void print_help(const char *program)
{
    printf(_("Usage: %s COMMAND [OPTION]...\n\n"), program);
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++)
        printf("  %-9s %s\n            %s\n", commands[i].name, _(commands[i].help),
               commands[i].usage);
    printf(_("\nEvery command takes --json. Formats:"));
    for (const FormatDriver *const *d = format_drivers(); *d; d++)
        printf(" %s", (*d)->name);
    printf("\n");
}

static int run_command(const DiskCommand *command, const char *program, bool trust, int argc,
                       char **argv)
{
    GError *error = NULL;
    DiskArgs args = {.program = program, .trust = trust};
    args.options = g_ptr_array_new_with_free_func(g_free);
    int status = parse(&args, command, argc, argv, &error);
    args.progress = args.letter['p'] != NULL || (!trust && !args.quiet);
    if (!status)
        status = command->run(&args, &error);
    if (error)
        g_printerr("%s: %s\n", program, error->message);
    bool is_usage = error && error->domain == usage_error_quark();
    g_clear_error(&error);
    g_ptr_array_unref(args.options);
    disk_key_clear(&args);
    return status >= 0 ? status : is_usage && !trust ? EXIT_USAGE : EXIT_FAILURE;
}

/* Commands of QEMU's qemu-img, and what there is instead. */
static const struct {
    const char *name, *instead;
} foreign[] = {
    {"amend", N_("make an image with other options by 'ospite disk convert -o', and change its "
                 "passphrases with 'ospite disk encrypt'")},
    {"bitmap", N_("the dirty bitmaps of qcow2 images are kept, and copied by 'qemu-img convert "
                  "--bitmaps', but made, cleared and removed by QEMU's own qemu-img")},
};

static void say_unknown(const char *program, const char *word)
{
    for (size_t i = 0; i < G_N_ELEMENTS(foreign); i++) {
        if (!strcmp(foreign[i].name, word)) {
            g_printerr(_("%s: there is no command '%s': %s\n"), program, word,
                       _(foreign[i].instead));
            return;
        }
    }
    g_printerr(_("%s: there is no command '%s'; '%s help' lists them\n"), program, word, program);
}

static int dispatch(const char *program, bool trust, int argc, char **argv)
{
    const char *word = argc ? argv[0] : "help";
    if (!strcmp(word, "help") || !strcmp(word, "--help") || !strcmp(word, "-h")) {
        print_help(program);
        return 0;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (!strcmp(commands[i].name, word))
            return run_command(&commands[i], program, trust, argc, argv);
    }
    say_unknown(program, word);
    return trust ? EXIT_FAILURE : EXIT_USAGE;
}

int command_disk(int argc, char **argv)
{
    return dispatch("ospite disk", false, argc, argv);
}

int main_qemu_img(int argc, char **argv)
{
    if (argc > 1 && (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V"))) {
        printf("qemu-img version 7.2 (ospite %s)\n", OSPITE_VERSION);
        return 0;
    }
    return dispatch("qemu-img", true, argc - 1, argv + 1);
}

/* ---- shared ---------------------------------------------------------------------------------- */

Image *disk_open_image(const DiskArgs *args, const char *path, const char *format, bool read_only,
                       GError **error)
{
    ImageOptions options = {
        .format = format, .read_only = read_only, .trust_names = args->trust, .key = args->key};
    Image *image = image_open(path, &options, error);
    if (image && image->map->warning)
        g_printerr("%s: warning: %s: %s\n", args->program, path, image->map->warning);
    return image;
}

int disk_print_options(const char *format, GError **error)
{
    const FormatDriver *driver = format_find(format, error);
    if (!driver)
        return -1;
    printf("Supported %s options:\n", format);
    for (const FormatOption *o = driver->options; o && o->name; o++)
        printf("  %s=%s%s - %s\n", o->name, o->initial ? o->initial : "", o->initial ? "" : "<str>",
               o->help);
    if (driver->set_parent)
        printf("  backing_file=<str> - the parent\n  backing_fmt=<str> - its format\n");
    printf("  size=<size> - of the disk\n");
    return 0;
}

bool disk_as_qemu_img(const DiskArgs *args)
{
    return !strcmp(args->program, "qemu-img");
}

void disk_print_json(JsonText *json)
{
    puts(json->text->str);
}

char *disk_size_text(uint64_t size)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = (double)size;
    size_t unit = 0;
    for (; value >= 1000 && unit + 1 < G_N_ELEMENTS(units); unit++)
        value /= 1024;
    return g_strdup_printf("%.3g %s", value, units[unit]);
}
