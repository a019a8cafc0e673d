#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad input, as TAP: names, files, disks and connections, by the API, ospite and vboxmanage: each a clear error at the right place.

After each test nothing is lost, the daemon is the same process, and it has taken little memory (see Watched). What session.py tries
already is not tried again here.
"""
import contextlib
import json
import os
import pathlib
import re
import resource
import select
import socket
import subprocess
import sys
import threading
import time

from daemon import BUILD, OSPITE, PATIENCE, Daemon, check, expect, run, sanitizers, wait_until

SMALL = ("memory=8M", "engine=interp")
PEAK_KIB = (100 if sanitizers() == "none" else 1024) * 1024  # AddressSanitizer keeps what was freed
HEAD = b"GET /v1/vms HTTP/1.1\r\nHost: x\r\n"


class Watched(Daemon):
    """A daemon that must be the same process at the end, with all descriptors closed, and never have been big."""

    def __enter__(self):
        self.run("vm", "list")
        self.first = self.pid()
        self.before = self.descriptors()
        return self

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.first}/fd"))

    def peak(self):
        return int(re.search(r"VmHWM:\s*(\d+)", pathlib.Path(f"/proc/{self.first}/status").read_text())[1])

    def __exit__(self, kind, value, trace):
        try:
            if not value:
                self.run("vm", "list")
                expect(self.pid(), self.first, "the daemon is another one: pid")
                check(self.peak() < PEAK_KIB, f"the daemon took {self.peak()} KiB")
                wait_until(lambda: self.descriptors() <= self.before + sum(1 for vm in self.quietly_all() if vm["pid"]) * 3, "the descriptors' end")
        finally:
            super().__exit__(kind, value, trace)

    def front_end(self, program, *words):
        """(status, what was said) of any program."""
        result = subprocess.run([program, *words], env=self.environment, capture_output=True, stdin=subprocess.DEVNULL,
                                timeout=60 * PATIENCE, check=False)
        return result.returncode, (result.stderr or result.stdout).decode()

    def vbox(self, *words, status=1):
        got, said = self.front_end(BUILD / "vboxmanage", *map(str, words))
        expect(got, status, f"status of vboxmanage {words}: {said}")
        return said

    def disk(self, name, size="1M", kind="raw"):
        path = self.path / name
        subprocess.run([OSPITE, "disk", "create", "-f", kind, path, size], check=True, capture_output=True)
        return path

    def with_disk(self, name, disk, *more):
        self.run("vm", "create", name, *SMALL, "storage.ide0.0.type=disk", f"storage.ide0.0.medium={disk}", "storage.ide0.0.format=raw", *more)


# ---- names --------------------------------------------------------------------------------------

BAD_NAMES = ("a/b", "/", "..", ".", ".hidden", "-dash", "--help", "-", "", " a", "a ", "a\nb", "a\r", "\t", "\x01", "\x7f", "a\u0085b", "a\u2028b",
             "a\u202eb", "\ufeffa", "\u200b", "\u00a0", "a\u3000", "x" * 201, "é" * 101, "x" * 100000, "00000000-0000-4000-8000-000000000000")
GOOD_NAMES = ("x" * 200, "é" * 100, "☕" * 50, "👩‍👩‍👧", "caffè", "%2e%2e", "100%", "a;b", "$(id)", "'\"`", "a\\b", "con", "x?y#z&z=1+1", "machine", "Machine",
              "MACHINE", "Straße", "STRASSE")


def refused(d, said, name, where):
    check("cannot be called" in said and "choose another name" in said or "general.name cannot be" in said, f"{where}: {name!r}: {said!r}")
    check(not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e]", said.rstrip("\n")) or "\u202e" in name, f"{where}: a raw character in {said!r}")
    check(len(said) < 400, f"{where}: an error of {len(said)} characters")


def bad_names():
    """What is no name is refused, by whatever way it comes: made, renamed, cloned, imported, registered; nothing is made."""
    with Watched() as d:
        d.run("vm", "create", "one", *SMALL)
        box = d.path / "web.xml"
        box.write_text("<domain type='kvm'><name>web</name><memory unit='MiB'>32</memory><vcpu>1</vcpu></domain>")
        for name in BAD_NAMES:
            refused(d, d.run("vm", "create", "--", name, status=2), name, "create")
            refused(d, d.run("vm", "set", "one", f"name={name}", status=2), name, "set") if name else None
            refused(d, d.vbox("createvm", "--name", name, "--register"), name, "createvm")
            refused(d, d.vbox("modifyvm", "one", "--name", name), name, "modifyvm") if name else None
            for method, path, body in (("POST", "/vms", {"name": name}), ("POST", "/vms", {"import": str(box), "name": name}),
                                       ("POST", "/vms/one/clone", {"name": name}), ("PATCH", "/vms/one", {"settings": {"name": name}})):
                if body == {"settings": {"name": ""}}:
                    continue  # the default
                if "import" in body and not name:
                    continue
                said = d.call(method, path, body, 400)["error"]
                refused(d, f"{said['message']}; {said['hint']}", name, f"{method} {path}")
        for argument in (b"\xff\xfe", b"caff\xe8"):
            for words in (("vm", "create", argument), ("vm", "start", argument), ("vm", "set", "one", b"description=" + argument)):
                status, said = d.front_end(OSPITE, *words)
                check(status == 2 and "UTF-8" in said and "request" not in said, f"{words}: {status}: {said!r}")
            status, said = d.front_end(BUILD / "vboxmanage", "createvm", "--name", argument, "--register")
            check(status != 0 and "UTF-8" in said and "request" not in said, f"createvm: {status}: {said!r}")
        for place in ("a\nb", "a\x01"):  # which no file of ours could name, so that nothing there could be deleted
            said = d.run("vm", "create", "two", "--folder", f"{d.path}/{place}", status=2)
            check("control characters" in said and said.count("\n") == 1, f"create --folder: {said!r}")
        d.call("POST", "/vms", b'{"name":"a\\u0000b"}', 400)
        d.call("PATCH", "/vms/one", b'{"settings":{"description":"a\\u0000b"}}', 400)
        d.call("POST", "/vms", b'{"name":"\\ud800"}', 400)
        expect([vm["name"] for vm in d.call("GET", "/vms")["vms"]], ["one"], "machines")
        expect([p.name for p in (d.path / "data/ospite/machines").iterdir()], ["one"], "folders")


def bad_homes():
    """In folders whose names no file of ours could hold nothing is made, whatever variable says so."""
    for variable in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"):
        for name in ("a\nb", "a\x01b"):
            with Daemon() as d:
                home = d.path / name
                home.mkdir(mode=0o700)
                d.environment[variable], usual = str(home), d.environment.get(variable)
                said = d.run("vm", "create", "one", status=1)
                check("control characters" in said and variable in said and said.count("\n") == 1, f"{variable}: {said!r}")
                expect([p for p in home.rglob("*") if not p.is_dir()], [], "what was made")
                d.environment[variable] = usual
                d.run("vm", "create", "one", *SMALL)


def good_names():
    """Odd names are names everywhere; those that differ only in case are different machines."""
    with Watched() as d:
        for name in GOOD_NAMES:
            d.run("vm", "create", name, *SMALL)
        expect(sorted(vm["name"] for vm in json.loads(d.run("vm", "list", "--json"))["vms"]), sorted(GOOD_NAMES), "machines")
        for name in GOOD_NAMES:
            check("already" in d.run("vm", "create", name, status=1), f"{name} twice")
            d.run("vm", "set", name, "description=x")
            d.run("vm", "start", name)
            expect({vm["name"] for vm in d.call("GET", "/vms")["vms"] if vm["state"] != "off"}, {name}, "what runs")
            d.vbox("controlvm", name, "poweroff", status=0)
            check(f'name="{name}"' in d.vbox("showvminfo", name, "--machinereadable", status=0) or '"' in name or "\\" in name, f"showvminfo {name}")
            d.call("DELETE", "/vms/" + "".join(f"%{b:02x}" for b in name.encode()) + "?mode=all")
        expect(list((d.path / "data/ospite/machines").iterdir()), [], "folders")


# ---- files --------------------------------------------------------------------------------------

def bad_texts(good, secret):
    """(what it is, bytes, a word of the error)."""
    bomb = "".join(f'<!ENTITY e{n} "{"&e%d;" % (n - 1) * 10}">' for n in range(1, 12))
    yield "truncated", good[:len(good) // 2].encode(), ""
    yield "empty", b"", ""
    yield "no XML", b"\x7fELF\0\0\0", ""
    yield "JSON", b'{"vm":{}}', ""
    yield "of a newer version", good.replace('version="1"', 'version="99"').encode(), "newer"
    yield "with an entity bomb", f'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY e0 "x">{bomb}]>{good[good.index("<ospite"):].replace("8M", "&e11;")}'.encode(), "not allowed"
    yield "with an external entity", (f'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY e SYSTEM "file://{secret}">]>'
                                      f'{good[good.index("<ospite"):].replace("8M", "&e;")}').encode(), "not allowed"
    yield "with an external DTD", f'<?xml version="1.0"?><!DOCTYPE a SYSTEM "file://{secret}">{good[good.index("<ospite"):]}'.encode(), "not allowed"
    yield "no UTF-8", good.replace("8M", "8M\xe8").encode("latin-1"), "UTF-8"
    yield "out of range", good.replace('"8M"', '"99999999T"').encode(), "memory"
    yield "negative", good.replace('"8M"', '"-1"').encode(), "memory"
    yield "no number", good.replace('"8M"', '"much"').encode(), "memory"
    yield "nested deep", ("<ospite version='1'>" + "<a>" * 100000).encode(), ""
    yield "huge", good.encode() + b" " * (9 << 20), ""


def bad_configurations():
    """A bad file is refused by register, edit, PUT and registervm, and names what is wrong; the machine stays as it was."""
    with Watched() as d:
        secret = d.path / "secret"
        secret.write_text("topsecret")
        d.run("vm", "create", "one", *SMALL, "description=kept")
        file = pathlib.Path(d.vm("one")["file"])
        good = file.read_text()
        stranger = d.path / "stranger.ospite"
        for what, text, word in bad_texts(good, secret):
            stranger.write_bytes(text)
            d.environment["EDITOR"] = f"cp {stranger}"
            told = {"register": d.run("vm", "register", stranger, status=1), "registervm": d.vbox("registervm", stranger)}
            if len(text) < 8 << 20:
                told["edit"] = d.run("vm", "edit", "one", status=1)
                status, answer = d.http("PUT", "/vms/one/config", text, "application/xml")
                expect(status, 501 if word == "newer" else 422, f"status of PUT of a file {what}")
                told["PUT"] = "; ".join(json.loads(answer)["error"][word] for word in ("message", "hint"))
            for where, said in told.items():
                check(word in said, f"{where} of a file {what}: {word!r} is not in {said!r}")
                check("topsecret" not in said and len(said) < 500 and said.strip().count("\n") == 0, f"{where} of a file {what}: {said!r}")
                check("stranger" in said or where in ("edit", "PUT"), f"{where} of a file {what}: the file is not named: {said!r}")
            expect(file.read_text(), good, f"the file after one {what}")
            file.write_bytes(text)
            vm = d.vm("one")
            expect(vm["state"], "inaccessible", f"state with a file {what}")
            check(word in vm["problem"] and file.name in vm["problem"] and "topsecret" not in vm["problem"], f"problem with a file {what}: {vm['problem']!r}")
            check(vm["problem"] in d.run("vm", "list"), "vm list does not tell the problem")
            d.run("vm", "start", "one", status=4)
            d.run("vm", "set", "one", "memory=16M", status=4)
            expect(file.read_bytes(), text, f"the bad file {what}")
            file.write_text(good)
        expect((d.vm("one")["state"], d.vm("one")["config"]["general"]["description"]), ("off", "kept"), "state and description")


def bad_imports():
    """Bad .vbox and libvirt files are refused with their names; entities are not followed; nothing is made."""
    with Watched() as d:
        secret, file = d.path / "secret", d.path / "bad.xml"
        secret.write_text("topsecret")
        vbox = '<VirtualBox xmlns="http://www.virtualbox.org/"><Machine uuid="{7d2e1f5c-3b0a-4c7e-9f00-1a2b3c4d5e6f}" name="N"><Hardware/></Machine></VirtualBox>'
        domain = "<domain type='kvm'><name>N</name><memory unit='MiB'>32</memory><vcpu>1</vcpu></domain>"
        for good in (vbox, domain):
            entity = f'<!DOCTYPE a [<!ENTITY e SYSTEM "file://{secret}">]>' + good.replace(">N<", ">&e;<").replace('"N"', '"&e;"')
            for text in (good[:40], "", entity, good.replace("N<", "\xe8<").replace('"N"', '"\xe8"'),
                         "<x>" * 100000, good + "<more/>"):
                file.write_bytes(text.encode("latin-1"))
                said = d.run("vm", "import", file, status=1)
                check(said.count("\n") == 1 and "topsecret" not in said and len(said) < 500, f"import of {text[:80]!r}: {said!r}")
            file.write_text(good.replace("N<", "a/b<").replace('"N"', '"a/b"'))
            answer = json.loads(d.run("vm", "import", file, "--json"))
            check(answer["vm"]["name"] == "a-b" and any("a-b" in line for line in answer["report"]), f"a name that is none here: {answer}")
            d.run("vm", "delete", "a-b")
        for number in ("99999999999999999999", "-1", "1e9", "x", ""):
            file.write_text(domain.replace("32", number))
            status, said = d.front_end(OSPITE, "vm", "import", str(file))
            check(status in (0, 2) and "emory" in said, f"memory {number!r}: {said!r}")
            if status == 0:
                d.run("vm", "delete", "N")
        expect(d.call("GET", "/vms")["vms"], [], "machines")


def bad_lists():
    """The daemon's own files, damaged: it says which and does not begin; nothing is overwritten, and mended it has all machines."""
    with Watched() as d:
        d.run("vm", "create", "one", *SMALL)
        d.run("media", "add", fill_disk(d), "--format", "raw")
        for name, words in (("machines.json", ("vm", "list")), ("media.xml", ("media", "list"))):
            file = d.path / "config/ospite" / name
            good = file.read_bytes()
            for text in (b"", b"{", good[:-10], b"\xff" * 100, b"[" * 100000, b'/*"*/' + b"[" * 100000, b"<a>" * 100000, b'{"vms":7}', b"<media version='99'/>",
                         good.replace(b'"version" : 1', b'"version" : 99').replace(b'version="1"', b'version="99"')):
                if d.pid():
                    d.kill()
                file.write_bytes(text)
                status, said = d.front_end(OSPITE, *words)
                check(status != 0, f"{text[:30]!r} is a good {name}")
                check(name in said and said.count("\n") == 1 and len(said) < 500, f"{text[:30]!r}: {name} is not named: {said!r}")
                expect(file.read_bytes(), text, "the file")
            if d.pid():
                d.kill()
            file.write_bytes(good)
            check("one" in d.run("vm", "list") and "a.raw" in d.run("media", "list"), "something is lost")
            d.first = d.pid()


