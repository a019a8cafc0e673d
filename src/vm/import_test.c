/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Machines of VirtualBox and libvirt. The samples are written by hand after those files'
 * conventions. */
#include <string.h>

#include "vm/import.h"

static const char vbox[] =
    "<?xml version=\"1.0\"?>\n"
    "<VirtualBox xmlns=\"http://www.virtualbox.org/\" version=\"1.16-linux\">\n"
    "<Machine uuid=\"{7d2e1f5c-3b0a-4c7e-9f00-1a2b3c4d5e6f}\" name=\"Old box\" "
    "OSType=\"Debian_64\">\n"
    "<Description>kept</Description>\n"
    "<Snapshot name=\"clean\" timeStamp=\"2024-01-01T00:00:00Z\"><Hardware><SharedFolders>"
    "<SharedFolder name=\"old\" hostPath=\"/old\"/></SharedFolders></Hardware><Snapshots>"
    "<Snapshot name=\"updated\" timeStamp=\"2024-02-01T00:00:00Z\"/></Snapshots></Snapshot>\n"
    "<MediaRegistry><HardDisks><HardDisk uuid=\"{11111111-2222-4333-8444-555555555555}\" "
    "location=\"disk.vdi\" format=\"VDI\" type=\"Normal\"/></HardDisks></MediaRegistry>\n"
    "<Hardware><CPU count=\"2\"/><Memory RAMSize=\"1024\"/>"
    "<Boot><Order position=\"1\" device=\"DVD\"/><Order position=\"2\" device=\"HardDisk\"/>"
    "<Order position=\"3\" device=\"None\"/></Boot>"
    "<AudioAdapter driver=\"Pulse\" controller=\"HDA\" enabled=\"true\"/>"
    "<RemoteDisplay enabled=\"false\"/><VideoCapture screens=\"1\" file=\".\"/>"
    "<Display VRAMSize=\"16\" accelerate3D=\"true\"/><BIOS><TimeOffset value=\"-3600000\"/></BIOS>"
    "<USB><Controllers><Controller name=\"OHCI\" type=\"OHCI\"/></Controllers><DeviceFilters>"
    "<DeviceFilter name=\"Stick\" productId=\"6545\"/></DeviceFilters></USB>"
    "<SharedFolders><SharedFolder name=\"docs\" hostPath=\"/home/u/docs\"/></SharedFolders>"
    "<Network><Adapter slot=\"0\" enabled=\"true\" MACAddress=\"080027ABCDEF\"><NAT/></Adapter>"
    "<Adapter slot=\"1\"/></Network></Hardware>\n"
    "<StorageControllers><StorageController name=\"IDE\" type=\"PIIX4\">"
    "<AttachedDevice type=\"HardDisk\" port=\"0\" device=\"0\">"
    "<Image uuid=\"{11111111-2222-4333-8444-555555555555}\"/></AttachedDevice>"
    "<AttachedDevice passthrough=\"false\" type=\"DVD\" port=\"1\" device=\"0\"/>"
    "</StorageController></StorageControllers></Machine></VirtualBox>";

static const char libvirt[] =
    "<domain type='kvm'><name>web</name><memory unit='KiB'>2097152</memory>"
    "<vcpu placement='static'>4</vcpu><os><type arch='x86_64'>hvm</type><boot dev='hd'/></os>"
    "<clock offset='localtime'/><devices><emulator>/usr/bin/x</emulator>"
    "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>"
    "<source file='/srv/web.qcow2'/><target dev='hda' bus='ide'/></disk>"
    "<disk type='file' device='cdrom'><target dev='hdc' bus='ide'/><readonly/></disk>"
    "<interface type='network'><mac address='52:54:00:11:22:33'/></interface>"
    "<sound model='ich6'/><hostdev mode='subsystem' type='usb'/><filesystem type='mount'>"
    "<source dir='/srv/share'/><target dir='share'/></filesystem>"
    "<graphics type='vnc'/></devices></domain>";

static void assert_value(const VmImport *import, const char *path, const char *value)
{
    g_autofree char *got = vm_tree_string(import->config, "%s", path);

    g_assert_cmpstr(got, ==, value);
}

