#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad input and abrupt ends of `ospite run`, as TAP.

A mistake of the user costs one line on stderr and status 1 (2 for a wrong command line), leaves the disk as it was, no
core and nothing on stdout. A guest that spins with interrupts off keeps neither Ctrl-A x nor SIGTERM from working.
"""
import contextlib
import hashlib
import os
import pathlib
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import time

OSPITE = os.environ.get("OSPITE", "build/ospite")
ENGINE = os.environ.get("OSPITE_TEST_ENGINE", "soft")
PATIENCE = float(os.environ.get("OSPITE_TEST_PATIENCE", "6"))
NOBODY = 65534

# CLI; JMP $ in a boot sector.
SPIN = b"\xfa\xeb\xfe".ljust(510, b"\0") + b"\x55\xaa"


class Failed(Exception):
    pass


def check(condition, text):
    if not condition:
        raise Failed(text)


def command(*args, engine=ENGINE):
    return [OSPITE, "run", *(["--engine", engine] if engine else []), "--display", "none", *map(str, args)]


def expect_error(words, *patterns, status=1, user=None):
    """`words` must fail with one line on stderr that holds every pattern."""
    result = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, user=user, cwd=folder,
                            timeout=20 * PATIENCE, check=False)
    said = result.stderr.strip("\n")
    check(result.returncode == status, f"status {result.returncode}, not {status}; stderr: {said}")
    check(result.stdout == "", f"stdout: {result.stdout}")
    check(said and "\n" not in said, f"not one line on stderr: {said!r}")
    for pattern in ("^ospite", *patterns):
        check(re.search(pattern, said), f"no '{pattern}' in: {said}")
    check(not list(folder.glob("core*")), "a core was left")


def other_user():
    """A user without rights; None when there is none to become or the program is out of its reach."""
    try:
        subprocess.run([OSPITE, "version"], user=NOBODY, stdout=subprocess.DEVNULL, check=True)
        return NOBODY
    except (OSError, subprocess.SubprocessError):
        return None


def file(name, data=b""):
    path = folder / name
    path.write_bytes(data)
    return path


@contextlib.contextmanager
def machine(*args, **options):
    """A running `ospite run` that is killed in the end."""
    process = subprocess.Popen(command(*args), **options)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def wait_for(condition, what):
    end = time.monotonic() + 10 * PATIENCE
    while not condition():
        check(time.monotonic() < end, f"waited in vain for {what}")
        time.sleep(0.02)


def connects(path):
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def ask(path, line):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(line.encode() + b"\n")
        return client.makefile().readline()


def wait_until_spinning(control):
    """The boot sector has been loaded, that is, firmware is done."""
    wait_for(lambda: ask(control, "read 0x7c00 3") == "ok faebfe\n", "the guest")
    time.sleep(0.2)


# ---- bad input ----------------------------------------------------------------------------------

def missing_files():
    """A missing disk, CD-ROM, floppy or kernel is named."""
    for option in ("--disk", "--cdrom", "--floppy", "--kernel", "--firmware", "-hda"):
        expect_error(command(option, "/nowhere/f"), "/nowhere/f", "No such file")


def unreadable():
    """Files without permission are refused with the reason."""
    secret = file("secret", bytes(4096))
    secret.chmod(0)
    user = other_user() if os.geteuid() == 0 else None
    if os.geteuid() == 0 and not user:
        return "another user cannot run the program"
    for option in ("--disk", "--cdrom", "--kernel"):
        expect_error(command(option, secret), "secret", "Permission denied", "permissions", user=user)
    secret.chmod(0o444)
    expect_error(command("--disk", secret), "secret", "read-only", user=user)
    return None


def no_files():
    """Folders and devices are refused as images and kernels."""
    expect_error(command("--disk", folder), "directory")
    expect_error(command("--disk", "/dev/null"), "character device")
    expect_error(command("--kernel", folder), "regular file")
    os.mkfifo(folder / "fifo")
    expect_error(command("--cdrom", folder / "fifo"), "fifo")


def too_short():
    """An image too short to boot is refused."""
    expect_error(command("--disk", file("empty")), "empty")
    expect_error(command("--disk", file("short", b"x" * 100)), "short", "100 bytes")
    expect_error(command("--floppy", file("short", b"x" * 511)), "short", "511 bytes")
    expect_error(command("--cdrom", file("short", b"x" * 1024)), "short", "1024 bytes")


def not_firmware():
    """Firmware of a size that no BIOS has is refused."""
    for size in (0, 1000, 3 << 16):
        expect_error(command("--firmware", file("f", bytes(size))), "/f", "empty|BIOS size")


def not_a_kernel():
    """A kernel that is none, or is cut off, is refused."""
    expect_error(command("--kernel", file("k", b"garbage\n")), "/k", "no kernel")
    expect_error(command("--kernel", file("k")), "/k", "empty")
    expect_error(command("--kernel", file("k", bytes(range(256)) * 400)), "/k", "no kernel")
    elf = b"\x7fELF" + bytes(60)
    expect_error(command("--kernel", file("k", elf)), "/k")
    linux = bytearray(0x400)
    linux[0x1f1], linux[0x1fe:0x200], linux[0x202:0x206] = 4, b"\x55\xaa", b"HdrS"
    expect_error(command("--kernel", file("k", bytes(linux))), "/k")


def foreign_image():
    """Another product's image is named instead of run as garbage."""
    parallels = file("x", b"WithoutFreeSpace" + bytes(1008))
    expect_error(command("--disk", parallels), "/x", "Parallels")
    expect_error(command("--disk", f"{parallels},format=parallels"), "parallels", "raw")
    expect_error(command("--disk", file("q", b"QFI\xfb\0\0\0\3" + bytes(1016))), "/q")


