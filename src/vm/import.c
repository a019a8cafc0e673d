/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Reading other products' machine files. Both are small walks over an XML document that set what
 * has a counterpart and report the rest; the result is held against vm_config_check().
 */
#include "vm/import.h"

#include <string.h>

#include "base/address.h"
#include "base/bits.h"
#include "base/i18n.h"
#include "vm/build.h"
#include "vm/import_internal.h"
#include "vm/text.h"
#include "vm/tree_internal.h"
#include "vm/xml.h"

#define REPORT_MAX 1000

void import_say(const Importer *in, const char *format, ...)
{
    va_list args;

    if (in->report->len >= REPORT_MAX)
        return;
    va_start(args, format);
    g_ptr_array_add(in->report, g_strdup_vprintf(format, args));
    va_end(args);
}

/* Sets what the file says; a value that we cannot have is reported. */
void import_put(const Importer *in, const char *path, const char *value)
{
    g_autoptr(GError) error = NULL;

    if (value && !vm_tree_set(in->config, path, value, &error))
        import_say(in, "%s", error->message);
}

void import_put_at(const Importer *in, const char *place, const char *field, const char *value)
{
    g_autofree char *path = g_strconcat(place, ".", field, NULL);

    import_put(in, path, value);
}

void import_put_switch(const Importer *in, const char *place, const char *field,
                       const xmlNode *node, const char *attribute)
{
    g_autofree char *value = import_attribute(node, attribute);

    import_put_at(in, place, field, value ? (import_is_true(value) ? "true" : "false") : NULL);
}

const char *import_word(const ImportWord *words, const char *theirs)
{
    while (theirs && words->theirs && g_ascii_strcasecmp(words->theirs, theirs))
        words++;
    return theirs && words->theirs ? words->ours : NULL;
}

/* One that is none was hardly anybody's: the machine keeps its new one. */
void import_put_uuid(const Importer *in, const char *uuid)
{
    g_autofree char *plain = g_ascii_strdown(uuid ? uuid : "", -1);

    g_strdelimit(plain, "{}", ' ');
    g_strstrip(plain);
    if (g_uuid_string_is_valid(plain))
        import_put(in, "general.uuid", plain);
}

char *import_place(const Importer *in, const char *list, const char *name, const char *word)
{
    g_autofree char *plain = g_strndup(name && *name ? name : word, 24);
    g_autofree char *place = NULL;

    g_strcanon(plain, G_CSET_A_2_Z G_CSET_a_2_z G_CSET_DIGITS "_-", '-');
    place = name && *name ? g_strconcat(list, ".", plain, NULL) : NULL;
    for (unsigned i = 0; !place || vm_tree_has(in->config, place); i++) {
        g_free(place);
        place = g_strdup_printf(name && *name ? "%s.%s-%u" : "%s.%s%u", list, plain, i);
    }
    return g_steal_pointer(&place);
}

bool import_is_named(const xmlNode *node, const char *name)
{
    return node->type == XML_ELEMENT_NODE && !strcmp((const char *)node->name, name);
}

const xmlNode *import_child(const xmlNode *node, const char *name)
{
    for (const xmlNode *at = node ? node->children : NULL; at; at = at->next) {
        if (import_is_named(at, name))
            return at;
    }
    return NULL;
}

/* Down a path of names separated by slashes; NULL: not there. */
const xmlNode *import_down(const xmlNode *node, const char *path)
{
    g_auto(GStrv) names = g_strsplit(path, "/", -1);

    for (char **name = names; *name && node; name++)
        node = import_child(node, *name);
    return node;
}

char *import_attribute(const xmlNode *node, const char *name)
{
    return node ? tree_attribute(node, name) : NULL;
}

char *import_content(const xmlNode *node)
{
    xmlChar *text = node ? xmlNodeGetContent(node) : NULL;
    char *copy = text ? g_strstrip(g_strdup((char *)text)) : NULL;

    xmlFree(text);
    return copy;
}

bool import_is_true(const char *text)
{
    return text && (!strcmp(text, "true") || !strcmp(text, "yes") || !strcmp(text, "on") ||
                    !strcmp(text, "1"));
}

/* A name that a machine may have, from one that another product allowed. */
void import_put_name(const Importer *in, const char *name)
{
    g_autofree char *valid = g_utf8_make_valid(name ? name : "", -1);

    g_strdelimit(valid, "/\n\r\t", '-');
    if (vm_name_check(valid, NULL)) {
        import_put(in, "general.name", valid);
        if (name && strcmp(valid, name) != 0)
            import_say(in, _("the machine's name cannot be used; it is now called '%s'"), valid);
    } else {
        import_say(in, _("the machine's name cannot be used; it is now called '%s'"), "imported");
    }
}

void import_attachment(const Importer *in, const char *place, const char *type, const char *file,
                       const char *format)
{
    g_autofree char *type_path = g_strconcat(place, ".type", NULL);
    g_autofree char *medium_path = g_strconcat(place, ".medium", NULL);
    g_autofree char *format_path = g_strconcat(place, ".format", NULL);
    g_autofree char *absolute = file && *file ? absolute_name(file, in->folder) : NULL;

    if (vm_tree_has(in->config, place)) {
        import_say(in, _("%s is taken already; %s %s is left out"), place, type,
                   absolute ? absolute : "");
        return;
    }
    if (!strcmp(type, "disk") && !absolute) {
        import_say(in, _("%s: a disk without an image file is left out"), place);
        return;
    }
    import_put(in, type_path, type);
    import_put(in, medium_path, absolute);
    import_put(in, format_path, absolute ? format : NULL);
}

