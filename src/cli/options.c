/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The options of `ospite run`, one table that fills a VmConfig: long names, and the short habits of
 * the field (-hda, -m, -smp …). An option may begin with one or two dashes; its value follows as
 * the next word or after
 * "=".
 */
#include "cli/options.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "base/i18n.h"
#include "block/format.h"
#include "runner/gdb.h"

typedef struct Option Option;
typedef bool (*OptionFn)(RunOptions *o, const Option *option, const char *value, GError **error);

struct Option {
    const char *names; /* separated by spaces; the first is shown */
    const char *value; /* what --help calls it; NULL: the option takes none */
    OptionFn set;
    const char *path; /* the setting that a plain setter sets … */
    size_t offset;    /* … or the field of RunOptions */
    int argument;     /* for the setter */
    const char *help; /* NULL: another spelling, not listed */
};

static bool usage_error(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);
static bool usage_error(GError **error, const char *format, ...)
{
    va_list args;
    g_autofree char *text = NULL;

    va_start(args, format);
    text = g_strdup_vprintf(_(format), args);
    va_end(args);
    g_set_error_literal(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, text);
    return false;
}

static const char *keep(RunOptions *o, char *text)
{
    g_ptr_array_add(o->strings, text);
    return text;
}

static bool set(RunOptions *o, const char *path, const char *value, GError **error)
{
    return vm_tree_set(o->config, path, value, error);
}

/* A file's name: the configuration takes no "..", which here means from the current folder. */
static bool set_file(RunOptions *o, const char *path, const char *name, GError **error)
{
    g_auto(GStrv) parts = g_strsplit(name, "/", -1);
    g_autofree char *folder = NULL, *absolute = NULL;

    if (*name == '/' || !g_strv_contains((const char *const *)parts, ".."))
        return set(o, path, name, error);
    folder = g_get_current_dir();
    absolute = g_build_filename(folder, name, NULL);
    return set(o, path, absolute, error);
}

/* ---- setters --------------------------------------------------------------------------------- */

static bool set_text(RunOptions *o, const Option *option, const char *value, GError **error)
{
    *(const char **)((char *)o + option->offset) = value;
    return true;
}

static bool set_setting(RunOptions *o, const Option *option, const char *value, GError **error)
{
    return set(o, option->path, option->value ? value : "on", error);
}

static bool set_file_setting(RunOptions *o, const Option *option, const char *value, GError **error)
{
    return set_file(o, option->path, value, error);
}

static bool set_flag(RunOptions *o, const Option *option, const char *value, GError **error)
{
    *(bool *)((char *)o + option->offset) = option->argument;
    return true;
}

/* A number with an optional suffix; without one it counts MiB. */
static bool set_memory(RunOptions *o, const Option *option, const char *value, GError **error)
{
    static const char suffixes[] = "KMGT";
    char *end;
    uint64_t number, unit = MIB(1);
    const char *suffix;
    g_autofree char *text = NULL;

    errno = 0;
    number = g_ascii_strtoull(value, &end, 10);
    if (errno || end == value || *value == '-')
        return usage_error(error, "--memory cannot be '%s'; use a size such as 512M or 2G", value);
    if (*end) {
        suffix = strchr(suffixes, g_ascii_toupper(*end));
        if (!suffix ||
            (end[1] && g_ascii_strcasecmp(end + 1, "B") && g_ascii_strcasecmp(end + 1, "iB")))
            return usage_error(error, "--memory cannot be '%s'; use a size such as 512M or 2G",
                               value);
        unit = KIB(1) << 10 * (suffix - suffixes);
    }
    if (!g_uint64_checked_mul(&number, number, unit))
        number = UINT64_MAX & ~(MIB(1) - 1);
    if (number < PC_MEMORY_MIN || number > PC_MEMORY_MAX) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    _("a VM cannot have %" PRIu64 " MiB of memory; choose from %" PRIu64
                      " to %" PRIu64 " MiB (--memory)"),
                    number / MIB(1), PC_MEMORY_MIN / MIB(1), PC_MEMORY_MAX / MIB(1));
        return false;
    }
    text = g_strdup_printf("%" G_GUINT64_FORMAT, number);
    return set(o, "system.memory", text, error);
}

