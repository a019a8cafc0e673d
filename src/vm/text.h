/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Small things about texts, for this floor's own files. Any thread. */
#pragma once

#include <gio/gio.h>
#include <stdbool.h>

/* Whether the regular expression matches the whole text. */
bool text_matches(const char *pattern, const char *text);
/* Whether `word` is among words separated by spaces. */
bool text_has_word(const char *words, const char *word, size_t length);
/* Whether XML can hold it: valid UTF-8 and no control characters but, with `lines`, \t, \n and \r.
 */
bool text_is_plain(const char *text, bool lines);
/* A text in quotes for a message (new): control characters escaped, long ones cut. */
char *text_quote(const char *text);
/* Fills an error of G_IO_ERROR. Returns false. */
bool vm_error(GError **error, GIOErrorEnum code, const char *format, ...) G_GNUC_PRINTF(3, 4);
