/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The module `http`: files on web servers, for reading, through libcurl; see remote.h.
 *
 * The file is read in blocks, of which the last ones used are kept. One block after the other lets
 * a request ask for more each time, up to AHEAD_MAX. Every answer must be of the file that was
 * opened: of the same size and, where the server tells, with the same tag or date.
 */
#include <curl/curl.h>
#include <errno.h>
#include <string.h>

#include "base/i18n.h"
#include "base/module.h"
#include "block/protocols/remote.h"

#define BLOCK     (256u << 10)
#define KEPT      64 /* 16 MiB */
#define AHEAD_MAX 16 /* 4 MiB */
#define NEAR      32
/* A transfer that breaks is tried again so many times. */
#define TRIES 3

typedef struct Block {
    uint64_t number; /* UINT64_MAX: empty */
    uint64_t used;   /* when */
    uint8_t *data;
} Block;

/* What an answer says. */
typedef struct Answer {
    uint64_t begin, total; /* of Content-Range; total UINT64_MAX: it did not say */
    char *mark;            /* ETag, else Last-Modified */
    bool mark_is_tag;
} Answer;

typedef struct HttpFile {
    char *address;
    GMutex lock;
    CURL *curl;
    char problem[CURL_ERROR_SIZE];
    uint64_t size;
    char *mark; /* of the file that was opened; NULL: the server gives none */
    Answer answer;
    long status;
    uint8_t *room; /* AHEAD_MAX blocks; what a request has got … */
    uint64_t wanted, got;
    Block blocks[KEPT];
    uint64_t time, next; /* the block that reading on would take … */
    unsigned ahead;      /* … and how many to ask for then */
} HttpFile;

/* ---- one request ----------------------------------------------------------------------------- */

static char *header_value(const char *line, size_t length, const char *name)
{
    size_t name_length = strlen(name);
    if (length < name_length || g_ascii_strncasecmp(line, name, name_length))
        return NULL;
    return g_strstrip(g_strndup(line + name_length, length - name_length));
}

static void parse_range(Answer *answer, const char *text)
{
    const char *slash = strchr(text, '/'), *space = strchr(text, ' ');
    if (!slash || !space || g_ascii_strncasecmp(text, "bytes", 5))
        return;
    answer->begin = g_ascii_strtoull(space + 1, NULL, 10);
    if (g_ascii_isdigit(slash[1]))
        answer->total = g_ascii_strtoull(slash + 1, NULL, 10);
}

static void answer_clear(Answer *answer)
{
    g_free(answer->mark);
    *answer = (Answer){.total = UINT64_MAX};
}

static size_t on_header(char *line, size_t one, size_t length, void *obj)
{
    HttpFile *f = obj;
    g_autofree char *range = header_value(line, length, "Content-Range:");
    char *tag = header_value(line, length, "ETag:");
    char *date = header_value(line, length, "Last-Modified:");
    if (length > 5 && !memcmp(line, "HTTP/", 5))
        answer_clear(&f->answer); /* another answer: the one before was a redirection */
    if (range)
        parse_range(&f->answer, range);
    if (tag || (date && !f->answer.mark_is_tag)) {
        g_free(f->answer.mark);
        f->answer.mark = tag ? g_steal_pointer(&tag) : g_steal_pointer(&date);
        f->answer.mark_is_tag = f->answer.mark_is_tag || !date;
    }
    g_free(tag);
    g_free(date);
    return length;
}

/* More than was asked for ends the transfer: a server without ranges sends everything. */
static size_t on_body(char *data, size_t one, size_t size, void *obj)
{
    HttpFile *f = obj;
    long status = 0;
    curl_easy_getinfo(f->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status != 206 || size > f->wanted - f->got)
        return 0;
    memcpy(f->room + f->got, data, size);
    f->got += size;
    return size;
}

