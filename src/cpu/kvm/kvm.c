/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The KVM engine: guest code runs on the host CPU's virtualization extensions.
 *
 * Kick: run->immediate_exit makes the next KVM_RUN return; KICK_SIGNAL, blocked but in KVM_RUN,
 * makes a running one return. The vCPU clears immediate_exit before it looks at its requests, so
 * none is lost.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bits.h"
#include "base/fd.h"
#include "base/i18n.h"
#include "cpu/cpu_features.h"
#include "cpu/kvm/kvm_internal.h"
#include "cpu/tsc.h"

#define KICK_SIGNAL SIGRTMIN
/* Four pages for Intel CPUs without "unrestricted guest", below the largest firmware. */
#define IDENTITY_MAP_ADDRESS  UINT64_C(0xfeffc000)
#define TSS_ADDRESS           0xfeffd000ul
#define MAX_CPUID_ENTRIES     256
#define MSR_ARCH_CAPABILITIES 0x10a
#define KVM_SIGNATURE_EBX     0x4b4d564b /* "KVMK" */

/* ---- probing --------------------------------------------------------------------------------- */

static const struct {
    int capability;
    const char *name;
} needed[] = {
    {KVM_CAP_USER_MEMORY, "user memory"},
    {KVM_CAP_READONLY_MEM, "read-only memory"},
    {KVM_CAP_SPLIT_IRQCHIP, "split irqchip"},
    {KVM_CAP_IRQ_ROUTING, "interrupt routing"},
    {KVM_CAP_SIGNAL_MSI, "message-signalled interrupts"},
    {KVM_CAP_IMMEDIATE_EXIT, "immediate exit"},
    {KVM_CAP_XSAVE, "XSAVE"},
    {KVM_CAP_XCRS, "XCR0"},
    {KVM_CAP_DEBUGREGS, "debug registers"},
    {KVM_CAP_VCPU_EVENTS, "event state"},
    {KVM_CAP_MP_STATE, "processor state"},
    {KVM_CAP_EXT_CPUID, "CPUID"},
};

static bool set_open_error(GError **error)
{
    if (errno == ENOENT)
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND,
                    "there is no " KVM_PATH
                    ": turn on VT-x or AMD-V in the firmware setup (or nested "
                    "virtualization for this instance) and load kvm_intel or kvm_amd");
    else if (errno == EACCES || errno == EPERM)
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_PERMISSION_DENIED,
                    "no permission to open " KVM_PATH
                    ": run 'sudo usermod -aG kvm %s' and log in again",
                    g_get_user_name());
    else
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(errno),
                    "cannot open " KVM_PATH ": %s; is kvm_intel or kvm_amd loaded?",
                    g_strerror(errno));
    return false;
}

static bool check_device(int fd, GError **error)
{
    int version = ioctl(fd, KVM_GET_API_VERSION, 0);
    if (version != KVM_API_VERSION) {
        g_set_error(
            error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
            KVM_PATH
            " speaks version %d of its interface, Ospite speaks %d: update the host's kernel",
            version, KVM_API_VERSION);
        return false;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(needed); i++) {
        if (ioctl(fd, KVM_CHECK_EXTENSION, needed[i].capability) > 0)
            continue;
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
                    _("the KVM of this kernel lacks %s: it takes Linux 4.12 or newer"),
                    needed[i].name);
        return false;
    }
    return true;
}

/* A process that has shut itself in opens no files any more: what was opened once is kept. Main
 * thread. */
static int open_device(GError **error)
{
    static int kept = -1;
    if (kept < 0) {
        auto_fd fd = open(KVM_PATH, O_RDWR | O_CLOEXEC);
        if (fd < 0)
            return set_open_error(error), -1;
        if (!check_device(fd, error))
            return -1;
        kept = fd_steal(&fd);
    }
    int copy = fcntl(kept, F_DUPFD_CLOEXEC, 0);
    return copy >= 0 ? copy : (set_open_error(error), -1);
}

static bool kvm_probe(GError **error)
{
    auto_fd fd = open_device(error);
    return fd >= 0;
}

