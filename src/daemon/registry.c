/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See registry.h. A change of the list is written before it is believed; files made for a change
 * that fails are removed again. */
#include "daemon/registry.h"
#include "base/address.h"
#include "base/i18n.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <json-glib/json-glib.h>
#include <string.h>
#include <unistd.h>

#include "base/user_folders.h"
#include "daemon/json_read.h"
#include "vm/build.h"
#include "vm/path.h"

#define LIST_MAX_BYTES (16 * 1024 * 1024)

struct Registry {
    char *folder, *list; /* machines.json in it */
    char *runtime;
    char *unfinished; /* why a change that was interrupted could not be finished; NULL: none was */
    Media *media;     /* NULL: could not be opened yet */
    GPtrArray *machines; /* of Machine, sorted by name */
    Events *events;
};

static bool host_error(GError **error, const char *doing, const char *path)
{
    int code = errno;

    g_set_error(error, G_IO_ERROR, g_io_error_from_errno(code), _("cannot %s '%s': %s"), _(doing),
                path, g_strerror(code));
    return false;
}

static int compare_names(gconstpointer a, gconstpointer b)
{
    const Machine *left = *(Machine *const *)a, *right = *(Machine *const *)b;

    return strcmp(left->name, right->name);
}

/* ---- the list -------------------------------------------------------------------------------- */

static char *list_text(const Registry *registry)
{
    g_autoptr(JsonBuilder) builder = json_builder_new();
    g_autoptr(JsonNode) root = NULL;

    json_builder_begin_object(builder);
    json_builder_set_member_name(builder, "version");
    json_builder_add_int_value(builder, 1);
    json_builder_set_member_name(builder, "machines");
    json_builder_begin_array(builder);
    for (guint i = 0; i < registry->machines->len; i++) {
        const Machine *machine = registry->machines->pdata[i];
        json_builder_begin_object(builder);
        json_builder_set_member_name(builder, "uuid");
        json_builder_add_string_value(builder, machine->uuid);
        json_builder_set_member_name(builder, "file");
        json_builder_add_string_value(builder, machine->file);
        json_builder_end_object(builder);
    }
    json_builder_end_array(builder);
    json_builder_end_object(builder);
    root = json_builder_get_root(builder);
    return json_to_string(root, TRUE);
}

static bool can_change_list(const Registry *registry, GError **error)
{
    if (!registry->unfinished)
        return true;
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_FAILED,
                _("cannot change the list of machines: %s; mend that, then end the daemon"),
                registry->unfinished);
    return false;
}

/* A journal may hold an older list, which must not come after this one. */
static bool save_list(const Registry *registry, GError **error)
{
    g_autofree char *text = list_text(registry);

    return can_change_list(registry, error) && media_finish(registry->folder, error) &&
           vm_replace_file(registry->list, text, strlen(text), error);
}

static const char *text_member(JsonObject *object, const char *name)
{
    JsonNode *node = json_object_get_member(object, name);

    return node && json_node_get_value_type(node) == G_TYPE_STRING ? json_node_get_string(node)
                                                                   : NULL;
}

static bool bad_list(const Registry *registry, const char *why, GError **error)
{
    g_set_error(
        error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
        _("cannot read the list of machines '%s': %s; mend it, or move it away and register "
          "the machines again"),
        registry->list, why);
    return false;
}

static bool read_entries(Registry *registry, JsonNode *root, GError **error)
{
    JsonObject *object = json_node_get_object(root);
    JsonNode *machines = json_object_get_member(object, "machines");
    JsonArray *entries;

    if (!machines || !JSON_NODE_HOLDS_ARRAY(machines))
        return bad_list(registry, _("it holds no list"), error);
    if (json_object_get_int_member_with_default(object, "version", 0) != 1)
        return bad_list(registry, _("it is of a newer version"), error);
    entries = json_node_get_array(machines);
    for (guint i = 0; i < json_array_get_length(entries); i++) {
        JsonNode *node = json_array_get_element(entries, i);
        JsonObject *entry = JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
        const char *uuid = entry ? text_member(entry, "uuid") : NULL;
        const char *file = entry ? text_member(entry, "file") : NULL;
        if (!uuid || !file || !g_uuid_string_is_valid(uuid) || !g_path_is_absolute(file))
            return bad_list(registry, _("an entry has no UUID and file"), error);
        g_ptr_array_add(registry->machines,
                        machine_new(file, uuid, registry->runtime, registry->events));
    }
    return true;
}

