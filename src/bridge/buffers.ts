import { IioError } from '@iio-bridge/protocol';
import type { BufferClaim, BufferClaims } from './buffer-claims.js';
import type { OpenBuffer, OpenBufferOptions } from './open-buffer.js';
import { RxBuffer } from './rx-buffer.js';
import { TxBuffer } from './tx-buffer.js';

interface Entry {
  readonly owner: object;
  readonly claim: BufferClaim;
  readonly buffer: Promise<OpenBuffer>;
  opened?: OpenBuffer;
  closing?: Promise<void>;
}

/**
 * The buffers that binary clients have open. Any link may name any of them; each belongs to the session that opened it
 * and ends with it. They are known by the device's id, because its position changes when devices come and go.
 */
export class Buffers {
  readonly #claims: BufferClaims;
  readonly #open = new Map<string, Entry>();

  constructor(claims: BufferClaims) {
    this.#claims = claims;
  }

  /**
   * @throws {IioError} `EEXIST` if it is open already, `EBUSY` if text clients have it; what the backend's `openBuffer`
   * throws.
   */
  async open(owner: object, options: OpenBufferOptions): Promise<OpenBuffer> {
    const { device, bufferIndex } = options;
    const key = keyOf(device.id, bufferIndex);
    // Whoever comes back at once, after a program was stopped, need not be told that the buffer is still being closed.
    for (let former = this.#open.get(key); former?.closing !== undefined; former = this.#open.get(key)) {
      await former.closing.catch(() => undefined);
    }
    if (this.#open.has(key)) {
      throw new IioError('EEXIST', `buffer ${bufferIndex} of ${device.id} is open already`);
    }
    const claim = this.#claims.claim(device.id, bufferIndex, 'binary');
    const entry: Entry = { owner, claim, buffer: openBuffer(options) };
    this.#open.set(key, entry);
    try {
      entry.opened = await entry.buffer;
      return entry.opened;
    } catch (error) {
      this.#forget(key, entry);
      throw error;
    }
  }

  /** Undefined if it is not open, or still being opened. */
  peek(deviceId: string, bufferIndex: number): OpenBuffer | undefined {
    return this.#open.get(keyOf(deviceId, bufferIndex))?.opened;
  }

  /** @throws {IioError} `EBADF` if it is not open. */
  async get(deviceId: string, bufferIndex: number): Promise<OpenBuffer> {
    return await this.#entry(deviceId, bufferIndex).buffer;
  }

  /** @throws {IioError} `EBADF` if it is not open. */
  async close(deviceId: string, bufferIndex: number): Promise<void> {
    await this.#close(keyOf(deviceId, bufferIndex), this.#entry(deviceId, bufferIndex));
  }

  /** The buffers of one session. */
  ownedBy(owner: object): OpenBuffer[] {
    return [...this.#open.values()].flatMap((entry) =>
      entry.owner === owner && entry.opened !== undefined ? [entry.opened] : [],
    );
  }

  /** Closes all that `owner` has open. */
  async closeOwnedBy(owner: object): Promise<void> {
    const owned = [...this.#open].filter(([, entry]) => entry.owner === owner);
    await Promise.all(owned.map(([key, entry]) => this.#close(key, entry)));
  }

  #entry(deviceId: string, bufferIndex: number): Entry {
    const entry = this.#open.get(keyOf(deviceId, bufferIndex));
    if (entry === undefined || entry.closing !== undefined) {
      throw new IioError('EBADF', `buffer ${bufferIndex} of ${deviceId} is not open`);
    }
    return entry;
  }

  #close(key: string, entry: Entry): Promise<void> {
    entry.closing ??= this.#closeNow(key, entry);
    return entry.closing;
  }

  async #closeNow(key: string, entry: Entry): Promise<void> {
    try {
      const buffer = await entry.buffer.catch(() => undefined);
      await buffer?.close();
    } finally {
      this.#forget(key, entry);
    }
  }

  #forget(key: string, entry: Entry): void {
    entry.claim.release();
    if (this.#open.get(key) === entry) {
      this.#open.delete(key);
    }
  }
}

function openBuffer(options: OpenBufferOptions): Promise<OpenBuffer> {
  const { device, bufferIndex } = options;
  const output = device.buffers.find(({ index }) => index === bufferIndex)?.direction === 'out';
  return output ? TxBuffer.open(options) : RxBuffer.open(options);
}

function keyOf(deviceId: string, bufferIndex: number): string {
  return `${deviceId}:${bufferIndex}`;
}