static int result_of(const HttpFile *f, CURLcode code)
{
    if (f->status == 404 || f->status == 410)
        return -ENOENT;
    if (f->status == 401 || f->status == 403)
        return -EACCES;
    if (f->status == 412 || (f->status == 416 && f->size))
        return -ESTALE;
    if (f->status >= 400)
        return -EIO;
    if (f->status == 200)
        return f->size ? -ESTALE : -EOPNOTSUPP;
    return code == CURLE_OK && f->got == f->wanted ? 0 : -ENOLINK;
}

static int request(HttpFile *f, uint64_t offset, uint64_t size)
{
    g_autofree char *range =
        g_strdup_printf("%" G_GUINT64_FORMAT "-%" G_GUINT64_FORMAT, offset, offset + size - 1);
    f->wanted = size;
    f->got = 0;
    f->status = 0;
    answer_clear(&f->answer);
    curl_easy_setopt(f->curl, CURLOPT_RANGE, range);
    CURLcode code = curl_easy_perform(f->curl);
    curl_easy_getinfo(f->curl, CURLINFO_RESPONSE_CODE, &f->status);
    return result_of(f, code);
}

static bool is_same_file(const HttpFile *f)
{
    return f->answer.total == f->size && (!f->mark || !g_strcmp0(f->mark, f->answer.mark));
}

static int fetch(HttpFile *f, uint64_t offset, uint64_t size)
{
    int result = -ENOLINK;
    for (int i = 0; i < TRIES && result == -ENOLINK; i++)
        result = request(f, offset, size);
    if (result)
        return result;
    if (!is_same_file(f))
        return -ESTALE;
    return f->answer.begin == offset ? 0 : -EPROTO;
}

/* ---- blocks ---------------------------------------------------------------------------------- */

static Block *find_block(HttpFile *f, uint64_t number)
{
    for (unsigned i = 0; i < KEPT; i++) {
        if (f->blocks[i].number == number)
            return &f->blocks[i];
    }
    return NULL;
}

static Block *oldest_block(HttpFile *f)
{
    Block *oldest = &f->blocks[0];
    for (unsigned i = 1; i < KEPT; i++) {
        if (f->blocks[i].used < oldest->used)
            oldest = &f->blocks[i];
    }
    return oldest;
}

/* How many blocks to ask for: those that come next, up to one that is there. */
static unsigned plan(HttpFile *f, uint64_t number)
{
    uint64_t last = (f->size - 1) / BLOCK;
    /* Threads of one copy come out of order, some parts before or behind each other. */
    bool goes_on = number + NEAR >= f->next && number <= f->next + NEAR;
    unsigned count = 1;
    f->ahead = goes_on ? MIN(f->ahead * 2, AHEAD_MAX) : 1;
    while (count < f->ahead && number + count <= last && !find_block(f, number + count))
        count++;
    f->next = goes_on ? MAX(f->next, number + count) : number + count;
    return count;
}

static int load_blocks(HttpFile *f, uint64_t number)
{
    unsigned count = plan(f, number);
    uint64_t begin = number * BLOCK, size = MIN((uint64_t)count * BLOCK, f->size - begin);
    int result = fetch(f, begin, size);
    for (unsigned i = 0; i < count && !result; i++) {
        Block *block = oldest_block(f);
        if (!block->data)
            block->data = g_malloc(BLOCK);
        block->number = number + i;
        block->used = ++f->time;
        memcpy(block->data, f->room + (size_t)i * BLOCK, MIN(BLOCK, size - (uint64_t)i * BLOCK));
    }
    return result;
}

static int http_read(void *obj, uint64_t offset, void *data, size_t size)
{
    HttpFile *f = obj;
    int result = 0;
    g_mutex_lock(&f->lock);
    for (uint8_t *to = data; size && !result;) {
        uint64_t number = offset / BLOCK, inside = offset % BLOCK;
        Block *block = find_block(f, number);
        if (!block) {
            result = load_blocks(f, number);
            continue;
        }
        size_t part = MIN(size, BLOCK - inside);
        memcpy(to, block->data + inside, part);
        block->used = ++f->time;
        to += part;
        offset += part;
        size -= part;
    }
    g_mutex_unlock(&f->lock);
    return result;
}

