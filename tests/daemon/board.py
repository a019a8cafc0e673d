# SPDX-License-Identifier: GPL-3.0-or-later
"""The devices of a machine under the daemon, driven by its control socket as a CPU would; such a machine has none (engine none)."""
import socket

from daemon import check, wait_until


class Board:
    """The machine's devices, driven by its control socket: it has no CPU (engine none)."""

    def __init__(self, daemon, machine):
        self.client = socket.socket(socket.AF_UNIX)
        self.client.connect(str(daemon.path / "run/ospite/vms" / machine["uuid"] / "control"))
        self.answers = self.client.makefile("r")

    def ask(self, line):
        self.client.sendall(f"{line}\n".encode())
        answer = self.answers.readline().strip()
        check(answer.startswith("ok"), f"{line}: {answer}")
        return answer[3:]

    def out(self, port, value, size=1):
        self.ask(f"store port {port:#x} {size} {value:#x}")

    def inp(self, port):
        return int(self.ask(f"load port {port:#x} 1"), 0)

    def write_sector(self, lba, pattern):
        for port, value in ((0x1F6, 0xE0), (0x1F2, 1), (0x1F3, lba), (0x1F4, 0), (0x1F5, 0), (0x1F7, 0x30)):
            self.out(port, value)
        while self.inp(0x1F7) & 0x88 != 0x08:
            pass
        for _ in range(256):
            self.out(0x1F0, pattern, 2)

    # ---- a CD-ROM drive at the second channel ---------------------------------------------------

    def packet(self, *command, size=0):
        """Sends an ATAPI command; (whether it failed, the data)."""
        for port, value in ((0x176, 0xA0), (0x174, size & 0xFF), (0x175, size >> 8), (0x177, 0xA0)):
            self.out(port, value)
        wait_until(lambda: self.inp(0x177) & 0x88 == 0x08, "the drive")
        command = bytes(command).ljust(12, b"\0")
        for i in range(0, 12, 2):
            self.out(0x170, command[i] | command[i + 1] << 8, 2)
        wait_until(lambda: not self.inp(0x177) & 0x80, "the command")
        data = b""
        while self.inp(0x177) & 0x88 == 0x08:
            data += int(self.ask("load port 0x170 2"), 0).to_bytes(2, "little")
        return bool(self.inp(0x177) & 1), data

    def disc(self):
        """The first bytes on the disc, after what it has to say about being a new one."""
        for _ in range(3):
            failed, data = self.packet(0x28, 0, 0, 0, 0, 0, 0, 0, 1, size=2048)
            if not failed:
                return data[:16]
            self.packet(0x03, 0, 0, 0, 18, size=18)  # the attention is told once
        return None
