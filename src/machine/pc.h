/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The PC: an i440FX/PIIX3 board with CPUs, memory, disks and consoles, built from a PcConfig.
 *
 *     pc.c           life cycle: start, pause, reset, power-off
 *     pc_devices.c   which devices there are and how they are wired
 *     pc_media.c     other media and limits for its drives
 *     pc_firmware.c  what firmware or a directly booted kernel finds
 *
 * Threads: all functions run on the thread of the machine's main context, without the board lock
 * unless said otherwise. Guests' requests (reset, power-off) are carried out there, too.
 */
#pragma once

#include "block/disk.h"
#include "char/char.h"
#include "cpu/engine.h"
#include "device/chipset/fpu_error.h"
#include "device/chipset/i440fx.h"
#include "device/chipset/ioapic.h"
#include "device/chipset/lapic.h"
#include "device/chipset/pic.h"
#include "device/chipset/piix3.h"
#include "device/chipset/piix4_pm.h"
#include "device/chipset/port92.h"
#include "device/chipset/rtc.h"
#include "device/input/i8042.h"
#include "device/serial/uart16550.h"
#include "device/storage/fdc.h"
#include "device/storage/ide.h"
#include "device/video/vga.h"
#include "display/input.h"
#include "display/surface.h"
#include "machine/direct_boot.h"
#include "machine/fw_cfg.h"

#define PC_MEMORY_MIN      MIB(1)
#define PC_MEMORY_MAX      GIB(64)
#define PC_SERIAL_MAX      4
#define PC_PARALLEL_MAX    3
#define PC_DRIVE_MAX       6
#define PC_DEBUG_EXIT_PORT 0xf4

typedef enum PcDriveKind { PC_DRIVE_DISK, PC_DRIVE_CDROM, PC_DRIVE_FLOPPY } PcDriveKind;

/* What an error of the host does to the machine. */
typedef enum PcErrorPolicy {
    PC_ERROR_DEFAULT, /* a full host stops it, the guest hears of all else */
    PC_ERROR_REPORT,
    PC_ERROR_STOP, /* paused; the request is tried again when it goes on */
    PC_ERROR_IGNORE,
} PcErrorPolicy;

/* "enospc", "report", "stop", "ignore" in the order of PcErrorPolicy; NULL: there is none such. */
const char *pc_error_policy_name(unsigned policy);

/* What becomes of the guest's writes, as VirtualBox has it (docs/media-modes.md). */
typedef enum PcDriveMode {
    PC_DRIVE_NORMAL,
    PC_DRIVE_IMMUTABLE,    /* to a differencing image that each new machine empties */
    PC_DRIVE_WRITETHROUGH, /* to the image, also when a snapshot was taken */
    PC_DRIVE_SHAREABLE,    /* to the image, as those of other machines at the same time */
    PC_DRIVE_READONLY,
    PC_DRIVE_MULTIATTACH, /* to a differencing image that stays */
} PcDriveMode;

/* "normal", … in the order of PcDriveMode; NULL: there is none such. */
const char *pc_drive_mode_name(unsigned mode);

typedef struct PcDrive {
    PcDriveKind kind;
    const char *path;     /* NULL: an empty CD-ROM or floppy drive */
    const char *format;   /* NULL: probe */
    const char *key_file; /* its bytes open an encrypted image; NULL: none */
    const int *opened; /* the image's file, open already, which the machine takes; NULL: by path */
    PcDriveMode mode;
    bool trust_names;       /* what the image names may be outside of its folder */
    const char *difference; /* IMMUTABLE, MULTIATTACH: where; NULL: gone when the machine ends */
    PcErrorPolicy on_write_error, on_read_error;
    ThrottleLimits throttle;
    int index; /* place on the IDE (0 to 3) or floppy (0, 1) bus; -1: the first free one */
} PcDrive;

