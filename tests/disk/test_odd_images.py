#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images as other products make them, built here byte by byte, beside what the real qemu-img says of them. Usage: test_odd_images.py BUILD"""
import os
import struct

from kit import FolderTest, disk, main, needs, read, run

MIB = 1 << 20
SECTOR = 512


def write(path, *parts):
    """Bytes at places, with a hole between them."""
    with open(path, "wb") as file:
        for at, data in parts:
            file.seek(at)
            file.write(data)


def words(*numbers):
    return struct.pack(f"<{len(numbers)}Q", *numbers)


def descriptor(kind, *lines, head=(), end="\n"):
    text = ["# Disk DescriptorFile", "version=1", "CID=12345678", "parentCID=ffffffff", f'createType="{kind}"', *head,
            "# Extent description", *lines, "#DDB", 'ddb.adapterType = "lsilogic"', ""]
    return end.join(text).encode()


@needs("qemu-img")
class OddTest(FolderTest):
    def same(self, path, theirs, *more):
        """What we read is what qemu-img reads, by our copying and by our single reads."""
        run("qemu-img", "convert", "-f", theirs, *more, "-O", "raw", path, "theirs.raw")
        ours = disk("info", path)
        self.assertIn(f"({os.stat('theirs.raw').st_size} bytes)", ours)
        disk("convert", "-O", "raw", path, "ours.raw")
        self.assertEqual(read("ours.raw"), read("theirs.raw"))
        disk("compare", "-F", "raw", path, "theirs.raw")
        return read("ours.raw")


class SesparseTest(OddTest):
    SIZE = 40 * MIB

    def make(self, entries, size=SIZE, replay=0, name="a-sesparse.vmdk"):
        """`entries`: of grain tables, by grain; the grains hold their numbers."""
        table, tables_at, grains_at = 64 * SECTOR, 64, 4096
        directory, parts = {}, []
        for grain, entry in entries.items():
            number = directory.setdefault(grain // 4096, len(directory))
            parts.append((tables_at * SECTOR + number * table + grain % 4096 * 8, words(entry)))
        for i, number in directory.items():
            parts.append((32 * SECTOR + i * 8, words(0x10000000 << 32 | number)))
        header = words(0xcafebabe, 0x200000001, size // SECTOR, 8, 64, 0, 0, 0, 0, 0, 1, 1, 2, 1, 4, 4, 32, 4, tables_at,
                       (len(directory) + 1) * 64, 3000, 1, 3001, 1, grains_at, 4096)
        parts += [(0, header.ljust(SECTOR, b"\0")), (SECTOR, words(0xcafecafe, 0, 0, replay).ljust(SECTOR, b"\0"))]
        for i in range(20):
            parts.append((grains_at * SECTOR + i * 4096, bytes([i + 1]) * 4096))
        write(name, *parts)
        with open("a.vmdk", "wb") as file:
            file.write(descriptor("seSparse", f'RW {size // SECTOR} SESPARSE "{name}"'))

    @staticmethod
    def data(number):
        return 3 << 60 | (number & 0xfff) << 48 | number >> 12

    def test_read(self):
        entries = {i: self.data(i) for i in range(5)}  # together
        entries |= {4095: self.data(9), 4096: self.data(8), 4097: self.data(7), 4098: self.data(6)}  # backwards, over two tables
        entries |= {10: 1 << 60, 11: 2 << 60, 12: self.data(19), 10239: self.data(13)}
        self.make(entries)
        content = self.same("a.vmdk", "vmdk")
        self.assertEqual(content[4096 * 12], 20)
        self.assertEqual(content[-1], 14)
        run("qemu-img", "compare", "-f", "vmdk", "a.vmdk", "ours.raw")
        disk("check", "a.vmdk")
        self.assertEqual(disk("compare", "-f", "vmdk", "-F", "raw", "a-sesparse.vmdk", "ours.raw"), "Images are identical.\n")

    def test_over_a_parent(self):
        disk("create", "-f", "raw", "parent.raw", str(self.SIZE))
        with open("parent.raw", "r+b") as file:
            file.write(b"p" * MIB)
        disk("convert", "-f", "raw", "-O", "vmdk", "parent.raw", "base.vmdk")
        cid = [line for line in read("base.vmdk", 0, 65536).split(b"\n") if line.startswith(b"CID=")][0][4:].decode()
        self.make({0: self.data(0), 2: 2 << 60, 4: self.data(3)})
        text = read("a.vmdk").decode().replace("parentCID=ffffffff", f'parentCID={cid}\nparentFileNameHint="base.vmdk"')
        write("a.vmdk", (0, text.encode()))
        content = self.same("a.vmdk", "vmdk")
        self.assertEqual([content[i * 4096] for i in range(6)], [1, ord("p"), 0, ord("p"), 4, ord("p")])

    def test_refusals(self):
        self.make({0: self.data(0)})
        self.assertIn("for reading", disk("resize", "a.vmdk", "1G", status=1))
        self.assertIn("SEsparse", disk("info", "a-sesparse.vmdk", status=1))
        self.make({0: self.data(0)}, replay=1)
        self.assertIn("journal", disk("convert", "a.vmdk", "x", status=1))
        for bad in 4 << 60, self.data(1 << 40), 17:
            self.make({0: bad})
            disk("convert", "-O", "raw", "a.vmdk", "x", status=1)
            disk("check", "a.vmdk", status=2)
        self.make({0: self.data(0)}, size=1 << 47)
        disk("convert", "-O", "qcow2", "a.vmdk", "x", status=1)


if __name__ == "__main__":
    main()
