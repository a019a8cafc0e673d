#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines and images on their way to another file system, as TAP: what arrives, what is refused meanwhile, and sudden death."""
import hashlib
import os
import pathlib
import pty
import random
import shutil
import subprocess
import sys
import threading
import time
import urllib.parse

from daemon import OSPITE, PATIENCE, Daemon, check, expect, in_file_system, run

SMALL = ("memory=8M", "engine=interp")
DISK = ("storage.ide0.0.type=disk", "storage.ide0.0.format=raw")


def tree(folder):
    """All that is in a folder: kinds, permissions, contents and the targets of links."""
    found = {}
    for path in sorted(folder.rglob("*")):
        what = os.readlink(path) if path.is_symlink() else hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
        found[str(path.relative_to(folder))] = (path.lstat().st_mode, what)
    return found


def leftovers(*folders):
    return [p for folder in folders for p in folder.glob(".ospite-*.tmp")]


def machine(d, name, size, disk="disk.raw"):
    """A machine with a disk of random bytes and a hole in its folder."""
    d.run("vm", "create", name, *SMALL)
    folder = pathlib.Path(d.vm(name)["folder"])
    with open(folder / "disk.raw", "wb") as file:
        file.write(random.randbytes(size // 2))
        file.seek(size // 2 + (64 << 20))
        file.write(random.randbytes(size - size // 2))
    d.run("vm", "set", name, *DISK, f"storage.ide0.0.medium={disk}")
    return folder


def medium(d, path):
    return d.call("GET", f"/media/{urllib.parse.quote(str(path), safe='')}")["medium"]


@in_file_system("8M")
def far(other):
    """A machine arrives whole at another file system, with its media, and those who use them find them."""
    with Daemon() as d:
        folder = machine(d, "one", 1 << 20)
        (folder / "Snapshots").mkdir()
        (folder / "Snapshots" / "note").write_text("x")
        (folder / "Snapshots" / "note").chmod(0o640)
        (folder / "Snapshots").chmod(0o555)
        (folder / "link").symlink_to("Snapshots/note")
        disk = folder / "disk.raw"
        d.run("media", "set", disk, "writethrough")
        known = medium(d, disk)
        d.run("vm", "create", "two", *SMALL, *DISK, f"storage.ide0.0.medium={disk}", "storage.ide0.0.mode=readonly")
        d.run("vm", "set", "one", f"storage.ide0.0.medium={disk}")  # a name that leads into its own folder
        before = tree(folder)
        d.run("vm", "move", "one", other)
        new = other / "one"
        expect(d.vm("one")["folder"], str(new), "folder")
        expect({**tree(new), "one.ospite": None}, {**before, "one.ospite": None}, "what has arrived")
        check((new / "disk.raw").stat().st_blocks * 512 < 2 << 20, "holes were filled")
        check(not folder.exists(), "the old folder is still there")
        expect(leftovers(other, folder.parent), [], "temporary names")
        now = medium(d, new / "disk.raw")
        expect((now["uuid"], now["mode"], len(now["uses"])), (known["uuid"], "writethrough", 2), "the image")
        expect(d.vm("one")["config"]["storage"]["ide0"]["0"]["medium"], "disk.raw", "its own disk")
        expect(d.vm("two")["config"]["storage"]["ide0"]["0"]["medium"], str(new / "disk.raw"), "the other's disk")
        d.kill()
        d.run("vm", "start", "one")
        d.run("vm", "poweroff", "one")
        (new / "Snapshots").chmod(0o755)
        (new / "pipe").unlink(missing_ok=True)
        os.mkfifo(new / "pipe")
        check("pipe" in d.run("vm", "move", "one", d.path / "back", status=1), "a pipe is not named")
        (new / "pipe").unlink()
        d.run("vm", "move", "one", d.path / "back")
        expect(set(tree(d.path / "back" / "one")), set(tree(d.path / "back" / "one")) | set(before), "what has come back")
        expect(list((d.path / "config" / "ospite").glob("leftover-*")), [], "notes")


@in_file_system("1M")
def no_room(other):
    """What does not fit stays where it is, whole, and leaves nothing there."""
    with Daemon() as d:
        folder = machine(d, "one", 2 << 20)
        before = tree(folder)
        check("No space" in d.run("vm", "move", "one", other, status=1), "no word that there is no room")
        expect(tree(folder), before, "the machine")
        expect(list(other.iterdir()), [], "what is left of the copy")
        expect(d.vm("one")["job"], None, "job")
        (other / "one").mkdir()
        d.call("POST", "/vms/one/move", {"folder": str(other)}, 409)
        d.run("vm", "start", "one")
        d.run("vm", "move", "one", other, status=4)
        d.run("vm", "poweroff", "one")


def on_terminal(d, words):
    """What a command says on a terminal."""
    program, terminal = pty.openpty()
    with subprocess.Popen([OSPITE, *map(str, words)], env=d.environment, stderr=terminal, stdout=subprocess.DEVNULL) as process:
        os.close(terminal)
        shown = b""
        try:
            while data := os.read(program, 4096):
                shown += data
        except OSError:
            pass  # the terminal's end
        os.close(program)
        expect(process.wait(60 * PATIENCE), 0, "status")
    return shown


@in_file_system("600M")
def meanwhile(other):
    """While it moves, a machine shows how far it is and cannot be started, changed or deleted; a changed file stops the move."""
    with Daemon() as d:
        folder = machine(d, "one", 200 << 20)
        for words, status in (((), 200), (("changed",), 409)):
            answers = []
            thread = threading.Thread(target=lambda a=answers: a.append(d.http("POST", "/vms/one/move", {"folder": str(other)})))
            thread.start()
            while not (job := d.vm("one")["job"]) or not job["total"]:
                check(thread.is_alive(), f"it never was on its way: {answers}")
            expect(job["kind"], "move", "kind of job")
            check(0 <= job["done"] <= job["total"] >= 190 << 20, f"job {job}")
            for request in (("POST", "/vms/one/start"), ("PATCH", "/vms/one", {"settings": {"memory": "16M"}}), ("DELETE", "/vms/one"),
                            ("POST", "/vms/one/move", {"folder": str(d.path / "x")})):
                d.call(*request, status=409)
            if words:
                (folder / "new").write_text("words")
            thread.join()
            expect(answers[0][0], status, "status of the move")
            check((folder / "disk.raw").exists() == bool(words), "it is in the wrong place")
            if not words:
                d.run("vm", "move", "one", folder.parent)
        expect(leftovers(other, folder.parent), [], "temporary names")
        shown = b""
        for turn in range(50):  # a fast host is there before the bar is due
            shown += on_terminal(d, ["vm", "move", "one", folder.parent if turn % 2 else other])
            if b"MiB/s" in shown:
                break
        check(b"MiB/s" in shown, f"no progress on a terminal: {shown!r}")


def kill_while(d, delay, words):
    """kill -9 of the daemon a while after a command was given."""
    pid = d.pid()
    with subprocess.Popen([OSPITE, *map(str, words)], env=d.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        time.sleep(delay)
        os.kill(pid, 9)
        return process.wait(60 * PATIENCE)


@in_file_system("160M")
def killed(other):
    """kill -9 at any moment leaves the old folder or the new one, whole, and the next daemon removes the rest."""
    with Daemon() as d:
        folder, new, places = machine(d, "one", 24 << 20), other / "one", []
        before = tree(folder)
        start = time.monotonic()
        d.run("vm", "move", "one", other)
        took = time.monotonic() - start
        d.run("vm", "move", "one", folder.parent)
        for n in range(20):
            kill_while(d, took * n / 18, ("vm", "move", "one", other))
            d.run("vm", "list")
            vm = d.vm("one")
            places.append(vm["folder"])
            expect(vm["state"], "off", "state")
            check(folder.exists() != new.exists(), "it is in both places or none")
            expect(tree(pathlib.Path(vm["folder"])), before, "the machine")
            expect(medium(d, pathlib.Path(vm["folder"]) / "disk.raw")["accessible"], True, "its disk")
            expect(leftovers(other, folder.parent), [], "temporary names")
            expect(list((d.path / "config" / "ospite").glob("*.journal")), [], "notes")
            if vm["folder"] == str(new):
                d.run("vm", "move", "one", folder.parent)
        check(len(set(places)) == 2, f"all kills came too early or too late: {places}")


@in_file_system("64M")
def killed_image(other):
    """The same with an image alone; a file of that name that is not ours stays."""
    with Daemon() as d:
        d.run("vm", "list")
        path, new = d.path / "a.raw", other / "a.raw"
        path.write_bytes(contents := random.randbytes(16 << 20))
        stranger = other / ".ospite-12345678.tmp"
        stranger.write_text("x")
        d.run("media", "add", path, "--format", "raw")
        start = time.monotonic()
        d.run("media", "move", path, new)
        took = time.monotonic() - start
        d.run("media", "move", new, path)
        for n in range(12):
            kill_while(d, took * n / 10, ("media", "move", path, new))
            d.run("vm", "list")
            check(path.exists() != new.exists(), "it is in both places or none")
            now = new if new.exists() else path
            check(now.read_bytes() == contents and medium(d, now)["accessible"], "the image")
            expect(leftovers(other, path.parent), [stranger], "temporary names")
            if now == new:
                d.run("media", "move", new, path)


def renamed():
    """kill -9 while a machine moves within a file system: the list of machines knows where it is."""
    with Daemon() as d:
        folder = machine(d, "one", 1 << 20)
        other = d.path / "other"
        for n in range(10):
            kill_while(d, 0.002 * n, ("vm", "move", "one", other))
            d.run("vm", "list")
            expect(d.vm("one")["state"], "off", "state")
            d.run("vm", "move", "one", folder.parent, status=0 if d.vm("one")["folder"] != str(folder) else 1)


def cloned():
    """A full clone has its own images, also of a disk elsewhere, and another identity; both machines run at once."""
    with Daemon() as d:
        folder = machine(d, "one", 1 << 20)
        away = d.path / "away.raw"
        away.write_bytes(random.randbytes(1 << 20))
        d.run("vm", "set", "one", "storage.ide0.1.type=disk", "storage.ide0.1.format=raw", f"storage.ide0.1.medium={away}", "autostart.enabled=on",
              "description=kept", "network.0.mac=52:54:00:00:00:01")
        before = tree(folder)
        d.run("vm", "clone", "one", "two")
        one, two = d.vm("one"), d.vm("two")
        new = pathlib.Path(two["folder"])
        expect(tree(folder), before, "the original")
        expect(sorted(p.name for p in new.iterdir()), ["disk.raw", "ide0.1-away.raw", "two.ospite"], "files of the clone")
        check((new / "disk.raw").read_bytes() == (folder / "disk.raw").read_bytes(), "the disk")
        check((new / "ide0.1-away.raw").read_bytes() == away.read_bytes(), "the disk from elsewhere")
        check(one["uuid"] != two["uuid"] and not two["config"]["autostart"]["enabled"], "it is the same machine")
        expect((two["config"]["general"]["description"], two["config"]["network"]["0"].get("mac") or ""), ("kept", ""), "settings of the clone")
        expect(leftovers(folder.parent), [], "temporary names")
        for name in ("one", "two"):
            d.run("vm", "set", name, "network.0=")
        for name in ("one", "two"):
            d.run("vm", "start", name)
        d.run("vm", "clone", "one", "three", status=4)
        for name in ("one", "two"):
            d.run("vm", "poweroff", name)
        for body, status in (({}, 400), ({"name": "two"}, 409), ({"name": "a/b"}, 400), ({"name": "x", "folder": "relative"}, 400),
                             ({"name": "x", "linked": "yes"}, 400), ({"name": 1}, 400)):
            d.call("POST", "/vms/one/clone", body, status)
        d.call("POST", "/vms/none/clone", {"name": "x"}, 404)
        d.run("vm", "delete", "two", "--disks")
        check(away.exists() and not new.exists(), "the clone's end took the wrong files")
        expect(sorted(vm["name"] for vm in d.call("GET", "/vms")["vms"]), ["one"], "machines")


def linked():
    """Linked clones share a base that nobody writes to any more; each machine has a differencing image."""
    with Daemon() as d:
        folder = machine(d, "one", 1 << 20)
        base = (folder / "disk.raw").read_bytes()
        d.run("vm", "clone", "one", "two", "--linked", "--folder", d.path / "elsewhere")
        two = d.vm("two")
        expect(two["config"]["storage"]["ide0"]["0"]["medium"], str(folder / "disk.raw"), "the clone's disk")
        for name in ("one", "two"):
            expect(d.vm(name)["config"]["storage"]["ide0"]["0"]["mode"], "multiattach", f"mode of {name}'s disk")
            d.run("vm", "start", name)
        for place in (folder, d.path / "elsewhere" / "two"):
            check((place / "difference-ide0.0.qcow2").exists(), f"no differencing image in {place}")
        for name in ("one", "two"):
            d.run("vm", "poweroff", name)
        check("full clone" in d.run("vm", "clone", "one", "three", "--linked", status=1), "a clone that would miss what was written")
        check((folder / "disk.raw").read_bytes() == base, "somebody wrote to the base")
        d.run("vm", "move", "one", d.path / "away")
        folder = d.path / "away" / "one"
        for name in ("one", "two"):
            d.run("vm", "start", name)
            d.run("vm", "poweroff", name)
        d.run("vm", "delete", "one", "--disks")
        check((folder / "disk.raw").exists(), "the clone's base was deleted")
        d.run("vm", "start", "two")


def by_hand():
    """A folder that was moved by hand is registered where it is: the machine, its images, snapshots and their users go on; a copy is refused."""
    with Daemon() as d:
        folder = machine(d, "one", 1 << 20)
        d.run("media", "set", folder / "disk.raw", "writethrough")
        d.run("vm", "create", "two", *SMALL, *DISK, f"storage.ide0.0.medium={folder / 'disk.raw'}", "storage.ide0.0.mode=readonly")
        d.run("snapshot", "take", "one", "first")
        known = medium(d, folder / "disk.raw")
        other = d.path / "other"
        shutil.copytree(folder, other)
        said = d.run("vm", "register", other / "one.ospite", status=1)
        check("there is a machine 'one' already" in said, said)
        text = (other / "one.ospite").read_text()
        (other / "one.ospite").write_text(text.replace('name="one"', 'name="copy"'))
        said = d.run("vm", "register", other / "one.ospite", status=1)
        check("the machine 'one' has the UUID" in said and "ospite vm clone" in said, said)
        shutil.rmtree(other)
        d.run("vm", "start", "one")
        folder.rename(other)
        check("already" in d.run("vm", "register", other / "one.ospite", status=1), "a machine that runs was registered anew")
        d.run("vm", "poweroff", "one")
        d.run("vm", "register", other / "one.ospite")
        expect([(vm["name"], vm["folder"]) for vm in d.call("GET", "/vms")["vms"] if vm["name"] != "two"], [("one", str(other))], "machines")
        now = medium(d, other / "disk.raw")
        expect((now["uuid"], now["mode"], len(now["uses"])), (known["uuid"], "writethrough", len(known["uses"])), "the image")
        expect(d.vm("two")["config"]["storage"]["ide0"]["0"]["medium"], str(other / "disk.raw"), "the other machine's disk")
        d.run("snapshot", "restore", "one", "first")
        d.kill()
        d.run("vm", "start", "one")
        expect(d.vm("one")["folder"], str(other), "folder")


def by_hand_killed():
    """kill -9 while such a folder is registered: list, images and their users know the old place or the new one, all of them; then it can be done again."""
    def named(d):
        """Where the list, the images and the machine that shares the disk look for it."""
        image, = (m["path"] for m in d.call("GET", "/media")["media"])
        return {pathlib.Path(place).parent for place in (d.vm("one")["file"], image, d.vm("two")["config"]["storage"]["ide0"]["0"]["medium"])}

    with Daemon() as d:
        places = [machine(d, "one", 1 << 20), d.path / "other"]
        d.run("media", "set", places[0] / "disk.raw", "writethrough")
        d.run("vm", "create", "two", *SMALL, *DISK, f"storage.ide0.0.medium={places[0] / 'disk.raw'}", "storage.ide0.0.mode=readonly")
        known, took, found = medium(d, places[0] / "disk.raw"), 0, []
        for n in range(-1, 24):
            places[0].rename(places[1])
            places.reverse()
            words, start = ("vm", "register", places[0] / "one.ospite"), time.monotonic()
            if n < 0:  # how long it takes
                d.run(*words)
                took = time.monotonic() - start
            else:
                kill_while(d, took * n / 20, words)
                d.run("vm", "list")
                place, = named(d)
                found.append(place == places[0])
                expect(d.vm("one")["state"], "off" if found[-1] else "inaccessible", "state")
                if not found[-1]:
                    d.run(*words)
            expect(named(d), {places[0]}, "places")
            now = medium(d, places[0] / "disk.raw")
            expect((now["uuid"], now["mode"], len(now["uses"])), (known["uuid"], "writethrough", len(known["uses"])), "the image")
            expect(list((d.path / "config" / "ospite").glob("*.journal")), [], "notes")
            for name in ("one", "two"):
                d.run("vm", "start", name)
                d.run("vm", "poweroff", name)
        check(len(set(found)) == 2, f"all kills came too early or too late: {found}")


sys.exit(run((far, no_room, meanwhile, killed, killed_image, renamed, cloned, linked, by_hand, by_hand_killed), sys.argv[1:]))
