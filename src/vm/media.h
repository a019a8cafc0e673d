/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The registry of media: every hard disk, CD/DVD and floppy image the user has shown us, where it
 * is, what it is, and which machines and snapshots use it. An image that is gone stays, marked as
 * inaccessible with the reason.
 *
 * It is one XML file (media.xml) in the user's configuration folder. Each change locks the registry
 * (media.lock, an OFD lock, so two processes never race), reads the file again if another wrote it,
 * and replaces it in one step. What changes images or machines' files at the same time goes through
 * a journal (vm/journal.h): a killed change is finished by the next who opens the registry.
 *
 * An image's format is probed once, when it is added, and never again (SAFETY §2).
 *
 * Threads: one at a time. `Medium`s are copies (snapshots of what is known).
 */
#pragma once

#include "vm/config.h"
#include "vm/journal.h"

typedef struct Media Media;

typedef enum MediumKind { MEDIUM_DISK, MEDIUM_CDROM, MEDIUM_FLOPPY, MEDIUM_KINDS } MediumKind;

typedef struct MediumUse {
    char *machine;  /* UUID */
    char *snapshot; /* UUID; NULL: the machine as it is now */
    char *place;    /* "storage.ide0.0" */
    char *mode;     /* the attachment's: what counts; NULL: not known yet */
} MediumUse;

typedef struct Medium {
    char *uuid; /* the image's own, unless it has none or another one has it, too */
    MediumKind kind;
    char *path;            /* absolute */
    char *format;          /* "qcow2" */
    char *mode;            /* as storage.*.*.mode: "normal", …; one of its uses has it */
    char *parent;          /* UUID; NULL: none, or not registered */
    uint64_t virtual_size; /* bytes; of the last time it was accessible */
    uint64_t actual_size;  /* bytes on the host */
    bool accessible;
    char *problem;     /* why not accessible, NULL */
    GPtrArray *uses;   /* of MediumUse */
    bool has_children; /* another registered medium has it as parent */
} Medium;
void medium_free(Medium *medium);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Medium, medium_free)
typedef struct MediaMachine {
    const char *uuid;
    const char *config_path; /* NAME.ospite */
    const VmConfig *config;  /* what it will be; NULL: as the file says */
    const char *new_path;    /* where it is stored then, whatever changes; NULL: where it was */
} MediaMachine;

/* "disk", "cdrom", "floppy", and back (MEDIUM_KINDS: no such word). */
const char *medium_kind_name(MediumKind kind);
MediumKind medium_kind_find(const char *name);

/* `folder` is made when missing. Finishes what a killed change left. */
Media *media_open(const char *folder, GError **error);
void media_close(Media *media);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Media, media_close)

/* What a machine is called (`obj`'s own; NULL: unknown), for messages. */
typedef const char *(*MediaNameFn)(void *obj, const char *uuid);
void media_set_names(Media *media, MediaNameFn name, void *obj);

/* All media, sorted by path (of Medium, owned). Reads the file again when it changed. */
GPtrArray *media_list(Media *media, GError **error);
/* By UUID or path; NOT_FOUND. A path need not be absolute. */
Medium *media_find(Media *media, const char *name, GError **error);

/*
 * Registers an image and its parents. `format` NULL: probes it, once. `mode` NULL: "normal", and
 * "readonly" for a CD-ROM. EXISTS when it is there already; returns what is known now.
 */
Medium *media_add(Media *media, MediumKind kind, const char *path, const char *format,
                  const char *mode, GError **error);
/* Forgets a medium; `delete_file` deletes the image, too. BUSY when used or a parent, or when the
 * image to be deleted is open. */
bool media_remove(Media *media, const char *name, bool delete_file, GError **error);
/*
 * The mode of the medium and of its attachments in `machines`, in one journal record. The
 * attachment's counts when a machine starts; the medium's is that of one of them, and what an
 * attachment that says none gets (media_adopt()).
 */
bool media_set_mode(Media *media, const char *name, const char *mode, const MediaMachine *machines,
                    size_t count, GError **error);
/* Drives that `config` has and `old` (NULL: nothing) had not get what it does not say of them:
 * disks and floppies their medium's mode, disks its format; an unknown disk's is probed, this once.
 */
bool media_adopt(Media *media, const VmConfig *old, VmConfig *config, const char *folder,
                 GError **error);
/* Looks at the file again: sizes, accessibility, parent. `name` NULL: all. */
bool media_refresh(Media *media, const char *name, GError **error);

typedef struct MediaUser {
    const char *machine, *snapshot; /* UUIDs; `snapshot` NULL: the machine as it is now */
    const VmConfig *config;         /* NULL: the machine is gone */
    const char *folder;             /* the machine's */
} MediaUser;
/*
 * Makes the uses of these users exactly those of their configurations; media they name that are not
 * registered are added with the format stored there. Called after each save.
 */
bool media_sync(Media *media, const MediaUser *users, size_t count, GError **error);
/* How many others write to it: the machine of a use that forbids another, or NULL (new UUID). */
char *media_writer(Media *media, const char *name, const char *not_machine, GError **error);

/*
 * Takes a medium out of a machine (`machine` NULL: of all): changes their configurations, whose
 * files the caller names, and the registry in one journal record. BUSY when a snapshot uses it.
 */
bool media_release(Media *media, const char *name, const MediaMachine *machines, size_t count,
                   GError **error);
/*
 * A copy of an image beside the place on another file system that it is to move to. It keeps the
 * image locked. Running it takes as long as copying does, twice, and may be done on any thread; it
 * is durable then, and compared with the image. Freed, what was not moved is removed; what a killed
 * daemon left, by media_clear_leftovers().
 */
typedef struct MediaCopy MediaCopy;
MediaCopy *media_copy_new(const Media *media, const char *from, const char *to, GError **error);
bool media_copy_run(MediaCopy *copy, GError **error);
void media_copy_free(MediaCopy *copy);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MediaCopy, media_copy_free)

/*
 * Moves an image's file and changes all configurations that name it (`machines` are all that
 * exist), the registered images that build on it, and what it says itself of its parent. EXISTS
 * when something is at `to`; BUSY when it is in use, when an image that builds on it cannot be
 * written to, or when a machine would not look for a parent there; WOULD_BLOCK when `to` is on
 * another file system and `copy` is NULL.
 */
bool media_move(Media *media, const char *name, const char *to, MediaCopy *copy,
                const MediaMachine *machines, size_t count, GError **error);
/* Removes what killed copies left; once, by the one daemon of this registry, before it copies. */
void media_clear_leftovers(Media *media);
/* A folder is renamed by the journal's steps, which are carried out: with them, images in and below
 * it become known where it is then, and machines that use them name them so (`machines` are all).
 */
bool media_follow(Media *media, const char *from, const char *to, const MediaMachine *machines,
                  size_t count, Journal *journal, GError **error);
/*
 * Carries out the journal's steps, which delete the images `gone` (of char *): those are known no
 * more, and what builds on one of them builds on what it built on.
 */
bool media_commit_without(Media *media, const GPtrArray *gone, Journal *journal, GError **error);
/* Carries out what changes no media, finishing what a killed change left before. Once it is written
 * down it is decided, and true: whatever fails then is tried again by the next who comes. */
bool media_commit(const char *folder, const Journal *journal, GError **error);
/* Finishes what a killed change left, of the registry in this folder; needs not be able to read it.
 */
bool media_finish(const char *folder, GError **error);