def fill_disk(d):
    path = d.path / "a.raw"
    path.write_bytes(bytes(1 << 20))
    return path


# ---- machines and disks -------------------------------------------------------------------------

def busy_disk():
    """A disk that a running machine writes to: no other machine starts with it, and nobody deletes, moves or writes it."""
    with Watched() as d:
        disk = d.disk("a.raw")
        d.with_disk("one", disk)
        d.with_disk("two", disk)
        d.run("vm", "create", "three", *SMALL)
        d.run("vm", "start", "one")
        for said in (d.run("vm", "start", "two", status=1), d.vbox("startvm", "two", "--type", "headless"),
                     d.call("POST", "/vms/two/start", status=500)["error"]["message"]):
            check("in use" in said and "a.raw" in said, f"start: {said!r}")
        d.vbox("storagectl", "three", "--name", "IDE", "--add", "ide", status=0) if "ide0" not in d.vm("three")["config"]["storage"] else None
        d.vbox("storageattach", "three", "--storagectl", "ide0", "--port", "0", "--device", "0", "--type", "hdd", "--medium", disk, status=0)
        check("in use" in d.run("vm", "start", "three", status=1), "start of the third")
        status, said = d.front_end(OSPITE, "run", "-hda", disk, "--serial", "none", "--display", "none")
        check(status == 1 and "in use" in said, f"run: {status}: {said!r}")
        for words in (("disk", "resize", "-f", "raw", disk, "2M"), ("disk", "convert", "-O", "raw", "-n", self_copy(d), disk)):
            status, said = d.front_end(OSPITE, *words)
            check(status == 1 and "in use" in said, f"{words}: {status}: {said!r}")
        for words in (("media", "remove", disk), ("media", "remove", disk, "--delete"), ("media", "move", disk, d.path / "b.raw")):
            check("in use" in d.run(*words, status=4), f"{words}: no word that it is in use")
        expect(disk.stat().st_size, 1 << 20, "size")
        d.run("vm", "poweroff", "one")
        d.run("vm", "start", "two")
        d.run("vm", "poweroff", "two")


