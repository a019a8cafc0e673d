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


sys.exit(run((paused,), sys.argv[1:]))
