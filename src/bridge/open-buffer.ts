import { type ChannelMask, type DeviceDescription, IioError, sampleLayout } from '@iio-bridge/protocol';
import type { Link } from '../dataplane/link.js';
import type { RxStatistics, RxStream } from '../dataplane/rx-stream.js';
import type { Backend, BackendBuffer } from '../iio/backend.js';
import type { FileDescriptor } from '../sys/file-descriptor.js';
import type { BlockMemory } from './block-memory.js';
import type { Logger } from './logger.js';
import { SerialQueue } from './serial-queue.js';
import { type StreamPath, streamPath } from './stream-mode.js';

/** What the binary protocol's opcodes are called in the generation of the client. */
export interface BlockOpcodes {
  readonly transfer: number;
  readonly retry: number;
}

export interface OpenBufferOptions {
  readonly backend: Backend;
  readonly device: DeviceDescription;
  /** Position of the device in the context. */
  readonly deviceIndex: number;
  readonly bufferIndex: number;
  readonly mask: ChannelMask;
  readonly link: Link;
  readonly opcodes: BlockOpcodes;
  readonly timeoutMs: number;
  readonly memory: BlockMemory;
  readonly log: Logger;
}

/** read() needs room in the kernel's FIFO for what arrives while a block is being sent. */
const READ_FIFO_BLOCKS = 2;

/**
 * An IIO buffer that a client has opened: owns the kernel's buffer and the stream to the client's link. Its operations
 * may come from any link, so they are queued; `close()` may be called at any time, and ends everything at once.
 */
export class OpenBuffer {
  /** With the channels that the device switched on by itself. */
  readonly mask: ChannelMask;
  readonly #options: OpenBufferOptions;
  readonly #buffer: BackendBuffer;
  readonly #stream: RxStream;
  readonly #sampleBytes: number;
  readonly #queue = new SerialQueue();
  readonly #blockBytes = new Map<number, number>();
  #path: StreamPath | undefined;
  #closing: Promise<void> | undefined;

  private constructor(options: OpenBufferOptions, buffer: BackendBuffer, stream: RxStream) {
    this.#options = options;
    this.#buffer = buffer;
    this.#stream = stream;
    this.mask = buffer.mask;
    this.#sampleBytes = sampleLayout(options.device.channels, buffer.mask).bytes;
  }

  /**
   * @throws {IioError} `EOPNOTSUPP` for an output buffer; what {@link Backend.openBuffer} throws.
   */
  static async open(options: OpenBufferOptions): Promise<OpenBuffer> {
    const { backend, device, deviceIndex, bufferIndex, memory } = options;
    const description = device.buffers.find((buffer) => buffer.index === bufferIndex);
    if (description?.direction === 'out') {
      throw new IioError('EOPNOTSUPP', `buffer ${bufferIndex} of ${device.id} is an output: only inputs stream`);
    }
    const buffer = await backend.openBuffer(deviceIndex, bufferIndex, options.mask);
    try {
      const stream = await options.link.createRxStream(buffer.fd, {
        device: deviceIndex,
        buffer: bufferIndex,
        transferOp: options.opcodes.transfer,
        retryOp: options.opcodes.retry,
        timeoutMs: options.timeoutMs,
        sourceByRead: memory.mode === 'copy',
        sinkByAio: memory.mode !== 'auto',
      });
      return new OpenBuffer(options, buffer, stream);
    } catch (error) {
      await buffer.close();
      throw error;
    }
  }

  /** How the samples travel; known once there is a block. */
  get path(): StreamPath | undefined {
    return this.#path;
  }

