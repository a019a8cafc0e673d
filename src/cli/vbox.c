/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The program as vboxmanage: from its words to a command; see vbox.h. */
#include "cli/vbox.h"

#include <stdio.h>
#include <string.h>

#include "base/i18n.h"
#include "cli/command.h"
#include "cli/disk.h"

static const VboxCommand vbox_commands[] = {
    {{"list"}, vbox_list, "vms|runningvms|hdds|dvds|floppies", true},
    {{"showvminfo"}, vbox_show_vm, "NAME|UUID [--machinereadable]", true},
    {{"createvm"},
     vbox_create_vm,
     "--name NAME [--ostype OS] [--register] [--basefolder FOLDER]",
     true},
    {{"registervm"}, vbox_register_vm, "FILE", true},
    {{"unregistervm"}, vbox_unregister_vm, "NAME|UUID [--delete]", true},
    {{"modifyvm"}, vbox_modify_vm, "NAME|UUID [--memory MB] [--cpus N] ...", true},
    {{"startvm"}, vbox_start_vm, "NAME|UUID... [--type headless]", true},
    {{"controlvm"},
     vbox_control_vm,
     "NAME|UUID pause|resume|reset|poweroff|acpipowerbutton|keyboardputstring TEXT",
     true},
    {{"storagectl"},
     vbox_storage_controller,
     "NAME|UUID --name CONTROLLER --add ide|floppy|... | --remove",
     true},
    {{"storageattach"},
     vbox_storage_attach,
     "NAME|UUID --storagectl CONTROLLER --port N --device N --type hdd|dvddrive|fdd "
     "--medium FILE|UUID|none|emptydrive",
     true},
    {{"setextradata"}, vbox_set_extra_data, "NAME|UUID KEY [VALUE]", true},
    {{"getextradata"}, vbox_get_extra_data, "NAME|UUID KEY|enumerate", true},
    {{"createmedium", "createhd", "createvdi"}, vbox_create_medium, "--filename FILE --size MB"},
    {{"clonemedium", "clonehd", "clonevdi"}, vbox_clone_medium, "SOURCE TARGET [--format F]"},
    {{"closemedium"}, vbox_close_medium, "[disk|dvd|floppy] FILE|UUID [--delete]", true},
    {{"convertfromraw", "convertdd"}, vbox_convert_raw, "RAW TARGET [--format F]"},
    {{"modifymedium", "modifyhd", "modifyvdi"},
     vbox_modify_medium,
     "FILE --resize MB | --compact | --type MODE"},
    {{"showmediuminfo", "showhdinfo", "showvdiinfo"}, vbox_show_medium, "FILE"},
    {{"internalcommands"}, vbox_internal, "sethduuid FILE [UUID] | createrawvmdk …"},
};

/* Words of VirtualBox that do what this version cannot. */
static const char *const(missing[])[2] = {
    {"snapshot", N_("this version has no snapshots of machines; 'ospite disk snapshot' has them of "
                    "images")},
    {"discardstate", N_("this version saves no machine's state")},
    {"adoptstate", N_("this version saves no machine's state")},
    {"clonevm", N_("this version copies no machines; copy the disks with clonemedium, and make a "
                   "machine for them")},
    {"export", N_("this version writes no OVF appliances")},
    {"import", N_("this version reads no OVF appliances; registervm reads .vbox files")},
    {"guestcontrol", N_("this version has no guest additions")},
    {"guestproperty", N_("this version has no guest additions")},
    {"sharedfolder", N_("this version has no shared folders")},
    {"usbfilter", N_("this version has no USB")},
    {"hostonlyif", N_("this version has no network")},
    {"natnetwork", N_("this version has no network")},
    {"dhcpserver", N_("this version has no network")},
    {NULL},
};

const char *vbox_value(const VboxArgs *args, const char *option)
{
    return g_hash_table_lookup(args->values, option);
}

const char *vbox_word(const VboxArgs *args, guint i)
{
    return i < args->rest->len ? args->rest->pdata[i] : NULL;
}

bool vbox_usage(GError **error, const char *format, ...)
{
    va_list list;

    va_start(list, format);
    g_autofree char *text = g_strdup_vprintf(format, list);
    va_end(list);
    g_set_error_literal(error, OSPITE_ERROR, OSPITE_ERROR_INVALID, text);
    return false;
}

