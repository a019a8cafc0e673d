/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See perf_map.h. Symbols are sorted by address once and searched by halves. */
#include "cpu/perf_map.h"
#include "base/i18n.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SYMBOLS_MAX_BYTES (64 << 20)
#define REACH             (1 << 20) /* farther behind a symbol it is somebody else's code */

typedef struct Symbol {
    uint64_t address;
    char *name;
} Symbol;

struct PerfMap {
    GMutex lock;
    FILE *file;
    GArray *symbols;
};

static void symbol_clear(void *symbol)
{
    g_free(((Symbol *)symbol)->name);
}

static int symbol_compare(const void *a, const void *b)
{
    const Symbol *x = a, *y = b;
    return x->address < y->address ? -1 : x->address > y->address;
}

/* Whether it is a line of a table of symbols; code alone is kept. */
static bool add_symbol(PerfMap *map, const char *line)
{
    g_auto(GStrv) words = g_strsplit_set(line, " \t", 4);
    char *end;

    if (g_strv_length(words) < 3 || strlen(words[1]) != 1)
        return false;
    Symbol symbol = {.address = g_ascii_strtoull(words[0], &end, 16)};
    if (end == words[0] || *end)
        return false;
    if (strchr("tTwW", words[1][0]) && symbol.address) {
        symbol.name = g_strdup(words[2]);
        g_array_append_val(map->symbols, symbol);
    }
    return true;
}

static bool load_symbols(PerfMap *map, const char *path, GError **error)
{
    g_autofree char *text = NULL;
    g_autoptr(GError) cause = NULL;
    gsize length;

    if (!g_file_get_contents(path, &text, &length, &cause) || length > SYMBOLS_MAX_BYTES) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_FAILED,
                    _("cannot read the guest's symbols: %s; --perf-map takes a System.map or - for "
                      "none"),
                    cause ? cause->message : _("the file is larger than 64 MiB"));
        return false;
    }
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++) {
        if (!**line || add_symbol(map, *line))
            continue;
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    _("cannot read the guest's symbols: line %d of '%s' is no address, type and "
                      "name; --perf-map takes what nm prints"),
                    (int)(line - lines) + 1, path);
        return false;
    }
    g_array_sort(map->symbols, symbol_compare);
    return true;
}

PerfMap *perf_map_new(const char *symbols, GError **error)
{
    g_autoptr(PerfMap) map = g_new0(PerfMap, 1);
    g_autofree char *path = g_strdup_printf("/tmp/perf-%d.map", (int)getpid());

    g_mutex_init(&map->lock);
    map->symbols = g_array_new(false, false, sizeof(Symbol));
    g_array_set_clear_func(map->symbols, symbol_clear);
    if (symbols && !load_symbols(map, symbols, error))
        return NULL;
    /* In a folder that all may write to: never through somebody else's link. */
    unlink(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    map->file = fd < 0 ? NULL : fdopen(fd, "w");
    if (map->file)
        return g_steal_pointer(&map);
    g_set_error(error, G_IO_ERROR, g_io_error_from_errno(errno),
                _("cannot write '%s': %s; run without --perf-map"), path, g_strerror(errno));
    return NULL;
}

void perf_map_free(PerfMap *map)
{
    if (!map)
        return;
    if (map->file)
        fclose(map->file);
    g_array_unref(map->symbols);
    g_mutex_clear(&map->lock);
    g_free(map);
}

/* The last symbol at or before the address, or NULL. */
static const Symbol *find_symbol(const PerfMap *map, uint64_t address)
{
    unsigned low = 0, high = map->symbols->len;

    while (low < high) {
        unsigned middle = low + (high - low) / 2;
        if (g_array_index(map->symbols, Symbol, middle).address <= address)
            low = middle + 1;
        else
            high = middle;
    }
    const Symbol *symbol = low ? &g_array_index(map->symbols, Symbol, low - 1) : NULL;
    return symbol && address - symbol->address < REACH ? symbol : NULL;
}

void perf_map_add(PerfMap *map, const void *start, uint64_t size, uint64_t linear)
{
    const Symbol *symbol = find_symbol(map, linear);

    g_mutex_lock(&map->lock);
    fprintf(map->file,
            "%" G_GINT64_MODIFIER "x %" G_GINT64_MODIFIER "x guest:", (uint64_t)(uintptr_t)start,
            size);
    if (symbol)
        fprintf(map->file, "%s+%#" G_GINT64_MODIFIER "x", symbol->name, linear - symbol->address);
    else
        fprintf(map->file, "%#" G_GINT64_MODIFIER "x", linear);
    fputc('\n', map->file);
    g_mutex_unlock(&map->lock);
}