  /** @throws {IioError} `EEXIST`, `EINVAL` (smaller than a sample set, or over the limits), `ENOMEM`. */
  createBlock(index: number, clientId: number, size: number): Promise<void> {
    return this.#exclusive(async () => {
      const { memory } = this.#options;
      if (this.#blockBytes.has(index)) {
        throw new IioError('EEXIST', `block ${index} of ${this.#name} exists already`);
      }
      if (size < this.#sampleBytes) {
        throw new IioError('EINVAL', `a block of ${size} bytes is smaller than a sample set (${this.#sampleBytes})`);
      }
      if (this.#blockBytes.size >= memory.maxBlocks) {
        throw new IioError('ENOMEM', `${this.#name} has ${memory.maxBlocks} blocks already, which is the limit`);
      }
      const dmabuf = memory.take(size);
      try {
        this.#notePath(streamPath(await this.#stream.createBlock(index, clientId, dmabuf, size)));
        this.#blockBytes.set(index, size);
      } catch (error) {
        memory.give(size);
        closeUnlessTaken(dmabuf);
        throw error;
      }
    });
  }

  /** @throws {IioError} `EBADF` if there is no such block. */
  freeBlock(index: number): Promise<void> {
    return this.#exclusive(async () => {
      await this.#stream.freeBlock(index);
      this.#forget(index);
    });
  }

  /** @throws {IioError} `EINVAL` without blocks, or what the driver says. */
  enable(): Promise<void> {
    return this.#exclusive(async () => {
      const smallest = Math.min(...this.#blockBytes.values());
      if (this.#path === undefined || !Number.isFinite(smallest)) {
        throw new IioError('EINVAL', `${this.#name} cannot be enabled without blocks`);
      }
      await this.#buffer.enable(this.#lengths(smallest, this.#path));
    });
  }

  /** Begins to fill the blocks of an enabled buffer. Apart from {@link enable}, so that its answer goes out first. */
  start(): Promise<void> {
    return this.#exclusive(() => this.#stream.start());
  }

  disable(): Promise<void> {
    return this.#exclusive(async () => {
      await this.#stream.stop();
      await this.#buffer.disable();
    });
  }

  setTimeout(ms: number): void {
    this.#stream.setTimeout(ms);
  }

  statistics(): Promise<RxStatistics> {
    return this.#stream.statistics();
  }

  /** Disables the buffer and frees its blocks, whatever they are doing. */
  close(): Promise<void> {
    this.#closing ??= this.#queue.run(async () => {
      try {
        await this.#stream.stop();
        // The hardware stops before its memory goes away.
        await this.#buffer.disable();
        this.#options.log.info({ ...(await this.#stream.statistics()) }, 'stream closed');
      } finally {
        await this.#stream.close();
        for (const index of [...this.#blockBytes.keys()]) {
          this.#forget(index);
        }
        await this.#buffer.close();
      }
    });
    return this.#closing;
  }

  get #name(): string {
    return `buffer ${this.#options.bufferIndex} of ${this.#options.device.id}`;
  }

  /** In the unit that the kernel's buffer compares with on this path: see {@link BackendBuffer.enable}. */
  #lengths(blockBytes: number, path: StreamPath): { length: number; watermark: number } {
    if (path.source === 'iio-dmabuf') {
      return { length: blockBytes, watermark: blockBytes };
    }
    const samples = Math.max(1, Math.floor(blockBytes / this.#sampleBytes));
    return { length: samples * READ_FIFO_BLOCKS, watermark: Math.max(1, Math.floor(samples / 2)) };
  }

  #notePath(path: StreamPath): void {
    if (this.#path === undefined || this.#path.mode !== path.mode) {
      this.#options.log.info({ ...path }, 'stream open');
    }
    this.#path = path;
  }

  #forget(index: number): void {
    const bytes = this.#blockBytes.get(index);
    if (bytes !== undefined) {
      this.#blockBytes.delete(index);
      this.#options.memory.give(bytes);
    }
  }

  #exclusive(work: () => Promise<void>): Promise<void> {
    return this.#queue.run(async () => {
      if (this.#closing !== undefined) {
        throw IioError.fromErrno(9, `${this.#name} is closed`);
      }
      await work();
    });
  }
}

function closeUnlessTaken(dmabuf: FileDescriptor | undefined): void {
  if (dmabuf !== undefined && !dmabuf.closed) {
    dmabuf.close();
  }
}