/* printf(3) would not know a format of a table. */
static char *fill(const char *format, const char *name, const char *detail)
{
    g_auto(GStrv) parts = g_strsplit(format, "%s", 3);
    const char *words[] = {name ? name : "?", detail ? detail : "?"};
    GString *text = g_string_new(parts[0]);

    for (unsigned i = 0; i < 2 && parts[i + 1]; i++)
        g_string_append_printf(text, "%s%s", words[i], parts[i + 1]);
    return g_string_free(text, FALSE);
}

/* Says it when the element is one of the kinds, unless it is turned off. */
bool import_say_lost(const Importer *in, const xmlNode *at, const LostKind *kinds, size_t count)
{
    g_autofree char *enabled = import_attribute(at, "enabled");

    for (size_t i = 0; i < count; i++) {
        if (!import_is_named(at, kinds[i].element))
            continue;
        g_autofree char *name = kinds[i].name ? import_attribute(at, kinds[i].name) : NULL;
        g_autofree char *detail = kinds[i].detail ? import_attribute(at, kinds[i].detail) : NULL;
        g_autofree char *text = fill(_(kinds[i].format), name, detail);
        if (enabled ? import_is_true(enabled) : !kinds[i].is_off)
            import_say(in, "%s", text);
        return true;
    }
    return false;
}

/* ---- both -------------------------------------------------------------------------------------
 */

/* Whose CPUs it has; NULL: this one's. */
static char *foreign_architecture(const Importer *in, const xmlNode *machine)
{
    static const char *const ours[] = {"x86_64", "i686", "x86", NULL};
    const xmlNode *node =
        machine ? import_down(machine, "Hardware/Platform") : import_down(in->root, "os/type");
    g_autofree char *kind = machine ? NULL : import_content(node);
    g_autofree char *name = import_attribute(node, machine ? "architecture" : "arch");

    if (kind && *kind && strcmp(kind, "hvm"))
        return g_steal_pointer(&kind); /* "exe" of containers, "linux" and "xen" of Xen */
    return name && !g_strv_contains(ours, name) ? g_steal_pointer(&name) : NULL;
}

static bool import_root(const Importer *in, const char *quoted, GError **error)
{
    const xmlNode *machine =
        import_is_named(in->root, "VirtualBox") ? import_child(in->root, "Machine") : NULL;
    g_autofree char *foreign = NULL;
    g_autoptr(GError) why = NULL;

    if (import_is_named(in->root, "VirtualBox") && import_child(in->root, "MachineEncrypted"))
        return vm_error(error, G_IO_ERROR_NOT_SUPPORTED,
                        _("cannot import %s: VirtualBox encrypted the machine; take that away "
                          "there first (VBoxManage encryptvm)"),
                        quoted);
    foreign = foreign_architecture(in, machine);
    if (foreign)
        return vm_error(error, G_IO_ERROR_NOT_SUPPORTED,
                        _("cannot import %s: it is a machine of the kind '%s', not a whole x86 PC"),
                        quoted, foreign);
    if (machine)
        import_vbox(in, machine);
    else if (import_is_named(in->root, "domain"))
        import_libvirt(in);
    else
        return vm_error(error, G_IO_ERROR_INVALID_DATA,
                        _("cannot import %s: it is neither a VirtualBox machine nor a libvirt "
                          "domain"),
                        quoted);
    if (!vm_config_check(in->config, &why))
        return vm_error(error, G_IO_ERROR_INVALID_DATA, _("cannot import %s: %s"), quoted,
                        why->message);
    vm_build_reduce(in->config, in->report);
    return true;
}

VmImport *vm_import_parse(const char *text, size_t size, const char *name, const char *folder,
                          GError **error)
{
    g_autofree char *quoted = text_quote(name);
    g_autoptr(VmImport) import = NULL;
    xmlDoc *doc = xml_parse(text, size, quoted, error);
    Importer in;

    if (!doc)
        return NULL;
    import = g_new0(VmImport, 1);
    import->report = g_ptr_array_new_with_free_func(g_free);
    import->config = vm_config_new("imported", NULL);
    vm_tree_remove(import->config, "storage.ide0", NULL);
    vm_tree_remove(import->config, "storage.floppy0", NULL);
    in = (Importer){import->config, import->report, folder, xmlDocGetRootElement(doc)};
    if (!import_root(&in, quoted, error))
        g_clear_pointer(&import, vm_import_free);
    xmlFreeDoc(doc);
    return g_steal_pointer(&import);
}

VmImport *vm_import_load(const char *path, GError **error)
{
    size_t size;
    g_autofree char *text = xml_read_file(path, IMPORT_MAX, &size, error);
    g_autofree char *absolute = g_canonicalize_filename(path, NULL);
    g_autofree char *folder = g_path_get_dirname(absolute);

    return text ? vm_import_parse(text, size, path, folder, error) : NULL;
}

void vm_import_free(VmImport *import)
{
    if (!import)
        return;
    vm_tree_free(import->config);
    g_ptr_array_unref(import->report);
    g_free(import);
}