static bool load_list(Registry *registry, GError **error)
{
    g_autoptr(JsonNode) root = NULL;
    g_autoptr(GError) why = NULL;
    g_autofree char *text = NULL;
    gsize size;

    if (!g_file_get_contents(registry->list, &text, &size, &why))
        return g_error_matches(why, G_FILE_ERROR, G_FILE_ERROR_NOENT) ||
               bad_list(registry, why->message, error);
    if (size > LIST_MAX_BYTES)
        return bad_list(registry, _("it is too large"), error);
    root = json_read(text, size, &why);
    return root ? read_entries(registry, root, error) : bad_list(registry, why->message, error);
}

/* Before anything is read: what a killed change left is finished or removed. */
static void begin_media(Registry *registry)
{
    g_autoptr(GError) error = NULL;

    if (!media_finish(registry->folder, &error)) {
        g_warning("%s", error->message);
        registry->unfinished = g_strdup(error->message);
    } else if (registry_media(registry, &error)) {
        media_clear_leftovers(registry->media);
    } else {
        g_warning("%s", error->message);
    }
}

static const char *name_of(void *obj, const char *uuid)
{
    const Machine *machine = registry_find(obj, uuid, NULL);

    return machine ? machine->name : NULL;
}

Media *registry_media(Registry *registry, GError **error)
{
    if (registry->media)
        return registry->media;
    registry->media = media_open(registry->folder, error);
    if (registry->media)
        media_set_names(registry->media, name_of, registry);
    return registry->media;
}

const char *registry_folder(const Registry *registry)
{
    return registry->folder;
}

Registry *registry_new(const char *config_folder, const char *runtime, Events *events,
                       GError **error)
{
    g_autoptr(Registry) registry = g_new0(Registry, 1);

    registry->folder = g_strdup(config_folder);
    registry->list = g_build_filename(config_folder, "machines.json", NULL);
    registry->runtime = g_strdup(runtime);
    registry->machines = g_ptr_array_new_with_free_func((GDestroyNotify)machine_free);
    registry->events = events;
    vm_clear_temporary(config_folder);
    begin_media(registry);
    if (!load_list(registry, error))
        return NULL;
    for (guint i = 0; i < registry->machines->len; i++) {
        Machine *machine = registry->machines->pdata[i];
        vm_clear_temporary(machine->folder);
        machine_adopt(machine);
    }
    return g_steal_pointer(&registry);
}

void registry_free(Registry *registry)
{
    if (!registry)
        return;
    g_ptr_array_unref(registry->machines);
    media_close(registry->media);
    g_free(registry->unfinished);
    g_free(registry->folder);
    g_free(registry->list);
    g_free(registry->runtime);
    g_free(registry);
}

GPtrArray *registry_list(Registry *registry)
{
    for (guint i = 0; i < registry->machines->len; i++)
        machine_refresh(registry->machines->pdata[i]);
    g_ptr_array_sort(registry->machines, compare_names);
    return registry->machines;
}

static Machine *find(const Registry *registry, const char *name)
{
    for (guint i = 0; i < registry->machines->len; i++) {
        Machine *machine = registry->machines->pdata[i];
        if (!strcmp(machine->name, name) || !strcmp(machine->uuid, name))
            return machine;
    }
    return NULL;
}

Machine *registry_find(Registry *registry, const char *name, GError **error)
{
    Machine *machine = find(registry, name);

    if (machine)
        machine_refresh(machine);
    else
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND,
                    _("there is no machine '%s'; 'ospite vm list' shows all"), name);
    return machine;
}

unsigned registry_running(const Registry *registry)
{
    unsigned running = 0;

    for (guint i = 0; i < registry->machines->len; i++)
        running += machine_is_busy(registry->machines->pdata[i]);
    return running;
}

GPtrArray *registry_autostart(Registry *registry)
{
    GPtrArray *all = registry_list(registry), *started = g_ptr_array_new();

    for (guint i = 0; i < all->len; i++) {
        if (machine_autostart(all->pdata[i]))
            g_ptr_array_add(started, all->pdata[i]);
    }
    return started;
}

