/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Machines as the API shows them (api/openapi.yaml: Vm, VmSummary, End). */
#pragma once

#include <json-glib/json-glib.h>

#include "daemon/machine.h"

JsonNode *machine_json(const Machine *machine);
JsonNode *machine_summary_json(const Machine *machine);
JsonNode *machine_end_json(const ProcessEnd *end);
/* {name: value}; takes the value. */
JsonNode *json_object_of(const char *name, JsonNode *value);
/* "2026-11-23T10:00:00Z" */
char *json_time(gint64 seconds);
