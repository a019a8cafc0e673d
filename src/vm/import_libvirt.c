/* SPDX-License-Identifier: GPL-3.0-or-later */
/* libvirt's domains. See import.h. */
#include <string.h>

#include "base/bits.h"
#include "base/i18n.h"
#include "vm/import_internal.h"

/* What is there and has no counterpart, each by its name. */
static const LostKind libvirt_lost[] = {
    {"sound", "model", NULL, N_("sound card '%s' is not imported")},
    {"hostdev", "type", "mode", N_("host device (%s, %s) is not imported")},
    {"redirdev", "bus", "type", N_("redirected device (%s, %s) is not imported")},
};

/* ---- memory ---------------------------------------------------------------------------------- */

static void libvirt_memory(const Importer *in)
{
    static const struct {
        const char *unit;
        uint64_t bytes;
    } units[] = {{"b", 1},        {"bytes", 1},    {"KiB", KIB(1)},    {"k", KIB(1)},
                 {"KB", 1000},    {"MiB", MIB(1)}, {"M", MIB(1)},      {"MB", 1000000},
                 {"GiB", GIB(1)}, {"G", GIB(1)},   {"GB", 1000000000}, {"TiB", GIB(1024)},
                 {"T", GIB(1024)}};
    const xmlNode *node = import_child(in->root, "memory");
    g_autofree char *unit = import_attribute(node, "unit");
    g_autofree char *number = import_content(node), *text = NULL;
    uint64_t bytes = 0;
    unsigned i = 0;

    while (i < G_N_ELEMENTS(units) && strcmp(units[i].unit, unit ? unit : "KiB") != 0)
        i++;
    if (i == G_N_ELEMENTS(units)) {
        import_say(in, _("memory in '%s' is not known"), unit);
        return;
    }
    if (!number)
        return;
    if (!g_ascii_string_to_unsigned(number, 10, 0, UINT64_MAX / units[i].bytes, &bytes, NULL))
        bytes = UINT64_MAX; /* which is refused by name */
    text =
        g_strdup_printf("%" G_GUINT64_FORMAT, bytes * (bytes == UINT64_MAX ? 1 : units[i].bytes));
    import_put(in, "system.memory", text);
}

/* ---- disks ----------------------------------------------------------------------------------- */

/* "vdb" is 1, "sdaa" is 26. */
static unsigned target_slot(const char *target)
{
    size_t length = target ? strlen(target) : 0;
    unsigned number = 0;

    for (size_t i = MIN(2, length); i < length && number < 1000; i++) {
        if (target[i] < 'a' || target[i] > 'z')
            return 0;
        number = number * 26 + (unsigned)(target[i] - 'a') + 1;
    }
    return number ? number - 1 : 0;
}

static void put_at(const Importer *in, const char *place, const char *field, const char *value)
{
    g_autofree char *path = g_strdup_printf("%s.%s", place, field);

    import_put(in, path, value);
}

/* What is said of a drive that is there. */
static void libvirt_drive(const Importer *in, const xmlNode *disk, const char *place,
                          const char *file)
{
    const xmlNode *tune = import_child(disk, "iotune");
    g_autofree char *iops = import_content(import_child(tune, "total_iops_sec"));
    g_autofree char *bytes = import_content(import_child(tune, "total_bytes_sec"));
    const xmlNode *encryption = import_child(disk, "encryption");

    if (!encryption)
        encryption = import_down(disk, "source/encryption");
    put_at(in, place, "mode",
           import_child(disk, "readonly")    ? "readonly"
           : import_child(disk, "shareable") ? "shareable"
           : import_child(disk, "transient") ? "immutable"
                                             : NULL);
    put_at(in, place, "iops", iops);
    put_at(in, place, "bandwidth", bytes);
    if (encryption)
        import_say(in, _("%s: disk %s is encrypted; say where its passphrase is: %s.key-file"),
                   place, file ? file : "", place);
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
    g_autofree char *device = import_attribute(disk, "device");
    g_autofree char *source_type = import_attribute(disk, "type");
    bool is_block = source_type && !strcmp(source_type, "block");
    g_autofree char *file =
        import_attribute(import_child(disk, "source"), is_block ? "dev" : "file");
    g_autofree char *format = import_attribute(import_child(disk, "driver"), "type");
    g_autofree char *target = import_attribute(import_child(disk, "target"), "dev");
    g_autofree char *bus = import_attribute(import_child(disk, "target"), "bus"), *path = NULL,
                    *place = NULL;
    unsigned i = 0, slot = target_slot(target);

    while (i < G_N_ELEMENTS(buses) && g_strcmp0(buses[i].bus, bus) != 0)
        i++;
    if (i == G_N_ELEMENTS(buses)) {
        import_say(in, _("disk %s on bus '%s' is left out"), target ? target : "", bus ? bus : "");
        return;
    }
    path = g_strdup_printf("storage.%s.type", buses[i].name);
    place = g_strdup_printf("storage.%s.%u", buses[i].name, slot);
    import_put(in, path, buses[i].type);
    import_attachment(in, place, device && strcmp(device, "lun") ? device : "disk", file,
                      format ? format : "raw");
    if (vm_tree_has(in->config, place))
        libvirt_drive(in, disk, place, file);
}

