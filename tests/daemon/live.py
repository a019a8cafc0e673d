#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of a running machine, as TAP: what it takes at once, what waits for the next start, and what the answer says."""
import json
import os
import pathlib
import re
import subprocess
import sys
import time

from board import Board
from daemon import OSPITE, PATIENCE, Daemon, Skipped, check, expect, run, wait_until

SMALL = ("memory=8M", "engine=none")


def set_settings(d, name, **settings):
    answer = d.call("PATCH", f"/vms/{name}", {"settings": {key.replace("__", "."): value for key, value in settings.items()}})
    return {change["name"]: (change["when"], change.get("reason")) for change in answer["changes"]}


def image(d, name, size=64 << 10):
    path = d.path / name
    path.write_bytes(name.encode().ljust(16) + bytes(size - 16))
    return path


def has_open(d, name, path):
    folder = pathlib.Path(f"/proc/{d.vm(name)['pid']}/fd")
    return str(path) in [os.readlink(folder / fd) for fd in os.listdir(folder)]


def drives(d):
    """A machine with a disk, a disc and an empty floppy drive, started."""
    disk, disc = image(d, "disk", 1 << 20), image(d, "one.iso")
    d.run("vm", "create", "one", *SMALL, "storage.ide0.0.type=disk", f"storage.ide0.0.medium={disk}", "storage.ide0.0.format=raw",
          "storage.ide0.2.type=cdrom", f"storage.ide0.2.medium={disc}", "storage.floppy0.0.type=floppy")
    d.run("vm", "start", "one")
    return Board(d, d.vm("one")), disc


def discs():
    """A disc is changed and taken out while the machine runs, and the guest sees it; a locked tray and a missing file are told."""
    with Daemon() as d:
        board, first = drives(d)
        second = image(d, "two words.iso")
        expect(board.disc(), b"one.iso".ljust(16), "the first disc")
        said = d.run("vm", "set", "one", f"storage.ide0.2.medium={second}")
        expect(said, "storage.ide0.2.medium changed\n", "answer")
        expect(board.disc(), b"two words.iso".ljust(16), "the second disc")
        check(has_open(d, "one", second) and not has_open(d, "one", first), "the first disc is still open")
        check(not d.vm("one")["restart_needed"], "a restart is needed")
        expect(set_settings(d, "one", storage__ide0__2__medium=None), {"storage.ide0.2.medium": ("now", None)}, "changes")
        expect(board.disc(), None, "an empty drive's disc")
        set_settings(d, "one", storage__ide0__2__medium=str(first))
        expect(board.disc(), b"one.iso".ljust(16), "the disc that came back")
        board.packet(0x1E, 0, 0, 0, 1)
        when, reason = set_settings(d, "one", storage__ide0__2__medium=str(second))["storage.ide0.2.medium"]
        check(when == "restart" and "locked" in reason, f"a locked tray: {when}, {reason}")
        expect(board.disc(), b"one.iso".ljust(16), "the disc behind the locked tray")
        check(d.vm("one")["restart_needed"], "no restart is needed")
        board.packet(0x1E)
        d.run("vm", "set", "one", "description=another try of what waits")
        expect(board.disc(), b"two words.iso".ljust(16), "the disc after the tray was unlocked")
        said = d.run("vm", "set", "one", f"storage.ide0.2.medium={d.path}/none")
        check("next start" in said and "No such file" in said, f"a missing file: {said}")
        expect(board.disc(), b"two words.iso".ljust(16), "the disc that stays")
        (d.path / "short").write_bytes(b"x")
        when, reason = set_settings(d, "one", storage__ide0__2__medium=f"{d.path}/short")["storage.ide0.2.medium"]
        check(when == "restart" and "too short" in reason, f"no disc: {when}, {reason}")
        file = pathlib.Path(d.vm("one")["file"])
        d.environment["EDITOR"] = f"sed -i s:short:{first.name}:"
        d.run("vm", "edit", "one")
        check(first.name in file.read_text(), "the file was not changed")
        expect(board.disc(), b"one.iso".ljust(16), "the disc that came by vm edit")


def floppies():
    """A floppy disk comes into an empty drive, locked against other writers, and leaves it."""
    with Daemon() as d:
        drives(d)
        floppy = image(d, "floppy", 1474560)
        expect(set_settings(d, "one", storage__floppy0__0__medium=str(floppy), storage__floppy0__0__format="raw"),
               {"storage.floppy0.0.format": ("now", None), "storage.floppy0.0.medium": ("now", None)}, "changes")
        check(has_open(d, "one", floppy), "it is not open")
        set_settings(d, "one", storage__floppy0__0__medium=None)
        check(not has_open(d, "one", floppy), "it is still open")
        large = image(d, "large", 8 << 20)
        when, reason = set_settings(d, "one", storage__floppy0__0__medium=str(large))["storage.floppy0.0.medium"]
        check(when == "restart" and "larger" in reason, f"no floppy: {when}, {reason}")
        check(not has_open(d, "one", large), "what was refused is open")


