# SPDX-License-Identifier: GPL-3.0-or-later
"""A daemon of one's own for tests: folders, raw HTTP on its socket, and every answer held against api/openapi.yaml."""
import base64
import contextlib
import json
import os
import pathlib
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse

import jsonschema
import yaml

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
OSPITE = os.environ.get("OSPITE", str(TOP / "build" / "ospite"))
BUILD = pathlib.Path(OSPITE).resolve().parent
PATIENCE = float(os.environ.get("OSPITE_TEST_PATIENCE", "6"))
DESCRIPTION = yaml.safe_load((TOP / "api" / "openapi.yaml").read_text(encoding="utf-8"))


def sanitizers():
    """What the build was told to check at run time ("address,undefined", "none"); such programs keep memory for it."""
    options = json.loads((BUILD / "meson-info" / "intro-buildoptions.json").read_text(encoding="utf-8"))
    return next(option["value"] for option in options if option["name"] == "b_sanitize")


class Failed(Exception):
    pass


class Skipped(Exception):
    pass


def check(condition, text):
    if not condition:
        raise Failed(text)


def expect(got, wanted, what):
    check(got == wanted, f"{what}: {got!r}, not {wanted!r}")


def wait_until(condition, what, seconds=10):
    end = time.monotonic() + seconds * PATIENCE
    while not condition():
        check(time.monotonic() < end, f"waited in vain for {what}")
        time.sleep(0.02)


# ---- the description ----------------------------------------------------------------------------

def resolve(node):
    while "$ref" in node:
        target = DESCRIPTION
        for part in node["$ref"][2:].split("/"):
            target = target[part]
        node = target
    return node


def operation(method, path):
    """The description of what `method` does at a path, and what its path is called there."""
    for pattern, item in DESCRIPTION["paths"].items():
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", pattern), path) and method.lower() in item:
            return item[method.lower()]
    return None


def validate(method, path, status, kind, body):
    described = operation(method, path)
    if described is None:
        answer = DESCRIPTION["components"]["responses"]["Error"]
    else:
        answer = resolve(described["responses"].get(str(status), described["responses"]["default"]))
    content = answer["content"]
    check(kind in content, f"{method} {path}: {kind} is not described")
    if kind == "application/json":
        schema = {"components": DESCRIPTION["components"], **content[kind]["schema"]}
        jsonschema.Draft202012Validator(schema).validate(json.loads(body))


def validate_event(event):
    schema = {"components": DESCRIPTION["components"], "$ref": "#/components/schemas/Event"}
    jsonschema.Draft202012Validator(schema).validate(event)


# ---- a daemon -----------------------------------------------------------------------------------

def has_ended(pid):
    """Whether nothing of a process is left but its status; a first thread that has ended may leave others, with the files."""
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state == "Z" and len(os.listdir(f"/proc/{pid}/task")) == 1
    except OSError:
        return True


