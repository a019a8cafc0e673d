/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Media, and the machines that use them; see api.h. The registry of media learns what became of
 * machines when it is next asked for: until then nobody looks at it.
 */
#include <string.h>
#include <sys/stat.h>

#include "daemon/api.h"
#include "daemon/machine_json.h"

/* ---- the registry of media ------------------------------------------------------------------- */

static bool sync_machines(Api *api, GError **error)
{
    GPtrArray *all = registry_list(api->registry);

    for (guint i = 0; i < all->len; i++) {
        Machine *machine = all->pdata[i];
        if (!machine->config || machine->media_known)
            continue;
        if (!media_sync(api->media, machine->uuid, NULL, machine->config, machine->folder, error))
            return false;
        machine->media_known = true;
    }
    return true;
}

/* Machines that were deleted use nothing any more. */
static bool forget_machines(Api *api, GError **error)
{
    g_autoptr(GPtrArray) media = media_list(api->media, error);

    for (guint i = 0; media && i < media->len; i++) {
        const Medium *medium = media->pdata[i];
        for (guint k = 0; k < medium->uses->len; k++) {
            const MediumUse *use = medium->uses->pdata[k];
            if (!registry_find(api->registry, use->machine, NULL) &&
                !media_sync(api->media, use->machine, use->snapshot, NULL, NULL, error))
                return false;
        }
    }
    return media != NULL;
}

bool api_media_open(Api *api, GError **error)
{
    if (!api->media)
        api->media = media_open(api->config_folder, error);
    return api->media != NULL;
}

static bool begin(Api *api, GError **error)
{
    return api_media_open(api, error) && sync_machines(api, error) && forget_machines(api, error);
}

/* The medium that the path names. */
static Medium *find(Api *api, Request *request, GError **error)
{
    const char *name = request_path(request)[2]; /* after "v1" and "media" */

    if (!begin(api, error))
        return NULL;
    if (g_path_is_absolute(name) || g_uuid_string_is_valid(name))
        return media_find(api->media, name, error);
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND,
                "there is no medium '%s'; use a UUID or an absolute path", name);
    return NULL;
}

/* ---- as JSON --------------------------------------------------------------------------------- */

static void set_text(JsonObject *object, const char *name, const char *text)
{
    if (text)
        json_object_set_string_member(object, name, text);
    else
        json_object_set_null_member(object, name);
}

static JsonArray *uses_json(const Medium *medium)
{
    JsonArray *array = json_array_new();

    for (guint i = 0; i < medium->uses->len; i++) {
        const MediumUse *use = medium->uses->pdata[i];
        JsonObject *object = json_object_new();
        json_object_set_string_member(object, "machine", use->machine);
        set_text(object, "snapshot", use->snapshot);
        json_object_set_string_member(object, "place", use->place);
        json_array_add_object_element(array, object);
    }
    return array;
}

static JsonNode *medium_json(const Medium *medium)
{
    JsonNode *node = json_node_new(JSON_NODE_OBJECT);
    JsonObject *object = json_object_new();

    json_object_set_string_member(object, "uuid", medium->uuid);
    json_object_set_string_member(object, "kind", medium_kind_name(medium->kind));
    json_object_set_string_member(object, "path", medium->path);
    json_object_set_string_member(object, "format", medium->format);
    json_object_set_string_member(object, "mode", medium->mode);
    set_text(object, "parent", medium->parent);
    json_object_set_int_member(object, "virtual_size", (gint64)medium->virtual_size);
    json_object_set_int_member(object, "actual_size", (gint64)medium->actual_size);
    json_object_set_boolean_member(object, "accessible", medium->accessible);
    set_text(object, "problem", medium->problem);
    json_object_set_boolean_member(object, "has_children", medium->has_children);
    json_object_set_array_member(object, "uses", uses_json(medium));
    json_node_take_object(node, object);
    return node;
}