typedef struct PcConfig {
    uint64_t memory_size; /* bytes, rounded up to whole MiB */
    unsigned cpu_count;
    const char *cpu_model; /* NULL: "host" */
    Paravirt paravirt;
    const Engine *engine; /* engine_find()'s choice */
    PcDrive drives[PC_DRIVE_MAX];
    unsigned drive_count;
    const char *firmware;   /* BIOS image; NULL: SeaBIOS of the host's package */
    const char *uuid;       /* in SMBIOS and fw_cfg; NULL: none */
    const char *boot_order; /* letters a, c, d, n; NULL: "cdn" */
    bool boot_menu;
    const char *kernel, *initrd, *append;  /* kernel NULL: firmware boots */
    const char *serial[PC_SERIAL_MAX];     /* char_open() specifications; NULL: no port */
    const char *parallel[PC_PARALLEL_MAX]; /* the same */
    const char *debug_console;             /* port 0x402; NULL: no port */
    uint32_t debug_exit_port;              /* 0: none; commonly PC_DEBUG_EXIT_PORT */
    bool testdev;                          /* what test suites want: guest/testdev.h */
    bool rtc_local_time;
    bool no_acpi; /* neither tables nor power management: no power button, no soft off */
    bool no_apic; /* one CPU with the 8259A pair alone */
    bool no_hpet;
    bool no_vga;
    uint64_t vram_size;   /* bytes, a power of two; 0: the adapter's default */
    unsigned cpu_percent; /* of a host CPU's time for each of the guest's; 0: all */
    uint64_t disks_bytes; /* in a second, of all disks together; 0: no limit */
} PcConfig;

typedef enum PcEvent {
    PC_EVENT_POWEROFF, /* the guest turned itself off; the machine is paused */
    PC_EVENT_EXIT,     /* isa-debug-exit; `value` is the status; paused */
    PC_EVENT_RESET,    /* the machine was reset and goes on */
    PC_EVENT_ERROR,    /* a vCPU cannot go on; `text` says why; paused */
    PC_EVENT_ENGINE,   /* it could not, as `text` says; the machine goes on under another engine */
    PC_EVENT_DISK,     /* the host failed a disk, as `text` says; paused until pc_resume() */
} PcEvent;
typedef void (*PcEventFn)(void *obj, PcEvent event, int value, const char *text);

typedef struct Pc {
    Board board;
    GRecMutex lock;
    GMainContext *context;
    const Engine *engine;
    CpuModel *model;
    Vm *vm;
    bool running;
    PcEventFn event;
    void *event_obj;

    uint64_t low_ram, high_ram; /* bytes below and above 4 GiB */
    uint64_t pci_window;        /* first address for PCI memory */
    Ram *ram, *bios;
    Region low_region, high_region, bios_region;

    GPtrArray *devices; /* of Device, in the order of creation and reset */
    PciBus *bus;
    I440fx *i440fx;
    Piix3 *piix3;
    Piix4Pm *pm; /* NULL: no ACPI */
    IdeController *ide;
    Vga *vga; /* NULL: none */
    Pic *pic;
    IoApic *ioapic;
    uint16_t irq_levels;    /* what reaches the controllers, a bit for each ISA interrupt … */
    unsigned irq_rises[16]; /* … and how often; for the control socket */
    LapicBus lapic_bus;
    Lapic *bsp_lapic; /* they wait for an engine that has none while another runs */
    Rtc *rtc;
    I8042 *i8042;
    Port92 *port92;
    FpuError *fpu_error;
    Fdc *fdc;
    Uart16550 *com1; /* NULL: none */
    FwCfg *fw_cfg;
    GPtrArray *disks;             /* of Disk */
    Throttle disks_throttle;      /* of all of them together; under the lock */
    PcDrive drives[PC_DRIVE_MAX]; /* as they were built, but for their texts */
    unsigned drive_count;
    GPtrArray *chars; /* of CharBackend */
    Display *display;
    InputRouter *input;

    DirectBoot *direct_boot; /* NULL: firmware */
    Region door;             /* boot_door.h, when the kernel wants firmware first */
    bool door_open;          /* firmware asks for the kernel; under the lock */
    GArray *e820;            /* of E820Entry */
    GByteArray *acpi_tables, *acpi_rsdp, *smbios_tables, *smbios_anchor; /* direct boot only */

    GSource *limit_source;   /* looks at what the CPUs take of the host's; NULL: no limit */
    GSource *request_source; /* wakes the main loop; ready while requests are pending */
    unsigned requests;       /* bits 1 << BoardRequest, under the lock */
    int exit_value;
    char *cpu_error;  /* under the lock */
    char *disk_error; /* under the lock; a request is kept */
    char *stopped_by; /* what of the host stopped it; NULL: it runs, or was told to pause */
} Pc;

