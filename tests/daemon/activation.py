#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Units of systemd, as TAP: the daemon at a socket that another opened, leaving and coming back; machines that start by themselves."""
import os
import select
import shutil
import socket
import subprocess
import sys
import threading

from daemon import BUILD, PATIENCE, Daemon, Skipped, check, expect, run, wait_until

SMALL = ("memory=8M", "engine=interp")


class Activated(Daemon):
    """Does what systemd does: listens, and starts the daemon whenever somebody comes while there is none."""

    def __init__(self, *options):
        super().__init__()
        self.options, self.starts, self.over, self.process = options, 0, False, None
        self.socket.parent.mkdir(mode=0o700)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.socket))
        self.listener.listen(64)
        self.environment["OSPITED"] = "/bin/false"  # the client must not start one
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def start(self, descriptors=1, listener=None):
        listener = listener or self.listener

        def hand_over():
            os.dup2(listener.fileno(), 3)
            os.set_inheritable(3, True)
            os.execve(BUILD / "ospited", ["ospited", *self.options],
                      {**self.environment, "LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(descriptors)})

        pid = os.fork()
        if pid == 0:
            try:
                hand_over()
            except OSError as reason:
                print(f"# {reason}", flush=True)
            finally:
                os._exit(127)
        return pid

    def watch(self):
        while not self.over:
            if select.select([self.listener], [], [], 0.1)[0] and not self.over:
                self.process = self.start()
                self.starts += 1
                self.status = os.waitpid(self.process, 0)[1]
                self.process = None
                self.over |= os.WIFEXITED(self.status) and os.WEXITSTATUS(self.status) != 0  # as systemd, it gives up
        self.listener.close()

    def __exit__(self, *error):
        super().__exit__(*error)  # which may start one more, and kills it
        self.over = True
        self.thread.join(30 * PATIENCE)


def life():
    """The first command starts the daemon by its socket; it leaves when idle, the socket stays, and the next command starts another."""
    with Activated("--idle", "1") as d:
        d.run("vm", "create", "one", *SMALL)
        expect(d.starts, 1, "daemons")
        wait_until(lambda: d.process is None, "the daemon's end")
        expect(d.status, 0, "its status")
        check(d.socket.is_socket(), "the socket is gone")
        d.run("vm", "start", "one")
        pid = d.vm("one")["pid"]
        d.pids.add(pid)
        expect(d.starts, 2, "daemons")
        d.kill()
        check("one" in d.run("vm", "list", "--running"), "the next daemon does not know the machine")
        d.run("vm", "wait", "one", "--for", "running")
        expect((d.starts, d.vm("one")["pid"]), (3, pid), "daemons and pid")
        d.run("vm", "poweroff", "one")
        wait_until(lambda: d.process is None, "the daemon's end")


def crowd():
    """Twenty commands at once find a daemon that may be leaving just then: all are served, none is lost."""
    with Activated("--idle", "1") as d:
        d.run("vm", "create", "one", *SMALL)
        for _ in range(3):
            wait_until(lambda: d.process is None, "the daemon's end")
            commands = [subprocess.Popen([BUILD / "ospite", "vm", "list"], env=d.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
                        for _ in range(20)]
            for command in commands:
                said = command.communicate(timeout=60 * PATIENCE)[0]
                check(command.returncode == 0 and b"one" in said, f"a command failed: {said}")


def bad():
    """What is no listening Unix socket, or more than one, is refused."""
    with Activated() as d, socket.socket(socket.AF_UNIX) as silent, socket.create_server(("127.0.0.1", 0)) as tcp:
        for descriptors, listener in ((1, silent), (1, tcp), (2, None), (0, None)):
            expect(os.waitstatus_to_exitcode(os.waitpid(d.start(descriptors, listener), 0)[1]), 1, f"status with {descriptors}")


def units():
    """systemd finds no fault in the units; an installation has them in its place."""
    with Daemon() as d:
        subprocess.run(["meson", "install", "-C", BUILD, "--destdir", d.path / "root", "--no-rebuild"], check=True, capture_output=True)
        names = {"ospited.socket", "ospited.service", "ospite-autostart.service"}
        found = {path.name: path for path in (d.path / "root").rglob("lib/systemd/user/*")}
        expect(set(found), names, "units")
        for name, path in found.items():
            for command in [line for line in path.read_text().splitlines() if line.startswith("Exec")]:
                program = command.split("=")[1].split()[0]
                check((d.path / "root" / program[1:]).exists(), f"{name}: {program} is not installed")
        if not shutil.which("systemd-analyze"):
            raise Skipped("systemd-analyze is missing")
        folder = d.path / "units"
        folder.mkdir()
        for name, path in found.items():
            folder.joinpath(name).write_text(path.read_text().replace("ExecStart=/", f"ExecStart={d.path}/root/").replace("ExecStop=/", f"ExecStop={d.path}/root/"))
        result = subprocess.run(["systemd-analyze", "--user", "--man=no", "verify", *(folder / name for name in names)], env=d.environment,
                                capture_output=True, text=True, check=False)
        faults = [line for line in (result.stdout + result.stderr).splitlines() if "ospite" in line]
        expect(faults, [], "faults")


def elsewhere():
    """An installation below any folder (DESTDIR) runs as it is, with its library, its parts and its Italian."""
    with Daemon() as d:
        root = d.path / "root"
        subprocess.run(["meson", "install", "-C", BUILD, "--destdir", root, "--no-rebuild"], check=True, capture_output=True)
        program = next(root.rglob("bin/ospite"))

        def said(*words):
            environment = {name: value for name, value in d.environment.items() if name not in ("LD_LIBRARY_PATH", "OSPITED", "OSPITE_MODULES")}
            result = subprocess.run([program, *words], env={**environment, "LANGUAGE": "it"}, capture_output=True, text=True, check=False, timeout=60 * PATIENCE)
            return result.returncode, result.stdout + result.stderr

        expect(said("vm", "create", "one", *SMALL)[0], 0, "status of the first command")
        check("non c'è nessuna macchina 'none'" in said("vm", "show", "none")[1], f"no Italian: {said('vm', 'show', 'none')}")
        part = said("disk", "info", "https://127.0.0.1:9/x")[1]
        check("si può caricare" not in part and "127.0.0.1" in part, f"a part is not found: {part}")



def autostart():
    """Machines that start by themselves do, each after its delay, the others do not; all such are stopped again."""
    with Activated("--idle", "1") as d:
        for name in ("now", "later", "never"):
            d.run("vm", "create", name, *SMALL)
        d.run("vm", "autostart", "now", "on")
        d.run("vm", "set", "later", "autostart.enabled=on", "autostart.delay=3", "autostart.stop=poweroff")
        d.run("vm", "set", "now", "autostart.stop=poweroff")
        said = d.run("vm", "autostart")
        starts = d.starts
        check("now" in said and "later" in said and "never" not in said, f"said: {said}")
        d.run("vm", "wait", "now", "--for", "running")
        d.run("vm", "wait", "later", "--for", "running")
        expect(d.starts, starts, "the daemon left while a machine was to start; daemons")
        expect(d.vm("never")["state"], "off", "state")
        expect(d.call("POST", "/autostart"), {"vms": []}, "what starts twice")
        d.run("vm", "start", "never")
        d.run("vm", "autostart", "--stop")
        expect([vm["state"] for vm in d.call("GET", "/vms")["vms"]], ["off", "running", "off"], "states of later, never and now")
        check("acpi or poweroff" in d.run("vm", "set", "now", "autostart.stop=save", status=1), "a saved state is promised")
        d.call("POST", "/vms", {"name": "third", "settings": {"autostart.stop": "save"}}, 501)
        expect(d.vm("now")["config"]["autostart"]["stop"], "poweroff", "how it is stopped")
        d.run("vm", "set", "now", "autostart.stop=acpi")  # firmware alone does not hear the button
        d.run("vm", "autostart")
        d.run("vm", "wait", "now", "--for", "running")
        check("now" in d.run("vm", "autostart", "--stop", "--timeout", "0", status=5), "the machine that did not stop is not named")
        for words in (("now",), ("now", "maybe"), ("now", "on", "--stop"), ("--stop", "--timeout", "x")):
            d.run("vm", "autostart", *words, status=2)


sys.exit(run((life, crowd, bad, units, elsewhere, autostart), sys.argv[1:]))
