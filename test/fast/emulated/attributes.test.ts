import { describe, expect, it } from 'vitest';
import { MAX_ATTRIBUTE_BYTES } from '../../../src/iio/attributes.js';
import { EmulatedBackend } from '../../../src/iio/emulated/emulated-backend.js';
import { fixture, openBackend, readText, refOf, writeText } from './support.js';

describe('reading an attribute', () => {
  it('gives the value of the document, and the NUL that counts', async () => {
    const backend = await openBackend(fixture('pluto'));
    expect(await readText(backend, 'channel', 'ad9361-phy', 'out_altvoltage0', 'frequency')).toBe('2400000000\0');
    expect(await readText(backend, 'device', 'ad9361-phy', 'ensm_mode')).toBe('fdd\0');
    expect(await readText(backend, 'debug', 'cf-ad9361-lpc', 'pseudorandom_err_check')).toBe(
      'CH0 : PN9 : In Sync : OK\0',
    );
    expect(await readText(backend, 'buffer', 'cf-ad9361-lpc', '0', 'data_available')).toBe('0\0');
  });

  it('fails with the errno that the document holds in its place', async () => {
    const backend = await openBackend(fixture('pluto'));
    const channel = readText(backend, 'channel', 'ad9361-phy', 'out_altvoltage0', 'fastlock_recall');
    await expect(channel).rejects.toMatchObject({ code: 'EINVAL', errno: 22 });
    await expect(readText(backend, 'device', 'ad9361-phy', 'dcxo_tune_coarse')).rejects.toMatchObject({
      code: 'ENODEV',
    });
    const odd = await openBackend(device('<attribute name="a" value="ERROR:-523"/>'));
    await expect(readText(odd, 'device', 'd', 'a')).rejects.toMatchObject({ errno: 523 });
  });

  it('gives something sensible where the document has no value', async () => {
    const backend = await openBackend(
      device(
        `<channel id="voltage0" type="input">${['raw', 'scale', 'scale_available'].map((name) => `<attribute name="${name}"/>`).join('')}</channel>
        <attribute name="sampling_frequency"/><attribute name="calibrate"/>`,
      ),
    );
    const read = (name: string) => readText(backend, 'channel', 'd', 'in_voltage0', name);
    expect([await read('raw'), await read('scale'), await read('scale_available')]).toEqual([
      '0\0',
      '1.000000\0',
      '\0',
    ]);
    expect(await readText(backend, 'device', 'd', 'sampling_frequency')).toBe('1000000\0');
    expect(await readText(backend, 'device', 'd', 'calibrate')).toBe('0\0');
  });

  it('refuses one that the document does not have', async () => {
    const backend = await openBackend(fixture('pluto'));
    const missing = [
      { kind: 'device', device: 99, attribute: 0 },
      { kind: 'device', device: 0, attribute: 99 },
      { kind: 'debug', device: 1, attribute: 0 },
      { kind: 'event', device: 0, attribute: 0 },
      { kind: 'channel', device: 0, sub: 99, attribute: 0 },
      { kind: 'channel', device: 0, sub: 0, attribute: -1 },
      { kind: 'channel-event', device: 0, sub: 0, attribute: 0 },
      { kind: 'buffer', device: 0, sub: 0, attribute: 0 },
      { kind: 'buffer', device: 3, sub: 1, attribute: 0 },
    ] as const;
    for (const ref of missing) {
      await expect(backend.readAttribute(ref)).rejects.toMatchObject({ code: 'EINVAL' });
      await expect(backend.writeAttribute(ref, Uint8Array.of(49))).rejects.toMatchObject({ code: 'EINVAL' });
    }
  });
});

