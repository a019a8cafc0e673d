#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""libospite as its users meet it, as TAP: the examples with a daemon, the exported names, and what is installed."""
import os
import pathlib
import re
import shutil
import subprocess
import sys

from daemon import BUILD, DESCRIPTION, PATIENCE, TOP, Daemon, Skipped, check, expect, run, wait_until

PROGRAM = BUILD / "tests" / "guests" / "paging64.elf"
SMALL = ("memory=8M", "engine=interp")
HEADERS = sorted((TOP / "include" / "ospite").glob("*.h"))
LIBRARY = BUILD / "src" / "client" / "libospite.so.0"


def example(d, name, *words, status=0):
    result = subprocess.run([BUILD / "examples" / name, *map(str, words)], env={**d.environment, "OSPITED": str(BUILD / "ospited")},
                            capture_output=True, text=True, timeout=60 * PATIENCE, check=False)
    expect(result.returncode, status, f"status of {name}: {result.stderr}")
    return result.stdout if status == 0 else result.stderr


def list_machines():
    """The first example starts the daemon and lists machines."""
    with Daemon() as d:
        expect(example(d, "list_machines"), "", "machines")
        d.run("vm", "create", "caffè ☕", *SMALL)
        expect(example(d, "list_machines"), "caffè ☕ is off\n", "machines")


def run_machine():
    """A machine is made, runs to its end or its time's end, and is deleted; a failure is told."""
    with Daemon() as d:
        expect(example(d, "run_machine", "one", PROGRAM, 60, "engine=interp", "debug.exit-port=0xf4"), "one ended: exit\n", "end")
        expect(example(d, "run_machine", "one", PROGRAM, 1, "engine=interp"), "one ended: plug\n", "end by the clock")
        expect(d.call("GET", "/vms")["vms"], [], "what is left")
        check("no-such" in example(d, "run_machine", "two", PROGRAM, 60, "no-such=1", status=1), "the wrong setting is not named")


def follow_events():
    """Events come in their order, to the last."""
    with Daemon() as d:
        d.run("vm", "create", "one", *SMALL)
        with subprocess.Popen([BUILD / "examples" / "follow_events", "one"], env=d.environment, stdout=subprocess.PIPE, text=True) as process:
            expect(process.stdout.readline().split()[0], "hello", "first event")
            d.run("vm", "start", "one")
            d.run("vm", "poweroff", "one")
            text, _ = process.communicate(timeout=60 * PATIENCE)
        expect(re.findall(r"vm-state one (\w+)", text), ["starting", "running", "off"], "states")
        expect(process.returncode, 0, "status")


def change_settings():
    """Settings are changed, with the time when they count; errors have their codes."""
    with Daemon() as d:
        d.run("vm", "create", "one", *SMALL)
        expect(example(d, "change_settings", "one", "memory=16M"), "system.memory: now\nmemory: 16777216 bytes\n", "answer")
        d.run("vm", "start", "one")
        check("system.cpus: restart\n" in example(d, "change_settings", "one", "cpus=2"), "no word of the next start")
        example(d, "change_settings", "none", "cpus=2", status=3)
        example(d, "change_settings", "one", "cpus=many", status=1)


def keep_machine():
    """A machine is imported, run, looked at, copied and taken away; what had no counterpart is said."""
    with Daemon() as d:
        (d.path / "a.xml").write_text("<domain type='kvm'><name>a</name><memory unit='MiB'>8</memory><devices><tpm model='tpm-crb'/></devices></domain>")
        d.run("vm", "create", "unused")
        said = example(d, "keep_machine", d.path / "a.xml", "kept", d.path / "machines")
        check("lost: the TPM (tpm-crb; <tpm>) is not imported\nkept runs with the engine" in said and "log: " in said, said)
        expect([vm["name"] for vm in d.call("GET", "/vms")["vms"]], ["kept", "unused"], "machines")
        expect(d.vm("kept")["state"], "off", "state")
        example(d, "keep_machine", d.path / "a.xml", "kept", d.path / "machines", status=1)


def keep_snapshots():
    """A machine's state is kept, gone back to, and forgotten."""
    with Daemon() as d:
        d.run("vm", "create", "one", *SMALL)
        expect(example(d, "keep_snapshots", "one"), "taken: clean, memory 0\nrenamed: tested, memory 0\nshown: tested, memory 8388608\n"
               "restored: memory 8388608\nsnapshots: 0\n", "answers")
        example(d, "keep_snapshots", "none", status=1)


def watch_console():
    """What a guest writes comes to a main loop, until it is off."""
    with Daemon() as d:
        d.run("vm", "create", "bios", *SMALL)
        example(d, "watch_console", "bios", status=1)
        d.run("vm", "start", "bios")
        descriptors = pathlib.Path(f"/proc/{d.pid()}/fd")
        before = len(list(descriptors.iterdir()))
        with subprocess.Popen([BUILD / "examples" / "watch_console", "bios"], env=d.environment, stdout=subprocess.PIPE, text=True) as watcher:
            # The client's connection, and the daemon's to the machine.
            wait_until(lambda: len(list(descriptors.iterdir())) >= before + 2, "the console")
            d.run("vm", "poweroff", "bios")
            expect((watcher.wait(60), watcher.stdout.read()), (0, ""), "its end")


