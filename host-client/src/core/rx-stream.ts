import {
  IioError,
  type RingPolicy,
  type SampleLayout,
  type StreamOptions as ServerOptions,
} from '@iio-bridge/protocol';
import type { Connection } from './connection.js';
import type { Closable } from './context.js';
import { abortError, withDeadline } from './deadline.js';
import type { Device } from './device.js';
import { Fifo } from './fifo.js';
import { readCounts, tellsLoss } from './record-counts.js';
import { RxBlock, type RxBlockOwner } from './rx-block.js';
import type { Calibration } from './samples.js';
import type { Capture, CapturedBlock, CaptureSink, StreamPlan } from './session.js';
import { DEFAULT_BLOCKS, planFor, type StreamOptions } from './stream-plan.js';
import { Waiters } from './waiters.js';

export interface RxStreamOptions extends StreamOptions {
  /** Limit on the bytes of USB reads in flight. Default 8 MiB. */
  readonly windowBytes?: number;
  /** Reads `scale` and `offset` of the channels once, for {@link RxBlock.scaled}. Default false. */
  readonly scaled?: boolean;
  /** With iio-bridge: what is known of each block ({@link RxBlock.metadata}), and gaps in the statistics. Default true. */
  readonly metadata?: boolean;
  /** With iio-bridge: capture ahead of the reader, up to that much time or memory beyond the stream's blocks. */
  readonly ring?: { readonly ms: number } | { readonly bytes: number };
  /** With iio-bridge: what gives way when the ring is full. Default `drop-newest`. */
  readonly policy?: RingPolicy;
  /** With iio-bridge: join those who stream from this buffer already. The channels must be the same. */
  readonly share?: boolean;
}

export interface RxStatistics {
  /** Blocks that have arrived. */
  readonly blocks: number;
  /** Sample bytes that have arrived. */
  readonly bytes: number;
  /** Blocks that the server is to fill or is sending now. 0 while the user holds them all: then samples may be lost. */
  readonly inFlight: number;
  /** Blocks that have arrived and wait to be taken. */
  readonly ready: number;
  /** Blocks that the user has taken and not released. */
  readonly held: number;
  /** Mean from the first block to the last one. */
  readonly bytesPerSecond: number;
  /** Times that the server gave up waiting for samples and was asked again. */
  readonly retries: number;
  /** Times that the stream was resumed after its context was lost. */
  readonly epoch: number;
  /** Gaps in the samples, interruptions by a lost context aside; `undefined` if the server does not tell. */
  readonly gaps: number | undefined;
  /** Sample sets lost in the gaps; `undefined` if the server does not tell. */
  readonly lostSamples: number | undefined;
  /** Whether `lostSamples` was measured throughout; otherwise some of it is estimated from the duration of gaps. */
  readonly lostExactly: boolean | undefined;
  /** Sample bytes that had to be copied; stays near 0 in a stream that runs well. */
  readonly bytesCopied: number;
  /** Times that the reads in flight did not fit what the server sent and were posted anew. */
  readonly realignments: number;
  /** Limit on bytes in flight; shrinks when the system runs out of memory for USB transfers. */
  readonly windowBytes: number;
}

/** What streams share with their context. */
export interface StreamEnvironment {
  readonly connection: Connection;
  /** Open streams; a stream leaves when it is closed. */
  readonly streams: Set<Closable>;
}

/**
 * Samples from a buffer, block by block. Owns the buffer on the server, its link and its blocks.
 *
 * A block belongs to whoever took it until `release()`; the stream has a fixed number of them, so not releasing is
 * backpressure. In particular a loop **must** release (or declare the block with `using`), or it stalls when it holds
 * them all; the wait then ends with `BLOCKS_HELD`.
 *
 * Ends by `close()`, by leaving a `for await` loop, by the signal, or by a failure; then the buffer is closed on the
 * server, also when no samples ever come. Blocks that arrived before a failure are still handed out, then the failure is
 * thrown; it has code `DISCONNECTED` if the device is gone. In a context with `reconnect` the stream goes on instead, in a
 * new epoch, once the context is found again.
 */
export class RxStream implements AsyncIterable<RxBlock>, AsyncDisposable, RxBlockOwner {
  readonly calibrations: ReadonlyMap<number, Calibration> | undefined;
  readonly #environment: StreamEnvironment;
  readonly #device: Device;
  readonly #options: RxStreamOptions;
  readonly #plan: StreamPlan;
  readonly #ready = new Fifo<RxBlock>();
  readonly #waiters: Waiters<IteratorResult<RxBlock, undefined>>;
  readonly #onAbort: () => void;
  readonly #timeoutMs: number;
  #layout: SampleLayout = { bytes: 0, channels: [] };
  #capture: Capture | undefined;
  #resuming = false;
  #failure: IioError | undefined;
  #closing: Promise<void> | undefined;
  #epoch = 0;
  #held = 0;
  #sequence = 0;
  #bytes = 0;
  #retries = 0;
  #firstBytes = 0;
  #firstAt = 0;
  #lastAt = 0;
  #gaps: number | undefined;
  #lostSamples = 0;
  #lostExactly = true;

