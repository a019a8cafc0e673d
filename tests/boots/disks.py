#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines with disks of several formats, all busy at once; what was written is there after a restart and after kill -9.
A guest installs a system on each of its disks at once; each boots, is killed while it writes, and boots again."""
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, __file__.rsplit("/", 1)[0])
from vm import GUEST, OSPITE, Failed, Machine, run  # noqa: E402

THEIRS = {"vhd": "vpc"}
MIB = 24


def create(folder, mib, formats):
    """Empty images as (path, name), from (name, options of create...)."""
    images = []
    for name, *options in formats:
        path = os.path.join(folder, f"disk{len(images)}.{name}")
        subprocess.run([OSPITE, "disk", "create", "-f", name, *options, path, f"{mib}M"], check=True, stdout=subprocess.DEVNULL)
        images.append((path, name))
    return images


def check(images):
    """Each is sound, and holds for qemu-img what it holds here."""
    for path, name in images:
        if name not in ("raw", "qcow"):
            subprocess.run([OSPITE, "disk", "check", "-f", name, path], check=True, stdout=subprocess.DEVNULL)
        if not shutil.which("qemu-img"):
            continue
        if name in ("qcow2", "vdi", "vhdx", "vmdk"):
            subprocess.run(["qemu-img", "check", "-q", "-f", name, path], check=True)
        subprocess.run([OSPITE, "disk", "convert", "-f", name, "-O", "raw", path, path + ".raw"], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["qemu-img", "compare", "-q", "-f", THEIRS.get(name, name), "-F", "raw", path, path + ".raw"], check=True)
        os.unlink(path + ".raw")


@contextlib.contextmanager
def start(images):
    words = []
    for path, name in images:
        words += ["--disk", f"{path},format={name}"]
    with Machine("--kernel", GUEST / "vmlinuz", "--initrd", GUEST / "initrd.gz", "--append", "console=ttyS0", "--serial", "stdio", *words) as vm:
        vm.expect("ospite guest ready")
        vm.expect("# ")
        vm.shell(f"stty cols 300; while [ $(ls -d /sys/block/sd? | wc -l) != {len(images)} ]; do sleep 0.1; done; echo are there", "are there")
        # Linux looks at both channels at once, so letters are no places.
        vm.disks = vm.shell("echo $(for d in /sys/block/sd?; do readlink -f $d; done | sort | sed 's|.*/||') in order", r"([sd a-d]+) in order").group(1).decode().split()
        yield vm


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
        images = create(folder, MIB, formats)
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
        check(images)


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


# As an installer does it: a partition, a file system, all files of the source with their sums, GRUB before the partition.
INSTALL = (r"printf 'n\np\n1\n2048\n\na\n1\nw\n' | fdisk -u /dev/$1; until [ -b /dev/${1}1 ]; do sleep 0.1; done; mke2fs -b 4096 /dev/${1}1 && "
           "mkdir -p /to/$1 && mount -t ext4 /dev/${1}1 /to/$1 && cp -a /from/. /to/$1 && (cd /from && find . -type f | xargs md5sum) >/to/$1/root/sums && "
           "umount /to/$1 && dd if=/dev/$from of=/dev/$1 bs=446 count=1 && dd if=/dev/$from of=/dev/$1 bs=512 skip=1 seek=1 count=2047 && echo ready")


@contextlib.contextmanager
def boot(path, name):
    """A disk that a guest has installed; the `sums` files that it knows the sums of must be right."""
    with Machine("--disk", f"{path},format={name}", "--serial", "stdio") as vm:
        vm.expect("login: ", 120)
        vm.send("root\n")
        vm.expect("# ")
        match = vm.shell("stty cols 300; cd /; md5sum -c root/sums >/tmp/sums; echo status $? of $(grep -c OK /tmp/sums)", r"status 0 of (\d+)\r", 60)
        vm.sums = int(match.group(1))
        yield vm


def install(*formats):
    with tempfile.TemporaryDirectory() as folder:
        images = create(folder, 96, formats)
        with start([(GUEST / "disk.raw", "raw,readonly"), *images]) as vm:
            source, *targets = vm.disks
            vm.shell(f"from={source}; mkdir /from; mount -o ro -t ext4 /dev/{source}1 /from; echo status $?", "status 0")
            vm.shell("install() { " + INSTALL + "; }; echo status $?", "status 0")
            vm.shell(f"for d in {' '.join(targets)}; do install $d >/tmp/$d 2>&1 & done; wait; tail -n 3 /tmp/sd?; sync; echo $(grep -l ready /tmp/sd? | wc -l) ready",
                     f"{len(targets)} ready", 120)
            vm.send("poweroff -f\n")
            vm.wait_exit(0)
        for path, name in images:
            with boot(path, name) as vm:
                files = vm.sums
                vm.shell("dd if=/dev/urandom of=root/data bs=64k count=60; md5sum root/data >>root/sums && sync; echo status $?", "status 0")
                vm.send("for i in 1 2; do while dd if=/dev/urandom of=root/noise$i bs=64k count=60 conv=fsync; do :; done & done\n")
                for _ in range(4):
                    vm.expect("records out", 60)
                vm.process.kill()
                vm.process.wait()
            with boot(path, name) as vm:
                same(vm.sums, files + 1, f"files in {name} after kill -9")
                vm.send("poweroff\n")
                vm.wait_exit(0)
        check(images)


def install_virtualbox_and_others():
    """A system is installed on qcow2, VDI and VMDK by one guest, boots from each, and is whole after kill -9."""
    install(["qcow2"], ["vdi"], ["vmdk"])


def install_microsofts():
    """A system is installed on VHD, VHDX and qcow by one guest, boots from each, and is whole after kill -9."""
    install(["vhd"], ["vhdx"], ["qcow"])


def install_plain():
    """A system is installed on raw, split VMDK and fixed VDI by one guest, boots from each, and is whole after kill -9."""
    install(["raw"], ["vmdk", "-o", "subformat=twoGbMaxExtentSparse"], ["vdi", "-o", "static"])


if __name__ == "__main__":
    run(virtualbox_and_others, the_rest, fixed, install_virtualbox_and_others, install_microsofts, install_plain)
