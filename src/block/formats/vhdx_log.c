/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * VHDX: the log, a ring of 4 KiB sectors, that another program left behind.
 *
 *   entry: | head 64 | descriptor 32 | … | data sector 4096 | … |
 *
 * The entries that count are those of the unbroken run of sequence numbers that ends highest, from
 * the entry on that its last one names as the tail.
 */
#include <errno.h>

#include "base/i18n.h"
#include "block/crc32c.h"
#include "block/formats/vhdx.h"

#define SECTOR 4096

/* Offsets in the head of an entry */
enum {
    L_SUM = 4,
    L_SIZE = 8,
    L_TAIL = 12,
    L_SEQUENCE = 16,
    L_COUNT = 24,
    L_GUID = 32,
    L_FLUSHED = 48,
    L_LAST = 56,
    L_HEAD_SIZE = 64,
};
/* … and in a descriptor: "zero" or "desc" */
enum { D_TRAILING = 4, D_LEADING = 8, D_LENGTH = 8, D_OFFSET = 16, D_SEQUENCE = 24, D_SIZE = 32 };

typedef struct Log {
    Vhdx *v;
    uint8_t *ring, *entry;
    uint32_t size;
    uint64_t budget; /* bytes of entries that may still be summed: overlapping ones are a trap */
} Log;

static const uint8_t *ring_at(const Log *log, uint32_t offset)
{
    return log->ring + offset % log->size;
}

/* Unrolls the entry at `at` into log->entry; its size, 0: there is none. */
static uint32_t load_entry(Log *log, uint32_t at)
{
    const uint8_t *head = ring_at(log, at);
    uint32_t size = load_le32(head + L_SIZE);
    if (memcmp(head, "loge", 4) || memcmp(head + L_GUID, log->v->header + VHDX_H_LOG_GUID, 16) ||
        !load_le64(head + L_SEQUENCE) || size < SECTOR || size > log->size || size % SECTOR ||
        size > log->budget || load_le32(head + L_COUNT) > (size - L_HEAD_SIZE) / D_SIZE ||
        load_le32(head + L_TAIL) >= log->size || load_le32(head + L_TAIL) % SECTOR)
        return 0;
    uint32_t first = MIN(size, log->size - at % log->size);
    log->budget -= size;
    memcpy(log->entry, head, first);
    memcpy(log->entry + first, log->ring, size - first);
    return load_le32(log->entry + L_SUM) == crc32c_around(log->entry, size, L_SUM) ? size : 0;
}

/* Walks the descriptors of log->entry; with `apply` the file or the patches get what they say. */
static int walk_entry(Log *log, uint32_t size, int (*apply)(Vhdx *v, VhdxPatch *patch))
{
    const uint8_t *e = log->entry;
    uint32_t count = load_le32(e + L_COUNT);
    uint32_t data = (uint32_t)align_up(L_HEAD_SIZE + (uint64_t)count * D_SIZE, SECTOR);
    int result = 0;
    for (uint32_t i = 0; i < count && !result; i++) {
        const uint8_t *d = e + L_HEAD_SIZE + i * D_SIZE;
        VhdxPatch p = {.offset = load_le64(d + D_OFFSET), .size = SECTOR};
        g_autofree uint8_t *sector = NULL;
        bool is_zero = memcmp(d, "zero", 4) == 0;
        p.size = is_zero ? load_le64(d + D_LENGTH) : SECTOR;
        if (load_le64(d + D_SEQUENCE) != load_le64(e + L_SEQUENCE) || p.offset % SECTOR ||
            p.size % SECTOR || p.offset > FORMAT_SIZE_MAX || p.size > FORMAT_SIZE_MAX)
            return -EINVAL;
        if (!is_zero) {
            const uint8_t *s = e + data;
            uint64_t sequence = load_le64(e + L_SEQUENCE);
            if (memcmp(d, "desc", 4) || data + SECTOR > size || memcmp(s, "data", 4) ||
                load_le32(s + 4) != sequence >> 32 ||
                load_le32(s + SECTOR - 4) != (uint32_t)sequence)
                return -EINVAL;
            p.data = sector = g_memdup2(s, SECTOR);
            memcpy(sector, d + D_LEADING, 8);
            memcpy(sector + SECTOR - 4, d + D_TRAILING, 4);
            data += SECTOR;
        }
        result = apply ? apply(log->v, &p) : 0;
    }
    return result;
}

typedef struct Run {
    uint32_t tail, end;
    uint64_t sequence; /* of the last entry; 0: there is none */
} Run;