/* ---- new machines ---------------------------------------------------------------------------- */

static bool check_new(const Registry *registry, const VmConfig *config, GError **error)
{
    g_autofree char *name = vm_tree_string(config, "general.name");
    g_autofree char *uuid = vm_tree_string(config, "general.uuid");

    if (!vm_config_check(config, error))
        return false;
    if (!find(registry, name) && !find(registry, uuid))
        return true;
    if (find(registry, name))
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_EXISTS,
                    _("there is a machine '%s' already; choose another name"), name);
    else
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_EXISTS,
                    _("the machine '%s' has the UUID %s already; give this one another (a copy is "
                      "made by 'ospite vm clone')"),
                    find(registry, uuid)->name, uuid);
    return false;
}

/* The machine is in the list, or nothing has changed. */
static Machine *add(Registry *registry, const VmConfig *config, const char *file, GError **error)
{
    g_autofree char *uuid = vm_tree_string(config, "general.uuid");
    Machine *machine = machine_new(file, uuid, registry->runtime, registry->events);

    g_ptr_array_add(registry->machines, machine);
    if (!save_list(registry, error)) {
        g_ptr_array_remove(registry->machines, machine);
        return NULL;
    }
    machine_adopt(machine);
    machine_tell(machine, "vm-created");
    return machine;
}

static bool make_folder(const char *parent, const char *folder, GError **error)
{
    if (g_mkdir_with_parents(parent, 0755) < 0)
        return host_error(error, N_("make the folder"), parent);
    if (g_mkdir(folder, 0700) == 0)
        return true;
    /* An empty one is what a killed daemon had begun with. */
    vm_clear_temporary(folder);
    if (g_rmdir(folder) == 0 && g_mkdir(folder, 0700) == 0)
        return true;
    if (errno == ENOTEMPTY || errno == ENOTDIR)
        errno = EEXIST;
    if (errno != EEXIST)
        return host_error(error, N_("make the folder"), folder);
    g_set_error(
        error, G_IO_ERROR, G_IO_ERROR_EXISTS,
        _("cannot make the folder '%s': it is there already; choose another name or folder, or "
          "register the machine in it"),
        folder);
    return false;
}

Machine *registry_create(Registry *registry, VmConfig *config, const char *folder, GError **error)
{
    g_autoptr(VmConfig) owned G_GNUC_UNUSED = config;
    g_autofree char *name = vm_tree_string(config, "general.name");
    g_autofree char *usual = user_machine_folder();
    g_autofree char *own = g_build_filename(folder ? folder : usual, name, NULL);
    g_autofree char *base = g_strconcat(name, VM_CONFIG_SUFFIX, NULL);
    g_autofree char *file = g_build_filename(own, base, NULL);
    Machine *machine;

    if (!check_new(registry, config, error) || !vm_build_can_set(NULL, config, error) ||
        !make_folder(folder ? folder : usual, own, error))
        return NULL;
    machine = vm_config_save(config, file, error) ? add(registry, config, file, error) : NULL;
    if (!machine) {
        g_unlink(file);
        g_rmdir(own);
    }
    return machine;
}

char *registry_new_folder(Registry *registry, const VmConfig *config, const char *folder,
                          GError **error)
{
    g_autofree char *name = vm_tree_string(config, "general.name");
    g_autofree char *usual = user_machine_folder();
    g_autofree char *own = g_build_filename(folder ? folder : usual, name, NULL);

    if (!check_new(registry, config, error))
        return NULL;
    if (g_mkdir_with_parents(folder ? folder : usual, 0755) < 0)
        host_error(error, N_("make the folder"), folder ? folder : usual);
    else if (g_file_test(own, G_FILE_TEST_EXISTS))
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_EXISTS,
                    _("cannot make the folder '%s': it is there already; choose another name or "
                      "folder"),
                    own);
    else
        return g_steal_pointer(&own);
    return NULL;
}

/* What the original's copy has and the clone must not. */
static void strip_clone(const char *made, const Machine *of)
{
    g_autofree char *base = g_path_get_basename(of->file);
    const char *const names[] = {base, "ospite.log", "ospite.log.1"};

    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *path = g_build_filename(made, names[i], NULL);
        g_unlink(path);
    }
}

