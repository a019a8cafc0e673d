#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of the board as the machine has them once started, as TAP: by its devices, without a CPU, and by Linux in it."""
import datetime
import json
import os
import pathlib
import re
import struct
import sys
import time

from board import Board
from daemon import TOP, Daemon, Skipped, check, expect, run, wait_until

GUEST = TOP / ".cache" / "guest"
SMALL = ("memory=8M", "engine=none")
NOTHING = 0xFFFFFFFF


# ---- without a CPU ------------------------------------------------------------------------------

def started(d, *settings, name="one"):
    d.run("vm", "create", name, *SMALL, *settings)
    d.run("vm", "start", name)
    return Board(d, d.vm(name))


def cmos(board, index):
    board.out(0x70, index)
    return board.inp(0x71)


def memory(board, address):
    return int(board.ask(f"load memory {address:#x} 4"), 0)


def pci(board, slot, function, offset=0):
    board.out(0xCF8, 0x80000000 | slot << 11 | function << 8 | offset, 4)
    return int(board.ask("load port 0xcfc 4"), 0)


def files(board):
    """What firmware finds by fw_cfg, by name."""
    def read(key, size):
        board.out(0x510, key, 2)
        return bytes(board.inp(0x511) for _ in range(size))

    found = {}
    count = struct.unpack(">I", read(0x19, 4))[0]
    directory = read(0x19, 4 + 64 * count)[4:]
    for i in range(count):
        size, key, _, name = struct.unpack(">IHH56s", directory[64 * i:64 * i + 64])
        name = name.rstrip(b"\0").decode()
        found[name] = read(key, size) if name.startswith("etc/acpi") else size
    return found


def tables(board):
    """The signatures of the ACPI tables that firmware gets; None: it gets none."""
    blob = files(board).get("etc/acpi/tables")
    return blob and {name for name in (b"DSDT", b"FACP", b"APIC", b"HPET") if name in blob}


def plain():
    """A machine as it is made has ACPI with APIC and HPET tables, an I/O APIC, an HPET, power management and a VGA of 16 MiB."""
    with Daemon() as d:
        board = started(d)
        expect(tables(board), {b"DSDT", b"FACP", b"APIC", b"HPET"}, "tables")
        check(memory(board, 0xFEC00000) != NOTHING and memory(board, 0xFED00000) >> 16 == 0x8086, "I/O APIC or HPET are missing")
        expect(pci(board, 1, 3) & 0xFFFF, 0x8086, "power management")
        board.out(0xCF8, 0x80000000 | 2 << 11 | 0x10, 4)
        board.out(0xCFC, NOTHING, 4)
        expect(int(board.ask("load port 0xcfc 4"), 0) & ~0xF, NOTHING & ~((16 << 20) - 1), "size of the video memory")


def hpet():
    """Without an HPET there is no such table and no such device."""
    with Daemon() as d:
        board = started(d, "hpet=off")
        expect(tables(board), {b"DSDT", b"FACP", b"APIC"}, "tables")
        expect(memory(board, 0xFED00000), NOTHING, "where the HPET was")


def apic():
    """Without APICs there is no such table and no I/O APIC; more than one CPU is refused by name."""
    with Daemon() as d:
        board = started(d, "apic=off")
        expect(tables(board), {b"DSDT", b"FACP", b"HPET"}, "tables")
        expect(memory(board, 0xFEC00000), NOTHING, "where the I/O APIC was")
        d.run("vm", "create", "two", *SMALL, "apic=off", "cpus=2")
        check("system.apic" in d.run("vm", "start", "two", status=1), "two CPUs without APICs")


def acpi():
    """Without ACPI there are no tables and no power management; the power button is refused, and what a direct kernel cannot have."""
    with Daemon() as d:
        board = started(d, "acpi=off")
        expect(tables(board), None, "tables")
        check("etc/table-loader" not in files(board), "firmware is given a script")
        expect(pci(board, 1, 3), NOTHING, "power management")
        said = d.run("vm", "stop", "one", status=1)
        check("no power button" in said and "poweroff" in said, said)
        expect(d.vm("one")["state"], "running", "state")
        kernel = TOP / "build/tests/guests/smp64.elf"
        d.run("vm", "create", "two", *SMALL, "acpi=off", "cpus=2", f"kernel.file={kernel}")
        check("system.acpi" in d.run("vm", "start", "two", status=1), "two CPUs without ACPI for a direct kernel")


def clock():
    """The hardware clock has the host's local time, or UTC."""
    with Daemon() as d:
        d.environment["TZ"] = "XXX-5:30"  # five hours and a half east
        for zone, offset in (("utc", 0), ("local", 330)):
            board = started(d, f"rtc={zone}", name=zone)
            wait_until(lambda b=board: not cmos(b, 0x0A) & 0x80, "the end of the clock's update")
            bcd = [cmos(board, i) for i in (4, 2)]
            hour, minute = (value if cmos(board, 0x0B) & 4 else (value >> 4) * 10 + (value & 15) for value in bcd)
            now = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(minutes=offset)
            late = (now.hour * 60 + now.minute - hour * 60 - minute) % 1440
            check(late <= 2, f"rtc={zone}: {hour}:{minute:02}, not {now:%H:%M}")


