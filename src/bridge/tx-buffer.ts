import {
  blockFailureCode,
  type ChannelMask,
  ERRNO,
  encodeFrameHeader,
  IioError,
  RESPONSE_OP,
  sampleLayout,
} from '@iio-bridge/protocol';
import type { SampleIo } from '../dataplane/sample-io.js';
import type { BackendBuffer } from '../iio/backend.js';
import { BlockSizes } from './block-sizes.js';
import type { NumberingFamily } from './client.js';
import type { OpenBuffer, OpenBufferOptions, TransferRequest } from './open-buffer.js';
import { SerialQueue } from './serial-queue.js';

/** The kernel's FIFO has room for what is played while the next block is on its way through this process. */
const WRITE_FIFO_BLOCKS = 2;

/** Samples are handed to the data plane ahead of time, so that there is no gap: at least two blocks, or this much. */
const BYTES_AHEAD = 1024 * 1024;

/** A cyclic block that is smaller is handed over several times at once, because each time takes a while. */
const CYCLIC_PIECE_BYTES = 256 * 1024;

/**
 * Where a block is.
 *
 *   idle ──TRANSFER──▶ queued ──handed over──▶ written ──taken by the descriptor──▶ idle
 *                         └─────── time-out, answered ──▶ kept (until RETRY_DEQUEUE) ──▶ idle
 *   idle ──ENQUEUE_CYCLIC──▶ cyclic
 *
 * idle     only its size is known
 * queued   has samples, in the order of their arrival; waits for the buffer to be enabled, or for its turn
 * written  the data plane has a copy of the samples and writes them
 * kept     all are written, or have failed, but its answer was a time-out
 * cyclic   its samples are repeated while the buffer is enabled
 */
type BlockState = 'idle' | 'queued' | 'written' | 'kept' | 'cyclic';

interface Block {
  readonly index: number;
  readonly clientId: number;
  readonly size: number;
  state: BlockState;
  samples: readonly Uint8Array[];
  bytes: number;
  /** A request waits for an answer. */
  owed: boolean;
  /** Of a kept block. */
  result: number;
}

/**
 * An output: owns the kernel's buffer, and the blocks, whose samples it writes to the buffer's descriptor. A block is
 * answered when the descriptor has taken all of it.
 */
export class TxBuffer implements OpenBuffer {
  readonly direction = 'out';
  readonly mask: ChannelMask;
  readonly family: NumberingFamily;
  readonly #options: OpenBufferOptions;
  readonly #buffer: BackendBuffer;
  readonly #sampleBytes: number;
  readonly #sizes: BlockSizes;
  readonly #control = new SerialQueue();
  readonly #blocks = new Map<number, Block>();
  /** Queued and written blocks, in the order of their requests. */
  readonly #queue: Block[] = [];
  readonly #statistics = { blocks: 0, bytes: 0, sinkErrors: 0, timeouts: 0 };
  #cyclic: Block | undefined;
  /** Present while the buffer runs. */
  #io: SampleIo | undefined;
  #bytesAhead = 0;
  #blocksAhead = 0;
  #timeoutMs: number;
  #timer: { readonly block: Block; readonly handle: NodeJS.Timeout } | undefined;
  #closing: Promise<void> | undefined;

  private constructor(options: OpenBufferOptions, buffer: BackendBuffer) {
    this.#options = options;
    this.#buffer = buffer;
    this.#timeoutMs = options.timeoutMs;
    this.mask = buffer.mask;
    this.family = options.family;
    this.#sampleBytes = sampleLayout(options.device.channels, buffer.mask).bytes;
    this.#sizes = new BlockSizes(this.#name, this.#sampleBytes, options.memory);
  }

  /** @throws {IioError} what {@link Backend.openBuffer} throws. */
  static async open(options: OpenBufferOptions): Promise<TxBuffer> {
    const buffer = await options.backend.openBuffer(options.deviceIndex, options.bufferIndex, options.mask);
    options.log.info({ mode: 'copy', direction: 'out' }, 'stream open');
    return new TxBuffer(options, buffer);
  }

