#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Partitions in images, growing disks, and the verbs for whole disks. Usage: test_partitions.py BUILD"""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

BUILD = os.path.abspath(sys.argv.pop(1))
os.environ["PATH"] += ":/usr/sbin:/sbin"
MIB = 1 << 20


def run(*args, status=0, text=None):
    done = subprocess.run(args, input=text, capture_output=True, text=True)
    assert done.returncode == status, f"{args}: {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


def disk(*args, **more):
    return run(f"{BUILD}/ospite", "disk", *args, **more)


def img(*args, **more):
    return run(f"{BUILD}/qemu-img", *args, **more)


def put(path, offset, make):
    """A file system of 40 MiB, made by `make`, at `offset` of the disk."""
    with open("fs", "wb") as f:
        f.truncate(40 * MIB)
    run(*make, "fs")
    with open("fs", "rb") as source, open(path, "r+b") as target:
        target.seek(offset)
        target.write(source.read())


def table(path, *args):
    return json.loads(disk("partitions", "--json", *args, path))


def sfdisk(path):
    return json.loads(run("sfdisk", "--json", path))["partitiontable"]


class PartitionTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="ospite-partitions-")
        os.chdir(self.folder)

    def tearDown(self):
        os.chdir("/")
        shutil.rmtree(self.folder)

    def make(self, script, size=200):
        with open("d.raw", "wb") as f:
            f.truncate(size * MIB)
        run("sfdisk", "-q", "d.raw", text=script)

    def test_mbr_in_every_format(self):
        self.make("label: dos\n1M,41M,c,*\n43M,,5\n44M,41M,83\n90M,41M,7\n")
        put("d.raw", MIB, ["mkfs.fat", "-n", "BOOTFS"])
        put("d.raw", 44 * MIB, ["mke2fs", "-q", "-F", "-t", "ext4", "-L", "linuxfs"])
        put("d.raw", 90 * MIB, ["mkntfs", "-q", "-F", "-f", "-L", "winfs", "-p", "0", "-H", "16", "-S", "63"])
        want = [(p["start"], p["size"]) for p in sfdisk("d.raw")["partitions"]]
        for kind in "raw", "qcow2", "vdi", "vmdk", "vhd":
            disk("convert", "-f", "raw", "-O", kind, "d.raw", "d.img")
            found = table("d.img", "-f", kind)
            self.assertEqual(found["table"], "mbr")
            parts = found["partitions"]
            self.assertEqual([(p["start-sector"], p["size"] // 512) for p in parts], want, kind)
            self.assertEqual([p.get("file-system") for p in parts], ["vfat", None, "ext4", "ntfs"])
            self.assertEqual([p.get("label") for p in parts], ["BOOTFS", None, "linuxfs", "winfs"])
            self.assertEqual([p["number"] for p in parts], [1, 2, 5, 6])
        self.assertIn("linuxfs", disk("partitions", "d.raw"))

    def test_whole_disk(self):
        run("mke2fs", "-q", "-t", "ext2", "-L", "whole", "w.raw", "20M")
        found = table("w.raw")
        self.assertEqual((found["table"], found["partitions"][0]["label"]), ("none", "whole"))

    def test_grow_gpt(self):
        self.make("label: gpt\nsize=50M,type=uefi\nsize=60M,name=data\n")
        disk("convert", "-f", "raw", "-O", "qcow2", "d.raw", "d.qcow2")
        disk("resize", "-q", "--grow-partition", "d.qcow2", "+300M")
        disk("convert", "-O", "raw", "d.qcow2", "e.raw")
        self.assertIn("No problems found", run("sgdisk", "--verify", "e.raw"))
        last = table("d.qcow2")["partitions"][-1]
        self.assertEqual((last["number"], last["name"]), (2, "data"))
        self.assertEqual(last["size"], sfdisk("e.raw")["partitions"][-1]["size"] * 512)
        self.assertGreater(last["offset"] + last["size"], 498 * MIB)
        with open("e.raw", "r+b") as f:  # the second header alone is enough
            f.seek(512)
            f.write(bytes(512))
        self.assertEqual(len(table("e.raw", "-f", "raw")["partitions"]), 2)

    def test_grow_logical(self):
        self.make("label: dos\n1M,41M,83\n43M,,5\n44M,41M,83\n90M,41M,83\n")
        disk("resize", "-q", "-f", "raw", "--grow-partition", "d.raw", "500M")
        run("sfdisk", "--verify", "d.raw")
        parts = sfdisk("d.raw")["partitions"]
        for p in parts[1], parts[3]:
            self.assertEqual((p["start"] + p["size"]) * 512, 500 * MIB)

    def test_grow_mends_heads(self):
        for make in (["mkntfs", "-q", "-F", "-f", "-p", "2048", "-H", "16", "-S", "63"],
                     ["mkfs.fat", "-F", "32", "-g", "16/63"]):
            self.make("label: dos\n1M,100M,7\n")
            put("d.raw", MIB, make)
            disk("resize", "-q", "-f", "raw", "--grow-partition", "d.raw", "9G")
            with open("d.raw", "rb") as f:
                f.seek(MIB + 0x1a)
                self.assertEqual(int.from_bytes(f.read(2), "little"), 255, make[0])
                f.seek(MIB)
                with open("part", "wb") as part:
                    part.write(f.read(40 * MIB))
            if make[0] == "mkntfs":
                run("ntfsfix", "-n", "part")
            else:
                run("fsck.fat", "-n", "part")

    # Format, options.
    RESIZED = [("raw", []), ("qcow", []), ("qcow2", []), ("qcow2", ["compat=0.10"]), ("vdi", []), ("vdi", ["static=on"]), ("vmdk", []),
               ("vmdk", ["subformat=monolithicFlat"]), ("vhd", []), ("vhd", ["subformat=fixed"]), ("vhdx", []),
               ("vhdx", ["subformat=fixed"])]

    def in_every_format(self):
        """The disk in each format, and a name of the case."""
        for kind, options in self.RESIZED:
            disk("convert", "-f", "raw", "-O", kind, *(["-o", ",".join(options)] if options else []), "d.raw", "d.img")
            yield kind, f"{kind} {options}"

    def part_of(self, kind, start, size):
        disk("dd", "-f", kind, "-O", "raw", f"bs={MIB}", f"skip={start // MIB}", f"count={size // MIB}", "if=d.img", "of=part")

    def mended(self, kind, start, case):
        """What was at the file system's heads, and the opinion of its own tool."""
        self.part_of(kind, start, 48 * MIB)
        with open("part", "r+b") as part:
            head = part.read(512)
            part.truncate(40 * MIB if head[3:7] != b"NTFS" else (int.from_bytes(head[0x28:0x30], "little") + 1) * 512)
        run(*(["ntfsfix", "-n", "part"] if head[3:7] == b"NTFS" else ["fsck.fat", "-n", "part"]))
        if head[3:7] == b"NTFS":
            with open("part", "rb") as part:
                part.seek(-512, os.SEEK_END)
                self.assertEqual(part.read(), head, case)  # its copy
        return int.from_bytes(head[0x1a:0x1c], "little")

    def test_grow_every_format_mbr(self):
        """The last partition grows with the disk, geometries are mended; a smaller disk keeps what is left of it."""
        self.make("label: dos\n1M,48M,c\n60M,48M,7\n")
        put("d.raw", MIB, ["mkfs.fat", "-F", "32", "-g", "16/63"])
        put("d.raw", 60 * MIB, ["mkntfs", "-q", "-F", "-f", "-p", "122880", "-H", "16", "-S", "63"])
        for kind, case in self.in_every_format():
            with self.subTest(case):
                self.assertEqual(self.mended(kind, 60 * MIB, case), 16)
                disk("resize", "-q", "-f", kind, "--grow-partition", "d.img", "2G")
                parts = table("d.img", "-f", kind)["partitions"]
                self.assertEqual([(p["offset"], p["size"]) for p in parts], [(MIB, 48 * MIB), (60 * MIB, (2048 - 60) * MIB)], case)
                self.assertEqual([self.mended(kind, p["offset"], case) for p in parts], [128, 128], case)
                disk("resize", "-q", "-f", kind, "--grow-partition", "d.img", "9G")
                self.assertEqual([self.mended(kind, p["offset"], case) for p in parts], [255, 255], case)
                disk("resize", "-q", "-f", kind, "--shrink", "d.img", "110M")
                self.assertEqual([self.mended(kind, p["offset"], case) for p in parts], [255, 255], case)

    def test_grow_every_format_gpt(self):
        self.make("label: gpt\nstart=1M,size=48M,type=uefi\nstart=60M,size=48M,name=data\n")
        put("d.raw", 60 * MIB, ["mke2fs", "-q", "-t", "ext4"])
        for kind, case in self.in_every_format():
            with self.subTest(case):
                disk("resize", "-q", "-f", kind, "--grow-partition", "d.img", "600M")
                disk("convert", "-f", kind, "-O", "raw", "d.img", "e.raw")
                self.assertIn("No problems found", run("sgdisk", "--verify", "e.raw"), case)
                self.assertEqual([(p["start"], p["size"]) for p in sfdisk("e.raw")["partitions"]],
                                 [(2048, 98304), (122880, (599 - 60) * 2048)], case)
                self.part_of(kind, 60 * MIB, 539 * MIB)
                run("resize2fs", "part")
                run("e2fsck", "-fn", "part")

    def test_hostile_tables(self):
        self.make("label: dos\n1M,41M,83\n43M,,5\n44M,41M,83\n")
        with open("d.raw", "r+b") as f:  # a chain that leads back to itself
            f.seek(43 * MIB + 446 + 16)
            f.write(b"\0\0\0\0\5\0\0\0" + bytes(4) + b"\xff\xff\xff\xff")
        self.assertEqual(len(table("d.raw")["partitions"]), 3)
        self.make("label: gpt\nsize=50M\n")
        with open("d.raw", "r+b") as f:  # a bad CRC in the first header
            f.seek(512 + 80)
            f.write(b"\xff\xff\xff\xff")
        self.assertEqual(len(table("d.raw")["partitions"]), 1)

    def test_merge(self):
        with open("a.raw", "wb") as f:
            f.write(os.urandom(3 * MIB))
        img("convert", "-f", "raw", "-O", "qcow2", "a.raw", "base.qcow2")
        for child, parent in ("mid.qcow2", "base.qcow2"), ("top.qcow2", "mid.qcow2"):
            img("create", "-q", "-f", "qcow2", "-b", parent, "-F", "qcow2", child)
        run("qemu-io", "-c", "write -P 7 1M 64k", "mid.qcow2")
        run("qemu-io", "-c", "write -P 8 2M 64k", "top.qcow2")
        img("convert", "-O", "raw", "top.qcow2", "want.raw")
        disk("merge", "mid.qcow2", "top.qcow2")
        self.assertFalse(os.path.exists("mid.qcow2"))
        run("qemu-img", "compare", "-f", "raw", "want.raw", "top.qcow2")
        run("qemu-img", "check", "-q", "base.qcow2")

    def test_measure_and_dd(self):
        with open("a.raw", "wb") as f:
            f.truncate(77 * MIB)
            f.seek(5 * MIB)
            f.write(os.urandom(MIB))
        for extra in [], ["-o", "cluster_size=4096"], ["-o", "refcount_bits=64"]:
            words = ["measure", "--output=json", "-O", "qcow2", *extra]
            for source in ["-f", "raw", "a.raw"], ["--size", "10G"]:
                self.assertEqual(json.loads(img(*words, *source)), json.loads(run("qemu-img", *words, *source)))
        for extra in [], ["count=3"], ["skip=1"], ["skip=2", "count=100"], ["skip=400"]:
            words = ["dd", "-f", "raw", "-O", "raw", "bs=1000000", *extra, "if=a.raw"]
            img(*words, "of=ours")
            run("qemu-img", *words, "of=theirs")
            with open("ours", "rb") as a, open("theirs", "rb") as b:
                one, other = a.read(), b.read()
                self.assertEqual(one.rstrip(b"\0"), other.rstrip(b"\0"), extra)
                self.assertLess(abs(len(one) - len(other)), 512)

    def test_statuses(self):
        disk("nonsense", status=2)
        disk("info", status=2)
        disk("info", "--nothing", "a", status=2)
        disk("info", "missing", status=1)
        img("nonsense", status=1)
        img("info", status=1)
        disk("dd", "if=a", status=2)

    def test_convert_snapshot_and_salvage(self):
        with open("a.raw", "wb") as f:
            f.write(os.urandom(2 * MIB))
        img("convert", "-f", "raw", "-O", "qcow2", "a.raw", "s.qcow2")
        img("snapshot", "-c", "one", "s.qcow2")
        run("qemu-io", "-c", "write -P 7 0 2M", "s.qcow2")
        img("convert", "-l", "one", "-O", "raw", "s.qcow2", "b.raw")
        run("cmp", "a.raw", "b.raw")
        img("convert", "-c", "-f", "raw", "-O", "qcow2", "a.raw", "w.qcow2")
        for flags in ["-W", "-m", "3"], ["-C"], ["-S", "0"], ["-t", "writeback"]:
            img("convert", *flags, "-f", "raw", "-O", "qcow2", "a.raw", "w.qcow2")
            run("qemu-img", "compare", "-f", "raw", "a.raw", "w.qcow2")

    def test_salvage(self):
        text = b"".join(b"%08d\n" % i for i in range(100000))
        with open("a.raw", "wb") as f:
            f.write(text.ljust(MIB, b"."))
        img("convert", "-c", "-f", "raw", "-O", "qcow2", "a.raw", "bad.qcow2")
        with open("bad.qcow2", "r+b") as f:  # the second packed cluster becomes noise
            f.seek(40)
            f.seek(int.from_bytes(f.read(8), "big"))
            f.seek((int.from_bytes(f.read(8), "big") & 0xfffffffffffe00) + 8)
            f.seek(int.from_bytes(f.read(8), "big") & ((1 << 54) - 1))
            f.write(b"\xff" * 4000)
        img("create", "-q", "-f", "qcow2", "-b", "bad.qcow2", "-F", "qcow2", "top.qcow2")
        for source in "bad.qcow2", "top.qcow2":  # the one that fails is named
            done = subprocess.run([f"{BUILD}/qemu-img", "convert", "-O", "raw", source, "c.raw"], capture_output=True, text=True)
            self.assertEqual(done.returncode, 1)
            self.assertRegex(done.stderr, "cannot read '[./]*bad.qcow2'.*--salvage")
            self.assertFalse(os.path.exists("c.raw"))
        limited = f"trap '' XFSZ; ulimit -f 500; exec {BUILD}/qemu-img convert -f raw -O qcow2 a.raw c.raw"
        done = subprocess.run(["bash", "-c", limited], capture_output=True, text=True)
        self.assertEqual((done.returncode, "cannot write 'c.raw'" in done.stderr), (1, True), done.stderr)
        img("convert", "--salvage", "-O", "raw", "bad.qcow2", "c.raw")
        with open("c.raw", "rb") as f:
            got = f.read()
        self.assertEqual(got[:65536], text[:65536])
        self.assertEqual(got[65536:131072], bytes(65536))
        self.assertEqual(got[131072:len(text)], text[131072:])


if __name__ == "__main__":
    missing = [p for p in ("qemu-img", "sfdisk", "sgdisk", "mkntfs", "mkfs.fat", "mke2fs") if not shutil.which(p)]
    if missing:
        print(f"1..0 # SKIP not installed: {' '.join(missing)}")
        sys.exit(0)
    unittest.main(verbosity=2)