def firmware_words():
    """Boot order, boot menu, memory and CPUs reach the firmware."""
    with Daemon() as d:
        board = started(d, "boot=network,cdrom,disk", "boot-menu=on", "cpus=3", "memory=64M")
        expect((cmos(board, 0x3D), cmos(board, 0x38) >> 4), (0x34, 2), "boot order")
        expect(cmos(board, 0x5F), 2, "CPUs beside the first")
        expect((cmos(board, 0x34) | cmos(board, 0x35) << 8) * 65536 + (16 << 20), 64 << 20, "memory")
        board.out(0x510, 0x0E, 2)
        expect(board.inp(0x511), 1, "boot menu")


def ports():
    """Serial and parallel ports are where they belong, with what they write in their files; those that were not asked for are absent."""
    with Daemon() as d:
        board = started(d, "serial.1.backend=file:com2", "serial.3.backend=none", "parallel.0.backend=file:lpt1", "parallel.1.backend=file:lpt2",
                        "parallel.2.backend=none")
        for port, there in ((0x3FF, True), (0x2FF, True), (0x3EF, False), (0x2EF, True)):
            board.out(port, 0x5A)
            expect(board.inp(port) == 0x5A, there, f"scratch register at {port:#x}")
        board.out(0x2F8, ord("s"))
        for base, byte in ((0x378, "1"), (0x278, "2")):
            board.out(base, ord(byte))
            board.out(base + 2, 0x0D)
            board.out(base + 2, 0x0C)
        folder = pathlib.Path(d.vm("one")["folder"])
        for name, text in (("com2", "s"), ("lpt1", "1"), ("lpt2", "2")):
            wait_until(lambda n=name, t=text: (folder / n).read_text() == t, f"what the guest wrote to {name}")
        check(board.inp(0x3BC + 2) != 0xFF, "the third parallel port is missing")


def video():
    """Without an adapter there is none; video memory has the size that was set, and one that cannot be is refused."""
    with Daemon() as d:
        board = started(d, "display.adapter=none")
        expect(pci(board, 2, 0), NOTHING, "the adapter")
        board = started(d, "display.vram=32M", name="two")
        board.out(0xCF8, 0x80000000 | 2 << 11 | 0x10, 4)
        board.out(0xCFC, NOTHING, 4)
        expect(int(board.ask("load port 0xcfc 4"), 0) & ~0xF, NOTHING & ~((32 << 20) - 1), "size of the video memory")
        d.run("vm", "create", "three", *SMALL, "display.vram=12M")
        check("display.vram" in d.run("vm", "start", "three", status=1), "12 MiB of video memory")


def disks_limit():
    """All disks together keep to their limit, which changes while the machine runs."""
    with Daemon() as d:
        settings = ["limits.disk=4K"]
        for slot in (0, 1):
            disk = d.path / f"disk{slot}"
            disk.write_bytes(bytes(1 << 20))
            settings += [f"storage.ide0.{slot}.type=disk", f"storage.ide0.{slot}.medium={disk}", f"storage.ide0.{slot}.format=raw"]
        board = started(d, *settings)

        def write(sectors):
            begun = time.monotonic()
            for lba in range(sectors):
                board.write_sector(lba, 0x1111)
                wait_until(lambda: not board.inp(0x1F7) & 0x80, "the drive")
            return time.monotonic() - begun

        check(write(24) > 2, "12 KiB at 4 KiB a second took less than two seconds")
        expect(d.run("vm", "set", "one", "limits.disk=0"), "limits.disk changed\n", "answer")
        write(200)


def refused():
    """What this version has no device for is refused at the start by its name; taken back, the machine starts."""
    with Daemon() as d:
        d.run("vm", "create", "one", *SMALL)
        for name, value in (("system.firmware", "uefi"), ("storage.s.type", "ahci"), ("storage.s.type", "nvme"), ("storage.s.type", "virtio-blk"),
                            ("network.0.model", "e1000"), ("display.adapter", "virtio"), ("display.monitors", "2"), ("display.vnc", "127.0.0.1:5900"),
                            ("display.rdp", "127.0.0.1:3389"), ("input.keyboard", "usb"), ("input.pointer", "usb-tablet"), ("audio.adapter", "hda"),
                            ("usb.controller", "xhci"), ("shared.a.path", "/srv"), ("guest.clipboard", "both"), ("guest.drag-and-drop", "both"),
                            ("guest.time-sync", "on"), ("guest.balloon", "1M"), ("limits.network", "1M")):
            d.run("vm", "set", "one", f"{name}={value}")
            said = d.run("vm", "start", "one", status=1)
            check(name.rpartition(".")[0] in said and "this version" in said, f"{name}={value}: {said}")
            list_name = name.rpartition(".")[0] if name.split(".")[0] in ("storage", "network", "shared") else name
            d.call("PATCH", "/vms/one", {"settings": {list_name: None}})
        d.run("vm", "set", "one", "storage.s.type=ahci", "network.0.model=e1000", "guest.clipboard=both")
        said = d.run("vm", "start", "one", status=1)
        check(said.count("\n") == 1 and all(name in said for name in ("storage.s.type", "network.0", "guest.clipboard")), f"what else is missing: {said}")
        expect((d.vm("one")["state"], d.vm("one")["last_end"]), ("off", None), "a machine that was never started")
        for name in ("storage.s", "network.0", "guest.clipboard"):
            d.call("PATCH", "/vms/one", {"settings": {name: None}})
        d.run("vm", "start", "one")


