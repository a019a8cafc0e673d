/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The table of commands; see command.h. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/i18n.h"
#include "base/user_folders.h"
#include "cli/beside.h"
#include "cli/command.h"
#include "cli/run.h"
#include "cpu/engine.h"

static void print_text_member(const char *name, const char *text)
{
    JsonObject *object = json_object_new();
    g_autoptr(JsonNode) node = json_node_new(JSON_NODE_OBJECT);

    json_object_set_string_member(object, name, text);
    json_node_take_object(node, object);
    command_print_json(node);
}

/* Whether a process of a machine has its folder there; without one no daemon needs to be asked. */
static bool machines_run(void)
{
    g_autofree char *runtime = user_runtime_folder(NULL);
    g_autofree char *folder = runtime ? g_build_filename(runtime, "vms", NULL) : NULL;
    g_autoptr(GDir) dir = folder ? g_dir_open(folder, 0, NULL) : NULL;

    return dir && g_dir_read_name(dir);
}

static void report_machine(OspiteClient *client, const char *name, GString *report)
{
    g_autoptr(JsonNode) vm = ospite_vm_show_stats(client, name, NULL);
    const char *engine = vm ? ospite_text(vm, "vm.stats.engine") : "";

    if (*engine)
        g_string_append_printf(report,
                               _("machine '%s': %s; the software CPU went on for KVM %" PRIu64
                                 " times, engines were changed %" PRIu64 " times\n"),
                               name, engine,
                               (uint64_t)ospite_number(vm, "vm.stats.total.kvm_hand_overs"),
                               (uint64_t)ospite_number(vm, "vm.stats.total.hand_overs"));
}

/* What they run in is what this host offers, in practice. */
static void report_machines(GString *report)
{
    g_autoptr(OspiteClient) client = machines_run() ? ospite_client_new(NULL) : NULL;
    g_autoptr(JsonNode) answer = client ? ospite_vm_list(client, NULL) : NULL;
    JsonArray *all = answer ? ospite_list(answer, "vms") : NULL;

    for (guint i = 0; all && i < json_array_get_length(all); i++) {
        JsonObject *vm = json_array_get_object_element(all, i);
        if (!strcmp(json_object_get_string_member(vm, "state"), "running"))
            report_machine(client, json_object_get_string_member(vm, "name"), report);
    }
}

static bool run_doctor(CommandLine *line, GError **error)
{
    g_autofree char *host = engine_report();
    g_autoptr(GString) text = g_string_new(host);
    const char *report;

    report_machines(text);
    report = text->str;
    if (line->json)
        print_text_member("report", report);
    else
        fputs(report, stdout);
    return true;
}

static bool run_version(CommandLine *line, GError **error)
{
    if (line->json)
        print_text_member("version", OSPITE_VERSION);
    else
        printf("ospite %s\n", OSPITE_VERSION);
    return true;
}

/* `ospite` itself has them. */
static int run_disk(int argc, char **argv)
{
    g_auto(GStrv) words = g_new0(char *, argc + 3);

    words[0] = g_strdup("ospite");
    words[1] = g_strdup("disk");
    for (int i = 0; i < argc; i++)
        words[i + 2] = g_strdup(argv[i]);
    return run_beside("ospite", words);
}

#define WAIT_OPTION                                               \
    {                                                             \
        "timeout", "SECONDS", N_("how long to wait (default 60)") \
    }
#define FOLDER_OPTION                                      \
    {                                                      \
        "folder", "FOLDER", N_("where its folder is made") \
    }
#define EXAMPLES(...) \
    {                 \
        __VA_ARGS__   \
    }
#define SETTINGS_PAGE "ospite-settings 7"
/* noun, verb, what it takes, at least, at most, help, function, operation of the API, examples,
 * another page to see, options */
