#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines whose disks are on other machines, as TAP: qemu-nbd that is killed and started again, a web server with TLS, servers that are not there.

The guest is the demo guest (tools/make-guest). Usage: distant.py [CASE...]
"""
import http.server
import pathlib
import re
import shutil
import ssl
import subprocess
import sys
import threading
import urllib.parse

from daemon import BUILD, OSPITE, TOP, Daemon, Skipped, check, expect, run, wait_until

DISK = TOP / ".cache" / "guest" / "disk.raw"


def needs(*programs):
    missing = [p for p in programs if not shutil.which(p)]
    if missing:
        raise Skipped(f"not installed: {', '.join(missing)}")
    if not (BUILD / "ospite-nbd.so").exists() or not (BUILD / "ospite-http.so").exists():
        raise Skipped("built without libnbd or libcurl")


def needs_guest(*programs):
    needs(*programs)
    if not DISK.exists():
        raise Skipped("tools/make-guest has not made the demo guest")


class NbdServer:
    def __init__(self, folder, image):
        self.image, self.socket, self.pid_file = image, folder / "nbd", folder / "nbd.pid"
        self.address = f"nbd+unix:///?socket={self.socket}"
        self.start()

    def start(self):
        for path in self.socket, self.pid_file:
            path.unlink(missing_ok=True)
        self.process = subprocess.Popen(["qemu-nbd", "-t", "-f", "raw", "-k", self.socket, "--pid-file", self.pid_file, self.image])
        wait_until(self.pid_file.exists, "qemu-nbd")

    def kill(self):
        self.process.kill()
        self.process.wait()


class Handler(http.server.BaseHTTPRequestHandler):
    """Parts of one file."""
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self):
        path, size = self.server.file, self.server.file.stat().st_size
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        first, last = int(match[1]), min(int(match[2]), size - 1)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.send_header("Content-Length", str(last + 1 - first))
        self.send_header("Connection", "close")  # each part takes another connection
        self.end_headers()
        with open(path, "rb") as file:
            file.seek(first)
            self.wfile.write(file.read(last + 1 - first))

    def log_message(self, *args):
        pass


class QuietServer(http.server.ThreadingHTTPServer):
    """Clients may refuse its certificate, or leave."""
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass


class WebServer:
    def __init__(self, folder, file):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", folder / "key", "-out", folder / "cert", "-days", "2",
                        "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
        self.server = QuietServer(("127.0.0.1", 0), Handler)
        self.server.file = file
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "cert", folder / "key")
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.address = f"https://127.0.0.1:{self.server.server_address[1]}/disk.raw"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def make(d, address, *more):
    d.run("vm", "create", "demo", "memory=512M", "engine=jit", "storage.ide0.0.type=disk", f"storage.ide0.0.medium={address}",
          "storage.ide0.0.format=raw", *more)


def log_in(d):
    d.run("vm", "start", "demo")
    console = d.websocket("/vms/demo/console")
    console.expect(rb"login:", 120)
    console.send(b"root\n")
    console.expect(rb"# ")
    return console


def ask(console, command, answer):
    console.send(command.encode() + b"\n")
    console.expect(answer)


def nbd():
    """A guest boots from qemu-nbd, which is killed and started again, first while the guest waits, then after it was paused"""
    needs_guest("qemu-nbd")
    with Daemon() as d:
        image = d.path / "disk.raw"
        shutil.copy(DISK, image)
        server = NbdServer(d.path, image)
        try:
            make(d, f"{server.address}&reconnect-delay=15", "storage.ide0.0.on-write-error=stop", "storage.ide0.0.on-read-error=stop")
            console = log_in(d)
            ask(console, "echo one > /root/one && sync && echo i$((1+1))s", rb"i2s")
            server.kill()
            console.send(b"echo two > /root/two && sync && echo i$((2+1))s\n")
            server.start()
            console.expect(rb"i3s")
            server.kill()
            console.send(b"echo three > /root/three && sync && echo i$((3+1))s\n")
            wait_until(lambda: d.vm("demo")["state"] == "paused", "the machine's pause", 60)
            server.start()
            d.run("vm", "resume", "demo")
            console.expect(rb"i4s")
            ask(console, "echo 3 > /proc/sys/vm/drop_caches; cat /root/one /root/two /root/three; dmesg | grep -ci 'i/o error'", rb"one\s+two\s+three\s+0\s")
            d.run("vm", "stop", "demo", "--timeout", "300")
            expect(d.vm("demo")["last_end"]["reason"], "guest", "reason")
            make_again = [use["machine"] for use in d.call("GET", "/media")["media"][0]["uses"]]
            expect(len(make_again), 1, "uses of the medium")
        finally:
            server.kill()


def https_immutable():
    """A guest boots from an immutable disk on a web server, whose every answer is another connection, and writes to its difference"""
    needs_guest("openssl")
    with Daemon() as d:
        server = WebServer(d.path, DISK)
        d.environment.update(CURL_CA_BUNDLE=str(d.path / "cert"), no_proxy="127.0.0.1")
        make(d, server.address, "storage.ide0.0.mode=immutable")
        console = log_in(d)
        ask(console, "echo one > /root/one && sync && echo i$((1+1))s", rb"i2s")
        ask(console, "echo 3 > /proc/sys/vm/drop_caches; cat /root/one; ls / | wc -l", rb"one\s+\d+\s")
        d.run("vm", "stop", "demo", "--timeout", "300")
        expect(d.vm("demo")["last_end"]["reason"], "guest", "reason")


def errors():
    """Who starts a machine hears of a server that is not there or takes no writes; the registry asks no server"""
    needs("openssl")
    with Daemon() as d:
        d.environment.update(no_proxy="127.0.0.1")
        make(d, "nbd://127.0.0.1:1/disk")
        check("cannot open disk 'nbd://127.0.0.1:1/disk'" in (said := d.run("vm", "start", "demo", status=1)), said)
        file = d.path / "some.raw"
        file.write_bytes(bytes(1 << 20))
        server = WebServer(d.path, file)
        d.run("vm", "set", "demo", f"storage.ide0.0.medium={server.address}")
        check("certificate" in (said := d.run("vm", "start", "demo", status=1)), said)
        d.kill()
        d.environment.update(CURL_CA_BUNDLE=str(d.path / "cert"))
        check("nobody write" in (said := d.run("vm", "start", "demo", status=1)), said)
        d.run("vm", "set", "demo", "storage.ide0.0.mode=readonly", "storage.ide0.2.type=cdrom")
        d.run("vm", "start", "demo")
        said = subprocess.run([OSPITE, "vm", "set", "demo", f"storage.ide0.2.medium={server.address}"], env=d.environment, capture_output=True, text=True, timeout=300, check=False)
        check("comes in when" in said.stdout + said.stderr, f"{said}")
        d.run("vm", "poweroff", "demo")


def registry():
    """Addresses are media: added, shown, found, given a mode, used, and neither moved nor deleted"""
    needs()
    with Daemon() as d:
        address = "nbds://192.0.2.1/a%20disk?tls-psk-file=/k"
        at = f"/media/{urllib.parse.quote(address, safe='')}"
        d.run("vm", "list")
        d.run("media", "add", address, "--mode", "immutable")
        medium = d.call("GET", at)["medium"]
        expect((medium["path"], medium["format"], medium["mode"], medium["accessible"]), (address, "raw", "immutable", True), "medium")
        check(address in d.run("media", "list"), "it is not in the list")
        d.call("POST", at + "/refresh", {})
        check("another machine" in (said := d.run("media", "move", address, d.path / "x", status=1)), said)
        check("another machine" in (said := d.run("media", "remove", address, "--delete", status=1)), said)
        d.run("media", "remove", address)
        expect(d.call("GET", "/media")["media"], [], "media")


if __name__ == "__main__":
    sys.exit(run((registry, errors, https_immutable, nbd), sys.argv[1:]))
