#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo guest under the daemon, as TAP: log in over the console, kill -9 the daemon, turn the guest off by ACPI, delete it with its disk."""
import contextlib
import os
import pathlib
import pty
import re
import select
import subprocess
import sys
import time

from daemon import OSPITE, PATIENCE, TOP, Daemon, Skipped, check, expect, run

DISK = TOP / ".cache" / "guest" / "disk.raw"


class Console:
    """`ospite vm console` on a terminal, and somebody who types there."""

    def __init__(self, d, name):
        self.terminal, inside = pty.openpty()
        self.process = subprocess.Popen([OSPITE, "vm", "console", name], env=d.environment, stdin=inside, stdout=inside, stderr=inside,
                                        start_new_session=True)
        os.close(inside)
        self.text = b""

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.kill()
        self.process.wait()
        os.close(self.terminal)

    def read(self):
        with contextlib.suppress(OSError):  # the terminal's end
            if select.select([self.terminal], [], [], 1)[0]:
                self.text += os.read(self.terminal, 65536)

    def expect(self, pattern, seconds=30):
        end = time.monotonic() + seconds * PATIENCE
        while not (match := re.search(pattern, self.text)):
            check(time.monotonic() < end, f"no {pattern} on the console: {self.text[-300:]!r}")
            self.read()
        self.text = self.text[match.end():]

    def type(self, data):
        os.write(self.terminal, data)

    def end(self):
        while self.process.poll() is None:
            self.read()
        self.read()
        return self.process.returncode


def session():
    """A guest is made, set up and logged in to, survives its daemon, is turned off by its power button and deleted, all by commands"""
    if not DISK.exists():
        raise Skipped("tools/make-guest has not made the demo guest")
    with Daemon() as d:
        d.run("vm", "create", "demo")
        d.run("vm", "set", "demo", "memory=512M", "engine=jit")
        folder = pathlib.Path(d.vm("demo")["folder"])
        subprocess.run([OSPITE, "disk", "convert", "-O", "qcow2", DISK, folder / "disk.qcow2"], check=True, capture_output=True)
        d.run("vm", "set", "demo", "storage.ide0.0.type=disk", "storage.ide0.0.medium=disk.qcow2", "storage.ide0.0.format=qcow2")
        d.run("vm", "start", "demo")
        with Console(d, "demo") as console:
            console.expect(rb"login:", 120)
            console.type(b"root\r")
            console.expect(rb"# ")
            console.type(b"echo before-$((6*7)) >/root/note; sync; cat /root/note\r")
            console.expect(rb"\nbefore-42")
            pid = d.vm("demo")["pid"]
            d.pids.add(pid)
            d.kill()
            check(console.end() != 0 and b"daemon" in console.text, f"the console's end is not told: {console.text!r}")
        listed = d.run("vm", "list")
        check(re.match(r"demo +(starting|running) ", listed), f"vm list: {listed}")
        expect(d.vm("demo")["pid"], pid, "pid")
        with Console(d, "demo") as console:
            console.type(b"cat /root/note; echo a$((40+2))b\r")
            console.expect(rb"\nbefore-42\r\na42b")
            console.type(b"\x1d")  # Ctrl-]
            expect(console.end(), 0, "status of a console that was left")
        d.run("vm", "stop", "demo", "--timeout", "300")
        expect(d.vm("demo")["last_end"]["reason"], "guest", "reason")
        expect(subprocess.run([OSPITE, "disk", "check", folder / "disk.qcow2"], capture_output=True, check=False).returncode, 0, "status of disk check")
        d.run("vm", "delete", "demo", "--disks")
        check(not folder.exists(), "the folder is still there")
        expect(d.run("vm", "list"), "", "machines")


sys.exit(run((session,), sys.argv[1:]))