static bool set_cpus(RunOptions *o, const Option *option, const char *value, GError **error)
{
    guint64 number;

    if (g_str_has_prefix(value, "cpus="))
        value += strlen("cpus=");
    if (!g_ascii_string_to_unsigned(value, 10, 1, VM_MAX_VCPUS, &number, NULL))
        return usage_error(error, "--cpus cannot be '%s'; use a number from 1 to %d", value,
                           VM_MAX_VCPUS);
    return set(o, "system.cpus", value, error);
}

/* werror=, rerror= */
static bool set_error_policy(PcErrorPolicy *policy, const char *option, const char *name,
                             const char *value, GError **error)
{
    for (unsigned i = !strcmp(name, "rerror"); pc_error_policy_name(i); i++) {
        if (!strcmp(pc_error_policy_name(i), value)) {
            *policy = i;
            return true;
        }
    }
    return usage_error(error, "%s: %s '%s' must be stop, report, ignore%s", option, name, value,
                       !strcmp(name, "werror") ? " or enospc" : "");
}

static bool set_drive_mode(PcDrive *drive, const char *option, const char *value, GError **error)
{
    for (unsigned i = 0; pc_drive_mode_name(i); i++) {
        if (!strcmp(pc_drive_mode_name(i), value)) {
            drive->mode = i;
            return true;
        }
    }
    return usage_error(error,
                       "%s: mode '%s' must be normal, immutable, writethrough, shareable, readonly "
                       "or multiattach",
                       option, value);
}

static bool set_drive_property(RunOptions *o, PcDrive *drive, const char *option, char *property,
                               GError **error)
{
    char *value = strchr(property, '=');
    guint64 number;

    if (value)
        *value++ = '\0';
    if (!strcmp(property, "readonly") || !strcmp(property, "ro")) {
        drive->mode = !value || !strcmp(value, "on") ? PC_DRIVE_READONLY : PC_DRIVE_NORMAL;
    } else if (!strcmp(property, "mode") && value) {
        return set_drive_mode(drive, option, value, error);
    } else if (!strcmp(property, "difference") && value) {
        drive->difference = keep(o, g_strdup(value));
    } else if (!strcmp(property, "format") && value) {
        drive->format = keep(o, g_strdup(value));
    } else if (!strcmp(property, "key-file") && value) {
        drive->key_file = keep(o, g_strdup(value));
    } else if (!strcmp(property, "trust-backing")) {
        drive->trust_names = !value || !strcmp(value, "on") || !strcmp(value, "true");
    } else if (!strcmp(property, "werror") && value) {
        return set_error_policy(&drive->on_write_error, option, property, value, error);
    } else if (!strcmp(property, "rerror") && value) {
        return set_error_policy(&drive->on_read_error, option, property, value, error);
    } else if (!strcmp(property, "iops") && value) {
        if (!g_ascii_string_to_unsigned(value, 10, 1, G_MAXUINT32, &number, NULL))
            return usage_error(error, "%s: iops '%s' must be a number", option, value);
        drive->throttle.iops = number;
    } else if (!strcmp(property, "bandwidth") && value) {
        if (!format_parse_size(value, &drive->throttle.bytes))
            return usage_error(error, "%s: bandwidth '%s' must be a size such as 50M", option,
                               value);
    } else if (!strcmp(property, "bus") && value) {
        if (strcmp(value, "ide"))
            return usage_error(error, "%s: bus '%s' is not there; this version has ide", option,
                               value);
    } else if (!strcmp(property, "index") && value) {
        if (!g_ascii_string_to_unsigned(value, 10, 0, 3, &number, NULL))
            return usage_error(error, "%s: index '%s' must be from 0 to 3", option, value);
        drive->index = (int)number;
    } else {
        return usage_error(error,
                           "%s: unknown property '%s'; use bus=ide, format=NAME, readonly, mode=…, "
                           "difference=FILE, key-file=FILE, trust-backing, werror=…, rerror=…, "
                           "iops=N, bandwidth=SIZE or "
                           "index=N",
                           option, property);
    }
    return true;
}

