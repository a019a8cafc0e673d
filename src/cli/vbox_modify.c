/* SPDX-License-Identifier: GPL-3.0-or-later */
/* vboxmanage modifyvm: one table from its options to settings. */
#include <stdio.h>
#include <string.h>

#include "base/i18n.h"
#include "cli/vbox.h"

typedef const char *const Pair[2];

static Pair on_off[] = {{"on", "true"}, {"off", "false"}, {NULL}};
static Pair firmwares[] = {{"bios", "bios"}, {"efi", "uefi"}, {"efi64", "uefi"}, {NULL}};
static Pair clocks[] = {{"on", "utc"}, {"off", "local"}, {NULL}};
static Pair backends[] = {{"null", "none"},       {"nat", "nat"},           {"bridged", "bridge"},
                          {"intnet", "internal"}, {"hostonly", "hostonly"}, {NULL}};
static Pair models[] = {{"82540EM", "e1000"},
                        {"82543GC", "e1000"},
                        {"82545EM", "e1000"},
                        {"virtio", "virtio"},
                        {"Am79C970A", "pcnet"},
                        {"Am79C973", "pcnet"},
                        {NULL}};
static Pair sounds[] = {{"none", "none"}, {"off", "none"},  {"ac97", "ac97"},
                        {"hda", "hda"},   {"sb16", "sb16"}, {NULL}};
static Pair directions[] = {{"disabled", "off"},
                            {"hosttoguest", "to-guest"},
                            {"guesttohost", "to-host"},
                            {"bidirectional", "both"},
                            {NULL}};
static Pair mice[] = {{"ps2", "ps2"}, {"usb", "usb-mouse"}, {"usbtablet", "usb-tablet"}, {NULL}};
static Pair paravirts[] = {{"none", "none"},
                           {"default", "kvm"},
                           {"legacy", "none"},
                           {"minimal", "none"},
                           {"hyperv", "hyperv"},
                           {"kvm", "kvm"},
                           {NULL}};
static Pair keyboards[] = {{"ps2", "ps2"}, {"usb", "usb"}, {NULL}};

/* An option's setting; "%u": its number less one. */
static const struct {
    const char *option, *setting, *unit;
    Pair *pairs; /* NULL: the value as it is, and the unit */
} rows[] = {
    {"name", "name"},
    {"ostype", "os"},
    {"groups", "groups"},
    {"description", "description"},
    {"memory", "memory", "M"},
    {"cpus", "cpus"},
    {"cpuexecutioncap", "limits.cpu"},
    {"firmware", "firmware", NULL, firmwares},
    {"acpi", "acpi", NULL, on_off},
    {"ioapic", "apic", NULL, on_off},
    {"apic", "apic", NULL, on_off},
    {"hpet", "hpet", NULL, on_off},
    {"rtcuseutc", "rtc", NULL, clocks},
    {"vram", "display.vram", "M"},
    {"monitorcount", "display.monitors"},
    {"mouse", "input.pointer", NULL, mice},
    {"keyboard", "input.keyboard", NULL, keyboards},
    {"audio", "audio.adapter", NULL, sounds},
    {"audiocontroller", "audio.adapter", NULL, sounds},
    {"audioout", "audio.output", NULL, on_off},
    {"audioin", "audio.input", NULL, on_off},
    {"clipboard", "guest.clipboard", NULL, directions},
    {"clipboard-mode", "guest.clipboard", NULL, directions},
    {"draganddrop", "guest.drag-and-drop", NULL, directions},
    {"guestmemoryballoon", "guest.balloon", "M"},
    {"autostart-enabled", "autostart.enabled", NULL, on_off},
    {"autostart-delay", "autostart.delay"},
    {"paravirtprovider", "paravirt", NULL, paravirts},
    {"nic%u", "network.%u.backend", NULL, backends},
    {"nictype%u", "network.%u.model", NULL, models},
    {"cableconnected%u", "network.%u.cable", NULL, on_off},
    {"bridgeadapter%u", "network.%u.network"},
    {"intnet%u", "network.%u.network"},
    {"hostonlyadapter%u", "network.%u.network"},
};