def self_copy(d):
    path = d.path / "copy.raw"
    path.write_bytes(bytes(1 << 20))
    return path


def running():
    """A machine that runs is not deleted, moved, cloned or renamed, by any front end, and runs on."""
    with Watched() as d:
        disk = d.disk("a.raw")
        d.with_disk("one", disk)
        d.run("vm", "start", "one")
        pid = d.vm("one")["pid"]
        for words in (("delete",), ("delete", "--disks"), ("delete", "--unregister"), ("move", d.path / "x"), ("clone", "two"), ("set", "name=two")):
            said = d.run("vm", words[0], "one", *words[1:], status=4)
            check("running" in said and "stop it" in said or "power" in said or "off" in said, f"{words}: {said!r}")
        for words in (("unregistervm", "one", "--delete"), ("unregistervm", "one"), ("clonevm", "one", "--name", "two", "--register")):
            check("one" in d.vbox(*words), f"{words}")
        for mode in ("all", "disks", "keep", "unregister", ""):
            status, _ = d.http("DELETE", f"/vms/one?mode={mode}")
            check(status in (400, 409), f"DELETE with {mode!r}: {status}")
        expect((d.vm("one")["state"], d.vm("one")["pid"]), ("running", pid), "state")
        check(disk.exists() and pathlib.Path(d.vm("one")["file"]).exists(), "a file is gone")
        d.run("vm", "poweroff", "one")