/* Settings of snapshots, in the place of the original's. */
static bool save_kept(const VmClone *clone, const char *made, GError **error)
{
    for (guint i = 0; i < clone->kept->len; i++) {
        g_autofree char *path = vm_path_resolve(made, clone->kept_names->pdata[i], error);
        if (!path || !vm_config_save(clone->kept->pdata[i], path, error))
            return false;
    }
    return true;
}

Machine *registry_create_clone(Registry *registry, const VmClone *clone, const Machine *of,
                               FolderCopy *copy, GError **error)
{
    const VmConfig *config = clone->config;
    g_autofree char *name = vm_tree_string(config, "general.name");
    g_autofree char *base = g_strconcat(name, VM_CONFIG_SUFFIX, NULL);
    g_autofree char *file = g_build_filename(folder_copy_made(copy), base, NULL);
    g_autofree char *journal_path =
        g_build_filename(registry->folder, "leftover-clone.journal", NULL);
    g_autofree char *target = g_build_filename(folder_copy_target(copy), base, NULL);
    g_autoptr(Journal) journal = journal_new();

    if (!check_new(registry, config, error))
        return NULL;
    strip_clone(folder_copy_made(copy), of);
    if (!vm_config_save(config, file, error) || !save_kept(clone, folder_copy_made(copy), error) ||
        !folder_copy_steps(copy, journal, error))
        return NULL;
    folder_copy_settled(copy); /* one step, done or not */
    return journal_commit(journal, journal_path, error) ? add(registry, config, target, error)
                                                        : NULL;
}

/* ---- changes --------------------------------------------------------------------------------- */

static void set_place(Machine *machine, const char *file)
{
    g_free(machine->file);
    g_free(machine->folder);
    machine->file = g_strdup(file);
    machine->folder = g_path_get_dirname(file);
    machine->media_known = false;
}

/* All machines as media.h wants them; the files of `moving` are still at `file`. */
static GArray *media_machines(const Registry *registry, const Machine *moving, const char *file)
{
    GArray *machines = g_array_new(FALSE, FALSE, sizeof(MediaMachine));

    for (guint i = 0; i < registry->machines->len; i++) {
        const Machine *machine = registry->machines->pdata[i];
        MediaMachine one = {machine->uuid, machine == moving ? file : machine->file};
        if (machine->config)
            g_array_append_val(machines, one);
    }
    return machines;
}

/* All that knows of the folder changes with it: the list, the media, machines that use them. */
static bool commit_place(Registry *registry, const char *from, const char *to,
                         const GArray *machines, Journal *journal, GError **error)
{
    g_autofree char *text = list_text(registry);

    return journal_replace(journal, registry->list, text, error) &&
           media_follow(registry->media, from, to, (const MediaMachine *)machines->data,
                        machines->len, journal, error);
}

/* A folder is renamed, or its copy takes its place, or nothing has changed. */
static bool relocate(Registry *registry, Machine *machine, const char *folder, FolderCopy *copy,
                     GError **error)
{
    g_autofree char *old_file = g_strdup(machine->file);
    g_autofree char *old_folder = g_strdup(machine->folder);
    g_autofree char *base = g_path_get_basename(machine->file);
    g_autofree char *file = g_build_filename(folder, base, NULL);
    g_autoptr(GArray) machines = media_machines(registry, machine, old_file);
    g_autoptr(Journal) journal = journal_new();

    if (!registry_media(registry, error) || !media_finish(registry->folder, error) ||
        !(copy ? folder_copy_steps(copy, journal, error)
               : journal_rename(journal, old_folder, folder, error)))
        return false;
    set_place(machine, file);
    if (commit_place(registry, old_folder, folder, machines, journal, error)) {
        if (copy)
            folder_copy_settled(copy);
        return true;
    }
    if (!media_finish(registry->folder, NULL))
        return false; /* it is on its way */
    if (copy)
        folder_copy_settled(copy);
    if (access(file, F_OK) < 0)
        set_place(machine, old_file);
    return false;
}

static bool list_is_saved(const Registry *registry)
{
    g_autofree char *text = list_text(registry), *saved = NULL;

    return g_file_get_contents(registry->list, &saved, NULL, NULL) && !strcmp(saved, text);
}

