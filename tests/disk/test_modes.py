#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Media modes on every format, as a guest sees them that boots from the disk in question. Usage: test_modes.py BUILD"""
import hashlib
import os
import select
import subprocess

from kit import PROGRAM, FolderTest, disk, main, needs, read

MIB = 1 << 20
# Answers single letters on the serial port: `r` shows the first byte of sector 100, `w` writes the next letter there and says
# whether that was possible, `q` ends the machine.
GUEST = """
bits 16
org 0x7c00
        xor ax, ax
        mov ds, ax
        mov ss, ax
        mov sp, 0x7c00
        mov [drive], dl
        mov al, '>'
        call say
next:   mov dx, 0x3fd
        in al, dx
        test al, 1
        jz next
        mov dx, 0x3f8
        in al, dx
        cmp al, 'q'
        je end
        cmp al, 'w'
        je write
        mov ah, 0x42
        call sector
        mov al, [0x8000]
        jnc answer
        mov al, '!'
        jmp answer
write:  mov ah, 0x42
        call sector
        inc byte [0x8000]
        mov ah, 0x43
        call sector
        mov al, '+'
        jnc answer
        mov al, '-'
answer: call say
        jmp next
say:    mov dx, 0x3f8
        out dx, al
        ret
sector: mov al, 0
        mov si, packet
        mov byte [si+2], 1
        mov dl, [drive]
        int 0x13
        ret
end:    mov dx, 0xf4
        mov al, 0
        out dx, al
        hlt
drive:  db 0
packet: db 16, 0
        dw 1, 0x8000, 0
        dq 100
        times 510-($-$$) db 0
        dw 0xaa55
"""
# Name of the case, format, options of its making.
FORMATS = [("raw", "raw", []), ("qcow", "qcow", []), ("qcow2", "qcow2", []), ("qcow2-v2", "qcow2", ["compat=0.10"]),
           ("vdi", "vdi", []), ("vdi-fixed", "vdi", ["static=on"]), ("vmdk", "vmdk", []),
           ("vmdk-flat", "vmdk", ["subformat=monolithicFlat"]), ("vmdk-split", "vmdk", ["subformat=twoGbMaxExtentSparse"]),
           ("vmdk-stream", "vmdk", ["subformat=streamOptimized"]), ("vhd", "vhd", []), ("vhd-fixed", "vhd", ["subformat=fixed"]),
           ("vhdx", "vhdx", []), ("vhdx-fixed", "vhdx", ["subformat=fixed"])]
SHAREABLE = {"raw", "vdi-fixed", "vhd-fixed", "vhdx-fixed"}


