import { type ChannelMask, type DeviceDescription, IioError } from '@iio-bridge/protocol';
import type { Backend } from '../../iio/backend.js';
import type { BufferClaim, BufferClaims } from '../buffer-claims.js';
import type { Logger } from '../logger.js';
import type { BufferClient, Chunk, ReadOptions } from './buffer-client.js';
import { type BlockIo, type SampleMemory, SharedBuffer } from './shared-buffer.js';

/** iiod's default for BUFFERS_COUNT. */
const DEFAULT_FIFO_BLOCKS = 4;

/** How long an exclusive opening waits for the others to leave. */
const BUSY_MS = 50;

export interface SharedBuffersOptions {
  readonly claims: BufferClaims;
  readonly openSampleIo: (fd: number) => BlockIo;
  readonly memory: SampleMemory;
  /** Clients get their own channels only, whatever the others have asked for. */
  readonly demux: boolean;
}

export interface OpenRequest {
  readonly backend: Backend;
  readonly device: DeviceDescription;
  /** Position of the device in the backend's context. */
  readonly deviceIndex: number;
  readonly mask: ChannelMask;
  /** Sample sets per block. */
  readonly samples: number;
  readonly cyclic: boolean;
  readonly log: Logger;
}

/** One client's hold on a shared buffer. `close()` gives it up. */
export class OpenSharedBuffer {
  readonly #shared: SharedBuffer;
  readonly #client: BufferClient;
  readonly #onClose: () => Promise<void>;

  constructor(shared: SharedBuffer, client: BufferClient, onClose: () => Promise<void>) {
    this.#shared = shared;
    this.#client = client;
    this.#onClose = onClose;
  }

  get isOutput(): boolean {
    return this.#shared.isOutput;
  }

  get cyclic(): boolean {
    return this.#shared.cyclic;
  }

  /** Of a sample set; 0 while the buffer is being opened anew. */
  get sampleBytes(): number {
    return this.#shared.layout?.sample.bytes ?? 0;
  }

  /** Of a block that the client asked for. */
  get blockBytes(): number {
    return this.sampleBytes * this.#client.samples;
  }

  /** @throws {IioError} as {@link BufferClient.read}; `EPERM` for an output. */
  async read(maxBytes: number, options: ReadOptions): Promise<Chunk | undefined> {
    if (this.isOutput) {
      throw new IioError('EPERM', 'an output buffer cannot be read');
    }
    return await this.#client.read(maxBytes, options);
  }

  /** @throws {IioError} as {@link SharedBuffer.beginWriting}. */
  beginWriting(): void {
    this.#shared.beginWriting(this.#client);
  }

  endWriting(): void {
    this.#shared.endWriting(this.#client);
  }

  /** @throws {IioError} as {@link SharedBuffer.write}. */
  async write(bytes: Uint8Array, timeoutMs: number): Promise<void> {
    await this.#shared.write(bytes, timeoutMs);
  }

  repeat(bytes: Uint8Array): void {
    this.#shared.repeat(bytes);
  }

  async close(): Promise<void> {
    await this.#onClose();
  }
}

interface Entry {
  readonly shared: SharedBuffer;
  readonly claim: BufferClaim;
  /** Clients that are about to join. */
  joining: number;
  /** Set once the last client leaves: settles when the buffer is closed. */
  emptied: Promise<void> | undefined;
}

/** The buffers that text clients have open, each shared by those that opened it. */
export class SharedBuffers {
  readonly #options: SharedBuffersOptions;
  readonly #open = new Map<string, Entry>();
  readonly #fifoBlocks = new Map<string, number>();

  constructor(options: SharedBuffersOptions) {
    this.#options = options;
  }

