#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Debian guest with this host's compiler builds C projects on four CPUs and runs them and their tests, as TAP: every object file,
program and result is the same, byte for byte, as when the host does it."""
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


def output(*command):
    return subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True).stdout


# ---- what is built: what both sides do, without anything that time may change ----------------------

class Programs:
    """Programs that compute, of bench, run; bare-metal guests, which are only compiled."""

    HOSTED = ["kernels.c", "mix.c", "script.c"]
    FREESTANDING = ["lib.c", "conform64.c", "system64.c", "smp64.c", "torture64.c", "paravirt64.c", "code64.c"]
    LINK = "-static -fno-use-linker-plugin -Wl,--build-id=none"
    BUILD = f"""set -e
for level in 0 2; do
    for file in *.c; do
        gcc -std=gnu11 -O$level -c $file -o $file.$level.o || echo "$file.$level failed" >&2 &
    done
    wait
    gcc {LINK} -o program.$level kernels.c.$level.o mix.c.$level.o script.c.$level.o
    ./program.$level collatz mix script sort xorshift dot matrix | sed 's/ [0-9.]* / /' >result.$level
done
sha256sum *.o program.* result.* >sums
"""

    @classmethod
    def copy(cls, folder):
        for name in [*cls.HOSTED, "bench.h"]:
            shutil.copy(TOP / "bench" / name, folder)
        for name in [*cls.FREESTANDING, "lib.h"]:
            shutil.copy(TOP / "tests/guests" / name, folder)

    @classmethod
    def compile_words(cls, source):
        return []

    @classmethod
    def link_words(cls, folder):
        return [*cls.LINK.split(), *[folder / name for name in cls.HOSTED]]


class Devices:
    """Memory and chipset of this project, with their unit tests, which run."""

    TESTS = ["pic", "pit", "rtc", "hpet", "dma8237", "lapic", "ioapic"]
    LEFT_OUT = ["base/module.c", "base/remote.c", "base/tsan_glib.c", "base/clock_test.c", "device/registry.c",
                "device/registry_test.c", "device/chipset/debug_port.c", "device/chipset/ports_test.c",
                "device/chipset/chipset_pci_fuzz.c"]
    FLAGS = ["-std=gnu11", "-D_GNU_SOURCE", "-I.", *[f"-DOSPITE_{name}=\"/\"" for name in ("VERSION", "LOCALE_FOLDER", "MODULE_FOLDER")],
             *output("pkg-config", "--cflags", "gio-unix-2.0").split()]
    LIBRARIES = "-fno-use-linker-plugin -Wl,--build-id=none -lgio-2.0 -lgobject-2.0 -lglib-2.0"
    BUILD = f"""set -e
