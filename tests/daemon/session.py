#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines under the daemon, by the command line and the API, as TAP: their life, a daemon's and a process's sudden death, bad input.

The guests are SeaBIOS alone, and the bare-metal programs of tests/guests, which print on the console and leave by port 0xf4.
"""
import concurrent.futures
import contextlib
import json
import os
import pathlib
import re
import resource
import signal
import socket
import subprocess
import sys
import threading

from daemon import BUILD, DESCRIPTION, OSPITE, PATIENCE, Daemon, check, check_memory, expect, run, validate_event, wait_until

PROGRAM = BUILD / "tests" / "guests" / "paging64.elf"
SMALL = ("memory=8M", "engine=interp")


def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# ---- life ---------------------------------------------------------------------------------------

def life():
    """A machine is made, changed, started, paused, turned off and deleted; each state is shown."""
    with Daemon() as d:
        d.run("vm", "create", "one", *SMALL)
        expect(d.vm("one")["config"]["system"]["memory"], 8 << 20, "memory")
        d.run("vm", "set", "one", "memory=16M", "description=two\nlines")
        expect(json.loads(d.run("vm", "show", "one", "--json"))["vm"]["config"]["system"]["memory"], 16 << 20, "memory")
        d.run("vm", "start", "one")
        vm = d.vm("one")
        expect(vm["state"], "running", "state")
        check(alive(vm["pid"]), "there is no process")
        check("at the next start" in d.run("vm", "set", "one", "cpus=2"), "no word that the change comes later")
        check(d.vm("one")["restart_needed"], "no restart is needed")
        d.run("vm", "pause", "one")
        expect(d.vm("one")["state"], "paused", "state")
        check("paused" in d.run("vm", "list", "--running"), "list --running does not show it")
        d.run("vm", "stop", "one", status=4)
        d.run("vm", "resume", "one")
        d.run("vm", "reset", "one")
        d.run("vm", "start", "one", status=4)
        d.run("vm", "delete", "one", status=4)
        d.run("vm", "set", "one", "memory=24M")
        expect(json.loads(d.run("vm", "list", "--json"))["vms"][0]["memory"], 16 << 20, "memory of a running machine")
        check("poweroff" in d.run("vm", "stop", "one", "--timeout", "0", status=5), "no word of what helps")
        d.run("vm", "poweroff", "one")
        end = d.vm("one")["last_end"]
        expect(end["reason"], "plug", "reason")
        expect(json.loads(d.run("vm", "list", "--json"))["vms"][0]["memory"], 24 << 20, "memory of one that is off")
        check("start it" not in d.run("vm", "stop", "one", status=4), "a machine that is off must be started to be stopped")
        wait_until(lambda: not alive(vm["pid"]), "the process's end")
        d.run("vm", "poweroff", "one", status=4)
        d.run("vm", "delete", "one", "--disks")
        d.run("vm", "show", "one", status=3)
        expect(list((d.path / "data/ospite/machines").iterdir()), [], "what is left")
        expect(list((d.path / "run/ospite/vms").iterdir()), [], "what is left in the runtime folder")


def shown():
    """vm show tells settings in the table's order and in the words that vm set takes, for every machine the same."""
    with Daemon() as d:
        d.run("vm", "create", "one", "memory=24M", "boot=cdrom,disk", "storage.ide0.0.type=cdrom", "description=two\nlines")
        lines = [line for line in d.run("vm", "show", "one").splitlines() if re.match(r"[a-z0-9-]+(\.[A-Za-z0-9-]+)+=", line)]
        for line in ("system.memory=24M", "system.boot=cdrom,disk", "display.vram=16M"):
            check(line in lines, f"no {line} in {lines}")
        sections = list(dict.fromkeys(line.split(".")[0] for line in lines))
        expect(sections, [name for name in ("general", "system", "kernel", "storage", "network", "serial", "display", "input", "audio", "usb", "guest",
                                            "autostart", "limits", "debug") if name in sections], "order of the sections")
        d.run("vm", "create", "two")
        uuid = {line for line in lines if line.startswith("general.")}
        d.run("vm", "set", "two", *[line for line in lines if line not in uuid])
        again = d.run("vm", "show", "two").splitlines()
        expect([line for line in lines if line not in uuid and line not in again], [], "what another machine does not take")


