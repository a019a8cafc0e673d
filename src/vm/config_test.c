/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Machines' configurations: names, values, files good and bad, JSON. */
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "vm/build.h"
#include "vm/config.h"

#define HEAD                                            \
    "<?xml version=\"1.0\"?>\n<ospite version=\"1\">\n" \
    "<general name=\"a\" uuid=\"00000000-0000-4000-8000-000000000001\"/>\n"
#define TAIL "</ospite>\n"

static VmConfig *config_new(void)
{
    g_autoptr(GError) error = NULL;
    VmConfig *config = vm_config_new("a machine", &error);

    g_assert_no_error(error);
    return config;
}

static VmConfig *parse(const char *text, GError **error)
{
    return vm_config_parse(text, strlen(text), "x.ospite", error);
}

static void assert_value(const VmConfig *config, const char *path, const char *value)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *got = vm_tree_get(config, path, &error);

    g_assert_no_error(error);
    g_assert_cmpstr(got, ==, value);
}

static void assert_refused(bool ok, GError **error, int code, const char *part)
{
    g_assert_false(ok);
    g_assert_error(*error, G_IO_ERROR, code);
    if (!strstr((*error)->message, part))
        g_error("'%s' is not in '%s'", part, (*error)->message);
    g_assert_null(strchr((*error)->message, '\n'));
    g_clear_error(error);
}

static void test_names(void)
{
    static const char right_to_left[] = {'a', '\xe2', '\x80', '\xae', 'b', 0};
    static const char *const good[] = {"a",         "Debian 12", "📦 prova",
                                       "già-fatto", "a.b",       "x#?*\"'<&"};
    static const char *const bad[] = {"",
                                      "a/b",
                                      "..",
                                      ".x",
                                      "-x",
                                      "a\nb",
                                      " a",
                                      "a ",
                                      "a\x01",
                                      "\xff",
                                      "a\xe2\x80\xa8z",
                                      right_to_left,
                                      "a\xc2\x9bz",
                                      "00000000-0000-4000-8000-000000000001"};
    g_autofree char *longest = g_strnfill(VM_NAME_MAX, 'n');
    g_autofree char *too_long = g_strnfill(VM_NAME_MAX + 1, 'n');
    g_autoptr(GError) error = NULL;

    for (unsigned i = 0; i < G_N_ELEMENTS(good); i++)
        g_assert_true(vm_name_check(good[i], NULL));
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++)
        assert_refused(vm_name_check(bad[i], &error), &error, G_IO_ERROR_INVALID_ARGUMENT,
                       "choose another name");
    g_assert_true(vm_name_check(longest, NULL));
    g_assert_false(vm_name_check(too_long, NULL));
}

