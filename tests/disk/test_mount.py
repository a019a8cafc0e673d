#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""`ospite disk mount`: images as files of the host, held against their raw contents and e2fsprogs. Usage: test_mount.py BUILD"""
import json
import os
import random
import select
import shutil
import signal
import subprocess
import unittest

from kit import BUILD, FORMATS, PROGRAM, FolderTest, disk, main, needs, read, run

MIB = 1 << 20
SIZE = 48 * MIB
PARTITION = (2048 * 512, 20 * MIB)  # the first; the second takes the rest


def why_not():
    if not os.path.exists("/dev/fuse"):
        return "this host has no /dev/fuse"
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as error:
        return f"/dev/fuse cannot be opened: {error.strerror}"
    if not os.path.exists(f"{BUILD}/ospite-fuse.so"):
        return "built without libfuse3"
    return ""


def mounts():
    with open("/proc/self/mounts", encoding="utf-8") as file:
        return [line.split()[1] for line in file]


def make_disk(path):
    """Two partitions: ext4 with the label ROOT, and noise."""
    with open(path, "wb") as file:
        file.truncate(SIZE)
    subprocess.run(["sfdisk", "-q", path], input=b"label: gpt\nstart=2048,size=40960,name=first\nstart=43008,name=\"two words\"\n", check=True)
    run("mkfs.ext4", "-q", "-L", "ROOT", "-E", f"offset={PARTITION[0]}", path, "20M")
    rand = random.Random(3)
    with open(path, "r+b") as file:
        for _ in range(40):
            file.seek(rand.randrange(43008 * 512, SIZE - 40 * 512))
            file.write(rand.randbytes(rand.randrange(1, 9000)))


def wait_for_end(pid):
    fd = os.pidfd_open(pid)
    ready = select.select([fd], [], [], 60)[0]
    os.close(fd)
    assert ready, f"process {pid} does not end"


def server_of(folder):
    return int(os.getxattr(folder, "user.ospite.pid"))


