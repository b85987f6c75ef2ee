import { IioError } from '@iio-bridge/protocol';
import type { DmabufAllocator } from '../iio/heap.js';
import type { FileDescriptor } from '../sys/file-descriptor.js';
import type { Config } from './config.js';
import { MemoryBudget } from './memory-budget.js';

/** Where blocks get their memory, and how much of it there is. */
export class BlockMemory {
  readonly mode: Config['stream']['mode'];
  readonly maxBlocks: number;
  readonly #maxBlockBytes: number;
  readonly #budget: MemoryBudget;
  readonly #allocator: DmabufAllocator | undefined;

  /** `allocator`: undefined where every block is ordinary memory. Stays the caller's. */
  constructor(config: Config, allocator: DmabufAllocator | undefined) {
    this.mode = config.stream.mode;
    this.maxBlocks = config.limits.blocks;
    this.#maxBlockBytes = config.limits.blockBytes;
    this.#budget = new MemoryBudget(config.limits.totalBytes);
    this.#allocator = allocator;
  }

  /**
   * A dmabuf of `bytes` bytes; undefined where the block is to be ordinary memory.
   *
   * @throws {IioError} `EINVAL` above the size of a block, `ENOMEM` above that of all blocks or when the heap is full.
   */
  take(bytes: number): FileDescriptor | undefined {
    if (bytes > this.#maxBlockBytes) {
      throw new IioError('EINVAL', `a block of ${bytes} bytes is above the limit of ${this.#maxBlockBytes}`);
    }
    this.#budget.take(bytes);
    try {
      return this.#allocator?.allocate(bytes);
    } catch (error) {
      this.#budget.give(bytes);
      throw error;
    }
  }

  give(bytes: number): void {
    this.#budget.give(bytes);
  }
}
