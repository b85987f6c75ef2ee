import { setImmediate } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { SampleClock } from '../../../src/iio/emulated/sample-clock.js';
import {
  fixture,
  LENGTHS,
  openBackend,
  openBuffer,
  readBytes,
  readNow,
  VirtualClock,
  writeBytes,
  writeText,
} from './support.js';

const SECOND = 1_000_000_000n;
const MORE_THAN_ALL = 1 << 20;

describe('an input', () => {
  it('makes exactly as many sets as its rate has in the time, however the time is cut', async () => {
    const clock = new VirtualClock();
    const backend = await openBackend(fixture('converters'), { clock });
    await writeText(backend, '333.333333\0', 'device', 'emu-adc', 'sampling_frequency');
    const { buffer } = await openBuffer(backend, 'emu-adc');
    await buffer.enable(LENGTHS);
    await clock.idle();
    let elapsed = 0n;
    let sets = 0;
    for (const ns of [1n, 2_999_999n, 1_000_000n, 7_654_321n, SECOND, 1n, 13n * SECOND, 999_999_999n]) {
      await clock.advance(ns);
      elapsed += ns;
      sets += readNow(buffer.fd, MORE_THAN_ALL).byteLength / 8;
      expect(sets).toBe(Number((elapsed * 333_333_333n) / (1_000_000n * SECOND)));
    }
  });

  it('takes a new rate while it runs, and goes on counting', async () => {
    const clock = new VirtualClock();
    const backend = await openBackend(fixture('converters'), { clock });
    const setRate = (rate: string) => writeText(backend, `${rate}\0`, 'device', 'emu-adc', 'sampling_frequency');
    await setRate('1000');
    const { buffer } = await openBuffer(backend, 'emu-adc');
    await buffer.enable(LENGTHS);
    await clock.idle();
    await clock.advance(SECOND);
    expect(readNow(buffer.fd, MORE_THAN_ALL)).toHaveLength(1000 * 8);
    await setRate('500');
    // The converter sees it with the next set that it was waiting for.
    await clock.advance(2_000_000n);
    const before = readNow(buffer.fd, MORE_THAN_ALL).byteLength / 8;
    expect(before).toBeGreaterThan(0);
    await clock.advance(SECOND);
    const numbers = new BigUint64Array(readNow(buffer.fd, MORE_THAN_ALL).slice().buffer);
    expect(numbers).toHaveLength(500);
    expect(numbers[0]).toBe(BigInt(1000 + before));
  });

  it('without a rate that makes sense runs freely', async () => {
    const backend = await openBackend(fixture('converters'), { clock: new VirtualClock() });
    await writeText(backend, 'fast\0', 'device', 'emu-adc', 'sampling_frequency');
    const { buffer } = await openBuffer(backend, 'emu-adc');
    await buffer.enable(LENGTHS);
    expect(await readBytes(buffer.fd, 1_000_000)).toHaveLength(1_000_000);
  });

  it('is free-running when its attribute says so', async () => {
    const backend = await openBackend(fixture('converters'), { clock: new VirtualClock() });
    await writeText(backend, '1\0', 'device', 'emu-adc', 'free_running');
    const { buffer } = await openBuffer(backend, 'emu-adc');
    await buffer.enable(LENGTHS);
    expect(await readBytes(buffer.fd, 1_000_000)).toHaveLength(1_000_000);
  });

  it('keeps its rate in real time', async () => {
    const backend = await openBackend(fixture('converters'));
    await writeText(backend, '200000\0', 'device', 'emu-adc', 'sampling_frequency');
    const { buffer } = await openBuffer(backend, 'emu-adc');
    const start = performance.now();
    await buffer.enable(LENGTHS);
    await readBytes(buffer.fd, 100_000 * 8);
    const seconds = (performance.now() - start) / 1000;
    // Never early; late only as far as this machine is busy.
    expect(seconds).toBeGreaterThanOrEqual(0.5);
    expect(seconds).toBeLessThan(2);
  });

  it('stands still while nobody reads, and loses nothing', async () => {
    const clock = new VirtualClock();
    const backend = await openBackend(fixture('converters'), { clock });
    const { buffer } = await openBuffer(backend, 'emu-adc');
    await buffer.enable({ length: 1000, watermark: 1 });
    await clock.idle();
    // An hour at 1 MHz, of which the socket holds a few hundred kilobytes.
    const hour = clock.advance(3600n * SECOND);
    for (let i = 0; i < 100; i++) await setImmediate();
    const held = readNow(buffer.fd, MORE_THAN_ALL);
    const rest = await readBytes(buffer.fd, 250_000 * 8);
    await hour;
    const bytes = Buffer.concat([held, rest, readNow(buffer.fd, 1 << 26)]);
    const numbers = new BigUint64Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 8);
    expect(numbers.findIndex((number, set) => number !== BigInt(set))).toBe(-1);
    // What was in the socket, and a quarter of a second to catch up, not an hour.
    expect(numbers.length).toBeLessThan(1_000_000);
  });
});