@unittest.skipIf(why_not(), why_not())
@needs("sfdisk", "mkfs.ext4")
class MountTest(FolderTest):
    def setUp(self):
        super().setUp()
        os.mkdir("m")
        make_disk("a.raw")

    def tearDown(self):
        for path in sorted((m for m in mounts() if m.startswith(self.folder)), reverse=True):
            subprocess.run(["umount", "-l", path], check=False)
        super().tearDown()

    def mount(self, *args):
        return disk("mount", *args, "m")

    def unmount(self):
        disk("unmount", "m")
        self.assertEqual(os.listdir("m"), [])

    def compare(self, image, theirs, raw="a.raw"):
        run("qemu-img", "compare", "-f", "raw", "-F", theirs, raw, image)

    def test_every_format(self):
        whole = read("a.raw")
        for name in FORMATS:
            disk("convert", "-f", "raw", "-O", name, "a.raw", "image")
            self.mount("--raw", "-f", name, "image")
            self.assertEqual(sorted(os.listdir("m")), ["disk", "partition1", "partition1-ROOT", "partition2"], name)
            self.assertEqual(read("m/disk")[:SIZE], whole, name)
            start, size = PARTITION
            self.assertEqual(read("m/partition1"), whole[start:start + size], name)
            self.assertEqual(read("m/partition2"), whole[43008 * 512:][:os.stat("m/partition2").st_size], name)
            self.assertEqual(read("m/partition2", 12345, 70001), whole[43008 * 512 + 12345:][:70001], name)
            self.assertEqual(os.readlink("m/partition1-ROOT"), "partition1")
            run("e2fsck", "-fn", "m/partition1")
            with self.assertRaises(OSError):
                open("m/partition1", "r+b").close()
            self.unmount()

    def test_their_images(self):
        for theirs in "qcow2", "vmdk", "vdi":
            run("qemu-img", "convert", "-f", "raw", "-O", theirs, "a.raw", "image")
            self.mount("--raw", "image")
            run("cmp", "a.raw", "m/disk")
            self.unmount()

    def test_holes(self):
        disk("create", "-f", "qcow2", "e", "1T")
        run("qemu-io", "-f", "qcow2", "-c", "write -P 7 512G 64k", "e")
        self.mount("e")
        fd = os.open("m/disk", os.O_RDONLY)
        self.assertEqual(os.lseek(fd, 0, os.SEEK_DATA), 512 << 30)
        self.assertEqual(os.lseek(fd, 512 << 30, os.SEEK_HOLE), (512 << 30) + 65536)
        with self.assertRaises(OSError):
            os.lseek(fd, 513 << 30, os.SEEK_DATA)
        os.close(fd)
        self.unmount()

    @needs("qemu-img", "debugfs", "e2fsck")
    def test_writing_every_format(self):
        for name, theirs in FORMATS.items():
            shutil.copy("a.raw", "b.raw")
            disk("convert", "-f", "raw", "-O", name, "a.raw", "image")
            self.mount("--raw", "--writable", "-f", name, "image")
            with open("data", "wb") as file:
                file.write(random.Random(9).randbytes(3 * MIB + 17))
            for target, base in ("m/partition1", 0), ("b.raw", PARTITION[0]):
                device = f"{target}?offset={base}" if base else target
                run("debugfs", "-w", "-R", "write data hello", device)
                with open(target, "r+b", buffering=0) as file:
                    file.seek(base + 15 * MIB + 511)
                    file.write(b"across sectors" * 100)
            with open("m/partition2", "r+b", buffering=0) as file:
                file.seek(3)
                file.write(b"odd")
                os.fsync(file.fileno())
            with open("b.raw", "r+b") as file:
                file.seek(43008 * 512 + 3)
                file.write(b"odd")
            run("e2fsck", "-fn", "m/partition1")
            start, size = PARTITION
            # Superblocks hold the time of the last write.
            self.assertEqual(read("m/disk", start + 15 * MIB, 4096), read("b.raw", start + 15 * MIB, 4096), name)
            with open("m/disk", "rb") as got, open("copy.raw", "wb") as copy:
                shutil.copyfileobj(got, copy)
            os.truncate("copy.raw", SIZE)
            self.unmount()
            self.compare("image", theirs, "copy.raw")
            self.assertEqual(read("copy.raw", 43008 * 512, MIB), read("b.raw", 43008 * 512, MIB))
            run("debugfs", "-R", "dump hello back", f"copy.raw?offset={start}")
            self.assertEqual(read("back"), read("data"))

    @needs("fallocate")
    def test_punching_gives_space_back(self):
        disk("create", "-f", "qcow2", "q", "64M")
        with open("data", "wb") as file:
            file.write(os.urandom(32 * MIB))
        self.mount("--writable", "q")
        run("dd", "if=data", "of=m/disk", "bs=1M", "status=none")
        run("fallocate", "--punch-hole", "-o", "1000", "-l", str(30 * MIB), "m/disk")
        run("sync", "m/disk")
        got = read("m/disk", 0, 32 * MIB)
        want = read("data")
        self.assertEqual(got, want[:1000] + bytes(30 * MIB) + want[1000 + 30 * MIB:])
        self.unmount()
        self.assertLess(os.stat("q").st_blocks * 512, 5 * MIB)
        run("qemu-img", "check", "-q", "q")

    def test_flush_reaches_the_host(self):
        """A process that is killed after fsync() leaves what was written, and an image without damage."""
        for name, theirs in FORMATS.items():
            disk("create", "-f", name, "image", str(SIZE))
            self.mount("--writable", "-f", name, "image")
            rand = random.Random(4)
            fd = os.open("m/disk", os.O_RDWR)
            flushed = {}
            for i in range(60):
                at = rand.randrange(SIZE // 4096) * 4096
                flushed[at] = bytes([i + 1]) * 4096
                os.pwrite(fd, flushed[at], at)
            os.fsync(fd)
            for i in range(60):
                at = rand.randrange(SIZE // 4096) * 4096
                if at not in flushed:
                    os.pwrite(fd, b"?" * 4096, at)
            pid = server_of("m")
            os.kill(pid, signal.SIGKILL)
            wait_for_end(pid)
            for call in os.fsync, os.close:
                with self.assertRaises(OSError):
                    call(fd)
            disk("unmount", "m")
            self.assertEqual(os.listdir("m"), [])
            if name not in ("raw", "qcow"):
                disk("check", "--repair", "-f", name, "image")
            run("qemu-img", "convert", "-f", theirs, "-O", "raw", "image", "out")
            for at, data in flushed.items():
                self.assertEqual(read("out", at, 4096), data, f"{name} at {at}")

    def test_snapshot_and_chain(self):
        disk("convert", "-f", "raw", "-O", "qcow2", "a.raw", "base")
        disk("snapshot", "-c", "first", "base")
        run("qemu-io", "-f", "qcow2", "-c", "write -P 1 30M 1M", "base")
        self.mount("--raw", "--snapshot", "first", "base")
        run("cmp", "a.raw", "m/disk")
        self.unmount()
        disk("create", "-f", "vdi", "-b", "base", "-F", "qcow2", "top")
        before = read("base")
        self.mount("--raw", "--writable", "top")
        with open("m/partition2", "r+b") as file:
            file.write(b"top")
        self.assertEqual(read("m/disk", 30 * MIB, 4), b"\1\1\1\1")
        self.assertEqual(read("m/disk", 43008 * 512, 3), b"top")
        self.unmount()
        self.assertEqual(read("base"), before)
        self.assertIn("--writable can't go with it", disk("mount", "--snapshot", "first", "--writable", "base", "m", status=2))

    @needs("fuse2fs", "debugfs")
    def test_file_system(self):
        with open("hello", "w", encoding="ascii") as file:
            file.write("from the host\n")
        run("debugfs", "-w", "-R", "write hello hello", f"a.raw?offset={PARTITION[0]}")
        disk("convert", "-f", "raw", "-O", "vmdk", "a.raw", "image")
        shown = json.loads(self.mount("--json", "image"))
        part = {f["name"]: f for f in shown["files"]}["partition1"]
        self.assertEqual((part["file-system"], part["label"], part["offset"], part["mounted-at"], part["mounted-by"]),
                         ("ext4", "ROOT", PARTITION[0], "files1", "fuse2fs"))
        self.assertEqual(read("m/files1/hello"), b"from the host\n")
        with self.assertRaises(OSError):
            open("m/files1/new", "w", encoding="ascii").close()
        self.unmount()
        self.mount("--writable", "image")
        shutil.copy("hello", "m/files1/new")
        self.unmount()
        self.mount("--raw", "image")
        run("e2fsck", "-fn", "m/partition1")
        self.assertEqual(run("debugfs", "-R", "cat new", "m/partition1"), "from the host\n")
        self.unmount()

    @needs("debugfs", "mount")
    def test_file_system_by_the_kernel(self):
        os.mkdir("bin")  # without fuse2fs
        for program in "mount", "umount", "fusermount3":
            os.symlink(shutil.which(program), f"bin/{program}")
        with open("hello", "w", encoding="ascii") as file:
            file.write("from the host\n")
        run("debugfs", "-w", "-R", "write hello hello", f"a.raw?offset={PARTITION[0]}")
        disk("convert", "-f", "raw", "-O", "qcow2", "a.raw", "image")
        for writable in [], ["--writable"]:
            shown = json.loads(disk("mount", "--json", *writable, "image", "m", env={"PATH": f"{self.folder}/bin"}))
            part = {f["name"]: f for f in shown["files"]}["partition1"]
            if "mounted-at" not in part:
                self.assertTrue(part["not-mounted"])
                self.unmount()
                self.skipTest(f"this host's kernel does not mount it: {' '.join(part['not-mounted'].split())}")
            self.assertEqual(part["mounted-by"], "kernel")
            self.assertEqual(read("m/files1/hello"), b"from the host\n")
            if writable:
                shutil.copy("hello", "m/files1/new")
            self.unmount()
        self.mount("--raw", "image")
        run("e2fsck", "-fn", "m/partition1")
        self.assertEqual(run("debugfs", "-R", "cat new", "m/partition1"), "from the host\n")
        self.unmount()

    def test_signal_unmounts(self):
        disk("convert", "-f", "raw", "-O", "qcow2", "a.raw", "image")
        process = subprocess.Popen([PROGRAM, "disk", "mount", "--foreground", "--writable", "image", "m"], stdout=subprocess.PIPE)
        while b"partition2" not in process.stdout.readline():
            pass
        with open("m/partition2", "r+b") as file:
            file.write(b"kept")
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(timeout=60), 0)
        process.stdout.close()
        self.assertEqual(os.listdir("m"), [])
        self.assertEqual([m for m in mounts() if m.startswith(self.folder)], [])
        run("qemu-io", "-f", "qcow2", "-r", "-c", f"read -P {ord('k')} {43008 * 512} 1", "image")
        run("qemu-img", "check", "-q", "image")

    def test_locks(self):
        disk("convert", "-f", "raw", "-O", "qcow2", "a.raw", "image")
        os.mkdir("n")
        self.mount("--raw", "image")
        disk("mount", "--raw", "image", "n")
        disk("unmount", "n")
        self.assertIn("in use", disk("mount", "--writable", "image", "n", status=1))
        self.unmount()
        self.mount("--raw", "--writable", "image")
        self.assertIn("in use", disk("resize", "image", "+1M", status=1))
        self.unmount()
        disk("resize", "image", "+1M")

    def test_busy_folder(self):
        self.mount("--raw", "-f", "raw", "--writable", "a.raw")
        with open("m/disk", "r+b"):
            self.assertIn("m'", disk("unmount", "m", status=1))
        self.assertIn("disk", os.listdir("m"))
        self.unmount()

    def test_size_is_fixed(self):
        self.mount("--raw", "--writable", "-f", "raw", "a.raw")
        with open("m/partition1", "wb") as file:  # as with a device, O_TRUNC means nothing
            file.write(b"x")
        self.assertEqual(os.stat("m/partition1").st_size, PARTITION[1])
        with self.assertRaises(OSError):
            os.truncate("m/partition1", 5)
        with open("m/partition1", "r+b", buffering=0) as file:
            file.seek(PARTITION[1])
            with self.assertRaises(OSError):
                file.write(b"behind the end")
        self.unmount()

    def test_probed_raw_stays_raw(self):
        with open("z", "wb") as file:
            file.truncate(MIB)
        self.mount("--raw", "--writable", "z")
        with self.assertRaises(PermissionError):
            with open("m/disk", "r+b", buffering=0) as file:
                file.write(b"QFI\xfb\0\0\0\3")
        self.unmount()

    def test_damaged_and_wrong(self):
        disk("mount", "missing", "m", status=1)
        self.assertIn("mkdir", disk("mount", "a.raw", "nowhere", status=1))
        os.mkdir("full")
        os.mkdir("full/x")
        self.assertIn("not empty", disk("mount", "a.raw", "full", status=1))
        self.assertIn("nothing of", disk("unmount", "full", status=1))
        disk("mount", "a.raw", status=2)

    @needs("unshare", "setpriv")
    def test_as_a_user(self):
        """In a namespace of its own, where it is no host's root."""
        script = f"{PROGRAM} disk mount --raw a.raw m && cmp m/disk a.raw && {PROGRAM} disk unmount m && ls m"
        done = subprocess.run(["unshare", "-Urm", "sh", "-c", script], capture_output=True, text=True, timeout=60)
        if "unshare" in done.stderr:
            self.skipTest(f"this host allows no user namespaces: {done.stderr.strip()}")
        self.assertEqual((done.returncode, done.stderr), (0, ""))


if __name__ == "__main__":
    main()
