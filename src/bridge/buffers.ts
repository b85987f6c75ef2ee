import { IioError } from '@iio-bridge/protocol';
import { OpenBuffer, type OpenBufferOptions } from './open-buffer.js';

interface Entry {
  readonly owner: object;
  readonly buffer: Promise<OpenBuffer>;
}

/**
 * The buffers that clients have open. Any link may name any of them; each belongs to the session that opened it and ends
 * with it.
 */
export class Buffers {
  readonly #open = new Map<string, Entry>();

  /** @throws {IioError} `EEXIST` if it is open already; what {@link OpenBuffer.open} throws. */
  async open(owner: object, options: OpenBufferOptions): Promise<OpenBuffer> {
    const key = keyOf(options.deviceIndex, options.bufferIndex);
    if (this.#open.has(key)) {
      throw new IioError('EEXIST', `buffer ${options.bufferIndex} of ${options.device.id} is open already`);
    }
    const entry = { owner, buffer: OpenBuffer.open(options) };
    this.#open.set(key, entry);
    try {
      return await entry.buffer;
    } catch (error) {
      this.#open.delete(key);
      throw error;
    }
  }

  /** @throws {IioError} `EBADF` if it is not open. */
  async get(deviceIndex: number, bufferIndex: number): Promise<OpenBuffer> {
    const entry = this.#open.get(keyOf(deviceIndex, bufferIndex));
    if (entry === undefined) {
      throw new IioError('EBADF', `buffer ${bufferIndex} of device ${deviceIndex} is not open`);
    }
    return await entry.buffer;
  }

  /** @throws {IioError} `EBADF` if it is not open. */
  async close(deviceIndex: number, bufferIndex: number): Promise<void> {
    const buffer = await this.get(deviceIndex, bufferIndex);
    try {
      await buffer.close();
    } finally {
      this.#open.delete(keyOf(deviceIndex, bufferIndex));
    }
  }

  /** The buffers of one session. */
  async *ownedBy(owner: object): AsyncIterable<OpenBuffer> {
    for (const entry of [...this.#open.values()]) {
      if (entry.owner === owner) {
        yield await entry.buffer;
      }
    }
  }

  /** Closes all that `owner` has open. */
  async closeOwnedBy(owner: object): Promise<void> {
    for (const [key, entry] of [...this.#open]) {
      if (entry.owner !== owner) {
        continue;
      }
      try {
        const buffer = await entry.buffer.catch(() => undefined);
        await buffer?.close();
      } finally {
        if (this.#open.get(key) === entry) {
          this.#open.delete(key);
        }
      }
    }
  }
}

function keyOf(deviceIndex: number, bufferIndex: number): string {
  return `${deviceIndex}:${bufferIndex}`;
}