/* A KVM on a CPU that offers no VMX or SVM emulates or para-virtualizes: stock kernels crawl or
 * fail under it. */
static bool kvm_runs_stock_guests(char **ret_why_not)
{
    const uint32_t vmx = 1u << 5, svm = 1u << 2;
    bool amd_leaf = cpu_host_cpuid(0x80000000, 0).eax >= 0x80000001;
    if (cpu_host_cpuid(1, 0).ecx & vmx || (amd_leaf && cpu_host_cpuid(0x80000001, 0).ecx & svm))
        return true;
    *ret_why_not = g_strdup(
        "the host's KVM is a paravirtual one (the CPU shows no vmx or svm), which does not run "
        "stock guests at speed");
    return false;
}

/* ---- CPUID ----------------------------------------------------------------------------------- */

typedef union CpuidBuffer {
    struct kvm_cpuid2 cpuid;
    char space[sizeof(struct kvm_cpuid2) + MAX_CPUID_ENTRIES * sizeof(struct kvm_cpuid_entry2)];
} CpuidBuffer;

static CpuidValue find_entry(void *obj, uint32_t leaf, uint32_t subleaf)
{
    const CpuidBuffer *buffer = obj;
    for (uint32_t i = 0; i < buffer->cpuid.nent; i++) {
        const struct kvm_cpuid_entry2 *e = &buffer->cpuid.entries[i];
        if (e->function == leaf &&
            (!(e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || e->index == subleaf))
            return (CpuidValue){e->eax, e->ebx, e->ecx, e->edx};
    }
    return (CpuidValue){0};
}

/* What the kernel says it supports, and what its local APIC and we add. */
static void kvm_features(bool *ret_features)
{
    memset(ret_features, 0, CPU_FEATURE_COUNT * sizeof(*ret_features));
    auto_fd fd = open_device(NULL);
    if (fd < 0)
        return;
    g_autofree CpuidBuffer *buffer = g_new0(CpuidBuffer, 1);
    buffer->cpuid.nent = MAX_CPUID_ENTRIES;
    if (ioctl(fd, KVM_GET_SUPPORTED_CPUID, buffer) < 0)
        return;
    cpu_features_decode(find_entry, buffer, ret_features);
    ret_features[CPU_APIC] = ret_features[CPU_X2APIC] = ret_features[CPU_HYPERVISOR] = true;
    ret_features[CPU_TSC_DEADLINE] = ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0;
    ret_features[CPU_INVARIANT_TSC] = tsc_host_is_invariant();
}

static const struct {
    uint32_t first, last, subleaves;
} leaf_ranges[] = {
    {0, 3, 0},
    {4, 4, 5},
    {5, 6, 0},
    {7, 7, 1},
    {8, 0xa, 0},
    {0xb, 0xb, 3},
    {0xc, 0xc, 0},
    {0xd, 0xd, 3},
    {0x14, 0x14, 1},
    {0x15, 0x16, 0},
    {0x40000000, 0x40000010, 0},
    {0x40000100, 0x40000110, 0},
    {0x80000000, 0x80000008, 0},
    {0x80000019, 0x8000001c, 0},
    {0x8000001d, 0x8000001d, 5},
    {0x8000001e, 0x80000021, 0},
};

static bool leaf_in_range(const Vcpu *vcpu, uint32_t leaf)
{
    const CpuModel *model = vcpu->vm->model;
    uint32_t base = leaf & 0x80000000;
    if (leaf >> 30 == 1)
        return cpu_model_has_hypervisor_leaf(model, leaf);
    uint32_t max = cpu_model_cpuid(model, vcpu->index, 0, XCR0_X87, 0x800, base, 0).eax;
    return leaf <= max && max >= base;
}

static void add_leaf(CpuidBuffer *buffer, const Vcpu *vcpu, uint32_t leaf, uint32_t subleaf,
                     bool indexed)
{
    const uint64_t apic_enabled = 1 << 11;
    CpuidValue v =
        cpu_model_cpuid(vcpu->vm->model, vcpu->index, 0, XCR0_X87, apic_enabled, leaf, subleaf);
    buffer->cpuid.entries[buffer->cpuid.nent++] = (struct kvm_cpuid_entry2){
        .function = leaf,
        .index = subleaf,
        .flags = indexed ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
        .eax = v.eax,
        .ebx = v.ebx,
        .ecx = v.ecx,
        .edx = v.edx,
    };
}

/* Only what this kernel does of it. */
static void limit_paravirt(const KvmVm *kvm, CpuidBuffer *buffer)
{
    g_autofree CpuidBuffer *supported = g_new0(CpuidBuffer, 1);
    supported->cpuid.nent = MAX_CPUID_ENTRIES;
    ioctl(kvm->device_fd, KVM_GET_SUPPORTED_CPUID, supported);
    uint32_t known = find_entry(supported, HYPERVISOR_LEAF + 1, 0).eax;
    for (uint32_t i = 1; i < buffer->cpuid.nent; i++) {
        struct kvm_cpuid_entry2 *e = &buffer->cpuid.entries[i];
        if (e[-1].ebx == KVM_SIGNATURE_EBX && e->function == e[-1].function + 1)
            e->eax &= known;
    }
}

static bool check_hyperv(const Vm *vm, GError **error)
{
    if (!cpu_model_offers(vm->model, PARAVIRT_HYPERV) ||
        ioctl(kvm_vm(vm)->device_fd, KVM_CHECK_EXTENSION, KVM_CAP_HYPERV) > 0)
        return true;
    g_set_error(
        error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
        _("the KVM of this kernel cannot pass for Hyper-V; use --paravirt kvm or --engine soft"));
    return false;
}

static bool set_cpuid(Vcpu *vcpu, GError **error)
{
    if (!check_hyperv(vcpu->vm, error))
        return false;
    g_autofree CpuidBuffer *buffer = g_new0(CpuidBuffer, 1);
    for (size_t i = 0; i < G_N_ELEMENTS(leaf_ranges); i++) {
        uint32_t subleaves = leaf_ranges[i].subleaves;
        for (uint32_t leaf = leaf_ranges[i].first; leaf <= leaf_ranges[i].last; leaf++)
            for (uint32_t s = 0; leaf_in_range(vcpu, leaf) && s < MAX(subleaves, 1); s++)
                add_leaf(buffer, vcpu, leaf, s, subleaves);
    }
    limit_paravirt(kvm_vm(vcpu->vm), buffer);
    if (ioctl(kvm_vcpu(vcpu)->fd, KVM_SET_CPUID2, buffer) == 0)
        return true;
    g_set_error(error, G_IO_ERROR, g_io_error_from_errno(errno),
                _("KVM refuses the CPU model %s: %s; try another one (--cpu)"),
                vcpu->vm->model->name, g_strerror(errno));
    return false;
}

/* As many banks for machine checks as software engines have. */
static void set_machine_checks(Vcpu *vcpu)
{
    uint64_t capabilities = CPU_MC_BANK_COUNT;
    if (cpu_has(vcpu->vm->model, CPU_MCA))
        ioctl(kvm_vcpu(vcpu)->fd, KVM_X86_SETUP_MCE, &capabilities);
}

/* The kernel knows which vulnerabilities this host's CPU really has. */
static void set_arch_capabilities(Vcpu *vcpu)
{
    KvmMsr msr = kvm_msr(MSR_ARCH_CAPABILITIES, 0);
    if (cpu_has(vcpu->vm->model, CPU_ARCH_CAPABILITIES) &&
        ioctl(kvm_vm(vcpu->vm)->device_fd, KVM_GET_MSRS, &msr) == 1)
        ioctl(kvm_vcpu(vcpu)->fd, KVM_SET_MSRS, &msr);
}

static bool set_tsc_rate(Vcpu *vcpu, GError **error)
{
    int fd = kvm_vcpu(vcpu)->fd;
    int64_t wanted = vcpu->vm->tsc_hz / 1000, have = ioctl(fd, KVM_GET_TSC_KHZ, 0);
    int64_t tolerance = wanted / 4000; /* 250 ppm: what guests' clocks are corrected for */
    if (have <= 0 || ABS(have - wanted) <= tolerance)
        return true;
    kvm_vcpu(vcpu)->tsc_scaled = ioctl(fd, KVM_SET_TSC_KHZ, wanted) == 0;
    if (kvm_vcpu(vcpu)->tsc_scaled)
        return true;
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
                "the VM's time stamp counter runs at %" G_GINT64_FORMAT
                " kHz, this host's at %" G_GINT64_FORMAT
                " kHz, and its KVM cannot scale it; use --engine soft",
                wanted, have);
    return false;
}

