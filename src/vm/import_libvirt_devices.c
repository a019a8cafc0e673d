/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The devices of libvirt's domains. See import.h. */
#include <string.h>

#include "base/i18n.h"
#include "vm/import_internal.h"

/* What is there and has no counterpart, each by its name. */
static const LostKind libvirt_lost[] = {
    {"hostdev", "type", "mode", N_("host device (%s, %s) is not imported")},
    {"redirdev", "bus", "type", N_("redirected device (%s, %s) is not imported")},
    {"channel", "type", NULL, N_("channel of type '%s' (<channel>) is not imported")},
    {"tpm", "model", NULL, N_("the TPM (%s; <tpm>) is not imported")},
    {"watchdog", "model", "action", N_("the watchdog '%s' (%s; <watchdog>) is not imported")},
    {"rng", "model", NULL,
     N_("the random numbers of the host (%s; <rng>) are not imported; the guest has the CPU's")},
    {"smartcard", "mode", NULL, N_("the smartcard (%s; <smartcard>) is not imported")},
    {"vsock", "model", NULL,
     N_("the sockets between host and guest (%s; <vsock>) are not "
        "imported")},
};

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

/* Limits; those of reading or writing alone are not known here. */
static void libvirt_limits(const Importer *in, const xmlNode *disk, const char *place)
{
    static const ImportWord limits[] = {
        {"total_iops_sec", "iops"}, {"total_bytes_sec", "bandwidth"}, {NULL}};
    const xmlNode *tune = import_child(disk, "iotune");

    for (const xmlNode *at = tune ? tune->children : NULL; at; at = at->next) {
        g_autofree char *value = import_content(at);
        const char *ours =
            at->type == XML_ELEMENT_NODE ? import_word(limits, (const char *)at->name) : NULL;
        if (ours)
            import_put_at(in, place, ours, value);
        else if (at->type == XML_ELEMENT_NODE)
            import_say(in, _("%s: the limit <%s> is not imported"), place, (const char *)at->name);
    }
}

/* What errors of the host do. */
static void libvirt_errors(const Importer *in, const xmlNode *disk, const char *place)
{
    static const ImportWord policies[] = {{"stop", "stop"},
                                          {"report", "report"},
                                          {"ignore", "ignore"},
                                          {"enospace", "enospc"},
                                          {NULL}};
    const xmlNode *driver = import_child(disk, "driver");
    g_autofree char *writes = import_attribute(driver, "error_policy");
    g_autofree char *reads = import_attribute(driver, "rerror_policy");
    const char *read_policy = import_word(policies, reads);

    import_put_at(in, place, "on-write-error", import_word(policies, writes));
    /* A full host fails no reads. */
    if (read_policy && strcmp(read_policy, "enospc"))
        import_put_at(in, place, "on-read-error", read_policy);
}

/* Whether whoever made the images is trusted is not the file's to say. */
static void libvirt_parents(const Importer *in, const xmlNode *disk, const char *place,
                            const char *file)
{
    const xmlNode *chain = import_child(disk, "backingStore");
    g_autofree char *parent = import_attribute(import_child(chain, "source"), "file");
    g_autofree char *folder = file ? g_path_get_dirname(file) : NULL;
    g_autofree char *inside = folder ? g_strconcat(folder, "/", NULL) : NULL;

    if (inside && parent && !g_str_has_prefix(parent, inside))
        import_say(in,
                   _("%s: disk %s builds on %s, which is outside of its folder; if you trust "
                     "whoever made it, set %s.trust-backing=true"),
                   place, file, parent, place);
}

/* What is said of a drive that is there. */
static void libvirt_drive(const Importer *in, const xmlNode *disk, const char *place,
                          const char *file)
{
    const xmlNode *encryption = import_child(disk, "encryption");

    if (!encryption)
        encryption = import_down(disk, "source/encryption");
    import_put_at(in, place, "mode",
                  import_child(disk, "readonly")    ? "readonly"
                  : import_child(disk, "shareable") ? "shareable"
                  : import_child(disk, "transient") ? "immutable"
                                                    : NULL);
    libvirt_limits(in, disk, place);
    libvirt_errors(in, disk, place);
    libvirt_parents(in, disk, place, file);
    if (encryption)
        import_say(in, _("%s: disk %s is encrypted; say where its passphrase is: %s.key-file"),
                   place, file ? file : "", place);
}

