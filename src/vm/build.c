/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "vm/build.h"

#include <string.h>

#include "base/bits.h"
#include "base/i18n.h"
#include "vm/path.h"
#include "vm/text.h"

/* ---- what this version lacks
 * --------------------------------------------------------------------- */

/* Settings of which the board has one value only; it leaves this table when it learns another. */
static const struct {
    const char *path, *only;
} only_values[] = {
    {"system.firmware", "bios"},  {"display.monitors", "1"},
    {"display.vnc", ""},          {"display.rdp", ""},
    {"input.keyboard", "ps2"},    {"input.pointer", "ps2"},
    {"audio.adapter", "none"},    {"usb.controller", "none"},
    {"guest.clipboard", "off"},   {"guest.drag-and-drop", "off"},
    {"guest.time-sync", "false"}, {"guest.balloon", "0"},
    {"limits.network", "0"},
};

/* Lists whose elements the board has no place for. */
static const struct {
    const char *path, *what;
} no_lists[] = {
    {"network", N_("network adapters")},
    {"shared", N_("shared folders")},
};

static void G_GNUC_PRINTF(2, 3) lacks(GPtrArray *missing, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_ptr_array_add(missing, g_strdup_vprintf(format, args));
    va_end(args);
}

static void missing_modes(const VmConfig *config, const char *controller, GPtrArray *missing)
{
    g_auto(GStrv) slots = vm_tree_keys(config, "storage.%s", controller);

    for (char **slot = slots; *slot; slot++) {
        g_autofree char *mode = vm_tree_string(config, "storage.%s.%s.mode", controller, *slot);
        g_autofree char *type = vm_tree_string(config, "storage.%s.%s.type", controller, *slot);
        if (strcmp(type, "disk") != 0 &&
            !text_has_word("normal writethrough readonly", mode, strlen(mode)))
            lacks(missing,
                  _("storage.%s.%s.mode: only hard disks can be '%s'; a %s is normal, writethrough "
                    "or readonly"),
                  controller, *slot, mode, type);
    }
}

static void missing_storage(const VmConfig *config, GPtrArray *missing)
{
    g_auto(GStrv) controllers = vm_tree_keys(config, "storage");
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

    for (char **name = controllers; *name; name++) {
        g_autofree char *type = vm_tree_string(config, "storage.%s.type", *name);
        if (!text_has_word("ide floppy", type, strlen(type)))
            lacks(missing,
                  _("storage.%s.type: this version has no '%s' controllers; it has ide and floppy"),
                  *name, type);
        else if (g_hash_table_contains(seen, type))
            lacks(missing, _("storage.%s: this version has one controller of type '%s' at most"),
                  *name, type);
        missing_modes(config, *name, missing);
        g_hash_table_add(seen, g_steal_pointer(&type));
    }
}

static void missing_display(const VmConfig *config, GPtrArray *missing)
{
    g_autofree char *adapter = vm_tree_string(config, "display.adapter");
    g_autofree char *vram = vm_tree_string(config, "display.vram");

    if (!strcmp(adapter, "virtio"))
        lacks(missing, _("display.adapter: this version cannot do '%s', only '%s'"), adapter,
              "none, vga");
    if (!is_power_of_two(vm_tree_number(config, "display.vram")))
        lacks(missing, _("display.vram: this version cannot do '%s'; take a power of two"), vram);
}

GPtrArray *vm_build_missing(const VmConfig *config)
{
    GPtrArray *missing = g_ptr_array_new_with_free_func(g_free);
    for (unsigned i = 0; i < G_N_ELEMENTS(only_values); i++) {
        const char *only = only_values[i].only;
        g_autofree char *value = vm_tree_string(config, "%s", only_values[i].path);
        if (strcmp(value, only) != 0 && *only)
            lacks(missing, _("%s: this version cannot do '%s', only '%s'"), only_values[i].path,
                  value, only);
        else if (strcmp(value, only) != 0)
            lacks(missing, _("%s: this version cannot do that; leave it empty"),
                  only_values[i].path);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(no_lists); i++) {
        g_auto(GStrv) keys = vm_tree_keys(config, "%s", no_lists[i].path);
        if (*keys)
            lacks(missing, _("%s.%s: this version has no %s; remove it"), no_lists[i].path, *keys,
                  _(no_lists[i].what));
    }
    missing_display(config, missing);
    missing_storage(config, missing);
    return missing;
}