/* ---- VM -------------------------------------------------------------------------------------- */

static bool fail(GError **error, const char *what)
{
    int saved = errno;
    g_set_error(error, G_IO_ERROR, g_io_error_from_errno(saved),
                _("KVM cannot %s: %s; --engine soft does without it"), what, g_strerror(saved));
    return false;
}

static bool create_vm(KvmVm *kvm, GError **error)
{
    struct kvm_enable_cap split = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {KVM_ROUTE_COUNT}};
    uint64_t identity = IDENTITY_MAP_ADDRESS;
    kvm->vm_fd = ioctl(kvm->device_fd, KVM_CREATE_VM, 0);
    if (kvm->vm_fd < 0)
        return fail(error, "create a virtual machine");
    if (ioctl(kvm->vm_fd, KVM_ENABLE_CAP, &split) < 0)
        return fail(error, "put the local APICs in the kernel");
    if (ioctl(kvm->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity) < 0 ||
        ioctl(kvm->vm_fd, KVM_SET_TSS_ADDR, TSS_ADDRESS) < 0)
        return fail(error, "reserve its pages in guest memory");
    int size = ioctl(kvm->device_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (size < (int)sizeof(struct kvm_run))
        return fail(error, "say how large a virtual CPU's shared page is");
    kvm->run_size = size;
    return true;
}