/* Of VirtualBox's own engine and devices: they change nothing that a guest could not do without. */
static const char *const nothing[] = {
    "accelerate3d",
    "accelerate2dvideo",
    "graphicscontroller",
    "hwvirtex",
    "largepages",
    "longmode",
    "nested-hw-virt",
    "nestedpaging",
    "pae",
    "triplefaultreset",
    "vrde",
    "vrdeport",
    "vrdeaddress",
    "vrdeauthtype",
    "vrdeextpack",
    "vrdemulticon",
    "vrdereusecon",
    "vtxux",
    "vtxvpid",
    "x2apic",
    "biosbootmenu",
    "bioslogofadein",
    "bioslogofadeout",
    "bioslogodisplaytime",
    "chipset",
    "usb",
    "usbehci",
    "usbxhci",
    "usb-ehci",
    "usb-ohci",
    "usb-xhci",
    "audio-driver",
    "audio-enabled",
    "hpet-enabled",
    "snapshotfolder",
    "cpu-profile",
    "cpuhotplug",
    "defaultfrontend",
};

static void add(GStrvBuilder *settings, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void add(GStrvBuilder *settings, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_autofree char *setting = g_strdup_vprintf(format, args);
    va_end(args);
    g_strv_builder_add(settings, setting);
}

/* Whether the option is that of the row; its number less one, 0 where it has none. */
static bool matches(const char *row, const char *option, unsigned *ret_index)
{
    const char *place = strchr(row, '%');
    size_t length = place ? (size_t)(place - row) : 0;

    *ret_index = 0;
    if (!place)
        return !strcmp(row, option);
    if (strncmp(row, option, length) || option[length] < '1' || option[length] > '8' ||
        option[length + 1])
        return false;
    *ret_index = (unsigned)(option[length] - '1');
    return true;
}

/* ---- options that are more than a value ------------------------------------------------------ */

/* --boot1 … --boot4: the whole order, since one says nothing without the others. */
static bool set_boot(VboxArgs *a, GStrvBuilder *settings, GError **error)
{
    static Pair devices[] = {{"disk", "disk"},   {"dvd", "cdrom"}, {"floppy", "floppy"},
                             {"net", "network"}, {"none", ""},     {NULL}};
    g_autoptr(GString) order = g_string_new(NULL);
    bool given = false;

    for (unsigned i = 1; i <= 4; i++) {
        g_autofree char *option = g_strdup_printf("boot%u", i);
        const char *value = vbox_value(a, option);
        const char *device = value ? vbox_pair(devices, value) : "";
        if (!device)
            return vbox_usage(error, _("--%s takes none, floppy, dvd, disk or net, not '%s'"),
                              option, value);
        given = given || value;
        if (*device && !strstr(order->str, device))
            g_string_append_printf(order, "%s%s", order->len ? "," : "", device);
    }
    if (given)
        add(settings, "boot=%s", order->str);
    return true;
}

/* "080027ABCDEF" with colons; "auto": ours. */
static bool set_mac(GStrvBuilder *settings, unsigned index, const char *value, GError **error)
{
    g_autoptr(GString) colons = g_string_new(NULL);

    if (strcmp(value, "auto") && strlen(value) != 12)
        return vbox_usage(error, _("'%s' is no hardware address of twelve digits"), value);
    for (unsigned i = 0; strcmp(value, "auto") && i < 12; i++)
        g_string_append_printf(colons, "%s%c", i && i % 2 == 0 ? ":" : "",
                               g_ascii_tolower(value[i]));
    add(settings, "network.%u.mac=%s", index, colons->str);
    return true;
}

/* NAME,tcp|udp,HOST ADDRESS,HOST PORT,GUEST ADDRESS,GUEST PORT; or "delete NAME" in one word. */
static bool set_forward(GStrvBuilder *settings, unsigned index, const char *value, GError **error)
{
    static const char *const fields[] = {"protocol", "host-address", "host-port", "guest-address",
                                         "guest-port"};
    g_auto(GStrv) parts = g_strsplit(value, ",", -1);

    if (g_strv_length(parts) != 6 || !*parts[0])
        return vbox_usage(error, _("'%s' is no NAME,tcp|udp,ADDRESS,PORT,GUEST-ADDRESS,GUEST-PORT"),
                          value);
    for (unsigned i = 0; i < G_N_ELEMENTS(fields); i++) {
        if (*parts[i + 1])
            add(settings, "network.%u.forward.%s.%s=%s", index, parts[0], fields[i], parts[i + 1]);
    }
    return true;
}

/* "IOBASE IRQ" puts a port there, "off" takes it out; ours have the usual places. */
static bool set_uart(GStrvBuilder *settings, unsigned index, const char *value, GError **error)
{
    static const char *const places[] = {"0x3f8 4", "0x2f8 3", "0x3e8 4", "0x2e8 3"};

    if (!g_ascii_strcasecmp(value, "off"))
        add(settings, "serial.%u=", index);
    else if (index < G_N_ELEMENTS(places) && !g_ascii_strcasecmp(value, places[index]))
        add(settings, "serial.%u.backend=console", index);
    else
        return vbox_usage(error, _("serial port %u is at %s here, not at %s"), index + 1,
                          places[MIN(index, 3)], value);
    return true;
}

static bool set_uart_mode(GStrvBuilder *settings, unsigned index, const char *value, GError **error)
{
    static Pair modes[] = {
        {"disconnected", "none"}, {"file", "file:"}, {"server", "unix:"}, {NULL}};
    g_auto(GStrv) words = g_strsplit(value, " ", 2);
    const char *mode = vbox_pair(modes, words[0]);
    g_autofree char *path = words[1] ? g_canonicalize_filename(words[1], NULL) : g_strdup("");

    if (!mode || (mode[strlen(mode) - 1] == ':') != (*path != '\0'))
        return vbox_usage(error,
                          _("a serial port's mode is disconnected, file FILE or server "
                            "SOCKET, not '%s'"),
                          value);
    add(settings, "serial.%u.backend=%s%s", index, mode, path);
    return true;
}

static const struct {
    const char *option;
    bool (*set)(GStrvBuilder *settings, unsigned index, const char *value, GError **error);
} special[] = {
    {"macaddress%u", set_mac},
    {"natpf%u", set_forward},
    {"uart%u", set_uart},
    {"uartmode%u", set_uart_mode},
};

/* ---- all ------------------------------------------------------------------------------------- */

static bool set_row(GStrvBuilder *settings, unsigned row, unsigned index, const char *option,
                    const char *value, GError **error)
{
    const char *place = strchr(rows[row].setting, '%');
    g_autofree char *name = place ? g_strdup_printf("%.*s%u%s", (int)(place - rows[row].setting),
                                                    rows[row].setting, index, place + 2)
                                  : g_strdup(rows[row].setting);
    const char *ours = rows[row].pairs ? vbox_pair(rows[row].pairs, value) : value;

    if (!strcmp(rows[row].option, "nic%u") && !strcmp(value, "none"))
        add(settings, "network.%u=", index);
    else if (ours)
        add(settings, "%s=%s%s", name, ours, rows[row].unit ? rows[row].unit : "");
    else
        return vbox_usage(error, _("--%s cannot be '%s' here"), option, value);
    return true;
}

static bool set_option(GStrvBuilder *settings, const char *option, const char *value,
                       GError **error)
{
    unsigned index;

    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        if (matches(rows[i].option, option, &index))
            return set_row(settings, i, index, option, value, error);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(special); i++) {
        if (matches(special[i].option, option, &index))
            return special[i].set(settings, index, value, error);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(nothing); i++) {
        if (!strcmp(nothing[i], option)) {
            g_printerr(_("vboxmanage: --%s has no counterpart here; it is passed over\n"), option);
            return true;
        }
    }
    return (g_str_has_prefix(option, "boot") && strlen(option) == 5) ||
           vbox_usage(error, _("modifyvm has no --%s here; 'ospite vm set' has all settings"),
                      option);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

bool vbox_modify_vm(VboxArgs *a, GError **error)
{
    const char *name = vbox_word(a, 0);
    g_autoptr(GStrvBuilder) builder = g_strv_builder_new();
    guint count;
    g_autofree const char **options =
        (const char **)g_hash_table_get_keys_as_array(a->values, &count);

    if (!name)
        return vbox_usage(error, _("modifyvm takes a machine"));
    qsort(options, count, sizeof(*options), by_name);
    for (guint i = 0; i < count; i++) {
        if (!set_option(builder, options[i], vbox_value(a, options[i]), error))
            return false;
    }
    if (!set_boot(a, builder, error))
        return false;
    g_auto(GStrv) settings = g_strv_builder_end(builder);
    g_autoptr(JsonNode) changed =
        ospite_vm_set(a->client, name, (const char *const *)settings, error);
    return changed != NULL;
}
