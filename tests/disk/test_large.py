#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks of terabytes: no command takes more than 64 MiB of memory, whatever the size. Usage: test_large.py BUILD"""
import os
import random
import subprocess

from kit import PROGRAM, FolderTest, disk, is_sanitized, main

MIB, GIB, TIB = 1 << 20, 1 << 30, 1 << 40
MEMORY_MAX = 64 * MIB
# Format, its options, size.
LARGE = [("raw", [], 5 * TIB), ("qcow", [], 5 * TIB), ("qcow2", [], 5 * TIB), ("vdi", [], 5 * TIB), ("vhd", [], 2039 * GIB),
         ("vhdx", ["block_size=1M"], 2 * TIB), ("vmdk", [], 2 * TIB), ("qcow2", ["cluster_size=4k"], 2 * TIB)]


class LargeTest(FolderTest):
    is_sanitized = is_sanitized()

    def modest(self, *words, statuses=(0,)):
        """Runs a command and looks how much memory it had at most."""
        child = subprocess.Popen([PROGRAM, "disk", *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        said = child.stderr.read()
        self.assertNotIn("CRITICAL", said)
        child.stderr.close()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        self.assertIn(child.returncode, statuses, f"{words}: {said}")
        if not self.is_sanitized:
            self.assertLess(usage.ru_maxrss * 1024, MEMORY_MAX, words)

    def source(self, size):
        """A raw disk of which some parts at both ends and between them have data."""
        rand = random.Random(size)
        with open("source.raw", "wb") as file:
            file.truncate(size)
            for at in [0, size - 3 * MIB, *(rand.randrange(size // MIB - 4) * MIB for _ in range(40))]:
                file.seek(at)
                file.write(rand.randbytes(4096) * 256)

    def test_memory(self):
        for name, options, size in LARGE:
            flags = ["-o", ",".join(options)] if options else []
            self.source(size)
            self.modest("convert", "-f", "raw", "-O", name, *flags, "source.raw", "image.x")
            self.modest("info", "-f", name, "image.x")
            self.modest("check", "-f", name, "image.x", statuses=(0, 63))
            self.modest("map", "-f", name, "image.x")
            self.modest("compare", "-f", "raw", "-F", name, "source.raw", "image.x")
            self.modest("convert", "-f", name, "-O", "qcow2", "image.x", "back.qcow2")
            self.modest("convert", "-f", name, "-O", "raw", "image.x", "back.raw")
            self.modest("compare", "-F", "raw", "back.qcow2", "back.raw")
            self.modest("compact", "-f", name, "image.x")
            self.modest("measure", "-f", name, "-O", "qcow2", "image.x")
            disk("compare", "-f", "raw", "-F", name, "source.raw", "image.x")
            self.history(name, size)
            for left in os.listdir("."):
                os.unlink(left)
        if self.is_sanitized:
            self.skipTest("memory is not measured under sanitizers; the rest holds")

    def history(self, name, size):
        """An image over another one is moved to another parent, goes into that, and sizes change."""
        if name == "raw":
            return
        with open("source.raw", "r+b") as file:
            file.seek(size // 2)
            file.write(b"x" * MIB)
        self.modest("create", "-f", name, "-b", "image.x", "-F", name, "top.x")
        self.modest("rebase", "-u", "-f", name, "-b", "source.raw", "-F", "raw", "top.x")
        self.modest("rebase", "-f", name, "-b", "image.x", "-F", name, "top.x")
        self.modest("commit", "-f", name, "top.x")
        disk("compare", "-f", "raw", "-F", name, "source.raw", "image.x")
        for new in size + 100 * MIB, size // 2:
            self.modest("resize", "--shrink", "-f", name, "image.x", str(new))
        self.modest("check", "-f", name, "image.x", statuses=(0, 63))


if __name__ == "__main__":
    main()