def limits():
    """A disk's limits change at once; a slow disk is slow."""
    with Daemon() as d:
        board, _ = drives(d)
        expect(set_settings(d, "one", storage__ide0__0__iops=2), {"storage.ide0.0.iops": ("now", None)}, "changes")
        begun = time.monotonic()
        for lba in range(4):
            board.write_sector(lba, 0x1111)
            wait_until(lambda: not board.inp(0x1F7) & 0x80, "the drive")
        check(time.monotonic() - begun > 1, "four requests at two a second took less than a second")
        expect(set_settings(d, "one", storage__ide0__0__iops=0, storage__ide0__0__bandwidth="1G"),
               {"storage.ide0.0.bandwidth": ("now", None), "storage.ide0.0.iops": ("now", None)}, "changes")
        board.write_sector(5, 0x2222)


def button():
    """A guest that boots does not hear its power button: it is pressed again, until the guest turns itself off."""
    status, control, button_bit = 0x600, 0x604, 0x100  # ACPI 4.8.3.1.1
    with Daemon() as d:
        d.run("vm", "create", "one", *SMALL)
        for words in (("vm", "stop", "one"), ("vm", "autostart", "--stop")):
            d.run("vm", "autostart", "one", "on")
            d.run("vm", "start", "one")
            board = Board(d, d.vm("one"))
            for register, value in ((0x40, status | 1), (0x80, 1)):  # of the PIIX4's third function: where its ports are
                board.out(0xCF8, 0x80000B00 | register, 4)
                board.out(0xCFC, value, 4)
            with subprocess.Popen([OSPITE, *words], env=d.environment, stdout=subprocess.DEVNULL) as stop:
                for _ in range(3):
                    wait_until(lambda: board.inp(status + 1) << 8 & button_bit, "the button")
                    board.out(status, button_bit, 2)
                board.out(control, 0x2000, 2)  # soft off
                expect(stop.wait(20 * PATIENCE), 0, f"status of {words}")
            expect(d.vm("one")["state"], "off", "state")


def engines():
    """Another engine goes on with the running machine; one that is not there does not."""
    with Daemon() as d:
        d.run("vm", "create", "bios", "memory=8M", "engine=interp")
        d.run("vm", "start", "bios")
        board = Board(d, d.vm("bios"))
        expect(board.ask("engine"), "interp", "engine")
        expect(d.run("vm", "set", "bios", "engine=jit"), "system.engine changed\n", "answer")
        expect(board.ask("engine"), "jit", "engine")
        wait_until(lambda: "SeaBIOS" in d.run("vm", "screen", "bios"), "the firmware's greeting")
        when, reason = set_settings(d, "bios", engine="none")["system.engine"]
        check(when == "restart" and reason, f"engine none: {when}, {reason}")
        expect(board.ask("engine"), "jit", "engine")


def kvm():
    """A machine's process that opens no files any more goes on under KVM, with a CPU that all engines have, and back."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        raise Skipped("no /dev/kvm")
    with Daemon() as d:
        d.run("vm", "create", "bios", "memory=8M", "engine=interp")
        d.run("vm", "start", "bios")
        when, reason = set_settings(d, "bios", engine="kvm")["system.engine"]
        if when == "restart":
            cpu = re.search(r"start the machine with the CPU '(.*?)'", reason).group(1)
            d.run("vm", "poweroff", "bios")
            d.run("vm", "set", "bios", f"cpu={cpu}", "engine=interp")
            d.run("vm", "start", "bios")
        board = Board(d, d.vm("bios"))
        for engine in ("kvm", "jit", "kvm", "interp"):
            if board.ask("engine") != engine:
                expect(set_settings(d, "bios", engine=engine), {"system.engine": ("now", None)}, "changes")
            expect(board.ask("engine"), engine, "engine")
        wait_until(lambda: "SeaBIOS" in d.run("vm", "screen", "bios"), "the firmware's greeting")


def later():
    """What no running machine can take waits for the next start; what it has taken is known to the next daemon."""
    with Daemon() as d:
        drives(d)
        other = image(d, "other", 1 << 20)
        expect(set_settings(d, "one", memory="16M", description="x", autostart__enabled=True, autostart__delay=5),
               {"system.memory": ("restart", None), "general.description": ("now", None), "autostart.enabled": ("now", None),
                "autostart.delay": ("now", None)}, "changes")
        expect(set_settings(d, "one", storage__ide0__0__medium=str(other)), {"storage.ide0.0.medium": ("restart", None)}, "another hard disk")
        check(d.vm("one")["restart_needed"], "no restart is needed")
        d.run("vm", "set", "one", "memory=8M", f"storage.ide0.0.medium={d.path}/disk", "storage.ide0.2.medium=", "storage.ide0.0.iops=1000")
        check(not d.vm("one")["restart_needed"], "a restart is needed")
        d.pids.add(d.vm("one")["pid"])
        d.kill()
        d.run("vm", "wait", "one", "--for", "running")
        check(not d.vm("one")["restart_needed"], "a restart is needed, says the next daemon")
        expect(set_settings(d, "one", storage__ide0__0__iops=0), {"storage.ide0.0.iops": ("now", None)}, "changes")
        d.run("vm", "poweroff", "one")
        expect(json.loads(d.run("vm", "set", "one", "memory=32M", "--json"))["changes"], [{"name": "system.memory", "when": "now"}], "changes when off")
        expect(list((d.path / "run/ospite/vms").iterdir()), [], "what is left in the runtime folder")


sys.exit(run((discs, floppies, limits, button, engines, kvm, later), sys.argv[1:]))
