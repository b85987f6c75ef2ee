import { type Chain, DIRECTIONS, type Direction, type Measurement } from './configuration.js';
import { KIB, MIB } from './options.js';
import { isSameStream, markdownTable, type Result, sizeText } from './table.js';

type Figure = keyof Measurement;

/** One figure of one chain, beside one of another chain or block size of the same run. */
interface Target {
  readonly title: string;
  readonly figure: Figure;
  readonly of: Chain;
  readonly against: Chain;
  /** Of the block size that is compared; all, if absent. */
  readonly blockBytes?: number;
  /** The block size that it is compared with; the same, if absent. */
  readonly againstBlockBytes?: number;
  /** The ratio is to be at least, or at most, this. */
  readonly atLeast?: number;
  readonly atMost?: number;
  readonly directions: readonly Direction[];
}

const TARGETS: readonly Target[] = [
  {
    title: 'throughput, zero-copy to bare C loop',
    figure: 'mbPerSecond',
    of: 'zero-copy',
    against: 'bare',
    atLeast: 0.95,
    directions: DIRECTIONS,
  },
  {
    title: 'throughput, our client to C client',
    figure: 'mbPerSecond',
    of: 'typescript',
    against: 'zero-copy',
    blockBytes: MIB,
    atLeast: 0.9,
    directions: DIRECTIONS,
  },
  {
    title: 'CPU per GB, zero-copy to copy',
    figure: 'cpuSecondsPerGb',
    of: 'zero-copy',
    against: 'copy',
    blockBytes: MIB,
    atMost: 1 / 10,
    directions: DIRECTIONS,
  },
  {
    title: 'CPU per GB, zero-copy to iiod 0.24',
    figure: 'cpuSecondsPerGb',
    of: 'zero-copy',
    against: 'iiod',
    blockBytes: MIB,
    atMost: 1 / 20,
    directions: DIRECTIONS,
  },
  {
    title: 'CPU per block, zero-copy, 4 MiB to 64 KiB',
    figure: 'cpuMicrosecondsPerBlock',
    of: 'zero-copy',
    against: 'zero-copy',
    blockBytes: 4 * MIB,
    againstBlockBytes: 64 * KIB,
    atMost: 1.2,
    directions: DIRECTIONS,
  },
  {
    title: 'p99 latency, zero-copy to iiod 0.24',
    figure: 'p99Us',
    of: 'zero-copy',
    against: 'iiod',
    atMost: 1 / 2,
    directions: ['rx'],
  },
];

/** The targets that one machine's results can be held against, as a table. */
export function formatTargets(results: readonly Result[]): string {
  const rows = TARGETS.flatMap((target) =>
    results
      .filter((result) => result.chain === target.of && target.directions.includes(result.direction))
      .filter(({ blockBytes }) => target.blockBytes === undefined || blockBytes === target.blockBytes)
      .flatMap((result) => targetRow(target, result, results)),
  );
  return markdownTable(['target', 'way', 'block', 'wanted', 'measured', 'result'], rows, 3);
}

function targetRow(target: Target, result: Result, results: readonly Result[]): string[][] {
  const { figure, against, againstBlockBytes, atLeast, atMost, title } = target;
  const { direction, blockBytes } = result;
  const other = results.find(
    ({ chain, ...stream }) =>
      chain === against && isSameStream(stream, { direction, blockBytes: againstBlockBytes ?? blockBytes }),
  );
  const value = result.measurement?.[figure];
  const base = other?.measurement?.[figure];
  if (value === undefined || base === undefined) {
    return [];
  }
  const ratio = value / base;
  const isMet = atLeast === undefined ? ratio <= (atMost ?? Number.NaN) : ratio >= atLeast;
  const wanted = atLeast === undefined ? `≤ ${(atMost ?? Number.NaN).toFixed(2)}` : `≥ ${atLeast.toFixed(2)}`;
  return [[title, direction.toUpperCase(), sizeText(blockBytes), wanted, ratio.toFixed(3), isMet ? 'met' : 'missed']];
}