static void test_values(void)
{
    static const struct {
        const char *assignment, *path, *value;
    } good[] = {
        {"memory=2048M", "system.memory", "2G"},
        {"system.memory=1536mib", "memory", "1536M"},
        {"cpus=0x10", "cpus", "16"},
        {"boot-menu=on", "system.boot-menu", "true"},
        {"boot=floppy,cdrom", "boot", "floppy,cdrom"},
        {"description=two\nlines & <signs>", "description", "two\nlines & <signs>"},
        {"storage.ide0.0.type=disk", "storage.ide0.0.type", "disk"},
        {"storage.ide0.0.medium=disks/a.qcow2", "storage.ide0.0.medium", "disks/a.qcow2"},
        {"network.0.forward.ssh.host-port=2222", "network.0.forward.ssh.host-port", "2222"},
        {"usb.filter.stick.vendor=0951", "usb.filter.stick.vendor", "0951"},
        {"extra.GUI/Size.value=1,2", "extra.GUI/Size.value", "1,2"},
        {"memory=", "memory", "512M"},
        {"snapshots.00000000-0000-4000-8000-00000000000a.name=😀",
         "snapshots.00000000-0000-4000-8000-00000000000a.name", "😀"},
    };
    static const struct {
        const char *assignment;
        int code;
        const char *part;
    } bad[] = {
        {"memory=65G", G_IO_ERROR_INVALID_ARGUMENT, "from 1M to 64G"},
        {"memory=18446744073709551615T", G_IO_ERROR_INVALID_ARGUMENT, "system.memory"},
        {"memory=-1", G_IO_ERROR_INVALID_ARGUMENT, "'-1'"},
        {"cpus=33", G_IO_ERROR_INVALID_ARGUMENT, "from 1 to 32"},
        {"engine=warp", G_IO_ERROR_INVALID_ARGUMENT, "one of auto, kvm"},
        {"boot=disk,disk", G_IO_ERROR_INVALID_ARGUMENT, "separated by commas"},
        {"acpi=perhaps", G_IO_ERROR_INVALID_ARGUMENT, "on or off"},
        {"memroy=1G", G_IO_ERROR_NOT_FOUND, "memroy"},
        {"system.memroy=1G", G_IO_ERROR_NOT_FOUND, "memory, cpus"},
        {"storage.ide0.0.medium=../a", G_IO_ERROR_INVALID_ARGUMENT, "below"},
        {"storage.ide0.0.medium=a/../../b", G_IO_ERROR_INVALID_ARGUMENT, "below"},
        {"storage.a b.type=ide", G_IO_ERROR_INVALID_ARGUMENT, "controller name"},
        {"storage.ide0.x.type=disk", G_IO_ERROR_INVALID_ARGUMENT, "slot"},
        {"network.0.mac=02:00:00:00:00", G_IO_ERROR_INVALID_ARGUMENT, "mac"},
        {"kernel.append=a\nb", G_IO_ERROR_INVALID_ARGUMENT, "one line"},
        {"kernel.append=\xff", G_IO_ERROR_INVALID_ARGUMENT, "one line"},
        {"name=", G_IO_ERROR_INVALID_ARGUMENT, "name"},
        {"memory", G_IO_ERROR_INVALID_ARGUMENT, "NAME=VALUE"},
        {"=1", G_IO_ERROR_INVALID_ARGUMENT, "NAME=VALUE"},
        {"..=1", G_IO_ERROR_NOT_FOUND, ".."},
        {"storage..type=ide", G_IO_ERROR_NOT_FOUND, "storage."},
    };
    g_autoptr(VmConfig) config = config_new();
    g_autofree char *before = NULL, *after = NULL;
    g_autoptr(GError) error = NULL;

    for (unsigned i = 0; i < G_N_ELEMENTS(good); i++) {
        g_assert_true(vm_tree_assign(config, good[i].assignment, &error));
        g_assert_no_error(error);
        assert_value(config, good[i].path, good[i].value);
    }
    before = vm_tree_text(config, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++)
        assert_refused(vm_tree_assign(config, bad[i].assignment, &error), &error, bad[i].code,
                       bad[i].part);
    after = vm_tree_text(config, NULL);
    g_assert_cmpstr(before, ==, after);
}

static void test_lists(void)
{
    g_autoptr(VmConfig) config = config_new();
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) controllers = NULL, adapters = NULL;

    g_assert_true(vm_tree_add(config, "network.3", &error));
    assert_refused(vm_tree_add(config, "network.3", &error), &error, G_IO_ERROR_EXISTS,
                   "network.3");
    assert_refused(vm_tree_add(config, "network.9", &error), &error, G_IO_ERROR_INVALID_ARGUMENT,
                   "adapter");
    assert_refused(vm_tree_add(config, "system", &error), &error, G_IO_ERROR_NOT_FOUND, "system");
    assert_refused(vm_tree_remove(config, "network.4", &error), &error, G_IO_ERROR_NOT_FOUND,
                   "network.4");
    g_assert_true(vm_tree_has(config, "network.3"));
    assert_value(config, "network.3.model", "e1000");
    g_assert_true(vm_tree_remove(config, "network.3", &error));
    g_assert_false(vm_tree_has(config, "network.3"));
    controllers = vm_tree_keys(config, "storage");
    g_assert_cmpuint(g_strv_length(controllers), ==, 2);
    g_assert_cmpstr(controllers[0], ==, "ide0");
    for (unsigned i = 0; i < 6; i++) {
        g_autofree char *path = g_strdup_printf("storage.more%u", i);
        g_assert_true(vm_tree_add(config, path, &error));
    }
    assert_refused(vm_tree_add(config, "storage.ninth", &error), &error,
                   G_IO_ERROR_INVALID_ARGUMENT, "at most 8");
    assert_refused(vm_tree_assign(config, "storage.ninth.0.type=disk", &error), &error,
                   G_IO_ERROR_INVALID_ARGUMENT, "at most 8");
    g_assert_false(vm_tree_has(config, "storage.ninth"));
    adapters = vm_tree_keys(config, "network.%d.forward", 0);
    g_assert_cmpuint(g_strv_length(adapters), ==, 0);
}

