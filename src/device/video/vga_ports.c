/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The registers of a VGA at ports 0x3b4 to 0x3df. Source: IBM VGA, "Programming Considerations" and
 * the chapters of its register groups.
 *
 *   3b4/3b5 or 3d4/3d5  CRT controller     3c0/3c1  attribute controller (flip-flop)
 *   3ba or 3da          status 1, feature  3c2/3cc  miscellaneous output   3c4/3c5  sequencer
 *   3c6 … 3c9           DAC                3ca      feature (read)         3ce/3cf  graphics
 */
#include "device/video/vga_private.h"

static const uint8_t seq_mask[5] = {0x03, 0x3d, 0x0f, 0x3f, 0x0e};
static const uint8_t gfx_mask[9] = {0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff};
static const uint8_t attr_mask[21] = {
    0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f,
    0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0xef, 0xff, 0x3f, 0x0f, 0x0f,
};

/* Ports of the half (0x3bx or 0x3dx) that misc bit 0 did not choose are dead. */
static bool port_decoded(const Vga *vga, unsigned port)
{
    bool color = vga->misc & MISC_COLOR;
    return port < 0x10 ? !color : port < 0x20 || color;
}

/* ---- attribute controller -------------------------------------------------------------------- */

static void attr_write(Vga *vga, uint8_t value)
{
    if (!vga->attr_data) {
        vga->attr_index = value & 0x3f;
    } else {
        unsigned index = vga->attr_index & 0x1f;
        if (index < G_N_ELEMENTS(vga->attr))
            vga->attr[index] = value & attr_mask[index];
    }
    vga->attr_data = !vga->attr_data;
    vga->redraw = true;
}

static uint8_t attr_read(const Vga *vga)
{
    unsigned index = vga->attr_index & 0x1f;
    return index < G_N_ELEMENTS(vga->attr) ? vga->attr[index] : 0;
}

/* ---- DAC ------------------------------------------------------------------------------------- */

/* Next component; true after blue. */
static bool dac_step(Vga *vga)
{
    vga->dac_component = (vga->dac_component + 1) % 3;
    return vga->dac_component == 0;
}

static void dac_write(Vga *vga, uint8_t value)
{
    uint8_t mask = vga->dispi[VGA_DISPI_ENABLE] & DISPI_8BIT_DAC ? 0xff : 0x3f;
    vga->dac[vga->dac_write_index * 3 + vga->dac_component] = value & mask;
    if (dac_step(vga))
        vga->dac_write_index++;
    vga->redraw = true;
}

static uint8_t dac_read(Vga *vga)
{
    uint8_t value = vga->dac[vga->dac_read_index * 3 + vga->dac_component];
    if (dac_step(vga))
        vga->dac_read_index++;
    return value;
}

/* ---- CRT controller -------------------------------------------------------------------------- */

static void crtc_write(Vga *vga, uint8_t value)
{
    unsigned index = vga->crtc_index;
    if (index >= G_N_ELEMENTS(vga->crtc))
        return;
    /* Bit 7 of register 0x11 protects 0 to 7, but for bit 8 of the line compare. */
    if (index <= CRTC_OVERFLOW && vga->crtc[CRTC_V_SYNC_END] & 0x80) {
        if (index != CRTC_OVERFLOW)
            return;
        value = (vga->crtc[index] & ~0x10) | (value & 0x10);
    }
    vga->crtc[index] = value;
    vga->redraw = true;
}

static uint8_t crtc_read(const Vga *vga)
{
    if (vga->crtc_index < G_N_ELEMENTS(vga->crtc))
        return vga->crtc[vga->crtc_index];
    /* Undocumented, but tests for a VGA use them: the latch and the attribute flip-flop. */
    if (vga->crtc_index == 0x22)
        return vga->latch >> (8 * (vga->gfx[GFX_READ_MAP] & 3));
    if (vga->crtc_index == 0x24)
        return vga->attr_data ? 0x80 : 0;
    return 0;
}

/* ---- all ports ------------------------------------------------------------------------------- */

static void seq_write(Vga *vga, uint8_t value)
{
    if (vga->seq_index >= G_N_ELEMENTS(vga->seq))
        return;
    vga->seq[vga->seq_index] = value & seq_mask[vga->seq_index];
    vga->redraw = true;
    vga_update_window(vga);
}

