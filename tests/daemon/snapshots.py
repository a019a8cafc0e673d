#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots of machines that are off, as TAP; qemu-img and qemu-io say what is in the images."""
import hashlib
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time

from board import Board
from daemon import OSPITE, PATIENCE, Daemon, check, expect, fill, has_ended, in_file_system, run, validate_event, wait_until

SMALL = ("memory=8M", "engine=none")
SIZE = 4 << 20


def qemu(*words):
    result = subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=60 * PATIENCE, check=False)
    check(result.returncode == 0 and "verification failed" not in result.stdout, f"{words}: {result.stdout} {result.stderr}")
    return result.stdout


class House(Daemon):
    """A machine "one" whose disk is written to by qemu-io where its configuration says that it is now."""

    def make(self, format="raw", name="one", disk="disk.img", size=SIZE):
        self.run("vm", "create", name, *SMALL, "description=first")
        self.home = pathlib.Path(self.vm(name)["folder"])
        subprocess.run([OSPITE, "disk", "create", "-q", "-f", format, self.home / disk, str(size)], check=True)
        self.run("vm", "set", name, "storage.ide0.0.type=disk", f"storage.ide0.0.medium={disk}", f"storage.ide0.0.format={format}")
        return self.home

    def drive(self, name="one", slot="0"):
        return self.vm(name)["config"]["storage"]["ide0"][slot]

    def image(self, name="one", slot="0"):
        return pathlib.Path(self.vm(name)["folder"]) / self.drive(name, slot)["medium"]

    def write(self, pattern, at="0", length="64k", name="one", slot="0"):
        drive = self.drive(name, slot)
        qemu("qemu-io", "-f", QEMU.get(drive["format"], drive["format"]), "-c", f"write -P {pattern} {at} {length}", self.image(name, slot))

    def contents(self, name="one", slot="0"):
        """What the guest would read, by qemu-img."""
        out = self.path / "contents.raw"
        drive = self.drive(name, slot)
        qemu("qemu-img", "convert", "-f", QEMU.get(drive["format"], drive["format"]), "-O", "raw", self.image(name, slot), out)
        return out.read_bytes()

    def contents_of_files(self, folder):
        """The same when there is no daemon."""
        medium, format = re.search(r'medium="([^"]+)" format="(\w+)"', (folder / "one.ospite").read_text()).groups()
        out = self.path / "contents.raw"
        qemu("qemu-img", "convert", "-f", format, "-O", "raw", folder / medium, out)
        return out.read_bytes()

    def take(self, snapshot, name="one"):
        return json.loads(self.run("snapshot", "take", name, snapshot, "--json"))["snapshot"]["uuid"]

    def snapshots(self, name="one"):
        return self.call("GET", f"/vms/{name}/snapshots")["snapshots"]

    def layers(self, name="one"):
        return sorted(path.name for path in pathlib.Path(self.vm(name)["folder"]).glob("layer-*"))

    def whole(self, name="one"):
        """Every image in the machine's folder is what it should be; nothing temporary is left."""
        folder = pathlib.Path(self.vm(name)["folder"])
        for path in folder.glob("layer-*.qcow2"):
            qemu("qemu-img", "check", path)
        expect([*folder.glob(".ospite-*"), *self.path.glob("config/ospite/*.journal")], [], "temporary files")


QEMU = {"vhd": "vpc"}


def byte(contents, at=0):
    return contents[at]


