#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions in VBoxManage's words, as its tutorials and scripts have them, as TAP."""
import pathlib
import re
import subprocess
import sys

from daemon import BUILD, PATIENCE, TOP, Daemon, Skipped, check, expect, run, wait_until

DISK = TOP / ".cache" / "guest" / "disk.raw"
UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"


class Session(Daemon):
    def vbox(self, *words, status=0):
        result = subprocess.run([BUILD / "vboxmanage", *map(str, words)], env=self.environment, capture_output=True, text=True,
                                stdin=subprocess.DEVNULL, timeout=60 * PATIENCE, check=False)
        expect(result.returncode, status, f"status of {words}: {result.stderr.strip()}")
        return result.stdout if status == 0 else result.stderr

    def info(self, name):
        """showvminfo --machinereadable, as scripts read it."""
        text = self.vbox("showvminfo", name, "--machinereadable")
        check(all(re.fullmatch(r'("[^"]+"|[\w()-]+)=("[^"]*"|\d+)', line) for line in text.splitlines()), f"not machine-readable: {text}")
        return {key.strip('"'): value.strip('"') for key, value in (line.split("=", 1) for line in text.splitlines())}


def tutorial():
    """A machine is made, gets a disk, starts headless, is looked at, turned off and deleted."""
    with Session() as d:
        said = d.vbox("createvm", "--name", "Debian box", "--ostype", "Debian_64", "--register")
        check(re.fullmatch(rf"Virtual machine 'Debian box' is created and registered\.\nUUID: {UUID}\nSettings file: '.*\.ospite'\n", said), said)
        d.vbox("modifyvm", "Debian box", "--memory", "64", "--cpus=1", "--vram", "16", "--boot1", "dvd", "--boot2", "disk", "--boot3", "none",
               "--boot4", "none", "--ioapic", "on", "--rtcuseutc", "off", "-pae", "on")
        d.run("vm", "set", "Debian box", "engine=interp")
        d.vbox("createmedium", "disk", "--filename", d.path / "box.vdi", "--size", "16", "--format", "VDI")
        d.vbox("storagectl", "Debian box", "--name", "IDE Controller", "--add", "ide", "--controller", "PIIX4")
        d.vbox("storageattach", "Debian box", "--storagectl", "IDE Controller", "--port", "0", "--device", "0", "--type", "hdd", "--medium",
               d.path / "box.vdi")
        d.vbox("storageattach", "Debian box", "--storagectl", "IDE Controller", "--port", "1", "--device", "0", "--type", "dvddrive", "--medium",
               "emptydrive")
        info = d.info("Debian box")
        wanted = {"name": "Debian box", "ostype": "Debian_64", "memory": "64", "cpus": "1", "boot1": "dvd", "boot2": "disk", "boot3": "none",
                  "rtcuseutc": "off", "VMState": "poweroff", "storagecontrollername0": "IDE-Controller", "storagecontrollertype0": "PIIX4",
                  "IDE-Controller-0-0": str(d.path / "box.vdi"), "IDE-Controller-1-0": "emptydrive", "nic1": "none"}
        expect({key: info.get(key) for key in wanted}, wanted, "showvminfo")
        line = f'"Debian box" {{{info["UUID"]}}}\n'
        expect(d.vbox("list", "vms"), line, "list vms")
        expect(d.vbox("list", "runningvms"), "", "list runningvms")
        check(re.search(rf"UUID: +{UUID}\n.*Location: +{d.path}/box\.vdi\nStorage format: VDI\nCapacity: +16 MBytes\n", d.vbox("list", "hdds"), re.S),
              "list hdds")
        expect(d.vbox("startvm", "Debian box", "--type", "headless"),
               'Waiting for VM "Debian box" to power on...\nVM "Debian box" has been successfully started.\n', "startvm")
        expect(d.vbox("list", "runningvms"), line, "list runningvms")
        expect(d.info(info["UUID"])["VMState"], "running", "state")
        check(re.search(r"^State: +running \(since ", d.vbox("showvminfo", "Debian box"), re.M), "showvminfo for people")
        for word, state in (("pause", "paused"), ("resume", "running"), ("reset", "running"), ("acpipowerbutton", "running")):
            d.vbox("controlvm", "Debian box", word)
            expect(d.info("Debian box")["VMState"], state, f"state after {word}")
        check("100%" in d.vbox("controlvm", "Debian box", "poweroff"), "no progress")
        expect(d.info("Debian box")["VMState"], "poweroff", "state")
        d.vbox("storageattach", "Debian box", "--storagectl", "IDE Controller", "--port", "1", "--device", "0", "--medium", "none")
        check("IDE-Controller-1-0" not in d.info("Debian box"), "the drive is still there")
        d.vbox("unregistervm", "Debian box", "--delete")
        expect(d.vbox("list", "vms"), "", "list vms")
        d.vbox("closemedium", "disk", d.path / "box.vdi", "--delete")
        check(not (d.path / "box.vdi").exists(), "the disk is still there")