/* FILE[,property…]; a comma in a file name is written twice. `index` -1: the first free place. */
static bool add_drive(RunOptions *o, PcDriveKind kind, int index, const char *option,
                      const char *value, GError **error)
{
    PcDrive *drive = &o->drives[o->drive_count];
    g_autoptr(GString) path = g_string_new(NULL);
    g_auto(GStrv) properties = NULL;

    if (o->drive_count == PC_DRIVE_MAX)
        return usage_error(error, "%s %s: a machine has at most %d drives", option, value,
                           PC_DRIVE_MAX);
    for (; *value && (*value != ',' || value[1] == ','); value++) {
        g_string_append_c(path, *value);
        value += *value == ',';
    }
    *drive = (PcDrive){.kind = kind, .index = index};
    drive->path = path->len ? keep(o, g_strdup(path->str)) : NULL;
    if (!drive->path && kind == PC_DRIVE_DISK)
        return usage_error(error, "%s needs the name of a disk image", option);
    properties = g_strsplit(*value ? value + 1 : "", ",", -1);
    for (char **p = properties; *p; p++) {
        if (!set_drive_property(o, drive, option, *p, error))
            return false;
    }
    o->drive_count++;
    return true;
}

static bool set_disk(RunOptions *o, const Option *option, const char *value, GError **error)
{
    return add_drive(o, PC_DRIVE_DISK, option->argument, "--disk", value, error);
}

static bool set_cdrom(RunOptions *o, const Option *option, const char *value, GError **error)
{
    return add_drive(o, PC_DRIVE_CDROM, -1, "--cdrom", value, error);
}

static bool set_floppy(RunOptions *o, const Option *option, const char *value, GError **error)
{
    return add_drive(o, PC_DRIVE_FLOPPY, option->argument, "--floppy", value, error);
}

/* "cd" → "disk,cdrom"; a letter that comes again counts once. */
static bool set_boot_order(RunOptions *o, const char *letters, GError **error)
{
    static const char *const words[] = {
        ['a'] = "floppy", ['c'] = "disk", ['d'] = "cdrom", ['n'] = "network"};
    g_autoptr(GString) order = g_string_new(NULL);

    for (const char *at = letters; *at; at++) {
        if (memchr(letters, *at, at - letters) == NULL)
            g_string_append_printf(order, "%s%s", order->len ? "," : "", words[(uint8_t)*at]);
    }
    return set(o, "system.boot", order->str, error);
}

/* "dc", "order=dc", "menu=on", or both with a comma. */
static bool set_boot(RunOptions *o, const Option *option, const char *value, GError **error)
{
    g_auto(GStrv) parts = g_strsplit(value, ",", -1);

    for (char **p = parts; *p; p++) {
        const char *order = g_str_has_prefix(*p, "order=") ? *p + strlen("order=") : *p;
        if (g_str_has_prefix(*p, "menu=")) {
            bool on = !strcmp(*p + strlen("menu="), "on");
            if (!set(o, "system.boot-menu", on ? "on" : "off", error))
                return false;
            continue;
        }
        if (!*order || strspn(order, "acdn") != strlen(order))
            return usage_error(error,
                               "--boot cannot be '%s'; name devices in order: a floppy, c disk, d "
                               "CD-ROM, n network",
                               *p);
        if (!set_boot_order(o, order, error))
            return false;
    }
    return true;
}

static bool set_serial(RunOptions *o, const Option *option, const char *value, GError **error)
{
    g_autofree char *path = NULL;

    if (o->serial_count == PC_SERIAL_MAX)
        return usage_error(error, "--serial %s: a machine has at most %d serial ports", value,
                           PC_SERIAL_MAX);
    path = g_strdup_printf("serial.%u.backend", o->serial_count++);
    return set(o, path, value, error);
}

static bool set_display(RunOptions *o, const Option *option, const char *value, GError **error)
{
    if (!strcmp(value, "none"))
        return true;
    return usage_error(
        error, "--display cannot be '%s'; this version has none (use --serial and --screenshot)",
        value);
}