def life():
    """A tree is taken, restored, shown and deleted; settings and disks go back each time."""
    with House() as d:
        folder = d.make()
        events = d.websocket("/events")
        json.loads(events.receive())
        d.write(1)
        base = d.take("base")
        expect((d.drive()["format"], d.layers()), ("qcow2", [d.drive()["medium"]]), "the new layer")
        d.write(2)
        d.run("vm", "set", "one", "memory=16M", "description=second")
        d.run("snapshot", "take", "one", "second", "--description", "two\nlines")
        d.write(3, "1M")
        d.run("vm", "set", "one", "memory=32M")
        expect([(s["name"], s["parent"], s["current"]) for s in d.snapshots()], [("base", None, False), ("second", base, True)], "snapshots")
        shown = d.run("snapshot", "list", "one")
        check("  base\n" in shown and "    second (current)\n" in shown, shown)
        shown = d.run("snapshot", "show", "one", "second")
        check("system.memory=16M\n" in shown and "description: two\nlines\n" in shown, shown)
        d.run("snapshot", "restore", "one", "base")
        contents = d.contents()
        expect((byte(contents), byte(contents, 1 << 20)), (1, 0), "contents of base")
        vm = d.vm("one")
        expect((vm["config"]["system"]["memory"], vm["config"]["general"]["description"], vm["config"]["general"]["name"]), (8 << 20, "first", "one"), "settings")
        expect(len(d.layers()), 2, "layers: one of second, one of now")
        d.write(4)
        d.run("snapshot", "take", "one", "branch")
        d.write(5)
        d.run("snapshot", "restore", "one")
        expect(byte(d.contents()), 4, "contents of the branch")
        d.run("snapshot", "restore", "one", "second")
        contents = d.contents()
        expect((byte(contents), byte(contents, 1 << 20), d.vm("one")["config"]["system"]["memory"]), (2, 0, 16 << 20), "contents of second")
        check("2 states build on it" in d.run("snapshot", "delete", "one", "base", status=4), "a snapshot with children was deleted")
        d.run("snapshot", "set", "one", "branch", "--name", "new name", "--description", "")
        d.run("snapshot", "delete", "one", "new name")
        expect(byte(d.contents()), 2, "contents")
        d.run("snapshot", "delete", "one", "base")
        expect([(s["name"], s["parent"]) for s in d.snapshots()], [("second", None)], "snapshots")
        expect(byte(d.contents()), 2, "contents")
        d.run("snapshot", "restore", "one", "second")
        expect(byte(d.contents()), 2, "contents of second after base was merged")
        d.write(6, "2M")
        d.run("snapshot", "delete", "one", "second")
        contents = d.contents()
        expect((byte(contents), byte(contents, 2 << 20), d.image().name, d.drive()["format"]), (2, 6, "disk.img", "raw"), "what is left")
        expect(sorted(p.name for p in folder.iterdir()), ["disk.img", "one.ospite"], "files")
        d.whole()
        kinds = []
        while "snapshot-deleted" not in kinds or kinds.count("snapshot-deleted") < 3:
            event = json.loads(events.receive())
            validate_event(event)
            kinds.append(event["kind"])
        expect([(k, kinds.count(k)) for k in ("snapshot-taken", "snapshot-restored", "snapshot-deleted")],
               [("snapshot-taken", 3), ("snapshot-restored", 4), ("snapshot-deleted", 3)], "events")


