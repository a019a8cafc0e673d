/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Copying of disks; see copy.h.
 *
 * Each thread takes the next part of the disk that is not known to be zeros, reads it, and gives it
 * its place in the target. The maps of both images are asked under the lock; bytes are moved,
 * looked at and packed without it.
 *
 *     plan (lock) → read, unpack → look for zeros, pack → wait for the turn → place (lock) → write
 *
 * A place is in the target's map before its bytes are written: two threads may fill one unit, but
 * packed units are whole in a part, which never crosses a multiple of `part_size`.
 */
#include "block/jobs/copy.h"

#include <errno.h>
#include <string.h>

#include "base/bits.h"

/* Larger writes make Linux look for pages in rows that long, which can take longer than copying. */
#define PART_SIZE     (512u << 10)
#define MEMORY_BUDGET (36u << 20)
#define SALVAGE_STEP  4096
/* Threads: Linux lets one at a time write to a file, while others read ahead of it … */
#define THREADS_MOVING 3
/* … and what packs or waits for a server wants company. */
#define THREADS_WORKING 8

/* Bytes of a part whose place in the source is known. */
typedef struct Piece {
    uint64_t offset, length;
    Image *owner;
    Extent extent;
} Piece;

/* Bytes of a part that are not zeros, or, with `zero`, that are. */
typedef struct Run {
    uint64_t offset, length;
    bool zero;
} Run;

typedef struct Copying {
    const ImageCopy *copy;
    Image *from, *to;
    uint64_t size, part_size;
    bool packed, reads_zero;
    bool places;       /* runs get a place under the lock and are written without it */
    bool clones;       /* the host may share blocks */
    bool locked_reads; /* the source is encrypted, and its cipher serves one thread */
    uint32_t zero_grain;

    GMutex lock; /* guards all below, and both maps */
    GCond turn_came;
    uint64_t at;           /* planned up to here */
    uint64_t next, placed; /* numbers of parts: to be planned, to be placed */
    int error;
    const Image *failed; /* where it happened */
    int64_t begin_us;
} Copying;

/* One thread and the part that it has. */
typedef struct Worker {
    Copying *c;
    uint64_t number, start, end;
    GArray *pieces;  /* Piece: where the bytes are */
    GArray *runs;    /* Run */
    GArray *places;  /* Piece: where runs go */
    uint8_t *data;   /* the part's bytes */
    uint8_t *source; /* room for packed units of the source */
    uint8_t *stored; /* packed units for the target, 2 * unit_size each */
    size_t *stored_size;
} Worker;

bool image_bytes_are_zero(const void *bytes, size_t size)
{
    const uint8_t *data = bytes;
    return !size || (!data[0] && !memcmp(data, data + 1, size - 1));
}

/* ---- planning -------------------------------------------------------------------------------- */

/* The first error ends the copy. With the lock. */
static void note_error(Copying *c, const Image *where, int result)
{
    if (!result || c->error)
        return;
    c->error = result;
    c->failed = where;
}

/* Holes of the host's file are zeros. */
static void look_for_hole(ImageStatus *s)
{
    uint64_t at = s->host_offset;
    uint64_t next = s->file ? host_file_next_data(s->file, at) : at;
    if (next > at) {
        s->zero = true;
        s->length = MIN(s->length, next - at);
    } else if (s->file) {
        uint64_t end = align_up(MAX(host_file_next_hole(s->file, at), at + 1), 512);
        s->length = MIN(s->length, end - at);
    }
}

/* What is at `at`; `ret_skip`: nothing of it goes to the target. */
static int ask(Copying *c, uint64_t at, uint64_t limit, ImageStatus *s, bool *ret_skip)
{
    int result = image_status(c->from, at, limit, false, s);
    if (result && c->copy->salvage) {
        *s = (ImageStatus){.zero = true, .length = MIN(limit, SALVAGE_STEP)};
        if (c->copy->lost)
            c->copy->lost(c->copy->obj, at, s->length, result);
        result = 0;
    }
    if (result)
        return result;
    look_for_hole(s);
    bool is_parents = c->copy->skip_parents && s->depth > 0;
    *ret_skip = is_parents || (s->zero && c->reads_zero && !c->copy->dense);
    return 0;
}

