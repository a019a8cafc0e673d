#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The API over TCP, as TAP: TLS, the token, the pinned certificate, strangers. curl and Python's ssl are the clients beside ours."""
import contextlib
import json
import os
import pathlib
import socket
import ssl
import subprocess
import sys

from daemon import BUILD, PATIENCE, TOP, Daemon, Failed, WebSocket, check, expect, run, validate_event, wait_until

sys.path.insert(0, str(TOP / "python"))
import ospite  # noqa: E402  # pylint: disable=wrong-import-position

PROGRAM = BUILD / "tests" / "guests" / "paging64.elf"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Remote(Daemon):
    """A daemon that listens at a TCP port; HTTP goes there."""

    def __init__(self, *options, configured=False):
        super().__init__()
        said = self.ospited("--make-certificate").stdout.split()
        self.certificate, self.fingerprint, self.token_file = said[1], said[3], pathlib.Path(said[5])
        self.token = self.token_file.read_text().strip()
        self.headers = f"Authorization: Bearer {self.token}\r\n"
        self.port = free_port()
        if configured:
            (self.path / "config/ospite/ospited.conf").write_text(f"[listen]\naddress=127.0.0.1:{self.port}\n")
        else:
            options = ("--listen", f"127.0.0.1:{self.port}", *options)
        self.process = subprocess.Popen([BUILD / "ospited", *options], env=self.environment)
        wait_until(self.socket.exists, "the daemon")
        self.pids.add(self.process.pid)

    def ospited(self, *options):
        return subprocess.run([BUILD / "ospited", *options], env=self.environment, capture_output=True, text=True, timeout=30 * PATIENCE, check=False)

    def tcp(self):
        client = socket.create_connection(("127.0.0.1", self.port))
        client.settimeout(20 * PATIENCE)
        return client

    def connect(self):
        context = ssl.create_default_context(cafile=self.certificate)
        client = context.wrap_socket(self.tcp(), server_hostname="127.0.0.1")
        client.suppress_ragged_eofs = True
        return client

    def far(self, *words, fingerprint=None, url=None, token=None, **more):
        """Our client, elsewhere: it has no daemon of its own."""
        environment = self.environment
        self.environment = {**environment, "XDG_RUNTIME_DIR": "/nonexistent", "OSPITED": "/bin/false"}
        try:
            return self.run("--connect", url or f"https://127.0.0.1:{self.port}", "--token-file", token or self.token_file,
                            "--fingerprint", fingerprint or self.fingerprint, *words, **more)
        finally:
            self.environment = environment


def curl(*words):
    result = subprocess.run(["curl", "-s", "-w", "\n%{http_code}", *map(str, words)], capture_output=True, text=True, timeout=30 * PATIENCE, check=False)
    body, _, status = result.stdout.rpartition("\n")
    return int(status), body


def served():
    """curl, Python and our client are served over TLS with the token; a machine is made from afar; the Unix socket wants no token."""
    with Remote() as d:
        url = f"https://127.0.0.1:{d.port}/v1"
        status, body = curl("--cacert", d.certificate, "-H", f"Authorization: Bearer {d.token}", f"{url}/version")
        expect((status, json.loads(body)["pid"]), (200, d.process.pid), "curl's answer")
        expect(d.call("GET", "/version")["pid"], d.process.pid, "Python's answer")
        d.far("vm", "create", "one", "memory=8M", "engine=interp")
        check("one" in d.far("vm", "list") and "one" in d.run("vm", "list"), "the machine is not there")
        expect(json.loads(d.far("vm", "show", "one", "--json"))["vm"]["name"], "one", "name")
        d.far("vm", "start", "one")
        d.far("vm", "poweroff", "one")
        d.far("vm", "show", "two", status=3)
        expect(d.call("PATCH", "/vms/one", {"settings": {"memory": "16M"}})["vm"]["config"]["system"]["memory"], 16 << 20, "memory")