/* What no one here knows stays where it was; comments, too. */
static void test_unknown_kept(void)
{
    static const char text[] =
        HEAD "<!-- mine --><system memory=\"1G\" warp=\"9\"><flux capacity=\"1.21\"/></system>"
             "<holodeck safe=\"no\">text <b>bold</b></holodeck>"
             "<x:tag xmlns:x=\"urn:x\" x:a=\"1\"/>" TAIL;
    static const char *const kept[] = {"<!-- mine -->",
                                       "warp=\"9\"",
                                       "<flux capacity=\"1.21\"/>",
                                       "<holodeck safe=\"no\">text <b>bold</b></holodeck>",
                                       "<x:tag xmlns:x=\"urn:x\" x:a=\"1\"/>",
                                       "memory=\"3G\""};
    g_autoptr(GError) error = NULL;
    g_autoptr(VmConfig) config = parse(text, &error);
    g_autoptr(VmConfig) again = NULL;
    g_autofree char *saved = NULL, *saved_again = NULL;

    g_assert_no_error(error);
    g_assert_true(vm_tree_assign(config, "memory=3G", &error));
    saved = vm_tree_text(config, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(kept); i++)
        g_assert_nonnull(strstr(saved, kept[i]));
    again = parse(saved, &error);
    g_assert_no_error(error);
    saved_again = vm_tree_text(again, NULL);
    g_assert_cmpstr(saved, ==, saved_again);
}

static void test_bad_files(void)
{
    static const struct {
        const char *text;
        int code;
        const char *part;
    } bad[] = {
        {"", G_IO_ERROR_INVALID_DATA, "empty"},
        {"MZ\x90", G_IO_ERROR_INVALID_DATA, "line 1 is not XML"},
        {HEAD "<system memory=\"1G\"", G_IO_ERROR_INVALID_DATA, "line 4 is not XML"},
        {"<!DOCTYPE ospite [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;&a;\">]>" HEAD TAIL,
         G_IO_ERROR_INVALID_DATA, "entities"},
        {"<!DOCTYPE ospite SYSTEM \"file:///etc/passwd\"><ospite version=\"1\"/>",
         G_IO_ERROR_INVALID_DATA, "line 1 declares"},
        {HEAD "<system memory=\"&lots;\"/>" TAIL, G_IO_ERROR_INVALID_DATA, "line 4"},
        {"<domain type=\"kvm\"/>", G_IO_ERROR_INVALID_DATA, "no machine configuration"},
        {"<ospite xmlns=\"urn:x\" version=\"1\"/>", G_IO_ERROR_INVALID_DATA, "configuration"},
        {"<ospite/>", G_IO_ERROR_INVALID_DATA, "no version number"},
        {"<ospite version=\"2\"/>", G_IO_ERROR_NOT_SUPPORTED,
         "cannot read 'x.ospite': it is a machine configuration of version 2, and this program "
         "knows "
         "versions up to 1; use a newer Ospite"},
        {"<ospite version=\"1\"/>", G_IO_ERROR_INVALID_DATA, "element 'general' is missing"},
        {HEAD "\n<system memory=\"99T\"/>" TAIL, G_IO_ERROR_INVALID_DATA,
         "line 5: system.memory cannot be '99T'; use a size from 1M to 64G"},
        {HEAD "<system boot-menu=\"on\"/>" TAIL, G_IO_ERROR_INVALID_DATA, "line 4"},
        {HEAD "<system/><system/>" TAIL, G_IO_ERROR_INVALID_DATA, "system is there twice"},
        {HEAD "<serial><port number=\"0\" backend=\"none\"/><port number=\"0\" backend=\"pty\"/>"
              "</serial>" TAIL,
         G_IO_ERROR_INVALID_DATA, "serial.0 is there twice"},
        {HEAD "<storage><controller type=\"ide\"/></storage>" TAIL, G_IO_ERROR_INVALID_DATA,
         "no attribute 'name'"},
        {HEAD "<storage><controller name=\"a.b\" type=\"ide\"/></storage>" TAIL,
         G_IO_ERROR_INVALID_DATA, "line 4"},
        {HEAD "<storage><controller name=\"ide0\"/></storage>" TAIL, G_IO_ERROR_INVALID_DATA,
         "storage.ide0.type is missing"},
        {HEAD
         "<storage><controller name=\"ide0\" type=\"ide\"><attachment slot=\"4\" type=\"cdrom\"/>"
         "</controller></storage>" TAIL,
         G_IO_ERROR_INVALID_DATA, "slots 0 to 3"},
        {HEAD "<kernel append=\"quiet\"/>" TAIL, G_IO_ERROR_INVALID_DATA, "kernel.file"},
        {HEAD "<snapshots><snapshot uuid=\"00000000-0000-4000-8000-00000000000a\" name=\"s\" "
              "parent=\"00000000-0000-4000-8000-00000000000a\"/></snapshots>" TAIL,
         G_IO_ERROR_INVALID_DATA, "its own descendant"},
        {"<ospite version=\"1\"><general name=\"a/b\" "
         "uuid=\"00000000-0000-4000-8000-000000000001\"/></ospite>",
         G_IO_ERROR_INVALID_DATA, "slash"},
        {"<ospite version=\"1\"><general name=\"a\" uuid=\"x\"/></ospite>", G_IO_ERROR_INVALID_DATA,
         "general.uuid"},
    };
    g_autoptr(GString) deep = g_string_new(HEAD);
    g_autoptr(GError) error = NULL;

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++)
        assert_refused(parse(bad[i].text, &error), &error, bad[i].code, bad[i].part);
    for (unsigned i = 0; i < 100000; i++)
        g_string_append(deep, "<a>");
    assert_refused(parse(deep->str, &error), &error, G_IO_ERROR_INVALID_DATA, "line 4");
}

