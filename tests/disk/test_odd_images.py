#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images as other products make them, built here byte by byte, beside what the real qemu-img says of them. Usage: test_odd_images.py BUILD"""
import os
import struct

from kit import MIB, SECTOR, OddTest, descriptor, disk, main, needs_python, read, run, words, write


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


class DescriptorTest(OddTest):
    LINES = ['RW 8192 FLAT "a.raw" 0', 'RW 8192 FLAT "a.raw" 8192']

    def setUp(self):
        super().setUp()
        self.content = os.urandom(MIB) + bytes(5 * MIB) + os.urandom(MIB) + bytes(MIB)
        write("a.raw", (0, self.content))

    def read_as(self, text, beside=True):
        write("a.vmdk", (0, text))
        if beside:
            self.assertEqual(self.same("a.vmdk", "vmdk"), self.content)
        disk("convert", "-O", "raw", "a.vmdk", "ours.raw")
        self.assertEqual(read("ours.raw"), self.content, text)

    def test_texts(self):
        plain = descriptor("twoGbMaxExtentFlat", *self.LINES)
        body = plain.split(b"\n", 1)[1]
        self.read_as(plain)
        self.read_as(descriptor("twoGbMaxExtentFlat", *self.LINES, end="\r\n"))
        self.read_as(b"\n# made by hand\n\n" + plain)
        self.read_as(plain.lower().replace(b"flat", b"FLAT").replace(b"rw", b"RW").replace(b"twogbmaxextentFLAT", b"twoGbMaxExtentFlat")
                     .replace(b"createtype", b"createType").replace(b"cid", b"CID").replace(b"parentCID", b"parentCID"))
        self.read_as(body)
        self.read_as(plain.replace(b"RW 8192 FLAT", b"RW   8192  FLAT "))
        self.read_as(plain.replace(b"FLAT", b"VMFS").replace(b"twoGbMaxExtentFlat", b"vmfs"), beside=False)
        self.read_as(plain.replace(b"=", b" = "), beside=False)  # which the real one does not read
        self.read_as(plain.replace(b"RW 8192 FLAT", b"RDONLY 8192 FLAT", 1), beside=False)  # which it leaves out

    def test_no_descriptors(self):
        for text in b"version=9\n", b"version\n", b"# only comments\n" * 40 + b"version=1\n", b"version=1", b"x\nversion=1\n":
            write("b", (0, text.ljust(1024, b"\0")))
            self.assertIn("file format: raw", disk("info", "b"))

    def test_extents_at_the_end(self):
        """A stream whose header leaves it to its footer where the directory is."""
        run("qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized", "a.raw", "s.vmdk")
        data = read("s.vmdk")
        data += bytes(-len(data) % SECTOR)
        head = data[:56] + words(0xffffffffffffffff) + data[64:]
        marker = struct.pack("<QII", 1, 0, 3).ljust(SECTOR, b"\0")
        write("e.vmdk", (0, head + marker + data[:SECTOR] + bytes(SECTOR)))
        self.assertEqual(self.same("e.vmdk", "vmdk"), self.content)


