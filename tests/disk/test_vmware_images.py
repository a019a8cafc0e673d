#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""VMDKs as VMware's products, VirtualBox and converters make them, built here from VMware's "Virtual Disk Format 5.0"; qemu-img and
libvmdk say what is in them. Usage: test_vmware_images.py BUILD"""
import json
import os
import struct
import zlib

from kit import BUILD, MIB, SECTOR, OddTest, descriptor, disk, main, needs_python, other_python, read, run, words, write

ZERO, NONE = "zero", None
AT_END = (1 << 64) - 1


def pattern(number, size):
    return (struct.pack("<I", number * 0x9E3779B1 & 0xffffffff) + b"grain %03d " % number).ljust(32, b".") * (size // 32)


class Sparse:
    """A hosted sparse extent. `grains`: what the disk's grains are, by number: a number to fill them with, or ZERO."""

    def __init__(self, capacity, grains, grain=128, entries=512, text=b"", room=20, version=1, flags=3, redundant=True, packed=False,
                 footer=False, only_redundant=False):
        self.capacity, self.grains, self.grain, self.entries = capacity, grains, grain, entries
        self.text, self.room, self.version, self.flags = text, room, version, flags
        self.redundant, self.packed, self.footer, self.only_redundant = redundant, packed, footer, only_redundant

    def content(self):
        size = self.grain * SECTOR
        data = b"".join(pattern(self.grains[i], size) if isinstance(self.grains.get(i), int) else bytes(size)
                        for i in range(-(-self.capacity // self.grain)))
        return data[:self.capacity * SECTOR]

    def header(self, directory, redundant, overhead):
        flags = self.flags | (0x30000 if self.packed else 0)
        h = struct.pack("<4sIIQQQQIQQQB4sH", b"KDMV", self.version, flags, self.capacity, self.grain, 1 if self.text else 0,
                        self.room if self.text else 0, self.entries, redundant, directory, overhead, 0, b"\n \r\n", int(self.packed))
        return h.ljust(SECTOR, b"\0")

    def make(self, path):
        tables = -(-self.capacity // (self.grain * self.entries))
        directory_size, table_size = -(-tables * 4 // SECTOR), -(-self.entries * 4 // SECTOR)
        copies = 2 if self.redundant else 1
        directories = [1 + self.room + i * (directory_size + tables * table_size) for i in range(copies)]
        end = directories[-1] + directory_size + tables * table_size
        end = overhead = -(-end // self.grain) * self.grain
        places, parts = {}, []
        for i, what in self.grains.items():
            if what == ZERO:
                places[i] = 1
                continue
            data = pattern(what, self.grain * SECTOR)
            if self.packed:
                left = min(self.grain, self.capacity - i * self.grain) * SECTOR
                stream = zlib.compress(data[:left])
                data = struct.pack("<QI", i * self.grain, len(stream)) + stream
            places[i] = end
            parts.append((end * SECTOR, data))
            end += -(-len(data) // SECTOR)
        for directory in directories:
            first = directory + directory_size
            parts.append((directory * SECTOR, struct.pack(f"<{tables}I", *[first + i * table_size for i in range(tables)])))
            for i, place in places.items():
                parts.append((first * SECTOR + i // self.entries * table_size * SECTOR + i % self.entries * 4, struct.pack("<I", place)))
        primary, redundant = directories[-1], directories[0] if self.redundant else 0
        if self.only_redundant:
            primary, redundant = 0, primary
        if self.footer:
            marker = struct.pack("<QII", 1, 0, 3).ljust(SECTOR, b"\0")
            parts.append((end * SECTOR, marker + self.header(primary, redundant, overhead) + bytes(SECTOR)))
            primary = AT_END
        write(path, (0, self.header(primary, redundant, overhead)), (SECTOR, self.text), *parts)
        reach = (end + (3 if self.footer else 0)) * SECTOR
        os.truncate(path, max(os.stat(path).st_size, reach))


class VmwareTest(OddTest):
    def expect(self, path, content, theirs=True, libvmdk=True):
        """It reads as `content`, and qemu-img and libvmdk say the same."""
        disk("check", path)
        disk("convert", "-O", "raw", path, "ours.raw")
        self.assertTrue(read("ours.raw") == content, path)
        write("content.raw", (0, content))
        disk("compare", "-F", "raw", path, "content.raw")
        if theirs:
            run("qemu-img", "compare", "-f", "vmdk", "-F", "raw", path, "content.raw")
        if libvmdk and other_python("pyvmdk"):
            script = "import pyvmdk,sys; h=pyvmdk.handle(); h.open(sys.argv[1]); h.open_extent_data_files()\n" \
                     "open('lib.raw','wb').write(h.read(h.media_size))"
            run("/usr/bin/python3", "-c", script, path)
            self.assertTrue(read("lib.raw") == content, f"{path}: libvmdk")

    def rewrite(self, path, content, theirs=True):
        """Written to, it reads as it should, here and by qemu-img."""
        changed = bytearray(content)
        for at, size in (70000, 5000), (len(content) - 700, 700):
            changed[at:at + size] = b"w" * size
        write("changed.raw", (0, bytes(changed)))
        disk("create", "-q", "-f", "qcow2", "-b", path, "-F", "vmdk", "over.qcow2")
        disk("rebase", "-q", "-u", "-b", "changed.raw", "-F", "raw", "over.qcow2")
        disk("rebase", "-q", "-b", path, "-F", "vmdk", "over.qcow2")
        disk("commit", "-q", "over.qcow2")
        self.expect(path, bytes(changed), theirs, False)


class SparseTest(VmwareTest):
    GRAINS = {0: 1, 1: 2, 3: 4, 4: 3, 9: 7}

    def test_shapes(self):
        for grain in 8, 16, 64, 128, 256:
            for more in 0, 1, grain - 3:
                s = Sparse(grain * 40 + more, {**self.GRAINS, 39: 11, **({40: 12} if more else {})}, grain=grain)
                s.text = descriptor("monolithicSparse", f'RW {s.capacity} SPARSE "a.vmdk"')
                s.make("a.vmdk")
                self.expect("a.vmdk", s.content(), libvmdk=False)  # libvmdk asks for an extent of its own name
        for entries in 512, 1024, 64:
            s = Sparse(8 * 2000, {**self.GRAINS, 511: 5, 512: 6, 1999: 9}, grain=8, entries=entries)
            s.text = descriptor("monolithicSparse", f'RW {s.capacity} SPARSE "a.vmdk"')
            s.make("a.vmdk")
            self.expect("a.vmdk", s.content(), theirs=entries == 512, libvmdk=False)
            self.rewrite("a.vmdk", s.content(), theirs=entries == 512)

    def test_zeroed_grains_and_versions(self):
        for version in 1, 2, 3:
            s = Sparse(128 * 20, {**self.GRAINS, 6: ZERO, 7: ZERO}, version=version, flags=7)
            s.text = descriptor("monolithicSparse", f'RW {s.capacity} SPARSE "a.vmdk"')
            s.make("a.vmdk")
            self.expect("a.vmdk", s.content(), libvmdk=False)
            self.rewrite("a.vmdk", s.content())
        Sparse(128 * 20, self.GRAINS, version=4).make("a.vmdk")
        self.assertIn("its version is 4", disk("info", "a.vmdk", status=1))

    def test_directories(self):
        for how in {"redundant": False, "flags": 1}, {"only_redundant": True, "redundant": False}:
            s = Sparse(128 * 20, self.GRAINS, **how)
            s.text = descriptor("monolithicSparse", f'RW {s.capacity} SPARSE "a.vmdk"')
            s.make("a.vmdk")
            theirs = "only_redundant" not in how
            self.expect("a.vmdk", s.content(), theirs=theirs, libvmdk=False)
            self.rewrite("a.vmdk", s.content(), theirs=theirs)

    def test_long_embedded_descriptor(self):
        s = Sparse(128 * 20, self.GRAINS, room=300)
        s.text = descriptor("monolithicSparse", f'RW {s.capacity} SPARSE "a.vmdk"') + b"# more\n" * 20000
        s.make("a.vmdk")
        self.expect("a.vmdk", s.content(), libvmdk=False)
        disk("resize", "-q", "a.vmdk", "3M")
        self.expect("a.vmdk", s.content().ljust(3 * MIB, b"\0"), libvmdk=False)

    def test_streams(self):
        """With a directory at the beginning or a footer, padded by others, written to afterwards."""
        for footer in False, True:
            for more in 0, 5:
                s = Sparse(128 * 30 + more, {**self.GRAINS, **({30: 4} if more else {})}, version=3, packed=True, footer=footer)
                s.text = descriptor("streamOptimized", f'RW {s.capacity} SPARSE "a.vmdk"')
                s.make("a.vmdk")
                self.expect("a.vmdk", s.content(), libvmdk=False)
                with open("a.vmdk", "ab") as file:
                    file.write(bytes(3000 if footer else 0))
                self.expect("a.vmdk", s.content(), theirs=False, libvmdk=False)
                self.rewrite("a.vmdk", s.content(), theirs=not more)
                s.make("a.vmdk")
                disk("resize", "-q", "a.vmdk", str(s.capacity * SECTOR + MIB))
                self.expect("a.vmdk", s.content().ljust(s.capacity * SECTOR + MIB, b"\0"), theirs=not more, libvmdk=False)


class ExtentsTest(VmwareTest):
    def setUp(self):
        super().setUp()
        self.flat = os.urandom(MIB)
        write("flat.bin", (0, self.flat))
        self.half = MIB // 2 // SECTOR

    def make(self, *lines, kind="custom", head=(), end="\n", name="a.vmdk", encoding="utf-8"):
        write(name, (0, descriptor(kind, *lines, head=head, end=end).decode().encode(encoding)))
        return name

    def test_lines(self):
        """Kinds of extents and ways to write them."""
        h, f = self.half, self.flat
        for lines in (['RW 2048 FLAT "flat.bin" 0'], [f'RW {h} FLAT "flat.bin" 0', f'RW {h} FLAT "flat.bin" {h}'],
                      ['\tRW\t2048 FLAT "flat.bin"  0 '], ['rw 2048 flat "flat.bin" 0'], ['RW 2048 VMFS "flat.bin"'],
                      ['RW 2048 FLAT "flat.bin" 0 partitionUUID \\\\?\\Volume{1}'], ['RDONLY 2048 FLAT "flat.bin" 0']):
            self.make(*lines)
            self.expect("a.vmdk", f, theirs=False, libvmdk=False)
        self.make('RW 2048 FLAT "flat.bin" 0', 'RW 100 ZERO', 'RW 100 ZERO ""', 'NOACCESS 56 ZERO')
        self.expect("a.vmdk", f + bytes(256 * SECTOR), theirs=False, libvmdk=False)
        for end in "\n", "\r\n":
            self.make(f'RW {h} FLAT "flat.bin" {h}', 'RW 100 ZERO', end=end)
            self.expect("a.vmdk", f[MIB // 2:] + bytes(100 * SECTOR), theirs=False, libvmdk=False)

    def test_zeros_cannot_be_written(self):
        """Extents without a file refuse what is written to them; what lies around them takes it."""
        for other in 'RW 2048 FLAT "flat.bin" 0', 'RW 2048 SPARSE "a-s001.vmdk"':
            Sparse(2048, {}).make("a-s001.vmdk")
            self.make(other, "RW 2048 ZERO")
            disk("convert", "-O", "raw", "a.vmdk", "before.raw")
            before = read("before.raw")
            for at, status in (1 << 20, 1), (0, 0):
                write("new.raw", (0, before[:at] + b"n" * 512 + before[at + 512:]))
                disk("create", "-q", "-f", "qcow2", "-b", "a.vmdk", "-F", "vmdk", "over.qcow2")
                disk("rebase", "-q", "-u", "-b", "new.raw", "-F", "raw", "over.qcow2")
                disk("rebase", "-q", "-b", "a.vmdk", "-F", "vmdk", "over.qcow2")
                disk("commit", "-q", "over.qcow2", status=status)
            self.expect("a.vmdk", read("new.raw"), theirs=False, libvmdk=False)

    def test_odd_texts_are_changed(self):
        """Keys that are indented, lines as Windows ends them, no kind: what changes is found again, the rest stays."""
        for end in "\n", "\r\n":
            for space in "", "  ", "\t":
                self.make('RW 2048 FLAT "flat.bin" 0', end=end)
                lines = [space + line for line in read("a.vmdk").decode().split(end) if "createType" not in line]
                write("a.vmdk", (0, end.join(lines).encode()))
                os.truncate("a.vmdk", len(end.join(lines)))
                before = json.loads(disk("info", "--json", "a.vmdk"))["format-specific"]["data"]["cid"]
                write("new.raw", (0, os.urandom(MIB)))
                run(f"{BUILD}/qemu-img", "convert", "-n", "-f", "raw", "-O", "vmdk", "new.raw", "a.vmdk")
                self.expect("a.vmdk", read("new.raw"), theirs=False, libvmdk=False)
                self.assertNotEqual(json.loads(disk("info", "--json", "a.vmdk"))["format-specific"]["data"]["cid"], before)
                disk("rebase", "-q", "-u", "-b", "flat.bin", "-F", "raw", "a.vmdk")
                self.assertEqual(json.loads(disk("info", "--json", "a.vmdk"))["backing-filename"], "flat.bin")
                text = read("a.vmdk").decode()
                self.assertEqual(text.count("\r"), text.count("\n") if "\r" in end else 0)
                for line in lines:
                    self.assertTrue("CID" in line or line in text.split(end), line)

    def test_two_parts_of_one_file_are_written(self):
        self.make(f'RW {self.half} FLAT "flat.bin" 0', f'RW {self.half} FLAT "flat.bin" {self.half}', kind="twoGbMaxExtentFlat")
        self.rewrite("a.vmdk", self.flat)

    def test_resize_keeps_the_line(self):
        for line in 'RW   2048  FLAT "flat.bin" 0', '\tRW\t2048 FLAT "flat.bin" 0':
            write("flat.bin", (0, self.flat))
            self.make(line, kind="monolithicFlat")
            disk("resize", "-q", "a.vmdk", "2M")
            self.expect("a.vmdk", self.flat.ljust(2 * MIB, b"\0"), libvmdk=False)

    def test_names(self):
        """Quoted names with spaces, of other alphabets and encodings, from Windows and from hosts that are far away."""
        for name, said, head, encoding in (
                ("my disk.bin", "my disk.bin", [], "utf-8"), ("Gerät-平.bin", "Gerät-平.bin", ['encoding="UTF-8"'], "utf-8"),
                ("Gerät.bin", "Gerät.bin", ['encoding="windows-1252"'], "windows-1252"),
                ("平.bin", "平.bin", ['encoding="GBK"'], "gbk"), ("平.bin", "平.bin", ['encoding="windows-1252"'], "utf-8"),
                ("x.bin", "C:\\VMs\\My VM\\x.bin", [], "utf-8"), ("x.bin", "\\\\server\\share\\x.bin", [], "utf-8"),
                ("x.bin", "/vmfs/volumes/4f/x.bin", [], "utf-8"), ("sub/x.bin", "sub\\x.bin", [], "utf-8"),
                ("sub/x.bin", ".\\sub\\x.bin", [], "utf-8"), ("a\\b.bin", "a\\b.bin", [], "utf-8")):
            os.makedirs("sub", exist_ok=True)
            os.rename("flat.bin", name)
            self.make(f'RW 2048 FLAT "{said}" 0', head=head, encoding=encoding)
            self.expect("a.vmdk", self.flat, theirs=False, libvmdk=False)
            self.rewrite("a.vmdk", self.flat, theirs=False)
            os.rename(name, "flat.bin")
            write("flat.bin", (0, self.flat))
        for outside in "/etc/hostname", "..\\x", "../x":
            self.make(f'RW 1 FLAT "{outside}" 0')
            self.assertIn("outside of its folder", disk("convert", "-O", "raw", "a.vmdk", "x", status=1))

    def test_a_mark_of_the_text_editor(self):
        self.make('RW 2048 FLAT "flat.bin" 0')
        write("b.vmdk", (0, b"\xef\xbb\xbf" + read("a.vmdk")))
        self.expect("b.vmdk", self.flat, theirs=False, libvmdk=False)

    def test_refusals(self):
        """Each says what it is about and what to do."""
        for line, kind, word in (
                ('RW 2048 VMFSRDM "flat.bin"', "vmfsRawDeviceMap", "vmkfstools"),
                ('RW 2048 VMFSRAW "flat.bin"', "vmfsRaw", "vmkfstools"),
                ('RW 2048 FLAT "\\\\.\\PhysicalDrive0" 0', "fullDevice", "PhysicalDrive0"),
                ('RW 63 FLAT "\\\\.\\PhysicalDrive1" 63', "partitionedDevice", "Windows host"),
                ('NOACCESS 2048 FLAT "flat.bin" 0', "custom", "NOACCESS"),
                ('RW 2048 PMEM "flat.bin" 0', "custom", "PMEM"),
                ('RW 2049 FLAT "flat.bin" 0', "custom", "cut off"), ('RW 2048 FLAT "flat.bin" 1', "custom", "cut off"),
                ('RW 2048 FLAT flat.bin 0', "custom", "has the line"), ('RW x FLAT "flat.bin" 0', "custom", "has the line")):
            self.make(line, kind=kind)
            self.assertIn(word, disk("convert", "-O", "raw", "a.vmdk", "x", status=1), line)
        self.make('RDONLY 2048 FLAT "flat.bin" 0')
        self.assertIn("RDONLY", disk("resize", "-q", "a.vmdk", "2M", status=1))
        self.assertEqual(read("flat.bin"), self.flat)
        for head in ['encryptionKeys = "vmware:key/list/..."'], ['ddb.iofilters = "vmwarevmcrypt"']:
            self.make('RW 2048 FLAT "flat.bin" 0', head=head)
            self.assertIn("encrypted by VMware", disk("info", "a.vmdk", status=1))

    def test_split_sparse(self):
        parts = [Sparse(128 * 20, SparseTest.GRAINS), Sparse(128 * 20, {19: 5}), Sparse(128 * 3 + 8, {0: 9, 3: 2})]
        for i, part in enumerate(parts):
            part.make(f"a-s00{i + 1}.vmdk")
        lines = [f'RW {part.capacity} SPARSE "a-s00{i + 1}.vmdk"' for i, part in enumerate(parts)]
        content = b"".join(part.content() for part in parts)
        for end in "\n", "\r\n":
            self.make(*lines, kind="twoGbMaxExtentSparse", end=end)
            self.expect("a.vmdk", content, libvmdk=end == "\n")
        self.rewrite("a.vmdk", content)


@needs_python("pyvmdk")
class LibvmdkTest(VmwareTest):
    """What is made here, read by libvmdk."""

    def test_made_here(self):
        content = os.urandom(MIB) + bytes(3 * MIB) + b"t" * MIB + bytes(SECTOR * 7)
        write("a.raw", (0, content))
        for kind in "monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat", "streamOptimized":
            disk("convert", "-f", "raw", "-O", "vmdk", "-o", f"subformat={kind}", "a.raw", "a.vmdk")
            self.expect("a.vmdk", content)


class CowdTest(VmwareTest):
    """vmfsSparse: redo logs of ESX, with a header of their own."""

    @staticmethod
    def make(capacity, grains, grain):
        tables = -(-capacity // (grain * 4096))
        first = 4 + -(-tables * 4 // SECTOR)
        end, parts = first + tables * 32, []
        used = {i // 4096 for i in grains}
        parts.append((4 * SECTOR, struct.pack(f"<{tables}I", *[first + i * 32 if i in used else 0 for i in range(tables)])))
        for i, what in grains.items():
            parts.append((end * SECTOR, pattern(what, grain * SECTOR)))
            parts.append((first * SECTOR + i * 4, struct.pack("<I", end)))
            end += grain
        header = struct.pack("<4sIIIIIII", b"COWD", 1, 3, capacity, grain, 4, tables, end).ljust(4 * SECTOR, b"\0")
        write("a-delta.vmdk", (0, header), *parts)
        os.truncate("a-delta.vmdk", end * SECTOR)
        return b"".join(pattern(grains[i], grain * SECTOR) if i in grains else bytes(grain * SECTOR)
                        for i in range(capacity // grain))

    def test_read_and_write(self):
        for grain in 1, 8, 128:
            content = self.make(grain * 9000, {0: 1, 1: 2, 5: 3, 4095: 4, 4096: 5, 8999: 6}, grain)
            write("a.vmdk", (0, descriptor("vmfsSparse", f'RW {grain * 9000} VMFSSPARSE "a-delta.vmdk"')))
            self.expect("a.vmdk", content, libvmdk=False)


class ParentTest(VmwareTest):
    UUIDS = "11111111-2222-3333-4444-555555555555", "99999999-8888-7777-6666-555555555555"

    def setUp(self):
        super().setUp()
        self.base = Sparse(128 * 20, {0: 1, 1: 2, 19: 9})
        self.child = Sparse(128 * 20, {1: 7, 2: 8})
        both = Sparse(128 * 20, {**self.base.grains, **self.child.grains})
        self.content = both.content()

    def make(self, hint, name="base.vmdk", parent_cid="12345678", base_more=(), child_more=(), kind="monolithicSparse"):
        self.base.text = descriptor("monolithicSparse", f'RW {self.base.capacity} SPARSE "{name}"', *base_more)
        self.base.make(name)
        head = [f'parentFileNameHint="{hint}"'] if hint else []
        text = descriptor(kind, f'RW {self.child.capacity} SPARSE "c.vmdk"', *child_more, head=head)
        self.child.text = text.replace(b"parentCID=ffffffff", b"parentCID=" + parent_cid.encode()).replace(b"\nCID=12345678", b"\nCID=aaaa5555")
        self.child.make("c.vmdk")

    def test_hints(self):
        for hint, name, theirs in (("base.vmdk", "base.vmdk", True), ("C:\\Users\\Me\\VMs\\base.vmdk", "base.vmdk", False),
                                   ("/vmfs/volumes/1/base.vmdk", "base.vmdk", False), ("my base.vmdk", "my base.vmdk", True),
                                   ("old\\base.vmdk", "old/base.vmdk", False)):
            os.makedirs("old", exist_ok=True)
            self.make(hint, name)
            self.expect("c.vmdk", self.content, theirs=theirs, libvmdk=False)

    def test_a_changed_parent(self):
        self.make("base.vmdk", parent_cid="12345679")
        self.assertIn("CIDs differ", disk("convert", "-O", "raw", "c.vmdk", "x", status=1))

    def test_an_unnamed_parent(self):
        self.make(None)
        self.assertIn("rebase -u", disk("convert", "-O", "raw", "c.vmdk", "x", status=1))
        disk("info", "c.vmdk")

    def test_virtualbox_snapshots(self):
        """VirtualBox says the parent's UUID only, and keeps snapshots in a folder below."""
        mine, parents = self.UUIDS
        more = [f'ddb.uuid.image="{mine}"', f'ddb.uuid.parent="{parents}"']
        for cid in "ffffffff", "12345678", "00000001":
            self.make(None, "Disk 1.vmdk", cid, [f'ddb.uuid.image="{parents}"'], more)
            self.expect("c.vmdk", self.content, theirs=False, libvmdk=False)
        os.mkdir("below")
        os.rename("c.vmdk", "below/c.vmdk")
        self.assertIn(parents, disk("convert", "-O", "raw", "below/c.vmdk", "x", status=1))
        disk("convert", "--trust-backing", "-O", "raw", "below/c.vmdk", "x")
        self.assertTrue(read("x") == self.content)
        os.rename("below", "Snapshots")
        disk("convert", "-O", "raw", "Snapshots/c.vmdk", "x")
        self.assertTrue(read("x") == self.content)
        os.remove("Disk 1.vmdk")
        disk("info", "Snapshots/c.vmdk")
        self.assertIn("not in its folder", disk("convert", "-O", "raw", "Snapshots/c.vmdk", "x", status=1))

    def test_virtualbox_vmdk_over_vdi(self):
        mine = self.UUIDS[0]
        write("base.raw", (0, self.base.content()))
        disk("convert", "-f", "raw", "-O", "vdi", "base.raw", "base.vdi")
        raw = read("base.vdi", 392, 16)
        parents = "%08x-%04x-%04x-%s-%s" % (*struct.unpack("<IHH", raw[:8]), raw[8:10].hex(), raw[10:].hex())
        self.make(None, "unused.vmdk", "ffffffff", child_more=[f'ddb.uuid.image="{mine}"', f'ddb.uuid.parent="{parents}"'])
        self.expect("c.vmdk", self.content, theirs=False, libvmdk=False)


if __name__ == "__main__":
    main()