def mistakes():
    """Names that are not there, doubtful, or wrong; running machines; images that are gone, elsewhere or encrypted: clear errors, nothing changed."""
    with House() as d:
        folder = d.make()
        before = (folder / "one.ospite").read_bytes()
        for words, status, told in ((("take", "none", "a"), 3, "no machine 'none'"), (("restore", "one"), 3, "comes from no snapshot"),
                                    (("restore", "one", "a"), 3, "no snapshot 'a'"), (("delete", "one", "a"), 3, "no snapshot 'a'"),
                                    (("take", "one", ""), 2, "empty"), (("take", "one", "a\nb"), 2, "control characters"),
                                    (("take", "one", "a" * 201), 2, "longer than"), (("take", "one", "00000000-0000-4000-8000-000000000000"), 2, "a UUID"),
                                    (("take", "one"), 2, "NAME SNAPSHOT"), (("set", "one", "a"), 2, "--name")):
            said = d.run("snapshot", *words, status=status)
            check(told in said, f"{words}: {said}")
        expect((folder / "one.ospite").read_bytes(), before, "the machine's file")
        d.run("vm", "start", "one")
        for verb in ("take", "restore", "delete"):
            words = ("x",) if verb == "take" else ("a",)
            said = d.run("snapshot", verb, "one", *words, status=3 if verb != "take" else 4)
            check(verb != "take" or "power it off first" in said, said)
        d.run("vm", "poweroff", "one")
        first = d.take("twin/with ☕")
        d.run("vm", "start", "one")
        for verb in ("restore", "delete"):
            check("power it off first" in d.run("snapshot", verb, "one", first, status=4), verb)
        d.run("vm", "poweroff", "one")
        second = d.take("twin/with ☕")
        check("more than one snapshot" in d.run("snapshot", "restore", "one", "twin/with ☕", status=2), "a doubtful name was taken")
        d.run("snapshot", "set", "one", second, "--name", "other")
        d.run("snapshot", "restore", "one", "twin/with ☕")
        d.run("snapshot", "restore", "one", second.upper())
        for body in ({}, {"name": 1}, {"name": "a", "description": 2}, {"name": "a", "more": 1}):
            d.call("POST", "/vms/one/snapshots", body, status=400)
        # an image that is gone, with a disk on another file system in its place
        hidden = folder / "hidden"
        (folder / "disk.img").rename(hidden)
        for words in (("take", "one", "x"), ("restore", "one", "other"), ("delete", "one", "other")):
            said = d.run("snapshot", *words, status=3)
            check("disk.img" in said, f"{words}: {said}")
        hidden.rename(folder / "disk.img")
        expect([s["name"] for s in d.snapshots()], ["twin/with ☕", "other"], "snapshots")
        d.run("snapshot", "delete", "one", second)
        # a disk outside of the folder, and one that is encrypted
        outside = d.path / "outside.raw"
        outside.write_bytes(bytes(SIZE))
        d.run("vm", "set", "one", "storage.ide0.1.type=disk", f"storage.ide0.1.medium={outside}", "storage.ide0.1.format=raw")
        check("ospite media move" in d.run("snapshot", "take", "one", "x", status=1), "no way is told")
        d.run("media", "move", outside, folder / "outside.raw")
        d.run("vm", "set", "one", "storage.ide0.1.key-file=/etc/hostname")
        check("encrypted" in d.run("snapshot", "take", "one", "x", status=1), "an encrypted disk was taken")
        d.run("vm", "set", "one", "storage.ide0.1.key-file=", "storage.ide0.1.mode=writethrough")
        d.run("snapshot", "take", "one", "x")
        expect(d.drive("one", "1")["medium"], "outside.raw", "a disk that is left out")
        check("in use by a snapshot" in d.run("media", "set", folder / "disk.img", "readonly", status=4), "its mode was changed")
        for words in (("remove", folder / "disk.img"), ("release", folder / "disk.img"), ("remove", folder / "disk.img", "--delete")):
            check("snapshot" in d.run("media", *words, status=4), f"{words} is possible")
        check(", snapshot x" in d.run("media", "show", d.home / d.layers()[0]) + d.run("media", "show", d.home / d.layers()[1]), "media show names no snapshot")
        kept = folder / f"snapshot-{first}.ospite"
        text = kept.read_text()
        kept.unlink()
        check("snapshot-" in d.run("snapshot", "show", "one", first, status=3), "the missing file is not named")
        kept.write_text(text)
        d.run("vm", "delete", "one", "--disks")
        check(not folder.exists(), f"{list(folder.iterdir()) if folder.exists() else ''} is left")


def elsewhere():
    """A disk whose parent is outside of its folder: snapshots are taken and deleted where it is trusted."""
    with House() as d:
        folder = d.make("qcow2")
        base = d.path / "elsewhere.raw"
        base.write_bytes(b"e" * SIZE)
        qemu("qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", folder / "child.qcow2")
        d.run("vm", "set", "one", "storage.ide0.1.type=disk", "storage.ide0.1.medium=child.qcow2", "storage.ide0.1.format=qcow2")
        check("outside of its folder" in d.run("snapshot", "take", "one", "x", status=1), "it was taken")
        d.run("vm", "set", "one", "storage.ide0.1.trust-backing=true")
        for name in "first", "second":
            d.run("snapshot", "take", "one", name)
        for name in "first", "second":
            d.run("snapshot", "delete", "one", name)
            qemu("qemu-img", "compare", "-F", "raw", folder / d.drive("one", "1")["medium"], base)
        expect(d.drive("one", "1")["medium"], "child.qcow2", "all is merged")


