import {
  blockFailureOf,
  ChannelMask,
  ERRNO,
  encodeU64,
  errnoName,
  IioError,
  packCode,
  type SampleLayout,
  sampleLayout,
} from '@iio-bridge/protocol';
import { BinaryClient, type BlockAnswer, type BlockHandle, type ClientOptions, type Request } from './binary-client.js';
import { BufferPool, type PayloadBuffer } from './buffer-pool.js';
import type { ControlLink } from './control-link.js';
import { abortError, withDeadline } from './deadline.js';
import type { Channel, Device } from './device.js';
import type { Transport } from './link.js';
import { RxBlock } from './rx-block.js';

const DEFAULT_BLOCKS = 4;
/** Servers compare a block's index as a signed 16-bit number. */
const MAX_BLOCKS = 32767;
/** A block's length travels in a signed 32-bit code. Bytes. */
const MAX_BLOCK_BYTES = 2 ** 31 - 1;
/** How long an orderly end may take before the link is just closed, which makes the server clean up. Milliseconds. */
const TEARDOWN_BUDGET_MS = 700;

export interface RxStreamOptions {
  /** Channels or their ids, names or labels; all that the buffer can carry if absent. Hardware may add channels. */
  readonly channels?: readonly (Channel | string)[];
  /** Sample sets per block. */
  readonly samplesPerBlock: number;
  /** Blocks in circulation between the hardware, the wire and the user. Default 4. */
  readonly blocks?: number;
  /** Default 0. */
  readonly bufferIndex?: number;
  /** Milliseconds to wait for a block; `Infinity` waits for ever. Default: the context's. */
  readonly timeoutMs?: number;
  /** Limit on the bytes of USB reads in flight. Default 8 MiB. */
  readonly windowBytes?: number;
  /** Ends the stream: whoever waits for a block gets `ECANCELED`, and the buffer is closed. */
  readonly signal?: AbortSignal;
}

export interface RxStatistics {
  /** Blocks that have arrived. */
  readonly blocks: number;
  /** Sample bytes that have arrived. */
  readonly bytes: number;
  /** Blocks that the server is to fill or is sending now. 0 while the user holds them all: then samples are lost. */
  readonly inFlight: number;
  /** Blocks that have arrived and wait to be taken. */
  readonly ready: number;
  /** Blocks that the user has taken and not released. */
  readonly held: number;
  /** Mean from the first block to the last one. */
  readonly bytesPerSecond: number;
  /** Times that the server gave up waiting for samples and was asked again. */
  readonly retries: number;
  /** Sample bytes that had to be copied; stays near 0 in a stream that runs well. */
  readonly bytesCopied: number;
  /** Times that the reads in flight did not fit what the server sent and were posted anew. */
  readonly realignments: number;
  /** Limit on bytes in flight; shrinks when the system runs out of memory for USB transfers. */
  readonly windowBytes: number;
}

/** What streams share with their context. */
export interface RxStreamEnvironment {
  readonly transport: Transport;
  readonly control: ControlLink;
  readonly client: ClientOptions;
  /** Open streams; a stream leaves when it is closed. */
  readonly streams: Set<RxStream>;
}

interface Waiter {
  readonly resolve: (result: IteratorResult<RxBlock, undefined>) => void;
  readonly reject: (error: IioError) => void;
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
 * thrown; it has code `DISCONNECTED` if the device is gone.
 */
export class RxStream implements AsyncIterable<RxBlock>, AsyncDisposable {
  readonly #environment: RxStreamEnvironment;
  readonly #device: Device;
  readonly #options: RxStreamOptions;
  readonly #client: BinaryClient;
  readonly #timeoutMs: number;
  readonly #bufferIndex: number;
  readonly #what: string;
  readonly #ready: RxBlock[] = [];
  readonly #waiters: Waiter[] = [];
  readonly #onAbort: () => void;
  #layout: SampleLayout = { bytes: 0, channels: [] };
  #failure: IioError | undefined;
  #closing: Promise<void> | undefined;
  #bufferOpen = false;
  #blocksCreated = 0;
  #inFlight = 0;
  #held = 0;
  #sequence = 0;
  #bytes = 0;
  #retries = 0;
  #firstBytes = 0;
  #firstAt = 0;
  #lastAt = 0;