def events():
    """Events come over TLS; a stranger gets none."""
    with Remote() as d:
        client = d.connect()
        send = client.sendall
        client.sendall = lambda data: send(data.replace(b"\r\n\r\n", f"\r\n{d.headers}\r\n".encode()) if data.startswith(b"GET") else data)
        watcher = WebSocket(client, "/events")
        validate_event(json.loads(watcher.receive()))
        d.call("POST", "/vms", {"name": "one"}, 201)
        expect(json.loads(watcher.receive())["kind"], "vm-created", "kind")
        d.headers = ""
        expect(d.http("GET", "/events")[0], 401, "status of a stranger's events")


def strangers():
    """Without the token there is an error that says what to do, and nothing else; the daemon stays up."""
    with Remote() as d:
        right = d.headers
        for headers in ("", "Authorization: Bearer \r\n", f"Authorization: Bearer {d.token[:-1]}\r\n", f"Authorization: Bearer {d.token}0\r\n",
                        f"Authorization: Bearer {'0' * 64}\r\n", f"Authorization: Basic {d.token}\r\n", f"Authorization: {d.token}\r\n"):
            d.headers = headers
            for method, path in (("GET", "/version"), ("POST", "/vms"), ("GET", "/nowhere"), ("PATCH", "/vms/one")):
                status, text = d.http(method, path, {"name": "stranger"} if method == "POST" else None)
                expect((status, json.loads(text)["error"]["code"]), (401, "unauthorized"), f"{method} with {headers!r}")
            check("--token-file" in text.decode(), "no word of what to do")
        d.headers = right
        expect(d.call("GET", "/vms")["vms"], [], "machines")
        status, _ = curl("--cacert", d.certificate, f"https://127.0.0.1:{d.port}/v1/version")
        expect(status, 401, "curl's status")


def handshakes():
    """Whoever speaks no TLS, half of it, or nothing is ended in time; too many strangers leave room for the user's own."""
    with Remote() as d, contextlib.ExitStack() as stack:
        with d.tcp() as plain:
            plain.sendall(b"GET /v1/version HTTP/1.1\r\nHost: x\r\n\r\n")
            check(b"200" not in d.rest(plain), "it answers without TLS")
        silent = [stack.enter_context(d.tcp()) for _ in range(100)]
        silent[1].sendall(b"\x16\x03\x01\x02\x00\x01\x00")
        d.run("vm", "list")  # by the Unix socket
        for client in silent:
            d.rest(client)
        expect(d.call("GET", "/vms")["vms"], [], "machines")
        with d.connect() as client:
            client.sendall(b"POST /v1/vms HTTP/1.1\r\nHost: x\r\nContent-Length: 1073741824\r\n\r\n")
            check(b" 413 " in client.recv(1000), "a body of 1 GiB is not refused")
        d.run("vm", "list")


def pinned():
    """Our client trusts the certificate of the fingerprint alone, speaks https alone, and takes its token from a file of the user alone."""
    with Remote() as d:
        check("fingerprint" in d.far("vm", "list", fingerprint="sha256:" + "0" * 64, status=1), "no word of the fingerprint")
        d.far("vm", "list", fingerprint=d.fingerprint.upper().replace("SHA", "sha"))
        check("https" in d.far("vm", "list", url=f"http://127.0.0.1:{d.port}", status=1), "it speaks plain http")
        for url in ("https://", "ftp://a", "https://a/b", "nonsense"):
            d.far("vm", "list", url=url, status=1)
        for name, text, mode, word in (("open", d.token, 0o644, "600"), ("empty", "\n", 0o600, "empty"), ("wrong", "0" * 64, 0o600, "token")):
            file = d.path / name
            file.write_text(text)
            file.chmod(mode)
            check(word in d.far("vm", "list", token=file, status=1), f"no word of '{word}'")
        d.far("vm", "list", token=d.path / "none", status=1)


