/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Reading other products' machine files. Both are small walks over an XML document that set what
 * has a counterpart and report the rest; the result is held against vm_config_check().
 */
#include "vm/import.h"

#include <string.h>

#include "base/bits.h"
#include "base/i18n.h"
#include "vm/build.h"
#include "vm/text.h"
#include "vm/tree_internal.h"
#include "vm/xml.h"

#define IMPORT_MAX MIB(16)
#define LOST_DEPTH 64
#define REPORT_MAX 1000

typedef struct Importer {
    VmConfig *config;
    GPtrArray *report;
    const char *folder;
    const xmlNode *root;
} Importer;

static void G_GNUC_PRINTF(2, 3) say(const Importer *in, const char *format, ...)
{
    va_list args;

    if (in->report->len >= REPORT_MAX)
        return;
    va_start(args, format);
    g_ptr_array_add(in->report, g_strdup_vprintf(format, args));
    va_end(args);
}

/* Sets what the file says; a value that we cannot have is reported. */
static void put(const Importer *in, const char *path, const char *value)
{
    g_autoptr(GError) error = NULL;

    if (value && !vm_tree_set(in->config, path, value, &error))
        say(in, "%s", error->message);
}

static bool is_named(const xmlNode *node, const char *name)
{
    return node->type == XML_ELEMENT_NODE && !strcmp((const char *)node->name, name);
}

static const xmlNode *child(const xmlNode *node, const char *name)
{
    for (const xmlNode *at = node ? node->children : NULL; at; at = at->next) {
        if (is_named(at, name))
            return at;
    }
    return NULL;
}

/* Down a path of names separated by slashes; NULL: not there. */
static const xmlNode *down(const xmlNode *node, const char *path)
{
    g_auto(GStrv) names = g_strsplit(path, "/", -1);

    for (char **name = names; *name && node; name++)
        node = child(node, *name);
    return node;
}

static char *attribute(const xmlNode *node, const char *name)
{
    return node ? tree_attribute(node, name) : NULL;
}

static char *content(const xmlNode *node)
{
    xmlChar *text = node ? xmlNodeGetContent(node) : NULL;
    char *copy = text ? g_strstrip(g_strdup((char *)text)) : NULL;

    xmlFree(text);
    return copy;
}

static bool is_true(const char *text)
{
    return text && (!strcmp(text, "true") || !strcmp(text, "yes") || !strcmp(text, "on") ||
                    !strcmp(text, "1"));
}

/* A name that a machine may have, from one that another product allowed. */
static void put_name(const Importer *in, const char *name)
{
    g_autofree char *valid = g_utf8_make_valid(name ? name : "", -1);

    g_strdelimit(valid, "/\n\r\t", '-');
    if (vm_name_check(valid, NULL)) {
        put(in, "general.name", valid);
        if (name && strcmp(valid, name) != 0)
            say(in, _("the machine's name cannot be used; it is now called '%s'"), valid);
    } else {
        say(in, _("the machine's name cannot be used; it is now called '%s'"), "imported");
    }
}

static void put_attachment(const Importer *in, const char *place, const char *type,
                           const char *file, const char *format)
{
    g_autofree char *type_path = g_strconcat(place, ".type", NULL);
    g_autofree char *medium_path = g_strconcat(place, ".medium", NULL);
    g_autofree char *format_path = g_strconcat(place, ".format", NULL);
    g_autofree char *absolute = file && *file ? g_canonicalize_filename(file, in->folder) : NULL;

    if (!strcmp(type, "disk") && !absolute) {
        say(in, _("%s: a disk without an image file is left out"), place);
        return;
    }
    put(in, type_path, type);
    put(in, medium_path, absolute);
    put(in, format_path, absolute ? format : NULL);
}

/* ---- VirtualBox -------------------------------------------------------------------------------
 */

/* An image of <MediaRegistry> by its UUID. */
static const xmlNode *vbox_medium(const xmlNode *node, const char *uuid, unsigned depth)
{
    for (const xmlNode *at = node ? node->children : NULL; at; at = at->next) {
        g_autofree char *own = at->type == XML_ELEMENT_NODE ? attribute(at, "uuid") : NULL;
        const xmlNode *found;
        if (at->type != XML_ELEMENT_NODE)
            continue;
        if (own && uuid && !g_ascii_strcasecmp(own, uuid))
            return at;
        found = depth ? vbox_medium(at, uuid, depth - 1) : NULL;
        if (found)
            return found;
    }
    return NULL;
}

