#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks on NBD servers: qemu-nbd, our own, and one that breaks off. Usage: test_nbd_client.py BUILD"""
import json
import os
import random
import select
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
import unittest

from kit import BUILD, PROGRAM, FolderTest, disk, main, needs, read, run

MIB = 1 << 20
SIZE = 24 * MIB


def why_not():
    return "" if os.path.exists(f"{BUILD}/ospite-nbd.so") else "built without libnbd"


class Server:
    """A server of disks at the Unix socket `name`, once it listens."""

    def __init__(self, name, *command):
        self.uri = f"nbd+unix:///?socket={os.path.abspath(name)}"
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
        self.process.stdout.readline()  # ours prints its URI; qemu-nbd --fork ends

    def __enter__(self):
        return self.uri

    def __exit__(self, *what):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=60)
        self.process.stdout.close()


def ours(image, *more, name="s"):
    return Server(name, PROGRAM, "disk", "serve", "--socket", name, *more, image)


class Theirs:
    def __init__(self, image, *more, name="s"):
        self.uri = f"nbd+unix:///?socket={os.path.abspath(name)}"
        run("qemu-nbd", "--fork", "--pid-file", "pid", "-t", "-k", os.path.abspath(name), *more, image)

    def __enter__(self):
        return self.uri

    def __exit__(self, *what):
        with open("pid", encoding="ascii") as file:
            pid = int(file.read())
        fd = os.pidfd_open(pid)
        os.kill(pid, signal.SIGTERM)
        assert select.select([fd], [], [], 60)[0], "qemu-nbd does not end"
        os.close(fd)


