import { setImmediate } from 'node:timers/promises';
import { eventId, eventKind } from '@iio-bridge/protocol';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { EmulatedBackend } from '../../../src/iio/emulated/emulated-backend.js';
import type { FileDescriptor } from '../../../src/sys/file-descriptor.js';
import {
  fixture,
  LENGTHS,
  openBackend,
  openBuffer,
  openSockets,
  readBytes,
  readNow,
  VirtualClock,
  writeText,
} from './support.js';

const RISING = { type: 'thresh', direction: 'rising' };
const FALLING = { type: 'thresh', direction: 'falling' };

async function openEvents(backend: EmulatedBackend, device: number): Promise<FileDescriptor> {
  const descriptor = await backend.openEvents(device);
  onTestFinished(() => descriptor.close());
  return descriptor;
}

function records(bytes: Uint8Array): [id: bigint, time: bigint][] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Array.from({ length: bytes.byteLength / 16 }, (_, i) => [
    view.getBigUint64(16 * i, true),
    view.getBigInt64(16 * i + 8, true),
  ]);
}

describe('events', () => {
  it('that are emitted are read as records', async () => {
    const backend = await openBackend(fixture('converters'));
    const events = await openEvents(backend, 0);
    expect(readNow(events.fd, 16)).toHaveLength(0);
    backend.emitEvent(0, 0x0001_0000_0000_0002n, -5n);
    backend.emitEvent(0, 0xffff_ffff_ffff_ffffn, 7n);
    backend.emitEvent(1, 3n, 3n);
    expect(records(await readBytes(events.fd, 32))).toEqual([
      [0x0001_0000_0000_0002n, -5n],
      [0xffff_ffff_ffff_ffffn, 7n],
    ]);
    expect(readNow(events.fd, 16)).toHaveLength(0);
  });

  it('have one reader at a time; when it has closed, the next one', async () => {
    const backend = await openBackend(fixture('converters'));
    const first = await openEvents(backend, 0);
    await expect(backend.openEvents(0)).rejects.toMatchObject({ code: 'EBUSY' });
    first.close();
    const second = await openEvents(backend, 0);
    backend.emitEvent(0, 1n, 1n);
    expect(records(await readBytes(second.fd, 16))).toEqual([[1n, 1n]]);
  });

  it('are not offered by every device', async () => {
    const backend = await openBackend(fixture('converters'));
    await expect(backend.openEvents(1)).rejects.toMatchObject({ code: 'ENODEV' });
    await expect(backend.openEvents(99)).rejects.toMatchObject({ code: 'ENODEV' });
  });

  it('that nobody reads are dropped', async () => {
    const backend = await openBackend(fixture('converters'));
    backend.emitEvent(0, 1n);
    const events = await openEvents(backend, 0);
    for (let i = 0; i < 100_000; i++) backend.emitEvent(0, BigInt(i));
    const kept = records(readNow(events.fd, 1 << 22));
    expect(kept.length).toBeGreaterThan(15);
    expect(kept.length).toBeLessThan(100_000);
    expect(kept.map(([id]) => id)).toEqual(kept.map((_, i) => BigInt(i)));
  });

  it('leave no descriptor behind in 200 rounds', async () => {
    const backend = await openBackend(fixture('converters'));
    const before = openSockets();
    for (let round = 0; round < 200; round++) {
      const events = await backend.openEvents(0);
      backend.emitEvent(0, 1n);
      events.close();
    }
    while (openSockets().length > before.length) await setImmediate();
    expect(openSockets()).toEqual(before);
  });

  it('happen when the samples cross a threshold that is switched on', async () => {
    const clock = new VirtualClock();
    const backend = await openBackend(fixture('converters'), { clock });
    const set = (name: string, value: string) =>
      writeText(backend, `${value}\0`, 'channel-event', 'emu-adc', 'in_voltage0', name);
    await writeText(backend, '65536\0', 'device', 'emu-adc', 'sampling_frequency');
    await set('thresh_rising_value', '1000');
    await set('thresh_falling_value', '-1');
    await set('thresh_rising_en', '1');
    const events = await openEvents(backend, 0);
    const { buffer } = await openBuffer(backend, 'emu-adc');
    await buffer.enable(LENGTHS);
    await clock.idle();
    // The counter takes a second from wrap to wrap of its lowest 16 bits.
    const second = async () => {
      for (let i = 0; i < 8; i++) {
        await clock.advance(125_000_000n);
        await readBytes(buffer.fd, 8192 * 8);
      }
    };
    await second();
    const rising = eventId({ id: 'voltage0' }, RISING);
    const at = (sets: number) => VirtualClock.START + (BigInt(sets) * 1_000_000_000n) / 65_536n;
    expect(records(readNow(events.fd, 1600))).toEqual([[rising, at(1000)]]);
    await set('thresh_falling_en', '1');
    await second();
    const falling = eventId({ id: 'voltage0' }, FALLING);
    expect(records(readNow(events.fd, 1600))).toEqual([
      [rising, at(65_536 + 1000)],
      [falling, at(65_536 + 32_768)],
    ]);
    await set('thresh_falling_en', '0');
    await set('thresh_rising_en', '0');
    await second();
    expect(readNow(events.fd, 1600)).toHaveLength(0);
  });
});

describe('the id of an event', () => {
  it.each([
    ['voltage0', RISING, 0x0001_0000_0000_0000n],
    ['voltage6', FALLING, 0x0002_0000_0000_0006n],
    ['voltage1-voltage2', RISING, 0x0081_0000_0002_0001n],
    ['accel_x', { type: 'mag', direction: 'either' }, 0x0100_0103_0000_0000n],
    ['accel_x&y&z', { type: 'mag', direction: 'falling' }, 0x0102_0703_0000_0000n],
    ['temp0', { type: 'thresh_adaptive', direction: 'rising' }, 0x0301_0009_0000_0000n],
  ])('of %s', (id, kind, expected) => {
    expect(eventId({ id }, kind).toString(16)).toBe(expected.toString(16));
  });

  it('comes from the name of the attribute', () => {
    expect(eventKind('thresh_rising_en')).toEqual(RISING);
    expect(eventKind('thresh_adaptive_falling_en')).toEqual({ type: 'thresh_adaptive', direction: 'falling' });
    expect(eventKind('thresh_rising_value')).toBeUndefined();
    expect(eventKind('en')).toBeUndefined();
    expect(eventKind('odd_rising_en')).toBeUndefined();
  });
});
