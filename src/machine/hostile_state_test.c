/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Damaged states: a device refuses them and stays as it was, or lives with what it took. */
#include "device/fuzz.h"

static void test_random(void)
{
    fuzz_random(g_test_slow() ? 20000 : 200);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/hostile-state/random", test_random);
    return g_test_run();
}