static bool set_rtc(RunOptions *o, const Option *option, const char *value, GError **error)
{
    if (g_str_has_prefix(value, "base="))
        value += strlen("base=");
    if (g_str_has_prefix(value, "local"))
        return set(o, "system.rtc", "local", error);
    if (!strcmp(value, "utc"))
        return set(o, "system.rtc", value, error);
    return usage_error(error, "--rtc cannot be '%s'; use utc or local", value);
}

static bool set_debug_exit(RunOptions *o, const Option *option, const char *value, GError **error)
{
    char *end;
    guint64 port = g_ascii_strtoull(value, &end, 0);
    g_autofree char *text = g_strdup_printf("%" G_GUINT64_FORMAT, port);

    if (!strcmp(value, "none"))
        return set(o, "debug.exit-port", "0", error);
    if (end == value || *end || port == 0 || port > 0xfffc)
        return usage_error(error, "--debug-exit cannot be '%s'; use a port such as 0xf4, or none",
                           value);
    return set(o, "debug.exit-port", text, error);
}

static bool set_control(RunOptions *o, const Option *option, const char *value, GError **error)
{
    if (!g_str_has_prefix(value, "unix:") || !value[strlen("unix:")])
        return usage_error(error, "--control cannot be '%s'; use unix:PATH", value);
    o->control = value + strlen("unix:");
    return true;
}

static bool set_gdb(RunOptions *o, const Option *option, const char *value, GError **error)
{
    if (!gdb_place_is_valid(value))
        return usage_error(error, "--gdb cannot be '%s'; use unix:PATH or tcp:PORT", value);
    o->gdb = value;
    return true;
}

/* ---- the table ------------------------------------------------------------------------------ */

#define AT(member) offsetof(RunOptions, member)

static const Option options_table[] = {
    {"memory m", "SIZE", set_memory, NULL, 0, 0, N_("guest memory, 1M to 64G (default 512M)")},
    {"cpus smp", "N", set_cpus, NULL, 0, 0, N_("number of CPUs, 1 to 32 (default 1)")},
    {"cpu", "MODEL", set_setting, "system.cpu", 0, 0,
     N_("CPU model[,+feature,-feature] (default host)")},
    {"paravirt", "KIND", set_setting, "system.paravirt", 0, 0,
     N_("clocks and interrupts for guests that know they are one: none, kvm, hyperv, both (default "
        "kvm)")},
    {"engine accel", "NAME", set_setting, "system.engine", 0, 0,
     N_("auto, kvm, soft, interp, jit, or none: no CPU at all (default auto)")},
    {"disk", "FILE[,…]", set_disk, NULL, 0, -1,
     N_("hard disk; bus=ide, format=qcow2, readonly, mode=immutable, index=N")},
    {"hda", "FILE", set_disk, NULL, 0, 0, NULL},
    {"hdb", "FILE", set_disk, NULL, 0, 1, NULL},
    {"hdc", "FILE", set_disk, NULL, 0, 2, NULL},
    {"hdd", "FILE", set_disk, NULL, 0, 3, NULL},
    {"cdrom", "FILE[,…]", set_cdrom, NULL, 0, 0, N_("CD-ROM; an empty name is an empty drive")},
    {"floppy", "FILE[,…]", set_floppy, NULL, 0, -1, N_("floppy disk")},
    {"fda", "FILE", set_floppy, NULL, 0, 0, NULL},
    {"fdb", "FILE", set_floppy, NULL, 0, 1, NULL},
    {"boot", "ORDER", set_boot, NULL, 0, 0,
     N_("order=cdn (a floppy, c disk, d CD-ROM, n network), menu=on")},
    {"firmware bios", "FILE", set_file_setting, "system.firmware-file", 0, 0,
     N_("BIOS image in place of SeaBIOS")},
    {"kernel", "FILE", set_file_setting, "kernel.file", 0, 0,
     N_("boot this kernel: Linux, ELF with PVH, Multiboot")},
    {"initrd", "FILE", set_setting, "kernel.initrd", 0, 0,
     N_("initial RAM disk, or Multiboot modules separated by commas")},
    {"append", "TEXT", set_setting, "kernel.append", 0, 0, N_("the kernel's command line")},
    {"serial", "WHERE", set_serial, NULL, 0, 0,
     N_("stdio, file:PATH, unix:PATH, console:PATH, pty or none; up to four (default stdio)")},
    {"parallel", "WHERE", set_setting, "parallel.0.backend", 0, 0,
     N_("the same for the parallel port")},
    {"debugcon", "WHERE", set_setting, "debug.console", 0, 0,
     N_("the same for the firmware's debug console, port 0x402")},
    {"display", "none", set_display, NULL, 0, 0,
     N_("this version shows the screen by --screenshot alone")},
    {"nographic", NULL, set_flag, NULL, AT(help), false, NULL},
    {"screenshot", "FILE", set_text, NULL, AT(screenshot), 0,
     N_("write the screen as PNG when the machine ends")},
    {"rtc", "BASE", set_rtc, NULL, 0, 0, N_("utc or local (default utc)")},
    {"debug-exit", "PORT", set_debug_exit, NULL, 0, 0,
     N_("port that ends the machine (default 0xf4), or none")},
    {"testdev", NULL, set_setting, "debug.testdev", 0, 0,
     N_("ports, interrupt lines and memory that test suites ask for")},
    {"control", "unix:PATH", set_control, NULL, 0, 0,
     N_("socket for commands while it runs (docs/control.md)")},
    {"gdb", "WHERE", set_gdb, NULL, 0, 0,
     N_("let GDB look into the guest, at unix:PATH or tcp:PORT of this host (docs/debugging.md)")},
    {"gdb-wait", NULL, set_flag, NULL, AT(gdb_wait), true,
     N_("begin stopped, until GDB says continue")},
    {"trace", "EVENTS", set_text, NULL, AT(trace), 0,
     N_("log exec, block, mmu, irq, separated by commas; file=PATH says where (default stderr)")},
    {"perf-map", "SYMBOLS", set_text, NULL, AT(perf_map), 0,
     N_("tell perf what translated code is, by a System.map; - without names (engine jit)")},
    {"stats", "FILE", set_text, NULL, AT(stats), 0,
     N_("write the engine's counters as JSON when the machine ends; - is standard output")},
    {"no-reboot", NULL, set_flag, NULL, AT(no_reboot), true, N_("end instead of a reset")},
    {"help h", NULL, set_flag, NULL, AT(help), true, N_("this text")},
};

