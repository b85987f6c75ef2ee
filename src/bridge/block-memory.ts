import type { DmabufAllocator } from '../iio/heap.js';
import type { FileDescriptor } from '../sys/file-descriptor.js';
import type { Config } from './config.js';
import { LimitError } from './limit-error.js';
import { MemoryBudget } from './memory-budget.js';

const MAX_DISCARDED_BYTES = 16 * 1024 * 1024;

/** Where blocks get their memory, and how much of it there is. */
export class BlockMemory {
  readonly mode: Config['stream']['mode'];
  /** Streams that would copy are to be refused: see `assertZeroCopy`. */
  readonly requiresZeroCopy: boolean;
  /** Blocks are ordinary memory because this machine has none for DMA. */
  readonly heapIsMissing: boolean;
  readonly maxBlocks: number;
  readonly maxBlockBytes: number;
  readonly #budget: MemoryBudget;
  readonly #allocator: DmabufAllocator | undefined;

  /** `allocator`: undefined where every block is ordinary memory. Stays the caller's. */
  constructor(config: Pick<Config, 'stream' | 'limits' | 'emulate'>, allocator: DmabufAllocator | undefined) {
    this.mode = config.stream.mode;
    this.requiresZeroCopy = config.stream.require === 'zero-copy';
    this.heapIsMissing = allocator === undefined && config.emulate === undefined;
    this.maxBlocks = config.limits.blocks;
    this.maxBlockBytes = config.limits.blockBytes;
    this.#budget = new MemoryBudget(config.limits.totalBytes);
    this.#allocator = allocator;
  }

  /** A request with more samples is not worth reading to its end: bytes. */
  get maxPayloadBytes(): number {
    return Math.max(MAX_DISCARDED_BYTES, this.maxBlockBytes);
  }

  /** Whether blocks are memory that hardware can reach. */
  get hasDmabufs(): boolean {
    return this.#allocator !== undefined;
  }

  /** Bytes of all blocks that there are. */
  get usedBytes(): number {
    return this.#budget.usedBytes;
  }

  /**
   * Counts the bytes of a block, until they are given back.
   *
   * @throws {LimitError} `EINVAL` above the size of a block, `ENOMEM` above that of all blocks.
   */
  take(bytes: number): void {
    if (bytes > this.maxBlockBytes) {
      throw new LimitError('EINVAL', `a block of ${bytes} bytes is above the limit of ${this.maxBlockBytes}`);
    }
    this.#budget.take(bytes);
  }

  give(bytes: number): void {
    this.#budget.give(bytes);
  }

  /**
   * A dmabuf of `bytes` bytes; undefined where blocks are to be ordinary memory.
   *
   * @throws {IioError} `ENOMEM` when the heap is full.
   */
  allocate(bytes: number): FileDescriptor | undefined {
    return this.#allocator?.allocate(bytes);
  }
}