class Guest:
    """A running machine; `with` waits for its guest and ends it."""

    def __init__(self, image, name, mode, difference=None):
        spec = f"{image},format={name},mode={mode}" + (f",difference={difference}" if difference else "")
        self.process = subprocess.Popen([PROGRAM, "run", "--engine", "interp", "--display", "none", "--serial", "stdio",
                                         "--debug-exit", "0xf4", "--disk", spec],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def answer(self):
        ready = select.select([self.process.stdout], [], [], 120)[0]
        said = os.read(self.process.stdout.fileno(), 1) if ready else b""
        if not said:
            self.process.kill()
            raise AssertionError(f"no answer: {self.process.communicate()}")
        return said.decode()

    def ask(self, letter):
        self.process.stdin.write(letter.encode())
        self.process.stdin.flush()
        return self.answer()

    def __enter__(self):
        while self.answer() != ">":
            pass
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.stdin.write(b"q")
            self.process.stdin.flush()
        self.process.communicate(timeout=120)

    def refusal(self):
        """Of a machine that must not start."""
        said = self.process.communicate(timeout=120)[1].decode()
        assert self.process.returncode == 1, said
        return said


@needs("nasm")
class ModesTest(FolderTest):
    def setUp(self):
        super().setUp()
        with open("guest.asm", "w", encoding="ascii") as file:
            file.write(GUEST)
        subprocess.run(["nasm", "-f", "bin", "-o", "disk.raw", "guest.asm"], check=True)
        with open("disk.raw", "r+b") as file:
            file.truncate(5 * MIB)
            file.seek(100 * 512)
            file.write(b"A")

    @staticmethod
    def images(empty=()):
        """The disk in every format, or, for those in `empty`, one without data."""
        for case, name, options in FORMATS:
            flags = ["-o", ",".join(options)] if options else []
            os.mkdir(case)
            image = f"{case}/disk"
            if case in empty:
                disk("create", "-f", name, *flags, image, "5M")
            else:
                disk("convert", "-f", "raw", "-O", name, *flags, "disk.raw", image)
            yield case, image, name

    @staticmethod
    def digest(case, but=()):
        """Of all files of an image: some have several."""
        return {name: hashlib.sha256(read(f"{case}/{name}")).hexdigest() for name in os.listdir(case) if name not in but}

    def test_normal_and_writethrough(self):
        for _, image, name in self.images():
            for mode, letter in ("normal", "A"), ("writethrough", "B"):
                with Guest(image, name, mode) as guest:
                    self.assertEqual(guest.ask("r"), letter)
                    self.assertEqual(guest.ask("w"), "+")
                    self.assertIn("in use", Guest(image, name, mode).refusal())
            disk("check", "-f", name, image, status=63 if name in ("raw", "qcow") else 0)
            disk("convert", "-f", name, "-O", "raw", image, "after.raw")
            self.assertEqual(read("after.raw", 51200, 2), b"C\0")

    def test_readonly(self):
        for case, image, name in self.images():
            before = self.digest(case)
            with Guest(image, name, "readonly") as one, Guest(image, name, "readonly") as two:
                self.assertEqual([g.ask(c) for g in (one, two) for c in "rwr"], ["A", "-", "A"] * 2, case)
            self.assertEqual(self.digest(case), before)

    def test_immutable(self):
        """Several machines at once, with and without a named difference, and a reader; each begins anew when it is started anew."""
        for case, image, name in self.images():
            before = self.digest(case)
            kept = f"{case}/kept.qcow2"
            with Guest(image, name, "immutable") as one, Guest(image, name, "immutable", kept) as two, \
                    Guest(image, name, "readonly") as three:
                self.assertEqual([one.ask("w"), one.ask("w"), two.ask("w")], ["+"] * 3)
                self.assertEqual([one.ask("r"), two.ask("r"), three.ask("r")], ["C", "B", "A"])
                self.assertIn("in use", Guest(image, name, "normal").refusal())
                self.assertIn("in use", Guest(image, name, "immutable", kept).refusal())
            disk("convert", "--trust-backing", "-O", "raw", kept, "kept.raw")
            self.assertEqual(read("kept.raw", 51200, 1), b"B")  # until the next start
            for difference in None, kept:
                with Guest(image, name, "immutable", difference) as guest:
                    self.assertEqual(guest.ask("r"), "A")
            self.assertEqual(self.digest(case, {"kept.qcow2"}), before)

    def test_multiattach(self):
        """Each machine keeps what it wrote."""
        for case, image, name in self.images():
            before = self.digest(case)
            own = [f"{case}/{n}.qcow2" for n in (1, 2)]
            with Guest(image, name, "multiattach", own[0]) as one, Guest(image, name, "multiattach", own[1]) as two:
                self.assertEqual([one.ask("w"), one.ask("w"), two.ask("w")], ["+"] * 3)
                self.assertIn("in use", Guest(image, name, "multiattach", own[0]).refusal())
                self.assertIn("in use", Guest(image, name, "writethrough").refusal())
            with Guest(image, name, "multiattach", own[0]) as one, Guest(image, name, "multiattach", own[1]) as two, \
                    Guest(image, name, "immutable") as three:
                self.assertEqual([one.ask("r"), two.ask("r"), three.ask("r")], ["C", "B", "A"])
            self.assertEqual(self.digest(case, {"1.qcow2", "2.qcow2"}), before)
            self.assertIn("difference", Guest(image, name, "multiattach").refusal())

    def test_shareable(self):
        """Where the map can't change, and nowhere else."""
        for case, image, name in self.images({f[0] for f in FORMATS} - SHAREABLE):
            before = self.digest(case)
            if case not in SHAREABLE:
                self.assertIn("no fixed size", Guest(image, name, "shareable").refusal(), case)
                self.assertEqual(self.digest(case), before)
                continue
            with Guest(image, name, "shareable") as one, Guest(image, name, "shareable") as two:
                self.assertEqual([one.ask("w"), two.ask("r"), two.ask("w"), one.ask("r")], ["+", "B", "+", "C"])
                for mode in "normal", "immutable", "readonly":
                    self.assertIn("in use", Guest(image, name, mode).refusal())
            with Guest(image, name, "normal") as guest:
                self.assertEqual(guest.ask("r"), "C")


if __name__ == "__main__":
    main()