class OthersTest(OddTest):
    def setUp(self):
        super().setUp()
        write("a.raw", (0, os.urandom(MIB)), (7 * MIB, os.urandom(MIB)))

    def make(self, theirs, *options):
        run("qemu-img", "convert", "-f", "raw", "-O", theirs, *(["-o", ",".join(options)] if options else []), "a.raw", "i")
        return bytearray(read("i"))

    def put(self, theirs, data):
        write("i", (0, data))
        return self.same("i", theirs)

    def test_vhd_footers(self):
        for kind in "dynamic", "fixed":
            data = self.make("vpc", "force_size=on", f"subformat={kind}")
            self.assertEqual(self.put("vpc", data[:-1]), read("a.raw"))  # of 511 bytes
        data = self.make("vpc", "force_size=on")
        self.assertEqual(self.put("vpc", data[:-SECTOR]), read("a.raw"))  # lost

    def test_vhd_creators(self):
        data = self.make("vpc")
        for creator in b"vpc ", b"vs  ", b"win ", b"vbox", b"d2v ", b"tap\0", b"CTXS", b"????":
            for at in 0, len(data) - SECTOR:
                data[at + 28:at + 32] = creator
                data[at + 64:at + 68] = bytes(4)
                struct.pack_into(">I", data, at + 64, ~sum(data[at:at + SECTOR]) & 0xffffffff)
            self.put("vpc", data)

    def test_vdi_comments(self):
        data = self.make("vdi")
        for text in b"<<< Sun xVM VirtualBox Disk Image >>>\n", b"<<< innotek VirtualBox Disk Image >>>\n", b"":
            data[:64] = text.ljust(64, b"\0")
            self.assertEqual(self.put("vdi", data), read("a.raw"))

    def make_vdi(self, version=0x10001, extra=0, header=400, map_at=512):
        """An image of `a.raw`, whose first MiB and last are in it, the last one first, with `extra` bytes before each block."""
        content = read("a.raw")
        data_at = (map_at + 8 * 4 + 4095) // 4096 * 4096
        head = bytearray(b"<<< InnoTek VirtualBox Disk Image >>>\n".ljust(512, b"\0"))
        struct.pack_into("<IIIII", head, 64, 0xbeda107f, version, header, 1, 0)
        struct.pack_into("<IIIIII", head, 340, map_at, data_at, 16, 16, 63, SECTOR)
        struct.pack_into("<QIIII", head, 368, len(content), MIB, extra, 8, 2)
        head[392:408] = bytes(range(16))
        table = struct.pack("<8I", 1, *[0xffffffff] * 6, 0)
        blocks = b"".join(b"E" * extra + part for part in (content[7 * MIB:], content[:MIB]))
        write("i.vdi", (0, head), (map_at, table), (data_at, blocks))

    def test_vdi_variants(self):
        """Of older VirtualBoxes, and with space before blocks, which qemu-img does not read right: read, written, checked, resized."""
        for variant in {}, {"version": 0x10000}, {"header": 384}, {"map_at": 4096}, {"extra": 512}, {"extra": 4096, "version": 0x10000}:
            self.make_vdi(**variant)
            disk("check", "i.vdi")
            disk("compare", "-F", "raw", "i.vdi", "a.raw")
            if not variant:
                self.same("i.vdi", "vdi")
            extra = variant.get("extra", 0)
            with open("changes", "wb") as file:
                file.truncate(8 * MIB)
                file.seek(4 * MIB)
                file.write(b"c" * 70000)
            disk("create", "-f", "qcow2", "-b", "i.vdi", "-F", "vdi", "top.qcow2")
            disk("rebase", "-u", "-b", "changes", "-F", "raw", "top.qcow2")
            disk("rebase", "-b", "i.vdi", "-F", "vdi", "top.qcow2")  # its own data now are what `changes` has
            disk("commit", "-q", "top.qcow2")
            disk("compare", "-F", "raw", "i.vdi", "changes")
            disk("check", "i.vdi")
            disk("resize", "-q", "i.vdi", "3G")
            disk("compare", "-F", "raw", "i.vdi", "changes")
            disk("check", "i.vdi")
            if not extra and "version" not in variant:
                run("qemu-img", "check", "-q", "i.vdi")
                run("qemu-img", "compare", "-f", "vdi", "-F", "raw", "i.vdi", "changes")
        for version, word in (2, "before VirtualBox 1.0"), (0x20000, "version"):
            self.make_vdi(version=version)
            self.assertIn(word, disk("info", "i.vdi", status=1))

    def test_qcow2_headers(self):
        data = self.make("qcow2")
        end = struct.unpack_from(">I", data, 100)[0]
        unknown = struct.pack(">II5s3x", 0xdeadbeef, 5, b"hello")
        self.put("qcow2", data[:end] + unknown + data[end:65536 - len(unknown)] + data[65536:])
        for at, number in (80, 1 << 40), (88, 1 << 50):  # features that need not be known
            changed = bytearray(data)
            struct.pack_into(">Q", changed, at, number)
            self.put("qcow2", changed)
        self.put("qcow2", self.make("qcow2", "compat=0.10"))

    def test_qcow2_bits_that_a_write_clears(self):
        data = self.make("qcow2")
        struct.pack_into(">Q", data, 88, 1 << 50)
        self.put("qcow2", data)
        disk("resize", "-q", "i", "9M")
        self.assertEqual(struct.unpack_from(">Q", read("i"), 88)[0] & 1 << 50, 0)
        struct.pack_into(">Q", data, 72, 1 << 40)
        write("i", (0, data))
        self.assertIn("bit 40", disk("info", "i", status=1))

    def test_qcow2_parent_without_a_format(self):
        write("b.raw", (0, os.urandom(MIB)))
        run("qemu-img", "create", "-q", "-f", "qcow2", "-b", "b.raw", "-F", "raw", "c.qcow2")
        data = read("c.qcow2").replace(b"\xe2\x79\x2a\xca", b"\xde\xad\xbe\xef", 1)
        write("c.qcow2", (0, data))
        self.assertTrue(self.same("c.qcow2", "qcow2") == read("b.raw"))


