/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The table of commands; see command.h. */
#include <stdio.h>

#include "cli/beside.h"
#include "cli/command.h"
#include "cli/run.h"
#include "client/ospite_client.h"
#include "cpu/engine.h"

static void print_text_member(const char *name, const char *text)
{
    JsonObject *object = json_object_new();
    g_autoptr(JsonNode) node = json_node_new(JSON_NODE_OBJECT);

    json_object_set_string_member(object, name, text);
    json_node_take_object(node, object);
    command_print_json(node);
}

static bool run_doctor(CommandLine *line, GError **error)
{
    g_autofree char *report = engine_report();

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

#define WAIT_OPTION                                           \
    {                                                         \
        "timeout", "SECONDS", "how long to wait (default 60)" \
    }

const Command commands[] = {
    {"run", NULL, "[OPTION]...", 0, 0, "boot a virtual machine in this terminal",
     .run_words = command_run},
    {"disk", NULL, "VERB ...", 0, 0, "make, look at, convert and mend disk images",
     .run_words = run_disk},
    {"vm",
     "create",
     "NAME [SETTING=VALUE]...",
     1,
     1000,
     "make a machine",
     vm_create,
     {{"folder", "FOLDER", "where its folder is made"}}},
    {"vm",
     "list",
     "",
     0,
     0,
     "all machines and their states",
     vm_list,
     {{"running", NULL, "only those that run"}}},
    {"vm", "show", "NAME", 1, 1, "a machine and its settings", vm_show},
    {"vm", "set", "NAME SETTING=VALUE...", 2, 1000,
     "change settings; SETTING= takes one back to its default", vm_set},
    {"vm", "start", "NAME", 1, 1, "start a machine", vm_action},
    {"vm",
     "stop",
     "NAME",
     1,
     1,
     "press the power button and wait until it is off",
     vm_stop,
     {WAIT_OPTION, {"no-wait", NULL, "only press the button"}}},
    {"vm", "poweroff", "NAME", 1, 1, "pull the plug", vm_action},
    {"vm", "reset", "NAME", 1, 1, "hard reset", vm_action},
    {"vm", "pause", "NAME", 1, 1, "stop a machine's time", vm_action},
    {"vm", "resume", "NAME", 1, 1, "let it go on", vm_action},
    {"vm",
     "delete",
     "NAME",
     1,
     1,
     "delete a machine that is off, but not its disks",
     vm_delete,
     {{"disks", NULL, "delete the disks in its folder as well"},
      {"unregister", NULL, "forget it and leave all files"}}},
    {"vm", "register", "FILE", 1, 1, "make a machine's file (NAME.ospite) known", vm_register},
    {"vm",
     "import",
     "FILE",
     1,
     1,
     "make a machine of a VirtualBox (.vbox) or libvirt (XML) file",
     vm_import,
     {{"name", "NAME", "another name than in the file"},
      {"folder", "FOLDER", "where its folder is made"}}},
    {"vm", "move", "NAME FOLDER", 2, 2, "move a machine's folder into another", vm_move},
    {"vm", "edit", "NAME", 1, 1, "change a machine's file in $EDITOR", vm_edit},
    {"vm",
     "log",
     "NAME",
     1,
     1,
     "the end of a machine's log",
     vm_log,
     {{"lines", "N", "how many (default 100)"}}},
    {"vm", "console", "NAME", 1, 1, "a machine's serial port in this terminal; Ctrl-] leaves it",
     vm_console},
    {"vm", "screen", "NAME", 1, 1, "the characters on a machine's screen", vm_screen},
    {"vm", "type", "NAME TEXT", 2, 2, "type on a machine's keyboard; \\n is Enter", vm_type},
    {"vm",
     "wait",
     "NAME",
     1,
     1,
     "wait until a machine is in a state",
     vm_wait,
     {{"for", "STATE", "off, running, paused or crashed (default off)"}, WAIT_OPTION}},
    {"vm", "autostart", "NAME on|off", 2, 2, "start a machine with the user's session",
     vm_autostart},
    {"media", "list", "", 0, 0, "all known images, and how many machines use each", run_media_list},
    {"media",
     "add",
     "FILE",
     1,
     1,
     "make an image known, and those it builds on",
     run_media_add,
     {{"kind", "KIND", "disk, cdrom or floppy (default disk)"},
      {"format", "FORMAT", "its format (default: looked for in it, once)"},
      {"mode", "MODE", "normal, readonly, immutable, ..."}}},
    {"media",
     "remove",
     "MEDIUM",
     1,
     1,
     "forget an image (its file or UUID) that no machine uses",
     run_media_remove,
     {{"delete", NULL, "delete the file as well"}}},
    {"media", "release", "MEDIUM", 1, 1, "take an image out of all machines that are off",
     run_media_action},
    {"media", "refresh", "MEDIUM", 1, 1, "look at an image's file again", run_media_action},
    {"media", "move", "MEDIUM FILE", 2, 2, "move an image's file, and tell its machines",
     run_media_move},
    {"events", NULL, "", 0, 0, "what happens to machines, a line each, until Ctrl-C", watch_events},
    {"doctor", NULL, "", 0, 0, "what this host offers, and how fast guests will be", run_doctor},
    {"completion", NULL, "bash|zsh|fish", 1, 1, "a shell's completion of these commands",
     command_completion},
    {"manual", NULL, "[NOUN [VERB]]", 0, 2, "a command's manual page, as mdoc(7)", command_manual},
    {"version", NULL, "", 0, 0, "the version of this program", run_version},
    {"help", NULL, "", 0, 0, "this text"},
    {NULL},
};
