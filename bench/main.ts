#!/usr/bin/env node
import { cpus } from 'node:os';
import { Command, Option } from 'commander';
import { type Machine, type MachineKind, startMachine } from '../lab/machine.js';
import {
  CHAINS,
  type Chain,
  type Configuration,
  DIRECTIONS,
  type Direction,
  type Measurement,
} from './configuration.js';
import { measure } from './measure.js';
import { blockSize, count, KIB, MIB, progress, reportFailure } from './options.js';
import { buildBaseline } from './programs.js';
import { loadBenchModules } from './servers.js';
import { formatResults, median, type Result, sizeText, streamText } from './table.js';
import { formatTargets } from './targets.js';

interface Options {
  readonly machine: 'uml' | 'qemu' | 'both';
  readonly only?: Direction;
  readonly chain?: readonly Chain[];
  readonly blockSize?: number;
  readonly mib?: number;
  readonly repetitions?: number;
  readonly quick?: boolean;
  readonly json?: boolean;
}

const BLOCK_SIZES = [64 * KIB, 256 * KIB, MIB, 4 * MIB];
const QUICK_BLOCK_SIZES = [64 * KIB, MIB];
/** As many as libiio's tools use. */
const BLOCKS = 4;
const QUICK_TOTAL_BYTES = 128 * MIB;
/** Moves a fifth of what the others do in the same time. */
const COPY_SHARE = 1 / 4;
const LATENCY_BLOCKS = 100;
const QUICK_LATENCY_BLOCKS = 50;
/** What a quiet machine does in some ten minutes each. */
const EFFORTS: Readonly<Record<MachineKind, { readonly repetitions: number; readonly totalBytes: number }>> = {
  uml: { repetitions: 3, totalBytes: 512 * MIB },
  qemu: { repetitions: 1, totalBytes: 256 * MIB },
  'qemu-debug': { repetitions: 1, totalBytes: 64 * MIB },
};
const GUEST_MEMORY_MIB = 1024;

function runBytes(kind: MachineKind, { mib, quick = false }: Options): number {
  return mib !== undefined ? mib * MIB : quick ? QUICK_TOTAL_BYTES : EFFORTS[kind].totalBytes;
}

function configurations(kind: MachineKind, options: Options): Configuration[] {
  const { quick = false, only, chain, blockSize: onlySize } = options;
  const sizes = onlySize !== undefined ? [onlySize] : quick ? QUICK_BLOCK_SIZES : BLOCK_SIZES;
  const totalBytes = runBytes(kind, options);
  return DIRECTIONS.filter((direction) => only === undefined || direction === only).flatMap((direction) =>
    sizes.flatMap((size) =>
      CHAINS.filter((one) => chain === undefined || chain.includes(one)).map((one) => ({
        chain: one,
        direction,
        blockBytes: size,
        blocks: BLOCKS,
        totalBytes: one === 'copy' || one === 'iiod' ? totalBytes * COPY_SHARE : totalBytes,
        latencyBlocks: direction === 'tx' ? 0 : quick ? QUICK_LATENCY_BLOCKS : LATENCY_BLOCKS,
      })),
    ),
  );
}

function figuresText({ mbPerSecond, cpuSecondsPerGb, p50Us, p99Us }: Measurement): string {
  const latency = p50Us === undefined ? '' : `, p50 ${p50Us.toFixed(0)} µs, p99 ${p99Us?.toFixed(0)} µs`;
  return `${mbPerSecond.toFixed(0)} MB/s, ${cpuSecondsPerGb.toFixed(3)} CPU s/GB${latency}`;
}

/** The guest may have died of it: then nothing more can be measured there. */
async function attempt(machine: Machine, configuration: Configuration): Promise<Measurement | string> {
  try {
    return await measure(machine, configuration);
  } catch (error) {
    if (machine.failure !== undefined) {
      throw machine.failure;
    }
    return error instanceof Error ? error.message : String(error);
  }
}

/** All configurations, `repetitions` times over: interleaved, so that a slow minute of the host is shared by all. */
async function measureMachine(kind: MachineKind, options: Options): Promise<Result[]> {
  const repetitions = options.repetitions ?? (options.quick === true ? 1 : EFFORTS[kind].repetitions);
  await using machine = await startMachine(kind, { memoryMiB: GUEST_MEMORY_MIB, log: progress });
  await loadBenchModules(machine);

  const outcomes = new Map(configurations(kind, options).map((one) => [one, [] as (Measurement | string)[]]));
  for (let repetition = 1; repetition <= repetitions; repetition++) {
    for (const [configuration, list] of outcomes) {
      // The latency is of many blocks already.
      const outcome = await attempt(machine, repetition === 1 ? configuration : { ...configuration, latencyBlocks: 0 });
      list.push(outcome);
      const text = typeof outcome === 'string' ? `failed: ${outcome}` : figuresText(outcome);
      progress(`${kind} ${repetition}/${repetitions}  ${streamText(configuration).padEnd(42)} ${text}`);
    }
  }
  return [...outcomes].map(([{ chain, direction, blockBytes: size }, list]) => {
    const measurements = list.filter((outcome) => typeof outcome !== 'string');
    return {
      machine: kind,
      chain,
      direction,
      blockBytes: size,
      measurement: measurements.length > 0 ? median(measurements) : undefined,
      failure: list.find((outcome) => typeof outcome === 'string'),
    };
  });
}

const program = new Command('npm run bench --')
  .description('Throughput, latency and device CPU time of the bridge, beside a bare C loop and iiod 0.24')
  .addOption(new Option('--machine <kind>', 'the lab machine').choices(['uml', 'qemu', 'both']).default('both'))
  .addOption(new Option('--only <direction>', 'from ADCs or to DACs').choices(DIRECTIONS))
  .addOption(new Option('--chain <name...>', 'these chains').choices(CHAINS))
  .option('--block-size <bytes>', 'this block size, such as 64k or 1M', blockSize)
  .option('--mib <n>', 'MiB per run, of which copies move a quarter', count)
  .option(
    '--repetitions <n>',
    'runs per figure, whose median counts (default: 3 in UML, 1 in QEMU and with --quick)',
    count,
  )
  .option('--quick', 'fewer block sizes and less data: a look, not a measurement')
  .option('--json', 'print one JSON object instead of tables');

const options = program.parse().opts<Options>();
const kinds: readonly MachineKind[] = options.machine === 'both' ? ['uml', 'qemu'] : [options.machine];

try {
  buildBaseline();
  const results: Result[] = [];
  for (const kind of kinds) {
    const measured = await measureMachine(kind, options);
    results.push(...measured);
    if (options.json !== true) {
      const total = sizeText(runBytes(kind, options));
      process.stdout.write(
        `\n${kind}: ${total} per run (copies: a quarter), ${BLOCKS} blocks, sparse converters\n\n` +
          `${formatResults(measured)}\n\n${formatTargets(measured)}\n`,
      );
    }
  }
  if (options.json === true) {
    const host = { cpu: cpus()[0]?.model ?? 'unknown', cpus: cpus().length, node: process.version };
    process.stdout.write(`${JSON.stringify({ host, results }, null, 2)}\n`);
  }
} catch (error) {
  reportFailure(error);
}