static bool kvm_vm_init(Vm *vm, GError **error)
{
    KvmVm *kvm = g_new0(KvmVm, 1);
    kvm->vm = vm;
    kvm->vm_fd = -1;
    vm->engine_data = kvm;
    g_mutex_init(&kvm->routes_lock);
    kvm->device_fd = open_device(error);
    if (kvm->device_fd < 0 || !create_vm(kvm, error))
        return false;
    kvm_memory_init(kvm);
    kvm->emulator = kvm_emulator_new(vm);
    errno = atomic_load(&kvm->slot_errno);
    return !errno || fail(error, "map the guest's memory");
}

static void kvm_vm_clear(Vm *vm)
{
    KvmVm *kvm = kvm_vm(vm);
    if (!kvm)
        return;
    kvm_emulator_free(kvm->emulator);
    kvm_memory_clear(kvm);
    fd_clear(&kvm->vm_fd);
    fd_clear(&kvm->device_fd);
    g_mutex_clear(&kvm->routes_lock);
    g_clear_pointer(&vm->engine_data, g_free);
}

/* ---- vCPU ------------------------------------------------------------------------------------ */

static bool kvm_vcpu_init(Vcpu *vcpu, GError **error)
{
    KvmVm *kvm = kvm_vm(vcpu->vm);
    KvmVcpu *cpu = g_new0(KvmVcpu, 1);
    vcpu->engine_data = cpu;
    cpu->fd = ioctl(kvm->vm_fd, KVM_CREATE_VCPU, (unsigned long)vcpu->index);
    if (cpu->fd < 0)
        return fail(error, "create a virtual CPU");
    void *run = mmap(NULL, kvm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, cpu->fd, 0);
    if (run == MAP_FAILED)
        return fail(error, "share a virtual CPU's page");
    cpu->run = run;
    cpu->run_size = kvm->run_size;
    if (!set_cpuid(vcpu, error) || !set_tsc_rate(vcpu, error))
        return false;
    set_arch_capabilities(vcpu);
    set_machine_checks(vcpu);
    kvm_emulator_add(kvm->emulator, vcpu);
    return true;
}