static void tell(Api *api, const char *uuid)
{
    events_tell(api->events, &(Event){.kind = "media-changed", .uuid = uuid});
}

/* ---- looking, adding, removing --------------------------------------------------------------- */

void api_media_list(Api *api, Request *request, Machine *unused)
{
    GError *error = NULL;
    g_autoptr(GPtrArray) all = begin(api, &error) ? media_list(api->media, &error) : NULL;
    JsonNode *node;
    JsonArray *array;

    if (!all) {
        request_fail(request, error);
        return;
    }
    array = json_array_new();
    for (guint i = 0; i < all->len; i++)
        json_array_add_element(array, medium_json(all->pdata[i]));
    node = json_node_new(JSON_NODE_ARRAY);
    json_node_take_array(node, array);
    request_answer(request, SOUP_STATUS_OK, json_object_of("media", node));
}

static Medium *add(Api *api, JsonObject *body, GError **error)
{
    enum { PATH, KIND, FORMAT, MODE, TEXTS };
    static const char *const names[TEXTS] = {"path", "kind", "format", "mode"};
    const char *texts[TEXTS] = {NULL};
    g_autoptr(GError) bad = NULL;
    MediumKind kind;

    for (unsigned i = 0; i < TEXTS && !bad; i++)
        texts[i] = api_text(body, names[i], &bad);
    if (bad) {
        g_propagate_error(error, g_steal_pointer(&bad));
        return NULL;
    }
    kind = medium_kind_find(texts[KIND] ? texts[KIND] : "disk");
    if (!texts[PATH] || kind == MEDIUM_KINDS) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    "cannot add that; send a path, and disk, cdrom or floppy as its kind");
        return NULL;
    }
    return api_needs_absolute("path", texts[PATH], error) && begin(api, error)
               ? media_add(api->media, kind, texts[PATH], texts[FORMAT], texts[MODE], error)
               : NULL;
}

void api_medium_add(Api *api, Request *request, Machine *unused)
{
    GError *error = NULL;
    JsonObject *body = request_json(request, &error);
    g_autoptr(Medium) medium = body ? add(api, body, &error) : NULL;

    if (!medium) {
        request_fail(request, error);
        return;
    }
    tell(api, medium->uuid);
    request_answer(request, SOUP_STATUS_CREATED, json_object_of("medium", medium_json(medium)));
}

void api_medium_get(Api *api, Request *request, Machine *unused)
{
    GError *error = NULL;
    g_autoptr(Medium) medium = find(api, request, &error);

    if (medium)
        request_answer(request, SOUP_STATUS_OK, json_object_of("medium", medium_json(medium)));
    else
        request_fail(request, error);
}

void api_medium_remove(Api *api, Request *request, Machine *unused)
{
    const char *word = request_query(request, "delete");
    bool delete_file = !g_strcmp0(word, "true");
    g_autoptr(Medium) medium = NULL;
    GError *error = NULL;

    if (word && !delete_file && strcmp(word, "false")) {
        request_fail_code(request, SOUP_STATUS_BAD_REQUEST, "invalid",
                          "cannot tell whether to delete the file; use true or false");
        return;
    }
    medium = find(api, request, &error);
    if (!medium || !media_remove(api->media, medium->uuid, delete_file, &error)) {
        request_fail(request, error);
        return;
    }
    tell(api, medium->uuid);
    request_answer(request, SOUP_STATUS_OK,
                   json_node_init_object(json_node_alloc(), json_object_new()));
}

/* ---- changing -------------------------------------------------------------------------------- */

/* Does something to a medium; `text` is what the body says, NULL without. */
typedef bool (*MediumAction)(Api *api, const Medium *medium, const char *text, GError **error);

