/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * VirtualBox: .vbox files of format versions 1.11 to 1.20, and the .xml of those before. See
 * import.h; storage and devices have files of their own.
 */
#include <string.h>

#include "base/bits.h"
#include "base/i18n.h"
#include "vm/import_internal.h"

#define LOST_DEPTH 64

/* What is there and has no counterpart, each by its name. */
static const LostKind vbox_lost[] = {
    {"Snapshot", "name", "timeStamp",
     N_("snapshot '%s' (%s) is not imported; the images of its disks stay as they are")},
    {"VideoCapture", NULL, NULL, N_("recording the screen (<VideoCapture>) is not imported"), true},
    {"GuestProperty", "name", "value", N_("guest property '%s' (%s) is not imported")},
    {"TrustedPlatformModule", "type", NULL, N_("the TPM (%s) is not imported")},
    {"PCI", NULL, NULL, N_("PCI devices of the host are not imported")},
    {"EmulatedUSB", NULL, NULL, N_("emulated USB devices are not imported")},
    {"Teleporter", NULL, NULL, N_("teleporting is not imported")},
};

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
    g_autoptr(GString) order = g_string_new(NULL);
    const xmlNode *list = part(hardware, "Boot");

    for (const xmlNode *at = list ? list->children : NULL; at; at = at->next) {
        g_autofree char *device =
            import_is_named(at, "Order") ? import_attribute(at, "device") : NULL;
        const char *ours = import_word(vbox_devices, device);
        if (ours)
            g_string_append_printf(order, "%s%s", order->len ? "," : "", ours);
    }
    import_put(in, "system.boot", order->len ? order->str : NULL);
}

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

static void vbox_board(const Importer *in, const xmlNode *hardware)
{
    static const ImportWord providers[] = {
        {"KVM", "kvm"}, {"HyperV", "hyperv"}, {"None", "none"}, {"Minimal", "none"}, {NULL}};
    g_autofree char *zone = import_attribute(part(hardware, "RTC"), "localOrUTC");
    g_autofree char *paravirt = import_attribute(part(hardware, "Paravirt"), "provider");
    g_autofree char *firmware = import_attribute(part(hardware, "Firmware"), "type");
    g_autofree char *chipset = import_attribute(part(hardware, "Chipset"), "type");
    const xmlNode *bios = part(hardware, "BIOS");
    g_autofree char *ioapic = import_attribute(import_child(bios, "IOAPIC"), "enabled");
    g_autofree char *apic = import_attribute(import_child(bios, "APIC"), "mode");
    g_autofree char *offset = import_attribute(import_child(bios, "TimeOffset"), "value");

    import_put(in, "system.firmware",
               firmware && g_str_has_prefix(firmware, "EFI") ? "uefi" : NULL);
    if (chipset && strcmp(chipset, "PIIX3"))
        import_say(in, _("the board '%s' becomes that of this version, an i440FX"), chipset);
    import_put(in, "system.rtc", zone ? (strcmp(zone, "local") ? "utc" : "local") : NULL);
    import_put_switch(in, "system", "acpi", import_child(bios, "ACPI"), "enabled");
    import_put_switch(in, "system", "hpet", part(hardware, "HPET"), "enabled");
    if (ioapic && !import_is_true(ioapic))
        import_say(in, _("the I/O APIC was off and is on here, which guests of one CPU pass over"));
    if (apic && !strcmp(apic, "Disabled"))
        import_put(in, "system.apic", "false");
    import_put(in, "system.paravirt", import_word(providers, paravirt));
    if (offset && strcmp(offset, "0"))
        import_say(in, _("the hardware clock was %s ms from the host's (<TimeOffset>), and is not"),
                   offset);
}

/* The next power of two: adapters here have no other sizes. */
static void vbox_display(const Importer *in, const xmlNode *hardware)
{
    const xmlNode *display = import_child(hardware, "Display");
    g_autofree char *mib = import_attribute(display, "VRAMSize");
    g_autofree char *monitors = import_attribute(display, "monitorCount");
    g_autofree char *controller = import_attribute(display, "controller");
    g_autofree char *accelerated = import_attribute(display, "accelerate3D");
    uint64_t wanted = mib ? g_ascii_strtoull(mib, NULL, 10) : 0, size = 1;
    g_autofree char *text = NULL;

    while (size < wanted && size < 256)
        size *= 2;
    text = wanted ? g_strdup_printf("%uM", (unsigned)size) : NULL;
    import_put(in, "display.vram", text);
    if (!monitors)
        monitors = import_attribute(display, "MonitorCount");
    import_put(in, "display.monitors", monitors);
    if (import_is_true(accelerated))
        import_say(in, _("3D acceleration is not imported: this version's adapters have none"));
    if (!g_strcmp0(controller, "None"))
        import_put(in, "display.adapter", "none");
}