/* Gives a place to drives that ask for the first free one (index -1). Fails when there are too many
 * or two want the same; at most PC_DRIVE_MAX. */
bool pc_place_drives(PcDrive *drives, unsigned count, GError **error);
/* Builds a machine, reset and paused. Fails with a message for the user. */
Pc *pc_new(const PcConfig *config, GMainContext *context, GError **error);
void pc_free(Pc *pc);
void pc_set_event_handler(Pc *pc, PcEventFn event, void *obj);
/* Start or go on; stop. Idempotent. Time stands still for the guest while paused. */
void pc_resume(Pc *pc);
void pc_pause(Pc *pc);
/* Hard reset; a running machine goes on running. Fails when a kernel cannot be loaded again. */
bool pc_reset(Pc *pc, GError **error);
/* Another engine goes on with the machine (vm_set_engine()); a running machine goes on running. */
bool pc_set_engine(Pc *pc, const Engine *engine, GError **error);
typedef enum PcBus { PC_BUS_IDE, PC_BUS_FLOPPY } PcBus;

typedef struct PcMedium {
    const char *path; /* NULL: none; the drive is empty then */
    const char *format;
    const int *opened; /* as in PcDrive; taken on failure, too */
    bool read_only;
} PcMedium;
/*
 * Puts another medium into a CD-ROM or floppy drive, running or not. BUSY when the guest has locked
 * the tray (it is asked to unlock it); the old medium stays then.
 */
bool pc_change_medium(Pc *pc, PcBus bus, unsigned index, const PcMedium *medium, GError **error);
/* Other limits from now on; of an empty drive: for what it gets. */
bool pc_set_throttle(Pc *pc, PcBus bus, unsigned index, const ThrottleLimits *limits,
                     GError **error);
/* Another limit from now on, from 1 to 100 percent. */
void pc_set_cpu_percent(Pc *pc, unsigned percent);
/* Another limit of all disks together; 0: none. */
void pc_set_disks_limit(Pc *pc, uint64_t bytes);
/* Presses the power button: asks the guest to shut down. NOT_SUPPORTED without ACPI. */
bool pc_power_button(Pc *pc, GError **error);
/* Sends a break to the first serial port; nothing without one. */
void pc_serial_break(Pc *pc);
/* The screen as PNG; the characters on it in a text mode (new; NULL in a graphics mode). */
bool pc_screenshot(Pc *pc, const char *path, GError **error);
char *pc_screen_text(Pc *pc);
/* The level of an ISA interrupt, 0 to 15, as it reaches the interrupt controllers, and how often it
 * rose. */
bool pc_irq_level(Pc *pc, unsigned irq, unsigned *ret_rises);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Pc, pc_free)

/* ---- between the files of the machine -------------------------------------------------------- */

/* Makes, wires and maps all devices. */
bool pc_create_devices(Pc *pc, const PcConfig *config, GError **error);
/* guest/testdev.h; once. */
bool pc_create_testdev(Pc *pc, GError **error);
/* The disk of a drive, which `pc->disks` owns; NULL without an error: it is empty. */
bool pc_open_disk(Pc *pc, const PcDrive *drive, Disk **ret_disk, GError **error);
/* The machine is paused: interrupts that are under way go to the new engine. */
void pc_engine_changed(Pc *pc);
/* Firmware images, CMOS, fw_cfg, ACPI and SMBIOS. After pc_create_devices(). */
bool pc_create_firmware(Pc *pc, const PcConfig *config, GError **error);
/* With the board lock: the kernel in memory, and, if no firmware has run, what that would have
 * done. */
bool pc_prepare_direct_boot(Pc *pc, BootEntry *ret_entry, GError **error);
