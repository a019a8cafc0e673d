#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines of every shape: CPU models, much memory, many CPUs, and what Linux makes of them."""
import re
import sys

sys.path.insert(0, __file__.rsplit("/", 1)[0])
from vm import GUEST, Failed, Machine, fetch, run  # noqa: E402


def direct(*args, memory="512M"):
    vm = Machine("--kernel", GUEST / "vmlinuz", "--initrd", GUEST / "initrd.gz", "--append", "console=ttyS0",
                 "--serial", "stdio", *args, memory=memory)
    vm.expect("ospite guest ready", 120)
    vm.expect("# ")
    return vm


def power_off(vm):
    vm.send("poweroff -f\n")
    vm.wait_exit(0)


def model(name, has, has_not):
    with direct("--cpu", name) as vm:
        flags = vm.shell("grep -m1 ^flags /proc/cpuinfo", r"flags[^\n]*\n").group().decode().split()
        for flag in has:
            if flag not in flags:
                raise Failed(f"Linux finds no {flag} on {name}")
        for flag in has_not:
            if flag in flags:
                raise Failed(f"Linux finds {flag} on {name}")
        power_off(vm)


def model_v1():
    """On x86-64-v1 Linux finds SSE2 and nothing newer."""
    model("x86-64-v1", ["sse2", "nx", "lm", "cx8"], ["ssse3", "sse4_1", "cx16", "avx"])


def model_v2():
    """On x86-64-v2 Linux finds SSE4.2 and no AVX."""
    model("x86-64-v2", ["ssse3", "sse4_2", "popcnt", "cx16"], ["avx", "bmi1", "movbe"])


def model_v3():
    """On x86-64-v3 Linux finds AVX2 and its companions."""
    model("x86-64-v3", ["avx2", "fma", "f16c", "bmi2", "movbe", "xsave"], ["avx512f"])


def pentium3():
    """Debian's i386 kernel runs a shell on a Pentium III and powers off by ACPI."""
    folder = (fetch("debian-installer-12-netboot-i386") /
              "usr/lib/debian-installer/images/12/i386/text/debian-installer/i386")
    with Machine("--cpu", "pentium3", "--kernel", folder / "linux", "--initrd", folder / "initrd.gz", "--append",
                 "console=ttyS0 rdinit=/bin/sh", "--serial", "stdio") as vm:
        vm.expect("# ", 240)
        vm.shell("uname -m", "i686")
        vm.shell("mount -t proc proc /proc; grep -c ' sse .* sse2' /proc/cpuinfo", r"0\r\n")
        vm.shell("grep -o ' sse ' /proc/cpuinfo", " sse ")
        power_off(vm)


def memory(size, least_kib, resident_kib):
    with direct(memory=size) as vm:
        match = vm.shell("grep MemTotal /proc/meminfo", r"MemTotal: +(\d+) kB")
        if int(match.group(1)) < least_kib:
            raise Failed(f"Linux finds only {match.group(1).decode()} KiB of {size}")
        vm.shell("mount -t tmpfs -o size=90% tmpfs /mnt; for i in 1 2 3 4; do dd if=/dev/urandom of=/mnt/$i bs=1M count=8 "
                 "2>/dev/null; done; cat /mnt/* | md5sum >/sum; cat /mnt/* | md5sum -c /sum", "-: OK", 120)
        with open(f"/proc/{vm.process.pid}/status") as status:
            resident = int(re.search(r"VmRSS:\s+(\d+)", status.read()).group(1))
        if resident > resident_kib:
            raise Failed(f"{resident} KiB of the host's memory are in use: untouched memory must cost nothing")
        power_off(vm)


def memory_6g():
    """Linux finds and uses 6 GiB, which lie on both sides of the hole below 4 GiB."""
    memory("6G", 5 << 20, 2 << 20)


def memory_64g():
    """Linux finds 64 GiB, of which the host gives what is touched."""
    memory("64G", 60 << 20, 5 << 20)


def cpus(count):
    with direct("--cpus", str(count)) as vm:
        vm.shell("nproc", rf"\b{count}\r\n")
        vm.shell("for i in $(seq 64); do (: $((i * i))) & done; wait; echo all-$((1 + 1))", "all-2", 120)
        power_off(vm)


def cpus_16():
    """Linux brings up 16 CPUs and runs processes on them."""
    cpus(16)


def cpus_32():
    """Linux brings up 32 CPUs and runs processes on them."""
    cpus(32)


run(model_v1, model_v2, model_v3, pentium3, memory_6g, memory_64g, cpus_16, cpus_32)