  createBlock(index: number, clientId: number, size: number): Promise<void> {
    return this.#exclusive(async () => {
      this.#sizes.add(index, size);
      this.#blocks.set(index, { index, clientId, size, state: 'idle', samples: [], bytes: 0, owed: false, result: 0 });
    });
  }

  /** What the data plane has of it already is played to its end. */
  freeBlock(index: number): Promise<void> {
    return this.#exclusive(async () => {
      const block = this.#blocks.get(index);
      if (block === undefined) {
        throw new IioError('EBADF', `${this.#name} has no block ${index}`);
      }
      this.#blocks.delete(index);
      this.#sizes.remove(index);
      this.#withdraw(block);
      this.#watchHead();
    });
  }

  enable(): Promise<void> {
    return this.#exclusive(async () => {
      const { largest } = this.#sizes;
      if (largest === undefined) {
        throw new IioError('EINVAL', `${this.#name} cannot be enabled without blocks`);
      }
      const ahead = this.#cyclic === undefined ? largest : Math.max(largest, CYCLIC_PIECE_BYTES);
      const samples = Math.max(1, Math.ceil(ahead / this.#sampleBytes));
      await this.#buffer.enable({ length: samples * WRITE_FIFO_BLOCKS, watermark: Math.max(1, samples >> 1) });
    });
  }

  start(): Promise<void> {
    return this.#exclusive(async () => {
      this.#io ??= this.#options.samples.openSampleIo(this.#buffer.fd);
      if (this.#cyclic !== undefined) {
        this.#repeat(this.#cyclic, this.#io);
      }
      this.#handOver();
    });
  }

  /** Blocks that have not been played come back with `EINTR`, as they do from the kernel's own queue. */
  disable(): Promise<void> {
    return this.#exclusive(async () => {
      await this.#stop();
      for (const block of [...this.#queue]) {
        this.#finish(block, -ERRNO.EINTR);
      }
      await this.#buffer.disable();
    });
  }

  async transfer({ block: index, bytesUsed, cyclic, payload }: TransferRequest): Promise<void> {
    try {
      this.#assertIdle(index, bytesUsed, cyclic);
    } catch (error) {
      await payload.discard();
      throw error;
    }
    const samples = await payload.read();
    // While the samples arrived, another link may have freed the block.
    const block = this.#assertIdle(index, bytesUsed, cyclic);
    block.bytes = bytesUsed - (bytesUsed % this.#sampleBytes);
    block.samples = truncated(samples, block.bytes);
    if (cyclic) {
      block.state = 'cyclic';
      this.#cyclic = block;
      this.#respond(block, 0);
      if (this.#io !== undefined) {
        this.#repeat(block, this.#io);
      }
    } else {
      block.state = 'queued';
      block.owed = true;
      this.#queue.push(block);
      this.#handOver();
    }
  }

  retry(index: number): void {
    const block = this.#blocks.get(index);
    if (block === undefined) {
      throw new IioError('EBADF', `${this.#name} has no block ${index}`);
    }
    if (block.state === 'idle' || block.state === 'cyclic') {
      throw new IioError('EPERM', `nothing waits for block ${index} of ${this.#name}`);
    }
    if (block.owed) {
      throw new IioError('EBUSY', `a request waits for block ${index} of ${this.#name} already`);
    }
    block.owed = true;
    if (block.state === 'kept') {
      this.#finish(block, block.result);
    } else {
      this.#watchHead();
    }
  }

  setTimeout(ms: number): void {
    this.#timeoutMs = ms;
  }

  close(): Promise<void> {
    this.#closing ??= this.#control.run(async () => {
      try {
        await this.#stop();
        this.#options.log.info({ ...this.#statistics }, 'stream closed');
      } finally {
        this.#queue.length = 0;
        this.#blocks.clear();
        this.#sizes.clear();
        await this.#buffer.close();
      }
    });
    return this.#closing;
  }

  get #name(): string {
    return `buffer ${this.#options.bufferIndex} of ${this.#options.device.id}`;
  }

  #assertIdle(index: number, bytesUsed: number, cyclic: boolean): Block {
    const block = this.#blocks.get(index);
    if (block === undefined || this.#closing !== undefined) {
      throw new IioError('EBADF', `${this.#name} has no block ${index}`);
    }
    if (bytesUsed > block.size || bytesUsed < this.#sampleBytes) {
      throw new IioError('EINVAL', `${bytesUsed} bytes do not fit block ${index} of ${block.size} bytes`);
    }
    if (block.state !== 'idle') {
      throw new IioError('EBUSY', `block ${index} of ${this.#name} is in use`);
    }
    if (this.#cyclic !== undefined || (cyclic && this.#queue.length > 0)) {
      throw new IioError('EBUSY', `${this.#name} has other blocks to play`);
    }
    return block;
  }

  /** Gives the data plane as much as it needs to go on without us for a while. */
  #handOver(): void {
    const io = this.#io;
    if (io !== undefined) {
      for (const block of this.#queue.filter(({ state }) => state === 'queued')) {
        if (this.#blocksAhead >= 2 && this.#bytesAhead + block.bytes > BYTES_AHEAD) {
          break;
        }
        this.#write(block, io);
      }
    }
    this.#watchHead();
  }

  #write(block: Block, io: SampleIo): void {
    const { samples, bytes } = block;
    block.state = 'written';
    block.samples = [];
    this.#blocksAhead++;
    this.#bytesAhead += bytes;
    const done = (code: number): void => {
      if (this.#io !== io) {
        return;
      }
      this.#blocksAhead--;
      this.#bytesAhead -= bytes;
      if (this.#queue.includes(block)) {
        this.#account(code, bytes);
        this.#finish(block, code);
      }
      this.#handOver();
    };
    Promise.all(samples.map((piece) => io.write(piece, 0))).then(
      () => done(0),
      (error: unknown) => done(-(error instanceof IioError ? (error.errno ?? ERRNO.EIO) : ERRNO.EIO)),
    );
  }

  /** Two pieces are always in the data plane's hands, so that the samples follow each other without a gap. */
  #repeat(block: Block, io: SampleIo): void {
    const pieces = repeated(block.samples, block.bytes);
    let next = 0;
    const keepWriting = async (): Promise<void> => {
      while (this.#cyclic === block && this.#io === io) {
        const piece = pieces[next % pieces.length] ?? new Uint8Array(0);
        next++;
        await io.write(piece, 0);
        this.#statistics.bytes += piece.byteLength;
      }
    };
    Promise.all([keepWriting(), keepWriting()]).catch((error: unknown) => {
      if (this.#io === io) {
        this.#statistics.sinkErrors++;
        this.#options.log.warn({ err: error, block: block.index }, 'a cyclic block is not repeated any longer');
      }
    });
  }

  /** Nothing is written from here on; what is under way is cut off. */
  async #stop(): Promise<void> {
    const io = this.#io;
    this.#io = undefined;
    this.#blocksAhead = 0;
    this.#bytesAhead = 0;
    this.#stopTimer();
    if (io !== undefined) {
      io.close();
      // The data plane works in order: once it answers anything at all, it has let go of the descriptor.
      await this.#options.link.drained(Number.MAX_SAFE_INTEGER).catch(() => undefined);
    }
  }

  #withdraw(block: Block): void {
    if (this.#cyclic === block) {
      this.#cyclic = undefined;
    }
    const position = this.#queue.indexOf(block);
    if (position >= 0) {
      this.#queue.splice(position, 1);
    }
    block.samples = [];
  }

  /** The block has been played, or has failed. */
  #finish(block: Block, code: number): void {
    this.#withdraw(block);
    if (block.owed) {
      block.state = 'idle';
      block.owed = false;
      this.#respond(block, code);
    } else {
      block.state = 'kept';
      block.result = code;
    }
  }

  #account(code: number, bytes: number): void {
    if (code < 0) {
      this.#statistics.sinkErrors++;
    } else {
      this.#statistics.blocks++;
      this.#statistics.bytes += bytes;
    }
  }

  /** Requests time out one after the other, each from when the one before it was answered. */
  #watchHead(): void {
    const head = this.#io === undefined ? undefined : this.#queue.find(({ owed }) => owed);
    if (head === this.#timer?.block) {
      return;
    }
    this.#stopTimer();
    if (head !== undefined && this.#timeoutMs > 0) {
      this.#timer = { block: head, handle: setTimeout(() => this.#expire(head), this.#timeoutMs) };
    }
  }

  #expire(block: Block): void {
    this.#timer = undefined;
    block.owed = false;
    this.#statistics.timeouts++;
    this.#respond(block, blockFailureCode({ stage: 'dequeue', errno: ERRNO.ETIMEDOUT }));
    this.#watchHead();
  }

  #stopTimer(): void {
    if (this.#timer !== undefined) {
      clearTimeout(this.#timer.handle);
      this.#timer = undefined;
    }
  }

  #respond({ clientId }: Block, code: number): void {
    this.#options.link.send(encodeFrameHeader({ clientId, op: RESPONSE_OP, dev: 0, code }));
  }

  #exclusive(work: () => Promise<void>): Promise<void> {
    return this.#control.run(async () => {
      if (this.#closing !== undefined) {
        throw new IioError('EBADF', `${this.#name} is closed`);
      }
      await work();
    });
  }
}

/** The first `bytes` bytes. */
function truncated(pieces: readonly Uint8Array[], bytes: number): Uint8Array[] {
  let left = bytes;
  const kept: Uint8Array[] = [];
  for (const piece of pieces) {
    if (left > 0) {
      kept.push(piece.subarray(0, left));
    }
    left -= piece.byteLength;
  }
  return kept;
}

/** Pieces which, written one after the other for ever, are `samples` for ever. */
function repeated(samples: readonly Uint8Array[], bytes: number): readonly Uint8Array[] {
  const [only] = samples;
  if (only === undefined || samples.length > 1 || bytes >= CYCLIC_PIECE_BYTES) {
    return samples;
  }
  const times = Math.ceil(CYCLIC_PIECE_BYTES / bytes);
  const piece = new Uint8Array(times * bytes);
  for (let i = 0; i < times; i++) {
    piece.set(only, i * bytes);
  }
  return [piece];
}
