#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `ospite run` tells about the guest inside: counters, traces, maps for perf; as TAP.

The guests are boot sectors assembled here, so what they do, and how often, is known.
"""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

OSPITE = os.environ.get("OSPITE", "build/ospite")
PATIENCE = float(os.environ.get("OSPITE_TEST_PATIENCE", "6"))

# A kernel entered by PVH without firmware: 1000 times a loop, INT 20h, exit as above.
TRACED = """
        bits 32
        org 0x100000
        db 0x7f, "ELF", 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0
        dw 2, 3
        dd 1, start, 52, 0, 0
        dw 52, 32, 2, 0, 0, 0
        dd 1, 0, 0x100000, 0x100000, size, size, 7, 4096
        dd 4, note - $$, note, note, 20, 20, 4, 4
note:   dd 4, 4, 18
        db "Xen", 0
        dd start
        align 8
gdt:    dq 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdtr:   dw 23
        dd gdt
idtr:   dw 0x107
        dd idt
idt:    times 0x20 dq 0
        dw handler - $$, 8, 0x8e00, 0x10
handler: iret
start:  lgdt [gdtr]
        lidt [idtr]
        jmp 8:next
next:   mov esp, 0x200000
        mov ecx, 1000
again:  inc eax
        dec ecx
        jnz again
        int 0x20
        xor eax, eax
        out 0xf4, al
        jmp $
size    equ $ - $$
"""

# Two HLTs ended by the timer, 1000 times a loop of 3 instructions, OUT 0xf4 with 0: exit status 1.
COUNTED = """
        bits 16
        org 0x7c00
        sti
        hlt
        hlt
        cli
        mov ecx, 1000
again:  inc eax
        dec ecx
        jnz again
        xor eax, eax
        out 0xf4, al
        jmp $
        times 510-($-$$) db 0
        dw 0xaa55