/* Format 1.10 and those before have the port as an attribute. */
static void vbox_viewers(const Importer *in, const xmlNode *hardware)
{
    const xmlNode *remote = import_child(hardware, "RemoteDisplay");
    const xmlNode *list = import_child(remote, "VRDEProperties");
    g_autofree char *enabled = import_attribute(remote, "enabled");
    g_autofree char *ports = import_attribute(remote, "port"), *listen = NULL;
    g_autofree char *address = import_attribute(remote, "netAddress");

    for (const xmlNode *at = list ? list->children : NULL; at; at = at->next) {
        g_autofree char *name = import_attribute(at, "name");
        char **value = !g_strcmp0(name, "TCP/Ports")     ? &ports
                       : !g_strcmp0(name, "TCP/Address") ? &address
                                                         : NULL;
        if (value)
            g_free(*value);
        if (value)
            *value = import_attribute(at, "value");
    }
    if (!remote || !import_is_true(enabled))
        return;
    /* Of several ports ("5000,5010-5012") the first; no address was any, which nobody asked for. */
    listen = g_strdup_printf("%s:%.*s", address && *address ? address : "127.0.0.1",
                             ports ? (int)strspn(ports, "0123456789") : 0, ports ? ports : "");
    import_put(in, "display.rdp", g_str_has_suffix(listen, ":") ? "127.0.0.1:3389" : listen);
}

static void vbox_input(const Importer *in, const xmlNode *hardware)
{
    static const ImportWord pointers[] = {{"USBMouse", "usb-mouse"},
                                          {"USBTablet", "usb-tablet"},
                                          {"USBMultiTouch", "usb-tablet"},
                                          {"ComboMouse", "usb-tablet"},
                                          {NULL}};
    static const ImportWord keyboards[] = {
        {"USBKeyboard", "usb"}, {"ComboKeyboard", "usb"}, {NULL}};
    const xmlNode *hid = import_child(hardware, "HID");
    g_autofree char *pointer = import_attribute(hid, "Pointing");
    g_autofree char *keyboard = import_attribute(hid, "Keyboard");

    import_put(in, "input.pointer", import_word(pointers, pointer));
    import_put(in, "input.keyboard", import_word(keyboards, keyboard));
}

static void vbox_guest(const Importer *in, const xmlNode *hardware)
{
    static const ImportWord directions[] = {
        {"HostToGuest", "to-guest"}, {"GuestToHost", "to-host"}, {"Bidirectional", "both"}, {NULL}};
    g_autofree char *clipboard = import_attribute(import_child(hardware, "Clipboard"), "mode");
    g_autofree char *drag = import_attribute(import_child(hardware, "DragAndDrop"), "mode");
    g_autofree char *mib = import_attribute(import_child(hardware, "Guest"), "memoryBalloonSize");
    g_autofree char *balloon = mib ? g_strconcat(mib, "M", NULL) : NULL;

    import_put(in, "guest.clipboard", import_word(directions, clipboard));
    import_put(in, "guest.drag-and-drop", import_word(directions, drag));
    import_put(in, "guest.balloon", mib && strcmp(mib, "0") ? balloon : NULL);
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

/* What other programs keep with it: `vboxmanage getextradata`. */
static void vbox_extra(const Importer *in, const xmlNode *machine)
{
    const xmlNode *list = import_child(machine, "ExtraData");

    for (const xmlNode *at = list ? list->children : NULL; at; at = at->next) {
        g_autofree char *name = import_attribute(at, "name");
        g_autofree char *value = import_attribute(at, "value");
        if (!import_is_named(at, "ExtraDataItem") || !name || !value)
            continue;
        /* Parts of a name are separated by dots here. */
        g_strdelimit(name, ".", '_');
        g_autofree char *path = g_strdup_printf("extra.%s.value", name);
        import_put(in, path, value);
    }
}

static void vbox_autostart(const Importer *in, const xmlNode *machine)
{
    static const ImportWord stops[] = {{"PowerOff", "poweroff"}, {"AcpiShutdown", "acpi"}, {NULL}};
    const xmlNode *autostart = import_child(machine, "Autostart");
    g_autofree char *delay = import_attribute(autostart, "delay");
    g_autofree char *stop = import_attribute(autostart, "autostop");

    import_put_switch(in, "autostart", "enabled", autostart, "enabled");
    import_put(in, "autostart.delay", delay);
    if (!g_strcmp0(stop, "SaveState"))
        import_say(in, _("autostart.stop: this version cannot save a running machine's state; it "
                         "is stopped by its power button"));
    else
        import_put(in, "autostart.stop", import_word(stops, stop));
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
    g_autofree char *uuid = import_attribute(machine, "uuid");
    g_autofree char *os = import_attribute(machine, "OSType");
    g_autofree char *description = import_content(import_child(machine, "Description"));

    import_put_name(in, name);
    import_put(in, "general.os", os);
    import_put(in, "general.description", description);
    import_put_uuid(in, uuid);
    vbox_groups(in, machine);
    vbox_extra(in, machine);
    vbox_autostart(in, machine);
    vbox_system(in, hardware);
    vbox_board(in, hardware);
    vbox_display(in, hardware);
    vbox_viewers(in, hardware);
    vbox_input(in, hardware);
    vbox_guest(in, hardware);
    vbox_boot(in, hardware);
    vbox_storage(in, machine);
    vbox_network(in, hardware);
    vbox_ports(in, hardware);
    vbox_audio(in, hardware);
    vbox_usb(in, hardware);
    vbox_shares(in, hardware);
    if (state)
        import_say(in, _("the saved state %s is not imported; the machine begins turned off"),
                   state);
    say_all_lost(in, machine, LOST_DEPTH);
}
