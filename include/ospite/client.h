/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file
 * The connection to the daemon, errors, and how answers are read.
 */
#pragma once

#include <gio/gio.h>
#include <json-glib/json-glib.h>

G_BEGIN_DECLS

/** The domain of libospite's errors. */
#define OSPITE_ERROR (ospite_error_quark())

/** What went wrong, as far as programs tell it apart. Numbers do not change. */
typedef enum OspiteError {
    OSPITE_ERROR_FAILED = 0,      /**< the message says what */
    OSPITE_ERROR_INVALID = 1,     /**< an argument or a setting is wrong */
    OSPITE_ERROR_NOT_FOUND = 2,   /**< there is no such machine, image or file */
    OSPITE_ERROR_WRONG_STATE = 3, /**< not while the machine is as it is: running, off, … */
    OSPITE_ERROR_TIMED_OUT = 4,   /**< it did not happen in time; it still may */
    OSPITE_ERROR_EXISTS = 5,      /**< the name or file is taken */
    OSPITE_ERROR_UNSUPPORTED = 6, /**< this version or this host cannot do it */
    OSPITE_ERROR_UNREACHABLE = 7, /**< there is no daemon, and none could be started; or it left */
} OspiteError;

/**
 * The quark behind #OSPITE_ERROR. Any thread.
 *
 * @return the quark
 */
GQuark ospite_error_quark(void);

/** A connection to the user's daemon. */
typedef struct OspiteClient OspiteClient;

/**
 * Connects to the daemon of this user, at `ospite/api` in `$XDG_RUNTIME_DIR`. When there is none,
 * one is started: the program that `$OSPITED` names, or `ospited` beside the calling program, or in
 * `$PATH`; it serves when this function returns, and leaves by itself when it is not needed.
 *
 * Where `$OSPITE_CONNECT` is https://HOST:PORT, it is the daemon there, which `$OSPITE_TOKEN_FILE`
 * and `$OSPITE_FINGERPRINT` make known to each other; names of files are then of that host.
 *
 * A daemon that is gone when a request comes, or goes before it has answered one that changes
 * nothing (GET), is replaced by a fresh one without a word. Any other request that is not answered
 * fails with #OSPITE_ERROR_UNREACHABLE: it may have been done, and is not repeated.
 *
 * @param error  set to #OSPITE_ERROR_UNREACHABLE, with the daemon's own complaint
 * @return the client, to be freed with ospite_client_free(); or NULL
 */
OspiteClient *ospite_client_new(GError **error);

/**
 * Ends the connection. Machines go on.
 *
 * @param client  a client, or NULL
 */
void ospite_client_free(OspiteClient *client);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(OspiteClient, ospite_client_free)

/**
 * Makes a request that has no function of its own, and waits for the answer.
 *
 * @param client  a client
 * @param method  "GET", "POST", "PATCH", "PUT" or "DELETE"
 * @param path    what follows `/v1` in the description, such as "/version", with names in it
 *                escaped (g_uri_escape_string())
 * @param body    what is sent; NULL: nothing. The caller keeps it
 * @param error   set to the API's error: its message and hint, joined by "; "
 * @return the answer (new), or NULL
 */
JsonNode *ospite_client_call(OspiteClient *client, const char *method, const char *path,
                             JsonNode *body, GError **error);

/**
 * The daemon's version, the API's, and the daemon's process.
 *
 * @param client  a client
 * @param error   set when it fails
 * @return `version`, `api`, `pid` (new); or NULL
 */
JsonNode *ospite_daemon_version(OspiteClient *client, GError **error);

/**
 * A text in an answer, by its place: `ospite_text(answer, "vm.last_end.reason")`.
 *
 * @param answer  an answer
 * @param place   names of members, joined by dots
 * @return the text, the answer's own; "" when there is none, or it is no text
 */
const char *ospite_text(JsonNode *answer, const char *place);

/**
 * A number in an answer, by its place: `ospite_number(answer, "vm.config.system.memory")`. Sizes
 * are bytes, booleans 0 or 1.
 *
 * @param answer  an answer
 * @param place   names of members, joined by dots
 * @return the number; 0 when there is none
 */
gint64 ospite_number(JsonNode *answer, const char *place);

/**
 * A list in an answer, by its place: `ospite_list(answer, "vms")`.
 *
 * @param answer  an answer
 * @param place   names of members, joined by dots
 * @return the list, the answer's own; NULL when there is none
 */
JsonArray *ospite_list(JsonNode *answer, const char *place);

G_END_DECLS