class BreakingServer(threading.Thread):
    """Speaks just enough NBD (old style) to hand out `data`, and hangs up after `answers` of them."""

    def __init__(self, data, answers):
        super().__init__(daemon=True)
        self.data, self.answers = data, answers
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.uri = f"nbd://127.0.0.1:{self.listener.getsockname()[1]}?reconnect-delay=1"
        self.start()

    def stop(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.join()
        self.listener.close()

    def run(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            try:
                with client, client.makefile("rwb") as stream:
                    self.serve(stream)
            except OSError:  # the client left first
                pass

    def serve(self, stream):
        stream.write(b"NBDMAGIC" + struct.pack(">QQI", 0x00420281861253, len(self.data), 3) + bytes(124))
        stream.flush()
        while request := stream.read(28):
            _, _, kind, cookie, offset, length = struct.unpack(">IHHQQI", request)
            if kind == 2:
                return
            if not self.answers:
                stream.write(struct.pack(">IIQ", 0x67446698, 0, cookie) + self.data[offset:offset + length // 2])
                return
            self.answers -= 1
            stream.write(struct.pack(">IIQ", 0x67446698, 0, cookie) + self.data[offset:offset + length])
            stream.flush()


class ForgetfulServer(BreakingServer):
    """One for writing, that breaks off after `answers`, a few more each time, and forgets what it was not told to flush."""

    def __init__(self, size, answers):
        self.stable, self.breaks = bytearray(size), 0
        super().__init__(self.stable, answers)

    def serve(self, stream):
        volatile = bytearray(self.stable)
        stream.write(b"NBDMAGIC" + struct.pack(">QQI", 0x00420281861253, len(self.data), 5) + bytes(124))
        stream.flush()
        for _ in range(self.answers):
            request = stream.read(28)
            if len(request) < 28:
                return
            _, _, kind, cookie, offset, length = struct.unpack(">IHHQQI", request)
            if kind == 2:
                return
            if kind == 1:
                volatile[offset:offset + length] = stream.read(length)
            if kind == 3:
                self.stable[:] = volatile
            stream.write(struct.pack(">IIQ", 0x67446698, 0, cookie) + (volatile[offset:offset + length] if kind == 0 else b""))
            stream.flush()
        stream.read(1)
        stream.write(b"\x67\x44")
        self.breaks += 1
        self.answers += 5


class PatientServer(BreakingServer):
    """Answers nothing from 1 MiB on before `answers` requests are there, and then the last one first."""

    def serve(self, stream):
        stream.write(b"NBDMAGIC" + struct.pack(">QQI", 0x00420281861253, len(self.data), 3) + bytes(124))
        stream.flush()
        waiting = []
        while request := stream.read(28):
            _, _, kind, cookie, offset, length = struct.unpack(">IHHQQI", request)
            if kind == 2:
                return
            waiting.insert(0, struct.pack(">IIQ", 0x67446698, 0, cookie) + self.data[offset:offset + length])
            if offset < MIB or len(waiting) == self.answers:
                stream.write(b"".join(waiting))
                stream.flush()
                waiting = []


class Killable:
    """A server in the foreground at the Unix socket `k`, which can be killed and started again."""

    def __init__(self, *command):
        self.command, self.path = command, os.path.abspath("k")
        self.uri = f"nbd+unix:///?socket={self.path}"
        self.start()

    def start(self):
        for name in self.path, "k.pid":
            if os.path.exists(name):
                os.unlink(name)
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL)
        while not os.path.exists("k.pid"):  # it listens
            assert self.process.poll() is None, "the server has ended"
            time.sleep(0.01)

    def kill(self):
        self.process.kill()
        self.process.wait()


@unittest.skipIf(why_not(), why_not())
class NbdClientTest(FolderTest):
    def setUp(self):
        super().setUp()
        rand = random.Random(2)
        with open("a.raw", "wb") as file:
            file.truncate(SIZE)
            for _ in range(20):
                file.seek(rand.randrange(SIZE // 512 - 2000) * 512)
                file.write(rand.randbytes(512 * rand.randrange(1, 2000)))

    @needs("qemu-img")
    def test_ours(self):
        for name in "raw", "qcow2", "vdi":
            disk("convert", "-f", "raw", "-O", name, "a.raw", "image")
            with ours("image", "-f", name) as uri:
                disk("convert", "-O", "qcow2", uri, "copy")
                info = json.loads(disk("info", "--json", uri))
                self.assertEqual((info["virtual-size"], info["format"], info["filename"]), (SIZE, "raw", uri))
                self.assertNotIn("actual-size", info)
            run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", "a.raw", "copy")
            self.assertLess(os.stat("copy").st_size, os.stat("a.raw").st_blocks * 512 + 4 * MIB)  # holes stayed holes

    @needs("qemu-nbd", "qemu-img")
    def test_an_image_on_their_server(self):
        """A qcow2 image as a file of the server, whose metadata are written in parts of sectors."""
        disk("create", "-f", "qcow2", "base", str(SIZE))
        with Theirs("base", "-f", "raw") as uri:
            disk("convert", "-n", "-f", "raw", "-O", "raw", "base", uri)
        run("qemu-img", "create", "-q", "-f", "raw", "room", str(SIZE + 4 * MIB))
        disk("create", "-f", "qcow2", "empty", str(SIZE))
        run("dd", "if=empty", "of=room", "conv=notrunc", "status=none")
        for serve in Theirs, ours:
            with serve("room", "-f", "raw") as uri:
                disk("convert", "-n", "-f", "raw", "-O", "qcow2", "a.raw", uri)
                self.assertEqual(json.loads(disk("info", "--json", uri))["format"], "qcow2")
                disk("compare", "-f", "raw", "-F", "qcow2", "a.raw", uri)
                disk("check", uri)
            run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", "a.raw", "room")

    @needs("qemu-nbd", "qemu-io")
    def test_writing(self):
        run("qemu-img", "create", "-q", "-f", "raw", "target", str(SIZE))
        with Theirs("target", "-f", "raw", "--discard=unmap", "-e", "4") as uri:
            disk("convert", "-n", "-f", "raw", "-O", "raw", "a.raw", uri)
            disk("compare", "-f", "raw", "-F", "raw", "a.raw", uri)
        self.assertEqual(read("target"), read("a.raw"))
        with Theirs("target", "-f", "raw", "-r") as uri:
            self.assertIn("nobody write", disk("convert", "-n", "-f", "raw", "-O", "raw", "a.raw", uri, status=1))
        with Theirs("a.raw", "-f", "raw") as uri:
            self.assertIn("convert -n", disk("convert", "-f", "raw", "-O", "qcow2", "target", uri, status=1))
            disk("create", "-f", "raw", uri, "1M", status=1)

    @needs("qemu-img")
    def test_parent(self):
        """Only those who trust an image may be led to a server by it."""
        with ours("a.raw", "-f", "raw") as uri:
            disk("create", "-f", "qcow2", "-b", uri, "-F", "raw", "top")
            self.assertIn("--trust-backing", disk("convert", "-O", "raw", "top", "out", status=1))
            self.assertFalse(os.path.exists("out"))
            disk("convert", "--trust-backing", "-O", "raw", "top", "out")
            self.assertEqual(read("out"), read("a.raw"))
            self.assertEqual(json.loads(disk("info", "--json", "top"))["backing-filename"], uri)
            run("qemu-img", "compare", "-F", "raw", "-f", "qcow2", "top", "out")
        self.assertIn("cannot open", disk("convert", "--trust-backing", "-O", "raw", "top", "out", status=1))

    @needs("qemu-io")
    def test_served_again(self):
        """An export of an export: the asynchronous engine over a remote file."""
        disk("convert", "-f", "raw", "-O", "qcow2", "a.raw", "image")
        with ours("image") as first, ours(first, "-f", "raw", name="t") as second:
            run("qemu-io", "-f", "raw", "-c", "write -P 5 64k 1M", "-c", "write -f -P 6 3M 4k", "-c", "write -z 128k 64k",
                "-c", "flush", "-c", "read -P 5 64k 64k", "-c", "read -P 0 128k 64k", "-c", "discard 8M 1M", second)
            run("qemu-io", "-r", "-f", "raw", "-c", "read -P 6 3M 4k", first)
        run("qemu-io", "-r", "-f", "qcow2", "-c", "read -P 6 3M 4k", "image")
        run("qemu-img", "check", "-q", "image")

    def test_broken_connection(self):
        for answers in 1, 3, 9:
            server = BreakingServer(os.urandom(16 * MIB), answers)
            said = disk("convert", "-f", "raw", "-O", "qcow2", server.uri, "copy", status=1)
            self.assertIn(f"cannot read '{server.uri}': the connection to its server has broken", said)
            self.assertFalse(os.path.exists("copy"))
            server.stop()
        server = BreakingServer(os.urandom(16 * MIB), 1000)
        disk("convert", "-f", "raw", "-O", "raw", server.uri, "copy")
        self.assertEqual(read("copy"), server.data)
        server.stop()
        self.assertIn("cannot open disk", disk("info", server.uri, status=1))
        self.assertIn("cannot open disk", disk("info", "nbd+unix:///?socket=none", status=1))

    @needs("qemu-io")
    def test_several_requests_at_once(self):
        server = PatientServer(b"".join(bytes([i]) * MIB for i in range(16)), 12)
        reads = [word for i in range(1, 13) for word in ("-c", f"aio_read -P {i} {i}M 64k")]
        with ours(server.uri, "-f", "raw", "-r") as uri:
            run("qemu-io", "-r", "-f", "raw", *reads, "-c", "aio_flush", uri)
        server.stop()

    def test_what_a_server_forgets_is_written_again(self):
        server = ForgetfulServer(SIZE, 10)
        disk("convert", "-n", "-t", "writeback", "-f", "raw", "-O", "raw", "a.raw", server.uri)
        server.stop()
        self.assertGreater(server.breaks, 0)
        self.assertEqual(bytes(server.stable), read("a.raw"))

    def copy_and_kill(self, server, source, target, *more):
        """A copy during which the server is killed and started again, thrice."""
        copy = subprocess.Popen([PROGRAM, "disk", "convert", *more, source, target], stderr=subprocess.PIPE, text=True)
        for part in 1, 2, 3:
            while copy.poll() is None and os.stat("out").st_blocks * 512 < part * 3 * MIB:
                time.sleep(0.01)
            self.assertIsNone(copy.poll(), "the copy was over too soon")
            server.kill()
            server.start()
        said = copy.communicate(timeout=120)[1]
        self.assertEqual(copy.returncode, 0, said)
        server.process.terminate()
        server.process.wait()
        self.assertEqual(read("out"), read("a.raw"))

    @needs("nbdkit")
    def test_killed_and_restarted_while_read(self):
        with open("a.raw", "r+b") as file:
            file.write(os.urandom(SIZE))
        server = Killable("nbdkit", "-f", "-U", "k", "-P", "k.pid", "--filter=rate", "file", "a.raw", "rate=80M")
        open("out", "wb").truncate(SIZE)
        self.copy_and_kill(server, server.uri, "out", "-n", "-f", "raw", "-O", "raw")

    @needs("qemu-nbd")
    def test_killed_and_restarted_while_written(self):
        with open("a.raw", "r+b") as file:
            file.write(os.urandom(SIZE))
        open("out", "wb").truncate(SIZE)
        server = Killable("qemu-nbd", "-t", "-f", "raw", "-k", os.path.abspath("k"), "--pid-file", "k.pid", "out")
        with ours("a.raw", "-f", "raw", "--bandwidth", "10M") as source:
            self.copy_and_kill(server, source, server.uri, "-n", "-f", "raw", "-O", "raw")

    @needs("nbdkit")
    def test_another_disk_there(self):
        server = Killable("nbdkit", "-f", "-U", "k", "-P", "k.pid", "memory", "64M")
        with ours(server.uri, "-f", "raw", name="t") as uri:
            disk("convert", "-n", "-f", "raw", "-O", "raw", "a.raw", server.uri)
            server.kill()
            server.command = (*server.command[:-1], "65M")
            server.start()
            disk("convert", "-f", "raw", "-O", "raw", uri, "copy", status=1)
        server.process.terminate()
        server.process.wait()

    def test_the_time_to_reconnect(self):
        for wrong in "-1", "soon", "86401", "":
            self.assertIn("reconnect-delay is", disk("info", f"nbd://127.0.0.1:1/?reconnect-delay={wrong}", status=1))

    def test_server_that_is_killed(self):
        disk("convert", "-f", "raw", "-O", "qcow2", "a.raw", "image")
        server = ours("image", "--bandwidth", "2M")  # so that the copy is under way for long
        uri = server.uri + "&reconnect-delay=0"
        copy = subprocess.Popen([PROGRAM, "disk", "convert", "-O", "raw", uri, "copy"], stderr=subprocess.PIPE, text=True)
        while not os.path.exists("copy") and copy.poll() is None:
            os.sched_yield()
        server.process.kill()
        said = copy.communicate(timeout=60)[1]
        self.assertEqual(copy.returncode, 1, said)
        self.assertIn("the connection to its server has broken", said)
        self.assertFalse(os.path.exists("copy"))
        server.process.wait()
        server.process.stdout.close()

    @needs("psktool")
    def test_tls(self):
        run("psktool", "-u", "alice", "-p", "keys.psk")
        with ours("a.raw", "-f", "raw", "--tls-psk", "keys.psk"):
            uri = f"nbds+unix://alice@/?socket={os.path.abspath('s')}&tls-psk-file={os.path.abspath('keys.psk')}"
            disk("convert", "-f", "raw", "-O", "raw", uri, "copy")
            self.assertEqual(read("copy"), read("a.raw"))
            disk("info", f"nbd+unix:///?socket={os.path.abspath('s')}", status=1)

    @needs("nbdkit")
    def test_large_blocks(self):
        """A server that takes whole blocks of 4 KiB only."""
        shutil.copy("a.raw", "room")
        os.truncate("room", SIZE + 4 * MIB)
        disk("create", "-f", "qcow2", "empty", str(SIZE))
        run("dd", "if=empty", "of=room", "conv=notrunc", "status=none")
        script = (f"{PROGRAM} disk convert -n -f raw -O qcow2 a.raw $uri && {PROGRAM} disk check $uri && "
                  f"{PROGRAM} disk compare -f raw -F qcow2 a.raw $uri")
        run("nbdkit", "-U", "-", "--filter=blocksize-policy", "file", "room", "blocksize-minimum=4096", "blocksize-preferred=4096",
            "blocksize-maximum=32M", "blocksize-error-policy=error", "--run", script)
        run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", "a.raw", "room")


if __name__ == "__main__":
    main()
