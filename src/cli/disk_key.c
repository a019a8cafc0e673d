/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What opens encrypted images. A passphrase comes from a file, a descriptor or the environment,
 * never from the command line, which every process of the host can read. Its bytes are taken as
 * they are, with the end of line if there is one, as qemu-img and cryptsetup do.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/disk.h"

#define MAX_KEY 8192

typedef struct Secret {
    char *id;
    GBytes *key;
} Secret;

static void free_key(gpointer data)
{
    GByteArray *bytes = data;
    explicit_bzero(bytes->data, bytes->len);
    g_byte_array_unref(bytes);
}

static GBytes *keep_key(GByteArray *bytes)
{
    return g_bytes_new_with_free_func(bytes->data, bytes->len, free_key, bytes);
}

static GBytes *read_stream(FILE *stream, const char *name, GError **error)
{
    GByteArray *bytes = g_byte_array_new();
    g_byte_array_set_size(bytes, MAX_KEY + 1);
    size_t size = stream ? fread(bytes->data, 1, MAX_KEY + 1, stream) : 0;
    bool good = stream && !ferror(stream) && size && size <= MAX_KEY;
    bytes->len = (guint)MIN(size, MAX_KEY);
    if (stream)
        fclose(stream);
    if (good)
        return keep_key(bytes);
    free_key(bytes);
    disk_refuse(error, "cannot read a key of 1 to %d bytes from '%s'", MAX_KEY, name);
    return NULL;
}

GBytes *disk_key_read(const char *source, GError **error)
{
    if (!strcmp(source, "-"))
        return read_stream(fdopen(dup(STDIN_FILENO), "r"), source, error);
    if (g_str_has_prefix(source, "fd:"))
        return read_stream(fdopen((int)g_ascii_strtoll(source + 3, NULL, 10), "r"), source, error);
    const char *text = g_str_has_prefix(source, "env:") ? g_getenv(source + 4) : NULL;
    if (!text)
        return read_stream(fopen(source, "re"), source, error);
    GByteArray *bytes = g_byte_array_new();
    g_byte_array_append(bytes, (const uint8_t *)text, (guint)strlen(text));
    return keep_key(bytes);
}

/* ---- --object secret,id=ID,file=FILE[,format=base64] ----------------------------------------- */

static void free_secret(gpointer data)
{
    Secret *secret = data;
    g_free(secret->id);
    g_bytes_unref(secret->key);
    g_free(secret);
}

static const char *part_value(char **parts, const char *name)
{
    size_t length = strlen(name);
    for (char **p = parts; *p; p++) {
        if (!strncmp(*p, name, length) && (*p)[length] == '=')
            return *p + length + 1;
    }
    return NULL;
}

static GBytes *decode(GBytes *text)
{
    gsize size, length;
    const char *data = g_bytes_get_data(text, &size);
    g_autofree char *copy = g_strndup(data, size);
    guchar *raw = g_base64_decode(copy, &length);
    GByteArray *bytes = g_byte_array_new_take(raw, length);
    explicit_bzero(copy, size);
    g_bytes_unref(text);
    return keep_key(bytes);
}

int disk_key_add_object(DiskArgs *a, const char *text, GError **error)
{
    g_auto(GStrv) parts = g_strsplit(text, ",", -1);
    const char *id = part_value(parts, "id"), *file = part_value(parts, "file");
    const char *format = part_value(parts, "format");
    if (strcmp(parts[0] ? parts[0] : "", "secret") || !id)
        return disk_usage(error, "--object is secret,id=ID,file=FILE");
    if (part_value(parts, "data"))
        return disk_usage(error, "a secret on the command line is none; say file=FILE, file=fd:N "
                                 "or file=env:NAME instead of data=");
    GBytes *key = file ? disk_key_read(file, error) : NULL;
    if (!key)
        return file ? -1 : disk_usage(error, "--object secret needs file=FILE");
    Secret *secret = g_new0(Secret, 1);
    secret->id = g_strdup(id);
    secret->key = !g_strcmp0(format, "base64") ? decode(key) : key;
    if (!a->secrets)
        a->secrets = g_ptr_array_new_with_free_func(free_secret);
    g_ptr_array_add(a->secrets, secret);
    return 0;
}