def settings():
    """modifyvm's options become settings; what has no counterpart is said or refused."""
    with Session() as d:
        d.vbox("createvm", "-name", "one", "-register", "-basefolder", d.path / "own")
        d.vbox("modifyvm", "one", "--firmware", "efi", "--nic1", "nat", "--nictype1", "virtio", "--macaddress1", "080027ABCDEF", "--natpf1",
               "ssh,tcp,,2222,,22", "--nic2", "bridged", "--bridgeadapter2", "br0", "--audio", "none", "--uart1", "0x3F8", "4", "--uartmode1",
               "file", d.path / "serial.log", "--cableconnected2", "off", "--description", "two words", "--autostart-enabled", "on")
        config = d.vm("one")["config"]
        expect(config["system"]["firmware"], "uefi", "firmware")
        expect({key: config["network"]["0"][key] for key in ("backend", "model", "mac")},
               {"backend": "nat", "model": "virtio", "mac": "08:00:27:ab:cd:ef"}, "adapter")
        forward = config["network"]["0"]["forward"]["ssh"]
        expect((forward["protocol"], forward["host-port"], forward["guest-port"]), ("tcp", 2222, 22), "forwarding")
        expect((config["network"]["1"]["backend"], config["network"]["1"]["network"], config["network"]["1"]["cable"]), ("bridge", "br0", False),
               "second adapter")
        info = d.info("one")
        expect([info.get(key) for key in ("nic1", "macaddress1", "nic2", "macaddress2", "nic3", "Forwarding(0)")],
               ["nat", "080027ABCDEF", "bridged", None, "none", "ssh,tcp,127.0.0.1,2222,,22"], "adapters in showvminfo")
        shown = d.vbox("showvminfo", "one")
        check("MAC: 080027ABCDEF, Attachment: nat\n" in shown and "NIC 1 Rule(0):   name = ssh, protocol = tcp" in shown, shown)
        expect(config["serial"]["0"]["backend"], f"file:{d.path}/serial.log", "serial port")
        expect(config["autostart"]["enabled"], True, "autostart")
        d.vbox("modifyvm", "one", "--nic1", "none", "--nic2", "none", "--uart1", "off", "--name", "uno")
        config = d.vm("uno")["config"]
        check(not config.get("network") and not config.get("serial"), f"adapters and ports are left: {config}")
        for words in (("--memory", "lots"), ("--firmware", "coreboot"), ("--boot1", "tape"), ("--uart1", "0x100", "7"), ("--macaddress1", "12"),
                      ("--natpf1", "ssh,tcp"), ("--no-such", "1"), ("--nic9", "nat")):
            check(d.vbox("modifyvm", "uno", *words, status=1).startswith("vboxmanage: error: "), f"{words} is taken")
        d.vbox("setextradata", "uno", "GUI/Fullscreen", "true")
        expect(d.vbox("getextradata", "uno", "GUI/Fullscreen"), "Value: true\n", "extra data")
        expect(d.vbox("getextradata", "uno", "enumerate"), "Key: GUI/Fullscreen, Value: true\n", "extra data")
        d.vbox("setextradata", "uno", "GUI/Fullscreen")
        expect(d.vbox("getextradata", "uno", "GUI/Fullscreen"), "No value set!\n", "extra data")
        file = d.info("uno")["CfgFile"]
        d.vbox("unregistervm", "uno")
        d.vbox("registervm", file)
        expect(d.info("uno")["CfgFile"], file, "file")
        said = d.vbox("createvm", "--name", "two")
        check("is created.\n" in said and '"two"' not in d.vbox("list", "vms"), said)


