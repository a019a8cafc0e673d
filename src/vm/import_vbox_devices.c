/* SPDX-License-Identifier: GPL-3.0-or-later */
/* VirtualBox's devices but for storage. See import.h. */
#include <string.h>

#include "base/i18n.h"
#include "vm/import_internal.h"

/* ---- network --------------------------------------------------------------------------------- */

/* What it is plugged into; the first element with a name that we know says it. */
static void vbox_backend(const Importer *in, const xmlNode *adapter, const char *slot)
{
    static const ImportWord backends[] = {{"NAT", "nat"},
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

static void vbox_forwards(const Importer *in, const xmlNode *nat, const char *slot)
{
    for (const xmlNode *at = nat ? nat->children : NULL; at; at = at->next) {
        g_autofree char *given = import_attribute(at, "name");
        g_autofree char *list = g_strdup_printf("network.%s.forward", slot);
        g_autofree char *place = import_place(in, list, given, "rule");
        static const ImportWord rows[] = {{"hostport", "host-port"},
                                          {"guestport", "guest-port"},
                                          {"hostip", "host-address"},
                                          {"guestip", "guest-address"}};
        g_autofree char *protocol = import_attribute(at, "proto");
        if (!import_is_named(at, "Forwarding"))
            continue;
        for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
            g_autofree char *value = import_attribute(at, rows[i].theirs);
            import_put_at(in, place, rows[i].ours, value && *value ? value : NULL);
        }
        import_put_at(in, place, "protocol", g_strcmp0(protocol, "0") ? "tcp" : "udp");
    }
}

static void vbox_adapter(const Importer *in, const xmlNode *adapter, const char *slot)
{
    static const ImportWord models[] = {{"Am79C970A", "pcnet"}, {"Am79C973", "pcnet"},
                                        {"Am79C960", "pcnet"},  {"82540EM", "e1000"},
                                        {"82543GC", "e1000"},   {"82545EM", "e1000"},
                                        {"virtio", "virtio"},   {"NE2000", "ne2000"},
                                        {"NE1000", "ne2000"},   {NULL}};
    g_autofree char *mac = import_attribute(adapter, "MACAddress");
    g_autofree char *type = import_attribute(adapter, "type");
    g_autofree char *place = g_strconcat("network.", slot, NULL);
    g_autoptr(GString) colons = g_string_new(NULL);

    for (unsigned i = 0; mac && strlen(mac) == 12 && i < 12; i++)
        g_string_append_printf(colons, "%s%c", i && i % 2 == 0 ? ":" : "", g_ascii_tolower(mac[i]));
    import_put_at(in, place, "mac", colons->len ? colons->str : NULL);
    import_put_at(in, place, "model", import_word(models, type));
    import_put_switch(in, place, "cable", adapter, "cable");
    vbox_backend(in, adapter, slot);
    vbox_forwards(in, import_child(adapter, "NAT"), slot);
}

void vbox_network(const Importer *in, const xmlNode *hardware)
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

void vbox_ports(const Importer *in, const xmlNode *hardware)
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

/* ---- sound, USB, folders ----------------------------------------------------------------------
 */

void vbox_audio(const Importer *in, const xmlNode *hardware)
{
    static const ImportWord cards[] = {{"AC97", "ac97"}, {"HDA", "hda"}, {"SB16", "sb16"}, {NULL}};
    const xmlNode *audio = import_child(hardware, "AudioAdapter");
    g_autofree char *enabled = import_attribute(audio, "enabled");
    g_autofree char *card = import_attribute(audio, "controller");

    if (!audio || !import_is_true(enabled))
        return;
    import_put(in, "audio.adapter", card ? import_word(cards, card) : "ac97");
    import_put_switch(in, "audio", "output", audio, "enabledOut");
    import_put_switch(in, "audio", "input", audio, "enabledIn");
}

/* The fastest of its controllers: it takes slower devices, too. */
static const char *vbox_usb_controller(const xmlNode *hardware)
{
    static const char *const kinds[] = {"uhci", "ehci", "xhci"};
    static const char *const theirs[] = {"OHCI", "EHCI", "XHCI"};
    const xmlNode *list = import_down(hardware, "USB/Controllers");
    const xmlNode *old = import_child(hardware, "USBController"); /* before format 1.15 */
    g_autofree char *enabled = import_attribute(old, "enabled");
    g_autofree char *fast = import_attribute(old, "enabledEhci");
    int best = import_is_true(enabled) ? import_is_true(fast) : -1;

    for (const xmlNode *at = list ? list->children : NULL; at; at = at->next) {
        g_autofree char *type = import_attribute(at, "type");
        for (int i = 0; i < (int)G_N_ELEMENTS(kinds); i++)
            best = !g_strcmp0(type, theirs[i]) ? MAX(best, i) : best;
    }
    return best < 0 ? NULL : kinds[best];
}

/* "0x46D" or "046D" is "046d" (new). */
static char *usb_number(const xmlNode *filter, const char *name)
{
    g_autofree char *text = import_attribute(filter, name);
    guint64 number = 0;
    const char *digits = text && g_str_has_prefix(text, "0x") ? text + 2 : text;

    return digits && g_ascii_string_to_unsigned(digits, 16, 0, 0xffff, &number, NULL)
               ? g_strdup_printf("%04x", (unsigned)number)
               : NULL;
}

static void vbox_filter(const Importer *in, const xmlNode *filter)
{
    static const char *const more[] = {"revision", "manufacturer", "product", "port", "remote"};
    g_autofree char *name = import_attribute(filter, "name");
    g_autofree char *vendor = usb_number(filter, "vendorId");
    g_autofree char *product = usb_number(filter, "productId");
    g_autofree char *serial = import_attribute(filter, "serialNumber");
    g_autofree char *place = import_place(in, "usb.filter", name, "filter");

    import_put_at(in, place, "vendor", vendor);
    import_put_at(in, place, "product", product);
    import_put_at(in, place, "serial", serial && *serial ? serial : NULL);
    if (!vm_tree_has(in->config, place)) {
        import_say(in,
                   _("USB filter '%s' is not imported: it names no vendor, product or serial "
                     "number"),
                   name ? name : "");
        return;
    }
    import_put_switch(in, place, "active", filter, "active");
    for (unsigned i = 0; i < G_N_ELEMENTS(more); i++) {
        g_autofree char *value = import_attribute(filter, more[i]);
        if (value && *value)
            import_say(in, _("USB filter '%s' does not look at '%s' any more (%s)"),
                       name ? name : "", more[i], value);
    }
}

void vbox_usb(const Importer *in, const xmlNode *hardware)
{
    const xmlNode *list = import_down(hardware, "USB/DeviceFilters");

    if (!list)
        list = import_child(hardware, "USBController");
    import_put(in, "usb.controller", vbox_usb_controller(hardware));
    for (const xmlNode *at = list ? list->children : NULL; at; at = at->next) {
        if (import_is_named(at, "DeviceFilter"))
            vbox_filter(in, at);
    }
}

void vbox_shares(const Importer *in, const xmlNode *hardware)
{
    const xmlNode *list = import_child(hardware, "SharedFolders");

    for (const xmlNode *at = list ? list->children : NULL; at; at = at->next) {
        g_autofree char *name = import_attribute(at, "name");
        g_autofree char *path = import_attribute(at, "hostPath");
        g_autofree char *writable = import_attribute(at, "writable");
        g_autofree char *point = import_attribute(at, "autoMountPoint");
        g_autofree char *place =
            import_is_named(at, "SharedFolder") ? import_place(in, "shared", name, "folder") : NULL;
        if (!place || !path || !*path)
            continue;
        import_put_at(in, place, "path", path);
        import_put_at(in, place, "readonly", import_is_true(writable) ? NULL : "true");
        import_put_switch(in, place, "automount", at, "autoMount");
        import_put_at(in, place, "mount-point", point && *point ? point : NULL);
    }
}