  private constructor(
    environment: RxStreamEnvironment,
    device: Device,
    options: RxStreamOptions,
    client: BinaryClient,
  ) {
    this.#environment = environment;
    this.#device = device;
    this.#options = options;
    this.#client = client;
    this.#timeoutMs = options.timeoutMs ?? environment.client.timeoutMs;
    this.#bufferIndex = options.bufferIndex ?? 0;
    this.#what = `buffer ${this.#bufferIndex} of ${device.id}`;
    this.#onAbort = () => this.#abort();
  }

  /** See {@link Device.createRxStream}. */
  static async open(environment: RxStreamEnvironment, device: Device, options: RxStreamOptions): Promise<RxStream> {
    const mask = maskFor(device, options);
    const { signal } = options;
    throwIfAborted(device, signal);
    const { windowBytes } = options;
    const client = await BinaryClient.connect(await environment.transport.openLink('buffer'), {
      ...environment.client,
      ...(windowBytes === undefined ? {} : { windowBytes }),
    });
    const stream = new RxStream(environment, device, options, client);
    environment.streams.add(stream);
    try {
      await withDeadline(stream.#start(mask), { signal, what: `open ${stream.#what}` });
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

  get statistics(): RxStatistics {
    const seconds = (this.#lastAt - this.#firstAt) / 1000;
    return {
      blocks: this.#sequence,
      bytes: this.#bytes,
      inFlight: this.#inFlight,
      ready: this.#ready.length,
      held: this.#held,
      bytesPerSecond: seconds > 0 ? (this.#bytes - this.#firstBytes) / seconds : 0,
      retries: this.#retries,
      ...this.#client.statistics,
    };
  }

  /**
   * The next block, in the order of capture. The block is the caller's until its `release()`.
   * @throws IioError `ETIMEDOUT` (no samples; the stream stays open), `BLOCKS_HELD` (they were not released),
   *   `ECANCELED` (the signal), or what ended the stream
   */
  async next(): Promise<IteratorResult<RxBlock, undefined>> {
    const block = this.#ready.shift();
    if (block !== undefined) {
      this.#held++;
      return { done: false, value: block };
    }
    if (this.#failure !== undefined) {
      throw this.#failure;
    }
    if (this.#closing !== undefined) {
      return { done: true, value: undefined };
    }
    let waiter: Waiter | undefined;
    const result = new Promise<IteratorResult<RxBlock, undefined>>((resolve, reject) => {
      waiter = { resolve, reject };
      this.#waiters.push(waiter);
    });
    return await withDeadline(result, { timeoutMs: this.#timeoutMs, what: this.#what }, () => {
      const at = waiter === undefined ? -1 : this.#waiters.indexOf(waiter);
      this.#waiters.splice(at, at < 0 ? 0 : 1);
      return this.#timeoutError();
    });
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
   * Closes the buffer, also while blocks are outstanding; takes at most about a second. Blocks that the user holds stay
   * readable. Never rejects: what goes wrong goes to the logger, and closing the link makes the server clean up anyway.
   */
  close(): Promise<void> {
    this.#closing ??= this.#tearDown();
    for (const block of this.#ready.splice(0)) {
      block.release();
    }
    for (const { resolve } of this.#waiters.splice(0)) {
      resolve({ done: true, value: undefined });
    }
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #start(mask: ChannelMask): Promise<void> {
    const { samplesPerBlock, blocks = DEFAULT_BLOCKS } = this.#options;
    const channels = this.#device.description.channels;
    this.#client.whenFailed((error) => this.#fail(error));
    const payload = await this.#openBuffer(mask);
    this.#bufferOpen = true;
    this.#layout = sampleLayout(channels, ChannelMask.fromBytes(channels.length, payload));
    const blockBytes = samplesPerBlock * this.#layout.bytes;
    if (blockBytes === 0 || blockBytes > MAX_BLOCK_BYTES) {
      throw new IioError('EINVAL', `${this.#what}: a block of ${samplesPerBlock} samples has ${blockBytes} bytes`);
    }
    const pool = new BufferPool(this.#client.capacityFor(blockBytes), blocks);
    const handles = Array.from({ length: blocks }, (_, blockIndex) => this.#handle(blockIndex, blockBytes, pool));
    for (const { blockIndex } of handles) {
      await this.#order('CREATE_BLOCK', `create block ${blockIndex} (${blockBytes} bytes) of`, {
        clientId: blockIndex + 1,
        code: packCode(blockIndex, this.#bufferIndex),
        payload: [encodeU64(blockBytes)],
      });
      this.#blocksCreated++;
    }
    for (const handle of handles) {
      this.#request(handle, 'transfer');
    }
    await this.#order('ENABLE_BUFFER', 'enable', {});
    this.#client.streamBlocks(handles[0]);
  }

  /** @returns the mask that the server settled on */
  async #openBuffer(mask: ChannelMask): Promise<Uint8Array> {
    try {
      const answer = await this.#order('OPEN_BUFFER', 'open', { payload: [mask.toBytes()], answer: 'payload' });
      return answer.payload;
    } catch (error) {
      if (error instanceof IioError && (error.code === 'EEXIST' || error.code === 'EBUSY')) {
        const message = `${this.#what} is in use by another client; a buffer serves one at a time`;
        throw new IioError('EBUSY', message, { cause: error });
      }
      throw error;
    }
  }

  #order(
    operation: Request['operation'],
    verb: string,
    rest: Partial<Pick<Request, 'clientId' | 'code' | 'payload' | 'answer' | 'timeoutMs'>>,
  ) {
    return this.#client.request(this.#orderFor(operation, verb, rest));
  }

  #orderFor(operation: Request['operation'], verb: string, rest: Partial<Request>): Request {
    const what = `${verb} ${this.#what}`;
    return { operation, device: this.#device.index, code: this.#bufferIndex, answer: 'status', what, ...rest };
  }

  #handle(blockIndex: number, bytes: number, pool: BufferPool): BlockHandle {
    const handle: BlockHandle = {
      deviceIndex: this.#device.index,
      bufferIndex: this.#bufferIndex,
      blockIndex,
      bytes,
      pool,
      onAnswer: (answer) => this.#onAnswer(handle, answer),
    };
    return handle;
  }

  #request(handle: BlockHandle, kind: 'transfer' | 'retry'): void {
    this.#inFlight++;
    this.#client.requestBlock(handle, kind);
  }

  #onAnswer(handle: BlockHandle, { code, payload }: BlockAnswer): void {
    this.#inFlight--;
    if (this.#closing !== undefined || this.#failure !== undefined) {
      payload?.buffer.pool.give(payload.buffer);
      return;
    }
    if (payload !== undefined) {
      this.#arrived(handle, payload.buffer, payload.length);
      return;
    }
    const failure = blockFailureOf(code);
    if (failure?.stage === 'dequeue' && failure.errno === ERRNO.ETIMEDOUT) {
      this.#retries++;
      this.#request(handle, 'retry');
      return;
    }
    const [name, reason] =
      failure === undefined
        ? ['EPROTO', 'the server sent an empty block']
        : [errnoName(failure.errno), failure.stage === 'enqueue' ? 'the block was refused' : 'capturing failed'];
    this.#fail(new IioError(name, `${this.#what}, block ${handle.blockIndex}: ${reason} (${name})`));
  }

  #arrived(handle: BlockHandle, buffer: PayloadBuffer, length: number): void {
    this.#lastAt = performance.now();
    this.#bytes += length;
    if (this.#sequence === 0) {
      this.#firstAt = this.#lastAt;
      this.#firstBytes = length;
    }
    const whole = Math.floor(length / this.#layout.bytes) * this.#layout.bytes;
    const block = new RxBlock(this.#sequence++, this.#layout, buffer.bytes.subarray(0, whole), () => {
      buffer.pool.give(buffer);
      this.#released(handle);
    });
    const waiter = this.#waiters.shift();
    if (waiter === undefined) {
      this.#ready.push(block);
    } else {
      this.#held++;
      waiter.resolve({ done: false, value: block });
    }
  }

  #released(handle: BlockHandle): void {
    if (this.#closing === undefined && this.#failure === undefined) {
      this.#held--;
      this.#request(handle, 'transfer');
    }
  }

