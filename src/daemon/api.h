/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the daemon answers: the operations of api/openapi.yaml, one table. Main thread. */
#pragma once

#include "daemon/registry.h"
#include "daemon/server.h"

typedef struct Api {
    Registry *registry;
    Events *events;
    unsigned busy; /* what goes on though its client may have left */
} Api;

/* A ServerHandler; `obj` is the Api. */
void api_handle(void *obj, Request *request);

/* ---- between the files of the API -------------------------------------------------------------
 */

/* `machine` NULL: the operation names none. */
typedef void (*ApiOperation)(Api *api, Request *request, Machine *machine);

void api_vm_list(Api *api, Request *request, Machine *machine);
void api_vm_create(Api *api, Request *request, Machine *machine);
void api_vm_get(Api *api, Request *request, Machine *machine);
void api_vm_set(Api *api, Request *request, Machine *machine);
void api_vm_delete(Api *api, Request *request, Machine *machine);
void api_vm_get_config(Api *api, Request *request, Machine *machine);
void api_vm_put_config(Api *api, Request *request, Machine *machine);
void api_vm_clone(Api *api, Request *request, Machine *machine);
void api_vm_move(Api *api, Request *request, Machine *machine);
void api_vm_log(Api *api, Request *request, Machine *machine);
void api_vm_start(Api *api, Request *request, Machine *machine);
void api_autostart(Api *api, Request *request, Machine *unused);
void api_vm_stop(Api *api, Request *request, Machine *machine);
void api_vm_power_off(Api *api, Request *request, Machine *machine);
void api_vm_reset(Api *api, Request *request, Machine *machine);
void api_vm_pause(Api *api, Request *request, Machine *machine);
void api_vm_resume(Api *api, Request *request, Machine *machine);
void api_vm_wait(Api *api, Request *request, Machine *machine);
void api_vm_console(Api *api, Request *request, Machine *machine);
void api_vm_screen(Api *api, Request *request, Machine *machine);
void api_vm_keys(Api *api, Request *request, Machine *machine);
void api_snapshot_list(Api *api, Request *request, Machine *machine);
void api_snapshot_take(Api *api, Request *request, Machine *machine);
void api_snapshot_get(Api *api, Request *request, Machine *machine);
void api_snapshot_set(Api *api, Request *request, Machine *machine);
void api_snapshot_restore(Api *api, Request *request, Machine *machine);
void api_snapshot_delete(Api *api, Request *request, Machine *machine);
/* These name no machine; a medium's name is in the request's path. */
void api_media_list(Api *api, Request *request, Machine *unused);
void api_medium_add(Api *api, Request *request, Machine *unused);
void api_medium_get(Api *api, Request *request, Machine *unused);
void api_medium_set(Api *api, Request *request, Machine *unused);
void api_medium_remove(Api *api, Request *request, Machine *unused);
void api_medium_release(Api *api, Request *request, Machine *unused);
void api_medium_refresh(Api *api, Request *request, Machine *unused);
void api_medium_move(Api *api, Request *request, Machine *unused);

/* The images that others than a machine use or build on (a new set of paths). */
GHashTable *api_media_spare(Api *api, const Machine *machine, GError **error);
/* All images of a machine (of char *); those that must stay without it, with what they need (a new
 * set of paths). */
GHashTable *api_media_of(Api *api, const Machine *machine, GPtrArray *own, GError **error);
/* Images whose files are gone with their machine are no images any more. */
void api_media_forget(Api *api, const GPtrArray *paths);
/* What a killed daemon was deleting goes on. */
void api_snapshots_resume(Api *api);
/* The registry of media knows what machines use now. */
bool api_media_begin(Api *api, GError **error);
/* Disks that `config` (of a machine in `folder`) has and `old` (NULL: none) had not are used as
 * their media say, unless the configuration says how. A registry that cannot be read says nothing.
 */
void api_adopt_media(Api *api, const VmConfig *old, VmConfig *config, const char *folder);

/* Answers {"vm": …}. */
void api_answer_machine(Request *request, const Machine *machine);
/* A member that must be a text; NULL when it is not there, with an error when it is something else.
 */
const char *api_text(JsonObject *body, const char *name, GError **error);
/* INVALID_ARGUMENT unless `path` is absolute and without control characters, or NULL. */
bool api_needs_absolute(const char *name, const char *path, GError **error);
