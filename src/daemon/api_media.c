/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Media, and the machines that use them; see api.h. The registry of media learns what became of
 * machines when it is next asked for: until then nobody looks at it.
 */
#include <string.h>

#include "base/address.h"
#include "base/i18n.h"
#include "daemon/api.h"
#include "daemon/machine_json.h"
#include "daemon/request.h"
#include "vm/path.h"

/* The registry's file may say that images build on each other in a circle. */
#define CHAIN_MAX 256

/* ---- the registry of media ------------------------------------------------------------------- */

static Media *media_of(Api *api)
{
    return registry_media(api->registry, NULL);
}

/* Who uses what, and what that points to. */
typedef struct Users {
    GArray *all; /* of MediaUser */
    GPtrArray *texts, *configs;
} Users;

static void users_init(Users *users)
{
    users->all = g_array_new(FALSE, FALSE, sizeof(MediaUser));
    users->texts = g_ptr_array_new_with_free_func(g_free);
    users->configs = g_ptr_array_new_with_free_func((GDestroyNotify)vm_tree_free);
}

static void users_clear(Users *users)
{
    g_array_unref(users->all);
    g_ptr_array_unref(users->texts);
    g_ptr_array_unref(users->configs);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Users, users_clear)

static void add_user(Users *users, const Machine *machine, const char *snapshot,
                     const VmConfig *config)
{
    MediaUser user = {machine->uuid, snapshot, config, machine->folder};

    g_array_append_val(users->all, user);
}

/* One whose file cannot be read uses what it used. */
static void add_snapshots(Users *users, const Machine *machine)
{
    g_auto(GStrv) all = vm_snapshot_list(machine->config);

    for (char **uuid = all; *uuid; uuid++) {
        VmConfig *kept = vm_snapshot_load(machine->config, machine->folder, *uuid, NULL);
        if (!kept)
            continue;
        g_ptr_array_add(users->configs, kept);
        g_ptr_array_add(users->texts, g_strdup(*uuid));
        add_user(users, machine, users->texts->pdata[users->texts->len - 1], kept);
    }
}

static bool sync_machines(Api *api, GError **error)
{
    GPtrArray *all = registry_list(api->registry);
    g_auto(Users) users;

    users_init(&users);
    for (guint i = 0; i < all->len; i++) {
        const Machine *machine = all->pdata[i];
        if (!machine->config || machine->media_known)
            continue;
        add_user(&users, machine, NULL, machine->config);
        add_snapshots(&users, machine);
    }
    if (!media_sync(media_of(api), (const MediaUser *)users.all->data, users.all->len, error))
        return false;
    for (guint i = 0; i < all->len; i++) {
        Machine *machine = all->pdata[i];
        machine->media_known |= machine->config != NULL;
    }
    return true;
}

static bool is_gone(Api *api, const MediumUse *use)
{
    const Machine *machine = registry_find(api->registry, use->machine, NULL);
    g_autofree char *place = g_strconcat("snapshots.", use->snapshot, NULL);

    return !machine || (use->snapshot && machine->config && !vm_tree_has(machine->config, place));
}

/* Machines and snapshots that were deleted use nothing any more. */
static bool forget_machines(Api *api, GError **error)
{
    g_autoptr(GPtrArray) media = media_list(media_of(api), error);
    g_autoptr(GArray) gone = g_array_new(FALSE, FALSE, sizeof(MediaUser));

    for (guint i = 0; media && i < media->len; i++) {
        const Medium *medium = media->pdata[i];
        for (guint k = 0; k < medium->uses->len; k++) {
            const MediumUse *use = medium->uses->pdata[k];
            MediaUser user = {use->machine, use->snapshot, NULL, NULL};
            if (is_gone(api, use))
                g_array_append_val(gone, user);
        }
    }
    return media && media_sync(media_of(api), (const MediaUser *)gone->data, gone->len, error);
}

bool api_media_begin(Api *api, GError **error)
{
    return registry_media(api->registry, error) && sync_machines(api, error) &&
           forget_machines(api, error);
}

/* Whether it names an image where the other did not. */
static bool names_other_media(const VmConfig *old, const VmConfig *config)
{
    g_autoptr(VmConfig) none = old ? NULL : vm_tree_new(&vm_config_schema);
    g_autoptr(GPtrArray) changes = vm_tree_diff(old ? old : none, config);

    for (guint i = 0; i < changes->len; i++) {
        if (g_str_has_suffix(changes->pdata[i], ".medium"))
            return true;
    }
    return false;
}

