import { IioError, type SampleLayout, type StreamOptions as ServerOptions } from '@iio-bridge/protocol';
import { abortError, withDeadline } from './deadline.js';
import type { Channel, Device } from './device.js';
import { isExact, readCounts, tellsLoss } from './record-counts.js';
import type { StreamEnvironment } from './rx-stream.js';
import { interleavedView, type SampleArray, setChannelValues } from './samples.js';
import type { Playback, PlaybackBlock, PlaybackSink, StreamPlan } from './session.js';
import { DEFAULT_BLOCKS, planFor, type StreamOptions } from './stream-plan.js';
import { Waiters } from './waiters.js';

export interface TxStreamOptions extends StreamOptions {
  /** The first block is played again and again until the stream is closed. Default false. */
  readonly cyclic?: boolean;
  /** With iio-bridge: underruns in the statistics. Default true. */
  readonly metadata?: boolean;
}

export interface TxStatistics {
  /** Blocks that were sent. */
  readonly blocks: number;
  /** Sample bytes that were sent. */
  readonly bytes: number;
  /** Blocks that are on their way or wait for the hardware. 0 means that it has nothing to play. */
  readonly inFlight: number;
  /** Blocks that the user has taken and not sent. */
  readonly held: number;
  /** Mean from the first block played to the last one. */
  readonly bytesPerSecond: number;
  /** Times that the hardware took no block in the server's time-out, and the server was asked again. */
  readonly retries: number;
  /** Times that the stream was resumed after its context was lost. */
  readonly epoch: number;
  /**
   * Times that the hardware had no block to play. `undefined` until the first block was played, and throughout if nothing
   * tells: with other servers than iio-bridge, with `cyclic`, and where the bridge has to copy samples to the driver.
   */
  readonly underruns: number | undefined;
  /** Sample sets that it did not play meanwhile; `undefined` as `underruns`. */
  readonly unplayedSamples: number | undefined;
}

/**
 * An empty block. Belongs to whoever took it until `send()` or `release()`; its memory is reused, so it holds old samples.
 */
export class TxBlock implements Disposable {
  /** Sample sets that fit. */
  readonly samples: number;
  readonly layout: SampleLayout;
  readonly #block: PlaybackBlock;
  #owner: TxBlockOwner | undefined;
  readonly #playback: Playback;

  constructor(owner: TxBlockOwner, playback: Playback, block: PlaybackBlock) {
    this.#owner = owner;
    this.#playback = playback;
    this.#block = block;
    this.layout = playback.layout;
    this.samples = block.bytes.length / this.layout.bytes;
  }

  /** The raw sample sets. @throws IioError `RELEASED` */
  get bytes(): Uint8Array<ArrayBuffer> {
    this.#requireOwner();
    return this.#block.bytes;
  }

  /** All channels as one typed array, as {@link RxBlock.interleaved}. @throws IioError `RELEASED` */
  interleaved(): SampleArray | undefined {
    return interleavedView(this.layout, this.bytes);
  }

  /**
   * Stores raw values of one channel, from the block's first sample set on.
   * @throws IioError `RELEASED`; `NO_CHANNEL`; `EINVAL` if they are more than fit, or no integers
   */
  setChannel(which: Channel | string, values: ArrayLike<number> | ArrayLike<bigint>): void {
    setChannelValues(this.layout, this.bytes, which, values);
  }

