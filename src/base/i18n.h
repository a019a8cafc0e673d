/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Translated messages: _("text") is the user's language, N_("text") marks a text in a constant
 * table that whoever shows it translates with _(). The catalogue is "ospite".
 */
#pragma once

#define GETTEXT_PACKAGE "ospite"
#include <glib/gi18n-lib.h>
