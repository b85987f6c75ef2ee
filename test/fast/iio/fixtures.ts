import type { ChannelDescription, ContextDescription, DeviceDescription } from '@iio-bridge/protocol';
import type { LocalContext } from '../../../src/iio/context.js';
import { type DiscoveryOptions, discoverContext } from '../../../src/iio/discovery.js';
import { MemorySysfs } from '../../../src/iio/sysfs-tree.js';

export const HOST = {
  sysname: 'Linux',
  nodename: 'pluto',
  release: '6.12.0',
  version: '#1 SMP PREEMPT',
  machine: 'armv7l',
};

export function discover(text: string, options: Partial<DiscoveryOptions> = {}): LocalContext {
  return discoverContext(MemorySysfs.fromText(text), { host: HOST, ...options });
}

/** Files of one device, one name (`name = value`) a line. */
export function discoverDevice(files: string, more = ''): DeviceDescription {
  return onlyDevice(discover(`[/sys/bus/iio/devices/iio:device0]\n${files}\n${more}`).description);
}

export function onlyDevice(context: ContextDescription): DeviceDescription {
  const [device, ...others] = context.devices;
  if (device === undefined || others.length > 0) throw new Error(`${context.devices.length} devices instead of one`);
  return device;
}

/** Direction, id, extended name and attributes: `in voltage0 "vccint": raw scale`. */
export function summarise(channel: ChannelDescription): string {
  const name = channel.name === undefined ? '' : ` "${channel.name}"`;
  return `${channel.direction} ${channel.id}${name}: ${channel.attributes.map((entry) => entry.name).join(' ')}`.trimEnd();
}

/** An AD9361 transceiver with its capture and DDS cores, as on a Pluto. */
export const AD9361 = `
[/sys/bus/iio/devices/iio:device0]
name = ad9361-phy
dev = 240:0
uevent = MAJOR=240
calib_mode = auto
calib_mode_available = auto manual
ensm_mode = fdd
xo_correction = 40000000
in_out_voltage_filter_fir_en = 0
in_temp0_input = 31000
in_voltage0_gain_control_mode = slow_attack
in_voltage0_hardwaregain = 71.0 dB
in_voltage0_rssi = 100 dB
in_voltage1_hardwaregain = 71.0 dB
in_voltage1_rssi = 100 dB
in_voltage2_offset = 57
in_voltage2_raw = 0
in_voltage2_scale = 0.305250
in_voltage_bb_dc_offset_tracking_en = 1
in_voltage_gain_control_mode_available = manual slow_attack
in_voltage_rf_bandwidth = 18000000
in_voltage_sampling_frequency = 30720000
out_altvoltage0_RX_LO_external = 0
out_altvoltage0_RX_LO_fastlock_load = 0
out_altvoltage0_RX_LO_frequency = 2400000000
out_altvoltage0_RX_LO_powerdown = 0
out_altvoltage1_TX_LO_frequency = 2450000000
out_altvoltage1_TX_LO_powerdown = 0
out_voltage0_hardwaregain = -10 dB
out_voltage1_hardwaregain = -10 dB
out_voltage2_raw = 306
out_voltage10_raw = 306
out_voltage_sampling_frequency = 30720000
[/sys/bus/iio/devices/iio:device0/power]
control = auto
[/sys/kernel/debug/iio/iio:device0]
loopback = 0
direct_reg_access = 0x0
bist_prbs = 0
[/sys/bus/iio/devices/iio:device10]
name = cf-ad9361-lpc
in_voltage0_calibbias = 0
in_voltage0_calibscale = 1.0
in_voltage1_calibbias = 0
in_voltage_sampling_frequency = 30720000
sync_start_enable = arm
[/sys/bus/iio/devices/iio:device10/buffer]
data_available = 0
direction = in
enable = 0
length = 0
length_align_bytes = 8
watermark = 0
[/sys/bus/iio/devices/iio:device10/buffer0]
data_available = 0
in_voltage0_en = 0
in_voltage0_index = 0
in_voltage0_type = le:S12/16>>0
[/sys/bus/iio/devices/iio:device10/scan_elements]
in_voltage1_en = 0
in_voltage1_index = 1
in_voltage1_type = le:S12/16>>0
in_voltage0_en = 0
in_voltage0_index = 0
in_voltage0_type = le:S12/16>>0
[/sys/bus/iio/devices/iio:device2]
name = cf-ad9361-dds-core-lpc
out_altvoltage0_TX1_I_F1_frequency = 0
out_altvoltage0_TX1_I_F1_phase = 0
out_altvoltage0_TX1_I_F1_raw = 0
out_altvoltage1_TX1_I_F2_frequency = 0
out_altvoltage1_TX1_I_F2_phase = 0
out_altvoltage_sampling_frequency = 30720000
out_voltage0_calibscale = 1
out_voltage1_calibscale = 1
[/sys/bus/iio/devices/iio:device2/buffer]
data_available = 0
enable = 0
length = 0
[/sys/bus/iio/devices/iio:device2/scan_elements]
out_voltage0_en = 0
out_voltage0_index = 0
out_voltage0_type = le:S16/16>>0
out_voltage1_en = 0
out_voltage1_index = 1
out_voltage1_type = le:S16/16>>0
[/sys/class/hwmon/hwmon0]
name = cpu
temp1_input = 40000
temp1_label = core
temp1_crit = 90000
fan1_input = 1200
pwm1 = 128
pwm1_enable = 1
update_interval = 1000
`;

