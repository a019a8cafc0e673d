/* SPDX-License-Identifier: GPL-3.0-or-later */
/* vboxmanage: lists, and a machine for people and for scripts. */
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "base/i18n.h"
#include "base/user_folders.h"
#include "cli/vbox.h"
#include "machine/pc.h"

/* ---- lists ----------------------------------------------------------------------------------- */

static bool list_machines(VboxArgs *a, bool running, GError **error)
{
    g_autoptr(JsonNode) answer = ospite_vm_list(a->client, error);
    JsonArray *vms = answer ? ospite_list(answer, "vms") : NULL;

    for (guint i = 0; vms && i < json_array_get_length(vms); i++) {
        JsonNode *vm = json_array_get_element(vms, i);
        const char *state = ospite_text(vm, "state");
        if (!running || !strcmp(state, "running") || !strcmp(state, "paused") ||
            !strcmp(state, "starting"))
            printf("\"%s\" {%s}\n", ospite_text(vm, "name"), ospite_text(vm, "uuid"));
    }
    return answer != NULL;
}

static void print_medium(JsonNode *medium)
{
    g_autofree char *format = g_ascii_strup(ospite_text(medium, "format"), -1);
    const char *parent = ospite_text(medium, "parent");

    printf(
        "UUID:           %s\nParent UUID:    %s\nState:          %s\nType:           %s (%s)\n"
        "Location:       %s\nStorage format: %s\nCapacity:       %" G_GINT64_FORMAT " MBytes\n\n",
        ospite_text(medium, "uuid"), *parent ? parent : "base",
        ospite_number(medium, "accessible") ? "created" : "inaccessible",
        ospite_text(medium, "mode"), *parent ? "differencing" : "base", ospite_text(medium, "path"),
        format, ospite_number(medium, "virtual_size") / (gint64)MIB(1));
}

static bool list_media(VboxArgs *a, const char *kind, GError **error)
{
    g_autoptr(JsonNode) answer = ospite_media_list(a->client, error);
    JsonArray *media = answer ? ospite_list(answer, "media") : NULL;

    for (guint i = 0; media && i < json_array_get_length(media); i++) {
        JsonNode *medium = json_array_get_element(media, i);
        if (!strcmp(ospite_text(medium, "kind"), kind))
            print_medium(medium);
    }
    return answer != NULL;
}

/* What scripts choose from; createvm takes any word. */
static bool list_systems(void)
{
    static const struct {
        const char *id, *name, *family;
        bool is_64;
    } systems[] = {
        {"Other", "Other/Unknown", "Other", false},
        {"Other_64", "Other/Unknown (64-bit)", "Other", true},
        {"Linux26", "Linux 2.6 / 3.x / 4.x / 5.x (32-bit)", "Linux", false},
        {"Linux26_64", "Linux 2.6 / 3.x / 4.x / 5.x (64-bit)", "Linux", true},
        {"ArchLinux_64", "Arch Linux (64-bit)", "Linux", true},
        {"Debian", "Debian (32-bit)", "Linux", false},
        {"Debian_64", "Debian (64-bit)", "Linux", true},
        {"Fedora_64", "Fedora (64-bit)", "Linux", true},
        {"OpenSUSE_64", "openSUSE (64-bit)", "Linux", true},
        {"Oracle_64", "Oracle Linux (64-bit)", "Linux", true},
        {"RedHat_64", "Red Hat (64-bit)", "Linux", true},
        {"Ubuntu", "Ubuntu (32-bit)", "Linux", false},
        {"Ubuntu_64", "Ubuntu (64-bit)", "Linux", true},
        {"FreeBSD_64", "FreeBSD (64-bit)", "BSD", true},
        {"OpenBSD_64", "OpenBSD (64-bit)", "BSD", true},
        {"NetBSD_64", "NetBSD (64-bit)", "BSD", true},
        {"Windows10_64", "Windows 10 (64-bit)", "Windows", true},
        {"Windows11_64", "Windows 11 (64-bit)", "Windows", true},
        {"DOS", "DOS", "Other", false},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(systems); i++)
        printf("ID:          %s\nDescription: %s\nFamily ID:   %s\nFamily Desc: %s\n"
               "64 bit:      %s\n\n",
               systems[i].id, systems[i].name, systems[i].family, systems[i].family,
               systems[i].is_64 ? "true" : "false");
    return true;
}

static bool list_properties(void)
{
    g_autofree char *folder = user_machine_folder();

    printf("API version:                     1\n"
           "Minimum guest RAM size:          %" G_GUINT64_FORMAT " Megabytes\n"
           "Maximum guest RAM size:          %" G_GUINT64_FORMAT " Megabytes\n"
           "Minimum guest CPU count:         1\nMaximum guest CPU count:         %u\n"
           "Default machine folder:          %s\n",
           (guint64)(PC_MEMORY_MIN / MIB(1)), (guint64)(PC_MEMORY_MAX / MIB(1)), VM_MAX_VCPUS,
           folder);
    return true;
}

