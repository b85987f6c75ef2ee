import { IioError } from '@iio-bridge/protocol';
import type { BlockMemory } from './block-memory.js';
import { LimitError } from './limit-error.js';

/** The blocks of one buffer as far as limits are concerned: owns their share of the memory. */
export class BlockSizes {
  readonly #buffer: string;
  readonly #sampleBytes: number;
  readonly #memory: BlockMemory;
  readonly #sizes = new Map<number, number>();

  /** `buffer` names it in messages; `sampleBytes` is the size of a sample set. */
  constructor(buffer: string, sampleBytes: number, memory: BlockMemory) {
    this.#buffer = buffer;
    this.#sampleBytes = sampleBytes;
    this.#memory = memory;
  }

  /** @throws {IioError} `EEXIST`, `EINVAL` (smaller than a sample set, or too large), `ENOMEM`. */
  add(index: number, size: number): void {
    const { maxBlocks } = this.#memory;
    if (this.#sizes.has(index)) {
      throw new IioError('EEXIST', `block ${index} of ${this.#buffer} exists already`);
    }
    if (size < this.#sampleBytes) {
      throw new IioError('EINVAL', `a block of ${size} bytes is smaller than a sample set (${this.#sampleBytes})`);
    }
    if (this.#sizes.size >= maxBlocks) {
      throw new LimitError('ENOMEM', `${this.#buffer} has ${maxBlocks} blocks already, which is the limit`);
    }
    this.#memory.take(size);
    this.#sizes.set(index, size);
  }

  remove(index: number): void {
    const size = this.#sizes.get(index);
    if (size !== undefined) {
      this.#sizes.delete(index);
      this.#memory.give(size);
    }
  }

  clear(): void {
    for (const index of [...this.#sizes.keys()]) {
      this.remove(index);
    }
  }

  get count(): number {
    return this.#sizes.size;
  }

  /** Bytes; undefined without blocks. */
  get smallest(): number | undefined {
    return this.#sizes.size === 0 ? undefined : Math.min(...this.#sizes.values());
  }

  /** Bytes; undefined without blocks. */
  get largest(): number | undefined {
    return this.#sizes.size === 0 ? undefined : Math.max(...this.#sizes.values());
  }
}
