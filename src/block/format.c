/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The list of disk image formats, and the marks of those that have no driver.
 *
 * A raw disk has no mark of its own, so it is what remains; opening another product's image as raw
 * would show the guest garbage and let it destroy the file, hence the list of foreign marks.
 */
#include "block/format.h"

#include <string.h>

static const FormatDriver *const drivers[] = {&raw_format};

typedef struct Mark {
    const char *name;
    bool at_end; /* offset counts in the last 512 bytes of the file */
    uint16_t offset;
    uint8_t length;
    const char *bytes;
} Mark;

/* Longer marks of a family stand before shorter ones. */
static const Mark marks[] = {
    {"qcow", false, 0, 8, "QFI\xfb\0\0\0\1"},
    {"qcow2", false, 0, 4, "QFI\xfb"},
    {"QED", false, 0, 4, "QED\0"},
    {"VDI", false, 64, 4, "\x7f\x10\xda\xbe"},
    {"VMDK", false, 0, 4, "KDMV"},
    {"VMDK", false, 0, 4, "COWD"},
    {"VMDK", false, 0, 21, "# Disk DescriptorFile"},
    {"VHDX", false, 0, 8, "vhdxfile"},
    {"VHD", false, 0, 8, "conectix"},
    {"VHD", true, 0, 8, "conectix"},
    {"Parallels", false, 0, 16, "WithoutFreeSpace"},
    {"Parallels", false, 0, 16, "WithouFreSpacExt"},
    {"Bochs growing", false, 0, 22, "Bochs Virtual HD Image"},
    {"Apple DMG", true, 0, 4, "koly"},
};

const FormatDriver *format_find(const char *name, GError **error)
{
    g_autoptr(GString) names = g_string_new(NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(drivers); i++) {
        if (strcmp(drivers[i]->name, name) == 0)
            return drivers[i];
        g_string_append_printf(names, "%s%s", i ? ", " : "", drivers[i]->name);
    }
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
                "unknown disk format '%s'; this version knows: %s", name, names->str);
    return NULL;
}

static bool has_mark(const ProbeData *data, const Mark *mark)
{
    const uint8_t *at = mark->at_end ? data->tail : data->head;
    return memcmp(at + mark->offset, mark->bytes, mark->length) == 0;
}

const FormatDriver *format_probe(const ProbeData *data, const char *path, GError **error)
{
    for (size_t i = 0; i < G_N_ELEMENTS(drivers); i++) {
        if (drivers[i]->probe && drivers[i]->probe(data))
            return drivers[i];
    }
    for (size_t i = 0; i < G_N_ELEMENTS(marks); i++) {
        if (!has_mark(data, &marks[i]))
            continue;
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
                    "'%s' is a %s image, which this version cannot open yet; convert it with "
                    "'qemu-img convert -O raw %s NEW.raw', or say format=raw if its bytes "
                    "are the disk",
                    path, marks[i].name, path);
        return NULL;
    }
    return &raw_format;
}
