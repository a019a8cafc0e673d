/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What `ospite doctor` says about CPUs and engines. Reads the host, changes nothing. */
#include "base/i18n.h"
#include "cpu/engine_list.h"

#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "cpu/cpu_features.h"
#include "cpu/tsc.h"

#define INDENT "  "
#define WIDTH  96

/* ---- layout ---------------------------------------------------------------------------------- */

/* A paragraph with its words wrapped; lines after the first are indented by `hang` more. */
static void add(GString *text, unsigned hang, const char *format, ...) G_GNUC_PRINTF(3, 4);
static void add(GString *text, unsigned hang, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *line = g_strdup_vprintf(format, args);
    va_end(args);
    g_auto(GStrv) words = g_strsplit(line, " ", -1);
    size_t column = strlen(INDENT);
    g_string_append(text, INDENT);
    for (char **word = words; *word; word++) {
        size_t length = g_utf8_strlen(*word, -1);
        if (word != words && column + 1 + length > WIDTH) {
            g_string_append_printf(text, "\n" INDENT "%*s", (int)hang, "");
            column = strlen(INDENT) + hang;
        } else if (word != words) {
            g_string_append_c(text, ' ');
            column++;
        }
        g_string_append(text, *word);
        column += length;
    }
    g_string_append_c(text, '\n');
}

#define FIELD_HANG                 18
#define add_field(text, name, ...) add_field_text(text, name, g_strdup_printf(__VA_ARGS__))
static void add_field_text(GString *text, const char *name, char *value)
{
    g_autofree char *label = g_strdup_printf("%s:", name);
    add(text, FIELD_HANG, "%-*s%s", FIELD_HANG, label, value);
    g_free(value);
}

/* ---- the host -------------------------------------------------------------------------------- */

typedef struct Host {
    bool features[CPU_FEATURE_COUNT];
    bool vmx, svm;
    char hypervisor[13]; /* its signature in leaf 4000_0000, "" on bare metal */
    char brand[49];
} Host;

static void host_brand(Host *host)
{
    for (uint32_t i = 0; i < 3 && cpu_host_cpuid(0x80000000, 0).eax >= 0x80000004; i++) {
        CpuidValue v = cpu_host_cpuid(0x80000002 + i, 0);
        memcpy(host->brand + 16 * i, &v, sizeof(v));
    }
    g_strstrip(host->brand);
}

static Host host_look(void)
{
    Host host = {0};
    cpu_host_features(host.features);
    host.vmx = cpu_host_cpuid(1, 0).ecx >> 5 & 1;
    if (cpu_host_cpuid(0x80000000, 0).eax >= 0x80000001)
        host.svm = cpu_host_cpuid(0x80000001, 0).ecx >> 2 & 1;
    if (host.features[CPU_HYPERVISOR]) {
        CpuidValue v = cpu_host_cpuid(0x40000000, 0);
        memcpy(host.hypervisor, &v.ebx, 12);
    }
    host_brand(&host);
    return host;
}

