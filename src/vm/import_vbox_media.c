/* SPDX-License-Identifier: GPL-3.0-or-later */
/* VirtualBox's media and storage controllers, as each of its versions writes them. See import.h. */
#include <string.h>

#include "base/i18n.h"
#include "vm/import_internal.h"

#define REGISTRY_DEPTH 64

typedef struct VboxStorage {
    const xmlNode *machine;
    const char *home;             /* VirtualBox's folder */
    const xmlDoc *global;         /* the file there, NULL */
    const xmlNode *registries[2]; /* of media: the machine's, and that of all; each may be NULL */
} VboxStorage;

/* What a drive is for, and what is booted. */
const ImportWord vbox_devices[] = {
    {"HardDisk", "disk"}, {"DVD", "cdrom"}, {"Floppy", "floppy"}, {"Network", "network"}, {NULL}};

/* An image of a registry of media by its UUID. */
static const xmlNode *find_medium(const xmlNode *node, const char *uuid, unsigned depth)
{
    for (const xmlNode *at = node ? node->children : NULL; at; at = at->next) {
        g_autofree char *own = at->type == XML_ELEMENT_NODE ? import_attribute(at, "uuid") : NULL;
        const xmlNode *found;
        if (at->type != XML_ELEMENT_NODE)
            continue;
        if (own && !g_ascii_strcasecmp(own, uuid))
            return at;
        found = depth ? find_medium(at, uuid, depth - 1) : NULL;
        if (found)
            return found;
    }
    return NULL;
}

/* "C:\disks\a.vdi", "\\server\disks\a.vdi". */
static bool is_windows_place(const char *location)
{
    return g_str_has_prefix(location, "\\\\") ||
           (g_ascii_isalpha(location[0]) && location[1] == ':');
}

/* Where an image is, from the folder of the file that says so (new): files of VirtualBox on Windows
 * name it as Windows does. */
static char *location_of(const Importer *in, const xmlNode *medium)
{
    g_autofree char *version = import_attribute(in->root, "version");
    g_autofree char *said = import_attribute(medium, "location");
    char *location = g_strdup(said), *beside;

    if (!location || !version || !g_str_has_suffix(version, "-windows"))
        return location;
    g_strdelimit(location, "\\", '/');
    if (!is_windows_place(said))
        return location;
    beside = g_path_get_basename(location);
    import_say(in, _("image %s was at a place of Windows; it is expected beside the file, as %s"),
               said, beside);
    g_free(location);
    return beside;
}

/* A disk that would be shown wrongly is better left out. */
static bool can_have(const Importer *in, const xmlNode *medium, const char *place, const char *file,
                     const char *format)
{
    static const char *const known[] = {"vdi", "vmdk", "vhd", "vhdx", "qcow", "qcow2", "raw", NULL};

    if (format && !g_strv_contains(known, format)) {
        import_say(in, _("%s: disk %s of format '%s' is left out; such disks are not known"), place,
                   file ? file : "", format);
        return false;
    }
    for (const xmlNode *at = medium->children; at; at = at->next) {
        g_autofree char *name =
            import_is_named(at, "Property") ? import_attribute(at, "name") : NULL;
        if (!g_strcmp0(name, "CRYPT/KeyId") || !g_strcmp0(name, "CRYPT/KeyStore")) {
            import_say(in,
                       _("%s: disk %s is left out: VirtualBox encrypted it, and only VirtualBox "
                         "can take that away (VBoxManage encryptmedium); import it again then"),
                       place, file ? file : "");
            return false;
        }
    }
    return true;
}

/* Its type, and that of the image that it differs from: an immutable base is not to be written to.
 */
static void put_mode(const Importer *in, const xmlNode *medium, const char *place)
{
    static const ImportWord modes[] = {
        {"Immutable", "immutable"}, {"Writethrough", "writethrough"}, {"Shareable", "shareable"},
        {"Readonly", "readonly"},   {"MultiAttach", "multiattach"},   {NULL}};
    g_autofree char *type = import_attribute(medium, "type");

    if (vm_tree_has(in->config, place))
        import_put_at(in, place, "mode", import_word(modes, type));
}

/* Bytes a second, of the group that a device is in. */
static void put_bandwidth(const Importer *in, const VboxStorage *s, const xmlNode *device,
                          const char *place)
{
    g_autofree char *group = import_attribute(device, "bandwidthGroup");
    const xmlNode *list = import_down(s->machine, "Hardware/IO/BandwidthGroups");

    for (const xmlNode *at = group && list ? list->children : NULL; at; at = at->next) {
        g_autofree char *name = import_attribute(at, "name");
        g_autofree char *bytes = import_attribute(at, "maxBytesPerSec");
        g_autofree char *mib = import_attribute(at, "maxMbPerSec");
        g_autofree char *text = mib ? g_strconcat(mib, "M", NULL) : NULL;
        if (!g_strcmp0(name, group) && vm_tree_has(in->config, place))
            import_put_at(in, place, "bandwidth", bytes ? bytes : text);
    }
}

