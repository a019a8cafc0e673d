#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The registry of media by the API, as TAP: who uses what, moving, releasing, deleting, bad input, sudden death."""
import json
import os
import pathlib
import re
import signal
import struct
import subprocess
import sys
import urllib.parse

from board import Board
from daemon import OSPITE, Daemon, check, expect, has_ended, in_small_file_system, run, validate_event, wait_until

SMALL = ("memory=8M", "engine=interp")


def at(medium, rest=""):
    return f"/media/{urllib.parse.quote(str(medium), safe='')}{rest}"


def image(d, name, *options):
    path = d.path / name
    subprocess.run([OSPITE, "disk", "create", "-f", "qcow2", *options, path, "8M"], check=True, capture_output=True)
    return path


def attach(d, machine, path, place="storage.ide0.0", kind="disk", kind_of_image="qcow2"):
    d.run("vm", "set", machine, f"{place}.type={kind}", f"{place}.medium={path}", f"{place}.format={kind_of_image}")


def info(path):
    result = subprocess.run([OSPITE, "disk", "info", "--output=json", path], check=True, capture_output=True, text=True)
    return json.loads(result.stdout)


def uses(d, medium):
    return [use["machine"] for use in d.call("GET", at(medium))["medium"]["uses"]]


def life():
    """A medium is added, found by UUID and path, given a mode, looked at again and forgotten."""
    with Daemon() as d:
        d.run("vm", "list")
        events = d.websocket("/events")
        events.receive()
        path = image(d, "a b.qcow2")
        medium = d.call("POST", "/media", {"path": str(path)}, 201)["medium"]
        event = json.loads(events.receive())
        validate_event(event)
        expect((event["kind"], event["uuid"]), ("media-changed", medium["uuid"]), "event")
        expect((medium["kind"], medium["format"], medium["virtual_size"], medium["accessible"]), ("disk", "qcow2", 8 << 20, True), "medium")
        expect(d.call("GET", at(path))["medium"], medium, "the medium by its path")
        expect(d.call("GET", at(medium["uuid"].upper()))["medium"], medium, "the medium by its UUID")
        expect(d.call("GET", "/media")["media"], [medium], "all media")
        d.call("POST", "/media", {"path": str(path)}, 409)
        expect(d.call("PATCH", at(path), {"mode": "immutable"})["medium"]["mode"], "immutable", "mode")
        path.rename(d.path / "away")
        gone = d.call("POST", at(medium["uuid"], "/refresh"))["medium"]
        check(not gone["accessible"] and gone["problem"], "a missing image is accessible")
        (d.path / "away").rename(path)
        check(d.call("POST", at(path, "/refresh"))["medium"]["accessible"], "an image that came back is not accessible")
        disc = d.path / "disc.iso"
        disc.write_bytes(bytes(4096))
        disc = d.call("POST", "/media", {"path": str(disc), "kind": "cdrom"}, 201)["medium"]
        expect((disc["kind"], disc["mode"], disc["format"]), ("cdrom", "readonly", "raw"), "disc")
        expect(d.call("DELETE", at(path)), {}, "answer")
        check(path.exists(), "the file was deleted")
        expect([m["uuid"] for m in d.call("GET", "/media")["media"]], [disc["uuid"]], "what is left")


def used():
    """Machines' disks are known, with what was changed behind the daemon's back; deleted machines use nothing."""
    with Daemon() as d:
        path = image(d, "a.qcow2")
        for name in ("one", "two"):
            d.run("vm", "create", name, *SMALL)
            attach(d, name, path)
        one, two = d.vm("one"), d.vm("two")
        expect(sorted(uses(d, path)), sorted((one["uuid"], two["uuid"])), "users")
        d.call("DELETE", at(path), status=409)
        file = pathlib.Path(two["file"])
        text = file.read_text()
        file.write_text(text.replace(str(path), str(d.path / "other.raw")))
        expect(uses(d, path), [one["uuid"]], "users after one file was edited")
        expect(uses(d, d.path / "other.raw"), [two["uuid"]], "users of the other")
        d.kill()
        d.run("vm", "delete", "one")
        expect(uses(d, path), [], "users after the machine's end")
        d.call("DELETE", at(path, "?delete=true"))
        check(not path.exists(), "the file is still there")


