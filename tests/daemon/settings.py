#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one table of settings against all that is made of it, as TAP: names, XML, XSD, the API and its description, the manual page.

The table comes as JSON (`ospite vm settings --json`); each of its rows is set to values that it allows and to values that it forbids, by
the API, and looked for in the machine's file, which is read here with another XML reader.
"""
import json
import re
import subprocess
import sys
import urllib.parse
import xml.etree.ElementTree as ET

import jsonschema

from daemon import DESCRIPTION, OSPITE, TOP, Daemon, check, expect, run

XS = "{http://www.w3.org/2001/XMLSchema}"
UNITS = "KMGT"
ROWS = json.loads(subprocess.run([OSPITE, "vm", "settings", "--json"], check=True, capture_output=True, text=True).stdout)["settings"]
SNAPSHOT = "00000000-0000-4000-8000-00000000000a"
# Keys for the stars of a pattern, by the first word.
KEYS = {"storage": ("ide0", "0"), "network": ("0", "ssh"), "serial": ("0",), "parallel": ("0",), "usb": ("stick",), "shared": ("docs",),
        "snapshots": (SNAPSHOT,), "extra": ("GUI/Size",)}
# What a row needs beside it to make a machine that may be saved.
COMPANY = {
    "storage.*.*": {"storage.ide0.type": "ide", "storage.ide0.0.type": "disk", "storage.ide0.0.medium": "a.raw"},
    "storage.*": {"storage.ide0.type": "ide"},
    "network.*.forward.*": {"network.0.forward.ssh.host-port": "1", "network.0.forward.ssh.guest-port": "1"},
    "serial.*": {"serial.0.backend": "none"}, "parallel.*": {"parallel.0.backend": "none"}, "shared.*": {"shared.docs.path": "/srv"},
    "snapshots.*": {f"snapshots.{SNAPSHOT}.name": "s"}, "snapshots": {f"snapshots.{SNAPSHOT}.name": "s"},
    "kernel": {"kernel.file": "vmlinuz"},
}
# Texts with a pattern: what it allows, at its ends, too, and what it forbids.
PATTERNS = {
    "general.os": (("a", "debian12", "x" * 64), ("x" * 65, "a b", "é")),
    "general.groups": (("/A", "/A/B,/C D"), ("A", "/", "/A,", "/A//B")),
    "storage.*.*.format": (("raw", "qcow2", "x" * 16), ("RAW", "x" * 17, "a b")),
    "network.*.network": (("br0", "x" * 64), ("x" * 65, "a/b")),
    "network.*.mac": (("02:00:00:00:00:01",), ("02:00:00:00:00", "02:00:00:00:00:0G", "02-00-00-00-00-01")),
    "network.*.forward.*.host-address": (("0.0.0.0", "::1"), ("a host", "x" * 46)),
    "network.*.forward.*.guest-address": (("10.0.2.15", "fe80::1"), ("guest", "1" * 46)),
    "serial.*.backend": (("none", "pty", "file:out", "unix:a/b"), ("tty", "file:", "x")),
    "parallel.*.backend": (("none", "file:lp"), ("lp0",)),
    "display.vnc": (("127.0.0.1:5900", "[::1]:1"), ("5900", "host:5900", "127.0.0.1:123456")),
    "display.rdp": (("127.0.0.1:3389",), ("3389", "localhost:1")),
    "usb.filter.*.vendor": (("0951",), ("951", "0X51", "09511")),
    "usb.filter.*.product": (("1666",), ("1", "ABCD")),
    "debug.console": (("none", "file:log"), ("log",)),
    "snapshots.*.taken": (("2026-01-01T00:00:00Z", "2026-01-01T00:00:00.123456789Z"), ("yesterday", "2026-01-01", "2026-01-01T00:00:00+01:00")),
}
# What other rules, or a later version, allow less of than the table does; each is tested by name elsewhere.
OTHER_RULES = {"storage.*.type": ("ide",), "storage.*.*.type": ("disk", "cdrom"), "autostart.stop": ("acpi", "poweroff"), "general.name": ("renamed", "à 😀"),
               "snapshots.current": (SNAPSHOT,), "snapshots.*.parent": ()}


def size_text(number):
    for power, unit in reversed(list(enumerate(UNITS, 1))):
        if number and number % 1024 ** power == 0:
            return f"{number >> 10 * power}{unit}"
    return str(number)


def values(row):
    """(what is set, what the file has then) of allowed values, and forbidden ones."""
    name, kind, least, most = row["name"], row["type"], row["min"], row["max"]
    if name in PATTERNS:
        return [(v, v) for v in PATTERNS[name][0]], list(PATTERNS[name][1])
    check(not row["pattern"], f"{name} has a pattern, and no samples in this test")
    if kind == "bool":
        return [("on", "true"), ("off", "false"), ("1", "true"), ("no", "false"), ("true", "true")], ["maybe", "2", ""]
    if kind == "integer":
        good = [(str(n), str(n)) for n in {least, least + (most - least) // 2, most}]
        return good + [(hex(most), str(most))], [str(most + 1), "-1", "1.5", "x", str(2 ** 64)] + ([str(least - 1)] if least else [])
    if kind == "size":
        good = [(str(n), size_text(n)) for n in {least, most, max(least, min(most, 1 << 20))}]
        return good, [str(most + 1), "-1", "1X", "16777216T"] + ([str(least - 1)] if least else [])
    if kind == "enum":
        return [(w, w) for w in OTHER_RULES.get(name, row["choices"].split())], ["nonsense", row["choices"].upper()]
    if kind == "list":
        words = row["choices"].split()
        return [(",".join(words), ",".join(words)), (words[0], words[0])], [f"{words[0]},{words[0]}", "nonsense", ","]
    if kind == "uuid":
        return [(v, v) for v in OTHER_RULES.get(name, (SNAPSHOT,))], ["x", SNAPSHOT[:-1], "{" + SNAPSHOT + "}"]
    if kind == "path":
        return [("a", "a"), ("b/c d", "b/c d"), ("/abs/é", "/abs/é")], ["../a", "a/../b", "x" * (most + 1), "a\nb"]
    if kind == "text":
        return [("two\nlines <&>", "two\nlines <&>"), ("x" * most, "x" * most)], ["x" * (most + 1), "\x01"]
    good = OTHER_RULES.get(name, ("a", "<&\"'> é 😀", "x" * most))
    return [(v, v) for v in good], ["x" * (most + 1), "a\nb", "\x01"]


def concrete(name):
    keys = iter(KEYS.get(name.split(".")[0], ()))
    return ".".join(next(keys) if word == "*" else word for word in name.split("."))


def pattern_of(row):
    return row["name"].rpartition(".")[0]


def walk_xml(root, name):
    """The element of a section's concrete name, by the table's elements and keys; None."""
    node, at = root, []
    for part in name.split("."):
        at.append(part)
        row = next((r for r in ROWS if concrete(pattern_of(r)) == ".".join(at)), None)
        if not row and node is not root:
            continue  # a word between, which is no element: network.0.forward
        children = [c for c in node if c.tag == (row["element"] if row else part)]
        if row and row["key"]:
            children = [c for c in children if c.get(row["key"]) == part]
        if not children:
            return None
        node = children[0]
    return node


def stored(text, row):
    element = walk_xml(ET.fromstring(text), concrete(pattern_of(row)))
    field = row["name"].rpartition(".")[2]
    if element is None:
        return None
    return element.findtext(field) if row["type"] == "text" else element.get(field)


def shown(vm, name):
    """The value in what the API shows, as the file has it."""
    node = vm["config"]
    words = name.split(".")
    while words:  # a key may not hold dots, so words are members
        node = node.get(words.pop(0)) if isinstance(node, dict) else None
    return node


def same(value, text, row):
    if row["type"] == "bool":
        return value is (text == "true")
    if row["type"] == "integer":
        return value == int(text)
    if row["type"] == "size":
        return value == int(text.rstrip(UNITS)) << (10 * (UNITS.index(text[-1]) + 1) if text[-1] in UNITS else 0)
    return value == (text.split(",") if row["type"] == "list" else text)


def described(schema, words):
    """The schema of a concrete name in the description's Config."""
    for word in words:
        below = schema.get("properties", {}).get(word)
        if below is None:
            below = next((s for p, s in schema.get("patternProperties", {}).items() if re.search(p, word)), None)
        if below is None:
            return None
        schema = below
    return schema