/* It would seem to work until the day it is needed. */
bool vm_build_can_set(const VmConfig *old, const VmConfig *config, GError **error)
{
    g_autofree char *before = old ? vm_tree_string(old, "autostart.stop") : NULL;
    g_autofree char *stop = vm_tree_string(config, "autostart.stop");

    return strcmp(stop, "save") || !g_strcmp0(before, stop) ||
           vm_error(error, G_IO_ERROR_NOT_SUPPORTED,
                    _("autostart.stop: this version cannot save a running machine's state; use "
                      "acpi or poweroff"));
}

/* ---- building -----------------------------------------------------------------------------------
 */

typedef struct Builder {
    const VmConfig *config;
    const VmBuildOptions *options;
    VmBuild *build;
} Builder;

/* Takes the text; NULL for an empty one, as PcConfig has it. */
static const char *keep(const Builder *b, char *text)
{
    if (!text || !*text) {
        g_free(text);
        return NULL;
    }
    g_ptr_array_add(b->build->strings, text);
    return text;
}

static const char *keep_value(const Builder *b, const char *path)
{
    return keep(b, vm_tree_string(b->config, "%s", path));
}

static bool keep_path(const Builder *b, const char *path, const char **ret_path, GError **error)
{
    g_autofree char *value = vm_tree_string(b->config, "%s", path);
    char *resolved = *value ? vm_path_resolve(b->options->folder, value, error) : NULL;

    *ret_path = keep(b, resolved);
    return resolved || !*value;
}

/* "a.mod arguments,b.mod": the names are found from the machine's folder. */
static bool build_initrd(const Builder *b, GError **error)
{
    g_autofree char *value = vm_tree_string(b->config, "kernel.initrd");
    g_auto(GStrv) modules = NULL;

    if (b->options->folder) {
        modules = g_strsplit(value, ",", -1);
        for (char **module = modules; *module; module++) {
            size_t length = strcspn(*module, " ");
            g_autofree char *name = g_strndup(*module, length);
            g_autofree char *path =
                length ? vm_path_resolve(b->options->folder, name, error) : g_strdup("");
            char *whole;
            if (!path)
                return false;
            whole = g_strconcat(path, *module + length, NULL);
            g_free(*module);
            *module = whole;
        }
        g_free(value);
        value = g_strjoinv(",", modules);
    }
    b->build->pc.initrd = keep(b, g_steal_pointer(&value));
    return true;
}

/* A stream's specification with "console" and relative paths put in their final form. */
static bool build_stream(const Builder *b, const char *path, const char **ret_spec, GError **error)
{
    static const char *const kinds[] = {"file:", "unix:", "console:"};
    g_autofree char *value = vm_tree_string(b->config, "%s", path);

    if (!strcmp(value, "console")) {
        *ret_spec = b->options->console ? b->options->console : "none";
        return true;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        g_autofree char *file = NULL;
        if (!g_str_has_prefix(value, kinds[i]))
            continue;
        file = vm_path_resolve(b->options->folder, value + strlen(kinds[i]), error);
        if (!file)
            return false;
        g_free(value);
        value = g_strconcat(kinds[i], file, NULL);
    }
    *ret_spec = keep(b, g_steal_pointer(&value));
    return true;
}

static bool build_streams(const Builder *b, GError **error)
{
    PcConfig *pc = &b->build->pc;

    for (unsigned i = 0; i < PC_SERIAL_MAX; i++) {
        g_autofree char *path = g_strdup_printf("serial.%u.backend", i);
        if (vm_tree_has(b->config, path) && !build_stream(b, path, &pc->serial[i], error))
            return false;
    }
    for (unsigned i = 0; i < PC_PARALLEL_MAX; i++) {
        g_autofree char *path = g_strdup_printf("parallel.%u.backend", i);
        if (!build_stream(b, path, &pc->parallel[i], error))
            return false;
    }
    return build_stream(b, "debug.console", &pc->debug_console, error);
}