static void kvm_vcpu_clear(Vcpu *vcpu)
{
    KvmVcpu *cpu = kvm_vcpu(vcpu);
    if (!cpu)
        return;
    if (cpu->run)
        munmap(cpu->run, cpu->run_size);
    fd_clear(&cpu->fd);
    g_clear_pointer(&vcpu->engine_data, g_free);
}

/* ---- errors ---------------------------------------------------------------------------------- */

/* " code: 0f 0b …" from the guest's RIP, as far as it can be read. */
static void append_code(GString *text, Vcpu *vcpu, const struct kvm_sregs *sregs,
                        const struct kvm_regs *regs)
{
    uint8_t code[16];
    struct kvm_translation translation = {.linear_address = sregs->cs.base + regs->rip};
    if (ioctl(kvm_vcpu(vcpu)->fd, KVM_TRANSLATE, &translation) < 0 || !translation.valid ||
        !space_read(vcpu->vm->memory, translation.physical_address, code, sizeof(code))) {
        g_string_append(text, "; code unreadable");
        return;
    }
    g_string_append(text, "; code:");
    for (size_t i = 0; i < sizeof(code); i++)
        g_string_append_printf(text, " %02x", code[i]);
}

static VcpuExit run_error(Vcpu *vcpu, GString *text)
{
    struct kvm_regs regs = {0};
    struct kvm_sregs sregs = {0};
    int fd = kvm_vcpu(vcpu)->fd;
    if (ioctl(fd, KVM_GET_REGS, &regs) == 0 && ioctl(fd, KVM_GET_SREGS, &sregs) == 0) {
        g_string_append_printf(
            text, "; CPU %u at %04x:%#llx, cr0 %#llx, cr3 %#llx, cr4 %#llx, efer %#llx",
            vcpu->index, sregs.cs.selector, regs.rip, sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer);
        append_code(text, vcpu, &sregs, &regs);
    }
    g_string_append(text, "; --engine soft does without KVM");
    g_free(vcpu->error);
    vcpu->error = g_string_free(text, FALSE);
    return VCPU_EXIT_ERROR;
}

static VcpuExit other_error(Vcpu *vcpu)
{
    const struct kvm_run *run = kvm_vcpu(vcpu)->run;
    GString *text = g_string_new(NULL);
    g_string_printf(text, "KVM stopped for a reason unknown here (%u, hardware %#llx)",
                    run->exit_reason,
                    run->exit_reason == KVM_EXIT_UNKNOWN ? run->hw.hardware_exit_reason : 0);
    return run_error(vcpu, text);
}

/* ---- exits ----------------------------------------------------------------------------------- */

static uint64_t load_le(const uint8_t *from, unsigned size)
{
    uint64_t value = 0;
    memcpy(&value, from, size);
    return value;
}

/* INS and OUTS come as one exit with `count` items. */
static void exit_io(Vcpu *vcpu)
{
    const struct kvm_run *run = kvm_vcpu(vcpu)->run;
    AddressSpace *ports = vcpu->vm->ports;
    uint8_t *data = (uint8_t *)run + run->io.data_offset;
    unsigned size = run->io.size;
    for (uint32_t i = 0; i < run->io.count; i++, data += size) {
        if (run->io.direction == KVM_EXIT_IO_OUT) {
            space_store(ports, run->io.port, size, load_le(data, size));
        } else {
            uint64_t value = space_load(ports, run->io.port, size);
            memcpy(data, &value, size);
        }
    }
}

static void exit_mmio(Vcpu *vcpu)
{
    struct kvm_run *run = kvm_vcpu(vcpu)->run;
    unsigned size = MIN(run->mmio.len, sizeof(run->mmio.data));
    if (run->mmio.is_write) {
        space_store(vcpu->vm->memory, run->mmio.phys_addr, size, load_le(run->mmio.data, size));
    } else {
        uint64_t value = space_load(vcpu->vm->memory, run->mmio.phys_addr, size);
        memcpy(run->mmio.data, &value, size);
    }
}

