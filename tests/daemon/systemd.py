#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The installed units under a real `systemd --user`, as TAP: activation, a daemon's death and stop, machines that start with the session.

The test runs itself in user, mount and process namespaces of its own, with a runtime folder of its own, where it starts systemd.
"""
import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys

from daemon import BUILD, PATIENCE, Daemon, Failed, Skipped, check, expect, run, wait_until

SMALL = ("memory=8M", "engine=interp")
INSIDE = "OSPITE_TEST_SYSTEMD"
NAMESPACES = ["unshare", "--map-root-user", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]


class Session(Daemon):
    """A user's session: systemd, with Ospite's units as an installation has them."""

    def __init__(self):
        super().__init__()
        self.systemd = None
        self.environment["OSPITED"] = "/bin/false"  # the client must not start one
        (self.path / "run").mkdir(mode=0o700, exist_ok=True)
        subprocess.run(["meson", "install", "-C", BUILD, "--destdir", self.path / "root", "--no-rebuild"], check=True, capture_output=True)
        [library] = (self.path / "root").rglob("libospite.so.0")
        [self.program] = (self.path / "root").rglob("bin/ospite")
        folder = self.path / "config/systemd/user"
        folder.mkdir(parents=True)
        prefix = str(self.program.parent)[len(str(self.path / "root")):]
        for path in (self.path / "root").rglob("lib/systemd/user/*"):
            text = path.read_text().replace(f"={prefix}/", f"={self.program.parent}/")
            (folder / path.name).write_text(text.replace("[Service]", f"[Service]\nEnvironment=LD_LIBRARY_PATH={library.parent} OSPITED=/bin/false"))

    def begin(self):
        log = open(self.path / "systemd.log", "ab")  # pylint: disable=consider-using-with
        self.systemd = subprocess.Popen(["systemd", "--user"], env={**self.environment, "SYSTEMD_LOG_TARGET": "console"}, stdout=log, stderr=log)
        log.close()
        wait_until(lambda: self.ask("is-system-running")[1] in ("running", "degraded") or self.systemd.poll() is not None, "systemd")
        if self.systemd.poll() is not None:
            raise Skipped("systemd --user does not begin here: " + (self.path / "systemd.log").read_text(errors="replace").strip()[-200:])

    def end(self):
        self.systemd.send_signal(signal.SIGTERM)
        expect(self.systemd.wait(120 * PATIENCE), 0, "systemd's status")

    def ask(self, *words):
        result = subprocess.run(["systemctl", "--user", *words], env=self.environment, capture_output=True, text=True, timeout=60 * PATIENCE, check=False)
        return result.returncode, result.stdout.strip() or result.stderr.strip()

    def order(self, *words):
        status, said = self.ask(*words)
        expect(status, 0, f"status of systemctl {words}: {said}")
        return said

    def main_pid(self):
        return int(self.order("show", "--value", "--property=MainPID", "ospited.service"))

    def __exit__(self, kind, value, trace):
        if value and (self.path / "systemd.log").exists():
            for line in (self.path / "systemd.log").read_text(errors="replace").splitlines()[-20:]:
                print(f"# systemd: {line}")
        super().__exit__(kind, value, trace)
        if self.systemd and self.systemd.poll() is None:
            self.systemd.kill()
            self.systemd.wait()


def in_session(test):
    """Runs the test where it may mount and systemd believes to be at home."""
    def wrapper():
        if os.environ.get(INSIDE):
            test()
            return
        if not shutil.which("systemd") or not shutil.which("systemctl"):
            raise Skipped("systemd is missing")
        script = f'mount -t tmpfs none /run && mkdir -p /run/systemd/system && exec "$0" "$1" {test.__name__}'
        if subprocess.run([*NAMESPACES, "sh", "-c", "mount -t tmpfs none /run"], capture_output=True, check=False).returncode:
            raise Skipped("this host gives users no namespaces")
        result = subprocess.run([*NAMESPACES, "sh", "-c", script, sys.executable, sys.argv[0]], env={**os.environ, INSIDE: "1"}, capture_output=True,
                                text=True, timeout=300 * PATIENCE, check=False)
        if result.returncode:
            raise Failed(result.stdout + result.stderr)
        if skipped := result.stdout.partition("# SKIP ")[2]:
            raise Skipped(skipped.strip())
    wrapper.__name__, wrapper.__doc__ = test.__name__, test.__doc__
    return wrapper


@in_session
def activated():
    """systemd listens, starts the daemon for the first command, again when it is killed, again when it was stopped; machines go on."""
    with Session() as d:
        d.begin()
        d.order("start", "ospited.socket")
        expect(d.main_pid(), 0, "a daemon before anybody needs one; pid")
        d.run("vm", "create", "one", *SMALL)
        expect(d.main_pid(), d.pid(), "systemd's daemon and ours")
        d.run("vm", "start", "one")
        machine = d.vm("one")["pid"]
        d.pids.add(machine)
        first = d.pid()
        os.kill(first, signal.SIGKILL)
        check("one" in d.run("vm", "list", "--running"), "the machine is not known")
        d.run("vm", "wait", "one", "--for", "running")
        check(d.pid() != first and d.main_pid() == d.pid(), "the next daemon is not systemd's")
        d.order("stop", "ospited.service")
        expect(d.main_pid(), 0, "the daemon that was stopped; pid")
        check(pathlib.Path(f"/proc/{machine}").exists(), "the machine went with the daemon's service")
        check("one" in d.run("vm", "list", "--running"), "the socket went with the daemon's service")
        d.run("vm", "wait", "one", "--for", "running")
        expect((d.vm("one")["pid"], d.main_pid()), (machine, d.pid()), "the machine and the daemon")
        d.run("vm", "poweroff", "one")
        d.order("stop", "ospited.socket")
        check("cannot" in d.run("vm", "list", status=1), "who answers?")
        d.end()


@in_session
def with_the_session():
    """Machines that are to start with the session do, and are stopped at its end; those that are not are not."""
    with Session() as d:
        d.begin()
        d.order("enable", "--now", "ospited.socket")
        d.order("enable", "ospite-autostart.service")
        for name in ("yes", "no"):
            d.run("vm", "create", name, *SMALL, "autostart.stop=poweroff")
        d.run("vm", "autostart", "yes", "on")
        d.end()
        with contextlib.suppress(ConnectionError, FileNotFoundError):
            check(not d.connect(), "somebody answers after the session")
        d.begin()
        d.run("vm", "wait", "yes", "--for", "running")
        expect(d.vm("no")["state"], "off", "state of the other")
        expect(d.order("is-active", "ospite-autostart.service", "ospited.service", "ospited.socket").split(), ["active"] * 3, "units")
        pid = d.vm("yes")["pid"]
        d.pids.add(pid)
        d.end()
        check(not pathlib.Path(f"/proc/{pid}").exists() or " Z " in pathlib.Path(f"/proc/{pid}/stat").read_text(), "the machine outlived its session")
        d.begin()
        d.run("vm", "wait", "yes", "--for", "running")
        d.order("stop", "ospite-autostart.service")
        expect(d.vm("yes")["state"], "off", "state after the unit's stop")
        d.end()


sys.exit(run((activated, with_the_session), sys.argv[1:]))