static int find_secret(const DiskArgs *a, const char *id, GBytes **ret_key, GError **error)
{
    for (guint i = 0; a->secrets && i < a->secrets->len; i++) {
        Secret *secret = a->secrets->pdata[i];
        if (strcmp(secret->id, id))
            continue;
        g_clear_pointer(ret_key, g_bytes_unref);
        *ret_key = g_bytes_ref(secret->key);
        return 0;
    }
    return disk_usage(error, "there is no secret '%s'; add --object secret,id=%s,file=FILE", id,
                      id);
}

/* ---- where they are used --------------------------------------------------------------------- */

/*
 * driver=FORMAT,file.filename=FILE,encrypt.key-secret=ID in the place of a file's name: there goes
 * the file, and what else is said to the format and the key.
 */
static int use_words(const DiskArgs *a, char **word, const char **ret_format, GBytes **ret_key,
                     GError **error)
{
    const char *prefix = g_str_has_prefix(*word, "if=") ? "if=" : ""; /* of dd */
    g_auto(GStrv) parts = g_strsplit(*word + strlen(prefix), ",", -1);
    const char *file = part_value(parts, "file.filename"), *driver = part_value(parts, "driver");
    const char *id = part_value(parts, "encrypt.key-secret");
    file = file ? file : part_value(parts, "filename");
    id = id ? id : part_value(parts, "key-secret");
    if (!file)
        return disk_usage(error, "--image-opts needs file.filename=FILE in '%s'", *word);
    g_autofree char *name = g_strconcat(prefix, file, NULL);
    *word = (char *)g_intern_string(name);
    if (driver)
        *ret_format = g_intern_string(driver);
    return id ? find_secret(a, id, ret_key, error) : 0;
}

static int use_image_options(DiskArgs *a, GError **error)
{
    int at = 0;
    for (int i = 0; i < a->count; i++)
        at = g_str_has_prefix(a->rest[i], "if=") ? i : at;
    if (!a->image_options || !a->count)
        return 0;
    return use_words(a, &a->rest[at], &a->letter['f'], &a->key, error);
}

Image *disk_open_nth(DiskArgs *a, int i, const char *format, GError **error)
{
    DiskArgs one = *a;
    one.key = NULL;
    if (i == 0 || !a->image_options)
        return disk_open_image(a, a->rest[i], format, true, error);
    int status = use_words(a, &a->rest[i], &format, &one.key, error);
    Image *image = status ? NULL : disk_open_image(&one, a->rest[i], format, true, error);
    g_clear_pointer(&one.key, g_bytes_unref);
    return image;
}

int disk_key_use_target(DiskArgs *a, DiskCopy *copy, GError **error)
{
    if (!a->target_image_options || !a->count)
        return 0;
    if (!copy->into_existing)
        return disk_usage(error, "--target-image-opts goes with -n only");
    int status = use_words(a, &a->rest[a->count - 1], &copy->format, &a->new_key, error);
    copy->key = a->new_key;
    return status;
}

int disk_key_resolve(DiskArgs *a, GError **error)
{
    for (guint i = 0; i < a->options->len && a->options->pdata[i]; i++) {
        const char *text = a->options->pdata[i];
        const char *id = g_str_has_prefix(text, "encrypt.key-secret=") ? text + 19
                         : g_str_has_prefix(text, "key-secret=")       ? text + 11
                                                                       : NULL;
        if (!id)
            continue;
        if (find_secret(a, id, &a->new_key, error))
            return -1;
        g_ptr_array_remove_index(a->options, i--);
    }
    return use_image_options(a, error);
}

void disk_key_clear(DiskArgs *a)
{
    g_clear_pointer(&a->key, g_bytes_unref);
    g_clear_pointer(&a->new_key, g_bytes_unref);
    g_clear_pointer(&a->secrets, g_ptr_array_unref);
}
