import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  ChannelMask,
  decodeSample,
  encodeSample,
  formatScanFormat,
  type SampleLayout,
  sampleLayout,
} from '@iio-bridge/protocol';
import { describe, expect, it, onTestFinished } from 'vitest';
import { GeneratedSource } from '../../../src/iio/emulated/generated-source.js';
import { SampleClock } from '../../../src/iio/emulated/sample-clock.js';
import { counter, counterLanes, sine } from '../../../src/iio/emulated/waveform.js';
import { fixture, generator, LENGTHS, openBackend, openBuffer, readBytes, VirtualClock, writeText } from './support.js';

const FREE = { freeRunning: true };

type ChannelId = 'voltage0' | 'voltage1' | 'voltage2' | 'voltage3' | 'timestamp' | `${'accel' | 'anglvel'}_x`;

/** Raw values by channel id, one record for each sample set. */
function decode(bytes: Uint8Array, layout: SampleLayout): Partial<Record<ChannelId, number | bigint>>[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Array.from({ length: bytes.byteLength / layout.bytes }, (_, set) =>
    Object.fromEntries(
      layout.channels.map(({ channel, offset }) => {
        const format = channel.scanElement?.format;
        if (format === undefined) throw new Error(`${channel.id} is no scan element`);
        return [channel.id, decodeSample(view, set * layout.bytes + offset, format)];
      }),
    ),
  );
}

describe('the counter', () => {
  it('is the number of the set if all channels of the converter are on', async () => {
    const { buffer } = await openBuffer(await openBackend(fixture('converters'), FREE), 'emu-adc');
    await buffer.enable(LENGTHS);
    const bytes = await readBytes(buffer.fd, 1_000_000);
    const numbers = new BigUint64Array(bytes.buffer);
    expect(numbers.findIndex((number, set) => number !== BigInt(set))).toBe(-1);
  });

  it.each<[ChannelId[]]>([
    [['voltage0']],
    [['voltage1']],
    [['voltage0', 'voltage2']],
    [['voltage1', 'voltage2', 'voltage3']],
  ])('gives channels their 16 bits of it: %j', async (channels) => {
    const { buffer, layout } = await openBuffer(await openBackend(fixture('converters'), FREE), 'emu-adc', channels);
    expect(layout.bytes).toBe(2 * channels.length);
    expect(buffer.mask.positions()).toHaveLength(channels.length);
    await buffer.enable(LENGTHS);
    const sets = decode(await readBytes(buffer.fd, 70_000 * layout.bytes), layout);
    for (const n of [0, 1, 32_767, 32_768, 65_535, 65_536, 69_999]) {
      for (const channel of channels) {
        const lane = 16 * Number(channel.at(-1));
        expect(sets[n]?.[channel]).toBe(Number(BigInt.asIntN(16, BigInt(n) >> BigInt(lane))));
      }
    }
  });

  it.each([
    [['voltage0', 'voltage1', 'voltage2', 'voltage3', 'timestamp'], 24],
    [['voltage0', 'voltage3'], 4],
    [['voltage0', 'voltage2'], 8],
    [['voltage1'], 4],
    [['voltage3', 'timestamp'], 16],
  ])('gives channels of different widths its low bits: %j', async (channels, bytes) => {
    const clock = new VirtualClock();
    const backend = await openBackend(fixture('converters'), { ...FREE, clock });
    const { buffer, layout } = await openBuffer(backend, 'emu-mixed', channels);
    expect(layout.bytes).toBe(bytes);
    await writeText(backend, '3000000\0', 'device', 'emu-mixed', 'sampling_frequency');
    await buffer.enable(LENGTHS);
    const count = 70_000;
    const sets = decode(await readBytes(buffer.fd, count * bytes), layout);
    for (const n of [0, 1, 2047, 2048, 4095, 4096, 32_768, 65_536, count - 1]) {
      const set = sets[n] ?? {};
      const expected = {
        voltage0: (n << 16) >> 16,
        voltage1: n,
        voltage2: n,
        voltage3: n & 0xfff,
        // The rate spaces them, whether or not it is kept.
        timestamp: VirtualClock.START + (BigInt(n) * 1000n) / 3n,
      };
      expect(set).toEqual(Object.fromEntries(Object.entries(expected).filter(([id]) => channels.includes(id))));
    }
  });

  it('of a Pluto is 12 bits on I and the next 12 on Q, sign-extended', async () => {
    const { buffer, layout } = await openBuffer(await openBackend(fixture('pluto'), FREE), 'cf-ad9361-lpc');
    await buffer.enable(LENGTHS);
    const sets = decode(await readBytes(buffer.fd, 10_000 * 4), layout);
    expect(sets[2047]).toEqual({ voltage0: 2047, voltage1: 0 });
    expect(sets[2048]).toEqual({ voltage0: -2048, voltage1: 0 });
    expect(sets[9000]).toEqual({ voltage0: 9000 - 8192, voltage1: 2 });
  });

  it('of an IMU is big-endian, its time stamps keep the rate', async () => {
    const clock = new VirtualClock();
    const { buffer, layout } = await openBuffer(await openBackend(fixture('imu'), { clock }), 'emu-imu');
    await buffer.enable(LENGTHS);
    await clock.idle();
    await clock.advance(1_000_000_000n);
    const sets = decode(await readBytes(buffer.fd, 100 * layout.bytes), layout);
    expect(sets[99]).toMatchObject({ accel_x: 99, anglvel_x: 0, timestamp: VirtualClock.START + 990_000_000n });
  });
});