static void vbox_device(const Importer *in, const xmlNode *machine, const xmlNode *device,
                        const char *controller)
{
    static const struct {
        const char *theirs, *ours;
    } types[] = {{"HardDisk", "disk"}, {"DVD", "cdrom"}, {"Floppy", "floppy"}};
    g_autofree char *type = attribute(device, "type"), *port = attribute(device, "port");
    g_autofree char *unit = attribute(device, "device");
    g_autofree char *uuid = attribute(child(device, "Image"), "uuid");
    const xmlNode *registry = child(machine, "MediaRegistry");
    const xmlNode *medium = uuid ? vbox_medium(registry, uuid, 64) : NULL;
    g_autofree char *file = attribute(medium, "location"), *format = attribute(medium, "format");
    g_autofree char *lower = format ? g_ascii_strdown(format, -1) : NULL;
    bool two = g_str_has_prefix(controller, "ide") || g_str_has_prefix(controller, "floppy");
    uint64_t p = port ? g_ascii_strtoull(port, NULL, 10) : 0;
    uint64_t u = unit ? g_ascii_strtoull(unit, NULL, 10) : 0;
    uint64_t slot = two ? (p & 0xff) * 2 + (u & 1) : p & 0xfff;
    g_autofree char *place = g_strdup_printf("storage.%s.%" G_GUINT64_FORMAT, controller, slot);

    if (uuid && !medium)
        say(in, _("%s: image %s is in no media registry of the file"), place, uuid);
    for (unsigned i = 0; type && i < G_N_ELEMENTS(types); i++) {
        if (!strcmp(type, types[i].theirs))
            put_attachment(in, place, types[i].ours, file, i == 0 ? lower : "raw");
    }
}

static void vbox_storage(const Importer *in, const xmlNode *machine)
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
    const xmlNode *list = child(machine, "StorageControllers");
    unsigned number = 0;

    if (!list)
        list = down(machine, "Hardware/StorageControllers");
    for (const xmlNode *at = list ? list->children : NULL; at; at = at->next) {
        g_autofree char *type = attribute(at, "type"), *name = NULL, *path = NULL;
        unsigned i = 0;
        if (!is_named(at, "StorageController"))
            continue;
        while (i < G_N_ELEMENTS(types) && g_strcmp0(types[i].theirs, type) != 0)
            i++;
        if (i == G_N_ELEMENTS(types)) {
            say(in, _("storage controllers of type '%s' are not known; left out with its disks"),
                type ? type : "");
            continue;
        }
        name = g_strdup_printf("%s%u", types[i].name, number++);
        path = g_strdup_printf("storage.%s.type", name);
        put(in, path, types[i].ours);
        for (const xmlNode *device = at->children; device; device = device->next) {
            if (is_named(device, "AttachedDevice"))
                vbox_device(in, machine, device, name);
        }
    }
}

static void vbox_boot(const Importer *in, const xmlNode *hardware)
{
    static const struct {
        const char *theirs, *ours;
    } devices[] = {
        {"HardDisk", "disk"}, {"DVD", "cdrom"}, {"Floppy", "floppy"}, {"Network", "network"}};
    g_autoptr(GString) order = g_string_new(NULL);
    const xmlNode *list = child(hardware, "Boot");

    for (const xmlNode *at = list ? list->children : NULL; at; at = at->next) {
        g_autofree char *device = is_named(at, "Order") ? attribute(at, "device") : NULL;
        for (unsigned i = 0; device && i < G_N_ELEMENTS(devices); i++) {
            if (!strcmp(device, devices[i].theirs))
                g_string_append_printf(order, "%s%s", order->len ? "," : "", devices[i].ours);
        }
    }
    put(in, "system.boot", order->len ? order->str : NULL);
}