static void gfx_write(Vga *vga, uint8_t value)
{
    if (vga->gfx_index >= G_N_ELEMENTS(vga->gfx))
        return;
    uint8_t *reg = &vga->gfx[vga->gfx_index];
    value &= gfx_mask[vga->gfx_index];
    /* Programs that draw write the others all the time; these two change the picture. */
    if (*reg != value && (vga->gfx_index == GFX_MODE || vga->gfx_index == GFX_MISC))
        vga->redraw = true;
    *reg = value;
    vga_update_window(vga);
}

static uint8_t status1_read(Vga *vga)
{
    vga->attr_data = false;
    return vga_retrace_status(vga);
}

uint8_t vga_read_port(Vga *vga, unsigned port)
{
    if (!port_decoded(vga, port))
        return 0xff;
    switch (VGA_PORT_BASE + port) {
    case 0x3b4:
    case 0x3d4:
        return vga->crtc_index;
    case 0x3b5:
    case 0x3d5:
        return crtc_read(vga);
    case 0x3ba:
    case 0x3da:
        return status1_read(vga);
    case 0x3c0:
        return vga->attr_index;
    case 0x3c1:
        return attr_read(vga);
    case 0x3c2:
        return 0x10; /* status 0: the monitor's sense line; no retrace interrupt */
    case 0x3c3:
        return 0x01; /* the adapter is enabled for good */
    case 0x3c4:
        return vga->seq_index;
    case 0x3c5:
        return vga->seq_index < G_N_ELEMENTS(vga->seq) ? vga->seq[vga->seq_index] : 0;
    case 0x3c6:
        return vga->dac_mask;
    case 0x3c7:
        return vga->dac_reading ? 3 : 0;
    case 0x3c8:
        return vga->dac_write_index;
    case 0x3c9:
        return dac_read(vga);
    case 0x3ca:
        return vga->feature;
    case 0x3cc:
        return vga->misc;
    case 0x3ce:
        return vga->gfx_index;
    case 0x3cf:
        return vga->gfx_index < G_N_ELEMENTS(vga->gfx) ? vga->gfx[vga->gfx_index] : 0;
    default:
        return 0xff;
    }
}

static void misc_write(Vga *vga, uint8_t value)
{
    vga->misc = value & ~0x10;
    vga->redraw = true;
    vga_update_window(vga);
}

static void dac_select(Vga *vga, uint8_t index, bool reading)
{
    vga->dac_reading = reading;
    vga->dac_component = 0;
    if (reading)
        vga->dac_read_index = index;
    else
        vga->dac_write_index = index;
}

void vga_write_port(Vga *vga, unsigned port, uint8_t value)
{
    if (!port_decoded(vga, port))
        return;
    switch (VGA_PORT_BASE + port) {
    case 0x3b4:
    case 0x3d4:
        vga->crtc_index = value & 0x3f;
        break;
    case 0x3b5:
    case 0x3d5:
        crtc_write(vga, value);
        break;
    case 0x3ba:
    case 0x3da:
        vga->feature = value & 0x0b;
        break;
    case 0x3c0:
    case 0x3c1: /* a word written to 0x3c0 is index and data */
        attr_write(vga, value);
        break;
    case 0x3c2:
        misc_write(vga, value);
        break;
    case 0x3c4:
        vga->seq_index = value & 0x07;
        break;
    case 0x3c5:
        seq_write(vga, value);
        break;
    case 0x3c6:
        vga->dac_mask = value;
        vga->redraw = true;
        break;
    case 0x3c7:
        dac_select(vga, value, true);
        break;
    case 0x3c8:
        dac_select(vga, value, false);
        break;
    case 0x3c9:
        dac_write(vga, value);
        break;
    case 0x3ce:
        vga->gfx_index = value & 0x0f;
        break;
    case 0x3cf:
        gfx_write(vga, value);
        break;
    }
}

static uint64_t ports_read(void *obj, uint64_t offset, unsigned size)
{
    return vga_read_port(obj, offset);
}

static void ports_write(void *obj, uint64_t offset, unsigned size, uint64_t value)
{
    vga_write_port(obj, offset, value);
}

/* A word is two bytes at two ports: index and data in one instruction. */
const RegionOps vga_port_ops = {
    .name = "vga-ports",
    .read = ports_read,
    .write = ports_write,
    .max_access = 1,
};