static PcErrorPolicy error_policy(const VmConfig *config, const char *place, const char *name)
{
    g_autofree char *word = vm_tree_string(config, "%s.%s", place, name);
    unsigned policy = 0;

    while (strcmp(pc_error_policy_name(policy), word)) /* the table of settings has no others */
        policy++;
    return policy;
}

static PcDriveMode drive_mode(const VmConfig *config, const char *place)
{
    g_autofree char *word = vm_tree_string(config, "%s.mode", place);
    unsigned mode = 0;

    while (strcmp(pc_drive_mode_name(mode), word)) /* the table of settings has no others */
        mode++;
    return mode;
}

static bool needs_difference(PcDriveMode mode)
{
    return mode == PC_DRIVE_IMMUTABLE || mode == PC_DRIVE_MULTIATTACH;
}

char *vm_build_difference(const VmConfig *config, const char *folder, const char *place,
                          GError **error)
{
    g_autofree char *value = vm_tree_string(config, "%s.difference", place);

    if (!needs_difference(drive_mode(config, place)))
        return NULL;
    if (!*value && folder) {
        g_free(value);
        value = g_strdup_printf("difference-%s.qcow2", place + strlen("storage."));
    }
    return *value ? vm_path_resolve(folder, value, error) : NULL;
}

static bool build_difference(const Builder *b, const char *place, PcDrive *drive, GError **error)
{
    g_autoptr(GError) why = NULL;

    drive->difference = keep(b, vm_build_difference(b->config, b->options->folder, place, &why));
    if (why) {
        g_propagate_error(error, g_steal_pointer(&why));
        return false;
    }
    if (drive->mode != PC_DRIVE_MULTIATTACH || drive->difference)
        return true;
    return vm_error(error, G_IO_ERROR_INVALID_ARGUMENT,
                    _("%s.difference is missing: say in which file the machine's own changes of "
                      "the multi-attach disk are kept"),
                    place);
}

static bool build_drive(const Builder *b, const char *place, unsigned slot, GError **error)
{
    static const struct {
        const char *type;
        PcDriveKind kind;
    } kinds[] = {{"disk", PC_DRIVE_DISK}, {"cdrom", PC_DRIVE_CDROM}, {"floppy", PC_DRIVE_FLOPPY}};
    g_autofree char *type = vm_tree_string(b->config, "%s.type", place);
    g_autofree char *medium = g_strconcat(place, ".medium", NULL);
    g_autofree char *format = g_strconcat(place, ".format", NULL);
    g_autofree char *key_file = g_strconcat(place, ".key-file", NULL);
    PcConfig *pc = &b->build->pc;
    PcDrive *drive = &pc->drives[pc->drive_count];

    g_assert(pc->drive_count < PC_DRIVE_MAX); /* one IDE and one floppy controller */
    *drive = (PcDrive){.index = (int)slot,
                       .mode = drive_mode(b->config, place),
                       .trust_names = vm_tree_bool(b->config, "%s.trust-backing", place),
                       .on_write_error = error_policy(b->config, place, "on-write-error"),
                       .on_read_error = error_policy(b->config, place, "on-read-error"),
                       .throttle = {.iops = vm_tree_number(b->config, "%s.iops", place),
                                    .bytes = vm_tree_number(b->config, "%s.bandwidth", place)}};
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        if (!strcmp(kinds[i].type, type))
            drive->kind = kinds[i].kind;
    }
    drive->format = keep_value(b, format);
    if (!keep_path(b, medium, &drive->path, error) ||
        !keep_path(b, key_file, &drive->key_file, error) ||
        !build_difference(b, place, drive, error))
        return false;
    if (drive->path && !drive->format && !b->options->probe) {
        if (drive->kind == PC_DRIVE_DISK)
            return vm_error(error, G_IO_ERROR_INVALID_ARGUMENT,
                            _("%s is missing: the image's format is never guessed at a start; set "
                              "it, or attach the image again"),
                            format);
        drive->format = "raw";
    }
    pc->drive_count++;
    return true;
}

static bool build_storage(const Builder *b, GError **error)
{
    g_auto(GStrv) controllers = vm_tree_keys(b->config, "storage");

    for (char **name = controllers; *name; name++) {
        g_auto(GStrv) slots = vm_tree_keys(b->config, "storage.%s", *name);
        for (char **slot = slots; *slot; slot++) {
            g_autofree char *place = g_strdup_printf("storage.%s.%s", *name, *slot);
            if (!build_drive(b, place, (unsigned)g_ascii_strtoull(*slot, NULL, 10), error))
                return false;
        }
    }
    return true;
}

