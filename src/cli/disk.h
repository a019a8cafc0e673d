/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * `ospite disk`, and the same program under the names qemu-img and vboxmanage: what the commands
 * share. A command returns the program's exit status, or -1 with an error set (status 1).
 */
#pragma once

#include "block/image.h"
#include "block/jobs/commit.h"
#include "block/jobs/copy.h"
#include "block/partition.h"
#include "cli/json_text.h"

typedef struct DiskArgs {
    const char *program; /* "ospite disk", "qemu-img", … */
    bool trust;          /* names inside images may lead anywhere */
    bool json, quiet, progress;
    const char *letter[128]; /* the value of each option; "" for flags; NULL: not given */
    GPtrArray *options;      /* -o, as name=value texts, NULL at the end */
    char **rest;             /* what is no option … */
    int count;               /* … and how many */
    bool shrink, linked, repair, salvage, target_is_zero, grow_partition;
    bool bitmaps, skip_broken_bitmaps;
    const char *size;      /* --size */
    GPtrArray *secrets;    /* of --object; NULL: none */
    GBytes *key, *new_key; /* of the image, and of the one that is made; NULL: none */
    bool image_options, target_image_options, add_key, options_help;
    const char *start_offset, *max_length, *preallocation; /* NULL: not given */
    const char *erase_key;                                 /* the slot; NULL: none */
} DiskArgs;

typedef struct DiskCommand {
    const char *name;
    const char *letters; /* as getopt(3) */
    int (*run)(DiskArgs *args, GError **error);
    const char *usage, *help;
} DiskCommand;

int command_disk(int argc, char **argv);
/* The whole program as `qemu-img` or `vboxmanage`. */
int main_qemu_img(int argc, char **argv);
int main_vboxmanage(int argc, char **argv);

/* disk_create.c, disk_info.c, … */
int disk_command_create(DiskArgs *args, GError **error);
int disk_command_info(DiskArgs *args, GError **error);
int disk_command_check(DiskArgs *args, GError **error);
int disk_command_convert(DiskArgs *args, GError **error);
int disk_command_clone(DiskArgs *args, GError **error);
int disk_command_resize(DiskArgs *args, GError **error);
int disk_command_compact(DiskArgs *args, GError **error);
int disk_command_compare(DiskArgs *args, GError **error);
int disk_command_map(DiskArgs *args, GError **error);
int disk_command_snapshot(DiskArgs *args, GError **error);
int disk_command_rebase(DiskArgs *args, GError **error);
int disk_command_commit(DiskArgs *args, GError **error);
int disk_command_merge(DiskArgs *args, GError **error);
int disk_command_measure(DiskArgs *args, GError **error);
int disk_command_dd(DiskArgs *args, GError **error);
int disk_command_partitions(DiskArgs *args, GError **error);
int disk_command_encrypt(DiskArgs *args, GError **error);
int disk_command_serve(DiskArgs *args, GError **error);
int disk_command_bench(DiskArgs *args, GError **error);
int disk_command_mount(DiskArgs *args, GError **error);
int disk_command_unmount(DiskArgs *args, GError **error);

/* What several commands do. */
Image *disk_open_image(const DiskArgs *args, const char *path, const char *format, bool read_only,
                       GError **error);
/* Sets an error that is no wrong command line; returns -1. */
int disk_refuse(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* Sets a usage error (status 2, or qemu-img's 1); returns -1. */
int disk_usage(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* Sets an error from a negative errno; returns -1. */
int disk_fail(GError **error, const char *doing, const char *path, int result);
void disk_print_json(JsonText *json);
/* "1.5 GiB" */
char *disk_size_text(uint64_t size);
/* With --json, what an image that was changed is now; an exit status. */
int disk_print_changed(const DiskArgs *args, const char *path, const char *format, GError **error);
bool disk_info_print(const DiskArgs *args, const char *path, const char *format, GError **error);

/* The program was called by its other name, and its words are those of the real one. */
bool disk_as_qemu_img(const DiskArgs *args);
/* image_status(), with what holes in the host's files tell, as the program's name has it. */
int disk_status(const DiskArgs *args, Image *image, uint64_t offset, uint64_t size,
                ImageStatus *ret_status);

/*
 * The value of an option of -o, which is not the format's any more: backing_file=, backing_fmt= and
 * size= may stand there, as in qemu-img. NULL: not given.
 */
const char *disk_take_option(DiskArgs *args, const char *name);
/*
 * A snapshot's name or identifier as qemu-img takes it, too: "snapshot.id=ID,snapshot.name=NAME",
 * or one of them; free it. The image must have it: NULL with an error.
 */
char *disk_snapshot_tag(const DiskArgs *args, const char *path, const char *text, GError **error);
void disk_print_snapshots(const Image *image);

/* disk_key.c: a passphrase from a file, "-" (standard input), fd:N or env:NAME. */
GBytes *disk_key_read(const char *source, GError **error);
int disk_key_add_object(DiskArgs *args, const char *text, GError **error);
/* Finds the secrets that options name. */
int disk_key_resolve(DiskArgs *args, GError **error);
void disk_key_clear(DiskArgs *args);
/* rest[i], to read; with --image-opts it says for itself what it is. */
Image *disk_open_nth(DiskArgs *args, int i, const char *format, GError **error);

/* How `convert` copies. */
typedef struct DiskCopy {
    const char *format;         /* of the new image */
    const char *const *options; /* NULL-terminated or NULL */
    const char *parent, *parent_format;
    GBytes *key; /* of an encrypted target; NULL: none */
    bool progress, into_existing;
    bool bitmaps, skip_broken_bitmaps; /* copy those, too */
    bool durable;                      /* on stable storage at the end; else as cp(1) leaves it */
    ImageCopy how;
} DiskCopy;
/* --target-image-opts in the place of the target's name. */
int disk_key_use_target(DiskArgs *args, DiskCopy *copy, GError **error);
/* -o help; an exit status. */
int disk_print_options(const char *format, GError **error);
bool disk_copy(Image *source, const char *path, const DiskCopy *copy, GError **error);
bool disk_compact_image(Image *image, bool progress, GError **error);

/* An image that is being made. Until it is kept, a signal that ends us removes its files. */
typedef struct DiskTarget {
    GPtrArray *files; /* char *, NULL at the end */
} DiskTarget;
/* image_create() with that protection, which lasts until one of the two that follow. */
bool disk_target_create(DiskTarget *target, const char *path, const ImageCreate *create,
                        GError **error);
void disk_target_forget(DiskTarget *target); /* it is complete */
void disk_target_remove(DiskTarget *target);
