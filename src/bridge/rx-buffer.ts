import { type ChannelMask, IioError } from '@iio-bridge/protocol';
import type { BlockReader } from '../dataplane/block-reader.js';
import type { FileDescriptor } from '../sys/file-descriptor.js';
import { BlockSizes } from './block-sizes.js';
import type { NumberingFamily } from './client.js';
import { closeUnlessTaken, type InputCapture } from './input-capture.js';
import type { OpenBuffer, OpenBufferOptions, TransferRequest } from './open-buffer.js';
import { streamPath } from './stream-mode.js';

/**
 * A client's view of an input: owns its blocks. Block requests for it are executed by the data plane, other operations are
 * queued with those of the capture's other clients.
 */
export class RxBuffer implements OpenBuffer {
  readonly direction = 'in';
  readonly mask: ChannelMask;
  readonly family: NumberingFamily;
  readonly #options: OpenBufferOptions;
  readonly #input: InputCapture;
  readonly #reader: BlockReader;
  readonly #sizes: BlockSizes;
  #closing: Promise<void> | undefined;

  private constructor(options: OpenBufferOptions, input: InputCapture, reader: BlockReader) {
    this.#options = options;
    this.#input = input;
    this.#reader = reader;
    this.mask = input.mask;
    this.family = options.family;
    this.#sizes = new BlockSizes(input.name, input.sample.bytes, options.memory);
    input.join(this);
  }

  /** A client of `input`, which ends with the last of them. @throws {IioError} `ESHUTDOWN` when its link is down. */
  static async open(options: OpenBufferOptions, input: InputCapture): Promise<RxBuffer> {
    const reader = await input.capture.openBlockReader(options.link, {
      device: options.deviceIndex,
      buffer: options.bufferIndex,
      transferOp: options.opcodes.transfer,
      retryOp: options.opcodes.retry,
      timeoutMs: options.timeoutMs,
      sinkByAio: options.memory.mode !== 'auto',
      metadata: options.stream.metadata,
    });
    return new RxBuffer(options, input, reader);
  }

  createBlock(index: number, clientId: number, size: number): Promise<void> {
    return this.#exclusive(async () => {
      this.#assertEqual(size);
      this.#sizes.add(index, size);
      let dmabuf: FileDescriptor | undefined;
      try {
        dmabuf = this.#options.memory.allocate(size);
        const path = await this.#reader.createBlock(index, clientId, dmabuf, size);
        await this.#accept(index, streamPath(path, this.#options.memory));
        this.#input.blockBytes ??= size;
      } catch (error) {
        this.#sizes.remove(index);
        closeUnlessTaken(dmabuf);
        throw error;
      }
    });
  }

  freeBlock(index: number): Promise<void> {
    return this.#exclusive(async () => {
      await this.#reader.freeBlock(index);
      this.#sizes.remove(index);
    });
  }

  async enable(): Promise<void> {
    const { smallest, count } = this.#sizes;
    if (smallest === undefined) {
      throw new IioError('EINVAL', `${this.#input.name} cannot be enabled without blocks`);
    }
    await this.#input.enable(this, smallest, count);
  }

  start(): Promise<void> {
    return this.#input.start(() => this.#reader.activate());
  }

  disable(): Promise<void> {
    return this.#input.disable(this, () => this.#reader.deactivate());
  }

  /** The data plane did not recognise the block, or the request is none for an input. */
  transfer({ block, cyclic }: TransferRequest): Promise<void> {
    const error = cyclic
      ? new IioError('EINVAL', `${this.#input.name} is an input, which cannot be cyclic`)
      : new IioError('EBADF', `${this.#input.name} has no block ${block} for this link`);
    return Promise.reject(error);
  }

  retry(block: number): void {
    throw new IioError('EBADF', `${this.#input.name} has no block ${block} for this link`);
  }

  setTimeout(ms: number): void {
    this.#reader.setTimeout(ms);
  }

  /** Frees its blocks, whatever they are doing; the buffer is disabled unless others use it. */
  close(): Promise<void> {
    this.#closing ??= this.#input.leave(this, async () => {
      const { droppedBlocks } = await this.#reader.statistics();
      if (droppedBlocks > 0) {
        this.#options.log.warn({ droppedBlocks }, 'a client lost blocks that it did not fetch in time');
      }
      await this.#reader.close();
      this.#sizes.clear();
    });
    return this.#closing;
  }

  /** Takes a block back whose way is refused. */
  async #accept(index: number, path: ReturnType<typeof streamPath>): Promise<void> {
    try {
      this.#input.notePath(path);
    } catch (error) {
      await this.#reader.freeBlock(index);
      throw error;
    }
  }

  /** @throws {IioError} `EINVAL` */
  #assertEqual(size: number): void {
    const { blockBytes, needsEqualBlocks, name } = this.#input;
    if (needsEqualBlocks && blockBytes !== undefined && size !== blockBytes) {
      throw new IioError(
        'EINVAL',
        `blocks of ${name} are shared or have a ring, so all must have the same size: ${blockBytes} bytes, not ${size}`,
      );
    }
  }

  #exclusive(work: () => Promise<void>): Promise<void> {
    return this.#input.exclusively(async () => {
      if (this.#closing !== undefined) {
        throw new IioError('EBADF', `${this.#input.name} is closed`);
      }
      await work();
    });
  }
}
