#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks on web servers, good ones and others. Usage: test_http.py BUILD"""
import collections
import http.server
import json
import os
import random
import re
import sys
import threading
import unittest

from kit import BUILD, PROGRAM, FolderTest, disk, main, needs, read, run

MIB = 1 << 20
SIZE = 24 * MIB


def why_not():
    return "" if os.path.exists(f"{BUILD}/ospite-http.so") else "built without libcurl"


class Handler(http.server.BaseHTTPRequestHandler):
    """Files of the working folder, in parts; `server.how` is what it does wrong."""
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        how, path = self.server.how, self.path.lstrip("/")
        self.server.requests[path] += 1
        if path.startswith("moved/"):
            self.send_response(302)
            self.send_header("Location", "/" + path[6:])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if not os.path.exists(path) or how == "forbids":
            self.send_error(403 if how == "forbids" else 404)
            return
        size = os.path.getsize(path)
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if how == "whole" or not match:
            self.send_response(200)
            self.send_header("Content-Length", str(size))
            self.end_headers()
            try:
                self.wfile.write(read(path))
            except OSError:
                pass
            return
        first, last = int(match[1]), min(int(match[2]), size - 1)
        self.server.bytes += last + 1 - first
        if first >= size:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{size}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        later = self.server.requests[path] > 3
        self.send_response(206)
        total = "*" if how == "sizeless" else size + 1 if how == "grows" and later else size
        self.send_header("Content-Range", f"bytes {first + (how == 'elsewhere' and later)}-{last}/{total}")
        self.send_header("Content-Length", str(last + 1 - first))
        if how == "tags":
            self.send_header("ETag", '"two"' if later else '"one"')
        if how == "dates":
            self.send_header("Last-Modified", f"Mon, 0{2 if later else 1} Jan 2024 00:00:00 GMT")
        self.end_headers()
        if how == "breaks" and self.server.requests[path] % 2 == 0 or how == "always breaks" and later:
            self.wfile.write(read(path, first, (last - first) // 2))
            self.close_connection = True
            return
        try:
            self.wfile.write(read(path, first, last + 1 - first))
        except OSError:
            pass

    def log_message(self, *args):
        pass


class Web:
    def __init__(self, how=""):
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.how, self.server.requests, self.server.bytes = how, collections.Counter(), 0
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *what):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@unittest.skipIf(why_not(), why_not())
class HttpTest(FolderTest):
    def setUp(self):
        super().setUp()
        os.environ["no_proxy"] = "127.0.0.1"
        rand = random.Random(2)
        with open("a.raw", "wb") as file:
            file.truncate(SIZE)
            for _ in range(20):
                file.seek(rand.randrange(SIZE // 512 - 2000) * 512)
                file.write(rand.randbytes(512 * rand.randrange(1, 2000)))

    @needs("qemu-img")
    def test_formats(self):
        with Web() as web:
            for name in "raw", "qcow2", "vdi", "vmdk", "vhd", "vhdx":
                disk("convert", "-f", "raw", "-O", name, "a.raw", "image")
                disk("convert", "-f", name, "-O", "raw", f"{web.url}/image", "copy")
                self.assertEqual(read("copy")[:SIZE], read("a.raw"), name)
                os.unlink("image")

    @needs("qemu-img")
    def test_packed(self):
        run("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", "a.raw", "image")
        with Web() as web:
            disk("convert", "-O", "qcow2", f"{web.url}/moved/image", "copy")
            info = json.loads(disk("info", "--json", f"{web.url}/image"))
            self.assertEqual((info["format"], info["virtual-size"]), ("qcow2", SIZE))
            disk("compare", f"{web.url}/image", "a.raw")
        run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", "a.raw", "copy")

    def test_reads_ahead_within_bounds(self):
        with open("large", "wb") as file:
            for i in range(192):
                file.write(bytes([i % 251]) * MIB)
        with Web() as web:
            # By a small process, because a new one counts its parent's memory until it runs its program.
            code = "import os, sys; print(*os.wait4(os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ), 0)[1:])"
            used = run(sys.executable, "-c", code, PROGRAM, "disk", "convert", "-f", "raw", "-O", "raw", f"{web.url}/large", "copy")
            self.assertTrue(used.startswith("0 "), used)
            self.assertLess(int(re.search(r"ru_maxrss=(\d+)", used)[1]), 64 << 10)
            self.assertLess(web.server.requests["large"], 100)
            self.assertLess(web.server.bytes, 193 * MIB)
        run("cmp", "large", "copy")

    def test_little_is_read_of_a_large_one(self):
        disk("create", "-f", "qcow2", "image", "1T")
        with open("image", "r+b") as file:
            file.truncate(64 * MIB)
        with Web() as web:
            disk("info", f"{web.url}/image")
            self.assertLess(web.server.bytes, 2 * MIB)

    def test_reading_only(self):
        with Web() as web:
            self.assertIn("nobody write", disk("convert", "-n", "-f", "raw", "-O", "raw", "a.raw", f"{web.url}/a.raw", status=1))
            disk("resize", "-f", "raw", f"{web.url}/a.raw", "+1M", status=1)
            disk("create", f"{web.url}/new", "1M", status=1)

    def test_parent(self):
        with Web() as web:
            disk("create", "-f", "qcow2", "-b", f"{web.url}/a.raw", "-F", "raw", "top")
            self.assertIn("--trust-backing", disk("convert", "-O", "raw", "top", "out", status=1))
            disk("convert", "--trust-backing", "-O", "raw", "top", "out")
            self.assertEqual(read("out"), read("a.raw"))
            # A parent beside its child, on the server.
            disk("create", "-f", "qcow2", "-b", "a.raw", "-F", "raw", "near")
            self.assertIn("--trust-backing", disk("convert", "-O", "raw", f"{web.url}/near", "out", status=1))
            disk("convert", "--trust-backing", "-O", "raw", f"{web.url}/near", "out")
            self.assertEqual(read("out"), read("a.raw"))

    def refused(self, how, name="a.raw"):
        with Web(how) as web:
            said = disk("convert", "-f", "raw", "-O", "raw", f"{web.url}/{name}", "copy", status=1)
            self.assertIn(web.url, said)
        self.assertFalse(os.path.exists("copy"), how)
        return said

    def test_bad_servers(self):
        self.assertIn("parts of files", self.refused("whole"))
        self.assertIn("status 404", self.refused("", "missing"))
        self.assertIn("status 403", self.refused("forbids"))
        self.assertIn("size", self.refused("sizeless"))
        for how in "grows", "tags", "dates":
            self.assertIn("another file there", self.refused(how))
        self.assertIn("connection", self.refused("always breaks"))
        self.refused("elsewhere")
        self.assertIn("cannot open disk", disk("info", "http://127.0.0.1:1/x", status=1))

    def test_broken_transfers_are_tried_again(self):
        with Web("breaks") as web:
            disk("convert", "-f", "raw", "-O", "raw", f"{web.url}/a.raw", "copy")
        self.assertEqual(read("copy"), read("a.raw"))

    def test_empty_file(self):
        open("nothing", "wb").close()
        with Web() as web:
            self.assertIn("empty", disk("info", f"{web.url}/nothing", status=1))

    @needs("openssl")
    def test_tls(self):
        import ssl
        run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key", "-out", "cert", "-days", "2",
            "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1")
        with Web() as web:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain("cert", "key")
            web.server.socket = context.wrap_socket(web.server.socket, server_side=True)
            url = web.url.replace("http:", "https:")
            self.assertIn("certificate", disk("info", f"{url}/a.raw", status=1))
            environment = {**os.environ, "CURL_CA_BUNDLE": os.path.abspath("cert"), "SSL_CERT_FILE": os.path.abspath("cert")}
            disk("convert", "-f", "raw", "-O", "raw", f"{url}/a.raw", "copy", env=environment)
            self.assertEqual(read("copy"), read("a.raw"))


if __name__ == "__main__":
    main()