# ---- by Linux -----------------------------------------------------------------------------------

class Linux:
    """The demo guest's kernel and shell, by the console of a machine."""

    def __init__(self, d, *settings):
        if not (GUEST / "vmlinuz").exists():
            raise Skipped("tools/make-guest has not made the demo guest")
        d.run("vm", "create", "linux", "memory=256M", f"kernel.file={GUEST / 'vmlinuz'}", f"kernel.initrd={GUEST / 'initrd.gz'}",
              "kernel.append=console=ttyS0", *settings)
        d.run("vm", "start", "linux")
        self.d, self.pid, self.console = d, d.vm("linux")["pid"], d.websocket("/vms/linux/console")
        self.console.expect(rb"ospite guest ready.*/ # ", 120)

    def shell(self, command):
        """What a command prints."""
        self.console.text = b""
        self.console.send(f"{command}; echo do''ne\n".encode())
        self.console.expect(rb"\r\n(.*)done\r\n", 60)
        return re.search(rb"\r\n(.*)done\r\n", self.console.text, re.DOTALL)[1].decode(errors="replace")

    def dmesg(self, word):
        return self.shell(f"dmesg | grep -i '{word}'")


def linux_board():
    """Linux without HPET, APIC and ACPI runs its shell on the 8259A and finds none of them, but the CPU that was asked for."""
    with Daemon() as d:
        guest = Linux(d, "hpet=off", "apic=off", "acpi=off", "cpu=x86-64-v2", "paravirt=none")
        guest.shell("mount -t proc proc /proc; mount -t sysfs sys /sys")
        interrupts = guest.shell("cat /proc/interrupts")
        check("XT-PIC" in interrupts and "IO-APIC" not in interrupts, interrupts)
        flags = guest.shell("grep -m1 ^flags /proc/cpuinfo").split()
        check("sse4_2" in flags and "avx" not in flags and "apic" not in flags, f"flags: {flags}")
        check("hpet" not in guest.shell("cat /sys/devices/system/clocksource/clocksource0/available_clocksource"), "an HPET is there")
        check("No such file" in guest.shell("ls /sys/firmware/acpi/tables"), "ACPI tables are there")


def linux_tables():
    """Linux with all of them finds all of them; without the HPET all but that."""
    with Daemon() as d:
        guest = Linux(d, "cpus=2", "hpet=off")
        guest.shell("mount -t proc proc /proc; mount -t sysfs sys /sys")
        found = guest.shell("ls /sys/firmware/acpi/tables").split()
        check({"APIC", "DSDT", "FACP"} <= set(found) and "HPET" not in found, f"tables: {found}")
        check("IO-APIC" in guest.shell("cat /proc/interrupts"), "no I/O APIC")
        expect(guest.shell("nproc").strip(), "2", "CPUs")


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def linux_limit():
    """A guest that computes without end takes no more of the host's CPU than its limit, which changes while it runs."""
    with Daemon() as d:
        guest = Linux(d, "limits.cpu=60")
        guest.shell("while :; do :; done & :")

        def share(seconds):
            begun, taken = time.monotonic(), cpu_seconds(guest.pid)
            time.sleep(seconds)  # what is measured is time
            return (cpu_seconds(guest.pid) - taken) / (time.monotonic() - begun)

        check(share(3) < 0.75, "it takes more than 60 percent")
        expect(d.run("vm", "set", "linux", "limits.cpu=10"), "limits.cpu changed\n", "answer")
        check(share(3) < 0.2, "it takes more than 10 percent")
        d.run("vm", "pause", "linux")
        d.run("vm", "resume", "linux")
        check("x" in guest.shell("echo x"), "the shell does not answer")
        expect(json.loads(d.run("vm", "show", "linux", "--json"))["vm"]["restart_needed"], False, "whether it needs a restart")


sys.exit(run((plain, hpet, apic, acpi, clock, firmware_words, ports, video, disks_limit, refused, linux_board, linux_tables, linux_limit), sys.argv[1:]))
