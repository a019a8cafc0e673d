/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The `ospite` program: finds the command and runs it. */
#include <glib.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "cli/disk.h"
#include "cli/run.h"
#include "cpu/engine.h"

static int command_doctor(int argc, char **argv)
{
    g_autofree char *report = engine_report();

    fputs(report, stdout);
    return 0;
}

static int command_version(int argc, char **argv)
{
    printf("ospite %s\n", OSPITE_VERSION);
    return 0;
}

static int command_help(int argc, char **argv);

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
} commands[] = {
    {"run", command_run, "boot a virtual machine in this terminal"},
    {"disk", command_disk, "make, look at, convert and mend disk images"},
    {"doctor", command_doctor, "what this host offers, and how fast guests will be"},
    {"version", command_version, "the version of this program"},
    {"help", command_help, "this text"},
};

static int command_help(int argc, char **argv)
{
    printf("Usage: ospite COMMAND [OPTION]...\n\n");
    for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++)
        printf("  %-10s %s\n", commands[i].name, commands[i].help);
    printf("\nospite run --help lists the options of a machine.\n");
    return 0;
}

int main(int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : "help";
    g_autofree char *name = g_path_get_basename(argc ? argv[0] : "ospite");

    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ,
           SIG_IGN); /* a write beyond the limit is to fail with EFBIG, as on a full disk */
    if (!strcmp(name, "qemu-img"))
        return main_qemu_img(argc, argv);
    if (!g_ascii_strcasecmp(name, "vboxmanage"))
        return main_vboxmanage(argc, argv);
    if (!strcmp(word, "--help") || !strcmp(word, "-h"))
        word = "help";
    if (!strcmp(word, "--version"))
        word = "version";
    for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (!strcmp(commands[i].name, word))
            return commands[i].run(MAX(argc - 2, 0), argv + 2);
    }
    g_printerr("ospite: unknown command '%s'; ospite help lists them\n", word);
    return 2;
}