/* "disk,cdrom" → "cd", as firmware counts. */
static char *boot_letters(const VmConfig *config)
{
    static const struct {
        const char *word;
        char letter;
    } letters[] = {{"floppy", 'a'}, {"disk", 'c'}, {"cdrom", 'd'}, {"network", 'n'}};
    g_autofree char *order = vm_tree_string(config, "system.boot");
    g_auto(GStrv) words = g_strsplit(order, ",", -1);
    GString *text = g_string_new(NULL);

    for (char **word = words; *word; word++) {
        for (unsigned i = 0; i < G_N_ELEMENTS(letters); i++) {
            if (!strcmp(*word, letters[i].word))
                g_string_append_c(text, letters[i].letter);
        }
    }
    return g_string_free(text, FALSE);
}

static void build_board(const Builder *b)
{
    const VmConfig *config = b->config;
    g_autofree char *adapter = vm_tree_string(config, "display.adapter");
    g_autofree char *rtc = vm_tree_string(config, "system.rtc");
    PcConfig *pc = &b->build->pc;

    pc->rtc_local_time = !strcmp(rtc, "local");
    pc->no_acpi = !vm_tree_bool(config, "system.acpi");
    pc->no_apic = !vm_tree_bool(config, "system.apic");
    pc->no_hpet = !vm_tree_bool(config, "system.hpet");
    pc->no_vga = !strcmp(adapter, "none");
    pc->vram_size = vm_tree_number(config, "display.vram");
    pc->cpu_percent = (unsigned)vm_tree_number(config, "limits.cpu");
    pc->disks_bytes = vm_tree_number(config, "limits.disk");
}

static bool build_system(const Builder *b, GError **error)
{
    const VmConfig *config = b->config;
    g_autofree char *engine = vm_tree_string(config, "system.engine");
    g_autofree char *paravirt = vm_tree_string(config, "system.paravirt");
    PcConfig *pc = &b->build->pc;

    pc->memory_size = align_up(vm_tree_number(config, "system.memory"), MIB(1));
    pc->cpu_count = (unsigned)vm_tree_number(config, "system.cpus");
    pc->cpu_model = keep_value(b, "system.cpu");
    pc->paravirt = paravirt_from_name(paravirt);
    pc->uuid = keep_value(b, "general.uuid");
    pc->boot_order = keep(b, boot_letters(config));
    pc->boot_menu = vm_tree_bool(config, "system.boot-menu");
    pc->append = keep_value(b, "kernel.append");
    pc->debug_exit_port = (uint32_t)vm_tree_number(config, "debug.exit-port");
    pc->testdev = vm_tree_bool(config, "debug.testdev");
    build_board(b);
    if (!keep_path(b, "system.firmware-file", &pc->firmware, error) ||
        !keep_path(b, "kernel.file", &pc->kernel, error) || !build_initrd(b, error))
        return false;
    pc->engine = engine_find(engine, &b->build->engine_note, error);
    return pc->engine;
}

VmBuild *vm_build(const VmConfig *config, const VmBuildOptions *options, GError **error)
{
    g_autoptr(VmBuild) build = g_new0(VmBuild, 1);
    g_autoptr(GPtrArray) missing = NULL;
    Builder b = {config, options, build};

    build->strings = g_ptr_array_new_with_free_func(g_free);
    if (!vm_config_check(config, error))
        return NULL;
    missing = vm_build_missing(config);
    if (missing->len) {
        vm_error(error, G_IO_ERROR_NOT_SUPPORTED, "%s", (const char *)missing->pdata[0]);
        return NULL;
    }
    if (!build_system(&b, error) || !build_storage(&b, error) || !build_streams(&b, error))
        return NULL;
    return g_steal_pointer(&build);
}

void vm_build_free(VmBuild *build)
{
    if (!build)
        return;
    g_clear_pointer(&build->strings, g_ptr_array_unref);
    g_free(build->engine_note);
    g_free(build);
}
