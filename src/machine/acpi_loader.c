/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The table loader script. See acpi_loader.h. */
#include "machine/acpi_loader.h"

#include <string.h>

#include "base/bits.h"
#include "base/i18n.h"

#define LOADER_COMMAND_SIZE 128
#define LOADER_NAME_SIZE    56

enum { LOADER_ALLOCATE = 1, LOADER_ADD_POINTER = 2, LOADER_ADD_CHECKSUM = 3 };

/*
 *  0 command | 4 file[56] | allocate: 60 alignment, 64 zone
 *                         | checksum: 60 at, 64 start, 68 length
 *  0 command | 4 file[56] | 60 target[56] | 116 offset | 120 size     (pointer)
 */
static void loader_begin(uint8_t command[LOADER_COMMAND_SIZE], uint32_t kind, const char *file)
{
    memset(command, 0, LOADER_COMMAND_SIZE);
    store_le32(command, kind);
    g_strlcpy((char *)command + 4, file, LOADER_NAME_SIZE);
}

void acpi_loader_allocate(GByteArray *script, const char *file, uint32_t alignment, AcpiZone zone)
{
    uint8_t command[LOADER_COMMAND_SIZE];

    loader_begin(command, LOADER_ALLOCATE, file);
    store_le32(command + 60, alignment);
    command[64] = zone;
    g_byte_array_append(script, command, sizeof(command));
}

void acpi_loader_add_pointer(GByteArray *script, const char *file, const char *target,
                             uint32_t offset, uint8_t size)
{
    uint8_t command[LOADER_COMMAND_SIZE];

    loader_begin(command, LOADER_ADD_POINTER, file);
    g_strlcpy((char *)command + 60, target, LOADER_NAME_SIZE);
    store_le32(command + 116, offset);
    command[120] = size;
    g_byte_array_append(script, command, sizeof(command));
}

void acpi_loader_add_checksum(GByteArray *script, const char *file, uint32_t at, uint32_t start,
                              uint32_t length)
{
    uint8_t command[LOADER_COMMAND_SIZE];

    loader_begin(command, LOADER_ADD_CHECKSUM, file);
    store_le32(command + 60, at);
    store_le32(command + 64, start);
    store_le32(command + 68, length);
    g_byte_array_append(script, command, sizeof(command));
}

static AcpiLoaderFile *loader_find(AcpiLoaderFile *files, size_t count, const uint8_t *name)
{
    for (size_t i = 0; i < count; i++) {
        if (strncmp(files[i].name, (const char *)name, LOADER_NAME_SIZE) == 0)
            return &files[i];
    }
    return NULL;
}

static bool loader_pointer(AcpiLoaderFile *file, const AcpiLoaderFile *target,
                           const uint8_t *command)
{
    uint32_t offset = load_le32(command + 116);
    uint8_t size = command[120];
    uint8_t value[8] = {0};

    if (!target || size > sizeof(value) || !is_power_of_two(size) || offset > file->bytes->len ||
        size > file->bytes->len - offset)
        return false;
    memcpy(value, file->bytes->data + offset, size);
    store_le64(value, load_le64(value) + target->address);
    memcpy(file->bytes->data + offset, value, size);
    return true;
}

static bool loader_checksum(AcpiLoaderFile *file, const uint8_t *command)
{
    uint32_t at = load_le32(command + 60), start = load_le32(command + 64);
    uint32_t length = load_le32(command + 68);
    uint8_t sum = 0;

    if (at >= file->bytes->len || start > file->bytes->len || length > file->bytes->len - start)
        return false;
    file->bytes->data[at] = 0;
    for (uint32_t i = 0; i < length; i++)
        sum += file->bytes->data[start + i];
    file->bytes->data[at] = -sum;
    return true;
}

bool acpi_loader_run(const uint8_t *script, size_t size, AcpiLoaderFile *files, size_t file_count,
                     GError **error)
{
    for (size_t at = 0; at + LOADER_COMMAND_SIZE <= size; at += LOADER_COMMAND_SIZE) {
        const uint8_t *command = script + at;
        AcpiLoaderFile *file = loader_find(files, file_count, command + 4);
        bool ok = file != NULL;

        switch (load_le32(command)) {
        case LOADER_ALLOCATE:
            break;
        case LOADER_ADD_POINTER:
            ok = ok && loader_pointer(file, loader_find(files, file_count, command + 60), command);
            break;
        case LOADER_ADD_CHECKSUM:
            ok = ok && loader_checksum(file, command);
            break;
        default:
            ok = false;
        }
        if (!ok) {
            g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                        _("the ACPI table loader script is malformed at byte %zu"), at);
            return false;
        }
    }
    return true;
}
