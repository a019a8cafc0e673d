/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The fuzz target of GDB's packets on random bytes. */
#include "device/fuzz.h"

static void test_garbage(void)
{
    fuzz_random(50);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/runner/gdb/garbage", test_garbage);
    return g_test_run();
}
