/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A folder of files for libfuse's low-level interface; see fuse.h. Inode 1 is the folder, file `n`
 * has the inode n + 2.
 *
 * A writable folder's files bypass the page cache, because two of them may show the same bytes.
 */
#define FUSE_USE_VERSION 34
#include "fuse/fuse.h"

#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <linux/falloc.h>
#include <string.h>
#include <unistd.h>

#include "base/i18n.h"
#include "base/module.h"

#define FIRST_INODE 2
#define READ_MAX    (1u << 20)
/* Nothing but we change what is here. */
#define TIMEOUT_S 3600.0

struct FuseMount {
    const FuseSpec *spec;
    struct fuse_session *session;
    struct fuse_buf buffer;
};

/* open(2) with O_TRUNC leaves the size alone, as it does with a device. */
static void on_init(void *obj, struct fuse_conn_info *connection)
{
    connection->want |= connection->capable & FUSE_CAP_ATOMIC_O_TRUNC;
}

/* ---- attributes ------------------------------------------------------------------------------ */

static const FuseSpec *spec_of(fuse_req_t req)
{
    return fuse_req_userdata(req);
}

static const FuseFile *find_file(const FuseSpec *spec, fuse_ino_t inode)
{
    return inode >= FIRST_INODE && inode - FIRST_INODE < spec->count
               ? &spec->files[inode - FIRST_INODE]
               : NULL;
}

static bool fill_stat(const FuseSpec *spec, fuse_ino_t inode, struct stat *st)
{
    static const mode_t kinds[] = {
        [FUSE_FILE] = S_IFREG | 0400, [FUSE_LINK] = S_IFLNK | 0777, [FUSE_FOLDER] = S_IFDIR | 0500};
    const FuseFile *file = find_file(spec, inode);
    if (!file && inode != FUSE_ROOT_ID)
        return false;
    *st = (struct stat){.st_ino = inode,
                        .st_mode = file ? kinds[file->kind] : kinds[FUSE_FOLDER],
                        .st_nlink = 1,
                        .st_uid = getuid(),
                        .st_gid = getgid(),
                        .st_blksize = 65536};
    if (file && file->kind == FUSE_FILE) {
        st->st_size = (off_t)file->size;
        st->st_blocks = (blkcnt_t)((file->size + 511) / 512);
        st->st_mode |= spec->writable ? 0200 : 0;
    } else if (file && file->kind == FUSE_LINK) {
        st->st_size = (off_t)strlen(file->target);
    }
    return true;
}

static void on_getattr(fuse_req_t req, fuse_ino_t inode, struct fuse_file_info *info)
{
    struct stat st;
    if (fill_stat(spec_of(req), inode, &st))
        fuse_reply_attr(req, &st, TIMEOUT_S);
    else
        fuse_reply_err(req, ENOENT);
}

/* As with a device: the size is what it is. */
static void on_setattr(fuse_req_t req, fuse_ino_t inode, struct stat *wanted, int what,
                       struct fuse_file_info *info)
{
    const int harmless = FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_CTIME |
                         FUSE_SET_ATTR_ATIME_NOW | FUSE_SET_ATTR_MTIME_NOW | FUSE_SET_ATTR_SIZE;
    const FuseFile *file = find_file(spec_of(req), inode);
    if (what & ~harmless)
        fuse_reply_err(req, EPERM);
    else if ((what & FUSE_SET_ATTR_SIZE) && (!file || (uint64_t)wanted->st_size != file->size))
        fuse_reply_err(req, EINVAL);
    else
        on_getattr(req, inode, info);
}

static void on_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    const FuseSpec *spec = spec_of(req);
    for (unsigned i = 0; parent == FUSE_ROOT_ID && i < spec->count; i++) {
        if (strcmp(spec->files[i].name, name))
            continue;
        struct fuse_entry_param entry = {
            .ino = FIRST_INODE + i, .attr_timeout = TIMEOUT_S, .entry_timeout = TIMEOUT_S};
        fill_stat(spec, entry.ino, &entry.attr);
        fuse_reply_entry(req, &entry);
        return;
    }
    fuse_reply_err(req, ENOENT);
}

