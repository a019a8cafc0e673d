/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See stats.h. The names come from the table in cpu/counters.h. */
#include "runner/stats.h"
#include "base/i18n.h"

#include <json-glib/json-glib.h>
#include <stdio.h>
#include <string.h>

void stats_append_lines(Vm *vm, GString *text)
{
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        Counters counters;
        vcpu_get_counters(vm->vcpus[i], &counters);
        g_string_append_printf(text, "| cpu%u", i);
        for (unsigned c = 0; c < COUNTER_COUNT; c++)
            if (counters.kept[c])
                g_string_append_printf(text, " %s=%" G_GUINT64_FORMAT, counter_rows[c].name,
                                       counters.value[c]);
        g_string_append_c(text, '\n');
    }
}

static void add_counters(JsonBuilder *json, const Counters *counters)
{
    json_builder_begin_object(json);
    for (unsigned c = 0; c < COUNTER_COUNT; c++) {
        if (!counters->kept[c])
            continue;
        json_builder_set_member_name(json, counter_rows[c].name);
        json_builder_add_int_value(json, (gint64)counters->value[c]);
    }
    json_builder_end_object(json);
}

static void add_ratio(JsonBuilder *json, const char *name, uint64_t part, uint64_t whole)
{
    if (!whole)
        return;
    json_builder_set_member_name(json, name);
    json_builder_add_double_value(json, (double)part / (double)whole);
}

static void add_machine(JsonBuilder *json, Vm *vm)
{
    Counters total = {0};

    json_builder_set_member_name(json, "cpus");
    json_builder_begin_array(json);
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        Counters counters;
        vcpu_get_counters(vm->vcpus[i], &counters);
        add_counters(json, &counters);
        for (unsigned c = 0; c < COUNTER_COUNT; c++)
            if (counters.kept[c])
                counters_set(&total, c, total.value[c] + counters.value[c]);
    }
    json_builder_end_array(json);
    json_builder_set_member_name(json, "total");
    add_counters(json, &total);
    add_ratio(json, "linked_ratio", total.value[COUNTER_EXITS_LINKED],
              total.value[COUNTER_EXITS_DIRECT]);
    add_ratio(json, "expansion", total.value[COUNTER_HOST_BYTES], total.value[COUNTER_GUEST_BYTES]);
}

char *stats_json(Vm *vm)
{
    g_autoptr(JsonBuilder) json = json_builder_new();

    json_builder_begin_object(json);
    json_builder_set_member_name(json, "engine");
    json_builder_add_string_value(json, vm->engine->name);
    add_machine(json, vm);
    json_builder_end_object(json);
    g_autoptr(JsonNode) root = json_builder_get_root(json);
    g_autofree char *text = json_to_string(root, true);
    return g_strconcat(text, "\n", NULL);
}

bool stats_write(Vm *vm, const char *path, GError **error)
{
    g_autofree char *text = stats_json(vm);
    g_autoptr(GError) cause = NULL;

    if (!strcmp(path, "-")) {
        fputs(text, stdout);
        return fflush(stdout) == 0;
    }
    if (g_file_set_contents(path, text, -1, &cause))
        return true;
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_FAILED,
                _("cannot write the counters: %s; choose another file for --stats"),
                cause->message);
    return false;
}