static void test_check(void)
{
    static const struct {
        const char *settings[4];
        const char *part; /* NULL: fine */
    } cases[] = {
        {{"storage.ide0.0.type=disk", "storage.ide0.0.medium=a.raw"}, NULL},
        {{"storage.ide0.0.type=disk"}, "storage.ide0.0.medium is missing"},
        {{"storage.ide0.0.type=floppy"}, "takes disk cdrom"},
        {{"storage.ide0.0.type=cdrom", "storage.ide0.1.type=cdrom"}, NULL},
        {{"storage.ide0.7.type=cdrom"}, "slots 0 to 3"},
        {{"storage.other.0.type=disk", "storage.other.0.medium=a"},
         "storage.other.type is missing"},
        {{"storage.ide0.0.type=disk", "storage.ide0.0.medium=a", "storage.ide0.1.type=disk",
          "storage.ide0.1.medium=a"},
         "in use at storage.ide0.0"},
        {{"kernel.initrd=i"}, "kernel.file"},
        {{"kernel.initrd=i", "kernel.file=k"}, NULL},
        {{"network.0.forward.a.host-port=1"}, "guest-port is missing"},
        {{"network.0.forward.a.host-port=1", "network.0.forward.a.guest-port=1",
          "network.1.forward.a.host-port=1", "network.1.forward.a.guest-port=2"},
         "network.0.forward.a does already"},
        {{"snapshots.current=00000000-0000-4000-8000-00000000000a"}, "not there"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(VmConfig) config = config_new();
        g_autoptr(GError) error = NULL;
        for (unsigned j = 0; j < 4 && cases[i].settings[j]; j++) {
            bool ok = vm_tree_assign(config, cases[i].settings[j], &error);
            g_assert_no_error(error);
            g_assert_true(ok);
        }
        if (cases[i].part)
            assert_refused(vm_config_check(config, &error), &error, G_IO_ERROR_INVALID_ARGUMENT,
                           cases[i].part);
        else if (!vm_config_check(config, &error))
            g_error("%s", error->message);
    }
}

static JsonNode *json(const char *text)
{
    g_autoptr(GError) error = NULL;
    JsonNode *node = json_from_string(text, &error);

    g_assert_no_error(error);
    return node;
}

static void test_json(void)
{
    static const struct {
        const char *patch, *part;
    } bad[] = {
        {"[]", "JSON object"},
        {"{\"system\": 1}", "system must be a JSON object"},
        {"{\"system\": {\"memory\": true}}", "wrong JSON type"},
        {"{\"system\": {\"memory\": -1}}", "system.memory"},
        {"{\"system\": {\"cpus\": \"2\"}}", "wrong JSON type"},
        {"{\"system\": {\"warp\": 1}}", "system.warp"},
        {"{\"system\": null}", "cannot be null"},
        {"{\"general\": {\"name\": null}}", "cannot be left out"},
        {"{\"system.memory\": 1}", "no JSON name"},
        {"{\"storage\": {\"a b\": {}}}", "controller name cannot be"},
        {"{\"a\": {\"a\": {\"a\": {}}}}", "'a'"},
    };
    static const char patch[] =
        "{\"system\": {\"memory\": 1073741824, \"cpus\": 2, \"acpi\": false,"
        "\"boot\": [\"cdrom\", \"disk\"]}, \"network\": {\"0\": {\"forward\": {\"ssh\": "
        "{\"host-port\": 2222, \"guest-port\": 22}}}}, \"storage\": {\"floppy0\": null}}";
    g_autoptr(VmConfig) config = config_new();
    g_autoptr(VmConfig) copy = NULL;
    g_autoptr(JsonNode) node = json(patch);
    g_autoptr(JsonNode) out = NULL;
    g_autoptr(JsonNode) whole = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) diff = NULL;
    g_autofree char *before = NULL, *after = NULL;

    g_assert_true(vm_tree_merge_json(config, node, &error));
    assert_value(config, "memory", "1G");
    assert_value(config, "boot", "cdrom,disk");
    assert_value(config, "network.0.forward.ssh.guest-port", "22");
    g_assert_false(vm_tree_has(config, "storage.floppy0"));
    before = vm_tree_text(config, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(JsonNode) wrong = json(bad[i].patch);
        bool ok = vm_tree_merge_json(config, wrong, &error);
        g_assert_false(ok);
        if (!strstr(error->message, bad[i].part))
            g_error("'%s' is not in '%s'", bad[i].part, error->message);
        g_clear_error(&error);
    }
    after = vm_tree_text(config, NULL);
    g_assert_cmpstr(before, ==, after);

    /* What comes out goes in again. */
    out = vm_tree_to_json(config, false);
    copy = vm_tree_new(&vm_config_schema);
    g_assert_true(vm_tree_merge_json(copy, out, &error));
    g_assert_no_error(error);
    diff = vm_tree_diff(config, copy);
    g_assert_cmpuint(diff->len, ==, 0);
    whole = vm_tree_to_json(config, true);
    g_assert_cmpint(
        json_object_get_int_member(
            json_object_get_object_member(json_node_get_object(whole), "display"), "vram"),
        ==, 16 << 20);
}

