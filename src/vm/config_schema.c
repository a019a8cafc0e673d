/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * All that a machine's configuration may say: the one table behind the file, the XSD, `vm set`, the
 * API and the documentation. A new setting is a row here and what build.c makes of it.
 */
#include "base/bits.h"
#include "base/i18n.h"
#include "machine/pc.h"
#include "vm/config.h"

#define STRING_MAX 4096
#define TEXT_MAX   65536
#define PORT_NAMES "[A-Za-z0-9_-]{1,32}"
#define WORD       "[A-Za-z][A-Za-z0-9_-]{0,31}"
#define UUID_KEY   "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
#define STREAM     "console|none|stdio|pty|(file|unix|console):.+"
#define IP_ADDRESS "[0-9A-Fa-f.:]{2,45}"
#define LISTEN     "([0-9.]{7,15}|\\[[0-9A-Fa-f:.]{2,45}\\]):[0-9]{1,5}"
#define STREAM_HELP \
    N_("console (vm console), none, stdio, pty, file:PATH, unix:PATH or console:PATH")

/* Short rows: name, type, what there is to say about it, help. */
#define TEXT_FIELD(word, longest, when, ...)                                                     \
    {                                                                                            \
        .name = word, .type = VM_STRING, .max = longest, .change = VM_CHANGE_##when, __VA_ARGS__ \
    }
#define BOOL_FIELD(word, preset, when, text)                                                \
    {                                                                                       \
        .name = word, .type = VM_BOOL, .default_value = preset, .change = VM_CHANGE_##when, \
        .help = text                                                                        \
    }
#define INT_FIELD(word, preset, least, most, when, ...)                                   \
    {                                                                                     \
        .name = word, .type = VM_INT, .default_value = preset, .min = least, .max = most, \
        .change = VM_CHANGE_##when, __VA_ARGS__                                           \
    }
#define SIZE_FIELD(word, preset, least, most, when, text)                                  \
    {                                                                                      \
        .name = word, .type = VM_SIZE, .default_value = preset, .min = least, .max = most, \
        .change = VM_CHANGE_##when, .help = text                                           \
    }
#define ENUM_FIELD(word, preset, words, when, ...)                                \
    {                                                                             \
        .name = word, .type = VM_ENUM, .default_value = preset, .choices = words, \
        .change = VM_CHANGE_##when, __VA_ARGS__                                   \
    }
#define PATH_FIELD(word, when, ...)                                                               \
    {                                                                                             \
        .name = word, .type = VM_PATH, .max = STRING_MAX, .change = VM_CHANGE_##when, __VA_ARGS__ \
    }
#define END_OF_FIELDS \
    {                 \
        .name = NULL  \
    }

static const VmField general_fields[] = {
    TEXT_FIELD("name", VM_NAME_MAX, NOW, .required = true,
               .help = N_("the machine's name, also that of its folder and file")),
    {.name = "uuid",
     .type = VM_UUID,
     .required = true,
     .change = VM_CHANGE_NEVER,
     .help = N_("what the machine is known by whatever its name")},
    TEXT_FIELD("os", 64, NOW, .default_value = "other", .pattern = "[A-Za-z0-9._-]{1,64}",
               .help = N_("the guest's operating system, such as debian12")),
    TEXT_FIELD("groups", STRING_MAX, NOW, .pattern = "(/[^/,]+)+(,(/[^/,]+)+)*",
               .help = N_("groups it is shown in, such as /Work,/Tests/Old")),
    {.name = "description",
     .type = VM_TEXT,
     .max = TEXT_MAX,
     .change = VM_CHANGE_NOW,
     .help = N_("notes, any number of lines")},
    END_OF_FIELDS,
};

static const VmField system_fields[] = {
    SIZE_FIELD("memory", "512M", PC_MEMORY_MIN, PC_MEMORY_MAX, RESTART, N_("guest memory")),
    INT_FIELD("cpus", "1", 1, VM_MAX_VCPUS, RESTART, .help = N_("number of CPUs")),
    TEXT_FIELD("cpu", 1024, RESTART, .default_value = "host",
               .help = N_("CPU model[,+feature,-feature]")),
    ENUM_FIELD("paravirt", "kvm", PARAVIRT_NAMES, RESTART,
               .help =
                   N_("clocks and interrupts for guests that know they are one: KVM's for Linux, "
                      "hyperv for Windows")),
    ENUM_FIELD("engine", "auto", "auto kvm soft interp jit none", LIVE,
               .help = N_("what runs the guest's code; auto takes the fastest there is")),
    ENUM_FIELD("firmware", "bios", "bios uefi", RESTART, .help = N_("what starts the machine")),
    PATH_FIELD("firmware-file", RESTART,
               .help = N_("BIOS image in place of SeaBIOS, such as a test ROM")),
    {.name = "boot",
     .type = VM_LIST,
     .default_value = "disk,cdrom,network",
     .choices = "floppy disk cdrom network",
     .change = VM_CHANGE_RESTART,
     .help = N_("what the firmware tries to boot, in this order")},
    BOOL_FIELD("boot-menu", "false", RESTART, N_("the firmware asks what to boot")),
    ENUM_FIELD("rtc", "utc", "utc local", RESTART, .help = N_("the hardware clock's time zone")),
    BOOL_FIELD("acpi", "true", RESTART, N_("ACPI tables and power management")),
    BOOL_FIELD("apic", "true", RESTART, N_("advanced interrupt controllers")),
    BOOL_FIELD("hpet", "true", RESTART, N_("high precision event timer")),
    END_OF_FIELDS,
};

