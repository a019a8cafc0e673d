/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file
 * Machines. Each function is one operation of the API; `name` is a machine's name or its UUID, and
 * paths may be relative to the caller's working folder. Answers hold the machine as `vm` ("Vm" in
 * the description) unless something else is said, and are owned by the caller. All wait for the
 * daemon; all fail with an #OSPITE_ERROR, #OSPITE_ERROR_NOT_FOUND where there is no such machine.
 */
#pragma once

#include <ospite/client.h>

G_BEGIN_DECLS

/**
 * All machines, sorted by name.
 *
 * @param client  a client
 * @param error   set when it fails
 * @return `vms`, a list of "VmSummary" (new); or NULL
 */
JsonNode *ospite_vm_list(OspiteClient *client, GError **error);

/**
 * Starts the machines with `autostart.enabled`, each after its `autostart.delay`; does not wait.
 *
 * @param client  a client
 * @param error   set when it fails
 * @return `vms`, a list of "VmSummary" of those that will start (new); or NULL
 */
JsonNode *ospite_vm_autostart(OspiteClient *client, GError **error);

/**
 * Makes a machine. It is off.
 *
 * @param client    a client
 * @param name      its name, which must be free (#OSPITE_ERROR_EXISTS)
 * @param folder    where the machine's own folder is made; NULL: where the user's machines are
 * @param settings  "NAME=VALUE" each, as ospite_vm_set() takes them; ends with NULL, or NULL
 * @param error     set when it fails; then nothing was made
 * @return the machine, and a `report` that is empty (new); or NULL
 */
JsonNode *ospite_vm_create(OspiteClient *client, const char *name, const char *folder,
                           const char *const *settings, GError **error);

/**
 * Makes a machine's file known that is there already.
 *
 * @param client  a client
 * @param file    NAME.ospite
 * @param error   set when it fails
 * @return the machine, and a `report` that is empty (new); or NULL
 */
JsonNode *ospite_vm_register(OspiteClient *client, const char *file, GError **error);

/**
 * Makes a machine of another program's: VirtualBox's (.vbox) or libvirt's (domain XML). Its disks
 * stay where they are.
 *
 * @param client  a client
 * @param file    that program's file
 * @param name    another name than in the file; NULL: that one
 * @param folder  as of ospite_vm_create()
 * @param error   set when it fails; then nothing was made
 * @return the machine, and `report`: what has no counterpart, a line each (new); or NULL
 */
JsonNode *ospite_vm_import(OspiteClient *client, const char *file, const char *name,
                           const char *folder, GError **error);

/**
 * One machine, with all its settings in `vm.config`.
 *
 * @param client  a client
 * @param name    the machine
 * @param error   set when it fails
 * @return the machine (new); or NULL
 */
JsonNode *ospite_vm_show(OspiteClient *client, const char *name, GError **error);

/**
 * The same with what the engine of a running machine has counted, in `vm.stats`; null where it does
 * not run.
 *
 * @param client  a client
 * @param name    the machine
 * @param error   set when it fails
 * @return the machine (new); or NULL
 */
JsonNode *ospite_vm_show_stats(OspiteClient *client, const char *name, GError **error);

/**
 * Changes settings, all or none.
 *
 * @param client    a client
 * @param name      the machine
 * @param settings  ends with NULL. "NAME=VALUE" each, with dotted names and values as a user writes
 *                  them ("memory=2G", "storage.ide0.0.medium=disk.qcow2"); "NAME=" takes a value
 *                  back to its default, or removes an element of a list
 * @param error     set when it fails, #OSPITE_ERROR_INVALID for a wrong name or value
 * @return the machine, and `changes`: each `name`, and `when` it counts, "now" or "restart" (new);
 *         or NULL
 */
JsonNode *ospite_vm_set(OspiteClient *client, const char *name, const char *const *settings,
                        GError **error);

/**
 * Starts a machine. The guest runs when this returns.
 *
 * @param client  a client
 * @param name    the machine
 * @param error   set when it fails, #OSPITE_ERROR_WRONG_STATE when it is not off
 * @return the machine (new); or NULL
 */
JsonNode *ospite_vm_start(OspiteClient *client, const char *name, GError **error);

/**
 * Presses the power button; what that means is the guest's decision. See ospite_vm_wait().
 *
 * @param client  a client
 * @param name    the machine
 * @param error   set when it fails, #OSPITE_ERROR_WRONG_STATE when it does not run
 * @return the machine (new); or NULL
 */
JsonNode *ospite_vm_stop(OspiteClient *client, const char *name, GError **error);

/**
 * Pulls the plug. The machine is off when this returns.
 *
 * @param client  a client
 * @param name    the machine
 * @param error   set when it fails, #OSPITE_ERROR_WRONG_STATE when it is off
 * @return the machine (new); or NULL
 */
JsonNode *ospite_vm_poweroff(OspiteClient *client, const char *name, GError **error);

/**
 * Presses the reset button.
 *
 * @param client  a client
 * @param name    the machine
 * @param error   set when it fails, #OSPITE_ERROR_WRONG_STATE when it is off
 * @return the machine (new); or NULL
 */
