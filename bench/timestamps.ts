import { IioError } from '@iio-bridge/protocol';
import { realtimeNs } from './clocks.js';
import type { Latency } from './configuration.js';

/** Bytes of a sample set: 32 bits of its number, and at byte 8 the time of its capture in ns. */
export const TIMESTAMPED_SET_BYTES = 16;

const TIMESTAMP_OFFSET = 8;
/** In its sparse mode the simulated converter writes one sample set at the start of each page only. Bytes. */
const PAGE_BYTES = 4096;
const SETS_PER_PAGE = PAGE_BYTES / TIMESTAMPED_SET_BYTES;

/** Checks blocks of a timestamped counter signal, and notes how old they are when they arrive. */
export class TimestampChecker {
  readonly #setsAfterNs: bigint;
  readonly #latenciesUs: number[] = [];
  #next = 0;
  #lostSets = 0;

  /** @param rate in sample sets/s */
  constructor(rate: number) {
    this.#setsAfterNs = (BigInt(SETS_PER_PAGE) * 1_000_000_000n) / BigInt(rate);
  }

  /** Sample sets that are missing. */
  get lostSets(): number {
    return this.#lostSets;
  }

  get latency(): Latency {
    const sorted = this.#latenciesUs.toSorted((a, b) => a - b);
    const percentile = (fraction: number): number => sorted[Math.round(fraction * (sorted.length - 1))] ?? Number.NaN;
    return { blocks: sorted.length, p50Us: percentile(0.5), p99Us: percentile(0.99) };
  }

  /**
   * Takes the next block of the stream at the moment at which it has arrived.
   * @throws IioError `EIO` if a number is smaller than the expected one, which no loss explains.
   */
  check(bytes: Uint8Array): void {
    const arrivedAt = realtimeNs();
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    // A block is captured when its last set has lasted for one period; known is the time of the last page's first one.
    const known = view.getBigInt64(bytes.byteLength - PAGE_BYTES + TIMESTAMP_OFFSET, true);
    this.#latenciesUs.push(Number(arrivedAt - known - this.#setsAfterNs) / 1000);
    for (let offset = 0; offset < bytes.byteLength; offset += PAGE_BYTES) {
      const found = view.getUint32(offset, true);
      const lost = (found - this.#next) >>> 0;
      if (lost >= 2 ** 31) {
        throw new IioError('EIO', `Sample set ${this.#next} was expected, and ${found} came`);
      }
      this.#lostSets += lost;
      this.#next = (found + SETS_PER_PAGE) >>> 0;
    }
  }
}
