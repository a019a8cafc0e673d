#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host without room, as TAP: what the daemon shows of a machine whose disk cannot be written, and what becomes of files that are saved.

Each test that needs a full file system runs itself in a user and mount namespace of its own, on a small tmpfs.
"""
import hashlib
import json
import os
import shutil
import subprocess
import sys

from board import Board
from daemon import BLOCK, OSPITE, PATIENCE, Daemon, check, expect, fill, in_file_system, in_small_file_system, run, validate_event, wait_until

def next_state(events):
    while True:
        event = json.loads(events.receive())
        validate_event(event)
        if event["kind"] == "vm-state":
            return event


@in_small_file_system
def paused(small):
    """A machine whose disk has no room is shown as paused, with the reason, the image and what to do; it goes on when there is room."""
    with Daemon() as d:
        image = small / "disk.raw"
        with open(image, "wb") as file:
            file.truncate(512 << 10)
        d.run("vm", "create", "one", "memory=8M", "engine=none", "storage.ide0.0.type=disk", f"storage.ide0.0.medium={image}", "storage.ide0.0.format=raw")
        events = d.websocket("/events")
        d.run("vm", "start", "one")
        expect([next_state(events)["state"] for _ in range(2)], ["starting", "running"], "states")
        ballast = fill(small / "ballast")
        board = Board(d, d.vm("one"))
        board.write_sector(100, 0x5A5A)

        def is_told():
            event = next_state(events)
            expect(event["state"], "paused", "state of the event")
            vm = d.vm("one")
            expect((vm["state"], vm["problem"]), ("paused", event["problem"]), "state")
            for word in (str(image), "cannot write", "No space left", "ospite vm resume"):
                check(word in vm["problem"], f"{word!r} is not in {vm['problem']!r}")
            summary = d.call("GET", "/vms")["vms"][0]
            expect((summary["state"], summary["problem"]), ("paused", vm["problem"]), "state in the list")
            check(vm["problem"] in d.run("vm", "list") and vm["problem"] in d.run("vm", "show", "one"), "the commands do not tell the reason")

        is_told()
        d.run("vm", "resume", "one")
        expect(next_state(events)["state"], "running", "state")
        is_told()  # there is still no room
        d.pids.add(d.vm("one")["pid"])
        d.kill()
        d.run("vm", "wait", "one", "--for", "paused")
        events = d.websocket("/events")
        check(str(image) in d.vm("one")["problem"], "the next daemon does not know the reason")
        ballast.unlink()
        expect(json.loads(d.run("vm", "resume", "one", "--json"))["vm"]["problem"], None, "problem")
        expect(next_state(events)["state"], "running", "state")
        wait_until(lambda: board.inp(0x1F7) & 0x89 == 0, "the drive")
        d.run("vm", "pause", "one")
        expect(d.vm("one")["problem"], None, "problem of a machine that was told to pause")
        d.run("vm", "poweroff", "one")
        with open(image, "rb") as file:
            file.seek(100 * 512)
            expect(file.read(512), b"\x5a" * 512, "what was written")


@in_small_file_system
def saves(small):
    """Without room nothing is made, changed or lost, and each error says so; with room again all goes on."""
    with Daemon() as d:
        d.environment["XDG_DATA_HOME"] = d.environment["XDG_CONFIG_HOME"] = str(small)
        d.run("vm", "create", "one", "memory=8M", "description=" + "long " * 2000)
        image = d.path / "a.raw"
        image.write_bytes(bytes(1 << 20))
        d.run("media", "add", image, "--format", "raw")
        files = {path: path.read_bytes() for path in small.rglob("*") if path.is_file() and path.suffix in (".ospite", ".json", ".xml")}
        expect(len(files), 3, "files")
        ballast = fill(small / "ballast")
        for words in (("vm", "set", "one", "memory=16M"), ("vm", "create", "two", "description=" + "x" * 5000), ("vm", "set", "one", "name=other"),
                      ("media", "set", image, "readonly"), ("media", "remove", image)):
            check("No space" in d.run(*words, status=1), f"{words}: no word that there is no room")
        expect({path: path.read_bytes() for path in files}, files, "files")
        expect([(vm["name"], vm["memory"]) for vm in d.call("GET", "/vms")["vms"]], [("one", 8 << 20)], "machines")
        expect([m["mode"] for m in d.call("GET", "/media")["media"]], ["normal"], "media")
        check(not list(small.rglob("*.tmp")) and not (small / "ospite/machines/two").exists(), "something is left")
        d.kill()
        expect([vm["name"] for vm in json.loads(d.run("vm", "list", "--json"))["vms"]], ["one"], "machines of the next daemon")
        ballast.unlink()
        d.run("vm", "set", "one", "memory=16M")
        d.run("vm", "create", "two")
        d.run("media", "set", image, "readonly")


# ---- every verb ---------------------------------------------------------------------------------

ROOM = [*range(12), *range(12, 64, 4), *range(64, 2048, 64)]  # blocks
SMALL = {"memory": "8M", "engine": "interp"}
LIBVIRT = "<domain type='kvm'><name>web</name><memory unit='MiB'>32</memory><vcpu>1</vcpu></domain>"


class Full(Daemon):
    """A user all of whose folders are in one small file system; what a verb needs is made with room, and tried with ever more of it."""

    def __init__(self, small):
        super().__init__()
        self.small, self.ballast = small, small / "ballast"
        self.environment |= {"XDG_DATA_HOME": str(small / "data"), "XDG_CONFIG_HOME": str(small / "config"), "XDG_RUNTIME_DIR": str(small / "run"),
                             "TMPDIR": str(self.path), "EDITOR": "sed -i s/8M/16M/"}
        (small / "run").mkdir(mode=0o700)
        self.socket = small / "run/ospite/api"
        self.one = small / "data/ospite/machines/one"
        self.disk, self.image, self.foreign = self.one / "disk.raw", small / "a.qcow2", self.path / "web.xml"
        self.foreign.write_text(LIBVIRT)

    def prepare(self):
        self.run("vm", "create", "one", "memory=8M", "engine=interp", "description=kept")
        self.disk.write_bytes(os.urandom(256 << 10))
        self.run("vm", "set", "one", "storage.ide0.0.type=disk", "storage.ide0.0.medium=disk.raw", "storage.ide0.0.format=raw")
        subprocess.run([OSPITE, "disk", "create", "-f", "qcow2", self.image, "4M"], check=True, capture_output=True)
        self.run("media", "list")

    def clear(self):
        """Nothing is left of what a verb has made."""
        self.ballast.unlink(missing_ok=True)
        for vm in self.call("GET", "/vms")["vms"]:
            if self.vm(vm["uuid"])["pid"]:
                self.run("vm", "poweroff", vm["uuid"])
        for vm in sorted(self.call("GET", "/vms")["vms"], key=lambda vm: vm["name"], reverse=True):
            self.run("vm", "delete", vm["uuid"], "--disks")
        for medium in self.call("GET", "/media")["media"]:
            self.run("media", "remove", medium["uuid"])
        shutil.rmtree(self.small / "data", ignore_errors=True)
        for path in self.small.glob("*.*"):
            path.unlink()

    def leave(self, blocks):
        fill(self.ballast)
        with open(self.ballast, "r+b") as file:
            file.truncate(max(0, self.ballast.stat().st_size - blocks * BLOCK))

    def known(self):
        """What the daemon knows, and all files but logs and what is of a process."""
        vms = [self.vm(vm["uuid"])["config"] for vm in self.call("GET", "/vms")["vms"]]
        files = {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for folder in ("data", "config") for p in (self.small / folder).rglob("*")
                 if p.is_file() and ".log" not in p.name}
        files |= {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in self.small.glob("*.*")}
        return vms, self.call("GET", "/media")["media"], files


def try_verb(d, words):
    """With ever more room, until it is enough: before, it fails for want of room and nothing has changed."""
    d.prepare()
    before = d.known()
    for n, blocks in enumerate(ROOM):
        d.leave(blocks)
        result = subprocess.run([OSPITE, *map(str, words)], env=d.environment, capture_output=True, text=True, stdin=subprocess.DEVNULL,
                                timeout=60 * PATIENCE, check=False)
        d.ballast.unlink()
        if result.returncode == 0:
            print(f"# {' '.join(map(str, words))[:80]}: {blocks} blocks")
            break
        where = f"{' '.join(map(str, words))[:80]} with {blocks} blocks: {result.stderr.strip()!r}"
        if "not finished and will be tried again" in result.stderr:
            print(f"# {where}")
            break  # all or nothing: it is written down, and done with the next change
        check("No space" in result.stderr and result.stderr.count("\n") == 1, where)
        after = d.known()
        for what, old, new in zip(("machines", "media", "files"), before, after):
            expect(new, old, f"{where}: {what}")
        check(n < len(ROOM) - 1, f"{where}: more is wanted")
    d.clear()


@in_file_system("6M")
def every_verb(small):
    """Every verb of a machine and an image that finds no room says so and changes nothing; with enough of it, it is done."""
    with Full(small) as d:
        d.run("vm", "list")
        for words in (("vm", "create", "two"), ("vm", "create", "two", "--folder", small / "data/new"), ("vm", "set", "one", "memory=16M", "description=" + "x" * 9000),
                      ("vm", "set", "one", "name=other"), ("vm", "edit", "one"), ("vm", "autostart", "one", "on"), ("vm", "start", "one"),
                      ("vm", "import", d.foreign), ("vm", "move", "one", small / "data/away"), ("vm", "clone", "one", "two"),
                      ("vm", "clone", "one", "two", "--linked"), ("snapshot", "take", "one", "a"), ("vm", "delete", "one"), ("vm", "delete", "one", "--disks"),
                      ("media", "add", d.image), ("media", "set", d.disk, "readonly"), ("media", "move", d.disk, small / "b.raw"),
                      ("media", "release", d.disk)):
            try_verb(d, words)


@in_file_system("6M")
def every_disk_verb(small):
    """So do the verbs of `ospite disk`, and images stay whole."""
    with Full(small) as d:
        source, mapped = d.path / "source.raw", small / "top.qcow2"
        source.write_bytes(os.urandom(1 << 20))
        for words in (("create", "-f", "qcow2", "-o", "preallocation=full", small / "new.qcow2", "1M"), ("create", "-f", "vdi", small / "new.vdi", "64M"),
                      ("convert", "-O", "qcow2", source, small / "new.qcow2"), ("convert", "-c", "-O", "qcow2", source, small / "new.qcow2"),
                      ("convert", "-O", "vmdk", source, small / "new.vmdk"), ("convert", "-O", "vdi", source, small / "new.vdi"),
                      ("convert", "-O", "vhdx", source, small / "new.vhdx"), ("clone", source, small / "new.raw"), ("snapshot", "-c", "s", d.image),
                      ("dd", f"if={source}", f"of={small / 'new.raw'}", "bs=65536"), ("resize", d.image, "200G"), ("commit", mapped)):
            d.prepare()
            subprocess.run([OSPITE, "disk", "convert", "-O", "qcow2", "-n", "-f", "raw", cut(d, source), d.image], check=True, capture_output=True)
            if mapped in words:
                subprocess.run([OSPITE, "disk", "create", "-f", "qcow2", "-b", d.image, "-F", "qcow2", mapped], check=True, capture_output=True)
                subprocess.run([OSPITE, "disk", "convert", "-O", "qcow2", "-n", "-f", "raw", cut(d, source, 1 << 20), mapped], check=True, capture_output=True)
            want = contents(d, d.image)
            for blocks in ROOM:
                d.leave(blocks)
                result = subprocess.run([OSPITE, "disk", *map(str, words)], env=d.environment, capture_output=True, text=True, check=False)
                d.ballast.unlink()
                where = f"disk {words} with {blocks} blocks: {result.stderr.strip()!r}"
                images = [p for p in small.glob("*.qcow2") if "new" not in p.name]
                for image in images:
                    checked = subprocess.run([OSPITE, "disk", "check", image], capture_output=True, text=True, check=False)
                    check(checked.returncode in (0, 3), f"{where}: {image}: {checked.stdout} {checked.stderr}")  # 3: leaked clusters
                if result.returncode == 0:
                    print(f"# disk {' '.join(map(str, words))}: {blocks} blocks")
                    if words[0] == "commit":
                        expect(contents(d, d.image), contents(d, d.path / "cut.raw"), f"{where}: what was committed")
                    break
                check("No space" in result.stderr, where)
                if words[0] != "commit":
                    expect(contents(d, d.image), want, f"{where}: the image")
                check(blocks < ROOM[-1], f"{where}: more is wanted")
                expect(list(small.glob("new*")), [], f"{where}: half an image is left")
            for path in small.glob("new*"):
                path.unlink()
            d.clear()


def cut(d, source, size=256 << 10):
    """So much of it, and zeros up to 4 MiB."""
    path = d.path / "cut.raw"
    path.write_bytes(source.read_bytes()[:size] + bytes((4 << 20) - size))
    return path


def contents(d, image):
    out = d.path / "contents.raw"
    subprocess.run([OSPITE, "disk", "convert", "-O", "raw", image, out], check=True, capture_output=True)
    return hashlib.sha256(out.read_bytes()).hexdigest()


sys.exit(run((paused, saves, every_verb, every_disk_verb), sys.argv[1:]))