JsonNode *ospite_vm_reset(OspiteClient *client, const char *name, GError **error);

/**
 * Stops a machine's time.
 *
 * @param client  a client
 * @param name    the machine
 * @param error   set when it fails, #OSPITE_ERROR_WRONG_STATE when it does not run
 * @return the machine (new); or NULL
 */
JsonNode *ospite_vm_pause(OspiteClient *client, const char *name, GError **error);

/**
 * Lets a machine go on that is paused.
 *
 * @param client  a client
 * @param name    the machine
 * @param error   set when it fails, #OSPITE_ERROR_WRONG_STATE when it is not paused
 * @return the machine (new); or NULL
 */
JsonNode *ospite_vm_resume(OspiteClient *client, const char *name, GError **error);

/**
 * Waits until a machine is in a state.
 *
 * @param client     a client
 * @param name       the machine
 * @param state      "off" (which includes "crashed"), "running", "paused" or "crashed"
 * @param timeout_s  seconds, at most 86400
 * @param error      set when it fails, #OSPITE_ERROR_TIMED_OUT when it is not in time
 * @return the machine (new); or NULL
 */
JsonNode *ospite_vm_wait(OspiteClient *client, const char *name, const char *state,
                         unsigned timeout_s, GError **error);

/** What ospite_vm_delete() takes away. */
typedef enum OspiteDelete {
    OSPITE_DELETE_KEEP_DISKS, /**< the machine's file and logs; its disks stay */
    OSPITE_DELETE_ALL,        /**< also the disks in its folder */
    OSPITE_DELETE_UNREGISTER, /**< nothing: it is forgotten, all files stay */
} OspiteDelete;

/**
 * Deletes a machine that is off.
 *
 * @param client  a client
 * @param name    the machine
 * @param what    how much of it
 * @param error   set when it fails, #OSPITE_ERROR_WRONG_STATE when it is not off
 * @return `kept`: files that are still there (new); or NULL
 */
JsonNode *ospite_vm_delete(OspiteClient *client, const char *name, OspiteDelete what,
                           GError **error);

/**
 * Copies a machine that is off. A full clone has images of its own; a linked one shares them, and
 * both machines write to differencing images from then on.
 *
 * @param client  a client
 * @param name    the machine
 * @param clone   the clone's name
 * @param folder  where the clone's own folder is made; NULL: the usual place
 * @param linked  whether it shares the images
 * @param error   set when it fails
 * @return the clone, as ospite_vm_show() has it (new); or NULL
 */
JsonNode *ospite_vm_clone(OspiteClient *client, const char *name, const char *clone,
                          const char *folder, gboolean linked, GError **error);

/**
 * Moves the folder of a machine that is off into another folder. To another file system it is
 * copied, which takes its time; meanwhile `vm.job` of ospite_vm_show(), asked by another client,
 * says how far it is.
 *
 * @param client  a client
 * @param name    the machine
 * @param folder  the folder that its own folder will be in
 * @param error   set when it fails; then all is as it was
 * @return the machine (new); or NULL
 */
JsonNode *ospite_vm_move(OspiteClient *client, const char *name, const char *folder,
                         GError **error);

/**
 * The end of the log of a machine's last run.
 *
 * @param client  a client
 * @param name    the machine
 * @param lines   how many at most, from 1 to 10000
 * @param error   set when it fails
 * @return `lines`, a list of texts (new); or NULL
 */
JsonNode *ospite_vm_log(OspiteClient *client, const char *name, unsigned lines, GError **error);

/**
 * The characters on a machine's screen.
 *
 * @param client  a client
 * @param name    the machine
 * @param error   set when it fails, #OSPITE_ERROR_WRONG_STATE when it is off
 * @return `lines`, a list of texts, empty in a graphics mode (new); or NULL
 */
JsonNode *ospite_vm_screen(OspiteClient *client, const char *name, GError **error);

/**
 * Types on a machine's (US) keyboard; returns after the last key.
 *
 * @param client  a client
 * @param name    the machine
 * @param text    at most 1000 characters; a line's end is Enter
 * @param error   set when it fails, #OSPITE_ERROR_WRONG_STATE when it does not run
 * @return the machine (new); or NULL
 */
JsonNode *ospite_vm_type(OspiteClient *client, const char *name, const char *text, GError **error);

/**
 * A machine's file, NAME.ospite.
 *
 * @param client  a client
 * @param name    the machine
 * @param error   set when it fails
 * @return the file's text (new, to be freed with g_free()); or NULL
 */
char *ospite_vm_get_file(OspiteClient *client, const char *name, GError **error);

/**
 * Replaces a machine's file.
 *
 * @param client  a client
 * @param name    the machine
 * @param xml     the whole new text
 * @param error   set when it fails, #OSPITE_ERROR_FAILED when it is no machine; then the old one
 *                stays
 * @return the machine (new); or NULL
 */
JsonNode *ospite_vm_put_file(OspiteClient *client, const char *name, const char *xml,
                             GError **error);

G_END_DECLS
