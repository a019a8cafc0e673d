/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Trees from and to XML. The reader takes untrusted files: a document type declaration ends it at
 * once (so there are no entities but XML's own five), nothing else is ever opened, size and depth
 * are capped.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libxml/parser.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/i18n.h"
#include "vm/path.h"
#include "vm/text.h"
#include "vm/tree_internal.h"
#include "vm/xml.h"

/* ---- the XML reader (xml.h) ----------------------------------------------------------------- */

static void refuse_doctype(void *context, const xmlChar *name, const xmlChar *external,
                           const xmlChar *system)
{
    xmlParserCtxt *parser = context;

    *(int *)parser->_private = parser->input ? MAX(parser->input->line, 1) : 1;
    xmlStopParser(parser);
}

static bool parse_failed(xmlParserCtxt *parser, const char *name, int doctype_line, GError **error)
{
    const xmlError *last = xmlCtxtGetLastError(parser);
    g_autofree char *reason = NULL;

    if (doctype_line)
        return vm_error(error, G_IO_ERROR_INVALID_DATA,
                        _("cannot read %s: line %d declares a document type or entities, which are "
                          "not allowed; remove the declaration"),
                        name, doctype_line);
    reason = g_strdup(last && last->message ? last->message : _("it is empty"));
    g_strdelimit(g_strchomp(reason), "\n", ' ');
    return vm_error(error, G_IO_ERROR_INVALID_DATA,
                    _("cannot read %s: line %d is not XML: %s; restore the file from a copy"), name,
                    last && last->line > 0 ? last->line : 1, reason);
}

xmlDoc *xml_parse(const char *text, size_t size, const char *name, GError **error)
{
    static const int options = XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING |
                               XML_PARSE_NOBLANKS | XML_PARSE_BIG_LINES;
    xmlParserCtxt *parser = xmlNewParserCtxt();
    int doctype_line = 0;
    xmlDoc *doc;

    parser->_private = &doctype_line;
    parser->sax->internalSubset = refuse_doctype;
    doc = size <= G_MAXINT ? xmlCtxtReadMemory(parser, text, (int)size, NULL, NULL, options) : NULL;
    if (doctype_line || !doc || !xmlDocGetRootElement(doc)) {
        parse_failed(parser, name, doctype_line, error);
        g_clear_pointer(&doc, xmlFreeDoc);
    }
    xmlFreeParserCtxt(parser);
    return doc;
}

static bool cannot_read(GError **error, const char *name, int code, const char *what)
{
    return vm_error(error, g_io_error_from_errno(code), _("cannot read %s: %s"), name, what);
}

static bool read_all(int fd, char *text, size_t size, size_t *ret_size)
{
    size_t got = 0;
    ssize_t n;

    do {
        n = read(fd, text + got, size - got);
        if (n > 0)
            got += n;
    } while ((n > 0 && got < size) || (n < 0 && errno == EINTR));
    *ret_size = got;
    return n >= 0;
}

char *xml_read_file(const char *path, uint64_t max_size, size_t *ret_size, GError **error)
{
    auto_fd fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    g_autofree char *name = text_quote(path), *text = NULL;
    struct stat status;

    if (fd < 0 || fstat(fd, &status) < 0) {
        cannot_read(error, name, errno, g_strerror(errno));
        return NULL;
    }
    if (!S_ISREG(status.st_mode)) {
        cannot_read(error, name, EINVAL, _("it is no regular file"));
        return NULL;
    }
    if ((uint64_t)status.st_size > max_size) {
        vm_error(error, G_IO_ERROR_INVALID_DATA,
                 _("cannot read %s: it has %" PRId64 " bytes, more than the %" PRIu64
                   " that such a file may have"),
                 name, (int64_t)status.st_size, max_size);
        return NULL;
    }
    text = g_malloc(status.st_size + 1);
    if (!read_all(fd, text, status.st_size, ret_size)) {
        cannot_read(error, name, errno, g_strerror(errno));
        return NULL;
    }
    text[*ret_size] = '\0';
    return g_steal_pointer(&text);
}

/* ---- checking ------------------------------------------------------------------------------- */

/* An element being checked. */
typedef struct Place {
    const VmTree *tree;
    const VmSection *section; /* NULL: the root */
    const char *path;         /* NULL: the root */
    const xmlNode *node;
} Place;

static bool at_line(const xmlNode *node, GError **error)
{
    if (error)
        g_prefix_error(error, _("line %ld: "), xmlGetLineNo(node));
    return false;
}

static bool check_value(const Place *place, const VmField *field, GError **error)
{
    g_autofree char *value = tree_stored(place->node, field);
    g_autofree char *own = g_strconcat(place->path, ".", field->name, NULL);

    if (value)
        return field_check(field, own, value, error);
    if (field->required)
        return vm_error(error, G_IO_ERROR_INVALID_ARGUMENT, _("%s is missing"), own);
    return true;
}

static bool check_key(const Place *place, GError **error)
{
    g_autofree char *key = tree_attribute(place->node, place->section->key);

    if (!key)
        return vm_error(error, G_IO_ERROR_INVALID_ARGUMENT, _("element '%s' has no attribute '%s'"),
                        place->section->element, place->section->key);
    return section_check_key(place->section, key, error);
}

/* A second `description` would be lost in the first. */
static bool check_texts(const Place *place, GError **error)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);

    for (const xmlNode *node = place->node->children; node; node = node->next) {
        const VmField *field = node->type == XML_ELEMENT_NODE && !node->ns
                                   ? section_field(place->section, (const char *)node->name)
                                   : NULL;
        if (field && field->type == VM_TEXT && !g_hash_table_add(seen, (char *)node->name))
            return vm_error(error, G_IO_ERROR_INVALID_ARGUMENT, _("element '%s' is there twice"),
                            (const char *)node->name);
    }
    return true;
}

