import type { FileDescriptor } from '../sys/file-descriptor.js';
import { type BlockPath, blockPathOf, numbersIn } from './block-path.js';
import type { Call } from './data-plane.js';
import type { NativeBlockReaderOptions, NativeDataPlane } from './native.js';

/**
 * `device`, `buffer`: what block requests for this reader name. `transferOp`, `retryOp`: the opcodes of TRANSFER_BLOCK and
 * RETRY_DEQUEUE_BLOCK in the client's protocol generation. `timeoutMs`: how long a request waits for samples, 0 for
 * ever. `sinkByAio`: copy on the link's side even where DMABUF would work. `metadata`: answers carry a block record.
 */
export type BlockReaderOptions = NativeBlockReaderOptions;

/** Totals since a reader joined its capture. */
export interface ReaderStatistics {
  /** Blocks that reached the client. */
  readonly blocks: number;
  readonly bytes: number;
  /** Requests answered with -ETIMEDOUT. */
  readonly timeouts: number;
  /** Blocks that were captured, but not fetched in time. */
  readonly droppedBlocks: number;
}

/**
 * A client of a capture whose block requests the data plane executes by itself, in the order of their arrival on its link.
 * Owns the blocks that it creates; `close()` gives them up.
 */
export class BlockReader {
  readonly #id: number;
  readonly #native: NativeDataPlane;
  readonly #call: Call;

  /** Made by {@link Capture.openBlockReader}. */
  constructor(id: number, native: NativeDataPlane, call: Call) {
    this.#id = id;
    this.#native = native;
    this.#call = call;
  }

  /**
   * Adds a block of `size` bytes to the capture, in `dmabuf`, which is taken, or in ordinary memory where that is
   * undefined. The capture's first block decides between `iio-dmabuf` and `iio-read` for all of them.
   *
   * @throws {IioError} `EEXIST`; `ESHUTDOWN`; what the kernel says when it takes no further block.
   */
  async createBlock(
    index: number,
    clientId: number,
    dmabuf: FileDescriptor | undefined,
    size: number,
  ): Promise<BlockPath> {
    const operation = `create block ${index} of ${size} bytes`;
    const answer = await this.#call(operation, (native, token) =>
      native.createBlock(this.#id, index, clientId, dmabuf?.release() ?? -1, size, token),
    );
    return blockPathOf(numbersIn(answer, operation));
  }

  /** Frees a block, whatever it is doing. @throws {IioError} `EBADF` if there is none. */
  async freeBlock(index: number): Promise<void> {
    await this.#call(`free block ${index}`, (native, token) => native.freeBlock(this.#id, index, token));
  }

  /** From here on filled blocks are for this client: to be called before {@link Capture.start}. */
  async activate(): Promise<void> {
    await this.#call('activate a reader', (native, token) => native.setActive(this.#id, true, token));
  }

  /** For one of several clients: the others go on. What it has requested is answered with -EINTR. */
  async deactivate(): Promise<void> {
    await this.#call('deactivate a reader', (native, token) => native.setActive(this.#id, false, token));
  }

  /** How long requests wait for samples from now on, in ms; 0 = for ever. */
  setTimeout(ms: number): void {
    this.#native.setTimeout(this.#id, ms);
  }

  async statistics(): Promise<ReaderStatistics> {
    return await readerStatistics(this.#id, this.#call);
  }

  /** Frees its blocks and takes no further request. */
  async close(): Promise<void> {
    await this.#call('close a reader', (native, token) => native.removeReader(this.#id, token));
  }
}

/** For the readers of a capture, whatever their kind. */
export async function readerStatistics(id: number, call: Call): Promise<ReaderStatistics> {
  const operation = 'read the statistics of a reader';
  const answer = await call(operation, (native, token) => native.readerStatistics(id, token));
  const [blocks = 0, bytes = 0, timeouts = 0, droppedBlocks = 0] = numbersIn(answer, operation);
  return { blocks, bytes, timeouts, droppedBlocks };
}