/* By signature: what it is, and how a guest of it gets virtualization of its own. */
static const struct {
    const char *signature, *name, *advice;
} hypervisors[] = {
    {"KVMKVMKVM", "KVM",
     N_("This machine is a guest of KVM. Its host must allow nesting (kvm_intel or kvm_amd with "
        "nested=1) and pass the CPU "
        "through (libvirt: <cpu mode='host-passthrough'/>). On Google Cloud create the instance "
        "with "
        "--enable-nested-virtualization; on AWS take a .metal type or one that offers nested "
        "virtualization.")},
    {"Microsoft Hv", "Hyper-V",
     N_("This machine is a guest of Hyper-V: Set-VMProcessor -VMName NAME "
        "-ExposeVirtualizationExtensions $true, with the "
        "machine turned off. On Azure take a size that supports nested virtualization. WSL 2: "
        "nestedVirtualization=true "
        "in .wslconfig.")},
    {"VMwareVMware", "VMware",
     N_("This machine is a guest of VMware: turn on \"Virtualize Intel VT-x/EPT or AMD-V/RVI\" in "
        "its "
        "processor settings.")},
    {"VBoxVBoxVBox", "VirtualBox",
     N_("This machine is a guest of VirtualBox: VBoxManage modifyvm NAME --nested-hw-virt on, with "
        "the machine off.")},
    {"XenVMMXenVMM", "Xen",
     N_("This machine is a guest of Xen: set nestedhvm=1 in its configuration, if the host allows "
        "it.")},
    {"TCGTCGTCGTCG", "QEMU without KVM",
     N_("This machine runs under QEMU's translator: give QEMU -accel kvm and -cpu host on a host "
        "with "
        "KVM.")},
    {"bhyve bhyve ", "bhyve", N_("This machine is a guest of bhyve, which does not nest.")},
    {"OspiteOspite", "Ospite", N_("This machine is a guest of Ospite, which does not nest.")},
};

static const char *hypervisor_name(const Host *host)
{
    for (size_t i = 0; i < G_N_ELEMENTS(hypervisors); i++)
        if (!strcmp(hypervisors[i].signature, host->hypervisor))
            return hypervisors[i].name;
    return host->hypervisor[0] ? host->hypervisor : _("unknown");
}

static const char *hypervisor_advice(const Host *host)
{
    for (size_t i = 0; i < G_N_ELEMENTS(hypervisors); i++)
        if (!strcmp(hypervisors[i].signature, host->hypervisor))
            return _(hypervisors[i].advice);
    return _("This machine is a guest of a hypervisor unknown to Ospite: look for nested "
             "virtualization in its settings.");
}

static const char *host_level(const Host *host)
{
    const bool *f = host->features;
    if (!(f[CPU_SSE42] && f[CPU_SSSE3] && f[CPU_POPCNT] && f[CPU_CX16]))
        return "x86-64-v1";
    if (!(f[CPU_AVX2] && f[CPU_BMI2] && f[CPU_FMA] && f[CPU_F16C] && f[CPU_MOVBE] && f[CPU_ABM]))
        return "x86-64-v2";
    return "x86-64-v3";
}

static char *kvm_modules(void)
{
    const char *const names[] = {"kvm", "kvm_intel", "kvm_amd", "kvm_pvm"};
    GString *found = g_string_new(NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *path = g_strdup_printf("/sys/module/%s", names[i]);
        if (g_file_test(path, G_FILE_TEST_IS_DIR))
            g_string_append_printf(found, "%s%s", found->len ? ", " : "", names[i]);
    }
    return g_string_free(found, FALSE);
}

static char *kvm_device_state(void)
{
    if (access("/dev/kvm", F_OK) < 0)
        return g_strdup(_("missing"));
    if (access("/dev/kvm", R_OK | W_OK) < 0)
        return g_strdup(_("there, but this user may not open it"));
    return g_strdup(_("there, and this user may open it"));
}

static void report_host(GString *text, const Host *host)
{
    g_autofree char *device = kvm_device_state();
    g_autofree char *modules = kvm_modules();
    g_string_append(text, _("Host\n"));
    add_field(text, _("processor"), _("%s, %u CPUs, level %s"),
              host->brand[0] ? host->brand : _("unnamed"), g_get_num_processors(),
              host_level(host));
    add_field(text, _("runs under"), "%s",
              host->features[CPU_HYPERVISOR] ? hypervisor_name(host) : _("nothing: bare metal"));
    add_field(text, _("virtualization"), "%s",
              host->vmx   ? "VT-x (vmx)"
              : host->svm ? "AMD-V (svm)"
                          : _("none: the CPU shows neither vmx nor svm"));
    add_field(text, "/dev/kvm", "%s", device);
    add_field(text, _("KVM modules"), "%s",
              modules[0] ? modules : _("none loaded (or built into the kernel)"));
    add_field(text, _("clock"), _("TSC at %.3f MHz, %s"), tsc_host_hz() / 1e6,
              tsc_host_is_invariant() ? _("steady")
                                      : _("not steady: the system clock is used instead"));
}