static void on_readlink(fuse_req_t req, fuse_ino_t inode)
{
    const FuseFile *file = find_file(spec_of(req), inode);
    if (file && file->kind == FUSE_LINK)
        fuse_reply_readlink(req, file->target);
    else
        fuse_reply_err(req, EINVAL);
}

static void on_readdir(fuse_req_t req, fuse_ino_t inode, size_t size, off_t offset,
                       struct fuse_file_info *info)
{
    const FuseSpec *spec = spec_of(req);
    unsigned count = 2 + (inode == FUSE_ROOT_ID ? spec->count : 0);
    g_autofree char *buffer = g_malloc(size);
    size_t used = 0;
    for (unsigned i = (unsigned)offset; i < count; i++) {
        struct stat st;
        const char *name = i == 0 ? "." : i == 1 ? ".." : spec->files[i - 2].name;
        fill_stat(spec, i < 2 ? inode : i - 2 + FIRST_INODE, &st);
        size_t needed = fuse_add_direntry(req, buffer + used, size - used, name, &st, i + 1);
        if (needed > size - used)
            break;
        used += needed;
    }
    fuse_reply_buf(req, buffer, used);
}

static void on_getxattr(fuse_req_t req, fuse_ino_t inode, const char *name, size_t size)
{
    char text[16];
    size_t length = (size_t)g_snprintf(text, sizeof(text), "%d", (int)getpid());
    if (inode != FUSE_ROOT_ID || strcmp(name, FUSE_PID_ATTRIBUTE))
        fuse_reply_err(req, ENODATA);
    else if (!size)
        fuse_reply_xattr(req, length);
    else if (size < length)
        fuse_reply_err(req, ERANGE);
    else
        fuse_reply_buf(req, text, length);
}

/* ---- data ------------------------------------------------------------------------------------ */

static void on_open(fuse_req_t req, fuse_ino_t inode, struct fuse_file_info *info)
{
    const FuseSpec *spec = spec_of(req);
    if (!spec->writable && (info->flags & O_ACCMODE) != O_RDONLY) {
        fuse_reply_err(req, EROFS);
        return;
    }
    info->direct_io = spec->writable;
    info->keep_cache = !spec->writable;
    fuse_reply_open(req, info);
}

/* How many of `size` bytes at `offset` the file has. */
static uint64_t clip(const FuseFile *file, off_t offset, uint64_t size)
{
    return (uint64_t)offset < file->size ? MIN(size, file->size - (uint64_t)offset) : 0;
}

static void on_read(fuse_req_t req, fuse_ino_t inode, size_t size, off_t offset,
                    struct fuse_file_info *info)
{
    const FuseSpec *spec = spec_of(req);
    uint64_t part = clip(find_file(spec, inode), offset, MIN(size, READ_MAX));
    g_autofree void *data = g_malloc(MAX(part, 1));
    int result =
        part ? spec->read(spec->obj, (unsigned)(inode - FIRST_INODE), (uint64_t)offset, data, part)
             : 0;
    if (result)
        fuse_reply_err(req, -result);
    else
        fuse_reply_buf(req, data, part);
}

static void on_write(fuse_req_t req, fuse_ino_t inode, const char *data, size_t size, off_t offset,
                     struct fuse_file_info *info)
{
    const FuseSpec *spec = spec_of(req);
    uint64_t part = clip(find_file(spec, inode), offset, size);
    int result =
        part ? spec->write(spec->obj, (unsigned)(inode - FIRST_INODE), (uint64_t)offset, data, part)
             : -ENOSPC;
    if (!result && (info->flags & (O_SYNC | O_DSYNC)))
        result = spec->flush(spec->obj);
    if (result)
        fuse_reply_err(req, -result);
    else
        fuse_reply_write(req, part);
}

