# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of `ospite disk` share: programs, folders, and their results as TAP, so that each case and each skip counts."""
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

BUILD = os.path.abspath(sys.argv.pop(1)) if len(sys.argv) > 1 else "build"
PROGRAM = f"{BUILD}/ospite"
# What qemu-img calls our formats.
FORMATS = {"raw": "raw", "qcow": "qcow", "qcow2": "qcow2", "vdi": "vdi", "vmdk": "vmdk", "vhd": "vpc", "vhdx": "vhdx"}

# vboxmanage makes images known to the user's machines: not to the user's who tests.
CONFIG = tempfile.TemporaryDirectory(prefix="ospite-disk-config-")
os.environ["XDG_CONFIG_HOME"] = CONFIG.name

MIB = 1 << 20
SECTOR = 512


def run(*args, status=0, **more):
    done = subprocess.run(args, capture_output=True, text=True, timeout=300, stdin=more.pop("stdin", subprocess.DEVNULL), **more)
    assert done.returncode == status, f"{args}: {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout if status == 0 else done.stderr


def disk(*args, **more):
    return run(PROGRAM, "disk", *args, **more)


def needs(*programs):
    missing = [p for p in programs if not shutil.which(p)]
    return unittest.skipIf(missing, f"not installed: {', '.join(missing)}")


def other_python(module):
    """Debian's Python has bindings that another one, first on the path, has not."""
    return subprocess.run(["/usr/bin/python3", "-c", f"import {module}"], capture_output=True, check=False).returncode == 0


def is_sanitized():
    """Whether the programs keep memory for checks at run time (meson's b_sanitize)."""
    options = json.loads(read(f"{BUILD}/meson-info/intro-buildoptions.json"))
    return any(option["name"] == "b_sanitize" and option["value"] != "none" for option in options)


def needs_python(module):
    return unittest.skipUnless(other_python(module), f"not installed: {module}")


def read(path, offset=0, size=-1):
    with open(path, "rb") as file:
        file.seek(offset)
        return file.read(size)


class FolderTest(unittest.TestCase):
    """Each case runs in an empty folder."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="ospite-disk-")
        os.chdir(self.folder)

    def tearDown(self):
        os.chdir("/")
        shutil.rmtree(self.folder)


def write(path, *parts):
    """Bytes at places, with a hole between them."""
    with open(path, "wb") as file:
        for at, data in parts:
            file.seek(at)
            file.write(data)


def words(*numbers):
    return struct.pack(f"<{len(numbers)}Q", *numbers)


def descriptor(kind, *lines, head=(), end="\n"):
    text = ["# Disk DescriptorFile", "version=1", "CID=12345678", "parentCID=ffffffff", f'createType="{kind}"', *head,
            "", "# Extent description", *lines, "", "# The Disk Data Base", "#DDB", "", 'ddb.adapterType = "lsilogic"', ""]
    return end.join(text).encode()


@needs("qemu-img")
class OddTest(FolderTest):
    def same(self, path, theirs, *more):
        """What we read is what qemu-img reads, by our copying and by our single reads."""
        run("qemu-img", "convert", "-f", theirs, *more, "-O", "raw", path, "theirs.raw")
        ours = disk("info", path)
        self.assertIn(f"({os.stat('theirs.raw').st_size} bytes)", ours)
        disk("convert", "-O", "raw", path, "ours.raw")
        self.assertEqual(read("ours.raw"), read("theirs.raw"))
        disk("compare", "-F", "raw", path, "theirs.raw")
        return read("ours.raw")


class TapResult(unittest.TestResult):
    def __init__(self):
        super().__init__()
        self.count = 0

    def line(self, good, test, note=""):
        self.count += 1
        print(f"{'ok' if good else 'not ok'} {self.count} - {test.id().split('.', 1)[1]}{note}", flush=True)

    def addSuccess(self, test):
        self.line(True, test)

    def addSkip(self, test, reason):
        self.line(True, test, f" # SKIP {reason}")

    def fail(self, test, error):
        self.line(False, test)
        print(self._exc_info_to_string(error, test), file=sys.stderr)

    def addFailure(self, test, error):
        super().addFailure(test, error)
        self.fail(test, error)

    def addError(self, test, error):
        super().addError(test, error)
        self.fail(test, error)


def main():
    """Runs the cases of the program, or those that the command line names."""
    module = sys.modules["__main__"]
    loader = unittest.defaultTestLoader
    suite = loader.loadTestsFromNames(sys.argv[1:], module) if len(sys.argv) > 1 else loader.loadTestsFromModule(module)
    print(f"1..{suite.countTestCases()}")
    result = TapResult()
    suite.run(result)
    sys.exit(0 if result.wasSuccessful() else 1)
