/* SPDX-License-Identifier: GPL-3.0-or-later */
/* vboxmanage: snapshots. */
#include <stdio.h>
#include <string.h>

#include "base/i18n.h"
#include "cli/vbox.h"

/* ---- lists ----------------------------------------------------------------------------------- */

/* As scripts read it: SnapshotName, then SnapshotName-1, SnapshotName-1-1, … */
static void print_readable(JsonNode *snapshot, const char *node)
{
    const char *description = ospite_text(snapshot, "description");

    printf("SnapshotName%s=\"%s\"\nSnapshotUUID%s=\"%s\"\n", node, ospite_text(snapshot, "name"),
           node, ospite_text(snapshot, "uuid"));
    if (*description)
        printf("SnapshotDescription%s=\"%s\"\n", node, description);
}

static void print_plain(JsonNode *snapshot, int depth, bool details)
{
    const char *description = ospite_text(snapshot, "description");
    int indent = 3 * (depth + 1);

    printf("%*sName: %s (UUID: %s)%s\n", indent, "", ospite_text(snapshot, "name"),
           ospite_text(snapshot, "uuid"), ospite_number(snapshot, "current") ? " *" : "");
    if (details)
        printf("%*sTime: %s\n", indent, "", ospite_text(snapshot, "taken"));
    if (strchr(description, '\n'))
        printf("%*sDescription:\n%s\n", indent, "", description);
    else if (*description)
        printf("%*sDescription: \"%s\"\n", indent, "", description);
}

typedef struct Tree {
    JsonArray *all;
    bool machine_readable, details;
    char *current; /* its node; NULL: there is none */
} Tree;

static void print_below(Tree *tree, const char *parent, const char *node, int depth)
{
    unsigned number = 0;

    for (guint i = 0; i < json_array_get_length(tree->all); i++) {
        JsonNode *snapshot = json_array_get_element(tree->all, i);
        g_autofree char *own = NULL;
        if (strcmp(ospite_text(snapshot, "parent"), parent) != 0)
            continue;
        number++;
        own = depth || number > 1 ? g_strdup_printf("%s-%u", node, number) : g_strdup("");
        if (tree->machine_readable)
            print_readable(snapshot, own);
        else
            print_plain(snapshot, depth, tree->details);
        if (ospite_number(snapshot, "current"))
            tree->current = g_strdup(own);
        print_below(tree, ospite_text(snapshot, "uuid"), own, depth + 1);
    }
}

static JsonNode *find_current(JsonArray *all)
{
    for (guint i = 0; i < json_array_get_length(all); i++) {
        JsonNode *snapshot = json_array_get_element(all, i);
        if (ospite_number(snapshot, "current"))
            return snapshot;
    }
    return NULL;
}

void vbox_print_snapshots(JsonArray *all, bool machine_readable, bool details)
{
    Tree tree = {all, machine_readable, details, NULL};
    JsonNode *current = find_current(all);
    g_autofree char *node = NULL;

    print_below(&tree, "", "", 0);
    node = tree.current;
    if (machine_readable && current)
        printf("CurrentSnapshotName=\"%s\"\nCurrentSnapshotUUID=\"%s\"\n"
               "CurrentSnapshotNode=\"SnapshotName%s\"\n",
               ospite_text(current, "name"), ospite_text(current, "uuid"), node ? node : "");
}

static bool list(VboxArgs *a, const char *machine, GError **error)
{
    g_autoptr(JsonNode) answer = ospite_snapshot_list(a->client, machine, error);
    JsonArray *all = answer ? ospite_list(answer, "snapshots") : NULL;

    if (all && !json_array_get_length(all))
        printf("This machine does not have any snapshots\n"); /* a failure there, too */
    if (!all || !json_array_get_length(all))
        return false;
    vbox_print_snapshots(all, vbox_value(a, "machinereadable") != NULL,
                         vbox_value(a, "details") != NULL);
    return true;
}

/* ---- verbs ----------------------------------------------------------------------------------- */

static bool take(VboxArgs *a, const char *machine, GError **error)
{
    const char *name = vbox_word(a, 2);
    g_autoptr(JsonNode) answer = NULL;

    if (!name)
        return vbox_usage(error, _("snapshot take needs a name"));
    answer = ospite_snapshot_take(a->client, machine, name, vbox_value(a, "description"), error);
    if (!answer)
        return false;
    vbox_print_progress();
    printf("Snapshot taken. UUID: %s\n", ospite_text(answer, "snapshot.uuid"));
    return true;
}