/* Passes what need not be copied; zeros that must be written are. Notes its errors. */
static int skip(Copying *c)
{
    while (c->at < c->size) {
        ImageStatus s;
        bool is_skipped;
        int result = ask(c, c->at, c->size - c->at, &s, &is_skipped);
        note_error(c, c->from, result);
        if (result)
            return result;
        if (!is_skipped && (!s.zero || c->copy->dense))
            break;
        uint64_t length = s.length, unit = c->to->map->unit_size;
        /* Packed units are whole: the rest of one goes with its data. */
        if (c->packed && c->at + length < c->size)
            length = align_down(c->at + length, unit) - c->at;
        if (c->packed && !length)
            break;
        if (!is_skipped)
            result = image_write_zeros(c->to, c->at, length);
        note_error(c, c->to, result);
        if (result)
            return result;
        c->at += length;
    }
    return 0;
}

static void add_piece(Worker *w, uint64_t at, const ImageStatus *s)
{
    Piece *last = w->pieces->len ? &g_array_index(w->pieces, Piece, w->pieces->len - 1) : NULL;
    if (last && last->offset + last->length == at && s->extent.kind == EXTENT_DATA &&
        last->extent.kind == EXTENT_DATA && last->extent.file == s->extent.file &&
        last->extent.host_offset + last->length == s->extent.host_offset) {
        last->length += s->length;
        return;
    }
    g_array_append_val(w->pieces, ((Piece){at, s->length, s->owner, s->extent}));
}

/* Takes the next part; false when there is none. With the lock. */
static bool plan(Worker *w)
{
    Copying *c = w->c;
    int result = c->error ? c->error : skip(c);
    g_array_set_size(w->pieces, 0);
    w->start = w->end = c->at;
    uint64_t end = MIN(c->size, align_down(c->at, c->part_size) + c->part_size);
    while (!result && w->end < end) {
        ImageStatus s;
        bool is_skipped;
        result = ask(c, w->end, end - w->end, &s, &is_skipped);
        /* A packed unit is whole, whoever has its bytes. */
        if (!result && !s.zero && (!is_skipped || c->packed))
            add_piece(w, w->end, &s);
        else if (!result && is_skipped && !s.zero)
            break;
        w->end += result ? 0 : s.length;
    }
    note_error(c, c->from, result);
    c->at = w->end;
    w->number = c->next++;
    return !result && w->end > w->start;
}

/* ---- reading --------------------------------------------------------------------------------- */

/* Reads what can be read of a piece that failed as a whole. */
static void salvage(Worker *w, const Piece *p, uint8_t *to)
{
    const ImageCopy *copy = w->c->copy;
    for (uint64_t done = 0; done < p->length; done += SALVAGE_STEP) {
        uint64_t part = MIN(SALVAGE_STEP, p->length - done);
        Extent extent = p->extent;
        extent.host_offset += extent.kind == EXTENT_DATA ? done : 0;
        int result =
            image_read_extent(p->owner, p->offset + done, part, &extent, w->source, to + done);
        if (!result)
            continue;
        memset(to + done, 0, part);
        if (!w->c->locked_reads)
            g_mutex_lock(&w->c->lock);
        if (copy->lost)
            copy->lost(copy->obj, p->offset + done, part, result);
        if (!w->c->locked_reads)
            g_mutex_unlock(&w->c->lock);
    }
}

/* `ret_where`: the image of the chain that can't be read. */
static int read_part(Worker *w, const Image **ret_where)
{
    uint64_t at = w->start;
    for (guint i = 0; i < w->pieces->len; i++) {
        const Piece *p = &g_array_index(w->pieces, Piece, i);
        uint8_t *to = w->data + (p->offset - w->start);
        memset(w->data + (at - w->start), 0, p->offset - at);
        int result = image_read_extent(p->owner, p->offset, p->length, &p->extent, w->source, to);
        if (result && !w->c->copy->salvage) {
            *ret_where = p->owner;
            return result;
        }
        if (result)
            salvage(w, p, to);
        at = p->offset + p->length;
    }
    memset(w->data + (at - w->start), 0, w->end - at);
    return 0;
}