class XenTest(OddTest):
    """qcow of version 1 as Xen's tap:aio made it: with an extended header, and the first table in the order of the host's bytes."""
    SIZE = 5 * MIB + SECTOR * 3

    def make(self, flags, extended=True, parent=b""):
        tables = -(-self.SIZE // (4096 << 9))
        order = ">" if flags & 2 or not extended else "<"
        name_at = 64 if extended else 48
        header = struct.pack(">4sIQIIQBB2xIQ", b"QFI\xfb", 1, name_at if parent else 0, len(parent), 0, self.SIZE, 12, 9, 0, 4096)
        xen = struct.pack(">4sIII", b"XEN\xfb", 0xabcd, 0, flags) if extended else b""
        parts, l1, data_at = [], [0] * tables, 65536
        content = bytearray(read("parent.raw") if parent else bytes(self.SIZE))
        for i, cluster in enumerate((0, 1, 511, 512, 600)):
            data = bytes([i + 65]) * 4096
            content[cluster * 4096:cluster * 4096 + 4096] = data
            l1[cluster // 512] = 8192 + cluster // 512 * 4096
            parts += [(8192 + cluster * 8, struct.pack(">Q", data_at)), (data_at, data)]
            data_at += 4096
        write("x.qcow", (0, header), (48, xen + parent), (4096, struct.pack(f"{order}{tables}Q", *l1)), *parts)
        return bytes(content)

    def test_read(self):
        for flags in 0, 1, 2, 3:
            content = self.make(flags)
            if flags & 2:
                self.same("x.qcow", "qcow")
            disk("convert", "-O", "raw", "x.qcow", "x.raw")
            self.assertTrue(read("x.raw") == content)
            disk("convert", "-O", "qcow2", "x.qcow", "x.qcow2")
            run("qemu-img", "compare", "-f", "qcow2", "-F", "raw", "x.qcow2", "x.raw")
            before = read("x.qcow")
            self.assertIn("tap:aio", disk("resize", "x.qcow", "9M", status=1))
            self.assertEqual(read("x.qcow"), before)

    def test_over_a_parent(self):
        write("parent.raw", (0, os.urandom(self.SIZE)))
        for extended in True, False:
            content = self.make(0, extended, b"parent.raw")
            disk("convert", "-O", "raw", "x.qcow", "x.raw")
            self.assertTrue(read("x.raw") == content)

    def test_a_name_that_begins_like_it(self):
        """The parent's name may lie where Xen's mark would."""
        os.chdir(self.folder)
        name = os.fsdecode(b"XEN\xfb")
        write("parent.raw", (0, os.urandom(self.SIZE)))
        os.rename("parent.raw", name)
        os.symlink(name, "parent.raw")
        content = self.make(2, False, b"XEN\xfb")
        disk("convert", "-O", "raw", "x.qcow", "x.raw")
        self.assertTrue(read("x.raw") == content)


@needs_python("pyqcow")
class LibqcowTest(OddTest):
    """What is made here, read by libqcow."""

    def test_made_here(self):
        write("a.raw", (0, os.urandom(MIB)), (4 * MIB, b"t" * MIB + bytes(SECTOR * 7)))
        script = "import pyqcow,sys; f=pyqcow.file(); f.open(sys.argv[1]); open('lib.raw','wb').write(f.read(f.media_size))"
        for ours, *more in (("qcow",), ("qcow", "-c"), ("qcow2", "-o", "compat=0.10"), ("qcow2", "-o", "cluster_size=4k"), ("qcow2", "-c")):
            disk("convert", "-f", "raw", "-O", ours, *more, "a.raw", "i")
            run("/usr/bin/python3", "-c", script, "i")
            self.assertTrue(read("lib.raw") == read("a.raw"), (ours, *more))


if __name__ == "__main__":
    main()
