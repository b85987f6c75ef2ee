import type { RxBlock } from '../index.js';
import type { Gap } from './sigmf/recording-writer.js';

/** What is missing just before a block; `undefined` if nothing is, or nobody knows. `epoch`: of the block before. */
export function gapBefore({ metadata, epoch }: RxBlock, previousEpoch: number): Gap | undefined {
  if (epoch !== previousEpoch) {
    return { lostSets: undefined, gapNs: undefined, measured: false, dropped: false };
  }
  if (metadata === undefined || (metadata.lostSets === 0n && metadata.gapNs === 0n)) {
    return undefined;
  }
  const { lostSets, gapNs, exact, dropped } = metadata;
  return { lostSets: Number(lostSets), gapNs, measured: exact, dropped };
}

/**
 * When the first sample of a block was captured, in ns since 1970: by the server's clock if it tells, otherwise by this
 * machine's, late by the way of the block. `rate`: sample sets per second; without it, the time of the last one.
 */
export function startOf({ metadata, samples }: RxBlock, rate: number | undefined): bigint {
  const durationNs = rate === undefined ? 0n : BigInt(Math.round((samples / rate) * 1e9));
  return (metadata?.capturedAtNs ?? BigInt(Date.now()) * 1_000_000n) - durationNs;
}