/* A drive with the image of that UUID; NULL: it is empty. */
static void put_drive(const Importer *in, const VboxStorage *s, const char *place, const char *type,
                      const char *uuid)
{
    const xmlNode *medium = NULL;
    g_autofree char *location = NULL, *file = NULL, *format = NULL, *lower = NULL;

    for (unsigned i = 0; uuid && !medium && i < G_N_ELEMENTS(s->registries); i++)
        medium = find_medium(s->registries[i], uuid, REGISTRY_DEPTH);
    if (uuid && !medium)
        import_say(in, _("%s: image %s is in no media registry of the file"), place, uuid);
    location = location_of(in, medium);
    file = location && medium->doc == s->global ? g_canonicalize_filename(location, s->home)
                                                : g_strdup(location);
    format = import_attribute(medium, "format");
    lower = format ? g_ascii_strdown(format, -1) : NULL;
    if (medium && !can_have(in, medium, place, file, lower))
        return;
    import_attachment(in, place, type, file, strcmp(type, "disk") ? "raw" : lower);
    put_mode(in, medium, place);
}

/* What is in it: <Image uuid=""/>, or the host's own drive. */
static char *image_in(const Importer *in, const xmlNode *drive, const char *place)
{
    if (import_child(drive, "HostDrive"))
        import_say(in, _("%s: the host's own drive is not imported; the drive is empty"), place);
    return import_attribute(import_child(drive, "Image"), "uuid");
}

/* ---- from VirtualBox 3.1 on -------------------------------------------------------------------
 */

static void put_device(const Importer *in, const VboxStorage *s, const xmlNode *device,
                       const char *controller)
{
    g_autofree char *type = import_attribute(device, "type");
    g_autofree char *port = import_attribute(device, "port");
    g_autofree char *unit = import_attribute(device, "device");
    bool two = g_str_has_prefix(controller, "ide") || g_str_has_prefix(controller, "floppy");
    uint64_t p = port ? g_ascii_strtoull(port, NULL, 10) : 0;
    uint64_t u = unit ? g_ascii_strtoull(unit, NULL, 10) : 0;
    uint64_t slot = two ? (p & 0xff) * 2 + (u & 1) : p & 0xfff;
    g_autofree char *place = g_strdup_printf("storage.%s.%" G_GUINT64_FORMAT, controller, slot);
    g_autofree char *uuid = image_in(in, device, place);
    const char *ours = import_word(vbox_devices, type);

    if (!ours || !strcmp(ours, "network"))
        return;
    put_drive(in, s, place, ours, uuid);
    put_bandwidth(in, s, device, place);
}

/* Its name here (new); NULL, and said: there is no such controller. */
static char *put_controller(const Importer *in, const xmlNode *at, unsigned number)
{
    static const struct {
        const char *theirs, *ours, *name;
    } types[] = {
        {"PIIX3", "ide", "ide"},      {"PIIX4", "ide", "ide"},
        {"ICH6", "ide", "ide"},       {"I82078", "floppy", "floppy"},
        {"AHCI", "ahci", "sata"},     {"LsiLogic", "scsi", "scsi"},
        {"BusLogic", "scsi", "scsi"}, {"LsiLogicSas", "scsi", "sas"},
        {"NVMe", "nvme", "nvme"},     {"VirtioSCSI", "virtio-scsi", "virtio"},
        {"USB", "usb", "usb"},
    };
    g_autofree char *type = import_attribute(at, "type"), *name = NULL, *path = NULL;
    unsigned i = 0;

    while (i < G_N_ELEMENTS(types) && g_strcmp0(types[i].theirs, type) != 0)
        i++;
    if (i == G_N_ELEMENTS(types)) {
        import_say(in, _("storage controllers of type '%s' are not known; left out with its disks"),
                   type ? type : "");
        return NULL;
    }
    name = g_strdup_printf("%s%u", types[i].name, number);
    path = g_strdup_printf("storage.%s.type", name);
    import_put(in, path, types[i].ours);
    return g_steal_pointer(&name);
}

/* ---- up to VirtualBox 3.0 ---------------------------------------------------------------------
 */