/* The address of a disk on a server that can be read here (new), or NULL. */
static char *network_address(const xmlNode *source)
{
    static const ImportWord ports[] = {{"nbd", "10809"}, {"http", "80"}, {"https", "443"}, {NULL}};
    const xmlNode *host = import_child(source, "host");
    g_autofree char *protocol = import_attribute(source, "protocol");
    g_autofree char *name = import_attribute(source, "name");
    g_autofree char *query = import_attribute(source, "query");
    g_autofree char *server = import_attribute(host, "name");
    g_autofree char *port = import_attribute(host, "port");
    g_autofree char *transport = import_attribute(host, "transport");
    g_autofree char *tls = import_attribute(source, "tls");
    const char *usual = import_word(ports, protocol), *path = name ? name : "";

    if (!usual || !server || !*server || (transport && strcmp(transport, "tcp")))
        return NULL;
    return g_strdup_printf("%s%s://%s:%s/%s%s%s", protocol,
                           !strcmp(protocol, "nbd") && import_is_true(tls) ? "s" : "", server,
                           port ? port : usual, path + strspn(path, "/"), query ? "?" : "",
                           query ? query : "");
}

/* The file, device or address that a disk is in (new), or NULL. */
static char *libvirt_source(const xmlNode *disk)
{
    static const ImportWord attributes[] = {{"file", "file"}, {"block", "dev"}, {NULL}};
    const xmlNode *source = import_child(disk, "source");
    g_autofree char *type = import_attribute(disk, "type");
    const char *attribute = import_word(attributes, type);

    if (!g_strcmp0(type, "network"))
        return network_address(source);
    return attribute ? import_attribute(source, attribute) : NULL;
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
    g_autofree char *file = libvirt_source(disk);
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
            import_put_at(in, own, "host-port", start);
            import_put_at(in, own, "guest-port", to ? to : start);
            import_put_at(in, own, "host-address", address);
            import_put_at(in, own, "protocol", protocol);
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
    import_put_at(in, place, "mac", lower);
    while (i < G_N_ELEMENTS(types) && g_strcmp0(types[i].type, type) != 0)
        i++;
    import_put_at(in, place, "backend", i < G_N_ELEMENTS(types) ? types[i].backend : "none");
    if (i == G_N_ELEMENTS(types))
        import_say(in, _("network.%u: an interface of type '%s' is not known"), slot,
                   type ? type : "");
    if (i < G_N_ELEMENTS(types) && types[i].source) {
        g_autofree char *source =
            import_attribute(import_child(interface, "source"), types[i].source);
        import_put_at(in, place, "network", source);
    }
    for (i = 0; model && i < G_N_ELEMENTS(models); i++) {
        if (!strncmp(model, models[i], strlen(models[i])))
            import_put_at(in, place, "model", models[i]);
    }
    import_put_at(in, place, "cable", link && !strcmp(link, "down") ? "false" : NULL);
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
    bool is_terminal =
        !g_strcmp0(type, "pty") || !g_strcmp0(type, "vc") || !g_strcmp0(type, "stdio");

    if (n >= most) {
        import_say(in, _("%s: there is no such port"), place);
        return;
    }
    if (is_terminal)
        fixed = n || strcmp(kind, "serial") ? "pty" : "console";
    else if (!g_strcmp0(type, "null"))
        fixed = "none";
    else if (path && !g_strcmp0(type, "file"))
        backend = g_strconcat("file:", path, NULL);
    else if (path && !g_strcmp0(type, "unix") && g_strcmp0(mode, "connect"))
        backend = g_strconcat("unix:", path, NULL);
    import_put_at(in, place, "backend", backend ? backend : fixed ? fixed : "none");
    if (!backend && !fixed)
        import_say(in, _("%s: a port of type '%s' is not known; it leads nowhere now"), place,
                   type ? type : "");
}

/* The first serial port has another element for its name; another one has no counterpart. */
static void libvirt_console(const Importer *in, const xmlNode *console)
{
    g_autofree char *type = import_attribute(import_child(console, "target"), "type");

    if (type && strcmp(type, "serial"))
        import_say(in, _("console of type '%s' (<console>) is not imported; use a serial port"),
                   type);
}