static void on_fallocate(fuse_req_t req, fuse_ino_t inode, int mode, off_t offset, off_t length,
                         struct fuse_file_info *info)
{
    const FuseSpec *spec = spec_of(req);
    bool zeroes = (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) &&
                  !(mode & ~(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE));
    uint64_t part = clip(find_file(spec, inode), offset, (uint64_t)length);
    if (!zeroes)
        fuse_reply_err(req, EOPNOTSUPP);
    else
        fuse_reply_err(req, part ? -spec->zero(spec->obj, (unsigned)(inode - FIRST_INODE),
                                               (uint64_t)offset, part)
                                 : 0);
}

static void on_fsync(fuse_req_t req, fuse_ino_t inode, int only_data, struct fuse_file_info *info)
{
    const FuseSpec *spec = spec_of(req);
    fuse_reply_err(req, -spec->flush(spec->obj));
}

static void on_lseek(fuse_req_t req, fuse_ino_t inode, off_t offset, int whence,
                     struct fuse_file_info *info)
{
    const FuseSpec *spec = spec_of(req);
    const FuseFile *file = find_file(spec, inode);
    uint64_t found = 0;
    int result = offset < 0 || (uint64_t)offset >= file->size ? -ENXIO
                 : whence != SEEK_DATA && whence != SEEK_HOLE
                     ? -EINVAL
                     : spec->seek(spec->obj, (unsigned)(inode - FIRST_INODE), (uint64_t)offset,
                                  whence == SEEK_HOLE, &found);
    if (result)
        fuse_reply_err(req, -result);
    else
        fuse_reply_lseek(req, (off_t)found);
}

/* ---- the session ----------------------------------------------------------------------------- */

static const struct fuse_lowlevel_ops operations = {
    .init = on_init,
    .lookup = on_lookup,
    .getattr = on_getattr,
    .setattr = on_setattr,
    .readlink = on_readlink,
    .readdir = on_readdir,
    .getxattr = on_getxattr,
    .open = on_open,
    .read = on_read,
    .write = on_write,
    .fallocate = on_fallocate,
    .fsync = on_fsync,
    .fsyncdir = on_fsync,
    .lseek = on_lseek,
};

static struct fuse_session *new_session(const FuseSpec *spec)
{
    struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
    char *options = NULL;
    g_autofree char *source = g_strconcat("fsname=", spec->source, NULL);
    fuse_opt_add_opt_escaped(&options, source);
    fuse_opt_add_opt(&options, "subtype=ospite,default_permissions,nosuid,nodev");
    fuse_opt_add_opt(&options, spec->writable ? "rw" : "ro");
    fuse_opt_add_arg(&args, "ospite");
    fuse_opt_add_arg(&args, "-o");
    fuse_opt_add_arg(&args, options);
    struct fuse_session *session =
        fuse_session_new(&args, &operations, sizeof(operations), (void *)spec);
    fuse_opt_free_args(&args);
    free(options);
    return session;
}

static FuseMount *fuse_mount_folder(const FuseSpec *spec, GError **error)
{
    struct fuse_session *session = new_session(spec);
    if (!session || fuse_session_mount(session, spec->folder)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_FAILED,
                    _("cannot mount at '%s': the host does not allow it; it takes /dev/fuse, and "
                      "fusermount3 for users other than root"),
                    spec->folder);
        if (session)
            fuse_session_destroy(session);
        return NULL;
    }
    FuseMount *mount = g_new0(FuseMount, 1);
    mount->spec = spec;
    mount->session = session;
    int fd = fuse_session_fd(session);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    return mount;
}

static int get_fd(FuseMount *mount)
{
    return fuse_session_fd(mount->session);
}

static bool serve(FuseMount *mount)
{
    int result = fuse_session_receive_buf(mount->session, &mount->buffer);
    if (result > 0)
        fuse_session_process_buf(mount->session, &mount->buffer);
    return (result > 0 || result == -EAGAIN || result == -EINTR) &&
           !fuse_session_exited(mount->session);
}

static void unmount(FuseMount *mount)
{
    fuse_session_unmount(mount->session);
    fuse_session_destroy(mount->session);
    free(mount->buffer.mem);
    g_free(mount);
}

static void forget(FuseMount *mount)
{
    close(fuse_session_fd(mount->session));
}

static const FuseApi api = {fuse_mount_folder, get_fd, serve, unmount, forget};
OSPITE_MODULE(&api);