  private constructor(
    environment: StreamEnvironment,
    device: Device,
    options: RxStreamOptions,
    plan: StreamPlan,
    calibrations: ReadonlyMap<number, Calibration> | undefined,
  ) {
    this.#environment = environment;
    this.#device = device;
    this.#options = options;
    this.#plan = plan;
    this.#gaps = plan.extensions?.metadata === true ? 0 : undefined;
    this.calibrations = calibrations;
    this.#timeoutMs = options.timeoutMs ?? environment.connection.options.timeoutMs;
    this.#waiters = new Waiters(this.#timeoutMs, () => this.#timeoutError());
    this.#onAbort = () => this.#abort();
  }

  /** See {@link Device.createRxStream}. */
  static async open(environment: StreamEnvironment, device: Device, options: RxStreamOptions): Promise<RxStream> {
    const { connection } = environment;
    const extensions = serverOptions(device, options, connection);
    const plan = planFor(device, 'in', options, extensions, options.windowBytes);
    const { signal } = options;
    if (signal?.aborted === true) {
      throw abortError(`open a stream on ${device.id}`, signal);
    }
    const calibrations = options.scaled === true ? await calibrationsOf(device, plan) : undefined;
    const stream = new RxStream(environment, device, options, plan, calibrations);
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

  /** Sample sets per block, as asked for. */
  get samplesPerBlock(): number {
    return this.#plan.samplesPerBlock;
  }

  get statistics(): RxStatistics {
    const seconds = (this.#lastAt - this.#firstAt) / 1000;
    const { bytesCopied = 0, realignments = 0, windowBytes = 0 } = this.#capture?.reader ?? {};
    const known = this.#gaps !== undefined;
    return {
      blocks: this.#sequence,
      bytes: this.#bytes,
      inFlight: this.#capture?.inFlight ?? 0,
      ready: this.#ready.length,
      held: this.#held,
      bytesPerSecond: seconds > 0 ? (this.#bytes - this.#firstBytes) / seconds : 0,
      retries: this.#retries,
      epoch: this.#epoch,
      gaps: this.#gaps,
      lostSamples: known ? this.#lostSamples : undefined,
      lostExactly: known ? this.#lostExactly : undefined,
      bytesCopied,
      realignments,
      windowBytes,
    };
  }

  /**
   * The next block, in the order of capture. The block is the caller's until its `release()`.
   * @throws IioError `ETIMEDOUT` (no samples; the stream stays open), `BLOCKS_HELD` (they were not released),
   *   `ECANCELED` (the signal), or what ended the stream
   */
  next(): Promise<IteratorResult<RxBlock, undefined>> {
    const block = this.#ready.shift();
    if (block !== undefined) {
      this.#held++;
      return Promise.resolve({ done: false, value: block });
    }
    if (this.#failure !== undefined) {
      return Promise.reject(this.#failure);
    }
    if (this.#closing !== undefined) {
      return Promise.resolve({ done: true, value: undefined });
    }
    return this.#waiters.wait();
  }

  [Symbol.asyncIterator](): AsyncIterator<RxBlock, undefined> {
    return {
      next: () => this.next(),
      return: async () => {
        await this.close();
        return { done: true, value: undefined };
      },
    };
  }

  /**
   * The stream as a Web Stream of blocks; whoever reads it releases them. Cancelling it closes the stream. Blocks are asked
   * for as they are read, so a pipe is held back by its slowest part.
   */
  toReadableStream(): ReadableStream<RxBlock> {
    return new ReadableStream<RxBlock>(
      {
        pull: async (controller) => {
          const { done, value } = await this.next();
          if (done === true) {
            controller.close();
          } else {
            controller.enqueue(value);
          }
        },
        cancel: () => this.close(),
      },
      { highWaterMark: 0 },
    );
  }

  /**
   * Closes the buffer, also while blocks are outstanding; takes at most about a second. Blocks that the user holds stay
   * readable. Never rejects: what goes wrong goes to the logger, and closing the link makes the server clean up anyway.
   */
  close(): Promise<void> {
    this.#closing ??= this.#tearDown();
    for (const block of this.#ready.drain()) {
      this.#held++;
      block.release();
    }
    this.#waiters.resolveAll({ done: true, value: undefined });
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** For the stream's blocks. */
  released(captured: CapturedBlock): void {
    this.#held--;
    captured.recycle();
  }

  async #start(): Promise<void> {
    const { connection } = this.#environment;
    const session = await connection.session();
    let started = false;
    let failed: IioError | undefined;
    const sink: CaptureSink = {
      onBlock: (block) => this.#arrived(block),
      onRetry: () => {
        this.#retries++;
      },
      onFailure: (error) => {
        failed = error;
        if (started) {
          this.#captureFailed(error);
        }
      },
    };
    const capture = await session.openCapture(this.#plan, sink);
    this.#capture = capture;
    if (this.#closing !== undefined) {
      await capture.close();
      return;
    }
    this.#layout = capture.layout;
    await capture.start();
    if (failed !== undefined) {
      throw failed;
    }
    started = true;
  }

  #arrived(captured: CapturedBlock): void {
    this.#lastAt = performance.now();
    this.#bytes += captured.bytes.length;
    if (this.#sequence === 0) {
      this.#firstAt = this.#lastAt;
      this.#firstBytes = captured.bytes.length;
    }
    if (captured.record !== undefined) {
      this.#count(captured.record);
    }
    const block = new RxBlock(this, this.#sequence++, this.#epoch, captured);
    this.#held++;
    if (!this.#waiters.resolveOne({ done: false, value: block })) {
      this.#held--;
      this.#ready.push(block);
    }
  }

  #count(record: Uint8Array<ArrayBuffer>): void {
    if (tellsLoss(record)) {
      const { lostSets, exact } = readCounts(record);
      this.#gaps = (this.#gaps ?? 0) + 1;
      this.#lostSamples += lostSets;
      this.#lostExactly &&= exact;
    }
  }

  #captureFailed(error: IioError): void {
    if (error.code === 'DISCONNECTED' && this.#environment.connection.reconnects && this.#closing === undefined) {
      this.#resuming = true;
      this.#resume().then(
        () => {
          this.#resuming = false;
        },
        (reason: unknown) => this.#fail(reason instanceof IioError ? reason : error),
      );
    } else {
      this.#fail(error);
    }
  }

  /** Opens the buffer again on the context that is back. Blocks of before stay in front, in their epoch. */
  async #resume(): Promise<void> {
    const lost = this.#capture;
    this.#capture = undefined;
    await lost?.close();
    const { layout } = this;
    this.#epoch++;
    await this.#environment.connection.resume(async () => {
      await this.#capture?.close();
      if (this.#closing === undefined) {
        await this.#start();
      }
    });
    if (this.#closing !== undefined) {
      return;
    }
    if (this.#layout.bytes !== layout.bytes) {
      throw new IioError('CONTEXT_CHANGED', `${this.#plan.what} came back with other channels; open the stream anew`);
    }
  }

  #timeoutError(): IioError {
    const { blocks = DEFAULT_BLOCKS } = this.#options;
    const { what } = this.#plan;
    if (this.#resuming) {
      return new IioError(
        'ETIMEDOUT',
        `${what}: the context was lost, and was not found again in ${this.#timeoutMs} ms`,
      );
    }
    if (this.#held >= blocks) {
      const message = `${what}: all ${blocks} blocks are held by the reader; call release() on each when done`;
      return new IioError('BLOCKS_HELD', message);
    }
    const hint = 'is a trigger assigned, and does the block fill in that time at the sampling frequency?';
    return new IioError('ETIMEDOUT', `${what}: no samples in ${this.#timeoutMs} ms; ${hint}`);
  }

  #abort(): void {
    const { signal } = this.#options;
    if (this.#closing === undefined && signal !== undefined) {
      this.#fail(abortError(this.#plan.what, signal));
    }
  }

  /** Ends the stream. The promise of its end is kept for whoever calls `close()`. */
  #fail(error: IioError): void {
    if (this.#failure !== undefined || this.#closing !== undefined) {
      return;
    }
    this.#failure = error;
    if (error.code === 'ECANCELED') {
      this.#ready.drain();
    }
    this.#waiters.rejectAll(error);
    this.#closing = this.#tearDown();
  }

  async #tearDown(): Promise<void> {
    this.#options.signal?.removeEventListener('abort', this.#onAbort);
    await this.#capture?.close();
    this.#environment.streams.delete(this);
  }
}

/** @throws IioError `ENOSYS` for wishes that the server cannot fulfil */
function serverOptions(
  device: Device,
  { metadata = true, ring, policy, share }: RxStreamOptions,
  connection: Connection,
): ServerOptions | undefined {
  if (connection.extensions.has('stream-options')) {
    return {
      metadata,
      ...(ring === undefined ? {} : { ring }),
      ...(policy === undefined ? {} : { policy }),
      ...(share === undefined ? {} : { share }),
    };
  }
  const wish = ring !== undefined ? 'ring' : policy !== undefined ? 'policy' : share === true ? 'share' : undefined;
  if (wish !== undefined) {
    const message = `${device.id}: '${wish}' needs a server with the extension stream-options, which iio-bridge has`;
    throw new IioError('ENOSYS', message);
  }
  return undefined;
}

async function calibrationsOf(device: Device, { mask }: StreamPlan): Promise<ReadonlyMap<number, Calibration>> {
  const calibrations = new Map<number, Calibration>();
  for (const position of mask.positions()) {
    const channel = device.channels[position];
    if (channel !== undefined) {
      calibrations.set(position, await channel.calibration());
    }
  }
  return calibrations;
}
