import type { Chain, Configuration, Direction, Measurement } from './configuration.js';

/** The median measurement of one configuration, or why there is none. */
export interface Result {
  readonly machine: string;
  readonly chain: Chain;
  readonly direction: Direction;
  readonly blockBytes: number;
  readonly measurement: Measurement | undefined;
  readonly failure: string | undefined;
}

export const CHAIN_TITLES = {
  bare: 'bare C loop',
  'zero-copy': 'bridge, zero-copy, C client',
  typescript: 'bridge, zero-copy, our client',
  copy: 'bridge, copy, C client',
  iiod: 'iiod 0.24, libiio',
} as const satisfies Record<Chain, string>;

/** Of an even number of values the upper one of the middle; NaN of none. */
export function medianOf(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

/** Each figure's median on its own: rate and CPU time of one run need not both be typical. */
export function median(measurements: readonly Measurement[]): Measurement {
  const of = (figure: keyof Measurement): number =>
    medianOf(measurements.flatMap((measurement) => measurement[figure] ?? []));
  return {
    mbPerSecond: of('mbPerSecond'),
    cpuSecondsPerGb: of('cpuSecondsPerGb'),
    cpuMicrosecondsPerBlock: of('cpuMicrosecondsPerBlock'),
    ...(measurements.some(({ p50Us }) => p50Us !== undefined)
      ? { p50Us: of('p50Us'), p99Us: of('p99Us'), lostSets: of('lostSets') }
      : {}),
  };
}

/** A size in bytes as `64 KiB` or `4 MiB`. */
export function sizeText(bytes: number): string {
  const mebibytes = bytes / 1024 / 1024;
  return mebibytes >= 1 ? `${mebibytes} MiB` : `${bytes / 1024} KiB`;
}

/** What is being measured, in one line. */
export function streamText({
  chain,
  direction,
  blockBytes,
}: Pick<Configuration, 'chain' | 'direction' | 'blockBytes'>): string {
  return `${direction.toUpperCase()}, ${sizeText(blockBytes)}, ${CHAIN_TITLES[chain]}`;
}

/** A Markdown table, which is as readable in a terminal. The first `texts` columns are not numbers. */
export function markdownTable(header: readonly string[], rows: readonly (readonly string[])[], texts: number): string {
  const widths = header.map((_, column) => Math.max(...[header, ...rows].map((row) => (row[column] ?? '').length)));
  const line = (cells: readonly string[]): string => {
    const padded = widths.map((width, column) => {
      const cell = cells[column] ?? '';
      return column < texts ? cell.padEnd(width) : cell.padStart(width);
    });
    return `| ${padded.join(' | ')} |`;
  };
  const rule = widths.map((width, column) => (column < texts ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`));
  return [line(header), line(rule), ...rows.map(line)].join('\n');
}

/** One machine's results, and why others are missing. */
export function formatResults(results: readonly Result[]): string {
  const header = ['way', 'block', 'chain', 'MB/s', 'of bare C', 'CPU s/GB', 'CPU µs/block', 'p50 µs', 'p99 µs'];
  const rows = results.map(({ chain, direction, blockBytes, measurement }) => {
    const bare = results.find((other) => other.chain === 'bare' && isSameStream(other, { direction, blockBytes }));
    const title = [direction.toUpperCase(), sizeText(blockBytes), CHAIN_TITLES[chain]];
    if (measurement === undefined) {
      return [...title, 'failed'];
    }
    const { mbPerSecond, cpuSecondsPerGb, cpuMicrosecondsPerBlock, p50Us, p99Us } = measurement;
    return [
      ...title,
      mbPerSecond.toFixed(0),
      bare?.measurement === undefined ? '' : (mbPerSecond / bare.measurement.mbPerSecond).toFixed(2),
      cpuSecondsPerGb.toFixed(3),
      cpuMicrosecondsPerBlock.toFixed(0),
      p50Us?.toFixed(0) ?? '',
      p99Us?.toFixed(0) ?? '',
    ];
  });
  return [markdownTable(header, rows, 3), ...notes(results)].join('\n');
}

/** What to know of a result beside its figures. */
function notes(results: readonly Result[]): string[] {
  const lines = results.flatMap(({ failure, measurement, ...stream }) => [
    ...(failure === undefined ? [] : [`* ${streamText(stream)}: ${failure}`]),
    ...(measurement?.lostSets
      ? [`* ${streamText(stream)}: too slow for the latency run, so that samples were lost`]
      : []),
  ]);
  return lines.length > 0 ? ['', ...lines] : [];
}

export function isSameStream(a: Pick<Result, 'direction' | 'blockBytes'>, b: typeof a): boolean {
  return a.direction === b.direction && a.blockBytes === b.blockBytes;
}