static bool name_matches(const char *names, const char *word, size_t length)
{
    for (const char *name = names; name; name = strchr(name, ' ') ? strchr(name, ' ') + 1 : NULL) {
        size_t own = strcspn(name, " ");
        if (own == length && !memcmp(name, word, length))
            return true;
    }
    return false;
}

static const Option *find_option(const char *word, size_t length)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(options_table); i++) {
        if (name_matches(options_table[i].names, word, length))
            return &options_table[i];
    }
    return NULL;
}

/* One option at argv[*at]; moves *at to the last word used. */
static bool parse_one(RunOptions *o, int argc, char **argv, int *at, GError **error)
{
    const char *word = argv[*at],
               *name = word + (word[0] == '-') + (word[0] == '-' && word[1] == '-');
    size_t length = strcspn(name, "=");
    const Option *option = word[0] == '-' ? find_option(name, length) : NULL;
    const char *value = name[length] ? name + length + 1 : NULL;

    if (word[0] != '-')
        return usage_error(error, "'%s' is no option; a disk image goes with --disk %s", word,
                           word);
    if (!option)
        return usage_error(error, "unknown option '%s'; see ospite run --help", word);
    if (!option->value && value)
        return usage_error(error, "'%.*s' takes no value", (int)(name - word + length), word);
    if (option->value && !value) {
        if (*at + 1 >= argc)
            return usage_error(error, "'%s' needs a value: %s", word, option->value);
        value = argv[++*at];
    }
    return option->set(o, option, value, error);
}

static bool put_drive_number(RunOptions *o, const char *place, const char *name, uint64_t value,
                             GError **error)
{
    g_autofree char *path = g_strconcat(place, name, NULL);
    g_autofree char *text = g_strdup_printf("%" G_GUINT64_FORMAT, value);

    return !value || set(o, path, text, error);
}

static bool put_drive_policy(RunOptions *o, const char *place, const char *name,
                             PcErrorPolicy policy, GError **error)
{
    g_autofree char *path = g_strconcat(place, name, NULL);

    return policy == PC_ERROR_DEFAULT || set(o, path, pc_error_policy_name(policy), error);
}