def released():
    """Releasing takes a medium out of machines that are off: a disk goes, a drive stays empty; a running one keeps it."""
    with Daemon() as d:
        path, disc = image(d, "a.qcow2"), d.path / "disc.iso"
        disc.write_bytes(bytes(4096))
        for name in ("one", "two"):
            d.run("vm", "create", name, *SMALL)
            attach(d, name, path)
            attach(d, name, disc, "storage.ide0.2", "cdrom", "raw")
        d.run("vm", "start", "one")
        left = d.call("POST", at(path, "/release"))["medium"]["uses"]
        expect([use["machine"] for use in left], [d.vm("one")["uuid"]], "who still uses it")
        check("0" not in d.vm("two")["config"]["storage"]["ide0"], "the disk is still attached")
        check(d.vm("one")["config"]["storage"]["ide0"]["0"]["medium"], "the running machine lost its disk")
        d.run("vm", "set", "one", "storage.ide0.0=")
        expect(uses(d, path), [], "users by their settings")
        d.call("DELETE", at(path, "?delete=true"), status=409)
        check(path.exists(), "the running machine's disk was deleted")
        d.run("vm", "poweroff", "one")
        d.call("DELETE", at(path, "?delete=true"))
        expect(d.call("POST", at(disc, "/release"))["medium"]["uses"], [], "users of the disc")
        drive = d.vm("two")["config"]["storage"]["ide0"]["2"]
        expect((drive["type"], drive.get("medium") or ""), ("cdrom", ""), "drive")


def moved():
    """Moving an image changes its machines' files; one that is in use or in the way stays where it is."""
    with Daemon() as d:
        path, target = image(d, "a.qcow2"), d.path / "new" / "b.qcow2"
        d.run("vm", "create", "one", *SMALL)
        attach(d, "one", path)
        d.call("POST", at(path, "/move"), {"path": str(target)}, 404)
        target.parent.mkdir()
        d.run("vm", "start", "one")
        d.call("POST", at(path, "/move"), {"path": str(target)}, 409)
        d.run("vm", "poweroff", "one")
        contents = path.read_bytes()
        expect(d.call("POST", at(path, "/move"), {"path": str(target)})["medium"]["path"], str(target), "path")
        check(not path.exists() and target.read_bytes() == contents, "the file was not moved whole")
        expect(d.vm("one")["config"]["storage"]["ide0"]["0"]["medium"], str(target), "the machine's disk")
        d.run("vm", "start", "one")
        d.run("vm", "poweroff", "one")
        d.call("POST", at(target, "/move"), {"path": str(target)}, 409)
        child = d.path / "child.qcow2"
        subprocess.run([OSPITE, "disk", "create", "-f", "qcow2", "-F", "qcow2", "-b", target, child], check=True, capture_output=True)
        medium = d.call("POST", "/media", {"path": str(child)}, 201)["medium"]
        expect(medium["parent"], d.call("GET", at(target))["medium"]["uuid"], "parent")
        d.call("POST", at(child, "/move"), {"path": str(d.path / "new" / "deep.qcow2")})
        d.call("POST", at(target, "/move"), {"path": str(d.path / "b.qcow2")}, 409)
        d.call("DELETE", at(target), status=409)
        d.kill()
        d.run("vm", "list")
        expect(d.call("GET", at(target))["medium"]["has_children"], True, "what the next daemon knows")


