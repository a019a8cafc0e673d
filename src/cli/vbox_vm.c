/* SPDX-License-Identifier: GPL-3.0-or-later */
/* vboxmanage: machines from their making to their end. */
#include <stdio.h>
#include <string.h>

#include "base/i18n.h"
#include "cli/vbox.h"

/* A machine of VirtualBox begins without controllers. */
static const char *const *new_settings(const VboxArgs *a, GStrvBuilder *settings)
{
    static const char *const names[][2] = {{"ostype", "os"}, {"groups", "groups"}};

    g_strv_builder_add(settings, "storage.ide0=");
    g_strv_builder_add(settings, "storage.floppy0=");
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        const char *value = vbox_value(a, names[i][0]);
        g_autofree char *setting =
            value && strcmp(value, "/") ? g_strconcat(names[i][1], "=", value, NULL) : NULL;
        if (setting)
            g_strv_builder_add(settings, setting);
    }
    return (const char *const *)g_strv_builder_end(settings);
}

bool vbox_create_vm(VboxArgs *a, GError **error)
{
    const char *name = vbox_value(a, "name");
    bool stays = vbox_value(a, "register") != NULL;
    g_autoptr(GStrvBuilder) builder = g_strv_builder_new();
    g_autoptr(JsonNode) made = NULL, forgotten = NULL;

    if (!name)
        return vbox_usage(error, _("createvm needs --name NAME"));
    g_auto(GStrv) settings = (char **)new_settings(a, builder);
    made = ospite_vm_create(a->client, name, vbox_value(a, "basefolder"),
                            (const char *const *)settings, error);
    if (made && !stays)
        forgotten = ospite_vm_delete(a->client, ospite_text(made, "vm.uuid"),
                                     OSPITE_DELETE_UNREGISTER, error);
    if (!made || (!stays && !forgotten))
        return false;
    printf("Virtual machine '%s' is created%s.\nUUID: %s\nSettings file: '%s'\n", name,
           stays ? " and registered" : "", ospite_text(made, "vm.uuid"),
           ospite_text(made, "vm.file"));
    return true;
}

/* Without --register the clone's file is made, and known to nobody, as with createvm. */
bool vbox_clone_vm(VboxArgs *a, GError **error)
{
    const char *name = vbox_word(a, 0), *given = vbox_value(a, "name");
    const char *mode = vbox_value(a, "mode"), *options = vbox_value(a, "options");
    const char *snapshot = vbox_value(a, "snapshot");
    g_autofree char *clone =
        given ? g_strdup(given) : g_strconcat(name ? name : "", " Clone", NULL);
    bool is_linked = options && strstr(options, "link");
    g_autoptr(JsonNode) made = NULL, back = NULL, forgotten = NULL;

    if (!name)
        return vbox_usage(error, _("clonevm takes a machine"));
    if (mode && strcmp(mode, "machine") && strcmp(mode, "all"))
        return vbox_usage(error, _("clonevm has --mode machine and all"));
    if (snapshot && is_linked)
        return vbox_usage(error, _("this version makes linked clones of machines as they are now "
                                   "only; restore the snapshot first, or make a full clone"));
    made = ospite_vm_clone(a->client, name, clone, vbox_value(a, "basefolder"), is_linked, error);
    if (made && snapshot)
        back = ospite_snapshot_restore(a->client, ospite_text(made, "vm.uuid"), snapshot, error);
    if (snapshot && !back)
        return false;
    if (made && !vbox_value(a, "register"))
        forgotten = ospite_vm_delete(a->client, ospite_text(made, "vm.uuid"),
                                     OSPITE_DELETE_UNREGISTER, error);
    if (!made || (!vbox_value(a, "register") && !forgotten))
        return false;
    vbox_print_progress();
    printf("Machine has been successfully cloned as \"%s\"\n", clone);
    return true;
}

static void print_report(JsonNode *made)
{
    JsonArray *report = ospite_list(made, "report");

    for (guint i = 0; i < json_array_get_length(report); i++)
        g_printerr("vboxmanage: %s\n", json_array_get_string_element(report, i));
}

/* A file of VirtualBox's own is imported. */
bool vbox_register_vm(VboxArgs *a, GError **error)
{
    const char *file = vbox_word(a, 0);
    g_autoptr(JsonNode) made = NULL;

    if (!file)
        return vbox_usage(error, _("registervm takes a machine's file"));
    made = g_str_has_suffix(file, ".vbox") ? ospite_vm_import(a->client, file, NULL, NULL, error)
                                           : ospite_vm_register(a->client, file, error);
    if (made)
        print_report(made);
    return made != NULL;
}

bool vbox_unregister_vm(VboxArgs *a, GError **error)
{
    const char *name = vbox_word(a, 0);
    bool files = vbox_value(a, "delete") || vbox_value(a, "delete-all");
    g_autoptr(JsonNode) deleted = NULL;

    if (!name)
        return vbox_usage(error, _("unregistervm takes a machine"));
    deleted = ospite_vm_delete(a->client, name,
                               files ? OSPITE_DELETE_ALL : OSPITE_DELETE_UNREGISTER, error);
    if (deleted && files)
        vbox_print_progress();
    return deleted != NULL;
}