def media():
    """Images keep their registry: a mode, an attachment by UUID, closemedium."""
    with Session() as d:
        d.vbox("createvm", "--name", "one", "--register")
        d.vbox("createhd", "--filename", d.path / "a.vdi", "--size", "8")
        d.vbox("storagectl", "one", "--name", "IDE", "--add", "ide")
        d.vbox("modifymedium", "disk", d.path / "a.vdi", "--type", "readonly")
        uuid = re.search(rf"UUID: +({UUID})", d.vbox("list", "hdds"))[1]
        check("readonly" in d.vbox("list", "hdds"), "the mode is another")
        d.vbox("storageattach", "one", "--storagectl", "IDE", "--port", "0", "--device", "1", "--type", "hdd", "--medium", uuid)
        expect(d.info("one")["IDE-0-1"], str(d.path / "a.vdi"), "the disk")
        d.vbox("clonehd", uuid, d.path / "clone.vdi", "--format", "VDI")
        d.vbox("modifyhd", f"{{{uuid}}}", "--resize", "32")
        check("32 MBytes" in d.vbox("showhdinfo", uuid), "size by UUID")
        check(" 8 MBytes" in d.vbox("showhdinfo", d.path / "clone.vdi"), "clone by UUID")
        check("there is no medium" in d.vbox("clonehd", "12345678-9abc-def0-1234-56789abcdef0", d.path / "x.vdi", status=1), "unknown UUID")
        d.vbox("closemedium", "disk", uuid, status=1)
        disc = d.path / "disc.iso"
        disc.write_bytes(bytes(4096))
        d.vbox("storageattach", "one", "--storagectl", "IDE", "--port", "1", "--device", "0", "--type", "dvddrive", "--medium", disc)
        check("disc.iso" in d.vbox("list", "dvds"), "list dvds")
        for words in (("--storagectl", "SATA", "--medium", uuid), ("--storagectl", "IDE", "--device", "7", "--medium", uuid, "--type", "hdd"),
                      ("--storagectl", "IDE", "--medium", d.path / "none.vdi", "--type", "hdd")):
            d.vbox("storageattach", "one", "--port", "0", *words, status=1)
        d.vbox("storagectl", "one", "--name", "IDE", "--remove")
        d.vbox("closemedium", uuid)
        d.vbox("closemedium", d.path / "clone.vdi")
        expect(d.vbox("list", "hdds"), "", "list hdds")
        made = d.path / "made.vdi"
        d.vbox("createmedium", "disk", "--filename", made, "--size", "8")
        d.vbox("closemedium", "disk", made, "--delete")
        check(not made.exists(), "an image that no machine ever had is still there")


def printed():
    """The UUID that createmedium and clonemedium print is the image's, and what storageattach takes, also of one that was there before."""
    with Session() as d:
        d.vbox("createvm", "--name", "one", "--register")
        d.vbox("storagectl", "one", "--name", "IDE", "--add", "ide")
        for name, kind in (("a.vdi", "VDI"), ("a.vmdk", "VMDK"), ("a.vhd", "VHD")):
            for _ in range(2):
                (d.path / name).unlink(missing_ok=True)
                uuid = re.search(rf"Medium created\. UUID: ({UUID})\n", d.vbox("createmedium", "disk", "--filename", d.path / name, "--size", "4", "--format", kind))[1]
            said = d.vbox("clonemedium", "disk", uuid, d.path / f"clone.{name}", "--format", kind)
            clone = re.search(rf"Clone medium created in format '{kind}'\. UUID: ({UUID})\n", said)[1]
            for which, path in ((uuid, d.path / name), (clone, d.path / f"clone.{name}")):
                check(kind == "VMDK" or which in d.vbox("showmediuminfo", which), f"another UUID in {path}")
                d.vbox("storageattach", "one", "--storagectl", "IDE", "--port", "0", "--device", "0", "--type", "hdd", "--medium", which)
                expect(d.info("one")["IDE-0-0"], str(path), "the disk")
        copy = d.path / "copy.vhd"
        copy.write_bytes((d.path / "a.vhd").read_bytes())
        added = d.call("POST", "/media", {"path": str(copy)}, 201)["medium"]["uuid"]
        check(added not in (uuid, clone), "a copy has the same UUID")
        d.environment["XDG_CONFIG_HOME"] = "/dev/null"
        warned = subprocess.run([BUILD / "vboxmanage", "createmedium", "--filename", d.path / "b.vdi", "--size", "4"], env=d.environment, capture_output=True,
                                text=True, check=True)
        check("cannot become known" in warned.stderr and (d.path / "b.vdi").exists(), warned.stderr)
        d.environment["XDG_CONFIG_HOME"] = str(d.path / "config")