# ---- what is made of the table ------------------------------------------------------------------

def issue_items():
    """All that a machine's configuration is to name has its settings."""
    names = {row["name"] for row in ROWS}
    for name in ("general.name general.uuid general.os general.description general.groups system.memory system.cpus system.cpu system.firmware "
                 "system.boot system.rtc system.acpi system.apic system.hpet storage.*.type storage.*.*.medium storage.*.*.mode network.*.model "
                 "serial.*.backend parallel.*.backend display.adapter audio.adapter usb.controller shared.*.path guest.clipboard "
                 "network.*.forward.*.host-port autostart.enabled limits.cpu limits.disk limits.network snapshots.*.name").split():
        check(name in names, f"{name} is not in the table")


def description():
    """The API's description has each setting with its type, range, default and words, made of the table."""
    made = subprocess.run([OSPITE, "vm", "settings", "--openapi"], check=True, capture_output=True, text=True).stdout
    check(made in (TOP / "api/openapi.yaml").read_text(encoding="utf-8"), "api/openapi.yaml is older than the table; run tools/update-api")
    config = DESCRIPTION["components"]["schemas"]["Config"]
    for row in ROWS:
        schema = described(config, concrete(row["name"]).split("."))
        check(schema, f"{row['name']} is not described")
        expect(schema["description"], row["help"], f"description of {row['name']}")
        expect(schema["x-change"], row["change"], f"when {row['name']} counts")
        if row["type"] in ("integer", "size"):
            expect((schema["minimum"], schema["maximum"]), (row["min"], row["max"]), f"range of {row['name']}")
        if row["default"] is not None and row["type"] != "list":
            check(same(schema["default"], row["default"], row), f"default of {row['name']}: {schema['default']!r}")


