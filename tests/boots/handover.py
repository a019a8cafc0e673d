#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines that change their engine again and again while they run, as TAP."""
import hashlib
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
WITH_KVM = ("kvm", "interp", "kvm", "jit")
GUESTS = {
    "paging64": [], "system64": [], "conform32": [], "conform64": ["--testdev"], "legacy32": [], "smp64": ["--cpus", "4"],
    "torture64": ["--cpus", "4"], "code64": ["--disk", "{guests}/code64.disk,format=raw,readonly"],
}


def change(vm, times, engines=ENGINES, slice_s=0):
    """Changes the engine that often, or until the machine has ended; returns how often it did."""
    while not os.path.exists(vm.control_path) and vm.process.poll() is None:
        os.sched_yield()
    for n in range(times):
        try:
            answer = vm.control(f"engine {engines[n % len(engines)]}")
        except (Failed, OSError):
            if vm.process.wait(10 * PATIENCE) is None:
                raise
            return n
        if answer != engines[n % len(engines)]:
            raise Failed("the engine is not the one asked for")
        if slice_s:
            time.sleep(slice_s)
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
            if "hand over to each other" not in str(reason):
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


def kvm_is_stock():
    """Whether this KVM runs any guest: one that only emulates runs kernels, but no programs under them."""
    return re.search(r"^flags\s*:.* (vmx|svm)\b", pathlib.Path("/proc/cpuinfo").read_text(), re.MULTILINE)


def common_cpu():
    """The CPU that the refusal of a hand-over tells to start with, or the host's."""
    with Machine("--serial", "none", engine="jit", memory="16M") as vm:
        cpu = "host"
        try:
            vm.control("engine kvm")
        except Failed as reason:
            cpu = re.search(r"start the machine with the CPU '(.*?)'", str(reason)).group(1)
            if vm.control("engine") != "jit":
                raise Failed("the engine changed") from None
        vm.process.terminate()
        vm.wait_exit(0)
    return cpu


def hand_overs(vm):
    return min(int(n) for n in re.findall(r" hand_overs=(\d+)", vm.control("stats")))


def complaints(output):
    """A paravirtual KVM has no TSC of the guest's own: it goes on in a pause, which the guest finds out; its clock is KVM's."""
    tsc = b"" if kvm_is_stock() else b"(?!.*(?:TSC|'tsc'))"
    bad = re.findall(rb"\n(?:" + tsc + rb"[^\n]*unstable|[^\n]*(?:WARNING: CPU|BUG:|lockup|stall|Initramfs unpacking failed|FAIL|lost))[^\n]*", output)
    if bad:
        raise Failed(f"the kernel complains: {bad[:3]}")


def kernel(cpus, engines, *options):
    with Machine("--cpus", cpus, *options, "--kernel", GUEST / "vmlinuz", "--initrd", GUEST / "initrd.gz", "--serial", "stdio",
                 "--append", "console=ttyS0 rdinit=/none root=none panic=0", engine="jit") as vm:
        # A paravirtual KVM shows the host's CPUID: the kernel must have asked before.
        vm.expect("Linux version" if engines == ENGINES or kvm_is_stock() else "smpboot: CPU0:")
        end = time.monotonic() + 60 * PATIENCE
        while b"Kernel panic - not syncing: VFS: Unable to mount root" not in vm.output:  # it unpacked, and has nothing to start
            change(vm, 4, engines, 0.02)
            time.sleep(0.1)  # in the translator, which gets on with it: a busy host is slow enough
            while select.select([vm.process.stdout], [], [], 0)[0]:
                vm.output += os.read(vm.process.stdout.fileno(), 65536)
            if time.monotonic() > end:
                raise Failed("the kernel does not come up")
        complaints(vm.output)
        if f"Brought up 1 node, {cpus} CPU".encode() not in vm.output:
            raise Failed("a CPU is missing")
        print(f"# {hand_overs(vm)} changes")
        return vm.output


def kvm_kernel():
    """A stock kernel comes up while its CPU changes between KVM, translator and interpreter."""
    need_kvm()
    kernel(1, WITH_KVM, "--cpu", common_cpu())


def kvm_kernel_two():
    """The same with two CPUs, which interrupt each other."""
    need_kvm()
    if not kvm_is_stock():
        raise Skipped("this paravirtual KVM shows guests the host's CPUID, whatever it is told: second CPUs take features that they were not given, and fault")
    kernel(2, WITH_KVM, "--cpu", common_cpu())


def kvm_kernel_hyperv():
    """The same as a guest of Hyper-V's, by its clock and its local APIC."""
    need_kvm()
    with Machine("--kernel", GUEST / "vmlinuz", "--initrd", GUEST / "initrd.gz", "--append", "console=ttyS0", "--cpu", common_cpu(),
                 "--serial", "stdio", "--paravirt", "hyperv", engine="jit") as vm:
        vm.expect("Linux version")
        known = True
        try:
            vm.control("engine kvm")
        except Failed as reason:
            if "cannot pass for Hyper-V" not in str(reason):
                raise
            known = False
            vm.expect("ospite guest ready", 60)  # a change that fails in its midst leaves the machine as it was
    if not known:
        raise Skipped("this KVM does not know Hyper-V's interfaces; the machine goes on without it")
    takes_hyperv(kernel(1, WITH_KVM, "--cpu", common_cpu(), "--paravirt", "hyperv"))


def takes_hyperv(output):
    if b"Switched to clocksource hyperv_clocksource_tsc_page" not in output or b"Using enlightened APIC" not in output:
        raise Failed("the kernel does not take Hyper-V's clock or local APIC")


def linux_hyperv():
    """A guest of Hyper-V's with two CPUs comes up while they change between interpreter and translator."""
    takes_hyperv(kernel(2, ENGINES, "--paravirt", "hyperv"))