/* What it was plugged into, which has no counterpart, and whose ports led to it. */
static void say_network(const Importer *in, const xmlNode *adapter, const char *slot)
{
    const xmlNode *nat = child(adapter, "NAT");

    if (!nat)
        say(in, _("network adapter %s is not plugged into NAT; check its settings"), slot);
    for (const xmlNode *at = nat ? nat->children : NULL; at; at = at->next) {
        g_autofree char *name = attribute(at, "name"), *host = attribute(at, "hostport");
        g_autofree char *guest = attribute(at, "guestport");
        if (is_named(at, "Forwarding"))
            say(in, _("port forwarding '%s' (host port %s to guest port %s) is not imported"),
                name ? name : "?", host ? host : "?", guest ? guest : "?");
    }
}

static void vbox_network(const Importer *in, const xmlNode *hardware)
{
    const xmlNode *list = child(hardware, "Network");

    for (const xmlNode *at = list ? list->children : NULL; at; at = at->next) {
        g_autofree char *slot = attribute(at, "slot"), *enabled = attribute(at, "enabled");
        g_autofree char *mac = attribute(at, "MACAddress"), *path = NULL;
        g_autoptr(GString) colons = g_string_new(NULL);
        if (!is_named(at, "Adapter") || !is_true(enabled) || !slot)
            continue;
        for (unsigned i = 0; mac && strlen(mac) == 12 && i < 12; i++)
            g_string_append_printf(colons, "%s%c", i && i % 2 == 0 ? ":" : "",
                                   g_ascii_tolower(mac[i]));
        path = g_strdup_printf("network.%s.mac", slot);
        put(in, path, colons->len ? colons->str : NULL);
        say_network(in, at, slot);
    }
}

/* What is there and has no counterpart, each by its name. */
static const struct LostKind {
    const char *element, *name, *detail; /* the attributes that tell which; NULL: none */
    const char *format;                  /* of both */
} vbox_lost[] = {
    {"Snapshot", "name", "timeStamp",
     N_("snapshot '%s' (%s) is not imported; the images of its disks stay as they are")},
    {"SharedFolder", "name", "hostPath", N_("shared folder '%s' (%s) is not imported")},
    {"DeviceFilter", "name", "productId", N_("USB filter '%s' (product %s) is not imported")},
    {"Controller", "name", "type", N_("USB controller '%s' (%s) is not imported")},
    {"AudioAdapter", "controller", "driver",
     N_("sound card '%s' (driver %s; <AudioAdapter>) is not imported")},
    {"RemoteDisplay", NULL, NULL, N_("the remote display (<RemoteDisplay>) is not imported")},
    {"VideoCapture", NULL, NULL, N_("recording the screen (<VideoCapture>) is not imported")},
    {"GuestProperty", "name", "value", N_("guest property '%s' (%s) is not imported")},
    {"Group", "name", NULL, N_("group '%s' is not imported")},
};
static const struct LostKind libvirt_lost[] = {
    {"sound", "model", NULL, N_("sound card '%s' is not imported")},
    {"hostdev", "type", "mode", N_("host device (%s, %s) is not imported")},
    {"redirdev", "bus", "type", N_("redirected device (%s, %s) is not imported")},
};

/* printf(3) would not know a format of a table. */
static char *fill(const char *format, const char *name, const char *detail)
{
    g_auto(GStrv) parts = g_strsplit(format, "%s", 3);
    const char *words[] = {name ? name : "?", detail ? detail : "?"};
    GString *text = g_string_new(parts[0]);

    for (unsigned i = 0; i < 2 && parts[i + 1]; i++)
        g_string_append_printf(text, "%s%s", words[i], parts[i + 1]);
    return g_string_free(text, FALSE);
}

/* Says it when the element is one of the kinds, unless it is turned off. */
static bool say_lost(const Importer *in, const xmlNode *at, const struct LostKind *kinds,
                     size_t count)
{
    g_autofree char *enabled = attribute(at, "enabled");

    for (size_t i = 0; i < count; i++) {
        if (!is_named(at, kinds[i].element))
            continue;
        g_autofree char *name = kinds[i].name ? attribute(at, kinds[i].name) : NULL;
        g_autofree char *detail = kinds[i].detail ? attribute(at, kinds[i].detail) : NULL;
        g_autofree char *text = fill(_(kinds[i].format), name, detail);
        if (!enabled || is_true(enabled))
            say(in, "%s", text);
        return true;
    }
    return false;
}

