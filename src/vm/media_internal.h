/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the files of the registry share. */
#pragma once

#include "vm/media.h"

struct Media {
    char *folder, *path, *lock_path, *journal_path;
    VmTree *tree;
    struct MediaStamp {
        uint64_t inode, size;
        int64_t seconds, nanoseconds;
    } stamp;          /* of the file that `tree` came from */
    bool clean;       /* the tree is as the file; else it is read again */
    int lock_fd;      /* -1: not locked */
    MediaNameFn name; /* NULL: machines have UUIDs alone */
    void *name_obj;
};

struct MediaCopy {
    char *from, *to, *temporary;
    char *note; /* vm/leftovers.h */
    int from_fd, fd;
    bool done;  /* it can take the image's place */
    bool taken; /* it may have: the note is for the next daemon, after the journal */
};
/* An image's file, open and locked for writing; -1 with an error. */
int media_lock_image(const char *path, GError **error);

/* A name inside an image that has to be written anew (media_chain.c). */
typedef struct MediaLink {
    char *path, *format;      /* the image that has it, at its place then */
    char *base, *base_format; /* what it builds on, at its place then */
} MediaLink;
void media_link_free(gpointer link);
/* Adds those of a move (MediaLink); nobody may write to the image. BUSY when one cannot be. */
bool media_links(GPtrArray *all, const Medium *medium, const char *to, GPtrArray *links,
                 GError **error);
bool media_journal_links(Journal *journal, const GPtrArray *links, GError **error);
/* Whether one of them is in the image at `path`. */
bool media_links_write(const GPtrArray *links, const char *path);

extern const VmSchema media_schema;

/* Locks, finishes what a killed change left, and reads the file again when it changed. */
bool media_begin(Media *media, GError **error);
void media_end(Media *media);
static inline void media_auto_end(Media **media)
{
    if (*media)
        media_end(*media);
}
/* Between begin and end: stores the tree; on failure it is as the file again. */
bool media_store(Media *media, GError **error);
/* The same together with the journal's other steps. */
bool media_store_with(Media *media, Journal *journal, GError **error);

/* All that the tree says, sorted by path. */
GPtrArray *media_read(const Media *media);
/* By UUID or path; NULL. Not owned. */
Medium *media_pick(GPtrArray *all, const char *name, GError **error);
/* Its entry, not stored yet. */
bool media_drop(Media *media, const char *uuid, GError **error);
bool media_put(Media *media, const char *uuid, const char *field, const char *value,
               GError **error);