  #timeoutError(): IioError {
    const { blocks = DEFAULT_BLOCKS } = this.#options;
    if (this.#held >= blocks) {
      const message = `${this.#what}: all ${blocks} blocks are held by the reader; call release() on each when done`;
      return new IioError('BLOCKS_HELD', message);
    }
    const hint = 'is a trigger assigned, and does the block fill in that time at the sampling frequency?';
    return new IioError('ETIMEDOUT', `${this.#what}: no samples in ${this.#timeoutMs} ms; ${hint}`);
  }

  #abort(): void {
    const { signal } = this.#options;
    if (this.#closing === undefined && signal !== undefined) {
      this.#fail(abortError(this.#what, signal));
    }
  }

  /** Ends the stream. The promise of its end is kept for whoever calls `close()`. */
  #fail(error: IioError): void {
    if (this.#failure !== undefined || this.#closing !== undefined) {
      return;
    }
    this.#failure = error;
    if (error.code === 'ECANCELED') {
      this.#ready.length = 0;
    }
    for (const { reject } of this.#waiters.splice(0)) {
      reject(error);
    }
    this.#closing = this.#tearDown();
  }

  /**
   * The link is read to the end of this, because the server may be in the middle of a block. Order as libiio's clients:
   * blocks, then the buffer's state, then the buffer, then the pipe.
   */
  async #tearDown(): Promise<void> {
    this.#options.signal?.removeEventListener('abort', this.#onAbort);
    this.#client.streamBlocks(undefined);
    const until = performance.now() + TEARDOWN_BUDGET_MS;
    const { control } = this.#environment;
    let reachable = this.#bufferOpen && this.#client.failure?.code !== 'DISCONNECTED';
    for (let block = 0; block < this.#blocksCreated && reachable; block++) {
      const code = packCode(block, this.#bufferIndex);
      reachable = await this.#attempt(control, until, this.#orderFor('FREE_BLOCK', `free block ${block} of`, { code }));
    }
    if (this.#bufferOpen && this.#client.failure === undefined) {
      await this.#attempt(this.#client, until, this.#orderFor('DISABLE_BUFFER', 'disable', {}));
    }
    if (reachable) {
      await this.#attempt(control, until, this.#orderFor('CLOSE_BUFFER', 'close', {}));
    }
    await this.#client.close().catch((error: unknown) => {
      this.#environment.client.logger.warn(() => `close the link of ${this.#what}: ${String(error)}`);
    });
    this.#environment.streams.delete(this);
  }

  /** @returns whether the server answered in time, be it with an error */
  async #attempt(link: ControlLink | BinaryClient, until: number, request: Request): Promise<boolean> {
    const timeoutMs = Math.max(1, until - performance.now());
    try {
      await withDeadline(link.request({ ...request, timeoutMs }), { timeoutMs, what: request.what });
      return true;
    } catch (error) {
      this.#environment.client.logger.debug(() => `${request.what}: ${String(error)}`);
      return !(error instanceof IioError && ['ETIMEDOUT', 'DISCONNECTED'].includes(error.code));
    }
  }
}