/* ---- network --------------------------------------------------------------------------------- */

static void libvirt_forwards(const Importer *in, const xmlNode *interface, const char *place)
{
    unsigned number = 0;

    for (const xmlNode *at = interface->children; at; at = at->next) {
        g_autofree char *protocol = import_attribute(at, "proto");
        g_autofree char *address = import_attribute(at, "address");
        if (!import_is_named(at, "portForward"))
            continue;
        for (const xmlNode *range = at->children; range; range = range->next) {
            g_autofree char *start = import_attribute(range, "start");
            g_autofree char *end = import_attribute(range, "end");
            g_autofree char *to = import_attribute(range, "to");
            g_autofree char *own = g_strdup_printf("%s.forward.rule%u", place, number);
            if (!import_is_named(range, "range") || !start)
                continue;
            if (end && strcmp(end, start))
                import_say(in, _("%s: of the ports %s to %s the first is forwarded"), place, start,
                           end);
            put_at(in, own, "host-port", start);
            put_at(in, own, "guest-port", to ? to : start);
            put_at(in, own, "host-address", address);
            put_at(in, own, "protocol", protocol);
            number++;
        }
    }
}

static void libvirt_interface(const Importer *in, const xmlNode *interface, unsigned slot)
{
    static const struct {
        const char *type, *backend, *source; /* the attribute of <source> that names it */
    } types[] = {{"user", "nat", NULL},
                 {"network", "nat", "network"},
                 {"bridge", "bridge", "bridge"},
                 {"direct", "bridge", "dev"},
                 {"ethernet", "tap", NULL}};
    static const char *const models[] = {"e1000", "virtio", "pcnet", "rtl8139", "ne2000"};
    g_autofree char *place = g_strdup_printf("network.%u", slot);
    g_autofree char *mac = import_attribute(import_child(interface, "mac"), "address");
    g_autofree char *model = import_attribute(import_child(interface, "model"), "type");
    g_autofree char *link = import_attribute(import_child(interface, "link"), "state");
    g_autofree char *type = import_attribute(interface, "type");
    g_autofree char *lower = mac ? g_ascii_strdown(mac, -1) : NULL;
    unsigned i = 0;

    if (slot > 7) {
        import_say(in, _("network adapter %u is left out: there can be eight, 0 to 7"), slot);
        return;
    }
    put_at(in, place, "mac", lower);
    while (i < G_N_ELEMENTS(types) && g_strcmp0(types[i].type, type) != 0)
        i++;
    put_at(in, place, "backend", i < G_N_ELEMENTS(types) ? types[i].backend : "none");
    if (i == G_N_ELEMENTS(types))
        import_say(in, _("network.%u: an interface of type '%s' is not known"), slot,
                   type ? type : "");
    if (i < G_N_ELEMENTS(types) && types[i].source) {
        g_autofree char *source =
            import_attribute(import_child(interface, "source"), types[i].source);
        put_at(in, place, "network", source);
    }
    for (i = 0; model && i < G_N_ELEMENTS(models); i++) {
        if (!strncmp(model, models[i], strlen(models[i])))
            put_at(in, place, "model", models[i]);
    }
    put_at(in, place, "cable", link && !strcmp(link, "down") ? "false" : NULL);
    libvirt_forwards(in, interface, place);
}

/* ---- serial and parallel ports --------------------------------------------------------------- */

