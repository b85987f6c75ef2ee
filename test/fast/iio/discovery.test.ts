import { contextFromXml, contextToXml, IioError } from '@iio-bridge/protocol';
import { describe, expect, it } from 'vitest';
import { discoverContext } from '../../../src/iio/discovery.js';
import { MemorySysfs } from '../../../src/iio/sysfs-tree.js';
import { AD9361, discover, discoverDevice, HOST, M2K, onlyDevice, summarise } from './fixtures.js';

function names(attributes: readonly { readonly name: string }[]): string[] {
  return attributes.map(({ name }) => name);
}

describe('a transceiver', () => {
  const context = discover(AD9361);
  const [hwmon, phy, adc, dds] = context.description.devices;

  it('gives devices in plain byte order', () => {
    expect(context.description.devices.map(({ id, name }) => `${id} ${name}`)).toEqual([
      'hwmon0 cpu',
      'iio:device0 ad9361-phy',
      'iio:device10 cf-ad9361-lpc',
      'iio:device2 cf-ad9361-dds-core-lpc',
    ]);
    expect(context.warnings).toEqual([]);
  });

  it('gives the transceiver the channels that programs know', () => {
    expect(phy?.channels.map(summarise)).toEqual([
      'in out: voltage_filter_fir_en',
      'in temp0: input',
      'in voltage0: bb_dc_offset_tracking_en gain_control_mode gain_control_mode_available hardwaregain rf_bandwidth rssi sampling_frequency',
      'in voltage1: bb_dc_offset_tracking_en gain_control_mode_available hardwaregain rf_bandwidth rssi sampling_frequency',
      'in voltage2: bb_dc_offset_tracking_en gain_control_mode_available offset raw rf_bandwidth sampling_frequency scale',
      'out altvoltage0 "RX_LO": external fastlock_load frequency powerdown',
      'out altvoltage1 "TX_LO": frequency powerdown',
      'out voltage0: hardwaregain sampling_frequency',
      'out voltage1: hardwaregain sampling_frequency',
      'out voltage2: raw sampling_frequency',
      'out voltage10: raw sampling_frequency',
    ]);
    expect(names(phy?.attributes ?? [])).toEqual(['calib_mode', 'calib_mode_available', 'ensm_mode', 'xo_correction']);
    expect(names(phy?.debugAttributes ?? [])).toEqual(['bist_prbs', 'direct_reg_access', 'loopback']);
    expect(phy?.buffers).toEqual([]);
  });

  it('gives the capture core its scan elements and one buffer', () => {
    expect(adc?.channels.map(summarise)).toEqual([
      'in voltage0: calibbias calibscale sampling_frequency',
      'in voltage1: calibbias sampling_frequency',
    ]);
    expect(adc?.channels.map(({ scanElement }) => scanElement)).toEqual(
      [0, 1].map((index) => ({
        index,
        format: {
          endianness: 'le',
          signed: true,
          fullyDefined: true,
          bits: 12,
          storageBits: 16,
          repeat: 1,
          shift: 0,
        },
      })),
    );
    expect(adc?.buffers).toEqual([
      {
        index: 0,
        direction: 'in',
        attributes: [{ name: 'data_available' }, { name: 'direction' }, { name: 'length_align_bytes' }],
        channels: [0, 1],
      },
    ]);
    expect(names(adc?.attributes ?? [])).toEqual(['sync_start_enable']);
  });

  it('puts the DDS tones behind the scan elements, and takes the buffer without direction for an output', () => {
    expect(dds?.channels.map(summarise)).toEqual([
      'out voltage0: calibscale',
      'out voltage1: calibscale',
      'out altvoltage0 "TX1_I_F1": frequency phase raw sampling_frequency',
      'out altvoltage1 "TX1_I_F2": frequency phase sampling_frequency',
    ]);
    expect(dds?.buffers.map(({ direction, channels }) => [direction, channels])).toEqual([['out', [0, 1]]]);
  });

  it('gives hwmon chips as devices without buffers', () => {
    expect(hwmon?.channels.map(summarise)).toEqual([
      'in fan1: input',
      'in pwm1: enable pwm1',
      'in temp1: crit input label',
    ]);
    expect(hwmon?.channels[2]?.label).toBe('core');
    expect(names(hwmon?.attributes ?? [])).toEqual(['update_interval']);
    expect(discover(AD9361, { hwmon: false }).description.devices).toHaveLength(3);
  });

  it('finds the file behind every attribute of the document', () => {
    const device = context.description.devices.findIndex(({ id }) => id === 'iio:device0');
    const sub = phy?.channels.findIndex(({ id }) => id === 'altvoltage0') ?? -1;
    const sysfs = '/sys/bus/iio/devices';
    expect(context.attributePath({ kind: 'channel', device, sub, attribute: 2 })).toBe(
      `${sysfs}/iio:device0/out_altvoltage0_RX_LO_frequency`,
    );
    expect(context.attributePath({ kind: 'device', device, attribute: 2 })).toBe(`${sysfs}/iio:device0/ensm_mode`);
    expect(context.attributePath({ kind: 'debug', device, attribute: 1 })).toBe(
      '/sys/kernel/debug/iio/iio:device0/direct_reg_access',
    );
    expect(context.attributePath({ kind: 'buffer', device: 2, sub: 0, attribute: 2 })).toBe(
      `${sysfs}/iio:device10/buffer/length_align_bytes`,
    );
    expect(context.attributePath({ kind: 'channel', device: 0, sub: 1, attribute: 1 })).toBe(
      '/sys/class/hwmon/hwmon0/pwm1',
    );
    for (const missing of [
      { kind: 'device', device: 200, attribute: 0 },
      { kind: 'device', device, attribute: 99 },
      { kind: 'channel', device, sub: 99, attribute: 0 },
      { kind: 'buffer', device: 2, sub: 1, attribute: 0 },
      { kind: 'event', device, attribute: 0 },
    ] as const) {
      expect(context.attributePath(missing)).toBeUndefined();
    }
  });

  it('has a file for every attribute that the document lists', () => {
    const tree = MemorySysfs.fromText(AD9361);
    let checked = 0;
    const check = (path: string | undefined, filename: string): void => {
      expect(path).toMatch(new RegExp(`/${filename}$`));
      expect(tree.read(path ?? '')).toBeDefined();
      checked += 1;
    };
    context.description.devices.forEach((description, device) => {
      description.attributes.forEach(({ name }, attribute) => {
        check(context.attributePath({ kind: 'device', device, attribute }), name);
      });
      description.channels.forEach((channel, sub) => {
        channel.attributes.forEach(({ name, filename }, attribute) => {
          check(context.attributePath({ kind: 'channel', device, sub, attribute }), filename ?? name);
        });
      });
    });
    expect(checked).toBeGreaterThan(50);
  });

  it('names the files that enable a scan element', () => {
    const local = context.devices[2];
    expect(local?.characterDevice).toBe('/dev/iio:device10');
    expect(local?.buffers[0]?.enablePath).toBe('/sys/bus/iio/devices/iio:device10/buffer/enable');
    expect([...(local?.buffers[0]?.scanElements.keys() ?? [])]).toEqual([0, 1]);
    expect(local?.buffers[0]?.scanElements.get(1)?.enable).toBe(
      '/sys/bus/iio/devices/iio:device10/scan_elements/in_voltage1_en',
    );
  });

  it('survives the XML, and stays below what a libiio host can take', () => {
    const xml = contextToXml(context.description);
    expect(contextFromXml(xml)).toEqual(context.description);
    expect(xml.length).toBeLessThan(65536);
  });

  it('does not depend on the order in which the directory lists its files', () => {
    const reversed = AD9361.trim()
      .split(/\n(?=\[)/)
      .map((section) => {
        const [header, ...files] = section.split('\n');
        return [header, ...files.toReversed()].join('\n');
      })
      .toReversed()
      .join('\n');
    expect(reversed).not.toBe(AD9361.trim());
    expect(contextToXml(discover(reversed).description)).toBe(contextToXml(context.description));
  });
});

describe('an instrument with analogue and digital pins', () => {
  const { description, warnings } = discover(M2K);
  const device = (name: string) => description.devices.find((candidate) => candidate.name === name);
  const channels = (name: string) => device(name)?.channels.map(summarise);

  it('has a device for each of its functions', () => {
    expect(description.devices.map(({ id, name }) => `${id} ${name}`)).toEqual([
      'iio:device1 m2k-adc',
      'iio:device10 m2k-logic-analyzer-tx',
      'iio:device2 m2k-adc-trigger',
      'iio:device3 m2k-fabric',
      'iio:device4 m2k-logic-analyzer-rx',
    ]);
    expect(warnings).toEqual([]);
  });

  it('shares rates among the channels of a converter', () => {
    expect(channels('m2k-adc')).toEqual([
      'in voltage0: calibbias oversampling_ratio sampling_frequency sampling_frequency_available',
      'in voltage1: calibbias oversampling_ratio sampling_frequency sampling_frequency_available',
    ]);
  });

  it('has a device named after a trigger that is none, with channels and no buffer', () => {
    expect(channels('m2k-adc-trigger')).toEqual([
      'in voltage0: logic_mode mode trigger trigger_hysteresis trigger_level',
      // As libiio has it: what all attributes of a channel begin with is its extended name.
      'in voltage6 "logic": mode mode_available',
    ]);
    expect(names(device('m2k-adc-trigger')?.attributes ?? [])).toEqual(['trigger_delay']);
    expect(device('m2k-adc-trigger')?.buffers).toEqual([]);
  });

  it('has a supply by its extended name beside channels without one', () => {
    expect(channels('m2k-fabric')).toEqual([
      'in voltage0: gain gain_available',
      'in voltage1: gain',
      'out voltage0: powerdown powerdown_available',
      'out voltage2 "user_supply": powerdown powerdown_available raw',
    ]);
  });

  it('has digital pins of which one stands for all in the samples', () => {
    expect(channels('m2k-logic-analyzer-tx')).toEqual([
      'out voltage0: direction outputmode outputmode_available raw',
      'out voltage15: direction outputmode outputmode_available raw',
    ]);
    expect(device('m2k-logic-analyzer-tx')?.buffers).toEqual([
      { index: 0, direction: 'out', attributes: [{ name: 'direction' }], channels: [0] },
    ]);
    expect(device('m2k-logic-analyzer-rx')?.buffers.map(({ direction }) => direction)).toEqual(['in']);
  });

  it('survives the XML', () => {
    expect(contextFromXml(contextToXml(description))).toEqual(description);
  });
});

describe('an inertial sensor', () => {
  const device = discoverDevice(
    `
    name = imu
    label = front
    current_timestamp_clock = realtime
    sampling_frequency = 100
    in_accel_x_raw = 1
    in_accel_x_calibbias = 0
    in_accel_y_raw = 1
    in_accel_scale = 0.01
    in_accel_mount_matrix = 1
    in_anglvel_z_raw = 2
    in_anglvel_scale_available = 1 2
    in_temp_raw = 3
    in_temp_scale = 1
    in_rot_quaternion_raw = 0
    in_mount_matrix = 1`,
    `[/sys/bus/iio/devices/iio:device0/buffer]
    length = 2
    [/sys/bus/iio/devices/iio:device0/trigger]
    current_trigger = imu-dev0
    [/sys/bus/iio/devices/iio:device0/scan_elements]
    in_timestamp_en = 0
    in_timestamp_index = 9
    in_timestamp_type = le:s64/64>>0
    in_accel_x_en = 0
    in_accel_x_index = 1
    in_accel_x_type = be:s16/16>>0
    in_accel_y_en = 0
    in_accel_y_index = 0
    in_accel_y_type = be:s16/16>>0
    in_rot_quaternion_en = 0
    in_rot_quaternion_index = 5
    in_rot_quaternion_type = le:s32/32X4>>0`,
  );

  it('has modified, unnumbered and timestamp channels, scan elements first by their index', () => {
    expect(device.channels.map(summarise)).toEqual([
      'in accel_y: mount_matrix raw scale',
      'in accel_x: calibbias mount_matrix raw scale',
      'in rot_quaternion: raw',
      'in timestamp:',
      'in anglvel_z: raw scale_available',
      'in mount: matrix',
      'in temp: raw scale',
    ]);
    expect(device.channels.map(({ scanElement }) => scanElement?.index)).toEqual([
      0,
      1,
      5,
      9,
      undefined,
      undefined,
      undefined,
    ]);
    expect(device.channels[2]?.scanElement?.format.repeat).toBe(4);
    expect(device.buffers[0]?.channels).toEqual([0, 1, 2, 3]);
    expect(device.label).toBe('front');
    expect(names(device.attributes)).toEqual(['current_timestamp_clock', 'sampling_frequency']);
  });
});

it('a triggered device names the file that takes its trigger', () => {
  const { devices } = discover(`
    [/sys/bus/iio/devices/iio:device0/trigger]
    current_trigger
    [/sys/bus/iio/devices/iio:device1/trigger]`);
  expect(devices.map(({ currentTriggerPath }) => currentTriggerPath)).toEqual([
    '/sys/bus/iio/devices/iio:device0/trigger/current_trigger',
    undefined,
  ]);
});

describe('file names', () => {
  it.each([
    [
      'a differential pair',
      ['in_voltage0-voltage1_raw', 'in_voltage-voltage_scale'],
      ['in voltage0-voltage1: raw scale'],
    ],
    [
      'differential and single-ended inputs',
      ['in_voltage0-voltage1_raw', 'in_voltage2_raw', 'in_voltage-voltage_scale', 'in_voltage_offset'],
      ['in voltage0-voltage1: raw scale', 'in voltage2: offset raw'],
    ],
    [
      'differential inputs with a single-ended scale',
      ['in_voltage0-voltage1_raw', 'in_voltage_scale'],
      ['in voltage0-voltage1: raw scale'],
    ],
    [
      'a number and a modifier',
      ['in_voltage0_i_raw', 'in_intensity0_ir_raw'],
      ['in intensity0_ir: raw', 'in voltage0_i: raw'],
    ],
    [
      'a modifier that continues another',
      ['in_rot_from_north_magnetic_raw', 'in_rot_from_north_magnetic_tilt_comp_raw'],
      ['in rot_from_north_magnetic: raw', 'in rot_from_north_magnetic_tilt_comp: raw'],
    ],
    [
      'odd modifiers',
      ['in_accel_x&y&z_raw', 'in_magn_sqrt(x^2+y^2)_raw'],
      ['in accel_x&y&z: raw', 'in magn_sqrt(x^2+y^2): raw'],
    ],
    [
      'a word that begins like a modifier',
      ['in_temp_input', 'in_voltage0_iq_balance'],
      ['in temp: input', 'in voltage0: iq_balance'],
    ],
    [
      'a type with an underscore',
      ['in_delta_angl_x_raw', 'in_delta_angl_y_raw'],
      ['in delta_angl_x: raw', 'in delta_angl_y: raw'],
    ],
    [
      'both directions',
      ['in_voltage0_raw', 'out_voltage0_raw', 'out_voltage_scale'],
      ['in voltage0: raw', 'out voltage0: raw scale'],
    ],
    [
      'an attribute of a similar type',
      ['in_altvoltage0_raw', 'in_voltage_scale'],
      ['in altvoltage0: raw', 'in voltage: scale'],
    ],
    ['an extended name', ['in_voltage0_vccint_raw', 'in_voltage0_vccint_scale'], ['in voltage0 "vccint": raw scale']],
    ['an extended name on a single attribute', ['in_voltage0_vccint_raw'], ['in voltage0: vccint_raw']],
    [
      'extended names in a shared attribute',
      [
        'in_voltage0_a_raw',
        'in_voltage0_a_x',
        'in_voltage1_b_raw',
        'in_voltage1_b_x',
        'in_voltage_a_scale',
        'in_voltage_offset',
      ],
      ['in voltage0 "a": offset raw scale x', 'in voltage1 "b": offset raw x'],
    ],
    ['a common prefix of words, not letters', ['in_voltage0_rate', 'in_voltage0_raw'], ['in voltage0: rate raw']],
    ['no prefix that would leave an empty name', ['in_voltage0_a_', 'in_voltage0_a_b'], ['in voltage0: a_ a_b']],
    ['a prefix that is an attribute', ['in_voltage0_ch_a', 'in_voltage0_ch_a_b'], ['in voltage0 "ch": a a_b']],
    [
      'an attribute of its own next to a shared one',
      ['in_voltage0_scale', 'in_voltage1_raw', 'in_voltage_scale'],
      ['in voltage0: scale', 'in voltage1: raw scale'],
    ],
    [
      'natural order',
      ['in_voltage10_raw', 'in_voltage9_raw', 'in_temp0_raw'],
      ['in temp0: raw', 'in voltage9: raw', 'in voltage10: raw'],
    ],
  ])('%s', (_, files, channels) => {
    const device = discoverDevice(files.join('\n'));
    expect(device.channels.map(summarise)).toEqual(channels);
    expect(device.attributes).toEqual([]);
  });

  it('prefers a file of the channel to a shared one of the same short name', () => {
    const { channels } = discoverDevice('in_voltage0_scale\nin_voltage1_raw\nin_voltage_scale');
    const scales = channels.flatMap(({ attributes }) => attributes.filter(({ name }) => name === 'scale'));
    expect(scales.map(({ filename }) => filename)).toEqual(['in_voltage0_scale', 'in_voltage_scale']);
  });

  it('keeps the name of the shared file', () => {
    const [channel] = discoverDevice('in_voltage0_raw\nin_voltage_scale').channels;
    expect(channel?.attributes).toEqual([
      { name: 'raw', filename: 'in_voltage0_raw' },
      { name: 'scale', filename: 'in_voltage_scale' },
    ]);
  });

  it.each(['in', 'in_', 'in_x', 'in_voltage0', 'in__raw', 'in_voltage0_', 'input_mode', 'out_', 'outer_loop'])(
    'takes %s for an attribute of the device',
    (file) => {
      const device = discoverDevice(file);
      expect(names(device.attributes)).toEqual([file]);
      expect(device.channels).toEqual([]);
    },
  );

  it('reads labels, and lists them as attributes for clients that do not know of labels', () => {
    const device = discoverDevice(`
      in_voltage0_raw
      in_voltage0_label = supply 3.3 V
      in_voltage1_raw
      in_voltage1_label
      in_temp_raw
      in_temp_label = <die>
      in_voltage7_label = nobody`);
    expect(device.channels.map(({ id, label }) => [id, label])).toEqual([
      ['temp', '<die>'],
      ['voltage0', 'supply 3.3 V'],
      ['voltage1', undefined],
    ]);
    expect(device.channels.map(({ attributes }) => names(attributes))).toEqual([
      ['label', 'raw'],
      ['label', 'raw'],
      ['label', 'raw'],
    ]);
  });
});

describe('events', () => {
  const context = discover(`
    [/sys/bus/iio/devices/iio:device0]
    in_voltage6_raw
    in_voltage60_raw
    in_voltage6-voltage7_raw
    in_accel_x_raw
    out_voltage0_i_raw
    out_voltage0_raw
    out_altvoltage0_offset
    out_altvoltage0_q_raw
    [/sys/bus/iio/devices/iio:device0/events]
    out_voltage0_i_thresh_en
    out_altvoltage0_q_thresh_en
    in_voltage6_thresh_rising_en
    in_voltage6_thresh_either_value
    in_voltage60_roc_rising_en
    in_voltage6-voltage7_thresh_en
    in_accel_x_mag_en
    in_accel_x&y&z_mag_en
    in_voltage9_thresh_en
    in_voltage_thresh_period
    sampling_frequency`);
  const device = onlyDevice(context.description);

  it('belong to the channel with exactly that id, others to the device', () => {
    expect(device.channels.map(({ id, eventAttributes }) => [id, names(eventAttributes)])).toEqual([
      ['accel_x', ['mag_en']],
      ['voltage6', ['thresh_either_value', 'thresh_rising_en']],
      ['voltage6-voltage7', ['thresh_en']],
      ['voltage60', ['roc_rising_en']],
      ['altvoltage0', []],
      ['altvoltage0_q', ['thresh_en']],
      ['voltage0', []],
      ['voltage0_i', ['thresh_en']],
    ]);
    expect(device.channels[1]?.eventAttributes[1]?.filename).toBe('in_voltage6_thresh_rising_en');
    expect(names(device.eventAttributes)).toEqual([
      'in_accel_x&y&z_mag_en',
      'in_voltage9_thresh_en',
      'in_voltage_thresh_period',
      'sampling_frequency',
    ]);
    expect(new Set(device.channels.flatMap(({ attributes }) => names(attributes)))).toEqual(new Set(['raw', 'offset']));
  });

  it('live in the events directory', () => {
    const events = '/sys/bus/iio/devices/iio:device0/events';
    expect(context.attributePath({ kind: 'channel-event', device: 0, sub: 1, attribute: 1 })).toBe(
      `${events}/in_voltage6_thresh_rising_en`,
    );
    expect(context.attributePath({ kind: 'event', device: 0, attribute: 3 })).toBe(`${events}/sampling_frequency`);
  });
});

describe('buffers', () => {
  const context = discover(`
    [/sys/bus/iio/devices/iio:device0]
    in_voltage0_raw
    [/sys/bus/iio/devices/iio:device0/buffer]
    direction = in
    data_available
    [/sys/bus/iio/devices/iio:device0/buffer0]
    data_available
    [/sys/bus/iio/devices/iio:device0/scan_elements]
    in_voltage0_en
    in_voltage0_index = 0
    in_voltage0_type = le:u16/16>>0
    [/sys/bus/iio/devices/iio:device0/buffer10]
    enable
    [/sys/bus/iio/devices/iio:device0/buffer2]
    direction = out
    enable
    length
    watermark
    hwfifo_watermark
    in_timestamp_en
    in_timestamp_index = 1
    in_timestamp_type = le:s64/64>>0
    out_voltage3_en
    out_voltage3_index = 2
    out_voltage3_type = le:u16/16>>0
    [/sys/bus/iio/devices/iio:device0/bufferbloat]
    x
    [/sys/bus/iio/devices/trigger0]
    name = timer
    sampling_frequency = 10`);
  const [device, trigger] = context.description.devices;

  it('are the legacy pair and bufferN, each with its own scan elements', () => {
    expect(device?.channels.map(({ id }) => id)).toEqual(['voltage0', 'timestamp', 'voltage3']);
    expect(device?.buffers).toEqual([
      { index: 0, direction: 'in', attributes: [{ name: 'data_available' }, { name: 'direction' }], channels: [0] },
      {
        index: 2,
        direction: 'out',
        attributes: [{ name: 'direction' }, { name: 'hwfifo_watermark' }],
        channels: [1, 2],
      },
      { index: 10, direction: 'out', attributes: [], channels: [] },
    ]);
    const [, second] = context.devices[0]?.buffers ?? [];
    expect(second?.scanElements.get(1)?.enable).toBe('/sys/bus/iio/devices/iio:device0/buffer2/in_timestamp_en');
    expect(context.attributePath({ kind: 'buffer', device: 0, sub: 2, attribute: 1 })).toBe(
      '/sys/bus/iio/devices/iio:device0/buffer2/hwfifo_watermark',
    );
  });

  it('do not exist on triggers, which are devices like others', () => {
    expect(trigger).toMatchObject({
      id: 'trigger0',
      name: 'timer',
      buffers: [],
      attributes: [{ name: 'sampling_frequency' }],
    });
    expect(context.devices.map(({ currentTriggerPath }) => currentTriggerPath)).toEqual([undefined, undefined]);
  });

  it('leave out a scan element that makes no sense, and say so', () => {
    const { description, warnings } = discover(`
      [/sys/bus/iio/devices/iio:device0/buffer]
      [/sys/bus/iio/devices/iio:device0/scan_elements]
      in_voltage0_en
      in_voltage0_index = 0
      in_voltage0_type = le:u16/16>>0
      in_voltage1_en
      in_voltage1_index = 1
      in_voltage1_type = nonsense
      in_voltage2_en
      in_voltage2_type = le:u16/16>>0`);
    expect(description.devices[0]?.channels.map(({ id }) => id)).toEqual(['voltage0']);
    expect(warnings).toHaveLength(2);
    expect(warnings[0]).toContain('scan_elements/in_voltage1_type');
    expect(warnings[1]).toContain('scan_elements/in_voltage2_en');
  });

  it('never make one channel of two scan elements', () => {
    const { channels } = discoverDevice(
      '',
      `[/sys/bus/iio/devices/iio:device0/buffer]
      [/sys/bus/iio/devices/iio:device0/scan_elements]
      in_new_left_en
      in_new_left_index = 0
      in_new_left_type = le:u16/16>>0
      in_new_right_en
      in_new_right_index = 1
      in_new_right_type = le:u16/16>>0`,
    );
    expect(channels.map(({ scanElement }) => scanElement?.index)).toEqual([0, 1]);
    expect(new Set(channels.map(({ id }) => id)).size).toBe(2);
  });
});

describe('the context', () => {
  const tree = new MemorySysfs([
    ['/sys/bus/iio/devices/iio:device0/name', 'adc\n'],
    [
      '/etc/libiio.ini',
      '# comment\n[Other]\nother=no\n[Context Attributes]\nhw_serial = 1234=5 \n;x=1\nad9361-phy,model=ad9363a\nnonsense\nempty=\n',
    ],
  ]);

  it('describes the machine', () => {
    const { description } = discoverContext(tree, { host: HOST });
    expect(description.description).toBe('Linux pluto 6.12.0 #1 SMP PREEMPT armv7l');
    expect(description.name).toBe('local');
  });

  it('has the attributes of the configuration, the kernel and the caller, in plain byte order', () => {
    const contextAttributes = new Map([
      ['hw_model', 'Pluto'],
      ['empty', 'overridden'],
    ]);
    const { description } = discoverContext(tree, { host: HOST, contextAttributes });
    expect([...description.attributes]).toEqual([
      ['ad9361-phy,model', 'ad9363a'],
      ['empty', 'overridden'],
      ['hw_model', 'Pluto'],
      ['hw_serial', '1234=5'],
      ['local,kernel', '6.12.0'],
      ['uri', 'local:'],
    ]);
  });
});

describe('a machine without IIO', () => {
  it('is an error that says what to do', () => {
    const run = (): unknown => discoverContext(new MemorySysfs(), { host: HOST });
    expect(run).toThrow(IioError);
    expect(run).toThrow(
      expect.objectContaining({ code: 'ENOENT', message: expect.stringContaining('load the driver') }),
    );
    expect(
      discoverContext(new MemorySysfs([['/sys/class/hwmon/hwmon0/name', 'x\n']]), { host: HOST }).devices,
    ).toHaveLength(1);
  });
});
