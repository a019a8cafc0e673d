#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Daemons that go while somebody asks them, as TAP: what is asked again, what is not, and what the client is told."""
import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading

from daemon import BUILD, OSPITE, PATIENCE, TOP, Daemon, check, expect, has_ended, run, wait_until

SMALL = ("memory=8M", "engine=interp")


class Dying:
    """In a daemon's place: takes connections until one has sent a request, and is gone then, as by kill -9. Its socket's name stays."""

    def __init__(self, d):
        d.socket.unlink(missing_ok=True)
        d.socket.parent.mkdir(mode=0o700, exist_ok=True)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(d.socket))
        self.listener.listen()
        self.seen = b""
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self):
        while not self.seen:
            client, _ = self.listener.accept()
            with client:
                client.settimeout(60 * PATIENCE)
                while b"\r\n\r\n" not in self.seen and (data := client.recv(65536)):
                    self.seen += data
                if self.seen:
                    self.listener.close()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        with contextlib.suppress(OSError):  # nobody came
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(self.listener.getsockname() if self.listener.fileno() >= 0 else "")
                client.sendall(b"end\r\n\r\n")
        self.thread.join()


def asked_again():
    """What changes nothing is asked again of a fresh daemon, and nobody notices that the first one has gone."""
    with Daemon() as d:
        for words in (("vm", "list"), ("vm", "show", "one"), ("vm", "wait", "one", "--for", "off"), ("media", "list"), ("vm", "log", "one")):
            d.run("vm", "list")
            if words[1] == "list" and not d.call("GET", "/vms")["vms"]:
                d.run("vm", "create", "one", *SMALL)
            d.kill()
            with Dying(d) as dying:
                d.run(*words)
            check(dying.seen.startswith(b"GET /v1/"), f"{words}: the first daemon was asked {dying.seen[:60]!r}")
            check(d.pid(), f"{words}: there is no daemon")


def streams():
    """Events that are asked of a daemon that has just gone come from the next one."""
    with Daemon() as d:
        d.run("vm", "create", "one", *SMALL)
        d.kill()
        with Dying(d) as dying, subprocess.Popen([OSPITE, "events"], env=d.environment, stdout=subprocess.PIPE, text=True) as process:
            check("hello" in process.stdout.readline(), "no greeting")
            d.run("vm", "start", "one")
            check("starting" in process.stdout.readline(), "no event")
            process.terminate()
        check(b"/v1/events" in dying.seen, "the first daemon was not asked")


def told():
    """What changes something is not repeated: the error says that it may have been done, and what to do; nothing was done here."""
    with Daemon() as d:
        d.run("vm", "create", "one", *SMALL)
        for words in (("vm", "create", "two"), ("vm", "set", "one", "memory=16M"), ("vm", "start", "one"), ("vm", "delete", "one", "--disks"),
                      ("vm", "clone", "one", "three"), ("media", "add", d.path / "none.raw")):
            d.kill()
            with Dying(d):
                said = d.run(*words, status=1)
            check("may have done" in said and "look before you ask again" in said and said.count("\n") == 1, f"{words}: {said!r}")
            expect([(vm["name"], vm["state"], vm["memory"]) for vm in json.loads(d.run("vm", "list", "--json"))["vms"]], [("one", "off", 8 << 20)], "machines")