n=0
for file in base/*.c memory/*.c device/*.c device/bus/*.c device/chipset/*.c; do
    gcc {" ".join(flag.replace('"', chr(92) + '"') for flag in FLAGS)} -O2 -c $file -o $file.o || echo "$file failed" >&2 &
    n=$((n + 1))
    [ $((n % 8)) != 0 ] || wait
done
wait
tested="$(ls */*.o */*/*.o | grep -v -e _test -e _fuzz)"
for name in {" ".join(TESTS)}; do
    gcc -o test-$name device/chipset/$name"_test.c.o" device/chipset/$name"_fuzz.c.o" $tested {LIBRARIES}
done
gcc -o test-device device/device_test.c.o $tested {LIBRARIES}
gcc -o test-space memory/space_test.c.o $tested {LIBRARIES}
for program in test-*; do
    ./$program --seed R02S00000000000000000000000000000001 >$program.result
done
sha256sum */*.o */*/*.o test-* >sums
"""

    @classmethod
    def copy(cls, folder):
        for name in ("base", "memory", "device", "device/bus", "device/chipset"):
            (folder / name).mkdir()
            for path in sorted((TOP / "src" / name).glob("*.[ch]")):
                if f"{name}/{path.name}" not in cls.LEFT_OUT:
                    shutil.copy(path, folder / name)
        (folder / "cpu").mkdir()
        shutil.copy(TOP / "src/cpu/intc.h", folder / "cpu")

    @classmethod
    def compile_words(cls, source):
        return [*cls.FLAGS, "-I", source.parents[2 if source.parent.name in ("bus", "chipset") else 1]]

    @classmethod
    def link_words(cls, folder):
        main = folder / "main.c"
        main.write_text("int main(void) { return 0; }")
        return [main, "-Wl,--no-as-needed", *cls.LIBRARIES.split()]


# ---- a guest that can do it ------------------------------------------------------------------------

AUTORUN = """#!/bin/sh
export PATH=/usr/bin:/bin
echo ospite guest ready
cd /project && sh build.sh 2>&1 && cat sums && echo soak done
poweroff -f
"""


def make_project(project, folder):
    folder.mkdir(parents=True)
    project.copy(folder)
    (folder / "build.sh").write_text(project.BUILD)


def libraries(program):
    return set(re.findall(r"(/\S+) \(0x", output("ldd", program)))


def compiler_files(project, folder):
    """The files that gcc needs for the project: programs, what they load, headers, what is linked, what programs load then."""
    files = set()
    for program in ("cc1", "collect2", "as", "ld"):
        path = output("gcc", f"-print-prog-name={program}").strip()
        files.add(path if "/" in path else shutil.which(path))
    files.add(shutil.which("gcc"))
    for program in list(files):
        files |= libraries(program)
    for source in folder.rglob("*.c"):
        files.update(re.findall(r"(/\S+\.h)", output("gcc", "-O2", "-M", *project.compile_words(source), source)))
    with tempfile.TemporaryDirectory(prefix="ospite-soak-") as place:
        words = project.link_words(folder)
        linked = output("gcc", "-Wl,--trace", "-o", f"{place}/trace", *words)
        files.update(re.findall(r"\(?(/\S+?\.(?:[oa]|so[.0-9]*))(?=[\s)(])", linked))
        if "-static" not in words:
            files |= libraries(f"{place}/trace")
    return {path for path in files if not path.startswith(("/tmp/", str(folder)))}


def make_initrd(project, work):
    """The demo guest's initrd with project and compiler laid over it."""
    root = work / "root"
    make_project(project, root / "project")
    for path in compiler_files(project, root / "project"):
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


def build_here(project, work):
    make_project(project, work / "here")
    subprocess.run(["sh", "build.sh"], cwd=work / "here", check=True)
    return (work / "here/sums").read_text()


def compare(project):
    with tempfile.TemporaryDirectory(prefix="ospite-soak-") as folder:
        work = pathlib.Path(folder)
        wanted = build_here(project, work)
        initrd = make_initrd(project, work)
        with Machine("--kernel", GUEST / "vmlinuz", "--initrd", initrd, "--append", "console=ttyS0 quiet", "--cpus", "4", "--serial",
                     "stdio", memory="2G") as vm:
            vm.expect("ospite guest ready", 60)
            said = vm.expect(r"((?:[0-9a-f]{64}  \S+\r\n)+)soak done", 1200).group(1).decode().replace("\r", "")
            vm.wait_exit(0)
        print(f"# {len(wanted.splitlines())} files, {hashlib.sha256(wanted.encode()).hexdigest()[:16]}")
        differ = sorted(set(wanted.splitlines()) ^ set(said.splitlines()))
        if differ:
            raise Failed("not alike: " + ", ".join(sorted({line.split()[1] for line in differ})))


def programs():
    """gcc makes the same of programs in a guest of four CPUs as here, and they compute the same."""
    compare(Programs)


def devices():
    """A project built in a guest of four CPUs is the same as here, and its unit tests say the same."""
    compare(Devices)


run(programs, devices)