static void test_diff(void)
{
    g_autoptr(VmConfig) from = config_new();
    g_autoptr(VmConfig) to = vm_tree_copy(from);
    g_autoptr(GPtrArray) none = vm_tree_diff(from, to);
    g_autoptr(GPtrArray) some = NULL;

    g_assert_cmpuint(none->len, ==, 0);
    g_assert_cmpint(vm_config_change(from, to), ==, VM_CHANGE_NOW);
    g_assert_true(vm_tree_assign(to, "memory=512M", NULL)); /* the default */
    g_assert_true(vm_tree_assign(to, "description=x", NULL));
    g_assert_cmpint(vm_config_change(from, to), ==, VM_CHANGE_NOW);
    g_assert_true(vm_tree_assign(to, "cpus=2", NULL));
    g_assert_true(vm_tree_remove(to, "storage.floppy0", NULL));
    some = vm_tree_diff(from, to);
    g_assert_cmpuint(some->len, ==, 4); /* description, cpus, floppy0, floppy0.type */
    g_assert_cmpint(vm_config_change(from, to), ==, VM_CHANGE_RESTART);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/vm/config/names", test_names);
    g_test_add_func("/vm/config/values", test_values);
    g_test_add_func("/vm/config/lists", test_lists);
    g_test_add_func("/vm/config/unknown-kept", test_unknown_kept);
    g_test_add_func("/vm/config/bad-files", test_bad_files);
    g_test_add_func("/vm/config/check", test_check);
    g_test_add_func("/vm/config/json", test_json);
    g_test_add_func("/vm/config/diff", test_diff);
    return g_test_run();
}
