/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the commands that call the daemon's API share. */
#pragma once

#include "cli/command.h"

/* Takes the body, which may be NULL; NULL with an error. */
JsonNode *call_api(const char *method, const char *path, JsonObject *body, GError **error);
/* A member that is a text; "" when it is none. */
const char *call_text(JsonObject *object, const char *name);
/* Prints the answer (taken) with --json, else a sentence for people. `answer` NULL: false. */
bool call_finish(const CommandLine *line, JsonNode *answer, const char *format, ...)
    G_GNUC_PRINTF(3, 4);