def absent():
    """Words for what is not there say so; wrong ones cost one line or the usage."""
    with Session() as d:
        d.vbox("createvm", "--name", "one", "--register")
        for words, part in ((("snapshot", "one", "take"), "a name"), (("snapshot", "one", "dance"), "dance"), (("clonevm", "one", "--options", "link", "--snapshot", "a"), "full clone"),
                            (("clonevm", "one", "--mode", "machineandchildren"), "--mode"), (("snapshot", "one", "restorecurrent"), "no snapshot"),
                            (("controlvm", "one", "savestate"), "state"), (("startvm", "one", "--type", "gui"), "headless"),
                            (("controlvm", "one", "dance"), "dance"), (("setextradata", "one", "a.b", "1"), "no dots"), (("list", "webcams"), "webcams"),
                            (("showvminfo", "none"), "none"), (("createvm",), "--name")):
            said = d.vbox(*words, status=1)
            check(part in said and said.count("\n") == 1, f"{words}: {said!r}")
        check("no command 'nonsense'" in d.vbox("nonsense", status=2), "a wrong word is not named")
        check("storageattach" in d.vbox("help"), "help")
        d.vbox("-q", "list", "vms")


def clones():
    """clonevm makes full and linked clones; ostypes and systemproperties are listed as scripts read them."""
    with Session() as d:
        d.vbox("createvm", "--name", "base", "--ostype", "Debian_64", "--register")
        d.vbox("createmedium", "disk", "--filename", d.path / "base.vdi", "--size", "8")
        d.vbox("storagectl", "base", "--name", "IDE", "--add", "ide")
        d.vbox("storageattach", "base", "--storagectl", "IDE", "--port", "0", "--device", "0", "--type", "hdd", "--medium", d.path / "base.vdi")
        check('cloned as "full"' in d.vbox("clonevm", "base", "--name", "full", "--mode", "machine", "--register"), "clonevm")
        expect(d.info("full")["IDE-0-0"], "IDE.0-base.vdi", "the clone's disk")
        d.vbox("clonevm", "base", "--name=link", "--options=link", "--register")
        expect(d.info("link")["IDE-0-0"], str(d.path / "base.vdi"), "the linked clone's disk")
        d.vbox("clonevm", "base", "--options", "link")
        check('"base Clone"' not in d.vbox("list", "vms"), "a clone without --register is known")
        check(re.search(r"^ID: +Debian_64\nDescription: Debian \(64-bit\)\nFamily ID: +Linux\n", d.vbox("list", "ostypes"), re.M), "list ostypes")
        check(re.search(r"^Default machine folder: +/.*machines$", d.vbox("list", "systemproperties"), re.M), "list systemproperties")


def demo():
    """The demo guest under these words: it boots from a VDI disk, and its power button turns it off."""
    if not DISK.exists():
        raise Skipped("tools/make-guest has not made the demo guest")
    with Session() as d:
        d.vbox("convertfromraw", DISK, d.path / "demo.vdi", "--format", "VDI")
        d.vbox("createvm", "--name", "demo", "--ostype", "Debian_64", "--register")
        d.vbox("modifyvm", "demo", "--memory", "512", "--boot1", "disk", "--uart1", "0x3f8", "4")
        d.vbox("storagectl", "demo", "--name", "IDE", "--add", "ide")
        d.vbox("storageattach", "demo", "--storagectl", "IDE", "--port", "0", "--device", "0", "--type", "hdd", "--medium", d.path / "demo.vdi")
        d.vbox("startvm", "demo", "--type", "headless")
        d.websocket("/vms/demo/console").expect(rb"login:", 120)
        d.vbox("controlvm", "demo", "acpipowerbutton")
        wait_until(lambda: d.info("demo")["VMState"] == "poweroff", "the guest's end", 60)
        folder = pathlib.Path(d.info("demo")["CfgFile"]).parent
        d.vbox("unregistervm", "demo", "--delete")
        check(not folder.exists(), "the folder is still there")


