/* SPDX-License-Identifier: GPL-3.0-or-later */
/* An image's way to another file system: a durable copy that was compared with it; see media.h. */
#include <errno.h>
#include <fcntl.h>

#include "base/fd.h"
#include "base/i18n.h"
#include "block/locks.h"
#include "vm/file_copy.h"
#include "vm/leftovers.h"
#include "vm/media_internal.h"
#include "vm/text.h"

int media_lock_image(const char *path, GError **error)
{
    auto_fd fd = open(path, O_RDWR | O_CLOEXEC);
    g_autofree char *quoted = text_quote(path);

    if (fd < 0)
        vm_error(error, g_io_error_from_errno(errno), _("cannot open %s: %s"), quoted,
                 g_strerror(errno));
    return fd >= 0 && image_lock(fd, path, IMAGE_LOCK_WRITE, error) ? fd_steal(&fd) : -1;
}

MediaCopy *media_copy_new(const Media *media, const char *from, const char *to, GError **error)
{
    g_autoptr(MediaCopy) copy = g_new0(MediaCopy, 1);
    g_autofree char *folder = g_path_get_dirname(to), *quoted = text_quote(to);

    copy->from_fd = copy->fd = -1;
    copy->from = g_strdup(from);
    copy->to = g_strdup(to);
    copy->from_fd = media_lock_image(from, error);
    copy->temporary = copy->from_fd >= 0 ? leftover_name(folder) : NULL;
    copy->note = copy->temporary ? leftover_note(media->folder, &copy->temporary, 1, error) : NULL;
    if (!copy->note)
        return NULL;
    copy->fd = open(copy->temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (copy->fd >= 0)
        return g_steal_pointer(&copy);
    vm_error(error, g_io_error_from_errno(errno), _("cannot write %s: %s"), quoted,
             g_strerror(errno));
    return NULL;
}

void media_copy_free(MediaCopy *copy)
{
    if (!copy)
        return;
    if (copy->note && !copy->taken)
        leftover_clear(copy->note);
    fd_clear(&copy->fd);
    fd_clear(&copy->from_fd);
    g_free(copy->from);
    g_free(copy->to);
    g_free(copy->temporary);
    g_free(copy->note);
    g_free(copy);
}

bool media_copy_run(MediaCopy *copy, GError **error)
{
    const FileCopy file = {copy->from_fd, copy->fd, copy->from, copy->to, NULL};

    copy->done = file_copy_run(&file, error);
    return copy->done;
}