static bool check_element(const Place *place, GError **error)
{
    if (place->section->key && !check_key(place, error))
        return at_line(place->node, error);
    if (!check_texts(place, error))
        return at_line(place->node, error);
    for (const VmField *f = place->section->fields; f && f->name; f++) {
        if (!check_value(place, f, error))
            return at_line(place->node, error);
    }
    return true;
}

/* As deep as the schema's patterns. */
static bool check_children(const Place *outer, GError **error)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(GHashTable) counts = g_hash_table_new(NULL, NULL);

    for (const xmlNode *node = outer->node->children; node; node = node->next) {
        const VmSection *section = tree_child_section(outer->tree->schema, outer->section, node);
        g_autofree char *path =
            section ? tree_child_path(outer->section, section, outer->path, node) : NULL;
        Place place = {outer->tree, section, path, node};
        unsigned count;
        if (!section)
            continue;
        count = GPOINTER_TO_UINT(g_hash_table_lookup(counts, section)) + 1;
        g_hash_table_insert(counts, (void *)section, GUINT_TO_POINTER(count));
        if (!check_element(&place, error))
            return false;
        if (!g_hash_table_add(seen, g_strdup(path))) {
            vm_error(error, G_IO_ERROR_INVALID_ARGUMENT, _("%s is there twice"), path);
            return at_line(node, error);
        }
        if (section->key && count > section->max_count) {
            vm_error(error, G_IO_ERROR_INVALID_ARGUMENT,
                     _("%s: there can be at most %u elements '%s'"), path, section->max_count,
                     section->element);
            return at_line(node, error);
        }
        if (!check_children(&place, error))
            return false;
    }
    return true;
}

