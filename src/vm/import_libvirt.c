/* SPDX-License-Identifier: GPL-3.0-or-later */
/* libvirt's domains, but for their devices. See import.h. */
#include <string.h>

#include "base/bits.h"
#include "base/i18n.h"
#include "cpu/cpuid.h"
#include "vm/import_internal.h"

/* ---- memory ---------------------------------------------------------------------------------- */

char *libvirt_size(const Importer *in, const xmlNode *node)
{
    static const struct {
        const char *unit;
        uint64_t bytes;
    } units[] = {{"b", 1},        {"bytes", 1},    {"KiB", KIB(1)},    {"k", KIB(1)},
                 {"KB", 1000},    {"MiB", MIB(1)}, {"M", MIB(1)},      {"MB", 1000000},
                 {"GiB", GIB(1)}, {"G", GIB(1)},   {"GB", 1000000000}, {"TiB", GIB(1024)},
                 {"T", GIB(1024)}};
    g_autofree char *unit = import_attribute(node, "unit");
    g_autofree char *number = import_content(node);
    uint64_t bytes = 0;
    unsigned i = 0;

    while (i < G_N_ELEMENTS(units) && strcmp(units[i].unit, unit ? unit : "KiB") != 0)
        i++;
    if (i == G_N_ELEMENTS(units)) {
        import_say(in, _("memory in '%s' is not known"), unit);
        return NULL;
    }
    if (!number)
        return NULL;
    if (!g_ascii_string_to_unsigned(number, 10, 0, UINT64_MAX / units[i].bytes, &bytes, NULL))
        bytes = UINT64_MAX; /* which is refused by name */
    return g_strdup_printf("%" G_GUINT64_FORMAT,
                           bytes * (bytes == UINT64_MAX ? 1 : units[i].bytes));
}

static void libvirt_memory(const Importer *in)
{
    g_autofree char *memory = libvirt_size(in, import_child(in->root, "memory"));

    import_put(in, "system.memory", memory);
}

/* ---- booting --------------------------------------------------------------------------------- */

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
    static const ImportWord devices[] = {
        {"hd", "disk"}, {"cdrom", "cdrom"}, {"fd", "floppy"}, {"network", "network"}, {NULL}};
    g_autoptr(GString) order = g_string_new(NULL);
    const xmlNode *os = import_child(in->root, "os");

    for (const xmlNode *at = os ? os->children : NULL; at; at = at->next) {
        g_autofree char *device = import_is_named(at, "boot") ? import_attribute(at, "dev") : NULL;
        const char *ours = import_word(devices, device);
        if (ours)
            g_string_append_printf(order, "%s%s", order->len ? "," : "", ours);
    }
    libvirt_boot_devices(in, order);
    import_put_switch(in, "system", "boot-menu", import_child(os, "bootmenu"), "enable");
    import_put(in, "system.boot", order->len ? order->str : NULL);
}

/* By name, or by its files: OVMF's come as flash memory. */
static bool libvirt_is_uefi(const xmlNode *os)
{
    g_autofree char *firmware = import_attribute(os, "firmware");
    g_autofree char *loader = import_attribute(import_child(os, "loader"), "type");
    g_autofree char *file = import_content(import_child(os, "loader"));

    return !g_strcmp0(firmware, "efi") || !g_strcmp0(loader, "pflash") ||
           (file && (strstr(file, "OVMF") || strstr(file, "edk2")));
}

static void libvirt_firmware(const Importer *in, const xmlNode *os)
{
    g_autofree char *file = import_content(import_child(os, "loader"));

    if (libvirt_is_uefi(os))
        import_put(in, "system.firmware", "uefi");
    else if (file && *file)
        import_say(in, _("the firmware %s is not imported; to use it: system.firmware-file"), file);
    if (import_child(os, "nvram"))
        import_say(in, _("the firmware's variables (<nvram>) are not imported"));
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
    bool is_ours = model && g_strv_contains(cpu_model_names(), model);

    import_put(in, "system.cpus", now ? now : most);
    import_put(in, "system.cpu", is_ours ? model : NULL);
    if (model && *model && !is_ours)
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
    g_autofree char *uuid = import_content(import_child(in->root, "uuid"));
    g_autofree char *description = import_content(import_child(in->root, "description"));
    g_autofree char *offset = import_attribute(import_child(in->root, "clock"), "offset");
    g_autofree char *machine = import_attribute(import_child(os, "type"), "machine");
    g_autofree char *kernel = import_content(import_child(os, "kernel"));
    g_autofree char *initrd = import_content(import_child(os, "initrd"));
    g_autofree char *line = import_content(import_child(os, "cmdline"));

    import_put_name(in, name);
    import_put_uuid(in, uuid);
    import_put(in, "general.description", description);
    libvirt_os(in);
    libvirt_cpu(in);
    libvirt_features(in);
    import_put(in, "system.rtc", offset && !strcmp(offset, "localtime") ? "local" : NULL);
    libvirt_firmware(in, os);
    if (machine && strstr(machine, "q35"))
        import_say(in, _("the board '%s' becomes that of this version, an i440FX"), machine);
    import_put(in, "kernel.file", kernel);
    import_put(in, "kernel.initrd", kernel ? initrd : NULL);
    import_put(in, "kernel.append", kernel ? line : NULL);
    libvirt_memory(in);
    libvirt_boot(in);
    libvirt_devices(in);
    libvirt_rest(in);
}
