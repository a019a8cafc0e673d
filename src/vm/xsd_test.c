/* SPDX-License-Identifier: GPL-3.0-or-later */
/* xmllint holds saved files against the XSD of the table; both must say the same. */
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#include "vm/config.h"

static bool xmllint(const char *xsd, const char *file)
{
    const char *const words[] = {"xmllint", "--noout", "--schema", xsd, file, NULL};
    g_autoptr(GError) error = NULL;
    int status;

    g_spawn_sync(NULL, (char **)words, NULL,
                 G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL | G_SPAWN_STDERR_TO_DEV_NULL,
                 NULL, NULL, NULL, NULL, &status, &error);
    g_assert_no_error(error);
    return status == 0;
}

static void test_saved_files(void)
{
    static const char *const settings[] = {
        "memory=3G",
        "cpus=4",
        "boot=cdrom,disk",
        "description=two\nlines",
        "groups=/A/B,/C",
        "storage.ide0.0.type=disk",
        "storage.ide0.0.medium=a b.qcow2",
        "storage.ide0.0.format=qcow2",
        "network.0.mac=02:00:00:00:00:01",
        "network.0.forward.ssh.host-port=2222",
        "network.0.forward.ssh.guest-port=22",
        "usb.filter.a.vendor=0951",
        "shared.src.path=/usr/src",
        "display.vnc=127.0.0.1:5900",
        "extra.GUI/x.value=y",
        "snapshots.00000000-0000-4000-8000-00000000000a.name=s",
        "parallel.0.backend=file:lp",
        "kernel.file=vmlinuz",
        "autostart.enabled=on",
    };
    static const char *const bad[] = {
        "<ospite version=\"1\"/><x>",
        "<ospite version=\"1\"><general name=\"a\"/></ospite>",
        "<ospite version=\"1\"><general name=\"a\" uuid=\"x\"/></ospite>",
        "<ospite version=\"2\"/>",
        "<ospite version=\"1\"><system cpus=\"64\"/></ospite>",
        "<ospite version=\"1\"><system boot-menu=\"on\"/></ospite>",
    };
    g_autofree char *folder = g_dir_make_tmp("vm-xsd-XXXXXX", NULL);
    g_autofree char *xsd = g_build_filename(folder, "ospite.xsd", NULL);
    g_autofree char *file = g_build_filename(folder, "m.ospite", NULL);
    g_autofree char *text = vm_schema_xsd(&vm_config_schema), *program = NULL;
    g_autoptr(VmConfig) config = vm_config_new("m", NULL);
    g_autoptr(GError) error = NULL;

    program = g_find_program_in_path("xmllint");
    if (!program) {
        g_test_skip("xmllint is not installed (libxml2-utils)");
        return;
    }
    g_assert_true(g_file_set_contents(xsd, text, -1, NULL));
    g_assert_true(vm_config_save(config, file, &error));
    g_assert_true(xmllint(xsd, file));
    for (unsigned i = 0; i < G_N_ELEMENTS(settings); i++) {
        vm_tree_assign(config, settings[i], &error);
        g_assert_no_error(error);
    }
    g_assert_true(vm_config_save(config, file, &error));
    g_assert_true(xmllint(xsd, file));
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_assert_true(g_file_set_contents(file, bad[i], -1, NULL));
        g_assert_false(xmllint(xsd, file));
        g_assert_null(vm_config_load(file, NULL));
    }
    g_remove(file);
    g_remove(xsd);
    g_rmdir(folder);
}

/* A thousand machines are read in one go: the daemon's start. */
static void test_thousand(void)
{
    g_autoptr(VmConfig) config = vm_config_new("m", NULL);
    g_autofree char *text = NULL;
    size_t size;
    int64_t start;

    vm_tree_assign(config, "storage.ide0.0.type=disk", NULL);
    vm_tree_assign(config, "storage.ide0.0.medium=a.qcow2", NULL);
    text = vm_tree_text(config, &size);
    start = g_get_monotonic_time();
    for (unsigned i = 0; i < 1000; i++) {
        g_autoptr(VmConfig) one = vm_config_parse(text, size, "m", NULL);
        g_assert_nonnull(one);
    }
    g_test_message("1000 machines parsed and checked in %" G_GINT64_FORMAT " us",
                   g_get_monotonic_time() - start);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/vm/xsd/saved-files", test_saved_files);
    g_test_add_func("/vm/xsd/thousand", test_thousand);
    return g_test_run();
}