static const VmField kernel_fields[] = {
    PATH_FIELD("file", RESTART, .help = N_("kernel to boot without a disk: Linux, PVH, Multiboot")),
    TEXT_FIELD("initrd", STRING_MAX, RESTART,
               .help = N_("initial RAM disk, or Multiboot modules separated by commas")),
    TEXT_FIELD("append", TEXT_MAX, RESTART, .help = N_("the kernel's command line")),
    END_OF_FIELDS,
};

static const VmField controller_fields[] = {
    ENUM_FIELD("type", NULL, "ide floppy ahci scsi virtio-blk virtio-scsi nvme usb", RESTART,
               .required = true, .help = N_("kind of controller")),
    END_OF_FIELDS,
};

static const VmField attachment_fields[] = {
    ENUM_FIELD("type", NULL, "disk cdrom floppy", RESTART, .required = true,
               .help = N_("kind of drive")),
    PATH_FIELD("medium", LIVE, .help = N_("image file; none: an empty drive")),
    TEXT_FIELD("format", 16, LIVE, .pattern = "[a-z0-9-]{1,16}",
               .help =
                   N_("the image's format, fixed when it was attached and never guessed again")),
    PATH_FIELD("key-file", RESTART,
               .help = N_("file whose bytes are the passphrase of an encrypted image")),
    BOOL_FIELD("trust-backing", "false", RESTART,
               N_("the files that the image names as its parts may be anywhere, not only in and "
                  "below its folder")),
    ENUM_FIELD("mode", "normal", "normal immutable writethrough shareable readonly multiattach",
               LIVE, .help = N_("what becomes of the guest's writes")),
    PATH_FIELD("difference", RESTART,
               .help = N_("differencing image of an immutable or multi-attach disk; none: "
                          "difference-CONTROLLER.SLOT.qcow2 in the machine's folder")),
    ENUM_FIELD("on-write-error", "enospc", "enospc report stop ignore", RESTART,
               .help = N_("what an error of the host does: enospc stops where the host is full, "
                          "and reports all else")),
    ENUM_FIELD("on-read-error", "report", "report stop ignore", RESTART,
               .help = N_("what an error of the host does: the guest hears of it, the machine "
                          "stops until it is resumed, or nothing")),
    INT_FIELD("iops", "0", 0, UINT32_MAX, LIVE, .help = N_("requests per second; 0: any")),
    SIZE_FIELD("bandwidth", "0", 0, INT64_MAX, LIVE, N_("bytes per second; 0: any")),
    END_OF_FIELDS,
};

static const VmField network_fields[] = {
    ENUM_FIELD("backend", "nat", "none nat bridge tap internal hostonly", RESTART,
               .help = N_("what it is plugged into")),
    TEXT_FIELD("network", 64, RESTART, .pattern = "[A-Za-z0-9._-]{1,64}",
               .help = N_("name of the bridge, the tap or the internal network")),
    ENUM_FIELD("model", "e1000", "e1000 virtio pcnet rtl8139 ne2000", RESTART,
               .help = N_("kind of adapter")),
    TEXT_FIELD("mac", 17, RESTART, .pattern = "([0-9a-f]{2}:){5}[0-9a-f]{2}",
               .help = N_("hardware address; none: one derived from the machine's UUID")),
    BOOL_FIELD("cable", "true", RESTART, N_("the cable is plugged in")),
    END_OF_FIELDS,
};

static const VmField forward_fields[] = {
    ENUM_FIELD("protocol", "tcp", "tcp udp", RESTART, .help = N_("transport protocol")),
    TEXT_FIELD("host-address", 45, RESTART, .default_value = "127.0.0.1", .pattern = IP_ADDRESS,
               .help = N_("address of the host to listen on")),
    INT_FIELD("host-port", NULL, 1, 65535, RESTART, .required = true,
              .help = N_("port of the host to listen on")),
    TEXT_FIELD("guest-address", 45, RESTART, .pattern = IP_ADDRESS,
               .help = N_("address of the guest; none: the first it was given")),
    INT_FIELD("guest-port", NULL, 1, 65535, RESTART, .required = true,
              .help = N_("port of the guest")),
    END_OF_FIELDS,
};

