/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * NBD negotiation: the greeting, options until the client chooses an export, TLS.
 *
 * Where TLS is configured, a client without it is told nothing of the exports.
 */
#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "block/image.h"
#include "block/protocols/nbd_conn.h"

#define OPTION_DATA_MAX 65536
#define OPTIONS_MAX     100
#define TEXT_MAX        4096
#define PREFERRED_SIZE  4096 /* the host writes pages */

/* The data of an option, from which fields are taken. */
typedef struct Fields {
    const uint8_t *at;
    size_t left;
    bool bad;
} Fields;

typedef struct Option {
    uint32_t code;
    bool with_tls_only; /* where there is TLS */
    void (*run)(NbdConn *conn, uint32_t code, Fields *fields);
} Option;

static bool step_option(NbdConn *conn);

/* ---- fields and answers ---------------------------------------------------------------------- */

static const uint8_t *take_bytes(Fields *f, size_t size)
{
    static const uint8_t nothing[8];
    if (f->bad || f->left < size) {
        f->bad = true;
        return nothing;
    }
    f->at += size;
    f->left -= size;
    return f->at - size;
}

static uint32_t take_u32(Fields *f)
{
    return load_be32(take_bytes(f, 4));
}

static uint16_t take_u16(Fields *f)
{
    return load_be16(take_bytes(f, 2));
}

/* | length 4 | text | */
static const char *take_text(Fields *f, size_t *ret_length)
{
    uint32_t length = take_u32(f);
    if (length > TEXT_MAX)
        f->bad = true;
    const uint8_t *text = take_bytes(f, length);
    *ret_length = f->bad ? 0 : length;
    return (const char *)text;
}

static void answer(NbdConn *conn, uint32_t option, uint32_t type, const void *data, size_t size)
{
    uint8_t head[NBD_ANSWER_SIZE];
    store_be64(head, NBD_ANSWER_MAGIC);
    store_be32(head + 8, option);
    store_be32(head + 12, type);
    store_be32(head + 16, (uint32_t)size);
    nbd_conn_send_bytes(conn, head, sizeof(head), data, size);
}

static void answer_text(NbdConn *conn, uint32_t option, uint32_t type, const char *text)
{
    answer(conn, option, type, text, strlen(text));
}

/* Whatever the fields say is bad, or the option has more than it should. */
static bool refuse_bad(NbdConn *conn, uint32_t option, const Fields *f)
{
    if (!f->bad && !f->left)
        return false;
    answer_text(conn, option, NBD_REP_ERR_INVALID, "the option's length does not fit");
    return true;
}

/* ---- exports --------------------------------------------------------------------------------- */

static void run_list(NbdConn *conn, uint32_t code, Fields *f)
{
    const GPtrArray *exports = conn->server->exports;
    if (refuse_bad(conn, code, f))
        return;
    for (guint i = 0; i < exports->len; i++) {
        const NbdExport *export = exports->pdata[i];
        g_autoptr(GByteArray) data = g_byte_array_new();
        uint8_t length[4];
        store_be32(length, (uint32_t)strlen(export->name));
        g_byte_array_append(data, length, sizeof(length));
        g_byte_array_append(data, (const guint8 *)export->name, (guint)strlen(export->name));
        if (export->description)
            g_byte_array_append(data, (const guint8 *)export->description,
                                (guint)strlen(export->description));
        answer(conn, code, NBD_REP_SERVER, data->data, data->len);
    }
    answer(conn, code, NBD_REP_ACK, NULL, 0);
}

static void answer_export(NbdConn *conn, uint32_t code, const NbdExport *export)
{
    uint8_t info[12];
    store_be16(info, NBD_INFO_EXPORT);
    store_be64(info + 2, disk_info(export->disk)->size);
    store_be16(info + 10, nbd_export_flags(export));
    answer(conn, code, NBD_REP_INFO, info, sizeof(info));
}

static void answer_block_size(NbdConn *conn, uint32_t code, const NbdExport *export)
{
    uint8_t info[14];
    store_be16(info, NBD_INFO_BLOCK_SIZE);
    store_be32(info + 2, disk_info(export->disk)->sector_size);
    store_be32(info + 6, PREFERRED_SIZE);
    store_be32(info + 10, NBD_TRANSFER_MAX);
    answer(conn, code, NBD_REP_INFO, info, sizeof(info));
}

static void answer_info_text(NbdConn *conn, uint32_t code, uint16_t kind, const char *text)
{
    size_t length = strlen(text);
    g_autofree uint8_t *info = g_malloc(2 + length);
    store_be16(info, kind);
    memcpy(info + 2, text, length);
    answer(conn, code, NBD_REP_INFO, info, 2 + length);
}