/* ---- opening --------------------------------------------------------------------------------- */

/* As curl(1) does. */
static void choose_authorities(HttpFile *f)
{
    const char *file =
        g_getenv("CURL_CA_BUNDLE") ? g_getenv("CURL_CA_BUNDLE") : g_getenv("SSL_CERT_FILE");
    if (file)
        curl_easy_setopt(f->curl, CURLOPT_CAINFO, file);
}

static void set_up(HttpFile *f)
{
    const struct {
        CURLoption option;
        long value;
    } numbers[] = {
        {CURLOPT_NOSIGNAL, 1},        {CURLOPT_FOLLOWLOCATION, 1},  {CURLOPT_MAXREDIRS, 5},
        {CURLOPT_CONNECTTIMEOUT, 30}, {CURLOPT_LOW_SPEED_LIMIT, 1}, {CURLOPT_LOW_SPEED_TIME, 60},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(numbers); i++)
        curl_easy_setopt(f->curl, numbers[i].option, numbers[i].value);
    choose_authorities(f);
    curl_easy_setopt(f->curl, CURLOPT_URL, f->address);
    curl_easy_setopt(f->curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(f->curl, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(f->curl, CURLOPT_USERAGENT, "ospite/" OSPITE_VERSION);
    curl_easy_setopt(f->curl, CURLOPT_ERRORBUFFER, f->problem);
    curl_easy_setopt(f->curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(f->curl, CURLOPT_HEADERDATA, f);
    curl_easy_setopt(f->curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(f->curl, CURLOPT_WRITEDATA, f);
}

static void http_close(void *obj)
{
    HttpFile *f = obj;
    curl_easy_cleanup(f->curl);
    for (unsigned i = 0; i < KEPT; i++)
        g_free(f->blocks[i].data);
    answer_clear(&f->answer);
    g_mutex_clear(&f->lock);
    g_free(f->room);
    g_free(f->mark);
    g_free(f->address);
    g_free(f);
}

static bool fail(const HttpFile *f, int result, GError **error)
{
    g_autofree char *status = g_strdup_printf(_("the server answered with status %ld"), f->status);
    const char *why = result == -EOPNOTSUPP ? _("the server does not send parts of files (ranges); "
                                                "download it first")
                      : f->status >= 400    ? status
                      : *f->problem         ? f->problem
                                            : _("the server does not tell its size");
    g_set_error(error, G_IO_ERROR, g_io_error_from_errno(-result), _("cannot open disk '%s': %s"),
                f->address, why);
    return false;
}

/* An empty file has no first byte, and says so. */
static bool learn(HttpFile *f, GError **error)
{
    int result = -ENOLINK;
    for (int i = 0; i < TRIES && result == -ENOLINK; i++)
        result = request(f, 0, 1);
    bool empty = f->status == 416 && f->answer.total == 0;
    if ((result && !empty) || f->answer.total == UINT64_MAX)
        return fail(f, result ? result : -EIO, error);
    f->size = f->answer.total;
    f->mark = g_steal_pointer(&f->answer.mark);
    return true;
}

static void *http_open(const char *address, int fd, bool read_only, RemoteInfo *ret_info,
                       GError **error)
{
    HttpFile *f = g_new0(HttpFile, 1);
    g_mutex_init(&f->lock);
    f->address = g_strdup(address);
    f->curl = curl_easy_init();
    f->room = g_malloc((size_t)AHEAD_MAX * BLOCK);
    f->next = UINT64_MAX;
    for (unsigned i = 0; i < KEPT; i++)
        f->blocks[i].number = UINT64_MAX;
    set_up(f);
    if (!learn(f, error)) {
        http_close(f);
        return NULL;
    }
    *ret_info = (RemoteInfo){.size = f->size, .block = 1, .read_only = true};
    return f;
}

static const RemoteApi api = {.open = http_open, .close = http_close, .read = http_read};
OSPITE_MODULE(&api);
