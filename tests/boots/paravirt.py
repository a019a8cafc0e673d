#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Linux as a guest that knows it is one: which clock it takes, and what a pause does to it, as TAP."""
import sys
import time

sys.path.insert(0, __file__.rsplit("/", 1)[0])
from vm import GUEST, Failed, Machine, run  # noqa: E402

CLOCK = "cat /sys/devices/system/clocksource/clocksource0/current_clocksource"


def linux(*args):
    return Machine("--kernel", GUEST / "vmlinuz", "--initrd", GUEST / "initrd.gz", "--append", "console=ttyS0", "--serial", "stdio",
                   "--cpus", "2", *args)


def boot(vm, clock, message):
    vm.expect("Linux version")
    if message:
        vm.expect(message)
    vm.expect("ospite guest ready", 60)
    vm.expect("# ")
    vm.shell(CLOCK, clock + r"\r\n")


def end(vm):
    vm.send("poweroff -f\n")
    vm.wait_exit(0)


def uptime(vm):
    """What the guest calls the time since its start, with the host's before and after it was asked."""
    before = time.monotonic()
    guest = float(vm.shell("cat /proc/uptime", r"(\d+\.\d+) \d+\.\d+\r\n").group(1))
    return before, guest, time.monotonic()


def pause_and_look(vm):
    """The guest's clock counts what passed, but not the pause, and never goes backward."""
    before, first, after = uptime(vm)
    vm.control("pause")
    paused = time.monotonic()
    time.sleep(3)  # the guest's time stands still for that long: what is tested
    pause = time.monotonic() - paused
    vm.control("resume")
    before2, second, after2 = uptime(vm)
    if not first <= second:
        raise Failed(f"uptime went back from {first} to {second}")
    if second - first > after2 - before - pause + 0.1:
        raise Failed(f"of {after2 - before:.2f} s, {pause:.2f} of them paused, the guest counted {second - first:.2f}")
    if second - first < before2 - after - pause - 0.5:
        raise Failed(f"of {before2 - after:.2f} s, {pause:.2f} of them paused, the guest counted but {second - first:.2f}")


def kvm():
    """Linux takes KVM's clock, which stands still in a pause."""
    with linux() as vm:
        boot(vm, "kvm-clock", "kvm-clock: Using msrs 4b564d01 and 4b564d00")
        now = int(vm.shell("date +%s", r"(\d+)\r\n").group(1))
        if abs(now - time.time()) > 10 * 6:
            raise Failed(f"the guest's time of day is {now}, the host's {time.time():.0f}")
        pause_and_look(vm)
        end(vm)


def hyperv():
    """Linux takes Hyper-V's reference time, which stands still in a pause."""
    with linux("--paravirt", "hyperv") as vm:
        boot(vm, "hyperv_clocksource_tsc_page", "Hypervisor detected: Microsoft Hyper-V")
        vm.shell("dmesg | grep -c 'Using enlightened APIC'", r"1\r\n")
        pause_and_look(vm)
        end(vm)


def none():
    """Linux does without: it takes the TSC, which stands still in a pause."""
    with linux("--paravirt", "none") as vm:
        boot(vm, "tsc(-early)?", None)
        vm.shell("dmesg | grep -c 'Hypervisor detected'", r"0\r\n")
        pause_and_look(vm)
        end(vm)


def invariant():
    """Linux takes a TSC that is called invariant by the user's wish."""
    with linux("--cpu", "x86-64-v2,+nonstop_tsc") as vm:
        boot(vm, "tsc", "kvm-clock: Using msrs")
        end(vm)


run(kvm, hyperv, none, invariant)
