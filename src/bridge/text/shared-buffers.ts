import { type ChannelMask, type DeviceDescription, IioError, type RingPolicy } from '@iio-bridge/protocol';
import type { Written } from '../../dataplane/playback.js';
import type { Backend } from '../../iio/backend.js';
import type { BufferClaim, BufferClaims } from '../buffer-claims.js';
import type { InputEnvironment, RingSize } from '../input-capture.js';
import type { Logger } from '../logger.js';
import type { Chunk, DeliveryOptions, InputClient, SampleLink } from './input-client.js';
import { type OutputClient, type OutputEnvironment, SharedBuffer } from './shared-buffer.js';
import { SharedInput } from './shared-input.js';

/** iiod's default for BUFFERS_COUNT. */
const DEFAULT_FIFO_BLOCKS = 4;

/** How long an exclusive opening waits for the others to leave. */
const BUSY_MS = 50;

export interface SharedBuffersOptions {
  readonly claims: BufferClaims;
  readonly inputs: InputEnvironment;
  readonly outputs: OutputEnvironment;
  /** Captured ahead of the clients. */
  readonly ring?: RingSize | undefined;
  readonly policy?: RingPolicy | undefined;
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
  /** Where samples go that are read, and those come from that are written. */
  readonly link: SampleLink;
  readonly log: Logger;
}

/** A client of a shared buffer, by its direction. */
type Membership =
  | { readonly direction: 'in'; readonly shared: SharedInput; readonly client: InputClient }
  | { readonly direction: 'out'; readonly shared: SharedBuffer; readonly client: OutputClient };

/** One client's hold on a shared buffer. `close()` gives it up. */
export class OpenSharedBuffer {
  readonly #membership: Membership;
  readonly #onClose: () => Promise<void>;

  constructor(membership: Membership, onClose: () => Promise<void>) {
    this.#membership = membership;
    this.#onClose = onClose;
  }

  get isOutput(): boolean {
    return this.#membership.direction === 'out';
  }

  get cyclic(): boolean {
    return this.#membership.shared.cyclic;
  }

  /** Of a sample set; 0 while the buffer is being opened anew. */
  get sampleBytes(): number {
    return this.#membership.shared.layout?.sample.bytes ?? 0;
  }

  /** Of a block that the client asked for. */
  get blockBytes(): number {
    return this.sampleBytes * this.#membership.client.samples;
  }

  /** Sends the client its next samples. @throws {IioError} as {@link InputClient.deliver}; `EPERM` for an output. */
  async deliver(maxBytes: number, options: DeliveryOptions): Promise<Chunk | undefined> {
    if (this.#membership.direction === 'out') {
      throw new IioError('EPERM', 'an output buffer cannot be read');
    }
    return await this.#membership.client.deliver(maxBytes, options);
  }

  /** @throws {IioError} as {@link SharedBuffer.beginWriting}; `EPERM` for an input. */
  beginWriting(): void {
    const { shared, client } = this.#output;
    shared.beginWriting(client);
  }

  endWriting(): void {
    const { shared, client } = this.#output;
    shared.endWriting(client);
  }

  /** @throws {IioError} as {@link SharedBuffer.write}; `EPERM` for an input. */
  async write(bytes: number, timeoutMs: number): Promise<Written> {
    const { shared, client } = this.#output;
    return await shared.write(client, bytes, timeoutMs);
  }

  /** @throws {IioError} as {@link SharedBuffer.repeat}; `EPERM` for an input. */
  async repeat(bytes: number): Promise<Written> {
    const { shared, client } = this.#output;
    return await shared.repeat(client, bytes);
  }

  /** Waits until what was written is played: see {@link SharedBuffer.drain}. */
  async drain(timeoutMs: number): Promise<void> {
    if (this.#membership.direction === 'out') {
      await this.#membership.shared.drain(timeoutMs);
    }
  }

  async close(): Promise<void> {
    await this.#onClose();
  }

  get #output(): Extract<Membership, { direction: 'out' }> {
    if (this.#membership.direction === 'in') {
      throw new IioError('EPERM', 'an input buffer cannot be written');
    }
    return this.#membership;
  }
}

interface Entry {
  readonly shared: SharedInput | SharedBuffer;
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
    const { device, mask, samples, cyclic, log } = request;
    if (samples < 1) {
      throw new IioError('EINVAL', `blocks of ${samples} samples make no sense`);
    }
    const bufferIndex = bufferFor(device, mask);
    const key = `${device.id}:${bufferIndex}`;
    const entry = await this.#enter(key, request, bufferIndex);
    try {
      const membership = await join(entry.shared, request);
      log.info({ samples, mask: mask.toText(), cyclic }, 'a text client opened a buffer');
      return new OpenSharedBuffer(membership, () => this.#leave(key, entry, membership));
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
    if (count < 1 || count > this.#options.inputs.memory.maxBlocks) {
      throw new IioError('EINVAL', `${count} blocks are not between 1 and ${this.#options.inputs.memory.maxBlocks}`);
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
    const { claims, inputs, outputs, ring, policy = 'drop-newest', demux } = this.#options;
    const { backend, device, deviceIndex, cyclic, log } = request;
    const fifoBlocks = this.#fifoBlocks.get(device.id) ?? DEFAULT_FIFO_BLOCKS;
    const address = { backend, device, deviceIndex, bufferIndex, fifoBlocks, log };
    const isOutput = device.buffers.find(({ index }) => index === bufferIndex)?.direction === 'out';
    const entry: Entry = {
      joining: 0,
      emptied: undefined,
      claim: claims.claim(device.id, bufferIndex, 'text'),
      shared: isOutput
        ? new SharedBuffer({ ...address, cyclic, outputs })
        : new SharedInput({ ...address, inputs, ring, policy, demux }),
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

  async #leave(key: string, entry: Entry, membership: Membership): Promise<void> {
    const left = leave(membership);
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

async function join(shared: SharedInput | SharedBuffer, request: OpenRequest): Promise<Membership> {
  const { backend, mask, samples, link } = request;
  return shared.isOutput
    ? { direction: 'out', shared, client: await shared.join(backend, { mask, samples, link }) }
    : { direction: 'in', shared, client: await shared.join(request) };
}

function leave(membership: Membership): Promise<void> {
  return membership.direction === 'out'
    ? membership.shared.leave(membership.client)
    : membership.shared.leave(membership.client);
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
