#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""`ospite run --gdb`: the real gdb, and packets as no gdb sends them, against a guest assembled here; as TAP."""
import contextlib
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile

OSPITE = os.environ.get("OSPITE", "build/ospite")
PATIENCE = 60 * float(os.environ.get("OSPITE_TEST_PATIENCE", "6"))
ENGINES = ("interp", "jit")

# A kernel entered by PVH. LOOP: counts at COUNTER, writes its DR7 and EBX to memory until STOP is set, then OUT 0xf4 with 0:
# exit status 1.
START, LOOP, COUNTER, DR7, STOP, EBX = 0x100100, 0x100180, 0x100200, 0x100204, 0x100208, 0x10020c
GUEST = """
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
        align 256
start:  mov esp, 0x200000
        jmp again
        align 128
again:  inc dword [counter]
        mov eax, dr7
        mov [seen], eax
        mov [stored], ebx
        cmp dword [stop], 0
        je again
        xor eax, eax
        out 0xf4, al
        jmp $
        align 256
counter dd 0
seen    dd -1
stop    dd 0
stored  dd 0
size    equ $ - $$
"""


class Failed(Exception):
    pass


def check(condition, text):
    if not condition:
        raise Failed(text)


class Machine:
    """A machine that waits for a debugger."""

    def __init__(self, engine, *options):
        self.path = folder / "gdb.socket"
        self.listens = not any("tcp:" in option for option in options)  # there, else where gdb tries again
        self.process = subprocess.Popen(
            [OSPITE, "run", "--engine", engine, "--cpus", "2", "--memory", "16M", "--display", "none", "--serial", "none",
             "--kernel", kernel, *(options or ["--gdb", f"unix:{self.path}", "--gdb-wait"])], stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True)

    def __enter__(self):
        while self.listens and not self.path.exists():
            if self.process.poll() is not None:
                raise Failed(f"no machine: {self.process.stderr.read()}")
        return self

    def __exit__(self, *unused):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        self.path.unlink(missing_ok=True)

    def status(self):
        return self.process.wait(PATIENCE)


class Debugger:
    """Our own end of the protocol, with acknowledgements."""

    def __init__(self, machine):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE)
        while True:
            try:
                self.socket.connect(str(machine.path))
                break
            except ConnectionRefusedError:  # the name is there a moment before the listener
                check(machine.process.poll() is None, "no machine")

    def send(self, data):
        self.socket.sendall(b"$" + data + b"#%02x" % (sum(data) & 0xff))

    def byte(self):
        byte = self.socket.recv(1)
        check(byte, "the connection was closed")
        return byte

    def receive(self):
        while self.byte() != b"$":
            pass
        data = b""
        while (byte := self.byte()) != b"#":
            data += byte
        check(int(self.byte() + self.byte(), 16) == sum(data) & 0xff, f"sum of {data}")
        with contextlib.suppress(BrokenPipeError):  # that was the answer to a detach
            self.socket.sendall(b"+")
        return data

    def ask(self, data):
        self.send(data)
        return self.receive()


def gdb(machine, *commands, target=None):
    """What gdb prints."""
    words = ["gdb", "-nx", "-batch", "-ex", "set pagination off", "-ex", "set confirm off", "-ex", "set tcp connect-timeout 60",
             "-ex", f"target remote {target or machine.path}"]
    for command in commands:
        words += ["-ex", command]
    result = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            timeout=PATIENCE, check=False)
    return result.stdout


def expect(output, *patterns):
    at = 0
    for pattern in patterns:
        match = re.compile(pattern).search(output, at)
        check(match, f"{pattern} is not in order in: {output!r}")
        at = match.end()


# ---- gdb ---------------------------------------------------------------------------------------

def looks_and_breaks():
    """gdb sees CPUs, registers and memory, breaks, steps, changes, and lets the guest go on to its end."""
    for engine in ENGINES:
        with Machine(engine) as machine:
            output = gdb(machine, "info threads", "p/x $rip", f"hbreak *{LOOP:#x}", "continue", "p/x $rip", "stepi", "p/x $rip",
                         f"x/wx {COUNTER:#x}", "continue", f"x/wx {COUNTER:#x}", f"x/wx {DR7:#x}", "set $rbx = 0x1234",
                         "set $xmm3.uint128 = 77", "p $xmm3.uint128", "p/x $mxcsr", "p/x $cr0", "set $ymm3.v2_int128[1] = 78", "p $ymm3.v2_int128", "continue", f"x/wx {EBX:#x}",
                         "delete", f"set {{int}}{STOP:#x} = 1", "continue")
            expect(output, r"CPU 0 running", "CPU 1 not started", rf"\$1 = {START:#x}", rf"\$2 = {LOOP:#x}",
                   rf"\$3 = {LOOP + 6:#x}", rf"{COUNTER:#x}:\s*0x0*1\b", rf"{COUNTER:#x}:\s*0x0*1\b", rf"{DR7:#x}:\s*0x0*400\b",
                   r"\$4 = (77|0x4d)", r"\$5 = 0x1f80", r"\$6 = 0x", r"\$7 = \{(77|0x4d), (78|0x4e)\}", rf"{EBX:#x}:\s*0x0*1234\b", "exited with code 01")
            check(machine.status() == 1, f"{engine}: status {machine.status()}")


