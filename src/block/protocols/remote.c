/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Files on other machines; see remote.h. */
#include "block/protocols/remote.h"

#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "base/i18n.h"
#include "base/module.h"

#define BLOCK_MAX 65536u

struct RemoteFile {
    const RemoteApi *api;
    void *file;
    RemoteInfo info;
    GMutex cut;      /* one writes to a part of a block at a time */
    GMutex answered; /* for what the server has told last of … */
    uint64_t from, to;
    bool zero;
};

static const struct {
    const char *prefix, *module;
} protocols[] = {
    {"nbd://", "nbd"},       {"nbds://", "nbd"},  {"nbd+unix://", "nbd"},
    {"nbds+unix://", "nbd"}, {"http://", "http"}, {"https://", "http"},
};

static const char *find_module(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(protocols); i++) {
        if (g_str_has_prefix(name, protocols[i].prefix))
            return protocols[i].module;
    }
    return NULL;
}

bool remote_is_address(const char *name)
{
    return find_module(name) != NULL;
}

RemoteFile *remote_open(const char *address, bool read_only, uint64_t *ret_size, GError **error)
{
    RemoteInfo info = {0};
    const RemoteApi *api = module_load(find_module(address), error);
    void *opened = api ? api->open(address, read_only, &info, error) : NULL;
    if (!opened)
        return NULL;
    RemoteFile *file = g_new0(RemoteFile, 1);
    file->api = api;
    file->file = opened;
    file->info = info;
    g_mutex_init(&file->cut);
    g_mutex_init(&file->answered);
    *ret_size = info.size;
    const char *why = info.block > BLOCK_MAX || !is_power_of_two(info.block)
                          ? _("the server wants blocks of a size that is not supported")
                      : info.size > INT64_MAX          ? _("it is too large")
                      : (info.read_only && !read_only) ? _("the server lets nobody write to it")
                                                       : NULL;
    if (!why)
        return file;
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED, _("cannot open disk '%s': %s"),
                address, why);
    remote_close(file);
    return NULL;
}

void remote_close(RemoteFile *file)
{
    if (!file)
        return;
    file->api->close(file->file);
    g_mutex_clear(&file->cut);
    g_mutex_clear(&file->answered);
    g_free(file);
}

/* ---- blocks ---------------------------------------------------------------------------------- */

/* The whole blocks around some bytes; the last one of a file may be short. */
static uint64_t blocks_around(const RemoteFile *f, uint64_t offset, size_t size, uint64_t *ret_size)
{
    uint64_t begin = align_down(offset, f->info.block);
    *ret_size = MIN(align_up(offset + size, f->info.block), f->info.size) - begin;
    return begin;
}

int remote_read(RemoteFile *f, uint64_t offset, void *data, size_t size)
{
    uint64_t whole, begin = blocks_around(f, offset, size, &whole);
    if (whole == size)
        return f->api->read(f->file, offset, data, size);
    g_autofree uint8_t *blocks = g_malloc(whole);
    int result = f->api->read(f->file, begin, blocks, whole);
    memcpy(data, blocks + (offset - begin), result ? 0 : size);
    return result;
}

static int write_cut(RemoteFile *f, uint64_t offset, const void *data, size_t size)
{
    uint64_t whole, begin = blocks_around(f, offset, size, &whole);
    g_autofree uint8_t *blocks = g_malloc(whole);
    g_mutex_lock(&f->cut);
    int result = f->api->read(f->file, begin, blocks, whole);
    memcpy(blocks + (offset - begin), data, size);
    if (!result)
        result = f->api->write(f->file, begin, blocks, whole);
    g_mutex_unlock(&f->cut);
    return result;
}

static void forget_answer(RemoteFile *f)
{
    g_mutex_lock(&f->answered);
    f->from = f->to = 0;
    g_mutex_unlock(&f->answered);
}

int remote_write(RemoteFile *f, uint64_t offset, const void *data, size_t size)
{
    uint64_t whole;
    if (!f->api->write)
        return -EROFS;
    blocks_around(f, offset, size, &whole);
    forget_answer(f);
    return whole == size ? f->api->write(f->file, offset, data, size)
                         : write_cut(f, offset, data, size);
}

int remote_zero(RemoteFile *f, uint64_t offset, uint64_t size, bool keep)
{
    uint64_t whole;
    blocks_around(f, offset, size, &whole);
    if (!f->api->zero || whole != size)
        return -EOPNOTSUPP;
    forget_answer(f);
    return f->api->zero(f->file, offset, size, keep);
}

int remote_flush(RemoteFile *f)
{
    return f->api->flush ? f->api->flush(f->file) : 0;
}

/* ---- where data are -------------------------------------------------------------------------- */

/* Asks for all that is left: servers tell as much of it as they like. */
static int ask(RemoteFile *f, uint64_t offset)
{
    uint64_t length;
    bool zero;
    if (offset >= f->from && offset < f->to)
        return 0;
    uint64_t begin = align_down(offset, f->info.block);
    int result = f->api->status(f->file, begin, f->info.size - begin, &length, &zero);
    if (result || begin + length <= offset)
        return result ? result : -EIO;
    f->from = begin;
    f->to = begin + length;
    f->zero = zero;
    return 0;
}

uint64_t remote_next(RemoteFile *f, uint64_t offset, bool hole)
{
    if (!f->api->status || offset >= f->info.size)
        return hole ? MAX(offset, f->info.size) : offset < f->info.size ? offset : UINT64_MAX;
    g_mutex_lock(&f->answered);
    int result = 0;
    while (offset < f->info.size && !(result = ask(f, offset)) && f->zero != hole)
        offset = f->to;
    g_mutex_unlock(&f->answered);
    /* Who can't tell has data everywhere. */
    if (result)
        return hole ? f->info.size : offset;
    return offset < f->info.size || hole ? offset : UINT64_MAX;
}