bool vbox_list(VboxArgs *a, GError **error)
{
    static const char *const kinds[][2] = {
        {"hdds", "disk"}, {"dvds", "cdrom"}, {"floppies", "floppy"}, {NULL}};
    const char *what = vbox_word(a, 0) ? vbox_word(a, 0) : "";
    const char *kind = vbox_pair(kinds, what);

    if (kind)
        return list_media(a, kind, error);
    if (!strcmp(what, "vms") || !strcmp(what, "runningvms"))
        return list_machines(a, *what == 'r', error);
    if (!strcmp(what, "ostypes"))
        return list_systems();
    if (!strcmp(what, "systemproperties"))
        return list_properties();
    return vbox_usage(error,
                      _("list has vms, runningvms, hdds, dvds, floppies, ostypes and "
                        "systemproperties, not '%s'"),
                      what);
}

/* ---- one machine ----------------------------------------------------------------------------- */

/* Where what is shown goes: as lines for people, or NAME="VALUE" for scripts. */
typedef struct Show {
    JsonNode *vm;
    bool machine_readable;
} Show;

static const char *text_of(const Show *show, const char *member)
{
    g_autofree char *place = g_strconcat("vm.config.", member, NULL);

    return ospite_text(show->vm, place);
}

static gint64 number_of(const Show *show, const char *member)
{
    g_autofree char *place = g_strconcat("vm.config.", member, NULL);

    return ospite_number(show->vm, place);
}

static void put(const Show *show, const char *label, const char *name, const char *value)
{
    g_autofree char *colon = g_strconcat(label, ":", NULL);

    if (show->machine_readable)
        printf("%s=\"%s\"\n", name, value);
    else
        printf("%-28s %s\n", colon, value);
}

static void put_number(const Show *show, const char *label, const char *name, gint64 value,
                       const char *unit)
{
    g_autofree char *colon = g_strconcat(label, ":", NULL);

    if (show->machine_readable)
        printf("%s=%" G_GINT64_FORMAT "\n", name, value);
    else
        printf("%-28s %" G_GINT64_FORMAT "%s\n", colon, value, unit);
}

static void put_switch(const Show *show, const char *label, const char *name, const char *member)
{
    bool on = number_of(show, member);

    put(show, label, name,
        show->machine_readable ? (on ? "on" : "off") : (on ? "enabled" : "disabled"));
}

static void put_boot(const Show *show)
{
    static const char *const theirs[][3] = {{"disk", "disk", "HardDisk"},
                                            {"cdrom", "dvd", "DVD"},
                                            {"floppy", "floppy", "Floppy"},
                                            {"network", "net", "Network"}};
    JsonArray *order = ospite_list(show->vm, "vm.config.system.boot");
    guint count = order ? json_array_get_length(order) : 0;

    for (guint i = 0; i < 4; i++) {
        g_autofree char *name = g_strdup_printf("boot%u", i + 1);
        g_autofree char *label = g_strdup_printf("Boot Device %u", i + 1);
        const char *device = show->machine_readable ? "none" : "Not Assigned";
        for (unsigned k = 0; i < count && k < G_N_ELEMENTS(theirs); k++) {
            if (!strcmp(theirs[k][0], json_array_get_string_element(order, i)))
                device = theirs[k][show->machine_readable ? 1 : 2];
        }
        put(show, label, name, device);
    }
}

static void put_state(const Show *show)
{
    static const char *const theirs[][3] = {
        {"off", "poweroff", "powered off"}, {"starting", "starting", "starting"},
        {"running", "running", "running"},  {"paused", "paused", "paused"},
        {"crashed", "aborted", "aborted"},  {"inaccessible", "inaccessible", "inaccessible"}};
    const char *state = ospite_text(show->vm, "vm.state");
    const char *since = ospite_text(show->vm, "vm.started_at");
    g_autofree char *text = NULL;

    if (!*since)
        since = ospite_text(show->vm, "vm.last_end.at");
    for (unsigned i = 0; i < G_N_ELEMENTS(theirs); i++) {
        if (!strcmp(theirs[i][0], state))
            state = theirs[i][show->machine_readable ? 1 : 2];
    }
    text = show->machine_readable || !*since ? g_strdup(state)
                                             : g_strdup_printf("%s (since %s)", state, since);
    put(show, "State", "VMState", text);
    if (show->machine_readable && *since)
        put(show, "", "VMStateChangeTime", since);
}