def asked():
    """It listens where the configuration file says so, stays for that, and nowhere without being asked; bad settings are named."""
    with Remote("--idle", "1", configured=True) as d:
        expect(d.call("GET", "/version")["pid"], d.process.pid, "pid")
    with Remote("--idle", "1", configured=False) as d:
        d.process.kill()
        d.process.wait()
        d.run("vm", "list")
        try:
            d.tcp()
            check(False, "it listens without being asked")
        except ConnectionRefusedError:
            pass
        d.connect = lambda: Daemon.connect(d)  # the Unix socket
        d.kill()
        config = d.path / "config/ospite"

        def refused(word, address="127.0.0.1:1"):
            result = d.ospited("--listen", address)
            expect(result.returncode, 1, f"status ({word})")
            check(word in result.stderr, f"'{word}' is not in {result.stderr!r}")

        for address in ("nonsense", "127.0.0.1", "localhost:9460", "1.2.3.4:99999", ":80"):
            refused("ADDRESS:PORT", address)
        d.token_file.chmod(0o640)
        refused("600")
        d.token_file.chmod(0o600)
        d.token_file.write_text("secret")
        refused("guessed")
        d.token_file.unlink()
        refused("api.token")
        again = d.ospited("--make-certificate").stdout.split()
        expect(again[3], d.fingerprint, "the certificate that was there")
        expect(d.token_file.stat().st_mode & 0o777, 0o600, "mode of the token")
        (config / "api.key").chmod(0o644)
        refused("600")
        (config / "api.key").unlink()
        (config / "api.crt").unlink()
        refused("--make-certificate")
        (config / "ospited.conf").write_text("nonsense")
        refused("ospited.conf")


def python_module():
    """The Python module is served as well: calls, events and a console; a wrong token, certificate or name is refused before the token is sent."""
    def refused(kind, **changed):
        given = {"url": f"https://127.0.0.1:{d.port}", "token_file": d.token_file, "fingerprint": d.fingerprint, **changed}
        try:
            ospite.Client.remote(given.pop("url"), **given).version()
        except kind as error:
            return str(error)
        raise Failed(f"{changed} is no {kind.__name__}")

    with Remote() as d:
        with ospite.Client.remote(f"https://127.0.0.1:{d.port}", token_file=d.token_file, fingerprint=d.fingerprint) as client:
            expect(client.version()["pid"], d.process.pid, "pid")
            events = client.events()
            expect(next(events)["kind"], "hello", "first event")
            guest = client.create("guest", {"memory": "64M", "engine": "interp", "kernel.file": str(PROGRAM)})
            expect(next(events)["kind"], "vm-created", "event")
            guest.start()
            with guest.console() as console:
                text = b""
                while b"1.." not in text:
                    text += console.receive(timeout=30 * PATIENCE) or b""
                try:
                    console.receive(timeout=0)
                except ospite.TimedOut:
                    pass
                console.send(b"x")
            guest.poweroff()
        wrong = d.path / "wrong"
        wrong.write_text("0" * 64)
        check("chmod 600" in refused(ospite.Unreachable, token_file=wrong), "a token that all may read")
        wrong.chmod(0o600)
        refused(ospite.Unauthorized, token_file=wrong)
        check(d.fingerprint in refused(ospite.Unreachable, fingerprint="sha256:" + "0" * 64), "another certificate is not shown")
        check("certificate" in refused(ospite.Unreachable, fingerprint=None), "a certificate that nobody vouches for")
        for url in ("http://127.0.0.1:1", "https://127.0.0.1", "https://127.0.0.1:x", f"https://127.0.0.1:{d.port}/v1"):
            check("https://HOST:PORT" in refused(ospite.Unreachable, url=url), url)
        refused(ospite.Unreachable, url=f"https://127.0.0.1:{free_port()}")
        refused(ospite.Unreachable, token_file=d.path / "none")
        environment = {"OSPITE_CONNECT": f"https://127.0.0.1:{d.port}", "OSPITE_TOKEN_FILE": str(d.token_file), "OSPITE_FINGERPRINT": d.fingerprint}
        os.environ.update(environment)
        try:
            expect(ospite.Client().machine("guest").state, "off", "state by the environment's daemon")
        finally:
            for name in environment:
                del os.environ[name]


sys.exit(run((served, events, strangers, handshakes, pinned, asked, python_module), sys.argv[1:]))
