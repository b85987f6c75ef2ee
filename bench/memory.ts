import { PerformanceObserver } from 'node:perf_hooks';
import { setImmediate } from 'node:timers/promises';
import type { MemoryReport } from './configuration.js';

/** Blocks that do not count: buffers are made. */
const WARM_UP_BLOCKS = 200;
/** Blocks, from the collection on, whose garbage does not count: V8 compiles the program, for a good part of it once more. */
const COMPILING_BLOCKS = 2000;
/** Reading the resident size takes a system call. */
const LOOK_EVERY_BLOCKS = 64;
/** The heap's figures are read over so many blocks, which fit in a nursery of 64 MiB: see {@link HEAP_NODE_OPTIONS}. */
const HEAP_BLOCKS = 1000;

/** For Node.js: a nursery that is not full, and thus collected, before enough blocks were counted; nor because V8 is idle. */
export const HEAP_NODE_OPTIONS = [
  '--expose-gc',
  '--min-semi-space-size=64',
  '--max-semi-space-size=64',
  '--no-memory-reducer',
];

/** Watches the memory of this process from block to block. */
export class MemoryMeter {
  #blocks = 0;
  #heapBefore = 0;
  #heapBytesPerBlock: number | undefined;
  #collections = 0;
  #leastRss = Number.POSITIVE_INFINITY;
  #mostRss = 0;
  readonly #observer = new PerformanceObserver((list) => {
    this.#collections += list.getEntries().length;
  });

  /** A block has been handled. */
  note(): void {
    this.#blocks += 1;
    if (this.#blocks === WARM_UP_BLOCKS) {
      global.gc?.();
    } else if (this.#blocks === WARM_UP_BLOCKS + COMPILING_BLOCKS) {
      this.#heapBefore = process.memoryUsage().heapUsed;
      this.#observer.observe({ entryTypes: ['gc'] });
    } else if (this.#blocks === WARM_UP_BLOCKS + COMPILING_BLOCKS + HEAP_BLOCKS) {
      this.#heapBytesPerBlock = (process.memoryUsage().heapUsed - this.#heapBefore) / HEAP_BLOCKS;
      this.#observer.disconnect();
    }
    if (this.#blocks >= WARM_UP_BLOCKS && this.#blocks % LOOK_EVERY_BLOCKS === 0) {
      const rss = process.memoryUsage.rss();
      this.#leastRss = Math.min(this.#leastRss, rss);
      this.#mostRss = Math.max(this.#mostRss, rss);
    }
  }

  async end(): Promise<MemoryReport> {
    // Observers hear of collections late.
    await setImmediate();
    this.#observer.disconnect();
    const perBlock = this.#collections === 0 ? this.#heapBytesPerBlock : undefined;
    return {
      ...(perBlock === undefined ? {} : { heapBytesPerBlock: perBlock }),
      leastRss: this.#leastRss,
      mostRss: this.#mostRss,
    };
  }
}
