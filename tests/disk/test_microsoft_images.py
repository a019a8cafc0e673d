#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""VHDs and VHDXs as Virtual PC, Hyper-V, Azure, Xen, VirtualBox and converters make them, built here from Microsoft's specifications
(VHD 1.0, [MS-VHDX]); qemu-img and libvhdi say what is in them. Usage: test_microsoft_images.py BUILD"""
import os
import struct
import uuid

from kit import MIB, SECTOR, OddTest, disk, main, other_python, read, run, write

KIB = 1 << 10


# Of a block; libvhdi knows them by eight only.
EIGHTS, ODD = [*range(16), *range(400, 480), *range(4088, 4096)], [0, 1, 2, 9, 100, 4095]


def pattern(number, size):
    return (b"block %03d " % number).ljust(32, b".") * (size // 32)


class MicrosoftTest(OddTest):
    def expect(self, path, content, theirs=None, parent=None, libvhdi=True):
        """It reads as `content`; and so do qemu-img, which calls it `theirs`, and libvhdi."""
        disk("check", path)
        disk("convert", "-O", "raw", path, "ours.raw")
        self.assertTrue(read("ours.raw") == content, path)
        write("content.raw", (0, content))
        os.truncate("content.raw", len(content))
        disk("compare", "-F", "raw", path, "content.raw")
        if theirs:
            run("qemu-img", "compare", "-f", theirs, "-F", "raw", path, "content.raw")
        if libvhdi and other_python("pyvhdi"):
            script = "import pyvhdi,sys\nf=[pyvhdi.file() for _ in sys.argv[1:]]\n" \
                     "for i, name in enumerate(sys.argv[1:]):\n  f[i].open(name)\n  i and f[i-1].set_parent(f[i])\n" \
                     "open('lib.raw','wb').write(f[0].read(f[0].media_size))"
            run("/usr/bin/python3", "-c", script, path, *([parent] if parent else []))
            self.assertTrue(read("lib.raw") == content, f"{path}: libvhdi")

    def rewrite(self, path, content, ours, theirs=None, parent=None, libvhdi=True):
        """Written to, it reads as it should, here and by others."""
        changed = bytearray(content)
        for at, size in (0, 700), (70000, 5000), (len(content) // 2, 300000), (len(content) - 700, 700):
            changed[at:at + size] = b"w" * size
        write("changed.raw", (0, bytes(changed)))
        disk("create", "-q", "-f", "qcow2", "-b", path, "-F", ours, "over.qcow2")
        disk("rebase", "-q", "-u", "-b", "changed.raw", "-F", "raw", "over.qcow2")
        disk("rebase", "-q", "-b", path, "-F", ours, "over.qcow2")
        disk("commit", "-q", "over.qcow2")
        self.expect(path, bytes(changed), theirs, parent, libvhdi)


class Vhd:
    """`blocks`: by number, what to fill the block with, and of which sectors the bitmap says that they are there (None: all)."""
    SIZE = 6 * MIB + 512 * 3

    def __init__(self, blocks=None, size=SIZE, block=2 * MIB, kind=3, creator=b"win ", entries=None, ident=1, more_entries=0):
        self.blocks = blocks if blocks is not None else {0: (1, None), 2: (2, None)}
        self.size, self.block, self.kind, self.creator, self.ident = size, block, kind, creator, ident
        self.entries = (entries or -(-size // block)) + more_entries
        self.saved, self.locators, self.parent, self.parent_name, self.footer_copy, self.batmap = 0, [], None, "", True, False

    def sealed(self, data, at):
        data = bytearray(data)
        data[at:at + 4] = struct.pack(">I", ~sum(data) & 0xffffffff)
        return bytes(data)

    def footer(self):
        f = struct.pack(">8sIIQI4sI4sQQHBBII16sB", b"conectix", 2, 0x10000, 512 if self.kind > 2 else (1 << 64) - 1, 0, self.creator, 0x50000,
                        b"Wi2k", self.size, self.size, 100, 4, 17, self.kind, 0, bytes([self.ident]) * 16, self.saved)
        return self.sealed(f.ljust(SECTOR, b"\0"), 64)

    def content(self, below=b""):
        """Sectors of a block that its bitmap doesn't show are the parent's, or zeros."""
        data = bytearray(below.ljust(self.size, b"\0"))
        for i, (fill, sectors) in self.blocks.items():
            ours = pattern(fill, self.block)
            for s in range(self.block // SECTOR) if sectors is None else sectors:
                at = i * self.block + s * SECTOR
                data[at:at + SECTOR] = ours[s * SECTOR:(s + 1) * SECTOR]
        return bytes(data[:self.size])

    def make(self, path):
        table = 1536 + 4096 * bool(self.locators)
        end = table + -(-self.entries * 4 // SECTOR) * SECTOR
        parts = []
        if self.batmap:
            parts.append((end, struct.pack(">8sQIII", b"tdbatmap", end + SECTOR, 1, 0x10002, ~0 & 0xffffffff).ljust(SECTOR, b"\0") + b"\xa5" * SECTOR))
            end += 2 * SECTOR
        bitmap = -(-self.block // SECTOR // 8 // SECTOR) * SECTOR
        places = [0xffffffff] * self.entries
        for i, (fill, sectors) in self.blocks.items():
            bits = bytearray(bitmap)
            for s in range(self.block // SECTOR) if sectors is None else sectors:
                bits[s // 8] |= 0x80 >> s % 8
            places[i] = end // SECTOR
            parts.append((end, bytes(bits) + pattern(fill, self.block)))
            end += bitmap + self.block
        locators = b""
        for i, (code, data) in enumerate(self.locators):
            locators += struct.pack(">4sIIIQ", code, SECTOR, len(data), 0, 1536 + i * SECTOR)
            parts.append((1536 + i * SECTOR, data))
        header = struct.pack(">8sQQIIII16sII", b"cxsparse", (1 << 64) - 1, table, 0x10000, self.entries, self.block, 0,
                             bytes([self.parent or 0]) * 16, 0, 0)
        header += self.parent_name.encode("utf-16-be").ljust(512, b"\0") + locators
        footer = self.footer()
        write(path, (0, footer), (512, self.sealed(header.ljust(1024, b"\0"), 36)), (table, struct.pack(f">{self.entries}I", *places)), *parts,
              (end, footer if self.footer_copy else b""))

    def make_fixed(self, path, short=0):
        data = pattern(5, -(-self.size // 32) * 32)[:self.size]
        write(path, (0, data + self.footer()[:SECTOR - short]))
        return data


class VhdTest(MicrosoftTest):
    def test_creators_and_footers(self):
        """The size counts, whatever the geometry is: libvhdi thinks so, too; qemu-img asks who made the image."""
        for creator in b"vpc ", b"vs  ", b"win ", b"qemu", b"qem2", b"d2v ", b"tap\0", b"CTXS", b"vbox", b"vmt ", b"wa\0\0", bytes(4):
            v = Vhd(creator=creator)
            v.make("a.vhd")
            theirs = "vpc" if creator in (b"win ", b"qem2", b"d2v ", b"tap\0", b"CTXS") else None
            self.expect("a.vhd", v.content(), theirs)
            fixed = Vhd(kind=2, creator=creator)
            self.expect("f.vhd", fixed.make_fixed("f.vhd") or b"", theirs)
        for short in 0, 1:
            data = Vhd(kind=2).make_fixed("f.vhd", short)
            self.expect("f.vhd", data, libvhdi=not short)
            self.rewrite("f.vhd", data, "vhd", libvhdi=not short)
        v = Vhd()
        v.footer_copy = False  # as after a crash: the one at the beginning is left
        v.make("a.vhd")
        disk("check", "a.vhd", status=3)
        disk("check", "--repair", "a.vhd")
        self.expect("a.vhd", v.content(), "vpc")

    def test_saved_state(self):
        v = Vhd()
        v.saved = 1
        v.make("a.vhd")
        self.expect("a.vhd", v.content(), "vpc")

    def test_block_sizes(self):
        for block in 4 * KIB, 64 * KIB, 512 * KIB, 2 * MIB, 16 * MIB:
            v = Vhd({0: (1, None), **({7: (3, None), 3: (2, None)} if block < MIB else {})}, block=block)
            v.make("a.vhd")
            self.expect("a.vhd", v.content(), "vpc")
            self.rewrite("a.vhd", v.content(), "vhd", "vpc")

    def test_longer_tables(self):
        for more in 1, 1000:
            v = Vhd(more_entries=more)
            v.make("a.vhd")
            self.expect("a.vhd", v.content(), "vpc")
            self.rewrite("a.vhd", v.content(), "vhd", "vpc")
            disk("resize", "-q", "a.vhd", "9M")
            disk("check", "a.vhd")

    def test_partial_bitmaps(self):
        """Sectors of a dynamic image that its bitmap doesn't show were never written (qemu-img never looks)."""
        for sectors in EIGHTS, ODD:
            v = Vhd({0: (1, sectors), 2: (2, range(104, 304))})
            v.make("a.vhd")
            self.expect("a.vhd", v.content(), libvhdi=sectors is EIGHTS)
            self.rewrite("a.vhd", v.content(), "vhd", libvhdi=False)

    def test_xen_batmap(self):
        """Xen keeps a map of whole blocks behind the table: new blocks spare it."""
        for blocks in {}, {0: (1, None)}:
            v = Vhd(blocks, creator=b"tap\0")
            v.batmap = True
            v.make("a.vhd")
            self.expect("a.vhd", v.content(), "vpc")
            before = read("a.vhd", 2048, 1024)
            self.assertIn(b"tdbatmap", before)
            self.rewrite("a.vhd", v.content(), "vhd", "vpc")
            self.assertEqual(read("a.vhd", 2048, 1024), before)

    def test_parent_locators(self):
        """Windows' of both kinds, the Macintosh's, and only the name in the header."""
        base = Vhd({0: (1, None), 1: (2, None)}, ident=7)
        base.make("base é.vhd")
        os.mkdir("sub")
        base.make("sub/base.vhd")
        name, sub = "base é.vhd", "sub/base.vhd"
        for locators, in_header, parent in (
                ([(b"W2ru", ".\\base é.vhd".encode("utf-16-le"))], name, name), ([(b"W2ru", ".\\sub\\base.vhd".encode("utf-16-le"))], "x", sub),
                ([(b"W2ku", "C:\\VMs\\base é.vhd".encode("utf-16-le"))], name, name),
                ([(b"W2ku", "\\\\server\\VMs\\base é.vhd".encode("utf-16-le"))], name, name),
                ([(b"W2ku", "C:\\VMs\\base é.vhd".encode("utf-16-le")), (b"W2ru", ".\\sub\\base.vhd".encode("utf-16-le"))], "x", sub),
                ([(b"MacX", "file://localhost/Users/me/base%20%C3%A9.vhd".encode())], "x", name),
                ([(b"MacX", "file:///Users/me/base é.vhd".encode())], "x", name),
                ([(b"Wi2r", b".\\nowhere.vhd")], name, name), ([], name, name), ([], "C:\\VMs\\base é.vhd", name)):
            for sectors in EIGHTS, ODD:
                v = Vhd({0: (5, sectors), 2: (6, range(104, 304))}, kind=4)
                v.locators, v.parent_name, v.parent = locators, in_header, 7
                v.make("a.vhd")
                self.expect("a.vhd", v.content(base.content()), parent=parent, libvhdi=sectors is EIGHTS)
        self.rewrite("a.vhd", v.content(base.content()), "vhd", libvhdi=False)
        v.parent = 8
        v.make("a.vhd")
        self.assertIn("another UUID", disk("convert", "-O", "raw", "a.vhd", "x", status=1))
        v.parent_name = ""
        v.make("a.vhd")
        self.assertIn("does not name its parent", disk("convert", "-O", "raw", "a.vhd", "x", status=1))