/* The machine that this is the file of, if its own is gone: somebody has moved its folder. */
static Machine *find_lost(const Registry *registry, const VmConfig *config)
{
    g_autofree char *name = vm_tree_string(config, "general.name");
    g_autofree char *uuid = vm_tree_string(config, "general.uuid");
    Machine *machine = find(registry, uuid), *namesake = find(registry, name);

    if (!machine || machine_is_on(machine) || (namesake && namesake != machine))
        return NULL;
    return access(machine->file, F_OK) < 0 && errno == ENOENT ? machine : NULL;
}

/* As relocate(), of what is there already. */
static bool find_again(Registry *registry, Machine *machine, const char *file, GError **error)
{
    g_autofree char *old_file = g_strdup(machine->file), *old_folder = g_strdup(machine->folder);
    g_autofree char *folder = g_path_get_dirname(file);
    g_autoptr(GArray) machines = NULL;
    g_autoptr(Journal) journal = journal_new();

    machine_refresh(machine); /* it is inaccessible now, so its old file is none of `machines` */
    machines = media_machines(registry, machine, old_file);
    if (!registry_media(registry, error) || !media_finish(registry->folder, error))
        return false;
    set_place(machine, file);
    if (!commit_place(registry, old_folder, folder, machines, journal, error)) {
        if (media_finish(registry->folder, NULL) && !list_is_saved(registry))
            set_place(machine, old_file);
        return false;
    }
    machine_refresh(machine);
    machine_tell(machine, "vm-changed");
    return true;
}

Machine *registry_register(Registry *registry, const char *file, GError **error)
{
    g_autoptr(VmConfig) config = vm_config_load(file, error);
    Machine *lost = config ? find_lost(registry, config) : NULL;

    if (lost)
        return vm_config_check(config, error) && find_again(registry, lost, file, error) ? lost
                                                                                         : NULL;
    if (!config || !check_new(registry, config, error))
        return NULL;
    return add(registry, config, file, error);
}

/* Its folder, its file, the list and those who use its disks change at once, or nothing does. */
static bool rename_all(Registry *registry, Machine *machine, const VmConfig *config,
                       const char *folder, const char *base, GError **error)
{
    g_autoptr(VmConfig) changed = vm_tree_copy(config);
    g_autofree char *old_file = g_strdup(machine->file), *old_folder = g_strdup(machine->folder);
    g_autofree char *old_base = g_path_get_basename(old_file);
    g_autofree char *file = g_build_filename(folder, base, NULL);
    g_autofree char *old_after = g_build_filename(folder, old_base, NULL);
    g_autoptr(GArray) machines = media_machines(registry, machine, old_file);
    g_autoptr(Journal) journal = journal_new();

    for (guint i = 0; i < machines->len; i++) {
        MediaMachine *one = &g_array_index(machines, MediaMachine, i);
        if (!strcmp(one->uuid, machine->uuid)) {
            one->config = changed;
            one->new_path = file;
        }
    }
    if (!media_finish(registry->folder, error) ||
        (strcmp(old_folder, folder) && !journal_rename(journal, old_folder, folder, error)) ||
        !journal_unlink(journal, old_after, error))
        return false;
    set_place(machine, file);
    if (!commit_place(registry, old_folder, folder, machines, journal, error)) {
        media_finish(registry->folder, NULL);
        if (access(file, F_OK) < 0)
            set_place(machine, old_file);
        machine_refresh(machine);
        return false;
    }
    machine_refresh(machine);
    machine_tell(machine, "vm-changed");
    return true;
}

static bool rename_machine(Registry *registry, Machine *machine, const VmConfig *config,
                           const char *name, GError **error)
{
    g_autofree char *old_base = g_path_get_basename(machine->folder);
    g_autofree char *parent = g_path_get_dirname(machine->folder);
    g_autofree char *folder = g_build_filename(parent, name, NULL);
    g_autofree char *base = g_strconcat(name, VM_CONFIG_SUFFIX, NULL);
    g_autofree char *file = g_build_filename(machine->folder, base, NULL);
    bool own_folder = !strcmp(old_base, machine->name);

    if (machine_is_on(machine))
        return machine_wrong_state(machine, N_("cannot rename"), _("turn it off first"), error);
    if (!registry_media(registry, error))
        return false;
    if (find(registry, name) || g_file_test(file, G_FILE_TEST_EXISTS) ||
        (own_folder && g_file_test(folder, G_FILE_TEST_EXISTS))) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_EXISTS,
                    _("cannot rename '%s' to '%s': there is one; choose another name"),
                    machine->name, name);
        return false;
    }
    return rename_all(registry, machine, config, own_folder ? folder : machine->folder, base,
                      error);
}

