/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file
 * Snapshots: states of machines to go back to. `name` is a machine's name or UUID, `snapshot` a
 * snapshot's (#OSPITE_ERROR_INVALID where several have the name). Machines must be off
 * (#OSPITE_ERROR_WRONG_STATE) for all that takes, restores or deletes one. Answers are owned by the
 * caller and hold the snapshot as `snapshot` ("Snapshot" in the description) unless something else
 * is said. All wait for the daemon; all fail with an #OSPITE_ERROR, #OSPITE_ERROR_NOT_FOUND where
 * there is no such machine or snapshot.
 */
#pragma once

#include <ospite/client.h>

G_BEGIN_DECLS

/**
 * All snapshots of a machine, parents before their children.
 *
 * @param client  a client
 * @param name    the machine
 * @param error   set when it fails
 * @return `snapshots`, a list of "Snapshot" (new); or NULL
 */
JsonNode *ospite_snapshot_list(OspiteClient *client, const char *name, GError **error);

/**
 * Keeps a machine's settings and disks as they are now.
 *
 * @param client       a client
 * @param name         the machine
 * @param snapshot     what the snapshot is called; others may have the same name
 * @param description  notes; NULL: none
 * @param error        set when it fails; then nothing has changed
 * @return the snapshot (new); or NULL
 */
JsonNode *ospite_snapshot_take(OspiteClient *client, const char *name, const char *snapshot,
                               const char *description, GError **error);

/**
 * One snapshot, with the settings of that time in `snapshot.config`.
 *
 * @param client    a client
 * @param name      the machine
 * @param snapshot  the snapshot
 * @param error     set when it fails
 * @return the snapshot (new); or NULL
 */
JsonNode *ospite_snapshot_show(OspiteClient *client, const char *name, const char *snapshot,
                               GError **error);

/**
 * Changes a snapshot's name or description.
 *
 * @param client       a client
 * @param name         the machine, which may run
 * @param snapshot     the snapshot
 * @param new_name     its new name; NULL: as it is
 * @param description  its new notes; NULL: as they are
 * @param error        set when it fails
 * @return the snapshot (new); or NULL
 */
JsonNode *ospite_snapshot_set(OspiteClient *client, const char *name, const char *snapshot,
                              const char *new_name, const char *description, GError **error);

/**
 * Makes a machine what it was in a snapshot. What it has been since the one it came from is lost.
 *
 * @param client    a client
 * @param name      the machine
 * @param snapshot  the snapshot
 * @param error     set when it fails; then nothing has changed
 * @return the machine, as ospite_vm_show() has it (new); or NULL
 */
JsonNode *ospite_snapshot_restore(OspiteClient *client, const char *name, const char *snapshot,
                                  GError **error);

/**
 * Deletes a snapshot; what the machine and its other snapshots hold stays. Images are merged, which
 * takes its time; meanwhile `vm.job` of ospite_vm_show(), asked by another client, says how far it
 * is.
 *
 * @param client    a client
 * @param name      the machine
 * @param snapshot  the snapshot
 * @param error     set when it fails, #OSPITE_ERROR_WRONG_STATE when more than one state builds on
 *                  it
 * @return an empty object (new); or NULL
 */
JsonNode *ospite_snapshot_delete(OspiteClient *client, const char *name, const char *snapshot,
                                 GError **error);

G_END_DECLS
