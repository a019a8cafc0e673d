/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * disk bench: how fast an image is, through the engine that guests' disks go through. Each pattern
 * keeps so many requests in flight for so long; requests are as far apart as their answers.
 */
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "block/disk.h"
#include "cli/disk.h"

#define DEPTH_MAX   1024
#define BLOCK_MAX   MIB(32)
#define SECONDS_MAX 86400
/* Answers by their time: 16 steps for each power of two, in ns. */
#define STEPS     16
#define HISTOGRAM (64 * STEPS)

typedef struct Pattern {
    const char *name; /* as fio(1) calls it */
    DiskOp op;
    bool random;
} Pattern;

static const Pattern patterns[] = {
    {"read", DISK_READ, false},
    {"write", DISK_WRITE, false},
    {"randread", DISK_READ, true},
    {"randwrite", DISK_WRITE, true},
};

typedef struct Bench {
    Disk *disk;
    GRecMutex lock;
    const Pattern *pattern;
    GRand *rand;
    uint64_t block, blocks, next;
    guint64 depth, seconds;
    int64_t begin_us, end_us;
    unsigned in_flight;
    uint64_t count, histogram[HISTOGRAM];
    double total_us;
    int error;
} Bench;

typedef struct Slot {
    DiskRequest request;
    struct iovec iov;
    Bench *bench;
    int64_t begin_us;
} Slot;

/* ---- one pattern ----------------------------------------------------------------------------- */

static unsigned step_of(uint64_t ns)
{
    unsigned power = ns < STEPS ? 0 : 63u - (unsigned)__builtin_clzll(ns);
    return power < 4 ? (unsigned)ns : power * STEPS + (unsigned)((ns >> (power - 4)) % STEPS);
}

static double step_us(unsigned step)
{
    unsigned power = step / STEPS;
    double base = power < 4 ? step : (double)(UINT64_C(1) << (power - 4)) * (STEPS + step % STEPS);
    return base / 1000;
}

static void submit(Slot *slot)
{
    Bench *b = slot->bench;
    uint64_t at = b->pattern->random ? (uint64_t)(g_rand_double(b->rand) * (double)b->blocks)
                                     : b->next++ % b->blocks;
    slot->request.offset = at * b->block;
    slot->begin_us = g_get_monotonic_time();
    b->in_flight++;
    disk_submit(b->disk, &slot->request);
}

static void on_done(DiskRequest *request, int error)
{
    Slot *slot = request->obj;
    Bench *b = slot->bench;
    int64_t now = g_get_monotonic_time(), took = now - slot->begin_us;
    b->in_flight--;
    b->count++;
    b->total_us += (double)took;
    b->histogram[step_of((uint64_t)took * 1000)]++;
    b->error = b->error ? b->error : error;
    if (!b->error && now < b->begin_us + (int64_t)b->seconds * G_USEC_PER_SEC)
        submit(slot);
}

static void on_flushed(DiskRequest *request, int error)
{
    Bench *b = request->obj;
    b->error = b->error ? b->error : error;
    b->in_flight--;
}

static void wait_for_all(Bench *b)
{
    while (b->in_flight)
        g_main_context_iteration(NULL, TRUE);
}

/* What was written is on stable storage before the clock stops. */
static void run_pattern(Bench *b, const Pattern *pattern)
{
    g_autofree Slot *slots = g_new0(Slot, b->depth);
    g_autofree uint8_t *data = g_malloc(b->depth * b->block);
    DiskRequest flush = {.op = DISK_FLUSH, .done = on_flushed, .obj = b};
    memset(data, 0x5a, b->depth * b->block);
    memset(b->histogram, 0, sizeof(b->histogram));
    b->pattern = pattern;
    b->count = b->next = 0;
    b->total_us = 0;
    b->begin_us = g_get_monotonic_time();
    for (guint64 i = 0; i < b->depth; i++) {
        slots[i].iov = (struct iovec){data + i * b->block, b->block};
        slots[i].bench = b;
        slots[i].request = (DiskRequest){.op = pattern->op,
                                         .size = b->block,
                                         .iov = &slots[i].iov,
                                         .iov_count = 1,
                                         .done = on_done,
                                         .obj = &slots[i]};
        submit(&slots[i]);
    }
    wait_for_all(b);
    if (pattern->op == DISK_WRITE && !b->error) {
        b->in_flight++;
        disk_submit(b->disk, &flush);
        wait_for_all(b);
    }
    b->end_us = g_get_monotonic_time();
}

/* ---- output ---------------------------------------------------------------------------------- */

static double percentile_us(const Bench *b, double part)
{
    uint64_t passed = 0;
    for (unsigned i = 0; i < HISTOGRAM; i++) {
        passed += b->histogram[i];
        if ((double)passed >= part * (double)b->count)
            return step_us(i);
    }
    return 0;
}

