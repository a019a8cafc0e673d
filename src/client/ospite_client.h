/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A client of ospited's API (api/openapi.yaml). Calls wait for the answer; the daemon is started
 * when there is none. A client belongs to one thread, and uses that thread's default main context.
 */
#pragma once

#include <json-glib/json-glib.h>
#include <libsoup/soup.h>
#include <stdbool.h>

/* The API's error codes, as far as callers tell them apart. */
#define OSPITE_ERROR (ospite_error_quark())
typedef enum OspiteError {
    OSPITE_ERROR_FAILED,
    OSPITE_ERROR_INVALID,
    OSPITE_ERROR_NOT_FOUND,
    OSPITE_ERROR_WRONG_STATE,
    OSPITE_ERROR_TIMED_OUT,
} OspiteError;
GQuark ospite_error_quark(void);

typedef struct OspiteClient OspiteClient;

/* Connects. The daemon that is started is `ospited` beside the program, in $OSPITED, or in the
 * path. */
OspiteClient *ospite_client_new(GError **error);
void ospite_client_free(OspiteClient *client);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(OspiteClient, ospite_client_free)

/*
 * "GET", "/vms/{name}" with the name escaped (ospite_client_path()), and a body (taken) or NULL.
 * Returns the answer's JSON (new), or NULL with an OSPITE_ERROR whose message is "MESSAGE; HINT".
 */
JsonNode *ospite_client_call(OspiteClient *client, const char *method, const char *path,
                             JsonNode *body, GError **error);
/* The same with bodies that are texts. */
char *ospite_client_call_text(OspiteClient *client, const char *method, const char *path,
                              const char *body, GError **error);
/* Opens a WebSocket: "/events" or "/vms/{name}/console". */
SoupWebsocketConnection *ospite_client_open(OspiteClient *client, const char *path, GError **error);
/* "/vms/NAME" and what follows it, with the name escaped (new). */
char *ospite_client_vm_path(const char *name, const char *rest);