/* | length 4 | name | count 2 | kinds 2 … | */
static void run_info(NbdConn *conn, uint32_t code, Fields *f)
{
    size_t length;
    bool wants_name = false, wants_description = false;
    const char *name = take_text(f, &length);
    for (uint16_t count = take_u16(f); count && !f->bad; count--) {
        uint16_t kind = take_u16(f);
        wants_name = wants_name || kind == NBD_INFO_NAME;
        wants_description = wants_description || kind == NBD_INFO_DESCRIPTION;
    }
    if (refuse_bad(conn, code, f))
        return;
    const NbdExport *export = nbd_server_find(conn->server, name, length);
    if (!export) {
        answer_text(conn, code, NBD_REP_ERR_UNKNOWN, "there is no export of that name");
        return;
    }
    answer_export(conn, code, export);
    if (wants_name)
        answer_info_text(conn, code, NBD_INFO_NAME, export->name);
    if (wants_description && export->description)
        answer_info_text(conn, code, NBD_INFO_DESCRIPTION, export->description);
    answer_block_size(conn, code, export);
    answer(conn, code, NBD_REP_ACK, NULL, 0);
    if (code == NBD_OPT_GO)
        nbd_session_begin(conn, export);
}

/* The old way: no answer but the export, no error but the end. */
static void run_export_name(NbdConn *conn, uint32_t code, Fields *f)
{
    static const uint8_t zeros[124];
    uint8_t head[10];
    const char *name = (const char *)f->at;
    const NbdExport *export =
        f->left <= NBD_NAME_MAX ? nbd_server_find(conn->server, name, f->left) : NULL;
    if (!export) {
        nbd_conn_close(conn, false);
        return;
    }
    store_be64(head, disk_info(export->disk)->size);
    store_be16(head + 8, nbd_export_flags(export));
    nbd_conn_send_bytes(conn, head, sizeof(head), zeros, conn->no_zeroes ? 0 : sizeof(zeros));
    nbd_session_begin(conn, export);
}

/* ---- what the client wants ------------------------------------------------------------------- */

static void run_abort(NbdConn *conn, uint32_t code, Fields *f)
{
    answer(conn, code, NBD_REP_ACK, NULL, 0);
    nbd_conn_close(conn, true);
}

static void run_structured_reply(NbdConn *conn, uint32_t code, Fields *f)
{
    if (refuse_bad(conn, code, f))
        return;
    conn->structured = true;
    answer(conn, code, NBD_REP_ACK, NULL, 0);
}

static bool is_query_for_base(const char *query, size_t length, bool listing)
{
    static const char name[] = NBD_BASE_CONTEXT;
    bool whole = length == strlen(name) && !memcmp(query, name, length);
    return whole || (listing && length == 5 && !memcmp(query, "base:", 5));
}

/* | length 4 | export | count 4 | (length 4 | query) … |; no query lists all there is. */
static void run_meta_context(NbdConn *conn, uint32_t code, Fields *f)
{
    bool listing = code == NBD_OPT_LIST_META_CONTEXT;
    size_t length;
    const char *name = take_text(f, &length);
    uint32_t count = take_u32(f);
    bool wanted = listing && !count;
    for (; count && !f->bad; count--) {
        size_t query_length;
        const char *query = take_text(f, &query_length);
        wanted = wanted || (!f->bad && is_query_for_base(query, query_length, listing));
    }
    if (!listing)
        conn->context_export = NULL;
    if (refuse_bad(conn, code, f))
        return;
    const NbdExport *export = nbd_server_find(conn->server, name, length);
    if (!export || !conn->structured) {
        answer_text(conn, code, export ? NBD_REP_ERR_INVALID : NBD_REP_ERR_UNKNOWN,
                    export ? "structured replies come first" : "there is no export of that name");
        return;
    }
    if (wanted) {
        uint8_t context[4 + sizeof(NBD_BASE_CONTEXT) - 1] = {0}; /* its number is 0 */
        memcpy(context + 4, NBD_BASE_CONTEXT, sizeof(context) - 4);
        answer(conn, code, NBD_REP_META_CONTEXT, context, sizeof(context));
        conn->context_export = listing ? conn->context_export : export;
    }
    answer(conn, code, NBD_REP_ACK, NULL, 0);
}

/* ---- TLS ------------------------------------------------------------------------------------- */