CRC = []
for n in range(256):
    for _ in range(8):
        n = n >> 1 ^ (0x82F63B78 if n & 1 else 0)
    CRC.append(n)


def crc32c(data):
    crc = 0xffffffff
    for b in data:
        crc = CRC[(crc ^ b) & 0xff] ^ crc >> 8
    return crc ^ 0xffffffff


def sealed(data, size):
    data = bytearray(data.ljust(size, b"\0"))
    data[4:8] = struct.pack("<I", crc32c(data))
    return bytes(data)


def guid(text):
    return uuid.UUID(text).bytes_le


BAT, METADATA = guid("2DC27766-F623-4200-9D64-115E9BFD4A08"), guid("8B7CA206-4790-4B9A-B8FE-575F050F886E")
PARAMETERS, SIZE_ITEM = guid("CAA16737-FA36-4D43-B3B6-33F0AA44E76B"), guid("2FA54224-CD1B-4876-B211-5DBED83BF4B8")
ID, LOGICAL = guid("BECA12AB-B2E6-4523-93EF-C309E000C746"), guid("8141BF1D-A96F-4709-BA47-F233A8FAAB5F")
PHYSICAL, LOCATOR = guid("CDA348C7-445D-4471-9CC9-E9885251C556"), guid("A8D35F2D-B30B-454D-ABF7-D3D84834AB0C")
PARENT_KIND = guid("B04AEFB7-D19E-4A81-B789-25B8E9445913")
ABSENT, UNDEFINED, ZEROS, UNMAPPED, FULL, PARTIAL = 0, 1, 2, 3, 6, 7