def watches():
    """gdb's watchpoints stop behind the access that writes, and the one that reads."""
    for engine in ENGINES:
        with Machine(engine) as machine:
            output = gdb(machine, f"watch *(int *){COUNTER:#x}", "continue", "continue", "delete", f"rwatch *(int *){STOP:#x}",
                         "continue", "p/x $rip", "delete", f"awatch *(int *){EBX:#x}", "continue", "detach")
            expect(output, "Hardware watchpoint 1", r"Old value = 0\s+New value = 1", r"Old value = 1\s+New value = 2",
                   "Hardware read watchpoint 2", "Value = 0", rf"\$1 = {LOOP + 27:#x}", "access .*watchpoint 3", "detached")
            check(machine.process.poll() is None, f"{engine}: the guest did not go on")


# What shows that gdb has the guest in hand, and what it then prints.
TOUR = [f"hbreak *{LOOP:#x}", "continue", "p/x $rip", "delete", "detach"]
TOUR_SHOWS = ["Hardware assisted breakpoint 1", "Breakpoint 1, ", rf"\$1 = {LOOP:#x}", "detached"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def by_tcp():
    """gdb comes by TCP as well, to --gdb."""
    port = free_port()
    with Machine("jit", "--gdb", f"tcp:{port}", "--gdb-wait") as machine:
        expect(gdb(machine, *TOUR, target=f"localhost:{port}"), *TOUR_SHOWS)


def debugs_running():
    """`ospite debug` lets gdb look into a machine that runs, by its control socket: through a pipe, TCP, a Unix socket."""
    with Machine("jit", "--control", f"unix:{folder / 'gdb.socket'}") as machine:
        control = f"unix:{machine.path}"
        for _ in range(2):
            expect(gdb(machine, *TOUR, target=f"| {OSPITE} debug {control}"), *TOUR_SHOWS)
        for where, target in ((f"tcp:{(port := free_port())}", f"localhost:{port}"), (f"unix:{folder}/listen", f"{folder}/listen")):
            relay = subprocess.Popen([OSPITE, "debug", control, "--listen", where], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                     text=True)
            check("GDB may connect: target remote" in relay.stderr.readline(), "no word of where to connect")
            for _ in range(2):
                expect(gdb(machine, *TOUR, target=target), *TOUR_SHOWS)
            relay.kill()
            relay.communicate()
        check(machine.process.poll() is None, "the machine ended")
        with socket.socket(socket.AF_UNIX) as one, socket.socket(socket.AF_UNIX) as two:
            for client, answer in ((one, b"ok\n"), (two, b"error a debugger is connected already\n")):
                client.settimeout(PATIENCE)
                client.connect(str(machine.path))
                client.sendall(b"gdb\n")
                check(client.makefile("rb").readline() == answer, f"not answered: {answer}")


def debug_refused():
    """`ospite debug` says in one line what it cannot do."""
    with Machine("jit", "--control", f"unix:{folder / 'gdb.socket'}", "--gdb", f"unix:{folder}/other") as machine:
        for words, status, text in (([f"unix:{machine.path}"], 1, "by --gdb"), ([f"unix:{folder}/nobody"], 1, "no machine answers"),
                                    ([f"unix:{machine.path}", "--listen", "tcp:x"], 2, "use unix:PATH or tcp:PORT")):
            result = subprocess.run([OSPITE, "debug", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE,
                                    check=False)
            check(result.returncode == status and text in result.stderr and len(result.stderr.strip().splitlines()) == 1,
                  f"{words}: {result.returncode} {result.stderr}")


# ---- packets -------------------------------------------------------------------------------------

def interrupts_and_detaches():
    """An interrupt stops a running guest, a detached one goes on, a second debugger may come, and can kill it."""
    for engine in ENGINES:
        with Machine(engine) as machine:
            one = Debugger(machine)
            check(one.ask(b"?").startswith(b"T05thread:1;"), "why")
            one.send(b"vCont;c")
            one.socket.sendall(b"\x03")
            check(one.receive().startswith(b"T02thread:1;"), "no stop")
            check(one.ask(b"D") == b"OK", "detach")
            two = Debugger(machine)
            before = two.ask(b"m%x,4" % COUNTER)
            check(two.ask(b"Z1,%x,1" % LOOP) == b"OK", "breakpoint")
            two.send(b"vCont;c")
            check(two.receive() == b"T05thread:1;hwbreak:;", "breakpoint not hit")
            check(two.ask(b"z1,%x,1" % LOOP) == b"OK", "no breakpoint removed")
            two.send(b"vCont;s:1")
            check(two.receive() == b"T05thread:1;", "step")
            check(two.ask(b"m%x,4" % COUNTER) != before, "the guest did not run")
            two.send(b"k")
            check(machine.status() == 0, f"{engine}: status {machine.status()}")


def refuses():
    """Packets that ask for what is not there, or are none, get an error, an empty answer, or nothing."""
    bad = [b"m", b"m0", b"m40000000,4", b"M100000,4:12", b"M100000,ffffffffffffffff:00", b"p999", b"P999=00", b"P12=0200",
           b"P1=0", b"G00", b"Hg9", b"T9", b"T", b"Z9,0,1", b"Z1,0", b"Z2,0,0", b"vCont;x", b"vCont;c:9", b"vCont", b"vCont;C",
           b"qThreadExtraInfo,9", b"qXfer:features:read:target.xml:0", b"m00000000000000000,1"]
    with Machine("interp") as machine:
        debugger = Debugger(machine)
        for packet in bad:
            answer = debugger.ask(packet)
            check(answer == b"E01", f"{packet} got {answer}")
        for packet in (b"", b"X0,0:", b"qCRC:0,1", b"vMustReplyEmpty", b"\xff\x00", b"q"):
            check(debugger.ask(packet) == b"", f"{packet} was known")
        debugger.socket.sendall(b"$?#00")
        check(debugger.byte() == b"-", "a wrong sum")
        debugger.send(b"m" * 20000)
        check(debugger.byte() == b"-", "too long a packet")
        for i in range(256):
            check(debugger.ask(b"Z1,%x,1" % (0x1000 + i)) == b"OK", f"breakpoint {i}")
        check(debugger.ask(b"Z1,1,1") == b"E01", "too many breakpoints")
        check(len(debugger.ask(b"m100000,ffff")) == 8128, "a long read is cut to the packet's size")


def refused():
    """Places that are none, and --gdb-wait alone, are one line."""
    for words in (["--gdb", "here"], ["--gdb", "tcp:0"], ["--gdb", "tcp:65536"], ["--gdb-wait"],
                  ["--gdb", f"unix:{folder}/no/socket"], ["--engine", "none", "--gdb", f"unix:{folder}/s"]):
        result = subprocess.run([OSPITE, "run", "--engine", "interp", "--serial", "none", "--kernel", kernel, *words], stdin=subprocess.DEVNULL,
                                capture_output=True, text=True, timeout=PATIENCE, check=False)
        check(result.returncode in (1, 2) and len(result.stderr.strip().splitlines()) == 1, f"{words}: {result.stderr}")


TESTS = [looks_and_breaks, watches, by_tcp, debugs_running, debug_refused, interrupts_and_detaches, refuses, refused]
NEED_GDB = (looks_and_breaks, watches, by_tcp, debugs_running)

with tempfile.TemporaryDirectory(prefix="ospite-gdb-") as name:
    folder = pathlib.Path(name)
    (folder / "guest.asm").write_text(GUEST)
    kernel = folder / "guest.bin"
    subprocess.run(["nasm", "-f", "bin", "-o", kernel, folder / "guest.asm"], check=True)
    chosen = [t for t in TESTS if not sys.argv[1:] or t.__name__ in sys.argv[1:]]
    failures = 0
    print(f"1..{len(chosen)}")
    for number, test in enumerate(chosen, 1):
        title = test.__doc__.splitlines()[0].rstrip(".")
        if test in NEED_GDB and not shutil.which("gdb"):
            print(f"ok {number} - {title} # SKIP gdb is not installed")
            continue
        try:
            test()
            print(f"ok {number} - {title}", flush=True)
        except (Failed, OSError, subprocess.SubprocessError) as reason:
            failures += 1
            print(f"# {reason}")
            print(f"not ok {number} - {title}", flush=True)
sys.exit(1 if failures else 0)