static bool put_drive(RunOptions *o, const PcDrive *drive, GError **error)
{
    static const char *const types[] = {
        [PC_DRIVE_DISK] = "disk", [PC_DRIVE_CDROM] = "cdrom", [PC_DRIVE_FLOPPY] = "floppy"};
    g_autofree char *place = g_strdup_printf(
        "storage.%s.%d", drive->kind == PC_DRIVE_FLOPPY ? "floppy0" : "ide0", drive->index);
    g_autofree char *type = g_strconcat(place, ".type", NULL);
    g_autofree char *medium = g_strconcat(place, ".medium", NULL);
    g_autofree char *format = g_strconcat(place, ".format", NULL);
    g_autofree char *mode = g_strconcat(place, ".mode", NULL);
    g_autofree char *difference = g_strconcat(place, ".difference", NULL);
    g_autofree char *key_file = g_strconcat(place, ".key-file", NULL);
    g_autofree char *trust = g_strconcat(place, ".trust-backing", NULL);

    return set(o, type, types[drive->kind], error) &&
           (!drive->path || set_file(o, medium, drive->path, error)) &&
           (!drive->key_file || set_file(o, key_file, drive->key_file, error)) &&
           (!drive->format || set(o, format, drive->format, error)) &&
           (!drive->mode || set(o, mode, pc_drive_mode_name(drive->mode), error)) &&
           (!drive->trust_names || set(o, trust, "true", error)) &&
           (!drive->difference || set_file(o, difference, drive->difference, error)) &&
           put_drive_policy(o, place, ".on-write-error", drive->on_write_error, error) &&
           put_drive_policy(o, place, ".on-read-error", drive->on_read_error, error) &&
           put_drive_number(o, place, ".iops", drive->throttle.iops, error) &&
           put_drive_number(o, place, ".bandwidth", drive->throttle.bytes, error);
}

static bool put_drives(RunOptions *o, GError **error)
{
    if (!pc_place_drives(o->drives, o->drive_count, error))
        return false;
    for (unsigned i = 0; i < o->drive_count; i++) {
        if (!put_drive(o, &o->drives[i], error))
            return false;
    }
    return true;
}

/* What a machine of the command line has if nothing else is said. */
static bool put_defaults(RunOptions *o, GError **error)
{
    g_autofree char *exit_port = g_strdup_printf("%d", PC_DEBUG_EXIT_PORT);

    return vm_tree_remove(o->config, "serial.0", error) &&
           set(o, "debug.exit-port", exit_port, error);
}

bool run_options_parse(RunOptions *options, int argc, char **argv, GError **error)
{
    *options = (RunOptions){.config = vm_config_new("run", error),
                            .strings = g_ptr_array_new_with_free_func(g_free)};
    if (!options->config || !put_defaults(options, error))
        return false;
    for (int i = 0; i < argc; i++) {
        if (!parse_one(options, argc, argv, &i, error))
            return false;
    }
    if (!vm_tree_has(options->config, "kernel.file") &&
        (vm_tree_has(options->config, "kernel.initrd") ||
         vm_tree_has(options->config, "kernel.append")))
        return usage_error(error, "%s goes with --kernel",
                           vm_tree_has(options->config, "kernel.initrd") ? "--initrd" : "--append");
    if (options->gdb_wait && !options->gdb)
        return usage_error(error, "--gdb-wait goes with --gdb");
    if (!options->serial_count && !set(options, "serial.0.backend", "stdio", error))
        return false;
    return put_drives(options, error);
}

void run_options_clear(RunOptions *options)
{
    g_clear_pointer(&options->config, vm_tree_free);
    g_clear_pointer(&options->strings, g_ptr_array_unref);
}

void run_options_print_help(void)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(options_table); i++) {
        const Option *option = &options_table[i];
        g_autofree char *left = NULL;
        if (!option->help)
            continue;
        left = g_strdup_printf("--%.*s %s", (int)strcspn(option->names, " "), option->names,
                               option->value ? option->value : "");
        printf("  %-22s %s\n", left, _(option->help));
    }
}
