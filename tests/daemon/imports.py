#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines of VirtualBox and libvirt, imported with their report, changed as it says, and booted to a login, as TAP.

The files are written by hand after those programs' conventions; their disks are the demo guest's.
"""
import json
import subprocess
import sys

from daemon import OSPITE, TOP, Daemon, Skipped, check, expect, run

GUEST = TOP / ".cache" / "guest"
DISK_UUID = "{11111111-2222-4333-8444-555555555555}"
VBOX = f"""<?xml version="1.0"?>
<VirtualBox xmlns="http://www.virtualbox.org/" version="1.16-linux">
  <Machine uuid="{{7d2e1f5c-3b0a-4c7e-9f00-1a2b3c4d5e6f}}" name="Old box" OSType="Debian_64" snapshotFolder="Snapshots" stateFile="Snapshots/a.sav">
    <MediaRegistry>
      <HardDisks><HardDisk uuid="{DISK_UUID}" location="demo.vdi" format="VDI" type="Normal"/></HardDisks>
      <DVDImages/>
    </MediaRegistry>
    <ExtraData><ExtraDataItem name="GUI/LastNormalWindowPosition" value="640,300"/></ExtraData>
    <Snapshot uuid="{{99999999-2222-4333-8444-555555555555}}" name="before" timeStamp="2024-01-01T00:00:00Z"><Hardware/></Snapshot>
    <Hardware>
      <CPU count="1"><PAE enabled="true"/></CPU>
      <Memory RAMSize="512"/>
      <Boot><Order position="1" device="HardDisk"/><Order position="2" device="DVD"/><Order position="3" device="None"/></Boot>
      <Display VRAMSize="16"/>
      <USB><Controllers><Controller name="OHCI" type="OHCI"/></Controllers></USB>
      <Network><Adapter slot="0" enabled="true" MACAddress="080027ABCDEF" type="82540EM"><NAT/></Adapter></Network>
      <AudioAdapter codec="AD1980" controller="AC97" driver="Pulse" enabled="true"/>
      <SharedFolders><SharedFolder name="docs" hostPath="/home/user/docs" writable="true" autoMount="true"/></SharedFolders>
    </Hardware>
    <StorageControllers>
      <StorageController name="IDE" type="PIIX4" PortCount="2" useHostIOCache="true" Bootable="true">
        <AttachedDevice type="HardDisk" hotpluggable="false" port="0" device="0"><Image uuid="{DISK_UUID}"/></AttachedDevice>
        <AttachedDevice passthrough="false" type="DVD" hotpluggable="false" port="1" device="0"/>
      </StorageController>
    </StorageControllers>
  </Machine>
</VirtualBox>"""
LIBVIRT = """<domain type='kvm' id='1'>
  <name>web</name><uuid>4dea22b3-1d52-d8f3-2516-782e98ab3fa0</uuid>
  <memory unit='KiB'>524288</memory><currentMemory unit='KiB'>524288</currentMemory><vcpu placement='static'>1</vcpu>
  <os><type arch='x86_64' machine='pc-i440fx-7.2'>hvm</type><boot dev='hd'/></os>
  <features><acpi/><apic/></features><clock offset='utc'/><on_poweroff>destroy</on_poweroff>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='FOLDER/demo.qcow2'/><target dev='hda' bus='ide'/></disk>
    <controller type='ide' index='0'/>
    <interface type='network'><mac address='52:54:00:11:22:33'/><source network='default'/></interface>
    <serial type='pty'><target port='0'/></serial><console type='pty'><target type='serial' port='0'/></console>
    <graphics type='vnc' port='-1'/><sound model='ich6'/><memballoon model='virtio'/>
    <filesystem type='mount'><source dir='/srv/share'/><target dir='share'/></filesystem>
  </devices>
</domain>"""


def reported(report, *parts):
    for part in parts:
        check(any(part in line for line in report), f"'{part}' is not in the report: {report}")


def boot(d, name):
    """What the report asks for is done; then the guest runs to its login, and its power button turns it off."""
    check("network adapters" in d.run("vm", "start", name, status=1), "a start without the change tells not what to change")
    d.run("vm", "set", name, "network.0=")
    d.run("vm", "start", name)
    d.websocket(f"/vms/{name.replace(' ', '%20')}/console").expect(rb"login:", 120)
    d.run("vm", "stop", name, "--timeout", "300")
    expect(d.vm(name)["last_end"]["reason"], "guest", "end")


def convert(d, kind):
    if not (GUEST / "disk.raw").exists():
        raise Skipped("tools/make-guest has not made the demo guest")
    subprocess.run([OSPITE, "disk", "convert", "-O", kind, GUEST / "disk.raw", d.path / f"demo.{kind}"], check=True, capture_output=True)


def virtualbox():
    """A .vbox is imported and booted; the report names snapshots, the saved state, USB, sound and shared folders."""
    with Daemon() as d:
        convert(d, "vdi")
        (d.path / "old.vbox").write_text(VBOX)
        report = json.loads(d.run("vm", "import", d.path / "old.vbox", "--json"))["report"]
        reported(report, "snapshot 'before'", "saved state", "USB controller 'OHCI'", "sound card 'AC97'", "shared folder 'docs' (/home/user/docs)",
                 "before a start: network.0")
        boot(d, "Old box")


def libvirt():
    """A libvirt domain is imported and booted; the report names sound, graphics and shared folders."""
    with Daemon() as d:
        convert(d, "qcow2")
        (d.path / "web.xml").write_text(LIBVIRT.replace("FOLDER", str(d.path)))
        report = json.loads(d.run("vm", "import", d.path / "web.xml", "--json"))["report"]
        reported(report, "sound card 'ich6'", "<graphics>", "shared folder 'share' (/srv/share)", "before a start: network.0")
        boot(d, "web")


sys.exit(run((virtualbox, libvirt), sys.argv[1:]))