function throwIfAborted(device: Device, signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) {
    throw abortError(`open a stream on ${device.id}`, signal);
  }
}

function maskFor(device: Device, options: RxStreamOptions): ChannelMask {
  const { samplesPerBlock, blocks = DEFAULT_BLOCKS, bufferIndex = 0 } = options;
  requireInteger('samplesPerBlock', samplesPerBlock, MAX_BLOCK_BYTES);
  requireInteger('blocks', blocks, MAX_BLOCKS);
  const buffer = device.buffer(bufferIndex);
  if (buffer.direction !== 'in') {
    throw new IioError('EINVAL', `buffer ${bufferIndex} of ${device.id} is an output: samples cannot be read from it`);
  }
  const available = buffer.description.channels;
  const wanted = options.channels?.map((channel) =>
    typeof channel === 'string' ? streamable(device, available, channel) : channel.position,
  );
  const positions = wanted ?? available;
  const missing = positions.find((position) => !available.includes(position));
  if (missing !== undefined || positions.length === 0) {
    const id = missing === undefined ? 'none' : (device.channels[missing]?.id ?? missing);
    const known = available.map((position) => device.channels[position]?.id).join(', ') || 'none';
    throw new IioError(
      'NO_CHANNEL',
      `buffer ${bufferIndex} of ${device.id} does not carry '${id}' (channels: ${known})`,
    );
  }
  return ChannelMask.of(device.channels.length, positions);
}

/** An id may name an input and an output; the buffer's one is meant. */
function streamable(device: Device, available: readonly number[], id: string): number {
  const match = available.find((position) => device.channels[position]?.id === id);
  return match ?? device.channel(id).position;
}

function requireInteger(name: string, value: number, most: number): void {
  if (!Number.isInteger(value) || value < 1 || value > most) {
    throw new IioError('EINVAL', `${name} must be a whole number from 1 to ${most}, not ${value}`);
  }
}
