import { readdirSync, readlinkSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { ChannelMask, type SampleLayout, sampleLayout } from '@iio-bridge/protocol';
import { onTestFinished } from 'vitest';
import type { BackendBuffer } from '../../../src/iio/backend.js';
import type { AttributeRef } from '../../../src/iio/context.js';
import type { Clock } from '../../../src/iio/emulated/clock.js';
import { EmulatedBackend, type EmulationOptions } from '../../../src/iio/emulated/emulated-backend.js';

export const LENGTHS = { length: 4096, watermark: 1024 };

export function fixture(name: string): string {
  return join(import.meta.dirname, '../../fixtures/emulated', `${name}.xml`);
}

/** Closed when the test is over. */
export async function openBackend(source: string, options?: EmulationOptions): Promise<EmulatedBackend> {
  const backend = await EmulatedBackend.open(source, options);
  onTestFinished(() => backend.close());
  return backend;
}

export function deviceNamed(backend: EmulatedBackend, name: string): number {
  return backend.description.devices.findIndex((device) => device.name === name);
}

/** A buffer with the channels of these ids, closed when the test is over. */
export async function openBuffer(
  backend: EmulatedBackend,
  name: string,
  channels?: readonly string[],
): Promise<{ readonly buffer: BackendBuffer; readonly layout: SampleLayout }> {
  const device = deviceNamed(backend, name);
  const all = backend.description.devices[device]?.channels ?? [];
  const positions = all.flatMap(({ id, scanElement }, position) =>
    scanElement !== undefined && (channels?.includes(id) ?? true) ? position : [],
  );
  const mask = ChannelMask.of(all.length, positions);
  const buffer = await backend.openBuffer(device, 0, mask);
  onTestFinished(() => buffer.close());
  return { buffer, layout: sampleLayout(all, buffer.mask) };
}

export type AttributePath = readonly [kind: AttributeRef['kind'], device: string, ...names: string[]];

/** `['channel', device, direction_id, attribute]`, `['buffer', device, index, attribute]`, `[kind, device, attribute]`. */
export function refOf(backend: EmulatedBackend, [kind, name, ...names]: AttributePath): AttributeRef {
  const device = deviceNamed(backend, name);
  const description = backend.description.devices[device];
  const [first = '', second = first] = names;
  const find = (list: readonly { readonly name: string }[] | undefined) => {
    const attribute = list?.findIndex((entry) => entry.name === second) ?? -1;
    if (attribute < 0) throw new Error(`no ${kind} attribute ${names.join(' ')} in ${name}`);
    return attribute;
  };
  switch (kind) {
    case 'device':
      return { kind, device, attribute: find(description?.attributes) };
    case 'debug':
      return { kind, device, attribute: find(description?.debugAttributes) };
    case 'event':
      return { kind, device, attribute: find(description?.eventAttributes) };
    case 'buffer':
      return { kind, device, sub: Number(first), attribute: find(description?.buffers[Number(first)]?.attributes) };
    default: {
      const sub = description?.channels.findIndex(({ direction, id }) => `${direction}_${id}` === first) ?? -1;
      const channel = description?.channels[sub];
      const list = kind === 'channel' ? channel?.attributes : channel?.eventAttributes;
      return { kind, device, sub, attribute: find(list) };
    }
  }
}

export async function readText(backend: EmulatedBackend, ...path: AttributePath): Promise<string> {
  return new TextDecoder().decode(await backend.readAttribute(refOf(backend, path)));
}

export function writeText(backend: EmulatedBackend, value: string, ...path: AttributePath): Promise<number> {
  return backend.writeAttribute(refOf(backend, path), new TextEncoder().encode(value));
}

/** What is in the descriptor now, at most `limit` bytes. */
export function readNow(fd: number, limit: number): Uint8Array {
  const bytes = new Uint8Array(limit);
  let length = 0;
  while (length < limit) {
    const count = transfer(() => readSync(fd, bytes, length, limit - length, null));
    if (count === 0) break;
    length += count;
  }
  return bytes.subarray(0, length);
}

/** Exactly `length` bytes, however long they take. */
export async function readBytes(fd: number, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  for (let done = 0; done < length; ) {
    done += transfer(() => readSync(fd, bytes, done, length - done, null));
    await setImmediate();
  }
  return bytes;
}

export async function writeBytes(fd: number, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.byteLength; ) {
    done += transfer(() => writeSync(fd, bytes, done, bytes.byteLength - done));
    await setImmediate();
  }
}

/** Bytes moved; 0 if the descriptor is not ready. */
function transfer(call: () => number): number {
  try {
    return call();
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EAGAIN') return 0;
    throw error;
  }
}

/** The open sockets of this process. */
export function openSockets(): string[] {
  return readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      const target = readlinkSync(`/proc/self/fd/${fd}`);
      return target.startsWith('socket:') ? target : [];
    } catch {
      // The descriptor of the directory itself.
      return [];
    }
  });
}

/** mulberry32, between 0 and 1: the same numbers in every run. */
export function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

interface Sleeper {
  readonly until: bigint;
  readonly wake: () => void;
}

/** Stands still until it is moved. */
export class VirtualClock implements Clock {
  static readonly START = 1_700_000_000_000_000_000n;
  #now = 0n;
  readonly #sleepers = new Set<Sleeper>();

  now(): bigint {
    return this.#now;
  }

  realtime(): bigint {
    return VirtualClock.START + this.#now;
  }

  sleep(ms: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const end = () => {
        this.#sleepers.delete(sleeper);
        signal.removeEventListener('abort', abort);
      };
      const wake = () => {
        end();
        resolve();
      };
      const abort = () => {
        end();
        reject(signal.reason);
      };
      const sleeper = { until: this.#now + BigInt(Math.ceil(ms * 1e6)), wake };
      this.#sleepers.add(sleeper);
      signal.addEventListener('abort', abort);
    });
  }

  /** Until somebody has nothing to do before the time moves. */
  async idle(): Promise<void> {
    while (this.#sleepers.size === 0) {
      await setImmediate();
    }
  }

  /** Lets all that is due happen, until the converter waits for the time again. */
  async advance(ns: bigint): Promise<void> {
    this.move(ns);
    await this.idle();
  }

  move(ns: bigint): void {
    this.#now += ns;
    for (const sleeper of [...this.#sleepers]) {
      if (sleeper.until <= this.#now) sleeper.wake();
    }
  }
}
