/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Register, MSR and message storm on two local APICs. */
#include "base/bits.h"
#include "device/chipset/lapic_test_cpu.h"
#include "device/fuzz.h"

static void step(TestBoard *b, LapicBus *bus, Lapic *l, const uint8_t *data)
{
    uint64_t value = load_le64(data + 8);
    switch (data[0] % 8) {
    case 0:
        lapic_intc.write_msr(l, 0x800 + data[1], value);
        break;
    case 1:
        lapic_intc.read_msr(l, 0x800 + data[1], &value);
        break;
    case 2:
        lapic_intc.write_msr(l, data[1] & 1 ? 0x1b : 0x6e0,
                             data[1] & 1 ? LAPIC_BASE | (value & 0xf00) : value);
        break;
    case 3:
        lapic_bus_deliver_msi(bus, LAPIC_BASE | (value & 0xfffff), data[2] | data[3] << 8);
        break;
    case 4:
        irq_set(lapic_bus_lint(bus, data[1] & 1), data[1] & 2);
        break;
    case 5:
        lapic_intc.take_interrupt(l);
        break;
    case 6:
        clock_advance(b->board.clock, value % NS_PER_MS);
        break;
    default:
        lapic_mmio_write(l, (data[1] & 0x3f) << 4, 4, (uint32_t)value);
        break;
    }
    lapic_mmio_read(l, load_le16(data + 2) & 0xfff, 4);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(TestBoard) b = test_board_new();
    LapicBus bus;
    TestCpu cpus[2] = {0};
    lapic_bus_init(&bus);
    for (unsigned i = 0; i < 2; i++)
        test_cpu_create(&cpus[i], b, &bus, i);
    for (; size >= 16; data += 16, size -= 16)
        step(b, &bus, cpus[data[4] & 1].lapic, data);
    for (unsigned i = 0; i < 2; i++)
        device_free(&cpus[i].lapic->device);
    return 0;
}
