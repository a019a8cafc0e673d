/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The numbers of the NBD protocol, all big-endian on the wire.
 *
 *   greeting   | NBDMAGIC 8 | IHAVEOPT 8 | flags 2 |        client's answer: | flags 4 |
 *   option     | IHAVEOPT 8 | option 4 | length 4 | data |
 *   answer     | magic 8 | option 4 | type 4 | length 4 | data |
 *   request    | magic 4 | flags 2 | type 2 | cookie 8 | offset 8 | length 4 | data of a write |
 *   simple     | magic 4 | error 4 | cookie 8 | data of a read |
 *   structured | magic 4 | flags 2 | type 2 | cookie 8 | length 4 | payload |
 *
 * Source: the protocol's specification (NetworkBlockDevice/nbd, doc/proto.md).
 */
#pragma once

#include <stdint.h>

#define NBD_MAGIC            UINT64_C(0x4e42444d41474943)
#define NBD_OPTION_MAGIC     UINT64_C(0x49484156454f5054)
#define NBD_ANSWER_MAGIC     UINT64_C(0x0003e889045565a9)
#define NBD_REQUEST_MAGIC    0x25609513u
#define NBD_SIMPLE_MAGIC     0x67446698u
#define NBD_STRUCTURED_MAGIC 0x668e33efu

#define NBD_DEFAULT_PORT 10809
#define NBD_BASE_CONTEXT "base:allocation"

enum {
    NBD_OPTION_SIZE = 16,
    NBD_ANSWER_SIZE = 20,
    NBD_REQUEST_SIZE = 28,
    NBD_SIMPLE_SIZE = 16,
    NBD_STRUCTURED_SIZE = 20,
};

/* What every server takes of one read or write. */
#define NBD_TRANSFER_MAX (32u << 20)
#define NBD_NAME_MAX     4096

/* Flags of the greeting, and of the client's answer to it */
enum { NBD_FIXED_NEWSTYLE = 1, NBD_NO_ZEROES = 2 };

enum {
    NBD_OPT_EXPORT_NAME = 1,
    NBD_OPT_ABORT = 2,
    NBD_OPT_LIST = 3,
    NBD_OPT_STARTTLS = 5,
    NBD_OPT_INFO = 6,
    NBD_OPT_GO = 7,
    NBD_OPT_STRUCTURED_REPLY = 8,
    NBD_OPT_LIST_META_CONTEXT = 9,
    NBD_OPT_SET_META_CONTEXT = 10,
};

enum {
    NBD_REP_ACK = 1,
    NBD_REP_SERVER = 2,
    NBD_REP_INFO = 3,
    NBD_REP_META_CONTEXT = 4,
};
#define NBD_REP_ERR_UNSUP    (0x80000000u | 1)
#define NBD_REP_ERR_POLICY   (0x80000000u | 2)
#define NBD_REP_ERR_INVALID  (0x80000000u | 3)
#define NBD_REP_ERR_TLS_REQD (0x80000000u | 5)
#define NBD_REP_ERR_UNKNOWN  (0x80000000u | 6)
#define NBD_REP_ERR_TOO_BIG  (0x80000000u | 9)

enum {
    NBD_INFO_EXPORT = 0,
    NBD_INFO_NAME = 1,
    NBD_INFO_DESCRIPTION = 2,
    NBD_INFO_BLOCK_SIZE = 3,
};

/* What an export can do */
enum {
    NBD_HAS_FLAGS = 1 << 0,
    NBD_READ_ONLY = 1 << 1,
    NBD_SEND_FLUSH = 1 << 2,
    NBD_SEND_FUA = 1 << 3,
    NBD_SEND_TRIM = 1 << 5,
    NBD_SEND_WRITE_ZEROES = 1 << 6,
    NBD_SEND_DF = 1 << 7,
    NBD_CAN_MULTI_CONN = 1 << 8,
    NBD_SEND_CACHE = 1 << 10,
};

enum {
    NBD_CMD_READ = 0,
    NBD_CMD_WRITE = 1,
    NBD_CMD_DISCONNECT = 2,
    NBD_CMD_FLUSH = 3,
    NBD_CMD_TRIM = 4,
    NBD_CMD_CACHE = 5,
    NBD_CMD_WRITE_ZEROES = 6,
    NBD_CMD_BLOCK_STATUS = 7,
};

enum {
    NBD_FLAG_FUA = 1 << 0,
    NBD_FLAG_NO_HOLE = 1 << 1,
    NBD_FLAG_DF = 1 << 2,
    NBD_FLAG_REQ_ONE = 1 << 3,
};

/* Chunks of a structured reply */
enum { NBD_CHUNK_DONE = 1 };
enum {
    NBD_CHUNK_NONE = 0,
    NBD_CHUNK_DATA = 1,       /* | offset 8 | data | */
    NBD_CHUNK_STATUS = 5,     /* | context 4 | (length 4 | flags 4) … | */
    NBD_CHUNK_ERROR = 0x8001, /* | error 4 | length 2 | message | */
};

/* Flags of base:allocation */
enum { NBD_STATE_HOLE = 1, NBD_STATE_ZERO = 2 };

/* Errors on the wire, whatever the host calls them */
enum {
    NBD_EPERM = 1,
    NBD_EIO = 5,
    NBD_ENOMEM = 12,
    NBD_EINVAL = 22,
    NBD_ENOSPC = 28,
    NBD_ENOTSUP = 95,
    NBD_ESHUTDOWN = 108,
};
