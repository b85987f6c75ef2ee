import {
  ChannelMask,
  type Demux,
  type DeviceDescription,
  demux,
  IioError,
  type SampleLayout,
  sampleLayout,
} from '@iio-bridge/protocol';
import { Link } from '../../dataplane/link.js';
import type { SampleReader } from '../../dataplane/sample-reader.js';
import type { Logger } from '../logger.js';

/** How the samples of a running buffer stand in memory. */
export interface BlockLayout {
  /** With the channels that the device switched on by itself. */
  readonly mask: ChannelMask;
  readonly sample: SampleLayout;
}

/** Where a client's samples go. A Link will do; tests use less. */
export interface SampleLink {
  send(...transfers: readonly Uint8Array[]): void;
}

/** A piece of an answer that is on its way: whole sample sets of the channels in `mask`. */
export interface Chunk {
  readonly mask: ChannelMask;
  readonly bytes: number;
}

export interface DeliveryOptions {
  /** What the request's chunks so far had: a chunk of another mask is not delivered. Undefined for the first. */
  readonly mask: ChannelMask | undefined;
  /** 0 = for ever. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/** What a client has of the buffer while that is open for it. */
export interface Opening {
  readonly layout: BlockLayout;
  readonly reader: SampleReader;
}

export interface InputClientOptions {
  readonly device: DeviceDescription;
  readonly link: SampleLink;
  readonly mask: ChannelMask;
  /** Sample sets per block. */
  readonly samples: number;
  /** Deliver the client's own channels only, whatever else the others want. */
  readonly demux: boolean;
  readonly log: Logger;
}

interface View {
  readonly layout: BlockLayout;
  readonly mask: ChannelMask;
  readonly sampleBytes: number;
  /** Undefined where the client gets the samples as they are. */
  readonly pick: Demux | undefined;
}

/**
 * One client's view of a shared input. The samples that wait for it are blocks of the capture; a client that does not fetch
 * them loses some, and the others do not notice.
 */
export class InputClient {
  readonly mask: ChannelMask;
  readonly samples: number;
  readonly #options: InputClientOptions;
  #opening: Opening | undefined;
  #failure: Error | undefined;
  #view: View | undefined;
  readonly #changed = new Set<() => void>();

  constructor(options: InputClientOptions) {
    this.#options = options;
    this.mask = options.mask;
    this.samples = options.samples;
  }

  /** The data plane's link, where it is one: samples can go there without passing JavaScript. */
  get nativeLink(): Link | undefined {
    const { link } = this.#options;
    return link instanceof Link ? link : undefined;
  }

  get opening(): Opening | undefined {
    return this.#opening;
  }

  /** Whether it gets the blocks as they are. */
  takesWholeBlocks(layout: BlockLayout): boolean {
    return this.nativeLink !== undefined && this.#viewOf(layout).pick === undefined;
  }

  /** The buffer is open for it, or is being opened anew, or could not be. */
  set(opening: Opening | undefined, failure?: Error): void {
    this.#opening = opening;
    this.#failure = failure;
    for (const wake of [...this.#changed]) {
      wake();
    }
  }

  /**
   * Sends the next chunk, of at most `maxBytes` bytes and one block: its number of bytes and, before the first of an
   * answer, the mask, each as a line and transfer of its own, and then the samples. Undefined if that is less than a sample
   * set, or if the channels have changed since the request's last chunk; then nothing is sent.
   *
   * @throws {IioError} `ETIMEDOUT`, after which nothing is lost; `ECANCELED` by the signal; the device's errno
   */
  async deliver(maxBytes: number, options: DeliveryOptions): Promise<Chunk | undefined> {
    const deadline = options.timeoutMs === 0 ? undefined : performance.now() + options.timeoutMs;
    for (;;) {
      const opening = await this.#whenOpen(deadline, options.signal);
      const view = this.#viewOf(opening.layout);
      if (maxBytes < view.sampleBytes || (options.mask !== undefined && !options.mask.equals(view.mask))) {
        return undefined;
      }
      const left = deadline === undefined ? 0 : Math.max(1, Math.ceil(deadline - performance.now()));
      try {
        const delivery = this.#deliverFrom(opening, view, maxBytes, options.mask === undefined, left);
        return { mask: view.mask, bytes: await this.#unlessGone(delivery, options.signal) };
      } catch (error) {
        // The buffer has been opened anew, or is about to be.
        if (!(error instanceof IioError) || error.code !== 'EBADF' || this.#opening === opening) {
          throw error;
        }
      }
    }
  }

  async #deliverFrom(
    { layout, reader }: Opening,
    { mask, sampleBytes, pick }: View,
    maxBytes: number,
    isFirst: boolean,
    timeoutMs: number,
  ): Promise<number> {
    const { link } = this.#options;
    const line = isFirst ? `${mask.toText()}\n` : '';
    if (this.takesWholeBlocks(layout)) {
      return await reader.send(maxBytes, line, timeoutMs);
    }
    const samples = await reader.take(Math.floor(maxBytes / sampleBytes) * layout.sample.bytes, timeoutMs);
    const bytes = pick?.(samples) ?? samples;
    const lines = [`${bytes.byteLength}\n`, ...(line === '' ? [] : [line])];
    link.send(...lines.map((text) => new TextEncoder().encode(text)), bytes);
    return bytes.byteLength;
  }

  /** What the client gets to see of blocks of this layout. */
  #viewOf(layout: BlockLayout): View {
    if (this.#view?.layout !== layout) {
      this.#view = this.#makeView(layout);
    }
    return this.#view;
  }

  #makeView(layout: BlockLayout): View {
    const own = this.mask.positions().filter((position) => layout.mask.has(position));
    const mask = ChannelMask.of(this.mask.channelCount, own);
    if (!this.#options.demux || mask.equals(layout.mask)) {
      return { layout, mask: layout.mask, sampleBytes: layout.sample.bytes, pick: undefined };
    }
    const sample = sampleLayout(this.#options.device.channels, mask);
    return { layout, mask, sampleBytes: sample.bytes, pick: demux(layout.sample, sample) };
  }

  async #whenOpen(deadline: number | undefined, signal: AbortSignal): Promise<Opening> {
    while (this.#opening === undefined) {
      if (this.#failure !== undefined) {
        throw this.#failure;
      }
      const left = deadline === undefined ? undefined : deadline - performance.now();
      if (left !== undefined && left <= 0) {
        throw new IioError('ETIMEDOUT', `no samples came from ${this.#options.device.id} in time`);
      }
      await this.#unlessGone(this.#change(left), signal);
    }
    return this.#opening;
  }

  /** Settles when something has changed, or after `ms` milliseconds. */
  #change(ms: number | undefined): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        clearTimeout(timer);
        this.#changed.delete(wake);
        resolve();
      };
      const timer = ms === undefined ? undefined : setTimeout(wake, ms);
      this.#changed.add(wake);
    });
  }

  async #unlessGone<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
    const gone = (): IioError => new IioError('ECANCELED', `the client of ${this.#options.device.id} is gone`);
    if (signal.aborted) {
      work.catch(() => undefined);
      throw gone();
    }
    return await new Promise<T>((resolve, reject) => {
      const onAbort = (): void => reject(gone());
      signal.addEventListener('abort', onAbort);
      work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
    });
  }
}
