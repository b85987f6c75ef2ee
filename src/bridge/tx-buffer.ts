import { type ChannelMask, encodeFrameHeader, IioError, RESPONSE_OP, sampleLayout } from '@iio-bridge/protocol';
import type { Playback } from '../dataplane/playback.js';
import type { BackendBuffer } from '../iio/backend.js';
import type { BufferLengths } from '../iio/buffer.js';
import { fifoLengths } from '../iio/fifo-lengths.js';
import type { FileDescriptor } from '../sys/file-descriptor.js';
import { BlockSizes } from './block-sizes.js';
import type { OutputFigures } from './buffer-statistics.js';
import type { NumberingFamily } from './client.js';
import { CyclePieces } from './cycle.js';
import type { OpenBuffer, OpenBufferOptions, TransferRequest } from './open-buffer.js';
import { samplingFrequency } from './sampling-frequency.js';
import { SerialQueue } from './serial-queue.js';
import { assertZeroCopy, playPath, type StreamPath } from './stream-mode.js';

/** write() needs room in the kernel's FIFO for what is played while the next block comes. */
const WRITE_FIFO_BLOCKS = 2;
/** And for a cycle, which is written as fast as it is played. */
const CYCLIC_FIFO_BYTES = 256 * 1024;

/** Codes with which a block is refused before any of its samples have been taken from the link. */
const REFUSALS: ReadonlySet<string> = new Set(['EBADF', 'EINVAL', 'EBUSY', 'ENOMEM']);

/**
 * An output: owns the kernel's buffer and the playback that is fed by the client's link. Requests to play a block are
 * executed by the data plane, other operations are queued.
 */
export class TxBuffer implements OpenBuffer {
  readonly direction = 'out';
  readonly mask: ChannelMask;
  readonly family: NumberingFamily;
  readonly #options: OpenBufferOptions;
  readonly #buffer: BackendBuffer;
  readonly #playback: Playback;
  readonly #sampleBytes: number;
  readonly #sizes: BlockSizes;
  readonly #control = new SerialQueue();
  /** Client ids, by block index. */
  readonly #blocks = new Map<number, number>();
  #path: StreamPath | undefined;
  #cycle: { readonly block: number; readonly pieces: CyclePieces } | undefined;
  #closing: Promise<void> | undefined;

  private constructor(options: OpenBufferOptions, buffer: BackendBuffer, playback: Playback) {
    this.#options = options;
    this.#buffer = buffer;
    this.#playback = playback;
    this.mask = buffer.mask;
    this.family = options.family;
    this.#sampleBytes = sampleLayout(options.device.channels, buffer.mask).bytes;
    this.#sizes = new BlockSizes(this.#name, this.#sampleBytes, options.memory);
    options.statistics.opened(options.device.id, options.bufferIndex, this);
  }

  /** @throws {IioError} what {@link Backend.openBuffer} throws. */
  static async open(options: OpenBufferOptions): Promise<TxBuffer> {
    const { backend, device, deviceIndex, bufferIndex, memory } = options;
    const buffer = await backend.openBuffer(deviceIndex, bufferIndex, options.mask);
    let playback: Playback | undefined;
    try {
      const counter = await options.inputs.lossCounters.open(backend, deviceIndex, device).catch((error: unknown) => {
        options.log.warn({ err: error }, 'the underflow counter cannot be read: what is not played is estimated');
        return undefined;
      });
      const playbackOptions = {
        device: deviceIndex,
        buffer: bufferIndex,
        transferOp: options.opcodes.transfer,
        retryOp: options.opcodes.retry,
        timeoutMs: options.timeoutMs,
        sampleBytes: Math.max(1, sampleLayout(device.channels, buffer.mask).bytes),
        maxPayloadBytes: memory.maxPayloadBytes,
        sinkByWrite: !memory.hasDmabufs,
        sourceByCopy: memory.mode !== 'auto',
        records: options.stream.metadata,
      };
      playback = await options.samples.createPlayback(buffer.fd, playbackOptions, counter);
      await playback.connect(options.link);
      return new TxBuffer(options, buffer, playback);
    } catch (error) {
      await playback?.close();
      await buffer.close();
      throw error;
    }
  }

