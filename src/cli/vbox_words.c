/* SPDX-License-Identifier: GPL-3.0-or-later */
/* From the words of a vboxmanage command to its run; see vbox_words.h. */
#include "cli/vbox_words.h"

#include <stdio.h>
#include <string.h>

const VboxWord vbox_disk_words[VBOX_DISK_WORDS] = {
    [VBOX_CREATE_MEDIUM] = {{"createmedium", "createhd", "createvdi"}, "--filename FILE --size MB"},
    [VBOX_CLONE_MEDIUM] = {{"clonemedium", "clonehd", "clonevdi"}, "SOURCE TARGET [--format F]"},
    [VBOX_CONVERT_RAW] = {{"convertfromraw", "convertdd"},
                          "RAW TARGET | stdin TARGET BYTES [--format F]"},
    [VBOX_MODIFY_MEDIUM] = {{"modifymedium", "modifyhd", "modifyvdi"},
                            "FILE --resize MB | --compact | --type MODE"},
    [VBOX_SHOW_MEDIUM] = {{"showmediuminfo", "showhdinfo", "showvdiinfo"}, "FILE"},
    [VBOX_INTERNAL] =
        {{"internalcommands"},
         "sethduuid FILE [UUID] | createrawvmdk … | listpartitions … | converttoraw …"},
};

bool vbox_is_word(const VboxWord *word, const char *text)
{
    for (size_t i = 0; i < G_N_ELEMENTS(word->names) && word->names[i]; i++) {
        if (!strcmp(word->names[i], text))
            return true;
    }
    return false;
}

bool vbox_is_medium_uuid(const char *text)
{
    g_autofree char *bare = *text == '{' ? g_strndup(text + 1, 36) : g_strdup(text);
    return g_uuid_string_is_valid(bare) && !g_file_test(text, G_FILE_TEST_EXISTS);
}

int vbox_first_word(int argc, char **argv)
{
    int first = 1;

    while (first < argc && (!strcmp(argv[first], "-q") || !strcmp(argv[first], "--nologo")))
        first++;
    return first;
}

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
    g_set_error_literal(error, g_quark_from_static_string("ospite-vboxmanage"), 0, text);
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
        "compact",      "existing",   "relative", "default", "machinereadable",
        "details",      "delete",     "register", "remove",  "long",
        "forceunmount", "delete-all", "live",     "pause",   "current"};
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

void vbox_args_init(VboxArgs *a, int argc, char **argv)
{
    *a = (VboxArgs){g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free),
                    g_ptr_array_new()};
    for (int i = 0; i < argc; i++) {
        if (argv[i][0] == '-' && argv[i][1])
            parse_option(a, argc, argv, &i);
        else
            g_ptr_array_add(a->rest, argv[i]);
    }
}

void vbox_args_clear(VboxArgs *a)
{
    g_clear_pointer(&a->values, g_hash_table_unref);
    g_clear_pointer(&a->rest, g_ptr_array_unref);
    g_clear_pointer(&a->made, g_free);
}

int vbox_run(VboxRun *command, VboxArgs *args)
{
    g_autoptr(GError) error = NULL;
    bool good = command(args, &error);

    if (error)
        g_printerr("vboxmanage: error: %s\n", error->message);
    return good ? 0 : 1;
}
