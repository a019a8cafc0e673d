/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Random bytes as code, in every mode: the guest may fail, the program must not. */
#include <glib.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void test_random(gconstpointer mode)
{
    uint8_t data[256];

    for (unsigned round = 0; round < (g_test_slow() ? 5000 : 80); round++) {
        for (unsigned i = 0; i < sizeof(data); i++)
            data[i] = g_test_rand_int();
        data[0] = GPOINTER_TO_UINT(mode);
        LLVMFuzzerTestOneInput(data, sizeof(data));
    }
}

int main(int argc, char **argv)
{
    static const char *const modes[] = {"real", "protected", "protected-user", "long", "long-user"};

    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(modes); i++) {
        g_autofree char *path = g_strdup_printf("/garbage/%s", modes[i]);
        g_test_add_data_func(path, GUINT_TO_POINTER(i), test_random);
    }
    return g_test_run();
}