bool registry_save(Registry *registry, Machine *machine, const VmConfig *config, GError **error)
{
    g_autofree char *name = vm_tree_string(config, "general.name");
    g_autofree char *uuid = vm_tree_string(config, "general.uuid");

    if (!machine_is_settled(machine, N_("change"), error) ||
        !vm_build_can_set(machine->config, config, error))
        return false;
    if (strcmp(uuid, machine->uuid)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                    _("cannot change the UUID of '%s'; leave it as it is"), machine->name);
        return false;
    }
    if (strcmp(name, machine->name))
        return vm_config_check(config, error) &&
               rename_machine(registry, machine, config, name, error);
    return machine_save(machine, config, error);
}

char *registry_move_target(const Machine *machine, const char *folder)
{
    g_autofree char *base = g_path_get_basename(machine->folder);

    return g_build_filename(folder, base, NULL);
}

bool registry_move(Registry *registry, Machine *machine, const char *folder, FolderCopy *copy,
                   GError **error)
{
    g_autofree char *target = registry_move_target(machine, folder);

    if (machine_is_on(machine))
        return machine_wrong_state(machine, N_("cannot move"), _("turn it off first"), error);
    if (!copy && !machine_is_settled(machine, N_("move"), error))
        return false;
    if (g_mkdir_with_parents(folder, 0755) < 0)
        return host_error(error, N_("make the folder"), folder);
    if (g_file_test(target, G_FILE_TEST_EXISTS)) {
        errno = EEXIST;
        return host_error(error, N_("move the machine to"), target);
    }
    if (!copy && !vm_same_mount(machine->folder, folder)) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK,
                    "'%s' has to be copied to another file system", machine->name);
        return false;
    }
    if (!relocate(registry, machine, target, copy, error))
        return false;
    machine_tell(machine, "vm-changed");
    return true;
}

/* ---- snapshots ------------------------------------------------------------------------------- */

bool registry_change(Registry *registry, Machine *machine, VmSnapshotChange *change,
                     const char *kind, GError **error)
{
    bool done;

    if (!registry_media(registry, error) || !media_finish(registry->folder, error))
        return false;
    change->begun = true;
    done = media_commit_without(registry->media, change->gone, change->journal, error);
    change->begun = !done && !media_finish(registry->folder, NULL);
    machine_refresh(machine);
    machine->media_known = false;
    if (done)
        machine_tell_snapshot(machine, kind, change->uuid);
    return done;
}

/* ---- the end of a machine -------------------------------------------------------------------- */

static void doom(GPtrArray *doomed, char *path)
{
    if (!g_ptr_array_find_with_equal_func(doomed, path, g_str_equal, NULL))
        g_ptr_array_add(doomed, path);
    else
        g_free(path);
}

/* What goes with a machine: its disks in its own folder; others may be shared with anything. */
static void doom_disk(const VmConfig *config, const char *folder, const char *place,
                      GHashTable *spare, GPtrArray *doomed, GPtrArray *kept)
{
    g_autofree char *medium = vm_tree_string(config, "%s.medium", place);
    g_autofree char *type = vm_tree_string(config, "%s.type", place);
    char *difference = vm_build_difference(config, folder, place, NULL);
    g_autofree char *path = *medium && !g_path_is_absolute(medium) && !is_address(medium)
                                ? vm_path_resolve(folder, medium, NULL)
                                : NULL;

    if (difference)
        doom(doomed, difference);
    if (path && !strcmp(type, "disk") && !g_hash_table_contains(spare, path))
        doom(doomed, g_steal_pointer(&path));
    else if (*medium && !strcmp(type, "disk"))
        doom(kept, g_steal_pointer(&medium));
}

