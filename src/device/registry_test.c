/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Every registered type is complete, has a name of its own and is found by it. */
#include <string.h>

#include "device/registry.h"

static void test_types(void)
{
    const DeviceType *const *types = device_registry();
    g_autoptr(GHashTable) names = g_hash_table_new(g_str_hash, g_str_equal);

    for (unsigned i = 0; types[i]; i++) {
        g_assert_true(g_hash_table_add(names, (gpointer)types[i]->name));
        g_assert_true(device_registry_find(types[i]->name) == types[i]);
        g_assert_nonnull(types[i]->description);
        g_assert_cmpuint(types[i]->instance_size, >=, sizeof(Device));
        g_assert_cmpuint(types[i]->state_version, >=, types[i]->state ? 1 : 0);
    }
    g_assert_cmpuint(g_hash_table_size(names), >, 15);
    g_assert_null(device_registry_find("flux-capacitor"));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/registry/types", test_types);
    return g_test_run();
}