def kvm_idle():
    """A guest that sleeps is woken in time, and has its disk and clock, after changes between all engines."""
    need_kvm()
    with tempfile.NamedTemporaryFile(prefix="ospite-test-", suffix=".raw") as disk:
        disk.write(os.urandom(4 << 20))
        disk.flush()
        want = hashlib.md5(pathlib.Path(disk.name).read_bytes()).hexdigest()
        with Machine("--kernel", GUEST / "vmlinuz", "--initrd", GUEST / "initrd.gz", "--cpu", common_cpu(), "--serial", "stdio",
                     "--append", "console=ttyS0", "--disk", f"{disk.name},format=raw", engine="jit") as vm:
            vm.expect("ospite guest ready", 120)
            vm.expect("# ")
            vm.shell("md5sum /dev/sda", want)
            for _ in range(10):
                vm.shell("cut -d. -f1 /proc/uptime; echo asleep; sleep 1; cut -d. -f1 /proc/uptime", r"(\d+)\r\nasleep")
                start = int(re.search(rb"(\d+)\r\nasleep", vm.output[:vm.seen][-40:]).group(1))
                time.sleep(0.1)
                change(vm, 8, WITH_KVM, 0.02)
                vm.control("engine jit")
                late = int(vm.expect(r"\r\n(\d+)\r\n").group(1)) - start
                if not 1 <= late <= 5 * PATIENCE:
                    raise Failed(f"a second lasts {late}")
            vm.shell("echo 3 >/proc/sys/vm/drop_caches; md5sum /dev/sda", want)
            vm.send("dmesg; echo end\n")
            vm.expect(r"\r\nend\r\n", 60)
            complaints(vm.output)
            print(f"# {hand_overs(vm)} changes")


def kvm_work(cpus):
    need_kvm()
    if not kvm_is_stock():
        raise Skipped("this KVM is a paravirtual one: programs do not run under it, whoever started them")
    with tempfile.NamedTemporaryFile(prefix="ospite-test-", suffix=".raw") as disk:
        disk.truncate(16 << 20)
        with Machine("--kernel", GUEST / "vmlinuz", "--initrd", GUEST / "initrd.gz", "--cpu", common_cpu(), "--serial", "stdio", "--cpus", cpus,
                     "--append", "console=ttyS0", "--disk", f"{disk.name},format=raw", engine="kvm") as vm:
            vm.expect("Linux version")
            change(vm, 40, WITH_KVM)
            vm.expect("ospite guest ready", 120)
            vm.expect("# ")
            vm.send("i=0; while [ $i -lt 20 ]; do dd if=/dev/urandom of=/tmp/a bs=64k count=64 2>/dev/null; dd if=/tmp/a of=/dev/sda bs=64k "
                    "conv=fsync 2>/dev/null; echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/sda bs=64k count=64 2>/dev/null | cmp - /tmp/a || "
                    "echo wrong; sleep 0.05; i=$((i+1)); done; echo sum $i\n")
            while b"sum 20\r\n" not in vm.output:
                change(vm, 4, WITH_KVM)
                while select.select([vm.process.stdout], [], [], 0)[0]:
                    vm.output += os.read(vm.process.stdout.fileno(), 65536)
            if b"wrong\r\n" in vm.output:
                raise Failed("the disk lost something")
            vm.shell("nproc", rf"{cpus}\r\n")
            vm.send("dmesg; echo end\n")
            vm.expect(r"\r\nend\r\n", 60)
            complaints(vm.output)
            print(f"# {hand_overs(vm)} changes")
            vm.send("poweroff -f\n")
            vm.wait_exit(0, 60)


def kvm_work_one():
    """Programs, disk and timers of a stock guest work while its CPU changes between all engines."""
    kvm_work(1)


def kvm_work_two():
    """Programs, disk and timers of a stock guest work while its two CPUs change between all engines."""
    kvm_work(2)


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


def kvm_gives_up():
    """A machine goes on under a software engine where KVM cannot and the interpreter beside it may not."""
    need_kvm()
    guest = pathlib.Path(OSPITE).resolve().parent / "tests" / "guests" / "apic64.elf"
    with Machine("--kernel", guest, "--serial", "stdio", engine="kvm", memory="64M") as vm:
        vm.wait_exit(1, 60)
        if b"not ok" in vm.output or b"\n1..3" not in vm.output:
            raise Failed("a test of the guest's failed")
        if b"it goes on with engine" not in vm.stderr():
            raise Failed("nobody said that the engine changed")


def kvm_ovmf_console():
    """OVMF comes up to its console while its CPU changes between KVM, translator and interpreter."""
    need_kvm()
    with Machine("--firmware", fetch("ovmf") / "usr/share/ovmf/OVMF.fd", "--serial", "stdio", "--cpu", common_cpu(), engine="jit", memory="256M") as vm:
        end = time.monotonic() + 60 * PATIENCE
        while b"\x1b[2J" not in vm.output:
            change(vm, 4, WITH_KVM, 0.05)
            time.sleep(0.1)
            while select.select([vm.process.stdout], [], [], 0)[0]:
                vm.output += os.read(vm.process.stdout.fileno(), 65536)
            if time.monotonic() > end:
                raise Failed("no console")
        print(f"# {hand_overs(vm)} changes")
        vm.process.terminate()
        vm.wait_exit(0)


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


run(linux_one, linux_four, linux_hyperv, bare_metal, refused, kvm_kernel, kvm_kernel_two, kvm_kernel_hyperv, kvm_idle, kvm_work_one, kvm_work_two, kvm_memtest, kvm_instructions, kvm_gives_up, kvm_ovmf, kvm_ovmf_console)