/* The run of entries that begins at `at`; *ret_next is where to look for others. */
static Run follow_run(Log *log, uint32_t at, uint32_t *ret_next)
{
    Run run = {.tail = at, .end = at};
    uint32_t tail = at, size;
    bool has_tail = false;
    g_autoptr(GHashTable) starts = g_hash_table_new(NULL, NULL);
    while ((size = load_entry(log, run.end))) {
        uint64_t sequence = load_le64(log->entry + L_SEQUENCE);
        if ((run.sequence && sequence != run.sequence + 1) || walk_entry(log, size, NULL) ||
            run.end + size - at > log->size)
            break;
        g_hash_table_add(starts, GUINT_TO_POINTER(run.end % log->size));
        tail = load_le32(log->entry + L_TAIL);
        has_tail = g_hash_table_contains(starts, GUINT_TO_POINTER(tail));
        run.sequence = sequence;
        run.end += size;
    }
    *ret_next = MAX(run.end, at + SECTOR);
    if (!has_tail)
        run.sequence = 0;
    /* Where the ring is entered the second time, offsets go on counting. */
    run.tail = tail >= at ? tail : tail + log->size;
    return run;
}

static Run find_run(Log *log)
{
    Run best = {0};
    for (uint32_t at = 0, next; at < log->size; at = next) {
        Run run = follow_run(log, at, &next);
        if (run.sequence > best.sequence)
            best = run;
    }
    return best;
}

/* ---- replaying ------------------------------------------------------------------------------- */

static int write_patch(Vhdx *v, VhdxPatch *p)
{
    return p->data ? host_file_write(v->map.file, p->offset, p->data, p->size)
                   : host_file_zero(v->map.file, p->offset, p->size);
}

static int keep_patch(Vhdx *v, VhdxPatch *p)
{
    VhdxPatch kept = {p->offset, p->size, p->data ? g_memdup2(p->data, p->size) : NULL};
    g_array_append_val(v->patches, kept);
    return 0;
}

static int replay_run(Log *log, const Run *run, bool in_memory)
{
    HostFile *file = log->v->map.file;
    int result = 0;
    for (uint32_t at = run->tail; at < run->end && !result;) {
        log->budget = log->size;
        uint32_t size = load_entry(log, at);
        if (!size)
            return -EINVAL;
        uint64_t flushed = load_le64(log->entry + L_FLUSHED);
        uint64_t last = load_le64(log->entry + L_LAST);
        if (flushed > file->size || last > FORMAT_SIZE_MAX)
            return -ENODATA;
        if (!in_memory && last > file->size)
            result = host_file_truncate(file, last);
        if (!result)
            result = walk_entry(log, size, in_memory ? keep_patch : write_patch);
        at += size;
    }
    return result ? result : in_memory ? 0 : host_file_sync(file);
}

static int replay(Log *log, bool in_memory)
{
    Vhdx *v = log->v;
    int result =
        host_file_read(v->map.file, load_le64(v->header + VHDX_H_LOG), log->ring, log->size);
    if (result)
        return result;
    Run run = find_run(log);
    if (run.sequence)
        result = replay_run(log, &run, in_memory);
    if (result || in_memory)
        return result;
    memset(v->header + VHDX_H_LOG_GUID, 0, 16);
    return vhdx_write_header(v);
}

bool vhdx_replay(Vhdx *v, bool in_memory, GError **error)
{
    const char *path = v->map.file->path;
    Log log = {.v = v, .size = load_le32(v->header + VHDX_H_LOG_SIZE)};
    if (uuid_is_null(uuid_load(v->header + VHDX_H_LOG_GUID)))
        return true;
    const FormatLimit limits[] = {
        {"log version", load_le16(v->header + VHDX_H_LOG_VERSION), 0, 0},
        {"log size", log.size, MIB(1), VHDX_MAX_LOG, MIB(1)},
        {"log", load_le64(v->header + VHDX_H_LOG), MIB(1), FORMAT_SIZE_MAX, MIB(1)},
    };
    if (!format_check_limits(path, limits, G_N_ELEMENTS(limits), error))
        return false;
    log.budget = 4 * (uint64_t)log.size;
    log.ring = g_malloc(log.size);
    log.entry = g_malloc(log.size);
    int result = replay(&log, in_memory);
    g_free(log.ring);
    g_free(log.entry);
    if (result == -EINVAL || result == -ENODATA)
        return format_fail(error, path, "its log %s; take a backup",
                           result == -EINVAL ? _("is damaged")
                                             : _("tells of more than the file holds"));
    return result ? format_fail_io(error, path, "replay the log of", result) : true;
}