def console():
    """The console shows what was written before it was opened, and how the guest left."""
    with Daemon() as d:
        d.run("vm", "create", "guest", "memory=64M", "engine=interp", f"kernel.file={PROGRAM}", "debug.exit-port=0xf4")
        events = d.websocket("/events")
        validate_event(json.loads(events.receive()))
        d.run("vm", "start", "guest")
        d.run("vm", "wait", "guest")
        end = d.vm("guest")["last_end"]
        expect(end["reason"], "exit", "reason")
        states = []
        while "off" not in states:
            event = json.loads(events.receive())
            validate_event(event)
            states.append(event.get("state"))
        expect([s for s in states if s], ["starting", "running", "off"], "states")
        d.run("vm", "set", "guest", "debug.exit-port=0")
        d.run("vm", "start", "guest")
        wait_until(lambda: d.vm("guest")["state"] == "running", "the machine")
        terminal = d.websocket("/vms/guest/console")
        terminal.expect(rb"ok 1 .*1\.\.\d+", 10)
        d.run("vm", "poweroff", "guest")


def screen():
    """The screen and the keyboard are reached through the API."""
    with Daemon() as d:
        d.run("vm", "create", "bios", *SMALL)
        d.run("vm", "screen", "bios", status=4)
        d.run("vm", "start", "bios")
        wait_until(lambda: "SeaBIOS" in d.run("vm", "screen", "bios"), "the firmware's greeting")
        d.run("vm", "type", "bios", "a\\n")


def debugged():
    """gdb looks into a machine given by its name, and lets it go on."""
    with Daemon() as d:
        d.run("vm", "create", "bios", "system.cpus=2", *SMALL)
        check("only a machine that runs" in d.run("debug", "bios", "--listen", f"unix:{d.path}/gdb", status=4), "a machine that is off")
        d.run("debug", "nobody", "--listen", f"unix:{d.path}/gdb", status=3)
        d.run("vm", "start", "bios")
        words = ["gdb", "-nx", "-batch", "-ex", f"target remote | {OSPITE} debug bios", "-ex", "info threads", "-ex", "detach"]
        said = subprocess.run(words, env=d.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60 * PATIENCE,
                              check=True).stdout
        check("CPU 0" in said and "CPU 1" in said, f"gdb said {said!r}")
        wait_until(lambda: d.vm("bios")["state"] == "running", "the machine")
        wait_until(lambda: "SeaBIOS" in d.run("vm", "screen", "bios"), "the firmware's greeting")


def counted():
    """What the engine of a running machine counts is shown by vm show, its JSON and doctor; a machine that is off has none."""
    with Daemon() as d:
        check("machine '" not in d.run("doctor"), "doctor knows of machines")
        check(not d.socket.exists(), "doctor has started a daemon")
        d.run("vm", "create", "guest", "memory=64M", "engine=jit", f"kernel.file={PROGRAM}")
        expect(json.loads(d.run("vm", "show", "guest", "--json"))["vm"]["stats"], None, "counters of a machine that is off")
        d.run("vm", "start", "guest")
        d.websocket("/vms/guest/console").expect(rb"1\.\.\d+", 20)
        stats = d.call("GET", "/vms/guest?stats=true")["vm"]["stats"]
        expect(stats["engine"], "jit", "engine")
        for name in ("blocks_translated", "linked_exits", "tlb_fills", "faults", "exits_halted"):
            check(name in stats["total"], f"{name} is not counted: {stats['total']}")
            expect(stats["total"][name], sum(cpu[name] for cpu in stats["cpus"]), name)
        check(stats["total"]["blocks_translated"] > 0 and stats["linked_ratio"] > 0, f"counters {stats}")
        shown = d.run("vm", "show", "guest")
        check(re.search(r"^stats\.engine=jit$", shown, re.M) and re.search(r"^stats\.total\.tlb_fills=[1-9]\d*$", shown, re.M), shown)
        check("machine 'guest': jit; " in d.run("doctor") and "were changed 0 times" in d.run("doctor"), "doctor")
        d.run("vm", "set", "guest", "engine=interp")
        expect(d.call("GET", "/vms/guest?stats=true")["vm"]["stats"]["total"]["hand_overs"], 1, "hand-overs")
        check("machine 'guest': interp; " in (said := d.run("doctor")) and "were changed 1 times" in said, said)
        check("stats" not in d.vm("guest"), "counters that nobody asked for")
        d.call("GET", "/vms/guest?stats=maybe", status=400)
        d.run("vm", "poweroff", "guest")