static void print_pattern(const Bench *b, JsonText *json)
{
    double seconds = (double)MAX(b->end_us - b->begin_us, 1) / G_USEC_PER_SEC;
    double iops = (double)b->count / seconds, mib = iops * (double)b->block / (double)MIB(1);
    double mean = b->total_us / (double)MAX(b->count, 1), worst = percentile_us(b, 0.99);
    if (!json) {
        printf("%-10s %9.0f/s %10.1f MiB/s %10.1f us %10.1f us\n", b->pattern->name, iops, mib,
               mean, worst);
        fflush(stdout);
        return;
    }
    json_begin(json, '{');
    json_add_string(json, "pattern", b->pattern->name);
    json_add_int(json, "requests", (int64_t)b->count);
    json_add_double(json, "seconds", seconds);
    json_add_double(json, "requests-per-second", iops);
    json_add_double(json, "bytes-per-second", iops * (double)b->block);
    json_add_double(json, "mean-microseconds", mean);
    json_add_double(json, "p99-microseconds", worst);
    json_end(json, '}');
}

static int run_all(Bench *b, const DiskArgs *a, char **names, GError **error)
{
    g_auto(JsonText) json;
    json_text_init(&json);
    json_begin(&json, '{');
    json_add_string(&json, "filename", a->rest[0]);
    json_add_string(&json, "format", disk_info(b->disk)->format);
    json_add_int(&json, "block", (int64_t)b->block);
    json_add_int(&json, "depth", (int64_t)b->depth);
    json_name(&json, "patterns");
    json_begin(&json, '[');
    if (!a->json)
        printf("%-10s %11s %16s %13s %13s\n", "Pattern", "Requests", "Data", "Mean", "99%");
    for (char **name = names; *name && !b->error; name++) {
        size_t i = 0;
        while (strcmp(patterns[i].name, *name))
            i++;
        run_pattern(b, &patterns[i]);
        if (!b->error)
            print_pattern(b, a->json ? &json : NULL);
    }
    json_end(&json, ']');
    json_end(&json, '}');
    if (b->error)
        return disk_fail(error, "use", a->rest[0], -b->error);
    if (a->json)
        disk_print_json(&json);
    return 0;
}

/* ---- the command ----------------------------------------------------------------------------- */

/* Sets `ret_writes` if one of them does. */
static bool check_names(char **names, bool *ret_writes, GError **error)
{
    for (char **name = names; *name; name++) {
        size_t i = 0;
        while (i < G_N_ELEMENTS(patterns) && strcmp(patterns[i].name, *name))
            i++;
        if (i == G_N_ELEMENTS(patterns)) {
            disk_usage(error, "--pattern is read, write, randread or randwrite, not '%s'", *name);
            return false;
        }
        *ret_writes = *ret_writes || patterns[i].op == DISK_WRITE;
    }
    return true;
}

static bool parse_number(const DiskArgs *a, char letter, const char *option, guint64 max,
                         guint64 *ret, GError **error)
{
    uint64_t number = *ret;
    const char *text = a->letter[(int)letter];
    if (text && (!format_parse_size(text, &number) || !number || number > max)) {
        disk_usage(error, "%s cannot be '%s'", option, text);
        return false;
    }
    *ret = number;
    return true;
}

static bool measure_disk(Bench *b, const char *path, GError **error)
{
    const DiskInfo *info = disk_info(b->disk);
    if (b->block % info->sector_size || b->block > info->size)
        return disk_refuse(error, "%s: --block must be whole sectors of %u bytes, and fit the disk",
                           path, info->sector_size) == 0;
    b->blocks = info->size / b->block;
    return true;
}

int disk_command_bench(DiskArgs *a, GError **error)
{
    guint64 block = KIB(4);
    bool writes = false;
    Bench b = {.depth = 32, .seconds = 3};
    if (a->count != 1)
        return disk_usage(error, "bench takes a file");
    g_auto(GStrv) names = g_strsplit(a->letter['M'] ? a->letter['M'] : "randread,read", ",", -1);
    if (!check_names(names, &writes, error) ||
        !parse_number(a, 'Z', "--block", BLOCK_MAX, &block, error) ||
        !parse_number(a, 'Q', "--depth", DEPTH_MAX, &b.depth, error) ||
        !parse_number(a, 'Y', "--time", SECONDS_MAX, &b.seconds, error))
        return -1;
    if (writes && !a->letter['W'])
        return disk_usage(error, "writing destroys what is in %s; say --overwrite if that is meant",
                          a->rest[0]);
    if (b.depth * block > MIB(48))
        return disk_usage(error, "--depth times --block is at most 48M");
    DiskOptions options = {
        .format = a->letter['f'], .read_only = !writes, .trust_names = a->trust, .key = a->key};
    g_rec_mutex_init(&b.lock);
    b.block = block;
    b.rand = g_rand_new_with_seed(1);
    b.disk = disk_open(a->rest[0], &options, NULL, &b.lock, error);
    int result = b.disk && measure_disk(&b, a->rest[0], error) ? run_all(&b, a, names, error) : -1;
    disk_close(b.disk);
    g_rand_free(b.rand);
    g_rec_mutex_clear(&b.lock);
    return result;
}
