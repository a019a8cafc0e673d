/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Which engines there are, and choosing one. */
#include "base/i18n.h"
#include "cpu/engine_list.h"

#include <string.h>

bool engine_suits(const Engine *engine, char **ret_why_not)
{
    g_autoptr(GError) error = NULL;
    *ret_why_not = NULL;
    if (!engine->probe(&error)) {
        *ret_why_not = g_strdup(error->message);
        return false;
    }
    return !engine->runs_stock_guests || engine->runs_stock_guests(ret_why_not);
}

/* The first that suits; why the first of them does not is the user's answer. */
static const Engine *find_suitable(bool soft_only, char **ret_why, GError **error)
{
    g_autofree char *why = NULL;
    for (const EngineRow *row = engine_rows; row->engine; row++) {
        g_autofree char *why_not = NULL;
        if (row->named || (soft_only && !row->soft))
            continue;
        if (engine_suits(row->engine, &why_not)) {
            if (ret_why && why)
                *ret_why = g_strdup_printf("using engine %s: %s", row->engine->name, why);
            return row->engine;
        }
        if (!why)
            why = g_steal_pointer(&why_not);
    }
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
                _("no CPU engine can run on this host: %s"), why);
    return NULL;
}

static const Engine *find_named(const char *name, GError **error)
{
    GString *names = g_string_new("auto, soft");
    for (const EngineRow *row = engine_rows; row->engine; row++) {
        if (!strcmp(row->engine->name, name)) {
            g_string_free(names, TRUE);
            return row->engine;
        }
        g_string_append_printf(names, ", %s", row->engine->name);
    }
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                _("unknown engine '%s'; there are: %s"), name, names->str);
    g_string_free(names, TRUE);
    return NULL;
}

const Engine *engine_find(const char *name, char **ret_why, GError **error)
{
    if (ret_why)
        *ret_why = NULL;
    if (!strcmp(name, "auto") || !strcmp(name, "soft"))
        return find_suitable(!strcmp(name, "soft"), ret_why, error);
    const Engine *engine = find_named(name, error);
    if (!engine || !engine->probe(error))
        return NULL;
    g_autofree char *why_not = NULL;
    if (ret_why && engine->runs_stock_guests && !engine->runs_stock_guests(&why_not))
        *ret_why = g_strdup_printf("warning: %s", why_not);
    return engine;
}

void engine_keep_all(void)
{
    for (const EngineRow *row = engine_rows; row->engine; row++)
        row->engine->probe(NULL);
}
