#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""`ospite disk serve` with other people's NBD clients. Usage: test_serve.py BUILD"""
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest
import urllib.parse

BUILD = os.path.abspath(sys.argv.pop(1))
FORMATS = {"raw": "raw", "qcow2": "qcow2", "vdi": "vdi", "vmdk": "vmdk", "vhd": "vpc"}
SIZE = 8 * 1024 * 1024


def run(*args, status=0):
    done = subprocess.run(args, capture_output=True, text=True, timeout=120)
    assert done.returncode == status, f"{args}: {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


def disk(*args, **more):
    return run(f"{BUILD}/ospite", "disk", *args, **more)


def needs(*programs):
    missing = [p for p in programs if not shutil.which(p)]
    return unittest.skipIf(missing, f"{', '.join(missing)}: not installed")


class Server:
    """A server that listens; `uris` are what it says it exports."""

    def __init__(self, *args, images=1):
        self.process = subprocess.Popen([f"{BUILD}/ospite", "disk", "serve", *args], stdout=subprocess.PIPE, text=True)
        self.uris = [self.process.stdout.readline().strip() for _ in range(images)]
        assert all(self.uris), self.process.wait()
        self.uri = self.uris[0]

    def __enter__(self):
        return self

    def __exit__(self, *what):
        self.stop()

    def stop(self, signal_number=signal.SIGTERM):
        self.process.send_signal(signal_number)
        status = self.process.wait(timeout=60)
        self.process.stdout.close()
        return status


class ServeTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="ospite-serve-")
        os.chdir(self.folder)

    def tearDown(self):
        os.chdir("/")
        shutil.rmtree(self.folder)

    def make(self, name, ours="qcow2", size=SIZE):
        disk("create", "-f", ours, name, str(size))
        return name

    @needs("qemu-io", "qemu-img")
    def test_every_format(self):
        for ours, theirs in FORMATS.items():
            self.make("a", ours)
            with Server("--socket", "s", "-f", ours, "a") as server:
                run("qemu-io", "-f", "raw", "-c", "write -P 5 64k 1M", "-c", "write -f -P 6 3M 4k", "-c", "write -z 128k 64k",
                    "-c", "discard 5M 1M", "-c", "flush", "-c", "read -P 5 64k 64k", "-c", "read -P 0 128k 64k", server.uri)
                run("qemu-img", "convert", "-f", "raw", "-O", "raw", server.uri, "copy")
                self.assertEqual(server.stop(), 0)
            run("qemu-img", "compare", "-f", "raw", "-F", theirs, "copy", "a")
            self.assertFalse(os.path.exists("s"))

    @needs("nbdinfo", "nbdcopy", "qemu-img")
    def test_libnbd(self):
        self.make("a")
        data = random.Random(1).randbytes(1 << 20)
        with open("data", "wb") as f:
            f.truncate(SIZE)
            f.seek(3 << 20)
            f.write(data)
        with Server("--port", "0", "--name", "disk one", "--description", "of the test", "a") as server:
            self.assertTrue(server.uri.startswith("nbd://127.0.0.1:"), server.uri)
            run("nbdcopy", "data", server.uri)
            run("nbdcopy", server.uri, "back")
            run("cmp", "data", "back")
            info = json.loads(run("nbdinfo", "--json", server.uri))
            export = info["exports"][0]
            self.assertTrue(info["structured"])
            self.assertEqual(export["export-size"], SIZE)
            self.assertEqual(export["block_size_minimum"], 512)
            for can in "can_flush", "can_fua", "can_multi_conn", "can_trim", "can_zero", "can_cache", "can_df":
                self.assertTrue(export[can], can)
            extents = json.loads(run("nbdinfo", "--map", "--json", server.uri))
            self.assertEqual([(e["offset"], e["length"], e["type"]) for e in extents],
                             [(0, 3 << 20, 3), (3 << 20, 1 << 20, 0), (4 << 20, 4 << 20, 3)])
            listed = json.loads(run("nbdinfo", "--list", "--json", server.uri.rsplit("/", 1)[0]))
            self.assertEqual(listed["exports"][0]["export-name"], "disk one")
            self.assertEqual(listed["exports"][0]["description"], "of the test")
        run("qemu-img", "check", "-q", "-f", "qcow2", "a")

    @needs("nbdinfo", "qemu-io")
    def test_several_images(self):
        self.make("one")
        self.make("two", "vdi", SIZE * 2)
        with Server("--socket", "s", "one", "two", images=2) as server:
            sizes = [int(run("nbdinfo", "--size", uri)) for uri in server.uris]
            self.assertEqual(sizes, [SIZE, SIZE * 2])
            run("nbdinfo", "nbd+unix:///three?socket=s", status=1)

    @needs("qemu-io", "nbdinfo")
    def test_read_only(self):
        self.make("a", "raw")
        before = os.stat("a").st_mtime_ns
        with Server("--socket", "s", "--read-only", "-f", "raw", "a") as server:
            run("qemu-io", "-f", "raw", "-c", "write 0 4k", server.uri, status=1)
            self.assertTrue(json.loads(run("nbdinfo", "--json", server.uri))["exports"][0]["is_read_only"])
            with Server("--socket", "t", "--read-only", "-f", "raw", "a") as second:
                run("qemu-io", "-r", "-f", "raw", "-c", "read -P 0 0 4k", second.uri)
        self.assertEqual(os.stat("a").st_mtime_ns, before)

    @needs("qemu-io")
    def test_snapshot(self):
        self.make("a")
        run("qemu-io", "-f", "qcow2", "-c", "write -P 1 0 1M", "a")
        disk("snapshot", "-c", "first", "a")
        run("qemu-io", "-f", "qcow2", "-c", "write -P 2 0 1M", "a")
        with Server("--socket", "s", "--snapshot", "first", "a") as server:
            run("qemu-io", "-r", "-f", "raw", "-c", "read -P 1 0 1M", server.uri)
        disk("serve", "--socket", "s", "--snapshot", "none", "a", status=1)

    @needs("qemu-io")
    def test_chain(self):
        self.make("parent", "vdi")
        run("qemu-io", "-f", "vdi", "-c", "write -P 1 0 1M", "parent")
        disk("create", "-f", "qcow2", "-b", "parent", "-F", "vdi", "child")
        with Server("--socket", "s", "child") as server:
            run("qemu-io", "-f", "raw", "-c", "write -P 2 4k 4k", "-c", "read -P 1 0 4k", "-c", "read -P 2 4k 4k",
                "-c", "read -P 1 8k 1000k", server.uri)

    @needs("nbdinfo")
    def test_once(self):
        self.make("a")
        server = Server("--socket", "s", "--once", "a")
        run("nbdinfo", server.uri)
        self.assertEqual(server.process.wait(timeout=60), 0)
        server.process.stdout.close()

    def test_errors(self):
        self.make("a")
        disk("serve", status=2)
        disk("serve", "--name", "x", "a", "a", status=2)
        disk("serve", "--port", "99999", "a", status=2)
        disk("serve", "--bind", "nowhere", "a", status=2)
        disk("serve", "--iops", "many", "a", status=2)
        disk("serve", "--bandwidth", "1X", "a", status=2)
        disk("serve", "missing", status=1)
        with Server("--socket", "s", "a"):
            disk("serve", "--socket", "t", "a", status=1)  # it is locked
            self.make("b")
            disk("serve", "--socket", "s", "b", status=1)  # the socket is in use

    @needs("nbdcopy")
    def test_several_clients(self):
        """Many connections write their own parts and read each other's."""
        self.make("a", size=32 << 20)
        parts = [random.Random(i).randbytes(32 << 20) for i in range(2)]
        for i, part in enumerate(parts):
            with open(f"data{i}", "wb") as f:
                f.write(part)
        with Server("--socket", "s", "a") as server:
            for i in range(2):
                run("nbdcopy", "--connections=4", "--requests=16", f"data{i}", server.uri)
                copies = [subprocess.Popen(["nbdcopy", server.uri, f"back{n}"]) for n in range(3)]
                self.assertEqual([c.wait(timeout=120) for c in copies], [0, 0, 0])
                for n in range(3):
                    run("cmp", f"data{i}", f"back{n}")

    @needs("qemu-io")
    def test_kill(self):
        """What was flushed is there after kill -9, and the image holds together."""
        for ours in FORMATS:
            self.make("a", ours)
            server = Server("--socket", "s", "-f", ours, "a")
            run("qemu-io", "-f", "raw", "-c", "write -P 7 100k 2M", "-c", "flush", server.uri)
            run("qemu-io", "-t", "unsafe", "-f", "raw", "-c", "write -P 8 5M 1M", server.uri)
            server.stop(signal.SIGKILL)
            if ours != "raw":
                disk("check", "--repair", "-f", ours, "a")
            run("qemu-io", "-f", FORMATS[ours], "-c", "read -P 7 100k 2M", "a")

    @needs("nbdinfo", "qemu-io")
    def test_tls_keys(self):
        self.make("a")
        with open("keys.psk", "w") as f:
            f.write("alice:" + "ab" * 32 + "\n")
        with open("wrong.psk", "w") as f:
            f.write("alice:" + "cd" * 32 + "\n")
        with Server("--port", "0", "--tls-psk", "keys.psk", "a") as server:
            self.assertTrue(server.uri.startswith("nbds://"), server.uri)
            plain = server.uri.replace("nbds://", "nbd://")
            with_key = server.uri.replace("nbds://", "nbds://alice@") + "?tls-psk-file="
            self.assertEqual(int(run("nbdinfo", "--size", with_key + f"{self.folder}/keys.psk")), SIZE)
            run("nbdinfo", "--size", with_key + f"{self.folder}/wrong.psk", status=1)
            run("nbdinfo", "--size", plain, status=1)
            run("nbdinfo", "--list", plain, status=1)
            if shutil.which("nbdcopy"):
                data = random.Random(3).randbytes(SIZE)
                with open("data", "wb") as f:
                    f.write(data)
                uri = with_key + f"{self.folder}/keys.psk"
                run("nbdcopy", "data", uri)
                run("nbdcopy", uri, "back")
                run("cmp", "data", "back")

    def make_certificates(self):
        os.mkdir("pki")
        run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "pki/ca-key.pem", "-out", "pki/ca-cert.pem",
            "-subj", "/CN=test", "-days", "30")
        for who, alt in ("server", "IP:127.0.0.1"), ("client", "DNS:client"):
            with open("ext", "w") as f:
                f.write(f"subjectAltName={alt}\n")
            run("openssl", "req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"pki/{who}-key.pem", "-out", "request.pem", "-subj", f"/CN={who}")
            run("openssl", "x509", "-req", "-in", "request.pem", "-CA", "pki/ca-cert.pem", "-CAkey", "pki/ca-key.pem", "-CAcreateserial",
                "-out", f"pki/{who}-cert.pem", "-days", "30", "-extfile", "ext")

    @needs("openssl", "qemu-img")
    def test_tls_certificates(self):
        self.make("a")
        self.make_certificates()
        os.mkdir("nobody")
        shutil.copy("pki/ca-cert.pem", "nobody")
        with Server("--port", "0", "--tls-certificates", "pki", "--tls-verify-peer", "a") as server:
            port = urllib.parse.urlparse(server.uri).port
            def info(folder, status=0):
                return run("qemu-img", "info", "--object", f"tls-creds-x509,id=t,endpoint=client,dir={self.folder}/{folder}",
                           "--image-opts", f"driver=nbd,host=127.0.0.1,port={port},tls-creds=t", status=status)
            self.assertIn("8 MiB", info("pki"))
            info("nobody", status=1)


if __name__ == "__main__":
    unittest.main()