def sizes():
    """Memory and CPUs beyond any machine are refused."""
    expect_error(command("--memory", "99T"), "--memory", "65536 MiB")
    expect_error(command("-m", "0"), "--memory")
    for text in ("many", "-5", "12X"):
        expect_error(command("--memory", text), "--memory", status=2)
    for text in ("0", "33", "x"):
        expect_error(command("--cpus", text), "--cpus", "32", status=2)


def wrong_words():
    """Unknown options, engines, models and places say what there is; a wrong command line is status 2."""
    expect_error(command("--bogus"), "--bogus", "--help", status=2)
    expect_error(command("disk.raw"), "disk.raw", "--disk", status=2)
    expect_error(command("--memory"), "needs a value", status=2)
    expect_error(command("--append", "x"), "--kernel", status=2)
    expect_error(command("--boot", "order=q"), "--boot", status=2)
    expect_error(command("--display", "sdl"), "--display", status=2)
    expect_error(command("--disk", "x,bus=scsi"), "scsi", "ide", status=2)
    expect_error(command("--control", "tcp:1"), "unix:PATH", status=2)
    expect_error([OSPITE, "frobnicate"], "frobnicate", "help", status=2)
    expect_error(command(engine="warp"), "warp", "interp")
    expect_error(command("--cpu", "z80"), "z80", "x86-64-v1")
    expect_error(command("--cpu", "host,+warp"), "warp")
    expect_error(command("--serial", "carrier-pigeon"), "carrier-pigeon", "stdio")
    expect_error(command("--serial", "file:/nowhere/x"), "/nowhere/x")
    expect_error(command("--control", "unix:/nowhere/x"), "/nowhere/x")


def automatic_engine():
    """With the engine left to choose, a mistake is one line, too."""
    expect_error(command("--disk", "/nowhere/d", engine=None), "/nowhere/d")


def kvm_permission():
    """No permission for /dev/kvm: says so, and what to do."""
    if os.geteuid() != 0 or not other_user():
        return "cannot become another user"
    try:
        if os.stat("/dev/kvm").st_mode & 0o006:
            return "everybody may open /dev/kvm here"
    except OSError:
        expect_error(command(engine="kvm"), "/dev/kvm")
        return None
    expect_error(command(engine="kvm"), "/dev/kvm", "permission", "usermod", user=NOBODY)
    return None


def in_use():
    """A disk in use by another VM is refused and untouched; two readers are welcome."""
    disk = file("disk", SPIN + bytes(65536 - len(SPIN)))
    before = hashlib.sha256(disk.read_bytes()).digest()
    control = folder / "owner"
    with machine("--disk", f"{disk},format=raw", "--serial", "none", "--control", f"unix:{control}"):
        wait_for(lambda: connects(control), "the first machine")
        expect_error(command("--disk", f"{disk},format=raw"), "/disk", "in use")
        expect_error(command("--disk", f"{disk},readonly"), "/disk", "in use")
        expect_error(command("--cdrom", disk), "/disk", "in use")
    reader = f"{disk},format=raw,readonly"
    with machine("--disk", reader, "--serial", "none", "--control", f"unix:{control}"):
        wait_for(lambda: connects(control), "the second machine")
        expect_error(command("--disk", f"{disk},format=raw"), "in use")
        other = folder / "other"
        with machine("--disk", reader, "--serial", "none", "--control", f"unix:{other}"):
            wait_for(lambda: connects(other), "the third machine")
    check(hashlib.sha256(disk.read_bytes()).digest() == before, "the disk was changed")


def a_parent_elsewhere():
    """What an image names is looked for in its folder and below, unless its disk is trusted."""
    base = file("base", SPIN + bytes(65536 - len(SPIN)))
    (folder / "sub").mkdir()
    child = folder / "sub" / "child.qcow2"
    subprocess.run([OSPITE, "disk", "create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", child], check=True)
    expect_error(command("--disk", child), "outside of its folder", "trust-backing")
    expect_error(command("--disk", f"{child},trust-backing=off"), "outside of its folder")
    control = folder / "trusting"
    for word in "trust-backing", "mode=immutable,trust-backing=on":
        with machine("--disk", f"{child},{word}", "--serial", "none", "--control", f"unix:{control}"):
            wait_for(lambda: connects(control), "a machine that trusts")


def twice_in_one():
    """One image twice in one machine is refused, too."""
    disk = file("disk", SPIN)
    expect_error(command("--disk", disk, "--disk", disk), "/disk", "in use")


