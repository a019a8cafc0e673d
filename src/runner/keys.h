/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Keys by the name or by the character they make on a US keyboard, as Linux key codes; 0: there is
 * none. */
#pragma once

#include <stdbool.h>

unsigned key_for_name(const char *name);
unsigned key_for_character(char character, bool *ret_shift);
