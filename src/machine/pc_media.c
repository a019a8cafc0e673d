/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Drives of a machine that is there already: other media, other limits. See pc.h. */
#include "machine/pc.h"

#include <unistd.h>

static PcDrive *pc_find_drive(Pc *pc, PcBus bus, unsigned index, GError **error)
{
    for (unsigned i = 0; i < pc->drive_count; i++) {
        PcDrive *drive = &pc->drives[i];
        if ((drive->kind == PC_DRIVE_FLOPPY) == (bus == PC_BUS_FLOPPY) &&
            drive->index == (int)index)
            return drive;
    }
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND, "there is no drive %u at the %s", index,
                bus == PC_BUS_FLOPPY ? "floppy controller" : "IDE controller");
    return NULL;
}

/* What the drive has now; NULL: it is empty. */
static Disk *pc_disk_of(const Pc *pc, const PcDrive *drive)
{
    unsigned index = (unsigned)drive->index;

    return drive->kind == PC_DRIVE_FLOPPY
               ? pc->fdc->drives[index].disk
               : pc->ide->channels[index / IDE_UNITS].drives[index % IDE_UNITS].disk;
}

static bool pc_swap_disk(Pc *pc, const PcDrive *drive, Disk *disk, GError **error)
{
    unsigned index = (unsigned)drive->index;

    return drive->kind == PC_DRIVE_FLOPPY
               ? fdc_change_disk(pc->fdc, index, disk, error)
               : ide_change_disc(pc->ide, index / IDE_UNITS, index % IDE_UNITS, disk, false, error);
}

bool pc_change_medium(Pc *pc, PcBus bus, unsigned index, const PcMedium *medium, GError **error)
{
    g_autoptr(GRecMutexLocker) locker G_GNUC_UNUSED = g_rec_mutex_locker_new(&pc->lock);
    PcDrive *drive = pc_find_drive(pc, bus, index, error);
    PcDrive wanted;
    Disk *disk, *old;

    if (!drive) {
        if (medium->opened)
            close(*medium->opened);
        return false;
    }
    wanted = *drive;
    wanted.path = medium->path;
    wanted.format = medium->format;
    wanted.mode = medium->read_only ? PC_DRIVE_READONLY : PC_DRIVE_NORMAL;
    wanted.opened = medium->opened;
    old = pc_disk_of(pc, drive);
    if (!pc_open_disk(pc, &wanted, &disk, error))
        return false;
    if (!pc_swap_disk(pc, drive, disk, error)) {
        if (disk)
            g_ptr_array_remove(pc->disks, disk);
        return false;
    }
    if (old)
        g_ptr_array_remove(pc->disks, old);
    return true;
}

bool pc_set_throttle(Pc *pc, PcBus bus, unsigned index, const ThrottleLimits *limits,
                     GError **error)
{
    g_autoptr(GRecMutexLocker) locker G_GNUC_UNUSED = g_rec_mutex_locker_new(&pc->lock);
    PcDrive *drive = pc_find_drive(pc, bus, index, error);
    Disk *disk = drive ? pc_disk_of(pc, drive) : NULL;

    if (!drive)
        return false;
    drive->throttle = *limits;
    if (disk)
        disk_set_throttle(disk, limits);
    return true;
}