# ---- connections --------------------------------------------------------------------------------

def status_of(answer):
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/") else None


def slow():
    """Who sends a byte now and then, in the head or in the body, is ended in time; others are served meanwhile."""
    with Watched() as d:
        d.run("vm", "create", "one", *SMALL)
        starts = (b"GET /v1/vms HTTP/1.1\r\nX: ", b"PATCH /v1/vms/one HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{",
                  b"PATCH /v1/vms/one HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(d.connect()) for _ in range(30)]
            for client, start in zip(clients, starts * 10):
                client.sendall(start)
            end = time.monotonic() + 60 * PATIENCE
            while clients:
                check(time.monotonic() < end, f"{len(clients)} slow clients are still there")
                d.call("GET", "/vms")
                for client in list(clients):
                    try:
                        client.sendall(b"x" if client not in clients[2::3] else b"1\r\nx\r\n")
                        if select.select([client], [], [], 0)[0] and not client.recv(65536):
                            clients.remove(client)
                    except (BrokenPipeError, ConnectionResetError):
                        clients.remove(client)
                time.sleep(0.2)  # what makes them slow


def heads():
    """Heads without end, in one line or in many, cost a connection and little memory."""
    with Watched() as d:
        for start, more in ((b"GET /", b"x" * 65536), (HEAD + b"X: ", b"x" * 65536), (HEAD, b"X-%d: y\r\n" * 5000)):
            with d.connect() as client:
                sent = 0
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    client.sendall(start)
                    while sent < 200 << 20:
                        client.sendall(more)
                        sent += len(more)
                check(sent < 2 << 20, f"{sent} bytes of a head were read")
                check(status_of(d.rest(client)) in (None, 400, 414, 431), "an answer")


def chunks():
    """Bad chunks change nothing; good ones, however small, are a body."""
    with Watched() as d:
        d.run("vm", "create", "one", *SMALL)
        body = b'{"settings":{"description":"in chunks"}}'
        head = b"PATCH /v1/vms/one HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n"
        good = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
        expect(status_of(d.raw(head + b"\r\n" + good)), 200, "status of good chunks")
        expect(d.vm("one")["config"]["general"]["description"], "in chunks", "description")
        for bad in (b"ffffffffffffffffff\r\nx", b"zz\r\nx\r\n0\r\n\r\n", b"5\r\nabc", b"1;" + b"x" * 100000, b"7fffffffffffffff\r\nx"):
            answer = d.raw(head + b"\r\n" + bad) if len(bad) > 10000 else raw_shut(d, head + b"\r\n" + bad)
            check(status_of(answer) in (None, 200, 400, 413), f"{bad[:20]!r}: {answer[:60]!r}")  # libsoup may take what it cannot read as the end
        answer = d.raw(head + b"Content-Length: 3\r\n\r\n" + good)
        check(status_of(answer) in (None, 200, 400), f"both lengths: {answer[:60]!r}")
        expect(d.vm("one")["config"]["general"]["description"], "in chunks", "description")


def raw_shut(d, data):
    with d.connect() as client:
        client.sendall(data)
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_WR)
        return d.rest(client)


