#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""--json of every disk verb against api/disk.schema.json, and of qemu-img's verbs against the real one. Usage: test_json.py BUILD SOURCE"""
import json
import os
import re
import signal
import subprocess
import sys
import unittest

SOURCE = os.path.abspath(sys.argv.pop(2))

import jsonschema  # noqa: E402

from kit import BUILD, FORMATS, PROGRAM, FolderTest, disk, main, needs, run  # noqa: E402

SCHEMA = json.load(open(f"{SOURCE}/api/disk.schema.json", encoding="utf-8"))
MIB = 1 << 20


def check(verb, text):
    value = json.loads(text)
    jsonschema.Draft202012Validator({"$ref": f"#/$defs/{verb}", "$defs": SCHEMA["$defs"]}).validate(value)
    return value


def disk_json(verb, *args, **more):
    return check(verb, disk(verb, "--json", *args, **more))


def make_raw(path):
    with open(path, "wb") as file:
        file.truncate(20 * MIB)
        file.seek(MIB)
        file.write(os.urandom(3 * MIB))
        file.seek(9 * MIB + 4096)
        file.write(os.urandom(70000))
        os.fsync(file.fileno())


class SchemaTest(FolderTest):
    def setUp(self):
        super().setUp()
        make_raw("a.raw")

    def test_every_verb_has_a_shape(self):
        verbs = set(re.findall(r"^  ([a-z]+) +", disk("help"), re.M))
        self.assertGreater(len(verbs), 20)
        self.assertEqual(verbs - set(SCHEMA["$defs"]), set())
        self.assertEqual(set(SCHEMA["$defs"]) - verbs, {"size", "image", "full-snapshot"})
        tested = set(re.findall(r'(?:disk_json|check)\("([a-z]+)"', open(__file__, encoding="utf-8").read()))
        self.assertEqual(verbs - tested, set())

    def test_images(self):
        for name in FORMATS:
            made = disk_json("create", "-f", name, "new", "10M")
            self.assertEqual((made["format"], made["filename"]), (name, "new"))
            self.assertEqual(disk_json("convert", "-f", "raw", "-O", name, "a.raw", "one")["format"], name)
            self.assertGreaterEqual(disk_json("info", "-f", name, "one")["virtual-size"], 20 * MIB)
            if name not in ("raw", "qcow"):
                self.assertEqual(disk_json("check", "-f", name, "one")["check-errors"], 0)
            self.assertEqual(disk_json("clone", "-f", name, "one", "two")["filename"], "two")
            disk_json("compact", "-f", name, "two")
            if name not in ("vhd", "vhdx", "qcow"):
                self.assertEqual(disk_json("resize", "-f", name, "two", "40M")["virtual-size"], 40 * MIB)
            extents = disk_json("map", "-f", name, "one")
            self.assertTrue(extents[0]["start"] == 0 and any(e["data"] for e in extents))
            self.assertEqual(disk_json("compare", "-f", "raw", "-F", name, "a.raw", "one"), {"identical": True})
            disk_json("partitions", "-f", name, "one")
        disk_json("dd", "-f", "raw", "-O", "qcow2", "if=a.raw", "of=three", "bs=1M", "count=3")
        self.assertIn("bitmaps", disk_json("measure", "-O", "qcow2", "three"))
        disk_json("measure", "--size", "1G")

    def test_differing(self):
        with open("b.raw", "wb") as file:
            file.truncate(20 * MIB)
        done = subprocess.run([PROGRAM, "disk", "compare", "--json", "-f", "raw", "-F", "raw", "a.raw", "b.raw"], capture_output=True,
                              text=True, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(check("compare", done.stdout), {"identical": False, "offset": MIB})

    def test_chains(self):
        disk("convert", "-f", "raw", "-O", "qcow2", "a.raw", "base")
        disk("convert", "-f", "raw", "-O", "qcow2", "a.raw", "other")
        disk_json("create", "-f", "qcow2", "-b", "base", "-F", "qcow2", "top")
        self.assertEqual([i["filename"] for i in disk_json("info", "--backing-chain", "top")], ["top", "base"])
        self.assertEqual(disk_json("rebase", "-b", "other", "-F", "qcow2", "top")["backing-filename"], "other")
        self.assertEqual(disk_json("commit", "top")["filename"], "top")
        self.assertTrue(disk_json("merge", "top")["filename"].endswith("/other"))
        self.assertEqual([s["name"] for s in disk_json("snapshot", "-c", "first", "base")], ["first"])
        self.assertEqual(disk_json("snapshot", "-l", "base")[0]["name"], "first")
        self.assertEqual(disk_json("info", "base")["snapshots"][0]["name"], "first")
        self.assertEqual(disk_json("snapshot", "-d", "first", "base"), [])

    def test_encrypted(self):
        with open("key", "w", encoding="ascii") as file:
            file.write("sesame")
        self.assertTrue(disk_json("encrypt", "--new-key-file", "key", "-O", "qcow2", "a.raw", "secret")["encrypted"])
        self.assertTrue(disk_json("info", "secret")["encrypted"])
        disk_json("encrypt", "--key-file", "key", "--new-key-file", "key", "--add-key", "secret")

    def test_serve_and_bench(self):
        disk("convert", "-f", "raw", "-O", "qcow2", "a.raw", "a \"quoted\" name")
        with subprocess.Popen([PROGRAM, "disk", "serve", "--json", "--socket", "s", "a \"quoted\" name"], stdout=subprocess.PIPE,
                              text=True) as server:
            text = ""
            while not text.endswith("]\n"):
                text += server.stdout.readline()
            exports = check("serve", text)
            self.assertEqual(exports, [{"filename": "a \"quoted\" name", "export": "", "uri": "nbd+unix:///?socket=s"}])
            server.send_signal(signal.SIGTERM)
        disk_json("bench", "--time", "1", "--pattern", "read", "a \"quoted\" name")

    @unittest.skipUnless(os.path.exists("/dev/fuse") and os.path.exists(f"{BUILD}/ospite-fuse.so"), "there is no FUSE")
    def test_mount(self):
        os.mkdir("m")
        disk_json("mount", "-f", "raw", "a.raw", "m")
        self.assertTrue(disk_json("unmount", "m")["folder"].endswith("/m"))


@needs("qemu-img", "qemu-io")
class QemuImgTest(FolderTest):
    """The same fields with the same values as the real one; what differs is named here, with the reason."""

    def both(self, *args):
        results = []
        for program in f"{BUILD}/qemu-img", "qemu-img":
            done = subprocess.run([program, *args], capture_output=True, text=True, check=False)
            self.assertIn(done.returncode, (0, 63), done.stderr)
            results.append((done.returncode, json.loads(done.stdout) if done.stdout else None))
        return results

    def same(self, *args):
        ours, theirs = self.both(*args)
        self.assertEqual(ours, theirs, args)

    def setUp(self):
        super().setUp()
        make_raw("a.raw")

    # Every format with what it can be made with. `d.data` has a name of its own, for the image names it.
    VARIANTS = {
        "raw": ["", "preallocation=falloc"],
        "qcow": [""],
        "qcow2": ["", "compat=0.10", "cluster_size=4096", "cluster_size=2M", "extended_l2=on", "lazy_refcounts=on", "preallocation=metadata",
                  "preallocation=falloc", "refcount_bits=1", "refcount_bits=64", "compression_type=zstd", "data_file=d.data",
                  "data_file=d.data,data_file_raw=on"],
        "vdi": ["", "static=on"],
        "vmdk": ["", "subformat=monolithicFlat", "subformat=twoGbMaxExtentSparse", "subformat=twoGbMaxExtentFlat",
                 "subformat=streamOptimized", "zeroed_grain=on", "compat6=on"],
        "vpc": ["", "subformat=fixed", "force_size=on"],
        "vhdx": ["", "subformat=fixed", "block_size=2M"],
    }

    def variants(self):
        """Each image made by the real one, in a folder of its own."""
        for theirs, options in self.VARIANTS.items():
            for option in options:
                folder = f"{theirs} {option}"
                os.mkdir(folder)
                os.chdir(folder)
                run("qemu-img", "convert", "-f", "raw", "-O", theirs, *(["-o", option] if option else []), "../a.raw", "i")
                for name in os.listdir("."):  # the host gives it its blocks, which both count, when it is written back
                    with open(name, "rb") as file:
                        os.fsync(file.fileno())
                yield theirs, option, ["-f", theirs, "i"]
                os.chdir("..")

    def text(self, program, *args):
        done = subprocess.run([program, *args], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    def same_text(self, *args):
        self.assertEqual(self.text(f"{BUILD}/qemu-img", *args), self.text("qemu-img", *args), args)

    def test_info(self):
        for _, option, image in self.variants():
            (_, ours), (_, theirs) = self.both("info", "--output=json", *image)
            if option == "subformat=twoGbMaxExtentSparse":  # to look opens no other file, and so does not know their grains
                del theirs["cluster-size"], theirs["format-specific"]["data"]["extents"][0]["cluster-size"]
                self.assertEqual(ours, theirs)
            else:
                self.assertEqual(ours, theirs)
                self.same_text("info", *image)

    def test_check(self):
        for theirs, _, image in self.variants():
            (status, ours), (_, real) = self.both("check", "--output=json", *image)
            if theirs in ("raw", "qcow", "qcow2", "vpc"):
                self.assertEqual((ours, status == 63), (real, theirs in ("raw", "qcow", "vpc")))
            else:  # ours counts clusters in these, too
                self.assertEqual({k: ours[k] for k in real}, real)

    def test_map(self):
        for _, option, image in self.variants():
            if option == "subformat=streamOptimized":
                self.assertEqual(self.text(f"{BUILD}/qemu-img", "map", *image)[0], 1)
            else:
                self.same_text("map", *image)
            if option != "extended_l2=on":  # where theirs tells the places of subclusters that have no data
                self.same("map", "--output=json", *image)

    def test_measure(self):
        for _, _, image in self.variants():
            for target in "raw", "qcow2":
                self.same("measure", "--output=json", "-O", target, *image)

    def test_compare(self):
        with open("other", "wb") as file:
            file.truncate(21 * MIB)
        for theirs, _, image in self.variants():
            for other in "../a.raw", "../other":
                for flags in [], ["-s"], ["-q"]:
                    self.same_text("compare", *flags, "-F", "raw", *image, other)
            self.same_text("compare", "-f", theirs, "-F", "raw", "i", "../missing")

    def test_chain_and_snapshots(self):
        run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "a.raw", "base")
        run("qemu-img", "create", "-q", "-f", "qcow2", "-b", "base", "-F", "qcow2", "top")
        run("qemu-io", "-c", "write -P 3 1M 64k", "top")
        run("qemu-img", "snapshot", "-c", "one", "top")
        os.mkdir("sub")
        for args in ["info"], ["info", "--backing-chain"], ["check"], ["map"], ["measure", "-O", "qcow2"]:
            self.same(*args, "--output=json", "top")
            os.chdir("sub")
            self.same(*args, "--output=json", "../top")
            os.chdir("..")


if __name__ == "__main__":
    main()