describe('an output', () => {
  it('plays at its rate', async () => {
    const clock = new VirtualClock();
    const backend = await openBackend(fixture('converters'), { clock, loopback: { from: 'emu-dac', to: 'emu-adc' } });
    await writeText(backend, '1000\0', 'device', 'emu-dac', 'sampling_frequency');
    const { buffer: input } = await openBuffer(backend, 'emu-adc');
    const { buffer: output } = await openBuffer(backend, 'emu-dac');
    await input.enable(LENGTHS);
    await output.enable(LENGTHS);
    await writeBytes(output.fd, new Uint8Array(5000 * 8));
    await clock.idle();
    await clock.advance(SECOND);
    expect(await readBytes(input.fd, 1000 * 8)).toHaveLength(1000 * 8);
    expect(readNow(input.fd, MORE_THAN_ALL)).toHaveLength(0);
    await clock.advance(SECOND / 2n);
    expect(await readBytes(input.fd, 500 * 8)).toHaveLength(500 * 8);
    expect(readNow(input.fd, MORE_THAN_ALL)).toHaveLength(0);
  });

  it('that has nothing to play does not make up for it', async () => {
    const clock = new VirtualClock();
    const backend = await openBackend(fixture('converters'), { clock, loopback: { from: 'emu-dac', to: 'emu-adc' } });
    await writeText(backend, '1000\0', 'device', 'emu-dac', 'sampling_frequency');
    const { buffer: input } = await openBuffer(backend, 'emu-adc');
    const { buffer: output } = await openBuffer(backend, 'emu-dac');
    await input.enable(LENGTHS);
    await output.enable(LENGTHS);
    await writeBytes(output.fd, new Uint8Array(8));
    await clock.idle();
    clock.move(SECOND);
    await readBytes(input.fd, 8);
    await writeBytes(output.fd, new Uint8Array(100 * 8));
    await clock.idle();
    expect(readNow(input.fd, MORE_THAN_ALL)).toHaveLength(0);
    await clock.advance(10_000_000n);
    expect(await readBytes(input.fd, 10 * 8)).toHaveLength(80);
    expect(readNow(input.fd, MORE_THAN_ALL)).toHaveLength(0);
  });

  it('holds its writer back', async () => {
    const clock = new VirtualClock();
    const backend = await openBackend(fixture('converters'), { clock });
    const { buffer } = await openBuffer(backend, 'emu-dac');
    await buffer.enable(LENGTHS);
    const write = writeBytes(buffer.fd, new Uint8Array(4_000_000));
    let written = false;
    const done = write.then(() => {
      written = true;
    });
    await clock.idle();
    for (let i = 0; i < 100; i++) await setImmediate();
    expect(written).toBe(false);
    while (!written) {
      await clock.advance(1_000_000n);
    }
    await done;
    // 500000 sets at 1 MHz, less what socket and queue hold.
    expect(clock.now()).toBeGreaterThan(SECOND / 3n);
    expect(clock.now()).toBeLessThan(SECOND);
  });
});

describe('time stamps', () => {
  it('are exact for any set, before and after the rate changes', async () => {
    const virtual = new VirtualClock();
    const clock = new SampleClock(virtual, { hertz: 3, pace: 'rate' });
    const stamps = (first: number, sets: number) => {
      const values = new BigInt64Array(sets);
      clock.timeStamps(first, values, sets);
      return Array.from(values, (value) => Number(value - VirtualClock.START));
    };
    expect(stamps(0, 4)).toEqual([0, 333_333_333, 666_666_666, 1_000_000_000]);
    expect(stamps(2, 2)).toEqual([666_666_666, 1_000_000_000]);
    expect(stamps(3_000_000_001, 1)).toEqual([Number(1_000_000_000_333_333_333n)]);
    clock.take(3);
    clock.setRate({ hertz: 1_000_000, pace: 'rate' });
    expect(stamps(3, 3)).toEqual([1_000_000_000, 1_000_001_000, 1_000_002_000]);
  });
});