/* ---- running --------------------------------------------------------------------------------- */

static bool start_one(VboxArgs *a, const char *name, GError **error)
{
    g_autoptr(JsonNode) started = NULL;

    printf("Waiting for VM \"%s\" to power on...\n", name);
    started = ospite_vm_start(a->client, name, error);
    if (started)
        printf("VM \"%s\" has been successfully started.\n", name);
    return started != NULL;
}

bool vbox_start_vm(VboxArgs *a, GError **error)
{
    const char *type = vbox_value(a, "type");
    bool good = true;

    if (!vbox_word(a, 0))
        return vbox_usage(error, _("startvm takes a machine"));
    if (type && g_ascii_strcasecmp(type, "headless"))
        return vbox_usage(error, _("this version has no window for --type %s; use --type headless"),
                          type);
    for (guint i = 0; good && i < a->rest->len; i++)
        good = start_one(a, vbox_word(a, i), error);
    return good;
}

static JsonNode *type_text(OspiteClient *client, const char *name, const char *text, GError **error)
{
    if (text)
        return ospite_vm_type(client, name, text, error);
    vbox_usage(error, _("keyboardputstring takes a text"));
    return NULL;
}

bool vbox_control_vm(VboxArgs *a, GError **error)
{
    static const struct {
        const char *word;
        JsonNode *(*run)(OspiteClient *client, const char *name, GError **error);
        bool progress;
    } words[] = {
        {"pause", ospite_vm_pause},          {"resume", ospite_vm_resume},
        {"reset", ospite_vm_reset},          {"poweroff", ospite_vm_poweroff, true},
        {"acpipowerbutton", ospite_vm_stop},
    };
    const char *name = vbox_word(a, 0), *word = vbox_word(a, 1);
    g_autoptr(JsonNode) answer = NULL;

    if (!word)
        return vbox_usage(error, _("controlvm takes a machine and what to do with it"));
    if (!strcmp(word, "savestate"))
        return vbox_usage(error, _("this version saves no machine's state; pause keeps it while "
                                   "the host runs"));
    if (!strcmp(word, "keyboardputstring")) {
        answer = type_text(a->client, name, vbox_word(a, 2), error);
        return answer != NULL;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(words); i++) {
        if (strcmp(words[i].word, word))
            continue;
        answer = words[i].run(a->client, name, error);
        if (answer && words[i].progress)
            vbox_print_progress();
        return answer != NULL;
    }
    return vbox_usage(error, _("controlvm cannot '%s'; vboxmanage help says what it can"), word);
}

/* ---- notes of other programs ----------------------------------------------------------------- */

bool vbox_set_extra_data(VboxArgs *a, GError **error)
{
    const char *name = vbox_word(a, 0), *key = vbox_word(a, 1), *value = vbox_word(a, 2);
    g_autofree char *setting = NULL;

    if (!key)
        return vbox_usage(error, _("setextradata takes a machine, a key and perhaps a value"));
    if (!strcmp(name, "global"))
        return vbox_usage(error, _("this version keeps extra data of machines only"));
    if (strchr(key, '.'))
        return vbox_usage(error, _("cannot keep the key '%s': keys have no dots here"), key);
    setting = value && *value ? g_strdup_printf("extra.%s.value=%s", key, value)
                              : g_strdup_printf("extra.%s=", key);
    const char *const settings[] = {setting, NULL};
    g_autoptr(JsonNode) changed = ospite_vm_set(a->client, name, settings, error);
    return changed != NULL;
}

static void print_all_extra(JsonObject *extra)
{
    JsonObjectIter iter;
    const char *key;
    JsonNode *item;

    json_object_iter_init_ordered(&iter, extra);
    while (json_object_iter_next_ordered(&iter, &key, &item)) {
        if (JSON_NODE_HOLDS_OBJECT(item))
            printf("Key: %s, Value: %s\n", key, ospite_text(item, "value"));
    }
}

bool vbox_get_extra_data(VboxArgs *a, GError **error)
{
    const char *name = vbox_word(a, 0), *key = vbox_word(a, 1);
    g_autoptr(JsonNode) answer = NULL;
    JsonObject *config, *extra;

    if (!key)
        return vbox_usage(error, _("getextradata takes a machine, and a key or 'enumerate'"));
    if (!strcmp(name, "global"))
        return vbox_usage(error, _("this version keeps extra data of machines only"));
    answer = ospite_vm_show(a->client, name, error);
    if (!answer)
        return false;
    config = json_object_get_object_member(
        json_object_get_object_member(json_node_get_object(answer), "vm"), "config");
    extra = json_object_has_member(config, "extra") ? json_object_get_object_member(config, "extra")
                                                    : NULL;
    if (!strcmp(key, "enumerate")) {
        if (extra)
            print_all_extra(extra);
        return true;
    }
    JsonNode *item = extra ? json_object_get_member(extra, key) : NULL;
    printf("%s%s\n", item ? "Value: " : "No value set!", item ? ospite_text(item, "value") : "");
    return true;
}