/** The converters, triggers and digital pins of an ADALM2000. */
export const M2K = `
[/sys/bus/iio/devices/iio:device1]
name = m2k-adc
in_voltage0_calibbias = 2048
in_voltage1_calibbias = 2048
in_voltage_oversampling_ratio = 1
in_voltage_sampling_frequency = 100000000
in_voltage_sampling_frequency_available = 1000 10000 100000000
[/sys/bus/iio/devices/iio:device1/buffer]
data_available = 0
enable = 0
length = 0
length_align_bytes = 8
watermark = 0
[/sys/bus/iio/devices/iio:device1/scan_elements]
in_voltage0_en = 0
in_voltage0_index = 0
in_voltage0_type = le:s12/16>>0
in_voltage1_en = 0
in_voltage1_index = 1
in_voltage1_type = le:s12/16>>0
[/sys/bus/iio/devices/iio:device2]
name = m2k-adc-trigger
in_voltage0_logic_mode = a
in_voltage0_mode = always
in_voltage0_trigger = edge-rising
in_voltage0_trigger_hysteresis = 0
in_voltage0_trigger_level = 0
in_voltage6_logic_mode = a
in_voltage6_logic_mode_available = a b a_AND_b
trigger_delay = 0
[/sys/bus/iio/devices/iio:device3]
name = m2k-fabric
in_voltage0_gain = high
in_voltage0_gain_available = low high
in_voltage1_gain = high
out_voltage0_powerdown = 1
out_voltage2_user_supply_powerdown = 1
out_voltage2_user_supply_raw = 0
out_voltage_powerdown_available = 0 1
calibration_mode = none
[/sys/bus/iio/devices/iio:device10]
name = m2k-logic-analyzer-tx
out_voltage0_direction = in
out_voltage0_outputmode = push-pull
out_voltage0_raw = 0
out_voltage15_direction = in
out_voltage15_outputmode = push-pull
out_voltage15_raw = 0
out_voltage_outputmode_available = push-pull open-drain
sampling_frequency = 100000000
[/sys/bus/iio/devices/iio:device10/buffer]
direction = out
enable = 0
length = 0
watermark = 0
[/sys/bus/iio/devices/iio:device10/scan_elements]
out_voltage0_en = 0
out_voltage0_index = 0
out_voltage0_type = le:u16/16>>0
[/sys/bus/iio/devices/iio:device4]
name = m2k-logic-analyzer-rx
sampling_frequency = 100000000
[/sys/bus/iio/devices/iio:device4/buffer]
enable = 0
length = 0
[/sys/bus/iio/devices/iio:device4/scan_elements]
in_voltage0_en = 0
in_voltage0_index = 0
in_voltage0_type = le:u16/16>>0
`;