/* Zeros begin and end at multiples of the grain. */
static void find_runs(Worker *w)
{
    uint64_t grain = w->c->zero_grain;
    g_array_set_size(w->runs, 0);
    for (uint64_t at = w->start; at < w->end;) {
        uint64_t part = MIN(w->end, align_down(at, grain) + grain) - at;
        bool zero = !w->c->copy->dense && image_bytes_are_zero(w->data + (at - w->start), part);
        Run *last = w->runs->len ? &g_array_index(w->runs, Run, w->runs->len - 1) : NULL;
        if (last && last->zero == zero)
            last->length += part;
        else
            g_array_append_val(w->runs, ((Run){at, part, zero}));
        at += part;
    }
}

static void pack_units(Worker *w)
{
    const Image *to = w->c->to;
    uint64_t unit = to->map->unit_size;
    g_assert(w->stored_size);
    /* The last unit reaches beyond the end of the disk. */
    memset(w->data + (w->end - w->start), 0,
           align_up(w->end - w->start, unit) - (w->end - w->start));
    for (uint64_t i = 0; i * unit < w->end - w->start; i++) {
        const uint8_t *data = w->data + i * unit;
        w->stored_size[i] = image_bytes_are_zero(data, unit)
                                ? 0
                                : to->driver->compress(to->map, data, w->stored + 2 * unit * i);
    }
}

/* ---- writing --------------------------------------------------------------------------------- */

static int write_units(Worker *w)
{
    Copying *c = w->c;
    uint64_t unit = c->to->map->unit_size;
    int result = 0;
    g_assert(w->stored_size);
    for (uint64_t i = 0; i * unit < w->end - w->start && !result; i++) {
        uint64_t offset = w->start + i * unit, left = MIN(unit, w->end - offset);
        const uint8_t *data = w->data + i * unit;
        if (w->stored_size[i])
            result = image_write_compressed(c->to, offset, w->stored + 2 * unit * i,
                                            (uint32_t)w->stored_size[i]);
        else if (!image_bytes_are_zero(data, left))
            result = image_write(c->to, offset, data, left);
        else if (!c->reads_zero)
            result = image_write_zeros(c->to, offset, left);
    }
    return result;
}

/* Through the engine, with copy-on-write and all. */
static int write_runs(Worker *w)
{
    int result = 0;
    for (guint i = 0; i < w->runs->len && !result; i++) {
        const Run *r = &g_array_index(w->runs, Run, i);
        if (!r->zero)
            result = image_write(w->c->to, r->offset, w->data + (r->offset - w->start), r->length);
        else if (!w->c->reads_zero)
            result = image_write_zeros(w->c->to, r->offset, r->length);
    }
    return result;
}

/* Gives runs places that write_places() fills. */
static int place_runs(Worker *w)
{
    g_array_set_size(w->places, 0);
    for (guint i = 0; i < w->runs->len; i++) {
        const Run *r = &g_array_index(w->runs, Run, i);
        for (uint64_t done = 0; done < r->length && !r->zero;) {
            Piece p = {.offset = r->offset + done};
            int result = image_place(w->c->to, p.offset, r->length - done, &p.extent);
            if (result)
                return result;
            p.length = MIN(p.extent.length, r->length - done);
            g_array_append_val(w->places, p);
            done += p.length;
        }
    }
    return 0;
}

/* In the order of the disk, so that the host puts them side by side. */
static void reserve_places(Worker *w)
{
    for (guint i = 0; i < w->places->len; i++) {
        const Piece *p = &g_array_index(w->places, Piece, i);
        host_file_reserve(p->extent.file, p->extent.host_offset, p->length);
    }
}

static int write_places(Worker *w)
{
    int result = 0;
    for (guint i = 0; i < w->places->len && !result; i++) {
        const Piece *p = &g_array_index(w->places, Piece, i);
        result = image_write_extent(w->c->to, p->offset, p->length, &p->extent,
                                    w->data + (p->offset - w->start));
    }
    return result;
}

/* ---- inside the host ------------------------------------------------------------------------- */

