/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A schema as XSD 1.0, for editors and for xmllint. Elements may come in any order. Extensions lie
 * in a namespace of their own there; our reader keeps others, too.
 */
#include <string.h>

#include "vm/schema_internal.h"

static const char uuid_pattern[] = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}";

static void put_facet(GString *out, const char *facet, const char *value)
{
    g_autofree char *escaped = g_markup_escape_text(value, -1);

    g_string_append_printf(out, "<xs:%s value=\"%s\"/>", facet, escaped);
}

static void put_restriction(GString *out, const char *base, const char *facet, const char *value)
{
    g_string_append_printf(out, "<xs:simpleType><xs:restriction base=\"%s\">", base);
    if (facet)
        put_facet(out, facet, value);
}

static void put_choices(GString *out, const char *choices)
{
    g_auto(GStrv) words = g_strsplit(choices, " ", -1);

    for (char **word = words; *word; word++)
        put_facet(out, "enumeration", *word);
}

static void put_type(GString *out, const VmField *field)
{
    g_autofree char *least = g_strdup_printf("%" G_GUINT64_FORMAT, field->min);
    g_autofree char *most = g_strdup_printf("%" G_GUINT64_FORMAT, field->max);
    g_autofree char *words = NULL, *list = NULL;

    switch (field->type) {
    case VM_BOOL:
        put_restriction(out, "xs:string", NULL, NULL);
        put_choices(out, "true false");
        break;
    case VM_INT:
        put_restriction(out, "xs:unsignedLong", "minInclusive", least);
        put_facet(out, "maxInclusive", most);
        break;
    case VM_SIZE:
        put_restriction(out, "xs:string", "pattern", "[0-9]+[KMGT]?");
        break;
    case VM_ENUM:
        put_restriction(out, "xs:string", NULL, NULL);
        put_choices(out, field->choices);
        break;
    case VM_LIST:
        words = g_strdelimit(g_strdup(field->choices), " ", '|');
        list = g_strdup_printf("(%s)(,(%s))*", words, words);
        put_restriction(out, "xs:string", "pattern", list);
        break;
    case VM_UUID:
        put_restriction(out, "xs:string", "pattern", uuid_pattern);
        break;
    default:
        put_restriction(out, "xs:string", "maxLength", most);
        if (field->pattern)
            put_facet(out, "pattern", field->pattern);
    }
    g_string_append(out, "</xs:restriction></xs:simpleType>");
}

static void put_section(GString *out, const VmSchema *schema, const VmSection *section);

/* All that an element holds; `section` NULL: the root. */
static void put_contents(GString *out, const VmSchema *schema, const VmSection *section)
{
    const VmField *fields = section ? section->fields : NULL;

    g_string_append(out, "<xs:complexType><xs:choice minOccurs=\"0\" maxOccurs=\"unbounded\">");
    for (const VmField *f = fields; f && f->name; f++) {
        if (f->type != VM_TEXT)
            continue;
        g_string_append_printf(out, "<xs:element name=\"%s\">", f->name);
        put_type(out, f);
        g_string_append(out, "</xs:element>");
    }
    for (const VmSection *s = schema->sections; s->pattern; s++) {
        if (schema_parent(schema, s) == section)
            put_section(out, schema, s);
    }
    g_string_append(out, "<xs:any namespace=\"##other\" processContents=\"skip\"/></xs:choice>");
    if (!section)
        g_string_append_printf(
            out, "<xs:attribute name=\"version\" use=\"required\" fixed=\"%u\"/>", schema->version);
    if (section && section->key) {
        g_string_append_printf(out, "<xs:attribute name=\"%s\" use=\"required\">", section->key);
        put_restriction(out, "xs:string", "pattern", section->key_pattern);
        g_string_append(out, "</xs:restriction></xs:simpleType></xs:attribute>");
    }
    for (const VmField *f = fields; f && f->name; f++) {
        if (f->type == VM_TEXT)
            continue;
        g_string_append_printf(out, "<xs:attribute name=\"%s\"%s>", f->name,
                               f->required ? " use=\"required\"" : "");
        put_type(out, f);
        g_string_append(out, "</xs:attribute>");
    }
    g_string_append(out, "<xs:anyAttribute namespace=\"##other\" processContents=\"skip\"/>"
                         "</xs:complexType>");
}

/* As deep as the schema's patterns. */
static void put_section(GString *out, const VmSchema *schema, const VmSection *section)
{
    g_string_append_printf(out, "<xs:element name=\"%s\">", section->element);
    put_contents(out, schema, section);
    g_string_append(out, "</xs:element>\n");
}

char *vm_schema_xsd(const VmSchema *schema)
{
    GString *out = g_string_new("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<xs:schema "
                                "xmlns:xs=\"http://www.w3.org/2001/XMLSchema\">\n");

    g_string_append_printf(out, "<xs:element name=\"%s\">", schema->root);
    put_contents(out, schema, NULL);
    g_string_append(out, "</xs:element>\n</xs:schema>\n");
    return g_string_free(out, FALSE);
}
