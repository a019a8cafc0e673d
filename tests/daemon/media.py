#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The registry of media by the API, as TAP: who uses what, moving, releasing, deleting, bad input, sudden death."""
import json
import pathlib
import subprocess
import sys
import urllib.parse

from daemon import OSPITE, Daemon, Skipped, check, expect, run, validate_event

SMALL = ("memory=8M", "engine=interp")


def at(medium, rest=""):
    return f"/media/{urllib.parse.quote(str(medium), safe='')}{rest}"


def image(d, name, *options):
    path = d.path / name
    subprocess.run([OSPITE, "disk", "create", "-f", "qcow2", *options, path, "8M"], check=True, capture_output=True)
    return path


def attach(d, machine, path, place="storage.ide0.0", kind="disk", kind_of_image="qcow2"):
    d.run("vm", "set", machine, f"{place}.type={kind}", f"{place}.medium={path}", f"{place}.format={kind_of_image}")


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
    """Moving an image changes its machines' files; one that is in use, in a chain or in the way stays where it is."""
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
        for one in (target, child):
            d.call("POST", at(one, "/move"), {"path": str(d.path / "c.qcow2")}, 409)
        d.call("DELETE", at(target), status=409)
        d.kill()
        d.run("vm", "list")
        expect(d.call("GET", at(target))["medium"]["has_children"], True, "what the next daemon knows")


def far():
    """A move to another file system is refused with what to do, and leaves the image where it is."""
    with Daemon() as d:
        path, far = image(d, "a.qcow2"), pathlib.Path("/dev/shm")
        if not far.is_dir() or far.stat().st_dev == path.stat().st_dev:
            raise Skipped("/dev/shm is no other file system")
        d.run("media", "add", path)
        check("disk convert" in d.run("media", "move", path, far / "ospite-test-never-made", status=1), "no word what to do")
        check(path.exists() and d.call("GET", at(path))["medium"]["accessible"], "the image is gone")


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
        d.run("vm", "start", "three", status=1)
        for name in "one", "two":
            d.run("vm", "poweroff", name)
        d.run("vm", "set", "one", "storage.ide0.0.mode=shareable")
        d.run("vm", "start", "one", status=1)
        d.run("vm", "set", "one", "storage.ide0.0.mode=immutable")
        for name in "one", "two":
            d.run("vm", "delete", name, "--disks")
        check(path.exists() and not any(folder.exists() for folder in folders), "the wrong files were deleted")


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
        d.run("media", "remove", path, status=4)
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


sys.exit(run((life, used, released, moved, far, bad, modes, commands), sys.argv[1:]))
