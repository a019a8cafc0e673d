#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian kernels from a disk through SeaBIOS and GRUB, and directly."""
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, __file__.rsplit("/", 1)[0])
from vm import GUEST, OSPITE, Failed, Machine, run  # noqa: E402


def direct(*args, kernel=GUEST / "vmlinuz"):
    return Machine("--kernel", kernel, "--initrd", GUEST / "initrd.gz", "--append", "console=ttyS0",
                   "--serial", "stdio", *args)


def direct_kernel():
    """The cloud kernel by direct boot sees two CPUs, runs a shell and powers off."""
    with direct("--cpus", "2") as vm:
        vm.expect("ospite guest ready")
        vm.expect("# ")
        vm.shell("nproc", r"2\r\n")
        vm.shell("uname -m", "x86_64")
        vm.send("poweroff -f\n")
        vm.wait_exit(0)
        if vm.output.startswith(b"ospite"):
            raise Failed("something of our own is on stdout")


def disk():
    """The demo disk boots by SeaBIOS and GRUB to a login; what was written and synced is there after a restart."""
    with tempfile.NamedTemporaryFile() as copy:
        shutil.copyfile(GUEST / "disk.raw", copy.name)
        for start in range(2):
            with Machine("--disk", f"{copy.name},format=raw", "--serial", "stdio") as vm:
                vm.expect("login: ", 60)
                vm.send("root\n")
                vm.expect("# ")
                if start == 0:
                    vm.shell("dd if=/dev/urandom of=/root/data bs=64k count=40 2>/dev/null; md5sum /root/data > /root/sum; sync; echo stored", "stored")
                else:
                    vm.shell("md5sum -c /root/sum", "data: OK")
                    vm.shell("ping -c1 127.0.0.1 >/dev/null; cat /proc/interrupts | grep -c ata_piix", r"[12]\r\n")
                vm.send("poweroff\n")
                vm.wait_exit(0)


def disk_qcow2():
    """The same disk boots as qcow2 and keeps what is written."""
    boot_formats("qcow2")


def disk_formats():
    """The same disk boots as VDI, VMDK, VHD, VHDX and qcow and keeps what is written."""
    boot_formats("vdi", "vmdk", "vhd", "vhdx", "qcow")


def boot_formats(*names):
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            image = f"{folder}/disk.{name}"
            subprocess.run([OSPITE, "disk", "convert", "-O", name, GUEST / "disk.raw", image], check=True, stdout=subprocess.DEVNULL)
            for start in range(2):
                with Machine("--disk", f"{image},format={name}", "--serial", "stdio") as vm:
                    vm.expect("login: ", 60)
                    vm.send("root\n")
                    vm.expect("# ")
                    if start == 0:
                        vm.shell("dd if=/dev/urandom of=data bs=64k count=40; md5sum data >sum; sync; echo stored", r"\nstored")
                    else:
                        vm.shell("md5sum -c sum", "data: OK")
                    vm.send("poweroff\n")
                    vm.wait_exit(0)


def screen_login():
    """The VGA console shows a login and takes keys."""
    with tempfile.NamedTemporaryFile() as copy:
        shutil.copyfile(GUEST / "disk.raw", copy.name)
        with Machine("--disk", f"{copy.name},format=raw", "--serial", "none") as vm:
            vm.expect_screen("login:", 60)
            vm.type("root\n")
            vm.expect_screen(r"# ?$|# *\n")
            vm.type("echo $((6*7))-answer\n")
            vm.expect_screen("42-answer")


def power_button():
    """The ACPI power button turns the guest off; exit status 0."""
    with tempfile.NamedTemporaryFile() as copy:
        shutil.copyfile(GUEST / "disk.raw", copy.name)
        with Machine("--disk", f"{copy.name},format=raw", "--serial", "stdio") as vm:
            vm.expect("login: ", 60)
            vm.control("powerdown")
            vm.wait_exit(0)


def reboot():
    """A guest that reboots comes up again."""
    with direct() as vm:
        vm.expect("ospite guest ready")
        vm.expect("# ")
        vm.send("reboot -f\n")
        vm.expect("ospite guest ready")


def terminate():
    """SIGTERM ends a machine in the middle of its boot."""
    with direct() as vm:
        vm.expect("Linux version")
        vm.process.terminate()
        vm.wait_exit(0)


run(direct_kernel, disk, disk_qcow2, disk_formats, screen_login, power_button, reboot, terminate)