static const char *chip_of(const char *type)
{
    static const char *const chips[][2] = {
        {"ide", "PIIX4"}, {"floppy", "I82078"}, {"ahci", "IntelAhci"},         {"scsi", "LsiLogic"},
        {"nvme", "NVMe"}, {"usb", "USB"},       {"virtio-scsi", "VirtioSCSI"}, {NULL}};
    const char *chip = vbox_pair(chips, type);

    return chip ? chip : type;
}

static void put_drive(const Show *show, const char *controller, const char *type, const char *slot,
                      JsonNode *drive)
{
    guint64 number = g_ascii_strtoull(slot, NULL, 10);
    guint port = (guint)(strcmp(type, "ide") ? number : number / 2);
    guint device = strcmp(type, "ide") ? 0 : (guint)(number % 2);
    const char *medium = ospite_text(drive, "medium");

    if (show->machine_readable)
        printf("\"%s-%u-%u\"=\"%s\"\n", controller, port, device, *medium ? medium : "emptydrive");
    else
        printf("  Port %u, Unit %u: %s%s%s\n", port, device, *medium ? "Location: \"" : "Empty",
               medium, *medium ? "\"" : "");
}

static void put_controller(const Show *show, unsigned index, const char *name, JsonNode *node)
{
    const char *type = ospite_text(node, "type"), *slot;
    g_autofree char *name_key = g_strdup_printf("storagecontrollername%u", index);
    g_autofree char *type_key = g_strdup_printf("storagecontrollertype%u", index);
    JsonObjectIter iter;
    JsonNode *drive;

    if (show->machine_readable) {
        put(show, "", name_key, name);
        put(show, "", type_key, chip_of(type));
    } else {
        printf("#%u: '%s', Type: %s\n", index, name, chip_of(type));
    }
    json_object_iter_init_ordered(&iter, json_node_get_object(node));
    while (json_object_iter_next_ordered(&iter, &slot, &drive)) {
        if (JSON_NODE_HOLDS_OBJECT(drive))
            put_drive(show, name, type, slot, drive);
    }
}

static JsonObject *section_of(const Show *show, const char *name)
{
    JsonObject *vm = json_object_get_object_member(json_node_get_object(show->vm), "vm");
    JsonObject *config = json_object_get_object_member(vm, "config");
    JsonNode *node = config ? json_object_get_member(config, name) : NULL;

    return node && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
}

static void put_storage(const Show *show)
{
    JsonObject *storage = section_of(show, "storage");
    JsonObjectIter iter;
    const char *name;
    JsonNode *node;
    unsigned index = 0;

    if (!show->machine_readable)
        printf("Storage Controllers:\n");
    if (!storage)
        return;
    json_object_iter_init_ordered(&iter, storage);
    while (json_object_iter_next_ordered(&iter, &name, &node)) {
        if (JSON_NODE_HOLDS_OBJECT(node))
            put_controller(show, index++, name, node);
    }
}

/* One port that leads to the guest, "NAME,PROTOCOL,HOST-IP,HOST-PORT,GUEST-IP,GUEST-PORT". */
static void put_forward(const Show *show, unsigned adapter, unsigned index, const char *name,
                        JsonNode *node)
{
    const char *protocol = ospite_text(node, "protocol");
    const char *host = ospite_text(node, "host-address"),
               *guest = ospite_text(node, "guest-address");
    gint64 host_port = ospite_number(node, "host-port");
    gint64 guest_port = ospite_number(node, "guest-port");

    if (show->machine_readable)
        printf("Forwarding(%u)=\"%s,%s,%s,%" G_GINT64_FORMAT ",%s,%" G_GINT64_FORMAT "\"\n", index,
               name, protocol, host, host_port, guest, guest_port);
    else
        printf("NIC %u Rule(%u):   name = %s, protocol = %s, host ip = %s, host port = "
               "%" G_GINT64_FORMAT ", guest ip = %s, guest port = %" G_GINT64_FORMAT "\n",
               adapter + 1, index, name, protocol, host, host_port, guest, guest_port);
}

static void put_forwards(const Show *show, unsigned adapter, JsonObject *node, unsigned *index)
{
    JsonNode *all = json_object_get_member(node, "forward");
    JsonObjectIter iter;
    const char *name;
    JsonNode *forward;

    if (!all || !JSON_NODE_HOLDS_OBJECT(all))
        return;
    json_object_iter_init_ordered(&iter, json_node_get_object(all));
    while (json_object_iter_next_ordered(&iter, &name, &forward))
        put_forward(show, adapter, (*index)++, name, forward);
}

/* "08:00:27:ab:cd:ef" as they write it (new). */
static char *their_mac(const char *mac)
{
    g_auto(GStrv) bytes = g_strsplit(mac, ":", -1);
    g_autofree char *joined = g_strjoinv("", bytes);

    return g_ascii_strup(joined, -1);
}