static void libvirt_port(const Importer *in, const xmlNode *port, unsigned most)
{
    g_autofree char *type = import_attribute(port, "type");
    g_autofree char *number = import_attribute(import_child(port, "target"), "port");
    g_autofree char *path = import_attribute(import_child(port, "source"), "path");
    g_autofree char *mode = import_attribute(import_child(port, "source"), "mode");
    uint64_t n = number ? g_ascii_strtoull(number, NULL, 10) : 0;
    const char *kind = (const char *)port->name, *fixed = NULL;
    g_autofree char *place = g_strdup_printf("%s.%" G_GUINT64_FORMAT, kind, n), *backend = NULL;

    if (n >= most) {
        import_say(in, _("%s: there is no such port"), place);
        return;
    }
    if (!g_strcmp0(type, "pty"))
        fixed = n || strcmp(kind, "serial") ? "pty" : "console";
    else if (!g_strcmp0(type, "null"))
        fixed = "none";
    else if (path && !g_strcmp0(type, "file"))
        backend = g_strconcat("file:", path, NULL);
    else if (path && !g_strcmp0(type, "unix") && g_strcmp0(mode, "connect"))
        backend = g_strconcat("unix:", path, NULL);
    put_at(in, place, "backend", backend ? backend : fixed ? fixed : "none");
    if (!backend && !fixed)
        import_say(in, _("%s: a port of type '%s' is not known; it leads nowhere now"), place,
                   type ? type : "");
}

/* ---- all devices ----------------------------------------------------------------------------- */

static void libvirt_share(const Importer *in, const xmlNode *share)
{
    g_autofree char *folder = import_attribute(import_child(share, "source"), "dir");
    g_autofree char *name = import_attribute(import_child(share, "target"), "dir");

    import_say(in, _("shared folder '%s' (%s) is not imported"), name ? name : "?",
               folder ? folder : "?");
}

static void libvirt_devices(const Importer *in)
{
    static const char *const passed_over[] = {"emulator", "controller", "console", NULL};
    const xmlNode *devices = import_child(in->root, "devices");
    unsigned adapters = 0;

    for (const xmlNode *at = devices ? devices->children : NULL; at; at = at->next) {
        if (at->type != XML_ELEMENT_NODE || g_strv_contains(passed_over, (const char *)at->name))
            continue;
        if (import_is_named(at, "disk"))
            libvirt_disk(in, at);
        else if (import_is_named(at, "interface"))
            libvirt_interface(in, at, adapters++);
        else if (import_is_named(at, "serial"))
            libvirt_port(in, at, 4);
        else if (import_is_named(at, "parallel"))
            libvirt_port(in, at, 3);
        else if (import_is_named(at, "filesystem"))
            libvirt_share(in, at);
        else if (!import_say_lost(in, at, libvirt_lost, G_N_ELEMENTS(libvirt_lost)))
            import_say(in, _("<%s> is not imported"), (const char *)at->name);
    }
}

/* <boot order='N'/> of a device: what virt-manager writes in place of <os><boot/>. */
static void libvirt_device_order(const xmlNode *device, const char **order, unsigned count)
{
    g_autofree char *text = import_attribute(import_child(device, "boot"), "order");
    g_autofree char *kind = import_attribute(device, "device");
    guint64 number = text ? g_ascii_strtoull(text, NULL, 10) : 0;

    if (number == 0 || number > count)
        return;
    if (import_is_named(device, "interface"))
        order[number - 1] = "network";
    else if (import_is_named(device, "disk"))
        order[number - 1] = !g_strcmp0(kind, "cdrom")    ? "cdrom"
                            : !g_strcmp0(kind, "floppy") ? "floppy"
                                                         : "disk";
}

static void libvirt_boot_devices(const Importer *in, GString *text)
{
    const char *order[32] = {NULL};
    const xmlNode *devices = import_child(in->root, "devices");

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
    const xmlNode *os = import_child(in->root, "os");

    for (const xmlNode *at = os ? os->children : NULL; at; at = at->next) {
        g_autofree char *device = import_is_named(at, "boot") ? import_attribute(at, "dev") : NULL;
        for (unsigned i = 0; device && i < G_N_ELEMENTS(devices); i++) {
            if (!strcmp(device, devices[i].theirs))
                g_string_append_printf(order, "%s%s", order->len ? "," : "", devices[i].ours);
        }
    }
    libvirt_boot_devices(in, order);
    import_put(in, "system.boot", order->len ? order->str : NULL);
}