void api_adopt_media(Api *api, const VmConfig *old, VmConfig *config, const char *folder)
{
    g_autoptr(GError) error = NULL;

    if (names_other_media(old, config) &&
        (!api_media_begin(api, &error) || !media_adopt(media_of(api), old, config, folder, &error)))
        g_warning("%s", error->message);
}

/* The medium that the path names. */
static Medium *find(Api *api, Request *request, GError **error)
{
    const char *name = request_path(request)[2]; /* after "v1" and "media" */

    if (!api_media_begin(api, error))
        return NULL;
    if (g_path_is_absolute(name) || is_address(name) || g_uuid_string_is_valid(name))
        return media_find(media_of(api), name, error);
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND,
                _("there is no medium '%s'; use a UUID or an absolute path"), name);
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

static void set_snapshot_name(JsonObject *object, const Machine *machine, const char *snapshot)
{
    g_autofree char *place = g_strconcat("snapshots.", snapshot, NULL);
    bool is_there = snapshot && machine && machine->config && vm_tree_has(machine->config, place);
    g_autofree char *name = is_there ? vm_tree_string(machine->config, "%s.name", place) : NULL;

    set_text(object, "snapshot_name", name);
}

static JsonArray *uses_json(Api *api, const Medium *medium)
{
    JsonArray *array = json_array_new();

    for (guint i = 0; i < medium->uses->len; i++) {
        const MediumUse *use = medium->uses->pdata[i];
        JsonObject *object = json_object_new();
        const Machine *machine = registry_find(api->registry, use->machine, NULL);
        json_object_set_string_member(object, "machine", use->machine);
        set_text(object, "name", machine ? machine->name : NULL);
        set_text(object, "snapshot", use->snapshot);
        set_snapshot_name(object, machine, use->snapshot);
        json_object_set_string_member(object, "place", use->place);
        set_text(object, "mode", use->mode);
        json_array_add_object_element(array, object);
    }
    return array;
}

static JsonNode *medium_json(Api *api, const Medium *medium)
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
    json_object_set_array_member(object, "uses", uses_json(api, medium));
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
    g_autoptr(GPtrArray) all =
        api_media_begin(api, &error) ? media_list(media_of(api), &error) : NULL;
    JsonNode *node;
    JsonArray *array;

    if (!all) {
        request_fail(request, error);
        return;
    }
    array = json_array_new();
    for (guint i = 0; i < all->len; i++)
        json_array_add_element(array, medium_json(api, all->pdata[i]));
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
                    _("cannot add that; send a path, and disk, cdrom or floppy as its kind"));
        return NULL;
    }
    bool is_named = is_address(texts[PATH]) || api_needs_absolute("path", texts[PATH], error);

    return is_named && api_media_begin(api, error)
               ? media_add(media_of(api), kind, texts[PATH], texts[FORMAT], texts[MODE], error)
               : NULL;
}

void api_medium_add(Api *api, Request *request, Machine *unused)
{
    GError *error = NULL;
    JsonObject *body = request_json(request, "path kind format mode", &error);
    g_autoptr(Medium) medium = body ? add(api, body, &error) : NULL;

    if (!medium) {
        request_fail(request, error);
        return;
    }
    tell(api, medium->uuid);
    request_answer(request, SOUP_STATUS_CREATED,
                   json_object_of("medium", medium_json(api, medium)));
}

void api_medium_get(Api *api, Request *request, Machine *unused)
{
    GError *error = NULL;
    g_autoptr(Medium) medium = find(api, request, &error);

    if (medium)
        request_answer(request, SOUP_STATUS_OK, json_object_of("medium", medium_json(api, medium)));
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
                          _("cannot tell whether to delete the file; use true or false"));
        return;
    }
    medium = find(api, request, &error);
    if (!medium || !media_remove(media_of(api), medium->uuid, delete_file, &error)) {
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
    JsonObject *body = member ? request_json(request, member, &error) : NULL;
    const char *text = body ? api_text(body, member, &error) : NULL;
    g_autoptr(Medium) medium = NULL;
    g_autoptr(Medium) now = NULL;

    if (member && !text && !error)
        g_set_error(&error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    _("cannot change the medium without a %s"), member);
    medium = error ? NULL : find(api, request, &error);
    if (medium && action(api, medium, text, &error))
        now = media_find(media_of(api), medium->uuid, &error);
    if (!now) {
        request_fail(request, error);
        return;
    }
    tell(api, now->uuid);
    request_answer(request, SOUP_STATUS_OK, json_object_of("medium", medium_json(api, now)));
}

