/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Finding firmware images. See firmware.h. */
#include "machine/firmware.h"

#include <string.h>

#include "base/bits.h"
#include "base/i18n.h"
#include "machine/input_file.h"

#define FIRMWARE_BIOS_MIN KIB(64)
#define FIRMWARE_BIOS_MAX MIB(16)

static const char *const firmware_folders[] = {"/usr/share/seabios", "/usr/share/qemu"};

char *firmware_find(const char *name, GError **error)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(firmware_folders); i++) {
        g_autofree char *path = g_build_filename(firmware_folders[i], name, NULL);
        if (g_file_test(path, G_FILE_TEST_EXISTS))
            return g_steal_pointer(&path);
    }
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND,
                _("cannot find the firmware %s in %s; install the package 'seabios'"), name,
                firmware_folders[0]);
    return NULL;
}

GBytes *firmware_read(const char *name, size_t max_size, GError **error)
{
    g_autofree char *path = firmware_find(name, error);

    return path ? input_file_read(path, "firmware", max_size, error) : NULL;
}

Ram *firmware_load_bios(const char *path, GError **error)
{
    g_autoptr(GBytes) image = path ? input_file_read(path, "firmware", FIRMWARE_BIOS_MAX, error)
                                   : firmware_read(FIRMWARE_BIOS_NAME, FIRMWARE_BIOS_MAX, error);
    gsize size;

    if (!image)
        return NULL;
    const void *data = g_bytes_get_data(image, &size);
    if (size < FIRMWARE_BIOS_MIN || !is_power_of_two(size)) {
        g_set_error(
            error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
            _("the firmware %s has %zu bytes, which is no BIOS size (a power of two from 64 KiB "
              "to 16 MiB); %s"),
            path ? path : FIRMWARE_BIOS_NAME, size,
            path ? _("give another file") : _("reinstall the package 'seabios'"));
        return NULL;
    }
    Ram *ram = ram_new("bios", size, error);
    if (ram)
        memcpy(ram->host, data, size);
    return ram;
}
