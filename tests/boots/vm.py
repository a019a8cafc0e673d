# SPDX-License-Identifier: GPL-3.0-or-later
"""Boot tests drive `ospite run` as a person would: they read the serial line or the screen and type.

A test is a function given to run(); it raises Failed. Timeouts scale with the machine (OSPITE_TEST_PATIENCE).
"""
import os
import pathlib
import re
import select
import socket
import subprocess
import sys
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
GUEST = TOP / ".cache" / "guest"
OSPITE = os.environ.get("OSPITE", str(TOP / "build" / "ospite"))
PATIENCE = float(os.environ.get("OSPITE_TEST_PATIENCE", "6"))


class Failed(Exception):
    pass


class Skipped(Exception):
    pass


class Machine:
    """One `ospite run`; leave by `with`, which kills what still runs."""

    def __init__(self, *args, engine=None, memory="512M", control=True):
        self.folder = tempfile.TemporaryDirectory(prefix="ospite-test-")
        self.control_path = os.path.join(self.folder.name, "control")
        command = [OSPITE, "run", "--engine", engine or os.environ.get("OSPITE_TEST_ENGINE", "soft"), "--memory", memory, "--display", "none"]
        if control:
            command += ["--control", f"unix:{self.control_path}"]
        self.command = command + [str(a) for a in args]
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=open(os.path.join(self.folder.name, "stderr"), "wb"))
        self.output = b""
        self.seen = 0
        self.control_socket = None

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if value:
            print("# command: " + " ".join(self.command))
            self.print_tail("serial", self.output)
            self.print_tail("stderr", self.stderr())
        if self.control_socket:
            self.control_socket.close()
        self.folder.cleanup()

    def stderr(self):
        with open(os.path.join(self.folder.name, "stderr"), "rb") as file:
            return file.read()

    @staticmethod
    def print_tail(name, data):
        for line in data.decode(errors="replace").splitlines()[-25:]:
            print(f"# {name}: {line}")

    # ---- serial line -------------------------------------------------------------------------

    def expect(self, pattern, seconds=30):
        """Waits for a regular expression on the serial line after what was matched before; returns the match."""
        regex = re.compile(pattern.encode(), re.DOTALL)
        end = time.monotonic() + seconds * PATIENCE
        while True:
            match = regex.search(self.output, self.seen)
            if match:
                self.seen = match.end()
                return match
            if time.monotonic() > end:
                raise Failed(f"no '{pattern}' on the serial line in {seconds * PATIENCE:.0f} s")
            ready, _, _ = select.select([self.process.stdout], [], [], 1)
            if ready:
                data = os.read(self.process.stdout.fileno(), 65536)
                if not data:
                    raise Failed(f"the machine ended (status {self.process.wait()}) before '{pattern}'")
                self.output += data

    def send(self, text):
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def shell(self, command, pattern, seconds=30):
        """Types a command at a prompt and waits for what it prints (not for its echo)."""
        self.send(command + "\n")
        self.expect("[\r\n]*".join(re.escape(c) for c in command) + r"\r?\n", seconds)  # the terminal folds lines
        return self.expect(pattern, seconds)

    def wait_exit(self, status, seconds=30):
        try:
            self.process.stdin.close()
            end = time.monotonic() + seconds * PATIENCE
            while time.monotonic() < end:
                ready, _, _ = select.select([self.process.stdout], [], [], 1)
                if ready:
                    data = os.read(self.process.stdout.fileno(), 65536)
                    if not data:
                        break
                    self.output += data
            got = self.process.wait(max(1, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise Failed("the machine did not end") from None
        if got != status:
            raise Failed(f"exit status {got}, not {status}")

    # ---- screen and keyboard -----------------------------------------------------------------

    def control(self, line):
        """One command to the control socket; returns the answer without its first word."""
        if not self.control_socket:
            end = time.monotonic() + 10 * PATIENCE
            while True:
                try:
                    self.control_socket = socket.socket(socket.AF_UNIX)
                    self.control_socket.connect(self.control_path)
                    break
                except OSError:
                    if time.monotonic() > end or self.process.poll() is not None:
                        raise Failed("the control socket does not answer") from None
                    time.sleep(0.05)
            self.control_file = self.control_socket.makefile("rb")
        self.control_socket.sendall(line.encode() + b"\n")
        lines = []
        while True:
            answer = self.control_file.readline().decode(errors="replace").rstrip("\n")
            if answer.startswith("| "):
                lines.append(answer[2:])
                continue
            if not answer.startswith("ok"):
                raise Failed(f"control '{line}': {answer or 'closed'}")
            return "\n".join(lines) or answer[3:]

    def screen(self):
        return self.control("text")

    def expect_screen(self, pattern, seconds=30):
        end = time.monotonic() + seconds * PATIENCE
        while True:
            text = self.screen()
            match = re.search(pattern, text, re.DOTALL)
            if match:
                return match
            if time.monotonic() > end or self.process.poll() is not None:
                for line in text.splitlines():
                    print("# screen: " + line)
                raise Failed(f"no '{pattern}' on the screen in {seconds * PATIENCE:.0f} s")
            time.sleep(0.2)

    def type(self, text):
        self.control("type " + text.replace("\\", "\\\\").replace("\n", "\\n"))


def fetch(package):
    """A Debian package unpacked under .cache/debs."""
    result = subprocess.run([TOP / "tools" / "fetch-deb", package], capture_output=True, text=True, cwd=TOP)
    if result.returncode:
        raise Failed(f"cannot fetch {package}: {result.stderr.strip()}")
    return TOP / result.stdout.strip()


def run(*tests):
    """Runs tests and prints TAP."""
    names = sys.argv[1:]
    tests = [t for t in tests if not names or t.__name__ in names]
    failures = 0
    print(f"1..{len(tests)}")
    for number, test in enumerate(tests, 1):
        title = (test.__doc__ or test.__name__).splitlines()[0].rstrip(".")
        try:
            test()
            print(f"ok {number} - {title}", flush=True)
        except Skipped as reason:
            print(f"ok {number} - {title} # SKIP {reason}", flush=True)
        except Failed as reason:
            failures += 1
            print(f"# {reason}")
            print(f"not ok {number} - {title}", flush=True)
    sys.exit(1 if failures else 0)