/* ---- engines --------------------------------------------------------------------------------- */

static const struct {
    const char *engine, *expectation;
} expectations[] = {
    {"kvm",
     N_("Guests run at nearly the speed of this machine; a Linux boots in a few seconds. What KVM "
        "cannot run the interpreter does; the counter kvm_hand_overs (--stats) says how often.")},
    {"jit",
     N_("Guests run translated: every operating system works, most programs take 1 to 3 times as "
        "long as on this machine, and a small Linux boots in about 2 seconds. Each virtual CPU "
        "keeps one of the host's busy while it computes, none while it waits.")},
    {"interp", N_("Guests run in software, one instruction after the other: every operating system "
                  "works, but programs take some "
                  "20 to 60 times as long as on this machine. A small Linux boots in about 20 "
                  "seconds; a desktop takes "
                  "minutes. Each virtual CPU keeps one of the host's busy while it computes, none "
                  "while it waits.")},
};

static void report_engines(GString *text)
{
    g_string_append(text, _("\nEngines\n"));
    for (const EngineRow *row = engine_rows; row->engine; row++) {
        g_autofree char *why_not = NULL;
        bool suits = engine_suits(row->engine, &why_not);
        add_field(text, row->engine->name, "%s. %s%s", _(row->engine->description),
                  suits ? _("Works here.") : _("Not chosen by itself: "), suits ? "" : why_not);
    }
}

static void report_choice(GString *text, const Engine *chosen)
{
    g_string_append(text, _("\nChoice\n"));
    if (!chosen) {
        add(text, 0, _("No engine can run on this host."));
        return;
    }
    add(text, 0, _("\"--engine auto\" takes %s."), chosen->name);
    for (size_t i = 0; i < G_N_ELEMENTS(expectations); i++)
        if (!strcmp(expectations[i].engine, chosen->name))
            add(text, 0, "%s", _(expectations[i].expectation));
}

/* ---- advice ---------------------------------------------------------------------------------- */

static void report_advice(GString *text, const Host *host)
{
    bool hardware = host->vmx || host->svm;
    g_string_append(text, _("\nTo get hardware virtualization\n"));
    if (!hardware && host->features[CPU_HYPERVISOR])
        add(text, 0, "%s", hypervisor_advice(host));
    else if (!hardware)
        add(text, 0,
            _("Turn on \"Intel Virtualization Technology\" or \"SVM mode\" in the firmware setup "
              "of "
              "this machine."));
    else if (access("/dev/kvm", F_OK) < 0)
        add(text, 0,
            _("Load the module: sudo modprobe %s. If that fails, dmesg says whether the firmware "
              "has "
              "turned virtualization off. In a container, start it with --device /dev/kvm."),
            host->vmx ? "kvm_intel" : "kvm_amd");
    else if (access("/dev/kvm", R_OK | W_OK) < 0)
        add(text, 0,
            _("Allow this user to open /dev/kvm: sudo usermod -aG kvm %s, then log in again."),
            g_get_user_name());
    else
        add(text, 0,
            _("The device is there; what KVM says above is in the way. A newer kernel may help."));
    if (!hardware && access("/dev/kvm", F_OK) == 0)
        add(text, 0,
            _("The /dev/kvm that is here belongs to a paravirtual KVM, made for kernels that know "
              "it. \"--engine kvm\" "
              "tries it all the same."));
}

char *engine_report(void)
{
    Host host = host_look();
    GString *text = g_string_new(NULL);
    const Engine *chosen = engine_find("auto", NULL, NULL);
    report_host(text, &host);
    report_engines(text);
    report_choice(text, chosen);
    if (chosen != engine_rows[0].engine)
        report_advice(text, &host);
    return g_string_free(text, FALSE);
}