  /**
   * Sends the first `samples` sample sets; all by default. To servers other than iio-bridge blocks go out whole: the rest is
   * filled with zeros.
   * @throws IioError `RELEASED`, `EINVAL`
   */
  send(samples: number = this.samples): void {
    const owner = this.#requireOwner();
    if (!Number.isInteger(samples) || samples < 1 || samples > this.samples) {
      throw new IioError('EINVAL', `a block of ${this.samples} samples cannot send ${samples}`);
    }
    this.#owner = undefined;
    owner.sent(this.#playback, this.#block, samples * this.layout.bytes);
  }

  /** Gives the block back unsent. Does nothing after `send()`. */
  release(): void {
    const owner = this.#owner;
    this.#owner = undefined;
    owner?.released(this.#playback, this.#block);
  }

  [Symbol.dispose](): void {
    this.release();
  }

  #requireOwner(): TxBlockOwner {
    if (this.#owner === undefined) {
      throw new IioError('RELEASED', 'a block was used after send() or release(): its memory belongs to the stream');
    }
    return this.#owner;
  }
}

/** Who lent a block of a playback. */
interface TxBlockOwner {
  sent(playback: Playback, block: PlaybackBlock, bytes: number): void;
  released(playback: Playback, block: PlaybackBlock): void;
}

/**
 * Samples to a buffer, block by block. Owns the buffer on the server, its link and its blocks.
 *
 * `for await (const block of stream)` hands out empty blocks as the hardware takes the ones before; fill each and `send()`
 * it. `write()` does that for samples from elsewhere. The hardware starts with the first block that is sent.
 *
 * Ends by `close()`, by leaving the loop, by the signal, or by a failure. `close()` drops what was not played; `flush()`
 * waits for it. In a context with `reconnect` the stream goes on after a loss in a new epoch; what was under way is lost.
 */
export class TxStream implements AsyncIterable<TxBlock>, AsyncDisposable {
  readonly #environment: StreamEnvironment;
  readonly #device: Device;
  readonly #options: TxStreamOptions;
  readonly #plan: StreamPlan;
  readonly #waiters: Waiters<IteratorResult<TxBlock, undefined>>;
  readonly #flushes: Waiters<void>;
  readonly #onAbort: () => void;
  readonly #owner: TxBlockOwner = {
    sent: (playback, block, bytes) => this.#sent(playback, block, bytes),
    released: (playback, block) => this.#released(playback, block),
  };
  #playback: Playback | undefined;
  #idle: TxBlock[] = [];
  #layout: SampleLayout = { bytes: 0, channels: [] };
  #failure: IioError | undefined;
  #closing: Promise<void> | undefined;
  /** Of `write()`, partly filled. */
  #open: { readonly block: TxBlock; filled: number } | undefined;
  #writing: Promise<void> = Promise.resolve();
  #epoch = 0;
  #inFlight = 0;
  #held = 0;
  #blocks = 0;
  #bytes = 0;
  #retries = 0;
  #playedBytes = 0;
  #firstBytes = 0;
  #firstAt = 0;
  #lastAt = 0;
  #underruns: number | undefined;
  #unplayedSamples = 0;

  private constructor(environment: StreamEnvironment, device: Device, options: TxStreamOptions, plan: StreamPlan) {
    this.#environment = environment;
    this.#device = device;
    this.#options = options;
    this.#plan = plan;
    const timeoutMs = options.timeoutMs ?? environment.connection.options.timeoutMs;
    this.#waiters = new Waiters(timeoutMs, () => this.#timeoutError(timeoutMs));
    this.#flushes = new Waiters(timeoutMs, () => this.#timeoutError(timeoutMs));
    this.#onAbort = () => this.#abort();
  }