def chain():
    """A parent moves with the names inside the images that build on it, and all of it or nothing when the daemon is killed on the way."""
    with Daemon() as d:
        base, other = image(d, "base.qcow2"), d.path / "other.qcow2"
        d.run("vm", "create", "one", *SMALL)
        children = [image(d, f"{n}.qcow2", "-F", "qcow2", "-b", "base.qcow2") for n in range(24)]
        for child in children:
            d.call("POST", "/media", {"path": str(child)}, 201)
        attach(d, "one", children[0])
        d.run("vm", "start", "one")
        check("in use" in d.run("media", "move", base, other, status=4), "a parent that is in use moved")
        check(not other.exists() and not list(d.path.glob("config/ospite/*.journal")), "something was begun")
        d.run("vm", "poweroff", "one")

        def builds_on(child):
            """As its header says, whoever has it open."""
            data = child.read_bytes()
            at, size = struct.unpack(">QI", data[8:20])
            return child.parent / data[at:at + size].decode()

        moved = 0
        for turn in range(12):
            pid = d.pid()
            with d.connect() as client:
                body = json.dumps({"path": str(other)}).encode()
                client.sendall(f"POST /v1{at(base, '/move')} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
                # The first turns while it is looked at, the others when the nth child was written.
                wait_until(lambda n=turn: n < 4 or other.exists() and builds_on(children[2 * n]) == other, "the move")
                os.kill(pid, signal.SIGKILL)
            wait_until(lambda p=pid: has_ended(p), "the daemon's end")
            d.run("media", "list")
            check(base.exists() != other.exists(), f"turn {turn}: {base.exists()}, {other.exists()}")
            here = base if base.exists() else other
            expect({builds_on(child) for child in children}, {here}, f"turn {turn}: what the children build on")
            expect({d.call("GET", at(child))["medium"]["parent"] for child in children}, {d.call("GET", at(here))["medium"]["uuid"]}, "parents")
            d.run("vm", "start", "one")
            d.run("vm", "poweroff", "one")
            moved += here == other
            if here == other:
                base, other = other, base
        check(moved, "no kill came late enough")


@in_small_file_system
def far(small):
    """A move to another file system copies, compares and removes; what does not fit stays where it is, and nothing else."""
    with Daemon() as d:
        path, target = d.path / "a.raw", small / "b.raw"
        with open(path, "wb") as file:
            file.seek(300 << 10)
            file.write(b"data" * 10000)
            file.truncate(900 << 10)
        path.chmod(0o640)
        contents = path.read_bytes()
        d.run("vm", "create", "one", *SMALL)
        attach(d, "one", path, kind_of_image="raw")
        d.run("media", "set", path, "writethrough")
        medium = d.call("GET", at(path))["medium"]
        d.run("vm", "start", "one")
        d.call("POST", at(path, "/move"), {"path": str(target)}, 409)
        d.run("vm", "poweroff", "one")
        d.run("media", "move", path, target)
        now = d.call("GET", at(target))["medium"]
        expect((now["uuid"], now["mode"], now["uses"]), (medium["uuid"], "writethrough", medium["uses"]), "what stays")
        check(not path.exists() and target.read_bytes() == contents, "the file was not moved whole")
        expect(target.stat().st_mode & 0o777, 0o640, "permissions")
        check(target.stat().st_blocks * 512 < 100 << 10, "holes were filled")
        d.run("vm", "start", "one")
        d.run("vm", "poweroff", "one")
        large = d.path / "large.raw"
        large.write_bytes(b"x" * (2 << 20))
        d.run("media", "add", large, "--format", "raw")
        check("No space" in d.run("media", "move", large, small / "large.raw", status=1), "no word that there is no room")
        check(large.read_bytes() == b"x" * (2 << 20) and d.call("GET", at(large))["medium"]["accessible"], "the image is gone")
        expect([p.name for p in small.iterdir()], ["b.raw"], "what is left of the copy")
        d.call("POST", at(large, "/move"), {"path": str(small / "b.raw")}, 409)
        d.call("POST", at(large, "/move"), {"path": str(small / "none" / "b.raw")}, 404)
        d.run("media", "move", target, path)
        check(path.read_bytes() == contents and not target.exists(), "it did not come back")


def folders():
    """Images follow their machine's folder with their UUIDs and modes, and go with it; those that others use stay."""
    with Daemon() as d:
        def media():
            return {m["uuid"]: (m["path"], m["mode"], m["accessible"]) for m in d.call("GET", "/media")["media"]}

        d.run("vm", "create", "one", *SMALL)
        folder = pathlib.Path(d.vm("one")["folder"])
        subprocess.run([OSPITE, "disk", "create", "-f", "qcow2", folder / "a.qcow2", "8M"], check=True, capture_output=True)
        attach(d, "one", "a.qcow2")
        d.run("media", "set", folder / "a.qcow2", "writethrough")
        uuid = d.call("GET", at(folder / "a.qcow2"))["medium"]["uuid"]
        d.run("vm", "move", "one", d.path / "elsewhere")
        moved = d.path / "elsewhere" / "one"
        expect(media(), {uuid: (str(moved / "a.qcow2"), "writethrough", True)}, "media after the move")
        d.run("vm", "set", "one", "name=two")
        renamed = d.path / "elsewhere" / "two"
        expect(media(), {uuid: (str(renamed / "a.qcow2"), "writethrough", True)}, "media after the renaming")
        d.run("vm", "create", "other", *SMALL)
        attach(d, "other", renamed / "a.qcow2")
        check(str(renamed / "a.qcow2") in d.run("vm", "delete", "two", "--disks"), "the disk of another is not said to be kept")
        check((renamed / "a.qcow2").exists(), "another machine's disk was deleted")
        expect(media(), {uuid: (str(renamed / "a.qcow2"), "writethrough", True)}, "media after the first was deleted")
        d.run("vm", "delete", "other", "--disks")
        expect(media(), {uuid: (str(renamed / "a.qcow2"), "writethrough", True)}, "media after the other was deleted")
        d.run("vm", "create", "last", *SMALL)
        folder = pathlib.Path(d.vm("last")["folder"])
        (renamed / "a.qcow2").rename(folder / "b.qcow2")
        d.run("media", "remove", uuid)
        attach(d, "last", "b.qcow2")
        expect(len(media()), 1, "media")
        d.run("vm", "delete", "last", "--disks")
        check(not folder.exists(), "the folder is still there")
        expect(media(), {}, "media in the end")


def bad():
    """Bad bodies, names and files are errors of the description; a broken registry is named, and stops nothing else."""
    with Daemon() as d:
        d.run("vm", "list")
        path = image(d, "a.qcow2")
        for body in ({}, {"path": 1}, {"path": "relative"}, {"path": str(path), "kind": "tape"}, {"path": str(path), "mode": "maybe"},
                     {"path": str(path), "kind": [], "format": 3}):
            d.call("POST", "/media", body, 400)
        d.call("POST", "/media", {"path": str(d.path / "none")}, 404)
        check(d.http("POST", "/media", {"path": str(d.path)})[0] >= 400, "a folder is a medium")
        check(d.http("POST", "/media", {"path": str(path), "format": "nonsense"})[0] >= 400, "a format that does not exist")
        expect(d.call("GET", "/media")["media"], [], "media")
        d.call("POST", "/media", {"path": str(path)}, 201)
        for method, rest, body, status in (("PATCH", "", {}, 400), ("PATCH", "", {"mode": "maybe"}, 400), ("POST", "/move", {"path": "b"}, 400),
                                           ("POST", "/move", {}, 400), ("DELETE", "?delete=maybe", None, 400), ("PUT", "", None, 405),
                                           ("GET", "/nothing", None, 404)):
            d.call(method, at(path, rest), body, status)
        for name in ("none", "/no/such", "00000000-0000-4000-8000-000000000000", "a.qcow2"):
            d.call("GET", at(name), status=404)
        d.kill()
        registry = d.path / "config/ospite/media.xml"
        good = registry.read_text()
        registry.write_text("{")
        d.run("vm", "create", "one", *SMALL)
        check("media.xml" in d.http("GET", "/media")[1].decode(), "a broken registry is not named")
        expect(d.http("GET", "/media")[0], 500, "status of a broken registry")
        for words in (("list",), ("show", path), ("add", path), ("refresh", path), ("set", path, "immutable"), ("remove", path)):
            check("media.xml" in d.run("media", *words, status=1), f"{words}: a broken registry is not named")
        registry.write_text(good)
        expect(len(d.call("GET", "/media")["media"]), 1, "media after it was mended")


def modes():
    """Machines share an immutable image, each with a differencing image in its folder, which goes with the machine."""
    with Daemon() as d:
        path = image(d, "base.qcow2")
        folders = []
        for name in "one", "two":
            d.run("vm", "create", name, *SMALL)
            attach(d, name, path)
            d.run("vm", "set", name, "storage.ide0.0.mode=immutable")
            folders.append(pathlib.Path(d.vm(name)["folder"]))
            d.run("vm", "start", name)
        differences = [folder / "difference-ide0.0.qcow2" for folder in folders]
        check(all(f.exists() for f in differences), "a differencing image is missing")
        d.run("vm", "create", "three", *SMALL)
        attach(d, "three", path)
        d.run("vm", "set", "three", "storage.ide0.0.mode=normal")
        d.run("vm", "start", "three", status=1)
        for name in "one", "two":
            d.run("vm", "poweroff", name)
        d.run("media", "move", path, d.path / "moved.qcow2")
        for difference in differences:
            expect(info(difference)["full-backing-filename"], str(d.path / "moved.qcow2"), "what the differencing image builds on")
        d.run("vm", "start", "one")
        d.run("vm", "poweroff", "one")
        d.run("media", "move", d.path / "moved.qcow2", path)
        d.run("vm", "set", "one", "storage.ide0.0.mode=multiattach")
        d.run("vm", "start", "one")
        d.run("vm", "poweroff", "one")
        differences[0].unlink()
        differences[0].write_bytes(b"no image")
        check("difference-ide0.0.qcow2" in d.run("media", "move", path, d.path / "moved.qcow2", status=4), "what builds on it is not named")
        check(path.exists() and not (d.path / "moved.qcow2").exists(), "it was moved all the same")
        differences[0].unlink()
        d.run("vm", "start", "one")
        d.run("vm", "poweroff", "one")
        d.run("vm", "set", "one", "storage.ide0.0.mode=shareable")
        d.run("vm", "start", "one", status=1)
        d.run("vm", "set", "one", "storage.ide0.0.mode=immutable")
        for name in "one", "two":
            d.run("vm", "delete", name, "--disks")
        check(path.exists() and not any(folder.exists() for folder in folders), "the wrong files were deleted")


def one_truth():
    """A medium's mode and its attachments' are one: setting either sets the other; a new attachment is what its medium is; all are shown."""
    with Daemon() as d:
        path = image(d, "base.qcow2")
        d.run("media", "add", path, "--mode", "multiattach")

        def mode(name):
            return d.vm(name)["config"]["storage"]["ide0"]["0"]["mode"]

        for name in ("one", "two"):
            d.run("vm", "create", name, *SMALL)
            attach(d, name, path)
            expect(mode(name), "multiattach", f"mode of {name}'s new disk")
        d.run("vm", "create", "three", *SMALL, "storage.ide0.0.type=disk", f"storage.ide0.0.medium={path}", "storage.ide0.0.format=qcow2")
        expect(mode("three"), "multiattach", "mode of a new machine's disk")
        for name in ("one", "two", "three"):
            d.run("vm", "start", name)
        check("turn it off" in d.run("media", "set", path, "immutable", status=4), "a medium in use has another mode")
        expect(mode("one"), "multiattach", "mode after that")
        for name in ("one", "two", "three"):
            d.run("vm", "poweroff", name)
        d.run("media", "set", path, "immutable")
        expect([mode(name) for name in ("one", "two", "three")], ["immutable"] * 3, "modes of the disks")
        d.run("vm", "set", "one", "storage.ide0.0.mode=readonly")
        medium = d.call("GET", at(path))["medium"]
        expect((medium["mode"], sorted(use["mode"] for use in medium["uses"])), ("immutable", ["immutable", "immutable", "readonly"]), "what is shown")
        for name in ("two", "three"):
            d.run("vm", "set", name, "storage.ide0.0.mode=readonly")
        expect(d.call("GET", at(path))["medium"]["mode"], "readonly", "mode when all attachments have another")
        d.run("vm", "create", "four", *SMALL)
        d.run("vm", "set", "four", "storage.ide0.0.type=disk", f"storage.ide0.0.medium={path}", "storage.ide0.0.format=qcow2", "storage.ide0.0.mode=normal")
        expect(mode("four"), "normal", "a mode that was said")
        d.run("vm", "start", "four")
        d.run("vm", "poweroff", "four")


def formats():
    """A disk that is attached without its format gets that of its medium, else what it is then; what it is taken for never changes again."""
    with Daemon() as d:
        def disk(name):
            return d.vm(name)["config"]["storage"]["ide0"]["0"]

        def place(path):
            return ("storage.ide0.0.type=disk", f"storage.ide0.0.medium={path}")

        path, plain, trap = image(d, "a.qcow2"), d.path / "b.raw", d.path / "trap.raw"
        plain.write_bytes(bytes(1 << 20))
        trap.write_bytes(path.read_bytes())
        d.run("media", "add", trap, "--format", "raw")
        for name, file, kind in (("one", path, "qcow2"), ("two", plain, "raw"), ("three", trap, "raw")):
            d.run("vm", "create", name, *SMALL)
            d.run("vm", "set", name, *place(file))
            expect(disk(name)["format"], kind, f"format of {file}")
            d.run("vm", "start", name)
            d.run("vm", "poweroff", name)
        plain.write_bytes(path.read_bytes())
        d.run("vm", "set", "two", "storage.ide0.0.mode=writethrough", "description=x")
        expect(disk("two")["format"], "raw", "format after a guest made it look like another")
        d.run("vm", "create", "four", *SMALL, *place(path))
        expect(disk("four")["format"], "qcow2", "format of a new machine's disk")
        d.run("vm", "create", "five", *SMALL, *place(d.path / "none.qcow2"))
        check("format is missing" in d.run("vm", "start", "five", status=1), "a disk that was never seen has a format")


def gone():
    """A missing image is shown as inaccessible with the reason, in every list, is not forgotten, and can still be released and forgotten."""
    with Daemon() as d:
        path = image(d, "a.qcow2")
        d.run("vm", "create", "one", *SMALL)
        attach(d, "one", path)
        d.run("media", "list")
        path.unlink()
        said = d.run("media", "list")
        check(str(path) in said and "No such file" in said, f"it is not shown as missing: {said}")
        check("No such file" in d.run("media", "show", path), "media show does not say so")
        d.run("vm", "start", "one", status=1)
        d.kill()
        d.run("vm", "list")
        check(not d.call("GET", at(path))["medium"]["accessible"], "the next daemon says that it is there")
        d.call("POST", at(path, "/move"), {"path": str(d.path / "b.qcow2")}, 404)
        d.call("POST", at(path, "/refresh"))
        d.call("DELETE", at(path), status=409)
        d.run("media", "release", path)
        d.run("media", "remove", path)
        d.run("media", "show", path, status=3)


def made_later():
    """An image that a machine names before it is made has no size; then it has one, which is remembered when it is gone."""
    with Daemon() as d:
        d.run("vm", "create", "one", *SMALL)
        path = d.path / "later.qcow2"
        d.run("vm", "set", "one", "storage.ide0.0.type=disk", f"storage.ide0.0.medium={path}", "storage.ide0.0.format=qcow2")

        def size():
            return re.search(r"qcow2 +(-|\d+ MiB) ", d.run("media", "list"))[1]

        expect(size(), "-", "size of what is not there")
        image(d, "later.qcow2")
        expect(size(), "8 MiB", "size of what was made")
        d.run("media", "refresh", path)
        path.unlink()
        expect(size(), "8 MiB", "size of what is gone")


def rebased():
    """What a machine has written beside a shared base stays when the base moves, alone, with a machine's folder, or by a new name."""
    with Daemon() as d:
        d.run("vm", "create", "base", *SMALL)
        folder = pathlib.Path(d.vm("base")["folder"])
        base = folder / "base.raw"
        base.write_bytes(b"base".ljust(512, b"\0") * 2048)
        settings = [f"storage.ide0.0.{name}" for name in ("type=disk", "format=raw", "mode=multiattach")]
        d.run("vm", "set", "base", *settings, "storage.ide0.0.medium=base.raw")
        for name in ("one", "two"):
            d.run("vm", "create", name, "memory=8M", "engine=none", *settings, f"storage.ide0.0.medium={base}")

        def write(name, pattern):
            d.run("vm", "start", name)
            board = Board(d, d.vm(name))
            for port, value in ((0x1F6, 0xE0), (0x1F2, 1), (0x1F3, 0), (0x1F4, 0), (0x1F5, 0), (0x1F7, 0x20)):
                board.out(port, value)
            wait_until(lambda: board.inp(0x1F7) & 0x88 == 0x08, "the drive")
            seen = int(board.ask("load port 0x1f0 2"), 0)
            board.out(0x3F6, 4)
            board.out(0x3F6, 0)
            wait_until(lambda: not board.inp(0x1F7) & 0x80, "the drive")
            board.write_sector(0, pattern)
            wait_until(lambda: not board.inp(0x1F7) & 0x80, "the drive")
            d.run("vm", "poweroff", name)
            return seen

        original = int.from_bytes(b"ba", "little")
        expect((write("one", 0x1111), write("two", 0x2222)), (original, original), "what the base has")
        moved = d.path / "moved.raw"
        d.run("media", "move", base, moved)
        expect((write("one", 0x1112), write("two", 0x2223)), (0x1111, 0x2222), "after the base was moved")
        d.run("media", "move", moved, base)
        d.run("vm", "set", "base", "name=other")
        expect((write("one", 0x1113), write("two", 0x2224)), (0x1112, 0x2223), "after its machine got another name")
        (d.path / "elsewhere").mkdir()
        d.run("vm", "move", "other", d.path / "elsewhere")
        expect((write("one", 0x1114), write("two", 0x2225)), (0x1113, 0x2224), "after its machine's folder was moved")
        for name in ("one", "two"):
            d.run("vm", "move", name, d.path / "elsewhere")
        expect((write("one", 0x1115), write("two", 0x2226)), (0x1114, 0x2225), "after their own folders were moved")
        new = d.path / "elsewhere/other/base.raw"
        expect(new.read_bytes()[:4], b"base", "the base itself")
        # A difference of its own in a folder below, that names the base by its whole path.
        d.run("vm", "create", "three", *SMALL)
        inner = pathlib.Path(d.vm("three")["folder"])
        (inner / "Snapshots").mkdir()
        subprocess.run([OSPITE, "disk", "create", "-f", "raw", inner / "disk.raw", "1M"], check=True, capture_output=True)
        d.run("vm", "set", "three", "engine=none", *settings, "storage.ide0.0.medium=disk.raw", "storage.ide0.0.difference=Snapshots/d.qcow2")
        write("three", 0x3333)
        d.run("vm", "set", "three", "name=four")
        expect(write("four", 0x3334), 0x3333, "after its own name was changed")


def all_or_nothing():
    """A machine whose folder cannot be renamed keeps its name, its file and its place; nothing is half changed."""
    with Daemon() as d:
        d.run("vm", "create", "base", *SMALL)
        folder = pathlib.Path(d.vm("base")["folder"])
        path = image(d, folder / "base.qcow2")
        d.run("vm", "set", "base", "storage.ide0.0.type=disk", "storage.ide0.0.medium=base.qcow2", "storage.ide0.0.format=qcow2")
        d.run("vm", "create", "user", *SMALL)
        attach(d, "user", path)
        d.run("vm", "set", "user", "storage.ide0.0.mode=multiattach", "description=kept")
        difference = pathlib.Path(d.vm("user")["folder"]) / "difference-ide0.0.qcow2"
        difference.write_bytes(b"damaged")

        def everything():
            media = d.call("GET", "/media")["media"]
            for medium in media:
                medium["uses"].sort(key=lambda use: use["machine"])
            return d.vm("base"), d.vm("user"), media, sorted(p.name for p in folder.iterdir())

        before = everything()
        check("difference-ide0.0.qcow2" in d.run("vm", "set", "base", "name=other", "memory=16M", status=4), "what stands in the way is not named")
        expect(everything(), before, "all that there is")
        d.kill()
        d.run("vm", "list")
        expect(everything(), before, "all that the next daemon knows")
        difference.unlink()
        d.run("vm", "set", "base", "name=other", "memory=16M", f"storage.ide0.0.medium={path}")
        expect(d.vm("other")["config"]["system"]["memory"], 16 << 20, "memory")
        new = folder.parent / "other"
        expect((sorted(p.name for p in new.iterdir()), folder.exists()), (["base.qcow2", "other.ospite"], False), "files")
        expect(d.vm("other")["config"]["storage"]["ide0"]["0"]["medium"], "base.qcow2", "its own disk")
        expect(d.vm("user")["config"]["storage"]["ide0"]["0"]["medium"], str(new / "base.qcow2"), "the user's disk")


def commands():
    """The commands do as much, with statuses that tell why not, and --json prints the API's answer."""
    with Daemon() as d:
        path, target = image(d, "a.qcow2"), d.path / "b.qcow2"
        d.run("vm", "create", "one", *SMALL)
        medium = json.loads(d.run("media", "add", path.name, "--mode", "writethrough", "--json", cwd=d.path))["medium"]
        expect(medium, d.call("GET", at(path))["medium"], "answer")
        expect(medium["mode"], "writethrough", "mode")
        expect(json.loads(d.run("media", "list", "--json")), d.call("GET", "/media"), "list")
        attach(d, "one", path)
        line = d.run("media", "list").split()
        expect((line[0], line[1:3], line[-3:]), (medium["uuid"], ["disk", "qcow2"], ["1", "use", str(path)]), "line of the list")
        d.run("media", "add", path, status=1)
        check("in use by machine 'one' at storage.ide0.0" in d.run("media", "remove", path, status=4), "the machine is not named")
        check("in 'one' at storage.ide0.0, writethrough" in d.run("media", "show", path), "where it is attached is not shown")
        expect(d.call("GET", at(path))["medium"]["uses"][0]["name"], "one", "name of the user")
        d.run("media", "move", path, target)
        expect(d.vm("one")["config"]["storage"]["ide0"]["0"]["medium"], str(target), "the machine's disk")
        d.run("media", "release", target.name, cwd=d.path)
        expect(uses(d, target), [], "users")
        target.unlink()
        check("No such file" in d.run("media", "refresh", medium["uuid"]), "no word that the file is missing")
        expect(d.run("media", "remove", medium["uuid"], "--delete", "--json"), "{}\n", "answer")
        expect(d.run("media", "list"), "", "media")
        for words, status in ((("refresh", "none"), 3), (("remove", "none"), 3), (("add", d.path / "none"), 3), (("move", "a"), 2),
                              (("add", "a", "--kind", "tape"), 2), (("list", "a"), 2), (("nonsense",), 2)):
            d.run("media", *words, status=status)
        script = f"source <({OSPITE} completion bash); COMP_WORDS=(ospite media re); COMP_CWORD=2; _ospite; echo ${{COMPREPLY[@]}}"
        expect(subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout.split(),
               ["remove", "release", "refresh"], "completion of 'media re'")


sys.exit(run((life, used, released, moved, chain, far, folders, bad, modes, one_truth, formats, gone, made_later, rebased, all_or_nothing, commands), sys.argv[1:]))