static void say_all_lost(const Importer *in, const xmlNode *node, unsigned depth)
{
    for (const xmlNode *at = node ? node->children : NULL; at; at = at->next) {
        if (at->type != XML_ELEMENT_NODE)
            continue;
        say_lost(in, at, vbox_lost, G_N_ELEMENTS(vbox_lost));
        /* What a snapshot consists of was said with it, but for the snapshots after it. */
        if (depth && !is_named(at, "Snapshot"))
            say_all_lost(in, at, depth - 1);
        else if (depth)
            say_all_lost(in, child(at, "Snapshots"), depth - 1);
    }
}

static void vbox_machine(const Importer *in, const xmlNode *machine)
{
    g_autofree char *state = attribute(machine, "stateFile");
    const xmlNode *hardware = child(machine, "Hardware");
    g_autofree char *name = attribute(machine, "name"), *os = attribute(machine, "OSType");
    g_autofree char *description = content(child(machine, "Description"));
    g_autofree char *cpus = attribute(child(hardware, "CPU"), "count");
    g_autofree char *mib = attribute(child(hardware, "Memory"), "RAMSize");
    g_autofree char *memory = mib ? g_strconcat(mib, "M", NULL) : NULL;
    g_autofree char *firmware = attribute(child(hardware, "Firmware"), "type");
    g_autofree char *chipset = attribute(child(hardware, "Chipset"), "type");

    put_name(in, name);
    put(in, "general.os", os);
    put(in, "general.description", description);
    put(in, "system.memory", memory);
    put(in, "system.cpus", cpus);
    put(in, "system.firmware", firmware && g_str_has_prefix(firmware, "EFI") ? "uefi" : NULL);
    if (chipset && !strcmp(chipset, "ICH9"))
        say(in, _("the board '%s' becomes that of this version, an i440FX"), chipset);
    vbox_boot(in, hardware);
    vbox_storage(in, machine);
    vbox_network(in, hardware);
    if (state)
        say(in, _("the saved state %s is not imported; the machine begins turned off"), state);
    say_all_lost(in, machine, LOST_DEPTH);
}

/* ---- libvirt ----------------------------------------------------------------------------------
 */

static void libvirt_memory(const Importer *in)
{
    static const struct {
        const char *unit, *suffix;
    } units[] = {{"b", ""},  {"bytes", ""}, {"KiB", "K"}, {"k", "K"},   {"MiB", "M"},
                 {"M", "M"}, {"GiB", "G"},  {"G", "G"},   {"TiB", "T"}, {"T", "T"}};
    const xmlNode *node = child(in->root, "memory");
    g_autofree char *unit = attribute(node, "unit"), *number = content(node), *text = NULL;
    unsigned i = 0;

    while (unit && i < G_N_ELEMENTS(units) && strcmp(units[i].unit, unit) != 0)
        i++;
    if (i == G_N_ELEMENTS(units)) {
        say(in, _("memory in '%s' is not known"), unit);
        return;
    }
    text = number ? g_strconcat(number, unit ? units[i].suffix : "K", NULL) : NULL;
    put(in, "system.memory", text);
}

/* The controller for a bus, and the next free slot: "vdb" is slot 1. */
static void libvirt_disk(const Importer *in, const xmlNode *disk)
{
    static const struct {
        const char *bus, *type, *name;
    } buses[] = {{"ide", "ide", "ide0"},
                 {"fdc", "floppy", "floppy0"},
                 {"sata", "ahci", "sata0"},
                 {"scsi", "virtio-scsi", "scsi0"},
                 {"virtio", "virtio-blk", "virtio0"},
                 {"usb", "usb", "usb0"}};
    g_autofree char *device = attribute(disk, "device");
    g_autofree char *source_type = attribute(disk, "type");
    bool is_block = source_type && !strcmp(source_type, "block");
    g_autofree char *file = attribute(child(disk, "source"), is_block ? "dev" : "file");
    g_autofree char *format = attribute(child(disk, "driver"), "type");
    g_autofree char *target = attribute(child(disk, "target"), "dev");
    g_autofree char *bus = attribute(child(disk, "target"), "bus"), *path = NULL, *place = NULL;
    size_t length = target ? strlen(target) : 0;
    unsigned i = 0, slot = length && target[length - 1] >= 'a' && target[length - 1] <= 'z'
                               ? (unsigned)(target[length - 1] - 'a')
                               : 0;

    while (i < G_N_ELEMENTS(buses) && g_strcmp0(buses[i].bus, bus) != 0)
        i++;
    if (i == G_N_ELEMENTS(buses)) {
        say(in, _("disk %s on bus '%s' is left out"), target ? target : "", bus ? bus : "");
        return;
    }
    path = g_strdup_printf("storage.%s.type", buses[i].name);
    place = g_strdup_printf("storage.%s.%u", buses[i].name, slot);
    put(in, path, buses[i].type);
    put_attachment(in, place, device && strcmp(device, "lun") ? device : "disk", file,
                   format ? format : "raw");
    if (child(disk, "readonly") && vm_tree_has(in->config, place)) {
        g_autofree char *mode = g_strconcat(place, ".mode", NULL);
        put(in, mode, "readonly");
    }
}