def schema_file():
    """The XSD has an attribute, or an element of many lines, for each setting."""
    root = ET.fromstring(subprocess.run([OSPITE, "vm", "settings", "--xsd"], check=True, capture_output=True, text=True).stdout)
    for row in ROWS:
        node, words = root.find(f"{XS}element"), pattern_of(row).split(".")
        for depth in range(len(words)):
            section = next((r for r in ROWS if pattern_of(r) == ".".join(words[:depth + 1])), None)
            name = section["element"] if section else words[depth]
            below = next((e for e in node.findall(f"{XS}complexType/{XS}choice/{XS}element") if e.get("name") == name), None)
            node = node if below is None else below
        field = row["name"].rpartition(".")[2]
        kinds = f"{XS}choice/{XS}element" if row["type"] == "text" else f"{XS}attribute"
        found = [a for a in node.findall(f"{XS}complexType/{kinds}") if a.get("name") == field]
        expect(len(found), 1, f"declarations of {row['name']}")
        expect(found[0].get("use") == "required", row["required"], f"whether {row['name']} is needed")


def manual():
    """The manual page has each setting, with its words and its range; so does `vm settings`."""
    with Daemon() as d:
        page, listed = d.run("vm", "settings", "--manual"), d.run("vm", "settings")
        said = subprocess.run(["groff", "-mdoc", "-Tutf8", "-P-cbou", "-rLL=200n", "-ww"], input=page, capture_output=True, text=True, check=True)
        expect(said.stderr, "", "warnings of groff")
        text = " ".join(said.stdout.split())
        for row in ROWS:
            check(f".It Va {row['name']}\n" in page and row["name"] in text, f"{row['name']} is not in the manual page")
            check(f"{row['name']}\n    {row['help']}\n" in listed, f"{row['name']} is not in 'vm settings'")
        expect(d.run("vm", "settings", "system.memory").splitlines()[0], "system.memory", "one setting")
        d.run("vm", "settings", "nonsense", status=3)


# ---- there and back -----------------------------------------------------------------------------

def fresh(d, row):
    """A machine with what the row needs beside it."""
    company = COMPANY.get(pattern_of(row), {})
    d.run("vm", "create", "one", *(f"{name}={value}" for name, value in company.items()))
    return d.vm("one")["uuid"]


def holds(d, uuid, row, wanted):
    """The file, an answer and the XSD agree about a value that was set."""
    vm = d.call("GET", f"/vms/{uuid}")["vm"]
    text = (d.path / "file.xml")
    status, xml = d.http("GET", f"/vms/{uuid}/config")
    expect(status, 200, "status of the file")
    text.write_bytes(xml)
    expect(stored(xml, row), wanted, f"{row['name']} in the file")
    check(same(shown(vm, concrete(row["name"])), wanted, row), f"{row['name']} is shown as {shown(vm, concrete(row['name']))!r}, not {wanted!r}")
    result = subprocess.run(["xmllint", "--noout", "--schema", d.path / "x.xsd", text], capture_output=True, text=True, check=False)
    expect(result.returncode, 0, f"{row['name']}={wanted!r} by the XSD: {result.stderr}")


