import { type ChannelMask, IioError, sampleLayout } from '@iio-bridge/protocol';
import type { RxStatistics, RxStream } from '../dataplane/rx-stream.js';
import type { BackendBuffer } from '../iio/backend.js';
import type { FileDescriptor } from '../sys/file-descriptor.js';
import { BlockSizes } from './block-sizes.js';
import type { NumberingFamily } from './client.js';
import type { OpenBuffer, OpenBufferOptions, TransferRequest } from './open-buffer.js';
import { SerialQueue } from './serial-queue.js';
import { type StreamPath, streamPath } from './stream-mode.js';

/** read() needs room in the kernel's FIFO for what arrives while a block is being sent. */
const READ_FIFO_BLOCKS = 2;

/**
 * An input: owns the kernel's buffer and the stream to the client's link. Block requests for it are executed by the data
 * plane, other operations are queued.
 */
export class RxBuffer implements OpenBuffer {
  readonly direction = 'in';
  readonly mask: ChannelMask;
  readonly family: NumberingFamily;
  readonly #options: OpenBufferOptions;
  readonly #buffer: BackendBuffer;
  readonly #stream: RxStream;
  readonly #sampleBytes: number;
  readonly #queue = new SerialQueue();
  readonly #sizes: BlockSizes;
  #path: StreamPath | undefined;
  #closing: Promise<void> | undefined;

  private constructor(options: OpenBufferOptions, buffer: BackendBuffer, stream: RxStream) {
    this.#options = options;
    this.#buffer = buffer;
    this.#stream = stream;
    this.mask = buffer.mask;
    this.family = options.family;
    this.#sampleBytes = sampleLayout(options.device.channels, buffer.mask).bytes;
    this.#sizes = new BlockSizes(this.#name, this.#sampleBytes, options.memory);
  }

  /** @throws {IioError} what {@link Backend.openBuffer} throws. */
  static async open(options: OpenBufferOptions): Promise<RxBuffer> {
    const { backend, deviceIndex, bufferIndex, memory } = options;
    const buffer = await backend.openBuffer(deviceIndex, bufferIndex, options.mask);
    try {
      const stream = await options.link.createRxStream(buffer.fd, {
        device: deviceIndex,
        buffer: bufferIndex,
        transferOp: options.opcodes.transfer,
        retryOp: options.opcodes.retry,
        timeoutMs: options.timeoutMs,
        sourceByRead: !memory.hasDmabufs,
        sinkByAio: memory.mode !== 'auto',
      });
      return new RxBuffer(options, buffer, stream);
    } catch (error) {
      await buffer.close();
      throw error;
    }
  }

  /** How the samples travel; known once there is a block. */
  get path(): StreamPath | undefined {
    return this.#path;
  }

  createBlock(index: number, clientId: number, size: number): Promise<void> {
    return this.#exclusive(async () => {
      this.#sizes.add(index, size);
      let dmabuf: FileDescriptor | undefined;
      try {
        dmabuf = this.#options.memory.allocate(size);
        this.#notePath(streamPath(await this.#stream.createBlock(index, clientId, dmabuf, size)));
      } catch (error) {
        this.#sizes.remove(index);
        closeUnlessTaken(dmabuf);
        throw error;
      }
    });
  }

  freeBlock(index: number): Promise<void> {
    return this.#exclusive(async () => {
      await this.#stream.freeBlock(index);
      this.#sizes.remove(index);
    });
  }

  enable(): Promise<void> {
    return this.#exclusive(async () => {
      const { smallest } = this.#sizes;
      if (this.#path === undefined || smallest === undefined) {
        throw new IioError('EINVAL', `${this.#name} cannot be enabled without blocks`);
      }
      await this.#buffer.enable(this.#lengths(smallest, this.#path));
    });
  }

  start(): Promise<void> {
    return this.#exclusive(() => this.#stream.start());
  }

  disable(): Promise<void> {
    return this.#exclusive(async () => {
      await this.#stream.stop();
      await this.#buffer.disable();
    });
  }

  /** The data plane did not recognise the block, or the request is none for an input. */
  transfer({ block, cyclic }: TransferRequest): Promise<void> {
    const error = cyclic
      ? new IioError('EINVAL', `${this.#name} is an input, which cannot be cyclic`)
      : new IioError('EBADF', `${this.#name} has no block ${block} for this link`);
    return Promise.reject(error);
  }

  retry(block: number): void {
    throw new IioError('EBADF', `${this.#name} has no block ${block} for this link`);
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