static bool refresh(Api *api, const Medium *medium, const char *unused, GError **error)
{
    return media_refresh(media_of(api), medium->uuid, error);
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

    if (!media_release(media_of(api), medium->uuid, (const MediaMachine *)machines->data,
                       machines->len, error))
        return false;
    tell_users(api, machines);
    return true;
}

/* A running machine has it open in the old mode. */
static bool set_mode(Api *api, const Medium *medium, const char *mode, GError **error)
{
    g_autoptr(GArray) machines = users(api, medium, false);

    for (guint i = 0; i < machines->len; i++) {
        const char *uuid = g_array_index(machines, MediaMachine, i).uuid;
        const Machine *machine = registry_find(api->registry, uuid, NULL);
        if (machine && machine_is_on(machine))
            return machine_wrong_state(machine, N_("cannot change how its image is used"),
                                       _("turn it off first"), error);
    }
    if (!media_set_mode(media_of(api), medium->uuid, mode, (const MediaMachine *)machines->data,
                        machines->len, error))
        return false;
    tell_users(api, machines);
    return true;
}

void api_medium_set(Api *api, Request *request, Machine *unused)
{
    act(api, request, "mode", set_mode);
}

void api_medium_release(Api *api, Request *request, Machine *unused)
{
    act(api, request, NULL, release);
}

/* ---- moving ---------------------------------------------------------------------------------- */

/* A copy to another file system, made by a thread. */
typedef struct Moving {
    Api *api;
    Request *request;
    char *uuid, *to;
    MediaCopy *copy;
} Moving;

static void moving_free(Moving *moving)
{
    media_copy_free(moving->copy);
    g_free(moving->uuid);
    g_free(moving->to);
    g_free(moving);
}

/* Answers, if it could be moved or never will be; true with neither: it has to be copied. */
static bool move(Api *api, Request *request, const Medium *medium, const char *to, MediaCopy *copy)
{
    g_autoptr(GArray) machines = users(api, medium, false);
    g_autoptr(Medium) now = NULL;
    GError *error = NULL;
    bool moved = media_move(media_of(api), medium->uuid, to, copy,
                            (const MediaMachine *)machines->data, machines->len, &error);

    if (!moved && !copy && g_error_matches(error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK)) {
        g_error_free(error);
        return true;
    }
    now = moved ? media_find(media_of(api), medium->uuid, &error) : NULL;
    if (!now) {
        request_fail(request, error);
        return false;
    }
    tell_users(api, machines);
    tell(api, now->uuid);
    request_answer(request, SOUP_STATUS_OK, json_object_of("medium", medium_json(api, now)));
    return false;
}

static void copy_in_thread(GTask *task, gpointer source, gpointer data, GCancellable *cancellable)
{
    Moving *moving = data;
    GError *error = NULL;

    if (media_copy_run(moving->copy, &error))
        g_task_return_boolean(task, TRUE);
    else
        g_task_return_error(task, error);
}

/* What became of the medium meanwhile counts. */
static void on_copied(GObject *source, GAsyncResult *result, gpointer data)
{
    Moving *moving = data;
    GError *error = NULL;
    bool copied = g_task_propagate_boolean(G_TASK(result), &error);
    g_autoptr(Medium) medium = copied && api_media_begin(moving->api, &error)
                                   ? media_find(media_of(moving->api), moving->uuid, &error)
                                   : NULL;

    moving->api->busy--;
    request_speak(moving->request);
    if (medium)
        move(moving->api, moving->request, medium, moving->to, moving->copy);
    else
        request_fail(moving->request, error);
    moving_free(moving);
}

static void begin_copy(Api *api, Request *request, const Medium *medium, const char *to)
{
    GError *error = NULL;
    MediaCopy *copy = media_copy_new(media_of(api), medium->path, to, &error);
    Moving *moving;
    g_autoptr(GTask) task = NULL;

    if (!copy) {
        request_fail(request, error);
        return;
    }
    moving = g_new0(Moving, 1);
    *moving = (Moving){api, request, g_strdup(medium->uuid), g_strdup(to), copy};
    api->busy++;
    task = g_task_new(NULL, NULL, on_copied, moving);
    g_task_set_task_data(task, moving, NULL);
    g_task_run_in_thread(task, copy_in_thread);
}

