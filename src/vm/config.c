/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Machines' configurations: new ones, and rules that go beyond one value. */
#include "vm/config.h"

#include <string.h>

#include "base/i18n.h"
#include "vm/text.h"

/* ---- names -------------------------------------------------------------------------------------
 */

static bool name_character_allowed(gunichar c)
{
    /* What turns the direction of text can make one name look like another. */
    bool turns = c == 0x061c || c == 0x200e || c == 0x200f || (c >= 0x202a && c <= 0x202e) ||
                 (c >= 0x2066 && c <= 0x2069);

    bool invisible = c == 0x00ad || c == 0x200b || c == 0x2060 || c == 0xfeff;

    return c != '/' && c != 0x2028 && c != 0x2029 && !invisible && !turns;
}

static const char *name_problem(const char *name)
{
    size_t length = strlen(name);

    if (!length)
        return _("it is empty");
    if (length > VM_NAME_MAX)
        return _("it is longer than 200 bytes");
    if (!text_is_plain(name, false))
        return _("it has control characters or is no UTF-8");
    for (const char *p = name; *p; p = g_utf8_next_char(p)) {
        if (!name_character_allowed(g_utf8_get_char(p)))
            return _("it has a slash or a character that is not seen or turns lines");
    }
    if (*name == '.' || *name == '-')
        return _("it begins with a dot or a dash");
    if (g_unichar_isspace(g_utf8_get_char(name)) ||
        g_unichar_isspace(g_utf8_get_char(g_utf8_prev_char(name + length))))
        return _("it begins or ends with a space");
    if (g_uuid_string_is_valid(name))
        return _("it reads as a UUID");
    return NULL;
}

bool vm_name_check(const char *name, GError **error)
{
    const char *problem = name_problem(name);
    g_autofree char *quoted = NULL;

    if (!problem)
        return true;
    quoted = text_quote(name);
    return vm_error(error, G_IO_ERROR_INVALID_ARGUMENT,
                    _("a machine cannot be called %s: %s; choose another name"), quoted, problem);
}

/* ---- rules ------------------------------------------------------------------------------------
 */

/* What fits where. */
static const struct ControllerRule {
    const char *type;
    unsigned slots;
    const char *drives;
} controller_rules[] = {
    {"ide", 4, "disk cdrom"},   {"floppy", 2, "floppy"},         {"ahci", 32, "disk cdrom"},
    {"scsi", 16, "disk cdrom"}, {"virtio-blk", 32, "disk"},      {"virtio-scsi", 256, "disk cdrom"},
    {"nvme", 255, "disk"},      {"usb", 8, "disk cdrom floppy"},
};

static bool check_attachment(const VmConfig *config, const struct ControllerRule *rule,
                             const char *controller, const char *slot, GError **error)
{
    g_autofree char *type = vm_tree_string(config, "storage.%s.%s.type", controller, slot);
    g_autofree char *medium = vm_tree_string(config, "storage.%s.%s.medium", controller, slot);

    if (g_ascii_strtoull(slot, NULL, 10) >= rule->slots)
        return vm_error(error, G_IO_ERROR_INVALID_ARGUMENT,
                        _("storage.%s.%s cannot be: a controller of type %s has slots 0 to %u"),
                        controller, slot, rule->type, rule->slots - 1);
    if (!text_has_word(rule->drives, type, strlen(type)))
        return vm_error(error, G_IO_ERROR_INVALID_ARGUMENT,
                        _("storage.%s.%s.type cannot be %s: a controller of type %s takes %s"),
                        controller, slot, type, rule->type, rule->drives);
    if (!*medium && !strcmp(type, "disk"))
        return vm_error(error, G_IO_ERROR_INVALID_ARGUMENT,
                        _("storage.%s.%s.medium is missing; a disk needs its image"), controller,
                        slot);
    return true;
}

/* One image under two writers destroys it, also inside one machine. */
static bool check_medium_once(const VmConfig *config, GHashTable *media, const char *place,
                              GError **error)
{
    g_autofree char *medium = vm_tree_string(config, "%s.medium", place);
    g_autofree char *type = vm_tree_string(config, "%s.type", place);
    g_autofree char *mode = vm_tree_string(config, "%s.mode", place);
    g_autofree char *quoted = NULL;
    const char *other;

    if (!*medium || !strcmp(type, "cdrom") || !strcmp(mode, "readonly"))
        return true;
    other = g_hash_table_lookup(media, medium);
    if (!other) {
        g_hash_table_insert(media, g_steal_pointer(&medium), g_strdup(place));
        return true;
    }
    quoted = text_quote(medium);
    return vm_error(error, G_IO_ERROR_INVALID_ARGUMENT,
                    _("%s.medium cannot be %s: it is in use at %s"), place, quoted, other);
}

static bool check_storage(const VmConfig *config, GError **error)
{
    g_auto(GStrv) controllers = vm_tree_keys(config, "storage");
    g_autoptr(GHashTable) media = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);

    for (char **controller = controllers; *controller; controller++) {
        g_auto(GStrv) slots = vm_tree_keys(config, "storage.%s", *controller);
        g_autofree char *type = vm_tree_string(config, "storage.%s.type", *controller);
        const struct ControllerRule *rule = controller_rules;
        while (strcmp(rule->type, type) != 0)
            rule++;
        for (char **slot = slots; *slot; slot++) {
            g_autofree char *place = g_strdup_printf("storage.%s.%s", *controller, *slot);
            if (!check_attachment(config, rule, *controller, *slot, error) ||
                !check_medium_once(config, media, place, error))
                return false;
        }
    }
    return true;
}