def pipelined():
    """Ten thousand requests in one go on one connection are answered in their order, or the connection ends after a whole answer."""
    with Watched() as d:
        d.run("vm", "create", "one", *SMALL)
        with d.connect() as client:
            data = b"".join(b"GET /v1/vms/none-%d HTTP/1.1\r\nHost: x\r\n\r\n" % n for n in range(10000))
            answers = []
            reader = threading.Thread(target=lambda: answers.append(d.rest(client)))
            reader.start()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
            reader.join()
        numbers = [int(n) for n in re.findall(rb"no machine 'none-(\d+)'", answers[0])]
        expect(numbers, list(range(len(numbers))), "order of the answers")
        check(numbers, f"no answer: {answers[0][:100]!r}")


def crowd_of_requests():
    """Ten thousand requests from two hundred connections at once: each is answered, or told that there are too many."""
    with Watched() as d:
        d.run("vm", "create", "one", *SMALL)
        seen = {}
        lock = threading.Lock()

        def client():
            for _ in range(50):
                try:
                    answer = d.raw(HEAD + b"Connection: close\r\n\r\n")
                except OSError as reason:
                    answer = str(reason).encode()
                with lock:
                    seen[status_of(answer)] = seen.get(status_of(answer), 0) + 1

        threads = [threading.Thread(target=client) for _ in range(200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        expect((sum(seen.values()), set(seen) <= {200, 503}), (10000, True), f"answers {seen}")


def waiting_requests():
    """A thousand requests that wait are held, and those beyond the cap are told so; they cost little."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    with Watched() as d, contextlib.ExitStack() as stack:
        d.run("vm", "create", "one", *SMALL)
        refused_count = 0
        for _ in range(1000):
            client = stack.enter_context(d.connect())
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                client.sendall(b"GET /v1/vms/one/wait?for=running&timeout=600 HTTP/1.1\r\nHost: x\r\n\r\n")
            if select.select([client], [], [], 0)[0]:
                refused_count += b" 503 " in client.recv(1000)
        print(f"# {refused_count} of 1000 were too many")
        stack.close()
        wait_until(lambda: d.pid() == d.first, "service")
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def junk_frames():
    """A WebSocket that sends junk, huge frames, endless fragments or no mask is closed; the machine runs on."""
    junk = (os.urandom(4096), b"\xff" * 100, b"\x82\xff" + b"\x7f" + b"\xff" * 7 + b"mask" + b"x" * 65536, b"\x82\x05hello", b"\x89\xfe\x01\x00mask" + b"x" * 256,
            b"\x02\x81maskx" + b"\x00\xfe\xff\xffmask" + b"x" * 65535 * 1, b"\x80\x80mask", b"\x83\x80mask", b"\xf2\x80mask", b"\x88\x81maskx")
    with Watched() as d:
        d.run("vm", "create", "one", *SMALL)
        d.run("vm", "start", "one")
        for path in ("/events", "/vms/one/console"):
            for data in junk:
                socket_ = d.websocket(path)
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    for _ in range(64):
                        socket_.client.sendall(data)
                    socket_.client.shutdown(socket.SHUT_WR)
                d.rest(socket_.client)
                socket_.client.close()
        expect(d.vm("one")["state"], "running", "state")
        d.run("vm", "poweroff", "one")


def deaf_followers():
    """Followers of events that never read are dropped before they cost memory; those who read miss nothing."""
    with Watched() as d:
        d.run("vm", "create", "one", *SMALL)
        deaf = [d.websocket("/events") for _ in range(20)]
        good = d.websocket("/events")
        sequence = json.loads(good.receive())["sequence"]
        for n in range(2000):
            d.call("PATCH", "/vms/one", {"settings": {"description": f"{n}"}})
            event = json.loads(good.receive())
            expect((event["kind"], event["sequence"]), ("vm-changed", sequence := sequence + 1), "event")
        for follower in deaf:
            follower.client.close()
        good.client.close()


def bodies():
    """JSON that is nested, cut, repeated, of wrong types or not UTF-8 is refused where it is wrong; the machine stays."""
    with Watched() as d:
        d.run("vm", "create", "one", *SMALL)
        before = d.vm("one")
        deep = b'{"a":' * 33 + b"1" + b"}" * 33
        for body in (deep, b'{"settings":' + b"[" * 100 + b"]" * 100 + b"}", b'{"settings":{"memory":{"a":1}}}', b'{"settings":{"memory":null,"cpus":"x"}}',
                     b'{"settings":{"cpus":1e400}}', b'{"settings":{"cpus":1.5}}', b'{"settings":{"cpus":-1}}', b'{"settings":{"cpus":true}}',
                     b'{"settings":{"":"x"}}', b'{"settings":{"a.b.c.d.e.f":"x"}}', b'{"settings":{"storage.ide0.99.type":"disk"}}',
                     b'{"settings":{"description":"\xff"}}', b'{"settings":{"description":"a"', b'{"settings":{"description":"\\u0001"}}',
                     b'\xef\xbb\xbf\xef', b"{} {}", b'{"settings":{}} //', b'{"settings":{/*"*/"memory":"16M"}}', b"{'settings':{}}", b'/*"*/' + b"[" * 900000,
                     b'{"a":\'"\',"b":' + b"[" * 900000, b"null", b'"x"', b"1", b'{"settings":{"memory":"8M"},"settings":5}'):
            status, text = d.http("PATCH", "/vms/one", body)
            expect(status, 400, f"status of {body[:50]!r}: {text!r}")
            said = json.loads(text)["error"]
            check(said["message"] and len(said["message"]) < 500, f"{body[:50]!r}: {said}")
        for body in (b'{"memory":"16M"}', b"{}", b'{"settings":{},"memory":"16M"}'):
            status, text = d.http("PATCH", "/vms/one", body)
            check(status == 400 and b"settings" in text, f"{body}: {status}: {text}")
        expect(d.vm("one"), before, "the machine")
        for path in ("/vms/one", "/vms", "/media", "/vms/one/move", "/vms/one/clone", "/vms/one/keys"):
            for body in (b"[1]", b"{", b"[" * 500000, b'{"a":' * 100000, b"\0", b'{"name":["x"],"text":{},"folder":1,"path":[],"kind":2}'):
                status, _ = d.http("PATCH" if path == "/vms/one" else "POST", path, body)
                check(400 <= status < 500, f"{path}: {body[:30]!r}: {status}")


sys.exit(run((bad_names, bad_homes, good_names, bad_configurations, bad_imports, bad_lists, busy_disk, running, slow, heads, chunks, pipelined, crowd_of_requests,
              waiting_requests, junk_frames, deaf_followers, bodies), sys.argv[1:]))
