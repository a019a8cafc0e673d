#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""kill -9 of the daemon, of a machine's process or of both, at random instants of every verb, as TAP.

OSPITE_TEST_ROUNDS is how often each verb is tried (2), OSPITE_TEST_SEED what the instants are made of. After each kill the next daemon
must know every machine whole, own every folder, and take all verbs again; at a round's end all is deleted, and nothing may be left.
"""
import contextlib
import hashlib
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time
import urllib.parse

from daemon import BUILD, Daemon, check, expect, run, wait_until

ROUNDS = int(os.environ.get("OSPITE_TEST_ROUNDS", "2"))
SEED = int(os.environ.get("OSPITE_TEST_SEED", str(random.randrange(1 << 30))))
CONTENTS = random.Random(1).randbytes(1 << 20)
CHANGED = CONTENTS[:64 << 10] + bytes([119]) * (256 << 10) + CONTENTS[320 << 10:]
LIBVIRT = "<domain type='kvm'><name>web</name><memory unit='MiB'>32</memory><vcpu>1</vcpu></domain>"
SETTINGS = {"memory": "8M", "engine": "interp", "storage.ide0.0.type": "disk", "storage.ide0.0.format": "raw", "storage.ide0.0.medium": "disk.raw"}


def medium_path(soak, rest=""):
    return "/media/" + urllib.parse.quote(str(soak.disk), safe="") + rest


# verb: (the state in which "one" must be, method, path, body); callables get the soak.
VERBS = {
    "vm create": ("off", "POST", "/vms", {"name": "two", "settings": {"memory": "8M"}}),
    "vm list": ("off", "GET", "/vms", None),
    "vm show": ("running", "GET", "/vms/one?stats=true", None),
    "vm set": ("off", "PATCH", "/vms/one", {"settings": {"memory": "16M", "description": "x" * 3000}}),
    "vm set live": ("running", "PATCH", "/vms/one", {"settings": {"storage.ide0.0.iops": "100"}}),
    "vm set name": ("off", "PATCH", "/vms/one", {"settings": {"name": "renamed"}}),
    "vm edit": ("off", "PUT", "/vms/one/config", lambda soak: soak.file.read_bytes().replace(b'"8M"', b'"16M"')),
    "vm start": ("off", "POST", "/vms/one/start", None),
    "vm stop": ("running", "POST", "/vms/one/stop", None),
    "vm poweroff": ("running", "POST", "/vms/one/poweroff", None),
    "vm reset": ("running", "POST", "/vms/one/reset", None),
    "vm pause": ("running", "POST", "/vms/one/pause", None),
    "vm resume": ("paused", "POST", "/vms/one/resume", None),
    "vm delete": ("off", "DELETE", "/vms/one", None),
    "vm delete --disks": ("off", "DELETE", "/vms/one?mode=all", None),
    "vm delete --unregister": ("off", "DELETE", "/vms/one?mode=unregister", None),
    "vm import": ("off", "POST", "/vms", lambda soak: {"import": str(soak.foreign)}),
    "vm register": ("unknown", "POST", "/vms", lambda soak: {"register": str(soak.file)}),
    "vm move": ("off", "POST", "/vms/one/move", lambda soak: {"folder": str(soak.daemon.path / "elsewhere")}),
    "vm clone": ("off", "POST", "/vms/one/clone", {"name": "two"}),
    "vm clone --linked": ("off", "POST", "/vms/one/clone", {"name": "two", "linked": True}),
    "snapshot take": ("off", "POST", "/vms/one/snapshots", {"name": "a", "description": "x" * 3000}),
    "snapshot take again": ("kept", "POST", "/vms/one/snapshots", {"name": "b"}),
    "snapshot list": ("kept", "GET", "/vms/one/snapshots", None),
    "snapshot set": ("kept", "PATCH", "/vms/one/snapshots/a", {"name": "b"}),
    "snapshot restore": ("kept", "POST", "/vms/one/snapshots/a/restore", None),
    "snapshot delete": ("kept", "DELETE", "/vms/one/snapshots/a", None),
    "vm clone with snapshots": ("kept", "POST", "/vms/one/clone", {"name": "two"}),
    "vm move with snapshots": ("kept", "POST", "/vms/one/move", lambda soak: {"folder": str(soak.daemon.path / "elsewhere")}),
    "vm delete --disks with snapshots": ("kept", "DELETE", "/vms/one?mode=all", None),
    "vm autostart": ("off", "POST", "/autostart", None),
    "vm wait": ("running", "GET", "/vms/one/wait?for=paused&timeout=1", None),
    "vm screen": ("running", "GET", "/vms/one/screen", None),
    "vm type": ("running", "POST", "/vms/one/keys", {"text": "hello"}),
    "vm log": ("running", "GET", "/vms/one/log", None),
    "media list": ("off", "GET", "/media", None),
    "media add": ("off", "POST", "/media", lambda soak: {"path": str(soak.spare), "format": "raw"}),
    "media set": ("off", "PATCH", medium_path, {"mode": "writethrough"}),
    "media refresh": ("off", "POST", lambda soak: medium_path(soak, "/refresh"), None),
    "media release": ("off", "POST", lambda soak: medium_path(soak, "/release"), None),
    "media move": ("off", "POST", lambda soak: medium_path(soak, "/move"), lambda soak: {"path": str(soak.daemon.path / "moved.raw")}),
}


class Soak:
    """One machine, "one", with a disk, made anew for each kill."""

    def __init__(self, daemon):
        self.daemon = daemon
        self.machines = daemon.path / "data/ospite/machines"
        self.foreign, self.spare = daemon.path / "web.xml", daemon.path / "spare.raw"
        self.foreign.write_text(LIBVIRT)
        self.spare.write_bytes(CONTENTS)
        self.took = {}

    def prepare(self, state):
        d = self.daemon
        d.run("vm", "list")  # which starts a daemon
        self.file = self.machines / "one" / "one.ospite"
        self.disk = self.machines / "one" / "disk.raw"
        d.call("POST", "/vms", {"name": "one", "settings": {**SETTINGS, "autostart.enabled": "on"}})
        self.disk.write_bytes(CONTENTS)
        d.call("POST", medium_path(self, "/refresh"))
        if state in ("running", "paused"):
            d.pids.add(d.call("POST", "/vms/one/start")["vm"]["pid"])
        if state == "paused":
            d.call("POST", "/vms/one/pause")
        self.shown = {CONTENTS}
        if state == "kept":
            self.keep()
        if state == "unknown":
            d.call("DELETE", "/vms/one?mode=unregister")

    def keep(self):
        """A snapshot, and a disk that has changed since."""
        d = self.daemon
        d.call("POST", "/vms/one/snapshots", {"name": "a"})
        layer = self.disk.parent / d.vm("one")["config"]["storage"]["ide0"]["0"]["medium"]
        subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 119 64k 256k", layer], check=True, capture_output=True)
        self.shown = {CHANGED}

    def request(self, verb):
        _, method, path, body = VERBS[verb]
        path, body = (value(self) if callable(value) else value for value in (path, body))
        kind = "application/xml" if isinstance(body, bytes) else "application/json"
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        return (f"{method} /v1{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n\r\n").encode() + data

    def victims(self, what):
        d = self.daemon
        pids = [d.pid()] if what != "machine" else []
        if what != "daemon":
            pids += [vm["pid"] for vm in d.quietly_all() if vm["pid"]]
        return pids

    def play(self, verb, what, share):
        """Sends a request, and kills after a share of the time that it usually takes; None: kills nobody. The seconds that it took."""
        victims = [] if share is None else self.victims(what)
        with self.daemon.connect() as client:
            start = time.monotonic()
            client.sendall(self.request(verb))
            if share is not None:
                time.sleep(self.took[verb] * share)
                for pid in victims:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            answer = self.daemon.rest(client)
            took = time.monotonic() - start
        if share is None:
            check(answer.split(b" ")[1] in (b"200", b"201", b"504"), f"{verb} without a kill: {answer.decode(errors='replace')}")
        return took

    # ---- what must be true afterwards -------------------------------------------------------------

    def look(self):
        d = self.daemon
        names = [vm["name"] for vm in json.loads(d.run("vm", "list", "--json"))["vms"]]
        check(set(names) <= {"one", "two", "renamed", "web"} and len(set(names)) == len(names), f"machines {names}")
        for name in names:
            wait_until(lambda n=name: d.vm(n)["state"] != "starting", f"{name} to have started")
            vm = d.vm(name)
            d.pids |= {vm["pid"]} - {None}
            wait_until(lambda n=name: not d.vm(n)["job"], f"the end of what is done to {name}")
            vm = d.vm(name)
            check(vm["state"] in ("off", "starting", "running", "paused", "crashed") and not vm["job"], f"{name} is {vm['state']}: {vm['problem']} {vm['job']}")
            # A rename takes three steps, and leaves a whole machine after each.
            check(pathlib.Path(vm["file"]).stem == name and pathlib.Path(vm["folder"]).name in (name, "one"), f"{name} is in {vm['file']}")
        left = [p for p in [*d.path.rglob(".ospite-*"), *d.path.rglob("*.journal")] if p.parent.name not in {"two", "web"} - set(names)]
        expect(left, [], "temporary files")
        for medium in d.call("GET", "/media")["media"]:
            path = pathlib.Path(medium["path"])
            expect(medium["accessible"], path.exists(), f"{path} is accessible")
        return names

    def contents(self, verb):
        """All images of the machine's bytes are what was written, and its disk shows what it should."""
        d, out = self.daemon, self.daemon.path / "shown"
        for vm in d.call("GET", "/vms")["vms"]:
            drive = d.vm(vm["uuid"])["config"].get("storage", {}).get("ide0", {}).get("0")
            if drive and vm["state"] == "off" and drive["mode"] == "normal":
                image = pathlib.Path(vm["folder"]) / drive["medium"]
                subprocess.run(["qemu-img", "convert", "-f", drive["format"], "-O", "raw", image, out], check=True, capture_output=True)
                shown = {CONTENTS, CHANGED} if verb == "snapshot restore" else self.shown
                check(out.read_bytes() in shown, f"{vm['name']} shows something else in {image}")
        for path in self.daemon.path.rglob("*.raw"):
            check(verb == "snapshot delete" or hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(CONTENTS).digest(), f"{path} was changed")

    def repeat(self, folder):
        """A folder that is nobody's is of a verb that was half done: what made it can be done again, or its machine registered."""
        d = self.daemon
        if files := list(folder.glob("*.ospite")):
            vm = d.call("POST", "/vms", {"register": str(files[0])})["vm"]
        elif not list(folder.glob("*.raw")):  # which a delete would keep, or had not reached
            vm = d.call("POST", "/vms", {"name": folder.name})["vm"]
        else:
            return
        d.call("DELETE", f"/vms/{vm['uuid']}?mode=all")

    def deleted(self, name):
        """Turns it off and deletes it; an autostart that was on its way may come in between."""
        if self.daemon.vm(name)["state"] not in ("off", "crashed"):
            self.daemon.http("POST", f"/vms/{name}/poweroff")
        status, text = self.daemon.http("DELETE", f"/vms/{name}?mode=all")
        check(status in (200, 409), f"{name}: {text}")
        return status == 200

    def clear(self, names):
        d = self.daemon
        for name in sorted(names, reverse=True):  # what builds on others first
            wait_until(lambda n=name: self.deleted(n), f"the end of {name}")
        for folder in [*self.machines.iterdir(), *(d.path / "elsewhere").glob("*")]:
            self.repeat(folder)
        while media := [m for m in d.call("GET", "/media")["media"] if not m["has_children"]]:
            for medium in media:
                d.call("DELETE", f"/media/{medium['uuid']}")
        expect(d.call("GET", "/media")["media"], [], "media")
        for path in [*self.machines.glob("*/*"), *(d.path / "elsewhere").glob("*/*"), d.path / "moved.raw"]:
            check(path.suffix == ".raw" or path.name.startswith("ospite.log") or path.suffix == ".ospite", f"{path} is left")
            path.unlink(missing_ok=True)  # disks that `vm delete` keeps or had not reached; what was called one
            with contextlib.suppress(OSError):
                path.parent.rmdir()
        expect(sorted(self.machines.rglob("*")), [], "what is left of the machines")
        wait_until(lambda: not list(d.path.glob("run/ospite/vms/*")), f"the end of {list(d.path.glob('run/ospite/vms/*/*'))}")
        wait_until(lambda: not processes(d), f"the processes' end: {processes(d)}")


def processes(d):
    """Machines' processes of this daemon's user."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.readlink(path / "exe") == str(BUILD / "ospite-vm") and str(d.path).encode() in (path / "environ").read_bytes() + (path / "cmdline").read_bytes():
                found.append(int(path.name))
    return found


def soak():
    """After kill -9 at any instant of any verb machines are whole, nothing is lost or left, and all verbs go on"""
    rand = random.Random(SEED)
    print(f"# OSPITE_TEST_SEED={SEED}")
    with Daemon() as d:
        house = Soak(d)
        for verb, (state, *_) in VERBS.items():
            house.prepare(state)
            house.took[verb] = house.play(verb, None, None)
            house.clear(house.look())
        for n in range(ROUNDS):
            for verb, (state, *_) in VERBS.items():
                what, share = rand.choice(("daemon", "daemon", "machine", "both")), rand.random() ** 2 * 1.3
                try:
                    house.prepare(state)
                    house.play(verb, what, share)
                    names = house.look()
                    house.contents(verb)
                    house.clear(names)
                except Exception:
                    print(f"# round {n}: {verb}, kill of {what} after {share:.2f} of {house.took[verb] * 1000:.1f} ms")
                    raise


sys.exit(run((soak,), sys.argv[1:]))