  /**
   * Opens a buffer of the device, or joins those that have it open.
   *
   * @throws {IioError} `EBUSY` if it is open for cyclic use, or that is asked for and it is open, for 50 ms; as
   * {@link SharedBuffer.join}; `ENODEV` if the device has no buffer; `EINVAL` for blocks without samples
   */
  async open(request: OpenRequest): Promise<OpenSharedBuffer> {
    const { backend, device, mask, samples, cyclic, log } = request;
    if (samples < 1) {
      throw new IioError('EINVAL', `blocks of ${samples} samples make no sense`);
    }
    const bufferIndex = bufferFor(device, mask);
    const key = `${device.id}:${bufferIndex}`;
    const entry = await this.#enter(key, request, bufferIndex);
    try {
      const client = await entry.shared.join(backend, mask, samples, log);
      log.info({ samples, mask: mask.toText(), cyclic }, 'a text client opened a buffer');
      return new OpenSharedBuffer(entry.shared, client, () => this.#leave(key, entry, client));
    } finally {
      entry.joining -= 1;
      this.#releaseUnused(key, entry);
    }
  }

  /**
   * Sets how many blocks the FIFO of the device's buffers has room for, from the next opening on.
   *
   * @throws {IioError} `EINVAL` below 1 and above the limit, `EBUSY` if one is open, for 50 ms
   */
  async setBlocksCount(device: DeviceDescription, count: number): Promise<void> {
    if (count < 1 || count > this.#options.memory.maxBlocks) {
      throw new IioError('EINVAL', `${count} blocks are not between 1 and ${this.#options.memory.maxBlocks}`);
    }
    const isOpen = (): boolean => device.buffers.some(({ index }) => this.#open.has(`${device.id}:${index}`));
    await this.#retry(() => (isOpen() ? undefined : true), `${device.id} is open`);
    this.#fifoBlocks.set(device.id, count);
  }

  /** The entry of the buffer, reserved for one client to join. */
  async #enter(key: string, request: OpenRequest, bufferIndex: number): Promise<Entry> {
    const { device, cyclic } = request;
    const isExclusive = (entry: Entry): boolean => cyclic || entry.shared.cyclic;
    // That the last client is gone but the hardware not yet closed is nobody's fault.
    for (let entry = this.#open.get(key); entry?.emptied !== undefined && isExclusive(entry); ) {
      await entry.emptied;
      entry = this.#open.get(key);
    }
    return await this.#retry(() => {
      const existing = this.#open.get(key);
      if (existing !== undefined && isExclusive(existing)) {
        return undefined;
      }
      if (existing === undefined && this.#options.claims.holder(device.id, bufferIndex) !== undefined) {
        return undefined;
      }
      const entry = existing ?? this.#add(key, request, bufferIndex);
      entry.joining += 1;
      entry.emptied = undefined;
      return entry;
    }, `buffer ${bufferIndex} of ${device.id} is in use`);
  }

  #add(key: string, request: OpenRequest, bufferIndex: number): Entry {
    const { claims, memory, demux, openSampleIo } = this.#options;
    const { backend, device, deviceIndex, cyclic, log } = request;
    const entry: Entry = {
      joining: 0,
      emptied: undefined,
      claim: claims.claim(device.id, bufferIndex, 'text'),
      shared: new SharedBuffer({
        backend,
        device,
        deviceIndex,
        bufferIndex,
        cyclic,
        fifoBlocks: this.#fifoBlocks.get(device.id) ?? DEFAULT_FIFO_BLOCKS,
        memory,
        demux,
        openSampleIo,
        log,
      }),
    };
    this.#open.set(key, entry);
    return entry;
  }

  /** What `attempt` returns, once it returns something. @throws {IioError} `EBUSY` when the time is up. */
  async #retry<T>(attempt: () => T | undefined, failure: string): Promise<T> {
    const deadline = performance.now() + BUSY_MS;
    for (;;) {
      const result = attempt();
      if (result !== undefined) {
        return result;
      }
      const left = deadline - performance.now();
      if (left <= 0) {
        throw new IioError('EBUSY', failure);
      }
      await this.#options.claims.changed(left);
    }
  }

  async #leave(key: string, entry: Entry, client: BufferClient): Promise<void> {
    const left = entry.shared.leave(client);
    if (entry.shared.isUnused && entry.joining === 0) {
      entry.emptied ??= left.catch(() => undefined);
    }
    try {
      await left;
    } finally {
      this.#releaseUnused(key, entry);
    }
  }

  #releaseUnused(key: string, entry: Entry): void {
    if (entry.joining === 0 && entry.shared.isUnused && this.#open.get(key) === entry) {
      this.#open.delete(key);
      entry.claim.release();
    }
  }
}

/** The lowest one that has all of the mask's channels; 0.2x clients know of one buffer per device. */
function bufferFor(device: DeviceDescription, mask: ChannelMask): number {
  const wanted = mask.positions();
  const buffer =
    device.buffers.find(({ channels }) => wanted.every((position) => channels.includes(position))) ?? device.buffers[0];
  if (buffer === undefined) {
    throw new IioError('ENODEV', `${device.id} has no buffer`);
  }
  // Asked here, because the channels of others would hide it.
  if (!wanted.some((position) => buffer.channels.includes(position))) {
    throw new IioError(
      'EINVAL',
      `the mask ${mask.toText()} names no channel of buffer ${buffer.index} of ${device.id}`,
    );
  }
  return buffer.index;
}
