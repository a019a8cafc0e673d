/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Random bytes as boot sectors and kernels: the guest may fail, the program must not. */
#include <glib.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void test_random(gconstpointer kind)
{
    uint8_t data[512];

    for (unsigned round = 0; round < (g_test_slow() ? 5000 : 100); round++) {
        for (unsigned i = 0; i < sizeof(data); i++)
            data[i] = g_test_rand_int();
        data[0] = (uint8_t)((data[0] & ~1u) | GPOINTER_TO_UINT(kind));
        LLVMFuzzerTestOneInput(data, sizeof(data));
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/garbage/boot-sectors", GUINT_TO_POINTER(0), test_random);
    g_test_add_data_func("/garbage/multiboot-kernels", GUINT_TO_POINTER(1), test_random);
    return g_test_run();
}