/* By name, or by its files: OVMF's come as flash memory. */
static bool libvirt_is_uefi(const xmlNode *os)
{
    g_autofree char *firmware = import_attribute(os, "firmware");
    g_autofree char *loader = import_attribute(import_child(os, "loader"), "type");

    return (firmware && !strcmp(firmware, "efi")) || (loader && !strcmp(loader, "pflash"));
}

/* "http://debian.org/debian/12" → "debian12". */
static void libvirt_os(const Importer *in)
{
    g_autofree char *id = import_attribute(import_down(in->root, "metadata/libosinfo/os"), "id");
    g_auto(GStrv) words = id ? g_strsplit(id, "/", -1) : NULL;
    guint count = words ? g_strv_length(words) : 0;
    g_autofree char *os = count >= 2 ? g_strconcat(words[count - 2], words[count - 1], NULL) : NULL;

    import_put(in, "general.os", os);
}

/* A domain that lists features has those it lists. */
static void libvirt_features(const Importer *in)
{
    const xmlNode *features = import_child(in->root, "features");
    const xmlNode *clock = import_child(in->root, "clock");
    g_autofree char *hidden = import_attribute(import_down(features, "kvm/hidden"), "state");

    if (features && !import_child(features, "acpi"))
        import_put(in, "system.acpi", "false");
    if (import_child(features, "hyperv"))
        import_put(in, "system.paravirt", "hyperv");
    if (hidden && import_is_true(hidden))
        import_put(in, "system.paravirt", "none");
    for (const xmlNode *at = clock ? clock->children : NULL; at; at = at->next) {
        g_autofree char *name = import_attribute(at, "name");
        g_autofree char *present = import_attribute(at, "present");
        if (!g_strcmp0(name, "hpet") && present)
            import_put(in, "system.hpet", import_is_true(present) ? "true" : "false");
    }
}

static void libvirt_cpu(const Importer *in)
{
    const xmlNode *vcpu = import_child(in->root, "vcpu");
    g_autofree char *most = import_content(vcpu), *now = import_attribute(vcpu, "current");
    g_autofree char *model = import_content(import_down(in->root, "cpu/model"));

    import_put(in, "system.cpus", now ? now : most);
    if (model && *model)
        import_say(in, _("CPU model '%s' becomes that of the host"), model);
}

/* All that a domain may have besides, each once. */
static void libvirt_rest(const Importer *in)
{
    static const char *const known[] = {
        "name",      "uuid",     "genid",          "title",         "description",
        "metadata",  "memory",   "vcpu",           "vcpus",         "os",
        "features",  "cpu",      "clock",          "devices",       "on_poweroff",
        "on_reboot", "on_crash", "on_lockfailure", "currentMemory", "pm",
        "resource",  "seclabel", "maxMemory",      "iothreads",     NULL};

    for (const xmlNode *at = in->root->children; at; at = at->next) {
        if (at->type == XML_ELEMENT_NODE && !g_strv_contains(known, (const char *)at->name))
            import_say(in, _("<%s> is not imported"), (const char *)at->name);
    }
}

void import_libvirt(const Importer *in)
{
    const xmlNode *os = import_child(in->root, "os");
    g_autofree char *name = import_content(import_child(in->root, "name"));
    g_autofree char *description = import_content(import_child(in->root, "description"));
    g_autofree char *offset = import_attribute(import_child(in->root, "clock"), "offset");
    g_autofree char *machine = import_attribute(import_child(os, "type"), "machine");
    g_autofree char *kernel = import_content(import_child(os, "kernel"));
    g_autofree char *initrd = import_content(import_child(os, "initrd"));
    g_autofree char *line = import_content(import_child(os, "cmdline"));

    import_put_name(in, name);
    import_put(in, "general.description", description);
    libvirt_os(in);
    libvirt_cpu(in);
    libvirt_features(in);
    import_put(in, "system.rtc", offset && !strcmp(offset, "localtime") ? "local" : NULL);
    import_put(in, "system.firmware", libvirt_is_uefi(os) ? "uefi" : NULL);
    if (machine && strstr(machine, "q35"))
        import_say(in, _("the board '%s' becomes that of this version, an i440FX"), machine);
    if (import_child(os, "nvram"))
        import_say(in, _("the firmware's variables (<nvram>) are not imported"));
    import_put(in, "kernel.file", kernel);
    import_put(in, "kernel.initrd", kernel ? initrd : NULL);
    import_put(in, "kernel.append", kernel ? line : NULL);
    libvirt_memory(in);
    libvirt_boot(in);
    libvirt_devices(in);
    libvirt_rest(in);
}
