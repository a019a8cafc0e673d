#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines with four disks of four formats, all busy at once; what was written is there after a restart and after kill -9."""
import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, __file__.rsplit("/", 1)[0])
from vm import GUEST, OSPITE, Failed, Machine, run  # noqa: E402

THEIRS = {"vhd": "vpc"}
MIB = 24


def start(images):
    words = []
    for path, name in images:
        words += ["--disk", f"{path},format={name}"]
    vm = Machine("--kernel", GUEST / "vmlinuz", "--initrd", GUEST / "initrd.gz", "--append", "console=ttyS0", "--serial", "stdio", *words)
    vm.expect("ospite guest ready")
    vm.expect("# ")
    vm.shell(f"stty cols 300; while [ $(ls -d /sys/block/sd? | wc -l) != {len(images)} ]; do sleep 0.1; done; echo are there", "are there")
    # Linux looks at both channels at once, so letters are no places.
    vm.disks = vm.shell("echo $(for d in /sys/block/sd?; do readlink -f $d; done | sort | sed 's|.*/||') in order", r"([sd a-d]+) in order").group(1).decode().split()
    return vm


def write(vm, where):
    """Random data go to all disks at the same time; returns their sums."""
    vm.shell(f"for d in {' '.join(vm.disks)}; do (dd if=/dev/urandom of=/dev/$d bs=64k seek={where} count=60 conv=fsync 2>/dev/null; "
             "echo 1 >/tmp/$d) & done; wait; echo all written", "all written", 60)
    return sums(vm, where)


def sums(vm, where):
    vm.shell("echo 3 >/proc/sys/vm/drop_caches; echo dropped", "dropped")
    return [vm.shell(f"dd if=/dev/{d} bs=64k skip={where} count=60 2>/dev/null | md5sum", r"([0-9a-f]{32})  -", 60).group(1)
            for d in vm.disks]


def same(got, wanted, what):
    if got != wanted:
        raise Failed(f"{what}: {got}, not {wanted}")


def exercise(*formats):
    with tempfile.TemporaryDirectory() as folder:
        images = []
        for name, *options in formats:
            path = os.path.join(folder, f"disk{len(images)}.{name}")
            subprocess.run([OSPITE, "disk", "create", "-f", name, *options, path, f"{MIB}M"], check=True, stdout=subprocess.DEVNULL)
            images.append((path, name))
        with start(images) as vm:
            first = write(vm, 0)
            vm.send("poweroff -f\n")
            vm.wait_exit(0)
        with start(images) as vm:
            same(sums(vm, 0), first, "after a restart")
            second = write(vm, 200)
            vm.send(f"dd if=/dev/zero of=/dev/{vm.disks[0]} bs=64k seek=100 count=60 &\n")
            vm.process.kill()
            vm.process.wait()
        with start(images) as vm:
            same(sums(vm, 0) + sums(vm, 200), first + second, "after kill -9")
            vm.send("poweroff -f\n")
            vm.wait_exit(0)
        for path, name in images:
            if name not in ("raw", "qcow"):
                subprocess.run([OSPITE, "disk", "check", "-f", name, path], check=True, stdout=subprocess.DEVNULL)
            if shutil.which("qemu-img") and name in ("qcow2", "vdi", "vhdx", "vmdk"):
                subprocess.run(["qemu-img", "check", "-q", "-f", THEIRS.get(name, name), path], check=True)


def virtualbox_and_others():
    """qcow2, VDI, VMDK and VHD in one machine."""
    exercise(["qcow2"], ["vdi"], ["vmdk"], ["vhd"])


def the_rest():
    """Raw, qcow, VHDX and qcow2 with extended tables in one machine."""
    exercise(["raw"], ["qcow"], ["vhdx"], ["qcow2", "-o", "extended_l2=on,cluster_size=128k"])


def fixed():
    """Fixed VDI and VHD, flat and split VMDK in one machine."""
    exercise(["vdi", "-o", "static"], ["vhd", "-o", "subformat=fixed"], ["vmdk", "-o", "subformat=monolithicFlat"],
             ["vmdk", "-o", "subformat=twoGbMaxExtentSparse"])


if __name__ == "__main__":
    run(virtualbox_and_others, the_rest, fixed)