static bool step_tls(NbdConn *conn)
{
    int result = nbd_stream_handshake(&conn->stream);
    if (result == 0)
        conn->step = step_option;
    else if (result != -EAGAIN)
        nbd_conn_close(conn, false);
    return result == 0;
}

/* Nothing that was said in the clear counts afterwards. */
static void run_starttls(NbdConn *conn, uint32_t code, Fields *f)
{
    if (refuse_bad(conn, code, f))
        return;
    if (!conn->server->options.tls || conn->stream.session) {
        answer_text(conn, code, conn->stream.session ? NBD_REP_ERR_INVALID : NBD_REP_ERR_POLICY,
                    conn->stream.session ? "TLS is spoken already" : "this server has no TLS");
        return;
    }
    answer(conn, code, NBD_REP_ACK, NULL, 0);
    nbd_conn_flush(conn);
    bool said_more = conn->chunk->start != conn->chunk->used;
    if (conn->closed || said_more || conn->out.length ||
        !nbd_stream_start_tls(&conn->stream, conn->server->options.tls)) {
        nbd_conn_close(conn, false);
        return;
    }
    conn->structured = false;
    conn->context_export = NULL;
    conn->step = step_tls;
}

/* ---- options --------------------------------------------------------------------------------- */

static const Option options[] = {
    {NBD_OPT_EXPORT_NAME, true, run_export_name},
    {NBD_OPT_ABORT, false, run_abort},
    {NBD_OPT_LIST, true, run_list},
    {NBD_OPT_STARTTLS, false, run_starttls},
    {NBD_OPT_INFO, true, run_info},
    {NBD_OPT_GO, true, run_info},
    {NBD_OPT_STRUCTURED_REPLY, true, run_structured_reply},
    {NBD_OPT_LIST_META_CONTEXT, true, run_meta_context},
    {NBD_OPT_SET_META_CONTEXT, true, run_meta_context},
};

static void run_option(NbdConn *conn, uint32_t code, Fields *fields)
{
    bool bare = conn->server->options.tls && !conn->stream.session;
    for (size_t i = 0; i < G_N_ELEMENTS(options); i++) {
        if (options[i].code != code)
            continue;
        if (!bare || !options[i].with_tls_only)
            options[i].run(conn, code, fields);
        else if (code == NBD_OPT_EXPORT_NAME)
            nbd_conn_close(conn, false);
        else
            answer_text(conn, code, NBD_REP_ERR_TLS_REQD, "this server wants TLS");
        return;
    }
    answer(conn, code, bare ? NBD_REP_ERR_TLS_REQD : NBD_REP_ERR_UNSUP, NULL, 0);
}

static bool step_option(NbdConn *conn)
{
    NbdChunk *chunk = conn->chunk;
    if (chunk->used - chunk->start < NBD_OPTION_SIZE) {
        conn->need = NBD_OPTION_SIZE;
        return false;
    }
    const uint8_t *head = chunk->data + chunk->start;
    uint32_t code = load_be32(head + 8), size = load_be32(head + 12);
    if (load_be64(head) != NBD_OPTION_MAGIC || size > OPTION_DATA_MAX ||
        ++conn->options > OPTIONS_MAX) {
        nbd_conn_close(conn, false);
        return false;
    }
    const uint8_t *whole = nbd_conn_take(conn, NBD_OPTION_SIZE + size);
    if (!whole) {
        conn->options--;
        return false;
    }
    Fields fields = {whole + NBD_OPTION_SIZE, size, false};
    run_option(conn, code, &fields);
    return !conn->closed && conn->step != step_tls;
}

/* ---- the greeting ---------------------------------------------------------------------------- */

static bool step_client_flags(NbdConn *conn)
{
    const uint8_t *flags = nbd_conn_take(conn, 4);
    if (!flags)
        return false;
    uint32_t bits = load_be32(flags);
    if (!(bits & NBD_FIXED_NEWSTYLE) || bits & ~(uint32_t)(NBD_FIXED_NEWSTYLE | NBD_NO_ZEROES)) {
        nbd_conn_close(conn, false);
        return false;
    }
    conn->no_zeroes = bits & NBD_NO_ZEROES;
    conn->step = step_option;
    return true;
}

void nbd_handshake_begin(NbdConn *conn)
{
    uint8_t greeting[18];
    store_be64(greeting, NBD_MAGIC);
    store_be64(greeting + 8, NBD_OPTION_MAGIC);
    store_be16(greeting + 16, NBD_FIXED_NEWSTYLE | NBD_NO_ZEROES);
    conn->step = step_client_flags;
    nbd_conn_send_bytes(conn, greeting, sizeof(greeting), NULL, 0);
}