describe('writing an attribute', () => {
  it.each([
    ['with its NUL', '1\0', '1\0'],
    ['without', '1', '1\0'],
    ['a line', '1\n', '1\0'],
    ['a line and a NUL', '1\n\0', '1\0'],
    ['several lines', 'a\nb\n\0', 'a\nb\0'],
    ['no text', '\0', '\0'],
    ['text with blanks and umlauts', ' größer <&> \0', ' größer <&> \0'],
    ['something behind the NUL', 'ab\0cd', 'ab\0'],
    ['4095 bytes', `${'x'.repeat(4094)}\0`, `${'x'.repeat(4094)}\0`],
  ])('%s: takes every byte, and is read back', async (_, written, read) => {
    const backend = await openBackend(fixture('pluto'));
    const path = ['device', 'ad9361-phy', 'ensm_mode'] as const;
    await expect(writeText(backend, written, ...path)).resolves.toBe(new TextEncoder().encode(written).byteLength);
    expect(await readText(backend, ...path)).toBe(read);
  });

  it('keeps bytes that are no text', async () => {
    const backend = await openBackend(fixture('pluto'));
    const ref = refOf(backend, ['debug', 'ad9361-phy', 'loopback']);
    await backend.writeAttribute(ref, Uint8Array.of(0xff, 0xfe, 0));
    expect([...(await backend.readAttribute(ref))]).toEqual([0xff, 0xfe, 0]);
  });

  it.each([
    ['channel', 'ad9361-phy', 'in_voltage0', 'rf_bandwidth_available'],
    ['device', 'ad9361-phy', 'ensm_mode_available'],
    ['buffer', 'cf-ad9361-lpc', '0', 'data_available'],
  ] as const)('refuses what drivers only let read: %s %s %s %s', async (...path) => {
    const backend = await openBackend(fixture('pluto'));
    const [kind, name, ...names] = path;
    const before = await readText(backend, kind, name, ...names);
    await expect(writeText(backend, '1\0', kind, name, ...names)).rejects.toMatchObject({ code: 'EACCES', errno: 13 });
    expect(await readText(backend, kind, name, ...names)).toBe(before);
  });

  it('refuses nothing at all, and too much, and keeps the value', async () => {
    const backend = await openBackend(fixture('pluto'));
    const path = ['device', 'ad9361-phy', 'ensm_mode'] as const;
    await expect(writeText(backend, '', ...path)).rejects.toMatchObject({ code: 'EIO' });
    const long = 'x'.repeat(MAX_ATTRIBUTE_BYTES + 1);
    await expect(writeText(backend, long, ...path)).rejects.toMatchObject({ code: 'EFBIG' });
    expect(await readText(backend, ...path)).toBe('fdd\0');
  });

  it('changes all channels that share the file, and no others', async () => {
    const backend = await openBackend(fixture('pluto'));
    const rate = (device: string, channel: string) =>
      readText(backend, 'channel', device, channel, 'sampling_frequency');
    await writeText(backend, '3000000\0', 'channel', 'ad9361-phy', 'in_voltage0', 'sampling_frequency');
    expect(await rate('ad9361-phy', 'in_voltage2')).toBe('3000000\0');
    expect(await rate('ad9361-phy', 'out_voltage0')).toBe('2400000\0');
    expect(await rate('cf-ad9361-lpc', 'in_voltage0')).toBe('2400000\0');
    await writeText(backend, '7\0', 'channel', 'cf-ad9361-lpc', 'in_voltage0', 'calibbias');
    expect(await readText(backend, 'channel', 'cf-ad9361-lpc', 'in_voltage1', 'calibbias')).toBe('0\0');
  });

  it('of channels without file names is their own', async () => {
    const channel = (id: string) => `<channel id="${id}" type="input"><attribute name="raw" value="5"/></channel>`;
    const backend = await openBackend(device(channel('voltage0') + channel('voltage1')));
    await writeText(backend, '6\0', 'channel', 'd', 'in_voltage0', 'raw');
    expect(await readText(backend, 'channel', 'd', 'in_voltage1', 'raw')).toBe('5\0');
  });

  it('works on one that cannot be read', async () => {
    const backend = await openBackend(fixture('pluto'));
    const path = ['channel', 'ad9361-phy', 'out_altvoltage0', 'fastlock_recall'] as const;
    await expect(writeText(backend, '3\0', ...path)).resolves.toBe(2);
    await expect(readText(backend, ...path)).rejects.toMatchObject({ code: 'EINVAL' });
  });

  it('of the signal takes only those that there are', async () => {
    const backend = await openBackend(fixture('converters'));
    const path = ['device', 'emu-mixed', 'test_signal'] as const;
    await expect(writeText(backend, 'noise\0', ...path)).rejects.toMatchObject({ code: 'EINVAL' });
    await writeText(backend, 'sine\0', ...path);
    expect(await readText(backend, ...path)).toBe('sine\0');
  });
});

