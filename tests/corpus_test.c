/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The known inputs of a fuzz target, each as a test: the folder that holds them is the argument. */
#include <glib.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void test_input(gconstpointer path)
{
    g_autofree char *data = NULL;
    gsize size;
    g_assert_true(g_file_get_contents(path, &data, &size, NULL));
    LLVMFuzzerTestOneInput((const uint8_t *)data, size);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_assert_cmpint(argc, ==, 2);
    g_autofree char *target = g_path_get_basename(argv[1]);
    g_autoptr(GDir) folder = g_dir_open(argv[1], 0, NULL);
    g_assert_nonnull(folder);
    for (const char *name; (name = g_dir_read_name(folder));) {
        g_autofree char *test = g_strdup_printf("/corpus/%s/%s", target, name);
        g_test_add_data_func_full(test, g_build_filename(argv[1], name, NULL), test_input, g_free);
    }
    return g_test_run();
}