/* Places pieces and lets the host share or copy them; -EOPNOTSUPP: not all of them. */
static int offload_piece(Copying *c, const Piece *p)
{
    int result = p->extent.kind == EXTENT_DATA ? 0 : -EOPNOTSUPP;
    for (uint64_t done = 0; done < p->length && !result;) {
        uint64_t from = p->extent.host_offset + done, part = p->length - done;
        Extent to;
        result = image_place(c->to, p->offset + done, part, &to);
        if (result)
            break;
        part = MIN(to.length, part);
        result = -EOPNOTSUPP;
        if (c->clones)
            result = host_file_clone(p->extent.file, from, to.file, to.host_offset, part);
        if (result == -EOPNOTSUPP && c->copy->offload)
            result = host_file_copy(p->extent.file, from, to.file, to.host_offset, part);
        done += part;
    }
    return result;
}

/* With the lock: the host is quick where it can share blocks. */
static int offload_part(Worker *w)
{
    Copying *c = w->c;
    bool wanted = c->clones || (c->copy->offload && !c->locked_reads);
    int result = wanted ? 0 : -EOPNOTSUPP;
    for (guint i = 0; i < w->pieces->len && !result; i++)
        result = offload_piece(c, &g_array_index(w->pieces, Piece, i));
    return result;
}

/* ---- threads --------------------------------------------------------------------------------- */

static void wait_for_turn(Worker *w)
{
    Copying *c = w->c;
    while (!c->copy->any_order && c->placed != w->number && !c->error)
        g_cond_wait(&c->turn_came, &c->lock);
}

/* Slows down to the wanted rate. Without the lock. */
static void throttle(const Copying *c, uint64_t done)
{
    uint64_t rate = c->copy->bytes_a_second;
    int64_t due = rate ? c->begin_us + (int64_t)((double)done / (double)rate * 1e6) : 0;
    int64_t now = g_get_monotonic_time();
    if (due > now)
        g_usleep((gulong)(due - now));
}

/* From planned to written; the lock is held before and after. */
static void do_part(Worker *w)
{
    Copying *c = w->c;
    const Image *where = c->to;
    bool offloaded = false;
    int result = 0;
    if (c->places && !c->packed) {
        result = offload_part(w);
        offloaded = result != -EOPNOTSUPP;
        result = offloaded ? result : 0;
    }
    if (!offloaded) {
        if (c->locked_reads)
            result = read_part(w, &where);
        g_mutex_unlock(&c->lock);
        if (!c->locked_reads)
            result = read_part(w, &where);
        if (!result && c->packed)
            pack_units(w);
        else if (!result)
            find_runs(w);
        g_mutex_lock(&c->lock);
    }
    wait_for_turn(w);
    bool places = !offloaded && c->places && !c->packed;
    if (!result && !offloaded && !c->error)
        result = c->packed ? write_units(w) : c->places ? place_runs(w) : write_runs(w);
    note_error(c, where, result);
    if (!c->error && places) {
        g_mutex_unlock(&c->lock);
        reserve_places(w);
        g_mutex_lock(&c->lock);
    }
    c->placed++;
    g_cond_broadcast(&c->turn_came);
    if (!c->error && places) {
        g_mutex_unlock(&c->lock);
        result = write_places(w);
        g_mutex_lock(&c->lock);
        note_error(c, c->to, result);
    }
    if (!c->error && c->copy->progress && !c->copy->progress(c->copy->obj, w->end))
        note_error(c, c->to, -EINTR);
}

static gpointer work(gpointer obj)
{
    Worker *w = obj;
    Copying *c = w->c;
    g_mutex_lock(&c->lock);
    while (plan(w)) {
        do_part(w);
        g_mutex_unlock(&c->lock);
        throttle(c, w->end);
        g_mutex_lock(&c->lock);
    }
    g_cond_broadcast(&c->turn_came);
    g_mutex_unlock(&c->lock);
    return NULL;
}

/* The largest unit of a chain that may be packed: room for unpacking is made for it. */
static size_t source_unit(const Image *image)
{
    size_t unit = 0;
    for (guint i = 0; image->parts && i < image->parts->len; i++)
        unit = MAX(unit, source_unit(image->parts->pdata[i]));
    for (; image; image = image->parent)
        unit = image->driver->decompress ? MAX(unit, image->map->unit_size) : unit;
    return unit;
}