static void libvirt_serial(const Importer *in, const xmlNode *port)
{
    libvirt_port(in, port, 4);
}

static void libvirt_parallel(const Importer *in, const xmlNode *port)
{
    libvirt_port(in, port, 3);
}

/* ---- screen, input, sound ---------------------------------------------------------------------
 */

static void libvirt_graphics(const Importer *in, const xmlNode *graphics)
{
    g_autofree char *type = import_attribute(graphics, "type");
    g_autofree char *port = import_attribute(graphics, "port");
    g_autofree char *given = import_attribute(graphics, "listen");
    g_autofree char *inner = import_attribute(import_child(graphics, "listen"), "address");
    const char *address = given ? given : inner ? inner : "127.0.0.1";
    bool is_known = !g_strcmp0(type, "vnc") || !g_strcmp0(type, "rdp");
    bool has_port = port && g_ascii_isdigit(*port) && strcmp(port, "0");
    g_autofree char *listen =
        g_strdup_printf(strchr(address, ':') ? "[%s]:%s" : "%s:%s", address, port ? port : "");

    if (is_known && has_port)
        import_put_at(in, "display", type, listen);
    else if (is_known)
        import_say(in,
                   _("viewers of type '%s' (<graphics>) had no fixed port; say one: display.%s"),
                   type, type);
    else
        import_say(in, _("viewers of type '%s' (<graphics>) are not imported"), type ? type : "");
}

static void libvirt_video(const Importer *in, const xmlNode *video)
{
    const xmlNode *model = import_child(video, "model");
    g_autofree char *type = import_attribute(model, "type");
    g_autofree char *heads = import_attribute(model, "heads");

    if (type && (!strcmp(type, "virtio") || !strcmp(type, "none")))
        import_put(in, "display.adapter", type);
    else if (type && strcmp(type, "vga") && strcmp(type, "bochs"))
        import_say(in, _("the graphics adapter '%s' (<video>) becomes a VGA"), type);
    import_put(in, "display.monitors", heads);
}

static void libvirt_input(const Importer *in, const xmlNode *input)
{
    g_autofree char *type = import_attribute(input, "type");
    g_autofree char *bus = import_attribute(input, "bus");
    bool is_usb = !g_strcmp0(bus, "usb"), is_virtio = !g_strcmp0(bus, "virtio");

    if (!is_usb && !is_virtio)
        return;
    if (!g_strcmp0(type, "keyboard"))
        import_put(in, "input.keyboard", bus);
    else if (!g_strcmp0(type, "mouse") || !g_strcmp0(type, "tablet"))
        import_put(in, "input.pointer",
                   is_virtio               ? "virtio"
                   : strcmp(type, "mouse") ? "usb-tablet"
                                           : "usb-mouse");
    else
        import_say(in, _("input device '%s' (<input>) is not imported"), type ? type : "");
}

static void libvirt_sound(const Importer *in, const xmlNode *sound)
{
    static const ImportWord cards[] = {{"ich6", "hda"},  {"ich7", "hda"},  {"ich9", "hda"},
                                       {"ac97", "ac97"}, {"sb16", "sb16"}, {NULL}};
    g_autofree char *model = import_attribute(sound, "model");
    const char *card = import_word(cards, model);

    if (card)
        import_put(in, "audio.adapter", card);
    else
        import_say(in, _("sound card '%s' is not imported"), model ? model : "");
}

/* ---- USB, folders, memory ---------------------------------------------------------------------
 */

/* The fastest of the controllers counts: it takes slower devices, too. */
static void libvirt_controller(const Importer *in, const xmlNode *controller)
{
    static const struct {
        const char *part, *ours;
    } kinds[] = {{"xhci", "xhci"}, {"ehci", "ehci"}, {"hci", "uhci"}};
    g_autofree char *type = import_attribute(controller, "type");
    g_autofree char *model = import_attribute(controller, "model");
    g_autofree char *now = vm_tree_string(in->config, "usb.controller");

    if (g_strcmp0(type, "usb") || !model)
        return;
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        if (!strcmp(now, kinds[i].ours))
            return;
        if (strstr(model, kinds[i].part)) {
            import_put(in, "usb.controller", kinds[i].ours);
            return;
        }
    }
}

