#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host without room, as TAP: what the daemon shows of a machine whose disk cannot be written, and what becomes of files that are saved.

Each test that needs a full file system runs itself in a user and mount namespace of its own, on a small tmpfs.
"""
import json
import sys

from board import Board
from daemon import Daemon, check, expect, fill, in_small_file_system, run, validate_event, wait_until

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


sys.exit(run((paused, saves), sys.argv[1:]))
