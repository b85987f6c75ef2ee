import type { Chain, Configuration, Measurement } from './configuration.js';

/** The median measurement of one configuration. */
export interface Result extends Measurement {
  readonly machine: string;
  readonly chain: Chain;
  readonly blockBytes: number;
}

const CHAIN_TITLES = {
  bare: 'bare C loop',
  'zero-copy-c-client': 'bridge, zero-copy, C client',
  'zero-copy': 'bridge, zero-copy',
  copy: 'bridge, forced copy',
} as const satisfies Record<Chain, string>;

/** Each figure's median on its own: rate and CPU time of one run need not both be typical. */
export function median(measurements: readonly Measurement[]): Measurement {
  const of = (pick: (measurement: Measurement) => number): number => {
    const sorted = measurements.map(pick).toSorted((a, b) => a - b);
    const middle = Math.floor(sorted.length / 2);
    const upper = sorted[middle] ?? Number.NaN;
    return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
  };
  return {
    mbPerSecond: of((measurement) => measurement.mbPerSecond),
    cpuSecondsPerGb: of((measurement) => measurement.cpuSecondsPerGb),
    cpuMicrosecondsPerBlock: of((measurement) => measurement.cpuMicrosecondsPerBlock),
  };
}

/** A size in bytes as `64 KiB` or `4 MiB`. */
export function sizeText(bytes: number): string {
  const mebibytes = bytes / 1024 / 1024;
  return mebibytes >= 1 ? `${mebibytes} MiB` : `${bytes / 1024} KiB`;
}

/** What is being measured, for a progress line. */
export function configurationText({ chain, blockBytes }: Configuration): string {
  return `${CHAIN_TITLES[chain]}, ${sizeText(blockBytes)}`;
}

/** A Markdown table of one machine's results, which is as readable in a terminal. */
export function formatTable(results: readonly Result[]): string {
  const header = ['block', 'chain', 'MB/s', 'of bare C', 'CPU s/GB', 'CPU µs/block'];
  const rows = results.map((result) => {
    const bare = results.find(({ chain, blockBytes }) => chain === 'bare' && blockBytes === result.blockBytes);
    return [
      sizeText(result.blockBytes),
      CHAIN_TITLES[result.chain],
      result.mbPerSecond.toFixed(0),
      bare === undefined ? '' : (result.mbPerSecond / bare.mbPerSecond).toFixed(2),
      result.cpuSecondsPerGb.toFixed(3),
      result.cpuMicrosecondsPerBlock.toFixed(0),
    ];
  });
  const widths = header.map((title, column) =>
    Math.max(...[header, ...rows].map((row) => (row[column] ?? '').length), title.length),
  );
  const line = (cells: readonly string[]) => {
    const padded = cells.map((cell, column) => {
      const width = widths[column] ?? 0;
      return column < 2 ? cell.padEnd(width) : cell.padStart(width);
    });
    return `| ${padded.join(' | ')} |`;
  };
  const rule = widths.map((width, column) => (column < 2 ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`));
  return [line(header), line(rule), ...rows.map(line)].join('\n');
}