def manage_media():
    """An image is made known, changed, moved and forgotten; its file stays."""
    with Daemon() as d:
        image, moved = d.path / "a.raw", d.path / "b.raw"
        image.write_bytes(bytes(1 << 20))
        expect(example(d, "manage_media", image, moved), f"added: {image}, normal\nchanged: {image}, readonly\n"
               + "".join(f"{what}: {moved}, readonly\n" for what in ("moved", "looked at", "released", "shown")), "answers")
        check(moved.exists() and not d.call("GET", "/media")["media"], "the image is known, or gone")
        example(d, "manage_media", d.path / "none", moved, status=1)


def examples():
    """Each function of the headers is used by an example."""
    source = "".join(path.read_text(encoding="utf-8") for path in (TOP / "examples").glob("*.c"))
    for header in HEADERS:
        for name in re.findall(r"^\w[\w *]*?[ *](ospite_\w+)\(", header.read_text(encoding="utf-8"), re.M):
            used = re.search(rf"\b{name}\(", source) or (name == "ospite_client_free" and "g_autoptr(OspiteClient)" in source) \
                or (name == "ospite_error_quark" and "OSPITE_ERROR," in source)
            check(used, f"{name} is in no example")


def exports():
    """The library exports what the headers declare, and nothing else; its name has a version."""
    names = subprocess.run(["nm", "-D", "--defined-only", LIBRARY], capture_output=True, text=True, check=True).stdout
    exported = {line.split()[-1].split("@")[0] for line in names.splitlines() if " T " in line}
    declared = set()
    for header in HEADERS:
        declared |= set(re.findall(r"^\w[\w *]*?[ *](ospite_\w+)\(", header.read_text(encoding="utf-8"), re.M))
    expect(exported ^ declared, set(), "difference between the library and its headers")
    check(not re.search(r" [BD] ", names), "data is exported")
    head = subprocess.run(["readelf", "-d", LIBRARY], capture_output=True, text=True, check=True).stdout
    check("[libospite.so.0]" in head, "the soname is wrong")


def operations():
    """Every operation of the description has its function: its path is in the library's sources."""
    source = "".join(path.read_text(encoding="utf-8") for path in (TOP / "src" / "client").glob("*.c"))
    for path, item in DESCRIPTION["paths"].items():
        last = re.sub(r"/?\{\w+\}", "", path.rpartition("/")[2]) or path.split("/")[1]
        check(path == "/doctor" or f'/{last}' in source, f"{path} ({', '.join(item)}) has no function")


def headers():
    """Every header is C99 and C11 on its own."""
    flags = subprocess.run(["pkg-config", "--cflags", "gio-2.0", "json-glib-1.0"], capture_output=True, text=True, check=True).stdout.split()
    for header in HEADERS:
        for standard in ("c99", "gnu11"):
            subprocess.run(["gcc", "-xc", f"-std={standard}", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", f"-I{TOP / 'include'}", *flags,
                            "-include", f"ospite/{header.name}", "/dev/null"], check=True)


def installed():
    """What is installed is enough to build and run a program by pkg-config."""
    with Daemon() as d:
        root = d.path / "root"
        subprocess.run(["meson", "install", "-C", BUILD, "--no-rebuild", "--quiet", "--destdir", root], check=True, capture_output=True)
        for name in ("man1/ospite-vm-create.1", "completions/ospite.bash", "site-functions/_ospite", "vendor_completions.d/ospite.fish",
                     "it/LC_MESSAGES/ospite.mo", "ospite/py.typed", "sdk/html/index.html"):
            check(len(list(root.rglob(name))) == 1, f"{name} is not installed")
        if "__asan_init" in subprocess.run(["nm", "-D", LIBRARY], capture_output=True, text=True, check=True).stdout:
            raise Skipped("a library with a sanitizer needs programs with the same one")
        [description] = root.rglob("ospite.pc")
        environment = {**d.environment, "PKG_CONFIG_PATH": str(description.parent), "PKG_CONFIG_SYSROOT_DIR": str(root)}
        prefix = pathlib.Path(subprocess.run(["pkg-config", "--variable=prefix", "ospite"], env=environment, capture_output=True, text=True,
                                             check=True).stdout.strip())
        shutil.copy(TOP / "examples" / "list_machines.c", d.path)
        # The sysroot applies to all paths, those of Debian's libraries included.
        flags = subprocess.run(["pkg-config", "--cflags", "--libs", "ospite"], env=environment, capture_output=True, text=True,
                               check=True).stdout.replace(f"{root}/usr/include", "/usr/include").replace(f"{root}/usr/lib", "/usr/lib").split()
        subprocess.run(["gcc", "list_machines.c", "-o", "list", *flags], cwd=d.path, check=True)
        place = root / prefix.relative_to("/") if not str(prefix).startswith(str(root)) else prefix
        environment["LD_LIBRARY_PATH"] = str(description.parent.parent)
        environment["PATH"] = f"{place / 'bin'}:{os.environ['PATH']}"
        result = subprocess.run([d.path / "list"], env=environment, capture_output=True, text=True, timeout=60 * PATIENCE, check=False)
        expect((result.returncode, result.stderr), (0, ""), "the installed library's program")


sys.exit(run((list_machines, run_machine, follow_events, change_settings, keep_machine, keep_snapshots, watch_console, manage_media, examples, exports, operations, headers, installed), sys.argv[1:]))