def control_keeps_files():
    """--control never replaces a file or a socket in use; it replaces a stale socket."""
    precious = file("precious", b"data")
    expect_error(command("--control", f"unix:{precious}"), "precious")
    check(precious.read_bytes() == b"data", "the file was changed")
    path = folder / "stale"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    disk = file("disk", SPIN)
    with machine("--disk", f"{disk},format=raw", "--serial", "none", "--control", f"unix:{path}"):
        wait_for(lambda: connects(path), "the machine")
        check(path.stat().st_mode & 0o077 == 0, "others may connect to the control socket")
        expect_error(command("--serial", "none", "--control", f"unix:{path}"), "stale")


# ---- abrupt ends --------------------------------------------------------------------------------

def terminated():
    """SIGTERM, SIGINT and SIGHUP end a guest that spins with interrupts off; nothing of ours is on stdout."""
    disk = file("disk", SPIN)
    control = folder / "control"
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        with machine("--disk", f"{disk},format=raw", "--serial", "stdio", "--control", f"unix:{control}",
                     stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            wait_for(lambda: control.exists() and connects(control), "the machine")
            wait_until_spinning(control)
            process.send_signal(number)
            out, err = process.communicate(timeout=10 * PATIENCE)
            check(process.returncode == 0, f"status {process.returncode} after {number.name}")
            check((out, err) == (b"", b""), f"said {out!r} and {err!r}")
        check(not control.exists(), "the control socket is still there")


def read_until(fd, pattern):
    output = b""
    end = time.monotonic() + 10 * PATIENCE
    while not re.search(pattern, output):
        ready, _, _ = select.select([fd], [], [], max(0, end - time.monotonic()))
        check(ready, f"no {pattern} on the terminal: {output!r}")
        output += os.read(fd, 4096)
    return output


def escape_key():
    """On a terminal Ctrl-A h helps, Ctrl-A x leaves with status 0, and the terminal is as before."""
    disk = file("disk", SPIN)
    control = folder / "control"
    outer, inner = pty.openpty()
    with os.fdopen(outer, "r+b", 0), os.fdopen(inner, "r+b", 0):
        before = termios.tcgetattr(inner)
        with machine("--disk", f"{disk},format=raw", "--serial", "stdio", "--control", f"unix:{control}",
                     stdin=inner, stdout=inner, stderr=inner) as process:
            wait_for(lambda: control.exists() and connects(control), "the machine")
            wait_until_spinning(control)
            raw = termios.tcgetattr(inner)
            check(not raw[3] & (termios.ECHO | termios.ICANON | termios.ISIG), "the terminal is not raw")
            os.write(outer, b"\x01h")
            read_until(outer, rb"Ctrl-A x")
            os.write(outer, b"\x03\x01x")
            try:
                status = process.wait(10 * PATIENCE)
            except subprocess.TimeoutExpired:
                raise Failed("Ctrl-A x did not end it") from None
            check(status == 0, f"status {status}")
        check(termios.tcgetattr(inner) == before, "the terminal was not restored")


def restored_after_error():
    """The terminal is restored after a mistake and after SIGTERM."""
    disk = file("disk", SPIN)
    control = folder / "control"
    outer, inner = pty.openpty()
    with os.fdopen(outer, "r+b", 0), os.fdopen(inner, "r+b", 0):
        before = termios.tcgetattr(inner)
        with machine("--kernel", "/nowhere/k", stdin=inner, stdout=inner, stderr=inner) as process:
            check(process.wait(10 * PATIENCE) == 1, "the mistake was no mistake")
        check(termios.tcgetattr(inner) == before, "the terminal was not restored after a mistake")
        with machine("--disk", f"{disk},format=raw", "--control", f"unix:{control}",
                     stdin=inner, stdout=inner, stderr=inner) as process:
            wait_for(lambda: control.exists() and connects(control), "the machine")
            process.terminate()
            check(process.wait(10 * PATIENCE) == 0, "SIGTERM did not end it in good order")
        check(termios.tcgetattr(inner) == before, "the terminal was not restored after SIGTERM")


def main():
    global folder
    names = sys.argv[1:]
    tests = [t for t in (missing_files, unreadable, no_files, too_short, not_firmware, not_a_kernel, foreign_image, sizes,
                         wrong_words, automatic_engine, kvm_permission, in_use, a_parent_elsewhere, twice_in_one, control_keeps_files, terminated,
                         escape_key, restored_after_error) if not names or t.__name__ in names]
    failures = 0
    print(f"1..{len(tests)}")
    for number, test in enumerate(tests, 1):
        title = test.__doc__.rstrip(".")
        with tempfile.TemporaryDirectory(prefix="ospite-cli-") as name:
            folder = pathlib.Path(name)
            folder.chmod(0o755)
            try:
                reason = test()
                print(f"ok {number} - {title}" + (f" # SKIP {reason}" if reason else ""), flush=True)
            except (Failed, OSError, subprocess.TimeoutExpired) as failure:
                failures += 1
                print(f"# {failure}\nnot ok {number} - {title}", flush=True)
    sys.exit(1 if failures else 0)


folder = None
main()