static void doom_disks(const VmConfig *config, const char *folder, GHashTable *spare,
                       GPtrArray *doomed, GPtrArray *kept)
{
    g_auto(GStrv) controllers = vm_tree_keys(config, "storage");

    for (char **c = controllers; *c; c++) {
        g_auto(GStrv) slots = vm_tree_keys(config, "storage.%s", *c);
        for (char **slot = slots; *slot; slot++) {
            g_autofree char *place = g_strdup_printf("storage.%s.%s", *c, *slot);
            doom_disk(config, folder, place, spare, doomed, kept);
        }
    }
}

/* Their files, and with `disks` their images; what cannot be read stays. */
static void doom_snapshots(const Machine *machine, bool disks, GHashTable *spare, GPtrArray *doomed,
                           GPtrArray *kept)
{
    g_auto(GStrv) all = vm_snapshot_list(machine->config);

    for (char **uuid = all; *uuid; uuid++) {
        char *path = vm_snapshot_file(machine->config, machine->folder, *uuid, NULL);
        g_autoptr(VmConfig) own = path && disks ? vm_config_load(path, NULL) : NULL;
        if (own)
            doom_disks(own, machine->folder, spare, doomed, kept);
        if (path)
            doom(doomed, path);
    }
}

static void list_folder(const char *folder, GPtrArray *kept)
{
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir)))
        g_ptr_array_add(kept, g_build_filename(folder, name, NULL));
}

/* Its files, the folder last. */
static GPtrArray *doomed_files(const Machine *machine, DeleteMode mode, GHashTable *spare,
                               GPtrArray *kept)
{
    GPtrArray *doomed = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *log = machine_log(machine);

    if (mode == DELETE_ALL && machine->config)
        doom_disks(machine->config, machine->folder, spare, doomed, kept);
    if (machine->config)
        doom_snapshots(machine, mode == DELETE_ALL, spare, doomed, kept);
    g_ptr_array_add(doomed, g_strconcat(log, ".1", NULL));
    g_ptr_array_add(doomed, g_steal_pointer(&log));
    g_ptr_array_add(doomed, g_strdup(machine->file));
    g_ptr_array_add(doomed, g_strdup(machine->folder));
    return doomed;
}

/* The list without it, and all its files, or neither: a killed daemon's next one goes on. */
static bool commit_delete(Registry *registry, const GPtrArray *doomed, GError **error)
{
    g_autofree char *text = list_text(registry);
    g_autoptr(Journal) journal = journal_new();

    if (!can_change_list(registry, error) || !journal_replace(journal, registry->list, text, error))
        return false;
    for (guint i = 0; i < doomed->len; i++) {
        if (!journal_discard(journal, doomed->pdata[i], error))
            return false;
    }
    return media_commit(registry->folder, journal, error);
}

static bool delete_files(Registry *registry, const Machine *machine, DeleteMode mode,
                         GHashTable *spare, GPtrArray *kept, GError **error)
{
    g_autoptr(GPtrArray) doomed = doomed_files(machine, mode, spare, kept);

    if (!commit_delete(registry, doomed, error))
        return false;
    for (guint i = 0; i + 1 < doomed->len; i++) {
        if (!access(doomed->pdata[i], F_OK))
            g_ptr_array_add(kept, g_strdup(doomed->pdata[i]));
    }
    if (!access(machine->folder, F_OK)) {
        g_ptr_array_set_size(kept, 0);
        list_folder(machine->folder, kept);
    }
    return true;
}

bool registry_delete(Registry *registry, Machine *machine, DeleteMode mode, GHashTable *spare,
                     GPtrArray *kept, GError **error)
{
    bool gone;
    guint index;

    if (machine_is_on(machine))
        return machine_wrong_state(machine, N_("cannot delete"), _("turn it off first"), error);
    if (!machine_is_settled(machine, N_("delete"), error))
        return false;
    g_ptr_array_find(registry->machines, machine, &index);
    g_ptr_array_steal_index(registry->machines, index);
    gone = mode == DELETE_UNREGISTER ? save_list(registry, error)
                                     : delete_files(registry, machine, mode, spare, kept, error);
    if (!gone) {
        g_ptr_array_add(registry->machines, machine);
        return false;
    }
    if (mode == DELETE_UNREGISTER)
        list_folder(machine->folder, kept);
    machine_tell(machine, "vm-deleted");
    machine_free(machine);
    return true;
}
