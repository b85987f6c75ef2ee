import {
  ChannelMask,
  type Demux,
  type DeviceDescription,
  demux,
  IioError,
  type SampleLayout,
  sampleLayout,
} from '@iio-bridge/protocol';
import type { Logger } from '../logger.js';

/** Blocks and bytes that wait for a client before it loses some; one block may always wait. */
const MAX_WAITING_BLOCKS = 8;
const MAX_WAITING_BYTES = 16 * 1024 * 1024;

/** How the samples of a running buffer stand in memory. */
export interface BlockLayout {
  /** With the channels that the device switched on by itself. */
  readonly mask: ChannelMask;
  readonly sample: SampleLayout;
}

/** Samples as they came from the device. Shared by the clients: not to be written to. */
interface Block {
  readonly layout: BlockLayout;
  readonly bytes: Uint8Array;
}

/** A piece of an answer: whole sample sets of the channels in `mask`. */
export interface Chunk {
  readonly mask: ChannelMask;
  readonly bytes: Uint8Array;
}

export interface ReadOptions {
  /** What the request's chunks so far had: a chunk of another mask is not delivered. */
  readonly mask: ChannelMask | undefined;
  /** 0 = for ever. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/** What a client needs of the buffer that it shares. */
export interface BlockSource {
  /** Undefined while the buffer is being opened anew. */
  readonly layout: BlockLayout | undefined;
  /** Some client waits: read the next block. */
  demand(): void;
}

export interface BufferClientOptions {
  readonly device: DeviceDescription;
  readonly mask: ChannelMask;
  /** Sample sets per block. */
  readonly samples: number;
  /** Deliver the client's own channels only, whatever else the others want. */
  readonly demux: boolean;
  readonly log: Logger;
}

/**
 * One client's view of a shared input buffer: owns the blocks that wait for it. A client that does not fetch them loses
 * the newer ones; the others do not notice.
 */
export class BufferClient {
  readonly mask: ChannelMask;
  readonly samples: number;
  readonly #device: DeviceDescription;
  readonly #demux: boolean;
  readonly #log: Logger;
  readonly #source: BlockSource;
  readonly #waiting: Block[] = [];
  #waitingBytes = 0;
  /** Bytes of the first waiting block that have been delivered. */
  #delivered = 0;
  #wake: ((error?: Error) => void) | undefined;
  #view:
    | { readonly layout: BlockLayout; readonly mask: ChannelMask; readonly sampleBytes: number; readonly pick: Demux }
    | undefined;
  #lostBlocks = 0;
  #losing = false;

  constructor(source: BlockSource, options: BufferClientOptions) {
    this.#source = source;
    this.mask = options.mask;
    this.samples = options.samples;
    this.#device = options.device;
    this.#demux = options.demux;
    this.#log = options.log;
  }

  /** Blocks that came while the client was not fetching any. */
  get lostBlocks(): number {
    return this.#lostBlocks;
  }

  get isWaiting(): boolean {
    return this.#wake !== undefined;
  }

  /**
   * The next chunk of at most `maxBytes` bytes and one block. Undefined if that is less than a sample set, or if the
   * channels have changed since the request's last chunk.
   *
   * @throws {IioError} `ETIMEDOUT`, after which nothing is lost; `ECANCELED` by the signal; the device's errno
   */
  async read(maxBytes: number, { mask, timeoutMs, signal }: ReadOptions): Promise<Chunk | undefined> {
    const deadline = timeoutMs === 0 ? undefined : performance.now() + timeoutMs;
    for (;;) {
      const layout = this.#waiting[0]?.layout ?? this.#source.layout;
      if (layout !== undefined) {
        const view = this.#viewOf(layout);
        if (maxBytes < view.sampleBytes || (mask !== undefined && !mask.equals(view.mask))) {
          return undefined;
        }
      }
      const chunk = this.#takeChunk(maxBytes);
      if (chunk !== undefined) {
        return chunk;
      }
      await this.#wait(deadline, signal);
    }
  }

  /** A block has come from the device. */
  push(block: Block): void {
    const { byteLength } = block.bytes;
    const full =
      this.#waiting.length >= MAX_WAITING_BLOCKS ||
      (this.#waiting.length > 0 && this.#waitingBytes + byteLength > MAX_WAITING_BYTES);
    if (full) {
      this.#lostBlocks += 1;
      if (!this.#losing) {
        this.#log.warn({ lostBlocks: this.#lostBlocks }, 'a client does not fetch its samples, and loses some');
      }
      this.#losing = true;
      return;
    }
    this.#losing = false;
    this.#waiting.push(block);
    this.#waitingBytes += byteLength;
    this.#wake?.();
  }

  /** The buffer was opened anew, or with an error: could not be. */
  notify(error?: Error): void {
    this.#wake?.(error);
  }

  #takeChunk(maxBytes: number): Chunk | undefined {
    const block = this.#waiting[0];
    if (block === undefined) {
      return undefined;
    }
    const sourceBytes = block.layout.sample.bytes;
    const { mask, sampleBytes, pick } = this.#viewOf(block.layout);
    const left = Math.floor((block.bytes.byteLength - this.#delivered) / sourceBytes);
    const samples = Math.min(left, Math.floor(maxBytes / sampleBytes));
    const bytes = block.bytes.subarray(this.#delivered, this.#delivered + samples * sourceBytes);
    this.#delivered += bytes.byteLength;
    if (samples === left) {
      this.#waiting.shift();
      this.#waitingBytes -= block.bytes.byteLength;
      this.#delivered = 0;
    }
    return { mask, bytes: this.#demux ? pick(bytes) : bytes };
  }

  /** What the client gets to see of blocks of this layout. */
  #viewOf(layout: BlockLayout): { readonly mask: ChannelMask; readonly sampleBytes: number; readonly pick: Demux } {
    if (!this.#demux) {
      return { mask: layout.mask, sampleBytes: layout.sample.bytes, pick: (bytes) => bytes };
    }
    if (this.#view?.layout !== layout) {
      const own = this.mask.positions().filter((position) => layout.mask.has(position));
      const mask = ChannelMask.of(this.mask.channelCount, own);
      const sample = sampleLayout(this.#device.channels, mask);
      this.#view = { layout, mask, sampleBytes: sample.bytes, pick: demux(layout.sample, sample) };
    }
    return this.#view;
  }

  async #wait(deadline: number | undefined, signal: AbortSignal): Promise<void> {
    if (signal.aborted) {
      throw new IioError('ECANCELED', `the client of ${this.#device.id} is gone`);
    }
    await new Promise<void>((resolve, reject) => {
      const settle = (error?: Error): void => {
        this.#wake = undefined;
        clearTimeout(timer);
        signal.removeEventListener('abort', onAbort);
        if (error === undefined) {
          resolve();
        } else {
          reject(error);
        }
      };
      const onAbort = (): void => settle(new IioError('ECANCELED', `the client of ${this.#device.id} is gone`));
      const timer =
        deadline === undefined
          ? undefined
          : setTimeout(
              () => settle(new IioError('ETIMEDOUT', `no samples came from ${this.#device.id} in time`)),
              Math.max(0, deadline - performance.now()),
            );
      signal.addEventListener('abort', onAbort);
      this.#wake = settle;
      this.#source.demand();
    });
  }
}
