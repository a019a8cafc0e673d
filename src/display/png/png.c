/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Screenshots: the surface as a PNG file, by libpng's simplified interface. */
#include <errno.h>
#include <fcntl.h>
#include <png.h>
#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "display/surface.h"

/* Rows of R, G, B bytes without gaps. */
static uint8_t *rgb_bytes(const Surface *surface)
{
    uint8_t *bytes = g_malloc((size_t)surface->width * surface->height * 3), *to = bytes;
    for (unsigned y = 0; y < surface->height; y++) {
        const uint32_t *row = surface->pixels + (size_t)y * surface->stride;
        for (unsigned x = 0; x < surface->width; x++) {
            *to++ = row[x] >> 16;
            *to++ = row[x] >> 8;
            *to++ = row[x];
        }
    }
    return bytes;
}

static bool write_image(const Surface *surface, FILE *file, const char *path, GError **error)
{
    g_autofree uint8_t *bytes = rgb_bytes(surface);
    png_image image = {.version = PNG_IMAGE_VERSION,
                       .width = surface->width,
                       .height = surface->height,
                       .format = PNG_FORMAT_RGB};
    errno = 0;
    if (png_image_write_to_stdio(&image, file, 0, bytes, 0, NULL) && fflush(file) == 0)
        return true;
    int code = errno;
    g_set_error(error, G_IO_ERROR, code ? g_io_error_from_errno(code) : G_IO_ERROR_FAILED,
                "writing the screenshot %s: %s", path, code ? g_strerror(code) : image.message);
    png_image_free(&image);
    return false;
}

static bool fail(const char *what, const char *path, GError **error)
{
    int code = errno;
    g_set_error(error, G_IO_ERROR, g_io_error_from_errno(code), "%s the screenshot %s: %s", what,
                path, g_strerror(code));
    return false;
}

static bool write_renamed(const Surface *surface, const char *path, GError **error)
{
    g_autofree char *temporary = g_strdup_printf("%s.XXXXXX", path);
    int fd = g_mkstemp_full(temporary, O_WRONLY | O_CLOEXEC, 0666);
    if (fd < 0)
        return fail("creating", path, error);
    FILE *file = fdopen(fd, "wb");
    bool ok = write_image(surface, file, path, error);
    ok = (fclose(file) == 0 || (ok && fail("writing", path, error))) && ok;
    if (ok && rename(temporary, path) < 0)
        ok = fail("renaming", path, error);
    if (!ok)
        unlink(temporary);
    return ok;
}

bool display_write_png(Display *display, const char *path, GError **error)
{
    display_refresh(display);
    const Surface *surface = display_surface(display);
    if (surface)
        return write_renamed(surface, path, error);
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND,
                "screenshot %s: the machine has no picture to show", path);
    return false;
}