void api_medium_move(Api *api, Request *request, Machine *unused)
{
    GError *error = NULL;
    JsonObject *body = request_json(request, "path", &error);
    const char *text = body ? api_text(body, "path", &error) : NULL;
    g_autofree char *to = text ? g_canonicalize_filename(text, "/") : NULL;
    g_autoptr(Medium) medium = NULL;

    if (!text && !error)
        g_set_error(&error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    _("cannot change the medium without a path"));
    if (!error && api_needs_absolute("path", text, &error))
        medium = find(api, request, &error);
    if (!medium)
        request_fail(request, error);
    else if (move(api, request, medium, to, NULL))
        begin_copy(api, request, medium, to);
}

/* ---- machines that move or go -----------------------------------------------------------------
 */

/* Of a machine alone, in its folder. */
static bool is_own(const Medium *medium, const Machine *machine)
{
    g_autofree char *inside = vm_path_store(machine->folder, medium->path);
    bool own = medium->uses->len && !g_path_is_absolute(inside);

    for (guint i = 0; i < medium->uses->len; i++) {
        const MediumUse *use = medium->uses->pdata[i];
        own &= !strcmp(use->machine, machine->uuid);
    }
    return own;
}

static bool has_other_users(const Medium *medium, const Machine *machine)
{
    for (guint i = 0; i < medium->uses->len; i++) {
        const MediumUse *use = medium->uses->pdata[i];
        if (strcmp(use->machine, machine->uuid) != 0)
            return true;
    }
    return false;
}

/* The same, or what builds on it is: somebody's chain. */
static bool is_in_own_chain(GPtrArray *all, const Medium *medium, const Machine *machine,
                            unsigned depth)
{
    g_autofree char *inside = vm_path_store(machine->folder, medium->path);

    if (medium->uses->len || g_path_is_absolute(inside))
        return is_own(medium, machine);
    for (guint i = 0; medium->has_children && depth < CHAIN_MAX && i < all->len; i++) {
        const Medium *child = all->pdata[i];
        if (!g_strcmp0(child->parent, medium->uuid) &&
            is_in_own_chain(all, child, machine, depth + 1))
            return true;
    }
    return false;
}

/* What others need is left, and so is what that builds on (`spare`; NULL: that is not asked). */
static bool has_other_children(GPtrArray *all, const Medium *medium, const Machine *machine,
                               GHashTable *spare)
{
    for (guint i = 0; medium->has_children && i < all->len; i++) {
        const Medium *child = all->pdata[i];
        bool is_others = spare
                             ? !is_own(child, machine) || g_hash_table_contains(spare, child->path)
                             : !is_in_own_chain(all, child, machine, 0);
        if (!g_strcmp0(child->parent, medium->uuid) && is_others)
            return true;
    }
    return false;
}

GHashTable *api_media_spare(Api *api, const Machine *machine, GError **error)
{
    g_autoptr(GPtrArray) all =
        api_media_begin(api, error) ? media_list(media_of(api), error) : NULL;
    GHashTable *spare = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

    for (guint i = 0; all && i < all->len; i++) {
        const Medium *medium = all->pdata[i];
        if (has_other_users(medium, machine) || has_other_children(all, medium, machine, NULL))
            g_hash_table_add(spare, g_strdup(medium->path));
    }
    if (!all)
        g_clear_pointer(&spare, g_hash_table_unref);
    return spare;
}

GHashTable *api_media_of(Api *api, const Machine *machine, GPtrArray *own, GError **error)
{
    g_autoptr(GHashTable) spare = api_media_spare(api, machine, error);
    g_autoptr(GPtrArray) all = spare ? media_list(media_of(api), error) : NULL;
    guint before = 0;

    if (!all)
        return NULL;
    for (guint i = 0; i < all->len; i++) {
        const Medium *medium = all->pdata[i];
        if (uses(medium, machine))
            g_ptr_array_add(own, g_strdup(medium->path));
    }
    do {
        before = g_hash_table_size(spare);
        for (guint i = 0; i < all->len; i++) {
            const Medium *medium = all->pdata[i];
            if (has_other_children(all, medium, machine, spare))
                g_hash_table_add(spare, g_strdup(medium->path));
        }
    } while (g_hash_table_size(spare) > before);
    return g_steal_pointer(&spare);
}

/* One that others build on goes after them; one in use elsewhere stays, and says so. */
void api_media_forget(Api *api, const GPtrArray *paths)
{
    g_autoptr(GError) error = NULL;
    bool found = api_media_begin(api, &error);

    if (!found)
        g_warning("%s", error->message);
    while (found) {
        found = false;
        for (guint i = 0; i < paths->len; i++) {
            const char *path = paths->pdata[i];
            if (!g_file_test(path, G_FILE_TEST_EXISTS))
                found |= media_remove(media_of(api), path, false, NULL);
        }
    }
}