  createBlock(index: number, clientId: number, size: number): Promise<void> {
    return this.#exclusive(async () => {
      this.#sizes.add(index, size);
      let dmabuf: FileDescriptor | undefined;
      try {
        dmabuf = this.#options.memory.allocate(size);
        await this.#playback.createBlock(index, clientId, dmabuf, size);
        await this.#accept(index);
        this.#blocks.set(index, clientId);
      } catch (error) {
        this.#sizes.remove(index);
        dmabuf?.close();
        throw error;
      }
    });
  }

  /** What the hardware has of it already is played to its end. */
  freeBlock(index: number): Promise<void> {
    return this.#exclusive(async () => {
      await this.#playback.freeBlock(index);
      if (this.#cycle?.block === index) {
        this.#forgetCycle();
      }
      this.#blocks.delete(index);
      this.#sizes.remove(index);
    });
  }

  enable(): Promise<void> {
    return this.#exclusive(async () => {
      const { smallest, largest } = this.#sizes;
      if (this.#path === undefined || smallest === undefined || largest === undefined) {
        throw new IioError('EINVAL', `${this.#name} cannot be enabled without blocks`);
      }
      await this.#buffer.enable(this.#lengths(smallest, largest, this.#path));
    });
  }

  start(): Promise<void> {
    return this.#exclusive(async () => this.#playback.start((await this.#hertz()) ?? 0));
  }

  /** Blocks that have not been played come back with `EINTR`, as they do from the kernel's own queue. */
  disable(): Promise<void> {
    return this.#exclusive(async () => {
      await this.#playback.stop();
      await this.#buffer.disable();
      await this.#playback.settle();
    });
  }

  /** A block to be repeated, or one that the data plane did not recognise. */
  async transfer({ block, bytesUsed, cyclic, link, discard }: TransferRequest): Promise<void> {
    const clientId = this.#blocks.get(block);
    const pieces = await refusing(discard, async () => {
      if (clientId === undefined || link !== this.#options.link || !cyclic || this.#closing !== undefined) {
        throw new IioError('EBADF', `${this.#name} has no block ${block} for this link`);
      }
      if (this.#cycle !== undefined) {
        throw new IioError('EBUSY', `${this.#name} repeats another block`);
      }
      const bytes = bytesUsed - (bytesUsed % this.#sampleBytes);
      if (bytes === 0) {
        throw new IioError('EINVAL', `a cycle of ${bytesUsed} bytes is no sample set`);
      }
      const hertz = await this.#hertz();
      return new CyclePieces(this.#options.memory, {
        bytes,
        bytesPerSecond: hertz === undefined ? undefined : hertz * this.#sampleBytes,
        isWritten: this.#path?.sink === 'iio-write',
      });
    });
    try {
      // Not in the queue of operations: a client may stop within its samples, and the buffer be closed by another link.
      await refusing(discard, () => this.#playback.receive(block, bytesUsed));
      await this.#exclusive(async () => {
        await this.#playback.repeat(block, pieces.spares, pieces.size);
        this.#cycle = { block, pieces };
      });
    } catch (error) {
      pieces[Symbol.dispose]();
      if (error instanceof IioError && error.code === 'ECANCELED') {
        throw new IioError('EBADF', `block ${block} of ${this.#name} was freed`, { cause: error });
      }
      throw error;
    }
    link.send(encodeFrameHeader({ clientId: clientId ?? 0, op: RESPONSE_OP, dev: 0, code: 0 }));
  }

  /** The data plane did not recognise the block. */
  retry(block: number): void {
    throw new IioError('EBADF', `${this.#name} has no block ${block} for this link`);
  }

  setTimeout(ms: number): void {
    this.#playback.setTimeout(ms);
  }

  async figures(): Promise<OutputFigures> {
    const statistics = await this.#playback.statistics();
    return {
      direction: 'out',
      mode: this.#path?.mode ?? 'idle',
      fallbacks: this.#path?.fallbacks ?? [],
      blocks: statistics.blocks,
      bytes: statistics.bytes,
      underruns: statistics.underruns,
      unplayedSamples: statistics.unplayedSets,
    };
  }

  /** Disables the buffer and frees its blocks, whatever they are doing. */
  close(): Promise<void> {
    this.#closing ??= this.#control.run(async () => {
      try {
        await this.#playback.stop();
        // The hardware stops before its memory goes away.
        await this.#buffer.disable();
        await this.#options.statistics.closing(this.#options.device.id, this.#options.bufferIndex, this);
        this.#options.log.info({ ...(await this.#playback.statistics()) }, 'stream closed');
      } finally {
        await this.#playback.close();
        this.#forgetCycle();
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

  /** In the unit that the kernel's buffer compares with on this path: see {@link BackendBuffer.enable}. */
  #lengths(smallest: number, largest: number, path: StreamPath): BufferLengths {
    if (path.sink === 'iio-dmabuf') {
      return { length: smallest, watermark: smallest };
    }
    const ahead = this.#cycle === undefined ? largest : Math.max(largest, CYCLIC_FIFO_BYTES);
    return fifoLengths(Math.max(1, Math.ceil(ahead / this.#sampleBytes)), WRITE_FIFO_BLOCKS, this.#sampleBytes);
  }

  /** Notes how the samples travel. @throws {IioError} `EOPNOTSUPP` where the configuration refuses it: the block is freed. */
  async #accept(index: number): Promise<void> {
    const path = playPath(await this.#playback.path(), this.#options.memory);
    if (this.#options.memory.requiresZeroCopy) {
      try {
        assertZeroCopy(path, this.#name);
      } catch (error) {
        await this.#playback.freeBlock(index);
        throw error;
      }
    }
    if (this.#path?.mode !== path.mode) {
      this.#options.log.info({ direction: 'out', ...path }, 'stream open');
    }
    this.#path = path;
  }

  async #hertz(): Promise<number | undefined> {
    const { backend, deviceIndex, device } = this.#options;
    return await samplingFrequency(backend, deviceIndex, device, this.mask);
  }

  #forgetCycle(): void {
    this.#cycle?.pieces[Symbol.dispose]();
    this.#cycle = undefined;
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

/** What `work` returns. Where it refuses, the samples that follow are still on the link, and thrown away. */
async function refusing<T>(discard: () => Promise<void>, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof IioError && REFUSALS.has(error.code)) {
      await discard();
    }
    throw error;
  }
}