def modes():
    """Only a machine's own disks are part of a snapshot; what it has of a multi-attach disk is, an immutable one begins anew."""
    with House() as d:
        folder = d.make("qcow2")
        for slot, mode in (("1", "immutable"), ("2", "multiattach"), ("3", "writethrough")):
            qemu("qemu-img", "create", "-q", "-f", "raw", folder / f"{mode}.raw", str(SIZE))
            d.run("vm", "set", "one", f"storage.ide0.{slot}.type=disk", f"storage.ide0.{slot}.medium={mode}.raw", f"storage.ide0.{slot}.format=raw",
                  f"storage.ide0.{slot}.mode={mode}")
        d.take("never started")
        expect([d.drive("one", slot)["mode"] for slot in "0123"], ["normal", "immutable", "multiattach", "writethrough"], "modes")
        d.run("vm", "start", "one")
        d.run("vm", "poweroff", "one")
        difference = folder / "difference-ide0.2.qcow2"
        check(difference.exists(), "the machine has no differencing image")
        qemu("qemu-io", "-f", "qcow2", "-c", "write -P 7 0 64k", difference)
        d.take("written")
        expect([d.drive("one", slot)["mode"] for slot in "0123"], ["normal", "immutable", "normal", "writethrough"], "modes")
        expect(byte(d.contents("one", "2")), 7, "what the machine has of the multi-attach disk")
        d.write(8, slot="2")
        d.run("snapshot", "restore", "one", "written")
        expect(byte(d.contents("one", "2")), 7, "the same, restored")
        d.run("snapshot", "restore", "one", "never started")
        drive = d.drive("one", "2")
        expect((drive["medium"], drive["mode"]), ("multiattach.raw", "multiattach"), "the disk")
        d.run("vm", "start", "one")
        d.run("vm", "poweroff", "one")
        expect(byte((folder / "multiattach.raw").read_bytes()), 0, "the base")
        qemu("qemu-io", "-f", "qcow2", "-c", "read -P 0 0 64k", folder / drive["difference"])
        d.run("snapshot", "restore", "one", "written")
        expect(byte(d.contents("one", "2")), 7, "the same, restored once more")
        check(not (folder / drive["difference"]).exists(), "a differencing image that nobody needs is left")
        d.run("snapshot", "delete", "one", "written")
        d.run("snapshot", "delete", "one", "never started")
        expect(byte(d.contents("one", "2")), 7, "what the machine has of the multi-attach disk")
        expect(byte((folder / "multiattach.raw").read_bytes()), 0, "the base")
        d.whole()


