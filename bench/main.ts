#!/usr/bin/env node
import { spawnSync } from 'node:child_process';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import { type Machine, type MachineKind, startMachine } from '../lab/machine.js';
import { DEFAULT_MODULES, loadModules } from '../lab/modules.js';
import { checkoutRoot } from '../lab/paths.js';
import { CHAINS, type Configuration, type Measurement } from './configuration.js';
import { configurationText, formatTable, median, type Result, sizeText } from './table.js';

interface Options {
  readonly machine: 'uml' | 'qemu' | 'both';
  readonly repetitions?: number;
  readonly quick?: boolean;
  readonly json?: boolean;
}

const KIB = 1024;
const MIB = 1024 * KIB;
const BLOCK_SIZES = [64 * KIB, 256 * KIB, MIB, 4 * MIB];
const QUICK_BLOCK_SIZES = [64 * KIB, MIB];
/** As many as libiio's tools use. */
const BLOCKS = 4;
/** Half a second at the fastest rates: UML counts CPU time in ticks of 10 ms. */
const TOTAL_BYTES = 512 * MIB;
const QUICK_TOTAL_BYTES = 256 * MIB;
const REPETITIONS = 3;
const GUEST_MEMORY_MIB = 1024;
const RUN_TIMEOUT_MS = 300_000;

function progress(text: string): void {
  process.stderr.write(`${text}\n`);
}

function count(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) {
    throw new InvalidArgumentError('a whole number from 1 on is wanted');
  }
  return value;
}

/** Compiles the C programs if they are not up to date. */
function buildBaseline(): void {
  const root = checkoutRoot();
  const out = join(root, 'dist/bench/baseline');
  const { status, stdout, stderr } = spawnSync('make', ['-s', '-C', join(root, 'bench/baseline'), `OUT=${out}`], {
    encoding: 'utf8',
  });
  if (status !== 0) {
    throw new Error(`The baseline programs do not compile:\n${stdout}${stderr}`);
  }
}

async function measure(machine: Machine, configuration: Configuration): Promise<Measurement> {
  const program = join(checkoutRoot(), 'dist/bench/guest.js');
  const command = [process.execPath, program, JSON.stringify(configuration)];
  return JSON.parse(await machine.output(command, { timeoutMs: RUN_TIMEOUT_MS * machine.slowness }));
}

/** All configurations, `repetitions` times over: interleaved, so that a slow minute of the host is shared by all. */
async function measureMachine(kind: MachineKind, options: Options): Promise<Result[]> {
  const quick = options.quick === true;
  const repetitions = options.repetitions ?? (quick ? 1 : REPETITIONS);
  const configurations = (quick ? QUICK_BLOCK_SIZES : BLOCK_SIZES).flatMap((blockBytes) =>
    CHAINS.map((chain) => ({
      chain,
      blockBytes,
      blocks: BLOCKS,
      totalBytes: quick ? QUICK_TOTAL_BYTES : TOTAL_BYTES,
    })),
  );

  await using machine = await startMachine(kind, { memoryMiB: GUEST_MEMORY_MIB, log: progress });
  await loadModules(machine, DEFAULT_MODULES);
  await machine.writeFile('/sys/module/iio_sim/parameters/sparse', 'Y');
  // No limit on what readers have in flight: four blocks of 4 MiB are all of usbfs's 16 MiB.
  await machine.writeFile('/sys/module/usbcore/parameters/usbfs_memory_mb', '0');

  const measurements = new Map<Configuration, Measurement[]>(configurations.map((one) => [one, []]));
  for (let repetition = 1; repetition <= repetitions; repetition++) {
    for (const [configuration, list] of measurements) {
      const measurement = await measure(machine, configuration);
      list.push(measurement);
      const figures = `${measurement.mbPerSecond.toFixed(0)} MB/s, ${measurement.cpuSecondsPerGb.toFixed(3)} CPU s/GB`;
      progress(`${kind} ${repetition}/${repetitions}  ${configurationText(configuration).padEnd(28)} ${figures}`);
    }
  }
  return [...measurements].map(([{ chain, blockBytes }, list]) => ({
    machine: kind,
    chain,
    blockBytes,
    ...median(list),
  }));
}

const program = new Command('npm run bench --')
  .description('Throughput and device CPU time of the bridge, against the same system calls in a bare C loop')
  .addOption(new Option('--machine <kind>', 'the lab machine').choices(['uml', 'qemu', 'both']).default('both'))
  .option('--repetitions <n>', `runs per figure, whose median counts (default: ${REPETITIONS}, with --quick 1)`, count)
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
      const total = sizeText(options.quick === true ? QUICK_TOTAL_BYTES : TOTAL_BYTES);
      process.stdout.write(
        `\n${kind}: ${total} per run, ${BLOCKS} blocks, sparse free-running ADC\n\n${formatTable(measured)}\n`,
      );
    }
  }
  if (options.json === true) {
    const host = { cpu: cpus()[0]?.model ?? 'unknown', cpus: cpus().length, node: process.version };
    process.stdout.write(`${JSON.stringify({ host, results }, null, 2)}\n`);
  }
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
