/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the commands that call the daemon share. */
#pragma once

#include "cli/command.h"

/* A member that is a text; "" when it is none. */
const char *call_text(JsonObject *object, const char *name);
/* A machine's state, for people. */
const char *call_state(const char *state);
/* Prints the answer (taken) with --json, else a sentence for people. `answer` NULL: false. */
bool call_finish(const CommandLine *line, JsonNode *answer, const char *format, ...)
    G_GNUC_PRINTF(3, 4);
/* The same for "'NAME' is STATE" of the answer's machine. */
bool call_finish_state(const CommandLine *line, JsonNode *answer);
#define STOP_SECONDS 60 /* that `vm stop` waits for a guest, unless told otherwise */
/*
 * Waits a few seconds for a machine whose power button was pressed, and presses it again when it is
 * still on. Its answer when it is off; NULL with TIMED_OUT at `until_us` (of the monotonic clock)
 * or another error, NULL without one: another round is due.
 */
JsonNode *call_stop_round(OspiteClient *client, const char *name, gint64 until_us, GError **error);
typedef JsonNode *CallFn(CommandLine *line, GError **error);
/* What the call answers; a terminal shows how far the job of the machine named first is. */
JsonNode *call_wait(CommandLine *line, CallFn *call, GError **error);
/* The settings in `config` of an answer's member, as `vm set` takes them. */
void call_print_settings(JsonNode *answer, const char *member);
/* A number from 0 to G_MAXUINT in an option; `preset` when it is not given. */
bool call_number(const CommandLine *line, const char *option, unsigned preset, unsigned *ret_number,
                 GError **error);