describe('the document', () => {
  it('is served in the order that clients number it in, without values', async () => {
    const backend = await openBackend(
      `<context name="x"><context-attribute name="b" value="1"/><context-attribute name="a" value="2"/>
      <device id="iio:device2"/><device id="iio:device10" name="d"><attribute name="b" value="1"/><attribute name="a" value="2"/>
        <channel id="temp0" type="input"/>
        <channel id="voltage1" type="input"><scan-element index="1" format="le:u8/8&gt;&gt;0"/></channel>
        <channel id="voltage0" type="input"><scan-element index="0" format="le:u8/8&gt;&gt;0"/></channel>
        <buffer index="1"><channel id="voltage0" type="input"/></buffer>
        <buffer index="0"><channel id="voltage1" type="input"/><channel id="voltage0" type="input"/></buffer>
      </device></context>`,
    );
    const { attributes, devices } = backend.description;
    expect([...attributes.keys()]).toEqual(['a', 'b']);
    expect(devices.map(({ id }) => id)).toEqual(['iio:device10', 'iio:device2']);
    expect(devices[0]).toMatchObject({
      attributes: [{ name: 'a' }, { name: 'b' }],
      channels: [{ id: 'voltage0' }, { id: 'voltage1' }, { id: 'temp0' }],
      buffers: [
        { index: 0, channels: [0, 1] },
        { index: 1, channels: [0] },
      ],
    });
    expect(devices[0]?.attributes).toEqual([{ name: 'a' }, { name: 'b' }]);
    // Values follow their attributes.
    expect(await readText(backend, 'device', 'd', 'a')).toBe('2\0');
  });

  it('can be given more context attributes', async () => {
    const contextAttributes = new Map([
      ['iio-bridge', '1'],
      ['hw_model', 'other'],
    ]);
    const { attributes } = (await openBackend(fixture('pluto'), { contextAttributes })).description;
    expect([attributes.get('iio-bridge'), attributes.get('hw_model'), attributes.get('uri')]).toEqual([
      '1',
      'other',
      'local:',
    ]);
    expect([...attributes.keys()]).toEqual([...attributes.keys()].sort());
  });

  it.each(['pluto', 'converters', 'imu'])('%s can be opened', async (name) => {
    const backend = await openBackend(fixture(name));
    expect(backend.description.devices.flatMap(({ buffers }) => buffers).length).toBeGreaterThan(0);
  });

  it('that is missing or broken is refused', async () => {
    await expect(EmulatedBackend.open('/nonexistent/a.xml')).rejects.toMatchObject({
      code: 'ENOENT',
      message: expect.stringContaining('/nonexistent/a.xml'),
    });
    await expect(EmulatedBackend.open('<context><device/></context>')).rejects.toMatchObject({ code: 'BAD_XML' });
  });
});

describe('registers', () => {
  it('hold what is written, through the attribute and directly', async () => {
    const backend = await openBackend(fixture('pluto'));
    await backend.writeRegister(0, 0x2a, 0xffff_fffe);
    expect(await backend.readRegister(0, 0x2a)).toBe(0xffff_fffe);
    expect(await backend.readRegister(0, 0x2b)).toBe(0);
    expect(await backend.readRegister(3, 0x2a)).toBe(0);
    const path = ['debug', 'ad9361-phy', 'direct_reg_access'] as const;
    await writeText(backend, '0x2a\0', ...path);
    expect(await readText(backend, ...path)).toBe('0xFFFFFFFE\0');
    await writeText(backend, '0x2B 17\0', ...path);
    expect(await backend.readRegister(0, 0x2b)).toBe(17);
    expect(await readText(backend, ...path)).toBe('0x11\0');
  });

  it.each(['x\0', '1 2 3\0', '0x1 y\0', '-1\0', '0x100000000\0', '\0'])('refuse %j', async (text) => {
    const backend = await openBackend(fixture('pluto'));
    await expect(writeText(backend, text, 'debug', 'ad9361-phy', 'direct_reg_access')).rejects.toMatchObject({
      code: 'EINVAL',
    });
  });

  it('are missing without the attribute', async () => {
    const backend = await openBackend(fixture('pluto'));
    await expect(backend.readRegister(1, 0)).rejects.toMatchObject({ code: 'ENOENT' });
    await expect(backend.writeRegister(1, 0, 0)).rejects.toMatchObject({ code: 'ENOENT' });
    await expect(backend.readRegister(99, 0)).rejects.toMatchObject({ code: 'ENODEV' });
  });
});

describe('triggers', () => {
  it('are set and taken away', async () => {
    const backend = await openBackend(fixture('imu'));
    await expect(backend.trigger(0)).rejects.toMatchObject({ code: 'ENODEV' });
    await backend.setTrigger(0, 1);
    expect(await backend.trigger(0)).toBe(1);
    await backend.setTrigger(0, undefined);
    await expect(backend.trigger(0)).rejects.toMatchObject({ code: 'ENODEV' });
  });

  it('must be triggers, and the device must take one', async () => {
    const backend = await openBackend(fixture('imu'));
    await expect(backend.setTrigger(0, 0)).rejects.toMatchObject({ code: 'EINVAL' });
    await expect(backend.setTrigger(0, 9)).rejects.toMatchObject({ code: 'EINVAL' });
    await expect(backend.setTrigger(1, 1)).rejects.toMatchObject({ code: 'ENOENT' });
    const pluto = await openBackend(fixture('pluto'));
    await expect(pluto.trigger(3)).rejects.toMatchObject({ code: 'ENOENT' });
  });
});

function device(content: string): string {
  return `<context name="x"><device id="iio:device0" name="d">${content}</device></context>`;
}