#define COMMAND(n, v, takes, least, most, text, function, of_api, in_use, page, ...)        \
    {                                                                                       \
        .noun = n, .verb = v, .arguments = takes, .min = least, .max = most, .help = text,  \
        .run = function, .operation = of_api, .examples = in_use, .see = page, .options = { \
            __VA_ARGS__                                                                     \
        }                                                                                   \
    }

const Command commands[] = {
    {"run", NULL, N_("[OPTION]..."), 0, 0, N_("boot a virtual machine in this terminal"),
     .run_words = command_run},
    {"disk", NULL, N_("COMMAND ..."), 0, 0, N_("make, look at, convert and mend disk images"),
     .run_words = run_disk},
    COMMAND("vm", "create", N_("NAME [SETTING=VALUE]..."), 1, 1000, N_("make a machine"),
            run_vm_create, "createVm",
            EXAMPLES({"web memory=2G cpus=2", "A machine with 2 GiB of memory and two CPUs, in a "
                                              "folder of its own below the usual one."},
                     {"web storage.ide0.0.type=disk storage.ide0.0.format=qcow2 "
                      "storage.ide0.0.medium=$PWD/disk.qcow2",
                      "One with a disk that is there already."},
                     {"web --folder ~/machines", "Its folder is ~/machines/web."}),
            SETTINGS_PAGE, FOLDER_OPTION),
    COMMAND("vm", "list", "", 0, 0, N_("all machines and their states"), run_vm_list, "listVms",
            EXAMPLES({"", "Name, state, memory, CPUs and UUID of each machine."},
                     {"--running --json", "For programs: those that run."}),
            NULL, {"running", NULL, N_("only those that run")}),
    COMMAND("vm", "show", N_("NAME"), 1, 1, N_("a machine and its settings"), run_vm_show, "getVm",
            EXAMPLES({"web", "State, files and all settings that are not empty."},
                     {"web --json", "For programs: all that the API says of it."}),
            SETTINGS_PAGE),
    COMMAND("vm", "set", N_("NAME SETTING=VALUE..."), 2, 1000,
            N_("change settings; SETTING= takes one back to its default"), run_vm_set, "setVm",
            EXAMPLES({"web memory=4G cpus=4",
                      "At once when it is off; else at the next start, and the answer says so."},
                     {"web storage.ide0.2.type=cdrom storage.ide0.2.medium=$PWD/debian.iso",
                      "A disc in a CD-ROM drive; a drive that is there already changes it while "
                      "the machine runs."},
                     {"web storage.ide0.2= description=",
                      "Takes a drive out, and a setting back to its default."}),
            SETTINGS_PAGE),
    COMMAND("vm", "settings", N_("[PART]"), 0, 1,
            N_("all settings that a machine can have, or those below a part such as storage"),
            run_vm_settings, NULL,
            EXAMPLES({"", "Each setting, its default, what it may be, and when a change counts."},
                     {"storage", "Those of controllers and drives."}),
            SETTINGS_PAGE, {"xsd", NULL, N_("the machine's file as an XML schema")},
            {"manual", NULL, N_("the manual page ospite-settings(7)")},
            {"openapi", NULL, N_("what the API's description says of them")}),
    COMMAND(
        "vm", "start", N_("NAME"), 1, 1, N_("start a machine"), run_vm_start, "startVm",
        EXAMPLES({"web", "It runs without a window; see its serial port with ospite vm console."}),
        NULL),
    COMMAND("vm", "stop", N_("NAME"), 1, 1, N_("press the power button and wait until it is off"),
            run_vm_stop, "stopVm",
            EXAMPLES({"web --timeout 300",
                      "Waits up to five minutes. The button is pressed again every few seconds, "
                      "for a guest that is still booting does not hear it."},
                     {"web --no-wait", "Presses it once and goes on."}),
            NULL, WAIT_OPTION, {"no-wait", NULL, N_("only press the button")}),
    COMMAND("vm", "poweroff", N_("NAME"), 1, 1, N_("pull the plug"), run_vm_poweroff, "powerOffVm",
            EXAMPLES({"web", "What its guest has not written is lost."}), NULL),
    COMMAND("vm", "reset", N_("NAME"), 1, 1, N_("hard reset"), run_vm_reset, "resetVm",
            EXAMPLES({"web", "As the button on a PC's case: its guest is not asked."}), NULL),
    COMMAND("vm", "pause", N_("NAME"), 1, 1, N_("stop a machine's time"), run_vm_pause, "pauseVm",
            EXAMPLES({"web", "Its CPUs stand still until ospite vm resume."}), NULL),
    COMMAND("vm", "resume", N_("NAME"), 1, 1, N_("let it go on"), run_vm_resume, "resumeVm",
            EXAMPLES(
                {"web", "After ospite vm pause, or when a full disk of this host had stopped it."}),
            NULL),
    COMMAND(
        "vm", "delete", N_("NAME"), 1, 1, N_("delete a machine that is off, but not its disks"),
        run_vm_delete, "deleteVm",
        EXAMPLES({"web", "Its file and log go, its disks stay."},
                 {"web --disks",
                  "The disks in its folder go, too, but for those that other machines use."},
                 {"web --unregister", "Nothing goes; ospite vm register makes it known again."}),
        NULL, {"disks", NULL, N_("delete the disks in its folder as well")},
        {"unregister", NULL, N_("forget it and leave all files")}),
    COMMAND("vm", "register", N_("FILE"), 1, 1, N_("make a machine's file (NAME.ospite) known"),
            run_vm_register, "createVm",
            EXAMPLES({"web.ospite", "After its folder was copied here, or was moved by hand."}),
            NULL),
    COMMAND("vm", "import", N_("FILE"), 1, 1,
            N_("make a machine of a VirtualBox (.vbox) or libvirt (XML) file"), run_vm_import,
            "createVm",
            EXAMPLES({"debian.vbox", "What has no counterpart here is reported, a line each."},
                     {"web.xml --name web2",
                      "A domain of libvirt, as virsh dumpxml prints it, under another name."}),
            NULL, {"name", "NAME", N_("another name than in the file")}, FOLDER_OPTION),
    COMMAND("vm", "move", N_("NAME FOLDER"), 2, 2, N_("move a machine's folder into another"),
            run_vm_move, "moveVm",
            EXAMPLES({"web /srv/machines",
                      "Its folder is /srv/machines/web then, with all that was in it."}),
            NULL),
    COMMAND("vm", "clone", N_("NAME CLONE"), 2, 2, N_("copy a machine that is off, with its disks"),
            run_vm_clone, "cloneVm",
            EXAMPLES({"web copy", "A machine that needs nothing of the first."},
                     {"web copy --linked",
                      "Takes little space; the first one's disks are not written to any more."}),
            NULL, FOLDER_OPTION,
            {"linked", NULL, N_("share the disks: both machines write to differencing images")}),
    COMMAND("vm", "edit", N_("NAME"), 1, 1, N_("change a machine's file in $EDITOR"), run_vm_edit,
            "putVmConfig", EXAMPLES({"web", "The file as XML; it is checked before it counts."}),
            SETTINGS_PAGE),
    COMMAND("vm", "log", N_("NAME"), 1, 1, N_("the end of a machine's log"), run_vm_log, "getVmLog",
            EXAMPLES({"web --lines 20", "The last twenty lines, also after its end."}), NULL,
            {"lines", "N", N_("how many (default 100)")}),
    COMMAND("vm", "console", N_("NAME"), 1, 1,
            N_("a machine's serial port in this terminal; Ctrl-] leaves it"), run_vm_console,
            "openVmConsole", EXAMPLES({"web", "Log in here, and leave with Ctrl-]."}), NULL),
    COMMAND("vm", "screen", N_("NAME"), 1, 1, N_("the characters on a machine's screen"),
            run_vm_screen, "getVmScreen",
            EXAMPLES({"web", "What firmware and text consoles show."}), NULL),
    COMMAND("vm", "type", N_("NAME TEXT"), 2, 2, N_("type on a machine's keyboard; \\n is Enter"),
            run_vm_type, "typeVm", EXAMPLES({"web 'root\\n'", "Types a name and Enter."}), NULL),
    COMMAND("vm", "wait", N_("NAME"), 1, 1, N_("wait until a machine is in a state"), run_vm_wait,
            "waitVm",
            EXAMPLES({"web --timeout 600",
                      "Until it is off, for ten minutes at most; then the status is 5."},
                     {"web --for running --timeout 0",
                      "Does not wait: the status says whether it runs."}),
            NULL, {"for", "STATE", N_("off, running, paused or crashed (default off)")},
            WAIT_OPTION),
    COMMAND("vm", "autostart", N_("[NAME on|off]"), 0, 2,
            N_("start a machine with the user's session; without a name, start all such machines "
               "now"),
            run_vm_autostart, "autostartVms",
            EXAMPLES(
                {"web on",
                 "It starts with the session, as soon as ospite-autostart.service is enabled."},
                {"", "Starts all such machines now."},
                {"--stop", "Stops all such machines, each as its autostart.stop says, and waits."}),
            NULL,
            {"stop", NULL, N_("stop them instead, each as its autostart.stop says, and wait")},
            WAIT_OPTION),
    COMMAND("snapshot", "take", N_("NAME SNAPSHOT"), 2, 2,
            N_("keep the settings and disks of a machine that is off, to go back to them"),
            run_snapshot_take, "takeSnapshot",
            EXAMPLES({"web clean --description 'before the update'",
                      "Takes moments, whatever the size of the disks."}),
            NULL, {"description", "TEXT", N_("notes")}),
    COMMAND("snapshot", "list", N_("NAME"), 1, 1, N_("a machine's snapshots, as a tree"),
            run_snapshot_list, "listSnapshots",
            EXAMPLES({"web", "Each below the one it comes from."}), NULL),
    COMMAND("snapshot", "show", N_("NAME SNAPSHOT"), 2, 2,
            N_("a snapshot (its name or UUID) and the settings of that time"), run_snapshot_show,
            "getSnapshot",
            EXAMPLES({"web clean", "When it was taken, and the settings of that time."}), NULL),
    COMMAND("snapshot", "set", N_("NAME SNAPSHOT"), 2, 2,
            N_("change a snapshot's name or description"), run_snapshot_set, "setSnapshot",
            EXAMPLES({"web clean --name installed", "Another name."}), NULL,
            {"name", "NAME", N_("the new name")}, {"description", "TEXT", N_("the new notes")}),
    COMMAND("snapshot", "restore", N_("NAME [SNAPSHOT]"), 1, 2,
            N_("make a machine that is off what it was in a snapshot (by default the last taken or "
               "restored); what it has been since is lost"),
            run_snapshot_restore, "restoreSnapshot",
            EXAMPLES({"web clean", "Settings and disks are those of that time."},
                     {"web", "Back to the last one."}),
            NULL),
    COMMAND("snapshot", "delete", N_("NAME SNAPSHOT"), 2, 2,
            N_("delete a snapshot; the machine and other snapshots stay as they are"),
            run_snapshot_delete, "deleteSnapshot",
            EXAMPLES({"web clean", "What it alone kept is merged into what builds on it."}), NULL),
    COMMAND("media", "list", "", 0, 0, N_("all known images, and how many machines use each"),
            run_media_list, "listMedia",
            EXAMPLES({"", "UUID, kind, format, size, how many machines use it, file, and what is "
                          "wrong with it."}),
            NULL),
    COMMAND("media", "show", N_("MEDIUM"), 1, 1, N_("an image (its file or UUID)"), run_media_show,
            "getMedium",
            EXAMPLES({"disk.qcow2", "Also where it is attached, and in which snapshot."}), NULL),
    COMMAND("media", "add", N_("FILE"), 1, 1, N_("make an image known, and those it builds on"),
            run_media_add, "addMedium",
            EXAMPLES({"disk.qcow2", "Its format is looked for in it, this once."},
                     {"debian.iso --kind cdrom", "A disc."},
                     {"base.qcow2 --format qcow2 --mode immutable",
                      "What machines write to it is dropped at each start."}),
            NULL, {"kind", "KIND", N_("disk, cdrom or floppy (default disk)")},
            {"format", "FORMAT", N_("its format (default: looked for in it, once)")},
            {"mode", "MODE", N_("normal, readonly, immutable, ...")}),
    COMMAND("media", "set", N_("MEDIUM MODE"), 2, 2,
            N_("say how machines may use an image: normal, readonly, immutable, ..."),
            run_media_set, "setMedium",
            EXAMPLES({"disk.qcow2 writethrough", "It is not in snapshots any more."}), NULL),
    COMMAND("media", "remove", N_("MEDIUM"), 1, 1,
            N_("forget an image (its file or UUID) that no machine uses"), run_media_remove,
            "removeMedium",
            EXAMPLES({"disk.qcow2", "The file stays."}, {"disk.qcow2 --delete", "It goes, too."}),
            NULL, {"delete", NULL, N_("delete the file as well")}),
    COMMAND("media", "release", N_("MEDIUM"), 1, 1,
            N_("take an image out of all machines that are off"), run_media_release,
            "releaseMedium", EXAMPLES({"debian.iso", "Drives that had it are empty then."}), NULL),
    COMMAND("media", "refresh", N_("MEDIUM"), 1, 1, N_("look at an image's file again"),
            run_media_refresh, "refreshMedium",
            EXAMPLES({"disk.qcow2", "After another program has changed it."}), NULL),
    COMMAND("media", "move", N_("MEDIUM FILE"), 2, 2,
            N_("move an image's file, and tell its machines"), run_media_move, "moveMedium",
            EXAMPLES({"disk.qcow2 /srv/images/web.qcow2", "Machines that use it find it there."}),
            NULL),
    COMMAND("events", NULL, "", 0, 0, N_("what happens to machines, a line each, until Ctrl-C"),
            watch_events, "watchEvents",
            EXAMPLES({"", "From now on, for people."}, {"--json", "For programs."}), NULL),
    COMMAND(
        "debug", NULL, N_("NAME|unix:PATH"), 1, 1,
        N_("let GDB look into a running machine, given by its name or its control socket: "
           "target remote | ospite debug NAME"),
        run_debug, NULL, EXAMPLES({"web --listen tcp:1234", "For target remote :1234 in GDB."}),
        NULL,
        {"listen", "WHERE", N_("unix:PATH, or tcp:PORT of this host, instead of standard input")}),
    COMMAND("doctor", NULL, "", 0, 0, N_("what this host offers, and how fast guests will be"),
            run_doctor, NULL,
            EXAMPLES({"", "Whether there is KVM and, if not, why, and which engine is used."}),
            NULL),
    COMMAND("completion", NULL, "bash|zsh|fish", 1, 1, N_("a shell's completion of these commands"),
            command_completion, NULL,
            EXAMPLES({"bash > ospite.bash", "For this shell, after: source ospite.bash"}), NULL),
    COMMAND("manual", NULL, N_("[NOUN [VERB]]"), 0, 2, N_("a command's manual page, as mdoc(7)"),
            command_manual, NULL,
            EXAMPLES({"", "The names of all pages."}, {"vm set", "One of them."},
                     {"--folder man1", "All of them as files, for man -M."}),
            NULL, {"folder", "FOLDER", N_("write all of them there, as files")}),
    COMMAND("version", NULL, "", 0, 0, N_("the version of this program"), run_version, NULL,
            EXAMPLES({"", "Such as ospite 0.1.0."}), NULL),
    {"help", NULL, "", 0, 0, N_("this text")},
    {NULL},
};
