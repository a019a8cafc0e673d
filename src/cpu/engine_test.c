/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Choosing an engine, and the report. The software engine is a stand-in, so that it can fail. */
#include "cpu/engine_list.h"

#include <string.h>

static bool interp_works = true, jit_works = true;

static bool fake_probe(bool works, GError **error)
{
    if (!works)
        g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_FAILED, "out of order");
    return works;
}

static bool interp_probe(GError **error)
{
    return fake_probe(interp_works, error);
}

static bool jit_probe(GError **error)
{
    return fake_probe(jit_works, error);
}

static const Engine interp = {.name = "interp", .description = "stand-in", .probe = interp_probe};
static const Engine jit = {.name = "jit", .description = "stand-in", .probe = jit_probe};
const EngineRow engine_rows[] = {
    {&engine_kvm, false, false}, {&jit, true, false},  {&interp, true, false},
    {&engine_none, true, true},  {NULL, false, false},
};

static bool kvm_suits(void)
{
    g_autofree char *why = NULL;
    return engine_kvm.probe(NULL) && engine_kvm.runs_stock_guests(&why);
}

static void test_auto(void)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *why = NULL;
    const Engine *engine = engine_find("auto", &why, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(engine->name, ==, kvm_suits() ? "kvm" : "jit");
    g_assert_true(kvm_suits() == !why);
    g_assert_true(!why || !strchr(why, '\n'));
}

static void test_named(void)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *why = NULL;
    g_assert_true(engine_find("soft", &why, NULL) == &jit && !why);
    g_assert_true(engine_find("interp", &why, NULL) == &interp && !why);
    g_assert_null(engine_find("warp", &why, &error));
    g_assert_nonnull(strstr(error->message, "warp"));
    g_assert_nonnull(strstr(error->message, "interp"));
    if (engine_kvm.probe(NULL)) {
        g_assert_true(engine_find("kvm", &why, NULL) == &engine_kvm);
        g_assert_true(kvm_suits() == !why); /* taken all the same, with a warning */
    }
}

static void test_none(void)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *why = NULL;
    jit_works = false;
    g_assert_true(engine_find("soft", &why, NULL) == &interp);
    g_assert_cmpstr(why, ==, "using engine interp: out of order");
    interp_works = false;
    g_assert_null(engine_find("soft", NULL, &error));
    g_assert_nonnull(strstr(error->message, "out of order"));
    g_clear_error(&error);
    g_assert_null(engine_find("interp", NULL, &error));
    g_assert_nonnull(error);
    interp_works = jit_works = true;
}

static void test_report(void)
{
    g_autofree char *report = engine_report();
    const char *wanted[] = {"Host\n", "/dev/kvm:", "Engines\n", "Choice\n",
                            "kvm:",   "jit:",      "interp:"};
    for (size_t i = 0; i < G_N_ELEMENTS(wanted); i++)
        g_assert_nonnull(strstr(report, wanted[i]));
    g_assert_true(kvm_suits() == !strstr(report, "To get hardware virtualization"));
    g_auto(GStrv) lines = g_strsplit(report, "\n", -1);
    for (char **line = lines; *line; line++)
        g_assert_cmpuint(strlen(*line), <=, 100);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/cpu/engine/auto", test_auto);
    g_test_add_func("/cpu/engine/named", test_named);
    g_test_add_func("/cpu/engine/none", test_none);
    g_test_add_func("/cpu/engine/report", test_report);
    return g_test_run();
}