def names():
    """Emoji and spaces are names; slashes, newlines and dots are refused."""
    with Daemon() as d:
        for name in ("caffè ☕", "a b", "100%", "x?y#z"):
            d.run("vm", "create", name, *SMALL)
            expect(d.vm(name)["name"], name, "name")
            d.run("vm", "start", name)
            d.run("vm", "poweroff", name)
            d.run("vm", "delete", name)
        for name in ("a/b", "a\nb", "..", ".hidden", "", "x" * 300, " a"):
            d.run("vm", "create", name, status=2)
        d.run("vm", "create", "one")
        d.run("vm", "create", "one", status=1)


def rename_and_move():
    """A machine's name, folder and file change together; a moved one starts."""
    with Daemon() as d:
        d.run("vm", "create", "old", *SMALL)
        uuid = d.vm("old")["uuid"]
        d.run("vm", "set", "old", "name=new")
        vm = d.vm(uuid)
        expect((vm["name"], pathlib.Path(vm["file"]).name, pathlib.Path(vm["folder"]).name), ("new", "new.ospite", "new"), "names")
        check(pathlib.Path(vm["file"]).exists(), "the file is missing")
        d.run("vm", "move", "new", d.path / "elsewhere")
        expect(d.vm("new")["folder"], str(d.path / "elsewhere" / "new"), "folder")
        d.run("vm", "start", "new")
        d.run("vm", "set", "new", "name=newer", status=4)
        d.run("vm", "move", "new", d.path, status=4)
        d.run("vm", "poweroff", "new")
        d.run("vm", "delete", "new", "--unregister")
        d.run("vm", "list")
        d.run("vm", "register", d.path / "elsewhere/new/new.ospite")
        expect(d.vm("new")["uuid"], uuid, "UUID")


def edit():
    """vm edit replaces the file by what the editor leaves; a bad one changes nothing."""
    with Daemon() as d:
        d.run("vm", "create", "one", *SMALL)
        d.environment["EDITOR"] = "sed -i s/8M/32M/"
        d.run("vm", "edit", "one")
        expect(d.vm("one")["config"]["system"]["memory"], 32 << 20, "memory")
        d.environment["EDITOR"] = "truncate -s 50"
        d.run("vm", "edit", "one", status=1)
        expect(d.vm("one")["config"]["system"]["memory"], 32 << 20, "memory")


class Impatient:
    """In a daemon's place: it promises to keep connections, answers one request on each, and closes it when the next one comes."""

    def __init__(self, path, answers):
        path.unlink(missing_ok=True)
        self.answers, self.bodies = answers, []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        with client, client.makefile("rb") as file, contextlib.suppress(ConnectionError):
            method, headers = file.readline().split(b" ")[0].decode(), list(iter(file.readline, b"\r\n"))
            if headers:
                length = next((int(header.split(b":")[1]) for header in headers if header.lower().startswith(b"content-length:")), 0)
                self.bodies.append((method, file.read(length)))
                answer = self.answers[method]
                client.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {len(answer)}\r\n\r\n{answer}".encode())
                file.read(1)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def edit_far_away():
    """A proxy that closes connections which it promised to keep gets what was edited whole, and once."""
    with Daemon() as d:
        d.run("vm", "create", "one", *SMALL)
        d.kill()
        d.environment["EDITOR"] = "sed -i s/8M/32M/"
        with Impatient(d.socket, {"GET": "<ospite memory='8M'/>\n", "PUT": "{}"}) as peer:
            d.run("vm", "edit", "one")
        expect(peer.bodies, [("GET", b""), ("PUT", b"<ospite memory='32M'/>\n")], "requests")


def ended_connections():
    """An answer says that nothing more is read on its connection, which ends."""
    with Daemon() as d:
        d.run("vm", "list")
        for path in ("/v1/version", "/v1/none"):
            with d.connect() as client, client.makefile("rb") as file:
                client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                headers = list(iter(file.readline, b"\r\n"))
                check(b"Connection: close\r\n" in headers and file.read().endswith(b"}"), f"{path}: {headers}")


