/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Translated messages: _("text") is the user's language, N_("text") marks a text in a constant
 * table that whoever shows it translates with _(). Functions that take a format and say so
 * translate it themselves; po/meson.build names them. The catalogue is "ospite".
 *
 * The daemon answers each request in the language that it accepts, by i18n_set_language().
 * Only the command line sets a locale (LC_MESSAGES and LC_CTYPE; numbers are always written with a
 * point). What programs read stays English: JSON, and what qemu-img and VBoxManage print.
 */
#pragma once

#define GETTEXT_PACKAGE "ospite"
#include <glib/gi18n-lib.h>

/* Finds the catalogues, once. Any thread. */
void i18n_init(void);
/* For a program that somebody else's command started: his language, by LANGUAGE. */
void i18n_serve(void);
/* For a program that speaks to users of several languages, from its only thread that has messages:
 * from here on the language that an Accept-Language names first, as far as there is a catalogue;
 * NULL: English. Programs that it starts take it over. */
void i18n_set_language(const char *accepted);