class Daemon:
    """Folders for a daemon, which the first command starts; all that still runs is killed in the end."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="ospite-daemon-")
        self.path = pathlib.Path(self.folder.name)
        (self.path / "run").mkdir(mode=0o700)
        self.environment = {**os.environ, "XDG_RUNTIME_DIR": str(self.path / "run"), "XDG_CONFIG_HOME": str(self.path / "config"),
                            "XDG_DATA_HOME": str(self.path / "data"), "LC_ALL": "C.UTF-8", "LANGUAGE": "", "NO_AT_BRIDGE": "1"}
        self.socket = self.path / "run" / "ospite" / "api"
        self.headers = ""  # more of them, each with its line's end
        self.pids = set()
        self.seen = set()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        for pid in {self.pid()} | self.pids | {vm["pid"] for vm in self.quietly_all() if vm["pid"]}:
            if pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if value:
            for log in [*self.path.glob("run/ospite/*.log"), *self.path.glob("data/ospite/machines/*/*.log")]:
                for line in log.read_text(errors="replace").splitlines()[-10:]:
                    print(f"# {log.name}: {line}")
        self.folder.cleanup()

    def quietly_all(self):
        try:
            return [self.call("GET", f"/vms/{vm['uuid']}")["vm"] for vm in self.call("GET", "/vms")["vms"]]
        except (OSError, Failed):
            return []

    def forget_all(self):
        """Turns all machines off and deletes them."""
        for vm in self.call("GET", "/vms")["vms"]:
            if vm["state"] != "off":
                self.call("POST", f"/vms/{vm['uuid']}/poweroff")
            self.call("DELETE", f"/vms/{vm['uuid']}?mode=all")

    def pid(self):
        try:
            return self.call("GET", "/version")["pid"]
        except (OSError, Failed):
            return None

    # ---- the command line --------------------------------------------------------------------

    def run(self, *words, status=0, **options):
        result = subprocess.run([OSPITE, *map(str, words)], env=self.environment, capture_output=True, text=True,
                                stdin=subprocess.DEVNULL, timeout=60 * PATIENCE, check=False, **options)
        check(result.returncode == status, f"{words}: status {result.returncode}, not {status}: {result.stderr.strip()} {result.stdout.strip()}")
        return result.stdout if status == 0 else result.stderr

    # ---- HTTP --------------------------------------------------------------------------------

    def connect(self):
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(self.socket))  # blocks while the backlog is full; with a timeout it would fail
        client.settimeout(20 * PATIENCE)
        return client

    def raw(self, data):
        """Sends bytes, returns all that comes back until the daemon closes."""
        with self.connect() as client:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                client.sendall(data)
            return self.rest(client)

    @staticmethod
    def rest(client):
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while data := client.recv(65536):
                answer += data
        return answer

    def http(self, method, path, body=None, kind="application/json"):
        """(status, body) of a request, both held against the description."""
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        answer = self.raw(f"{method} /v1{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: {kind}\r\n"
                          f"{self.headers}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        head, _, text = answer.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        check(lines[0].startswith("HTTP/1.1 "), f"{method} {path}: no answer: {answer[:80]!r}")
        status = int(lines[0].split()[1])
        headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines[1:])}
        validate(method, path.split("?")[0], status, headers["content-type"], text)
        self.seen.add((method, path.split("?")[0]))
        return status, text

    def call(self, method, path, body=None, status=None):
        got, text = self.http(method, path, body)
        check(got == status if status else got < 300, f"{method} {path}: {got}: {text.decode()}")
        return json.loads(text)

    def vm(self, name):
        return self.call("GET", f"/vms/{urllib.parse.quote(name, safe='')}")["vm"]

    def kill(self):
        """kill -9 of the daemon; its socket stays."""
        pid = self.pid()
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: has_ended(pid), "the daemon's end")

    def websocket(self, path):
        return WebSocket(self.connect(), path)


class WebSocket:
    """RFC 6455, as far as a client of ours needs it."""

    def __init__(self, client, path):
        self.client = client
        key = base64.b64encode(os.urandom(16)).decode()
        client.sendall(f"GET /v1{path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                       f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            data = client.recv(1)
            check(data, f"no WebSocket: {head!r}")
            head += data
        check(b" 101 " in head.split(b"\r\n")[0], f"no WebSocket: {head!r}")
        self.text = b""

    def exactly(self, size):
        data = b""
        while len(data) < size:
            more = self.client.recv(size - len(data))
            check(more, "the WebSocket was closed")
            data += more
        return data

    def frame(self):
        """The next one: what it carries (nothing, when it is a ping); None at the end."""
        first, length = self.exactly(2)
        if length == 126:
            length = int.from_bytes(self.exactly(2), "big")
        elif length == 127:
            length = int.from_bytes(self.exactly(8), "big")
        data = self.exactly(length)
        return None if first & 15 == 8 else data if first & 15 in (1, 2) else b""

    def receive(self):
        """The next message that is not a ping; None at the end."""
        end = time.monotonic() + 20 * PATIENCE
        while (data := self.frame()) == b"":
            check(time.monotonic() < end, "nothing but pings on the WebSocket")
        return data

    def send(self, data):
        mask = os.urandom(4)
        head = bytes([0x82, 0x80 | len(data)]) if len(data) < 126 else bytes([0x82, 0xFE]) + len(data).to_bytes(2, "big")
        self.client.sendall(head + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(data)))

    def expect(self, pattern, seconds=30):
        end = time.monotonic() + seconds * PATIENCE
        while not re.search(pattern, self.text, re.DOTALL):
            check(time.monotonic() < end, f"no {pattern} on the console: {self.text[-300:]!r}")
            if select.select([self.client], [], [], 1)[0]:
                data = self.frame()
                check(data is not None, f"the console ended before {pattern}: {self.text[-300:]!r}")
                self.text += data


SMALL_TMPFS = os.environ.get("OSPITE_TEST_TMPFS")
BLOCK = 4096


def in_file_system(size):
    """Runs the test with the folder of a file system of that size (as mount(8) has it), which is no other's."""
    def decorate(test):
        def wrapper():
            if SMALL_TMPFS:
                test(pathlib.Path(SMALL_TMPFS))
                return
            script = f'mount -t tmpfs -o size={size},nr_inodes=200 none /mnt && OSPITE_TEST_TMPFS=/mnt exec "$0" "$1" {test.__name__}'
            if subprocess.run(["unshare", "-rm", "sh", "-c", "mount -t tmpfs none /mnt"], capture_output=True, check=False).returncode:
                raise Skipped("this host gives users no namespaces")
            result = subprocess.run(["unshare", "-rm", "sh", "-c", script, sys.executable, sys.argv[0]], capture_output=True, text=True,
                                    timeout=120 * PATIENCE, check=False)
            if result.returncode:
                raise Failed(result.stdout + result.stderr)
        wrapper.__name__, wrapper.__doc__ = test.__name__, test.__doc__
        return wrapper
    return decorate


in_small_file_system = in_file_system("1M")


def fill(path):
    """A file that takes all the room there is."""
    with open(path, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(BLOCK))
        except OSError:
            return path


def check_memory(used_kib, most_kib):
    """How much the daemon took, last in a test: it is skipped under a sanitizer, which keeps freed memory for a while."""
    if sanitizers() != "none":
        raise Skipped(f"memory is not measured under sanitizers ({sanitizers()}); the rest holds")
    check(used_kib < most_kib, f"the daemon took {used_kib} KiB")


def run(tests, names):
    """Runs tests and prints TAP; returns the exit status."""
    tests = [t for t in tests if not names or t.__name__ in names]
    failures = 0
    print(f"1..{len(tests)}")
    for number, test in enumerate(tests, 1):
        title = test.__doc__.splitlines()[0].rstrip(".")
        try:
            test()
            print(f"ok {number} - {title}", flush=True)
        except Skipped as reason:
            print(f"ok {number} - {title} # SKIP {reason}", flush=True)
        except (Failed, OSError, jsonschema.ValidationError, subprocess.TimeoutExpired) as reason:
            failures += 1
            for line in str(reason).splitlines()[:20]:
                print(f"# {line}")
            print(f"not ok {number} - {title}", flush=True)
    return 1 if failures else 0