static bool reports(const VmImport *import, const char *part)
{
    for (guint i = 0; i < import->report->len; i++) {
        if (strstr(import->report->pdata[i], part))
            return true;
    }
    return false;
}

static VmImport *import_text(const char *text, GError **error)
{
    return vm_import_parse(text, strlen(text), "sample", "/vms/old", error);
}

static void test_vbox(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(VmImport) import = import_text(vbox, &error);

    g_assert_no_error(error);
    assert_value(import, "name", "Old box");
    assert_value(import, "description", "kept");
    assert_value(import, "memory", "1G");
    assert_value(import, "cpus", "2");
    assert_value(import, "boot", "cdrom,disk");
    assert_value(import, "storage.ide0.0.medium", "/vms/old/disk.vdi");
    assert_value(import, "storage.ide0.0.format", "vdi");
    assert_value(import, "storage.ide0.2.type", "cdrom");
    g_assert_false(vm_tree_has(import->config, "network.0"));
    assert_value(import, "uuid", "7d2e1f5c-3b0a-4c7e-9f00-1a2b3c4d5e6f");
    assert_value(import, "usb.filter.Stick.product", "6545");
    g_assert_true(reports(import, "audio.adapter: this version cannot do 'hda', only 'none'"));
    g_assert_true(reports(import, "usb.controller: this version cannot do 'uhci'"));
    g_assert_true(reports(import, "shared.docs: this version has no shared folders; left out (it "
                                  "was /home/u/docs)"));
    g_assert_true(reports(import, "snapshot 'clean'"));
    g_assert_true(reports(import, "snapshot 'updated'"));
    g_assert_true(reports(import, "network.0: this version has no network adapters; left out (its "
                                  "address was 08:00:27:ab:cd:ef)"));
    g_assert_false(reports(import, "shared folder 'old'"));
    g_assert_false(reports(import, "RemoteDisplay"));
    g_assert_false(reports(import, "VideoCapture"));
    g_assert_true(reports(import, "3D acceleration"));
    g_assert_true(reports(import, "the hardware clock was -3600000 ms"));
}

static void test_libvirt(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(VmImport) import = import_text(libvirt, &error);

    g_assert_no_error(error);
    assert_value(import, "name", "web");
    assert_value(import, "memory", "2G");
    assert_value(import, "cpus", "4");
    assert_value(import, "rtc", "local");
    assert_value(import, "storage.ide0.0.medium", "/srv/web.qcow2");
    assert_value(import, "storage.ide0.0.format", "qcow2");
    assert_value(import, "storage.ide0.2.mode", "readonly");
    g_assert_true(reports(import, "graphics"));
    g_assert_true(reports(import, "audio.adapter: this version cannot do 'hda'"));
    g_assert_true(reports(import, "host device (usb, subsystem)"));
    g_assert_true(reports(import, "shared.share: this version has no shared folders; left out (it "
                                  "was /srv/share)"));
}

/* Of other CPUs, or of no PC at all. */
static void test_foreign(void)
{
    static const char *const foreign[] = {
        "<domain type='lxc'><os><type>exe</type></os></domain>",
        "<domain type='xen'><os><type>linux</type></os></domain>",
        "<domain type='kvm'><os><type arch='aarch64'>hvm</type></os></domain>",
        ("<VirtualBox><Machine><Hardware><Platform architecture='ARM'/></Hardware></Machine>"
         "</VirtualBox>"),
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(foreign); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(VmImport) import = import_text(foreign[i], &error);
        g_assert_null(import);
        g_assert_error(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED);
    }
}

static void test_bad(void)
{
    static const char *const bad[] = {"", "<x/>", "<VirtualBox/>", "<domain",
                                      "<!DOCTYPE domain [<!ENTITY a 'b'>]><domain/>"};

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(VmImport) import = import_text(bad[i], &error);
        g_assert_null(import);
        g_assert_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/vm/import/vbox", test_vbox);
    g_test_add_func("/vm/import/libvirt", test_libvirt);
    g_test_add_func("/vm/import/foreign", test_foreign);
    g_test_add_func("/vm/import/bad", test_bad);
    return g_test_run();
}
