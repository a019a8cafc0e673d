#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo guest under the daemon, as TAP: log in over the console, kill -9 the daemon, turn the guest off by ACPI, delete it with its disk."""
import pathlib
import shutil
import sys

from daemon import TOP, Daemon, Skipped, check, expect, run

DISK = TOP / ".cache" / "guest" / "disk.raw"


def session():
    """A guest is logged in to, survives its daemon, and is turned off by its power button"""
    if not DISK.exists():
        raise Skipped("tools/make-guest has not made the demo guest")
    with Daemon() as d:
        d.run("vm", "create", "demo", "memory=512M", "engine=jit")
        folder = pathlib.Path(d.vm("demo")["folder"])
        shutil.copy(DISK, folder / "disk.raw")
        d.run("vm", "set", "demo", "storage.ide0.0.type=disk", "storage.ide0.0.medium=disk.raw", "storage.ide0.0.format=raw")
        d.run("vm", "start", "demo")
        console = d.websocket("/vms/demo/console")
        console.expect(rb"login:", 120)
        console.send(b"root\n")
        console.expect(rb"# ")
        pid = d.vm("demo")["pid"]
        d.pids.add(pid)
        d.kill()
        check("demo" in d.run("vm", "list", "--running"), "the next daemon does not know the guest")
        expect(d.vm("demo")["pid"], pid, "pid")
        again = d.websocket("/vms/demo/console")
        again.send(b"echo a$((40+2))b\n")
        again.expect(rb"a42b")
        d.run("vm", "stop", "demo", "--timeout", "300")
        expect(d.vm("demo")["last_end"]["reason"], "guest", "reason")
        d.run("vm", "delete", "demo", "--disks")
        check(not folder.exists(), "the folder is still there")


sys.exit(run((session,), sys.argv[1:]))