static bool check_forwards(const VmConfig *config, GError **error)
{
    g_auto(GStrv) slots = vm_tree_keys(config, "network");
    g_autoptr(GHashTable) taken = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);

    for (char **slot = slots; *slot; slot++) {
        g_auto(GStrv) names = vm_tree_keys(config, "network.%s.forward", *slot);
        for (char **name = names; *name; name++) {
            g_autofree char *place = g_strdup_printf("network.%s.forward.%s", *slot, *name);
            g_autofree char *protocol = vm_tree_string(config, "%s.protocol", place);
            g_autofree char *address = vm_tree_string(config, "%s.host-address", place);
            g_autofree char *port = vm_tree_string(config, "%s.host-port", place);
            char *where = g_strdup_printf("%s %s:%s", protocol, address, port);
            const char *other = g_hash_table_lookup(taken, where);
            if (other) {
                vm_error(error, G_IO_ERROR_INVALID_ARGUMENT,
                         _("%s cannot listen at %s: %s does already"), place, where, other);
                g_free(where);
                return false;
            }
            g_hash_table_insert(taken, where, g_steal_pointer(&place));
        }
    }
    return true;
}

static bool check_kernel(const VmConfig *config, GError **error)
{
    static const char *const needs[] = {"initrd", "append"};
    g_autofree char *file = vm_tree_string(config, "kernel.file");

    for (unsigned i = 0; !*file && i < G_N_ELEMENTS(needs); i++) {
        g_autofree char *value = vm_tree_string(config, "kernel.%s", needs[i]);
        if (*value)
            return vm_error(error, G_IO_ERROR_INVALID_ARGUMENT,
                            _("kernel.%s goes with kernel.file, which is not set"), needs[i]);
    }
    return true;
}

/* Snapshots form a tree: every parent is there and no one is their own ancestor. */
static bool check_snapshots(const VmConfig *config, GError **error)
{
    g_auto(GStrv) keys = vm_tree_keys(config, "snapshots");
    g_autoptr(GHashTable) parents = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, g_free);
    g_autofree char *current = vm_tree_string(config, "snapshots.current");

    for (char **key = keys; *key; key++)
        g_hash_table_insert(parents, *key, vm_tree_string(config, "snapshots.%s.parent", *key));
    if (*current && !g_hash_table_contains(parents, current))
        return vm_error(error, G_IO_ERROR_INVALID_ARGUMENT,
                        _("snapshots.current names %s, which is not there"), current);
    for (char **key = keys; *key; key++) {
        const char *ancestor = g_hash_table_lookup(parents, *key);
        for (unsigned steps = 0; *ancestor; steps++) {
            const char *next = g_hash_table_lookup(parents, ancestor);
            if (!next || steps >= g_hash_table_size(parents))
                return vm_error(error, G_IO_ERROR_INVALID_ARGUMENT,
                                _("snapshots.%s.parent names %s, which is %s"), *key, ancestor,
                                next ? _("its own descendant") : _("not there"));
            ancestor = next;
        }
    }
    return true;
}

bool vm_config_check(const VmConfig *config, GError **error)
{
    g_autofree char *name = NULL;

    if (!vm_tree_complete(config, error))
        return false;
    name = vm_tree_string(config, "general.name");
    return vm_name_check(name, error) && check_kernel(config, error) &&
           check_storage(config, error) && check_forwards(config, error) &&
           check_snapshots(config, error);
}

VmChange vm_config_change(const VmConfig *from, const VmConfig *to)
{
    g_autoptr(GPtrArray) paths = vm_tree_diff(from, to);
    VmChange change = VM_CHANGE_NOW;

    for (guint i = 0; i < paths->len; i++) {
        const VmField *field = vm_schema_find(&vm_config_schema, paths->pdata[i], NULL, NULL);
        if (field)
            change = MAX(change, field->change);
    }
    return change;
}

/* ---- files ------------------------------------------------------------------------------------
 */

VmConfig *vm_config_new(const char *name, GError **error)
{
    static const char *const settings[] = {
        "storage.ide0.type=ide",
        "storage.floppy0.type=floppy",
        "serial.0.backend=console",
    };
    g_autoptr(VmConfig) config = NULL;
    g_autofree char *uuid = g_uuid_string_random();

    if (!vm_name_check(name, error))
        return NULL;
    config = vm_tree_new(&vm_config_schema);
    vm_tree_set(config, "general.name", name, NULL);
    vm_tree_set(config, "general.uuid", uuid, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(settings); i++) {
        bool ok = vm_tree_assign(config, settings[i], NULL);
        g_assert(ok);
    }
    return g_steal_pointer(&config);
}

static VmConfig *checked(VmConfig *config, const char *name, GError **error)
{
    g_autoptr(GError) problem = NULL;
    g_autofree char *quoted = NULL;

    if (!config || vm_config_check(config, &problem))
        return config;
    vm_tree_free(config);
    quoted = text_quote(name);
    vm_error(error, G_IO_ERROR_INVALID_DATA, _("cannot read %s: %s"), quoted, problem->message);
    return NULL;
}

VmConfig *vm_config_load(const char *path, GError **error)
{
    return checked(vm_tree_load(&vm_config_schema, path, error), path, error);
}

VmConfig *vm_config_parse(const char *text, size_t size, const char *name, GError **error)
{
    return checked(vm_tree_parse(&vm_config_schema, text, size, name, error), name, error);
}

bool vm_config_save(const VmConfig *config, const char *path, GError **error)
{
    return vm_config_check(config, error) && vm_tree_save(config, path, error);
}
