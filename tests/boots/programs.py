#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that make a kernel switch between threads and processes all the time, held to what they print on the host, as TAP."""
import gzip
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, __file__.rsplit("/", 1)[0])
from vm import GUEST, OSPITE, Failed, Machine, run  # noqa: E402

PROGRAM = pathlib.Path(OSPITE).resolve().parent / "tests" / "boots" / "switches"


def as_init(folder):
    """An initrd of the program alone; Linux itself adds /dev/console."""
    shutil.copy(PROGRAM, folder / "init")
    archive = subprocess.run(["cpio", "-o", "-H", "newc", "--owner", "0:0", "--quiet"], cwd=folder, check=True, input=b"init\n",
                             stdout=subprocess.PIPE).stdout
    (folder / "initrd").write_bytes(gzip.compress(archive))
    return folder / "initrd"


def switch(cpus):
    expected = subprocess.run([PROGRAM], check=True, capture_output=True).stdout.splitlines()
    with tempfile.TemporaryDirectory() as folder, \
         Machine("--kernel", GUEST / "vmlinuz", "--initrd", as_init(pathlib.Path(folder)), "--append", "console=ttyS0 quiet", "--serial", "stdio",
                 "--cpus", cpus) as vm:
        vm.expect(r"end\r\n", 120)
        vm.wait_exit(0)
        lines = [line.strip() for line in vm.output.splitlines()]
        missing = [line.decode() for line in expected if line not in lines]
        if missing or len(expected) < 6:
            raise Failed(f"a guest with {cpus} CPUs does not say {missing}")


def one_cpu():
    """Threads and processes that wake each other come to the host's result on one CPU."""
    switch(1)


def two_cpus():
    """The same on two CPUs."""
    switch(2)


run(one_cpu, two_cpus)
