#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The board with no CPU at all, driven over the control socket: ports, memory, DMA, interrupts."""
import os
import resource
import struct
import sys
import tempfile
import time

sys.path.insert(0, __file__.rsplit("/", 1)[0])
from vm import PATIENCE, Failed, Machine, run  # noqa: E402

PRD, BUFFER, SECTORS = 0x1000, 0x4000, 8
BUS_MASTER = 0xC000


class Board(Machine):
    def __init__(self, *args):
        super().__init__(*args, "--serial", "none", engine="none", memory="64M")

    def load(self, space, address, size=1):
        return int(self.control(f"load {space} {address:#x} {size}"), 0)

    def store(self, space, address, value, size=1):
        self.control(f"store {space} {address:#x} {size} {value:#x}")

    def out(self, port, value, size=1):
        self.store("port", port, value, size)

    def inp(self, port, size=1):
        return self.load("port", port, size)

    def config(self, slot, function, offset, value):
        self.out(0xCF8, 0x80000000 | slot << 11 | function << 8 | offset, 4)
        self.out(0xCFC, value, 4)

    def wait_irq(self, number, after):
        end = time.monotonic() + 5 * PATIENCE
        while time.monotonic() < end:
            _, rises = self.control(f"irq {number}").split()
            if int(rises) > after:
                return
            time.sleep(0.005)
        raise Failed(f"interrupt {number} did not come")

    def wait_error(self, text, times=1):
        end = time.monotonic() + 5 * PATIENCE
        while self.stderr().count(text.encode()) < times:
            if time.monotonic() > end:
                raise Failed(f"no '{text}' on stderr")
            time.sleep(0.005)


def expect(got, want, what):
    if got != want:
        raise Failed(f"{what}: got {got!r}, not {want!r}")


def ide_dma():
    """A disk read by bus-master DMA lands in memory and raises interrupt 14; a write reaches the file."""
    with tempfile.NamedTemporaryFile() as image:
        data = os.urandom(1 << 20)
        image.write(data)
        image.flush()
        with Board("--disk", f"{image.name},format=raw") as board:
            board.config(1, 1, 0x20, BUS_MASTER | 1)
            board.config(1, 1, 0x04, 5)
            board.control(f"write {PRD:#x} " + struct.pack("<II", BUFFER, 0x80000000 | SECTORS * 512).hex())

            def transfer(command, to_memory):
                _, before = board.control("irq 14").split()
                board.out(BUS_MASTER + 4, PRD, 4)
                board.out(BUS_MASTER + 2, 6)
                board.out(BUS_MASTER, 8 if to_memory else 0)
                for port, value in ((0x1F6, 0xE0), (0x1F2, SECTORS), (0x1F3, 16), (0x1F4, 0), (0x1F5, 0), (0x1F7, command)):
                    board.out(port, value)
                board.out(BUS_MASTER, 9 if to_memory else 1)
                board.wait_irq(14, int(before))
                expect(board.inp(BUS_MASTER + 2) & 7, 4, "bus master status")
                expect(board.inp(0x1F7) & 0x89, 0, "drive status")
                board.out(BUS_MASTER, 0)

            transfer(0xC8, True)
            for part in range(0, SECTORS * 512, 1024):
                expect(board.control(f"read {BUFFER + part:#x} 1024"), data[8192 + part:8192 + part + 1024].hex(), "data read")
            new = os.urandom(1024)
            board.control(f"write {BUFFER:#x} {new.hex()}")
            transfer(0xCA, False)
        image.seek(8192)
        expect(image.read(1024), new, "data in the file")


def full_host():
    """A write that the host has no room for pauses the machine, is kept, and goes on when there is room."""
    with tempfile.NamedTemporaryFile() as image:
        image.truncate(1 << 20)
        with Board("--disk", f"{image.name},format=raw") as board:
            def write_sector(pattern):
                _, before = board.control("irq 14").split()
                for port, value in ((0x1F6, 0xE0), (0x1F2, 1), (0x1F3, 100), (0x1F4, 0), (0x1F5, 0), (0x1F7, 0x30)):
                    board.out(port, value)
                while board.inp(0x1F7) & 0x88 != 0x08:
                    pass
                for _ in range(256):
                    board.out(0x1F0, pattern, 2)
                return int(before)

            board.inp(0x1F7)  # it has its memory, which counts as a file
            resource.prlimit(board.process.pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
            before = write_sector(0x5A5A)
            board.wait_error(f"paused: cannot write disk '{image.name}': File too large")
            expect(int(board.control("irq 14").split()[1]), before, "interrupts while the write is kept")
            expect(board.inp(0x1F7) & 0x80, 0x80, "the drive is busy")
            board.control("resume")  # still no room: it pauses again
            board.wait_error("paused: cannot write", 2)
            resource.prlimit(board.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            board.control("resume")
            board.wait_irq(14, before)
            expect(board.inp(0x1F7) & 0x89, 0, "drive status")
        image.seek(100 * 512)
        expect(image.read(512), b"\x5a" * 512, "data in the file")


def reported_error():
    """With werror=report the guest hears of it at once."""
    with tempfile.NamedTemporaryFile() as image:
        image.truncate(1 << 20)
        with Board("--disk", f"{image.name},format=raw,werror=report") as board:
            board.inp(0x1F7)  # it has its memory, which counts as a file
            resource.prlimit(board.process.pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
            for port, value in ((0x1F6, 0xE0), (0x1F2, 1), (0x1F3, 100), (0x1F4, 0), (0x1F5, 0), (0x1F7, 0x30)):
                board.out(port, value)
            while board.inp(0x1F7) & 0x88 != 0x08:
                pass
            _, before = board.control("irq 14").split()
            for _ in range(256):
                board.out(0x1F0, 0x1111, 2)
            board.wait_irq(14, int(before))
            expect(board.inp(0x1F7) & 0x81, 1, "the error bit")


def timer():
    """The PIT's channel 0 raises interrupt 0 again and again."""
    with Board() as board:
        board.out(0x21, 0x01)  # unmasked, the next tick would wait for a CPU to take this one
        board.out(0x43, 0x34)
        board.out(0x40, 0x9C)
        board.out(0x40, 0x2E)
        board.wait_irq(0, 3)


def real_time_clock():
    """The clock shows the host's time; its periodic interrupt comes when asked for."""
    with Board() as board:
        def cmos(index):
            board.out(0x70, index)
            return board.inp(0x71)
        while cmos(0x0A) & 0x80:
            pass
        year, hour = cmos(0x09), cmos(0x04)
        now = time.gmtime()
        expect(f"{year:02x}", f"{now.tm_year % 100:02}", "year")
        if f"{hour:02x}" not in (f"{now.tm_hour:02}", f"{(now.tm_hour - 1) % 24:02}"):
            raise Failed(f"hour {hour:02x} at {now.tm_hour}")
        board.out(0x70, 0x0B)
        board.out(0x71, 0x42)
        board.wait_irq(8, 0)


def keyboard():
    """A key goes through the 8042 to interrupt 1 and port 0x60."""
    with Board() as board:
        for port, value in ((0x64, 0x60), (0x60, 0x41), (0x60, 0xF4)):
            board.out(port, value)
        board.wait_irq(1, 0)
        expect(board.inp(0x60), 0xFA, "acknowledgement")
        board.control("key a down")
        board.wait_irq(1, 1)
        expect(board.inp(0x60), 0x1E, "scan code")


run(ide_dma, full_host, reported_error, timer, real_time_clock, keyboard)