/* "IDE", 1, 0 is the slot 2 of ide0; "SATA", 3 that of sata0. */
static char *old_place(const Importer *in, const char *bus, uint64_t channel, uint64_t device)
{
    static const struct {
        const char *bus, *name, *type;
    } buses[] = {{"IDE", "ide0", "ide"}, {"SATA", "sata0", "ahci"}, {"SCSI", "scsi0", "scsi"}};
    unsigned i = 0;

    while (i < G_N_ELEMENTS(buses) && g_ascii_strcasecmp(buses[i].bus, bus))
        i++;
    if (i == G_N_ELEMENTS(buses))
        return NULL;
    g_autofree char *path = g_strdup_printf("storage.%s.type", buses[i].name);
    import_put(in, path, buses[i].type);
    return g_strdup_printf("storage.%s.%" G_GUINT64_FORMAT, buses[i].name,
                           i ? channel & 0xfff : (channel & 0xff) * 2 + (device & 1));
}

static uint64_t old_number(const xmlNode *at, const char *name)
{
    g_autofree char *text = import_attribute(at, name);

    return text && !strcmp(text, "slave") ? 1 : text ? g_ascii_strtoull(text, NULL, 10) : 0;
}

/* bus="IDE" channel="1" device="0"; before format 1.3 bus="ide1" device="master". */
static void put_old_disk(const Importer *in, const VboxStorage *s, const xmlNode *at)
{
    g_autofree char *uuid = import_attribute(at, "hardDisk");
    g_autofree char *bus = import_attribute(at, "bus"), *place = NULL;
    uint64_t channel = old_number(at, "channel");

    if (bus && strlen(bus) == 4 && g_str_has_prefix(bus, "ide")) {
        channel = bus[3] == '1';
        bus[3] = '\0';
    }
    place = old_place(in, bus ? bus : "IDE", channel, old_number(at, "device"));
    if (place)
        put_drive(in, s, place, "disk", uuid);
    else
        import_say(in, _("disk %s on bus '%s' is left out"), uuid ? uuid : "", bus);
}

/* The drives that such a machine always had, the floppy drive only where it was turned on. */
static void put_old_drives(const Importer *in, const VboxStorage *s)
{
    const xmlNode *hardware = import_child(s->machine, "Hardware");
    const xmlNode *disc = import_child(hardware, "DVDDrive");
    const xmlNode *floppy = import_child(hardware, "FloppyDrive");
    g_autofree char *enabled = import_attribute(floppy, "enabled");

    if (disc) {
        g_autofree char *place = old_place(in, "IDE", 1, 0);
        g_autofree char *uuid = image_in(in, disc, place);
        put_drive(in, s, place, "cdrom", uuid);
    }
    if (floppy && (!enabled || import_is_true(enabled))) {
        g_autofree char *uuid = image_in(in, floppy, "storage.floppy0.0");
        import_put(in, "storage.floppy0.type", "floppy");
        put_drive(in, s, "storage.floppy0.0", "floppy", uuid);
    }
}

/* ---- all --------------------------------------------------------------------------------------
 */

static void put_controllers(const Importer *in, const VboxStorage *s, const xmlNode *list)
{
    unsigned number = 0;

    for (const xmlNode *at = list ? list->children : NULL; at; at = at->next) {
        g_autofree char *name =
            import_is_named(at, "StorageController") ? put_controller(in, at, number) : NULL;
        number += name != NULL;
        for (const xmlNode *device = name ? at->children : NULL; device; device = device->next) {
            if (import_is_named(device, "AttachedDevice"))
                put_device(in, s, device, name);
        }
    }
}

/* Before VirtualBox 4 media were in a file of all machines, HOME/VirtualBox.xml, and a machine's in
 * HOME/Machines/NAME. NULL: it is not there. */
static xmlDoc *read_global(const char *home)
{
    g_autofree char *path = g_build_filename(home, "VirtualBox.xml", NULL);
    size_t size;
    g_autofree char *text = xml_read_file(path, IMPORT_MAX, &size, NULL);

    return text ? xml_parse(text, size, path, NULL) : NULL;
}

void vbox_storage(const Importer *in, const xmlNode *machine)
{
    const xmlNode *own = import_child(machine, "MediaRegistry");
    const xmlNode *list = import_child(machine, "StorageControllers");
    const xmlNode *old = import_child(machine, "HardDiskAttachments");
    g_autofree char *home = g_canonicalize_filename("../..", in->folder);
    xmlDoc *global = own ? NULL : read_global(home);
    const xmlNode *root = global ? xmlDocGetRootElement(global) : NULL;
    VboxStorage s = {machine, home, global, {own, import_down(root, "Global/MediaRegistry")}};

    put_controllers(in, &s, list ? list : import_down(machine, "Hardware/StorageControllers"));
    for (const xmlNode *at = old ? old->children : NULL; at; at = at->next) {
        if (import_is_named(at, "HardDiskAttachment"))
            put_old_disk(in, &s, at);
    }
    put_old_drives(in, &s);
    xmlFreeDoc(global);
}