/* `member`: of the body, which must have it; NULL: none. */
static void act(Api *api, Request *request, const char *member, MediumAction action)
{
    GError *error = NULL;
    JsonObject *body = member ? request_json(request, &error) : NULL;
    const char *text = body ? api_text(body, member, &error) : NULL;
    g_autoptr(Medium) medium = NULL;
    g_autoptr(Medium) now = NULL;

    if (member && !text && !error)
        g_set_error(&error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    "cannot change the medium without a %s", member);
    medium = error ? NULL : find(api, request, &error);
    if (medium && action(api, medium, text, &error))
        now = media_find(api->media, medium->uuid, &error);
    if (!now) {
        request_fail(request, error);
        return;
    }
    tell(api, now->uuid);
    request_answer(request, SOUP_STATUS_OK, json_object_of("medium", medium_json(now)));
}

static bool set_mode(Api *api, const Medium *medium, const char *mode, GError **error)
{
    return media_set_mode(api->media, medium->uuid, mode, error);
}

void api_medium_set(Api *api, Request *request, Machine *unused)
{
    act(api, request, "mode", set_mode);
}

static bool refresh(Api *api, const Medium *medium, const char *unused, GError **error)
{
    return media_refresh(api->media, medium->uuid, error);
}

void api_medium_refresh(Api *api, Request *request, Machine *unused)
{
    act(api, request, NULL, refresh);
}

/* ---- changing machines with it --------------------------------------------------------------- */

static bool uses(const Medium *medium, const Machine *machine)
{
    for (guint i = 0; i < medium->uses->len; i++) {
        const MediumUse *use = medium->uses->pdata[i];
        if (!strcmp(use->machine, machine->uuid))
            return true;
    }
    return false;
}

/* Those that use it, as media.h wants them (of MediaMachine). */
static GArray *users(Api *api, const Medium *medium, bool only_off)
{
    GArray *machines = g_array_new(FALSE, FALSE, sizeof(MediaMachine));
    GPtrArray *all = registry_list(api->registry);

    for (guint i = 0; i < all->len; i++) {
        const Machine *machine = all->pdata[i];
        MediaMachine user = {machine->uuid, machine->file};
        if (uses(medium, machine) && !(only_off && machine_is_on(machine)))
            g_array_append_val(machines, user);
    }
    return machines;
}

/* Their files were changed below us. */
static void tell_users(Api *api, const GArray *machines)
{
    for (guint i = 0; i < machines->len; i++) {
        const char *uuid = g_array_index(machines, MediaMachine, i).uuid;
        const Machine *machine = registry_find(api->registry, uuid, NULL);
        if (machine)
            machine_tell(machine, "vm-changed");
    }
}

static bool release(Api *api, const Medium *medium, const char *unused, GError **error)
{
    g_autoptr(GArray) machines = users(api, medium, true);

    if (!media_release(api->media, medium->uuid, (const MediaMachine *)machines->data,
                       machines->len, error))
        return false;
    tell_users(api, machines);
    return true;
}

void api_medium_release(Api *api, Request *request, Machine *unused)
{
    act(api, request, NULL, release);
}

/* A copy of a large image would keep everybody waiting. */
static bool is_near(const Medium *medium, const char *to, GError **error)
{
    g_autofree char *folder = g_path_get_dirname(to);
    struct stat from, target;

    if (stat(medium->path, &from) < 0 || stat(folder, &target) < 0 || from.st_dev == target.st_dev)
        return true; /* what cannot be looked at is media_move()'s to tell */
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
                "cannot move '%s' to '%s': it is another file system; copy it with 'ospite disk "
                "convert' and attach the copy",
                medium->path, to);
    return false;
}

static bool move(Api *api, const Medium *medium, const char *to, GError **error)
{
    g_autoptr(GArray) machines = users(api, medium, false);

    if (!api_needs_absolute("path", to, error) || !is_near(medium, to, error) ||
        !media_move(api->media, medium->uuid, to, (const MediaMachine *)machines->data,
                    machines->len, error))
        return false;
    tell_users(api, machines);
    return true;
}

void api_medium_move(Api *api, Request *request, Machine *unused)
{
    act(api, request, "path", move);
}