def formats():
    """Disks of every format are merged with what came after them, also when that has more data, a new size, zeros and holes."""
    rand = random.Random(5)
    with House() as d:
        for number, format in enumerate(("raw", "qcow2", "vdi", "vmdk", "vhd", "vhdx", "qcow")):
            name = f"m{number}"
            d.make(format, name)
            d.write(0x11, "0", "3M", name)
            want = bytearray(d.contents(name))
            size = len(want)
            for turn in range(3):
                d.take(f"s{turn}", name)
                for _ in range(4):
                    at, length, pattern = rand.randrange(size // 4096 - 16) * 4096, rand.randrange(1, 16) * 4096, rand.randrange(256)
                    d.write(pattern, at, length, name)
                    want[at:at + length] = bytes([pattern]) * length
                qemu("qemu-io", "-f", "qcow2", "-c", f"write -z {turn}M 128k", d.image(name))
                want[turn << 20:(turn << 20) + (128 << 10)] = bytes(128 << 10)
            expect(d.contents(name) == want, True, f"{format}: contents before")
            order = ["s0", "s1", "s2"]
            rand.shuffle(order)
            for snapshot in order:
                d.run("snapshot", "delete", name, snapshot)
                expect(d.contents(name) == want, True, f"{format}: contents after {snapshot} of {order}")
            expect((d.layers(name), d.drive(name)["format"]), ([], format), "what is left")
    with House() as d:
        d.make("vdi")
        d.write(1)
        d.take("small")
        subprocess.run([OSPITE, "disk", "resize", d.image(), str(2 * SIZE)], check=True, capture_output=True)
        d.write(2, SIZE)
        d.run("snapshot", "delete", "one", "small")
        contents = d.contents()
        expect((len(contents), byte(contents), byte(contents, SIZE), byte(contents, SIZE + 65536)), (2 * SIZE, 1, 2, 0), "a disk that grew")


def others():
    """Moves, names, clones and deletions take the images of all snapshots with them; what another machine needs is kept."""
    with House() as d:
        d.make()
        d.write(1)
        d.take("a")
        d.write(2)
        d.take("b")
        d.write(3)
        d.run("vm", "move", "one", d.path / "else where")
        d.run("vm", "set", "one", "name=two")
        expect(byte(d.contents("two")), 3, "contents after a move")
        media = d.call("GET", "/media")["media"]
        folder = pathlib.Path(d.vm("two")["folder"])
        expect((len(media), {m["accessible"] for m in media}, {str(pathlib.Path(m["path"]).parent) for m in media}), (3, {True}, {str(folder)}), "media")
        expect(sorted(u["snapshot_name"] or "" for m in media for u in m["uses"]), ["", "a", "b"], "uses")
        d.run("vm", "clone", "two", "full")
        expect(([s["name"] for s in d.snapshots("full")], byte(d.contents("full"))), (["a", "b"], 3), "the clone")
        d.run("snapshot", "restore", "full", "a")
        d.write(9, name="full")
        expect((byte(d.contents("full")), byte(d.contents("two"))), (9, 3), "contents of both")
        d.run("vm", "clone", "two", "linked", "--linked")
        expect(d.snapshots("linked"), [], "snapshots of a linked clone")
        shared = d.image("linked")
        d.run("snapshot", "restore", "two", "a")
        check(shared.exists(), "what the linked clone builds on is gone")
        expect(byte(d.contents("two")), 1, "contents of the machine itself")
        check("another image builds on it" in d.run("snapshot", "delete", "two", "b", status=4), "what the linked clone needs was merged")
        d.run("vm", "start", "linked")
        d.run("vm", "poweroff", "linked")
        difference = pathlib.Path(d.vm("linked")["folder"]) / "difference-ide0.0.qcow2"
        qemu("qemu-io", "-f", "qcow2", "-c", "read -P 3 0 64k", difference)
        d.run("vm", "delete", "linked", "--disks")
        d.run("media", "remove", shared, "--delete")
        d.run("snapshot", "delete", "two", "b")
        expect((byte(d.contents("two")), [s["name"] for s in d.snapshots("two")]), (1, ["a"]), "what is left")
        d.run("vm", "delete", "full", "--disks")
        expect(d.run("vm", "delete", "two", "--disks").count("layer"), 0, "files that are kept")
        check(not folder.exists(), "the folder is left")
        expect(d.call("GET", "/media")["media"], [], "media")
    with House() as d:
        folder = d.make()
        d.write(1)
        d.take("a")
        d.write(2)
        d.run("media", "move", folder / "disk.img", folder / "renamed.img")
        d.run("snapshot", "restore", "one", "a")
        expect(byte(d.contents()), 1, "contents after the base was moved")
        d.run("snapshot", "delete", "one", "a")
        expect((byte(d.contents()), d.image().name), (1, "renamed.img"), "what is left")


def own_chains():
    """Images that a user has built on a snapshot's are found, and never lost."""
    with House() as d:
        folder = d.make()
        d.write(1)
        d.take("a")
        d.write(2)
        layer = d.image()
        qemu("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", layer.name, folder / "mine.qcow2")
        d.run("vm", "set", "one", "storage.ide0.0.medium=mine.qcow2")
        d.write(3, "1M")
        d.run("snapshot", "delete", "one", "a")
        contents = d.contents()
        expect((byte(contents), byte(contents, 1 << 20), d.image().name, layer.exists()), (2, 3, "mine.qcow2", False), "what is left")
        d.take("b")
        d.run("vm", "set", "one", "storage.ide0.1.type=disk", "storage.ide0.1.format=qcow2", f"storage.ide0.1.medium={d.drive()['medium']}",
              "storage.ide0.0=")
        d.run("snapshot", "restore", "one", "b")
        contents = d.contents()
        expect((byte(contents), byte(contents, 1 << 20)), (2, 3), "contents")
        check("1" not in d.vm("one")["config"]["storage"]["ide0"], "the second drive is still there")


def guest():
    """A guest's writes are gone when the snapshot before them is restored; it runs on the layers."""
    with House() as d:
        d.make("vdi")
        d.take("clean")
        d.run("vm", "start", "one")
        board = Board(d, d.vm("one"))
        board.write_sector(100, 0x5A5A)
        wait_until(lambda: board.inp(0x1F7) & 0x89 == 0, "the drive")
        d.run("vm", "poweroff", "one")
        expect(d.contents()[51200:51202], b"\x5a\x5a", "what was written")
        d.take("written")
        d.run("snapshot", "restore", "one", "clean")
        expect(d.contents()[51200:51202], bytes(2), "what was there before")
        d.run("vm", "start", "one")
        d.run("vm", "poweroff", "one")
        d.run("snapshot", "restore", "one", "written")
        expect(d.contents()[51200:51202], b"\x5a\x5a", "what was written")


def killed_merge():
    """A daemon that is killed while it merges is followed by one that goes on, and no disk changes."""
    rand = random.Random(int(os.environ.get("OSPITE_TEST_SEED", "3")))
    with House() as d:
        folder = d.make("raw", size=64 << 20)
        for at in range(0, 48, 4):
            d.write(rand.randrange(1, 256), f"{at}M", "3M")
        for turn in range(int(os.environ.get("OSPITE_TEST_ROUNDS", "2")) * 3):
            snapshot = d.take("a")
            for at in range(0, 60, 5):
                d.write(rand.randrange(1, 256), f"{at}M", "3M")
            want = hashlib.sha256(d.contents()).digest()
            pid = d.pid()
            with d.connect() as client:
                client.sendall(f"DELETE /v1/vms/one/snapshots/{snapshot} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
                time.sleep(rand.random() * 0.08)
                os.kill(pid, signal.SIGKILL)
            wait_until(lambda p=pid: has_ended(p), "the daemon's end")
            expect(hashlib.sha256(d.contents_of_files(folder)).digest(), want, f"turn {turn}: contents after the kill")
            half = b"deleting" in (folder / "one.ospite").read_bytes()
            d.run("vm", "list")
            wait_until(lambda: not d.vm("one")["job"], "the merge")
            left = d.snapshots()
            check(not half or not left, f"turn {turn}: the next daemon did not go on")
            expect(hashlib.sha256(d.contents()).digest(), want, f"turn {turn}: contents")
            if left:
                d.run("snapshot", "delete", "one", snapshot)
                expect(hashlib.sha256(d.contents()).digest(), want, f"turn {turn}: contents")
            expect(sorted(p.name for p in folder.iterdir()), ["disk.img", "one.ospite"], f"turn {turn}: files")


@in_file_system("16M")
def full(small):
    """Without room a snapshot is not taken, restored or deleted, the disk shows what it showed, and with room all goes on."""
    with House() as d:
        d.environment["XDG_DATA_HOME"] = str(small)
        folder = d.make("qcow2")
        d.write(1, "0", "1M")
        d.take("a")
        d.write(2, "1M", "2M")
        want = d.contents()
        before = {p: p.read_bytes() for p in folder.iterdir()}
        ballast = fill(small / "ballast")
        for words in (("take", "one", "b"), ("restore", "one", "a")):
            check("No space" in d.run("snapshot", *words, status=1), words)
            expect({p: p.read_bytes() for p in folder.iterdir()}, before, f"files after {words}")
        with open(ballast, "r+b") as file:
            file.truncate(ballast.stat().st_size - (256 << 10))
        check("No space" in d.run("snapshot", "delete", "one", "a", status=1), "it found room")
        expect(d.contents(), want, "contents")
        expect([(s["name"], s["deleting"]) for s in d.snapshots()], [("a", True)], "the snapshot")
        for words in (("take", "one", "b"), ("restore", "one", "a")):
            check("half deleted" in d.run("snapshot", *words, status=4), words)
        ballast.unlink()
        d.run("snapshot", "delete", "one", "a")
        expect((d.contents(), d.snapshots(), d.layers()), (want, [], []), "what is left")


sys.exit(run((life, mistakes, modes, elsewhere, formats, others, own_chains, guest, killed_merge, full), sys.argv[1:]))