"""


class Failed(Exception):
    pass


def check(condition, text):
    if not condition:
        raise Failed(text)


def assemble(source, name):
    """A boot sector, or a flat binary; returns its path."""
    path = folder / (name + ".asm")
    path.write_text(source)
    binary = folder / (name + ".bin")
    subprocess.run(["nasm", "-f", "bin", "-o", binary, path], check=True)
    return binary


def boot(sector, engine, *args):
    """Runs a boot sector to its end; returns the finished process."""
    disk = folder / "disk.raw"
    disk.write_bytes(sector.read_bytes().ljust(1 << 20, b"\0"))
    return subprocess.run([OSPITE, "run", "--engine", engine, "--memory", "16M", "--display", "none", "--serial", "none",
                           "--disk", f"{disk},format=raw", *map(str, args)], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=60 * PATIENCE, check=False)


# ---- counters --------------------------------------------------------------------------------

def counters():
    """Counters arrive as JSON in a file and on standard output, from both software engines."""
    sector = assemble(COUNTED, "counted")
    for engine in ("interp", "jit"):
        file = folder / "stats.json"
        result = boot(sector, engine, "--stats", file, "--cpus", 2)
        check(result.returncode == 1 and not result.stdout, f"{engine}: status {result.returncode}: {result.stderr}")
        stats = json.loads(file.read_text())
        check(stats["engine"] == engine and len(stats["cpus"]) == 2, f"{engine}: {stats}")
        total, first = stats["total"], stats["cpus"][0]
        for name in ("interpreted", "blocks_decoded", "tlb_fills", "irqs", "pio", "exits_halted", "halted_ns"):
            check(first[name] > 0, f"{engine}: {name} is 0")
        check(first["interpreted"] > 3000 and first["exits_halted"] >= 2 and first["irqs"] >= 2, f"{engine}: {first}")
        check(total["pio"] == sum(cpu["pio"] for cpu in stats["cpus"]), f"{engine}: totals: {stats}")
        check(("blocks_translated" in total) == (engine == "jit"), f"{engine}: {total}")
    result = boot(sector, "interp", "--stats", "-")
    check(json.loads(result.stdout)["total"]["pio"] > 0, result.stdout)


def counters_unwritable():
    """A file for counters that cannot be written is one line and status 1."""
    result = boot(assemble(COUNTED, "counted"), "interp", "--stats", folder / "no" / "such" / "file")
    lines = result.stderr.strip().splitlines()
    check(result.returncode == 1 and len(lines) == 1 and "--stats" in lines[0], f"{result.returncode}: {lines}")


# ---- traces ----------------------------------------------------------------------------------

def traces():
    """A trace holds each instruction, block, translation and interrupt of a guest whose course is known."""
    kernel = assemble(TRACED, "traced")
    for engine in ("interp", "jit"):
        file = folder / "trace.log"
        result = subprocess.run([OSPITE, "run", "--engine", engine, "--memory", "16M", "--display", "none", "--serial", "none",
                                 "--kernel", kernel, "--trace", f"exec,block,mmu,irq,file={file}"],
                                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60 * PATIENCE, check=False)
        check(result.returncode == 1 and not result.stderr, f"{engine}: status {result.returncode}: {result.stderr}")
        lines = file.read_text().splitlines()
        check(all(line.startswith("0 ") for line in lines), f"{engine}: a line of another CPU")
        executed = [line.split()[3] for line in lines if line.startswith("0 exec ")]
        while executed[-1] == "ebfe":  # until the machine has ended
            executed.pop()
        check(executed[-5:] == ["75fc", "cd20", "cf", "31c0", "e6f4"], f"{engine}: ended with {executed[-8:]}")
        check(executed.count("40") == 1000, f"{engine}: the loop ran {executed.count('40')} times")
        decoded = [line for line in lines if line.startswith("0 block") and line.split()[3] == "40"]
        check(1 <= len(decoded) < 5, f"{engine}: decoded {len(decoded)} times")
        irqs = [line for line in lines if line.startswith("0 irq")]
        check(len(irqs) == 1 and "vector 32 software at 0008:" in irqs[0], f"{engine}: {irqs}")
        check(any("fill 0000000000100000 -> 000100000 rwx" in line for line in lines), f"{engine}: no translation")


def traces_refused():
    """A trace of unknown events, or to a place that is none, is one line and status 1."""
    sector = assemble(COUNTED, "counted")
    for spec, word in (("exec,sex", "sex"), (f"irq,file={folder}/no/file", "no/file")):
        result = boot(sector, "interp", "--trace", spec)
        lines = result.stderr.strip().splitlines()
        check(result.returncode == 1 and len(lines) == 1 and word in lines[0], f"{result.returncode}: {lines}")


# ---- profiles --------------------------------------------------------------------------------

def perf_map():
    """The map for perf names the guest's code by its symbols, and the blocks do not overlap."""
    kernel = assemble(TRACED, "traced")
    symbols = folder / "System.map"
    symbols.write_text("0000000000100000 T image\n0000000000100100 d data\nffffffff81000000 T far_away\n")
    for given, pattern in ((symbols, r"guest:image\+0x[0-9a-f]+"), ("-", r"guest:0x100[0-9a-f]{3}")):
        process = subprocess.Popen([OSPITE, "run", "--engine", "jit", "--memory", "16M", "--display", "none", "--serial", "none",
                                    "--kernel", kernel, "--perf-map", given], stdin=subprocess.DEVNULL)
        path = pathlib.Path(f"/tmp/perf-{process.pid}.map")
        try:
            check(process.wait(60 * PATIENCE) == 1, "the machine failed")
            lines = path.read_text().splitlines()
        finally:
            path.unlink(missing_ok=True)
        check(any(re.fullmatch(rf"[0-9a-f]+ [0-9a-f]+ {pattern}", line) for line in lines), f"{given}: {lines}")
        blocks = sorted((int(line.split()[0], 16), int(line.split()[1], 16)) for line in lines)
        check(all(a + size <= b for (a, size), (b, _) in zip(blocks, blocks[1:])), f"{given}: overlap: {lines}")


def perf_map_refused():
    """Symbols that are none are one line and status 1."""
    kernel = assemble(TRACED, "traced")
    bad = folder / "bad.map"
    bad.write_text("0000000000100000 T image\nwhat?\n")
    for given, word in ((bad, "line 2"), (folder / "none", "none")):
        result = subprocess.run([OSPITE, "run", "--engine", "jit", "--display", "none", "--serial", "none", "--kernel", kernel,
                                 "--perf-map", given], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        lines = result.stderr.strip().splitlines()
        check(result.returncode == 1 and len(lines) == 1 and word in lines[0], f"{result.returncode}: {lines}")


TESTS = [counters, counters_unwritable, traces, traces_refused, perf_map, perf_map_refused]

with tempfile.TemporaryDirectory(prefix="ospite-inspect-") as name:
    folder = pathlib.Path(name)
    chosen = [t for t in TESTS if not sys.argv[1:] or t.__name__ in sys.argv[1:]]
    failures = 0
    print(f"1..{len(chosen)}")
    for number, test in enumerate(chosen, 1):
        title = test.__doc__.splitlines()[0].rstrip(".")
        try:
            test()
            print(f"ok {number} - {title}", flush=True)
        except Failed as reason:
            failures += 1
            print(f"# {reason}")
            print(f"not ok {number} - {title}", flush=True)
sys.exit(1 if failures else 0)
