/* SPDX-License-Identifier: GPL-3.0-or-later */
/* vboxmanage: controllers, drives and the registry of images. */
#include <stdio.h>
#include <string.h>

#include "base/i18n.h"
#include "base/user_folders.h"
#include "cli/vbox.h"
#include "vm/media.h"

/* "IDE Controller" → "IDE-Controller": our names have no spaces. */
static char *controller_key(const char *name)
{
    char *key = g_strdup(name);

    g_strcanon(key, G_CSET_A_2_Z G_CSET_a_2_z G_CSET_DIGITS "_-", '-');
    return key;
}

static bool change(VboxArgs *a, const char *name, const char *const *settings, GError **error)
{
    g_autoptr(JsonNode) changed = ospite_vm_set(a->client, name, settings, error);

    return changed != NULL;
}

bool vbox_storage_controller(VboxArgs *a, GError **error)
{
    static const char *const types[][2] = {
        {"ide", "ide"},   {"floppy", "floppy"},      {"sata", "ahci"},
        {"scsi", "scsi"}, {"sas", "scsi"},           {"pcie", "nvme"},
        {"usb", "usb"},   {"virtio", "virtio-scsi"}, {"virtio-scsi", "virtio-scsi"},
        {NULL},
    };
    const char *machine = vbox_word(a, 0), *name = vbox_value(a, "name");
    const char *kind = vbox_value(a, "add"), *type = kind ? vbox_pair(types, kind) : NULL;
    g_autofree char *key = name ? controller_key(name) : NULL, *setting = NULL;

    if (!machine || !name || (!kind && !vbox_value(a, "remove")))
        return vbox_usage(error,
                          _("storagectl takes a machine, --name, and --add KIND or --remove"));
    if (kind && !type)
        return vbox_usage(error, _("there are no controllers of the kind '%s'"), kind);
    setting = type ? g_strdup_printf("storage.%s.type=%s", key, type)
                   : g_strdup_printf("storage.%s=", key);
    const char *const settings[] = {setting, NULL};
    return change(a, machine, settings, error);
}

/* ---- drives ---------------------------------------------------------------------------------- */

/* The image as the registry has it; one that it does not know yet becomes known. */
static JsonNode *known_medium(VboxArgs *a, const char *medium, const char *kind, GError **error)
{
    g_autoptr(GError) unknown = NULL;
    JsonNode *found = ospite_media_show(a->client, medium, &unknown);

    if (found)
        return found;
    if (g_error_matches(unknown, OSPITE_ERROR, OSPITE_ERROR_NOT_FOUND) &&
        !g_uuid_string_is_valid(medium))
        return ospite_media_add(a->client, medium, kind, NULL, NULL, error);
    g_propagate_error(error, g_steal_pointer(&unknown));
    return NULL;
}

static bool attach(VboxArgs *a, const char *place, const char *kind, const char *medium,
                   GError **error)
{
    const char *mode = vbox_value(a, "mtype");
    g_autoptr(JsonNode) image =
        strcmp(medium, "emptydrive") ? known_medium(a, medium, kind, error) : NULL;
    g_autofree char *type = NULL, *file = NULL, *format = NULL, *writes = NULL;

    if (!image && strcmp(medium, "emptydrive"))
        return false;
    type = g_strdup_printf("storage.%s.type=%s", place, kind);
    file = g_strdup_printf("storage.%s.medium=%s", place,
                           image ? ospite_text(image, "medium.path") : "");
    format = g_strdup_printf("storage.%s.format=%s", place,
                             image ? ospite_text(image, "medium.format") : "");
    writes = mode ? g_strdup_printf("storage.%s.mode=%s", place, mode) : NULL;
    const char *const settings[] = {type, file, format, writes, NULL};
    return change(a, vbox_word(a, 0), settings, error);
}

/* IDE and floppy controllers have two devices at a port. */
static bool slot_of(VboxArgs *a, const char *type, unsigned *ret_slot, GError **error)
{
    const char *texts[] = {vbox_value(a, "port"), vbox_value(a, "device")};
    guint64 numbers[2] = {0, 0};
    bool two = !strcmp(type, "ide");

    for (unsigned i = 0; i < 2; i++) {
        if (texts[i] && !g_ascii_string_to_unsigned(texts[i], 10, 0, 255, &numbers[i], NULL))
            return vbox_usage(error, _("'%s' is no number of a port or device"), texts[i]);
    }
    if (numbers[1] > 1 || (numbers[1] && !two && strcmp(type, "floppy")))
        return vbox_usage(error, _("there is no device %s at a port of this controller"), texts[1]);
    *ret_slot = (unsigned)(two ? numbers[0] * 2 + numbers[1] : numbers[0] + numbers[1]);
    return true;
}

