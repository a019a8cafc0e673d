/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The program as vboxmanage: from its words to a command; see vbox.h. */
#include "cli/vbox.h"

#include <stdio.h>
#include <string.h>

#include "base/i18n.h"
#include "cli/beside.h"
#include "cli/command.h"

static const struct {
    VboxWord word;
    VboxRun *run;
} vbox_commands[] = {
    {{{"list"}, "vms|runningvms|hdds|dvds|floppies|ostypes|systemproperties"}, vbox_list},
    {{{"showvminfo"}, "NAME|UUID [--machinereadable]"}, vbox_show_vm},
    {{{"createvm"}, "--name NAME [--ostype OS] [--register] [--basefolder FOLDER]"},
     vbox_create_vm},
    {{{"clonevm"},
      "NAME|UUID [--name NAME] [--snapshot SNAPSHOT] [--options link] [--basefolder FOLDER] "
      "--register [--mode machine|all]"},
     vbox_clone_vm},
    {{{"registervm"}, "FILE"}, vbox_register_vm},
    {{{"unregistervm"}, "NAME|UUID [--delete]"}, vbox_unregister_vm},
    {{{"modifyvm"}, "NAME|UUID [--memory MB] [--cpus N] ..."}, vbox_modify_vm},
    {{{"startvm"}, "NAME|UUID... [--type headless]"}, vbox_start_vm},
    {{{"controlvm"},
      "NAME|UUID pause|resume|reset|poweroff|acpipowerbutton|keyboardputstring TEXT"},
     vbox_control_vm},
    {{{"storagectl"}, "NAME|UUID --name CONTROLLER --add ide|floppy|... | --remove"},
     vbox_storage_controller},
    {{{"storageattach"},
      "NAME|UUID --storagectl CONTROLLER --port N --device N --type hdd|dvddrive|fdd "
      "--medium FILE|UUID|none|emptydrive"},
     vbox_storage_attach},
    {{{"snapshot"},
      "NAME|UUID take|delete|restore|edit|showvminfo SNAPSHOT [--name NAME] [--description TEXT], "
      "or list [--details|--machinereadable], restorecurrent"},
     vbox_snapshot},
    {{{"setextradata"}, "NAME|UUID KEY [VALUE]"}, vbox_set_extra_data},
    {{{"getextradata"}, "NAME|UUID KEY|enumerate"}, vbox_get_extra_data},
    {{{"closemedium"}, "[disk|dvd|floppy] FILE|UUID [--delete]"}, vbox_close_medium},
    /* what `ospite` calls for a disk that it made */
    {{{"openmedium"}, NULL}, vbox_open_medium},
    /* with --type; ospite itself has the rest of it */
    {{{"modifymedium", "modifyhd", "modifyvdi"}, NULL}, vbox_set_medium_mode},
};

/* Words of VirtualBox that do what this version cannot. */
static const char *const(missing[])[2] = {
    {"discardstate", N_("this version saves no machine's state")},
    {"adoptstate", N_("this version saves no machine's state")},
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

static int run(VboxRun *command, int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    bool ok = command_check_words(argv, argc, &error);
    g_autoptr(OspiteClient) client = ok ? ospite_client_new(&error) : NULL;
    g_auto(VboxArgs) args = {NULL};

    if (!client) {
        g_printerr("vboxmanage: error: %s\n", error->message);
        return 1;
    }
    vbox_args_init(&args, argc, argv);
    args.client = client;
    return vbox_run(command, &args);
}

static void print_word(const VboxWord *word)
{
    if (word->usage)
        printf("  %-16s %s\n", word->names[0], word->usage);
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
        print_word(&vbox_commands[i].word);
    for (size_t i = 0; i < VBOX_DISK_WORDS; i++)
        print_word(&vbox_disk_words[i]);
    return asked ? 0 : 2;
}

/* Where the medium is; NULL with an error. */
static char *medium_place(OspiteClient *client, const char *uuid, GError **error)
{
    g_autofree char *bare = *uuid == '{' ? g_strndup(uuid + 1, 36) : g_strdup(uuid);
    g_autoptr(JsonNode) answer = ospite_media_list(client, error);
    JsonArray *media = answer ? ospite_list(answer, "media") : NULL;

    for (guint i = 0; media && i < json_array_get_length(media); i++) {
        JsonNode *medium = json_array_get_element(media, i);
        if (!g_ascii_strcasecmp(ospite_text(medium, "uuid"), bare))
            return g_strdup(ospite_text(medium, "path"));
    }
    if (answer)
        vbox_usage(error, _("there is no medium '%s'; 'ospite media list' shows those there are"),
                   uuid);
    return NULL;
}

/* The disk commands are those of `ospite`, which knows files only: media get their names. */
static int run_on_files(int argc, char **argv, int first)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(OspiteClient) client = ospite_client_new(&error);

    for (int i = first + 1; i < argc && client; i++) {
        char *place = vbox_is_medium_uuid(argv[i]) ? medium_place(client, argv[i], &error) : NULL;
        if (error)
            break;
        argv[i] = place ? place : argv[i];
    }
    if (!error)
        return run_beside("ospite", argv);
    g_printerr("vboxmanage: error: %s\n", error->message);
    return 1;
}

/* Sent here by `ospite` for the UUIDs in it. */
static bool names_media(int argc, char **argv, int first)
{
    static const int kinds[] = {VBOX_CLONE_MEDIUM, VBOX_MODIFY_MEDIUM, VBOX_SHOW_MEDIUM};
    g_auto(VboxArgs) args = {NULL};

    vbox_args_init(&args, argc - first - 1, argv + first + 1);
    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
        if (vbox_is_word(&vbox_disk_words[kinds[i]], argv[first]))
            return !vbox_value(&args, "type");
    }
    return false;
}

int main_vbox(int argc, char **argv)
{
    int first = vbox_first_word(argc, argv);
    const char *word = first < argc ? argv[first] : "help";

    if (!strcmp(word, "--version") || !strcmp(word, "-v")) {
        printf("%s\n", OSPITE_VERSION);
        return 0;
    }
    if (first < argc && names_media(argc, argv, first))
        return run_on_files(argc, argv, first);
    for (size_t i = 0; i < G_N_ELEMENTS(vbox_commands); i++) {
        if (vbox_is_word(&vbox_commands[i].word, word))
            return run(vbox_commands[i].run, argc - first - 1, argv + first + 1);
    }
    return print_usage(word);
}