describe('calculated samples', () => {
  it('are what encoding each value by itself gives, for formats of all kinds (seeded)', async () => {
    const random = generator(20_240_607);
    const pick = (below: number) => Math.floor(random() * below);
    for (let round = 0; round < 60; round++) {
      const channels = Array.from({ length: 1 + pick(5) }, (_, index) => {
        const storageBits = [8, 16, 24, 32, 64][pick(5)] ?? 8;
        const bits = 1 + pick(storageBits);
        const signed = pick(2) === 0;
        const format = {
          endianness: pick(2) === 0 ? 'le' : 'be',
          signed,
          fullyDefined: bits === storageBits || pick(3) === 0,
          bits,
          storageBits,
          repeat: 1 + (pick(4) === 0 ? pick(3) : 0),
          shift: pick(2) === 0 ? 0 : pick(storageBits - bits + 1),
        } as const;
        return {
          id: `voltage${index}`,
          direction: 'in',
          attributes: [],
          eventAttributes: [],
          scanElement: { index, format },
        } as const;
      });
      const positions = [...channels.keys()].filter(() => pick(4) > 0);
      const mask = ChannelMask.of(channels.length, positions.length === 0 ? [0] : positions);
      const layout = sampleLayout(channels, mask);
      const lanes = counterLanes(channels.map(({ scanElement }) => scanElement.format));
      const signals = layout.channels.flatMap(({ position, offset, channel: { scanElement } }) =>
        scanElement === undefined
          ? []
          : { number: position, format: scanElement.format, lane: lanes[position] ?? 0, offset },
      );
      const waveform = pick(2) === 0 ? counter : sine(random() / 3);
      const clock = new SampleClock(new VirtualClock(), { hertz: 1, pace: 'free' });
      const source = new GeneratedSource({ layout, signals, waveform, clock, maxSets: 64 });
      let first = 0;
      for (const sets of [1 + pick(64), 1 + pick(64)]) {
        const expected = new DataView(new ArrayBuffer(sets * layout.bytes));
        for (let set = 0; set < sets; set++) {
          for (const signal of signals) {
            const value =
              signal.format.bits > 32 ? waveform.wideValue(signal, first + set) : narrow(waveform, signal, first + set);
            for (let element = 0; element < signal.format.repeat; element++) {
              encodeSample(expected, set * layout.bytes + signal.offset, signal.format, value, element);
            }
          }
        }
        const made = await source.next(sets);
        const formats = signals.map(({ format }) => formatScanFormat(format));
        expect(Buffer.from(made).toString('hex'), formats.join(' ')).toBe(Buffer.from(expected.buffer).toString('hex'));
        first += sets;
      }
    }
  });

  it('of a counter cost less than a CPU second for 50 MB, their way through the socket included', async () => {
    const { buffer } = await openBuffer(await openBackend(fixture('converters'), FREE), 'emu-adc');
    await buffer.enable(LENGTHS);
    await readBytes(buffer.fd, 10_000_000);
    const before = process.cpuUsage();
    await readBytes(buffer.fd, 50_000_000);
    const { user, system } = process.cpuUsage(before);
    expect((user + system) / 1e6).toBeLessThan(1);
  }, 30_000);

  it('count on beyond 32 bits', () => {
    const format = {
      endianness: 'le',
      signed: false,
      fullyDefined: true,
      bits: 16,
      storageBits: 16,
      repeat: 1,
      shift: 0,
    } as const;
    const first = 2 ** 32 * 5 - 3;
    for (const lane of [0, 8, 16, 24, 32, 48]) {
      const values = new Int32Array(6);
      counter.fill({ number: 0, format, lane }, first, { values, start: 0, stride: 1 }, 6);
      const expected = Array.from(values, (_, i) => Number(BigInt.asUintN(16, BigInt(first + i) >> BigInt(lane))));
      expect([...values]).toEqual(expected);
    }
  });

  it('with a sine use the full scale, each channel a quarter of a turn ahead', async () => {
    const backend = await openBackend(fixture('converters'), { ...FREE, signal: 'sine' });
    const { buffer, layout } = await openBuffer(backend, 'emu-adc');
    await buffer.enable(LENGTHS);
    // 1 kHz at 1 MHz: 1000 sets per turn.
    const sets = decode(await readBytes(buffer.fd, 2000 * layout.bytes), layout);
    expect([sets[0], sets[1000]].map((set) => set?.voltage0)).toEqual([0, expect.closeTo(0, -2.5)]);
    expect([sets[0], sets[250], sets[500], sets[750]].map((set) => Math.abs(Number(set?.voltage1)))).toEqual([
      32_767,
      expect.closeTo(0, -3),
      32_767,
      expect.closeTo(0, -3),
    ]);
    expect(sets[0]).toMatchObject({ voltage1: 32_767, voltage3: -32_767 });
  });
});

