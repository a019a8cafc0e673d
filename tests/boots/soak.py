#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Debian guest with this host's compiler builds a C project on four CPUs and runs it, as TAP: every object file, program and result
is the same, byte for byte, as when the host does it."""
import gzip
import hashlib
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, __file__.rsplit("/", 1)[0])
from vm import GUEST, TOP, Failed, Machine, run  # noqa: E402

LEVELS = "0 2"
HOSTED = ["kernels.c", "mix.c", "script.c"]  # of bench; linked and run
FREESTANDING = ["lib.c", "conform64.c", "system64.c", "smp64.c", "torture64.c", "paravirt64.c", "code64.c"]  # of tests/guests; compiled
LINK = "-static -fno-use-linker-plugin -Wl,--build-id=none"
RUN = "collatz mix script sort xorshift dot matrix"

# What both sides do. Times are left out of the results.
BUILD = f"""set -e
for level in {LEVELS}; do
    for file in *.c; do
        gcc -std=gnu11 -O$level -c $file -o $file.$level.o || echo "$file.$level failed" >&2 &
    done
    wait
    gcc {LINK} -o program.$level {" ".join(f"{name}.$level.o" for name in HOSTED)}
    ./program.$level {RUN} | sed 's/ [0-9.]* / /' >result.$level
done
sha256sum *.o program.* result.* >sums
"""
AUTORUN = """#!/bin/sh
export PATH=/usr/bin:/bin
echo ospite guest ready
cd /project && sh build.sh 2>&1 && cat sums && echo soak done
poweroff -f
"""


def output(*command):
    return subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True).stdout


def make_project(folder):
    folder.mkdir(parents=True)
    for name in [*HOSTED, "bench.h"]:
        shutil.copy(TOP / "bench" / name, folder)
    for name in [*FREESTANDING, "lib.h"]:
        shutil.copy(TOP / "tests/guests" / name, folder)
    (folder / "build.sh").write_text(BUILD)


def compiler_files(project):
    """The files that gcc needs for the project: programs, what they load, headers, what is linked."""
    files = set()
    for program in ("cc1", "collect2", "as", "ld"):
        path = output("gcc", f"-print-prog-name={program}").strip()
        files.add(path if "/" in path else shutil.which(path))
    files.add(shutil.which("gcc"))
    for program in list(files):
        files.update(re.findall(r"(/\S+) \(0x", output("ldd", program)))
    for name in HOSTED + FREESTANDING:
        files.update(re.findall(r"(/\S+\.h)", output("gcc", "-O2", "-M", project / name)))
    linked = output("gcc", *LINK.split(), "-Wl,--trace", "-o", project / "trace", *[project / name for name in HOSTED])
    files.update(re.findall(r"\(?(/\S+?\.[oa])\b", linked))
    (project / "trace").unlink()
    return {path for path in files if not path.startswith(("/tmp/", str(project)))}


def make_initrd(work):
    """The demo guest's initrd with project and compiler laid over it."""
    root = work / "root"
    make_project(root / "project")
    for path in compiler_files(root / "project"):
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    (root / "tmp").mkdir()
    (root / "autorun").write_text(AUTORUN)
    (root / "autorun").chmod(0o755)
    names = "\n".join(str(p.relative_to(root)) for p in sorted(root.rglob("*")))
    archive = subprocess.run(["cpio", "-o", "-H", "newc", "--owner", "0:0", "--quiet"], cwd=root, check=True, input=names.encode(),
                             stdout=subprocess.PIPE).stdout
    initrd = work / "initrd"
    initrd.write_bytes((GUEST / "initrd.gz").read_bytes() + gzip.compress(archive, 1))
    return initrd


def compile_here(work):
    make_project(work / "here")
    subprocess.run(["sh", "build.sh"], cwd=work / "here", check=True)
    return (work / "here/sums").read_text()


def compiles():
    """gcc makes the same of a C project in a guest of four CPUs as here."""
    with tempfile.TemporaryDirectory(prefix="ospite-soak-") as folder:
        work = pathlib.Path(folder)
        wanted = compile_here(work)
        with Machine("--kernel", GUEST / "vmlinuz", "--initrd", make_initrd(work), "--append", "console=ttyS0 quiet", "--cpus", "4",
                     "--serial", "stdio", memory="2G") as vm:
            vm.expect("ospite guest ready", 60)
            said = vm.expect(r"((?:[0-9a-f]{64}  \S+\r\n)+)soak done", 600).group(1).decode().replace("\r", "")
            vm.wait_exit(0)
        print(f"# {len(wanted.splitlines())} files, {hashlib.sha256(wanted.encode()).hexdigest()[:16]}")
        differ = sorted(set(wanted.splitlines()) ^ set(said.splitlines()))
        if differ:
            raise Failed("not alike: " + ", ".join(sorted({line.split()[1] for line in differ})))


run(compiles)
