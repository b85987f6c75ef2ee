import { PerformanceObserver } from 'node:perf_hooks';
import { setImmediate } from 'node:timers/promises';
import type { MemoryReport } from './configuration.js';
import { medianOf } from './table.js';

/** Blocks that do not count: buffers are made. */
const WARM_UP_BLOCKS = 200;
/** Blocks, from the collection on, whose garbage does not count: V8 compiles most of the program. */
const COMPILING_BLOCKS = 2000;
/** Reading the resident size takes a system call. */
const LOOK_EVERY_BLOCKS = 64;
/**
 * The heap is looked at every so many blocks, so many times, and the median counts: V8 goes on compiling now and then, which
 * takes some 100 KiB at once and is no garbage of a block. All fits in a nursery of 64 MiB: see {@link HEAP_NODE_OPTIONS}.
 */
const HEAP_WINDOW_BLOCKS = 100;
const HEAP_WINDOWS = 10;

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
  readonly #heapBytesPerBlock: number[] = [];
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
      this.#observer.observe({ entryTypes: ['gc'] });
      this.#heapBefore = process.memoryUsage().heapUsed;
    } else if (this.#blocks > WARM_UP_BLOCKS + COMPILING_BLOCKS && this.#heapBytesPerBlock.length < HEAP_WINDOWS) {
      this.#weigh();
    }
    if (this.#blocks >= WARM_UP_BLOCKS && this.#blocks % LOOK_EVERY_BLOCKS === 0) {
      const rss = process.memoryUsage.rss();
      this.#leastRss = Math.min(this.#leastRss, rss);
      this.#mostRss = Math.max(this.#mostRss, rss);
    }
  }

  #weigh(): void {
    if ((this.#blocks - WARM_UP_BLOCKS - COMPILING_BLOCKS) % HEAP_WINDOW_BLOCKS !== 0) {
      return;
    }
    const heapNow = process.memoryUsage().heapUsed;
    this.#heapBytesPerBlock.push((heapNow - this.#heapBefore) / HEAP_WINDOW_BLOCKS);
    this.#heapBefore = heapNow;
    if (this.#heapBytesPerBlock.length === HEAP_WINDOWS) {
      this.#observer.disconnect();
    }
  }

  async end(): Promise<MemoryReport> {
    // Observers hear of collections late.
    await setImmediate();
    this.#observer.disconnect();
    const windows = this.#heapBytesPerBlock;
    const isKnown = this.#collections === 0 && windows.length === HEAP_WINDOWS;
    const perBlock = isKnown ? medianOf(windows) : undefined;
    return {
      ...(perBlock === undefined ? {} : { heapBytesPerBlock: perBlock }),
      leastRss: this.#leastRss,
      mostRss: this.#mostRss,
    };
  }
}