describe('a sample file', () => {
  it('is repeated, and gives subsets of its channels', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'iio-emulated-'));
    onTestFinished(() => rm(directory, { recursive: true }));
    const all = Uint8Array.from({ length: 5 * 8 + 3 }, (_, i) => i);
    await writeFile(join(directory, 'emu-adc_buf0.bin'), all);
    const backend = await openBackend(fixture('converters'), { ...FREE, sampleDirectory: directory });
    const whole = await openBuffer(backend, 'emu-adc');
    await whole.buffer.enable(LENGTHS);
    const twelve = await readBytes(whole.buffer.fd, 12 * 8);
    expect([...twelve]).toEqual(Array.from({ length: 12 * 8 }, (_, i) => i % 40));
    await whole.buffer.close();

    const part = await openBuffer(backend, 'emu-adc', ['voltage0', 'voltage3']);
    await part.buffer.enable(LENGTHS);
    expect([...(await readBytes(part.buffer.fd, 6 * 4))]).toEqual([
      0, 1, 6, 7, 8, 9, 14, 15, 16, 17, 22, 23, 24, 25, 30, 31, 32, 33, 38, 39, 0, 1, 6, 7,
    ]);
  });

  it('lies beside the document, is found by the name of the device, and must hold a sample set', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'iio-emulated-'));
    onTestFinished(() => rm(directory, { recursive: true }));
    const channel =
      '<channel id="voltage0" type="input"><scan-element index="0" format="le:u32/32&gt;&gt;0"/></channel>';
    const xml = `<context name="x"><device id="iio:device0" name="../a">${channel}</device></context>`;
    await writeFile(join(directory, 'c.xml'), xml);
    const path = join(directory, '.._a_buf0.bin');
    await writeFile(path, Uint8Array.of(1, 2, 3));
    const backend = await openBackend(join(directory, 'c.xml'));
    const { buffer } = await openBuffer(backend, '../a');
    await expect(buffer.enable(LENGTHS)).rejects.toMatchObject({
      code: 'EINVAL',
      message: expect.stringContaining(path),
    });
    await writeFile(path, Uint8Array.of(1, 2, 3, 4));
    await buffer.enable(LENGTHS);
    expect([...(await readBytes(buffer.fd, 8))]).toEqual([1, 2, 3, 4, 1, 2, 3, 4]);
  });

  it('that is asked for and missing refuses to start', async () => {
    const backend = await openBackend(fixture('converters'));
    await writeText(backend, 'file\0', 'device', 'emu-mixed', 'test_signal');
    const { buffer } = await openBuffer(backend, 'emu-mixed');
    await expect(buffer.enable(LENGTHS)).rejects.toMatchObject({ code: 'ENOENT' });
    await writeText(backend, 'loopback\0', 'device', 'emu-mixed', 'test_signal');
    await expect(buffer.enable(LENGTHS)).rejects.toMatchObject({ code: 'EINVAL' });
    await writeText(backend, 'counter\0', 'device', 'emu-mixed', 'test_signal');
    await buffer.enable(LENGTHS);
    expect(await readBytes(buffer.fd, 24)).toHaveLength(24);
  });
});

function narrow(waveform: typeof counter, signal: Parameters<typeof counter.fill>[0], set: number): number {
  const values = new Int32Array(1);
  waveform.fill(signal, set, { values, start: 0, stride: 1 }, 1);
  const [value = 0] = values;
  return signal.format.signed ? value : value >>> 0;
}