static void libvirt_share(const Importer *in, const xmlNode *share)
{
    g_autofree char *folder = attribute(child(share, "source"), "dir");
    g_autofree char *name = attribute(child(share, "target"), "dir");

    say(in, _("shared folder '%s' (%s) is not imported"), name ? name : "?", folder ? folder : "?");
}

static void libvirt_devices(const Importer *in)
{
    const xmlNode *devices = child(in->root, "devices");
    unsigned adapters = 0;

    for (const xmlNode *at = devices ? devices->children : NULL; at; at = at->next) {
        g_autofree char *mac = attribute(child(at, "mac"), "address"), *path = NULL;
        if (at->type != XML_ELEMENT_NODE || is_named(at, "emulator") ||
            is_named(at, "controller") || is_named(at, "console") || is_named(at, "serial"))
            continue;
        if (is_named(at, "disk")) {
            libvirt_disk(in, at);
        } else if (is_named(at, "interface")) {
            path = g_strdup_printf("network.%u.mac", adapters++);
            put(in, path, mac);
        } else if (is_named(at, "filesystem")) {
            libvirt_share(in, at);
        } else if (!say_lost(in, at, libvirt_lost, G_N_ELEMENTS(libvirt_lost))) {
            say(in, _("<%s> is not imported"), (const char *)at->name);
        }
    }
}

/* <boot order='N'/> of a device: what virt-manager writes in place of <os><boot/>. */
static void libvirt_device_order(const xmlNode *device, const char **order, unsigned count)
{
    g_autofree char *text = attribute(child(device, "boot"), "order");
    g_autofree char *kind = attribute(device, "device");
    guint64 number = text ? g_ascii_strtoull(text, NULL, 10) : 0;

    if (number == 0 || number > count)
        return;
    if (is_named(device, "interface"))
        order[number - 1] = "network";
    else if (is_named(device, "disk"))
        order[number - 1] = !g_strcmp0(kind, "cdrom")    ? "cdrom"
                            : !g_strcmp0(kind, "floppy") ? "floppy"
                                                         : "disk";
}

static void libvirt_boot_devices(const Importer *in, GString *text)
{
    const char *order[32] = {NULL};
    const xmlNode *devices = child(in->root, "devices");

    for (const xmlNode *at = devices ? devices->children : NULL; at; at = at->next)
        libvirt_device_order(at, order, G_N_ELEMENTS(order));
    for (unsigned i = 0; i < G_N_ELEMENTS(order); i++) {
        if (order[i] && !strstr(text->str, order[i]))
            g_string_append_printf(text, "%s%s", text->len ? "," : "", order[i]);
    }
}

static void libvirt_boot(const Importer *in)
{
    static const struct {
        const char *theirs, *ours;
    } devices[] = {{"hd", "disk"}, {"cdrom", "cdrom"}, {"fd", "floppy"}, {"network", "network"}};
    g_autoptr(GString) order = g_string_new(NULL);
    const xmlNode *os = child(in->root, "os");

    for (const xmlNode *at = os ? os->children : NULL; at; at = at->next) {
        g_autofree char *device = is_named(at, "boot") ? attribute(at, "dev") : NULL;
        for (unsigned i = 0; device && i < G_N_ELEMENTS(devices); i++) {
            if (!strcmp(device, devices[i].theirs))
                g_string_append_printf(order, "%s%s", order->len ? "," : "", devices[i].ours);
        }
    }
    libvirt_boot_devices(in, order);
    put(in, "system.boot", order->len ? order->str : NULL);
}

