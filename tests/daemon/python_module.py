#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Python module with a real daemon, as TAP: a machine's life, its console, events, images, errors, its types and its example."""
import os
import pathlib
import subprocess
import sys

from daemon import BUILD, DESCRIPTION, OSPITE, PATIENCE, TOP, Daemon, check, expect, run, wait_until

sys.path.insert(0, str(TOP / "python"))
import ospite  # noqa: E402  # pylint: disable=wrong-import-position

PROGRAM = BUILD / "tests" / "guests" / "paging64.elf"
SMALL = {"memory": "8M", "engine": "interp"}


class Session(Daemon):
    """A daemon of our own that the module starts itself."""

    def __enter__(self):
        self.before = dict(os.environ)
        os.environ.update(self.environment, OSPITED=str(BUILD / "ospited"))
        return super().__enter__()

    def __exit__(self, *what):
        super().__exit__(*what)
        os.environ.clear()
        os.environ.update(self.before)


def raises(kind, call, *words, **options):
    try:
        call(*words, **options)
    except kind as error:
        return error
    check(False, f"{call} raises no {kind.__name__}")
    return None


def life():
    """A machine is made, changed, started, paused, ended, moved and deleted; errors are of their classes."""
    with Session() as d, ospite.Client() as client:
        expect(client.list(), [], "machines")
        one = client.create("caffè ☕", SMALL, cpus=1)
        expect(one.show()["config"]["system"]["memory"], 8 << 20, "memory")
        raises(ospite.Exists, client.create, "caffè ☕")
        raises(ospite.Invalid, client.create, "two", {"memory": "99T"})
        raises(ospite.NotFound, client.machine("none").start)
        expect(client.machine("caffè ☕").set(memory="16M"), {"system.memory": "now"}, "changes")
        one.start()
        expect(one.set({"system.cpus": 2}), {"system.cpus": "restart"}, "changes")
        expect(one.state, "running", "state")
        check(raises(ospite.WrongState, one.start).code == "wrong_state", "the code is wrong")
        expect(one.pause()["state"], "paused", "state")
        expect(one.resume()["state"], "running", "state")
        one.reset()
        wait_until(lambda: any("SeaBIOS" in line for line in one.screen()), "the firmware's greeting")
        one.type("a\n")
        raises(ospite.TimedOut, one.stop, timeout=0)
        check(one.stats()["total"], "no counters of a running machine")
        expect(one.poweroff()["last_end"]["reason"], "plug", "reason")
        expect(one.stats(), None, "counters of a machine that is off")
        check(isinstance(one.log(5), list), "there is no log")
        one.set(memory=None)
        expect(one.show()["config"]["system"]["memory"], 512 << 20, "the default")
        expect(one.move(d.path / "elsewhere")["folder"], str(d.path / "elsewhere" / "caffè ☕"), "folder")
        one.write_file(one.read_file().replace("<system", "<system memory='32M'", 1))
        expect(one.show()["config"]["system"]["memory"], 32 << 20, "memory by the file")
        raises(ospite.Error, one.write_file, "not XML")
        file = one.show()["file"]
        check(file in one.delete(unregister=True), "its file is not among those kept")
        expect(client.register(file).delete(disks=True), [], "files that are left")
        raises(ValueError, one.delete, disks=True, unregister=True)


def imported():
    """An import returns what has no counterpart."""
    with Session() as d, ospite.Client() as client:
        file = d.path / "web.xml"
        file.write_text("<domain type='kvm'><name>web</name><memory unit='MiB'>32</memory><vcpu>1</vcpu><devices><graphics/></devices></domain>")
        machine, report = client.import_machine(file, name="other")
        expect(machine.show()["name"], "other", "name")
        check(any("graphics" in line for line in report), f"report: {report}")


def streams():
    """Events and the console come whole and in order; what is typed arrives; refusals are errors."""
    with Session() as d, ospite.Client() as client:
        events = client.events()
        expect(next(events)["kind"], "hello", "first event")
        guest = client.create("guest", memory="64M", engine="interp", **{"kernel.file": str(PROGRAM), "debug.exit-port": "0"})
        raises(ospite.WrongState, guest.console)
        guest.start()
        with guest.console() as console:
            text = b""
            while b"\n1.." not in text:
                message = console.receive(30 * PATIENCE)
                check(message is not None, "the console ended")
                text += message
            check(b"ok 1 " in text, f"console: {text[:200]!r}")
            console.send(b"x" * 70000)
            try:
                while console.receive(0.05) is not None:
                    pass
            except ospite.TimedOut:
                pass
            guest.poweroff()
            expect(list(console), [], "what comes after the end")
        states = []
        while "off" not in states:
            states.append(next(events).get("state"))
        expect([s for s in states if s], ["starting", "running", "off"], "states")
        d.kill()
        expect(list(events), [], "events after the daemon's end")