VBOX = """<VirtualBox xmlns="http://www.virtualbox.org/"><Machine uuid="{7d2e1f5c-3b0a-4c7e-9f00-1a2b3c4d5e6f}" name="Old box">
<MediaRegistry><HardDisks><HardDisk uuid="{11111111-2222-4333-8444-555555555555}" location="disk.vdi" format="VDI"/></HardDisks></MediaRegistry>
<Hardware><CPU count="2"/><Memory RAMSize="64"/><AudioAdapter driver="Pulse" enabled="true"/></Hardware>
<StorageControllers><StorageController name="IDE" type="PIIX4"><AttachedDevice type="HardDisk" port="0" device="0">
<Image uuid="{11111111-2222-4333-8444-555555555555}"/></AttachedDevice></StorageController></StorageControllers></Machine></VirtualBox>"""
LIBVIRT = """<domain type="kvm"><name>web</name><memory unit="MiB">32</memory><vcpu>1</vcpu><devices><graphics type="vnc"/></devices></domain>"""


def files_here():
    """A file of the current folder that is named as one of the machine's is told, with what to write; the setting is kept."""
    with Daemon() as d:
        d.run("vm", "create", "one", *SMALL)
        (d.path / "a b.raw").write_bytes(bytes(4096))

        def said(*words):
            result = subprocess.run([OSPITE, "vm", *words], cwd=d.path, env=d.environment, capture_output=True, text=True, check=True)
            return result.stderr

        note = said("set", "one", "storage.ide0.0.type=disk", "storage.ide0.0.medium=a b.raw")
        check("storage.ide0.0.medium=$PWD/a b.raw" in note and note.count("\n") == 1, f"note: {note!r}")
        check("kernel.file=$PWD/a b.raw" in said("create", "two", *SMALL, "kernel.file=a b.raw"), "no note at create")
        expect(said("set", "one", f"storage.ide0.0.medium={d.path}/a b.raw", "kernel.file=none", "description=a b.raw"), "", "notes")
        (pathlib.Path(d.vm("one")["folder"]) / "a b.raw").write_bytes(bytes(4096))
        expect(said("set", "one", "storage.ide0.0.medium=a b.raw"), "", "note of a file that is there")


def imported():
    """VirtualBox's and libvirt's machines become ours, with a report of what is lost; bad files and names change nothing."""
    with Daemon() as d:
        box, web, bad = d.path / "old.vbox", d.path / "web.xml", d.path / "bad.xml"
        box.write_text(VBOX)
        web.write_text(LIBVIRT)
        bad.write_text("<machine/>")
        answer = json.loads(d.run("vm", "import", box, "--json"))
        check(any("audio.adapter" in line for line in answer["report"]), f"report: {answer['report']}")
        config = d.vm("Old box")["config"]
        expect((config["system"]["memory"], config["system"]["cpus"]), (64 << 20, 2), "memory and CPUs")
        expect(config["storage"]["ide0"]["0"]["medium"], str(d.path / "disk.vdi"), "disk")
        d.run("vm", "import", box, status=1)
        d.run("vm", "import", box, "--name", "Second", "--folder", d.path / "own")
        expect(d.vm("Second")["folder"], str(d.path / "own" / "Second"), "folder")
        report = d.call("POST", "/vms", {"import": str(web), "settings": {"memory": "8M", "engine": "interp"}}, 201)["report"]
        check(any("graphics" in line for line in report), f"report: {report}")
        expect(d.vm("web")["config"]["system"]["memory"], 8 << 20, "a setting beside the import")
        d.run("vm", "start", "web")
        d.run("vm", "poweroff", "web")
        d.run("vm", "import", bad, status=1)
        d.run("vm", "import", d.path / "none", status=3)
        d.run("vm", "import", web, "--name", "a/b", status=2)
        for body in ({"import": "relative.xml"}, {"import": 1}, {"import": str(web), "register": str(web)}, {"name": 1, "folder": 2}):
            d.call("POST", "/vms", body, 400)
        expect([vm["name"] for vm in d.call("GET", "/vms")["vms"]], ["Old box", "Second", "web"], "machines")


# ---- sudden ends --------------------------------------------------------------------------------