  /** See {@link Device.createTxStream}. */
  static async open(environment: StreamEnvironment, device: Device, options: TxStreamOptions): Promise<TxStream> {
    const { metadata = true, cyclic = false, signal } = options;
    const extensions: ServerOptions | undefined =
      metadata && !cyclic && environment.connection.extensions.has('stream-options') ? { metadata } : undefined;
    const plan = planFor(device, 'out', cyclic ? { ...options, blocks: 1 } : options, extensions);
    if (signal?.aborted === true) {
      throw abortError(`open a stream on ${device.id}`, signal);
    }
    const stream = new TxStream(environment, device, options, plan);
    environment.streams.add(stream);
    try {
      await withDeadline(stream.#start(), { signal, what: `open ${plan.what}` });
    } catch (error) {
      await stream.close();
      throw error;
    }
    signal?.addEventListener('abort', stream.#onAbort, { once: true });
    return stream;
  }

  /** Where the enabled channels stand in a sample set; hardware may have added channels. */
  get layout(): SampleLayout {
    return this.#layout;
  }

  get device(): Device {
    return this.#device;
  }

  get samplesPerBlock(): number {
    return this.#plan.samplesPerBlock;
  }

  get statistics(): TxStatistics {
    const seconds = (this.#lastAt - this.#firstAt) / 1000;
    return {
      blocks: this.#blocks,
      bytes: this.#bytes,
      inFlight: this.#inFlight,
      held: this.#held,
      bytesPerSecond: seconds > 0 ? (this.#playedBytes - this.#firstBytes) / seconds : 0,
      retries: this.#retries,
      epoch: this.#epoch,
      underruns: this.#underruns,
      unplayedSamples: this.#underruns === undefined ? undefined : this.#unplayedSamples,
    };
  }

  /**
   * An empty block, as soon as there is one. The block is the caller's until its `send()` or `release()`. A cyclic stream
   * has one.
   * @throws IioError `ETIMEDOUT` (the hardware takes none), `BLOCKS_HELD`, `ECANCELED` (the signal), or what ended the stream
   */
  next(): Promise<IteratorResult<TxBlock, undefined>> {
    if (this.#failure !== undefined) {
      return Promise.reject(this.#failure);
    }
    if (this.#closing !== undefined) {
      return Promise.resolve({ done: true, value: undefined });
    }
    if (this.#options.cyclic === true && this.#blocks > 0) {
      return Promise.resolve({ done: true, value: undefined });
    }
    const block = this.#idle.shift();
    if (block === undefined) {
      return this.#waiters.wait();
    }
    this.#held++;
    return Promise.resolve({ done: false, value: block });
  }

  [Symbol.asyncIterator](): AsyncIterator<TxBlock, undefined> {
    return {
      next: () => this.next(),
      return: async () => {
        await this.close();
        return { done: true, value: undefined };
      },
    };
  }

  /**
   * Sends samples of any length: copies them into blocks, and sends each when it is full; `flush()` sends the last one.
   * Resolves when they are copied. Calls queue.
   * @param samples whole sample sets, laid out as {@link layout}, or any part of them
   * @throws IioError as {@link next}; `EPIPE` if the stream is closed or (cyclic) has its block
   */
  write(samples: ArrayBufferView): Promise<void> {
    const bytes = new Uint8Array(samples.buffer, samples.byteOffset, samples.byteLength);
    const written = this.#writing.then(() => this.#copyIn(bytes));
    this.#writing = written.catch(() => {});
    return written;
  }

  /**
   * Sends what `write()` has left in a block, and waits until the hardware has taken everything that was sent.
   * @throws IioError `ETIMEDOUT`; `EINVAL` if the last sample set is incomplete; what ended the stream
   */
  async flush(): Promise<void> {
    await this.#writing;
    const open = this.#open;
    if (open !== undefined && this.#failure === undefined && this.#closing === undefined) {
      if (open.filled % this.#layout.bytes !== 0) {
        const message = `${this.#plan.what}: ${open.filled % this.#layout.bytes} bytes are left over, which are no sample set`;
        throw new IioError('EINVAL', message);
      }
      this.#open = undefined;
      open.block.send(open.filled / this.#layout.bytes);
    }
    if (this.#failure !== undefined) {
      throw this.#failure;
    }
    if (this.#inFlight > 0 && this.#closing === undefined) {
      await this.#flushes.wait();
    }
  }

  /** A Web Stream that takes samples as {@link write} does. Closing it flushes and closes the stream; aborting closes it. */
  toWritableStream(): WritableStream<ArrayBufferView> {
    return new WritableStream<ArrayBufferView>({
      write: (chunk) => this.write(chunk),
      close: async () => {
        await this.flush();
        if (this.#options.cyclic !== true) {
          await this.close();
        }
      },
      abort: () => this.close(),
    });
  }

  /** Closes the buffer; what was not played is dropped. Takes at most about a second. Never rejects. */
  close(): Promise<void> {
    this.#closing ??= this.#tearDown();
    this.#waiters.resolveAll({ done: true, value: undefined });
    this.#flushes.resolveAll(undefined);
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #start(): Promise<void> {
    const session = await this.#environment.connection.session();
    const epoch = this.#epoch;
    let started = false;
    let failed: IioError | undefined;
    const sink: PlaybackSink = {
      onPlayed: (block) => {
        if (epoch === this.#epoch && this.#playback !== undefined) {
          this.#played(this.#playback, block);
        }
      },
      onRetry: () => {
        this.#retries++;
      },
      onFailure: (error) => {
        failed = error;
        if (started) {
          this.#playbackFailed(error);
        }
      },
    };
    const playback = await session.openPlayback(this.#plan, this.#options.cyclic === true, sink);
    this.#playback = playback;
    if (this.#closing !== undefined) {
      await playback.close();
      return;
    }
    if (failed !== undefined) {
      throw failed;
    }
    started = true;
    this.#layout = playback.layout;
    for (const block of playback.blocks) {
      this.#becomesIdle(playback, block);
    }
  }

  #sent(playback: Playback, block: PlaybackBlock, bytes: number): void {
    this.#held--;
    if (playback !== this.#playback || this.#closing !== undefined) {
      // Of an epoch that is over: its samples were for a buffer that is gone.
      return;
    }
    let length = bytes;
    if (!playback.partialBlocks && bytes < block.bytes.length) {
      block.bytes.fill(0, bytes);
      length = block.bytes.length;
    }
    this.#blocks++;
    this.#bytes += length;
    this.#inFlight++;
    playback.send(block, length);
  }

  #released(playback: Playback, block: PlaybackBlock): void {
    this.#held--;
    if (playback === this.#playback) {
      this.#becomesIdle(playback, block);
    }
  }

  #becomesIdle(playback: Playback, block: PlaybackBlock): void {
    const cyclicIsOver = this.#options.cyclic === true && this.#blocks > 0;
    if (cyclicIsOver) {
      this.#waiters.resolveAll({ done: true, value: undefined });
      return;
    }
    const idle = new TxBlock(this.#owner, playback, block);
    if (this.#waiters.hasWaiters) {
      this.#held++;
      this.#waiters.resolveOne({ done: false, value: idle });
    } else {
      this.#idle.push(idle);
    }
  }

  #played(playback: Playback, block: PlaybackBlock): void {
    this.#inFlight--;
    this.#lastAt = performance.now();
    if (this.#playedBytes === 0) {
      this.#firstAt = this.#lastAt;
      this.#firstBytes = block.bytes.length;
    }
    this.#playedBytes += block.bytes.length;
    if (block.record !== undefined) {
      this.#count(block.record);
    }
    this.#becomesIdle(playback, block);
    if (this.#inFlight === 0 && this.#flushes.hasWaiters) {
      this.#flushes.resolveAll(undefined);
    }
  }

  #count(record: Uint8Array<ArrayBuffer>): void {
    if (tellsLoss(record)) {
      this.#underruns = (this.#underruns ?? 0) + 1;
      this.#unplayedSamples += readCounts(record).lostSets;
    } else if (isExact(record)) {
      this.#underruns ??= 0;
    }
  }

  async #copyIn(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; ) {
      if (this.#failure !== undefined) {
        throw this.#failure;
      }
      if (this.#open === undefined) {
        const { done, value } = await this.next();
        if (done === true) {
          const why = this.#closing === undefined ? 'is cyclic and has its block' : 'is closed';
          throw new IioError('EPIPE', `${this.#plan.what} takes no more samples: the stream ${why}`);
        }
        this.#open = { block: value, filled: 0 };
      }
      const open = this.#open;
      const taken = Math.min(bytes.length - at, open.block.bytes.length - open.filled);
      open.block.bytes.set(bytes.subarray(at, at + taken), open.filled);
      open.filled += taken;
      at += taken;
      if (open.filled === open.block.bytes.length) {
        this.#open = undefined;
        open.block.send();
      }
    }
  }

  #playbackFailed(error: IioError): void {
    if (error.code === 'DISCONNECTED' && this.#environment.connection.reconnects && this.#closing === undefined) {
      this.#resume().catch((reason: unknown) => this.#fail(reason instanceof IioError ? reason : error));
    } else {
      this.#fail(error);
    }
  }

