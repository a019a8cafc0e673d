/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file
 * The registry of images: disks, CDs and floppies. `medium` is an image's UUID or its file, which
 * may be relative to the caller's working folder. Answers hold the image as `medium` ("Medium" in
 * the description) unless something else is said, and are owned by the caller. All wait for the
 * daemon; all fail with an #OSPITE_ERROR, #OSPITE_ERROR_NOT_FOUND where there is no such image.
 */
#pragma once

#include <ospite/client.h>

G_BEGIN_DECLS

/**
 * All known images, and which machines use each.
 *
 * @param client  a client
 * @param error   set when it fails
 * @return `media`, a list of "Medium" (new); or NULL
 */
JsonNode *ospite_media_list(OspiteClient *client, GError **error);

/**
 * Makes an image known, and those it builds on.
 *
 * @param client  a client
 * @param file    its file
 * @param kind    "disk", "cdrom" or "floppy"; NULL: disk
 * @param format  "raw", "qcow2", …; NULL: looked for in the file, this once
 * @param mode    "normal", "readonly", …; NULL: what its kind usually has
 * @param error   set when it fails, #OSPITE_ERROR_WRONG_STATE or #OSPITE_ERROR_EXISTS when it is
 *                known already
 * @return the image (new); or NULL
 */
JsonNode *ospite_media_add(OspiteClient *client, const char *file, const char *kind,
                           const char *format, const char *mode, GError **error);

/**
 * One image.
 *
 * @param client  a client
 * @param medium  the image
 * @param error   set when it fails
 * @return the image (new); or NULL
 */
JsonNode *ospite_media_show(OspiteClient *client, const char *medium, GError **error);

/**
 * Changes how machines may use an image.
 *
 * @param client  a client
 * @param medium  the image
 * @param mode    "normal", "readonly", "immutable", …
 * @param error   set when it fails
 * @return the image (new); or NULL
 */
JsonNode *ospite_media_set_mode(OspiteClient *client, const char *medium, const char *mode,
                                GError **error);

/**
 * Forgets an image that no machine uses.
 *
 * @param client       a client
 * @param medium       the image
 * @param delete_file  deletes its file, too, unless somebody has it open
 * @param error        set when it fails; then nothing was deleted
 * @return an empty object (new); or NULL
 */
JsonNode *ospite_media_remove(OspiteClient *client, const char *medium, gboolean delete_file,
                              GError **error);

/**
 * Takes an image out of all machines that are off.
 *
 * @param client  a client
 * @param medium  the image
 * @param error   set when it fails
 * @return the image (new); or NULL
 */
JsonNode *ospite_media_release(OspiteClient *client, const char *medium, GError **error);

/**
 * Looks at an image's file again.
 *
 * @param client  a client
 * @param medium  the image
 * @param error   set when it fails; a file that is gone is no failure, `problem` says so
 * @return the image (new); or NULL
 */
JsonNode *ospite_media_refresh(OspiteClient *client, const char *medium, GError **error);

/**
 * Moves an image's file, and tells the machines that use it; all or nothing.
 *
 * @param client  a client
 * @param medium  the image
 * @param file    the new name
 * @param error   set when it fails; then all is as it was
 * @return the image (new); or NULL
 */
JsonNode *ospite_media_move(OspiteClient *client, const char *medium, const char *file,
                            GError **error);

G_END_DECLS
