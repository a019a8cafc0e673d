#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Media modes, as a guest and its host see them: /dev/sda of the direct kernel is the disk in question."""
import hashlib
import os
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, __file__.rsplit("/", 1)[0])
from vm import GUEST, OSPITE, Failed, Machine, run  # noqa: E402


def disk(verb, *words):
    subprocess.run([OSPITE, "disk", verb, *words], check=True, stdout=subprocess.DEVNULL)


def machine(spec):
    return Machine("--kernel", GUEST / "vmlinuz", "--initrd", GUEST / "initrd.gz", "--append", "console=ttyS0",
                   "--serial", "stdio", "--disk", spec)


def ready(vm):
    vm.expect("ospite guest ready")
    vm.expect("# ")
    vm.shell("stty cols 200; test -b /dev/sda && echo is there", "is there")


def store(vm, word):
    """The word goes to sector 100, durably."""
    vm.shell(f"echo {word} | dd of=/dev/sda bs=512 seek=100 conv=sync,fsync 2>/dev/null; echo stored", "stored")


def stored(vm, word):
    vm.shell("dd if=/dev/sda iflag=direct bs=512 skip=100 count=1 2>/dev/null | head -n 1 | tr '\\000' .", rf"{word}[.\r]")


def power_off(vm):
    vm.send("poweroff -f\n")
    vm.wait_exit(0)


def digest(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def base_disk(folder, name):
    """8 MiB of which sector 100 says "base"."""
    raw = pathlib.Path(folder, "raw")
    raw.write_bytes(bytes(51200) + b"base\n" + bytes((8 << 20) - 51205))
    image = os.path.join(folder, f"base.{name}")
    disk("convert", "-f", "raw", "-O", name, raw, image)
    return image


def refused(spec, why):
    """Another machine may not have the disk."""
    with machine(spec) as vm:
        vm.wait_exit(1)
        if why not in vm.stderr().decode():
            raise Failed(f"no '{why}' in {vm.stderr()}")


def immutable():
    """Two machines run from one immutable VDI; each sees its own writes, also after its guest rebooted, and begins anew when started anew."""
    with tempfile.TemporaryDirectory() as folder:
        base = base_disk(folder, "vdi")
        before = digest(base)
        specs = [f"{base},format=vdi,mode=immutable", f"{base},format=vdi,mode=immutable,difference={folder}/two.qcow2"]
        with machine(specs[0]) as one, machine(specs[1]) as two:
            for vm, word in (one, "first"), (two, "second"):
                ready(vm)
                stored(vm, "base")
                store(vm, word)
            refused(f"{base},format=vdi", "in use")
            for vm, word in (one, "first"), (two, "second"):
                stored(vm, word)
            two.send("reboot -f\n")
            ready(two)
            stored(two, "second")
            two.process.kill()
            power_off(one)
        for spec in specs:
            with machine(spec) as vm:
                ready(vm)
                stored(vm, "base")
                power_off(vm)
        if digest(base) != before:
            raise Failed("the base has changed")


def multiattach():
    """Two machines each keep their own writes over one base, also when killed."""
    with tempfile.TemporaryDirectory() as folder:
        base = base_disk(folder, "qcow2")
        before = digest(base)
        specs = [f"{base},format=qcow2,mode=multiattach,difference={folder}/{n}.qcow2" for n in (1, 2)]
        with machine(specs[0]) as one, machine(specs[1]) as two:
            for vm, word in (one, "first"), (two, "second"):
                ready(vm)
                store(vm, word)
            refused(specs[0], "in use")
            one.process.kill()
            power_off(two)
        for spec, word in (specs[0], "first"), (specs[1], "second"):
            with machine(spec) as vm:
                ready(vm)
                stored(vm, word)
                power_off(vm)
        refused(f"{base},format=qcow2,mode=multiattach", "difference is missing")
        if digest(base) != before:
            raise Failed("the base has changed")


def shareable():
    """Two machines write to one disk of fixed size at once and see each other's writes; nobody else may have it."""
    with tempfile.TemporaryDirectory() as folder:
        image = os.path.join(folder, "shared.vdi")
        disk("create", "-f", "vdi", "-o", "static", image, "8M")
        spec = f"{image},format=vdi,mode=shareable"
        with machine(spec) as one, machine(spec) as two:
            ready(one)
            ready(two)
            store(one, "hello")
            stored(two, "hello")
            store(two, "answer")
            stored(one, "answer")
            refused(f"{image},format=vdi", "in use")
            refused(f"{image},format=vdi,mode=immutable", "in use")
            power_off(one)
            power_off(two)
        disk("check", image)
        disk("create", "-f", "vdi", os.path.join(folder, "dynamic.vdi"), "8M")
        refused(f"{folder}/dynamic.vdi,format=vdi,mode=shareable", "no fixed size")


def readonly():
    """A read-only disk refuses the guest's writes; a write-through one takes them."""
    with tempfile.TemporaryDirectory() as folder:
        base = base_disk(folder, "vhd")
        with machine(f"{base},format=vhd,mode=writethrough") as vm:
            ready(vm)
            store(vm, "through")
            power_off(vm)
        before = digest(base)
        with machine(f"{base},format=vhd,mode=readonly") as vm:
            ready(vm)
            stored(vm, "through")
            vm.shell("echo x | dd of=/dev/sda bs=512 conv=sync,fsync 2>&1 | grep -c records || echo refused", "refused|0")
            power_off(vm)
        if digest(base) != before:
            raise Failed("the disk has changed")


if __name__ == "__main__":
    run(immutable, multiattach, shareable, readonly)
