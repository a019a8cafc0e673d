/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * VMDK: where all parts of a sparse extent are. Each has a place of its own, for a grain that
 * shares one would be lost by writing to either; and behind the last of them, which the end of the
 * file may cut, new ones may go.
 */
#include <errno.h>

#include "block/formats/vmdk.h"

/* Sectors of the file that are looked at in one pass over the tables: 16 MiB of bits, 64 GiB. */
#define WINDOW (UINT64_C(1) << 27)

typedef struct Places {
    VmdkExtent *extent;
    uint64_t sectors; /* of the file, and the one behind: what is cut away there reads as zeros */
    uint64_t end;     /* of the last one so far, in sectors */
    uint64_t tables;  /* so far, in sectors: more than there are in the file are a trap */
    uint32_t last_packed; /* the grain that is stored last, if they are packed */
    CheckResult *result;  /* NULL: nobody asks for what is shared */
    uint64_t from, to;    /* of the window */
    uint8_t *taken;       /* a bit for each of its sectors */
} Places;

static void take(Places *p, uint64_t first, uint64_t count, const char *what)
{
    bool shared = false;
    p->end = MAX(p->end, first + count);
    if (!p->result)
        return;
    for (uint64_t i = MAX(first, p->from); i < MIN(first + count, p->to); i++) {
        uint64_t at = i - p->from;
        shared = shared || p->taken[at / 8] >> at % 8 & 1;
        p->taken[at / 8] |= (uint8_t)(1 << at % 8);
    }
    if (!shared)
        return;
    p->result->corruptions++;
    check_result_add(p->result, "ERROR the %s at sector %" G_GUINT64_FORMAT " shares its place",
                     what, first);
}

/* The same for what must begin in the file. */
static bool take_inside(Places *p, uint64_t first, uint64_t count, const char *what)
{
    bool inside = first < p->sectors;
    if (inside) {
        take(p, first, count, what);
    } else if (p->result && p->from == 0) {
        p->result->corruptions++;
        check_result_add(p->result,
                         "ERROR the %s at sector %" G_GUINT64_FORMAT " is outside of the file",
                         what, first);
    }
    return inside;
}

static int take_packed(Places *p, uint32_t sector)
{
    const VmdkExtent *e = p->extent;
    uint8_t marker[12] = {0};
    int result = host_file_read(e->file, sector * UINT64_C(512), marker, sizeof(marker));
    uint64_t size = MIN(load_le32(marker + 8), 2 * (uint64_t)e->grain) + sizeof(marker);
    take(p, sector, (size + 511) / 512, "grain");
    return result;
}

static int take_grain(Places *p, uint32_t sector)
{
    const VmdkExtent *e = p->extent;
    if (sector <= e->has_zero)
        return 0;
    if (!e->compressed) {
        take_inside(p, sector, e->grain / 512, "grain");
        return 0;
    }
    if (sector < p->sectors)
        p->last_packed = MAX(p->last_packed, sector);
    bool in_window = sector >= p->from && sector < p->to;
    return p->result && in_window ? take_packed(p, sector) : 0;
}

static int take_tables(Places *p, uint64_t i)
{
    VmdkExtent *e = p->extent;
    uint64_t sectors = align_up(e->entries * UINT64_C(4), 512) / 512;
    uint32_t table = load_le32(e->directory.data + i * 4);
    uint32_t redundant = e->redundant.data ? load_le32(e->redundant.data + i * 4) : 0;
    uint8_t *data;
    if (redundant && redundant != table)
        take_inside(p, redundant, sectors, "redundant grain table");
    if (!table || !take_inside(p, table, sectors, "grain table"))
        return 0;
    p->tables += sectors;
    if (p->tables > p->sectors + sectors)
        return -EIO;
    int result = table_cache_get(e->tables, table * UINT64_C(512), false, &data);
    for (uint32_t k = 0; k < e->entries && !result; k++)
        result = take_grain(p, load_le32(data + k * 4));
    return result;
}

static int walk(Places *p)
{
    const VmdkExtent *e = p->extent;
    const Vmdk *v = e->vmdk;
    uint64_t size = align_up(e->directory.size, 512) / 512;
    int result = 0;
    p->tables = 0;
    take(p, 0, 1, "header");
    if (e->file == v->map.file && v->text_room)
        take(p, v->text_offset / 512, v->text_room / 512, "descriptor");
    take(p, e->directory.offset / 512, size, "grain directory");
    if (e->redundant.data && e->redundant.offset != e->directory.offset)
        take(p, e->redundant.offset / 512, size, "redundant grain directory");
    for (uint64_t i = 0; i < e->directory.size / 4 && !result; i++)
        result = take_tables(p, i);
    return result;
}

static bool has_places(const VmdkExtent *e)
{
    return e->is_sparse && !e->is_old && !e->is_se;
}

int vmdk_extent_check(VmdkExtent *e, CheckResult *r)
{
    uint64_t sectors = has_places(e) ? align_up(e->file->size, 512) / 512 + 1 : 0;
    size_t size = MIN(sectors, WINDOW) / 8 + 1;
    g_autofree uint8_t *taken = g_malloc(size);
    Places places = {.extent = e, .sectors = sectors, .result = r, .taken = taken};
    int result = 0;
    for (; places.from < sectors && !result; places.from = places.to) {
        places.to = MIN(places.from + WINDOW, sectors);
        memset(taken, 0, size);
        result = walk(&places);
    }
    return result;
}

int vmdk_extent_find_end(VmdkExtent *e)
{
    uint64_t sectors = has_places(e) ? align_up(e->file->size, 512) / 512 + 1 : 0;
    Places places = {.extent = e, .sectors = sectors, .to = sectors};
    int result = sectors ? walk(&places) : 0;
    if (!result && places.last_packed)
        result = take_packed(&places, places.last_packed);
    e->end = MAX(e->end, places.end * 512);
    return result;
}