class Vhdx:
    """`blocks`: by number, the state, what to fill it with (None: it has no place), and of a partial one the sectors."""

    def __init__(self, blocks, size=9 * MIB, block=MIB, logical=512, parent=None, flags=0):
        self.blocks, self.size, self.block, self.logical, self.parent, self.flags = blocks, size, block, logical, parent, flags
        self.items, self.regions, self.data_guid, self.stale = [], [], b"D" * 16, None

    def content(self, below=b""):
        data = bytearray(below.ljust(self.size, b"\0"))
        for i, (state, fill, *sectors) in self.blocks.items():
            at = i * self.block
            if state == FULL:
                data[at:at + self.block] = pattern(fill, self.block)
            elif state in (ZEROS, UNMAPPED, UNDEFINED):
                data[at:at + self.block] = bytes(self.block)
            for s in sectors[0] if sectors else ():
                data[at + s * self.logical:at + (s + 1) * self.logical] = pattern(fill, self.block)[s * self.logical:(s + 1) * self.logical]
        return bytes(data[:self.size])

    def locator(self):
        texts = [text.encode("utf-16-le") for pair in self.parent for text in pair]
        out, at, body = struct.pack("<16sHH", PARENT_KIND, 0, len(self.parent)), 20 + 12 * len(self.parent), b""
        for key, value in zip(texts[::2], texts[1::2]):
            out += struct.pack("<IIHH", at, at + len(key), len(key), len(value))
            body += key + value
            at += len(key) + len(value)
        return out + body

    def make(self, path):
        ratio = (MIB * 8) * self.logical // self.block
        count = -(-self.size // self.block)
        entries = -(-count // ratio) * (ratio + 1) if self.parent else count + (count - 1) // ratio
        bat_size = -(-entries * 8 // MIB) * MIB
        bat, end, parts = [0] * entries, 3 * MIB + bat_size, []
        for i, (state, fill, *sectors) in self.blocks.items():
            place = 0
            if fill is not None:
                place, end = end, end + self.block
                parts.append((place, pattern(fill, self.block)))
            bat[i + i // ratio] = place | state
        bits = bytearray(MIB * -(-count // ratio))
        for i, (state, fill, *sectors) in self.blocks.items():
            for s in sectors[0] if sectors else ():
                s += i * (self.block // self.logical)
                bits[s // 8] |= 1 << s % 8
        for chunk in range(-(-count // ratio) if self.parent else 0):
            bat[chunk * (ratio + 1) + ratio] = end | FULL
            parts.append((end, bytes(bits[chunk * MIB:(chunk + 1) * MIB])))
            end += MIB
        def header(sequence, data):
            return sealed(struct.pack("<4sIQ16s16s16sHHIQ", b"head", 0, sequence, b"F" * 16, data, bytes(16), 0, 1, MIB, MIB), 4096)
        regions = [(BAT, 3 * MIB, bat_size, 1), (METADATA, 2 * MIB, MIB, 1), *self.regions]
        table = struct.pack("<4sIII", b"regi", 0, len(regions), 0)
        table = sealed(table + b"".join(struct.pack("<16sQII", *r) for r in regions), 64 * KIB)
        items = [(PARAMETERS, struct.pack("<II", self.block, self.flags | 2 * bool(self.parent)), 4), (SIZE_ITEM, struct.pack("<Q", self.size), 6),
                 (ID, b"I" * 16, 6), (LOGICAL, struct.pack("<I", self.logical), 6), (PHYSICAL, struct.pack("<I", 4096), 6), *self.items]
        if self.parent:
            items.append((LOCATOR, self.locator(), 4))
        meta, at = struct.pack("<8sHH20s", b"metadata", 0, len(items), b""), 64 * KIB
        for key, data, flags in items:
            meta += struct.pack("<16sIIII", key, at, len(data), flags, 0)
            parts.append((2 * MIB + at, data))
            at += -(-len(data) // 8) * 8
        headers = [header(6, b"S" * 16), header(7, self.data_guid)]
        if self.stale is not None:
            headers[1 - self.stale] = headers[1]
            headers[self.stale] = b"head" + b"?" * 4092
        write(path, (0, b"vhdxfile" + "Microsoft Windows 10".encode("utf-16-le")), (64 * KIB, headers[0]), (128 * KIB, headers[1]),
              (192 * KIB, table), (256 * KIB, table), (2 * MIB, meta), (3 * MIB, struct.pack(f"<{entries}Q", *bat)), *parts)
        if end > os.stat(path).st_size:
            os.truncate(path, end)


class VhdxTest(MicrosoftTest):
    def test_shapes(self):
        for block, logical in (MIB, 512), (2 * MIB, 4096), (8 * MIB, 512), (32 * MIB, 512), (256 * MIB, 4096):
            for size in 9 * MIB, 9 * MIB + 4096:
                v = Vhdx({0: (FULL, 1), **({3: (FULL, 2), 1: (FULL, 3)} if block < 4 * MIB else {})}, size, block, logical)
                v.make("a.vhdx")
                theirs = "vhdx" if logical == 512 else None
                self.expect("a.vhdx", v.content(), theirs)
                self.rewrite("a.vhdx", v.content(), "vhdx", theirs)
                os.remove("a.vhdx")

    def test_states(self):
        """Blocks that were trimmed keep their place; what is in it counts no more, and what is written then does."""
        for flags in 0, 1:
            v = Vhdx({0: (UNMAPPED, 1), 1: (FULL, 2), 2: (ZEROS, None), 3: (UNDEFINED, None), 4: (UNMAPPED, 3), 5: (ABSENT, None), 6: (ZEROS, 4)},
                     flags=flags)
            v.make("a.vhdx")
            self.expect("a.vhdx", v.content(), libvhdi=False)
            self.rewrite("a.vhdx", v.content(), "vhdx", libvhdi=False)

    def test_stale_headers(self):
        for stale in 0, 1:
            v = Vhdx({0: (FULL, 1), 7: (FULL, 2)})
            v.stale = stale
            v.make("a.vhdx")
            self.expect("a.vhdx", v.content(), "vhdx", libvhdi=False)
            self.rewrite("a.vhdx", v.content(), "vhdx", "vhdx", libvhdi=False)

    def test_unknown_things(self):
        """Metadata and regions that need not be known are passed over; those that must are named."""
        other = guid("01234567-89ab-cdef-0123-456789abcdef")
        v = Vhdx({0: (FULL, 1)})
        v.items = [(other, b"whatever", 0), (guid("11111111-89ab-cdef-0123-456789abcdef"), b"x" * 100, 1)]
        v.regions = [(other, 60 * MIB, MIB, 0)]
        v.make("a.vhdx")
        self.expect("a.vhdx", v.content(), libvhdi=False)
        v.items = [(other, b"whatever", 4)]
        v.make("a.vhdx")
        self.assertIn("01234567-89ab-cdef-0123-456789abcdef", disk("info", "a.vhdx", status=1))
        v.items, v.regions = [], [(other, 60 * MIB, MIB, 1)]
        v.make("a.vhdx")
        self.assertIn("01234567-89ab-cdef-0123-456789abcdef", disk("info", "a.vhdx", status=1))

    def test_parents(self):
        base = Vhdx({0: (FULL, 1), 1: (FULL, 2), 4: (FULL, 3)})
        base.make("base.vhdx")
        linkage = ("parent_linkage", "{44444444-4444-4444-4444-444444444444}")
        for keys in ([("relative_path", ".\\base.vhdx")], [("absolute_win32_path", "C:\\VMs\\base.vhdx")],
                     [("volume_path", "\\\\?\\Volume{26A21BDA-A627-11D7-9931-806E6F6E6963}\\VMs\\base.vhdx")],
                     [("relative_path", ".\\gone\\base.vhdx"), ("absolute_win32_path", "\\\\?\\C:\\VMs\\base.vhdx")]):
            for sectors in EIGHTS[:-8], [0, 1, 7, 100, 2047]:
                plain = {0: (PARTIAL, 5, sectors), 2: (PARTIAL, 6, range(16, 896)), 3: (FULL, 7)}
                for blocks in plain, {**plain, 1: (ZEROS, None), 4: (UNMAPPED, None)}:  # where libvhdi reads the parent
                    v = Vhdx(blocks, parent=[linkage, *keys])
                    v.make("a.vhdx")
                    self.expect("a.vhdx", v.content(base.content()), parent="base.vhdx", libvhdi=len(sectors) > 10 and blocks is plain)
        self.rewrite("a.vhdx", v.content(base.content()), "vhdx", libvhdi=False)
        v.parent[0] = ("parent_linkage", "{44444444-4444-4444-4444-444444444445}")
        v.make("a.vhdx")
        self.assertIn("DataWriteGuid", disk("convert", "-O", "raw", "a.vhdx", "x", status=1))
        v.parent = [linkage]
        v.make("a.vhdx")
        self.assertIn("does not name its parent", disk("convert", "-O", "raw", "a.vhdx", "x", status=1))


if __name__ == "__main__":
    main()