def daemon_killed():
    """kill -9 of the daemon: its machine goes on, the next daemon adopts it and turns it off."""
    with Daemon() as d:
        d.run("vm", "create", "one", *SMALL)
        d.run("vm", "create", "two", *SMALL)
        d.run("vm", "start", "one")
        d.run("vm", "start", "two")
        d.run("vm", "pause", "two")
        pid = d.vm("one")["pid"]
        d.pids |= {pid, d.vm("two")["pid"]}
        d.kill()
        check(alive(pid), "the machine died with its daemon")
        check("one" in d.run("vm", "list", "--running"), "the next daemon does not know the machine")
        d.run("vm", "wait", "one", "--for", "running")
        d.run("vm", "wait", "two", "--for", "paused")
        expect(d.vm("one")["pid"], pid, "pid")
        check(not d.vm("one")["restart_needed"], "a restart is needed")
        d.run("vm", "poweroff", "one")
        check(not alive(pid), "it runs on")
        expect(d.vm("one")["last_end"]["reason"], "plug", "reason")
        d.run("vm", "poweroff", "two")


def ended_without_daemon():
    """What happened to machines while there was no daemon is told by the next."""
    with Daemon() as d:
        for name in ("off", "killed"):
            d.run("vm", "create", name, *SMALL)
            d.run("vm", "start", name)
        pids = {name: d.vm(name)["pid"] for name in ("off", "killed")}
        d.kill()
        os.kill(pids["off"], signal.SIGTERM)
        os.kill(pids["killed"], signal.SIGKILL)
        for pid in pids.values():
            wait_until(lambda p=pid: not alive(p), "the process's end")
        d.run("vm", "list")
        expect((d.vm("off")["state"], d.vm("off")["last_end"]["reason"]), ("off", "plug"), "the one that was asked to end")
        expect((d.vm("killed")["state"], d.vm("killed")["last_end"]["reason"]), ("crashed", "crash"), "the one that was killed")


def process_killed():
    """A machine's crash is reported with its reason; it starts again, so its locks are free."""
    with Daemon() as d:
        disk = d.path / "disk.raw"
        disk.write_bytes(bytes(1 << 20))
        d.run("vm", "create", "one", *SMALL, "storage.ide0.0.type=disk", f"storage.ide0.0.medium={disk}", "storage.ide0.0.format=raw")
        d.run("vm", "create", "two", *SMALL, "storage.ide0.0.type=disk", f"storage.ide0.0.medium={disk}", "storage.ide0.0.format=raw")
        d.run("vm", "start", "one")
        check("in use" in d.run("vm", "start", "two", status=1), "two machines write to one disk")
        expect(d.vm("two")["state"], "crashed", "state")
        os.kill(d.vm("one")["pid"], signal.SIGABRT)
        d.run("vm", "wait", "one", "--for", "crashed")
        end = d.vm("one")["last_end"]
        expect(end["reason"], "crash", "reason")
        check("signal 6" in end["message"], f"message: {end['message']}")
        d.run("vm", "start", "two")


def sandboxed():
    """A machine's process has a system call filter and no way to new privileges."""
    with Daemon() as d:
        d.run("vm", "create", "one", *SMALL)
        d.run("vm", "start", "one")
        status = pathlib.Path(f"/proc/{d.vm('one')['pid']}/status").read_text()
        expect(re.search(r"^Seccomp:\s*(\d)", status, re.M)[1], "2", "seccomp")
        expect(re.search(r"^NoNewPrivs:\s*(\d)", status, re.M)[1], "1", "no new privileges")
        for task in pathlib.Path(f"/proc/{d.vm('one')['pid']}/task").iterdir():
            expect(re.search(r"^Seccomp:\s*(\d)", (task / "status").read_text(), re.M)[1], "2", f"seccomp of thread {task.name}")


def many_at_once():
    """Twelve commands at once, none of which finds a daemon, start exactly one."""
    with Daemon() as d:
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            list(pool.map(lambda n: d.run("vm", "create", f"vm{n}", *SMALL), range(12)))
        expect(len(d.call("GET", "/vms")["vms"]), 12, "machines")
        result = subprocess.run([BUILD / "ospited"], env=d.environment, capture_output=True, text=True, timeout=20 * PATIENCE, check=False)
        check("another" in result.stderr, f"a second daemon: {result.stderr}")
        other = {**d.environment, "XDG_RUNTIME_DIR": str(d.path / "run2")}
        (d.path / "run2").mkdir(mode=0o700)
        result = subprocess.run([BUILD / "ospited"], env=other, capture_output=True, text=True, timeout=20 * PATIENCE, check=False)
        expect(result.returncode, 1, "status of a daemon with another runtime folder")
        check("another" in result.stderr, f"a daemon with another runtime folder: {result.stderr}")