bool vbox_storage_attach(VboxArgs *a, GError **error)
{
    static const char *const kinds[][2] = {
        {"hdd", "disk"}, {"dvddrive", "cdrom"}, {"fdd", "floppy"}, {NULL}};
    const char *machine = vbox_word(a, 0), *name = vbox_value(a, "storagectl");
    const char *medium = vbox_value(a, "medium"), *type = vbox_value(a, "type");
    const char *kind = type ? vbox_pair(kinds, type) : NULL;
    unsigned slot = 0;

    if (!machine || !name || !medium)
        return vbox_usage(error, _("storageattach takes a machine, --storagectl, --port, --device, "
                                   "--type and --medium"));
    g_autofree char *key = controller_key(name);
    g_autofree char *member = g_strdup_printf("vm.config.storage.%s.type", key);
    g_autoptr(JsonNode) vm = ospite_vm_show(a->client, machine, error);
    if (!vm)
        return false;
    if (!*ospite_text(vm, member))
        return vbox_usage(error, _("the machine has no storage controller '%s'"), name);
    if (!slot_of(a, ospite_text(vm, member), &slot, error))
        return false;
    g_autofree char *place = g_strdup_printf("%s.%u", key, slot);
    g_autofree char *nothing = g_strdup_printf("storage.%s=", place);
    const char *const removal[] = {nothing, NULL};
    if (!strcmp(medium, "none"))
        return change(a, machine, removal, error);
    if (!kind)
        return vbox_usage(error, _("storageattach needs --type hdd, dvddrive or fdd"));
    return attach(a, place, kind, medium, error);
}

/* ---- images ---------------------------------------------------------------------------------- */

/* No daemon needs to run for that: each reads the registry again that another has changed. */
bool vbox_open_medium(VboxArgs *a, GError **error)
{
    const char *path = vbox_word(a, 0);
    g_autofree char *folder = user_config_folder();
    g_autoptr(GError) why = NULL;
    g_autoptr(Media) media = NULL;
    g_autoptr(Medium) medium = NULL;

    if (!path)
        return vbox_usage(error, _("openmedium takes an image's file"));
    media = media_open(folder, &why);
    if (media)
        media_remove(media, path, false, NULL); /* one that was there before */
    medium =
        media ? media_add(media, MEDIUM_DISK, path, vbox_value(a, "format"), NULL, &why) : NULL;
    if (medium)
        printf("UUID: %s\n", medium->uuid);
    else
        g_printerr(_("vboxmanage: warning: '%s' cannot become known: %s\n"), path, why->message);
    return true;
}

bool vbox_close_medium(VboxArgs *a, GError **error)
{
    static const char *const kinds[][2] = {
        {"dvd", "cdrom"}, {"floppy", "floppy"}, {"disk", "disk"}, {NULL}};
    const char *medium = vbox_word(a, 1) ? vbox_word(a, 1) : vbox_word(a, 0);
    const char *kind = vbox_word(a, 1) ? vbox_pair(kinds, vbox_word(a, 0)) : NULL;
    bool file = vbox_value(a, "delete") != NULL;
    g_autoptr(JsonNode) known = NULL, removed = NULL;

    if (!medium)
        return vbox_usage(error, _("closemedium takes an image's file or UUID"));
    /* VirtualBox knows each image that it made. */
    known = known_medium(a, medium, kind ? kind : "disk", error);
    removed = !known ? NULL : ospite_media_remove(a->client, medium, file, error);
    if (removed && file)
        vbox_print_progress();
    return removed != NULL;
}

bool vbox_set_medium_mode(VboxArgs *a, GError **error)
{
    const char *medium = a->rest->len ? a->rest->pdata[a->rest->len - 1] : NULL;
    const char *type = vbox_value(a, "type");

    if (!medium || !type)
        return vbox_usage(error, _("modifymedium takes a file and --resize MEGABYTES, --compact or "
                                   "--type MODE"));
    g_autoptr(JsonNode) known = known_medium(a, medium, "disk", error);
    g_autofree char *mode = g_ascii_strdown(type, -1);
    g_autoptr(JsonNode) changed =
        known ? ospite_media_set_mode(a->client, ospite_text(known, "medium.uuid"), mode, error)
              : NULL;

    return changed != NULL;
}