  async #resume(): Promise<void> {
    const lost = this.#playback;
    this.#playback = undefined;
    this.#idle = [];
    this.#open = undefined;
    this.#inFlight = 0;
    this.#epoch++;
    await lost?.close();
    this.#flushes.rejectAll(
      new IioError('DISCONNECTED', `${this.#plan.what} was lost before it had played everything`),
    );
    await this.#environment.connection.resume(async () => {
      await this.#playback?.close();
      if (this.#closing === undefined) {
        await this.#start();
      }
    });
  }

  #timeoutError(timeoutMs: number): IioError {
    const { blocks = DEFAULT_BLOCKS } = this.#options;
    const { what } = this.#plan;
    return this.#held >= blocks
      ? new IioError('BLOCKS_HELD', `${what}: all ${blocks} blocks are held by the writer; send() or release() them`)
      : new IioError('ETIMEDOUT', `${what}: the hardware took no samples in ${timeoutMs} ms; is it running?`);
  }

  #abort(): void {
    const { signal } = this.#options;
    if (this.#closing === undefined && signal !== undefined) {
      this.#fail(abortError(this.#plan.what, signal));
    }
  }

  #fail(error: IioError): void {
    if (this.#failure !== undefined || this.#closing !== undefined) {
      return;
    }
    this.#failure = error;
    this.#waiters.rejectAll(error);
    this.#flushes.rejectAll(error);
    this.#closing = this.#tearDown();
  }

  async #tearDown(): Promise<void> {
    this.#options.signal?.removeEventListener('abort', this.#onAbort);
    await this.#playback?.close();
    this.#environment.streams.delete(this);
  }
}
