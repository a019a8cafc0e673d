#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The disk commands under all their names, beside the real qemu-img. Usage: test_disk_cli.py BUILD"""
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

BUILD = os.path.abspath(sys.argv.pop(1))
REAL = shutil.which("qemu-img")
SIZE = 9 * 1024 * 1024 + 512 * 37
FORMATS = {"raw": "raw", "qcow2": "qcow2", "vdi": "vdi", "vmdk": "vmdk", "vhd": "vpc", "vhdx": "vhdx"}


def run(*args, status=0):
    done = subprocess.run(args, capture_output=True, text=True)
    assert done.returncode == status, f"{args}: {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


def disk(*args, **more):
    return run(f"{BUILD}/ospite", "disk", *args, **more)


def disk_error(*args):
    done = subprocess.run([f"{BUILD}/ospite", "disk", *args], capture_output=True, text=True)
    assert done.returncode == 1, f"{args}: {done.returncode}: {done.stdout}{done.stderr}"
    return done.stderr


def img(*args, **more):
    return run(f"{BUILD}/qemu-img", *args, **more)


def vbox(*args, **more):
    return run(f"{BUILD}/vboxmanage", *args, **more)


def real(*args, **more):
    return run(REAL, *args, **more)


def fill(path):
    rand = random.Random(5)
    with open(path, "wb") as f:
        f.truncate(SIZE)
        for _ in range(30):
            f.seek(rand.randrange(SIZE // 512 - 300) * 512)
            f.write(rand.randbytes(512) * rand.randrange(1, 300))


class DiskTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="ospite-cli-")
        os.chdir(self.folder)
        fill("a.raw")

    def tearDown(self):
        os.chdir("/")
        shutil.rmtree(self.folder)

    def test_commands_that_are_not_here(self):
        """What QEMU's has and this has not says what to take instead."""
        for word, instead in ("amend", "ospite disk convert -o"), ("bitmap", "convert --bitmaps"), ("nosuch", "qemu-img help"):
            done = subprocess.run([f"{BUILD}/qemu-img", word, "--add", "a", "b"], capture_output=True, text=True)
            self.assertEqual(done.returncode, 1)
            self.assertIn(instead, done.stderr)

    def test_convert_any_to_any(self):
        for first in FORMATS:
            disk("convert", "-f", "raw", "-O", first, "a.raw", "one")
            if REAL:
                real("compare", "-f", "raw", "-F", FORMATS[first], "a.raw", "one")
            for second in FORMATS:
                disk("convert", "-f", first, "-O", second, "one", "two")
                disk("compare", "-f", "raw", "-F", second, "a.raw", "two")
            os.unlink("one")

    def test_convert_theirs(self):
        for ours, theirs in FORMATS.items():
            real("convert", "-f", "raw", "-O", theirs, "a.raw", "one")
            img("convert", "-f", ours, "-O", "raw", "one", "out.raw")
            with open("a.raw", "rb") as a, open("out.raw", "rb") as b:
                self.assertEqual(a.read(), b.read(SIZE), ours)

    def test_convert_packed(self):
        for kind in "zlib", "zstd":
            img("convert", "-c", "-O", "qcow2", "-o", f"compression_type={kind}", "-f", "raw",
                "a.raw", "c.qcow2")
            real("compare", "-f", "raw", "-F", "qcow2", "a.raw", "c.qcow2")
            real("check", "-q", "c.qcow2")
            self.assertLess(os.stat("c.qcow2").st_size, 1 << 20)
        img("convert", "-O", "vmdk", "-o", "subformat=streamOptimized", "-f", "raw", "a.raw", "s.vmdk")
        real("compare", "-f", "raw", "-F", "vmdk", "a.raw", "s.vmdk")

    def test_convert_leaves_zeros_out(self):
        """Zeros that take up space in the source take none in the target, whatever is between them."""
        rand, at, data = random.Random(11), 0, 0
        with open("dense.raw", "wb") as f:
            while at < SIZE:
                part = min(rand.choice([4 << 10, 60 << 10, 64 << 10, 300 << 10, 2 << 20]), SIZE - at)
                is_data = rand.random() < 0.6
                f.write(rand.randbytes(part) if is_data else bytes(part))
                at += part
                data += part if is_data else 0
        for name, theirs in FORMATS.items():
            disk("convert", "-f", "raw", "-O", name, "dense.raw", "ours")
            real("convert", "-f", "raw", "-O", theirs, "dense.raw", "theirs")
            used, wanted = (os.stat(path).st_blocks * 512 for path in ("ours", "theirs"))
            self.assertLessEqual(used, wanted + (64 << 10), name)
            disk("convert", "-f", name, "-O", "raw", "ours", "back.raw")
            self.assertLessEqual(os.stat("back.raw").st_blocks * 512, data + (64 << 10), name)
            real("compare", "-f", "raw", "-F", "raw", "dense.raw", "back.raw")
            for path in "ours", "theirs", "back.raw":
                os.unlink(path)

    def test_convert_several(self):
        """Sources one after the other, whatever their formats, chains and ends."""
        with open("b.raw", "wb") as f:  # its end is in the middle of a sector, and of everything larger
            f.write(os.urandom(3 * 65536 + 1000))
        img("convert", "-c", "-f", "raw", "-O", "qcow2", "a.raw", "packed.qcow2")
        img("create", "-q", "-f", "qcow2", "-b", "packed.qcow2", "-F", "qcow2", "top.qcow2")
        real("convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized", "b.raw", "b.vmdk")
        run("qemu-io", "-c", "write -P 7 1M 192k", "top.qcow2")
        groups = ["a.raw", "b.raw", "a.raw"], ["b.vmdk", "top.qcow2", "b.vmdk", "packed.qcow2"], ["top.qcow2"] * 3
        for sources in groups:
            real("convert", *sources, "theirs")
            for flags in ["-O", "raw"], ["-O", "vdi"], ["-c", "-O", "qcow2"], ["-W", "-O", "qcow2"], ["-n", "-O", "raw"]:
                if "-n" in flags:
                    real("create", "-q", "-f", "raw", "ours", str(os.stat("theirs").st_size))
                img("convert", *flags, *sources, "ours")
                real("compare", "-f", "raw", "-F", flags[-1], "theirs", "ours")
                self.assertEqual(json.loads(real("info", "--output=json", "-f", flags[-1], "ours"))["virtual-size"],
                                 os.stat("theirs").st_size)
        disk("convert", "a.raw", "b.raw", "a.raw", status=2)
        disk("convert", "-B", "a.raw", "-O", "qcow2", "a.raw", "b.raw", "x", status=2)
        disk("convert", "-l", "one", "packed.qcow2", "packed.qcow2", "x", status=2)
        disk("convert", "a.raw", "missing", "x", status=1)
        self.assertFalse(os.path.exists("x"))

    def test_starts_with_few_libraries(self):
        """Everything large is a module, which commands that do without must not wait for."""
        needed = run("ldd", f"{BUILD}/ospite")
        names = {line.split()[0].split(".so")[0] for line in needed.splitlines()}
        allowed = {"linux-vdso", "libglib-2.0", "liburing", "libz", "libzstd", "libdeflate", "libc", "libpcre2-8", "libm", "libasan",
                   "libubsan", "libgcc_s", "libstdc++", "/lib64/ld-linux-x86-64"}
        self.assertEqual(names - allowed, set())
        opened = run("sh", "-c", f"LD_DEBUG=files {BUILD}/ospite disk info a.raw 2>&1")
        self.assertNotIn("libgio", opened)

    def test_missing_module(self):
        os.mkdir("bin")
        shutil.copy(f"{BUILD}/ospite", "bin/ospite")
        done = subprocess.run(["bin/ospite", "disk", "info", "nbd://host/"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("needs the part 'nbd' of Ospite", done.stderr)
        done = subprocess.run(["bin/ospite", "version"], capture_output=True, text=True)
        self.assertIn("is Ospite installed whole?", done.stderr)

    def make_encrypted(self):
        """Its boot sector says K on the serial port and ends the machine."""
        for name, key in ("key", "open sesame"), ("wrong", "abracadabra"):
            with open(name, "w", encoding="ascii") as file:
                file.write(key)
        with open("boot", "wb") as file:
            file.write(bytes.fromhex("baf803b04beeb000e6f4ebfe").ljust(510, b"\0") + b"\x55\xaa")
            file.truncate(1 << 20)
        disk("encrypt", "--new-key-file", "key", "-O", "qcow2", "boot", "secret")

    def test_encrypted_disk_of_a_machine(self):
        self.make_encrypted()
        options = ["--engine", "interp", "--display", "none", "--serial", "stdio", "--debug-exit", "0xf4"]
        for key, status, said in ("key", 1, "K"), ("wrong", 1, ""), ("none", 1, ""):
            done = subprocess.run([f"{BUILD}/ospite", "run", *options, "--disk", f"secret,key-file={key}"], capture_output=True,
                                  text=True, stdin=subprocess.DEVNULL, timeout=120)
            self.assertEqual((done.returncode, "K" in done.stdout), (status, bool(said)), done.stderr)
            self.assertEqual(bool(said), not done.stderr, done.stderr)
        done = subprocess.run([f"{BUILD}/ospite", "run", *options, "--disk", "secret"], capture_output=True, text=True, timeout=120)
        self.assertIn("encrypted", done.stderr)

    def test_bench(self):
        self.make_encrypted()
        for name in FORMATS:
            disk("convert", "-f", "raw", "-O", name, "a.raw", "one")
            result = json.loads(disk("bench", "--json", "-f", name, "--time", "1", "--block", "64K", "--depth", "4", "one"))
            self.assertEqual([p["pattern"] for p in result["patterns"]], ["randread", "read"])
            for pattern in result["patterns"]:
                self.assertAlmostEqual(pattern["bytes-per-second"], pattern["requests-per-second"] * 65536, delta=1e6)
                self.assertGreater(pattern["requests"], 4)
            disk("compare", "-f", "raw", "-F", name, "a.raw", "one")
        disk("bench", "--key-file", "key", "--time", "1", "--pattern", "read", "secret")
        disk("bench", "--pattern", "randwrite", "one", status=2)
        disk("compare", "-f", "raw", "a.raw", "one")
        self.assertIn("randwrite", disk("bench", "--time", "1", "--pattern", "write,randwrite", "--overwrite", "one"))
        disk("check", "one")
        for bad in (["--pattern", "sideways"], ["--depth", "0"], ["--block", "1G"], ["--depth", "1024", "--block", "1M"]):
            disk("bench", *bad, "one", status=2)
        disk("bench", "--block", "1000", "one", status=1)

    def test_preallocated_raw(self):
        for how in "falloc", "full":
            img("create", "-q", "-f", "raw", "-o", f"preallocation={how}", "r.raw", "3M")
            self.assertGreaterEqual(os.stat("r.raw").st_blocks * 512, 3 << 20)
            img("convert", "-f", "raw", "-O", "raw", "-o", f"preallocation={how}", "a.raw", "r.raw")
            self.assertGreaterEqual(os.stat("r.raw").st_blocks * 512, SIZE)
            real("compare", "-f", "raw", "-F", "raw", "a.raw", "r.raw")
        img("create", "-q", "-f", "raw", "-o", "preallocation=metadata", "bad.raw", "3M", status=1)
        self.assertFalse(os.path.exists("bad.raw"))

    def test_info_fields(self):
        img("create", "-q", "-f", "qcow2", "base.qcow2", "1G")
        img("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "top.qcow2")
        img("snapshot", "-c", "one", "top.qcow2")
        ours = json.loads(img("info", "--output=json", "top.qcow2"))
        theirs = json.loads(real("info", "--output=json", "top.qcow2"))
        for item in ours, theirs:
            item.pop("actual-size")
        ours["full-backing-filename"] = os.path.basename(ours["full-backing-filename"])
        theirs["full-backing-filename"] = os.path.basename(theirs["full-backing-filename"])
        self.assertEqual(ours, theirs)

    def test_map_fields(self):
        img("convert", "-f", "raw", "-O", "qcow2", "a.raw", "a.qcow2")
        ours = json.loads(img("map", "--output=json", "a.qcow2"))
        theirs = json.loads(real("map", "--output=json", "a.qcow2"))
        self.assertEqual(set(ours[0]) - {"offset"}, set(theirs[0]) - {"offset"})
        self.assertEqual([(e["start"], e["length"]) for e in ours if e["data"]],
                         [(e["start"], e["length"]) for e in theirs if e["data"]])
        self.assertEqual(sum(e["length"] for e in ours), SIZE)

    def test_encrypt(self):
        for name, text in ("key", "open sesame"), ("new", "friend"):
            with open(name, "w") as f:
                f.write(text)
        secret = ["--object", "secret,id=s,file=key"]
        luks = "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10"
        img("convert", *secret, "-f", "raw", "-O", "qcow2", "-o", luks, "a.raw", "l.qcow2")
        opts = "driver=qcow2,encrypt.key-secret=s,file.filename=l.qcow2"
        for tool in (img, real) if REAL else (img,):
            tool("convert", *secret, "--image-opts", opts, "-O", "raw", "out.raw")
            disk("compare", "-f", "raw", "-F", "raw", "a.raw", "out.raw")
        ours = json.loads(img("info", "--output=json", "l.qcow2"))
        self.assertTrue(ours["encrypted"])
        if REAL:
            theirs = json.loads(real("info", "--output=json", "l.qcow2"))
            self.assertEqual(ours["format-specific"], theirs["format-specific"])
        disk("check", "l.qcow2")
        disk("convert", "l.qcow2", "x.raw", status=1)
        self.assertFalse(os.path.exists("x.raw"))
        img("create", "-f", "qcow2", "--object", "secret,id=s,data=abc", "-o", luks, "x", "1M", status=1)
        # keys, and an image that is encrypted in its place
        disk("encrypt", "--key-file", "key", "--new-key-file", "new", "--add-key", "l.qcow2")
        disk("encrypt", "--key-file", "new", "--erase-key", "0", "l.qcow2")
        disk("convert", "-q", "--key-file", "key", "-O", "raw", "l.qcow2", "x.raw", status=1)
        disk("convert", "-q", "--key-file", "new", "-O", "raw", "l.qcow2", "x.raw")
        disk("compare", "-f", "raw", "-F", "raw", "a.raw", "x.raw")
        img("convert", "-f", "raw", "-O", "qcow2", "a.raw", "plain.qcow2")
        disk("encrypt", "--new-key-file", "key", "-o", "encrypt.iter-time=10", "plain.qcow2")
        self.assertTrue(json.loads(disk("info", "--json", "plain.qcow2"))["encrypted"])
        disk("convert", "-q", "--key-file", "key", "-O", "raw", "plain.qcow2", "y.raw")
        disk("compare", "-f", "raw", "-F", "raw", "a.raw", "y.raw")
        disk("encrypt", "--new-key-file", "key", "-o", "encrypt.iter-time=10", "a.raw", status=1)
        disk("encrypt", "--new-key-file", "key", "-O", "luks", "-o", "iter-time=10", "-f", "raw", "a.raw", "a.luks")
        disk("convert", "-q", "--key-file", "key", "-O", "raw", "a.luks", "z.raw")
        disk("compare", "-f", "raw", "-F", "raw", "a.raw", "z.raw")

    def test_check(self):
        img("convert", "-f", "raw", "-O", "qcow2", "a.raw", "a.qcow2")
        ours = json.loads(img("check", "--output=json", "a.qcow2"))
        theirs = json.loads(real("check", "--output=json", "a.qcow2"))
        self.assertEqual(ours, theirs)
        clusters = (os.stat("a.qcow2").st_size + 65535) // 65536
        os.truncate("a.qcow2", (clusters + 1) * 65536)
        with open("a.qcow2", "r+b") as f:  # a leak: the count of a cluster that nothing uses
            f.seek(48)
            f.seek(int.from_bytes(f.read(8), "big"))
            f.seek(int.from_bytes(f.read(8), "big") + 2 * clusters)
            f.write(b"\0\1")
        img("check", "a.qcow2", status=3)
        img("check", "-r", "leaks", "a.qcow2")
        real("check", "-q", "a.qcow2")
        img("check", "a.raw", status=63)

    def test_compare(self):
        shutil.copy("a.raw", "b.raw")
        self.assertIn("identical", img("compare", "-f", "raw", "-F", "raw", "a.raw", "b.raw"))
        with open("b.raw", "r+b") as f:
            f.seek(1234567)
            byte = f.read(1)
            f.seek(1234567)
            f.write(bytes([byte[0] ^ 1]))
        self.assertIn("1234567",
                      img("compare", "-f", "raw", "-F", "raw", "a.raw", "b.raw", status=1))
        img("compare", "a.raw", "missing", status=2)

    def test_chain(self):
        img("convert", "-f", "raw", "-O", "qcow2", "a.raw", "base.qcow2")
        for kind in "qcow2", "vdi", "vmdk", "vhd":
            top = f"top.{kind}"
            disk("create", "-q", "-f", kind, "-b", "base.qcow2", top)
            disk("compare", "-f", "raw", "-F", kind, "a.raw", top)
            shutil.copy("base.qcow2", "other.qcow2")
            disk("rebase", "-b", "other.qcow2", "-F", "qcow2", top)
            os.unlink("other.qcow2")
            disk("rebase", "-u", "-b", "base.qcow2", "-F", "qcow2", top)
            disk("rebase", "-b", "", top)
            disk("compare", "-f", "raw", "-F", kind, "a.raw", top)
            self.assertNotIn("backing-filename", json.loads(disk("info", "--json", top)))

    def test_commit(self):
        img("convert", "-f", "raw", "-O", "qcow2", "a.raw", "base.qcow2")
        img("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "top.qcow2")
        run("qemu-io", "-c", "write -P 77 1M 300k", "-c", "write -z 3M 64k", "top.qcow2")
        img("convert", "-O", "raw", "top.qcow2", "want.raw")
        disk("commit", "top.qcow2")
        real("compare", "-f", "raw", "want.raw", "base.qcow2")
        real("check", "-q", "base.qcow2")

    def make_chain(self, kind):
        """In a folder of its own, a parent, and what a child of it shall hold."""
        os.mkdir(kind)
        os.chdir(kind)
        shutil.copy("../a.raw", "want.raw")
        with open("want.raw", "r+b") as f:
            f.seek(1 << 20)
            f.write(b"\x4d" * 300 * 1024)
            f.seek(3 << 20)
            f.write(bytes(64 * 1024))
        disk("convert", "-q", "-f", "raw", "-O", kind, "want.raw", "other")
        disk("convert", "-q", "-f", "raw", "-O", kind, "../a.raw", "base")

    def test_commit_empties(self):
        for kind in ("qcow2", "vdi", "vhd", "vhdx", "vmdk"):
            for keep in [], ["-d"], ["-b", "base"]:
                self.make_chain(kind)
                # The child comes to have data by leaving the parent that it equals for another.
                disk("create", "-q", "-f", kind, "-b", "other", "-F", kind, "top")
                disk("rebase", "-b", "base", "-F", kind, "-f", kind, "top")
                self.assertTrue(self.has_own(kind))
                disk("commit", "-f", kind, *keep, "top")
                disk("compare", "-q", "-f", "raw", "-F", kind, "want.raw", "top")
                self.assertEqual(self.has_own(kind), bool(keep), f"{kind} {keep}")
                if kind != "vhd":  # qemu-img rounds its size
                    real("compare", "-q", "-f", "raw", "-F", FORMATS[kind], "want.raw", "base")
                disk("check", "-f", kind, "top")
                os.chdir("..")
                shutil.rmtree(kind)

    def has_own(self, kind):
        return any(m["depth"] == 0 and m["present"] for m in json.loads(disk("map", "--json", "-f", kind, "top")))

    def test_commit_like_qemu(self):
        make = ["-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2"]
        maps = []
        for tool in img, real:
            for option in [], ["-d"]:
                real("convert", "-f", "raw", "-O", "qcow2", "a.raw", "base.qcow2")
                real("create", *make, "top.qcow2")
                run("qemu-io", "-c", "write -P 77 1M 300k", "-c", "write -z 3M 64k", "top.qcow2")
                tool("commit", "-q", *option, "top.qcow2")
                real("check", "-q", "top.qcow2")
                real("convert", "-O", "raw", "base.qcow2", f"{tool.__name__}{len(option)}.raw")
                found = json.loads(real("map", "--output=json", "top.qcow2"))
                maps.append([(m["start"], m["length"], m["zero"]) for m in found if m["depth"] == 0])
        self.assertEqual(maps[:2], maps[2:])
        for i in "01":
            real("compare", "-f", "raw", "-F", "raw", f"img{i}.raw", f"real{i}.raw")
        self.assertEqual(maps[0], [])
        img("commit", "-b", "a.raw", "top.qcow2", status=1)

    def test_resize(self):
        for kind in [*FORMATS, "qcow"]:
            disk("create", "-q", "-f", kind, "r", "100M")
            disk("resize", "-q", "-f", kind, "r", "+400G")
            info = json.loads(disk("info", "--json", "-f", kind, "r"))
            self.assertEqual(info["virtual-size"], (100 << 20) + (400 << 30), kind)
            disk("resize", "-f", kind, "r", "1M", status=1)
            disk("resize", "-q", "-f", kind, "--shrink", "r", "1M")
            os.unlink("r")

    def test_resize_qcow(self):
        """In the table's place, then with a longer table."""
        for maker in img, real:
            maker("convert", "-f", "raw", "-O", "qcow", "a.raw", "r.qcow")
            shutil.copy("a.raw", "want.raw")
            for size in SIZE + 512, 3 << 20, 40 << 20, 5 << 30, 1 << 20, 2 << 30:
                disk("resize", "-q", "--shrink", "r.qcow", str(size))
                os.truncate("want.raw", size)
                for offset in size - 512, size // 2 // 512 * 512:
                    run("qemu-io", "-f", "qcow", "-c", f"write -q -P 9 {offset} 512", "r.qcow")
                    run("qemu-io", "-f", "raw", "-c", f"write -q -P 9 {offset} 512", "want.raw")
                real("compare", "-q", "-f", "raw", "-F", "qcow", "want.raw", "r.qcow")
                disk("compare", "-q", "-f", "raw", "-F", "qcow", "want.raw", "r.qcow")
        disk("resize", "r.qcow", "4E", status=1)

    def test_resize_vmdk(self):
        """Of every kind, with what other programs make as well."""
        for kind in "monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat", "streamOptimized":
            for maker in img, real:
                maker("convert", "-f", "raw", "-O", "vmdk", "-o", f"subformat={kind}", "a.raw", "r.vmdk")
                shutil.copy("a.raw", "want.raw")
                more = (5 << 30, 3 << 30, 9 << 30) if kind.startswith("twoGb") else (700 << 20, 3 << 20, (40 << 20) + 512, 5 << 30)
                for size in SIZE + 512, *more, 1 << 20:
                    disk("resize", "-q", "--shrink", "r.vmdk", str(size))
                    os.truncate("want.raw", size)
                    for offset in size - 512, size // 2 // 512 * 512:
                        self.write_sector("r.vmdk", "vmdk", offset, kind == "streamOptimized")
                        self.write_sector("want.raw", "raw", offset)
                    real("compare", "-q", "-f", "raw", "-F", "vmdk", "want.raw", "r.vmdk")
                    disk("compare", "-q", "-f", "raw", "-F", "vmdk", "want.raw", "r.vmdk")
                    disk("check", "r.vmdk")
                    if kind == "monolithicSparse":  # qemu-img checks no other
                        real("check", "-q", "r.vmdk")
                parts = [name for name in os.listdir() if name.startswith("r") and name != "r.vmdk"]
                self.assertLessEqual(len(parts), 1, parts)
                for name in [*parts, "r.vmdk"]:
                    os.unlink(name)

    @staticmethod
    def write_sector(path, kind, offset, by_us=False):
        """qemu writes no packed grains over others."""
        if not by_us:
            run("qemu-io", "-f", kind, "-c", f"write -q -P 9 {offset} 512", path)
            return
        with open("sector", "wb") as f:
            f.truncate(offset)
            f.seek(offset)
            f.write(b"\x09" * 512)
        disk("convert", "-q", "-O", "raw", path, "changed")
        with open("changed", "r+b") as f:
            f.seek(offset)
            f.write(b"\x09" * 512)
        disk("create", "-q", "-f", "qcow2", "-b", path, "-F", kind, "over")
        disk("rebase", "-q", "-u", "-b", "changed", "-F", "raw", "over")
        disk("rebase", "-q", "-b", path, "-F", kind, "over")
        disk("commit", "-q", "over")

    def test_resize_vmdk_parts(self):
        """New parts take no name that a file has; those that a smaller disk has not are gone."""
        def parts():
            return sorted(name for name in os.listdir() if name.startswith("s-"))
        for kind, letter in ("twoGbMaxExtentSparse", "s"), ("twoGbMaxExtentFlat", "f"):
            img("create", "-q", "-f", "vmdk", "-o", f"subformat={kind}", "s.vmdk", "9M")
            with open(f"s-{letter}002.vmdk", "w", encoding="ascii") as f:
                f.write("mine")
            os.chmod("s.vmdk", 0o640)
            os.symlink("s.vmdk", "link")
            disk("resize", "-q", "link", "6G")
            self.assertTrue(os.path.islink("link"))
            self.assertEqual(os.stat("s.vmdk").st_mode & 0o777, 0o640)
            self.assertEqual(parts(), [f"s-{letter}00{n}.vmdk" for n in (1, 2, 3, 4, 5)])
            with open(f"s-{letter}002.vmdk", encoding="ascii") as f:
                self.assertEqual(f.read(), "mine")
            self.assertEqual(json.loads(real("info", "--output=json", "s.vmdk"))["virtual-size"], 6 << 30)
            disk("resize", "-q", "--shrink", "s.vmdk", "9M")
            self.assertEqual(parts(), [f"s-{letter}00{n}.vmdk" for n in (1, 2)])
            for name in [*parts(), "s.vmdk", "link"]:
                os.unlink(name)

    def test_resize_vmdk_leaves_what_is_not_its_own(self):
        """Of a descriptor made by hand: files stay, and no data of theirs come into the disk."""
        with open("a.raw", "rb") as f:
            content = f.read()
        shutil.copy("a.raw", "b.raw")
        def describe(*lines):
            with open("h.vmdk", "w", encoding="ascii") as f:
                f.write("\n".join(["# Disk DescriptorFile", "version=1", "CID=12345678", "parentCID=ffffffff", 'createType="custom"', "",
                                   *lines, ""]))
        sectors = SIZE // 512
        describe(f'RW {sectors} FLAT "a.raw" 0', f'RW {sectors - 5} FLAT "b.raw" 5')
        disk("resize", "-q", "h.vmdk", str(2 * SIZE))
        disk("resize", "-q", "--shrink", "h.vmdk", "1M")
        for name, size in ("a.raw", 1 << 20), ("b.raw", SIZE + 512 * 5):
            with open(name, "rb") as f:
                self.assertEqual(f.read(), content[:size].ljust(size, b"\0"))
        describe('RW 100 FLAT "b.raw" 0')
        self.assertIn("has data behind", disk_error("resize", "-q", "h.vmdk", "5M"))
        describe('RW 100 FLAT "b.raw" 0', 'RW 100 FLAT "b.raw" 100')
        self.assertIn("several of its extents", disk_error("resize", "-q", "h.vmdk", "5M"))
        with open("b.raw", "rb") as f:
            self.assertEqual(f.read(), content.ljust(SIZE + 512 * 5, b"\0"))

    def test_compact_vdi(self):
        """Other products put the next block where the header's count is: compacting leaves no gaps, and the file is shorter."""
        with open("full.raw", "wb") as f:
            f.write(random.Random(3).randbytes(1 << 20) * 12)
        real("convert", "-f", "raw", "-O", "vdi", "full.raw", "c.vdi")
        for where in "full.raw", "c.vdi":
            for mib in 0, 4, 5, 10:
                run("qemu-io", "-f", "vdi" if where == "c.vdi" else "raw", "-c", f"write -q -P 0 {mib}M 1M", where)
        disk("compact", "c.vdi")
        real("check", "-q", "c.vdi")
        self.assertLess(os.stat("c.vdi").st_size, 9 << 20)  # 8 blocks of 12
        for mib in 10, 0, 5:  # new blocks
            run("qemu-io", "-f", "vdi", "-c", f"write -q -P 7 {mib}M 4k", "c.vdi")
            run("qemu-io", "-f", "raw", "-c", f"write -q -P 7 {mib}M 4k", "full.raw")
        real("check", "-q", "c.vdi")
        real("compare", "-f", "raw", "-F", "vdi", "full.raw", "c.vdi")
        disk("compare", "-f", "raw", "-F", "vdi", "full.raw", "c.vdi")

    def test_resize_preallocation(self):
        for kind in "raw", "qcow2", "vdi", "vmdk", "vhd", "vhdx":
            for how in "off", "metadata", "falloc", "full":
                disk("convert", "-f", "raw", "-O", kind, "a.raw", "r")
                before = os.stat("r").st_blocks
                if kind == "raw" and how == "metadata":
                    img("resize", "-q", "-f", kind, f"--preallocation={how}", "r", "20M", status=1)
                    self.assertEqual(os.stat("r").st_size, SIZE)
                    continue
                img("resize", "-q", "-f", kind, f"--preallocation={how}", "r", "20M")
                new = 512 * (os.stat("r").st_blocks - before)
                self.assertEqual(new > 10 << 20, how in ("falloc", "full"), f"{kind} {how} {new}")
                entries = json.loads(disk("map", "--json", "-f", kind, "r"))
                kept = [e for e in entries if e["start"] + e["length"] > 18 << 20]
                self.assertEqual(all(e["present"] for e in kept), how != "off" or kind == "raw", f"{kind} {how}")
                disk("resize", "-q", "-f", kind, "--shrink", "r", str(SIZE))
                real("compare", "-f", "raw", "-F", FORMATS[kind], "a.raw", "r")
        img("create", "-q", "-f", "qcow2", "r.qcow2", "10M")
        img("resize", "--shrink", "--preallocation=full", "r.qcow2", "5M", status=1)
        img("resize", "--preallocation=much", "r.qcow2", "50M", status=1)
        real("resize", "-q", "r.qcow2", "12M")
        img("resize", "-q", "--preallocation=metadata", "r.qcow2", "40M")
        real("check", "-q", "r.qcow2")

    def test_vmdk_words(self):
        """Of the descriptor, as qemu-img writes them."""
        for kind in "monolithicSparse", "monolithicFlat":
            for words in "compat6", "hwversion=10", "adapter_type=lsilogic", "adapter_type=legacyESX,toolsversion=9", "":
                texts = []
                for tool in img, real:
                    tool("create", "-q", "-f", "vmdk", "-o", f"subformat={kind},{words}".rstrip(","), "w.vmdk", "2G")
                    with open("w.vmdk", "rb") as f:
                        data = f.read(65536)
                    texts.append([line for line in data.decode("latin-1").split("\n") if line.startswith("ddb.")])
                self.assertEqual(texts[0], texts[1], words)
        for words in "compat6,hwversion=7", "adapter_type=usb", 'hwversion=1"':
            img("create", "-q", "-f", "vmdk", "-o", words, "x.vmdk", "2G", status=1)
            self.assertFalse(os.path.exists("x.vmdk"))

    def test_image_options(self):
        """Each source says for itself what it is, and so can the target."""
        with open("key", "w", encoding="ascii") as f:
            f.write("open sesame")
        secret = ["--object", "secret,id=s,file=key"]
        img("convert", *secret, "-f", "raw", "-O", "qcow2", "-o", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10",
            "a.raw", "l.qcow2")
        img("convert", "-f", "raw", "-O", "vmdk", "a.raw", "b.vmdk")
        sources = ["driver=vmdk,file.filename=b.vmdk", "driver=qcow2,encrypt.key-secret=s,file.filename=l.qcow2",
                   "driver=raw,file.filename=a.raw"]
        for tool in img, real:
            tool("convert", *secret, "--image-opts", "-O", "raw", *sources, "out.raw")
            tool("compare", *secret, "--image-opts", *sources[:2])
            tool("dd", "--image-opts", "-O", "raw", "bs=1M", f"if={sources[0]}", "of=dd.raw")
            tool("create", "-q", "-f", "vdi", "t.vdi", str(SIZE))
            tool("convert", "-n", "--target-image-opts", "-f", "raw", "a.raw", "driver=vdi,file.filename=t.vdi")
            with open("a.raw", "rb") as a, open("out.raw", "rb") as out, open("dd.raw", "rb") as copied:
                data = a.read()
                self.assertTrue(out.read() == data * 3 and copied.read() == data)
            real("compare", "-f", "raw", "-F", "vdi", "a.raw", "t.vdi")
            os.unlink("out.raw")
        img("convert", "--target-image-opts", "-f", "raw", "a.raw", "driver=vdi,file.filename=t.vdi", status=1)

    def test_map_range(self):
        img("convert", "-f", "raw", "-O", "qcow2", "a.raw", "a.qcow2")
        for words in (["--start-offset=1M"], ["--max-length=300k"], ["--start-offset=100k", "--max-length=4M"],
                      ["--start-offset=1G"], ["--start-offset=5000", "--max-length=513"]):
            self.assertEqual(img("map", *words, "a.qcow2"), real("map", *words, "a.qcow2"), words)
        img("map", "--start-offset=ten", "a.qcow2", status=1)

    def test_like_qemu(self):
        """What scripts pass, and what they get."""
        for kind in "raw", "qcow", "vpc":
            img("create", "-q", "-f", kind, "c", "10M")
            for tool in img, real:
                done = subprocess.run([f"{BUILD}/qemu-img" if tool == img else REAL, "check", "-f", kind, "c"],
                                      capture_output=True, text=True)
                self.assertEqual((done.returncode, done.stdout, done.stderr),
                                 (63, "", "qemu-img: This image format does not support checks\n"))
        disk("check", "-f", "vhd", "c")
        img("create", "-q", "-f", "qcow2", "b.qcow2", "10M")
        for tool in img, real:
            for words in (["create", "-f", "qcow2", "-o", "help"], ["convert", "-O", "vmdk", "-o", "help"],
                          ["check", "-T", "none", "b.qcow2"], ["compare", "-T", "none", "b.qcow2", "b.qcow2"],
                          ["info", "-U", "b.qcow2"], ["map", "-U", "b.qcow2"], ["measure", "-U", "-O", "qcow2", "b.qcow2"],
                          ["convert", "-T", "none", "-m", "4", "-W", "b.qcow2", "x.raw"]):
                tool(*words)
            tool("create", "-q", "-f", "qcow2", "-b", "b.qcow2", "-F", "qcow2", "t.qcow2")
            tool("rebase", "-U", "-t", "writeback", "-T", "none", "-u", "-b", "b.qcow2", "-F", "qcow2", "t.qcow2")
            tool("commit", "-q", "-r", "100M", "-t", "writeback", "t.qcow2")
        self.assertIn("adapter_type", img("create", "-f", "vmdk", "-o", "help"))

    # Words, and where something comes of them, its name and format.
    ODD_WORDS = """
        create -q -f qcow2 -o preallocation=bad out 10M
        create -q -f qcow2 -o nocow=on out 10M : qcow2
        create -q -f raw -o nocow=on out 10M : raw
        create -q -f vpc -o force_size=on out 10M : vpc
        create -q -f vhdx -o subformat=fixed,block_state_zero=off out 10M : vhdx
        check -r some a.qcow2
        check -r leaks --output=json a.qcow2
        convert -l snapshot.id=1,snapshot.name=one -O raw a.qcow2 out : raw
        convert -l snapshot.id=2,snapshot.name=one -O raw a.qcow2 out
        convert -l snapshot.name=two -O raw a.qcow2 out : raw
        convert -l three -O raw a.qcow2 out
        convert -O qcow2 -o backing_file=a.qcow2,backing_fmt=qcow2 t.qcow2 out : qcow2
        convert --target-is-zero -O raw a.qcow2 out
        convert -C -S 4k -O raw a.qcow2 out
        convert --salvage -C -O raw a.qcow2 out
        convert -m 0 -O raw a.qcow2 out
        convert -m 17 -O raw a.qcow2 out
        convert -T bad -O raw a.qcow2 out
        rebase -t bad -u -b a.qcow2 -F qcow2 t.qcow2
        commit -t bad t.qcow2
        dd bs=1M skip=100 if=a.raw of=out : raw
        dd bs=64k count=9 if=a.raw of=out : raw
        compare a.raw
        compare -s a.raw a.qcow2
        measure --size 10G -O qcow2 --object secret,id=s,file=key -o encrypt.format=luks,encrypt.key-secret=s --output=json
        measure --size 10G -O qcow2 --object secret,id=s,file=key -o encrypt.format=luks,encrypt.key-secret=s,encrypt.cipher-alg=aes-128,encrypt.cipher-mode=cbc --output=json
        measure --size 10G -O luks --object secret,id=s,file=key -o key-secret=s --output=json
        measure -O raw -l snapshot.name=two a.qcow2 --output=json
        measure -O qcow2 -l snapshot.name=three a.qcow2
        snapshot a.qcow2
        snapshot -l a.qcow2
        snapshot -l a.vdi
        snapshot -c x a.vdi
        snapshot -l -c x a.qcow2
        info a.qcow2
        resize --shrink a.qcow2 -1M : qcow2 a.qcow2
        resize --shrink -f qcow2 a.qcow2 -512 : qcow2 a.qcow2
        resize a.qcow2 -1M
    """

    def test_words_of_qemu(self):
        """Statuses, what is printed, and what is made, by words that tests elsewhere don't have."""
        with open("key", "w", encoding="ascii") as f:
            f.write("open sesame")
        for line in filter(None, map(str.strip, self.ODD_WORDS.splitlines())):
            words, _, made = line.partition(" : ")
            kind, name = f"{made or None} out".split()[:2]
            results = []
            for tool, program in ("img", f"{BUILD}/qemu-img"), ("real", REAL):
                for old in "a.qcow2", "t.qcow2", "a.vdi", "out":
                    if os.path.exists(old):
                        os.unlink(old)
                real("convert", "-f", "raw", "-O", "qcow2", "a.raw", "a.qcow2")
                for tag in "one", "two":
                    real("snapshot", "-c", tag, "a.qcow2")
                real("create", "-q", "-f", "qcow2", "-b", "a.qcow2", "-F", "qcow2", "t.qcow2")
                real("create", "-q", "-f", "vdi", "a.vdi", "1M")
                done = subprocess.run([program, *words.split()], capture_output=True, text=True)
                while "accurate CPU usage" in done.stderr:  # qemu's luck on a busy host
                    done = subprocess.run([program, *words.split()], capture_output=True, text=True)
                said = re.sub(r"disk size: .*|....-..-.. ..:..:..", "", done.stdout)
                results.append((done.returncode, json.loads(said) if "=json" in words and said else said, bool(done.stderr)))
                if made:
                    shutil.copy(name, tool)
            self.assertEqual(*results, line)
            if made:
                real("compare", "-q", "-f", kind, "-F", kind, "img", "real")
                sizes = [json.loads(real("info", "--output=json", "-f", kind, tool))["virtual-size"] for tool in ("img", "real")]
                self.assertEqual(*sizes, line)

    def changed_since(self, path, bitmap):
        """Where qemu's server says that the bitmap has something."""
        socket = f"{self.folder}/bitmap.sock"
        server = subprocess.Popen(["qemu-nbd", "-r", "-t", "-f", "qcow2", "-B", bitmap, "-k", socket, path])
        try:
            while not os.path.exists(socket):
                self.assertIsNone(server.poll())
                time.sleep(0.01)
            options = f"driver=nbd,server.type=unix,server.path={socket},x-dirty-bitmap=qemu:dirty-bitmap:{bitmap}"
            return real("map", "--output=json", "--image-opts", options)
        finally:
            server.terminate()
            server.wait()
            if os.path.exists(socket):
                os.unlink(socket)

    def test_convert_bitmaps(self):
        """They say the same as before, in images of other cluster sizes, over parents, and to the next who writes."""
        real("convert", "-f", "raw", "-O", "qcow2", "a.raw", "base.qcow2")
        real("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "s.qcow2")
        for name, *more in ("one", "-g", "512"), ("two", "--disable"), ("all", "-g", "4k"):
            real("bitmap", "--add", *more, "s.qcow2", name)
        run("qemu-io", "-c", "write -P 3 1M 300k", "-c", "write -P 4 5M 512", "-c", "write -z 7M 1M", "s.qcow2")
        real("bitmap", "--disable", "s.qcow2", "one")
        for options in [], ["-o", "cluster_size=4k"], ["-o", "cluster_size=2M"], ["-c"], ["-B", "base.qcow2", "-F", "qcow2"]:
            for tool in img, real:
                tool("convert", "--bitmaps", "-O", "qcow2", *options, "s.qcow2", "out.qcow2")
                details = json.loads(real("info", "--output=json", "out.qcow2"))["format-specific"]["data"]
                self.assertEqual([(b["name"], b["granularity"], b["flags"]) for b in details["bitmaps"]],
                                 [("one", 512, []), ("two", 65536, []), ("all", 4096, ["auto"])], tool)
                self.assertIn('"start": 1048576, "length": 307200', self.changed_since("out.qcow2", "one"))
                for name in "one", "two", "all":
                    self.assertEqual(self.changed_since("out.qcow2", name), self.changed_since("s.qcow2", name), name)
                real("check", "-q", "out.qcow2")
                disk("check", "out.qcow2")
                real("compare", "-q", "s.qcow2", "out.qcow2")
                run("qemu-io", "-c", "write -P 3 2M 300k", "out.qcow2")
                disk("resize", "-q", "out.qcow2", "20M")
                real("check", "-q", "out.qcow2")
                os.unlink("out.qcow2")

    def test_convert_bitmaps_refusals(self):
        real("convert", "-f", "raw", "-O", "qcow2", "a.raw", "s.qcow2")
        img("convert", "--bitmaps", "-O", "qcow2", "s.qcow2", "out.qcow2")  # it has none
        for name in "one", "two":
            real("bitmap", "--add", "s.qcow2", name)
        with open("s.qcow2", "rb") as f:
            data = bytearray(f.read())
        extension = data.find(bytes.fromhex("23852875"))
        entry = int.from_bytes(data[extension + 24:extension + 32], "big")
        data[entry + 15] |= 1  # in use
        for name, content in ("used.qcow2", data), ("bad.qcow2", data[:entry] + b"\xff" * 200 + data[entry + 200:]):
            with open(name, "wb") as f:
                f.write(content)
        for words in (["-f", "raw", "-O", "qcow2", "a.raw"], ["-O", "vdi", "s.qcow2"], ["-O", "qcow2", "-o", "compat=0.10", "s.qcow2"],
                      ["-O", "qcow2", "s.qcow2", "s.qcow2"], ["-O", "qcow2", "used.qcow2"], ["-O", "qcow2", "bad.qcow2"]):
            img("convert", "--bitmaps", *words, "new", status=1)
            self.assertFalse(os.path.exists("new"), words)
        img("convert", "--skip-broken-bitmaps", "-O", "qcow2", "s.qcow2", "new", status=1)
        self.make_bitmap_bomb()
        done = subprocess.run([f"{BUILD}/qemu-img", "convert", "--bitmaps", "-O", "qcow2", "bomb.qcow2", "new"], capture_output=True,
                              text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("too large", done.stderr)
        self.assertFalse(os.path.exists("new"))
        img("convert", "--bitmaps", "--skip-broken-bitmaps", "-O", "qcow2", "used.qcow2", "out.qcow2")
        details = json.loads(real("info", "--output=json", "out.qcow2"))["format-specific"]["data"]
        self.assertEqual([b["name"] for b in details["bitmaps"]], ["two"])
        img("convert", "-n", "--bitmaps", "-O", "qcow2", "s.qcow2", "out.qcow2", status=1)

    @staticmethod
    def make_bitmap_bomb():
        """Thousands of bitmaps whose bits are the same 8 MiB of one table."""
        real("create", "-q", "-f", "qcow2", "bomb.qcow2", "32G")
        real("bitmap", "--add", "-g", "512", "bomb.qcow2", "one")
        with open("bomb.qcow2", "r+b") as f:
            head = f.read(65536)
            extension = head.find(bytes.fromhex("23852875"))
            f.seek(int.from_bytes(head[extension + 24:extension + 32], "big"))
            entry = f.read(32)
            end = f.seek(0, os.SEEK_END)
            f.seek(-(-end // 65536) * 65536)
            place = f.tell()
            f.write(entry * 2000)
            f.seek(extension + 8)
            f.write((2000).to_bytes(4, "big") + bytes(4) + (64000).to_bytes(8, "big") + place.to_bytes(8, "big"))

    def test_untrusted_names(self):
        os.mkdir("in")
        img("create", "-q", "-f", "qcow2", "-b", f"{self.folder}/a.raw", "-F", "raw", "in/t.qcow2")
        disk("map", "in/t.qcow2", status=1)
        disk("map", "--trust-backing", "in/t.qcow2")
        disk("info", "in/t.qcow2")

    def test_vboxmanage(self):
        self.assertIn("UUID", vbox("createhd", "--filename", "v.vdi", "--size", "64"))
        vbox("modifyhd", "v.vdi", "--resize", "128")
        self.assertIn("128 MBytes", vbox("showhdinfo", "v.vdi"))
        vbox("convertdd", "a.raw", "d.vdi")
        real("compare", "-f", "raw", "-F", "vdi", "a.raw", "d.vdi")
        vbox("clonehd", "d.vdi", "d.vmdk", "--format", "VMDK")
        real("compare", "-f", "raw", "-F", "vmdk", "a.raw", "d.vmdk")
        uuid = "12345678-9abc-def0-1234-56789abcdef0"
        self.assertIn(uuid, vbox("internalcommands", "sethduuid", "d.vdi", uuid))
        self.assertIn(uuid, vbox("showmediuminfo", "d.vdi"))
        disk("convert", "-f", "raw", "-O", "vhd", "a.raw", "d.vhd")
        for name in "d.vmdk", "d.vhd":
            self.assertIn(uuid, vbox("internalcommands", "sethduuid", name, uuid))
            self.assertIn(uuid, vbox("showmediuminfo", name))
            disk("compare", "d.vdi", name)
            self.assertIn("UUID changed to", vbox("internalcommands", "sethduuid", name))
            self.assertNotIn(uuid, vbox("showmediuminfo", name))
        real("compare", "-f", "vmdk", "-F", "vpc", "d.vmdk", "d.vhd")
        vbox("internalcommands", "sethduuid", "a.raw", status=1)
        vbox("modifymedium", "disk", "d.vdi", "--compact")
        vbox("internalcommands", "createrawvmdk", "-filename", "w.vmdk", "-rawdisk", "a.raw")
        disk("compare", "-f", "raw", "a.raw", "w.vmdk")

    def test_vboxmanage_tutorials(self):
        """Words as they are printed, old ones, too."""
        uuid = "12345678-9abc-def0-1234-56789abcdef0"
        with open("a.raw", "rb") as f:
            raw = f.read()
        self.assertRegex(vbox("createhd", "--filename", "x", "--size", "10", "--format", "VDI", "--variant", "Fixed"), "UUID: .{36}\n$")
        self.assertEqual(os.stat("x.vdi").st_size, 11 << 20)
        vbox("createmedium", "disk", "--filename", "y", "--size", "10", "--format", "VMDK", "--variant", "Split2G")
        self.assertTrue(os.path.exists("y-s001.vmdk"))
        vbox("createhd", "--filename=z.vhd", "--size=10", "--format=VHD", "--variant=Standard")
        vbox("modifyhd", "--resize", "20", "z.vhd")
        self.assertIn("20 MBytes", vbox("showhdinfo", "z.vhd"))
        for size in "abc", "-5", "1G", "":
            vbox("modifyhd", "z.vhd", "--resize", size, status=1)
            vbox("createhd", "--filename", "bad.vdi", "--size", size, status=1)
        self.assertFalse(os.path.exists("bad.vdi"))
        vbox("modifyvdi", "x.vdi", "compact")
        vbox("clonehd", "--format", "VMDK", "x.vdi", "c.vmdk")
        real("compare", "-f", "vdi", "-F", "vmdk", "x.vdi", "c.vmdk")
        for words, size in (["--format", "VDI"], SIZE), ([], SIZE + (1 << 20)), (["--format", "VMDK", "--variant", "Stream"], SIZE):
            with open("a.raw", "rb") as f:
                subprocess.run([f"{BUILD}/vboxmanage", "convertfromraw", "stdin", "s", str(size), *words], stdin=f, check=True,
                               stdout=subprocess.DEVNULL)
            vbox("internalcommands", "converttoraw", "s", "s.raw")
            with open("s.raw", "rb") as f:
                self.assertEqual(f.read(), raw + bytes(size - SIZE))
        vbox("convertfromraw", "stdin", "s", status=1)
        vbox("convertdd", "a.raw", "d.vdi", "--uuid", uuid)
        self.assertIn(uuid, vbox("showhdinfo", "d.vdi"))
        vbox("clonehd", "d.vdi", "d.raw", "--format", "RAW")
        with open("d.raw", "rb") as f:
            self.assertEqual(f.read(), raw)
        self.assertIn("created successfully",
                      vbox("internalcommands", "createrawvmdk", "-filename", "w.vmdk", "-rawdisk", f"{self.folder}/a.raw"))
        vbox("internalcommands", "createrawvmdk", "-filename", "w.vmdk", "-rawdisk", "a.raw", status=1)  # is there already
        vbox("internalcommands", "createrawvmdk", "-filename", "p.vmdk", "-rawdisk", "a.raw", "-partitions", "1,2", status=1)
        self.assertFalse(os.path.exists("p.vmdk"))

    @unittest.skipUnless(shutil.which("sfdisk"), "not installed: sfdisk")
    def test_vboxmanage_partitions(self):
        """Of a disk, some; the tables are a copy, the rest is zeros."""
        tables = {"dos": ("label: dos", "64,2000,83", "2100,,5", "2200,1000,83", "4000,,7"), "gpt": ("label: gpt", "2048,3000", "6000,1000")}
        for label, lines in tables.items():
            os.mkdir(label)
            with open(f"{label}/d.raw", "wb") as f:
                f.write(b"\xaa" * (8 << 20))
            subprocess.run(["sfdisk", "-q", f"{label}/d.raw"], input="\n".join(lines), text=True, check=True)
            with open(f"{label}/d.raw", "rb") as f:
                data = f.read()
            found = [(p["node"].split("raw")[-1], p["start"], p["size"])
                     for p in json.loads(run("sfdisk", "-J", f"{label}/d.raw"))["partitiontable"]["partitions"]]
            said = vbox("internalcommands", "listpartitions", "-rawdisk", f"{label}/d.raw").splitlines()
            self.assertIn("Start (Sect)", said[0])
            self.assertEqual([(line.split()[0], int(line.split()[-1 - (label == "gpt")])) for line in said[1:]], [p[:2] for p in found])
            for name in found[0], found[-1]:
                vbox("internalcommands", "createrawvmdk", "-filename", f"{label}/p{name[0]}.vmdk", "-rawdisk", f"{label}/d.raw",
                     "-partitions", name[0])
                image = f"{label}/p{name[0]}.vmdk"
                self.assertEqual(json.loads(disk("info", "--json", image))["virtual-size"], len(data))
                disk("convert", "-O", "raw", image, "p.raw")
                with open("p.raw", "rb") as f:
                    seen = f.read()
                for number, start, size in found:
                    inside = slice(start * 512, (start + size) * 512)
                    if number == name[0]:
                        self.assertEqual(seen[inside], data[inside])
                    elif label == "gpt" or number != "2":
                        self.assertEqual(seen[inside].strip(b"\0"), b"")
                self.assertEqual(run("sfdisk", "-d", "p.raw").split("\n", 3)[3].replace("p.raw", ""),
                                 run("sfdisk", "-d", f"{label}/d.raw").split("\n", 3)[3].replace(f"{label}/d.raw", ""))
                self.assertEqual(seen[:446], data[:446])
            with open("code", "wb") as f:
                f.write(b"\xc0" * 512)
            vbox("internalcommands", "createrawvmdk", "-filename", f"{label}/m.vmdk", "-rawdisk", f"{self.folder}/{label}/d.raw",
                 "-partitions", "1,2" if label == "gpt" else "1,5,6", "-mbr", "code")
            disk("convert", "-O", "raw", f"{label}/m.vmdk", "p.raw")
            with open("p.raw", "rb") as f:
                self.assertEqual(f.read(512), b"\xc0" * 446 + data[446:512])
            with open(f"{label}/d.raw", "rb") as f:
                self.assertEqual(f.read(), data)
            vbox("internalcommands", "createrawvmdk", "-filename", f"{label}/r.vmdk", "-rawdisk", f"{label}/d.raw", "-partitions", "1",
                 "-relative")
            with open(f"{label}/r.vmdk", encoding="ascii") as f:
                self.assertIn(f'FLAT "{self.folder}/{label}/d.raw1" 0', f.read())
        for numbers in "9", "2", "1,1", "", "one", "1,,5":
            vbox("internalcommands", "createrawvmdk", "-filename", "bad.vmdk", "-rawdisk", "dos/d.raw", "-partitions", numbers, status=1)
            self.assertFalse(os.path.exists("bad.vmdk") or os.path.exists("bad-pt.vmdk"))
        vbox("internalcommands", "createrawvmdk", "-filename", "bad.vmdk", "-rawdisk", "\\\\.\\PhysicalDrive0", status=1)

    def test_interrupt_leaves_nothing(self):
        with open("big.raw", "wb") as f:
            for _ in range(200):
                f.write(random.randbytes(1 << 20))
        child = subprocess.Popen([f"{BUILD}/qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2",
                                  "big.raw", "big.qcow2"], stderr=subprocess.DEVNULL)
        while not os.path.exists("big.qcow2"):
            time.sleep(0.01)
        time.sleep(0.1)
        child.send_signal(signal.SIGINT)
        self.assertNotEqual(child.wait(), 0)
        self.assertFalse(os.path.exists("big.qcow2"))

    def test_usage(self):
        img("convert", "a.raw", status=1)
        img("nonsense", status=1)
        img("create", "-f", "qcow2", "x", "ten", status=1)
        self.assertIn("create", disk("help"))


if __name__ == "__main__":
    if not REAL:
        print("1..0 # SKIP qemu-img is not installed")
        sys.exit(0)
    unittest.main(verbosity=2)