def stopped_and_killed():
    """A daemon that has taken a connection but read nothing is killed: vm list is answered by the next one, every time."""
    with Daemon() as d:
        d.run("vm", "create", "one", *SMALL)
        for _ in range(20):
            pid = d.pid()
            os.kill(pid, signal.SIGSTOP)
            with subprocess.Popen([OSPITE, "vm", "list"], env=d.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
                wait_until(lambda p=process: waits(p.pid), "the command's request")
                os.kill(pid, signal.SIGKILL)
                said = process.communicate(timeout=60 * PATIENCE)[0]
            check(process.returncode == 0 and said.startswith("one"), f"vm list: {process.returncode}: {said}")


def waits(pid):
    """Whether a process has a connected Unix socket to a daemon and sleeps."""
    try:
        names = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state == "S" and any(name.startswith("socket:") for name in names)


def long_lived():
    """A client that stays is served by the next daemon when the first has left or was killed; so is one in Python."""
    script = """
import sys, ospite
client = ospite.Client()
print(client.version()["pid"], flush=True)
for line in sys.stdin:
    machine = client.create(line.strip(), memory="8M", engine="interp")
    print(client.version()["pid"], len(client.list()), flush=True)
"""
    with Daemon() as d:
        environment = {**d.environment, "PYTHONPATH": str(TOP / "python"), "OSPITED": str(BUILD / "ospited")}
        with subprocess.Popen([sys.executable, "-c", script], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            pids = {int(process.stdout.readline())}
            for n in range(3):
                d.kill()
                process.stdin.write(f"vm{n}\n")
                process.stdin.flush()
                said = process.stdout.readline().split()
                check(said, "the client did not survive its daemon")
                pid, count = map(int, said)
                pids.add(pid)
                expect(count, n + 1, "machines")
            expect(len(pids), 4, "daemons")
            process.stdin.close()


def swept():
    """What a killed daemon left half done is taken away by the next: temporary files, an empty machine's folder, a runtime folder."""
    with Daemon() as d:
        d.run("vm", "create", "one", *SMALL)
        vm = d.vm("one")
        d.kill()
        runtime = d.path / "run/ospite/vms" / vm["uuid"]
        half = d.path / "data/ospite/machines/two"
        for folder in (runtime, half):
            folder.mkdir(parents=True)
        left = [runtime / "live.ABCDEF", half / ".ospite-save-12345678.tmp", d.path / "config/ospite/.ospite-save-12345678.tmp",
                pathlib.Path(vm["folder"]) / ".ospite-save-12345678.tmp"]
        for path in left:
            path.write_text("half")
        stranger = pathlib.Path(vm["folder"]) / ".ospite-notes"
        stranger.write_text("mine")
        d.run("vm", "create", "two", *SMALL)
        expect([path for path in [*left, runtime] if path.exists()], [], "what is left")
        check(stranger.exists(), "another's file is gone")
        (d.path / "data/ospite/machines/three").mkdir()
        (d.path / "data/ospite/machines/three/notes").write_text("mine")
        check("there already" in d.run("vm", "create", "three", status=1), "a folder with files was taken over")


def deleted_whole():
    """vm delete --disks that is killed on its way has taken nothing, or is finished by the next daemon: no disk is left without its machine."""
    disks = [f"{n}.raw" for n in range(192)]
    settings = {f"storage.sata{n}.type": "ahci" for n in range(6)}
    for n, name in enumerate(disks):
        place = f"storage.sata{n % 6}.{n // 6}"
        settings |= {f"{place}.type": "disk", f"{place}.format": "raw", f"{place}.medium": name}
    with Daemon() as d:
        outcomes = set()
        for turn in range(6):
            d.run("vm", "list")
            vm = d.call("POST", "/vms", {"name": f"m{turn}", "settings": settings})["vm"]
            folder = pathlib.Path(vm["folder"])
            for name in disks:
                (folder / name).write_bytes(b"x")
            d.call("GET", "/media")
            pid = d.pid()
            with d.connect() as client:
                client.sendall(f"DELETE /v1/vms/{vm['uuid']}?mode=all HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
                # Early turns before the first file goes, the others after the nth.
                if turn:
                    wait_until(lambda n=turn: len(list(folder.glob("*.raw"))) <= 192 - 30 * n, "files to go")
                os.kill(pid, signal.SIGKILL)
            wait_until(lambda p=pid: has_ended(p), "the daemon's end")
            known = vm["uuid"] in d.run("vm", "list")
            left = len(list(folder.glob("*.raw")))
            check((known, left) in ((True, 192), (False, 0)), f"turn {turn}: the machine is {'' if known else 'un'}known, {left} of its disks are left")
            check(known or not folder.exists(), f"its folder is left with {folder.exists() and list(folder.iterdir())}")
            outcomes.add(known)
        check(False in outcomes, "no kill came late enough")


sys.exit(run((asked_again, streams, told, stopped_and_killed, long_lived, swept, deleted_whole), sys.argv[1:]))
