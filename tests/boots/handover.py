#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines that change their engine again and again while they run, as TAP."""
import json
import os
import pathlib
import re
import select
import sys
import tempfile
import time

sys.path.insert(0, __file__.rsplit("/", 1)[0])
from vm import GUEST, OSPITE, PATIENCE, Failed, Machine, Skipped, fetch, run  # noqa: E402

ENGINES = ("jit", "interp")
GUESTS = {
    "paging64": [], "system64": [], "conform32": [], "conform64": ["--testdev"], "legacy32": [], "smp64": ["--cpus", "4"],
    "torture64": ["--cpus", "4"], "code64": ["--disk", "{guests}/code64.disk,format=raw,readonly"],
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
            words = [option.format(guests=guests) for option in options]
            with Machine("--kernel", guests / f"{name}.elf", "--serial", "stdio", *words, engine="interp", memory="64M") as vm:
                changes += change(vm, 300)
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


def kvm_counters(vm):
    counters = vm.control("stats")
    print("# " + " ".join(re.findall(r"(?:kvm_hand_overs|interpreted|kvm_exits)=\d+", counters)))
    return int(re.search(r"kvm_hand_overs=(\d+)", counters).group(1))


def need_kvm():
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        raise Skipped("no /dev/kvm")


def kvm_memtest():
    """memtest86+ tests memory under KVM: the interpreter runs what a KVM cannot."""
    need_kvm()
    with Machine("--cdrom", "/usr/lib/memtest86+/memtest86+x64.iso", "--boot", "order=d", "--serial", "none", engine="kvm", memory="64M") as vm:
        vm.expect_screen(r"Status: Testing.*Errors: 0", 60)
        kvm_counters(vm)
        vm.process.terminate()
        vm.wait_exit(0)


def kvm_instructions():
    """LOCK CMPXCHG16B, FNINIT and the like are right under KVM, whoever runs them."""
    need_kvm()
    guest = pathlib.Path(OSPITE).resolve().parent / "tests" / "guests" / "kvm64.elf"
    with tempfile.TemporaryDirectory(prefix="ospite-test-") as folder:
        stats = pathlib.Path(folder) / "stats"
        with Machine("--kernel", guest, "--serial", "stdio", "--stats", stats, engine="kvm", memory="64M") as vm:
            vm.wait_exit(1, 60)
            if b"not ok" in vm.output or b"\n1..13" not in vm.output:
                raise Failed("an instruction is wrong")
        total = json.loads(stats.read_text())["total"]
    print(f"# kvm_hand_overs={total['kvm_hand_overs']} interpreted={total['interpreted']} kvm_exits={total['kvm_exits']}")


def kvm_ovmf():
    """OVMF goes on under KVM where some of them stop at its first x87 instructions."""
    need_kvm()
    with Machine("--firmware", fetch("ovmf") / "usr/share/ovmf/OVMF.fd", "--serial", "stdio", engine="kvm", memory="256M") as vm:
        end = time.monotonic() + 60 * PATIENCE  # a slow KVM unpacks its volumes for minutes: it came by the instructions then
        while not kvm_counters(vm) and not select.select([vm.process.stdout], [], [], 1)[0]:
            if time.monotonic() > end:
                raise Failed("neither an instruction that KVM cannot do, nor a console")
        if vm.control("state") != "running":
            raise Failed("it does not run any more")
        vm.process.terminate()
        vm.wait_exit(0)


run(linux_one, linux_four, bare_metal, refused, kvm_memtest, kvm_instructions, kvm_ovmf)