def snapshots():
    """Snapshots in VBoxManage's words, as Vagrant and backup scripts use them."""
    with Session() as d:
        d.vbox("createvm", "--name", "one", "--register")
        d.run("vm", "set", "one", "memory=8M", "engine=none")
        folder = pathlib.Path(d.vm("one")["folder"])
        d.vbox("createmedium", "disk", "--filename", folder / "one.vdi", "--size", "4", "--format", "VDI")
        d.vbox("storagectl", "one", "--name", "IDE", "--add", "ide")
        d.vbox("storageattach", "one", "--storagectl", "IDE", "--port", "0", "--device", "0", "--type", "hdd", "--medium", folder / "one.vdi")
        result = subprocess.run([BUILD / "vboxmanage", "snapshot", "one", "list", "--machinereadable"], env=d.environment, capture_output=True, text=True, check=False)
        expect((result.returncode, result.stdout), (1, "This machine does not have any snapshots\n"), "list of none")
        said = d.vbox("snapshot", "one", "take", "base", "--description", "before all", "--live")
        first = re.fullmatch(rf"0%.*100%\nSnapshot taken\. UUID: ({UUID})\n", said)
        check(first, said)
        d.vbox("modifyvm", "one", "--memory", "16")
        second = re.search(UUID, d.vbox("snapshot", "one", "take", "next"))[0]
        expect(d.vbox("snapshot", "one", "list"), f'   Name: base (UUID: {first[1]})\n   Description: "before all"\n      Name: next (UUID: {second}) *\n', "list")
        expect(d.vbox("snapshot", "one", "list", "--machinereadable"),
               f'SnapshotName="base"\nSnapshotUUID="{first[1]}"\nSnapshotDescription="before all"\nSnapshotName-1="next"\nSnapshotUUID-1="{second}"\n'
               f'CurrentSnapshotName="next"\nCurrentSnapshotUUID="{second}"\nCurrentSnapshotNode="SnapshotName-1"\n', "list for scripts")
        expect(d.info("one")["CurrentSnapshotName"], "next", "showvminfo")
        check("Memory size:                 8MB" in d.vbox("snapshot", "one", "showvminfo", "base"), "showvminfo of a snapshot")
        said = d.vbox("snapshot", "one", "restore", "base")
        check(said.startswith(f"Restoring snapshot 'base' ({first[1]})\n0%"), said)
        expect(d.info("one")["memory"], "8", "memory")
        check("'base'" in d.vbox("snapshot", "one", "restorecurrent"), "another one was restored")
        d.vbox("snapshot", "one", "edit", "next", "--name", "later", "--description", "x")
        d.vbox("snapshot", "one", "edit", "--current", "--description", "y")
        check("Description: \"y\"" in d.vbox("snapshot", "one", "list", "--details"), "the description is not there")
        check("no snapshot 'next'" in d.vbox("snapshot", "one", "delete", "next", status=1), "it is still there")
        d.vbox("clonevm", "one", "--name", "two", "--snapshot", "later", "--register")
        expect((d.info("two")["memory"], d.info("two")["CurrentSnapshotName"]), ("16", "later"), "the clone of a snapshot")
        d.vbox("snapshot", "one", "delete", second)
        d.vbox("snapshot", "one", "delete", "base")
        expect(sorted(p.name for p in folder.iterdir()), ["one.ospite", "one.vdi"], "files")
        check("snapshot takes" in d.vbox("snapshot", "one", status=1), "no usage")


sys.exit(run((tutorial, snapshots, settings, media, printed, absent, clones, demo), sys.argv[1:]))