/* Devices take the board lock, which may be held by whoever waits for us: not guest code. */
static VcpuExit exit_outside(Vcpu *vcpu)
{
    KvmVcpu *cpu = kvm_vcpu(vcpu);
    vcpu_leave(vcpu);
    switch (cpu->run->exit_reason) {
    case KVM_EXIT_IO:
        cpu->io++;
        exit_io(vcpu);
        break;
    case KVM_EXIT_MMIO:
        cpu->mmio++;
        exit_mmio(vcpu);
        break;
    case KVM_EXIT_IOAPIC_EOI:
        cpu->eois++;
        if (vcpu->vm->eoi)
            vcpu->vm->eoi(vcpu->vm->obj, cpu->run->eoi.vector);
        break;
    }
    vcpu_enter(vcpu);
    return VCPU_EXIT_KICKED;
}

static VcpuExit exit_none(Vcpu *vcpu)
{
    return VCPU_EXIT_KICKED;
}

static VcpuExit exit_halted(Vcpu *vcpu)
{
    return VCPU_EXIT_HALTED;
}

static VcpuExit exit_shutdown(Vcpu *vcpu)
{
    return VCPU_EXIT_SHUTDOWN;
}

/* VCPU_EXIT_KICKED: look at requests and go on. */
static VcpuExit (*const exits[])(Vcpu *vcpu) = {
    [KVM_EXIT_IO] = exit_outside,
    [KVM_EXIT_MMIO] = exit_outside,
    [KVM_EXIT_IOAPIC_EOI] = exit_outside,
    [KVM_EXIT_HLT] = exit_halted,
    [KVM_EXIT_SHUTDOWN] = exit_shutdown,
    [KVM_EXIT_IRQ_WINDOW_OPEN] = exit_none,
    [KVM_EXIT_INTR] = exit_none,
    [KVM_EXIT_SET_TPR] = exit_none,
    [KVM_EXIT_INTERNAL_ERROR] = kvm_hand_over, /* it cannot emulate an instruction, … */
    [KVM_EXIT_FAIL_ENTRY] = kvm_hand_over,     /* the hardware refuses the guest's state */
};

static VcpuExit handle_exit(Vcpu *vcpu)
{
    uint32_t reason = kvm_vcpu(vcpu)->run->exit_reason;
    kvm_vcpu(vcpu)->exits++;
    if (reason < G_N_ELEMENTS(exits) && exits[reason])
        return exits[reason](vcpu);
    return other_error(vcpu);
}

/* ---- the run loop ---------------------------------------------------------------------------- */

static void set_up_thread(KvmVcpu *cpu)
{
    sigset_t blocked, others;
    sigemptyset(&blocked);
    sigaddset(&blocked, KICK_SIGNAL);
    pthread_sigmask(SIG_BLOCK, &blocked, &others);
    sigdelset(&others, KICK_SIGNAL);

    g_autofree struct kvm_signal_mask *mask = g_malloc0(sizeof(*mask) + 8);
    mask->len = 8; /* the kernel's sigset_t */
    memcpy(mask->sigset, &others, 8);
    ioctl(cpu->fd, KVM_SET_SIGNAL_MASK, mask);
    cpu->thread = pthread_self();
    atomic_store(&cpu->thread_known, true);
}

static void eat_kicks(KvmVcpu *cpu)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, KICK_SIGNAL);
    cpu->kicks++;
    while (sigtimedwait(&set, NULL, &(struct timespec){0}) > 0)
        continue;
}