/* Sections that must be there because something in them must be. */
static bool check_sections(const VmTree *tree, GError **error)
{
    for (const VmSection *s = tree->schema->sections; s->pattern; s++) {
        bool needed = false;
        for (const VmField *f = s->fields; !s->key && f && f->name; f++)
            needed = needed || f->required;
        if (needed && !tree_element(tree, s->pattern, false))
            return vm_error(error, G_IO_ERROR_INVALID_ARGUMENT, _("element '%s' is missing"),
                            s->element);
    }
    return true;
}

static bool check_version(const VmTree *tree, const char *name, GError **error)
{
    g_autofree char *text = tree_attribute(xmlDocGetRootElement(tree->doc), "version");
    guint64 version;

    if (!text || !g_ascii_string_to_unsigned(text, 10, 1, G_MAXINT, &version, NULL))
        return vm_error(error, G_IO_ERROR_INVALID_DATA,
                        _("cannot read %s: its root element has no version number"), name);
    if (version > tree->schema->version)
        return vm_error(error, G_IO_ERROR_NOT_SUPPORTED,
                        _("cannot read %s: it is a %s of version %u, and this program knows "
                          "versions up to %u; use a newer Ospite"),
                        name, _(tree->schema->what), (unsigned)version, tree->schema->version);
    return true;
}

bool tree_check_document(const VmTree *tree, GError **error)
{
    Place root = {tree, NULL, NULL, xmlDocGetRootElement(tree->doc)};

    return check_children(&root, error) && check_sections(tree, error);
}

/* ---- trees ---------------------------------------------------------------------------------- */

VmTree *vm_tree_parse(const VmSchema *schema, const char *text, size_t size, const char *name,
                      GError **error)
{
    g_autofree char *quoted = text_quote(name);
    g_autoptr(VmTree) tree = g_new0(VmTree, 1);
    const xmlNode *root;
    GError *reason = NULL;

    tree->schema = schema;
    tree->doc = xml_parse(text, size, quoted, error);
    if (!tree->doc)
        return NULL;
    root = xmlDocGetRootElement(tree->doc);
    if (root->ns || strcmp((const char *)root->name, schema->root) != 0) {
        vm_error(error, G_IO_ERROR_INVALID_DATA,
                 _("cannot read %s: it is no %s: its root element is '%s', not '%s'"), quoted,
                 _(schema->what), (const char *)root->name, schema->root);
        return NULL;
    }
    if (!check_version(tree, quoted, error))
        return NULL;
    if (!tree_check_document(tree, &reason)) {
        vm_error(error, G_IO_ERROR_INVALID_DATA, _("cannot read %s: %s"), quoted, reason->message);
        g_error_free(reason);
        return NULL;
    }
    return g_steal_pointer(&tree);
}

VmTree *vm_tree_load(const VmSchema *schema, const char *path, GError **error)
{
    size_t size;
    g_autofree char *text = xml_read_file(path, schema->max_size, &size, error);

    return text ? vm_tree_parse(schema, text, size, path, error) : NULL;
}

char *vm_tree_text(const VmTree *tree, size_t *ret_size)
{
    xmlChar *text = NULL;
    int size = 0;
    char *copy;

    xmlDocDumpFormatMemoryEnc(tree->doc, &text, &size, "UTF-8", 1);
    copy = g_strndup((char *)text, size);
    xmlFree(text);
    if (ret_size)
        *ret_size = size;
    return copy;
}

bool vm_tree_save(const VmTree *tree, const char *path, GError **error)
{
    g_autofree char *text = NULL, *quoted = text_quote(path);
    size_t size;

    if (!vm_tree_complete(tree, error)) {
        g_prefix_error(error, _("cannot write %s: "), quoted);
        return false;
    }
    text = vm_tree_text(tree, &size);
    if (size > tree->schema->max_size)
        return vm_error(error, G_IO_ERROR_INVALID_ARGUMENT,
                        _("cannot write %s: it would have %zu bytes, more than the "
                          "%" PRIu64 " that such a file may have"),
                        quoted, size, tree->schema->max_size);
    return vm_replace_file(path, text, size, error);
}
