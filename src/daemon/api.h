/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the daemon answers: the operations of api/openapi.yaml, one table. Main thread. */
#pragma once

#include "daemon/registry.h"
#include "daemon/server.h"

typedef struct Api {
    Registry *registry;
    Events *events;
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
void api_vm_move(Api *api, Request *request, Machine *machine);
void api_vm_log(Api *api, Request *request, Machine *machine);
void api_vm_start(Api *api, Request *request, Machine *machine);
void api_vm_stop(Api *api, Request *request, Machine *machine);
void api_vm_power_off(Api *api, Request *request, Machine *machine);
void api_vm_reset(Api *api, Request *request, Machine *machine);
void api_vm_pause(Api *api, Request *request, Machine *machine);
void api_vm_resume(Api *api, Request *request, Machine *machine);
void api_vm_wait(Api *api, Request *request, Machine *machine);
void api_vm_console(Api *api, Request *request, Machine *machine);
void api_vm_screen(Api *api, Request *request, Machine *machine);
void api_vm_keys(Api *api, Request *request, Machine *machine);

/* Answers {"vm": …}. */
void api_answer_machine(Request *request, const Machine *machine);
/* A member that must be a text; NULL when it is not there, with an error when it is something else.
 */
const char *api_text(JsonObject *body, const char *name, GError **error);
