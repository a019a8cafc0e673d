/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See keys.h. */
#include "runner/keys.h"

#include <glib.h>
#include <linux/input-event-codes.h>
#include <string.h>

/* Rows of the US keyboard: the key code of the first character, then the characters plain and
 * shifted. */
static const struct {
    unsigned first;
    const char *plain, *shifted;
} rows[] = {
    {KEY_1, "1234567890-=", "!@#$%^&*()_+"},
    {KEY_Q, "qwertyuiop[]\n", "QWERTYUIOP{}"},
    {KEY_A, "asdfghjkl;'`", "ASDFGHJKL:\"~"},
    {KEY_BACKSLASH, "\\zxcvbnm,./", "|ZXCVBNM<>?"},
    {KEY_SPACE, " ", ""},
    {KEY_BACKSPACE, "\b\t", ""},
};

static const struct {
    const char *name;
    unsigned key;
} names[] = {
    {"enter", KEY_ENTER},
    {"esc", KEY_ESC},
    {"tab", KEY_TAB},
    {"space", KEY_SPACE},
    {"backspace", KEY_BACKSPACE},
    {"up", KEY_UP},
    {"down", KEY_DOWN},
    {"left", KEY_LEFT},
    {"right", KEY_RIGHT},
    {"home", KEY_HOME},
    {"end", KEY_END},
    {"pageup", KEY_PAGEUP},
    {"pagedown", KEY_PAGEDOWN},
    {"insert", KEY_INSERT},
    {"delete", KEY_DELETE},
    {"ctrl", KEY_LEFTCTRL},
    {"alt", KEY_LEFTALT},
    {"shift", KEY_LEFTSHIFT},
    {"f1", KEY_F1},
    {"f2", KEY_F2},
    {"f3", KEY_F3},
    {"f4", KEY_F4},
    {"f5", KEY_F5},
    {"f6", KEY_F6},
    {"f7", KEY_F7},
    {"f8", KEY_F8},
    {"f9", KEY_F9},
    {"f10", KEY_F10},
    {"f11", KEY_F11},
    {"f12", KEY_F12},
};

unsigned key_for_character(char character, bool *ret_shift)
{
    for (unsigned i = 0; character && i < G_N_ELEMENTS(rows); i++) {
        const char *plain = strchr(rows[i].plain, character),
                   *shifted = strchr(rows[i].shifted, character);
        *ret_shift = !plain;
        if (plain)
            return rows[i].first + (unsigned)(plain - rows[i].plain);
        if (shifted)
            return rows[i].first + (unsigned)(shifted - rows[i].shifted);
    }
    return 0;
}

unsigned key_for_name(const char *name)
{
    bool shift;

    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        if (!strcmp(names[i].name, name))
            return names[i].key;
    }
    return strlen(name) == 1 ? key_for_character(*name, &shift) : 0;
}