/* By name, or by its files: OVMF's come as flash memory. */
static bool libvirt_is_uefi(const xmlNode *os)
{
    g_autofree char *firmware = attribute(os, "firmware");
    g_autofree char *loader = attribute(child(os, "loader"), "type");

    return (firmware && !strcmp(firmware, "efi")) || (loader && !strcmp(loader, "pflash"));
}

static void libvirt_domain(const Importer *in)
{
    const xmlNode *os = child(in->root, "os");
    g_autofree char *name = content(child(in->root, "name"));
    g_autofree char *cpus = content(child(in->root, "vcpu"));
    g_autofree char *description = content(child(in->root, "description"));
    g_autofree char *offset = attribute(child(in->root, "clock"), "offset");
    g_autofree char *machine = attribute(child(os, "type"), "machine");
    g_autofree char *kernel = content(child(os, "kernel"));
    g_autofree char *initrd = content(child(os, "initrd")), *line = content(child(os, "cmdline"));

    put_name(in, name);
    put(in, "system.cpus", cpus);
    put(in, "general.description", description);
    put(in, "system.rtc", offset && !strcmp(offset, "localtime") ? "local" : NULL);
    put(in, "system.firmware", libvirt_is_uefi(os) ? "uefi" : NULL);
    if (machine && strstr(machine, "q35"))
        say(in, _("the board '%s' becomes that of this version, an i440FX"), machine);
    if (child(os, "nvram"))
        say(in, _("the firmware's variables (<nvram>) are not imported"));
    put(in, "kernel.file", kernel);
    put(in, "kernel.initrd", kernel ? initrd : NULL);
    put(in, "kernel.append", kernel ? line : NULL);
    libvirt_memory(in);
    libvirt_boot(in);
    libvirt_devices(in);
}

/* ---- both -------------------------------------------------------------------------------------
 */

static bool import_root(const Importer *in, const char *quoted, GError **error)
{
    const xmlNode *machine = is_named(in->root, "VirtualBox") ? child(in->root, "Machine") : NULL;

    if (machine)
        vbox_machine(in, machine);
    else if (is_named(in->root, "domain"))
        libvirt_domain(in);
    else
        return vm_error(error, G_IO_ERROR_INVALID_DATA,
                        _("cannot import %s: it is neither a VirtualBox machine nor a libvirt "
                          "domain"),
                        quoted);
    if (vm_config_check(in->config, error)) {
        vm_build_reduce(in->config, in->report);
        return true;
    }
    g_prefix_error(error, _("cannot import %s: "), quoted);
    return false;
}

VmImport *vm_import_parse(const char *text, size_t size, const char *name, const char *folder,
                          GError **error)
{
    g_autofree char *quoted = text_quote(name);
    g_autoptr(VmImport) import = NULL;
    xmlDoc *doc = xml_parse(text, size, quoted, error);
    Importer in;

    if (!doc)
        return NULL;
    import = g_new0(VmImport, 1);
    import->report = g_ptr_array_new_with_free_func(g_free);
    import->config = vm_config_new("imported", NULL);
    vm_tree_remove(import->config, "storage.ide0", NULL);
    vm_tree_remove(import->config, "storage.floppy0", NULL);
    in = (Importer){import->config, import->report, folder, xmlDocGetRootElement(doc)};
    if (!import_root(&in, quoted, error))
        g_clear_pointer(&import, vm_import_free);
    xmlFreeDoc(doc);
    return g_steal_pointer(&import);
}

VmImport *vm_import_load(const char *path, GError **error)
{
    size_t size;
    g_autofree char *text = xml_read_file(path, IMPORT_MAX, &size, error);
    g_autofree char *absolute = g_canonicalize_filename(path, NULL);
    g_autofree char *folder = g_path_get_dirname(absolute);

    return text ? vm_import_parse(text, size, path, folder, error) : NULL;
}

void vm_import_free(VmImport *import)
{
    if (!import)
        return;
    vm_tree_free(import->config);
    g_ptr_array_unref(import->report);
    g_free(import);
}
