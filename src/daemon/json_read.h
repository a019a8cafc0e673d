/* SPDX-License-Identifier: GPL-3.0-or-later */
/* JSON from outside, into a tree. Any thread. */
#pragma once

#include <json-glib/json-glib.h>

/* An object: UTF-8, nested at most 32 deep, nothing behind it. The error says only what is wrong
 * with the text. */
JsonNode *json_read(const char *text, size_t size, GError **error);