static const VmField serial_fields[] = {
    TEXT_FIELD("backend", STRING_MAX, RESTART, .required = true, .pattern = STREAM,
               .help = STREAM_HELP),
    END_OF_FIELDS,
};

static const VmField display_fields[] = {
    ENUM_FIELD("adapter", "vga", "none vga virtio", RESTART,
               .help = N_("kind of graphics adapter")),
    SIZE_FIELD("vram", "16M", MIB(1), MIB(256), RESTART, N_("video memory")),
    INT_FIELD("monitors", "1", 1, 8, RESTART, .help = N_("number of screens")),
    TEXT_FIELD("vnc", 64, RESTART, .pattern = LISTEN,
               .help = N_("ADDRESS:PORT where VNC viewers connect; none: nowhere")),
    TEXT_FIELD("rdp", 64, RESTART, .pattern = LISTEN,
               .help = N_("ADDRESS:PORT where RDP viewers connect; none: nowhere")),
    END_OF_FIELDS,
};

static const VmField input_fields[] = {
    ENUM_FIELD("keyboard", "ps2", "ps2 usb virtio", RESTART, .help = N_("kind of keyboard")),
    ENUM_FIELD("pointer", "ps2", "ps2 usb-mouse usb-tablet virtio", RESTART,
               .help = N_("kind of pointing device")),
    END_OF_FIELDS,
};

static const VmField audio_fields[] = {
    ENUM_FIELD("adapter", "none", "none ac97 hda sb16", RESTART, .help = N_("kind of sound card")),
    BOOL_FIELD("output", "true", RESTART, N_("the host plays what the guest plays")),
    BOOL_FIELD("input", "false", RESTART, N_("the guest hears the host's microphone")),
    END_OF_FIELDS,
};

static const VmField usb_fields[] = {
    ENUM_FIELD("controller", "none", "none uhci ehci xhci", RESTART,
               .help = N_("kind of USB controller")),
    END_OF_FIELDS,
};

static const VmField usb_filter_fields[] = {
    TEXT_FIELD("vendor", 4, RESTART, .pattern = "[0-9a-f]{4}", .help = N_("vendor of the device")),
    TEXT_FIELD("product", 4, RESTART, .pattern = "[0-9a-f]{4}", .help = N_("its product number")),
    TEXT_FIELD("serial", 126, RESTART, .help = N_("its serial number")),
    BOOL_FIELD("active", "true", RESTART, N_("devices that match go to the guest")),
    END_OF_FIELDS,
};

static const VmField shared_fields[] = {
    PATH_FIELD("path", RESTART, .required = true, .help = N_("folder of the host")),
    BOOL_FIELD("readonly", "false", RESTART, N_("the guest may not write")),
    BOOL_FIELD("automount", "false", RESTART, N_("the guest mounts it by itself")),
    TEXT_FIELD("mount-point", STRING_MAX, RESTART, .help = N_("where the guest mounts it")),
    END_OF_FIELDS,
};

#define DIRECTIONS "off to-guest to-host both"

static const VmField guest_fields[] = {
    ENUM_FIELD("clipboard", "off", DIRECTIONS, RESTART, .help = N_("shared clipboard")),
    ENUM_FIELD("drag-and-drop", "off", DIRECTIONS, RESTART, .help = N_("files by drag and drop")),
    BOOL_FIELD("time-sync", "false", RESTART, N_("the guest's clock follows the host's")),
    SIZE_FIELD("balloon", "0", 0, PC_MEMORY_MAX, RESTART, N_("memory the guest gives back")),
    END_OF_FIELDS,
};

static const VmField autostart_fields[] = {
    BOOL_FIELD("enabled", "false", NOW, N_("starts with the user's session or the host")),
    INT_FIELD("delay", "0", 0, 86400, NOW, .help = N_("seconds to wait before")),
    ENUM_FIELD("stop", "acpi", "acpi save poweroff", NOW,
               .help = N_("how it is stopped when the host shuts down")),
    END_OF_FIELDS,
};

static const VmField limits_fields[] = {
    INT_FIELD("cpu", "100", 1, 100, LIVE,
              .help = N_("percent of a host CPU that each of its CPUs may use")),
    SIZE_FIELD("disk", "0", 0, UINT64_C(1) << 50, LIVE,
               N_("bytes a second to and from disks; 0: no limit")),
    SIZE_FIELD("network", "0", 0, UINT64_C(1) << 50, RESTART,
               N_("bytes a second to and from the network; 0: no limit")),
    END_OF_FIELDS,
};

