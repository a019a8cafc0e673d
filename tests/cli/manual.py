#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The manual pages name what the programs' own help names, docs/dependencies.md what tools/install-deps installs,
and docs/testing.md tests that there are; as TAP."""
import os
import pathlib
import re
import subprocess
import sys

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
OSPITE = os.environ.get("OSPITE", str(TOP / "build" / "ospite"))


def page(name):
    return (TOP / "docs" / "man" / name).read_text(encoding="utf-8")


def said(*words):
    return subprocess.run([OSPITE, *words], capture_output=True, text=True, check=True).stdout


def same(number, title, program, manual):
    for name in sorted(program - manual):
        print(f"# {name} is not in the page")
    for name in sorted(manual - program):
        print(f"# {name} is in the page, but the program does not list it")
    good = program == manual and bool(program)
    print(("" if good else "not ") + f"ok {number} - {title}")
    return good


def accepted():
    """Every option and other spelling that the page names is one that the program knows."""
    good = True
    for name in sorted(set(re.findall(r"\bFl ([a-z][a-z-]*)", page("ospite-run.1")))):
        result = subprocess.run([OSPITE, "run", f"-{name}=", "--help"], capture_output=True, text=True, check=False)
        if f"unknown option '-{name}" in result.stderr:
            print(f"# the program does not know -{name}")
            good = False
    print(("" if good else "not ") + "ok 3 - every spelling in the manual page is known")
    return good


def packages():
    """What tools/install-deps installs, by its quoted lists."""
    text = (TOP / "tools" / "install-deps").read_text(encoding="utf-8")
    return set(" ".join(re.findall(r"^(?:build|run|guest|test)='([^']*)'", text, re.M)).split())


def cases():
    """The tests that the table of docs/testing.md names: of guests, by path, and those of scripts."""
    table = (TOP / "docs" / "testing.md").read_text(encoding="utf-8").split("## What the CPU is held to")[1].split("\n## ")[0]
    named = [name for line in table.splitlines() if line.startswith("| ") for name in re.findall(r"`([^`]+)`", line)]
    units = "".join(path.read_text(encoding="utf-8") for path in sorted((TOP / "src" / "cpu").rglob("*_test.c")))
    scripts = "".join(path.read_text(encoding="utf-8") for folder in ("boots", "daemon") for path in sorted((TOP / "tests" / folder).iterdir())
                      if path.suffix == ".py" or path.name == "meson.build")
    good = bool(named)
    for name in named:
        guest, _, title = name.partition(": ")
        text = (TOP / "tests" / "guests" / f"{guest}.c").read_text(encoding="utf-8") if title else units
        if f'"{title or name}"' not in text and f"test('{name}'" not in scripts and f"def {name}(" not in scripts:
            print(f"# there is no test {name}")
            good = False
    print(("" if good else "not ") + "ok 5 - tests of the CPU that docs/testing.md names are there")
    return good


print("1..5")
results = [
    same(1, "options of ospite run", set(re.findall(r"^  --([a-z-]+)", said("run", "--help"), re.M)),
         set(re.findall(r"^\.It Fl Fl ([a-z-]+)", page("ospite-run.1"), re.M))),
    same(2, "commands of ospite", set(re.findall(r"^  ([a-z]+) ", said("help"), re.M)),
         set(re.findall(r"^\.It Cm ([a-z]+)", page("ospite.1"), re.M))),
    accepted(),
    same(4, "packages of tools/install-deps", packages(),
         set(re.findall(r"^\| `([a-z0-9.+-]+)` \|", (TOP / "docs" / "dependencies.md").read_text(encoding="utf-8"), re.M))),
    cases(),
]
sys.exit(0 if all(results) else 1)
