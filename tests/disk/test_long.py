#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Long disk commands: the bar on a terminal, silence in a pipe, and what Ctrl-C leaves. Usage: test_long.py BUILD"""
import os
import pty
import re
import select
import signal
import subprocess

from kit import PROGRAM, FolderTest, disk, main

MIB = 1 << 20
SIZE = 192 * MIB


def open_files(pid):
    try:
        return [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    except OSError:
        return []


class LongTest(FolderTest):
    def setUp(self):
        super().setUp()
        with open("a.raw", "wb") as file:
            for _ in range(SIZE // MIB):
                file.write(os.urandom(MIB // 4) * 4)
        with open("key", "w", encoding="ascii") as file:
            file.write("sesame")

    def interrupt(self, target, *args, number=signal.SIGINT):
        """Ends a command when it has made its target; nothing of it may be left, and all else must be as before."""
        before = {name: os.stat(name).st_mtime_ns for name in os.listdir(".")}
        for _ in range(20):  # a fast host may be done before the signal comes
            status, said = self.signal_when_open(target, args, number)
            if status:
                break
            for name in set(os.listdir(".")) - set(before):
                os.unlink(name)
        self.assertEqual(status, -number, f"{args}: {said}")
        self.assertEqual({name: os.stat(name).st_mtime_ns for name in os.listdir(".")}, before, args)

    def signal_when_open(self, target, args, number):
        child = subprocess.Popen([PROGRAM, "disk", *args], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        path = os.path.abspath(target)
        while child.poll() is None and path not in open_files(child.pid):
            os.sched_yield()
        child.send_signal(number)
        said = child.communicate(timeout=120)[1]
        return child.returncode, said

    def test_interrupted_targets(self):
        for name in "raw", "qcow2", "vdi", "vmdk", "vhd", "vhdx":
            for number in signal.SIGINT, signal.SIGTERM:
                self.interrupt("new", "convert", "-f", "raw", "-O", name, "a.raw", "new", number=number)
        self.interrupt("new", "convert", "-c", "-f", "raw", "-O", "qcow2", "a.raw", "new")
        self.interrupt("new", "clone", "-f", "raw", "-O", "qcow2", "a.raw", "new")
        self.interrupt("new", "dd", "-f", "raw", "-O", "qcow2", "if=a.raw", "of=new", "bs=1M")
        self.interrupt("new", "encrypt", "-f", "raw", "-O", "qcow2", "--new-key-file", "key", "a.raw", "new")
        self.interrupt("new", "create", "-f", "qcow2", "-o", "preallocation=full", "new", "2G")
        self.interrupt("new-s001.vmdk", "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=twoGbMaxExtentSparse", "a.raw", "new.vmdk")

    def test_interrupted_encryption_in_place(self):
        disk("convert", "-f", "raw", "-O", "qcow2", "a.raw", "image")
        self.interrupt("image.encrypting", "encrypt", "--new-key-file", "key", "image")
        disk("compare", "-f", "raw", "a.raw", "image")

    def test_failed_create_leaves_nothing(self):
        disk("create", "-f", "qcow2", "-o", "cluster_size=17", "new", "1G", status=1)
        self.assertFalse(os.path.exists("new"))
        disk("create", "-f", "raw", "mine", "1M")
        with open("mine", "r+b") as file:
            file.write(b"data")
        disk("create", "-f", "qcow2", "-o", "no_such=1", "mine", "1G", status=1)
        with open("mine", "rb") as file:
            self.assertEqual(file.read(4), b"data")

    def on_terminal(self, *args):
        """What a command says on standard error when that is a terminal."""
        leader, follower = pty.openpty()
        child = subprocess.Popen([PROGRAM, "disk", *args], stdout=subprocess.DEVNULL, stderr=follower)
        os.close(follower)
        said = b""
        while select.select([leader], [], [], 120)[0]:
            try:
                said += os.read(leader, 65536)
            except OSError:
                break
        os.close(leader)
        self.assertEqual(child.wait(), 0, said)
        return said.decode()

    def long_commands(self):
        """Each with what it needs made anew."""
        disk("convert", "-f", "raw", "-O", "qcow2", "a.raw", "base")
        disk("create", "-f", "raw", "zero", str(SIZE))
        disk("create", "-f", "qcow2", "-b", "base", "-F", "qcow2", "top")
        yield "rebase", "-b", "zero", "-F", "raw", "top"
        yield "commit", "top"
        yield "compact", "base"
        yield "compare", "-f", "raw", "-F", "qcow2", "a.raw", "base"
        yield "convert", "-f", "raw", "-O", "qcow2", "a.raw", "copy"
        yield "clone", "base", "copy2"
        yield "dd", "-f", "raw", "if=a.raw", "of=copy3", "bs=1M"
        yield "merge", "top"
        yield "check", "base"
        disk("create", "-f", "qcow2", "-b", "base", "-F", "qcow2", "short", "1M")
        yield "resize", "short", "4G"
        yield "resize", "--shrink", "base", "1M"

    def test_bar(self):
        bars = 0
        for command in self.long_commands():
            said = self.on_terminal(*command)
            shown = re.findall(r"\[([#.]+)\] +([0-9.]+)%  ([0-9]+) MiB/s  ([0-9]+) s left", said)
            bars += bool(shown)
            self.assertEqual([float(s[1]) for s in shown], sorted(float(s[1]) for s in shown), command)
            self.assertTrue(not said or said.endswith("\r"), f"{command}: the bar stays")
        # On a fast host some are over before the first bar is due.
        self.assertGreater(bars, 0)

    def test_bar_of_slow_checks_and_resizes(self):
        """A disk of many small clusters takes long, but some of it may be over before the first bar is due."""
        bars = 0
        disk("create", "-f", "qcow2", "-o", "cluster_size=512,preallocation=metadata", "many", "2G")
        for command in ("check", "many"), ("resize", "--shrink", "many", "1M"):
            said = self.on_terminal(*command)
            bars += bool(re.search(r"\[[#.]+\] +[0-9.]+%  [0-9]+ MiB/s  [0-9]+ s left", said))
            self.assertTrue(not said or said.endswith("\r"), f"{command}: the bar stays")
            disk("check", "many")
        self.assertGreater(bars, 0)

    def test_silence(self):
        for command in self.long_commands():
            done = subprocess.run([PROGRAM, "disk", *command], capture_output=True, text=True, check=True)
            self.assertEqual(done.stderr, "", command)


if __name__ == "__main__":
    main()
