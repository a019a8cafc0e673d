#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Boot media that are not ours: GRUB's rescue images, memtest86+, iPXE, Multiboot payloads, Debian's installers."""
import contextlib
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, __file__.rsplit("/", 1)[0])
from vm import PATIENCE, Failed, Machine, fetch, run  # noqa: E402

GRUB = "/usr/lib/grub-rescue/grub-rescue-"
MEMTEST = "/usr/lib/memtest86+/memtest86+"


def grub_shell(*args):
    with Machine(*args, "--serial", "none") as vm:
        vm.expect_screen("GNU GRUB", 60)
        vm.control("key c")
        vm.expect_screen("grub>", 20)
        for command, pattern in (("ls", r"\(hd0|\(cd|\(fd0|\(proc"), ("lspci", "8086:1237"), ("cpuid -l && echo yes", "yes")):
            vm.type(command + "\n")
            vm.expect_screen(pattern)


def grub_cdrom():
    """GRUB's rescue CD reaches its shell: ls, lspci, cpuid."""
    grub_shell("--cdrom", GRUB + "cdrom.iso", "--boot", "order=d")


def grub_floppy():
    """GRUB's rescue floppy reaches its shell."""
    with tempfile.NamedTemporaryFile(suffix=".img") as copy:
        with open(GRUB + "floppy.img", "rb") as image:
            data = image.read()
        copy.write(data + bytes(max(0, 1474560 - len(data))))
        copy.flush()
        grub_shell("--floppy", copy.name, "--boot", "order=a")


def memtest(variant):
    with Machine("--cdrom", f"{MEMTEST}{variant}.iso", "--boot", "order=d", "--serial", "none", memory="64M") as vm:
        screen = vm.expect_screen(r"(?s)Pass\s+(1\d|[2-9]\d)%.*", 240)
        if "Errors: 0" not in screen.string and "Errors:      0" not in screen.string:
            vm.expect_screen(r"Errors:\s+0\b", 1)


def memtest64():
    """memtest86+ (64 bits) runs its first tests without an error."""
    memtest("x64")


def memtest32():
    """memtest86+ (32 bits) runs its first tests without an error."""
    memtest("ia32")


def ipxe():
    """iPXE's ISO reaches its prompt."""
    with Machine("--cdrom", "/usr/lib/ipxe/ipxe.iso", "--boot", "order=d", "--serial", "none") as vm:
        vm.expect_screen("iPXE", 90)
        vm.expect_screen("Ctrl-B|iPXE>|No more network devices", 60)


def ipxe_kernel():
    """iPXE starts as a kernel, which it is by its header alone."""
    with Machine("--kernel", "/boot/ipxe.lkrn", "--serial", "none") as vm:
        vm.expect_screen("iPXE initialising devices|Ctrl-B|iPXE>|No more network devices", 60)


def invaders():
    """grub-invaders starts by Multiboot."""
    with Machine("--kernel", "/boot/invaders.exec", "--serial", "none") as vm:
        vm.expect_screen(r"-\*-.*-\*-", 30)


def xen():
    """The Xen hypervisor prints its banner by Multiboot."""
    (kernel,) = (fetch("xen-hypervisor-4.17-amd64") / "boot").glob("xen-*.gz")
    with Machine("--kernel", kernel, "--append", "com1=115200,8n1 console=com1", "--serial", "stdio") as vm:
        vm.expect(r"Xen version 4\.", 60)


def installer(architecture):
    folder = fetch(f"debian-installer-12-netboot-{architecture}") / f"usr/lib/debian-installer/images/12/{architecture}/text/debian-installer/{architecture}"
    with Machine("--kernel", folder / "linux", "--initrd", folder / "initrd.gz", "--append",
                 "console=ttyS0 DEBIAN_FRONTEND=text priority=low", "--serial", "stdio", memory="1G") as vm:
        vm.expect("(?i)installer main menu|choose language|select a language", 240)


def installer_amd64():
    """Debian-installer for amd64 reaches its first dialog."""
    installer("amd64")


def installer_i386():
    """Debian-installer for i386 reaches its first dialog."""
    installer("i386")


def generic_kernel():
    """Debian's generic amd64 kernel boots to a panic for want of a root, with two CPUs."""
    (kernel,) = (fetch("linux-image-amd64*") / "boot").glob("vmlinuz-*")
    with Machine("--kernel", kernel, "--append", "console=ttyS0 panic=-1", "--serial", "stdio", "--cpus", "2") as vm:
        vm.expect("smp: Brought up 1 node, 2 CPUs", 60)
        vm.expect("Unable to mount root fs", 60)


def ovmf():
    """OVMF comes up to its console."""
    with Machine("--firmware", fetch("ovmf") / "usr/share/ovmf/OVMF.fd", "--serial", "stdio") as vm:
        vm.expect(r"\x1b\[2J", 60)


@contextlib.contextmanager
def efi_program(program):
    """A machine with OVMF and a FAT disk without partitions, where the program is what firmware looks for; no other drive."""
    with tempfile.TemporaryDirectory(prefix="ospite-efi-") as folder:
        disk = os.path.join(folder, "disk")
        with open(disk, "wb") as image:
            image.truncate(64 << 20)
        for command in (["mformat", "-i", disk, "-F", "::"], ["mmd", "-i", disk, "::/EFI", "::/EFI/BOOT"],
                        ["mcopy", "-i", disk, program, "::/EFI/BOOT/BOOTX64.EFI"]):
            subprocess.run(command, check=True)
        with Machine("--firmware", fetch("ovmf") / "usr/share/ovmf/OVMF.fd", "--disk", disk + ",format=raw", "--serial", "stdio") as vm:
            yield vm


def efi_ipxe():
    """iPXE starts from OVMF, which finds it on a FAT disk beside an empty cable."""
    with efi_program("/boot/ipxe.efi") as vm:
        vm.expect("iPXE initialising devices", 60)


def efi_memtest():
    """memtest86+ starts from OVMF and sets its screen's size."""
    with efi_program("/boot/memtest86+x64.efi") as vm:
        picture = pathlib.Path(vm.folder.name) / "screen.png"
        end = time.monotonic() + 60 * PATIENCE
        size = None
        while size != (640, 480):
            if time.monotonic() > end:
                raise Failed(f"the screen is {size} and not memtest86+'s")
            time.sleep(0.5)
            vm.control(f"screenshot {picture}")
            size = struct.unpack(">2I", picture.read_bytes()[16:24])


run(grub_cdrom, grub_floppy, memtest64, memtest32, ipxe, ipxe_kernel, invaders, xen, generic_kernel, installer_amd64, installer_i386, ovmf, efi_ipxe,
    efi_memtest)