const char *vbox_pair(const char *const (*pairs)[2], const char *word)
{
    for (; (*pairs)[0]; pairs++) {
        if (!g_ascii_strcasecmp((*pairs)[0], word))
            return (*pairs)[1];
    }
    return NULL;
}

void vbox_print_progress(void)
{
    printf("0%%...10%%...20%%...30%%...40%%...50%%...60%%...70%%...80%%...90%%...100%%\n");
}

/* ---- words ----------------------------------------------------------------------------------- */

/* How many values an option takes, by its first one. */
static int values_of(const char *name, const char *first)
{
    static const char *const flags[] = {
        "compact", "existing", "relative", "default", "machinereadable", "details",
        "delete",  "register", "remove",   "long",    "forceunmount",    "delete-all"};
    static const char *const pairs[] = {"file", "server", "client", "tcpserver", "tcpclient"};

    for (size_t i = 0; i < G_N_ELEMENTS(flags); i++) {
        if (!strcmp(flags[i], name))
            return 0;
    }
    if (g_str_has_prefix(name, "uartmode") && first) {
        for (size_t i = 0; i < G_N_ELEMENTS(pairs); i++) {
            if (!g_ascii_strcasecmp(pairs[i], first))
                return 2;
        }
        return 1;
    }
    return g_str_has_prefix(name, "uart") && first && g_ascii_strcasecmp(first, "off") ? 2 : 1;
}

/* The option at argv[*at], and its values; two are joined by a space. */
static void parse_option(VboxArgs *a, int argc, char **argv, int *at)
{
    const char *word = argv[*at] + 1 + (argv[*at][1] == '-'), *equals = strchr(word, '=');
    g_autofree char *plain = equals ? g_strndup(word, (gsize)(equals - word)) : g_strdup(word);
    char *name = g_ascii_strdown(plain, -1), *text;
    int left = argc - *at - 1, count;

    count = equals ? 0 : MIN(values_of(name, left ? argv[*at + 1] : NULL), left);
    text = count == 2   ? g_strdup_printf("%s %s", argv[*at + 1], argv[*at + 2])
           : count == 1 ? g_strdup(argv[*at + 1])
                        : g_strdup(equals ? equals + 1 : "");
    *at += count;
    g_hash_table_insert(a->values, name, text);
}

/* Options have one dash or two. */
static void parse(VboxArgs *a, int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        if (argv[i][0] == '-' && argv[i][1])
            parse_option(a, argc, argv, &i);
        else
            g_ptr_array_add(a->rest, argv[i]);
    }
}

static int run(const VboxCommand *command, int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(OspiteClient) client = NULL;
    VboxArgs a = {g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free),
                  g_ptr_array_new()};
    bool good;

    parse(&a, argc, argv);
    if (command->daemon)
        a.client = client = ospite_client_new(&error);
    good = (!command->daemon || client) && command->run(&a, &error);
    if (error)
        g_printerr("vboxmanage: error: %s\n", error->message);
    g_hash_table_unref(a.values);
    g_ptr_array_unref(a.rest);
    return good ? 0 : 1;
}

static int print_usage(const char *word)
{
    const char *lack = vbox_pair(missing, word);
    bool asked = !strcmp(word, "help") || !strcmp(word, "--help");

    if (lack) {
        g_printerr("vboxmanage: error: %s\n", _(lack));
        return 1;
    }
    if (!asked)
        g_printerr(_("vboxmanage: error: there is no command '%s'\n"), word);
    printf(_("VBoxManage's commands, as far as Ospite %s has them:\n\n"), OSPITE_VERSION);
    for (size_t i = 0; i < G_N_ELEMENTS(vbox_commands); i++)
        printf("  %-16s %s\n", vbox_commands[i].names[0], vbox_commands[i].usage);
    return asked ? 0 : 2;
}

int main_vboxmanage(int argc, char **argv)
{
    while (argc > 1 && (!strcmp(argv[1], "-q") || !strcmp(argv[1], "--nologo"))) {
        argc--;
        argv++;
    }
    const char *word = argc > 1 ? argv[1] : "help";
    if (!strcmp(word, "--version") || !strcmp(word, "-v")) {
        printf("%s\n", OSPITE_VERSION);
        return 0;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(vbox_commands); i++) {
        for (size_t k = 0; k < G_N_ELEMENTS(vbox_commands[i].names) && vbox_commands[i].names[k];
             k++) {
            if (!strcmp(vbox_commands[i].names[k], word))
                return run(&vbox_commands[i], argc - 2, argv + 2);
        }
    }
    return print_usage(word);
}
