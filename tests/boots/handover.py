#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines that change their engine again and again while they run, as TAP."""
import os
import pathlib
import re
import sys

sys.path.insert(0, __file__.rsplit("/", 1)[0])
from vm import GUEST, OSPITE, PATIENCE, Failed, Machine, Skipped, run  # noqa: E402

ENGINES = ("jit", "interp")
GUESTS = {
    "paging64": [], "system64": [], "conform32": [], "conform64": ["--testdev"], "legacy32": [], "smp64": ["--cpus", "4"],
}


def change(vm, times):
    """Changes the engine that often, or until the machine has ended; returns how often it did."""
    while not os.path.exists(vm.control_path) and vm.process.poll() is None:
        os.sched_yield()
    for n in range(times):
        try:
            answer = vm.control(f"engine {ENGINES[n % 2]}")
        except (Failed, OSError):
            if vm.process.wait(10 * PATIENCE) is None:
                raise
            return n
        if answer != ENGINES[n % 2]:
            raise Failed("the engine is not the one asked for")
    return times


def linux(cpus):
    with Machine("--kernel", GUEST / "vmlinuz", "--initrd", GUEST / "initrd.gz", "--append", "console=ttyS0", "--cpus", cpus,
                 "--serial", "stdio", engine="jit") as vm:
        vm.expect("Linux version")
        for _ in range(100):
            change(vm, 2)
        vm.expect("ospite guest ready", 120)
        vm.expect("# ")
        vm.send("i=0; while [ $i -lt 3000 ]; do i=$((i+1)); done; echo sum $i\n")
        change(vm, 100)
        vm.expect(r"sum 3000\r\n", 60)
        vm.shell("nproc", rf"{cpus}\r\n")
        vm.send("dmesg | grep -e unstable -e 'WARNING: CPU' -e 'BUG:' -e lockup >/bad; cat /bad; wc -l </bad; echo end\n")
        bad = vm.expect(r"(\d+)\r\nend\r\n", 60).group(1)
        if bad != b"0":
            raise Failed(f"the kernel complains {bad.decode()} times")
        counters = vm.control("stats")
        for line in counters.splitlines():
            if int(re.search(r"hand_overs=(\d+)", line).group(1)) < 290:
                raise Failed(f"too few changes: {line}")
        vm.send("poweroff -f\n")
        vm.wait_exit(0, 60)


def linux_one():
    """Linux boots and works while its CPU changes between interpreter and translator."""
    linux(1)


def linux_four():
    """Linux boots and works on four CPUs while they change between interpreter and translator."""
    linux(4)


def bare_metal():
    """Bare-metal guests pass all of their tests while their engine changes."""
    guests = pathlib.Path(OSPITE).resolve().parent / "tests" / "guests"
    for name, options in GUESTS.items():
        changes = tries = 0
        while changes < 30:
            tries += 1
            if tries > 100:
                raise Failed(f"{name} always ends before its engine changes")
            with Machine("--kernel", guests / f"{name}.elf", "--serial", "stdio", *options, engine="interp", memory="64M") as vm:
                changes += change(vm, 100000)
                vm.wait_exit(1, 60)
                if b"not ok" in vm.output or b"ok 1" not in vm.output:
                    raise Failed(f"{name} failed")
        print(f"# {name}: {changes} changes in {tries} runs")


def refused():
    """An engine that cannot take over leaves the machine as it was."""
    with Machine("--serial", "none", engine="interp", memory="16M") as vm:
        try:
            vm.control("engine none")
        except Failed as reason:
            if "software engines hand over" not in str(reason):
                raise
        else:
            raise Failed("engine none took over")
        if vm.control("engine") != "interp":
            raise Failed("the engine changed")
        vm.process.terminate()
        vm.wait_exit(0)


def kvm_memtest():
    """memtest86+ tests memory under KVM: the interpreter runs what a KVM cannot."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        raise Skipped("no /dev/kvm")
    with Machine("--cdrom", "/usr/lib/memtest86+/memtest86+x64.iso", "--boot", "order=d", "--serial", "none", engine="kvm", memory="64M") as vm:
        vm.expect_screen(r"Status: Testing.*Errors: 0", 60)
        counters = vm.control("stats")
        print("# " + " ".join(re.findall(r"(?:kvm_hand_overs|interpreted|kvm_exits)=\d+", counters)))
        vm.process.terminate()
        vm.wait_exit(0)


run(linux_one, linux_four, bare_metal, refused, kvm_memtest)
