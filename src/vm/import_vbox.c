/* SPDX-License-Identifier: GPL-3.0-or-later */
/* VirtualBox: .vbox files, of format versions 1.12 to 1.20 and those like them. See import.h. */
#include <string.h>

#include "base/bits.h"
#include "base/i18n.h"
#include "vm/import_internal.h"

#define LOST_DEPTH 64

/* What is there and has no counterpart, each by its name. */
static const LostKind vbox_lost[] = {
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
    {"TrustedPlatformModule", "type", NULL, N_("the TPM (%s) is not imported")},
    {"PCI", NULL, NULL, N_("PCI devices of the host are not imported")},
    {"EmulatedUSB", NULL, NULL, N_("emulated USB devices are not imported")},
    {"Teleporter", NULL, NULL, N_("teleporting is not imported")},
};

/* An image of <MediaRegistry> by its UUID. */
static const xmlNode *vbox_medium(const xmlNode *node, const char *uuid, unsigned depth)
{
    for (const xmlNode *at = node ? node->children : NULL; at; at = at->next) {
        g_autofree char *own = at->type == XML_ELEMENT_NODE ? import_attribute(at, "uuid") : NULL;
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

/* "C:\disks\a.vdi", "\\server\disks\a.vdi". */
static bool is_windows_place(const char *location)
{
    return g_str_has_prefix(location, "\\\\") ||
           (g_ascii_isalpha(location[0]) && location[1] == ':');
}

/* Where an image is (new): files of VirtualBox on Windows name it as Windows does. */
static char *vbox_location(const Importer *in, const xmlNode *medium)
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
static bool vbox_can_have(const Importer *in, const xmlNode *medium, const char *place,
                          const char *file, const char *format)
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
static void vbox_mode(const Importer *in, const xmlNode *medium, const char *place)
{
    static const struct {
        const char *theirs, *ours;
    } modes[] = {{"Immutable", "immutable"},
                 {"Writethrough", "writethrough"},
                 {"Shareable", "shareable"},
                 {"Readonly", "readonly"},
                 {"MultiAttach", "multiattach"}};
    g_autofree char *type = import_attribute(medium, "type");
    g_autofree char *path = g_strconcat(place, ".mode", NULL);

    for (unsigned i = 0; type && i < G_N_ELEMENTS(modes); i++) {
        if (!g_ascii_strcasecmp(type, modes[i].theirs) && vm_tree_has(in->config, place))
            import_put(in, path, modes[i].ours);
    }
}

static void vbox_device(const Importer *in, const xmlNode *machine, const xmlNode *device,
                        const char *controller)
{
    static const struct {
        const char *theirs, *ours;
    } types[] = {{"HardDisk", "disk"}, {"DVD", "cdrom"}, {"Floppy", "floppy"}};
    g_autofree char *type = import_attribute(device, "type"),
                    *port = import_attribute(device, "port");
    g_autofree char *unit = import_attribute(device, "device");
    g_autofree char *uuid = import_attribute(import_child(device, "Image"), "uuid");
    const xmlNode *registry = import_child(machine, "MediaRegistry");
    const xmlNode *medium = uuid ? vbox_medium(registry, uuid, 64) : NULL;
    g_autofree char *file = vbox_location(in, medium), *format = import_attribute(medium, "format");
    g_autofree char *lower = format ? g_ascii_strdown(format, -1) : NULL;
    bool two = g_str_has_prefix(controller, "ide") || g_str_has_prefix(controller, "floppy");
    uint64_t p = port ? g_ascii_strtoull(port, NULL, 10) : 0;
    uint64_t u = unit ? g_ascii_strtoull(unit, NULL, 10) : 0;
    uint64_t slot = two ? (p & 0xff) * 2 + (u & 1) : p & 0xfff;
    g_autofree char *place = g_strdup_printf("storage.%s.%" G_GUINT64_FORMAT, controller, slot);

    if (uuid && !medium)
        import_say(in, _("%s: image %s is in no media registry of the file"), place, uuid);
    if (import_child(device, "HostDrive"))
        import_say(in, _("%s: the host's own drive is not imported; the drive is empty"), place);
    if (medium && !vbox_can_have(in, medium, place, file, lower))
        return;
    for (unsigned i = 0; type && i < G_N_ELEMENTS(types); i++) {
        if (!strcmp(type, types[i].theirs))
            import_attachment(in, place, types[i].ours, file, i == 0 ? lower : "raw");
    }
    vbox_mode(in, medium, place);
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
    const xmlNode *list = import_child(machine, "StorageControllers");
    unsigned number = 0;

    if (!list)
        list = import_down(machine, "Hardware/StorageControllers");
    for (const xmlNode *at = list ? list->children : NULL; at; at = at->next) {
        g_autofree char *type = import_attribute(at, "type"), *name = NULL, *path = NULL;
        unsigned i = 0;
        if (!import_is_named(at, "StorageController"))
            continue;
        while (i < G_N_ELEMENTS(types) && g_strcmp0(types[i].theirs, type) != 0)
            i++;
        if (i == G_N_ELEMENTS(types)) {
            import_say(in,
                       _("storage controllers of type '%s' are not known; left out with its disks"),
                       type ? type : "");
            continue;
        }
        name = g_strdup_printf("%s%u", types[i].name, number++);
        path = g_strdup_printf("storage.%s.type", name);
        import_put(in, path, types[i].ours);
        for (const xmlNode *device = at->children; device; device = device->next) {
            if (import_is_named(device, "AttachedDevice"))
                vbox_device(in, machine, device, name);
        }
    }
}

/* A part of the hardware; versions from 1.20 on have some of them below Platform. */
static const xmlNode *part(const xmlNode *hardware, const char *name)
{
    static const char *const places[] = {"", "Platform/", "Platform/x86/"};
    const xmlNode *found = NULL;

    for (unsigned i = 0; !found && i < G_N_ELEMENTS(places); i++) {
        g_autofree char *path = g_strconcat(places[i], name, NULL);
        found = import_down(hardware, path);
    }
    return found;
}

static void vbox_boot(const Importer *in, const xmlNode *hardware)
{
    static const struct {
        const char *theirs, *ours;
    } devices[] = {
        {"HardDisk", "disk"}, {"DVD", "cdrom"}, {"Floppy", "floppy"}, {"Network", "network"}};
    g_autoptr(GString) order = g_string_new(NULL);
    const xmlNode *list = part(hardware, "Boot");

    for (const xmlNode *at = list ? list->children : NULL; at; at = at->next) {
        g_autofree char *device =
            import_is_named(at, "Order") ? import_attribute(at, "device") : NULL;
        for (unsigned i = 0; device && i < G_N_ELEMENTS(devices); i++) {
            if (!strcmp(device, devices[i].theirs))
                g_string_append_printf(order, "%s%s", order->len ? "," : "", devices[i].ours);
        }
    }
    import_put(in, "system.boot", order->len ? order->str : NULL);
}

/* What it is plugged into; the first element with a name that we know says it. */
static void vbox_backend(const Importer *in, const xmlNode *adapter, const char *slot)
{
    static const struct {
        const char *theirs, *ours;
    } backends[] = {{"NAT", "nat"},
                    {"BridgedInterface", "bridge"},
                    {"HostInterface", "bridge"},
                    {"InternalNetwork", "internal"},
                    {"HostOnlyInterface", "hostonly"},
                    {"NATNetwork", "nat"}};
    g_autofree char *backend = g_strdup_printf("network.%s.backend", slot);
    g_autofree char *network = g_strdup_printf("network.%s.network", slot);

    for (unsigned i = 0; i < G_N_ELEMENTS(backends); i++) {
        const xmlNode *node = import_child(adapter, backends[i].theirs);
        g_autofree char *name = import_attribute(node, "name");
        if (!node)
            continue;
        import_put(in, backend, backends[i].ours);
        import_put(in, network, i && name && *name ? name : NULL);
        return;
    }
    import_put(in, backend, "none");
    import_say(in, _("network adapter %s is plugged into nothing that is known here"), slot);
}

/* A name of letters, digits, - and _, out of any (new). */
static char *plain_name(const char *name, unsigned number)
{
    char *plain = name && *name ? g_strndup(name, 32) : g_strdup_printf("rule%u", number);

    return g_strcanon(plain, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-",
                      '-');
}

static void vbox_forwards(const Importer *in, const xmlNode *nat, const char *slot)
{
    unsigned number = 0;

    for (const xmlNode *at = nat ? nat->children : NULL; at; at = at->next) {
        g_autofree char *given = import_attribute(at, "name");
        g_autofree char *name = plain_name(given, number);
        g_autofree char *place = g_strdup_printf("network.%s.forward.%s", slot, name);
        static const struct {
            const char *theirs, *ours;
        } rows[] = {{"hostport", "host-port"},
                    {"guestport", "guest-port"},
                    {"hostip", "host-address"},
                    {"guestip", "guest-address"}};
        g_autofree char *protocol = import_attribute(at, "proto");
        g_autofree char *protocol_path = g_strconcat(place, ".protocol", NULL);
        if (!import_is_named(at, "Forwarding"))
            continue;
        number++;
        for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
            g_autofree char *value = import_attribute(at, rows[i].theirs);
            g_autofree char *path = g_strdup_printf("%s.%s", place, rows[i].ours);
            import_put(in, path, value && *value ? value : NULL);
        }
        import_put(in, protocol_path, g_strcmp0(protocol, "0") ? "tcp" : "udp");
    }
}

static void vbox_adapter(const Importer *in, const xmlNode *adapter, const char *slot)
{
    static const struct {
        const char *theirs, *ours;
    } models[] = {{"Am79C970A", "pcnet"}, {"Am79C973", "pcnet"}, {"Am79C960", "pcnet"},
                  {"82540EM", "e1000"},   {"82543GC", "e1000"},  {"82545EM", "e1000"},
                  {"virtio", "virtio"},   {"NE2000", "ne2000"},  {"NE1000", "ne2000"}};
    g_autofree char *mac = import_attribute(adapter, "MACAddress");
    g_autofree char *type = import_attribute(adapter, "type");
    g_autofree char *cable = import_attribute(adapter, "cable");
    g_autofree char *mac_path = g_strdup_printf("network.%s.mac", slot);
    g_autofree char *model_path = g_strdup_printf("network.%s.model", slot);
    g_autofree char *cable_path = g_strdup_printf("network.%s.cable", slot);
    g_autoptr(GString) colons = g_string_new(NULL);

    for (unsigned i = 0; mac && strlen(mac) == 12 && i < 12; i++)
        g_string_append_printf(colons, "%s%c", i && i % 2 == 0 ? ":" : "", g_ascii_tolower(mac[i]));
    import_put(in, mac_path, colons->len ? colons->str : NULL);
    for (unsigned i = 0; type && i < G_N_ELEMENTS(models); i++) {
        if (!strcmp(type, models[i].theirs))
            import_put(in, model_path, models[i].ours);
    }
    import_put(in, cable_path, cable && !import_is_true(cable) ? "false" : NULL);
    vbox_backend(in, adapter, slot);
    vbox_forwards(in, import_child(adapter, "NAT"), slot);
}

static void vbox_network(const Importer *in, const xmlNode *hardware)
{
    const xmlNode *list = import_child(hardware, "Network");

    for (const xmlNode *at = list ? list->children : NULL; at; at = at->next) {
        g_autofree char *slot = import_attribute(at, "slot");
        g_autofree char *enabled = import_attribute(at, "enabled");
        if (!import_is_named(at, "Adapter") || !import_is_true(enabled) || !slot)
            continue;
        if (strlen(slot) == 1 && *slot >= '0' && *slot <= '7')
            vbox_adapter(in, at, slot);
        else
            import_say(in, _("network adapter %s is left out: there can be eight, 0 to 7"), slot);
    }
}

/* ---- serial ports ---------------------------------------------------------------------------- */

static void vbox_uart(const Importer *in, const xmlNode *port)
{
    static const char *const bases[] = {"0x3f8", "0x2f8", "0x3e8", "0x2e8"};
    g_autofree char *base = import_attribute(port, "IOBase"),
                    *slot = import_attribute(port, "slot");
    g_autofree char *mode = import_attribute(port, "hostMode");
    g_autofree char *path = import_attribute(port, "path");
    g_autofree char *server = import_attribute(port, "server"), *backend = NULL, *name = NULL;
    unsigned number = slot ? (unsigned)g_ascii_strtoull(slot, NULL, 10) : 0;

    for (unsigned i = 0; base && i < G_N_ELEMENTS(bases); i++) {
        if (!g_ascii_strcasecmp(base, bases[i]))
            number = i;
    }
    if (number >= G_N_ELEMENTS(bases))
        return;
    if (!mode || !strcmp(mode, "Disconnected"))
        backend = g_strdup(number ? "none" : "console");
    else if (path && *path && !strcmp(mode, "RawFile"))
        backend = g_strconcat("file:", path, NULL);
    else if (path && *path && !strcmp(mode, "HostPipe") && import_is_true(server))
        backend = g_strconcat("unix:", path, NULL);
    name = g_strdup_printf("serial.%u.backend", number);
    import_put(in, name, backend ? backend : "none");
    if (!backend)
        import_say(in, _("serial port %u was at %s '%s'; it leads nowhere now"), number, mode,
                   path ? path : "");
}

static void vbox_ports(const Importer *in, const xmlNode *hardware)
{
    const xmlNode *uart = import_child(hardware, "UART");
    const xmlNode *lpt = import_child(hardware, "LPT");

    if (!uart)
        uart = import_child(hardware, "Uart");
    for (const xmlNode *at = uart ? uart->children : NULL; at; at = at->next) {
        g_autofree char *enabled = import_attribute(at, "enabled");
        if (import_is_named(at, "Port") && import_is_true(enabled))
            vbox_uart(in, at);
    }
    for (const xmlNode *at = lpt ? lpt->children : NULL; at; at = at->next) {
        g_autofree char *enabled = import_attribute(at, "enabled");
        g_autofree char *path = import_attribute(at, "path");
        if (import_is_named(at, "Port") && import_is_true(enabled))
            import_say(in, _("parallel port (%s) is not imported"), path ? path : "?");
    }
}

/* ---- all else -------------------------------------------------------------------------------- */

static void say_all_lost(const Importer *in, const xmlNode *node, unsigned depth)
{
    for (const xmlNode *at = node ? node->children : NULL; at; at = at->next) {
        if (at->type != XML_ELEMENT_NODE)
            continue;
        import_say_lost(in, at, vbox_lost, G_N_ELEMENTS(vbox_lost));
        /* What a snapshot consists of was said with it, but for the snapshots after it. */
        if (depth && !import_is_named(at, "Snapshot"))
            say_all_lost(in, at, depth - 1);
        else if (depth)
            say_all_lost(in, import_child(at, "Snapshots"), depth - 1);
    }
}

/* An attribute that is "true" or "false", put when it is there. */
static void put_switch(const Importer *in, const char *path, const xmlNode *node, const char *name)
{
    g_autofree char *value = import_attribute(node, name);

    import_put(in, path, value ? (import_is_true(value) ? "true" : "false") : NULL);
}

static void vbox_board(const Importer *in, const xmlNode *hardware)
{
    static const struct {
        const char *theirs, *ours;
    } providers[] = {{"KVM", "kvm"}, {"HyperV", "hyperv"}, {"None", "none"}, {"Minimal", "none"}};
    g_autofree char *zone = import_attribute(part(hardware, "RTC"), "localOrUTC");
    g_autofree char *paravirt = import_attribute(part(hardware, "Paravirt"), "provider");
    g_autofree char *firmware = import_attribute(part(hardware, "Firmware"), "type");
    g_autofree char *chipset = import_attribute(part(hardware, "Chipset"), "type");
    const xmlNode *bios = part(hardware, "BIOS");
    g_autofree char *ioapic = import_attribute(import_child(bios, "IOAPIC"), "enabled");

    import_put(in, "system.firmware",
               firmware && g_str_has_prefix(firmware, "EFI") ? "uefi" : NULL);
    if (chipset && strcmp(chipset, "PIIX3"))
        import_say(in, _("the board '%s' becomes that of this version, an i440FX"), chipset);
    import_put(in, "system.rtc", zone ? (strcmp(zone, "local") ? "utc" : "local") : NULL);
    put_switch(in, "system.acpi", import_child(bios, "ACPI"), "enabled");
    put_switch(in, "system.hpet", part(hardware, "HPET"), "enabled");
    if (ioapic && !import_is_true(ioapic))
        import_say(in, _("the I/O APIC was off and is on here, which guests of one CPU pass over"));
    for (unsigned i = 0; paravirt && i < G_N_ELEMENTS(providers); i++) {
        if (!strcmp(paravirt, providers[i].theirs))
            import_put(in, "system.paravirt", providers[i].ours);
    }
}

/* The next power of two: adapters here have no other sizes. */
static void vbox_display(const Importer *in, const xmlNode *hardware)
{
    const xmlNode *display = import_child(hardware, "Display");
    g_autofree char *mib = import_attribute(display, "VRAMSize");
    g_autofree char *monitors = import_attribute(display, "monitorCount");
    uint64_t wanted = mib ? g_ascii_strtoull(mib, NULL, 10) : 0, size = 1;
    g_autofree char *text = NULL;

    while (size < wanted && size < 256)
        size *= 2;
    text = wanted ? g_strdup_printf("%uM", (unsigned)size) : NULL;
    import_put(in, "display.vram", text);
    if (!monitors)
        monitors = import_attribute(display, "MonitorCount");
    import_put(in, "display.monitors", monitors);
}

static void vbox_groups(const Importer *in, const xmlNode *machine)
{
    const xmlNode *list = import_child(machine, "Groups");
    g_autoptr(GString) groups = g_string_new(NULL);

    for (const xmlNode *at = list ? list->children : NULL; at; at = at->next) {
        g_autofree char *name = import_is_named(at, "Group") ? import_attribute(at, "name") : NULL;
        if (name && strcmp(name, "/"))
            g_string_append_printf(groups, "%s%s", groups->len ? "," : "", name);
    }
    import_put(in, "general.groups", groups->len ? groups->str : NULL);
}

static void vbox_system(const Importer *in, const xmlNode *hardware)
{
    const xmlNode *cpu = part(hardware, "CPU");
    g_autofree char *cpus = import_attribute(cpu, "count");
    g_autofree char *cap = import_attribute(cpu, "executionCap");
    g_autofree char *mib = import_attribute(part(hardware, "Memory"), "RAMSize");
    g_autofree char *memory = mib ? g_strconcat(mib, "M", NULL) : NULL;

    import_put(in, "system.memory", memory);
    import_put(in, "system.cpus", cpus);
    import_put(in, "limits.cpu", cap);
}

void import_vbox(const Importer *in, const xmlNode *machine)
{
    g_autofree char *state = import_attribute(machine, "stateFile");
    const xmlNode *hardware = import_child(machine, "Hardware");
    g_autofree char *name = import_attribute(machine, "name");
    g_autofree char *os = import_attribute(machine, "OSType");
    g_autofree char *description = import_content(import_child(machine, "Description"));

    import_put_name(in, name);
    import_put(in, "general.os", os);
    import_put(in, "general.description", description);
    vbox_groups(in, machine);
    vbox_system(in, hardware);
    vbox_board(in, hardware);
    vbox_display(in, hardware);
    vbox_boot(in, hardware);
    vbox_storage(in, machine);
    vbox_network(in, hardware);
    vbox_ports(in, hardware);
    if (state)
        import_say(in, _("the saved state %s is not imported; the machine begins turned off"),
                   state);
    say_all_lost(in, machine, LOST_DEPTH);
}
