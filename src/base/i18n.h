/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Translated messages: _("text") is the user's language, N_("text") marks a text in a constant
 * table that whoever shows it translates with _(). Functions that take a format and say so
 * translate it themselves; po/meson.build names them. The catalogue is "ospite".
 *
 * Only the command line sets a locale (LC_MESSAGES and LC_CTYPE; numbers are always written with a
 * point). What programs read stays English: JSON, the API, and what qemu-img and VBoxManage print.
 */
#pragma once

#define GETTEXT_PACKAGE "ospite"
#include <glib/gi18n-lib.h>

/* Finds the catalogues, once. Any thread. */
void i18n_init(void);