def leaves():
    """A daemon that nobody needs leaves, and takes its socket with it; one with a machine stays."""
    with Daemon() as d:
        process = subprocess.Popen([BUILD / "ospited", "--idle", "1"], env=d.environment)
        wait_until(d.socket.exists, "the socket")
        expect(process.wait(20 * PATIENCE), 0, "status")
        check(not d.socket.exists(), "the socket is still there")
        d.run("vm", "list")


def ended_while_asked():
    """A daemon that is told to end while somebody waits for a machine ends without a complaint, and the client is told at once."""
    with Daemon() as d:
        with subprocess.Popen([BUILD / "ospited"], env=d.environment, stderr=subprocess.PIPE, text=True) as process:
            wait_until(d.socket.exists, "the socket")
            d.run("vm", "create", "one", *SMALL)
            with d.connect() as client:
                client.sendall(b"GET /v1/vms/one/wait?for=running&timeout=1000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
                d.run("vm", "list")  # the other has been read by then
                process.send_signal(signal.SIGTERM)
                expect((process.wait(20 * PATIENCE), process.stderr.read()), (0, ""), "status and complaints")
                d.rest(client)


def fifty():
    """Fifty machines made, started, turned off and deleted leave no process, file, lock, descriptor or memory."""
    def memory_kib():
        return int(re.search(r"^RssAnon:\s*(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text(), re.M)[1])

    def locks():
        return [line for line in pathlib.Path("/proc/locks").read_text().splitlines() if f" {pid} " in line]

    with Daemon() as d:
        d.run("vm", "list")
        pid = d.pid()
        before, held = len(os.listdir(f"/proc/{pid}/fd")), locks()
        for batch in range(10):
            if batch == 2:
                warm = memory_kib()  # what libraries keep for ever is there by now
            ids = [f"vm{batch}-{n}" for n in range(5)]
            for name in ids:
                d.call("POST", "/vms", {"name": name, "settings": {"memory": "4M", "engine": "interp"}})
                d.call("POST", f"/vms/{name}/start")
            pids = [d.vm(name)["pid"] for name in ids]
            for name in ids:
                d.call("POST", f"/vms/{name}/poweroff")
                d.call("DELETE", f"/vms/{name}?mode=all")
            check(not [p for p in pids if pathlib.Path(f"/proc/{p}").exists()], "processes are left")
        wait_until(lambda: len(os.listdir(f"/proc/{pid}/fd")) <= before, "the descriptors' end")
        grown = memory_kib() - warm
        expect(len(locks()), len(held), "locks")
        expect(d.call("GET", "/vms")["vms"], [], "machines")
        expect(list((d.path / "run/ospite/vms").iterdir()) + list((d.path / "data/ospite/machines").iterdir()), [], "files")
        check_memory(grown, 1024)


# ---- bad input ----------------------------------------------------------------------------------

def bad_requests():
    """Bad JSON, paths, methods and values are errors of the description; the daemon goes on."""
    with Daemon() as d:
        d.run("vm", "create", "one", *SMALL)
        for body in (b"{", b"[]", b"nonsense", b"\xff\xfe", b'{"settings":1}', b'{"settings":{"memory":[]}}', b'{"settings":{"memory":"99T"}}',
                     b'{"settings":{"no.such":"1"}}', b'{"settings":{"uuid":"00000000-0000-4000-8000-000000000000"}}',
                     b"[" * 900000, b'{"settings":' * 80000):
            status, _ = d.http("PATCH", "/vms/one", body)
            expect(status, 400, f"status of {body[:40]!r}")
        for method, path, wanted in (("GET", "/nowhere", 404), ("PUT", "/vms", 405), ("GET", "/vms/none", 404), ("GET", "/vms/%ff%00", 404),
                                     ("DELETE", "/vms/one?mode=maybe", 400), ("GET", "/vms/one/wait?for=ever", 400),
                                     ("GET", "/vms/one/wait?timeout=-1", 400), ("GET", "/vms/one/log?lines=x", 400),
                                     ("POST", "/vms/one/reset", 409), ("GET", "/vms/one/console", 409), ("GET", "/events", 400),
                                     ("POST", "/vms", 400)):
            status, _ = d.http(method, path)
            expect(status, wanted, f"status of {method} {path}")
        for garbage in (b"\0" * 100, b"GET\r\n\r\n", b"\x16\x03\x01" + b"A" * 50, b"GET / HTTP/9.9\r\n\r\n"):
            d.raw(garbage + b"\r\n\r\n")
        expect(d.vm("one")["config"]["system"]["memory"], 8 << 20, "memory")


def described():
    """All that the description names is there."""
    with Daemon() as d:
        d.run("vm", "list")
        for path, item in DESCRIPTION["paths"].items():
            for method in item.keys() & {"get", "put", "post", "patch", "delete"}:
                status, text = d.http(method.upper(), re.sub(r"\{\w+\}", "none", path))
                check(status != 405 and b"no such path" not in text, f"{method} {path} is not served: {text}")


def huge_request():
    """A body of 1 GiB is refused before it is read; so is one in chunks without end."""
    with Daemon() as d:
        d.run("vm", "create", "one")
        pid = d.pid()
        head = b"PATCH /v1/vms/one HTTP/1.1\r\nHost: x\r\n"
        for start in (head + b"Content-Length: 1073741824\r\n\r\n", head + b"Transfer-Encoding: chunked\r\n\r\n"):
            with d.connect() as client:
                client.sendall(start)
                chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
                answer = []
                reader = threading.Thread(target=lambda c=client, a=answer: a.append(d.rest(c)))
                reader.start()
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    for _ in range(1000):
                        client.sendall(chunk)
                        if answer:
                            break
                client.shutdown(socket.SHUT_WR) if not answer else None
                reader.join()
                check(answer[0].startswith(b"HTTP/1.1 413 "), f"answer: {answer[0][:100]!r}")
        peak = int(re.search(r"VmHWM:\s*(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1])
        d.run("vm", "list")
        check_memory(peak, 100 * 1024)


def half_request():
    """A request that is half sent and left open is ended by the daemon; others are served meanwhile."""
    with Daemon() as d:
        d.run("vm", "create", "one")
        with d.connect() as slow, d.connect() as silent:
            slow.sendall(b"GET /v1/vms HT")
            d.run("vm", "list")
            expect(d.rest(slow), b"", "answer to half a request")
            expect(d.rest(silent), b"", "answer to nothing")


def gone_waiters():
    """Clients that wait for a machine and vanish are forgotten, long before what they wait for."""
    with Daemon() as d:
        d.run("vm", "create", "one")
        pid = d.pid()
        before = len(os.listdir(f"/proc/{pid}/fd"))
        waiters = [d.connect() for _ in range(20)]
        for client in waiters:
            client.sendall(b"GET /v1/vms/one/wait?for=running&timeout=86400 HTTP/1.1\r\nHost: x\r\n\r\n")
        d.run("vm", "list")  # comes behind them
        check(len(os.listdir(f"/proc/{pid}/fd")) >= before + 20, "nobody waits")
        for client in waiters:
            client.close()
        wait_until(lambda: len(os.listdir(f"/proc/{pid}/fd")) <= before, "the descriptors' end")


def crowd():
    """Ten thousand connections at once: those beyond the cap are told so; the daemon serves again when they have gone."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    crowd_size = min(10000, hard - 100)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, crowd_size + 100), hard))
    with Daemon() as d:
        d.run("vm", "create", "one")
        pid = d.pid()
        before = len(os.listdir(f"/proc/{pid}/fd"))
        with contextlib.ExitStack() as stack:
            refused = 0
            for _ in range(crowd_size):
                client = stack.enter_context(socket.socket(socket.AF_UNIX))
                client.connect(str(d.socket))  # blocks while the backlog is full
                client.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    refused += b" 503 " in client.recv(1000)
            wait_until(lambda: b" 503 " in d.raw(b""), "a refusal")
        wait_until(lambda: d.pid() is not None, "service")
        expect(d.pid(), pid, "pid")
        wait_until(lambda: len(os.listdir(f"/proc/{pid}/fd")) <= before, "the descriptors' end")
        d.run("vm", "list")
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def other_users():
    """Nobody else can reach the socket."""
    with Daemon() as d:
        d.run("vm", "list")
        expect(d.socket.parent.stat().st_mode & 0o777, 0o700, "mode of the folder")
        expect(d.socket.stat().st_mode & 0o777, 0o600, "mode of the socket")


def bad_files():
    """A machine's file that is truncated, newer, out of range or gone: it is inaccessible, says why, and comes back."""
    with Daemon() as d:
        d.run("vm", "create", "one", *SMALL)
        file = pathlib.Path(d.vm("one")["file"])
        good = file.read_text()
        bomb = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "' + "x" * 1000 + '"><!ENTITY c "' + "&b;" * 1000 + '">]><ospite>&c;</ospite>'
        for text in (good[:60], "", "not XML", bomb, good.replace('version="1"', 'version="99"'), good.replace('"8M"', '"99T"'), good.replace('"8M"', '"-1"')):
            file.write_text(text)
            vm = d.vm("one")
            expect(vm["state"], "inaccessible", f"state with {text[:30]!r}")
            check(vm["problem"], "no problem is told")
            d.run("vm", "start", "one", status=4)
        file.unlink()
        expect(d.vm("one")["state"], "inaccessible", "state without a file")
        file.write_text(good)
        expect(d.vm("one")["state"], "off", "state")
        d.kill()
        (d.path / "config/ospite/machines.json").write_text("{")
        check("machines.json" in d.run("vm", "list", status=1), "a broken list is not named")


# ---- the command line ---------------------------------------------------------------------------

def table():
    """Every command has help, a manual page and a place in the shells' completions."""
    with Daemon() as d:
        pages = d.run("manual").splitlines()
        check(len(pages) > 20, "commands are missing")
        shells = {shell: d.run("completion", shell) for shell in ("bash", "zsh", "fish")}
        for page in pages:
            check(d.run(*page.split(), "--help").startswith(f"Usage: ospite {page}"), f"help of {page}")
            mdoc = d.run("manual", *page.split())
            for option in re.findall(r"^  --([a-z-]+)", d.run(*page.split(), "--help"), re.M):
                check(option == "help" or f"It Fl Fl {option}" in mdoc, f"--{option} is not in the page of {page}")
            for shell, text in shells.items():
                check(page.split()[-1] in text, f"{page} is not in the completion of {shell}")
        for shell, text in shells.items():
            script = d.path / f"completion.{shell}"
            script.write_text(text)
            try:
                result = subprocess.run([shell, "-n", script], capture_output=True, text=True, timeout=10 * PATIENCE, check=False)
            except FileNotFoundError:
                continue
            expect(result.returncode, 0, f"{shell} -n: {result.stderr}")
        script = "source completion.bash; COMP_WORDS=(ospite vm st); COMP_CWORD=2; _ospite; echo ${COMPREPLY[@]}"
        expect(subprocess.run(["bash", "-c", script], cwd=d.path, capture_output=True, text=True, check=True).stdout.split(),
               ["start", "stop"], "completion of 'vm st'")


def usage():
    """Wrong command lines cost one line and status 2."""
    with Daemon() as d:
        for words in (("vm", "nonsense"), ("vm", "start"), ("vm", "start", "a", "b"), ("vm", "list", "--bogus"), ("vm", "set", "a", "b"),
                      ("vm", "wait", "a", "--for"), ("vm", "autostart", "a", "maybe"), ("completion", "tcsh"), ("manual", "nothing"),
                      ("--json", "run"), ("--json", "disk", "info", "x"), ("vm", "stop", "a", "--timeout", "x")):
            said = d.run(*words, status=2)
            check(said.startswith("ospite") and said.count("\n") == 1, f"{words}: {said!r}")
        d.run("vm", "create", "a")
        for word, part in (("shared.home=", "there is no shared.home\n"), ("shared.home=x", "below it there are path, "), ("nothing=", "there is no setting")):
            said = d.run("vm", "set", "a", word, status=2)
            check(part in said and said.count("\n") == 1, f"{word}: {said!r}")
        expect(d.run("--json", "vm", "list"), d.run("vm", "list", "--json"), "--json before the command")


sys.exit(run((life, shown, console, screen, debugged, counted, names, rename_and_move, edit, edit_far_away, ended_connections, files_here, imported, daemon_killed, ended_without_daemon,
              process_killed, sandboxed, many_at_once, leaves, ended_while_asked, fifty, bad_requests, described, huge_request, half_request,
              gone_waiters, crowd, other_users, bad_files, table, usage), sys.argv[1:]))