def round_trip(rows):
    with Daemon() as d:
        (d.path / "x.xsd").write_text(d.run("vm", "settings", "--xsd"))
        for row in rows:
            uuid, name = fresh(d, row), concrete(row["name"])
            good, bad = values(row)
            for text, wanted in good if row["change"] != "never" or row["type"] != "uuid" else []:
                d.call("PATCH", f"/vms/{uuid}", {"settings": {name: text}})
                holds(d, uuid, row, wanted)
                # The file as it is, read again: nothing is lost and nothing else is written.
                before = d.http("GET", f"/vms/{uuid}/config")[1]
                expect(d.http("PUT", f"/vms/{uuid}/config", before, "application/xml")[0], 200, f"{row['name']}={wanted!r} read again")
                expect(d.http("GET", f"/vms/{uuid}/config")[1], before, f"the file with {row['name']}={wanted!r}")
            before = d.http("GET", f"/vms/{uuid}/config")[1]
            for text in bad:
                status, answer = d.http("PATCH", f"/vms/{uuid}", {"settings": {name: text}})
                expect(status, 400, f"status of {name}={text[:40]!r}")
                check(name in json.loads(answer)["error"]["message"], f"the error does not name {name}: {answer}")
            expect(d.http("GET", f"/vms/{uuid}/config")[1], before, f"the file after wrong values of {name}")
            if not row["required"] and row["name"] != "storage.*.*.medium":  # a disk needs its image
                d.call("PATCH", f"/vms/{uuid}", {"settings": {name: None}})
                expect(stored(d.http("GET", f"/vms/{uuid}/config")[1], row), None, f"{name} at its default")
            d.call("DELETE", f"/vms/{uuid}?mode=all")


def survive_set_1():
    """Each setting of the first half survives setting, file and reading; wrong values change nothing."""
    round_trip([r for r in ROWS if r["name"] < "n" and r["name"] != "general.uuid"])


def survive_set_2():
    """Each setting of the second half survives setting, file and reading; wrong values change nothing."""
    round_trip([r for r in ROWS if r["name"] >= "n"])


def all_at_once():
    """A machine with every setting is the same for the next daemon, is shown by `vm show`, and no value is lost by moving."""
    with Daemon() as d:
        settings = {}
        for row in ROWS:
            settings.update(COMPANY.get(pattern_of(row), {}))
        for row in ROWS:
            good = values(row)[0]
            if row["name"] not in ("general.name", "general.uuid", "snapshots.*.parent", "storage.*.*.medium", "storage.*.*.type", "snapshots.*.name"):
                settings[concrete(row["name"])] = good[-1][0]
        d.run("vm", "create", "one", *(f"{name}={value}" for name, value in settings.items()))
        before, text = d.vm("one"), d.http("GET", "/vms/one/config")[1]
        said = d.run("vm", "show", "one")
        for row in ROWS:
            name = concrete(row["name"])
            if name in settings:
                check(f"\n{name}=" in said, f"{name} is not shown")
        d.kill()
        expect(d.run("vm", "show", "one"), said, "what is shown by the next daemon")
        expect(d.vm("one"), before, "the machine under the next daemon")
        d.run("vm", "move", "one", d.path / "elsewhere")
        expect(d.http("GET", "/vms/one/config")[1], text, "the file after moving")


def unknown():
    """What nobody here knows stays where it is, everywhere in the file, whatever is set beside it."""
    with Daemon() as d:
        settings = {}
        for row in ROWS:
            settings.update(COMPANY.get(pattern_of(row), {}))
        d.run("vm", "create", "one", "description=words", *(f"{name}={value}" for name, value in settings.items()))
        root = ET.fromstring(d.http("GET", "/vms/one/config")[1])
        for number, element in enumerate(list(root.iter())):
            element.set("warp", str(number))
            if not element.text or not element.text.strip():
                ET.SubElement(element, "flux", {"capacity": str(number)}).text = "a <b> &"
                ET.SubElement(element, "{urn:x}thing", {"{urn:x}a": "1"})
        expect(d.http("PUT", "/vms/one/config", ET.tostring(root), "application/xml")[0], 200, "status")

        def strange(text):
            return sorted((e.tag, e.get("warp"), e.get("capacity"), e.text if e.tag == "flux" else None, tuple(sorted(e.attrib)) if e.tag.startswith("{") else None)
                          for e in ET.fromstring(text).iter() if e.get("warp") or e.tag == "flux" or e.tag.startswith("{"))

        before = strange(d.http("GET", "/vms/one/config")[1])
        check(len(before) > 50, f"only {len(before)} strange things")
        d.run("vm", "set", "one", "memory=1G", "description=other", "storage.ide0.0.mode=readonly", "network.0.cable=off", "audio.output=off", "name=two",
              "extra.a.value=1")
        expect(strange(d.http("GET", "/vms/two/config")[1]), before, "what is strange, after `vm set`")
        d.kill()
        d.run("vm", "set", "two", "memory=2G")
        d.run("vm", "move", "two", d.path / "elsewhere")
        d.run("vm", "clone", "two", "three")
        expect(strange(d.http("GET", "/vms/two/config")[1]), before, "what is strange, after a new daemon and a move")
        expect(strange(d.http("GET", "/vms/three/config")[1]), before, "what is strange, in a clone")


sys.exit(run((issue_items, description, schema_file, manual, survive_set_1, survive_set_2, all_at_once, unknown), sys.argv[1:]))