def media():
    """Images are added, moved and removed."""
    with Session() as d, ospite.Client() as client:
        path = d.path / "a b.qcow2"
        subprocess.run([OSPITE, "disk", "create", "-f", "qcow2", path, "8M"], check=True, capture_output=True)
        medium = client.add_medium(path)
        expect(client.medium(path).show(), medium.show(), "the image by its file and by its UUID")
        expect(medium.set_mode("immutable")["mode"], "immutable", "mode")
        expect(medium.move(d.path / "c.qcow2")["path"], str(d.path / "c.qcow2"), "path")
        expect(medium.release()["uses"], [], "uses")
        check(medium.refresh()["accessible"], "it cannot be reached")
        expect([m["path"] for m in client.list_media()], [str(d.path / "c.qcow2")], "images")
        medium.remove(delete=True)
        check(not (d.path / "c.qcow2").exists(), "the file is still there")
        raises(ospite.NotFound, medium.show)


def unreachable():
    """Without a daemon, with one that cannot start and with one that dies, the error says so."""
    with Session() as d:
        raises(ospite.Unreachable, ospite.Client, d.path / "none")
        os.environ["OSPITED"] = "/bin/false"
        raises(ospite.Unreachable, ospite.Client)
        os.environ["OSPITED"] = str(d.path / "none")
        raises(ospite.Unreachable, ospite.Client)
        os.environ["OSPITED"] = str(BUILD / "ospited")
        client = ospite.Client()
        d.kill()
        expect(client.list(), [], "what the next daemon says")
        os.environ["OSPITED"] = "/bin/false"
        d.kill()
        raises(ospite.Unreachable, client.list)
        os.environ["OSPITED"] = str(BUILD / "ospited")


def whole():
    """Every operation of the description has a method, and every verb of the command line."""
    source = (TOP / "python" / "ospite" / "_client.py").read_text(encoding="utf-8")
    for path in DESCRIPTION["paths"]:
        last = path.rpartition("/")[2]
        check(path == "/doctor" or last.startswith("{") or f"/{last}" in source or f'_act("{last}"' in source, f"{path} has no method")
    names = set(dir(ospite.Machine)) | {"list", "create", "register", "import", "edit", "autostart", "settings"}  # settings: the program's own table
    with Daemon() as d:
        verbs = {page.split()[1] for page in d.run("manual").splitlines() if page.startswith("vm ")}
    expect(verbs - names, set(), "verbs without a method")


def types():
    """Its types hold (mypy --strict)."""
    with Daemon() as d:
        result = subprocess.run(["mypy", "--strict", "--cache-dir", d.path / "cache", TOP / "python" / "ospite"], capture_output=True, text=True, check=False)
        expect(result.returncode, 0, result.stdout + result.stderr)


def example():
    """The example lists machines, and follows one."""
    with Session() as d:
        environment = {**os.environ, "PYTHONPATH": str(TOP / "python")}
        d.run("vm", "create", "one", *(f"{k}={v}" for k, v in SMALL.items()))
        words = [sys.executable, TOP / "examples" / "machines.py"]
        expect(subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout, "one is off\n", "machines")
        with subprocess.Popen([*words, "one"], env=environment, stdout=subprocess.PIPE, text=True) as process:
            expect(process.stdout.readline().split(), ["hello"], "first event")
            d.run("vm", "start", "one")
            d.run("vm", "poweroff", "one")
            check(process.communicate(timeout=60 * PATIENCE)[0].endswith("vm-state one off\n"), "the last event is another")


def snapshots():
    """States of a machine are kept, renamed, restored and deleted."""
    with Session(), ospite.Client() as client:
        one = client.create("one", SMALL)
        taken = one.take_snapshot("a/b", "notes")
        expect((taken["name"], taken["description"], taken["current"]), ("a/b", "notes", True), "snapshot")
        one.set(memory="16M")
        expect(one.set_snapshot("a/b", name="c")["name"], "c", "name")
        expect(one.show_snapshot(taken["uuid"])["config"]["system"]["memory"], 8 << 20, "memory then")
        expect(one.restore_snapshot("c")["config"]["system"]["memory"], 8 << 20, "memory")
        raises(ospite.NotFound, one.restore_snapshot, "a/b")
        expect([s["uuid"] for s in one.snapshots()], [taken["uuid"]], "snapshots")
        one.delete_snapshot("c")
        expect(one.snapshots(), [], "snapshots")


sys.exit(run((life, snapshots, imported, streams, media, unreachable, whole, types, example), sys.argv[1:]))