/* "0x046d" is "046d" (new). */
static char *usb_number(const xmlNode *node)
{
    g_autofree char *text = import_attribute(node, "id");

    return text ? g_ascii_strdown(g_str_has_prefix(text, "0x") ? text + 2 : text, -1) : NULL;
}

/* A USB device by what it is, not by where it is plugged in. */
static void libvirt_host_device(const Importer *in, const xmlNode *device)
{
    g_autofree char *type = import_attribute(device, "type");
    g_autofree char *vendor = usb_number(import_down(device, "source/vendor"));
    g_autofree char *product = usb_number(import_down(device, "source/product"));
    g_autofree char *place = NULL;

    if (g_strcmp0(type, "usb") || !vendor || !product) {
        import_say_lost(in, device, libvirt_lost, G_N_ELEMENTS(libvirt_lost));
        return;
    }
    place = import_place(in, "usb.filter", NULL, "device");
    import_put_at(in, place, "vendor", vendor);
    import_put_at(in, place, "product", product);
}

static void libvirt_share(const Importer *in, const xmlNode *share)
{
    g_autofree char *folder = import_attribute(import_child(share, "source"), "dir");
    g_autofree char *name = import_attribute(import_child(share, "target"), "dir");
    g_autofree char *place = NULL;

    if (!folder || !*folder) {
        import_say(in, _("shared folder '%s' (%s) is not imported"), name ? name : "?", "?");
        return;
    }
    place = import_place(in, "shared", name, "folder");
    import_put_at(in, place, "path", folder);
    import_put_at(in, place, "readonly", import_child(share, "readonly") ? "true" : NULL);
}

/* What the guest has given back when it starts. */
static void libvirt_balloon(const Importer *in, const xmlNode *balloon)
{
    g_autofree char *model = import_attribute(balloon, "model");
    g_autofree char *now = libvirt_size(in, import_child(in->root, "currentMemory"));
    uint64_t all = vm_tree_number(in->config, "system.memory");
    uint64_t bytes = now ? g_ascii_strtoull(now, NULL, 10) : all;
    g_autofree char *text = g_strdup_printf("%" G_GUINT64_FORMAT, all - MIN(bytes, all));

    if (g_strcmp0(model, "none") && bytes < all)
        import_put(in, "guest.balloon", text);
}

/* ---- all devices ----------------------------------------------------------------------------- */

static void libvirt_nothing(const Importer *in, const xmlNode *node)
{
}

/* Which element is whose; the order of the file is that of slots. */
static const struct {
    const char *element;
    void (*import)(const Importer *in, const xmlNode *node);
} libvirt_kinds[] = {
    {"disk", libvirt_disk},
    {"serial", libvirt_serial},
    {"parallel", libvirt_parallel},
    {"console", libvirt_console},
    {"graphics", libvirt_graphics},
    {"video", libvirt_video},
    {"input", libvirt_input},
    {"sound", libvirt_sound},
    {"controller", libvirt_controller},
    {"hostdev", libvirt_host_device},
    {"filesystem", libvirt_share},
    {"memballoon", libvirt_balloon},
    {"emulator", libvirt_nothing},
    {"audio", libvirt_nothing},
};

static void libvirt_device(const Importer *in, const xmlNode *at, unsigned *adapters)
{
    if (import_is_named(at, "interface")) {
        libvirt_interface(in, at, (*adapters)++);
        return;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(libvirt_kinds); i++) {
        if (import_is_named(at, libvirt_kinds[i].element)) {
            libvirt_kinds[i].import(in, at);
            return;
        }
    }
    if (!import_say_lost(in, at, libvirt_lost, G_N_ELEMENTS(libvirt_lost)))
        import_say(in, _("<%s> is not imported"), (const char *)at->name);
}

void libvirt_devices(const Importer *in)
{
    const xmlNode *devices = import_child(in->root, "devices");
    unsigned adapters = 0;

    for (const xmlNode *at = devices ? devices->children : NULL; at; at = at->next) {
        if (at->type == XML_ELEMENT_NODE)
            libvirt_device(in, at, &adapters);
    }
}