static void kvm_kick(Vcpu *vcpu)
{
    KvmVcpu *cpu = kvm_vcpu(vcpu);
    __atomic_store_n(&cpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    if (vcpu_current() != vcpu && atomic_load(&cpu->thread_known))
        pthread_kill(cpu->thread, KICK_SIGNAL);
}

static VcpuExit run_failed(Vcpu *vcpu, const char *what, int error)
{
    GString *text = g_string_new(NULL);
    g_string_printf(text, "KVM cannot %s: %s", what, g_strerror(error));
    return run_error(vcpu, text);
}

static VcpuExit run_once(Vcpu *vcpu)
{
    KvmVcpu *cpu = kvm_vcpu(vcpu);
    if (atomic_fetch_and(&vcpu->requests, ~VCPU_REQUEST_NMI) & VCPU_REQUEST_NMI)
        for (unsigned nmis = MIN(atomic_exchange(&vcpu->nmis, 0), 2); nmis; nmis--)
            ioctl(cpu->fd, KVM_NMI, 0);
    kvm_inject_extint(vcpu);
    int slot_errno = atomic_load(&kvm_vm(vcpu->vm)->slot_errno);
    if (slot_errno)
        return run_failed(vcpu, "map the guest's memory", slot_errno);
    if (ioctl(cpu->fd, KVM_RUN, 0) == 0)
        return handle_exit(vcpu);
    if (errno != EINTR && errno != EAGAIN)
        return run_failed(vcpu, "run the guest", errno);
    if (errno == EINTR)
        eat_kicks(cpu);
    return VCPU_EXIT_KICKED;
}

/*
 * An I/O exit is finished by the next KVM_RUN: we leave only after one that had nothing to finish,
 * else a state taken outside would be in the middle of an instruction (api.rst, KVM_RUN).
 */
static VcpuExit kvm_run(Vcpu *vcpu)
{
    KvmVcpu *cpu = kvm_vcpu(vcpu);
    const uint32_t handled_here = VCPU_REQUEST_INTERRUPT | VCPU_REQUEST_NMI;
    if (!atomic_load(&cpu->thread_known))
        set_up_thread(cpu);
    for (bool unfinished = false;;) {
        __atomic_store_n(&cpu->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
        atomic_fetch_and(&vcpu->requests, ~VCPU_REQUEST_INTERRUPT);
        bool leave = atomic_load(&vcpu->requests) & ~handled_here;
        if (leave && !unfinished)
            return VCPU_EXIT_KICKED;
        if (leave)
            __atomic_store_n(&cpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
        uint64_t before = cpu->io + cpu->mmio;
        VcpuExit exit = run_once(vcpu);
        if (exit != VCPU_EXIT_KICKED)
            return exit;
        unfinished = cpu->io + cpu->mmio != before;
    }
}

static void kvm_counters(Vcpu *vcpu, Counters *counters)
{
    const KvmVcpu *cpu = kvm_vcpu(vcpu);
    counters_set(counters, COUNTER_KVM_EXITS, cpu->exits);
    counters_set(counters, COUNTER_PIO, cpu->io);
    counters_set(counters, COUNTER_MMIO, cpu->mmio);
    counters_set(counters, COUNTER_KVM_KICKS, cpu->kicks);
    counters_set(counters, COUNTER_KVM_EOIS, cpu->eois);
    counters_set(counters, COUNTER_KVM_EXTINTS, cpu->extints);
    counters_set(counters, COUNTER_KVM_HAND_OVERS, cpu->hand_overs);
    counters_set(counters, COUNTER_INTERPRETED, cpu->emulated);
}

const Engine engine_kvm = {
    .name = "kvm",
    .description = N_("hardware virtualization through /dev/kvm"),
    .probe = kvm_probe,
    .runs_stock_guests = kvm_runs_stock_guests,
    .features = kvm_features,
    .vm_init = kvm_vm_init,
    .vm_clear = kvm_vm_clear,
    .vcpu_init = kvm_vcpu_init,
    .vcpu_clear = kvm_vcpu_clear,
    .run = kvm_run,
    .kick = kvm_kick,
    .get_state = kvm_get_state,
    .set_state = kvm_set_state,
    .send_msi = kvm_send_msi,
    .set_extint = kvm_set_extint,
    .reset_apic = kvm_reset_apic,
    .get_apic = kvm_get_apic,
    .set_apic = kvm_set_apic,
    .get_shared = kvm_get_shared,
    .set_shared = kvm_set_shared,
    .time_stood_still = kvm_time_stood_still,
    .counters = kvm_counters,
};