static Worker *worker_new(Copying *c)
{
    Worker *w = g_new0(Worker, 1);
    w->c = c;
    w->data = g_malloc(c->part_size);
    w->source = g_malloc(3 * source_unit(c->from));
    w->pieces = g_array_new(FALSE, FALSE, sizeof(Piece));
    w->runs = g_array_new(FALSE, FALSE, sizeof(Run));
    w->places = g_array_new(FALSE, FALSE, sizeof(Piece));
    if (c->packed) {
        w->stored = g_malloc(2 * c->part_size);
        w->stored_size = g_new(size_t, c->part_size / c->to->map->unit_size);
    }
    return w;
}

static void worker_free(Worker *w)
{
    g_array_unref(w->pieces);
    g_array_unref(w->runs);
    g_array_unref(w->places);
    g_free(w->data);
    g_free(w->source);
    g_free(w->stored);
    g_free(w->stored_size);
    g_free(w);
}

static bool is_remote(const Image *image)
{
    for (; image; image = image->parent) {
        if (image->file->remote)
            return true;
    }
    return false;
}

static unsigned default_threads(const Copying *c)
{
    unsigned processors = g_get_num_processors();
    if (c->packed || is_remote(c->from) || is_remote(c->to))
        return MAX(2 * processors, THREADS_WORKING);
    return source_unit(c->from) ? MAX(processors + 1, THREADS_MOVING) : THREADS_MOVING;
}

static unsigned thread_count(const Copying *c)
{
    size_t each = c->part_size * (c->packed ? 3 : 1) + 3 * source_unit(c->from);
    unsigned wanted = c->copy->threads ? c->copy->threads : default_threads(c);
    return CLAMP(wanted, 1, (unsigned)MAX(MEMORY_BUDGET / each, 1));
}

static void run_threads(Copying *c)
{
    unsigned count = thread_count(c);
    g_autofree Worker **workers = g_new(Worker *, count);
    g_autofree GThread **threads = g_new0(GThread *, count);
    for (unsigned i = 0; i < count; i++)
        workers[i] = worker_new(c);
    for (unsigned i = 1; i < count; i++)
        threads[i] = g_thread_new("copy", work, workers[i]);
    work(workers[0]);
    for (unsigned i = 0; i < count; i++) {
        if (threads[i])
            g_thread_join(threads[i]);
        worker_free(workers[i]);
    }
}

static bool is_encrypted(const Image *image)
{
    for (; image; image = image->parent) {
        if (image->map->encrypted)
            return true;
    }
    return false;
}

int image_copy(const ImageCopy *copy)
{
    uint32_t unit = copy->to->map->unit_size;
    Copying c = {.copy = copy,
                 .from = copy->from,
                 .to = copy->to,
                 .size = MIN(copy->from->map->size, copy->to->map->size),
                 .packed = copy->compress || copy->to->map->packs_only,
                 .reads_zero = copy->target_is_zero ||
                               (copy->target_is_new && !copy->to->map->begins_as_noise),
                 .places = copy->target_is_new && !copy->to->parent && !copy->to->map->encrypted,
                 .locked_reads = is_encrypted(copy->from),
                 .zero_grain = MAX(copy->zero_grain, 512),
                 .begin_us = g_get_monotonic_time()};
    if (!copy->zero_grain)
        c.zero_grain = 4096;
    if (c.packed && !copy->to->driver->compress)
        return -ENOTSUP;
    if (copy->target_is_new && copy->to->parent)
        c.reads_zero = false;
    c.part_size = MAX(PART_SIZE, source_unit(copy->from));
    if (c.packed)
        c.part_size = align_up(c.part_size, unit);
    c.clones = c.places && !copy->dense && !c.locked_reads &&
               host_file_can_clone(copy->from->file, copy->to->file);
    g_mutex_init(&c.lock);
    g_cond_init(&c.turn_came);
    run_threads(&c);
    g_cond_clear(&c.turn_came);
    g_mutex_clear(&c.lock);
    if (copy->failed)
        *copy->failed = c.failed;
    return c.error;
}