/* The snapshot that is named, or, `current`, that the machine comes from (new). */
static JsonNode *find(const VboxArgs *a, const char *machine, bool current, GError **error)
{
    g_autoptr(JsonNode) answer = NULL;
    JsonNode *found;

    if (!current && !vbox_word(a, 2)) {
        vbox_usage(error, _("snapshot %s needs a snapshot's name"), vbox_word(a, 1));
        return NULL;
    }
    if (!current)
        return ospite_snapshot_show(a->client, machine, vbox_word(a, 2), error);
    answer = ospite_snapshot_list(a->client, machine, error);
    found = answer ? find_current(ospite_list(answer, "snapshots")) : NULL;
    if (answer && !found)
        vbox_usage(error, _("'%s' comes from no snapshot; name one"), machine);
    return found ? ospite_snapshot_show(a->client, machine, ospite_text(found, "uuid"), error)
                 : NULL;
}

typedef JsonNode *Change(OspiteClient *client, const char *machine, const char *snapshot,
                         GError **error);

static bool change(const VboxArgs *a, const char *machine, bool current, const char *doing,
                   Change *fn, GError **error)
{
    g_autoptr(JsonNode) snapshot = find(a, machine, current, error), answer = NULL;

    if (!snapshot)
        return false;
    printf("%s snapshot '%s' (%s)\n", doing, ospite_text(snapshot, "snapshot.name"),
           ospite_text(snapshot, "snapshot.uuid"));
    answer = fn(a->client, machine, ospite_text(snapshot, "snapshot.uuid"), error);
    if (answer)
        vbox_print_progress();
    return answer != NULL;
}

static bool delete (VboxArgs *a, const char *machine, GError **error)
{
    return change(a, machine, false, "Deleting", ospite_snapshot_delete, error);
}

static bool restore(VboxArgs *a, const char *machine, GError **error)
{
    return change(a, machine, false, "Restoring", ospite_snapshot_restore, error);
}

static bool restore_current(VboxArgs *a, const char *machine, GError **error)
{
    return change(a, machine, true, "Restoring", ospite_snapshot_restore, error);
}

static bool edit(VboxArgs *a, const char *machine, GError **error)
{
    g_autoptr(JsonNode) snapshot = find(a, machine, vbox_value(a, "current") != NULL, error),
                        answer = NULL;

    if (snapshot)
        answer = ospite_snapshot_set(a->client, machine, ospite_text(snapshot, "snapshot.uuid"),
                                     vbox_value(a, "name"), vbox_value(a, "description"), error);
    return answer != NULL;
}

/* The machine, with the settings of that time. */
static bool show(VboxArgs *a, const char *machine, GError **error)
{
    g_autoptr(JsonNode) snapshot = find(a, machine, false, error);
    g_autoptr(JsonNode) vm = snapshot ? ospite_vm_show(a->client, machine, error) : NULL;
    JsonObject *object, *own;

    if (!vm)
        return false;
    object = json_object_get_object_member(json_node_get_object(vm), "vm");
    own = json_object_get_object_member(json_node_get_object(snapshot), "snapshot");
    json_object_set_member(object, "config", json_object_dup_member(own, "config"));
    json_object_set_string_member(object, "state", "off");
    json_object_set_null_member(object, "started_at");
    vbox_print_vm(vm, vbox_value(a, "machinereadable") != NULL);
    return true;
}

bool vbox_snapshot(VboxArgs *a, GError **error)
{
    static const struct {
        const char *word;
        bool (*run)(VboxArgs *a, const char *machine, GError **error);
    } words[] = {{"take", take},       {"delete", delete},
                 {"restore", restore}, {"restorecurrent", restore_current},
                 {"list", list},       {"edit", edit},
                 {"showvminfo", show}};
    const char *machine = vbox_word(a, 0), *word = vbox_word(a, 1);

    if (!word)
        return vbox_usage(error, _("snapshot takes a machine and what to do"));
    for (unsigned i = 0; i < G_N_ELEMENTS(words); i++) {
        if (!strcmp(words[i].word, word))
            return words[i].run(a, machine, error);
    }
    return vbox_usage(error, _("snapshot cannot '%s'; vboxmanage help says what it can"), word);
}
