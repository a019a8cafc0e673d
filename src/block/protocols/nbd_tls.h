/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the module `tls` (base/module.h) does for nbd_stream.h, whose calls these are. */
#pragma once

#include "block/protocols/nbd_stream.h"

typedef struct NbdTlsApi {
    NbdTls *(*new_certificates)(const char *folder, bool verify_peer, GError **error);
    NbdTls *(*new_psk)(const char *file, GError **error);
    void (*free)(NbdTls *tls);
    bool (*start)(NbdStream *stream, NbdTls *tls);
    int (*handshake)(NbdStream *stream);
    bool (*wants_to_write)(const NbdStream *stream);
    /* These are for streams with a session only. */
    ssize_t (*recv)(NbdStream *stream, void *data, size_t size);
    ssize_t (*send)(NbdStream *stream, const struct iovec *iov, int count);
    bool (*has_pending)(const NbdStream *stream);
    void (*end_session)(NbdStream *stream);
} NbdTlsApi;