static const VmField debug_fields[] = {
    INT_FIELD("exit-port", "0", 0, 0xfffc, RESTART,
              .help = N_("a write to this port ends the machine (commonly 0xf4); 0: none")),
    BOOL_FIELD("testdev", "false", RESTART, N_("ports and memory that test suites ask for")),
    TEXT_FIELD("console", STRING_MAX, RESTART, .pattern = STREAM,
               .help = N_("where the firmware's debug console, port 0x402, goes")),
    END_OF_FIELDS,
};

static const VmField snapshots_fields[] = {
    {.name = "current",
     .type = VM_UUID,
     .change = VM_CHANGE_NOW,
     .help = N_("the snapshot that the machine comes from")},
    END_OF_FIELDS,
};

static const VmField snapshot_fields[] = {
    TEXT_FIELD("name", VM_NAME_MAX, NOW, .required = true, .help = N_("its name")),
    TEXT_FIELD("taken", 32, NEVER,
               .pattern = "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{1,9})?Z",
               .help = N_("when it was taken, in UTC")),
    {.name = "parent",
     .type = VM_UUID,
     .change = VM_CHANGE_NOW,
     .help = N_("the snapshot before it; none: it is the first")},
    PATH_FIELD("config", NEVER, .help = N_("the machine's configuration at that time")),
    PATH_FIELD("state", NEVER, .help = N_("the running machine's state; none: it was off")),
    BOOL_FIELD("deleting", "false", NEVER,
               N_("its images are being merged into others; it cannot be restored any more")),
    {.name = "description",
     .type = VM_TEXT,
     .max = TEXT_MAX,
     .change = VM_CHANGE_NOW,
     .help = N_("notes, any number of lines")},
    END_OF_FIELDS,
};

static const VmField extra_fields[] = {
    TEXT_FIELD("value", STRING_MAX, NOW, .help = N_("its value")),
    END_OF_FIELDS,
};

static const VmSection sections[] = {
    {"general", "general", .fields = general_fields, .help = N_("What the machine is called")},
    {"system", "system", .fields = system_fields, .help = N_("Memory, CPUs and the board")},
    {"kernel", "kernel", .fields = kernel_fields, .help = N_("Booting a kernel directly")},
    {"storage", "storage", .help = N_("Disks and drives")},
    {"storage.*", "controller", "name", WORD, 8, controller_fields, N_("A storage controller")},
    {"storage.*.*", "attachment", "slot", "0|[1-9][0-9]{0,2}", 256, attachment_fields,
     N_("A drive; ide has slots 0 to 3 (primary and secondary, master and slave), floppy 0 and 1")},
    {"network", "network", .help = N_("Network adapters")},
    {"network.*", "adapter", "slot", "[0-7]", 8, network_fields, N_("A network adapter")},
    {"network.*.forward.*", "forward", "name", PORT_NAMES, 256, forward_fields,
     N_("A port of the host that leads to the guest")},
    {"serial", "serial", .help = N_("Serial ports")},
    {"serial.*", "port", "number", "[0-3]", PC_SERIAL_MAX, serial_fields, N_("A serial port")},
    {"parallel", "parallel", .help = N_("Parallel ports")},
    {"parallel.*", "port", "number", "[0-2]", 3, serial_fields, N_("A parallel port")},
    {"display", "display", .fields = display_fields, .help = N_("The screen and its viewers")},
    {"input", "input", .fields = input_fields, .help = N_("Keyboard and pointer")},
    {"audio", "audio", .fields = audio_fields, .help = N_("Sound")},
    {"usb", "usb", .fields = usb_fields, .help = N_("USB")},
    {"usb.filter.*", "filter", "name", PORT_NAMES, 128, usb_filter_fields,
     N_("Devices of the host that go to the guest")},
    {"shared", "shared", .help = N_("Folders of the host that the guest sees")},
    {"shared.*", "folder", "name", PORT_NAMES, 128, shared_fields, N_("A shared folder")},
    {"guest", "guest", .fields = guest_fields, .help = N_("What host and guest share")},
    {"autostart", "autostart", .fields = autostart_fields, .help = N_("Starting by itself")},
    {"limits", "limits", .fields = limits_fields, .help = N_("What the machine may take")},
    {"debug", "debug", .fields = debug_fields, .help = N_("For those who write kernels")},
    {"snapshots", "snapshots", .fields = snapshots_fields, .help = N_("States to go back to")},
    {"snapshots.*", "snapshot", "uuid", UUID_KEY, 1024, snapshot_fields, N_("A snapshot")},
    {"extra", "extra", .help = N_("What other programs keep here")},
    {"extra.*", "item", "key", "[^.\\p{Cc}]{1,128}", 1024, extra_fields, N_("A named text")},
    {.pattern = NULL},
};

const VmSchema vm_config_schema = {
    .root = "ospite",
    .what = N_("machine configuration"),
    .version = 1,
    .max_size = MIB(4),
    .sections = sections,
    .bare = "general system",
};