static void put_adapter(const Show *show, unsigned number, JsonNode *node, unsigned *forwards)
{
    static const char *const theirs[][2] = {{"none", "null"},         {"nat", "nat"},
                                            {"bridge", "bridged"},    {"internal", "intnet"},
                                            {"hostonly", "hostonly"}, {NULL}};
    g_autofree char *label = g_strdup_printf("NIC %u", number + 1);
    g_autofree char *name = g_strdup_printf("nic%u", number + 1);
    g_autofree char *mac_name = g_strdup_printf("macaddress%u", number + 1);
    g_autofree char *mac = their_mac(ospite_text(node, "mac"));
    const char *backend = ospite_text(node, "backend"), *word = vbox_pair(theirs, backend);
    g_autofree char *text = NULL;

    word = word ? word : backend;
    text = show->machine_readable || !*mac ? g_strdup(word)
                                           : g_strdup_printf("MAC: %s, Attachment: %s", mac, word);
    put(show, label, name, text);
    if (show->machine_readable && *mac)
        put(show, "", mac_name, mac);
    put_forwards(show, number, json_node_get_object(node), forwards);
}

static void put_network(const Show *show)
{
    JsonObject *adapters = section_of(show, "network");
    unsigned forwards = 0;

    for (unsigned i = 0; i < 8; i++) {
        g_autofree char *number = g_strdup_printf("%u", i);
        g_autofree char *label = g_strdup_printf("NIC %u", i + 1);
        g_autofree char *name = g_strdup_printf("nic%u", i + 1);
        JsonNode *node = adapters ? json_object_get_member(adapters, number) : NULL;
        if (node && JSON_NODE_HOLDS_OBJECT(node))
            put_adapter(show, i, node, &forwards);
        else
            put(show, label, name, show->machine_readable ? "none" : "disabled");
    }
}

static void put_general(const Show *show)
{
    const char *groups = text_of(show, "general.groups");

    put(show, "Name", "name", ospite_text(show->vm, "vm.name"));
    put(show, "Groups", "groups", *groups ? groups : "/");
    put(show, "Guest OS", "ostype", text_of(show, "general.os"));
    put(show, "UUID", "UUID", ospite_text(show->vm, "vm.uuid"));
    put(show, "Config file", "CfgFile", ospite_text(show->vm, "vm.file"));
    put(show, "Log file", "LogFile", ospite_text(show->vm, "vm.log"));
}

static void put_system(const Show *show)
{
    bool uefi = !strcmp(text_of(show, "system.firmware"), "uefi");
    bool utc = !strcmp(text_of(show, "system.rtc"), "utc");

    put_number(show, "Memory size", "memory", number_of(show, "system.memory") / (gint64)MIB(1),
               "MB");
    put_number(show, "VRAM size", "vram", number_of(show, "display.vram") / (gint64)MIB(1), "MB");
    put_number(show, "CPU exec cap", "cpuexecutioncap", number_of(show, "limits.cpu"), "%");
    put_number(show, "Number of CPUs", "cpus", number_of(show, "system.cpus"), "");
    put(show, "Firmware", "firmware", uefi ? "EFI" : "BIOS");
    put_boot(show);
    put_switch(show, "ACPI", "acpi", "system.acpi");
    put_switch(show, "IOAPIC", "ioapic", "system.apic");
    put_switch(show, "HPET", "hpet", "system.hpet");
    put(show, "RTC", "rtcuseutc",
        show->machine_readable ? (utc ? "on" : "off") : (utc ? "UTC" : "local time"));
}

void vbox_print_vm(JsonNode *vm, bool machine_readable)
{
    Show show = {vm, machine_readable};

    put_general(&show);
    put_system(&show);
    put_state(&show);
    put_storage(&show);
    put_network(&show);
}

bool vbox_show_vm(VboxArgs *a, GError **error)
{
    const char *name = vbox_word(a, 0);
    bool machine_readable = vbox_value(a, "machinereadable") != NULL;

    if (!name)
        return vbox_usage(error, _("showvminfo takes a machine"));
    g_autoptr(JsonNode) answer = ospite_vm_show(a->client, name, error);
    if (!answer)
        return false;
    vbox_print_vm(answer, machine_readable);
    g_autoptr(JsonNode) snapshots = ospite_snapshot_list(a->client, name, NULL);
    JsonArray *all = snapshots ? ospite_list(snapshots, "snapshots") : NULL;
    if (all && json_array_get_length(all) && !machine_readable)
        printf("Snapshots:\n\n");
    if (all)
        vbox_print_snapshots(all, machine_readable, false);
    return true;
}
